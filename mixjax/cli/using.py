"""Commands that use a fit: score, predict, mix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from mixjax.cli import options

_fit_argument = click.argument("fit_file", metavar="FIT.json")


@click.command(short_help="Errors of a fit on a table of runs.")
@_fit_argument
@options.runs_arguments
@options.law_file_option
@options.cache_option
@options.json_option
def score(fit_file: str, law_file: str | None, cache: bool, as_json: bool, table: Mapping[str, Any]) -> None:
    """Score the predictions of FIT.json on RUNS.

    Per target: n rows, mre (mean relative error, percent), mae, r2, rank (Spearman's), huber (the objective of the fit).

    \b
      mixjax score fit.json runs.csv --where "split == 'eval'"
    """
    from mixjax.cli import files
    from mixjax.cli.runtime import use_cache
    from mixjax.summary import scores_table, scores_to_dict

    fitted = files.read_fit(fit_file, law_file)
    runs = files.read_table(table)
    use_cache(cache)
    scores = fitted.score(runs)
    if as_json:
        files.print_json(scores_to_dict(scores))
    else:
        click.echo(scores_table(scores))


@click.command(short_help="Predict losses at points of a table.")
@_fit_argument
@click.argument("points", metavar="POINTS.csv")
@click.option("-o", "--output", metavar="OUT.csv", help="Where to write the table; stdout without it.")
@options.columns_option
@options.law_file_option
@options.cache_option
@options.json_option
def predict(fit_file: str, points: str, output: str | None, columns: Mapping[str, str] | None, law_file: str | None, cache: bool, as_json: bool) -> None:
    """Predict the losses of FIT.json at the rows of POINTS.csv, which has N, D and h_<domain> as the law needs them.

    Writes the table as it is with columns loss_<target> added.

    \b
      mixjax predict fit.json points.csv -o predicted.csv
    """
    from mixjax.cli import files
    from mixjax.cli.runtime import use_cache

    files.check_output(output, (points, fit_file))
    fitted = files.read_fit(fit_file, law_file)
    content, runs = files.read_points(points, columns, fitted)
    use_cache(cache)
    table = runs.reordered(fitted.domains)
    losses = fitted.predict(table.N, table.D, table.h)
    if as_json:
        files.print_json({"losses": losses})
    for target, values in losses.items():
        content[f"loss_{target}"] = values
    files.write_table(content, output, to_stdout=not as_json)


@click.command(short_help="The best mixture at a scale.")
@_fit_argument
@click.option("-N", "N", type=options.Count(), help="Parameters of the network to be trained, e.g. 7e9.")
@click.option("-D", "D", type=options.Count(), help="Tokens it will be trained on, e.g. 150e9.")
@options.pairs_option("--weights", help="Importance of targets in the objective; all equal by default.")
@options.pairs_option("--cap", help="Largest weight of a domain.")
@options.pairs_option("--floor", help="Smallest weight of a domain.")
@options.law_file_option
@options.cache_option
@options.json_option
def mix(
    fit_file: str,
    N: float | None,
    D: float | None,
    weights: dict[str, float] | None,
    cap: dict[str, float] | None,
    floor: dict[str, float] | None,
    law_file: str | None,
    cache: bool,
    as_json: bool,
) -> None:
    """Find the domain weights that minimise the predicted loss at N parameters and D tokens.

    The gap bounds how much better any other mixture could be, by the same law.

    \b
      mixjax mix fit.json -N 7e9 -D 150e9 --weights web=1,code=2 --cap wiki=0.05
    """
    from mixjax.cli import files
    from mixjax.cli.runtime import use_cache
    from mixjax.mixture import optimal_mixture

    fitted = files.read_fit(fit_file, law_file)
    use_cache(cache)
    best = optimal_mixture(fitted, N=N, D=D, weights=weights, caps=cap, floors=floor)
    if as_json:
        files.print_json(best.to_dict())
    else:
        click.echo(best)
