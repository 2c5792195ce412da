"""Many questions at once (question and what varies, or numbers by name -> MANY -> Optima): budgets,
weights, limits, parameter sets, by the thousand in one batched call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixjax.errors import UserError, check_names
from mixjax.fitting.record import Fit
from mixjax.mixture.box import Box, check_box, is_met
from mixjax.mixture.lanes import Problems, map_problems
from mixjax.mixture.limits import GroupNames, check_groups, split_box, token_caps
from mixjax.mixture.question import Case, Floats, Pull, Question, TargetLosses, WeightedLoss, kl
from mixjax.mixture.solve import Minima, solve
from mixjax.text import table

Flags = NDArray[np.bool_]
Ints = NDArray[np.int64]
# One number for all questions, or one for each.
Named = Mapping[str, ArrayLike]
_EACH = "give one number, or one for each question"


@dataclass(frozen=True, eq=False)
class Optima:
    """The optima of many questions, in the order in which they were asked.

    Attributes:
        domains, targets: names.
        ends: how the solver ended, with h (questions, k) and gap (questions,) in the unit of the
            objective, a pull included; see `Minima`.
        losses: predicted (questions, targets); infinite where the law is.
        objective: sum over targets of target_weights * losses (questions,); infinite where the law
            is nowhere finite, or no mixture meets the limits.
        pull: what a pull towards a prior adds to the objective (questions,).
        convex: where the objective is known to be convex, so that it is at most `gap` above the
            minimum (questions,).
        target_weights: (questions, targets).
        N, D: counts (questions,), None where they were not given.
        member: which parameter set (questions,).
    """

    domains: tuple[str, ...]
    targets: tuple[str, ...]
    ends: Minima
    losses: Floats
    objective: Floats
    pull: Floats
    convex: Flags
    target_weights: Floats
    N: Floats | None
    D: Floats | None
    member: Ints

    def __len__(self) -> int:
        """Number of questions."""
        return len(self.h)

    @property
    def h(self) -> Floats:
        """Domain weights (questions, k); rows sum to 1."""
        return self.ends.h

    @property
    def gap(self) -> Floats:
        """First-order optimality gap (questions,), 0 at the optimum; of the domains not held."""
        return self.ends.gap

    @property
    def held(self) -> Flags:
        """(questions, k), domains held at 0: exponents of both signs pull at them, or the law jumps
        down there."""
        return self.ends.stalled | self.ends.emptied

    def weights(self, question: int) -> dict[str, float]:
        """{domain: share} of one question."""
        return dict(zip(self.domains, self.h[question].tolist(), strict=True))

    def __str__(self) -> str:
        """How many questions, how they ended, and the range of each domain's share."""
        sides = (self.h.min(axis=0), np.median(self.h, axis=0), self.h.max(axis=0))
        rows = [
            [d, *(f"{100 * side[i]:.3f}" for side in sides)] for i, d in enumerate(self.domains)
        ]
        head = (
            f"{len(self)} questions, {int(self.convex.sum())} known to be convex; largest gap "
            f"{self.gap.max():.1e}"
        )
        return head + "\n" + table(["domain", "least %", "median %", "most %"], rows)


class Vary(NamedTuple):
    """What differs between many questions; None: as in the question that they are variations of.

    N, D, strength of the pull (questions,), weights (questions, targets); boxes with rows
    (questions, ...). params {name: (sets, targets, ...)} of the same law, member (questions,):
    which set, by default the first or, of several sets, each.
    """

    N: Floats | None = None
    D: Floats | None = None
    weights: Floats | None = None
    strength: Floats | None = None
    boxes: Box | None = None
    params: Mapping[str, Floats] | None = None
    member: Ints | None = None


def optima(
    question: Question, vary: Vary | None = None, also: Floats | None = None, alone: bool = False
) -> Optima:
    """The optima of many variations of a question in one batched call, silent.

    The answer to a question does not depend on the others. One that no mixture meets, or whose law
    is nowhere finite, has an infinite objective and spoils no others.

    Args:
        vary: what differs; without it there is one question.
        also: mixtures (n, k) to start from too; alone: from these only.
    """
    vary = vary or Vary()
    fit, law, prior = question.fit, question.law, question.prior
    sets = stacked_sets([question]) if vary.params is None else vary.params
    count = len(next(iter(sets.values())))
    member = np.arange(count) if vary.member is None and count > 1 else vary.member
    caps = None if vary.boxes is None else vary.boxes.caps
    varied = (vary.N, vary.D, vary.weights, vary.strength, member, caps)
    n = max((len(x) for x in varied if x is not None), default=1)
    scale = question.scale if vary.N is None or vary.D is None else (1.0, 1.0)
    N, D = (
        np.full(n, fixed) if own is None else own
        for own, fixed in zip((vary.N, vary.D), scale, strict=True)
    )
    weights = question.target_weights if vary.weights is None else vary.weights
    weights = np.broadcast_to(np.asarray(weights, dtype=np.float64), (n, len(fit.targets)))
    boxes = vary.boxes or boxes_at(question, vary.D, n)
    which = np.zeros(n, dtype=np.int64) if member is None else np.asarray(member, dtype=np.int64)
    numbers = {"weights": weights, "N": N, "D": D}
    shared: dict[str, Any] = {"own": question.own()}
    strength = np.zeros(n)
    if prior is not None:
        strength = np.full(n, prior[1]) if vary.strength is None else vary.strength
        shared["prior"], numbers["strength"] = prior[0], strength
    if count == 1:
        shared["params"] = {name: values[0] for name, values in sets.items()}

    def own(rows: Ints) -> dict[str, Any]:
        mine: dict[str, Any] = {name: x[rows] for name, x in numbers.items()}
        if count > 1:
            mine["params"] = {name: values[which[rows]] for name, values in sets.items()}
        return mine

    objective = _Split(WeightedLoss(law, bool((weights == 0).any())))
    convex = np.broadcast_to(law.is_convex(dict(sets)), (count, len(fit.targets)))[which]
    convex = np.all(convex | (weights == 0), axis=1)
    problems = Problems(objective, shared, own, boxes)
    best = solve(problems, convex, also, alone)
    losses = map_problems(_Split(TargetLosses(law)), problems, best.h)
    losses = np.where(np.isfinite(losses), losses, np.inf)
    counted = np.sum(weights * np.where(weights > 0, losses, 0.0), axis=1)
    return Optima(
        domains=fit.domains,
        targets=fit.targets,
        ends=best._replace(gap=np.maximum(best.gap, 0.0)),
        losses=losses,
        objective=np.where(np.isfinite(best.value), counted, np.inf),
        pull=strength if prior is None else strength * kl(best.h, prior[0]),
        convex=convex,
        target_weights=weights,
        N=N if vary.N is not None or question.N is not None else None,
        D=D if vary.D is not None or question.D is not None else None,
        member=which,
    )


@dataclass(frozen=True)
class _Split:
    """A function of a mixture and a case in two parts by name: what questions share, their own."""

    f: WeightedLoss | TargetLosses

    def __call__(self, h: jax.Array, data: tuple[dict[str, Any], dict[str, Any]]) -> jax.Array:
        return self.f(h, Case(**data[0], **data[1]))


def finite_optima(question: Question, vary: Vary | None, where: str) -> Optima:
    """As `optima`, of questions that all have a finite objective.

    Raises:
        UserError: at `where`, of one that has none.
    """
    answers = optima(question, vary)
    if not np.isfinite(answers.objective).all():
        raise nowhere_finite(question, where)
    return answers


def one_target(question: Question, targets: Sequence[str]) -> Vary:
    """The question for each of these targets alone."""
    return Vary(
        weights=np.array([[float(t == one) for t in question.fit.targets] for one in targets])
    )


def stacked_sets(
    questions: Sequence[Question], targets: Sequence[str] | None = None
) -> dict[str, Floats]:
    """Parameters {name: (questions, targets, ...)} of questions about one law, as many sets."""
    sets = [question.stacked(targets) for question in questions]
    return {name: np.stack([params[name] for params in sets]) for name in sets[0]}


def boxes_at(question: Question, D: Floats | None, n: int) -> Box:
    """The question's box n times; where it has a supply, each with the caps of its own D (n,)."""
    alone = question if D is None or not question.tokens else question.but(tokens=None)
    boxes = jax.tree.map(lambda side: np.repeat(np.asarray(side)[None], n, axis=0), alone.box)
    if alone is question or not question.tokens or D is None:
        return boxes
    supply = token_caps(question.tokens, question.epochs, D, question.domains)
    floors, caps = (np.array(side, dtype=np.float64) for side in (boxes.floors, boxes.caps))
    for i, domain in enumerate(question.domains):
        if domain in supply:
            caps[:, i] = np.minimum(caps[:, i], supply[domain])
            if domain in alone.trained_limits[0]:  # less than was trained is all there is
                floors[:, i] = np.minimum(floors[:, i], caps[:, i])
    return boxes._replace(floors=floors, caps=caps)


def held_at(question: Question, domains: Ints, shares: Floats) -> Box:
    """Boxes (n, ...) of the question that hold one domain each, domains (n,), at shares (n,)."""
    boxes = boxes_at(question, None, len(domains))
    rows = np.arange(len(domains))
    floors, caps = (np.array(side, dtype=np.float64) for side in (boxes.floors, boxes.caps))
    floors[rows, domains] = caps[rows, domains] = shares
    return boxes._replace(floors=floors, caps=caps)


def nowhere_finite(question: Question, where: str) -> UserError:
    """What is said of a question whose objective is infinite at all starts."""
    return UserError(
        where,
        f"the {question.fit.law} law predicts no finite loss at any start",
        "raise a cap of 0, or leave out the target that needs that domain",
    )


# --- Given by name -------------------------------------------------------------------------------


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
        N, D, weights, caps, floors: see `Question`; a fixed share is a cap and a floor.
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
    member = full["fits"].astype(np.int64)
    scale = full.get("N"), full.get("D")
    vary = Vary(*scale, full["weights"], full.get("pull"), boxes, sets, member)
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
            what = "has another law, other domains or other targets than fit 0"
            raise UserError(f"fit {i}", what, "give fits of one law and the same columns")
    return fit, stacked_sets([Question(other) for other in fits])


def _columns(given: Named | None, names: Sequence[str], where: str, default: float) -> Floats:
    """The given numbers (questions or 1, names)."""
    check_names(given or {}, names, where)
    columns = [_column((given or {}).get(name, default), f"{where}, {name!r}") for name in names]
    try:
        return np.stack(np.broadcast_arrays(*columns), axis=-1)
    except ValueError:
        what = f"lengths differ: {', '.join(sorted({str(len(c)) for c in columns}))}"
        raise UserError(where, what, _EACH) from None


def _column(values: ArrayLike, where: str) -> Floats:
    """Finite numbers (questions or 1,)."""
    try:
        column = np.atleast_1d(np.asarray(values, dtype=np.float64))
    except (TypeError, ValueError):
        column = np.array([np.nan])
    if column.ndim != 1 or not len(column):
        raise UserError(where, f"has shape {np.shape(values)}", _EACH)
    if not np.isfinite(column).all():
        i = int(np.flatnonzero(~np.isfinite(column))[0])
        raise UserError(where, f"number {i} is not finite", "give finite numbers")
    return column


def _common_length(numbers: Mapping[str, Floats]) -> int:
    length = max(len(x) for x in numbers.values())
    for name, x in numbers.items():
        if len(x) not in (1, length):
            what = f"has {len(x)} numbers where another argument has {length}"
            raise UserError(name, what, _EACH)
    return length


def _check(full: Mapping[str, Floats]) -> None:
    """Refuse the first question that has no answer."""
    for name in ("N", "D"):
        for i in np.flatnonzero(~(full.get(name, np.ones(1)) > 0)):
            what = f"{full[name][i]:g} is not a positive number"
            raise UserError(f"question {i}, {name}", what, "give counts, e.g. 7e9")
    weights = full["weights"]
    for i in np.flatnonzero((weights < 0).any(axis=1)):
        what = f"{weights[i].min():g} is negative"
        raise UserError(f"question {i}, weights", what, "give numbers of at least 0")
    for i in np.flatnonzero(~weights.any(axis=1)):
        raise UserError(f"question {i}, weights", "all are 0", "give one target a positive weight")


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
