"""Commands that say how far to trust a law or a fit: validate, extrapolate, intervals, identify,
enough."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import click

import mixjax as mj
from mixjax.cli import files, options, words
from mixjax.cli.options import LAW, NAMES, SEED, Asked, FitFile, Search, Table, Watch
from mixjax.cli.run import Shown, argument, command, option, show
from mixjax.cli.words import As
from mixjax.errors import UserError


@command("Score a law on rows that its fits have not seen.")
def validate(
    table: Table,
    search: Search,
    watch: Watch,
    law: str | None = LAW,
    by: Any = options.choice(
        "Hold out the largest N or D, whole mixtures or runs in folds, or the fifth of mixtures "
        "farthest from the mean.",
        ("N", "D", "mixture", "run", "extreme"),
        default="N",
    ),
    folds: int | None = option(
        "How many folds of mixtures or runs; 0 leaves out one at a time.  [default: 5]",
        type=click.IntRange(min=0),
        metavar="K",
    ),
) -> Shown:
    """Fit a law to a part of RUNS and score its predictions of the rest.

    Per target: mre and bias (percent), slope of measured on predicted losses over mixtures, rank
    correlation over mixtures and among the best quarter, regret (measured loss of the mixture
    predicted best minus the best measured), optimism in the quarter predicted best.

    \b
      mixjax validate runs.csv --law joint --by N --where "split == 'train'"
      mixjax validate runs.csv --law additive --by mixture --folds 10
    """
    record = files.read_law(law) if law else None
    runs = table.read(search.targets)
    with watch.over() as progress:
        how = {"folds": folds, "watch": progress, **search.given()}
        return show(mj.trust.cross_validate(runs, record, by, **how))


@command("Fit the mean of the laws that predict held-out scales best.")
def extrapolate(
    table: Table,
    search: Search,
    watch: Watch,
    laws: tuple[str, ...] | None = option(
        "Laws to choose from.  [default: by the table's columns and scales, e.g. "
        "additive,joint,powers]",
        type=NAMES,
        metavar="a,b",
    ),
    lags: tuple[float, ...] | None = option(
        "Tokens of warm-up to choose from.  [default: 0, 1/4, 1/2, 3/4 of the smallest D]",
        type=As(words.listed(words.amount, "numbers"), "0,1B,2B", "X,Y"),
    ),
    output: str | None = options.output(
        "FIT.json", "Where to write the chosen fit, for predict and mix."
    ),
) -> Shown:
    """Fit the mean of the laws and lags that predict the largest N, D and compute of RUNS best when
    these are left out.

    Errors are means of |predicted - measured| / measured over the rows left out and over targets,
    percent. The law is named with its lag, as joint@2e9: 2e9 tokens of every run do not count,
    because the learning rate was still warming up. Laws that fail on extreme mixtures are out. That
    is up to twelve laws, each fitted to up to seven parts of RUNS: minutes for a thousand rows and
    eight targets on two cores (--progress shows how far it is).

    \b
      mixjax extrapolate runs.csv -o fit.json --where "split == 'train'"
      mixjax predict fit.json points.csv -o predicted.csv
    """
    among = {} if laws is None else {"laws": [files.read_law(law) for law in laws]}
    runs = table.read(search.targets)
    with watch.over() as progress:
        chosen = mj.extrapolate(runs, lags=lags, watch=progress, **among, **search.given())
    if output is not None:
        chosen.fit.save(output)
    return show(chosen, output)


@dataclass(frozen=True)
class Resampling:
    """How intervals are found."""

    level: float = option(
        "Share of intervals that should hold.",
        type=click.FloatRange(0, 1, min_open=True, max_open=True),
        default=0.9,
    )
    resamples: int = option("Of the bootstrap.", type=click.IntRange(min=20), default=200)
    by: str = options.choice("What is resampled whole.", ("run", "mixture"), default="run")
    seed: int = option("Same seed, same answer.", **SEED, default=0)

    def refit(
        self, fit: mj.Fit, runs: mj.Runs, N: Any, D: Any, watch: Watch
    ) -> mj.trust.Uncertainty:
        """What is not known of a fit, at these scales."""
        how = {"resamples": self.resamples, "by": self.by, "seed": self.seed}
        with watch.over() as progress:
            return mj.trust.uncertainty(fit, runs, N, D, watch=progress, **how)


@command("Intervals of predictions, or of the best mixture.")
def intervals(
    asked: Asked,
    table: Table,
    resampling: Resampling,
    watch: Watch,
    points: str | None = argument("[POINTS.csv]", required=False),
    output: str | None = options.output(
        "OUT.csv", "Where to write the table of POINTS; stdout without it."
    ),
) -> Shown:
    """Intervals around what FIT.json, a fit of RUNS (with the same --where), predicts.

    With POINTS.csv (N, D, h_<domain>): the table with columns loss_<target>, low_<target>,
    high_<target>, for a loss that will be measured there. Without: the best mixture at -N and -D,
    how far its shares, its objective and its regret are decided by the runs. That is --resamples
    refits, and again without the largest sizes: minutes for a thousand rows and eight targets on
    two cores (--progress shows how far it is).

    \b
      mixjax intervals fit.json runs.csv points.csv --where "split == 'train'"
      mixjax intervals fit.json runs.csv -N 7B -D 150B --tokens wiki=4B --where "split == 'train'"
    """
    fitted = asked.file.read()
    runs = table.read_fitted(fitted)
    if points is None:
        question = asked.question(fitted)
        mj.optimal_mixture(question)  # complains before the refits
        trust = resampling.refit(fitted, runs, question.N, question.D, watch)
        return show(mj.trust.best_mixture(trust, question, level=resampling.level))
    _check_alone(asked.scale, asked.limits)
    content, at = files.read_points(points, table.columns, fitted)
    fitted.predict(at.N, at.D, at.h)  # complains before the refits
    mj.fitting.doubts.tell(mj.fitting.doubts.of_scales(fitted, at.N, at.D))
    trust = resampling.refit(fitted, runs, at.N, at.D, watch)
    targets = {}
    for t, interval in trust.intervals(at.N, at.D, at.h, level=resampling.level).items():
        targets[t] = {"loss": interval.predicted, "low": interval.low, "high": interval.high}
        for name, values in targets[t].items():
            content[f"{name}_{t}"] = values
    text = files.write_table(content, output)
    return Shown({"level": resampling.level, "targets": targets}, text, saved=output)


def _check_alone(*records: Any) -> None:
    """Refuse options of the best mixture where points are named."""
    for record in records:
        for name in (f.name for f in fields(record)):
            if getattr(record, name) not in (None, False):
                where = f"{'-' if len(name) == 1 else '--'}{name}"
                what = "goes with the best mixture, not with POINTS"
                raise UserError(where, what, "leave one of them out")


@command("What the runs pin down of a fit.")
def identify(
    file: FitFile,
    table: Table,
    points: str | None = options.file("POINTS.csv", "Mixtures to compare with the trained ones."),
) -> Shown:
    """How well RUNS, the rows that FIT.json was fitted to, determine its parameters.

    Per target: directions that the objective pins down, the flattest one in the law's own
    parameters and how far it may be followed until the objective rises by 1 percent, parameters at
    a limit; also copies of rows, and points outside the trained mixtures.

    \b
      mixjax identify fit.json runs.csv --where "split == 'train'" --points points.csv
    """
    fitted = file.read()
    runs = table.read_fitted(fitted)
    at = None if points is None else files.read_points(points, table.columns)[1]
    return show(mj.trust.identify(fitted, runs, at))


@command("How many mixtures are enough.", draws=True)
def enough(
    table: Table,
    search: Search,
    watch: Watch,
    laws: tuple[str, ...] = option(
        "Laws to fit.", type=NAMES, default="additive,joint", metavar="a,b"
    ),
    counts: tuple[int, ...] | None = option(
        "Numbers of mixtures to fit.  [default: 6, from the number of domains up]",
        type=As(words.listed(words.whole, "whole numbers"), "5,10,20", "q,q"),
    ),
    repeats: int = option(
        "Random choices for each count.", type=click.IntRange(min=2), default=10, metavar="R"
    ),
    eval_where: str | None = option(
        "Score on these rows, e.g. of a larger size, instead of mixtures left out.", metavar="Q"
    ),
) -> Shown:
    """The error of laws fitted to q random mixtures of RUNS, for growing q: where it no longer
    falls, more mixtures do not help.

    Every repeat puts the mixtures in a random order and fits the first q of them with all their
    rows; scored are those after the largest q, or the rows of --eval-where. Shown are medians and
    quartiles over repeats of the mean relative error over targets, percent. What is left at many
    mixtures is noise, what the law cannot express and, at a larger size, extrapolation.

    \b
      mixjax enough runs.csv --laws additive,joint --where "split == 'train'" --figure enough.png
      mixjax enough runs.csv --where "split == 'train'" --eval-where "split == 'eval'"
    """
    records = [files.read_law(law) for law in laws]
    runs = table.read(search.targets)
    held_out = None if eval_where is None else table.read(where=eval_where)
    with watch.over(len(records)) as progress:
        how = {"eval_runs": held_out, "watch": progress, **search.given()}
        return show(mj.trust.enough_runs(runs, records, counts, repeats, **how))
