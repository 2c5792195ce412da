"""One way to run a command (options -> records -> one library call -> what is shown): outputs
checked before any work, progress, compiled programs kept, JSON or text, figure, exit code."""

from __future__ import annotations

import dataclasses
import inspect
import math
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import click

import mixjax as mj
from mixjax.errors import UserError
from mixjax.text import to_json

DONE, BAD_INPUT, INTERRUPTED = 0, 2, 130


@dataclass(frozen=True)
class Shown:
    """What a command has to show.

    Attributes:
        content: for --json.
        text: without it, as it stands.
        result: of the library, to be drawn; None where there is nothing to draw.
        saved: where the result was written, to be told on stderr.
        interrupted: whether it is that of a search stopped before its end.
    """

    content: Mapping[str, Any]
    text: str
    result: Any = None
    saved: str | None = None
    interrupted: bool = False


def show(result: Any, saved: str | None = None) -> Shown:
    """A result of the library: its content and its table."""
    return Shown(result.to_dict(), f"{result}\n", result, saved)


# --- Options as fields of records and as arguments of commands -----------------------------------


def option(help: str, *names: str, role: str = "", default: Any = None, **attributes: Any) -> Any:
    """An option, as the default of a record's field or of a command's argument.

    Args:
        help: what it is for.
        names: as on the command line; --name by default, from the field.
        role: "reads" or "writes" of a file, "fills" of a folder: outputs are checked by it.
        default: shown in the help too, unless `show_default` says otherwise.
        attributes: of `click.Option`.
    """
    if default is not None:
        attributes = {"default": default, "show_default": True} | attributes

    def make(name: str) -> click.Parameter:
        declared = names or (f"--{name.replace('_', '-')}",)
        return click.Option([*declared, name], help=help, **attributes)

    return field(default=default, metadata={"make": make, "role": role})


def argument(metavar: str, **attributes: Any) -> Any:
    """A word of the command line that is no option, a file to read, in the same place as
    `option`."""

    def make(name: str) -> click.Parameter:
        return click.Argument([name], metavar=metavar, **attributes)

    return field(default=None, metadata={"make": make, "role": "reads"})


@dataclass(frozen=True)
class _Slot:
    """A click parameter and what it is to a command: `role` as in `option`."""

    parameter: click.Parameter
    role: str


def _fields(record: type) -> Iterator[tuple[str, Any, Any]]:
    """(name, type, declaration) of a record's fields, or of a command's arguments."""
    kinds = inspect.get_annotations(record, eval_str=True)
    if dataclasses.is_dataclass(record):
        declared = {f.name: f for f in dataclasses.fields(record)}
    else:
        parameters = inspect.signature(record).parameters
        declared = {name: parameter.default for name, parameter in parameters.items()}
    for name, about in declared.items():
        yield name, kinds[name], about


def _slots(record: Any) -> list[_Slot]:
    """The parameters of a command, those of records among its arguments included."""
    slots = []
    for name, kind, declared in _fields(record):
        if _is_record(kind):
            slots += _slots(kind)
        else:
            slots.append(_Slot(declared.metadata["make"](name), declared.metadata["role"]))
    return slots


def _is_record(kind: Any) -> bool:
    return dataclasses.is_dataclass(kind)


def _filled(record: Any, values: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a command or a record; values: by the names of click's parameters, taken
    out."""
    return {
        name: kind(**_filled(kind, values)) if _is_record(kind) else values.pop(name)
        for name, kind, _ in _fields(record)
    }


# --- Commands ------------------------------------------------------------------------------------

_JSON = click.Option(
    ["--json", "as_json"], is_flag=True, help="Print one JSON object on stdout and nothing else."
)
_CACHE = click.Option(
    ["--cache/--no-cache"],
    default=True,
    help="Keep compiled programs for next time (or MIXJAX_CACHE=FOLDER, off).  [default: cache]",
)
_FIGURE = click.Option(["--figure"], metavar="FILE.png", help="Draw the result too.")


def command(
    short: str, *, name: str | None = None, draws: bool = False, compiles: bool = True
) -> Callable[[Callable[..., Shown]], click.Command]:
    """A function of records and options as a command.

    Args:
        short: what it does, in a few words, for the list of commands.
        name: of the command; that of the function by default.
        draws: whether its result can draw itself.
        compiles: whether it runs compiled programs.
    """

    def decorate(function: Callable[..., Shown]) -> click.Command:
        slots = _slots(function)
        common = [*([_FIGURE] if draws else []), *([_CACHE] if compiles else []), _JSON]

        def run(
            as_json: bool, cache: bool = False, figure: str | None = None, **values: Any
        ) -> int:
            check_outputs(slots, values, figure)
            if cache:
                keep_compiled()
            shown = function(**_filled(function, values))
            if figure is not None:
                if not hasattr(shown.result, "figure"):
                    raise UserError("--figure", "this result has none", "leave it out")
                mj.report.save(shown.result.figure(), figure)
            return _deliver(shown, as_json)

        return click.Command(
            name or function.__name__,
            callback=run,
            params=[*(slot.parameter for slot in slots), *common],
            help=inspect.getdoc(function),
            short_help=short,
        )

    return decorate


def _deliver(shown: Shown, as_json: bool) -> int:
    """Print what a command has to show; the exit code."""
    told = click.get_current_context().obj
    told.tell()
    if as_json and shown.content:
        warned = {"warnings": told.lines} if told.lines else {}
        click.echo(to_json({**shown.content, **warned}), nl=False)
    elif not as_json:
        click.echo(shown.text, nl=False)
    if shown.interrupted:
        kept = f"the best fit so far is in {shown.saved}"
        nothing = "nothing was saved, name a file with -o"
        click.echo(f"mixjax: interrupted; {kept if shown.saved else nothing}", err=True)
        return INTERRUPTED
    if shown.saved is not None and not as_json:
        click.echo(f"saved: {shown.saved}", err=True)
    return DONE


# --- Progress ------------------------------------------------------------------------------------

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
        context = click.get_current_context(silent=True)
        if context is not None:
            context.obj.tell()  # now rather than after minutes of work
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
        if self.terminal:
            self.drawn = True
            line = f"\r{line[: max(10, shutil.get_terminal_size().columns - 1)]}\x1b[K"
        self._write(line if self.terminal else f"{line}\n")

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


# --- Outputs, before any work --------------------------------------------------------------------


def check_outputs(slots: Iterable[_Slot], values: Mapping[str, Any], figure: str | None) -> None:
    """Refuse an output that cannot be written or that is one of the inputs."""
    named: dict[str, list[str]] = {"reads": [], "writes": [], "fills": [], "": []}
    for slot in slots:
        value = values.get(str(slot.parameter.name)) if slot.role else None
        named[slot.role] += [value] if isinstance(value, str) else value or ()
    if figure is not None:
        if not figure.endswith(".png"):
            what = f"{figure!r} is not named as a PNG"
            raise UserError("--figure", what, "name a file that ends in .png")
        named["writes"].append(figure)
    for path in named["writes"]:
        check_output(path, named["reads"])
    for path in named["fills"]:
        check_output_folder(path)


def check_output(path: str, inputs: Iterable[str] = ()) -> None:
    """Refuse a file that cannot be written or that is one of the inputs."""
    target = Path(path)
    if target.suffix in (".parquet", ".pq"):
        remedy = "name a .csv or .json file, which is what is written"
        raise UserError(path, "is named as a Parquet file", remedy)
    if target.is_dir():
        raise UserError(path, "is a folder", "name a file")
    if target.exists() and not target.is_file():
        raise UserError(path, "is not an ordinary file", "name a file")
    if target.exists() and any(os.path.exists(i) and os.path.samefile(i, path) for i in inputs):
        raise UserError(path, "is also read", "name another file for the output")
    _try_to_write(path, target.parent)


def check_output_folder(path: str) -> None:
    """Refuse a folder that neither exists nor can be made, or that cannot be written; makes
    nothing."""
    folder = Path(path)
    if folder.exists() and not folder.is_dir():
        raise UserError(path, "is a file", "name a folder")
    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    _try_to_write(path, existing)


def _try_to_write(path: str, folder: Path) -> None:
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        what = f"cannot be written ({error.strerror})"
        raise UserError(path, what, "name a place that exists and can be written") from None


# --- Compiled programs ---------------------------------------------------------------------------

_OFF = ("off", "0", "no", "false", "none")
# By default only programs that took a second to compile are kept, which would be none of ours.
_KEPT = {
    "jax_persistent_cache_min_compile_time_secs": 0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}


def keep_compiled() -> None:
    """Let JAX keep compiled programs between commands; call before the first compilation.

    In the folder MIXJAX_CACHE, or mixjax/jax in the user's cache folder; not where that is switched
    off or cannot be written, nor where the user has told JAX of another folder.
    """
    named = os.environ.get("MIXJAX_CACHE", "")
    if named.lower() in _OFF or "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    try:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(named).expanduser() if named else Path(home) / "mixjax" / "jax"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, RuntimeError):
        return
    settings = {"jax_compilation_cache_dir": str(folder), **_KEPT}
    if "jax" in sys.modules:
        for name, value in settings.items():
            sys.modules["jax"].config.update(name, value)
    else:  # read when JAX is imported, which a mistake in a file comes before
        os.environ.update({name.upper(): str(value) for name, value in settings.items()})
