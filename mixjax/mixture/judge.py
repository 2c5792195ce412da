"""What mixtures are worth (question, mixtures -> JUDGEMENT, MARGINS): a team's own beside the
optimum, with losses and tokens; what a little more of a domain, or of a limit, would bring."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from mixjax.drawing import charts
from mixjax.mixture.limits import NEAR
from mixjax.mixture.optimum import Optimum, best_of
from mixjax.mixture.question import Floats, Question
from mixjax.text import Record, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Flags = NDArray[np.bool_]
# Farthest factor that is searched for; roots are found to this relative error.
_FARTHEST, _EXACT = 1e15, 1e-12
_GRID = 241


@dataclass(frozen=True)
class Judged:
    """One mixture at the scale of the question.

    Attributes:
        weights: {domain: share}.
        losses: {target: predicted loss}.
        objective: weighted sum of losses; excess: above the optimum's, relative to it.
        tokens, size: how many times the tokens, or the parameters, at which this mixture would
            reach the OPTIMUM's objective; 1 for the optimum, infinite where even endless tokens
            (parameters) would not do; None where the law reads none.
        target_tokens: {target: the same for the optimum's loss on one target}; below 1 where this
            mixture is better there.
        broken: the limits of the question that this mixture goes beyond, in words.
    """

    weights: dict[str, float]
    losses: dict[str, float]
    objective: float
    excess: float
    tokens: float | None
    size: float | None
    target_tokens: dict[str, float | None]
    broken: str = ""


@dataclass(frozen=True)
class Judgement(Record):
    """Mixtures by name, the optimum first."""

    mixtures: dict[str, Judged]
    N: float | None
    D: float | None

    def __str__(self) -> str:
        """Losses, then shares; a mixture a column."""
        judged = list(self.mixtures.values())

        def block(head: str, rows: Mapping[str, Sequence[str]]) -> str:
            return table([head, *self.mixtures], [[name, *cells] for name, cells in rows.items()])

        first = {
            "objective": [f"{j.objective:.5f}" for j in judged],
            "excess %": [f"{100 * j.excess:.3f}" for j in judged],
            "tokens needed": [factor(j.tokens) for j in judged],
            "parameters needed": [factor(j.size) for j in judged],
        }
        targets, domains = judged[0].losses, judged[0].weights
        tokens = {t: [factor(j.target_tokens[t]) for j in judged] for t in targets}
        parts = [
            block("", first),
            block("loss", {t: [f"{j.losses[t]:.5f}" for j in judged] for t in targets}),
            *(
                [block("tokens needed", tokens)]
                if any(j.tokens is not None for j in judged)
                else []
            ),
            block("share %", {d: [f"{100 * j.weights[d]:.2f}" for j in judged] for d in domains}),
            *(f"{n}, judged anyway: {j.broken}" for n, j in self.mixtures.items() if j.broken),
            "tokens (parameters) needed: times those of the run, for the optimum's loss; "
            "all by the fitted law: mixjax intervals tells how sure the runs make it",
        ]
        return "\n\n".join(parts)

    def figure(self) -> Figure:
        """Predicted loss of each mixture on each target, relative to the optimum's."""
        best = self.mixtures["optimum"].losses
        groups = {
            name: [100 * (mixture.losses[t] / best[t] - 1) for t in best]
            for name, mixture in self.mixtures.items()
            if name != "optimum"
        }
        x = "loss above (right) or below the optimum's (percent)"
        return charts.bars(list(best), groups, x, "target")


def factor(times: float | None) -> str:
    """A token equivalent in words."""
    if times is None:
        return "-"
    return "cannot be reached" if math.isinf(times) else f"{times:.3g}x"


def compare_mixtures(
    question: Question, mixtures: Mapping[str, Mapping[str, float]], uniform: bool = True
) -> Judgement:
    """Predicted losses of these mixtures beside the optimum, with token equivalents.

    Args:
        mixtures: {name: {domain: share}}; shares are scaled to sum to 1, domains that are not named
            have none.
        uniform: judge equal shares too, under the name "uniform" unless that is taken.

    Raises:
        UserError: an unknown domain, shares that are not those of a mixture, or what
            `optimal_mixture` refuses.
    """
    best = best_of(question)
    given = {"optimum": best.weights, **mixtures}
    if uniform and "uniform" not in given:
        given["uniform"] = dict.fromkeys(question.domains, 1.0)
    optimum = question.array(best.weights)
    judged = {name: judge(question, question.array(h), optimum) for name, h in given.items()}
    return Judgement(judged, question.N, question.D)


def judge(question: Question, h: Floats, best: Floats) -> Judged:
    """One mixture h (k,) beside the best one (k,)."""
    losses, wanted = question.losses(h), question.losses(best)
    objective, optimum = float(question.value(h)), float(question.value(best))
    return Judged(
        weights=question.named(h),
        losses={t: float(loss) for t, loss in losses.items()},
        objective=objective,
        excess=(objective - optimum) / abs(optimum),
        tokens=equivalent(question, h, optimum, "D"),
        size=equivalent(question, h, optimum, "N"),
        target_tokens={
            t: equivalent(question.but(weights={t: 1.0}), h, float(wanted[t]), "D")
            for t in question.fit.targets
        },
        broken="; ".join(question.broken(h)),
    )


def equivalent(
    question: Question, h: Floats, wanted: float, what: Literal["N", "D"]
) -> float | None:
    """How many times the tokens D (or parameters N) at which the mixture h (k,) reaches an
    objective; inf where none does.

    The objective falls in D by every law of the paper. It is bracketed on a grid of factors from
    1e-15 to 1e15, by whose end the term in D is gone, and found by bisection: the smallest factor
    above the last point of the grid that lies too high. None where the law does not read `what`.
    """
    start = getattr(question, what)
    if start is None or not getattr(question.law.reads, what):
        return None

    def above(log_factor: Floats) -> Floats:
        scale = {what: start * np.exp(log_factor)}
        return question.value(np.broadcast_to(h, (len(log_factor), len(h))), **scale) - wanted

    farthest = math.log(_FARTHEST)
    lag = question.law.least_tokens if what == "D" else 0.0
    nearest = max(-farthest, math.log(lag / start) + _EXACT) if lag else -farthest
    return first_below(above, farthest, nearest)


def first_below(
    above: Callable[[Floats], Floats], farthest: float, nearest: float | None = None
) -> float:
    """exp(x) at which a function of x (rows,) that falls reaches 0; infinite where it does not up
    to x = farthest. Looked for from x = nearest on, by default -farthest."""
    from scipy.optimize import root_scalar

    # Two mixtures of one loss: rounding must not turn 1 into something else.
    if abs(float(above(np.zeros(1))[0])) < 1e-14:
        return 1.0
    grid = np.linspace(-farthest if nearest is None else nearest, farthest, _GRID)
    high = np.flatnonzero(above(grid) > 0)
    if len(high) and high[-1] == _GRID - 1:
        return math.inf
    if not len(high):
        return 0.0
    low, top = grid[high[-1]], grid[high[-1] + 1]
    search: Any = root_scalar(
        lambda x: float(above(np.array([x]))[0]), bracket=(low, top), method="brentq", xtol=_EXACT
    )
    return math.exp(search.root)


# --- A little more of a domain, or of a limit ----------------------------------------------------


@dataclass(frozen=True)
class Margins(Record):
    """Marginal value of every domain at one mixture, in the unit of the loss.

    Attributes:
        weights: {domain: share}.
        added: {domain: df / d log T_i}, T_i = h_i D its tokens, the other domains keeping theirs: D
            grows with T_i.
        swapped: {domain: df / d log h_i} at constant D: the others give way in proportion to their
            shares.
        targets: {target: {domain: dL_t / d log T_i}}.
    """

    weights: dict[str, float]
    added: dict[str, float]
    swapped: dict[str, float]
    targets: dict[str, dict[str, float]]

    def __str__(self) -> str:
        """One line a domain: what 1 percent more tokens of it change, in thousandths of the loss's
        unit."""
        columns = {"added": self.added, "swapped": self.swapped}
        columns |= {f"{t} added": of_target for t, of_target in self.targets.items()}
        # 1 percent, in thousandths, is 10.
        rows = [
            [d, f"{100 * share:.2f}", *(f"{10.0 * values[d]:+.4f}" for values in columns.values())]
            for d, share in self.weights.items()
        ]
        note = (
            "change, in 1/1000 of the loss's unit, by 1 percent more tokens of a domain: added "
            "to the run, or swapped for the others (D kept)"
        )
        return table(["domain", "share %", *columns], rows) + "\n" + note


def marginal_values(question: Question, weights: Mapping[str, float] | None = None) -> Margins:
    """Marginal value of every domain at a mixture; at the optimum where none is given.

        T_i = h_i D:   dL / d log T_i = h_i (dL/d log D + dL/dh_i - sum_j h_j dL/dh_j)

    Raises:
        UserError: what `Question.array` or `optimal_mixture` refuses.
    """
    h = question.array(best_of(question).weights if weights is None else weights)
    slopes = question.slopes(h)

    def swapped(slope: Floats) -> Floats:
        return h * (slope - h @ slope)

    of_target = {t: swapped(s.h) + h * s.log_d for t, s in slopes.items()}
    moved = sum(w * swapped(slopes[t].h) for t, w in question.weighed.items())
    added = sum(w * of_target[t] for t, w in question.weighed.items())
    targets = {t: question.named(v) for t, v in of_target.items()}
    return Margins(question.named(h), question.named(added), question.named(moved), targets)


@dataclass(frozen=True)
class Limits(Record):
    """The optimum within limits beside the one without, and what each limit costs.

    Attributes:
        feasible, free: the optimum with and without caps and floors.
        cost: objective of the feasible one above the free one, relatively.
        prices: {domain or group: -df/d(limit)} of the limits that bind, in the unit of the
            objective per share: how fast the objective falls as a cap is raised or a floor is
            lowered. Its multiplier; 0 for limits that do not matter.
    """

    feasible: Optimum
    free: Optimum
    cost: float
    prices: dict[str, float]

    def __str__(self) -> str:
        """Both mixtures, and the price of a limit for one point of share (0.01)."""
        price = {d: f"{0.01 * p:.6f}" for d, p in self.prices.items()}
        free, best = self.free, self.feasible
        shares = {
            d: [f"{100 * free.weights[d]:.2f}", f"{100 * share:.2f}"]
            for d, share in best.weights.items()
        }
        shares |= {g: ["", ""] for g in best.bound if g not in shares}
        rows = [
            [name, *cells, best.bound.get(name, ""), price.get(name, "")]
            for name, cells in shares.items()
        ]
        objectives = [f"{free.objective:.5f}", f"{best.objective:.5f}", f"{100 * self.cost:+.3f}%"]
        head = ["share %", "free", "feasible", "bound", "price of 1 point"]
        return table(head, [*rows, ["objective", *objectives, ""]])


def price_limits(question: Question, feasible: Optimum | None = None) -> Limits:
    """The optimum within the question's caps and floors, the one without them, and the price of
    every limit that binds. The one without them stays within the trained shares where the question
    does, unless these are its only limits.

    By the conditions of Karush, Kuhn and Tucker the slopes of f at the optimum are equal for all
    domains between their limits; a capped domain's slope is lower by the price of its cap, that of
    a domain at its floor higher by the price of it.

    Args:
        feasible: the optimum within the limits, where it is known.

    Raises:
        UserError: what `optimal_mixture` refuses.
    """
    feasible = feasible or best_of(question)
    # Without any of its own, the trained shares are what is priced.
    trained = question.trained and question.has_limits
    free = question.but(caps=None, floors=None, fixed=None, tokens=None, trained=trained)
    # Where a law is not convex, the search without limits may end in a worse place.
    free = min(feasible, best_of(free), key=lambda best: best.objective)
    h, box, domains = question.array(feasible.weights), question.box, question.domains
    slope, caps, floors = question.slope(h), np.asarray(box.caps), np.asarray(box.floors)
    at_cap, at_floor = (h >= caps - NEAR) & (caps < 1), (h <= floors + NEAR) & (floors > 0)
    # A group that binds has a level of its own, which its domains share.
    groups = question.groups or {}
    binding = {g: np.isin(domains, groups[g]) for g in groups if g in feasible.bound}
    common = ~np.any([*binding.values(), np.zeros(len(h), dtype=bool)], axis=0)
    own = {g: _level(h, slope, at_cap, at_floor, inside) for g, inside in binding.items()}
    if common.any():
        level = _level(h, slope, at_cap, at_floor, common)
    else:
        level = float(np.mean(list(own.values())))
    levels = np.full(len(h), level)
    for g, inside in binding.items():
        levels[inside] = own[g]

    def price(above: float, at_cap: bool, at_floor: bool) -> float:
        """Of a limit whose slope is so far above the level; a fixed share may press either way."""
        if at_cap and at_floor:
            return abs(above)
        return max(0.0, -above if at_cap else above)

    prices = {
        d: price(float(slope[i] - levels[i]), bool(at_cap[i]), bool(at_floor[i]))
        for i, d in enumerate(domains)
        if at_cap[i] or at_floor[i]
    }
    prices |= {g: price(own[g] - level, feasible.bound[g] == "cap", False) for g in binding}
    cost = (feasible.objective - free.objective) / abs(free.objective)
    return Limits(feasible, free, cost, prices)


def _level(h: Floats, slope: Floats, at_cap: Flags, at_floor: Flags, inside: Flags) -> float:
    """The slope () that these domains share between their limits.

    At a corner of the limits any level between the two sides will do, and the middle is taken.
    """
    between = inside & ~at_cap & ~at_floor & (h > NEAR)
    if between.any():
        return float(h[between] @ slope[between] / h[between].sum())
    sides = [
        np.max(slope[inside & at_cap], initial=-np.inf),
        np.min(slope[inside & at_floor], initial=np.inf),
    ]
    return float(np.mean([s for s in sides if np.isfinite(s)] or [0.0]))
