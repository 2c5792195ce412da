"""Commands that use a fit: score, predict, mix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from mixjax.cli import options
from mixjax.errors import UserError

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
@options.scale_options
@options.goal_options
@click.option(
    "--group",
    "groups",
    type=options.Words(),
    multiple=True,
    callback=options.joined,
    metavar="NAME=a+b,...",
    help="Domains whose shares --cap, --floor and --fix then bound together, by this name.",
)
@options.pairs_option("--fix", help="Share that a domain or group must have.")
@click.option(
    "--export", "form", metavar="FORM", help="Print the mixture as a file of this form: json, yaml, csv, megatron, olmo-core, levanter, mosaic, huggingface."
)
@click.option("-o", "--output", metavar="FILE", help="Where to write the export; stdout without it.")
@click.option(
    "--path",
    "paths",
    type=options.Words(),
    multiple=True,
    callback=options.joined,
    metavar="NAME=PATH,...",
    help="Where the data of a domain lie, for exports.",
)
@options.law_file_option
@options.cache_option
@options.json_option
def mix(
    fit_file: str,
    groups: dict[str, str] | None,
    fix: dict[str, float] | None,
    form: str | None,
    output: str | None,
    paths: dict[str, str] | None,
    law_file: str | None,
    cache: bool,
    as_json: bool,
    scale: Mapping[str, float],
    goal: Mapping[str, Any],
) -> None:
    """Find the domain weights that minimise the predicted loss at N parameters and D tokens.

    The gap bounds how much better any other mixture could be, by the same law. --group names domains whose sum is bounded,
    --fix a share that must be; --tokens and --epochs cap a domain by what there is of it. Where limits bind, the optimum without
    them and the price of each are shown too. --export writes the mixture for a training stack.

    \b
      mixjax mix fit.json -N 7e9 -D 150e9 --weights web=1,code=2 --cap wiki=0.05
      mixjax mix fit.json -N 7e9 -D 150e9 --group web=c4+crawl --cap web=0.6 --fix books=0.05
      mixjax mix fit.json -N 7e9 -D 150e9 --tokens wiki=4e9 --epochs 4 --export megatron --path web=/data/web_text -o blend.txt
    """
    from mixjax.cli import files
    from mixjax.cli.runtime import use_cache
    from mixjax.decision.goal import Goal
    from mixjax.decision.margin import price_limits
    from mixjax.decision.supply import epochs_of
    from mixjax.export import FORMS, export_mixture
    from mixjax.mixture import optimal_mixture
    from mixjax.record import write_text

    if form is None and (output or paths):
        raise UserError("--output" if output else "--path", "needs --export", f"choose from {', '.join(FORMS)}")
    if form is not None and form not in FORMS:
        raise UserError("--export", f"no form {form!r}", f"choose from {', '.join(FORMS)}")
    files.check_output(output, (fit_file,))
    fitted = files.read_fit(fit_file, law_file)
    problem = options.problem(fitted, scale, goal)
    named = {name: [d.strip() for d in text.split("+")] for name, text in (groups or {}).items()}
    use_cache(cache)
    best = optimal_mixture(fitted, **problem, groups=named, fixed=fix)
    text = None if form is None else export_mixture(best.weights, form, best.D, paths, max(1.0, goal.get("epochs", 1.0)))
    if text is not None and output is not None:
        write_text(output, text)
    epochs = epochs_of(best.weights, goal.get("tokens"), best.D)
    for side in ("caps", "floors"):
        problem[side] = {**(problem[side] or {}), **(fix or {})}
    limits = price_limits(Goal(fitted, **problem, groups=named)) if best.bound else None
    if as_json:
        more = {} if limits is None else {"unconstrained": limits.free.to_dict(), "cost": limits.cost, "prices": limits.prices}
        files.print_json(best.to_dict() | more | ({"epochs": epochs} if epochs else {}))
    elif text is not None and output is None:
        click.echo(text, nl=False)
    else:
        click.echo(best)
        if limits is not None:
            click.echo(f"\nwithout limits, and what they cost:\n{limits}")
        for domain, passes in epochs.items():
            click.echo(f"{domain}: {passes:.3g} epochs of its tokens")
