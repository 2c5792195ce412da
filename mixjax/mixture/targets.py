"""How the optimum moves with what is wanted (question, target weights -> OPTIMA): corners (paper,
Fig. 7) and the map w -> h*(w) (Figs. 8, 9)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mixjax.drawing import charts
from mixjax.errors import UserError
from mixjax.mixture.many import Vary, finite_optima, one_target, optima
from mixjax.mixture.optimum import Optimum, optimum_at
from mixjax.mixture.question import Floats, Question, jensen_shannon
from mixjax.text import Record, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Newton's method on one face: steps, and the largest change of a log share in one.
_STEPS, _STRIDE, _DIFFERENCE = 60, 1.0, 1e-6
# No share of a fixed point differs from that of its own optimum by more; points nearer in all
# shares are one.
_FIXED, _SAME = 1e-4, 1e-3
_INSIDE = 1e-4  # smallest share in the inside of a face


class Corners(dict[str, Optimum]):
    """{target: the optimum for it alone}."""

    def to_dict(self) -> dict[str, Any]:
        """Plain content for JSON."""
        return plain(self)

    def figure(self) -> Figure:
        """Shares in percent: a row a target, a column a domain."""
        shares = [list(optimum.weights.values()) for optimum in self.values()]
        return charts.share_table(list(self), list(next(iter(self.values())).weights), shares)


def corners(question: Question, targets: Sequence[str] | None = None) -> Corners:
    """The optimum for one target at a time; the targets that are training domains by default. Paper
    Fig. 7.

    Raises:
        UserError: an unknown target, or what `optimal_mixture` refuses.
    """
    known = question.fit.targets
    names = [t for t in known if t in question.domains] or known if targets is None else targets
    unknown = next((t for t in names if t not in known), None)
    if unknown is not None:
        raise UserError("corners", f"no target {unknown!r}", f"choose from {', '.join(known)}")
    answers = finite_optima(question, one_target(question, names), "corners")
    alone = [question.but(weights={name: 1.0}) for name in names]
    return Corners({name: optimum_at(alone[i], answers, i) for i, name in enumerate(names)})


@dataclass(frozen=True, eq=False)
class TargetMap(Record):
    """h*(w) over a grid of target weights.

    Attributes:
        domains: names, of targets and of training domains alike.
        w, h: target weights and optimal shares (points, k).
        distance: Jensen-Shannon distance (points,) of w and h*(w).
        fixed: {(k,) shares} with h*(w) = w, one a row; corners included.
    """

    domains: tuple[str, ...]
    w: Floats
    h: Floats
    distance: Floats
    fixed: Floats

    def figure(self) -> Figure:
        """The distance of target weights and their optimum over the simplex, with fixed points."""
        return charts.simplex_map(
            charts.Map(self.domains, self.w, self.h, self.distance, self.fixed)
        )


def simplex_grid(k: int, divisions: int) -> Floats:
    """All mixtures (points, k) whose shares are multiples of 1 / divisions."""
    bars = itertools.combinations(range(divisions + k - 1), k - 1)
    counts = [np.diff([-1, *bar, divisions + k - 1]) - 1 for bar in bars]
    return np.array(counts, dtype=np.float64) / divisions


def target_map(
    question: Question, domains: Sequence[str] | None = None, divisions: int | None = None
) -> TargetMap:
    """The map w -> h*(w) on the simplex of some domains, and its fixed points. Paper Figs. 8 and 9,
    eq. (13).

    Where h*(w) differs from w it is better to train on another mixture than the one that one wants
    to be good at.

    Args:
        question: its weights are not read. Shares of domains that are not named are 0.
        domains: 2 to 4 names that are targets too; the first 3 of those by default.
        divisions: of the grid: by default 20 for three domains, 10 for four.

    Raises:
        UserError: names that are not both domains and targets, too few or too many, or what
            `optimal_mixture` refuses.
    """
    both = [d for d in question.domains if d in question.fit.targets]
    names = tuple(both[:3] if domains is None else domains)
    odd = next((d for d in names if d not in both), None)
    if odd is not None:
        what = f"{odd!r} is not both a domain and a target"
        raise UserError("map", what, f"choose from {', '.join(both)}")
    if not 2 <= len(set(names)) == len(names) <= 4:
        remedy = "name 2 to 4 different domains that are targets too"
        raise UserError("map", f"{len(names)} domains", remedy)
    none = {d: 0.0 for d in question.domains if d not in names}
    inside = question.but(caps={**(question.caps or {}), **none})
    w = simplex_grid(len(names), divisions or {2: 40, 3: 20, 4: 10}[len(names)])
    h = best_shares(inside, names, w)
    distance = jensen_shannon(w, h)
    return TargetMap(names, w, h, distance, fixed_points(inside, names, w, distance))


def best_shares(question: Question, names: Sequence[str], w: Floats) -> Floats:
    """h*(w) (points, k) for target weights w (points, k), among these domains; not a number where
    the law is nowhere finite."""
    weights = np.zeros((len(w), len(question.fit.targets)))
    weights[:, [question.fit.targets.index(name) for name in names]] = w
    answers = optima(question, Vary(weights=weights))
    h = answers.h[:, [question.domains.index(name) for name in names]]
    return np.where(np.isfinite(answers.objective)[:, None], h, np.nan)


def fixed_points(question: Question, names: tuple[str, ...], w: Floats, distance: Floats) -> Floats:
    """Fixed points (points, k) of w -> h*(w): where the slopes of sum_i w_i L_i at h = w are equal
    for all domains with a share.

    That condition needs no optimum: Newton's method solves it on every face of the simplex, from
    the points of the grid inside the face that are nearest to their optimum. What it finds is kept
    if the optimum there is the point itself.
    """
    k = len(names)
    place = np.array([question.domains.index(d) for d in names])
    found: list[Floats] = []
    for size in range(1, k + 1):
        for face in itertools.combinations(range(k), size):
            on = np.array(face)
            off = np.setdiff1d(np.arange(k), on)
            inside = np.flatnonzero(np.all(w[:, on] > 0, axis=1) & np.all(w[:, off] == 0, axis=1))
            for start in inside[np.argsort(distance[inside])][: 1 if size == 1 else 3]:
                point = w[start] if size == 1 else _newton(question, names, place, on, w[start])
                if point is None or any(np.max(np.abs(point - x)) < _SAME for x in found):
                    continue
                found.append(point)
    if not found:
        return np.zeros((0, k))
    points = np.array(found)
    return points[np.max(np.abs(points - best_shares(question, names, points)), axis=1) < _FIXED]


def _newton(
    question: Question,
    names: tuple[str, ...],
    place: NDArray[np.intp],
    on: NDArray[np.intp],
    start: Floats,
) -> Floats | None:
    """The fixed point in the inside of a face, as log shares against the last; None where there is
    none nearby."""

    def mixture(x: Floats) -> Floats:
        scores = np.append(x, 0.0)
        shares = np.exp(scores - scores.max())
        point = np.zeros(len(names))
        point[on] = shares / shares.sum()
        return point

    def unequal(x: Floats) -> Floats:
        point = mixture(x)
        h = np.zeros(len(question.domains))
        h[place] = point
        slopes = question.slopes(h)
        total = np.sum([point[i] * slopes[names[i]].h[place] for i in on.tolist()], axis=0)
        return total[on[:-1]] - total[on[-1]]

    x: Floats = np.log(start[on[:-1]] / start[on[-1]])
    y = unequal(x)
    for _ in range(_STEPS):
        size = float(np.max(np.abs(y)))
        if not np.isfinite(size):
            return None
        if size < 1e-12:
            break
        sides = [(x + _DIFFERENCE * one, x - _DIFFERENCE * one) for one in np.eye(len(x))]
        slope = np.stack([unequal(up) - unequal(down) for up, down in sides], axis=1)
        slope /= 2 * _DIFFERENCE
        move = np.asarray(-np.linalg.lstsq(slope, y, rcond=None)[0], dtype=np.float64)
        move *= min(1.0, _STRIDE / max(float(np.max(np.abs(move))), 1e-300))
        for _ in range(20):
            trial = unequal(x + move)
            if np.max(np.abs(trial)) < size:
                break
            move = 0.5 * move
        else:
            return None
        x, y = x + move, trial
        if mixture(x)[on].min() < _INSIDE:
            return None
    return mixture(x) if np.max(np.abs(y)) < 1e-8 else None
