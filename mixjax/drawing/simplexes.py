"""A map w -> h(w) of a simplex onto itself (arrays -> FIGURES): a line, a triangle or a tetrahedron
(paper, Figs. 8 and 9)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mixjax.drawing.style import MARKED, colour_of, grid

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]
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
_ARROWS = 5  # about so many arrows a side of the triangle
_FIXED: dict[str, Any] = {
    "marker": "*",
    "s": 130,
    "color": MARKED,
    "edgecolors": "white",
    "linewidths": 0.8,
    "zorder": 5,
}


@dataclass(frozen=True)
class Map:
    """Points of a map.

    Attributes:
        names: of the corners, 2 to 4.
        w, h: weights and what they are mapped to (points, corners).
        distance: of the two (points,).
        fixed: weights that are mapped to themselves (fixed points, corners).
    """

    names: Sequence[str]
    w: Floats
    h: Floats
    distance: Floats
    fixed: Floats


def simplex_map(points: Map) -> Figure:
    """The distance of target weights w and the optimum h*(w) over the simplex, and fixed points as
    stars."""
    return {2: _line, 3: _triangle, 4: _tetrahedron}[len(points.names)](points)


def _line(points: Map) -> Figure:
    figure, (axes,) = grid(1, (5.0, 4.4))
    order = np.argsort(points.w[:, 0])
    axes.plot(points.w[order, 0], points.h[order, 0], color=colour_of(0), label="h*(w)")
    axes.axline((0, 0), slope=1, color="0.5", linewidth=0.8, label="h = w")
    axes.scatter(points.fixed[:, 0], points.fixed[:, 0], **_FIXED)
    axes.set(
        xlabel=f"weight of target {points.names[0]} (the rest: {points.names[1]})",
        ylabel=f"optimal share of {points.names[0]}",
    )
    axes.legend(frameon=False)
    return figure


def _triangle(points: Map) -> Figure:
    """Colour at each w, and an arrow from some w to its h*(w)."""
    from matplotlib.patches import Polygon

    figure, (axes,) = grid(1, (6.2, 5.0))
    known = np.isfinite(points.distance)
    w, distance = points.w[known], points.distance[known]
    tail, tip = w @ _TRIANGLE, points.h[known] @ _TRIANGLE
    colours = axes.tripcolor(
        tail[:, 0], tail[:, 1], distance, shading="gouraud", cmap="cividis", vmin=0
    )
    side = round(1 / np.min(points.w[points.w > 0]))
    step = max(1, side // _ARROWS)
    chosen = np.all(np.round(w * side).astype(int) % step == 0, axis=1)
    axes.quiver(
        *tail[chosen].T,
        *(tip - tail)[chosen].T,
        angles="xy",
        scale_units="xy",
        scale=1,
        width=0.0025,
        color="white",
        alpha=0.9,
    )
    axes.add_patch(Polygon(_TRIANGLE, closed=True, fill=False, edgecolor="0.2", linewidth=1.0))
    axes.scatter(*(points.fixed @ _TRIANGLE).T, label="fixed point, h*(w) = w", **_FIXED)
    _name_corners(axes, _TRIANGLE, points.names, 1.12)
    axes.set(aspect="equal", xlim=(-0.15, 1.15), ylim=(-0.14, 1.0))
    axes.set_axis_off()
    if len(points.fixed):
        axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(-0.02, 0.98))
    figure.colorbar(colours, ax=axes, label=_LABEL, shrink=0.8)
    axes.set_title("target weights w, arrows to the optimal mixture h*(w)")
    return figure


def _tetrahedron(points: Map) -> Figure:
    """Colour at each w, as points in space."""
    figure, (panel,) = grid(1, (6.2, 5.2), projection="3d")
    axes: Any = panel
    axes.computed_zorder = False  # the stars stay in front
    colours = axes.scatter(
        *(points.w @ _TETRAHEDRON).T,
        c=points.distance,
        cmap="cividis",
        vmin=0,
        s=26,
        depthshade=False,
    )
    for a, b in itertools.combinations(_TETRAHEDRON, 2):
        axes.plot(*np.stack([a, b]).T, color="0.6", linewidth=0.8)
    if len(points.fixed):
        axes.scatter(*(points.fixed @ _TETRAHEDRON).T, label="fixed point, h*(w) = w", **_FIXED)
        axes.legend(frameon=False, loc="upper right")
    _name_corners(axes, _TETRAHEDRON, points.names, 1.15)
    axes.set_axis_off()
    axes.view_init(elev=14, azim=-35)
    axes.set_box_aspect(None, zoom=1.12)
    figure.colorbar(colours, ax=axes, label=_LABEL, shrink=0.8)
    return figure


def _name_corners(axes: Any, corners: Floats, names: Sequence[str], out: float) -> None:
    """Names of the corners, a little outside of them."""
    centre = corners.mean(axis=0)
    for corner, name in zip(corners, names, strict=True):
        place = centre + out * (corner - centre)
        axes.text(*place, name, ha="center", va="center", fontsize=10)
