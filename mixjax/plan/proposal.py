"""Question + runs -> NEXT RUNS: the mixtures and scales that would teach most, what each is
predicted to gain and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mixjax.data.runs import Runs
from mixjax.data.splits import clusters
from mixjax.errors import UserError, warn
from mixjax.mixture.optimum import best_of
from mixjax.mixture.question import Question
from mixjax.plan.information import (
    BestSlopes,
    LogDet,
    Trace,
    best_slopes,
    information_of_runs,
    most_informative,
    noise_of_runs,
    tangent,
    trades,
    values_after,
)
from mixjax.text import Record, plain, table

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Scale = tuple[float | None, float | None]

AIMS = ("best mixture", "regret", "d-optimal")
# The prior of every parameter, in the coordinates of the search: a standard deviation of 1, a
# factor e for sizes. Some laws are not determined by any runs; beside a loss measured to 0.3
# percent this is weak.
PRIOR = 1.0
# Random mixtures among the candidates at each scale, half of them even, half with few large shares.
_CANDIDATES, _SPARSE = 1024, 0.3
FLOPS = 6.0  # per parameter and token
# Where the shares of the best mixture are known no better, first-order theory about the fitted
# point misleads (benchmarks/NOTES.md, "next runs").
_LOCAL = 0.15


@dataclass(frozen=True)
class NextRun:
    """One run to train, and what is predicted once it and those before it are.

    Attributes:
        weights: {domain: share}.
        N, D: counts; None where neither the table nor the caller gave any.
        flops: 6 N D, None without N or D.
        information: about the parameters, nats: half the rise of the log-determinant of the Fisher
            information.
        share_sd: root of the summed variances of the shares of the best mixture.
        regret: expected loss in the objective for not knowing the best mixture better.
        gain: share by which the aim falls with this run: variance of the best mixture, regret, or
            geometric mean of the variances of the parameters.
    """

    weights: dict[str, float]
    N: float | None
    D: float | None
    flops: float | None
    information: float
    share_sd: float
    regret: float
    gain: float


@dataclass(frozen=True)
class NextRuns(Record):
    """Runs to train next, the most useful first.

    Attributes:
        aim: what they were chosen for.
        runs: in order.
        best: {domain: share} of the fit's best mixture.
        share_sd, regret: before any of them, as in `NextRun`.
        noise: {target: relative standard deviation of a loss about the fit}.
    """

    aim: str
    runs: tuple[NextRun, ...]
    best: dict[str, float]
    share_sd: float
    regret: float
    noise: dict[str, float]

    @property
    def flops(self) -> float | None:
        """Of all runs, None where one of them is not known."""
        each = [r.flops for r in self.runs]
        return None if None in each else float(sum(f for f in each if f is not None))

    def __str__(self) -> str:
        """One line a run."""
        head = ["run", *self.best, "N", "D", "FLOP", "gain %", "nats", "sd of best", "regret"]
        now = [f"{self.share_sd:.4f}", f"{self.regret:.2e}"]
        rows = [["now", *(f"{100 * w:.1f}" for w in self.best.values()), *[None] * 5, *now]]
        for i, r in enumerate(self.runs):
            counts = [None if x is None else f"{x:.3g}" for x in (r.N, r.D, r.flops)]
            gained = [f"{100 * r.gain:.1f}", f"{r.information:.2f}"]
            after = [f"{r.share_sd:.4f}", f"{r.regret:.2e}"]
            shares = [f"{100 * w:.1f}" for w in r.weights.values()]
            rows.append([str(i + 1), *shares, *counts, *gained, *after])
        cost = "" if self.flops is None else f", {self.flops:.3g} FLOP in all"
        return (
            f"{len(self.runs)} runs to train next, aim: {self.aim}{cost} (shares in percent; now: "
            f"the best mixture of the fit)\n{table(head, rows)}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain content for JSON."""
        return super().to_dict() | {"flops": plain(self.flops)}

    def frame(self) -> pd.DataFrame:
        """Table of N, D (where known) and h_<domain>, a row a run, as `read_runs` reads points."""
        import pandas as pd

        counts = {name: [getattr(r, name) for r in self.runs] for name in ("N", "D")}
        columns = {name: values for name, values in counts.items() if None not in values}
        columns |= {f"h_{d}": [r.weights[d] for r in self.runs] for d in self.best}
        return pd.DataFrame(columns)


def next_runs(
    question: Question,
    runs: Runs,
    n: int = 1,
    *,
    aim: str = "best mixture",
    among: Runs | None = None,
    scales: Sequence[Scale] | None = None,
    per_flop: bool = False,
    seed: int = 0,
) -> NextRuns:
    """The n runs that are predicted to teach most about a question.

    A loss measured at (N, D, h) adds u u' to the Fisher information of a target's parameters, u = d
    log L / dz over the noise of the fit's residuals. Runs are chosen one by one, then exchanged
    while that helps. Information of the runs that are trained is in from the beginning, rows of one
    run being correlated as their residuals are; so is a weak prior (`PRIOR`).

    Args:
        question: the fit, and the scale, weights and limits that its best mixture is sought for.
        runs: the rows that the fit was made of.
        n: how many.
        aim: "best mixture": least variance of its shares; "regret": least expected loss for not
            knowing it; "d-optimal": most information about all parameters.
        among: mixtures (and scales, where it has N and D) to choose from; with n = len(among) they
            are only put in order. By default random mixtures with shares not below the smallest
            trained one, and the trained mixtures.
        scales: (N, D), counts, of the runs that may be trained; by default the largest D that was
            trained with each N.
        per_flop: count what a run gains per FLOP.
        seed: of the random mixtures.

    Raises:
        UserError: the fit has no best mixture (no domains, chinchilla's law, ...); the table does
            not belong to it; an unknown aim; fewer than n candidates; no scale known; no domains of
            the best mixture can trade shares within its limits, unless the aim is d-optimal.

    Warns:
        MixjaxWarning: the best mixture is known too badly for this theory.

    Notes: first-order theory about the fitted point. It takes the law for true, and domains that
    the best mixture leaves out for left out. Sources: Fedorov 1972; Chaloner and Verdinelli 1995,
    "Bayesian experimental design: a review".
    """
    if aim not in AIMS:
        raise UserError("aim", f"no aim {aim!r}", f"choose from {', '.join(AIMS)}")
    best = best_of(question)
    trained = runs.reordered(question.domains)
    pool = _candidates(question, trained, among, _scales(trained, scales), seed)
    if not isinstance(n, int | np.integer) or not 1 <= n <= len(pool.h):
        what = f"{n} runs of {len(pool.h)} candidates"
        raise UserError("n", what, f"give a whole number from 1 to {len(pool.h)}")
    if per_flop and pool.flops is None:
        raise UserError("per_flop", "N or D of the candidates is not known", "give scales")
    h = question.array(best.weights)
    basis = trades(h, question.box)
    if not basis.size and aim != "d-optimal":
        raise _immovable(question, h)
    design = _design(question, trained, h, basis, pool)
    cost = pool.flops if per_flop else None
    aims, number = (design.shares, design.regret, LogDet()), AIMS.index(aim)
    order = most_informative(aims[number], design.information, design.rows, n, cost)
    values = values_after(aims, design.information, design.rows[:, order])
    variances, regrets, missing = values.T
    # Of the geometric mean of the variances of all parameters, or of the aim's own value.
    left = values[1:, number] / values[:-1, number]
    if aim == "d-optimal":
        left = np.exp(np.diff(missing) * 2 / design.parameters)
    share_sd = np.sqrt(variances)
    if share_sd[0] > _LOCAL and aim != "d-optimal":
        known = f"the shares of the best mixture are known to {share_sd[0]:.2f} only"
        remedy = "train an even design first (mixjax design), or aim d-optimal"
        warn("next runs", f"{known}, too little to plan by them", remedy)
    planned = []
    for i, j in enumerate(order):
        N, D, flops = (None if x is None else float(x[j]) for x in (pool.N, pool.D, pool.flops))
        information, gain = float(missing[i] - missing[i + 1]), max(1.0 - float(left[i]), 0.0)
        after = float(share_sd[i + 1]), float(regrets[i + 1])
        planned.append(NextRun(question.named(pool.h[j]), N, D, flops, information, *after, gain))
    now = float(share_sd[0]), float(regrets[0])
    return NextRuns(aim, tuple(planned), dict(best.weights), *now, design.noise)


def _immovable(question: Question, best: Floats) -> UserError:
    """What to say where the limits leave the best mixture (k,) no direction to move in."""
    left_out = question.domains[int(np.argmin(best))]
    remedy = f"give domains that it leaves out a floor (--floor {left_out}=0.02)"
    if question.caps or question.floors:
        remedy = "widen caps and floors"
    why = "no two domains of the best one can trade shares within their limits"
    what = f"{why}: no run moves it to first order"
    return UserError("mixture", what, f"{remedy}, or aim at the parameters (--aim d-optimal)")


class _Pool(NamedTuple):
    """The candidates: h (m, k); N, D counts (m,), None where they are not known."""

    h: Floats
    N: Floats | None
    D: Floats | None

    @property
    def flops(self) -> Floats | None:
        """Cost of each (m,)."""
        return None if self.N is None or self.D is None else FLOPS * self.N * self.D


class _Design(NamedTuple):
    """What runs are chosen by."""

    shares: Trace  # variance of the best mixture's shares
    regret: Trace  # expected
    information: Floats  # of what is known (targets, q, q)
    rows: Floats  # slopes of the candidates over noise (targets, m, q)
    noise: dict[str, float]  # {target: relative standard deviation of a loss about the fit}
    parameters: int  # of all targets


def _design(question: Question, trained: Runs, best: Floats, basis: Floats, pool: _Pool) -> _Design:
    """The numbers of a plan: best (k,), basis (k, r) of the directions that it may move in."""
    about = tangent(question.fit, trained, list(question.weighed))
    targets, q = about.problem.targets, about.z.shape[1]
    run, slopes = clusters(trained, "run"), about.rows(trained.h, trained.N, trained.D)
    noise = noise_of_runs(question.fit, trained)
    seen = [np.isfinite(trained.loss(t)) for t in targets]
    of_targets = zip(slopes, seen, (noise[t] for t in targets), strict=True)
    known = np.stack([information_of_runs(u, own, run, off) for u, own, off in of_targets])
    sd = np.array([noise[t].sd for t in targets])
    rows = about.rows(*pool) / sd[:, None, None]
    if not (np.isfinite(rows).all() and np.isfinite(known).all()):
        law = about.problem.law.name
        what = f"the {law} law has slopes that are not numbers at these mixtures"
        raise UserError("fit", what, "choose among mixtures without shares of 0")
    moves = BestSlopes(*np.zeros((2, len(targets), 1, q)))  # where nothing moves it
    if basis.size:
        moves = best_slopes(about, best, basis, question)
    return _Design(
        shares=Trace(moves.shares),
        regret=Trace(moves.regret / np.sqrt(2.0)),
        information=known + np.eye(q) / PRIOR**2,
        rows=rows,
        noise={t: float(s) for t, s in zip(targets, sd, strict=True)},
        parameters=about.z.size,
    )


def _scales(runs: Runs, given: Sequence[Scale] | None) -> list[Scale]:
    """Scales (N, D) of new runs, the cheapest first; None where nobody has any."""
    if given is not None:
        scales = [
            (None if N is None else float(N), None if D is None else float(D)) for N, D in given
        ]
        counts = [x for scale in scales for x in scale if x is not None]
        if not scales or not all(np.isfinite(x) and x > 0 for x in counts):
            what = f"{list(given)} are not counts (N, D)"
            raise UserError("scales", what, "give pairs of positive counts, e.g. (3e8, 2e10)")
    elif runs.N is None:
        scales = [(None, None if runs.D is None else float(runs.D.max()))]
    else:
        scales = [
            (float(N), None if runs.D is None else float(runs.D[N == runs.N].max()))
            for N in np.unique(runs.N)
        ]
    return sorted(set(scales), key=lambda scale: (scale[0] or 1.0) * (scale[1] or 1.0))


def _candidates(
    question: Question, trained: Runs, among: Runs | None, scales: Sequence[Scale], seed: int
) -> _Pool:
    """The mixtures and scales to choose from."""
    pool, count = _Pool(_mixtures(trained, seed), None, None), len(scales)
    if among is not None:
        points = among.reordered(question.fit.domains)
        pool = _Pool(points.h, points.N, points.D)

    def everywhere(own: Floats | None, of_scales: Sequence[float | None]) -> Floats | None:
        if own is not None:
            return np.tile(own, count)
        return None if None in of_scales else np.repeat(np.array(of_scales, float), len(pool.h))

    if pool.N is None or pool.D is None:
        N, D = map(everywhere, pool[1:], zip(*scales, strict=True))
        pool = _Pool(np.tile(pool.h, (count, 1)), N, D)
    for name, counts, needed in zip("ND", pool[1:], question.law.reads, strict=True):
        if needed and counts is None:
            remedy = f"law {question.fit.law!r} reads it: give scales (N, D)"
            raise UserError("scales", f"{name} of the candidates is not known", remedy)
    return pool


def _mixtures(trained: Runs, seed: int) -> Floats:
    """Mixtures (m, k) not below the smallest trained share, and the trained ones."""
    rng, k = np.random.default_rng(seed), trained.h.shape[1]
    spread = [rng.dirichlet(np.full(k, each), _CANDIDATES // 2) for each in (1.0, _SPARSE)]
    if trained.h.min() > 0:  # corners of the simplex, middles of its edges, and its centre
        i, j = np.triu_indices(k)
        spread = [(np.eye(k)[i] + np.eye(k)[j]) / 2, np.full((1, k), 1.0 / k), *spread]
    least = min(float(trained.h.min()), 1.0 / k)
    within = least + (1 - k * least) * np.concatenate(spread)
    return np.concatenate([within, np.unique(trained.h, axis=0)])
