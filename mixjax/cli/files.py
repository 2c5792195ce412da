"""Files that commands read and write: laws, fits, tables of points, mixtures."""

from __future__ import annotations

import csv
import importlib.util
import math
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

import mixjax as mj
from mixjax.cli import words
from mixjax.cli.config import DEMO
from mixjax.errors import UserError, check_names, warn
from mixjax.text import write_whole

if TYPE_CHECKING:
    import pandas as pd

# --- Laws and fits -------------------------------------------------------------------------------


def read_law(text: str) -> str | mj.Law:
    """A law's name as it is; FILE.py:NAME as the `Law` of that name in that file.

    Raises:
        UserError: no such file, a mistake in it, or no `Law` of that name.
    """
    path, colon, name = text.rpartition(":")
    if not (colon and path.endswith(".py")):
        return text
    law = getattr(_execute(path), name, None)
    if not isinstance(law, mj.Law):
        what = "has no" if law is None else f"has a {type(law).__name__}, not a mixjax.Law, as"
        remedy = "write FILE.py:NAME, where the file says NAME = mixjax.Law(...)"
        raise UserError(path, f"{what} {name!r}", remedy)
    if mj.law.is_built_in(law.name):
        what = f"law {name!r} has the name of a built-in law, {law.name!r}"
        raise UserError(path, what, "give it another name")
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
        where, what = f"{path}{_line_of(error, path)}", f"{type(error).__name__}: {error}"
        raise UserError(where, what, "mend the file") from None
    return module


def _line_of(error: BaseException, path: str) -> str:
    """Where in the file the error came from, ", line 3"."""
    if isinstance(error, SyntaxError) and error.lineno:
        return f", line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    line = next((frame.lineno for frame in reversed(frames) if frame.filename == path), None)
    return f", line {line}" if line else ""


def read_fit(path: str, law_file: str | None = None) -> mj.Fit:
    """A fit, with the user's own law where one is named; "builtin:demo" is the known law behind the
    demo's simulated runs."""
    if path == DEMO:
        return mj.fitting.demo_truth()
    law = read_law(law_file) if law_file else None
    if isinstance(law, str):
        remedy = "leave it out for fits of built-in laws"
        raise UserError("--law", f"{law!r} is not FILE.py:NAME", remedy)
    fit = mj.load_fit(path, law)
    if law is not None and law.name != fit.law:
        what = f"was made with law {fit.law!r}, not with {law.name!r}"
        raise UserError(path, what, "name the law that it was made with, or none")
    _ = fit.scaling_law  # complains about parameters that are not those of the law
    return fit


# --- Tables --------------------------------------------------------------------------------------


def warn_other_rows(path: str, fit: mj.Fit, runs: mj.Runs) -> None:
    """Warn where the rows of a table are not those that were fitted."""
    made = fit.made.get("fingerprint")
    columns = [runs.targets.index(t) for t in fit.targets]
    as_fitted = replace(runs, targets=fit.targets, losses=runs.losses[:, columns])
    if made and made not in (runs.fingerprint(), as_fitted.fingerprint()):
        what = "these are not the rows that were fitted"
        warn(path, what, "give the same table, --where and --columns as to mixjax fit")


def read_points(
    path: str, columns: Mapping[str, Any] | None, fit: mj.Fit | None = None
) -> tuple[pd.DataFrame, mj.Runs]:
    """A table of points: as it stands in the file, text untouched, and checked; row by row the
    same.

    Args:
        fit: whose predictions will be added to it; the domains are then in its order.
    """
    import pandas as pd

    points = mj.read_runs(path, columns=columns, require_losses=False)
    if ".parquet" in path or path.endswith(".pq"):
        content = mj.data.read_table(path)[1].loc[points.rows]
    else:
        separator = "\t" if ".tsv" in Path(path).suffixes else ","
        as_text = {"dtype": str, "keep_default_na": False, "index_col": False}
        text = pd.read_csv(path, sep=separator, encoding="utf-8-sig", **as_text)
        # Both skip blank lines; `rows` are lines of the file, of which a cell may hold several.
        content = text.iloc[: len(points)]
    content = content.copy()
    if fit is None:
        return content, points
    replaced = [f"loss_{t}" for t in fit.targets if f"loss_{t}" in content]
    if replaced:
        what = f"has {', '.join(replaced)} already"
        warn(path, what, "the predictions take their place in the output")
    return content, points.reordered(fit.domains)


def write_table(content: pd.DataFrame, path: str | None) -> str:
    """A table as CSV, into a file, whole or not at all, or without one as the text to be shown:
    in few digits on a terminal."""
    brief = "%.6g" if path is None and sys.stdout.isatty() else None
    text = content.to_csv(index=False, float_format=brief)
    if path is not None:
        write_whole(path, text)
    return "" if path else text


# --- Mixtures ------------------------------------------------------------------------------------

_REMEDY = "write DOMAIN: SHARE lines, or NAME: {DOMAIN: SHARE, ...} for several mixtures"

Mixture = dict[str, float]


def read_mixtures(base: str | None, domains: Sequence[str]) -> dict[str, Mixture]:
    """Mixtures {name: {domain: share}} of these domains.

    Args:
        base: a file, or NAME=SHARE,... itself; None for none. In YAML or JSON {domain: share},
            {name: {domain: share}}, or what `mixjax mix --json` and --export json write; in CSV
            columns domain, share. One mixture alone is called after its file, or "base".

    Raises:
        UserError: no such file, nothing in it that is a mixture, or another domain.
    """
    if base is None:
        return {}
    mixtures = _inline(base) if "=" in base and not Path(base).exists() else _in_file(base)
    for mixture in mixtures.values():
        check_names(mixture, domains, "--base" if "=" in base else base, "domain")
    return mixtures


def read_mixture(base: str, domains: Sequence[str]) -> Mixture:
    """The one mixture that is named, as `read_mixtures` reads it.

    Raises:
        UserError: likewise, or several.
    """
    mixtures = read_mixtures(base, domains)
    if len(mixtures) != 1:
        what = f"holds {len(mixtures)} mixtures ({', '.join(mixtures)})"
        raise UserError(base, what, "name a file of one")
    return next(iter(mixtures.values()))


def _inline(text: str) -> dict[str, Mixture]:
    try:
        return {"base": _shares("--base", words.pairs(words.share, "NAME=SHARE")(text))}
    except ValueError as error:
        remedy = "write for example web=0.7,code=30%, or name a file"
        raise UserError("--base", str(error), remedy) from None


def _in_file(path: str) -> dict[str, Mixture]:
    stem = Path(path).stem
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        what = f"cannot be read ({error.strerror})"
        raise UserError(path, what, "name a file of mixtures, or write web=0.7,code=30%") from None
    except UnicodeDecodeError:
        raise UserError(path, "is not text", _REMEDY) from None
    content: Any = _csv(path, text) if Path(path).suffix == ".csv" else _yaml(path, text)
    if not isinstance(content, dict) or not content:
        raise UserError(path, "holds no mixture", _REMEDY)
    if isinstance(content.get("weights"), dict):
        return {stem: _shares(path, content["weights"])}
    if all(isinstance(value, dict) for value in content.values()):
        return {str(name): _shares(f"{path}, {name}", value) for name, value in content.items()}
    return {stem: _shares(path, content)}


def _yaml(path: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}, line {mark.line + 1}" if mark else path
        raise UserError(where, "is not YAML", _REMEDY) from None


def _csv(path: str, text: str) -> Any:
    rows = list(csv.DictReader(text.splitlines()))
    if not rows or not {"domain", "share"} <= set(rows[0]):
        raise UserError(path, "has no columns domain and share", "write a table with both")
    return {row["domain"]: row["share"] for row in rows}


def _shares(where: str, content: Mapping[Any, Any]) -> Mixture:
    from mixjax.data.runs import SUM_WARNED

    shares = {}
    for domain, value in content.items():
        try:
            share = math.nan if isinstance(value, bool) else words.share(str(value))
        except ValueError:
            share = math.nan
        if not share >= 0:
            what = f"{domain!s} has {value!r}, which is not a share"
            raise UserError(where, what, "give numbers of at least 0; they are scaled to sum to 1")
        shares[str(domain)] = share
    # Counts, such as tokens, need no sum; shares and percents do.
    total, most = math.fsum(shares.values()), max(shares.values())
    whole, near = (1.0, True) if most < 1 else (100.0, 50 < total < 150)
    if near and total > 0 and abs(total / whole - 1) > SUM_WARNED:
        what = f"shares sum to {total:.4g}, not to {whole:g}"
        warn(where, what, "they are scaled; see that no domain is left out")
    return shares
