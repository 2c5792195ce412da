"""A Pareto front drawn: two groups as a curve, three as pairs."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from mixjax.report.style import colour_of, grid, line_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from mixjax.mixture.front import Front

_MARKS = ("s", "^", "v", "P", "X")


def front_figure(found: Front) -> Figure:
    """The front in losses with its knee and other mixtures; of two groups also the shares along
    it."""
    return _two(found) if len(found.groups) == 2 else _three(found)


def _two(found: Front) -> Figure:
    figure, (losses, shares) = grid(1, 2, (4.8, 3.8))
    names = list(found.groups)
    losses.plot(
        found.losses[:, 0],
        found.losses[:, 1],
        ".-",
        color=colour_of(0),
        markersize=4,
        linewidth=1.2,
        label="front",
    )
    _marked(losses, found, 0, 1)
    losses.set(
        xlabel=f"mean loss, {_what(found, names[0])}",
        ylabel=f"mean loss, {_what(found, names[1])}",
        title="what one group costs the other",
    )
    losses.legend(frameon=False)
    for i, domain in enumerate(found.domains):
        shares.plot(found.losses[:, 0], 100 * found.h[:, i], label=domain, **line_of(i))
    shares.axvline(found.losses[found.knee, 0], color="0.5", linewidth=0.8)
    shares.set(
        xlabel=f"mean loss, {_what(found, names[0])}",
        ylabel="share (percent)",
        title="mixtures along the front (line: knee)",
    )
    shares.set_ylim(bottom=0)
    handles, labels = shares.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False, title="domain")
    return figure


def _three(found: Front) -> Figure:
    names = list(found.groups)
    pairs = list(itertools.combinations(range(3), 2))
    figure, panels = grid(1, 3, (4.5, 3.6))
    for axes, (a, b) in zip(panels, pairs, strict=True):
        rest = ({0, 1, 2} - {a, b}).pop()
        drawn = axes.scatter(
            found.losses[:, a], found.losses[:, b], c=found.losses[:, rest], cmap="cividis", s=16
        )
        _marked(axes, found, a, b)
        axes.set(
            xlabel=f"mean loss, {_what(found, names[a])}",
            ylabel=f"mean loss, {_what(found, names[b])}",
        )
        figure.colorbar(drawn, ax=axes, label=f"mean loss, {names[rest]}")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", frameon=False, ncols=len(labels))
    return figure


def _marked(axes: Axes, found: Front, a: int, b: int) -> None:
    """The knee and the other mixtures, over what is drawn; the view is that of the front where a
    mixture lies far from it."""
    style: dict[str, Any] = {"linestyle": "none", "markeredgecolor": "white", "zorder": 5}
    axes.plot(
        *found.losses[found.knee, [a, b]],
        marker="D",
        color=colour_of(3),
        markersize=8,
        label="knee",
        **style,
    )
    for i, (name, (_, losses)) in enumerate(found.beside.items()):
        axes.plot(
            losses[a],
            losses[b],
            marker=_MARKS[i % len(_MARKS)],
            color=colour_of((2, 1, 4, 6, 7)[i % 5]),
            markersize=9,
            label=name,
            **style,
        )


def _what(found: Front, name: str) -> str:
    """A group by its name, and by its targets where these are few and say more."""
    targets = list(found.groups[name])
    return name if targets == [name] or len(targets) > 3 else f"{name} ({', '.join(targets)})"
