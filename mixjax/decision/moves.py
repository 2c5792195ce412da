"""Moves away from the mixture in use (goal, base -> MOVES): what each step buys and risks, and the smallest that reaches a goal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mixjax.decision.goal import Floats, Goal
from mixjax.decision.hull import hull_distance
from mixjax.decision.objectives import Pulled, Reaching, box_of, descend, scenarios
from mixjax.decision.roots import Bracket, find_roots
from mixjax.decision.supply import epochs_of
from mixjax.errors import UserError
from mixjax.summary import table

# A domain that the base leaves out counts as this share in the Kullback-Leibler divergence, or it could never be entered.
LEAST_SHARE = 1e-4
# Strengths of the pull that are searched, relative to the size of the objective, and the exactness of their logarithm.
_STRENGTHS, _EXACT = (1e-9, 1e4), 1e-6
# Augmented Lagrangian: rounds, first weight and its growth, limits met to this, relatively.
_ROUNDS, _RHO, _GROWTH, _MET = 60, 10.0, 4.0, 1e-7


@dataclass(frozen=True)
class Move:
    """One mixture on the way from the base.

    Attributes:
        weights: {domain: share}.
        kl: KL(h | base), nats; moved: share of the tokens that changes domain, half the L1 distance.
        objective: and gain, by how much it is below the base's, relatively.
        losses: {target: predicted loss}.
        epochs: the largest number of passes over a domain of known supply; None without any.
        outside: Euclidean distance to the hull of the training mixtures, 0 inside; None where they are not known.
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
        known = [("largest number of epochs", self.epochs), ("distance to the trained mixtures", self.outside)]
        rows = [["share moved %", f"{100 * self.moved:.2f}"], ["KL from the base", f"{self.kl:.5f}"], ["gain of the objective %", f"{100 * self.gain:.3f}"]]
        rows += [[name, f"{x:.3g}"] for name, x in known if x is not None]
        parts = [table(["move", ""], rows), table(["domain", "share %"], [[d, f"{100 * w:.3f}"] for d, w in self.weights.items()])]
        return "\n\n".join([*parts, table(["target", "loss"], [[t, f"{x:.5f}"] for t, x in self.losses.items()])])

    def to_dict(self) -> dict[str, Any]:
        """Plain content for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Moves:
    """From the base (first) to the optimum (last), with the knee: the step after which more moving buys clearly less."""

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
            rows.append([name, f"{s.kl:.4f}", f"{100 * s.moved:.1f}", f"{s.objective:.5f}", f"{100 * s.gain:.3f}", part, epochs, outside, *shares])
        head = ["step", "KL", "moved %", "objective", "gain %", "of all %", "epochs", "outside", *self.steps[0].weights]
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
        trained: mixtures of the runs (runs, k) in the order of the fit's domains, for the distance to their hull.
    """

    base: Mapping[str, float]
    tokens: Mapping[str, float] | None = None
    trained: Floats | None = None


def trust_path(goal: Goal, start: Start, steps: int = 10) -> Moves:
    """The best mixtures within growing trust regions around a base.

        min f(h)   over mixtures within the limits,   KL(h | base) <= r,   r from 0 to that of the optimum

    Each is found as the minimum of f(h) + strength KL(h | base), with the strength (the multiplier of the region) searched
    until the divergence is r. The radii are even in sqrt(KL), which is near to even in share moved. Where f is not convex the
    path may jump: the step then ends on the near side of the jump.

    Args:
        steps: number of regions, the optimum's the last.

    Raises:
        UserError: a base that is no mixture of these domains or not within the limits, or what `optimal_mixture` refuses.
    """
    if steps < 1:
        raise UserError("steps", f"{steps} is below 1", "give the number of trust regions, e.g. 10")
    base = goal.array(start.base)
    _check_within(goal, base)
    prior, law, case = _prior(base), goal.fit.law_record(), scenarios([goal])
    best = goal.array(goal.best().weights)
    scale = abs(float(goal.value(best)))
    farthest = kl(best, prior)
    first = measure(goal, start, base, base, 0.0)
    if farthest < 1e-12:
        return Moves((first, measure(goal, start, base, best, goal.best().gap)), 1)
    radii = farthest * np.linspace(0.0, 1.0, steps + 1)[1:-1] ** 2

    def pulled(log_strength: float) -> tuple[Floats, float]:
        end = descend(Pulled(law), (case, prior, np.float64(scale * math.exp(log_strength))), goal, (prior, best))
        return np.asarray(end.h), float(end.gap)

    def over(log_strengths: Floats, which: np.ndarray) -> Floats:
        return np.array([math.sqrt(kl(pulled(s)[0], prior)) for s in log_strengths.tolist()]) - np.sqrt(radii[which])

    moves = [first]
    if len(radii):
        low, high = (np.full(len(radii), math.log(end)) for end in _STRENGTHS)
        every = np.arange(len(radii))
        weak, strong = math.sqrt(kl(pulled(low[0])[0], prior)), math.sqrt(kl(pulled(high[0])[0], prior))
        strengths = find_roots(over, Bracket(low, high, weak - np.sqrt(radii[every]), strong - np.sqrt(radii[every])), _EXACT)
        moves += [measure(goal, start, base, *pulled(s)) for s in (strengths + _EXACT).tolist()]
    moves.append(measure(goal, start, base, best, goal.best().gap))
    return Moves(tuple(moves), _knee(moves))


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
    prior, law, case = _prior(base), goal.fit.law_record(), scenarios([asked])
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


def kl(h: Floats, prior: Floats) -> float:
    """KL(h | prior), nats, for prior > 0; not below 0."""
    on = h > 0
    return max(0.0, float(np.sum(h[on] * np.log(h[on] / prior[on]))))


def measure(goal: Goal, start: Start, base: Floats, h: Floats, gap: float) -> Move:
    """What there is to say of one mixture h (k,) beside the base (k,)."""
    before, after = float(goal.value(base)), float(goal.value(h))
    passes = epochs_of(goal.named(h), start.tokens, goal.D)
    return Move(
        weights=goal.named(h),
        kl=kl(h, _prior(base)),
        moved=0.5 * float(np.abs(h - base).sum()),
        objective=after,
        gain=(before - after) / abs(before),
        losses={t: float(x) for t, x in goal.losses(h).items()},
        epochs=max(passes.values()) if passes else None,
        outside=None if start.trained is None else hull_distance(start.trained, h),
        gap=max(gap, 0.0),
    )


def _prior(base: Floats) -> Floats:
    """The base with no share of exactly 0."""
    lifted = np.maximum(base, LEAST_SHARE)
    return lifted / lifted.sum()


def _check_within(goal: Goal, base: Floats) -> None:
    box = box_of(goal)
    for d, share, floor, cap in zip(goal.fit.domains, base.tolist(), *(np.asarray(side).tolist() for side in box), strict=True):
        if not floor - 1e-9 <= share <= cap + 1e-9:
            raise UserError("base", f"{d!r} has {share:.4g}, outside its limits {floor:.4g} to {cap:.4g}", "move the limits, or begin from another mixture")


def _knee(moves: list[Move]) -> int:
    """The step farthest above the chord from the base to the optimum, in gain against share moved."""
    moved, gain = np.array([m.moved for m in moves]), np.array([m.gain for m in moves])
    if gain[-1] <= 0 or moved[-1] <= 0:
        return len(moves) - 1
    return int(np.argmax(gain / gain[-1] - moved / moved[-1]))
