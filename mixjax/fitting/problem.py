"""Runs + law -> PROBLEM -> engine: what is fitted, in units in which N, D and the losses are about
1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixjax.data.runs import Runs
from mixjax.errors import UserError, warn
from mixjax.fitting.layout import Design, make_design
from mixjax.fitting.loss import Huber
from mixjax.fitting.objective import HuberObjective, Observations, Reweighting
from mixjax.law import Law, Units
from mixjax.law.base import Coordinates, flat, named, parameter_names, searched
from mixjax.law.evaluate import domain_index, predict_members

Floats = NDArray[np.float64]

_DEFAULT = Huber()
_RUNAWAY = 12.0  # |log| of a size, over its unit, beyond which it is at its limit
_FARTHEST = 40.0  # |z| where a size under- or overflowed in the paper's form
_LARGEST_LOSS = 1e150
_STEEP = 100.0  # |exponent| beyond which it is at its limit


@dataclass(frozen=True, eq=False)
class Problem:
    """What is fitted, and what the engine is given of it.

    Attributes:
        runs, law, targets, huber: which law is fitted to which losses, and how misfit counts.
        weights: of the rows (rows,), the largest 1.
        fitted: rows that count (targets, rows): measured, and of a positive weight.
        design: how the rows are laid out.
        objective, data: for the engine; data has a leading axis of targets.
        units: of each target; N, D and the loss in `data` are over these.
    """

    runs: Runs
    law: Law
    targets: tuple[str, ...]
    huber: Huber
    weights: Floats
    fitted: NDArray[np.bool_]
    design: Design
    objective: HuberObjective
    data: Observations
    units: tuple[Units, ...]

    @property
    def domains(self) -> tuple[str, ...]:
        """Of the table."""
        return self.runs.domains

    @property
    def k(self) -> int:
        """Domains that the law of one target sees."""
        return self.objective.k

    @property
    def coordinates(self) -> Coordinates:
        """What the search's vector z means."""
        return searched(self.law, self.objective.zeros)

    def ranges(self) -> dict[str, tuple[float, float]]:
        """Smallest and largest count of N and D in the fitted rows, where the law reads them."""
        return {
            name: _ends(counts[self.fitted.any(axis=0)])
            for name, counts, read in zip(
                ("N", "D"), (self.runs.N, self.runs.D), self.law.reads, strict=True
            )
            if read and counts is not None
        }

    def share_ranges(self) -> dict[str, tuple[float, float]]:
        """Smallest and largest share of each domain in the fitted rows."""
        h = self.runs.h[self.fitted.any(axis=0)]
        return {d: _ends(h[:, i]) for i, d in enumerate(self.domains)}


def _ends(values: Floats) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def make_problem(
    runs: Runs,
    law: Law,
    targets: Sequence[str] | None = None,
    huber: Huber = _DEFAULT,
    weights: ArrayLike | None = None,
) -> Problem:
    """Check that the table has what the law reads, and lay it out for the engine.

    Args:
        targets: names; all that the law can have by default.
        weights: of the rows (rows,), non-negative; 1 by default.

    Raises:
        UserError: the table lacks what the law reads.
    """
    names = _usable_targets(runs, law, targets)
    log_n, log_d, scale = _log_scales(runs, law)
    design = make_design(runs.h, log_n, log_d)
    k = law.k(runs.domains)
    of_rows = _row_weights(runs, weights)
    fitted = np.stack([_fitted(runs, law, t, of_rows) for t in names])
    for t, rows in zip(names, fitted.sum(axis=1), strict=True):
        if rows < law.count(k):
            what = f"target {t!r} has {rows} rows for the {law.count(k)} parameters of law "
            remedy = "do not trust the fit: add runs or take a smaller law"
            warn(runs.name, f"{what}{law.name!r}", remedy)
    units, data = [], []
    for t, counts in zip(names, fitted, strict=True):
        unit = float(np.median(runs.loss(t)[counts])) if law.rescale else 1.0
        units.append(Units(*scale, unit))
        share = np.where(counts, of_rows, 0.0) / of_rows[counts].sum()
        losses = np.where(counts, runs.loss(t), unit) / unit
        shares = design.mixtures[:, domain_index(law, runs.domains, t)]
        if law.own_domain:
            # Rows without the own domain have weight 0, but 0 times an infinite loss is not 0: any
            # share will do.
            shares = np.where(shares > 0, shares, 1.0)
        data.append(_observations(design, shares, losses, share, huber, unit))
    objective = HuberObjective(law, k, huber.residual, bool((runs.h == 0).any()))
    stacked = Observations(*(np.stack(leaves) for leaves in zip(*data, strict=True)))
    return Problem(
        runs, law, names, huber, of_rows, fitted, design, objective, stacked, tuple(units)
    )


def _usable_targets(runs: Runs, law: Law, targets: Sequence[str] | None) -> tuple[str, ...]:
    """The targets to fit: those asked for, or all that the law can have."""
    names = (
        runs.targets
        if targets is None
        else (targets,)
        if isinstance(targets, str)
        else tuple(targets)
    )
    unknown = [t for t in names if t not in runs.targets]
    if unknown:
        raise UserError(
            runs.name, f"no target {unknown[0]!r}", f"choose from {', '.join(runs.targets)}"
        )
    if len(set(names)) < len(names) or not names:
        raise UserError(
            "targets",
            "none is named" if not names else "one is named twice",
            f"choose from {', '.join(runs.targets)}",
        )
    if not runs.domains and (law.own_domain or any(p.shape for p in law.parameters)):
        raise UserError(
            runs.name,
            f"no h_<domain> columns, which law {law.name!r} reads",
            "fit law 'chinchilla', or name the weight columns",
        )
    if not law.own_domain:
        return names
    own = tuple(t for t in names if t in runs.domains)
    if len(own) < len(names) and (targets or not own):
        other = next(t for t in names if t not in runs.domains)
        remedy = (
            f"law {law.name!r} is a law of a target's own domain: name targets among "
            f"{', '.join(runs.domains)}"
        )
        raise UserError(runs.name, f"target {other!r} is not a training domain", remedy)
    if len(own) < len(names):
        warn(
            runs.name,
            f"targets {', '.join(t for t in names if t not in own)} are not training domains",
            f"law {law.name!r} leaves them out",
        )
    return own


def _log_scales(runs: Runs, law: Law) -> tuple[Floats, Floats, tuple[float, float]]:
    """log N and log D (rows,) over units near their middle, and these units over the law's own."""
    logs, scale = [], []
    for name, counts, needed, unit in zip(
        "ND", (runs.N, runs.D), law.reads, law.units, strict=True
    ):
        if not needed:
            logs.append(np.zeros(len(runs)))
            scale.append(1.0)
            continue
        if counts is None:
            raise UserError(
                runs.name,
                f"no column {name}, which law {law.name!r} reads",
                f"name the column (--columns {name}=COLUMN), or take a law at fixed (N, D)",
            )
        counted = counts - law.lag if name == "D" else counts
        if (counted <= 0).any():
            what = (
                f"D of {int((counted <= 0).sum())} rows is not beyond the {law.lag:.4g} tokens "
                f"that law {law.name!r} leaves out"
            )
            raise UserError(runs.name, what, "leave these rows out, or take a smaller lag")
        log_counts = np.log(counted / unit)
        # A law whose family depends on the units of N and D stays in its own.
        middle = (
            float(np.exp(log_counts.mean())) if law.rescale and law.units == (1.0, 1.0) else 1.0
        )
        logs.append(log_counts - np.log(middle))
        scale.append(middle)
    return logs[0], logs[1], (scale[0], scale[1])


def _row_weights(runs: Runs, weights: ArrayLike | None) -> Floats:
    """Row weights (rows,), 1 by default; over the largest, so that their sum is a number."""
    if weights is None:
        return np.ones(len(runs))
    try:
        w = np.asarray(weights, dtype=np.float64)
    except (TypeError, ValueError):
        w = np.empty(0)
    if w.shape != (len(runs),) or not np.isfinite(w).all() or (w < 0).any() or not w.any():
        raise UserError(
            "weights",
            f"not {len(runs)} numbers of at least 0, one per row",
            "give one weight per row, not all 0",
        )
    return w / w.max()


def _fitted(runs: Runs, law: Law, target: str, weights: Floats) -> NDArray[np.bool_]:
    """The rows (rows,) of a target that count, at least one."""
    loss = runs.loss(target)
    counts = np.isfinite(loss) & (weights > 0)
    if law.own_domain:
        own = runs.h[:, domain_index(law, runs.domains, target)][:, 0]
        absent = int((counts & (own == 0)).sum())
        if absent:
            what = f"{absent} rows have no weight on {target!r}, where law {law.name!r} is infinite"
            warn(runs.name, what, "they are left out for this target")
        counts &= own > 0
    if not counts.any():
        what = f"no row with a measured loss of target {target!r}"
        raise UserError(runs.name, what, "leave this target out")
    largest = loss[counts].max()
    if largest > _LARGEST_LOSS:
        what = (
            f"target {target!r} has a loss of {largest:.3g}, above {_LARGEST_LOSS:.0e}, where "
            f"squares overflow"
        )
        raise UserError(runs.name, what, "give this column in a larger unit, or leave the row out")
    return counts


def _observations(
    design: Design, mixtures: Floats, losses: Floats, share: Floats, huber: Huber, unit: float
) -> Observations:
    """One target's data for the engine: losses (rows,) over their unit, share of each row in the
    mean."""
    delta, weights = huber.delta, share
    if huber.residual == "log":
        losses = np.log(losses)
    else:
        # Huber_delta(unit r) = unit^2 Huber_(delta / unit)(r); a log residual has no unit.
        delta, weights = huber.delta / unit, share * unit**2
    rows = np.maximum(design.cells((share > 0).astype(float)), 1.0)
    return Observations(
        mixtures=mixtures,
        log_n=design.log_n,
        log_d=design.log_d,
        losses=np.divide(design.cells(losses * (share > 0)), rows),
        weights=design.cells(weights),
        delta=np.asarray(delta),
    )


def reweighted(problem: Problem, row_weights: Floats) -> Reweighting:
    """The data of `Reweighted` for row weights (resamples, rows), which multiply the problem's own.

    Raises:
        UserError: a resample that leaves a target no row.
    """
    factors = problem.design.cells(row_weights)
    base = np.asarray(problem.data.weights)
    # Summed resample by resample, so that the rounding of one does not depend on the others.
    norm = np.stack(
        [(factors * own).reshape(len(factors), -1).sum(axis=1) / own.sum() for own in base]
    )
    if not (norm > 0).all():
        target, r = np.argwhere(norm <= 0)[0]
        raise UserError(
            "weights",
            f"resample {r} leaves target {problem.targets[target]!r} no row",
            "give other row weights",
        )
    return Reweighting(
        problem.data, np.broadcast_to(factors, (len(problem.targets), *factors.shape)), norm
    )


def grouped(problem: Problem, row_weights: Floats) -> Observations:
    """Observations with groups = targets x resamples, targets first, for row weights (resamples,
    rows)."""
    data = reweighted(problem, row_weights)
    weights = np.asarray(problem.data.weights)[:, None] * data.factors / data.norm[:, :, None, None]
    resamples = len(row_weights)
    repeated = Observations(
        *(np.repeat(np.asarray(leaf), resamples, axis=0) for leaf in problem.data)
    )
    return repeated._replace(weights=weights.reshape(-1, *weights.shape[2:]))


def from_paper(problem: Problem, group: int, params: Mapping[str, Any]) -> Floats:
    """The point z (q,) of the search of one target that has these parameters of the law: the
    inverse of `to_paper`.

    Sizes that under- or overflowed there (runaways) are brought back to a number that the search
    can start from.
    """
    coordinates, own = problem.coordinates, dict(params)
    with np.errstate(all="ignore"):
        if problem.law.rescale:
            own = problem.law.rescale(own, Units(*(1.0 / unit for unit in problem.units[group])))
        z = flat(coordinates, coordinates.from_law(own))
    return np.nan_to_num(z, nan=0.0, posinf=_FARTHEST, neginf=-_FARTHEST)


def to_paper(problem: Problem, group: int, z: Floats) -> dict[str, Any]:
    """The law's own parameters, for N and D as counts, of a point z (q,) of the search of one
    target."""
    coordinates = problem.coordinates
    params = coordinates.to_law(named(coordinates, z, problem.k))
    if problem.law.rescale:
        params = problem.law.rescale(params, problem.units[group])
    return {
        p.name: np.asarray(params[p.name]) if p.shape else float(params[p.name])
        for p in problem.law.parameters
    }


def losses_at(problem: Problem, group: int, z: Floats, runs: Runs) -> Floats:
    """Predicted losses (points, rows) of one target at points z (points, q) of the search; runs:
    any rows of the problem's domains.

    Without the way over the law's own parameters, which may be no numbers where the prediction is
    (exponents that run off); infinite where it is none.
    """
    coordinates, law, unit = problem.coordinates, problem.law, problem.units[group]
    own = law
    if law.predict is None:
        units = (law.units[0] * unit.N, law.units[1] * unit.D)
        own = replace(
            law,
            parameters=coordinates.parameters,
            coefficients=coordinates.coefficients,
            units=units,
            coordinates=None,
            rescale=None,
        )
    target = problem.targets[group]
    params = named(coordinates, z, problem.k)
    own_losses = predict_members(own, problem.domains, {target: params}, runs.N, runs.D, runs.h)
    losses = own_losses[target] * unit.loss
    return np.where(np.isnan(losses), np.inf, losses)


def at_limit(problem: Problem, z: Floats) -> tuple[str, ...]:
    """Names of the law's own parameters that ran off: sizes far from their unit, exponents beyond
    any use."""
    coordinates = problem.coordinates
    domains = problem.domains if not problem.law.own_domain else ("own",)
    sizes = [
        p.domain in ("positive", "log")
        for p in coordinates.parameters
        for _ in range(p.size(problem.k))
    ]
    gone = [
        name
        for name, is_size, value in zip(coordinates.own_names(domains), sizes, z, strict=True)
        if is_size and abs(value) > _RUNAWAY
    ]
    params = coordinates.to_law(named(coordinates, z, problem.k))
    values = np.concatenate([np.atleast_1d(params[p.name]) for p in problem.law.parameters])
    real = [p.domain == "real" for p in problem.law.parameters for _ in range(p.size(problem.k))]
    steep = [
        name
        for name, is_real, v in zip(
            parameter_names(problem.law, domains), real, values, strict=True
        )
        if is_real and abs(v) > _STEEP
    ]
    return tuple(gone + steep)
