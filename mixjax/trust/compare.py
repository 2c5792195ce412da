"""Laws compared on one table (laws + runs -> fits -> COMPARISON): errors where they were fitted and
where they were not."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from numpy.typing import ArrayLike

from mixjax.data.runs import Runs, read_runs
from mixjax.errors import UserError
from mixjax.fitting.fit import Watch, fit
from mixjax.fitting.loss import FitOptions, Huber, read_options
from mixjax.fitting.problem import make_problem
from mixjax.fitting.record import Fit
from mixjax.law import Law, find_law
from mixjax.text import plain
from mixjax.text import table as lines

if TYPE_CHECKING:
    import pandas as pd

Errors = Mapping[str, Mapping[str, float]]  # {law: {target: MRE, percent}}


@dataclass(frozen=True)
class Comparison:
    """Several laws fitted to one table, in the order they were named. Nothing is chosen here: see
    `validate.choice`.

    Attributes:
        train: {law: {target: mean relative error on the fitted rows, percent}}.
        eval: the same on the eval rows, which no fit has seen; None without such rows.
        fits: {law: Fit}, with parameters, objective and how the searches ended.
        parameters: {law: number of parameters of one target}.
    """

    train: Errors
    eval: Errors | None
    fits: Mapping[str, Fit]
    parameters: Mapping[str, int]

    @property
    def laws(self) -> tuple[str, ...]:
        """Names of the laws."""
        return tuple(self.fits)

    @property
    def objective(self) -> dict[str, Mapping[str, float]]:
        """{law: {target: mean Huber loss of the fitted rows}}."""
        return {law: f.objective for law, f in self.fits.items()}

    def to_dict(self) -> dict[str, Any]:
        """{"laws": {law: {"train": {target: mre, "mean": x}, "eval": {...}}}}, percent; None where
        a law has no finite value."""
        parts = {"train": self.train} | ({} if self.eval is None else {"eval": self.eval})
        return {
            "laws": {
                law: {
                    part: plain({**errors[law], "mean": _mean(errors[law])})
                    for part, errors in parts.items()
                }
                for law in self.laws
            }
        }

    def __str__(self) -> str:
        """One line a law: parameters, mean errors, and the error of every target on the rows
        farthest from the fit."""
        parts = {"train": self.train} | ({} if self.eval is None else {"eval": self.eval})
        part, last = list(parts.items())[-1]
        targets = list(dict.fromkeys(t for errors in last.values() for t in errors))
        rows = [
            [
                law,
                self.parameters[law],
                *(_text(_mean(errors[law])) for errors in parts.values()),
                *(_text(last[law].get(t)) for t in targets),
            ]
            for law in self.laws
        ]
        return "mean relative error, percent\n" + lines(
            ["law", "parameters", *(f"{p} mean" for p in parts), *(f"{part} {t}" for t in targets)],
            rows,
        )


def compare(
    runs: Runs | pd.DataFrame | str,
    laws: Sequence[str | Law],
    eval_runs: Runs | pd.DataFrame | str | None = None,
    *,
    targets: Sequence[str] | None = None,
    weights: ArrayLike | None = None,
    watch: Watch | None = None,
    **options: Unpack[FitOptions],
) -> Comparison:
    """Fit several laws to the same runs and score each on these and on held-out rows.

    Every law is fitted to `runs` alone; the eval rows are read after the fits and decide nothing.

    Args:
        runs: what the laws are fitted to.
        laws: names or `Law`s.
        eval_runs: rows that no fit sees, e.g. of a larger model. Targets may be fewer.
        targets, weights, watch, options: of `fit`.

    Raises:
        UserError: no law, a law twice, or a law that cannot be fitted to this table (it is named).
        KeyboardInterrupt: during a fit; an interrupted fit is not compared.

    Notes: laws of a target's own domain are fitted to the targets that are domains, so their means
    are over fewer targets.
    """
    table = runs if isinstance(runs, Runs) else read_runs(runs)
    held_out = (
        eval_runs if eval_runs is None or isinstance(eval_runs, Runs) else read_runs(eval_runs)
    )
    records = _distinct(laws)
    _check_targets(table, held_out, targets)
    huber, _ = read_options(options)
    for law in records:
        _check_fits(table, law, targets, huber, weights)
    fits = {}
    for law in records:
        fits[law.name] = fit(table, law, targets=targets, weights=weights, watch=watch, **options)
        if fits[law.name].interrupted:
            raise KeyboardInterrupt
    train = {name: _errors(f, table) for name, f in fits.items()}
    held_out_errors = (
        None if held_out is None else {name: _errors(f, held_out) for name, f in fits.items()}
    )
    return Comparison(
        train, held_out_errors, fits, {law.name: _count(law, table) for law in records}
    )


def _distinct(laws: Sequence[str | Law]) -> list[Law]:
    """The laws as records, each once."""
    records = [find_law(law) for law in ([laws] if isinstance(laws, str | Law) else laws)]
    if not records:
        raise UserError("laws", "none given", "name at least one, e.g. additive,joint")
    names = [law.name for law in records]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise UserError("laws", f"{twice!r} is given twice", "name every law once")
    return records


def _check_targets(table: Runs, held_out: Runs | None, targets: Sequence[str] | None) -> None:
    """What would only come to light after minutes of fitting."""
    names = targets or table.targets
    if "mean" in names:
        raise UserError(
            table.name,
            "a target is called 'mean', which is the mean over targets here",
            "rename its column",
        )
    if held_out is None:
        return
    held_out.reordered(table.domains)
    if not any(t in held_out.targets for t in names):
        raise UserError(
            held_out.name,
            f"none of the targets {', '.join(names)} has a loss column",
            "give eval rows with these targets",
        )


def _check_fits(
    table: Runs, law: Law, targets: Sequence[str] | None, huber: Huber, weights: ArrayLike | None
) -> None:
    """Whether the law can be fitted to the table at all, before any law is."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the fit itself warns
            make_problem(table, law, targets, huber, weights)
    except UserError as error:
        raise UserError(f"law {law.name!r} on {error.where}", error.what, error.remedy) from None


def _errors(fitted: Fit, table: Runs) -> dict[str, float]:
    """{target: mean relative error, percent}."""
    return {target: s.mre for target, s in fitted.score(table).items()}


def _count(law: Law, table: Runs) -> int:
    return law.count(law.k(table.domains))


def _mean(errors: Mapping[str, float]) -> float:
    """Mean over targets; not a number where there is none."""
    return float(np.mean(list(errors.values()))) if errors else float("nan")


def _text(error: float | None) -> str | None:
    return None if error is None else f"{error:.3f}"
