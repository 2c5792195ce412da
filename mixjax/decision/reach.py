"""The smallest move that reaches stated improvements (goal, base, improvements -> MOVE)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from mixjax.decision.goal import Goal
from mixjax.decision.moves import Move, Start, measure, nonzero
from mixjax.decision.objectives import Reaching, descend, scenarios
from mixjax.errors import UserError

# Augmented Lagrangian: rounds, first weight and its growth, limits met to this, relatively.
_ROUNDS, _RHO, _GROWTH, _MET = 60, 10.0, 4.0, 1e-7


def smallest_move(goal: Goal, start: Start, improve: Mapping[str, float]) -> Move:
    """The mixture nearest to the base that improves targets by stated amounts.

        min KL(h | base)   over mixtures within the limits,   L_t(h) <= (1 - improve_t) L_t(base)

    By an augmented Lagrangian whose inner problems are solved by mirror descent; limits are met to 1e-7, relatively.

    Args:
        improve: {target: relative improvement}, e.g. {"code": 0.02}; 0 asks for no loss, a negative number allows one.

    Raises:
        UserError: an unknown target, or improvements that no mixture reaches; the message says how far each could go alone.
    """
    unknown = next((t for t in improve if t not in goal.fit.targets), None)
    if unknown is not None:
        raise UserError("improve", f"no target {unknown!r}", f"choose from {', '.join(goal.fit.targets)}")
    if not improve or not all(math.isfinite(x) and x < 1 for x in improve.values()):
        raise UserError("improve", f"{dict(improve)} are not improvements below 1", "write target: part of its loss, e.g. code: 0.02")
    base = goal.array(start.base)
    before = goal.losses(base)
    names = [t for t in goal.fit.targets if t in improve]
    limits = np.array([(1.0 - improve[t]) * float(before[t]) for t in names])
    asked = goal.but(weights=dict.fromkeys(names, 1.0))
    for t, limit in zip(names, limits.tolist(), strict=True):
        least = goal.best(weights={t: 1.0}).losses[t]
        if least > limit * (1 + _MET):
            most = 100 * (1 - least / float(before[t]))
            raise UserError(
                "improve", f"{t!r} by {100 * improve[t]:.3g} percent cannot be reached: {most:.3g} is the most that any mixture gives", "ask for less"
            )
    prior, law, case = nonzero(base), goal.fit.law_record(), scenarios([asked])
    multipliers, rho, h, worst = np.zeros(len(names)), _RHO, prior, math.inf
    end = None
    for _ in range(_ROUNDS):
        end = descend(Reaching(law), (case, prior, limits, multipliers, np.float64(rho)), goal, (prior, np.maximum(h, 1e-9)))
        h = np.asarray(end.h)
        losses = goal.losses(h)
        passed = np.array([float(losses[t]) for t in names]) / limits - 1.0
        after = np.maximum(0.0, multipliers + rho * passed)
        violation = float(np.max(np.where(after > 0, np.abs(passed), np.maximum(passed, 0.0))))
        multipliers = after
        rho = rho * _GROWTH if violation > 0.25 * worst else rho
        worst = min(worst, violation)
        if worst <= 0.1 * _MET:
            break
    assert end is not None
    if worst > _MET:
        raise UserError("improve", "no mixture within the limits reaches these improvements together", "ask for less of some, or for fewer")
    return measure(goal, start, base, h, float(end.gap))
