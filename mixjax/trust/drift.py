"""Fit + runs -> DRIFT: by how much more than a bootstrap knows a law is wrong beyond its table.

The largest scales of the table are left out, in several ways, and its extreme mixtures; the law is
fitted to the rest, and its errors there are measured against the distance.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixjax.data.runs import Runs
from mixjax.data.splits import EXTREME, Fold, make_backtests
from mixjax.errors import MixjaxWarning
from mixjax.fitting.loss import Settings
from mixjax.fitting.problem import make_problem
from mixjax.fitting.record import Fit
from mixjax.law import lagged
from mixjax.numerics import distance_to_hull
from mixjax.trust.held_out import fit_splits

Floats = NDArray[np.float64]

AXES = ("N", "D", "compute", "mixture")
_QUICK = Settings(starts=8, hops=0)
_OWN = 0.5  # share of a target's own errors in its variance of drift; the rest is of all targets


@dataclass(frozen=True, eq=False)
class Table:
    """How far a table reaches.

    Attributes:
        largest: log of its largest N, D and N D (3,); infinite where the law does not read N or D.
        mixtures: its distinct mixtures (mixtures, k).
    """

    largest: Floats
    mixtures: Floats

    def distance(self, N: ArrayLike | None, D: ArrayLike | None, h: ArrayLike) -> Floats:
        """How far rows lie beyond it (rows, 4), along `AXES`: in log N, in log D, in log compute
        more than these two say, and by the least share of the tokens to be moved to reach its
        mixtures; h (rows, k)."""
        rows = np.atleast_2d(np.asarray(h, dtype=np.float64))
        logs = [np.log(1.0 if x is None else np.asarray(x, dtype=np.float64)) for x in (N, D)]
        n, d = (np.broadcast_to(x, len(rows)) for x in logs)
        of_n, of_d, of_c = (
            np.maximum(x - top, 0.0) for x, top in zip((n, d, n + d), self.largest, strict=True)
        )
        return np.stack([of_n, of_d, np.maximum(of_c - of_n - of_d, 0.0), self._hull(rows)], axis=1)

    def _hull(self, h: Floats) -> Floats:
        if not h.shape[1] or len(self.mixtures) < 2:  # one mixture tells nothing of others
            return np.zeros(len(h))
        distinct, of_row = np.unique(h, axis=0, return_inverse=True)
        trained = {m.tobytes() for m in self.mixtures}
        beyond = [
            0.0 if m.tobytes() in trained else distance_to_hull(m, self.mixtures) for m in distinct
        ]
        return np.array(beyond)[of_row.reshape(-1)]


def reach_of(fit: Fit, runs: Runs) -> Table:
    """How far the runs of a fit reach."""
    reads = fit.scaling_law.reads
    counts = [x if read else None for x, read in zip((runs.N, runs.D), reads, strict=True)]
    n, d = (np.full(1, np.inf) if x is None else np.log(x) for x in counts)
    both = np.max(n + d) if all(reads) else np.inf
    return Table(np.array([n.max(), d.max(), both]), np.unique(runs.h, axis=0))


@dataclass(frozen=True, eq=False)
class Drift:
    """How a law drifts beyond its table.

    Attributes:
        rates: {target: standard deviations of the relative error per unit of distance along `AXES`
            (4,)}.
        folds: names of what was left out to measure them.
    """

    rates: Mapping[str, Floats]
    folds: tuple[str, ...]

    @property
    def freedom(self) -> int:
        """Degrees of freedom of Student's t for a drift: few, where little could be left out."""
        return 2 + sum(name != EXTREME for name in self.folds)


def measure_drift(
    fit: Fit, runs: Runs, noise: Mapping[str, float], seed: int, watch: Callable[[float], None]
) -> Drift:
    """Drift of a fit, measured on what `make_backtests` leaves out of its runs.

    The mean square of relative errors there, less that of the noise, over that of the distance is
    a squared rate; along each axis it is the mean over folds, by their share of that axis. Half of
    a target's is its own, half the mean over targets. An axis without folds has the mean rate of
    those in scale; without any, 0.

    Args:
        noise: {target: standard deviation of relative residuals}.
    """
    parts = fit.parts
    count = max(part.scaling_law.count(part.scaling_law.k(fit.domains)) for _, part in parts)
    folds = make_backtests(runs, count)
    if not folds:
        return Drift({t: np.zeros(len(AXES)) for t in fit.targets}, ())
    predicted = _left_out(fit, runs, folds, seed, watch)
    squares, along = np.zeros((len(folds), len(fit.targets))), np.zeros((len(folds), len(AXES)))
    for b, fold in enumerate(folds):
        rest, held = runs.select(~fold.held_out), runs.select(fold.held_out)
        distance = reach_of(fit, rest).distance(held.N, held.D, held.h)
        if fold.name == EXTREME:
            distance[:, :-1] = 0.0
        else:
            distance[:, -1] = 0.0
        along[b] = distance.mean(axis=0)
        total = float(np.mean(distance.sum(axis=1) ** 2))
        for g, t in enumerate(fit.targets):
            off = predicted[t][b][fold.held_out] / held.loss(t) - 1
            seen = off[np.isfinite(off)]
            if len(seen) and total > 0:
                squares[b, g] = max(float(np.mean(seen**2)) - noise[t] ** 2, 0.0) / total
    share = along / np.maximum(along.sum(axis=1, keepdims=True), 1e-300)
    scale = np.array([fold.name != EXTREME for fold in folds])
    common = squares[scale].mean(axis=0) if scale.any() else np.zeros(len(fit.targets))
    rates = np.stack(
        [
            w @ squares / w.sum() if w.sum() > 0 else common * (axis != "mixture")
            for axis, w in zip(AXES, share.T, strict=True)
        ]
    )
    rates = _OWN * rates + (1 - _OWN) * rates.mean(axis=1, keepdims=True)
    names = tuple(fold.name for fold in folds)
    return Drift({t: np.sqrt(rates[:, g]) for g, t in enumerate(fit.targets)}, names)


def _left_out(
    fit: Fit, runs: Runs, folds: Sequence[Fold], seed: int, watch: Callable[[float], None]
) -> dict[str, Floats]:
    """{target: losses (folds, rows)} that the law of a fit predicts, fitted without each fold."""
    weights = np.stack([fold.weights for fold in folds])
    total = {t: np.zeros((len(folds), len(runs))) for t in fit.targets}
    parts = fit.parts
    for number, (weight, part) in enumerate(parts):
        law, own = part.scaling_law, runs
        if law.lag and runs.D is not None:
            law, own = lagged(law, 0.0), replace(runs, D=runs.D - law.lag)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MixjaxWarning)
            problem = make_problem(own, law, fit.targets, fit.huber)
        settings = replace(_QUICK, seed=seed)
        fits = fit_splits(problem, weights, settings, polish=False)
        watch((number + 1) / len(parts))
        for t in fit.targets:
            total[t] += weight * fits.losses(t, own)
    return total
