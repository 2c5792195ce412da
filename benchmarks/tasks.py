"""What is minimised in the benchmarks: SlimPajama where the reference data are, simulated runs of
its shape elsewhere."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

import mixjax as mj
from benchmarks.common import shared
from mixjax.fitting import Objective
from mixjax.fitting.loss import Huber
from mixjax.fitting.objective import Observations
from mixjax.fitting.problem import Problem, make_problem
from mixjax.law import Law, find_law

SLIMPAJAMA = (
    "arxiv",
    "book",
    "c4",
    "github",
    "commoncrawl",
    "stackexchange",
    "wikipedia",
    "openhermes",
)
COORDINATES = ("corner", "printed")


def slimpajama_path() -> Path | None:
    """The released runs, or None where the reference data are not there."""
    folder = os.environ.get("MIXJAX_DATA")
    path = Path(folder) / "slimpajama.csv" if folder else shared("data", "slimpajama.csv")
    return path if path and path.exists() else None


def experiment(targets: tuple[str, ...] = SLIMPAJAMA) -> tuple[mj.Runs, str]:
    """The training runs, and whether they are SlimPajama or simulated in its shape (1374 rows, 60
    mixtures, 34 scales)."""
    path = slimpajama_path()
    if path:
        return mj.read_runs(path, where="split == 'train'"), "slimpajama"
    return simulated(k=7, targets=targets, rows=1374), "simulated"


def simulated(
    k: int, targets: tuple[str, ...] | int, rows: int, mixtures: int | None = None, seed: int = 0
) -> mj.Runs:
    """Joint-law runs with noise of 0.3 percent: about 23 checkpoints of each mixture over 4 sizes,
    as in SlimPajama."""
    from mixjax.data.design import design_mixtures
    from mixjax.fitting.simulate import random_truth, simulate_runs

    names = targets if isinstance(targets, tuple) else tuple(f"t{i}" for i in range(targets))
    truth = random_truth("joint", k, names, seed)
    sizes = (3.1e8, 6.8e8, 9.4e8, 1.24e9)
    scales = [
        (N, tokens * N * (s + 1) / 8)
        for N, tokens in zip(sizes, (64, 38, 38, 37), strict=True)
        for s in range(8)
    ]
    m = mixtures or max(1, -(-rows // len(scales)))
    h = (
        np.random.default_rng(seed).dirichlet(np.ones(k), m)
        if k > 20
        else design_mixtures(truth.domains, m, minimum=0.02, seed=seed).to_numpy()
    )
    which = np.arange(rows) % (m * len(scales))
    N, D = (np.array([scales[i // m][j] for i in which]) for j in (0, 1))
    return mj.read_runs(simulate_runs(truth, h[which % m], N, D, noise=0.003, seed=seed))


def search_law(name: str, coordinates: str) -> Law:
    """The law as mixjax searches it, or with the paper's own parameters as the search's
    coordinates."""
    law = find_law(name)
    return law if coordinates == "corner" else replace(law, coordinates=None)


def records(law: str) -> dict[str, float]:
    """Lowest objectives known, {target: value}; empty where the reference is absent."""
    path = shared("best_objectives.json")
    return json.loads(path.read_text())[law] if path else {}


@dataclass(frozen=True)
class Task:
    """One target to fit: objective and data of the engine's form, and how low is how good.

    best: the lowest objective known before. goals: shares above it, the last of which ends a
    search.
    """

    target: str
    problem: Problem
    best: float
    goals: tuple[float, ...] = (0.03, 0.01, 0.003)

    @cached_property
    def objective(self) -> Objective:
        """What is minimised, for minimisers other than mixjax."""
        return Objective(self.problem)

    @property
    def data(self) -> Observations:
        """The target's arrays."""
        return self.problem.data.of(0)

    @property
    def enough(self) -> float:
        """The objective that ends a search."""
        return self.best * (1 + self.goals[-1])


def make_task(runs: mj.Runs, target: str, coordinates: str, best: float) -> Task:
    """The joint law on one target."""
    return Task(
        target,
        make_problem(runs, search_law("joint", coordinates), [target], Huber(prior="none")),
        best,
    )
