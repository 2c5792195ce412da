"""Figures of decisions (results -> FIGURES): what of each result is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from mixjax.drawing import charts, decisions, simplexes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mixjax.mixture.beside import Beside
    from mixjax.mixture.budget import Budget
    from mixjax.mixture.flat import Region
    from mixjax.mixture.front import Front
    from mixjax.mixture.judge import Judgement
    from mixjax.mixture.move import Moves
    from mixjax.mixture.optimum import Optimum
    from mixjax.mixture.paths import Path
    from mixjax.mixture.robust import Robust
    from mixjax.mixture.targets import TargetMap
    from mixjax.trust.enough import Enough


def _against(path: Path) -> tuple[np.ndarray, str]:
    """What a path is drawn against: N or D where only that grows, else compute."""
    if np.ptp(path.N) == 0:
        return path.D, "training tokens D"
    if np.ptp(path.D) == 0:
        return path.N, "parameters N"
    return 6 * path.N * path.D, "training compute 6 N D (FLOPs)"


def _end(path: Path) -> list[float] | None:
    return None if path.end is None else list(path.end.values())


def path_figure(paths: Mapping[str, Path]) -> Figure:
    """Optimal shares along budgets, a panel a path. Paper Fig. 6."""
    panels = {
        name: charts.Shares(*_against(path), path.shares, _end(path))
        for name, path in paths.items()
    }
    return charts.shares_along(panels, list(next(iter(paths.values())).mixtures[0].weights))


def growth_figure(paths: Mapping[str, Path]) -> Figure:
    """Optimal shares as N and D grow, a panel a growth law. Paper Fig. 10."""
    panels = {}
    for name, path in paths.items():
        growth = {"N": path.N / path.N[0], "D": path.D / path.D[0]}
        faster = max(growth, key=lambda what: growth[what][-1])
        end = _end(path)
        panels[name] = charts.Shares(growth[faster], f"{faster}, times the first", path.shares, end)
    return charts.shares_along(panels, list(next(iter(paths.values())).mixtures[0].weights))


def enough_figure(enough: Enough) -> Figure:
    """Error against the number of trained mixtures. Paper Fig. 5."""
    quartiles = {law: enough.quartiles(law) for law in enough.errors}
    y = "mean relative error (percent)"
    return charts.bands(enough.counts, quartiles, "mixtures fitted", y, title="law")


def corners_figure(optima: Mapping[str, Optimum]) -> Figure:
    """The optimum for one target at a time. Paper Fig. 7."""
    shares = [list(m.weights.values()) for m in optima.values()]
    return charts.share_table(list(optima), list(next(iter(optima.values())).weights), shares)


def beside_figure(beside: Beside) -> Figure:
    """Optima of several laws at the last budget, and what each law's mixture costs by another."""
    last = next(iter(beside.paths.values()))
    regrets = {
        f"{name} mixture, by {judge}": values
        for (judge, name), values in beside.regret.items()
        if judge != name
    }
    x, label = _against(last)
    return decisions.laws_beside(
        list(last.mixtures[0].weights),
        {name: path.shares[-1] for name, path in beside.paths.items()},
        x,
        regrets,
        title=f"at N = {last.N[-1]:.3g}, D = {last.D[-1]:.3g}",
        label=label,
    )


def region_figure(region: Region) -> Figure:
    """The flat region: for each domain the shares within eps of the optimum, and the optimal
    one."""
    low, best, high = np.array([(i.low, i.best, i.high) for i in region.intervals.values()]).T
    title = f"objective within {100 * region.eps:g} percent of the optimum (dot)"
    return decisions.share_ranges(list(region.intervals), low, best, high, title)


def budget_figure(budget: Budget) -> Figure:
    """Along one compute budget: the objective of the best mixture against N, and its shares."""
    best = budget.mixture
    assert best.N is not None
    assert best.D is not None
    near = [point for point in budget.curve if 1 / 30 <= point.N / best.N <= 30]
    return decisions.budget_curve(
        [point.N for point in near],
        [point.objective for point in near],
        [list(point.weights.values()) for point in near],
        list(best.weights),
        (best.N, best.D, best.objective),
        budget.flops,
    )


def moves_figure(moves: Moves) -> Figure:
    """From the base to the optimum: predicted gain with its knee, shares, and what the steps risk
    where that is known."""
    steps = moves.steps
    risks = {
        "largest number of epochs": [step.epochs for step in steps],
        "share outside the trained mixtures": [step.outside for step in steps],
    }
    return decisions.moves(
        np.array([step.moved for step in steps]),
        np.array([step.gain for step in steps]),
        moves.knee,
        [list(step.weights.values()) for step in steps],
        list(steps[0].weights),
        {name: np.array(v, float) for name, v in risks.items() if v[0] is not None},
    )


def robust_figure(robust: Robust) -> Figure:
    """Regret of each mixture over the fits: mean, tail and largest."""
    regrets = robust.mixtures.values()
    groups = {
        "mean": [100 * r.mean for r in regrets],
        f"worst {100 * (1 - robust.level):g} percent": [100 * r.tail for r in regrets],
        "largest": [100 * r.worst for r in regrets],
    }
    title = f"over {len(next(iter(regrets)).each)} fits"
    return charts.bars(
        list(robust.mixtures), groups, "regret (percent of the objective)", "mixture", title
    )


def compare_figure(judged: Judgement) -> Figure:
    """Predicted loss of each mixture on each target, relative to the optimum's."""
    best = judged.mixtures["optimum"].losses
    groups = {
        name: [100 * (mixture.losses[t] / best[t] - 1) for t in best]
        for name, mixture in judged.mixtures.items()
        if name != "optimum"
    }
    x = "loss above (right) or below the optimum's (percent)"
    return charts.bars(list(best), groups, x, "target")


def map_figure(points: TargetMap) -> Figure:
    """The distance of target weights and their optimum over the simplex. Paper Figs. 8 and 9."""
    return simplexes.simplex_map(
        simplexes.Map(points.domains, points.w, points.h, points.distance, points.fixed)
    )


def front_figure(front: Front) -> Figure:
    """The front in losses with its knee and other mixtures; of two groups also the shares along
    it."""
    groups = [
        name if list(targets) == [name] or len(targets) > 3 else f"{name} ({', '.join(targets)})"
        for name, targets in front.groups.items()
    ]
    beside = {name: losses for name, (_, losses) in front.beside.items()}
    return decisions.front(groups, front.losses, front.knee, front.h, front.domains, beside)
