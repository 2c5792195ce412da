"""What the solver minimises (questions -> numbers -> LOSSES of h): written for one mixture,
hashable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mixjax.law.base import Law, row_loss
from mixjax.mixture.box import Box, project
from mixjax.mixture.question import Question, divergence


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


def target_losses(law: Law, h: jax.Array, case: Case, somewhere: Any = None) -> jax.Array:
    """Losses (targets,) at one mixture h (k,); somewhere (targets,): at equal shares instead."""

    def loss(params: dict[str, jax.Array], own: jax.Array, idle: Any) -> jax.Array:
        seen = h[own][None] if law.own_domain else h
        if idle is not None:
            seen = jnp.where(idle, 1.0 / h.shape[0], seen)
        return row_loss(law, params, seen, jnp.asarray(case.N), jnp.asarray(case.D))

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
        losses = jnp.sum(case.weights * target_losses(self.law, h, case, somewhere))
        if case.prior is None:
            return losses
        return losses + case.strength * divergence(h, case.prior)


@dataclass(frozen=True)
class LiftedLoss:
    """f(kept + added) + strength * sum_i added_i, over x = (kept, added) (2 k,): smooth, where
    |h - base| is not.

    With kept_i <= base_i every mixture is such a sum, and the least sum of added is half its L1
    distance to the base. data: (case, strength ()).
    """

    law: Law

    def __call__(self, x: jax.Array, data: tuple[Case, jax.Array]) -> jax.Array:
        """The objective () at x (2 k,)."""
        case, strength = data
        kept, added = jnp.split(x, 2)
        return WeightedLoss(self.law)(kept + added, case) + strength * jnp.sum(added)


@dataclass(frozen=True)
class Augmented:
    """f(h) + strength * KL(h | prior) with limits on losses, as an augmented Lagrangian.

        f(h) + strength * KL(h | prior) + sum_t (max(0, m_t + rho c_t)^2 - m_t^2) / (2 rho),
        c_t = L_t(h) / limit_t - 1

    data: (case with a prior, limits (targets,), infinite for none, multipliers m (targets,),
    rho ()).

    Source: Nocedal and Wright 2006, section 17.4.
    """

    law: Law

    def __call__(self, h: jax.Array, data: tuple[Case, jax.Array, jax.Array, jax.Array]) -> Any:
        """The objective () at h (k,)."""
        case, limits, multipliers, rho = data
        losses = target_losses(self.law, h, case)
        pressed = jnp.maximum(0.0, multipliers + rho * (losses / limits - 1.0))
        force = jnp.where(jnp.isfinite(limits), pressed, 0.0)
        penalty = jnp.sum(force * force - multipliers * multipliers) / (2.0 * rho)
        weighted = jnp.dot(jnp.where(case.weights > 0, losses, 0.0), case.weights)
        return weighted + case.strength * divergence(h, case.prior) + penalty


@dataclass(frozen=True)
class SmoothWorst:
    """The largest of some targets' losses relative to references, smoothed around a guess q of its
    multipliers.

        T log sum_t q_t exp(x_t / T),   x_t = w_t (L_t(h) / reference_t - 1)

    Its gradient is that of sum_t q+_t x_t with q+ = q exp(x / T), scaled to sum to 1: the next
    guess. data: (case, references (targets,), log q (targets,), T ()).

    Source: Tseng and Bertsekas 1993 (exponential method of multipliers).
    """

    law: Law

    def __call__(self, h: jax.Array, data: tuple[Case, jax.Array, jax.Array, jax.Array]) -> Any:
        """The objective () at h (k,)."""
        case, references, log_q, smoothing = data
        excess = case.weights * (target_losses(self.law, h, case) / references - 1.0)
        largest = smoothing * jax.nn.logsumexp(excess / smoothing + log_q)
        if case.prior is None:
            return largest
        return largest + case.strength * divergence(h, case.prior)


@dataclass(frozen=True)
class Tail:
    """The mean of the worst regrets (CVaR), smoothed; over fits of one or several laws.

        max_q sum_s q_s r_s(h) - T KL(q | 1/S)   over   sum_s q_s = 1,   0 <= q_s <= cap,
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
        return jnp.dot(q, regret) - smoothing * jnp.dot(q, log_q + jnp.log(1.0 * held.shape[0]))
