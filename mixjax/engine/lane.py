"""ONE search: a state machine advanced by `tick`, which spends one evaluation whatever the lane is doing.

Trying a step, shrinking it, beginning anew: all happen inside a tick, so that a batch of lanes never waits
for its slowest line search or its slowest convergence. Every few ticks a `pause` judges whether the local
minimisation has ended, and hops: it costs as much as a third of a tick and is rarely of use.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mixjax.engine import hop as hopping
from mixjax.engine.direction import Memory, Move, advance, make_memory
from mixjax.engine.linesearch import Trial, line_search
from mixjax.numerics import dot

Objective = Callable[[jax.Array, Any], tuple[jax.Array, jax.Array]]

FIRST_LENGTH = 0.1  # of the first step of a local minimisation, in z


class Budget(NamedTuple):
    """When a lane stops; data, so that another budget recompiles nothing.

    hops (): local minimisations after the first.
    steps (): accepted steps at most in one local minimisation.
    decrease (), window (): a local minimisation ends when `window` steps, or a few more, lowered f by less than this share.
    """

    hops: jax.Array
    steps: jax.Array
    decrease: jax.Array
    window: jax.Array


class LaneState(NamedTuple):
    """Exactly what the next tick needs.

    # the accepted point: z, grad (q,), f (); f is infinite where a local minimisation begins
    # the step being tried: direction (q,), slope, step_length, low, high, trials ()
    # curvature: memory
    # the local minimisation: steps (), mark () = f when `marked` () steps were made, first () = no pair yet,
    #   failed () = it cannot go on
    # basin hopping: kept_z, best_z (q,), kept_f, best_f, hop_size, hop ()
    # who and how far: key, evaluations, done ()
    """

    z: jax.Array
    f: jax.Array
    grad: jax.Array
    direction: jax.Array
    slope: jax.Array
    step_length: jax.Array
    low: jax.Array
    high: jax.Array
    trials: jax.Array
    memory: Memory
    steps: jax.Array
    mark: jax.Array
    marked: jax.Array
    first: jax.Array
    failed: jax.Array
    kept_z: jax.Array
    kept_f: jax.Array
    best_z: jax.Array
    best_f: jax.Array
    hop_size: jax.Array
    hop: jax.Array
    key: jax.Array
    evaluations: jax.Array
    done: jax.Array


def init(z: jax.Array, key: jax.Array) -> LaneState:
    """A lane about to begin at z (q,); `key` is folded from what the lane is, never from its place in a batch."""
    zero, infinite = jnp.zeros((), z.dtype), jnp.full((), jnp.inf, z.dtype)
    count = jnp.zeros((), jnp.int32)
    return LaneState(
        z=z, f=infinite, grad=jnp.zeros_like(z),
        direction=jnp.zeros_like(z), slope=zero, step_length=zero, low=zero, high=infinite, trials=count,
        memory=make_memory(z.shape[0], z.dtype),
        steps=count, mark=infinite, marked=count, first=jnp.array(True), failed=jnp.array(False),
        kept_z=z, kept_f=infinite, best_z=z, best_f=infinite, hop_size=jnp.full((), hopping.FIRST_SIZE, z.dtype), hop=count,
        key=key, evaluations=count, done=jnp.array(False),
    )  # fmt: skip


def tick(state: LaneState, objective: Objective, data: Any, number: jax.Array) -> LaneState:
    """One evaluation, and the step that follows from it.

    Args:
        objective: (z (q,), data) -> value (), gradient (q,).
        number: of the tick, the same for all lanes of a batch (it picks the slot of the history).
    """
    z = state.z + state.step_length * state.direction
    # A law with constants of its own may compute in double where the search is single.
    f, grad = (x.astype(z.dtype) for x in objective(z, data))
    fresh = jnp.isinf(state.f)
    idle = state.done | state.failed
    finite = jnp.isfinite(f) & jnp.all(jnp.isfinite(grad))
    grad = jnp.where(finite, grad, 0.0)
    f = jnp.where(finite, f, jnp.inf)
    verdict = line_search(Trial(f, dot(grad, state.direction), state.f, state.slope, state.step_length, state.low, state.high, state.trials))
    moved = jnp.where(fresh, finite, verdict.accepted) & ~idle
    stuck = jnp.where(fresh, ~finite, verdict.failed)
    stepped = _step(state, z, f, grad, moved, fresh, number)
    waiting = state._replace(step_length=verdict.step_length, low=verdict.low, high=verdict.high, trials=state.trials + 1)
    # `waiting` shares the memory of `stepped`: without a pair it is the one before, written in place.
    now = _choose(moved, stepped, waiting._replace(memory=stepped.memory))
    return now._replace(failed=state.failed | stuck, evaluations=state.evaluations + jnp.where(idle, 0, 1))


def pause(state: LaneState, budget: Budget) -> LaneState:
    """The lane as it is, or after a hop where its local minimisation has ended or cannot go on."""
    steps = state.steps - state.marked
    due = steps >= budget.window
    # The share is per window: a pause may come some steps later.
    slow = state.mark - state.f <= budget.decrease * jnp.abs(state.f) * (steps / budget.window).astype(state.f.dtype)
    settled = (due & slow) | (state.steps >= budget.steps) | (state.slope == 0)
    ended = (state.failed | (settled & ~jnp.isinf(state.f))) & ~state.done
    marked = state._replace(mark=jnp.where(due, state.f, state.mark), marked=jnp.where(due, state.steps, state.marked))
    return _choose(ended, _hop(marked, budget), marked)


def _choose(condition: jax.Array, yes: LaneState, no: LaneState) -> LaneState:
    """Leaf by leaf; leaves that are the same object are left alone."""
    return jax.tree.map(lambda a, b: a if a is b else jnp.where(condition, a, b), yes, no)


def _step(state: LaneState, z: jax.Array, f: jax.Array, grad: jax.Array, moved: jax.Array, fresh: jax.Array, number: jax.Array) -> LaneState:
    """The lane at its newly accepted point, with a direction to go on."""
    z_diff = jnp.where(moved, z - state.z, 0.0)
    move = Move(number, grad, state.grad, state.direction, z_diff, moved, fresh, state.first, jnp.asarray(FIRST_LENGTH, z.dtype))
    memory, direction = advance(state.memory, move)
    slope = dot(grad, direction)
    downhill = slope < 0  # false also for a non-finite slope
    direction = jnp.where(downhill, direction, -grad)
    return state._replace(
        z=z, f=f, grad=grad,
        direction=direction, slope=jnp.where(downhill, slope, -dot(grad, grad)),
        step_length=jnp.ones_like(f), low=jnp.zeros_like(f), high=jnp.full_like(f, jnp.inf), trials=jnp.zeros_like(state.trials),
        memory=memory,
        steps=jnp.where(fresh, 0, state.steps + 1), first=fresh,
    )  # fmt: skip


def _hop(state: LaneState, budget: Budget) -> LaneState:
    """The lane after a local minimisation: Metropolis, best so far, and a fresh point to begin from."""
    luck, noise = hopping.draw(jax.random.fold_in(state.key, state.hop), state.z.shape[0], state.z.dtype)
    accepted = hopping.accept(luck, state.f, state.kept_f)
    kept_z, kept_f = jnp.where(accepted, state.z, state.kept_z), jnp.where(accepted, state.f, state.kept_f)
    better = state.f < state.best_f
    hop_size = jnp.where(state.hop == 0, state.hop_size, hopping.adapt(state.hop_size, accepted))
    done = state.hop >= budget.hops
    zero = jnp.zeros_like(state.f)
    return state._replace(
        z=jnp.where(done, kept_z, hopping.perturb(noise, kept_z, hop_size)), f=jnp.where(done, kept_f, jnp.inf),
        direction=jnp.zeros_like(state.z), slope=zero, step_length=zero, low=zero, high=jnp.full_like(zero, jnp.inf), trials=jnp.zeros_like(state.trials),
        steps=jnp.zeros_like(state.steps), mark=jnp.full_like(zero, jnp.inf), marked=jnp.zeros_like(state.steps), first=jnp.array(True),
        failed=jnp.array(False),
        kept_z=kept_z, kept_f=kept_f, best_z=jnp.where(better, state.z, state.best_z), best_f=jnp.where(better, state.f, state.best_f),
        hop_size=hop_size, hop=state.hop + 1, done=done,
    )  # fmt: skip
