"""decide, demo and run on the command line: the whole way through."""

from __future__ import annotations

import functools
import importlib
import json
import os

import pytest

from mixjax.fitting.fit import fit
from mixjax.fitting.simulate import demo_runs


def test_run_writes_the_whole_report(folder, run, tmp_path, read):
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
    again = read("run", tmp_path / "exp.yaml", "-o", tmp_path / "out")
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


def test_other_layouts_and_joined_files(table, run, tmp_path, monkeypatch, read):
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
    content = read("fit", *options, "--law", "chinchilla", "--starts", "4", "--hops", "0")
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


def test_demo_tells_that_it_is_simulated_and_finds_the_truth(run, tmp_path, monkeypatch, read):
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
    content = read("demo")
    assert content["simulated"] is True
    assert 0 <= content["truth"]["regret"] < 0.05


LIMITED = """where: split == 'train'
law: additive
starts: 4
hops: 0
supply: supply.yaml
mix:
  - {N: 7B, D: 150B}
  - {N: 7B, D: 150B, epochs: 1, fixed: {web: 90%}}
  - {N: 7B, D: 150B, groups: {all: web+code}, caps: {code: 5%}, tokens: {code: 1T}}
"""


def test_run_keeps_supplies_and_limits(folder, read, tmp_path):
    (tmp_path / "supply.yaml").write_text("tokens: {code: 15B}\nepochs: {code: 2}\n")
    (tmp_path / "exp.yaml").write_text(f"data: {folder / 'runs.csv'}\n{LIMITED}")
    content = read("run", tmp_path / "exp.yaml", "-o", tmp_path / "out")
    shares = [mixture["weights"]["code"] for mixture in content["mixtures"]]
    assert shares == pytest.approx([0.2, 0.1, 0.05])


@pytest.mark.parametrize(
    ("supply", "words"),
    [
        ("tokens: {code: 15B}\nepochs: {cdoe: 2}\n", ("supply.yaml, line 2: no domain 'cdoe'",)),
        ("tokens: {code: 1B, web: 1B}\n", ("allow 2e+09 of the 1.5e+11 tokens",)),
    ],
)
def test_a_supply_is_checked_before_the_fit(folder, refused, tmp_path, monkeypatch, supply, words):
    pipeline = importlib.import_module("mixjax.report.pipeline")
    monkeypatch.setattr(pipeline, "fit", lambda *_, **__: pytest.fail("the fit began"))
    (tmp_path / "supply.yaml").write_text(supply)
    (tmp_path / "exp.yaml").write_text(f"data: {folder / 'runs.csv'}\n{LIMITED}")
    refused("run", tmp_path / "exp.yaml", "-o", tmp_path / "out", words=words)


def test_decide_goes_the_whole_way(folder, run, read, tmp_path):
    words = ["decide", folder / "runs.csv", "-N", "7e9", "-D", "150e9", "--where"]
    words += ["split == 'train'", "--starts", "4", "--hops", "0", "-o", tmp_path / "fit.json"]
    found = read(*words, "--base", "web=70%,code=30%", "--cap", "code=40%")
    assert sum(found["weights"].values()) == pytest.approx(1)
    assert found["weights"]["code"] <= 0.4 + 1e-12
    assert found["law"] == json.loads((tmp_path / "fit.json").read_text())["law"]
    assert list(found["beside"]["mixtures"]) == ["optimum", "base", "uniform"]
    for t, own in found["gains"]["base"].items():
        assert own["low"] <= own["change"] <= own["high"]
        change = found["losses"][t] - found["beside"]["mixtures"]["base"]["losses"][t]
        assert own["change"] == pytest.approx(change, abs=1e-9)
    low, best, high = (found["interval"]["objective"][end] for end in ("low", "best", "high"))
    assert low <= best <= high
    assert best == pytest.approx(found["objective"])
    again = read("mix", tmp_path / "fit.json", "-N", "7e9", "-D", "150e9", "--cap", "code=40%")
    assert again["weights"] == pytest.approx(found["weights"], abs=1e-9)


def test_decide_says_what_one_size_cannot_tell(folder, run):
    words = ["decide", folder / "runs.csv", "-D", "150e9", "--where", "N == 1e8", "--starts", "4"]
    code, out, err = run(*words, "-N", "7e9", "--hops", "0")
    assert code == 0, err
    said = "losses are predicted for N = 1e+08, not for 7e+09"
    assert said in err
    assert "percent above that of the mixture to train on" in out
    code, _, err = run(*words, "-N", "1e8", "--hops", "0")
    assert code == 0, err
    assert "no law of these runs" not in err


def test_decide_refuses_before_it_fits(folder, refused):
    runs = folder / "runs.csv"
    refused("decide", runs, "-D", "150e9", words=("N is missing",))
    scale = ("-N", "7e9", "-D", "150e9")
    refused("decide", runs, *scale, "--base", "web=1,cod=1", words=("cod",))
    refused("decide", runs, *scale, "--cap", "web=1%,code=1%", words=("caps",))
    refused("decide", runs, *scale, "--group", "all=web+code", words=("changes nothing",))
