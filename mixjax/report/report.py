"""Outcome -> REPORT: report.md, figures, and the JSON files beside them, in one folder."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mixjax.drawing import charts
from mixjax.drawing.style import save
from mixjax.fitting import doubts
from mixjax.fitting.doubts import Doubt
from mixjax.fitting.summary import scores_to_dict
from mixjax.text import to_json, write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mixjax.data.runs import Runs
    from mixjax.fitting.record import Fit
    from mixjax.report.pipeline import Outcome


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
    outcome.fit.save(target / "fit.json")
    contents = {"scores.json": outcome.scores_to_dict()}
    contents |= {"mixture.json": _mixtures(outcome)} if outcome.mixtures else {}
    contents |= {"compare.json": outcome.comparison.to_dict()} if outcome.comparison else {}
    for name, content in contents.items():
        write_whole(target / name, to_json(content))
    figures = {"predicted.png": predicted_figure(outcome)} | (
        {"mixture.png": mixture_figure(outcome)} if outcome.mixtures else {}
    )
    for name, figure in figures.items():
        save(figure, target / name)
    write_whole(target / "report.md", report_text(outcome, title, note, tuple(figures)))
    return ["fit.json", *contents, *figures, "report.md"]


def _mixtures(outcome: Outcome) -> dict[str, Any]:
    """One mixture as `mix --json` prints it; several as a list."""
    found = [m.to_dict() for m in outcome.mixtures]
    return found[0] if len(found) == 1 else {"mixtures": found}


# --- Text ----------------------------------------------------------------------------------------


def report_text(outcome: Outcome, title: str, note: str = "", figures: Sequence[str] = ()) -> str:
    """The report in Markdown; no absolute path in it."""
    parts = [
        f"# {title}",
        note,
        *_data(outcome),
        "## Fit",
        _fit_rows(outcome.fit),
        _listed([*doubts.of_search(outcome.fit), *doubts.of_fit(outcome.fit)]) or "No warnings.",
        "## Errors",
        *_errors(outcome),
    ]
    if "predicted.png" in figures:
        parts.append("![Predicted and measured losses](predicted.png)")
    if outcome.mixtures:
        parts += ["## Mixture", *_mixture_parts(outcome)]
    if "mixture.png" in figures:
        parts.append("![Domain weights](mixture.png)")
    if outcome.comparison is not None:
        parts += ["## Laws compared", f"```\n{outcome.comparison}\n```"]
    parts += ["## How it was made", _made(outcome.fit)]
    return "\n\n".join(part for part in parts if part) + "\n"


def markdown(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table in Markdown; None is shown as -."""
    lines = [
        [str(cell).replace("|", "\\|") if cell is not None else "-" for cell in row]
        for row in [head, *rows]
    ]
    lines.insert(1, ["---", *["---:"] * (len(head) - 1)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def short(count: float) -> str:
    """7e9, not 7e+09."""
    return re.sub(r"e\+0*", "e", f"{count:.4g}")


def _data(outcome: Outcome) -> list[str]:
    law = outcome.fit.scaling_law
    held_out = (
        ""
        if outcome.eval_runs is None
        else (
            f"; {len(outcome.eval_runs)} rows of {Path(outcome.eval_runs.name).name} that the "
            f"fit has not seen"
        )
    )
    ranges = ", ".join(
        f"{name} from {short(low)} to {short(high)}"
        for name, (low, high) in outcome.fit.ranges.items()
    )
    lines = [
        (
            f"Fitted: {len(outcome.runs)} rows of "
            f"{Path(outcome.runs.name).name}{f' ({ranges})' if ranges else ''}{held_out}."
        ),
        f"Law `{law.name}`"
        + (f": `{law.equation}`" if law.equation else "")
        + (f" ({law.source})" if law.source else "")
        + ".",
    ]
    domains = outcome.fit.domains
    return [*lines, f"Domains: {', '.join(domains)}." if domains else ""]


def _fit_rows(fitted: Fit) -> str:
    rows = [
        [t, s.rows, f"{fitted.objective[t]:.5g}", s.status, f"{s.agreeing} of {s.starts}"]
        for t, s in fitted.search.items()
    ]
    return markdown(["target", "rows", "objective", "search", "starts agreeing"], rows)


def _listed(warnings: Iterable[Doubt]) -> str:
    """A list of sentences; empty where there is nothing to doubt."""
    lines = dict.fromkeys(f"- {doubt.where}: {doubt.what}; {doubt.remedy}" for doubt in warnings)
    return "\n".join(["Warnings:", "", *lines]) if lines else ""


def _errors(outcome: Outcome) -> list[str]:
    """Errors where the law was fitted and where it was not, in one table."""
    train = scores_to_dict(outcome.train)
    held_out = None if outcome.eval is None else scores_to_dict(outcome.eval)

    def cells(scores: dict[str, Any] | None, target: str) -> list[str | None]:
        numbers = (
            {}
            if scores is None
            else scores["mean"]
            if target == "mean"
            else scores["targets"].get(target, {})
        )
        return [
            None if numbers.get(name) is None else f"{numbers[name]:.4g}"
            for name in ("mre", "r2", "rank")
        ]

    names = [*dict.fromkeys([*train["targets"], *(held_out or {"targets": ()})["targets"]]), "mean"]
    parts = ["train"] if held_out is None else ["train", "eval"]
    head = ["target", *(f"{part} {what}" for part in parts for what in ("MRE %", "R2", "rank"))]
    rows = [[t, *cells(train, t), *([] if held_out is None else cells(held_out, t))] for t in names]
    return [
        (
            "MRE is the mean relative error; R2 and rank correlation compare predicted with "
            "measured losses over the rows."
        ),
        markdown(head, rows),
    ]


def _mixture_parts(outcome: Outcome) -> list[str]:
    """Weights of all mixtures in one table, losses in another."""
    contents = [m.to_dict() for m in outcome.mixtures]
    heads = _heads(outcome)
    weights = [
        [
            d,
            *(
                " ".join([f"{c['weights'][d]:.4f}", c["bound"].get(d, "")]).rstrip()
                for c in contents
            ),
        ]
        for d in contents[0]["weights"]
    ]
    losses = [
        [t, *(None if c["losses"][t] is None else f"{c['losses'][t]:.4f}" for c in contents)]
        for t in contents[0]["losses"]
    ]
    gaps = [
        ["objective", *(f"{c['objective']:.6f}" for c in contents)],
        ["optimality gap", *(f"{c['gap']:.1e}" for c in contents)],
    ]
    tables = markdown(["domain", *heads], weights), markdown(["target", *heads], losses + gaps)
    return [
        "Domain weights that minimise the weighted sum of the predicted losses:",
        tables[0],
        "Predicted losses:",
        tables[1],
        _listed(_mixture_doubts(outcome)),
    ]


def _mixture_doubts(outcome: Outcome) -> list[Doubt]:
    """What to know before trusting the mixtures, told of each by its name."""
    return [
        doubt._replace(where=head)
        for head, mixture in zip(_heads(outcome), outcome.mixtures, strict=True)
        for doubt in (
            *doubts.of_scale(outcome.fit, mixture.N, mixture.D),
            *doubts.of_shares(outcome.fit, mixture.weights),
            *doubts.of_minimum(
                mixture.gap, mixture.objective, mixture.convex, mixture.agreeing, mixture.starts
            ),
        )
    ]


def _heads(outcome: Outcome) -> list[str]:
    """What the mixtures are called: their scale, numbered where that is not enough."""
    scales = [
        ", ".join(f"{name} = {short(x)}" for name, x in (("N", m.N), ("D", m.D)) if x is not None)
        or "best"
        for m in outcome.mixtures
    ]
    return [
        f"({i}) {scale}" if len(set(scales)) < len(scales) else scale
        for i, scale in enumerate(scales, 1)
    ]


def _made(fitted: Fit) -> str:
    made = {name: value for name, value in fitted.made.items() if name != "table"}
    lines = [f"- {name}: {value}" for name, value in (asdict(fitted.huber) | made).items()]
    return "\n".join(lines)


# --- Figures -------------------------------------------------------------------------------------


def predicted_figure(outcome: Outcome) -> Figure:
    """Predicted against measured losses, fitted rows and those the fit has not seen."""
    parts = {"train": outcome.runs} | (
        {} if outcome.eval_runs is None else {"eval": outcome.eval_runs}
    )
    return charts.predicted_measured(
        {
            target: {
                part: _pairs(outcome.fit, runs, target)
                for part, runs in parts.items()
                if target in runs.targets
            }
            for target in outcome.fit.targets
        }
    )


def _pairs(fitted: Fit, runs: Runs, target: str) -> tuple[np.ndarray, np.ndarray]:
    """Measured and predicted losses of the rows that have both."""
    table = runs.reordered(fitted.domains)
    measured, predicted = table.loss(target), fitted.predict(table.N, table.D, table.h)[target]
    known = np.isfinite(measured) & np.isfinite(predicted)
    return measured[known], predicted[known]


def mixture_figure(outcome: Outcome) -> Figure:
    """Weights of the mixtures found, beside the mean of the mixtures that were fitted."""
    domains = tuple(outcome.mixtures[0].weights)
    mean = "mean of the runs"
    groups = {mean: 100 * outcome.runs.reordered(domains).h.mean(axis=0)}
    for head, mixture in zip(_heads(outcome), outcome.mixtures, strict=True):
        groups[head] = 100 * np.array([mixture.weights[d] for d in domains])
    return charts.bars(domains, groups, "share (percent)", "training domain", grey=[mean])
