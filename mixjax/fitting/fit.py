"""Problem -> engine -> FIT: starts, rounds of search, the best minimum of every target in the
paper's form."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Unpack

import jax
import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixjax.data.runs import Runs, read_runs, warn_repeats
from mixjax.engine import batch
from mixjax.engine.batch import Found
from mixjax.errors import UserError
from mixjax.fitting.doubts import of_columns, tell
from mixjax.fitting.loss import FitOptions, Huber, Settings, read_options
from mixjax.fitting.problem import Problem, at_limit, make_problem, row_weights, to_paper
from mixjax.fitting.record import Fit, Search, Status
from mixjax.fitting.search import Searched, draw_starts, search
from mixjax.law import Law, find_law, is_built_in
from mixjax.law.evaluate import domain_index, predict

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Watch = Callable[[float, Mapping[str, float]], None]

_ROUNDING = 1e-12  # of an objective of about 0, from residuals of a millionth of the loss
_AGREE = 1e-3  # starts within this share of the best objective count as agreeing


def fit(
    runs: Runs | pd.DataFrame | str,
    law: str | Law = "joint",
    *,
    targets: Sequence[str] | None = None,
    weights: ArrayLike | None = None,
    watch: Watch | None = None,
    **options: Unpack[FitOptions],
) -> Fit:
    """Fit a law to every target of a table of runs.

    Minimises the mean Huber loss of the residuals (paper eq. 6) from `starts` random starts per
    target. All are minimised loosely, the best quarter goes on with `hops` basin hops each, and the
    best minima are polished. The best of them is returned.

    Args:
        runs: `Runs`, or what `read_runs` reads.
        law: name (see `laws()`) or `Law`.
        targets: names; all by default.
        weights: of the rows (rows,), non-negative; the mean becomes a weighted mean.
        watch: called with the share done and {target: best objective so far}.
        options: starts (128), hops (2), seed (0) and precision ("float64") of the search, see
            `Settings`; delta (1e-3) and residual ("loss") of the Huber loss, see `Huber`.

    Returns:
        The `Fit`. On KeyboardInterrupt the best so far, its searches marked "interrupted".

    Raises:
        UserError: the table lacks what the law reads, or an option is out of range.
    """
    began = time.perf_counter()
    table = runs if isinstance(runs, Runs) else read_runs(runs)
    huber, settings = read_options(options)
    problem = make_problem(table, find_law(law), targets, huber, weights)
    warn_repeats(table)
    tell(of_columns(table.name, _share_ranges(problem, table, row_weights(table, weights))))

    def report(share: float, best: Floats) -> None:
        if watch:
            watch(share, dict(zip(problem.targets, best.tolist(), strict=True)))

    starts = draw_starts(problem, settings)
    found = search(problem.objective, problem.data, starts, settings.hops, report)
    _check_found(problem, found)
    made = _made(table, settings, time.perf_counter() - began)
    return _record(problem, table, found, huber, weights, made)


def _check_found(problem: Problem, searched: Searched) -> None:
    """Every target has a finite minimum; without one, an interrupted fit has no result to hand
    back."""
    found = np.isfinite(searched.minima.f).any(axis=1)
    if not found.all() and not searched.finished:
        raise KeyboardInterrupt
    if not found.all():
        bad = problem.targets[int(np.argmin(found))]
        raise UserError(
            "fit",
            f"no start of target {bad!r} gave a finite objective",
            "check the losses and the start ranges of the law",
        )


def _record(
    problem: Problem,
    runs: Runs,
    searched: Searched,
    huber: Huber,
    weights: ArrayLike | None,
    made: dict[str, Any],
) -> Fit:
    """The best of every target as a `Fit`; objectives are computed anew from the parameters
    reported."""
    minima, best = searched.minima, searched.best
    params, records, objective = {}, {}, {}
    shares = row_weights(runs, weights)
    for g, target in enumerate(problem.targets):
        z, params[target], objective[target] = _reported(
            problem, g, runs, (best, minima), huber, shares
        )
        ends = np.concatenate([best.f[g], np.sort(minima.f[g])[best.f.shape[1] :]])
        ended = Status.CONVERGED if searched.converged(g) else Status.OUT_OF_BUDGET
        records[target] = Search(
            status=ended if searched.finished else Status.INTERRUPTED,
            rows=problem.rows[g],
            evaluations=int(minima.evaluations[g].sum() + best.evaluations[g].sum()),
            gradient=_gradient(problem, g, z),
            agreeing=int((ends <= ends.min() * (1 + _AGREE)).sum()),
            starts=minima.f.shape[1],
            dropped=int((~np.isfinite(minima.f[g])).sum()),
            at_limit=at_limit(problem, z),
        )
    units = problem.law.units
    fitted = _fitted(problem, runs, shares)
    reads = zip(("N", "D"), (runs.N, runs.D), problem.law.reads, strict=True)
    ranges = {
        name: (float(x[fitted].min()), float(x[fitted].max()))
        for name, x, needed in reads
        if needed and x is not None
    }
    own = None if is_built_in(problem.law.name) else problem.law
    trained = _share_ranges(problem, runs, shares)
    return Fit(
        problem.law.name,
        problem.domains,
        problem.targets,
        params,
        objective,
        records,
        huber,
        units,
        ranges,
        made,
        own,
        trained,
    )


def _fitted(problem: Problem, runs: Runs, weights: Floats) -> NDArray[np.bool_]:
    """Rows (rows,) with a weight and a measured loss of some target."""
    return (weights > 0) & np.any([np.isfinite(runs.loss(t)) for t in problem.targets], axis=0)


def _share_ranges(problem: Problem, runs: Runs, weights: Floats) -> dict[str, tuple[float, float]]:
    """Smallest and largest share of each domain in the fitted rows."""
    h = runs.h[_fitted(problem, runs, weights)]
    return (
        {d: (float(of.min()), float(of.max())) for d, of in zip(problem.domains, h.T, strict=True)}
        if len(h)
        else {}
    )


def _reported(
    problem: Problem,
    group: int,
    runs: Runs,
    searches: tuple[Found, ...],
    huber: Huber,
    weights: Floats,
) -> tuple[Floats, dict[str, Any], float]:
    """The lowest minimum whose parameters are finite in the paper's form: z (q,), parameters,
    objective."""
    z = np.concatenate([s.z[group] for s in searches])
    f = np.concatenate([s.f[group] for s in searches])
    target = problem.targets[group]
    size = 1.0 if huber.residual == "log" else problem.units[group].loss
    rounding = _ROUNDING * size * min(size, huber.delta)
    for at in np.argsort(f, kind="stable"):
        with np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore"):
            params = to_paper(problem, group, z[at])
        if all(np.isfinite(value).all() for value in params.values()):
            objective = _objective(problem.law, runs, target, params, huber, weights)
            if np.isfinite(objective) and objective <= f[at] * (1 + 1e-4) + rounding:
                return z[at], params, objective
    raise UserError(
        "fit",
        f"no minimum of target {target!r} has parameters that are numbers",
        "take a law with fewer parameters or more runs",
    )


def _objective(
    law: Law,
    runs: Runs,
    target: str,
    params: dict[str, Any],
    huber: Huber,
    weights: Floats,
) -> float:
    """Mean Huber loss of the reported parameters over the fitted rows, row by row."""
    loss = runs.loss(target)
    seen = np.isfinite(loss) & (weights > 0)
    if law.own_domain:
        seen &= runs.h[:, domain_index(law, runs.domains, target)][:, 0] > 0
    ones = np.ones(len(runs))
    predicted = predict(
        law,
        runs.domains,
        {target: params},
        ones if runs.N is None else runs.N,
        ones if runs.D is None else runs.D,
        runs.h,
    )[target]
    p, m, w = predicted[seen], loss[seen], weights[seen]
    return float(np.average(huber.value(huber.residuals(p, m)), weights=w))


def _gradient(problem: Problem, group: int, z: Floats) -> float:
    """Largest |d log objective / dz_i|; 0 where the objective itself is."""
    f, grad = batch.evaluate(problem.objective, problem.data, group, z)
    return float(np.max(np.abs(grad)) / f) if f > 0 else 0.0


def _made(runs: Runs, settings: Settings, seconds: float) -> dict[str, Any]:
    import mixjax

    device = jax.devices()[0]
    return {
        "mixjax": mixjax.__version__,
        "jax": jax.__version__,
        "device": f"{device.platform}: {device.device_kind}",
        "table": runs.name,
        "fingerprint": runs.fingerprint(),
        "starts": settings.starts,
        "hops": settings.hops,
        "seed": settings.seed,
        "seconds": round(seconds, 3),
    }
