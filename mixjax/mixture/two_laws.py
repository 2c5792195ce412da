"""Optima of several laws side by side (questions by law -> BESIDE): how far they differ, and
what the difference costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from mixjax.drawing import charts
from mixjax.errors import UserError
from mixjax.mixture.paths import Path, budget_path
from mixjax.mixture.question import Floats, Question
from mixjax.mixture.targets import jensen_shannon
from mixjax.text import table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Beside:
    """Optima of each law along the same budgets.

    Attributes:
        paths: {name: Path}.
        regret: {(judge, name): (points,)}: objective of the optimum of `name` by the law of
            `judge`, above that law's own, relatively.
        distance: {(name, other): (points,)}: Jensen-Shannon distance of their optima.
    """

    paths: dict[str, Path]
    regret: dict[tuple[str, str], Floats]
    distance: dict[tuple[str, str], Floats]

    def __str__(self) -> str:
        """Largest regret of each law's mixture by each law, in percent."""
        names = list(self.paths)
        rows = [
            [judge, *(f"{100 * self.regret[judge, name].max():.4f}" for name in names)]
            for judge in names
        ]
        return table(["largest regret %, by the law", *(f"of {name}" for name in names)], rows)

    def to_dict(self) -> dict[str, Any]:
        """Plain content for JSON."""
        return {
            "paths": {name: path.to_dict() for name, path in self.paths.items()},
            "regret": [
                {"by": judge, "of": name, "values": values}
                for (judge, name), values in self.regret.items()
            ],
            "distance": [
                {"of": name, "to": other, "values": values}
                for (name, other), values in self.distance.items()
            ],
        }

    def figure(self) -> Figure:
        """Optima at the last budget, and what each law's mixture costs by another."""
        last = next(iter(self.paths.values()))
        regrets = {
            f"{name} mixture, by {judge}": values
            for (judge, name), values in self.regret.items()
            if judge != name
        }
        x = last.drawn()
        return charts.laws_beside(
            list(last.mixtures[0].weights),
            {name: path.shares[-1] for name, path in self.paths.items()},
            x.x,
            regrets,
            title=f"at N = {last.N[-1]:.3g}, D = {last.D[-1]:.3g}",
            label=x.label,
        )


def beside(questions: Mapping[str, Question], N: ArrayLike, D: ArrayLike) -> Beside:
    """Optima of several laws at each budget: additive against joint, say, whose first is the same
    at every scale.

    Args:
        questions: {name: question}, of fits with the same domains and targets that count; their own
            N and D are not read.
        N, D: counts (points,), or () for one that stays.

    Raises:
        UserError: fits that do not go together, or what `budget_path` refuses.
    """
    names = list(questions)
    if len(names) < 2:
        raise UserError("laws", f"{len(names)} fit", "give at least two fits")
    first = questions[names[0]]
    for name in names[1:]:
        if questions[name].fit.domains != first.fit.domains:
            raise UserError(
                name,
                f"has the domains {', '.join(questions[name].fit.domains)}",
                f"give fits of {', '.join(first.fit.domains)}, in this order",
            )
        if questions[name].weighed.keys() != first.weighed.keys():
            raise UserError(
                name,
                "has other targets",
                "give fits of the same targets, or name the same with --weights",
            )
    paths = {name: budget_path(question, N, D) for name, question in questions.items()}
    regret = {}
    for judge in names:
        own = np.array([m.objective for m in paths[judge].mixtures])
        for name in names:
            there = questions[judge].value(paths[name].shares, paths[name].N, paths[name].D)
            regret[judge, name] = (
                np.maximum(there - own, 0.0) / np.abs(own) if name != judge else np.zeros_like(own)
            )
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    return Beside(
        paths, regret, {(a, b): jensen_shannon(paths[a].shares, paths[b].shares) for a, b in pairs}
    )
