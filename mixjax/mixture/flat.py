"""The flat region around the optimum (goal, eps -> REGION): how far each share may go before the
loss is worse by eps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mixjax.errors import UserError
from mixjax.mixture.question import Floats, Goal
from mixjax.mixture.roots import Bracket, Indices, find_roots
from mixjax.text import table

# Ends of an interval are found to this share.
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Interval:
    """Shares of one domain within the flat region.

    Attributes:
        low, high: ends; best: the share of the optimum.
        at_low, at_high: the mixture {domain: share} that is best of those with that share, within
            eps of the optimum.
        low_limit, high_limit: the end is that of the limits (a floor, a cap, 0 or 1), not of the
            loss.
    """

    low: float
    best: float
    high: float
    at_low: dict[str, float]
    at_high: dict[str, float]
    low_limit: bool
    high_limit: bool


@dataclass(frozen=True)
class Region:
    """{domain: Interval}, for objectives of at most (1 + eps) times the optimum's."""

    intervals: dict[str, Interval]
    eps: float
    objective: float
    convex: bool
    N: float | None
    D: float | None

    def __str__(self) -> str:
        """One line a domain, in percent."""
        rows = [
            [
                d,
                f"{100 * i.low:.2f}{'*' if i.low_limit else ' '}",
                f"{100 * i.best:.2f}",
                f"{100 * i.high:.2f}{'*' if i.high_limit else ' '}",
            ]
            for d, i in self.intervals.items()
        ]
        note = (
            f"one share at a time, the others best for it; objective within {100 * self.eps:g} "
            f"percent of {self.objective:.6f}; * the end of the limits"
        )
        return table(["share %", "from ", "best", "to "], rows) + "\n" + note

    def to_dict(self) -> dict[str, Any]:
        """Plain content for JSON."""
        return asdict(self)


def flat_region(goal: Goal, eps: float = 0.001) -> Region:
    """For each domain the interval of shares that keeps the objective within eps of the optimum,
    relatively.

        min and max of h_i   over mixtures h within the limits,   f(h) <= (1 + eps) f(h*)

    The best objective at a given share, g_i(s) = min {f(h) : h_i = s}, is found by mirror descent;
    the ends are the roots of g_i(s) = (1 + eps) f(h*) below and above the optimum. Where f is
    convex in h, so is g_i and the interval is all there is; where not, it is the part around the
    optimum.

    Args:
        eps: relative, e.g. 0.001 for 0.1 percent.

    Raises:
        UserError: eps not above 0, or what `optimal_mixture` refuses.
    """
    if not (np.isfinite(eps) and eps > 0):
        raise UserError("eps", f"{eps:g} is not above 0", "give a relative loss, e.g. 0.001")
    best = goal.best()
    h, domains = goal.array(best.weights), goal.fit.domains
    level = eps * abs(best.objective)
    low, high = share_limits(goal)
    ends = [(i, side) for side in (low, high) for i in range(len(domains))]
    edges = np.array([side[i] for i, side in ends])
    which_domain = np.array([i for i, _ in ends])
    found: dict[int, Mapping[str, float]] = {}

    def excess(shares: Floats, which: Indices) -> Floats:
        changes = [
            fixed(goal, domains[which_domain[j]], share)
            for share, j in zip(shares, which, strict=True)
        ]
        mixtures = goal.bests(changes)
        found.update(
            {int(j): m.weights for j, m in zip(which, mixtures, strict=True) if m is not None}
        )
        rise = np.array([np.inf if m is None else m.objective for m in mixtures]) - best.objective
        return np.sqrt(np.maximum(rise, 0.0) / level) - 1.0  # nearly linear in the share

    centre = h[which_domain]
    everything = np.arange(len(ends))
    at_edge = excess(edges, everything)
    limited = at_edge <= 0
    bracket = Bracket(
        np.minimum(edges, centre), np.maximum(edges, centre), *_values(edges < centre, at_edge)
    )
    roots = edges.copy()
    open_ends = np.flatnonzero(~limited)
    if len(open_ends):
        part = Bracket(*(side[open_ends] for side in bracket))
        roots[open_ends] = find_roots(lambda x, which: excess(x, open_ends[which]), part, TOLERANCE)
        excess(roots[open_ends], open_ends)
    k = len(domains)
    return Region(
        {
            d: Interval(
                low=float(roots[i]),
                best=float(h[i]),
                high=float(roots[k + i]),
                at_low=dict(found[i]),
                at_high=dict(found[k + i]),
                low_limit=bool(limited[i]),
                high_limit=bool(limited[k + i]),
            )
            for i, d in enumerate(domains)
        },
        float(eps),
        best.objective,
        best.convex,
        goal.N,
        goal.D,
    )


def _values(edge_is_low: np.ndarray, at_edge: Floats) -> tuple[Floats, Floats]:
    """The function at the low and the high ends: -1 at the optimum."""
    return np.where(edge_is_low, at_edge, -1.0), np.where(edge_is_low, -1.0, at_edge)


def share_limits(goal: Goal) -> tuple[Floats, Floats]:
    """Smallest and largest share (k,) that each domain can have within caps and floors."""
    domains = goal.fit.domains
    caps = np.array([(goal.caps or {}).get(d, 1.0) for d in domains])
    floors = np.array([(goal.floors or {}).get(d, 0.0) for d in domains])
    rest_caps, rest_floors = caps.sum() - caps, floors.sum() - floors
    return np.clip(1.0 - rest_caps, floors, caps), np.clip(1.0 - rest_floors, floors, caps)


def fixed(goal: Goal, domain: str, share: float) -> dict[str, Any]:
    """The change of a goal that holds one domain at a share."""
    share = float(share)
    return {
        "caps": {**(goal.caps or {}), domain: share},
        "floors": {**(goal.floors or {}), domain: share},
    }
