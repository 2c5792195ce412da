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

    sum_i h_i grows with lambda and bends only where lambda x_i meets a floor or a cap. It is evaluated at all 2k bends;
    between the two around 1 it is known which h_i are free, and lambda is theirs in closed form: no tolerance.
    All in logarithms, so that x may range over hundreds of decades. Time and memory are of order k^2.

    Args:
        log_x: (k,), finite.
        box: feasible, see `check_box`. log h_i is -inf where h_i = 0, which only a cap of 0 brings about.
    """
    low, high = jnp.log(box.floors), jnp.log(box.caps)
    to_floor, to_cap = low - log_x, high - log_x  # log lambda at the bends
    bends = jnp.concatenate([to_floor, to_cap])
    sums = jnp.sum(jnp.exp(jnp.clip(log_x[None, :] + bends[:, None], low[None, :], high[None, :])), axis=1)
    below = jnp.max(jnp.where(sums <= 1.0, bends, -jnp.inf))
    above = jnp.min(jnp.where(sums > 1.0, bends, jnp.inf))
    at_floor, at_cap = to_floor > below, to_cap < above
    free = ~(at_floor | at_cap)
    rest = 1.0 - jnp.sum(jnp.where(at_cap, box.caps, jnp.where(at_floor, box.floors, 0.0)))
    # Rounding may leave a rest of 0 or less where floors or caps sum to 1: the clip below mends it.
    shift = jnp.log(jnp.maximum(rest, jnp.finfo(log_x.dtype).tiny)) - jax.nn.logsumexp(jnp.where(free, log_x, -jnp.inf))
    inside = jnp.clip(log_x + jnp.where(jnp.any(free), shift, 0.0), low, high)
    return jnp.where(free, inside, jnp.where(at_cap, high, low))


def lowest_vertex(grad: jax.Array, box: Box) -> jax.Array:
    """v (k,), the minimiser of <grad, v> over the mixtures in the box: floors first, then caps in the order of grad."""
    order = jnp.argsort(grad)
    room = (jnp.asarray(box.caps) - box.floors)[order]
    filled_before = jnp.cumsum(room) - room
    fill = jnp.clip(1.0 - jnp.sum(box.floors) - filled_before, 0.0, room)
    return box.floors + jnp.zeros_like(fill).at[order].set(fill)
