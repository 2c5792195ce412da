"""How a fit grows with k, rows, targets and starts, and one large fit: python -m benchmarks.scaling

Joint law on simulated runs; one round of 16 starts a target without hops, and microseconds an
evaluation over all cores, the second of two runs (the first compiles). Memory is the largest of the
process so far. Lanes up to 16384 on an accelerator.
"""

from __future__ import annotations

import resource
import time
from typing import Any

import jax

from benchmarks.common import markdown, write_result
from benchmarks.pictures import draw
from benchmarks.tasks import simulated
from mixjax.engine import batch
from mixjax.engine.lane import Stop
from mixjax.fitting.loss import Huber, Settings
from mixjax.fitting.problem import make_problem
from mixjax.fitting.search import draw_starts, plan_for
from mixjax.law import find_law

_STARTS, _STEPS = 16, 200
CASES = {
    "k": [{"k": k} for k in (2, 4, 8, 16, 32, 64)],
    "rows": [{"rows": rows} for rows in (100, 300, 1000, 3000, 10000)],
    "targets": [{"targets": targets} for targets in (1, 4, 16, 64)],
    "starts": [{"starts": starts} for starts in (16, 64, 256, 1024)],
    "large": [{"k": 64, "targets": 32, "rows": 4096}],
}


def measure(
    k: int = 7, rows: int = 1374, targets: int = 4, starts: int = _STARTS
) -> dict[str, Any]:
    problem = make_problem(
        simulated(k, targets, rows), find_law("joint"), None, Huber(prior="none")
    )
    begin = draw_starts(problem, Settings(starts))
    q = begin.z.shape[-1]
    stop, descent = Stop(_STEPS, 0.0, 20), plan_for(problem.objective, q).descent
    times, evaluations = [], 0
    for _ in range(2):
        began = time.perf_counter()
        found = batch.run(problem.objective, problem.data, *begin, stop, descent=descent)
        times.append(time.perf_counter() - began)
        evaluations = int(found.evaluations.sum())
    seconds = times[1]
    return {
        "k": k,
        "rows": rows,
        "targets": targets,
        "starts": starts,
        "parameters": q,
        "cells": int(problem.data.losses[0].size),
        "seconds": seconds,
        "compile": max(0.0, times[0] - seconds),
        "microseconds an evaluation": 1e6 * seconds / evaluations,
        "largest memory, MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    if jax.default_backend() != "cpu":
        CASES["starts"] += [{"starts": 4096}, {"starts": 16384}]
    found: dict[str, list[dict[str, Any]]] = {}
    for axis, cases in CASES.items():
        found[axis] = []
        for case in cases:
            found[axis].append(measure(**case))
            print(axis, found[axis][-1], flush=True)
    columns = (
        "k",
        "rows",
        "targets",
        "starts",
        "parameters",
        "cells",
        "compile",
        "microseconds an evaluation",
        "largest memory, MiB",
    )
    print(
        markdown(
            ["", *columns],
            [[axis, *(f"{r[c]:.4g}" for c in columns)] for axis, rs in found.items() for r in rs],
        )
    )
    write_result("scaling", {"steps": _STEPS, "axes": found})
    draw("scaling")


if __name__ == "__main__":
    main()
