"""Quasi-Newton descent of ONE lane: directions from past gradients, lengths from a weak Wolfe
search, one trial per tick.

For any objective that gives a value and a gradient.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mixjax.engine.descent import Decision, Descent, Evaluation, Trial, choose
from mixjax.engine.direction import Memory, Update, make_memory, next_direction
from mixjax.engine.linesearch import LineTrial, line_search
from mixjax.numerics import dot

FIRST_LENGTH = 0.1  # of the first step of a local minimisation, in z


class QuasiNewtonState(NamedTuple):
    """Exactly what the next tick needs."""

    # The step being tried: direction (q,); its slope, step_length, bracket (low, high) and trials
    # so far ().
    direction: jax.Array
    slope: jax.Array
    step_length: jax.Array
    low: jax.Array
    high: jax.Array
    trials: jax.Array
    # Curvature: what is remembered; first () = no pair yet.
    memory: Memory
    first: jax.Array


def evaluate(objective: Any, z: jax.Array, data: Any) -> Evaluation:
    """Value and gradient."""
    f, grad = objective(z, data)
    return Evaluation(f, grad, jnp.zeros((0, 0), z.dtype))


def init(q: int, dtype: Any) -> QuasiNewtonState:
    """Nothing known."""
    zero = jnp.zeros((), dtype)
    return QuasiNewtonState(
        direction=jnp.zeros(q, dtype),
        slope=zero,
        step_length=zero,
        low=zero,
        high=jnp.full_like(zero, jnp.inf),
        trials=jnp.zeros((), jnp.int32),
        memory=make_memory(q, dtype),
        first=jnp.array(True),
    )


def step(state: QuasiNewtonState) -> jax.Array:
    """The trial along the direction (q,)."""
    return state.step_length * state.direction


def advance(state: QuasiNewtonState, trial: Trial) -> Decision:
    """Accept the trial and take a new direction, or try another length along the old one."""
    f, grad, _ = trial.evaluation
    line = line_search(
        LineTrial(
            f=f,
            slope=dot(grad, state.direction),
            f0=trial.last_f,
            slope0=state.slope,
            step_length=state.step_length,
            low=state.low,
            high=state.high,
            trials=state.trials,
        )
    )
    finite = jnp.isfinite(f)
    accepted = jnp.where(trial.fresh, finite, line.accepted) & ~trial.idle
    redirected = _redirected(state, trial, accepted)
    # Both share a memory: without a pair it is the one before, written in place.
    waiting = state._replace(
        step_length=line.step_length,
        low=line.low,
        high=line.high,
        trials=state.trials + 1,
        memory=redirected.memory,
    )
    return Decision(
        choose(accepted, redirected, waiting),
        accepted,
        jnp.where(trial.fresh, ~finite, line.failed),
    )


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
