"""How well predictions agree with measured losses (Fit -> SCORES): plain NumPy, missing losses left out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

# Predictions below this are taken as this in the logarithm, as in the objective of the fit.
SMALLEST_LOSS = 1e-12


@dataclass(frozen=True)
class Score:
    """Agreement of one target's predictions with its measured losses over n rows.

    Attributes:
        n: rows with a measured loss.
        mre: mean of |predicted - measured| / measured, percent (the paper's MRE).
        mae: mean of |predicted - measured|, in the loss's unit.
        r2: 1 - residual sum of squares / total sum of squares; None where the measured losses do not vary.
        huber: mean Huber loss of the residual, the objective of the fit (paper eq. 6).
        rank: Spearman's rank correlation of predicted and measured; None where either does not vary.
    """

    n: int
    mre: float
    mae: float
    r2: float | None
    huber: float
    rank: float | None


def huber(residual: Vector, delta: float) -> Vector:
    """x^2 / 2 for |x| < delta, delta (|x| - delta / 2) beyond (paper eq. 6)."""
    clipped = np.clip(residual, -delta, delta)
    return clipped * (residual - clipped / 2)


def ranks(x: Vector) -> Vector:
    """Ranks from 1, ties share their mean rank."""
    _, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]


def rank_correlation(x: Vector, y: Vector) -> float | None:
    """Spearman's rank correlation; None where x or y does not vary or is shorter than 2."""
    if len(x) < 2:
        return None
    a, b = ranks(x) - (len(x) + 1) / 2, ranks(y) - (len(y) + 1) / 2
    norm = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / norm) if norm > 0 else None


def score(predicted: Vector, measured: Vector, delta: float, residual: str = "loss") -> Score | None:
    """Score one target; rows whose measured loss is missing (NaN) do not count. None: no such row.

    Args:
        predicted, measured: losses (rows,).
        delta, residual: of the Huber loss, as in the fit ("loss" or "log").
    """
    seen = np.isfinite(measured)
    p, m = predicted[seen], measured[seen]
    if not len(m):
        return None
    p = np.where(np.isnan(p), np.inf, p)  # a law that has no value at a row is wrong there without bound
    error = p - m
    varies = m.max() > m.min()  # the mean of equal numbers may differ from them by rounding
    spread = float(np.sum((m - m.mean()) ** 2))
    huber_residual = np.log(m) - np.log(np.maximum(p, SMALLEST_LOSS)) if residual == "log" else -error
    return Score(
        n=len(m),
        mre=float(100 * np.mean(np.abs(error) / m)),
        mae=float(np.mean(np.abs(error))),
        r2=1 - float(error @ error) / spread if varies and spread > 0 else None,
        huber=float(np.mean(huber(huber_residual, delta))),
        rank=rank_correlation(p, m),
    )
