"""Commands that fit laws to tables of runs: fit, compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from mixjax.cli import options
from mixjax.cli.progress import Progress
from mixjax.errors import UserError

if TYPE_CHECKING:
    from mixjax.data.runs import Runs
    from mixjax.trust.candidates import Choice
    from mixjax.trust.choose import LawComparison

BY = ("N", "D", "mixture", "run")


@click.command(short_help="Fit a law to a table of runs.")
@options.runs_arguments
@options.law_option
@click.option(
    "-o",
    "--output",
    metavar="FIT.json",
    help="Where to write the fit; without it the table is only printed.",
)
@options.search_options
@options.json_option
def fit(
    output: str | None,
    law: str,
    as_json: bool,
    progress: bool | None,
    cache: bool,
    search: Mapping[str, Any],
    table: Mapping[str, Any],
) -> int:
    """Fit a law to every target (loss column) of RUNS, a table in CSV or Parquet.

    Columns: N (parameters), D (tokens), h_<domain> (weights), loss_<target>; others are named with
    --columns. Ctrl-C ends the search and keeps the best fit so far.

    \b
      mixjax fit runs.csv -o fit.json --law joint --where "split == 'train'"
    """
    from mixjax.cli import files
    from mixjax.cli.runtime import use_cache
    from mixjax.fitting.fit import fit as fit_law
    from mixjax.fitting.summary import fit_table, fit_to_dict

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
    if fitted.interrupted:
        return files.say_interrupted(output)
    if output is not None and not as_json:
        click.echo(f"saved: {output}", err=True)
    return 0


@click.command(short_help="Fit several laws and compare their errors.")
@options.runs_arguments
@click.option(
    "--laws",
    type=options.Names(),
    default="simple,additive,joint,full",
    show_default=True,
    help="Laws to compare.",
)
@click.option("--eval-where", metavar="Q", help="Rows that no fit sees, e.g. \"split == 'eval'\".")
@click.option(
    "--choose",
    "choosing",
    is_flag=True,
    help="Choose one of the laws, by rows of RUNS left out and an information criterion.",
)
@click.option(
    "--by",
    type=options.Names(),
    metavar="a,b",
    help="With --choose: what to leave out, of N, D, mixture, run.  [default: N,D,mixture]",
)
@click.option(
    "--deltas",
    type=options.Names(),
    metavar="X,Y",
    help="With --choose: deltas to choose from.  [default: that of --delta]",
)
@click.option(
    "--residuals",
    type=options.Names(),
    metavar="a,b",
    help="With --choose: residuals to choose from, of loss, log.  [default: that of --residual]",
)
@click.option(
    "-o", "--output", metavar="FIT.json", help="With --choose: where to write the chosen fit."
)
@options.search_options
@options.json_option
def compare(
    laws: tuple[str, ...],
    eval_where: str | None,
    as_json: bool,
    progress: bool | None,
    cache: bool,
    search: Mapping[str, Any],
    **given: Any,
) -> None:
    """Fit several laws to RUNS and score each on the fitted rows and on rows it has not seen.

    --choose picks one for all targets, and says why: each law (with each delta and residual) is
    fitted without the largest N, without the largest D, and without whole mixtures in 5 folds; the
    lowest mean error on what was left out wins, and of those within one standard error of it the
    lowest information criterion. Rows of --eval-where decide nothing.

    \b
      mixjax compare runs.csv --laws additive,joint --where "split == 'train'" --eval-where "split
      == 'eval'" mixjax compare runs.csv --where "split == 'train'" --choose --deltas 1e-3,1e-2
      --residuals loss,log -o fit.json
    """
    from mixjax.cli import files
    from mixjax.cli.runtime import use_cache
    from mixjax.trust.choose import compare as compare_laws

    table = given["table"]
    wanted = _choosing(given, files.inputs(table), search)
    records = [files.read_law(law) for law in laws]
    runs = files.read_table(table, targets=search.get("targets"))
    held_out = (
        None
        if eval_where is None
        else files.read_table({**table, "where": eval_where}, targets=None)
    )
    if wanted is not None:
        _check_apart(runs, held_out)
    use_cache(cache)
    with Progress(progress, len(records)) as watch:
        found = compare_laws(runs, records, held_out, watch=watch, **search)
    chosen = None if wanted is None else _choose(runs, records, found, wanted, search, progress)
    if chosen is not None and given["output"] is not None:
        chosen.fit.save(given["output"])
    if as_json:
        files.print_json(found.to_dict() | ({} if chosen is None else {"choice": chosen.to_dict()}))
    else:
        click.echo(found)
        if chosen is not None:
            click.echo(f"\n{chosen}")


def _choosing(
    given: Mapping[str, Any], inputs: Sequence[str], search: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The options of a choice, checked; None where none is wanted."""
    from mixjax.cli import files
    from mixjax.fitting.loss import Huber

    names = {"by": "--by", "deltas": "--deltas", "residuals": "--residuals", "output": "-o"}
    if not given["choosing"]:
        alone = next((option for name, option in names.items() if given[name] is not None), None)
        if alone is not None:
            raise UserError(alone, "goes with --choose", "add --choose, or leave it out")
        return None
    unknown = next((name for name in given["by"] or () if name not in BY), None)
    if unknown is not None:
        raise UserError("--by", f"no split by {unknown!r}", f"choose from {', '.join(BY)}")
    files.check_output(given["output"], inputs)
    count = options.Count()
    deltas = tuple(count.convert(delta, None, None) for delta in given["deltas"] or ()) or (
        search.get("delta", Huber.delta),
    )
    return {
        "by": given["by"],
        "deltas": deltas,
        "residuals": given["residuals"] or (search.get("residual", Huber.residual),),
    }


def _check_apart(runs: Runs, held_out: Runs | None) -> None:
    """A choice must not look at rows that are marked for evaluation."""
    both = 0 if held_out is None else len(set(runs.rows.tolist()) & set(held_out.rows.tolist()))
    if both:
        raise UserError(
            "--choose", f"{both} rows of --eval-where are fitted too", "leave them out with --where"
        )


def _choose(
    runs: Runs,
    records: Sequence[Any],
    found: LawComparison,
    wanted: Mapping[str, Any],
    search: Mapping[str, Any],
    progress: bool | None,
) -> Choice:
    from mixjax.trust.choose import choose_law

    kept = {
        name: search[name]
        for name in ("targets", "seed", "precision", "starts", "hops")
        if name in search
    }
    candidates = len(records) * len(wanted["deltas"]) * len(wanted["residuals"])
    with Progress(progress, candidates) as watch:
        return choose_law(
            runs, records, fits=tuple(found.fits.values()), watch=watch, **wanted, **kept
        )
