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
By = Literal["N", "D", "mixture", "run"]
BY = ("N", "D", "mixture", "run")
FOLDS, SHARE = 5, 0.2
# Of a backtest: sizes without which the largest cannot be left out, fitted rows per parameter.
_FEWEST_SIZES, _ROWS_PER_PARAMETER = 3, 2


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
            runs, each of them once.
        folds: how many splits by mixture or run, 5 by default; 0 leaves out one at a time.
        seed: of the deal of mixtures or runs to folds.
        share: see `by`.

    Raises:
        UserError: the table lacks the column, or has one value of it only; a number of folds that
            cannot be dealt.
    """
    if by in ("N", "D"):
        if folds is not None:
            remedy = "folds go with mixture or run; by N or D the largest values are held out"
            raise UserError("folds", f"{folds} folds by {by}", remedy)
        return (_largest(runs, by, share),)
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


@dataclass(frozen=True, eq=False)
class Backtest:
    """One split in scale: `fold.held_out` rows are not fitted, those of `scored` among them are
    predicted and scored."""

    fold: Fold
    scored: NDArray[np.bool_]

    @property
    def name(self) -> str:
        """What is held out."""
        return self.fold.name


def make_backtests(runs: Runs, parameters: int) -> tuple[Backtest, ...]:
    """Splits that leave the largest scales out, as far beyond the rest as a table allows:

        N          without the largest size               -> the largest size
        two N      without the two largest sizes          -> the largest size
        D          without the upper octave of D          -> the upper octave
        N and D    without both                           -> the largest size in the upper octave

    Of these, those that leave at least two sizes and two rows for each of so many parameters.

    Raises:
        UserError: there is none.
    """
    rows = len(runs)
    nowhere = np.zeros(rows, dtype=bool)
    sizes = np.zeros(0) if runs.N is None else np.unique(runs.N)
    late = nowhere if runs.D is None else runs.D.max() / 2 < runs.D
    top = two = nowhere
    if runs.N is not None and len(sizes) >= _FEWEST_SIZES:
        top = sizes[-1] == runs.N
        two = sizes[-2] <= runs.N if len(sizes) > _FEWEST_SIZES else nowhere
    splits = (
        ("N", top, top),
        ("two N", two, top),
        ("D", late, late),
        ("N and D", top | late, top & late),
    )
    fewest = max(_ROWS_PER_PARAMETER * parameters, 1)
    tests = tuple(
        Backtest(Fold(name, held_out), scored)
        for name, held_out, scored in splits
        if (scored & held_out).any() and (~held_out).sum() >= fewest
    )
    if not tests:
        rest = f"fit {parameters} parameters to the rest"
        what = f"has too few scales to leave the largest out and {rest}"
        raise UserError(runs.name, what, "give more sizes, or name smaller laws")
    return tests


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
