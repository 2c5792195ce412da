"""What tests of the command line share: running a command, reading its JSON, folders of files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mixjax.cli import main
from mixjax.data.design import design_mixtures
from mixjax.fitting.record import Fit
from mixjax.fitting.simulate import known_fit, random_truth, simulate_runs

Done = tuple[int, str, str]  # exit code, stdout, stderr
AT = ["-N", "7e9", "-D", "150e9"]
QUICK = ["--law", "additive", "--starts", "4", "--hops", "0"]
TRAIN = ["--where", "split == 'train'"]
DOMAINS = ["web", "code", "wiki"]


@pytest.fixture
def alone(monkeypatch):
    """No cache of compiled programs, no data folder of the user's."""
    monkeypatch.setenv("MIXJAX_CACHE", "off")
    monkeypatch.delenv("MIXJAX_DATA", raising=False)


@pytest.fixture
def run(capsys, alone) -> Callable[..., Done]:
    """Run a command: exit code, stdout, stderr."""

    def run(*argv: object) -> Done:
        code = main([str(word) for word in argv])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def read(run) -> Callable[..., dict]:
    """What a command prints as JSON."""

    def read(*argv: object) -> dict:
        code, out, err = run(*argv, "--json")
        assert code == 0, err
        return json.loads(out, parse_constant=pytest.fail)

    return read


@pytest.fixture
def refused(run) -> Callable[..., str]:
    """Run a command that must fail with code 2 and one line that holds all the words."""

    def refused(*argv: object, words: tuple[str, ...] = ()) -> str:
        code, out, err = run(*argv)
        assert (code, out) == (2, ""), err
        lines = [line for line in err.splitlines() if not line.startswith("mixjax: warning: ")]
        assert len(lines) == 1, err
        assert lines[0].startswith("mixjax: error: ")
        for word in words:
            assert word in lines[0], lines[0]
        return lines[0]

    return refused


# --- Two domains, runs of a known law, and its fit ------------------------------------------------

TRUTH: Fit = known_fit(
    "additive",
    ["web", "code"],
    {
        "web": {
            "E": 1.5,
            "C": np.array([4.0, 0.4]),
            "gamma": np.array([0.6, 0.8]),
            "A": 400.0,
            "alpha": 0.34,
            "B": 1200.0,
            "beta": 0.35,
        },
        "maths": {
            "E": 1.1,
            "C": np.array([0.5, 3.0]),
            "gamma": np.array([0.5, 0.5]),
            "A": 300.0,
            "alpha": 0.33,
            "B": 1500.0,
            "beta": 0.36,
        },
    },
)


@pytest.fixture(scope="session")
def table() -> pd.DataFrame:
    """Simulated runs of six mixtures; those of 1e9 parameters are split "eval"."""
    h = design_mixtures(TRUTH.domains, 6, minimum=0.05).to_numpy()
    rows = [(N, D, m) for N in (1e8, 3e8, 1e9) for D in (5e9, 2e10) for m in range(len(h))]
    N, D, m = (np.array(column) for column in zip(*rows, strict=True))
    made = simulate_runs(TRUTH, h[m], N, D, noise=0.001)
    made.insert(0, "split", np.where(N < 1e9, "train", "eval"))
    return made


@pytest.fixture(scope="session")
def folder(table, tmp_path_factory) -> Path:
    """A folder with runs.csv, points.csv and fit.json, made once."""
    place = tmp_path_factory.mktemp("cli")
    table.to_csv(place / "runs.csv", index=False)
    (place / "points.csv").write_text(
        "id,N,D,h_web,h_code,note\n007,1e9,2e10,0.5,0.5,NA\n008,7e9,1.5e11,0.95,0.05,\n"
    )
    files = [str(place / "runs.csv"), "-o", str(place / "fit.json")]
    assert main(["fit", *files, *TRAIN, "--no-cache", *QUICK]) == 0
    return place


# --- Three domains, fits of two laws, and mixtures ------------------------------------------------


def three_domains(law: str = "joint", seed: int = 0) -> Fit:
    """A known fit of web, code, wiki and the target maths."""
    params = random_truth(law, 3, ("a", "b", "c", "d"), seed).params.values()
    return known_fit(law, DOMAINS, dict(zip((*DOMAINS, "maths"), params, strict=True)))


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with two fits of three domains, mixtures and runs."""
    folder = tmp_path_factory.mktemp("decide")
    three_domains().save(folder / "joint.json")
    three_domains("additive", 1).save(folder / "additive.json")
    (folder / "base.yaml").write_text("web: 0.8\ncode: 0.1\nwiki: 0.1\n")
    (folder / "two.yaml").write_text(
        "base: {web: 80, code: 10, wiki: 10}\nodd: {web: 1, code: 2}\n"
    )
    (folder / "bad.yaml").write_text("web: much\n")
    (folder / "unknown.yaml").write_text("web: 0.5\nbooks: 0.5\n")
    rows = "".join(
        f"1e9,{d},{h},{1 - h - 0.1},0.1,2.0\n" for d in (1e10, 2e10) for h in (0.2, 0.5, 0.7)
    )
    (folder / "runs.csv").write_text("N,D,h_web,h_code,h_wiki,loss_maths\n" + rows)
    return folder
