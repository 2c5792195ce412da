"""One battery for all laws: a law added to the registry inherits these tests once
`tests/reference.py` has its twin."""

from __future__ import annotations

from functools import cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixjax.errors import UserError
from mixjax.law import Coefficients, Law, Parameter, Units, find_law, laws
from mixjax.law.base import flat, named, parameter_names, predict, row_loss, start_ranges
from mixjax.law.terms import bracket, declare, mixture_term, scalar
from tests import reference

LAWS = tuple(laws().values())
KS = (3, 4, 7, 17)
DRAWS = 16

# Value of a law: some ten operations in float64, each good to 1e-16, with exponents up to
# alpha(h) |log N| = 100: 1e-14, a hundred times below what is asked.
VALUE = {"rtol": 1e-12}
# Gradient: both sides are exact up to rounding (the twin's is by complex steps). Entries are sums
# of terms that may cancel, so the error is relative to the largest term: `atol` is a multiple of
# the largest entry.
GRADIENT = 1e-11


def cases(keep=lambda law: True):
    """(law, k) for every law, own-domain laws with one weight."""
    return [
        pytest.param(law, k, id=f"{law.name}-{k}")
        for law in LAWS
        if keep(law)
        for k in ((1,) if law.own_domain else KS)
    ]


def each_law():
    return [pytest.param(law, id=law.name) for law in LAWS]


def offsets(law: Law, k: int) -> list[int]:
    """Where each parameter begins in z."""
    return [0, *np.cumsum([p.size(k) for p in law.parameters])[:-1]]


class Rows(NamedTuple):
    """DRAWS parameter sets, each with a row of its own."""

    z: np.ndarray
    h: np.ndarray
    N: np.ndarray
    D: np.ndarray


def draw(law: Law, k: int, seed: int = 0) -> Rows:
    """Parameters from the start ranges; mixtures uniform on the simplex; N and D around the law's
    units, where the start ranges apply."""
    rng = np.random.default_rng(seed)
    low, high = start_ranges(law, k)
    h = rng.uniform(0.05, 1.0, (DRAWS, 1)) if law.own_domain else rng.dirichlet(np.ones(k), DRAWS)
    N, D = (unit * np.exp(rng.uniform(-2, 2, DRAWS)) for unit in law.units)
    return Rows(rng.uniform(low, high, (DRAWS, len(low))), h, N, D)


def with_signs(
    law: Law, k: int, z: np.ndarray, seed: int, signs: tuple[float, ...], smallest: float
) -> np.ndarray:
    """z with every per-domain exponent made at least `smallest` and multiplied by one of the
    signs."""
    rng = np.random.default_rng(seed)
    out = z.copy()
    for p, at in zip(law.parameters, offsets(law, k), strict=True):
        if p.domain == "real" and p.shape:
            block = out[:, at : at + k]
            out[:, at : at + k] = rng.choice(signs, block.shape) * np.maximum(
                np.abs(block), smallest
            )
    return out


def with_zeros(h: np.ndarray, seed: int) -> np.ndarray:
    """Optima on the boundary: half of the entries zero, never all of them, the rest summing to
    1."""
    rng = np.random.default_rng(seed)
    k = h.shape[1]
    kept = rng.permuted(np.tile(np.arange(k) < (k + 1) // 2, (len(h), 1)), axis=1)
    out = np.where(kept, h, 0.0)
    return out / out.sum(axis=1, keepdims=True)


def corners(k: int) -> np.ndarray:
    """DRAWS corners of the simplex, every domain in turn."""
    return np.eye(k)[np.arange(DRAWS) % k]


@cache
def _compiled(law: Law, k: int):
    def one(z, h, N, D):
        return row_loss(law, named(law, z, k), h, N, D)

    return jax.jit(jax.vmap(jax.value_and_grad(one, argnums=(0, 1))))


def evaluate(law: Law, k: int, rows: Rows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """mixjax: losses (rows,), gradients in z (rows, q) and in h (rows, k)."""
    value, (in_z, in_h) = _compiled(law, k)(*rows)
    return np.asarray(value), np.asarray(in_z), np.asarray(in_h)


def params_of(law: Law, z: np.ndarray, k: int) -> dict:
    """Named parameters in NumPy, complex z welcome (the twin of `named`)."""
    params = {}
    for p, at in zip(law.parameters, offsets(law, k), strict=True):
        part = z[at : at + k] if p.shape else z[at]
        params[p.name] = np.exp(part) if p.domain == "positive" else part
    return params


def twin(law: Law, k: int, rows: Rows) -> np.ndarray:
    assert law.name in reference.LAWS, f"write the twin of {law.name} in tests/reference.py"
    return np.array(
        [
            reference.loss(law.name, params_of(law, z, k), h, N, D)
            for z, h, N, D in zip(*rows, strict=True)
        ]
    )


# ---------------------------------------------------------------- parameters


@pytest.mark.parametrize(("column", "k"), list(enumerate((3, 4, 7, 8))))
@pytest.mark.parametrize("law", each_law())
def test_count_is_the_papers(law, column, k):
    assert law.count(k) == reference.COUNTS[law.name][column]


@pytest.mark.parametrize(("law", "k"), cases())
def test_start_ranges_are_a_box_of_the_law(law, k):
    low, high = start_ranges(law, k)
    assert low.shape == high.shape == (law.count(k),)
    assert (low <= high).all()
    at_low = named(law, low, k)
    for p in law.parameters:
        assert at_low[p.name].shape == (k,) * len(p.shape)
        np.testing.assert_allclose(at_low[p.name], p.start[0], rtol=1e-14)  # exp(log x)


@pytest.mark.parametrize(("law", "k"), cases())
def test_finite_on_the_whole_box_of_starts(law, k):
    rows = draw(law, k, seed=1)
    low, high = start_ranges(law, k)
    z = np.where(np.random.default_rng(2).integers(0, 2, rows.z.shape), low, high)
    z[0], z[1] = low, high
    for result in evaluate(law, k, rows._replace(z=z)):
        assert np.isfinite(result).all()


@settings(max_examples=25)
@given(data=st.data())
@pytest.mark.parametrize(("law", "k"), cases())
def test_flat_undoes_named(law, k, data):
    q = law.count(k)
    z = np.array(data.draw(st.lists(st.floats(-30, 30), min_size=q, max_size=q)))
    params = named(law, z, k)
    assert list(params) == [p.name for p in law.parameters]
    assert all(
        (np.asarray(params[p.name]) > 0).all() for p in law.parameters if p.domain == "positive"
    )
    # exp is good to 1 ulp, relative, and its logarithm turns that into an absolute 1e-16; log adds
    # 1 ulp of up to 30.
    np.testing.assert_allclose(flat(law, params), z, rtol=0, atol=2e-14)


@pytest.mark.parametrize(("law", "k"), cases())
def test_named_refuses_another_length(law, k):
    with pytest.raises(ValueError, match=rf"{law.count(k)} parameters with k = {k}"):
        named(law, np.zeros(law.count(k) + 1), k)


@pytest.mark.parametrize(("law", "k"), cases())
def test_named_takes_many_vectors_and_sizes_beyond_a_float(law, k):
    z = draw(law, k).z
    z[0] = 1e3
    many = named(law, z, k)
    for name, values in many.items():
        assert isinstance(values, np.ndarray)
        alone = np.stack([named(law, row, k)[name] for row in z])
        np.testing.assert_array_equal(values, alone)
    assert all(np.isinf(many[p.name][0]).all() for p in law.parameters if p.domain == "positive")


@pytest.mark.parametrize(("law", "k"), cases())
def test_parameter_names_follow_z(law, k):
    domains = tuple(f"d{i}" for i in range(k))
    names = parameter_names(law, domains)
    assert len(set(names)) == len(names) == law.count(k)
    z = np.linspace(-1, 1, law.count(k))
    params = params_of(law, z, k)
    for name, value in zip(names, z, strict=True):
        base, _, domain = name.partition("[")
        entry = params[base][domains.index(domain.rstrip("]"))] if domain else params[base]
        positive = next(p for p in law.parameters if p.name == base).domain == "positive"
        assert entry == (np.exp(value) if positive else value)


# ---------------------------------------------------------------- values and derivatives


@pytest.mark.parametrize(("law", "k"), cases())
def test_value_is_the_twins(law, k):
    rows = draw(law, k)
    value, _, _ = evaluate(law, k, rows)
    assert np.isfinite(value).all()
    np.testing.assert_allclose(value, twin(law, k, rows), **VALUE)


@pytest.mark.parametrize(("law", "k"), cases())
def test_gradient_is_the_twins(law, k):
    rows = draw(law, k, seed=3)
    _, in_z, in_h = evaluate(law, k, rows)
    for j, (z, h, N, D) in enumerate(zip(*rows, strict=True)):
        of_z = reference.gradient(
            lambda z: reference.loss(law.name, params_of(law, z, k), h, N, D),  # noqa: B023
            z,
        )
        of_h = reference.gradient(
            lambda h: reference.loss(law.name, params_of(law, z, k), h, N, D),  # noqa: B023
            h,
        )
        np.testing.assert_allclose(in_z[j], of_z, rtol=GRADIENT, atol=GRADIENT * np.abs(of_z).max())
        np.testing.assert_allclose(in_h[j], of_h, rtol=GRADIENT, atol=GRADIENT * np.abs(of_h).max())


@pytest.mark.parametrize(
    "signs",
    [(1.0,), (0.0,), (-1.0,), (1.0, 0.0, -1.0)],
    ids=["positive", "zero", "negative", "mixed"],
)
@pytest.mark.parametrize("where", ["faces", "corners"])
@pytest.mark.parametrize(("law", "k"), cases(lambda law: not law.own_domain))
def test_value_and_gradient_on_the_boundary(law, k, where, signs):
    """0^gamma is 0, 1, inf for gamma >, =, < 0, and 1 / inf = 0: the twin follows IEEE rules."""
    rows = draw(law, k, seed=4)
    rows = rows._replace(
        z=with_signs(law, k, rows.z, 5, signs, 0.0),
        h=corners(k) if where == "corners" else with_zeros(rows.h, 6),
    )
    expected = twin(law, k, rows)
    assert np.isfinite(expected).all()
    value, in_z, in_h = evaluate(law, k, rows)
    np.testing.assert_allclose(value, expected, **VALUE)
    assert np.isfinite(in_z).all()
    assert np.isfinite(in_h).all()


@pytest.mark.parametrize(("law", "k"), cases(lambda law: not law.own_domain))
def test_gradient_in_z_at_zero_is_the_limit(law, k):
    """At h_i = 0 the derivatives in the parameters are what they tend to as h_i falls to 0."""
    rows = draw(law, k, seed=7)
    # |gamma| >= 0.1: what is left of (1e-200)^0.1 = 1e-20, times log 1e200 = 461, is below the
    # tolerance.
    rows = rows._replace(z=with_signs(law, k, rows.z, 8, (1.0, -1.0), 0.1), h=with_zeros(rows.h, 9))
    _, at_zero, _ = evaluate(law, k, rows)
    _, nearby, _ = evaluate(law, k, rows._replace(h=np.maximum(rows.h, 1e-200)))
    np.testing.assert_allclose(at_zero, nearby, rtol=GRADIENT, atol=GRADIENT)


@pytest.mark.parametrize(("law", "k"), cases(lambda law: law.own_domain))
def test_own_domain_laws_at_zero_weight_agree_with_the_twin(law, k):
    """Ge's law is infinite where the target's own domain has no weight."""
    rows = draw(law, k, seed=10)
    rows = rows._replace(h=np.zeros_like(rows.h))
    value, _, _ = evaluate(law, k, rows)
    np.testing.assert_array_equal(value, twin(law, k, rows))


def test_ge24_is_infinite_without_its_own_domain():
    rows = draw(find_law("ge24"), 1, seed=10)
    value, _, _ = evaluate(find_law("ge24"), 1, rows._replace(h=np.zeros_like(rows.h)))
    assert (value == np.inf).all()


@pytest.mark.parametrize(("law", "k"), cases(lambda law: any(p.shape for p in law.parameters)))
def test_permuting_the_domains_changes_nothing(law, k):
    rows = draw(law, k, seed=11)
    order = np.roll(np.arange(k), 1)
    index = np.concatenate(
        [
            at + (order if p.shape else np.arange(1))
            for p, at in zip(law.parameters, offsets(law, k), strict=True)
        ]
    )
    value, in_z, in_h = evaluate(law, k, rows)
    moved = evaluate(law, k, rows._replace(z=rows.z[:, index], h=rows.h[:, order]))
    for here, there in zip(moved, (value, in_z[:, index], in_h[:, order]), strict=True):
        # Sums over the domains in another order.
        np.testing.assert_allclose(here, there, rtol=1e-12, atol=1e-13 * np.abs(there).max())


# ---------------------------------------------------------------- units


@pytest.mark.parametrize(("law", "k"), cases(lambda law: law.rescale is not None))
def test_rescale_is_the_same_law_in_other_units(law, k):
    """loss0 * law(params; N / n0, D / d0) = law(rescale(params); N, D); laws with units of their
    own rescale the loss alone."""
    rows = draw(law, k, seed=12)
    units = Units(1.0, 1.0, 2.7) if law.units != (1.0, 1.0) else Units(3e8, 2e10, 2.7)
    for p, at in zip(law.parameters, offsets(law, k), strict=True):
        if p.domain == "real" and not p.shape:
            # c^(1 / gamma) with c = loss0 d0^beta up to 1e11 is beyond float64 for |gamma| < 0.04.
            rows.z[:, at] = np.copysign(np.maximum(np.abs(rows.z[:, at]), 0.1), rows.z[:, at])
    value, _, _ = evaluate(law, k, rows)
    counts = rows._replace(N=rows.N * units.N, D=rows.D * units.D)
    there = [
        row_loss(law, law.rescale(params_of(law, z, k), units), h, N, D)
        for z, h, N, D in zip(*counts, strict=True)
    ]
    np.testing.assert_allclose(there, units.loss * value, **VALUE)


@pytest.mark.parametrize(("law", "k"), cases(lambda law: law.rescale is not None))
def test_rescale_keeps_the_names_and_its_argument(law, k):
    params = params_of(law, draw(law, k).z[0], k)
    before = {name: np.copy(value) for name, value in params.items()}
    after = law.rescale(params, Units(2.0, 3.0, 5.0))
    assert set(after) == set(params)
    for name, value in before.items():
        np.testing.assert_array_equal(params[name], value)


@pytest.mark.parametrize("column", ["N", "D"])
@pytest.mark.parametrize(("law", "k"), cases())
def test_reads_says_what_the_law_reads(law, k, column):
    reads = getattr(law.reads, column)
    assert reads == reference.READS[law.name]["ND".index(column)]
    rows = draw(law, k, seed=13)
    value, _, _ = evaluate(law, k, rows)
    doubled, _, _ = evaluate(law, k, rows._replace(**{column: 2 * getattr(rows, column)}))
    assert (doubled != value).all() if reads else (doubled == value).all()


# ---------------------------------------------------------------- convexity


@pytest.mark.parametrize(("law", "k"), cases())
def test_what_is_called_convex_is_convex(law, k):
    """The loss at the middle of two mixtures is not above the middle of the two losses."""
    rows = draw(law, k, seed=20)
    convex = law.is_convex(named(law, rows.z, k))
    assert convex.shape == (DRAWS,)
    other = draw(law, k, seed=21).h
    ends = [evaluate(law, k, rows._replace(h=h))[0] for h in (rows.h, other)]
    middle, _, _ = evaluate(law, k, rows._replace(h=(rows.h + other) / 2))
    assert (middle <= np.mean(ends, axis=0) * (1 + 1e-14))[convex].all()


def test_convexity_is_read_off_the_exponents():
    def says(law, **params):
        return (
            find_law(law)
            .is_convex(
                {p.name: np.full((2, 3) if p.shape else 2, 0.5) for p in find_law(law).parameters}
                | {name: np.array(value) for name, value in params.items()}
            )
            .tolist()
        )

    assert says("additive", gamma=[[0.0, 0.5, 1.0], [0.5, 0.5, 1.01]]) == [True, False]
    assert says("additive@free-E@2e9", gamma=[[0.0, 0.5, 1.0], [0.5, 0.5, -0.01]]) == [True, False]
    assert says("joint", gamma_A=[0.0, 0.5], gamma_B=[1.0, 1.0]) == [True, False]
    assert says("powers", gamma_B=[-1.0, 0.5]) == [True, False]
    assert says("simple", gamma=[1.0, 0.99]) == [True, False]
    assert says("ge24", gamma=[0.0, -0.1]) == [True, False]
    assert says("full", gamma_A=[1.0, 1.0]) == [False, False]
    assert (says("ye_m1"), says("ye_m3")) == ([True, True], [False, False])


def test_a_users_law_is_convex_where_it_says_so():
    params = {"E": np.ones((2, 3)), "slope": np.ones((2, 3, 4)), "B": np.ones((2, 3))}
    form = {"coefficients": my_coefficients}
    assert not Law("mine", MY_PARAMETERS, **form).is_convex(params).any()
    linear = Law("mine", MY_PARAMETERS, **form, convex=lambda params: True)
    assert linear.is_convex(params).shape == (2, 3)
    assert linear.is_convex(params).all()


# ---------------------------------------------------------------- one law inside another


@pytest.mark.parametrize("k", KS)
def test_joint_with_equal_coefficients_is_additive(k):
    rows = draw(find_law("additive"), k, seed=14)
    for z, h, N, D in zip(*rows, strict=True):
        p = params_of(find_law("additive"), z, k)
        q = {name: p[name] for name in ("E", "C", "gamma", "alpha", "beta")}
        q |= {"C_A": np.full(k, p["A"]), "gamma_A": 1.0, "C_B": np.full(k, p["B"]), "gamma_B": 1.0}
        # The weights sum to 1 up to rounding.
        np.testing.assert_allclose(
            row_loss(find_law("joint"), q, h, N, D),
            row_loss(find_law("additive"), p, h, N, D),
            rtol=1e-13,
        )


@pytest.mark.parametrize("k", KS)
def test_full_with_equal_exponents_is_joint(k):
    joint, full = find_law("joint"), find_law("full")
    units = Units(*full.units)
    rows = draw(joint, k, seed=15)
    for z, h, N, D in zip(*rows, strict=True):
        p = params_of(joint, z, k)
        for name in ("gamma_A", "gamma_B"):
            p[name] = np.copysign(max(abs(p[name]), 0.1), p[name])
        q = {name: p[name] for name in ("E", "C", "gamma", "C_A", "gamma_A", "C_B", "gamma_B")}
        q |= {
            "C_alpha": np.full(k, p["alpha"]),
            "gamma_alpha": 1.0,
            "C_beta": np.full(k, p["beta"]),
            "gamma_beta": 1.0,
        }
        N, D = N * units.N, D * units.D
        np.testing.assert_allclose(
            row_loss(full, q, h, N, D), row_loss(joint, joint.rescale(p, units), h, N, D), **VALUE
        )


@pytest.mark.parametrize("k", KS)
def test_ye_m3_is_constant_where_a_weight_is_zero(k):
    law = find_law("ye_m3")
    rows = draw(law, k, seed=16)
    value, _, _ = evaluate(law, k, rows._replace(h=with_zeros(rows.h, 17)))
    expected = [params_of(law, z, k)["E"] + params_of(law, z, k)["C"] for z in rows.z]
    np.testing.assert_allclose(value, expected, rtol=1e-15)


# ---------------------------------------------------------------- coordinates of the search

SEARCHED_KS = (3, 7)


def searched_cases():
    return [
        pytest.param(law, k, id=f"{law.name}-{k}")
        for law in LAWS
        if law.coordinates is not None
        for k in SEARCHED_KS
    ]


@cache
def as_searched(law: Law) -> Law:
    """The law as the engine sees it: a law of the search's parameters."""
    return Law(
        f"{law.name} as searched",
        law.coordinates.parameters,
        law.coordinates.coefficients,
        units=law.units,
    )


def twin_of_search(law: Law, k: int, z, h, N, D):
    """The law's own twin at the parameters that the search would report."""
    return reference.loss(
        law.name, law.coordinates.to_law(params_of(as_searched(law), z, k)), h, N, D
    )


@pytest.mark.parametrize(("law", "k"), searched_cases())
def test_coordinates_have_the_laws_parameters(law, k):
    params = params_of(as_searched(law), draw(as_searched(law), k).z[0], k)
    reported = law.coordinates.to_law(params)
    assert as_searched(law).count(k) == law.count(k)
    assert {name: np.shape(value) for name, value in reported.items()} == {
        p.name: (k,) * len(p.shape) for p in law.parameters
    }
    assert np.isfinite(flat(law, reported)).all()  # positive where the law says so


@pytest.mark.parametrize(("law", "k"), searched_cases())
def test_the_way_back_to_the_coordinates(law, k):
    rows = draw(as_searched(law), k, seed=25)
    for z in rows.z:
        for p, at in zip(law.coordinates.parameters, offsets(as_searched(law), k), strict=True):
            if p.domain == "inverse":  # gamma = 1/s again
                z[at] = np.copysign(max(abs(z[at]), 0.1), z[at])
        own = law.coordinates.to_law(named(law.coordinates, z, k))
        np.testing.assert_allclose(
            flat(law.coordinates, law.coordinates.from_law(own)), z, rtol=1e-12, atol=1e-12
        )


@pytest.mark.parametrize(("law", "k"), searched_cases())
def test_coordinates_are_called_by_the_laws_own_names(law, k):
    domains = tuple(f"d{i}" for i in range(k))
    assert law.coordinates.own_names(domains) == parameter_names(law, domains)
    assert parameter_names(law.coordinates, domains) != parameter_names(law, domains)


@pytest.mark.parametrize("where", ["inside", "faces", "corners"])
@pytest.mark.parametrize(("law", "k"), searched_cases())
def test_coordinates_are_the_same_law(law, k, where):
    rows = draw(as_searched(law), k, seed=20)
    if where != "inside":
        rows = rows._replace(
            z=with_signs(as_searched(law), k, rows.z, 21, (1.0, -1.0), 0.0),
            h=corners(k) if where == "corners" else with_zeros(rows.h, 22),
        )
    value, in_z, in_h = evaluate(as_searched(law), k, rows)
    expected = [twin_of_search(law, k, *row) for row in zip(*rows, strict=True)]
    # gamma = 1/s multiplies the rounding of a logarithm; s is above 1e-3 in these draws.
    np.testing.assert_allclose(value, expected, rtol=1e-11)
    assert np.isfinite(in_z).all()
    assert np.isfinite(in_h).all()


@pytest.mark.parametrize(("law", "k"), searched_cases())
def test_gradient_in_the_coordinates(law, k):
    rows = draw(as_searched(law), k, seed=23)
    for p, at in zip(as_searched(law).parameters, offsets(as_searched(law), k), strict=True):
        if p.domain == "real" and not p.shape:
            rows.z[:, at] = np.copysign(
                np.maximum(np.abs(rows.z[:, at]), 0.1), rows.z[:, at]
            )  # 1/s again
    _, in_z, _ = evaluate(as_searched(law), k, rows)
    for j, (z, h, N, D) in enumerate(zip(*rows, strict=True)):
        slopes = reference.central_differences(
            lambda z: twin_of_search(law, k, z, h, N, D),  # noqa: B023
            z,
            1e-3,
        )
        # Rounding of the value over the step, and step^4 times the fifth derivative: 1e-12 of the
        # value each, or 1e-9 for the full law, where a fifth derivative is up to (alpha log N)^5.
        np.testing.assert_allclose(in_z[j], slopes, rtol=0, atol=1e-7 * np.abs(slopes).max())


@pytest.mark.parametrize("s", [0.0, -0.0, 1e-9, -1e-6, 1e-6, -1e-3, 1e-3])
@pytest.mark.parametrize(("law", "k"), searched_cases())
def test_coordinates_near_the_exponential_bracket(law, k, s):
    """At s = 0 the bracket is exp(sum_i h_i log X_i), which the paper's form reaches as gamma
    grows: it is reported with a large one."""
    searched = as_searched(law)
    rows = draw(searched, k, seed=24)
    for p, at in zip(searched.parameters, offsets(searched, k), strict=True):
        if p.domain == "inverse":
            rows.z[:, at] = s
    value, in_z, _ = evaluate(searched, k, rows)
    assert np.isfinite(in_z).all()
    reported = [twin_of_search(law, k, *row) for row in zip(*rows, strict=True)]
    # |s| is reported as 1e-5 at least: brackets move by 1e-5 of half the variance of log X, at most
    # 4, and exponents alpha(h) multiply that by log N, at most 2.
    np.testing.assert_allclose(value, reported, rtol=4e-5)


# ---------------------------------------------------------------- many rows


@pytest.mark.parametrize("law", each_law())
def test_predict_gives_every_target_its_rows(law):
    """Own-domain laws of target i read column i, the others the whole mixture."""
    k, domains = 3, ("web", "code", "books")
    rng = np.random.default_rng(18)
    own = 1 if law.own_domain else k
    low, high = start_ranges(law, own)
    params = {t: params_of(law, rng.uniform(low, high), own) for t in ("books", "web")}
    h = rng.dirichlet(np.ones(k), 5)
    N, D = (unit * np.exp(rng.uniform(-2, 2, 5)) for unit in law.units)
    predicted = predict(law, domains, params, N, D, h)
    assert list(predicted) == ["books", "web"]
    for t, p in params.items():
        seen = h[:, [domains.index(t)]] if law.own_domain else h
        np.testing.assert_allclose(predicted[t], reference.losses(law.name, p, seen, N, D), **VALUE)


def test_predict_of_an_own_domain_law_needs_a_domain():
    with pytest.raises(ValueError, match="not in tuple"):
        predict(
            find_law("ge24"),
            ("web", "code"),
            {"news": {}},
            np.ones(1),
            np.ones(1),
            np.full((1, 2), 0.5),
        )


# ---------------------------------------------------------------- the registry and users' laws


@pytest.mark.parametrize("law", each_law())
def test_registry_finds_every_law(law):
    assert find_law(law.name) is laws()[law.name] is law
    assert law.name == law.name.lower()
    assert law.equation.startswith(("L", "log L = "))
    assert law.source
    assert all(p.meaning and p.unit for p in law.parameters)
    assert {law: 1}[law] == 1  # hashable: a static argument of jit


def test_registry_is_read_only():
    with pytest.raises(TypeError):
        laws()["mine"] = find_law("joint")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("aditive", "additive"), ("joints", "joint"), ("Chinchilla", "chinchilla"), ("ye_m5", "ye_m")],
)
def test_find_law_offers_the_nearest(typed, meant):
    with pytest.raises(UserError, match=rf"no law '{typed}'; did you mean '{meant}") as error:
        find_law(typed)
    assert all(name in error.value.remedy for name in laws())


def test_find_law_without_a_near_name_lists_all():
    with pytest.raises(UserError) as error:
        find_law("???")
    assert "did you mean" not in str(error.value)
    assert all(name in error.value.remedy for name in laws())


def test_a_law_declared_by_its_terms_is_the_joint_law():
    E, alpha, beta = (scalar(name, (0.1, 1.0), "", "") for name in ("E", "alpha", "beta"))
    A, B = (bracket(name, (0.02, 1.0), "") for name in "AB")
    mixture = mixture_term((0.3, 30.0), "")
    mine = declare("mine", "L", "", E=(E, mixture), A=A, alpha=alpha, B=B, beta=beta)
    joint, k, units = find_law("joint"), 3, Units(2.0, 3.0, 5.0)
    rows = draw(joint, k, seed=26)
    for here, there in zip(evaluate(mine, k, rows), evaluate(joint, k, rows), strict=True):
        np.testing.assert_array_equal(here, there)
    np.testing.assert_array_equal(start_ranges(mine, k), start_ranges(joint, k))
    np.testing.assert_array_equal(
        start_ranges(mine.coordinates, k), start_ranges(joint.coordinates, k)
    )
    params = named(joint, rows.z, k)
    np.testing.assert_array_equal(mine.is_convex(params), joint.is_convex(params))
    assert mine.reads == joint.reads == (True, True)
    params = params_of(joint, rows.z[0], k)
    rescaled = mine.rescale(params, units)
    assert list(rescaled) == list(params) == [p.name for p in mine.parameters]
    for name, value in joint.rescale(params, units).items():
        np.testing.assert_array_equal(rescaled[name], value)


def test_exponents_that_depend_on_the_mixture_need_units():
    E, A = (scalar(name, (0.1, 1.0), "", "") for name in "EA")
    alpha = bracket("alpha", (0.1, 1.0), "")
    with pytest.raises(ValueError, match="law 'mine': alpha or beta depends on the mixture"):
        declare("mine", "L", "", E=E, A=A, alpha=alpha)
    assert declare("mine", "L", "", (1e9, 1e10), E=E, A=A, alpha=alpha).reads == (True, False)


def my_coefficients(params, h):
    return Coefficients(params["E"] - jnp.dot(params["slope"], h), B=params["B"], beta=0.5)


def my_predict(params, h, N, D):
    return params["E"] - jnp.dot(params["slope"], h) + params["B"] / jnp.sqrt(D)


MY_PARAMETERS = (Parameter("E"), Parameter("slope", ("k",), "real", (-1.0, 1.0)), Parameter("B"))


@pytest.mark.parametrize(
    "form",
    [{"coefficients": my_coefficients}, {"predict": my_predict}],
    ids=["coefficients", "predict"],
)
def test_a_users_law(form):
    law = Law("mine", MY_PARAMETERS, **form)
    assert find_law(law) is law
    assert law.count(4) == 6
    z = np.array([np.log(2.0), 0.5, -0.5, 0.25, 1.0, np.log(3.0)])
    h, N, D = np.array([0.1, 0.2, 0.3, 0.4]), 5e8, 4e10
    # 2 - (0.05 - 0.1 + 0.075 + 0.4) + 3 / sqrt(4): N and D are over the law's units, 1e9 and 1e10
    # unless said otherwise.
    value, (in_z, in_h) = jax.value_and_grad(
        lambda z, h: row_loss(law, named(law, z, 4), h, N, D), argnums=(0, 1)
    )(z, h)
    np.testing.assert_allclose(value, 3.075, rtol=1e-14)
    np.testing.assert_allclose(in_z, [2.0, -0.1, -0.2, -0.3, -0.4, 1.5], rtol=1e-14)
    np.testing.assert_allclose(in_h, [-0.5, 0.5, -0.25, -1.0], rtol=1e-14)


def test_a_law_given_as_predict_is_taken_to_read_both():
    assert Law("mine", MY_PARAMETERS, predict=my_predict).reads == (True, True)


def test_a_law_for_one_number_of_domains_says_what_it_reads():
    def five(params, h):
        return Coefficients(params["E"] + np.arange(5.0) @ h, B=params["B"], beta=0.5)

    assert Law("five", (Parameter("E"), Parameter("B")), five).reads == (False, True)


def test_a_law_that_cannot_be_traced_says_why():
    law = Law("broken", (Parameter("E"),), lambda params, h: Coefficients(params["F"]))
    with pytest.raises(KeyError, match="F"):
        law.reads  # noqa: B018


def test_units_of_a_users_law_divide_the_counts():
    in_counts = Law("mine", MY_PARAMETERS, predict=my_predict, units=(1.0, 1.0))
    params, h = {"E": 1.0, "slope": np.zeros(2), "B": 8.0}, np.array([0.5, 0.5])
    np.testing.assert_allclose(row_loss(in_counts, params, h, 1.0, 16.0), 3.0, rtol=1e-15)


make = partial(Law, "mine")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: make(MY_PARAMETERS), "exactly one of coefficients and predict"),
        (
            lambda: make(MY_PARAMETERS, coefficients=my_coefficients, predict=my_predict),
            "exactly one of coefficients and predict",
        ),
        (
            lambda: make((Parameter("E"), Parameter("E")), predict=my_predict),
            "parameter names repeat",
        ),
        (lambda: make((Parameter("E", start=(0.0, 1.0)),), predict=my_predict), "bad start range"),
        (lambda: make((Parameter("E", start=(2.0, 1.0)),), predict=my_predict), "bad start range"),
        (
            lambda: make((Parameter("x", (), "real", (0.0, np.inf)),), predict=my_predict),
            "bad start range",
        ),
        (
            lambda: make((Parameter("x", (), "real", (np.nan, 1.0)),), predict=my_predict),
            "bad start range",
        ),
    ],
    ids=["neither", "both", "repeated name", "zero start", "reversed", "infinite", "nan"],
)
def test_a_bad_law_is_refused(build, message):
    with pytest.raises(ValueError, match=f"law 'mine': .*{message}"):
        build()
