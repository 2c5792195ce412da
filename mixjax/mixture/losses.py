"""What mirror descent minimises for moves and robust mixtures (fits -> numbers -> OBJECTIVES of h):
written for one mixture, hashable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mixjax.law.base import Law, row_loss
from mixjax.law.evaluate import domain_index
from mixjax.mixture.box import Box, project
from mixjax.mixture.limits import make_box
from mixjax.mixture.mirror import Minimum, run
from mixjax.mixture.prior import divergence
from mixjax.mixture.question import Floats, Goal

# Share of one domain in a start near its corner.
_MOST = 0.9
# Smallest share that a start has of any domain.
_LEAST = 1e-6


class Scenarios(NamedTuple):
    """Fits of one law: params {name: (fits, targets, ...)}, weights (targets,), N, D (), own
    (targets,): the domain a target's law sees."""

    params: dict[str, Any]
    weights: Any
    N: Any
    D: Any
    own: Any


def scenarios(goals: Sequence[Goal], targets: Sequence[str] = ()) -> Scenarios:
    """The numbers of goals that differ in their fit's parameters alone; only targets with a weight
    are in them, or those named."""
    first = goals[0]
    law, targets = first.fit.scaling_law, list(targets or first.shares)

    def stacked(name: str) -> Floats:
        return np.array(
            [[np.asarray(g.fit.params[t][name], dtype=np.float64) for t in targets] for g in goals]
        )

    own = [domain_index(law, first.fit.domains, t).start if law.own_domain else 0 for t in targets]
    N, D = (np.float64(1.0 if x is None else x) for x in (first.N, first.D))
    return Scenarios(
        {p.name: stacked(p.name) for p in law.parameters},
        np.array([first.shares.get(t, 0.0) for t in targets]),
        N,
        D,
        np.array(own),
    )


def target_losses(law: Law, h: jax.Array, data: Scenarios) -> jax.Array:
    """Losses (fits, targets) at one mixture h (k,)."""

    def loss(params: dict[str, jax.Array], own: jax.Array) -> jax.Array:
        return row_loss(
            law,
            params,
            h[own][None] if law.own_domain else h,
            jnp.asarray(data.N),
            jnp.asarray(data.D),
        )

    return jax.vmap(jax.vmap(loss, in_axes=(0, 0)), in_axes=(0, None))(data.params, data.own)


@dataclass(frozen=True)
class Pulled:
    """f(h) + strength * KL(h | prior); data: (Scenarios of one fit, prior (k,), strength ())."""

    law: Law

    def __call__(self, h: jax.Array, data: tuple[Scenarios, jax.Array, jax.Array]) -> jax.Array:
        """The objective () at h (k,)."""
        case, prior, strength = data
        return jnp.sum(target_losses(self.law, h, case)[0] @ case.weights) + strength * divergence(
            h, prior
        )


@dataclass(frozen=True)
class Lifted:
    """f(kept + added) + strength * sum_i added_i, over x = (kept, added) (2 k,): smooth, where |h -
    base| is not.

    With kept_i <= base_i every mixture is such a sum, and the least sum of added is half its L1
    distance to the base.
    data: (Scenarios of one fit, strength ()).
    """

    law: Law

    def __call__(self, x: jax.Array, data: tuple[Scenarios, jax.Array]) -> jax.Array:
        """The objective () at x (2 k,)."""
        case, strength = data
        kept, added = jnp.split(x, 2)
        return jnp.sum(
            target_losses(self.law, kept + added, case)[0] @ case.weights
        ) + strength * jnp.sum(added)


@dataclass(frozen=True)
class Augmented:
    """f(h) + strength * KL(h | prior) with limits on losses, as an augmented Lagrangian.

        f(h) + strength * KL(h | prior) + sum_t (max(0, m_t + rho c_t)^2 - m_t^2) / (2 rho),   c_t =
        L_t(h) / limit_t - 1

    data: (Scenarios of one fit, prior (k,), strength (), limits (targets,), infinite for none,
    multipliers m (targets,), rho ()).

    Source: Nocedal and Wright 2006, section 17.4.
    """

    law: Law

    def __call__(
        self,
        h: jax.Array,
        data: tuple[Scenarios, jax.Array, jax.Array, jax.Array, jax.Array, jax.Array],
    ) -> jax.Array:
        """The objective () at h (k,)."""
        case, prior, strength, limits, multipliers, rho = data
        losses = target_losses(self.law, h, case)[0]
        force = jnp.where(
            jnp.isfinite(limits), jnp.maximum(0.0, multipliers + rho * (losses / limits - 1.0)), 0.0
        )
        penalty = jnp.sum(force * force - multipliers * multipliers) / (2.0 * rho)
        return (
            jnp.dot(jnp.where(case.weights > 0, losses, 0.0), case.weights)
            + strength * divergence(h, prior)
            + penalty
        )


@dataclass(frozen=True)
class SmoothWorst:
    """The largest of some targets' losses relative to references, smoothed around a guess q of its
    multipliers.

        T log sum_t q_t exp(x_t / T),   x_t = w_t (L_t(h) / reference_t - 1)

    Its gradient is that of sum_t q+_t x_t with q+ = q exp(x / T), scaled to sum to 1: the next
    guess.
    data: (Scenarios of one fit, references (targets,), log q (targets,), T ()).

    Source: Tseng and Bertsekas 1993 (exponential method of multipliers).
    """

    law: Law

    def __call__(
        self, h: jax.Array, data: tuple[Scenarios, jax.Array, jax.Array, jax.Array]
    ) -> jax.Array:
        """The objective () at h (k,)."""
        case, references, log_q, smoothing = data
        excess = case.weights * (target_losses(self.law, h, case)[0] / references - 1.0)
        return smoothing * jax.nn.logsumexp(excess / smoothing + log_q)


@dataclass(frozen=True)
class Tail:
    """The mean of the worst regrets (CVaR), smoothed; over fits of one or several laws.

        max_q sum_s q_s r_s(h) - T KL(q | 1/S)   over   sum_s q_s = 1,   0 <= q_s <= cap,
        r_s(h) = (f_s(h) - f_s*) / |f_s*|

    With cap = 1 / ((1 - level) S) the maximum at T = 0 is the CVaR of the regrets at that level:
    level 0 is their mean, a level above 1 - 1/S the largest. Smoothing takes off at most T log(cap
    S). The maximiser q is the projection of exp(r / T) onto the capped simplex, and by the envelope
    theorem the gradient is that of the sum with q held.

    data: (Scenarios of each law, best f* (fits,), cap (), T ()).

    Source: Rockafellar and Uryasev 2000; Nesterov 2005 for the smoothing.
    """

    laws: tuple[Law, ...]

    def __call__(
        self, h: jax.Array, data: tuple[tuple[Scenarios, ...], jax.Array, jax.Array, jax.Array]
    ) -> jax.Array:
        """The objective () at h (k,)."""
        cases, best, cap, smoothing = data
        values = jnp.concatenate(
            [
                target_losses(law, h, case) @ case.weights
                for law, case in zip(self.laws, cases, strict=True)
            ]
        )
        regret = (values - best) / jnp.abs(best)
        held = jax.lax.stop_gradient(jnp.where(jnp.isfinite(regret), regret, 0.0))
        box = Box(jnp.zeros_like(held), jnp.full_like(held, cap))
        log_q = jnp.maximum(project((held - jnp.max(held)) / smoothing, box), -700.0)
        q = jnp.exp(log_q)
        return jnp.dot(q, regret) - smoothing * jnp.dot(q, log_q + jnp.log(1.0 * held.shape[0]))


def box_of(goal: Goal) -> Box:
    """The goal's limits as arrays, once some mixture is known to meet them."""
    return make_box(goal.fit.domains, goal.caps, goal.floors, goal.groups)


def descend_lifted(
    law: Law, data: tuple[Scenarios, Any], goal: Goal, base: Floats, starts: Sequence[Floats]
) -> tuple[Floats, float]:
    """The mixture (k,) that minimises `Lifted`, from these mixtures (k,), and its gap; the base
    lies within the limits.

    A domain gets something added only once all of its base is kept, so a cap on h_i is one of cap_i
    - base_i on added_i, and a floor on h_i one on kept_i: nothing is lost by it.
    """
    box = box_of(goal)
    floors = np.concatenate([np.minimum(box.floors, base), np.zeros(len(base))])
    caps = np.concatenate([base, np.maximum(np.asarray(box.caps) - base, 0.0)])
    groups = (
        None if box.groups is None else box.groups._replace(member=np.tile(box.groups.member, 2))
    )
    lifted = np.array(
        [np.concatenate([np.minimum(h, base), np.maximum(h - base, 0.0)]) for h in starts]
    )
    end = run(Lifted(law), data, np.maximum(lifted, _LEAST), Box(floors, caps, groups))
    kept, added = np.split(np.asarray(end.h), 2)
    return kept + added, float(end.gap)


def descend(objective: Any, data: Any, goal: Goal, also: Sequence[Floats] = ()) -> Minimum:
    """Mirror descent from the centre, from near every corner, and from these mixtures (k,) too."""
    k = len(goal.fit.domains)
    near = np.where(np.eye(k, dtype=bool), _MOST, (1 - _MOST) / max(k - 1, 1))
    starts = np.concatenate([np.full((1, k), 1.0 / k), near, *(np.atleast_2d(h) for h in also)])
    return run(objective, data, np.maximum(starts, _LEAST), box_of(goal))
