"""The command line: exit codes, one-line errors, JSON, files whole or not at all, and the whole way
through."""

from __future__ import annotations

import functools
import importlib
import io
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from mixjax.cli import main
from mixjax.cli.progress import Progress
from mixjax.data.design import design_mixtures
from mixjax.fitting.fit import fit
from mixjax.fitting.simulate import demo_runs, known_fit, simulate_runs

QUICK = ["--law", "additive", "--starts", "4", "--hops", "0"]
TRUTH = known_fit(
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


@pytest.fixture(autouse=True)
def _alone(monkeypatch):
    """No cache of compiled programs, no data folder of the user's."""
    monkeypatch.setenv("MIXJAX_CACHE", "off")
    monkeypatch.delenv("MIXJAX_DATA", raising=False)


@pytest.fixture(scope="session")
def table() -> pd.DataFrame:
    h = design_mixtures(["web", "code"], 6, minimum=0.05).to_numpy()
    rows = [(N, D, m) for N in (1e8, 3e8, 1e9) for D in (5e9, 2e10) for m in range(len(h))]
    N, D, m = (np.array(column) for column in zip(*rows, strict=True))
    made = simulate_runs(TRUTH, h[m], N, D, noise=0.001)
    made.insert(0, "split", np.where(N < 1e9, "train", "eval"))
    return made


@pytest.fixture(scope="session")
def folder(table, tmp_path_factory):
    """A folder with runs.csv, points.csv and fit.json, made once."""
    place = tmp_path_factory.mktemp("cli")
    table.to_csv(place / "runs.csv", index=False)
    (place / "points.csv").write_text(
        "id,N,D,h_web,h_code,note\n007,1e9,2e10,0.5,0.5,NA\n008,7e9,1.5e11,0.9,0.1,\n"
    )
    assert (
        main(
            [
                "fit",
                str(place / "runs.csv"),
                "-o",
                str(place / "fit.json"),
                "--where",
                "split == 'train'",
                "--no-cache",
                *QUICK,
            ]
        )
        == 0
    )
    return place


@pytest.fixture
def run(capsys):
    """Run a command: exit code, stdout, stderr."""

    def run(*argv: object) -> tuple[int, str, str]:
        code = main([str(word) for word in argv])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def refused(run):
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


def as_json(result: tuple[int, str, str]) -> dict:
    code, out, err = result
    assert code == 0, err
    return json.loads(out, parse_constant=pytest.fail)


# --- Help, usage ---------------------------------------------------------------------------------


@pytest.mark.parametrize("argv", [["--help"], ["--version"], ["fit", "--help"], ["mix", "-h"], []])
def test_help_imports_nothing_heavy(argv):
    heavy = ("jax", "numpy", "pandas", "optax", "matplotlib")
    code = (
        f"import sys; from mixjax.cli import main; code = main({argv}); print([m for m in "
        f"{heavy} if m in sys.modules], code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[] 0"
    assert "mixjax" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(
    "command", ["demo", "run", "fit", "score", "predict", "mix", "compare", "design"]
)
def test_every_command_has_help_and_json(run, command):
    code, out, err = run(command, "--help")
    assert (code, err) == (0, "")
    assert "--json" in out


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["fitt"], ("'fitt'", "'fit'", "choose from")),
        (["fit"], ("RUNS", "mixjax fit --help")),
        (["fit", "runs.csv", "--tragets", "a"], ("--tragets", "--targets")),
        (["fit", "runs.csv", "--starts", "0"], ("--starts",)),
        (["fit", "runs.csv", "--starts", "many"], ("--starts", "'many'")),
        (["fit", "runs.csv", "--residual", "huber"], ("--residual", "'log'")),
        (["fit", "runs.csv", "--targets", "a,,b"], ("empty name",)),
        (["fit", "runs.csv", "--columns", "h"], ("WHAT=COLUMN",)),
        (["fit", "runs.csv", "--columns", "h=a_{},h=b_{}"], ("'h' is given twice",)),
        (["mix", "fit.json", "-N", "7B", "-D", "1"], ("-N", "'7B'", "7e9")),
        (["mix", "fit.json", "-N", "-7", "-D", "1"], ("-N", "positive")),
        (["mix", "fit.json", "--cap", "web"], ("--cap", "NAME=NUMBER")),
        (["mix", "fit.json", "--cap", "web=nan"], ("'web=nan'",)),
        (["mix", "fit.json", "--cap", "web=1", "--cap", "web=0.5"], ("'web' is given twice",)),
        (["compare", "runs.csv", "--laws", "joint,joint"], ("'joint' is named twice",)),
        (["design", "--domains", "a,b", "--n", "3", "--min", "0.9"], ("minimum",)),
        (["--nonsense"], ("--nonsense",)),
    ],
)
def test_mistakes_of_usage(refused, argv, words):
    refused(*argv, words=words)


# --- The whole way -------------------------------------------------------------------------------


def test_fit_writes_a_fit_and_prints_a_table(folder, run, tmp_path):
    code, out, err = run(
        "fit", folder / "runs.csv", "-o", tmp_path / "f.json", "--where", "split == 'train'", *QUICK
    )
    assert code == 0
    assert json.loads((tmp_path / "f.json").read_text())["law"] == "additive"
    assert [line.split()[0] for line in out.splitlines()[3:]] == ["web", "maths"]
    assert "saved" in err
    assert os.listdir(tmp_path) == ["f.json"]


def test_fit_json_is_one_object(folder, run):
    content = as_json(
        run(
            "fit",
            folder / "runs.csv",
            "--where",
            "split == 'train'",
            "--targets",
            "maths,web",
            "--json",
            *QUICK,
        )
    )
    assert set(content) >= {"law", "objective", "params", "search", "seconds"}
    assert list(content["objective"]) == ["maths", "web"]
    assert len(content["params"]["web"]["C"]) == 2


def test_score_json_is_the_contract(folder, run):
    content = as_json(
        run(
            "score",
            folder / "fit.json",
            folder / "runs.csv",
            "--where",
            "split == 'eval'",
            "--json",
        )
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


def test_a_number_that_is_missing_is_left_out_of_the_mean(folder, table, run, tmp_path):
    table.iloc[:1].to_csv(tmp_path / "one.csv", index=False)
    content = as_json(run("score", folder / "fit.json", tmp_path / "one.csv", "--json"))
    assert content["mean"]["r2"] is None
    code, out, _ = run("score", folder / "fit.json", tmp_path / "one.csv")
    assert code == 0
    assert out.splitlines()[-1].startswith("mean")


def test_predict_adds_columns_and_keeps_the_rest(folder, run, tmp_path):
    code, out, err = run("predict", folder / "fit.json", folder / "points.csv")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "id,N,D,h_web,h_code,note,loss_web,loss_maths"
    assert lines[1].startswith("007,1e9,2e10,0.5,0.5,NA,")
    assert run("predict", folder / "fit.json", folder / "points.csv", "-o", tmp_path / "o.csv")[
        :2
    ] == (0, "")
    assert (tmp_path / "o.csv").read_text() == out
    losses = as_json(run("predict", folder / "fit.json", folder / "points.csv", "--json"))["losses"]
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


def test_mix_json_is_the_contract(folder, run):
    wishes = ["--weights", "web=1,maths=2", "--cap", "code=0.4", "--floor", "web=0.1"]
    content = as_json(
        run("mix", folder / "fit.json", "-N", "7e9", "-D", "1.5e11", *wishes, "--json")
    )
    assert set(content) >= {"weights", "losses", "objective", "gap", "N", "D"}
    assert (content["N"], content["D"]) == (7e9, 1.5e11)
    assert sum(content["weights"].values()) == pytest.approx(1)
    assert content["weights"]["code"] <= 0.4 + 1e-9
    code, out, _ = run("mix", folder / "fit.json", "-N", "7e9", "-D", "150e9")
    assert code == 0
    assert "web" in out


def test_compare_json_is_the_contract(folder, run):
    split = ["--where", "split == 'train'", "--eval-where", "split == 'eval'"]
    content = as_json(
        run(
            "compare",
            folder / "runs.csv",
            "--laws",
            "chinchilla,additive",
            *split,
            "--starts",
            "4",
            "--hops",
            "0",
            "--json",
        )
    )
    assert list(content) == ["laws"]
    assert list(content["laws"]) == ["chinchilla", "additive"]
    assert set(content["laws"]["additive"]) == {"train", "eval"}
    assert set(content["laws"]["additive"]["eval"]) == {"web", "maths", "mean"}


def test_design_prints_a_table_that_can_be_read_back(run, tmp_path):
    code, out, _ = run("design", "--domains", "a,b,c", "--n", "20", "--min", "0.02")
    assert code == 0
    rows = [[float(x) for x in line.split(",")] for line in out.splitlines()[1:]]
    assert out.splitlines()[0] == "h_a,h_b,h_c"
    assert len(rows) == 20
    assert np.allclose(np.sum(rows, axis=1), 1)
    assert np.min(rows) >= 0.02 - 1e-12
    content = as_json(run("design", "--domains", "a,b,c", "--n", "20", "--min", "0.02", "--json"))
    assert [list(m.values()) for m in content["mixtures"]] == rows
    assert run("design", "--domains", "a,b", "--n", "3", "-o", tmp_path / "d.csv")[:2] == (0, "")
    assert len((tmp_path / "d.csv").read_text().splitlines()) == 4


def test_run_writes_the_whole_report(folder, run, tmp_path):
    (tmp_path / "exp.yaml").write_text(
        f"data: {folder / 'runs.csv'}\nwhere: split == 'train'\neval_where: split == "
        f"'eval'\nlaw: additive\nstarts: 4\nhops: 0\n"
        "mix: [{N: 7e9, D: 150e9}, {N: 7e9, D: 150e9, caps: {code: 0.3}}]\ncompare: [chinchilla]\n"
    )
    code, out, err = run("run", tmp_path / "exp.yaml", "-o", tmp_path / "out")
    assert code == 0, err
    files = {
        "fit.json",
        "scores.json",
        "mixture.json",
        "compare.json",
        "predicted.png",
        "mixture.png",
        "report.md",
    }
    assert set(os.listdir(tmp_path / "out")) == files
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert set(scores) == {"train", "eval"}
    report = (tmp_path / "out" / "report.md").read_text()
    assert str(tmp_path) not in report
    assert str(folder) not in report
    assert "| code |" in report
    assert (tmp_path / "out" / "predicted.png").read_bytes().startswith(b"\x89PNG")
    assert "Rows that the fit has not seen" in out
    again = as_json(run("run", tmp_path / "exp.yaml", "-o", tmp_path / "out", "--json"))
    assert set(again["scores"]) == {"train", "eval"}
    assert len(again["mixtures"]) == 2


def test_run_without_domains_a_mixture_or_held_out_rows(table, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MIXJAX_DATA", str(tmp_path / "data"))
    os.mkdir("data")
    table[["N", "D", "loss_web"]].to_csv("data/plain.csv", index=False)
    (tmp_path / "c.yaml").write_text(
        "data: nowhere/plain.csv\nlaw: chinchilla\nresidual: log\nstarts: 4\nhops: 0\n"
    )
    assert run("run", "c.yaml")[0] == 0
    assert set(os.listdir("c-out")) == {"fit.json", "scores.json", "predicted.png", "report.md"}


def test_other_layouts_and_joined_files(table, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    numbered = table.assign(id=range(len(table)))
    numbered.rename(columns={"h_web": "weight_web", "h_code": "weight_code"})[
        ["id", "split", "weight_web", "weight_code"]
    ].to_csv("mixtures.csv", index=False)
    numbered.rename(columns={"loss_web": "web_ce", "N": "size", "D": "tokens"})[
        ["id", "size", "tokens", "web_ce"]
    ].to_csv("losses.csv", index=False)
    options = [
        "mixtures.csv",
        "--join",
        "losses.csv",
        "--on",
        "id",
        "--columns",
        "h=weight_{},loss={}_ce,N=size,D=tokens*1",
        "--where",
        "split == 'train'",
    ]
    content = as_json(
        run("fit", *options, "--json", "--law", "chinchilla", "--starts", "4", "--hops", "0")
    )
    (tmp_path / "c.yaml").write_text(
        "data: [mixtures.csv, losses.csv]\non: id\ncolumns: {h: 'weight_{}', loss: {web: "
        "web_ce}, N: size, D: {column: tokens, times: 1}}\n"
        "where: split == 'train'\nlaw: chinchilla\nstarts: 4\nhops: 0\n"
    )
    assert run("run", "c.yaml", "-o", "out")[0] == 0
    assert (
        json.loads((tmp_path / "out" / "fit.json").read_text())["fits"]["web"]["objective"]
        == content["objective"]["web"]
    )


def test_demo_tells_that_it_is_simulated_and_finds_the_truth(run, tmp_path, monkeypatch):
    pipeline = importlib.import_module("mixjax.report.pipeline")
    quick = functools.cache(
        lambda law: fit(demo_runs().table.query("split == 'train'"), law, starts=4, hops=0)
    )
    monkeypatch.setattr(pipeline, "fit", lambda _, law, **options: quick(law))
    code, out, err = run("demo", "-o", tmp_path / "d")
    assert code == 0, err
    assert "SIMULATED" in out
    assert "regret" in out
    assert {
        "runs.csv",
        "truth.json",
        "fit.json",
        "scores.json",
        "mixture.json",
        "report.md",
    } <= set(os.listdir(tmp_path / "d"))
    assert "SIMULATED" in (tmp_path / "d" / "report.md").read_text()
    content = as_json(run("demo", "--json"))
    assert content["simulated"] is True
    assert 0 <= content["truth"]["regret"] < 0.05


# --- Bad input: one line, nothing written --------------------------------------------------------


def test_tables_and_fits_that_cannot_be_read(folder, refused, tmp_path):
    fitted, runs, points = folder / "fit.json", folder / "runs.csv", folder / "points.csv"
    refused("fit", tmp_path / "none.csv", words=("none.csv",))
    refused("score", tmp_path / "none.json", runs, words=("none.json",))
    refused("score", runs, runs, words=("runs.csv", "not JSON"))
    refused("score", fitted, tmp_path / "none.csv", words=("none.csv",))
    refused("score", fitted, runs, "--where", "splat == 'train'", words=("splat",))
    refused("score", fitted, runs, "--where", "__import__('os')", words=("where",))
    refused("predict", fitted, tmp_path / "none.csv", words=("none.csv",))
    refused("run", tmp_path / "none.yaml", words=("none.yaml",))
    refused("fit", runs, "--law", "jiont", words=("'jiont'", "'joint'"))
    refused("fit", runs, "--targets", "nope", *QUICK, words=("nope",))
    refused("mix", fitted, "-N", "7e9", "-D", "1e11", "--cap", "nope=0.1", words=("nope",))
    refused("mix", fitted, "-N", "7e9", "-D", "1e11", "--cap", "web=0.1,code=0.1", words=("caps",))
    refused("mix", fitted, "-D", "1e11", words=("N",))
    refused("fit", runs, "--join", points, words=("--on",))
    refused("fit", runs, "--on", "id", words=("--join",))
    (tmp_path / "bad.csv").write_text("N,D,h_web,h_code\n1e9,1e10,0.5,0.6\n")
    refused("predict", fitted, tmp_path / "bad.csv", words=("bad.csv",))
    (tmp_path / "no.csv").write_text("N,h_web,h_code\n1e9,0.5,0.5\n")
    refused("predict", fitted, tmp_path / "no.csv", words=("D",))


def test_outputs_are_checked_before_the_work(folder, refused, tmp_path, monkeypatch):
    fitting = importlib.import_module("mixjax.fitting.fit")
    monkeypatch.setattr(fitting, "fit", lambda *_, **__: pytest.fail("the fit began"))
    runs = folder / "runs.csv"
    refused(
        "fit", runs, "-o", tmp_path / "none" / "f.json", *QUICK, words=("none", "cannot be written")
    )
    refused("fit", runs, "-o", tmp_path, *QUICK, words=("is a folder",))
    refused("fit", runs, "-o", os.devnull, *QUICK, words=("not an ordinary file",))
    before = runs.read_bytes()
    refused("fit", runs, "-o", runs, *QUICK, words=("is also read",))
    refused(
        "predict",
        folder / "fit.json",
        folder / "points.csv",
        "-o",
        folder / "points.csv",
        words=("is also read",),
    )
    refused(
        "predict",
        folder / "fit.json",
        folder / "points.csv",
        "-o",
        tmp_path / "o.parquet",
        words=("Parquet",),
    )
    assert runs.read_bytes() == before
    (tmp_path / "file").write_text("")
    refused("demo", "-o", tmp_path / "file", words=("is a file",))
    (tmp_path / "c.yaml").write_text(
        f"data: {runs}\nlaw: additive\nmix: {{N: 1e9, D: 1e9, caps: {{nope: 1}}}}\n"
    )
    refused("run", tmp_path / "c.yaml", "-o", tmp_path / "out", words=("'nope'",))
    (tmp_path / "d.yaml").write_text("data: none.csv\nlaw: additive\n")
    refused("run", tmp_path / "d.yaml", "-o", tmp_path / "out", words=("none.csv", "--data"))
    assert set(os.listdir(tmp_path)) == {"file", "c.yaml", "d.yaml"}


# --- A user's own law ----------------------------------------------------------------------------

OWN = """
import mixjax as mj
LAW = mj.Law("flat", (mj.Parameter("E"), mj.Parameter("B"), mj.Parameter("beta")),
             lambda p, h: mj.Coefficients(E=p["E"], B=p["B"], beta=p["beta"]))
NAMED = mj.Law("joint", (mj.Parameter("E"),), lambda p, h: mj.Coefficients(E=p["E"]))
NUMBER = 3
"""


def test_a_law_from_a_file(folder, run, refused, tmp_path):
    own, out, runs = tmp_path / "own.py", tmp_path / "own.json", folder / "runs.csv"
    own.write_text(OWN)
    assert (
        run("fit", runs, "-o", out, "--law", f"{own}:LAW", "--starts", "2", "--hops", "0")[0] == 0
    )
    assert as_json(run("score", out, runs, "--law", f"{own}:LAW", "--json"))["mean"]["mre"] < 20
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


# --- Interruption, progress, pipes, cache --------------------------------------------------------


def test_an_interrupted_fit_is_saved(folder, run, tmp_path, monkeypatch):
    def interrupt(self, share, best):
        if all(np.isfinite(f) for f in best.values()):
            raise KeyboardInterrupt

    monkeypatch.setattr(Progress, "__call__", interrupt)
    split = ["--where", "split == 'train'"]
    code, _, err = run(
        "fit",
        folder / "runs.csv",
        "-o",
        tmp_path / "f.json",
        *split,
        "--law",
        "additive",
        "--starts",
        "4",
        "--hops",
        "100000",
    )
    assert code == 130
    assert "f.json" in err
    assert {
        s["search"]["status"]
        for s in json.loads((tmp_path / "f.json").read_text())["fits"].values()
    } == {"interrupted"}


# Tests that run in the background may have inherited that Ctrl-C is ignored.
HEEDING = (
    "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "runpy.run_module('mixjax', run_name='__main__')"
)


def test_ctrl_c_in_a_process(folder, tmp_path):
    options = [
        "-o",
        str(tmp_path / "f.json"),
        "--law",
        "chinchilla",
        "--starts",
        "2048",
        "--hops",
        "2000",
        "--progress",
    ]
    command = [sys.executable, "-c", HEEDING, "fit", str(folder / "runs.csv"), *options]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "objective" in line and "none yet" not in line and "to come" not in line:
                break
        process.send_signal(signal.SIGINT)
        try:
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "interrupted" in err
    assert (tmp_path / "f.json").exists()


class Stream:
    def __init__(self, terminal: bool):
        self.terminal, self.text = terminal, ""

    def isatty(self) -> bool:
        return self.terminal

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None:
        pass


def test_progress_is_one_line_on_a_terminal_and_silent_elsewhere():
    terminal, pipe, asked = Stream(True), Stream(False), Stream(False)
    with Progress(stream=terminal) as watch:  # type: ignore[arg-type]
        watch.last -= 10  # it is redrawn now and then only
        watch(0.4, {"a": 2e-5, "b": float("inf")})
        watch(0.41, {"a": 2e-5, "b": float("inf")})
        assert "41%" not in terminal.text
        watch.last -= 10
        watch(0.5, {"a": 1e-5, "b": float("inf")})
    assert terminal.text.startswith("\rcompiling\r[##########..............]  40%")
    assert "[############............]  50%" in terminal.text
    assert "1 targets to come" in terminal.text
    assert terminal.text.endswith("\r\x1b[K")
    Progress(stream=pipe)(0.5, {"a": 1e-5})  # type: ignore[arg-type]
    assert pipe.text == ""
    watch = Progress(True, stream=asked)  # type: ignore[arg-type]
    watch.last -= 10
    watch(0.5, {"a": 1e-5})
    watch(0.6, {"a": 1e-5})
    assert asked.text.count("\n") == 1
    assert asked.text.strip().endswith("objective 1e-05")


def test_a_reader_that_goes_away():
    command = (
        f"set -o pipefail; {sys.executable} -m mixjax design --domains a,b,c,d,e,f,g --n 700 | "
        f"head -1"
    )
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "h_a,h_b,h_c,h_d,h_e,h_f,h_g\n", "")


def test_compiled_programs_are_kept_unless_unwanted(folder, tmp_path):
    def score(cache: str, *more: str) -> None:
        argv = [
            sys.executable,
            "-m",
            "mixjax",
            "score",
            str(folder / "fit.json"),
            str(folder / "runs.csv"),
            *more,
        ]
        done = subprocess.run(
            argv,
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "MIXJAX_CACHE": cache},
        )
        assert done.stderr == ""

    score(str(tmp_path / "kept"))
    assert os.listdir(tmp_path / "kept")
    score(str(tmp_path / "unwanted"), "--no-cache")
    assert not (tmp_path / "unwanted").exists()
    (tmp_path / "file").write_text("")
    score(str(tmp_path / "file" / "below"))


def test_warnings_are_one_line_each(folder, run):
    code, out, err = run("predict", folder / "fit.json", folder / "runs.csv")
    assert code == 0
    assert err.splitlines() == [
        f"mixjax: warning: {folder / 'runs.csv'}: has loss_web, loss_maths already; "
        "the predictions take their place in the output"
    ]
    assert out.startswith("split,")
