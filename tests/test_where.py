"""Row selection: what it selects, and that nothing else than a selection gets through."""

from __future__ import annotations

import operator

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixjax.data.where import select
from mixjax.errors import UserError

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
        ("D == 10 # a remark", [0]),
        ("N not in (1e8, 2e8)", [2]),
        ("N == N", [0, 1, 2]),
        ("N != N", []),
        ("final == True", [0, 2]),
        ("split > 'f'", [0, 2]),
        ("D < 1" + "0" * 30, [0, 1, 2, 3]),
        ("'a' == 'a' and not False", [0, 1, 2, 3]),
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
        ("D == (10, 20)", "not a column, number or text"),
        ("D == +10", "not a column, number or text"),
        ("split == b'train'", "not a column, number or text"),
        ("D == 1j", "not a column, number or text"),
        ("D in [[10]]", "not a column, number or text"),
        ("D == (yield)", "not a column, number or text"),
        ("~final", "no condition"),
        ("await final", "no condition"),
        ("final & final", "arithmetic"),
        ("`odd name` + 1 == 2", r"'`odd name` \+ 1' is arithmetic"),
        ("(D := 10) == 10", "assignment"),
        ("[x for x in D] == 1", "comprehension"),
        ("D in (*N,)", "star"),
        ("D == 10; N == 1", "not an expression"),
        ("D == 10\nand final", "not an expression"),
        ("f'''{D}\n''' == 'x'", "f-string"),
        ("`D == 1", "not an expression"),
        ("`no\nsuch` == 1", "no column"),
        ("D in ('a', 10)", "is a number"),
        ("split in (1, 2)", r"column 'split' \(line 0: 'train'\) is text"),
        ("D" + ".a" * 4900 + " == 1", "expression"),
        ("-" * 9000 + "1 == D", "expression"),
        ("not " * 2000 + "final", "expression"),
        ("D in " + "[" * 150 + "1" + "]" * 150, "not a column"),
        ("N < " + "9" * 400, "too large"),
        ("N < " + "9" * 5000, "expression"),
        ("split == '\ud800'", "expression"),
        (3, "not an expression"),
    ],
)
def test_refuses_by_name(expression, said):
    with pytest.raises(UserError, match=said) as error:
        select(TABLE, expression)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


def test_the_table_is_not_evaluated(tmp_path):
    mark = tmp_path / "mark"
    for attack in (
        f"__import__('pathlib').Path({str(mark)!r}).touch()",
        f"D == [open({str(mark)!r}, 'w')]",
        f"f\"{{open({str(mark)!r}, 'w')}}\" == 'x'",
    ):
        with pytest.raises(UserError):
            select(TABLE, attack)
    assert not mark.exists()


@pytest.mark.parametrize("dtype", ["object", "category", "string", "string[pyarrow]"])
def test_kinds_of_text_columns(dtype):
    table = TABLE.assign(split=TABLE["split"].astype(dtype))
    np.testing.assert_array_equal(np.flatnonzero(select(table, "split == 'train'")), [0, 2])
    np.testing.assert_array_equal(np.flatnonzero(select(table, "split != 'train'")), [1])
    np.testing.assert_array_equal(np.flatnonzero(select(table, "split < 'f'")), [1])
    np.testing.assert_array_equal(
        np.flatnonzero(select(table, "split in ('train', 'other')")), [0, 2]
    )


@pytest.mark.parametrize(
    "dtype", ["float64", "object", "category", "Int64", "Float64", "int64[pyarrow]"]
)
def test_kinds_of_number_columns(dtype):
    table = TABLE.assign(D=pd.Series([1, None, 3, 4]).astype(dtype))
    for expression, rows in (
        ("D != 3", [0, 3]),
        ("D < 4", [0, 2]),
        ("not D < 4", [1, 3]),
        ("D in (1, 9)", [0]),
        ("D not in (1, 9)", [2, 3]),
        ("D < N", [0, 2]),
    ):
        np.testing.assert_array_equal(
            np.flatnonzero(select(table, expression)), rows, err_msg=expression
        )


@pytest.mark.parametrize("dtype", ["object", "category", "boolean", "bool[pyarrow]"])
def test_kinds_of_truth_columns(dtype):
    table = TABLE.assign(final=pd.Series([True, False, True, None], dtype=object).astype(dtype))
    for expression, rows in (
        ("final", [0, 2]),
        ("not final", [1, 3]),
        ("final == True", [0, 2]),
        ("final != True", [1]),
    ):
        np.testing.assert_array_equal(
            np.flatnonzero(select(table, expression)), rows, err_msg=expression
        )


def test_categories_compare_as_text():
    table = pd.DataFrame(
        {
            "size": pd.Categorical(["small", "large"], ["small", "large"], ordered=True),
            "other": pd.Categorical(["small", "tiny"]),
        }
    )
    np.testing.assert_array_equal(select(table, "size < 'medium'"), [False, True])
    np.testing.assert_array_equal(select(table, "size == other"), [True, False])


def test_a_backtick_within_text_is_text():
    table = pd.DataFrame({"note": ["a`b`c", "abc"], "a b": [1, 2]})
    np.testing.assert_array_equal(select(table, "note == 'a`b`c' and `a b` == 1"), [True, False])


def test_columns_of_mixed_or_strange_cells_are_refused():
    table = pd.DataFrame(
        {"mixed": [1.0, "many"], "text": ["1", "many"], "when": pd.to_datetime(["2020", "2021"])},
        index=[2, 3],
    )
    for expression, said in (
        ("mixed > 0", "different kinds"),
        ("text > 0", r"\(line 3: 'many'\) is text"),
        ("when > 5", "different kinds"),
    ):
        with pytest.raises(UserError, match=said):
            select(table, expression)


NUMBERS = st.none() | st.integers(-2, 2) | st.sampled_from([0.5, -1.5])
TEXTS = st.sampled_from([None, "a", "b", "it's"])
COMPARISONS = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@st.composite
def conditions(draw, depth=3):
    """An expression, and the same as a function of one row, in plain Python."""
    kind = draw(
        st.sampled_from(
            ["compare", "chain", "in", "and", "or", "not"] if depth else ["compare", "in"]
        )
    )
    if kind in ("and", "or"):
        (text_a, a), (text_b, b) = draw(conditions(depth - 1)), draw(conditions(depth - 1))
        return f"({text_a}) {kind} ({text_b})", (
            lambda row: a(row) and b(row)
        ) if kind == "and" else (lambda row: a(row) or b(row))
    if kind == "not":
        text, inner = draw(conditions(depth - 1))
        return f"not ({text})", lambda row: not inner(row)
    columns, values = draw(st.sampled_from([(["x", "y"], NUMBERS), (["s", "t"], TEXTS)]))
    terms = st.sampled_from(columns).map(lambda c: (c, lambda row: row[c])) | values.filter(
        lambda v: v is not None
    ).map(lambda v: (repr(v), lambda _: v))
    if kind == "in":
        (text, left), items, negated = (
            draw(terms),
            draw(st.lists(values.filter(lambda v: v is not None), max_size=3)),
            draw(st.booleans()),
        )
        listed = f"[{', '.join(map(repr, items))}]"
        return (
            f"{text} {'not ' * negated}in {listed}",
            lambda row: left(row) is not None and (left(row) in items) != negated,
        )
    chain = [draw(terms) for _ in range(3 if kind == "chain" else 2)]
    signs = [draw(st.sampled_from(sorted(COMPARISONS))) for _ in chain[1:]]
    text = chain[0][0] + "".join(
        f" {sign} {term[0]}" for sign, term in zip(signs, chain[1:], strict=True)
    )

    def compare(row):
        cells = [term[1](row) for term in chain]
        return all(
            None not in (a, b) and COMPARISONS[s](a, b)
            for a, s, b in zip(cells[:-1], signs, cells[1:], strict=True)
        )

    return text, compare


@settings(max_examples=200)
@given(conditions(), st.lists(st.tuples(NUMBERS, NUMBERS, TEXTS, TEXTS), min_size=1, max_size=5))
def test_agrees_with_plain_python(condition, rows):
    expression, expected = condition
    table = pd.DataFrame(rows, columns=["x", "y", "s", "t"])
    np.testing.assert_array_equal(
        select(table, expression), [expected(dict(zip("xyst", row, strict=True))) for row in rows]
    )
