"""Commands that fit laws to tables of runs: fit, compare."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from mixjax.cli import options
from mixjax.cli.progress import Progress


@click.command(short_help="Fit a law to a table of runs.")
@options.runs_arguments
@options.law_option
@click.option("-o", "--output", metavar="FIT.json", help="Where to write the fit; without it the table is only printed.")
@options.search_options
@options.json_option
def fit(output: str | None, law: str, as_json: bool, progress: bool | None, cache: bool, search: Mapping[str, Any], table: Mapping[str, Any]) -> int:
    """Fit a law to every target (loss column) of RUNS, a table in CSV or Parquet.

    Columns: N (parameters), D (tokens), h_<domain> (weights), loss_<target>; others are named with --columns.
    Ctrl-C ends the search and keeps the best fit so far.

    \b
      mixjax fit runs.csv -o fit.json --law joint --where "split == 'train'"
    """
    from mixjax.cli import files
    from mixjax.cli.runtime import use_cache
    from mixjax.fitting import fit as fit_law
    from mixjax.pipeline import is_interrupted
    from mixjax.summary import fit_table, fit_to_dict

    files.check_output(output, files.inputs(table))
    record = files.read_law(law)
    runs = files.read_table(table, targets=search.get("targets"))
    use_cache(cache)
    with Progress(progress) as watch:
        fitted = fit_law(runs, record, watch=watch, **search)
    if output is not None:
        fitted.save(output)
    scores = fitted.score(runs)
    if as_json:
        files.print_json(fit_to_dict(fitted, scores))
    else:
        click.echo(fit_table(fitted, scores))
    if is_interrupted(fitted):
        return files.say_interrupted(output)
    if output is not None and not as_json:
        click.echo(f"saved: {output}", err=True)
    return 0


@click.command(short_help="Fit several laws and compare their errors.")
@options.runs_arguments
@click.option("--laws", type=options.Names(), default="simple,additive,joint,full", show_default=True, help="Laws to compare.")
@click.option("--eval-where", metavar="Q", help="Rows that no fit sees, e.g. \"split == 'eval'\".")
@options.search_options
@options.json_option
def compare(
    laws: tuple[str, ...], eval_where: str | None, as_json: bool, progress: bool | None, cache: bool, search: Mapping[str, Any], table: Mapping[str, Any]
) -> None:
    """Fit several laws to RUNS and score each on the fitted rows and on rows it has not seen.

    \b
      mixjax compare runs.csv --laws additive,joint --where "split == 'train'" --eval-where "split == 'eval'"
    """
    from mixjax.choose import compare as compare_laws
    from mixjax.cli import files
    from mixjax.cli.runtime import use_cache

    records = [files.read_law(law) for law in laws]
    runs = files.read_table(table, targets=search.get("targets"))
    held_out = None if eval_where is None else files.read_table({**table, "where": eval_where}, targets=None)
    use_cache(cache)
    with Progress(progress, len(records)) as watch:
        found = compare_laws(runs, records, held_out, watch=watch, **search)
    if as_json:
        files.print_json(found.to_dict())
    else:
        click.echo(found)
