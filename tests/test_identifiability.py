"""What data pin down: curvature against finite differences, flat directions by construction."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

import mixjax as mj
from mixjax.data.runs import Runs, copies
from mixjax.engine import batch
from mixjax.fitting.loss import Huber
from mixjax.fitting.problem import from_paper, make_problem
from mixjax.fitting.simulate import random_truth, simulate_runs
from mixjax.law import find_law
from mixjax.trust.identifiability import curvature, identify


def experiment(sizes=(2e8, 5e8, 1e9), law: str = "additive") -> tuple[Runs, mj.Fit]:
    truth = random_truth(law, 3, ["d0"], seed=3)
    h = np.random.default_rng(1).dirichlet(np.full(3, 2.0), 10)
    m, N, D = (
        x.ravel() for x in np.meshgrid(np.arange(10), sizes, [5e9, 1e10, 2e10], indexing="ij")
    )
    return mj.read_runs(simulate_runs(truth, h[m], N, D, noise=0.003, seed=5)), truth


def test_curvature_is_that_of_the_objective_where_residuals_are_small():
    # With a delta above all residuals the loss is quadratic; at the truth without noise,
    # Gauss-Newton is the Hessian.
    truth = random_truth("additive", 3, ["d0"], seed=3)
    runs, _ = experiment()
    exact = replace(
        runs, losses=np.stack(list(truth.predict(runs.N, runs.D, runs.h).values()), axis=1)
    )
    problem = make_problem(exact, find_law("additive"), None, Huber(10.0, prior="none"))
    z = from_paper(problem, 0, truth.params["d0"])
    matrix, value = curvature(problem, 0, z)
    assert value < 1e-20

    def slope(z: np.ndarray) -> np.ndarray:
        return batch.evaluate(problem.objective, problem.data.of(0), z)[1]

    step = 1e-5
    hessian = np.array(
        [(slope(z + step * e) - slope(z - step * e)) / (2 * step) for e in np.eye(len(z))]
    )
    np.testing.assert_allclose(matrix, hessian, rtol=1e-4, atol=1e-6 * np.abs(hessian).max())


def test_one_size_cannot_tell_e_from_a():
    runs, fit = experiment(sizes=(1e9,))
    found = identify(fit, runs).targets["d0"]
    assert found.determined < found.parameters
    assert found.condition > 1e10
    named = set().union(*(f.moves for f in found.flat))
    assert named & {"A", "alpha"}
    assert found.flat[0].step > 100
    # What a prior knows of them the rows do not.
    assert fit.huber.prior == "weak"
    plain = replace(fit, huber=replace(fit.huber, prior="none"))
    assert identify(plain, runs).targets["d0"] == found


def test_many_sizes_pin_down_more():
    one, many = (
        identify(*reversed(experiment(sizes=s))).targets["d0"]
        for s in ((1e9,), (1e8, 3e8, 1e9, 3e9, 1e10))
    )
    assert many.determined > one.determined


def test_runaways_are_named():
    runs, fit = experiment()
    gone = replace(fit, params={"d0": {**fit.params["d0"], "E": 1e-40}})
    found = identify(gone, runs)
    assert "E" in found.targets["d0"].at_limit
    assert "E" in str(found)
    assert any("E" in f.moves for f in found.targets["d0"].flat)


def test_copies_are_counted():
    runs, _ = experiment()
    assert copies(runs) == 0
    losses = runs.losses.copy()
    losses[1] = losses[0]
    h, N, run = runs.h.copy(), np.array(runs.N), None
    h[1], N[1] = h[0], N[0]
    assert copies(replace(runs, losses=losses, h=h, N=N, run=run)) == 1


def test_points_outside_are_named_once():
    runs, fit = experiment()
    far = replace(
        runs.select(np.arange(len(runs)) < 3),
        h=np.array([[0.98, 0.01, 0.01], [0.98, 0.01, 0.01], runs.h[0]]),
    )
    found = identify(fit, runs, far)
    (point,) = found.outside
    assert point.row == far.rows[0]
    assert point.share > 0.05
    assert point.domains["d0"] > 0
    assert found.to_dict()["outside"][0]["share"] == point.share
    assert "outside" in str(found)
