"""The simplex with caps and floors: exact projections, exact gaps, and a descent that reaches known
minima."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from hypothesis import given
from hypothesis import strategies as st

from mixjax.errors import UserError
from mixjax.mixture import lanes, mirror
from mixjax.mixture.box import Box, check_box, lowest_vertex, project
from mixjax.mixture.solve import solve_one


@st.composite
def boxes(draw):
    """A feasible box of 2 to 8 domains and a positive point, over many decades."""
    k = draw(st.integers(2, 8))
    inside = np.array(draw(st.lists(st.floats(0.01, 1.0), min_size=k, max_size=k)))
    inside /= inside.sum()
    down, up = (
        np.array(draw(st.lists(st.sampled_from([0.0, 0.3, 1.0]), min_size=k, max_size=k)))
        for _ in range(2)
    )
    log_x = np.array(draw(st.lists(st.floats(-300.0, 300.0), min_size=k, max_size=k)))
    return Box(inside * (1 - down), inside + up * (1 - inside)), log_x


projected, vertex = jax.jit(project), jax.jit(lowest_vertex)


@given(boxes())
def test_projection_is_the_nearest_point(problem):
    box, log_x = problem
    log_h = np.asarray(projected(log_x, box))
    h = np.exp(log_h)
    assert abs(h.sum() - 1) < 1e-12
    assert np.all(h >= box.floors - 1e-14)
    assert np.all(h <= box.caps + 1e-14)
    # Optimality: log(h / x) is one number where h is free, larger at floors, smaller at caps.
    multiplier = log_h - log_x
    at_floor, at_cap = h <= box.floors * (1 + 1e-9), h >= box.caps * (1 - 1e-9)
    free = ~(at_floor | at_cap)
    if free.any():
        assert np.ptp(multiplier[free]) < 1e-9
        assert np.all(multiplier[at_floor & ~at_cap & (h > 0)] >= multiplier[free].min() - 1e-6)
        assert np.all(multiplier[at_cap & ~at_floor] <= multiplier[free].max() + 1e-6)
    np.testing.assert_allclose(
        np.exp(np.asarray(projected(np.maximum(log_h, -690.0), box))), h, rtol=0, atol=1e-12
    )


@given(boxes())
def test_lowest_vertex_is_the_linear_program(problem):
    box, grad = problem
    v = np.asarray(vertex(grad, box))
    program = scipy.optimize.linprog(
        grad,
        A_eq=np.ones((1, len(grad))),
        b_eq=[1.0],
        bounds=list(zip(box.floors, box.caps, strict=True)),
    )
    assert abs(v.sum() - 1) < 1e-12
    assert grad @ v <= program.fun + 1e-6 * (1 + abs(program.fun))


@pytest.mark.parametrize(
    ("floors", "caps", "said"),
    [
        ([0.6, 0.6], [1.0, 1.0], "floors: they sum to 1.2"),
        ([0.0, 0.0], [0.4, 0.5], "caps: they sum to 0.9"),
        ([0.5, 0.0], [0.2, 1.0], "cap of 'a': 0.2 is below its floor 0.5"),
        ([0.0, -0.1], [1.0, 1.0], "floor of 'b': -0.1 is not a share"),
        ([0.0, 0.0], [np.nan, 1.0], "cap of 'a'"),
    ],
)
def test_boxes_without_a_mixture(floors, caps, said):
    with pytest.raises(UserError) as error:
        check_box(Box(np.array(floors), np.array(caps)), ["a", "b"])
    assert said in str(error.value)


# ------------------------------------------------------------------ descent


@dataclass(frozen=True)
class F:
    """A hashable function of (h, data), known by its name."""

    name: str

    def __call__(self, h, data):
        if self.name == "cross_entropy":
            return -jnp.sum(data * jnp.log(h))
        if self.name == "reciprocal":
            return jnp.sum(data / h)
        if self.name == "linear":
            return jnp.dot(data, h)
        return jnp.sum(data * (h - jnp.roll(data, 1)) ** 2)


def everywhere(k):
    return Box(np.zeros(k), np.ones(k))


def starts(k):
    corners = np.full((k, k), 0.1 / max(k - 1, 1))
    np.fill_diagonal(corners, 0.9)
    return np.concatenate([np.full((1, k), 1 / k), corners])


@pytest.mark.parametrize("k", [2, 7, 40])
def test_known_minima(k):
    w = np.random.default_rng(k).dirichlet(np.ones(k))
    found = solve_one(F("cross_entropy"), w, everywhere(k))
    np.testing.assert_allclose(found.h, w, atol=1e-6)
    assert 0 <= found.gap < 1e-8
    roots = np.sqrt(w) / np.sqrt(w).sum()
    found = solve_one(F("reciprocal"), w, everywhere(k))
    np.testing.assert_allclose(found.h, roots, atol=1e-6)


@pytest.mark.parametrize("k", [2, 7, 40])
def test_a_corner_is_reached_exactly(k):
    slopes = np.random.default_rng(k).normal(size=k)
    found = solve_one(F("linear"), slopes, everywhere(k))
    np.testing.assert_array_equal(found.h, np.eye(k)[np.argmin(slopes)])
    assert found.gap < 1e-10
    assert found.agreeing == found.starts


@pytest.mark.parametrize("seed", range(10))
def test_quadratics_in_a_box_against_scipy(seed):
    k = 6
    rng = np.random.default_rng(seed)
    data = rng.uniform(0.1, 1.0, k)
    inside = rng.dirichlet(np.ones(k))
    box = Box(0.3 * inside, np.minimum(1.0, inside + rng.uniform(0, 0.3, k)))
    found = solve_one(F("quadratic"), data, box)
    constraint = {"type": "eq", "fun": lambda h: h.sum() - 1}
    theirs = scipy.optimize.minimize(
        lambda h: np.sum(data * (h - np.roll(data, 1)) ** 2),
        inside,
        bounds=list(zip(box.floors, box.caps, strict=True)),
        constraints=constraint,
        options={"ftol": 1e-15},
    )
    assert found.value <= theirs.fun + 1e-9
    assert (
        found.value - found.gap <= theirs.fun + 1e-9
    )  # the gap is a certificate where f is convex
    assert found.gap < 1e-8
    assert np.all(found.h >= box.floors - 1e-15)
    assert np.all(found.h <= box.caps + 1e-15)


def test_one_compilation_for_all_data_and_boxes():
    k = 5
    solve_one(F("reciprocal"), np.ones(k), everywhere(k))
    before = lanes._block._cache_size()
    solve_one(F("reciprocal"), np.arange(1.0, k + 1), Box(np.full(k, 0.05), np.full(k, 0.6)))
    assert lanes._block._cache_size() == before


def test_a_step_never_raises_a_convex_function():
    k, w = 6, np.random.default_rng(0).dirichlet(np.ones(6))
    box = Box(jnp.full(k, 0.02), jnp.full(k, 0.5))

    def f(h):
        return jnp.sum(w / h)

    state = jax.jit(lambda x: mirror.init(f, x, box))(jnp.log(jnp.asarray(starts(k)[1])))
    lowest = scipy.optimize.minimize(
        lambda h: np.sum(w / h),
        np.full(k, 1 / k),
        bounds=[(0.02, 0.5)] * k,
        constraints={"type": "eq", "fun": lambda h: h.sum() - 1},
    )
    advance = jax.jit(lambda state: mirror.step(f, state, box))
    for _ in range(40):
        new = advance(state)
        assert new.value <= state.value * (1 + 1e-12)
        assert new.value - new.gap <= lowest.fun + 1e-9
        assert new.gap >= -1e-15
        state = new
    assert state.gap < 1e-10


@pytest.mark.parametrize("spread", [1.0, 30.0, 300.0])
def test_projection_against_bisection(spread):
    rng = np.random.default_rng(int(spread))
    for k in (2, 5, 20):
        inside = rng.dirichlet(np.ones(k))
        low, high = (
            inside * rng.choice([0.0, 0.5], k),
            np.minimum(1.0, inside * rng.uniform(1.0, 3.0, k)),
        )
        log_x = spread * rng.normal(size=k)

        def excess(t, log_x=log_x, low=low, high=high):
            return np.clip(np.exp(np.minimum(log_x + t, 1.0)), low, high).sum() - 1

        t = scipy.optimize.brentq(
            excess, -20 * spread - 100, 20 * spread + 100, xtol=1e-14, rtol=1e-14
        )
        np.testing.assert_allclose(
            np.exp(project(log_x, Box(low, high))),
            np.clip(np.exp(np.minimum(log_x + t, 1.0)), low, high),
            atol=1e-9,
        )


def test_a_cap_of_zero_is_zero_and_no_obstacle():
    found = solve_one(F("quadratic"), np.ones(4), Box(np.zeros(4), np.array([0.0, 1.0, 1.0, 1.0])))
    assert found.h[0] == 0.0
    np.testing.assert_allclose(found.h[1:], 1 / 3, atol=1e-9)
    assert found.gap < 1e-10


def test_a_function_that_is_nowhere_finite_has_an_infinite_minimum():
    found = solve_one(F("reciprocal"), np.ones(3), Box(np.zeros(3), np.array([0.0, 1.0, 1.0])))
    assert found.value == np.inf
