"""The objective of every law on both layouts against the plain mean over rows, in value and
gradient."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixjax.fitting.objective import HuberObjective, Observations, coefficients_of_mixtures
from mixjax.fitting.problem import make_design
from mixjax.law import Coefficients, Law, Parameter, find_law, laws
from mixjax.law.base import flat, named, prior_of, row_loss, searched, start_ranges
from tests import reference

LAWS = tuple(laws().values())
K = 3
DELTA = 0.05  # some residuals on either side of it

# Two ways through the same formulas: a few dozen operations at 1e-16 each, then a sum of terms of
# one sign.
VALUE = {"rtol": 1e-12}
# Gradients cancel between rows: the error is relative to the largest entry.
GRADIENT = 1e-12


class Table(NamedTuple):
    """h (rows, k), N, D (rows,) counts, losses (rows,) with NaN where missing, weights (rows,)."""

    h: np.ndarray
    N: np.ndarray
    D: np.ndarray
    losses: np.ndarray
    weights: np.ndarray


ROWS, MISSING = 20, 4  # the same everywhere: operations are then compiled once for all tables


def cells_of(kind):
    """(mixture, scale) of every row: a grid with holes; the same with repeated rows; scattered; one
    mixture; one row each."""
    holes = [(m, s) for m in range(5) for s in range(5) if (m + s) % 5]
    return {
        "grid": holes,
        "repeated": [*holes[:-6], *holes[:5], holes[0]],
        "scattered": [(m, s) for s, m in enumerate(np.repeat(range(5), (3, 2, 1, 8, 6)))],
        "one mixture": [(0, s) for s in range(ROWS)],
        "one row each": [(m, 0) for m in range(ROWS)],
    }[kind]


TABLES = ("grid", "repeated", "scattered", "one mixture", "one row each")


def make_table(law: Law, kind: str, seed: int = 0) -> Table:
    """Losses scattered around those of a random parameter set, a fifth of them missing; N and D
    around the law's units."""
    rng = np.random.default_rng(seed)
    m, s = np.array(cells_of(kind)).T
    h = (
        rng.uniform(0.05, 1, (m.max() + 1, 1))
        if law.own_domain
        else rng.dirichlet(np.ones(K), m.max() + 1)
    )[m]
    N, D = (unit * np.exp(rng.uniform(-1.5, 1.5, s.max() + 1))[s] for unit in law.units)
    losses = twin_losses(law, h, N, D, draw(law, seed)) * np.exp(0.05 * rng.normal(size=len(m)))
    losses[rng.permutation(ROWS)[:MISSING]] = np.nan
    return Table(h, N, D, losses, rng.integers(1, 4, len(m)).astype(float))


def size(law: Law) -> int:
    return 1 if law.own_domain else K


def draw(law: Law, seed: int) -> np.ndarray:
    """z (q,) in the coordinates of the search."""
    low, high = start_ranges(searched(law), size(law))
    return low + (high - low) * np.random.default_rng(seed + 100).uniform(0.2, 0.8, len(low))


def paper_params(law: Law, z: np.ndarray) -> dict:
    """The law's own parameters, for N and D over its units."""
    coordinates = searched(law)
    return coordinates.to_law(
        {name: np.asarray(x) for name, x in named(coordinates, jnp.asarray(z), size(law)).items()}
    )


def twin_losses(law: Law, h, N, D, z) -> np.ndarray:
    return reference.losses(law.name, paper_params(law, z), h, N, D)


def twin(
    law: Law, table: Table, z: np.ndarray, delta: float = DELTA, residual: str = "loss"
) -> float:
    """The weighted mean, row by row: weights are whole numbers, so a row of weight 3 is three
    rows."""
    often = np.repeat(np.arange(len(table.losses)), table.weights.astype(int))
    h, N, D, losses, _ = (column[often] for column in table)
    return reference.objective(law.name, paper_params(law, z), h, N, D, losses, delta, residual)


def observe(
    law: Law, table: Table, layout: str | None = None, delta: float = DELTA, residual: str = "loss"
) -> Observations:
    design = make_design(
        table.h, np.log(table.N / law.units[0]), np.log(table.D / law.units[1]), layout
    )
    seen = np.isfinite(table.losses)
    weights = np.where(seen, table.weights, 0.0) / table.weights[seen].sum()
    losses = np.where(seen, table.losses, 1.0)
    filled = design.cells(np.log(losses) if residual == "log" else losses)
    return Observations(
        *(
            jnp.asarray(x)
            for x in (
                design.mixtures,
                design.log_n,
                design.log_d,
                filled,
                design.cells(weights),
                delta,
            )
        )
    )


def evaluate(
    law: Law, data: Observations, z: np.ndarray, residual: str = "loss"
) -> tuple[float, np.ndarray]:
    """Without jit: small operations of few shapes, compiled once for all laws (a fifth of the
    time)."""
    value, gradient = HuberObjective(law, size(law), residual)(jnp.asarray(z), data)
    return float(value), np.asarray(gradient)


def rowwise(law: Law, table: Table, residual: str = "loss"):
    """z -> the mean Huber loss as one would write it down in JAX: one `row_loss` per row,
    differentiated as it stands."""
    coordinates = searched(law)
    seen = np.isfinite(table.losses)
    h, N, D, losses, weights = (jnp.asarray(column[seen]) for column in table)
    as_searched = Law(
        law.name,
        coordinates.parameters,
        coordinates.coefficients,
        law.predict,
        units=law.units,
    )

    def objective(z):
        predicted = jax.vmap(partial(row_loss, as_searched, named(coordinates, z, size(law))))(
            h, N, D
        )
        r = jnp.log(losses) - jnp.log(predicted) if residual == "log" else losses - predicted
        huber = jnp.where(jnp.abs(r) < DELTA, r**2 / 2, DELTA * (jnp.abs(r) - DELTA / 2))
        return jnp.sum(weights * huber) / jnp.sum(weights)

    return objective


def layouts(kind: str) -> tuple[str, ...]:
    return ("ragged",) if kind == "repeated" else ("grid", "ragged")


def assert_same_gradient(got, expected, tolerance=GRADIENT):
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("residual", ["loss", "log"])
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_value_and_gradient_are_the_rowwise_ones(law, residual, kind):
    table, z = make_table(law, kind), draw(law, seed=7)
    expected, slope = jax.value_and_grad(rowwise(law, table, residual))(jnp.asarray(z))
    np.testing.assert_allclose(expected, twin(law, table, z, residual=residual), **VALUE)
    for layout in layouts(kind):
        value, gradient = evaluate(law, observe(law, table, layout, residual=residual), z, residual)
        np.testing.assert_allclose(value, expected, **VALUE)
        assert_same_gradient(gradient, slope)


@pytest.mark.parametrize("residual", ["loss", "log"])
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_gradient_is_that_of_the_twin(law, residual):
    """Central differences of plain NumPy in the paper's own parameters: no code shared but
    `to_law`."""
    table, z = make_table(law, "grid"), draw(law, seed=7)
    _, gradient = evaluate(law, observe(law, table, residual=residual), z, residual)
    # Fourth order, step 1e-4: truncation 1e-16 / DELTA^3, rounding 1e-16 / 1e-4; a row at its kink
    # costs 1e-4 / rows.
    differences = reference.central_differences(
        lambda z: twin(law, table, z, residual=residual), z, 1e-4
    )
    assert_same_gradient(gradient, differences, 1e-6)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_a_large_delta_is_least_squares_and_a_small_one_absolute_error(law):
    table, z = make_table(law, "grid"), draw(law, seed=7)
    r = table.losses - twin_losses(law, table.h, table.N, table.D, z)
    seen = np.isfinite(r)
    for delta, expected in ((1e6, r[seen] ** 2 / 2), (1e-12, 1e-12 * np.abs(r[seen]))):
        value, _ = evaluate(law, observe(law, table, delta=delta), z)
        # |r| - delta / 2: delta is below 1e-9 of the residuals.
        np.testing.assert_allclose(
            value, np.average(expected, weights=table.weights[seen]), rtol=1e-9
        )


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_zero_residuals_are_a_minimum(law):
    table, z = make_table(law, "grid"), draw(law, seed=7)
    table = table._replace(losses=twin_losses(law, table.h, table.N, table.D, z))
    value, gradient = evaluate(law, observe(law, table), z)
    assert value < 1e-28  # residuals of rounding, squared
    assert np.abs(gradient).max() < 1e-13


def test_chinchilla_without_mixtures():
    law = find_law("chinchilla")
    full, z = make_table(law, "one mixture"), draw(law, seed=7)
    bare = full._replace(h=np.empty((len(full.N), 0)))
    value, gradient = HuberObjective(law, 0)(jnp.asarray(z), observe(law, bare))
    expected, slope = evaluate(law, observe(law, full), z)
    assert value == expected
    np.testing.assert_array_equal(gradient, slope)


def test_a_grid_computes_coefficients_once_per_mixture_and_constants_once():
    law, z = find_law("joint"), draw(find_law("joint"), seed=7)
    mixtures = jnp.asarray(np.random.default_rng(0).dirichlet(np.ones(K), 5))
    shapes = [
        c.shape for c in coefficients_of_mixtures(law, paper_params(law, z_of(law, z)), mixtures)
    ]
    assert shapes == [(5, 1), (5, 1), (1, 1), (5, 1), (1, 1)]


def z_of(law: Law, z: np.ndarray) -> np.ndarray:
    """The same point in the law's own flat vector and back: `flat` and `named` are inverse."""
    again = flat(searched(law), named(searched(law), jnp.asarray(z), size(law)))
    np.testing.assert_allclose(again, z, rtol=1e-14)
    return again


def own_predict(params, h, N, D):
    return params["E"] + jnp.dot(params["a"], h) * N ** -params["alpha"]


def own_coefficients(params, h):
    return Coefficients(params["E"], jnp.dot(params["a"], h), params["alpha"])


@pytest.mark.parametrize("residual", ["loss", "log"])
@pytest.mark.parametrize("kind", TABLES)
def test_a_law_by_coefficients_or_by_prediction_is_one_law(kind, residual):
    parameters = (Parameter("E"), Parameter("a", ("k",)), Parameter("alpha"))
    fast, slow = (
        Law("fast", parameters, own_coefficients),
        Law("slow", parameters, predict=own_predict),
    )
    table = make_table(find_law("additive"), kind)
    table = table._replace(N=table.N * 1e9, D=table.D * 1e10)
    z = draw(fast, seed=3)
    for layout in layouts(kind):
        data = observe(fast, table, layout, residual=residual)
        (value, gradient), (expected, slope) = (
            evaluate(fast, data, z, residual),
            evaluate(slow, data, z, residual),
        )
        np.testing.assert_allclose(value, expected, **VALUE)
        assert_same_gradient(gradient, slope)


@pytest.mark.parametrize(
    "coefficients",
    [
        lambda p, h: Coefficients(1.5, p["A"], 0.5),
        lambda p, h: Coefficients(h[0], 1.0, p["A"], p["A"], 0.25),
    ],
)
def test_coefficients_may_be_plain_numbers_or_weights(coefficients):
    law = Law("odd", (Parameter("A"),), coefficients)
    table, z = make_table(find_law("additive"), "grid"), np.array([-0.3])
    table = table._replace(N=table.N * 1e9, D=table.D * 1e10)
    value, gradient = evaluate(law, observe(law, table), z)
    expected, slope = jax.value_and_grad(rowwise(law, table))(jnp.asarray(z))
    np.testing.assert_allclose(value, expected, **VALUE)
    assert_same_gradient(gradient, slope)


def test_log_residuals_of_a_law_below_zero_are_finite():
    law = Law("sinking", (Parameter("E", domain="real"),), lambda p, h: Coefficients(p["E"]))
    value, gradient = evaluate(
        law,
        observe(law, make_table(find_law("additive"), "grid"), residual="log"),
        np.array([-1.0]),
        "log",
    )
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


def test_equal_objectives_are_one_program():
    """Laws are found once, so that a second fit of a law finds the compiled program of the
    first."""
    law = find_law("joint")
    assert HuberObjective(law, 7) == HuberObjective(find_law("joint"), 7)
    assert hash(HuberObjective(law, 7)) == hash(HuberObjective(find_law("joint"), 7))
    assert HuberObjective(law, 7) != HuberObjective(law, 7, "log")


# ---------------------------------------------------------------- priors

N_ROWS = 11  # of the prior: any number


def values_of(law: Law, z: np.ndarray) -> dict[str, np.ndarray]:
    """z by coordinate, logarithms left as they are."""
    parts, begin = {}, 0
    for p in searched(law).parameters:
        parts[p.name] = z[begin : begin + p.size(K)]
        begin += p.size(K)
    return parts


def with_prior(law: Law, residual: str = "loss") -> HuberObjective:
    return HuberObjective(law, K, residual, prior_rows=N_ROWS)


@pytest.mark.parametrize("name", reference.PRIORS)
def test_prior_is_that_of_the_twin(name):
    law = find_law(name)
    mean, precision = prior_of(searched(law), K)
    assert [p.name for p in searched(law).parameters if p.prior] == list(values_of(law, mean))
    assert set(values_of(law, mean)) == set(reference.PRIORS[name])
    for seed in range(3):
        z = mean + 3 * np.random.default_rng(seed).normal(size=len(mean))
        ours = (z - mean) @ precision @ (z - mean) / 2
        np.testing.assert_allclose(ours, reference.minus_log_prior(name, values_of(law, z)), 1e-12)
    assert reference.minus_log_prior(name, values_of(law, mean)) == pytest.approx(0, abs=1e-28)


@pytest.mark.parametrize(
    "law", [law for law in LAWS if law.name != "ge24"], ids=lambda law: law.name
)  # of BiMix, one target's own domain alone, the exponent of D has one
def test_every_coordinate_of_a_built_in_law_has_a_prior_about_its_starts(law):
    """Its precision has full rank, and each start is within a few standard deviations."""
    mean, precision = prior_of(searched(law), size(law))
    assert np.linalg.eigvalsh(precision).min() > 0
    for z in start_ranges(searched(law), size(law)):
        assert (np.abs(z - mean) * np.sqrt(1 / np.diag(np.linalg.inv(precision)))).max() < 6


def test_nothing_is_expected_of_a_parameter_without_a_prior():
    law = Law("bare", (Parameter("E"), Parameter("a", ("k",), "real")), own_coefficients)
    mean, precision = prior_of(searched(law), K)
    assert np.isfinite(mean).all()
    np.testing.assert_array_equal(precision, np.zeros((1 + K, 1 + K)))


@pytest.mark.parametrize("residual", ["loss", "log"])
@pytest.mark.parametrize("name", reference.PRIORS)
def test_the_objective_with_a_prior_is_the_plain_one_times_the_twins(name, residual):
    """f exp(P / n): its logarithm times n is n log f + P."""
    law = find_law(name)
    table, z = make_table(law, "grid"), draw(law, seed=7)
    data, objective = observe(law, table, residual=residual), with_prior(law, residual)

    def twins(z):
        P = reference.minus_log_prior(name, values_of(law, z))
        return N_ROWS * np.log(twin(law, table, z, residual=residual)) + P

    value, gradient = objective(jnp.asarray(z), data)
    np.testing.assert_allclose(N_ROWS * np.log(value), twins(z), **VALUE)
    np.testing.assert_allclose(objective.value(jnp.asarray(z), data), value, **VALUE)
    slope = reference.central_differences(twins, z, 1e-4)
    assert_same_gradient(gradient, np.asarray(value) * slope / N_ROWS, 1e-6)
    again = jax.grad(lambda z: objective.value(z, data))(jnp.asarray(z))
    assert_same_gradient(gradient, again)


@pytest.mark.parametrize("name", reference.PRIORS)
def test_curvature_with_a_prior_is_that_of_n_log_f_plus_p_but_for_the_bend_of_log_f(name):
    """Of value, gradient and curvature: C / value = (GN of f) / f + precision / n."""
    law = find_law(name)
    data, z = observe(law, make_table(law, "grid")), jnp.asarray(draw(law, seed=7))
    plain, objective = HuberObjective(law, K), with_prior(law)
    value, gradient, curvature = objective.curved(z, data)
    f, _, gauss_newton = plain.curved(z, data)
    expected_value, expected_gradient = objective(z, data)
    np.testing.assert_allclose(value, expected_value, **VALUE)
    assert_same_gradient(gradient, expected_gradient)
    precision = prior_of(searched(law), K)[1]
    expected = np.asarray(gauss_newton / f) + precision / N_ROWS
    assert_same_gradient(curvature / value, expected, 1e-11)


@pytest.mark.parametrize("name", reference.PRIORS)
def test_curvature_is_the_hessian_at_an_exact_minimum_of_residuals_and_prior(name):
    """Where the prior is flat and no row is off, the Hessian of f exp(P / n) is exp(P / n) times
    that of f; what the prior adds is proportional to f = 0."""
    law = find_law(name)
    table, z = make_table(law, "grid"), draw(law, seed=7)
    table = table._replace(losses=twin_losses(law, table.h, table.N, table.D, z))
    data, objective = observe(law, table), with_prior(law)
    _, _, curvature = objective.curved(jnp.asarray(z), data)
    hessian = jax.hessian(lambda z: objective.value(z, data))(jnp.asarray(z))
    assert_same_gradient(np.asarray(curvature), np.asarray(hessian), 1e-9)


def test_a_minimum_without_noise_is_left_where_it_is():
    """The prior multiplies the objective: 0 stays 0, with a gradient of 0."""
    for name in reference.PRIORS:
        law = find_law(name)
        table, z = make_table(law, "grid"), draw(law, seed=7)
        table = table._replace(losses=twin_losses(law, table.h, table.N, table.D, z))
        value, gradient = with_prior(law)(jnp.asarray(z), observe(law, table))
        assert value < 1e-26
        assert np.abs(gradient).max() < 1e-12


def test_exponents_that_zeros_make_positive_have_the_prior_of_their_logarithms():
    law = find_law("additive")
    positive = searched(law, zeros=True)
    for k in (1, 3, 17):
        (mean, precision), (_, of_reals) = prior_of(positive, k), prior_of(searched(law), k)
        at = slice(1 + k, 1 + 2 * k)  # after E and c
        np.testing.assert_allclose(mean[at], np.log(0.5))
        np.testing.assert_allclose(np.diag(precision)[at], 1 / 0.5**2)
        np.testing.assert_array_equal(precision, of_reals)
    data, z = observe(law, make_table(law, "grid")), jnp.asarray(draw(law, seed=7))
    z = z.at[1 + K : 1 + 2 * K].set(jnp.log(jnp.abs(z[1 + K : 1 + 2 * K])))
    mean, precision = prior_of(positive, K)
    P = (z - mean) @ precision @ (z - mean) / 2
    plain, held = (HuberObjective(law, K, zeros=True, prior_rows=n) for n in (0, N_ROWS))
    np.testing.assert_allclose(
        held.value(z, data), plain.value(z, data) * np.exp(P / N_ROWS), **VALUE
    )


def test_a_prior_makes_another_program():
    law = find_law("joint")
    assert HuberObjective(law, 7) == HuberObjective(law, 7, prior_rows=0)
    assert HuberObjective(law, 7) != HuberObjective(law, 7, prior_rows=20)
