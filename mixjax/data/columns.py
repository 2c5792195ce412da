"""Where a table has what (table -> COLUMNS -> runs): names in other layouts, factors, and cells
read as numbers, each known by its file and line."""

from __future__ import annotations

import numbers
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixjax.data.table import Origins
from mixjax.errors import UserError, nearest, shown

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
        raise UserError(f"{name}, column {column.name!r}, line {line}", f"{place} {what}", remedy)


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
