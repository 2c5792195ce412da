"""Files of a command: tables and laws read, outputs checked before the work begins, JSON
printed."""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mixjax.errors import UserError, warn

if TYPE_CHECKING:
    import pandas as pd

    from mixjax.data.runs import Runs
    from mixjax.fitting.record import Fit
    from mixjax.law import Law


def print_json(content: Mapping[str, Any]) -> None:
    """One JSON object on stdout."""
    from mixjax.text import to_json

    click.echo(to_json(content), nl=False)


def check_output(path: str | None, inputs: Iterable[str] = ()) -> None:
    """Refuse, before any work, an output file that cannot be written or that is one of the
    inputs."""
    if path is None:
        return
    target = Path(path)
    if target.suffix in (".parquet", ".pq"):
        raise UserError(
            path,
            "is named as a Parquet file",
            "name a .csv or .json file, which is what is written",
        )
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
        raise UserError(
            path,
            f"cannot be written ({error.strerror})",
            "name a place that exists and can be written",
        ) from None


def read_law(text: str) -> str | Law:
    """A law's name as it is; FILE.py:NAME as the `Law` of that name in that file.

    Raises:
        UserError: no such file, a mistake in it, or no `Law` of that name.
    """
    path, colon, name = text.rpartition(":")
    if not (colon and path.endswith(".py")):
        return text
    from mixjax.law import Law, is_built_in

    law = getattr(_execute(path), name, None)
    if not isinstance(law, Law):
        what = "has no" if law is None else f"has a {type(law).__name__}, not a mixjax.Law, as"
        raise UserError(
            path,
            f"{what} {name!r}",
            "write FILE.py:NAME, where the file says NAME = mixjax.Law(...)",
        )
    if is_built_in(law.name):
        raise UserError(
            path,
            f"law {name!r} has the name of a built-in law, {law.name!r}",
            "give it another name",
        )
    return law


def _execute(path: str) -> Any:
    """The module in a Python file."""
    if not Path(path).is_file():
        raise UserError(path, "no such file", "write FILE.py:NAME")
    spec = importlib.util.spec_from_file_location(f"_mixjax_law_{Path(path).stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickling look a module up by its name
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UserError(
            f"{path}{_line_of(error, path)}", f"{type(error).__name__}: {error}", "mend the file"
        ) from None
    return module


def _line_of(error: BaseException, path: str) -> str:
    """Where in the file the error came from, ", line 3"."""
    if isinstance(error, SyntaxError) and error.lineno:
        return f", line {error.lineno}"
    line, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == path:
            line = trace.tb_lineno
        trace = trace.tb_next
    return f", line {line}" if line else ""


def read_fit(path: str, law_file: str | None) -> Fit:
    """A fit, with the user's own law where one is named; "builtin:demo" is the known law behind the
    demo's simulated runs."""
    from mixjax.cli.config import DEMO
    from mixjax.fitting.record import load_fit

    if path == DEMO:
        from mixjax.fitting.simulate import demo_truth

        return demo_truth()
    law = read_law(law_file) if law_file else None
    if isinstance(law, str):
        raise UserError(
            "--law", f"{law!r} is not FILE.py:NAME", "leave it out for fits of built-in laws"
        )
    fit = load_fit(path, law)
    if law is not None and law.name != fit.law:
        raise UserError(
            path,
            f"was made with law {fit.law!r}, not with {law.name!r}",
            "name the law that it was made with, or none",
        )
    _ = fit.scaling_law  # complains about parameters that are not those of the law
    return fit


def inputs(table: Mapping[str, Any]) -> list[str]:
    """Files that the options of a table name."""
    return [table["runs"], *table.get("join", ())]


def read_table(table: Mapping[str, Any], targets: Sequence[str] | None = None) -> Runs:
    """The runs that RUNS, --join, --on, --where and --columns name."""
    from mixjax.data.runs import read_runs

    others = tuple(table.get("join", ()))
    if bool(others) != ("on" in table):
        raise UserError(
            "--on" if others else "--join",
            "is missing",
            "join files with --join FILE --on KEY, KEY being a column of both",
        )
    source = [table["runs"], *others] if others else table["runs"]
    return read_runs(
        source,
        where=table.get("where"),
        columns=table.get("columns"),
        on=table.get("on"),
        targets=targets,
    )


def read_points(
    path: str, columns: Mapping[str, Any] | None, fitted: Fit | None = None
) -> tuple[pd.DataFrame, Runs]:
    """A table of points: as it stands in the file, text untouched, and checked; row by row the
    same. fitted: whose predictions will be added to it."""
    import pandas as pd

    from mixjax.data.runs import read_runs
    from mixjax.data.table import read_table

    runs = read_runs(path, columns=columns, require_losses=False)
    if ".parquet" in path or path.endswith(".pq"):
        content = read_table(path)[1].loc[runs.rows]
    else:
        separator = "\t" if ".tsv" in Path(path).suffixes else ","
        text = pd.read_csv(
            path,
            sep=separator,
            dtype=str,
            keep_default_na=False,
            index_col=False,
            encoding="utf-8-sig",
        )
        content = text.iloc[
            : len(runs)
        ]  # both skip blank lines; `rows` are lines of the file, of which a cell may hold several
    replaced = [
        f"loss_{t}" for t in (() if fitted is None else fitted.targets) if f"loss_{t}" in content
    ]
    if replaced:
        warn(
            path,
            f"has {', '.join(replaced)} already",
            "the predictions take their place in the output",
        )
    return content.copy(), runs


def write_table(content: pd.DataFrame, path: str | None, to_stdout: bool = False) -> None:
    """A table as CSV into a file, whole or not at all; without one, to stdout where wanted."""
    from mixjax.text import write_whole

    text = content.to_csv(index=False)
    if path is not None:
        write_whole(path, text)
    elif to_stdout:
        click.echo(text, nl=False)


def say_saved(path: str | None) -> None:
    """Where the result is, on stderr; nothing without a file."""
    if path is not None:
        click.echo(f"saved: {path}", err=True)


def say_interrupted(path: str | None) -> int:
    """What became of an interrupted fit; the exit code."""
    kept = f"the best fit so far is in {path}" if path else "nothing was saved, name a file with -o"
    click.echo(f"mixjax: interrupted; {kept}", err=True)
    return 130
