"""Tables of runs: read, checked, and every mistake told in one line with its place."""

from __future__ import annotations

import gzip

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixjax.data.runs import read_runs, to_frame, warn_repeats
from mixjax.errors import MixjaxWarning, UserError
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


@pytest.mark.parametrize(
    "kind",
    [
        "csv.gz",
        "tsv",
        "parquet",
        "frame",
        "bom",
        "crlf",
        "cr",
        "spaces",
        "padded",
        "blank lines",
        "CSV.GZ",
        "index",
    ],
)
def test_other_containers(write, tmp_path, kind):
    plain = read_runs(write(HEADER, *ROWS))
    text = "\n".join([HEADER, *ROWS]) + "\n"
    path = tmp_path / f"other.{kind if kind.lower() in ('csv.gz', 'tsv', 'parquet') else 'csv'}"
    if kind in ("csv.gz", "CSV.GZ"):
        path.write_bytes(gzip.compress(text.encode(), mtime=0))
    elif kind == "tsv":
        path.write_text(text.replace(",", "\t"))
    elif kind == "parquet":
        pd.read_csv(tmp_path / "runs.csv").to_parquet(path)
    elif kind == "bom":
        path.write_text(text, encoding="utf-8-sig")
    elif kind == "crlf":
        path.write_bytes(text.replace("\n", "\r\n").encode())
    elif kind == "cr":
        path.write_bytes(text.replace("\n", "\r").encode())
    elif kind == "spaces":
        path.write_text(text.replace("h_a", " h_a ").replace("loss_x", "loss_x "))
    elif kind == "padded":
        path.write_text(text.replace(",", ", "))
    elif kind == "blank lines":
        path.write_text("\n" + text.replace("\n", "\n\n") + ",,,,,,,\n")
    frame = pd.read_csv(tmp_path / "runs.csv")
    source = {
        "frame": frame.rename(columns={"h_a": " h_a "}),
        "index": frame.set_index(["N", "run"]),
    }.get(kind, path)
    runs = read_runs(source)
    assert runs.fingerprint() == plain.fingerprint()
    assert (runs.domains, runs.targets) == (plain.domains, plain.targets)


def test_parquet_keeps_its_named_index(write, tmp_path):
    table = pd.read_csv(write(HEADER, *ROWS))
    table.set_index("N").to_parquet(tmp_path / "runs.parquet")
    np.testing.assert_array_equal(read_runs(tmp_path / "runs.parquet").N, [1e8, 1e8, 2e8, 8e8])


@pytest.mark.parametrize(
    "dtype",
    ["float32", "Float64", "object", "category", "string", "string[pyarrow]", "double[pyarrow]"],
)
def test_kinds_of_number_columns(write, dtype):
    table = pd.read_csv(write(HEADER, *ROWS))
    kinds = {column: table[column].astype(dtype) for column in ("N", "h_a", "loss_y")}
    runs = read_runs(table.assign(**kinds))
    np.testing.assert_array_equal(runs.N, [1e8, 1e8, 2e8, 8e8])
    np.testing.assert_array_equal(runs.h[:, 0], [0.25, 0.25, 0.5, 1])
    np.testing.assert_array_equal(
        runs.loss("y"),
        np.array([2.5, np.nan, 2.3, 2.0], dtype="float32" if dtype == "float32" else float),
    )


@pytest.mark.parametrize(
    "cells",
    [
        [True, True],
        pd.array([True, None], dtype="boolean"),
        pd.array([True, False], dtype="bool[pyarrow]"),
        np.array([True, 2.0], dtype=object),
        [1 + 0j, 2 + 0j],
        pd.to_datetime(["2020", "2021"]),
        pd.to_timedelta([1, 2], unit="s"),
        [[1.0], [2.0]],
    ],
    ids=["bool", "boolean", "arrow", "object", "complex", "date", "duration", "list"],
)
def test_what_is_no_number(cells):
    table = pd.DataFrame({"D": [1e9, 2e9], "loss_x": [3.0, 2.9]})
    for column in ("N", "h_a", "loss_y"):
        with pytest.raises(
            UserError, match=f"DataFrame, column '{column}', line 2: .* is not a number"
        ):
            read_runs(table.assign(**{column: cells}))


def test_a_whole_number_beyond_float64_is_no_number():
    table = pd.DataFrame({"N": np.array([7, 10**400], dtype=object), "loss_x": [3.0, 2.9]})
    with pytest.raises(UserError, match=r"column 'N', line 3: 1000.* is not a number"):
        read_runs(table)


def test_a_join_names_the_line_of_the_file_a_cell_came_from_whichever_rows_are_selected(write):
    sizes, losses = (
        write("k,N", "1,1e8", "2,2e8", "3,3e8", name="n.csv"),
        write("k,loss_x", "3,0", "2,2", "1,1", name="l.csv"),
    )
    with pytest.raises(UserError, match=r"^l\.csv, column 'loss_x', line 2: "):
        read_runs([sizes, losses], on="k", where="N > 2.5e8")


def test_empty_cells_stay_in_their_column_whatever_ends_the_lines(tmp_path):
    for end in ("\n", "\r\n", "\r"):
        (tmp_path / "r.csv").write_bytes(
            end.join(["note,N,loss_x", "", ",1,2", ",3,4", ""]).encode()
        )
        np.testing.assert_array_equal(read_runs(tmp_path / "r.csv").N, [1, 3])


def test_names_that_are_no_text():
    runs = read_runs(
        pd.DataFrame({"loss_x": [3.0, 2.9], "D": [1, 2], 7: [1, 0]}, index=[5, 5]), where="`7` == 0"
    )
    np.testing.assert_array_equal(runs.rows, [3])


def test_a_frame_is_left_alone(write):
    table = pd.read_csv(write(HEADER, *ROWS))
    table = table.rename(columns={"h_a": " h_a "}).set_index("run")
    before = table.copy(deep=True)
    runs = read_runs(table, where="N < 5e8")
    pd.testing.assert_frame_equal(table, before)
    runs.h[:], runs.losses[:] = 0, 0
    pd.testing.assert_frame_equal(table, before)


def test_released_layout_of_the_paper(write):
    path = write(
        "weight_a,weight_b,model_size,n_tokens,x_loss", "0.25,0.75,100,2,3.1", "0.5,0.5,200,4,2.9"
    )
    columns = {
        "h": "weight_{}",
        "loss": "{}_loss",
        "N": {"column": "model_size", "times": 1e6},
        "D": "n_tokens",
    }
    runs = read_runs(path, columns=columns)
    assert (runs.domains, runs.targets) == (("a", "b"), ("x",))
    np.testing.assert_array_equal(runs.N, [1e8, 2e8])
    assert (
        len(read_runs(path, columns=columns, where="model_size > 150 and h_a == 0.5 and N == 2e8"))
        == 1
    )


@pytest.mark.parametrize(
    "columns",
    [
        {"N": "size*1e6", "h": "pct_{}*0.01"},
        {"N": "size * 1e6", "h": {"a": "pct_a*1e-2", "b": "pct_b * 0.01"}},
        {"N": {"column": "size", "times": 1e6}, "h": "pct_{}*.01"},
    ],
)
def test_a_column_times_a_factor(write, columns):
    path = write("pct_a,pct_b,size,D,loss_x", "25,75,100,2,3.1", "50,50,200,4,2.9")
    runs = read_runs(path, columns=columns, where="N == 1e8 and h_a < 0.3")
    np.testing.assert_array_equal(runs.N, [1e8])
    np.testing.assert_allclose(runs.h, [[0.25, 0.75]], rtol=1e-15)
    doubled = read_runs(path, columns=columns | {"loss": "loss_{}*2"})
    np.testing.assert_array_equal(doubled.loss("x"), [6.2, 5.8])


def test_a_column_that_has_a_star_in_its_name():
    table = pd.DataFrame({"N*2": [5.0], "h_a*2": 1.0, "loss_x": 3.0})
    runs = read_runs(table, columns={"N": "N*2", "h": "h_{}"})
    assert (runs.N, runs.domains) == ([5.0], ("a*2",))
    np.testing.assert_array_equal(read_runs(table, columns={"N": "N*2*10"}).N, [50.0])


def test_a_faulty_cell_of_a_scaled_column_is_told_as_it_stands(write):
    path = write("size,loss_x", "100,3.1", "-7,2.9")
    with pytest.raises(UserError, match="column 'size', line 3: -7 is not a positive count"):
        read_runs(path, columns={"N": "size*1e6"})


def test_two_files_joined_on_a_key(write):
    weights = write(
        "index,train_a,train_b", "1,0.25,0.75", "2,0.5,0.5", "3,1,0", name="weights.csv"
    )
    losses = write("index,valid_x", "3,2.5", "1,3.1", "2,2.9", name="losses.csv")
    runs = read_runs(
        [weights, losses],
        on="index",
        columns={"h": "train_{}", "loss": "valid_{}", "N": 1e6, "D": 1e9},
    )
    np.testing.assert_array_equal(runs.loss("x"), [3.1, 2.9, 2.5])
    np.testing.assert_array_equal(runs.N, [1e6] * 3)
    assert runs.name == "weights.csv + losses.csv"
    assert (
        len(
            read_runs(
                [weights, losses],
                on="index",
                columns={"h": "train_{}", "loss": "valid_{}", "N": 1e6},
                where="N == 1e6 and index < 3",
            )
        )
        == 2
    )


def test_a_join_on_two_keys_of_three_tables():
    one = pd.DataFrame({"a": [1, 1, 2], "b": ["x", "y", "x"], "h_only": 1})
    runs = read_runs(
        [
            one,
            one[["b", "a"]].assign(N=[3, 2, 1])[::-1],
            one[["a", "b"]].assign(loss_x=[1.0, 2.0, 3.0]),
        ],
        on=["a", "b"],
    )
    np.testing.assert_array_equal(runs.N, [3, 2, 1])
    np.testing.assert_array_equal(runs.loss("x"), [1, 2, 3])


def test_rows_without_a_partner_are_left_out_with_a_warning(write):
    first, second = (
        write("k,h_a", "1,1", "2,1", "3,1", name="a.csv"),
        write("k,loss_x", "3,2", "9,1", name="b.csv"),
    )
    with pytest.warns(
        MixjaxWarning, match=r"a.csv \+ b.csv: 2 and 1 rows have a key that the other table lacks"
    ):
        runs = read_runs([first, second], on="k")
    np.testing.assert_array_equal(runs.rows, [4])


def test_names_given_one_by_one(write):
    path = write("w1,w2,c,N,D", "0.25,0.75,3.1,1e8,2e9")
    runs = read_runs(path, columns={"h": {"first": "w1", "second": "w2"}, "loss": {"x": "c"}})
    assert (runs.domains, runs.targets) == (("first", "second"), ("x",))


def test_tables_without_scale_or_mixture(write):
    runs = read_runs(write("h_a,h_b,loss_x", "0.25,0.75,3.1"))
    assert runs.N is None
    assert runs.D is None
    assert read_runs(write("N,D,loss_x", "1e8,2e9,3.1")).h.shape == (1, 0)


@given(st.integers(1, 20), st.integers(1, 8), st.integers(0, 2**32 - 1), st.booleans())
def test_round_trip(k, rows, seed, named):
    draw = np.random.default_rng(seed)
    losses = np.where(draw.uniform(size=(rows, 3)) < 0.3, np.nan, draw.uniform(0.1, 20, (rows, 3)))
    losses[0] = 1.0
    table = pd.DataFrame(
        np.round(draw.dirichlet(np.full(k, 0.4), rows), 8), columns=[f"h_{i}" for i in range(k)]
    )
    table = table.assign(
        N=10 ** draw.uniform(6, 12, rows),
        D=10.0 ** np.arange(1, rows + 1),
        loss_x=losses[:, 0],
        loss_y=losses[:, 1],
        loss_z=losses[:, 2],
    )
    if named:
        table["run"] = [f"r{i}" for i in range(rows)]
    runs = read_runs(table)
    again = read_runs(to_frame(runs))
    assert again.fingerprint() == runs.fingerprint()
    assert (again.run is not None) == named
    np.testing.assert_array_equal(again.losses, losses)
    np.testing.assert_allclose(runs.h.sum(axis=1), 1.0, rtol=0, atol=k * np.finfo(float).eps)


def test_numbers_read_back_exactly(write):
    losses = np.random.default_rng(0).uniform(1, 5, 500)
    path = write("N,D,loss_x", *(f"1e8,{i + 1}e9,{x!r}" for i, x in enumerate(losses.tolist())))
    np.testing.assert_array_equal(read_runs(path).loss("x"), losses)
    path.write_text(path.read_text() + "1e8,1,oops\n")  # which makes the column text
    np.testing.assert_array_equal(read_runs(path, where="D > 1").loss("x"), losses)


def test_weights_that_sum_to_1_are_read_as_written():
    h = np.random.default_rng(1).dirichlet(np.ones(17), 200)
    table = pd.DataFrame(h, columns=[f"h_{i}" for i in range(17)]).assign(loss_x=1.0)
    np.testing.assert_array_equal(read_runs(table).h, h)


def test_run_ids_are_text(write):
    runs = read_runs(write("run,N,loss_x", "1,1,3", ",2,3"))
    assert [type(r) for r in runs.run] == [str, str]
    assert runs.run[1] == ""


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
        ("D", "1e400", ["'D'", "line 4", "positive"]),
        ("D", "1_000", ["'D'", "line 4", "'1_000'", "number"]),
        ("N", "True", ["'N'", "line 4", "'True'", "number"]),
        ("h_a", "50%", ["'h_a'", "line 4", "'50%'", "number"]),
        ("h_a", "nan", ["'h_a'", "line 4", "empty"]),
        ("h_a", "1e308", ["h_a, h_b", "line 4", "sum to 1e+308"]),
        ("h_a", "0.5011", ["h_a, h_b", "line 4", "sum to 1.0011"]),
        ("loss_x", "x" * 500, ["'loss_x'", "line 4", "'xxx", "..."]),
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
    assert len(message) < 250
    for part in said:
        assert part in message
    assert (
        len(read_runs(path, where="split == 'eval'")) == 1
    )  # rows that are not selected do not matter


def test_the_first_bad_line_is_named(write):
    cells = ["1e8,2e9,3.1", "1e8,-1,3.0", "1e8,many,2.9", "1e8,,2.9"]
    for first, said in ((1, "line 2: '-1'"), (2, "line 2: 'many'"), (3, "line 2: an empty cell")):
        with pytest.raises(UserError, match=said):
            read_runs(write("N,D,loss_x", *cells[first:], *cells[:first]))


def test_lines_are_those_of_the_file(write):
    path = write("N,D,loss_x,note", '1,2,3,"two', 'lines"', "", "1,3,0,x")
    with pytest.raises(UserError, match="line 5: 0"):
        read_runs(path)
    np.testing.assert_array_equal(read_runs(path, where="D == 2").rows, [2])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"N,D,loss_x\n", "no rows"),
        (b"N,D,N,loss_x\n1,2,3,4\n", "'N' occurs twice"),
        (b"N,D,loss_x\n1,2,3,4,5\n", "cells, the header has 3"),
        (b"N,D,loss_x\n1,2,3\n1,2,3,4\n", "cells, the header has 3"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\xff\xfe", "UTF-8|not a table|no loss"),
        (b'{"a": 1, "b": [1, 2]}\n', "no rows|no loss"),
        (b"N,D,h_a\n1,2,1\n", "no loss_<target> column"),
        (b"\n\n", "is empty"),
        (b"\n1,2\n", "has no rows"),
        (b"N,D,loss_x\n1,2,3\n1,2\n", "line 3 has 2 cells, the header has 3"),
        (b"N,D,loss_x\n\n1,2,3,\n", "line 3 has 4 cells, the header has 3"),
        (b"N;D;loss_x\n1;2;3\n", "the separator is ';'"),
        (b'[\n{"N": 1, "D": 2}\n]\n', "line 2 has 2 cells"),
        (b"a\0b,c\n1,2\n", "cannot be printed"),
        (b'"N\nx",D\n1,2\n', "cannot be printed"),
        (b'N,D,loss_x\n1,2,"3\n', "cannot be read"),
        (b"N,D,loss_x\n1,2," + b"3" * 200_000, "cannot be read"),
        (b"N,D,loss_x,note\n" + b"1,2,3,x\n" * 10_000 + b"1,2,3,\xe9\n", "UTF-8"),
        ("N,D,loss_x\n1,2,3\n".encode("utf-16"), "UTF-8"),
    ],
)
def test_files_that_are_no_tables(tmp_path, content, said):
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=said) as error:
        read_runs(path)
    assert "bad.csv" in str(error.value)
    assert "\n" not in str(error.value)


def packed(cut=None, overwritten=slice(0)):
    """A gzipped table, cut off or with bytes overwritten."""
    content = bytearray(gzip.compress("\n".join([HEADER, *ROWS]).encode(), mtime=0))
    content[overwritten] = b"\xff" * len(content[overwritten])
    return bytes(content[:cut])


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("missing.csv", None, "No such file"),
        ("missing.parquet", None, "No such file"),
        ("missing", None, "No such file"),
        ("nul\0.csv", None, "cannot be read"),
        ("x" * 5000 + ".csv", None, "name too long"),
        ("runs.xlsx", b"x", "unknown kind of file '.xlsx'"),
        ("runs", b"N,loss_x\n1,2\n", "unknown kind of file ''"),
        ("runs.gz", packed(), "unknown kind of file '.gz'"),
        ("broken.parquet", b"PAR1 nonsense", "is not a Parquet file or is broken"),
        ("empty.parquet", b"", "is not a Parquet file or is broken"),
        ("text.csv.gz", b"N,loss_x\n1,2\n", "Not a gzipped file"),
        ("cut.csv.gz", packed(cut=40), "cannot be read"),
        ("broken.csv.gz", packed(overwritten=slice(20, 60)), "cannot be read"),
        ("empty.csv.gz", gzip.compress(b"", mtime=0), "is empty"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, name, content, said):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=said) as error:
        read_runs(tmp_path / name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["folder", "folder.csv", "folder.parquet"])
def test_a_directory_is_no_table(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(UserError, match=f"{name}: is a directory"):
        read_runs(tmp_path / name)


@pytest.mark.parametrize(
    "damage",
    [
        lambda b: b[: len(b) // 2],
        lambda b: b[:30] + b"\xff" * 30 + b[60:],
        lambda b: b[:-60] + b"\xff" * 40 + b[-20:],
    ],
)
def test_broken_parquet(write, tmp_path, damage):
    path = tmp_path / "runs.parquet"
    pd.read_csv(write(HEADER, *ROWS)).to_parquet(path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match="is not a Parquet file or is broken"):
        read_runs(path)


def test_parquet_with_broken_metadata(tmp_path):
    path = tmp_path / "runs.parquet"
    pq.write_table(
        pa.table({"N": [1.0], "loss_x": [3.0]}).replace_schema_metadata({b"pandas": b"{}"}), path
    )
    with pytest.raises(UserError, match="is not a Parquet file or is broken"):
        read_runs(path)


@pytest.mark.parametrize(
    "source",
    [
        3,
        None,
        [],
        [3],
        {"N": [1]},
        pd.DataFrame(),
        pd.DataFrame({"N": []}),
        pd.DataFrame(index=[0, 1]),
    ],
)
def test_sources_that_are_no_tables(source):
    with pytest.raises(UserError, match=r"no table in|not a table|has no rows"):
        read_runs(source, on="N")


def test_a_column_that_occurs_twice_in_a_frame():
    with pytest.raises(UserError, match="column '3' occurs twice"):
        read_runs(pd.DataFrame([[1, 2]], columns=[3, "3"]))


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"H": "weight_{}"}, "no key 'H'"),
        ({"h": "weight_"}, "pattern"),
        ({"h": "weight_{}"}, "no column of the form"),
        ({"N": "size"}, "no column 'size'"),
        ({"N": -1.0}, "positive"),
        ({"loss": {"x": "loss_z"}}, "did you mean 'loss_"),
        ({"N": "n"}, "columns are N, D"),
        ({"N": float("nan")}, "N is nan"),
        ({"N": True}, "N is True"),
        ({"D": {"column": "D", "times": "1e6"}}, "D is '1e6'"),
        ({"D": {"column": "D", "times": -1}}, "D is -1"),
        (
            {"D": {"column": "D", "times": 1e306}},
            r"column 'D', line 2: 2000000000\.0 is not a positive count",
        ),
        ({"D": {"column": "D"}}, '"times": factor'),
        ({"D": "D*many"}, r"columns: D is 'D\*many'; write column\*factor with a positive number"),
        ({"D": "D*-1"}, r"D is 'D\*-1'"),
        ({"D": "*3"}, r"D is '\*3'"),
        ({"D": "D*inf"}, r"D is 'D\*inf'"),
        ({"h": "h_{}*zero"}, r"h is 'h_\{\}\*zero'"),
        ({"h": "w_{}*0.01"}, r"no column of the form 'w_\{\}\*0.01'"),
        ({"N": "n*1e6"}, "no column 'n'"),
        ({"run": "run*2"}, r"run is 'run\*2'"),
        ({"loss": 3}, "pattern"),
        ({"h": {"a": "h_a", "b": "h_a"}}, "'h_a' is named twice"),
        ({"loss": "h_{}"}, "'h_a' is named twice"),
        (["h"], "not a mapping"),
        ({1: "N"}, "no key 1"),
        ({"run": 5}, "run is 5"),
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
        (["k,h_a", "1,1"], ["k,loss_x", "1,2", "2,2", "2,2"], "k", "b.csv: line 4 repeats"),
        (["k,h_a", "1,1", ",1"], ["k,loss_x", "1,2", ",2"], "k", "a.csv: line 3 has an empty key"),
        (["k,h_a", "1,1"], ["k,loss_x", "one,2"], "k", "text in one and a number in the other"),
        (["k,h_a", "1,1"], ["k,loss_x", "1,2"], [], "no key"),
        (["k,h_a", "1,1"], ["k,loss_x", "1,2"], 3, "on: 3 is not a name"),
        (["k,h_a", "1,1"], ["k,loss_x", "1,2"], ["k", 3], "is not a name"),
        (
            ["k,loss_x", "1,2", "2,3"],
            ["k,h_a,h_b", "2,1,1", "1,1,0"],
            "k",
            "b.csv, columns h_a, h_b, line 2: domain weights sum to 2",
        ),
        (
            ["k,h_a", "1,1", "2,1"],
            ["k,loss_x", "2,-1", "1,2"],
            "k",
            "b.csv, column 'loss_x', line 2: -1 is not a loss",
        ),
        (
            ["k,h_a", "1,1", "2,x"],
            ["k,loss_x", "2,1", "1,2"],
            "k",
            "a.csv, column 'h_a', line 3: 'x'",
        ),
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
    assert read_runs(path, targets="y").targets == ("y",)
    assert read_runs(path, targets=["y", "x"]).targets == ("y", "x")
    assert read_runs(path, require_losses=False).targets == ()
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
    with pytest.warns(
        MixjaxWarning, match="1 rows are exact copies"
    ):  # a missing loss is no difference
        read_runs(write(HEADER, *ROWS, "1e8,4.1e9,0.25,0.75,3.0,,train,r1"))


@pytest.mark.parametrize(
    "line",
    [
        "2e8,2.1e9,0.5,0.5,2.9,2.3,train,r9",
        "2e8,2.1e9,0.5,0.5,2.9,2.31,train,r2",
        "2e8,2e9,0.5,0.5,2.9,2.3,train,r2",
    ],
)
def test_no_copy_of_another_run_another_loss_or_the_same_tokens(write, line):
    assert len(read_runs(write(HEADER, *ROWS, line))) == 5  # silent: warnings are errors here


def test_rows_without_any_loss_are_no_copies(write):
    assert (
        len(
            read_runs(
                write(HEADER, *ROWS, "2e8,3e9,0.5,0.5,,,train,r2", "2e8,4e9,0.5,0.5,,,train,r2")
            )
        )
        == 6
    )


# ------------------------------------------------------------------ Runs


def test_one_target(write):
    runs = read_runs(write(HEADER, *ROWS))
    np.testing.assert_array_equal(runs.loss("x"), [3.1, 3.0, 2.9, 2.5])
    with pytest.raises(UserError, match="no target 'z'; targets are x, y"):
        runs.loss("z")


def test_select(write):
    runs = read_runs(write(HEADER, *ROWS))
    mask = np.array([False, True, False, True])
    some = runs.select(mask)
    for field in ("N", "D", "h", "losses", "run", "rows"):
        np.testing.assert_array_equal(
            getattr(some, field), getattr(runs, field)[mask], err_msg=field
        )
    assert (some.name, some.domains, some.targets, len(some)) == (
        runs.name,
        runs.domains,
        runs.targets,
        2,
    )
    bare = read_runs(write("loss_x", "3.1", "3.0")).select(np.array([True, False]))
    assert (len(bare), bare.N, bare.D, bare.run) == (1, None, None, None)


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
    assert runs.fingerprint() == read_runs(write(HEADER, *ROWS)).fingerprint()
    others = [
        (HEADER, changed(0, c, v))
        for c, v in (("loss_x", "3.2"), ("loss_y", ""), ("N", "3e8"), ("D", "3e9"))
    ]
    others += [
        (HEADER.replace("h_a", "h_c"), ROWS),
        (HEADER.replace("loss_y", "loss_z"), ROWS),
        (HEADER, ROWS[1:]),
        (HEADER, ROWS[::-1]),
    ]
    others += [
        (HEADER.replace("N,", "x,"), ROWS),
        (HEADER, [row.replace("0.25,0.75", "0.75,0.25") for row in ROWS]),
    ]
    prints = {
        runs.fingerprint(),
        *(read_runs(write(header, *rows)).fingerprint() for header, rows in others),
    }
    assert len(prints) == 1 + len(others)


def test_runs_are_read_once(write):
    runs = read_runs(write(HEADER, *ROWS))
    assert read_runs(runs) is runs
    for late in ({"where": "N > 1"}, {"columns": {}}, {"on": "k"}, {"targets": ["x"]}):
        with pytest.raises(UserError, match="already read"):
            read_runs(runs, **late)


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
    assert {
        t: int(np.isnan(train.loss(t)).sum())
        for t in ("github", "stackexchange", "wikipedia", "openhermes", "arxiv")
    } == {
        "github": 2,
        "stackexchange": 5,
        "wikipedia": 6,
        "openhermes": 3,
        "arxiv": 0,
    }


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        (
            ["N;D;h_a;h_b;loss_x", "1;2;0.5;0.5;3"],
            "line 1: the separator is ';'; save the table with commas",
        ),
        (["N\tD\tloss_x", "1\t2\t3"], "line 1: the separator is a tab; save the table with commas"),
        (
            ["N,D,h_a,h_b,loss_x", "1,2,40,60,3", "1,3,30,70,3"],
            "not to 1 within 0.001 (and 1 more row); they look like percents: divide them by 100",
        ),
        (
            ["N,D,loss_x", '1,2,"3', "1,3,3", "1,4,3"],
            (
                "line 2 has a quoted cell that goes on to line 4: a stray quote hides the "
                "lines between; close or remove"
            ),
        ),
        (
            ["N,D,loss_x", '1,2,"3', '1,3,"3', "1,4,3"],
            "line 2 has a quoted cell that goes on to line 3: a stray quote",
        ),
    ],
    ids=["semicolons", "tabs", "percents", "a stray quote", "two stray quotes"],
)
def test_usual_mistakes_are_told_with_their_remedy(write, lines, what):
    with pytest.raises(UserError) as error:
        read_runs(write(*lines))
    assert what in str(error.value)


def test_rows_that_repeat_exactly_are_told(write):
    runs = read_runs(
        write("N,D,h_a,h_b,loss_x", "1,2,0.5,0.5,3", "1,3,0.5,0.5,2.9", "1,2,0.5,0.5,3")
    )
    with pytest.warns(
        MixjaxWarning,
        match="1 rows repeat another row exactly, the first of them in line 4; remove them",
    ):
        warn_repeats(runs)


# ------------------------------------------------------------------ what is doubtful


def test_weights_under_other_names_are_proposed(write):
    named = HEADER.replace("h_", "w_")
    with pytest.warns(MixjaxWarning, match=r"w_a, w_b sum to 1 .*--columns 'h=w_{}'"):
        assert read_runs(write(named, *ROWS)).domains == ()
    percents = [line.replace("0.25,0.75", "25,75") for line in ROWS[:2]]
    named = HEADER.replace("h_a", "a_share").replace("h_b", "b_share")
    with pytest.warns(MixjaxWarning, match=r"--columns 'h={}_share\*0.01'"):
        read_runs(write(named, *percents))


def test_the_number_of_bad_rows_is_told(write):
    rows = [line.replace("e9,", "e9x,", 1) for line in ROWS]
    with pytest.raises(UserError, match=r"line 2: '2e9x' is not a number \(and 3 more rows\)"):
        read_runs(write(HEADER, *rows))
    rows = [line.replace("0.75", "0.5") for line in ROWS]
    with pytest.raises(UserError, match=r"within 0.001 \(and 1 more row\); give shares"):
        read_runs(write(HEADER, *rows))
