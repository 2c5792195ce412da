"""Options that commands share, as records: a table of runs, a search, a fit, a scale, limits of
mixtures and the question that they make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import click

import mixjax as mj
from mixjax.cli import files, words
from mixjax.cli.config import Lines, Mix, Supply, read_supply
from mixjax.cli.run import Progress, argument, option
from mixjax.cli.words import As
from mixjax.errors import UserError, warn

NAMES = As(words.names, "a,b,c", "a,b,c")
SEED = {"type": click.IntRange(min=0), "metavar": "I"}
LAW = option(
    "A law of the registry, or your own as FILE.py:NAME (the file is run).  [default: by the shape "
    "of the table, joint where it has sizes, D and runs enough]",
    metavar="NAME",
)
LAW_FILE = option(
    "Your own law, for a fit that was made with one.", "--law", metavar="FILE.py:NAME"
)
COLUMNS = option(
    "Columns of another layout, e.g. 'h=weight_{},loss={}_loss,N=params_M*1e6,D=tokens'.",
    type=As(words.columns, "h=weight_{},loss={}_loss,N=params_M*1e6", "WHAT=COLUMN,..."),
)
EVAL_WHERE = option("Rows that no fit sees, e.g. \"split == 'eval'\".", metavar="Q")


def count(example: str) -> As:
    """The type of a positive number."""
    return As(words.count, example)


def choice(help: str, known: Sequence[str], **attributes: Any) -> Any:
    """One word of some."""
    return option(help, type=click.Choice(known), **attributes)


def base(help: str, **attributes: Any) -> Any:
    """The mixture in use."""
    return option(help, "--base", **attributes, role="reads", metavar="FILE|NAME=X,...")


def file(metavar: str, help: str, **attributes: Any) -> Any:
    """A file to read."""
    return option(help, role="reads", metavar=metavar, **attributes)


def output(metavar: str, help: str) -> Any:
    """A file to write."""
    return option(help, "-o", "--output", role="writes", metavar=metavar)


def folder(help: str, **attributes: Any) -> Any:
    """A folder to write files into."""
    return option(help, "-o", "--output", role="fills", metavar="DIR", **attributes)


def pairs(help: str, read: Any, example: str, form: str = "NAME=X,...") -> Any:
    """A repeatable option of pairs."""
    return option(help, type=As(read, example, form), multiple=True, callback=words.together)


def shares(help: str) -> Any:
    """A repeatable option of NAME=SHARE pairs."""
    return pairs(help, words.pairs(words.part), "web=0.5,code=10%")


@dataclass(frozen=True)
class Watch:
    """Whether progress is shown."""

    progress: bool | None = option(
        "Show progress on stderr.  [default: on a terminal]", "--progress/--no-progress"
    )

    def over(self, fits: int = 1) -> Progress:
        """Progress of so many fits, one after another."""
        return Progress(self.progress, fits)


@dataclass(frozen=True)
class Table:
    """Which rows of which files, read by which columns."""

    runs: str = argument("RUNS")
    where: str | None = option("Rows to take, e.g. \"split == 'train' and N < 1e9\".", metavar="Q")
    columns: dict[str, Any] | None = COLUMNS
    join: tuple[str, ...] = file(
        "FILE",
        "A further file whose columns are joined to RUNS; repeatable, with --on.",
        multiple=True,
        default=(),
        show_default=False,
    )
    on: tuple[str, ...] | None = option(
        "The column (a,b: columns) that joined files share.", type=NAMES, metavar="KEY"
    )

    def read(self, targets: Sequence[str] | None = None, where: str | None = None) -> mj.Runs:
        """The runs; where: other rows than --where says."""
        if bool(self.join) != (self.on is not None):
            remedy = "join files with --join FILE --on KEY, KEY being a column of both"
            raise UserError("--on" if self.join else "--join", "is missing", remedy)
        paths = [self.runs, *self.join] if self.join else self.runs
        how = {"columns": self.columns, "on": self.on, "targets": targets}
        runs = mj.read_runs(paths, where=where or self.where, **how)
        mj.fitting.doubts.tell(mj.fitting.doubts.of_units(runs))
        return runs

    def read_fitted(self, fit: mj.Fit) -> mj.Runs:
        """The runs, which must be those that were fitted."""
        runs = self.read()
        missing = next((t for t in fit.targets if t not in runs.targets), None)
        if missing is not None:
            what = f"no losses of target {missing!r}, which the fit has"
            raise UserError(self.runs, what, "name the table that was fitted, with its --where")
        files.warn_other_rows(self.runs, fit, runs)
        return runs


@dataclass(frozen=True)
class Search:
    """What a fit minimises and how long it searches."""

    targets: tuple[str, ...] | None = option(
        "Targets to fit; all by default.", type=NAMES, metavar="a,b"
    )
    starts: int | None = option(
        "Random starts per target.  [default: enough for the laws of the paper]",
        type=click.IntRange(min=1),
        metavar="S",
    )
    hops: int | None = option(
        "Basin hops after a start.  [default: likewise]", type=click.IntRange(min=0), metavar="H"
    )
    delta: float | None = option("Of the Huber loss.  [default: 1e-3]", type=count("1e-3"))
    precision: str | None = choice("Of the search.  [default: float64]", ("float64", "float32"))
    residual: str | None = choice(
        "Residual of the loss or of its logarithm.  [default: loss]", ("loss", "log")
    )
    prior: str | None = choice(
        "Expected of parameters before any run; none: the plain fit.  [default: weak]",
        ("weak", "none"),
    )
    seed: int | None = option("Same seed, same answer on one machine.  [default: 0]", **SEED)

    def given(self, *but: str) -> dict[str, Any]:
        """The options that were given, as keyword arguments of `fit`; but: without these."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in but}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True)
class FitFile:
    """A file with a fit."""

    fit_file: str = argument("FIT.json")
    law_file: str | None = LAW_FILE

    def read(self) -> mj.Fit:
        """The fit."""
        return files.read_fit(self.fit_file, self.law_file)


@dataclass(frozen=True)
class Scale:
    """The run to come."""

    N: float | None = option("Parameters of the network to come.", "-N", type=count("7e9 or 7B"))
    D: float | None = option("Tokens it will be trained on.", "-D", type=count("150e9 or 1.5T"))


@dataclass(frozen=True)
class Limits:
    """Weights of targets, and what shares may be."""

    weights: dict[str, float] | None = pairs(
        "Importance of targets in the objective; all equal by default.",
        words.pairs(words.number),
        "web=1,code=2",
    )
    cap: dict[str, float] | None = shares("Largest share of a domain or group, e.g. wiki=10%.")
    floor: dict[str, float] | None = shares("Smallest share of a domain or group.")
    fix: dict[str, float] | None = shares("Share that a domain or group must have.")
    group: dict[str, tuple[str, ...]] | None = pairs(
        "Domains whose sum --cap, --floor and --fix bound, by this name.",
        words.pairs(words.joined, "NAME=a+b"),
        "web=c4+crawl",
        "NAME=a+b,...",
    )
    tokens: dict[str, float] | None = pairs(
        "Tokens that there are of a domain: none is seen more often than --epochs.",
        words.pairs(words.count),
        "web=600B,wiki=4e9",
    )
    epochs: float | dict[str, float] | None = option(
        "How often tokens may be seen, with --tokens.  [default: 1]",
        type=As(words.number_or_pairs, "4 or web=2,code=1", "X|NAME=X,..."),
    )
    supply: str | None = file(
        "FILE.yaml", "A file of tokens, epochs, caps, floors and groups; options go before it."
    )

    extrapolate: bool = option(
        "Let shares go beyond those of the fitted rows.",
        is_flag=True,
        default=False,
        show_default=False,
    )

    def asked(
        self, domains: Sequence[str], targets: Sequence[str], scale: Scale | None = None
    ) -> dict[str, Any]:
        """Keyword arguments of a `Question` about a fit of these domains and targets."""
        N, D = (None, None) if scale is None else (scale.N, scale.D)
        supply = (self.tokens, self.epochs, self.cap, self.floor, self.group)
        rest = {"N": N, "D": D, "weights": self.weights, "fixed": self.fix}
        beyond = "true" if self.extrapolate else "false"
        own = Mix(*supply, _Options(), **rest, extrapolate=beyond)
        stock = Supply() if self.supply is None else read_supply(self.supply)
        asked = own.question(stock)
        groups = asked.get("groups", {})
        own.check_names(domains, groups, targets)
        stock.check_names(domains, groups)
        if self.epochs is not None and "tokens" not in asked:
            remedy = "say how many tokens there are, e.g. --tokens wikipedia=4e9"
            raise UserError("--epochs", "needs --tokens", remedy)
        mj.mixture.limits.check_groups(groups, domains)
        self._check_groups(asked)
        return asked

    def question(self, fit: mj.Fit, scale: Scale | None = None) -> mj.mixture.Question:
        """The question about a fit; doubts about the fit and the scale are told."""
        question = mj.mixture.Question(fit, **self.asked(fit.domains, fit.targets, scale))
        mj.fitting.doubts.tell(mj.fitting.doubts.of_unread(fit, question.N))
        mj.fitting.doubts.warn_scale(fit, question.N, question.D, question.weighed)
        return question

    def _check_groups(self, asked: Mapping[str, Any]) -> None:
        """Refuse a group that bounds nothing."""
        limited = {name for side in ("caps", "floors", "fixed") for name in asked.get(side) or ()}
        idle = next((name for name in self.group or {} if name not in limited), None)
        if idle is not None:
            what = f"{idle!r} has neither --cap, --floor nor --fix, and so changes nothing"
            raise UserError("--group", what, f"write for example --cap {idle}=0.5")


class _Options(Lines):
    """Where limits stand that are options."""

    def place(self, *keys: str) -> str:
        """The option of the last of these keys."""
        options = {"caps": "--cap", "floors": "--floor", "fixed": "--fix"}
        return options.get(keys[-1], f"--{keys[-1]}")


@dataclass(frozen=True)
class Asked:
    """A question about the mixtures of a fit."""

    file: FitFile
    scale: Scale
    limits: Limits

    def question(self, fit: mj.Fit | None = None) -> mj.mixture.Question:
        """The question; fit: where the file was read already."""
        return self.limits.question(fit or self.file.read(), self.scale)


def around(question: mj.mixture.Question, base: Mapping[str, float]) -> mj.mixture.Question:
    """The question, about mixtures near one in use: where that has shares beyond those of the
    fitted rows, others may."""
    h = question.array(base)
    beyond = [
        name
        for side, sign in zip(question.trained_limits, (1, -1), strict=True)
        for name, share in side.items()
        if sign * (share - h[question.domains.index(name)]) > 1e-9
    ]
    if not beyond:
        return question
    what = f"has shares of {', '.join(beyond)} beyond those of the fitted rows"
    warn("--base", what, "others may go beyond them too; train runs near it to know more")
    return question.but(trained=False)


def start(question: mj.mixture.Question, base: str, runs: str | None) -> mj.mixture.Start:
    """Where a move begins; runs: the table of the fitted runs, for the distance to their
    mixtures."""
    weights = files.read_mixture(base, question.domains)
    trained = None if runs is None else Table(runs).read().reordered(question.domains).h
    return mj.mixture.Start(weights, question.tokens, trained)
