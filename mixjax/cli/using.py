"""Commands that use a fit: score, predict."""

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
def score(
    fit_file: str, law_file: str | None, cache: bool, as_json: bool, table: Mapping[str, Any]
) -> None:
    """Score the predictions of FIT.json on RUNS.

    Per target: n rows, mre (mean relative error, percent), mae, r2, rank (Spearman's), huber (the
    objective of the fit).

    \b
      mixjax score fit.json runs.csv --where "split == 'eval'"
    """
    from mixjax.cli import files
    from mixjax.cli.runtime import use_cache
    from mixjax.fitting.summary import scores_table, scores_to_dict

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
@click.option(
    "-o", "--output", metavar="OUT.csv", help="Where to write the table; stdout without it."
)
@options.columns_option
@options.law_file_option
@options.cache_option
@options.json_option
def predict(
    fit_file: str,
    points: str,
    output: str | None,
    columns: Mapping[str, str] | None,
    law_file: str | None,
    cache: bool,
    as_json: bool,
) -> None:
    """Predict the losses of FIT.json at the rows of POINTS.csv, which has N, D and h_<domain> as
    the law needs them.

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
