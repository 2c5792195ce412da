"""Is the best mixture of a law that is not convex beaten? 300 random problems against 200 random
starts each, on the simplex and on its faces.

Claim: no answer is more than 1e-6 above the best known one, relatively, without a warning.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from benchmarks.common import write_result
from mixjax.errors import UserError
from mixjax.fitting.simulate import known_fit, random_truth
from mixjax.mixture.lanes import Problems, descend
from mixjax.mixture.many import boxes_at
from mixjax.mixture.optimum import best_of
from mixjax.mixture.question import Question, WeightedLoss, case_of
from mixjax.mixture.solve import Alone

PROBLEMS, STARTS, FACES = 300, 200, 12
AT = {"N": 7e9, "D": 1.5e11}


def problem(seed: int) -> Question:
    """A fit of a law whose exponents are of any sign and size, and limits on every other one."""
    rng = np.random.default_rng(seed)
    law = ("additive", "joint", "full")[seed % 3]
    k, targets = int(rng.integers(3, 7)), ("s", "t", "u")[: int(rng.integers(1, 4))]
    domains = tuple(f"d{i}" for i in range(k))
    params = {}
    for t, drawn in random_truth(law, k, targets, seed).params.items():
        changed: dict[str, Any] = dict(drawn)
        changed["gamma"] = rng.uniform(-0.4, 2.0, k)
        params[t] = changed
    limits: dict[str, Any] = {}
    if seed % 2:
        limits = {"caps": {"d0": 0.4}, "floors": {"d1": 0.02}}
    return Question(known_fit(law, domains, params), **AT, **limits)


def best_known(question: Question, seed: int) -> float:
    """The lowest objective of descents from random mixtures, in the box and on faces of it."""
    rng = np.random.default_rng(10_000 + seed)
    k = len(question.domains)
    case, f = case_of(question), WeightedLoss(question.law)
    starts = np.maximum(rng.dirichlet(np.full(k, 0.5), STARTS), 1e-9)
    free = np.flatnonzero(np.asarray(question.box.floors) == 0)
    rows = [np.zeros(0, dtype=int)]
    for _ in range(FACES):
        size = int(rng.integers(1, max(2, min(k - 1, len(free)))))
        rows.append(rng.choice(free, size, replace=False))
    boxes = boxes_at(question, None, len(rows))
    caps = np.array(boxes.caps)
    for row, out in enumerate(rows):
        caps[row, out] = 0.0
    met = caps.sum(axis=1) >= 1.0
    boxes = boxes._replace(floors=np.asarray(boxes.floors)[met], caps=caps[met])
    problems = Problems(Alone(f), case, lambda numbers: (), boxes)
    return float(descend(problems, starts, np.zeros(int(met.sum()), dtype=bool)).value.min())


def main() -> None:
    """Solve all, count those that are beaten, print, write results/nonconvex.json."""
    beaten, unsaid, warned, convex, worst = 0, 0, 0, 0, 0.0
    for seed in range(PROBLEMS):
        question = problem(seed)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            try:
                best = best_of(question)
            except UserError:
                continue
        known = best_known(question, seed)
        above = (best.objective - known) / abs(known)
        said = bool(told)
        convex += best.convex
        warned += said
        worst = max(worst, above)
        if above > 1e-6:
            beaten += 1
            unsaid += not said
            print(f"problem {seed}: {above:.2e} above the best known{', warned' if said else ''}")
    result = {
        "problems": PROBLEMS,
        "known to be convex": convex,
        "warned": warned,
        "beaten by more than 1e-6": beaten,
        "of these without a warning": unsaid,
        "worst, relative": worst,
    }
    print(result)
    write_result("nonconvex", result)


if __name__ == "__main__":
    main()
