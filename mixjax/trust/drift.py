"""Fit + runs -> DRIFT: by how much more than a bootstrap knows a law is wrong beyond the sizes that
it was fitted to.

The largest sizes of the table are left out, the law is fitted to the rest, and its errors there are
measured against the distance in log N and log D.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixjax.data.runs import Runs
from mixjax.data.splits import clusters, resample
from mixjax.errors import MixjaxWarning
from mixjax.fitting.fit import Watch
from mixjax.fitting.fit import fit as fit_law
from mixjax.fitting.loss import Settings
from mixjax.fitting.record import Fit
from mixjax.trust.ensemble import TOLERANCE, Ensemble, refit

Floats = NDArray[np.float64]

# A law is fitted to the smaller sizes only where these have so many rows for each of its
# parameters.
_ROWS_PER_PARAMETER = 2


def beyond(fit: Fit, N: ArrayLike | None, D: ArrayLike | None) -> Floats:
    """How far N and D lie beyond the fitted ones, max(0, log(N / largest N)) + the same in D, () or
    (rows,)."""
    total: Any = np.zeros(())
    for name, counts in (("N", N), ("D", D)):
        if name in fit.ranges and counts is not None:
            total = total + np.maximum(
                0.0, np.log(np.asarray(counts, dtype=np.float64) / fit.ranges[name][1])
            )
    return np.asarray(total)


def bootstrap(
    fit: Fit,
    runs: Runs,
    resamples: int,
    by: str,
    seed: int,
    watch: Callable[[float], None] | None = None,
) -> Ensemble:
    """Refits under clustered resamples; members are any minimum within 1 percent of the lowest of
    their resample."""
    return refit(
        fit, runs, resample(runs, resamples, by, seed), seed=seed, tolerance=TOLERANCE, watch=watch
    )


class Drift(NamedTuple):
    """How a law drifts beyond its table.

    sd: {target: standard deviation of the relative error per unit of log distance}; held_out: what
    was left out to measure it, "" where nothing was.
    """

    sd: dict[str, float]
    held_out: str


NO_DRIFT = Drift({}, "")


def measure_drift(
    members: Ensemble, runs: Runs, reach: float, by: str, seed: int, watch: Callable[[float], None]
) -> Drift | None:
    """Drift of a law, measured at the largest sizes of its table by a fit of the others; None where
    there are too few sizes.

    Args:
        members: refits of the whole table; as many are made of its smaller sizes.
        runs: the rows that the fit was made of.
        reach: how far the points of interest lie beyond the table, see `beyond`; the rows that are
            left out lie about as far beyond the others.
        by: "run" or "mixture": what is resampled whole.
        watch: called with the share done.
    """
    kept = cut(members.fit, runs, reach)
    if kept is None:
        return None
    rows = runs.select(kept)
    smaller = fit_smaller(members.fit, rows, seed, lambda share, _: watch(share / 3))
    redrawn = bootstrap(
        smaller, rows, len(members), by, seed, lambda share: watch((1 + 2 * share) / 3)
    )
    held_out = [f"{name} > {high:.4g}" for name, (_, high) in smaller.ranges.items()]
    return Drift(measured_drift(redrawn, runs.select(~kept), by), " and ".join(held_out))


def cut(fit: Fit, runs: Runs, reach: float) -> NDArray[np.bool_] | None:
    """The rows to keep so that the others lie beyond them about as far as `reach`; None where that
    cannot be.

    All rows of the smaller sizes are kept, of at least two sizes; where the law reads no N, the
    smaller D.
    """
    law = fit.scaling_law
    read = {
        name: counts
        for name, counts, needed in zip(("N", "D"), (runs.N, runs.D), law.reads, strict=True)
        if needed and counts is not None
    }
    if not read:
        return None
    sizes = next(iter(read.values()))
    fewest = _ROWS_PER_PARAMETER * law.count(law.k(fit.domains))
    cuts = [sizes <= size for size in np.unique(sizes)[1:-1]]
    cuts = [kept for kept in cuts if kept.sum() >= fewest]

    def miss(kept: NDArray[np.bool_]) -> float:
        ranges = {name: (0.0, float(counts[kept].max())) for name, counts in read.items()}
        distance = beyond(replace(fit, ranges=ranges), read.get("N"), read.get("D"))
        return abs(float(np.max(distance)) - reach)

    return min(cuts, key=miss, default=None)


def fit_smaller(fit: Fit, runs: Runs, seed: int, watch: Watch | None = None) -> Fit:
    """The law of a fit, fitted to some of its rows."""
    starts = int(fit.made.get("starts", Settings().starts))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MixjaxWarning)
        smaller = fit_law(
            runs,
            fit.scaling_law,
            targets=fit.targets,
            starts=starts,
            **asdict(fit.huber),
            seed=seed,
            watch=watch,
        )
    if smaller.interrupted:
        raise KeyboardInterrupt
    return smaller


def _spread(deviations: Floats) -> float:
    """A standard deviation (from the median of the sizes) that a few members whose parameters ran
    off do not change."""
    return 1.4826 * float(np.median(np.abs(deviations)))


def measured_drift(members: Ensemble, held_out: Runs, by: str) -> dict[str, float]:
    """{target: standard deviation of drift}, from the errors of a fit of the smaller sizes at the
    larger ones.

    The slope c of relative errors on distance, less the variance that the bootstrap gives it and
    the noise of the held-out clusters: c^2 - var - var. Half of a target's variance is its own (0
    where negative), half the mean over targets.
    """
    fit = members.fit
    distance = np.broadcast_to(beyond(fit, held_out.N, held_out.D), len(held_out))
    point, drawn = (
        fit.predict(held_out.N, held_out.D, held_out.h),
        members.predict(held_out.N, held_out.D, held_out.h),
    )
    cluster = clusters(held_out, by)
    own = {}
    for t in fit.targets:
        measured = held_out.loss(t)
        use = np.isfinite(measured) & (distance > 0)
        if not use.any():
            continue
        d, m, c = distance[use], measured[use], cluster[use]
        squares = float(d @ d)
        error = point[t][use] / m - 1
        slope = float(d @ error) / squares
        slopes = (drawn[t][:, use] / m - 1) @ d / squares
        noise = np.bincount(c, d * (error - slope * d)) / squares
        own[t] = slope**2 - _spread(slopes - slope) ** 2 - float(noise @ noise)
    common = max(0.0, float(np.mean(list(own.values())))) if own else 0.0
    return {
        t: float(np.sqrt(0.5 * max(own.get(t, common), 0.0) + 0.5 * common)) for t in fit.targets
    }
