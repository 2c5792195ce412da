"""How far rows lie beyond a table, and what the rows left out of it say of drift there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mixjax as mj
from mixjax.data.runs import Runs
from mixjax.data.splits import EXTREME, make_backtests
from mixjax.fitting.record import average_fits
from mixjax.fitting.simulate import random_truth, simulate_runs
from mixjax.trust.drift import AXES, Drift, Table, measure_drift, reach_of
from mixjax.trust.intervals import noise_of

TARGETS = ("d0", "d1")
NOISELESS = dict.fromkeys(TARGETS, 0.0)
CORNERS = np.eye(3)


def grid(sizes=(2e8, 4e8, 8e8, 1.6e9), tokens=(5e9, 1e10, 2e10), mixtures: int = 12):
    h = np.random.default_rng(1).dirichlet(np.full(3, 2.0), mixtures)
    each = np.meshgrid(np.arange(mixtures), sizes, tokens, indexing="ij")
    m, N, D = (x.ravel() for x in each)
    return h[m], N, D


# Enough of both that what is left of them without the two largest still tells a law.
LARGE = {"sizes": (1e8, 2e8, 4e8, 8e8, 1.6e9), "tokens": (2.5e9, 5e9, 1e10, 2e10, 4e10)}


def experiment(law: str = "additive", noise: float = 0.0, **options) -> Runs:
    truth = random_truth(law, 3, TARGETS, seed=3)
    return mj.read_runs(simulate_runs(truth, *grid(**options), noise=noise, seed=5))


def fitted(runs: Runs, law: str = "additive", **options) -> mj.Fit:
    return mj.fit(runs, law, starts=16, hops=0, **options)


def measured(fit: mj.Fit, runs: Runs, noise=NOISELESS) -> Drift:
    return measure_drift(fit, runs, noise, 0, lambda share: None)


@pytest.fixture(scope="module")
def runs() -> Runs:
    return experiment()


@pytest.fixture(scope="module")
def fit(runs: Runs) -> mj.Fit:
    return fitted(runs)


# ---------------------------------------------------------------- how far


TABLE = Table(np.log([1e9, 1e11, 1e19]), CORNERS[:2])


def test_distance_is_along_each_axis_alone():
    e = np.e
    inside = TABLE.distance(1e9, 1e10, CORNERS[0])
    np.testing.assert_array_equal(inside, np.zeros((1, 4)))
    for n, d, expected in (
        (e * 1e9, 1e10, [1, 0, 0, 0]),  # its compute is 1 more, as N alone says
        (1e8, e * 1e11, [0, 1, 0, 0]),
        (e * 1e9, e * 1e11, [1, 1, np.log(10), 0]),
        (1e9, 1e11, [0, 0, np.log(10), 0]),  # both in the table, but not together
    ):
        there = TABLE.distance(n, d, CORNERS[0])
        np.testing.assert_allclose(there[0, [0, 1, 3]], np.array(expected)[[0, 1, 3]], atol=1e-9)
        total = there[0, :3].sum()
        assert there[0, 2] >= 0
        assert total >= np.log(n * d) - np.log(1e19) - 1e-9
    np.testing.assert_allclose(TABLE.distance(1e9, 1e11, CORNERS[0])[0, 2], np.log(10))


def test_compute_is_what_n_and_d_do_not_say_already():
    there = TABLE.distance(np.e * 1e9, np.e * 1e11, CORNERS[0])[0]
    np.testing.assert_allclose(there[:2], 1.0)
    np.testing.assert_allclose(there[2], np.log(10))  # 2 + log 10 in all


def test_mixtures_are_as_far_as_the_share_that_must_move():
    h = np.array([[0.5, 0.5, 0.0], [0.5, 0.3, 0.2], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    np.testing.assert_allclose(TABLE.distance(1e9, 1e9, h)[:, 3], [0, 0.2, 1.0, 0], atol=1e-6)
    assert (TABLE.distance(1e9, 1e9, h)[:, :3] == 0).all()


def test_a_table_of_one_mixture_or_none_knows_no_distance_between_mixtures():
    one = Table(TABLE.largest, CORNERS[:1])
    np.testing.assert_array_equal(one.distance(1e9, 1e9, CORNERS)[:, 3], np.zeros(3))
    none = Table(TABLE.largest, np.zeros((1, 0)))
    np.testing.assert_array_equal(none.distance([1e9, 1e12], 1e9, np.zeros((2, 0)))[:, 3], [0, 0])


SCALES = st.floats(np.log(1e6), np.log(1e14))


@given(SCALES, SCALES, st.integers(0, 20))
def test_distance_is_none_within_and_never_negative(n, d, seed):
    h = np.random.default_rng(seed).dirichlet(np.ones(3))
    there = TABLE.distance(np.exp(n), np.exp(d), h)[0]
    assert (there >= 0).all()
    total = there[:3].sum()
    beyond = [n - np.log(1e9), d - np.log(1e11), n + d - np.log(1e19)]
    assert (total <= 1e-9) == (max(beyond) <= 1e-9)
    assert total >= max(beyond) - 1e-9


def test_a_law_that_reads_no_n_is_never_beyond_it(runs):
    one = runs.select(runs.N == 2e8)
    table = reach_of(fitted(one, "additive_fixed_n"), one)
    there = table.distance(1e15, np.e * 2e10, one.h[:1])[0]
    np.testing.assert_allclose(there, [0, 1, 0, 0], atol=1e-9)


def test_a_fit_reaches_as_far_as_its_runs(fit, runs):
    table = reach_of(fit, runs)
    np.testing.assert_allclose(np.exp(table.largest), [1.6e9, 2e10, 3.2e19])
    assert table.mixtures.shape == (12, 3)
    np.testing.assert_array_equal(table.distance(runs.N, runs.D, runs.h), np.zeros((len(runs), 4)))


def test_rows_of_an_isoflop_table_beyond_its_compute_are_beyond_it():
    """Along N and D alone every row is inside: the largest model has the fewest tokens."""
    truth = random_truth("chinchilla", 0, ("t",), seed=1)
    compute = np.repeat([1e18, 3e18, 1e19], 6)
    N = np.sqrt(compute / 6) * np.tile(np.geomspace(0.05, 20, 6), 3)
    D = compute / 6 / N
    table = mj.read_runs(simulate_runs(truth, N=N, D=D, noise=0.0))
    reach = reach_of(fitted(table, "chinchilla"), table)
    inner = np.sqrt(1e20 / 6)
    assert inner < N.max()
    assert inner < D.max()
    np.testing.assert_allclose(
        reach.distance(inner, inner, np.zeros((1, 0))), [[0, 0, np.log(10), 0]], atol=1e-6
    )


# ---------------------------------------------------------------- how much


def test_the_true_law_without_noise_does_not_drift():
    runs = experiment(**LARGE)
    found = measured(fitted(runs), runs)
    assert found.folds == tuple(fold.name for fold in make_backtests(runs, 11))
    assert EXTREME in found.folds
    for rates in found.rates.values():
        assert rates.shape == (len(AXES),)
        # Where short searches end.
        np.testing.assert_allclose(rates, 0.0, atol=1e-4)


def test_a_wrong_law_drifts_along_what_it_has_wrong():
    """Losses bend in log N more than the law does, for one target alone."""
    runs = experiment()
    bend = 1 + 0.05 * np.log(runs.N / 2e8) ** 2
    losses = runs.losses.copy()
    losses[:, 0] *= bend
    bent = replace(runs, losses=losses)
    fit = fitted(bent)
    sizes = {t: float(np.sqrt(np.mean(off**2))) for t, off in noise_of(fit, bent).items()}
    found = measured(fit, bent, sizes)
    d0, d1 = (found.rates[t] for t in TARGETS)
    assert d0[AXES.index("N")] > 0.02
    assert d0[AXES.index("N")] > 1.5 * d0[AXES.index("D")]
    # Half of a variance is of all targets: sqrt of 1/2 + 1/4 and of 1/4.
    np.testing.assert_allclose(d1[0] / d0[0], np.sqrt(1 / 3), rtol=0.02)


def test_the_rate_is_the_error_over_the_distance():
    """A law of E alone: what it predicts is the median, whatever is left out."""
    N = np.repeat([1e8, 2e8, 4e8, 8e8], 12)
    D = np.tile(np.geomspace(1e9, 1e10, 12), 4)
    losses = np.where(N < 8e8, 3.0, 3.0 / 1.06)
    frame = {"N": N, "D": D, "loss_d0": losses, "loss_d1": 3.0}
    runs = mj.read_runs(pd.DataFrame(frame))
    law = mj.Law(
        "level",
        (mj.Parameter("E"), mj.Parameter("a", start=(1e-9, 1e-8))),
        predict=lambda p, h, n, d: p["E"] + 0.0 * p["a"] * n * d,
    )
    found = measured(fitted(runs, law), runs)
    assert len(found.folds) >= 4
    assert found.rates["d0"][0] > found.rates["d0"][1] > 0
    one = [f for f in make_backtests(runs, 2) if f.name == "N >= 8e+08"]
    rest = runs.select(~one[0].held_out)
    distance = reach_of(fitted(runs, law), rest).distance(8e8, D[-12:], np.zeros((12, 0)))
    assert distance[:, 0] == pytest.approx(np.log(2))
    assert found.rates["d0"][0] == pytest.approx(
        0.06 * np.sqrt(0.75) / np.sqrt(np.mean(distance.sum(axis=1) ** 2)), rel=0.6
    )


def test_noise_is_no_drift():
    runs = experiment(noise=0.003, **LARGE)
    fit = fitted(runs)
    with_noise, without = measured(fit, runs, dict.fromkeys(TARGETS, 0.004)), measured(fit, runs)
    for t in TARGETS:
        assert (with_noise.rates[t] <= without.rates[t] + 1e-12).all()
        assert (with_noise.rates[t][:3] < without.rates[t][:3]).all()
    huge = measured(fit, runs, dict.fromkeys(TARGETS, 1.0))
    assert all((rates == 0).all() for rates in huge.rates.values())


def test_an_average_drifts_as_the_mean_of_its_laws_does(fit, runs):
    """The errors of a law that is right and of one that is wrong: half of the wrong one's."""
    wrong = fitted(runs, "chinchilla")
    mean = average_fits([(fit, 0.5), (wrong, 0.5)], runs)
    alone, half = measured(wrong, runs), measured(mean, runs)
    for t in TARGETS:
        axes = alone.rates[t] > 1e-3
        assert axes.any()
        np.testing.assert_allclose(half.rates[t][axes], alone.rates[t][axes] / 2, rtol=0.05)


def test_too_few_scales_measure_nothing():
    runs = experiment(sizes=(2e8,), tokens=(5e9,), mixtures=9)
    found = measured(fitted(runs, "additive_fixed_nd"), runs)
    assert found.folds == ()
    assert found.freedom == 2
    assert all((rates == 0).all() for rates in found.rates.values())


def test_freedom_is_one_for_each_fold_in_scale():
    for folds, freedom in (
        ((), 2),
        ((EXTREME,), 2),
        (("N >= 1e+09",), 3),
        (("N >= 1e+09", "N >= 5e+08", EXTREME), 4),
    ):
        assert Drift({}, folds).freedom == freedom


def test_progress_is_told_to_the_end(fit, runs):
    shares: list[float] = []
    measure_drift(fit, runs, NOISELESS, 0, shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_same_seed_same_drift(fit, runs):
    for t in TARGETS:
        np.testing.assert_array_equal(measured(fit, runs).rates[t], measured(fit, runs).rates[t])
