"""fit, score, predict and compare on the command line: tables, JSON, a user's own law."""

from __future__ import annotations

import io
import json
import os

import numpy as np
import pandas as pd
import pytest

from tests.cli import QUICK


def test_fit_writes_a_fit_and_prints_a_table(folder, run, tmp_path):
    code, out, err = run(
        "fit", folder / "runs.csv", "-o", tmp_path / "f.json", "--where", "split == 'train'", *QUICK
    )
    assert code == 0
    assert json.loads((tmp_path / "f.json").read_text())["law"] == "additive"
    assert [line.split()[0] for line in out.splitlines()[3:]] == ["web", "maths"]
    assert "saved" in err
    assert "not saved" not in out
    assert os.listdir(tmp_path) == ["f.json"]


def test_a_fit_that_is_not_saved_says_so_and_odd_losses_are_told(folder, run, table, tmp_path):
    other = table.copy()
    other.loc[5, "loss_web"] *= 10
    other.to_csv(tmp_path / "runs.csv", index=False)
    code, out, err = run("fit", tmp_path / "runs.csv", "--where", "split == 'train'", *QUICK)
    assert code == 0
    assert out.splitlines()[-1].startswith("not saved: -o fit.json")
    assert (
        f"runs.csv, line 7: loss {other.loc[5, 'loss_web']:.4g} of 'web', where the law has" in err
    )
    assert run("fit", folder / "runs.csv", "--where", "split == 'train'", *QUICK)[2] == ""


def test_predictions_have_few_digits_on_a_terminal_alone(folder, run, monkeypatch):
    argv = ("predict", folder / "fit.json", folder / "points.csv")
    full = pd.read_csv(io.StringIO(run(*argv)[1]))
    monkeypatch.setattr("mixjax.cli.files.sys.stdout.isatty", lambda: True)
    text = run(*argv)[1]
    assert text.splitlines()[1].startswith("007,1e9,2e10,0.5,0.5,NA,")
    brief = pd.read_csv(io.StringIO(text))
    np.testing.assert_allclose(brief["loss_web"], full["loss_web"], rtol=1e-5)
    assert len(text.splitlines()[1].split(",")[-1]) <= 7 < len(str(full["loss_web"][0]))


def test_fit_json_is_one_object(folder, read):
    content = read(
        "fit",
        folder / "runs.csv",
        "--where",
        "split == 'train'",
        "--targets",
        "maths,web",
        *QUICK,
    )
    assert set(content) >= {"law", "objective", "params", "search", "seconds"}
    assert list(content["objective"]) == ["maths", "web"]
    assert len(content["params"]["web"]["C"]) == 2


def test_score_json_is_the_contract(folder, read):
    content = read(
        "score",
        folder / "fit.json",
        folder / "runs.csv",
        "--where",
        "split == 'eval'",
    )
    assert set(content) == {"targets", "mean"}
    assert set(content["targets"]) == {"web", "maths"}
    numbers = {"mre", "mae", "r2", "huber", "rank"}
    assert all(set(target) == {"n", *numbers} for target in content["targets"].values())
    assert set(content["mean"]) == numbers
    assert content["mean"]["mre"] == pytest.approx(
        np.mean([target["mre"] for target in content["targets"].values()])
    )
    assert content["mean"]["mre"] < 2
    assert content["targets"]["web"]["n"] == 12


def test_a_number_that_is_missing_is_left_out_of_the_mean(folder, table, run, tmp_path, read):
    table.iloc[:1].to_csv(tmp_path / "one.csv", index=False)
    content = read("score", folder / "fit.json", tmp_path / "one.csv")
    assert content["mean"]["r2"] is None
    code, out, _ = run("score", folder / "fit.json", tmp_path / "one.csv")
    assert code == 0
    assert out.splitlines()[-1].startswith("mean")


def test_predict_adds_columns_and_keeps_the_rest(folder, run, tmp_path, read):
    code, out, err = run("predict", folder / "fit.json", folder / "points.csv")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "id,N,D,h_web,h_code,note,loss_web,loss_maths"
    assert lines[1].startswith("007,1e9,2e10,0.5,0.5,NA,")
    assert run("predict", folder / "fit.json", folder / "points.csv", "-o", tmp_path / "o.csv")[
        :2
    ] == (0, "")
    assert (tmp_path / "o.csv").read_text() == out
    losses = read("predict", folder / "fit.json", folder / "points.csv")["losses"]
    assert losses["web"] == [float(line.split(",")[-2]) for line in lines[1:]]


@pytest.mark.parametrize("ending", ["", "\n\n"])
def test_predict_keeps_rows_and_losses_together(folder, run, tmp_path, ending):
    header, first, second = (folder / "points.csv").read_text().splitlines()
    (tmp_path / "p.csv").write_text(
        f'\n{header}\n{first.removesuffix("NA")}"two\nlines"\n\n{second}\n{ending}'
    )
    code, out, err = run("predict", folder / "fit.json", tmp_path / "p.csv")
    assert (code, err) == (0, "")
    plain = pd.read_csv(io.StringIO(run("predict", folder / "fit.json", folder / "points.csv")[1]))
    pd.testing.assert_frame_equal(
        pd.read_csv(io.StringIO(out)).drop(columns="note"), plain.drop(columns="note")
    )


def test_compare_json_is_the_contract(folder, read):
    split = ["--where", "split == 'train'", "--eval-where", "split == 'eval'"]
    content = read(
        "compare",
        folder / "runs.csv",
        "--laws",
        "chinchilla,additive",
        *split,
        "--starts",
        "4",
        "--hops",
        "0",
    )
    assert list(content) == ["laws"]
    assert list(content["laws"]) == ["chinchilla", "additive"]
    assert set(content["laws"]["additive"]) == {"train", "eval"}
    assert set(content["laws"]["additive"]["eval"]) == {"web", "maths", "mean"}


OWN = """
import mixjax as mj
LAW = mj.Law("flat", (mj.Parameter("E"), mj.Parameter("B"), mj.Parameter("beta")),
             lambda p, h: mj.Coefficients(E=p["E"], B=p["B"], beta=p["beta"]))
NAMED = mj.Law("joint", (mj.Parameter("E"),), lambda p, h: mj.Coefficients(E=p["E"]))
NUMBER = 3
"""


def test_a_law_from_a_file(folder, run, refused, tmp_path, read):
    own, out, runs = tmp_path / "own.py", tmp_path / "own.json", folder / "runs.csv"
    own.write_text(OWN)
    assert (
        run("fit", runs, "-o", out, "--law", f"{own}:LAW", "--starts", "2", "--hops", "0")[0] == 0
    )
    assert read("score", out, runs, "--law", f"{own}:LAW")["mean"]["mre"] < 20
    assert run("predict", out, folder / "points.csv", "--law", f"{own}:LAW")[0] == 0
    refused("score", out, runs, words=("'flat'", "--law FILE.py:NAME"))
    refused(
        "score", folder / "fit.json", runs, "--law", f"{own}:LAW", words=("'additive'", "'flat'")
    )
    refused("score", out, runs, "--law", "joint", words=("FILE.py:NAME",))
    refused("fit", runs, "--law", f"{own}:LOW", words=("own.py", "'LOW'"))
    refused("fit", runs, "--law", f"{own}:NUMBER", words=("int",))
    refused("fit", runs, "--law", f"{own}:NAMED", words=("'joint'",))
    refused("fit", runs, "--law", f"{tmp_path / 'none.py'}:LAW", words=("none.py", "no such file"))
    own.write_text("x = 1\nLAW = 1 / 0\n")
    refused("fit", runs, "--law", f"{own}:LAW", words=("own.py, line 2", "ZeroDivisionError"))
    own.write_text("x = 1\nLAW = (\n")
    refused("fit", runs, "--law", f"{own}:LAW", words=("own.py, line 2", "SyntaxError"))


def test_predict_tells_of_shares_beyond_the_fitted_ones(folder, run, tmp_path):
    (tmp_path / "far.csv").write_text("N,D,h_web,h_code\n1e9,2e10,1,0\n")
    code, out, err = run("predict", folder / "fit.json", tmp_path / "far.csv")
    assert (code, out.count("\n")) == (0, 2)
    assert "share of 'web' is 1, trained between" in err
