"""Charts of one kind of panel (names and arrays -> FIGURES): shares along counts, bars, bands,
tables of shares, measured against predicted."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixjax.drawing.style import (
    colour_of,
    draw_bands,
    draw_bars,
    draw_shares,
    from_zero,
    grid,
    legend,
    text_width,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHARE = "optimal share (percent)"


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
    shares: NDArray[np.float64]
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
    figure, (axes,) = grid(
        1, (5.6 + text_width(rows), 1.0 + (0.2 + 0.16 * len(groups)) * len(rows))
    )
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
