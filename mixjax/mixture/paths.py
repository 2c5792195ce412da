"""How the optimum moves with scale (question, budgets -> PATH): along any budgets (paper, Fig. 6)
and by growth laws (Fig. 10)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from mixjax.drawing import charts
from mixjax.errors import UserError
from mixjax.mixture.optimum import Optimum, Vary, nowhere_finite, optima, optimum_at
from mixjax.mixture.question import Floats, Question
from mixjax.text import Record, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# A count at which any term in N or D is gone, and yet a number.
ENDLESS = 1e200


@dataclass(frozen=True, eq=False)
class Path(Record):
    """The optimum at each of some budgets.

    Attributes:
        N, D: counts (points,).
        mixtures: the optima.
        end: where the path ends up as it goes on for ever, {domain: share}; None where that was not
            asked.
    """

    N: Floats
    D: Floats
    mixtures: tuple[Optimum, ...]
    end: dict[str, float] | None = None

    @property
    def shares(self) -> Floats:
        """Optimal shares (points, k)."""
        return np.array([list(m.weights.values()) for m in self.mixtures])

    def to_dict(self) -> dict[str, Any]:
        """Plain content for JSON."""
        points = [
            {"N": N, "D": D, "weights": m.weights, "objective": m.objective, "gap": m.gap}
            for N, D, m in zip(self.N, self.D, self.mixtures, strict=True)
        ]
        return {"points": points, "end": self.end}

    def figure(self) -> Figure:
        """Optimal shares along the budgets."""
        return Paths({"": self}).figure()

    def drawn(self) -> charts.Shares:
        """Its shares against N or D where only that grows, else against compute; of an endless path
        against what grows faster, as a multiple of where it begins."""
        if self.end is not None:
            growth = {"N": self.N / self.N[0], "D": self.D / self.D[0]}
            faster = max(growth, key=lambda name: growth[name][-1])
            label, end = f"{faster}, times the first", list(self.end.values())
            return charts.Shares(growth[faster], label, self.shares, end)
        if np.ptp(self.N) == 0:
            return charts.Shares(self.D, "training tokens D", self.shares)
        if np.ptp(self.D) == 0:
            return charts.Shares(self.N, "parameters N", self.shares)
        return charts.Shares(6 * self.N * self.D, "training compute 6 N D (FLOPs)", self.shares)


class Paths(dict[str, Path]):
    """Paths by name."""

    def to_dict(self) -> dict[str, Any]:
        """Plain content for JSON."""
        return plain(self)

    def figure(self) -> Figure:
        """Optimal shares along the budgets, a panel a path; where they end up as diamonds."""
        domains = list(next(iter(self.values())).mixtures[0].weights)
        return charts.shares_along({name: path.drawn() for name, path in self.items()}, domains)


def budget_path(question: Question, N: ArrayLike, D: ArrayLike) -> Path:
    """h*(N, D) at each budget, paper Fig. 6.

    Args:
        N, D: counts (points,), or () for one that stays.

    Raises:
        UserError: N and D of different lengths, or what `optimal_mixture` refuses.
    """
    try:
        sizes, tokens = np.broadcast_arrays(
            np.atleast_1d(np.asarray(N, dtype=np.float64)), np.asarray(D, dtype=np.float64)
        )
    except ValueError:
        raise UserError(
            "budgets",
            f"{np.size(N)} sizes and {np.size(D)} token counts do not go together",
            "give equally many, or one of either",
        ) from None
    answers = optima(question, Vary(N=sizes.copy(), D=tokens.copy()))
    if not np.isfinite(answers.objective).all():
        raise nowhere_finite(question, "budgets")
    scales = zip(sizes.tolist(), tokens.tolist(), strict=True)
    questions = [question.but(N=n, D=d) for n, d in scales]
    mixtures = [optimum_at(q, answers, i) for i, q in enumerate(questions)]
    return Path(sizes.copy(), tokens.copy(), tuple(mixtures))


Growth = Callable[[Floats], tuple[Floats, Floats]]
# How N and D grow, as multiples of where they begin, over t from 1 to endless; and what each
# becomes in the end.
GROWTH: Mapping[str, tuple[Growth, tuple[bool, bool]]] = {
    "N alone": (lambda t: (t, np.ones_like(t)), (True, False)),
    "D alone": (lambda t: (np.ones_like(t), t), (False, True)),
    "D ~ N": (lambda t: (t, t), (True, True)),
    "D ~ sqrt N": (lambda t: (t, np.sqrt(t)), (True, True)),
    "D ~ log N": (lambda t: (t, 1.0 + np.log(t)), (True, True)),
    "N ~ log D": (lambda t: (1.0 + np.log(t), t), (True, True)),
}


def growth_laws(
    question: Question, times: float = 1e6, points: int = 25, laws: Sequence[str] = tuple(GROWTH)
) -> Paths:
    """Where h* goes as N and D grow from the question's scale by each of some growth laws, paper
    Fig. 10.

    Args:
        question: N and D are where all paths begin.
        times: by how much the faster of N and D grows.
        points: of each path, evenly spaced in log t.
        laws: names out of `GROWTH`.

    Returns:
        `Paths` with `end`, the accumulation point. Where N and D both grow for ever it is the
        minimiser of E(h) alone, at whatever speed they do; a slow one is merely far from it at any
        size that will be trained.

    Raises:
        UserError: an unknown growth law, N or D missing, or what `optimal_mixture` refuses.
    """
    unknown = next((law for law in laws if law not in GROWTH), None)
    if unknown is not None:
        raise UserError("growth", f"no growth law {unknown!r}", f"choose from {', '.join(GROWTH)}")
    if question.N is None or question.D is None:
        raise UserError(
            "growth",
            f"{'N' if question.N is None else 'D'} is missing",
            "give the scale that growth begins at",
        )
    if not (np.isfinite(times) and times > 1 and points >= 2):
        raise UserError(
            "growth",
            f"{points} points up to {times:g} times are no path",
            "give at least 2 points and a factor above 1",
        )
    t = np.geomspace(1.0, times, points)
    paths = Paths()
    for law in laws:
        grow, endless = GROWTH[law]
        n, d = grow(t)
        path = budget_path(question, question.N * n, question.D * d)
        ends = [
            ENDLESS if on else start
            for on, start in zip(endless, (question.N, question.D), strict=True)
        ]
        paths[law] = Path(
            path.N, path.D, path.mixtures, budget_path(question, *ends).mixtures[0].weights
        )
    return paths
