"""Losses within limits, and the worst one least (question, limits or references -> KEPT, LEVELLED):
a method of multipliers, whose inner problems are smooth and go to the one solver."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mixjax.law.base import Law
from mixjax.mixture.question import Case, Floats, Question, TargetLosses, case_of, pulled
from mixjax.mixture.solve import Minima, solve_one

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
class Augmented:
    """f(h) + strength * KL(h | prior) with limits on losses, as an augmented Lagrangian.

        f(h) + strength * KL(h | prior) + sum_t (max(0, m_t + rho c_t)^2 - m_t^2) / (2 rho),
        c_t = L_t(h) / limit_t - 1

    Attributes:
        beside: is added: 1 where nothing but a divergence is minimised, see `mirror.is_small`.

    data: (case with a prior, limits (targets,), infinite for none, multipliers m (targets,),
    rho ()).

    Source: Nocedal and Wright 2006, section 17.4.
    """

    law: Law
    beside: float = 0.0

    def __call__(self, h: jax.Array, data: tuple[Case, jax.Array, jax.Array, jax.Array]) -> Any:
        """The objective () at h (k,)."""
        case, limits, multipliers, rho = data
        losses = TargetLosses(self.law)(h, case)
        pressed = jnp.maximum(0.0, multipliers + rho * (losses / limits - 1.0))
        force = jnp.where(jnp.isfinite(limits), pressed, 0.0)
        penalty = jnp.sum(force * force - multipliers * multipliers) / (2.0 * rho)
        weighted = jnp.dot(jnp.where(case.weights > 0, losses, 0.0), case.weights)
        return self.beside + weighted + pulled(h, case) + penalty


@dataclass(frozen=True)
class SmoothWorst:
    """The largest of some targets' losses relative to references, smoothed around a guess q of its
    multipliers.

        max_t w_t + T log sum_t q_t exp(x_t / T),   x_t = w_t (L_t(h) / reference_t - 1)

    Its gradient is that of sum_t q+_t x_t with q+ = q exp(x / T), scaled to sum to 1: the next
    guess. data: (case, references (targets,), log q (targets,), T ()).

    Source: Tseng and Bertsekas 1993 (exponential method of multipliers).
    """

    law: Law

    def __call__(self, h: jax.Array, data: tuple[Case, jax.Array, jax.Array, jax.Array]) -> Any:
        """The objective () at h (k,)."""
        case, references, log_q, smoothing = data
        excess = case.weights * (TargetLosses(self.law)(h, case) / references - 1.0)
        worst = smoothing * jax.nn.logsumexp(excess / smoothing + log_q)
        return jnp.max(case.weights) + worst + pulled(h, case)


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
    # Of about the size of the objective, so that the penalty goes with it.
    unit = float(np.sum(case.weights)) * min(limits.values()) if near is None else 1.0
    weights = case.weights if near is None else np.zeros(len(targets))
    case = case._replace(weights=weights / unit, strength=np.float64(strength / unit))
    multipliers, rho, worst, kept = np.zeros(len(targets)), _RHO, math.inf, None
    objective = Augmented(question.law, 0.0 if near is None else 1.0)
    convex = question.is_convex(targets)
    for _ in range(_ROUNDS):
        data = (case, bounds, multipliers, np.float64(rho))
        end = solve_one(objective, data, question.box, convex, np.array([h, *also]))
        h = end.h
        passed = losses_of(question, targets, h) / bounds - 1.0
        multipliers = np.maximum(0.0, multipliers + rho * passed)
        sizes = np.where(multipliers > 0, np.abs(passed), np.maximum(passed, 0.0))
        violation = float(np.max(sizes))
        pairs = zip(targets, (unit * multipliers).tolist(), strict=True)
        named = {t: m for t, m in pairs if t in limits}
        gap = end.gap + float(multipliers @ np.abs(passed))
        end = end._replace(value=unit * end.value, gap=unit * gap, before=unit * end.before)
        kept = Kept(end, named, violation)
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
        if gap <= _LEVEL * weights.max() or excess.max() <= enough:
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
