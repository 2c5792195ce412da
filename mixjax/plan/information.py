"""Fit + runs -> SLOPES in the parameters of losses and of the best mixture -> CHOICE of the most
informative candidates: rank-one updates, greedy selection, exchange.

The best mixture h* solves grad_h f(h, z) = 0 on the simplex within limits. With Q an orthonormal
basis of the directions that leave every limit as it is that h* is at (`trades`), the implicit
function theorem gives

    dh*/dz = -Q (Q' H Q)^-1 Q' d2f/dh dz,      H = d2f/dh2,

and an error dz costs 1/2 dh*' H dh* of the objective to second order.

Parameters of several targets (targets, q) have information M (targets, q, q), covariance M^-1. A
run adds one measured loss of every target, M_t + u_t u_t' with u (targets, q) the slope of the loss
in the parameters over its noise, so that

    log det (M + u u') - log det M = log(1 + u' M^-1 u),
    (M + u u')^-1 = M^-1 - M^-1 u u' M^-1 / (1 + u' M^-1 u)

and what any candidate is worth costs one product with M^-1.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixjax.data.runs import Runs
from mixjax.data.splits import clusters
from mixjax.errors import MixjaxWarning
from mixjax.fitting.objective import Observations
from mixjax.fitting.problem import Problem, from_paper, make_problem
from mixjax.fitting.record import Fit
from mixjax.law.base import domain_index
from mixjax.mixture.box import Box
from mixjax.mixture.question import Question
from mixjax.numerics import correlation_within
from mixjax.trust.intervals import noise_of

Floats = NDArray[np.float64]

# A share this close to a limit is at it.
_AT_LIMIT = 1e-7
# A singular value below this is 0: sums of shares that cannot change, some twice.
_RANK = 1e-9
# Curvature of the objective over its largest below which a direction counts as this flat.
_FLATTEST = 1e-8
# Smallest relative noise, and largest correlation of the rows of a run, that are believed.
_LEAST_NOISE, _MOST_ALIKE = 1e-5, 0.95


@dataclass(frozen=True, eq=False)
class Tangent:
    """A fit as a function of the coordinates in which it was searched: logarithms of sizes,
    exponents as they are."""

    problem: Problem  # of the runs and the targets that count
    z: Floats  # the fitted point (targets, q)

    def losses(
        self, z: jax.Array, group: int, h: jax.Array, N: ArrayLike, D: ArrayLike
    ) -> jax.Array:
        """Log of the predicted losses (rows,) of one target at z (q,), h (rows, k), N and D counts
        (rows,)."""
        problem, units = self.problem, self.problem.units[group]
        seen = h[:, domain_index(problem.law, problem.domains, problem.targets[group])]
        log_n, log_d = (
            jnp.log(jnp.asarray(x) / (own * unit))[:, None]
            for x, own, unit in zip((N, D), problem.law.units, units[:2], strict=True)
        )
        blank = jnp.zeros((len(h), 1))
        data = Observations(seen, log_n, log_d, blank, blank, jnp.ones(()))
        cells = replace(problem.objective, residual="log").cells(z, data)
        return cells[:, 0] + jnp.log(units.loss)

    def rows(self, h: Floats, N: Floats | None, D: Floats | None) -> Floats:
        """d log L / dz of every row with every parameter (targets, rows, q)."""
        n, d = (np.ones(len(h)) if x is None else x for x in (N, D))
        with jax.enable_x64(True):
            slope, mixtures = jax.jacfwd(self.losses), jnp.asarray(h)
            by_target = enumerate(jnp.asarray(self.z))
            return np.stack([np.asarray(slope(z, g, mixtures, n, d)) for g, z in by_target])


def tangent(fit: Fit, runs: Runs, targets: Sequence[str]) -> Tangent:
    """The fit of these targets about its parameters; runs: the rows that it was fitted to, columns
    in the order of the fit's domains."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MixjaxWarning)  # the fit has told of them
        problem = make_problem(runs, fit.scaling_law, targets, fit.huber)
    own = [from_paper(problem, g, fit.params[t]) for g, t in enumerate(problem.targets)]
    return Tangent(problem, np.stack(own))


class BestSlopes(NamedTuple):
    """How the best mixture moves with each target's parameters."""

    shares: Floats  # dh*/dz (targets, k, q)
    regret: Floats  # (targets, r, q); |regret dz|^2 / 2 is what the objective loses by dz


def trades(h: Floats, box: Box) -> Floats:
    """Orthonormal directions (k, r) in which a mixture h (k,) may move with every limit kept that
    it is at: the shares of domains at a floor or cap, the sums of groups at one, and the sum of all
    stay."""
    free = (h > np.asarray(box.floors) + _AT_LIMIT) & (h < np.asarray(box.caps) - _AT_LIMIT)
    sums = np.ones((1, len(h)))
    if box.groups is not None:
        member, floors, caps = (np.asarray(x) for x in box.groups)
        total = member @ h
        at_limit = (total < floors + _AT_LIMIT) | (total > caps - _AT_LIMIT)
        sums = np.concatenate([sums, member[at_limit]])
    if not free.any():
        return np.zeros((len(h), 0))
    _, sizes, directions = np.linalg.svd(sums[:, free])
    rank = int(np.sum(sizes > _RANK))
    basis = np.zeros((len(h), int(free.sum()) - rank))
    basis[free] = directions[rank:].T
    return basis


def best_slopes(about: Tangent, h: Floats, basis: Floats, question: Question) -> BestSlopes:
    """Slopes of the best mixture h (k,) of a question.

    Args:
        basis: (k, r), the directions in which it may move, see `trades`; one at least.
    """
    weights = [question.weighed[t] for t in about.problem.targets]
    n, d = (np.array([x]) for x in question.scale)
    moving = np.flatnonzero((basis != 0).any(axis=1))
    basis = basis[moving]

    def objective(z: jax.Array, group: int, part: jax.Array) -> jax.Array:
        mixture = jnp.asarray(h).at[moving].set(part)
        return weights[group] * jnp.exp(about.losses(z, group, mixture[None], n, d)[0])

    with jax.enable_x64(True):
        shares = jnp.asarray(h[moving])
        curves, mixed = [], []
        for g, z in enumerate(jnp.asarray(about.z)):
            slope = jax.grad(objective, argnums=2)
            curves.append(np.asarray(jax.jacfwd(slope, argnums=2)(z, g, shares)))
            mixed.append(np.asarray(jax.jacfwd(slope, argnums=0)(z, g, shares)))
    if question.prior is not None:  # of strength * sum h log(h / prior)
        curves.append(question.prior[1] * np.diag(1.0 / h[moving]))
    values, vectors = np.linalg.eigh(basis.T @ np.sum(curves, axis=0) @ basis)
    values = np.maximum(values, _FLATTEST * max(float(values[-1]), 1e-300))
    # (targets, r, q), in the eigenvectors of the projected Hessian.
    pulls = -vectors.T @ basis.T @ np.stack(mixed)
    slopes = np.zeros((len(about.z), len(h), about.z.shape[1]))
    slopes[:, moving] = (basis @ vectors) @ (pulls / values[:, None])
    return BestSlopes(slopes, pulls / np.sqrt(values[:, None]))


class Noise(NamedTuple):
    """Of one target's losses."""

    sd: float  # relative standard deviation of a row
    alike: float  # correlation of the rows of a run


def noise_of_runs(fit: Fit, runs: Runs) -> dict[str, Noise]:
    """{target: noise} of the fitted rows, enlarged for the parameters that were fitted to them."""
    run, out = clusters(runs, "run"), {}
    for target, off in noise_of(fit, runs).items():
        seen = np.isfinite(off)
        alike = correlation_within(off[seen], run[seen])
        sd = float(np.sqrt(np.mean(off[seen] ** 2)))
        out[target] = Noise(max(sd, _LEAST_NOISE), min(max(alike, 0.0), _MOST_ALIKE))
    return out


def information_of_runs(
    rows: Floats, seen: NDArray[np.bool_], of: NDArray[np.intp], noise: Noise
) -> Floats:
    """Information (q, q) of rows (m, q) of one target, of which `seen` (m,) have a loss; of (m,):
    the run of each.

    Rows of a run are equally correlated: R = (1 - a) I + a 1 1', R^-1 = (I - a / (1 + (m - 1) a) 1
    1') / (1 - a).
    """
    u, run = rows[seen], of[seen]
    sums = np.zeros((int(of.max()) + 1, rows.shape[1]))
    np.add.at(sums, run, u)
    share = noise.alike / (1.0 + (np.bincount(run, minlength=len(sums)) - 1.0) * noise.alike)
    return (u.T @ u - sums.T @ (share[:, None] * sums)) / (1.0 - noise.alike) / noise.sd**2


# --- The most informative runs --------------------------------------------------------------------

# An exchange must lower the aim by more than this share of what the run that it replaces is worth.
_BETTER = 1e-9
_PASSES = 20
_RANDOM = 2  # random choices that exchanges begin from


class Aim(Protocol):
    """What a design makes small."""

    def value(self, covariance: Floats) -> float:
        """At this covariance (targets, q, q)."""
        ...

    def falls(self, covariance: Floats, rows: Floats) -> Floats:
        """By how much the value falls (m,) with each of rows (targets, m, q)."""
        ...


@dataclass(frozen=True)
class LogDet:
    """Half the log-determinant of the covariance, nats: the information missing (D-optimality)."""

    def value(self, covariance: Floats) -> float:
        """Half the sum over targets of log det."""
        return 0.5 * float(np.linalg.slogdet(covariance)[1].sum())

    def falls(self, covariance: Floats, rows: Floats) -> Floats:
        """Half of log(1 + u' M^-1 u), summed over targets."""
        return 0.5 * np.log1p(_variance(covariance, rows)).sum(axis=0)


@dataclass(frozen=True, eq=False)
class Trace:
    """Sum over targets of tr(L M^-1 L'): the variance of L z (A-optimality for what L picks out);
    lead: L (targets, r, q)."""

    lead: Floats

    def value(self, covariance: Floats) -> float:
        """The variance."""
        return float(np.einsum("trq,tqp,trp->", self.lead, covariance, self.lead))

    def falls(self, covariance: Floats, rows: Floats) -> Floats:
        """|L M^-1 u|^2 / (1 + u' M^-1 u), summed over targets."""
        moved = np.einsum("trq,tmq->tmr", self.lead @ covariance, rows)
        return (np.sum(moved * moved, axis=2) / (1.0 + _variance(covariance, rows))).sum(axis=0)


def _variance(covariance: Floats, rows: Floats) -> Floats:
    """u' M^-1 u (targets, m) of rows u (targets, m, q)."""
    return np.maximum(np.sum((rows @ covariance) * rows, axis=2), 0.0)


def inverse(information: Floats) -> Floats:
    """Covariance (targets, q, q) of positive definite information, by its Cholesky factor."""
    half = np.linalg.inv(np.linalg.cholesky(information))
    return np.swapaxes(half, 1, 2) @ half


def added(covariance: Floats, row: Floats) -> Floats:
    """The covariance (targets, q, q) once the run of this row (targets, q) is trained."""
    pulled = np.einsum("tqp,tp->tq", covariance, row)
    scale = 1.0 + np.einsum("tq,tq->t", row, pulled)
    return covariance - pulled[:, :, None] * pulled[:, None, :] / scale[:, None, None]


def outer(rows: Floats) -> Floats:
    """Information (targets, q, q) of rows (targets, m, q)."""
    return np.swapaxes(rows, 1, 2) @ rows


def most_informative(
    aim: Aim, information: Floats, rows: Floats, n: int, cost: Floats | None = None
) -> list[int]:
    """n different rows that make the aim small, in the order in which they are worth most.

    Greedy, each row the one that is worth most (per cost) after those before it; then exchanges of
    one row for another of at most its cost while that helps, without costs from other choices too.
    Log-determinants fall by at least 1 - 1/e of what the best n would give (Nemhauser et al. 1978).

    Args:
        aim: what is made small.
        information: (targets, q, q), positive definite: of the runs already trained and the prior.
        rows: (targets, m, q) of the candidates, m >= n.
        cost: (m,), positive; None for equal ones.

    Source: Fedorov 1972, "Theory of optimal experiments" (exchange).
    """
    price = np.ones(rows.shape[1]) if cost is None else cost
    begins = [_greedy(aim, information, rows, n, price)]
    if cost is None and n < rows.shape[1]:
        rng = np.random.default_rng(0)
        begins.append(_greedy(LogDet(), information, rows, n, price))
        begins += [rng.permutation(rows.shape[1])[:n].tolist() for _ in range(_RANDOM)]
    for chosen in begins:
        for _ in range(_PASSES):
            if not _exchange(aim, information, rows, price, chosen):
                break
    chosen = min(begins, key=lambda end: aim.value(inverse(information + outer(rows[:, end]))))
    return [chosen[i] for i in _greedy(aim, information, rows[:, chosen], n, price[chosen])]


def _greedy(aim: Aim, information: Floats, rows: Floats, n: int, price: Floats) -> list[int]:
    chosen: list[int] = []
    covariance = inverse(information)
    free = np.ones(rows.shape[1], dtype=bool)
    for _ in range(n):
        best = int(np.argmax(np.where(free, aim.falls(covariance, rows) / price, -np.inf)))
        chosen.append(best)
        free[best] = False
        covariance = added(covariance, rows[:, best])
    return chosen


def _exchange(
    aim: Aim, information: Floats, rows: Floats, price: Floats, chosen: list[int]
) -> bool:
    """Replace chosen rows where another is worth more beside the rest; whether any was."""
    changed = False
    for place, old in enumerate(chosen):
        others = [j for j in chosen if j != old]
        worth = aim.falls(inverse(information + outer(rows[:, others])), rows)
        worth = np.where(price <= price[old], worth, -np.inf)
        worth[others] = -np.inf
        new = int(np.argmax(worth))
        if worth[new] > worth[old] * (1.0 + _BETTER):
            chosen[place] = new
            changed = True
    return changed


def values_after(aims: Sequence[Aim], information: Floats, rows: Floats) -> Floats:
    """Values (m + 1, aims) before any of rows (targets, m, q) is trained and after each of them."""
    covariance = inverse(information)
    out = [[aim.value(covariance) for aim in aims]]
    for j in range(rows.shape[1]):
        covariance = added(covariance, rows[:, j])
        out.append([aim.value(covariance) for aim in aims])
    return np.array(out)
