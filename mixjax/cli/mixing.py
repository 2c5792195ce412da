"""Commands that find mixtures: mix, pareto."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from mixjax.cli import options
from mixjax.cli.deciding import ask, show
from mixjax.errors import UserError, warn

if TYPE_CHECKING:
    from mixjax.fitting.record import Fit
    from mixjax.mixture.balance import Balanced, Limited
    from mixjax.mixture.few import Fewer
    from mixjax.mixture.question import Question

_fit_argument = click.argument("fit_file", metavar="FIT.json")
_PERCENT = "%"


@click.command(short_help="The best mixture at a scale.")
@_fit_argument
@options.scale_options
@options.goal_options
@options.words_option(
    "--group",
    "groups",
    metavar="NAME=a+b,...",
    help="Domains whose shares --cap, --floor and --fix then bound together, by this name.",
)
@options.pairs_option("--fix", help="Share that a domain or group must have.")
@options.kind_options
@options.export_options
@options.law_file_option
@options.cache_option
@options.json_option
def mix(
    fit_file: str,
    groups: dict[str, str] | None,
    fix: dict[str, float] | None,
    law_file: str | None,
    cache: bool,
    as_json: bool,
    scale: Mapping[str, float],
    goal: Mapping[str, Any],
    kind: Mapping[str, Any],
    export: Mapping[str, Any],
) -> None:
    """Find the domain weights that minimise the predicted loss at N parameters and D tokens.

    The gap bounds how much better any other mixture could be, by the same law. --group names
    domains whose sum is bounded, --fix a share that must be; --tokens and --epochs cap a domain by
    what there is of it. Where limits bind, the optimum without them and the price of each are shown
    too. --export writes the mixture for a training stack.

    One of these changes what is asked for: --worst makes the worst target as good as can be;
    --limit keeps losses of targets within limits; --prior with --pull stays near a mixture;
    --most-domains uses few domains.

    \b
      mixjax mix fit.json -N 7e9 -D 150e9 --weights web=1,code=2 --cap wiki=0.05
      mixjax mix fit.json -N 7e9 -D 150e9 --group web=c4+crawl --cap web=0.6 --fix books=0.05
      mixjax mix fit.json -N 7e9 -D 150e9 --tokens wiki=4e9 --epochs 4 --export megatron --path
      web=/data/web_text -o blend.txt mixjax mix fit.json -N 7e9 -D 150e9 --weights web=1 --limit
      code=1%,maths=2.3
    """
    from mixjax.cli import files
    from mixjax.cli.runtime import use_cache
    from mixjax.fitting.doubts import warn_scale, warn_shares
    from mixjax.mixture.limits import check_groups, epochs_of
    from mixjax.mixture.margin import price_limits
    from mixjax.mixture.optimum import optimal_mixture
    from mixjax.mixture.question import Question
    from mixjax.report.export import NEED_PATHS, export_mixture
    from mixjax.text import write_whole

    _check_kind(kind)
    _check_export(export, fit_file)
    if as_json and "form" in export and "output" not in export:
        raise UserError(
            "--export",
            "does not go with --json on stdout",
            "write the export to a file with -o, or leave one of them out",
        )
    fitted = files.read_fit(fit_file, law_file)
    named = {name: _plus(text) for name, text in (groups or {}).items()}
    problem = options.problem(fitted, scale, goal, named)
    options.check_known(
        {"fix": fix, "limit": kind.get("limit"), "path": export.get("paths")}, fitted, named
    )
    check_groups(named, fitted.domains)
    idle = next(
        (
            name
            for name in named
            if not any(name in (given or {}) for given in (goal.get("cap"), goal.get("floor"), fix))
        ),
        None,
    )
    if idle is not None:
        raise UserError(
            "--group",
            f"{idle!r} has neither --cap, --floor nor --fix, and so changes nothing",
            f"write for example --cap {idle}=0.5",
        )
    use_cache(cache)
    asked = Question(fitted, **problem, groups=named, fixed=fix, pull=_pull(fitted, kind))
    if {"worst", "limit", "most_domains"} & kind.keys():
        best = _of_kind(asked, kind)
        content, text = best.to_dict(), str(best)
        weights = content["weights"]
        warn_scale(fitted, asked.N, asked.D, asked.weighed)
        warn_shares(fitted, weights)
    else:
        best = optimal_mixture(asked)
        content, text, weights = best.to_dict(), str(best), best.weights
        if best.bound and "prior" not in kind:
            limits = price_limits(asked)
            content |= {
                "unconstrained": limits.free.to_dict(),
                "cost": limits.cost,
                "prices": limits.prices,
            }
            text += f"\n\nwithout limits, and what they cost:\n{limits}"
    exported = (
        export_mixture(
            weights, export["form"], asked.D, export.get("paths"), max(1.0, goal.get("epochs", 1.0))
        )
        if "form" in export
        else None
    )
    unnamed = (
        [d for d, w in weights.items() if w > 0 and d not in export.get("paths", {})]
        if export.get("form") in NEED_PATHS
        else []
    )
    if unnamed:
        warn(
            "--export",
            f"no --path of {', '.join(unnamed)}: their names stand for their data",
            f"write --path {unnamed[0]}=PATH",
        )
    if exported is not None and "output" in export:
        write_whole(export["output"], exported)
        files.say_saved(export["output"])
    epochs = epochs_of(weights, goal.get("tokens"), asked.D)
    if as_json:
        files.print_json(content | ({"epochs": epochs} if epochs else {}))
    elif exported is not None and "output" not in export:
        click.echo(exported, nl=False)
    else:
        click.echo(
            "\n".join(
                [
                    text,
                    *(
                        f"{domain}: {passes:.3g} epochs of its tokens"
                        for domain, passes in epochs.items()
                    ),
                ]
            )
        )


@click.command(short_help="What one group of targets costs another.")
@_fit_argument
@options.words_option(
    "--between", metavar="NAME=a+b,...", help="Two or three groups of targets, by name."
)
@click.option(
    "--mixtures", metavar="MIXTURES.yaml", help="Your own mixtures, to be shown beside the front."
)
@options.scale_options
@options.goal_options
@options.how_options
def pareto(
    fit_file: str,
    between: dict[str, str] | None,
    mixtures: str | None,
    scale: Mapping[str, float],
    goal: Mapping[str, Any],
    how: Mapping[str, Any],
) -> None:
    """The mixtures between which groups of targets can only be traded, and the knee of that front.

    Each is the optimum of one weighting of the groups' mean losses. --weights are those of targets
    within their groups.

    \b
      mixjax pareto fit.json -N 7e9 -D 150e9 --between code=github+stackexchange,text=c4+book
      --mixtures base.yaml
    """
    from mixjax.cli.mixtures import check_mixtures, read_mixtures
    from mixjax.mixture.front import pareto_front
    from mixjax.report.figures import front_figure

    if between is None:
        raise UserError(
            "--between",
            "is missing",
            "name two or three groups of targets, e.g. --between code=github,text=c4+book",
        )
    own = {} if mixtures is None else read_mixtures(mixtures)
    groups = {name: _plus(text) for name, text in between.items()}
    asked = ask(fit_file, how, goal, scale)
    check_mixtures(asked.fit, mixtures, own)
    show(pareto_front(asked, groups, own), how, front_figure)


# --- What mix is asked for -----------------------------------------------------------------------


def _check_kind(kind: Mapping[str, Any]) -> None:
    """Refuse options that do not go together."""
    words = {
        "worst": "--worst",
        "limit": "--limit",
        "most_domains": "--most-domains",
        "prior": "--prior",
    }
    asked = [word for name, word in words.items() if name in kind]
    if len(asked) > 1:
        raise UserError(asked[1], f"does not go with {asked[0]}", "choose one of them")
    if ("prior" in kind) != ("pull" in kind):
        there, missing = ("--prior", "--pull") if "prior" in kind else ("--pull", "--prior")
        raise UserError(
            there,
            f"needs {missing}",
            "give a mixture and a strength, e.g. --prior base.yaml --pull 0.01",
        )
    if "relative_to" in kind and not {"worst", "limit"} & kind.keys():
        raise UserError(
            "--relative-to",
            "needs --worst or --limit",
            "leave it out, or say what is relative to it",
        )


def _check_export(export: Mapping[str, Any], fit_file: str) -> None:
    from mixjax.cli import files
    from mixjax.report.export import FORMS

    if "form" not in export and ("output" in export or "paths" in export):
        raise UserError(
            "--output" if "output" in export else "--path",
            "needs --export",
            f"choose from {', '.join(FORMS)}",
        )
    if "form" in export and export["form"] not in FORMS:
        raise UserError(
            "--export", f"no form {export['form']!r}", f"choose from {', '.join(FORMS)}"
        )
    files.check_output(export.get("output"), (fit_file,))


def _of_kind(goal: Question, kind: Mapping[str, Any]) -> Balanced | Limited | Fewer:
    from mixjax.mixture.balance import limited_mixture, worst_target
    from mixjax.mixture.few import at_most_domains

    if "most_domains" in kind:
        return at_most_domains(goal, kind["most_domains"])
    references = _references(goal, kind)
    if "worst" in kind:
        return worst_target(goal, references)
    above, at_most = _limits(kind["limit"])
    return limited_mixture(goal, above, at_most, references)


def _references(goal: Question, kind: Mapping[str, Any]) -> dict[str, float] | None:
    """Losses of the mixture that --relative-to names."""
    from mixjax.cli.mixtures import mixture_for

    if "relative_to" not in kind:
        return None
    return {
        t: float(x)
        for t, x in goal.losses(goal.array(mixture_for(goal.fit, kind["relative_to"]))).items()
    }


def _pull(fitted: Fit, kind: Mapping[str, Any]) -> Any:
    from mixjax.cli.mixtures import mixture_for
    from mixjax.mixture.question import Pull

    return Pull(mixture_for(fitted, kind["prior"]), kind["pull"]) if "prior" in kind else None


def _limits(given: Mapping[str, str]) -> tuple[dict[str, float], dict[str, float]]:
    """Limits above a reference, relatively, and limits that are losses."""
    above, at_most = {}, {}
    for target, text in given.items():
        try:
            number = float(text.removesuffix(_PERCENT))
        except ValueError:
            raise UserError(
                "--limit",
                f"{target}={text} is no limit",
                f"write {target}=1% for 1 percent above its best, or {target}=2.3 for a loss",
            ) from None
        if text.endswith(_PERCENT):
            above[target] = number / 100.0
        else:
            at_most[target] = number
    return above, at_most


def _plus(text: str) -> list[str]:
    """a+b as names."""
    return [name.strip() for name in text.split("+")]
