"""The flat region around the optimum (question, eps -> REGION): how far each share may go before
the loss is worse by eps."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mixjax.drawing import charts
from mixjax.errors import UserError
from mixjax.mixture.limits import share_range
from mixjax.mixture.optimum import Vary, best_of, held_at, optima
from mixjax.mixture.question import Floats, Question
from mixjax.text import Record, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Ends of an interval are found to this share.
TOLERANCE = 1e-5
# Largest excess that is told apart, in roots of eps.
_FAR = 1e3


@dataclass(frozen=True)
class Interval:
    """Shares of one domain within the flat region.

    Attributes:
        low, high: ends; best: the share of the optimum.
        at_low, at_high: the mixture {domain: share} that is best of those with that share, within
            eps of the optimum.
        low_limit, high_limit: the end is that of the limits (a floor, a cap, 0 or 1), not of the
            loss.
    """

    low: float
    best: float
    high: float
    at_low: dict[str, float]
    at_high: dict[str, float]
    low_limit: bool
    high_limit: bool


@dataclass(frozen=True)
class Region(Record):
    """{domain: Interval}, for objectives of at most (1 + eps) times the optimum's."""

    intervals: dict[str, Interval]
    eps: float
    objective: float
    convex: bool
    N: float | None
    D: float | None

    def __str__(self) -> str:
        """One line a domain, in percent."""
        rows = [
            [
                d,
                f"{100 * i.low:.2f}{'*' if i.low_limit else ' '}",
                f"{100 * i.best:.2f}",
                f"{100 * i.high:.2f}{'*' if i.high_limit else ' '}",
            ]
            for d, i in self.intervals.items()
        ]
        note = (
            f"one share at a time, the others best for it; objective within {100 * self.eps:g} "
            f"percent of {self.objective:.6f}; * the end of the limits"
        )
        return table(["share %", "from ", "best", "to "], rows) + "\n" + note

    def figure(self) -> Figure:
        """For each domain the shares within eps of the optimum, and the optimal one."""
        low, best, high = np.array([(i.low, i.best, i.high) for i in self.intervals.values()]).T
        title = f"objective within {100 * self.eps:g} percent of the optimum (dot)"
        return charts.share_ranges(list(self.intervals), low, best, high, title)


def flat_region(question: Question, eps: float = 0.001) -> Region:
    """For each domain the interval of shares that keeps the objective within eps of the optimum,
    relatively.

        min and max of h_i   over mixtures h within the limits,   f(h) <= (1 + eps) f(h*)

    The best objective at a given share, g_i(s) = min {f(h) : h_i = s}, comes from the solver for
    all domains at once; the ends are the roots of g_i(s) = (1 + eps) f(h*) below and above the
    optimum, taken from within. Where f is convex in h, so is g_i and the interval is all there is;
    where not, it is the part around the optimum.

    Args:
        eps: relative, e.g. 0.001 for 0.1 percent.

    Raises:
        UserError: eps not above 0, or what `optimal_mixture` refuses.
    """
    from scipy.optimize import elementwise

    if not (np.isfinite(eps) and eps > 0):
        raise UserError("eps", f"{eps:g} is not above 0", "give a relative loss, e.g. 0.001")
    best = best_of(question)
    h, k = question.array(best.weights), len(question.domains)
    lowest, level = best.objective + best.pull, eps * abs(best.objective)
    edges = np.concatenate(share_range(question.box))
    centre, domain, uniform = np.tile(h, 2), np.tile(np.arange(k), 2), np.full(k, 1.0 / k)
    at_end, reached = np.tile(h, (2 * k, 1)), np.tile(h, 2)

    def excess(shares: Floats, ends: Floats, near: bool) -> Floats:
        """Nearly linear in the share: -1 at the optimum, 0 where the objective is eps above it."""
        which = ends.astype(int)
        boxes = held_at(question, domain[which], shares)
        answers = optima(question, Vary(boxes=boxes), np.array([h, uniform]), alone=near)
        rise = np.maximum(answers.objective + answers.pull - lowest, 0.0) / level
        inside = rise <= 1.0
        farther = inside & (np.abs(shares - centre[which]) >= np.abs(reached - centre)[which])
        at_end[which[farther]], reached[which[farther]] = answers.h[farther], shares[farther]
        return np.minimum(np.sqrt(rise), _FAR) - 1.0

    def ends_of(open_ends: NDArray[np.intp], near: bool) -> Floats:
        """Shares just beyond the region; it ends within the tolerance of them."""
        search = elementwise.find_root(
            partial(excess, near=near),
            (reached[open_ends], edges[open_ends]),
            args=(open_ends.astype(np.float64),),
            tolerances={"xatol": TOLERANCE, "xrtol": 0.0},
        )
        return np.where(search.f_bracket[0] > 0, *search.bracket)

    limited = excess(edges, np.arange(2.0 * k), near=False) <= 0
    open_ends = np.flatnonzero(~limited)
    if len(open_ends):
        # Few starts on the way; all of them where they say that the region ends.
        beyond = ends_of(open_ends, near=True)
        farther = open_ends[excess(beyond, open_ends.astype(np.float64), near=False) <= 0]
        if len(farther):
            ends_of(farther, near=False)

    def interval(i: int) -> Interval:
        return Interval(
            low=float(reached[i]),
            best=float(h[i]),
            high=float(reached[k + i]),
            at_low=question.named(at_end[i]),
            at_high=question.named(at_end[k + i]),
            low_limit=bool(limited[i]),
            high_limit=bool(limited[k + i]),
        )

    intervals = {d: interval(i) for i, d in enumerate(question.domains)}
    return Region(intervals, float(eps), best.objective, best.convex, question.N, question.D)
