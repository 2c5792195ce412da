"""Gauss-Newton descent: damped steps by the book, minima as low as quasi-Newton ones, lanes that do
not know of each other."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixjax.engine import batch, gauss_newton, lane
from mixjax.engine.gauss_newton import (
    GAUSS_NEWTON,
    SMALLEST,
    damped_step,
    invert,
    least_damping,
    solve_positive,
)
from mixjax.engine.lane import Stop


@dataclass(frozen=True)
class Squares:
    """Half the sum of squares of residuals r(z) (rows,), with its Gauss-Newton curvature; data
    scales the residuals."""

    kind: str

    def residuals(self, z):
        if self.kind == "rosenbrock":
            return jnp.concatenate([10.0 * (z[1:] - z[:-1] ** 2), 1.0 - z[:-1]])
        if self.kind == "powell":  # singular at its minimum
            return jnp.array(
                [
                    z[0] + 10 * z[1],
                    jnp.sqrt(5.0) * (z[2] - z[3]),
                    (z[1] - 2 * z[2]) ** 2,
                    jnp.sqrt(10.0) * (z[0] - z[3]) ** 2,
                ]
            )
        return jnp.array([z[0] ** 2 + jnp.log(z[0]), z[1]])  # "walled": no number for z[0] < 0

    def curved(self, z, data):
        r, slopes = data * self.residuals(z), data * jax.jacfwd(self.residuals)(z)
        return 0.5 * jnp.sum(r * r), slopes.T @ r, slopes.T @ slopes


def ending(hops=0, steps=500, decrease=1e-12, window=5):
    return Stop(steps, decrease, window, hops)


def run(kind, starts, hops=0, data=(1.0,), width=None, **stop):
    keys = np.asarray(jax.random.split(jax.random.PRNGKey(0), (len(data), starts.shape[1])))
    starts = np.repeat(starts, len(data), axis=0)
    return batch.run(
        Squares(kind),
        np.asarray(data),
        starts,
        keys,
        ending(hops, **stop),
        width=width,
        descent=GAUSS_NEWTON,
    )


def starts_of(n, q, seed=0):
    return np.random.default_rng(seed).uniform(-2.0, 2.0, (1, n, q))


@pytest.mark.parametrize(
    ("kind", "q", "within"),
    [("rosenbrock", 2, 1e-20), ("rosenbrock", 5, 1e-12), ("powell", 4, 1e-12)],
)
def test_minimises(kind, q, within):
    found = run(kind, starts_of(9, q))
    assert found.finished.all()
    assert np.median(found.f[0]) < within
    np.testing.assert_allclose(
        found.f[0, 0], Squares(kind).curved(jnp.asarray(found.z[0, 0]), 1.0)[0], rtol=1e-12
    )


def test_the_least_damping_is_that_of_the_noise():
    """In any unit of the losses; none without noise, nor where the objective is no number."""
    curvature = jnp.diag(jnp.array([4.0, 1.0, 0.0]))
    noisy = float(least_damping(jnp.asarray(4e-4), curvature))
    assert noisy == pytest.approx(1e-5)
    assert float(least_damping(jnp.asarray(4e-4) * 1e6, curvature * 1e6)) == pytest.approx(noisy)
    assert float(least_damping(jnp.asarray(0.0), curvature)) == SMALLEST
    assert float(least_damping(jnp.asarray(jnp.inf), curvature)) == SMALLEST
    assert np.isfinite(least_damping(jnp.asarray(1.0), 0 * curvature))


def test_numbers_that_are_none_are_steps_too_far():
    found = run("walled", np.array([[[0.05, 1.0], [-1.0, 1.0]]]))
    np.testing.assert_allclose(found.z[0, 0], [0.65291864, 0.0], atol=1e-5)
    assert np.isinf(found.f[0, 1])


def test_lanes_do_not_know_of_each_other():
    starts = starts_of(20, 4)
    together = run("powell", starts, hops=3, data=(1.0, 3.0), decrease=1e-3)
    wide = run("powell", starts, hops=3, data=(1.0, 3.0), decrease=1e-3, width=batch.Width(2, 16))
    np.testing.assert_allclose(wide.f, together.f, rtol=1e-6, atol=1e-14)
    np.testing.assert_array_equal(wide.hops, together.hops)


def test_a_tick_spends_one_evaluation_and_never_climbs():
    state, last = lane.init(jnp.array([-1.2, 1.0]), jax.random.PRNGKey(0), GAUSS_NEWTON), np.inf
    for n in range(60):
        working, spent = not bool(state.done | state.failed), int(state.evaluations)
        state = lane.tick(state, Squares("rosenbrock"), 1.0, jnp.asarray(n), GAUSS_NEWTON)
        assert int(state.evaluations) == spent + working
        assert float(state.f) <= last
        last = float(state.f)
    assert last < 1e-20


def test_the_step_is_marquardts():
    rng = np.random.default_rng(0)
    slopes, grad = rng.normal(size=(12, 5)), rng.normal(size=5) * 0.1
    curvature = slopes.T @ slopes
    ridge = np.diag(curvature) + gauss_newton.RIDGE * np.diag(curvature).max()
    np.testing.assert_allclose(
        damped_step(grad, curvature, 0.3),
        -np.linalg.solve(curvature + 0.3 * np.diag(ridge), grad),
        rtol=1e-10,
    )
    far = damped_step(1e6 * grad, curvature, 0.3)
    np.testing.assert_allclose(np.abs(far).max(), gauss_newton.LONGEST)
    assert not np.asarray(
        damped_step(jnp.asarray(grad), -jnp.asarray(curvature), 0.3)
    ).any()  # no minimum: stay, and damp more


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([1, 3, 8, 9, 17, 33]), st.integers(0, 2**31), st.floats(-8.0, 8.0))
def test_positive_systems_as_numpy_solves_them(q, seed, size):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(q, 2 * q + 3))
    matrix, right = 10.0**size * root @ root.T, rng.normal(size=q)
    x = np.asarray(solve_positive(jnp.asarray(matrix), jnp.asarray(right)))
    np.testing.assert_allclose(
        matrix @ x, right, atol=1e-14 * np.linalg.cond(matrix) * np.abs(right).max()
    )
    if q <= 9:
        np.testing.assert_allclose(
            invert(jnp.asarray(matrix)) @ matrix, np.eye(q), atol=1e-13 * np.linalg.cond(matrix)
        )
