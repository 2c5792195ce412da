"""Groups of domains: projections and linear minima against independent solvers, optima against
SciPy, conflicts in one line."""

from __future__ import annotations

import json
from typing import Any

import jax
import numpy as np
import pytest
import scipy.optimize
from hypothesis import given
from hypothesis import strategies as st

import mixjax as mj
from mixjax.cli import main
from mixjax.fitting.simulate import known_fit, random_truth
from mixjax.mixture.box import Box, Groups, is_met, lowest_vertex, project
from tests.test_mixture import additive

AT = {"N": 7e9, "D": 150e9}
projected, vertex = jax.jit(project), jax.jit(lowest_vertex)


@st.composite
def grouped_boxes(draw, k=6, spread=300.0):
    """A feasible box of 6 domains with two disjoint groups, and log x (k,) over many decades."""

    def some(values, n):
        return np.array(draw(st.lists(values, min_size=n, max_size=n)))

    inside = some(st.floats(0.01, 1.0), k)
    inside /= inside.sum()
    of = some(st.integers(0, 2), k)
    member = np.array([of == 1, of == 2])
    sums = member @ inside
    share = st.sampled_from([0.0, 0.3, 1.0])
    down, up, group_down, group_up = some(share, k), some(share, k), some(share, 2), some(share, 2)
    groups = Groups(member, sums * (1 - group_down), sums + group_up * (1 - sums))
    return Box(inside * (1 - down), inside + up * (1 - inside), groups), some(
        st.floats(-spread, spread), k
    )


def filled(log_x, floors, caps, total):
    """clip(lambda x, floors, caps) of sum `total`, by bisection in log lambda."""
    low, high = -2000.0, 2000.0
    for _ in range(200):
        middle = 0.5 * (low + high)
        h = np.clip(np.exp(np.minimum(log_x + middle, 1.0)), floors, caps)
        low, high = (middle, high) if h.sum() < total else (low, middle)
    return np.clip(np.exp(np.minimum(log_x + high, 1.0)), floors, caps)


def nested(log_x, box):
    """The projection by bisection: for each common log lambda, groups that pass a bound are filled
    to it on their own."""
    member, floors, caps = (np.asarray(x) for x in box.groups)

    def at(t):
        h = np.clip(np.exp(np.minimum(log_x + t, 1.0)), box.floors, box.caps)
        for m, floor, cap in zip(member, floors, caps, strict=True):
            if h[m].sum() < floor or h[m].sum() > cap:
                h[m] = filled(
                    log_x[m], box.floors[m], box.caps[m], min(max(h[m].sum(), floor), cap)
                )
        return h

    low, high = -2000.0, 2000.0
    for _ in range(120):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if at(middle).sum() < 1 else (low, middle)
    return at(high)


def divergence(h, log_x):
    return float(np.sum(np.where(h > 0, h * (np.log(np.where(h > 0, h, 1.0)) - log_x), 0.0) - h))


@given(grouped_boxes())
def test_projection_is_the_nearest_point(problem):
    box, log_x = problem
    assert is_met(box)
    h = np.exp(np.asarray(projected(log_x, box)))
    sums = box.groups.member @ h
    assert abs(h.sum() - 1) < 1e-12
    assert np.all(h >= box.floors - 1e-14)
    assert np.all(h <= box.caps + 1e-14)
    assert np.all(sums >= box.groups.floors - 1e-12)
    assert np.all(sums <= box.groups.caps + 1e-12)
    theirs = nested(log_x, box)
    if (
        abs(theirs.sum() - 1) < 1e-9
    ):  # where log lambda has a jump of decades, bisection cannot name the point between
        np.testing.assert_allclose(
            divergence(h, log_x),
            divergence(theirs / theirs.sum(), log_x),
            rtol=1e-8,
            atol=1e-8 * np.abs(log_x).max(),
        )
        np.testing.assert_allclose(h, theirs, atol=1e-7)


@given(grouped_boxes(spread=5.0), st.integers(0, 1000))
def test_no_mixture_of_the_box_is_nearer(problem, seed):
    box, log_x = problem
    h = np.exp(np.asarray(projected(log_x, box)))
    rng = np.random.default_rng(seed)
    for _ in range(5):
        other = np.asarray(vertex(rng.normal(size=len(h)), box))
        assert abs(other.sum() - 1) < 1e-12
        mixed = h + 1e-3 * (other - h)
        assert divergence(mixed, log_x) >= divergence(h, log_x) - 1e-13


@given(grouped_boxes())
def test_lowest_vertex_is_the_linear_program(problem):
    box, grad = problem
    v = np.asarray(vertex(grad, box))
    member = np.asarray(box.groups.member, dtype=float)
    program = scipy.optimize.linprog(
        grad,
        A_eq=np.ones((1, len(grad))),
        b_eq=[1.0],
        A_ub=np.concatenate([member, -member]),
        b_ub=np.concatenate([box.groups.caps, -box.groups.floors]),
        bounds=list(zip(box.floors, box.caps, strict=True)),
    )
    assert abs(v.sum() - 1) < 1e-12
    assert np.all(v >= box.floors - 1e-14)
    assert np.all(v <= box.caps + 1e-14)
    assert np.all(member @ v <= box.groups.caps + 1e-12)
    assert np.all(member @ v >= box.groups.floors - 1e-12)
    assert program.success
    assert grad @ v <= program.fun + 1e-6 * (1 + abs(program.fun))


def test_groups_without_bounds_change_nothing():
    rng = np.random.default_rng(0)
    box, free = (
        Box(np.full(5, 0.05), np.full(5, 0.5)),
        Groups(np.array([[1, 1, 0, 0, 0], [0, 0, 0, 1, 1]], dtype=bool), np.zeros(2), np.ones(2)),
    )
    for _ in range(20):
        log_x = 3 * rng.normal(size=5)
        np.testing.assert_array_equal(
            projected(log_x, box._replace(groups=free)), projected(log_x, box)
        )
        np.testing.assert_array_equal(vertex(log_x, box._replace(groups=free)), vertex(log_x, box))


# ------------------------------------------------------------------ optima

GROUPS = {"one": ("d0", "d1", "d2"), "two": ("d3", "d4")}


def limited(seed, k=7):
    """Random caps and floors of domains and groups that some mixture meets, by name."""
    rng = np.random.default_rng(seed)
    names = [f"d{i}" for i in range(k)]
    inside = dict(zip(names, rng.dirichlet(np.ones(k)).tolist(), strict=True))
    inside |= {g: sum(inside[d] for d in ds) for g, ds in GROUPS.items()}
    caps = {
        name: min(1.0, share + rng.uniform(0, 0.3))
        for name, share in inside.items()
        if rng.random() < 0.6
    }
    floors = {name: 0.8 * share for name, share in inside.items() if rng.random() < 0.4}
    return caps, floors


def polished(fit, caps, floors):
    """The lowest objective that SciPy's SLSQP finds at its finest tolerance, from the centre and
    again from where it ended."""
    k = len(fit.domains)
    C, gamma, rest = (
        np.array([fit.params[t]["C"] for t in fit.targets]),
        np.array([fit.params[t]["gamma"] for t in fit.targets]),
        0.0,
    )
    for t in fit.targets:
        p = fit.params[t]
        rest += p["E"] + p["A"] / AT["N"] ** p["alpha"] + p["B"] / AT["D"] ** p["beta"]

    def function(h):
        h = np.maximum(h, 1e-14)
        powers = C * h**gamma
        total = powers.sum(axis=1)
        return rest + np.sum(1 / total), -np.sum(gamma * powers / h / total[:, None] ** 2, axis=0)

    rows = [np.isin(fit.domains, GROUPS[g]).astype(float) for g in GROUPS]
    constraints: list[dict[str, Any]] = [
        {"type": "eq", "fun": lambda h: h.sum() - 1, "jac": lambda h: np.ones(k)}
    ]
    for g, row in zip(GROUPS, rows, strict=True):
        constraints.append(
            {
                "type": "ineq",
                "fun": lambda h, g=g, row=row: caps.get(g, 1.0) - row @ h,
                "jac": lambda h, row=row: -row,
            }
        )
        constraints.append(
            {
                "type": "ineq",
                "fun": lambda h, g=g, row=row: row @ h - floors.get(g, 0.0),
                "jac": lambda h, row=row: row,
            }
        )
    bounds = [(max(floors.get(d, 0.0), 1e-14), caps.get(d, 1.0)) for d in fit.domains]
    h, lowest = np.full(k, 1 / k), np.inf
    for _ in range(6):
        end = scipy.optimize.minimize(
            function,
            h,
            jac=True,
            bounds=bounds,
            constraints=constraints,
            method="SLSQP",
            options={"ftol": 1e-16, "maxiter": 500},
        )
        inside = abs(end.x.sum() - 1) < 1e-10 and all(
            c["fun"](end.x) > -1e-10 for c in constraints[1:]
        )
        lowest = min(lowest, end.fun) if inside else lowest
        h = end.x
    return lowest


def test_hundred_additive_problems_against_scipy():
    fits = [additive(seed, 7, 3) for seed in range(100)]
    limits = [limited(seed) for seed in range(100)]
    names = [*fits[0].domains, *GROUPS]
    caps, floors = (
        {n: [one[side].get(n, default) for one in limits] for n in names}
        for side, default in ((0, 1.0), (1, 0.0))
    )
    found = mj.optimal_mixtures(fits, **AT, caps=caps, floors=floors, groups=GROUPS)
    assert found.gap.max() < 1e-8
    assert found.convex.all()
    theirs = np.array([polished(fit, *one) for fit, one in zip(fits, limits, strict=True)])
    assert np.isfinite(theirs).all()
    np.testing.assert_allclose(found.objective, theirs, rtol=1e-9)
    for i in range(0, 100, 10):
        alone = mj.optimal_mixture(
            fits[i], **AT, caps=limits[i][0], floors=limits[i][1], groups=GROUPS
        )
        np.testing.assert_allclose(alone.objective, theirs[i], rtol=1e-9)


@pytest.mark.parametrize("law", ["joint", "full"])
def test_other_laws_in_groups(law):
    fit = random_truth(law, 7, ("a", "b"), seed=3)
    for seed in range(8):
        caps, floors = limited(seed)
        best = mj.optimal_mixture(fit, **AT, caps=caps, floors=floors, groups=GROUPS)
        together = mj.optimal_mixtures(fit, **AT, caps=caps, floors=floors, groups=GROUPS)
        assert best.gap < 1e-8
        np.testing.assert_allclose(together.objective[0], best.objective, rtol=1e-10)
        for g, inside in GROUPS.items():
            share = sum(best.weights[d] for d in inside)
            assert floors.get(g, 0.0) - 1e-12 <= share <= caps.get(g, 1.0) + 1e-12


def test_bounds_that_bind_are_named():
    fit = additive(1)
    free = mj.optimal_mixture(fit, **AT)
    share = free.weights["d0"] + free.weights["d1"]
    best = mj.optimal_mixture(
        fit, **AT, groups={"pair": ["d0", "d1"]}, caps={"pair": 0.5 * share}, fixed={"d2": 0.1}
    )
    assert best.bound == {"pair": "cap", "d2": "floor"} or best.bound == {
        "pair": "cap",
        "d2": "cap",
    }
    np.testing.assert_allclose(best.weights["d0"] + best.weights["d1"], 0.5 * share, rtol=1e-12)
    assert best.weights["d2"] == 0.1
    assert best.objective > free.objective


def test_a_group_of_one_is_its_domain():
    fit = additive(2)
    one, other = (
        mj.optimal_mixture(fit, **AT, groups={"x": ["d1"]}, caps={"x": 0.05}),
        mj.optimal_mixture(fit, **AT, caps={"d1": 0.05}),
    )
    np.testing.assert_allclose(list(one.weights.values()), list(other.weights.values()), atol=1e-7)
    np.testing.assert_allclose(one.objective, other.objective, rtol=1e-12)


@pytest.mark.parametrize(
    "limits",
    [
        {"groups": {"g": ["b"]}, "caps": {"g": 0.1}},
        {"groups": {"g": ["a", "b"]}, "caps": {"g": 0.1}},
        {"groups": {"g": ["c", "d"]}, "floors": {"g": 0.9}},
    ],
)
def test_a_group_under_pressure_is_as_exact_as_a_cap(limits):
    params = {
        "E": 4.28,
        "C": np.array([0.008, 30.0, 4.6e-4, 0.008]),
        "gamma": np.array([0.432, 0.182, 0.716, 0.122]),
    } | {"A": 1e-9, "B": 1e-9, "alpha": 0.3, "beta": 0.3}
    fit = known_fit("additive", ("a", "b", "c", "d"), {"t": params})
    best = mj.optimal_mixture(fit, 1e9, 1e10, **limits)
    assert best.gap < 1e-11
    if limits["groups"]["g"] == ["b"]:
        capped = mj.optimal_mixture(fit, 1e9, 1e10, caps={"b": 0.1})
        np.testing.assert_allclose(best.objective, capped.objective, rtol=1e-13)


@pytest.mark.parametrize("k", [4, 12])
def test_steep_groups_are_certified(k):
    """Weights over six decades, groups at their bounds: each with a pressure of its own."""
    fits, sides = [], {"caps": [], "floors": []}
    groups = {"g": [f"d{i}" for i in range(k // 3)], "f": [f"d{i}" for i in range(k // 3, k - 1)]}
    for seed in range(40):
        rng = np.random.default_rng(seed)
        fit, h = additive(seed, k, 2), rng.dirichlet(np.full(k, 0.7))
        steep = {t: {**p, "C": 10 ** rng.uniform(-4, 2, k)} for t, p in fit.params.items()}
        fits.append(known_fit("additive", fit.domains, steep))
        sides["caps"].append(h[: k // 3].sum())
        sides["floors"].append(h[k // 3 : k - 1].sum())
    limits = {"caps": {"g": sides["caps"]}, "floors": {"f": sides["floors"]}}
    found = mj.optimal_mixtures(fits, **AT, groups=groups, **limits)
    assert found.convex.all()
    assert np.all(found.gap <= 1e-10 * found.objective)


def test_all_groups_fixed():
    groups = {"a": ["d0", "d1"], "b": ["d2", "d3", "d4"]}
    best = mj.optimal_mixture(additive(3), **AT, groups=groups, fixed={"a": 0.3, "b": 0.7})
    np.testing.assert_allclose(best.weights["d0"] + best.weights["d1"], 0.3, rtol=1e-12)
    assert best.gap < 1e-8


def test_a_group_capped_at_zero():
    best = mj.optimal_mixture(additive(3), **AT, groups={"a": ["d0", "d1"]}, caps={"a": 0.0})
    assert best.weights["d0"] == best.weights["d1"] == 0.0
    assert best.gap < 1e-8


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"groups": {"g": ["d0", "d1"], "f": ["d1", "d2"]}},
            "group 'f': shares 'd1' with group 'g'; give disjoint groups",
        ),
        ({"groups": {"g": ["x"]}}, "group 'g': no domain 'x'"),
        ({"groups": {"g": []}}, "group 'g'"),
        ({"groups": {"g": "d0"}}, "group 'g'"),
        ({"groups": {"g": ["d0", "d0"]}}, "names a domain twice"),
        ({"groups": {"d3": ["d0"]}}, "group 'd3': has the name of a domain"),
        ({"caps": {"g": 0.5}}, "caps: no domain 'g'"),
        (
            {"groups": {"g": ["d0", "d1"]}, "caps": {"g": 0.1}, "floors": {"d0": 0.1, "d1": 0.1}},
            "cap of 'g': 0.1 is below 0.2, the sum of the floors of d0, d1",
        ),
        (
            {"groups": {"g": ["d0", "d1"]}, "floors": {"g": 0.5}, "caps": {"d0": 0.1, "d1": 0.1}},
            "floor of 'g': 0.5 is above 0.2, the sum of the caps of d0, d1",
        ),
        (
            {"groups": {"g": ["d0", "d1"]}, "floors": {"g": 0.5, "d2": 0.6}},
            "floors: they sum to 1.1, with those of g, above 1",
        ),
        (
            {"groups": {"g": ["d0", "d1", "d2", "d3"]}, "caps": {"g": 0.5, "d4": 0.2}},
            "caps: they sum to 0.7, with those of g, below 1",
        ),
        (
            {"groups": {"g": ["d0", "d1"]}, "caps": {"g": 0.5}, "floors": {"g": 0.6}},
            "cap of 'g': 0.5 is below its floor 0.6",
        ),
        (
            {"fixed": {"d0": 0.5}, "caps": {"d0": 0.4}},
            "fixed share of 'd0': 0.5 is above its cap 0.4",
        ),
        (
            {"fixed": {"d0": 0.2}, "floors": {"d0": 0.4}},
            "fixed share of 'd0': 0.2 is below its floor 0.4",
        ),
        ({"fixed": {"d0": 0.6, "d1": 0.6}}, "fixed shares: they sum to 1.2"),
        ({"fixed": {"d0": -0.1}}, "fixed share of 'd0'"),
    ],
)
def test_limits_without_a_mixture(options, said):
    with pytest.raises(mj.UserError) as error:
        mj.optimal_mixture(additive(0), **(AT | options))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_limits_of_one_of_many_problems():
    with pytest.raises(mj.UserError, match=r"question 1, cap of .g.: 0\.1 is below"):
        mj.optimal_mixtures(
            additive(0),
            **AT,
            groups={"g": ["d0", "d1"]},
            caps={"g": [0.5, 0.1]},
            floors={"d0": 0.1, "d1": 0.1},
        )


# ------------------------------------------------------------------ prices, command


@pytest.mark.parametrize(("side", "sign"), [("caps", 1), ("floors", -1)])
def test_price_of_a_group_is_how_the_objective_moves(side, sign):
    fit = additive(1)
    groups = {"pair": ["d0", "d1"]}
    free = mj.optimal_mixture(fit, **AT)
    share = (0.8 if side == "caps" else 1.2) * (free.weights["d0"] + free.weights["d1"])
    limits = mj.mixture.price_limits(
        mj.Question(fit, **AT, **{side: {"pair": share}}, groups=groups)
    )
    step = 1e-4
    moved = [
        mj.optimal_mixture(fit, **AT, **{side: {"pair": share + s}}, groups=groups).objective
        for s in (step, -step)
    ]
    np.testing.assert_allclose(
        limits.prices["pair"], sign * (moved[1] - moved[0]) / (2 * step), rtol=1e-4
    )
    assert "pair" in str(limits)


def test_the_command(tmp_path, capsys):
    fit = additive(0)
    fit.save(str(tmp_path / "fit.json"))
    words = ["mix", str(tmp_path / "fit.json"), "-N", "7e9", "-D", "150e9", "--no-cache", "--json"]
    more = ["--group", "pair=d0+d1", "--cap", "pair=0.2", "--fix", "d4=0.05"]
    assert main([*words, *more]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["weights"]["d0"] + found["weights"]["d1"] == pytest.approx(0.2, abs=1e-12)
    assert found["weights"]["d4"] == 0.05
    assert found["prices"]["pair"] > 0
    assert main([*words, "--group", "pair=d0+x"]) == 2
    assert "group 'pair': no domain 'x'" in capsys.readouterr().err
