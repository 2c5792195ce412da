"""ONE search: a state machine advanced by `tick`, which spends one evaluation whatever the lane is
doing.

Trying a step, shrinking it, beginning anew: all happen inside a tick, so that a batch of lanes
never waits for its slowest line search or its slowest convergence. Every few ticks a `pause` judges
whether the local minimisation has ended, and hops: it costs as much as a third of a tick and is
rarely of use.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mixjax.engine import hop as hopping
from mixjax.engine.descent import Arrival, Descent, choose
from mixjax.engine.quasi_newton import QUASI_NEWTON


class Budget(NamedTuple):
    """When a lane stops; data, so that another budget recompiles nothing.

    hops (): local minimisations after the first.
    steps (): accepted steps at most in one local minimisation.
    decrease (), window (): a local minimisation ends when `window` steps, or a few more, lowered f
    by less than this share.
    """

    hops: jax.Array
    steps: jax.Array
    decrease: jax.Array
    window: jax.Array


class LaneState(NamedTuple):
    """Exactly what the next tick needs.

    # the accepted point: z, grad (q,), f (); f is infinite where a local minimisation begins
    # the step being tried, and curvature: way, the descent's own state
    # the local minimisation: steps (), mark () = f when `marked` () steps were made, failed () = it
    cannot go on # basin hopping: kept_z, best_z (q,), kept_f, best_f, hop_size, hop ()
    # who and how far: key, evaluations, done ()
    """

    z: jax.Array
    f: jax.Array
    grad: jax.Array
    way: Any
    steps: jax.Array
    mark: jax.Array
    marked: jax.Array
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


def init(z: jax.Array, key: jax.Array, descent: Descent = QUASI_NEWTON) -> LaneState:
    """A lane about to evaluate its start z (q,)."""
    zero, count = jnp.zeros((), z.dtype), jnp.zeros((), jnp.int32)
    inf, no = jnp.full((), jnp.inf, z.dtype), jnp.zeros((), bool)
    return LaneState(
        z=z,
        f=inf,
        grad=jnp.zeros_like(z),
        way=descent.init(len(z), z.dtype),
        steps=count,
        mark=inf,
        marked=count,
        failed=no,
        kept_z=z,
        kept_f=inf,
        best_z=z,
        best_f=inf,
        hop_size=zero + hopping.FIRST_SIZE,
        hop=count,
        key=key,
        evaluations=count,
        done=no,
    )


def tick(
    state: LaneState, objective: Any, data: Any, number: jax.Array, descent: Descent = QUASI_NEWTON
) -> LaneState:
    """One evaluation, and the step that follows from it.

    Args:
        objective: what `descent.evaluate` reads, for quasi-Newton (z (q,), data) -> value (),
            gradient (q,).
        number: of the tick, the same for all lanes of a batch.
    """
    z = state.z + descent.step(state.way)
    # A law with constants of its own may compute in double where the search is single.
    seen = jax.tree.map(lambda x: x.astype(z.dtype), descent.evaluate(objective, z, data))
    fresh = jnp.isinf(state.f)
    idle = state.done | state.failed
    finite = jnp.isfinite(seen.f) & jnp.all(jnp.isfinite(seen.grad))
    seen = seen._replace(
        f=jnp.where(finite, seen.f, jnp.inf), grad=jnp.where(finite, seen.grad, 0.0)
    )
    way, moved, stuck = descent.advance(
        state.way, Arrival(number, z, seen, state.z, state.grad, state.f, fresh, idle)
    )
    return state._replace(
        z=jnp.where(moved, z, state.z),
        f=jnp.where(moved, seen.f, state.f),
        grad=jnp.where(moved, seen.grad, state.grad),
        way=way,
        steps=jnp.where(moved, jnp.where(fresh, 0, state.steps + 1), state.steps),
        failed=state.failed | stuck,
        evaluations=state.evaluations + jnp.where(idle, 0, 1),
    )


def pause(state: LaneState, budget: Budget, descent: Descent = QUASI_NEWTON) -> LaneState:
    """The lane as it is, or after a hop where its local minimisation has ended or cannot go on."""
    steps = state.steps - state.marked
    due = steps >= budget.window
    # The share is per window: a pause may come some steps later.
    slow = state.mark - state.f <= budget.decrease * jnp.abs(state.f) * (
        steps / budget.window
    ).astype(state.f.dtype)
    settled = (due & slow) | (state.steps >= budget.steps) | ~jnp.any(state.grad != 0)
    ended = (state.failed | (settled & ~jnp.isinf(state.f))) & ~state.done
    marked = state._replace(
        mark=jnp.where(due, state.f, state.mark), marked=jnp.where(due, state.steps, state.marked)
    )
    return choose(ended, _hop(marked, budget, descent), marked)


def _hop(state: LaneState, budget: Budget, descent: Descent) -> LaneState:
    """The lane after a local minimisation: Metropolis, best so far, and a fresh point to begin
    from."""
    luck, noise = hopping.draw(
        jax.random.fold_in(state.key, state.hop), state.z.shape[0], state.z.dtype
    )
    accepted = hopping.accept(luck, state.f, state.kept_f)
    kept_z, kept_f = (
        jnp.where(accepted, state.z, state.kept_z),
        jnp.where(accepted, state.f, state.kept_f),
    )
    better = state.f < state.best_f
    hop_size = jnp.where(state.hop == 0, state.hop_size, hopping.adapt(state.hop_size, accepted))
    done = state.hop >= budget.hops
    return state._replace(
        z=jnp.where(done, kept_z, hopping.perturb(noise, kept_z, hop_size)),
        f=jnp.where(done, kept_f, jnp.inf),
        way=descent.restart(state.way),
        steps=jnp.zeros_like(state.steps),
        mark=jnp.full_like(state.f, jnp.inf),
        marked=jnp.zeros_like(state.steps),
        failed=jnp.array(False),
        kept_z=kept_z,
        kept_f=kept_f,
        best_z=jnp.where(better, state.z, state.best_z),
        best_f=jnp.where(better, state.f, state.best_f),
        hop_size=hop_size,
        hop=state.hop + 1,
        done=done,
    )
