"""Several targets weighed without weights (question, limits or references -> BALANCED, LIMITED):
the worst one made best, or some kept within limits.

Both by a method of multipliers whose inner problems are smooth and go to the one solver. The
multipliers that it ends with are weights of the targets, and for convex laws they prove the answer:
the weighted sum that they make has a least value, which no mixture can be below.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mixjax.errors import UserError, check_names
from mixjax.law.base import Law
from mixjax.mixture.many import one_target, optima
from mixjax.mixture.optimum import ROUGH, Optimum, answer_at, best_of, warn_minimum
from mixjax.mixture.question import Case, Floats, Question, TargetLosses, case_of, pulled
from mixjax.mixture.solve import Minima, solve_one
from mixjax.text import Record, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Limits are met to this, relatively.
MET = 1e-7
# Limits: rounds; first weight of the penalty, its growth and largest; the violation that ends them,
# relative to the limit.
_ROUNDS, _RHO, _GROWTH, _LARGEST, _ENOUGH = 60, 100.0, 5.0, 1e9, 1e-11
# Largest: rounds; first smoothing relative to how far the targets lie apart, its fall and least;
# the gap that ends them.
_LEVELS, _SMOOTHING, _FINER, _LEAST, _LEVEL = 40, 0.3, 4.0, 1e-7, 1e-11
# What a round must take off the violation or the gap, or the next one presses harder.
_FALL = 0.1
_LOG_TINY = -690.0


@dataclass(frozen=True)
class Balanced(Record):
    """The mixture whose worst target is least badly off.

    Attributes:
        mixture: with its losses; its gap is that of `largest`.
        references: {target: the loss that its excess is relative to}, of the targets that count.
        excess: {target: w_t (loss / reference - 1)}; largest: the largest of them, at most
            `mixture.gap` above the least one, where `mixture.convex`.
        pressing: {target: part of the pressure on `largest` that it exerts}, sums to 1; 0 for
            targets that are better off than need be. Weights of the losses in proportion to these
            over the references lead to the same mixture.
    """

    mixture: Optimum
    references: dict[str, float]
    excess: dict[str, float]
    largest: float
    pressing: dict[str, float]

    def __str__(self) -> str:
        """Shares, and how far each target is above its reference."""
        best = self.mixture
        rows = []
        for t, reference in self.references.items():
            excess, pressing = f"{100 * self.excess[t]:+.4f}", f"{100 * self.pressing[t]:.1f}"
            rows.append([t, f"{best.losses[t]:.5f}", f"{reference:.5f}", excess, pressing])
        end = (
            f"largest excess {100 * self.largest:+.6f} percent, gap {100 * best.gap:.1e} percent "
            f"({best.trust})"
        )
        head = ["target", "loss", "reference", "excess %", "presses %"]
        return "\n\n".join([best.share_table(), table(head, rows), end])

    def to_dict(self) -> dict[str, Any]:
        """The mixture's content for JSON, whose objective is the largest excess, and the rest."""
        rest = super().to_dict()
        return rest.pop("mixture") | {"objective": rest.pop("largest")} | rest

    def figure(self) -> Figure:
        """Its shares."""
        return self.mixture.figure()


def worst_target(question: Question, references: Mapping[str, float] | None = None) -> Balanced:
    """The mixture of least max_t w_t (L_t(h) / reference_t - 1).

    Args:
        question: weights are how much the excess of each target counts.
        references: {target: loss}; of a target that is not named, the least loss that any mixture
            within the limits gives it. The losses of a mixture in use ask for the mixture that
            improves every target on it by as much as can be.

    Raises:
        UserError: an unknown target, a reference that is not above 0, or what `optimal_mixture`
            refuses.

    Warns:
        MixjaxWarning: the answer is not a proved minimum, see `optimal_mixture`.
    """
    level = _references(question, list(question.weighed), references)
    best = least_worst(question, level)
    warn_minimum(question, best.end, ROUGH)
    mixture = answer_at(question, best.end, question.is_convex())
    return Balanced(mixture, level, best.excess, best.largest, best.multipliers)


@dataclass(frozen=True)
class Limited(Record):
    """The best mixture that keeps some losses within limits.

    Attributes:
        mixture: its objective is at most its gap above the least one, where it is convex.
        limits: {target: largest loss}, met to 1e-7, relatively; far better where the limits leave
            room.
        prices: {target: how much the objective falls for each percent that its limit is raised}; 0
            for limits that do not bind.
        free: the optimum without limits on losses.
    """

    mixture: Optimum
    limits: dict[str, float]
    prices: dict[str, float]
    free: Optimum

    def __str__(self) -> str:
        """Shares, and losses beside their limits and the optimum without them."""
        best, free = self.mixture, self.free
        limits = {t: [f"{limit:.5f}", f"{self.prices[t]:.6f}"] for t, limit in self.limits.items()}
        rows = [
            [t, f"{x:.5f}", *limits.get(t, ["", ""]), f"{free.losses[t]:.5f}"]
            for t, x in best.losses.items()
        ]
        rows.append(["objective", f"{best.objective:.5f}", "", "", f"{free.objective:.5f}"])
        head = ["target", "loss", "limit", "price of 1 %", "without limits"]
        end = f"objective {best.objective:.6f}, gap {best.gap:.1e} ({best.trust})"
        return "\n\n".join([best.share_table(self._beside), table(head, rows), end])

    @property
    def _beside(self) -> dict[str, Optimum]:
        return {"without limits": self.free}

    def to_dict(self) -> dict[str, Any]:
        """The mixture's content for JSON, its limits, their prices and the optimum without them."""
        rest = super().to_dict()
        return rest.pop("mixture") | rest

    def figure(self) -> Figure:
        """Its shares beside those of the optimum without limits on losses."""
        return self.mixture.figure(self._beside)


def limited_mixture(
    question: Question,
    above: Mapping[str, float] | None = None,
    at_most: Mapping[str, float] | None = None,
    references: Mapping[str, float] | None = None,
) -> Limited:
    """The mixture of least weighted sum of losses with L_t(h) <= limit_t.

    Where the laws are not convex the answer is the best of what the method of multipliers ends at
    and of other mixtures known to be within the limits.

    Args:
        question: what is minimised; its limits on shares hold too.
        above: {target: how far its loss may be above its reference, relatively}: {"code": 0.01}
            allows 1 percent.
        at_most: {target: largest loss}.
        references: {target: loss}; of a target that is not named, the least loss that any mixture
            within the limits gives it.

    Raises:
        UserError: no limits, an unknown target or one with two limits, limits that no mixture meets
            (the message says by how much they are missed), or what `optimal_mixture` refuses.

    Warns:
        MixjaxWarning: the answer is not a proved minimum, see `optimal_mixture`.
    """
    above, at_most = dict(above or {}), dict(at_most or {})
    _check_limits(question, above, at_most)
    level = _references(question, list(above), references)
    if references is None:
        for t, x in above.items():
            if x < 0:
                what = (
                    f"{100 * x:g} percent above its own best is out of reach: it cannot be below 0"
                )
                raise UserError(f"limit of {t!r}", what, "give 0 or more, or a loss")
    relative = {t: level[t] * (1.0 + x) for t, x in above.items()}
    named = relative | {t: float(x) for t, x in at_most.items()}
    limits = {t: named[t] for t in question.fit.targets if t in named}
    within = _reachable(question, limits)
    free = best_of(question)
    if all(free.losses[t] <= limits[t] for t in limits):
        return Limited(free, limits, dict.fromkeys(limits, 0.0), free)
    start, convex = question.array(free.weights), question.is_convex([*question.weighed, *limits])
    kept = keep_within(question, limits, also=(within.h, start))
    end, prices = kept.end, {t: 0.01 * m for t, m in kept.multipliers.items()}
    if kept.violation > MET or (not convex and question.value(within.h) < question.value(end.h)):
        if convex:
            what = (
                f"{', '.join(limits)} cannot be met together: the nearest mixture passes them by "
                f"{100 * kept.violation:.2g} percent"
            )
            raise UserError("limits", what, "loosen them a little")
        end, prices = within, dict.fromkeys(limits, 0.0)
    warn_minimum(question, end, ROUGH)
    return Limited(answer_at(question, end, convex), limits, prices, free)


def _references(
    question: Question, targets: list[str], given: Mapping[str, float] | None
) -> dict[str, float]:
    """{target: reference}: the one given, else the loss of the target's own optimum."""
    given = given or {}
    check_names(given, question.fit.targets, "reference", "target")
    own = own_best(question, [t for t in targets if t not in given])
    references = {t: float(given[t]) if t in given else own[t] for t in targets}
    for t, loss in references.items():
        if not (math.isfinite(loss) and loss > 0):
            remedy = "an excess is relative: give a positive loss, or leave the target out"
            raise UserError(f"reference of {t!r}", f"{loss:g} is not a loss above 0", remedy)
    return references


def own_best(question: Question, targets: Sequence[str]) -> dict[str, float]:
    """{target: the least loss that any mixture within the limits gives it}."""
    if not targets:
        return {}
    least = optima(question.but(pull=None), one_target(question, targets)).objective
    return dict(zip(targets, least.tolist(), strict=True))


def _check_limits(
    question: Question, above: Mapping[str, float], at_most: Mapping[str, float]
) -> None:
    if not above and not at_most:
        raise UserError("limits", "there are none", "name a target and how far its loss may go")
    check_names((*above, *at_most), question.fit.targets, "limits", "target")
    twice = next((t for t in above if t in at_most), None)
    if twice is not None:
        raise UserError("limits", f"{twice!r} has two", "give a relative limit or a loss")
    for t, x in above.items():
        if not (math.isfinite(x) and x > -1):
            what = f"{100 * x:g} percent above its reference is no loss"
            raise UserError(f"limit of {t!r}", what, "give a number above -100 percent")
    for t, x in at_most.items():
        if not (math.isfinite(x) and x > 0):
            remedy = "give a loss, or how far it may be above its best, e.g. 1%"
            raise UserError(f"limit of {t!r}", f"{x:g} is not a loss above 0", remedy)


def _reachable(question: Question, limits: Mapping[str, float]) -> Minima:
    """A mixture within the limits, once there is known to be one."""
    for t, least in own_best(question, list(limits)).items():
        if least > limits[t] * (1.0 + MET):
            what = (
                f"{limits[t]:.5g} is out of reach: {least:.5g} is the least loss that any mixture "
                f"gives it"
            )
            raise UserError(f"limit of {t!r}", what, "raise the limit")
    alone = question.but(weights=dict.fromkeys(limits, 1.0), pull=None)
    nearest = least_worst(alone, limits, enough=0.0)
    if nearest.largest > MET:
        clash = [t for t, q in nearest.multipliers.items() if q > 1e-3]
        clash = clash if len(clash) > 1 else list(limits)  # one alone can be met
        what = (
            f"{', '.join(clash)} cannot be met together: the mixture nearest to that passes each "
            f"by {100 * nearest.largest:.3g} percent"
        )
        raise UserError("limits", what, "loosen them by as much, or some by more")
    return nearest.end


# --- By multipliers ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Augmented:
    """f(h) + strength * KL(h | prior) with limits on losses, as an augmented Lagrangian.

        f(h) + strength * KL(h | prior) + sum_t (max(0, m_t + rho c_t)^2 - m_t^2) / (2 rho),
        c_t = L_t(h) / limit_t - 1

    data: (case with a prior, limits (targets,), infinite for none, multipliers m (targets,),
    rho ()).

    Source: Nocedal and Wright 2006, section 17.4.
    """

    law: Law

    def __call__(self, h: jax.Array, data: tuple[Case, jax.Array, jax.Array, jax.Array]) -> Any:
        """The objective () at h (k,)."""
        case, limits, multipliers, rho = data
        losses = TargetLosses(self.law)(h, case)
        pressed = jnp.maximum(0.0, multipliers + rho * (losses / limits - 1.0))
        force = jnp.where(jnp.isfinite(limits), pressed, 0.0)
        penalty = jnp.sum(force * force - multipliers * multipliers) / (2.0 * rho)
        weighted = jnp.dot(jnp.where(case.weights > 0, losses, 0.0), case.weights)
        return weighted + pulled(h, case) + penalty


@dataclass(frozen=True)
class SmoothWorst:
    """The largest of some targets' losses relative to references, smoothed around a guess q of its
    multipliers.

        T log sum_t q_t exp(x_t / T),   x_t = w_t (L_t(h) / reference_t - 1)

    Its gradient is that of sum_t q+_t x_t with q+ = q exp(x / T), scaled to sum to 1: the next
    guess. data: (case, references (targets,), log q (targets,), T ()).

    Source: Tseng and Bertsekas 1993 (exponential method of multipliers).
    """

    law: Law

    def __call__(self, h: jax.Array, data: tuple[Case, jax.Array, jax.Array, jax.Array]) -> Any:
        """The objective () at h (k,)."""
        case, references, log_q, smoothing = data
        excess = case.weights * (TargetLosses(self.law)(h, case) / references - 1.0)
        return smoothing * jax.nn.logsumexp(excess / smoothing + log_q) + pulled(h, case)


class Kept(NamedTuple):
    """A mixture within limits.

    end: of the last descent, with its mixture h (k,); its gap is what the objective may be above
    the least one, or below it by what the violation is worth. multipliers {target: how fast the
    objective falls as its limit is raised, relatively}; violation: the largest L_t / limit_t - 1,
    of limits with a multiplier in size.
    """

    end: Minima
    multipliers: dict[str, float]
    violation: float


def keep_within(
    question: Question,
    limits: Mapping[str, float],
    near: Floats | None = None,
    also: Sequence[Floats] = (),
) -> Kept:
    """The best mixture of a question with L_t(h) <= limit_t; or the one of least KL(h | near).

    After each minimum of `Augmented` the multipliers become max(0, m_t + rho c_t), c_t = L_t /
    limit_t - 1, and rho grows where the violation has hardly fallen. Where the laws are convex,
    f(h) - gap of the descent + sum_t m_t c_t is a lower bound.

    Args:
        limits: {target: loss}; some mixture must meet them, see `least_worst`.
        near: mixture (k,) > 0, in place of the question's objective.
        also: mixtures (k,) to begin from too.
    """
    counted = question.weighed if near is None else {}
    targets = [t for t in question.fit.targets if t in counted or t in limits]
    bounds = np.array([limits.get(t, np.inf) for t in targets])
    h = _centre(question)
    prior, strength = (question.prior or (h, 0.0)) if near is None else (near, 1.0)
    case = case_of(question, targets)._replace(prior=prior, strength=np.float64(strength))
    if near is not None:
        case = case._replace(weights=np.zeros(len(targets)))
    multipliers, rho, worst, kept = np.zeros(len(targets)), _RHO, math.inf, None
    objective, convex = Augmented(question.law), question.is_convex(targets)
    for _ in range(_ROUNDS):
        data = (case, bounds, multipliers, np.float64(rho))
        end = solve_one(objective, data, question.box, convex, np.array([h, *also]))
        h = end.h
        passed = losses_of(question, targets, h) / bounds - 1.0
        multipliers = np.maximum(0.0, multipliers + rho * passed)
        sizes = np.where(multipliers > 0, np.abs(passed), np.maximum(passed, 0.0))
        violation = float(np.max(sizes))
        named = {t: float(m) for t, m in zip(targets, multipliers, strict=True) if t in limits}
        gap = end.gap + float(multipliers @ np.abs(passed))
        kept = Kept(end._replace(gap=gap), named, violation)
        if violation <= _ENOUGH:
            break
        if violation > _FALL * worst:
            rho = min(rho * _GROWTH, _LARGEST)
        worst = min(worst, violation)
    assert kept is not None
    return kept


class Levelled(NamedTuple):
    """A mixture whose largest excess over references is least.

    end: of the last descent, with its mixture h (k,); its gap is what the largest excess may be
    above the least one where the laws are convex, a first-order gap elsewhere. excess {target: w_t
    (L_t / reference_t - 1)}; multipliers {target: q_t}, which sum to 1.
    """

    end: Minima
    excess: dict[str, float]
    multipliers: dict[str, float]

    @property
    def largest(self) -> float:
        """The largest excess."""
        return max(self.excess.values())


def least_worst(
    question: Question, references: Mapping[str, float], enough: float = -math.inf
) -> Levelled:
    """The mixture of least max_t w_t (L_t(h) / reference_t - 1), over the question's targets and
    with its weights; its pull, in units of this excess, is added.

    After each minimum of `SmoothWorst` its multipliers become the next guess, and the smoothing T
    gets finer where the gap has hardly fallen. With q the multipliers at h and x the excess, for
    convex laws no mixture is below sum_t q_t x_t - gap of the descent.

    Args:
        references: {target: loss above 0} of every target with a weight.
        enough: a largest excess that will do.
    """
    targets = list(question.weighed)
    level = np.array([references[t] for t in targets])
    weights = np.array(list(question.weighed.values()))
    case, h = case_of(question), _centre(question)
    if question.prior is not None:
        case = case._replace(prior=question.prior[0], strength=np.float64(question.prior[1]))
    log_q, last = np.full(len(targets), -math.log(len(targets))), math.inf
    spread = float(np.ptp(weights * (losses_of(question, targets, h) / level - 1.0)))
    coarse = _SMOOTHING * (spread if math.isfinite(spread) and spread > 0 else 1.0)
    smoothing, best = coarse, None
    objective, convex = SmoothWorst(question.law), question.is_convex()
    for _ in range(_LEVELS):
        data = (case, level, log_q, np.float64(smoothing))
        end = solve_one(objective, data, question.box, convex, h[None])
        h = end.h
        excess = weights * (losses_of(question, targets, h) / level - 1.0)
        raised = log_q + (excess - excess.max()) / smoothing
        log_q = np.maximum(raised - np.logaddexp.reduce(raised), _LOG_TINY)
        q = np.exp(log_q)
        gap = float(excess.max() - q @ excess) + end.gap
        if best is None or excess.max() < best.largest or gap < best.end.gap:
            named = (dict(zip(targets, x.tolist(), strict=True)) for x in (excess, q))
            best = Levelled(end._replace(gap=gap), *named)
        if gap <= _LEVEL or excess.max() <= enough:
            break
        if gap > _FALL * last:
            smoothing = max(smoothing / _FINER, _LEAST * coarse)
        last = min(last, gap)
    assert best is not None
    return best


def losses_of(question: Question, targets: Sequence[str], h: Floats) -> Floats:
    """Losses (targets,) at one mixture h (k,)."""
    losses = question.losses(h)
    return np.array([float(losses[t]) for t in targets])


def _centre(question: Question) -> Floats:
    k = len(question.domains)
    return np.full(k, 1.0 / k)
