"""Runs + laws -> which LAW: three rules over held-out rows.

    use            when                                        what is left out
    compare        the laws are given, and rows to score       rows of eval_runs; nothing is chosen
                   them on are kept apart
    choose_law     one law (and loss) for mixtures and         the largest N, the largest D (where
                   scales like those of the table              there are 3), mixtures in 5 folds,
                                                               extreme mixtures (of 10)
    extrapolate    the mean of laws and lags for scales        the largest N, D and compute, in
                   far beyond the table                        several steps; extreme mixtures

The rule of `choose_law`. Every candidate, a law with a delta and a kind of residual, is fitted to
parts of the table and predicts the rest. Its error is the mean over these splits of the mean over
targets of the mean relative error.
Candidates whose error is within one standard error of the lowest cannot be told apart by it: of
these the lowest information criterion on the fitted rows wins (`candidates`). The standard error is
that of the difference to the best, paired over mixtures; those of the splits are averaged, as if
they were wholly correlated. Noise excuses no more than that: an error that is a quarter above the
lowest, or on any split above twice that of the best, is out. Where nothing can be left out the
criterion decides alone.

The rule of `extrapolate`. Candidates are laws times lags (tokens of warm-up that do not count,
`law.lagged`). Each is fitted to parts of the table and predicts scales beyond them, and extreme
mixtures, see `splits.make_backtests`. Those whose error on extreme mixtures is over twice the
least are out. The error of the others is the geometric mean over splits in scale of the mean
relative error; they are averaged with weights exp(-log(error / least) / 0.1), of which the largest
few are kept: errors beyond a table are of one sign within a law, of several between laws, and
backtests do not tell near-tied laws apart. One choice for all targets, for the same reason.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixjax.data.runs import Runs, as_runs
from mixjax.data.splits import EXTREME, By, Fold, clusters, has_extremes, make_backtests, make_folds
from mixjax.errors import UserError, warn
from mixjax.fitting.fit import Watch, fit
from mixjax.fitting.loss import FitOptions, Huber, SearchOptions, Settings, read_options
from mixjax.fitting.problem import Problem, make_problem
from mixjax.fitting.record import Fit, average_fits
from mixjax.fitting.score import score
from mixjax.law import Law, lagged
from mixjax.text import Record, plain, table
from mixjax.trust.candidates import (
    Candidate,
    Choice,
    Errors,
    Extrapolation,
    averaged,
    judge,
    ranked,
)
from mixjax.trust.held_out import as_laws, fit_splits

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]

BY: tuple[By, ...] = ("N", "D", "mixture")
# On SlimPajama (joint, full) these give the errors of polished fits from 32 starts to 2 percent, in
# half the time.
SETTINGS = Settings(starts=24, hops=0)
_FEWEST = 3  # sizes or D, of which the largest can be left out

# Lags tried, as shares of the smallest D of the table: half of it is right where the table begins
# at the end of a linear warm-up.
LAGS = (0.0, 0.25, 0.5, 0.75)
# Starts of a backtest's fit, of which there are many.
_STARTS = 8


# --- Laws that are given --------------------------------------------------------------------------


@dataclass(frozen=True)
class LawComparison(Record):
    """Several laws fitted to one table, in the order they were named. Nothing is chosen here.

    Attributes:
        train: {law: {target: mean relative error on the fitted rows, percent}}.
        eval: the same on the eval rows, which no fit has seen; None without such rows.
        fits: {law: Fit}, with parameters, objective and how the searches ended.
        parameters: {law: number of parameters of one target}.
    """

    train: Errors
    eval: Errors | None
    fits: Mapping[str, Fit]
    parameters: Mapping[str, int]

    @property
    def laws(self) -> tuple[str, ...]:
        """Names of the laws."""
        return tuple(self.fits)

    @property
    def objective(self) -> dict[str, Mapping[str, float]]:
        """{law: {target: mean Huber loss of the fitted rows}}."""
        return {law: f.objective for law, f in self.fits.items()}

    @property
    def parts(self) -> dict[str, Errors]:
        """{"train" or "eval": errors}."""
        return {"train": self.train} | ({} if self.eval is None else {"eval": self.eval})

    def to_dict(self) -> dict[str, Any]:
        """{"laws": {law: {"train": {target: mre, "mean": x}, "eval": {...}}}}, percent; None where
        a law has no finite value."""

        def of(errors: Mapping[str, float]) -> dict[str, float]:
            return {**errors, "mean": _mean(errors)}

        parts = self.parts.items()
        laws = {law: {part: of(errors[law]) for part, errors in parts} for law in self.laws}
        return plain({"laws": laws})

    def __str__(self) -> str:
        """One line a law: parameters, mean errors, and the error of every target on the rows
        farthest from the fit."""
        part, last = list(self.parts.items())[-1]
        targets = list(dict.fromkeys(t for errors in last.values() for t in errors))
        rows = []
        for law in self.laws:
            means = [f"{_mean(errors[law]):.3f}" for errors in self.parts.values()]
            each = [f"{last[law][t]:.3f}" if t in last[law] else None for t in targets]
            rows.append([law, self.parameters[law], *means, *each])
        means = [f"{name} mean" for name in self.parts]
        head = ["law", "parameters", *means, *(f"{part} {t}" for t in targets)]
        return "mean relative error, percent\n" + table(head, rows)


def compare(
    runs: Runs | pd.DataFrame | str,
    laws: Sequence[str | Law],
    eval_runs: Runs | pd.DataFrame | str | None = None,
    *,
    targets: Sequence[str] | None = None,
    weights: ArrayLike | None = None,
    watch: Watch | None = None,
    **options: Unpack[FitOptions],
) -> LawComparison:
    """Fit several laws to the same runs and score each on these and on held-out rows.

    Args:
        runs: what the laws are fitted to.
        laws: names or `Law`s.
        eval_runs: rows that no fit sees, e.g. of a larger model, scored after the fits. Targets may
            be fewer.
        targets, weights, watch, options: of `fit`.

    Raises:
        UserError: no law, a law twice, or a law that cannot be fitted to this table (it is named).
        KeyboardInterrupt: during a fit; an interrupted fit is not compared.

    Notes: laws of a target's own domain are fitted to the targets that are domains, so their means
    are over fewer targets.
    """
    whole = as_runs(runs)
    held_out = None if eval_runs is None else as_runs(eval_runs)
    records = as_laws(laws)
    _check_targets(whole, held_out, targets)
    huber, _ = read_options(options)
    for law in records:  # whether it can be fitted at all, before any is
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the fit itself warns
                make_problem(whole, law, targets, huber, weights)
        except UserError as error:
            place = f"law {law.name!r} on {error.where}"
            raise UserError(place, error.what, error.remedy) from None
    fits = {}
    for law in records:
        fits[law.name] = fit(whole, law, targets=targets, weights=weights, watch=watch, **options)
        if fits[law.name].interrupted:
            raise KeyboardInterrupt

    def errors(rows: Runs) -> Errors:
        return {name: {t: s.mre for t, s in f.score(rows).items()} for name, f in fits.items()}

    held = None if held_out is None else errors(held_out)
    counts = {law.name: law.count(law.k(whole.domains)) for law in records}
    return LawComparison(errors(whole), held, fits, counts)


def _check_targets(whole: Runs, held_out: Runs | None, targets: Sequence[str] | None) -> None:
    """What would only come to light after minutes of fitting."""
    names = targets or whole.targets
    if "mean" in names:
        what = "a target is called 'mean', which is the mean over targets here"
        raise UserError(whole.name, what, "rename its column")
    if held_out is None:
        return
    held_out.reordered(whole.domains)
    if not set(names) & set(held_out.targets):
        what = f"none of the targets {', '.join(names)} has a loss column"
        raise UserError(held_out.name, what, "give eval rows with these targets")


def _mean(errors: Mapping[str, float]) -> float:
    """Mean over targets; not a number where there is none."""
    return float(np.mean(list(errors.values()))) if errors else float("nan")


# --- A law for the table --------------------------------------------------------------------------


def choose_law(
    runs: Runs | pd.DataFrame | str,
    laws: Sequence[str | Law] = ("simple", "additive", "joint", "full"),
    *,
    by: Sequence[By] | None = None,
    deltas: Sequence[float] = (Huber.delta,),
    residuals: Sequence[str] = (Huber.residual,),
    targets: Sequence[str] | None = None,
    fits: Sequence[Fit] = (),
    watch: Watch | None = None,
    **options: Unpack[SearchOptions],
) -> Choice:
    """Choose a law, and the loss that it is fitted by, for all targets of a table.

    Args:
        runs: `Runs`, or what `read_runs` reads, without rows that are for evaluation.
        laws: names or `Law`s.
        by: what to leave out, of N, D, mixture, run and extreme, see `make_folds`; by default those
            that the table has enough of, and not runs.
        deltas, residuals: of the Huber loss, see `fit`; every combination is a candidate.
        targets: names; all by default. Those that every law can have are judged.
        fits: that are there already; the chosen one is taken from these where it is among them.
        watch: called with the share done of a candidate's batch and its best objectives so far.
        options: of the fits that candidates are judged by, see `fit`: by default 24 starts and no
            hops.

    Raises:
        UserError: no candidate, a table that cannot be split as asked, a law that cannot be fitted.
        KeyboardInterrupt: half a choice is none.

    Warns:
        MixjaxWarning: the table has two sizes, so that none can be left out.
    """
    whole = as_runs(runs)
    huber, settings = read_options(options, SETTINGS)
    every = product(dict.fromkeys(residuals), as_laws(laws), dict.fromkeys(deltas))
    candidates = [
        Candidate(law, Huber(float(delta), residual, huber.prior), law.count(law.k(whole.domains)))
        for residual, law, delta in every
    ]
    if not candidates:
        raise UserError("laws", "no candidate", "name at least one delta and one residual")
    folds = _folds(whole, by, settings.seed)
    problems = [make_problem(whole, c.law, targets, c.huber) for c in candidates]
    judged = [t for t in problems[0].targets if all(t in p.targets for p in problems)]
    if not judged:
        what = "there is no target that all of them can have"
        raise UserError("laws", what, "choose among laws of the same targets")
    each = [fold.weights for of_split in folds.values() for fold in of_split]
    weights = np.stack([np.ones(len(whole)), *each])
    predicted = []
    for problem in problems:
        fitted = fit_splits(problem, weights, settings, polish=False, watch=watch)
        predicted.append({t: fitted.losses(t, whole) for t in judged})
    scored, effective = judge(candidates, predicted, whole, folds)
    order, reason = ranked(scored)
    law, huber = order[0].law, order[0].huber
    chosen = next((f for f in fits if (f.law, f.huber) == (law.name, huber)), None)
    if chosen is None:
        seed = settings.seed
        chosen = fit(whole, law, targets=targets, seed=seed, watch=watch, **asdict(huber))
    return Choice(chosen, tuple(order), reason, effective)


def _folds(runs: Runs, by: Sequence[By] | None, seed: int) -> dict[str, tuple[Fold, ...]]:
    """{split: folds}; without a wish those that the table has enough of."""
    distinct: dict[By, int] = {
        "N": 0 if runs.N is None else len(np.unique(runs.N)),
        "D": 0 if runs.D is None else len(np.unique(runs.D)),
        "mixture": len(np.unique(runs.h, axis=0)) if runs.domains else 0,
    }
    if by is None:
        extreme: tuple[By, ...] = ("extreme",) if has_extremes(runs) else ()
        by = (*(name for name in BY if distinct[name] >= _FEWEST), *extreme)
        if distinct["N"] == _FEWEST - 1:
            what = "has two sizes: what laws predict at a larger one is not tested"
            warn(runs.name, what, "train runs of a third size, or choose for these two sizes only")
    return {name: make_folds(runs, name, None, seed) for name in dict.fromkeys(by)}


# --- Laws for larger scales -----------------------------------------------------------------------


def extrapolate(
    runs: Runs | pd.DataFrame | str,
    *,
    laws: Sequence[str | Law] | None = None,
    lags: Sequence[float] | None = None,
    targets: Sequence[str] | None = None,
    watch: Watch | None = None,
    **options: Unpack[FitOptions],
) -> Extrapolation:
    """Fit the mean of the laws and lags that predict held-out scales of the table best.

    Args:
        runs: `Runs`, or what `read_runs` reads: the rows to fit. Nothing else is looked at.
        laws: names or `Law`s to choose from; by default those that the table has columns and
            scales for, see `laws_for`.
        lags: tokens of warm-up to choose from; by default 0, 1/4, 1/2 and 3/4 of the smallest D
            where runs have several D. A law that is given with a lag is tried with that alone.
        targets: names; all by default. The choice is one for all of them.
        watch: called with the share done and nothing else.
        options: of the fits, see `fit`; those of parts of the table take 8 starts at most.

    Raises:
        UserError: the table cannot be fitted; no law; a lag that is not below the smallest D.
        KeyboardInterrupt: half a choice is none.

    Warns:
        MixjaxWarning: the table has too few scales to leave any out: its laws are averaged with
            equal weights, untested.
    """
    whole = as_runs(runs)
    records = as_laws(laws_for(whole) if laws is None else laws)
    huber, settings = read_options(options)
    quick = replace(settings, starts=min(settings.starts, _STARTS), hops=0)
    folds = make_backtests(whole, max(law.count(law.k(whole.domains)) for law in records))
    # A law that is given with a lag is tried with that alone.
    tried = [
        (lagged(law, 0.0), lag)
        for law in records
        for lag in _lags(whole, (law.lag,) if law.lag else lags)
    ]
    if all(fold.name == EXTREME for fold in folds):
        what = "has too few sizes or D to leave the largest out: what laws predict beyond it is "
        remedy = "train runs of another size, or do not trust predictions far beyond the table"
        warn(whole.name, f"{what}not tested, and near-tied laws cannot be told apart", remedy)
        tried = [(law, lag) for law, lag in tried if not lag] or tried
    candidates = []
    for number, (law, lag) in enumerate(tried):
        report = _part(watch, number, 2 * len(tried))
        report(0.0, {})
        problem = make_problem(_shifted(whole, lag), law, targets, huber)
        errors = _backtested(problem, whole, folds, quick, report)
        count = law.count(law.k(whole.domains))
        candidates.append(Candidate(lagged(law, lag), huber, count, errors))
    candidates = averaged(candidates)
    chosen = [(c, tried[i]) for c, i in candidates if c.weight]
    fits = []
    for number, (candidate, (law, lag)) in enumerate(chosen):
        report = _part(watch, len(chosen) + number, 2 * len(chosen))
        fits.append((_fit_lagged(whole, law, lag, targets, report, options), candidate.weight))
    if watch:
        watch(1.0, {})
    fitted = fits[0][0] if len(fits) == 1 else average_fits(fits, whole)
    return Extrapolation(fitted, tuple(c for c, _ in candidates))


def laws_for(runs: Runs) -> tuple[str, ...]:
    """Names of the laws that the columns and scales of a table allow."""
    varies = [x is not None and np.ptp(x) > 0 for x in (runs.N, runs.D)]
    if not runs.domains:
        return ("chinchilla", "coupled", "log_quadratic")
    if not any(varies):
        return ("additive_fixed_nd", "ye_m4")
    if not varies[0]:
        return ("additive_fixed_n",)
    return ("additive", "joint", "powers")


def _shifted(runs: Runs, lag: float) -> Runs:
    """The same runs with a lag taken off D: so the program of a law is compiled once for all."""
    return runs if runs.D is None or not lag else replace(runs, D=runs.D - lag)


def _backtested(
    problem: Problem, runs: Runs, folds: Sequence[Fold], settings: Settings, watch: Watch
) -> dict[str, dict[str, float]]:
    """{fold: {target: mean relative error of the rows left out, percent}}."""
    if not folds:
        return {}
    weights = np.stack([fold.weights for fold in folds])
    fits = fit_splits(problem, weights, settings, polish=False, watch=watch)
    errors: dict[str, dict[str, float]] = {fold.name: {} for fold in folds}
    for t in problem.targets:
        for fold, losses in zip(folds, fits.losses(t, problem.runs), strict=True):
            scored = score(losses[fold.held_out], runs.loss(t)[fold.held_out])
            errors[fold.name] |= {} if scored is None else {t: scored.mre}
    # What no target has a loss of tells nothing.
    return {name: own for name, own in errors.items() if own}


def _fit_lagged(
    runs: Runs,
    law: Law,
    lag: float,
    targets: Sequence[str] | None,
    watch: Watch,
    options: FitOptions,
) -> Fit:
    """A law with a lag, fitted to all runs."""
    fitted = fit(_shifted(runs, lag), law, targets=targets, watch=watch, **options)
    if fitted.interrupted:
        raise KeyboardInterrupt
    ranges = {
        name: (low + lag, high + lag) if name == "D" else (low, high)
        for name, (low, high) in fitted.ranges.items()
    }
    made = {**fitted.made, "fingerprint": runs.fingerprint()}
    whole = lagged(law, lag)
    own = None if fitted.own_law is None else whole
    return replace(fitted, law=whole.name, own_law=own, ranges=ranges, made=made)


def _part(watch: Watch | None, number: int, parts: int) -> Watch:
    """Tells `watch` the share done of one of several equal parts as a share of all."""
    return lambda share, _: watch((number + share) / parts, {}) if watch else None


def _lags(runs: Runs, lags: Sequence[float] | None) -> tuple[float, ...]:
    """The lags to try, each below the smallest D."""
    if runs.D is None:
        return (0.0,)
    smallest = float(runs.D.min())
    if lags is None and len(np.unique(clusters(runs, "run"))) > len(runs) / 2:
        return (0.0,)
    if lags is None:
        return tuple(float(f"{share * smallest:.3g}") for share in LAGS)
    for lag in lags:
        if not (np.isfinite(lag) and 0 <= lag < smallest):
            what = f"{lag} is not a number of tokens below the smallest D, {smallest:.4g}"
            raise UserError("lags", what, "give numbers of at least 0, e.g. 0,1e9")
    return tuple(dict.fromkeys(float(lag) for lag in lags)) or (0.0,)
