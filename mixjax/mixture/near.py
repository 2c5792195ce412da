"""Mixtures nearly as good as the best (question -> REGION, FEWER): how far each share may go before
the loss is worse by eps, and the best mixture of few domains."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mixjax.drawing import charts
from mixjax.errors import UserError
from mixjax.mixture.limits import share_range
from mixjax.mixture.many import Vary, boxes_at, held_at, optima
from mixjax.mixture.optimum import Optimum, best_of
from mixjax.mixture.question import Floats, Question
from mixjax.text import Record, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Ends of an interval are found to this share; largest excess that is told apart, in roots of eps.
TOLERANCE, _FAR = 1e-5, 1e3
# All sets of domains are tried where there are no more; elsewhere they are searched.
MOST_SETS = 4000
# A set is better if its objective is lower by this, relatively; rounds of swaps at most.
_BETTER, _ROUNDS = 1e-10, 50
# A share below this is none.
_NONE = 1e-9

# Which domains may have a share (k,), and rows of such sets (sets, k).
Set = NDArray[np.bool_]
Sets = NDArray[np.bool_]


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
        rows = []
        for d, i in self.intervals.items():
            low, high = ("*" if limit else " " for limit in (i.low_limit, i.high_limit))
            ends = f"{100 * i.low:.2f}{low}", f"{100 * i.high:.2f}{high}"
            rows.append([d, ends[0], f"{100 * i.best:.2f}", ends[1]])
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


# --- Few domains ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fewer(Record):
    """The best mixture of at most m domains, beside the one of all.

    Attributes:
        mixture: the optimum; its gap is that of the set of domains it has.
        domains: those that have a share.
        most: m.
        free: the optimum of all domains; cost: objective above it, relatively.
        exact: every set of m domains was tried. Otherwise the set was found by leaving domains out
            one by one and by swaps, and a better one may exist.
        sets: how many sets of domains were solved.
        next_best: the objective of the second best set that was tried, above the best one's,
            relatively; None where there is none, or where fewer than m domains have a share.
    """

    mixture: Optimum
    domains: tuple[str, ...]
    most: int
    free: Optimum
    cost: float
    exact: bool
    sets: int
    next_best: float | None

    def __str__(self) -> str:
        """Both mixtures, and how the set was found."""
        best, free = self.mixture, self.free
        losses = [[t, f"{x:.5f}", f"{free.losses[t]:.5f}"] for t, x in best.losses.items()]
        losses.append(["objective", f"{best.objective:.5f}", f"{free.objective:.5f}"])
        how = f"all {self.sets} sets tried"
        if not self.exact:
            how = (
                f"found by leaving out and swapping, {self.sets} sets tried; a better set may exist"
            )
        if self.next_best is not None:
            how += f"; the next best set costs {100 * self.next_best:.4f} percent more"
        head = (
            f"at most {self.most} domain{'s' if self.most > 1 else ''}: {', '.join(self.domains)}"
        )
        if self.most == len(best.weights):
            head += " (there are no more: nothing is left out)"
        parts = [
            head,
            best.share_table(self._beside),
            table(["target", "loss", "of all domains"], losses),
            f"costs {100 * self.cost:.4f} percent of the objective; {how}; "
            f"gap {best.gap:.1e}: {best.trust}",
        ]
        return "\n\n".join(parts)

    @property
    def _beside(self) -> dict[str, Optimum]:
        return {"of all domains": self.free}

    def to_dict(self) -> dict[str, Any]:
        """Plain content for JSON: the mixture's, and how it was found."""
        rest = super().to_dict()
        return rest.pop("mixture") | rest

    def figure(self) -> Figure:
        """Its shares beside those of all domains."""
        return self.mixture.figure(self._beside)


def at_most_domains(question: Question, most: int) -> Fewer:
    """The best mixture that uses at most `most` domains.

    Every set of that many domains is solved, in batched calls, where there are no more than 4000.
    Where there are more, the set starts with the domains of the optimum of all; the one whose loss
    costs least is left out until `most` remain, and then domains are swapped, one for one, as long
    as that lowers the objective.

    Args:
        most: from 1; domains with a floor are in every set. Where shares stay within the trained
            ones, those of the domains that are kept do.

    Raises:
        UserError: too few, floors or groups that no set of so many domains meets, or what
            `optimal_mixture` refuses.
    """
    domains = question.domains
    # What is left out is asked for, whatever was trained.
    low, high = question.trained_limits
    question = question.but(caps={**(question.caps or {}), **high}, trained=False)
    if int(most) != most or most < 1:
        what = f"at most {most} is no number of domains"
        raise UserError("domains", what, "give a whole number of at least 1")
    search = _Search(question, low)
    most, free = min(int(most), len(domains)), best_of(question)
    forced = int(search.forced.sum())
    if forced > most:
        what = f"{forced} have floors above 0, more than {most}"
        raise UserError("domains", what, "allow more domains, or lower floors")
    # Smaller sets are among the mixtures of larger ones but where domains have a least share.
    sizes = range(int(not forced) if low else most - forced, most - forced + 1)
    exact = sum(math.comb(len(domains) - forced, n) for n in sizes) <= MOST_SETS
    chosen = (
        search.best(_all_sets(search.forced, sizes))
        if exact
        else _searched(search, question.array(free.weights), most)
    )
    out = {d for d, on in zip(domains, chosen, strict=True) if not on}
    caps = {**(question.caps or {}), **dict.fromkeys(out, 0.0)}
    floors = {**(question.floors or {}), **{d: share for d, share in low.items() if d not in out}}
    best = best_of(question.but(caps=caps, floors=floors))
    trained = {("cap", d): "most trained" for d in high}
    trained |= {("floor", d): "least trained" for d in low}
    bound = {d: trained.get((s, d), s) for d, s in best.bound.items() if d not in out}
    best = replace(best, bound=bound)
    used = tuple(d for d, w in best.weights.items() if w > _NONE)
    # By rounding, or where the law is not convex: then it is the best of all domains as well.
    if best.objective < free.objective:
        free = best
    cost = (best.objective - free.objective) / abs(free.objective)
    next_best = search.next_best(chosen) if len(used) == most else None
    return Fewer(best, used, most, free, cost, exact, len(search.tried), next_best)


class _Search:
    """Sets of domains that were solved, each once: `tried` {set as bytes: objective}, infinite for
    those that no mixture meets. least: {domain: share} that it has in a set with it."""

    def __init__(self, question: Question, least: Mapping[str, float]) -> None:
        self.question = question
        self.least = np.array([least.get(d, 0.0) for d in question.domains])
        self.forced = np.asarray(question.box.floors) > 0
        self.tried: dict[bytes, float] = {}

    def values(self, sets: Sets) -> Floats:
        """The least objective of each set (sets,)."""
        unknown = [row for row in sets if row.tobytes() not in self.tried]
        if unknown:
            new = np.unique(np.array(unknown, dtype=bool), axis=0)
            boxes = boxes_at(self.question, None, len(new))
            floors = np.where(new, np.maximum(boxes.floors, self.least), boxes.floors)
            boxes = boxes._replace(caps=np.where(new, boxes.caps, 0.0), floors=floors)
            value = optima(self.question, Vary(boxes=boxes)).objective
            self.tried |= {row.tobytes(): float(v) for row, v in zip(new, value, strict=True)}
        return np.array([self.tried[row.tobytes()] for row in sets])

    def best(self, sets: Sets) -> Set:
        """The best of these sets (k,)."""
        values = self.values(sets)
        if not np.isfinite(values).any():
            what = "no set of so many meets the limits with a finite loss"
            raise UserError("domains", what, "allow more domains, or raise caps")
        return sets[np.argmin(values)]

    def next_best(self, chosen: Set) -> float | None:
        """How far the second best set of this size lies above this one, relatively."""
        size, own = int(chosen.sum()), self.tried[chosen.tobytes()]
        others = [
            v
            for key, v in self.tried.items()
            if key != chosen.tobytes() and sum(key) == size and math.isfinite(v)
        ]
        return (min(others) - own) / abs(own) if others else None


def _all_sets(forced: Set, sizes: Iterable[int]) -> Sets:
    """All sets of the domains that are forced and so many others."""
    free = np.flatnonzero(~forced).tolist()
    added = [list(some) for n in sizes for some in itertools.combinations(free, n)]
    return np.array([forced | np.isin(np.arange(len(forced)), some) for some in added])


def _searched(search: _Search, optimum: Floats, most: int) -> Set:
    """Backward elimination from the optimum of all domains, then swaps."""
    chosen = (optimum > _NONE) | search.forced
    if chosen.sum() < most:  # the optimum has no use for more: any others fill the set
        chosen[np.flatnonzero(~chosen)[: most - int(chosen.sum())]] = True
    while chosen.sum() > most:
        chosen = search.best(_but_one(chosen, search.forced))
    value = float(search.values(chosen[None])[0])
    for _ in range(_ROUNDS):
        one_less = _but_one(chosen, search.forced)
        added = np.eye(len(chosen), dtype=bool)[~chosen]
        swapped = np.array([row | one for row in one_less for one in added])
        values = search.values(swapped) if len(swapped) else np.array([np.inf])
        if not values.min() < value - _BETTER * abs(value):
            break
        chosen, value = swapped[np.argmin(values)], float(values.min())
    return chosen


def _but_one(chosen: Set, forced: Set) -> Sets:
    return chosen & ~np.eye(len(chosen), dtype=bool)[chosen & ~forced]
