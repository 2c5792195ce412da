"""The look of every figure: colours that stay apart for the colour-blind, panels, legends, PNGs."""

from __future__ import annotations

import io
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from mixjax.text import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito 2008, with grey in place of yellow, which is faint on white.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000", "#808080")
MARKED = COLOURS[3]  # an optimum, a knee, a fixed point
_LINES = ("-", "--", ":", "-.")
_LEGEND_ROWS = 14  # a legend of more entries takes another column


def colour_of(i: int) -> str:
    """The colour of the i-th thing."""
    return COLOURS[i % len(COLOURS)]


def line_of(i: int) -> dict[str, Any]:
    """Colour and dashes of the i-th line: the first eight differ in colour, the next in dashes."""
    return {
        "color": colour_of(i),
        "linestyle": _LINES[i // len(COLOURS) % len(_LINES)],
        "linewidth": 1.8,
    }


def text_width(names: Iterable[str]) -> float:
    """About how wide the longest of some words is, in inches."""
    return 0.08 * max(map(len, names), default=0)


def grid(
    number: int,
    panel: tuple[float, float],
    across: int | None = None,
    sharey: bool = False,
    projection: str | None = None,
) -> tuple[Figure, list[Axes]]:
    """A figure of equal panels in reading order.

    Args:
        panel: width and height of one, in inches.
        across: panels side by side; all of them by default.
    """
    from matplotlib.figure import Figure

    across = min(across or number, number)
    down = -(-number // across)
    size = (panel[0] * across + 0.3, panel[1] * down + 0.2)
    figure = Figure(figsize=size, layout="constrained")
    how: dict[str, Any] = {"squeeze": False, "sharey": sharey}
    panels = figure.subplots(down, across, subplot_kw={"projection": projection}, **how)
    for axes in panels.flat[number:]:
        axes.set_visible(False)
    for axes in panels.flat:
        axes.grid(True, color="0.9", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    return figure, panels.flat[:number].tolist()


def legend(figure: Figure, axes: Axes, title: str | None = None) -> None:
    """What the lines of a panel mean, at the right of all panels, the figure widened for it."""
    handles, labels = axes.get_legend_handles_labels()
    columns = -(-len(labels) // _LEGEND_ROWS)
    wide = columns * (0.5 + text_width([*labels, *(title or "").split("\n")]))
    width, height = figure.get_size_inches()
    figure.set_size_inches(width + wide, height)
    look: dict[str, Any] = {"loc": "outside right center", "frameon": False, "ncols": columns}
    figure.legend(handles, labels, title=title, **look)


def from_zero(panels: Sequence[Axes]) -> None:
    """Vertical axes that begin at 0 and end above the highest line of all panels."""
    tops = [float(np.max(line.get_ydata())) for axes in panels for line in axes.lines]
    for axes in panels:
        axes.set_ylim(0.0, 1.05 * max(tops, default=1.0))


def draw_shares(axes: Axes, x: ArrayLike, shares: ArrayLike, domains: Sequence[str]) -> None:
    """Shares (points, k) in percent, a line a domain."""
    for i, values in enumerate(100 * np.asarray(shares).T):
        axes.plot(x, values, label=domains[i], **line_of(i))
    axes.margins(x=0.02)


def draw_bands(axes: Axes, x: Sequence[int], quartiles: Mapping[str, ArrayLike]) -> None:
    """Low, median and high (points, 3) of each name against counts: a line of medians in a band,
    both axes logarithmic; what is not finite is left out."""
    for i, (name, values) in enumerate(quartiles.items()):
        low, middle, high = np.where(np.isfinite(values), values, np.nan).T
        axes.fill_between(x, low, high, color=colour_of(i), alpha=0.2, linewidth=0)
        axes.plot(x, middle, marker="o", markersize=4, label=name, **line_of(i))
    log_ticks(axes, x)


def log_ticks(axes: Axes, x: Sequence[int]) -> None:
    """Logarithmic axes: marks at the counts x, and at 1, 2, 5 or whole powers of ten upwards."""
    axes.set(xscale="log", yscale="log")
    axes.set_xticks(x, [str(count) for count in x])
    low, high = np.log10(axes.get_ylim())
    marks = (1, 2, 5) if high - low < 3 else (1,)
    powers = range(int(np.floor(low)), int(np.ceil(high)) + 1)
    axes.minorticks_off()
    axes.set_yticks([y for p in powers for m in marks if low <= np.log10(y := m * 10.0**p) <= high])
    axes.yaxis.set_major_formatter(lambda y, _: f"{y:g}")


def draw_bars(
    axes: Axes, rows: Sequence[str], groups: dict[str, Any], grey: Collection[str] = ()
) -> None:
    """Horizontal bars, a group of them a row."""
    high = 0.8 / len(groups)
    colours = iter(COLOURS * len(groups))
    for i, (name, values) in enumerate(groups.items()):
        colour = "0.75" if name in grey else next(colours)
        axes.barh(np.arange(len(rows)) + i * high, values, high, label=name, color=colour)
    axes.set_yticks(np.arange(len(rows)) + 0.4 - high / 2, list(rows))
    axes.set_ylim(len(rows) - 0.1 - high / 2, -0.1 - high / 2)
    axes.grid(False, axis="y")


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """A PNG, whole or not at all; what stands out over the figure's edge is kept.

    Raises:
        UserError: the folder does not exist or cannot be written.
    """
    content = io.BytesIO()
    look: dict[str, Any] = {"dpi": 120, "bbox_inches": "tight", "pad_inches": 0.08}
    about = {"Software": "mixjax"}
    figure.savefig(content, format="png", facecolor="white", metadata=about, **look)
    write_whole(path, content.getvalue())
