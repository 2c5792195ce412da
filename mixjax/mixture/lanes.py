"""Mirror descents in lanes (problems, starts -> LANES -> the best of each problem).

All lanes go on for `BLOCK` steps at a time; then those that are done leave and others take their
places, so that none waits for the slowest and nothing is compiled anew. Lanes lie along the last
axis: a descent is computed by the same instructions wherever it lies, and its answer depends
neither on its place nor on its neighbours. There are two widths, for one question and for
thousands; on the width it depends by rounding only. Starts of a problem are screened: those that
come near a better one go on as one.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from mixjax.mixture.box import Box
from mixjax.mixture.mirror import (
    GOAL,
    MirrorState,
    behind_barriers,
    init,
    is_done,
    is_small,
    step,
    without_negligible,
    worth_emptying,
)
from mixjax.numerics import cores

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Ints = NDArray[np.int64]
# (h (k,), (shared, own)) -> (), as in `Problems`.
Objective = Callable[[jax.Array, Any], jax.Array]

# Lanes of one compiled call: few descents, and many; from so many on they are many. Steps before it
# is seen which are done.
NARROW, WIDE, MANY, BLOCK = 32, 256, 1024, 10
# All descents end after so many steps, or so many once the lowest of their problem is done.
MAX_STEPS, LATE = 3000, 500
# After each of so many steps, starts of a problem whose shares differ by less than this from a
# better one's go on as one, at so many places at most.
SCREENS, NEAR, PLACES = (10, 20, 40), 1e-2, 3
# Starts agree when their values differ by less, relatively.
AGREE = 1e-9


class Problems(NamedTuple):
    """Many problems of one function f.

    f: hashable (h (k,), (shared, own)) -> (), smooth where all h_i > 0.
    shared: arrays that the problems have in common.
    own: problem numbers (n,) -> the arrays of each of these problems, (n, ...).
    boxes: floors and caps (problems, k), feasible.
    """

    f: Objective
    shared: Any
    own: Callable[[Ints], Any]
    boxes: Box


class Ends(NamedTuple):
    """The best descent of every problem.

    h (problems, k); value, gap (problems,), value infinite where f was at all starts. agreeing,
    starts (problems,): how many of how many starts ended within 1e-9 of the best, relatively.
    """

    h: Floats
    value: Floats
    gap: Floats
    agreeing: Ints
    starts: Ints


def descend(problems: Problems, starts: Floats, only_first: Flags) -> Ends:
    """Descend in every problem from every start, or from the first; keep the best.

    Args:
        starts: (starts, k), or of each problem its own (problems, starts, k).
        only_first: (problems,), whether the first start will do.
    """
    descents = _begin(problems, starts, only_first)
    several = np.flatnonzero(~only_first[descents.problem])
    leader = np.arange(len(descents.problem))
    for screen in SCREENS if len(several) else ():
        _advance(descents, np.unique(leader[several]), np.full(len(leader), screen))
        leader[several] = several[_leaders(descents, several, leader, starts.shape[-2])]
    limit = np.full(len(leader), LATE)
    limit[_best(descents, leader)] = MAX_STEPS
    _advance(descents, np.unique(leader), limit)
    best = _best(descents, leader)
    states = _of(best, descents.states)
    h, value, gap = _each(without_negligible, problems, descents.width, states, problems.boxes)
    ended = _finite(descents.states.value[leader])
    with np.errstate(invalid="ignore"):
        agree = ended <= (ended[best] + AGREE * np.abs(ended[best]))[descents.problem]
    agreeing, begun = (
        np.bincount(descents.problem, x, len(best)).astype(int)
        for x in (agree, np.ones(len(agree)))
    )
    return Ends(h, _finite(value), gap, agreeing, begun)


def map_problems(
    function: Callable[[jax.Array, Any], jax.Array], problems: Problems, h: Floats
) -> Floats:
    """function(h (k,), (shared, own)) -> (...) at one mixture of every problem, h (problems, k):
    (problems, ...)."""
    return _each(_value, problems._replace(f=function), _width(len(h)), h)


def barriers_of(problems: Problems) -> Flags:
    """Near which corners of every problem (problems, k) f falls behind a barrier, see
    `behind_barriers`."""
    return _each(behind_barriers, problems, _width(len(problems.boxes.caps)), problems.boxes)


def faces_of(problems: Problems, h: Floats, value: Floats) -> Flags:
    """Which domains of every problem are worth a descent without them, see `worth_emptying`:
    (problems, k), for minima h (problems, k)."""
    return _each(worth_emptying, problems, _width(len(h)), h, value, problems.boxes)


# --- On the host: which descents go on -----------------------------------------------------------


@dataclass(frozen=True)
class _Descents:
    """All starts of all problems: problem (descents,), their states, and steps (descents,) so far,
    written in place; width: lanes of a compiled call."""

    problems: Problems
    problem: Ints
    states: MirrorState
    steps: Ints
    width: int


def _begin(problems: Problems, starts: Floats, only_first: Flags) -> _Descents:
    count, k = np.shape(problems.boxes.caps)
    begun = np.where(only_first, 1, starts.shape[-2])
    problem = np.repeat(np.arange(count), begun)
    start = np.arange(len(problem)) - np.repeat(np.cumsum(begun) - begun, begun)
    n = len(problem)
    log_starts = np.log(starts[problem, start] if starts.ndim == 3 else starts[start])
    # Numbers of NumPy, so that they can be written in place.
    groups = problems.boxes.groups
    rates = () if groups is None else (1 + np.shape(groups.caps)[-1],)
    zeros = (np.zeros(n), np.zeros((n, k)), np.zeros(n), np.zeros((n, *rates)))
    states = MirrorState(*cast(Any, (log_starts, *zeros)))
    descents = _Descents(problems, problem, states, np.zeros(n, dtype=int), _width(n))

    def first(f: Objective, states: MirrorState, shared: Any, own: Any, box: Box) -> Any:
        begun = _lanewise(init, f, shared, own, states.log_h, box)
        return begun, np.zeros(descents.width, dtype=int)

    _in_lanes(descents, np.arange(n), first, lambda lanes: np.zeros(len(lanes), dtype=bool))
    return descents


def _advance(descents: _Descents, which: Ints, limit: Ints) -> None:
    """These descents until they are done or have made limit (descents,) steps."""

    def going(lanes: Ints) -> Flags:
        value, gap = (np.asarray(x)[lanes] for x in (descents.states.value, descents.states.gap))
        done = is_small(gap, value) | ~np.isfinite(value)
        return ~done & (descents.steps[lanes] < limit[lanes])

    _in_lanes(descents, which[going(which)], _block, going)


def _in_lanes(
    descents: _Descents,
    which: Ints,
    compiled: Callable[..., tuple[MirrorState, Any]],
    going: Callable[[Ints], Flags],
) -> None:
    """Apply `compiled` to these descents, and again to those that are `going` after it; on every
    core."""
    problems, width = descents.problems, descents.width
    waiting, lock = deque(which.tolist()), threading.Lock()

    def work() -> None:
        lanes = np.zeros(0, dtype=int)
        with jax.enable_x64(True):
            while True:
                with lock:
                    free = min(width - len(lanes), len(waiting))
                    new = [waiting.popleft() for _ in range(free)]
                lanes = np.concatenate([lanes, np.array(new, dtype=int)])
                if not len(lanes):
                    return
                rows = np.resize(lanes, width)
                problem, states = descents.problem[rows], _of(rows, descents.states)
                own, boxes = problems.own(problem), _of(problem, problems.boxes)
                states, steps = compiled(problems.f, states, problems.shared, own, boxes)
                for old, advanced in zip(descents.states, states, strict=True):
                    np.asarray(old)[lanes] = np.asarray(advanced)[: len(lanes)]
                descents.steps[lanes] += np.asarray(steps)[: len(lanes)]
                lanes = lanes[going(lanes)]

    if len(which) <= width:
        work()
        return
    with ThreadPoolExecutor(cores()) as pool:
        for worker in [pool.submit(work) for _ in range(cores())]:
            worker.result()


def _leaders(descents: _Descents, several: Ints, leader: Ints, starts: int) -> Ints:
    """For each of several (n,), as a place in it: the best start of the same problem that its
    leader has come near."""
    value = _finite(np.asarray(descents.states.value)[leader[several]]).reshape(-1, starts)
    h = np.exp(np.asarray(descents.states.log_h)[leader[several]]).reshape(*value.shape, -1)
    free, rows = np.isfinite(value), np.arange(len(value))
    at = (leader[several] - several[::starts].repeat(starts)).reshape(value.shape)
    for _ in range(PLACES):
        best = np.argmin(np.where(free, value, np.inf), axis=1)
        near = free & (np.abs(h - h[rows, best][:, None]).max(axis=2) < NEAR)
        at = np.where(near, at[rows, best][:, None], at)
        free &= ~near
    return (at + starts * rows[:, None]).ravel()


def _best(descents: _Descents, leader: Ints) -> Ints:
    """The best descent of every problem (problems,): of those equally low, the one of the smallest
    gap."""
    value = _finite(np.asarray(descents.states.value)[leader])
    gap = np.asarray(descents.states.gap)[leader]
    lowest = np.full(len(descents.problems.boxes.caps), np.inf)
    np.minimum.at(lowest, descents.problem, value)
    lowest = lowest[descents.problem]
    with np.errstate(invalid="ignore"):
        low = value <= lowest + GOAL * np.abs(lowest)
    order = np.lexsort((leader, np.where(low, gap, np.inf), ~low, descents.problem))
    first = np.unique(descents.problem[order], return_index=True)[1]
    return leader[order[first]]


def _of(which: Ints, tree: Any) -> Any:
    return jax.tree.map(lambda x: x[which], tree)


def _width(count: int) -> int:
    return NARROW if count < MANY else WIDE


def _each(inner: Callable[..., Any], problems: Problems, width: int, *trees: Any) -> Any:
    """inner(f, ...) of every problem's f and of its part of the trees (problems, ...): in chunks of
    the width, the last one filled up with its own."""
    numbers, parts = np.arange(len(problems.boxes.caps)), []
    with jax.enable_x64(True):
        for first in range(0, len(numbers), width):
            chunk = np.resize(numbers[first : first + width], width)
            own = problems.own(chunk)
            parts.append(_lanewise(inner, problems.f, problems.shared, own, *_of(chunk, trees)))
    return jax.tree.map(lambda *x: np.concatenate(x)[: len(numbers)], *parts)


def _finite(value: Any) -> Floats:
    """Infinite where it is no number."""
    return np.where(np.isfinite(value), value, np.inf)


# --- Compiled: lanes come and go along the first axis, and are computed along the last ----------


def _last(tree: Any) -> Any:
    return jax.tree.map(lambda x: jnp.moveaxis(jnp.asarray(x), 0, -1), tree)


def _first(tree: Any) -> Any:
    return jax.tree.map(lambda x: jnp.moveaxis(x, -1, 0), tree)


@partial(jax.jit, static_argnums=(0, 1))
def _lanewise(inner: Callable[..., Any], f: Objective, shared: Any, own: Any, *trees: Any) -> Any:
    """inner(f of the lane's problem, its part of the trees) of every lane."""

    def one(own: Any, *parts: Any) -> Any:
        return inner(lambda h: f(h, (shared, own)), *parts)

    return _first(jax.vmap(one, in_axes=-1, out_axes=-1)(*_last((own, *trees))))


def _value(f: Callable[[jax.Array], jax.Array], h: jax.Array) -> jax.Array:
    return f(h)


@partial(jax.jit, static_argnums=0)
def _block(
    f: Objective, states: MirrorState, shared: Any, own: Any, box: Box
) -> tuple[MirrorState, jax.Array]:
    """The states after `BLOCK` steps, or once done, and how many each took (lanes,)."""
    own, box = _last(own), _last(box)

    def one(state: MirrorState, steps: jax.Array, own: Any, box: Box) -> Any:
        still = ~is_done(state)
        new = step(lambda h: f(h, (shared, own)), state, box)
        return jax.tree.map(partial(jnp.where, still), new, state), steps + still

    def advance(carry: tuple[MirrorState, jax.Array], _: None) -> tuple[Any, None]:
        return jax.vmap(one, in_axes=-1, out_axes=-1)(*carry, own, box), None

    begun = (_last(states), jnp.zeros(len(states.value), dtype=int))
    states, steps = jax.lax.scan(advance, begun, length=BLOCK)[0]
    return _first(states), steps
