"""The question that every decision aid answers about (fit, scale, weights, limits -> GOAL): asked
once, handed to all of them."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixjax.errors import MixjaxWarning, UserError, check_names
from mixjax.mixture.prior import shares_of

if TYPE_CHECKING:
    from mixjax.fitting.record import Fit
    from mixjax.law.evaluate import Slopes
    from mixjax.mixture.optima import Mixtures
    from mixjax.mixture.optimum import Mixture

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Goal:
    """What is minimised, where, and within which limits; the arguments of `optimal_mixture`.

    Attributes:
        fit: with domains.
        N, D: counts of parameters and tokens of the run to come; None where the law does not read
            them.
        weights: {target: w}; None for 1 each.
        caps, floors: {domain or group: share}; 1 and 0 where not named.
        groups: {name: domains}, disjoint; caps and floors of a group are of the sum of its shares.
    """

    fit: Fit
    N: float | None = None
    D: float | None = None
    weights: Mapping[str, float] | None = None
    caps: Mapping[str, float] | None = None
    floors: Mapping[str, float] | None = None
    groups: Mapping[str, Sequence[str]] | None = None

    def __post_init__(self) -> None:
        bounded = (*self.fit.domains, *(self.groups or {}))
        for where, given, known in (
            ("weights", self.weights, self.fit.targets),
            ("caps", self.caps, bounded),
            ("floors", self.floors, bounded),
        ):
            check_names(given or {}, known, where)

    @property
    def shares(self) -> dict[str, float]:
        """{target: weight in the objective} of the targets that count."""
        given = dict.fromkeys(self.fit.targets, 1.0) if self.weights is None else self.weights
        return {t: float(w) for t, w in given.items() if w > 0}

    def but(self, **changes: Any) -> Goal:
        """The same goal with some attributes changed."""
        return replace(self, **changes)

    def best(self, **changes: Any) -> Mixture:
        """The optimum, see `optimal_mixture`, without its warnings of extrapolation; of the goal
        with these changes."""
        from mixjax.mixture.optimum import find_optimum

        at = self.but(**changes) if changes else self
        return find_optimum(at.fit, at.N, at.D, at.weights, at.caps, at.floors, at.groups)

    def many(self, **changes: Any) -> Mixtures:
        """The optima of many goals in one batched call, see `optimal_mixtures`: attributes may be
        one number or one for each.

        The objective is infinite where the law is nowhere finite.
        """
        from mixjax.mixture.optima import solve_mixtures

        asked = {
            name: getattr(self, name) for name in ("N", "D", "weights", "caps", "floors", "groups")
        } | changes
        return solve_mixtures(self.fit, **asked)

    def bests(self, changes: Iterable[Mapping[str, Any]]) -> list[Mixture | None]:
        """The optimum of many goals: this one with each of these changes; None where the law is
        nowhere finite.

        What `optimal_mixture` would warn of is left to the gaps of the answers.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MixjaxWarning)
            return [self._best_if_finite(change) for change in changes]

    def _best_if_finite(self, change: Mapping[str, Any]) -> Mixture | None:
        try:
            return self.best(**change)
        except UserError as error:
            if "no finite loss" in error.what:
                return None
            raise

    def losses(
        self, h: ArrayLike, N: ArrayLike | None = None, D: ArrayLike | None = None
    ) -> dict[str, Floats]:
        """Predicted losses {target: (rows,) or ()} of mixtures h (rows, k) or (k,), at the goal's
        scale where none is given."""
        return self.fit.predict(
            self.N if N is None else N, self.D if D is None else D, np.asarray(h, dtype=np.float64)
        )

    def value(self, h: ArrayLike, N: ArrayLike | None = None, D: ArrayLike | None = None) -> Floats:
        """The objective sum_t w_t L_t (rows,) or (), whatever the limits."""
        losses = self.losses(h, N, D)
        return np.asarray(sum(w * losses[t] for t, w in self.shares.items()), dtype=np.float64)

    def slopes(self, h: ArrayLike) -> dict[str, Slopes]:
        """Slopes of every target's loss at one mixture h (k,)."""
        from mixjax.law.evaluate import slopes

        params = {t: self.fit.params[t] for t in self.fit.targets}
        N, D = (1.0 if x is None else float(x) for x in (self.N, self.D))
        return slopes(
            self.fit.scaling_law, self.fit.domains, params, N, D, np.asarray(h, dtype=np.float64)
        )

    def array(self, weights: Mapping[str, float]) -> Floats:
        """Shares (k,) in the order of the domains, scaled to sum to 1; 0 where not named.

        Raises:
            UserError: an unknown domain, a share that is negative or not a number, or shares that
                sum to 0.
        """
        return shares_of(weights, self.fit.domains)

    def named(self, h: ArrayLike) -> dict[str, float]:
        """Shares (k,) by name."""
        return dict(zip(self.fit.domains, np.asarray(h).tolist(), strict=True))
