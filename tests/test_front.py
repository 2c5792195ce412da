"""Pareto fronts, few domains, and a pull towards a prior: closed forms, brute force, SciPy."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st

import mixjax as mj
from mixjax.errors import UserError
from mixjax.fitting.simulate import known_fit
from mixjax.mixture import near as support
from mixjax.mixture.front import _unbeaten, pareto_front
from mixjax.mixture.near import at_most_domains
from mixjax.mixture.optimum import best_of
from mixjax.mixture.question import LEAST_SHARE, Question, kl
from tests.test_decision import AT, BASE, DOMAINS, additive, joint

TWO = {"one": ["a"], "two": ["b", "t"]}


def goal(seed=0, **changes):
    return Question(additive(seed), **(AT | changes))


def group_losses(at, front, h):
    losses = at.losses(h)
    return np.stack(
        [sum(w * losses[t] for t, w in inside.items()) for inside in front.groups.values()], axis=-1
    )


# --- Fronts --------------------------------------------------------------------------------------


def test_a_front_is_made_of_optima():
    at = goal()
    front = pareto_front(at, TWO)
    assert front.groups == {"one": {"a": 1.0}, "two": {"b": 0.5, "t": 0.5}}
    np.testing.assert_allclose(group_losses(at, front, front.h), front.losses, rtol=1e-12)
    assert np.all(np.diff(front.losses[:, 0]) > 0)
    assert np.all(np.diff(front.losses[:, 1]) < 0)
    slopes = np.diff(front.losses[:, 1]) / np.diff(front.losses[:, 0])
    tangents = -front.weights[:, 0] / front.weights[:, 1]
    for i in range(
        1, len(slopes)
    ):  # a convex front: the tangent at a point lies between the chords to its neighbours
        assert slopes[i - 1] - 1e-7 <= tangents[i] <= slopes[i] + 1e-7
    assert front.convex
    assert front.gap.max() < 1e-10
    gaps = np.linalg.norm(np.diff(front.losses, axis=0) / np.ptp(front.losses, axis=0), axis=1)
    assert gaps.max() < 0.12
    assert len(front.h) < 100


def test_no_mixture_is_below_the_front():
    at = goal(2)
    front = pareto_front(at, TWO, divisions=20)
    others = group_losses(at, front, np.random.default_rng(0).dirichlet(np.full(4, 0.7), 3000))
    for losses in front.losses:
        assert not np.any(np.all(others < losses - 1e-9, axis=1))


def test_the_knee_is_farthest_below_the_chord():
    front = pareto_front(goal(), TWO)
    ends = front.losses[[0, -1]]
    direction = (ends[1] - ends[0]) / np.ptp(front.losses, axis=0)
    away = (front.losses - ends[0]) / np.ptp(front.losses, axis=0)
    below = direction[0] * away[:, 1] - direction[1] * away[:, 0]
    assert front.knee == np.argmin(below)
    assert 0 < front.knee < len(front.h) - 1


def test_three_groups_and_own_mixtures():
    at = goal(caps={"a": 0.6})
    front = pareto_front(at, {"x": ["a"], "y": ["b"], "z": ["t"]}, {"base": BASE}, divisions=6)
    assert front.losses.shape[1] == 3
    assert len(front.h) > 15
    assert np.all(front.h[:, 0] <= 0.6 + 1e-12)
    assert list(front.beside) == ["uniform", "base"]
    np.testing.assert_allclose(front.beside["base"][1], group_losses(at, front, at.array(BASE)))
    for one, other in itertools.permutations(front.losses, 2):
        assert not (np.all(one <= other) and np.any(one < other - 1e-8))
    content = front.to_dict()
    assert len(content["points"]) == len(front.h)
    assert content["points"][0]["losses"].keys() == {"x", "y", "z"}
    assert "knee" in str(front)
    assert len(front.figure().axes) == 6


def test_fronts_of_laws_that_are_not_convex_keep_what_nothing_beats():
    front = pareto_front(Question(joint(1), **AT), TWO)
    assert not front.convex
    assert "bend inwards" in str(front)
    assert np.all(np.diff(front.losses[:, 1]) < 0)
    assert len(front.figure().axes) == 2


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(*[st.integers(1, 6)] * 3), min_size=1, max_size=25))
def test_points_that_nothing_beats(rows):
    losses = np.array(rows, dtype=np.float64)
    kept = _unbeaten(losses)
    for i, row in enumerate(losses):
        beaten = any(np.all(other <= row) and np.any(other < row) for other in losses)
        assert (any(np.array_equal(losses[j], row) for j in kept)) == (not beaten), i
    assert len({tuple(losses[j]) for j in kept}) == len(kept)


@pytest.mark.parametrize(
    ("between", "said"),
    [
        ({"x": ["a"]}, "1 groups"),
        ({"x": ["a"], "y": ["q"]}, "no target 'q'"),
        ({"x": ["a"], "y": ["a", "b"]}, "'a' is in 'x' too"),
        ({"x": ["a"], "y": []}, "no weight"),
    ],
)
def test_groups_that_make_no_front(between, said):
    with pytest.raises(UserError, match=said):
        pareto_front(goal(), between)


def test_weights_count_within_groups():
    front = pareto_front(goal(weights={"a": 5.0, "b": 3.0, "t": 1.0}), TWO, divisions=4)
    assert front.groups == {"one": {"a": 1.0}, "two": {"b": 0.75, "t": 0.25}}
    with pytest.raises(UserError, match="no weight"):
        pareto_front(goal(weights={"b": 3.0}), TWO)


# --- Few domains ---------------------------------------------------------------------------------


def by_force(at, most):
    """The least objective over all sets of `most` domains, one problem after the other; sets that
    the caps leave empty are none."""
    found = []
    for some in itertools.combinations(at.fit.domains, most):
        caps = {**(at.caps or {}), **{d: 0.0 for d in at.fit.domains if d not in some}}
        if sum(caps.get(d, 1.0) for d in at.fit.domains) >= 1:
            found.append(best_of(at.but(caps=caps)).objective)
    return min(found)


@pytest.mark.parametrize("most", [1, 2, 3])
@pytest.mark.parametrize("seed", [0, 3])
def test_few_domains_are_the_best_of_all_sets(seed, most):
    at = goal(seed, caps={"a": 0.95, "c": 0.9})
    found = at_most_domains(at, most)
    assert found.exact
    assert len(found.domains) <= most
    assert found.sets == math.comb(4, most)
    assert found.mixture.objective == pytest.approx(by_force(at, most), rel=1e-10)
    assert found.cost == pytest.approx(
        found.mixture.objective / found.free.objective - 1, abs=1e-12
    )
    assert found.mixture.gap < 1e-9


def wide(k=9, seed=5):
    """A convex fit of many domains with few useful to all."""
    rng = np.random.default_rng(seed)
    names = tuple(f"d{i}" for i in range(k))
    fixed = {"A": 400.0, "alpha": 0.34, "B": 2000.0, "beta": 0.37, "E": 1.5}
    return known_fit(
        "additive",
        names,
        {
            t: {"C": rng.uniform(0.3, 6.0, k), "gamma": rng.uniform(0.3, 0.9, k), **fixed}
            for t in ("a", "b", "t")
        },
    )


def test_searched_sets_are_said_to_be_and_are_good(monkeypatch):
    at = Question(wide(), **AT)
    exact = {m: at_most_domains(at, m) for m in (2, 4)}
    monkeypatch.setattr(support, "MOST_SETS", 0)
    for m, best in exact.items():
        found = at_most_domains(at, m)
        assert best.exact
        assert not found.exact
        assert "a better set may exist" in str(found)
        assert found.sets < best.sets or m == 2
        assert len(found.domains) <= m
        assert (
            best.mixture.objective * (1 - 1e-12)
            <= found.mixture.objective
            <= best.mixture.objective * 1.002
        )
    assert exact[2].mixture.objective > exact[4].mixture.objective > best_of(at).objective


def test_floors_are_in_every_set():
    at = goal(floors={"d": 0.1})
    found = at_most_domains(at, 2)
    assert "d" in found.domains
    assert found.sets == 3
    with pytest.raises(UserError, match="2 have floors above 0, more than 1"):
        at_most_domains(goal(floors={"d": 0.1, "a": 0.1}), 1)
    with pytest.raises(UserError, match="no set of so many"):
        at_most_domains(goal(caps=dict.fromkeys(DOMAINS, 0.3)), 3)
    with pytest.raises(UserError, match="at least 1"):
        at_most_domains(goal(), 0)


def test_groups_hold_in_every_set():
    at = goal(groups={"ab": ("a", "b")}, caps={"ab": 0.4})
    found = at_most_domains(at, 2)
    assert found.mixture.weights["a"] + found.mixture.weights["b"] <= 0.4 + 1e-12
    assert found.mixture.bound.keys() <= {"ab"}
    assert "costs" in str(found)
    assert found.to_dict()["weights"] == found.mixture.weights


def test_as_many_domains_as_there_are():
    found = at_most_domains(goal(), 9)
    assert found.cost == 0
    assert found.mixture.weights == found.free.weights
    assert found.next_best is None


# --- A pull towards a prior ----------------------------------------------------------------------


@pytest.mark.parametrize("strength", [1e-3, 0.1, 3.0])
def test_a_pulled_mixture_is_that_of_scipy(strength):
    at = goal()
    best = mj.optimal_mixture(
        mj.Question(at.fit, **AT, pull=mj.mixture.Pull(BASE, strength), caps={"a": 0.6})
    )
    prior = at.array(BASE)

    def value(h):
        h = np.maximum(h, 1e-12) / np.maximum(h, 1e-12).sum()
        return float(at.value(h)) + strength * float(kl(h, prior))

    rule, options = {"type": "eq", "fun": lambda h: h.sum() - 1}, {"ftol": 1e-14, "maxiter": 500}
    other = scipy.optimize.minimize(
        value,
        prior,
        bounds=[(1e-9, 0.6)] + [(1e-9, 1)] * 3,
        constraints=rule,
        method="SLSQP",
        options=options,
    )
    assert best.objective + best.pull <= other.fun + 1e-9
    assert best.pull == pytest.approx(strength * float(kl(at.array(best.weights), prior)), rel=1e-9)
    assert best.gap < 1e-9
    assert best.convex
    np.testing.assert_allclose(list(best.weights.values()), other.x, atol=1e-3)
    assert "pull" in str(best)


def test_a_pull_moves_from_the_optimum_to_the_prior():
    at = goal()
    prior = at.array(BASE)
    away = [
        float(
            kl(
                at.array(
                    mj.optimal_mixture(
                        mj.Question(at.fit, **AT, pull=mj.mixture.Pull(BASE, s))
                    ).weights
                ),
                prior,
            )
        )
        for s in (0.0, 0.01, 1.0, 1e4)
    ]
    assert away == sorted(away, reverse=True)
    assert away[0] == pytest.approx(float(kl(at.array(best_of(at).weights), prior)), rel=1e-6)
    assert away[-1] < 1e-8


def test_many_pulled_mixtures_are_those_of_one():
    at = goal()
    base = {"a": 0.8, "b": 0.2}  # c and d can be entered all the same
    strengths = np.array([0.0, 1e-3, 0.1, 10.0])
    many = mj.optimal_mixtures(at.fit, **AT, pull=mj.mixture.Pull(base, strengths))
    for i, strength in enumerate(strengths.tolist()):
        one = mj.optimal_mixture(mj.Question(at.fit, **AT, pull=mj.mixture.Pull(base, strength)))
        np.testing.assert_allclose(
            many.objective[i] + many.pull[i], one.objective + one.pull, rtol=1e-10
        )
        np.testing.assert_allclose(many.h[i], list(one.weights.values()), atol=1e-5)
    assert many.gap.max() < 1e-10
    assert np.all(many.h[3, 2:] < 2 * LEAST_SHARE)
    assert np.all(many.h[3, 2:] > 0)


@pytest.mark.parametrize(
    ("prior", "strength", "said"),
    [
        ({"x": 1.0}, 0.1, "no domain 'x'"),
        ({"a": -1.0}, 0.1, "not those of a mixture"),
        (BASE, -0.1, "not a strength"),
        (BASE, [0.1, 0.2], "2 strengths"),
    ],
)
def test_pulls_that_are_none(prior, strength, said):
    with pytest.raises(UserError, match=said):
        mj.optimal_mixture(mj.Question(goal().fit, **AT, pull=mj.mixture.Pull(prior, strength)))
