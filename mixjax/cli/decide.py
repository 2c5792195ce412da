"""Commands that turn a fit into a decision: mix, judge, flat, move, value, budget, robust and
pareto."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import click

import mixjax as mj
from mixjax.cli import files, options, words
from mixjax.cli.options import Asked, FitFile, Limits, Scale
from mixjax.cli.run import Shown, argument, command, option, show
from mixjax.cli.words import As
from mixjax.errors import UserError, check_names, warn
from mixjax.text import write_whole

# Limits that cost less, relatively, cost nothing.
_COSTS = 1e-9


@dataclass(frozen=True)
class Kind:
    """What is asked for beside the least objective."""

    base: str | None = options.base(
        "A mixture to stay near, with --pull, or whose losses --worst and --limit are relative to."
    )
    pull: float | None = option(
        "What a nat of divergence from --base costs, in the unit of the objective.",
        type=float,
        metavar="X",
    )
    worst: bool = option(
        "Make the largest excess of a target over its own best loss least, by weight.", is_flag=True
    )
    limit: dict[str, tuple[float, bool]] | None = options.pairs(
        "Largest loss of a target: so far above its own best, or a number.",
        words.pairs(words.loss_limit, "TARGET=1% or TARGET=2.3"),
        "code=1%,maths=2.3",
        "TARGET=1%,...",
    )
    most_domains: int | None = option(
        "Use at most so many domains.", type=click.IntRange(min=1), metavar="M"
    )

    def check(self) -> None:
        """Refuse options that do not go together."""
        kinds = {"--worst": self.worst or None, "--limit": self.limit}
        kinds |= {"--most-domains": self.most_domains, "--pull": self.pull}
        asked = [name for name, value in kinds.items() if value is not None]
        if len(asked) > 1:
            raise UserError(asked[1], f"does not go with {asked[0]}", "choose one of them")
        if asked == ["--pull"] and self.base is None:
            remedy = "give a mixture and a strength, e.g. --base base.yaml --pull 0.01"
            raise UserError("--pull", "needs --base", remedy)
        if self.base is not None and asked in ([], ["--most-domains"]):
            remedy = "say what is relative to it, or see mixjax judge and mixjax move"
            raise UserError("--base", "needs --pull, --worst or --limit", remedy)

    def answer(self, question: mj.mixture.Question) -> Any:
        """What the library answers."""
        base = files.read_mixture(self.base, question.domains) if self.base else {}
        check_names(self.limit or {}, question.fit.targets, "--limit", "target")
        if self.most_domains is not None:
            return mj.mixture.at_most_domains(question, self.most_domains)
        if self.pull is not None:
            return mj.optimal_mixture(question.but(pull=mj.mixture.Pull(base, self.pull)))
        losses = question.losses(question.array(base)) if base else {}
        references = {t: float(loss) for t, loss in losses.items()} or None
        if self.worst:
            return mj.mixture.worst_target(question, references)
        if self.limit is not None:
            above = {t: x for t, (x, relative) in self.limit.items() if relative}
            at_most = {t: x for t, (x, relative) in self.limit.items() if not relative}
            return mj.mixture.limited_mixture(question, above, at_most, references)
        return mj.optimal_mixture(question)


@dataclass(frozen=True)
class Export:
    """The mixture as a file of a training stack."""

    form: str | None = option(
        "Print the mixture as a file of this form: json, yaml, csv, megatron, olmo-core, "
        "levanter, mosaic, huggingface.",
        "--export",
        metavar="FORM",
    )
    path: dict[str, str] | None = options.pairs(
        "Where the data of a domain lie, for exports.",
        words.pairs(str, "NAME=TEXT"),
        "web=/data/web_text",
        "NAME=PATH,...",
    )
    output: str | None = options.output("FILE", "Where to write the export; stdout without it.")

    def check(self) -> None:
        """Refuse options that do not go together."""
        forms = mj.report.export.FORMS
        choose = f"choose from {', '.join(forms)}"
        if self.form is None:
            if self.output or self.path:
                raise UserError("--output" if self.output else "--path", "needs --export", choose)
        elif self.form not in forms:
            raise UserError("--export", f"no form {self.form!r}", choose)
        elif self.output is None and click.get_current_context().params["as_json"]:
            remedy = "write the export to a file with -o, or leave one of them out"
            raise UserError("--export", "does not go with --json on stdout", remedy)

    def of(self, weights: dict[str, float], question: mj.mixture.Question) -> str | None:
        """The text to be shown in place of the table, if any."""
        check_names(self.path or {}, question.domains, "--path", "domain")
        if self.form is None:
            return None
        unnamed = [d for d, w in weights.items() if w > 0 and d not in (self.path or {})]
        if unnamed and self.form in mj.report.export.NEED_PATHS:
            what = f"no --path of {', '.join(unnamed)}: their names stand for their data"
            warn("--export", what, f"write --path {unnamed[0]}=PATH")
        epochs = question.epochs
        most = max(1.0, *(epochs.values() if isinstance(epochs, Mapping) else [epochs]))
        text = mj.report.export_mixture(weights, self.form, question.D, self.path, most)
        if self.output is not None:
            write_whole(self.output, text)
        return None if self.output else text


@command("The best mixture at a scale.", draws=True)
def mix(asked: Asked, kind: Kind, export: Export) -> Shown:
    """Find the domain weights that minimise the predicted loss at N parameters and D tokens.

    Where the law is convex, the gap bounds how much better any other mixture could be, by the same
    law. What limits cost together and each is shown too. --export writes the mixture for a training
    stack.

    One of these changes what is asked for: --worst makes the worst target as good as can be;
    --limit keeps losses of targets within limits; --base with --pull stays near a mixture;
    --most-domains uses few domains.

    \b
      mixjax mix fit.json -N 7B -D 150B --weights web=1,code=2 --cap wiki=5%
      mixjax mix fit.json -N 7B -D 150B --group web=c4+crawl --cap web=60% --fix books=5%
      mixjax mix fit.json -N 7B -D 150B --tokens wiki=4B --epochs 4 --export megatron -o blend.txt
      mixjax mix fit.json -N 7B -D 150B --weights web=1 --limit code=1%,maths=2.3
    """
    kind.check()
    export.check()
    question = asked.question()
    answer = kind.answer(question)
    content, text = answer.to_dict(), str(answer)
    weights = content["weights"]
    warn_mixture(question, weights)
    limited = question.has_limits or any(question.trained_limits)
    if limited and isinstance(answer, mj.mixture.Optimum) and kind.pull is None:
        limits = mj.mixture.price_limits(question, answer)
        content |= {"unconstrained": limits.free, "cost": limits.cost, "prices": limits.prices}
        without = "limits" if question.has_limits else "staying within the trained shares"
        if answer.bound or limits.cost > _COSTS:
            text += f"\n\nwithout {without}, and what that costs:\n{limits}"
        else:
            text += f"\n\nwithout {without} the best mixture is the same"
    epochs = mj.mixture.limits.epochs_of(weights, question.tokens, question.D)
    content |= {"epochs": epochs} if epochs else {}
    text += "".join(f"\n{d}: {passes:.3g} epochs of its tokens" for d, passes in epochs.items())
    exported = export.of(weights, question)
    text = f"{text}\n" if exported is None else exported
    return Shown(content, text, answer, saved=export.output)


def warn_mixture(question: mj.mixture.Question, weights: dict[str, float]) -> None:
    """Tell doubts about a mixture that a question is answered with."""
    scale = question.N, question.D
    mj.fitting.doubts.warn_mixture(question.fit, *scale, weights, question.weighed)


def recommend(question: mj.mixture.Question, result: Any, weights: dict[str, float]) -> Shown:
    """A result, and doubts about the mixture that it recommends."""
    warn_mixture(question, weights)
    return show(result)


@command("Your own mixtures beside the optimum.", draws=True)
def judge(
    asked: Asked,
    mixtures: str | None = argument("[BASE]", required=False),
    base: str | None = options.base("The mixtures to judge, in place of the word BASE."),
) -> Shown:
    """Predict the losses of your own mixtures at the scale to come, beside the optimum and equal
    shares.

    BASE is a file of DOMAIN: SHARE lines, or of NAME: {DOMAIN: SHARE, ...} for several, or one
    mixture as it stands; shares are scaled to sum to 1. Tokens (parameters) needed: how many times
    those of the run a mixture would need for the loss that the optimum has. One that breaks a limit
    or needs more tokens than there are is judged all the same, and it is said.

    \b
      mixjax judge fit.json mixtures.yaml -N 7B -D 150B
      mixjax judge fit.json web=70%,code=30% -N 7B -D 150B --tokens code=20B --epochs 2
    """
    if (mixtures is None) == (base is None):
        what = "is missing" if base is None else "is there twice"
        raise UserError("BASE", what, "name the mixtures to judge once, e.g. base.yaml")
    question = asked.question()
    own = files.read_mixtures(mixtures or base, question.domains)
    judged = mj.mixture.compare_mixtures(question, own)
    return recommend(question, judged, judged.mixtures["optimum"].weights)


@command("How far each share may go from the optimum.", draws=True)
def flat(
    asked: Asked,
    eps: float = option(
        "Loss that may be given up, relative: 0.001 or 0.1%.",
        type=As(words.positive_share, "0.001", "X"),
        default=0.001,
    ),
) -> Shown:
    """For each domain the interval of shares that keeps the objective within eps of the optimum.

    Inside it supply and quality may decide. The other shares are at their best for each end.

    \b
      mixjax flat fit.json -N 7B -D 150B --eps 0.1%
    """
    question = asked.question()
    region = mj.mixture.flat_region(question, eps)
    return recommend(question, region, {d: i.best for d, i in region.intervals.items()})


@command("Steps from the mixture in use towards the optimum.", draws=True)
def move(
    asked: Asked,
    base: str = options.base("The mixture in use.", required=True),
    steps: int = option("Number of trust regions.", type=click.IntRange(min=1), default=10),
    region: Any = options.choice(
        "Distance that grows: Kullback-Leibler, or the share of tokens that changes domain.",
        ("kl", "l1"),
        default="kl",
    ),
    improve: dict[str, float] | None = options.shares(
        "Instead: the smallest move that lowers these targets' losses by so much, relative: "
        "code=2%."
    ),
    runs: str | None = options.file(
        "RUNS", "Table of the fitted runs: adds the distance to the hull of their mixtures."
    ),
) -> Shown:
    """The best mixtures within a growing distance of the mixture in use, and the knee of what they
    gain.

    \b
      mixjax move fit.json -N 7B -D 150B --base base.yaml --runs runs.csv
      mixjax move fit.json -N 7B -D 150B --base web=70%,code=30% --improve code=2%,web=0
    """
    question = asked.question()
    start = options.start(question, base, runs)
    question = options.around(question, start.base)
    if improve is None:
        return show(mj.mixture.trust_path(question, start, steps, region))
    check_names(improve, question.fit.targets, "--improve", "target")
    return show(mj.mixture.smallest_move(question, start, improve))


@command("What more tokens of a domain, or a looser limit, would bring.")
def value(
    asked: Asked,
    base: str | None = options.base("The mixture to start from; the optimum by default."),
) -> Shown:
    """Marginal value of the tokens of each domain, and the price of each cap and floor that binds.

    With limits the optimum without them is shown beside the feasible one.

    \b
      mixjax value fit.json -N 7B -D 150B --tokens wikipedia=4B --epochs 4
    """
    question = asked.question()
    weights = None if base is None else files.read_mixture(base, question.domains)
    question = question if weights is None else options.around(question, weights)
    margins = mj.mixture.marginal_values(question, weights)
    warn_mixture(question, margins.weights)
    if not question.has_limits and not any(question.trained_limits):
        return show(margins)
    limits = mj.mixture.price_limits(question)
    if not (question.has_limits or limits.feasible.bound):
        return show(margins)
    content = {**margins.to_dict(), "limits": limits.to_dict()}
    return Shown(content, f"{margins}\n\n{limits}\n")


@command("Model size, tokens and mixture for a compute budget.", draws=True)
def budget(
    file: FitFile,
    limits: Limits,
    flops: float = option(
        "Training compute, 6 N D, e.g. 1e22.", type=options.count("1e22"), required=True
    ),
) -> Shown:
    """The parameters N, tokens D and mixture of least objective with 6 N D FLOPs.

    With --tokens and --epochs the caps move with D.

    \b
      mixjax budget fit.json --flops 1e22
    """
    question = limits.question(file.read())
    best = mj.mixture.compute_optimal(question, flops)
    mj.fitting.doubts.warn_scale(question.fit, best.mixture.N, best.mixture.D, {})
    return recommend(question, best, best.mixture.weights)


@command("A mixture that many fits agree on.", draws=True)
def robust(
    scale: Scale,
    limits: Limits,
    fit_files: tuple[str, ...] = argument("FIT.json...", nargs=-1, required=True),
    level: float = option(
        "0: least mean regret; 0.9: least mean of the worst tenth of the regrets.",
        type=float,
        default=0.0,
        metavar="X",
    ),
    base: str | None = options.base("Your own mixtures, to be judged beside it."),
    law_file: str | None = options.LAW_FILE,
) -> Shown:
    """The mixture whose regrets over several fits (resamples, other laws, other minima) are least.

    The regret of a mixture under a fit is its objective above that of the fit's own optimum,
    relatively.

    \b
      mixjax robust joint.json additive.json -N 7B -D 150B --level 0.9
    """
    if len(fit_files) < 2:
        remedy = "name two or more: fits of other laws, of parts of the runs, or of other seeds"
        raise UserError("robust", "one fit has no other to disagree with", remedy)
    fits = [files.read_fit(path, law_file) for path in fit_files]
    question = limits.question(fits[0], scale)
    others = files.read_mixtures(base, question.domains)
    result = mj.mixture.robust_mixture(question, fits, level, others)
    return recommend(question, result, result.mixtures["robust"].weights)


@command("What one group of targets costs another.", draws=True)
def pareto(
    asked: Asked,
    between: dict[str, tuple[str, ...]] | None = options.pairs(
        "Two or three groups of targets, by name.",
        words.pairs(words.joined, "NAME=a+b"),
        "code=github,text=c4+book",
        "NAME=a+b,...",
    ),
    base: str | None = options.base("Your own mixtures, to be shown beside the front."),
) -> Shown:
    """The mixtures between which groups of targets can only be traded, and the knee of that front.

    Each is the optimum of one weighting of the groups' mean losses. --weights are those of targets
    within their groups.

    \b
      mixjax pareto fit.json -N 7B -D 150B --between code=github+stackexchange,text=c4+book
    """
    if between is None:
        remedy = "name two or three groups of targets, e.g. --between code=github,text=c4+book"
        raise UserError("--between", "is missing", remedy)
    question = asked.question()
    own = files.read_mixtures(base, question.domains)
    return show(mj.mixture.pareto_front(question, between, own))
