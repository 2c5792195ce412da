"""Problem -> engine -> FIT: the best minimum of every target in the paper's form; and what `fit`
minimises as a function of a vector, which optax, jaxopt, optimistix and SciPy can minimise."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack, overload

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixjax.data.runs import Runs, as_runs, warn_repeats
from mixjax.data.splits import clusters
from mixjax.engine import batch
from mixjax.errors import UserError
from mixjax.fitting.doubts import of_columns, of_design, tell
from mixjax.fitting.loss import FitOptions, Huber, HuberOptions, Settings, read_options
from mixjax.fitting.objective import Observations
from mixjax.fitting.problem import (
    Problem,
    at_limit,
    from_paper,
    losses_at,
    make_problem,
    to_paper,
)
from mixjax.fitting.record import Fit, Search, Status
from mixjax.fitting.search import Searched, draw_starts, search
from mixjax.law import Law, find_law, is_built_in
from mixjax.law.base import parameter_names, predict

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Watch = Callable[[float, Mapping[str, float]], None]

_ROUNDING = 1e-12  # of an objective of about 0, from residuals of a millionth of the loss
_AGREE = 1e-3  # starts within this share of the best objective count as agreeing
# Minima this near to the best, relatively, are told where their predictions differ by more than
# this at the fitted rows or at so many times their N and D.
_NEAR, _APART, _BEYOND = 0.01, 1e-3, 10.0
_RUNS = 3  # of a table for each parameter of the joint law, or a smaller law is taken
_STEEP = 1e-2  # of a search that has not converged, however it ended


def fit(
    runs: Runs | pd.DataFrame | str,
    law: str | Law | None = None,
    *,
    targets: Sequence[str] | None = None,
    weights: ArrayLike | None = None,
    watch: Watch | None = None,
    **options: Unpack[FitOptions],
) -> Fit:
    """Fit a law to every target of a table of runs.

    Minimises the mean Huber loss of the residuals (paper eq. 6) from `starts` random starts per
    target: all loosely, the best quarter with `hops` basin hops each, and the best minima are
    polished.

    Args:
        runs: `Runs`, or what `read_runs` reads.
        law: name (see `laws()`) or `Law`; by default that of the table's shape, see `law_for`.
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
    problem = make_problem(table, find_law(law or law_for(table)), targets, huber, weights)
    warn_repeats(table)
    tell(of_columns(table.name, problem.share_ranges()))
    tell(of_design(table, problem.law.reads))

    def report(share: float, best: Floats) -> None:
        if watch:
            watch(share, dict(zip(problem.targets, best.tolist(), strict=True)))

    starts = draw_starts(problem, settings)
    searched = search(
        problem.objective,
        problem.data,
        starts,
        settings.hops,
        report,
        distinct=lambda group, points: _apart(_logs(problem, group, points)),
    )
    answers = [_answer(problem, group, searched) for group in range(len(problem.targets))]
    return _record(problem, answers, _made(table, settings, time.perf_counter() - began))


def law_for(runs: Runs) -> str:
    """Name of the law that the shape of a table allows: of N and D alone without mixtures, without
    N or D where these are one, and `joint` where there are runs enough for its parameters, else
    `additive`."""
    if not runs.domains:
        return "chinchilla"
    varies = [x is not None and bool(np.ptp(x) > 0) for x in (runs.N, runs.D)]
    if not varies[0]:
        return "additive_fixed_n" if varies[1] else "additive_fixed_nd"
    joint = find_law("joint").count(len(runs.domains))
    return "joint" if len(np.unique(clusters(runs, "run"))) >= _RUNS * joint else "additive"


class _Answer(NamedTuple):
    """The fit of one target."""

    params: dict[str, Any]  # in the law's own form
    objective: float
    search: Search
    others: tuple[dict[str, Any], ...]  # of minima that are nearly as low


def _answer(problem: Problem, group: int, searched: Searched) -> _Answer:
    """The lowest minimum of a target, and how it was found."""
    minima, best = searched.minima, searched.best
    if not np.isfinite(minima.f[group]).any():
        if not searched.finished:
            raise KeyboardInterrupt  # there is no result to hand back
        what = f"no start of target {problem.targets[group]!r} gave a finite objective"
        raise UserError("fit", what, "check the losses and the start ranges of the law")
    z, params, objective = _lowest(problem, group, searched)
    distinct, others = _others(problem, group, searched, z)
    gradient = _gradient(problem, group, z)
    polished = best.f[group, : searched.lowest]
    ends = np.concatenate([polished, np.sort(minima.f[group])[len(polished) :]])
    flat = searched.converged(group) and gradient <= _STEEP
    ended = Status.CONVERGED if flat else Status.OUT_OF_BUDGET
    record = Search(
        status=ended if searched.finished else Status.INTERRUPTED,
        rows=int(problem.fitted[group].sum()),
        evaluations=int(minima.evaluations[group].sum() + best.evaluations[group].sum()),
        gradient=gradient,
        agreeing=int((ends <= ends.min() * (1 + _AGREE)).sum()),
        starts=minima.f.shape[1],
        dropped=int((~np.isfinite(minima.f[group])).sum()),
        at_limit=at_limit(problem, z),
        minima=distinct,
    )
    return _Answer(params, objective, record, others)


def _lowest(
    problem: Problem, group: int, searched: Searched
) -> tuple[Floats, dict[str, Any], float]:
    """z (q,), parameters and objective of the lowest minimum whose parameters are numbers in the
    law's own form; the objective is computed anew from these."""
    z, f = (
        np.concatenate([best[group], minima[group]])
        for best, minima in zip(searched.best[:2], searched.minima[:2], strict=True)
    )
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
    what = f"no minimum of target {problem.targets[group]!r} has parameters that are numbers"
    raise UserError("fit", what, "take a law with fewer parameters or more runs")


def _logs(problem: Problem, group: int, points: Floats) -> Floats:
    """log losses that points (n, q) of the search predict at the fitted rows of a target and beyond
    them (n, 2 rows); those of the first point where one is no number."""
    runs, fitted = problem.runs, problem.fitted[group]
    counts = {"N": runs.N, "D": runs.D}
    beyond = replace(runs, **{name: x if x is None else _BEYOND * x for name, x in counts.items()})
    with np.errstate(all="ignore"):
        losses = [losses_at(problem, group, points, rows)[:, fitted] for rows in (runs, beyond)]
        logs = np.log(np.concatenate(losses, axis=1))
    return np.where(np.isfinite(logs).all(axis=1, keepdims=True), logs, logs[0])


def _apart(logs: Floats) -> list[int]:
    """Points from the first on, each farthest from those before, until the rest is as near to one
    of them as makes no difference; logs (points, rows), of losses."""
    distance, far, new = np.full(len(logs), np.inf), list[int](), 0
    while distance[new] > _APART:
        far.append(new)
        with np.errstate(invalid="ignore"):
            off = np.nan_to_num(np.abs(logs - logs[new]).max(axis=1))
        distance = np.minimum(distance, off)
        new = int(np.argmax(distance))
    return far


def _others(
    problem: Problem, group: int, searched: Searched, z: Floats
) -> tuple[int, tuple[dict[str, Any], ...]]:
    """How many polished minima within 1 percent of the best predict differently from it and each
    other, and the parameters of those besides the best, z (q,)."""
    points = np.concatenate([z[None], searched.best.z[group]])
    f = searched.best.f[group]
    near = [True, *(f <= (1 + _NEAR) * f.min())]
    far = _apart(_logs(problem, group, np.where(np.array(near)[:, None], points, z)))
    with np.errstate(all="ignore"):
        others = [to_paper(problem, group, points[i]) for i in far[1:]]
    numbers = [p for p in others if all(np.isfinite(x).all() for x in p.values())]
    return 1 + len(numbers), tuple(numbers)


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
    law, by_target = problem.law, dict(zip(problem.targets, answers, strict=True))
    return Fit(
        law=law.name,
        domains=problem.domains,
        targets=problem.targets,
        params={t: a.params for t, a in by_target.items()},
        objective={t: a.objective for t, a in by_target.items()},
        search={t: a.search for t, a in by_target.items()},
        others={t: a.others for t, a in by_target.items() if a.others},
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


# --- For other people's minimisers ----------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Objective:
    """The mean Huber loss of one target (paper eq. 6) as a function of a flat vector z (q,).

    z has the coordinates in which `fit` searches: unconstrained, about 1 in size, well conditioned.
    Functions of a NumPy z compute in float64 and give NumPy; of a JAX z they are pure, may be
    differentiated, jitted and vmapped, and compute in its precision (float64 under
    `jax.enable_x64(True)`).

    Attributes:
        problem: what is fitted, of this target alone.
    """

    problem: Problem

    @property
    def target(self) -> str:
        """Its name."""
        return self.problem.targets[0]

    @property
    def names(self) -> tuple[str, ...]:
        """Of the entries of z (q,), in the coordinates of the search."""
        domains = (self.target,) if self.problem.law.own_domain else self.problem.domains
        return tuple(parameter_names(self.problem.coordinates, domains))

    @overload
    def value(self, z: Floats) -> float: ...
    @overload
    def value(self, z: jax.Array) -> jax.Array: ...
    def value(self, z: Any) -> Any:
        """The objective () at z (q,)."""
        if isinstance(z, np.ndarray):
            return self.value_and_grad(z)[0]
        return self.problem.objective.value(z, self._data(z))

    @overload
    def value_and_grad(self, z: Floats) -> tuple[float, Floats]: ...
    @overload
    def value_and_grad(self, z: jax.Array) -> tuple[jax.Array, jax.Array]: ...
    def value_and_grad(self, z: Any) -> Any:
        """The objective () and its gradient (q,) at z (q,), for the price of one evaluation."""
        if isinstance(z, np.ndarray):
            return batch.evaluate(self.problem.objective, self._in_double, z)
        return self.problem.objective(z, self._data(z))

    def starts(self, n: int = Settings.starts, seed: int = 0) -> Floats:
        """The starts (n, q) that `fit` draws with this seed."""
        return np.array(draw_starts(self.problem, Settings(n, seed=seed)).z[0])

    def params(self, z: ArrayLike) -> dict[str, Any]:
        """The law's own parameters at z (q,), {name: number or (k,)}, as in `Fit.params`."""
        return to_paper(self.problem, 0, np.asarray(z, dtype=np.float64))

    def at(self, params: Mapping[str, Any]) -> Floats:
        """The z (q,) of the law's own parameters, the inverse of `params`."""
        return from_paper(self.problem, 0, params)

    def _data(self, z: jax.Array) -> Observations:
        """The target's data in the precision of z."""
        return Observations(*(jnp.asarray(leaf, z.dtype) for leaf in self.problem.data.of(0)))

    @cached_property
    def _in_double(self) -> Observations:
        """The target's data on the device."""
        with jax.enable_x64(True):
            return Observations(*map(jnp.asarray, self.problem.data.of(0)))


def objective(
    runs: Runs | pd.DataFrame | str,
    law: str | Law | None = None,
    target: str | None = None,
    *,
    weights: ArrayLike | None = None,
    **options: Unpack[HuberOptions],
) -> Objective:
    """What `fit` minimises for one target, for minimisers of your own.

        objective = mj.objective(runs, "joint", "web")
        scipy.optimize.minimize(objective.value_and_grad, objective.starts(1)[0], jac=True)

    Args:
        runs: `Runs`, or what `read_runs` reads.
        law: name or `Law`; by default that of the table's shape, see `law_for`.
        target: name; the first by default.
        weights: of the rows (rows,), non-negative.
        options: delta (1e-3) and residual ("loss") of the Huber loss, see `Huber`.

    Raises:
        UserError: the table lacks what the law reads, or an option is out of range.
    """
    table, huber = as_runs(runs), Huber(**options)
    record = find_law(law or law_for(table))
    problem = make_problem(table, record, None if target is None else [target], huber, weights)
    if len(problem.targets) > 1:
        problem = make_problem(table, record, problem.targets[:1], huber, weights)
    return Objective(problem)
