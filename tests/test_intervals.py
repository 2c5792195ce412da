"""Intervals: what they are made of, and that they hold on simulated tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

import mixjax as mj
from mixjax.data.runs import Runs
from mixjax.data.splits import EXTREME, make_backtests
from mixjax.errors import MixjaxWarning, UserError
from mixjax.fitting.simulate import random_truth, simulate_runs
from mixjax.trust.drift import AXES, Drift, reach_of
from mixjax.trust.ensemble import Ensemble
from mixjax.trust.intervals import LossInterval, Uncertainty, best_mixture, noise_of, uncertainty

TARGETS = ("d0", "d1")
SIZES = (2e8, 4e8, 8e8, 1.6e9)
LARGER = (4e9, 1e11)


def rows(sizes=SIZES, mixtures: int = 12):
    h = np.random.default_rng(1).dirichlet(np.full(3, 2.0), mixtures)
    m, N, c = (
        x.ravel() for x in np.meshgrid(np.arange(mixtures), sizes, [0.4, 0.7, 1.0], indexing="ij")
    )
    return h[m], N, 25 * N * c


def experiment(seed: int = 5, sizes=SIZES, **options) -> Runs:
    return mj.read_runs(
        simulate_runs(
            random_truth("additive", 3, TARGETS, seed=3), *rows(sizes), seed=seed, **options
        )
    )


def sizes_of(runs: Runs) -> np.ndarray:
    assert runs.N is not None
    return runs.N


def members(fit: mj.Fit, count: int, spread: float, seed: int = 0) -> Ensemble:
    """Members whose E is normal about the fit's."""
    rng = np.random.default_rng(seed)
    params = {
        t: {name: np.stack([np.asarray(v)] * count) for name, v in fit.params[t].items()}
        for t in fit.targets
    }
    for t in fit.targets:
        params[t]["E"] = params[t]["E"] + spread * rng.standard_normal(count)
    return Ensemble(fit, params, {t: np.zeros(count) for t in fit.targets})


@pytest.fixture(scope="module")
def runs() -> Runs:
    return experiment()


@pytest.fixture(scope="module")
def fit(runs: Runs) -> mj.Fit:
    return mj.fit(runs, "additive", starts=24, hops=0)


@pytest.fixture(scope="module")
def trust(fit: mj.Fit, runs: Runs) -> Uncertainty:
    return uncertainty(fit, runs, *LARGER, resamples=60)


def made(
    fit: mj.Fit,
    runs: Runs,
    spread: float = 0.0,
    noise: float = 0.0,
    drift: Sequence[float] = (0.0, 0.0, 0.0, 0.0),
    clusters: int = 10**9,
    folds: int = 10**6,
) -> Uncertainty:
    """Of known parts; drift: rates along `AXES`; folds: that it was measured on, many of which make
    it normal."""
    rng = np.random.default_rng(0)
    return Uncertainty(
        members(fit, 4000, spread),
        dict.fromkeys(fit.targets, noise * rng.standard_normal(5000)),
        Drift(dict.fromkeys(fit.targets, np.array(drift)), ("N",) * folds),
        reach_of(fit, runs),
        clusters,
        np.zeros(3),
        0,
    )


def inside(runs: Runs) -> np.ndarray:
    """A mixture (1, 3) among the trained ones."""
    return runs.h.mean(axis=0, keepdims=True)


def test_each_part_alone_gives_its_normal_quantile(fit, runs):
    h, at = inside(runs), (SIZES[-1] * np.e, 1e9)  # one unit of log N beyond the table
    p = fit.predict(*at, h[0])["d0"]
    for options, expected in (
        ({"spread": 0.02}, 0.02),
        ({"noise": 0.01}, 0.01 * p),
        ({"drift": (0.03, 1.0, 1.0, 1.0)}, 0.03 * p),
    ):
        interval = made(fit, runs, **options).intervals(*at, h)["d0"]
        np.testing.assert_allclose(interval.width / 2, 1.6449 * expected, rtol=0.04)
        np.testing.assert_allclose((interval.low + interval.high) / 2, interval.predicted)
    together = made(fit, runs, 0.02, 0.01, (0.03, 0, 0, 0)).intervals(*at, h)["d0"].width / 2
    np.testing.assert_allclose(
        together, 1.6449 * np.sqrt(0.02**2 + (0.01 * p) ** 2 + (0.03 * p) ** 2), rtol=0.04
    )


@pytest.mark.parametrize("axis", AXES)
def test_drift_is_the_rate_times_the_distance_along_its_axis(fit, runs, axis):
    N, D = fit.ranges["N"][1], fit.ranges["D"][1]  # the largest, which are of one run here
    at = {
        "N": (N * np.e**2, 1e9, inside(runs), 2.0),
        "D": (2e8, D * np.e**2, inside(runs), 2.0),
        "compute": (N, D, inside(runs), 0.0),
        "mixture": (1e9, 1e10, np.array([[1.0, 0.0, 0.0]]), None),
    }[axis]
    *where, distance = at
    table = reach_of(fit, runs)
    if axis == "mixture":
        (distance,) = table.distance(*where)[:, 3]
        assert distance > 0.05
    if axis == "compute":  # of a table that holds its largest N and D apart
        table = replace(table, largest=table.largest - np.array([0, 0, 1.5]))
        distance = 1.5
    rates = np.where(np.array(AXES) == axis, 0.02, 0.0)
    trust = replace(made(fit, runs, drift=tuple(rates)), table=table)
    interval = trust.intervals(*where)["d0"]
    p = fit.predict(*where)["d0"]
    np.testing.assert_allclose(interval.width / 2, 1.6449 * 0.02 * distance * p, rtol=0.04)
    other = replace(made(fit, runs, drift=tuple(0.02 - rates)), table=table).intervals(*where)["d0"]
    assert other.width < 0.2 * interval.width or axis in ("N", "D")  # which are compute too


@pytest.mark.parametrize(("folds", "quantile"), [(0, 2.920), (1, 2.353), (4, 1.943)])
def test_drift_that_little_tells_of_is_students(fit, runs, folds, quantile):
    """Its 95 percent point with 2, 3 and 6 degrees of freedom."""
    at = (SIZES[-1] * np.e, 1e9, inside(runs))
    interval = made(fit, runs, drift=(0.03, 0, 0, 0), folds=folds).intervals(*at)["d0"]
    p = fit.predict(*at)["d0"]
    np.testing.assert_allclose(interval.width / 2, quantile * 0.03 * p, rtol=0.06)


def test_drift_in_scale_is_one_for_all_rows_and_beyond_mixtures_one_for_each(fit, runs):
    """In a difference of two mixtures the first is the same factor, the second their own."""
    a, b = np.array([0.6, 0.3, 0.1]), np.array([0.2, 0.3, 0.5])
    at = (SIZES[-1] * np.e, 1e9)
    losses = fit.predict(*at, np.stack([a, b]))["d0"]
    scale = made(fit, runs, drift=(0.03, 0, 0, 0)).difference(a, b, *at)["d0"]
    np.testing.assert_allclose(
        scale.width[0] / 2, 1.6449 * 0.03 * abs(losses[0] - losses[1]), rtol=0.04
    )
    corner = np.array([1.0, 0.0, 0.0])
    (distance,) = reach_of(fit, runs).distance(1e9, 1e10, corner)[:, 3]
    mixture = made(fit, runs, drift=(0, 0, 0, 0.03)).difference(corner, b, 1e9, 1e10)["d0"]
    larger = fit.predict(1e9, 1e10, np.stack([corner, b]))["d0"].max()
    np.testing.assert_allclose(mixture.width[0] / 2, 1.6449 * 0.03 * distance * larger, rtol=0.04)
    assert made(fit, runs, drift=(0, 0, 0, 0.03)).difference(a, a, 1e9, 1e10)["d0"].predicted == 0


def test_few_clusters_widen_and_levels_nest(fit, runs):
    h = np.full((1, 3), 1 / 3)
    few, many = (
        made(fit, runs, spread=0.02, clusters=c).intervals(1e9, 1e10, h)["d0"].width
        for c in (5, 10**9)
    )
    np.testing.assert_allclose(few / many, np.sqrt(5 / 4))
    trust = made(fit, runs, 0.02, 0.01)
    assert (
        trust.intervals(1e9, 1e10, h, level=0.5)["d0"].width
        < trust.intervals(1e9, 1e10, h, level=0.9)["d0"].width
    )
    assert (
        trust.intervals(1e9, 1e10, h, new_rows=False)["d0"].width
        < trust.intervals(1e9, 1e10, h)["d0"].width
    )


def test_what_mixtures_share_leaves_their_difference(fit, runs):
    trust = made(fit, runs, spread=0.05)  # E is common to all mixtures
    a, b = np.array([0.6, 0.2, 0.2]), np.array([0.2, 0.6, 0.2])
    difference = trust.difference(a, b, 1e9, 1e10)["d0"]
    np.testing.assert_allclose(
        difference.predicted,
        fit.predict(1e9, 1e10, a)["d0"] - fit.predict(1e9, 1e10, b)["d0"],
        rtol=1e-9,
    )
    assert difference.width[0] < 1e-9
    assert trust.intervals(1e9, 1e10, a)["d0"].width[0] > 0.1


def test_what_was_left_out_is_said(trust, runs):
    names = tuple(fold.name for fold in make_backtests(runs, 11))
    assert trust.drift.folds == names
    assert trust.held_out == ", ".join(names)
    assert "N >= 1.6e+09" in trust.held_out
    only = trust.only(("d1",))
    np.testing.assert_array_equal(only.drift.rates["d1"], trust.drift.rates["d1"])
    assert set(only.drift.rates) == {"d1"}


def test_noise_is_enlarged_for_the_parameters(fit, runs):
    n, q = len(runs), 11
    residuals = runs.loss("d0") / fit.predict(runs.N, runs.D, runs.h)["d0"] - 1
    np.testing.assert_allclose(noise_of(fit, runs)["d0"], residuals * np.sqrt(n / (n - q)))


def test_intervals_cover_new_measurements(trust):
    h, N, D = rows(sizes=(SIZES[2],))
    covered = []
    for seed in range(30, 40):
        table = mj.read_runs(
            simulate_runs(random_truth("additive", 3, TARGETS, seed=3), h, N, D, seed=seed)
        )
        covered += [
            interval.covers(table.loss(t)) for t, interval in trust.intervals(N, D, h).items()
        ]
    assert 0.8 < np.mean(covered) < 0.99


def test_the_best_mixture_and_what_it_may_cost(trust):
    truth = random_truth("additive", 3, TARGETS, seed=3)
    found = best_mixture(trust, mj.Question(trust.fit, *LARGER))
    assert all(low - 1e-9 <= high for low, high in found.shares.values())
    best = mj.optimal_mixture(truth, *LARGER)
    h = np.array(list(found.best.weights.values()))
    cost = sum(float(x) for x in truth.predict(*LARGER, h).values()) - best.objective
    assert cost <= found.regret
    assert found.objective[0] < best.objective < found.objective[1]
    assert 0 < found.regret < found.objective[1] - found.objective[0]
    content = found.to_dict()
    assert set(content) == {"weights", "objective", "regret", "level", "members"}
    assert "regret" in str(found)


def test_members_may_go_below_the_trained_shares(trust):
    """The true best mixture may lie there too; held at the trained shares, members promise too
    small a regret."""
    question = mj.Question(trust.fit, *LARGER)
    free, few = (
        best_mixture(replace(trust, lowest=np.full(3, lowest)), question) for lowest in (0.01, 0.3)
    )
    assert few.regret == pytest.approx(free.regret, rel=0.05)
    assert few.members == len(trust.ensemble)


def test_a_question_keeps_its_limits_and_its_pull(trust):
    question = mj.Question(
        trust.fit,
        *LARGER,
        caps={"two": 0.5},
        groups={"two": trust.fit.domains[:2]},
        fixed={trust.fit.domains[0]: 0.2},
    )
    first, second, _ = best_mixture(trust, question).shares.values()
    assert first == pytest.approx((0.2, 0.2), abs=1e-9)
    assert second[1] <= 0.3 + 1e-9
    free = mj.Question(trust.fit, *LARGER)
    prior = best_mixture(trust, free).best.weights
    # Where the prior is the best mixture itself, a pull holds the members to it.
    strong = best_mixture(trust, free.but(pull=mj.mixture.Pull(prior, 100.0)))
    for d, (low, high) in strong.shares.items():
        assert (low, high) == pytest.approx((prior[d], prior[d]), abs=1e-3)
    assert 0 <= strong.regret < best_mixture(trust, free).regret


def test_same_seed_same_intervals(fit, runs, trust):
    again = uncertainty(fit, runs, *LARGER, resamples=60)
    h, N, D = rows(sizes=(LARGER[0],))
    for t in TARGETS:
        np.testing.assert_array_equal(
            again.intervals(N, D, h)[t].low, trust.intervals(N, D, h)[t].low
        )


def test_a_table_of_two_sizes_says_nothing_of_drift():
    whole = experiment(sizes=SIZES[:2])
    runs = whole.select(whole.D == 25 * whole.N)  # two D as well
    with pytest.warns(MixjaxWarning, match="N and D move together"):
        fit = mj.fit(runs, "additive", starts=12, hops=0, targets=["d0"])
    with pytest.warns(MixjaxWarning, match="too few sizes"):
        trust = uncertainty(fit, runs, *LARGER, resamples=20)
    assert all(name == EXTREME for name in trust.drift.folds)
    assert trust.drift.freedom == 2
    np.testing.assert_array_equal(trust.drift.rates["d0"][:3], np.zeros(3))


def test_a_table_of_two_d_at_one_size_says_nothing_of_drift_either():
    """Of a law that reads no N, D alone is beyond it."""
    whole = experiment()
    runs = whole.select((SIZES[0] == whole.N) & (25 * 0.5 * SIZES[0] < whole.D))
    fit = mj.fit(runs, "additive_fixed_n", starts=8, hops=0, targets=["d0"])
    with pytest.warns(MixjaxWarning, match="too few sizes"):
        uncertainty(fit, runs, None, LARGER[1], resamples=20)


def test_unusable_options_are_refused(fit, runs, trust):
    with pytest.raises(UserError, match="too few for intervals"):
        uncertainty(fit, runs, resamples=5)
    with pytest.raises(UserError, match="not between 0 and 1"):
        trust.intervals(1e9, 1e10, np.full((1, 3), 1 / 3), level=90)


def test_missing_losses_are_not_covered():
    interval = LossInterval(np.ones(3), np.zeros(3), np.full(3, 2.0), 0.9)
    assert interval.covers([1.0, 3.0, np.nan]).tolist() == [True, False, False]


def test_few_mixtures_are_told(fit: mj.Fit, runs: Runs):
    few = runs.select(np.isin(runs.h[:, 0], np.unique(runs.h[:, 0])[:3]))
    with pytest.warns(
        MixjaxWarning,
        match=(
            r"has 3 mixtures: intervals know nothing of how others differ.*train 5 mixtures or "
            r"more"
        ),
    ):
        uncertainty(fit, few, resamples=20)
