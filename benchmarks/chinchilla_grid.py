"""Chinchilla's law from the 4500 starts of Hoffmann et al. 2022, against SciPy: python -m
benchmarks.chinchilla_grid

chinchilla.csv (240 of its 245 points), sum of Huber losses (delta 1e-3) of log residuals, all
cores. SciPy's L-BFGS-B minimises the log-sum-exp form in (log A, log B, log E, alpha, beta), its
gradient in NumPy by hand; mixjax its own coordinates from the same points (exponents of 0 as 0.01).
Seconds, the lowest objective, and how many starts end within 1e-6 of it.
"""

from __future__ import annotations

import itertools
import multiprocessing as mp
import os
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

import mixjax as mj
from benchmarks.common import data, markdown, write_result
from mixjax.engine import batch
from mixjax.engine.lane import Stop
from mixjax.fitting.loss import Huber
from mixjax.fitting.problem import from_paper, make_problem, to_paper
from mixjax.law import find_law

Floats = NDArray[np.float64]
DELTA = 1e-3
# Hoffmann et al. 2022, appendix D.3: a = log A, b = log B, e = log E, alpha, beta.
GRID = tuple(
    itertools.product(
        range(0, 30, 5),
        range(0, 30, 5),
        (-1.0, -0.5, 0.0, 0.5, 1.0),
        (0.0, 0.5, 1.0, 1.5, 2.0),
        (0.0, 0.5, 1.0, 1.5, 2.0),
    )
)
NAMES: tuple[str, ...] = ("A", "B", "E", "alpha", "beta")
_SAME = 1e-6


def objective(z: Floats, log_n: Floats, log_d: Floats, log_loss: Floats) -> tuple[float, Floats]:
    """Sum of Huber losses and its gradient (5,)."""
    a, b, e, alpha, beta = z
    terms = np.stack([a - alpha * log_n, b - beta * log_d, np.full_like(log_n, e)])
    top = terms.max(axis=0)
    shares = np.exp(terms - top)
    total = shares.sum(axis=0)
    r = log_loss - top - np.log(total)
    clipped = np.clip(r, -DELTA, DELTA)
    pull = -clipped * shares / total
    grad = np.array(
        [pull[0].sum(), pull[1].sum(), pull[2].sum(), -pull[0] @ log_n, -pull[1] @ log_d]
    )
    return float(np.sum(clipped * (r - clipped / 2))), grad


def _minimise(task: tuple[tuple[float, ...], Floats, Floats, Floats]) -> tuple[float, int]:
    from scipy.optimize import minimize

    start, *rows = task
    # On the sum of 240 losses of about 1e-6 an absolute tolerance would end early: the objective is
    # scaled to about 1.
    options = {"maxcor": 30, "ftol": 1e-12, "gtol": 1e-10, "maxiter": 5000}
    scaled = minimize(
        lambda z: tuple(1e3 * part for part in objective(z, *rows)),
        np.array(start),
        jac=True,
        method="L-BFGS-B",
        options=options,
    )
    return objective(scaled.x, *rows)[0], scaled.nfev


def by_scipy(runs: mj.Runs) -> dict[str, Any]:
    log_n, log_d, log_loss = (
        np.log(np.asarray(x)) for x in (runs.N, runs.D, runs.loss("massivetext"))
    )
    os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})
    began = time.perf_counter()
    with mp.get_context("spawn").Pool(len(os.sched_getaffinity(0))) as pool:
        pool.map(_minimise, [(GRID[0], log_n, log_d, log_loss)] * 8)
        began = time.perf_counter()
        found = pool.map(
            _minimise, [(start, log_n, log_d, log_loss) for start in GRID], chunksize=50
        )
    return report(
        time.perf_counter() - began, np.array([f for f, _ in found]), sum(n for _, n in found)
    )


def by_mixjax(runs: mj.Runs) -> dict[str, Any]:
    problem = make_problem(runs, find_law("chinchilla"), None, Huber(DELTA, "log", "none"))
    starts: list[dict[str, Any]] = [
        dict(zip(NAMES, (*np.exp(s[:3]), *np.maximum(s[3:], 0.01)), strict=True)) for s in GRID
    ]
    z = np.stack([from_paper(problem, 0, s) for s in starts])[None]
    keys = np.zeros((*z.shape[:2], 2), dtype=np.uint32)

    def run() -> tuple[batch.Found, float]:
        began = time.perf_counter()
        return batch.run(
            problem.objective, problem.data, z, keys, Stop(3000, 1e-9, 20)
        ), time.perf_counter() - began

    (_, first), (found, seconds) = run(), run()
    rows = [np.log(np.asarray(x)) for x in (runs.N, runs.D, runs.loss("massivetext"))]

    def printed(one: Floats) -> Floats:
        p = to_paper(problem, 0, one)
        with np.errstate(all="ignore"):
            return np.array([np.log(p["A"]), np.log(p["B"]), np.log(p["E"]), p["alpha"], p["beta"]])

    # mixjax minimises the mean; the sum of the same, from the parameters, is what SciPy's is.
    lowest = objective(printed(found.z[0, int(found.f[0].argmin())]), *rows)[0]
    sums = found.f[0] / found.f[0].min() * lowest
    return report(seconds, sums, int(found.evaluations.sum())) | {"compile": first - seconds}


def report(seconds: float, f: Floats, evaluations: int) -> dict[str, Any]:
    return {
        "seconds": seconds,
        "lowest": float(np.nanmin(f)),
        "reached": int(np.sum(f <= np.nanmin(f) * (1 + _SAME))),
        "evaluations": evaluations,
    }


def main() -> None:
    runs = mj.read_runs(data("chinchilla.csv"), where="split == 'train'")
    found = {"mixjax": by_mixjax(runs), "SciPy": by_scipy(runs)}
    lowest = min(r["lowest"] for r in found.values())
    rows = [
        [
            name,
            f"{r['seconds']:.2f}",
            f"{r['lowest']:.9f}",
            f"{100 * (r['lowest'] / lowest - 1):.1e}",
            str(r["reached"]),
            str(r["evaluations"]),
        ]
        for name, r in found.items()
    ]
    print(
        markdown(
            [
                "",
                "seconds",
                "lowest sum",
                "percent above",
                f"of {len(GRID)} starts within {_SAME:g}",
                "evaluations",
            ],
            rows,
        )
    )
    write_result("chinchilla_grid", {"starts": len(GRID), "contestants": found})


if __name__ == "__main__":
    main()
