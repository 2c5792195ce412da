"""Quasi-Newton descent of ONE lane, for any objective that gives a value and a gradient: directions
from past gradients, lengths from a weak Wolfe search, one trial per tick.

Directions come from one of two memories of the same curvature. `Dense` holds the whole inverse
Hessian (BFGS, that is L-BFGS that never forgets): one matrix-vector product and one rank-two
update, cheapest for small q. `Pairs` holds the last `HISTORY` pairs (L-BFGS, two loops). Departure
from SciPy: all lanes write their pair into the same slot in a tick, and a lane that has none writes
one of weight 0, so that the buffer is updated in place, with no copy and no scatter. Notation
(Nocedal and Wright 2006): z_diff is s_k, grad_diff is y_k, inverse_curvature is rho_k.

Lengths are bracketed by bisection and doubling (Lewis and Overton 2013), which suits the nearly
non-smooth valleys of a Huber loss with small delta: no interpolation is trusted across a kink.
Departure from SciPy (More-Thuente, strong Wolfe): most trials are accepted at the first length, so
that one evaluation is one step.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mixjax.engine.lane import Decision, Descent, Evaluation, Trial, choose
from mixjax.numerics import dot

FIRST_LENGTH = 0.1  # of the first step of a local minimisation, in z

# --- Directions ----------------------------------------------------------------------------------

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
_Loop = tuple[jax.Array, jax.Array]  # what the two loops carry: descent (q,), weights (history,)


class Update(NamedTuple):
    """What happened to a lane in this tick."""

    tick: jax.Array  # its number (), the same for all lanes
    grad: jax.Array  # (q,), as the next three
    last_grad: jax.Array
    last_direction: jax.Array
    z_diff: jax.Array  # 0 unless a step was accepted
    accepted: jax.Array  # (), as the next two: a step was
    fresh: jax.Array  # a local minimisation begins here
    first: jax.Array  # this is its first step
    first_length: jax.Array  # (), of that step


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
    """grad_diff (q,), inverse_curvature () (0: of no use), z_diff.grad_diff / |grad_diff|^2 ()."""
    grad_diff = jnp.where(update.accepted & ~update.fresh, update.grad - update.last_grad, 0.0)
    curvature, norm = dot(update.z_diff, grad_diff), dot(grad_diff, grad_diff)
    # Cautious update: a pair of no or negative curvature would spoil positive definiteness.
    useful = update.accepted & ~update.fresh
    useful &= curvature > 1e-10 * jnp.sqrt(norm * dot(update.z_diff, update.z_diff))
    useful &= norm > 0
    safe = jnp.where(useful, curvature, 1.0)
    rho = jnp.where(useful, 1.0 / safe, 0.0)
    return grad_diff, rho, jnp.where(useful, safe / jnp.where(useful, norm, 1.0), 0.0)


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
    keep = jnp.where(update.fresh, 0.0, keep)
    identity = jnp.where(update.fresh, _steepest_scale(update), 0.0)
    cross = rho * H_y
    updated = (
        keep * H
        + identity * jnp.eye(len(s), dtype=H.dtype)
        + (ss * s - cross)[:, None] * s[None, :]
        - s[:, None] * cross[None, :]
    )
    return Dense(updated), jnp.where(update.fresh, -identity * update.grad, direction)


def _advance_pairs(memory: Pairs, update: Update) -> tuple[Pairs, jax.Array]:
    """L-BFGS: the pair into this tick's slot, then two loops (Nocedal and Wright, alg. 7.4)."""
    history = memory.inverse_curvature.shape[0]
    grad_diff, rho, scale = _curvature(update)
    slot = update.tick % history
    forget = jnp.where(update.fresh, 0.0, 1.0)
    write = jax.lax.dynamic_update_index_in_dim
    memory = Pairs(
        write(memory.z_diff, update.z_diff, slot, 0),
        write(memory.grad_diff, grad_diff, slot, 0),
        write(forget * memory.inverse_curvature, rho, slot, 0),
        jnp.where(update.fresh, _steepest_scale(update), jnp.where(rho > 0, scale, memory.scale)),
    )

    def newest_first(i: jax.Array, carry: _Loop) -> _Loop:
        descent, weights = carry
        at = (slot - i) % history
        weight = memory.inverse_curvature[at] * dot(memory.z_diff[at], descent)
        return descent - weight * memory.grad_diff[at], write(weights, weight, at, 0)

    def oldest_first(i: jax.Array, carry: _Loop) -> _Loop:
        descent, weights = carry
        at = (slot + 1 + i) % history
        weight = memory.inverse_curvature[at] * dot(memory.grad_diff[at], descent)
        return descent + memory.z_diff[at] * (weights[at] - weight), weights

    begin = update.grad, jnp.zeros_like(memory.inverse_curvature)
    descent, weights = jax.lax.fori_loop(0, history, newest_first, begin)
    descent, _ = jax.lax.fori_loop(0, history, oldest_first, (memory.scale * descent, weights))
    return memory, -descent


# --- Lengths -------------------------------------------------------------------------------------

DECREASE = 1e-4  # Armijo: share of the predicted decrease that is enough
CURVATURE = 0.9  # Wolfe: share of the slope that must be gone
MAX_TRIALS = 20


class LineTrial(NamedTuple):
    """One trial at step_length (), f and slope there, and at 0; bracket; trials so far."""

    f: jax.Array
    slope: jax.Array
    f0: jax.Array
    slope0: jax.Array
    step_length: jax.Array
    low: jax.Array
    high: jax.Array
    trials: jax.Array


class LineDecision(NamedTuple):
    """accepted, failed (): bool; otherwise step_length, low, high () of the next trial."""

    accepted: jax.Array
    failed: jax.Array
    step_length: jax.Array
    low: jax.Array
    high: jax.Array


def line_search(trial: LineTrial) -> LineDecision:
    """Judge a trial: accept it, or say where to try next, or give up after `MAX_TRIALS`.

    A non-finite f is a trial that went too far. A trial that decreases enough but is still too
    steep is doubled, and accepted as it is once the bracket is closed or the trials are used up.
    """
    finite = jnp.isfinite(trial.f) & jnp.isfinite(trial.slope)
    lower = finite & (trial.f <= trial.f0 + DECREASE * trial.step_length * trial.slope0)
    flat = trial.slope >= CURVATURE * trial.slope0
    last = trial.trials + 1 >= MAX_TRIALS
    accepted = lower & (flat | last)
    low = jnp.where(lower, trial.step_length, trial.low)
    high = jnp.where(lower, trial.high, trial.step_length)
    inside = jnp.where(finite, _inside(trial, low, high), low + 0.1 * (high - low))
    step_length = jnp.where(jnp.isinf(high), 2.0 * trial.step_length, inside)
    return LineDecision(accepted, last & ~accepted, step_length, low, high)


def _inside(trial: LineTrial, low: jax.Array, high: jax.Array) -> jax.Array:
    """The next length: the parabola's minimum after a first overshoot, else the middle."""
    drop = trial.f - trial.f0 - trial.step_length * trial.slope0
    parabola = -trial.slope0 * trial.step_length**2 / (2.0 * jnp.where(drop > 0, drop, 1.0))
    usable = (low == 0.0) & (drop > 0) & jnp.isfinite(parabola)
    return jnp.where(usable, jnp.clip(parabola, 0.1 * high, 0.6 * high), 0.5 * (low + high))


# --- The descent ---------------------------------------------------------------------------------


class QuasiNewtonState(NamedTuple):
    """The step being tried, and what is remembered of curvature."""

    direction: jax.Array  # (q,)
    slope: jax.Array  # (), as all that follow but the memory
    step_length: jax.Array
    low: jax.Array  # bracket of step_length
    high: jax.Array
    trials: jax.Array  # so far
    memory: Memory
    first: jax.Array  # no pair yet


def evaluate(objective: Any, z: jax.Array, data: Any) -> Evaluation:
    """Value and gradient."""
    f, grad = objective(z, data)
    return Evaluation(f, grad, jnp.zeros((0, 0), z.dtype))


def init(q: int, dtype: Any) -> QuasiNewtonState:
    """Nothing known."""
    zero, direction = jnp.zeros((), dtype), jnp.zeros(q, dtype)
    inf, trials = jnp.full_like(zero, jnp.inf), jnp.zeros((), jnp.int32)
    memory, first = make_memory(q, dtype), jnp.array(True)
    return QuasiNewtonState(direction, zero, zero, zero, inf, trials, memory, first)


def step(state: QuasiNewtonState) -> jax.Array:
    """The trial along the direction (q,)."""
    return state.step_length * state.direction


def advance(state: QuasiNewtonState, trial: Trial) -> Decision:
    """Accept the trial and take a new direction, or try another length along the old one."""
    f, grad, _ = trial.evaluation
    slope, (low, high, trials) = dot(grad, state.direction), (state.low, state.high, state.trials)
    line = line_search(
        LineTrial(f, slope, trial.last_f, state.slope, state.step_length, low, high, trials)
    )
    finite = jnp.isfinite(f)
    accepted = jnp.where(trial.fresh, finite, line.accepted) & ~trial.idle
    redirected = _redirected(state, trial, accepted)
    # Both share a memory: without a pair it is the one before, written in place.
    waiting = state._replace(
        step_length=line.step_length,
        low=line.low,
        high=line.high,
        trials=trials + 1,
        memory=redirected.memory,
    )
    onward = choose(accepted, redirected, waiting)
    return Decision(onward, accepted, jnp.where(trial.fresh, ~finite, line.failed))


def _redirected(state: QuasiNewtonState, trial: Trial, accepted: jax.Array) -> QuasiNewtonState:
    """The state at a newly accepted point, with a direction to go on."""
    grad = trial.evaluation.grad
    update = Update(
        tick=trial.tick,
        grad=grad,
        last_grad=trial.last_grad,
        last_direction=state.direction,
        z_diff=jnp.where(accepted, trial.z - trial.last_z, 0.0),
        accepted=accepted,
        fresh=trial.fresh,
        first=state.first,
        first_length=jnp.asarray(FIRST_LENGTH, grad.dtype),
    )
    memory, direction = next_direction(state.memory, update)
    slope = dot(grad, direction)
    downhill = slope < 0  # false also for a non-finite slope
    one = jnp.ones_like(slope)
    return QuasiNewtonState(
        direction=jnp.where(downhill, direction, -grad),
        slope=jnp.where(downhill, slope, -dot(grad, grad)),
        step_length=one,
        low=jnp.zeros_like(one),
        high=jnp.full_like(one, jnp.inf),
        trials=jnp.zeros_like(state.trials),
        memory=memory,
        first=trial.fresh,
    )


def restart(state: QuasiNewtonState) -> QuasiNewtonState:
    """Forget the step being tried; the memory is overwritten when the first point has been seen."""
    fresh = init(len(state.direction), state.direction.dtype)
    return fresh._replace(memory=state.memory)


QUASI_NEWTON = Descent(evaluate, init, step, advance, restart, pause=8)
