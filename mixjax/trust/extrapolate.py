"""Runs -> EXTRAPOLATION -> mixture: the law and the lag that predict held-out scales best, chosen
on fitted rows only.

The rule. Candidates are laws times lags (tokens of warm-up that do not count, `law.lagged`). Each
is fitted to parts of the table and predicts scales beyond them:

    N          without the largest size               -> the largest size
    two N      without the two largest sizes          -> the largest size
    D          without the upper octave of D          -> the upper octave
    N and D    without both                           -> the largest size in the upper octave

The candidate with the lowest mean over these splits and over targets of the mean relative error is
fitted to the whole table. One choice for all targets: errors beyond a table are of one sign within
a target, so that a target alone is few data to choose by.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixjax.data.runs import Runs, read_runs
from mixjax.data.splits import Fold
from mixjax.errors import UserError
from mixjax.fitting.fit import fit
from mixjax.fitting.loss import FitOptions, Huber, Settings, read_options
from mixjax.fitting.problem import grouped, make_problem
from mixjax.fitting.record import Fit
from mixjax.fitting.score import score
from mixjax.fitting.search import draw_starts, search
from mixjax.law import Law, find_law, lagged
from mixjax.text import plain, table
from mixjax.trust.held_out import held_out_losses

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

LAWS = ("additive", "joint", "full", "powers")
# Lags tried, as shares of the smallest D of the table: half of it is right where the table begins
# at the end of a linear warm-up.
LAGS = (0.0, 0.25, 0.5, 0.75)
# Starts of a fit of a part of the table, of which there are many.
_STARTS = 32
_ROWS_PER_PARAMETER = 2


@dataclass(frozen=True, eq=False)
class Backtest:
    """One split: `fold.held_out` rows are not fitted, those of `scored` among them are predicted
    and scored."""

    fold: Fold
    scored: Mask

    @property
    def name(self) -> str:
        """What is held out."""
        return self.fold.name


@dataclass(frozen=True)
class Candidate:
    """A law with its lag, and how it did.

    Attributes:
        law: name, with the lag behind an @.
        errors: {split: {target: mean relative error of its predictions, percent}}.
    """

    law: str
    errors: Mapping[str, Mapping[str, float]]

    @property
    def error(self) -> float:
        """Mean over splits and targets, percent; infinite where a prediction is not a number."""
        values = [e for errors in self.errors.values() for e in errors.values()]
        return float(np.mean(values)) if np.isfinite(values).all() else float("inf")


@dataclass(frozen=True, eq=False)
class Extrapolation:
    """What was chosen, and why.

    Attributes:
        fit: the chosen law with its lag, fitted to the whole table: to predict with, to save, for
            `optimal_mixture`.
        candidates: all of them, the best first.
    """

    fit: Fit
    candidates: tuple[Candidate, ...]

    @property
    def law(self) -> str:
        """The law chosen, with its lag."""
        return self.candidates[0].law

    def predict(
        self,
        N: ArrayLike | None = None,
        D: ArrayLike | None = None,
        h: ArrayLike | Mapping[str, ArrayLike] | None = None,
    ) -> dict[str, Floats]:
        """Predicted losses, as `Fit.predict`."""
        return self.fit.predict(N, D, h)

    def __str__(self) -> str:
        """The table of the backtest: mean relative errors at held-out scales, best candidate
        first."""
        splits = list(self.candidates[0].errors)
        rows = [
            [
                c.law,
                *(f"{np.mean(list(c.errors[s].values())):.3f}" for s in splits),
                f"{c.error:.3f}",
            ]
            for c in self.candidates
        ]
        head = (
            f"chosen: {self.law}\nmean relative error at held-out scales, percent, mean over "
            f"{len(self.fit.targets)} targets"
        )
        return head + "\n" + table(["law", *splits, "mean"], rows)

    def to_dict(self) -> dict[str, Any]:
        """Plain content for JSON."""
        candidates = [
            {"law": c.law, "error": c.error, "errors": {s: dict(e) for s, e in c.errors.items()}}
            for c in self.candidates
        ]
        return plain({"law": self.law, "candidates": candidates})


def extrapolate(
    runs: Runs | pd.DataFrame | str,
    *,
    laws: Sequence[str | Law] = LAWS,
    lags: Sequence[float] | None = None,
    targets: Sequence[str] | None = None,
    watch: Callable[[float, Mapping[str, float]], None] | None = None,
    **options: Unpack[FitOptions],
) -> Extrapolation:
    """Fit the law and the lag that predict held-out scales of the table best.

    Args:
        runs: `Runs`, or what `read_runs` reads: the rows to fit. Nothing else is looked at.
        laws: names or `Law`s to choose from.
        lags: tokens of warm-up to choose from; by default 0, 1/4, 1/2 and 3/4 of the smallest D.
        targets: names; all by default. The choice is one for all of them.
        watch: called with the share done and nothing else.
        options: of the fits, see `fit`; those of parts of the table take 32 starts at most.

    Raises:
        UserError: the table has too few scales to leave any out, or cannot be fitted; no law; a lag
            that is not below the smallest D.
        KeyboardInterrupt: half a choice is none.
    """
    whole = runs if isinstance(runs, Runs) else read_runs(runs)
    records = [find_law(law) for law in ([laws] if isinstance(laws, str | Law) else laws)]
    if not records:
        raise UserError("laws", "none given", "name at least one, e.g. joint,powers")
    huber, settings = read_options(options)
    quick = replace(settings, starts=min(settings.starts, _STARTS), hops=0)
    tried = _lags(whole, lags)
    tests = make_backtests(whole, max(law.count(len(whole.domains)) for law in records))
    candidates: list[Candidate] = []
    for law in records:
        for lag in tried:
            report = _part(watch, len(candidates), len(records) * len(tried) + 1)
            report(0.0)
            candidates.append(_tested(whole, law, lag, tests, targets, huber, quick, report))
    candidates.sort(key=lambda c: c.error)
    chosen = next(
        lagged(law, lag)
        for law in records
        for lag in tried
        if lagged(law, lag).name == candidates[0].law
    )
    last = _part(watch, len(candidates), len(candidates) + 1)
    fitted = fit(
        whole,
        chosen,
        targets=targets,
        watch=lambda share, _: last(share),
        **options,
    )
    if fitted.interrupted:
        raise KeyboardInterrupt
    if watch:
        watch(1.0, {})
    return Extrapolation(fitted, tuple(candidates))


def _part(
    watch: Callable[[float, Mapping[str, float]], None] | None, number: int, of: int
) -> Callable[[float], None]:
    """Tells `watch` of the share done of one of several equal parts as a share of all."""
    return lambda share: watch((number + share) / of, {}) if watch else None


def make_backtests(runs: Runs, parameters: int) -> tuple[Backtest, ...]:
    """The splits of a table that leave at least two sizes and two rows for each of so many
    parameters.

    Raises:
        UserError: there is none.
    """
    rows = len(runs)
    sizes = np.unique(runs.N) if runs.N is not None else np.zeros(0)
    late = runs.D.max() / 2 < runs.D if runs.D is not None else np.zeros(rows, bool)
    top = sizes[-1] == runs.N if runs.N is not None else np.zeros(rows, bool)
    two = sizes[-2] <= runs.N if runs.N is not None and len(sizes) > 3 else np.zeros(rows, bool)
    if len(sizes) < 3:
        top = np.zeros(rows, bool)
    splits = (
        ("N", top, top),
        ("two N", two, top),
        ("D", late, late),
        ("N and D", top | late, top & late),
    )
    enough = _ROWS_PER_PARAMETER * parameters
    either = top.any() and late.any()
    tests = [
        Backtest(Fold(name, out), scored)
        for name, out, scored in splits
        if scored.any()
        and (~out).sum() >= enough
        and (name != "N and D" or either)
        and (~out).any()
    ]
    if not tests:
        raise UserError(
            runs.name,
            (
                f"has too few scales to leave the largest out and fit {parameters} parameters "
                f"to the rest"
            ),
            "give more sizes, or name smaller laws",
        )
    return tuple(tests)


def _lags(runs: Runs, lags: Sequence[float] | None) -> tuple[float, ...]:
    """The lags to try, each below the smallest D."""
    if runs.D is None:
        return (0.0,)
    smallest = float(runs.D.min())
    if lags is None:
        return tuple(float(f"{share * smallest:.3g}") for share in LAGS)
    for lag in lags:
        if not (np.isfinite(lag) and 0 <= lag < smallest):
            raise UserError(
                "lags",
                f"{lag} is not a number of tokens below the smallest D, {smallest:.4g}",
                "give numbers of at least 0, e.g. 0,1e9",
            )
    return tuple(dict.fromkeys(float(lag) for lag in lags)) or (0.0,)


def _tested(
    runs: Runs,
    law: Law,
    lag: float,
    tests: Sequence[Backtest],
    targets: Sequence[str] | None,
    huber: Huber,
    settings: Settings,
    report: Callable[[float], None],
) -> Candidate:
    """One candidate's errors: the fits of all splits and targets are one batch.

    The lag is taken off the table, not given to the law, so that the program of a law is compiled
    once for all lags.
    """
    shifted = runs if runs.D is None else replace(runs, D=runs.D - lag)
    problem = make_problem(shifted, law, targets, huber)
    weights = np.stack([test.fold.weights for test in tests])
    starts = draw_starts(problem, settings, copies=len(tests))
    found = search(
        problem.objective,
        grouped(problem, weights),
        starts,
        settings.hops,
        lambda share, _: report(share),
    )
    if not found.finished:
        raise KeyboardInterrupt
    errors: dict[str, dict[str, float]] = {test.name: {} for test in tests}
    for g, target in enumerate(problem.targets):
        for i, test in enumerate(tests):
            at = slice(g * len(tests) + i, g * len(tests) + i + 1)
            predicted, _ = held_out_losses(
                problem, g, shifted, [test.fold], found.best.z[at], found.best.f[at]
            )
            scored = score(predicted[test.scored], runs.loss(target)[test.scored])
            if scored is not None:
                errors[test.name][target] = scored.mre if np.isfinite(scored.mre) else float("inf")
    return Candidate(lagged(law, lag).name, errors)
