"""ONE search: a state machine advanced by `tick`, which spends one evaluation whatever the lane is
doing.

Trying a step, shrinking it, beginning anew: all happen inside a tick, so that a batch of lanes
never waits for its slowest line search or its slowest convergence. Every few ticks a `pause` judges
whether the local minimisation has ended, and hops: it costs as much as a third of a tick and is
rarely of use. Where to search next: basin hopping (Wales and Doye 1997) with Metropolis acceptance.
Departures from SciPy's basinhopping: the temperature is relative to the objective, so that it means
the same for every target; the hop size adapts at every hop, to each lane by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

# --- A way down ---------------------------------------------------------------------------------


class Evaluation(NamedTuple):
    """What one evaluation tells: value f (), gradient grad (q,), and curvature (q, q), or (0, 0)
    where the descent reads none."""

    f: jax.Array
    grad: jax.Array
    curvature: jax.Array


class Trial(NamedTuple):
    """A lane that has tried its step."""

    tick: jax.Array  # its number (), the same for all lanes
    z: jax.Array  # where it came to, (q,)
    evaluation: Evaluation  # there; f is infinite where it or the gradient is not finite
    last_z: jax.Array  # where it came from, (q,), (q,) and ()
    last_grad: jax.Array
    last_f: jax.Array
    fresh: jax.Array  # (): a local minimisation begins at z
    idle: jax.Array  # (): nothing that is decided here counts


class Decision(NamedTuple):
    """The descent state to go on with; accepted (): the lane is at the trial point now; failed ():
    this local minimisation cannot go on."""

    state: Any
    accepted: jax.Array
    failed: jax.Array


@dataclass(frozen=True)
class Descent:
    """How a lane goes down: what it evaluates, which step it tries, whether it takes it. Hashable.

    Attributes:
        evaluate: (objective, z (q,), data) -> Evaluation.
        init: (q, dtype) -> state.
        step: state -> the step to try (q,), 0 where a local minimisation begins.
        advance: (state, Trial) -> Decision.
        restart: state -> the state of a local minimisation that begins.
        pause: ticks between two looks whether a local minimisation has ended.
    """

    evaluate: Callable[[Any, jax.Array, Any], Evaluation]
    init: Callable[[int, Any], Any]
    step: Callable[[Any], jax.Array]
    advance: Callable[[Any, Trial], Decision]
    restart: Callable[[Any], Any]
    pause: int


def choose(condition: jax.Array, yes: Any, no: Any) -> Any:
    """Leaf by leaf; leaves that are the same object are left alone."""
    return jax.tree.map(lambda a, b: a if a is b else jax.numpy.where(condition, a, b), yes, no)


# --- Hops ---------------------------------------------------------------------------------------

# Chosen by experiment: benchmarks/NOTES.md, "hops".
TEMPERATURE = 0.01  # a local minimum this share higher is accepted with probability 1/e
FIRST_SIZE = 0.3  # standard deviation of the first perturbation, in z
SMALLEST, LARGEST = 0.02, 2.0
GROW, SHRINK = 1.15, 0.93  # at rest where one hop in three is accepted


def draw(key: jax.Array, q: int, dtype: jnp.dtype) -> tuple[jax.Array, jax.Array]:
    """The luck of one hop: a number () in [0, 1) to accept by, noise (q,) of variance 1 to perturb
    with.

    Uniform, of 32 random bits, all from one call: a lane draws at every pause, hop or not.
    """
    numbers = jax.random.uniform(key, (q + 1,), jnp.float32).astype(dtype)
    return numbers[0], jnp.sqrt(12.0).astype(dtype) * (numbers[1:] - 0.5)


def accept(luck: jax.Array, f: jax.Array, kept: jax.Array) -> jax.Array:
    """Metropolis (): take the new local minimum f () over the kept one, by luck () in [0, 1)."""
    rise = (f - kept) / (TEMPERATURE * jnp.abs(kept) + jnp.finfo(f.dtype).tiny)
    return (f <= kept) | (luck < jnp.exp(-rise))


def adapt(hop_size: jax.Array, accepted: jax.Array) -> jax.Array:
    """Larger hops after an acceptance, smaller after a refusal, between fixed ends."""
    return jnp.clip(hop_size * jnp.where(accepted, GROW, SHRINK), SMALLEST, LARGEST)


def perturb(noise: jax.Array, z: jax.Array, hop_size: jax.Array) -> jax.Array:
    """z (q,) moved by noise (q,) of standard deviation hop_size ()."""
    return z + hop_size * noise


# --- The lane -------------------------------------------------------------------------------------


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
    """Exactly what the next tick needs, each () but the points z and the gradient (q,)."""

    z: jax.Array  # the accepted point
    f: jax.Array  # infinite where a local minimisation begins
    grad: jax.Array
    descent: Any  # its own: the step being tried, and what is known of curvature
    steps: jax.Array  # accepted in this local minimisation
    mark_f: jax.Array  # at the last mark, as the next
    mark_steps: jax.Array
    failed: jax.Array  # the local minimisation cannot go on
    kept_z: jax.Array  # the minimum hopped from
    kept_f: jax.Array
    best_z: jax.Array  # the lowest minimum
    best_f: jax.Array
    hop_size: jax.Array  # of the next hop
    hop: jax.Array  # its number
    key: jax.Array  # (2,)
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
        hop_size=jnp.full((), FIRST_SIZE, z.dtype),
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
    """The lane after a local minimisation: Metropolis, best so far, a fresh point to begin from."""
    luck, noise = draw(jax.random.fold_in(state.key, state.hop), len(state.z), state.z.dtype)
    accepted = accept(luck, state.f, state.kept_f)
    kept_z = jnp.where(accepted, state.z, state.kept_z)
    kept_f = jnp.where(accepted, state.f, state.kept_f)
    better = state.f < state.best_f
    hop_size = jnp.where(state.hop == 0, state.hop_size, adapt(state.hop_size, accepted))
    done = state.hop >= stop.hops
    return state._replace(
        z=jnp.where(done, kept_z, perturb(noise, kept_z, hop_size)),
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
