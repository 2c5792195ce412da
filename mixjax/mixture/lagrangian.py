"""Multipliers (goal, limits or references -> mixture and multipliers): losses kept within limits,
and the largest of several made small.

Both by a method of multipliers whose inner problems are smooth and solved by mirror descent. The
multipliers that it ends with are weights of the targets, and for convex laws they prove the answer:
the weighted sum that they make has a least value, which no mixture can be below.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mixjax.mixture.losses import Augmented, SmoothWorst, descend, scenarios
from mixjax.mixture.question import Floats, Goal

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


class Kept(NamedTuple):
    """A mixture within limits.

    h (k,); multipliers {target: how fast the objective falls as its limit is raised, relatively};
    violation: the largest L_t / limit_t - 1, of limits with a multiplier in size; gap: the
    objective is at most this above the least one, or below it by what the violation is worth;
    agreeing, starts: of the last descent.
    """

    h: Floats
    multipliers: dict[str, float]
    violation: float
    gap: float
    agreeing: int
    starts: int


def keep_within(
    goal: Goal,
    limits: Mapping[str, float],
    pull: tuple[Floats, float] | None = None,
    starts: Sequence[Floats] = (),
) -> Kept:
    """The mixture of least f(h) + strength * KL(h | prior) with L_t(h) <= limit_t.

    After each minimum of `Augmented` the multipliers become max(0, m_t + rho c_t), c_t = L_t /
    limit_t - 1, and rho grows where the violation has hardly fallen. Where the laws are convex,
    f(h) - gap of the descent + sum_t m_t c_t is a lower bound.

    Args:
        goal: without weights (an empty mapping) f is 0.
        limits: {target: loss}; some mixture must meet them, see `least_worst`.
        pull: prior (k,) > 0 and strength.
        starts: mixtures (k,) to begin from too.
    """
    targets = [t for t in goal.fit.targets if t in goal.shares or t in limits]
    bounds = np.array([limits.get(t, np.inf) for t in targets])
    law, case, h = goal.fit.scaling_law, scenarios([goal], targets), _centre(goal)
    prior, strength = pull or (h, 0.0)
    multipliers, rho, worst = np.zeros(len(targets)), _RHO, math.inf
    found = None
    for _ in range(_ROUNDS):
        end = descend(
            Augmented(law),
            (case, prior, np.float64(strength), bounds, multipliers, np.float64(rho)),
            goal,
            (h, *starts),
        )
        h = np.asarray(end.h)
        passed = losses_of(goal, targets, h) / bounds - 1.0
        multipliers = np.maximum(0.0, multipliers + rho * passed)
        violation = float(
            np.max(np.where(multipliers > 0, np.abs(passed), np.maximum(passed, 0.0)))
        )
        named = {t: float(m) for t, m in zip(targets, multipliers, strict=True) if t in limits}
        found = Kept(
            h,
            named,
            violation,
            max(float(end.gap), 0.0) + float(multipliers @ np.abs(passed)),
            int(end.agreeing),
            len(end.values),
        )
        if violation <= _ENOUGH:
            break
        if violation > _FALL * worst:
            rho = min(rho * _GROWTH, _LARGEST)
        worst = min(worst, violation)
    assert found is not None
    return found


class Levelled(NamedTuple):
    """A mixture whose largest excess over references is least.

    h (k,); excess {target: w_t (L_t / reference_t - 1)}; multipliers {target: q_t}, which sum to 1;
    gap: the largest excess is at most this above the least one where the laws are convex, a
    first-order gap elsewhere; agreeing, starts: of the last descent.
    """

    h: Floats
    excess: dict[str, float]
    multipliers: dict[str, float]
    gap: float
    agreeing: int
    starts: int

    @property
    def largest(self) -> float:
        """The largest excess."""
        return max(self.excess.values())


def least_worst(goal: Goal, references: Mapping[str, float], enough: float = -math.inf) -> Levelled:
    """The mixture of least max_t w_t (L_t(h) / reference_t - 1), over the goal's targets and with
    its weights.

    After each minimum of `SmoothWorst` its multipliers become the next guess, and the smoothing T
    gets finer where the gap has hardly fallen. With q the multipliers at h and x the excess, for
    convex laws no mixture is below sum_t q_t x_t - gap of the descent.

    Args:
        references: {target: loss above 0} of every target with a weight.
        enough: a largest excess that will do.
    """
    targets = list(goal.shares)
    level, weights = (
        np.array([references[t] for t in targets]),
        np.array(list(goal.shares.values())),
    )
    law, case, h = goal.fit.scaling_law, scenarios([goal]), _centre(goal)
    log_q, last = np.full(len(targets), -math.log(len(targets))), math.inf
    spread = float(np.ptp(weights * (losses_of(goal, targets, h) / level - 1.0)))
    coarse = _SMOOTHING * (spread if math.isfinite(spread) and spread > 0 else 1.0)
    smoothing, best = coarse, None
    for _ in range(_LEVELS):
        end = descend(SmoothWorst(law), (case, level, log_q, np.float64(smoothing)), goal, (h,))
        h = np.asarray(end.h)
        excess = weights * (losses_of(goal, targets, h) / level - 1.0)
        raised = log_q + (excess - excess.max()) / smoothing
        log_q = np.maximum(raised - np.logaddexp.reduce(raised), _LOG_TINY)
        q = np.exp(log_q)
        gap = float(excess.max() - q @ excess) + max(float(end.gap), 0.0)
        if best is None or excess.max() < best.largest or gap < best.gap:
            best = Levelled(
                h,
                _named(targets, excess),
                _named(targets, q),
                gap,
                int(end.agreeing),
                len(end.values),
            )
        if gap <= _LEVEL or excess.max() <= enough:
            break
        if gap > _FALL * last:
            smoothing = max(smoothing / _FINER, _LEAST * coarse)
        last = min(last, gap)
    assert best is not None
    return best


def losses_of(goal: Goal, targets: Sequence[str], h: Floats) -> Floats:
    """Losses (targets,) at one mixture h (k,)."""
    losses = goal.losses(h)
    return np.array([float(losses[t]) for t in targets])


def _centre(goal: Goal) -> Floats:
    k = len(goal.fit.domains)
    return np.full(k, 1.0 / k)


def _named(targets: Sequence[str], numbers: Floats) -> dict[str, float]:
    return dict(zip(targets, numbers.tolist(), strict=True))
