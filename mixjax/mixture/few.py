"""Few domains (question, m -> FEWER): the best mixture of at most m of them."""

from __future__ import annotations

import itertools
import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mixjax.errors import UserError
from mixjax.mixture.optimum import Optimum, Vary, best_of, boxes_at, optima
from mixjax.mixture.question import Floats, Question
from mixjax.text import table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# All sets of domains are tried where there are no more; elsewhere they are searched.
MOST_SETS = 4000
# A set is better if its objective is lower by this, relatively; rounds of swaps at most.
_BETTER, _ROUNDS = 1e-10, 50
# A share below this is none.
_NONE = 1e-9

# Rows of which domains may have a share (sets, k).
Sets = NDArray[np.bool_]


@dataclass(frozen=True)
class Fewer:
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
        rows = [
            [
                d,
                f"{100 * w:.4f}",
                self.mixture.bound.get(d, ""),
                f"{100 * self.free.weights[d]:.4f}",
            ]
            for d, w in self.mixture.weights.items()
        ]
        losses = [
            [t, f"{x:.5f}", f"{self.free.losses[t]:.5f}"] for t, x in self.mixture.losses.items()
        ]
        losses.append(["objective", f"{self.mixture.objective:.5f}", f"{self.free.objective:.5f}"])
        how = (
            f"all {self.sets} sets tried"
            if self.exact
            else (
                f"found by leaving out and swapping, {self.sets} sets tried; a better set may exist"
            )
        )
        apart = (
            ""
            if self.next_best is None
            else f"; the next best set costs {100 * self.next_best:.4f} percent more"
        )
        end = (
            f"costs {100 * self.cost:.4f} percent of the objective; {how}{apart}; gap "
            f"{self.mixture.gap:.1e}"
        )
        head = (
            f"at most {self.most} domain{'s' if self.most > 1 else ''}: {', '.join(self.domains)}"
        )
        head += (
            " (there are no more: nothing is left out)"
            if self.most == len(self.mixture.weights)
            else ""
        )
        return "\n\n".join(
            [
                head,
                table(["domain", "share %", "", "of all domains %"], rows),
                table(["target", "loss", "of all domains"], losses),
                end,
            ]
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain content for JSON: the mixture's, and how it was found."""
        rest = {name: value for name, value in asdict(self).items() if name != "mixture"}
        return self.mixture.to_dict() | rest | {"free": self.free.to_dict()}

    def figure(self) -> Figure:
        """Its shares beside those of all domains."""
        return self.mixture.figure({"of all domains": self.free})


def at_most_domains(question: Question, most: int) -> Fewer:
    """The best mixture that uses at most `most` domains.

    Every set of that many domains is solved, in batched calls, where there are no more than 4000.
    Where there are more, the set starts with the domains of the optimum of all; the one whose loss
    costs least is left out until `most` remain, and then domains are swapped, one for one, as long
    as that lowers the objective.

    Args:
        most: from 1; domains with a floor are in every set.

    Raises:
        UserError: too few, floors or groups that no set of so many domains meets, or what
            `optimal_mixture` refuses.
    """
    domains = question.domains
    if int(most) != most or most < 1:
        raise UserError(
            "domains",
            f"at most {most} is no number of domains",
            "give a whole number of at least 1",
        )
    most, free, search = min(int(most), len(domains)), best_of(question), _Search(question)
    forced = int(search.forced.sum())
    if forced > most:
        raise UserError(
            "domains",
            f"{forced} have floors above 0, more than {most}",
            "allow more domains, or lower floors",
        )
    exact = math.comb(len(domains) - forced, most - forced) <= MOST_SETS
    chosen = (
        search.best(_all_sets(search.forced, most))
        if exact
        else _searched(search, question.array(free.weights), most)
    )
    out = {d for d, on in zip(domains, chosen, strict=True) if not on}
    caps = {**(question.caps or {}), **dict.fromkeys(out, 0.0)}
    best = best_of(question.but(caps=caps))
    best = replace(best, bound={d: side for d, side in best.bound.items() if d not in out})
    used = tuple(d for d, w in best.weights.items() if w > _NONE)
    if (
        best.objective < free.objective
    ):  # by rounding, or where the law is not convex: then it is the best of all domains as well
        free = best
    cost = (best.objective - free.objective) / abs(free.objective)
    return Fewer(
        best,
        used,
        most,
        free,
        cost,
        exact,
        len(search.tried),
        search.next_best(chosen) if len(used) == most else None,
    )


class _Search:
    """Sets of domains that were solved, each once: `tried` {set as bytes: objective}, infinite for
    those that no mixture meets."""

    def __init__(self, question: Question) -> None:
        self.question = question
        self.forced = np.asarray(question.box.floors) > 0
        self.tried: dict[bytes, float] = {}

    def values(self, sets: Sets) -> Floats:
        """The least objective of each set (sets,)."""
        unknown = [row for row in sets if row.tobytes() not in self.tried]
        if unknown:
            new = np.unique(np.array(unknown, dtype=bool), axis=0)
            boxes = boxes_at(self.question, None, len(new))
            boxes = boxes._replace(caps=np.where(new, boxes.caps, 0.0))
            value = optima(self.question, Vary(boxes=boxes)).objective
            self.tried |= {row.tobytes(): float(v) for row, v in zip(new, value, strict=True)}
        return np.array([self.tried[row.tobytes()] for row in sets])

    def best(self, sets: Sets) -> NDArray[np.bool_]:
        """The best of these sets (k,)."""
        values = self.values(sets)
        if not np.isfinite(values).any():
            raise UserError(
                "domains",
                "no set of so many meets the limits with a finite loss",
                "allow more domains, or raise caps",
            )
        return sets[np.argmin(values)]

    def next_best(self, chosen: NDArray[np.bool_]) -> float | None:
        """How far the second best set of this size lies above this one, relatively."""
        size, own = int(chosen.sum()), self.tried[chosen.tobytes()]
        others = [
            v
            for key, v in self.tried.items()
            if key != chosen.tobytes() and sum(key) == size and math.isfinite(v)
        ]
        return (min(others) - own) / abs(own) if others else None


def _all_sets(forced: NDArray[np.bool_], most: int) -> Sets:
    """All sets of `most` domains with those that are forced; smaller ones are among their
    mixtures."""
    free = np.flatnonzero(~forced).tolist()
    added = [list(some) for some in itertools.combinations(free, most - int(forced.sum()))]
    return np.array([forced | np.isin(np.arange(len(forced)), some) for some in added])


def _searched(search: _Search, optimum: Floats, most: int) -> NDArray[np.bool_]:
    """Backward elimination from the optimum of all domains, then swaps."""
    chosen = (optimum > _NONE) | search.forced
    if chosen.sum() < most:  # the optimum has no use for more: any others fill the set
        chosen[np.flatnonzero(~chosen)[: most - int(chosen.sum())]] = True
    while chosen.sum() > most:
        chosen = search.best(_but_one(chosen, search.forced))
    value = float(search.values(chosen[None])[0])
    for _ in range(_ROUNDS):
        one_less = _but_one(chosen, search.forced)
        swapped = np.array(
            [_with(row, i) for row in one_less for i in np.flatnonzero(~chosen).tolist()]
        )
        values = search.values(swapped) if len(swapped) else np.array([np.inf])
        if not values.min() < value - _BETTER * abs(value):
            break
        chosen, value = swapped[np.argmin(values)], float(values.min())
    return chosen


def _but_one(chosen: NDArray[np.bool_], forced: NDArray[np.bool_]) -> Sets:
    return np.array(
        [chosen & (np.arange(len(chosen)) != i) for i in np.flatnonzero(chosen & ~forced)]
    )


def _with(chosen: NDArray[np.bool_], i: int) -> NDArray[np.bool_]:
    return chosen | (np.arange(len(chosen)) == i)
