"""Thousands of questions given by name (fits, numbers by name -> MANY -> Optima): budgets, weights,
limits, parameter sets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import jax
import numpy as np
from numpy.typing import ArrayLike

from mixjax.errors import UserError, check_names
from mixjax.fitting.record import Fit
from mixjax.mixture.box import Box, check_box, is_met
from mixjax.mixture.limits import GroupNames, check_groups, split_box
from mixjax.mixture.optimum import Optima, Vary, nowhere_finite, optima
from mixjax.mixture.question import Floats, Pull, Question

# One number for all questions, or one for each.
Named = Mapping[str, ArrayLike]


class ParameterSets(Protocol):
    """Many parameter sets of one law, as `refit` returns them: params {target: {name: (members,) or
    (members, k)}}."""

    @property
    def fit(self) -> Fit:
        """Of the same law, domains and targets."""
        ...

    @property
    def params(self) -> Mapping[str, Mapping[str, Floats]]:
        """In the law's own form."""
        ...


def optimal_mixtures(
    fits: Fit | Sequence[Fit] | ParameterSets,
    N: ArrayLike | None = None,
    D: ArrayLike | None = None,
    weights: Named | None = None,
    caps: Named | None = None,
    floors: Named | None = None,
    groups: GroupNames | None = None,
    pull: Pull | None = None,
) -> Optima:
    """The best mixture of each of many questions, in one batched call; a question is what
    `optimal_mixture` answers.

    Every argument is one number for all questions or one for each, as in NumPy's broadcasting: N
    (questions,), weights {"arxiv": (questions,), "c4": 1.0}. The answer to a question does not
    depend on the others. What `optimal_mixture` would warn of is in the arrays `gap` and `held`.

    A convex question is solved from one start. Starts of others that have come within 1e-2 of a
    better one after 10, 20 or 40 steps go on as one, and count as agreeing.

    Args:
        fits: a fit; or several fits of one law, or what `refit` returns: as many questions.
        N, D: counts of parameters and tokens; needed where the law reads them.
        weights: {target: w}, not negative. Left out: 1 for every target. Targets that it does not
            name have weight 0.
        caps, floors: {domain or group: share}, from 0 to 1; 1 and 0 where not named. A fixed share
            is both.
        groups: {name: domains}, disjoint, the same for all questions.
        pull: towards one prior, with one strength for all questions or one for each.

    Raises:
        UserError: what `optimal_mixture` refuses, with the number of the question; fits of several
            laws, domains or targets; arguments of different lengths.

    Source: Shukor et al. 2025, eq. (7, 8, 13).
    """
    fit, sets = parameter_sets(fits)
    inside = check_groups(groups, fit.domains)
    bounded = (*fit.domains, *inside)
    numbers = {
        "weights": _columns(weights, fit.targets, "weights", 1.0 if weights is None else 0.0),
        "floors": _columns(floors, bounded, "floors", 0.0),
        "caps": _columns(caps, bounded, "caps", 1.0),
    }
    numbers |= {name: _column(x, name) for name, x in (("N", N), ("D", D)) if x is not None}
    if pull is not None:
        numbers["pull"] = np.atleast_1d(pull.numbers(fit.domains)[1])
    count = len(next(iter(sets.values())))
    numbers["fits"] = np.arange(count, dtype=np.float64)
    length = _common_length(numbers)
    full = {
        name: np.ascontiguousarray(np.broadcast_to(x, (length, *x.shape[1:])))
        for name, x in numbers.items()
    }
    _check(full)
    boxes = split_box(full["floors"], full["caps"], inside, fit.domains)
    _check_boxes(boxes, fit.domains, inside)
    question = Question(fit, groups=groups, pull=None if pull is None else Pull(pull.prior, 0.0))
    vary = Vary(
        N=full.get("N"),
        D=full.get("D"),
        weights=full["weights"],
        strength=full.get("pull"),
        boxes=boxes,
        params=sets,
        member=full["fits"].astype(np.int64),
    )
    answers = optima(question, vary)
    odd = np.flatnonzero(~np.isfinite(answers.objective))
    if len(odd):
        raise nowhere_finite(question, f"question {odd[0]}")
    return answers


def parameter_sets(fits: Fit | Sequence[Fit] | ParameterSets) -> tuple[Fit, dict[str, Floats]]:
    """A fit that stands for all, and parameters {name: (sets, targets, ...)}."""
    if isinstance(fits, Fit):
        fits = [fits]
    if not isinstance(fits, Sequence):
        fit, params = fits.fit, fits.params
        columns = {
            p.name: [np.asarray(params[t][p.name], dtype=np.float64) for t in fit.targets]
            for p in fit.scaling_law.parameters
        }
        return fit, {name: np.stack(of_targets, axis=1) for name, of_targets in columns.items()}
    if not fits:
        raise UserError("fits", "there are none", "give at least one")
    fit = fits[0]

    def made_of(other: Fit) -> tuple[object, ...]:
        return other.law, other.domains, other.targets, other.own_law

    for i, other in enumerate(fits):
        if made_of(other) != made_of(fit):
            raise UserError(
                f"fit {i}",
                "has another law, other domains or other targets than fit 0",
                "give fits of one law and the same columns",
            )
    stacked = [Question(other).stacked() for other in fits]
    return fit, {name: np.stack([params[name] for params in stacked]) for name in stacked[0]}


def _columns(given: Named | None, names: Sequence[str], where: str, default: float) -> Floats:
    """The given numbers (questions or 1, names)."""
    check_names(given or {}, names, where)
    columns = [_column((given or {}).get(name, default), f"{where}, {name!r}") for name in names]
    try:
        return np.stack(np.broadcast_arrays(*columns), axis=-1)
    except ValueError:
        raise UserError(
            where,
            f"lengths differ: {', '.join(sorted({str(len(c)) for c in columns}))}",
            "give one number, or one for each question",
        ) from None


def _column(values: ArrayLike, where: str) -> Floats:
    """Finite numbers (questions or 1,)."""
    try:
        column = np.atleast_1d(np.asarray(values, dtype=np.float64))
    except (TypeError, ValueError):
        column = np.array([np.nan])
    if column.ndim != 1 or not len(column):
        raise UserError(
            where, f"has shape {np.shape(values)}", "give one number, or one for each question"
        )
    if not np.isfinite(column).all():
        i = int(np.flatnonzero(~np.isfinite(column))[0])
        raise UserError(where, f"number {i} is not finite", "give finite numbers")
    return column


def _common_length(numbers: Mapping[str, Floats]) -> int:
    length = max(len(x) for x in numbers.values())
    for name, x in numbers.items():
        if len(x) not in (1, length):
            raise UserError(
                name,
                f"has {len(x)} numbers where another argument has {length}",
                "give one number, or one for each question",
            )
    return length


def _check(full: Mapping[str, Floats]) -> None:
    """Refuse the first question that has no answer."""
    for name in ("N", "D"):
        counts = full.get(name, np.ones(1))
        _refuse(
            ~(counts > 0),
            name,
            lambda i, counts=counts: f"{counts[i]:g} is not a positive number",
            "give counts, e.g. 7e9",
        )
    weights = full["weights"]
    _refuse(
        (weights < 0).any(axis=1),
        "weights",
        lambda i: f"{weights[i].min():g} is negative",
        "give numbers of at least 0",
    )
    _refuse(
        ~weights.any(axis=1), "weights", lambda i: "all are 0", "give one target a positive weight"
    )


def _check_boxes(boxes: Box, domains: Sequence[str], groups: GroupNames) -> None:
    """Refuse the first box that no mixture meets."""
    odd = ~is_met(boxes)
    for part in (boxes, boxes.groups) if boxes.groups is not None else (boxes,):
        outside = (part.floors < 0) | (part.caps > 1) | (part.caps < part.floors)
        odd |= np.any(outside, axis=-1)
    for i in np.flatnonzero(odd):
        try:
            check_box(jax.tree.map(lambda side: side[i], boxes), domains, groups)  # noqa: B023
        except UserError as error:
            raise UserError(f"question {i}, {error.where}", error.what, error.remedy) from None


def _refuse(bad: Any, where: str, what: Callable[[int], str], remedy: str) -> None:
    if np.any(bad):
        i = int(np.flatnonzero(bad)[0])
        raise UserError(f"question {i}, {where}", what(i), remedy)
