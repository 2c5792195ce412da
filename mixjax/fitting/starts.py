"""Problem -> STARTS: where the searches of a fit begin, and their random keys."""

from __future__ import annotations

import zlib
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from mixjax.fitting.problem import Problem
from mixjax.law.base import start_ranges

Floats = NDArray[np.float64]


def draw_starts(problem: Problem, starts: int, seed: int) -> tuple[Floats, NDArray[Any]]:
    """Random starts (targets, starts, q) and keys (targets, starts, 2): start s is the same
    whatever `starts` is.

    A target's keys come from its name, so its answer does not depend on which other targets are
    fitted.
    """
    low, high = start_ranges(problem.coordinates, problem.k)
    with jax.enable_x64(True):
        who = np.array([zlib.crc32(t.encode()) for t in problem.targets], np.uint32)
        z, keys = _draw(jax.random.PRNGKey(seed), who, low, high, starts)
        return np.broadcast_to(np.asarray(z), (len(problem.targets), *z.shape)), np.asarray(keys)


@partial(jax.jit, static_argnums=4)
def _draw(
    key: jax.Array, who: jax.Array, low: jax.Array, high: jax.Array, starts: int
) -> tuple[jax.Array, jax.Array]:
    """Starts z (starts, q) between low and high (q,), and keys (targets, starts, 2) of the targets
    whose names have the checksums `who`."""
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, jnp.arange(starts))
    both = jax.vmap(jax.random.split)(keys)
    z = jax.vmap(lambda one: jax.random.uniform(one, low.shape, minval=low, maxval=high))(
        both[:, 0]
    )
    return z, jax.vmap(lambda t: jax.vmap(jax.random.fold_in, in_axes=(0, None))(both[:, 1], t))(
        who
    )
