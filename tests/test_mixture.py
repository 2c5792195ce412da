"""The best mixture of a fit: optimal, named, and refused in one line where there is none."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import mixjax as mj
from mixjax.errors import UserError
from mixjax.fitting.record import Fit, Search, Status
from mixjax.fitting.simulate import known_fit, random_truth
from mixjax.law import Coefficients, Law, Parameter
from mixjax.law.base import Units
from mixjax.mixture import lanes
from mixjax.mixture.balance import limited_mixture
from mixjax.mixture.judge import price_limits
from mixjax.mixture.multipliers import keep_within, least_worst
from mixjax.mixture.near import at_most_domains
from mixjax.mixture.optimum import best_of
from mixjax.mixture.question import Question
from mixjax.mixture.scales import budget_path, compute_optimal
from tests.cli import three_domains

AT = {"N": 7e9, "D": 150e9}


def additive(seed, k=5, targets=3, gamma=(0.1, 0.9)):
    """An additive fit with convex or other exponents."""
    rng = np.random.default_rng(seed)
    names, domains = tuple(f"t{i}" for i in range(targets)), tuple(f"d{i}" for i in range(k))
    params = {
        t: {
            "E": 1.5,
            "C": rng.uniform(0.3, 6.0, k),
            "gamma": rng.uniform(*gamma, k),
            "A": 400.0,
            "alpha": 0.34,
            "B": 2000.0,
            "beta": 0.37,
        }
        for t in names
    }
    return Fit(
        "additive",
        domains,
        names,
        params,
        dict.fromkeys(names, 1e-6),
        dict.fromkeys(names, Search(Status.CONVERGED, 1, 1, 0.0, 1, 1, 0)),
    )


def against_scipy(fit, best, caps=None, floors=None):
    """SciPy's SLSQP on the same problem, from the mixture found and from the centre."""
    k = len(fit.domains)
    bounds = [((floors or {}).get(d, 0.0) + 1e-12, (caps or {}).get(d, 1.0)) for d in fit.domains]
    function = lambda h: sum(fit.predict(best.N, best.D, h / h.sum()).values())  # noqa: E731
    constraint = {"type": "eq", "fun": lambda h: h.sum() - 1}
    h0 = np.clip(np.full(k, 1 / k), *np.array(bounds).T)
    return scipy.optimize.minimize(
        function,
        h0 / h0.sum(),
        bounds=bounds,
        constraints=constraint,
        method="SLSQP",
        options={"ftol": 1e-12, "maxiter": 300},
    ).fun


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
    near = [
        mj.optimal_mixture(fit, **AT).objective,
        sum(fit.predict(AT["N"], AT["D"], [0.25] * 4).values()),
    ]
    assert best.objective <= min(near) + 1e-9


def random_box(rng, domains):
    """Caps and floors that some mixture meets."""
    k = len(domains)
    caps = np.minimum(1.0, rng.uniform(1.2 / k, 4 / k, k))
    return {
        "caps": dict(zip(domains, caps.tolist(), strict=True)),
        "floors": {d: 0.1 / k for d in domains if rng.random() < 0.5},
    }


@pytest.mark.parametrize(("k", "targets"), [(3, 1), (7, 4)])
def test_fifty_convex_problems_with_and_without_a_box(k, targets):
    for seed in range(50):
        fit = additive(seed, k, targets, gamma=(0.02, 0.98))
        box = random_box(np.random.default_rng(seed), fit.domains) if seed % 2 else {}
        best = mj.optimal_mixture(fit, **AT, **box)
        assert best.convex
        assert 0 <= best.gap < 1e-10
        assert all(
            box.get("floors", {}).get(d, 0.0) <= w <= box.get("caps", {}).get(d, 1.0)
            for d, w in best.weights.items()
        )
        if not box:  # the gap is a certificate: no mixture is lower by more
            others = np.random.default_rng(seed).dirichlet(np.full(k, 0.5), 100)
            assert np.all(sum(fit.predict(**AT, h=others).values()) >= best.objective - best.gap)


@pytest.mark.parametrize("law", ["joint", "full", "simple", "ye_m2"])
def test_random_fits_of_laws_that_move_with_scale(law):
    for seed in range(20):
        fit = random_truth(law, 6, ("a", "b", "c"), seed)
        box = random_box(np.random.default_rng(seed), fit.domains) if seed % 2 else {}
        best = mj.optimal_mixture(fit, **AT, **box)
        assert 0 <= best.gap < 1e-8
        assert best.agreeing >= 1


def test_own_domain_law_has_the_closed_form():
    """sum_i c_i h_i^-gamma is smallest at h_i proportional to c_i^(1 / (1 + gamma))."""
    fit = random_truth("ge24", 4, ("d0", "d1", "d2", "d3"), seed=2)
    for t in fit.targets:
        fit.params[t]["gamma"] = 0.4
    size = np.array([fit.predict(**AT, h=np.eye(4)[i])[t] for i, t in enumerate(fit.targets)])
    expected = size ** (1 / 1.4)
    best = mj.optimal_mixture(fit, **AT)
    np.testing.assert_allclose(list(best.weights.values()), expected / expected.sum(), atol=1e-7)
    assert best.convex


def test_own_domain_law_without_a_target():
    fit = random_truth("ge24", 3, ("d0", "d1", "d2"), seed=2)
    best = mj.optimal_mixture(fit, **AT, weights={"d0": 1, "d1": 1})
    assert best.weights["d2"] == 0
    assert best.losses["d2"] == np.inf
    assert best.to_dict()["losses"]["d2"] is None
    with pytest.raises(mj.UserError, match="no finite loss"):
        mj.optimal_mixture(fit, **AT, caps={"d2": 0.0})


def test_laws_that_read_neither_n_nor_d():
    fit = random_truth("ye_m4", 4, ("a",), seed=0)
    best = mj.optimal_mixture(fit)
    assert (best.N, best.D) == (None, None)
    assert (
        best.weights[f"d{np.argmin(fit.params['a']['gamma'])}"] == 1.0
    )  # a monotone function of <gamma, h>
    assert best.gap == 0


def own_fit(law):
    params = {"t": {"C": np.array([1.0, 2.0, 4.0])}}
    return Fit(
        law.name,
        ("a", "b", "c"),
        ("t",),
        params,
        {"t": 0.0},
        {"t": Search(Status.CONVERGED, 1, 1, 0.0, 1, 1, 0)},
        own_law=law,
    )


@pytest.mark.parametrize(
    "law",
    [
        Law("mine", (Parameter("C", ("k",)),), lambda p, h: Coefficients(jnp.sum(p["C"] / h))),
        Law(
            "mine",
            (Parameter("C", ("k",)),),
            predict=lambda p, h, N, D: jnp.sum(p["C"] / h) + 1 / N + 1 / D,
        ),
    ],
    ids=["coefficients", "predict"],
)
def test_laws_of_ones_own(law):
    best = mj.optimal_mixture(own_fit(law), **AT)
    roots = np.sqrt([1.0, 2.0, 4.0])
    np.testing.assert_allclose(list(best.weights.values()), roots / roots.sum(), atol=1e-7)
    assert not best.convex


def test_a_cap_of_zero_leaves_a_domain_out():
    best = mj.optimal_mixture(additive(8), **AT, caps={"d1": 0.0})
    assert best.weights["d1"] == 0.0
    assert best.bound == {"d1": "cap"}
    assert best.gap < 1e-8


def pulled_both_ways(seed):
    """Two targets want none of d3, one some of it, all with infinite slopes at 0."""
    fit = additive(seed, k=4)
    for t, sign in zip(fit.targets, (-1, -1, 1), strict=True):
        fit.params[t]["gamma"][3] *= sign
    return fit


def test_exponents_of_both_signs_are_told():
    """The others still end at their optimum."""
    with pytest.warns(mj.MixjaxWarning, match="both signs pull at d3"):
        best = mj.optimal_mixture(pulled_both_ways(6), **AT)
    assert best.weights["d3"] == 0
    assert best.gap < 1e-8
    assert not best.convex


@pytest.mark.parametrize("seed", [4, 8])
def test_a_minimum_between_exponents_of_both_signs_is_found(seed):
    """At shares of 2e-39 and 7e-11."""
    fit = pulled_both_ways(seed)
    best = mj.optimal_mixture(fit, **AT)
    assert 0 < best.weights["d3"] < 1e-9
    assert best.gap <= 1e-11 * best.objective
    assert best.objective < mj.optimal_mixture(fit, **AT, caps={"d3": 0.0}).objective


def test_additive_optimum_does_not_move_with_scale():
    fit = additive(3)
    small, large = mj.optimal_mixture(fit, N=1e8, D=1e9), mj.optimal_mixture(fit, N=1e12, D=1e13)
    np.testing.assert_allclose(
        list(small.weights.values()), list(large.weights.values()), atol=1e-6
    )


def test_weights_go_by_name():
    fit = additive(4)
    one, other = (
        mj.optimal_mixture(fit, **AT, weights={"t0": 1, "t2": 3}),
        mj.optimal_mixture(fit, **AT, weights={"t2": 3, "t0": 1, "t1": 0}),
    )
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


def test_the_nearest_name_is_offered():
    with pytest.raises(mj.UserError, match="did you mean 'stackexchange'"):
        mj.optimal_mixture(
            random_truth("joint", 2, ("stackexchange",)), **AT, weights={"stackexchnge": 1}
        )


def test_scales_weights_and_boxes_compile_once():
    """Once for all targets, and once where some have no weight and are left out."""
    fit = additive(0)
    mj.optimal_mixture(fit, **AT)
    mj.optimal_mixture(fit, **AT, weights={"t0": 1})
    before = lanes._block._cache_size()
    limits = {"caps": {"d0": 0.3}, "floors": {"d1": 0.1}}
    mj.optimal_mixture(additive(1), N=1e9, D=2e10, weights={"t1": 2}, **limits)
    mj.optimal_mixture(additive(1), N=1e9, D=2e10, **limits)
    assert lanes._block._cache_size() == before


def test_a_law_without_mixture_is_refused():
    fit = random_truth("chinchilla", 0, ("loss",), seed=0)
    with pytest.raises(mj.UserError, match="no domains"):
        mj.optimal_mixture(fit, **AT)


@pytest.mark.parametrize("size", [1e-11, 1e11])
def test_the_size_of_the_weights_does_not_matter(size):
    fit = additive(3)
    best, other = (
        mj.optimal_mixture(fit, **AT, weights=dict.fromkeys(fit.targets, w)) for w in (1.0, size)
    )
    many = mj.optimal_mixtures(fit, **AT, weights=dict.fromkeys(fit.targets, size))
    assert other.gap <= 1e-11 * other.objective
    np.testing.assert_allclose(
        [list(other.weights.values()), many.h[0]],
        [list(best.weights.values())] * 2,
        rtol=0,
        atol=1e-6,
    )
    np.testing.assert_allclose(
        [other.objective, many.objective[0]], best.objective * size, rtol=1e-12
    )


def test_a_mixture_that_rounding_decides_is_told():
    fit = additive(3)
    huge = {t: p | {"A": 4e14 * AT["N"] ** p["alpha"]} for t, p in fit.params.items()}
    with pytest.warns(mj.MixjaxWarning, match="no mixture changes the objective, 1.2e.15, by more"):
        mj.optimal_mixture(replace(fit, params=huge), **AT)


def in_unit(fit, size):
    """The same fit with losses in a unit that makes them `size` times as large."""
    law, unit = fit.scaling_law, Units(1.0, 1.0, size)
    return replace(fit, params={t: law.rescale(p, unit) for t, p in fit.params.items()})


@pytest.mark.parametrize("size", [1e-12, 1e-9, 1e-6, 1e-3, 1e6, 1e12])
def test_answers_do_not_depend_on_the_unit_of_losses(size):
    for law in ("additive", "joint"):
        fit = additive(3) if law == "additive" else random_truth(law, 5, ("t0", "t1"), seed=2)
        inside = {"groups": {"g": ["d0", "d1"]}, "caps": {"g": 0.2, "d2": 0.5}}
        for limits in ({}, inside):
            best = mj.optimal_mixture(fit, **AT, **limits)
            other = mj.optimal_mixture(in_unit(fit, size), **AT, **limits)
            assert other.gap <= 1e-11 * other.objective
            np.testing.assert_allclose(other.objective, size * best.objective, rtol=1e-11)
            np.testing.assert_allclose(
                list(other.weights.values()), list(best.weights.values()), rtol=0, atol=1e-5
            )


@pytest.mark.parametrize("size", [1e-12, 1e-6, 1e6, 1e12])
def test_nor_do_answers_within_limits_on_losses(size):
    fit, references = additive(3), dict.fromkeys(("t0", "t1", "t2"), 6.0)
    one, other = (Question(in_unit(fit, s), **AT, weights={"t0": 1.0}) for s in (1.0, size))
    best = limited_mixture(one, above={"t1": 0.001})
    scaled = limited_mixture(other, above={"t1": 0.001})
    np.testing.assert_allclose(
        [scaled.mixture.objective, scaled.prices["t1"]],
        [size * best.mixture.objective, size * best.prices["t1"]],
        rtol=1e-6,
    )
    shares = [list(x.mixture.weights.values()) for x in (best, scaled)]
    np.testing.assert_allclose(*shares, rtol=0, atol=1e-4)
    levelled = (
        keep_within(one, {"t1": best.limits["t1"]}),
        keep_within(other, {"t1": scaled.limits["t1"]}),
    )
    np.testing.assert_allclose(levelled[1].end.value, size * levelled[0].end.value, rtol=1e-9)
    worst = [
        least_worst(x.but(weights=None), {t: r * s for t, r in references.items()})
        for x, s in ((one, 1.0), (other, size))
    ]
    np.testing.assert_allclose(worst[1].largest, worst[0].largest, rtol=1e-8)


def test_a_pull_goes_with_the_weights():
    fit, prior = additive(3), {"d0": 0.5, "d1": 0.5}
    pulled = [
        mj.optimal_mixture(
            mj.Question(
                fit,
                **AT,
                weights=dict.fromkeys(fit.targets, w),
                pull=mj.mixture.Pull(prior, 0.1 * w),
            )
        )
        for w in (1.0, 1e-11)
    ]
    many = mj.optimal_mixtures(
        fit, **AT, weights=dict.fromkeys(fit.targets, 1e-11), pull=mj.mixture.Pull(prior, 1e-12)
    )
    expected = list(pulled[0].weights.values())
    np.testing.assert_allclose(
        [list(pulled[1].weights.values()), many.h[0]], [expected] * 2, rtol=0, atol=1e-6
    )
    np.testing.assert_allclose([pulled[1].pull, many.pull[0]], pulled[0].pull * 1e-11, rtol=1e-5)


# --- Within the trained shares --------------------------------------------------------------------


RANGES = {"web": (0.2, 0.38), "code": (0.1, 0.7), "wiki": (0.2, 0.3)}


def trained(**changes):
    """A question about a fit whose rows had shares within `RANGES`."""
    fit = replace(three_domains("additive", 1), share_ranges=RANGES)
    return Question(fit, N=7e9, D=150e9, trained=True, **changes)


def test_shares_stay_within_those_of_the_fitted_rows():
    question = trained()
    best = best_of(question)
    low, high = np.array(list(RANGES.values())).T
    h = np.array(list(best.weights.values()))
    assert np.all(h >= low - 1e-12)
    assert np.all(h <= high + 1e-12)
    again = best_of(question.but(trained=False, floors=named(low), caps=named(high)))
    assert best.weights == again.weights
    sides = {"cap": "most trained", "floor": "least trained"}
    assert best.bound == {d: sides[side] for d, side in again.bound.items()}
    assert best.bound  # else nothing was tested
    assert best_of(question.but(trained=False)).objective < best.objective


def named(shares):
    return dict(zip(RANGES, shares.tolist(), strict=True))


def test_own_limits_beyond_the_fitted_rows_are_kept():
    assert best_of(trained(fixed={"wiki": 0.4})).weights["wiki"] == pytest.approx(0.4)
    assert best_of(trained(floors={"wiki": 0.35})).weights["wiki"] >= 0.35
    few = best_of(trained(tokens={"wiki": 1.5e9}))
    assert few.weights["wiki"] == pytest.approx(0.01, abs=1e-9)
    assert few.bound["wiki"] == "cap"
    assert best_of(trained(caps={"wiki": 0.0})).weights["wiki"] == 0
    assert trained(caps={"web": 0.3}).trained_limits[1] == {"code": 0.7, "wiki": 0.3}
    with pytest.raises(UserError, match="no mixture within the limits has shares within those of"):
        trained(caps={"web": 0.19, "code": 0.5, "wiki": 0.31})


def test_scarce_domains_fall_below_the_fitted_rows_as_tokens_grow():
    supply = trained(tokens={"wiki": 1e10}).but(N=None, D=None)
    best = compute_optimal(supply, 6 * 7e9 * 150e9).mixture
    assert best.weights["wiki"] <= 1e10 / best.D + 1e-9
    assert best.weights["web"] <= RANGES["web"][1] + 1e-9
    path = budget_path(supply.but(N=7e9, D=150e9), 7e9, [2e10, 15e10])
    assert np.all(path.shares[:, 2] <= [0.3 + 1e-9, 1 / 15 + 1e-9])


def test_a_cap_below_the_fitted_rows_does_not_let_a_share_go_to_nothing():
    """Where the law promises what nobody trained: an exponent below 0 makes it jump at 0."""
    fit = three_domains("additive", 1)
    params = {t: {**own, "gamma": np.array([-0.3, 0.5, 0.5])} for t, own in fit.params.items()}
    question = trained().but(fit=replace(fit, params=params, share_ranges=RANGES))
    capped = best_of(question.but(caps={"web": 0.01}, floors={"code": 0.1}))
    assert capped.weights["web"] == pytest.approx(0.01, abs=1e-9)


def test_the_price_of_own_limits_is_paid_within_the_fitted_rows():
    limited = price_limits(trained(caps={"code": 0.34}))
    inside, anywhere = best_of(trained()), best_of(trained().but(trained=False))
    assert limited.free.objective == pytest.approx(inside.objective, rel=1e-12)
    assert limited.cost > 0
    assert price_limits(trained()).free.objective == pytest.approx(anywhere.objective, rel=1e-12)


@pytest.mark.parametrize("cap", [0.1, 0.3])
def test_no_proof_of_an_optimum_with_a_domain_held_at_nothing(cap):
    params = {
        "E": 4.27894626,
        "C": np.array([0.007991776, 30.84065509, 4.598584e-4, 0.0080341265]),
        "gamma": np.array([0.43197896, 0.18185187, 0.71560747, 0.12221577]),
        "A": 13586.870916,
        "alpha": 0.3938346,
        "B": 4789.715332,
        "beta": 0.33739802,
    }
    fit = known_fit("additive", list("abcd"), {"t": params})
    question = Question(fit, N=2.7e11, D=1.2e11, caps={"g": cap}, groups={"g": ("a", "b")})
    assert question.is_convex()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        best = best_of(question)
    assert best.convex is not bool(best.held)


def test_fewer_domains_leave_the_fitted_rows_where_asked_to():
    fewer = at_most_domains(trained(), 2)
    assert len(fewer.domains) == 2
    for d in fewer.domains:
        assert RANGES[d][0] - 1e-9 <= fewer.mixture.weights[d] <= RANGES[d][1] + 1e-9
    with pytest.raises(UserError, match="no set of so many"):
        at_most_domains(trained(), 1)
    assert at_most_domains(trained(), 3).sets == 7  # smaller ones too: 0 is no trained share
