"""Many best mixtures at once: each is that of one problem alone, wherever it lies in the batch."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import numpy as np
import pytest

import mixjax as mj
from mixjax.fitting.simulate import random_truth
from mixjax.mixture import lanes
from mixjax.mixture.many import Vary, optima, parameter_sets
from tests.test_mixture import additive, pulled_both_ways

AT = {"N": 7e9, "D": 150e9}


def many_problems(fit, count, seed=0):
    """Random scales and weights, a third of them with caps and floors."""
    rng = np.random.default_rng(seed)
    k, boxed = len(fit.domains), np.arange(count) % 3 == 0
    inside = rng.dirichlet(np.ones(k), count)
    caps = np.where(boxed[:, None], np.minimum(1.0, inside + rng.uniform(0, 0.4, (count, k))), 1.0)
    floors = np.where(boxed[:, None] & (rng.random((count, k)) < 0.3), 0.5 * inside, 0.0)
    weights = rng.dirichlet(np.ones(len(fit.targets)), count)
    return {
        "N": 10 ** rng.uniform(9, 11, count),
        "D": 10 ** rng.uniform(10, 12, count),
        "weights": dict(zip(fit.targets, weights.T, strict=True)),
        "caps": dict(zip(fit.domains, caps.T, strict=True)),
        "floors": dict(zip(fit.domains, floors.T, strict=True)),
    }


def problem(args, i):
    """The i-th of many problems, as one."""
    return {
        name: {key: float(x[i]) for key, x in given.items()}
        if isinstance(given, dict)
        else float(given[i])
        for name, given in args.items()
    }


def some_of(args, rows):
    return {
        name: {key: x[rows] for key, x in given.items()} if isinstance(given, dict) else given[rows]
        for name, given in args.items()
    }


@pytest.mark.parametrize("law", ["additive", "joint", "full", "simple", "ge24"])
def test_each_is_the_mixture_of_its_problem(law):
    fit = (
        additive(3, 4, 4)
        if law == "additive"
        else random_truth(law, 4, ("d0", "d1", "d2", "d3"), seed=1)
    )
    args = many_problems(fit, 60)
    found = mj.optimal_mixtures(fit, **args)
    assert len(found) == 60
    np.testing.assert_allclose(found.h.sum(axis=1), 1, atol=1e-12)
    for i in range(0, 60, 4):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            alone = mj.optimal_mixture(fit, **problem(args, i))
        np.testing.assert_allclose(found.objective[i], alone.objective, rtol=1e-9)
        np.testing.assert_allclose(found.losses[i], list(alone.losses.values()), rtol=1e-5)
        assert found.gap[i] < 1e-8 * max(1, alone.objective)
        assert found.convex[i] == alone.convex
        assert found.ends.starts[i] == alone.starts
    below, above = (
        found.h - np.array(list(args["floors"].values())).T,
        np.array(list(args["caps"].values())).T - found.h,
    )
    assert below.min() >= -1e-15
    assert above.min() >= -1e-15


@pytest.mark.parametrize("law", ["additive", "joint"])
def test_place_and_neighbours_do_not_matter(law):
    fit = additive(5, 4, 3) if law == "additive" else random_truth(law, 4, ("a", "b"), seed=4)
    args = many_problems(fit, 300, seed=1)
    whole, again = mj.optimal_mixtures(fit, **args), mj.optimal_mixtures(fit, **args)
    np.testing.assert_array_equal(whole.h, again.h)
    order = np.random.default_rng(0).permutation(300)
    part = mj.optimal_mixtures(fit, **some_of(args, order[:200]))
    for name in ("h", "objective", "gap", "losses"):
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[order[:200]])
    np.testing.assert_array_equal(part.ends.agreeing, whole.ends.agreeing[order[:200]])
    # Few questions take lanes of the other width, which rounds otherwise.
    few = mj.optimal_mixtures(fit, **some_of(args, order[:20]))
    np.testing.assert_allclose(few.objective, whole.objective[order[:20]], rtol=1e-13)
    np.testing.assert_allclose(few.h, whole.h[order[:20]], atol=1e-6)


def test_numbers_are_broadcast():
    fit = random_truth("joint", 3, ("a", "b"), seed=2)
    budgets = mj.optimal_mixtures(fit, N=[1e9, 1e10, 1e11], D=150e9, caps={"d0": 0.3})
    assert budgets.D is not None
    assert budgets.D.tolist() == [150e9] * 3
    assert (budgets.h[:, 0] <= 0.3).all()
    for i, N in enumerate((1e9, 1e10, 1e11)):
        np.testing.assert_allclose(
            budgets.objective[i],
            mj.optimal_mixture(fit, N=N, D=150e9, caps={"d0": 0.3}).objective,
            rtol=1e-10,
        )
    assert budgets.weights(1) == dict(zip(fit.domains, budgets.h[1].tolist(), strict=True))
    assert "3 questions" in str(budgets)
    assert len(mj.optimal_mixtures(fit, **AT)) == 1


def test_parameter_sets_of_fits_and_of_an_ensemble():
    fits = [additive(seed, 4, 3) for seed in range(3)]
    found = mj.optimal_mixtures(fits, **AT)
    assert found.member.tolist() == [0, 1, 2]
    alone = [mj.optimal_mixture(f, **AT).objective for f in fits]
    np.testing.assert_allclose(found.objective, alone, rtol=1e-10)
    params = {
        t: {name: np.stack([f.params[t][name] for f in fits]) for name in fits[0].params[t]}
        for t in fits[0].targets
    }
    ensemble = mj.optimal_mixtures(SimpleNamespace(fit=fits[0], params=params), **AT)
    np.testing.assert_array_equal(ensemble.h, found.h)
    vary = Vary(
        N=np.array([1e9, 1e9, 7e9, 7e9]),
        params=parameter_sets(fits)[1],
        member=np.array([2, 0, 2, 0]),
    )
    crossed = optima(mj.Question(fits[0], **AT), vary)
    np.testing.assert_allclose(crossed.objective[2:], [alone[2], alone[0]], rtol=1e-10)


def test_own_domain_law_has_the_closed_form():
    fit = random_truth("ge24", 4, ("d0", "d1", "d2", "d3"), seed=2)
    for t in fit.targets:
        fit.params[t]["gamma"] = 0.4
    size = np.array([fit.predict(**AT, h=np.eye(4)[i])[t] for i, t in enumerate(fit.targets)])
    w = np.random.default_rng(0).dirichlet(np.ones(4), 50)
    expected = (w * size) ** (1 / 1.4)
    found = mj.optimal_mixtures(fit, **AT, weights=dict(zip(fit.targets, w.T, strict=True)))
    np.testing.assert_allclose(found.h, expected / expected.sum(axis=1, keepdims=True), atol=1e-7)
    assert found.convex.all()


def test_exponents_of_both_signs_are_held():
    fit = pulled_both_ways(6)
    found = mj.optimal_mixtures(fit, **AT, weights={t: [1.0, 2.0] for t in fit.targets})
    assert found.held.tolist() == [[False, False, False, True]] * 2
    assert (found.gap < 1e-8).all()
    with pytest.warns(mj.MixjaxWarning):
        np.testing.assert_allclose(
            found.objective[0], mj.optimal_mixture(fit, **AT).objective, rtol=1e-9
        )


def test_a_domain_capped_at_zero():
    found = mj.optimal_mixtures(additive(8), **AT, caps={"d1": [0.0, 1.0]})
    assert found.h[0, 1] == 0.0
    assert found.h[1, 1] > 0
    assert not found.held.any()


def test_numbers_of_problems_and_their_contents_compile_nothing():
    fit = random_truth("joint", 4, ("a", "b"), seed=4)
    mj.optimal_mixtures(fit, **AT)
    sizes = [f._cache_size() for f in (lanes._lanewise, lanes._block)]
    mj.optimal_mixtures(random_truth("joint", 4, ("a", "b"), seed=5), **many_problems(fit, 300))
    assert [f._cache_size() for f in (lanes._lanewise, lanes._block)] == sizes


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"N": None}, "N is missing"),
        ({"N": [1e9, 0.0]}, "question 1, N: 0 is not a positive number"),
        ({"D": [1e9, np.nan]}, "D: number 1 is not finite"),
        ({"N": [1e9, 1e9], "D": [1e9, 1e9, 1e9]}, "N: has 2 numbers"),
        ({"N": [[1e9]]}, "has shape (1, 1)"),
        ({"weights": {"t0": [1.0, -1.0]}}, "question 1, weights: -1 is negative"),
        ({"weights": {"t0": [1.0, 0.0]}}, "question 1, weights: all are 0"),
        ({"weights": {"t": 1.0}}, "no target 't'; did you mean"),
        ({"caps": {"x": 1.0}}, "no domain 'x'"),
        ({"caps": {"d0": [0.1, 0.2], "d1": [0.1, 0.2, 0.3]}}, "caps: lengths differ: 1, 2, 3"),
        (
            {"caps": {"d0": [1.0, 0.1]}, "floors": {"d0": 0.2}},
            "question 1, cap of 'd0': 0.1 is below its floor 0.2",
        ),
        ({"floors": {"d0": 0.6, "d1": [0.1, 0.6]}}, "question 1, floors: they sum to 1.2"),
        ({"caps": {"d0": "much"}}, "caps, 'd0'"),
    ],
)
def test_problems_without_an_answer(options, said):
    with pytest.raises(mj.UserError) as error:
        mj.optimal_mixtures(additive(0), **(AT | options))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_fits_that_do_not_go_together():
    with pytest.raises(mj.UserError, match="fit 1: has another law"):
        mj.optimal_mixtures([additive(0), additive(0, targets=2)], **AT)
    with pytest.raises(mj.UserError, match="there are none"):
        mj.optimal_mixtures([], **AT)
    with pytest.raises(mj.UserError, match="question 1: the ge24 law predicts no finite loss"):
        mj.optimal_mixtures(
            random_truth("ge24", 3, ("d0", "d1", "d2"), seed=2), **AT, caps={"d2": [1.0, 0.0]}
        )
