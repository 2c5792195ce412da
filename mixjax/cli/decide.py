"""Commands that turn a fit into a decision: judge, flat, move, value, budget, robust, pareto."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

import mixjax as mj
from mixjax.cli import files, options, words
from mixjax.cli.options import Asked, FitFile, Limits, Scale
from mixjax.cli.run import Shown, argument, command, option, show
from mixjax.cli.words import As
from mixjax.errors import UserError, check_names, warn


def recommend(question: mj.mixture.Question, result: Any, weights: dict[str, float]) -> Shown:
    """A result, and doubts about the mixture that it recommends."""
    mj.fitting.doubts.warn_shares(question.fit, weights)
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
    or needs more tokens than there are is judged all the same, with a warning.

    \b
      mixjax judge fit.json mixtures.yaml -N 7B -D 150B
      mixjax judge fit.json web=70%,code=30% -N 7B -D 150B --tokens code=20B --epochs 2
    """
    if (mixtures is None) == (base is None):
        what = "is missing" if base is None else "is there twice"
        raise UserError("BASE", what, "name the mixtures to judge once, e.g. base.yaml")
    question = asked.question()
    own = files.read_mixtures(mixtures or base, question.domains)
    _warn_outside(question, own)
    judged = mj.mixture.compare_mixtures(question, own)
    return recommend(question, judged, judged.mixtures["optimum"].weights)


def _warn_outside(
    question: mj.mixture.Question, mixtures: Mapping[str, Mapping[str, float]]
) -> None:
    """Warn of mixtures that break a limit or need more tokens than there are."""
    remedy = "it is judged all the same, the optimum keeps the limits"
    allowed = question.epochs
    for name, shares in mixtures.items():
        h = question.array(shares)
        weights = question.named(h)
        try:
            question.but(tokens=None, epochs=1.0).check_within(h, name)
        except UserError as error:
            warn(name, error.what, remedy)
        epochs = mj.mixture.limits.epochs_of(weights, question.tokens, question.D)
        for domain, passes in epochs.items():
            most = allowed.get(domain, 1.0) if isinstance(allowed, Mapping) else allowed
            if passes > most * (1 + 1e-9):
                has = f"{domain!r} has {weights[domain]:.4g}, {passes:.3g} epochs of its tokens"
                warn(name, f"{has}, which allow {most:g}", remedy)


@command("How far each share may go from the optimum.", draws=True)
def flat(
    asked: Asked,
    eps: float = option(
        "Loss that may be given up, relative: 0.001 or 0.1%.",
        type=As(words.positive_share, "0.001", "X"),
        default=0.001,
        show_default=True,
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
    steps: int = option(
        "Number of trust regions.", type=click.IntRange(min=1), default=10, show_default=True
    ),
    region: Any = option(
        "Distance that grows: Kullback-Leibler, or the share of tokens that changes domain.",
        type=click.Choice(["kl", "l1"]),
        default="kl",
        show_default=True,
    ),
    improve: dict[str, float] | None = options.shares(
        "Instead: the smallest move that lowers these targets' losses by so much, relative: "
        "code=2%."
    ),
    runs: str | None = option(
        "Table of the fitted runs: adds the distance to the hull of their mixtures.",
        role="reads",
        metavar="RUNS",
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
    margins = mj.mixture.marginal_values(question, weights)
    mj.fitting.doubts.warn_shares(question.fit, margins.weights)
    if not any((question.caps, question.floors, question.fixed, question.tokens)):
        return show(margins)
    limits = mj.mixture.price_limits(question)
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
        show_default=True,
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
