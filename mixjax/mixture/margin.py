"""What a little more would bring (question, mixture -> MARGINS): tokens of a domain, and limits
that bind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixjax.mixture.limits import NEAR
from mixjax.mixture.optimum import Optimum, best_of
from mixjax.mixture.question import Floats, Question
from mixjax.text import table


@dataclass(frozen=True)
class Margins:
    """Marginal value of every domain at one mixture, in the unit of the loss.

    Attributes:
        weights: {domain: share}.
        added: {domain: df / d log T_i}, T_i = h_i D its tokens, the other domains keeping theirs: D
            grows with T_i.
        swapped: {domain: df / d log h_i} at constant D: the others give way in proportion to their
            shares.
        targets: {target: {domain: dL_t / d log T_i}}.
    """

    weights: dict[str, float]
    added: dict[str, float]
    swapped: dict[str, float]
    targets: dict[str, dict[str, float]]

    def __str__(self) -> str:
        """One line a domain: what 1 percent more tokens of it change, in thousandths of the loss's
        unit."""
        scale = 10.0  # 1 percent, in thousandths
        rows = [
            [
                d,
                f"{100 * share:.2f}",
                f"{scale * self.added[d]:+.4f}",
                f"{scale * self.swapped[d]:+.4f}",
                *(f"{scale * t[d]:+.4f}" for t in self.targets.values()),
            ]
            for d, share in self.weights.items()
        ]
        note = (
            "change, in 1/1000 of the loss's unit, by 1 percent more tokens of a domain: added "
            "to the run, or swapped for the others (D kept)"
        )
        return (
            table(
                ["domain", "share %", "added", "swapped", *(f"{t} added" for t in self.targets)],
                rows,
            )
            + "\n"
            + note
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain content for JSON."""
        return asdict(self)


def marginal_values(question: Question, weights: Mapping[str, float] | None = None) -> Margins:
    """Marginal value of every domain at a mixture; at the optimum where none is given.

        T_i = h_i D:   dL / d log T_i = h_i (dL/d log D + dL/dh_i - sum_j h_j dL/dh_j)

    Raises:
        UserError: what `Question.array` or `optimal_mixture` refuses.
    """
    h = question.array(best_of(question).weights if weights is None else weights)
    slopes = question.slopes(h)

    def swapped(slope: Floats) -> Floats:
        return h * (slope - h @ slope)

    of_target = {t: swapped(s.h) + h * s.log_d for t, s in slopes.items()}
    moved = sum(w * swapped(slopes[t].h) for t, w in question.weighed.items())
    added = sum(w * of_target[t] for t, w in question.weighed.items())
    return Margins(
        question.named(h),
        question.named(added),
        question.named(moved),
        {t: question.named(v) for t, v in of_target.items()},
    )


@dataclass(frozen=True)
class Limits:
    """The optimum within limits beside the one without, and what each limit costs.

    Attributes:
        feasible, free: the optimum with and without caps and floors.
        cost: objective of the feasible one above the free one, relatively.
        prices: {domain or group: -df/d(limit)} of the limits that bind, in the unit of the
            objective per share: how fast the objective falls as a cap is raised or a floor is
            lowered. Its multiplier; 0 for limits that do not matter.
    """

    feasible: Optimum
    free: Optimum
    cost: float
    prices: dict[str, float]

    def __str__(self) -> str:
        """Both mixtures, and the price of a limit for one point of share (0.01)."""
        price = {d: f"{0.01 * p:.6f}" for d, p in self.prices.items()}
        rows = [
            [
                d,
                f"{100 * self.free.weights[d]:.2f}",
                f"{100 * share:.2f}",
                self.feasible.bound.get(d, ""),
                price.get(d, ""),
            ]
            for d, share in self.feasible.weights.items()
        ]
        rows += [
            [g, "", "", side, price.get(g, "")]
            for g, side in self.feasible.bound.items()
            if g not in self.feasible.weights
        ]
        rows.append(
            [
                "objective",
                f"{self.free.objective:.5f}",
                f"{self.feasible.objective:.5f}",
                f"{100 * self.cost:+.3f}%",
                "",
            ]
        )
        return table(["share %", "free", "feasible", "bound", "price of 1 point"], rows)

    def to_dict(self) -> dict[str, Any]:
        """Plain content for JSON."""
        return {
            "feasible": self.feasible.to_dict(),
            "free": self.free.to_dict(),
            "cost": self.cost,
            "prices": self.prices,
        }


def price_limits(question: Question) -> Limits:
    """The optimum within the question's caps and floors, the one without them, and the price of
    every limit that binds.

    By the conditions of Karush, Kuhn and Tucker the slopes of f at the optimum are equal for all
    domains between their limits; a capped domain's slope is lower by the price of its cap, that of
    a domain at its floor higher by the price of it.

    Raises:
        UserError: what `optimal_mixture` refuses.
    """
    feasible = best_of(question)
    free = best_of(question.but(caps=None, floors=None, fixed=None, tokens=None))
    h, box, domains = question.array(feasible.weights), question.box, question.domains
    slope, caps, floors = question.slope(h), np.asarray(box.caps), np.asarray(box.floors)
    at_cap, at_floor = (h >= caps - NEAR) & (caps < 1), (h <= floors + NEAR) & (floors > 0)
    # A group that binds has a level of its own, which its domains share.
    groups = question.groups or {}
    binding = {g: np.isin(domains, groups[g]) for g in groups if g in feasible.bound}
    common = ~np.any([*binding.values(), np.zeros(len(h), dtype=bool)], axis=0)
    own = {g: _level(h, slope, at_cap, at_floor, inside) for g, inside in binding.items()}
    if common.any():
        level = _level(h, slope, at_cap, at_floor, common)
    else:
        level = float(np.mean(list(own.values())))
    levels = np.full(len(h), level)
    for g, inside in binding.items():
        levels[inside] = own[g]

    def price(above: float, at_cap: bool, at_floor: bool) -> float:
        """Of a limit whose slope is so far above the level; a fixed share may press either way."""
        if at_cap and at_floor:
            return abs(above)
        return max(0.0, -above if at_cap else above)

    prices = {
        d: price(float(slope[i] - levels[i]), bool(at_cap[i]), bool(at_floor[i]))
        for i, d in enumerate(domains)
        if at_cap[i] or at_floor[i]
    }
    prices |= {g: price(own[g] - level, feasible.bound[g] == "cap", False) for g in binding}
    cost = (feasible.objective - free.objective) / abs(free.objective)
    return Limits(feasible, free, cost, prices)


def _level(
    h: Floats,
    slope: Floats,
    at_cap: NDArray[np.bool_],
    at_floor: NDArray[np.bool_],
    inside: NDArray[np.bool_],
) -> float:
    """The slope () that these domains share between their limits.

    At a corner of the limits any level between the two sides will do, and the middle is taken.
    """
    between = inside & ~at_cap & ~at_floor & (h > NEAR)
    if between.any():
        return float(h[between] @ slope[between] / h[between].sum())
    sides = [
        np.max(slope[inside & at_cap], initial=-np.inf),
        np.min(slope[inside & at_floor], initial=np.inf),
    ]
    return float(np.mean([s for s in sides if np.isfinite(s)] or [0.0]))
