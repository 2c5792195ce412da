"""Law + design -> OBJECTIVE -> engine: value, gradient and curvature of the mean Huber loss (eq. 6)
at one z.

The engine calls `HuberObjective` with a flat vector z (q,) and `Observations`; it sees neither laws
nor tables. Losses and row weights are data, so another target, resample or delta recompiles
nothing.

A row's loss depends on z only through the five coefficients of its mixture (eq. 3). So the Gauss-
Newton curvature, a sum over rows of weighted outer products of derivatives, falls apart: moments of
the scales within each mixture, five by five, between the derivatives of the coefficients, one
mixture at a time. Row by row it would cost as much as thirty gradients; so it costs about two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mixjax.fitting.loss import SMALLEST_LOSS
from mixjax.law.base import (
    Coefficients,
    Coordinates,
    Law,
    Params,
    dependence,
    named,
    prior_of,
    searched,
)
from mixjax.numerics import dot

_FEW = 16  # parameters of a law given as `predict` that is differentiated by each of them

# Inside the trace a jax.Array, outside what NumPy has.
Leaf = jax.Array | np.ndarray


class Observations(NamedTuple):
    """What one target's residuals are made of; N, D and losses are over the engine's units."""

    mixtures: Leaf  # (mixtures, k)
    log_n: Leaf  # (1 or mixtures, cells), as the next
    log_d: Leaf
    losses: Leaf  # (mixtures, cells), the log of the loss for log residuals
    weights: Leaf  # (mixtures, cells), 0 where there is no row
    delta: Leaf  # ()

    def of(self, group: int) -> Observations:
        """Those of one target, where there is a leading axis of targets."""
        return Observations(*(leaf[group] for leaf in self))


@dataclass(frozen=True)
class HuberObjective:
    """z (q,), observations -> sum over cells of weight * Huber(residual), and its gradient (q,).

    zeros says whether any share is exactly 0 (`searched`). With prior_rows = n > 0 the sum f is
    multiplied by exp(P(z) / n), P being minus the logarithm of the density of the prior: this is
    least where n log f + P is, at the likeliest z for residuals whose scale is not known, and f
    stays the whole of it where the runs are free of noise. Hashable, so it may be a static argument
    of jit. The law is differentiated automatically; only the row work is by hand: the derivative of
    Huber(r) is r clipped to +-delta, which the value needs anyway.
    """

    law: Law
    k: int
    residual: str = "loss"
    zeros: bool = False
    prior_rows: int = 0

    def __call__(self, z: jax.Array, data: Observations) -> tuple[jax.Array, jax.Array]:
        """Value () and gradient (q,) at z (q,)."""
        predicted, cotangent = jax.vjp(lambda z: self.cells(z, data), z)
        r = data.losses - predicted
        clipped = jnp.clip(r, -data.delta, data.delta)
        pull = data.weights * clipped
        f, grad = jnp.sum(pull * (r - 0.5 * clipped)), cotangent(-pull)[0]
        if not self.prior_rows:
            return f, grad
        factor, slope, _ = self._prior(z)
        return factor * f, factor * (grad + f * slope)

    def value(self, z: jax.Array, data: Observations) -> jax.Array:
        """The value () alone, which may be differentiated forwards and backwards."""
        f = jnp.sum(data.weights * _huber(data.losses - self.cells(z, data), data.delta))
        return self._prior(z)[0] * f if self.prior_rows else f

    @property
    def has_curvature(self) -> bool:
        """Whether `curved` is cheap: the law has coefficients, or few parameters."""
        return self.law.coefficients is not None or self.law.count(self.k) <= _FEW

    def curved(self, z: jax.Array, data: Observations) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Value (), gradient (q,) and Gauss-Newton curvature (q, q) at z (q,), a row weighted
        min(1, delta / |residual|).

        With these weights the quadratic model lies above the Huber loss of every row and touches it
        at its residual, so that the curvature is never too small (iteratively reweighted least
        squares). Source: Holland and Welsch 1977.
        """
        losses, weights, delta = (jnp.asarray(x) for x in (data.losses, data.weights, data.delta))
        predicted, sum_up = self._sensitive(z, data)
        r = losses - predicted
        clipped = jnp.clip(r, -delta, delta)
        pull = weights * clipped
        bend = weights * (delta / jnp.maximum(jnp.abs(r), delta))
        f, (grad, curvature) = jnp.sum(pull * (r - 0.5 * clipped)), sum_up(-pull, bend)
        if not self.prior_rows:
            return f, grad, curvature
        # Left out are products of the two gradients: they cancel at a minimum but for f / n^2.
        factor, slope, bent = self._prior(z)
        return factor * f, factor * (grad + f * slope), factor * (curvature + f * bent)

    def _prior(self, z: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """exp(P / n) (), and the gradient (q,) and curvature (q, q) of P / n."""
        coordinates = searched(self.law, self.zeros)
        mean, precision = (jnp.asarray(x, z.dtype) for x in prior_of(coordinates, self.k))
        curvature = precision / self.prior_rows
        slope = curvature @ (z - mean)
        return jnp.exp(0.5 * dot(z - mean, slope)), slope, curvature

    def _sensitive(
        self, z: jax.Array, data: Observations
    ) -> tuple[jax.Array, Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]]:
        """What residuals are taken of (mixtures, cells), and a function of weights of the cells,
        (pull, bend) -> sum of pull dp/dz (q,), sum of bend dp/dz dp/dz' (q, q)."""
        if self.law.coefficients is None:
            by_z = jax.jacfwd(lambda z: self.cells(z, data).reshape(-1))(z)
            return self.cells(z, data), lambda pull, bend: (
                by_z.T @ pull.reshape(-1),
                by_z.T @ (bend.reshape(-1, 1) * by_z),
            )
        mixtures, log_n, log_d = (jnp.asarray(x) for x in data[:3])
        coordinates = searched(self.law, self.zeros)
        coefficients, parts = _sensitivities(coordinates, z, self.k, mixtures, log_n, log_d)
        loss, slope = sum_of_terms(coefficients, data), 1.0
        if self.residual == "log":
            above = loss > SMALLEST_LOSS
            slope = jnp.where(above, 1.0 / jnp.where(above, loss, 1.0), 0.0)
            loss = jnp.log(jnp.where(above, loss, SMALLEST_LOSS))
        return loss, lambda pull, bend: _pull_back(parts, pull * slope, bend * slope**2, len(z))

    def cells(self, z: jax.Array, data: Observations) -> jax.Array:
        """Predicted loss, or its log for log residuals, of every cell (mixtures, cells)."""
        coordinates = searched(self.law, self.zeros)
        params = named(coordinates, z, self.k)
        loss = (
            predict_cells(coordinates, params, data)
            if self.law.predict is None
            else predict_cells_one_by_one(self.law, params, data)
        )
        return jnp.log(jnp.maximum(loss, SMALLEST_LOSS)) if self.residual == "log" else loss


@jax.custom_jvp
def _huber(r: jax.Array, delta: jax.Array) -> jax.Array:
    """Huber loss of each residual, whose derivative is the residual clipped to +-delta."""
    clipped = jnp.clip(r, -delta, delta)
    return clipped * (r - 0.5 * clipped)


@_huber.defjvp
def _huber_jvp(primals: tuple[Any, Any], tangents: tuple[Any, Any]) -> tuple[jax.Array, jax.Array]:
    (r, delta), (by_z, _) = primals, tangents
    return _huber(r, delta), jnp.clip(r, -delta, delta) * by_z


class Reweighting(NamedTuple):
    """One target's observations under many row weights."""

    observations: Observations
    factors: Leaf  # on their weights (resamples, mixtures, cells)
    norm: Leaf  # sum of weights over that without factors (resamples,)


@dataclass(frozen=True)
class Reweighted:
    """The objective of a `HuberObjective` under one of many row weights: the last entry of z is the
    number of its resample.

    That entry has no gradient, so no search moves it (hops would). Lanes of one batch then work on
    different resamples, where a group of its own for each would leave most lanes of a warm start
    idle.
    """

    objective: HuberObjective

    def __call__(self, z: jax.Array, data: Reweighting) -> tuple[jax.Array, jax.Array]:
        """Value () and gradient (q + 1,) at z (q + 1,)."""
        value, grad = self.objective(z[:-1], self._observations(z, data))
        return value, jnp.pad(grad, (0, 1))

    @property
    def has_curvature(self) -> bool:
        """As of the objective."""
        return self.objective.has_curvature

    def curved(self, z: jax.Array, data: Reweighting) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Value (), gradient (q + 1,) and curvature (q + 1, q + 1) at z (q + 1,)."""
        value, grad, curvature = self.objective.curved(z[:-1], self._observations(z, data))
        return value, jnp.pad(grad, (0, 1)), jnp.pad(curvature, (0, 1))

    def _observations(self, z: jax.Array, data: Reweighting) -> Observations:
        """Those of the resample that the last entry of z names."""
        r, own = z[-1].astype(int), jnp.asarray(data.observations.weights)
        weights = own * jnp.asarray(data.factors)[r] / jnp.asarray(data.norm)[r]
        return data.observations._replace(weights=weights)


# --- The table of cells --------------------------------------------------------------------------


def predict_cells(law: Law | Coordinates, params: Params, data: Observations) -> jax.Array:
    """E(h) + A(h) / N^alpha(h) + B(h) / D^beta(h) on the table of cells (mixtures, cells).

    Coefficients are (mixtures, 1), or (1, 1) where they do not depend on h; powers of N and D are
    (1, cells) on a grid, computed once per distinct value whatever the number of rows. There the
    table is a product of two thin matrices, (E, A, B) of the mixtures and (1, N^-alpha, D^-beta) of
    the scales, and so are its derivatives: in two thirds of the time of sums of products.
    """
    return sum_of_terms(coefficients_of_mixtures(law, params, data.mixtures), data)


def sum_of_terms(c: Coefficients, data: Observations) -> jax.Array:
    """The losses of the cells (mixtures, cells) from coefficients (mixtures or 1, 1)."""
    terms = [(c.E, jnp.ones_like(data.log_n[:1]))]
    if c.A is not None:
        terms.append((c.A, jnp.exp(-c.alpha * data.log_n)))
    if c.B is not None:
        terms.append((c.B, jnp.exp(-c.beta * data.log_d)))
    column = (data.losses.shape[0], 1)
    if len(terms) > 1 and all(c.shape == column and len(scale) == 1 for c, scale in terms):
        columns, rows = zip(*terms, strict=True)
        return jnp.concatenate(columns, axis=1) @ jnp.concatenate(rows, axis=0)
    return jnp.broadcast_to(sum(c * scale for c, scale in terms), data.losses.shape)


def predict_cells_one_by_one(law: Law, params: Params, data: Observations) -> jax.Array:
    """The same for a law given as `predict`: one call per cell, nothing shared."""
    assert law.predict is not None
    shape = data.losses.shape
    N, D = (jnp.broadcast_to(jnp.exp(x), shape) for x in (data.log_n, data.log_d))
    per_row = jax.vmap(law.predict, in_axes=(None, None, 0, 0))
    return jax.vmap(per_row, in_axes=(None, 0, 0, 0))(params, jnp.asarray(data.mixtures), N, D)


def coefficients_of_mixtures(
    law: Law | Coordinates, params: Params, mixtures: Leaf
) -> Coefficients:
    """The law's coefficients (mixtures, 1), or (1, 1) where they do not depend on the mixture."""
    assert law.coefficients is not None
    reads = dependence(law, mixtures.shape[1])
    varies = {name for name in reads if reads[name].mixture}
    axes = Coefficients(*(0 if name in varies else None for name in Coefficients._fields))
    of_mixtures = jax.vmap(law.coefficients, in_axes=(None, 0), out_axes=axes)
    rows = of_mixtures(params, jnp.asarray(mixtures))
    return Coefficients(*(None if c is None else jnp.reshape(c, (-1, 1)) for c in rows))


# --- Curvature -----------------------------------------------------------------------------------


class _Sensitivity(NamedTuple):
    """How the losses move with one coefficient: d loss / d z[columns] = of_mixture x of_scale."""

    columns: np.ndarray
    of_mixture: jax.Array  # (mixtures or 1, columns)
    of_scale: jax.Array  # (1 or mixtures, cells)


def _sensitivities(
    law: Coordinates, z: jax.Array, k: int, mixtures: jax.Array, log_n: jax.Array, log_d: jax.Array
) -> tuple[Coefficients, list[_Sensitivity]]:
    """The coefficients, each (mixtures or 1, 1), and how the losses move with each of them."""
    c, slopes = _slopes_of_coefficients(law, z, k, mixtures)
    ones = jnp.ones_like(log_n[:1])
    parts: dict[str, tuple[jax.Array | float, jax.Array]] = {"E": (1.0, ones)}
    if c.A is not None:
        fall = jnp.exp(-c.alpha * log_n)
        parts |= {"A": (1.0, fall), "alpha": (-c.A, fall * log_n)}
    if c.B is not None:
        fall = jnp.exp(-c.beta * log_d)
        parts |= {"B": (1.0, fall), "beta": (-c.B, fall * log_d)}
    return c, [
        _Sensitivity(slopes[name][0], factor * slopes[name][1], of_scale)
        for name, (factor, of_scale) in parts.items()
        if len(slopes[name][0])
    ]


def _slopes_of_coefficients(
    law: Coordinates, z: jax.Array, k: int, mixtures: jax.Array
) -> tuple[Coefficients, dict[str, tuple[np.ndarray, jax.Array]]]:
    """Coefficients (mixtures or 1, 1), and {name: (columns of z that it depends on, derivative by
    these (mixtures or 1, columns))}."""
    params = named(law, z, k)
    positive = {p.name: p.domain == "positive" for p in law.parameters}
    splits = np.cumsum([p.size(k) for p in law.parameters])
    places = dict(zip(positive, np.split(np.arange(len(z)), splits[:-1]), strict=True))
    values, slopes = {}, {}
    for name, (depends, varies) in dependence(law, k).items():
        rows = mixtures if varies else mixtures[:1]
        coefficient = partial(_coefficient, law, params, name)
        value, slope = jax.vmap(jax.value_and_grad(coefficient), in_axes=(None, 0))(
            {p: params[p] for p in depends}, rows
        )
        # d params / d z: the parameter itself where it is searched in its logarithm.
        by_z = [
            (slope[p] * params[p][None] if positive[p] else slope[p]).reshape(len(rows), -1)
            for p in depends
        ]
        columns = [places[p] for p in depends] or [np.empty(0, int)]
        by_z = by_z or [jnp.zeros((1, 0), z.dtype)]
        values[name] = value[:, None]
        slopes[name] = np.concatenate(columns), jnp.concatenate(by_z, axis=1)
    return Coefficients(**{name: values.get(name) for name in Coefficients._fields}), slopes


def _coefficient(
    law: Coordinates, params: dict[str, jax.Array], name: str, varied: Params, h: jax.Array
) -> jax.Array:
    """One coefficient () of one mixture h (k,), with some of the parameters varied."""
    assert law.coefficients is not None
    return getattr(law.coefficients({**params, **varied}, h), name)


def _pull_back(
    slopes: list[_Sensitivity], pull: jax.Array, bend: jax.Array, q: int
) -> tuple[jax.Array, jax.Array]:
    """Gradient (q,) and curvature (q, q) from what the objective makes of every cell.

        gradient = sum_cells pull * dloss/dz,   curvature = sum_cells bend * dloss/dz dloss/dz'

    Args:
        pull, bend: (mixtures, cells).
    """
    slopes = sorted(slopes, key=lambda s: s.columns[0])
    every = range(len(slopes))
    pairs = [(a, b) for a in every for b in range(a + 1)]
    first = _within_mixtures(pull, [s.of_scale for s in slopes])
    of_pairs = [slopes[a].of_scale * slopes[b].of_scale for a, b in pairs]
    second = dict(zip(pairs, _within_mixtures(bend, of_pairs), strict=True))
    rows = [jnp.broadcast_to(s.of_mixture, (len(pull), len(s.columns))) for s in slopes]
    blocks = {(a, b): rows[a].T @ (second[a, b] * rows[b]) for a, b in pairs}
    blocks |= {(b, a): block.T for (a, b), block in blocks.items()}
    grad = jnp.concatenate([jnp.sum(m * row, axis=0) for m, row in zip(first, rows, strict=True)])
    bands = [jnp.concatenate([blocks[a, b] for b in every], axis=1) for a in every]
    curvature = jnp.concatenate(bands, axis=0)
    columns = np.concatenate([s.columns for s in slopes])
    if np.array_equal(columns, np.arange(q)):
        return grad, curvature
    # Parameters that several coefficients share, or none reads: added up where they belong, which
    # is slower.
    grad = jnp.zeros(q, grad.dtype).at[columns].add(grad)
    square = jnp.zeros((q, q), grad.dtype).at[np.ix_(columns, columns)]
    return grad, square.add(curvature)


def _within_mixtures(of_cells: jax.Array, of_scale: list[jax.Array]) -> list[jax.Array]:
    """Sums over the cells of each mixture (mixtures, 1) of of_cells (mixtures, cells) times each of
    of_scale (1 or mixtures, cells)."""
    if len(of_cells) > 1 and all(len(scale) == 1 for scale in of_scale):
        sums = of_cells @ jnp.concatenate(of_scale, axis=0).T
        return [sums[:, i : i + 1] for i in range(len(of_scale))]
    return [jnp.sum(of_cells * scale, axis=1, keepdims=True) for scale in of_scale]
