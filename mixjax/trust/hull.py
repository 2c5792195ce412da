"""Mixtures against those that were trained: inside their convex hull a law interpolates, outside it
guesses."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# A distance below this is rounding.
INSIDE = 1e-6
_ROUNDS = 3  # rounds per column that the active-set method may take, at most


def distance_to_hull(h: Floats, mixtures: Floats) -> float:
    """Share of h (k,) that would have to move to reach the convex hull of mixtures (m, k): half the
    sum of |differences|.

    The nearest point is that of least squares, so this bounds the least share to move from above; 0
    inside.
    """
    weights = simplex_least_squares(mixtures.T, h)
    distance = 0.5 * float(np.abs(mixtures.T @ weights - h).sum())
    return distance if distance > INSIDE else 0.0


def simplex_least_squares(a: Floats, b: Floats) -> Floats:
    """argmin over weights w (m,) of the simplex of |a w - b|^2 for a (k, m), b (k,).

    An active-set method: the point of least squares on an affine hull of few columns, one column
    more while that helps, columns of negative weight left out. Source: Wolfe 1976, "Finding the
    nearest point in a polytope".
    """
    off = a - b[:, None]
    chosen = [int(np.argmin((off**2).sum(axis=0)))]
    w = np.ones(1)
    size = float((off**2).sum(axis=0).max()) or 1.0
    for _ in range(_ROUNDS * a.shape[1] + 10):
        x = off[:, chosen] @ w
        slopes = x @ off
        new = int(np.argmin(slopes))
        if x @ x - slopes[new] <= 1e-14 * size or new in chosen:
            break
        chosen.append(new)
        w = np.append(w, 0.0)
        while True:
            v = _affine(off[:, chosen])
            if (v > 0).all():
                w = v
                break
            falling = v <= 0
            step = float(np.min(w[falling] / np.maximum(w[falling] - v[falling], 1e-300)))
            w = w + min(step, 1.0) * (v - w)
            keep = w > 1e-15
            keep &= ~(falling & (w <= w[falling].min()))
            chosen, w = [c for c, k in zip(chosen, keep, strict=True) if k], w[keep] / w[keep].sum()
    weights = np.zeros(a.shape[1])
    weights[chosen] = w
    return weights


def _affine(points: Floats) -> Floats:
    """Weights (n,), sum 1 and of any sign, of the point of least norm in the affine hull of points
    (k, n)."""
    n = points.shape[1]
    system = np.zeros((n + 1, n + 1))
    system[0, 1:] = system[1:, 0] = 1.0
    system[1:, 1:] = points.T @ points
    return np.linalg.lstsq(system, np.eye(n + 1)[0], rcond=None)[0][1:]
