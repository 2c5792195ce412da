"""Model size, tokens and mixture together (question, FLOPs -> BUDGET): the lowest loss that a
compute budget buys."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mixjax.drawing import charts
from mixjax.errors import UserError
from mixjax.mixture.optimum import Optima, Optimum, Vary, best_of, boxes_at, optima
from mixjax.mixture.question import Floats, Question
from mixjax.text import table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# FLOPs of one token and parameter, forward and backward.
FLOPS = 6.0
# Sizes and token counts that are looked at: at least this, a count.
_LEAST = 1e6
_GRID, _EXACT = 41, 1e-5


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
    mixture: Optimum
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

    def figure(self) -> Figure:
        """Along the budget: the objective of the best mixture against N, and its shares."""
        best = self.mixture
        assert best.N is not None
        assert best.D is not None
        near = [point for point in self.curve if 1 / 30 <= point.N / best.N <= 30]
        return charts.budget_curve(
            [point.N for point in near],
            [point.objective for point in near],
            [list(point.weights.values()) for point in near],
            list(best.weights),
            (best.N, best.D, best.objective),
            self.flops,
        )


def compute_optimal(question: Question, flops: float) -> Budget:
    """The N, D and mixture of least objective for a compute budget C = 6 N D.

        min over N of  min over h of f(N, C / (6 N), h)

    The inner minimum is the optimal mixture; the outer one is bracketed on a grid of log N, whose
    optima are one batched call, and found to 1e-5 in log N. The caps of a supply of tokens move
    with D.

    Args:
        question: its N and D are not read.
        flops: C, a count.

    Raises:
        UserError: C too small, a law that does not read both N and D, or limits that no split
            meets.
    """
    from scipy.optimize import minimize_scalar

    if not all(question.law.reads):
        raise UserError(
            "budget",
            f"the {question.fit.law} law does not read both N and D",
            "fit additive, joint or another law of N and D",
        )
    product = flops / FLOPS
    if not (math.isfinite(product) and product > _LEAST**2):
        raise UserError(
            "flops",
            f"{flops:g} is below {FLOPS * _LEAST**2:g}",
            "give the training compute in FLOPs, e.g. 1e22",
        )
    supply = {"tokens": question.tokens, "epochs": question.epochs}
    free = question.but(N=None, D=None, tokens=None)

    def splits(log_n: Floats) -> Optima:
        N = np.exp(log_n)
        D = product / N
        return optima(free, Vary(N=N, D=D, boxes=boxes_at(free.but(**supply), D, len(N))))

    def value(log_n: float) -> float:
        return float(splits(np.array([log_n])).objective[0])

    log_n = np.linspace(math.log(_LEAST), math.log(product / _LEAST), _GRID)
    grid = splits(log_n)
    if not np.isfinite(grid.objective).any():
        raise UserError(
            "budget",
            "no split of this budget has a mixture within the limits",
            "allow more epochs, raise caps or lower floors",
        )
    lowest = int(np.argmin(grid.objective))
    low, high = log_n[max(lowest - 1, 0)], log_n[min(lowest + 1, _GRID - 1)]
    search: Any = minimize_scalar(
        value, bounds=(low, high), method="bounded", options={"xatol": _EXACT}
    )
    best_log_n = search.x if search.fun < grid.objective[lowest] else log_n[lowest]
    N = math.exp(best_log_n)
    best = best_of(free.but(N=N, D=product / N, **supply))
    points = [
        Point(float(N), float(D), float(objective), grid.weights(i))
        for i, (N, D, objective) in enumerate(
            zip(np.exp(log_n), product / np.exp(log_n), grid.objective, strict=True)
        )
        if np.isfinite(objective)
    ]
    return Budget(float(flops), best, lowest in (0, _GRID - 1), tuple(points))
