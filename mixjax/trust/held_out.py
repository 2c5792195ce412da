"""Runs + law + splits -> FITS of all splits, one batch (every split of every target is a group of
it), and scores on the rows that no fit has seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from numpy.typing import NDArray

from mixjax.data.runs import Runs, as_runs
from mixjax.data.splits import By, Fold, make_folds
from mixjax.engine.batch import Found
from mixjax.errors import UserError
from mixjax.fitting.fit import Watch, law_for
from mixjax.fitting.loss import FitOptions, Settings, read_options
from mixjax.fitting.problem import Problem, grouped, losses_at, make_problem
from mixjax.fitting.score import ChoiceScore, choice_score, score
from mixjax.fitting.search import draw_starts, minimise, search
from mixjax.law import Law, find_law
from mixjax.text import Record, plain, table
from mixjax.trust.ensemble import first_finite

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
# Fewer than a fit takes: there are as many fits as folds.
SETTINGS = Settings(starts=64, hops=1)
_SHOWN = {"mre": "mre %", "bias": "bias %", "slope": "slope", "rank": "rank"}
_SHOWN |= {"rank_best": "rank best 1/4", "regret": "regret", "optimism": "optimism"}


def as_laws(laws: str | Law | Sequence[str | Law]) -> list[Law]:
    """Laws by name or as they are; a UserError for none, an unknown one, or one given twice."""
    records = [find_law(law) for law in ([laws] if isinstance(laws, str | Law) else laws)]
    if not records:
        raise UserError("laws", "none given", "name at least one, e.g. additive,joint")
    names = [law.name for law in records]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise UserError("laws", f"{twice!r} is given twice", "name every law once")
    return records


@dataclass(frozen=True, eq=False)
class SplitFits:
    """The law of a problem fitted to each of many splits of its table."""

    problem: Problem  # of the whole table
    z: Floats  # the minimum of every split, in the coordinates of the search (targets, splits, q)
    objective: Floats  # its own (targets, splits); infinite where there is no minimum to use

    def losses(self, target: str, runs: Runs) -> Floats:
        """Losses of a target predicted by every split's fit (splits, rows) of any rows of the
        problem's domains; infinite where the law has no value or the split no fit."""
        group = self.problem.targets.index(target)
        losses = losses_at(self.problem, group, self.z[group], runs)
        return np.where(np.isfinite(self.objective[group])[:, None], losses, np.inf)


def fit_splits(
    problem: Problem,
    row_weights: Floats,
    settings: Settings,
    *,
    polish: bool,
    watch: Watch | None = None,
) -> SplitFits:
    """Fit the law of a problem under each of many row weights, all of them one batch.

    Args:
        problem: of the whole table.
        row_weights: (splits, rows), 1 where a fit may look and 0 where it may not.
        settings: of every fit.
        polish: as `fit` does: starts are sifted, the best minima polished, and the lowest is taken
            whose parameters are numbers in the law's own form. Without, all starts are minimised
            alike and less far, enough to compare laws, and the lowest is taken.
        watch: called with the share done and {target: best objective of its first split so far}.

    Raises:
        KeyboardInterrupt: the fits of some splits are none.
    """
    splits = len(row_weights)
    starts = draw_starts(problem, settings, copies=splits)
    data, objective, hops = grouped(problem, row_weights), problem.objective, settings.hops

    def report(share: float, best: Floats) -> None:
        if watch:
            watch(share, dict(zip(problem.targets, best[::splits].tolist(), strict=True)))

    def report_found(found: Found) -> None:
        report(float(np.mean(found.finished)), found.f.min(axis=1))

    if polish:
        searched = search(objective, data, starts, hops, report)
        found, finished = searched.best, searched.finished
    else:
        found = minimise(objective, data, starts, "search", hops, report_found)
        finished = found.finished.all()
    if not finished:
        raise KeyboardInterrupt
    shape = (len(problem.targets), splits)
    f = found.f.astype(np.float64).reshape(*shape, -1)
    z = found.z.astype(np.float64).reshape(*f.shape, -1)
    best = f.argmin(axis=-1)
    if polish:
        for g, split in np.ndindex(shape):
            order = np.argsort(f[g, split], kind="stable")
            params, place = first_finite(problem, g, z[g, split, order])
            best[g, split] = order[place]
            f[g, split, order] = np.inf if params is None else f[g, split, order]
    chosen = best[..., None]
    objective = np.take_along_axis(f, chosen, axis=-1)[..., 0]
    return SplitFits(problem, np.take_along_axis(z, chosen[..., None], axis=2)[:, :, 0], objective)


@dataclass(frozen=True, eq=False)
class Validation(Record):
    """How a law predicts rows that its fits have not seen."""

    law: str
    by: str  # what was held out
    folds: tuple[Fold, ...]
    scores: Mapping[str, ChoiceScore]  # {target: of the held-out predictions of all folds}
    train: Mapping[str, float]  # {target: mre of the fitted rows, percent, mean over folds}
    predicted: Mapping[str, Floats]  # {target: (rows,), NaN in rows that no fold holds out}

    def __str__(self) -> str:
        """One line a target, and the mean over targets."""
        rows = [
            [t, s.n, *map(_text, (self.train[t], *(getattr(s, name) for name in _SHOWN)))]
            for t, s in self.scores.items()
        ]
        means = [_mean([getattr(s, name) for s in self.scores.values()]) for name in _SHOWN]
        train = _mean(list(self.train.values()))
        rows.append(["mean", "", *map(_text, (train, *means))])
        several = f"{len(self.folds)} folds by {self.by}"
        held_out = self.folds[0].name if len(self.folds) == 1 else several
        head = ["target", "n", "train mre %", *_SHOWN.values()]
        return f"law {self.law}, held out: {held_out}\n{table(head, rows)}"

    def to_dict(self) -> dict[str, Any]:
        """Plain content for JSON."""
        targets = {t: asdict(s) | {"train_mre": self.train[t]} for t, s in self.scores.items()}
        names = [*_SHOWN, "mae", "train_mre"]
        mean = {name: _mean([s[name] for s in targets.values()]) for name in names}
        folds = [{"name": f.name, "rows": int(f.held_out.sum())} for f in self.folds]
        what = {"law": self.law, "by": self.by, "folds": folds}
        return plain({**what, "targets": targets, "mean": mean})


def cross_validate(
    runs: Runs | pd.DataFrame | str,
    law: str | Law | None = None,
    by: By = "N",
    *,
    folds: int | None = None,
    targets: Sequence[str] | None = None,
    watch: Watch | None = None,
    **options: Unpack[FitOptions],
) -> Validation:
    """Fit a law without some rows and score what it predicts there.

    Args:
        runs: `Runs`, or what `read_runs` reads.
        law: name or `Law`; by default that of the table's shape, see `law_for`.
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
    whole = as_runs(runs)
    huber, settings = read_options(options, SETTINGS)
    splits = make_folds(whole, by, folds, settings.seed)
    problem = make_problem(whole, find_law(law or law_for(whole)), targets, huber)
    weights = np.stack([fold.weights for fold in splits])
    fits = fit_splits(problem, weights, settings, polish=True, watch=watch)
    predicted, train, scores, scale = {}, {}, {}, _scales(whole)
    for g, t in enumerate(problem.targets):
        for fold, value in zip(splits, fits.objective[g], strict=True):
            if not np.isfinite(value):
                what = f"no fit of target {t!r} without {fold.name} has parameters that are numbers"
                raise UserError("validate", what, "take a law with fewer parameters")
        losses, measured = fits.losses(t, whole), whole.loss(t)
        predicted[t], train[t] = _held_out(losses, measured, splits)
        scored = choice_score(predicted[t], measured, scale)
        if scored is not None:
            scores[t] = scored
    return Validation(problem.law.name, by, splits, scores, train, predicted)


def _held_out(losses: Floats, measured: Floats, folds: Sequence[Fold]) -> tuple[Floats, float]:
    """Held-out predictions (rows,) of losses (folds, rows) predicted by each fold's fit; mean
    relative error of the fitted rows, percent."""
    predicted, train = np.full(len(measured), np.nan), []
    for fold, own in zip(folds, losses, strict=True):
        predicted[fold.held_out] = own[fold.held_out]
        fitted = score(own[~fold.held_out], measured[~fold.held_out])
        train += [] if fitted is None else [fitted.mre]
    return predicted, float(np.mean(train)) if train else float("nan")


def _scales(runs: Runs) -> NDArray[np.intp]:
    """Number of the scale (N, D) of each row (rows,)."""
    columns = [np.zeros(len(runs)), *(x for x in (runs.N, runs.D) if x is not None)]
    return np.unique(np.column_stack(columns), axis=0, return_inverse=True)[1].reshape(-1)


def _mean(values: Sequence[float | None]) -> float | None:
    numbers = [v for v in values if v is not None and np.isfinite(v)]
    return float(np.mean(numbers)) if numbers else None


def _text(value: float | None) -> str | None:
    return None if value is None else f"{value:.3f}"
