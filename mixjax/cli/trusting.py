"""Commands that say how far to trust a law or a fit: validate, extrapolate, intervals, identify."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from mixjax.cli import options
from mixjax.cli.progress import Progress

if TYPE_CHECKING:
    from mixjax.data.runs import Runs
    from mixjax.fitting.record import Fit

_fit_argument = click.argument("fit_file", metavar="FIT.json")
_level_option = click.option(
    "--level",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.9,
    show_default=True,
    help="Share of intervals that should hold.",
)
_resamples_option = click.option(
    "--resamples",
    type=click.IntRange(min=20),
    default=200,
    show_default=True,
    help="Of the bootstrap.",
)
_cluster_option = click.option(
    "--by",
    type=click.Choice(["run", "mixture"]),
    default="run",
    show_default=True,
    help="What is resampled whole.",
)
_seed_option = click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="I",
    help="Same seed, same answer.",
)


@click.command(short_help="Score a law on rows that its fits have not seen.")
@options.runs_arguments
@options.law_option
@click.option(
    "--by",
    type=click.Choice(["N", "D", "mixture", "run"]),
    default="N",
    show_default=True,
    help="Hold out the largest N or D, or whole mixtures or runs in folds.",
)
@click.option(
    "--folds",
    type=click.IntRange(min=0),
    metavar="K",
    help="How many folds of mixtures or runs; 0 leaves out one at a time.  [default: 5]",
)
@options.search_options
@options.json_option
def validate(
    law: str,
    by: Any,
    folds: int | None,
    as_json: bool,
    progress: bool | None,
    cache: bool,
    search: Mapping[str, Any],
    table: Mapping[str, Any],
) -> None:
    """Fit a law to a part of RUNS and score its predictions of the rest.

    Per target: mre and bias (percent), slope of measured on predicted losses over mixtures, rank
    correlation over mixtures and among the best quarter, regret (measured loss of the mixture
    predicted best minus the best measured), optimism in the quarter predicted best.

    \b
      mixjax validate runs.csv --law joint --by N --where "split == 'train'"
      mixjax validate runs.csv --law additive --by mixture --folds 10
    """
    from mixjax.cli import files
    from mixjax.cli.runtime import use_cache
    from mixjax.trust.held_out import cross_validate

    record = files.read_law(law)
    runs = files.read_table(table, targets=search.get("targets"))
    use_cache(cache)
    with Progress(progress) as watch:
        found = cross_validate(runs, record, by, folds=folds, watch=watch, **search)
    if as_json:
        files.print_json(found.to_dict())
    else:
        click.echo(found)


class _Lags(click.ParamType):
    """0,1e9,2e9: counts of tokens."""

    name = "tokens"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """The numbers, or click's complaint about the option."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(float(part) for part in str(value).split(","))
        except ValueError:
            self.fail(
                f"{value!r} is not a list of numbers; write for example 0,1e9,2e9", param, ctx
            )


@click.command(short_help="Fit the law that predicts held-out scales best.")
@options.runs_arguments
@click.option(
    "-o", "--output", metavar="FIT.json", help="Where to write the chosen fit, for predict and mix."
)
@click.option(
    "--laws",
    type=options.Names(),
    metavar="a,b",
    help="Laws to choose from.  [default: additive,joint,full,powers]",
)
@click.option(
    "--lags",
    type=_Lags(),
    metavar="X,Y",
    help="Tokens of warm-up to choose from.  [default: 0, 1/4, 1/2, 3/4 of the smallest D]",
)
@options.search_options
@options.json_option
def extrapolate(
    output: str | None,
    laws: tuple[str, ...] | None,
    lags: tuple[float, ...] | None,
    as_json: bool,
    progress: bool | None,
    cache: bool,
    search: Mapping[str, Any],
    table: Mapping[str, Any],
) -> None:
    """Choose a law and a lag by what they predict of the largest N and D of RUNS left out, and fit
    it to all of RUNS.

    Errors are means of |predicted - measured| / measured over the rows left out and over targets,
    percent. The law is named with its lag, as joint@2e9: 2e9 tokens of every run do not count,
    because the learning rate was still warming up. That is 16 fits of four parts of RUNS: minutes
    for a thousand rows and eight targets on two cores (--progress shows how far it is).

    \b
      mixjax extrapolate runs.csv -o fit.json --where "split == 'train'"
      mixjax predict fit.json points.csv -o predicted.csv
    """
    from mixjax.cli import files
    from mixjax.cli.runtime import use_cache
    from mixjax.trust.choose import LAWS
    from mixjax.trust.choose import extrapolate as choose

    files.check_output(output, files.inputs(table))
    records = [files.read_law(law) for law in laws or LAWS]
    runs = files.read_table(table, targets=search.get("targets"))
    use_cache(cache)
    with Progress(progress) as watch:
        found = choose(runs, laws=records, lags=lags, watch=watch, **search)
    if output is not None:
        found.fit.save(output)
    if as_json:
        files.print_json(found.to_dict())
    else:
        click.echo(found)
        if output is not None:
            click.echo(f"saved: {output}", err=True)


@click.command(short_help="Intervals of predictions, or of the best mixture.")
@_fit_argument
@options.runs_arguments
@click.argument("points", metavar="[POINTS.csv]", required=False)
@click.option(
    "-o",
    "--output",
    metavar="OUT.csv",
    help="Where to write the table of POINTS; stdout without it.",
)
@click.option(
    "-N",
    "N",
    type=options.Count(),
    help="Without POINTS: parameters of the run that the best mixture is for.",
)
@click.option("-D", "D", type=options.Count(), help="Without POINTS: its tokens.")
@options.pairs_option(
    "--weights", help="Importance of targets in the best mixture; all equal by default."
)
@options.pairs_option("--cap", help="Largest weight of a domain.")
@options.pairs_option("--floor", help="Smallest weight of a domain.")
@_level_option
@_resamples_option
@_cluster_option
@_seed_option
@options.law_file_option
@options.progress_option
@options.cache_option
@options.json_option
def intervals(
    fit_file: str,
    points: str | None,
    output: str | None,
    law_file: str | None,
    cache: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Intervals around what FIT.json, a fit of RUNS (with the same --where), predicts.

    With POINTS.csv (N, D, h_<domain>): the table with columns loss_<target>, low_<target>,
    high_<target>, for a loss that will be measured there. Without: the best mixture at -N and -D,
    how far its shares, its objective and its regret are decided by the runs. That is --resamples
    refits, and again without the largest sizes: minutes for a thousand rows and eight targets on
    two cores (--progress shows how far it is).

    \b
      mixjax intervals fit.json runs.csv points.csv --where "split == 'train'"
      mixjax intervals fit.json runs.csv -N 7e9 -D 150e9 --where "split == 'train'"
    """
    from mixjax.cli import files
    from mixjax.cli.runtime import use_cache

    table = given["table"]
    files.check_output(output, (*files.inputs(table), fit_file, *([points] if points else [])))
    fitted = files.read_fit(fit_file, law_file)
    runs = fitted_rows(fitted, table)
    use_cache(cache)
    if points is None:
        _best(fitted, runs, given, as_json)
    else:
        _at_points(fitted, runs, points, output, given, as_json)


def fitted_rows(fitted: Fit, table: Mapping[str, Any]) -> Runs:
    """The rows of RUNS, which must be those that were fitted."""
    from mixjax.cli import files
    from mixjax.errors import UserError, warn

    runs = files.read_table(table)
    missing = [t for t in fitted.targets if t not in runs.targets]
    if missing:
        raise UserError(
            table["runs"],
            f"no losses of target {missing[0]!r}, which the fit has",
            "name the table that was fitted, with its --where",
        )
    if (made := fitted.made.get("fingerprint")) and made not in (
        runs.fingerprint(),
        _only(runs, fitted).fingerprint(),
    ):
        warn(
            table["runs"],
            "these are not the rows that were fitted",
            "give the same table, --where and --columns as to mixjax fit",
        )
    return runs


def _only(runs: Runs, fitted: Fit) -> Runs:
    """The runs with the targets of the fit only, as `fit --targets` reads them."""
    from dataclasses import replace

    return replace(
        runs,
        targets=fitted.targets,
        losses=runs.losses[:, [runs.targets.index(t) for t in fitted.targets]],
    )


def _trust(fitted: Fit, runs: Runs, N: Any, D: Any, given: Mapping[str, Any]) -> Any:
    from mixjax.trust.intervals import uncertainty

    with Progress(given["progress"]) as watch:
        return uncertainty(
            fitted,
            runs,
            N,
            D,
            resamples=given["resamples"],
            by=given["by"],
            seed=given["seed"],
            watch=watch,
        )


def _best(fitted: Fit, runs: Runs, given: Mapping[str, Any], as_json: bool) -> None:
    from mixjax.cli import files
    from mixjax.mixture.optimum import optimal_mixture
    from mixjax.mixture.question import Question
    from mixjax.trust.intervals import best_mixture

    wanted = {"weights": given["weights"], "caps": given["cap"], "floors": given["floor"]}
    question = Question(fitted, given["N"], given["D"], **wanted)
    optimal_mixture(question)  # complains before the refits
    trust = _trust(fitted, runs, given["N"], given["D"], given)
    found = best_mixture(trust, question, given["level"])
    if as_json:
        files.print_json(found.to_dict())
    else:
        click.echo(found)


def _at_points(
    fitted: Fit,
    runs: Runs,
    points: str,
    output: str | None,
    given: Mapping[str, Any],
    as_json: bool,
) -> None:
    from mixjax.cli import files
    from mixjax.errors import UserError

    for option in ("N", "D", "weights", "cap", "floor"):
        if given[option]:
            raise UserError(
                f"{'-' if len(option) == 1 else '--'}{option}",
                "goes with the best mixture, not with POINTS",
                "leave one of them out",
            )
    content, at = files.read_points(points, given["table"].get("columns"), fitted)
    at = at.reordered(fitted.domains)
    fitted.predict(at.N, at.D, at.h)  # complains before the refits
    found = _trust(fitted, runs, at.N, at.D, given).intervals(
        at.N, at.D, at.h, level=given["level"]
    )
    for t, interval in found.items():
        content[f"loss_{t}"], content[f"low_{t}"], content[f"high_{t}"] = (
            interval.predicted,
            interval.low,
            interval.high,
        )
    if as_json:
        files.print_json(
            {
                "level": given["level"],
                "targets": {
                    t: {"loss": i.predicted, "low": i.low, "high": i.high} for t, i in found.items()
                },
            }
        )
    files.write_table(content, output, to_stdout=not as_json)


@click.command(short_help="What the runs pin down of a fit.")
@_fit_argument
@options.runs_arguments
@click.option("--points", metavar="POINTS.csv", help="Mixtures to compare with the trained ones.")
@options.law_file_option
@options.cache_option
@options.json_option
def identify(
    fit_file: str,
    points: str | None,
    law_file: str | None,
    cache: bool,
    as_json: bool,
    table: Mapping[str, Any],
) -> None:
    """How well RUNS, the rows that FIT.json was fitted to, determine its parameters.

    Per target: directions that the objective pins down, the flattest one in the law's own
    parameters and how far it may be followed until the objective rises by 1 percent, parameters at
    a limit; also copies of rows, and points outside the trained mixtures.

    \b
      mixjax identify fit.json runs.csv --where "split == 'train'" --points points.csv
    """
    from mixjax.cli import files
    from mixjax.cli.runtime import use_cache
    from mixjax.trust.identify import identify as identify_fit

    fitted = files.read_fit(fit_file, law_file)
    runs = fitted_rows(fitted, table)
    at = None if points is None else files.read_points(points, table.get("columns"))[1]
    use_cache(cache)
    found = identify_fit(fitted, runs, at)
    if as_json:
        files.print_json(found.to_dict())
    else:
        click.echo(found)
