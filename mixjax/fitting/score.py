"""Predictions + measured losses -> SCORES: plain NumPy, missing losses left out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixjax.fitting.loss import Huber
from mixjax.text import table

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Score:
    """Agreement of one target's predictions with its measured losses over n rows.

    Attributes:
        n: rows with a measured loss.
        mre: mean of |predicted - measured| / measured, percent (the paper's MRE).
        mae: mean of |predicted - measured|, in the loss's unit.
        r2: 1 - residual sum of squares / total sum of squares; None where the measured losses do
            not vary.
        huber: mean Huber loss of the residual, the objective of the fit (paper eq. 6).
        rank: Spearman's rank correlation of predicted and measured; None where either does not
            vary.
    """

    n: int
    mre: float
    mae: float
    r2: float | None
    huber: float
    rank: float | None


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


def score(predicted: Vector, measured: Vector, huber: Huber | None = None) -> Score | None:
    """Score one target; rows whose measured loss is missing (NaN) do not count. None: no such row.

    Args:
        predicted, measured: losses (rows,).
        huber: the loss of a row, as in the fit.
    """
    huber, seen = huber or Huber(), np.isfinite(measured)
    p, m = predicted[seen], measured[seen]
    if not len(m):
        return None
    # A law that has no value at a row is wrong there without bound.
    p = np.where(np.isnan(p), np.inf, p)
    error = p - m
    varies = m.max() > m.min()  # the mean of equal numbers may differ from them by rounding
    spread = float(np.sum((m - m.mean()) ** 2))
    return Score(
        n=len(m),
        mre=float(100 * np.mean(np.abs(error) / m)),
        mae=float(np.mean(np.abs(error))),
        r2=1 - float(error @ error) / spread if varies and spread > 0 else None,
        huber=float(np.mean(huber.value(huber.residuals(p, m)))),
        rank=rank_correlation(p, m),
    )


# Numbers of a `Score` in tables, and their formats.
_SHOWN = {"mre": ".3f", "mae": ".5f", "r2": ".4f", "rank": ".3f", "huber": ".4g"}


def scores_to_dict(scores: Mapping[str, Score]) -> dict[str, Any]:
    """{"targets": {name: numbers}, "mean": numbers}, a missing number left out of means."""
    targets = {t: {"n": s.n} | {x: getattr(s, x) for x in _SHOWN} for t, s in scores.items()}
    known = {x: [s[x] for s in targets.values() if s[x] is not None] for x in _SHOWN}
    mean = {x: math.fsum(values) / len(values) if values else None for x, values in known.items()}
    return {"targets": targets, "mean": mean}


def scores_table(scores: Mapping[str, Score]) -> str:
    """One line per target and one of means; mre in percent."""
    content = scores_to_dict(scores)
    rows: list[list[Any]] = []
    for t, numbers in [*content["targets"].items(), ("mean", {"n": "", **content["mean"]})]:
        values = [(numbers[name], form) for name, form in _SHOWN.items()]
        cells = [None if x is None else format(x, form) for x, form in values]
        rows.append([t, numbers["n"], *cells])
    return table(["target", "n", "mre %", *list(_SHOWN)[1:]], rows)


# Fewer mixtures than this have no best quarter to speak of.
_QUARTER_OF = 8


@dataclass(frozen=True)
class ChoiceScore:
    """How good predictions are for choosing a mixture, compared within each scale (N, D).

    Numbers over mixtures are means over the scales with at least 2 measured mixtures (8 for the
    best quarter); None without any.

    Attributes:
        n: rows with a measured loss.
        mre: mean of |predicted - measured| / measured, percent.
        mae: mean of |predicted - measured|, in the loss's unit.
        bias: mean of (predicted - measured) / measured, percent: of one sign where extrapolation is
            off.
        slope: of measured on predicted losses over mixtures, pooled within scales; 1 is calibrated,
            below 1 too wide apart.
        rank: Spearman's rank correlation over mixtures.
        rank_best: the same among the quarter of mixtures that are measured best.
        regret: measured loss of the mixture predicted best minus that of the one measured best.
        optimism: mean of measured - predicted over the quarter of mixtures predicted best, less the
            same over all: what the law promises there and does not keep.
        scales: how many scales have at least 2 measured mixtures.
    """

    n: int
    mre: float
    mae: float
    bias: float
    slope: float | None
    rank: float | None
    rank_best: float | None
    regret: float | None
    optimism: float | None
    scales: int


def choice_score(
    predicted: Vector, measured: Vector, scale: NDArray[np.intp]
) -> ChoiceScore | None:
    """Score one target's predictions for choosing; rows without a measured loss or a finite
    prediction do not count. None: no such row.

    Args:
        predicted, measured: losses (rows,).
        scale: number of the scale (N, D) of each row (rows,).
    """
    seen = np.isfinite(measured) & np.isfinite(predicted)
    p, m, of = predicted[seen], measured[seen], scale[seen]
    if not len(m):
        return None
    groups = [(p[of == s], m[of == s]) for s in np.unique(of)]
    groups = [(a, b) for a, b in groups if len(a) >= 2]
    wide = [(a, b) for a, b in groups if len(a) >= _QUARTER_OF]
    return ChoiceScore(
        n=len(m),
        mre=float(100 * np.mean(np.abs(p - m) / m)),
        mae=float(np.mean(np.abs(p - m))),
        bias=float(100 * np.mean((p - m) / m)),
        slope=_pooled_slope(groups),
        rank=_mean([rank_correlation(a, b) for a, b in groups]),
        rank_best=_mean([rank_correlation(*_quarter(a, b, by=b)) for a, b in wide]),
        regret=_mean([float(b[np.argmin(a)] - b.min()) for a, b in groups]),
        optimism=_mean([_gap(*_quarter(a, b, by=a)) - _gap(a, b) for a, b in wide]),
        scales=len(groups),
    )


def _mean(values: list[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known else None


def _quarter(predicted: Vector, measured: Vector, by: Vector) -> tuple[Vector, Vector]:
    """The quarter of the rows, rounded up, with the lowest `by`."""
    best = np.argsort(by, kind="stable")[: -(-len(by) // 4)]
    return predicted[best], measured[best]


def _gap(predicted: Vector, measured: Vector) -> float:
    return float(np.mean(measured - predicted))


def _pooled_slope(groups: list[tuple[Vector, Vector]]) -> float | None:
    """Slope within scales of measured on predicted; None where predictions do not vary."""
    products = sum(float((a - a.mean()) @ (b - b.mean())) for a, b in groups)
    squares = sum(float((a - a.mean()) @ (a - a.mean())) for a, _ in groups if np.ptp(a) > 0)
    return products / squares if squares > 0 else None
