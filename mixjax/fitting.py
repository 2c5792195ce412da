"""Runs + law -> FIT: starts, the engine's search, the best local minimum of every target in the paper's form."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixjax.design import Design, make_design
from mixjax.engine import batch
from mixjax.engine.lane import Budget
from mixjax.errors import UserError, warn
from mixjax.law import Law, Units, find_law
from mixjax.law.base import Coordinates, named, parameter_names, searched, start_ranges, terms
from mixjax.law.evaluate import domain_index, predict
from mixjax.objective import HuberObjective, Observations
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
_RUNAWAY = 12.0  # |log| of a positive parameter, over its unit, beyond which it is at its limit
_STEEP = 100.0  # |value| of a real parameter beyond which it is at its limit


@dataclass(frozen=True)
class Problem:
    """What the engine is given: objective, data with a leading axis of targets, and the units they are in.

    Attributes:
        units: of each target; N, D and the loss were divided by them.
        rows: fitted rows of each target (measured loss, positive weight).
    """

    law: Law
    domains: tuple[str, ...]
    targets: tuple[str, ...]
    objective: HuberObjective
    data: Observations
    units: tuple[Units, ...]
    rows: tuple[int, ...]

    @property
    def coordinates(self) -> Coordinates:
        """What the search's vector z means."""
        return searched(self.law, self.objective.zeros)

    @property
    def k(self) -> int:
        """Domains that the law of one target sees."""
        return self.objective.k


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
    _check_options(starts, hops, delta, residual)
    problem = make_problem(table, find_law(law), targets, delta, residual, weights)
    search, best = _search(problem, starts, hops, seed, watch)
    _check_found(problem, search)
    made = _made(table, starts, hops, seed, time.perf_counter() - began)
    return _record(problem, table, search, best, delta, residual, weights, made)


def make_problem(runs: Runs, law: Law, targets: Sequence[str] | None, delta: float, residual: str, weights: ArrayLike | None) -> Problem:
    """Check that the table has what the law reads, and lay it out for the engine."""
    names = _usable_targets(runs, law, targets)
    log_n, log_d, scale = _log_scales(runs, law)
    design = make_design(runs.h, log_n, log_d)
    k = 1 if law.own_domain else len(runs.domains)
    parts = [_observations(runs, law, design, t, delta, residual, _row_weights(runs, weights)) for t in names]
    for t, (_, _, rows) in zip(names, parts, strict=True):
        if rows < law.count(k):
            warn(runs.name, f"target {t!r} has {rows} rows for the {law.count(k)} parameters of law {law.name!r}", "expect a fit that cannot be trusted: add runs or take a smaller law")
    data = Observations(*(np.stack(leaves) for leaves in zip(*(p[0] for p in parts), strict=True)))
    units = tuple(Units(*scale, loss) for _, loss, _ in parts)
    return Problem(law, runs.domains, names, HuberObjective(law, k, residual, bool((runs.h == 0).any())), data, units, tuple(p[2] for p in parts))


def _check_options(starts: int, hops: int, delta: float, residual: str) -> None:
    for name, value, least in (("starts", starts, 1), ("hops", hops, 0)):
        if not isinstance(value, int | np.integer) or value < least:
            raise UserError(name, f"{value} is not a whole number of at least {least}", "give such a number")
    if not (np.isfinite(delta) and delta > 0):
        raise UserError("delta", f"{delta} is not a positive number", "give a positive number, e.g. 1e-3")
    if residual not in ("loss", "log"):
        raise UserError("residual", f"no residual {residual!r}", "choose loss or log")


def _usable_targets(runs: Runs, law: Law, targets: Sequence[str] | None) -> tuple[str, ...]:
    """The targets to fit: those asked for, or all that the law can have."""
    names = runs.targets if targets is None else (targets,) if isinstance(targets, str) else tuple(targets)
    unknown = [t for t in names if t not in runs.targets]
    if unknown:
        raise UserError(runs.name, f"no target {unknown[0]!r}", f"choose from {', '.join(runs.targets)}")
    if len(set(names)) < len(names) or not names:
        raise UserError("targets", "none is named" if not names else "one is named twice", f"choose from {', '.join(runs.targets)}")
    if not runs.domains and (law.own_domain or any(p.shape for p in law.parameters)):
        raise UserError(runs.name, f"no h_<domain> columns, which law {law.name!r} reads", "fit law 'chinchilla', or name the weight columns")
    if not law.own_domain:
        return names
    own = tuple(t for t in names if t in runs.domains)
    if len(own) < len(names) and (targets or not own):
        other = next(t for t in names if t not in runs.domains)
        raise UserError(runs.name, f"target {other!r} is not a training domain", f"law {law.name!r} is a law of a target's own domain: name targets among {', '.join(runs.domains)}")
    if len(own) < len(names):
        warn(runs.name, f"targets {', '.join(t for t in names if t not in own)} are not training domains", f"law {law.name!r} leaves them out")
    return own


def _log_scales(runs: Runs, law: Law) -> tuple[Floats, Floats, tuple[float, float]]:
    """log N and log D (rows,) over units near their middle, and these units over the law's own."""
    reads = terms(law, max(1, 1 if law.own_domain else len(runs.domains)))
    logs, scale = [], []
    for name, counts, needed, unit in zip("ND", (runs.N, runs.D), reads, law.units, strict=True):
        if not needed:
            logs.append(np.zeros(len(runs)))
            scale.append(1.0)
            continue
        if counts is None:
            raise UserError(runs.name, f"no column {name}, which law {law.name!r} reads", "name the column, or take a law at fixed (N, D)")
        log_counts = np.log(counts / unit)
        # A law whose family depends on the units of N and D stays in its own.
        middle = float(np.exp(log_counts.mean())) if law.rescale and law.units == (1.0, 1.0) else 1.0
        logs.append(log_counts - np.log(middle))
        scale.append(middle)
    return logs[0], logs[1], (scale[0], scale[1])


def _row_weights(runs: Runs, weights: ArrayLike | None) -> Floats:
    """Row weights (rows,), 1 by default."""
    if weights is None:
        return np.ones(len(runs))
    try:
        w = np.asarray(weights, dtype=np.float64)
    except (TypeError, ValueError):
        w = np.empty(0)
    if w.shape != (len(runs),) or not np.isfinite(w).all() or (w < 0).any() or not w.any():
        raise UserError("weights", f"not {len(runs)} numbers of at least 0, one per row", "give one weight per row, not all 0")
    return w


def _observations(runs: Runs, law: Law, design: Design, target: str, delta: float, residual: str, weights: Floats) -> tuple[Observations, float, int]:
    """One target's data for the engine, the unit of its loss, and its fitted rows."""
    loss = runs.loss(target)
    seen = np.isfinite(loss) & (weights > 0)
    own = domain_index(law, runs.domains, target)
    if law.own_domain:
        absent = seen & (runs.h[:, own][:, 0] == 0)
        if absent.any():
            warn(runs.name, f"{int(absent.sum())} rows have no weight on {target!r}, where law {law.name!r} is infinite", "they are left out for this target")
        seen &= ~absent
    if not seen.any():
        raise UserError(runs.name, f"no row with a measured loss of target {target!r}", "leave this target out")
    unit = float(np.median(loss[seen])) if law.rescale else 1.0
    share = np.where(seen, weights, 0.0) / weights[seen].sum()
    scaled = np.where(seen, loss, unit) / unit
    if residual == "log":
        data = (np.log(scaled), share, delta)
    else:
        # Huber_delta(unit r) = unit^2 Huber_(delta / unit)(r)
        data = (scaled, share * unit**2, delta / unit)
    weighted = design.cells(data[1])
    filled = np.divide(design.cells(data[0] * (share > 0)), np.maximum(design.cells((share > 0).astype(float)), 1.0))
    shares = design.mixtures[:, own]
    if law.own_domain:
        # Rows without the own domain have weight 0, but 0 times an infinite loss is not 0: any share will do.
        shares = np.where(shares > 0, shares, 1.0)
    return Observations(shares, design.log_n, design.log_d, filled, weighted, np.asarray(data[2])), unit, int(seen.sum())  # type: ignore[arg-type]


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


def _budget(hops: int, steps: int, decrease: float, window: int) -> Budget:
    with jax.enable_x64(True):
        return Budget(jnp.asarray(hops, jnp.int32), jnp.asarray(steps, jnp.int32), jnp.asarray(decrease), jnp.asarray(window, jnp.int32))


def _search(problem: Problem, starts: int, hops: int, seed: int, watch: Watch | None) -> tuple[batch.Search, batch.Search]:
    """The search of the best quarter of the starts, and its best minima polished."""
    z, keys = draw_starts(problem, starts, seed)
    objective, data, done = problem.objective, problem.data, 0
    total = starts + _survivors(starts) * (hops + 1) + min(_POLISHED, _survivors(starts))

    def report(search: batch.Search) -> None:
        if watch:
            share = (done + float(search.hops.sum()) / len(problem.targets)) / total
            watch(share, dict(zip(problem.targets, search.f.min(axis=1).tolist(), strict=True)))

    sifted = batch.run(objective, data, z, keys, _budget(0, **_SIFT), report)
    z, keys, f = _best(sifted, keys, _survivors(starts))
    if not sifted.finished:
        return sifted, sifted
    done = starts
    searched_ = batch.run(objective, data, z, keys, _budget(hops, **_SEARCH), report)
    searched_ = _no_worse(searched_, z, f)
    if not searched_.finished:
        return searched_, searched_
    done += _survivors(starts) * (hops + 1)
    z, keys, f = _best(searched_, keys, _POLISHED)
    polished = _no_worse(batch.run(objective, data, z, keys, _budget(0, **_POLISH), report), z, f)
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
    row_weights = _row_weights(runs, weights)
    for g, target in enumerate(problem.targets):
        z, params[target], objective[target] = _reported(problem, g, runs, (best, search), delta, residual, row_weights)
        minima = np.concatenate([best.f[g], np.sort(search.f[g])[best.f.shape[1] :]])
        records[target] = Search(
            status="converged" if search.finished and best.finished else "interrupted",
            rows=problem.rows[g],
            evaluations=int(search.evaluations[g].sum() + best.evaluations[g].sum()),
            gradient=_gradient(problem, g, z),
            agreeing=int((minima <= minima.min() * (1 + _AGREE)).sum()),
            starts=search.f.shape[1],
            dropped=int((~np.isfinite(search.f[g])).sum()),
            at_limit=_at_limit(problem, z),
        )
    units = problem.law.units
    fitted = (row_weights > 0) & np.any([np.isfinite(runs.loss(t)) for t in problem.targets], axis=0)
    reads = zip(("N", "D"), (runs.N, runs.D), terms(problem.law, problem.k), strict=True)
    ranges = {name: (float(x[fitted].min()), float(x[fitted].max())) for name, x, needed in reads if needed and x is not None}
    own = None if problem.law.name in _builtin() else problem.law
    return Fit(problem.law.name, problem.domains, problem.targets, params, objective, records, delta, residual, units, ranges, made, own)


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
            if np.isfinite(objective) and objective <= f[at] * (1 + 1e-6) + 1e-15:
                return z[at], params, objective
    raise UserError("fit", f"no minimum of target {target!r} has parameters that are numbers", "take a law with fewer parameters or more runs")


def to_paper(problem: Problem, group: int, z: Floats) -> dict[str, Any]:
    """The law's own parameters, for N and D as counts, of a point z (q,) of the search of one target."""
    coordinates = problem.coordinates
    with jax.enable_x64(True):
        params = {name: np.asarray(value) for name, value in named(coordinates, jnp.asarray(z), problem.k).items()}
    params = coordinates.to_law(params)
    if problem.law.rescale:
        params = problem.law.rescale(params, problem.units[group])
    return {p.name: np.asarray(params[p.name]) if p.shape else float(params[p.name]) for p in problem.law.parameters}


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
    """Largest |d log objective / dz_i|."""
    with jax.enable_x64(True):
        f, grad = jax.jit(problem.objective)(jnp.asarray(z), jax.tree.map(lambda leaf: leaf[group], problem.data))
        return float(jnp.max(jnp.abs(grad)) / jnp.maximum(f, jnp.finfo(f.dtype).tiny))


def _at_limit(problem: Problem, z: Floats) -> tuple[str, ...]:
    """Names of the law's own parameters that ran off: sizes far from their unit, exponents beyond any use."""
    coordinates = problem.coordinates
    domains = problem.domains if not problem.law.own_domain else ("own",)
    labels = parameter_names(coordinates, domains)
    sizes = [p.domain == "positive" or p.name.startswith("log_") for p in coordinates.parameters for _ in range(p.size(problem.k))]
    gone = [coordinates.law_name(label) for label, is_size, value in zip(labels, sizes, z, strict=True) if is_size and abs(value) > _RUNAWAY]
    with jax.enable_x64(True):
        params = coordinates.to_law({n: np.asarray(v) for n, v in named(coordinates, jnp.asarray(z), problem.k).items()})
    values = np.concatenate([np.atleast_1d(params[p.name]) for p in problem.law.parameters])
    real = [p.domain == "real" for p in problem.law.parameters for _ in range(p.size(problem.k))]
    steep = [name for name, is_real, v in zip(parameter_names(problem.law, domains), real, values, strict=True) if is_real and abs(v) > _STEEP]
    return tuple(gone + steep)


def _builtin() -> Mapping[str, Law]:
    from mixjax.law import laws

    return laws()


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
