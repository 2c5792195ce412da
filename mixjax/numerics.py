"""Mathematics that every step shares: powers guarded at h = 0, a dot product that batches well, and
the distance of a mixture to others."""

from __future__ import annotations

import os

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray

# What 0^gamma is for gamma < 0. Infinity in the paper's formula; a number whose square times any
# sensible C is still a float keeps 1/(... + C 0^gamma) = 0 and its derivatives free of inf/inf.
HUGE = 1e100
HUGE_FLOAT32 = 1e12

# Below this |s| a power mean is its series to second order: error and cancellation are both about
# 1e-11.
POWER_MEAN_SERIES = 1e-5

# A distance to a hull below this is rounding: the linear programme is solved to 1e-7.
INSIDE = 1e-6


def power(h: jax.Array, gamma: jax.Array) -> jax.Array:
    """h^gamma for h >= 0, with 0^gamma = 0, 1, huge for gamma >, =, < 0; never above `HUGE`
    (`HUGE_FLOAT32` in single precision).

    Shapes broadcast. Derivatives in gamma are finite everywhere; the derivative in h is taken as 0
    at h = 0 (the true one is infinite for 0 < gamma < 1).
    """
    positive = h > 0
    huge = HUGE if jnp.result_type(h, gamma) == jnp.float64 else HUGE_FLOAT32
    # The barrier keeps XLA from computing the logarithm anew in every lane of a batch that shares
    # h.
    log_h = jax.lax.optimization_barrier(jnp.log(jnp.where(positive, h, 1.0)))
    at_zero = jnp.where(gamma > 0, 0.0, jnp.where(gamma < 0, huge, 1.0))
    return jnp.where(positive, jnp.exp(jnp.minimum(gamma * log_h, float(np.log(huge)))), at_zero)


def positive_power(base: jax.Array, exponent: jax.Array) -> jax.Array:
    """base^exponent for base > 0 (a sum of positive terms), as exp(exponent log base)."""
    return jnp.exp(exponent * jnp.log(base))


def log_power_mean(h: jax.Array, log_values: jax.Array, s: jax.Array) -> jax.Array:
    """log of (sum_i h_i v_i^s)^(1/s), the power mean () of v = exp(log_values) (k,) with weights h
    (k,).

    Smooth in s through 0, where it is the weighted geometric mean. Source: Hardy, Littlewood and
    Polya, Inequalities, section 2.2.
    """
    shift = jnp.mean(log_values)
    x = log_values - shift
    near_zero = jnp.abs(s) < POWER_MEAN_SERIES
    safe = jnp.where(near_zero, POWER_MEAN_SERIES, s)
    mean = jnp.dot(h, x)
    series = mean + 0.5 * s * (jnp.dot(h, x * x) - mean * mean)
    more = jnp.dot(h, jnp.expm1(safe * x))
    # Near a corner the sum may be far below 1: taken as it is, where 1 + more would have no digits
    # left.
    little = more < -0.5
    sum_ = jnp.where(little, jnp.dot(h, jnp.exp(safe * x)), 1.0)
    return shift + jnp.where(
        near_zero,
        series,
        jnp.where(little, jnp.log(sum_), jnp.log1p(jnp.where(little, 0.0, more))) / safe,
    )


def dot(a: jax.Array, b: jax.Array) -> jax.Array:
    """sum_i a_i b_i of vectors (q,), so that lanes batched along the last axis stay there."""
    return jnp.sum(a * b)


def distance_to_hull(h: ArrayLike, points: ArrayLike) -> float:
    """Least share of the tokens of a mixture h (k,) that must move to reach the convex hull of
    mixtures `points` (m, k): half the L1 distance; 0 inside.

    A linear programme over weights w of the points: minimise sum_i u_i with u >= 0 and
    u >= h - points' w, w >= 0, sum w = 1. What h has above the mean of the points it lacks
    elsewhere, so the sum over the first is half the distance.
    """
    from scipy.optimize import linprog

    goal, corners = np.asarray(h, dtype=np.float64), np.asarray(points, dtype=np.float64)
    m, k = corners.shape
    programme = linprog(
        np.concatenate([np.zeros(m), np.ones(k)]),
        A_ub=np.hstack([-corners.T, -np.eye(k)]),
        b_ub=-goal,
        A_eq=np.concatenate([np.ones(m), np.zeros(k)])[None],
        b_eq=np.ones(1),
        method="highs",
    )
    w = np.maximum(programme.x[:m], 0.0)
    distance = 0.5 * float(np.abs(corners.T @ (w / w.sum()) - goal).sum())
    return 0.0 if distance < INSIDE else distance


def correlation_within(values: NDArray[np.float64], cluster: NDArray[np.intp]) -> float:
    """Mean product of two values (rows,) of one cluster, over the mean square of all: their
    correlation about 0; 0 where no cluster has two rows.

    Args:
        cluster: number of the cluster of each row (rows,).
    """
    squares, rows = float(values @ values), np.bincount(cluster)
    pairs = float(np.sum(rows * (rows - 1)))
    if not (pairs and squares > 0):
        return 0.0
    sums = np.bincount(cluster, values)
    return float((sums @ sums - squares) / pairs / (squares / len(values)))


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
