"""Fit + an answer of it -> DOUBTS: what a user should know before trusting either. One list of
records, told twice: as warnings when a question is answered, as sentences in a report."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mixjax.data.table import and_more
from mixjax.errors import warn

if TYPE_CHECKING:
    from mixjax.data.runs import Runs
    from mixjax.fitting.record import Fit

# N or D may lie beyond the fitted ones by this factor: small runs are for that. Wrong units miss by
# more.
FAR = 30.0
OUTSIDE = 0.005  # a share may lie beyond the fitted ones by this much
FEW = 0.1  # fewer agreeing starts than this part of them: the optimum may be missed
APART = 0.01  # minima whose predictions differ by more are told
SMALL = 1e-8  # below this part of the objective an optimality gap is small
# Counts of which all are smaller are in another unit: 10 billion are 1e4 in millions.
LEAST_N, LEAST_D = 2e4, 1e6
# A loss so many times the law's is odd, where most rows are so many times nearer to it. Runs that
# repeat their data dozens of times, by a law that knows of no repeats, are 4 times off.
TIMES, TYPICAL = 5.0, 20.0


Counts = NDArray[np.float64] | float | None
_SAME = 0.01  # N or D whose logarithms differ by less are one
_TOGETHER = 0.999  # correlation of log N and log D beyond which they are one


class Doubt(NamedTuple):
    """In the shape of `UserError`: the place, what is doubtful there, what to do."""

    where: str
    what: str
    remedy: str


def of_scale(fit: Fit, N: float | None, D: float | None) -> Iterator[Doubt]:
    """Counts far from those of the fitted rows."""
    for name, what, value in (("N", "parameters", N), ("D", "tokens", D)):
        low, high = fit.ranges.get(name, (0.0, 0.0))
        if value is None or low <= 0 or low / FAR <= value <= high * FAR:
            continue
        times, side = (value / high, "above") if value > high else (low / value, "below")
        far = f"{name} = {value:.4g} is {times:.2g} times {side} the {low:.4g} to {high:.4g}"
        remedy = f"check that both count {what}, not millions of them (mixjax fit --columns)"
        yield Doubt("mixture", f"{far} of the fitted rows", remedy)


def of_unread(fit: Fit, N: float | None) -> Iterator[Doubt]:
    """A size that changes nothing, because the fit is one at the size of its runs."""
    if N is not None and not fit.scaling_law.reads.N:
        what = f"the {fit.law} law reads no N: this is the mixture for the size of its runs"
        yield Doubt("-N", what, "fit runs of several sizes with a law that does, e.g. joint")


def of_scales(fit: Fit, N: Counts, D: Counts) -> Iterator[Doubt]:
    """Counts () or (rows,) far from those of the fitted rows: the farthest to each side."""
    ends = [None if x is None else (float(np.min(x)), float(np.max(x))) for x in (N, D)]
    for end in (0, 1):
        yield from of_scale(fit, *(None if x is None else x[end] for x in ends))


def of_fit(fit: Fit, targets: Collection[str] | None = None) -> Iterator[Doubt]:
    """What the fitted rows do not tell, of these targets (all by default)."""
    targets = fit.targets if targets is None else targets
    if fit.share_ranges:  # else it was not made by `mixjax.fit`, or long ago
        if not fit.mixtures_vary:
            what = "all fitted rows have one mixture, the fit knows nothing of others"
            yield Doubt("mixture", what, "fit runs of several mixtures (mixjax design)")
        law = fit.scaling_law
        count = law.count(law.k(fit.domains))
        rows = {t: fit.search[t].rows for t in targets if fit.search[t].rows < count}
        if rows:
            few = f"{', '.join(rows)}: fitted to {min(rows.values())} rows"
            what = f"{few}, the {fit.law} law has {count} parameters"
            yield Doubt("mixture", what, "add runs or take a smaller law")
    limits = {t: ", ".join(fit.search[t].at_limit) for t in targets if fit.search[t].at_limit}
    if limits:
        names = ", ".join(f"{t} ({parameters})" for t, parameters in limits.items())
        what = f"parameters that the runs do not pin down ran off to a limit: {names}"
        yield Doubt("mixture", what, "mixjax intervals says how far to trust the mixture")


def of_losses(fit: Fit, runs: Runs) -> Iterator[Doubt]:
    """Losses of the fitted rows that are another number altogether than the law's, which the Huber
    loss forgives: written down wrongly, or of a run that diverged."""
    for target, predicted in fit.predict(runs.N, runs.D, runs.h).items():
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            off = np.abs(np.log(runs.loss(target) / predicted))
        off = np.where(np.isfinite(off), off, 0.0)
        odd = off > max(np.log(TIMES), TYPICAL * np.median(off))
        if odd.any():
            worst = int(np.argmax(off))
            loss, law = runs.loss(target)[worst], predicted[worst]
            what = f"loss {loss:.4g} of {target!r}, where the law has {law:.4g}"
            where = f"{runs.name}, line {runs.rows[worst]}"
            yield Doubt(where, what + and_more(odd), "see whether the run or the number is broken")


def of_search(fit: Fit) -> Iterator[Doubt]:
    """Targets whose best fit may not have been reached."""
    for target, search in fit.search.items():
        if search.status.remedy:
            yield Doubt(target, search.status.sentence, search.status.remedy)
        if search.starts and search.agreeing < max(2, FEW * search.starts):
            what = f"only {search.agreeing} of {search.starts} starts reached the best objective"
            yield Doubt(target, what, "more starts may find a better one")


def of_shares(fit: Fit, weights: Mapping[str, float]) -> Iterator[Doubt]:
    """Shares {domain: share} outside those of the fitted rows; none where these are not known."""
    if not fit.mixtures_vary:
        return  # not known, or told of the fit
    for domain, share in weights.items():
        low, high = fit.share_ranges.get(domain, (0.0, 1.0))
        if low - OUTSIDE <= share <= high + OUTSIDE:
            continue
        between = f"trained between {low:.3g} and {high:.3g}"
        trained = between if high > 0 else "no fitted row has any of it"
        limit = f"--cap {domain}={high:.3g}" if share > high else f"--floor {domain}={low:.3g}"
        what = f"share of {domain!r} is {share:.3g}, {trained}: the law is extrapolated there"
        yield Doubt("mixture", what, f"{limit}, or mixjax intervals says how far to trust it")


def of_points(fit: Fit, N: Counts, D: Counts, h: NDArray[np.float64]) -> Iterator[Doubt]:
    """Rows to predict, N and D () or (rows,) or None, h (rows, k), far from the fitted ones: the
    farthest of each kind."""
    yield from of_scales(fit, N, D)
    low, high = (dict(zip(fit.domains, f(h, axis=0), strict=True)) for f in (np.min, np.max))
    farthest = {
        d: high[d] if high[d] - upper >= lower - low[d] else low[d]
        for d, (lower, upper) in fit.share_ranges.items()
    }
    remedy = "mixjax intervals says how far to trust it"
    yield from (doubt._replace(remedy=remedy) for doubt in of_shares(fit, farthest))
    yield from of_minima(fit, N, D, h)


def of_minima(
    fit: Fit,
    N: Counts,
    D: Counts,
    h: NDArray[np.float64] | Mapping[str, float],
    targets: Collection[str] | None = None,
) -> Iterator[Doubt]:
    """Targets, of these (all by default), whose nearly equal minima do not predict alike at N, D
    and h, see `Fit.spread`."""
    asked = set(fit.others) & set(fit.targets if targets is None else targets)
    if not asked:
        return
    spread = {t: float(np.max(x)) for t, x in fit.spread(N, D, h).items() if t in asked}
    apart = [f"{t} by {100 * x:.2g} percent" for t, x in spread.items() if not x <= APART]
    if apart:
        what = f"minima of nearly the same objective differ in the loss of {', '.join(apart)}"
        yield Doubt("predictions", what, "more runs or a smaller law would tell them apart")


def of_units(runs: Runs) -> Iterator[Doubt]:
    """N and D in another unit than counts, or each in the place of the other."""
    for name, what, x, least in (
        ("N", "parameters", runs.N, LEAST_N),
        ("D", "tokens", runs.D, LEAST_D),
    ):
        if x is not None and x.max() < least:
            fewer = f"{x.min():.4g} to {x.max():.4g} {what}, fewer than any run has"
            remedy = f"if they are in millions, write --columns '{name}=COLUMN*1e6' (billions: 1e9)"
            yield Doubt(f"{runs.name}, column {name}", fewer, remedy)
            return
    if runs.N is not None and runs.D is not None and (runs.D < runs.N).all():
        what = "every row has fewer tokens than parameters"
        remedy = "see that they are not swapped, and both are counts (--columns 'N=D,D=N')"
        yield Doubt(f"{runs.name}, columns N and D", what, remedy)


def of_design(runs: Runs, reads: Sequence[bool]) -> Iterator[Doubt]:
    """N and D in odd units, that a law fixes though they differ, or that move together, so that no
    law can tell the one from the other; reads: whether the law reads N and D."""
    yield from of_units(runs)
    for name, x, read in zip("ND", (runs.N, runs.D), reads, strict=True):
        if not read and x is not None and np.ptp(np.log(x)) > _SAME:
            what = f"{name} is {x.min():.4g} to {x.max():.4g}, and the law takes it as one"
            remedy = f"take a law that reads {name}, e.g. joint, or rows of one {name} (--where)"
            yield Doubt(runs.name, what, remedy)
    if not all(reads) or runs.N is None or runs.D is None:
        return
    n, d = np.log(runs.N), np.log(runs.D)
    if np.ptp(n) > 0 and np.ptp(d) > 0 and abs(np.corrcoef(n, d)[0, 1]) > _TOGETHER:
        what = "N and D move together: the runs do not tell what either does alone"
        remedy = "trust predictions along that line only, or train some sizes on other D"
        yield Doubt(runs.name, what, remedy)


def of_one_scale(
    runs: Runs, reads: Sequence[bool], N: float | None, D: float | None
) -> Iterator[Doubt]:
    """N or D of a run to come that a law of these runs does not read, and that are not theirs."""
    for name, own, value, read in zip("ND", (runs.N, runs.D), (N, D), reads, strict=True):
        if read or value is None:
            continue
        if own is None:
            what = f"the table has no column {name}: its runs are taken for runs of {name} = "
            remedy = f"name the column, --columns {name}=COLUMN, if they are not"
            yield Doubt(runs.name, f"{what}{value:.4g}", remedy)
            continue
        middle = float(np.exp(np.mean(np.log(own))))
        if abs(np.log(value / middle)) > _SAME:
            what = f"no law of these runs reads {name}, which hardly differs among them"
            what = f"{what}: losses are predicted for {name} = {middle:.4g}, not for {value:.4g}"
            yield Doubt(runs.name, what, f"train runs of another {name} to plan for a larger one")


def of_minimum(
    gap: float, objective: float, convex: bool, agreeing: int, starts: int
) -> Iterator[Doubt]:
    """A best mixture that may not be the best.

    Args:
        gap, objective: its optimality gap, which should be small for the size of the objective.
        convex: whether the objective is known to be convex.
        agreeing, starts: how many of how many starts reached the best objective.
    """
    if not is_small(gap, objective):
        what = f"the optimality gap is still {gap:.1e}"
        yield Doubt("mixture", what, "take the weights as approximate")
    if not convex and agreeing < min(2, starts):
        what = f"only {agreeing} of {starts} starts reached the best objective"
        yield Doubt("mixture", what, "other mixtures may do as well")


def is_small(gap: float, objective: float) -> bool:
    """Whether an optimality gap is small for the size of the objective."""
    return gap <= SMALL * max(1.0, abs(objective))


def of_columns(name: str, ranges: Mapping[str, tuple[float, float]]) -> Iterator[Doubt]:
    """Domains of a table that no fitted row uses."""
    unused = [domain for domain, (_, high) in ranges.items() if high == 0]
    if unused:
        columns = f"column of {unused[0]!r} (h_{unused[0]})"
        if len(unused) > 1:
            columns = f"columns of {', '.join(map(repr, unused))}"
        what = f"{columns}: the weight is 0 in every fitted row, so that the fit knows nothing of"
        yield Doubt(name, f"{what} the domain", "leave it out, or cap it at 0 in mixjax mix")


def tell(doubts: Iterable[Doubt]) -> None:
    """A warning each."""
    for doubt in doubts:
        warn(*doubt)


def warn_scale(fit: Fit, N: float | None, D: float | None, targets: Mapping[str, float]) -> None:
    """Warn of a scale far from the fitted rows, and of fits of weighted targets that say little."""
    tell(of_scale(fit, N, D))
    tell(of_fit(fit, [t for t in fit.targets if targets.get(t, 0.0) > 0]))


def warn_mixture(
    fit: Fit,
    N: float | None,
    D: float | None,
    weights: Mapping[str, float],
    targets: Collection[str],
) -> None:
    """Warn of shares {domain: share} of a mixture outside those of the fitted rows, and of minima
    of the fit that do not agree on its losses of these targets."""
    tell(of_shares(fit, weights))
    tell(of_minima(fit, N, D, weights, targets))
