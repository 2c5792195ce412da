"""Laws with a lag, and the rule that chooses a law and a lag by held-out scales."""

from __future__ import annotations

import json
from dataclasses import replace

import jax
import numpy as np
import pytest

import mixjax as mj
from mixjax.cli import main
from mixjax.data.design import design_mixtures
from mixjax.data.runs import Runs
from mixjax.data.splits import make_backtests
from mixjax.errors import UserError
from mixjax.fitting.simulate import known_fit, random_truth, simulate_runs
from mixjax.law import find_law, lagged
from mixjax.law.base import row_loss
from tests import reference

LAG = 2e9
DOMAINS = ("a", "b")


def truth(lag: float) -> mj.Fit:
    plain = random_truth("additive", 2, ("a", "t"), seed=2)
    return known_fit(lagged(find_law("additive"), lag), plain.domains, plain.params)


def table(lag: float = LAG, noise: float = 5e-4):
    fit = truth(lag)
    h = design_mixtures(fit.domains, 8, minimum=0.05).to_numpy()
    grid = np.meshgrid(
        np.arange(8), [2e8, 4e8, 8e8, 1.6e9, 6e9], [4e9, 8e9, 1.6e10, 3.2e10, 1e11], indexing="ij"
    )
    m, N, D = (x.ravel() for x in grid)
    small = (N < 6e9) & (D < 1e11)
    out = simulate_runs(fit, h[m], N, D, noise=noise, seed=1)
    out.insert(0, "split", np.where(small, "train", "eval"))
    return out


@pytest.fixture(scope="module")
def runs() -> Runs:
    return mj.read_runs(table(), where="split == 'train'")


@pytest.fixture(scope="module")
def found(runs: Runs):
    return mj.extrapolate(runs, laws=("additive",), lags=(0, LAG, 3e9), starts=12, hops=0)


def test_a_lagged_law_is_the_law_of_fewer_tokens():
    law, p = find_law("additive@2e9"), {k: np.asarray(v) for k, v in truth(0.0).params["t"].items()}
    h, N, D = np.array([0.3, 0.7]), 1e9, 5e9
    with jax.enable_x64(True):
        ours = float(row_loss(law, p, h, N, D))
        slope = float(jax.grad(lambda d: row_loss(law, p, h, N, d))(D))
    assert law.name == "additive@2e9"
    assert ours == pytest.approx(reference.additive(p, h, N, D - 2e9), rel=1e-12)
    step = 1e5
    twins = [reference.additive(p, h, N, D + s * step - 2e9) for s in (-1, 1)]
    assert slope == pytest.approx((twins[1] - twins[0]) / (2 * step), rel=1e-5)


def test_powers_falls_to_nothing_and_is_found():
    fit = random_truth("powers", 3, ("t",), seed=0)
    assert (
        fit.predict(1e9, 1e10, [1 / 3] * 3)["t"]
        > fit.predict(1e12, 1e13, [1 / 3] * 3)["t"]
        > fit.predict(1e40, 1e60, [1 / 3] * 3)["t"]
    )


def test_the_rule_finds_the_law_and_the_lag(found, runs):
    assert found.law == "additive@2e9"
    assert [c.error for c in found.candidates] == sorted(c.error for c in found.candidates)
    assert set(found.candidates[0].errors) == {"N", "two N", "D", "N and D"}
    assert found.fit.law == found.law
    assert "chosen: additive@2e9" in str(found)
    best, plain = (
        next(c for c in found.candidates if c.law.name == law)
        for law in ("additive@2e9", "additive")
    )
    assert best.error < 0.5 * plain.error


def test_what_is_chosen_predicts_larger_scales_better(found, runs):
    later = mj.read_runs(table(), where="split == 'eval'")
    plain = mj.fit(runs, "additive", starts=32, hops=0)
    for t in runs.targets:
        ours, theirs = (f.score(later)[t].mre for f in (found.fit, plain))
        assert ours < 0.5 * theirs


def test_a_lagged_fit_is_saved_and_refuses_too_few_tokens(found, tmp_path):
    found.fit.save(tmp_path / "fit.json")
    again = mj.load_fit(tmp_path / "fit.json")
    assert again.predict(1e9, 1e10, [0.5, 0.5]) == found.fit.predict(1e9, 1e10, [0.5, 0.5])
    with pytest.raises(UserError, match="not beyond the 2e\\+09 tokens"):
        again.predict(1e9, 1e9, [0.5, 0.5])
    best = mj.optimal_mixture(again, N=1e9, D=1e11)
    assert best.convex
    assert best.gap < 1e-9


def test_losses_that_are_held_out_change_no_fit(runs):
    def errors(losses):
        found = mj.extrapolate(
            replace(runs, losses=losses),
            laws=("additive",),
            lags=(LAG,),
            targets=("t",),
            starts=4,
            hops=0,
        )
        return found.candidates[0].errors

    (test,) = (t for t in make_backtests(runs, 9) if t.name == "N")
    losses = runs.losses.copy()
    # Twice as bad where half as low; the middle of all losses, which is the search's unit, does not
    # move.
    worse = test.scored & (losses[:, 1] < np.median(losses[:, 1]))
    losses[worse, 1] *= 0.5
    before, after = errors(runs.losses), errors(losses)
    share = worse.sum() / test.scored.sum()
    assert after["N"]["t"] == pytest.approx(
        100 * share, abs=1.0
    )  # the prediction is still the old loss: 100 percent off
    assert after["two N"]["t"] == pytest.approx(100 * share, abs=1.0)
    assert before["N"]["t"] < 1.0


def test_backtests_hold_out_the_largest_scales(runs):
    tests = {t.name: t for t in make_backtests(runs, 9)}
    np.testing.assert_array_equal(tests["N"].fold.held_out, runs.N == 1.6e9)
    np.testing.assert_array_equal(tests["two N"].fold.held_out, runs.N >= 8e8)
    np.testing.assert_array_equal(tests["D"].scored, runs.D > 1.6e10)
    np.testing.assert_array_equal(tests["N and D"].scored, (runs.N == 1.6e9) & (runs.D > 1.6e10))


def test_backtests_score_what_they_hold_out_alone(runs):
    """With three sizes two of them cannot be left out; scored all the same, every candidate's error
    was infinite and the first law named was chosen."""
    few = runs.select(runs.N < 1.6e9)
    tests = make_backtests(few, 9)
    assert [t.name for t in tests] == ["N", "D", "N and D"]
    for test in (*tests, *make_backtests(runs, 9)):
        assert test.fold.held_out[test.scored].all()
        assert test.scored.any()
    found = mj.extrapolate(few, laws=("chinchilla", "additive"), lags=(LAG,), starts=8, hops=0)
    assert found.law == "additive@2e9"
    assert all(np.isfinite(c.error) for c in found.candidates)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"laws": ()}, "none given"),
        ({"laws": ("joint@x",)}, "not a number of tokens"),
        ({"laws": ("joint@-1e9",)}, "not a number of tokens"),
        ({"laws": ("joint@nan",)}, "not a number of tokens"),
        ({"laws": ("nonsense@2e9",)}, "no law"),
        ({"precision": "float16"}, "no precision"),
        ({"lags": (4e9,)}, "below the smallest D"),
        ({"lags": (-1.0,)}, "below the smallest D"),
        ({"laws": ("nonsense",)}, "no law"),
    ],
)
def test_mistakes(runs, given, message):
    with pytest.raises(UserError, match=message):
        mj.extrapolate(runs, **given)


def test_a_lag_of_all_tokens_cannot_be_fitted(runs):
    with pytest.raises(UserError, match="not beyond the 4e\\+09 tokens"):
        mj.fit(runs, "additive@4e9", starts=4, hops=0)


def test_a_lag_of_nothing_is_the_law_itself():
    assert find_law("joint@0") == find_law("joint")
    assert lagged(find_law("joint@2e9"), 3e9).name == "joint@3e9"


def test_a_table_of_one_scale_is_refused():
    small = table()
    with pytest.raises(UserError, match="too few scales"):
        mj.extrapolate(mj.read_runs(small[(small.N == 2e8) & (small.D == 4e9)]), laws=("additive",))


def test_command(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MIXJAX_CACHE", "off")
    table().to_csv(tmp_path / "runs.csv", index=False)
    words = [
        "extrapolate",
        str(tmp_path / "runs.csv"),
        "--where",
        "split == 'train'",
        "--laws",
        "additive",
        "--starts",
        "8",
        "--hops",
        "0",
    ]
    assert main([*words, "--lags", "0,2e9", "-o", str(tmp_path / "fit.json"), "--json"]) == 0
    out = json.loads(capsys.readouterr().out)
    assert out["law"] == "additive@2e9"
    assert [c["law"] for c in out["candidates"]] == ["additive@2e9", "additive"]
    assert main(["mix", str(tmp_path / "fit.json"), "-N", "7e9", "-D", "1e11", "--json"]) == 0
    assert main([*words, "--lags", "0", "--progress", "--precision", "float32"]) == 0
    assert "objective" not in capsys.readouterr().err
    assert main([*words, "--lags", "0,x"]) == 2
    assert main([*words, "--lags", "9e9"]) == 2
    err = capsys.readouterr().err
    assert "is not a list of numbers" in err
    assert "below the smallest D" in err
