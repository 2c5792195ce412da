"""How figures look: colours that stay apart for the colour-blind, lines, and a grid of panels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mixjax.mixture.question import Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from mixjax.mixture.paths import Path

# Okabe and Ito 2008, with grey in place of yellow, which is faint on white.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000", "#808080")
_LINES = ("-", "--", ":", "-.")


def colour_of(i: int) -> str:
    """The colour of the i-th thing."""
    return COLOURS[i % len(COLOURS)]


def line_of(i: int) -> dict[str, Any]:
    """Colour and dashes of the i-th line: the first eight differ in colour, the next in dashes."""
    return {
        "color": colour_of(i),
        "linestyle": _LINES[i // len(COLOURS) % len(_LINES)],
        "linewidth": 1.8,
    }


def grid(
    down: int, across: int, panel: tuple[float, float], sharey: bool = False
) -> tuple[Figure, list[Axes]]:
    """A figure of equal panels, sizes in inches; panels in reading order."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(panel[0] * across + 0.6, panel[1] * down + 0.2), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False, sharey=sharey).reshape(-1).tolist()
    for axes in panels:
        axes.grid(True, color="0.9", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    return figure, panels


def from_zero(panels: Sequence[Axes]) -> None:
    """Vertical axes that begin at 0 and end above the highest line of all panels."""
    top = max(
        (float(np.max(line.get_ydata())) for axes in panels for line in axes.lines), default=1.0
    )
    for axes in panels:
        axes.set_ylim(0.0, 1.05 * top)


def ticks_in_percent(axes: Axes) -> None:
    """Signed numbers on the horizontal axis."""
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:+g}")


def pick(path: Path) -> tuple[Floats, str]:
    """What a path is drawn against: N or D where only that grows, else compute."""
    if np.ptp(path.N) == 0:
        return path.D, "training tokens D"
    if np.ptp(path.D) == 0:
        return path.N, "parameters N"
    return 6 * path.N * path.D, "training compute 6 N D (FLOPs)"
