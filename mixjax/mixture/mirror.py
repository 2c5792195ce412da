"""Mirror descent: the minimum of any smooth function over the simplex with caps and floors.

With the entropy as mirror map a step is the exponentiated gradient of the paper (section on optimal
mixtures):

    hhat = h * exp(-rate * grad f(h)),    h+ = the mixture in the box nearest to hhat (`project`)

that is h+ = argmin_v <grad f(h), v> + KL(v, h) / rate. It suits scaling laws: near its optimum a
term C_i h_i^gamma_i has curvature (1 - gamma_i) * gradient / h_i, the entropy's own 1 / h_i times a
number that is alike for all domains.

Three departures from the textbook, so that nothing has to be tuned and gaps of 1e-12 are reached:

- The rate is spectral (Barzilai and Borwein 1988, in the dual coordinates log h): the inverse of
  the curvature that the last step met, the longer estimate unless the shorter is less than half of
  it (ABB, Zhou, Gao and Dai 2006).
- A step stands when <g+ - g, h+ - h> <= 1.9 / rate * <log h+ - log h, h+ - h>. The right bracket is
  KL(h+, h) + KL(h, h+). By optimality of h+, f falls by at least (1 - 1.9 / 2) / rate times it, to
  third order in the step. No difference of values is needed, whose rounding would hide what happens
  below gaps of 1e-8; they guard long steps only.
- Weights live as logarithms and never become 0 on the way: a domain that was given up may return.

Measured on 60 random fits each, half of them with caps and floors, exponents of shares from 0.05 to
1.5, steps of the best start to a gap of 1e-12 relative (median, largest): additive k = 7, 7 targets
28, 86; joint k = 17, 5 targets 82, 545; full k = 7, 7 targets 36, 94. On 12 of each, a rate that
only grows and halves took 2 to 4 times as many, up to 1700.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mixjax.mixture.box import ROUNDING, Box, centred, contains, groups_at, lowest_vertex, project

# log of the smallest weight on the way. Small enough that h^0.05, the steepest of hurtful domains,
# is below 1e-14.
_LOG_TINY = -690.0
# Largest change of a log weight in one step, and of the rate; the largest rate.
_MOVE, _GROWTH, _MAX_RATE = 20.0, 10.0, 1e100
# The c of the test above; below 2.
_SMOOTH = 1.9
# A value may rise by this much, relatively: rounding of laws whose exponents reach 1e5.
_VALUE_NOISE = 1e-10
# A descent is done at this gap relative to its value. All end after so many steps, or so many once
# the lowest is done.
GOAL, MAX_STEPS, LATE = 1e-12, 3000, 500
# Steps of one scan; between scans it is seen whether all starts are done.
SCAN = 20
# Weights that together are below this are tried at exactly 0 in the end.
_NEGLIGIBLE = 1e-12
# Starts agree when their values differ by less, relatively.
AGREE = 1e-9
# A face of the simplex deserves a descent of its own where f falls by more than _DROP, relatively,
# from a share of _NEAR to 0.
_NEAR, _DROP = 1e-6, 1e-5

Function = Callable[[jax.Array], jax.Array]


class MirrorState(NamedTuple):
    """One descent: log h (k,), f () and its gradient (k,) there, the optimality gap (), and the
    rate () to try next."""

    log_h: jax.Array
    value: jax.Array
    grad: jax.Array
    gap: jax.Array
    rate: jax.Array


# Inside the trace a jax.Array, outside what NumPy has.
Leaf = jax.Array | np.ndarray


class Minimum(NamedTuple):
    """The best of all starts, and how far to trust it.

    h (k,): the mixture; value (): f there; gap (): see `gap`. agreeing (): starts whose value is
    the best one's within 1e-9 relative. values, gaps, steps (starts,): of every start, value
    infinite where f was not finite.
    """

    h: Leaf
    value: Leaf
    gap: Leaf
    agreeing: Leaf
    values: Leaf
    gaps: Leaf
    steps: Leaf


def gap(h: jax.Array, grad: jax.Array, box: Box) -> jax.Array:
    """max_v <grad, h - v> over mixtures v in the box, () and >= 0 up to rounding; 0 at a stationary
    point.

    For convex f it bounds what is left to gain: f(h) - gap <= min f (Frank and Wolfe 1956).
    """
    return jnp.dot(grad - jnp.min(grad), h - lowest_vertex(grad, box))


def weights(log_h: jax.Array, box: Box) -> jax.Array:
    """h (k,), exactly at its floor or cap where log h is; 0 where the cap is."""
    return jnp.clip(jnp.exp(log_h), box.floors, box.caps)


def init(log_x: jax.Array, f: Function, box: Box) -> MirrorState:
    """A descent about to begin at the mixture nearest to x (k,); its first step changes log weights
    by about 1."""
    log_h = _inside(log_x, box)
    value, grad, gap_ = _evaluate(f, log_h, box)
    slope = jnp.max(jnp.abs(grad - jnp.dot(weights(log_h, box), grad)))
    # Starts where all slopes are equal up to rounding are stationary, not infinitely far from a
    # minimum.
    slope = jnp.maximum(slope, 1e-6 * jnp.max(jnp.abs(grad)))
    return MirrorState(log_h, value, grad, gap_, 1.0 / jnp.maximum(slope, 1.0 / _MAX_RATE))


def step(state: MirrorState, f: Function, box: Box) -> MirrorState:
    """One trial step: taken, or the same place with a smaller rate. One value and gradient of f."""
    log_h = _inside(state.log_h - _move(state, box), box)
    value, grad, gap_ = _evaluate(f, log_h, box)

    log_diff = log_h - state.log_h
    h = weights(state.log_h, box)
    h_diff = h * jnp.expm1(log_diff)
    grad_diff = grad - state.grad
    divergence = jnp.dot(log_diff, h_diff)
    bend = jnp.dot(grad_diff, h_diff)
    moved = jnp.where(log_diff != 0, h, 0.0)

    finite = jnp.isfinite(value) & jnp.all(jnp.isfinite(grad))
    smooth = state.rate * bend <= _SMOOTH * divergence
    accepted = finite & smooth & (value <= state.value + _VALUE_NOISE * jnp.abs(state.value))

    straight = (bend <= 0) | (
        divergence <= 0
    )  # no curvature met: the step was short, or f is concave along it
    longer = (divergence > 0) & (jnp.max(jnp.abs(log_diff)) < 0.9 * _MOVE)
    rate = jnp.where(
        straight,
        jnp.where(longer, _GROWTH * state.rate, state.rate),
        _spectral(moved, centred(grad_diff, moved, h, box), divergence, bend),
    )
    after = jnp.minimum(jnp.clip(rate, state.rate / _GROWTH, state.rate * _GROWTH), _MAX_RATE)
    shrunk = jnp.where(
        finite, jnp.clip(rate, state.rate / _GROWTH, state.rate / 2), state.rate / _GROWTH
    )
    new = MirrorState(log_h, value, grad, gap_, after)
    return jax.tree.map(partial(jnp.where, accepted), new, state._replace(rate=shrunk))


def is_done(state: MirrorState) -> jax.Array:
    """Whether the gap is small enough, or the value no number, ()."""
    return (state.gap <= GOAL * jnp.maximum(1.0, jnp.abs(state.value))) | ~jnp.isfinite(state.value)


def _spectral(
    moved: jax.Array, grad_diff: jax.Array, divergence: jax.Array, bend: jax.Array
) -> jax.Array:
    """<s, s> / <s, y> or, where it is less than half of that, <s, y> / <y, y>, for s = log h+ - log
    h and y = g+ - g, centred.

    Products are weighted by h, over the domains that moved, (k,) and 0 for the others.
    """
    bend = jnp.where(bend > 0, bend, 1.0)
    long, short = (
        divergence / bend,
        bend / jnp.maximum(jnp.dot(moved, grad_diff * grad_diff), jnp.finfo(moved.dtype).tiny),
    )
    return jnp.where(short < 0.5 * long, short, long)


def _inside(log_x: jax.Array, box: Box) -> jax.Array:
    """The log of the nearest mixture in the box, kept finite."""
    return jnp.maximum(project(jnp.maximum(log_x, _LOG_TINY), box), _LOG_TINY)


def _evaluate(f: Function, log_h: jax.Array, box: Box) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Value, gradient and gap. The gradient is 0 at domains that are capped to 0, where it may not
    exist."""
    h = weights(log_h, box)
    value, grad = jax.value_and_grad(f)(h)
    grad = jnp.where(box.caps > 0, grad, 0.0)
    return value, grad, gap(h, grad, box)


def _move(state: MirrorState, box: Box) -> jax.Array:
    """rate * gradient (k,), less what changes no step: the mean slope of the domains that are free,
    and part of a group's pressure.

    The projection takes both out again. They would only cost digits, and push moves beyond `_MOVE`,
    where they look alike. A group that is pressed against its floor or cap by all its domains keeps
    a pressure of 1, so that it stays there.
    """
    h = weights(state.log_h, box)
    free = (state.log_h > jnp.log(box.floors)) & (state.log_h < jnp.log(box.caps))
    move = state.rate * centred(state.grad, jnp.where(free, h, 0.0), h, box._replace(groups=None))
    if box.groups is not None:
        member, at_floor, at_cap = jnp.asarray(box.groups.member), *groups_at(h, box.groups)
        least, most = (
            jnp.min(jnp.where(member, move, jnp.inf), axis=1),
            jnp.max(jnp.where(member, move, -jnp.inf), axis=1),
        )
        pressure = jnp.where(at_floor, jnp.maximum(least - 1.0, 0.0), 0.0) + jnp.where(
            at_cap, jnp.minimum(most + 1.0, 0.0), 0.0
        )
        move = move - jnp.sum(jnp.where(member, pressure[:, None], 0.0), axis=0)
    return jnp.clip(move, -_MOVE, _MOVE)


def without_negligible(
    state: MirrorState, f: Function, box: Box
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """h, value and gap with the smallest weights at exactly 0, where that does not raise f.

    Slopes of such domains are those just before 0: at 0 itself they may be infinite, and are then
    no guide.
    """
    h = weights(state.log_h, box)
    ceiling = state.value + 4 * jnp.finfo(h.dtype).eps * jnp.abs(state.value)

    def without(out: jax.Array) -> jax.Array:
        tighter = box._replace(caps=jnp.where(out, 0.0, box.caps))
        return weights(_inside(state.log_h, tighter), tighter)

    one_out = jax.vmap(lambda out: f(without(out)))(jnp.eye(h.shape[0], dtype=bool))
    out = (h < _NEGLIGIBLE / h.shape[0]) & (box.floors == 0) & (one_out <= ceiling)
    h_out = without(out)
    value, grad = jax.value_and_grad(f)(h_out)
    grad = jnp.where(box.caps > 0, jnp.where(out, state.grad, grad), 0.0)
    whole = jnp.abs(jnp.sum(h_out) - 1.0) <= ROUNDING
    good = jnp.any(out) & whole & (value <= ceiling) & jnp.all(jnp.isfinite(grad))
    return (
        jnp.where(good, h_out, h),
        jnp.where(good, value, state.value),
        jnp.where(good, gap(h_out, grad, box), state.gap),
    )


def worth_emptying(h: jax.Array, value: jax.Array, f: Function, box: Box) -> jax.Array:
    """Which domains (k,) may give a lower minimum at exactly 0 than the value () found at h (k,).

    A descent sees f where all h_i > 0. A law with h_i^gamma_i, gamma_i < 0, jumps at the face h_i =
    0, and no slope tells. So f is compared on the face and just off it, with the other shares in
    proportion to h and all alike; and on the face with the value where that point lies in the box.
    """
    usable = jnp.asarray(box.caps) > 0

    def lower(out: jax.Array) -> jax.Array:
        found = jnp.asarray(False)
        for x in (h, jnp.where(usable, 1.0, 0.0)):
            rest = jnp.where(out, 0.0, x)
            at = rest / jnp.sum(rest)
            there, near = f(at), f((1.0 - _NEAR) * at + _NEAR * out)
            found = (
                found
                | (contains(box, at) & (there < value - GOAL * jnp.abs(value)))
                | (there < near - _DROP * jnp.abs(value))
            )
        return found

    return jax.vmap(lower)(jnp.eye(h.shape[0], dtype=bool)) & usable & (box.floors == 0)


def faces(
    f: Callable[[jax.Array, Any], jax.Array], data: Any, h: np.ndarray, value: Any, box: Box
) -> np.ndarray:
    """`worth_emptying` of numbers; arguments as `run` has them."""
    with jax.enable_x64(True):
        return np.asarray(
            _faces(f, data, jnp.asarray(h), jnp.asarray(value), jax.tree.map(jnp.asarray, box))
        )


@partial(jax.jit, static_argnums=0)
def _faces(
    f: Callable[[jax.Array, Any], jax.Array], data: Any, h: jax.Array, value: jax.Array, box: Box
) -> jax.Array:
    return worth_emptying(h, value, lambda h: f(h, data), box)


def run(
    f: Callable[[jax.Array, Any], jax.Array], data: Any, starts: np.ndarray, box: Box
) -> Minimum:
    """Descend from every start, all at once, and keep the best.

    Args:
        f: hashable (h (k,), data) -> () , smooth where all h_i > 0. One compilation for each f and
            shapes of data and starts.
        data: arrays that f reads: parameters, weights, scales.
        starts: (starts, k), positive; moved to the nearest mixture in the box.
        box: feasible, see `check_box`.

    Returns:
        `Minimum`, as NumPy arrays. Its gap is finite unless f is not finite at any start.
    """
    with jax.enable_x64(True):
        box = jax.tree.map(jnp.asarray, box)
        return Minimum(
            *(
                np.asarray(x)
                for x in _run(f, data, jnp.log(jnp.asarray(starts, dtype=jnp.float64)), box)
            )
        )


@partial(jax.jit, static_argnums=0)
def _run(
    f: Callable[[jax.Array, Any], jax.Array], data: Any, log_starts: jax.Array, box: Box
) -> Minimum:
    def of(h: jax.Array) -> jax.Array:
        return f(h, data)

    def advance(
        carry: tuple[MirrorState, jax.Array], _: None
    ) -> tuple[tuple[MirrorState, jax.Array], None]:
        states, steps = carry
        still = ~jax.vmap(is_done)(states)
        new = jax.vmap(lambda s, go: jax.tree.map(partial(jnp.where, go), step(s, of, box), s))(
            states, still
        )
        return (new, steps + still), None

    def scan(carry: tuple[MirrorState, jax.Array]) -> tuple[MirrorState, jax.Array]:
        return jax.lax.scan(advance, carry, length=SCAN)[0]

    def going(carry: tuple[MirrorState, jax.Array]) -> jax.Array:
        states, steps = carry
        are_done, number = jax.vmap(is_done)(states), jnp.max(steps)
        late = (number >= LATE) & are_done[jnp.nanargmin(states.value)]
        return (number < MAX_STEPS) & ~jnp.all(are_done) & ~late

    states = jax.vmap(lambda x: init(x, of, box))(log_starts)
    states, steps = jax.lax.while_loop(
        going, scan, (states, jnp.zeros(log_starts.shape[0], dtype=int))
    )
    values = jnp.where(jnp.isfinite(states.value), states.value, jnp.inf)
    agree = values <= jnp.min(values) + AGREE * jnp.abs(jnp.min(values))
    best = jnp.argmin(
        jnp.where(values <= jnp.min(values) + GOAL * jnp.abs(jnp.min(values)), states.gap, jnp.inf)
    )
    h, value, gap_ = without_negligible(jax.tree.map(lambda x: x[best], states), of, box)
    return Minimum(h, value, gap_, jnp.sum(agree), values, states.gap, steps)
