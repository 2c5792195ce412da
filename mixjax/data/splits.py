"""Runs -> SPLITS -> row weights: what a fit may see and what it is judged on, and clustered
resamples.

Every split is a vector of row weights, so that all of them are fitted as one batch. Rows of one run
are not independent, and neither are the sizes of one mixture: folds and resamples take whole
clusters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mixjax.data.runs import Runs
from mixjax.errors import UserError

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
By = Literal["N", "D", "mixture", "run", "extreme"]
BY = ("N", "D", "mixture", "run", "extreme")
FOLDS, SHARE = 5, 0.2
# Of a backtest: sizes that are too many to leave out one by one, shares of rows held out, mixtures.
_MANY_SIZES, _FEWEST_HELD, _MOST_HELD, _FEWEST_MIXTURES = 8, 0.05, 0.6, 10
EXTREME = "extreme mixtures"


@dataclass(frozen=True, eq=False)
class Fold:
    """One split of a table.

    Attributes:
        name: what is held out, e.g. "N > 9.37e+08" or "mixture 3 of 5".
        held_out: the rows that the fit does not see (rows,).
    """

    name: str
    held_out: NDArray[np.bool_]

    @property
    def weights(self) -> Floats:
        """Row weights of the fit (rows,): 1 where it may look."""
        return np.where(self.held_out, 0.0, 1.0)


def make_folds(
    runs: Runs, by: By, folds: int | None = None, seed: int = 0, share: float = SHARE
) -> tuple[Fold, ...]:
    """Splits that look like the use of a law.

    Args:
        runs: the table.
        by: "N" or "D": one split that holds out the largest values, as many as have at most `share`
            of the rows but one at least. "mixture" or "run": splits that hold out whole mixtures or
            runs, each of them once. "extreme": one split that holds out the fifth of the mixtures
            that are farthest from the mean, by Hellinger's distance, to which a share of zero is
            far from a small one.
        folds: how many splits by mixture or run, 5 by default; 0 leaves out one at a time.
        seed: of the deal of mixtures or runs to folds.
        share: see `by`.

    Raises:
        UserError: the table lacks the column, or has one value of it only; a number of folds that
            cannot be dealt.
    """
    if by in ("N", "D", "extreme"):
        if folds is not None:
            remedy = "folds go with mixture or run; by others the farthest rows are held out"
            raise UserError("folds", f"{folds} folds by {by}", remedy)
        return (_extreme_mixtures(runs) if by == "extreme" else _largest(runs, by, share),)
    cluster = clusters(runs, by)
    count = int(cluster.max()) + 1
    if count < 2:
        raise UserError(runs.name, f"has one {by} only", "hold out something else")
    number = min(FOLDS, count) if folds is None else folds or count
    if not 2 <= number <= count:
        what = f"{folds} folds of {count} {by}s"
        raise UserError("folds", what, f"give 2 to {count}, or 0 to leave out one at a time")
    fold_of = np.empty(count, dtype=np.intp)
    fold_of[np.random.default_rng(seed).permutation(count)] = np.arange(count) % number
    return tuple(Fold(f"{by} {i + 1} of {number}", fold_of[cluster] == i) for i in range(number))


def _largest(runs: Runs, by: str, share: float) -> Fold:
    """The largest values of N or D held out."""
    counts = runs.N if by == "N" else runs.D
    if counts is None:
        raise UserError(runs.name, f"no column {by}", "hold out mixtures or runs")
    if not 0 < share < 1:
        what = f"{share} is not between 0 and 1"
        raise UserError("share", what, "give a share of the rows, e.g. 0.2")
    values, rows = np.unique(counts, return_counts=True)
    if len(values) < 2:
        raise UserError(runs.name, f"has one {by} only", "hold out something else")
    above = np.cumsum(rows[::-1])[::-1]  # rows at or above each value
    few = np.flatnonzero(above <= share * len(runs))
    first = max(int(few[0]) if len(few) else len(values) - 1, 1)
    return Fold(f"{by} >= {values[first]:.4g}", counts >= values[first])


def make_backtests(runs: Runs, parameters: int) -> tuple[Fold, ...]:
    """Splits that leave the largest scales out, and the most extreme mixtures; as far as a table
    allows, several of each kind:

        N            without the largest size, or two of them; of more than 8 sizes those within a
                     factor of 2 or 4 of the largest
        D, compute   without rows within a factor of 2 or 4 of the largest D, or N D
        mixture      without the fifth of the mixtures that are farthest from the mean one

    Of these, those that leave out a tenth of the rows but no more than 6 in 10, and leave at least
    two sizes, two D and as many rows as parameters.
    """
    N, D = runs.N, runs.D
    splits: dict[str, NDArray[np.bool_]] = {}
    if N is not None:
        sizes = np.unique(N)[::-1]
        if len(sizes) > _MANY_SIZES:
            splits |= {f"N > 1/{f} of largest": sizes[0] / f < N for f in (2, 4)}
        else:
            splits |= {f"N >= {x:.4g}": x <= N for x in sizes[: min(2, len(sizes) - 2)]}
    if D is not None:
        splits |= {f"D > 1/{f} of largest": D.max() / f < D for f in (2, 4)}
    if N is not None and D is not None:
        C = N * D
        splits |= {f"compute > 1/{f} of largest": C.max() / f < C for f in (2, 4)}
    tests = []
    for name, held_out in splits.items():
        rest = ~held_out
        counts = [len(np.unique(x[rest])) for x in (N, D) if x is not None and np.ptp(x) > 0]
        enough = rest.sum() >= max(parameters, 1) and min(counts, default=0) >= 2
        distinct = not any(np.array_equal(held_out, test.held_out) for test in tests)
        if enough and distinct and _FEWEST_HELD <= held_out.mean() <= _MOST_HELD:
            tests.append(Fold(name, held_out))
    if has_extremes(runs):
        tests.append(_extreme_mixtures(runs))
    return tuple(tests)


def has_extremes(runs: Runs) -> bool:
    """Whether there are mixtures enough to hold the extreme ones out."""
    return bool(runs.domains) and len(np.unique(runs.h, axis=0)) >= _FEWEST_MIXTURES


def _extreme_mixtures(runs: Runs) -> Fold:
    """The fifth of the mixtures that are farthest from the mean, in roots of shares (Hellinger)."""
    if not has_extremes(runs):
        what = f"has fewer than {_FEWEST_MIXTURES} mixtures"
        raise UserError(runs.name, what, "hold out mixtures, N, D or runs")
    mixtures, of_row = np.unique(np.sqrt(runs.h), axis=0, return_inverse=True)
    distance = np.linalg.norm(mixtures - mixtures.mean(axis=0), axis=1)
    far = np.zeros(len(mixtures), dtype=bool)
    far[np.argsort(-distance, kind="stable")[: len(mixtures) // 5]] = True
    return Fold(EXTREME, far[of_row.reshape(-1)])


def clusters(runs: Runs, by: str) -> Ints:
    """The cluster of each row (rows,), numbered from 0 in the order of first appearance.

    By "run": rows that share an id; a row without one is a cluster of its own. In a table without
    ids rows of one mixture and N are one run, seen at several D. By "mixture": rows of one h.

    Raises:
        UserError: by mixture in a table without mixtures.
    """
    if by == "mixture":
        if not runs.domains:
            raise UserError(runs.name, "has no mixtures", "hold out N, D or runs")
        return _numbered(np.unique(runs.h, axis=0, return_inverse=True)[1])
    if by != "run":
        raise UserError("by", f"no split by {by!r}", f"choose from {', '.join(BY)}")
    if runs.run is not None:
        ids: list[Any] = [name if name else ("row", i) for i, name in enumerate(runs.run.tolist())]
        seen: dict[Any, int] = {}
        return np.array([seen.setdefault(name, len(seen)) for name in ids], dtype=np.intp)
    if not runs.domains:
        return np.arange(len(runs))
    what = runs.h if runs.N is None else np.column_stack([runs.h, runs.N])
    return _numbered(np.unique(what, axis=0, return_inverse=True)[1])


def _numbered(labels: NDArray[Any]) -> Ints:
    """Labels renumbered in the order of first appearance."""
    _, first, inverse = np.unique(labels.reshape(-1), return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.intp)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse.reshape(-1)]


def resample(
    runs: Runs,
    resamples: int,
    by: str = "run",
    seed: int = 0,
    draw: Literal["exponential", "counts"] = "exponential",
) -> Floats:
    """Row weights of a clustered bootstrap (resamples, rows); the rows of a cluster share one
    weight.

    Resample r is the same however many there are.

    Args:
        runs: the table.
        resamples: how many.
        by: "run" or "mixture".
        seed: of the weights.
        draw: "exponential" weights of mean and variance 1 (Rubin 1981, "The Bayesian bootstrap"),
            which leave no cluster out, so that a law with many parameters stays determined by few
            clusters; or "counts" of drawing with replacement (Efron 1979).

    Raises:
        UserError: fewer than 2 clusters.
    """
    cluster = clusters(runs, by)
    count = int(cluster.max()) + 1
    if count < 2:
        raise UserError(runs.name, f"has one {by} only", "a bootstrap needs at least 2, better 20")
    weights = np.empty((resamples, count))
    for r in range(resamples):
        rng = np.random.default_rng((seed, r))
        if draw == "exponential":
            weights[r] = rng.exponential(size=count)
        else:
            weights[r] = rng.multinomial(count, np.full(count, 1 / count))
    return weights[:, cluster]
