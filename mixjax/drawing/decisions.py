"""Pictures of decisions (names and arrays -> FIGURES): flat regions, budgets, moves, fronts, laws
beside each other."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixjax.drawing.style import (
    MARKED,
    colour_of,
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
_SYMBOLS = ("s", "^", "v", "P", "X")
_SYMBOL_COLOURS = (2, 1, 4, 6, 7)


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
    left.set(xlabel="optimal share (percent)", ylabel="training domain", title=title)
    left.legend(frameon=False)
    for i, (name, values) in enumerate(regrets.items()):
        right.plot(x, 100 * np.asarray(values), label=name, **line_of(i))
    right.set(
        xscale="log",
        xlabel=label,
        ylabel="regret (percent of the objective)",
        title="cost of the other law's mixture",
    )
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
    left.set(
        xscale="log",
        xlabel="parameters N",
        ylabel="objective (weighted sum of losses)",
        title=f"6 N D = {flops:.3g} FLOPs",
    )
    left.legend(frameon=False)
    draw_shares(right, N, shares, domains)
    right.axvline(best[0], color="0.5", linewidth=0.8)
    right.set(
        xscale="log",
        xlabel="parameters N",
        ylabel="optimal share (percent)",
        title="mixture for each split",
    )
    right.set_ylim(bottom=0)
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
    title = "what one group costs the other"
    left.set(xlabel=labels[0], ylabel=labels[1], title=title)
    left.legend(frameon=False)
    draw_shares(right, losses[:, 0], shares, domains)
    right.axvline(losses[knee, 0], color="0.5", linewidth=0.8)
    title = "mixtures along the front (line: knee)"
    right.set(xlabel=labels[0], ylabel="share (percent)", title=title)
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
    for i, (name, losses) in enumerate(symbols.items()):
        axes.plot(
            *losses[pair],
            marker="D" if i == 0 else _SYMBOLS[(i - 1) % len(_SYMBOLS)],
            color=MARKED if i == 0 else colour_of(_SYMBOL_COLOURS[(i - 1) % len(_SYMBOLS)]),
            markersize=8,
            label=name,
            linestyle="none",
            markeredgecolor="white",
            zorder=5,
        )
