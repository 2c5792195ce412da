"""Model size, tokens and mixture together (goal, FLOPs -> BUDGET): the lowest loss that a compute
budget buys."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mixjax.errors import UserError
from mixjax.mixture.optimum import Mixture
from mixjax.mixture.question import Floats, Goal
from mixjax.mixture.supply import caps_from_tokens
from mixjax.text import table

# FLOPs of one token and parameter, forward and backward.
FLOPS = 6.0
# Sizes and token counts that are looked at: at least this, a count.
_LEAST = 1e6
_GRID, _SECTION, _EXACT = 41, 9, 1e-5


@dataclass(frozen=True)
class Point:
    """One split of the budget: counts N and D, the objective of the best mixture there, and its
    weights {domain: share}."""

    N: float
    D: float
    objective: float
    weights: dict[str, float]


@dataclass(frozen=True)
class Budget:
    """The best split of a compute budget.

    Attributes:
        flops: C = 6 N D.
        mixture: the optimum there: N, D, weights, losses.
        at_edge: the best split is the last one looked at: the law has no optimum inside.
        curve: objective and mixture along C = 6 N D, N rising; splits that no mixture meets are
            left out.
    """

    flops: float
    mixture: Mixture
    at_edge: bool
    curve: tuple[Point, ...]

    def __str__(self) -> str:
        """The split and its mixture, and what half and twice the size would cost."""
        best = self.mixture
        assert best.N is not None
        assert best.D is not None
        rows = [
            ["N", f"{best.N:.4g}"],
            ["D", f"{best.D:.4g}"],
            ["D / N", f"{best.D / best.N:.4g}"],
            ["objective", f"{best.objective:.6f}"],
        ]
        curve = np.array([[math.log(p.N), p.objective] for p in self.curve])
        for times in (0.5, 2.0):
            at = math.log(best.N * times)
            if curve[0, 0] <= at <= curve[-1, 0]:
                rows.append(
                    [f"objective at {times:g} N", f"{np.interp(at, curve[:, 0], curve[:, 1]):.6f}"]
                )
        edge = (
            "\nthe best split is at the end of the range: the law does not bend along this budget"
            if self.at_edge
            else ""
        )
        return table([f"C = {self.flops:.4g} FLOPs", "best"], rows) + edge + "\n\n" + str(best)

    def to_dict(self) -> dict[str, Any]:
        """Plain content for JSON."""
        return {
            "flops": self.flops,
            **self.mixture.to_dict(),
            "at_edge": self.at_edge,
            "curve": [asdict(p) for p in self.curve],
        }


def compute_optimal(
    goal: Goal, flops: float, tokens: Mapping[str, float] | None = None, epochs: float = 1.0
) -> Budget:
    """The N, D and mixture of least objective for a compute budget C = 6 N D.

        min over N of  min over h of f(N, C / (6 N), h)

    The inner minimum is the optimal mixture; the outer one is bracketed on a grid of log N and
    found by sections to 1e-5 in log N.

    Args:
        goal: its N and D are not read.
        flops: C, a count.
        tokens, epochs: supply of domains, see `caps_from_tokens`: the caps then move with D.

    Raises:
        UserError: C too small, a law that does not read both N and D, or limits that no split
            meets.
    """
    if not all(goal.fit.scaling_law.reads):
        raise UserError(
            "budget",
            f"the {goal.fit.law} law does not read both N and D",
            "fit additive, joint or another law of N and D",
        )
    product = flops / FLOPS
    if not (math.isfinite(product) and product > _LEAST**2):
        raise UserError(
            "flops",
            f"{flops:g} is below {FLOPS * _LEAST**2:g}",
            "give the training compute in FLOPs, e.g. 1e22",
        )

    def mixtures(log_n: Floats) -> list[Mixture | None]:
        changes: dict[int, dict[str, Any]] = {}
        for i, N in enumerate(np.exp(log_n).tolist()):
            D = product / N
            try:
                caps = caps_from_tokens(tokens, D, goal.fit.domains, epochs, goal.caps)
            except UserError:
                if i == 0 and len(log_n) == _GRID and _unmet(tokens, goal):
                    raise
                continue
            changes[i] = {"N": N, "D": D, "caps": caps or None}
        solved = dict(zip(changes, goal.bests(changes.values()), strict=True))
        return [solved.get(i) for i in range(len(log_n))]

    log_n = np.linspace(math.log(_LEAST), math.log(product / _LEAST), _GRID)
    found = mixtures(log_n)
    values = np.array([np.inf if m is None else m.objective for m in found])
    if not np.isfinite(values).any():
        raise UserError(
            "budget",
            "no split of this budget has a mixture within the limits",
            "allow more epochs, raise caps or lower floors",
        )
    at = int(np.argmin(values))
    edge = at in (0, _GRID - 1)
    best, curve = found[at], found
    low, high = log_n[max(at - 1, 0)], log_n[min(at + 1, _GRID - 1)]
    while high - low > _EXACT:
        section = np.linspace(low, high, _SECTION)
        found = mixtures(section)
        values = np.array([np.inf if m is None else m.objective for m in found])
        at = int(np.argmin(values))
        best = found[at]
        low, high = section[max(at - 1, 0)], section[min(at + 1, _SECTION - 1)]
    assert best is not None
    points = [
        Point(float(m.N), float(m.D), m.objective, m.weights)
        for m in curve
        if m is not None and m.N is not None and m.D is not None
    ]
    return Budget(float(flops), best, edge, tuple(points))


def _unmet(tokens: Mapping[str, float] | None, goal: Goal) -> bool:
    """Whether the supply is wrong in itself, not only short at the largest D: then its error is the
    user's to see."""
    try:
        caps_from_tokens(tokens, _LEAST, goal.fit.domains, 1.0, goal.caps)
    except UserError:
        return True
    return False
