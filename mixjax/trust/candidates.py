"""CANDIDATES of a choice of a law: their errors on rows left out, their information criterion, and
what was chosen of them.

A fit that minimises the sum of Huber_delta(r) is the maximum-likelihood fit under
residuals of density

    p(r) = exp(-Huber_delta(r) / s) / Z,   Z = sqrt(2 pi s) erf(delta / sqrt(2 s)) + (2 s / delta)
    exp(-delta^2 / (2 s)),

normal within delta of 0 and Laplace's beyond it (with delta = 1e-3 and residuals of 1e-2, Laplace's
almost everywhere). The scale s is fitted too. As a density of measured losses it can be compared
between deltas, and between residuals of the loss and of its logarithm (whose density is divided by
the loss).

Rows of one run are not independent. With rho the correlation within runs of the scores, the
residuals clipped at +-delta, which is what parameters are pulled by, a run of m rows counts as m /
(1 + (m - 1) rho). The criterion is Schwarz's (1978) for n_eff = sum of these:

    BIC = -2 (n_eff / n) log likelihood + (parameters + 1) log n_eff

All parameters count, also those that the rows do not pin down.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixjax.data.runs import Runs
from mixjax.data.splits import EXTREME, Fold, clusters
from mixjax.fitting.loss import Huber
from mixjax.fitting.record import Fit
from mixjax.law import Law
from mixjax.numerics import correlation_within
from mixjax.text import Record, plain, table

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
# Of the average of `extrapolate` (benchmarks/NOTES.md, "Averages of laws").
_TEMPERATURE, _MOST_LAWS, _LEAST_WEIGHT, _MOST_ON_MIXTURES = 0.1, 4, 0.05, 2.0
# Of one chosen law: how far its error may be above the lowest in all, and above that candidate's on
# any split, whatever its standard error.
_WORSE, _WORSE_ON_A_SPLIT = 1.25, 2.0
_EXACT, _FAR = 1e-6, 1e6  # percent taken for exact; loss of a candidate that failed among failed
Errors = Mapping[str, Mapping[str, float]]  # {split: {target: mean relative error, percent}}


@dataclass(frozen=True, eq=False)
class Candidate:
    """A law with the loss that it is fitted by, and how it did.

    Attributes:
        law: with its lag, if any.
        parameters: of one target.
        errors: {split: {target: mean relative error of the rows left out, percent}}.
        criterion: {target: information criterion of the fitted rows}; lower is better, only
            differences mean anything. Empty where none was asked for.
        behind: standard errors between its error and the lowest; 0 of the best.
        weight: in an average of candidates.
    """

    law: Law
    huber: Huber
    parameters: int
    errors: Errors = field(default_factory=dict)
    criterion: Mapping[str, float] = field(default_factory=dict)
    behind: float = 0.0
    weight: float = 0.0

    @property
    def error(self) -> float | None:
        """Mean over splits and targets, percent; infinite where a prediction is no number, None
        without splits."""
        values = [e for errors in self.errors.values() for e in errors.values()]
        if not np.isfinite(values).all():
            return math.inf
        return float(np.mean(values)) if values else None

    def geometric_mean(self, splits: Sequence[str]) -> float:
        """Mean over splits of the logarithm of the mean over targets; 0 without splits, infinite
        where a prediction is no number."""
        means = [float(np.mean(list(self.errors[name].values()))) for name in splits]
        if not np.isfinite(means).all():
            return math.inf
        return float(np.mean(np.log(np.maximum(means, _EXACT)))) if means else 0.0

    @property
    def total(self) -> float:
        """The criterion, summed over targets."""
        return float(np.sum(list(self.criterion.values())))

    def split_means(self) -> list[str]:
        """The error of every split, mean over targets, as text."""
        return [f"{np.mean(list(errors.values())):.3f}" for errors in self.errors.values()]

    def __str__(self) -> str:
        """As it is named in sentences."""
        kind = "log loss" if self.huber.residual == "log" else "loss"
        return f"{self.law.name} (delta {self.huber.delta:g}, residual of the {kind})"


@dataclass(frozen=True, eq=False)
class Choice(Record):
    """What `choose_law` chose, why, and everything it was chosen from.

    Attributes:
        fit: of the chosen law and loss to the whole table.
        candidates: all of them, the chosen one first, then by error.
        reason: one sentence.
        effective: {target: how many independent rows the fitted rows were taken for}.
    """

    fit: Fit
    candidates: tuple[Candidate, ...]
    reason: str
    effective: Mapping[str, float]

    @property
    def law(self) -> str:
        """Name of the law chosen."""
        return self.candidates[0].law.name

    def __str__(self) -> str:
        """The candidates with their errors, and the reason."""
        least = min(c.total for c in self.candidates)
        splits = [f"{name} left out" for name in self.candidates[0].errors]
        behind = ["mean", "std. errors behind", "BIC above lowest"]
        rows = []
        for c in self.candidates:
            mean = [None, None] if c.error is None else [f"{c.error:.3f}", f"{c.behind:.1f}"]
            named = [c.law.name, f"{c.huber.delta:g}", c.huber.residual, c.parameters]
            rows.append([*named, *c.split_means(), *mean, f"{c.total - least:.0f}"])
        text = table(["law", "delta", "residual", "parameters", *splits, *behind], rows)
        return f"mean relative error of rows left out, percent\n{text}\n{self.reason}"

    def to_dict(self) -> dict[str, Any]:
        """Plain content for JSON."""
        names = ("parameters", "errors", "criterion", "behind", "error")
        options = [
            {"law": c.law.name, **asdict(c.huber)}
            | {name: getattr(c, name) for name in names}
            | {"bic": c.total}
            for c in self.candidates
        ]
        chosen = {"law": self.law, **asdict(self.candidates[0].huber), "reason": self.reason}
        return plain({**chosen, "options": options, "effective_rows": self.effective})


@dataclass(frozen=True, eq=False)
class Extrapolation(Record):
    """What `extrapolate` made of its candidates, and why."""

    fit: Fit  # the mean of the chosen laws, or the one chosen, fitted to the whole table
    candidates: tuple[Candidate, ...]  # the best first

    @property
    def law(self) -> str:
        """Of the fit."""
        return self.fit.law

    def __str__(self) -> str:
        """Mean relative errors at held-out scales and the mean that decides, best first."""
        splits = list(self.candidates[0].errors)
        scales = [name for name in splits if name != EXTREME]
        rows = []
        for c in self.candidates:
            mean = f"{math.exp(c.geometric_mean(scales)):.3f}" if scales else "-"
            rows.append([c.law.name, *c.split_means(), mean, f"{c.weight:.3f}"])
        head = ["law", *splits, "geometric mean of scales", "weight"]
        return (
            f"chosen: {self.law}\nmean relative error of rows left out, percent, mean over "
            f"{len(self.fit.targets)} targets\n{table(head, rows)}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain content for JSON."""
        candidates = [
            {"law": c.law.name, "error": c.error, "errors": c.errors, "weight": c.weight}
            for c in self.candidates
        ]
        return plain({"law": self.law, "candidates": candidates})


def averaged(candidates: Sequence[Candidate]) -> list[tuple[Candidate, int]]:
    """The candidates with their weights in an average, and their places; the best first.

    The rule is that of `choose.extrapolate`; untested candidates weigh the same.
    """
    scale, mixture = (
        np.array(
            [c.geometric_mean([n for n in c.errors if (n == EXTREME) == m]) for c in candidates]
        )
        for m in (False, True)
    )
    failed = ~np.isfinite(scale) | (mixture > np.log(_MOST_ON_MIXTURES) + mixture.min())
    failed &= ~failed.all()
    loss = np.where(failed, np.inf, np.where(np.isfinite(scale), scale, _FAR))
    weights = np.exp(-(loss - loss.min()) / _TEMPERATURE)
    weights[np.argsort(-weights, kind="stable")[_MOST_LAWS:]] = 0.0
    weights = np.where(weights < _LEAST_WEIGHT * weights.max(), 0.0, weights)
    weights = np.round(weights / weights.sum(), 3)
    weights[np.argmax(weights)] += 1.0 - weights.sum()
    order = np.lexsort((loss, -weights))
    return [(replace(candidates[i], weight=round(float(weights[i]), 3)), int(i)) for i in order]


def judge(
    candidates: Sequence[Candidate],
    predicted: Sequence[Mapping[str, Floats]],
    runs: Runs,
    folds: Mapping[str, Sequence[Fold]],
) -> tuple[list[Candidate], dict[str, float]]:
    """The candidates with errors and criteria, and the effective rows of each target.

    Args:
        predicted: of each candidate {target: losses (1 + folds, rows)}, by the fit of all rows and
            then by those without each fold, in the order of `folds`.
        folds: {split: its folds}.
    """
    cluster = clusters(runs, "mixture" if runs.domains else "run")
    off = [relative_errors(runs, p, folds) for p in predicted]
    criteria, effective = _criteria(runs, candidates, predicted)
    scored = []
    for candidate, relative, criterion in zip(candidates, off, criteria, strict=True):
        errors = {
            split: {t: 100 * float(np.nanmean(x)) for t, x in zip(effective, each, strict=True)}
            for split, each in relative.items()
        }
        scored.append(replace(candidate, errors=errors, criterion=criterion))
    if folds:
        totals = [math.inf if c.error is None else c.error for c in scored]
        best = int(np.argmin(totals))
        for i in set(range(len(scored))) - {best}:
            behind = standard_errors_behind(off[i], off[best], cluster, totals[i] - totals[best])
            scored[i] = replace(scored[i], behind=behind)
    return scored, effective


def relative_errors(
    runs: Runs, predicted: Mapping[str, Floats], folds: Mapping[str, Sequence[Fold]]
) -> dict[str, Floats]:
    """{split: relative errors (targets, rows)}, NaN where a row is not left out or not measured."""
    out, number = {}, 1
    for split, of_split in folds.items():
        off = np.full((len(predicted), len(runs)), np.nan)
        for fold in of_split:
            for g, (t, losses) in enumerate(predicted.items()):
                relative = np.abs(losses[number] / runs.loss(t) - 1)
                off[g, fold.held_out] = relative[fold.held_out]
            number += 1
        out[split] = off
    return out


def standard_errors_behind(
    errors: Mapping[str, Floats], best: Mapping[str, Floats], cluster: Ints, difference: float
) -> float:
    """The difference of two errors, percent, in standard errors: paired over clusters (rows,)
    within each split, averaged over splits."""
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
    if error > 0 and np.isfinite(difference):
        return difference / error
    return math.inf if difference > 0 else 0.0


def _criteria(
    runs: Runs, candidates: Sequence[Candidate], predicted: Sequence[Mapping[str, Floats]]
) -> tuple[list[dict[str, float]], dict[str, float]]:
    """[{target: criterion}] of the candidates; effective rows are those of the likeliest one, whose
    residuals have least misfit in them."""
    criteria: list[dict[str, float]] = [{} for _ in candidates]
    effective, run = {}, clusters(runs, "run")
    for t in predicted[0]:
        measured = runs.loss(t)
        # A law of a target's own domain has no value where that has no share; such rows say nothing
        # about any candidate.
        seen = np.isfinite(measured) & np.all([np.isfinite(p[t][0]) for p in predicted], axis=0)
        logs = float(np.sum(np.log(measured[seen])))
        off, likelihoods = [], []
        for p, c in zip(predicted, candidates, strict=True):
            off.append(c.huber.residuals(p[t][0][seen], measured[seen]))
            of_loss = logs if c.huber.residual == "log" else 0.0
            likelihoods.append(log_likelihood(off[-1], c.huber) - of_loss)
        likeliest = int(np.argmax(likelihoods))
        effective[t] = effective_rows(off[likeliest], candidates[likeliest].huber, run[seen])
        for c, likelihood, criterion in zip(candidates, likelihoods, criteria, strict=True):
            criterion[t] = schwarz(likelihood, int(seen.sum()), effective[t], c.parameters)
    return criteria, effective


def log_likelihood(residuals: Floats, huber: Huber) -> float:
    """Largest log-likelihood over s of residuals (rows,), of the density above."""
    from scipy.optimize import minimize_scalar

    mean = float(np.mean(huber.value(residuals)))
    if not mean > 0:
        return math.inf
    # s lies between the mean Huber loss (Laplace) and twice that (normal); the likelihood has one
    # peak in log s.
    lowest: Any = minimize_scalar(
        lambda log_s: -_mean_log_density(mean, math.exp(log_s), huber.delta),
        bounds=(math.log(0.5 * mean), math.log(4.0 * mean)),
        method="bounded",
        options={"xatol": 1e-9},
    )
    return -len(residuals) * float(lowest.fun)


def _mean_log_density(mean: float, s: float, delta: float) -> float:
    """Mean over rows of log p(r), for their mean Huber loss."""
    inside = math.sqrt(2 * math.pi * s) * math.erf(delta / math.sqrt(2 * s))
    beyond = 2 * s / delta * math.exp(-(delta**2) / (2 * s))
    return -math.log(inside + beyond) - mean / s


def effective_rows(residuals: Floats, huber: Huber, run: Ints) -> float:
    """How many independent rows the residuals (rows,) are worth; run (rows,): number of each's."""
    rows = np.unique(run, return_counts=True)[1]
    rho = min(max(correlation_within(huber.clip(residuals), run), 0.0), 1.0)
    return float(np.sum(rows / (1 + (rows - 1) * rho)))


def schwarz(likelihood: float, rows: int, effective: float, parameters: int) -> float:
    """BIC of one target; lower is better."""
    return -2 * effective / rows * likelihood + (parameters + 1) * math.log(max(effective, 1.0))


def _excusable(candidate: Candidate, best: Candidate) -> bool:
    """Whether noise may excuse the errors of a candidate beside those of the best, percent."""
    pairs = [(candidate.error or 0.0, best.error or 0.0, _WORSE)]
    for own, other in zip(candidate.errors.values(), best.errors.values(), strict=True):
        mean, least = (float(np.mean(list(errors.values()))) for errors in (own, other))
        pairs.append((mean, least, _WORSE_ON_A_SPLIT))
    return all(own <= times * max(other, _EXACT) for own, other, times in pairs)


def ranked(candidates: Sequence[Candidate]) -> tuple[list[Candidate], str]:
    """The candidates in order, the chosen one first, and why it is."""
    by_criterion = sorted(candidates, key=lambda c: c.total)
    if candidates[0].error is None:
        why = "nothing can be left out of this table, so the information criterion decides alone"
        return by_criterion, f"chosen: {by_criterion[0]}; {why}."
    criterion = "its information criterion is the lowest"
    by_error = sorted(candidates, key=lambda c: (c.error or 0.0, c.total))
    best = by_error[0]
    near = [c for c in by_error if c.behind <= 1.0 and _excusable(c, best)]
    chosen = min(near, key=lambda c: c.total)
    if chosen is best:
        why = f"it predicts rows left out best, {best.error:.3f} percent"
        if len(by_error) > 1:
            why += f", before {by_error[1]} with {by_error[1].error:.3f}"
        if len(near) > 1:
            why += f", and of the candidates within one standard error {criterion}"
    else:
        why = (
            f"its {chosen.error:.3f} percent on rows left out is within one standard error of the "
            f"lowest, {best.error:.3f} of {best}, and {criterion} of those that are"
        )
    return [chosen, *(c for c in by_error if c is not chosen)], f"chosen: {chosen}; {why}."
