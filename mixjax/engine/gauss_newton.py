"""Gauss-Newton descent of ONE lane, for objectives that give a curvature (q, q) beside value and
gradient, `objective.curved(z, data)`: Levenberg's and Marquardt's damped steps, one trial per tick.

A step solves

    (G + damping * diag(diag(G) + RIDGE max diag(G))) step = -grad

where it was refused, the same with more damping is tried next. On the laws of the paper it needs a
tenth of the evaluations of quasi-Newton descent (benchmarks/NOTES.md, "Gauss-Newton"): the Huber
loss of nearly all rows is straight at delta = 1e-3, so that gradients say little about curvature,
while the curvature of its majoriser is at hand.

Source: Marquardt 1963; Nocedal and Wright 2006, section 10.3; the weights of the rows: Holland and
Welsch 1977.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mixjax.engine.lane import Decision, Descent, Evaluation, Trial
from mixjax.numerics import dot

FIRST_DAMPING = 1e-2
LESS, MORE = 0.3, 4.0  # damping after a step that was taken, and after one that was refused
OF_NOISE = 0.1  # of the share of the objective that is taken for noise; see `least_damping`
SMALLEST, LARGEST = 1e-12, 1e6
# Floor of the damped diagonal, as a share of its largest entry: parameters that nothing depends on
# stay put.
RIDGE = 1e-3
LONGEST = 2.0  # largest entry of a step, in z
MAX_REFUSED = 12  # steps refused in a row, after which the local minimisation has ended


class GaussNewtonState(NamedTuple):
    """The step being tried (q,), curvature (q, q) at the lane's point, damping (), and steps
    refused in a row ()."""

    step: jax.Array
    curvature: jax.Array
    damping: jax.Array
    refused: jax.Array


def evaluate(objective: Any, z: jax.Array, data: Any) -> Evaluation:
    """Value, gradient and curvature."""
    return Evaluation(*objective.curved(z, data))


def init(q: int, dtype: Any) -> GaussNewtonState:
    """Nothing known."""
    step, curvature = jnp.zeros(q, dtype), jnp.eye(q, dtype=dtype)
    damping, refused = jnp.full((), FIRST_DAMPING, dtype), jnp.zeros((), jnp.int32)
    return GaussNewtonState(step, curvature, damping, refused)


def advance(state: GaussNewtonState, trial: Trial) -> Decision:
    """Accept the step if it lowers f, and solve for the next with less damping; else with more."""
    f, grad, curvature = trial.evaluation
    finite = jnp.isfinite(f) & jnp.all(jnp.isfinite(curvature))
    lower = jnp.where(trial.fresh, finite, finite & (f < trial.last_f))
    accepted = lower & ~trial.idle
    curvature = jnp.where(accepted, curvature, state.curvature)
    damping = jnp.clip(
        state.damping * jnp.where(lower, LESS, MORE),
        least_damping(jnp.where(accepted, f, trial.last_f), curvature),
        LARGEST,
    )
    damping = jnp.where(trial.fresh, FIRST_DAMPING, damping).astype(grad.dtype)
    refused = jnp.where(lower, 0, state.refused + 1)
    step = damped_step(jnp.where(accepted, grad, trial.last_grad), curvature, damping)
    failed = jnp.where(trial.fresh, ~finite, refused >= MAX_REFUSED)
    return Decision(GaussNewtonState(step, curvature, damping, refused), accepted, failed)


def least_damping(f: jax.Array, curvature: jax.Array) -> jax.Array:
    """The damping () below which steps would fit noise: in proportion to the objective, as a share
    of the largest diagonal entry of its curvature.

    That share is about the squared relative residual. Where runs are noise-free it goes to 0 and
    convergence stays fast; elsewhere parameters that nothing pins down do not run off.

    Source: damping in proportion to the squared residual, Yamashita and Fukushima 2001; Fan and
    Yuan 2005.
    """
    share = jnp.abs(f) / jnp.maximum(jnp.max(jnp.diagonal(curvature)), jnp.finfo(f.dtype).tiny)
    return jnp.where(jnp.isfinite(share), jnp.clip(OF_NOISE * share, SMALLEST, LARGEST), SMALLEST)


def damped_step(grad: jax.Array, curvature: jax.Array, damping: jax.Array) -> jax.Array:
    """The step (q,) of the damped quadratic model, at most LONGEST in any entry; 0 where the model
    has no minimum in this precision."""
    diagonal = jnp.diagonal(curvature)
    floor = jnp.maximum(RIDGE * jnp.max(diagonal), jnp.finfo(grad.dtype).tiny)
    step = -solve_positive(curvature + damping * jnp.diag(diagonal + floor), grad)
    downhill = jnp.all(jnp.isfinite(step)) & (dot(step, grad) < 0)
    step = jnp.where(downhill, step, 0.0)
    return step * jnp.minimum(1.0, LONGEST / jnp.maximum(jnp.max(jnp.abs(step)), LONGEST))


def restart(state: GaussNewtonState) -> GaussNewtonState:
    """Forget the step being tried; the curvature is overwritten at the first point."""
    return state._replace(
        step=jnp.zeros_like(state.step),
        damping=jnp.full_like(state.damping, FIRST_DAMPING),
        refused=jnp.zeros_like(state.refused),
    )


GAUSS_NEWTON = Descent(evaluate, init, lambda state: state.step, advance, restart, pause=4)

# --- Positive definite systems -------------------------------------------------------------------
# Departure from `jnp.linalg`: on a CPU it calls LAPACK matrix by matrix, no faster at these sizes,
# and two programs that run side by side there can wait for each other's threads for ever (seen with
# jax 0.10.2). Plain arithmetic batches along a last axis of lanes.

# Rows eliminated at once: of 4, 8, 12 and 16 the fastest for q = 15 to 47 (benchmarks/NOTES.md,
# "Gauss-Newton").
BLOCK = 8


def solve_positive(matrix: jax.Array, right: jax.Array) -> jax.Array:
    """x (q,) with matrix x = right, by block elimination without pivoting (Golub and Van Loan 2013,
    section 4.2); not finite where the matrix (q, q) is not positive definite."""
    left = jnp.concatenate([matrix, right[:, None]], axis=1)
    eliminated = []
    while left.shape[0]:
        size = min(BLOCK, left.shape[0])
        rows = invert(left[:size, :size]) @ left[:size, size:]
        eliminated.append(rows)
        left = left[size:, size:] - left[size:, :size] @ rows
    x = jnp.zeros(0, right.dtype)
    for rows in reversed(eliminated):
        x = jnp.concatenate([rows[:, -1] - rows[:, :-1] @ x if len(x) else rows[:, -1], x])
    return x


def invert(block: jax.Array) -> jax.Array:
    """The inverse (s, s) of a small positive definite matrix, by Gauss-Jordan elimination."""
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
