"""The command that draws everything a fit says about mixtures: explore."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mixjax as mj
from mixjax.cli import files, options, words
from mixjax.cli.options import NAMES, Asked
from mixjax.cli.run import Shown, command, option
from mixjax.cli.words import As
from mixjax.errors import UserError
from mixjax.text import to_json, write_whole

# Budgets of the paths: this far to both sides of the question's scale, so many points.
_AROUND, _POINTS = 30.0, 13


@dataclass(frozen=True)
class Around:
    """What explore looks at beside the question."""

    other: str | None = options.file(
        "FIT.json", "A fit of another law to the same runs, for the part laws."
    )
    base: str | None = options.base("The mixture in use, for the parts move and judge.")
    runs: str | None = options.file(
        "RUNS", "Table of the fitted runs, for the distance to their mixtures in the part move."
    )
    domains: tuple[str, ...] | None = option(
        "Domains of the maps; those that are targets too, in order, by default.", type=NAMES
    )


@dataclass(frozen=True)
class Request:
    """What a part is asked: a question at its scale, beside it a second fit, the mixture in use and
    the domains of the maps."""

    question: mj.mixture.Question
    other: mj.Fit | None = None
    start: mj.mixture.Start | None = None
    domains: tuple[str, ...] | None = None

    @property
    def scale(self) -> tuple[float, float]:
        """N and D."""
        N, D = self.question.N, self.question.D
        assert N is not None
        assert D is not None
        return N, D

    @property
    def any_scale(self) -> mj.mixture.Question:
        """The question without its supply, whose caps hold at one D only: for parts in which D
        changes."""
        return self.question.but(tokens=None, epochs=1.0)

    @property
    def budgets(self) -> tuple[list[float], list[float]]:
        """N and D around the scale."""
        times = [_AROUND ** (2 * i / (_POINTS - 1) - 1) for i in range(_POINTS)]
        N, D = self.scale
        return [N * x for x in times], [D * x for x in times]


def _path(request: Request) -> Any:
    """h* along budgets, paper Fig. 6."""
    (N, D), (sizes, tokens) = request.scale, request.budgets
    budgets = {
        f"D = {D:.3g}": (sizes, D),
        f"N = {N:.3g}": (N, tokens),
        f"D / N = {D / N:.3g}": (sizes, tokens),
    }
    path, question = mj.mixture.budget_path, request.any_scale
    return mj.mixture.Paths({name: path(question, *at) for name, at in budgets.items()})


def _map(request: Request, number: int) -> Any:
    """w -> h*(w) on a triangle, paper Fig. 8, or a tetrahedron, Fig. 9."""
    fit = request.question.fit
    both = request.domains or tuple(d for d in fit.domains if d in fit.targets)
    if len(both) < number:
        what = f"{len(both)} domains are targets too"
        raise UserError("map", what, f"a map of {number} needs {number}")
    return mj.mixture.target_map(request.question, both[:number])


def _laws(request: Request) -> Any:
    """The optimum of the other fit's law beside this one's."""
    if request.other is None:
        raise UserError("laws", "needs a second fit", "name it with --other FIT.json")
    this = request.any_scale
    names = [this.fit.law, request.other.law]
    if names[0] == names[1]:
        names = [f"{names[0]} (this)", f"{names[1]} (other)"]
    questions = (this, this.but(fit=request.other, weights=this.weighed))
    return mj.mixture.beside(dict(zip(names, questions, strict=True)), *request.budgets)


def _budget(request: Request) -> Any:
    """The best split of the compute that N and D stand for."""
    N, D = request.scale
    return mj.mixture.compute_optimal(request.question, 6 * N * D)


def _move(request: Request) -> Any:
    """Steps from the base to the optimum."""
    if request.start is None:
        raise UserError("move", "needs the mixture in use", "name it with --base")
    return mj.mixture.trust_path(request.question, request.start)


def _judge(request: Request) -> Any:
    """The base and equal shares beside the optimum."""
    own = {} if request.start is None else {"base": request.start.base}
    return mj.mixture.compare_mixtures(request.question, own)


# Each part as a result that says and draws itself.
PARTS: Mapping[str, Callable[[Request], Any]] = {
    "path": _path,
    # Growth laws and their accumulation points, paper Fig. 10; one target at a time, Fig. 7.
    "growth": lambda request: mj.mixture.growth_laws(request.any_scale, points=_POINTS),
    "corners": lambda request: mj.mixture.corners(request.question),
    "map3": lambda request: _map(request, 3),
    "map4": lambda request: _map(request, 4),
    "laws": _laws,
    "flat": lambda request: mj.mixture.flat_region(request.question),
    "budget": _budget,
    "move": _move,
    "judge": _judge,
}


@command("Every analysis of a fit, as figures and numbers.")
def explore(
    asked: Asked,
    around: Around,
    only: tuple[str, ...] | None = option(
        f"Parts to draw: {', '.join(PARTS)}.  [default: all that the fit and options allow]",
        type=As(words.among(*PARTS), "path,flat", "a,b"),
    ),
    output: str = options.folder("Folder for the figures and explore.json.", required=True),
) -> Shown:
    """Draw what a fit says about mixtures around N and D: one PNG a part, and all numbers in
    explore.json.

    path: h* along budgets. growth: as N and D grow, with limits. corners: one target at a time.
    map3, map4: target weights to optimal mixture, with fixed points. laws: two laws. flat: shares
    that cost little. budget: best N and D for 6 N D. move: steps from the base. judge: base beside
    optimum. FIT.json may be builtin:demo, a known law of invented numbers.

    \b
      mixjax explore joint.json -N 7B -D 150B -o figures --other additive.json --base base.yaml
      mixjax explore builtin:demo -N 7B -D 150B -o figures
    """
    missing = next((name for name in "ND" if getattr(asked.scale, name) is None), None)
    if missing is not None:
        remedy = "say around which scale to look, e.g. -N 7e9 -D 150e9"
        raise UserError(f"-{missing}", "is missing", remedy)
    question = asked.question()
    other = around.other and files.read_fit(around.other, asked.file.law_file)
    start = around.base and options.start(question, around.base, around.runs)
    question = options.around(question, start.base) if start else question
    request = Request(question, other or None, start or None, around.domains)
    results: dict[str, Any] = {}
    left_out: dict[str, str] = {}
    for name in only or PARTS:
        try:
            results[name] = PARTS[name](request)
        except UserError as error:
            if only:  # a part that was asked for by name must apply
                raise
            left_out[name] = str(error).removeprefix(f"{name}: ")
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    for name, result in results.items():
        mj.report.save(result.figure(), folder / f"{name}.png")
    parts = {name: result.to_dict() for name, result in results.items()}
    write_whole(folder / "explore.json", to_json(parts))
    written = [*(f"{name}.png" for name in results), "explore.json"]
    content = {"folder": output, "files": written, "left_out": left_out, "parts": parts}
    lines = [f"saved in {output}: {', '.join(written)}"]
    lines += [f"left out: {name}: {reason}" for name, reason in left_out.items()]
    return Shown(content, "".join(f"{line}\n" for line in lines))
