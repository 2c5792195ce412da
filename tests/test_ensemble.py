"""Refits: the same answer as a fit of the weighted rows, whatever lane a resample is in."""

from __future__ import annotations

import jax
import numpy as np
import pytest

import mixjax as mj
from mixjax.data.runs import Runs
from mixjax.data.splits import resample
from mixjax.engine import batch
from mixjax.errors import UserError
from mixjax.fitting.loss import Huber
from mixjax.fitting.objective import Reweighted
from mixjax.fitting.problem import from_paper, grouped, make_problem, reweighted, to_paper
from mixjax.fitting.simulate import random_truth, simulate_runs
from mixjax.law import find_law, laws
from mixjax.law.base import start_ranges
from mixjax.trust.ensemble import Ensemble, refit

TARGETS = ("d0", "d1")


def experiment(
    law: str = "additive", mixtures: int = 18, noise: float = 0.003, repeat: bool = False
) -> Runs:
    truth = random_truth(law, 3, TARGETS, seed=3)
    h = np.random.default_rng(1).dirichlet(np.full(3, 2.0), mixtures)
    m, N, D = (
        x.ravel()
        for x in np.meshgrid(np.arange(mixtures), [2e8, 5e8, 1e9], [5e9, 1e10, 2e10], indexing="ij")
    )
    if repeat:
        m, N, D = (np.append(x, x[:5]) for x in (m, N, D))
    table = simulate_runs(truth, h[m], N, D, noise=noise, seed=5)
    table.loc[4, "loss_d1"] = np.nan
    return mj.read_runs(table)


@pytest.fixture(scope="module")
def runs() -> Runs:
    return experiment()


@pytest.fixture(scope="module")
def fit(runs: Runs) -> mj.Fit:
    return mj.fit(runs, "additive")


@pytest.mark.parametrize("repeat", [False, True])
def test_reweighted_objectives_are_those_of_weighted_rows(repeat):
    runs = experiment(repeat=repeat)
    weights = resample(runs, 3)
    problem = make_problem(runs, find_law("additive"), None)
    data, many = reweighted(problem, weights), grouped(problem, weights)
    low, high = start_ranges(problem.coordinates, problem.k)
    z = np.random.default_rng(0).uniform(low, high)
    for r in range(3):
        weighted = make_problem(runs, find_law("additive"), weights=weights[r])
        for g in range(2):
            expected, slope = batch.evaluate(weighted.objective, weighted.data.of(g), z)
            value, grad = batch.evaluate(
                Reweighted(problem.objective),
                jax.tree.map(lambda leaf, g=g: leaf[g], data),
                np.append(z, float(r)),
            )
            np.testing.assert_allclose(value, expected, rtol=1e-12)
            np.testing.assert_allclose(grad[:-1], slope, rtol=1e-9, atol=1e-18)
            assert grad[-1] == 0
            np.testing.assert_allclose(
                batch.evaluate(problem.objective, many.of(3 * g + r), z)[0], expected, rtol=1e-12
            )


def test_a_refit_of_unit_weights_is_the_fit(fit, runs):
    members = refit(fit, runs, np.ones((2, len(runs))))
    expected = fit.predict(runs.N, runs.D, runs.h)
    for t, losses in members.predict(runs.N, runs.D, runs.h).items():
        np.testing.assert_allclose(losses, np.tile(expected[t], (2, 1)), rtol=2e-4)


def test_a_refit_is_the_fit_of_the_weighted_rows(fit, runs):
    weights = resample(runs, 3, seed=4)
    members = refit(fit, runs, weights)
    for r in range(3):
        full = mj.fit(runs, "additive", weights=weights[r])
        before, ours, theirs = (
            f.predict(runs.N, runs.D, runs.h) for f in (fit, members.member(r), full)
        )
        for t in TARGETS:
            moved, error = (
                np.median(np.abs(theirs[t] - before[t])),
                np.median(np.abs(ours[t] - theirs[t])),
            )
            assert error < 0.3 * moved
            seen = np.isfinite(runs.loss(t))
            losses = [
                np.average(Huber().value((runs.loss(t) - p[t])[seen]), weights=weights[r][seen])
                for p in (ours, theirs)
            ]
            assert losses[0] < 1.01 * losses[1]


def test_a_resample_does_not_depend_on_its_place(fit, runs):
    weights = resample(runs, 5)
    forth, back = refit(fit, runs, weights), refit(fit, runs, weights[::-1])
    for t in TARGETS:
        for name in forth.params[t]:
            np.testing.assert_array_equal(forth.params[t][name], back.params[t][name][::-1])


def test_members_predict_as_their_fits_do(fit, runs):
    members = refit(fit, runs, resample(runs, 4))
    losses = members.predict(runs.N, runs.D, runs.h)
    for r in range(len(members)):
        for t, expected in members.member(r).predict(runs.N, runs.D, runs.h).items():
            np.testing.assert_allclose(losses[t][r], expected, rtol=1e-12)
    only = members.only(("d1",))
    np.testing.assert_array_equal(only.predict(runs.N, runs.D, runs.h)["d1"], losses["d1"])


def test_near_optimal_minima_stay_within_the_tolerance(fit, runs):
    weights = resample(runs, 12)
    lowest, near = refit(fit, runs, weights), refit(fit, runs, weights, tolerance=0.2)
    for t in TARGETS:
        assert (lowest.excess[t] == 0).all()
        assert (near.excess[t] <= 0.2).all()
    assert max(near.excess[t].max() for t in TARGETS) > 0


@pytest.mark.parametrize("law", [law for law in laws() if law != "ge24"])
def test_the_reported_form_leads_back_to_the_search(law):
    runs = experiment("joint")
    problem = make_problem(runs, find_law(law), None)
    low, high = start_ranges(problem.coordinates, problem.k)
    rng = np.random.default_rng(2)
    for g in range(2):
        z = rng.uniform(low, high)
        back = from_paper(problem, g, to_paper(problem, g, z))
        np.testing.assert_allclose(back, z, rtol=1e-6, atol=1e-6)


def test_runaways_lead_back_to_numbers():
    problem = make_problem(experiment("joint"), find_law("joint"), None)
    params = to_paper(problem, 0, np.mean(start_ranges(problem.coordinates, problem.k), axis=0))
    params["C_A"][1] = 0.0
    assert np.isfinite(from_paper(problem, 0, params)).all()


@pytest.mark.parametrize(
    "weights", [np.ones(7), -np.ones((2, 90)), np.full((2, 90), np.nan), "abc"]
)
def test_row_weights_that_do_not_fit_the_table_are_refused(fit, runs, weights):
    with pytest.raises(UserError, match="one weight per row and resample"):
        refit(fit, runs, weights)


def test_a_resample_without_rows_is_refused(fit, runs):
    with pytest.raises(UserError, match="resample 1 leaves target"):
        refit(fit, runs, np.stack([np.ones(len(runs)), np.zeros(len(runs))]))


def test_an_ensemble_has_a_length(fit):
    params = {
        t: {name: np.stack([np.asarray(v)] * 3) for name, v in fit.params[t].items()}
        for t in fit.targets
    }
    assert len(Ensemble(fit, params, {t: np.zeros(3) for t in fit.targets})) == 3


def test_progress_is_told_from_the_first_minima_on(fit, runs):
    shares: list[float] = []
    mj.trust.refit(fit, runs, np.ones((2, len(runs))), watch=shares.append)
    assert shares == sorted(shares)
    assert shares[0] < 0.2 < shares[-1] <= 1.0
