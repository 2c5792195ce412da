"""Validation: nothing held out is seen, and a law that is true predicts what it has not seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import mixjax as mj
from mixjax.data.runs import Runs
from mixjax.errors import UserError
from mixjax.fitting.simulate import random_truth, simulate_runs
from mixjax.trust.held_out import cross_validate

FEW = {"starts": 16, "hops": 0}


def experiment(noise: float = 0.001) -> Runs:
    h = np.random.default_rng(1).dirichlet(np.full(3, 2.0), 10)
    m, N, D = (
        x.ravel()
        for x in np.meshgrid(
            np.arange(10), [2e8, 5e8, 1e9, 2e9], [2.5e9, 5e9, 1e10, 1.4e10, 2e10], indexing="ij"
        )
    )
    return mj.read_runs(
        simulate_runs(
            random_truth("additive", 3, ["d0", "d1"], seed=3), h[m], N, D, noise=noise, seed=5
        )
    )


@pytest.fixture(scope="module")
def runs() -> Runs:
    return experiment()


@pytest.mark.parametrize(("by", "folds"), [("N", None), ("D", None), ("mixture", 3), ("run", 2)])
def test_a_true_law_predicts_what_it_has_not_seen(runs, by, folds):
    found = cross_validate(runs, "additive", by, folds=folds, **FEW)
    held = np.any([f.held_out for f in found.folds], axis=0)
    for t in ("d0", "d1"):
        assert (np.isfinite(found.predicted[t]) == held).all()
        assert found.scores[t].n == held.sum()
        assert found.scores[t].mre < 1.0
        assert found.train[t] < 0.2
    assert found.to_dict()["mean"]["mre"] == pytest.approx(
        np.mean([s.mre for s in found.scores.values()])
    )
    assert "mean" in str(found)


def test_held_out_losses_change_nothing(runs):
    before = cross_validate(runs, "additive", "N", **FEW)
    (fold,) = before.folds
    # Losses of the held-out rows move, the middle of all losses, which is the search's unit, does
    # not.
    losses = runs.losses.copy()
    losses[fold.held_out & (losses[:, 0] < np.median(losses[:, 0])), 0] *= 0.9
    after = cross_validate(replace(runs, losses=losses), "additive", "N", **FEW)
    np.testing.assert_array_equal(after.predicted["d0"], before.predicted["d0"])
    assert after.scores["d0"].mre > before.scores["d0"].mre


def test_a_fold_is_the_fit_without_it(runs):
    found = cross_validate(runs, "additive", "mixture", folds=5, starts=32, hops=0)
    fold = found.folds[2]
    alone = mj.fit(runs.select(~fold.held_out), "additive", starts=32, hops=0)
    held = runs.select(fold.held_out)
    for t, losses in alone.predict(held.N, held.D, held.h).items():
        np.testing.assert_allclose(found.predicted[t][fold.held_out], losses, rtol=1e-2)


def test_same_seed_same_validation(runs):
    one, two = (
        cross_validate(runs, "additive", "mixture", folds=3, seed=2, **FEW) for _ in range(2)
    )
    np.testing.assert_array_equal(one.predicted["d1"], two.predicted["d1"])


def test_searches_may_be_in_single_precision(runs):
    single, double = (
        cross_validate(runs, "additive", "N", precision=p, **FEW) for p in ("float32", "float64")
    )
    assert single.scores["d0"].mre == pytest.approx(double.scores["d0"].mre, rel=0.2)
    assert not np.array_equal(single.predicted["d0"], double.predicted["d0"])


def test_bad_options_are_refused(runs):
    with pytest.raises(UserError, match="starts"):
        cross_validate(runs, "additive", "N", starts=0)
    with pytest.raises(UserError, match="no split by"):
        cross_validate(runs, "additive", "size", **FEW)  # type: ignore[arg-type]
