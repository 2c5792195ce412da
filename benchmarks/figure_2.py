"""The paper's Figure 2: objective against the number of L-BFGS calls, basin hopping against plain
multi-start: python -m benchmarks.figure_2

100 trials of 64 local minimisations each, median and the band from 25 to 75 percent. A trial of
basin hopping spends them on one start (0, 1, 3, ... 63 hops), one of multi-start on 64 starts. On
simulated runs of the paper's size (1062 rows, 3 domains) and on one SlimPajama target. Additive law
and joint law.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from numpy.typing import NDArray

import mixjax as mj
from benchmarks.common import RESULTS, markdown, write_result
from benchmarks.pictures import draw
from benchmarks.tasks import experiment, simulated
from mixjax.engine import batch
from mixjax.fitting.loss import Huber, Settings
from mixjax.fitting.problem import make_problem
from mixjax.fitting.search import BY_GRADIENTS, draw_starts
from mixjax.law import find_law

CALLS = (1, 2, 4, 8, 16, 32, 64)


def measure(runs: mj.Runs, target: str, law: str, trials: int) -> dict[str, Any]:
    """Best objective (trials, calls) of both, over the lowest of all, in percent: quartiles by
    number of calls."""
    problem = make_problem(runs, find_law(law), [target], Huber(prior="none"))
    starts = draw_starts(problem, Settings(trials * CALLS[-1]))

    def run(hops: int, every: int) -> NDArray[np.float64]:
        return batch.run(
            problem.objective,
            problem.data,
            *starts.part(slice(None, None, every)),
            BY_GRADIENTS.search._replace(hops=hops),
            descent=BY_GRADIENTS.descent,
        ).f[0]

    several = np.minimum.accumulate(run(0, 1).reshape(trials, CALLS[-1]), axis=1)[
        :, np.array(CALLS) - 1
    ]
    hopping = np.stack([run(calls - 1, CALLS[-1]) for calls in CALLS], axis=1)
    lowest = min(several.min(), hopping.min())
    bands = {
        name: np.percentile(100 * (f / lowest - 1), [25, 50, 75], axis=0).tolist()
        for name, f in (("multi-start", several), ("basin hopping", hopping))
    }
    return {
        "lowest": float(lowest),
        "parameters": int(starts.z.shape[-1]),
        "percent above, quartiles": bands,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=100)
    trials = parser.parse_args().trials
    runs, name = experiment()
    small = simulated(k=3, targets=1, rows=1062)
    cases = {
        f"simulated, k = 3, {law}": measure(small, small.targets[0], law, trials)
        for law in ("additive", "joint")
    }
    cases[f"{name} c4, k = 7, joint"] = measure(runs, "c4", "joint", trials)
    RESULTS.mkdir(exist_ok=True)
    rows = [
        [case, kind, *(f"{m:.3g}" for m in q[1])]
        for case, r in cases.items()
        for kind, q in r["percent above, quartiles"].items()
    ]
    print(markdown(["median percent above the lowest", "", *(f"{c} calls" for c in CALLS)], rows))
    write_result("figure_2", {"trials": trials, "calls": CALLS, "cases": cases})
    draw("figure_2")


if __name__ == "__main__":
    main()
