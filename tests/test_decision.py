"""Decision aids: each against a closed form, finite differences, or SciPy on the same problem."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given
from hypothesis import strategies as st

from mixjax.errors import UserError
from mixjax.fitting.simulate import known_fit, random_truth
from mixjax.mixture.judge import compare_mixtures, equivalent, marginal_values, price_limits
from mixjax.mixture.move import Start, smallest_move, trust_path
from mixjax.mixture.near import flat_region
from mixjax.mixture.optimum import best_of
from mixjax.mixture.question import Question, jensen_shannon, kl
from mixjax.mixture.robust import members, regrets, robust_mixture, tail_mean
from mixjax.mixture.scales import budget_path, compute_optimal, growth_laws
from mixjax.mixture.targets import corners, simplex_grid, target_map

AT = {"N": 7e9, "D": 150e9}
DOMAINS = ("a", "b", "c", "d")
BASE = {"a": 0.7, "b": 0.15, "c": 0.1, "d": 0.05}


def additive(seed=0, targets=("a", "b", "t")):
    """A convex additive fit of four domains."""
    rng = np.random.default_rng(seed)
    params = {
        t: {
            "E": 1.5,
            "C": rng.uniform(0.3, 6.0, 4),
            "gamma": rng.uniform(0.2, 0.9, 4),
            "A": 400.0,
            "alpha": 0.34,
            "B": 2000.0,
            "beta": 0.37,
        }
        for t in targets
    }
    return known_fit("additive", DOMAINS, params)


def joint(seed=0):
    """A joint fit of the same names, whose optimum moves with scale."""
    drawn = random_truth("joint", 4, ("a", "b", "t"), seed)
    return known_fit("joint", DOMAINS, drawn.params)


def goal(**changes):
    return Question(additive(), **(AT | changes))


def constrained(minimised, start, *limits, bounds=None):
    """SciPy's SLSQP over the simplex with limits g(h) >= 0."""
    rules = [
        {"type": "eq", "fun": lambda h: h.sum() - 1},
        *({"type": "ineq", "fun": g} for g in limits),
    ]
    options = {"ftol": 1e-13, "maxiter": 500}
    return scipy.optimize.minimize(
        minimised,
        start,
        bounds=bounds or [(1e-9, 1)] * len(start),
        constraints=rules,
        method="SLSQP",
        options=options,
    )


def value(at):
    return lambda h: float(at.value(np.maximum(h, 0) / np.maximum(h, 0).sum()))


# --- Own mixtures --------------------------------------------------------------------------------


def test_token_equivalents_have_the_closed_form():
    """E + 1 / sum C h^gamma differ by d: B / D'^beta = B / D^beta - d."""
    fit = additive(targets=("a",))
    at = Question(fit, **AT)
    p = fit.params["a"]
    best, base = at.array(best_of(at).weights), at.array({"a": 0.8, "b": 0.1, "c": 0.05, "d": 0.05})
    diff = float(at.value(base) - at.value(best))
    left = p["B"] / AT["D"] ** p["beta"] - diff
    expected = math.inf if left <= 0 else (p["B"] / left) ** (1 / p["beta"]) / AT["D"]
    assert math.isfinite(expected)
    np.testing.assert_allclose(
        equivalent(at, base, float(at.value(best)), "D"), expected, rtol=1e-9
    )
    left = p["A"] / AT["N"] ** p["alpha"] - diff
    expected = math.inf if left <= 0 else (p["A"] / left) ** (1 / p["alpha"]) / AT["N"]
    np.testing.assert_allclose(
        equivalent(at, base, float(at.value(best)), "N"), expected, rtol=1e-9
    )


def test_own_mixtures_stand_beside_the_optimum():
    compared = compare_mixtures(goal(), {"base": {"a": 70, "b": 30}})
    assert list(compared.mixtures) == ["optimum", "base", "uniform"]
    best, base = compared.mixtures["optimum"], compared.mixtures["base"]
    assert (best.tokens, best.size, best.excess) == (1.0, 1.0, 0.0)
    assert set(best.target_tokens.values()) == {1.0}
    assert base.weights == {"a": 0.7, "b": 0.3, "c": 0.0, "d": 0.0}
    assert base.excess > 0
    assert base.tokens is not None
    assert base.tokens > 1
    for t, times in base.target_tokens.items():  # below 1 where the base is the better one
        assert (times < 1) == (base.losses[t] < best.losses[t])
    assert "uniform" in str(compared)


def test_a_loss_out_of_reach_is_told():
    at = goal(D=1e13, N=1e13)  # nothing left to gain from scale
    compared = compare_mixtures(at, {"corner": {"d": 1.0}}, uniform=False)
    assert compared.mixtures["corner"].tokens == math.inf
    assert "cannot be reached" in str(compared)


@pytest.mark.parametrize("law", ["joint@2e9", "0.6*joint@2e9 + 0.4*additive"])
def test_equivalents_of_laws_with_a_lag(law):
    drawn = random_truth("joint", 4, ("a", "b", "t"), 2).params
    params = {t: dict(own) for t, own in drawn.items()}
    if "*" in law:
        params = {
            t: {f"joint@2e9.{name}": x for name, x in own.items()}
            | {f"additive.{name}": x for name, x in additive().params[t].items()}
            for t, own in drawn.items()
        }
    question = Question(known_fit(law, DOMAINS, params), **AT)
    best = best_of(question)
    near = {d: 0.98 * best.weights[d] + 0.02 * BASE[d] for d in DOMAINS}
    tokens = compare_mixtures(question, {"near": near}).mixtures["near"].tokens
    there = question.value(question.array(near), D=AT["D"] * tokens)
    assert 1 < tokens < math.inf
    assert there == pytest.approx(best.objective, rel=1e-9)


def test_laws_that_read_no_scale_have_no_equivalents():
    fit = random_truth("ye_m4", 3, ("t",))
    assert compare_mixtures(Question(fit), {}).mixtures["uniform"].tokens is None


# --- Flat region ---------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_flat_region_is_that_of_scipy(seed):
    at = Question(additive(seed), **AT, caps={"a": 0.6})
    eps = 2e-3
    region = flat_region(at, eps)
    best = at.array(best_of(at).weights)
    ceiling = (1 + eps) * float(at.value(best))
    bounds = [(1e-9, 0.6), *[(1e-9, 1)] * 3]
    for i, (d, interval) in enumerate(region.intervals.items()):
        for sign, end in ((1, interval.low), (-1, interval.high)):
            other = constrained(
                lambda h, i=i, sign=sign: sign * h[i],
                best,
                lambda h: 1e3 * (ceiling - value(at)(h)),
                bounds=bounds,
            )
            np.testing.assert_allclose(end, other.x[i], atol=2e-4, err_msg=f"{d} {sign}")
        for mixture in (interval.at_low, interval.at_high):
            assert value(at)(at.array(mixture)) <= ceiling * (1 + 1e-6)


def test_flat_region_grows_with_eps_and_ends_at_the_limits():
    small, large, all_of_it = (
        flat_region(goal(caps={"a": 0.5}), eps).intervals for eps in (1e-4, 1e-2, 10.0)
    )
    for d in DOMAINS:
        assert large[d].low <= small[d].low <= small[d].best <= small[d].high <= large[d].high
        assert all_of_it[d].low == 0
        assert all_of_it[d].low_limit
        assert all_of_it[d].high_limit
    assert all_of_it["a"].high == 0.5


# --- Budget --------------------------------------------------------------------------------------


def test_compute_optimal_size_has_the_closed_form():
    """One target, additive law: N = G (C / 6)^(beta / (alpha + beta)), G = (alpha A / (beta B))^(1
    / (alpha + beta)). Hoffmann et al. 2022."""
    fit = additive(targets=("a",))
    p = fit.params["a"]
    total = p["alpha"] + p["beta"]
    N = (p["alpha"] * p["A"] / (p["beta"] * p["B"])) ** (1 / total) * (1e22 / 6) ** (
        p["beta"] / total
    )
    found = compute_optimal(Question(fit), 1e22)
    np.testing.assert_allclose([found.mixture.N, found.mixture.D], [N, 1e22 / 6 / N], rtol=1e-4)
    assert not found.at_edge
    assert min(point.objective for point in found.curve) >= found.mixture.objective


def test_compute_optimal_heeds_supply():
    at = Question(joint())
    tokens = dict.fromkeys(DOMAINS, 1e10)
    free, short = compute_optimal(at, 1e22), compute_optimal(at.but(tokens=tokens, epochs=2), 1e22)
    assert short.mixture.D <= 8e10 * (1 + 1e-9)
    assert all(
        share * short.mixture.D <= 2e10 * (1 + 1e-9) for share in short.mixture.weights.values()
    )
    assert short.mixture.objective >= free.mixture.objective


# --- Margins and prices --------------------------------------------------------------------------


@pytest.mark.parametrize("fit", [additive(), joint(1)], ids=["additive", "joint"])
def test_marginal_values_are_finite_differences(fit):
    at = Question(fit, **AT, weights={"a": 1, "t": 2})
    h = np.array([0.4, 0.3, 0.2, 0.1])
    found = marginal_values(at, at.named(h))
    for i, d in enumerate(DOMAINS):
        ends = []
        for step in (1e-5, -1e-5):
            tokens = h * AT["D"] * np.exp(step * (np.arange(4) == i))
            ends.append(
                [
                    float(at.value(tokens / tokens.sum(), D=tokens.sum())),
                    float(at.value(tokens / tokens.sum())),
                ]
            )
        np.testing.assert_allclose(
            [found.added[d], found.swapped[d]],
            (np.array(ends[0]) - ends[1]) / 2e-5,
            rtol=1e-5,
            atol=1e-8,
        )
    np.testing.assert_allclose(sum(found.swapped.values()), 0, atol=1e-12)
    np.testing.assert_allclose(
        sum(w * found.targets[t]["a"] for t, w in at.weighed.items()), found.added["a"], rtol=1e-12
    )


def test_at_the_optimum_nothing_is_worth_swapping():
    found = marginal_values(goal())
    np.testing.assert_allclose(list(found.swapped.values()), 0, atol=1e-7)
    assert all(x < 0 for x in found.added.values())


def test_prices_are_what_a_limit_costs():
    free = best_of(goal()).weights
    most, least = max(free, key=free.get), min(free, key=free.get)
    at = goal(caps={most: 0.5 * free[most]}, floors={least: free[least] + 0.1})
    found = price_limits(at)
    assert set(found.prices) == {most, least}
    assert found.cost > 0
    step = 1e-4
    looser = best_of(at.but(caps={most: 0.5 * free[most] + step})).objective
    np.testing.assert_allclose(
        found.prices[most], (found.feasible.objective - looser) / step, rtol=1e-2
    )
    looser = best_of(at.but(floors={least: free[least] + 0.1 - step})).objective
    np.testing.assert_allclose(
        found.prices[least], (found.feasible.objective - looser) / step, rtol=1e-2
    )
    assert price_limits(goal()).prices == {}


# --- Scale and targets ---------------------------------------------------------------------------


def test_growth_ends_where_it_tends_to():
    paths = growth_laws(Question(joint(2), N=1e9, D=2e10), times=1e12, points=4)
    for name in ("N alone", "D alone", "D ~ N"):
        np.testing.assert_allclose(
            paths[name].shares[-1], list(paths[name].end.values()), atol=5e-3, err_msg=name
        )
    ends = [
        list(paths[name].end.values()) for name in ("D ~ N", "D ~ sqrt N", "D ~ log N", "N ~ log D")
    ]
    np.testing.assert_array_equal(ends, [ends[0]] * 4)
    assert np.abs(np.subtract(list(paths["N alone"].end.values()), ends[0])).max() > 1e-3
    np.testing.assert_allclose(paths["D ~ sqrt N"].D[-1], 2e10 * 1e6)


def test_additive_optimum_stays_where_it_is():
    path = budget_path(goal(), [1e8, 1e9, 1e12], 1e11)
    np.testing.assert_allclose(path.shares, np.tile(path.shares[0], (3, 1)), atol=1e-6)


def test_jensen_shannon():
    one, other = np.eye(3)[0], np.eye(3)[1]
    np.testing.assert_allclose(jensen_shannon(one, other), math.sqrt(math.log(2)))
    p, q = np.random.default_rng(0).dirichlet(np.ones(3), 2)
    assert jensen_shannon(p, q) == jensen_shannon(q, p) > 0
    assert jensen_shannon(p, p) == 0


def test_corners_want_their_own_domain():
    rng = np.random.default_rng(0)
    params = {}
    for i, t in enumerate("ab"):
        helps = np.where(np.arange(4) == i, 5.0, rng.uniform(0.1, 0.3, 4))
        params[t] = {
            "E": 1.5,
            "C": helps,
            "gamma": np.full(4, 0.9),
            "A": 400.0,
            "alpha": 0.34,
            "B": 2000.0,
            "beta": 0.37,
        }
    found = corners(Question(known_fit("additive", DOMAINS, params), **AT))
    assert list(found) == ["a", "b"]
    assert all(found[t].weights[t] > 0.95 for t in "ab")


def symmetric():
    """Three domains that are alike: the centre is a fixed point."""
    params = {}
    for i, t in enumerate("abc"):
        params[t] = {
            "E": 1.5,
            "C": np.where(np.arange(3) == i, 4.0, 1.0),
            "gamma": np.full(3, 0.5),
            "A": 400.0,
            "alpha": 0.34,
            "B": 2000.0,
            "beta": 0.37,
        }
    return known_fit("additive", ("a", "b", "c"), params)


def test_fixed_points_of_a_symmetric_map():
    at = Question(symmetric(), **AT)
    found = target_map(at, divisions=8)
    assert len(found.w) == len(simplex_grid(3, 8)) == math.comb(10, 2)
    assert np.min(np.abs(found.fixed - 1 / 3).max(axis=1)) < 1e-6
    for point in found.fixed:
        best = best_of(at.but(weights=dict(zip("abc", point, strict=True))))
        np.testing.assert_allclose(list(best.weights.values()), point, atol=1e-4)
    centre = found.distance[np.argmin(np.abs(found.w - [0.375, 0.375, 0.25]).max(axis=1))]
    assert centre < found.distance.max()


# --- Moves ---------------------------------------------------------------------------------------


def test_a_trust_path_is_that_of_scipy():
    at = goal()
    path = trust_path(at, Start(BASE, tokens={"d": 1e9}, trained=np.eye(4)), steps=5)
    base, best = at.array(BASE), at.array(best_of(at).weights)
    assert path.steps[0].weights == at.named(base)
    np.testing.assert_allclose(list(path.steps[-1].weights.values()), best, atol=1e-9)
    gains = [s.gain for s in path.steps]
    assert gains == sorted(gains)
    np.testing.assert_allclose(
        [s.kl for s in path.steps], kl(best, base) * np.linspace(0, 1, 6) ** 2, rtol=1e-4, atol=1e-9
    )
    for step in path.steps[1:-1]:
        other = constrained(value(at), base, lambda h, r=step.kl: 10 * (r - kl(h / h.sum(), base)))
        assert step.objective <= other.fun + 1e-7
        np.testing.assert_allclose(list(step.weights.values()), other.x, atol=2e-3)
    assert 0 < path.knee < 5
    assert path.steps[-1].epochs == pytest.approx(path.steps[-1].weights["d"] * 150)
    assert all(s.outside == 0 for s in path.steps)


@pytest.mark.parametrize(
    "limits", [{}, {"caps": {"a": 0.75, "c": 0.2}, "floors": {"d": 0.05}}], ids=["free", "limited"]
)
def test_a_path_by_share_moved_is_that_of_scipy(limits):
    at = goal(**limits)
    path = trust_path(at, Start(BASE), steps=4, region="l1")
    base, best = at.array(BASE), at.array(best_of(at).weights)
    far = 0.5 * np.abs(best - base).sum()
    np.testing.assert_allclose(
        [s.moved for s in path.steps], far * np.linspace(0, 1, 5), rtol=1e-4, atol=1e-6
    )
    floors, caps = (
        np.array([limits.get(what, {}).get(d, default) for d in DOMAINS])
        for what, default in (("floors", 1e-9), ("caps", 1.0))
    )
    for step in path.steps[1:-1]:  # in SciPy with what leaves and what comes as variables
        rules = [
            {"type": "eq", "fun": lambda x: x[:4].sum() - x[4:].sum()},
            {"type": "ineq", "fun": lambda x, r=step.moved: r - x[4:].sum()},
            {"type": "ineq", "fun": lambda x: caps - (base - x[:4] + x[4:])},
            {"type": "ineq", "fun": lambda x: (base - x[:4] + x[4:]) - floors},
        ]
        start = (
            np.concatenate([np.maximum(base - best, 0), np.maximum(best - base, 0)])
            * step.moved
            / far
        )
        options = {"ftol": 1e-13, "maxiter": 500}
        other = scipy.optimize.minimize(
            lambda x: value(at)(base - x[:4] + x[4:]),
            start,
            bounds=[(0, b) for b in base] + [(0, 1)] * 4,
            constraints=rules,
            method="SLSQP",
            options=options,
        )
        assert step.objective <= other.fun + 1e-6
        assert all(
            f - 1e-9 <= w <= c + 1e-9
            for w, f, c in zip(step.weights.values(), floors, caps, strict=True)
        )


def test_a_base_that_leaves_a_domain_out():
    path = trust_path(goal(), Start({"a": 0.5, "b": 0.5}), steps=3)
    assert all(np.isfinite(s.kl) for s in path.steps)
    assert path.steps[-1].gain > 0


@pytest.mark.parametrize("asked", ["t", "b", "ta", "ba", "abt"])
def test_the_smallest_move_is_that_of_scipy(asked):
    """Asked for as much as a mixture somewhere between the base and the best of these targets
    has."""
    at = goal()
    base, best = at.array(BASE), at.array(best_of(at.but(weights=dict.fromkeys(asked, 1))).weights)
    before, there = at.losses(base), at.losses(0.6 * base + 0.4 * best)
    improve = {t: 1 - float(there[t]) / float(before[t]) - 1e-4 for t in asked}
    found = smallest_move(at, Start(BASE), improve)

    def left(h, t):
        h = np.maximum(h, 0) / np.maximum(h, 0).sum()
        return 1e2 * ((1 - improve[t]) * float(before[t]) - float(at.losses(h)[t]))

    other = constrained(
        lambda h: kl(np.maximum(h, 1e-12), base),
        0.6 * base + 0.4 * best,
        *(lambda h, t=t: left(h, t) for t in asked),
    )
    assert other.success
    np.testing.assert_allclose(found.kl, other.fun, rtol=1e-3, atol=1e-7)
    for t, x in improve.items():
        assert found.losses[t] <= (1 - x) * float(before[t]) * (1 + 1e-6)


def test_a_goal_already_met_asks_for_no_move():
    assert smallest_move(goal(), Start(BASE), {"t": -0.5}).kl < 1e-9


@pytest.mark.parametrize(
    ("improve", "said"),
    [
        ({"t": 0.9}, "the most that any mixture gives"),
        ({"x": 0.1}, "no target 'x'"),
        ({}, "not improvements"),
        ({"t": 2.0}, "not improvements"),
    ],
)
def test_moves_that_cannot_be(improve, said):
    with pytest.raises(UserError, match=said):
        smallest_move(goal(), Start(BASE), improve)


def test_improvements_that_exclude_each_other():
    at = goal()
    base = at.array(BASE)
    alone = {
        t: 1 - best_of(at.but(weights={t: 1})).losses[t] / float(at.losses(base)[t]) for t in "ab"
    }
    with pytest.raises(UserError, match="together"):
        smallest_move(at, Start(BASE), {t: 0.99 * x for t, x in alone.items()})


# --- Robust mixtures -----------------------------------------------------------------------------


@given(st.lists(st.floats(0, 10), min_size=1, max_size=20), st.floats(0, 0.99))
def test_tail_mean_lies_between_mean_and_worst(values, level):
    values = np.array(values)
    tail = tail_mean(values, level)
    assert values.mean() - 1e-9 <= tail <= values.max() + 1e-9
    cap = 1 / ((1 - level) * len(values))  # the definition by Rockafellar and Uryasev, at its kinks
    assert tail == pytest.approx(
        min(t + np.maximum(values - t, 0).sum() * cap for t in values), abs=1e-9
    )


@pytest.mark.parametrize("level", [0.0, 0.5, 0.9])
def test_the_robust_mixture_has_the_least_tail(level):
    fits = [additive(seed) for seed in range(4)]
    at = Question(fits[0], **AT)
    found = robust_mixture(at, fits, level)
    best = found.mixtures["robust"]
    others = np.random.default_rng(0).dirichlet(np.full(4, 1.0), 300)
    near = 0.97 * at.array(best.weights) + 0.03 * others
    each = np.stack(
        [
            Question(f, **AT).value(np.vstack([others, near]))
            / best_of(Question(f, **AT)).objective
            - 1
            for f in fits
        ]
    )
    tails = np.array([tail_mean(column, level) for column in each.T])
    assert best.tail <= tails.min() + 1e-9
    assert found.gap < 1e-5
    assert best.tail <= min(r.tail for r in found.mixtures.values()) + found.gap


def test_least_mean_is_the_optimum_of_the_mean():
    fits = [additive(0), additive(1)]
    found = robust_mixture(Question(fits[0], **AT), fits, 0.0)
    scales = [best_of(Question(f, **AT)).objective for f in fits]
    merged = known_fit(
        "additive", DOMAINS, {f"{t}{i}": f.params[t] for i, f in enumerate(fits) for t in f.targets}
    )
    best = best_of(
        Question(
            merged,
            **AT,
            weights={
                f"{t}{i}": 1 / s
                for i, (f, s) in enumerate(zip(fits, scales, strict=True))
                for t in f.targets
            },
        )
    )
    np.testing.assert_allclose(
        list(found.mixtures["robust"].weights.values()), list(best.weights.values()), atol=1e-5
    )


def test_fits_of_different_laws_and_one_fit_twice():
    at = Question(additive(), **AT)
    mixed = robust_mixture(at, [joint(3), additive(), joint(4)], 0.9)
    assert len(mixed.mixtures["robust"].each) == 3
    assert (
        mixed.mixtures["robust"].worst
        <= min(r.worst for name, r in mixed.mixtures.items() if name != "robust") + mixed.gap
    )
    same = robust_mixture(at, [additive(), additive()], 0.9)
    assert same.mixtures["robust"].worst < 2e-6
    assert regrets(at, [additive()], BASE).mean > 0


def test_parameter_arrays_are_fits():
    fits = [additive(seed) for seed in range(3)]
    stacked = {
        t: {name: np.stack([f.params[t][name] for f in fits]) for name in fits[0].params[t]}
        for t in fits[0].targets
    }
    found = members(fits[0], stacked)
    assert len(found) == 3
    h = [0.1, 0.2, 0.3, 0.4]
    assert [m.predict(**AT, h=h) for m in found] == [f.predict(**AT, h=h) for f in fits]
    with pytest.raises(UserError, match="3, 2"):
        members(fits[0], stacked | {"t": {name: v[:2] for name, v in stacked["t"].items()}})


# --- All laws ------------------------------------------------------------------------------------


@pytest.mark.parametrize("law", ["full", "ge24"])
def test_laws_that_are_not_convex_or_end_at_corners(law):
    """Moves gain, regions hold the optimum, and every optimum on the way is stationary."""
    fit = random_truth(law, 3, ("d0", "d1", "d2"), seed=1)
    at = Question(fit, **AT)
    for interval in flat_region(at).intervals.values():
        assert interval.low <= interval.best <= interval.high
    for region in ("kl", "l1"):
        steps = trust_path(
            at, Start({"d0": 0.6, "d1": 0.3, "d2": 0.1}), steps=3, region=region
        ).steps
        assert np.all(np.diff([s.gain for s in steps]) > 0)
        assert max(s.gap for s in steps) < 1e-8
    found = robust_mixture(at, [fit, random_truth(law, 3, ("d0", "d1", "d2"), seed=2)], 0.5)
    assert found.mixtures["robust"].tail == min(r.tail for r in found.mixtures.values())


# --- Refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: goal(weights={"x": 1}), "no target 'x'"),
        (lambda: goal(caps={"x": 1}), "no domain 'x'"),
        (lambda: best_of(goal(N=None)), "N is missing"),
        (lambda: compare_mixtures(goal(), {"mine": {"x": 1}}), "no domain 'x'"),
        (lambda: compare_mixtures(goal(), {"mine": {"a": -1, "b": 2}}), "not those of a mixture"),
        (lambda: flat_region(goal(), 0.0), "not above 0"),
        (lambda: compute_optimal(goal(), 1.0), "is below"),
        (
            lambda: compute_optimal(Question(random_truth("ye_m4", 3, ("t",))), 1e22),
            "does not read both",
        ),
        (lambda: compute_optimal(goal(tokens={"x": 1e9}), 1e22), "no domain 'x'"),
        (lambda: budget_path(goal(), [1e9, 2e9], [1e9, 2e9, 3e9]), "do not go together"),
        (lambda: growth_laws(goal(), laws=("D",)), "no growth law 'D'"),
        (lambda: growth_laws(goal(D=None)), "D is missing"),
        (lambda: corners(goal(), ["x"]), "no target 'x'"),
        (lambda: target_map(goal(), ["a", "c"]), "'c' is not both"),
        (lambda: target_map(goal(), ["a"]), "name 2 to 4"),
        (lambda: trust_path(goal(caps={"a": 0.5}), Start(BASE)), "outside its limits"),
        (lambda: trust_path(goal(), Start(BASE), steps=0), "below 1"),
        (lambda: trust_path(goal(), Start(BASE), region="l2"), "no distance 'l2'"),
        (lambda: robust_mixture(goal(), [], 0.5), "no fits"),
        (lambda: robust_mixture(goal(), [additive()], 1.0), "below 1"),
        (lambda: robust_mixture(goal(), [symmetric()]), "has the domains"),
        (lambda: robust_mixture(goal(), [additive(targets=("a",))]), "no target"),
    ],
)
def test_what_is_refused_in_one_line(call, said):
    with pytest.raises(UserError, match=said) as error:
        call()
    assert "\n" not in str(error.value)
