"""The set of mixtures: the simplex {h : sum_i h_i = 1} within a box floors <= h <= caps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mixjax.errors import UserError

# Sums of shares that a user gave in decimals may miss 1 by rounding.
_ROUNDING = 1e-12


class Box(NamedTuple):
    """Smallest and largest share of every domain: floors (k,) and caps (k,)."""

    floors: jax.Array | np.ndarray
    caps: jax.Array | np.ndarray


def check_box(box: Box, names: Sequence[str]) -> Box:
    """The box itself, once some mixture is known to lie in it.

    Raises:
        UserError: a floor or a cap is not a share, a cap is below its floor, or floors or caps leave no mixture that sums to 1.
    """
    for what, values in (("floor", box.floors), ("cap", box.caps)):
        for name, value in zip(names, values, strict=True):
            if not 0.0 <= value <= 1.0:
                raise UserError(f"{what} of {name!r}", f"{value:g} is not a share", "give a number from 0 to 1")
    for name, floor, cap in zip(names, *box, strict=True):
        if cap < floor:
            raise UserError(f"cap of {name!r}", f"{cap:g} is below its floor {floor:g}", "raise the cap or lower the floor")
    if (least := float(np.sum(box.floors))) > 1.0 + _ROUNDING:
        raise UserError("floors", f"they sum to {least:g}, above 1: no mixture meets them", "lower some")
    if (most := float(np.sum(box.caps))) < 1.0 - _ROUNDING:
        raise UserError("caps", f"they sum to {most:g}, below 1: no mixture meets them", "raise some")
    return box


def project(log_x: jax.Array, box: Box) -> jax.Array:
    """log h (k,) of the mixture in the box that is nearest to x > 0 in the Kullback-Leibler sense.

        argmin_h sum_i h_i log(h_i / x_i) - h_i + x_i   is   h_i = clip(lambda x_i, floor_i, cap_i),  sum_i h_i = 1

    Found exactly, in at most k rounds and mostly in two or three: take lambda from the domains that are free; where
    clipping them then adds mass, lambda can only be smaller, and those below their floors stay there; where it takes
    mass away, those above their caps do. In logarithms throughout, so that x may range over hundreds of decades.

    Args:
        log_x: (k,), finite.
        box: feasible, see `check_box`. log h_i is -inf where h_i = 0: a cap of 0, or nothing left for it.

    Source: Bitran and Hax 1981 (variable fixing), for the entropy.
    """
    low, high = jnp.log(box.floors), jnp.log(box.caps)

    def fix(carry: _Rounds) -> _Rounds:
        free = ~(carry.at_floor | carry.at_cap)
        rest = 1.0 - jnp.sum(jnp.where(carry.at_cap, box.caps, jnp.where(carry.at_floor, box.floors, 0.0)))
        largest = jnp.max(jnp.where(free, log_x, -jnp.inf))
        mass = jnp.sum(jnp.where(free, jnp.exp(log_x - largest), 0.0))
        log_h = log_x - largest + jnp.log(jnp.maximum(rest, 0.0) / mass)
        below, above = free & (log_h < low), free & (log_h > high)
        added = jnp.sum(jnp.where(below, box.floors - jnp.exp(log_h), 0.0))
        taken = jnp.sum(jnp.where(above, jnp.exp(log_h) - box.caps, 0.0))
        raised = ~jnp.any(above) | (jnp.any(below) & (added >= taken))
        return _Rounds(log_h, carry.at_floor | (below & raised), carry.at_cap | (above & ~raised), jnp.any(below | above))

    nowhere = jnp.zeros(log_x.shape, dtype=bool)
    end = jax.lax.while_loop(lambda carry: carry.going, fix, _Rounds(log_x, nowhere, nowhere, jnp.asarray(True)))
    return jnp.where(end.at_floor, low, jnp.where(end.at_cap, high, end.log_h))


class _Rounds(NamedTuple):
    """Rounds of `project`: log(lambda x) (k,), the domains known to be at a bound (k,), and whether any was found (): another round."""

    log_h: jax.Array
    at_floor: jax.Array
    at_cap: jax.Array
    going: jax.Array


def lowest_vertex(grad: jax.Array, box: Box) -> jax.Array:
    """v (k,), the minimiser of <grad, v> over the mixtures in the box: floors first, then caps in the order of grad, ties in order.

    Which domains come before which is a (k, k) table: faster than a sort up to hundreds of domains.
    """
    place = jnp.arange(grad.shape[0])
    tied = grad[None, :] == grad[:, None]
    earlier = (grad[None, :] < grad[:, None]) | (tied & (place[None, :] < place[:, None]))
    room = jnp.asarray(box.caps - box.floors)
    filled = jnp.sum(jnp.where(earlier, room[None, :], 0.0), axis=1)
    return jnp.asarray(box.floors) + jnp.clip(1.0 - jnp.sum(box.floors) - filled, 0.0, room)
