"""The best mixture of a fit: optimal, named, and refused in one line where there is none."""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest
import scipy.optimize

import mixjax as mj
from mixjax.record import Fit, Search
from mixjax.simulate import random_truth

AT = {"N": 7e9, "D": 150e9}


def additive(seed, k=5, targets=3, gamma=(0.1, 0.9)):
    """An additive fit with convex or other exponents."""
    rng = np.random.default_rng(seed)
    names, domains = tuple(f"t{i}" for i in range(targets)), tuple(f"d{i}" for i in range(k))
    params = {
        t: {"E": 1.5, "C": rng.uniform(0.3, 6.0, k), "gamma": rng.uniform(*gamma, k), "A": 400.0, "alpha": 0.34, "B": 2000.0, "beta": 0.37} for t in names
    }
    return Fit("additive", domains, names, params, dict.fromkeys(names, 1e-6), dict.fromkeys(names, Search("converged", 1, 1, 0.0, 1, 1, 0)))


def against_scipy(fit, best, caps=None, floors=None):
    """SciPy's SLSQP on the same problem, from the mixture found and from the centre."""
    k = len(fit.domains)
    bounds = [((floors or {}).get(d, 0.0) + 1e-12, (caps or {}).get(d, 1.0)) for d in fit.domains]
    function = lambda h: sum(fit.predict(best.N, best.D, h / h.sum()).values())  # noqa: E731
    constraint = {"type": "eq", "fun": lambda h: h.sum() - 1}
    h0 = np.clip(np.full(k, 1 / k), *np.array(bounds).T)
    return scipy.optimize.minimize(function, h0 / h0.sum(), bounds=bounds, constraints=constraint, method="SLSQP", options={"ftol": 1e-12, "maxiter": 300}).fun


@pytest.mark.parametrize("seed", range(12))
def test_convex_problems_end_at_a_certified_minimum(seed):
    fit = additive(seed)
    best = mj.optimal_mixture(fit, **AT)
    assert best.convex
    assert 0 <= best.gap < 1e-8
    assert best.agreeing == best.starts
    assert abs(sum(best.weights.values()) - 1) < 1e-12
    np.testing.assert_allclose(best.objective, sum(best.losses.values()), rtol=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_no_higher_than_scipy(seed):
    fit = additive(seed)
    caps, floors = {"d0": 0.1, "d1": 0.4}, {"d2": 0.15, "d3": 0.05}
    best = mj.optimal_mixture(fit, **AT, caps=caps, floors=floors)
    assert best.gap < 1e-8
    assert best.objective <= against_scipy(fit, best, caps, floors) + 1e-8
    assert best.weights["d0"] <= 0.1 + 1e-12
    assert best.weights["d2"] >= 0.15 - 1e-12


@pytest.mark.parametrize("law", ["joint", "full", "simple", "ye_m1", "ge24"])
def test_other_laws_reach_small_gaps(law):
    fit = random_truth(law, 4, ("d0", "d1", "d2", "d3"), seed=1)
    best = mj.optimal_mixture(fit, **AT)
    assert 0 <= best.gap < 1e-7 * abs(best.objective)
    near = [mj.optimal_mixture(fit, **AT).objective, sum(fit.predict(AT["N"], AT["D"], [0.25] * 4).values())]
    assert best.objective <= min(near) + 1e-9


def test_additive_optimum_does_not_move_with_scale():
    fit = additive(3)
    small, large = mj.optimal_mixture(fit, N=1e8, D=1e9), mj.optimal_mixture(fit, N=1e12, D=1e13)
    np.testing.assert_allclose(list(small.weights.values()), list(large.weights.values()), atol=1e-6)


def test_weights_go_by_name():
    fit = additive(4)
    one, other = mj.optimal_mixture(fit, **AT, weights={"t0": 1, "t2": 3}), mj.optimal_mixture(fit, **AT, weights={"t2": 3, "t0": 1, "t1": 0})
    assert one.weights == other.weights
    np.testing.assert_allclose(one.objective, one.losses["t0"] + 3 * one.losses["t2"], rtol=1e-12)


def test_a_domain_that_only_hurts_gets_nothing():
    fit = additive(5)
    for t in fit.targets:
        fit.params[t]["C"][1] = 1e-9
    best = mj.optimal_mixture(fit, **AT)
    assert best.weights["d1"] < 1e-6
    assert best.gap < 1e-8


def test_json_and_text():
    best = mj.optimal_mixture(additive(6), **AT)
    content = json.loads(json.dumps(best.to_dict(), allow_nan=False))
    assert {"weights", "losses", "objective", "gap", "N", "D"} <= set(content)
    assert "d0" in str(best)


def test_global_flags_are_left_alone():
    before = jax.config.jax_enable_x64
    assert isinstance(mj.optimal_mixture(additive(7), **AT).objective, float)
    assert jax.config.jax_enable_x64 == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"N": None}, "N"),
        ({"D": None}, "D"),
        ({"N": 0.0}, "0"),
        ({"N": -7e9}, "-7000000000"),
        ({"D": float("nan")}, "nan"),
        ({"weights": {"t9": 1}}, "'t9'"),
        ({"weights": {"t0": -1}}, "t0"),
        ({"weights": {"t0": 0}}, "0"),
        ({"weights": {"t0": float("inf")}}, "t0"),
        ({"caps": {"d9": 0.5}}, "'d9'"),
        ({"caps": {"d0": 0.1}, "floors": {"d0": 0.2}}, "below its floor"),
        ({"caps": {f"d{i}": 0.1 for i in range(5)}}, "sum to 0.5"),
        ({"floors": {"d0": 0.7, "d1": 0.7}}, "sum to 1.4"),
    ],
)
def test_problems_without_an_answer(options, said):
    with pytest.raises(mj.UserError) as error:
        mj.optimal_mixture(additive(0), **(AT | options))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_law_without_mixture_is_refused():
    fit = random_truth("chinchilla", 0, ("loss",), seed=0)
    with pytest.raises(mj.UserError, match="no domains"):
        mj.optimal_mixture(fit, **AT)
