"""Residuals -> INFORMATION CRITERION: the likelihood that Huber's loss stands for, and how many
independent rows there are.

A fit that minimises the sum of Huber_delta(r) is the maximum-likelihood fit under residuals of
density

    p(r) = exp(-Huber_delta(r) / s) / Z,   Z = sqrt(2 pi s) erf(delta / sqrt(2 s)) + (2 s / delta)
    exp(-delta^2 / (2 s)),

normal within delta of 0 and Laplace's beyond it (with delta = 1e-3 and residuals of 1e-2, Laplace's
almost everywhere). The scale s is fitted too. As a density of measured losses it can be compared
between deltas, and between residuals of the loss and of its logarithm (whose density is divided by
the loss).

Rows of one run are not independent. With rho the correlation within runs of the scores, the
residuals clipped at +-delta, which is what parameters are pulled by, a run of m rows counts as m /
(1 + (m - 1) rho). The criterion is Schwarz's (1978) for n_eff = sum of these:

    BIC = -2 (n_eff / n) log likelihood + (parameters + 1) log n_eff

All parameters count, also those that the rows do not pin down.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mixjax.fitting.loss import Huber

Floats = NDArray[np.float64]

_GOLDEN = (math.sqrt(5) - 1) / 2


def log_likelihood(residuals: Floats, delta: float) -> float:
    """Largest log-likelihood over s of residuals (rows,) with a density proportional to
    exp(-Huber_delta(r) / s)."""
    mean = float(np.mean(Huber(delta).value(residuals)))
    if not mean > 0:
        return math.inf
    # s lies between the mean Huber loss (Laplace) and twice that (normal); the likelihood has one
    # peak in log s.
    low, high = math.log(0.5 * mean), math.log(4.0 * mean)
    for _ in range(60):
        width = _GOLDEN * (high - low)
        if _mean_log_density(mean, math.exp(high - width), delta) < _mean_log_density(
            mean, math.exp(low + width), delta
        ):
            low = high - width
        else:
            high = low + width
    return len(residuals) * _mean_log_density(mean, math.exp(0.5 * (low + high)), delta)


def _mean_log_density(mean: float, s: float, delta: float) -> float:
    """Mean over rows of log p(r), for their mean Huber loss."""
    inside = math.sqrt(2 * math.pi * s) * math.erf(delta / math.sqrt(2 * s))
    beyond = 2 * s / delta * math.exp(-(delta**2) / (2 * s))
    return -math.log(inside + beyond) - mean / s


def effective_rows(residuals: Floats, delta: float, cluster: NDArray[np.intp]) -> float:
    """How many independent rows the residuals (rows,) are worth; cluster (rows,): number of the run
    of each."""
    scores = np.clip(residuals, -delta, delta)
    of = np.unique(cluster, return_inverse=True)[1].reshape(-1)
    rows = np.bincount(of)
    pairs = float(np.sum(rows * (rows - 1)))
    squares = float(scores @ scores)
    if not pairs or not squares > 0:
        return float(len(scores))
    together = float(np.sum(np.bincount(of, scores) ** 2)) - squares
    rho = min(max(together / pairs / (squares / len(scores)), 0.0), 1.0)
    return float(np.sum(rows / (1 + (rows - 1) * rho)))


def schwarz(likelihood: float, rows: int, effective: float, parameters: int) -> float:
    """BIC of one target; lower is better."""
    return -2 * effective / rows * likelihood + (parameters + 1) * math.log(max(effective, 1.0))
