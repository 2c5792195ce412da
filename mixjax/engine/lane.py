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
from mixjax.engine.descent import Descent, Evaluation, Trial, choose


class Stop(NamedTuple):
    """When a lane stops; data, so that other numbers recompile nothing.

    A local minimisation ends after so many accepted steps, or when `window` steps, or a few more,
    lowered f by less than the share `decrease`; so many hops follow the first.
    """

    steps: Any
    decrease: Any
    window: Any
    hops: Any = 0


class LaneState(NamedTuple):
    """Exactly what the next tick needs."""

    # The accepted point (q,), () and (q,); f is infinite where a local minimisation begins.
    z: jax.Array
    f: jax.Array
    grad: jax.Array
    # The step being tried, and what is known of curvature: the descent's own.
    descent: Any
    # The local minimisation (): accepted steps; f and their number at the last mark; whether it
    # cannot go on.
    steps: jax.Array
    mark_f: jax.Array
    mark_steps: jax.Array
    failed: jax.Array
    # Basin hopping (q,) and (): the minimum hopped from, the lowest one, size and number of the
    # next hop.
    kept_z: jax.Array
    kept_f: jax.Array
    best_z: jax.Array
    best_f: jax.Array
    hop_size: jax.Array
    hop: jax.Array
    # Random key (2,), and ().
    key: jax.Array
    evaluations: jax.Array
    done: jax.Array


def init(z: jax.Array, key: jax.Array, descent: Descent) -> LaneState:
    """A lane about to evaluate its start z (q,)."""
    count = jnp.zeros((), jnp.int32)
    inf, no = jnp.full((), jnp.inf, z.dtype), jnp.zeros((), bool)
    return LaneState(
        z=z,
        f=inf,
        grad=jnp.zeros_like(z),
        descent=descent.init(len(z), z.dtype),
        steps=count,
        mark_f=inf,
        mark_steps=count,
        failed=no,
        kept_z=z,
        kept_f=inf,
        best_z=z,
        best_f=inf,
        hop_size=jnp.full((), hopping.FIRST_SIZE, z.dtype),
        hop=count,
        key=key,
        evaluations=count,
        done=no,
    )


def tick(
    state: LaneState, objective: Any, data: Any, number: jax.Array, descent: Descent
) -> LaneState:
    """One evaluation, and the step that follows from it.

    Args:
        objective: what `descent.evaluate` reads, for quasi-Newton (z (q,), data) -> value (),
            gradient (q,).
        number: of the tick, the same for all lanes of a batch.
    """
    z = state.z + descent.step(state.descent)
    # A law with constants of its own may compute in double where the search is single.
    f, grad, curvature = jax.tree.map(
        lambda x: x.astype(z.dtype), descent.evaluate(objective, z, data)
    )
    finite = jnp.isfinite(f) & jnp.all(jnp.isfinite(grad))
    f, grad = jnp.where(finite, f, jnp.inf), jnp.where(finite, grad, 0.0)
    fresh, idle = jnp.isinf(state.f), state.done | state.failed
    trial = Trial(
        tick=number,
        z=z,
        evaluation=Evaluation(f, grad, curvature),
        last_z=state.z,
        last_grad=state.grad,
        last_f=state.f,
        fresh=fresh,
        idle=idle,
    )
    onward, accepted, failed = descent.advance(state.descent, trial)
    return state._replace(
        z=jnp.where(accepted, z, state.z),
        f=jnp.where(accepted, f, state.f),
        grad=jnp.where(accepted, grad, state.grad),
        descent=onward,
        steps=jnp.where(accepted, jnp.where(fresh, 0, state.steps + 1), state.steps),
        failed=state.failed | failed,
        evaluations=state.evaluations + jnp.where(idle, 0, 1),
    )


def pause(state: LaneState, stop: Stop, descent: Descent) -> LaneState:
    """The lane as it is, or after a hop where its local minimisation has ended or cannot go on."""
    steps = state.steps - state.mark_steps
    due = steps >= stop.window
    # The share is per window: a pause may come some steps later.
    windows = (steps / stop.window).astype(state.f.dtype)
    slow = state.mark_f - state.f <= stop.decrease * jnp.abs(state.f) * windows
    settled = (due & slow) | (state.steps >= stop.steps) | ~jnp.any(state.grad != 0)
    ended = (state.failed | (settled & ~jnp.isinf(state.f))) & ~state.done
    marked = state._replace(
        mark_f=jnp.where(due, state.f, state.mark_f),
        mark_steps=jnp.where(due, state.steps, state.mark_steps),
    )
    return choose(ended, _hop(marked, stop, descent), marked)


def _hop(state: LaneState, stop: Stop, descent: Descent) -> LaneState:
    """The lane after a local minimisation: Metropolis, best so far, and a fresh point to begin
    from."""
    luck, noise = hopping.draw(
        jax.random.fold_in(state.key, state.hop), state.z.shape[0], state.z.dtype
    )
    accepted = hopping.accept(luck, state.f, state.kept_f)
    kept_z = jnp.where(accepted, state.z, state.kept_z)
    kept_f = jnp.where(accepted, state.f, state.kept_f)
    better = state.f < state.best_f
    hop_size = jnp.where(state.hop == 0, state.hop_size, hopping.adapt(state.hop_size, accepted))
    done = state.hop >= stop.hops
    return state._replace(
        z=jnp.where(done, kept_z, hopping.perturb(noise, kept_z, hop_size)),
        f=jnp.where(done, kept_f, jnp.inf),
        descent=descent.restart(state.descent),
        steps=jnp.zeros_like(state.steps),
        mark_f=jnp.full_like(state.f, jnp.inf),
        mark_steps=jnp.zeros_like(state.steps),
        failed=jnp.array(False),
        kept_z=kept_z,
        kept_f=kept_f,
        best_z=jnp.where(better, state.z, state.best_z),
        best_f=jnp.where(better, state.f, state.best_f),
        hop_size=hop_size,
        hop=state.hop + 1,
        done=done,
    )
