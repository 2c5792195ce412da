"""The command that finds a mixture: mix, in its kinds, and for training stacks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import click

import mixjax as mj
from mixjax.cli import files, options, words
from mixjax.cli.options import Asked
from mixjax.cli.run import Shown, command, option
from mixjax.errors import UserError, check_names, warn
from mixjax.text import write_whole


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
        kinds = {
            "--worst": self.worst,
            "--limit": self.limit is not None,
            "--most-domains": self.most_domains is not None,
            "--pull": self.pull is not None,
        }
        asked = [name for name, wanted in kinds.items() if wanted]
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
        if self.form is None and (self.output or self.path):
            where = "--output" if self.output else "--path"
            raise UserError(where, "needs --export", f"choose from {', '.join(forms)}")
        if self.form is None:
            return
        if self.form not in forms:
            what = f"no form {self.form!r}"
            raise UserError("--export", what, f"choose from {', '.join(forms)}")
        if self.output is None and click.get_current_context().params["as_json"]:
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
        text = mj.export_mixture(weights, self.form, question.D, self.path, most)
        if self.output is None:
            return text
        write_whole(self.output, text)
        return None


@command("The best mixture at a scale.", draws=True)
def mix(asked: Asked, kind: Kind, export: Export) -> Shown:
    """Find the domain weights that minimise the predicted loss at N parameters and D tokens.

    The gap bounds how much better any other mixture could be, by the same law. Where limits bind,
    the optimum without them and the price of each are shown too. --export writes the mixture for a
    training stack.

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
    mj.fitting.doubts.warn_shares(question.fit, weights)
    if getattr(answer, "bound", None) and kind.pull is None:
        limits = mj.mixture.price_limits(question)
        content |= {"unconstrained": limits.free, "cost": limits.cost, "prices": limits.prices}
        text += f"\n\nwithout limits, and what they cost:\n{limits}"
    epochs = mj.mixture.limits.epochs_of(weights, question.tokens, question.D)
    content |= {"epochs": epochs} if epochs else {}
    text += "".join(f"\n{d}: {passes:.3g} epochs of its tokens" for d, passes in epochs.items())
    exported = export.of(weights, question)
    text = f"{text}\n" if exported is None else exported
    return Shown(content, text, answer, saved=export.output)
