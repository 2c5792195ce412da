"""Runs + law -> folds -> SCORES on rows that no fit has seen: all folds of all targets are groups
of one batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from numpy.typing import NDArray

from mixjax.data.runs import Runs, read_runs
from mixjax.data.splits import By, Fold, make_folds
from mixjax.errors import UserError
from mixjax.fitting.loss import FitOptions, Settings, read_options
from mixjax.fitting.problem import Problem, grouped, make_problem
from mixjax.fitting.score import ChoiceScore, choice_score, score
from mixjax.fitting.search import draw_starts, search
from mixjax.law import Law, find_law
from mixjax.law.evaluate import predict
from mixjax.text import plain, table
from mixjax.trust.refit import first_finite

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]

# Fewer than a fit takes: there are as many fits as folds.
SETTINGS = Settings(starts=64, hops=1)
_SHOWN = {
    "mre": "mre %",
    "bias": "bias %",
    "slope": "slope",
    "rank": "rank",
    "rank_best": "rank best 1/4",
    "regret": "regret",
    "optimism": "optimism",
}


@dataclass(frozen=True, eq=False)
class Validation:
    """How a law predicts rows that its fits have not seen.

    Attributes:
        law, by: what was fitted, and what was held out.
        folds: the splits.
        scores: {target: scores of the held-out predictions of all folds}.
        train: {target: mean relative error on the fitted rows, percent, mean over folds}.
        predicted: {target: held-out predictions (rows,), NaN in rows that no fold holds out}.
    """

    law: str
    by: str
    folds: tuple[Fold, ...]
    scores: Mapping[str, ChoiceScore]
    train: Mapping[str, float]
    predicted: Mapping[str, Floats]

    def __str__(self) -> str:
        """One line a target, and the mean over targets."""
        rows = [
            [t, s.n, f"{self.train[t]:.3f}", *(_text(getattr(s, name)) for name in _SHOWN)]
            for t, s in self.scores.items()
        ]
        mean = [
            "mean",
            "",
            *(
                _text(v)
                for v in (
                    _mean(list(self.train.values())),
                    *(_mean([getattr(s, n) for s in self.scores.values()]) for n in _SHOWN),
                )
            ),
        ]
        held = (
            self.folds[0].name if len(self.folds) == 1 else f"{len(self.folds)} folds by {self.by}"
        )
        return f"law {self.law}, held out: {held}\n" + table(
            ["target", "n", "train mre %", *_SHOWN.values()], [*rows, mean]
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain content for JSON."""
        targets = {t: asdict(s) | {"train_mre": self.train[t]} for t, s in self.scores.items()}
        names = [*_SHOWN, "mae", "train_mre"]
        mean = {name: _mean([s[name] for s in targets.values()]) for name in names}
        folds = [{"name": f.name, "rows": int(f.held_out.sum())} for f in self.folds]
        return plain(
            {"law": self.law, "by": self.by, "folds": folds, "targets": targets, "mean": mean}
        )


def cross_validate(
    runs: Runs | pd.DataFrame | str,
    law: str | Law = "joint",
    by: By = "N",
    *,
    folds: int | None = None,
    targets: Sequence[str] | None = None,
    watch: Callable[[float, Mapping[str, float]], None] | None = None,
    **options: Unpack[FitOptions],
) -> Validation:
    """Fit a law without some rows and score what it predicts there.

    Args:
        runs: `Runs`, or what `read_runs` reads.
        law: name or `Law`.
        by, folds: see `make_folds`: "N" or "D" hold out the largest, "mixture" or "run" whole ones
            in folds.
        targets: names; all by default.
        watch: called with the share done and {target: best objective of its first fold so far}.
        options: of the fits, see `fit`: by default 64 starts and 1 hop; the seed is that of the
            folds too.

    Raises:
        UserError: a table that cannot be split so, or fitted; an option out of range.
        KeyboardInterrupt: half a validation is none.
    """
    whole = runs if isinstance(runs, Runs) else read_runs(runs)
    huber, settings = read_options(options, SETTINGS)
    splits = make_folds(whole, by, folds, settings.seed)
    weights = np.stack([f.weights for f in splits])
    problem = make_problem(whole, find_law(law), targets, huber)
    starts = draw_starts(problem, settings, copies=len(splits))

    def report(share: float, best: Floats) -> None:
        if watch:
            watch(share, dict(zip(problem.targets, best[:: len(splits)].tolist(), strict=True)))

    found = search(
        problem.objective,
        grouped(problem, weights),
        starts,
        settings.hops,
        report,
    )
    if not found.finished:
        raise KeyboardInterrupt
    predicted, train = {}, {}
    for g, target in enumerate(problem.targets):
        at = slice(g * len(splits), (g + 1) * len(splits))
        predicted[target], train[target] = held_out_losses(
            problem, g, whole, splits, found.best.z[at], found.best.f[at]
        )
    of = _scales(whole)
    scores = {
        t: choice_score(p, np.where(np.isnan(p), np.nan, whole.loss(t)), of)
        for t, p in predicted.items()
    }
    return Validation(
        problem.law.name,
        by,
        splits,
        {t: s for t, s in scores.items() if s is not None},
        train,
        predicted,
    )


def held_out_losses(
    problem: Problem, group: int, runs: Runs, folds: Sequence[Fold], z: Floats, f: Floats
) -> tuple[Floats, float]:
    """Held-out predictions (rows,) of one target, and the mean error of the fitted rows; z (folds,
    minima, q), f (folds, minima)."""
    target, predicted, train = problem.targets[group], np.full(len(runs), np.nan), []
    ones = np.ones(len(runs))
    n, d = (ones if x is None else x for x in (runs.N, runs.D))
    for fold, minima, values in zip(folds, z, f, strict=True):
        params, _ = first_finite(problem, group, minima[np.argsort(values, kind="stable")])
        if params is None or not np.isfinite(values).any():
            raise UserError(
                "validate",
                f"no fit of target {target!r} without {fold.name} has parameters that are numbers",
                "take a law with fewer parameters",
            )
        losses = predict(problem.law, runs.domains, {target: params}, n, d, runs.h)[target]
        predicted[fold.held_out] = losses[fold.held_out]
        fitted = score(losses[~fold.held_out], runs.loss(target)[~fold.held_out])
        train += [] if fitted is None else [fitted.mre]
    return predicted, float(np.mean(train)) if train else float("nan")


def _scales(runs: Runs) -> NDArray[np.intp]:
    """Number of the scale (N, D) of each row (rows,)."""
    columns = [np.zeros(len(runs)), *(x for x in (runs.N, runs.D) if x is not None)]
    return np.unique(np.column_stack(columns), axis=0, return_inverse=True)[1].reshape(-1)


def _mean(values: Sequence[float | None]) -> float | None:
    given = [v for v in values if v is not None and np.isfinite(v)]
    return float(np.mean(given)) if given else None


def _text(value: float | None) -> str | None:
    return None if value is None else f"{value:.3f}"
