"""Fit + runs -> SLOPES in the parameters: of losses, for the information that a run carries, and of
the best mixture.

The best mixture h* solves grad_h f(h, z) = 0 on the simplex within limits. With Q an orthonormal
basis of the directions that leave every limit as it is that h* is at (`trades`), the implicit
function theorem gives

    dh*/dz = -Q (Q' H Q)^-1 Q' d2f/dh dz,      H = d2f/dh2,

and an error dz costs 1/2 dh*' H dh* of the objective to second order.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

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
from mixjax.law.evaluate import domain_index
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
    exponents as they are.

    Attributes:
        problem: of the runs and the targets that count.
        z: the fitted point (targets, q).
    """

    problem: Problem
    z: Floats

    def losses(
        self, z: jax.Array, group: int, h: jax.Array, N: ArrayLike, D: ArrayLike
    ) -> jax.Array:
        """Log of the predicted losses (rows,) of one target at z (q,), h (rows, k), N and D counts
        (rows,)."""
        law, units = self.problem.law, self.problem.units[group]
        seen = h[:, domain_index(law, self.problem.domains, self.problem.targets[group])]
        log_n, log_d = (
            jnp.log(jnp.asarray(x) / (own * unit))[:, None]
            for x, own, unit in zip((N, D), law.units, units[:2], strict=True)
        )
        blank = jnp.zeros((len(h), 1))
        cells = replace(self.problem.objective, residual="log").cells(
            z, Observations(seen, log_n, log_d, blank, blank, jnp.ones(()))
        )
        return cells[:, 0] + jnp.log(units.loss)

    def rows(self, h: Floats, N: Floats | None, D: Floats | None) -> Floats:
        """Relative change of the loss of every row with every parameter, d log L / dz (targets,
        rows, q)."""
        n, d = (np.ones(len(h)) if x is None else x for x in (N, D))
        with jax.enable_x64(True):
            return np.stack(
                [
                    np.asarray(
                        jax.jacfwd(lambda z, g=g: self.losses(z, g, jnp.asarray(h), n, d))(
                            jnp.asarray(z)
                        )
                    )
                    for g, z in enumerate(self.z)
                ]
            )


def tangent(fit: Fit, runs: Runs, targets: Sequence[str]) -> Tangent:
    """The fit of these targets about its parameters; runs: the rows that it was fitted to, columns
    in the order of the fit's domains."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MixjaxWarning)  # the fit has told of them
        problem = make_problem(runs, fit.scaling_law, targets, fit.huber)
    return Tangent(
        problem,
        np.stack([from_paper(problem, g, fit.params[t]) for g, t in enumerate(problem.targets)]),
    )


class BestSlopes(NamedTuple):
    """How the best mixture moves with each target's parameters: shares (targets, k, q) = dh*/dz;
    regret (targets, r, q).

    |regret dz|^2 / 2 is what the objective loses where h* is off by dz.
    """

    shares: Floats
    regret: Floats


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
    """Of one target's losses: relative standard deviation of a row, correlation of the rows of a
    run."""

    sd: float
    alike: float


def noise_of_runs(fit: Fit, runs: Runs) -> dict[str, Noise]:
    """{target: noise} of the residuals of the fitted rows, enlarged for the parameters that were
    fitted to them."""
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
