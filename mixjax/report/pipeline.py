"""The whole way of a table (runs -> fit -> scores, optima -> OUTCOME -> report) in one call."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np

from mixjax.data.runs import Runs
from mixjax.errors import UserError
from mixjax.fitting.fit import Watch, fit
from mixjax.fitting.loss import FitOptions, Huber, read_options
from mixjax.fitting.problem import make_problem
from mixjax.fitting.record import Fit
from mixjax.fitting.score import Score, scores_to_dict
from mixjax.fitting.simulate import known_fit
from mixjax.law import find_law
from mixjax.law.base import Law
from mixjax.mixture.optimum import Optimum, optimal_mixture
from mixjax.mixture.question import Question
from mixjax.trust.choose import LawComparison, compare


@dataclass(frozen=True)
class Outcome:
    """What came of one table.

    Attributes:
        fit: the fitted law.
        tables: {"train": the rows that were fitted, "eval": rows that the fit has not seen}.
        scores: {part: {target: Score}} of the fit on these rows.
        optima: best mixtures, in the order asked for.
        comparison: of several laws, where asked for.
        interrupted: whether something was stopped before its end; the fit is there all the same.
    """

    fit: Fit
    tables: Mapping[str, Runs]
    scores: Mapping[str, Mapping[str, Score]]
    optima: tuple[Optimum, ...] = ()
    comparison: LawComparison | None = None
    interrupted: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Scores, mixtures and comparison as plain content."""
        return {
            "law": self.fit.law,
            "scores": {part: scores_to_dict(scores) for part, scores in self.scores.items()},
            "mixtures": [optimum.to_dict() for optimum in self.optima],
            **({} if self.comparison is None else {"compare": self.comparison.to_dict()}),
        }


def run_pipeline(
    runs: Runs,
    law: str | Law,
    eval_runs: Runs | None = None,
    questions: Sequence[Mapping[str, Any]] = (),
    laws: Sequence[str | Law] = (),
    *,
    targets: Sequence[str] | None = None,
    watch: Watch | None = None,
    **options: Unpack[FitOptions],
) -> Outcome:
    """Fit a law, score it, find mixtures, compare it with other laws.

    Args:
        runs, eval_runs: rows to fit, and rows to score beside them.
        questions: what each best mixture is sought for: keyword arguments of `Question`.
        laws: laws to compare, if any.
        targets, watch, options: of `fit`.

    Returns:
        The `Outcome`; on KeyboardInterrupt one with the best fit so far, marked `interrupted`.

    Raises:
        UserError: what the steps refuse. What can be known before the fit is refused before it.
    """
    tables = {"train": runs} | ({} if eval_runs is None else {"eval": eval_runs})
    huber, _ = read_options(options)
    _check(tables, find_law(law), questions, targets, huber)
    fitted = fit(runs, law, targets=targets, watch=watch, **options)
    scores = {part: fitted.score(table) for part, table in tables.items()}
    if fitted.interrupted:
        return Outcome(fitted, tables, scores, interrupted=True)
    try:
        optima = tuple(optimal_mixture(Question(fitted, **asked)) for asked in questions)
        comparison = (
            compare(runs, laws, eval_runs, targets=targets, watch=watch, **options)
            if laws
            else None
        )
    except KeyboardInterrupt:
        return Outcome(fitted, tables, scores, interrupted=True)
    return Outcome(fitted, tables, scores, optima, comparison)


def _check(
    tables: Mapping[str, Runs],
    law: Law,
    questions: Sequence[Mapping[str, Any]],
    targets: Sequence[str] | None,
    huber: Huber,
) -> None:
    """What would only come to light after the fit."""
    runs = tables["train"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the fit itself warns
        names = make_problem(runs, law, targets, huber).targets
    if "eval" in tables:
        rows = tables["eval"].reordered(runs.domains)
        if not set(names) & set(rows.targets):
            what = f"none of the targets {', '.join(names)} has a loss column"
            raise UserError(rows.name, what, "give rows with these targets")
    shape = (law.k(runs.domains),)
    params = {p.name: np.ones(shape * len(p.shape)) for p in law.parameters}
    stand_in = known_fit(law, runs.domains, dict.fromkeys(names, params))
    for asked in questions:
        _ = Question(stand_in, **asked).scale


def recovery(truth: Fit, outcome: Outcome) -> dict[str, Any]:
    """What was found beside the truth, for simulated runs: scalar parameters, the first mixture,
    and its regret.

    The regret is what the mixture found costs by the TRUE law: its true sum of losses minus that of
    the true best mixture.
    """
    optimum = outcome.optima[0]
    best = optimal_mixture(truth, N=optimum.N, D=optimum.D)
    losses = truth.predict(optimum.N, optimum.D, optimum.weights)
    cost = sum(float(loss) for loss in losses.values())
    scalars = [p.name for p in truth.scaling_law.parameters if not p.shape]

    params = outcome.fit.params

    def beside(true: Any, found: Any) -> dict[str, float]:
        return {"true": float(true), "found": float(found)}

    return {
        "params": {
            t: {name: beside(truth.params[t][name], params[t][name]) for name in scalars}
            for t in truth.targets
        },
        "weights": {d: beside(best.weights[d], optimum.weights[d]) for d in truth.domains},
        "objective": beside(best.objective, cost),
        "regret": cost - best.objective,
    }
