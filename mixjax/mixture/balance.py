"""Several targets weighed without weights (question, limits or references -> BALANCED, LIMITED):
the worst one made best, or some kept within limits.

Both by a method of multipliers (`multipliers`). Those that it ends with are weights of the targets,
and for convex laws they prove the answer: the weighted sum that they make has a least value, which
no mixture can be below.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mixjax.errors import UserError, check_names
from mixjax.mixture.many import one_target, optima
from mixjax.mixture.multipliers import keep_within, least_worst
from mixjax.mixture.optimum import ROUGH, Optimum, answer_at, best_of, warn_minimum
from mixjax.mixture.question import Question
from mixjax.mixture.solve import Minima
from mixjax.text import Record, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Limits are met to this, relatively.
MET = 1e-7


@dataclass(frozen=True)
class Balanced(Record):
    """The mixture whose worst target is least badly off.

    Attributes:
        mixture: with its losses; its gap is that of `largest`.
        references: {target: the loss that its excess is relative to}, of the targets that count.
        excess: {target: w_t (loss / reference - 1)}; largest: the largest of them, at most
            `mixture.gap` above the least one, where `mixture.convex`.
        pressing: {target: part of the pressure on `largest` that it exerts}, sums to 1; 0 for
            targets that are better off than need be. Weights of the losses in proportion to these
            over the references lead to the same mixture.
    """

    mixture: Optimum
    references: dict[str, float]
    excess: dict[str, float]
    largest: float
    pressing: dict[str, float]

    def __str__(self) -> str:
        """Shares, and how far each target is above its reference."""
        best = self.mixture
        rows = []
        for t, reference in self.references.items():
            excess, pressing = f"{100 * self.excess[t]:+.4f}", f"{100 * self.pressing[t]:.1f}"
            rows.append([t, f"{best.losses[t]:.5f}", f"{reference:.5f}", excess, pressing])
        end = (
            f"largest excess {100 * self.largest:+.6f} percent, gap {100 * best.gap:.1e} percent: "
            f"{best.trust}"
        )
        head = ["target", "loss", "reference", "excess %", "presses %"]
        return "\n\n".join([best.share_table(), table(head, rows), end])

    def to_dict(self) -> dict[str, Any]:
        """The mixture's content for JSON, whose objective is the largest excess, and the rest."""
        rest = super().to_dict()
        return rest.pop("mixture") | {"objective": rest.pop("largest")} | rest

    def figure(self) -> Figure:
        """Its shares."""
        return self.mixture.figure()


def worst_target(question: Question, references: Mapping[str, float] | None = None) -> Balanced:
    """The mixture of least max_t w_t (L_t(h) / reference_t - 1).

    Args:
        question: weights are how much the excess of each target counts.
        references: {target: loss}; of a target that is not named, the least loss that any mixture
            within the limits gives it. The losses of a mixture in use ask for the mixture that
            improves every target on it by as much as can be.

    Raises:
        UserError: an unknown target, a reference that is not above 0, or what `optimal_mixture`
            refuses.

    Warns:
        MixjaxWarning: the answer is not a proved minimum, see `optimal_mixture`.
    """
    level = _references(question, list(question.weighed), references)
    best = least_worst(question, level)
    warn_minimum(question, best.end, ROUGH)
    mixture = answer_at(question, best.end, question.is_convex())
    return Balanced(mixture, level, best.excess, best.largest, best.multipliers)


@dataclass(frozen=True)
class Limited(Record):
    """The best mixture that keeps some losses within limits.

    Attributes:
        mixture: its objective is at most its gap above the least one, where it is convex.
        limits: {target: largest loss}, met to 1e-7, relatively; far better where the limits leave
            room.
        prices: {target: how much the objective falls for each percent that its limit is raised}; 0
            for limits that do not bind.
        free: the optimum without limits on losses.
    """

    mixture: Optimum
    limits: dict[str, float]
    prices: dict[str, float]
    free: Optimum

    def __str__(self) -> str:
        """Shares, and losses beside their limits and the optimum without them."""
        best, free = self.mixture, self.free
        limits = {t: [f"{limit:.5f}", f"{self.prices[t]:.6f}"] for t, limit in self.limits.items()}
        rows = [
            [t, f"{x:.5f}", *limits.get(t, ["", ""]), f"{free.losses[t]:.5f}"]
            for t, x in best.losses.items()
        ]
        rows.append(["objective", f"{best.objective:.5f}", "", "", f"{free.objective:.5f}"])
        head = ["target", "loss", "limit", "price of 1 %", "without limits"]
        end = f"objective {best.objective:.6f}, gap {best.gap:.1e}: {best.trust}"
        return "\n\n".join([best.share_table(self._beside), table(head, rows), end])

    @property
    def _beside(self) -> dict[str, Optimum]:
        return {"without limits": self.free}

    def to_dict(self) -> dict[str, Any]:
        """The mixture's content for JSON, its limits, their prices and the optimum without them."""
        rest = super().to_dict()
        return rest.pop("mixture") | rest

    def figure(self) -> Figure:
        """Its shares beside those of the optimum without limits on losses."""
        return self.mixture.figure(self._beside)


def limited_mixture(
    question: Question,
    above: Mapping[str, float] | None = None,
    at_most: Mapping[str, float] | None = None,
    references: Mapping[str, float] | None = None,
) -> Limited:
    """The mixture of least weighted sum of losses with L_t(h) <= limit_t.

    Where the laws are not convex the answer is the best of what the method of multipliers ends at
    and of other mixtures known to be within the limits.

    Args:
        question: what is minimised; its limits on shares hold too.
        above: {target: how far its loss may be above its reference, relatively}: {"code": 0.01}
            allows 1 percent.
        at_most: {target: largest loss}.
        references: {target: loss}; of a target that is not named, the least loss that any mixture
            within the limits gives it.

    Raises:
        UserError: no limits, an unknown target or one with two limits, limits that no mixture meets
            (the message says by how much they are missed), or what `optimal_mixture` refuses.

    Warns:
        MixjaxWarning: the answer is not a proved minimum, see `optimal_mixture`.
    """
    above, at_most = dict(above or {}), dict(at_most or {})
    _check_limits(question, above, at_most)
    level = _references(question, list(above), references)
    if references is None:
        for t, x in above.items():
            if x < 0:
                what = (
                    f"{100 * x:g} percent above its own best is out of reach: it cannot be below 0"
                )
                raise UserError(f"limit of {t!r}", what, "give 0 or more, or a loss")
    relative = {t: level[t] * (1.0 + x) for t, x in above.items()}
    named = relative | {t: float(x) for t, x in at_most.items()}
    limits = {t: named[t] for t in question.fit.targets if t in named}
    within = _reachable(question, limits)
    free = best_of(question)
    if all(free.losses[t] <= limits[t] for t in limits):
        return Limited(free, limits, dict.fromkeys(limits, 0.0), free)
    start, convex = question.array(free.weights), question.is_convex([*question.weighed, *limits])
    kept = keep_within(question, limits, also=(within.h, start))
    end, prices = kept.end, {t: 0.01 * m for t, m in kept.multipliers.items()}
    if kept.violation > MET or (not convex and question.value(within.h) < question.value(end.h)):
        if convex:
            what = (
                f"{', '.join(limits)} cannot be met together: the nearest mixture passes them by "
                f"{100 * kept.violation:.2g} percent"
            )
            raise UserError("limits", what, "loosen them a little")
        end, prices = within, dict.fromkeys(limits, 0.0)
    warn_minimum(question, end, ROUGH)
    return Limited(answer_at(question, end, convex), limits, prices, free)


def _references(
    question: Question, targets: list[str], given: Mapping[str, float] | None
) -> dict[str, float]:
    """{target: reference}: the one given, else the loss of the target's own optimum."""
    given = given or {}
    check_names(given, question.fit.targets, "reference", "target")
    own = own_best(question, [t for t in targets if t not in given])
    references = {t: float(given[t]) if t in given else own[t] for t in targets}
    for t, loss in references.items():
        if not (math.isfinite(loss) and loss > 0):
            remedy = "an excess is relative: give a positive loss, or leave the target out"
            raise UserError(f"reference of {t!r}", f"{loss:g} is not a loss above 0", remedy)
    return references


def own_best(question: Question, targets: Sequence[str]) -> dict[str, float]:
    """{target: the least loss that any mixture within the limits gives it}."""
    if not targets:
        return {}
    least = optima(question.but(pull=None), one_target(question, targets)).objective
    return dict(zip(targets, least.tolist(), strict=True))


def _check_limits(
    question: Question, above: Mapping[str, float], at_most: Mapping[str, float]
) -> None:
    if not above and not at_most:
        raise UserError("limits", "there are none", "name a target and how far its loss may go")
    check_names((*above, *at_most), question.fit.targets, "limits", "target")
    twice = next((t for t in above if t in at_most), None)
    if twice is not None:
        raise UserError("limits", f"{twice!r} has two", "give a relative limit or a loss")
    for t, x in above.items():
        if not (math.isfinite(x) and x > -1):
            what = f"{100 * x:g} percent above its reference is no loss"
            raise UserError(f"limit of {t!r}", what, "give a number above -100 percent")
    for t, x in at_most.items():
        if not (math.isfinite(x) and x > 0):
            remedy = "give a loss, or how far it may be above its best, e.g. 1%"
            raise UserError(f"limit of {t!r}", f"{x:g} is not a loss above 0", remedy)


def _reachable(question: Question, limits: Mapping[str, float]) -> Minima:
    """A mixture within the limits, once there is known to be one."""
    for t, least in own_best(question, list(limits)).items():
        if least > limits[t] * (1.0 + MET):
            what = (
                f"{limits[t]:.5g} is out of reach: {least:.5g} is the least loss that any mixture "
                f"gives it"
            )
            raise UserError(f"limit of {t!r}", what, "raise the limit")
    alone = question.but(weights=dict.fromkeys(limits, 1.0), pull=None)
    nearest = least_worst(alone, limits, enough=0.0)
    if nearest.largest > MET:
        clash = [t for t, q in nearest.multipliers.items() if q > 1e-3]
        clash = clash if len(clash) > 1 else list(limits)  # one alone can be met
        what = (
            f"{', '.join(clash)} cannot be met together: the mixture nearest to that passes each "
            f"by {100 * nearest.largest:.3g} percent"
        )
        raise UserError("limits", what, "loosen them by as much, or some by more")
    return nearest.end
