"""Law + design -> OBJECTIVE -> engine: value and gradient of the mean Huber loss (eq. 6) at one z.

The engine calls `HuberObjective` with a flat vector z (q,) and `Observations`; it sees neither laws
nor tables. Losses and row weights are data, so another target, resample or delta recompiles
nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mixjax.fitting.curvature import pull_back, sensitivities
from mixjax.fitting.loss import SMALLEST_LOSS
from mixjax.law.base import Coefficients, Coordinates, Law, Params, dependence, named, searched

# Inside the trace a jax.Array, outside what NumPy has.
Leaf = jax.Array | np.ndarray


class Observations(NamedTuple):
    """What one target's residuals are made of; N, D and losses are over the engine's units.

    mixtures (mixtures, k); log_n, log_d (1 or mixtures, cells); losses (mixtures, cells), the log
    of the loss for log residuals; weights (mixtures, cells), 0 where there is no row; delta ().
    """

    mixtures: Leaf
    log_n: Leaf
    log_d: Leaf
    losses: Leaf
    weights: Leaf
    delta: Leaf

    def of(self, group: int) -> Observations:
        """Those of one target, where there is a leading axis of targets."""
        return Observations(*(leaf[group] for leaf in self))


@dataclass(frozen=True)
class HuberObjective:
    """z (q,), observations -> sum over cells of weight * Huber(residual), and its gradient (q,).

    zeros says whether any share is exactly 0 (`searched`). Hashable, so it may be a static argument
    of jit. The law is differentiated automatically; only the row work is by hand: the derivative of
    Huber(r) is r clipped to +-delta, which the value needs anyway.
    """

    law: Law
    k: int
    residual: str = "loss"
    zeros: bool = False

    def __call__(self, z: jax.Array, data: Observations) -> tuple[jax.Array, jax.Array]:
        """Value () and gradient (q,) at z (q,)."""
        predicted, cotangent = jax.vjp(lambda z: self.cells(z, data), z)
        r = data.losses - predicted
        clipped = jnp.clip(r, -data.delta, data.delta)
        pull = data.weights * clipped
        return jnp.sum(pull * (r - 0.5 * clipped)), cotangent(-pull)[0]

    def value(self, z: jax.Array, data: Observations) -> jax.Array:
        """The value () alone, which may be differentiated forwards and backwards."""
        return jnp.sum(data.weights * _huber(data.losses - self.cells(z, data), data.delta))

    @property
    def has_curvature(self) -> bool:
        """Whether `curved` is cheap: the law is given by its coefficients."""
        return self.law.coefficients is not None

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
        return jnp.sum(pull * (r - 0.5 * clipped)), *sum_up(-pull, bend)

    def _sensitive(
        self, z: jax.Array, data: Observations
    ) -> tuple[jax.Array, Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]]:
        """What residuals are taken of (mixtures, cells), and a function of weights of the cells,
        (pull, bend) -> sum of pull dp/dz (q,), sum of bend dp/dz dp/dz' (q, q)."""
        if not self.has_curvature:
            by_z = jax.jacfwd(lambda z: self.cells(z, data).reshape(-1))(z)
            return self.cells(z, data), lambda pull, bend: (
                by_z.T @ pull.reshape(-1),
                by_z.T @ (bend.reshape(-1, 1) * by_z),
            )
        mixtures, log_n, log_d = (jnp.asarray(x) for x in data[:3])
        coefficients, parts = sensitivities(
            searched(self.law, self.zeros), z, self.k, mixtures, log_n, log_d
        )
        predicted, slope = self._seen(sum_of_terms(coefficients, data))
        return predicted, lambda pull, bend: pull_back(parts, pull * slope, bend * slope**2, len(z))

    def _seen(self, loss: jax.Array) -> tuple[jax.Array, jax.Array | float]:
        """What residuals are taken of, the loss or its logarithm, and its derivative by the
        loss."""
        if self.residual == "loss":
            return loss, 1.0
        above = loss > SMALLEST_LOSS
        return jnp.log(jnp.where(above, loss, SMALLEST_LOSS)), jnp.where(
            above, 1.0 / jnp.where(above, loss, 1.0), 0.0
        )

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
    """One target's observations under many row weights.

    observations; factors (resamples, mixtures, cells) on its weights; norm (resamples,): their sum
    over the sum without factors.
    """

    observations: Observations
    factors: Leaf
    norm: Leaf


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
        r = z[-1].astype(int)
        weights = (
            jnp.asarray(data.observations.weights)
            * jnp.asarray(data.factors)[r]
            / jnp.asarray(data.norm)[r]
        )
        return data.observations._replace(weights=weights)


def predict_cells(law: Law | Coordinates, params: Params, data: Observations) -> jax.Array:
    """E(h) + A(h) / N^alpha(h) + B(h) / D^beta(h) on the table of cells (mixtures, cells).

    Coefficients are (mixtures, 1), or (1, 1) where they do not depend on h; powers of N and D are
    (1, cells) on a grid, computed once per distinct value whatever the number of rows. There the
    table is a product of two thin matrices, (E, A, B) of the mixtures and (1, N^-alpha, D^-beta) of
    the scales, and so are its
    derivatives: written as one, it takes two thirds of the time of sums of products.
    """
    return sum_of_terms(coefficients_of_mixtures(law, params, data.mixtures), data)


def sum_of_terms(c: Coefficients, data: Observations) -> jax.Array:
    """The losses of the cells (mixtures, cells) from coefficients (mixtures or 1, 1)."""
    terms = [(c.E, jnp.ones_like(data.log_n[:1]))]
    if c.A is not None:
        terms.append((c.A, jnp.exp(-c.alpha * data.log_n)))
    if c.B is not None:
        terms.append((c.B, jnp.exp(-c.beta * data.log_d)))
    mixtures = data.losses.shape[0]
    if len(terms) > 1 and all(
        of_mixture.shape == (mixtures, 1) and of_scale.shape[0] == 1
        for of_mixture, of_scale in terms
    ):
        columns, rows = zip(*terms, strict=True)
        return jnp.concatenate(columns, axis=1) @ jnp.concatenate(rows, axis=0)
    return jnp.broadcast_to(
        sum(of_mixture * of_scale for of_mixture, of_scale in terms), data.losses.shape
    )


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
    """The law's coefficients, each (mixtures, 1), or (1, 1) where it does not depend on the
    mixture."""
    assert law.coefficients is not None
    reads = dependence(law, mixtures.shape[1])
    axes = Coefficients(
        *(
            (0 if reads[name].mixture else None) if name in reads else None
            for name in Coefficients._fields
        )
    )
    rows = jax.vmap(law.coefficients, in_axes=(None, 0), out_axes=axes)(
        params, jnp.asarray(mixtures)
    )
    return Coefficients(*(None if c is None else jnp.reshape(c, (-1, 1)) for c in rows))
