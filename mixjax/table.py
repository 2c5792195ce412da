"""Files -> TABLE -> runs: CSV, Parquet or DataFrame as it stands, joined on a key; rows keep their line numbers."""

from __future__ import annotations

import csv
import gzip
import os
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mixjax.errors import UserError

Source = str | os.PathLike[str] | pd.DataFrame
_TEXT = {".csv": ",", ".tsv": "\t", ".txt": ","}
_PARQUET = (".parquet", ".pq")
# Numbers read back as they were written; from pandas 3.1 on this is the default and asking for it is deprecated.
_EXACT: dict[str, Any] = {} if tuple(int(x) for x in pd.__version__.split(".")[:2]) >= (3, 1) else {"float_precision": "round_trip"}


def read_table(source: Source | Sequence[Source], on: str | Sequence[str] | None = None) -> tuple[str, pd.DataFrame]:
    """The name of a table for messages, and the table; its index is the line in the file (header = 1).

    Args:
        source: a file (.csv, .csv.gz, .tsv, .parquet), a DataFrame, or several of them to join.
        on: key columns of the join; every key occurs once in each table and in all of them.

    Raises:
        UserError: a file that is missing, empty, not a table, or that cannot be joined.
    """
    if isinstance(source, (str, os.PathLike, pd.DataFrame)):
        return _read(source)
    parts = [_read(s) for s in source]
    if not parts:
        raise UserError("runs", "no file", "name a table of runs")
    name, table = parts[0]
    for other_name, other in parts[1:]:
        table = _join(name, table, other_name, other, [on] if isinstance(on, str) else list(on or ()))
        name = f"{name} + {other_name}"
    return name, table


def _read(source: Source) -> tuple[str, pd.DataFrame]:
    if isinstance(source, pd.DataFrame):
        name, table = "DataFrame", source.reset_index(drop=True)
        header = [str(c) for c in table.columns]
    else:
        path = Path(source)
        name = path.name
        header, table = _read_file(path)
    repeated = next((c for i, c in enumerate(header) if c in header[:i]), None)
    if repeated is not None:
        raise UserError(name, f"column {repeated!r} occurs twice", "rename or remove one of them")
    if table.empty:
        raise UserError(name, "has no rows", "name a table with one line per run and checkpoint")
    table = table.set_axis(header, axis=1)
    table.index = pd.RangeIndex(2, len(table) + 2)
    return name, table


def _read_file(path: Path) -> tuple[list[str], pd.DataFrame]:
    """Header and rows of one file."""
    suffix = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    if suffix.lower() not in (*_TEXT, *_PARQUET):
        raise UserError(str(path), f"unknown kind of file {path.suffix!r}", "give a .csv, .tsv or .parquet file")
    try:
        if suffix.lower() in _PARQUET:
            table = pd.read_parquet(path)
            return [str(c) for c in table.columns], table.reset_index(drop=True)
        return _read_text(path, _TEXT[suffix.lower()])
    except OSError as error:
        if suffix.lower() in _PARQUET and path.is_file():
            raise UserError(str(path), "is not a Parquet file", "give a table of runs") from None
        raise UserError(str(path), f"cannot be read ({error.strerror or type(error).__name__})", "name a table of runs") from None
    except UnicodeDecodeError:
        raise UserError(str(path), "is not text in UTF-8", "give a CSV file in UTF-8") from None
    except (csv.Error, pd.errors.EmptyDataError, StopIteration):
        raise UserError(str(path), "is empty or not a table", "give a CSV file with a header line") from None
    except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
        line = re.search(r"line (\d+)", str(error))
        raise UserError(str(path), f"line {line[1]} has more cells than the header" if line else "has rows longer than the header", "mend the row") from None
    except (ValueError, EOFError) as error:
        raise UserError(str(path), f"cannot be read ({error})"[:200].replace("\n", " "), "give a table of runs") from None


def _read_text(path: Path, separator: str) -> tuple[list[str], pd.DataFrame]:
    opener: Any = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8-sig", newline="") as file:
        header = [cell.strip() for cell in next(csv.reader(file, delimiter=separator))]
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        table = pd.read_csv(path, sep=separator, index_col=False, encoding="utf-8-sig", skip_blank_lines=False, low_memory=False, **_EXACT)
    blank = table.isna().all(axis=1)
    while len(table) and blank.iloc[-1]:
        table, blank = table.iloc[:-1], blank.iloc[:-1]
    return header, table


def _join(name: str, table: pd.DataFrame, other_name: str, other: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Rows of two tables that share their key, in the order of the first; line numbers are the first's."""
    if not keys:
        raise UserError(f"{name} + {other_name}", "several tables and no key to join them on", "name the key column: on=... or --on")
    for which, part in ((name, table), (other_name, other)):
        absent = next((k for k in keys if k not in part.columns), None)
        if absent is not None:
            raise UserError(which, f"no key column {absent!r}", f"columns are {', '.join(part.columns)}")
        repeated = part.duplicated(keys)
        if repeated.any():
            raise UserError(which, f"line {part.index[repeated][0]} repeats its key", "keys of a join occur once")
    common = [c for c in other.columns if c in table.columns and c not in keys]
    if common:
        raise UserError(other_name, f"column {common[0]!r} is in {name} too", "rename or remove one of them")
    joined = table.reset_index(names="\0line").merge(other, on=keys, how="inner")
    if joined.empty:
        raise UserError(f"{name} + {other_name}", f"no row shares its {', '.join(keys)}", "check the key columns")
    return joined.set_index("\0line").rename_axis(None)
