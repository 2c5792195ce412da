"""Commands around runs and their fits: design, fit, score, predict, compare, next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click

import mixjax as mj
from mixjax.cli import files, options, words
from mixjax.cli.options import NAMES, SEED, Asked, FitFile, Search, Table, Watch
from mixjax.cli.run import Shown, argument, command, option, show
from mixjax.cli.words import As
from mixjax.errors import UserError


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
    seed: int = option(
        "Same seed, same design.  [default: 0]", **SEED, default=0, show_default=False
    ),
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


@command("Fit a law to a table of runs.")
def fit(
    table: Table,
    search: Search,
    watch: Watch,
    law: str | None = options.LAW,
    output: str | None = options.output(
        "FIT.json", "Where to write the fit; without it the table is only printed."
    ),
) -> Shown:
    """Fit a law to every target (loss column) of RUNS, a table in CSV or Parquet.

    Columns: N (parameters), D (tokens), h_<domain> (weights), loss_<target>; others are named with
    --columns. Ctrl-C ends the search and keeps the best fit so far.

    \b
      mixjax fit runs.csv -o fit.json --law joint --where "split == 'train'"
      mixjax fit runs.csv -o fit.json --columns "h=weight_{},loss={}_ce,N=params_M*1e6,D=tokens"
    """
    record = files.read_law(law) if law else None
    runs = table.read(search.targets)
    with watch.over() as progress:
        fitted = mj.fit(runs, record, watch=progress, **search.given())
    if output is not None:
        fitted.save(output)
    mj.fitting.doubts.tell(mj.fitting.doubts.of_losses(fitted, runs))
    scores = fitted.score(runs)
    content, text = mj.fitting.fit_to_dict(fitted, scores), mj.fitting.fit_table(fitted, scores)
    text += "" if output else "\nnot saved: -o fit.json would keep the fit for mix and the others"
    return Shown(content, f"{text}\n", saved=output, interrupted=fitted.interrupted)


@command("Errors of a fit on a table of runs.")
def score(file: FitFile, table: Table) -> Shown:
    """Score the predictions of FIT.json on RUNS.

    Per target: n rows, mre (mean relative error, percent), mae, r2, rank (Spearman's), huber (the
    objective of the fit).

    \b
      mixjax score fit.json runs.csv --where "split == 'eval'"
    """
    fitted, runs = file.read(), table.read()
    scores = fitted.score(runs)
    mj.fitting.doubts.tell(mj.fitting.doubts.of_scales(fitted, runs.N, runs.D))
    return Shown(mj.fitting.scores_to_dict(scores), f"{mj.fitting.scores_table(scores)}\n")


@command("Predict losses at points of a table.")
def predict(
    file: FitFile,
    points: str = argument("POINTS.csv"),
    columns: dict[str, Any] | None = options.COLUMNS,
    output: str | None = options.output("OUT.csv", "Where to write the table; stdout without it."),
) -> Shown:
    """Predict the losses of FIT.json at the rows of POINTS.csv, which has N, D and h_<domain> as
    the law needs them.

    Writes the table as it is with columns loss_<target> added.

    \b
      mixjax predict fit.json points.csv -o predicted.csv
    """
    from mixjax.fitting import doubts

    fitted = file.read()
    content, at = files.read_points(points, columns, fitted)
    losses = fitted.predict(at.N, at.D, at.h)
    doubts.tell(doubts.of_points(fitted, at.N, at.D, at.h))
    for target, values in losses.items():
        content[f"loss_{target}"] = values
    return Shown({"losses": losses}, files.write_table(content, output), saved=output)


@dataclass(frozen=True)
class Choosing:
    """A choice of one of the laws."""

    choose: bool = option(
        "Choose one of the laws, by rows of RUNS left out and an information criterion.",
        is_flag=True,
    )
    by: tuple[str, ...] | None = option(
        "With --choose: what to leave out, of N, D, mixture, run, extreme.  [default: all but run]",
        type=As(words.among("N", "D", "mixture", "run", "extreme"), "N,mixture", "a,b"),
    )
    deltas: tuple[float, ...] | None = option(
        "With --choose: deltas to choose from.  [default: that of --delta]",
        type=As(words.listed(words.count, "numbers"), "1e-3,1e-2", "X,Y"),
    )
    residuals: tuple[str, ...] | None = option(
        "With --choose: residuals to choose from.  [default: that of --residual]",
        type=As(words.among("loss", "log"), "loss,log", "a,b"),
    )
    output: str | None = options.output("FIT.json", "With --choose: where to write the chosen fit.")

    def check(self) -> None:
        """Refuse options of a choice where there is none."""
        given = {"--by": self.by, "--deltas": self.deltas, "--residuals": self.residuals}
        for name, value in {**given, "-o": self.output}.items():
            if value is not None and not self.choose:
                raise UserError(name, "goes with --choose", "add --choose, or leave it out")

    def of(
        self, runs: mj.Runs, records: Sequence[Any], search: Search, watch: Watch, fits: Any
    ) -> mj.trust.Choice:
        """The choice among these laws, whose fits with the search's delta and residual are there
        already."""
        deltas = self.deltas or ((search.delta,) if search.delta else None)
        residuals = self.residuals or ((search.residual,) if search.residual else None)
        given = {"by": self.by, "deltas": deltas, "residuals": residuals}
        how = {name: value for name, value in given.items() if value}
        with watch.over(len(records) * len(deltas or "1") * len(residuals or "1")) as progress:
            how |= search.given("delta", "residual")
            return mj.trust.choose_law(runs, records, fits=fits, watch=progress, **how)


@command("Fit several laws and compare their errors.")
def compare(
    table: Table,
    search: Search,
    watch: Watch,
    choosing: Choosing,
    laws: tuple[str, ...] = option(
        "Laws to compare.", type=NAMES, default="simple,additive,joint,full", metavar="a,b"
    ),
    eval_where: str | None = options.EVAL_WHERE,
) -> Shown:
    """Fit several laws to RUNS and score each on the fitted rows and on rows it has not seen.

    --choose picks one for all targets, and says why: each law (with each delta and residual) is
    fitted without the largest N, without the largest D, without whole mixtures in 5 folds, and
    without the extreme mixtures; the lowest mean error on what was left out wins, and of those
    within one standard error of it (and a quarter above it at most) the lowest information
    criterion. Rows of --eval-where decide nothing.

    \b
      mixjax compare runs.csv --laws additive,joint --where "split == 'train'"
      mixjax compare runs.csv --where "N < 1e9" --eval-where "N >= 1e9" --choose -o fit.json
    """
    choosing.check()
    records = [files.read_law(law) for law in laws]
    runs = table.read(search.targets)
    held_out = None if eval_where is None else table.read(where=eval_where)
    both = set() if held_out is None else {*runs.rows.tolist()} & {*held_out.rows.tolist()}
    if choosing.choose and both:
        what = f"{len(both)} rows of --eval-where are fitted too"
        raise UserError("--choose", what, "leave them out with --where")
    with watch.over(len(records)) as progress:
        compared = mj.compare(runs, records, held_out, watch=progress, **search.given())
    if not choosing.choose:
        return Shown(compared.to_dict(), f"{compared}\n")
    choice = choosing.of(runs, records, search, watch, tuple(compared.fits.values()))
    if choosing.output is not None:
        choice.fit.save(choosing.output)
    content = {**compared.to_dict(), "choice": choice.to_dict()}
    return Shown(content, f"{compared}\n\n{choice}\n", saved=choosing.output)


@dataclass(frozen=True)
class Candidates:
    """Runs to choose from."""

    size: tuple[tuple[float, float], ...] = option(
        "Parameters and tokens that runs may have; repeatable.",
        type=As(words.scale, "300M:20B", "N:D"),
        multiple=True,
    )
    points: str | None = options.file(
        "POINTS.csv",
        "Mixtures (and N, D) to choose from, e.g. of mixjax design; random ones by default.",
    )
    seed: int = option(
        "Of the random mixtures.  [default: 0]", **SEED, default=0, show_default=False
    )


@command("Which runs to train next.", name="next")
def next_(
    asked: Asked,
    table: Table,
    candidates: Candidates,
    n: int = option("Number of runs.", "--n", type=click.IntRange(min=1), default=1),
    aim: str = options.choice(
        "What they should pin down.",
        ("best-mixture", "regret", "d-optimal"),
        default="best-mixture",
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
    question = asked.question().but(trained=False)  # new runs may go beyond the old ones
    runs = table.read_fitted(question.fit)
    points = candidates.points
    among = None if points is None else files.read_points(points, table.columns)[1]
    how = {"scales": candidates.size or None, "per_flop": per_flop, "seed": candidates.seed}
    what = "best mixture" if aim == "best-mixture" else aim
    chosen = mj.next_runs(question, runs, n, aim=what, among=among, **how)
    if output is not None:
        files.write_table(chosen.frame(), output)
    return show(chosen, output)
