"""All searches of a fit: compiles and batches lanes, refills them from the queue of starts, uses
all cores.

The only module of the engine where jit and vmap appear. A search is known by its group (a target,
or a target of one resample) and its start; its random key is folded from these, so the answer does
not depend on how searches are dealt out to lanes, chunks and cores.

Lanes lie along the LAST axis of every array: the arithmetic of one lane is short and irregular,
that of a row of lanes is one vector instruction after another. Groups lie along the first: on a CPU
a chunk has one group and few lanes and every core runs chunks of its own, an accelerator takes them
all at once.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mixjax.engine.lane import Descent, LaneState, Stop, init, pause, tick
from mixjax.engine.quasi_newton import QUASI_NEWTON
from mixjax.numerics import cores

# Bytes of one number of all lanes of a chunk on a CPU: one vector register, 8 lanes of float64.
# Wider chunks are no faster per lane and idle longer at their end (benchmarks/NOTES.md, "lanes").
CPU_REGISTER = 64
# Lanes of all groups of a chunk on an accelerator, fewer where their state would take more of its
# memory than this.
ACCELERATOR_LANES = 16384
_MEMORY_SHARE = 0.4
_DEFAULT_MEMORY = 8e9  # bytes, where a device does not say
# Pauses (when lanes that are done are refilled) of one compiled call, after which the host may
# print or stop: a share of those before, so that what is found early is known early.
BLOCK_SHARE, BLOCK = 2, 8
# Queues are padded to a multiple of this, so that another number of starts recompiles nothing.
QUEUE = 128


class Found(NamedTuple):
    """The lowest point of every search so far, with leading axes of searches."""

    z: Any  # (..., q)
    f: Any  # (...), as the rest; infinite where none was finite
    evaluations: Any
    hops: Any
    finished: Any  # whether the search has used up its hops


class Width(NamedTuple):
    """How wide a chunk is: groups at once, and lanes of each."""

    groups: int
    lanes: int


class _Queue(NamedTuple):
    """The searches of a chunk."""

    z: jax.Array  # starts (groups, queue, q)
    keys: jax.Array  # (groups, queue, 2)
    length: jax.Array  # how many are real (groups,)


class _Lanes(NamedTuple):
    """Lanes at work and what their searches found, all with a leading axis of groups."""

    state: LaneState  # of all lanes, lanes last
    search: jax.Array  # the one that a lane is at (lanes,), the queue's length if none
    begun: jax.Array  # how many were ()
    found: Found  # by every search of the queue


class _Chunk(NamedTuple):
    lanes: _Lanes
    number: jax.Array  # ticks so far (), the same for all


def run(
    objective: Any,
    data: Any,
    starts: np.ndarray,
    keys: np.ndarray,
    stop: Stop,
    watch: Callable[[Found], None] | None = None,
    width: Width | None = None,
    descent: Descent = QUASI_NEWTON,
) -> Found:
    """Run every search to its end.

    Args:
        objective: hashable (z (q,), data) -> value (), gradient (q,), or what `descent` reads.
        data: its data, every leaf with a leading axis of groups.
        starts: (groups, starts, q), float64 or float32; everything is computed in this precision.
        keys: random keys (groups, starts, 2).
        stop: when each search ends, the same for all.
        watch: called at first and then now and then with what was found so far; an exception it
            raises ends the run.
        width: of a chunk; by default the device's own.

    Returns:
        NumPy arrays (groups, starts, ...); on KeyboardInterrupt those so far, not all `finished`.
    """
    data, stop = _as_precision((data, stop), starts.dtype)
    width = width or _width(starts, data, descent)
    job = _Job(objective, descent, data, starts, keys, stop, width)
    chunks = _deal(job)
    futures = []
    try:
        if watch:
            watch(job.buffer)  # compiling may take long: say before it that nothing is found yet
        # Compile once, before the threads would each do it: a chunk without searches does.
        _run_chunk(job, np.arange(1), np.arange(0))
        with ThreadPoolExecutor(min(job.devices.qsize(), len(chunks))) as pool:
            try:
                for chunk in chunks:
                    futures.append(pool.submit(_run_chunk, job, *chunk))
                    futures[-1].add_done_callback(lambda _: job.news.set())
                while not all(f.done() for f in futures):
                    job.news.wait(0.1)
                    job.news.clear()
                    if any(f.done() and f.exception() for f in futures):
                        break
                    if watch:
                        watch(job.buffer)
            finally:
                job.halt.set()  # on a failure or an interruption chunks end after their block
    except KeyboardInterrupt:
        pass
    for future in futures:
        future.result()
    return job.buffer


def evaluate(objective: Any, data: Any, z: np.ndarray) -> tuple[float, np.ndarray]:
    """Value and gradient (q,) at one point z (q,) in float64; data: of one group."""
    with jax.enable_x64(True):
        f, grad = _evaluate(objective, jnp.asarray(z), data)
        return float(f), np.asarray(grad)


@partial(jax.jit, static_argnums=0)
def _evaluate(objective: Any, z: jax.Array, data: Any) -> tuple[jax.Array, jax.Array]:
    return objective(z, data)


# --- Dealing searches out to devices -------------------------------------------------------------


@dataclass
class _Job:
    """What all chunks of a run share."""

    objective: Any
    descent: Descent
    data: Any
    starts: np.ndarray
    keys: np.ndarray
    stop: Stop
    width: Width
    # What all searches found, which chunks write into.
    buffer: Found = field(init=False)
    # Those that are free, a CPU once for each core.
    devices: queue.SimpleQueue[Any] = field(default_factory=lambda: _workers())
    # Chunks should end after their block; a chunk has written into the buffer, or has ended.
    halt: threading.Event = field(default_factory=threading.Event)
    news: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        searches = self.starts.shape[:2]
        counts = np.zeros(searches, int)
        self.buffer = Found(
            z=self.starts.copy(),
            f=np.full(searches, np.inf, self.starts.dtype),
            evaluations=counts,
            hops=counts.copy(),
            finished=np.zeros(searches, bool),
        )


def _as_precision(tree: Any, dtype: np.dtype) -> Any:
    """The same leaves, those of floating point in the given precision, whole numbers in 32 bits."""

    def cast(leaf: Any) -> np.ndarray:
        leaf = np.asarray(leaf)
        if np.issubdtype(leaf.dtype, np.floating):
            return leaf.astype(dtype)
        return leaf.astype(np.int32) if np.issubdtype(leaf.dtype, np.integer) else leaf

    return jax.tree.map(cast, tree)


def _workers() -> queue.SimpleQueue[Any]:
    """Devices that run a chunk each, side by side: every core of a CPU, every accelerator."""
    free: queue.SimpleQueue[Any] = queue.SimpleQueue()
    devices = jax.local_devices()
    for device in devices * cores() if devices[0].platform == "cpu" else devices:
        free.put(device)
    return free


def _width(starts: np.ndarray, data: Any, descent: Descent) -> Width:
    """A vector register of lanes on a CPU; on an accelerator what its memory allows."""
    groups, count, q = starts.shape
    device = jax.local_devices()[0]
    if device.platform == "cpu":
        return Width(1, CPU_REGISTER // starts.itemsize)
    with jax.enable_x64(True):
        state = jax.eval_shape(
            partial(init, descent=descent), jnp.zeros(q, starts.dtype), jnp.zeros(2, jnp.uint32)
        )
    cells = max(leaf[0].size for leaf in jax.tree.leaves(data))
    # State before and after a tick, and some tables of cells (predicted, clipped, pulled back).
    each = 2 * sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    each += 8 * cells * starts.itemsize
    memory = (device.memory_stats() or {}).get("bytes_limit", _DEFAULT_MEMORY)
    most = max(QUEUE, min(ACCELERATOR_LANES, int(_MEMORY_SHARE * memory / each)))
    lanes = min(_padded(count), most)
    return Width(max(1, min(groups, most // lanes)), lanes)


def _padded(count: int) -> int:
    return max(QUEUE, -(-count // QUEUE) * QUEUE)


def _deal(job: _Job) -> list[tuple[np.ndarray, np.ndarray]]:
    """Chunks (groups, starts): groups as wide as a chunk, split by starts while devices would be
    idle and lanes are to spare."""
    (groups, starts, _), (wide, lanes) = job.starts.shape, job.width
    parts = max(1, min(-(-job.devices.qsize() * wide // groups), starts // lanes))
    rows = [np.arange(first, min(first + wide, groups)) for first in range(0, groups, wide)]
    return [(chunk, part) for chunk in rows for part in np.array_split(np.arange(starts), parts)]


def _run_chunk(job: _Job, groups: np.ndarray, starts: np.ndarray) -> None:
    """Run some searches of some groups, and write what they find to their places in the buffer."""
    device = job.devices.get()
    pad = ((0, job.width.groups - len(groups)), (0, _padded(len(starts)) - len(starts)), (0, 0))
    cells = np.ix_(groups, starts)

    def write(out: np.ndarray, values: jax.Array) -> None:
        out[cells] = np.asarray(values)[: len(groups), : len(starts)]

    try:
        with jax.enable_x64(True), jax.default_device(device):
            length = np.where(np.arange(job.width.groups) < len(groups), len(starts), 0)
            waiting = _Queue(
                jnp.asarray(np.pad(job.starts[cells], pad)),
                jnp.asarray(np.pad(job.keys[cells], pad)),
                jnp.asarray(length),
            )
            # Groups that fill up the last chunk have no searches: it matters not whose data they
            # read.
            filled = np.resize(groups, job.width.groups)
            data = jax.tree.map(lambda leaf: jnp.asarray(leaf[filled]), job.data)
            chunk = _idle(waiting, job.width.lanes, job.descent)
            working, pauses = True, 0
            while working and not job.halt.is_set():
                most = min(max(1, pauses // BLOCK_SHARE), BLOCK)
                chunk, working = _block(
                    job.objective, job.descent, chunk, waiting, data, job.stop, most
                )
                working, pauses = bool(working), pauses + most
                jax.tree.map(write, job.buffer, chunk.lanes.found)
                job.news.set()
    finally:
        job.devices.put(device)


# --- Compiled ------------------------------------------------------------------------------------


@partial(jax.jit, static_argnums=(1, 2))
def _idle(waiting: _Queue, lanes: int, descent: Descent) -> _Chunk:
    """A chunk whose lanes have nothing to do yet."""
    groups, length, _ = waiting.z.shape
    state = jax.eval_shape(
        jax.vmap(_begin(descent)),
        *(jax.ShapeDtypeStruct((groups, x.shape[-1], lanes), x.dtype) for x in waiting[:2]),
    )
    state = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), state)
    counts = jnp.zeros((groups, length), state.hop.dtype)
    idle = _Lanes(
        state=state._replace(done=jnp.ones_like(state.done)),
        search=jnp.full((groups, lanes), length, waiting.length.dtype),
        begun=jnp.zeros_like(waiting.length),
        found=Found(
            z=waiting.z + 0.0,  # a copy: the chunk's buffers are donated later, the queue's are not
            f=jnp.full_like(waiting.z[..., 0], jnp.inf),
            evaluations=counts,
            hops=counts,
            finished=jnp.zeros((groups, length), bool),
        ),
    )
    return _Chunk(idle, jnp.zeros((), waiting.length.dtype))


_of_lanes = partial(jax.vmap, in_axes=-1, out_axes=-1)


def _begin(descent: Descent) -> Callable[[jax.Array, jax.Array], LaneState]:
    """z (q, lanes), keys (2, lanes) -> lanes about to evaluate their starts."""
    return _of_lanes(partial(init, descent=descent))


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=2)
def _block(
    objective: Any,
    descent: Descent,
    chunk: _Chunk,
    waiting: _Queue,
    data: Any,
    stop: Stop,
    most: jax.typing.ArrayLike,
) -> tuple[_Chunk, jax.Array]:
    """Advance all lanes until every search is done, `most` pauses at most; whether any is left."""
    # A single group goes without its axis: a fifth faster on a CPU, and sooner compiled.
    single = len(waiting.length) == 1
    of_groups = (lambda f: f) if single else jax.vmap
    if single:
        lanes, waiting, data = jax.tree.map(lambda leaf: leaf[0], (chunk.lanes, waiting, data))
        chunk = chunk._replace(lanes=lanes)

    def advance(i: jax.Array, chunk: _Chunk) -> _Chunk:
        def one_group(state: LaneState, mine: Any) -> LaneState:
            return _of_lanes(lambda lane: tick(lane, objective, mine, chunk.number, descent))(state)

        return _Chunk(
            chunk.lanes._replace(state=of_groups(one_group)(chunk.lanes.state, data)),
            chunk.number + 1,
        )

    def refill(lanes: _Lanes) -> _Lanes:
        return of_groups(partial(_refill, descent=descent))(lanes, waiting)

    def rest(chunk: _Chunk) -> _Chunk:
        judged = of_groups(_of_lanes(lambda lane: pause(lane, stop, descent)))(chunk.lanes.state)
        return chunk._replace(lanes=refill(chunk.lanes._replace(state=judged)))

    def working(carry: tuple[_Chunk, jax.Array]) -> jax.Array:
        chunk, pauses = carry
        return (pauses < most) & ~jnp.all(chunk.lanes.state.done)

    def once(carry: tuple[_Chunk, jax.Array]) -> tuple[_Chunk, jax.Array]:
        chunk, pauses = carry
        return rest(jax.lax.fori_loop(0, descent.pause, advance, chunk)), pauses + 1

    # The first block begins with idle lanes; on a later one this changes nothing.
    chunk = chunk._replace(lanes=refill(chunk.lanes))
    chunk, _ = jax.lax.while_loop(working, once, (chunk, jnp.zeros((), int)))
    left = ~jnp.all(chunk.lanes.state.done)
    if single:
        chunk = chunk._replace(lanes=jax.tree.map(lambda leaf: leaf[None], chunk.lanes))
    return chunk, left


def _refill(lanes: _Lanes, waiting: _Queue, descent: Descent) -> _Lanes:
    """Write down what every lane of a group has found; lanes that are done begin other searches."""
    state = lanes.state
    # A local minimisation under way may already be lower than the lowest one that has ended.
    lower = state.f < state.best_f
    now = Found(
        z=jnp.where(lower, state.z, state.best_z).T,
        f=jnp.where(lower, state.f, state.best_f),
        evaluations=state.evaluations,
        hops=state.hop,
        finished=state.done,
    )

    def put(old: jax.Array, new: jax.Array) -> jax.Array:
        return old.at[lanes.search].set(new, mode="drop")

    found, free = jax.tree.map(put, lanes.found, now), state.done
    following = lanes.begun + jnp.cumsum(free) - 1  # the search that each free lane would begin
    begins = free & (following < waiting.length)
    search = jnp.where(begins, following, 0)
    fresh = _begin(descent)(waiting.z[search].T, waiting.keys[search].T)
    return _Lanes(
        state=jax.tree.map(lambda new, old: jnp.where(begins, new, old), fresh, state),
        search=jnp.where(begins, search, jnp.where(free, waiting.z.shape[0], lanes.search)),
        begun=lanes.begun + jnp.sum(begins),
        found=found,
    )
