"""Files -> TABLE -> runs: CSV, Parquet or DataFrame as it stands, joined on a key; rows keep their
line numbers."""

from __future__ import annotations

import csv
import gzip
import io
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mixjax.errors import UserError, warn

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
