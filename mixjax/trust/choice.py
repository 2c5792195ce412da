"""Runs + laws and options -> CHOICE: one law for all targets, by rows left out of the fitted table,
and the reason in one sentence.

The rule. Every candidate, a law with a delta and a kind of residual, is fitted to parts of the
table and predicts the rest:

    N          the largest sizes           (where there are three or more)
    D          the largest D               (likewise)
    mixture    whole mixtures, in 5 folds

Its error is the mean over these splits of the mean over targets of the mean relative error.
Candidates whose error is within one standard error of the lowest cannot be told apart by it: of
these the lowest information criterion on the fitted rows wins (`criterion`). The standard error is
that of the difference to the best, paired over mixtures; those of the splits are averaged, as if
they were wholly correlated. Where nothing can be left out the criterion decides alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from numpy.typing import NDArray

from mixjax.data.runs import Runs, read_runs
from mixjax.data.splits import By, Fold, clusters, make_folds
from mixjax.engine.batch import Found
from mixjax.errors import UserError
from mixjax.fitting.fit import fit
from mixjax.fitting.loss import Huber, SearchOptions, Settings, read_options
from mixjax.fitting.problem import Problem, grouped, losses_at, make_problem
from mixjax.fitting.record import Fit
from mixjax.fitting.search import draw_starts, minimise
from mixjax.law import Law, find_law
from mixjax.text import plain, table
from mixjax.trust.criterion import effective_rows, log_likelihood, schwarz

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Watch = Callable[[float, Mapping[str, float]], None]

BY: tuple[By, ...] = ("N", "D", "mixture")
# On SlimPajama (joint, full) these give the errors of polished fits from 32 starts to 2 percent, in
# half the time.
SETTINGS = Settings(starts=24, hops=0)
_FEWEST = 3  # sizes or D, of which the largest can be left out


@dataclass(frozen=True)
class Option:
    """A law with a delta and a kind of residual, and how it did.

    Attributes:
        parameters: of one target.
        errors: {split: {target: mean relative error of the rows left out, percent}}.
        criterion: {target: information criterion of the fitted rows}; lower is better, only
            differences mean anything.
        behind: standard errors between its error and the lowest; 0 of the best.
    """

    law: str
    huber: Huber
    parameters: int
    errors: Mapping[str, Mapping[str, float]]
    criterion: Mapping[str, float]
    behind: float

    @property
    def error(self) -> float | None:
        """Mean over splits and targets, percent; None without splits."""
        return (
            float(np.mean([np.mean(list(e.values())) for e in self.errors.values()]))
            if self.errors
            else None
        )

    @property
    def total(self) -> float:
        """The criterion, summed over targets."""
        return float(np.sum(list(self.criterion.values())))

    def __str__(self) -> str:
        """As it is named in sentences."""
        return (
            f"{self.law} (delta {self.huber.delta:g}, residual of the "
            f"{'log loss' if self.huber.residual == 'log' else 'loss'})"
        )


@dataclass(frozen=True, eq=False)
class Choice:
    """What was chosen, why, and everything it was chosen from.

    Attributes:
        fit: of the chosen law and options to the whole table.
        options: all candidates, the chosen one first, then by error.
        reason: one sentence.
        effective: {target: how many independent rows the fitted rows were taken for}.
    """

    fit: Fit
    options: tuple[Option, ...]
    reason: str
    effective: Mapping[str, float]

    @property
    def law(self) -> str:
        """Name of the law chosen."""
        return self.options[0].law

    def __str__(self) -> str:
        """The candidates with their errors, and the reason."""
        splits = list(self.options[0].errors)
        least = min(o.total for o in self.options)
        head = [
            "law",
            "delta",
            "residual",
            "parameters",
            *(f"{s} left out" for s in splits),
            "mean",
            "std. errors behind",
            "BIC above lowest",
        ]
        rows = []
        for o in self.options:
            held = [f"{np.mean(list(o.errors[s].values())):.3f}" for s in splits]
            mean = [None, None] if o.error is None else [f"{o.error:.3f}", f"{o.behind:.1f}"]
            rows.append(
                [
                    o.law,
                    f"{o.huber.delta:g}",
                    o.huber.residual,
                    o.parameters,
                    *held,
                    *mean,
                    f"{o.total - least:.0f}",
                ]
            )
        return f"mean relative error of rows left out, percent\n{table(head, rows)}\n{self.reason}"

    def to_dict(self) -> dict[str, Any]:
        """Plain content for JSON."""
        options = []
        for o in self.options:
            content = {"law": o.law, **asdict(o.huber), **asdict(o), "error": o.error}
            options.append(content | {"bic": o.total})
            del options[-1]["huber"]
        first = self.options[0]
        return plain(
            {
                "law": first.law,
                **asdict(first.huber),
                "reason": self.reason,
                "options": options,
                "effective_rows": self.effective,
            }
        )


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
    """Choose a law, and options of its fit, for all targets of a table.

    Args:
        runs: `Runs`, or what `read_runs` reads. Nothing else is looked at: leave out rows that are
            for evaluation.
        laws: names or `Law`s.
        by: what to leave out, of N, D, mixture and run; by default those of N, D and mixture that
            the table has.
        deltas, residuals: of the Huber loss, see `fit`; every combination is a candidate.
        targets: names; all by default. Those that every law can have are judged.
        fits: that are there already; the chosen one is taken from these where it is among them.
        watch: called with the share done of a candidate's batch and its best objectives so far.
        options: of the fits that candidates are judged by, see `fit`: by default 24 starts and no
            hops.

    Raises:
        UserError: no candidate, a table that cannot be split as asked, a law that cannot be fitted.
        KeyboardInterrupt: half a choice is none.
    """
    whole = runs if isinstance(runs, Runs) else read_runs(runs)
    records = list(
        dict.fromkeys(find_law(law) for law in ([laws] if isinstance(laws, str | Law) else laws))
    )
    candidates = [
        (law, Huber(float(delta), residual))
        for residual in dict.fromkeys(residuals)
        for law in records
        for delta in dict.fromkeys(deltas)
    ]
    if not candidates:
        raise UserError("laws", "no candidate", "name at least one law, one delta and one residual")
    _, settings = read_options(options, SETTINGS)
    folds = _folds(whole, by, settings.seed)
    problems = [make_problem(whole, law, targets, huber) for law, huber in candidates]
    judged = [t for t in problems[0].targets if all(t in p.targets for p in problems)]
    if not judged:
        raise UserError(
            "laws",
            "there is no target that all of them can have",
            "choose among laws of the same targets",
        )
    predicted = [
        _predicted(p, whole, judged, [f for some in folds.values() for f in some], settings, watch)
        for p in problems
    ]
    found, effective = _judged(whole, candidates, predicted, folds, judged)
    order, reason = _ranked(found)
    law, huber = candidates[order[0]]
    known = [f for f in fits if (f.law, f.huber) == (law.name, huber)]
    chosen = (
        known[0]
        if known
        else fit(
            whole,
            law,
            targets=targets,
            watch=watch,
            seed=settings.seed,
            **asdict(huber),
        )
    )
    return Choice(chosen, tuple(found[i] for i in order), reason, effective)


def _folds(runs: Runs, by: Sequence[By] | None, seed: int) -> dict[str, tuple[Fold, ...]]:
    """{split: folds}; without a wish those that the table has enough of."""
    if by is not None:
        return {name: make_folds(runs, name, None, seed) for name in dict.fromkeys(by)}
    enough = {
        "N": runs.N is not None and len(np.unique(runs.N)) >= _FEWEST,
        "D": runs.D is not None and len(np.unique(runs.D)) >= _FEWEST,
        "mixture": bool(runs.domains) and len(np.unique(runs.h, axis=0)) >= _FEWEST,
    }
    return {name: make_folds(runs, name, None, seed) for name in BY if enough[name]}


def _predicted(
    problem: Problem,
    runs: Runs,
    targets: Sequence[str],
    folds: Sequence[Fold],
    settings: Settings,
    watch: Watch | None,
) -> dict[str, Floats]:
    """{target: losses (1 + folds, rows) predicted by the fit of the whole table and by those
    without each fold}: one batch."""
    weights = np.stack([np.ones(len(runs)), *(f.weights for f in folds)])
    starts = draw_starts(problem, settings, copies=len(weights))

    def report(found: Found) -> None:
        if watch:
            best = found.f[:: len(weights)].min(axis=1)
            watch(
                float(np.mean(found.finished)),
                dict(zip(problem.targets, best.tolist(), strict=True)),
            )

    found = minimise(
        problem.objective,
        grouped(problem, weights),
        starts,
        "search",
        settings.hops,
        report,
    )
    if not found.finished.all():
        raise KeyboardInterrupt
    lowest = (
        found.z[np.arange(len(found.z)), found.f.argmin(axis=1)]
        .astype(np.float64)
        .reshape(len(problem.targets), len(weights), -1)
    )
    return {
        t: losses_at(problem, problem.targets.index(t), lowest[problem.targets.index(t)], runs)
        for t in targets
    }


def _judged(
    runs: Runs,
    candidates: Sequence[tuple[Law, Huber]],
    predicted: Sequence[Mapping[str, Floats]],
    folds: Mapping[str, Sequence[Fold]],
    targets: list[str],
) -> tuple[list[Option], dict[str, float]]:
    """The candidates with errors and criteria, and the effective rows of each target."""
    of, run = clusters(runs, "mixture" if runs.domains else "run"), clusters(runs, "run")
    parts = [_errors(runs, p, folds, targets) for p in predicted]
    errors = [
        {
            s: {t: 100 * float(np.nanmean(e)) for t, e in zip(targets, off, strict=True)}
            for s, off in part.items()
        }
        for part in parts
    ]
    totals = [
        float(np.mean([float(np.mean(list(e.values()))) for e in some.values()])) if some else 0.0
        for some in errors
    ]
    best = int(np.argmin(totals))
    criteria, effective = _criteria(runs, candidates, predicted, targets, run)
    found = []
    for i, (law, huber) in enumerate(candidates):
        behind = (
            _behind(parts[i], parts[best], of, totals[i] - totals[best])
            if i != best and folds
            else 0.0
        )
        count = law.count(law.k(runs.domains))
        found.append(Option(law.name, huber, count, errors[i], criteria[i], behind))
    return found, effective


def _errors(
    runs: Runs,
    predicted: Mapping[str, Floats],
    folds: Mapping[str, Sequence[Fold]],
    targets: Sequence[str],
) -> dict[str, Floats]:
    """{split: relative errors (targets, rows)}, NaN where a row is not left out or not measured."""
    out, at = {}, 1
    for name, some in folds.items():
        off = np.full((len(targets), len(runs)), np.nan)
        for fold in some:
            for g, t in enumerate(targets):
                off[g, fold.held_out] = np.abs(predicted[t][at] / runs.loss(t) - 1)[fold.held_out]
            at += 1
        out[name] = off
    return out


def _behind(
    errors: Mapping[str, Floats],
    best: Mapping[str, Floats],
    cluster: NDArray[np.intp],
    difference: float,
) -> float:
    """The difference of two errors, percent, in standard errors: paired over clusters within each
    split, averaged over splits."""
    deviations = []
    for name, off in errors.items():
        seen = np.isfinite(off) & np.isfinite(best[name])
        count = np.maximum(seen.sum(axis=1, keepdims=True), 1)
        # So that the sum over rows is the difference of the means over targets.
        each = np.where(seen, off - best[name], 0.0) / count / len(off)
        total = np.bincount(cluster, each.sum(axis=0))
        share = np.bincount(cluster, (seen / count / len(off)).sum(axis=0))
        rest = (total - share * total.sum())[share > 0]
        deviations.append(np.sqrt(np.sum(rest**2) * len(rest) / max(len(rest) - 1, 1)))
    error = 100 * float(np.mean(deviations))
    return (
        difference / error
        if error > 0 and np.isfinite(difference)
        else float("inf")
        if difference > 0
        else 0.0
    )


def _criteria(
    runs: Runs,
    candidates: Sequence[tuple[Law, Huber]],
    predicted: Sequence[Mapping[str, Floats]],
    targets: Sequence[str],
    run: NDArray[np.intp],
) -> tuple[list[dict[str, float]], dict[str, float]]:
    """[{target: criterion}] of the candidates; effective rows are those of the likeliest candidate,
    whose residuals have least misfit in them."""
    criteria: list[dict[str, float]] = [{} for _ in candidates]
    effective = {}
    for t in targets:
        measured = runs.loss(t)
        # A law of a target's own domain has no value where that has no share; such rows say nothing
        # about any candidate.
        seen = np.isfinite(measured) & np.all([np.isfinite(p[t][0]) for p in predicted], axis=0)
        off = [
            huber.residuals(p[t][0][seen], measured[seen])
            for p, (_, huber) in zip(predicted, candidates, strict=True)
        ]
        likelihoods = [
            log_likelihood(r, huber.delta)
            - (float(np.sum(np.log(measured[seen]))) if huber.residual == "log" else 0.0)
            for r, (_, huber) in zip(off, candidates, strict=True)
        ]
        likeliest = int(np.argmax(likelihoods))
        effective[t] = effective_rows(off[likeliest], candidates[likeliest][1].delta, run[seen])
        for i, (law, _) in enumerate(candidates):
            count = law.count(law.k(runs.domains))
            criteria[i][t] = schwarz(likelihoods[i], int(seen.sum()), effective[t], count)
    return criteria, effective


def _ranked(found: Sequence[Option]) -> tuple[list[int], str]:
    """The candidates in order, the chosen one first, and why it is."""
    numbers = range(len(found))
    by_criterion = sorted(numbers, key=lambda i: found[i].total)
    if found[0].error is None:
        return (
            by_criterion,
            (
                f"chosen: {found[by_criterion[0]]}; nothing can be left out of this table, so "
                f"the information criterion decides alone."
            ),
        )
    by_error = sorted(numbers, key=lambda i: (float(found[i].error or 0.0), found[i].total))
    near = [i for i in by_error if found[i].behind <= 1.0]
    chosen = min(near, key=lambda i: found[i].total)
    best, one = found[by_error[0]], found[chosen]
    if chosen == by_error[0]:
        nearest = found[by_error[1]] if len(found) > 1 else None
        why = f"it predicts rows left out best, {one.error:.3f} percent"
        why += f", before {nearest} with {nearest.error:.3f}" if nearest is not None else ""
        why += (
            (
                ", and of the candidates within one standard error its information criterion "
                "is the lowest"
            )
            if len(near) > 1
            else ""
        )
    else:
        why = (
            f"its {one.error:.3f} percent on rows left out is within one standard error of the "
            f"lowest, {best.error:.3f} of {best}"
        )
        why += ", and its information criterion is the lowest of those that are"
    return [chosen, *(i for i in by_error if i != chosen)], f"chosen: {one}; {why}."
