"""Files -> TABLE -> runs: CSV, Parquet or DataFrame as it stands, joined on a key; rows keep their
line numbers.
"""

from __future__ import annotations

import csv
import gzip
import io
import numbers
import os
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixjax.errors import UserError, nearest, shown, warn

Source = str | os.PathLike[str] | pd.DataFrame
# {column: (file it came from, {line in the first file: line in that one, where it differs})} of a
# joined table.
Origins = dict[str, tuple[str, dict[int, int]]]
_TEXT = {".csv": ",", ".tsv": "\t", ".txt": ","}
_PARQUET = (".parquet", ".pq")
# Numbers read back as they were written; from pandas 3.1 on this is the default and asking for it
# is deprecated.
_NEW = tuple(int(x) for x in pd.__version__.split(".")[:2]) >= (3, 1)
_EXACT: dict[str, Any] = {} if _NEW else {"float_precision": "round_trip"}


def read_table(
    source: Source | Sequence[Source], on: str | Sequence[str] | None = None
) -> tuple[str, pd.DataFrame, Origins]:
    """The name of a table for messages, the table, and where joined columns came from; its index is
    the line in the (first) file (header = 1).

    Args:
        source: a file (.csv, .csv.gz, .tsv, .parquet), a DataFrame, or several of them to join.
        on: key columns of the join; a key occurs once in each table, rows without a partner are
            left out with a warning.

    Raises:
        UserError: a file that is missing, empty, not a table, or that cannot be joined.
    """
    if isinstance(source, (str, os.PathLike, pd.DataFrame)):
        return *_read(source), {}
    keys = [on] if isinstance(on, str) else on or []
    if not isinstance(keys, Sequence) or not all(isinstance(key, str) for key in keys):
        remedy = "name the key column, or a list of key columns"
        raise UserError("on", f"{on!r} is not a name", remedy)
    parts = [_read(s) for s in source] if isinstance(source, Sequence) else []
    if not parts:
        what = f"no table in {type(source).__name__}"
        raise UserError("runs", what, "name a file, a DataFrame, or several of them")
    name, table = parts[0]
    origins: Origins = {column: (name, {}) for column in table.columns} if len(parts) > 1 else {}
    for other_name, other in parts[1:]:
        table, lines = _join(name, table, other_name, other, list(keys))
        origins |= {column: (other_name, lines) for column in other.columns if column not in keys}
        name = f"{name} + {other_name}"
    return name, table, origins


def _read(source: Source) -> tuple[str, pd.DataFrame]:
    if isinstance(source, pd.DataFrame):
        name, table = "DataFrame", _with_lines(source)
    elif isinstance(source, (str, os.PathLike)):
        path = Path(source)
        name, table = path.name, _read_file(path)
    else:
        what = f"{type(source).__name__} is not a table"
        raise UserError("runs", what, "give a file or a DataFrame")
    header = [str(c).strip() for c in table.columns]
    for i, column in enumerate(header):
        if not column.isprintable():
            what = f"column {i + 1} has the name {column[:60]!r}, which cannot be printed"
            raise UserError(name, what, "give a table of runs, with a header line")
        if column in header[:i]:
            raise UserError(name, f"column {column!r} occurs twice", "rename or remove one of them")
    if table.empty:
        raise UserError(name, "has no rows", "name a table with one line per run and checkpoint")
    return name, table.set_axis(header, axis=1)


def _with_lines(table: pd.DataFrame) -> pd.DataFrame:
    """The table with line numbers as index; levels of the index that have a name are columns."""
    named = [n for n in table.index.names if n is not None and n not in table.columns]
    table = table.reset_index(level=named) if named else table
    return table.set_axis(pd.RangeIndex(2, len(table) + 2), axis=0)


def _read_file(path: Path) -> pd.DataFrame:
    """Rows of one file, with their lines as index."""
    kinds = [s.lower() for s in path.suffixes[-2:]]
    suffix = kinds[0] if kinds[1:] == [".gz"] else "".join(kinds[-1:])
    try:
        path.stat()
        if path.is_dir():
            raise UserError(str(path), "is a directory", "name a table of runs")
        if suffix in _PARQUET:
            return _with_lines(_read_parquet(path))
        if suffix in _TEXT:
            return _read_text(path, _TEXT[suffix], gzip.open if kinds[-1] == ".gz" else open)
        what = f"unknown kind of file {path.suffix!r}"
        raise UserError(str(path), what, "give a .csv, .tsv or .parquet file")
    except UnicodeDecodeError:
        raise UserError(str(path), "is not text in UTF-8", "give a CSV file in UTF-8") from None
    except (OSError, ValueError, EOFError, csv.Error, zlib.error) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
        raise UserError(str(path), f"cannot be read ({reason})", "name a table of runs") from None


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except Exception:  # a broken file ends it in many ways, KeyError and TypeError among them
        remedy = "write it again, or give a CSV file"
        raise UserError(str(path), "is not a Parquet file or is broken", remedy) from None


def _read_text(path: Path, separator: str, opener: Any) -> pd.DataFrame:
    # Line ends become \n: pandas shifts cells after a blank line that ends in \r.
    with opener(path, "rt", encoding="utf-8-sig") as file:
        text = file.read()
    header, lines = _lines(path, text, separator)
    how = {"index_col": False, "skipinitialspace": True, "low_memory": False, **_EXACT}
    table = pd.read_csv(io.StringIO(text, newline=""), sep=separator, **how)
    table = table.set_axis(header, axis=1).set_axis(lines, axis=0)
    blank = table.isna().all(axis=1)
    while len(table) and blank.iloc[-1]:
        table, blank = table.iloc[:-1], blank.iloc[:-1]
    return table


def _lines(path: Path, text: str, separator: str) -> tuple[list[str], list[int]]:
    """The header, and the line of each row below it; blank lines are skipped, rows of another
    length than the header refused."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
    header: list[str] = []
    lines: list[int] = []
    line = 1
    for cells in reader:
        start, line = line, reader.line_num + 1
        if not cells or (len(cells) == 1 and not cells[0].strip()):
            continue
        if not header:
            header = [cell.strip() for cell in cells]
            _check_separator(path, start, header, separator)
        # A note of several lines may pass.
        elif any("\n" in cell and cell.count(separator) >= len(header) - 1 for cell in cells):
            cell = f"line {start} has a quoted cell that goes on to line {reader.line_num}"
            what = f"{cell}: a stray quote hides the lines between"
            raise UserError(str(path), what, "close or remove the quote")
        elif len(cells) != len(header):
            what = f"line {start} has {len(cells)} cells, the header has {len(header)}"
            raise UserError(str(path), what, "give every line one cell per column")
        else:
            lines.append(start)
    if not header:
        raise UserError(str(path), "is empty", "give a CSV file with a header line")
    return header, lines


def _check_separator(path: Path, line: int, header: list[str], separator: str) -> None:
    """Refuse a header that is one cell because its separator is another one."""
    names = {",": "','", ";": "';'", "\t": "a tab"}
    others = [mark for mark in names if mark != separator and mark in header[0]]
    if len(header) == 1 and others:
        right = "commas" if separator == "," else "tabs (or name the file .csv)"
        what = f"line {line}: the separator is {names[others[0]]}"
        raise UserError(str(path), what, f"save the table with {right}")


def _join(
    name: str, table: pd.DataFrame, other_name: str, other: pd.DataFrame, keys: list[str]
) -> tuple[pd.DataFrame, dict[int, int]]:
    """Rows of two tables that share their key, in the order and with the lines of the first; {these
    lines: lines of the other}."""
    both = f"{name} + {other_name}"
    if not keys:
        what = "several tables and no key to join them on"
        raise UserError(both, what, "name the key column: on=... or --on")
    for which, part in ((name, table), (other_name, other)):
        absent = next((k for k in keys if k not in part.columns), None)
        if absent is not None:
            remedy = f"columns are {', '.join(part.columns)}"
            raise UserError(which, f"no key column {absent!r}", remedy)
        empty: Any = part[keys].isna().any(axis=1)
        if empty.any():
            what = f"line {part.index[empty][0]} has an empty key"
            raise UserError(which, what, f"fill in {', '.join(keys)}")
        repeated = part.duplicated(keys)
        if repeated.any():
            what = f"line {part.index[repeated][0]} repeats its key"
            raise UserError(which, what, "keys of a join occur once")
    common = [c for c in other.columns if c in table.columns and c not in keys]
    if common:
        what = f"column {common[0]!r} is in {name} too"
        raise UserError(other_name, what, "rename or remove one of them")
    first, second = table.reset_index(names="\0line"), other.reset_index(names="\0other")
    try:
        joined = first.merge(second, on=keys, how="inner")
    except ValueError:
        what = f"{', '.join(keys)} is text in one and a number in the other"
        raise UserError(both, what, "write the keys alike") from None
    if joined.empty:
        raise UserError(both, f"no row shares its {', '.join(keys)}", "check the key columns")
    alone = len(table) - len(joined), len(other) - len(joined)
    if any(alone):
        what = f"{alone[0]} and {alone[1]} rows have a key that the other table lacks"
        warn(both, what, "they are left out")
    lines = dict(zip(joined["\0line"].tolist(), joined.pop("\0other").tolist(), strict=True))
    return joined.set_index("\0line").rename_axis(None), lines


# --- Where a table has what -----------------------------------------------------------------------

Floats = NDArray[np.float64]
# Of values (rows,): which are faulty, what such a one is, and the remedy.
Fault = Callable[[Floats], tuple[NDArray[np.bool_], str, str]]

KEYS = {"N": "N", "D": "D", "h": "h_{}", "loss": "loss_{}", "run": "run"}
# Text that is a number; Python alone would also take 1_000 and digits of other scripts.
_NUMERAL = re.compile(
    r"\s*[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?\s*|\s*[+-]?inf(inity)?\s*", re.ASCII | re.IGNORECASE
)


class Column(NamedTuple):
    """A column of the table, and what its numbers are multiplied with."""

    name: str
    times: float = 1.0


@dataclass(frozen=True)
class Layout:
    """Where a table has what: the user's `columns` over the default names.

    Attributes:
        name: of the table, for messages.
        table: indexed by line.
        columns: {one of `KEYS`: what the user says of it}.
        origins: of a joined table.

    Raises:
        UserError: a key that there is not.
    """

    name: str
    table: pd.DataFrame
    columns: Mapping[str, Any]
    origins: Origins = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse unknown keys."""
        for key in self.columns:
            if key not in KEYS:
                remedy = f"{nearest(str(key), KEYS)}keys are {', '.join(KEYS)}"
                raise UserError("columns", f"no key {key!r}", remedy)

    def many(self, key: str) -> dict[str, Column]:
        """{name: column} of the domains ("h") or the targets ("loss")."""
        spec = self.columns.get(key, KEYS[key])
        if isinstance(spec, Mapping):
            return {str(name): self._column(str(c), key) for name, c in spec.items()}
        if not isinstance(spec, str) or spec.count("{}") != 1:
            remedy = (
                "give a pattern with one {} for the name, e.g. weight_{}, or a mapping name: column"
            )
            raise UserError("columns", f"{key} is {spec!r}", remedy)
        columns = self._matching(Column(spec))
        if not columns and "*" in spec:
            columns = self._matching(_split(spec, key))
        if not columns and key in self.columns:
            raise UserError(self.name, f"no column of the form {spec!r}", self._remedy())
        return columns

    def _matching(self, pattern: Column) -> dict[str, Column]:
        """{name: column} of the columns that a pattern describes."""
        head, _, tail = pattern.name.partition("{}")
        return {
            c[len(head) : len(c) - len(tail)]: Column(c, pattern.times)
            for c in self.table.columns
            if c.startswith(head) and c.endswith(tail) and len(c) > len(head) + len(tail)
        }

    def one(self, key: str) -> Column | float | None:
        """The column of N, D or run, or a number for the whole table, or None."""
        spec = self.columns.get(key, KEYS[key])
        if isinstance(spec, (int, float)) and not isinstance(spec, bool):
            return _factor(key, spec)
        if isinstance(spec, Mapping) and set(spec) == {"column", "times"}:
            column = self._existing(str(spec["column"]), key)
            return Column(column, _factor(key, spec["times"]))
        if not isinstance(spec, str):
            remedy = 'give a column, a number, or {"column": name, "times": factor}'
            raise UserError("columns", f"{key} is {spec!r}", remedy)
        if spec not in self.table.columns and key not in self.columns:
            return None
        return self._column(spec, key)

    def _column(self, spec: str, key: str) -> Column:
        """A column as named, "params_M" or "params_M*1e6"."""
        if spec in self.table.columns or "*" not in spec:
            return Column(self._existing(spec, key))
        column = _split(spec, key)
        return Column(self._existing(column.name, key), column.times)

    def _existing(self, column: str, key: str) -> str:
        """The column, which must be there."""
        if column not in self.table.columns:
            what = f"no column {column!r} (columns, {key})"
            raise UserError(self.name, what, self._remedy(column))
        return column

    def _remedy(self, column: str = "") -> str:
        near = nearest(column, self.table.columns) if column else ""
        return f"{near}columns are {', '.join(self.table.columns)}"

    def line(self, column: str, row: int) -> tuple[str, int]:
        """The file a column came from, and the line there of a row by its number."""
        first = int(self.table.index[row])
        name, lines = self.origins.get(column, (self.name, {}))
        return name, lines.get(first, first)

    def with_canonical_names(self) -> pd.DataFrame:
        """The table under its own names, and under ours where these are free."""
        index = self.table.index
        ours: dict[str, Any] = {f"h_{name}": c for name, c in self.many("h").items()}
        ours |= {f"loss_{name}": c for name, c in self.many("loss").items()}
        ours |= {key: self.one(key) for key in ("N", "D", "run")}
        extra: dict[str, Any] = {}
        for name, column in ours.items():
            if name in self.table.columns or column is None:
                continue
            if isinstance(column, float):
                extra[name] = column
            elif column.times == 1 and name not in ("N", "D"):
                extra[name] = self.table[column.name]
            else:
                extra[name] = column.times * _as_floats(self.table[column.name])
        if not extra:
            return self.table
        return pd.concat([self.table, pd.DataFrame(extra, index=index)], axis=1)

    def numbers(self, column: Column, fault: Fault, missing: bool = False) -> Floats:
        """A column as float64 (rows,), every cell passed by `fault`.

        Args:
            missing: whether empty cells are allowed, as NaN.

        Raises:
            UserError: the first cell that is faulty, named with its line.
        """
        raw = self.table[column.name]
        with np.errstate(over="ignore"):
            values = column.times * _as_floats(raw)
        empty = raw.isna().to_numpy(dtype=bool)
        unread = np.isnan(values) & ~empty
        faulty, what, remedy = fault(values)
        bad = unread | (faulty & ~empty) | (empty & (not missing))
        if not bad.any():
            return values
        row = int(np.argmax(bad))
        cell = raw.iloc[row]
        place = shown(cell.item() if hasattr(cell, "item") else cell)
        if empty[row]:
            place, what = "an empty cell", "where a number is needed"
            remedy = "fill it in, or leave the row out with where"
        elif unread[row]:
            what, remedy = "is not a number", "give numbers without units or thousands separators"
        name, line = self.line(column.name, row)
        what = f"{place} {what}{and_more(bad)}"
        raise UserError(f"{name}, column {column.name!r}, line {line}", what, remedy)


def and_more(bad: NDArray[np.bool_]) -> str:
    """How many rows are bad (rows,) beside the one that a message names."""
    more = int(bad.sum()) - 1
    return f" (and {more} more row{'s' if more > 1 else ''})" if more > 0 else ""


def _split(spec: str, key: str) -> Column:
    """The column and the factor of "params_M*1e6"."""
    name, _, factor = (part.strip() for part in spec.rpartition("*"))
    times = float(factor) if _NUMERAL.fullmatch(factor) else np.nan
    if not (name and 0 < times < np.inf):
        remedy = "write column*factor with a positive number, e.g. params_M*1e6"
        raise UserError("columns", f"{key} is {spec!r}", remedy)
    return Column(name, times)


def _factor(key: str, value: Any) -> float:
    """A number of `columns` that N or D is, or is multiplied with."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < np.inf:
        return float(value)
    raise UserError("columns", f"{key} is {value!r}", "give a positive number")


def _as_floats(column: Any) -> Floats:
    """Numbers (rows,), NaN where a cell is none: other text, a date, a truth value."""
    kinds, kind = pd.api.types, column.dtype
    odd = kinds.is_bool_dtype(kind) or kinds.is_complex_dtype(kind)
    if kinds.is_numeric_dtype(kind) and not odd:
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    return np.array([_as_float(cell) for cell in column], dtype=np.float64)


def _as_float(cell: Any) -> float:
    """One cell as a number. Python reads text exactly; pandas before 3 is off by a unit in the last
    place in every seventh number."""
    if isinstance(cell, bool) or not isinstance(cell, (str, numbers.Real, Decimal)):
        return np.nan
    if isinstance(cell, str) and not _NUMERAL.fullmatch(cell):
        return np.nan
    try:
        return float(cell)
    except (OverflowError, ValueError):  # a whole number beyond float64, a signalling NaN
        return np.nan
