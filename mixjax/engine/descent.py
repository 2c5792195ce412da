"""What a way of descending is: a record of pure functions for ONE lane, which `lane` calls and
never looks into."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax


class Seen(NamedTuple):
    """What one evaluation tells: value f (), gradient grad (q,), and curvature (q, q) or None where
    the descent reads none."""

    f: jax.Array
    grad: jax.Array
    curvature: jax.Array | None


class Arrival(NamedTuple):
    """A lane that has tried its step.

    tick (): number of the tick, the same for all lanes.
    z (q,), seen: where it came to, f infinite where it or the gradient is not finite.
    last_z, last_grad (q,), last_f (): where it came from.
    fresh (): a local minimisation begins at z. idle (): nothing that is decided here counts.
    """

    tick: jax.Array
    z: jax.Array
    seen: Seen
    last_z: jax.Array
    last_grad: jax.Array
    last_f: jax.Array
    fresh: jax.Array
    idle: jax.Array


class Verdict(NamedTuple):
    """The state to go on with; moved (): the lane is at the new point now; stuck (): this local
    minimisation cannot go on."""

    state: Any
    moved: jax.Array
    stuck: jax.Array


@dataclass(frozen=True)
class Descent:
    """How a lane goes down: what it evaluates, which step it tries, whether it takes it. Hashable.

    Attributes:
        evaluate: (objective, z (q,), data) -> Seen.
        init: (q, dtype) -> state.
        step: state -> the step to try (q,), 0 where a local minimisation begins.
        advance: (state, Arrival) -> Verdict.
        restart: state -> the state of a local minimisation that begins.
        pause: ticks between two looks whether a local minimisation has ended.
    """

    evaluate: Callable[[Any, jax.Array, Any], Seen]
    init: Callable[[int, Any], Any]
    step: Callable[[Any], jax.Array]
    advance: Callable[[Any, Arrival], Verdict]
    restart: Callable[[Any], Any]
    pause: int


def choose(condition: jax.Array, yes: Any, no: Any) -> Any:
    """Leaf by leaf; leaves that are the same object are left alone."""
    return jax.tree.map(lambda a, b: a if a is b else jax.numpy.where(condition, a, b), yes, no)
