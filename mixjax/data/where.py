"""Row selection: an expression over the columns of a table, parsed and checked, never evaluated as
code."""

from __future__ import annotations

import ast
import operator
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixjax.errors import UserError, nearest, shown

_LONGEST = 10_000
# Texts are stepped over.
_BACKTICKED = re.compile(r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|`([^`]*)`""")
_GRAMMAR = "use column names, numbers, 'text', == != < <= > >=, in (...), and, or, not, parentheses"
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_NAMES = {
    ast.Call: "a function call",
    ast.Attribute: "an attribute (x.y)",
    ast.Subscript: "an index (x[...])",
    ast.BinOp: "arithmetic",
    ast.Lambda: "a lambda",
    ast.IfExp: "a conditional",
    ast.NamedExpr: "an assignment",
    ast.JoinedStr: "an f-string",
    ast.Starred: "a star",
    ast.ListComp: "a comprehension",
    ast.SetComp: "a comprehension",
    ast.DictComp: "a comprehension",
    ast.GeneratorExp: "a comprehension",
}


def select(table: pd.DataFrame, expression: str) -> NDArray[np.bool_]:
    """Which rows an expression selects, (rows,), e.g. "split == 'train' and N < 1e9".

    A column of another name than Python's is written in backticks. A missing value is never
    selected by a comparison, whichever it is.

    Raises:
        UserError: not such an expression, an unknown column, or text compared with a number.
    """
    source, quoted = _unquote(expression)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's remarks on style
            tree = ast.parse(source.strip(), mode="eval").body
        names = _names(tree, table, quoted)
        columns = {name: _plain(table[quoted.get(name, name)]) for name in names}
        with np.errstate(invalid="ignore"):
            return _Condition(columns, quoted, len(table)).truth(tree)
    except SyntaxError as error:
        what = f"{shown(expression)} is not an expression ({error.msg})"
        raise UserError("where", what, _GRAMMAR) from None
    except OverflowError:
        what = "a number is too large for its column"
        raise UserError("where", what, "write it with an exponent, e.g. 1e30") from None
    except TypeError:
        what = f"{shown(expression)} compares values of different kinds"
        raise UserError("where", what, "compare text with text, numbers with numbers") from None
    except (RecursionError, MemoryError, ValueError):
        raise UserError("where", "the expression cannot be read", _GRAMMAR) from None


def _unquote(expression: str) -> tuple[str, dict[str, str]]:
    """Backticked names replaced by plain ones, and what these stand for."""
    if not isinstance(expression, str) or not expression.strip() or len(expression) > _LONGEST:
        raise UserError("where", f"not an expression of 1 to {_LONGEST} characters", _GRAMMAR)
    quoted: dict[str, str] = {}

    def plain(match: re.Match[str]) -> str:
        if match[1] is None:
            return match[0]
        name = f"quoted_column_{len(quoted)}_"
        quoted[name] = match[1]
        return name

    return _BACKTICKED.sub(plain, expression), quoted


def _names(tree: ast.AST, table: pd.DataFrame, quoted: dict[str, str]) -> set[str]:
    """Names in the expression, all of them columns; what no selection contains is refused by
    name."""
    for node in ast.walk(tree):
        if type(node) in _NAMES:
            raise UserError("where", f"{_source(node, quoted)} is {_NAMES[type(node)]}", _GRAMMAR)
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    for name in sorted(names):
        column = quoted.get(name, name)
        if column not in table.columns:
            hint = nearest(column, table.columns)
            remedy = f"{hint}columns are {', '.join(map(str, table.columns))}"
            raise UserError("where", f"no column {column!r}", remedy)
    return names


@dataclass(frozen=True)
class _Condition:
    """What the names of an expression stand for: columns, and names in backticks, in so many
    rows."""

    columns: Mapping[str, Any]
    quoted: dict[str, str]
    rows: int

    def truth(self, node: ast.expr) -> NDArray[np.bool_]:
        """A condition's truth, (rows,)."""
        match node:
            case ast.BoolOp(op, values):
                both = np.logical_and if isinstance(op, ast.And) else np.logical_or
                return both.reduce([self.truth(value) for value in values])
            case ast.UnaryOp(ast.Not(), operand):
                return ~self.truth(operand)
            case ast.Compare(left, operators, rights):
                steps = zip([left, *rights], operators, rights, strict=False)
                return np.logical_and.reduce([self._compare(*step) for step in steps])
            case ast.Constant(bool() as value):
                return np.full(self.rows, value)
            case ast.Name(name) if (
                pd.api.types.infer_dtype(self.columns[name], skipna=True) == "boolean"
            ):
                return self.columns[name].eq(True).to_numpy(dtype=bool, na_value=False)
        raise UserError("where", f"{_source(node, self.quoted)} is no condition", _GRAMMAR)

    def _compare(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> NDArray[np.bool_]:
        """One comparison, (rows,); missing values compare false."""
        a = self._value(left)
        if isinstance(op, (ast.In, ast.NotIn)):
            if not isinstance(right, (ast.Tuple, ast.List, ast.Set)):
                what = f"{_source(right, self.quoted)} after in is not a list"
                raise UserError("where", what, "write e.g. split in ('train', 'eval')")
            hits = [self._apply(operator.eq, a, self._value(item)) for item in right.elts]
            inside = np.logical_or.reduce(hits) if hits else np.zeros(self.rows, bool)
            return inside if isinstance(op, ast.In) else ~inside & _present(a, self.rows)
        if type(op) not in _COMPARISONS:
            raise UserError("where", "is / is not compares nothing here", _GRAMMAR)
        return self._apply(_COMPARISONS[type(op)], a, self._value(right))

    def _apply(self, compare: Callable[[Any, Any], Any], a: Any, b: Any) -> NDArray[np.bool_]:
        """compare(a, b) where both are present; text goes with text, numbers with numbers."""
        kinds = {_is_text(x) for x in (a, b)} - {None}
        if len(kinds) > 1:
            text, number = (a, b) if _is_text(a) else (b, a)
            what = f"{_label(text)} is text and {_label(number)} is a number"
            raise UserError("where", what, "compare text with text, numbers with numbers")
        both = _present(a, self.rows) & _present(b, self.rows)
        truth = compare(*(x[both] if isinstance(x, pd.Series) else x for x in (a, b)))
        both[both] = truth.to_numpy(dtype=bool) if isinstance(truth, pd.Series) else bool(truth)
        return both

    def _value(self, node: ast.expr) -> Any:
        """A column or a literal."""
        match node:
            case ast.Name(name):
                return self.columns[name]
            case ast.Constant(value) if isinstance(value, (str, int, float)):
                return value
            case ast.UnaryOp(ast.USub(), ast.Constant(value)) if isinstance(value, (int, float)):
                return -value
        what = f"{_source(node, self.quoted)} is not a column, number or text"
        raise UserError("where", what, _GRAMMAR)


def _plain(column: Any) -> Any:
    """A column of values: categories compare as what they stand for."""
    return column.astype(object) if isinstance(column.dtype, pd.CategoricalDtype) else column


def _present(x: Any, rows: int) -> NDArray[np.bool_]:
    return x.notna().to_numpy(dtype=bool) if isinstance(x, pd.Series) else np.ones(rows, bool)


def _is_text(x: Any) -> bool | None:
    """Whether a value or column holds text; None: it holds nothing."""
    if not isinstance(x, pd.Series):
        return isinstance(x, str)
    present = x.dropna()
    return None if present.empty else isinstance(present.iloc[0], str)


def _label(x: Any) -> str:
    """A value, or a column with the first cell that makes it text."""
    if not isinstance(x, pd.Series):
        return shown(x)
    as_number: Any = pd.to_numeric(x, errors="coerce")
    text: Any = x[x.notna() & as_number.isna()]
    where = f" (line {text.index[0]}: {shown(text.iloc[0])})" if len(text) else ""
    return f"column {x.name!r}{where}"


def _source(node: ast.AST, quoted: dict[str, str]) -> str:
    """A part of the expression for a message, its backticks as the user wrote them."""
    text = ast.unparse(node)
    for name, column in quoted.items():
        text = text.replace(name, f"`{column}`")
    return shown(text)
