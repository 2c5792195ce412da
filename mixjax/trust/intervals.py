"""Ensemble + what larger scales taught -> INTERVALS: of predictions, of differences, of the best
mixture.

A prediction at x is off for five reasons, and an interval adds them up as draws:

    loss(x) = p(x) + [p_r(x) - p(x)] + [p_l(x) - p(x)] + p(x) * drift(x) * xi + p(x) * noise

- [p_r - p]: the clustered bootstrap; a member r may be any minimum that its resample does not tell
  from the lowest.
- [p_l - p]: of an average of laws, one of them, drawn by its weight.
- drift: laws are wrong beyond the runs they were fitted to, by much more than a bootstrap knows.
  Its size is measured, see `drift.measure_drift`: rates along N, D, compute and mixtures, times
  how far x lies beyond the table along each. xi is Student's t with few degrees of freedom where
  little could be left out; in scale it is one number for all rows and targets of a draw, since laws
  are wrong there by one sign; beyond the trained mixtures each row has its own.
- noise: a new row has its own; residuals of the fitted rows, enlarged for the parameters that were
  fitted to them.

An interval is p(x) +- the quantile of |loss(x) - p(x)| over draws.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixjax.data.runs import Runs
from mixjax.data.splits import EXTREME, clusters
from mixjax.errors import UserError, warn
from mixjax.fitting.fit import Watch
from mixjax.fitting.record import Fit
from mixjax.mixture.many import Vary, boxes_at, optima, parameter_sets
from mixjax.mixture.optimum import Optimum, best_of
from mixjax.mixture.question import Question
from mixjax.text import Record, plain, table
from mixjax.trust.drift import Drift, Table, measure_drift, reach_of
from mixjax.trust.ensemble import Ensemble, bootstrap

Floats = NDArray[np.float64]

RESAMPLES, LEVEL = 200, 0.9
_FEW_MIXTURES = 5  # below: intervals are warned of
_DRAWS = 10  # of noise and drift, for every member
_FEWEST = 20  # members that have a best mixture, for an interval of it
# Members' best mixtures may have this part of the smallest trained share and no less, unless the
# fit's own has: the bound on the regret was kept in 0.89 of 220 simulated tables, in 0.79 where
# they were held at the smallest trained share, below which most true optima lie.
_BELOW = 0.01
_SLACK = 1 - 1e-9  # so that floors that add up to 1 are still met


@dataclass(frozen=True)
class LossInterval:
    """An interval of a loss at rows, in the unit of the table."""

    predicted: Floats  # (rows,), as the next two
    low: Floats
    high: Floats
    level: float  # e.g. 0.9

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
        drift: how the law is wrong beyond the table.
        table: how far that reaches.
        clusters: how many there were to resample.
        lowest: smallest trained share of each domain (k,).
        seed: of the draws.
    """

    ensemble: Ensemble
    noise: Mapping[str, Floats]
    drift: Drift
    table: Table
    clusters: int
    lowest: Floats
    seed: int

    @property
    def held_out(self) -> str:
        """What was left out to measure the drift; "" where nothing was."""
        return ", ".join(self.drift.folds)

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
            drift=replace(self.drift, rates={t: self.drift.rates[t] for t in targets}),
        )

    def spread(self, deviations: Floats) -> Floats:
        """Bootstrap deviations (members, ...), enlarged by sqrt(G / (G - 1)) of G clusters."""
        return deviations * np.sqrt(self.clusters / (self.clusters - 1))

    def intervals(
        self,
        N: ArrayLike | None,
        D: ArrayLike | None,
        h: ArrayLike,
        level: float = LEVEL,
        new_rows: bool = True,
    ) -> dict[str, LossInterval]:
        """Intervals {target: interval} of losses at rows, N and D () or (rows,), h (rows, k).

        Args:
            level: the share of them that should contain the loss.
            new_rows: of a loss that will be measured, with its own noise; False for the loss that
                the law would have without.
        """
        rows = self._rows(N, D, h)
        predicted = {t: np.atleast_1d(p) for t, p in self.fit.predict(N, D, rows).items()}
        values = self._drawn(predicted, N, D, rows)
        return self._of_values(values, self.table.distance(N, D, rows), level, new_rows)

    def _rows(self, N: ArrayLike | None, D: ArrayLike | None, h: ArrayLike) -> Floats:
        count = max(np.size(x) for x in (0.0 if N is None else N, 0.0 if D is None else D))
        weights = np.atleast_2d(np.asarray(h, dtype=np.float64))
        return np.broadcast_to(weights, (max(count, len(weights)), weights.shape[1]))

    def _drawn(
        self, predicted: Mapping[str, Floats], N: ArrayLike | None, D: ArrayLike | None, h: Floats
    ) -> dict[str, tuple[Floats, Floats, Floats]]:
        """{target: (by the fit (rows,), by the members (members, rows), by the laws of an average
        (draws, rows))}."""
        members, parts = self.ensemble.predict(N, D, h), self.fit.parts
        weights = [weight for weight, _ in parts]
        laws = [part.predict(N, D, h) for _, part in parts] if len(parts) > 1 else [predicted]
        which = np.random.default_rng((self.seed, len(parts))).choice(
            len(parts), size=_DRAWS * len(self.ensemble), p=np.array(weights) / sum(weights)
        )
        return {
            t: (p, members[t], np.stack([np.atleast_1d(law[t]) for law in laws])[which])
            for t, p in predicted.items()
        }

    def difference(
        self, h: ArrayLike, other: ArrayLike, N: float | None, D: float | None, level: float = LEVEL
    ) -> dict[str, LossInterval]:
        """Intervals {target: interval of one row} of the loss of mixture h (k,) minus that of
        `other` (k,) at one scale, without noise.

        Drift is common to the mixtures of a scale, in proportion to their loss, and takes little
        part in it.
        """
        rows = np.stack([np.asarray(h, dtype=np.float64), np.asarray(other, dtype=np.float64)])
        values = {
            t: tuple(x[..., :1] - x[..., 1:] for x in of_target)
            for t, of_target in self._drawn(self.fit.predict(N, D, rows), N, D, rows).items()
        }
        distance = self.table.distance(N, D, rows).max(axis=0, keepdims=True)
        whole = {t: p.max(keepdims=True) for t, p in self.fit.predict(N, D, rows).items()}
        return self._of_values(values, distance, level, False, whole)

    def _of_values(
        self,
        values: Mapping[str, Any],
        distance: Floats,
        level: float,
        noise: bool,
        whole: Mapping[str, Floats] | None = None,
    ) -> dict[str, LossInterval]:
        """Of values {target: see `_drawn`} at a distance (rows, 4) beyond the table.

        whole: {target: what errors beyond the trained mixtures are in proportion to (rows,)}; the
        values by default.
        """
        check_level(level)
        out = {}
        for g, (t, (value, drawn, laws)) in enumerate(values.items()):
            rng = np.random.default_rng((self.seed, g))
            sd = distance * self.drift.rates[t]
            off = np.tile(self.spread(drawn - value), (_DRAWS, 1)) + (laws - value)
            t_of = self.drift.freedom
            scale = np.sqrt(np.sum(sd[:, :-1] ** 2, axis=1))
            off += value * scale * rng.standard_t(t_of, (len(off), 1))
            off += (whole or {t: value})[t] * sd[:, -1] * rng.standard_t(t_of, off.shape)
            if noise:
                off += value * rng.choice(self.noise[t], size=off.shape)
            # Where a member predicts no finite loss it takes no part.
            sizes = np.where(np.isfinite(off), np.abs(off), np.nan)
            half = np.nanquantile(sizes, level, axis=0)
            out[t] = LossInterval(value, value - half, value + half, level)
        return out


def check_level(level: float) -> None:
    """Refuse a level that is no share."""
    if not 0 < level < 1:
        raise UserError("level", f"{level} is not between 0 and 1", "give a share, e.g. 0.9")


def uncertainty(
    fit: Fit,
    runs: Runs,
    N: ArrayLike | None = None,
    D: ArrayLike | None = None,
    *,
    resamples: int = RESAMPLES,
    by: str = "run",
    seed: int = 0,
    watch: Watch | None = None,
) -> Uncertainty:
    """What the intervals of a fit are made of, at scales up to N and D.

    Args:
        fit: of these runs.
        runs: the rows that it was fitted to.
        N, D: counts of the points that intervals are wanted for; left out, none lies beyond the
            table.
        by: "run" or "mixture": what is resampled whole.
        watch: called with the share done and nothing else.

    Raises:
        UserError: the table does not belong to the fit, or has too few clusters.

    Warns:
        MixjaxWarning: the points lie beyond the table and it has too few sizes to see how laws
            drift there; or it has fewer than 5 mixtures, so that no resample tells how others
            differ from them.
    """
    rows = runs.reordered(fit.domains)
    if resamples < 20:
        what = f"{resamples} are too few for intervals"
        raise UserError("resamples", what, "give 20 at least, better 200")
    mixtures = len(np.unique(rows.h, axis=0)) if rows.domains else _FEW_MIXTURES
    if mixtures < _FEW_MIXTURES:
        few = f"has {mixtures} mixture{'s' if mixtures > 1 else ''}"
        what = "intervals know nothing of how others differ, and are too narrow for them"
        remedy = f"train {_FEW_MIXTURES} mixtures or more, or trust intervals at these alone"
        warn(rows.name, f"{few}: {what}", remedy)

    def report(share: float) -> None:
        if watch:
            watch(share, {})

    table = reach_of(fit, rows)
    drawn = bootstrap(fit, rows, resamples, by, seed, lambda x: report(0.7 * x))
    noise = {t: off[np.isfinite(off)] for t, off in noise_of(fit, rows).items()}
    sizes = {t: float(np.sqrt(np.mean(off**2))) for t, off in noise.items()}
    drift = measure_drift(fit, rows, sizes, seed, lambda x: report(0.7 + 0.3 * x))
    asked = zip((N, D), table.largest[:2], strict=True)
    beyond = any(x is not None and np.log(np.max(x)) > top + 1e-9 for x, top in asked)
    if beyond and all(name == EXTREME for name in drift.folds):
        what = "has too few sizes to leave the largest out"
        warn(rows.name, what, "intervals beyond the table assume that the law holds there")
    count = int(clusters(rows, by).max()) + 1
    return Uncertainty(drawn, noise, drift, table, count, rows.h.min(axis=0), seed)


def noise_of(fit: Fit, runs: Runs) -> dict[str, Floats]:
    """{target: residuals (rows,) over the prediction, times sqrt(n / (n - parameters)); not finite
    where no loss was measured}."""
    count = fit.scaling_law.count(fit.scaling_law.k(fit.domains))
    predicted = fit.predict(runs.N, runs.D, runs.h)
    out = {}
    for t in fit.targets:
        off = runs.loss(t) / predicted[t] - 1
        n = int(np.isfinite(off).sum())
        out[t] = off * np.sqrt(n / max(n - count, 1.0))
    return out


# --- Of the best mixture --------------------------------------------------------------------------


@dataclass(frozen=True)
class MixtureInterval(Record):
    """The best mixture of a fit, and how it moves with the runs that happened to be drawn."""

    best: Optimum  # of the fit itself
    shares: dict[str, tuple[float, float]]  # quantiles of the members' best mixtures
    objective: tuple[float, float]  # at the true best mixture
    # By so much, at most, `best.weights` has a higher objective, a pull included, than the true
    # best mixture, with confidence `level`.
    regret: float
    level: float
    members: int  # parameter sets that all are made of

    def __str__(self) -> str:
        """Shares with their intervals, in percent."""
        shares = {d: (w, *self.shares[d]) for d, w in self.best.weights.items()}
        rows = [[d, *(f"{100 * x:.2f}" for x in of_domain)] for d, of_domain in shares.items()]
        low, high = self.objective
        return (
            f"{self.level:.0%} intervals of {self.members} parameter sets\n"
            f"{table(['domain', 'share %', 'low', 'high'], rows)}\n"
            f"objective {self.best.objective:.5f} in {low:.5f} .. {high:.5f}; "
            f"regret at most {self.regret:.5f}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain content for JSON."""

        def interval(best: float, ends: tuple[float, float]) -> dict[str, float]:
            return {"best": best, "low": ends[0], "high": ends[1]}

        weights = {d: interval(w, self.shares[d]) for d, w in self.best.weights.items()}
        of = {"weights": weights, "objective": interval(self.best.objective, self.objective)}
        return plain({**of, "regret": self.regret, "level": self.level, "members": self.members})


def best_mixture(trust: Uncertainty, question: Question, level: float = LEVEL) -> MixtureInterval:
    """The best mixture that answers a question, with intervals.

    Each member has a best mixture of its own, among those in which no domain has less than both the
    fit's best mixture and a hundredth of what the runs ever gave it: without runs there, an
    exponent just below 0 lets a member promise anything at a share of 1e-100. Shares may range
    widely where the objective is flat: the regret says what that costs. Drift in scale moves the
    objective of all mixtures together, and not the shares; the regret of a best mixture beyond the
    trained ones is enlarged by what the law is wrong by there.

    Args:
        question: about the fit that the ensemble was made from.

    Raises:
        UserError: what `optimal_mixture` refuses; or fewer than 20 members have a best mixture.
    """
    check_level(level)
    best = best_of(question)
    h, weights = np.array(list(best.weights.values())), question.target_weights
    least = np.minimum(_BELOW * trust.lowest, h)
    predicted = trust.ensemble.predict(question.N, question.D, h[None])
    losses = np.stack([members[:, 0] for members in predicted.values()], axis=1)
    usable = np.flatnonzero(np.isfinite(losses[:, weights > 0]).all(axis=1))
    if len(usable) < min(_FEWEST, len(trust.ensemble)):
        what = f"{len(usable)} of {len(trust.ensemble)} parameter sets have a best mixture"
        raise UserError("mixture", what, "give floors to the domains, or more runs")
    boxes = boxes_at(question, None, len(usable))
    boxes = boxes._replace(floors=np.maximum(boxes.floors, least * _SLACK))
    _, sets = parameter_sets(trust.ensemble)
    minima = optima(question, Vary(boxes=boxes, params=sets, member=usable))
    there = losses[usable][:, weights > 0] @ weights[weights > 0] + best.pull
    # A regret is of second order in what moves the optimum, so is its correction for the number of
    # clusters.
    regrets = np.maximum(there - minima.objective - minima.pull, 0.0)
    regrets = np.tile(regrets * trust.clusters / (trust.clusters - 1), _DRAWS)
    mixture = _drifts(trust, best)[1]
    student = np.random.default_rng(trust.seed).standard_t(trust.drift.freedom, len(regrets))
    regrets += np.abs(mixture * student)
    # The p (n + 1)-th of n members: the true regret is one more draw from among them, so that few
    # members do not promise too little.
    ends = np.quantile(minima.h, [(1 - level) / 2, (1 + level) / 2], axis=0, method="weibull")
    half = float(np.quantile(np.abs(_off(trust, best, minima.objective)), level))
    return MixtureInterval(
        best=best,
        shares=dict(zip(best.weights, map(tuple, ends.T.tolist()), strict=True)),
        objective=(best.objective - half, best.objective + half),
        regret=float(np.quantile(regrets, level, method="weibull")),
        level=level,
        members=len(usable),
    )


def _off(trust: Uncertainty, best: Optimum, minima: Floats) -> Floats:
    """Draws of the lowest objective less the fit's, as in `Uncertainty.intervals`."""
    scale, mixture = _drifts(trust, best)
    rng = np.random.default_rng(trust.seed)
    off = np.tile(trust.spread(minima - best.objective), _DRAWS)
    off += scale * rng.standard_t(trust.drift.freedom, len(off))
    return off + mixture * rng.standard_t(trust.drift.freedom, len(off))


def _drifts(trust: Uncertainty, best: Optimum) -> tuple[float, float]:
    """Standard deviations of the drift of the objective at its best mixture, in scale and beyond
    the trained mixtures."""
    (distance,) = trust.table.distance(best.N, best.D, list(best.weights.values()))
    sd = [
        w * best.losses[t] * trust.drift.rates[t] * distance
        for t, w in best.target_weights.items()
        if w > 0
    ]
    total = np.sum(sd, axis=0)
    return float(np.sqrt(np.sum(total[:-1] ** 2))), float(total[-1])
