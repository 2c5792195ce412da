"""Commands that turn a fit into a decision: judge, flat, value, budget, move, robust."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from mixjax.cli import options
from mixjax.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mixjax.fitting.record import Fit
    from mixjax.mixture.question import Question

_fit_argument = click.argument("fit_file", metavar="FIT.json")


def ask(
    fit_file: str,
    how: Mapping[str, Any],
    goal: Mapping[str, Any],
    scale: Mapping[str, float] | None = None,
) -> Question:
    """The goal that the options of a command describe; the figure's file is checked before any
    work, doubts about the fit and the scale are told."""
    from mixjax.cli import files
    from mixjax.cli.runtime import use_cache
    from mixjax.fitting.doubts import warn_scale
    from mixjax.mixture.question import Question

    check_figure(how.get("figure"), fit_file)
    fitted = files.read_fit(fit_file, how.get("law_file"))
    asked = Question(fitted, **options.problem(fitted, scale or {}, goal))
    warn_scale(fitted, asked.N, asked.D, asked.weighed)
    use_cache(how["cache"])
    return asked


def check_figure(path: str | None, *inputs: str) -> None:
    """Refuse, before any work, a figure that cannot be written."""
    from mixjax.cli import files

    if path is not None and not path.endswith(".png"):
        raise UserError(
            "--figure", f"{path!r} is not named as a PNG", "name a file that ends in .png"
        )
    files.check_output(path, inputs)


def show(
    found: Any,
    how: Mapping[str, Any],
    draw: Callable[[Any], Figure],
    fit: Fit | None = None,
    weights: Mapping[str, float] | None = None,
) -> None:
    """Print a result as a table or as JSON, and draw its figure where one is wanted; weights: of
    the mixture that it recommends, of this fit."""
    from mixjax.cli import files
    from mixjax.drawing.style import save
    from mixjax.fitting.doubts import warn_shares

    if fit is not None and weights is not None:
        warn_shares(fit, weights)
    if how.get("figure") is not None:
        save(draw(found), how["figure"])
    if how["as_json"]:
        files.print_json(found.to_dict())
    else:
        click.echo(str(found))


@click.command(short_help="Your own mixtures beside the optimum.")
@_fit_argument
@click.argument("mixtures", metavar="MIXTURES.yaml")
@options.scale_options
@options.goal_options
@options.how_options
def judge(
    fit_file: str,
    mixtures: str,
    scale: Mapping[str, float],
    goal: Mapping[str, Any],
    how: Mapping[str, Any],
) -> None:
    """Predict the losses of your own mixtures at the scale to come, beside the optimum and equal
    shares.

    MIXTURES.yaml holds DOMAIN: SHARE lines, or NAME: {DOMAIN: SHARE, ...} for several; shares are
    scaled to sum to 1. Tokens (parameters) needed: how many times those of the run a mixture would
    need for the loss that the optimum has.

    \b
      mixjax judge fit.json mixtures.yaml -N 7e9 -D 150e9
    """
    from mixjax.cli.mixtures import check_mixtures, read_mixtures
    from mixjax.mixture.judge import compare_mixtures
    from mixjax.report.figures import compare_figure

    own = read_mixtures(mixtures)
    asked = ask(fit_file, how, goal, scale)
    check_mixtures(asked.fit, mixtures, own)
    found = compare_mixtures(asked, own)
    show(found, how, compare_figure, asked.fit, found.mixtures["optimum"].weights)


@click.command(short_help="How far each share may go from the optimum.")
@_fit_argument
@click.option(
    "--eps",
    type=options.Count("0.001"),
    default=0.001,
    show_default=True,
    help="Loss that may be given up, relative: 0.001 is 0.1 percent.",
)
@options.scale_options
@options.goal_options
@options.how_options
def flat(
    fit_file: str,
    eps: float,
    scale: Mapping[str, float],
    goal: Mapping[str, Any],
    how: Mapping[str, Any],
) -> None:
    """For each domain the interval of shares that keeps the objective within eps of the optimum.

    Inside it supply and quality may decide. The other shares are at their best for each end.

    \b
      mixjax flat fit.json -N 7e9 -D 150e9 --eps 0.001
    """
    from mixjax.mixture.flat import flat_region
    from mixjax.report.figures import region_figure

    asked = ask(fit_file, how, goal, scale)
    found = flat_region(asked, eps)
    show(
        found,
        how,
        region_figure,
        asked.fit,
        {d: interval.best for d, interval in found.intervals.items()},
    )


@click.command(short_help="What more tokens of a domain, or a looser limit, would bring.")
@_fit_argument
@click.option(
    "--at", "at", metavar="MIXTURE.yaml", help="The mixture to start from; the optimum by default."
)
@options.scale_options
@options.goal_options
@options.how_options
def value(
    fit_file: str,
    at: str | None,
    scale: Mapping[str, float],
    goal: Mapping[str, Any],
    how: Mapping[str, Any],
) -> None:
    """Marginal value of the tokens of each domain, and the price of each cap and floor that binds.

    With caps or floors the optimum without them is shown beside the feasible one.

    \b
      mixjax value fit.json -N 7e9 -D 150e9 --tokens wikipedia=4e9 --epochs 4
    """
    from mixjax.cli import files
    from mixjax.cli.mixtures import check_mixtures, read_mixture
    from mixjax.fitting.doubts import warn_shares
    from mixjax.mixture.margin import marginal_values, price_limits

    weights = None if at is None else read_mixture(at)
    if "figure" in how:
        raise UserError("--figure", "this command draws none", "leave it out")
    asked = ask(fit_file, how, goal, scale)
    check_mixtures(asked.fit, at, {} if weights is None else {"at": weights})
    margins = marginal_values(asked, weights)
    warn_shares(asked.fit, margins.weights)
    limits = price_limits(asked) if asked.caps or asked.floors else None
    if how["as_json"]:
        files.print_json(
            margins.to_dict() | ({} if limits is None else {"limits": limits.to_dict()})
        )
    else:
        click.echo(margins if limits is None else f"{margins}\n\n{limits}")


@click.command(short_help="Model size, tokens and mixture for a compute budget.")
@_fit_argument
@click.option(
    "--flops", type=options.Count("1e22"), required=True, help="Training compute, 6 N D, e.g. 1e22."
)
@options.goal_options
@options.how_options
def budget(fit_file: str, flops: float, goal: Mapping[str, Any], how: Mapping[str, Any]) -> None:
    """The parameters N, tokens D and mixture of least objective with 6 N D FLOPs.

    With --tokens and --epochs the caps move with D.

    \b
      mixjax budget fit.json --flops 1e22
    """
    from mixjax.fitting.doubts import warn_scale
    from mixjax.mixture.budget import compute_optimal
    from mixjax.report.figures import budget_figure

    supply = {name: goal[name] for name in ("tokens", "epochs") if name in goal}
    if "epochs" in supply and "tokens" not in supply:
        raise UserError(
            "--epochs",
            "needs --tokens",
            "say how many tokens there are, e.g. --tokens wikipedia=4e9",
        )
    asked = ask(fit_file, how, {name: x for name, x in goal.items() if name not in supply})
    found = compute_optimal(asked.but(**supply), flops)
    warn_scale(asked.fit, found.mixture.N, found.mixture.D, {})
    show(found, how, budget_figure, asked.fit, found.mixture.weights)


@click.command(short_help="Steps from the mixture in use towards the optimum.")
@_fit_argument
@click.option("--base", required=True, metavar="MIXTURE.yaml", help="The mixture in use.")
@click.option(
    "--steps",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="Number of trust regions.",
)
@click.option(
    "--region",
    type=click.Choice(["kl", "l1"]),
    default="kl",
    show_default=True,
    help="Distance that grows: Kullback-Leibler, or the share of tokens that changes domain.",
)
@options.pairs_option(
    "--improve",
    help=(
        "Instead: the smallest move that lowers these targets' losses by so much, relative: "
        "code=0.02."
    ),
)
@click.option(
    "--runs",
    metavar="RUNS",
    help="Table of the fitted runs: adds the distance to the hull of their mixtures.",
)
@options.scale_options
@options.goal_options
@options.how_options
def move(
    fit_file: str,
    base: str,
    improve: dict[str, float] | None,
    runs: str | None,
    scale: Mapping[str, float],
    goal: Mapping[str, Any],
    how: Mapping[str, Any],
    **path: Any,
) -> None:
    """The best mixtures within a growing distance of the mixture in use, and the knee of what they
    gain.

    \b
      mixjax move fit.json -N 7e9 -D 150e9 --base base.yaml --runs runs.csv
      mixjax move fit.json -N 7e9 -D 150e9 --base base.yaml --improve code=0.02,web=0
    """
    from mixjax.cli.mixtures import check_mixtures, read_mixture
    from mixjax.mixture.move import Start, smallest_move, trust_path
    from mixjax.report.figures import moves_figure

    weights = read_mixture(base)
    if improve is not None and "figure" in how:
        raise UserError("--figure", "one move has none", "leave out --figure or --improve")
    asked = ask(fit_file, how, goal, scale)
    start = Start(weights, goal.get("tokens"), None if runs is None else trained(runs, asked))
    check_mixtures(asked.fit, base, {"base": weights})
    options.check_known({"improve": improve}, asked.fit)
    show(
        trust_path(asked, start, **path)
        if improve is None
        else smallest_move(asked, start, improve),
        how,
        moves_figure,
    )


def trained(path: str, goal: Question) -> Any:
    """The distinct mixtures (runs, k) of a table, in the order of the fit's domains."""
    import numpy as np

    from mixjax.cli import files

    return np.unique(files.read_table({"runs": path}).reordered(goal.fit.domains).h, axis=0)


@click.command(short_help="A mixture that many fits agree on.")
@click.argument("fit_files", metavar="FIT.json...", nargs=-1, required=True)
@click.option(
    "--level",
    type=float,
    default=0.0,
    show_default=True,
    help="0: least mean regret; 0.9: least mean of the worst tenth of the regrets.",
)
@click.option(
    "--mixtures", metavar="MIXTURES.yaml", help="Your own mixtures, to be judged beside it."
)
@options.scale_options
@options.goal_options
@options.how_options
def robust(
    fit_files: tuple[str, ...],
    level: float,
    mixtures: str | None,
    scale: Mapping[str, float],
    goal: Mapping[str, Any],
    how: Mapping[str, Any],
) -> None:
    """The mixture whose regrets over several fits (resamples, other laws, other minima) are least.

    The regret of a mixture under a fit is its objective above that of the fit's own optimum,
    relatively.

    \b
      mixjax robust joint.json additive.json -N 7e9 -D 150e9 --level 0.9
    """
    from mixjax.cli import files
    from mixjax.cli.mixtures import check_mixtures, read_mixtures
    from mixjax.mixture.robust import robust_mixture
    from mixjax.report.figures import robust_figure

    if len(fit_files) < 2:
        raise UserError(
            "robust",
            "one fit has no other to disagree with",
            "name two or more: fits of other laws, of parts of the runs, or of other seeds",
        )
    others = {} if mixtures is None else read_mixtures(mixtures)
    asked = ask(fit_files[0], how, goal, scale)
    fits = [asked.fit, *(files.read_fit(path, how.get("law_file")) for path in fit_files[1:])]
    check_mixtures(asked.fit, mixtures, others)
    found = robust_mixture(asked, fits, level, others)
    show(found, how, robust_figure, asked.fit, found.mixtures["robust"].weights)
