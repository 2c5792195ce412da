"""Figures of decisions (results -> FIGURES): each takes one result and gives one Matplotlib figure,
drawn without a display."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mixjax.mixture.question import Floats
from mixjax.report.simplexes import map_figure as map_figure
from mixjax.report.style import colour_of, from_zero, grid, line_of, pick, ticks_in_percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from mixjax.mixture.beside import Beside
    from mixjax.mixture.budget import Budget
    from mixjax.mixture.flat import Region
    from mixjax.mixture.judge import Comparison
    from mixjax.mixture.move import Moves
    from mixjax.mixture.optimum import Mixture
    from mixjax.mixture.paths import Path
    from mixjax.mixture.robust import Robust
    from mixjax.trust.enough import Enough


def _share_lines(axes: Axes, x: Floats, shares: Floats, domains: Sequence[str]) -> None:
    """Shares (points, k) in percent, a line a domain."""
    for i, domain in enumerate(domains):
        axes.plot(x, 100 * shares[:, i], label=domain, **line_of(i))
    axes.margins(x=0.02)


def _legend(figure: Figure, axes: Axes, title: str = "") -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False, title=title or None)


def path_figure(paths: Mapping[str, Path]) -> Figure:
    """Optimal shares along budgets, a panel a path: against N or D where only that grows, else
    against 6 N D. Paper Fig. 6."""
    figure, panels = grid(1, len(paths), (4.2, 3.4), sharey=True)
    for axes, (name, path) in zip(panels, paths.items(), strict=True):
        x, label = pick(path)
        _share_lines(axes, x, path.shares, list(path.mixtures[0].weights))
        axes.set(xscale="log", title=name, xlabel=label)
    from_zero(panels)
    panels[0].set_ylabel("optimal share (percent)")
    _legend(figure, panels[0], "domain")
    return figure


def enough_figure(found: Enough) -> Figure:
    """Error against the number of trained mixtures, a line a law, with the quartiles over random
    choices as a band. Paper Fig. 5."""
    figure, (axes,) = grid(1, 1, (5.2, 3.6))
    for i, law in enumerate(found.errors):
        low, middle, high = np.where(np.isfinite(q := found.quartiles(law)), q, np.nan).T
        axes.fill_between(found.counts, low, high, color=colour_of(i), alpha=0.2, linewidth=0)
        axes.plot(found.counts, middle, marker="o", markersize=4, label=law, **line_of(i))
    axes.set(
        xscale="log", yscale="log", xlabel="mixtures fitted", ylabel="mean relative error (percent)"
    )
    axes.set_xticks(found.counts, [str(q) for q in found.counts])
    axes.minorticks_off()
    axes.set_yticks(_round_ticks(*axes.get_ylim()))
    axes.yaxis.set_major_formatter(lambda y, _: f"{y:g}")
    _legend(figure, axes, "law")
    return figure


def _round_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten between two ends."""
    powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    return [tick for p in powers for m in (1, 2, 5) if low <= (tick := m * 10.0**p) <= high]


def growth_figure(paths: Mapping[str, Path]) -> Figure:
    """Optimal shares as N and D grow, a panel a growth law, with the accumulation point as diamonds
    at the right. Paper Fig. 10."""
    across = min(3, len(paths))
    figure, panels = grid(-(-len(paths) // across), across, (3.7, 2.9), sharey=True)
    for axes, (name, path) in zip(panels, paths.items(), strict=False):
        grown = {"N": path.N / path.N[0], "D": path.D / path.D[0]}
        faster = max(grown, key=lambda what: grown[what][-1])
        _share_lines(axes, grown[faster], path.shares, list(path.mixtures[0].weights))
        for i, share in enumerate((path.end or {}).values()):
            axes.plot(
                [grown[faster][-1] * 8],
                [100 * share],
                "D",
                color=colour_of(i),
                markersize=5,
                clip_on=False,
            )
        axes.set(xscale="log", title=name, xlabel=f"{faster}, times the first")
    from_zero(panels)
    for axes in panels[len(paths) :]:
        axes.set_visible(False)
    for axes in panels[::across]:
        axes.set_ylabel("optimal share (percent)")
    _legend(figure, panels[0], "domain\n(diamond: limit)")
    return figure


def corners_figure(found: Mapping[str, Mixture]) -> Figure:
    """The optimum for one target at a time: a row a target, a column a domain, shares in percent.
    Paper Fig. 7."""
    domains = list(next(iter(found.values())).weights)
    shares = 100 * np.array([list(m.weights.values()) for m in found.values()])
    figure, (axes,) = grid(1, 1, (1.6 + 0.75 * len(domains), 1.3 + 0.5 * len(found)))
    image = axes.imshow(shares, cmap="cividis", vmin=0, vmax=100, aspect="auto")
    for row, column in np.ndindex(*shares.shape):
        axes.text(
            column,
            row,
            f"{shares[row, column]:.1f}",
            ha="center",
            va="center",
            fontsize=8,
            color="black" if shares[row, column] > 55 else "white",
        )
    axes.set_xticks(range(len(domains)), domains, rotation=30, ha="right")
    axes.set_yticks(range(len(found)), list(found))
    axes.set(xlabel="training domain", ylabel="only target")
    axes.grid(False)
    figure.colorbar(image, ax=axes, label="optimal share (percent)")
    return figure


def beside_figure(found: Beside) -> Figure:
    """Optima of several laws: shares at the last budget, and what each law's mixture costs by each
    other law."""
    figure, panels = grid(1, 2, (5.2, 3.6))
    names = list(found.paths)
    domains = list(found.paths[names[0]].mixtures[0].weights)
    wide = 0.8 / len(names)
    for i, name in enumerate(names):
        panels[0].bar(
            np.arange(len(domains)) + i * wide,
            100 * found.paths[name].shares[-1],
            wide,
            label=name,
            color=colour_of(i),
        )
    panels[0].set_xticks(np.arange(len(domains)) + 0.4 - wide / 2, domains, rotation=30, ha="right")
    last = found.paths[names[0]]
    panels[0].set(
        xlabel="training domain",
        ylabel="optimal share (percent)",
        title=f"at N = {last.N[-1]:.3g}, D = {last.D[-1]:.3g}",
    )
    panels[0].legend(frameon=False, title="law")
    x, label = pick(last)
    for i, ((judge, name), values) in enumerate(
        (pair, v) for pair, v in found.regret.items() if pair[0] != pair[1]
    ):
        panels[1].plot(x, 100 * values, label=f"{name} mixture, by {judge}", **line_of(i))
    panels[1].set(
        xscale="log",
        xlabel=label,
        ylabel="regret (percent of the objective)",
        title="cost of the other law's mixture",
    )
    from_zero(panels[1:])
    panels[1].legend(frameon=False)
    return figure


def region_figure(region: Region) -> Figure:
    """The flat region: for each domain the shares within eps of the optimum, and the optimal
    one."""
    domains = list(region.intervals)
    figure, (axes,) = grid(1, 1, (6.0, 1.2 + 0.4 * len(domains)))
    for i, interval in enumerate(region.intervals.values()):
        axes.plot(
            [100 * interval.low, 100 * interval.high],
            [i, i],
            color=colour_of(0),
            linewidth=6,
            solid_capstyle="butt",
            alpha=0.45,
        )
        axes.plot(100 * interval.best, i, "o", color=colour_of(3), markersize=6)
    axes.set_yticks(range(len(domains)), domains)
    axes.invert_yaxis()
    axes.set(
        xlabel="share (percent), the others at their best for it",
        title=f"objective within {100 * region.eps:g} percent of the optimum (dot)",
    )
    axes.set_xlim(left=0)
    return figure


def budget_figure(found: Budget) -> Figure:
    """Along one compute budget: the objective of the best mixture against N, and its shares."""
    figure, panels = grid(1, 2, (4.8, 3.5))
    best = found.mixture
    assert best.N is not None
    near = [p for p in found.curve if 1 / 30 <= p.N / best.N <= 30]
    N = np.array([p.N for p in near])
    panels[0].plot(N, [p.objective for p in near], color=colour_of(0))
    panels[0].plot(
        best.N, best.objective, "o", color=colour_of(3), label=f"N = {best.N:.3g}, D = {best.D:.3g}"
    )
    panels[0].set(
        xscale="log",
        xlabel="parameters N",
        ylabel="objective (weighted sum of losses)",
        title=f"6 N D = {found.flops:.3g} FLOPs",
    )
    panels[0].legend(frameon=False)
    _share_lines(
        panels[1], N, np.array([list(p.weights.values()) for p in near]), list(best.weights)
    )
    panels[1].axvline(best.N, color="0.5", linewidth=0.8)
    panels[1].set(
        xscale="log",
        xlabel="parameters N",
        ylabel="optimal share (percent)",
        title="mixture for each split",
    )
    panels[1].set_ylim(bottom=0)
    _legend(figure, panels[1], "domain")
    return figure


def moves_figure(moves: Moves) -> Figure:
    """From the base to the optimum: predicted gain with its knee, shares, and what the steps risk
    where that is known."""
    steps = moves.steps
    moved = 100 * np.array([s.moved for s in steps])
    risks = [
        (label, [getattr(s, name) for s in steps])
        for name, label in (
            ("epochs", "largest number of epochs"),
            ("outside", "share outside the trained mixtures"),
        )
    ]
    risks = [(label, values) for label, values in risks if values[0] is not None]
    figure, panels = grid(1, 2 + len(risks), (4.0, 3.4))
    panels[0].plot(moved, [100 * s.gain for s in steps], "o-", color=colour_of(0), markersize=4)
    knee = steps[moves.knee]
    panels[0].plot(
        100 * knee.moved,
        100 * knee.gain,
        "D",
        color=colour_of(3),
        label=f"knee: {100 * knee.moved:.0f} percent moved",
    )
    panels[0].set(ylabel="predicted gain (percent of the objective)", title="what moving buys")
    panels[0].legend(frameon=False)
    _share_lines(
        panels[1],
        moved,
        np.array([list(s.weights.values()) for s in steps]),
        list(steps[0].weights),
    )
    panels[1].set(ylabel="share (percent)", title="best mixture so near to the base")
    from_zero(panels[1:2])
    for axes, (label, values) in zip(panels[2:], risks, strict=True):
        axes.plot(moved, values, "o-", color=colour_of(0), markersize=4)
        axes.set(ylabel=label, title="what it risks")
        axes.set_ylim(bottom=0)
    for axes in panels:
        axes.set_xlabel("tokens that change domain (percent)")
    _legend(figure, panels[1], "domain")
    return figure


def _bars(axes: Axes, rows: Sequence[str], groups: Mapping[str, Any]) -> None:
    """Horizontal bars, a group of them a row."""
    high = 0.8 / len(groups)
    for i, (name, values) in enumerate(groups.items()):
        axes.barh(np.arange(len(rows)) + i * high, values, high, label=name, color=colour_of(i))
    axes.set_yticks(np.arange(len(rows)) + 0.4 - high / 2, list(rows))
    axes.invert_yaxis()
    axes.legend(frameon=False)


def robust_figure(found: Robust) -> Figure:
    """Regret of each mixture over the fits: mean, tail and largest."""
    rows = list(found.mixtures)
    figure, (axes,) = grid(1, 1, (6.4, 1.2 + 0.55 * len(rows)))
    groups = {
        "mean": [100 * r.mean for r in found.mixtures.values()],
        f"worst {100 * (1 - found.level):g} percent": [
            100 * r.tail for r in found.mixtures.values()
        ],
        "largest": [100 * r.worst for r in found.mixtures.values()],
    }
    _bars(axes, rows, groups)
    axes.set(
        xlabel="regret (percent of the objective)",
        title=f"over {len(next(iter(found.mixtures.values())).each)} fits",
    )
    return figure


def compare_figure(found: Comparison) -> Figure:
    """Predicted loss of each mixture on each target, relative to the optimum's."""
    names = [name for name in found.mixtures if name != "optimum"]
    best = found.mixtures["optimum"].losses
    figure, (axes,) = grid(1, 1, (6.4, 1.2 + 0.22 * len(best) * max(1, len(names))))
    _bars(
        axes,
        list(best),
        {
            name: [100 * (found.mixtures[name].losses[t] / best[t] - 1) for t in best]
            for name in names
        },
    )
    axes.axvline(0, color="0.3", linewidth=0.8)
    ticks_in_percent(axes)
    axes.set(xlabel="loss above (right) or below the optimum's (percent)", ylabel="target")
    return figure
