"""Row selection: an expression over the columns of a table, parsed and checked, never evaluated as
code."""

from __future__ import annotations

import ast
import operator
import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixjax.errors import UserError, nearest, shown

_LONGEST = 10_000
_BACKTICKED = re.compile(
    r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|`([^`]*)`"""
)  # texts are stepped over
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
        columns = {
            quoted.get(n, n): _plain(table[quoted.get(n, n)]) for n in _names(tree, table, quoted)
        }
        with np.errstate(invalid="ignore"):
            return _truth(tree, columns, quoted, len(table))
    except SyntaxError as error:
        raise UserError(
            "where", f"{shown(expression)} is not an expression ({error.msg})", _GRAMMAR
        ) from None
    except OverflowError:
        raise UserError(
            "where", "a number is too large for its column", "write it with an exponent, e.g. 1e30"
        ) from None
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


def _truth(
    node: ast.expr, columns: dict[str, Any], quoted: dict[str, str], rows: int
) -> NDArray[np.bool_]:
    """A condition's truth, (rows,)."""
    match node:
        case ast.BoolOp(op, values):
            parts = [_truth(v, columns, quoted, rows) for v in values]
            return (
                np.logical_and.reduce(parts)
                if isinstance(op, ast.And)
                else np.logical_or.reduce(parts)
            )
        case ast.UnaryOp(ast.Not(), operand):
            return ~_truth(operand, columns, quoted, rows)
        case ast.Compare(left, operators, rights):
            terms = [left, *rights]
            steps = zip(terms[:-1], operators, terms[1:], strict=True)
            return np.logical_and.reduce(
                [_compare(a, op, b, columns, quoted, rows) for a, op, b in steps]
            )
        case ast.Constant(bool() as value):
            return np.full(rows, value)
        case ast.Name(name) if (
            pd.api.types.infer_dtype(columns[quoted.get(name, name)], skipna=True) == "boolean"
        ):
            return columns[quoted.get(name, name)].eq(True).to_numpy(dtype=bool, na_value=False)
    raise UserError("where", f"{_source(node, quoted)} is no condition", _GRAMMAR)


def _compare(
    left: ast.expr,
    op: ast.cmpop,
    right: ast.expr,
    columns: dict[str, Any],
    quoted: dict[str, str],
    rows: int,
) -> NDArray[np.bool_]:
    """One comparison, (rows,); missing values compare false."""
    a = _value(left, columns, quoted)
    if isinstance(op, (ast.In, ast.NotIn)):
        if not isinstance(right, (ast.Tuple, ast.List, ast.Set)):
            what = f"{_source(right, quoted)} after in is not a list"
            raise UserError("where", what, "write e.g. split in ('train', 'eval')")
        hits = [_apply(operator.eq, a, _value(item, columns, quoted), rows) for item in right.elts]
        inside = np.logical_or.reduce(hits) if hits else np.zeros(rows, bool)
        return inside if isinstance(op, ast.In) else ~inside & _present(a, rows)
    if type(op) not in _COMPARISONS:
        raise UserError("where", "is / is not compares nothing here", _GRAMMAR)
    return _apply(_COMPARISONS[type(op)], a, _value(right, columns, quoted), rows)


def _apply(compare: Callable[[Any, Any], Any], a: Any, b: Any, rows: int) -> NDArray[np.bool_]:
    """compare(a, b) where both are present; text goes with text, numbers with numbers."""
    kinds = {_is_text(x) for x in (a, b)} - {None}
    if len(kinds) > 1:
        text, number = (a, b) if _is_text(a) else (b, a)
        what = f"{_label(text)} is text and {_label(number)} is a number"
        raise UserError("where", what, "compare text with text, numbers with numbers")
    both = _present(a, rows) & _present(b, rows)
    truth = compare(*(x[both] if isinstance(x, pd.Series) else x for x in (a, b)))
    both[both] = truth.to_numpy(dtype=bool) if isinstance(truth, pd.Series) else bool(truth)
    return both


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
    return f"column {x.name!r}" + (
        f" (line {text.index[0]}: {shown(text.iloc[0])})" if len(text) else ""
    )


def _source(node: ast.AST, quoted: dict[str, str]) -> str:
    """A part of the expression for a message, its backticks as the user wrote them."""
    text = ast.unparse(node)
    for name, column in quoted.items():
        text = text.replace(name, f"`{column}`")
    return shown(text)


def _value(node: ast.expr, columns: dict[str, Any], quoted: dict[str, str]) -> Any:
    """A column or a literal."""
    match node:
        case ast.Name(name):
            return columns[quoted.get(name, name)]
        case ast.Constant(value) if isinstance(value, (str, int, float)):
            return value
        case ast.UnaryOp(ast.USub(), ast.Constant(value)) if isinstance(value, (int, float)):
            return -value
    raise UserError("where", f"{_source(node, quoted)} is not a column, number or text", _GRAMMAR)
