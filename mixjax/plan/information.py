"""Slopes of candidate runs -> CHOICE of the most informative (numbers only): rank-one updates,
greedy selection, exchange.

Parameters of several targets (targets, q) with information M (targets, q, q), covariance M^-1. A
run adds one measured loss of every target, M_t + u_t u_t' with u (targets, q) the slope of the loss
in the parameters over its noise, so that

    log det (M + u u') - log det M = log(1 + u' M^-1 u),     (M + u u')^-1 = M^-1 - M^-1 u u' M^-1 /
    (1 + u' M^-1 u)

and what any candidate is worth costs one product with M^-1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

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
    """Half the log-determinant of the covariance, in nats: what falls is the information gained
    (D-optimality)."""

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
    one row for another of at most its cost while that helps. Without costs exchanges begin from
    other choices too and the best end is kept. Log-determinants fall by at least 1 - 1/e of what
    the best n would give (Nemhauser et al. 1978).

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
        begins += [
            _greedy(LogDet(), information, rows, n, price),
            *(rng.permutation(rows.shape[1])[:n].tolist() for _ in range(_RANDOM)),
        ]
    ends = [_exchanged(aim, information, rows, price, chosen) for chosen in begins]
    chosen = min(ends, key=lambda end: aim.value(inverse(information + outer(rows[:, end]))))
    return [chosen[i] for i in _greedy(aim, information, rows[:, chosen], n, price[chosen])]


def _exchanged(
    aim: Aim, information: Floats, rows: Floats, price: Floats, chosen: list[int]
) -> list[int]:
    """What exchanges make of a choice."""
    for _ in range(_PASSES):
        if not _exchange(aim, information, rows, price, chosen):
            break
    return chosen


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
    """One pass over the chosen rows, each replaced where another is worth more beside the rest;
    whether any was."""
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
