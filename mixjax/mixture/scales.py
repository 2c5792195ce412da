"""How the optimum moves with scale (question, budgets -> PATH, BESIDE, BUDGET): along any budgets
(paper, Fig. 6), by growth laws (Fig. 10), by several laws side by side; and the best scale itself.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from mixjax.drawing import charts
from mixjax.errors import UserError
from mixjax.mixture.many import Optima, Vary, boxes_at, finite_optima, optima
from mixjax.mixture.optimum import Optimum, best_of, optimum_at
from mixjax.mixture.question import Floats, Question, jensen_shannon
from mixjax.text import Record, plain, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# A count at which any term in N or D is gone, and yet a number.
ENDLESS = 1e200
# FLOPs of one token and parameter, forward and backward.
FLOPS = 6.0
# Sizes and token counts that are looked at for a compute budget: at least this; how many splits,
# and how exactly the best is found in log N.
_LEAST, _GRID, _EXACT = 1e6, 41, 1e-5


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
    sizes, tokens = np.atleast_1d(np.asarray(N, np.float64)), np.asarray(D, np.float64)
    try:
        sizes, tokens = (x.copy() for x in np.broadcast_arrays(sizes, tokens))
    except ValueError:
        what = f"{np.size(N)} sizes and {np.size(D)} token counts do not go together"
        raise UserError("budgets", what, "give equally many, or one of either") from None
    answers = finite_optima(question, Vary(N=sizes, D=tokens), "budgets")
    scales = zip(sizes.tolist(), tokens.tolist(), strict=True)
    questions = [question.but(N=n, D=d) for n, d in scales]
    mixtures = [optimum_at(q, answers, i) for i, q in enumerate(questions)]
    return Path(sizes, tokens, tuple(mixtures))


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
        what = f"{'N' if question.N is None else 'D'} is missing"
        raise UserError("growth", what, "give the scale that growth begins at")
    if not (np.isfinite(times) and times > 1 and points >= 2):
        what = f"{points} points up to {times:g} times are no path"
        raise UserError("growth", what, "give at least 2 points and a factor above 1")
    t = np.geomspace(1.0, times, points)
    paths = Paths()
    for law in laws:
        grow, (endless_n, endless_d) = GROWTH[law]
        n, d = grow(t)
        path = budget_path(question, question.N * n, question.D * d)
        last = (ENDLESS if endless_n else question.N, ENDLESS if endless_d else question.D)
        paths[law] = replace(path, end=budget_path(question, *last).mixtures[0].weights)
    return paths


# --- Several laws --------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Beside:
    """Optima of each law along the same budgets.

    Attributes:
        paths: {name: Path}.
        regret: {(judge, name): (points,)}: objective of the optimum of `name` by the law of
            `judge`, above that law's own, relatively.
        distance: {(name, other): (points,)}: Jensen-Shannon distance of their optima.
    """

    paths: dict[str, Path]
    regret: dict[tuple[str, str], Floats]
    distance: dict[tuple[str, str], Floats]

    def __str__(self) -> str:
        """Largest regret of each law's mixture by each law, in percent."""
        names = list(self.paths)
        rows = [
            [by, *(f"{100 * self.regret[by, name].max():.4f}" for name in names)] for by in names
        ]
        return table(["largest regret %, by the law", *(f"of {name}" for name in names)], rows)

    def to_dict(self) -> dict[str, Any]:
        """Plain content for JSON."""
        regret = [{"by": by, "of": name, "values": x} for (by, name), x in self.regret.items()]
        distance = [{"of": of, "to": to, "values": x} for (of, to), x in self.distance.items()]
        return {"paths": plain(self.paths), "regret": regret, "distance": distance}

    def figure(self) -> Figure:
        """Optima at the last budget, and what each law's mixture costs by another."""
        last = next(iter(self.paths.values()))
        regrets = {
            f"{name} mixture, by {by}": values
            for (by, name), values in self.regret.items()
            if by != name
        }
        x = last.drawn()
        return charts.laws_beside(
            list(last.mixtures[0].weights),
            {name: path.shares[-1] for name, path in self.paths.items()},
            x.x,
            regrets,
            title=f"at N = {last.N[-1]:.3g}, D = {last.D[-1]:.3g}",
            label=x.label,
        )


def beside(questions: Mapping[str, Question], N: ArrayLike, D: ArrayLike) -> Beside:
    """Optima of several laws at each budget: additive against joint, say, whose first is the same
    at every scale.

    Args:
        questions: {name: question}, of fits with the same domains and targets that count; their own
            N and D are not read.
        N, D: counts (points,), or () for one that stays.

    Raises:
        UserError: fits that do not go together, or what `budget_path` refuses.
    """
    names = list(questions)
    if len(names) < 2:
        raise UserError("laws", f"{len(names)} fit", "give at least two fits")
    first = questions[names[0]]
    for name in names[1:]:
        if questions[name].domains != first.domains:
            what = f"has the domains {', '.join(questions[name].domains)}"
            remedy = f"give fits of {', '.join(first.domains)}, in this order"
            raise UserError(name, what, remedy)
        if questions[name].weighed.keys() != first.weighed.keys():
            remedy = "give fits of the same targets, or name the same with --weights"
            raise UserError(name, "has other targets", remedy)
    paths = {name: budget_path(question, N, D) for name, question in questions.items()}

    def regret(by: str, of: str) -> Floats:
        own, path = np.array([m.objective for m in paths[by].mixtures]), paths[of]
        if by == of:
            return np.zeros_like(own)
        there = questions[by].value(path.shares, path.N, path.D)
        return np.maximum(there - own, 0.0) / np.abs(own)

    apart = {
        (a, b): jensen_shannon(paths[a].shares, paths[b].shares)
        for a, b in itertools.combinations(names, 2)
    }
    return Beside(paths, {(by, of): regret(by, of) for by in names for of in names}, apart)


# --- The best scale ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Point:
    """One split of the budget: counts N and D, the objective of the best mixture there, and its
    weights {domain: share}."""

    N: float
    D: float
    objective: float
    weights: dict[str, float]


@dataclass(frozen=True)
class Budget(Record):
    """The best split of a compute budget.

    Attributes:
        flops: C = 6 N D.
        mixture: the optimum there: N, D, weights, losses.
        at_edge: the best split is the last one looked at: the law has no optimum inside.
        curve: objective and mixture along C = 6 N D, N rising; splits that no mixture meets are
            left out.
    """

    flops: float
    mixture: Optimum
    at_edge: bool
    curve: tuple[Point, ...]

    def __str__(self) -> str:
        """The split and its mixture, and what half and twice the size would cost."""
        N, D, objective = self._best
        rows = [
            ["N", f"{N:.4g}"],
            ["D", f"{D:.4g}"],
            ["D / N", f"{D / N:.4g}"],
            ["objective", f"{objective:.6f}"],
        ]
        log_n, objectives = np.array([[math.log(p.N), p.objective] for p in self.curve]).T
        for times in (0.5, 2.0):
            at = math.log(N * times)
            if log_n[0] <= at <= log_n[-1]:
                value = np.interp(at, log_n, objectives)
                rows.append([f"objective at {times:g} N", f"{value:.6f}"])
        split = table([f"C = {self.flops:.4g} FLOPs", "best"], rows)
        if self.at_edge:
            split += (
                "\nthe best split is at the end of the range: the law does not bend along this "
                "budget"
            )
        return f"{split}\n\n{self.mixture}"

    @property
    def _best(self) -> tuple[float, float, float]:
        """N, D and the objective of the best split."""
        N, D = self.mixture.N, self.mixture.D
        assert N is not None
        assert D is not None
        return N, D, self.mixture.objective

    def to_dict(self) -> dict[str, Any]:
        """Plain content for JSON."""
        rest = super().to_dict()
        return {"flops": self.flops} | rest.pop("mixture") | rest

    def figure(self) -> Figure:
        """Along the budget: the objective of the best mixture against N, and its shares."""
        best = self._best
        near = [point for point in self.curve if 1 / 30 <= point.N / best[0] <= 30]
        return charts.budget_curve(
            [point.N for point in near],
            [point.objective for point in near],
            [list(point.weights.values()) for point in near],
            list(self.mixture.weights),
            best,
            self.flops,
        )


def compute_optimal(question: Question, flops: float) -> Budget:
    """The N, D and mixture of least objective for a compute budget C = 6 N D.

        min over N of  min over h of f(N, C / (6 N), h)

    The inner minimum is the optimal mixture; the outer one is bracketed on a grid of log N, whose
    optima are one batched call, and found to 1e-5 in log N. The caps of a supply of tokens move
    with D.

    Args:
        question: its N and D are not read.
        flops: C, a count.

    Raises:
        UserError: C too small, a law that does not read both N and D, or limits that no split
            meets.
    """
    from scipy.optimize import minimize_scalar

    if not all(question.law.reads):
        what = f"the {question.fit.law} law does not read both N and D"
        raise UserError("budget", what, "fit additive, joint or another law of N and D")
    product = flops / FLOPS
    if not (math.isfinite(product) and product > _LEAST**2):
        what = f"{flops:g} is below {FLOPS * _LEAST**2:g}"
        raise UserError("flops", what, "give the training compute in FLOPs, e.g. 1e22")
    supply = {"tokens": question.tokens, "epochs": question.epochs}
    free = question.but(N=None, D=None, tokens=None)

    def splits(log_n: Floats) -> Optima:
        N = np.exp(log_n)
        D = product / N
        return optima(free, Vary(N=N, D=D, boxes=boxes_at(free.but(**supply), D, len(N))))

    def value(log_n: float) -> float:
        return float(splits(np.array([log_n])).objective[0])

    log_n = np.linspace(math.log(_LEAST), math.log(product / _LEAST), _GRID)
    grid = splits(log_n)
    if not np.isfinite(grid.objective).any():
        what = "no split of this budget has a mixture within the limits"
        raise UserError("budget", what, "allow more epochs, raise caps or lower floors")
    lowest = int(np.argmin(grid.objective))
    low, high = log_n[max(lowest - 1, 0)], log_n[min(lowest + 1, _GRID - 1)]
    search: Any = minimize_scalar(
        value, bounds=(low, high), method="bounded", options={"xatol": _EXACT}
    )
    best_log_n = search.x if search.fun < grid.objective[lowest] else log_n[lowest]
    N = math.exp(best_log_n)
    best = best_of(free.but(N=N, D=product / N, **supply))
    sizes = np.exp(log_n)
    points = [
        Point(float(sizes[i]), float(product / sizes[i]), float(objective), grid.weights(i))
        for i, objective in enumerate(grid.objective)
        if np.isfinite(objective)
    ]
    return Budget(float(flops), best, lowest in (0, _GRID - 1), tuple(points))
