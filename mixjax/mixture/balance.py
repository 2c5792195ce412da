"""Several targets weighed without weights (goal, limits or references -> BALANCED, LIMITED): the
worst one made best, or some kept within limits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mixjax.errors import UserError, check_names
from mixjax.mixture.lagrangian import MET, Levelled, keep_within, least_worst
from mixjax.mixture.limits import at_bounds
from mixjax.mixture.losses import box_of
from mixjax.mixture.optimum import Mixture, is_convex
from mixjax.mixture.question import Floats, Goal
from mixjax.text import table


@dataclass(frozen=True)
class Balanced:
    """The mixture whose worst target is least badly off.

    Attributes:
        weights: {domain: share}.
        losses: {target: predicted loss}, all targets of the fit.
        references: {target: the loss that its excess is relative to}, of the targets that count.
        excess: {target: w_t (loss / reference - 1)}; objective: the largest of them.
        gap: the objective is at most this above the least one, where `convex`.
        pressing: {target: part of the objective's pressure that it exerts}, sums to 1; 0 for
            targets that are better off than need be. Weights of the losses in proportion to these
            over the references lead to the same mixture.
        bound: {domain or group: "cap" or "floor"} of those that would pass it.
        convex: the laws are known to be convex in the weights.
        agreeing, starts: how many of the last starts ended within 1e-9 of the best objective.
        N, D: counts.
    """

    weights: dict[str, float]
    losses: dict[str, float]
    references: dict[str, float]
    excess: dict[str, float]
    objective: float
    gap: float
    pressing: dict[str, float]
    bound: dict[str, str]
    convex: bool
    agreeing: int
    starts: int
    N: float | None
    D: float | None

    def __str__(self) -> str:
        """Shares, and how far each target is above its reference."""
        rows = [
            [
                t,
                f"{self.losses[t]:.5f}",
                f"{r:.5f}",
                f"{100 * self.excess[t]:+.4f}",
                f"{100 * self.pressing[t]:.1f}",
            ]
            for t, r in self.references.items()
        ]
        parts = [
            _shares(self.weights, self.bound),
            table(["target", "loss", "reference", "excess %", "presses %"], rows),
        ]
        end = (
            f"largest excess {100 * self.objective:+.6f} percent, gap {100 * self.gap:.1e} "
            f"percent ({_trust(self.convex, self.starts)})"
        )
        return "\n\n".join([*parts, end])

    def to_dict(self) -> dict[str, Any]:
        """Plain content for JSON."""
        return asdict(self)


def worst_target(goal: Goal, references: Mapping[str, float] | None = None) -> Balanced:
    """The mixture of least max_t w_t (L_t(h) / reference_t - 1).

    Args:
        goal: weights are how much the excess of each target counts.
        references: {target: loss}; of a target that is not named, the least loss that any mixture
            within the limits gives it. The losses of a mixture in use ask for the mixture that
            improves every target on it by as much as can be.

    Raises:
        UserError: an unknown target, a reference that is not above 0, or what `optimal_mixture`
            refuses.
    """
    level = _references(goal, list(goal.shares), references)
    found = least_worst(goal, level)
    return Balanced(
        weights=goal.named(found.h),
        losses={t: float(x) for t, x in goal.losses(found.h).items()},
        references=level,
        excess=found.excess,
        objective=found.largest,
        gap=found.gap,
        pressing=found.multipliers,
        bound=_bound(goal, found.h),
        convex=_is_convex(goal, list(level)),
        agreeing=found.agreeing,
        starts=found.starts,
        N=goal.N,
        D=goal.D,
    )


@dataclass(frozen=True)
class Limited:
    """The best mixture that keeps some losses within limits.

    Attributes:
        weights: {domain: share}.
        losses: {target: predicted loss}, all targets of the fit.
        objective: weighted sum of losses.
        gap: the objective is at most this above the least one, where `convex`.
        limits: {target: largest loss}, met to 1e-7, relatively; far better where the limits leave
            room.
        prices: {target: how much the objective falls for each percent that its limit is raised}; 0
            for limits that do not bind.
        free: the optimum without limits on losses.
        bound: {domain or group: "cap" or "floor"} of those that would pass it.
        convex: the laws are known to be convex in the weights.
        agreeing, starts: how many of the last starts ended within 1e-9 of the best objective.
        N, D: counts.
    """

    weights: dict[str, float]
    losses: dict[str, float]
    objective: float
    gap: float
    limits: dict[str, float]
    prices: dict[str, float]
    free: Mixture
    bound: dict[str, str]
    convex: bool
    agreeing: int
    starts: int
    N: float | None
    D: float | None

    def __str__(self) -> str:
        """Shares, and losses beside their limits and the optimum without them."""
        shares = [
            [d, f"{100 * w:.4f}", self.bound.get(d, ""), f"{100 * self.free.weights[d]:.4f}"]
            for d, w in self.weights.items()
        ]
        limits = {t: [f"{limit:.5f}", f"{self.prices[t]:.6f}"] for t, limit in self.limits.items()}
        rows = [
            [t, f"{x:.5f}", *limits.get(t, ["", ""]), f"{self.free.losses[t]:.5f}"]
            for t, x in self.losses.items()
        ]
        rows.append(["objective", f"{self.objective:.5f}", "", "", f"{self.free.objective:.5f}"])
        parts = [
            table(["domain", "share %", "", "without limits %"], shares),
            table(["target", "loss", "limit", "price of 1 %", "without limits"], rows),
        ]
        end = (
            f"objective {self.objective:.6f}, gap {self.gap:.1e} "
            f"({_trust(self.convex, self.starts)})"
        )
        return "\n\n".join([*parts, end])

    def to_dict(self) -> dict[str, Any]:
        """Plain content for JSON."""
        return asdict(self) | {"free": self.free.to_dict()}


def limited_mixture(
    goal: Goal,
    above: Mapping[str, float] | None = None,
    at_most: Mapping[str, float] | None = None,
    references: Mapping[str, float] | None = None,
) -> Limited:
    """The mixture of least weighted sum of losses with L_t(h) <= limit_t.

    Args:
        goal: what is minimised; its limits on shares hold too.
        above: {target: how far its loss may be above its reference, relatively}: {"code": 0.01}
            allows 1 percent.
        at_most: {target: largest loss}.
        references: {target: loss}; of a target that is not named, the least loss that any mixture
            within the limits gives it.

    Raises:
        UserError: no limits, an unknown target or one with two limits, limits that no mixture meets
            (the message says by how much they are missed), or what `optimal_mixture` refuses.
    """
    above, at_most = dict(above or {}), dict(at_most or {})
    _check_limits(goal, above, at_most)
    level = _references(goal, list(above), references)
    if references is None:
        for t, x in above.items():
            if x < 0:
                raise UserError(
                    f"limit of {t!r}",
                    f"{100 * x:g} percent above its own best is out of reach: it cannot be below 0",
                    "give 0 or more, or a loss",
                )
    limits = {
        t: level[t] * (1.0 + above[t]) if t in above else float(at_most[t])
        for t in goal.fit.targets
        if t in above or t in at_most
    }
    within = _reachable(goal, limits)
    free = goal.best()
    if all(free.losses[t] <= limits[t] for t in limits):
        h, prices, gap, agreeing, starts = (
            goal.array(free.weights),
            dict.fromkeys(limits, 0.0),
            free.gap,
            free.agreeing,
            free.starts,
        )
    else:
        found = keep_within(goal, limits, starts=(within.h, goal.array(free.weights)))
        h, gap, agreeing, starts = found.h, found.gap, found.agreeing, found.starts
        prices = {t: 0.01 * m for t, m in found.multipliers.items()}
        if found.violation > MET:
            what = (
                f"{', '.join(limits)} cannot be met together: the nearest mixture found passes "
                f"them by {100 * found.violation:.2g} percent"
            )
            raise UserError("limits", what, "loosen them a little")
    return Limited(
        weights=goal.named(h),
        losses={t: float(x) for t, x in goal.losses(h).items()},
        objective=float(goal.value(h)),
        gap=gap,
        limits=limits,
        prices=prices,
        free=free,
        bound=_bound(goal, h),
        convex=_is_convex(goal, [*goal.shares, *limits]),
        agreeing=agreeing,
        starts=starts,
        N=goal.N,
        D=goal.D,
    )


# --- What both need ------------------------------------------------------------------------------


def _references(
    goal: Goal, targets: list[str], given: Mapping[str, float] | None
) -> dict[str, float]:
    """{target: reference}: the one given, else the loss of the target's own optimum."""
    given = given or {}
    unknown = next((t for t in given if t not in goal.fit.targets), None)
    if unknown is not None:
        raise UserError(
            "reference", f"no target {unknown!r}", f"choose from {', '.join(goal.fit.targets)}"
        )
    found = {
        t: float(given[t]) if t in given else goal.best(weights={t: 1.0}).losses[t] for t in targets
    }
    for t, loss in found.items():
        if not (math.isfinite(loss) and loss > 0):
            raise UserError(
                f"reference of {t!r}",
                f"{loss:g} is not a loss above 0",
                "an excess is relative: give a positive loss, or leave the target out",
            )
    return found


def _check_limits(goal: Goal, above: Mapping[str, float], at_most: Mapping[str, float]) -> None:
    if not above and not at_most:
        raise UserError("limits", "there are none", "name a target and how far its loss may go")
    check_names((*above, *at_most), goal.fit.targets, "limits", "target")
    twice = next((t for t in above if t in at_most), None)
    if twice is not None:
        raise UserError("limits", f"{twice!r} has two", "give a relative limit or a loss")
    for t, x in above.items():
        if not (math.isfinite(x) and x > -1):
            raise UserError(
                f"limit of {t!r}",
                f"{100 * x:g} percent above its reference is no loss",
                "give a number above -100 percent",
            )
    for t, x in at_most.items():
        if not (math.isfinite(x) and x > 0):
            raise UserError(
                f"limit of {t!r}",
                f"{x:g} is not a loss above 0",
                "give a loss, or how far it may be above its best, e.g. 1%",
            )


def _reachable(goal: Goal, limits: Mapping[str, float]) -> Levelled:
    """A mixture within the limits, once there is known to be one."""
    for t, limit in limits.items():
        least = goal.best(weights={t: 1.0}).losses[t]
        if least > limit * (1.0 + MET):
            raise UserError(
                f"limit of {t!r}",
                (
                    f"{limit:.5g} is out of reach: {least:.5g} is the least loss that any "
                    f"mixture gives it"
                ),
                "raise the limit",
            )
    nearest = least_worst(goal.but(weights=dict.fromkeys(limits, 1.0)), limits, enough=0.0)
    if nearest.largest > MET:
        clash = [t for t, q in nearest.multipliers.items() if q > 1e-3]
        clash = clash if len(clash) > 1 else list(limits)  # one alone can be met
        missed = (
            f"{', '.join(clash)} cannot be met together: the mixture nearest to that passes "
            f"each by {100 * nearest.largest:.3g} percent"
        )
        raise UserError("limits", missed, "loosen them by as much, or some by more")
    return nearest


def _is_convex(goal: Goal, targets: list[str]) -> bool:
    return is_convex(goal.fit, np.array([float(t in targets) for t in goal.fit.targets]))


def _bound(goal: Goal, h: Floats) -> dict[str, str]:
    return at_bounds(h, box_of(goal), goal.fit.domains, goal.groups)


def _shares(weights: Mapping[str, float], bound: Mapping[str, str]) -> str:
    return table(
        ["domain", "share %", ""],
        [[d, f"{100 * w:.4f}", bound.get(d, "")] for d, w in weights.items()],
    )


def _trust(convex: bool, starts: int) -> str:
    return "at most this above the least" if convex else f"best of {starts} starts"
