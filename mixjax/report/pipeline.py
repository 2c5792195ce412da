"""The whole way of a table (runs -> fit -> scores, mixtures -> OUTCOME -> report) in one call."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from mixjax.errors import UserError
from mixjax.fitting.fit import Watch, fit
from mixjax.fitting.loss import FitOptions, Huber, read_options
from mixjax.fitting.problem import make_problem
from mixjax.fitting.summary import scores_to_dict

if TYPE_CHECKING:
    from mixjax.data.runs import Runs
    from mixjax.fitting.record import Fit
    from mixjax.fitting.score import Score
    from mixjax.law import Law
    from mixjax.mixture.optimum import Optimum
    from mixjax.trust.choose import LawComparison


@dataclass(frozen=True)
class Outcome:
    """What came of one table.

    Attributes:
        runs, eval_runs: the rows that were fitted, and rows that the fit has not seen.
        fit: the fitted law.
        train, eval: scores on these rows.
        mixtures: in the order asked for.
        comparison: of several laws, where asked for.
        stopped: whether it was interrupted after the fit.
    """

    runs: Runs
    eval_runs: Runs | None
    fit: Fit
    train: Mapping[str, Score]
    eval: Mapping[str, Score] | None = None
    mixtures: tuple[Optimum, ...] = ()
    comparison: LawComparison | None = None
    stopped: bool = False

    @property
    def interrupted(self) -> bool:
        """Whether something was stopped before its end; the fit is there all the same."""
        return self.stopped or self.fit.interrupted

    def to_dict(self) -> dict[str, Any]:
        """Scores, mixtures and comparison as plain content."""
        return {
            "law": self.fit.law,
            "scores": self.scores_to_dict(),
            "mixtures": [m.to_dict() for m in self.mixtures],
            **({} if self.comparison is None else {"compare": self.comparison.to_dict()}),
        }

    def scores_to_dict(self) -> dict[str, Any]:
        """{"train": scores, "eval": scores}, each as `mixjax score --json` prints them."""
        return {
            part: scores_to_dict(s)
            for part, s in (("train", self.train), ("eval", self.eval))
            if s is not None
        }


def run_pipeline(
    runs: Runs,
    law: str | Law,
    eval_runs: Runs | None = None,
    mixes: Sequence[Mapping[str, Any]] = (),
    laws: Sequence[str | Law] = (),
    *,
    targets: Sequence[str] | None = None,
    watch: Watch | None = None,
    **options: Unpack[FitOptions],
) -> Outcome:
    """Fit a law, score it, find mixtures, compare it with other laws.

    Args:
        runs, eval_runs: rows to fit, and rows to score beside them.
        mixes: keyword arguments of `optimal_mixture`, one mapping for each mixture sought.
        laws: laws to compare, if any.
        targets, watch, options: of `fit`.

    Returns:
        The `Outcome`; on KeyboardInterrupt one with the best fit so far, marked `interrupted`.

    Raises:
        UserError: what the steps refuse. What can be known before the fit is refused before it.
    """
    from mixjax.mixture.optimum import optimal_mixture
    from mixjax.trust.choose import compare

    huber, _ = read_options(options)
    _check(runs, eval_runs, law, mixes, targets, huber)
    fitted = fit(runs, law, targets=targets, watch=watch, **options)
    train = fitted.score(runs)
    if fitted.interrupted:
        return Outcome(runs, eval_runs, fitted, train)
    held_out = None if eval_runs is None else fitted.score(eval_runs)
    try:
        mixtures = tuple(optimal_mixture(fitted, **mix) for mix in mixes)
        comparison = (
            compare(runs, laws, eval_runs, targets=targets, watch=watch, **options)
            if laws
            else None
        )
    except KeyboardInterrupt:
        return Outcome(runs, eval_runs, fitted, train, held_out, stopped=True)
    return Outcome(runs, eval_runs, fitted, train, held_out, mixtures, comparison)


def _check(
    runs: Runs,
    eval_runs: Runs | None,
    law: str | Law,
    mixes: Sequence[Mapping[str, Any]],
    targets: Sequence[str] | None,
    huber: Huber,
) -> None:
    """What would only come to light after the fit."""
    from mixjax.law import find_law

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the fit itself warns
        make_problem(runs, find_law(law), targets, huber)
    targets = tuple(targets or runs.targets)
    if eval_runs is not None:
        eval_runs.reordered(runs.domains)
        if not set(targets) & set(eval_runs.targets):
            raise UserError(
                eval_runs.name,
                f"none of the targets {', '.join(targets)} has a loss column",
                "give rows with these targets",
            )
    for mix in mixes:
        _check_mix(mix, find_law(law), runs.domains, targets)


def _check_mix(
    mix: Mapping[str, Any], law: Law, domains: tuple[str, ...], targets: tuple[str, ...]
) -> None:
    """What `optimal_mixture` would refuse of this mapping, whatever the fit."""
    from mixjax.mixture.box import Box, check_box

    for what, noun, known in (
        ("weights", "target", targets),
        ("caps", "domain", domains),
        ("floors", "domain", domains),
    ):
        unknown = next((name for name in mix.get(what) or () if name not in known), None)
        if unknown is not None:
            raise UserError(
                f"mix {what}", f"no {noun} {unknown!r}", f"choose from {', '.join(known)}"
            )
    missing = next(
        (
            name
            for name, read in zip("ND", law.reads, strict=True)
            if read and mix.get(name) is None
        ),
        None,
    )
    if missing is not None:
        raise UserError(
            "mix", f"{missing} is missing", f"law {law.name!r} reads it: give a count, e.g. 7e9"
        )
    floors, caps = (
        np.array([(mix.get(what) or {}).get(d, default) for d in domains])
        for what, default in (("floors", 0.0), ("caps", 1.0))
    )
    check_box(Box(floors, caps), domains)


def recovery(truth: Fit, outcome: Outcome) -> dict[str, Any]:
    """What was found beside the truth, for simulated runs: scalar parameters, the first mixture,
    and its regret.

    The regret is what the mixture found costs by the TRUE law: its true sum of losses minus that of
    the true best mixture.
    """
    from mixjax.mixture.optimum import optimal_mixture

    found = outcome.mixtures[0].to_dict()
    best = optimal_mixture(truth, N=found["N"], D=found["D"]).to_dict()
    losses = truth.predict(found["N"], found["D"], found["weights"])
    cost = sum(float(loss) for loss in losses.values())
    scalars = [p.name for p in truth.scaling_law.parameters if not p.shape]
    return {
        "params": {
            t: {
                name: {
                    "true": float(truth.params[t][name]),
                    "found": float(outcome.fit.params[t][name]),
                }
                for name in scalars
            }
            for t in truth.targets
        },
        "weights": {
            d: {"true": best["weights"][d], "found": found["weights"][d]} for d in truth.domains
        },
        "objective": {"true": best["objective"], "found": cost},
        "regret": cost - best["objective"],
    }
