"""A team's own mixtures beside the optimum (question, mixtures -> JUDGEMENT): losses at the scale
to come, and what they are worth in tokens."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mixjax.drawing import charts
from mixjax.errors import UserError
from mixjax.mixture.optimum import best_of
from mixjax.mixture.question import Floats, Question
from mixjax.text import Record, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Farthest factor that is searched for; roots are found to this relative error.
_FARTHEST, _EXACT = 1e15, 1e-12
_GRID = 241


@dataclass(frozen=True)
class Judged:
    """One mixture at the scale of the question.

    Attributes:
        weights: {domain: share}.
        losses: {target: predicted loss}.
        objective: weighted sum of losses; excess: above the optimum's, relative to it.
        tokens, size: how many times the tokens, or the parameters, at which this mixture would
            reach the OPTIMUM's objective; 1 for the optimum, infinite where even endless tokens
            (parameters) would not do; None where the law reads none.
        target_tokens: {target: the same for the optimum's loss on one target}; below 1 where this
            mixture is better there.
        broken: the limit of the question that this mixture breaks, in words.
    """

    weights: dict[str, float]
    losses: dict[str, float]
    objective: float
    excess: float
    tokens: float | None
    size: float | None
    target_tokens: dict[str, float | None]
    broken: str = ""


@dataclass(frozen=True)
class Judgement(Record):
    """Mixtures by name, the optimum first."""

    mixtures: dict[str, Judged]
    N: float | None
    D: float | None

    def __str__(self) -> str:
        """Losses, then shares; a mixture a column."""
        names = list(self.mixtures)
        judged = list(self.mixtures.values())
        rows = [
            ["objective", *(f"{j.objective:.5f}" for j in judged)],
            ["excess %", *(f"{100 * j.excess:.3f}" for j in judged)],
        ]
        rows += [
            ["tokens needed", *(factor(j.tokens) for j in judged)],
            ["parameters needed", *(factor(j.size) for j in judged)],
        ]
        losses = [[t, *(f"{j.losses[t]:.5f}" for j in judged)] for t in judged[0].losses]
        tokens = [
            [t, *(factor(j.target_tokens[t]) for j in judged)] for t in judged[0].target_tokens
        ]
        shares = [[d, *(f"{100 * j.weights[d]:.2f}" for j in judged)] for d in judged[0].weights]
        broken = [
            f"{name} breaks a limit: {j.broken}" for name, j in self.mixtures.items() if j.broken
        ]
        note = (
            "tokens (parameters) needed: times those of the run, for the loss that the optimum has"
        )
        parts = [table(["", *names], rows), table(["loss", *names], losses)]
        parts += (
            [table(["tokens needed", *names], tokens)]
            if any(j.tokens is not None for j in judged)
            else []
        )
        return "\n\n".join([*parts, table(["share %", *names], shares), *broken, note])

    def figure(self) -> Figure:
        """Predicted loss of each mixture on each target, relative to the optimum's."""
        best = self.mixtures["optimum"].losses
        groups = {
            name: [100 * (mixture.losses[t] / best[t] - 1) for t in best]
            for name, mixture in self.mixtures.items()
            if name != "optimum"
        }
        x = "loss above (right) or below the optimum's (percent)"
        return charts.bars(list(best), groups, x, "target")


def factor(times: float | None) -> str:
    """A token equivalent in words."""
    if times is None:
        return "-"
    return "cannot be reached" if math.isinf(times) else f"{times:.3g}x"


def compare_mixtures(
    question: Question, mixtures: Mapping[str, Mapping[str, float]], uniform: bool = True
) -> Judgement:
    """Predicted losses of these mixtures beside the optimum, with token equivalents.

    Args:
        mixtures: {name: {domain: share}}; shares are scaled to sum to 1, domains that are not named
            have none.
        uniform: judge equal shares too, under the name "uniform" unless that is taken.

    Raises:
        UserError: an unknown domain, shares that are not those of a mixture, or what
            `optimal_mixture` refuses.
    """
    best = best_of(question)
    given = {"optimum": best.weights, **mixtures}
    if uniform and "uniform" not in given:
        given["uniform"] = dict.fromkeys(question.domains, 1.0)
    return Judgement(
        {
            name: judge(question, question.array(weights), question.array(best.weights))
            for name, weights in given.items()
        },
        question.N,
        question.D,
    )


def judge(question: Question, h: Floats, best: Floats) -> Judged:
    """One mixture h (k,) beside the best one (k,)."""
    losses, wanted = question.losses(h), question.losses(best)
    objective, optimum = float(question.value(h)), float(question.value(best))
    return Judged(
        weights=question.named(h),
        losses={t: float(loss) for t, loss in losses.items()},
        objective=objective,
        excess=(objective - optimum) / abs(optimum),
        tokens=equivalent(question, h, optimum, "D"),
        size=equivalent(question, h, optimum, "N"),
        target_tokens={
            t: equivalent(question.but(weights={t: 1.0}), h, float(wanted[t]), "D")
            for t in question.fit.targets
        },
        broken=broken_limit(question, h),
    )


def broken_limit(question: Question, h: Floats) -> str:
    """The first limit of the question, supply included, that a mixture h (k,) breaks; in words."""
    try:
        question.check_within(h, "mixture")
    except UserError as error:
        return error.what
    return ""


def equivalent(
    question: Question, h: Floats, wanted: float, what: Literal["N", "D"]
) -> float | None:
    """How many times the tokens D (or parameters N) at which the mixture h (k,) reaches an
    objective; inf where none does.

    The objective falls in D by every law of the paper. It is bracketed on a grid of factors from
    1e-15 to 1e15, by whose end the term in D is gone, and found by bisection: the smallest factor
    above the last point of the grid that lies too high. None where the law does not read `what`.
    """
    start = getattr(question, what)
    if start is None or not getattr(question.law.reads, what):
        return None

    def above(log_factor: Floats) -> Floats:
        scale = {what: start * np.exp(log_factor)}
        return question.value(np.broadcast_to(h, (len(log_factor), len(h))), **scale) - wanted

    return first_below(above, math.log(_FARTHEST))


def first_below(above: Callable[[Floats], Floats], farthest: float) -> float:
    """exp(x) at which a function of x (rows,) that falls reaches 0; infinite where it does not up
    to x = farthest."""
    from scipy.optimize import root_scalar

    # Two mixtures of one loss: rounding must not turn 1 into something else.
    if abs(float(above(np.zeros(1))[0])) < 1e-14:
        return 1.0
    grid = np.linspace(-farthest, farthest, _GRID)
    high = np.flatnonzero(above(grid) > 0)
    if len(high) and high[-1] == _GRID - 1:
        return math.inf
    if not len(high):
        return 0.0
    low, top = grid[high[-1]], grid[high[-1] + 1]
    search: Any = root_scalar(
        lambda x: float(above(np.array([x]))[0]), bracket=(low, top), method="brentq", xtol=_EXACT
    )
    return math.exp(search.root)
