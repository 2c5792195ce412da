"""Tables of runs: read, checked, and every mistake told in one line with its place."""

from __future__ import annotations

import gzip

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixjax.errors import MixjaxWarning, UserError
from mixjax.runs import read_runs, to_frame
from tests.data import reference_data

HEADER = "N,D,h_a,h_b,loss_x,loss_y,split,run"
ROWS = [
    "1e8,2e9,0.25,0.75,3.1,2.5,train,r1",
    "1e8,4e9,0.25,0.75,3.0,,train,r1",
    "2e8,2e9,0.5,0.5,2.9,2.3,train,r2",
    "8e8,2e9,1,0,2.5,2.0,eval,r3",
]


@pytest.fixture
def write(tmp_path):
    def write(*lines, name="runs.csv"):
        path = tmp_path / name
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    return write


def changed(row, column, value):
    """The rows with one cell replaced."""
    rows = [line.split(",") for line in ROWS]
    rows[row][HEADER.split(",").index(column)] = value
    return [",".join(cells) for cells in rows]


# ------------------------------------------------------------------ what is read


def test_common_schema(write):
    runs = read_runs(write(HEADER, *ROWS))
    assert (runs.domains, runs.targets, len(runs)) == (("a", "b"), ("x", "y"), 4)
    np.testing.assert_array_equal(runs.N, [1e8, 1e8, 2e8, 8e8])
    np.testing.assert_array_equal(runs.loss("y"), [2.5, np.nan, 2.3, 2.0])
    np.testing.assert_array_equal(runs.rows, [2, 3, 4, 5])
    np.testing.assert_array_equal(runs.run, ["r1", "r1", "r2", "r3"])
    assert str(runs) == "runs.csv: 4 rows, 3 mixtures of 2 domains, 3 sizes, 2 targets"


@pytest.mark.parametrize("kind", ["csv.gz", "tsv", "parquet", "frame", "bom", "crlf", "spaces"])
def test_other_containers(write, tmp_path, kind):
    plain = read_runs(write(HEADER, *ROWS))
    text = "\n".join([HEADER, *ROWS]) + "\n"
    path = tmp_path / f"other.{kind if '.' in kind or kind in ('tsv', 'parquet') else 'csv'}"
    if kind == "csv.gz":
        path.write_bytes(gzip.compress(text.encode()))
    elif kind == "tsv":
        path.write_text(text.replace(",", "\t"))
    elif kind == "parquet":
        pd.read_csv(tmp_path / "runs.csv").to_parquet(path)
    elif kind == "bom":
        path.write_text(text, encoding="utf-8-sig")
    elif kind == "crlf":
        path.write_bytes(text.replace("\n", "\r\n").encode())
    elif kind == "spaces":
        path.write_text(text.replace("h_a", " h_a ").replace("loss_x", "loss_x "))
    source = pd.read_csv(tmp_path / "runs.csv") if kind == "frame" else path
    runs = read_runs(source)
    assert runs.fingerprint() == plain.fingerprint()
    assert (runs.domains, runs.targets) == (plain.domains, plain.targets)


def test_a_frame_is_left_alone(write):
    table = pd.read_csv(write(HEADER, *ROWS))
    before = table.copy(deep=True)
    read_runs(table, where="N < 5e8")
    pd.testing.assert_frame_equal(table, before)


def test_released_layout_of_the_paper(write):
    path = write("weight_a,weight_b,model_size,n_tokens,x_loss", "0.25,0.75,100,2,3.1", "0.5,0.5,200,4,2.9")
    columns = {"h": "weight_{}", "loss": "{}_loss", "N": {"column": "model_size", "times": 1e6}, "D": "n_tokens"}
    runs = read_runs(path, columns=columns)
    assert (runs.domains, runs.targets) == (("a", "b"), ("x",))
    np.testing.assert_array_equal(runs.N, [1e8, 2e8])
    assert len(read_runs(path, columns=columns, where="model_size > 150 and h_a == 0.5 and N == 2e8")) == 1


def test_two_files_joined_on_a_key(write):
    weights = write("index,train_a,train_b", "1,0.25,0.75", "2,0.5,0.5", "3,1,0", name="weights.csv")
    losses = write("index,valid_x", "3,2.5", "1,3.1", "2,2.9", name="losses.csv")
    runs = read_runs([weights, losses], on="index", columns={"h": "train_{}", "loss": "valid_{}", "N": 1e6, "D": 1e9})
    np.testing.assert_array_equal(runs.loss("x"), [3.1, 2.9, 2.5])
    np.testing.assert_array_equal(runs.N, [1e6] * 3)
    assert runs.name == "weights.csv + losses.csv"


def test_names_given_one_by_one(write):
    path = write("w1,w2,c,N,D", "0.25,0.75,3.1,1e8,2e9")
    runs = read_runs(path, columns={"h": {"first": "w1", "second": "w2"}, "loss": {"x": "c"}})
    assert (runs.domains, runs.targets) == (("first", "second"), ("x",))


def test_tables_without_scale_or_mixture(write):
    runs = read_runs(write("h_a,h_b,loss_x", "0.25,0.75,3.1"))
    assert runs.N is None
    assert runs.D is None
    assert read_runs(write("N,D,loss_x", "1e8,2e9,3.1")).h.shape == (1, 0)


@given(st.lists(st.tuples(st.floats(1e6, 1e12), st.floats(0.1, 20.0), st.floats(0, 1)), min_size=1, max_size=8))
def test_round_trip(rows):
    table = pd.DataFrame([{"N": n, "D": 2 * n, "h_a": a, "h_b": 1 - a, "loss_x": x} for n, x, a in rows])
    runs = read_runs(table)
    again = read_runs(to_frame(runs))
    assert again.fingerprint() == runs.fingerprint()
    np.testing.assert_allclose(runs.h.sum(axis=1), 1.0, rtol=0, atol=1e-15)


def test_numbers_read_back_exactly(write):
    losses = np.random.default_rng(0).uniform(1, 5, 500)
    path = write("N,D,loss_x", *(f"1e8,{i + 1}e9,{x!r}" for i, x in enumerate(losses.tolist())))
    np.testing.assert_array_equal(read_runs(path).loss("x"), losses)


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("N", "0", ["'N'", "line 4", "positive"]),
        ("N", "-1e8", ["'N'", "line 4", "positive"]),
        ("N", "inf", ["'N'", "line 4", "positive"]),
        ("N", "", ["'N'", "line 4", "empty"]),
        ("D", "many", ["'D'", "line 4", "'many'", "number"]),
        ("D", '"1,000"', ["'D'", "line 4", "number"]),
        ("h_a", "-0.5", ["'h_a'", "line 4", "at least 0"]),
        ("h_a", "", ["'h_a'", "line 4", "empty"]),
        ("h_a", "0.6", ["h_a, h_b", "line 4", "sum to 1.1"]),
        ("loss_x", "inf", ["'loss_x'", "line 4", "not a loss"]),
        ("loss_x", "-2.0", ["'loss_x'", "line 4", "-2.0"]),
        ("loss_x", "0", ["'loss_x'", "line 4"]),
        ("loss_y", "n.a.", ["'loss_y'", "line 4", "'n.a.'", "number"]),
    ],
)
def test_bad_cells_are_named(write, column, value, said):
    path = write(HEADER, *changed(2, column, value))
    with pytest.raises(UserError) as error:
        read_runs(path)
    message = str(error.value)
    assert "runs.csv" in message
    assert "\n" not in message
    for part in said:
        assert part in message
    assert len(read_runs(path, where="split == 'eval'")) == 1  # rows that are not selected do not matter


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"N,D,loss_x\n", "no rows"),
        (b"N,D,N,loss_x\n1,2,3,4\n", "'N' occurs twice"),
        (b"N,D,loss_x\n1,2,3,4,5\n", "more cells|longer"),
        (b"N,D,loss_x\n1,2,3\n1,2,3,4\n", "more cells|longer"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\xff\xfe", "UTF-8|not a table|no loss"),
        (b'{"a": 1, "b": [1, 2]}\n', "no rows|no loss"),
        (b"N,D,h_a\n1,2,1\n", "no loss_<target> column"),
    ],
)
def test_files_that_are_no_tables(tmp_path, content, said):
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=said) as error:
        read_runs(path)
    assert "bad.csv" in str(error.value)


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 nonsense")
    (tmp_path / "runs.xlsx").write_bytes(b"x")
    for name, said in (("missing.csv", "No such file"), ("folder.csv", "directory"), ("broken.parquet", "broken"), ("runs.xlsx", "unknown kind")):
        with pytest.raises(UserError, match=said):
            read_runs(tmp_path / name)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"H": "weight_{}"}, "no key 'H'"),
        ({"h": "weight_"}, "pattern"),
        ({"h": "weight_{}"}, "no column of the form"),
        ({"N": "size"}, "no column 'size'"),
        ({"N": -1.0}, "positive"),
        ({"loss": {"x": "loss_z"}}, "did you mean 'loss_"),
    ],
)
def test_columns_that_are_not_there(write, columns, said):
    with pytest.raises(UserError, match=said):
        read_runs(write(HEADER, *ROWS), columns=columns)


@pytest.mark.parametrize(
    ("first", "second", "on", "said"),
    [
        (["k,h_a", "1,1"], ["k,loss_x", "1,2"], None, "no key"),
        (["k,h_a", "1,1"], ["j,loss_x", "1,2"], "k", "no key column 'k'"),
        (["k,h_a", "1,1", "1,1"], ["k,loss_x", "1,2"], "k", "line 3 repeats"),
        (["k,h_a", "1,1"], ["k,loss_x", "2,2"], "k", "no row shares"),
        (["k,h_a", "1,1"], ["k,h_a,loss_x", "1,1,2"], "k", "'h_a' is in"),
    ],
)
def test_joins_that_cannot_be(write, first, second, on, said):
    with pytest.raises(UserError, match=said):
        read_runs([write(*first, name="a.csv"), write(*second, name="b.csv")], on=on)


def test_no_rows_left(write):
    with pytest.raises(UserError, match="no rows left"):
        read_runs(write(HEADER, *ROWS), where="N > 1e12")


def test_targets_asked_for(write):
    path = write(HEADER, *ROWS)
    assert read_runs(path, targets=["y"]).targets == ("y",)
    with pytest.raises(UserError, match="no target 'z'"):
        read_runs(path, targets=["z"])
    with pytest.raises(UserError, match="'y' has no measured loss"):
        read_runs(path, where="D == 4e9", targets=["y"])
    with pytest.warns(MixjaxWarning, match="targets y have no measured loss"):
        assert read_runs(path, where="D == 4e9").targets == ("x",)


# ------------------------------------------------------------------ what is said


def test_rounded_weights_are_renormalised_with_a_warning(write):
    path = write(HEADER, *changed(2, "h_a", "0.5005"))
    with pytest.warns(MixjaxWarning, match=r"weights of 1 rows sum to 1 only within 5\.0e-04"):
        runs = read_runs(path)
    np.testing.assert_allclose(runs.h.sum(axis=1), 1.0, atol=1e-15)
    read_runs(write(HEADER, *changed(2, "h_a", "0.5000001")))  # silent: warnings are errors here


def test_copied_checkpoints_are_reported(write):
    with pytest.warns(MixjaxWarning, match="1 rows are exact copies"):
        read_runs(write(HEADER, *ROWS, "2e8,2.1e9,0.5,0.5,2.9,2.3,train,r2"))


# ------------------------------------------------------------------ Runs


def test_reordered(write):
    runs = read_runs(write(HEADER, *ROWS))
    np.testing.assert_array_equal(runs.reordered(("b", "a")).h, runs.h[:, ::-1])
    with pytest.raises(UserError, match="no weights of domain 'c'"):
        runs.reordered(("a", "c"))
    with pytest.raises(UserError, match=r"line 2: weight 0\.75 on domain 'b'"):
        runs.reordered(("a",))
    np.testing.assert_array_equal(runs.select(runs.h[:, 1] == 0).reordered(("a",)).h, [[1.0]])


def test_fingerprint_is_of_the_content(write):
    runs = read_runs(write(HEADER, *ROWS))
    assert runs.fingerprint() == read_runs(write(HEADER, *ROWS, name="other.csv")).fingerprint()
    assert runs.fingerprint() != read_runs(write(HEADER, *changed(0, "loss_x", "3.2"))).fingerprint()


def test_runs_are_read_once(write):
    runs = read_runs(write(HEADER, *ROWS))
    assert read_runs(runs) is runs
    with pytest.raises(UserError, match="already read"):
        read_runs(runs, where="N > 1")


# ------------------------------------------------------------------ reference data


@pytest.mark.parametrize(
    ("name", "where", "rows", "k", "targets"),
    [
        ("slimpajama.csv", "split == 'train'", 1374, 7, 8),
        ("slimpajama.csv", "split == 'eval'", 36, 7, 8),
        ("chinchilla.csv", "split == 'train'", 240, 0, 1),
        ("regmix_1m_train.csv", None, 512, 17, 13),
        ("regmix_1m_test.csv", None, 256, 17, 13),
        ("pile4.csv", None, 85, 4, 4),
    ],
)
def test_reference_tables(name, where, rows, k, targets):
    runs = read_runs(reference_data(name), where=where)
    assert (len(runs), len(runs.domains), len(runs.targets)) == (rows, k, targets)


def test_slimpajama_in_full():
    path = reference_data("slimpajama.csv")
    with pytest.warns(MixjaxWarning, match="224 rows are exact copies"):
        assert len(read_runs(path)) == 2452
    train = read_runs(path, where="split == 'train'")
    assert {t: int(np.isnan(train.loss(t)).sum()) for t in ("github", "stackexchange", "wikipedia", "openhermes", "arxiv")} == {
        "github": 2,
        "stackexchange": 5,
        "wikipedia": 6,
        "openhermes": 3,
        "arxiv": 0,
    }
