"""Cost of one value and gradient of the joint law against lanes, rows and k: python -m
benchmarks.evaluation_cost

Microseconds a lane, all cores busy (a chunk of lanes on each), beside the counted floor: the
floating-point operations of the deduplicated form over the machine's measured peak of float64
matrix products. A tick is an evaluation (for Gauss-Newton descent one with curvature) with its
share of the step and the book-keeping.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

import mixjax as mj
from benchmarks.common import markdown, write_result
from benchmarks.tasks import experiment, simulated
from mixjax.engine.gauss_newton import GAUSS_NEWTON
from mixjax.engine.lane import Descent, init, tick
from mixjax.engine.quasi_newton import QUASI_NEWTON
from mixjax.fitting.loss import Huber, Settings
from mixjax.fitting.problem import Problem, make_problem
from mixjax.fitting.search import draw_starts, plan_for
from mixjax.law import find_law

COLUMNS = ("evaluation", "with curvature", "quasi-Newton tick", "Gauss-Newton tick", "floor")
_REPEATS, _SECONDS = 5, 0.15
_FULL = 8 if jax.default_backend() == "cpu" else 16384


def workers() -> int:
    """Chunks at a time: one a core on a CPU."""
    return (
        len(os.sched_getaffinity(0))
        if jax.default_backend() == "cpu" and hasattr(os, "sched_getaffinity")
        else 1
    )


def problem_of(runs: mj.Runs, target: str) -> Problem:
    return make_problem(runs, find_law("joint"), [target], Huber(prior="none"))


def seconds_each(program: Callable[[], Any], threads: int) -> float:
    """Seconds per call, all threads calling side by side: the lowest of several batches."""
    jax.block_until_ready(program())
    began = time.perf_counter()
    jax.block_until_ready(program())
    calls = max(1, int(_SECONDS / (time.perf_counter() - began)))

    def work() -> None:
        for _ in range(calls):
            jax.block_until_ready(program())

    times = []
    for _ in range(_REPEATS):
        pool = [threading.Thread(target=work) for _ in range(threads)]
        began = time.perf_counter()
        for thread in pool:
            thread.start()
        for thread in pool:
            thread.join()
        times.append((time.perf_counter() - began) / calls / threads)
    return min(times)


def evaluation(problem: Problem, lanes: int, curved: bool = False, steps: int = 64) -> float:
    """Microseconds of one value and gradient a lane, and of the curvature where `curved`, all cores
    busy."""
    with jax.enable_x64(True):
        z = jnp.asarray(draw_starts(problem, Settings(lanes)).z[0].T)
        data = jax.tree.map(jnp.asarray, problem.data.of(0))
        function = problem.objective.curved if curved else problem.objective
        each = jax.vmap(function, in_axes=(-1, None), out_axes=-1)

        @jax.jit
        def program(z: jax.Array, data: Any) -> jax.Array:
            def once(_: int, z: jax.Array) -> jax.Array:
                f, grad, *curvature = each(z, data)
                return z - 1e-12 * jnp.nan_to_num(
                    grad + f + sum(jnp.sum(c, axis=0) for c in curvature)
                )

            return jax.lax.fori_loop(0, steps, once, z)

        compiled = program.lower(z, data).compile()
        return 1e6 * seconds_each(lambda: compiled(z, data), workers()) / steps / lanes


def ticking(problem: Problem, lanes: int, descent: Descent, steps: int = 64) -> float:
    """Microseconds of one tick a lane, all cores busy."""
    with jax.enable_x64(True):
        z, keys = draw_starts(problem, Settings(lanes))
        of_lanes = lambda f: jax.vmap(f, in_axes=-1, out_axes=-1)  # noqa: E731
        state = of_lanes(partial(init, descent=descent))(
            jnp.asarray(z[0].T), jnp.asarray(keys[0].T)
        )
        data = jax.tree.map(jnp.asarray, problem.data.of(0))

        @jax.jit
        def program(state: Any, data: Any) -> Any:
            return jax.lax.fori_loop(
                0,
                steps,
                lambda i, s: of_lanes(lambda lane: tick(lane, problem.objective, data, i, descent))(
                    s
                ),
                state,
            )

        compiled = program.lower(state, data).compile()
        return 1e6 * seconds_each(lambda: compiled(state, data), workers()) / steps / lanes


def peak() -> float:
    """Float64 operations a second of a matrix product, all cores."""
    with jax.enable_x64(True):
        n = 2048 if jax.default_backend() == "cpu" else 8192
        a = jnp.ones((n, n))
        product = (
            jax.jit(jnp.matmul).lower(a, a).compile()
        )  # here: threads do not inherit the precision
        return 2 * n**3 / seconds_each(lambda: product(a, a), 1)


def operations(problem: Problem) -> int:
    """Counted float64 operations of one value and gradient, an exponential or logarithm as 15.

    A cell: 5 for the product with (E, A, B), 7 for residual, clip, weight and sum, 10 for its
    transpose. A mixture and domain: an exponential in each of three sums over domains, and 8 beside
    each. A scale: an exponential in each of two powers, and 4.
    """
    mixtures, cells = problem.data.losses.shape[1:]
    scales = problem.data.log_n.shape[-1] * problem.data.log_n.shape[-2]
    return mixtures * cells * 22 + mixtures * problem.k * 3 * (15 + 8) + scales * 2 * (15 + 4)


def main() -> None:
    runs, name = experiment()
    base = problem_of(runs, "c4")
    top = peak()
    cases = {f"{name}, c4": (base, _FULL)}
    cases |= {f"{lanes} lanes": (base, lanes) for lanes in (1, 2, 4, 16, 64)}
    cases |= {
        f"simulated, {rows} rows": (problem_of(simulated(7, 1, rows), "t0"), _FULL)
        for rows in (128, 512, 2048, 8192)
    }
    cases |= {
        f"simulated, k = {k}": (problem_of(simulated(k, 1, 1374), "t0"), _FULL)
        for k in (3, 7, 16, 32, 64)
    }
    rows, found = [], {}
    for case, (problem, lanes) in cases.items():
        found[case] = {
            "lanes": lanes,
            "cells": int(problem.data.losses[0].size),
            "evaluation": evaluation(problem, lanes),
            "quasi-Newton tick": ticking(problem, lanes, QUASI_NEWTON),
            "floor": 1e6 * operations(problem) / top,
        }
        one = found[case]
        if plan_for(problem.objective, problem.law.count(problem.k)).descent is GAUSS_NEWTON:
            one |= {
                "with curvature": evaluation(problem, lanes, curved=True),
                "Gauss-Newton tick": ticking(problem, lanes, GAUSS_NEWTON),
            }
        cells = [f"{one[name]:.2f}" if name in one else "-" for name in COLUMNS]
        rows.append(
            [case, str(lanes), str(one["cells"]), *cells, f"{one['evaluation'] / one['floor']:.1f}"]
        )
        print(rows[-1], flush=True)
    print(
        markdown(
            ["", "lanes", "cells", *(f"{name}, us" for name in COLUMNS), "evaluation over floor"],
            rows,
        )
    )
    write_result(
        "evaluation_cost",
        {"peak, operations a second": top, "chunks at a time": workers(), "cases": found},
    )


if __name__ == "__main__":
    main()
