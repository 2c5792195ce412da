"""Figures of results (names and arrays -> FIGURES): shares along counts, bars, bands, measured
against predicted, flat regions, budgets, moves, fronts, maps of a simplex onto itself."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixjax.drawing.style import (
    MARKED,
    colour_of,
    draw_bands,
    draw_bars,
    draw_shares,
    from_zero,
    grid,
    legend,
    line_of,
    text_width,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]
_SHARE = "optimal share (percent)"
_SYMBOLS = {"s": 2, "^": 1, "v": 4, "P": 6, "X": 7}  # of mixtures beside a front, and colours
_TRIANGLE = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(3 / 4)]])
_TETRAHEDRON = np.array(
    [[0, 0, 0], [1, 0, 0], [0.5, np.sqrt(3 / 4), 0], [0.5, np.sqrt(1 / 12), np.sqrt(2 / 3)]]
)
_DISTANCE = "Jensen-Shannon distance of w and h*(w)"
_ARROWS = 5  # about so many arrows a side of the triangle
_FIXED: dict[str, Any] = {
    "marker": "*",
    "s": 130,
    "color": MARKED,
    "edgecolors": "white",
    "linewidths": 0.8,
    "zorder": 5,
}

# --- Shares and losses ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Shares:
    """Shares of domains along something.

    Attributes:
        x, label: what they are drawn against (points,), and its name.
        shares: fractions of 1 (points, k).
        end: what they tend to (k,), where that is known.
    """

    x: ArrayLike
    label: str
    shares: Floats
    end: ArrayLike | None = None


def shares_along(panels: Mapping[str, Shares], domains: Sequence[str]) -> Figure:
    """Shares along growing counts, a panel a way to grow; their limits as diamonds at the right.

    Source: paper, Figs. 6 and 10.
    """
    figure, all_axes = grid(len(panels), (4.0, 3.2), across=3, sharey=True)
    ends = False
    for axes, (title, drawn) in zip(all_axes, panels.items(), strict=True):
        draw_shares(axes, drawn.x, drawn.shares, domains)
        if drawn.end is not None:
            ends = True
            last = np.max(np.asarray(drawn.x)) * 8
            for i, share in enumerate(100 * np.asarray(drawn.end)):
                axes.plot([last], [share], "D", color=colour_of(i), markersize=5, clip_on=False)
        axes.set(xscale="log", title=title, xlabel=drawn.label)
    from_zero(all_axes)
    for axes in all_axes[::3]:
        axes.set_ylabel(_SHARE)
    legend(figure, all_axes[0], "domain\n(diamond: limit)" if ends else "domain")
    return figure


def bars(
    rows: Sequence[str],
    groups: Mapping[str, ArrayLike],
    xlabel: str,
    ylabel: str,
    title: str = "",
    grey: Collection[str] = (),
) -> Figure:
    """Horizontal bars: a row a name, in it a bar a group.

    Args:
        groups: {group: values (rows,)}.
        grey: groups to stand back.
    """
    high = 1.0 + (0.2 + 0.16 * len(groups)) * len(rows)
    figure, (axes,) = grid(1, (5.6 + text_width(rows), high))
    draw_bars(axes, rows, dict(groups), grey)
    axes.set(xlabel=xlabel, ylabel=ylabel, title=title)
    if len(groups) > 1:
        legend(figure, axes)
    if min(np.min(values) for values in groups.values()) < 0:
        axes.axvline(0, color="0.3", linewidth=0.8)
        axes.xaxis.set_major_formatter(lambda x, _: f"{x:+g}" if x else "0")
    return figure


def bands(
    x: Sequence[int], quartiles: Mapping[str, ArrayLike], xlabel: str, ylabel: str, title: str = ""
) -> Figure:
    """Positive numbers against counts, both on log axes: a line of medians with its quartiles as a
    band for each name.

    Args:
        quartiles: {name: low, median and high (points, 3)}; what is not finite is left out.

    Source: paper, Fig. 5.
    """
    figure, (axes,) = grid(1, (5.2, 3.6))
    draw_bands(axes, x, quartiles)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    legend(figure, axes, title)
    return figure


def share_table(rows: Sequence[str], domains: Sequence[str], shares: ArrayLike) -> Figure:
    """Shares (rows, k) as coloured cells in percent: a row a target, a column a domain.

    Source: paper, Fig. 7.
    """
    percent = 100 * np.asarray(shares)
    figure, (axes,) = grid(1, (1.6 + text_width(rows) + 0.7 * len(domains), 1.3 + 0.5 * len(rows)))
    image = axes.imshow(percent, cmap="cividis", vmin=0, vmax=100, aspect="auto")
    for row, column in np.ndindex(*percent.shape):
        share = percent[row, column]
        colour = "black" if share > 55 else "white"
        axes.text(column, row, f"{share:.1f}", ha="center", va="center", fontsize=8, color=colour)
    axes.set_xticks(range(len(domains)), domains, rotation=30, ha="right")
    axes.set_yticks(range(len(rows)), rows)
    axes.set(xlabel="training domain", ylabel="only target")
    axes.grid(False)
    figure.colorbar(image, ax=axes, label=_SHARE)
    return figure


def predicted_measured(panels: Mapping[str, Mapping[str, tuple[ArrayLike, ArrayLike]]]) -> Figure:
    """Predicted against measured losses: a panel a target, a colour a table, the line where both
    are equal.

    Args:
        panels: {target: {table: (measured, predicted)}}, losses (rows,); not finite is left out.
    """
    figure, all_axes = grid(len(panels), (3.2, 3.0), across=4)
    for axes, (target, tables) in zip(all_axes, panels.items(), strict=True):
        for i, (name, (measured, predicted)) in enumerate(tables.items()):
            pairs = np.array([measured, predicted])
            x, y = pairs[:, np.isfinite(pairs).all(axis=0)]
            size = 3 if len(x) > 100 else 6
            colour = colour_of((0, 3, 2, 1)[i % 4])
            axes.plot(x, y, ".", color=colour, markersize=size, label=name)
        low = axes.get_xlim()[0]
        axes.axline((low, low), slope=1, color="0.5", linewidth=0.8, zorder=0)
        axes.set(title=target, xlabel="measured loss", ylabel="predicted loss")
    all_axes[0].legend(frameon=False)
    return figure


# --- Decisions -----------------------------------------------------------------------------------


def share_ranges(
    domains: Sequence[str], low: ArrayLike, best: ArrayLike, high: ArrayLike, title: str
) -> Figure:
    """For each domain the shares from low to high (k,) as a bar and the best one as a dot."""
    figure, (axes,) = grid(1, (5.5 + text_width(domains), 1.0 + 0.35 * len(domains)))
    rows = range(len(domains))
    left, right = 100 * np.asarray(low), 100 * np.asarray(high)
    axes.barh(rows, right - left, 0.35, left=left, color=colour_of(0), alpha=0.45)
    axes.plot(100 * np.asarray(best), rows, "o", color=MARKED, markersize=6)
    axes.set_yticks(rows, domains)
    axes.set_ylim(len(domains) - 0.5, -0.5)
    label = "share (percent), the others at their best for it"
    axes.set(xlabel=label, ylabel="training domain", title=title)
    axes.set_xlim(left=0)
    return figure


def laws_beside(
    domains: Sequence[str],
    shares: Mapping[str, ArrayLike],
    x: ArrayLike,
    regrets: Mapping[str, ArrayLike],
    title: str,
    label: str,
) -> Figure:
    """Optima of several laws, and what each law's mixture costs by another.

    Args:
        shares: {law: optimal shares (k,)} at the place that the title names.
        x, label: what the regrets are drawn against (points,), and its name.
        regrets: {whose mixture by which law: fractions of the objective (points,)}.
    """
    high = max(3.0, 1.0 + (0.1 + 0.13 * len(shares)) * len(domains))
    figure, (left, right) = grid(2, (4.8 + text_width(domains), high))
    draw_bars(left, domains, {law: 100 * np.asarray(h) for law, h in shares.items()})
    left.set(xlabel=_SHARE, ylabel="training domain", title=title)
    left.legend(frameon=False)
    for i, (name, values) in enumerate(regrets.items()):
        right.plot(x, 100 * np.asarray(values), label=name, **line_of(i))
    right.set(xscale="log", xlabel=label, ylabel="regret (percent of the objective)")
    right.set_title("cost of the other law's mixture")
    from_zero([right])
    right.legend(frameon=False)
    return figure


def budget_curve(
    N: ArrayLike,
    objective: ArrayLike,
    shares: ArrayLike,
    domains: Sequence[str],
    best: tuple[float, float, float],
    flops: float,
) -> Figure:
    """Along one compute budget: the objective of the best mixture against N, and its shares.

    Args:
        N, objective, shares: of the same splits (points,), (points,), (points, k).
        best: N, D and objective of the best split.
    """
    figure, (left, right) = grid(2, (4.8, 3.5))
    label = f"N = {best[0]:.3g}, D = {best[1]:.3g}"
    left.plot(N, objective, color=colour_of(0))
    left.plot(best[0], best[2], "o", color=MARKED, label=label)
    left.set(ylabel="objective (weighted sum of losses)", title=f"6 N D = {flops:.3g} FLOPs")
    left.legend(frameon=False)
    draw_shares(right, N, shares, domains)
    right.axvline(best[0], color="0.5", linewidth=0.8)
    right.set(ylabel=_SHARE, title="mixture for each split")
    right.set_ylim(bottom=0)
    for axes in (left, right):
        axes.set(xscale="log", xlabel="parameters N")
    legend(figure, right, "domain")
    return figure


def moves(
    moved: Floats,
    gain: Floats,
    knee: int,
    shares: ArrayLike,
    domains: Sequence[str],
    risks: Mapping[str, ArrayLike],
) -> Figure:
    """From a base to the optimum: predicted gain with its knee, shares, and what the steps risk.

    Args:
        moved, gain, shares: fractions of the steps (steps,), (steps,), (steps, k).
        risks: {what it is: numbers (steps,)}, a panel each.
    """
    figure, panels = grid(2 + len(risks), (4.0, 3.4))
    x = 100 * moved
    line: dict[str, Any] = {"color": colour_of(0), "markersize": 4}
    panels[0].plot(x, 100 * gain, "o-", **line)
    label = f"knee: {x[knee]:.0f} percent moved"
    panels[0].plot(x[knee], 100 * gain[knee], "D", color=MARKED, label=label)
    panels[0].set(ylabel="predicted gain (percent of the objective)", title="what moving buys")
    panels[0].legend(frameon=False)
    draw_shares(panels[1], x, shares, domains)
    panels[1].set(ylabel="share (percent)", title="best mixture so near to the base")
    from_zero(panels[1:2])
    for axes, (name, values) in zip(panels[2:], risks.items(), strict=True):
        axes.plot(x, values, "o-", **line)
        axes.set(ylabel=name, title="what it risks")
        axes.set_ylim(bottom=0)
    for axes in panels:
        axes.set_xlabel("tokens that change domain (percent)")
    legend(figure, panels[1], "domain")
    return figure


def front(
    groups: Sequence[str],
    losses: Floats,
    knee: int,
    shares: ArrayLike,
    domains: Sequence[str],
    beside: Mapping[str, ArrayLike],
) -> Figure:
    """A Pareto front of two groups as a curve and the shares along it, of three as pairs.

    Args:
        groups: names of the axes.
        losses, shares: of the front's mixtures, (points, groups) and (points, k).
        knee: which of them is the knee.
        beside: {name: losses of another mixture (groups,)}.
    """
    symbols = {"knee": losses[knee]} | {name: np.asarray(x) for name, x in beside.items()}
    labels = [f"mean loss, {name}" for name in groups]
    if len(groups) > 2:
        return _three(groups, losses, symbols, labels)
    figure, (left, right) = grid(2, (4.8, 3.8))
    left.plot(*losses.T, ".-", color=colour_of(0), markersize=4, linewidth=1.2, label="front")
    _mark(left, symbols, [0, 1])
    left.set(xlabel=labels[0], ylabel=labels[1], title="what one group costs the other")
    left.legend(frameon=False)
    draw_shares(right, losses[:, 0], shares, domains)
    right.axvline(losses[knee, 0], color="0.5", linewidth=0.8)
    right.set(xlabel=labels[0], ylabel="share (percent)")
    right.set_title("mixtures along the front (line: knee)")
    right.set_ylim(bottom=0)
    legend(figure, right, "domain")
    return figure


def _three(
    groups: Sequence[str], losses: Floats, symbols: Mapping[str, Floats], labels: Sequence[str]
) -> Figure:
    figure, panels = grid(3, (4.5, 3.6))
    for axes, (a, b) in zip(panels, itertools.combinations(range(3), 2), strict=True):
        rest = 3 - a - b
        points = axes.scatter(*losses[:, [a, b]].T, c=losses[:, rest], cmap="cividis", s=16)
        _mark(axes, symbols, [a, b])
        axes.set(xlabel=labels[a], ylabel=labels[b])
        figure.colorbar(points, ax=axes, label=f"mean loss, {groups[rest]}")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", frameon=False, ncols=len(names))
    return figure


def _mark(axes: Axes, symbols: Mapping[str, Floats], pair: list[int]) -> None:
    """The knee as a diamond, the other mixtures by other symbols, over what is drawn."""
    others = itertools.cycle([(mark, colour_of(i)) for mark, i in _SYMBOLS.items()])
    looks = itertools.chain([("D", MARKED)], others)
    over: dict[str, Any] = {"markersize": 8, "markeredgecolor": "white", "zorder": 5}
    for (name, losses), (mark, colour) in zip(symbols.items(), looks, strict=False):
        axes.plot(*losses[pair], mark, color=colour, label=name, **over)


# --- Maps of a simplex onto itself, paper, Figs. 8 and 9 ------------------------------------------


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
    first, rest = points.names
    axes.set(xlabel=f"weight of target {first} (the rest: {rest})")
    axes.set_ylabel(f"optimal share of {first}")
    axes.legend(frameon=False)
    return figure


def _triangle(points: Map) -> Figure:
    """Colour at each w, and an arrow from some w to its h*(w)."""
    from matplotlib.patches import Polygon

    figure, (axes,) = grid(1, (6.2, 5.0))
    known = np.isfinite(points.distance)
    w, distance = points.w[known], points.distance[known]
    tail, tip = w @ _TRIANGLE, points.h[known] @ _TRIANGLE
    how: dict[str, Any] = {"shading": "gouraud", "cmap": "cividis", "vmin": 0}
    colours = axes.tripcolor(tail[:, 0], tail[:, 1], distance, **how)
    side = round(1 / np.min(points.w[points.w > 0]))
    step = max(1, side // _ARROWS)
    chosen = np.all(np.round(w * side).astype(int) % step == 0, axis=1)
    as_long: dict[str, Any] = {"angles": "xy", "scale_units": "xy", "scale": 1}
    arrows = np.hstack([tail, tip - tail])[chosen]
    axes.quiver(*arrows.T, width=0.0025, color="white", alpha=0.9, **as_long)
    axes.add_patch(Polygon(_TRIANGLE, closed=True, fill=False, edgecolor="0.2", linewidth=1.0))
    axes.scatter(*(points.fixed @ _TRIANGLE).T, label="fixed point, h*(w) = w", **_FIXED)
    _name_corners(axes, _TRIANGLE, points.names, 1.12)
    axes.set(aspect="equal", xlim=(-0.15, 1.15), ylim=(-0.14, 1.0))
    axes.set_axis_off()
    if len(points.fixed):
        axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(-0.02, 0.98))
    figure.colorbar(colours, ax=axes, label=_DISTANCE, shrink=0.8)
    axes.set_title("target weights w, arrows to the optimal mixture h*(w)")
    return figure


def _tetrahedron(points: Map) -> Figure:
    """Colour at each w, as points in space."""
    figure, (panel,) = grid(1, (6.2, 5.2), projection="3d")
    axes: Any = panel
    axes.computed_zorder = False  # the stars stay in front
    how: dict[str, Any] = {"cmap": "cividis", "vmin": 0, "s": 26, "depthshade": False}
    colours = axes.scatter(*(points.w @ _TETRAHEDRON).T, c=points.distance, **how)
    for a, b in itertools.combinations(_TETRAHEDRON, 2):
        axes.plot(*np.stack([a, b]).T, color="0.6", linewidth=0.8)
    if len(points.fixed):
        axes.scatter(*(points.fixed @ _TETRAHEDRON).T, label="fixed point, h*(w) = w", **_FIXED)
        axes.legend(frameon=False, loc="upper right")
    _name_corners(axes, _TETRAHEDRON, points.names, 1.15)
    axes.set_axis_off()
    axes.view_init(elev=14, azim=-35)
    axes.set_box_aspect(None, zoom=1.12)
    figure.colorbar(colours, ax=axes, label=_DISTANCE, shrink=0.8)
    return figure


def _name_corners(axes: Any, corners: Floats, names: Sequence[str], out: float) -> None:
    """Names of the corners, a little outside of them."""
    centre = corners.mean(axis=0)
    for corner, name in zip(corners, names, strict=True):
        place = centre + out * (corner - centre)
        axes.text(*place, name, ha="center", va="center", fontsize=10)
