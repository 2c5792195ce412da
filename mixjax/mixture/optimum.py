"""The best mixture of one question (question -> many -> OPTIMUM): a record, and what to warn of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mixjax.drawing import charts
from mixjax.errors import UserError, warn
from mixjax.fitting.doubts import warn_mixture, warn_scale
from mixjax.fitting.record import Fit
from mixjax.mixture.limits import epochs_of
from mixjax.mixture.many import Optima, finite_optima
from mixjax.mixture.mirror import is_small
from mixjax.mixture.question import Question, kl
from mixjax.mixture.solve import STALLED, Minima, starts_of
from mixjax.text import Record, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# A gap of multipliers or of a smoothed objective is small below this, relatively.
ROUGH = 1e-5
# Mixtures whose objectives differ by less than this, relatively, are not told from each other by a
# descent to 1e-12.
_ALIKE = 1e-9


@dataclass(frozen=True)
class Optimum(Record):
    """The domain weights that make the weighted sum of predicted losses smallest.

    Attributes:
        weights: {domain: share}, sums to 1.
        losses: {target: predicted loss}, all targets of the fit; infinite where the law is.
        objective: sum over targets of target_weights * losses.
        gap: first-order optimality gap in the unit of the objective, 0 at the optimum; of the other
            domains where some are held at 0, see `held`.
        pull: what a pull towards a prior adds to the objective, strength * KL(h | prior); the gap
            is that of the sum.
        N, D: counts, None where they were not given or the law does not read them.
        target_weights: {target: weight in the objective}.
        bound: {domain or group: "cap" or "floor", "most trained" or "least trained"} of those that
            would pass it.
        convex: the objective is known to be convex in the weights, so that it is at most `gap`
            above the minimum. Otherwise the optimum is the best local one of all starts.
        agreeing, starts: how many of the starts ended within 1e-9 of the best objective,
            relatively.
        held: domains held at 0, because exponents of both signs pull at them or because the law
            jumps down there.
        epochs: {domain: how often its tokens are seen} of those whose supply is known.
    """

    weights: dict[str, float]
    losses: dict[str, float]
    objective: float
    gap: float
    pull: float
    N: float | None
    D: float | None
    target_weights: dict[str, float]
    bound: dict[str, str]
    convex: bool
    agreeing: int
    starts: int
    held: tuple[str, ...] = ()
    epochs: Mapping[str, float] | None = None

    def __str__(self) -> str:
        """A table of shares in percent and one of losses."""
        scale = (("N", self.N), ("D", self.D))
        at = ", ".join(f"{name} = {value:.4g}" for name, value in scale if value is not None)
        losses = [[t, f"{x:.5f}", f"{self.target_weights[t]:.4g}"] for t, x in self.losses.items()]
        pulled = f" + pull {self.pull:.6f}" if self.pull else ""
        parts = [
            f"best mixture at {at}" if at else "best mixture",
            self.share_table(),
            table(["target", "loss", "weight"], losses),
            f"objective {self.objective:.6f}{pulled}, gap {self.gap:.1e}: {self.trust}",
        ]
        return "\n\n".join(parts)

    @property
    def trust(self) -> str:
        """What the gap and the starts say, in words."""
        if self.convex:
            return "by this law no mixture within the limits is better by more"
        found = f"a local optimum, the best of {self.starts} starts"
        if self.agreeing < min(2, self.starts):
            return f"{found}, which no other start reached: a better one may have been missed"
        agreeing = "all" if self.agreeing == self.starts else self.agreeing
        return f"{found}, {agreeing} of which reached it"

    def share_table(self, beside: Mapping[str, Optimum] | None = None) -> str:
        """Shares in percent, the limits that they are at, and the shares of other optima."""
        beside = beside or {}
        rows = [
            [d, f"{100 * w:.4f}", self.bound.get(d, "")]
            + [f"{100 * other.weights[d]:.4f}" for other in beside.values()]
            for d, w in self.weights.items()
        ]
        return table(["domain", "share %", "", *(f"{name} %" for name in beside)], rows)

    def figure(self, beside: Mapping[str, Optimum] | None = None) -> Figure:
        """Optimal shares as bars, those of others in grey; the name of a domain at its limit says
        so."""
        beside = beside or {}
        rows = [f"{d} ({self.bound[d]})" if d in self.bound else d for d in self.weights]
        shown = {"best mixture": self, **beside}
        shares = {name: [100 * x for x in one.weights.values()] for name, one in shown.items()}
        return charts.bars(rows, shares, "share (percent)", "training domain", grey=beside)


def optimal_mixture(
    fit: Fit | Question,
    N: float | None = None,
    D: float | None = None,
    weights: Mapping[str, float] | None = None,
    caps: Mapping[str, float] | None = None,
    floors: Mapping[str, float] | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
    fixed: Mapping[str, float] | None = None,
) -> Optimum:
    """The mixture that a fit predicts to be best for one budget.

        h* = argmin over h in the simplex of sum_t w_t L_t(N, D, h),   floor_i <= h_i <= cap_i

    Args:
        fit: a fit, or a `Question`, which may also have a pull and a supply of tokens; then the
            other arguments are left out.
        N, D, weights, caps, floors, groups, fixed: see `Question`.

    Raises:
        UserError: what `Question` refuses; N or D missing where the law reads it; an objective that
            is nowhere finite.

    Warns:
        MixjaxWarning: the gap is not small, or was made so only by leaving a domain out; a domain
            is held at 0 because the law jumps down there: it has a negative exponent, so that
            0^exponent is infinite and the mixture term nothing (jumps below 1e-5 of the objective
            are not looked for); the mixture hardly matters beside what the law adds for N and D,
            so that rounding decides; the scale or a share is far from the fitted rows, or the fit
            says little (`fitting.doubts`).

    Source: Shukor et al. 2025, eq. (7, 8, 13).
    """
    rest = (N, D, weights, caps, floors, groups, fixed)
    question = fit if isinstance(fit, Question) else Question(fit, *rest)
    if question is fit and any(value is not None for value in rest):
        raise UserError("question", "has its scale, weights and limits", "change it with .but(...)")
    best = best_of(question)
    warn_scale(question.fit, best.N, best.D, best.target_weights)
    warn_mixture(question.fit, best.N, best.D, best.weights, question.weighed)
    return best


def best_of(question: Question) -> Optimum:
    """The optimum, silent about how far from the fitted rows it is; for aids that ask often.

    Raises:
        UserError: N or D missing, or an objective that is nowhere finite.

    Warns:
        MixjaxWarning: the answer is not a proved minimum of what was asked, see `warn_minimum`; or
            all mixtures are alike up to rounding.
    """
    answers = finite_optima(question, None, "mixture")
    warn_minimum(question, answers.ends.row(0))
    values = question.value(starts_of(len(question.domains)))
    if len(question.domains) > 1 and np.max(values) - np.min(values) <= _ALIKE * abs(values[0]):
        what = f"no mixture changes the objective, {values[0]:.3g}, by more than 1e-9 of it"
        warn("mixture", what, "take the weights as undecided, or ask at a larger N and D")
    return optimum_at(question, answers, 0)


def optimum_at(question: Question, answers: Optima, i: int) -> Optimum:
    """One of the answers as a record with names; question: the one it is the answer to."""
    losses = dict(zip(answers.targets, answers.losses[i].tolist(), strict=True))
    return answer_at(question, answers.ends.row(i), bool(answers.convex[i]), losses)


def answer_at(
    question: Question, end: Minima, convex: bool, losses: dict[str, float] | None = None
) -> Optimum:
    """The record of an answer to a question, by its own or another objective that ended so.

    Args:
        losses: of all targets at its mixture, predicted here where they are not known.
    """
    h, targets = end.h, question.fit.targets
    if losses is None:
        losses = {t: float(x) for t, x in question.losses(h).items()}
    weights = question.named(h)
    return Optimum(
        weights=weights,
        losses=losses,
        objective=sum(w * losses[t] for t, w in question.weighed.items()),
        gap=float(end.gap),
        pull=0.0 if question.prior is None else question.prior[1] * float(kl(h, question.prior[0])),
        N=_read(question.N, question.law.reads.N),
        D=_read(question.D, question.law.reads.D),
        target_weights=dict(zip(targets, question.target_weights.tolist(), strict=True)),
        bound=question.bound(h),
        convex=convex and not end.stalled.any(),  # then the gap is that of the others only
        agreeing=int(end.agreeing),
        starts=int(end.starts),
        held=tuple(np.array(question.domains)[end.stalled | end.emptied].tolist()),
        epochs=epochs_of(weights, question.tokens, question.D) or None,
    )


def _read(count: float | None, read: bool) -> float | None:
    """A count, where the law reads it."""
    return None if count is None or not read else float(count)


def warn_minimum(question: Question, end: Minima, small: float = STALLED) -> None:
    """Warn of an answer that is not a proved minimum of what was asked: domains held at 0, a gap
    that is not small.

    Args:
        small: of a gap, relative to the objective; multipliers and smoothing end at larger ones.
    """
    domains = np.array(question.domains)
    if end.emptied.any():
        less = 100 * (end.before - end.value) / abs(end.before)
        what = (
            f"the law promises {less:.2g} percent less with "
            f"{', '.join(domains[end.emptied])} at exactly 0, where "
            f"an exponent is negative: held at 0, the gap is that of the others"
        )
        warn("mixture", what, "give a floor to see it in")
    if end.stalled.any():
        names = ", ".join(domains[end.stalled])
        why = "descent is slow" if question.is_convex() else "exponents of both signs pull"
        what = f"{why} at {names}, held at 0: the gap is that of the others"
        warn("mixture", what, "give a floor to see them in")
    if not is_small(end.gap, end.value, small):
        what = f"the optimality gap is still {end.gap:.1e}"
        warn("mixture", what, "take the weights as approximate")
