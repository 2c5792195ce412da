"""Problem -> starts -> MINIMA: random starts, rounds of search of every group of observations, the
best minima polished."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from mixjax.engine import batch
from mixjax.engine.batch import Found
from mixjax.engine.gauss_newton import GAUSS_NEWTON
from mixjax.engine.lane import Descent, Stop
from mixjax.engine.quasi_newton import DENSE_LIMIT, QUASI_NEWTON
from mixjax.fitting.loss import Settings
from mixjax.fitting.objective import HuberObjective, Observations
from mixjax.fitting.problem import Problem
from mixjax.law.base import start_ranges

Floats = NDArray[np.float64]
# Called with the share done and the best objective of every group so far (groups,).
Report = Callable[[float, Floats], None]
# (group, points (n, q)) -> places of those that differ.
Distinct = Callable[[int, Floats], list[int]]

# Chosen by experiment, like the defaults of `Settings`: benchmarks/NOTES.md, "budget".
_SIFT = 4  # one start in so many goes on with basin hopping
_POLISHED = 4  # so many of the lowest minima are polished
_NEARLY = 0.03  # above the lowest, relatively: a minimum that may be nearly as low once polished
# Starts that are minimised well before any other, and those of the first round; each further round
# doubles their number.
_FIRST, _ROUND = 16, 64


class Starts(NamedTuple):
    """Where searches begin: z (groups, starts, q), and their random keys (groups, starts, 2)."""

    z: Floats
    keys: NDArray[Any]

    def part(self, which: slice | NDArray[np.intp]) -> Starts:
        """Some of the starts of every group."""
        return Starts(self.z[:, which], self.keys[:, which])


def draw_starts(problem: Problem, settings: Settings, copies: int = 1) -> Starts:
    """Random starts of every target, in the precision of the search; start s is the same however
    many there are.

    A target's keys come from its name, so its answer does not depend on which other targets are
    fitted.

    Args:
        copies: how many groups in a row each target has, as in `grouped`; they begin alike.
    """
    low, high = start_ranges(problem.coordinates, problem.k)
    with jax.enable_x64(True):
        names = np.array([zlib.crc32(t.encode()) for t in problem.targets], np.uint32)
        key = jax.random.PRNGKey(settings.seed)
        z, keys = _draw(key, names, low, high, settings.starts)
        z = np.asarray(z).astype(settings.precision)
        return Starts(
            np.broadcast_to(z, (len(problem.targets) * copies, *z.shape)),
            np.repeat(np.asarray(keys), copies, axis=0),
        )


@partial(jax.jit, static_argnums=4)
def _draw(
    key: jax.Array, names: jax.Array, low: jax.Array, high: jax.Array, starts: int
) -> tuple[jax.Array, jax.Array]:
    """Starts z (starts, q) between low and high (q,), and keys (targets, starts, 2) of the targets
    whose names have these checksums."""
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, jnp.arange(starts))
    both = jax.vmap(jax.random.split)(keys)
    uniform = partial(jax.random.uniform, shape=low.shape, minval=low, maxval=high)
    of_target = jax.vmap(jax.random.fold_in, in_axes=(0, None))
    z, of_targets = jax.vmap(uniform)(both[:, 0]), jax.vmap(of_target, in_axes=(None, 0))
    return z, of_targets(both[:, 1], names)


Stage = Literal["sift", "search", "polish", "others"]


class Plan(NamedTuple):
    """How the lanes of a search go down, and when their local minimisations end."""

    descent: Descent
    sift: Stop  # of all starts
    search: Stop  # of those searched on
    polish: Stop  # of the lowest few
    others: Stop  # of those that are nearly as low


BY_CURVATURE = Plan(
    GAUSS_NEWTON,
    sift=Stop(300, 1e-2, 5),
    search=Stop(500, 1e-3, 5),
    polish=Stop(2000, 1e-8, 20),
    others=Stop(2000, 1e-5, 20),
)
BY_GRADIENTS = Plan(
    QUASI_NEWTON,
    sift=Stop(3000, 1e-2, 20),
    search=Stop(5000, 1e-4, 20),
    polish=Stop(20000, 1e-7, 50),
    others=Stop(5000, 1e-5, 20),
)


def minimise(
    objective: Any,
    data: Any,
    starts: Starts,
    stage: Stage,
    hops: int = 0,
    watch: Callable[[Found], None] | None = None,
) -> Found:
    """Every start of every group minimised as the plan of this objective says for a stage."""
    plan = plan_for(objective, starts.z.shape[-1])
    stop: Stop = getattr(plan, stage)._replace(hops=hops)
    return batch.run(objective, data, *starts, stop, watch, descent=plan.descent)


def plan_for(objective: Any, q: int) -> Plan:
    """Gauss-Newton descent where there is a curvature and q is small, quasi-Newton elsewhere."""
    curved = getattr(objective, "has_curvature", False) and q <= DENSE_LIMIT
    return BY_CURVATURE if curved else BY_GRADIENTS


class Searched(NamedTuple):
    """What a search found, in double precision."""

    minima: Found  # of the best quarter of the starts
    best: Found  # the lowest of these, polished, and others nearly as low, polished too
    lowest: int  # how many of `best` are the lowest
    plan: Plan
    finished: bool  # whether nobody interrupted it

    def converged(self, group: int) -> bool:
        """Whether the polish of the lowest minimum of a group ended by itself."""
        lowest = int(np.argmin(self.best.f[group]))
        return bool(self.best.evaluations[group, lowest] < self.plan.polish.steps)


def search(
    objective: HuberObjective,
    data: Observations,
    starts: Starts,
    hops: int,
    report: Report | None = None,
    distinct: Distinct | None = None,
) -> Searched:
    """Sift, search and polish the starts of every group of `data`.

    The starts are taken in rounds: all of a round are minimised loosely (the first of all well) and
    its best quarter goes on with basin hopping. The best minima of all rounds are polished, and as
    many more that are nearly as low but `distinct`.

    Args:
        starts: their dtype is the precision of all but the polish.
        hops: after each local minimisation of the best quarter.
        distinct: of points (n, q) of a group, those that differ from the first and each other.

    Returns:
        The minima; on KeyboardInterrupt those so far, not `finished`.
    """
    plan = plan_for(objective, starts.z.shape[-1])
    rounds = [starts.part(which) for which in _rounds(starts.z.shape[1])]
    counts = [_survivors(part) for part in rounds]
    steps = sum(part.z.shape[1] + n * (hops + 1) for part, n in zip(rounds, counts, strict=True))
    polished = _POLISHED * (1 if distinct is None else 2)
    progress = _Progress(len(starts.z), steps + polished, report)
    minima: list[Found] = []
    for part in rounds:
        first = 0 if minima else _FIRST
        minima.append(_round(objective, data, part, first, hops, progress))
        if not minima[-1].finished.all():
            break
    found = _joined(minima)
    if not found.finished.all():
        return Searched(found, found, found.f.shape[1], plan, False)
    keys = [part.keys[:, :n] for part, n in zip(rounds, counts, strict=True)]
    begin, f = _best(found, np.concatenate(keys, axis=1), _POLISHED)
    best = _no_worse(minimise(objective, data, begin, "polish", watch=progress), begin, f)
    lowest = best.f.shape[1]
    if distinct is not None and best.finished.all():
        progress.done += lowest
        begin, f = _nearly_best(found, best, begin, distinct)
        others = minimise(objective, data, begin, "others", watch=progress)
        best = _joined([best, _no_worse(others, begin, f)])
    return Searched(found, best, lowest, plan, bool(best.finished.all()))


def _nearly_best(
    found: Found, best: Found, begun: Starts, distinct: Distinct
) -> tuple[Starts, Floats]:
    """Points of every group that are nearly as low as the best and distinct from it and each other,
    as many as `begun`, and their f; the best again where there are fewer."""
    z, f = best.z[:, : begun.z.shape[1]].copy(), best.f.copy()
    for group, own in enumerate(found.f):
        lowest = int(np.argmin(f[group]))
        points = np.concatenate([z[group, lowest, None], found.z[group]])
        near = np.concatenate([[True], own <= (1 + _NEARLY) * f[group, lowest]])
        chosen = distinct(group, np.where(near[:, None], points, points[0]))[: z.shape[1]]
        chosen = [*chosen, *[0] * (z.shape[1] - len(chosen))]
        z[group], f[group] = points[chosen], np.append(f[group, lowest], own)[chosen]
    return Starts(z, begun.keys), f


def _rounds(starts: int) -> list[NDArray[np.intp]]:
    """Numbers of the starts of every round: few at first, so that something good is known soon,
    then more, so that many lanes are busy."""
    ends = [_ROUND]
    while ends[-1] < starts:
        ends.append(2 * ends[-1])
    return [part for part in np.split(np.arange(starts), ends) if len(part)]


def _round(
    objective: HuberObjective,
    data: Observations,
    starts: Starts,
    first: int,
    hops: int,
    progress: _Progress,
) -> Found:
    """The `first` starts minimised well, the others loosely, and the best quarter of all searched;
    the evaluations of all are shared out."""
    sifted: list[Found] = []
    stages: dict[Stage, slice] = {"search": slice(first), "sift": slice(first, None)}
    for stage, which in stages.items():
        part = starts.part(which)
        if part.z.size:
            sifted.append(minimise(objective, data, part, stage, watch=progress))
            if not sifted[-1].finished.all():
                break
            progress.done += part.z.shape[1]
    found = _joined(sifted)
    if not found.finished.all():
        return _in_double(objective, data, found)
    begin, f = _best(found, starts.keys, _survivors(starts))
    searched = minimise(objective, data, begin, "search", hops, progress)
    searched = _in_double(objective, data, _no_worse(searched, begin, f))
    progress.done += begin.z.shape[1] * (hops + 1)
    spent = found.evaluations.sum(axis=1, keepdims=True) / begin.z.shape[1]
    return searched._replace(evaluations=searched.evaluations + spent)


class _Progress:
    """Reports the share done and the best objectives of all rounds so far."""

    def __init__(self, groups: int, total: int, report: Report | None) -> None:
        self.total, self.report, self.done = total, report, 0
        self.best = np.full(groups, np.inf)

    def __call__(self, found: Found) -> None:
        if self.report:
            self.best = np.minimum(self.best, found.f.min(axis=1))
            done = self.done + float(found.hops.sum()) / len(self.best)
            self.report(done / self.total, self.best)


def _joined(parts: Sequence[Found]) -> Found:
    """Searches of different starts as one."""
    return jax.tree.map(lambda *leaves: np.concatenate(leaves, axis=1), *parts)


def _survivors(starts: Starts) -> int:
    """How many of these starts are searched to the end."""
    n = starts.z.shape[1]
    return min(n, max(_POLISHED, n // _SIFT))


def _best(found: Found, keys: NDArray[Any], n: int) -> tuple[Starts, Floats]:
    """The n lowest points of every group as starts, and their f (groups, n)."""
    order = np.argsort(found.f, axis=1, kind="stable")[:, :n]
    z, keys = (np.take_along_axis(x, order[..., None], axis=1) for x in (found.z, keys))
    return Starts(z, keys), np.take_along_axis(found.f, order, axis=1)


def _in_double(objective: HuberObjective, data: Observations, found: Found) -> Found:
    """What a search of single precision found in double, its objectives computed anew."""
    if found.z.dtype == np.float64:
        return found
    z, f = found.z.astype(np.float64), found.f.astype(np.float64)
    for place in map(tuple, np.argwhere(np.isfinite(f))):
        value, _ = batch.evaluate(objective, data.of(place[0]), z[place])
        f[place] = value if np.isfinite(value) else np.inf
    return found._replace(z=z, f=f)


def _no_worse(found: Found, starts: Starts, f: Floats) -> Found:
    """What was found from starts of objective f, which stand where nothing lower was."""
    better = found.f <= f
    z = np.where(better[..., None], found.z, starts.z)
    return found._replace(z=z, f=np.where(better, found.f, f))
