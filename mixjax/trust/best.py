"""Ensemble -> BEST MIXTURES: how far the best mixture, and what it costs, are decided by the
data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mixjax.errors import UserError
from mixjax.mixture.many import parameter_sets
from mixjax.mixture.optimum import Optimum, Vary, best_of, boxes_at, optima
from mixjax.mixture.question import Question
from mixjax.text import table
from mixjax.trust.intervals import LEVEL, Uncertainty, beyond, check_level

_FEWEST = 20
# Members' best mixtures may have this part of the smallest trained share and no less, unless the
# fit's own has. Held at the smallest trained share itself, the bound on the regret was kept in 0.79
# of 220 simulated tables, most of whose true optima lie below it; so in 0.89.
_BELOW = 0.01
_SLACK = 1 - 1e-9  # so that floors that add up to 1 are still met


@dataclass(frozen=True)
class MixtureInterval:
    """The best mixture of a fit, and how it moves with the runs that happened to be drawn.

    Attributes:
        best: of the fit itself.
        shares: {domain: (low, high)}, from the level's quantiles of the members' best mixtures.
        objective: (low, high) of the objective at the true best mixture.
        regret: by so much, at most, `best.weights` has a higher objective than the true best
            mixture, with confidence `level`.
        level: of these intervals.
        members: how many parameter sets they are made of.
    """

    best: Optimum
    shares: dict[str, tuple[float, float]]
    objective: tuple[float, float]
    regret: float
    level: float
    members: int

    def __str__(self) -> str:
        """Shares with their intervals, in percent."""
        rows = [
            [
                d,
                f"{100 * w:.2f}",
                f"{100 * self.shares[d][0]:.2f}",
                f"{100 * self.shares[d][1]:.2f}",
            ]
            for d, w in self.best.weights.items()
        ]
        head = f"{self.level:.0%} intervals of {self.members} parameter sets"
        end = (
            f"objective {self.best.objective:.5f} in {self.objective[0]:.5f} .. "
            f"{self.objective[1]:.5f}; regret at most {self.regret:.5f}"
        )
        return f"{head}\n{table(['domain', 'share %', 'low', 'high'], rows)}\n{end}"

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        shares = {
            d: {"best": w, "low": self.shares[d][0], "high": self.shares[d][1]}
            for d, w in self.best.weights.items()
        }
        objective = {
            "best": self.best.objective,
            "low": self.objective[0],
            "high": self.objective[1],
        }
        return {
            "weights": shares,
            "objective": objective,
            "regret": self.regret,
            "level": self.level,
            "members": self.members,
        }


def best_mixture(trust: Uncertainty, question: Question, level: float = LEVEL) -> MixtureInterval:
    """The best mixture that answers a question, with intervals.

    Each member has a best mixture of its own, among those in which no domain has less than both the
    fit's best mixture and a hundredth of what the runs ever gave it: without runs there, an
    exponent just below 0 lets a member promise anything at a share of 1e-100. Shares may range
    widely where the objective is flat: the regret says what that costs. Drift beyond the table
    moves the objective of all mixtures together, and not the shares.

    Args:
        question: about the fit that the ensemble was made from.

    Raises:
        UserError: what `optimal_mixture` refuses; or fewer than 20 members have a best mixture.
    """
    check_level(level)
    best = best_of(question)
    h, weights = np.array(list(best.weights.values())), question.target_weights
    least = np.minimum(_BELOW * trust.lowest, h)
    predicted = trust.ensemble.predict(question.N, question.D, h[None])
    losses = np.stack([members[:, 0] for members in predicted.values()], axis=1)
    usable = np.flatnonzero(np.isfinite(losses[:, weights > 0]).all(axis=1))
    if len(usable) < min(_FEWEST, len(trust.ensemble)):
        raise UserError(
            "mixture",
            f"{len(usable)} of {len(trust.ensemble)} parameter sets have a best mixture",
            "give floors to the domains, or more runs",
        )
    boxes = boxes_at(question, None, len(usable))
    boxes = boxes._replace(floors=np.maximum(boxes.floors, least * _SLACK))
    _, sets = parameter_sets(trust.ensemble)
    found = optima(question, Vary(boxes=boxes, params=sets, member=usable))
    there = losses[usable][:, weights > 0] @ weights[weights > 0]
    # A regret is of second order in what moves the optimum, so is its correction for the number of
    # clusters.
    regrets = np.maximum(there - found.objective, 0.0) * trust.clusters / (trust.clusters - 1)
    # The p (n + 1)-th of n members: the true regret is one more draw from among them, so that few
    # members do not promise too little.
    low, high = np.quantile(found.h, [(1 - level) / 2, (1 + level) / 2], axis=0, method="weibull")
    half = float(np.quantile(np.abs(_off(trust, best, found.objective)), level))
    return MixtureInterval(
        best=best,
        shares={
            d: (float(a), float(b)) for d, a, b in zip(trust.fit.domains, low, high, strict=True)
        },
        objective=(best.objective - half, best.objective + half),
        regret=float(np.quantile(regrets, level, method="weibull")),
        level=level,
        members=len(usable),
    )


def _off(trust: Uncertainty, best: Optimum, minima: np.ndarray) -> np.ndarray:
    """Draws of the lowest objective less the fit's, as in `Uncertainty.intervals`; one drift for
    all targets."""
    off = np.tile(trust.spread(minima - best.objective), 10)
    drift = sum(
        w * trust.drift[t] * best.losses[t] for t, w in best.target_weights.items() if w > 0
    )
    xi = np.random.default_rng(trust.seed).standard_normal(len(off))
    return off + float(beyond(trust.fit, best.N, best.D)) * drift * xi
