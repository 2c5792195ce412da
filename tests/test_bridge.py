"""The objective of a fit in the hands of other minimisers: they must find what `fit` finds."""

from __future__ import annotations

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mixjax as mj
from mixjax.errors import UserError
from mixjax.fitting import Objective
from mixjax.fitting.simulate import random_truth, simulate_runs
from tests.test_fitting import TARGETS, experiment

LAW, TARGET = "additive", TARGETS[0]


@cache
def ours() -> mj.Fit:
    table = experiment(LAW, 0.003)
    return mj.fit(table, LAW, targets=[TARGET], starts=32, hops=1, prior="none")


@cache
def theirs() -> Objective:
    return mj.objective(experiment(LAW, 0.003), LAW, TARGET, prior="none")


def lowest(ends) -> float:
    """The lowest objective of the ends z (starts, q) of other searches, in double precision."""
    return min(theirs().value(np.asarray(z, dtype=np.float64)) for z in ends)


def test_a_fit_has_this_objective_and_no_slope():
    objective, fit = theirs(), ours()
    value, grad = objective.value_and_grad(objective.at(fit.params[TARGET]))
    np.testing.assert_allclose(value, fit.objective[TARGET], rtol=1e-9)
    assert np.abs(grad).max() <= 2 * fit.search[TARGET].gradient * value + 1e-12
    assert objective.names[0] == "E"
    assert objective.starts(3).shape == (3, len(objective.names))


def test_the_prior_takes_part_by_default():
    """At the fit's parameters the objective with the prior is least, not that without."""
    table = experiment(LAW, 0.003)
    fit = mj.fit(table, LAW, targets=[TARGET], starts=32, hops=1)
    objective = mj.objective(table, LAW, TARGET)
    z = objective.at(fit.params[TARGET])
    value, grad = objective.value_and_grad(z)
    assert np.abs(grad).max() <= 2 * fit.search[TARGET].gradient * value + 1e-12
    assert theirs().value(z) == pytest.approx(fit.objective[TARGET], rel=1e-9)
    assert theirs().value(z) < value
    for seed in range(5):
        step = 1e-3 * np.random.default_rng(seed).normal(size=len(z))
        assert objective.value(z + step) > value
    assert np.abs(theirs().value_and_grad(z)[1]).max() > 10 * np.abs(grad).max()
    assert fit.objective[TARGET] > ours().objective[TARGET]


@pytest.mark.parametrize("law", ["joint", "ye_m1", "ge24"])
@pytest.mark.parametrize("options", [{}, {"delta": 0.1}, {"residual": "log"}])
def test_parameters_go_there_and_back(law, options):
    targets = ("d0", "d1")
    truth = random_truth(law, 3, targets, seed=1)
    h = np.random.default_rng(0).dirichlet(np.ones(3), 40)
    N, D = np.geomspace(1e8, 1e9, 40), np.geomspace(1e10, 1e9, 40)
    objective = mj.objective(simulate_runs(truth, h, N, D, noise=0.0), law, "d1", **options)
    z = objective.at(truth.params["d1"])
    assert objective.value(z) < 1e-9
    for name, value in objective.params(z).items():
        np.testing.assert_allclose(value, truth.params["d1"][name], rtol=1e-9, err_msg=name)


def test_derivatives_are_those_of_the_value():
    objective = theirs()
    with jax.enable_x64(True):
        z = jnp.asarray(objective.starts(1, seed=2)[0])
        value, grad = jax.jit(objective.value_and_grad)(z)
        for derivative in (jax.grad, jax.jacfwd):
            got = jax.jit(derivative(objective.value))(z)
            np.testing.assert_allclose(got, grad, rtol=1e-9, atol=1e-15)
        both = jax.jit(jax.vmap(objective.value_and_grad))(jnp.stack([z, z + 0.1]))
        np.testing.assert_allclose(both[0][0], value, rtol=1e-12)
    of_numpy = objective.value_and_grad(np.asarray(z))
    assert isinstance(of_numpy[0], float)
    np.testing.assert_allclose(of_numpy[1], grad, rtol=1e-12)


def test_single_precision_is_that_of_the_argument():
    z = theirs().starts(1)[0]
    value, grad = jax.jit(theirs().value_and_grad)(jnp.asarray(z, jnp.float32))
    assert value.dtype == grad.dtype == jnp.float32
    np.testing.assert_allclose(value, theirs().value(z), rtol=1e-4)


def test_the_huber_loss_is_optaxs():
    optax = pytest.importorskip("optax")
    with jax.enable_x64(True):
        r = jnp.linspace(-3.0, 3.0, 61)
        for delta in (1e-3, 0.5, 10.0):
            np.testing.assert_allclose(
                mj.fitting.loss.Huber(delta).value(np.asarray(r)),
                optax.losses.huber_loss(r, delta=delta),
                rtol=1e-12,
                atol=1e-300,
            )
        objective = theirs()
        z = jnp.asarray(objective.starts(1, seed=4)[0])
        data = jax.tree.map(jnp.asarray, objective.problem.data.of(0))
        off = data.losses - objective.problem.objective.cells(z, data)
        mean = jnp.sum(data.weights * optax.losses.huber_loss(off, delta=data.delta))
        np.testing.assert_allclose(objective.value(z), mean, rtol=1e-12)


def test_scipy_minimises_it():
    scipy = pytest.importorskip("scipy.optimize")
    options = {"maxcor": 30, "ftol": 1e-12, "gtol": 0.0, "maxiter": 5000}  # ftol is absolute
    minimise = partial(scipy.minimize, jac=True, method="L-BFGS-B", options=options)
    ends = [minimise(theirs().value_and_grad, z).x for z in theirs().starts(8)]
    assert lowest(ends) <= ours().objective[TARGET] * 1.01
    assert lowest(ends) >= ours().objective[TARGET] * (1 - 1e-6)


def test_jaxopt_minimises_it():
    jaxopt = pytest.importorskip("jaxopt")
    with jax.enable_x64(True):
        solver = jaxopt.LBFGS(
            theirs().value_and_grad, value_and_grad=True, maxiter=2000, tol=1e-10, history_size=30
        )
        ends = jax.jit(jax.vmap(lambda z: solver.run(z).params))(jnp.asarray(theirs().starts(8)))
    assert lowest(ends) <= ours().objective[TARGET] * 1.02
    assert lowest(ends) >= ours().objective[TARGET] * (1 - 1e-6)


def test_optax_minimises_it():
    optax = pytest.importorskip("optax")
    with jax.enable_x64(True):
        value = theirs().value
        solver = optax.lbfgs(memory_size=30)
        both = optax.value_and_grad_from_state(value)

        def step(_, carry):
            z, state = carry
            f, grad = both(z, state=state)
            update, state = solver.update(grad, state, z, value=f, grad=grad, value_fn=value)
            return optax.apply_updates(z, update), state

        @jax.jit
        @jax.vmap
        def solve(z):
            return jax.lax.fori_loop(0, 600, step, (z, solver.init(z)))[0]

        ends = solve(jnp.asarray(theirs().starts(8)))
    assert lowest(ends) <= ours().objective[TARGET] * 1.05
    assert lowest(ends) >= ours().objective[TARGET] * (1 - 1e-6)


def test_optimistix_minimises_it():
    optimistix = pytest.importorskip("optimistix")
    with jax.enable_x64(True):
        solver = optimistix.BFGS(rtol=1e-10, atol=1e-14)
        value = lambda z, _: theirs().value(z)  # noqa: E731
        solution = optimistix.minimise(
            value, solver, jnp.asarray(theirs().starts(1)[0]), max_steps=2000, throw=False
        )
    assert lowest([solution.value]) >= ours().objective[TARGET] * (1 - 1e-6)
    assert lowest([solution.value]) < theirs().value(theirs().starts(1)[0]) / 100


def test_what_cannot_be_is_refused_as_by_fit():
    with pytest.raises(UserError, match="no target 'd9'"):
        mj.objective(experiment(LAW), LAW, "d9")
    with pytest.raises(TypeError, match="starts"):
        mj.objective(experiment(LAW), LAW, starts=3)
    assert mj.objective(experiment(LAW), LAW).target == TARGET
