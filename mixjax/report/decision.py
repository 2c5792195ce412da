"""The whole way of a decision (runs, scale -> law, mixture, intervals -> DECISION) in one call: law
by the rule of `extrapolate`, mixture within limits and trained shares, beside the one in use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from mixjax.data.runs import Runs, as_runs
from mixjax.data.splits import EXTREME
from mixjax.fitting import doubts
from mixjax.fitting.fit import Watch
from mixjax.fitting.loss import FitOptions, read_options
from mixjax.fitting.record import Fit
from mixjax.law import find_law
from mixjax.mixture.judge import Judgement, compare_mixtures, factor
from mixjax.mixture.optimum import Optimum, optimal_mixture
from mixjax.mixture.question import Question
from mixjax.report.pipeline import check_questions
from mixjax.text import Record, plain, table
from mixjax.trust.candidates import Extrapolation
from mixjax.trust.choose import extrapolate, laws_for
from mixjax.trust.intervals import LEVEL, MixtureInterval, best_mixture, uncertainty

if TYPE_CHECKING:
    import pandas as pd

BASE = "base"
_RESAMPLES = 100
_TOLD = 1e-3  # percent: smaller bounds are numbers of the law, not of the runs


@dataclass(frozen=True, eq=False)
class Decision(Record):
    """What to train on, and how far to believe it.

    Attributes:
        mixture: the best mixture within limits.
        interval: of its shares and its objective, and a bound on its regret.
        beside: the mixture in use and equal shares beside it.
        gains: {name of a mixture: {target: (loss of `mixture` minus its loss, low, high)}}.
        choice: the laws that were tried, and the fit that was made of them.
    """

    mixture: Optimum
    interval: MixtureInterval
    beside: Judgement
    gains: dict[str, dict[str, tuple[float, float, float]]]
    choice: Extrapolation

    @property
    def fit(self) -> Fit:
        """What all of it is predicted by."""
        return self.choice.fit

    def __str__(self) -> str:
        """In plain words: the mixture, what it gains, how far to trust it."""
        best, level = self.mixture, f"{self.interval.level:.0%}"
        scale = (("N", best.N), ("D", best.D))
        at = ", ".join(f"{name} = {value:.4g}" for name, value in scale if value is not None)
        low, high = self.interval.objective
        regret = self.interval.regret / abs(best.objective)
        parts = [
            f"train on this mixture{f' at {at}' if at else ''}:",
            self._shares(),
            f"objective {best.objective:.5f}, {level} interval {low:.5f} .. {high:.5f}; with "
            f"{level} confidence no mixture within the limits is better by more than "
            f"{max(100 * regret, _TOLD):.2g} percent"
            + ("" if best.convex else f"; the mixture is {best.trust}"),
            *(self._against(name) for name in self.gains),
            self._law(),
        ]
        return "\n\n".join(parts)

    def _shares(self) -> str:
        """Shares with their intervals and limits, beside those of the other mixtures."""
        others = list(self.gains)
        rows = []
        for d, share in self.mixture.weights.items():
            cells = (share, *self.interval.shares[d])
            own = [f"{100 * self.beside.mixtures[name].weights[d]:.2f}" for name in others]
            rows.append(
                [d, *(f"{100 * x:.2f}" for x in cells), self.mixture.bound.get(d, ""), *own]
            )
        return table(["domain", "share %", "low", "high", "", *(f"{o} %" for o in others)], rows)

    def _against(self, name: str) -> str:
        """What is gained over another mixture, target by target."""
        other, losses = self.beside.mixtures[name], self.mixture.losses
        rows = [
            [t, f"{losses[t]:.5f}", f"{other.losses[t]:.5f}", *(f"{x:+.5f}" for x in change)]
            for t, change in self.gains[name].items()
        ]
        head = ["target", "loss", f"with {name}", "change", "low", "high"]
        needs = {"tokens": other.tokens, "parameters": other.size}
        named = [f"{factor(x)} the {what}" for what, x in needs.items() if x is not None]
        side = "above" if other.excess >= 0 else "below"
        said = f"{name} mixture: objective {other.objective:.5f}, {100 * abs(other.excess):.3f} "
        said += f"percent {side} that of the mixture to train on"
        if other.tokens is not None or other.size is not None:
            said += f"; for the same objective it would need {' or '.join(named)}"
        breaks = f"\njudged anyway: {other.broken}" if other.broken else ""
        return f"{said}{breaks}\n{table(head, rows)}"

    def _law(self) -> str:
        """Which law, and what it was tested on."""
        first = self.choice.candidates[0]
        tests = [name for name in first.errors if name != EXTREME]
        if not tests:
            why = "untested at larger scales: the table has too few sizes or D to leave any out"
        else:
            errors = [float(np.mean(list(first.errors[name].values()))) for name in tests]
            span = dict.fromkeys(f"{error:.2f}" for error in (min(errors), max(errors)))
            why = (
                f"its first law predicted what was left out ({', '.join(tests)}) to "
                f"{' to '.join(span)} percent"
            )
        return f"predicted by {self.choice.law}; {why}"

    def to_dict(self) -> dict[str, Any]:
        """Plain content for JSON: that of the mixture, and beside it intervals, gains and laws."""
        gains = {
            name: {t: dict(zip(("change", "low", "high"), x, strict=True)) for t, x in own.items()}
            for name, own in self.gains.items()
        }
        rest = {"interval": self.interval.to_dict(), "beside": self.beside.to_dict()}
        return plain({**self.mixture.to_dict(), **rest, "gains": gains, "law": self.choice.law})


def decide(
    runs: Runs | pd.DataFrame | str,
    asked: Mapping[str, Any],
    base: Mapping[str, float] | None = None,
    *,
    targets: Sequence[str] | None = None,
    resamples: int = _RESAMPLES,
    level: float = LEVEL,
    watch: Watch | None = None,
    **options: Unpack[FitOptions],
) -> Decision:
    """Choose a law, fit it, find the best mixture with intervals, and set it beside one in use.

    Args:
        runs: `Runs`, or what `read_runs` reads: the rows to fit.
        asked: keyword arguments of `Question`: N, D, weights, limits; `trained` is True unless
            given: no share beyond those of the fitted rows.
        base: {domain: share} of the mixture in use; equal shares stand beside it in any case.
        targets: names; all by default.
        resamples, level: of the intervals, see `uncertainty`.
        watch: called with the share done and nothing else.
        options: of the fits, see `fit`.

    Raises:
        UserError: what the steps refuse; what can be known before the fits is refused before them.
        KeyboardInterrupt: half a decision is none.

    Warns:
        MixjaxWarning: what the steps warn of: scales that could not be tested, N and D that move
            together, shares and scales beyond the fitted rows.
    """
    whole, asked = as_runs(runs), {"trained": True, **asked}
    doubts.tell(doubts.of_units(whole))
    huber, settings = read_options(options)
    stand_in = check_questions(whole, find_law(laws_for(whole)[-1]), [asked], targets, huber)
    if base is not None:
        Question(stand_in, **asked).array(base)

    def part(begun: float, ended: float) -> Watch:
        def report(done: float, _: Any) -> None:
            if watch:
                watch(begun + (ended - begun) * done, {})

        return report

    choice = extrapolate(whole, targets=targets, watch=part(0.0, 0.6), **options)
    question = Question(choice.fit, **asked)
    doubts.tell(doubts.of_losses(choice.fit, whole))
    doubts.tell(doubts.of_one_scale(whole, question.law.reads, question.N, question.D))
    best = optimal_mixture(question)
    how = {"resamples": resamples, "seed": settings.seed, "watch": part(0.6, 1.0)}
    trust = uncertainty(choice.fit, whole, question.N, question.D, **how)
    interval = best_mixture(trust, question, level)
    beside = compare_mixtures(question, {} if base is None else {BASE: base})
    h = question.array(best.weights)
    gains = {}
    for name, other in beside.mixtures.items():
        if name != "optimum":
            there = question.array(other.weights)
            apart = trust.difference(h, there, question.N, question.D, level)
            gains[name] = {
                t: (float(x.predicted[0]), float(x.low[0]), float(x.high[0]))
                for t, x in apart.items()
            }
    return Decision(best, interval, beside, gains, choice)
