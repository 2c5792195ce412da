"""A fit and many row weights -> ENSEMBLE: one parameter set per resample, warm-started, all of them
one batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixjax.data.runs import Runs
from mixjax.data.splits import resample
from mixjax.engine.batch import Found
from mixjax.errors import UserError, warn
from mixjax.fitting.loss import Settings
from mixjax.fitting.objective import Reweighted
from mixjax.fitting.problem import Problem, from_paper, make_problem, reweighted, to_paper
from mixjax.fitting.record import Fit
from mixjax.fitting.search import Starts, draw_starts, minimise
from mixjax.law.base import predict_members

Floats = NDArray[np.float64]

# Each resample begins from so many minima of the whole table, its own lowest of this many found
# from random starts; on 8 targets of the SlimPajama runs the standard errors agree with those of
# refits from random starts (benchmarks/uncertainty.py).
MINIMA, _POOL = 4, 64
_OF_POOL = 0.2  # share of the time, as it is told, that finding them takes
_SAME = 1e-3  # minima differ by more than this on the whole table, relatively
TOLERANCE = 0.01  # members may be any minimum this close to the lowest of their resample


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Many parameter sets of one law, each fitted to the same runs under other row weights."""

    fit: Fit  # of the runs as they are
    params: Mapping[str, Mapping[str, Floats]]  # as of `Fit`, (members,) or (members, k)
    # {target: objective of a member over the lowest found for its weights, relatively (members,)}
    excess: Mapping[str, Floats]

    def __len__(self) -> int:
        """Number of members."""
        return len(next(iter(self.excess.values())))

    def predict(self, N: ArrayLike | None, D: ArrayLike | None, h: ArrayLike) -> dict[str, Floats]:
        """Losses {target: (members, rows)}; N, D counts, h (rows, k), as in `Fit.predict`."""
        fit = self.fit
        rows = np.size(next(iter(fit.predict(N, D, h).values())))
        weights = np.broadcast_to(np.asarray(h, dtype=np.float64), (rows, len(fit.domains)))
        counts = (np.asarray(1.0 if x is None else x, dtype=np.float64) for x in (N, D))
        n, d = (np.broadcast_to(x, rows) for x in counts)
        params = {t: dict(self.params[t]) for t in fit.targets}
        return predict_members(fit.scaling_law, fit.domains, params, n, d, weights)

    def only(self, targets: tuple[str, ...]) -> Ensemble:
        """The same members of some of the targets."""
        whole, names = self.fit, ("params", "objective", "search")
        parts = {name: {t: getattr(whole, name)[t] for t in targets} for name in names}
        kept = replace(whole, targets=targets, **parts)
        params = {t: self.params[t] for t in targets}
        return Ensemble(kept, params, {t: self.excess[t] for t in targets})

    def member(self, i: int) -> Fit:
        """One parameter set as a fit, e.g. for `optimal_mixture`."""
        scalar = {
            t: {name: v[i] if v.ndim > 1 else float(v[i]) for name, v in p.items()}
            for t, p in self.params.items()
        }
        return replace(self.fit, params=scalar)


def refit(
    fit: Fit,
    runs: Runs,
    row_weights: ArrayLike,
    *,
    seed: int = 0,
    minima: int = MINIMA,
    tolerance: float = 0.0,
    watch: Callable[[float], None] | None = None,
) -> Ensemble:
    """Fit the law of `fit` again under each of many row weights.

    Every search begins at a minimum of the whole table: the fit's own, and those others that are
    lowest under the resample's own weights.

    Args:
        fit: of these runs.
        runs: the rows it was fitted to.
        row_weights: (resamples, rows), not negative; see `splits.resample`.
        seed: of the random starts, and of the choice among near-optimal minima.
        minima: how many minima every resample begins from, the fit's own among them.
        tolerance: 0 keeps the lowest minimum of every resample; above, one is drawn of those within
            this share of it, so that members differ by what the data do not decide.
        watch: called with the share done.

    Raises:
        UserError: row weights of another shape, or that leave a target no row.
        KeyboardInterrupt: a part of the resamples is no ensemble.
    """
    table = runs.reordered(fit.domains)
    weights = check_weights(row_weights, len(table))
    if fit.scaling_law.averaged:
        parts = [
            refit(part, runs, weights, seed=seed, minima=minima, tolerance=tolerance, watch=watch)
            for _, part in fit.parts
        ]
        return _together(fit, parts)
    problem = make_problem(table, fit.scaling_law, fit.targets, fit.huber)

    def report(found: Found, begin: float, end: float) -> None:
        if watch:
            watch(begin + (end - begin) * float(np.mean(found.finished)))

    def of_pool(found: Found) -> None:
        report(found, 0.0, _OF_POOL)

    def of_refits(found: Found) -> None:
        report(found, _OF_POOL, 1.0)

    begin = _minima(problem, fit, table, weights, minima, seed, of_pool)
    (*shape, q), resamples = begin.shape, np.arange(len(weights), dtype=np.float64)
    number = np.broadcast_to(resamples[:, None, None], (*shape, 1))
    z = np.concatenate([begin, number], axis=-1).reshape(shape[0], -1, q + 1)
    keys = np.zeros((*z.shape[:2], 2), dtype=np.uint32)  # without hops nothing is drawn
    objective, data = Reweighted(problem.objective), reweighted(problem, weights)
    found = minimise(objective, data, Starts(z, keys), "polish", watch=of_refits)
    if not found.finished.all():
        raise KeyboardInterrupt
    z, f = found.z[..., :-1].reshape(*shape, q), found.f.reshape(shape)
    return _ensemble(problem, fit, z, f, tolerance, seed)


def _together(fit: Fit, parts: Sequence[Ensemble]) -> Ensemble:
    """The ensemble of an average of laws, of those of its laws."""
    params = {
        t: {f"{x.fit.law}.{name}": v for x in parts for name, v in x.params[t].items()}
        for t in fit.targets
    }
    excess = {t: np.max([x.excess[t] for x in parts], axis=0) for t in fit.targets}
    return Ensemble(fit, params, excess)


def check_weights(row_weights: ArrayLike, rows: int) -> Floats:
    """Row weights as (resamples, rows)."""
    try:
        weights = np.atleast_2d(np.asarray(row_weights, dtype=np.float64))
    except (TypeError, ValueError):
        weights = np.empty((0, 0))
    shaped = weights.ndim == 2 and weights.shape[1] == rows and len(weights)
    if not (shaped and np.isfinite(weights).all() and (weights >= 0).all()):
        what = f"not (resamples, {rows}) numbers of at least 0"
        remedy = "give one weight per row and resample, e.g. of resample()"
        raise UserError("row_weights", what, remedy)
    return weights


def _minima(
    problem: Problem,
    fit: Fit,
    runs: Runs,
    weights: Floats,
    count: int,
    seed: int,
    watch: Callable[[Found], None],
) -> Floats:
    """Where refits begin (targets, resamples, count, q): the fit's minimum, then others."""
    own = np.stack([from_paper(problem, g, fit.params[t]) for g, t in enumerate(problem.targets)])
    begin = np.broadcast_to(own[:, None, None], (len(own), len(weights), 1, own.shape[-1]))
    if count <= 1:
        return begin
    starts = draw_starts(problem, Settings(max(_POOL, 4 * count), seed=seed))
    pool = minimise(problem.objective, problem.data, starts, "search", watch=watch)
    if not pool.finished.all():
        raise KeyboardInterrupt
    others = []
    for g, t in enumerate(problem.targets):
        finite = np.isfinite(pool.f[g])
        z, f = (
            np.concatenate([x, y[g][finite]])
            for x, y in ((own[g][None], pool.z), (np.array([fit.objective[t]]), pool.f))
        )
        values = _under_weights(problem, fit, t, runs, weights, z)
        others.append(np.stack([z[_lowest_distinct(v, f, count - 1)] for v in values]))
    return np.concatenate([begin, np.stack(others)], axis=2)


def _under_weights(
    problem: Problem, fit: Fit, target: str, runs: Runs, weights: Floats, z: Floats
) -> Floats:
    """Objectives (resamples, minima) at z (minima, q), up to a factor of each resample."""
    with np.errstate(all="ignore"):  # minima that ran off
        sets = [to_paper(problem, problem.targets.index(target), point) for point in z]
    params = {target: {name: np.stack([np.asarray(s[name]) for s in sets]) for name in sets[0]}}
    seen = np.isfinite(runs.loss(target))
    with np.errstate(all="ignore"):
        losses = predict_members(problem.law, runs.domains, params, runs.N, runs.D, runs.h)[target]
        each = fit.huber.value(fit.huber.residuals(losses[:, seen], runs.loss(target)[seen]))
        return np.nan_to_num(weights[:, seen] @ each.T, nan=np.inf, posinf=np.inf)


def _lowest_distinct(values: Floats, f: Floats, count: int) -> list[int]:
    """Which minima but the first have the lowest values, no two with the same f on the whole table;
    repeated where there are too few."""
    chosen: list[int] = []
    for i in np.argsort(values, kind="stable"):
        if len(chosen) < count and all(abs(f[i] - f[j]) > _SAME * f[j] for j in (0, *chosen)):
            chosen.append(int(i))
    return [chosen[i % len(chosen)] for i in range(count)] if chosen else [0] * count


def _ensemble(
    problem: Problem, fit: Fit, z: Floats, f: Floats, tolerance: float, seed: int
) -> Ensemble:
    """One minimum of every resample, of z (targets, resamples, starts, q) and f (targets,
    resamples, starts), in the law's own form."""
    params, excess = {}, {}
    for g, target in enumerate(problem.targets):
        rng = np.random.default_rng((seed, g))
        sets, over = [], []
        for zs, fs in zip(z[g], f[g], strict=True):
            lowest, order = fs.min(), np.argsort(fs, kind="stable")
            near = int(np.sum(fs <= lowest * (1 + tolerance)))
            if tolerance > 0 and near > 1:
                order[:near] = order[rng.permutation(near)]
            finite, place = first_finite(problem, g, zs[order])
            if finite is not None:
                sets.append(finite)
                over.append(float(fs[order[place]] / lowest - 1) if lowest > 0 else 0.0)
        params[target] = _stacked(fit, target, sets, len(z[g]))
        excess[target] = np.resize(over or [0.0], len(z[g]))
    return Ensemble(fit, params, excess)


def first_finite(problem: Problem, group: int, z: Floats) -> tuple[dict[str, Any] | None, int]:
    """The first parameters of z (starts, q) that are numbers in the law's own form; their place."""
    for place, point in enumerate(z):
        with np.errstate(all="ignore"):
            params = to_paper(problem, group, point)
        if all(np.isfinite(value).all() for value in params.values()):
            return params, place
    return None, 0


def _stacked(
    fit: Fit, target: str, sets: Sequence[Mapping[str, Any]], resamples: int
) -> dict[str, Floats]:
    """Parameter sets as arrays (resamples, ...), some twice where others are not of numbers."""
    gone = resamples - len(sets)
    if gone:
        what = f"{gone} of {resamples} refits of target {target!r} ran off to infinity"
        warn("refit", what, "they are left out; take a law with fewer parameters")
    if not sets:
        what = f"no refit of target {target!r} has parameters that are numbers"
        raise UserError("refit", what, "take a law with fewer parameters or more runs")
    chosen = [sets[i % len(sets)] for i in range(resamples)]
    return {name: np.stack([np.asarray(s[name]) for s in chosen]) for name in fit.params[target]}


def bootstrap(
    fit: Fit,
    runs: Runs,
    resamples: int,
    by: str,
    seed: int,
    watch: Callable[[float], None] | None = None,
) -> Ensemble:
    """Refits under clustered resamples; members are any minimum within 1 percent of the lowest of
    their resample."""
    weights = resample(runs, resamples, by, seed)
    return refit(fit, runs, weights, seed=seed, tolerance=TOLERANCE, watch=watch)
