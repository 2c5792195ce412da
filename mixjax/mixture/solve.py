"""The one solver of every question about mixtures (problems -> SOLVE -> minima).

Mirror descent from many starts, and what a descent cannot see put right, for all who ask.

A descent that stalls where exponents of both signs pull at a domain goes on with the others by
turns (`_in_turns`), and without it if that does not help (`_settle`); behind a barrier near a
corner a lower minimum is sought (`_near_corners`); and where a law jumps down at a face of the
simplex, the face is searched too (`_on_faces`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from mixjax.mixture.box import Box, is_met
from mixjax.mixture.lanes import Ends, Flags, Floats, Ints, Problems, barriers_of, descend, faces_of
from mixjax.mixture.mirror import is_small

# Shares of one domain in a start near its corner, in one behind a barrier before it, and in one
# that nearly leaves it out.
CORNER, NEARER, LEAST = 0.9, 0.999, 1e-6
# A descent has stalled above this gap relative to its objective. Then it goes on by turns, so many
# times, and domains below this share are left out, if that raises the objective by less than this,
# relatively; so many times at most.
STALLED, TURNS, TRACE, RISE, ROUNDS = 1e-8, 2, 1e-4, 1e-6, 4
_TINY = 1e-300  # in place of a share of 0 that a descent begins at
# A domain is held at 0 where that lowers the objective by more than this, relatively.
LOWER = 1e-12


class Minima(NamedTuple):
    """The best of all starts of every problem; of one problem without the first axis.

    h (problems, k); value, gap (problems,), value infinite where f was at all starts. agreeing,
    starts (problems,): how many of how many starts ended within 1e-9 of the best, relatively.
    stalled, emptied (problems, k): domains held at 0 because exponents of both signs pull at them,
    or because f jumps down there; the gap is that of the others. before (problems,): the value
    before any was emptied.
    """

    h: Floats
    value: Any
    gap: Any
    agreeing: Any
    starts: Any
    stalled: Flags
    emptied: Flags
    before: Any

    def row(self, i: int) -> Minima:
        """Of one problem."""
        one = Minima(*(side[i] for side in self))
        return one._replace(gap=max(one.gap, 0.0))


def starts_of(k: int) -> Floats:
    """The centre, points near every corner, and one that nearly leaves out each domain (n, k)."""
    one, others = np.eye(k, dtype=bool), max(k - 1, 1)
    near, without = (np.where(one, x, (1 - x) / others) for x in (CORNER, LEAST))
    return np.concatenate([np.full((1, k), 1.0 / k), near, without])


def solve(
    problems: Problems, convex: Flags, also: Floats | None = None, alone: bool = False
) -> Minima:
    """The least value of f over every problem's box, infinite where no mixture meets that.

    Args:
        convex: (problems,), where f is known to be convex: one start will do, and no face hides
            a lower value.
        also: mixtures (n, k) to start from besides `starts_of`, before them; alone: from these
            only.
    """
    starts = starts_of(np.shape(problems.boxes.caps)[-1])
    if also is not None:
        more = np.maximum(also, LEAST)
        starts = more if alone else np.concatenate([more, starts])
    best, met = _nothing(*np.shape(problems.boxes.caps)), np.flatnonzero(is_met(problems.boxes))
    if len(met):
        some = _some(problems, met, _emptied_groups(_rows(problems.boxes, met)))
        convex = convex[met]
        found = _near_corners(some, convex, _settle(some, starts, convex))
        _put(best, met, _on_faces(some, starts, convex, found), slice(None))
    return best


def solve_one(
    f: Callable[[jax.Array, Any], jax.Array],
    data: Any,
    box: Box,
    convex: bool = False,
    also: Floats | None = None,
) -> Minima:
    """The least value of f(h (k,), data) over the mixtures in a box; arguments as in `solve`.

    Args:
        f: hashable, smooth where all h_i > 0. One compilation for each f and shapes of the data.
        data: arrays that f reads: parameters, weights, scales.
        box: feasible, see `check_box`.
    """
    boxes = jax.tree.map(lambda side: np.asarray(side)[None], box)
    ends = solve(Problems(Alone(f), data, lambda numbers: (), boxes), np.array([convex]), also)
    return ends.row(0)


@dataclass(frozen=True)
class Alone:
    """f(h (k,), data) -> () of one problem, whose data are all shared."""

    f: Callable[[jax.Array, Any], jax.Array]

    def __call__(self, h: jax.Array, data: tuple[Any, Any]) -> jax.Array:
        """Of what is shared alone."""
        return self.f(h, data[0])


def _emptied_groups(boxes: Box) -> Box:
    """The boxes, with caps of 0 for the domains of a group that is capped at 0."""
    if boxes.groups is None:
        return boxes
    member, caps = np.asarray(boxes.groups.member), np.asarray(boxes.groups.caps)
    nothing = (member & (caps == 0)[..., None]).any(axis=-2)
    return boxes._replace(caps=np.where(nothing, 0.0, boxes.caps))


# --- What a descent does not see -----------------------------------------------------------------


def _settle(problems: Problems, starts: Floats, convex: Flags) -> Minima:
    """The minima; where a descent stalls, the best one without the domains that it stalls on.

    It stalls where one target's loss has a negative exponent of a domain and another's a positive
    one below 1: both slopes are infinite at 0, and the minimum between them may lie at a share of
    1e-20. The rate that suits it is then too short for all others, so that these are first seen to
    alone.
    """
    best = _ended(descend(problems, starts, convex))
    _in_turns(problems, best)
    going, caps = np.arange(len(best.h)), np.array(problems.boxes.caps)
    for _ in range(ROUNDS):
        going, trace = _stalled(problems.boxes._replace(caps=caps), best, going)
        tighter = _rows(problems.boxes, going)._replace(caps=np.where(trace, 0.0, caps[going]))
        met = is_met(tighter)
        going, trace, tighter = going[met], trace[met], _rows(tighter, met)
        if not len(going):
            break
        other = _ended(descend(_some(problems, going, tighter), starts, convex[going]))
        better = other.value <= best.value[going] + RISE * np.abs(best.value[going])
        going = going[better]
        _put(best, going, other, better)
        caps[going] = np.asarray(tighter.caps)[better]
        best.stalled[going] |= trace[better]
    return best


def _in_turns(problems: Problems, best: Minima) -> None:
    """Lower minima, written into best, where a descent stalls: the other domains alone, with those
    at their shares that it stalls on, then all from there; again for as long as that pays."""
    going = np.arange(len(best.h))
    for _ in range(TURNS):
        going, trace = _stalled(problems.boxes, best, going)
        if not len(going):
            break
        boxes, h, alone = _rows(problems.boxes, going), best.h[going], np.ones(len(going), bool)
        floors, caps = (np.where(trace, h, side) for side in boxes[:2])
        for box in (boxes._replace(floors=floors, caps=caps), boxes):
            ends = descend(_some(problems, going, box), np.maximum(h, _TINY)[:, None], alone)
            h = ends.h
        ends = ends._replace(agreeing=best.agreeing[going], starts=best.starts[going])
        lower = ends.value < best.value[going]
        going = going[lower]
        _put(best, going, _ended(ends), lower)


def _stalled(boxes: Box, best: Minima, going: Ints) -> tuple[Ints, Flags]:
    """Which of these stall (n,), and their domains (n, k) with shares that a descent stalls on."""
    h, value, gap = best.h[going], best.value[going], best.gap[going]
    floors, caps = (np.asarray(side)[going] for side in boxes[:2])
    trace = (h < TRACE) & (floors == 0) & (caps > 0)
    with np.errstate(invalid="ignore"):
        stalled = ~is_small(gap, value, STALLED) & np.isfinite(value) & trace.any(axis=1)
    return going[stalled], trace[stalled]


def _near_corners(problems: Problems, convex: Flags, best: Minima) -> Minima:
    """The minima, or lower ones that lie near a corner behind a barrier that no start passes."""
    going = np.flatnonzero(~convex & np.isfinite(best.value))
    k = best.h.shape[1]
    if not len(going) or k < 2:
        return best
    boxes = _rows(problems.boxes, going)
    row, domain = np.nonzero(barriers_of(_some(problems, going, boxes)))
    if not len(row):
        return best
    start = np.where(np.arange(k) == domain[:, None], NEARER, (1 - NEARER) / (k - 1))
    alone = np.ones(len(row), dtype=bool)
    some = _some(problems, going[row], _rows(boxes, row))
    other = _ended(descend(some, start[:, None], alone))
    lowest = _lowest(row, domain, other.value)
    better = _below(other.value[lowest], best.value[going[row[lowest]]])
    where = going[row[lowest[better]]]
    starts = best.starts[where].copy()
    _put(best, where, other, lowest[better])
    best.starts[where] += starts
    return best


def _lowest(row: Ints, domain: Ints, value: Floats) -> Ints:
    """Of each row the place of its lowest value; of equal ones that of the first domain."""
    order = np.lexsort((domain, value, row))
    return order[np.unique(row[order], return_index=True)[1]]


def _below(new: Floats, old: Floats) -> Flags:
    """Whether a value is lower by more than rounding."""
    return new < old - LOWER * np.abs(old)


def _on_faces(problems: Problems, starts: Floats, convex: Flags, best: Minima) -> Minima:
    """The minima, without the domains whose absence lowers them, which are held at 0 then."""
    k = best.h.shape[1]
    going = np.flatnonzero(~convex & np.isfinite(best.value))
    for _ in range(k - 1):
        if not len(going):
            break
        out = best.stalled[going] | best.emptied[going]
        boxes = _rows(problems.boxes, going)
        boxes = boxes._replace(caps=np.where(out, 0.0, boxes.caps))
        worth = faces_of(_some(problems, going, boxes), best.h[going], best.value[going])
        row, domain = np.nonzero(worth)
        tighter = _rows(boxes, row)
        held = np.arange(k) == domain[:, None]
        tighter = tighter._replace(caps=np.where(held, 0.0, tighter.caps))
        met = is_met(tighter)
        row, domain, held, tighter = row[met], domain[met], held[met], _rows(tighter, met)
        if not len(row):
            break
        other = _settle(_some(problems, going[row], tighter), starts, np.zeros(len(row), bool))
        lowest = _lowest(row, domain, other.value)
        lowest = lowest[_below(other.value[lowest], best.value[going[row[lowest]]])]
        going = going[row[lowest]]
        stalled, emptied = best.stalled[going].copy(), best.emptied[going] | held[lowest]
        before = best.before[going].copy()
        _put(best, going, other, lowest)
        best.stalled[going] |= stalled
        best.emptied[going] = emptied
        best.before[going] = before
    return best


def _ended(ends: Ends) -> Minima:
    """Minima that hold no domain at 0."""
    nowhere = np.zeros(ends.h.shape, dtype=bool)
    return Minima(*ends, nowhere, nowhere.copy(), ends.value.copy())


def _nothing(n: int, k: int) -> Minima:
    """Of problems that no mixture meets: equal shares, an infinite value."""
    infinite, none = np.full(n, np.inf), np.zeros(n, dtype=np.int64)
    return _ended(Ends(np.full((n, k), 1.0 / k), infinite, infinite.copy(), none, none.copy()))


def _put(best: Minima, where: Ints, other: Minima, rows: Any) -> None:
    """Write these rows of other into best."""
    for old, new in zip(best, other, strict=True):
        old[where] = new[rows]


def _some(problems: Problems, which: Ints, boxes: Box) -> Problems:
    """These of the problems, in other boxes."""
    own = problems.own
    return Problems(problems.f, problems.shared, lambda numbers: own(which[numbers]), boxes)


def _rows(box: Box, which: Any) -> Box:
    return jax.tree.map(lambda side: np.asarray(side)[which], box)
