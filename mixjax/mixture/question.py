"""What is asked about mixtures (fit, scale, weights, limits -> QUESTION): one record, checked once,
that every aid answers; and the same in numbers, with the objective that they make of a mixture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixjax.errors import UserError, check_names
from mixjax.fitting.record import Fit
from mixjax.law.base import Law, Slopes, domain_index, row_loss, slopes
from mixjax.mixture.box import Box
from mixjax.mixture.limits import (
    NEAR,
    by_name,
    caps_from_tokens,
    check_tokens,
    epochs_of,
    make_box,
    number,
)

Floats = NDArray[np.float64]

# A domain that a prior leaves out counts as this share in the Kullback-Leibler divergence, or it
# could never be entered.
LEAST_SHARE = 1e-4


@dataclass(frozen=True, eq=False)
class Pull:
    """strength * KL(h | prior), added to the weighted sum of losses.

    Attributes:
        prior: {domain: share}, scaled to sum to 1; a domain that has less than `LEAST_SHARE` counts
            as having that.
        strength: unit of the objective per nat, at least 0; of many questions one for all or one
            for each.
    """

    prior: Mapping[str, float]
    strength: ArrayLike

    def numbers(self, domains: Sequence[str]) -> tuple[Floats, Floats]:
        """The prior (k,), and the strength () or (questions,).

        Raises:
            UserError: what `shares_of` refuses, or a strength that is negative or not finite.
        """
        try:
            strength = np.asarray(self.strength, dtype=np.float64)
        except (TypeError, ValueError):
            strength = np.array(np.nan)
        good = strength.ndim <= 1 and strength.size and np.all(np.isfinite(strength))
        if not (good and np.all(strength >= 0)):
            what = f"{self.strength!s} is not a strength"
            raise UserError("pull", what, "give a number of at least 0, e.g. 0.01")
        return nonzero(shares_of(self.prior, domains)), strength


@dataclass(frozen=True, eq=False)
class Question:
    """What is minimised, where, and within which limits.

        h* = argmin over h of sum_t w_t L_t(N, D, h) + strength * KL(h | prior)
        over the simplex,   floor_i <= h_i <= cap_i,   sums of groups likewise

    Attributes:
        fit: with domains, of any law, one's own included.
        N, D: counts of parameters and tokens of the run to come; needed where the law reads them.
        weights: {target: w_t}, not negative. None: 1 for every target. Targets that it does not
            name have weight 0.
        caps, floors: {domain or group: share}, from 0 to 1; 1 and 0 where not named.
        groups: {name: domains}, disjoint; caps and floors of a group are of the sum of its shares.
        fixed: {domain or group: share} that it must have.
        pull: towards a prior mixture, where data say little about moves away from it.
        tokens: {domain: tokens available}, counts: no domain is seen more often than its epochs in
            a run of D tokens.
        epochs: how often the tokens of a domain may be seen: one number, or {domain: number} with 1
            where not named.
        trained: whether every share stays within those of the fitted rows, see `trained_limits`.

    Raises:
        UserError: the law does not depend on the mixture; N or D not a positive number; an unknown
            target, domain or group; weights negative or all 0; groups that overlap; limits that no
            mixture meets; a supply that is none, or too small for D.

    Source: Shukor et al. 2025, eq. (7, 8, 13).
    """

    fit: Fit
    N: float | None = None
    D: float | None = None
    weights: Mapping[str, float] | None = None
    caps: Mapping[str, float] | None = None
    floors: Mapping[str, float] | None = None
    groups: Mapping[str, Sequence[str]] | None = None
    fixed: Mapping[str, float] | None = None
    pull: Pull | None = None
    tokens: Mapping[str, float] | None = None
    epochs: float | Mapping[str, float] = 1.0
    trained: bool = False

    def __post_init__(self) -> None:
        check_law(self.fit)
        for name, value in (("N", self.N), ("D", self.D)):
            if value is not None and not number(value, name, "a count") > 0:
                raise UserError(name, f"{value} is not a positive number", "give a count, e.g. 7e9")
        _ = self.target_weights, self.prior
        check_tokens(self.tokens, self.epochs, self.fit.domains)
        if self.D is not None or not self.tokens:
            _ = self.box

    def but(self, **changes: Any) -> Question:
        """The same question with some attributes changed."""
        return replace(self, **changes)

    # --- In numbers ---

    @property
    def law(self) -> Law:
        """The fit's law."""
        return self.fit.scaling_law

    @property
    def domains(self) -> tuple[str, ...]:
        """The fit's domains, in whose order all shares (k,) are."""
        return self.fit.domains

    @cached_property
    def box(self) -> Box:
        """The set of mixtures within the limits, supply included.

        Raises:
            UserError: a supply without D.
        """
        caps = caps_from_tokens(self.tokens, self.D, self.domains, self.epochs, self.caps)
        box = make_box(self.domains, caps, self.floors, self.groups, self.fixed)
        if not self.trained:
            return box
        low, high = self.trained_limits
        floors = {**(self.floors or {}), **low}
        try:
            return make_box(self.domains, caps | high, floors, self.groups, self.fixed)
        except UserError:
            what = "no mixture within the limits has shares within those of the fitted rows"
            raise UserError("mixture", what, "loosen the limits, or allow --extrapolate") from None

    @property
    def has_limits(self) -> bool:
        """Whether it has limits of its own: caps, floors, fixed shares or a supply."""
        return any((self.caps, self.floors, self.fixed, self.tokens))

    @cached_property
    def trained_limits(self) -> tuple[dict[str, float], dict[str, float]]:
        """Floors and caps {domain: share} that keep every share within those of the fitted rows,
        where these are tighter than the question's own limits.

        Where a limit of the domain's own lies beyond them, a cap below what was trained or a floor
        above it, the share is at that limit, which is as near as it may come; a fixed share stays
        as it is asked for, a cap of 0 leaves the domain out. Empty where the rows have one mixture.
        """
        if not self.trained or not self.fit.mixtures_vary:
            return {}, {}
        caps = caps_from_tokens(self.tokens, self.D, self.domains, self.epochs, self.caps)
        low, high = {}, {}
        for domain, (least, most) in self.fit.share_ranges.items():
            floor, cap = (self.floors or {}).get(domain, 0.0), caps.get(domain, 1.0)
            if domain in (self.fixed or {}):
                continue
            if floor < (nearest := min(least, cap)):
                low[domain] = nearest
            if cap > (nearest := max(most, floor)):
                high[domain] = nearest
        return low, high

    @cached_property
    def target_weights(self) -> Floats:
        """Weights (targets,) of the objective."""
        weights, targets = self.weights, self.fit.targets
        numbers = by_name(weights, targets, "weights", 1.0 if weights is None else 0.0)
        for target, weight in zip(targets, numbers, strict=True):
            if weight < 0:
                what = f"{target!r} has {weight:g}"
                raise UserError("weights", what, "give numbers of at least 0")
        if not numbers.any():
            raise UserError("weights", "all are 0", "give one target a positive weight")
        return numbers

    @property
    def weighed(self) -> dict[str, float]:
        """{target: weight in the objective} of the targets that count."""
        pairs = zip(self.fit.targets, self.target_weights.tolist(), strict=True)
        return {target: weight for target, weight in pairs if weight > 0}

    @property
    def scale(self) -> tuple[float, float]:
        """N and D, 1 where the law reads none and it was not given.

        Raises:
            UserError: N or D is missing where the law reads it.
        """
        numbers = []
        for name, value, needed in zip(("N", "D"), (self.N, self.D), self.law.reads, strict=True):
            if value is None and needed:
                example = "7e9" if name == "N" else "150e9"
                remedy = f"the {self.fit.law} law reads it: give a count, e.g. -{name} {example}"
                raise UserError("mixture", f"{name} is missing", remedy)
            numbers.append(1.0 if value is None else float(value))
        return numbers[0], numbers[1]

    @cached_property
    def prior(self) -> tuple[Floats, float] | None:
        """The prior (k,) > 0 and the strength of the pull, None without one."""
        if self.pull is None:
            return None
        prior, strength = self.pull.numbers(self.domains)
        if strength.ndim:
            remedy = "give one, or solve many questions with optimal_mixtures"
            raise UserError("pull", f"{len(strength)} strengths", remedy)
        return prior, float(strength)

    def stacked(self, targets: Sequence[str] | None = None) -> dict[str, Floats]:
        """Law parameters {name: (targets, ...)} of these targets, by default of all."""
        params = [self.fit.params[t] for t in targets or self.fit.targets]
        return {
            p.name: np.stack([np.asarray(of_one[p.name], dtype=np.float64) for of_one in params])
            for p in self.law.parameters
        }

    def own(self, targets: Sequence[str] | None = None) -> NDArray[np.int64]:
        """The domain (targets,) that an own-domain law of each target sees; 0 for other laws."""
        names = targets or self.fit.targets
        if not self.law.own_domain:
            return np.zeros(len(names), dtype=np.int64)
        return np.array([domain_index(self.law, self.domains, t).start for t in names])

    def is_convex(self, targets: Sequence[str] | None = None) -> bool:
        """Whether the losses of these targets, by default of those that count, are known to be
        convex in h."""
        names = list(targets if targets is not None else self.weighed)
        return bool(np.all(self.law.is_convex(self.stacked(names)))) if names else True

    # --- At a mixture ---

    def losses(
        self, h: ArrayLike, N: ArrayLike | None = None, D: ArrayLike | None = None
    ) -> dict[str, Floats]:
        """Predicted losses {target: (rows,) or ()} of mixtures h (rows, k) or (k,), at the
        question's scale where none is given."""
        h = np.asarray(h, dtype=np.float64)
        return self.fit.predict(self.N if N is None else N, self.D if D is None else D, h)

    def value(self, h: ArrayLike, N: ArrayLike | None = None, D: ArrayLike | None = None) -> Floats:
        """The weighted sum of losses (rows,) or (), whatever the limits."""
        losses = self.losses(h, N, D)
        return np.asarray(sum(w * losses[t] for t, w in self.weighed.items()), dtype=np.float64)

    def slopes(self, h: ArrayLike) -> dict[str, Slopes]:
        """Slopes of every target's loss at one mixture h (k,)."""
        params = {t: self.fit.params[t] for t in self.fit.targets}
        N, D = (1.0 if x is None else float(x) for x in (self.N, self.D))
        return slopes(self.law, self.domains, params, N, D, np.asarray(h, dtype=np.float64))

    def slope(self, h: ArrayLike) -> Floats:
        """Slope (k,) of what is minimised, a pull included, at one mixture h (k,)."""
        of_target = self.slopes(h)
        total = np.asarray(sum(w * of_target[t].h for t, w in self.weighed.items()))
        if self.prior is None:
            return total
        prior, strength = self.prior
        least = np.finfo(np.float64).tiny
        return total + strength * (1.0 + np.log(np.maximum(np.asarray(h), least) / prior))

    def bound(self, h: Floats) -> dict[str, str]:
        """{domain or group: "cap" or "floor"} of those at a cap below 1 or a floor above 0, "most
        trained" or "least trained" where these are not the question's own."""
        names, shares, floors, caps = self._with_groups(h)
        low, high = self.trained_limits
        at_cap = (shares >= caps - NEAR) & (caps < 1)
        at_floor = (shares <= floors + NEAR) & (floors > 0)
        sides = {}
        for name, capped, floored in zip(names, at_cap, at_floor, strict=True):
            # At both, an own limit beyond the trained shares or a fixed share, the own one is said.
            if floored and not (capped and name in low):
                sides[name] = "least trained" if name in low else "floor"
            elif capped:
                sides[name] = "most trained" if name in high else "cap"
        return sides

    def check_within(self, h: Floats, where: str) -> None:
        """Refuse a mixture h (k,) that breaks a limit, of a domain or of a group.

        Raises:
            UserError: at `where`, with the shares and their limits.
        """
        if broken := self.broken(h):
            remedy = "move the limits, or begin from another mixture"
            raise UserError(where, "; ".join(broken), remedy)

    def broken(self, h: Floats) -> list[str]:
        """Every limit, trained share and supply that a mixture h (k,) goes beyond, in words."""
        low, high = self.trained_limits
        passes = epochs_of(self.named(h), self.tokens, self.D)
        said = []
        for name, share, floor, cap in zip(*self._with_groups(h), strict=True):
            if floor - NEAR <= share <= cap + NEAR:
                continue
            allowed = self.epochs
            allowed = allowed.get(name, 1.0) if isinstance(allowed, Mapping) else allowed
            if passes.get(name, 0.0) > allowed * (1 + NEAR) and share > cap:
                of = f"{passes[name]:.3g} epochs of its tokens, which allow {allowed:g}"
            elif name in (low if share < floor else high):
                of = "beyond the trained {:.3g} to {:.3g}".format(*self.fit.share_ranges[name])
            else:
                of = f"outside its limits {floor:.4g} to {cap:.4g}"
            said.append(f"{name!r} has {share:.4g}, {of}")
        return said

    def _with_groups(self, h: Floats) -> tuple[list[str], Floats, Floats, Floats]:
        """Names, shares, floors and caps of the domains and then of the groups."""
        floors, caps, groups = self.box
        floors, caps = np.asarray(floors), np.asarray(caps)
        if groups is None:
            return list(self.domains), h, floors, caps
        names, sums = [*self.domains, *(self.groups or {})], np.asarray(groups.member) @ h
        floors, caps = np.append(floors, groups.floors), np.append(caps, groups.caps)
        return names, np.append(h, sums), floors, caps

    def array(self, weights: Mapping[str, float]) -> Floats:
        """Shares (k,) in the order of the domains, see `shares_of`."""
        return shares_of(weights, self.domains)

    def named(self, h: ArrayLike) -> dict[str, float]:
        """Shares (k,) by name."""
        return dict(zip(self.domains, np.asarray(h).tolist(), strict=True))


def check_law(fit: Fit) -> None:
    """Refuse fits whose loss does not depend on a mixture."""
    law = fit.scaling_law
    if not fit.domains:
        raise UserError("fit", "it has no domains", "fit runs with columns h_<domain>")
    if law.name == "chinchilla":
        what = "chinchilla's law does not depend on the mixture"
        raise UserError("fit", what, "fit another law, e.g. joint")
    odd = next((t for t in fit.targets if law.own_domain and t not in fit.domains), None)
    if odd is not None:
        remedy = f"the {fit.law} law needs one: fit targets among {', '.join(fit.domains)}"
        raise UserError("fit", f"target {odd!r} is not a training domain", remedy)


# --- Mixtures as numbers -------------------------------------------------------------------------


def shares_of(weights: Mapping[str, float], domains: Sequence[str]) -> Floats:
    """Shares (k,) in the order of the domains, scaled to sum to 1; 0 where not named.

    Raises:
        UserError: an unknown domain, a share that is negative or not a number, or shares that sum
            to 0.
    """
    check_names(weights, domains, "mixture")
    try:
        h = np.array([float(weights.get(d, 0.0)) for d in domains])
    except (TypeError, ValueError):
        raise UserError("mixture", "a share is not a number", "write domain: share") from None
    if not (np.isfinite(h).all() and (h >= 0).all() and h.sum() > 0):
        what = f"the shares {dict(weights)} are not those of a mixture"
        raise UserError("mixture", what, "give shares of at least 0 that do not sum to 0")
    return h / h.sum()


def nonzero(shares: Floats) -> Floats:
    """The shares (k,) with none of exactly 0, see `LEAST_SHARE`."""
    lifted = np.maximum(shares, LEAST_SHARE)
    return lifted / lifted.sum()


def divergence(h: jax.Array, prior: jax.Array) -> jax.Array:
    """KL(h | prior) (), nats, with prior > 0 and 0 log 0 = 0."""
    positive = h > 0
    return jnp.sum(jnp.where(positive, h * jnp.log(jnp.where(positive, h, 1.0) / prior), 0.0))


def kl(h: Floats, prior: Floats) -> Floats:
    """KL(h | prior) of numbers (..., k), nats, for prior (k,) > 0: (...,), not below 0."""
    return np.maximum(0.0, np.sum(h * np.log(np.where(h > 0, h, prior) / prior), axis=-1))


def jensen_shannon(p: Floats, q: Floats) -> Floats:
    """Jensen-Shannon distance (...,) of mixtures (..., k), natural logarithm: 0 to sqrt(log 2) =
    0.8326. Source: paper, appendix D.1."""
    from scipy.spatial.distance import jensenshannon

    distance = jensenshannon(p, q, axis=-1)  # pyright: ignore[reportCallIssue]
    return np.asarray(distance, dtype=np.float64)


# --- The objective, of one mixture ---------------------------------------------------------------


class Case(NamedTuple):
    """One question in numbers.

    params {name: (targets, ...)} of the law, weights (targets,), N and D (), own (targets,): the
    domain that the law of a target sees, for own-domain laws. prior (k,) and strength () of a pull,
    or None. N and D are 1 where the law reads none.
    """

    params: dict[str, Any]
    weights: Any
    N: Any
    D: Any
    own: Any
    prior: Any = None
    strength: Any = None


def case_of(question: Question, targets: list[str] | None = None) -> Case:
    """The numbers of a question, without its pull; of the targets that count, or of these."""
    names = list(question.weighed) if targets is None else targets
    weights = np.array([question.weighed.get(t, 0.0) for t in names])
    return Case(question.stacked(names), weights, *question.scale, question.own(names))


@dataclass(frozen=True)
class TargetLosses:
    """Losses (targets,) at one mixture h (k,); somewhere (targets,): at equal shares instead."""

    law: Law

    def __call__(self, h: jax.Array, case: Case, somewhere: Any = None) -> jax.Array:
        """The losses."""

        def loss(params: dict[str, jax.Array], own: jax.Array, idle: Any) -> jax.Array:
            seen = h[own][None] if self.law.own_domain else h
            if idle is not None:
                seen = jnp.where(idle, 1.0 / h.shape[0], seen)
            return row_loss(self.law, params, seen, jnp.asarray(case.N), jnp.asarray(case.D))

        return jax.vmap(loss)(case.params, jnp.asarray(case.own), somewhere)


@dataclass(frozen=True)
class WeightedLoss:
    """sum_t w_t L_t(N, D, h) + strength * KL(h | prior), paper eq. (13) and a pull if any.

    Attributes:
        idle: whether some target has weight 0. It may be infinite where the best mixture has no use
            for its domain, and is looked at elsewhere.
    """

    law: Law
    idle: bool = False

    def __call__(self, h: jax.Array, case: Case) -> jax.Array:
        """The objective () at h (k,)."""
        somewhere = jnp.asarray(case.weights) == 0 if self.idle else None
        losses = jnp.sum(case.weights * TargetLosses(self.law)(h, case, somewhere))
        return losses + pulled(h, case)


def pulled(h: jax.Array, case: Case) -> Any:
    """What a case's pull adds at h (k,), 0 without one."""
    return 0.0 if case.prior is None else case.strength * divergence(h, case.prior)
