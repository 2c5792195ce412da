"""design and next on the command line: tables, JSON, one line for every mistake."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from mixjax.data.design import design_mixtures
from mixjax.fitting.simulate import random_truth, simulate_runs

SCALE = ["-N", "7e9", "-D", "1.5e11"]


@pytest.fixture(scope="module")
def planning(tmp_path_factory):
    place = tmp_path_factory.mktemp("planning")
    h = design_mixtures(["d0", "d1"], 6, minimum=0.05).to_numpy()
    rows = [(N, D, m) for N in (1e8, 3e8, 1e9) for D in (5e9, 2e10) for m in range(len(h))]
    N, D, m = (np.array(column) for column in zip(*rows, strict=True))
    truth = random_truth("additive", 2, ["d0", "t"], seed=1)
    simulate_runs(truth, h[m], N, D, noise=0.001).to_csv(place / "runs.csv", index=False)
    truth.save(place / "fit.json")
    design_mixtures(["d0", "d1"], 4, minimum=0.1).to_csv(place / "mixtures.csv", index=False)
    random_truth("chinchilla", 0, ["d0", "t"]).save(place / "chinchilla.json")
    return place


def test_dirichlet_designs(run):
    code, out, err = run(
        "design", "--domains", "a,b,c", "--n", "3", "--dirichlet", "0.5", "--min", "0.1"
    )
    assert (code, err) == (0, "")
    expected = design_mixtures(["a", "b", "c"], 3, 0.1, concentration=0.5).to_csv(index=False)
    assert out == expected


def test_next_runs_as_a_table_and_as_json(planning, run, tmp_path):
    command = [
        "next",
        planning / "fit.json",
        planning / "runs.csv",
        "--n",
        "2",
        *SCALE,
        "--size",
        "3e8:2e10",
        "-o",
        tmp_path / "next.csv",
    ]
    code, out, err = run(*command)
    assert (code, err) == (0, f"saved: {tmp_path / 'next.csv'}\n")
    assert "2 runs to train next, aim: best mixture, 7.2e+19 FLOP in all" in out
    code, out, err = run(*command, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out, parse_constant=pytest.fail)
    assert [(r["N"], r["D"], r["flops"]) for r in found["runs"]] == [
        (3e8, 2e10, 6 * 3e8 * 2e10)
    ] * 2
    assert found["runs"][1]["share_sd"] < found["runs"][0]["share_sd"] < found["share_sd"]
    table = pd.read_csv(tmp_path / "next.csv")
    assert list(table) == ["N", "D", "h_d0", "h_d1"]
    np.testing.assert_allclose(table["h_d0"], [r["weights"]["d0"] for r in found["runs"]])


def test_next_puts_points_in_order(planning, run):
    argv = [
        "next",
        planning / "fit.json",
        planning / "runs.csv",
        *SCALE,
        "--points",
        planning / "mixtures.csv",
        "--size",
        "1e8:5e9",
        "--n",
        4,
        "--aim",
        "regret",
    ]
    code, out, err = run(*argv, "--json")
    assert (code, err) == (0, "")
    shares = [r["weights"]["d0"] for r in json.loads(out)["runs"]]
    points = pd.read_csv(planning / "mixtures.csv")
    np.testing.assert_allclose(sorted(shares), sorted(points["h_d0"]))


def test_enough_as_a_table_as_json_and_as_a_figure(planning, run, tmp_path):
    command = [
        "enough",
        planning / "runs.csv",
        "--laws",
        "additive",
        "--counts",
        "3,4",
        "--repeats",
        "2",
        "--starts",
        "3",
    ]
    code, out, err = run(*command, "--figure", tmp_path / "f.png")
    assert (code, err) == (0, "")
    assert "mixtures that no choice of a repeat has" in out
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")
    code, out, err = run(*command, "--json", "--where", "N < 1e9", "--eval-where", "N == 1e9")
    assert (code, err) == (0, "")
    found = json.loads(out, parse_constant=pytest.fail)
    assert found["counts"] == [3, 4]
    assert set(found["laws"]["additive"]["targets"]) == {"d0", "t"}


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["enough", "runs.csv", "--counts", "3,x"], "'3,x' is not a list of whole numbers"),
        (["enough", "runs.csv", "--counts", "99"], "give 1 to"),
        (["enough", "runs.csv", "--repeats", "1"], "--repeats"),
        (["enough", "runs.csv", "--laws", "jiont"], "did you mean 'joint'"),
        (["enough", "runs.csv", "--figure", "f.pdf"], "not named as a PNG"),
        (["enough", "runs.csv", "--eval-where", "N > 1e20"], "no row"),
        (["design", "--domains", "a,b", "--n", "3", "--dirichlet", "0"], "--dirichlet"),
        (["next", "fit.json", "runs.csv", "-N", "7e9"], "D is missing"),
        (["next", "fit.json", "runs.csv", *SCALE, "--size", "3e8"], "'3e8' is not N:D"),
        (
            ["next", "fit.json", "runs.csv", *SCALE, "--size", "3e8:x"],
            "'x' is not a positive number",
        ),
        (["next", "fit.json", "runs.csv", *SCALE, "--aim", "a"], "--aim"),
        (["next", "fit.json", "runs.csv", *SCALE, "--n", "0"], "--n"),
        (
            [
                "next",
                "fit.json",
                "runs.csv",
                *SCALE,
                "--n",
                "9",
                "--points",
                "mixtures.csv",
                "--size",
                "1e8:5e9",
            ],
            "9 runs of 4 candidates",
        ),
        (["next", "fit.json", "runs.csv", *SCALE, "-o", "runs.csv"], "is also read"),
        (["next", "fit.json", "runs.csv", *SCALE, "--weights", "x=1"], "no target 'x'"),
        (["next", "chinchilla.json", "runs.csv", *SCALE], "it has no domains"),
        (["next", "none.json", "runs.csv", *SCALE], "none.json"),
    ],
)
def test_mistakes_are_told_in_one_line(planning, run, monkeypatch, argv, words):
    monkeypatch.chdir(planning)
    code, out, err = run(*argv)
    assert (code, out) == (2, "")
    (line,) = [line for line in err.splitlines() if "warning" not in line]
    assert line.startswith("mixjax: error: ")
    assert words in line


def test_design_prints_a_table_that_can_be_read_back(run, tmp_path, read):
    code, out, _ = run("design", "--domains", "a,b,c", "--n", "20", "--min", "0.02")
    assert code == 0
    rows = [[float(x) for x in line.split(",")] for line in out.splitlines()[1:]]
    assert out.splitlines()[0] == "h_a,h_b,h_c"
    assert len(rows) == 20
    assert np.allclose(np.sum(rows, axis=1), 1)
    assert np.min(rows) >= 0.02 - 1e-12
    content = read("design", "--domains", "a,b,c", "--n", "20", "--min", "0.02")
    assert [list(m.values()) for m in content["mixtures"]] == rows
    assert run("design", "--domains", "a,b", "--n", "3", "-o", tmp_path / "d.csv")[:2] == (0, "")
    assert len((tmp_path / "d.csv").read_text().splitlines()) == 4
