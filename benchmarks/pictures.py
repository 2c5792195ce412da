"""Every picture of results/, drawn again from its JSON, nothing measured: python -m
benchmarks.pictures [time_to_target figure_2 ...]"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.common import RESULTS
from mixjax.drawing.charts import bands
from mixjax.drawing.style import (
    MARKED,
    colour_of,
    draw_bands,
    grid,
    legend,
    line_of,
    log_ticks,
    save,
)


def time_to_target(result: Mapping[str, Any]) -> Figure:
    """Seconds to 1 percent: a row a contestant, a dot a target, hollow where it was missed, a bar
    at the geometric mean."""
    names, limit = list(result["contestants"]), result["limit"]
    figure, (axes,) = grid(1, (7.4, 0.42 * len(names) + 1.3))
    for row, name in enumerate(names):
        targets = result["contestants"][name]["targets"].values()
        seconds = [np.median([limit if s is None else s for s in t["seconds"][1]]) for t in targets]
        for x in seconds:
            axes.plot(
                x,
                row,
                "o",
                color=colour_of(0) if name == "mixjax" else "0.35",
                fillstyle="full" if x < limit else "none",
                label="a target" if x < limit else "a target that was missed",
            )
        mean = np.exp(np.mean(np.log(seconds)))
        bar: dict[str, Any] = {"color": MARKED, "markersize": 16, "markeredgewidth": 2}
        axes.plot(mean, row, "|", label="geometric mean", **bar)
    axes.set(xscale="log", xlabel="seconds to within 1 percent of the best known")
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    figure.legend(
        handles.values(), handles, loc="outside lower center", frameon=False, ncols=len(handles)
    )
    return figure


def figure_2(result: Mapping[str, Any]) -> Figure:
    """Objective above the lowest against calls of the local search: basin hopping and multi-start,
    quartiles over trials."""
    figure, panels = grid(len(result["cases"]), (4.0, 3.4))
    for axes, (name, case) in zip(panels, result["cases"].items(), strict=True):
        quartiles = {
            kind: np.maximum(rows, 1e-4).T
            for kind, rows in case["percent above, quartiles"].items()
        }
        draw_bands(axes, result["calls"], quartiles)
        axes.set(xlabel="L-BFGS calls", title=name)
    panels[0].set_ylabel("objective above the lowest (percent)")
    legend(figure, panels[0])
    return figure


def scaling(result: Mapping[str, Any]) -> Figure:
    """Time of one evaluation against k, rows, targets and starts."""
    several = {axis: cases for axis, cases in result["axes"].items() if len(cases) > 1}
    figure, panels = grid(len(several), (3.4, 3.0), sharey=True)
    for axes, (axis, cases) in zip(panels, several.items(), strict=True):
        x = [case[axis] for case in cases]
        axes.plot(
            x, [case["microseconds an evaluation"] for case in cases], marker="o", **line_of(0)
        )
        log_ticks(axes, x)
        axes.set_xlabel(axis)
    panels[0].set_ylabel("microseconds an evaluation, all cores")
    return figure


def enough_runs(result: Mapping[str, Any]) -> Figure:
    """Error of mixtures left out against the number of mixtures fitted."""
    part = result["mixtures left out"]
    quartiles = {
        law: np.array([line["low"], line["median"], line["high"]], float).T
        for law, line in part["laws"].items()
    }
    y = "mean relative error (percent)"
    return bands(part["counts"], quartiles, "mixtures fitted", y, title="law")


PICTURES: dict[str, Callable[[Mapping[str, Any]], Figure]] = {
    "time_to_target": time_to_target,
    "as_published": time_to_target,
    "figure_2": figure_2,
    "scaling": scaling,
    "enough_runs": enough_runs,
}


def draw(name: str) -> None:
    """Draw results/NAME.png from results/NAME.json."""
    result = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    save(PICTURES.get(name, time_to_target)(result), RESULTS / f"{name}.png")


if __name__ == "__main__":
    for picture in sys.argv[1:] or PICTURES:
        draw(picture)
