"""Quasi-Newton descent of ONE lane: directions from past gradients, lengths from a weak Wolfe
search, one trial per tick.

For any objective that gives a value and a gradient.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mixjax.engine.descent import Arrival, Descent, Seen, Verdict, choose
from mixjax.engine.direction import Memory, Move, advance, make_memory
from mixjax.engine.linesearch import Trial, line_search
from mixjax.numerics import dot

FIRST_LENGTH = 0.1  # of the first step of a local minimisation, in z


class State(NamedTuple):
    """Exactly what the next tick needs.

    # the step being tried: direction (q,), its slope, step_length, bracket (low, high), trials so
    far () # curvature: memory; first () = no pair yet
    """

    direction: jax.Array
    slope: jax.Array
    step_length: jax.Array
    low: jax.Array
    high: jax.Array
    trials: jax.Array
    memory: Memory
    first: jax.Array


def evaluate(objective: Any, z: jax.Array, data: Any) -> Seen:
    """Value and gradient."""
    f, grad = objective(z, data)
    return Seen(f, grad, None)


def init(q: int, dtype: Any) -> State:
    """Nothing known."""
    zero, count = jnp.zeros((), dtype), jnp.zeros((), jnp.int32)
    return State(
        jnp.zeros(q, dtype),
        zero,
        zero,
        zero,
        jnp.full_like(zero, jnp.inf),
        count,
        make_memory(q, dtype),
        jnp.array(True),
    )


def step(state: State) -> jax.Array:
    """The trial along the direction (q,)."""
    return state.step_length * state.direction


def go_on(state: State, at: Arrival) -> Verdict:
    """Take the trial and a new direction, or try another length along the old one."""
    f, grad = at.seen.f, at.seen.grad
    found = line_search(
        Trial(
            f,
            dot(grad, state.direction),
            at.last_f,
            state.slope,
            state.step_length,
            state.low,
            state.high,
            state.trials,
        )
    )
    finite = jnp.isfinite(f)
    moved = jnp.where(at.fresh, finite, found.accepted) & ~at.idle
    stepped = _redirected(state, at, moved)
    waiting = state._replace(
        step_length=found.step_length, low=found.low, high=found.high, trials=state.trials + 1
    )
    # `waiting` shares the memory of `stepped`: without a pair it is the one before, written in
    # place.
    return Verdict(
        choose(moved, stepped, waiting._replace(memory=stepped.memory)),
        moved,
        jnp.where(at.fresh, ~finite, found.failed),
    )


def _redirected(state: State, at: Arrival, moved: jax.Array) -> State:
    """The state at a newly accepted point, with a direction to go on."""
    grad = at.seen.grad
    z_diff = jnp.where(moved, at.z - at.last_z, 0.0)
    move = Move(
        at.tick,
        grad,
        at.last_grad,
        state.direction,
        z_diff,
        moved,
        at.fresh,
        state.first,
        jnp.asarray(FIRST_LENGTH, grad.dtype),
    )
    memory, direction = advance(state.memory, move)
    slope = dot(grad, direction)
    downhill = slope < 0  # false also for a non-finite slope
    one = jnp.ones_like(slope)
    return State(
        direction=jnp.where(downhill, direction, -grad),
        slope=jnp.where(downhill, slope, -dot(grad, grad)),
        step_length=one,
        low=jnp.zeros_like(one),
        high=jnp.full_like(one, jnp.inf),
        trials=jnp.zeros_like(state.trials),
        memory=memory,
        first=at.fresh,
    )


def restart(state: State) -> State:
    """Forget the step being tried; the memory is overwritten when the first point has been seen."""
    zero = jnp.zeros_like(state.slope)
    return state._replace(
        direction=jnp.zeros_like(state.direction),
        slope=zero,
        step_length=zero,
        low=zero,
        high=jnp.full_like(zero, jnp.inf),
        trials=jnp.zeros_like(state.trials),
        first=jnp.array(True),
    )


QUASI_NEWTON = Descent(evaluate, init, step, go_on, restart, pause=8)
