"""What a way of descending is: a record of pure functions for ONE lane, which `lane` calls and
never looks into."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax


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
