"""What one group of targets costs another (question, groups -> FRONT): mixtures that no other beats
in all groups at once, and a knee."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mixjax.drawing import charts
from mixjax.errors import UserError
from mixjax.mixture.many import Vary, nowhere_finite, optima
from mixjax.mixture.question import Floats, Question
from mixjax.mixture.targets import simplex_grid
from mixjax.text import table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Steps between the ends: of two groups and, along each side, of three. Both have the point of equal
# weights, the knee.
DIVISIONS = {2: 40, 3: 12}
# Where the front ends: a group's loss falls by this part of what another's rises by, both
# relatively. Without an end losses would go on to where a domain that a group needs has no share at
# all.
_END = 0.01
# Rounds in which stretches wider than this, in steps of an even front, are halved.
_HALVINGS, _WIDE = 4, 1.5
# A point is beaten by one that is nowhere higher and somewhere lower by this, relatively; points
# nearer than this are one.
_SAME = 1e-9
# Rows of the printed table.
_SHOWN = 11


@dataclass(frozen=True, eq=False)
class Front:
    """The Pareto front between groups of targets, in the order of the first group's loss.

    Attributes:
        groups: {name: {target: weight in the group's loss}}, weights sum to 1.
        domains: names.
        h: domain weights (points, k).
        losses: mean loss of each group (points, groups).
        weights: of the groups' losses in the sum that each point makes least (points, groups); rows
            sum to 1.
        gap: first-order optimality gap of that sum (points,), relative to it.
        knee: the point where the groups' losses, each scaled from 0 to 1 between its ends, have the
            least sum.
        beside: {name: (mixture (k,), losses (groups,))} of other mixtures.
        convex: the laws are known to be convex in the weights: the front is all there is. Elsewhere
            parts that bend inwards are not seen, and points are the best of several starts.
        N, D: counts.
    """

    groups: dict[str, dict[str, float]]
    domains: tuple[str, ...]
    h: Floats
    losses: Floats
    weights: Floats
    gap: Floats
    knee: int
    beside: dict[str, tuple[Floats, Floats]]
    convex: bool
    N: float | None
    D: float | None

    def __str__(self) -> str:
        """Some points of the front, the knee among them, and the other mixtures."""
        even = np.linspace(0, len(self.h) - 1, _SHOWN).round().astype(int).tolist()
        shown = sorted({self.knee, *even})
        named = [("knee" if i == self.knee else "", self.h[i], self.losses[i]) for i in shown]
        named += [(name, *of_mixture) for name, of_mixture in self.beside.items()]
        rows = [
            [name, *(f"{x:.5f}" for x in losses), *(f"{100 * x:.2f}" for x in h)]
            for name, h, losses in named
        ]
        head = ["", *(f"{name} loss" for name in self.groups), *(f"{d} %" for d in self.domains)]
        end = (
            f"{len(self.h)} points, of which {len(shown)} are shown; largest gap "
            f"{self.gap.max():.1e}"
        )
        if not self.convex:
            end += (
                "; the laws are not known to be convex: parts of the front that bend inwards "
                "are not seen"
            )
        return f"{table(head, rows)}\n{end}"

    def to_dict(self) -> dict[str, Any]:
        """Plain content for JSON, keyed by name."""

        def point(h: Floats, losses: Floats) -> dict[str, Any]:
            return {
                "weights": dict(zip(self.domains, h.tolist(), strict=True)),
                "losses": dict(zip(self.groups, losses.tolist(), strict=True)),
            }

        points = [
            point(h, losses) | {"gap": gap}
            for h, losses, gap in zip(self.h, self.losses, self.gap.tolist(), strict=True)
        ]
        beside = {name: point(h, losses) for name, (h, losses) in self.beside.items()}
        found = {"groups": self.groups, "points": points, "knee": self.knee, "beside": beside}
        return found | {"convex": self.convex, "N": self.N, "D": self.D}

    def figure(self) -> Figure:
        """The front in losses with its knee and other mixtures; of two groups also the shares along
        it."""
        groups = [
            name if list(inside) == [name] or len(inside) > 3 else f"{name} ({', '.join(inside)})"
            for name, inside in self.groups.items()
        ]
        beside = {name: losses for name, (_, losses) in self.beside.items()}
        return charts.front(groups, self.losses, self.knee, self.h, self.domains, beside)


def pareto_front(
    question: Question,
    between: Mapping[str, Sequence[str]],
    mixtures: Mapping[str, Mapping[str, float]] | None = None,
    divisions: int | None = None,
) -> Front:
    """Mixtures between which groups of targets can only be traded: none improves a group without
    harming another.

    Each point is the optimum of one weighted sum of the groups' mean losses. The front ends where
    one percent of a group's loss buys a hundredth of a percent of another's. In between the weights
    are a grid, scaled by how far the losses range between the ends; with two groups the widest
    stretches are then halved. A few batched calls, see `optimal_mixtures`. Points that another
    beats, which only laws that are not convex have, are dropped.

    Args:
        question: weights are those within the groups, 1 where there are none.
        between: {name: targets} of two or three disjoint groups.
        mixtures: {name: {domain: share}} to show beside the front; equal shares come by themselves,
            as "uniform".
        divisions: of the grid: by default 40 for two groups, 12 for three.

    Raises:
        UserError: groups that overlap or are not two or three, an unknown target or domain, a group
            whose targets have no weight, or what `optimal_mixture` refuses.
    """
    groups = _groups(question, between)
    targets, count = question.fit.targets, len(groups)
    share = np.array([[inside.get(t, 0.0) for t in targets] for inside in groups.values()])
    if divisions is not None and divisions < 2:
        remedy = "give the number of steps between the ends, e.g. 40"
        raise UserError("divisions", f"{divisions} is below 2", remedy)
    steps = divisions or DIVISIONS[count]
    middle = _Points.solved(question, share, np.ones((1, count)), np.ones(count))
    if not len(middle.h):
        raise nowhere_finite(question, "front")
    size = np.abs(middle.losses[0])
    ends = _Points.solved(question, share, np.eye(count) / size, size)
    reach = np.maximum(np.ptp(ends.losses, axis=0), _SAME * size)
    found = ends.joined(_Points.solved(question, share, simplex_grid(count, steps) / reach, size))
    for _ in range(_HALVINGS if count == 2 else 0):
        between_points = _between(found, reach, steps)
        if len(between_points):
            found = found.joined(_Points.solved(question, share, between_points, size))
    found = found.kept(_unbeaten(found.losses))
    span = np.maximum(np.ptp(found.losses, axis=0), 1e-300)
    scaled = (found.losses - found.losses.min(axis=0)) / span
    others = {"uniform": dict.fromkeys(question.domains, 1.0), **(mixtures or {})}
    beside = {}
    for name, given in others.items():
        h = question.array(given)
        losses = question.losses(h)
        beside[name] = (h, share @ np.array([float(losses[t]) for t in targets]))
    return Front(
        groups=groups,
        domains=question.domains,
        h=found.h,
        losses=found.losses,
        weights=found.weights,
        gap=found.gap,
        knee=int(np.argmin(scaled.sum(axis=1))),
        beside=beside,
        convex=bool(found.convex.all()),
        N=question.N,
        D=question.D,
    )


class _Points(NamedTuple):
    """Optima of weighted sums of the groups' losses: all (points, ...), in the order of the first
    group's loss."""

    h: Floats
    losses: Floats
    weights: Floats
    gap: Floats
    convex: NDArray[np.bool_]

    @staticmethod
    def solved(question: Question, share: Floats, weights: Floats, size: Floats) -> _Points:
        """Of weights (points, groups), kept within the ends, and parts of the targets in the groups
        (groups, targets).

        size: of the groups' losses (groups,). Points of infinite loss are left out.
        """
        relative = weights * size
        weights = np.maximum(relative, _END * relative.max(axis=1, keepdims=True)) / size
        weights = weights / weights.sum(axis=1, keepdims=True)
        found = optima(question, Vary(weights=weights @ share))
        with np.errstate(invalid="ignore"):
            losses = np.where(share[None] > 0, found.losses[:, None] * share[None], 0.0).sum(axis=2)
        gap = found.gap / np.maximum(np.abs(found.objective), 1e-300)
        points = _Points(found.h, losses, weights, gap, found.convex)
        return points.kept(np.isfinite(losses).all(axis=1))

    def kept(self, which: NDArray[Any]) -> _Points:
        """Some of them."""
        sides: Any = (side[which] for side in self)
        return _Points(*sides)

    def joined(self, other: _Points) -> _Points:
        """Both, in order."""
        sides: Any = zip(self, other, strict=True)
        both = _Points(*(np.concatenate(pair) for pair in sides))
        return both.kept(np.lexsort(both.losses.T[::-1]))


def _between(points: _Points, reach: Floats, steps: int) -> Floats:
    """Weights (new, 2) between neighbours that lie far apart on the front."""
    apart = np.linalg.norm(np.diff(points.losses, axis=0) / reach, axis=1)
    # An even front from (0, 1) to (1, 0) is at most 2 long.
    wide = np.flatnonzero(apart > _WIDE * 2 / steps)
    return np.sqrt(points.weights[wide] * points.weights[wide + 1])


def _unbeaten(losses: Floats) -> NDArray[np.intp]:
    """Rows of losses (points, groups) that no other row beats, each once."""
    small = _SAME * np.abs(losses)
    kept: list[int] = []
    for i, row in enumerate(losses):
        lower = np.all(losses <= row + small[i], axis=1) & np.any(losses < row - small[i], axis=1)
        same = any(np.all(np.abs(losses[j] - row) <= small[i]) for j in kept)
        if not lower.any() and not same:
            kept.append(i)
    return np.array(kept)


def _groups(
    question: Question, between: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, float]]:
    """{name: {target: weight}}, weights of a group summing to 1."""
    if len(between) not in (2, 3):
        raise UserError("between", f"{len(between)} groups of targets", "name two or three")
    groups, taken = {}, {}
    for name, inside in between.items():
        where = f"between, {name!r}"
        for t in inside:
            if t not in question.fit.targets:
                raise UserError(
                    where, f"no target {t!r}", f"choose from {', '.join(question.fit.targets)}"
                )
            if t in taken:
                what = f"{t!r} is in {taken[t]!r} too"
                raise UserError(where, what, "give each target to one group")
            taken[t] = name
        weights = {t: question.weighed.get(t, 0.0) for t in inside}
        if not sum(weights.values()) > 0:
            remedy = "give one of them a positive weight"
            raise UserError(where, "its targets have no weight", remedy)
        groups[name] = {t: w / sum(weights.values()) for t, w in weights.items()}
    return groups
