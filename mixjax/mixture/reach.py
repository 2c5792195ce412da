"""The smallest move that reaches stated improvements (goal, base, improvements -> MOVE)."""

from __future__ import annotations

import math
from collections.abc import Mapping

from mixjax.errors import UserError, check_names
from mixjax.mixture.lagrangian import MET, keep_within
from mixjax.mixture.move import Move, Start, measure
from mixjax.mixture.prior import nonzero
from mixjax.mixture.question import Goal


def smallest_move(goal: Goal, start: Start, improve: Mapping[str, float]) -> Move:
    """The mixture nearest to the base that improves targets by stated amounts.

        min KL(h | base)   over mixtures within the limits,   L_t(h) <= (1 - improve_t) L_t(base)

    By an augmented Lagrangian whose inner problems are solved by mirror descent; limits are met to
    1e-7, relatively.

    Args:
        improve: {target: relative improvement}, e.g. {"code": 0.02}; 0 asks for no loss, a negative
            number allows one.

    Raises:
        UserError: an unknown target, or improvements that no mixture reaches; the message says how
            far each could go alone.
    """
    unknown = next((t for t in improve if t not in goal.fit.targets), None)
    if unknown is not None:
        check_names([unknown], goal.fit.targets, "improve", "target")
    if not improve or not all(math.isfinite(x) and x < 1 for x in improve.values()):
        raise UserError(
            "improve",
            f"{dict(improve)} are not improvements below 1",
            "write target: part of its loss, e.g. code: 0.02",
        )
    base = goal.array(start.base)
    before = goal.losses(base)
    names = [t for t in goal.fit.targets if t in improve]
    limits = [(1.0 - improve[t]) * float(before[t]) for t in names]
    for t, limit in zip(names, limits, strict=True):
        least = goal.best(weights={t: 1.0}).losses[t]
        if least > limit * (1 + MET):
            most = 100 * (1 - least / float(before[t]))
            raise UserError(
                "improve",
                (
                    f"{t!r} by {100 * improve[t]:.3g} percent cannot be reached: {most:.3g} is "
                    f"the most that any mixture gives"
                ),
                "ask for less",
            )
    prior = nonzero(base)
    found = keep_within(
        goal.but(weights={}), dict(zip(names, limits, strict=True)), (prior, 1.0), (prior,)
    )
    if found.violation > MET:
        raise UserError(
            "improve",
            "no mixture within the limits reaches these improvements together",
            "ask for less of some, or for fewer",
        )
    return measure(goal, start, base, found.h, found.gap)
