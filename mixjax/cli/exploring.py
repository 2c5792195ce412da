"""The command that draws everything a fit says about mixtures: explore."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mixjax.cli import options
from mixjax.cli.deciding import ask, trained
from mixjax.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mixjax.mixture.question import Question

# Budgets of the paths: this far to both sides of the goal's scale, so many points.
_AROUND, _POINTS = 30.0, 13


@dataclass(frozen=True)
class Request:
    """What explore was asked.

    Attributes:
        goal: at its scale, caps from the supply of tokens included.
        any_scale: the same without those caps, which hold at one D only: for parts in which D
            changes.
        other: the second fit's, as `any_scale`.
        base: the mixture in use.
        domains: of the maps.
        runs: file of the fitted runs.
        supply: tokens and epochs.
    """

    goal: Question
    any_scale: Question
    other: Question | None
    base: Mapping[str, float] | None
    domains: tuple[str, ...] | None
    runs: str | None
    supply: Mapping[str, Any]


Part = Callable[[Request], tuple[Any, "Figure"]]


def _path(request: Request) -> tuple[Any, Figure]:
    """h* along budgets, paper Fig. 6."""
    import numpy as np

    from mixjax.mixture.paths import budget_path
    from mixjax.report.figures import path_figure

    goal, times = request.any_scale, np.geomspace(1 / _AROUND, _AROUND, _POINTS)
    assert goal.N is not None
    assert goal.D is not None
    found = {
        f"D = {goal.D:.3g}": budget_path(goal, goal.N * times, goal.D),
        f"N = {goal.N:.3g}": budget_path(goal, goal.N, goal.D * times),
        f"D / N = {goal.D / goal.N:.3g}": budget_path(goal, goal.N * times, goal.D * times),
    }
    return {name: path.to_dict() for name, path in found.items()}, path_figure(found)


def _growth(request: Request) -> tuple[Any, Figure]:
    """Growth laws and their accumulation points, paper Fig. 10."""
    from mixjax.mixture.paths import growth_laws
    from mixjax.report.figures import growth_figure

    found = growth_laws(request.any_scale, points=_POINTS)
    return {name: path.to_dict() for name, path in found.items()}, growth_figure(found)


def _corners(request: Request) -> tuple[Any, Figure]:
    """One target at a time, paper Fig. 7."""
    from mixjax.mixture.targets import corners
    from mixjax.report.figures import corners_figure

    found = corners(request.goal)
    return {target: mixture.to_dict() for target, mixture in found.items()}, corners_figure(found)


def _map(request: Request, number: int) -> tuple[Any, Figure]:
    from mixjax.mixture.targets import target_map
    from mixjax.report.figures import map_figure

    both = request.domains or tuple(
        d for d in request.goal.fit.domains if d in request.goal.fit.targets
    )
    if len(both) < number:
        raise UserError(
            "map", f"{len(both)} domains are targets too", f"a map of {number} needs {number}"
        )
    found = target_map(request.goal, both[:number])
    return found.to_dict(), map_figure(found)


def _map3(request: Request) -> tuple[Any, Figure]:
    """w -> h*(w) on a triangle, paper Fig. 8."""
    return _map(request, 3)


def _map4(request: Request) -> tuple[Any, Figure]:
    """w -> h*(w) on a tetrahedron, paper Fig. 9."""
    return _map(request, 4)


def _laws(request: Request) -> tuple[Any, Figure]:
    """The optimum of the other fit's law beside this one's."""
    import numpy as np

    from mixjax.mixture.beside import beside
    from mixjax.report.figures import beside_figure

    if request.other is None:
        raise UserError("laws", "needs a second fit", "name it with --other FIT.json")
    goal, times = request.any_scale, np.geomspace(1 / _AROUND, _AROUND, _POINTS)
    assert goal.N is not None
    assert goal.D is not None
    names = [g.fit.law for g in (goal, request.other)]
    names = names if names[0] != names[1] else [f"{names[0]} (this)", f"{names[1]} (other)"]
    found = beside(
        dict(zip(names, (goal, request.other), strict=True)), goal.N * times, goal.D * times
    )
    return found.to_dict(), beside_figure(found)


def _flat(request: Request) -> tuple[Any, Figure]:
    """The flat region at 0.1 percent."""
    from mixjax.mixture.flat import flat_region
    from mixjax.report.figures import region_figure

    found = flat_region(request.goal)
    return found.to_dict(), region_figure(found)


def _budget(request: Request) -> tuple[Any, Figure]:
    """The best split of the compute that N and D stand for."""
    from mixjax.mixture.budget import FLOPS, compute_optimal
    from mixjax.report.figures import budget_figure

    goal = request.any_scale
    assert goal.N is not None
    assert goal.D is not None
    found = compute_optimal(goal, FLOPS * goal.N * goal.D, **request.supply)
    return found.to_dict(), budget_figure(found)


def _move(request: Request) -> tuple[Any, Figure]:
    """The trust path from the base."""
    from mixjax.mixture.move import Start, trust_path
    from mixjax.report.figures import moves_figure

    if request.base is None:
        raise UserError("move", "needs the mixture in use", "name it with --base MIXTURE.yaml")
    hull = None if request.runs is None else trained(request.runs, request.goal)
    found = trust_path(request.goal, Start(request.base, request.supply.get("tokens"), hull))
    return found.to_dict(), moves_figure(found)


def _judge(request: Request) -> tuple[Any, Figure]:
    """The base and equal shares beside the optimum."""
    from mixjax.mixture.judge import compare_mixtures
    from mixjax.report.figures import compare_figure

    found = compare_mixtures(request.goal, {} if request.base is None else {"base": request.base})
    return found.to_dict(), compare_figure(found)


PARTS: Mapping[str, Part] = {
    "path": _path,
    "growth": _growth,
    "corners": _corners,
    "map3": _map3,
    "map4": _map4,
    "laws": _laws,
    "flat": _flat,
    "budget": _budget,
    "move": _move,
    "judge": _judge,
}


@click.command(short_help="Every analysis of a fit, as figures and numbers.")
@click.argument("fit_file", metavar="FIT.json")
@click.option(
    "-o", "--output", metavar="DIR", required=True, help="Folder for the figures and explore.json."
)
@click.option(
    "--only",
    type=options.Names(),
    metavar="a,b",
    help=f"Parts to draw: {', '.join(PARTS)}.  [default: all that the fit and the options allow]",
)
@click.option(
    "--other", metavar="FIT.json", help="A fit of another law to the same runs, for the part laws."
)
@click.option(
    "--base", metavar="MIXTURE.yaml", help="The mixture in use, for the parts move and judge."
)
@click.option(
    "--runs",
    metavar="RUNS",
    help="Table of the fitted runs, for the distance to their mixtures in the part move.",
)
@click.option(
    "--domains",
    type=options.Names(),
    metavar="a,b,c,d",
    help="Domains of the maps; those that are targets too, in order, by default.",
)
@options.scale_options
@options.goal_options
@options.how_options
def explore(
    fit_file: str,
    output: str,
    only: tuple[str, ...] | None,
    scale: Mapping[str, float],
    goal: Mapping[str, Any],
    how: Mapping[str, Any],
    **files_named: Any,
) -> None:
    """Draw what a fit says about mixtures around N and D: one PNG a part, and all numbers in
    explore.json.

    path: h* along budgets. growth: as N and D grow, with limits. corners: one target at a time.
    map3, map4: target weights to optimal mixture, with fixed points. laws: two laws. flat: shares
    that cost little. budget: best N and D for 6 N D. move: steps from the base. judge: base beside
    optimum. FIT.json may be builtin:demo, a known law of invented numbers.

    \b
      mixjax explore joint.json -N 7e9 -D 150e9 -o figures --other additive.json --base base.yaml
      mixjax explore builtin:demo -N 7e9 -D 150e9 -o figures
    """
    from mixjax.cli import files

    unknown = next((name for name in only or () if name not in PARTS), None)
    if unknown is not None:
        raise UserError("--only", f"no part {unknown!r}", f"choose from {', '.join(PARTS)}")
    if "figure" in how:
        raise UserError(
            "--figure", "this command names its figures itself", "name a folder with -o"
        )
    files.check_output_folder(output)
    request = _request(fit_file, scale, goal, how, **files_named)
    results, figures, left_out = _draw(request, only)
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    written = _write(folder, results, figures)
    if how["as_json"]:
        files.print_json(
            {"folder": output, "files": written, "left_out": left_out, "parts": results}
        )
        return
    click.echo(f"saved in {output}: {', '.join(written)}")
    for name, reason in left_out.items():
        click.echo(f"left out: {name}: {reason}")


def _request(
    fit_file: str,
    scale: Mapping[str, float],
    goal: Mapping[str, Any],
    how: Mapping[str, Any],
    other: str | None,
    base: str | None,
    **rest: Any,
) -> Request:
    """The files read and checked."""
    from mixjax.cli import files
    from mixjax.cli.mixtures import mixture_for

    missing = next((name for name in "ND" if scale.get(name) is None), None)
    if missing is not None:
        raise UserError(
            f"-{missing}", "is missing", "say around which scale to look, e.g. -N 7e9 -D 150e9"
        )
    asked = ask(fit_file, how, goal, scale)
    everywhere = asked.but(caps=goal.get("cap"))
    beside = (
        None
        if other is None
        else everywhere.but(fit=files.read_fit(other, how.get("law_file")), weights=asked.weighed)
    )
    weights = None if base is None else asked.named(asked.array(mixture_for(asked.fit, base)))
    supply = {name: goal[name] for name in ("tokens", "epochs") if name in goal}
    return Request(asked, everywhere, beside, weights, rest["domains"], rest["runs"], supply)


def _draw(
    request: Request, only: tuple[str, ...] | None
) -> tuple[dict[str, Any], dict[str, Figure], dict[str, str]]:
    """Results, figures, and the reasons of parts that do not apply; a part that was asked for by
    name must."""
    results, figures, left_out = {}, {}, {}
    for name in only or PARTS:
        try:
            results[name], figures[name] = PARTS[name](request)
        except UserError as error:
            if only:
                raise
            left_out[name] = str(error).removeprefix(f"{name}: ")
    return results, figures, left_out


def _write(folder: Path, results: Mapping[str, Any], figures: Mapping[str, Figure]) -> list[str]:
    from mixjax.drawing.style import save
    from mixjax.text import to_json, write_whole

    for name, figure in figures.items():
        save(figure, folder / f"{name}.png")
    write_whole(folder / "explore.json", to_json(results))
    return [*(f"{name}.png" for name in figures), "explore.json"]
