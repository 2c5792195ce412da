"""Starts -> MINIMA: rounds of search of every group of observations, and the best minima
polished."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from mixjax.engine import batch
from mixjax.engine.descent import Descent
from mixjax.engine.direction import DENSE_LIMIT
from mixjax.engine.gauss_newton import GAUSS_NEWTON
from mixjax.engine.lane import Budget
from mixjax.engine.quasi_newton import QUASI_NEWTON
from mixjax.fitting.objective import HuberObjective, Observations

Floats = NDArray[np.float64]
# Called with the share done and the best objective of every group so far (groups,).
Report = Callable[[float, Floats], None]

# Starts that are minimised well before any other, and those of the first round; each further round
# doubles their number.
_FIRST, _ROUND = 16, 64
_SIFTED, _POLISHED = 4, 4  # one start in 4 is searched to the end; the best 4 minima are polished


Stage = Literal["sift", "search", "polish"]


class Stop(NamedTuple):
    """When a local minimisation ends: after so many steps, or when `window` steps lower the
    objective by less than the share `decrease`."""

    steps: int
    decrease: float
    window: int


class Plan(NamedTuple):
    """How the lanes of a search go down, and when their local minimisations end: of all starts, of
    those searched on, of the last few."""

    descent: Descent
    sift: Stop
    search: Stop
    polish: Stop


BY_CURVATURE = Plan(GAUSS_NEWTON, Stop(300, 1e-2, 5), Stop(500, 1e-3, 5), Stop(2000, 1e-5, 20))
BY_GRADIENTS = Plan(QUASI_NEWTON, Stop(3000, 1e-2, 20), Stop(5000, 1e-4, 20), Stop(20000, 1e-7, 50))


def minimise(
    objective: Any,
    data: Any,
    z: Floats,
    keys: NDArray[Any],
    stage: Stage,
    hops: int = 0,
    watch: Callable[[batch.Search], None] | None = None,
) -> batch.Search:
    """Every start of every group minimised as the plan of this objective says for a stage; see
    `engine.batch.run`."""
    plan = plan_for(objective, z.shape[-1])
    return batch.run(
        objective,
        data,
        z,
        keys,
        make_budget(hops, getattr(plan, stage)),
        watch,
        descent=plan.descent,
    )


def plan_for(objective: Any, q: int) -> Plan:
    """Gauss-Newton descent where the objective has a curvature and its matrices (q, q) are small,
    quasi-Newton elsewhere."""
    return (
        BY_CURVATURE
        if getattr(objective, "has_curvature", False) and q <= DENSE_LIMIT
        else BY_GRADIENTS
    )


class Searched(NamedTuple):
    """What a search found.

    Attributes:
        minima: of the best quarter of the starts.
        best: the lowest of these, polished.
        plan: how.
    """

    minima: batch.Search
    best: batch.Search
    plan: Plan

    @property
    def finished(self) -> bool:
        """Whether nobody interrupted it."""
        return self.minima.finished and self.best.finished

    def converged(self, group: int) -> bool:
        """Whether the polish of the lowest minimum of a group ended by itself."""
        return bool(
            self.best.evaluations[group, int(np.argmin(self.best.f[group]))]
            < self.plan.polish.steps
        )


def make_budget(hops: int, stop: Stop) -> Budget:
    """A `Budget` in the numbers that the engine reads."""
    with jax.enable_x64(True):
        return Budget(
            jnp.asarray(hops, jnp.int32),
            jnp.asarray(stop.steps, jnp.int32),
            jnp.asarray(stop.decrease),
            jnp.asarray(stop.window, jnp.int32),
        )


def search(
    objective: HuberObjective,
    data: Observations,
    z: Floats,
    keys: NDArray[Any],
    hops: int,
    report: Report | None = None,
) -> Searched:
    """Sift, search and polish the starts of every group of `data`.

    The starts are taken in rounds: all of a round are minimised loosely (the first of all well) and
    its best quarter goes on with basin hopping. The best minima of all rounds are polished.

    Args:
        z: starts (groups, starts, q); their dtype is the precision of all but the polish.
        keys: random keys of the starts (groups, starts, 2).
        hops: after each local minimisation of the best quarter.
        report: called now and then.

    Returns:
        Minima in double precision; on KeyboardInterrupt what was found so far, not `finished`.
    """
    starts, plan = z.shape[1], plan_for(objective, z.shape[-1])
    rounds = _rounds(starts)
    progress = _Progress(
        len(z),
        sum(len(some) + _survivors(len(some)) * (hops + 1) for some in rounds) + _POLISHED,
        report,
    )
    found: list[batch.Search] = []
    for some in rounds:
        found.append(
            _round(
                objective, data, z[:, some], keys[:, some], 0 if found else _FIRST, hops, progress
            )
        )
        if not found[-1].finished:
            break
    minima = _joined(found)
    if not minima.finished:
        return Searched(minima, minima, plan)
    begin, keys, f = _best(
        minima,
        np.concatenate([keys[:, some[: _survivors(len(some))]] for some in rounds], axis=1),
        _POLISHED,
    )
    polished = minimise(objective, data, begin, keys, "polish", watch=progress)
    return Searched(minima, _no_worse(polished, begin, f), plan)


def _rounds(starts: int) -> list[NDArray[np.intp]]:
    """Numbers of the starts of every round: few at first, so that something good is known soon,
    then more, so that many lanes are busy."""
    ends = [_ROUND]
    while ends[-1] < starts:
        ends.append(2 * ends[-1])
    return [some for some in np.split(np.arange(starts), ends) if len(some)]


def _round(
    objective: HuberObjective,
    data: Observations,
    z: Floats,
    keys: NDArray[Any],
    first: int,
    hops: int,
    progress: _Progress,
) -> batch.Search:
    """The `first` starts minimised well, the others loosely, and the best quarter of all searched;
    the evaluations of all are shared out."""
    parts: list[batch.Search] = []
    stages: tuple[tuple[slice, Stage], ...] = (
        (slice(first), "search"),
        (slice(first, None), "sift"),
    )
    for some, stage in stages:
        if z[:, some].size:
            parts.append(
                minimise(objective, data, z[:, some], keys[:, some], stage, watch=progress)
            )
            if not parts[-1].finished:
                break
            progress.done += z[:, some].shape[1]
    sifted = _joined(parts)
    if not sifted.finished:
        return _in_double(objective, data, sifted)
    begin, keys, f = _best(sifted, keys, _survivors(z.shape[1]))
    searched = minimise(objective, data, begin, keys, "search", hops, progress)
    searched = _in_double(objective, data, _no_worse(searched, begin, f))
    progress.done += begin.shape[1] * (hops + 1)
    spent = sifted.evaluations.sum(axis=1, keepdims=True) / begin.shape[1]
    return searched._replace(evaluations=searched.evaluations + spent)


class _Progress:
    """Reports the share done and the best objectives of all rounds so far."""

    def __init__(self, groups: int, total: int, report: Report | None) -> None:
        self.total, self.report, self.done = total, report, 0
        self.best = np.full(groups, np.inf)

    def __call__(self, search: batch.Search) -> None:
        if self.report:
            self.best = np.minimum(self.best, search.f.min(axis=1))
            self.report(
                (self.done + float(search.hops.sum()) / len(self.best)) / self.total, self.best
            )


def _joined(parts: Sequence[batch.Search]) -> batch.Search:
    """Searches of different starts as one."""
    z, f, evaluations, hops = (
        np.concatenate(leaves, axis=1) for leaves in list(zip(*parts, strict=True))[:4]
    )
    return batch.Search(z, f, evaluations, hops, all(part.finished for part in parts))


def _survivors(starts: int) -> int:
    """How many starts are searched to the end."""
    return min(starts, max(_POLISHED, starts // _SIFTED))


def _best(search: batch.Search, keys: NDArray[Any], n: int) -> tuple[Floats, NDArray[Any], Floats]:
    """z (groups, n, q), keys and f (groups, n) of the n best searches of every group."""
    order = np.argsort(search.f, axis=1, kind="stable")[:, :n]
    return (
        np.take_along_axis(search.z, order[..., None], axis=1),
        np.take_along_axis(keys, order[..., None], axis=1),
        np.take_along_axis(search.f, order, axis=1),
    )


def _in_double(objective: HuberObjective, data: Observations, search: batch.Search) -> batch.Search:
    """A search of single precision in double, its objectives computed anew."""
    if search.z.dtype == np.float64:
        return search
    z, f = search.z.astype(np.float64), search.f.astype(np.float64)
    for at in np.argwhere(np.isfinite(f)):
        value, _ = batch.evaluate(objective, data, at[0], z[tuple(at)])
        f[tuple(at)] = value if np.isfinite(value) else np.inf
    return search._replace(z=z, f=f)


def _no_worse(search: batch.Search, z: Floats, f: Floats) -> batch.Search:
    """A search that began at z with f and keeps these where it found nothing lower."""
    better = search.f <= f
    return search._replace(
        z=np.where(better[..., None], search.z, z), f=np.where(better, search.f, f)
    )
