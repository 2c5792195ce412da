"""Commands that say what to train: design before any run is trained, next after some are."""

from __future__ import annotations

from dataclasses import dataclass

import click

import mixjax as mj
from mixjax.cli import files, options, words
from mixjax.cli.options import NAMES, SEED, Asked, Table
from mixjax.cli.run import Shown, command, option, show
from mixjax.cli.words import As


@command("Mixtures to train.", compiles=False)
def design(
    domains: tuple[str, ...] = option(
        "Training domains.", type=NAMES, required=True, metavar="a,b,c"
    ),
    n: int = option("Number of mixtures.", "--n", type=int, required=True),
    minimum: float = option(
        "Smallest weight of any domain.",
        "--min",
        type=As(words.share, "0.02 or 2%", "X"),
        default=0.0,
        show_default=True,
    ),
    prior: dict[str, float] | None = options.pairs(
        "Shares or token counts that the design is tilted to; even by default.",
        words.pairs(words.count),
        "web=600B,code=100B",
        "NAME=X,...",
    ),
    concentration: float | None = option(
        "Random mixtures of this concentration instead; 1 is flat.",
        "--dirichlet",
        type=options.count("1"),
    ),
    seed: int = option("Same seed, same design.  [default: 0]", **SEED, default=0),
    output: str | None = options.output("OUT.csv", "Where to write the table; stdout without it."),
) -> Shown:
    """Mixtures that fill the simplex of the domains evenly: one row of h_<domain> each.

    The first rows are a good smaller design, for fewer mixtures at larger sizes. Once there is a
    fit, see mixjax next.

    \b
      mixjax design --domains web,code,books --n 20 --min 2% -o mixtures.csv
    """
    how = {"prior": prior, "concentration": concentration, "seed": seed}
    table = mj.design_mixtures(domains, n, minimum, **how)
    mixtures = [dict(zip(domains, row, strict=True)) for row in table.to_numpy().tolist()]
    content = {"domains": domains, "mixtures": mixtures}
    return Shown(content, files.write_table(table, output), saved=output)


@dataclass(frozen=True)
class Candidates:
    """Runs to choose from."""

    size: tuple[tuple[float, float], ...] = option(
        "Parameters and tokens that runs may have; repeatable.",
        type=As(words.scale, "300M:20B", "N:D"),
        multiple=True,
    )
    points: str | None = option(
        "Mixtures (and N, D) to choose from, e.g. of mixjax design; random ones by default.",
        role="reads",
        metavar="POINTS.csv",
    )
    seed: int = option("Of the random mixtures.  [default: 0]", **SEED, default=0)


@command("Which runs to train next.", name="next")
def next_(
    asked: Asked,
    table: Table,
    candidates: Candidates,
    n: int = option(
        "Number of runs.", "--n", type=click.IntRange(min=1), default=1, show_default=True
    ),
    aim: str = option(
        "What they should pin down.",
        type=click.Choice(["best-mixture", "regret", "d-optimal"]),
        default="best-mixture",
        show_default=True,
    ),
    per_flop: bool = option("Count what a run gains per FLOP.", is_flag=True),
    output: str | None = options.output("OUT.csv", "A table of these runs, N, D, h_<domain>."),
) -> Shown:
    """Runs that would teach most about the best mixture at -N and -D, beyond RUNS, the rows that
    FIT.json was fitted to.

    Each with what it is predicted to gain and its cost, 6 N D FLOP: the share by which the aim
    falls (variance of the best mixture, expected regret, or variance of the law's parameters),
    information in nats, standard deviation and regret of the best mixture after it. With --points
    POINTS.csv and --n its number of rows these are only put in order.

    \b
      mixjax next fit.json runs.csv --n 5 -N 7B -D 150B --size 300M:20B --size 1B:40B
    """
    question = asked.question()
    runs = table.read_fitted(question.fit)
    points = candidates.points
    chosen = mj.next_runs(
        question,
        runs,
        n,
        aim="best mixture" if aim == "best-mixture" else aim,
        among=None if points is None else files.read_points(points, table.columns)[1],
        scales=candidates.size or None,
        per_flop=per_flop,
        seed=candidates.seed,
    )
    if output is not None:
        files.write_table(chosen.frame(), output)
    return show(chosen, output)
