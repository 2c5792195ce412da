"""Gauss-Newton curvature from the structure of the laws, against the Jacobian of all cells, row by
row."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mixjax as mj
from mixjax.fitting.loss import Huber, Settings
from mixjax.fitting.objective import Reweighted
from mixjax.fitting.problem import make_problem, reweighted
from mixjax.fitting.search import draw_starts
from mixjax.fitting.simulate import random_truth, simulate_runs
from mixjax.law import Coefficients, Law, Parameter, find_law
from mixjax.law.base import dependence, searched

PLAIN = Huber(1e-2, prior="none")
GRID = list(mj.laws())


def table(law, ragged=False, seed=0):
    """Simulated rows of a law: 12 mixtures at 6 scales, each row at a scale of its own where
    ragged."""
    truth = random_truth(law, 3, ["d0", "d1"], seed)
    rng = np.random.default_rng(seed)
    h = np.repeat(rng.dirichlet(np.full(3, 3.0), 12), 6, axis=0)
    N, D = np.tile(
        [[2e8, 4e9], [2e8, 8e9], [4e8, 8e9], [4e8, 2e10], [1e9, 2e10], [1e9, 4e10]], (12, 1)
    ).T
    stretch = np.exp(0.1 * rng.random(len(N))) if ragged else 1.0
    return mj.read_runs(simulate_runs(truth, h, N * stretch, D * stretch, noise=0.003, seed=seed))


def by_rows(objective, z, data):
    """Gradient and curvature from the Jacobian of every cell."""
    slopes = jax.jacfwd(lambda z: objective.cells(z, data).reshape(-1))(z)
    r, w = (
        (data.losses - objective.cells(z, data)).reshape(-1),
        jnp.asarray(data.weights).reshape(-1),
    )
    bend = w * jnp.minimum(1.0, data.delta / jnp.maximum(jnp.abs(r), 1e-300))
    return -slopes.T @ (w * jnp.clip(r, -data.delta, data.delta)), slopes.T @ (
        bend[:, None] * slopes
    )


@pytest.mark.parametrize("residual", ["loss", "log"])
@pytest.mark.parametrize("law", GRID)
def test_curvature_is_that_of_the_rows(law, residual):
    problem = make_problem(
        table(law, ragged=residual == "log"), find_law(law), ["d0"], Huber(1e-2, residual, "none")
    )
    data = jax.tree.map(jnp.asarray, problem.data.of(0))
    for z in map(jnp.asarray, draw_starts(problem, Settings(3)).z[0]):
        value, grad, curvature = problem.objective.curved(z, data)
        expected_value, expected_grad = problem.objective(z, data)
        by_hand, expected = by_rows(problem.objective, z, data)
        np.testing.assert_allclose(value, expected_value, rtol=1e-12)
        scale = float(jnp.abs(expected_grad).max())
        np.testing.assert_allclose(grad, expected_grad, rtol=1e-9, atol=1e-12 * scale)
        np.testing.assert_allclose(grad, by_hand, rtol=1e-9, atol=1e-12 * scale)
        np.testing.assert_allclose(
            curvature, expected, rtol=1e-9, atol=1e-12 * float(jnp.abs(expected).max())
        )
        assert float(np.linalg.eigvalsh(np.asarray(curvature)).min()) > -1e-12 * float(
            jnp.abs(expected).max()
        )


def test_parameters_that_coefficients_share_are_added_up():
    def shared(params, h):
        size = jnp.exp(jnp.dot(params["t"], h))
        return Coefficients(
            params["E"] + size, params["A"] * size, params["alpha"], params["A"], params["alpha"]
        )

    names = (
        Parameter("t", ("k",), "real"),
        Parameter("alpha"),
        Parameter("E"),
        Parameter("A"),
        Parameter("unread"),
    )
    law = Law("shared", names, shared)
    assert dependence(searched(law), 3)["A"] == (("t", "A"), True)
    problem = make_problem(table("joint"), law, ["d0"], PLAIN)
    data = jax.tree.map(jnp.asarray, problem.data.of(0))
    z = jnp.asarray(draw_starts(problem, Settings(1)).z[0, 0])
    _, grad, curvature = problem.objective.curved(z, data)
    expected_grad, expected = by_rows(problem.objective, z, data)
    np.testing.assert_allclose(grad, expected_grad, rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(curvature, expected, rtol=1e-9, atol=1e-15)
    assert not curvature[-1].any()


@pytest.mark.parametrize("prior", ["none", "weak"])
def test_a_resample_has_the_curvature_of_its_weights(prior):
    huber = Huber(1e-2, prior=prior)
    runs = table("additive")
    problem = make_problem(runs, find_law("additive"), ["d0"], huber)
    weights = np.random.default_rng(0).exponential(size=(2, len(runs)))
    data = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), reweighted(problem, weights))
    alone = make_problem(runs, find_law("additive"), ["d0"], huber, weights[1])
    z = jnp.asarray(draw_starts(problem, Settings(1)).z[0, 0])
    value, grad, curvature = Reweighted(problem.objective).curved(jnp.append(z, 1.0), data)
    expected = problem.objective.curved(z, jax.tree.map(jnp.asarray, alone.data.of(0)))
    for found, whole in zip((value, grad[:-1], curvature[:-1, :-1]), expected, strict=True):
        np.testing.assert_allclose(found, whole, rtol=1e-9, atol=1e-15)
    assert float(grad[-1]) == 0.0
    assert not curvature[-1].any()


@pytest.mark.parametrize(("sizes", "has"), [((), True), (("k",) * 5, True), (("k",) * 6, False)])
def test_a_law_given_by_its_losses_has_one_where_its_parameters_are_few(sizes, has):
    """Every one of them is a pass of its own: 1 + 15 with three domains, but not 1 + 18."""
    parameters = [Parameter(f"p{i}", size) for i, size in enumerate([(), *((s,) for s in sizes)])]

    def predict(params, h, N, D):
        return params["p0"] + 0.0 * N

    law = Law("whole", tuple(parameters), predict=predict)
    assert make_problem(table("joint"), law, ["d0"], PLAIN).objective.has_curvature is has
