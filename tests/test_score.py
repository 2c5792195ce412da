"""Scores against hand-made values, the twin and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from mixjax.fitting.loss import Huber
from mixjax.fitting.score import Score, choice_score, rank_correlation, ranks, score
from tests import reference

NAN, INF = np.nan, np.inf
DELTA = 1e-3

# Whole numbers over a power of two: many ties, and a spread that is never rounding alone.
tied = st.lists(st.integers(0, 6).map(lambda n: 1 + n / 4), min_size=2, max_size=12)
losses = st.floats(1e-3, 1e3)


def array(*values):
    return np.array(values, dtype=np.float64)


def test_a_score_by_hand():
    got = score(array(2.0, 3.0, 5.0, 4.0), array(2.0, 4.0, 4.0, 6.0), Huber(0.5))
    # errors 0, -1, 1, -2; measured mean 4, spread 4 + 0 + 0 + 4; Huber of 0, 1, 1, 2 with delta
    # 0.5: 0, 0.375, 0.375, 0.875. Ranks 1, 2, 4, 3 and 1, 2.5, 2.5, 4: centred products 2.25 + 0 +
    # 0 + 0.75, norms 5 and 4.5.
    assert got.n == 4
    np.testing.assert_allclose(
        [got.mre, got.mae, got.r2, got.huber, got.rank],
        [100 * (0.25 + 0.25 + 1 / 3) / 4, 1.0, 1 - 6 / 8, 1.625 / 4, 3.0 / np.sqrt(22.5)],
        rtol=1e-14,
    )


@pytest.mark.parametrize(
    ("measured", "predicted"),
    [
        (array(2.0, 3.0, 4.0), array(2.0, 3.0, 4.0)),
        (array(NAN, 2.0, 3.0, NAN, 4.0), array(9.0, 2.0, 3.0, 7.0, 4.0)),
    ],
    ids=["all measured", "some missing"],
)
def test_perfect_predictions(measured, predicted):
    assert score(predicted, measured, Huber(DELTA)) == Score(
        n=3, mre=0.0, mae=0.0, r2=1.0, huber=0.0, rank=pytest.approx(1.0, abs=1e-15)
    )


def test_rows_without_a_measured_loss_do_not_count():
    predicted, measured = array(2.0, 3.1, 3.9, 5.0), array(2.1, NAN, 4.0, 4.7)
    seen = [0, 2, 3]
    assert score(predicted, measured, Huber(DELTA)) == score(
        predicted[seen], measured[seen], Huber(DELTA)
    )


@pytest.mark.parametrize("measured", [array(), array(NAN), array(NAN, NAN)])
def test_no_measured_loss_is_no_score(measured):
    assert score(np.ones(len(measured)), measured, Huber(DELTA)) is None


# 0.1 and 2.7 thrice: their mean is not themselves in float64, so the spread is rounding, not zero.
@pytest.mark.parametrize("constant", [1.0, 0.1, 2.7, 3.3333333, 1e-5])
@pytest.mark.parametrize("n", [1, 2, 3, 6, 7, 10, 49])
def test_a_constant_series_has_neither_r2_nor_rank(constant, n):
    got = score(np.linspace(2, 3, n), np.full(n, constant), Huber(DELTA))
    assert (got.r2, got.rank) == (None, None)


@pytest.mark.parametrize("n", [2, 3, 7])
def test_constant_predictions_have_r2_but_no_rank(n):
    measured = np.linspace(2, 3, n)
    got = score(np.full(n, 0.1), measured, Huber(DELTA))
    assert got.rank is None
    np.testing.assert_allclose(
        got.r2, 1 - np.sum((measured - 0.1) ** 2) / np.sum((measured - 2.5) ** 2), rtol=1e-13
    )


@given(st.lists(st.tuples(losses, losses | st.just(NAN)), min_size=1, max_size=12))
@pytest.mark.parametrize("residual", ["loss", "log"])
def test_errors_are_the_twins(residual, pairs):
    predicted, measured = np.array(pairs).T
    got = score(predicted, measured, Huber(0.5, residual))
    seen = np.isfinite(measured)
    if not seen.any():
        assert got is None
        return
    residuals = np.log(measured) - np.log(predicted) if residual == "log" else measured - predicted
    assert got.n == seen.sum()
    np.testing.assert_allclose(got.mre, reference.mre(predicted, measured), rtol=1e-13)
    np.testing.assert_allclose(got.mae, np.mean(np.abs(predicted - measured)[seen]), rtol=1e-13)
    np.testing.assert_allclose(
        got.huber, np.mean([reference.huber(x, 0.5) for x in residuals[seen]]), rtol=1e-13
    )


@given(st.lists(st.tuples(losses, losses), min_size=2, max_size=12, unique_by=lambda pair: pair[1]))
def test_r2_is_scipys_for_the_best_line(pairs):
    """R2 of predictions by the least-squares line is the square of Pearson's correlation."""
    x, measured = np.array(pairs).T
    if np.ptp(x) < 1e-3 * x.max() or np.ptp(measured) < 1e-3 * measured.max():
        return  # the line itself is then ill-conditioned
    line = scipy.stats.linregress(x, measured)
    got = score(line.intercept + line.slope * x, measured, Huber(DELTA))
    # Cancellation in 1 - residual / spread: spread is at least 1e-6 of the squared losses, each
    # good to 1e-16.
    np.testing.assert_allclose(got.r2, line.rvalue**2, rtol=0, atol=1e-8)


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (0.0, 0.0),
        (0.5, 0.125),
        (-0.5, 0.125),
        (1.0, 0.5),
        (-1.0, 0.5),
        (3.0, 2.5),
        (-3.0, 2.5),
        (INF, INF),
        (-INF, INF),
    ],
)
def test_huber_by_hand(x, expected):
    assert Huber(1.0).value(array(x)) == expected


@given(x=st.floats(-1e3, 1e3), delta=st.floats(1e-6, 10.0))
def test_huber_is_the_twins(x, delta):
    np.testing.assert_allclose(
        Huber(delta).value(array(x))[0], reference.huber(x, delta), rtol=1e-13
    )


@given(tied)
def test_ranks_are_scipys(x):
    np.testing.assert_array_equal(ranks(array(*x)), scipy.stats.rankdata(x))


@given(data=st.data(), x=tied)
def test_rank_correlation_is_scipys(data, x):
    y = data.draw(st.lists(st.sampled_from([*x, 9.0]), min_size=len(x), max_size=len(x)))
    got = rank_correlation(array(*x), array(*y))
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert got is None
    else:
        np.testing.assert_allclose(got, scipy.stats.spearmanr(x, y).statistic, rtol=0, atol=1e-14)


@pytest.mark.parametrize("x", [array(), array(1.0)])
def test_rank_correlation_needs_two(x):
    assert rank_correlation(x, x) is None


# A law may be infinite (Ge's without its own domain), and a user's law may be anything.
@pytest.mark.parametrize("residual", ["loss", "log"])
@pytest.mark.parametrize("bad", [INF, -INF, NAN, 0.0, -1.0])
@pytest.mark.parametrize("rows", [1, 2, 4])
def test_a_bad_prediction_is_a_bad_score_and_never_nan(bad, rows, residual):
    measured = np.linspace(2, 3, 4)
    predicted = measured.copy()
    predicted[:rows] = bad
    got = score(predicted, measured, Huber(DELTA, residual))
    numbers = [got.mre, got.mae, got.r2, got.huber, got.rank]
    assert not any(x is not None and np.isnan(x) for x in numbers)
    assert got.mre > 25 * rows * (1 - 1e-12)  # each bad row is wrong by 100 percent or more
    assert got.r2 < 1
    assert got.huber > 0


def _grid(mixtures: int, scales: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    scale = np.repeat(np.arange(scales), mixtures)
    measured = 3.0 - 0.2 * scale + 0.1 * rng.random(mixtures * scales)
    return measured, scale


def test_perfect_predictions_choose_perfectly():
    measured, scale = _grid(12, 3)
    s = choice_score(measured, measured, scale)
    assert s is not None
    assert (s.mre, s.mae, s.bias, s.regret, s.optimism, s.scales, s.n) == (0, 0, 0, 0, 0, 3, 36)
    np.testing.assert_allclose([s.slope, s.rank, s.rank_best], 1.0)


def test_an_offset_of_a_scale_is_bias_and_nothing_else():
    measured, scale = _grid(12, 3)
    s = choice_score(measured - 0.05 * scale, measured, scale)
    assert s is not None
    assert s.bias < 0
    np.testing.assert_allclose([s.slope, s.rank, s.rank_best], 1.0)
    np.testing.assert_allclose([s.regret, s.optimism], 0.0, atol=1e-12)


def test_choice_scores_by_hand():
    measured = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, np.nan])
    predicted = np.array([2.0, 1.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 0.0])
    s = choice_score(predicted, measured, np.zeros(9, dtype=np.intp))
    assert s is not None
    assert s.n == 8
    assert s.regret == 1.0
    assert s.rank_best == -1.0  # the two best are swapped
    assert s.optimism == 0.0
    np.testing.assert_allclose(s.slope, np.polyfit(predicted[:8], measured[:8], 1)[0])
    too_low = choice_score(
        np.where(predicted < 2.5, predicted - 0.5, predicted), measured, np.zeros(9, dtype=np.intp)
    )
    assert too_low is not None
    np.testing.assert_allclose(too_low.optimism, 0.5 - 0.5 / 4)


def test_choice_scores_need_mixtures_at_one_scale():
    s = choice_score(np.array([1.0, 2.0]), np.array([1.0, 2.0]), np.array([0, 1]))
    assert s is not None
    assert (s.scales, s.rank, s.rank_best, s.regret, s.slope, s.optimism) == (
        0,
        None,
        None,
        None,
        None,
        None,
    )
    assert choice_score(np.array([1.0]), np.array([np.nan]), np.array([0])) is None
