"""The map w -> h*(w) drawn on its simplex: a line, a triangle or a tetrahedron (paper, Figs. 8 and
9)."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from mixjax.mixture.question import Floats
from mixjax.report.style import colour_of, grid

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mixjax.mixture.targets import TargetMap

_TRIANGLE = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(0.75)]])
_TETRAHEDRON = np.array(
    [
        [0.0, 0.0, 0.0],
        [1.0, 0.0, 0.0],
        [0.5, np.sqrt(3 / 4), 0.0],
        [0.5, np.sqrt(1 / 12), np.sqrt(2 / 3)],
    ]
)
_LABEL = "Jensen-Shannon distance of w and h*(w)"
_FIXED: dict[str, Any] = {
    "marker": "*",
    "s": 130,
    "color": colour_of(3),
    "edgecolors": "white",
    "linewidths": 0.8,
    "zorder": 5,
}


def map_figure(found: TargetMap) -> Figure:
    """The distance of target weights w and the optimum h*(w) over the simplex, and fixed points as
    stars."""
    return {2: _line, 3: _triangle, 4: _tetrahedron}[len(found.domains)](found)


def _line(found: TargetMap) -> Figure:
    figure, (axes,) = grid(1, 1, (5.0, 4.4))
    order = np.argsort(found.w[:, 0])
    axes.plot(found.w[order, 0], found.h[order, 0], color=colour_of(0), label="h*(w)")
    axes.axline((0, 0), slope=1, color="0.5", linewidth=0.8, label="h = w")
    axes.scatter(found.fixed[:, 0], found.fixed[:, 0], **_FIXED)
    axes.set(
        xlabel=f"weight of target {found.domains[0]} (the rest: {found.domains[1]})",
        ylabel=f"optimal share of {found.domains[0]}",
    )
    axes.legend(frameon=False)
    return figure


def _corner_names(axes: Any, corners: Floats, names: tuple[str, ...], out: float) -> None:
    centre = corners.mean(axis=0)
    for corner, name in zip(corners, names, strict=True):
        axes.text(*(centre + out * (corner - centre)), name, ha="center", va="center", fontsize=10)


def _triangle(found: TargetMap) -> Figure:
    """Colour at each w, and an arrow from some w to its h*(w)."""
    figure, (axes,) = grid(1, 1, (6.2, 5.0))
    seen = np.isfinite(found.distance)
    at, to = found.w[seen] @ _TRIANGLE, found.h[seen] @ _TRIANGLE
    drawn = axes.tripcolor(
        at[:, 0], at[:, 1], found.distance[seen], shading="gouraud", cmap="cividis", vmin=0
    )
    side = round(1 / np.min(found.w[found.w > 0]))
    some = np.flatnonzero(
        np.all(np.round(found.w[seen] * side).astype(int) % max(1, side // 10) == 0, axis=1)
    )
    move = to[some] - at[some]
    axes.quiver(
        *at[some].T,
        *move.T,
        angles="xy",
        scale_units="xy",
        scale=1,
        width=0.0025,
        color="white",
        alpha=0.9,
    )
    axes.add_patch(_outline())
    axes.scatter(*(found.fixed @ _TRIANGLE).T, label="fixed point, h*(w) = w", **_FIXED)
    _corner_names(axes, _TRIANGLE, found.domains, 1.12)
    axes.set(aspect="equal", xlim=(-0.15, 1.15), ylim=(-0.14, 1.0))
    axes.set_axis_off()
    if len(found.fixed):
        axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(-0.02, 0.98))
    figure.colorbar(drawn, ax=axes, label=_LABEL, shrink=0.8)
    axes.set_title("target weights w, arrows to the optimal mixture h*(w)")
    return figure


def _outline() -> Any:
    from matplotlib.patches import Polygon

    return Polygon(_TRIANGLE, closed=True, fill=False, edgecolor="0.2", linewidth=1.0)


def _tetrahedron(found: TargetMap) -> Figure:
    from matplotlib.figure import Figure
    from mpl_toolkits.mplot3d import Axes3D

    figure = Figure(figsize=(6.8, 5.4), layout="constrained")
    axes = figure.add_subplot(projection="3d")
    assert isinstance(axes, Axes3D)
    at = found.w @ _TETRAHEDRON
    drawn = axes.scatter(*at.T, c=found.distance, cmap="cividis", vmin=0, s=26, depthshade=False)
    for a, b in itertools.combinations(_TETRAHEDRON, 2):
        axes.plot(*np.stack([a, b]).T, color="0.6", linewidth=0.8)
    if len(found.fixed):
        axes.scatter(*(found.fixed @ _TETRAHEDRON).T, label="fixed point, h*(w) = w", **_FIXED)
        axes.legend(frameon=False, loc="upper right")
    _corner_names(axes, _TETRAHEDRON, found.domains, 1.15)
    axes.set_axis_off()
    axes.view_init(elev=14, azim=-35)
    figure.colorbar(drawn, ax=axes, label=_LABEL, shrink=0.8)
    return figure
