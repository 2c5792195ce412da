"""A fit and many row weights -> ENSEMBLE: one parameter set per resample, warm-started, all of them
one batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixjax.data.runs import Runs
from mixjax.engine.batch import Found
from mixjax.errors import UserError, warn
from mixjax.fitting.loss import Settings
from mixjax.fitting.objective import Reweighted
from mixjax.fitting.problem import Problem, from_paper, make_problem, reweighted, to_paper
from mixjax.fitting.record import Fit
from mixjax.fitting.search import Starts, draw_starts, minimise
from mixjax.law.evaluate import predict_members

Floats = NDArray[np.float64]

# Each resample begins from so many minima of the whole table, its own lowest of this many found
# from random starts; on 8 targets of the SlimPajama runs the standard errors agree with those of
# refits from random starts (benchmarks/uncertainty.py).
MINIMA, _POOL = 4, 64
# Share of the time, as it is told, that finding them takes.
_OF_POOL = 0.2
# Minima are distinct when their objectives on the whole table differ by more than this, relatively.
_SAME = 1e-3
# Members may be any minimum this close to the lowest of their resample, relatively.
TOLERANCE = 0.01


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Many parameter sets of one law, each fitted to the same runs under other row weights.

    Attributes:
        fit: the fit of the runs as they are.
        params: {target: {parameter: (members,) or (members, k)}}, in the law's own form as in
            `Fit.params`.
        excess: {target: objective of each member over the lowest one found for its weights,
            relatively (members,)}.
    """

    fit: Fit
    params: Mapping[str, Mapping[str, Floats]]
    excess: Mapping[str, Floats]

    def __len__(self) -> int:
        """Number of members."""
        return len(next(iter(self.excess.values())))

    def predict(self, N: ArrayLike | None, D: ArrayLike | None, h: ArrayLike) -> dict[str, Floats]:
        """Predicted losses {target: (members, rows)}; N, D counts, h (rows, k), as in
        `Fit.predict`."""
        point = self.fit.predict(N, D, h)
        rows = np.size(next(iter(point.values())))
        weights = np.broadcast_to(np.asarray(h, dtype=np.float64), (rows, len(self.fit.domains)))
        n, d = (
            np.broadcast_to(np.ones(()) if x is None else np.asarray(x, dtype=np.float64), rows)
            for x in (N, D)
        )
        params = {t: dict(self.params[t]) for t in self.fit.targets}
        return predict_members(self.fit.scaling_law, self.fit.domains, params, n, d, weights)

    def only(self, targets: tuple[str, ...]) -> Ensemble:
        """The same members of some of the targets."""
        kept = replace(
            self.fit,
            targets=targets,
            **{
                name: {t: getattr(self.fit, name)[t] for t in targets}
                for name in ("params", "objective", "search")
            },
        )
        return Ensemble(
            kept, {t: self.params[t] for t in targets}, {t: self.excess[t] for t in targets}
        )

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
    lowest under the resample's own weights, because another minimum of the table may be the nearest
    to the lowest there.

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
    problem = make_problem(table, fit.scaling_law, fit.targets, fit.huber)

    def report(found: Found, begin: float, end: float) -> None:
        if watch:
            watch(begin + (end - begin) * float(np.mean(found.finished)))

    starts = _minima(
        problem, fit, table, weights, minima, seed, lambda found: report(found, 0.0, _OF_POOL)
    )
    targets, resamples, count, q = starts.shape
    number = np.broadcast_to(
        np.arange(resamples, dtype=np.float64)[None, :, None, None], (targets, resamples, count, 1)
    )
    z = np.concatenate([starts, number], axis=-1).reshape(targets, resamples * count, q + 1)
    keys = np.zeros(
        (targets, resamples * count, 2), dtype=np.uint32
    )  # without hops nothing is drawn
    found = minimise(
        Reweighted(problem.objective),
        reweighted(problem, weights),
        Starts(z, keys),
        "polish",
        watch=lambda found: report(found, _OF_POOL, 1.0),
    )
    if not found.finished.all():
        raise KeyboardInterrupt
    shape = (targets, resamples, count)
    return _ensemble(
        problem, fit, found.z[..., :-1].reshape(*shape, q), found.f.reshape(shape), tolerance, seed
    )


def check_weights(row_weights: ArrayLike, rows: int) -> Floats:
    """Row weights as (resamples, rows)."""
    try:
        weights = np.atleast_2d(np.asarray(row_weights, dtype=np.float64))
    except (TypeError, ValueError):
        weights = np.empty((0, 0))
    if (
        weights.ndim != 2
        or weights.shape[1] != rows
        or not len(weights)
        or not np.isfinite(weights).all()
        or (weights < 0).any()
    ):
        raise UserError(
            "row_weights",
            f"not (resamples, {rows}) numbers of at least 0",
            "give one weight per row and resample, e.g. of resample()",
        )
    return weights


def _minima(
    problem: Problem,
    fit: Fit,
    runs: Runs,
    weights: Floats,
    count: int,
    seed: int,
    watch: Callable[[Found], None] | None = None,
) -> Floats:
    """Where the refits begin (targets, resamples, count, q): the fit's minimum, then others of the
    whole table."""
    own = np.stack([from_paper(problem, g, fit.params[t]) for g, t in enumerate(problem.targets)])
    begin = np.broadcast_to(own[:, None, None], (len(own), len(weights), 1, own.shape[-1]))
    if count <= 1:
        return begin
    pool = minimise(
        problem.objective,
        problem.data,
        draw_starts(problem, Settings(max(_POOL, 4 * count), seed=seed)),
        "search",
        watch=watch,
    )
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
    """Objectives (resamples, minima) of one target at minima z (minima, q), up to a factor of each
    resample."""
    with np.errstate(all="ignore"):  # minima that ran off
        sets = [to_paper(problem, problem.targets.index(target), point) for point in z]
    params = {target: {name: np.stack([np.asarray(s[name]) for s in sets]) for name in sets[0]}}
    seen = np.isfinite(runs.loss(target))
    with np.errstate(all="ignore"):
        losses = predict_members(problem.law, runs.domains, params, runs.N, runs.D, runs.h)[target]
        each = fit.huber.value(fit.huber.residuals(losses[:, seen], runs.loss(target)[seen]))
        return np.nan_to_num(weights[:, seen] @ each.T, nan=np.inf, posinf=np.inf)


def _lowest_distinct(values: Floats, f: Floats, count: int) -> list[int]:
    """Which minima have the lowest values, the first of all aside, no two with the same f on the
    whole table; repeated where there are too few."""
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
            lowest = fs.min()
            order = list(np.argsort(fs, kind="stable"))
            near = [i for i in order if fs[i] <= lowest * (1 + tolerance)]
            if tolerance > 0 and len(near) > 1:
                order = [near[i] for i in rng.permutation(len(near))] + [
                    i for i in order if i not in near
                ]
            finite, place = first_finite(problem, g, zs[order])
            if finite is not None:
                sets.append(finite)
                over.append(float(fs[order[place]] / lowest - 1) if lowest > 0 else 0.0)
        params[target], excess[target] = (
            _stacked(fit, target, sets, len(z[g])),
            np.resize(over or [0.0], len(z[g])),
        )
    return Ensemble(fit, params, excess)


def first_finite(problem: Problem, group: int, z: Floats) -> tuple[dict[str, Any] | None, int]:
    """The first of z (starts, q) whose parameters are numbers in the law's own form, and its
    place."""
    for place, point in enumerate(z):
        with np.errstate(all="ignore"):
            params = to_paper(problem, group, point)
        if all(np.isfinite(value).all() for value in params.values()):
            return params, place
    return None, 0


def _stacked(
    fit: Fit, target: str, sets: Sequence[Mapping[str, Any]], resamples: int
) -> dict[str, Floats]:
    """Parameter sets as arrays (resamples, ...); a set that is not of numbers is replaced by
    another resample's."""
    if len(sets) < resamples:
        warn(
            "refit",
            (
                f"{resamples - len(sets)} of {resamples} refits of target {target!r} ran off "
                f"to infinity"
            ),
            "they are left out; take a law with fewer parameters",
        )
    if not sets:
        raise UserError(
            "refit",
            f"no refit of target {target!r} has parameters that are numbers",
            "take a law with fewer parameters or more runs",
        )
    chosen = [sets[i % len(sets)] for i in range(resamples)]
    return {name: np.stack([np.asarray(s[name]) for s in chosen]) for name in fit.params[target]}
