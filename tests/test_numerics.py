"""Powers guarded at h = 0, against NumPy's where NumPy has a finite answer; distances to a hull,
against the dual programme and least squares."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from hypothesis import given
from hypothesis import strategies as st

from mixjax.numerics import HUGE, distance_to_hull, dot, log_power_mean, positive_power, power
from tests import reference

bases = st.floats(1e-12, 1e3)
exponents = st.floats(-8.0, 8.0)
# exp(gamma log h): the rounding of log h, up to 1e-16 * 28, is multiplied by gamma.
POWER = {"rtol": 1e-13}


@given(h=bases, gamma=exponents)
@pytest.mark.parametrize("function", [power, positive_power])
def test_power_is_numpys_where_h_is_positive(function, h, gamma):
    np.testing.assert_allclose(function(h, gamma), np.power(h, gamma), **POWER)


@given(h=bases, gamma=exponents)
@pytest.mark.parametrize("function", [power, positive_power])
def test_derivatives_are_the_formulas_where_h_is_positive(function, h, gamma):
    in_h, in_gamma = jax.grad(function, argnums=(0, 1))(h, gamma)
    # The smallest numbers are not normal: relative precision is lost there, hence atol.
    np.testing.assert_allclose(in_h, gamma * np.power(h, gamma - 1), **POWER, atol=1e-300)
    np.testing.assert_allclose(in_gamma, np.log(h) * np.power(h, gamma), **POWER, atol=1e-300)


@pytest.mark.parametrize(
    ("gamma", "expected"),
    [
        (2.0, 0.0),
        (1.0, 0.0),
        (0.3, 0.0),
        (1e-9, 0.0),
        (0.0, 1.0),
        (-0.0, 1.0),
        (-1e-9, HUGE),
        (-0.3, HUGE),
        (-2.0, HUGE),
    ],
)
def test_power_at_zero(gamma, expected):
    assert power(0.0, gamma) == expected
    assert jax.grad(power, argnums=(0, 1))(0.0, gamma) == (0.0, 0.0)


@pytest.mark.parametrize("C", [1e-8, 1.0, 1e8])
def test_a_harmful_domain_without_weight_cancels_the_mixture_term(C):
    """C 0^gamma is infinite for gamma < 0, so 1 / sum is 0 and does not depend on anything, to any
    precision that matters."""
    value, slopes = jax.value_and_grad(
        lambda c, g: 1 / (c * power(0.0, g) + power(1.0, 0.5)), argnums=(0, 1)
    )(C, -0.5)
    assert 0 <= value < 1e-90
    assert np.isfinite(slopes).all()
    assert np.abs(slopes).max() < 1e-80


@pytest.mark.parametrize("gamma", [-50.0, -90.0, -110.0, -150.0, -300.0, -1e6, 1e6])
def test_steep_exponents_of_small_weights_stay_finite(gamma):
    """(1e-3)^-110 is beyond float64: the mixture term is 0 there and so are its slopes."""
    h = np.array([1e-3, 0.999])
    value, slopes = jax.value_and_grad(lambda h, g: 1 / jnp.sum(power(h, g)), argnums=(0, 1))(
        h, np.array([gamma, 0.5])
    )
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(value, 1 / (h[0] ** gamma + h[1] ** 0.5), rtol=1e-13, atol=1e-99)
    for slope in slopes:
        assert np.isfinite(slope).all()


def test_power_is_never_above_huge():
    np.testing.assert_allclose(
        power(1e-3, -np.array([33.0, 34.0, 1e9])), [1e99, HUGE, HUGE], rtol=1e-12
    )


def test_power_of_arrays_is_elementwise():
    h, gamma = np.array([0.0, 0.0, 0.0, 0.25, 0.25]), np.array([0.5, 0.0, -0.5, 0.5, -0.5])
    np.testing.assert_allclose(power(h, gamma), [0.0, 1.0, HUGE, 0.5, 2.0], rtol=1e-15)
    np.testing.assert_allclose(power(h, jnp.asarray(2.0)), h**2, rtol=1e-15)


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), min_size=1, max_size=20))
def test_dot_is_numpys(pairs):
    a, b = np.array(pairs).T
    # Sums in another order differ by rounding of the terms, not of their sum; products that are not
    # normal numbers are flushed to 0.
    atol = 1e-14 * np.abs(a * b).sum() + len(a) * np.finfo(np.float64).tiny
    np.testing.assert_allclose(dot(a, b), np.dot(a, b), rtol=0, atol=atol)


SMALL = [0.0, 1e-12, 1e-7, 9e-6, 1.1e-5, 1e-4, 1e-2]


@pytest.mark.parametrize("s", [*SMALL, *(-s for s in SMALL), 0.5, -0.5, 1.0, -1.0, 3.0, -3.0])
@pytest.mark.parametrize(
    "h", [[0.2, 0.5, 0.3], [0.0, 0.4, 0.6], [1.0, 0.0, 0.0]], ids=["inside", "face", "corner"]
)
def test_log_power_mean_is_the_twins(h, s):
    h, log_values = np.array(h), np.array([-3.0, 0.5, 1.0])
    value, slope = jax.value_and_grad(log_power_mean, argnums=2)(h, log_values, s)
    # Rounding 1e-16 of a sum near 1, over s >= 1e-5; below that the series, with an error of s^2.
    np.testing.assert_allclose(
        value, reference.log_power_mean(h, log_values, s), rtol=0, atol=1e-10
    )
    ahead, behind = (reference.log_power_mean(h, log_values, s + step) for step in (1e-4, -1e-4))
    # The same rounding over s^2, 1e-6; the series leaves out s/3 of the third cumulant, here 5:
    # 2e-5; the quotient is good to 1e-7.
    np.testing.assert_allclose(slope, (ahead - behind) / 2e-4, rtol=0, atol=3e-5)


@pytest.mark.parametrize("s", [2.0, 5.0, 30.0])
@pytest.mark.parametrize("corner", [0, 1, 2])
def test_log_power_mean_at_a_corner_is_its_value(corner, s):
    h, log_values = np.eye(3)[corner], np.array([-20.0, 0.0, 19.0])
    value, slopes = jax.value_and_grad(log_power_mean, argnums=(1, 2))(h, log_values, s)
    np.testing.assert_allclose(value, log_values[corner], rtol=1e-14, atol=1e-14)
    np.testing.assert_allclose(slopes[0], h, atol=1e-14)
    np.testing.assert_allclose(slopes[1], 0.0, atol=1e-12)


def test_log_power_mean_of_equal_values_is_the_value():
    value, slopes = jax.value_and_grad(log_power_mean, argnums=1)(
        np.array([0.2, 0.8]), np.array([0.7, 0.7]), -1.3
    )
    np.testing.assert_allclose(value, 0.7, rtol=1e-15)
    np.testing.assert_allclose(slopes, [0.2, 0.8], rtol=1e-14)


# --- Distance to a hull --------------------------------------------------------------------------


def least_squares_bound(h, points):
    """Half the L1 distance to the hull's nearest point of least squares: an upper bound."""
    heavy = 1e5  # non-negative least squares with the sum as a heavy row
    w, _ = scipy.optimize.nnls(
        np.vstack([points.T, np.full(len(points), heavy)]), np.append(h, heavy)
    )
    return 0.5 * np.abs(points.T @ (w / w.sum()) - h).sum()


def dual_distance(h, points):
    """max over y in [0, 1]^k of y'h - max_j y'points_j, which equals the distance."""
    m, k = points.shape
    dual = scipy.optimize.linprog(
        np.append(-h, 1.0),
        A_ub=np.hstack([points, -np.ones((m, 1))]),
        b_ub=np.zeros(m),
        bounds=[(0, 1)] * k + [(None, None)],
    )
    return -dual.fun


def case(seed):
    rng = np.random.default_rng(seed)
    k, m = rng.integers(2, 9), rng.integers(1, 40)
    return rng.dirichlet(np.full(k, 0.5)), rng.dirichlet(np.full(k, rng.uniform(0.5, 5.0)), m)


def test_distance_to_a_hull_is_exact():
    """A least-squares distance overstates it, by up to a third."""
    excess = []
    for seed in range(200):
        h, points = case(seed)
        distance = distance_to_hull(h, points)
        np.testing.assert_allclose(distance, max(dual_distance(h, points), 0.0), atol=1e-6)
        bound = least_squares_bound(h, points)
        assert distance <= bound + 1e-6
        if distance > 0:
            excess.append(bound / distance - 1)
    assert np.median(excess) > 0.005
    assert max(excess) > 0.1


@given(st.integers(2, 6), st.integers(0, 10_000))
def test_distance_to_a_segment_is_that_of_its_breakpoints(k, seed):
    """Along a segment the distance is piecewise linear: the least is at an end or where a domain's
    share is the mixture's own."""
    rng = np.random.default_rng(seed)
    h, a, b = rng.dirichlet(np.ones(k), 3)
    s = np.append(np.clip((h - a) / (b - a), 0.0, 1.0), [0.0, 1.0])
    brute = 0.5 * np.abs(a + s[:, None] * (b - a) - h).sum(axis=1).min()
    np.testing.assert_allclose(distance_to_hull(h, np.stack([a, b])), brute, atol=1e-6)


@given(st.integers(2, 6), st.integers(1, 12), st.integers(0, 10_000))
def test_mixtures_inside_a_hull_are_at_no_distance(k, m, seed):
    rng = np.random.default_rng(seed)
    points = rng.dirichlet(np.ones(k), m)
    assert distance_to_hull(rng.dirichlet(np.ones(m)) @ points, points) == 0
    assert distance_to_hull(points[0], points) == 0


def test_distance_to_a_hull_by_hand():
    ends = np.array([[0.6, 0.4], [0.2, 0.8]])
    assert distance_to_hull(np.array([1.0, 0.0]), ends) == pytest.approx(0.4)
    assert distance_to_hull(np.array([0.0, 1.0]), ends) == pytest.approx(0.2)
