"""Progress of a fit on stderr: one line rewritten on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import math
import shutil
import sys
import time
from collections.abc import Mapping
from typing import TextIO

_WIDTH = 24  # of the bar, in characters
_REDRAWN, _EVERY = 0.1, 2.0  # seconds between lines on a terminal, and where there is none


class Progress:
    """Shows the share done, the time and the best objective so far; nothing unless wanted.

    Called by `mixjax.fit` as its `watch`. As a context manager it clears its line at the end.
    """

    def __init__(
        self, wanted: bool | None = None, fits: int = 1, stream: TextIO | None = None
    ) -> None:
        """Wanted: None means on a terminal only; fits: how many follow one another."""
        self.stream = sys.stderr if stream is None else stream
        self.terminal = self.stream.isatty()
        self.shown = self.terminal if wanted is None else wanted
        self.fits, self.number, self.share = fits, 1, 0.0
        self.began = self.last = time.monotonic()
        self.drawn = False

    def __enter__(self) -> Progress:
        if self.shown and self.terminal:
            self.drawn = True
            self._write("\rcompiling")
        return self

    def __exit__(self, *_: object) -> None:
        if self.drawn:
            self._write("\r\x1b[K")

    def __call__(self, share: float, best: Mapping[str, float]) -> None:
        """Show the share done and the best objective of each target so far."""
        now = time.monotonic()
        self.number += share < self.share / 2  # back at the beginning: the next fit
        self.share = share
        if not self.shown or (now - self.last < (_REDRAWN if self.terminal else _EVERY)):
            return
        self.last = now
        line = self._line(min(max(share, 0.0), 1.0), now - self.began, best)
        if not self.terminal:
            self._write(line + "\n")
            return
        self.drawn = True
        self._write("\r" + line[: max(10, shutil.get_terminal_size().columns - 1)] + "\x1b[K")

    def _line(self, share: float, elapsed: float, best: Mapping[str, float]) -> str:
        full = round(share * _WIDTH)
        bar = f"[{'#' * full}{'.' * (_WIDTH - full)}] " if self.terminal else ""
        label = f"fit {self.number} of {self.fits} " if self.fits > 1 else ""
        return f"{label}{bar}{100 * share:3.0f}%  {elapsed:.0f} s  {_summary(best)}".rstrip()

    def _write(self, text: str) -> None:
        try:
            self.stream.write(text)
            self.stream.flush()
        except (OSError, ValueError):
            self.shown = False


def _summary(best: Mapping[str, float]) -> str:
    """The geometric mean of the objectives found so far, and how many targets have none yet;
    nothing of no targets."""
    if not best:
        return ""
    found = [f for f in best.values() if math.isfinite(f) and f > 0]
    if not found:
        return "objective: none yet"
    mean = math.exp(sum(map(math.log, found)) / len(found))
    missing = len(best) - len(found)
    return f"objective {mean:.4g}" + (f" ({missing} targets to come)" if missing else "")
