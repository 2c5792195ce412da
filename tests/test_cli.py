"""The command line, whatever the command: help, exit codes, one-line errors, warnings, files whole
or not at all, interruption, progress, pipes, cache."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys

import numpy as np
import pytest

import mixjax
from mixjax.cli import HEADINGS
from mixjax.cli import mixjax as mixjax_command
from mixjax.cli.run import Progress
from tests.cli import QUICK


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
        (["mix", "fit.json", "-N", "7Q", "-D", "1"], ("-N", "'7Q'", "7e9")),
        (["mix", "fit.json", "-N", "-7", "-D", "1"], ("-N", "positive")),
        (["mix", "fit.json", "--cap", "web"], ("--cap", "NAME=NUMBER")),
        (["mix", "fit.json", "--cap", "web=nan"], ("'web=nan'",)),
        (["mix", "fit.json", "--cap", "web=1", "--cap", "web=0.5"], ("'web' is given twice",)),
        (["compare", "runs.csv", "--laws", "joint,joint"], ("'joint' is named twice",)),
        (["design", "--domains", "a,b", "--n", "3", "--min", "0.9"], ("minimum",)),
        (["--nonsense"], ("--nonsense",)),
        (["fit", "runs.csv", "--cap", "a=1"], ("no option --cap here, but with", "mix, judge")),
        (["mix", "fit.json", "--cap", "wiki=20"], ("'20' is above 1; is it 20%?",)),
    ],
)
def test_mistakes_of_usage(refused, argv, words):
    refused(*argv, words=words)


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
    monkeypatch.setattr(mixjax, "fit", lambda *_, **__: pytest.fail("the fit began"))
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
    plain = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}

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
            env=plain | {"MIXJAX_CACHE": cache},
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


def test_commands_stand_under_headings(run):
    code, out, _ = run("--help")
    assert code == 0
    assert re.findall(r"^(\w[\w ]*):$", out, re.MULTILINE) == ["Options", *HEADINGS]


@pytest.mark.parametrize("command", [c for heading in HEADINGS.values() for c in heading])
def test_every_command_has_examples_that_are_read(command, tmp_path):
    examples = re.findall(r"^\s+(mixjax .*)$", command.help, re.MULTILINE)
    assert any(shlex.split(example)[1] == command.name for example in examples)
    for example in examples:
        _, name, *argv = shlex.split(example)
        with mixjax_command.commands[name].make_context(name, argv):
            pass


QUESTIONS = "mix judge flat move value robust budget pareto explore next intervals"


@pytest.mark.parametrize("command", QUESTIONS.split())
def test_every_question_takes_every_limit(command):
    options = {o for p in mixjax_command.commands[command].params for o in p.opts}
    limits = "weights cap floor fix group tokens epochs supply"
    assert {f"--{name}" for name in limits.split()} <= options
    assert {"-N", "-D"} <= options or command == "budget"


def test_figures_are_offered_where_there_is_one():
    commands = mixjax_command.commands.items()
    drawn = {name for name, c in commands if any(p.name == "figure" for p in c.params)}
    assert drawn == {"mix", "judge", "flat", "move", "budget", "robust", "pareto", "enough"}


def test_warnings_are_in_the_json_too(folder, run, read):
    command = ["predict", folder / "fit.json", folder / "runs.csv"]
    _, _, err = run(*command)
    assert [f"mixjax: warning: {line}" for line in read(*command)["warnings"]] == err.splitlines()
    assert "warnings" not in read("predict", folder / "fit.json", folder / "points.csv")


def test_a_mistake_is_told_before_the_warnings(folder, run):
    code, _, err = run("mix", folder / "fit.json", "-N", "7", "-D", "150e9", "--limit", "nope=1%")
    assert code == 2
    first, second = err.splitlines()
    assert first.startswith("mixjax: error: --limit")
    assert second.startswith("mixjax: warning: mixture: N = 7 is")
