"""Fits and scores in a few lines (Fit, scores -> SUMMARY -> report, command line)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mixjax.fitting.record import Status
from mixjax.text import table

if TYPE_CHECKING:
    from mixjax.fitting.record import Fit
    from mixjax.fitting.score import Score

NUMBERS = ("mre", "mae", "r2", "rank", "huber")
_FORMATS = {"mre": "{:.3f}", "mae": "{:.5f}", "r2": "{:.4f}", "rank": "{:.3f}", "huber": "{:.4g}"}


def scores_to_dict(scores: Mapping[str, Score]) -> dict[str, Any]:
    """{"targets": {name: numbers}, "mean": numbers}: means over targets, a missing number left
    out."""
    targets = {
        t: {"n": s.n} | {name: getattr(s, name) for name in NUMBERS} for t, s in scores.items()
    }
    return {
        "targets": targets,
        "mean": {name: _mean([s[name] for s in targets.values()]) for name in NUMBERS},
    }


def _mean(values: Sequence[float | None]) -> float | None:
    given = [v for v in values if v is not None]
    return math.fsum(given) / len(given) if given else None


def scores_table(scores: Mapping[str, Score]) -> str:
    """One line per target and one of means; mre in percent."""
    content = scores_to_dict(scores)

    def cells(numbers: Mapping[str, float | None]) -> list[str | None]:
        return [
            None if numbers[name] is None else _FORMATS[name].format(numbers[name])
            for name in NUMBERS
        ]

    rows = [[t, numbers["n"], *cells(numbers)] for t, numbers in content["targets"].items()]
    return table(
        ["target", "n", "mre %", *NUMBERS[1:]], [*rows, ["mean", "", *cells(content["mean"])]]
    )


def fit_table(fit: Fit, scores: Mapping[str, Score]) -> str:
    """How the fit of every target went; scores: of the fitted rows."""
    rows = []
    for target in fit.targets:
        search = fit.search[target]
        doubts = [search.status] if search.status is not Status.CONVERGED else []
        doubts += [f"at limit: {', '.join(search.at_limit)}"] if search.at_limit else []
        mre = f"{scores[target].mre:.3f}" if target in scores else None
        rows.append(
            [
                target,
                search.rows,
                f"{fit.objective[target]:.5g}",
                mre,
                f"{search.agreeing}/{search.starts}",
                "; ".join(doubts) or "converged",
            ]
        )
    seconds = fit.made.get("seconds")
    head = f"law {fit.law}, {len(fit.domains)} domains, {len(fit.targets)} targets" + (
        f", {seconds:.1f} s" if isinstance(seconds, int | float) else ""
    )
    return (
        head
        + "\n"
        + table(["target", "rows", "objective", "mre %", "starts agreeing", "search"], rows)
    )


def fit_to_dict(fit: Fit, scores: Mapping[str, Score]) -> dict[str, Any]:
    """What `fit --json` prints."""
    content = fit.to_dict()
    return {
        "law": fit.law,
        "domains": content["domains"],
        "objective": dict(fit.objective),
        "mre": {t: s.mre for t, s in scores.items()},
        "params": {t: content["fits"][t]["params"] for t in fit.targets},
        "search": {t: content["fits"][t]["search"] for t in fit.targets},
        "seconds": fit.made.get("seconds"),
    }


def recovery_table(found: Mapping[str, Any]) -> str:
    """The truth beside what was found, as `recovery` tells it."""
    rows = [[d, f"{w['true']:.4f}", f"{w['found']:.4f}"] for d, w in found["weights"].items()]
    shown = ("E", "alpha", "beta")
    params = [
        [t, *(f"{p[name][which]:.4f}" for name in shown for which in ("true", "found"))]
        for t, p in found["params"].items()
    ]
    cost = found["objective"]
    return "\n".join(
        [
            "The best mixture, by the true law and as found:",
            table(["domain", "true", "found"], rows),
            (
                f"True objective (sum of losses) of the mixture found: {cost['found']:.6f}, of "
                f"the true best: {cost['true']:.6f}, regret {found['regret']:.1e}."
            ),
            "",
            "Some parameters, true and found:",
            table(
                ["target", *(f"{name} {which}" for name in shown for which in ("true", "found"))],
                params,
            ),
        ]
    )
