"""The worst target made best and losses within limits: against SciPy on the same problems, closed
forms, and their own certificates."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st

from mixjax.errors import UserError
from mixjax.fitting.simulate import known_fit
from mixjax.mixture.balance import limited_mixture, worst_target
from mixjax.mixture.optimum import best_of
from mixjax.mixture.question import Question
from tests.test_decision import AT, DOMAINS, additive, joint

BOUNDS = [(1e-9, 1.0)] * 4
OPTIONS = {"ftol": 1e-14, "maxiter": 1000}
LIMITED = {"caps": {"a": 0.5}, "floors": {"d": 0.05}}


def goal(seed=0, **changes):
    return Question(additive(seed), **(AT | changes))


def losses(at, h, targets):
    """Losses (targets,) with h scaled to sum to 1: additive laws in NumPy, value and gradient by h
    (targets, k)."""
    h = np.maximum(h, 1e-12)
    values, slopes = [], []
    for t in targets:
        p = at.fit.params[t]
        share = np.sum(p["C"] * h ** p["gamma"])
        values.append(p["E"] + 1 / share + p["A"] / at.N ** p["alpha"] + p["B"] / at.D ** p["beta"])
        slopes.append(-p["C"] * p["gamma"] * h ** (p["gamma"] - 1) / share**2)
    return np.array(values), np.array(slopes)


def least_worst_by_scipy(at, references, bounds=BOUNDS):
    """min s with w_t (L_t / reference_t - 1) <= s, by SLSQP over (h, s) from several starts."""
    targets, weights = list(references), np.array([at.weighed[t] for t in references])
    level = np.array(list(references.values()))

    def room(x):
        return 100 * (x[4] - weights * (losses(at, x[:4], targets)[0] / level - 1))

    def room_slope(x):
        return 100 * np.hstack(
            [-(weights / level)[:, None] * losses(at, x[:4], targets)[1], np.ones((len(level), 1))]
        )

    rules = [
        {
            "type": "eq",
            "fun": lambda x: x[:4].sum() - 1,
            "jac": lambda x: np.array([1.0, 1, 1, 1, 0]),
        },
        {"type": "ineq", "fun": room, "jac": room_slope},
    ]
    found = []
    for start in np.random.default_rng(0).dirichlet(np.ones(4), 4):
        x = np.append(start, 1.0)
        ended = scipy.optimize.minimize(
            lambda x: x[4],
            x,
            jac=lambda x: np.eye(5)[4],
            bounds=[*bounds, (-1, 2)],
            constraints=rules,
            method="SLSQP",
            options=OPTIONS,
        )
        met = np.all(room(ended.x) >= -1e-8) and abs(ended.x[:4].sum() - 1) < 1e-10
        found += [ended.fun] if met else []
    return min(found)


WEIGHTED = [
    {"weights": {"a": 1.0, "b": 2.0, "t": 0.5}},
    {"weights": {"a": 1.0, "b": 0.1, "t": 1.0}},
]


@pytest.mark.parametrize(
    ("seed", "changes"), [(0, {}), (1, {}), (2, LIMITED), (3, WEIGHTED[0]), (4, WEIGHTED[1])]
)
def test_the_worst_target_is_as_good_as_scipy_makes_it(seed, changes):
    at = goal(seed, **changes)
    found = worst_target(at)
    for t, reference in found.references.items():
        assert reference == pytest.approx(best_of(at.but(weights={t: 1.0})).losses[t], rel=1e-12)
    low, high = (
        np.array([(changes.get(side) or {}).get(d, default) for d in DOMAINS])
        for side, default in (("floors", 1e-9), ("caps", 1.0))
    )
    other = least_worst_by_scipy(at, found.references, list(zip(low, high, strict=True)))
    assert found.largest == pytest.approx(other, abs=1e-8)
    assert 0 <= found.mixture.gap < 1e-10
    assert found.mixture.convex
    h = at.array(found.mixture.weights)
    assert np.all((h >= low - 1e-9) & (h <= high + 1e-9))
    assert found.mixture.bound.keys() <= {"a", "d"}


def test_multipliers_certify_the_worst_target():
    """No mixture gets the weighted sum of excesses, by the multipliers, below the largest excess
    less the gap."""
    at = goal(2)
    found = worst_target(at)
    assert sum(found.pressing.values()) == pytest.approx(1)
    level = found.references
    least = best_of(
        at.but(weights={t: q / level[t] for t, q in found.pressing.items()})
    ).objective - sum(found.pressing.values())
    assert found.largest == pytest.approx(least, abs=1e-9)
    for t, q in found.pressing.items():  # complementary slackness
        assert q < 1e-6 or found.excess[t] == pytest.approx(found.largest, abs=1e-9)


def test_alike_targets_end_level():
    """Three domains and targets that are permutations of each other, and a domain alike for all:
    shares and excesses are level."""
    params = {}
    for i, t in enumerate("abt"):
        params[t] = {
            "E": 1.5,
            "C": np.where(np.arange(4) == i, 4.0, 1.0),
            "gamma": np.full(4, 0.5),
            "A": 400.0,
            "alpha": 0.34,
            "B": 2000.0,
            "beta": 0.37,
        }
    found = worst_target(Question(known_fit("additive", DOMAINS, params), **AT))
    shares = np.array(list(found.mixture.weights.values()))
    np.testing.assert_allclose(shares[:3], shares[0], atol=1e-7)
    # sum_i sqrt(h_i) C_i with C = (4, 1, 1, 1): stationary where (4 + 1 + 1) / 3 / sqrt(h) = 1 /
    # sqrt(h_d)
    np.testing.assert_allclose(shares[3], 1 / 13, rtol=1e-6)
    np.testing.assert_allclose(list(found.pressing.values()), 1 / 3, atol=1e-6)
    np.testing.assert_allclose(list(found.excess.values()), found.largest, rtol=1e-8)


def test_relative_to_a_mixture_all_targets_gain_alike():
    at = goal(0)
    base = np.array([0.1, 0.1, 0.1, 0.7])
    before = {t: float(x) for t, x in at.losses(base).items()}
    found = worst_target(at, before)
    assert found.references == before
    assert found.largest < -1e-3
    assert max(found.mixture.losses[t] / before[t] - 1 for t in before) == pytest.approx(
        found.largest, abs=1e-12
    )
    assert found.largest == pytest.approx(least_worst_by_scipy(at, before), abs=1e-8)


def test_the_worst_target_of_a_law_that_is_not_convex():
    """No better mixture among many, nor near the one found."""
    at = Question(joint(3), **AT)
    found = worst_target(at)
    assert not found.mixture.convex
    h = at.array(found.mixture.weights)
    rng = np.random.default_rng(0)
    near = h * np.exp(0.02 * rng.standard_normal((300, 4)))
    others = np.vstack(
        [rng.dirichlet(np.full(4, 0.7), 2000), near / near.sum(axis=1, keepdims=True)]
    )
    each = np.stack([at.losses(others)[t] / r - 1 for t, r in found.references.items()])
    assert found.largest <= each.max(axis=0).min() + 1e-9
    assert found.mixture.gap < 1e-9


# --- Limits on losses ----------------------------------------------------------------------------


def limited_by_scipy(at, limits, start):
    """min sum_t w_t L_t with L_t <= limit_t, by SLSQP; from the mixture found and from others."""
    minimised, weights, named = list(at.weighed), np.array(list(at.weighed.values())), list(limits)
    level = np.array(list(limits.values()))
    rules = [
        {"type": "eq", "fun": lambda h: h.sum() - 1, "jac": lambda h: np.ones(4)},
        {
            "type": "ineq",
            "fun": lambda h: 10 * (level - losses(at, h, named)[0]),
            "jac": lambda h: -10 * losses(at, h, named)[1],
        },
    ]
    found = []
    for x in (start, *np.random.default_rng(0).dirichlet(np.ones(4), 4)):
        ended = scipy.optimize.minimize(
            lambda h: weights @ losses(at, h, minimised)[0],
            x,
            jac=lambda h: weights @ losses(at, h, minimised)[1],
            bounds=BOUNDS,
            constraints=rules,
            method="SLSQP",
            options=OPTIONS,
        )
        if ended.success and np.all(losses(at, ended.x, named)[0] <= level + 1e-8):
            found.append(ended.fun)
    return min(found)


WANTED = [
    (0, {"a": 1.0}, {"b": 0.002, "t": 0.003}),
    (1, {"t": 1.0, "a": 0.5}, {"a": 0.006, "b": 0.008}),
    (2, None, {"a": 0.004}),
    (4, {"t": 2.0}, {"a": 0.01, "b": 0.01}),
]


@pytest.mark.parametrize(("seed", "weights", "above"), WANTED)
def test_limits_cost_what_they_cost_scipy(seed, weights, above):
    at = goal(seed, weights=weights)
    found = limited_mixture(at, above)
    for t, x in above.items():
        assert found.limits[t] == pytest.approx(
            (1 + x) * best_of(at.but(weights={t: 1.0})).losses[t], rel=1e-12
        )
        assert found.mixture.losses[t] <= found.limits[t] * (1 + 1e-9)
    other = limited_by_scipy(at, found.limits, at.array(found.mixture.weights))
    assert found.mixture.objective == pytest.approx(other, rel=1e-8)
    assert 0 <= found.mixture.gap < 1e-8
    assert found.mixture.convex
    assert found.mixture.objective >= found.free.objective


def test_prices_are_what_loosening_brings():
    at = goal(0, weights={"a": 1.0})
    above, step = {"b": 0.002, "t": 0.003}, 1e-6
    found = limited_mixture(at, above)
    for t in above:
        looser, tighter = (
            limited_mixture(
                at, at_most=found.limits | {t: found.limits[t] * (1 + sign * step)}
            ).mixture.objective
            for sign in (1, -1)
        )
        np.testing.assert_allclose(
            found.prices[t], 0.01 * (tighter - looser) / (2 * step), rtol=1e-3
        )
        assert found.prices[t] > 0


def test_limits_that_do_not_bind_change_nothing():
    at = goal(0)
    found = limited_mixture(at, {"a": 0.5}, {"b": 3.0})
    assert found.mixture.weights == found.free.weights
    assert found.prices == {"a": 0.0, "b": 0.0}
    assert found.limits["b"] == 3.0


def test_limits_relative_to_a_mixture():
    at = goal(0, weights={"a": 1.0})
    base = np.array([0.4, 0.2, 0.3, 0.1])
    before = {t: float(x) for t, x in at.losses(base).items()}
    found = limited_mixture(at, {"b": 0.0, "t": 0.0}, references=before)
    assert found.limits == {t: before[t] for t in ("b", "t")}
    assert found.mixture.losses["a"] < before["a"]
    assert all(found.mixture.losses[t] <= before[t] * (1 + 1e-9) for t in ("b", "t"))


@settings(max_examples=8, deadline=None)
@given(st.floats(0.003, 0.05), st.floats(0.0005, 0.02))
def test_a_looser_limit_never_costs_more(tight, more):
    at = goal(0, weights={"a": 1.0})
    tighter, looser = (limited_mixture(at, {"b": x}) for x in (tight, tight + more))
    assert looser.mixture.objective <= tighter.mixture.objective + 1e-9
    assert looser.prices["b"] <= tighter.prices["b"] + 1e-6  # convex: each percent buys less


def test_limits_of_a_law_that_is_not_convex():
    at = Question(joint(3), **AT, weights={"a": 1.0}, **LIMITED)
    found = limited_mixture(at, {"b": 0.03})
    assert not found.mixture.convex
    assert found.mixture.losses["b"] <= found.limits["b"] * (1 + 1e-9)
    others = np.random.default_rng(0).dirichlet(np.full(4, 0.7), 4000)
    others = others[(others[:, 0] <= 0.5) & (others[:, 3] >= 0.05)]
    at_others = at.losses(others)
    assert (
        found.mixture.objective <= at_others["a"][at_others["b"] <= found.limits["b"]].min() + 1e-9
    )
    assert found.mixture.gap < 1e-7


def test_limits_that_contradict_each_other_are_told_with_how_far():
    at = goal(0)
    level = worst_target(at.but(weights={"a": 1.0, "b": 1.0})).largest
    with pytest.raises(UserError, match=r"a, b cannot be met together: .* passes each by") as told:
        limited_mixture(at, {"a": 0.5 * level, "b": 0.5 * level})
    missed = (1 + level) / (1 + 0.5 * level) - 1
    assert f"{100 * missed:.3g} percent" in str(told.value)
    limited_mixture(at, {"a": level + 1e-6, "b": level + 1e-6})


@pytest.mark.parametrize(
    ("above", "at_most", "said"),
    [
        ({}, {}, "there are none"),
        ({"x": 0.1}, {}, "no target 'x'"),
        ({"a": 0.1}, {"a": 2.0}, "'a' has two"),
        ({"a": -2.0}, {}, "is no loss"),
        ({}, {"a": -2.0}, "not a loss above 0"),
        ({}, {"a": 1.0}, "1 is out of reach: 2.0798 is the least loss"),
        ({"a": -0.01}, {}, "out of reach"),
    ],
)
def test_limits_that_are_none(above, at_most, said):
    with pytest.raises(UserError, match=said):
        limited_mixture(goal(), above, at_most)


def test_references_that_are_none():
    with pytest.raises(UserError, match="no target 'x'"):
        worst_target(goal(), {"x": 2.0})
    with pytest.raises(UserError, match="not a loss above 0"):
        worst_target(goal(), {"a": 0.0})


def test_results_are_told():
    at = goal(0, weights={"a": 1.0})
    text, content = (
        str(limited_mixture(at, {"b": 0.002})),
        limited_mixture(at, {"b": 0.002}).to_dict(),
    )
    assert "price of 1 %" in text
    assert content["free"]["objective"] < content["objective"]
    found = worst_target(goal())
    assert "largest excess" in str(found)
    assert found.to_dict()["pressing"] == found.pressing
