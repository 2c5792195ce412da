"""How far a lane goes along its direction: a weak Wolfe search as a state machine, one trial per
tick.

Bracketing by bisection and doubling (Lewis and Overton 2013), which suits the nearly non-smooth
valleys of a Huber loss with small delta: no interpolation is trusted across a kink. Departure from
SciPy (More-Thuente, strong Wolfe): most trials are accepted at the first length, so that one
evaluation is one step.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

DECREASE = 1e-4  # Armijo: share of the predicted decrease that is enough
CURVATURE = 0.9  # Wolfe: share of the slope that must be gone
MAX_TRIALS = 20


class LineTrial(NamedTuple):
    """One trial at step_length (): f and slope there, and at 0; bracket (low, high); trials so
    far."""

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
    """The next length inside a bracket: the parabola's minimum after a first overshoot, else the
    middle."""
    drop = trial.f - trial.f0 - trial.step_length * trial.slope0
    parabola = -trial.slope0 * trial.step_length**2 / (2.0 * jnp.where(drop > 0, drop, 1.0))
    usable = (low == 0.0) & (drop > 0) & jnp.isfinite(parabola)
    return jnp.where(usable, jnp.clip(parabola, 0.1 * high, 0.6 * high), 0.5 * (low + high))
