"""Commands that say what to train: design before any run is trained, next after some are, enough
how many there should be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from mixjax.cli import options


@click.command(short_help="Mixtures to train.")
@click.option("--domains", type=options.Names(), required=True, help="Training domains, a,b,c.")
@click.option("--n", "n", type=int, required=True, help="Number of mixtures.")
@click.option(
    "--min",
    "minimum",
    type=float,
    default=0.0,
    show_default=True,
    help="Smallest weight of any domain.",
)
@options.pairs_option(
    "--prior", help="Shares or token counts that the design is tilted to; even by default."
)
@click.option(
    "--dirichlet",
    "concentration",
    type=options.Count("1"),
    metavar="X",
    help="Random mixtures of this concentration instead; 1 is flat.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    metavar="I",
    default=0,
    help="Same seed, same design.  [default: 0]",
)
@click.option(
    "-o", "--output", metavar="OUT.csv", help="Where to write the table; stdout without it."
)
@options.json_option
def design(
    domains: tuple[str, ...], n: int, seed: int, output: str | None, as_json: bool, **how: Any
) -> None:
    """Mixtures that fill the simplex of the domains evenly: one row of h_<domain> each.

    The first rows are a good smaller design, for fewer mixtures at larger sizes. Once there is a
    fit, see mixjax next.

    \b
      mixjax design --domains web,code,books --n 20 --min 0.02 -o mixtures.csv
    """
    from mixjax.cli import files
    from mixjax.data.design import design_mixtures

    files.check_output(output)
    table = design_mixtures(domains, n, seed=seed, **how)
    if as_json:
        files.print_json(
            {
                "domains": domains,
                "mixtures": [
                    dict(zip(domains, row, strict=True)) for row in table.to_numpy().tolist()
                ],
            }
        )
    files.write_table(table, output, to_stdout=not as_json)
    files.say_saved(output)


class Scale(click.ParamType):
    """N:D, parameters and tokens of a run."""

    name = "scale"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, float]:
        """The two counts, or click's complaint about the option."""
        if isinstance(value, tuple):
            return value
        first, colon, second = str(value).partition(":")
        if not colon:
            self.fail(f"{value!r} is not N:D; write for example 3e8:2e10", param, ctx)
        count = options.Count()
        return count.convert(first, param, ctx), count.convert(second, param, ctx)


@click.command("next", short_help="Which runs to train next.")
@click.argument("fit_file", metavar="FIT.json")
@options.runs_arguments
@click.option(
    "--n", "n", type=click.IntRange(min=1), default=1, show_default=True, help="Number of runs."
)
@options.scale_options
@click.option(
    "--aim",
    type=click.Choice(["best-mixture", "regret", "d-optimal"]),
    default="best-mixture",
    show_default=True,
    help="What they should pin down.",
)
@click.option(
    "--size",
    "scales",
    type=Scale(),
    multiple=True,
    metavar="N:D",
    help="Parameters and tokens that runs may have; repeatable.",
)
@click.option(
    "--points",
    metavar="POINTS.csv",
    help="Mixtures (and N, D) to choose from, e.g. of mixjax design; random ones by default.",
)
@click.option("--per-flop", is_flag=True, help="Count what a run gains per FLOP.")
@options.goal_options
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    metavar="I",
    default=0,
    help="Of the random mixtures.  [default: 0]",
)
@click.option("-o", "--output", metavar="OUT.csv", help="A table of these runs, N, D, h_<domain>.")
@options.law_file_option
@options.cache_option
@options.json_option
def next_(
    fit_file: str,
    n: int,
    points: str | None,
    output: str | None,
    law_file: str | None,
    cache: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Runs that would teach most about the best mixture at -N and -D, beyond RUNS, the rows that
    FIT.json was fitted to.

    Each with what it is predicted to gain and its cost, 6 N D FLOP: the share by which the aim
    falls (variance of the best mixture, expected regret, or variance of the law's parameters),
    information in nats, standard deviation and regret of the best mixture after it. With --points
    POINTS.csv and --n its number of rows these are only put in order.

    \b
      mixjax next fit.json runs.csv --where "split == 'train'" --n 5 -N 7e9 -D 150e9 --size 3e8:2e10
      --size 1e9:4e10
    """
    from mixjax.cli import files
    from mixjax.cli.runtime import use_cache
    from mixjax.cli.trusting import fitted_rows
    from mixjax.mixture.question import Question
    from mixjax.plan.next_runs import next_runs

    table: Mapping[str, Any] = given["table"]
    files.check_output(output, (*files.inputs(table), fit_file, *([points] if points else [])))
    fitted = files.read_fit(fit_file, law_file)
    goal = Question(fitted, **options.problem(fitted, given["scale"], given["goal"]))
    runs = fitted_rows(fitted, table)
    among = None if points is None else files.read_points(points, table.get("columns"))[1]
    use_cache(cache)
    aim = given["aim"].replace("best-mixture", "best mixture")
    found = next_runs(
        goal,
        runs,
        n,
        aim=aim,
        among=among,
        scales=given["scales"] or None,
        per_flop=given["per_flop"],
        seed=given["seed"],
    )
    if as_json:
        files.print_json(found.to_dict())
    else:
        click.echo(found)
    if output is not None:
        files.write_table(found.frame(), output)


class _Counts(click.ParamType):
    """5,10,20: whole numbers."""

    name = "counts"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """The numbers, or click's complaint about the option."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(int(part) for part in str(value).split(","))
        except ValueError:
            self.fail(
                f"{value!r} is not a list of whole numbers; write for example 5,10,20", param, ctx
            )


@click.command(short_help="How many mixtures are enough.")
@options.runs_arguments
@click.option(
    "--laws",
    type=options.Names(),
    metavar="a,b",
    default="additive,joint",
    show_default=True,
    help="Laws to fit.",
)
@click.option(
    "--counts",
    type=_Counts(),
    metavar="q,q",
    help="Numbers of mixtures to fit.  [default: 6, from the number of domains up]",
)
@click.option(
    "--repeats",
    type=click.IntRange(min=2),
    default=10,
    show_default=True,
    metavar="R",
    help="Random choices for each count.",
)
@click.option(
    "--eval-where",
    metavar="Q",
    help="Score on these rows, e.g. of a larger size, instead of mixtures left out.",
)
@click.option("--figure", metavar="FILE.png", help="Draw the errors too.")
@options.search_options
@options.json_option
def enough(
    laws: tuple[str, ...],
    eval_where: str | None,
    figure: str | None,
    as_json: bool,
    progress: bool | None,
    cache: bool,
    search: Mapping[str, Any],
    **given: Any,
) -> None:
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
    from mixjax.cli import files
    from mixjax.cli.deciding import check_figure, show
    from mixjax.cli.progress import Progress
    from mixjax.cli.runtime import use_cache
    from mixjax.report.figures import enough_figure
    from mixjax.trust.enough import enough_runs

    table: Mapping[str, Any] = given["table"]
    check_figure(figure, *files.inputs(table))
    records = [files.read_law(law) for law in laws]
    runs = files.read_table(table, targets=search.get("targets"))
    held = None if eval_where is None else files.read_table({**table, "where": eval_where})
    use_cache(cache)
    with Progress(progress, len(records)) as watch:
        found = enough_runs(
            runs, records, given["counts"], given["repeats"], eval_runs=held, watch=watch, **search
        )
    show(found, {"figure": figure, "as_json": as_json}, enough_figure)
