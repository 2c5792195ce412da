"""Ensemble + what larger scales taught -> INTERVALS: of predictions, of differences, of the best
mixture.

A prediction at x is off for four reasons, and an interval adds them up as draws:

    loss(x) = p(x) + [p_r(x) - p(x)] + p(x) * drift * distance(x) * xi + p(x) * noise

- [p_r - p]: the clustered bootstrap; a member r may be any minimum that its resample does not tell
  from the lowest.
- drift: laws are wrong beyond the sizes they were fitted to, by much more than a bootstrap knows,
  and by one sign for all mixtures. Its size is measured: the largest sizes of the table are left
  out, as far as the points lie beyond the table, the law is fitted to the rest, and what its errors
  there grow by, per unit of log N and log D beyond the rest, less what bootstrap and noise explain,
  is the standard deviation of drift. Half of its variance is the target's own, half the mean over
  targets.
- noise: a new row has its own; residuals of the fitted rows, enlarged for the parameters that were
  fitted to them.

An interval is p(x) +- the quantile of |loss(x) - p(x)| over draws. xi is normal and one number for
all rows and targets of a draw.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixjax.data.runs import Runs
from mixjax.data.splits import clusters, resample
from mixjax.errors import MixjaxWarning, UserError, warn
from mixjax.fitting.fit import fit as fit_law
from mixjax.fitting.loss import Settings
from mixjax.fitting.record import Fit
from mixjax.trust.refit import TOLERANCE, Ensemble, refit

Floats = NDArray[np.float64]

RESAMPLES, LEVEL = 200, 0.9
_FEW_MIXTURES = 5  # below: intervals are warned of
_DRAWS = 10  # of noise and drift, for every member
# A law is fitted to the smaller sizes only where these have so many rows for each of its
# parameters.
_ROWS_PER_PARAMETER = 2


@dataclass(frozen=True)
class Interval:
    """predicted, low, high: losses (rows,), in the unit of the table; level: of the interval, e.g.
    0.9."""

    predicted: Floats
    low: Floats
    high: Floats
    level: float

    @property
    def width(self) -> Floats:
        """Width (rows,)."""
        return self.high - self.low

    def covers(self, measured: ArrayLike) -> NDArray[np.bool_]:
        """Whether measured losses (rows,) lie inside; False where they are missing."""
        m = np.asarray(measured, dtype=np.float64)
        return (m >= self.low) & (m <= self.high)


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """All that intervals of one fit are made of.

    Attributes:
        ensemble: bootstrap members.
        noise: {target: relative residuals of the fitted rows, enlarged}.
        drift: {target: standard deviation of the relative error per unit of log distance beyond the
            table}.
        held_out: what was left out to measure the drift; "" where nothing was.
        clusters: how many there were to resample.
        lowest: smallest trained share of each domain (k,).
        seed: of the draws.
    """

    ensemble: Ensemble
    noise: Mapping[str, Floats]
    drift: Mapping[str, float]
    held_out: str
    clusters: int
    lowest: Floats
    seed: int

    @property
    def fit(self) -> Fit:
        """The point estimate."""
        return self.ensemble.fit

    def only(self, targets: tuple[str, ...]) -> Uncertainty:
        """The same for some of the targets."""
        return replace(
            self,
            ensemble=self.ensemble.only(targets),
            noise={t: self.noise[t] for t in targets},
            drift={t: self.drift[t] for t in targets},
        )

    def spread(self, deviations: Floats) -> Floats:
        """Bootstrap deviations from the point estimate (members, ...), enlarged for the number of
        clusters by sqrt(G / (G - 1))."""
        return deviations * np.sqrt(self.clusters / (self.clusters - 1))

    def intervals(
        self,
        N: ArrayLike | None,
        D: ArrayLike | None,
        h: ArrayLike,
        level: float = LEVEL,
        new_rows: bool = True,
    ) -> dict[str, Interval]:
        """Intervals {target: Interval} of losses at rows, N and D counts () or (rows,), h (rows,
        k).

        Args:
            level: the share of them that should contain the loss.
            new_rows: of a loss that will be measured, with its own noise; False for the loss that
                the law would have without.
        """
        check_level(level)
        point, members = self.fit.predict(N, D, h), self.ensemble.predict(N, D, h)
        distance = beyond(self.fit, N, D)
        out = {}
        for g, (t, p) in enumerate(point.items()):
            p = np.atleast_1d(p)
            rng = np.random.default_rng((self.seed, g))
            off = np.tile(self.spread(members[t] - p), (_DRAWS, 1))
            off += p * self.drift[t] * distance * rng.standard_normal((len(off), 1))
            if new_rows:
                off += p * rng.choice(self.noise[t], size=off.shape)
            out[t] = _symmetric(p, off, level)
        return out

    def difference(
        self, h: ArrayLike, other: ArrayLike, N: float | None, D: float | None, level: float = LEVEL
    ) -> dict[str, Interval]:
        """Intervals {target: Interval of one row} of the loss of mixture h (k,) minus that of
        `other` (k,) at one scale, without noise.

        Drift is common to the mixtures of a scale, in proportion to their loss, and takes little
        part in it.
        """
        check_level(level)
        rows = np.stack([np.asarray(h, dtype=np.float64), np.asarray(other, dtype=np.float64)])
        point, members = self.fit.predict(N, D, rows), self.ensemble.predict(N, D, rows)
        distance = np.max(beyond(self.fit, N, D))
        out = {}
        for g, (t, p) in enumerate(point.items()):
            rng = np.random.default_rng((self.seed, g))
            value = p[:1] - p[1:]
            off = np.tile(self.spread(members[t][:, :1] - members[t][:, 1:] - value), (_DRAWS, 1))
            off += value * self.drift[t] * distance * rng.standard_normal((len(off), 1))
            out[t] = _symmetric(value, off, level)
        return out


def _symmetric(p: Floats, off: Floats, level: float) -> Interval:
    """p (rows,) +- the quantile of |off| (draws, rows); where a member predicts no finite loss it
    takes no part."""
    half = np.nanquantile(np.where(np.isfinite(off), np.abs(off), np.nan), level, axis=0)
    return Interval(p, p - half, p + half, level)


def check_level(level: float) -> None:
    """Refuse a level that is no share."""
    if not 0 < level < 1:
        raise UserError("level", f"{level} is not between 0 and 1", "give a share, e.g. 0.9")


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


def uncertainty(
    fit: Fit,
    runs: Runs,
    N: ArrayLike | None = None,
    D: ArrayLike | None = None,
    *,
    resamples: int = RESAMPLES,
    by: str = "run",
    seed: int = 0,
    watch: Callable[[float, Mapping[str, float]], None] | None = None,
) -> Uncertainty:
    """What the intervals of a fit are made of, at scales up to N and D.

    Args:
        fit: of these runs.
        runs: the rows that it was fitted to.
        N, D: counts of the points that intervals are wanted for; left out, none lies beyond the
            table.
        resamples: of the bootstrap.
        by: "run" or "mixture": what is resampled whole.
        seed: same seed, same intervals.
        watch: called with the share done and nothing else.

    Raises:
        UserError: the table does not belong to the fit, or has too few clusters.

    Warns:
        MixjaxWarning: the points lie beyond the table and it has too few sizes to see how laws
            drift there; or it has fewer than 5 mixtures, so that no resample tells how others
            differ from them.
    """
    table = runs.reordered(fit.domains)
    if resamples < 20:
        raise UserError(
            "resamples", f"{resamples} are too few for intervals", "give 20 at least, better 200"
        )

    mixtures = len(np.unique(table.h, axis=0)) if table.domains else _FEW_MIXTURES
    if mixtures < _FEW_MIXTURES:
        what = (
            f"has {mixtures} mixture{'s' if mixtures > 1 else ''}: intervals know nothing of "
            f"how others differ, and are too narrow for them"
        )
        warn(
            table.name,
            what,
            f"train {_FEW_MIXTURES} mixtures or more, or trust intervals at these alone",
        )

    def report(share: float) -> None:
        if watch:
            watch(share, {})

    reach = float(np.max(beyond(fit, N, D)))
    ensemble = bootstrap(
        fit, table, resamples, by, seed, lambda x: report((0.4 if reach > 0 else 1.0) * x)
    )
    drift, held_out = dict.fromkeys(fit.targets, 0.0), ""
    if reach > 0:
        kept = cut(fit, table, reach)
        if kept is None:
            warn(
                table.name,
                "has too few sizes to leave the largest out",
                "intervals beyond the table assume that the law holds there",
            )
        else:
            smaller = fit_smaller(fit, table.select(kept), seed, lambda x, _: report(0.4 + 0.2 * x))
            members = bootstrap(
                smaller, table.select(kept), resamples, by, seed, lambda x: report(0.6 + 0.4 * x)
            )
            drift = measured_drift(members, table.select(~kept), by)
            held_out = " and ".join(
                f"{name} > {high:.4g}" for name, (_, high) in smaller.ranges.items()
            )
    return Uncertainty(
        ensemble,
        {t: off[np.isfinite(off)] for t, off in noise_of(fit, table).items()},
        drift,
        held_out,
        int(clusters(table, by).max()) + 1,
        table.h.min(axis=0),
        seed,
    )


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


def noise_of(fit: Fit, runs: Runs) -> dict[str, Floats]:
    """{target: relative residuals (rows,)}, times sqrt(n / (n - parameters)) for n measured rows;
    not finite in the others."""
    count = fit.scaling_law.count(fit.scaling_law.k(fit.domains))
    predicted = fit.predict(runs.N, runs.D, runs.h)
    out = {}
    for t in fit.targets:
        off = runs.loss(t) / predicted[t] - 1
        n = int(np.isfinite(off).sum())
        out[t] = off * np.sqrt(n / max(n - count, 1.0))
    return out


def cut(fit: Fit, runs: Runs, reach: float) -> NDArray[np.bool_] | None:
    """The rows to keep so that the others lie beyond them about as far as `reach`; None where that
    cannot be.

    All rows of the smaller sizes are kept, of at least two sizes; where the law reads no N, the
    smaller D.
    """
    law = fit.scaling_law
    k = law.k(fit.domains)
    reads = law.reads
    counts = runs.N if reads.N else runs.D if reads.D else None
    if counts is None:
        return None
    values = np.unique(counts)
    best: tuple[float, NDArray[np.bool_]] | None = None
    for value in values[1:-1]:
        kept = counts <= value
        if kept.sum() < _ROWS_PER_PARAMETER * law.count(k):
            continue
        ranges = {
            name: (0.0, float(x[kept].max()))
            for name, x, needed in zip(("N", "D"), (runs.N, runs.D), reads, strict=True)
            if needed and x is not None
        }
        smaller = replace(fit, ranges=ranges)
        d = beyond(smaller, runs.N if reads.N else None, runs.D if reads.D else None)
        miss = abs(float(np.max(d)) - reach)
        if best is None or miss < best[0]:
            best = miss, kept
    return None if best is None else best[1]


def fit_smaller(
    fit: Fit,
    runs: Runs,
    seed: int,
    watch: Callable[[float, Mapping[str, float]], None] | None = None,
) -> Fit:
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
    of = clusters(held_out, by)
    own = {}
    for t in fit.targets:
        measured = held_out.loss(t)
        use = np.isfinite(measured) & (distance > 0)
        if not use.any():
            continue
        d, m, c = distance[use], measured[use], of[use]
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
