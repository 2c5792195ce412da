"""Losses and slopes that a law predicts, for many rows, targets and parameter sets: compiled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

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
    i = domains.index(target)
    return slice(i, i + 1)


def predict(
    law: Law, domains: tuple[str, ...], params: Mapping[str, Params], N: Any, D: Any, h: np.ndarray
) -> dict[str, np.ndarray]:
    """Predicted losses (rows,) of each target.

    Args:
        params: the law's parameters by target, in the law's own units.
        N, D: counts (rows,), or None for a law that does not read them.
        h: domain weights (rows, k), columns in the order of `domains`.
    """
    return _of_targets(_rows, law, domains, params, N, D, h)


def predict_members(
    law: Law, domains: tuple[str, ...], params: Mapping[str, Params], N: Any, D: Any, h: np.ndarray
) -> dict[str, np.ndarray]:
    """Predicted losses (members, rows) of each target; params: arrays (members, ...)."""
    return _of_targets(_members, law, domains, params, N, D, h)


def _of_targets(
    losses: Callable[..., jax.Array],
    law: Law,
    domains: tuple[str, ...],
    params: Mapping[str, Params],
    N: Any,
    D: Any,
    h: np.ndarray,
) -> dict[str, np.ndarray]:
    N, D = (np.ones(len(h)) if x is None else x for x in (N, D))
    with jax.enable_x64(True):
        return {
            t: np.asarray(losses(law, dict(p), h[:, domain_index(law, domains, t)], N, D))
            for t, p in params.items()
        }


@partial(jax.jit, static_argnums=0)
def _rows(law: Law, params: Params, h: jax.Array, N: jax.Array, D: jax.Array) -> jax.Array:
    return jax.vmap(partial(row_loss, law, params))(h, N, D)


@partial(jax.jit, static_argnums=0)
def _members(law: Law, params: Params, h: jax.Array, N: jax.Array, D: jax.Array) -> jax.Array:
    return jax.vmap(lambda p: _rows(law, p, h, N, D))(params)


class Slopes(NamedTuple):
    """How a loss changes: d/d log N (), d/d log D (), d/dh (k,) as if each h_i were free."""

    log_n: float
    log_d: float
    h: np.ndarray


def slopes(
    law: Law,
    domains: tuple[str, ...],
    params: Mapping[str, Params],
    N: float,
    D: float,
    h: np.ndarray,
) -> dict[str, Slopes]:
    """Slopes of each target's loss at one mixture h (k,) and scale; as `predict`. In a share of
    exactly 0 they are taken as 0 where the law has h^gamma (see `numerics.power`)."""
    of_targets = {}
    with jax.enable_x64(True):
        for target, p in params.items():
            seen, dh = domain_index(law, domains, target), np.zeros(len(h))
            scale = np.log(float(N)), np.log(float(D))
            log_n, log_d, dh[seen] = _slopes(law, dict(p), h[seen], *scale)
            of_targets[target] = Slopes(float(log_n), float(log_d), dh)
    return of_targets


@partial(jax.jit, static_argnums=0)
def _slopes(
    law: Law, params: Params, h: jax.Array, log_n: jax.Array, log_d: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    def loss(log_n: jax.Array, log_d: jax.Array, h: jax.Array) -> jax.Array:
        return row_loss(law, params, h, jnp.exp(log_n), jnp.exp(log_d))

    return jax.grad(loss, argnums=(0, 1, 2))(log_n, log_d, h)
