"""The best mixtures of thousands of problems at once (fit -> many problems -> MIXTURES): budgets,
weights, limits, parameter sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixjax.errors import UserError, check_names
from mixjax.fitting.record import Fit
from mixjax.law.base import Law, row_loss
from mixjax.law.evaluate import domain_index
from mixjax.mixture.box import Box, check_box, is_met
from mixjax.mixture.limits import check_groups, split_box
from mixjax.mixture.optimum import (
    LOWER,
    RISE,
    ROUNDS,
    STALLED,
    TRACE,
    Problem,
    WeightedLoss,
    check_law,
    starts_of,
    unit_of,
)
from mixjax.mixture.prior import Pull, kl
from mixjax.mixture.solve import Minima, Problems, faces_of, map_problems, run_many

Floats = NDArray[np.float64]
# One number for all problems, or one for each.
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


@dataclass(frozen=True, eq=False)
class Mixtures:
    """The optima of many problems, in the order in which they were given.

    Attributes:
        domains, targets: names.
        h: domain weights (problems, k); rows sum to 1.
        losses: predicted (problems, targets); infinite where the law is.
        objective: sum over targets of target_weights * losses (problems,).
        gap: first-order optimality gap in the unit of the objective (problems,), 0 at the optimum.
        pull: what a pull towards a prior adds to the objective (problems,); the gap is that of the
            sum.
        convex: where the objective is known to be convex, so that it is at most `gap` above the
            minimum (problems,).
        agreeing, starts: how many of how many starts ended within 1e-9 of the best objective,
            relatively (problems,).
        held: (problems, k), domains held at 0 because exponents of both signs pull at them, or
            because the law jumps down there (see `optimal_mixture`); the gap is that of the others.
        target_weights: (problems, targets).
        N, D: counts (problems,), None where they were not given.
        member: which parameter set (problems,).
    """

    domains: tuple[str, ...]
    targets: tuple[str, ...]
    h: Floats
    losses: Floats
    objective: Floats
    gap: Floats
    pull: Floats
    convex: NDArray[np.bool_]
    agreeing: NDArray[np.int64]
    starts: NDArray[np.int64]
    held: NDArray[np.bool_]
    target_weights: Floats
    N: Floats | None
    D: Floats | None
    member: NDArray[np.int64]

    def __len__(self) -> int:
        """Number of problems."""
        return len(self.h)

    def weights(self, problem: int) -> dict[str, float]:
        """{domain: share} of one problem."""
        return dict(zip(self.domains, self.h[problem].tolist(), strict=True))

    def __str__(self) -> str:
        """How many problems, how they ended, and the range of each domain's share."""
        low, middle, high = (
            100 * x for x in (self.h.min(axis=0), np.median(self.h, axis=0), self.h.max(axis=0))
        )
        wide = max(map(len, ("domain", *self.domains)))
        rows = [
            f"{d:<{wide}}  {low[i]:8.3f}  {middle[i]:8.3f}  {high[i]:8.3f}"
            for i, d in enumerate(self.domains)
        ]
        head = (
            f"{len(self)} problems, {int(self.convex.sum())} known to be convex; largest gap "
            f"{self.gap.max():.1e}"
        )
        return "\n".join(
            [head, f"{'domain':<{wide}}  {'least %':>8}  {'median %':>8}  {'most %':>8}", *rows]
        )


def optimal_mixtures(
    fits: Fit | Sequence[Fit] | ParameterSets,
    N: ArrayLike | None = None,
    D: ArrayLike | None = None,
    weights: Named | None = None,
    caps: Named | None = None,
    floors: Named | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
    member: ArrayLike | None = None,
    pull: Pull | None = None,
) -> Mixtures:
    """The best mixture of each of many problems, in one batched call; a problem is what
    `optimal_mixture` solves.

    Every argument is one number for all problems or one for each, as in NumPy's broadcasting: N
    (problems,), weights {"arxiv": (problems,), "c4": 1.0}. The answer to a problem does not depend
    on the others. What `optimal_mixture` would warn of is in the arrays `gap` and `held`.

    A convex problem is solved from one start. Others have those of `optimal_mixture`; starts that
    have come within 1e-3 of a better one after 20 steps go on as one, and count as agreeing.

    Args:
        fits: a fit, several fits of one law, or what `refit` returns.
        N, D: counts of parameters and tokens; needed where the law reads them.
        weights: {target: w}, not negative. Left out: 1 for every target. Targets that it does not
            name have weight 0.
        caps, floors: {domain or group: share}, from 0 to 1; 1 and 0 where not named. A fixed share
            is both.
        groups: {name: domains}, disjoint, the same for all problems.
        member: which parameter set (problems,), from 0. Left out: the first of one; of several
            each, as problems (members,).
        pull: towards one prior, with one strength for all problems or one for each.

    Raises:
        UserError: what `optimal_mixture` refuses, with the number of the problem; fits of several
            laws, domains or targets; arguments of different lengths.

    Source: Shukor et al. 2025, eq. (7, 8, 13).
    """
    found = solve_mixtures(fits, N, D, weights, caps, floors, groups, member, pull)
    odd = np.flatnonzero(~np.isfinite(found.objective))
    if len(odd):
        law = _parameter_sets(fits)[0].law
        raise UserError(
            f"problem {odd[0]}",
            f"the {law} law predicts no finite loss at any start",
            "raise a cap of 0, or leave out the target that needs it",
        )
    return found


def solve_mixtures(
    fits: Fit | Sequence[Fit] | ParameterSets,
    N: ArrayLike | None = None,
    D: ArrayLike | None = None,
    weights: Named | None = None,
    caps: Named | None = None,
    floors: Named | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
    member: ArrayLike | None = None,
    pull: Pull | None = None,
) -> Mixtures:
    """As `optimal_mixtures`, but a problem whose law is nowhere finite has an infinite objective,
    and spoils no others."""
    fit, sets, law = _parameter_sets(fits)
    count = len(next(iter(sets.values())))
    which = (np.arange(count) if count > 1 else 0) if member is None else member
    sets_of_domains = check_groups(groups, fit.domains)
    bounded = (*fit.domains, *sets_of_domains)
    given = {
        "weights": _columns(weights, fit.targets, "weights", 1.0 if weights is None else 0.0),
        "floors": _columns(floors, bounded, "floors", 0.0),
        "caps": _columns(caps, bounded, "caps", 1.0),
        "N": _column(1.0 if N is None else N, "N"),
        "D": _column(1.0 if D is None else D, "D"),
        "member": _column(which, "member"),
    }
    prior, strength = (None, None) if pull is None else pull.numbers(fit.domains)
    if strength is not None:
        given["pull"] = np.atleast_1d(strength)
    length = _common_length(given)
    full = {
        name: np.ascontiguousarray(np.broadcast_to(x, (length, *x.shape[1:])))
        for name, x in given.items()
    }
    _check(full, fit, law, count, N is None, D is None)
    box = split_box(full["floors"], full["caps"], sets_of_domains, fit.domains)
    _check_boxes(box, fit.domains, sets_of_domains)
    member_of = full["member"].astype(np.int64)
    unit = unit_of(full["weights"])
    over = {"weights": full["weights"] / unit[:, None]} | (
        {} if prior is None else {"pull": full["pull"] / unit}
    )
    problems = _problems(fit, law, sets, member_of, full | over, box, prior)
    convex = np.all(law.is_convex(sets)[member_of] | (full["weights"] == 0), axis=1)
    starts = starts_of(len(fit.domains))
    best, held = _on_faces(problems, starts, convex, *_settle(problems, starts, convex))
    losses = map_problems(_Losses(law), problems, best.h)
    losses = np.where(np.isfinite(losses), losses, np.inf)
    shares = full["weights"]
    return Mixtures(
        domains=fit.domains,
        targets=fit.targets,
        h=best.h,
        losses=losses,
        objective=np.where(
            np.isfinite(best.value),
            np.sum(shares * np.where(shares > 0, losses, 0.0), axis=1),
            np.inf,
        ),
        gap=np.maximum(best.gap * unit, 0.0),
        pull=np.zeros(length) if prior is None else full["pull"] * kl(best.h, prior),
        convex=convex,
        agreeing=best.agreeing,
        starts=best.starts,
        held=held,
        target_weights=shares,
        N=None if N is None else full["N"],
        D=None if D is None else full["D"],
        member=member_of,
    )


# --- The problems in numbers ---------------------------------------------------------------------


@dataclass(frozen=True)
class _Objective:
    """`WeightedLoss` whose data are in two parts, `Problem`'s fields by name: those that problems
    share and their own."""

    law: Law
    some_idle: bool

    def __call__(self, h: jax.Array, data: tuple[dict[str, Any], dict[str, Any]]) -> jax.Array:
        return WeightedLoss(self.law, self.some_idle)(h, Problem(**data[0], **data[1]))


@dataclass(frozen=True)
class _Losses:
    """Predicted losses (targets,) at h (k,)."""

    law: Law

    def __call__(self, h: jax.Array, data: tuple[dict[str, Any], dict[str, Any]]) -> jax.Array:
        problem = Problem(**data[0], **data[1])

        def loss(params: dict[str, jax.Array], own: jax.Array) -> jax.Array:
            return row_loss(
                self.law, params, h[own][None] if self.law.own_domain else h, problem.N, problem.D
            )

        return jax.vmap(loss)(problem.params, jnp.asarray(problem.own))


def _problems(
    fit: Fit,
    law: Law,
    sets: Mapping[str, Floats],
    member: NDArray[np.int64],
    full: Mapping[str, Floats],
    box: Box,
    prior: Floats | None,
) -> Problems:
    """One parameter set is shared by all problems; of several each problem takes its own. All have
    the prior, if any, in common."""
    shared: dict[str, Any] = {
        "own": np.array(
            [domain_index(law, fit.domains, t).start if law.own_domain else 0 for t in fit.targets]
        )
    }
    alone = len(next(iter(sets.values()))) == 1
    if alone:
        shared["params"] = {name: values[0] for name, values in sets.items()}

    def own(numbers: NDArray[np.int64]) -> dict[str, Any]:
        mine: dict[str, Any] = {name: full[name][numbers] for name in ("weights", "N", "D")}
        if prior is not None:
            mine["pull"] = (
                np.broadcast_to(prior, (len(numbers), len(prior))),
                full["pull"][numbers],
            )
        return (
            mine
            if alone
            else mine | {"params": {name: values[member[numbers]] for name, values in sets.items()}}
        )

    return Problems(_Objective(law, bool((full["weights"] == 0).any())), shared, own, box)


def _some(problems: Problems, which: NDArray[np.int64], boxes: Box) -> Problems:
    """These of the problems, in other boxes."""
    return Problems(
        problems.f, problems.shared, lambda numbers: problems.own(which[numbers]), boxes
    )


def _rows(box: Box, which: NDArray[Any]) -> Box:
    return jax.tree.map(lambda side: np.asarray(side)[which], box)


def _settle(
    problems: Problems, starts: Floats, convex: NDArray[np.bool_]
) -> tuple[Minima, NDArray[np.bool_]]:
    """The minima, where a descent stalled without the domains that it stalled on, and which those
    are; as for one mixture."""
    best = run_many(problems, starts, convex)
    floors, caps = np.asarray(problems.boxes.floors), np.array(problems.boxes.caps)
    held = np.zeros(caps.shape, dtype=bool)
    going = np.arange(len(caps))
    for _ in range(ROUNDS):
        value = best.value[going]
        trace = (best.h[going] < TRACE) & (floors[going] == 0) & (caps[going] > 0)
        tighter = _rows(problems.boxes, going)._replace(caps=np.where(trace, 0.0, caps[going]))
        with np.errstate(invalid="ignore"):
            stalled = (
                ~(best.gap[going] <= STALLED * np.maximum(1.0, np.abs(value)))
                & np.isfinite(value)
                & trace.any(axis=1)
                & is_met(tighter)
            )
        if not stalled.any():
            break
        going, trace, tighter = going[stalled], trace[stalled], _rows(tighter, stalled)
        other = run_many(_some(problems, going, tighter), starts, convex[going])
        better = other.value <= best.value[going] + RISE * np.abs(best.value[going])
        going = going[better]
        for old, new in zip(best, other, strict=True):
            old[going] = new[better]
        caps[going] = np.asarray(tighter.caps)[better]
        held[going] |= trace[better]
    return best, held


def _on_faces(
    problems: Problems,
    starts: Floats,
    convex: NDArray[np.bool_],
    best: Minima,
    held: NDArray[np.bool_],
) -> tuple[Minima, NDArray[np.bool_]]:
    """The minima, without the domains whose absence lowers them, and which are held at 0 then; as
    for one mixture."""
    k = held.shape[1]
    going = np.flatnonzero(~convex & np.isfinite(best.value))
    for _ in range(k - 1):
        if not len(going):
            break
        boxes = _rows(problems.boxes, going)
        boxes = boxes._replace(caps=np.where(held[going], 0.0, boxes.caps))
        row, domain = np.nonzero(
            faces_of(_some(problems, going, boxes), best.h[going], best.value[going])
        )
        tighter = _rows(boxes, row)
        tighter = tighter._replace(
            caps=np.where(np.arange(k) == domain[:, None], 0.0, tighter.caps)
        )
        met = is_met(tighter)
        row, domain, tighter = row[met], domain[met], _rows(tighter, met)
        if not len(row):
            break
        other, traces = _settle(
            _some(problems, going[row], tighter), starts, np.zeros(len(row), dtype=bool)
        )
        order = np.lexsort((domain, other.value, row))
        lowest = order[np.unique(row[order], return_index=True)[1]]
        value = best.value[going[row[lowest]]]
        lowest = lowest[other.value[lowest] < value - LOWER * np.abs(value)]
        going = going[row[lowest]]
        for old, new in zip(best, other, strict=True):
            old[going] = new[lowest]
        held[going] |= traces[lowest] | (np.arange(k) == domain[lowest, None])
    return best, held


# --- Checks --------------------------------------------------------------------------------------


def _parameter_sets(
    fits: Fit | Sequence[Fit] | ParameterSets,
) -> tuple[Fit, dict[str, Floats], Law]:
    """A fit that stands for all, its law, and parameters {name: (members, targets, ...)}."""
    if isinstance(fits, Sequence):
        if not fits:
            raise UserError("fits", "there are none", "give at least one")
        fit, members = fits[0], [f.params for f in fits]
        for i, other in enumerate(fits):
            if (other.law, other.domains, other.targets, other.own_law) != (
                fit.law,
                fit.domains,
                fit.targets,
                fit.own_law,
            ):
                raise UserError(
                    f"fit {i}",
                    "has another law, other domains or other targets than fit 0",
                    "give fits of one law and the same columns",
                )
    else:
        fit, members = (fits, [fits.params]) if isinstance(fits, Fit) else (fits.fit, None)
    law = fit.scaling_law
    check_law(fit, law)
    names = [p.name for p in law.parameters]
    if members is None:
        params = cast(ParameterSets, fits).params
        return (
            fit,
            {
                name: np.stack(
                    [np.asarray(params[t][name], dtype=np.float64) for t in fit.targets], axis=1
                )
                for name in names
            },
            law,
        )
    return (
        fit,
        {
            name: np.stack(
                [[np.asarray(p[t][name], dtype=np.float64) for t in fit.targets] for p in members]
            )
            for name in names
        },
        law,
    )


def _columns(given: Named | None, names: Sequence[str], where: str, default: float) -> Floats:
    """The given numbers (problems or 1, names)."""
    check_names(given or {}, names, where)
    columns = [_column((given or {}).get(name, default), f"{where}, {name!r}") for name in names]
    try:
        return np.stack(np.broadcast_arrays(*columns), axis=-1)
    except ValueError:
        raise UserError(
            where,
            f"lengths differ: {', '.join(sorted({str(len(c)) for c in columns}))}",
            "give one number, or one for each problem",
        ) from None


def _column(values: ArrayLike, where: str) -> Floats:
    """Finite numbers (problems or 1,)."""
    try:
        column = np.atleast_1d(np.asarray(values, dtype=np.float64))
    except (TypeError, ValueError):
        column = np.array([np.nan])
    if column.ndim != 1 or not len(column):
        raise UserError(
            where, f"has shape {np.shape(values)}", "give one number, or one for each problem"
        )
    if not np.isfinite(column).all():
        i = int(np.flatnonzero(~np.isfinite(column))[0])
        raise UserError(where, f"number {i} is not finite", "give finite numbers")
    return column


def _common_length(given: Mapping[str, Floats]) -> int:
    length = max(len(x) for x in given.values())
    for name, x in given.items():
        if len(x) not in (1, length):
            raise UserError(
                name,
                f"has {len(x)} numbers where another argument has {length}",
                "give one number, or one for each problem",
            )
    return length


def _check(
    full: Mapping[str, Floats], fit: Fit, law: Law, members: int, without_n: bool, without_d: bool
) -> None:
    """Refuse the first problem that has no answer."""
    for name, missing, needed in zip(("N", "D"), (without_n, without_d), law.reads, strict=True):
        if missing and needed:
            raise UserError(
                "mixtures", f"{name} is missing", f"the {fit.law} law reads it: give counts"
            )
        _refuse(
            ~(full[name] > 0),
            name,
            lambda i, name=name: f"{full[name][i]:g} is not a positive number",
            "give counts, e.g. 7e9",
        )
    member = full["member"]
    _refuse(
        (member < 0) | (member >= members) | (member % 1 != 0),
        "member",
        lambda i: f"there is no set {member[i]:g}",
        f"give numbers from 0 to {members - 1}",
    )
    _refuse(
        (full["weights"] < 0).any(axis=1),
        "weights",
        lambda i: f"{full['weights'][i].min():g} is negative",
        "give numbers of at least 0",
    )
    _refuse(
        ~full["weights"].any(axis=1),
        "weights",
        lambda i: "all are 0",
        "give one target a positive weight",
    )


def _check_boxes(box: Box, domains: Sequence[str], groups: Mapping[str, Sequence[str]]) -> None:
    """Refuse the first box that no mixture meets."""
    odd = ~is_met(box)
    for part in (box, box.groups) if box.groups is not None else (box,):
        odd |= np.any((part.floors < 0) | (part.caps > 1) | (part.caps < part.floors), axis=-1)
    for i in np.flatnonzero(odd):
        try:
            check_box(jax.tree.map(lambda side: side[i], box), domains, groups)  # noqa: B023
        except UserError as error:
            raise UserError(f"problem {i}, {error.where}", error.what, error.remedy) from None


def _refuse(bad: Any, where: str, what: Any, remedy: str) -> None:
    if np.any(bad):
        i = int(np.flatnonzero(bad)[0])
        raise UserError(f"problem {i}, {where}", what(i), remedy)
