"""Fit + runs -> what the data PIN DOWN: curvature at the optimum, flat directions, limits, mixtures
far from the trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from mixjax.data.runs import Runs, copies
from mixjax.fitting.problem import Problem, at_limit, from_paper, make_problem, to_paper
from mixjax.fitting.record import Fit
from mixjax.law.base import parameter_names
from mixjax.numerics import distance_to_hull
from mixjax.text import Record, table

Floats = NDArray[np.float64]

# A direction is flat where a unit step in the search's coordinates (logarithms of sizes, exponents
# as they are) raises the objective by less than this share of it.
RISE = 0.01
_SHOWN = 4  # parameters of a flat direction


@dataclass(frozen=True)
class Flat:
    """A direction in which the parameters may move and the objective hardly does."""

    rise: float  # of the objective for a unit step, over the objective
    step: float  # that raises the objective by 1 percent
    # {parameter of the law: its part}, relative change for sizes and change for exponents, the
    # largest 1; the few largest.
    moves: Mapping[str, float]


@dataclass(frozen=True)
class Pinned:
    """What the rows of one target say about its parameters."""

    parameters: int  # how many there are
    determined: int  # how many directions are not flat
    condition: float  # largest over smallest curvature; infinite where some direction has none
    flat: tuple[Flat, ...]  # the flattest directions first
    at_limit: tuple[str, ...]  # parameters that ran off


@dataclass(frozen=True)
class Outside:
    """A point whose mixture lies outside the hull of the trained ones."""

    row: int  # of the points
    share: float  # of the mixture that would have to move to reach the hull
    domains: Mapping[str, float]  # {domain: how far beyond its trained range}


@dataclass(frozen=True)
class Identified(Record):
    """What a table pins down of a fit, and where it would be asked beyond it."""

    targets: Mapping[str, Pinned]  # what the rows of each say
    copies: int  # rows that repeat another row of their run in all but D
    outside: tuple[Outside, ...]  # the points that lie there, each mixture once

    def __str__(self) -> str:
        """One line a target, its flattest direction in words, and what lies outside."""
        head = ["target", "parameters", "pinned down", "condition", "at a limit"]
        rows = []
        for t, p in self.targets.items():
            numbers = [p.parameters, p.determined, f"{p.condition:.1e}"]
            rows.append([t, *numbers, ", ".join(p.at_limit) or None, _words(p)])
        lines = [table([*head, "flattest direction"], rows)]
        if self.copies:
            what = "rows repeat another row of their run in all but D: they carry no information"
            lines.append(f"{self.copies} {what}")
        for point in self.outside:
            beyond = ", ".join(f"{d} by {x:+.3f}" for d, x in point.domains.items())
            beyond = f" ({beyond} beyond its range)" if beyond else ""
            share = f"{100 * point.share:.1f}% of its mixture lies outside the trained ones"
            lines.append(f"point {point.row}: {share}{beyond}")
        return "\n".join(lines)


def identify(fit: Fit, runs: Runs, points: Runs | None = None) -> Identified:
    """What the rows of a fit pin down of its parameters, and which mixtures of `points` lie outside
    the trained ones.

    The curvature is that of Gauss and Newton with the weights of Huber's loss, J' diag(w min(1,
    delta / |r|)) J with J the derivative of the predictions in the coordinates of the search.

    Raises:
        UserError: a table that does not belong to the fit.
    """
    rows = runs.reordered(fit.domains)
    # Without the prior, which pins down every direction: asked is what the rows do.
    plain = replace(fit.huber, prior="none")
    problem = make_problem(rows, fit.scaling_law, fit.targets, plain)
    targets = {t: _pinned(problem, g, fit) for g, t in enumerate(problem.targets)}
    asked = points if fit.domains else None
    outside = () if asked is None else _outside(asked.reordered(fit.domains), rows)
    return Identified(targets, copies(rows), outside)


def curvature(problem: Problem, group: int, z: Floats) -> tuple[Floats, float]:
    """Gauss-Newton matrix (q, q) and objective () of one target at z (q,), in its units."""
    with jax.enable_x64(True):
        data = problem.data.of(group)
        value, _, matrix = problem.objective.curved(jnp.asarray(z), data)
        return np.asarray(matrix), float(value)


def _pinned(problem: Problem, group: int, fit: Fit) -> Pinned:
    z = from_paper(problem, group, fit.params[problem.targets[group]])
    matrix, value = curvature(problem, group, z)
    values, vectors = np.linalg.eigh(np.nan_to_num(matrix, nan=0.0, posinf=0.0, neginf=0.0))
    values = np.maximum(values, 0.0)
    rises = 0.5 * values / max(value, 1e-300)
    flat = []
    for rise, curve, vector in zip(rises, values, vectors.T, strict=True):
        if rise < RISE:
            step = float(np.sqrt(2 * RISE * value / curve)) if curve > 0 else np.inf
            flat.append(Flat(float(rise), step, _moves(problem, group, z, vector)))
    condition = float(values[-1] / values[0]) if values[0] > 0 else np.inf
    return Pinned(len(z), len(z) - len(flat), condition, tuple(flat), at_limit(problem, z))


def _moves(problem: Problem, group: int, z: Floats, vector: Floats) -> dict[str, float]:
    """Parts of the law's own parameters in a direction of the search, the largest 1."""
    law, changes = problem.law, []
    with np.errstate(all="ignore"):
        ends = [to_paper(problem, group, z + step * vector) for step in (-1e-4, 1e-4)]
        for p in law.parameters:
            low, high = (np.atleast_1d(np.asarray(end[p.name], dtype=np.float64)) for end in ends)
            changes.append(np.log(high / low) if p.domain == "positive" else high - low)
    change = np.nan_to_num(np.concatenate(changes), nan=0.0, posinf=0.0, neginf=0.0)
    names = parameter_names(law, ("own",) if law.own_domain else problem.domains)
    largest = np.argsort(-np.abs(change), kind="stable")[:_SHOWN]
    top = change[largest[0]] or 1.0
    shown = [i for i in largest if abs(change[i]) > 0.05 * abs(top)]
    return {names[i]: round(float(change[i] / top), 3) for i in shown}


def _outside(points: Runs, runs: Runs) -> tuple[Outside, ...]:
    mixtures = np.unique(runs.h, axis=0)
    low, high = mixtures.min(axis=0), mixtures.max(axis=0)
    out = []
    for i in np.sort(np.unique(points.h, axis=0, return_index=True)[1]):
        h = points.h[i]
        share = distance_to_hull(h, mixtures)
        if share > 0:
            pairs = zip(points.domains, h - np.clip(h, low, high), strict=True)
            beyond = {d: float(x) for d, x in pairs if abs(x) > 1e-9}
            out.append(Outside(int(points.rows[i]), share, beyond))
    return tuple(out)


def _words(pinned: Pinned) -> str | None:
    if not pinned.flat:
        return None
    first = pinned.flat[0]
    step = f"{first.step:.2g}" if np.isfinite(first.step) else "any"
    return f"step {step}: " + ", ".join(f"{name} {part:+.2g}" for name, part in first.moves.items())
