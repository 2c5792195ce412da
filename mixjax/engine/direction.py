"""Which way a lane goes: quasi-Newton directions from steps and gradient differences, for ONE lane.

Two memories of the same curvature, one signature. `Dense` holds the whole inverse Hessian (BFGS,
that is L-BFGS that never forgets): one matrix-vector product and one rank-two update, cheapest for
small q. `Pairs` holds the last `history` pairs (L-BFGS, two loops). `make_memory` chooses by q.

Departure from SciPy: all lanes write their pair into the same slot in a tick, and a lane that has
none writes one of weight 0. The buffer is updated in place, with no copy and no scatter.

Notation (Nocedal and Wright 2006): z_diff is s_k, grad_diff is y_k, inverse_curvature is rho_k.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from mixjax.numerics import dot

# Largest q for the dense memory, and the pairs kept beyond (benchmarks/NOTES.md, "direction").
DENSE_LIMIT = 96
HISTORY = 40


class Dense(NamedTuple):
    """inverse_hessian (q, q)."""

    inverse_hessian: jax.Array


class Pairs(NamedTuple):
    """The last steps and gradient differences."""

    z_diff: jax.Array  # (history, q)
    grad_diff: jax.Array  # (history, q)
    inverse_curvature: jax.Array  # (history,), 0: no pair
    scale: jax.Array  # (), of the first Hessian


Memory = Dense | Pairs


class Update(NamedTuple):
    """What happened to a lane in this tick."""

    # Number of the tick (), the same for all lanes.
    tick: jax.Array
    # (q,); z_diff is 0 unless a step was accepted.
    grad: jax.Array
    last_grad: jax.Array
    last_direction: jax.Array
    z_diff: jax.Array
    # (): a step was accepted; a local minimisation begins here; this is its first step.
    accepted: jax.Array
    fresh: jax.Array
    first: jax.Array
    # Length of the first step, ().
    first_length: jax.Array


def make_memory(q: int, dtype: jnp.dtype) -> Memory:
    """An empty memory for q parameters, of the kind that is cheaper there."""
    if q <= DENSE_LIMIT:
        return Dense(jnp.eye(q, dtype=dtype))
    empty = jnp.zeros((HISTORY, q), dtype)
    return Pairs(empty, empty, jnp.zeros(HISTORY, dtype), jnp.ones((), dtype))


def next_direction(memory: Memory, update: Update) -> tuple[Memory, jax.Array]:
    """The memory after an update, and the direction -H grad (q,) to go from there.

    A fresh lane forgets everything and takes steepest descent of length `first_length`.
    """
    if isinstance(memory, Dense):
        return _advance_dense(memory, update)
    return _advance_pairs(memory, update)


def _curvature(update: Update) -> tuple[jax.Array, jax.Array, jax.Array]:
    """grad_diff (q,), inverse_curvature () (0 unless the pair is of use), and z_diff.grad_diff /
    |grad_diff|^2 ()."""
    grad_diff = jnp.where(update.accepted & ~update.fresh, update.grad - update.last_grad, 0.0)
    curvature, norm = dot(update.z_diff, grad_diff), dot(grad_diff, grad_diff)
    # Cautious update: a pair of no or negative curvature would spoil positive definiteness.
    useful = (
        update.accepted
        & ~update.fresh
        & (curvature > 1e-10 * jnp.sqrt(norm * dot(update.z_diff, update.z_diff)))
        & (norm > 0)
    )
    safe = jnp.where(useful, curvature, 1.0)
    return (
        grad_diff,
        jnp.where(useful, 1.0 / safe, 0.0),
        jnp.where(useful, safe / jnp.where(useful, norm, 1.0), 0.0),
    )


def _steepest_scale(update: Update) -> jax.Array:
    """The scale of the identity that makes the first step `first_length` long."""
    norm = jnp.sqrt(dot(update.grad, update.grad))
    return update.first_length / jnp.where(norm > 0, norm, 1.0)


def _advance_dense(memory: Dense, update: Update) -> tuple[Dense, jax.Array]:
    """BFGS update of the inverse Hessian H (Nocedal and Wright, eq. 6.17), expanded:

        H+ = H - rho (s (H y)^T + (H y) s^T) + rho (rho y.H y + 1) s s^T

    Needs H y = H grad - H last_grad = H grad + last_direction: one product with H per tick.
    """
    H, s = memory.inverse_hessian, update.z_diff
    grad_diff, rho, scale = _curvature(update)
    # The first pair sets the scale of H = h0 I (eq. 6.20): a factor on everything that was computed
    # with h0.
    keep = jnp.where(update.first & (rho > 0), scale / H[0, 0], 1.0)
    H_grad = keep * (jnp.sum(H * update.grad[None, :], axis=1))
    H_y = H_grad + keep * update.last_direction
    ss = rho * (rho * dot(grad_diff, H_y) + 1.0)
    direction = -(
        H_grad
        - rho * (s * dot(H_y, update.grad) + H_y * dot(s, update.grad))
        + ss * s * dot(s, update.grad)
    )
    keep, identity = (
        jnp.where(update.fresh, 0.0, keep),
        jnp.where(update.fresh, _steepest_scale(update), 0.0),
    )
    cross = rho * H_y
    updated = (
        keep * H
        + identity * jnp.eye(len(s), dtype=H.dtype)
        + (ss * s - cross)[:, None] * s[None, :]
        - s[:, None] * cross[None, :]
    )
    return Dense(updated), jnp.where(update.fresh, -identity * update.grad, direction)


def _advance_pairs(memory: Pairs, update: Update) -> tuple[Pairs, jax.Array]:
    """L-BFGS: write the pair into this tick's slot, then the two loops (Nocedal and Wright,
    algorithm 7.4)."""
    history = memory.inverse_curvature.shape[0]
    grad_diff, rho, scale = _curvature(update)
    slot = update.tick % history
    forget = jnp.where(update.fresh, 0.0, 1.0)
    memory = Pairs(
        jax.lax.dynamic_update_index_in_dim(memory.z_diff, update.z_diff, slot, 0),
        jax.lax.dynamic_update_index_in_dim(memory.grad_diff, grad_diff, slot, 0),
        jax.lax.dynamic_update_index_in_dim(forget * memory.inverse_curvature, rho, slot, 0),
        jnp.where(update.fresh, _steepest_scale(update), jnp.where(rho > 0, scale, memory.scale)),
    )

    def newest_first(
        i: jax.Array, carry: tuple[jax.Array, jax.Array]
    ) -> tuple[jax.Array, jax.Array]:
        descent, weights = carry
        at = (slot - i) % history
        weight = memory.inverse_curvature[at] * dot(memory.z_diff[at], descent)
        return descent - weight * memory.grad_diff[at], jax.lax.dynamic_update_index_in_dim(
            weights, weight, at, 0
        )

    def oldest_first(
        i: jax.Array, carry: tuple[jax.Array, jax.Array]
    ) -> tuple[jax.Array, jax.Array]:
        descent, weights = carry
        at = (slot + 1 + i) % history
        return descent + memory.z_diff[at] * (
            weights[at] - memory.inverse_curvature[at] * dot(memory.grad_diff[at], descent)
        ), weights

    descent, weights = jax.lax.fori_loop(
        0, history, newest_first, (update.grad, jnp.zeros_like(memory.inverse_curvature))
    )
    descent, _ = jax.lax.fori_loop(0, history, oldest_first, (memory.scale * descent, weights))
    return memory, -descent
