"""Problem -> engine -> FIT: starts, rounds of search, the best minimum of every target in the
paper's form."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack

import jax
import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixjax.data.runs import Runs, as_runs, warn_repeats
from mixjax.engine import batch
from mixjax.errors import UserError
from mixjax.fitting.doubts import of_columns, tell
from mixjax.fitting.loss import FitOptions, Settings, read_options
from mixjax.fitting.problem import Problem, at_limit, make_problem, to_paper
from mixjax.fitting.record import Fit, Search, Status
from mixjax.fitting.search import Searched, draw_starts, search
from mixjax.law import Law, find_law, is_built_in
from mixjax.law.evaluate import predict

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
    table = as_runs(runs)
    huber, settings = read_options(options)
    problem = make_problem(table, find_law(law), targets, huber, weights)
    warn_repeats(table)
    tell(of_columns(table.name, problem.share_ranges()))

    def report(share: float, best: Floats) -> None:
        if watch:
            watch(share, dict(zip(problem.targets, best.tolist(), strict=True)))

    starts = draw_starts(problem, settings)
    searched = search(problem.objective, problem.data, starts, settings.hops, report)
    answers = [_answer(problem, group, searched) for group in range(len(problem.targets))]
    return _record(problem, answers, _made(table, settings, time.perf_counter() - began))


class _Answer(NamedTuple):
    """The fit of one target: parameters in the law's own form, their objective, how they were
    found."""

    params: dict[str, Any]
    objective: float
    search: Search


def _answer(problem: Problem, group: int, searched: Searched) -> _Answer:
    """The lowest minimum of a target whose parameters are numbers in the law's own form; its
    objective is computed anew from these."""
    target, minima, best = problem.targets[group], searched.minima, searched.best
    if not np.isfinite(minima.f[group]).any():
        if not searched.finished:
            raise KeyboardInterrupt  # there is no result to hand back
        what = f"no start of target {target!r} gave a finite objective"
        raise UserError("fit", what, "check the losses and the start ranges of the law")
    z, params, objective = _lowest(problem, group, searched)
    ends = np.concatenate([best.f[group], np.sort(minima.f[group])[best.f.shape[1] :]])
    ended = Status.CONVERGED if searched.converged(group) else Status.OUT_OF_BUDGET
    record = Search(
        status=ended if searched.finished else Status.INTERRUPTED,
        rows=int(problem.fitted[group].sum()),
        evaluations=int(minima.evaluations[group].sum() + best.evaluations[group].sum()),
        gradient=_gradient(problem, group, z),
        agreeing=int((ends <= ends.min() * (1 + _AGREE)).sum()),
        starts=minima.f.shape[1],
        dropped=int((~np.isfinite(minima.f[group])).sum()),
        at_limit=at_limit(problem, z),
    )
    return _Answer(params, objective, record)


def _lowest(
    problem: Problem, group: int, searched: Searched
) -> tuple[Floats, dict[str, Any], float]:
    """z (q,), parameters and objective of the lowest minimum that stands in the law's own form."""
    z = np.concatenate([searched.best.z[group], searched.minima.z[group]])
    f = np.concatenate([searched.best.f[group], searched.minima.f[group]])
    huber = problem.huber
    size = 1.0 if huber.residual == "log" else problem.units[group].loss
    rounding = _ROUNDING * size * min(size, huber.delta)
    for i in np.argsort(f, kind="stable"):
        with np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore"):
            params = to_paper(problem, group, z[i])
        if all(np.isfinite(value).all() for value in params.values()):
            objective = _objective(problem, group, params)
            if np.isfinite(objective) and objective <= f[i] * (1 + 1e-4) + rounding:
                return z[i], params, objective
    raise UserError(
        "fit",
        f"no minimum of target {problem.targets[group]!r} has parameters that are numbers",
        "take a law with fewer parameters or more runs",
    )


def _objective(problem: Problem, group: int, params: dict[str, Any]) -> float:
    """Mean Huber loss of parameters in the law's own form over the fitted rows, row by row."""
    runs, target, counts = problem.runs, problem.targets[group], problem.fitted[group]
    losses = predict(problem.law, runs.domains, {target: params}, runs.N, runs.D, runs.h)[target]
    residuals = problem.huber.residuals(losses[counts], runs.loss(target)[counts])
    return float(np.average(problem.huber.value(residuals), weights=problem.weights[counts]))


def _gradient(problem: Problem, group: int, z: Floats) -> float:
    """Largest |d log objective / dz_i|; 0 where the objective itself is."""
    f, grad = batch.evaluate(problem.objective, problem.data.of(group), z)
    return float(np.max(np.abs(grad)) / f) if f > 0 else 0.0


def _record(problem: Problem, answers: Sequence[_Answer], made: dict[str, Any]) -> Fit:
    law, targets = problem.law, problem.targets
    return Fit(
        law=law.name,
        domains=problem.domains,
        targets=targets,
        params={t: a.params for t, a in zip(targets, answers, strict=True)},
        objective={t: a.objective for t, a in zip(targets, answers, strict=True)},
        search={t: a.search for t, a in zip(targets, answers, strict=True)},
        huber=problem.huber,
        units=law.units,
        ranges=problem.ranges(),
        share_ranges=problem.share_ranges(),
        made=made,
        own_law=None if is_built_in(law.name) else law,
    )


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
