"""Losses predicted by a law for many rows and targets: one of the three doors where jit and vmap appear."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mixjax.law.base import Law, Params, row_loss


def domain_index(law: Law, domains: tuple[str, ...], target: str) -> slice:
    """The columns of h that the law of this target sees: all, or its own domain's.

    Raises:
        ValueError: an own-domain law of a target that is not a training domain.
    """
    if not law.own_domain:
        return slice(None)
    at = domains.index(target)
    return slice(at, at + 1)


def predict(law: Law, domains: tuple[str, ...], params: dict[str, Params], N: Any, D: Any, h: np.ndarray) -> dict[str, np.ndarray]:
    """Predicted losses (rows,) of each target.

    Args:
        params: the law's parameters by target, in the law's own units.
        N, D: counts (rows,).
        h: domain weights (rows, k), columns in the order of `domains`.
    """
    with jax.enable_x64(True):
        return {t: np.asarray(_rows(law, dict(p), h[:, domain_index(law, domains, t)], N, D)) for t, p in params.items()}


def predict_members(law: Law, domains: tuple[str, ...], params: Mapping[str, Params], N: Any, D: Any, h: np.ndarray) -> dict[str, np.ndarray]:
    """Predicted losses (members, rows) of each target, of many parameter sets: arrays (members, ...)."""
    with jax.enable_x64(True):
        return {t: np.asarray(_members(law, dict(p), h[:, domain_index(law, domains, t)], N, D)) for t, p in params.items()}


@partial(jax.jit, static_argnums=0)
def _members(law: Law, params: Params, h: jax.Array, N: jax.Array, D: jax.Array) -> jax.Array:
    return jax.vmap(lambda p: jax.vmap(partial(row_loss, law, p))(h, N, D))({name: jnp.asarray(value) for name, value in params.items()})


@partial(jax.jit, static_argnums=0)
def _rows(law: Law, params: Params, h: jax.Array, N: jax.Array, D: jax.Array) -> jax.Array:
    return jax.vmap(partial(row_loss, law, {name: jnp.asarray(value) for name, value in params.items()}))(h, N, D)
