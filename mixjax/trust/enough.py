"""Runs + laws -> how many mixtures are ENOUGH: errors against the number of trained mixtures.

A repeat puts the mixtures of the table in a random order. Its choices are the first q of them, for
every count q; scored are the rows of the mixtures after the largest choice, or other rows. So the
choices of a repeat are nested and judged on the same rows: what changes with q is what was fitted.
Source: Shukor et al. 2025, Fig. 5, where a choice is judged on all mixtures that it leaves out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from numpy.typing import NDArray

from mixjax.data.runs import Runs, as_runs
from mixjax.data.splits import clusters
from mixjax.drawing import charts
from mixjax.errors import UserError
from mixjax.fitting.fit import Watch
from mixjax.fitting.loss import FitOptions, Settings, read_options
from mixjax.fitting.problem import Problem, make_problem
from mixjax.law import Law
from mixjax.text import Record, plain, table
from mixjax.trust.held_out import as_laws, fit_splits

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

LAWS = ("additive", "joint")
REPEATS = 10
SETTINGS = Settings(starts=12, hops=0)
_LARGEST = 1e12  # percent; in place of infinite errors where they are interpolated
_COUNTS = 6  # by default, evenly spaced in their logarithm
_SCORED = 0.2  # share of the mixtures that is left for scoring by default
# More mixtures do not help where the error is within this share of that at the largest count.
WITHIN = 0.05
# Minima are not polished as those of `fit`: on the SlimPajama runs that takes four times as long
# and moves medians only where there are fewer mixtures than the law needs. Much looser (1e-2), fits
# to few mixtures would look better than they are.


@dataclass(frozen=True, eq=False)
class Enough(Record):
    """Errors of laws fitted to few of the mixtures."""

    counts: tuple[int, ...]  # numbers of mixtures fitted, rising
    mixtures: int  # how many the table has
    scored: str  # what the errors are of
    # {law: {target: mean relative error, percent (counts, repeats)}}; infinite where a fit has no
    # finite prediction.
    errors: Mapping[str, Mapping[str, Floats]]

    def quartiles(self, law: str) -> Floats:
        """Quartiles over repeats (counts, 3) of the mean over targets, percent."""
        return _quantiles(np.mean(list(self.errors[law].values()), axis=0), [0.25, 0.5, 0.75]).T

    def enough(self, law: str, within: float = WITHIN) -> int | None:
        """The count from which on the median stays within a share of the last; None: the last."""
        median = self.quartiles(law)[:, 1]
        far = np.flatnonzero(~(median <= median[-1] * (1 + within)))
        first = int(far[-1]) + 1 if len(far) else 0
        settled = first < len(self.counts) - 1 and np.isfinite(median[-1])
        return self.counts[first] if settled else None

    def __str__(self) -> str:
        """A line for each count: median and quartiles of every law; then verdicts."""
        quartiles = {law: self.quartiles(law) for law in self.errors}
        rows = []
        for i, count in enumerate(self.counts):
            each = (q[i] for q in quartiles.values())
            rows.append([count, *(f"{mid:.3f} ({low:.3f}-{high:.3f})" for low, mid, high in each)])
        repeats = np.shape(next(iter(next(iter(self.errors.values())).values())))[1]
        head = (
            f"mean relative error of {self.scored}, percent: median (quartiles) of {repeats} "
            f"random choices of the mixtures fitted"
        )
        verdicts = [self._verdict(law) for law in quartiles]
        return "\n".join([head, table(["mixtures", *quartiles], rows), *verdicts])

    def _verdict(self, law: str) -> str:
        most, q = self.counts[-1], self.enough(law)
        if q is None:
            return f"{law}: the error still falls at {most} mixtures; more may help"
        return f"{law}: from {q} mixtures on within {WITHIN:.0%} of the error at {most}"

    def to_dict(self) -> dict[str, Any]:
        """Plain content for JSON; None where a quantile is infinite."""
        laws = {}
        for law, errors in self.errors.items():
            low, middle, high = self.quartiles(law).T
            targets = {t: _quantiles(e, [0.5])[0] for t, e in errors.items()}
            laws[law] = {"median": middle, "low": low, "high": high, "targets": targets}
            laws[law]["enough"] = self.enough(law)
        what = {"counts": self.counts, "mixtures": self.mixtures, "scored": self.scored}
        return plain({**what, "within": WITHIN, "laws": laws})

    def figure(self) -> Figure:
        """The error against the number of trained mixtures, a line a law, quartiles as bands."""
        quartiles = {law: self.quartiles(law) for law in self.errors}
        y = "mean relative error (percent)"
        return charts.bands(self.counts, quartiles, "mixtures fitted", y, title="law")


def enough_runs(
    runs: Runs | pd.DataFrame | str,
    laws: Sequence[str | Law] = LAWS,
    counts: Sequence[int] | None = None,
    repeats: int = REPEATS,
    *,
    eval_runs: Runs | pd.DataFrame | str | None = None,
    targets: Sequence[str] | None = None,
    watch: Watch | None = None,
    **options: Unpack[FitOptions],
) -> Enough:
    """The error of laws that are fitted to q random mixtures of a table, for growing q.

    Args:
        runs: `Runs`, or what `read_runs` reads: the rows to choose from.
        laws: names or `Law`s.
        counts: numbers q of mixtures; by default 6 from the number of domains to four fifths of the
            mixtures (all of them with eval_runs).
        repeats: random orders of the mixtures.
        eval_runs: rows to score on instead of those of mixtures left out, e.g. of a larger model.
            No fit sees them.
        targets: names; all by default.
        watch: called with the share done of a law's batch and {target: best objective of its first
            choice so far}.
        options: of the fits, see `fit`: by default 12 starts and no hops; the seed is that of the
            orders too.

    Raises:
        UserError: too few mixtures, counts that cannot be chosen, a law that cannot be fitted.
        KeyboardInterrupt: half of this is nothing.

    Notes: the error that is left at many mixtures is noise, what the law cannot express and, on
    larger runs, extrapolation in scale: more mixtures take away none of these. Choices are random;
    a designed set of as many mixtures may do better.
    """
    whole = as_runs(runs)
    held_out = None if eval_runs is None else as_runs(eval_runs).reordered(whole.domains)
    mixture = clusters(whole, "mixture")
    mixtures = int(mixture.max()) + 1
    numbers = _counts(counts, mixtures, len(whole.domains), whole.name, held_out is None)
    if not isinstance(repeats, int | np.integer) or repeats < 2:
        what = f"{repeats} is not a whole number of at least 2"
        raise UserError("repeats", what, "give such a number, e.g. 10")
    huber, settings = read_options(options, SETTINGS)
    generators = (np.random.default_rng((settings.seed, r)) for r in range(repeats))
    orders = [rng.permutation(mixtures) for rng in generators]
    place = np.argsort(orders, axis=1)[:, mixture]  # of each row's mixture in the order
    fitted = place[None] < np.asarray(numbers)[:, None, None]  # (counts, repeats, rows)
    problems = [make_problem(whole, law, targets, huber) for law in as_laws(laws)]
    _check_losses(whole, problems, fitted, held_out)
    if held_out is None:
        scored = place >= numbers[-1]
        what = f"the {mixtures - numbers[-1]} mixtures that no choice of a repeat has"
    else:
        scored = np.ones((repeats, len(held_out)), dtype=bool)
        what = f"{len(held_out)} rows that no fit sees"
    weights = fitted.reshape(-1, len(whole)).astype(np.float64)
    rows = whole if held_out is None else held_out
    errors = {}
    for problem in problems:
        fits = fit_splits(problem, weights, settings, polish=False, watch=watch)
        of_law = errors[problem.law.name] = {}
        for t in problem.targets:
            losses = fits.losses(t, rows).reshape(*fitted.shape[:2], -1)
            of_law[t] = _mean_relative(losses, rows.loss(t), scored)
    return Enough(numbers, mixtures, what, errors)


def _counts(
    counts: Sequence[int] | None, mixtures: int, k: int, name: str, leave: bool
) -> tuple[int, ...]:
    """The counts, rising, each once; some mixture is left for scoring where it must be."""
    most = mixtures - 1 if leave else mixtures
    if counts is None:
        last = min(most, round((1 - _SCORED) * mixtures)) if leave else mixtures
        first = max(2, min(k, last - 1))
        if last <= first:
            remedy = "give a table of more mixtures, or name the counts"
            raise UserError(name, f"has {mixtures} mixtures only", remedy)
        return tuple(sorted({round(q) for q in np.geomspace(first, last, _COUNTS)}))
    numbers = sorted(set(counts))
    for q in numbers:
        if not isinstance(q, int | np.integer) or not 1 <= q <= most:
            rest = " and others scored" if leave else ""
            what = f"{q} of {mixtures} mixtures cannot be fitted{rest}"
            raise UserError("counts", what, f"give 1 to {most}")
    if not numbers:
        raise UserError("counts", "none given", f"give some of 1 to {most}")
    return tuple(int(q) for q in numbers)


def _check_losses(runs: Runs, problems: Sequence[Problem], fitted: Mask, held: Runs | None) -> None:
    """Every choice has a measured loss of every target, and there is something to score."""
    for target in dict.fromkeys(t for p in problems for t in p.targets):
        if not (fitted & np.isfinite(runs.loss(target))).any(axis=-1).all():
            what = f"target {target!r} has no loss in some choice of the mixtures"
            raise UserError(runs.name, what, "give larger counts, or leave the target out")
        if held is not None and target not in held.targets:
            remedy = "give eval rows with the targets that are fitted, or name fewer"
            raise UserError(held.name, f"no losses of target {target!r}", remedy)


def _quantiles(errors: Floats, levels: Sequence[float]) -> Floats:
    """Quantiles over repeats (levels, counts) of errors (counts, repeats), some infinite."""
    values = np.quantile(np.minimum(errors, _LARGEST), levels, axis=1)
    return np.where(values > 1e-3 * _LARGEST, np.inf, values)


def _mean_relative(predicted: Floats, measured: Floats, scored: Mask) -> Floats:
    """Mean of |predicted - measured| / measured, percent (counts, repeats), over the scored rows
    (repeats, rows) that were measured."""
    seen = np.isfinite(measured)
    off = np.abs(predicted[..., seen] / measured[seen] - 1)
    use = scored[:, seen]
    with np.errstate(invalid="ignore", divide="ignore"):
        return 100 * np.where(use, off, 0.0).sum(axis=-1) / use.sum(axis=-1)
