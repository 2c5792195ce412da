"""Distance of a mixture to the hull of others (numbers only): how far a prediction there is from
what was trained."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# A distance below this is rounding.
_INSIDE = 1e-6
_EXACT, _ZERO = 1e-12, 1e-12


def distance_to_hull(h: Floats, mixtures: Floats) -> float:
    """Share of h (k,) that would have to move to reach the convex hull of mixtures (m, k): half the
    sum of |differences|; 0 inside.

    To the point of least squares, so this bounds the least share to move from above. Found by
    Wolfe's method for the point of least norm, in finitely many steps: the hull's nearest point is
    kept as a mean of few points; the one that lies farthest below it is taken in, those that the
    mean no longer needs are left out.

    Source: Wolfe 1976, Finding the nearest point in a polytope.
    """
    x = np.asarray(mixtures, dtype=np.float64) - np.asarray(h, dtype=np.float64)
    chosen = [int(np.argmin(np.sum(x * x, axis=1)))]
    share = np.ones(1)
    size = max(1.0, float(np.max(np.sum(x * x, axis=1))))
    for _ in range(50 * len(x)):
        nearest = share @ x[chosen]
        lowest = int(np.argmin(x @ nearest))
        if nearest @ nearest - x[lowest] @ nearest <= _EXACT * size or lowest in chosen:
            break
        chosen, share = [*chosen, lowest], np.append(share, 0.0)
        while True:
            wanted = _affine_minimum(x[chosen])
            if np.all(wanted > _ZERO):
                share = wanted
                break
            falling = wanted <= _ZERO
            step = min(
                1.0,
                float(
                    np.min(share[falling] / np.maximum(share[falling] - wanted[falling], 1e-300))
                ),
            )
            share = share + step * (wanted - share)
            kept = share > _ZERO
            chosen, share = (
                [c for c, on in zip(chosen, kept, strict=True) if on],
                share[kept] / share[kept].sum(),
            )
    nearest = share @ x[chosen]
    distance = 0.5 * float(np.abs(nearest).sum())
    return 0.0 if distance < _INSIDE else distance


def _affine_minimum(x: Floats) -> Floats:
    """Weights (n,), of any sign, of the point of least norm in the plane through x (n, k)."""
    n = len(x)
    system = np.zeros((n + 1, n + 1))
    system[0, 1:] = system[1:, 0] = 1.0
    system[1:, 1:] = x @ x.T
    return np.linalg.lstsq(system, np.eye(n + 1)[0], rcond=None)[0][1:]
