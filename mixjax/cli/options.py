"""Words of the command line -> plain values: counts, names, domain=number pairs, columns, and
options that commands share."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

import click

from mixjax.errors import UserError

if TYPE_CHECKING:
    from mixjax.fitting.record import Fit

Command = Callable[..., Any]


class Count(click.ParamType):
    """A positive number such as 7e9, or what the option has for an example."""

    name = "count"

    def __init__(self, example: str = "7e9") -> None:
        self.example = example

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The number, or click's complaint about the option."""
        try:
            count = float(value)
        except ValueError:
            count = math.nan
        if not (math.isfinite(count) and count > 0):
            self.fail(
                f"{value!r} is not a positive number; write for example {self.example}", param, ctx
            )
        return count


class Names(click.ParamType):
    """a,b,c: distinct names."""

    name = "names"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """The values, or click's complaint about the option."""
        if isinstance(value, tuple):
            return value
        names = tuple(name.strip() for name in str(value).split(","))
        if not all(names):
            self.fail(f"{value!r} has an empty name; write a,b,c", param, ctx)
        repeated = next((n for n in names if names.count(n) > 1), None)
        if repeated is not None:
            self.fail(f"{repeated!r} is named twice; name each once", param, ctx)
        return names


class Pairs(click.ParamType):
    """a=1,b=2: one number for each name."""

    name = "name=number"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[tuple[str, float], ...]:
        """The values, or click's complaint about the option."""
        if isinstance(value, tuple):
            return value
        pairs = []
        for part in str(value).split(","):
            name, equals, text = part.rpartition("=")
            try:
                number = float(text)
            except ValueError:
                number = math.nan
            if not (equals and name.strip() and math.isfinite(number)):
                self.fail(
                    (
                        f"{part.strip()!r} is not NAME=NUMBER; write for example "
                        f"{param.opts[-1] if param else ''} web=0.5,code=0.1"
                    ),
                    param,
                    ctx,
                )
            pairs.append((name.strip(), number))
        return tuple(pairs)


class Words(click.ParamType):
    """a=text,b=text: one text for each name."""

    name = "name=text"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[tuple[str, str], ...]:
        """The values, or click's complaint about the option."""
        if isinstance(value, tuple):
            return value
        pairs = []
        for part in str(value).split(","):
            name, equals, text = (word.strip() for word in part.partition("="))
            if not (name and equals and text):
                self.fail(f"{part.strip()!r} is not NAME=TEXT", param, ctx)
            pairs.append((name, text))
        return tuple(pairs)


def joined(
    ctx: click.Context, param: click.Parameter, value: tuple[tuple[tuple[str, Any], ...], ...]
) -> dict[str, Any] | None:
    """Callback of a repeatable `Pairs` or `Words` option: one dict, None where the option was not
    given."""
    pairs = [pair for given in value for pair in given]
    names = [name for name, _ in pairs]
    repeated = next((n for n in names if names.count(n) > 1), None)
    if repeated is not None:
        raise click.BadParameter(f"{repeated!r} is given twice; give each name once", ctx, param)
    return dict(pairs) or None


def pairs_option(*names: str, help: str) -> Callable[[Command], Command]:
    """A repeatable option of name=number pairs."""
    return click.option(
        *names, type=Pairs(), multiple=True, callback=joined, metavar="NAME=X,...", help=help
    )


def words_option(*names: str, metavar: str, help: str) -> Callable[[Command], Command]:
    """A repeatable option of name=text pairs."""
    return click.option(
        *names, type=Words(), multiple=True, callback=joined, metavar=metavar, help=help
    )


json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object on stdout and nothing else."
)
cache_option = click.option(
    "--cache/--no-cache",
    default=True,
    help="Keep compiled programs for next time (or MIXJAX_CACHE=FOLDER, off).  [default: cache]",
)
progress_option = click.option(
    "--progress/--no-progress",
    default=None,
    help="Show progress on stderr.  [default: on a terminal]",
)
law_file_option = click.option(
    "--law",
    "law_file",
    metavar="FILE.py:NAME",
    help="Your own law, for a fit that was made with one.",
)


class Columns(click.ParamType):
    """h=weight_{},loss={}_loss,N=model_size: names of columns in another layout."""

    name = "columns"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> dict[str, Any]:
        """The values, or click's complaint about the option."""
        if isinstance(value, dict):
            return value
        from mixjax.cli.config import number_or_word

        columns: dict[str, Any] = {}
        for part in str(value).split(","):
            what, equals, column = (word.strip() for word in part.partition("="))
            if not (what and equals and column):
                self.fail(
                    (
                        f"{part.strip()!r} is not WHAT=COLUMN; write for example "
                        f"h=weight_{{}},loss={{}}_loss,N=model_size,D=n_tokens"
                    ),
                    param,
                    ctx,
                )
            if what in columns:
                self.fail(f"{what!r} is given twice; give it once", param, ctx)
            columns[what] = number_or_word(column) if what in ("N", "D") else column
        return columns


def _gathered(
    into: str, decorators: Mapping[str, Callable[[Command], Command]]
) -> Callable[[Command], Command]:
    """Several options that reach the command as one dict, `into`, of those that were given."""

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def gathered(**given: Any) -> Any:
            chosen = {name: given.pop(name) for name in decorators}
            return command(
                **given,
                **{into: {name: value for name, value in chosen.items() if value is not None}},
            )

        decorated: Command = gathered
        for decorator in reversed(list(decorators.values())):
            decorated = decorator(decorated)
        return decorated

    return decorate


columns_option = click.option(
    "--columns",
    type=Columns(),
    metavar="WHAT=COLUMN,...",
    help="Columns of another layout, e.g. 'h=weight_{},loss={}_loss,N=model_size,D=n_tokens'.",
)
law_option = click.option(
    "--law",
    default="joint",
    show_default=True,
    metavar="NAME",
    help="A law of the registry, or your own as FILE.py:NAME (the file is run).",
)
runs_arguments = _gathered(
    "table",
    {
        "runs": click.argument("runs", metavar="RUNS"),
        "where": click.option(
            "--where", metavar="Q", help="Rows to take, e.g. \"split == 'train' and N < 1e9\"."
        ),
        "columns": columns_option,
        "join": click.option(
            "--join",
            metavar="FILE",
            multiple=True,
            help="A further file whose columns are joined to RUNS; repeatable, with --on.",
        ),
        "on": click.option(
            "--on",
            type=Names(),
            metavar="KEY",
            help="The column (a,b: columns) that joined files share.",
        ),
    },
)
_search = _gathered(
    "search",
    {
        "targets": click.option(
            "--targets", type=Names(), metavar="a,b", help="Targets to fit; all by default."
        ),
        "starts": click.option(
            "--starts",
            type=click.IntRange(min=1),
            metavar="S",
            help="Random starts per target.  [default: enough for the laws of the paper]",
        ),
        "hops": click.option(
            "--hops",
            type=click.IntRange(min=0),
            metavar="H",
            help="Basin hops after a start.  [default: likewise]",
        ),
        "delta": click.option(
            "--delta", type=Count("1e-3"), metavar="X", help="Of the Huber loss.  [default: 1e-3]"
        ),
        "precision": click.option(
            "--precision",
            type=click.Choice(["float64", "float32"]),
            help="Of the search.  [default: float64]",
        ),
        "residual": click.option(
            "--residual",
            type=click.Choice(["loss", "log"]),
            help="Residual of the loss or of its logarithm.  [default: loss]",
        ),
        "seed": click.option(
            "--seed",
            type=click.IntRange(min=0),
            metavar="I",
            help="Same seed, same answer on one machine.  [default: 0]",
        ),
    },
)


scale_options = _gathered(
    "scale",
    {
        "N": click.option(
            "-N", "N", type=Count(), help="Parameters of the network to be trained, e.g. 7e9."
        ),
        "D": click.option(
            "-D", "D", type=Count("150e9"), help="Tokens it will be trained on, e.g. 150e9."
        ),
    },
)
how_options = _gathered(
    "how",
    {
        "figure": click.option("--figure", metavar="FILE.png", help="Draw the result too."),
        "law_file": law_file_option,
        "cache": cache_option,
        "as_json": json_option,
    },
)
export_options = _gathered(
    "export",
    {
        "form": click.option(
            "--export",
            "form",
            metavar="FORM",
            help=(
                "Print the mixture as a file of this form: json, yaml, csv, megatron, "
                "olmo-core, levanter, mosaic, huggingface."
            ),
        ),
        "output": click.option(
            "-o", "--output", metavar="FILE", help="Where to write the export; stdout without it."
        ),
        "paths": words_option(
            "--path",
            "paths",
            metavar="NAME=PATH,...",
            help="Where the data of a domain lie, for exports.",
        ),
    },
)
kind_options = _gathered(
    "kind",
    {
        "worst": click.option(
            "--worst",
            is_flag=True,
            default=None,
            help="Make the largest excess of a target over its own best loss least, by weight.",
        ),
        "limit": words_option(
            "--limit",
            metavar="TARGET=1%,...",
            help="Largest loss of a target: so far above its own best, or a number.",
        ),
        "relative_to": click.option(
            "--relative-to",
            metavar="MIXTURE.yaml",
            help="Percents of --worst and --limit are of this mixture's losses.",
        ),
        "prior": click.option(
            "--prior", metavar="MIXTURE.yaml", help="A mixture to stay near; with --pull."
        ),
        "pull": click.option(
            "--pull",
            type=float,
            metavar="X",
            help="What a nat of divergence from --prior costs, in the unit of the objective.",
        ),
        "most_domains": click.option(
            "--most-domains",
            type=click.IntRange(min=1),
            metavar="M",
            help="Use at most so many domains.",
        ),
    },
)
goal_options = _gathered(
    "goal",
    {
        "weights": pairs_option(
            "--weights", help="Importance of targets in the objective; all equal by default."
        ),
        "cap": pairs_option("--cap", help="Largest weight of a domain."),
        "floor": pairs_option("--floor", help="Smallest weight of a domain."),
        "tokens": pairs_option(
            "--tokens",
            help="Tokens that there are of a domain: caps its weight at tokens * epochs / D.",
        ),
        "epochs": click.option(
            "--epochs",
            type=Count("4"),
            metavar="X",
            help="How often tokens may be seen, with --tokens.  [default: 1]",
        ),
    },
)


def problem(
    fitted: Fit, scale: Mapping[str, float], goal: Mapping[str, Any], groups: Collection[str] = ()
) -> dict[str, Any]:
    """Scale and goal as the keyword arguments of `optimal_mixture`: N, D, weights, caps, floors;
    groups: names that limits may be on too."""
    from mixjax.mixture.limits import caps_from_tokens

    check_known(goal, fitted, groups)

    if "epochs" in goal and "tokens" not in goal:
        raise UserError(
            "--epochs",
            "needs --tokens",
            "say how many tokens there are, e.g. --tokens wikipedia=4e9",
        )
    caps = caps_from_tokens(
        goal.get("tokens"), scale.get("D"), fitted.domains, goal.get("epochs", 1.0), goal.get("cap")
    )
    return {
        "N": scale.get("N"),
        "D": scale.get("D"),
        "weights": goal.get("weights"),
        "caps": caps or None,
        "floors": goal.get("floor"),
    }


def check_known(given: Mapping[str, Any], fitted: Fit, groups: Collection[str] = ()) -> None:
    """Refuse a name in an option that is none of the fit's, and offer the nearest."""
    from mixjax.errors import check_names

    bounded = (*fitted.domains, *groups)
    for name in ("cap", "floor", "fix"):
        check_names(
            given.get(name) or {}, bounded, f"--{name}", "domain or group" if groups else "domain"
        )
    for name in ("tokens", "path"):
        check_names(given.get(name) or {}, fitted.domains, f"--{name}", "domain")
    for name in ("weights", "limit", "improve"):
        check_names(given.get(name) or {}, fitted.targets, f"--{name}", "target")


def search_options(command: Command) -> Command:
    """The options of a fit, as `search`, and --progress and --cache."""
    return _search(progress_option(cache_option(command)))
