"""All searches of a fit: compiles and batches lanes, refills them from the queue of starts, uses all cores.

The only module of the engine where jit and vmap appear. A search is known by its group (a target, or a
target of one resample) and its start; its random key is folded from these, so the answer does not
depend on how searches are dealt out to lanes, chunks and cores.

Lanes lie along the LAST axis of every array: the arithmetic of one lane is short and irregular, that
of a row of lanes is one vector instruction after another.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mixjax.engine.lane import Budget, LaneState, Objective, init, tick

# Lanes of one chunk and ticks of one compiled call (benchmarks/NOTES.md, "chunks").
CPU_LANES = 32
BLOCK = 64


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


@dataclass
class _Board:
    """What is known so far; each chunk writes its own searches only."""

    search: Search
    stop: bool = False

    def write(self, group: int, who: np.ndarray, state: LaneState, lanes: np.ndarray) -> None:
        """Copy the best of some lanes of a chunk to the places of their starts."""
        self.search.z[group, who] = np.asarray(state.best_z)[:, lanes].T
        self.search.f[group, who] = np.asarray(state.best_f)[lanes]
        self.search.evaluations[group, who] = np.asarray(state.evaluations)[lanes]
        self.search.hops[group, who] = np.asarray(state.hop)[lanes]


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
    groups, count, q = starts.shape
    board = _Board(Search(starts.copy(), np.full((groups, count), np.inf), np.zeros((groups, count), int), np.zeros((groups, count), int), True))
    chunks = _deal(groups, count)
    finished = True
    with ThreadPoolExecutor(_workers(len(chunks))) as pool:
        futures = [pool.submit(_run_chunk, objective, data, starts, keys, budget, board, *chunk) for chunk in chunks]
        try:
            while pending := [f for f in futures if not f.done()]:
                if watch:
                    watch(board.search)
                try:
                    pending[0].result(timeout=0.2)
                except TimeoutError:
                    continue
            for future in futures:
                future.result()
        except KeyboardInterrupt:
            finished = False
        finally:
            board.stop = True
    return board.search._replace(finished=finished)


def _workers(chunks: int) -> int:
    """Threads that run chunks: one per core, each core one chunk at a time."""
    return max(1, min(chunks, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1))


def _deal(groups: int, starts: int) -> list[tuple[int, np.ndarray]]:
    """Chunks (group, starts): one per group, more while cores would be idle and lanes are to spare."""
    cores = _workers(1 << 30)
    parts = max(1, min(-(-cores // groups), starts // 8))
    return [(g, part) for g in range(groups) for part in np.array_split(np.arange(starts), parts)]


def _run_chunk(objective: Objective, data: Any, starts: np.ndarray, keys: np.ndarray, budget: Budget, board: _Board, group: int, queue: np.ndarray) -> None:
    """Run the searches of one group in the lanes of one chunk, refilling lanes that are done."""
    lanes = min(CPU_LANES, len(queue))
    who = queue[:lanes].copy()  # which start each lane is at
    waiting = list(queue[lanes:])
    with jax.enable_x64(True):
        mine = jax.tree.map(lambda leaf: jnp.asarray(leaf[group]), data)
        place = np.ones(lanes, bool)
        z, key = jnp.asarray(starts[group, who].T), jnp.asarray(keys[group, who].T)
        state = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(_begin, z, key))
        number = 0
        while not board.stop:
            z, key = jnp.asarray(starts[group, who].T), jnp.asarray(keys[group, who].T)
            state = _block(objective, state, mine, budget, jnp.asarray(number), z, key, jnp.asarray(place))
            number += BLOCK
            done = np.asarray(state.done)
            board.write(group, who, state, np.arange(lanes))
            place = np.zeros(lanes, bool)
            for lane in np.flatnonzero(done):
                if waiting:
                    who[lane], place[lane] = waiting.pop(0), True
            if done.all() and not place.any():
                return


_lanes_last = partial(jax.vmap, in_axes=-1, out_axes=-1)


def _begin(z: jax.Array, keys: jax.Array) -> LaneState:
    """Lanes (q, lanes) about to begin."""
    return _lanes_last(init)(z, keys)


@partial(jax.jit, static_argnums=0, donate_argnums=1)
def _block(objective: Objective, state: LaneState, data: Any, budget: Budget, number: jax.Array, z: jax.Array, keys: jax.Array, place: jax.Array) -> LaneState:
    """Place new searches z (q, lanes) where `place` (lanes,) says, then advance all lanes by `BLOCK` ticks."""
    state = jax.tree.map(lambda new, old: jnp.where(place, new, old), _begin(z, keys), state)

    def advance(i: jax.Array, state: LaneState) -> LaneState:
        return jax.vmap(lambda lane: tick(lane, objective, data, budget, number + i), in_axes=-1, out_axes=-1)(state)

    return jax.lax.fori_loop(0, BLOCK, advance, state)
