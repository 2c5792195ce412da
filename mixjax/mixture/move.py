"""Moves away from the mixture in use (goal, base -> MOVES): what each step towards the optimum buys
and risks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from mixjax.errors import UserError
from mixjax.mixture.losses import Pulled, box_of, descend, descend_lifted, scenarios
from mixjax.mixture.prior import kl, nonzero
from mixjax.mixture.question import Floats, Goal
from mixjax.mixture.roots import Bracket, Indices, find_roots
from mixjax.mixture.supply import epochs_of
from mixjax.numerics import distance_to_hull
from mixjax.text import table

# Strengths of the pull that are searched, relative to the size of the objective, and the exactness
# of their logarithm.
_STRENGTHS, _EXACT = (1e-9, 1e4), 1e-6


@dataclass(frozen=True)
class Move:
    """One mixture on the way from the base.

    Attributes:
        weights: {domain: share}.
        kl: KL(h | base), nats; moved: share of the tokens that changes domain, half the L1
            distance.
        objective: and gain, by how much it is below the base's, relatively.
        losses: {target: predicted loss}.
        epochs: the largest number of passes over a domain of known supply; None without any.
        outside: share of it that would have to move to reach the hull of the training mixtures, 0
            inside; None where they are not known.
        gap: first-order optimality gap of the step's own problem.
    """

    weights: dict[str, float]
    kl: float
    moved: float
    objective: float
    gain: float
    losses: dict[str, float]
    epochs: float | None
    outside: float | None
    gap: float

    def __str__(self) -> str:
        """Shares and losses, and how far it is from the base."""
        known = [
            ("largest number of epochs", self.epochs),
            ("share outside the trained mixtures", self.outside),
        ]
        rows = [
            ["share moved %", f"{100 * self.moved:.2f}"],
            ["KL from the base", f"{self.kl:.5f}"],
            ["gain of the objective %", f"{100 * self.gain:.3f}"],
        ]
        rows += [[name, f"{x:.3g}"] for name, x in known if x is not None]
        parts = [
            table(["move", ""], rows),
            table(["domain", "share %"], [[d, f"{100 * w:.3f}"] for d, w in self.weights.items()]),
        ]
        return "\n\n".join(
            [*parts, table(["target", "loss"], [[t, f"{x:.5f}"] for t, x in self.losses.items()])]
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain content for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Moves:
    """From the base (first) to the optimum (last), with the knee: the step after which more moving
    buys clearly less."""

    steps: tuple[Move, ...]
    knee: int

    def __str__(self) -> str:
        """One line a step."""
        full = self.steps[-1].gain
        rows = []
        for i, s in enumerate(self.steps):
            part = "-" if full <= 0 else f"{100 * s.gain / full:.0f}"
            epochs, outside = ("-" if x is None else f"{x:.3g}" for x in (s.epochs, s.outside))
            name = {0: "base", len(self.steps) - 1: "optimum"}.get(i, "")
            name = f"{name} knee".strip() if i == self.knee else name
            shares = (f"{100 * w:.1f}" for w in s.weights.values())
            rows.append(
                [
                    name,
                    f"{s.kl:.4f}",
                    f"{100 * s.moved:.1f}",
                    f"{s.objective:.5f}",
                    f"{100 * s.gain:.3f}",
                    part,
                    epochs,
                    outside,
                    *shares,
                ]
            )
        head = [
            "step",
            "KL",
            "moved %",
            "objective",
            "gain %",
            "of all %",
            "epochs",
            "outside",
            *self.steps[0].weights,
        ]
        return table(head, rows)

    def to_dict(self) -> dict[str, Any]:
        """Plain content for JSON."""
        return {"steps": [asdict(s) for s in self.steps], "knee": self.knee}


@dataclass(frozen=True, eq=False)
class Start:
    """Where a move begins and what its steps are measured by.

    Attributes:
        base: {domain: share} of the mixture in use, scaled to sum to 1.
        tokens: {domain: tokens available}, for epochs.
        trained: mixtures of the runs (runs, k) in the order of the fit's domains, for the distance
            to their hull.
    """

    base: Mapping[str, float]
    tokens: Mapping[str, float] | None = None
    trained: Floats | None = None


def trust_path(
    goal: Goal, start: Start, steps: int = 10, region: Literal["kl", "l1"] = "kl"
) -> Moves:
    """The best mixtures within growing trust regions around a base.

        min f(h)   over mixtures within the limits,   distance(h, base) <= r,   r from 0 to that of
        the optimum

    with KL(h | base), or half of |h - base|_1, the share of tokens that changes domain, as the
    distance. Each step is found as the minimum of f(h) + strength * distance, with the strength
    (the multiplier of the region) searched until the distance is r. The radii are even in sqrt(KL),
    which is near to even in share moved, or in L1. Where f is not convex the path may jump: the
    step then ends on the near side of the jump.

    Args:
        steps: number of regions, the optimum's the last.
        region: "kl" spreads a move over all domains, "l1" lets those be that matter least.

    Raises:
        UserError: a base that is no mixture of these domains or not within the limits, or what
            `optimal_mixture` refuses.
    """
    if steps < 1:
        raise UserError("steps", f"{steps} is below 1", "give the number of trust regions, e.g. 10")
    if region not in ("kl", "l1"):
        raise UserError("region", f"no distance {region!r}", "choose kl or l1")
    base = goal.array(start.base)
    _check_within(goal, base)
    optimum = goal.best()
    best = goal.array(optimum.weights)
    step = (_kl_step if region == "kl" else _l1_step)(goal, base, best)
    farthest = step.distance(best)
    first, last = (
        measure(goal, start, base, base, 0.0),
        measure(goal, start, base, best, optimum.gap),
    )
    radii = farthest * np.linspace(0.0, 1.0, steps + 1)[1:-1]
    if farthest < 1e-6 or not len(radii):
        return Moves((first, last), 1)

    def over(log_strengths: Floats, which: Indices) -> Floats:
        return (
            np.array([step.distance(step.to(math.exp(s))[0]) for s in log_strengths.tolist()])
            - radii[which]
        )

    low, high = (np.full(len(radii), math.log(end)) for end in _STRENGTHS)
    weak, strong = over(low[:1], np.arange(1)) + radii[0], over(high[:1], np.arange(1)) + radii[0]
    strengths = find_roots(over, Bracket(low, high, weak - radii, strong - radii), _EXACT)
    moves = [
        first,
        *(measure(goal, start, base, *step.to(math.exp(s + _EXACT))) for s in strengths.tolist()),
        last,
    ]
    return Moves(tuple(moves), _knee(moves))


class Step(NamedTuple):
    """The distance (root of KL, or half of L1) of a mixture (k,), and strength -> the mixture and
    its gap."""

    distance: Callable[[Floats], float]
    to: Callable[[float], tuple[Floats, float]]


def _kl_step(goal: Goal, base: Floats, best: Floats) -> Step:
    prior, law, case, scale = (
        nonzero(base),
        goal.fit.scaling_law,
        scenarios([goal]),
        abs(float(goal.value(best))),
    )

    def to(strength: float) -> tuple[Floats, float]:
        end = descend(Pulled(law), (case, prior, np.float64(scale * strength)), goal, (prior, best))
        return np.asarray(end.h), float(end.gap)

    return Step(lambda h: math.sqrt(kl(h, prior)), to)


def _l1_step(goal: Goal, base: Floats, best: Floats) -> Step:
    law, case, scale = goal.fit.scaling_law, scenarios([goal]), abs(float(goal.value(best)))

    def to(strength: float) -> tuple[Floats, float]:
        return descend_lifted(
            law, (case, np.float64(scale * strength)), goal, base, (base, best, 0.5 * (base + best))
        )

    return Step(lambda h: 0.5 * float(np.abs(h - base).sum()), to)


def measure(goal: Goal, start: Start, base: Floats, h: Floats, gap: float) -> Move:
    """What there is to say of one mixture h (k,) beside the base (k,)."""
    before, after = float(goal.value(base)), float(goal.value(h))
    passes = epochs_of(goal.named(h), start.tokens, goal.D)
    return Move(
        weights=goal.named(h),
        kl=float(kl(h, nonzero(base))),
        moved=0.5 * float(np.abs(h - base).sum()),
        objective=after,
        gain=(before - after) / abs(before),
        losses={t: float(x) for t, x in goal.losses(h).items()},
        epochs=max(passes.values()) if passes else None,
        outside=None if start.trained is None else distance_to_hull(h, start.trained),
        gap=max(gap, 0.0),
    )


def _check_within(goal: Goal, base: Floats) -> None:
    box = box_of(goal)
    for d, share, floor, cap in zip(
        goal.fit.domains,
        base.tolist(),
        *(np.asarray(side).tolist() for side in (box.floors, box.caps)),
        strict=True,
    ):
        if not floor - 1e-9 <= share <= cap + 1e-9:
            raise UserError(
                "base",
                f"{d!r} has {share:.4g}, outside its limits {floor:.4g} to {cap:.4g}",
                "move the limits, or begin from another mixture",
            )


def _knee(moves: list[Move]) -> int:
    """The step farthest above the chord from the base to the optimum, in gain against share
    moved."""
    moved, gain = np.array([m.moved for m in moves]), np.array([m.gain for m in moves])
    if gain[-1] <= 0 or moved[-1] <= 0:
        return len(moves) - 1
    return int(np.argmax(gain / gain[-1] - moved / moved[-1]))
