"""Mixtures that many fits agree on (questions -> ROBUST): least mean or tail regret over parameter
sets, and the regret of any mixture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from mixjax.drawing import charts
from mixjax.errors import UserError
from mixjax.fitting.record import Fit
from mixjax.law.base import Law
from mixjax.mixture.box import Box, project
from mixjax.mixture.many import Vary, finite_optima, stacked_sets
from mixjax.mixture.optimum import ROUGH, warn_minimum
from mixjax.mixture.question import Case, Floats, Question, WeightedLoss, case_of
from mixjax.mixture.solve import solve_one
from mixjax.text import Record, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Smoothing of the tail, relative to regrets of 1 (objectives differ by less than 100 percent): from
# coarse to fine.
_ROUNDING = 1e-12
_SMOOTHING = (1e-3, 1e-4, 1e-5, 1e-6)


@dataclass(frozen=True)
class Regrets:
    """Regret of one mixture under each fit: its objective above that fit's own optimum, relatively.

    Attributes:
        weights: {domain: share}.
        each: (fits,); mean, tail (CVaR at the level asked for) and worst of them.
    """

    weights: dict[str, float]
    each: tuple[float, ...]
    mean: float
    tail: float
    worst: float


@dataclass(frozen=True)
class Robust(Record):
    """The robust mixture beside others.

    Attributes:
        mixtures: {name: Regrets}, the robust one first.
        level: of the tail: the mean of the worst (1 - level) of the regrets is what the robust
            mixture makes small.
        gap: the robust mixture's tail is at most this above the least one, where the laws are
            convex; relative regret.
    """

    mixtures: dict[str, Regrets]
    level: float
    gap: float

    def __str__(self) -> str:
        """Regrets in percent, and shares."""
        found = list(self.mixtures.values())
        columns = {"mean": [r.mean for r in found]}
        if self.level > 0:  # else it is the mean
            columns[f"worst {100 * (1 - self.level):g} %"] = [r.tail for r in found]
        columns["largest"] = [r.worst for r in found]
        rows = [
            [name, *(f"{100 * column[i]:.4f}" for column in columns.values())]
            for i, name in enumerate(self.mixtures)
        ]
        shares = [[d, *(f"{100 * r.weights[d]:.2f}" for r in found)] for d in found[0].weights]
        return (
            table(["regret %", *columns], rows)
            + f"\nover {len(found[0].each)} fits; gap {self.gap:.1e}\n\n"
            + table(["share %", *self.mixtures], shares)
        )

    def figure(self) -> Figure:
        """Regret of each mixture over the fits: mean, tail and largest."""
        regrets = self.mixtures.values()
        groups = {
            "mean": [100 * r.mean for r in regrets],
            f"worst {100 * (1 - self.level):g} percent": [100 * r.tail for r in regrets],
            "largest": [100 * r.worst for r in regrets],
        }
        title = f"over {len(next(iter(regrets)).each)} fits"
        x = "regret (percent of the objective)"
        return charts.bars(list(self.mixtures), groups, x, "mixture", title)


def questions_of(question: Question, fits: Sequence[Fit]) -> list[Question]:
    """The same question for each of these fits.

    Raises:
        UserError: no fits, or fits of other domains or without a target that counts.
    """
    if not fits:
        raise UserError("robust", "there are no fits", "give at least one")
    questions = []
    for i, fit in enumerate(fits):
        if fit.domains != question.domains:
            what = f"has the domains {', '.join(fit.domains)}"
            remedy = f"give fits of {', '.join(question.domains)}, in this order"
            raise UserError(f"fit {i + 1}", what, remedy)
        missing = next((t for t in question.weighed if t not in fit.targets), None)
        if missing is not None:
            remedy = "give fits of the same targets, or other --weights"
            raise UserError(f"fit {i + 1}", f"has no target {missing!r}", remedy)
        questions.append(question.but(fit=fit, weights=question.weighed))
    return questions


def members(fit: Fit, params: Mapping[str, Mapping[str, Floats]]) -> list[Fit]:
    """Fits of many parameter sets: resamples, near-optimal minima.

    Args:
        fit: of the same law, domains and targets.
        params: {target: {parameter: (sets,) or (sets, k)}}, in the law's own form as in
            `Fit.params`.

    Raises:
        UserError: not equally many sets everywhere.
    """
    counts = {len(values) for of_target in params.values() for values in of_target.values()}
    if len(counts) != 1:
        what = f"there are {', '.join(map(str, sorted(counts, reverse=True)))} of them"
        raise UserError("parameter sets", what, "give equally many for every target and parameter")

    def one(values: Floats, i: int) -> Any:
        return values[i] if np.ndim(values) > 1 else float(values[i])

    sets = [
        {t: {name: one(v, i) for name, v in p.items()} for t, p in params.items()}
        for i in range(counts.pop())
    ]
    return [replace(fit, params=of_targets) for of_targets in sets]


def robust_mixture(
    question: Question,
    fits: Sequence[Fit],
    level: float = 0.0,
    others: Mapping[str, Mapping[str, float]] | None = None,
) -> Robust:
    """The mixture whose regrets over many fits have the least mean, or the least mean of their
    worst part.

        min over h of CVaR_level of the regrets r_s(h) = (f_s(h) - f_s(h_s*)) / |f_s(h_s*)|

    Args:
        question: scale, weights and limits; its fit counts only as one of `fits` if it is among
            them.
        fits: parameter sets: resamples, near-optimal minima, other laws; same domains.
        level: 0 for the mean, towards 1 for the largest regret: the mean of the worst (1 - level)
            is made small.
        others: mixtures to judge beside it, {name: {domain: share}}; uniform shares and each fit's
            optimum come by themselves ("uniform", and "optimum of fit i" for up to five fits).

    Raises:
        UserError: a level outside [0, 1), fits that do not go together, or what `optimal_mixture`
            refuses.
    """
    if not 0 <= level < 1:
        what = f"{level:g} is not from 0 to below 1"
        raise UserError("level", what, "give 0 for the mean, 0.9 for the worst tenth")
    questions = questions_of(question, fits)
    optimum, best = _own_optima(questions)
    h, gap = _least_tail(questions, best, level, optimum)
    uniform = dict.fromkeys(question.domains, 1.0)
    given = {"robust": question.named(h), **(others or {}), "uniform": uniform}
    if len(questions) <= 5:
        given |= {f"optimum of fit {i + 1}": question.named(h) for i, h in enumerate(optimum)}
    return Robust(
        {name: _regrets(questions, best, question.array(w), level) for name, w in given.items()},
        float(level),
        gap,
    )


def regrets(
    question: Question, fits: Sequence[Fit], weights: Mapping[str, float], level: float = 0.0
) -> Regrets:
    """The regret of any mixture under each fit; arguments as in `robust_mixture`."""
    questions = questions_of(question, fits)
    _, best = _own_optima(questions)
    return _regrets(questions, best, question.array(weights), level)


def tail_mean(values: Floats, level: float) -> float:
    """CVaR: the mean of the worst (1 - level) of these values (n,), the one on the edge counted in
    part."""
    mass = (1.0 - level) * len(values)
    worst = np.sort(values)[::-1]
    part = np.clip(mass - np.arange(len(values)), 0.0, 1.0)
    return float(worst @ part / mass) if mass >= 1 else float(worst[0])


def _regrets(questions: Sequence[Question], best: Floats, h: Floats, level: float) -> Regrets:
    each = np.array([float(g.value(h)) for g in questions]) / best - 1.0
    each = each * np.sign(best)
    each = np.where(np.abs(each) < _ROUNDING, 0.0, each)
    named, tail = questions[0].named(h), tail_mean(each, level)
    return Regrets(named, tuple(each.tolist()), float(each.mean()), tail, float(each.max()))


def _by_law(questions: Sequence[Question]) -> list[tuple[list[Question], list[int]]]:
    """The questions of each law, with their places; in order of the laws' names."""
    places: dict[Law, list[int]] = {}
    for i in sorted(range(len(questions)), key=lambda i: questions[i].fit.law):
        places.setdefault(questions[i].law, []).append(i)
    return [([questions[i] for i in at], at) for at in places.values()]


def _own_optima(questions: Sequence[Question]) -> tuple[Floats, Floats]:
    """The optimum (fits, k) of each fit, and its objective (fits,)."""
    h, best = np.zeros((len(questions), len(questions[0].domains))), np.zeros(len(questions))
    for alike, places in _by_law(questions):
        first = alike[0]
        sets = stacked_sets(alike, first.fit.targets)
        vary = Vary(params=sets, member=np.arange(len(places)))
        answers = finite_optima(first, vary, "robust")
        h[places], best[places] = answers.h, answers.objective
    return h, best


def _least_tail(
    questions: Sequence[Question], best: Floats, level: float, optimum: Floats
) -> tuple[Floats, float]:
    """The mixture (k,) of least tail regret, and a bound on what is left to gain by first order."""
    first, groups = questions[0], _by_law(questions)
    cases = tuple(
        case_of(alike[0])._replace(params=stacked_sets(alike, list(alike[0].weighed)))
        for alike, _ in groups
    )
    in_order = np.array([best[i] for _, places in groups for i in places])
    cap = min(1.0, 1.0 / ((1.0 - level) * len(questions)))
    objective = Tail(tuple(alike[0].law for alike, _ in groups))
    convex = all(q.is_convex() for q in questions)
    h, gap, end = optimum.mean(axis=0), math.inf, None
    for smoothing in _SMOOTHING if cap * len(questions) > 1 + 1e-12 else _SMOOTHING[:1]:
        data = (cases, in_order, np.float64(cap), np.float64(smoothing))
        end = solve_one(objective, data, first.box, convex, np.array([h, *optimum[:3]]))
        h = end.h
        gap = end.gap + smoothing * math.log(max(cap * len(questions), 1.0))
    assert end is not None
    warn_minimum(first, end, ROUGH)
    return h, gap


@dataclass(frozen=True)
class Tail:
    """The mean of the worst regrets (CVaR), smoothed; over fits of one or several laws.

        1 + max_q sum_s q_s r_s(h) - T KL(q | 1/S)   over   sum_s q_s = 1,   0 <= q_s <= cap,
        r_s(h) = (f_s(h) - f_s*) / |f_s*|

    With cap = 1 / ((1 - level) S) the maximum at T = 0 is the CVaR of the regrets at that level:
    level 0 is their mean, a level above 1 - 1/S the largest. Smoothing takes off at most T log(cap
    S). The maximiser q is the projection of exp(r / T) onto the capped simplex, and by the envelope
    theorem the gradient is that of the sum with q held.

    data: (case of each law whose params are (fits, targets, ...), best f* (fits,), cap (), T ()).

    Source: Rockafellar and Uryasev 2000; Nesterov 2005 for the smoothing.
    """

    laws: tuple[Law, ...]

    def __call__(
        self, h: jax.Array, data: tuple[tuple[Case, ...], jax.Array, jax.Array, jax.Array]
    ) -> jax.Array:
        """The objective () at h (k,)."""
        cases, best, cap, smoothing = data

        def of_fits(law: Law, case: Case) -> jax.Array:
            values = jax.vmap(lambda params: WeightedLoss(law)(h, case._replace(params=params)))
            return values(case.params)

        pairs = zip(self.laws, cases, strict=True)
        regret = (jnp.concatenate([of_fits(*pair) for pair in pairs]) - best) / jnp.abs(best)
        held = jax.lax.stop_gradient(jnp.where(jnp.isfinite(regret), regret, 0.0))
        box = Box(jnp.zeros_like(held), jnp.full_like(held, cap))
        log_q = jnp.maximum(project((held - jnp.max(held)) / smoothing, box), -700.0)
        q = jnp.exp(log_q)
        return (
            1.0 + jnp.dot(q, regret) - smoothing * jnp.dot(q, log_q + jnp.log(1.0 * held.shape[0]))
        )
