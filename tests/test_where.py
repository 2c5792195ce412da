"""Row selection: what it selects, and that nothing else than a selection gets through."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixjax.errors import UserError
from mixjax.where import select

TABLE = pd.DataFrame(
    {
        "N": [1e8, 2e8, 3e8, np.nan],
        "D": [10, 20, 30, 40],
        "split": ["train", "eval", "train", None],
        "final": [True, False, True, False],
        "odd name": [1.0, 2.0, 3.0, 4.0],
    }
)


@pytest.mark.parametrize(
    ("expression", "rows"),
    [
        ("split == 'train'", [0, 2]),
        ("split != 'train'", [1]),
        ("N < 2.5e8", [0, 1]),
        ("N != 1e8", [1, 2]),
        ("not (N < 2.5e8)", [2, 3]),
        ("split == 'train' and N > 1e8 or D == 40", [2, 3]),
        ("1e8 < N <= 3e8", [1, 2]),
        ("split in ('train', 'eval') and D not in [20]", [0, 2]),
        ("split not in ['train']", [1]),
        ("D in ()", []),
        ("D > -5 and D < 15", [0]),
        ("final", [0, 2]),
        ("not final and D < 30", [1]),
        ("`odd name` >= 3", [2, 3]),
        ("True", [0, 1, 2, 3]),
        ("'train' == split", [0, 2]),
        (" (D==10) ", [0]),
    ],
)
def test_selects(expression, rows):
    np.testing.assert_array_equal(np.flatnonzero(select(TABLE, expression)), rows)


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("__import__('os').system('true')", "function call"),
        ("N.__class__ == 1", "attribute"),
        ("print(N) == 1", "call"),
        ("D[0] == 1", "index"),
        ("D + 1 == 2", "arithmetic"),
        ("(lambda: 1) == D", "lambda"),
        ("(D if final else N) == 1", "conditional"),
        ("f'{D}' == 'x'", "f-string"),
        ("D", "no condition"),
        ("1", "no condition"),
        ("D is 10", "is not"),
        ("split in 'train'", "not a list"),
        ("@D == 1", "not an expression"),
        ("D = 1", "not an expression"),
        ("D == ", "not an expression"),
        ("", "not an expression"),
        ("   ", "not an expression"),
        ("D == 1\0", "expression"),
        ("(" * 5000 + "D == 1" + ")" * 4000, "expression"),
        ("D == 1 and " * 2000 + "D == 1", "characters"),
        ("splt == 'train'", "did you mean 'split'"),
        ("split == 1", "is text"),
        ("N == 'big'", "is a number"),
        ("split < 5", "is text"),
        ("D == None", "not a column, number or text"),
    ],
)
def test_refuses_by_name(expression, said):
    with pytest.raises(UserError, match=said) as error:
        select(TABLE, expression)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("dtype", ["object", "category", "string"])
def test_kinds_of_text_columns(dtype):
    table = TABLE.assign(split=TABLE["split"].astype(dtype))
    np.testing.assert_array_equal(np.flatnonzero(select(table, "split == 'train'")), [0, 2])
    np.testing.assert_array_equal(np.flatnonzero(select(table, "split != 'train'")), [1])


def test_nullable_integers():
    table = TABLE.assign(D=pd.array([1, None, 3, 4], dtype="Int64"))
    np.testing.assert_array_equal(np.flatnonzero(select(table, "D != 3")), [0, 3])


NUMBERS = st.integers(-3, 3)


@st.composite
def conditions(draw, depth=2):
    if depth == 0 or draw(st.booleans()):
        left, right = draw(st.sampled_from(["x", "y", "2"])), draw(st.sampled_from(["x", "y", "-1", "0.5"]))
        return f"{left} {draw(st.sampled_from(['==', '!=', '<', '<=', '>', '>=']))} {right}"
    kind = draw(st.sampled_from(["and", "or", "not"]))
    inner = draw(conditions(depth=depth - 1))
    return f"not ({inner})" if kind == "not" else f"({inner}) {kind} ({draw(conditions(depth=depth - 1))})"


@given(conditions(), st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=6))
def test_agrees_with_python(expression, rows):
    table = pd.DataFrame(rows, columns=["x", "y"])
    expected = [eval(expression, {"__builtins__": {}}, {"x": x, "y": y}) for x, y in rows]
    np.testing.assert_array_equal(select(table, expression), expected)
