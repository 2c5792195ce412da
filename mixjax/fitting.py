"""Problem -> engine -> FIT: starts, rounds of search, the best minimum of every target in the paper's form."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixjax.engine import batch
from mixjax.engine.lane import Budget
from mixjax.errors import UserError
from mixjax.law import Law, find_law, laws
from mixjax.law.base import start_ranges, terms
from mixjax.law.evaluate import domain_index, predict
from mixjax.objective import HuberObjective, Observations
from mixjax.problem import Problem, at_limit, make_problem, row_weights, to_paper
from mixjax.record import Fit, Search
from mixjax.runs import Runs, read_runs
from mixjax.score import SMALLEST_LOSS, huber

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Watch = Callable[[float, Mapping[str, float]], None]

# Defaults chosen by experiment: benchmarks/NOTES.md, "budget". Every start is minimised loosely; the best
# quarter goes on with basin hopping; the best few of these are polished.
STARTS, HOPS = 128, 2
_SIFT = {"steps": 3000, "decrease": 1e-2, "window": 20}
_SEARCH = {"steps": 5000, "decrease": 1e-4, "window": 20}
_POLISH = {"steps": 20000, "decrease": 1e-7, "window": 50}
_SIFTED, _POLISHED = 4, 4  # one start in 4 is searched to the end; the best 4 minima are polished
_AGREE = 1e-3  # starts within this share of the best objective count as agreeing


def fit(
    runs: Runs | pd.DataFrame | str,
    law: str | Law = "joint",
    *,
    targets: Sequence[str] | None = None,
    starts: int = STARTS,
    hops: int = HOPS,
    delta: float = 1e-3,
    residual: str = "loss",
    seed: int = 0,
    weights: ArrayLike | None = None,
    watch: Watch | None = None,
) -> Fit:
    """Fit a law to every target of a table of runs.

    Minimises the mean Huber loss of the residuals (paper eq. 6) from `starts` random starts per target. All
    are minimised loosely, the best quarter goes on with `hops` basin hops each, and the best minima are
    polished. The best of them is returned.

    Args:
        runs: `Runs`, or what `read_runs` reads.
        law: name (see `laws()`) or `Law`.
        targets: names; all by default.
        delta: of the Huber loss, in the unit of the residual.
        residual: "loss" or "log" (of the logarithm of the loss).
        seed: same seed, same answer on one machine.
        weights: of the rows (rows,), non-negative; the mean becomes a weighted mean.
        watch: called with the share done and {target: best objective so far}.

    Returns:
        The `Fit`. On KeyboardInterrupt the best so far, its searches marked "interrupted".

    Raises:
        UserError: the table lacks what the law reads, or an option is out of range.
    """
    began = time.perf_counter()
    table = runs if isinstance(runs, Runs) else read_runs(runs)
    check_options(starts, hops, delta, residual)
    problem = make_problem(table, find_law(law), targets, delta, residual, weights)
    search, best = _search(problem, starts, hops, seed, watch)
    _check_found(problem, search)
    made = _made(table, starts, hops, seed, time.perf_counter() - began)
    return _record(problem, table, search, best, delta, residual, weights, made)


def check_options(starts: int, hops: int, delta: float, residual: str) -> None:
    """Refuse options of a search that are out of range."""
    for name, value, least in (("starts", starts, 1), ("hops", hops, 0)):
        if not isinstance(value, int | np.integer) or value < least:
            raise UserError(name, f"{value} is not a whole number of at least {least}", "give such a number")
    if not (np.isfinite(delta) and delta > 0):
        raise UserError("delta", f"{delta} is not a positive number", "give a positive number, e.g. 1e-3")
    if residual not in ("loss", "log"):
        raise UserError("residual", f"no residual {residual!r}", "choose loss or log")


def draw_starts(problem: Problem, starts: int, seed: int) -> tuple[Floats, NDArray[Any]]:
    """Random starts (targets, starts, q) and keys (targets, starts, 2): start s is the same whatever `starts` is.

    A target's keys come from its name, so its answer does not depend on which other targets are fitted.
    """
    low, high = start_ranges(problem.coordinates, problem.k)
    with jax.enable_x64(True):
        who = jnp.asarray([zlib.crc32(t.encode()) for t in problem.targets], jnp.uint32)
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(jax.random.PRNGKey(seed), jnp.arange(starts))
        both = jax.vmap(jax.random.split)(keys)
        z = jax.vmap(lambda key: jax.random.uniform(key, low.shape, minval=low, maxval=high))(both[:, 0])
        per_target = jax.vmap(lambda t: jax.vmap(jax.random.fold_in, in_axes=(0, None))(both[:, 1], t))(who)
        return np.broadcast_to(np.asarray(z), (len(problem.targets), *z.shape)), np.asarray(per_target)


def make_budget(hops: int, steps: int, decrease: float, window: int) -> Budget:
    """A `Budget` in the numbers that the engine reads."""
    with jax.enable_x64(True):
        return Budget(jnp.asarray(hops, jnp.int32), jnp.asarray(steps, jnp.int32), jnp.asarray(decrease), jnp.asarray(window, jnp.int32))


def _search(problem: Problem, starts: int, hops: int, seed: int, watch: Watch | None) -> tuple[batch.Search, batch.Search]:
    """The searches of a fit: of the best quarter of the starts, and the best minima polished."""
    z, keys = draw_starts(problem, starts, seed)

    def report(share: float, best: Floats) -> None:
        if watch:
            watch(share, dict(zip(problem.targets, best.tolist(), strict=True)))

    return search_groups(problem.objective, problem.data, z, keys, hops, report)


def search_groups(
    objective: HuberObjective, data: Observations, z: Floats, keys: NDArray[Any], hops: int, report: Callable[[float, Floats], None]
) -> tuple[batch.Search, batch.Search]:
    """Sift, search and polish the starts of every group of `data`.

    Args:
        z, keys: starts (groups, starts, q) and their random keys (groups, starts, 2).
        hops: of the searches after the sifting.
        report: called with the share done and the best objective of every group so far (groups,).

    Returns:
        The search of the best quarter of the starts, and that of its best minima polished.
    """
    starts, done = z.shape[1], 0
    total = starts + _survivors(starts) * (hops + 1) + min(_POLISHED, _survivors(starts))

    def watch(search: batch.Search) -> None:
        report((done + float(search.hops.sum()) / len(z)) / total, search.f.min(axis=1))

    sifted = batch.run(objective, data, z, keys, make_budget(0, **_SIFT), watch)
    z, keys, f = _best(sifted, keys, _survivors(starts))
    if not sifted.finished:
        return sifted, sifted
    done = starts
    searched_ = batch.run(objective, data, z, keys, make_budget(hops, **_SEARCH), watch)
    searched_ = _no_worse(searched_, z, f)
    if not searched_.finished:
        return searched_, searched_
    done += _survivors(starts) * (hops + 1)
    z, keys, f = _best(searched_, keys, _POLISHED)
    polished = _no_worse(batch.run(objective, data, z, keys, make_budget(0, **_POLISH), watch), z, f)
    spent = sifted.evaluations.sum(axis=1, keepdims=True) / searched_.f.shape[1]
    return searched_._replace(evaluations=searched_.evaluations + spent), polished


def _check_found(problem: Problem, search: batch.Search) -> None:
    """Every target has a finite minimum; without one, an interrupted fit has no result to hand back."""
    found = np.isfinite(search.f).any(axis=1)
    if not found.all() and not search.finished:
        raise KeyboardInterrupt
    if not found.all():
        bad = problem.targets[int(np.argmin(found))]
        raise UserError("fit", f"no start of target {bad!r} gave a finite objective", "check the losses and the start ranges of the law")


def _survivors(starts: int) -> int:
    """How many starts are searched to the end."""
    return min(starts, max(_POLISHED, starts // _SIFTED))


def _best(search: batch.Search, keys: NDArray[Any], n: int) -> tuple[Floats, NDArray[Any], Floats]:
    """z (targets, n, q), keys and f (targets, n) of the n best searches of every target."""
    order = np.argsort(search.f, axis=1, kind="stable")[:, :n]
    return (
        np.take_along_axis(search.z, order[..., None], axis=1),
        np.take_along_axis(keys, order[..., None], axis=1),
        np.take_along_axis(search.f, order, axis=1),
    )


def _no_worse(search: batch.Search, z: Floats, f: Floats) -> batch.Search:
    """A search that began at z with f and keeps these where it found nothing lower."""
    better = search.f <= f
    return search._replace(z=np.where(better[..., None], search.z, z), f=np.where(better, search.f, f))


def _record(
    problem: Problem, runs: Runs, search: batch.Search, best: batch.Search, delta: float, residual: str, weights: ArrayLike | None, made: dict[str, Any]
) -> Fit:
    """The best of every target as a `Fit`; objectives are computed anew from the parameters reported."""
    params, records, objective = {}, {}, {}
    shares = row_weights(runs, weights)
    for g, target in enumerate(problem.targets):
        z, params[target], objective[target] = _reported(problem, g, runs, (best, search), delta, residual, shares)
        minima = np.concatenate([best.f[g], np.sort(search.f[g])[best.f.shape[1] :]])
        records[target] = Search(
            status=_status(best, g) if search.finished and best.finished else "interrupted",
            rows=problem.rows[g],
            evaluations=int(search.evaluations[g].sum() + best.evaluations[g].sum()),
            gradient=_gradient(problem, g, z),
            agreeing=int((minima <= minima.min() * (1 + _AGREE)).sum()),
            starts=search.f.shape[1],
            dropped=int((~np.isfinite(search.f[g])).sum()),
            at_limit=at_limit(problem, z),
        )
    units = problem.law.units
    fitted = (shares > 0) & np.any([np.isfinite(runs.loss(t)) for t in problem.targets], axis=0)
    reads = zip(("N", "D"), (runs.N, runs.D), terms(problem.law, problem.k), strict=True)
    ranges = {name: (float(x[fitted].min()), float(x[fitted].max())) for name, x, needed in reads if needed and x is not None}
    own = None if problem.law.name in laws() else problem.law
    return Fit(problem.law.name, problem.domains, problem.targets, params, objective, records, delta, residual, units, ranges, made, own)


def _status(best: batch.Search, group: int) -> str:
    """Whether the polish of the best minimum ended by itself."""
    spent = best.evaluations[group, int(np.argmin(best.f[group]))]
    return "converged" if spent < _POLISH["steps"] else "out of budget"


def _reported(
    problem: Problem, group: int, runs: Runs, searches: tuple[batch.Search, ...], delta: float, residual: str, weights: Floats
) -> tuple[Floats, dict[str, Any], float]:
    """The lowest minimum whose parameters are finite in the paper's form: z (q,), parameters, objective."""
    z = np.concatenate([s.z[group] for s in searches])
    f = np.concatenate([s.f[group] for s in searches])
    target = problem.targets[group]
    for at in np.argsort(f, kind="stable"):
        with np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore"):
            params = to_paper(problem, group, z[at])
        if all(np.isfinite(value).all() for value in params.values()):
            objective = _objective(problem.law, runs, target, params, delta, residual, weights)
            if np.isfinite(objective) and objective <= f[at] * (1 + 1e-4) + 1e-15:
                return z[at], params, objective
    raise UserError("fit", f"no minimum of target {target!r} has parameters that are numbers", "take a law with fewer parameters or more runs")


def _objective(law: Law, runs: Runs, target: str, params: dict[str, Any], delta: float, residual: str, weights: Floats) -> float:
    """Mean Huber loss of the reported parameters over the fitted rows, row by row."""
    loss = runs.loss(target)
    seen = np.isfinite(loss) & (weights > 0)
    if law.own_domain:
        seen &= runs.h[:, domain_index(law, runs.domains, target)][:, 0] > 0
    ones = np.ones(len(runs))
    predicted = predict(law, runs.domains, {target: params}, ones if runs.N is None else runs.N, ones if runs.D is None else runs.D, runs.h)[target]
    p, m, w = predicted[seen], loss[seen], weights[seen]
    residuals = np.log(m) - np.log(np.maximum(p, SMALLEST_LOSS)) if residual == "log" else m - p
    return float(np.average(huber(residuals, delta), weights=w))


def _gradient(problem: Problem, group: int, z: Floats) -> float:
    """Largest |d log objective / dz_i|; 0 where the objective itself is."""
    f, grad = batch.evaluate(problem.objective, problem.data, group, z)
    return float(np.max(np.abs(grad)) / f) if f > 0 else 0.0


def _made(runs: Runs, starts: int, hops: int, seed: int, seconds: float) -> dict[str, Any]:
    import mixjax

    device = jax.devices()[0]
    return {
        "mixjax": mixjax.__version__,
        "jax": jax.__version__,
        "device": f"{device.platform}: {device.device_kind}",
        "table": runs.name,
        "fingerprint": runs.fingerprint(),
        "starts": starts,
        "hops": hops,
        "seed": seed,
        "seconds": round(seconds, 3),
    }
