"""Law + design -> CURVATURE -> engine: Gauss-Newton curvature of the mean Huber loss at one z, from
the structure of the laws.

A row's loss depends on z only through the five coefficients of its mixture (eq. 3), so that the sum
over rows of weighted outer products of derivatives falls apart: moments of the scales within each
mixture, five by five, between the derivatives of the coefficients, one mixture at a time. Written
row by row it would cost as much as thirty gradients; so it costs about two.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mixjax.law.base import Coefficients, Coordinates, dependence, named


class Sensitivity(NamedTuple):
    """How the losses of the cells move with one coefficient: d loss / d z[columns] = of_mixture x
    of_scale.

    of_mixture (mixtures or 1, columns); of_scale (1 or mixtures, cells).
    """

    columns: np.ndarray
    of_mixture: jax.Array
    of_scale: jax.Array


def sensitivities(
    law: Coordinates, z: jax.Array, k: int, mixtures: jax.Array, log_n: jax.Array, log_d: jax.Array
) -> tuple[Coefficients, list[Sensitivity]]:
    """The coefficients, each (mixtures or 1, 1), and how the losses move with each of them.

    Args:
        z: flat parameters (q,).
        mixtures: (mixtures, k). log_n, log_d: (1 or mixtures, cells).
    """
    c, slopes = slopes_of_coefficients(law, z, k, mixtures)
    ones = jnp.ones_like(log_n[:1])
    parts: dict[str, tuple[jax.Array | float, jax.Array]] = {"E": (1.0, ones)}
    if c.A is not None:
        fall = jnp.exp(-c.alpha * log_n)
        parts |= {"A": (1.0, fall), "alpha": (-c.A, fall * log_n)}
    if c.B is not None:
        fall = jnp.exp(-c.beta * log_d)
        parts |= {"B": (1.0, fall), "beta": (-c.B, fall * log_d)}
    return c, [
        Sensitivity(slopes[name][0], factor * slopes[name][1], of_scale)
        for name, (factor, of_scale) in parts.items()
        if len(slopes[name][0])
    ]


def slopes_of_coefficients(
    law: Coordinates, z: jax.Array, k: int, mixtures: jax.Array
) -> tuple[Coefficients, dict[str, tuple[np.ndarray, jax.Array]]]:
    """Coefficients (mixtures or 1, 1), and {name: (columns of z that it depends on, derivative by
    these (mixtures or 1, columns))}."""
    params = named(law, z, k)
    places = _places(law, k)
    values, slopes = {}, {}
    for name, (depends, varies) in dependence(law, k).items():
        rows = mixtures if varies else mixtures[:1]
        coefficient = partial(_coefficient, law, params, name)
        value, slope = jax.vmap(jax.value_and_grad(coefficient), in_axes=(None, 0))(
            {p: params[p] for p in depends}, rows
        )
        # d params / d z: the parameter itself where it is searched in its logarithm.
        by_z = [
            (slope[p] * params[p][None] if places[p].positive else slope[p]).reshape(len(rows), -1)
            for p in depends
        ]
        columns = (
            np.concatenate([places[p].columns for p in depends]) if depends else np.empty(0, int)
        )
        values[name], slopes[name] = (
            value[:, None],
            (columns, jnp.concatenate(by_z, axis=1) if by_z else jnp.zeros((1, 0), z.dtype)),
        )
    return Coefficients(**{name: values.get(name) for name in Coefficients._fields}), slopes


def _coefficient(
    law: Coordinates,
    params: dict[str, jax.Array],
    name: str,
    varied: dict[str, jax.Array],
    h: jax.Array,
) -> jax.Array:
    """One coefficient () of one mixture h (k,), with some of the parameters varied."""
    assert law.coefficients is not None
    return getattr(law.coefficients(params | varied, h), name)


class _Place(NamedTuple):
    """Columns of z that a parameter is in, and whether it is searched in its logarithm."""

    columns: np.ndarray
    positive: bool


def _places(law: Coordinates, k: int) -> dict[str, _Place]:
    ends = np.cumsum([0, *(p.size(k) for p in law.parameters)])
    return {
        p.name: _Place(np.arange(first, last), p.domain == "positive")
        for p, first, last in zip(law.parameters, ends[:-1], ends[1:], strict=True)
    }


def pull_back(
    slopes: list[Sensitivity], pull: jax.Array, bend: jax.Array, q: int
) -> tuple[jax.Array, jax.Array]:
    """Gradient (q,) and curvature (q, q) from what the objective makes of every cell.

        gradient = sum_cells pull * dloss/dz,   curvature = sum_cells bend * dloss/dz dloss/dz'

    Args:
        pull, bend: (mixtures, cells).
    """
    slopes = sorted(slopes, key=lambda s: s.columns[0])
    pairs = [(a, b) for a in range(len(slopes)) for b in range(a + 1)]
    first = _within_mixtures(pull, [s.of_scale for s in slopes])
    second = dict(
        zip(
            pairs,
            _within_mixtures(bend, [slopes[a].of_scale * slopes[b].of_scale for a, b in pairs]),
            strict=True,
        )
    )
    rows = [jnp.broadcast_to(s.of_mixture, (len(pull), len(s.columns))) for s in slopes]
    blocks = {(a, b): rows[a].T @ (second[a, b] * rows[b]) for a, b in pairs}
    blocks |= {(b, a): block.T for (a, b), block in blocks.items()}
    grads = [jnp.sum(m * row, axis=0) for m, row in zip(first, rows, strict=True)]
    every = range(len(slopes))
    grad, curvature = (
        jnp.concatenate(grads),
        jnp.concatenate(
            [jnp.concatenate([blocks[a, b] for b in every], axis=1) for a in every], axis=0
        ),
    )
    columns = np.concatenate([s.columns for s in slopes])
    if np.array_equal(columns, np.arange(q)):
        return grad, curvature
    # Parameters that several coefficients share, or none reads: added up where they belong, which
    # is slower.
    return jnp.zeros(q, grad.dtype).at[columns].add(grad), jnp.zeros((q, q), grad.dtype).at[
        np.ix_(columns, columns)
    ].add(curvature)


def _within_mixtures(of_cells: jax.Array, of_scale: list[jax.Array]) -> list[jax.Array]:
    """Sums over the cells of each mixture (mixtures, 1) of of_cells (mixtures, cells) times each of
    of_scale (1 or mixtures, cells)."""
    if len(of_cells) > 1 and all(len(scale) == 1 for scale in of_scale):
        sums = of_cells @ jnp.concatenate(of_scale, axis=0).T
        return [sums[:, i : i + 1] for i in range(len(of_scale))]
    return [jnp.sum(of_cells * scale, axis=1, keepdims=True) for scale in of_scale]
