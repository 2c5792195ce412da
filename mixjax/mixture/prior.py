"""A mixture in use that the optimum is pulled towards (shares by name -> PRIOR): its numbers, and
the divergence from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixjax.errors import UserError, check_names

Floats = NDArray[np.float64]

# A domain that the prior leaves out counts as this share in the Kullback-Leibler divergence, or it
# could never be entered.
LEAST_SHARE = 1e-4


@dataclass(frozen=True, eq=False)
class Pull:
    """strength * KL(h | prior), added to the weighted sum of losses.

    Attributes:
        prior: {domain: share}, scaled to sum to 1; a domain that has less than `LEAST_SHARE` counts
            as having that.
        strength: unit of the objective per nat, at least 0; of many problems one for all or one for
            each.
    """

    prior: Mapping[str, float]
    strength: ArrayLike

    def numbers(self, domains: Sequence[str]) -> tuple[Floats, Floats]:
        """The prior (k,), and the strength () or (problems,).

        Raises:
            UserError: what `shares_of` refuses, or a strength that is negative or not finite.
        """
        try:
            strength = np.asarray(self.strength, dtype=np.float64)
        except (TypeError, ValueError):
            strength = np.array(np.nan)
        if (
            strength.ndim > 1
            or not strength.size
            or not np.all(np.isfinite(strength) & (strength >= 0))
        ):
            raise UserError(
                "pull",
                f"{self.strength!s} is not a strength",
                "give a number of at least 0, e.g. 0.01",
            )
        return nonzero(shares_of(self.prior, domains)), strength


def shares_of(weights: Mapping[str, float], domains: Sequence[str]) -> Floats:
    """Shares (k,) in the order of the domains, scaled to sum to 1; 0 where not named.

    Raises:
        UserError: an unknown domain, a share that is negative or not a number, or shares that sum
            to 0.
    """
    check_names(weights, domains, "mixture")
    try:
        h = np.array([float(weights.get(d, 0.0)) for d in domains])
    except (TypeError, ValueError):
        raise UserError("mixture", "a share is not a number", "write domain: share") from None
    if not (np.isfinite(h).all() and (h >= 0).all() and h.sum() > 0):
        raise UserError(
            "mixture",
            f"the shares {dict(weights)} are not those of a mixture",
            "give shares of at least 0 that do not sum to 0",
        )
    return h / h.sum()


def nonzero(shares: Floats) -> Floats:
    """The shares (k,) with none of exactly 0, see `LEAST_SHARE`."""
    lifted = np.maximum(shares, LEAST_SHARE)
    return lifted / lifted.sum()


def divergence(h: jax.Array, prior: jax.Array) -> jax.Array:
    """KL(h | prior) (), nats, with prior > 0 and 0 log 0 = 0."""
    positive = h > 0
    return jnp.sum(jnp.where(positive, h * jnp.log(jnp.where(positive, h, 1.0) / prior), 0.0))


def kl(h: Floats, prior: Floats) -> Floats:
    """KL(h | prior) of numbers (..., k), nats, for prior (k,) > 0: (...,), not below 0."""
    return np.maximum(0.0, np.sum(h * np.log(np.where(h > 0, h, prior) / prior), axis=-1))
