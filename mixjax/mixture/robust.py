"""Mixtures that many fits agree on (goals -> ROBUST): least mean or tail regret over parameter
sets, and the regret of any mixture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from mixjax.errors import UserError
from mixjax.fitting.record import Fit
from mixjax.mixture.losses import Tail, descend, scenarios
from mixjax.mixture.question import Floats, Goal
from mixjax.text import table

# Smoothing of the tail, relative to regrets of 1 (objectives differ by less than 100 percent): from
# coarse to fine.
_ROUNDING = 1e-12
_SMOOTHING = (1e-3, 1e-4, 1e-5, 1e-6)


@dataclass(frozen=True)
class Regrets:
    """Regret of one mixture under each fit: its objective above that fit's own optimum, relatively.

    Attributes:
        weights: {domain: share}.
        each: (fits,); mean, tail (CVaR at the level asked for) and worst of them.
    """

    weights: dict[str, float]
    each: tuple[float, ...]
    mean: float
    tail: float
    worst: float


@dataclass(frozen=True)
class Robust:
    """The robust mixture beside others.

    Attributes:
        mixtures: {name: Regrets}, the robust one first.
        level: of the tail: the mean of the worst (1 - level) of the regrets is what the robust
            mixture makes small.
        gap: the robust mixture's tail is at most this above the least one, where the laws are
            convex; relative regret.
    """

    mixtures: dict[str, Regrets]
    level: float
    gap: float

    def __str__(self) -> str:
        """Regrets in percent, and shares."""
        tails = self.level > 0  # the mean of all of them is there already
        rows = [
            [name, *(f"{100 * x:.4f}" for x in (r.mean, *([r.tail] if tails else []), r.worst))]
            for name, r in self.mixtures.items()
        ]
        first = next(iter(self.mixtures.values()))
        shares = [
            [d, *(f"{100 * r.weights[d]:.2f}" for r in self.mixtures.values())]
            for d in first.weights
        ]
        head = [
            "regret %",
            "mean",
            *([f"worst {100 * (1 - self.level):g} %"] if tails else []),
            "largest",
        ]
        return (
            table(head, rows)
            + f"\nover {len(first.each)} fits; gap {self.gap:.1e}\n\n"
            + table(["share %", *self.mixtures], shares)
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain content for JSON."""
        return asdict(self)


def goals_of(goal: Goal, fits: Sequence[Fit]) -> list[Goal]:
    """The same goal for each of these fits.

    Raises:
        UserError: no fits, or fits of other domains or without a target that counts.
    """
    if not fits:
        raise UserError("robust", "there are no fits", "give at least one")
    goals = []
    for i, fit in enumerate(fits):
        if fit.domains != goal.fit.domains:
            raise UserError(
                f"fit {i + 1}",
                f"has the domains {', '.join(fit.domains)}",
                f"give fits of {', '.join(goal.fit.domains)}, in this order",
            )
        missing = next((t for t in goal.shares if t not in fit.targets), None)
        if missing is not None:
            raise UserError(
                f"fit {i + 1}",
                f"has no target {missing!r}",
                "give fits of the same targets, or other --weights",
            )
        goals.append(goal.but(fit=fit, weights=goal.shares))
    return goals


def members(fit: Fit, params: Mapping[str, Mapping[str, Floats]]) -> list[Fit]:
    """Fits of many parameter sets: resamples, near-optimal minima.

    Args:
        fit: of the same law, domains and targets.
        params: {target: {parameter: (sets,) or (sets, k)}}, in the law's own form as in
            `Fit.params`.

    Raises:
        UserError: not equally many sets everywhere.
    """
    counts = {len(values) for of_target in params.values() for values in of_target.values()}
    if len(counts) != 1:
        raise UserError(
            "parameter sets",
            f"there are {', '.join(map(str, sorted(counts, reverse=True)))} of them",
            "give equally many for every target and parameter",
        )

    def one(i: int) -> Fit:
        return replace(
            fit,
            params={
                t: {name: v[i] if np.ndim(v) > 1 else float(v[i]) for name, v in p.items()}
                for t, p in params.items()
            },
        )

    return [one(i) for i in range(counts.pop())]


def robust_mixture(
    goal: Goal,
    fits: Sequence[Fit],
    level: float = 0.0,
    others: Mapping[str, Mapping[str, float]] | None = None,
) -> Robust:
    """The mixture whose regrets over many fits have the least mean, or the least mean of their
    worst part.

        min over h of CVaR_level of the regrets r_s(h) = (f_s(h) - f_s(h_s*)) / |f_s(h_s*)|

    Args:
        goal: scale, weights and limits; its fit counts only as one of `fits` if it is among them.
        fits: parameter sets: resamples, near-optimal minima, other laws; same domains.
        level: 0 for the mean, towards 1 for the largest regret: the mean of the worst (1 - level)
            is made small.
        others: mixtures to judge beside it, {name: {domain: share}}; uniform shares and each fit's
            optimum come by themselves ("uniform", and "optimum of fit i" for up to five fits).

    Raises:
        UserError: a level outside [0, 1), fits that do not go together, or what `optimal_mixture`
            refuses.
    """
    if not 0 <= level < 1:
        raise UserError(
            "level",
            f"{level:g} is not from 0 to below 1",
            "give 0 for the mean, 0.9 for the worst tenth",
        )
    goals = goals_of(goal, fits)
    own = [g.best() for g in goals]
    optima = np.array([goal.array(m.weights) for m in own])
    best = np.array([float(g.value(h)) for g, h in zip(goals, optima, strict=True)])
    h, gap = _least_tail(goals, best, level, optima)
    given = {
        "robust": goal.named(h),
        **(others or {}),
        "uniform": dict.fromkeys(goal.fit.domains, 1.0),
    }
    if len(goals) <= 5:
        given |= {f"optimum of fit {i + 1}": m.weights for i, m in enumerate(own)}
    return Robust(
        {name: _regrets(goals, best, goal.array(w), level) for name, w in given.items()},
        float(level),
        gap,
    )


def regrets(
    goal: Goal, fits: Sequence[Fit], weights: Mapping[str, float], level: float = 0.0
) -> Regrets:
    """The regret of any mixture under each fit; arguments as in `robust_mixture`."""
    goals = goals_of(goal, fits)
    best = np.array([g.best().objective for g in goals])
    return _regrets(goals, best, goal.array(weights), level)


def tail_mean(values: Floats, level: float) -> float:
    """CVaR: the mean of the worst (1 - level) of these values (n,), the one on the edge counted in
    part."""
    mass = (1.0 - level) * len(values)
    worst = np.sort(values)[::-1]
    part = np.clip(mass - np.arange(len(values)), 0.0, 1.0)
    return float(worst @ part / mass) if mass >= 1 else float(worst[0])


def _regrets(goals: Sequence[Goal], best: Floats, h: Floats, level: float) -> Regrets:
    each = np.array([float(g.value(h)) for g in goals]) / best - 1.0
    each = each * np.sign(best)
    each = np.where(np.abs(each) < _ROUNDING, 0.0, each)
    return Regrets(
        goals[0].named(h),
        tuple(each.tolist()),
        float(each.mean()),
        tail_mean(each, level),
        float(each.max()),
    )


def _least_tail(
    goals: Sequence[Goal], best: Floats, level: float, optima: Floats
) -> tuple[Floats, float]:
    """The mixture (k,) of least tail regret, and a bound on what is left to gain by first order."""
    order = sorted(range(len(goals)), key=lambda i: goals[i].fit.law)
    laws: dict[Any, list[Goal]] = {}
    for i in order:
        laws.setdefault(goals[i].fit.scaling_law, []).append(goals[i])
    cases = tuple(scenarios(group) for group in laws.values())
    position = {id(g): i for i, g in enumerate(goals)}
    sorted_best = np.array([best[position[id(g)]] for group in laws.values() for g in group])
    cap = min(1.0, 1.0 / ((1.0 - level) * len(goals)))
    h, gap = optima.mean(axis=0), math.inf
    for smoothing in _SMOOTHING if cap * len(goals) > 1 + 1e-12 else _SMOOTHING[:1]:
        end = descend(
            Tail(tuple(laws)),
            (cases, sorted_best, np.float64(cap), np.float64(smoothing)),
            goals[0],
            (h, *optima[:3]),
        )
        h = np.asarray(end.h)
        gap = max(float(end.gap), 0.0) + smoothing * math.log(max(cap * len(goals), 1.0))
    return h, gap
