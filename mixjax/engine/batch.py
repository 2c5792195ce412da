"""All searches of a fit: compiles and batches lanes, refills them from the queue of starts, uses all cores.

The only module of the engine where jit and vmap appear. A search is known by its group (a target, or a
target of one resample) and its start; its random key is folded from these, so the answer does not
depend on how searches are dealt out to lanes, chunks and cores.

Lanes lie along the LAST axis of every array: the arithmetic of one lane is short and irregular, that
of a row of lanes is one vector instruction after another.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mixjax.engine.lane import Budget, LaneState, Objective, init, tick

# Lanes of one chunk on a CPU: one vector register of float64. Wider chunks are no faster per lane and
# idle longer at their end (benchmarks/NOTES.md, "lanes").
CPU_LANES = 8
REFILL = 16  # ticks between two refills of the lanes that are done
BLOCK = 32  # refills of one compiled call, after which the host may print or stop
QUEUE = 128  # queues are padded to a multiple of this, so that another number of starts recompiles nothing


class Search(NamedTuple):
    """Where every search ended, arrays (groups, starts, ...).

    z (..., q) and f (...): the best local minimum, f infinite where none was finite. evaluations, hops (...): counts.
    finished: whether all searches used up their hops (else they were interrupted).
    """

    z: np.ndarray
    f: np.ndarray
    evaluations: np.ndarray
    hops: np.ndarray
    finished: bool


class _Queue(NamedTuple):
    """The searches of a chunk: starts z (queue, q), keys (queue, 2), and how many are real ()."""

    z: jax.Array
    keys: jax.Array
    length: jax.Array


class _Chunk(NamedTuple):
    """Lanes at work and what their searches found.

    state: of all lanes, lanes last. who (lanes,): the search a lane is at, the queue's length if none.
    taken (): searches begun. number (): ticks so far.
    z (queue, q), f, evaluations, hops (queue,): the best of every search so far.
    """

    state: LaneState
    who: jax.Array
    taken: jax.Array
    number: jax.Array
    z: jax.Array
    f: jax.Array
    evaluations: jax.Array
    hops: jax.Array


def run(
    objective: Objective,
    data: Any,
    starts: np.ndarray,
    keys: np.ndarray,
    budget: Budget,
    watch: Callable[[Search], None] | None = None,
) -> Search:
    """Run every search to the end of its budget.

    Args:
        objective: hashable (z (q,), data) -> value (), gradient (q,).
        data: its data, every leaf with a leading axis of groups.
        starts: (groups, starts, q).
        keys: random keys (groups, starts, 2).
        budget: the same for all.
        watch: called now and then with the search so far; an exception it raises ends the run.

    Returns:
        The `Search`; on KeyboardInterrupt the one so far, with `finished` False.
    """
    groups, count, _ = starts.shape
    found = Search(starts.copy(), np.full((groups, count), np.inf), np.zeros((groups, count), int), np.zeros((groups, count), int), True)
    stop = threading.Event()
    chunks = _deal(groups, count)
    finished = True
    # Compile once, before the threads would each do it.
    _run_chunk(objective, data, starts, keys, budget, found, stop, 0, np.arange(0))
    with ThreadPoolExecutor(_workers(len(chunks))) as pool:
        futures = [pool.submit(_run_chunk, objective, data, starts, keys, budget, found, stop, *chunk) for chunk in chunks]
        try:
            while waiting := [f for f in futures if not f.done()]:
                if watch:
                    watch(found)
                if any(f.exception() for f in wait(waiting, timeout=0.2, return_when=FIRST_EXCEPTION).done):
                    break
        except KeyboardInterrupt:
            finished = False
        finally:
            # Reached early only on a failure or an interruption: chunks end after their current block.
            if not all(f.done() for f in futures):
                stop.set()
    for future in futures:
        future.result()
    return found._replace(finished=finished)


def evaluate(objective: Objective, data: Any, group: int, z: np.ndarray) -> tuple[float, np.ndarray]:
    """Value and gradient (q,) of the objective of one group at one point z (q,)."""
    with jax.enable_x64(True):
        f, grad = _evaluate(objective, jnp.asarray(z), jax.tree.map(lambda leaf: jnp.asarray(leaf[group]), data))
        return float(f), np.asarray(grad)


@partial(jax.jit, static_argnums=0)
def _evaluate(objective: Objective, z: jax.Array, data: Any) -> tuple[jax.Array, jax.Array]:
    return objective(z, data)


def _workers(chunks: int) -> int:
    """Threads that run chunks: one per core, each core one chunk at a time."""
    return max(1, min(chunks, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1))


def _deal(groups: int, starts: int) -> list[tuple[int, np.ndarray]]:
    """Chunks (group, starts): one per group, more while cores would be idle and lanes are to spare."""
    cores = _workers(1 << 30)
    parts = max(1, min(-(-cores // groups), starts // 8))
    return [(g, part) for g in range(groups) for part in np.array_split(np.arange(starts), parts)]


def _run_chunk(
    objective: Objective, data: Any, starts: np.ndarray, keys: np.ndarray, budget: Budget, found: Search, stop: threading.Event, group: int, who: np.ndarray
) -> None:
    """Run some searches of one group, and write what they find to their places in `found`."""
    pad = max(QUEUE, -(-len(who) // QUEUE) * QUEUE) - len(who)
    with jax.enable_x64(True):
        queue = _Queue(
            jnp.asarray(np.pad(starts[group, who], ((0, pad), (0, 0)))), jnp.asarray(np.pad(keys[group, who], ((0, pad), (0, 0)))), jnp.asarray(len(who))
        )
        mine = jax.tree.map(lambda leaf: jnp.asarray(leaf[group]), data)
        chunk = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(_idle, queue))
        chunk = chunk._replace(state=chunk.state._replace(done=chunk.state.done | True), who=chunk.who + len(queue.z), z=queue.z + 0.0, f=chunk.f + jnp.inf)
        working = True
        while working and not stop.is_set():
            chunk, working = _block(objective, chunk, queue, mine, budget)
            working = bool(working)
            for place, values in zip(found[:4], (chunk.z, chunk.f, chunk.evaluations, chunk.hops), strict=True):
                place[group, who] = np.asarray(values)[: len(who)]


def _idle(queue: _Queue) -> _Chunk:
    """A chunk whose lanes have nothing to do yet."""
    lanes = _begin(queue.z[:CPU_LANES].T, queue.keys[:CPU_LANES].T)
    count = jnp.zeros((), queue.length.dtype)
    each = jnp.zeros(len(queue.z), lanes.hop.dtype)
    return _Chunk(lanes, jnp.full(CPU_LANES, len(queue.z)), count, count, queue.z, queue.z[:, 0], each, each)


_begin = jax.vmap(init, in_axes=-1, out_axes=-1)


@partial(jax.jit, static_argnums=0, donate_argnums=1)
def _block(objective: Objective, chunk: _Chunk, queue: _Queue, data: Any, budget: Budget) -> tuple[_Chunk, jax.Array]:
    """Advance all lanes until every search is done, `BLOCK` refills at most; also whether any is left."""

    def advance(i: jax.Array, chunk: _Chunk) -> _Chunk:
        state = jax.vmap(lambda lane: tick(lane, objective, data, budget, chunk.number), in_axes=-1, out_axes=-1)(chunk.state)
        return chunk._replace(state=state, number=chunk.number + 1)

    def working(carry: tuple[_Chunk, jax.Array]) -> jax.Array:
        chunk, refills = carry
        return (refills < BLOCK) & ~jnp.all(chunk.state.done)

    def once(carry: tuple[_Chunk, jax.Array]) -> tuple[_Chunk, jax.Array]:
        chunk, refills = carry
        return _refill(jax.lax.fori_loop(0, REFILL, advance, chunk), queue), refills + 1

    chunk, _ = jax.lax.while_loop(working, once, (_refill(chunk, queue), jnp.zeros((), int)))
    return chunk, ~jnp.all(chunk.state.done)


def _refill(chunk: _Chunk, queue: _Queue) -> _Chunk:
    """Write down what every lane has found, and begin the next searches in the lanes that are done."""
    state, who = chunk.state, chunk.who
    chunk = chunk._replace(
        z=chunk.z.at[who].set(state.best_z.T, mode="drop"),
        f=chunk.f.at[who].set(state.best_f, mode="drop"),
        evaluations=chunk.evaluations.at[who].set(state.evaluations, mode="drop"),
        hops=chunk.hops.at[who].set(state.hop, mode="drop"),
    )
    free = state.done
    following = chunk.taken + jnp.cumsum(free) - 1  # the search that each free lane would take
    place = free & (following < queue.length)
    at = jnp.where(place, following, 0)
    fresh = _begin(queue.z[at].T, queue.keys[at].T)
    return chunk._replace(
        state=jax.tree.map(lambda new, old: jnp.where(place, new, old), fresh, state),
        who=jnp.where(place, at, jnp.where(free, len(queue.z), who)),
        taken=chunk.taken + jnp.sum(place),
    )
