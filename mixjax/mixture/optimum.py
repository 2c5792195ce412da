"""The best mixture (question -> solve -> OPTIMUM): of one question, or of thousands at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
from numpy.typing import NDArray

from mixjax.drawing import charts
from mixjax.errors import UserError, warn
from mixjax.fitting.doubts import warn_scale, warn_shares
from mixjax.fitting.record import Fit
from mixjax.law.base import Law
from mixjax.mixture.box import Box, is_met
from mixjax.mixture.lanes import Problems, map_problems
from mixjax.mixture.limits import epochs_of, token_caps
from mixjax.mixture.losses import Case, WeightedLoss, target_losses
from mixjax.mixture.question import Floats, Question, kl
from mixjax.mixture.solve import STALLED, Minima, Minimum, is_small, solve
from mixjax.text import Record, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Flags = NDArray[np.bool_]
Ints = NDArray[np.int64]

# A gap of multipliers or of a smoothed objective is small below this, relatively.
ROUGH = 1e-5


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
        N, D: counts, None where they were not given.
        target_weights: {target: weight in the objective}.
        bound: {domain or group: "cap" or "floor"} of those that would pass it.
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
        shares = [[d, f"{100 * w:.4f}", self.bound.get(d, "")] for d, w in self.weights.items()]
        losses = [[t, f"{x:.5f}", f"{self.target_weights[t]:.4g}"] for t, x in self.losses.items()]
        trust = trust_in(self.convex, self.starts)
        pulled = f" + pull {self.pull:.6f}" if self.pull else ""
        end = (
            f"objective {self.objective:.6f}{pulled}, gap {self.gap:.1e} ({trust}); "
            f"{self.agreeing} of {self.starts} starts agree"
        )
        head = f"best mixture at {at}" if at else "best mixture"
        shown = [table(["domain", "share %", ""], shares)]
        shown.append(table(["target", "loss", "weight"], losses))
        return "\n\n".join([head, *shown, end])

    def figure(self, beside: Mapping[str, Optimum] | None = None) -> Figure:
        """Optimal shares as bars, those of others in grey; the name of a domain at its limit says
        so."""
        beside = beside or {}
        rows = [f"{d} ({self.bound[d]})" if d in self.bound else d for d in self.weights]
        shares = {
            name: [100 * share for share in optimum.weights.values()]
            for name, optimum in {"best mixture": self, **beside}.items()
        }
        return charts.bars(rows, shares, "share (percent)", "training domain", grey=beside)


@dataclass(frozen=True, eq=False)
class Optima:
    """The optima of many questions, in the order in which they were asked.

    Attributes:
        domains, targets: names.
        ends: how the solver ended, with h (questions, k) and gap (questions,) in the unit of the
            objective, a pull included; see `Minima`.
        losses: predicted (questions, targets); infinite where the law is.
        objective: sum over targets of target_weights * losses (questions,); infinite where the law
            is nowhere finite, or no mixture meets the limits.
        pull: what a pull towards a prior adds to the objective (questions,).
        convex: where the objective is known to be convex, so that it is at most `gap` above the
            minimum (questions,).
        target_weights: (questions, targets).
        N, D: counts (questions,), None where they were not given.
        member: which parameter set (questions,).
    """

    domains: tuple[str, ...]
    targets: tuple[str, ...]
    ends: Minima
    losses: Floats
    objective: Floats
    pull: Floats
    convex: Flags
    target_weights: Floats
    N: Floats | None
    D: Floats | None
    member: Ints

    def __len__(self) -> int:
        """Number of questions."""
        return len(self.h)

    @property
    def h(self) -> Floats:
        """Domain weights (questions, k); rows sum to 1."""
        return self.ends.h

    @property
    def gap(self) -> Floats:
        """First-order optimality gap (questions,), 0 at the optimum; of the domains not held."""
        return self.ends.gap

    @property
    def held(self) -> Flags:
        """(questions, k), domains held at 0: exponents of both signs pull at them, or the law jumps
        down there."""
        return self.ends.stalled | self.ends.emptied

    def weights(self, question: int) -> dict[str, float]:
        """{domain: share} of one question."""
        return dict(zip(self.domains, self.h[question].tolist(), strict=True))

    def __str__(self) -> str:
        """How many questions, how they ended, and the range of each domain's share."""
        sides = (self.h.min(axis=0), np.median(self.h, axis=0), self.h.max(axis=0))
        rows = [
            [d, *(f"{100 * side[i]:.3f}" for side in sides)] for i, d in enumerate(self.domains)
        ]
        head = (
            f"{len(self)} questions, {int(self.convex.sum())} known to be convex; largest gap "
            f"{self.gap.max():.1e}"
        )
        return head + "\n" + table(["domain", "least %", "median %", "most %"], rows)


def trust_in(convex: bool, starts: int) -> str:
    """What an answer's gap and starts say, in words."""
    return "at most this above the minimum" if convex else f"best of {starts} starts"


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
            are not looked for); the scale or a share is far from the fitted rows, or the fit says
            little (`fitting.doubts`).

    Source: Shukor et al. 2025, eq. (7, 8, 13).
    """
    question = as_question(fit, N, D, weights, caps, floors, groups, fixed)
    best = best_of(question)
    warn_scale(question.fit, best.N, best.D, best.target_weights)
    warn_shares(question.fit, best.weights)
    return best


def as_question(fit: Fit | Question, *rest: Any) -> Question:
    """A question as it is, or the one that these arguments make."""
    if not isinstance(fit, Question):
        return Question(fit, *rest)
    if any(value is not None for value in rest):
        raise UserError("question", "has its scale, weights and limits", "change it with .but(...)")
    return fit


def best_of(question: Question) -> Optimum:
    """The optimum, silent about how far from the fitted rows it is; for aids that ask often.

    Raises:
        UserError: N or D missing, or an objective that is nowhere finite.

    Warns:
        MixjaxWarning: the answer is not a proved minimum of what was asked, see `warn_minimum`.
    """
    answers = optima(question)
    if not np.isfinite(answers.objective[0]):
        raise nowhere_finite(question, "mixture")
    warn_minimum(question, answers.ends.row(0))
    return optimum_at(question, answers, 0)


def optimum_at(question: Question, answers: Optima, i: int) -> Optimum:
    """One of the answers as a record with names; question: the one it is the answer to."""
    losses = dict(zip(answers.targets, answers.losses[i].tolist(), strict=True))
    return answer_at(question, answers.ends.row(i), bool(answers.convex[i]), losses)


def answer_at(
    question: Question, end: Minimum, convex: bool, losses: dict[str, float] | None = None
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
        gap=end.gap,
        pull=0.0 if question.prior is None else question.prior[1] * float(kl(h, question.prior[0])),
        N=None if question.N is None else float(question.N),
        D=None if question.D is None else float(question.D),
        target_weights=dict(zip(targets, question.target_weights.tolist(), strict=True)),
        bound=question.bound(h),
        convex=convex,
        agreeing=end.agreeing,
        starts=end.starts,
        held=tuple(np.array(question.domains)[end.stalled | end.emptied].tolist()),
        epochs=epochs_of(weights, question.tokens, question.D) or None,
    )


def nowhere_finite(question: Question, where: str) -> UserError:
    """What is said of a question whose objective is infinite at all starts."""
    return UserError(
        where,
        f"the {question.fit.law} law predicts no finite loss at any start",
        "raise a cap of 0, or leave out the target that needs that domain",
    )


def warn_minimum(question: Question, end: Minimum, small: float = STALLED) -> None:
    """Warn of an answer that is not a proved minimum of what was asked: domains held at 0, a gap
    that is not small.

    Args:
        small: of a gap, relative to the objective; multipliers and smoothing end at larger ones.
    """
    domains = np.array(question.domains)
    if end.emptied.any():
        less, names = 100 * (end.before - end.value) / abs(end.before), domains[end.emptied]
        what = (
            f"the law promises {less:.2g} percent less with {', '.join(names)} at exactly 0, where "
            f"an exponent is negative: held at 0, the gap is that of the others"
        )
        warn("mixture", what, "give a floor to see it in")
    if end.stalled.any():
        what = (
            f"exponents of both signs pull at {', '.join(domains[end.stalled])}, held at 0: the "
            f"gap is that of the others"
        )
        warn("mixture", what, "give a floor to see them in")
    if not is_small(end.gap, end.value, small):
        what = f"the optimality gap is still {end.gap:.1e}"
        warn("mixture", what, "take the weights as approximate")


# --- Many questions ------------------------------------------------------------------------------


class Vary(NamedTuple):
    """What differs between many questions; None: as in the question that they are variations of.

    N, D, strength of the pull (questions,), weights (questions, targets); boxes with rows
    (questions, ...). params {name: (sets, targets, ...)} of the same law, member (questions,):
    which set, by default the first or, of several sets, each.
    """

    N: Floats | None = None
    D: Floats | None = None
    weights: Floats | None = None
    strength: Floats | None = None
    boxes: Box | None = None
    params: Mapping[str, Floats] | None = None
    member: Ints | None = None


def optima(
    question: Question, vary: Vary | None = None, also: Floats | None = None, alone: bool = False
) -> Optima:
    """The optima of many variations of a question in one batched call, silent.

    The answer to a question does not depend on the others. One that no mixture meets, or whose law
    is nowhere finite, has an infinite objective and spoils no others.

    Args:
        vary: what differs; without it there is one question.
        also: mixtures (n, k) to start from too; alone: from these only.
    """
    vary = vary or Vary()
    fit, law, k = question.fit, question.law, len(question.domains)
    sets = question_sets(question) if vary.params is None else vary.params
    count = len(next(iter(sets.values())))
    member = vary.member
    if member is None and count > 1:
        member = np.arange(count)
    lengths = [
        len(x) for x in (vary.N, vary.D, vary.weights, vary.strength, member) if x is not None
    ]
    lengths += [] if vary.boxes is None else [len(vary.boxes.caps)]
    n = max(lengths, default=1)
    scale = question.scale if vary.N is None or vary.D is None else (1.0, 1.0)
    N, D = (
        np.full(n, fixed) if varied is None else varied
        for varied, fixed in zip((vary.N, vary.D), scale, strict=True)
    )
    weights = question.target_weights if vary.weights is None else vary.weights
    weights = np.broadcast_to(weights, (n, len(fit.targets)))
    boxes = vary.boxes or boxes_at(question, D if vary.D is not None else None, n)
    prior = question.prior
    strength = vary.strength
    if strength is None and prior is not None:
        strength = np.full(n, prior[1])
    which = np.zeros(n, dtype=np.int64) if member is None else np.asarray(member, dtype=np.int64)
    unit = unit_of(weights)
    numbers = {"weights": weights / unit[:, None], "N": N, "D": D}
    shared: dict[str, Any] = {"own": question.own()}
    if prior is not None and strength is not None:
        shared["prior"], numbers["strength"] = prior[0], strength / unit
    if count == 1:
        shared["params"] = {name: values[0] for name, values in sets.items()}

    def own(rows: Ints) -> dict[str, Any]:
        mine: dict[str, Any] = {name: x[rows] for name, x in numbers.items()}
        if count > 1:
            mine["params"] = {name: values[which[rows]] for name, values in sets.items()}
        return mine

    objective = _Split(WeightedLoss(law, bool((weights == 0).any())))
    convex = np.broadcast_to(law.is_convex(dict(sets)), (count, len(fit.targets)))[which]
    convex = np.all(convex | (weights == 0), axis=1)
    met = np.flatnonzero(is_met(boxes))
    some = Problems(
        objective,
        shared,
        lambda rows: own(met[rows]),
        jax.tree.map(lambda side: np.ascontiguousarray(side[met]), boxes),
    )
    best = _spread(solve(some, convex[met], also, alone), met, n, k) if len(met) else _nothing(n, k)
    losses = map_problems(_Losses(law), Problems(objective, shared, own, boxes), best.h)
    losses = np.where(np.isfinite(losses), losses, np.inf)
    counted = np.sum(weights * np.where(weights > 0, losses, 0.0), axis=1)
    ends = best._replace(
        value=best.value * unit, gap=np.maximum(best.gap * unit, 0.0), before=best.before * unit
    )
    return Optima(
        domains=fit.domains,
        targets=fit.targets,
        ends=ends,
        losses=losses,
        objective=np.where(np.isfinite(best.value), counted, np.inf),
        pull=np.zeros(n) if strength is None or prior is None else strength * kl(best.h, prior[0]),
        convex=convex,
        target_weights=weights,
        N=N if vary.N is not None or question.N is not None else None,
        D=D if vary.D is not None or question.D is not None else None,
        member=which,
    )


def question_sets(question: Question) -> dict[str, Floats]:
    """The question's parameters {name: (1, targets, ...)}, as one set."""
    return {name: values[None] for name, values in question.stacked().items()}


def boxes_at(question: Question, D: Floats | None, n: int) -> Box:
    """The question's box n times; where it has a supply, each with the caps of its own D (n,)."""
    alone = question if D is None or not question.tokens else question.but(tokens=None)
    boxes = jax.tree.map(lambda side: np.repeat(np.asarray(side)[None], n, axis=0), alone.box)
    if alone is question or not question.tokens or D is None:
        return boxes
    supply = token_caps(question.tokens, question.epochs, D, question.domains)
    caps = np.array(boxes.caps, dtype=np.float64)
    for i, domain in enumerate(question.domains):
        if domain in supply:
            caps[:, i] = np.minimum(caps[:, i], supply[domain])
    return boxes._replace(caps=caps)


def held_at(question: Question, domains: Ints, shares: Floats) -> Box:
    """Boxes (n, ...) of the question that hold one domain each, domains (n,), at shares (n,)."""
    boxes = boxes_at(question, None, len(domains))
    rows = np.arange(len(domains))
    floors, caps = (np.array(side, dtype=np.float64) for side in (boxes.floors, boxes.caps))
    floors[rows, domains] = caps[rows, domains] = shares
    return boxes._replace(floors=floors, caps=caps)


def unit_of(weights: Floats) -> Floats:
    """The power of 2 (...,) that weights (..., targets) are divided by: of any other size than
    about 1 they would end a descent too soon, or never."""
    return np.exp2(np.floor(np.log2(weights.max(axis=-1))))


@dataclass(frozen=True)
class _Split:
    """An objective whose case is in two parts by name: what questions share and their own."""

    f: WeightedLoss

    def __call__(self, h: jax.Array, data: tuple[dict[str, Any], dict[str, Any]]) -> jax.Array:
        return self.f(h, Case(**data[0], **data[1]))


@dataclass(frozen=True)
class _Losses:
    """Predicted losses (targets,) at h (k,)."""

    law: Law

    def __call__(self, h: jax.Array, data: tuple[dict[str, Any], dict[str, Any]]) -> jax.Array:
        return target_losses(self.law, h, Case(**data[0], **data[1]))


def _nothing(n: int, k: int) -> Minima:
    """Of questions that no mixture meets: equal shares, an infinite value."""
    nowhere = np.zeros((n, k), dtype=bool)
    none = np.zeros(n, dtype=np.int64)
    infinite = np.full(n, np.inf)
    return Minima(
        np.full((n, k), 1.0 / k),
        infinite,
        infinite.copy(),
        none,
        none.copy(),
        nowhere,
        nowhere.copy(),
        infinite.copy(),
    )


def _spread(minima: Minima, rows: Ints, n: int, k: int) -> Minima:
    """These minima at their rows (rows,) among n."""
    whole = _nothing(n, k)
    for side, values in zip(whole, minima, strict=True):
        side[rows] = values
    return whole
