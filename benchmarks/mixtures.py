"""Claim: the best mixtures of 10 000 problems in one batched call, at least 5 times sooner than
SciPy's SLSQP with JAX gradients.

    python -m benchmarks.mixtures [--problems 10000] [--theirs 300] [--rounds 5]

The 8 joint fits of SlimPajama (training rows; simulated runs of that shape elsewhere), k = 7.
Weights of the targets are uniform on the simplex, N is log-uniform in 1e9 to 1e11 and D in 1e10 to
1e12; every third problem has random caps.

Ours solves all problems on all cores, from the centre, near every corner and nearly without each
domain, as `optimal_mixture` does. SLSQP has one process for each core, compiled values and
gradients, and starts at the centre only, moved into the caps. It solves the first problems, and its
time is scaled by their number. Rounds of both alternate. Compilation is stated apart.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

import mixjax as mj
from benchmarks.common import markdown, write_result
from benchmarks.tasks import experiment
from mixjax.fitting.record import Fit

Floats = NDArray[np.float64]


def make_problems(fit: Fit, count: int, seed: int) -> dict[str, Any]:
    """Arrays of random problems: weights (problems, targets), N and D (problems,), caps (problems,
    k)."""
    rng = np.random.default_rng(seed)
    k = len(fit.domains)
    caps = np.ones((count, k))
    for i in range(0, count, 3):
        while True:
            caps[i] = np.minimum(1.0, rng.uniform(0.5 / k, 4.0 / k, k))
            if caps[i].sum() >= 1.0:
                break
    weights = rng.dirichlet(np.ones(len(fit.targets)), count)
    return {
        "weights": weights,
        "N": 10 ** rng.uniform(9, 11, count),
        "D": 10 ** rng.uniform(10, 12, count),
        "caps": caps,
    }


def ours(fit: Fit, problems: dict[str, Any]) -> mj.mixture.Optima:
    """All problems in one call."""
    weights, caps = (
        dict(zip(names, problems[what].T, strict=True))
        for names, what in ((fit.targets, "weights"), (fit.domains, "caps"))
    )
    return mj.optimal_mixtures(fit, N=problems["N"], D=problems["D"], weights=weights, caps=caps)


# --- SLSQP, one process for each core ------------------------------------------------------------

_WORKER: dict[str, Any] = {}


def start_worker(fit_file: str, cpus: Any) -> None:
    """Compile the value and gradient, on one core."""
    if cpus is not None:
        os.sched_setaffinity(0, {cpus.get()})
    import jax

    from mixjax.mixture.question import Case, WeightedLoss

    jax.config.update("jax_enable_x64", True)
    fit = mj.load_fit(fit_file)
    objective = WeightedLoss(fit.scaling_law)
    question = mj.Question(fit, 1e9, 1e10)
    params, own = jax.device_put(question.stacked()), jax.device_put(question.own())

    @jax.jit
    def value_and_grad(h: Any, weights: Any, N: Any, D: Any) -> Any:
        return jax.value_and_grad(lambda h: objective(h, Case(params, weights, N, D, own)))(h)

    k = len(fit.domains)
    jax.block_until_ready(value_and_grad(np.full(k, 1.0 / k), np.ones(len(fit.targets)), 1e9, 1e10))
    _WORKER["function"] = value_and_grad


def solve_one(problem: tuple[Floats, float, float, Floats]) -> tuple[float, int]:
    """SLSQP's objective and evaluations."""
    import scipy.optimize

    weights, N, D, caps = problem
    k = len(caps)
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if np.minimum(middle, caps).sum() < 1 else (low, middle)
    h0 = np.minimum(high, caps)

    def function(h: Floats) -> tuple[float, Floats]:
        value, grad = _WORKER["function"](h, weights, N, D)
        return float(value), np.asarray(grad)

    constraint = {"type": "eq", "fun": lambda h: h.sum() - 1.0, "jac": lambda h: np.ones(k)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = scipy.optimize.minimize(
            function,
            h0,
            jac=True,
            method="SLSQP",
            bounds=list(zip(np.full(k, 1e-9), caps, strict=True)),
            constraints=constraint,
            options={"ftol": 1e-12, "maxiter": 500},
        )
    h = np.clip(found.x, 0.0, caps)
    return float(_WORKER["function"](h / h.sum(), weights, N, D)[0]), int(found.nfev)


def theirs_pool(fit_file: str) -> Any:
    """One process for each core, started before any time is taken."""
    context = multiprocessing.get_context("spawn")
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    cpus = None
    if cores:
        cpus = context.Manager().Queue()
        for core in cores:
            cpus.put(core)
    return context.Pool(max(1, len(cores)), start_worker, (fit_file, cpus))


def main() -> None:
    """Measure, print, write results/mixtures.json."""
    import tempfile
    from pathlib import Path

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--problems", type=int, default=10_000)
    parser.add_argument("--theirs", type=int, default=300, help="problems that SLSQP solves")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    runs, source = experiment()
    fit = mj.fit(runs, law="joint", prior="none")
    problems = make_problems(fit, options.problems, seed=0)
    first = min(options.theirs, options.problems)
    lists = [
        (problems["weights"][i], problems["N"][i], problems["D"][i], problems["caps"][i])
        for i in range(first)
    ]
    with tempfile.TemporaryDirectory() as folder:
        fit.save(str(Path(folder) / "fit.json"))
        began = time.perf_counter()
        found = ours(fit, problems)
        cold = time.perf_counter() - began
        our_seconds, their_seconds, their = [], [], []
        with theirs_pool(str(Path(folder) / "fit.json")) as pool:
            pool.map(solve_one, lists[:20], chunksize=5)
            for _ in range(options.rounds):
                began = time.perf_counter()
                their = pool.map(solve_one, lists, chunksize=10)
                their_seconds.append(time.perf_counter() - began)
                began = time.perf_counter()
                found = ours(fit, problems)
                our_seconds.append(time.perf_counter() - began)
    slsqp = np.array([value for value, _ in their])
    excess = found.objective[:first] - slsqp
    scaled = [seconds * options.problems / first for seconds in their_seconds]
    result = {
        "runs": source,
        "problems": options.problems,
        "theirs": {
            "problems": first,
            "seconds": their_seconds,
            "evaluations": float(np.mean([n for _, n in their])),
        },
        "ours": {
            "seconds": our_seconds,
            "first_call": cold,
            "compilation": cold - float(np.median(our_seconds)),
        },
        "per_problem_ms": {
            "ours": 1e3 * float(np.median(our_seconds)) / options.problems,
            "slsqp": 1e3 * float(np.median(their_seconds)) / first,
        },
        "ratio": {
            "median": float(np.median(scaled) / np.median(our_seconds)),
            "each": [float(t / o) for t, o in zip(scaled, our_seconds, strict=True)],
        },
        "gap": {"largest": float(found.gap.max()), "median": float(np.median(found.gap))},
        "convex": int(found.convex.sum()),
        "objective_above_slsqp": {
            "largest": float(excess.max()),
            "median": float(np.median(excess)),
            "lowest": float(excess.min()),
        },
        "slsqp_higher_by_1e-7": int((excess < -1e-7).sum()),
        "all_starts_agree": float(np.mean(found.ends.agreeing == found.ends.starts)),
    }
    path = write_result("mixtures", result)
    rows = [
        ["problems", str(options.problems), f"{first}, scaled"],
        ["seconds", f"{np.median(our_seconds):.2f}", f"{np.median(scaled):.1f}"],
        [
            "per problem",
            f"{result['per_problem_ms']['ours']:.3f} ms",
            f"{result['per_problem_ms']['slsqp']:.3f} ms",
        ],
        ["compilation", f"{result['ours']['compilation']:.1f} s", "not counted"],
        ["largest gap", f"{result['gap']['largest']:.1e}", ""],
        ["objective above the other's, at most", f"{excess.max():.1e}", f"{-excess.min():.1e}"],
    ]
    print(markdown(["", "mixjax", "SLSQP"], rows))
    print(
        f"\n{result['ratio']['median']:.1f} times sooner (rounds: "
        f"{', '.join(f'{r:.1f}' for r in result['ratio']['each'])}); {path}"
    )


if __name__ == "__main__":
    main()
