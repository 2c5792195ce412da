"""The commands that decide: what they print, what they write, and one line for every mistake."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import yaml

import mixjax as mj
from mixjax.cli.explore import PARTS
from mixjax.fitting.simulate import known_fit, random_truth
from tests.cli import AT, DOMAINS, three_domains


def test_mix_exports_for_a_training_stack(place, run, read):
    to = place / "blend.txt"
    words = [
        "mix",
        place / "joint.json",
        *AT,
        "--tokens",
        "wiki=1e8",
        "--epochs",
        "4",
        "--export",
        "megatron",
        "--path",
        "web=/data/web",
        "-o",
        to,
    ]
    found = read(*words)
    assert found["weights"]["wiki"] <= 0.4 / 150
    assert found["unconstrained"]["objective"] < found["objective"]
    assert found["prices"]["wiki"] > 0
    words = to.read_text().split()
    assert "/data/web" in words
    assert sum(float(w) for w in words[::2]) == pytest.approx(1, abs=1e-12)
    code, out, _ = run("mix", place / "joint.json", *AT, "--export", "levanter")
    assert code == 0
    assert list(yaml.safe_load(out)["train_weights"]) == DOMAINS


def test_mix_tells_epochs(place, run):
    code, out, _ = run(
        "mix", place / "joint.json", *AT, "--tokens", "wiki=1e9,web=1e12", "--epochs", "4"
    )
    assert code == 0
    assert "epochs of its tokens" in out


def test_judge_reads_mixtures_of_several_kinds(place, run, read):
    found = read("judge", place / "joint.json", place / "two.yaml", *AT)
    assert list(found["mixtures"]) == ["optimum", "base", "odd", "uniform"]
    assert found["mixtures"]["base"]["weights"]["web"] == pytest.approx(0.8)
    (place / "best.json").write_text(json.dumps(read("mix", place / "joint.json", *AT)))
    again = read("judge", place / "joint.json", place / "best.json", *AT)
    assert again["mixtures"]["best"]["excess"] == pytest.approx(0, abs=1e-12)
    run("mix", place / "joint.json", *AT, "--export", "csv", "-o", place / "best.csv")
    again = read("judge", place / "joint.json", place / "best.csv", *AT)
    assert again["mixtures"]["best"]["excess"] == pytest.approx(0, abs=1e-8)
    code, out, _ = run(
        "judge",
        place / "joint.json",
        place / "base.yaml",
        *AT,
        "--figure",
        place / "judge.png",
    )
    assert code == 0
    assert "tokens needed" in out
    assert (place / "judge.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    "kind", [[], ["--worst"], ["--limit", "maths=5%"], ["--most-domains", "2"]]
)
def test_mix_draws_every_kind_of_answer(place, read, kind):
    content = read("mix", place / "joint.json", *AT, *kind, "--figure", place / "mix.png")
    assert sum(content["weights"].values()) == pytest.approx(1)
    assert (place / "mix.png").read_bytes()[:4] == b"\x89PNG"
    (place / "mix.png").unlink()


def test_mix_for_the_worst_target(place, run, read):
    found = read(
        "mix",
        place / "joint.json",
        *AT,
        "--worst",
        "--cap",
        "web=0.6",
        "--tokens",
        "wiki=6e10",
        "--export",
        "json",
        "-o",
        place / "worst.json",
    )
    assert found["objective"] == max(found["excess"].values()) > 0
    assert found["weights"]["wiki"] <= 0.4 + 1e-12
    assert found["epochs"]["wiki"] <= 1 + 1e-12
    assert {"weights", "losses", "objective", "gap", "N", "D"} <= found.keys()
    assert json.loads((place / "worst.json").read_text())["weights"] == pytest.approx(
        found["weights"]
    )
    code, out, _ = run(
        "mix",
        place / "joint.json",
        *AT,
        "--worst",
        "--base",
        place / "base.yaml",
        "--group",
        "g=web+code",
        "--fix",
        "g=0.9",
    )
    assert code == 0
    assert "largest excess" in out


def test_mix_within_limits_on_losses(place, read):
    words = ["mix", place / "joint.json", *AT, "--weights", "web=1"]
    best = read("mix", place / "joint.json", *AT, "--weights", "maths=1")["losses"]["maths"]
    found = read(*words, "--limit", "maths=2%", "--limit", "code=4")
    assert found["limits"] == {"code": 4.0, "maths": pytest.approx(1.02 * best)}
    assert found["losses"]["maths"] <= found["limits"]["maths"] * (1 + 1e-9)
    assert found["free"]["objective"] <= found["objective"]
    assert found["prices"].keys() == {"code", "maths"}
    relative = read(*words, "--limit", "maths=0%,code=0%", "--base", place / "base.yaml")
    base = read("judge", place / "joint.json", place / "base.yaml", *AT)["mixtures"]["base"][
        "losses"
    ]
    assert relative["limits"] == {t: pytest.approx(base[t]) for t in ("code", "maths")}


def test_mix_near_a_prior_and_of_few_domains(place, read):
    near, free = (
        read("mix", place / "joint.json", *AT, *more)
        for more in (["--base", place / "base.yaml", "--pull", "5"], [])
    )
    assert near["pull"] > free["pull"] == 0
    assert abs(near["weights"]["web"] - 0.8) < abs(free["weights"]["web"] - 0.8)
    few = read("mix", place / "joint.json", *AT, "--most-domains", "2")
    assert sum(share > 0 for share in few["weights"].values()) == 2
    assert few["exact"]
    assert few["objective"] == pytest.approx(free["objective"] * (1 + few["cost"]))


def test_pareto_fronts(place, run, read):
    words = [
        "pareto",
        place / "joint.json",
        *AT,
        "--between",
        "code=code,rest=web+maths",
        "--base",
        place / "two.yaml",
    ]
    found = read(*words, "--figure", place / "front.png")
    assert list(found["beside"]) == ["uniform", "base", "odd"]
    assert found["groups"] == {"code": {"code": 1.0}, "rest": {"web": 0.5, "maths": 0.5}}
    losses = np.array([list(point["losses"].values()) for point in found["points"]])
    assert np.all(np.diff(losses, axis=0) * [1, -1] > 0)
    assert (place / "front.png").read_bytes()[:4] == b"\x89PNG"
    code, out, _ = run(*words)
    assert code == 0
    assert "knee" in out


def test_flat_value_budget_move_and_robust(place, read):
    flat = read("flat", place / "joint.json", *AT, "--eps", "0.002", "--figure", place / "flat.png")
    assert all(i["low"] <= i["best"] <= i["high"] for i in flat["intervals"].values())
    value = read("value", place / "joint.json", *AT, "--tokens", "wiki=1e8")
    assert value["limits"]["prices"]["wiki"] > 0
    budget = read("budget", place / "joint.json", "--flops", "1e22")
    assert budget["N"] * budget["D"] * 6 == pytest.approx(1e22)
    move = read(
        "move",
        place / "joint.json",
        *AT,
        "--base",
        place / "base.yaml",
        "--runs",
        place / "runs.csv",
        "--steps",
        "3",
    )
    assert len(move["steps"]) == 4
    assert move["steps"][0]["outside"] > 0
    one = read(
        "move",
        place / "joint.json",
        *AT,
        "--base",
        place / "base.yaml",
        "--improve",
        "maths=0.001",
    )
    assert one["moved"] > 0
    robust = read(
        "robust",
        place / "joint.json",
        place / "additive.json",
        *AT,
        "--level",
        "0.5",
        "--base",
        place / "two.yaml",
    )
    assert {"robust", "base", "odd", "uniform"} <= set(robust["mixtures"])


@pytest.mark.parametrize(
    "command",
    [
        ["flat"],
        ["value", "--cap", "web=0.1"],
        ["budget", "--flops", "1e22"],
        ["robust", "@"],
        ["move", "--improve", "maths=0.001"],
        ["move"],
    ],
)
def test_tables_are_printed(place, run, command):
    scale = [] if command[0] == "budget" else AT
    base = ["--base", place / "base.yaml"] if command[0] == "move" else []
    more = [place / "joint.json" if word == "@" else word for word in command[1:]]
    code, out, err = run(command[0], place / "joint.json", *more, *scale, *base)
    assert code == 0, err
    assert "web" in out


def test_explore_draws_every_part(place, read):
    to = place / "figures"
    words = [
        "explore",
        place / "joint.json",
        *AT,
        "-o",
        to,
        "--other",
        place / "additive.json",
        "--base",
        place / "base.yaml",
        "--runs",
        place / "runs.csv",
    ]
    found = read(*words)
    assert set(found["left_out"]) == {"map4"}  # three domains
    assert (
        {f"{name}.png" for name in PARTS if name != "map4"} | {"explore.json"}
        == set(found["files"])
        == {path.name for path in to.iterdir()}
    )
    assert np.isfinite(
        [p["objective"] for p in json.loads((to / "explore.json").read_text())["budget"]["curve"]]
    ).all()


def test_explore_the_builtin_law(place, read):
    found = read("explore", "builtin:demo", *AT, "-o", place / "demo", "--only", "map4,corners")
    assert found["files"] == ["map4.png", "corners.png", "explore.json"]


J = "joint.json"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["mix", J, "-D", "1e11"],
            "N is missing; the joint law reads it: give a count, e.g. -N 7e9",
        ),
        (["mix", J, *AT, "--cap", "wbe=0.5"], "--cap: no domain 'wbe'; did you mean 'web'?"),
        (["mix", J, *AT, "--weights", "wbe=1"], "--weights: no target 'wbe'; did you mean 'web'?"),
        (["mix", J, *AT, "--tokens", "wbe=1e9"], "--tokens: no domain 'wbe'; did you mean 'web'?"),
        (["mix", J, *AT, "--limit", "wbe=1%"], "--limit: no target 'wbe'; did you mean 'web'?"),
        (["mix", J, *AT, "--fix", "wbe=0.1"], "--fix: no domain 'wbe'; did you mean 'web'?"),
        (["mix", J, *AT, "--fix", "web=0.5,code=0.6"], "fixed shares: they sum to 1.1, above 1"),
        (["mix", J, *AT, "--limit", "web=0%,code=0%"], "limits: web, code cannot be met together"),
        (
            ["mix", J, *AT, "--limit", "code=-1%"],
            "-1 percent above its own best is out of reach: it cannot be below 0",
        ),
        (
            ["mix", J, *AT, "--group", "g=web+code"],
            "--group: 'g' has neither --cap, --floor nor --fix",
        ),
        (
            ["mix", J, *AT, "--export", "csv", "--json"],
            "--export: does not go with --json on stdout; write the export to a file with -o",
        ),
        (
            ["mix", J, *AT, "--base", "unknown.yaml", "--pull", "1"],
            "unknown.yaml: no domain 'books'",
        ),
        (["flat", J, *AT, "--eps", "-1"], "write for example 0.001"),
        (["mix", J, *AT, "--tokens", "web=1e9", "--epochs", "0"], "write for example 4"),
        (["robust", J, *AT], "robust: one fit has no other to disagree with; name two or more"),
        (["mix", J, "-N", "1e9"], "D is missing"),
        (["mix", J, *AT, "--weights", "x=1"], "no target 'x'"),
        (["mix", J, *AT, "--weights", "web=-1"], "has -1"),
        (["mix", J, *AT, "--weights", "web=0"], "all are 0"),
        (["mix", J, *AT, "--cap", "x=1"], "no domain 'x'"),
        (["mix", J, *AT, "--cap", "web=0.1", "--floor", "web=0.2"], "below its floor"),
        (["mix", J, *AT, "--tokens", "x=1e9"], "no domain 'x'"),
        (
            ["mix", J, *AT, "--tokens", "web=1e9,code=1e9,wiki=1e9", "--epochs", "2"],
            "allow 6e+09 of the 1.5e+11 tokens",
        ),
        (["mix", J, "-N", "1e9", "--tokens", "web=1e9"], "D is missing"),
        (["mix", J, *AT, "--epochs", "2"], "needs --tokens"),
        (["mix", J, *AT, "--export", "toml"], "no form 'toml'"),
        (["mix", J, *AT, "-o", "x.json"], "needs --export"),
        (["mix", J, *AT, "--export", "csv", "-o", J], "is also read"),
        (["mix", J, *AT, "--export", "csv", "--path", "web"], "NAME=TEXT"),
        (["mix", J, *AT, "--export", "csv", "--path", "x=y"], "no domain 'x'"),
        (["mix", J, *AT, "--worst", "--most-domains", "2"], "does not go with --worst"),
        (["mix", J, *AT, "--worst", "--weights", "x=1"], "no target 'x'"),
        (["mix", J, *AT, "--worst", "--base", "unknown.yaml"], "no domain 'books'"),
        (["mix", J, *AT, "--pull", "1"], "needs --base"),
        (["mix", J, *AT, "--limit", "maths"], "'maths' is not TARGET=1%"),
        (["mix", J, *AT, "--limit", "maths=much"], "'maths=much' is not TARGET=1% or TARGET=2.3"),
        (["mix", J, *AT, "--limit", "x=1%"], "no target 'x'"),
        (["mix", J, *AT, "--limit", "maths=0.5"], "is out of reach"),
        (["mix", J, *AT, "--limit", "maths=0.01%,web=0.01%,code=0.01%"], "cannot be met together"),
        (["mix", J, *AT, "--base", "base.yaml"], "needs --pull, --worst or --limit"),
        (["mix", J, *AT, "--base", "base.yaml", "--pull", "-1"], "not a strength"),
        (["mix", J, *AT, "--base", "two.yaml", "--pull", "1"], "holds 2 mixtures"),
        (["mix", J, *AT, "--most-domains", "0"], "0 is not in the range"),
        (["mix", J, *AT, "--most-domains", "1", "--floor", "web=0.1,code=0.1"], "more than 1"),
        (["pareto", J, *AT], "--between"),
        (["pareto", J, *AT, "--between", "x=maths"], "1 groups"),
        (["pareto", J, *AT, "--between", "x=maths,y=books"], "no target 'books'"),
        (["pareto", J, *AT, "--between", "x=maths,y=maths+web"], "is in 'x' too"),
        (["pareto", J, "-N", "1e9", "--between", "x=maths,y=web"], "D is missing"),
        (["judge", J, "none.yaml", *AT], "cannot be read"),
        (["judge", J, *AT], "BASE: is missing; name the mixtures to judge once"),
        (["judge", J, "base.yaml", *AT, "--base", "base.yaml"], "BASE: is there twice"),
        (["judge", J, "web=0.5,books=0.5", *AT], "no domain 'books'"),
        (["judge", J, "web=0.5,code=much", *AT], "'code=much' is not NAME=SHARE"),
        (["mix", J, *AT, "--tokens", "web=1e9", "--epochs", "wbe=2"], "did you mean 'web'"),
        (["judge", J, "bad.yaml", *AT], "not a share"),
        (["judge", J, "unknown.yaml", *AT], "no domain 'books'"),
        (["judge", J, "base.yaml", "-N", "7e9"], "D is missing"),
        (["judge", J, "base.yaml", *AT, "--figure", "a.pdf"], "ends in .png"),
        (["flat", J, *AT, "--eps", "0"], "'0'"),
        (["value", J, *AT, "--base", "two.yaml"], "holds 2 mixtures"),
        (["budget", J], "--flops"),
        (["budget", J, "--flops", "10"], "is below"),
        (["move", J, *AT], "--base"),
        (["move", J, *AT, "--base", "base.yaml", "--improve", "x=0.1"], "no target 'x'"),
        (
            [
                "move",
                J,
                *AT,
                "--base",
                "base.yaml",
                "--improve",
                "maths=0.001",
                "--figure",
                "m.png",
            ],
            "this result has none",
        ),
        (["move", J, *AT, "--base", "base.yaml", "--improve", "maths=0.9"], "cannot be reached"),
        (["move", J, *AT, "--base", "base.yaml", "--cap", "web=0.5"], "outside its limits"),
        (["robust", J, J, *AT, "--level", "1"], "below 1"),
        (["explore", J, "-N", "7e9", "-o", "out"], "-D: is missing"),
        (["explore", J, *AT, "-o", "out", "--only", "x"], "'x' is none of path"),
        (["explore", J, *AT, "-o", "out", "--only", "laws"], "second fit"),
        (["explore", J, *AT, "-o", "out", "--only", "map4"], "a map of 4 needs 4"),
    ],
)
def test_mistakes_are_told_in_one_line(place, run, monkeypatch, words, said):
    monkeypatch.chdir(place)
    before = {path.name for path in place.iterdir()}
    code, out, err = run(*words)
    assert code == 2
    assert out == ""
    assert said in err
    assert err.startswith("mixjax: error: ")
    assert err.count("\n") == 1
    assert {path.name for path in place.iterdir()} == before


def test_mix_json_is_the_contract(folder, run, read):
    wishes = ["--weights", "web=1,maths=2", "--cap", "code=0.4", "--floor", "web=0.1"]
    content = read("mix", folder / "fit.json", "-N", "7e9", "-D", "1.5e11", *wishes)
    assert set(content) >= {"weights", "losses", "objective", "gap", "N", "D"}
    assert (content["N"], content["D"]) == (7e9, 1.5e11)
    assert sum(content["weights"].values()) == pytest.approx(1)
    assert content["weights"]["code"] <= 0.4 + 1e-9
    code, out, _ = run("mix", folder / "fit.json", "-N", "7e9", "-D", "150e9")
    assert code == 0
    assert "web" in out


LIMITED = ["--group", "g=web+code", "--cap", "g=60%", "--fix", "wiki=0.45"]


@pytest.mark.parametrize(
    ("command", "weights"),
    [
        (["mix"], ["weights"]),
        (["mix", "--worst"], ["weights"]),
        (["mix", "--most-domains", "2"], ["weights"]),
        (["value"], ["weights"]),
        (["judge", "base.yaml"], ["mixtures", "optimum", "weights"]),
        (["robust", "additive.json"], ["mixtures", "robust", "weights"]),
        (["pareto", "--between", "x=code,y=web"], ["points", 0, "weights"]),
    ],
    ids=lambda words: " ".join(map(str, words)),
)
def test_questions_keep_groups_and_fixed_shares(place, read, monkeypatch, command, weights):
    monkeypatch.chdir(place)
    answer = read(command[0], "joint.json", *command[1:], *AT, *LIMITED)
    for key in weights:
        answer = answer[key]
    assert answer["wiki"] == pytest.approx(0.45, abs=1e-9)
    assert answer["web"] + answer["code"] == pytest.approx(0.55, abs=1e-9)


@pytest.fixture
def supply(place):
    """A supply in a file, read by every question."""
    path = place / "supply.yaml"
    path.write_text(
        "tokens: {wiki: 0.9B, code: 1e12}\n"
        "epochs: {wiki: 2, code: 1}\n"
        "groups: {natural: web+wiki}\n"
        "caps: {natural: 70%}\n"
        "floors: {code: 5%}\n"
    )
    return path


def test_a_supply_is_read_from_a_file_and_options_go_before_it(place, read, supply):
    words = ["mix", place / "joint.json", *AT, "--supply", supply]
    best = read(*words, "--weights", "wiki=1")
    assert best["weights"]["wiki"] == pytest.approx(2 * 0.9e9 / 150e9)
    assert best["epochs"]["wiki"] == pytest.approx(2)
    more = read(*words, "--weights", "wiki=1", "--tokens", "wiki=30B", "--floor", "code=10%")
    assert more["weights"]["wiki"] > best["weights"]["wiki"]
    assert more["weights"]["code"] >= 0.1 - 1e-12
    own = [
        *AT,
        "--tokens",
        "wiki=0.9B,code=1T",
        "--epochs",
        "wiki=2,code=1",
        "--floor",
        "code=0.05",
    ]
    own += ["--group", "natural=web+wiki", "--cap", "natural=0.7", "--weights", "wiki=1"]
    assert read("mix", place / "joint.json", *own)["weights"] == best["weights"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tokens: {wbe: 1B}\n", ("supply.yaml, line 1: no domain 'wbe'; did you mean 'web'?",)),
        ("\ncaps: {web: much}\n", ("supply.yaml, line 2: web is 'much'", "10%")),
        ("cap: {web: 0.5}\n", ("line 1: unknown key 'cap'; did you mean 'caps'?",)),
        ("epochs: {web: 0}\n", ("line 1", "a number above 0")),
        ("", ("supply.yaml: is empty",)),
    ],
)
def test_mistakes_in_a_supply_are_told_with_their_line(place, refused, supply, text, words):
    supply.write_text(text)
    refused("mix", place / "joint.json", *AT, "--supply", supply, words=words)


def test_a_base_may_be_written_as_it_stands(place, read):
    inline = read("judge", place / "joint.json", "web=0.8,code=10%,wiki=0.1", *AT)
    named = read("judge", place / "joint.json", *AT, "--base", place / "base.yaml")
    assert inline["mixtures"]["base"] == named["mixtures"]["base"]
    move = ["move", place / "joint.json", *AT, "--steps", "2", "--base"]
    assert read(*move, "web=8,code=1,wiki=1") == read(*move, place / "base.yaml")


def test_judge_tells_what_a_base_breaks(place, run, read):
    words = ["judge", place / "joint.json", place / "base.yaml", *AT, "--tokens", "wiki=1B"]
    code, out, err = run(*words, "--cap", "web=0.5")
    assert (code, err) == (0, "")
    told = "'web' has 0.8, outside its limits 0 to 0.5; 'wiki' has 0.1, 15 epochs of its tokens"
    assert out.count(f"base, judged anyway: {told}, which allow 1\n") == out.count("'web'") == 1
    assert "mixjax intervals tells how sure" in out
    assert read(*words)["mixtures"]["base"]["broken"].startswith("'wiki' has 0.1, 15 epochs")


def test_judge_names_every_share_beyond_the_trained_ones(run, place, tmp_path):
    near = {"web": (0.2, 0.7), "code": (0.15, 0.5), "wiki": (0.1, 0.4)}
    replace(three_domains(), share_ranges=near).save(tmp_path / "fit.json")
    out = run("judge", tmp_path / "fit.json", place / "base.yaml", *AT)[1]
    told = "'web' has 0.8, beyond the trained 0.2 to 0.7; 'code' has 0.1, beyond the trained"
    assert f"base, judged anyway: {told} 0.15 to 0.5\n" in out
    assert "breaks" not in out


def corners(gamma: float) -> mj.Fit:
    """A fit whose law has a local optimum at each corner: the less web, the worse."""
    numbers = {"E": 1.0, "gamma": np.full(3, gamma), "C": np.array([1.0, 0.9, 0.8])}
    rest = {"A": 400.0, "alpha": 0.34, "B": 1200.0, "beta": 0.35}
    return known_fit("additive", DOMAINS, {"maths": numbers | rest})


def test_limits_that_do_not_bind_in_the_end_tell_what_they_cost(run, read, tmp_path):
    corners(2.0).save(tmp_path / "fit.json")
    mix = ("mix", tmp_path / "fit.json", *AT)
    free, held = read(*mix), read(*mix, "--cap", "web=0.5")
    assert held["weights"]["code"] == pytest.approx(1.0)
    assert held["bound"] == {}
    assert held["cost"] == pytest.approx(held["objective"] / free["objective"] - 1)
    assert held["cost"] > 0.01
    assert "without limits, and what that costs" in run(*mix, "--cap", "web=0.5")[1]
    loose = run(*mix, "--cap", "code=0.9")[1]
    assert "without limits the best mixture is the same" in loose
    assert read(*mix, "--cap", "code=0.9")["cost"] == 0


def test_what_is_no_proof_is_not_told_as_one(run, tmp_path):
    corners(2.0).save(tmp_path / "corners.json")
    corners(0.5).save(tmp_path / "convex.json")
    out = run("mix", tmp_path / "corners.json", *AT)[1]
    assert re.search(r"a local optimum, the best of \d+ starts, \d+ of which reached it", out)
    assert "no mixture" not in out
    out = run("mix", tmp_path / "convex.json", *AT)[1]
    assert "by this law no mixture within the limits is better by more" in out
    alone = replace(mj.optimal_mixture(corners(2.0), N=7e9, D=1.5e11), agreeing=1, starts=7)
    assert "7 starts, which no other start reached: a better one may have been" in str(alone)


@pytest.mark.parametrize(
    ("shares", "told"),
    [
        ("web=0.5,code=0.4", "shares sum to 0.9, not to 1"),
        ("web=60,code=30", "shares sum to 90, not to 100"),
        ("web=50%,code=30%", "shares sum to 0.8, not to 1"),
        ("web=60,code=30,wiki=10", ""),
        ("web=0.333,code=0.333,wiki=0.334", ""),
        ("web=2,code=1", ""),
        ("web=600e9,code=50e9", ""),
        ("web=1", ""),
    ],
)
def test_shares_that_do_not_sum_to_one_are_told(place, run, shares, told):
    code, _, err = run("judge", place / "joint.json", *AT, "--base", shares)
    assert code == 0
    assert (told in err) if told else err == ""


def test_a_fit_at_the_size_of_its_runs_says_so(run, tmp_path):
    fixed = random_truth("additive_fixed_n", 3, ("a",), 0)
    fixed.save(tmp_path / "fit.json")
    code, out, err = run("mix", tmp_path / "fit.json", *AT)
    assert code == 0
    assert out.startswith("best mixture at D = 1.5e+11\n")
    assert "law reads no N: this is the mixture for the size of its runs" in err
