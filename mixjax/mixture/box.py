"""The set of mixtures: the simplex {h : sum_i h_i = 1} within a box floors <= h <= caps, and with
such bounds on sums of groups of domains."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from mixjax.errors import UserError

# Sums of shares that a user gave in decimals may miss 1 by rounding.
ROUNDING = 1e-12
# A group this near to its floor or cap, relatively, is at it.
_AT = 1e-12

Leaf = jax.Array | np.ndarray


class Groups(NamedTuple):
    """Smallest and largest sum of shares of some disjoint sets of domains: member (groups, k),
    floors and caps (groups,)."""

    member: Leaf
    floors: Leaf
    caps: Leaf


class Box(NamedTuple):
    """Smallest and largest share of every domain, floors (k,) and caps (k,), and of groups of
    domains where there are any."""

    floors: Leaf
    caps: Leaf
    groups: Groups | None = None


def extent(box: Box) -> tuple[np.ndarray, np.ndarray]:
    """The least and the most that all domains together may have, () or as many as there are boxes;
    least infinite where a group has no shares."""
    floors, caps = np.asarray(box.floors), np.asarray(box.caps)
    if box.groups is None:
        return floors.sum(axis=-1), caps.sum(axis=-1)
    member = np.asarray(box.groups.member)
    low, high = (np.where(member, side[..., None, :], 0.0).sum(axis=-1) for side in (floors, caps))
    alone = ~member.any(axis=-2)
    least, most = np.maximum(low, box.groups.floors), np.minimum(high, box.groups.caps)
    empty = (least > most + ROUNDING).any(axis=-1)
    least, most = (
        x.sum(axis=-1) + np.where(alone, side, 0.0).sum(axis=-1)
        for x, side in ((least, floors), (most, caps))
    )
    return np.where(empty, np.inf, least), most


def is_met(box: Box) -> NDArray[np.bool_]:
    """Whether some mixture lies in the box, () or for each of many boxes."""
    least, most = extent(box)
    return (least <= 1.0 + ROUNDING) & (most >= 1.0 - ROUNDING)


def check_box(
    box: Box, names: Sequence[str], groups: Mapping[str, Sequence[str]] | None = None
) -> Box:
    """The box itself, once some mixture is known to lie in it.

    Args:
        names: of the domains.
        groups: {name: domains} in the order of the box's groups.

    Raises:
        UserError: a floor or a cap is not a share, a cap is below its floor, a group's bounds leave
            its domains no shares, or floors or caps leave no mixture that sums to 1.
    """
    groups = groups or {}
    ours = box.groups or Groups(np.zeros((0, len(names)), dtype=bool), np.zeros(0), np.zeros(0))
    floors, caps = np.append(box.floors, ours.floors), np.append(box.caps, ours.caps)
    both = [*names, *groups]
    for side, values in (("floor", floors), ("cap", caps)):
        for name, value in zip(both, values, strict=True):
            if not 0.0 <= value <= 1.0:
                what = f"{value:g} is not a share"
                raise UserError(f"{side} of {name!r}", what, "give a number from 0 to 1")
    for name, floor, cap in zip(both, floors, caps, strict=True):
        if cap < floor:
            what = f"{cap:g} is below its floor {floor:g}"
            raise UserError(f"cap of {name!r}", what, "raise the cap or lower the floor")
    sides = np.asarray(ours.member), ours.floors, ours.caps
    for (name, inside), member, floor, cap in zip(groups.items(), *sides, strict=True):
        least, most = float(np.sum(box.floors[member])), float(np.sum(box.caps[member]))
        if least > cap + ROUNDING:
            what = f"{cap:g} is below {least:g}, the sum of the floors of {', '.join(inside)}"
            raise UserError(f"cap of {name!r}", what, "raise the cap or lower a floor")
        if most < floor - ROUNDING:
            what = f"{floor:g} is above {most:g}, the sum of the caps of {', '.join(inside)}"
            raise UserError(f"floor of {name!r}", what, "lower the floor or raise a cap")
    least, most = (float(x) for x in extent(box))
    within = f", with those of {', '.join(groups)}" if groups else ""
    if least > 1.0 + ROUNDING:
        what = f"they sum to {least:g}{within}, above 1: no mixture meets them"
        raise UserError("floors", what, "lower some")
    if most < 1.0 - ROUNDING:
        what = f"they sum to {most:g}{within}, below 1: no mixture meets them"
        raise UserError("caps", what, "raise some")
    return box


def project(log_x: jax.Array, box: Box) -> jax.Array:
    """log h (k,) of the mixture in the box that is nearest to x > 0 in the Kullback-Leibler sense.

        argmin_h sum_i h_i log(h_i / x_i) - h_i + x_i   is   h_i = clip(lambda x_i, floor_i, cap_i),
        sum_i h_i = 1

    With groups, lambda is one number for all domains but those of a group at its floor or cap:
    there it is the one that gives this sum. Which groups these are is found as it is found for
    domains, see `_fill`: of the groups that the common lambda leaves below their floors, or above
    their caps, one side is sure to stay there. Exact, in at most as many rounds as groups.

    Args:
        log_x: (k,), finite.
        box: feasible. log h_i is -inf where h_i = 0: a cap of 0, or nothing left for it.

    Source: Bitran and Hax 1981 (variable fixing), for the entropy; applied to the groups and then
    within them.
    """
    if box.groups is None:
        return _fill(log_x, box, Segments(None), jnp.ones(()))
    member, floors, caps = (jnp.asarray(x) for x in box.groups)

    def fix(rounds: _Rounds) -> _Rounds:
        log_h = fill(log_x, box, rounds.at_floor, rounds.at_cap)
        sums = jnp.sum(jnp.where(member, jnp.exp(log_h), 0.0), axis=1)
        below, above = rounds.free & (sums < floors), rounds.free & (sums > caps)
        raised = _floors_first(below, above, floors - sums, sums - caps, jnp.sum)
        return rounds.fixed(log_h, below, above, raised)

    return _until_none_is_found(fix, log_x, floors).log_h


def fill(log_x: jax.Array, box: Box, at_floor: jax.Array, at_cap: jax.Array) -> jax.Array:
    """As `project`, with these groups at their floors or caps (groups,) and no others bounded."""
    assert box.groups is not None
    totals = jnp.where(at_cap, box.groups.caps, jnp.where(at_floor, box.groups.floors, 0.0))
    segments = segments_of(at_floor | at_cap, box)
    return _fill(log_x, box, segments, jnp.concatenate([1.0 - jnp.sum(totals)[None], totals]))


class Segments:
    """Disjoint sets of domains that each have a sum of their own: member (segments, k), or None for
    one of all domains."""

    def __init__(self, member: jax.Array | None) -> None:
        self.member = member

    def sum(self, x: jax.Array) -> jax.Array:
        """Sum of x (k,) over each segment; as (segments,), or ()."""
        if self.member is None:
            return jnp.sum(x)
        return jnp.sum(jnp.where(self.member, x, 0.0), axis=1)

    def largest(self, x: jax.Array) -> jax.Array:
        """Largest x (k,) of each segment."""
        if self.member is None:
            return jnp.max(x)
        return jnp.max(jnp.where(self.member, x, -jnp.inf), axis=1)

    def spread(self, x: jax.Array) -> jax.Array:
        """For every domain the number x (segments,) of its segment, (k,) or ()."""
        if self.member is None:
            return x
        return jnp.sum(jnp.where(self.member, x[:, None], 0), axis=0).astype(x.dtype)

    @property
    def first(self) -> Any:
        """Which domains (k,) are in the first segment."""
        return True if self.member is None else self.member[0]

    def centred(self, x: jax.Array, share: jax.Array, h: jax.Array) -> jax.Array:
        """x (k,) less its mean in the segment, weighted by share (k,), by h (k,) where that is 0.

        Such shifts of a gradient are the multipliers of sums that do not change: they are no force.
        """
        share = jnp.where(self.spread(self.sum(share)) > 0, share, h)
        total = jnp.maximum(self.sum(share), jnp.finfo(x.dtype).tiny)
        return x - self.spread(self.sum(share * x) / total)


def segments_of(alone: jax.Array | None, box: Box) -> Segments:
    """Each of these groups alone (groups,), after all other domains together."""
    if box.groups is None or alone is None:
        return Segments(None)
    member = jnp.asarray(box.groups.member) & alone[:, None]
    return Segments(jnp.concatenate([~jnp.any(member, axis=0)[None], member]))


def _fill(log_x: jax.Array, box: Box, segments: Segments, totals: jax.Array) -> jax.Array:
    """log h (k,), h_i = clip(lambda x_i, floor_i, cap_i) with the lambda of each segment for which
    it sums to totals (segments,).

    Exact, in at most k rounds and mostly in two or three: take lambda from the domains that are
    free; where clipping them then adds mass, lambda can only be smaller, and those below their
    floors stay there; where it takes mass away, those above their caps do. In logarithms
    throughout, so that x may range over hundreds of decades.
    """
    low, high = jnp.log(box.floors), jnp.log(box.caps)

    def fix(rounds: _Rounds) -> _Rounds:
        free, at_floor = rounds.free, jnp.where(rounds.at_floor, box.floors, 0.0)
        rest = totals - segments.sum(jnp.where(rounds.at_cap, box.caps, at_floor))
        largest = segments.largest(jnp.where(free, log_x, -jnp.inf))
        largest = jnp.where(jnp.isfinite(largest), largest, 0.0)
        mass = segments.sum(jnp.where(free, jnp.exp(log_x - segments.spread(largest)), 0.0))
        log_h = log_x + segments.spread(jnp.log(jnp.maximum(rest, 0.0) / mass) - largest)
        below, above = free & (log_h < low), free & (log_h > high)
        h = jnp.exp(log_h)
        raised = _floors_first(below, above, box.floors - h, h - box.caps, segments.sum)
        return rounds.fixed(log_h, below, above, segments.spread(raised))

    end = _until_none_is_found(fix, log_x, log_x)
    return jnp.where(end.at_floor, low, jnp.where(end.at_cap, high, end.log_h))


def _floors_first(
    below: jax.Array, above: jax.Array, lack: Any, excess: Any, total: Callable[[Any], jax.Array]
) -> jax.Array:
    """Whether clipping adds at least as much mass as it takes: then what is below its floor stays
    there, else what is above its cap."""
    added, taken = total(jnp.where(below, lack, 0.0)), total(jnp.where(above, excess, 0.0))
    some_below = total(jnp.where(below, 1.0, 0.0)) > 0
    return (total(jnp.where(above, 1.0, 0.0)) == 0) | (some_below & (added >= taken))


class _Rounds(NamedTuple):
    """Rounds of `project`: log h (k,), or log(lambda x); the domains, or the groups, known to be at
    a bound; and whether any was found (): another round."""

    log_h: jax.Array
    at_floor: jax.Array
    at_cap: jax.Array
    going: jax.Array

    @property
    def free(self) -> jax.Array:
        """Those not known to be at a bound."""
        return ~(self.at_floor | self.at_cap)

    def fixed(
        self, log_h: jax.Array, below: jax.Array, above: jax.Array, raised: jax.Array
    ) -> _Rounds:
        """After a round that found these."""
        at_floor, at_cap = self.at_floor | (below & raised), self.at_cap | (above & ~raised)
        return _Rounds(log_h, at_floor, at_cap, jnp.any(below | above))


def _until_none_is_found(
    fix: Callable[[_Rounds], _Rounds], log_x: jax.Array, like: jax.Array
) -> _Rounds:
    """The last of the rounds for domains or groups as many as `like` has."""
    nowhere = jnp.zeros(like.shape, dtype=bool)
    first = _Rounds(log_x, nowhere, nowhere, jnp.asarray(True))
    return jax.lax.while_loop(lambda rounds: rounds.going, fix, first)


def lowest_vertex(grad: jax.Array, box: Box) -> jax.Array:
    """v (k,), the minimiser of <grad, v> over the mixtures in the box: floors first, then caps in
    the order of grad, ties in order.

    With groups: every group up to its floor in the order of grad, then all domains in that order as
    far as their own caps and those of their groups allow. Which domains come before which is a (k,
    k) table: faster than a sort up to hundreds of domains.
    """
    place = jnp.arange(grad.shape[0])
    tied = grad[None, :] == grad[:, None]
    earlier = (grad[None, :] < grad[:, None]) | (tied & (place[None, :] < place[:, None]))
    floors, room = jnp.asarray(box.floors), jnp.asarray(box.caps - box.floors)
    if box.groups is not None:
        member, low, high = (jnp.asarray(x) for x in box.groups)
        grouped = jnp.any(member, axis=0)
        together = jnp.any(member[:, :, None] & member[:, None, :], axis=0)
        before = jnp.sum(jnp.where(together, floors[None, :], 0.0), axis=1)
        before += jnp.sum(jnp.where(earlier & together, room[None, :], 0.0), axis=1)
        least, most = (
            jnp.clip(jnp.sum(jnp.where(member, side[:, None], 0.0), axis=0) - before, 0.0, room)
            for side in (low, high)
        )
        least, most = jnp.where(grouped, least, 0.0), jnp.where(grouped, most, room)
        floors, room = floors + least, most - least
    filled = jnp.sum(jnp.where(earlier, room[None, :], 0.0), axis=1)
    return floors + jnp.clip(1.0 - jnp.sum(floors) - filled, 0.0, room)


def contains(box: Box, h: jax.Array) -> jax.Array:
    """Whether the mixture h (k,) lies in the box, ()."""
    inside = jnp.all((h >= box.floors) & (h <= box.caps))
    if box.groups is None:
        return inside
    sums = jnp.sum(jnp.where(box.groups.member, h, 0.0), axis=1)
    return inside & jnp.all((sums >= box.groups.floors) & (sums <= box.groups.caps))


def groups_at(h: jax.Array, groups: Groups) -> tuple[jax.Array, jax.Array]:
    """Which groups are at their floors and which at their caps (groups,), at h (k,)."""
    sums = jnp.sum(jnp.where(groups.member, h, 0.0), axis=1)
    return sums <= groups.floors * (1 + _AT), sums >= groups.caps * (1 - _AT)
