"""Averages of laws: one law that predicts the weighted mean, in files, mixtures and intervals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import mixjax as mj
from mixjax.data.runs import Runs
from mixjax.data.splits import resample
from mixjax.errors import UserError
from mixjax.fitting.record import Status, average_fits
from mixjax.fitting.simulate import random_truth, simulate_runs
from mixjax.law import average, find_law, is_built_in
from mixjax.trust.ensemble import refit
from mixjax.trust.intervals import best_mixture, uncertainty

TARGETS = ("d0", "d1")
WEIGHTS = {"additive": 0.6, "powers@1e9": 0.4}
NAME = "0.6*additive + 0.4*powers@1e9"
AT = (7e9, 1.5e11)
H = np.array([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])


@pytest.fixture(scope="module")
def runs() -> Runs:
    h = np.random.default_rng(1).dirichlet(np.full(3, 2.0), 12)
    grid = np.meshgrid(np.arange(12), [2e8, 4e8, 8e8, 1.6e9], [5e9, 1e10, 2e10], indexing="ij")
    m, N, D = (x.ravel() for x in grid)
    truth = random_truth("additive", 3, TARGETS, seed=3)
    return mj.read_runs(simulate_runs(truth, h[m], N, D, seed=5))


@pytest.fixture(scope="module")
def parts(runs: Runs) -> dict[str, mj.Fit]:
    return {law: mj.fit(runs, law, starts=12, hops=0) for law in WEIGHTS}


@pytest.fixture(scope="module")
def mean(parts: dict[str, mj.Fit], runs: Runs) -> mj.Fit:
    return average_fits([(fit, WEIGHTS[law]) for law, fit in parts.items()], runs)


def mean_of(parts, *at) -> dict[str, np.ndarray]:
    return {
        t: sum(WEIGHTS[law] * np.asarray(fit.predict(*at)[t]) for law, fit in parts.items())
        for t in TARGETS
    }


def test_it_predicts_the_weighted_mean(mean, parts, runs):
    for at in ((*AT, H), (runs.N, runs.D, runs.h), (2e8, 1.1e9, [1.0, 0.0, 0.0])):
        for t, expected in mean_of(parts, *at).items():
            np.testing.assert_allclose(mean.predict(*at)[t], expected, rtol=1e-12)


def test_it_has_the_name_and_the_parameters_of_its_laws(mean, parts):
    assert mean.law == NAME
    law = mean.scaling_law
    assert [(x.name, w) for x, w in law.averaged] == list(WEIGHTS.items())
    assert law.count(3) == sum(fit.scaling_law.count(3) for fit in parts.values())
    assert mean.params["d0"]["additive.E"] == parts["additive"].params["d0"]["E"]
    np.testing.assert_array_equal(
        mean.params["d1"]["powers@1e9.C"], parts["powers@1e9"].params["d1"]["C"]
    )
    assert law.reads == (True, True)
    assert is_built_in(NAME)
    assert not is_built_in("0.5*additive + 0.5*mine")


def test_its_parts_are_its_fits(mean, parts):
    assert [(w, part.law) for w, part in mean.parts] == [(w, law) for law, w in WEIGHTS.items()]
    for (_, part), fit in zip(mean.parts, parts.values(), strict=True):
        for t in TARGETS:
            assert part.predict(*AT, H)[t] == pytest.approx(fit.predict(*AT, H)[t], rel=1e-12)
    assert parts["additive"].parts == ((1.0, parts["additive"]),)


def test_its_search_is_the_worst_and_its_objective_that_of_the_mean(mean, parts, runs):
    for t in TARGETS:
        assert mean.objective[t] == pytest.approx(mean.score(runs)[t].huber, rel=1e-12)
        searches = [fit.search[t] for fit in parts.values()]
        assert mean.search[t].gradient == max(s.gradient for s in searches)
        assert mean.search[t].evaluations == sum(s.evaluations for s in searches)
        assert mean.search[t].agreeing == min(s.agreeing for s in searches)
    gone = {t: replace(s, status=Status.INTERRUPTED) for t, s in mean.search.items()}
    fits = [(replace(parts["additive"], search=gone), 0.6), (parts["powers@1e9"], 0.4)]
    worst = average_fits(fits, runs)
    assert {s.status for s in worst.search.values()} == {"interrupted"}


def test_it_is_saved_and_loaded(mean, tmp_path):
    mean.save(tmp_path / "fit.json")
    again = mj.load_fit(tmp_path / "fit.json")
    assert again.law == NAME
    assert again.huber == mean.huber
    for t in TARGETS:
        np.testing.assert_array_equal(again.predict(*AT, H)[t], mean.predict(*AT, H)[t])
    assert [w for w, _ in again.parts] == [w for w, _ in mean.parts]


def test_it_refuses_too_few_tokens(mean):
    with pytest.raises(UserError, match="not beyond the 1e\\+09 tokens"):
        mean.predict(1e9, 9e8, [0.5, 0.25, 0.25])


def test_it_is_convex_where_its_laws_are():
    law = find_law("0.5*additive + 0.5*joint")
    params = {
        name: np.full(3, 0.4) if p.shape else np.asarray(1.2)
        for p in law.parameters
        for name in [p.name]
    }
    assert law.is_convex(params)
    # A bracket is not convex for an exponent between 0 and 1, nor a mixture term beyond 1.
    assert not law.is_convex({**params, "joint.gamma_A": np.asarray(0.5)})
    assert not law.is_convex({**params, "additive.gamma": np.array([0.4, 1.4, 0.4])})
    gamma = np.array([[0.4, 0.4, 0.4], [0.4, 1.4, 0.4]])
    many = {name: np.stack([x, x]) for name, x in params.items()} | {"additive.gamma": gamma}
    assert law.is_convex(many).tolist() == [True, False]
    without = find_law("0.5*additive + 0.5*coupled")
    params = {p.name: np.full(3, 0.4) if p.shape else np.asarray(1.2) for p in without.parameters}
    assert not without.is_convex(params)  # not known of coupled


@pytest.mark.filterwarnings("ignore:mixture. share of:mixjax.errors.MixjaxWarning")
def test_its_best_mixture_is_the_lowest(mean, parts):
    best = mj.optimal_mixture(mean, N=AT[0], D=AT[1])
    h = np.array(list(best.weights.values()))
    assert best.objective == pytest.approx(sum(x for x in mean_of(parts, *AT, h).values()))
    others = np.random.default_rng(0).dirichlet(np.ones(3), 2000)
    assert best.objective <= sum(mean_of(parts, *AT, others).values()).min() + 1e-9
    near = 0.99 * h + 0.01 * others
    assert best.objective <= sum(mean_of(parts, *AT, near).values()).min() + 1e-9
    if best.convex:
        assert best.gap < 1e-6


def test_its_ensemble_is_that_of_its_laws(mean, parts, runs):
    weights = resample(runs, 3)
    together = refit(mean, runs, weights)
    each = {law: refit(fit, runs, weights) for law, fit in parts.items()}
    for t in TARGETS:
        expected = sum(WEIGHTS[law] * x.predict(*AT, H)[t] for law, x in each.items())
        np.testing.assert_allclose(together.predict(*AT, H)[t], expected, rtol=1e-12)
        np.testing.assert_array_equal(
            together.excess[t], np.max([x.excess[t] for x in each.values()], axis=0)
        )


def test_it_has_intervals_that_hold_its_laws(mean, parts, runs):
    trust = uncertainty(mean, runs, *AT, resamples=20)
    intervals = trust.intervals(*AT, H, level=0.95)
    for t, interval in intervals.items():
        np.testing.assert_allclose(interval.predicted, mean.predict(*AT, H)[t], rtol=1e-12)
        for fit in parts.values():
            assert interval.covers(fit.predict(*AT, H)[t]).all()
    question = mj.Question(mean, *AT)
    found = best_mixture(trust, question)
    assert found.regret > 0
    assert found.objective[0] < found.best.objective < found.objective[1]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("0.6*joint + 0.5*additive", "weights that do not add up to 1"),
        ("1.2*joint + -0.2*additive", "weights that do not add up to 1"),
        ("0*joint + 1*additive", "weights that do not add up to 1"),
        ("nan*joint + 1*additive", "weights that do not add up to 1"),
        ("half*joint + 0.5*additive", "could not convert string to float"),
        ("0.5*joint + additive", "write for example '0.6\\*joint \\+ 0.4\\*additive'"),
        ("0.5*joint+0.5*additive", "'0.5\\*joint\\+0.5\\*additive': "),
        ("0.5*jiont + 0.5*additive", "no law 'jiont'; did you mean 'joint'"),
        ("0.5*ge24 + 0.5*additive", "laws of a target's own domain are not averaged"),
        ("0.5*joint@x + 0.5*additive", "not a number of tokens"),
        ("0.5*joint + 0.5*joint", "'0.5\\*joint \\+ 0.5\\*joint': "),
    ],
)
def test_names_that_are_no_average_are_refused_in_one_line(name, message):
    with pytest.raises(UserError, match=message) as error:
        find_law(name)
    assert "\n" not in str(error.value)


def test_a_name_is_read_as_it_is_written():
    law = find_law(NAME)
    assert law.name == NAME
    assert law.averaged == ((find_law("additive"), 0.6), (find_law("powers@1e9"), 0.4))
    assert average(dict(law.averaged)).name == NAME
    assert find_law("0.999*joint@free-E@2e9 + 0.001*joint").averaged[0][0].lag == 2e9


def test_an_average_is_not_fitted_as_one_law(runs):
    with pytest.raises(UserError, match="not fitted as one; fit its laws one by one"):
        mj.fit(runs, "0.6*additive + 0.4*joint", starts=2, hops=0)
