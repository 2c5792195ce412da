"""Symmetric positive definite systems of ONE lane, solved with plain arithmetic that batches along
a last axis of lanes.

Departure from `jnp.linalg`: on a CPU it calls LAPACK matrix by matrix, no faster at these sizes,
and two programs that run side by side there can wait for each other's threads for ever (seen with
jax 0.10.2).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

# Rows eliminated at once: of 4, 8, 12 and 16 the fastest for q = 15 to 47 (benchmarks/NOTES.md,
# "Gauss-Newton").
BLOCK = 8


def solve_positive(matrix: jax.Array, right: jax.Array) -> jax.Array:
    """x (q,) with matrix x = right, by block elimination without pivoting; not finite where the
    matrix (q, q) is not positive definite.

    Source: Golub and Van Loan 2013, section 4.2 (no pivoting is needed for positive definite
    matrices).
    """
    left, q = jnp.concatenate([matrix, right[:, None]], axis=1), len(right)
    eliminated = []
    while left.shape[0]:
        size = min(BLOCK, left.shape[0])
        rows = invert(left[:size, :size]) @ left[:size, size:]
        eliminated.append(rows)
        left = left[size:, size:] - left[size:, :size] @ rows
    x = jnp.zeros(0, right.dtype)
    for rows in reversed(eliminated):
        x = jnp.concatenate([rows[:, -1] - rows[:, :-1] @ x if len(x) else rows[:, -1], x])
    assert len(x) == q
    return x


def invert(block: jax.Array) -> jax.Array:
    """The inverse (s, s) of a small positive definite matrix, by Gauss-Jordan elimination in
    place."""
    every = jnp.arange(len(block))

    def eliminate(j: jax.Array, a: jax.Array) -> jax.Array:
        row, column = (jax.lax.dynamic_index_in_dim(a, j, axis, keepdims=False) for axis in (0, 1))
        pivot = 1.0 / jax.lax.dynamic_index_in_dim(row, j, 0, keepdims=False)
        at = every == j
        others = a - column[:, None] * (row * pivot)[None, :]
        of_row = jnp.where(at, pivot, row * pivot)
        return jnp.where(
            at[:, None], of_row[None, :], jnp.where(at[None, :], (-column * pivot)[:, None], others)
        )

    return jax.lax.fori_loop(0, len(block), eliminate, block)
