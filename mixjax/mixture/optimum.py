"""The best mixture of a fit (fit -> f(h) -> mirror descent -> MIXTURE): domain weights, predicted
losses, and how far to trust them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from mixjax.errors import UserError, warn
from mixjax.fitting.doubts import warn_scale, warn_shares
from mixjax.law.base import Law, row_loss
from mixjax.law.evaluate import domain_index
from mixjax.mixture.box import Box, is_met
from mixjax.mixture.limits import at_bounds, by_name, make_box, number
from mixjax.mixture.mirror import Minimum, faces, run
from mixjax.mixture.prior import Pull, divergence, kl

if TYPE_CHECKING:
    from mixjax.fitting.record import Fit

Floats = NDArray[np.float64]

# Share of one domain in a start near its corner, and in a start that nearly leaves it out.
_MOST, _LEAST = 0.9, 1e-6
# A descent has stalled above this gap relative to its objective. Then domains below this share are
# left out, if that raises the objective by less than this, relatively; so many times at most.
STALLED, TRACE, RISE, ROUNDS = 1e-8, 1e-4, 1e-6, 4
# A domain is held at 0 where that lowers the objective by more than this, relatively.
LOWER = 1e-12


@dataclass(frozen=True)
class Mixture:
    """The domain weights that make the weighted sum of predicted losses smallest.

    Attributes:
        weights: {domain: share}, sums to 1.
        losses: {target: predicted loss}, all targets of the fit; infinite where the law is.
        objective: sum over targets of target_weights * losses.
        gap: first-order optimality gap in the unit of the objective, 0 at the optimum; of the other
            domains where some are held at 0, see `optimal_mixture`.
        pull: what a pull towards a prior adds to the objective, strength * KL(h | prior); the gap
            is that of the sum.
        N, D: counts, None where they were not given.
        target_weights: {target: weight in the objective}.
        bound: {domain or group: "cap" or "floor"} of those that would pass it.
        convex: the objective is known to be convex in the weights, so that it is at most `gap`
            above the minimum. Otherwise the optimum is the best local one of all starts.
        agreeing, starts: how many of the starts ended within 1e-9 of the best objective,
            relatively.
    """

    weights: dict[str, float]
    losses: dict[str, float]
    objective: float
    gap: float
    pull: float
    N: float | None
    D: float | None
    target_weights: dict[str, float]
    bound: dict[str, str]
    convex: bool
    agreeing: int
    starts: int

    def __str__(self) -> str:
        """A table of shares in percent and one of losses."""
        wide = max(map(len, ("domain", "target", *self.weights, *self.losses)))
        at = ", ".join(
            f"{name} = {value:.4g}"
            for name, value in (("N", self.N), ("D", self.D))
            if value is not None
        )
        shares = [
            f"{d:<{wide}}  {100 * share:9.4f}%  {self.bound.get(d, '')}".rstrip()
            for d, share in self.weights.items()
        ]
        losses = [
            f"{t:<{wide}}  {loss:10.5f}  {self.target_weights[t]:8.4g}"
            for t, loss in self.losses.items()
        ]
        trust = "at most this above the minimum" if self.convex else f"best of {self.starts} starts"
        shares.insert(0, f"{'domain':<{wide}}  {'share':>10}")
        losses.insert(0, f"{'target':<{wide}}  {'loss':>10}  {'weight':>8}")
        pulled = f" + pull {self.pull:.6f}" if self.pull else ""
        end = (
            f"objective {self.objective:.6f}{pulled}, gap {self.gap:.1e} ({trust}); "
            f"{self.agreeing} of {self.starts} starts agree"
        )
        return "\n".join(
            [f"best mixture at {at}" if at else "best mixture", "", *shares, "", *losses, "", end]
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings for JSON; a loss that is infinite is None."""
        return asdict(self) | {
            "losses": {t: loss if np.isfinite(loss) else None for t, loss in self.losses.items()}
        }


def optimal_mixture(
    fit: Fit,
    N: float | None = None,
    D: float | None = None,
    weights: Mapping[str, float] | None = None,
    caps: Mapping[str, float] | None = None,
    floors: Mapping[str, float] | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
    fixed: Mapping[str, float] | None = None,
    pull: Pull | None = None,
) -> Mixture:
    """The mixture that a fit predicts to be best for one budget.

        h* = argmin over h in the simplex of sum_t w_t L_t(N, D, h),   floor_i <= h_i <= cap_i

    Args:
        fit: with domains; of any law, one's own included.
        N, D: parameters and tokens (counts) of the run to come; needed where the law reads them.
        weights: {target: w_t}, not negative. Left out: 1 for every target. Targets that it does not
            name have weight 0.
        caps, floors: {domain or group: share}, from 0 to 1; 1 and 0 where not named.
        groups: {name: domains}, disjoint; caps and floors of a group are of the sum of its shares.
        fixed: {domain or group: share} that it must have.
        pull: adds strength * KL(h | prior) to what is minimised, where data say little about moves
            away from the prior.

    Raises:
        UserError: the law does not depend on the mixture; N or D missing or not a positive number;
            an unknown target or domain; weights negative or all 0; groups that overlap; limits that
            no mixture meets; an objective that is nowhere finite.

    Warns:
        MixjaxWarning: the gap is not small, or was made so only by leaving a domain out; a domain
            is held at 0 because the law jumps down there: it has a negative exponent, so that
            0^exponent is infinite and the mixture term nothing (jumps below 1e-5 of the objective
            are not looked for); the scale or a share is far from the fitted rows, or the fit says
            little (`extrapolated`).

    Source: Shukor et al. 2025, eq. (7, 8, 13).
    """
    best = find_optimum(fit, N, D, weights, caps, floors, groups, fixed, pull)
    warn_scale(fit, best.N, best.D, best.target_weights)
    warn_shares(fit, best.weights)
    return best


def find_optimum(
    fit: Fit,
    N: float | None,
    D: float | None,
    weights: Mapping[str, float] | None = None,
    caps: Mapping[str, float] | None = None,
    floors: Mapping[str, float] | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
    fixed: Mapping[str, float] | None = None,
    pull: Pull | None = None,
) -> Mixture:
    """`optimal_mixture`, silent about how far from the fitted rows it is: for those who ask it many
    times."""
    law = fit.scaling_law
    check_law(fit, law)
    scale = [
        _count(name, value, needed, fit.law)
        for name, value, needed in zip(("N", "D"), (N, D), law.reads, strict=True)
    ]
    shares = _target_weights(weights, fit.targets)
    box = make_box(fit.domains, caps, floors, groups, fixed)
    unit = float(unit_of(shares))
    convex = is_convex(fit, shares)
    best = _descend(
        WeightedLoss(law),
        in_unit(make_problem(fit, law, shares, scale, pull), unit),
        box,
        fit,
        convex,
    )
    h = np.asarray(best.h)
    losses = {t: float(loss) for t, loss in fit.predict(scale[0], scale[1], h).items()}
    return Mixture(
        weights=dict(zip(fit.domains, h.tolist(), strict=True)),
        losses=losses,
        objective=sum(
            w * losses[t] for t, w in zip(fit.targets, shares.tolist(), strict=True) if w > 0
        ),
        gap=max(float(best.gap) * unit, 0.0),
        pull=_added(pull, h, fit.domains),
        N=None if N is None else float(N),
        D=None if D is None else float(D),
        target_weights=dict(zip(fit.targets, shares.tolist(), strict=True)),
        bound=at_bounds(h, box, fit.domains, groups),
        convex=convex,
        agreeing=int(best.agreeing),
        starts=len(best.values),
    )


# --- The problem in numbers ----------------------------------------------------------------------


class Problem(NamedTuple):
    """What `WeightedLoss` reads besides h: law parameters by name (targets, ...), weights
    (targets,), N and D ().

    own (targets,): the domain that the law of a target sees, for own-domain laws. pull: prior (k,)
    and strength (), or None.
    """

    params: dict[str, Any]
    weights: Any
    N: Any
    D: Any
    own: Any
    pull: tuple[Any, Any] | None = None


@dataclass(frozen=True)
class WeightedLoss:
    """h (k,), problem -> sum_t w_t L_t(N, D, h) (), eq. (13), and the pull if any. Hashable:
    another scale, weight or parameter recompiles nothing."""

    law: Law
    some_idle: bool = True

    def __call__(self, h: jax.Array, problem: Problem) -> jax.Array:
        """The objective () at h (k,)."""

        def weighted(params: dict[str, jax.Array], weight: jax.Array, own: jax.Array) -> jax.Array:
            seen = h[own][None] if self.law.own_domain else h
            if self.some_idle:
                # A target of weight 0 may be infinite where the best mixture has no use for its
                # domain: look elsewhere.
                seen = jnp.where(weight > 0, seen, 1.0 / h.shape[0])
            return weight * row_loss(
                self.law, params, seen, jnp.asarray(problem.N), jnp.asarray(problem.D)
            )

        losses = jnp.sum(jax.vmap(weighted)(problem.params, problem.weights, problem.own))
        if problem.pull is None:
            return losses
        prior, strength = problem.pull
        return losses + strength * divergence(h, prior)


def make_problem(
    fit: Fit, law: Law, shares: Floats, scale: Sequence[float | None], pull: Pull | None = None
) -> Problem:
    """The arrays of one problem. N and D are 1 where the law reads none."""
    params = {
        p.name: np.stack([np.asarray(fit.params[t][p.name], dtype=np.float64) for t in fit.targets])
        for p in law.parameters
    }
    N, D = (np.asarray(1.0 if value is None else value, dtype=np.float64) for value in scale)
    own = [domain_index(law, fit.domains, t).start if law.own_domain else 0 for t in fit.targets]
    return Problem(
        params,
        shares,
        N,
        D,
        np.asarray(own),
        None if pull is None else _one_pull(pull, fit.domains),
    )


def unit_of(weights: Floats) -> Floats:
    """The power of 2 (...,) that weights (..., targets) are divided by: of any other size than
    about 1 they would end a descent too soon, or never."""
    return np.exp2(np.floor(np.log2(weights.max(axis=-1))))


def in_unit(problem: Problem, unit: float) -> Problem:
    """The same problem with the objective over a unit."""
    pull = None if problem.pull is None else (problem.pull[0], problem.pull[1] / unit)
    return problem._replace(weights=problem.weights / unit, pull=pull)


def _one_pull(pull: Pull, domains: Sequence[str]) -> tuple[Floats, Floats]:
    prior, strength = pull.numbers(domains)
    if strength.ndim:
        raise UserError(
            "pull",
            f"{len(strength)} strengths",
            "give one, or solve many problems with optimal_mixtures",
        )
    return prior, strength


def _added(pull: Pull | None, h: Floats, domains: Sequence[str]) -> float:
    """What the pull adds to the objective at h (k,)."""
    if pull is None:
        return 0.0
    prior, strength = _one_pull(pull, domains)
    return float(strength * kl(h, prior))


def starts_of(k: int) -> Floats:
    """The centre, a point near every corner, and one that nearly leaves out each domain, (2 k + 1,
    k)."""
    one, others = np.eye(k, dtype=bool), max(k - 1, 1)
    near, without = (
        np.where(one, _MOST, (1 - _MOST) / others),
        np.where(one, _LEAST, (1 - _LEAST) / others),
    )
    return np.concatenate([np.full((1, k), 1.0 / k), near, without])


def _descend(
    objective: WeightedLoss, problem: Problem, box: Box, fit: Fit, convex: bool
) -> Minimum:
    """The best minimum; without the domains that it stalls on, and those whose absence lowers it.
    Both are told."""
    k = len(fit.domains)
    first, allowed = _settle(objective, problem, box, k)
    if not np.isfinite(first.value):
        remedy = "raise a cap of 0, or leave out the target that needs that domain"
        raise UserError(
            "mixture", f"the {fit.law} law predicts no finite loss at any start", remedy
        )
    best, emptied = first, np.zeros(k, dtype=bool)
    for _ in range(0 if convex else k - 1):
        out = np.eye(k, dtype=bool)[
            faces(objective, problem, np.asarray(best.h), best.value, allowed)
        ]
        boxes = [
            tighter
            for tighter in (allowed._replace(caps=np.where(row, 0.0, allowed.caps)) for row in out)
            if is_met(tighter)
        ]
        ends = [_settle(objective, problem, tighter, k) for tighter in boxes]
        lowest = int(np.argmin([end.value for end, _ in ends])) if ends else -1
        if not ends or not ends[lowest][0].value < best.value - LOWER * abs(best.value):
            break
        emptied |= (np.asarray(boxes[lowest].caps) == 0) & (np.asarray(allowed.caps) > 0)
        best, allowed = ends[lowest]
    stalled = (np.asarray(allowed.caps) < box.caps) & ~emptied
    if emptied.any():
        less, names = (
            float((first.value - best.value) / abs(first.value)),
            ", ".join(np.array(fit.domains)[emptied]),
        )
        what = (
            f"the law promises {100 * less:.2g} percent less with {names} at exactly 0, where "
            f"an exponent is negative: held at 0, the gap is that of the others"
        )
        warn("mixture", what, "give a floor to see it in")
    if stalled.any():
        names = ", ".join(np.array(fit.domains)[stalled])
        warn(
            "mixture",
            f"exponents of both signs pull at {names}, held at 0: the gap is that of the others",
            "give a floor to see them in",
        )
    if not _small(best):
        warn(
            "mixture",
            f"the optimality gap is still {best.gap:.1e}",
            "take the weights as approximate",
        )
    return best


def _settle(objective: WeightedLoss, problem: Problem, box: Box, k: int) -> tuple[Minimum, Box]:
    """The best minimum in a box; where the descent stalls, the best one without the domains that it
    stalls on, and the box that leaves.

    It stalls where one target's loss has a negative exponent of a domain and another's a positive
    one below 1: both slopes are infinite at 0, and the minimum between them may lie at a share of
    1e-20.
    """
    starts = starts_of(k)
    best = run(objective, problem, starts, box)
    for _ in range(ROUNDS):
        trace = (best.h < TRACE) & (box.floors == 0) & (box.caps > 0)
        tighter = box._replace(caps=np.where(trace, 0.0, box.caps))
        if not np.isfinite(best.value) or _small(best) or not trace.any() or not is_met(tighter):
            break
        other = run(objective, problem, starts, tighter)
        if not other.value <= best.value + RISE * abs(best.value):
            break
        best, box = other, tighter
    return best, box


def _small(best: Minimum) -> bool:
    """Whether the gap is small for the size of the objective."""
    return bool(best.gap <= STALLED * max(1.0, abs(float(best.value))))


def is_convex(fit: Fit, shares: Floats) -> bool:
    """Whether the weighted sum of the fit's laws is convex in h by the signs of its parameters;
    False where that is not known."""
    law = fit.scaling_law
    params = {
        p.name: np.stack([np.asarray(fit.params[t][p.name], dtype=np.float64) for t in fit.targets])
        for p in law.parameters
    }
    return bool(np.all(law.is_convex(params) | ~(shares > 0)))


# --- Checks --------------------------------------------------------------------------------------


def check_law(fit: Fit, law: Law) -> None:
    """Refuse fits whose loss does not depend on a mixture."""
    if not fit.domains:
        raise UserError("fit", "it has no domains", "fit runs with columns h_<domain>")
    if law.name == "chinchilla":
        raise UserError(
            "fit", "chinchilla's law does not depend on the mixture", "fit another law, e.g. joint"
        )
    odd = next((t for t in fit.targets if law.own_domain and t not in fit.domains), None)
    if odd is not None:
        raise UserError(
            "fit",
            f"target {odd!r} is not a training domain",
            f"the {fit.law} law needs one: fit targets among {', '.join(fit.domains)}",
        )


def _count(name: str, value: float | None, needed: bool, law: str) -> float | None:
    """N or D as a positive number, None where it was not given and is not needed."""
    if value is None:
        if needed:
            raise UserError(
                "mixture",
                f"{name} is missing",
                (
                    f"the {law} law reads it: give a count, e.g. -{name} "
                    f"{'7e9' if name == 'N' else '150e9'}"
                ),
            )
        return None
    count = number(value, name, "a count")
    if not count > 0:
        raise UserError(name, f"{value} is not a positive number", "give a count, e.g. 7e9")
    return count


def _target_weights(weights: Mapping[str, float] | None, targets: Sequence[str]) -> Floats:
    """Weights (targets,) of the objective."""
    shares = by_name(weights, targets, "weights", 1.0 if weights is None else 0.0)
    for t, w in zip(targets, shares, strict=True):
        if w < 0:
            raise UserError("weights", f"{t!r} has {w:g}", "give numbers of at least 0")
    if not shares.any():
        raise UserError("weights", "all are 0", "give one target a positive weight")
    return shares
