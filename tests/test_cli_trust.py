"""validate, intervals and identify on the command line: tables, JSON, one line for every
mistake."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from mixjax.cli import main
from mixjax.data.design import design_mixtures
from mixjax.errors import UserError
from mixjax.fitting.simulate import random_truth, simulate_runs

QUICK = ["--starts", "8", "--hops", "0"]
TRAIN = ["--where", "split == 'train'"]


@pytest.fixture(scope="module")
def trusting(tmp_path_factory):
    place = tmp_path_factory.mktemp("trusting")
    h = design_mixtures(["d0", "d1"], 6, minimum=0.05).to_numpy()
    rows = [(N, D, m) for N in (1e8, 3e8, 1e9, 3e9) for D in (5e9, 2e10) for m in range(len(h))]
    N, D, m = (np.array(column) for column in zip(*rows, strict=True))
    table = simulate_runs(random_truth("additive", 2, ["d0", "t"], seed=1), h[m], N, D, noise=0.001)
    table.insert(0, "split", np.where(N < 3e9, "train", "eval"))
    table.to_csv(place / "runs.csv", index=False)
    (place / "points.csv").write_text(
        "id,N,D,h_d0,h_d1\n007,1e9,2e10,0.5,0.5\n008,7e9,1.5e11,0.99,0.01\n"
    )
    assert (
        main(
            [
                "fit",
                str(place / "runs.csv"),
                "-o",
                str(place / "fit.json"),
                "--law",
                "additive",
                "--no-cache",
                *TRAIN,
                *QUICK,
            ]
        )
        == 0
    )
    return place


def test_validate_by_size_and_by_mixture(trusting, run, read):
    found = read("validate", trusting / "runs.csv", "--law", "additive", *QUICK)
    assert found["folds"] == [{"name": "N >= 3e+09", "rows": 12}]
    assert set(found["targets"]) == {"d0", "t"}
    assert found["targets"]["d0"]["n"] == 12
    code, out, _ = run(
        "validate",
        trusting / "runs.csv",
        "--law",
        "additive",
        "--by",
        "mixture",
        "--folds",
        "2",
        *TRAIN,
        *QUICK,
    )
    assert code == 0
    assert "2 folds by mixture" in out
    assert "regret" in out


def test_intervals_at_points(trusting, run, tmp_path, read):
    command = [
        "intervals",
        trusting / "fit.json",
        trusting / "runs.csv",
        trusting / "points.csv",
        *TRAIN,
        "--resamples",
        "20",
    ]
    code, out, err = run(*command, "-o", tmp_path / "out.csv")
    assert (code, out, err) == (0, "", f"saved: {tmp_path / 'out.csv'}\n")
    table = pd.read_csv(tmp_path / "out.csv", dtype={"id": str})
    assert table["id"].tolist() == ["007", "008"]
    for t in ("d0", "t"):
        assert (
            (table[f"low_{t}"] < table[f"loss_{t}"]) & (table[f"loss_{t}"] < table[f"high_{t}"])
        ).all()
    found = read(*command, "--level", "0.5")
    assert found["level"] == 0.5
    assert found["targets"]["t"]["low"][0] > table["low_t"][0]


def test_intervals_of_the_best_mixture(trusting, run, read):
    command = [
        "intervals",
        trusting / "fit.json",
        trusting / "runs.csv",
        "-N",
        "7e9",
        "-D",
        "1.5e11",
        *TRAIN,
        "--resamples",
        "20",
    ]
    found = read(*command)
    for share in found["weights"].values():
        assert 0 <= share["low"] <= share["high"] <= 1
    assert found["objective"]["low"] <= found["objective"]["best"] <= found["objective"]["high"]
    code, out, _ = run(*command, "--cap", "d0=0.3")
    assert code == 0
    assert "regret at most" in out


def test_identify_names_points_outside(trusting, run, read):
    found = read(
        "identify",
        trusting / "fit.json",
        trusting / "runs.csv",
        *TRAIN,
        "--points",
        trusting / "points.csv",
    )
    assert [o["row"] for o in found["outside"]] == [3]
    assert found["targets"]["t"]["parameters"] == 9
    code, out, _ = run("identify", trusting / "fit.json", trusting / "runs.csv", *TRAIN)
    assert code == 0
    assert "pinned down" in out


def test_other_rows_than_the_fitted_are_warned_of(trusting, run):
    code, _, err = run("identify", trusting / "fit.json", trusting / "runs.csv")
    assert code == 0
    assert "these are not the rows that were fitted" in err


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["validate", "runs.csv", "--by", "size"], "'size'"),
        (["validate", "runs.csv", "--by", "N", "--folds", "3"], "folds go with mixture or run"),
        (
            ["validate", "runs.csv", "--by", "mixture", "--folds", "99", "--law", "additive"],
            "give 2 to 6",
        ),
        (["intervals", "fit.json", "runs.csv", *TRAIN, "-N", "7e9"], "D is missing"),
        (
            ["intervals", "fit.json", "runs.csv", "points.csv", *TRAIN, "-N", "7e9"],
            "goes with the best mixture",
        ),
        (["intervals", "fit.json", "runs.csv", "points.csv", *TRAIN, "--level", "1"], "--level"),
        (
            ["intervals", "fit.json", "runs.csv", "points.csv", *TRAIN, "-o", "runs.csv"],
            "is also read",
        ),
        (
            ["intervals", "fit.json", "runs.csv", "points.csv", *TRAIN, "--resamples", "3"],
            "--resamples",
        ),
        (["identify", "fit.json", "none.csv"], "none.csv"),
    ],
)
def test_mistakes_are_told_in_one_line(trusting, run, monkeypatch, argv, words):
    monkeypatch.chdir(trusting)
    code, out, err = run(*argv)
    assert (code, out) == (2, "")
    (line,) = [line for line in err.splitlines() if "warning" not in line]
    assert line.startswith("mixjax: error: ")
    assert words in line


def test_compare_chooses_and_says_why(trusting, tmp_path, read):
    command = [
        "compare",
        trusting / "runs.csv",
        "--laws",
        "chinchilla,additive",
        *TRAIN,
        "--eval-where",
        "split == 'eval'",
        *QUICK,
    ]
    found = read(
        *command,
        "--choose",
        "--by",
        "N,mixture",
        "--deltas",
        "1e-3,1e-2",
        "-o",
        tmp_path / "chosen.json",
    )
    assert set(found["laws"]["additive"]) == {"train", "eval"}
    assert found["choice"]["law"] == "additive"
    assert len(found["choice"]["options"]) == 4
    assert set(found["choice"]["options"][0]["errors"]) == {"N", "mixture"}
    saved = json.loads((tmp_path / "chosen.json").read_text())
    assert (saved["law"], saved["delta"]) == ("additive", found["choice"]["delta"])
    assert set(read(*command)) == {"laws"}


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--by", "N"], "--by: goes with --choose"),
        (["-o", "fit2.json"], "-o: goes with --choose"),
        (["--choose", "--by", "size"], "'size' is none of N, D, mixture, run"),
        (["--choose", "--deltas", "1e-3,x"], "'x' is not a positive number"),
        (["--choose", "--residuals", "square"], "'square' is none of loss, log"),
        (["--choose", "-o", "runs.csv"], "is also read"),
        (["--choose", "--eval-where", "N > 5e8"], "rows of --eval-where are fitted too"),
    ],
)
def test_mistakes_of_a_choice_are_told_in_one_line(trusting, run, monkeypatch, argv, words):
    monkeypatch.chdir(trusting)
    code, out, err = run(
        "compare", "runs.csv", "--laws", "chinchilla", "--starts", "2", *TRAIN, *argv
    )
    assert (code, out) == (2, "")
    (line,) = [line for line in err.splitlines() if "warning" not in line]
    assert line.startswith("mixjax: error: ")
    assert words in line
    assert not (trusting / "fit2.json").exists()


def test_intervals_tell_of_points_far_from_the_fitted_scales(folder, run, monkeypatch, tmp_path):
    def stop(*_, **__):
        raise UserError("here", "is enough", "stop")

    monkeypatch.setattr("mixjax.trust.uncertainty", stop)
    (tmp_path / "points.csv").write_text("N,D,h_web,h_code\n7,1e10,0.5,0.5\n")
    words = [folder / "fit.json", folder / "runs.csv", tmp_path / "points.csv", *TRAIN]
    code, _, err = run("intervals", *words)
    assert code == 2
    assert "N = 7 is 1.4e+07 times below" in err
