"""The whole way of a table (runs -> fit -> scores, optima -> OUTCOME -> REPORT) in one call, and
its folder of report.md, figures and JSON files."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from mixjax.data.runs import Runs
from mixjax.drawing import charts
from mixjax.drawing.style import save
from mixjax.errors import UserError
from mixjax.fitting import doubts
from mixjax.fitting.doubts import Doubt
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
from mixjax.text import to_json, write_whole
from mixjax.trust.choose import LawComparison, compare

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SCORES = {"mre": "MRE %", "r2": "R2", "rank": "rank"}


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
        content = {
            "law": self.fit.law,
            "scores": {part: scores_to_dict(scores) for part, scores in self.scores.items()},
            "mixtures": [optimum.to_dict() for optimum in self.optima],
        }
        return content | ({"compare": self.comparison.to_dict()} if self.comparison else {})


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
    named = check_questions(runs, find_law(law), questions, targets, huber).targets
    if eval_runs is not None and not set(named) & set(eval_runs.reordered(runs.domains).targets):
        what = f"none of the targets {', '.join(named)} has a loss column"
        raise UserError(eval_runs.name, what, "give rows with these targets")
    fitted = fit(runs, law, targets=targets, watch=watch, **options)
    scores = {part: fitted.score(table) for part, table in tables.items()}
    if fitted.interrupted:
        return Outcome(fitted, tables, scores, interrupted=True)
    try:
        optima = tuple(optimal_mixture(Question(fitted, **asked)) for asked in questions)
        comparison = None
        if laws:
            comparison = compare(runs, laws, eval_runs, targets=targets, watch=watch, **options)
    except KeyboardInterrupt:
        return Outcome(fitted, tables, scores, interrupted=True)
    return Outcome(fitted, tables, scores, optima, comparison)


def check_questions(
    runs: Runs,
    law: Law,
    questions: Sequence[Mapping[str, Any]],
    targets: Sequence[str] | None,
    huber: Huber,
) -> Fit:
    """Refuse what would only come to light after a fit of these runs: a stand-in of the fit, of
    which the questions can be asked."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the fit itself warns
        problem = make_problem(runs, law, targets, huber)
    shape = (law.k(runs.domains),)
    params = {p.name: np.ones(shape * len(p.shape)) for p in law.parameters}
    stand_in = known_fit(law, runs.domains, dict.fromkeys(problem.targets, params))
    stand_in = replace(stand_in, share_ranges=problem.share_ranges())
    for asked in questions:
        _ = Question(stand_in, **asked).scale
    return stand_in


def recovery(truth: Fit, outcome: Outcome) -> dict[str, Any]:
    """What was found beside the truth, for simulated runs: scalar parameters, the first mixture,
    and its regret.

    The regret is what the mixture found costs by the TRUE law: its true sum of losses minus that of
    the true best mixture.
    """
    optimum, params = outcome.optima[0], outcome.fit.params
    best = optimal_mixture(truth, N=optimum.N, D=optimum.D)
    losses = truth.predict(optimum.N, optimum.D, optimum.weights)
    cost = sum(float(loss) for loss in losses.values())
    scalars = [p.name for p in truth.scaling_law.parameters if not p.shape]

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


# --- Report --------------------------------------------------------------------------------------


def write_report(
    outcome: Outcome, folder: str | os.PathLike[str], title: str, note: str = ""
) -> list[str]:
    """Write fit.json, scores.json, mixture.json, report.md and figures into a folder, each whole or
    not at all.

    Args:
        folder: made if it is not there.
        title: of the report.
        note: a paragraph under the title.

    Returns:
        Names of the files.

    Raises:
        UserError: the folder cannot be written.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    content = outcome.to_dict()
    mixtures = content["mixtures"]
    files = {"scores.json": content["scores"]}
    figures = {"predicted.png": outcome.fit.figure(**outcome.tables)}
    if mixtures:  # one as `mix --json` prints it
        files["mixture.json"] = mixtures[0] if len(mixtures) == 1 else {"mixtures": mixtures}
        figures["mixture.png"] = _mixture_figure(outcome)
    if outcome.comparison is not None:
        files["compare.json"] = content["compare"]
    outcome.fit.save(target / "fit.json")
    for name, part in files.items():
        write_whole(target / name, to_json(part))
    for name, figure in figures.items():
        save(figure, target / name)
    write_whole(target / "report.md", report_text(outcome, title, note, tuple(figures)))
    return ["fit.json", *files, *figures, "report.md"]


def _mixture_figure(outcome: Outcome) -> Figure:
    """Shares of the best mixtures, beside the mean of the mixtures that were fitted."""
    domains, mean = outcome.fit.domains, "mean of the runs"
    groups = {mean: 100 * outcome.tables["train"].reordered(domains).h.mean(axis=0)}
    for head, optimum in zip(_heads(outcome), outcome.optima, strict=True):
        groups[head] = 100 * np.array([optimum.weights[d] for d in domains])
    return charts.bars(domains, groups, "share (percent)", "training domain", grey=[mean])


def report_text(outcome: Outcome, title: str, note: str = "", figures: Sequence[str] = ()) -> str:
    """The report in Markdown; no absolute path in it."""
    fit = outcome.fit
    parts = [f"# {title}", note, *_data(outcome), "## Fit", _fit_rows(fit)]
    parts += [_listed([*doubts.of_search(fit), *doubts.of_fit(fit)]) or "No warnings."]
    parts += ["## Errors", *_errors(outcome)]
    if "predicted.png" in figures:
        parts.append("![Predicted and measured losses](predicted.png)")
    if outcome.optima:
        parts += ["## Mixture", *_mixtures(outcome)]
    if "mixture.png" in figures:
        parts.append("![Domain weights](mixture.png)")
    if outcome.comparison is not None:
        parts += ["## Laws compared", f"```\n{outcome.comparison}\n```"]
    made = asdict(fit.huber) | {name: x for name, x in fit.made.items() if name != "table"}
    parts += ["## How it was made", "\n".join(f"- {name}: {value}" for name, value in made.items())]
    return "\n\n".join(part for part in parts if part) + "\n"


def _data(outcome: Outcome) -> list[str]:
    """Which rows, which law, which domains."""
    fit, law = outcome.fit, outcome.fit.scaling_law
    ranges = ", ".join(
        f"{name} from {_short(low)} to {_short(high)}" for name, (low, high) in fit.ranges.items()
    )
    rows = {part: f"{len(t)} rows of {Path(t.name).name}" for part, t in outcome.tables.items()}
    fitted = f"Fitted: {rows['train']}" + (f" ({ranges})" if ranges else "")
    unseen = f"; {rows['eval']} that the fit has not seen" if "eval" in rows else ""
    equation = f": `{law.equation}`" if law.equation else ""
    source = f" ({law.source})" if law.source else ""
    domains = f"Domains: {', '.join(fit.domains)}." if fit.domains else ""
    return [f"{fitted}{unseen}.", f"Law `{law.name}`{equation}{source}.", domains]


def _fit_rows(fit: Fit) -> str:
    rows = [
        [t, s.rows, f"{fit.objective[t]:.5g}", s.status, f"{s.agreeing} of {s.starts}"]
        for t, s in fit.search.items()
    ]
    return _markdown(["target", "rows", "objective", "search", "starts agreeing"], rows)


def _errors(outcome: Outcome) -> list[str]:
    """Errors where the law was fitted and where it was not, in one table."""
    scores = outcome.to_dict()["scores"]
    targets = dict.fromkeys(t for part in scores.values() for t in part["targets"])

    def cells(numbers: dict[str, float | None]) -> list[str | None]:
        return [None if (x := numbers.get(name)) is None else f"{x:.4g}" for name in _SCORES]

    rows = [
        [t, *(c for s in scores.values() for c in cells(s["targets"].get(t, {})))] for t in targets
    ]
    rows.append(["mean", *(c for s in scores.values() for c in cells(s["mean"]))])
    head = ["target", *(f"{part} {score}" for part in scores for score in _SCORES.values())]
    return [
        "MRE is the mean relative error; R2 and rank correlation compare predicted with measured "
        "losses over the rows.",
        _markdown(head, rows),
    ]


def _mixtures(outcome: Outcome) -> list[str]:
    """Shares of all best mixtures in one table, losses in another, and what to doubt."""
    optima, heads = outcome.optima, _heads(outcome)
    shares = [
        [d, *(f"{o.weights[d]:.4f} {o.bound.get(d, '')}".rstrip() for o in optima)]
        for d in outcome.fit.domains
    ]
    losses = [
        [t, *(f"{loss:.4f}" if np.isfinite(loss := o.losses[t]) else None for o in optima)]
        for t in outcome.fit.targets
    ]
    losses.append(["objective", *(f"{o.objective:.6f}" for o in optima)])
    losses.append(["optimality gap", *(f"{o.gap:.1e}" for o in optima)])
    warnings = [
        doubt._replace(where=head)
        for head, o in zip(heads, optima, strict=True)
        for doubt in (
            *doubts.of_scale(outcome.fit, o.N, o.D),
            *doubts.of_shares(outcome.fit, o.weights),
            *doubts.of_minima(outcome.fit, o.N, o.D, o.weights, o.target_weights),
            *doubts.of_minimum(o.gap, o.objective, o.convex, o.agreeing, o.starts),
        )
    ]
    return [
        "Domain weights that minimise the weighted sum of the predicted losses:",
        _markdown(["domain", *heads], shares),
        "Predicted losses:",
        _markdown(["target", *heads], losses),
        _listed(warnings),
    ]


def _heads(outcome: Outcome) -> list[str]:
    """What the best mixtures are called: their scale, numbered where that is not enough."""
    scales = [
        ", ".join(f"{name} = {_short(x)}" for name, x in (("N", o.N), ("D", o.D)) if x is not None)
        or "best"
        for o in outcome.optima
    ]
    unlike = len(set(scales)) == len(scales)
    return scales if unlike else [f"({i}) {scale}" for i, scale in enumerate(scales, 1)]


def _listed(warnings: Iterable[Doubt]) -> str:
    """A list of sentences; empty where there is nothing to doubt."""
    lines = [f"- {doubt.where}: {doubt.what}; {doubt.remedy}" for doubt in warnings]
    return "\n".join(["Warnings:", "", *lines]) if lines else ""


def _markdown(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table in Markdown; None is shown as -."""
    lines = [
        ["-" if cell is None else str(cell).replace("|", "\\|") for cell in row]
        for row in [head, *rows]
    ]
    lines.insert(1, ["---", *["---:"] * (len(head) - 1)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _short(count: float) -> str:
    """7e9, not 7e+09."""
    return re.sub(r"e\+0*", "e", f"{count:.4g}")
