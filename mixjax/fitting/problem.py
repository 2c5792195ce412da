"""Runs + law -> PROBLEM -> engine: what is fitted, in units in which N, D and the losses are about
1, and how rows are cells of a small dense table.

A table of runs has few distinct mixtures and many rows. The design lists each mixture once and
lays its rows along a second axis of `cells`, so that everything transcendental is computed per
mixture or per scale, and a row costs two multiply-adds and a clip. Two layouts, one code path:

- grid: cell (m, p) is mixture m at the p-th distinct scale (N, D); scales are shared by all
  mixtures, log_n and log_d are (1, cells);
- ragged: cell (m, p) is the p-th row of mixture m; log_n and log_d are (mixtures, cells). A mixture
  with very many rows is listed several times, so that padding never exceeds the rows.

Cells without a row have weight 0. The cheaper layout is chosen by predicted cost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixjax.data.runs import Runs
from mixjax.errors import UserError, warn
from mixjax.fitting.loss import Huber
from mixjax.fitting.objective import HuberObjective, Observations, Reweighting
from mixjax.law import Law, Units
from mixjax.law.base import (
    Coordinates,
    domain_index,
    flat,
    named,
    parameter_names,
    predict_members,
    searched,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

_DEFAULT = Huber()
_RUNAWAY = 12.0  # |log| of a size, over its unit, beyond which it is at its limit
_FARTHEST = 40.0  # |z| where a size under- or overflowed in the paper's form
_LARGEST_LOSS = 1e150
_STEEP = 100.0  # |exponent| beyond which it is at its limit


# --- Layout of the rows ---------------------------------------------------------------------------

# Cost of one cell: multiply-adds and the clip, against a scale's exponential and a mixture's
# powers, in the same unit (recorded in benchmarks/NOTES.md; only the ratios matter).
_CELL, _EXP, _POWER = 1.0, 4.0, 5.0


@dataclass(frozen=True)
class Design:
    """Distinct mixtures and scales of a table, and where each row sits."""

    mixtures: Floats  # domain weights (mixtures, k)
    log_n: Floats  # log of N over its unit, (1, cells) or (mixtures, cells)
    log_d: Floats  # the same of D
    mixture_of: Ints  # the cell of each row, as the next (rows,)
    cell_of: Ints
    layout: str  # "grid" or "ragged"

    @property
    def shape(self) -> tuple[int, int]:
        """(mixtures, cells)."""
        return len(self.mixtures), self.log_n.shape[1]

    def cells(self, rows: Floats) -> Floats:
        """Row values (..., rows) added up in their cells (..., mixtures, cells)."""
        mixtures, cells = self.shape
        out = np.zeros((mixtures * cells, *rows.shape[:-1]))
        np.add.at(out, self.mixture_of * cells + self.cell_of, np.moveaxis(rows, -1, 0))
        return np.moveaxis(out, 0, -1).reshape(*rows.shape[:-1], mixtures, cells)


def make_design(h: Floats, log_n: Floats, log_d: Floats, layout: str | None = None) -> Design:
    """Lay out rows with domain weights h (rows, k) and scales log_n, log_d (rows,).

    Args:
        layout: "grid" or "ragged"; None takes the one with the lower predicted cost. A grid needs
            every (mixture, scale) to occur once at most.
    """
    mixtures, mixture_of = np.unique(h, axis=0, return_inverse=True)
    scales, scale_of = np.unique(np.stack([log_n, log_d], axis=1), axis=0, return_inverse=True)
    mixture_of, scale_of = mixture_of.reshape(-1), scale_of.reshape(-1)
    grid = Design(mixtures, scales[None, :, 0], scales[None, :, 1], mixture_of, scale_of, "grid")
    ragged = _ragged(mixtures, mixture_of, log_n, log_d)
    once = len(np.unique(mixture_of * len(scales) + scale_of)) == len(h)
    if layout is None:
        layout = "grid" if once and predicted_cost(grid) <= predicted_cost(ragged) else "ragged"
    if layout == "grid" and not once:
        raise ValueError("a grid needs every (mixture, N, D) at most once: rows repeat")
    return grid if layout == "grid" else ragged


def predicted_cost(design: Design) -> float:
    """Predicted cost of one evaluation, in units of one cell's arithmetic."""
    mixtures, cells = design.shape
    return _CELL * mixtures * cells + _EXP * 2 * design.log_n.size + _POWER * design.mixtures.size


def _ragged(mixtures: Floats, mixture_of: Ints, log_n: Floats, log_d: Floats) -> Design:
    counts = np.bincount(mixture_of, minlength=len(mixtures))
    width = _best_width(counts, mixtures.shape[1])
    order = np.argsort(mixture_of, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    lists = -(-counts // width)
    first = np.cumsum(lists) - lists
    m, p = first[mixture_of] + rank // width, rank % width
    # Padded cells repeat a scale of the table: finite, and weighted 0.
    wide_n, wide_d = (np.full((lists.sum(), width), x[0]) for x in (log_n, log_d))
    wide_n[m, p], wide_d[m, p] = log_n, log_d
    return Design(np.repeat(mixtures, lists, axis=0), wide_n, wide_d, m, p, "ragged")


def _best_width(counts: Ints, k: int) -> int:
    """Rows per listed mixture that cost least and pad with no more cells than there are rows: wide
    pads short mixtures, narrow repeats long ones."""

    def lists(width: int) -> int:
        return int(np.sum(-(-counts // width)))

    def cost(width: int) -> float:
        return lists(width) * (width * (_CELL + 2 * _EXP) + _POWER * k)

    powers = 2 ** np.arange(int(counts.max()).bit_length())
    widths = [int(w) for w in np.union1d(counts, powers)]
    return min((w for w in widths if lists(w) * w <= 2 * counts.sum()), key=lambda w: (cost(w), -w))


# --- The problem ----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Problem:
    """What is fitted, and what the engine is given of it."""

    runs: Runs
    law: Law
    targets: tuple[str, ...]
    huber: Huber
    weights: Floats  # of the rows (rows,), the largest 1
    fitted: NDArray[np.bool_]  # rows that count (targets, rows): measured, of a positive weight
    design: Design  # how the rows are laid out
    objective: HuberObjective
    data: Observations  # of the objective, with a leading axis of targets
    units: tuple[Units, ...]  # of each target; N, D and the loss in `data` are over these

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
        columns = zip("ND", (self.runs.N, self.runs.D), self.law.reads, strict=True)
        return self._ends({name: x for name, x, read in columns if read and x is not None})

    def share_ranges(self) -> dict[str, tuple[float, float]]:
        """Smallest and largest share of each domain in the fitted rows."""
        return self._ends(dict(zip(self.domains, self.runs.h.T, strict=True)))

    def _ends(self, columns: Mapping[str, Floats]) -> dict[str, tuple[float, float]]:
        rows = self.fitted.any(axis=0)
        return {name: (float(x[rows].min()), float(x[rows].max())) for name, x in columns.items()}


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
    if law.averaged:
        remedy = "fit its laws one by one, or take mj.extrapolate"
        raise UserError(
            "law", f"{law.name!r} is a mean of laws, which are not fitted as one", remedy
        )
    names = _usable_targets(runs, law, targets)
    log_n, log_d, scale = _log_scales(runs, law)
    design = make_design(runs.h, log_n, log_d)
    k = law.k(runs.domains)
    of_rows = _row_weights(runs, weights)
    fitted = np.stack([_fitted(runs, law, t, of_rows) for t in names])
    units, data, count = [], [], law.count(k)
    for t, counts in zip(names, fitted, strict=True):
        if counts.sum() < count:
            what = f"target {t!r} has {counts.sum()} rows for the {count} parameters of law "
            remedy = "do not trust the fit: add runs or take a smaller law"
            warn(runs.name, f"{what}{law.name!r}", remedy)
        unit = float(np.median(runs.loss(t)[counts])) if law.rescale else 1.0
        units.append(Units(*scale, unit))
        share = np.where(counts, of_rows, 0.0) / of_rows[counts].sum()
        losses = np.where(counts, runs.loss(t), unit) / unit
        shares = design.mixtures[:, domain_index(law, runs.domains, t)]
        if law.own_domain:
            # Rows without it have weight 0, but 0 times an infinite loss is not 0.
            shares = np.where(shares > 0, shares, 1.0)
        data.append(_observations(design, shares, losses, share, huber, unit))
    rows = int(fitted.sum(axis=1).max()) if huber.prior == "weak" else 0
    objective = HuberObjective(law, k, huber.residual, bool((runs.h == 0).any()), rows)
    stacked = Observations(*(np.stack(leaves) for leaves in zip(*data, strict=True)))
    return Problem(
        runs, law, names, huber, of_rows, fitted, design, objective, stacked, tuple(units)
    )


def _usable_targets(runs: Runs, law: Law, targets: Sequence[str] | None) -> tuple[str, ...]:
    """The targets to fit: those asked for, or all that the law can have."""
    given = runs.targets if targets is None else targets
    names = (given,) if isinstance(given, str) else tuple(given)
    unknown = [t for t in names if t not in runs.targets]
    choose = f"choose from {', '.join(runs.targets)}"
    if unknown:
        raise UserError(runs.name, f"no target {unknown[0]!r}", choose)
    if len(set(names)) < len(names) or not names:
        raise UserError("targets", "one is named twice" if names else "none is named", choose)
    if not runs.domains and (law.own_domain or any(p.shape for p in law.parameters)):
        what = f"no h_<domain> columns, which law {law.name!r} reads"
        raise UserError(runs.name, what, "fit law 'chinchilla', or name the weight columns")
    others = [t for t in names if t not in runs.domains] if law.own_domain else []
    if others and (targets or len(others) == len(names)):
        remedy = (
            f"law {law.name!r} is a law of a target's own domain: name targets among "
            f"{', '.join(runs.domains)}"
        )
        raise UserError(runs.name, f"target {others[0]!r} is not a training domain", remedy)
    if others:
        what = f"targets {', '.join(others)} are not training domains"
        warn(runs.name, what, f"law {law.name!r} leaves them out")
    return tuple(t for t in names if t not in others)


def _log_scales(runs: Runs, law: Law) -> tuple[Floats, Floats, tuple[float, float]]:
    """log N and log D (rows,) over units near their middle, and these units over the law's own."""
    logs, scale = [np.zeros(len(runs)), np.zeros(len(runs))], [1.0, 1.0]
    for i, (name, counts) in enumerate((("N", runs.N), ("D", runs.D))):
        if not law.reads[i]:
            continue
        if counts is None:
            what = f"no column {name}, which law {law.name!r} reads"
            remedy = f"name the column (--columns {name}=COLUMN), or take a law at fixed (N, D)"
            raise UserError(runs.name, what, remedy)
        counted = counts - law.lag if name == "D" else counts
        if (counted <= 0).any():
            what = (
                f"D of {int((counted <= 0).sum())} rows is not beyond the {law.lag:.4g} tokens "
                f"that law {law.name!r} leaves out"
            )
            raise UserError(runs.name, what, "leave these rows out, or take a smaller lag")
        logs[i] = np.log(counted / law.units[i])
        # A law whose family depends on the units of N and D stays in its own.
        if law.rescale and law.units == (1.0, 1.0):
            scale[i] = float(np.exp(logs[i].mean()))
        logs[i] -= np.log(scale[i])
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
        what = f"not {len(runs)} numbers of at least 0, one per row"
        raise UserError("weights", what, "give one weight per row, not all 0")
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
        what = f"target {target!r} has a loss of {largest:.3g}, above {_LARGEST_LOSS:.0e}"
        remedy = "give this column in a larger unit, or leave the row out"
        raise UserError(runs.name, f"{what}, where squares overflow", remedy)
    return counts


def _observations(
    design: Design, mixtures: Floats, losses: Floats, share: Floats, huber: Huber, unit: float
) -> Observations:
    """One target's data for the engine: losses (rows,) over unit, share of each row in the mean."""
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
        what = f"resample {r} leaves target {problem.targets[target]!r} no row"
        raise UserError("weights", what, "give other row weights")
    return Reweighting(problem.data, np.broadcast_to(factors, (len(norm), *factors.shape)), norm)


def grouped(problem: Problem, row_weights: Floats) -> Observations:
    """Observations of groups = targets x resamples, for row weights (resamples, rows)."""
    data = reweighted(problem, row_weights)
    weights = np.asarray(problem.data.weights)[:, None] * data.factors / data.norm[:, :, None, None]
    repeated = (np.repeat(np.asarray(leaf), len(row_weights), axis=0) for leaf in problem.data)
    return Observations(*repeated)._replace(weights=weights.reshape(-1, *weights.shape[2:]))


def from_paper(problem: Problem, group: int, params: Mapping[str, Any]) -> Floats:
    """The point z (q,) of one target's search with these parameters: the inverse of `to_paper`, but
    for sizes that under- or overflowed there (runaways): those are brought back to a number."""
    coordinates, own = problem.coordinates, dict(params)
    with np.errstate(all="ignore"):
        if problem.law.rescale:
            own = problem.law.rescale(own, Units(*(1.0 / unit for unit in problem.units[group])))
        z = flat(coordinates, coordinates.from_law(own))
    return np.nan_to_num(z, nan=0.0, posinf=_FARTHEST, neginf=-_FARTHEST)


def to_paper(problem: Problem, group: int, z: Floats) -> dict[str, Any]:
    """The law's own parameters, for N and D as counts, of a point z (q,) of one target's search."""
    coordinates = problem.coordinates
    params = coordinates.to_law(named(coordinates, z, problem.k))
    if problem.law.rescale:
        params = problem.law.rescale(params, problem.units[group])
    return {
        p.name: np.asarray(params[p.name]) if p.shape else float(params[p.name])
        for p in problem.law.parameters
    }


def losses_at(problem: Problem, group: int, z: Floats, runs: Runs) -> Floats:
    """Losses (points, rows) of one target predicted at points z (points, q) of the search, infinite
    where they are no numbers; runs: any rows of the problem's domains.

    Without the way over the law's own parameters, which may be no numbers where the loss is one
    (exponents that run off).
    """
    coordinates, law, unit = problem.coordinates, problem.law, problem.units[group]
    N, D = runs.N, runs.D
    # In units already, so that the program is compiled once, whatever they are.
    if D is not None:
        D = (np.maximum(D - law.lag, 1e-6 * law.lag) if law.lag else D) / law.units[1] / unit.D
    if N is not None:
        N = N / law.units[0] / unit.N
    law = replace(
        law,
        parameters=coordinates.parameters,
        coefficients=coordinates.coefficients,
        units=(1.0, 1.0),
        lag=0.0,
        coordinates=None,
        rescale=None,
    )
    params = {problem.targets[group]: named(coordinates, z, problem.k)}
    (own,) = predict_members(law, problem.domains, params, N, D, runs.h).values()
    losses = own * unit.loss
    return np.where(np.isnan(losses), np.inf, losses)


def at_limit(problem: Problem, z: Floats) -> tuple[str, ...]:
    """Names of the law's own parameters that ran off: sizes far from their unit, exponents beyond
    any use."""
    coordinates, law, k = problem.coordinates, problem.law, problem.k
    domains = ("own",) if law.own_domain else problem.domains
    params = coordinates.to_law(named(coordinates, z, k))
    own = np.concatenate([np.atleast_1d(params[p.name]) for p in law.parameters])

    def beyond(
        form: Law | Coordinates,
        names: list[str],
        values: Floats,
        kinds: tuple[str, ...],
        most: float,
    ) -> list[str]:
        of = np.repeat(
            [p.domain in kinds for p in form.parameters], [p.size(k) for p in form.parameters]
        )
        off = of & (np.abs(values) > most)
        return [name for name, gone in zip(names, off, strict=True) if gone]

    gone = beyond(coordinates, coordinates.own_names(domains), z, ("positive", "log"), _RUNAWAY)
    steep = beyond(law, parameter_names(law, domains), own, ("real",), _STEEP)
    return tuple(gone + steep)
