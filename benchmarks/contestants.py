"""Who competes in `time_to_target`: every contestant minimises one target from the same starts with
all cores.

A contestant is a function (task, starts (n, q), hops, limit in seconds) -> Curve. All are given the
same deduplicated objective, float64, a memory of 30 pairs and 2 hops a start, and stop once the
task's last goal is reached. Compilation is done before the clock starts, and its time is told
apart.
"""

from __future__ import annotations

import importlib.util
import multiprocessing as mp
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.tasks import Task
from mixjax.law.base import named

MEMORY, HOPS = 30, 2
# A local minimisation ends when 20 steps lower f by less than this share; SciPy's ftol is per step
# and absolute below 1.
DECREASE, WINDOW = 1e-4, 20
# At 1e-9, often recommended, SciPy never came within 1 percent on arxiv; at 1e-12 it is fastest
# (NOTES.md, "SciPy").
FTOL, LOOSE = 1e-12, 1e-9
# The perturbation of mixjax's hops: uniform, of this standard deviation at first; accepted by this
# temperature.
HOP_SIZE, TEMPERATURE = 0.3, 0.01
LANES = 64  # of the vmapped libraries: 16 and 256 were no faster per lane


@dataclass
class Curve:
    """Best objective so far against seconds since the clock started."""

    seconds: list[float] = field(default_factory=list)
    best: list[float] = field(default_factory=list)
    evaluations: int = 0
    compile_seconds: float = 0.0

    def add(self, at: float, f: float) -> None:
        """Note a value, if it is the lowest."""
        if np.isfinite(f) and (not self.best or f < self.best[-1]):
            self.seconds.append(at)
            self.best.append(f)

    def time_to(self, goal: float) -> float | None:
        """Seconds until the best was at most `goal`, None if never."""
        return next((s for s, f in zip(self.seconds, self.best, strict=True) if f <= goal), None)


Contestant = Callable[[Task, int, float], Curve]


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# --- mixjax --------------------------------------------------------------------------------------


def mixjax(task: Task, seed: int, limit: float) -> Curve:
    """The default search of `mixjax.fit` (128 starts), again with the next seed until the goal is
    reached."""
    from mixjax.fitting.loss import Settings
    from mixjax.fitting.search import draw_starts, search

    class EnoughError(Exception):
        """The goal is reached or the time is up."""

    objective, data = task.problem.objective, task.problem.data
    curve = Curve()
    passes = []
    for _ in range(2):
        began = time.perf_counter()
        search(objective, data, draw_starts(task.problem, Settings(seed=seed)), 0)
        passes.append(time.perf_counter() - began)
    curve.compile_seconds = max(0.0, passes[0] - passes[1])
    began = time.perf_counter()

    def watch(_: float, best: Any) -> None:
        curve.add(time.perf_counter() - began, float(best[0]))
        if (curve.best and curve.best[-1] <= task.enough) or time.perf_counter() - began > limit:
            raise EnoughError

    try:
        for again in range(1000):
            found = search(
                objective,
                data,
                draw_starts(task.problem, Settings(seed=seed + 1000 * again)),
                Settings.hops,
                watch,
            )
            curve.evaluations += int(found.minima.evaluations.sum() + found.best.evaluations.sum())
            watch(1.0, found.best.f.min(axis=1))
    except EnoughError:
        pass
    return curve


# --- SciPy ---------------------------------------------------------------------------------------


def scipy(task: Task, seed: int, limit: float, gradient: str = "jax", ftol: float = FTOL) -> Curve:
    """scipy.optimize.basinhopping with L-BFGS-B in one process per core, one thread each; starts
    are dealt out in turn."""
    context = mp.get_context("spawn")
    starts, workers = task.objective.starts(seed=seed), cores()
    best, ready, gate = context.Value("d", np.inf), context.Semaphore(0), context.Event()
    results = context.Queue()
    threads = {
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "JAX_PLATFORMS": "cpu",
    }
    flags = {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"}
    before = {name: os.environ.get(name) for name in threads | flags}
    os.environ.update(threads | flags)
    try:
        pool = [
            context.Process(
                target=_scipy_worker,
                args=(
                    task,
                    starts[i::workers],
                    seed + i,
                    limit,
                    gradient,
                    ftol,
                    best,
                    ready,
                    gate,
                    results,
                ),
            )
            for i in range(workers)
        ]
        for process in pool:
            process.start()
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    for _ in pool:
        ready.acquire()
    gate.set()
    parts = [results.get() for _ in pool]
    for process in pool:
        process.join()
    merged = Curve(
        evaluations=sum(p.evaluations for p in parts),
        compile_seconds=max(p.compile_seconds for p in parts),
    )
    for at, f in sorted(point for p in parts for point in zip(p.seconds, p.best, strict=True)):
        merged.add(at, f)
    return merged


def _scipy_worker(
    task: Task,
    starts: np.ndarray,
    seed: int,
    limit: float,
    gradient: str,
    ftol: float,
    best: Any,
    ready: Any,
    gate: Any,
    results: Any,
) -> None:
    from scipy.optimize import basinhopping

    class EnoughError(Exception):
        """The goal is reached, here or next door, or the time is up."""

    curve = Curve()
    began = time.perf_counter()
    by_name = {"numpy": _numpy_objective, "rows": _objective_of_rows}
    function = by_name[gradient](task) if gradient in by_name else task.objective.value_and_grad
    function(starts[0])
    squares = _cells(task) if gradient == "squares" else None
    if squares:
        for part in squares:
            part(starts[0])
    curve.compile_seconds = time.perf_counter() - began
    ready.release()
    gate.wait()
    began = time.perf_counter()

    def counted(z: np.ndarray) -> tuple[float, np.ndarray]:
        f, grad = function(z)
        curve.evaluations += 1
        curve.add(time.perf_counter() - began, f)
        if curve.evaluations % 64 == 0 or f <= task.enough:
            with best.get_lock():
                best.value = min(best.value, curve.best[-1] if curve.best else np.inf)
            if best.value <= task.enough or time.perf_counter() - began > limit:
                raise EnoughError
        return (
            (f, grad) if np.isfinite(f) and np.isfinite(grad).all() else (1e10, np.zeros_like(grad))
        )

    minimiser = {
        "method": "L-BFGS-B",
        "jac": True,
        "options": {"maxcor": MEMORY, "ftol": ftol, "gtol": 0.0, "maxiter": 5000, "maxfun": 10000},
    }
    try:
        for again in range(1000):
            later = task.objective.starts(seed=seed + 1000 * again) if again else starts
            for i, z in enumerate(later):
                if squares:
                    _least_squares(squares, task, z, counted)
                    continue
                # Uniform steps of the same standard deviation; the temperature as a share of a good
                # objective.
                width, warmth = HOP_SIZE * np.sqrt(3.0), TEMPERATURE * task.best
                basinhopping(
                    counted,
                    z,
                    niter=HOPS,
                    T=warmth,
                    stepsize=width,
                    minimizer_kwargs=minimiser,
                    rng=seed + i,
                )
    except EnoughError:
        pass
    results.put(curve)


def _rows(task: Task) -> Callable[[jax.Array], jax.Array]:
    """z (q,) -> residuals (rows,), one row after another, as one writes the law down."""
    problem = task.problem
    at = problem.design.mixture_of, problem.design.cell_of
    data = task.data
    seen = np.asarray(data.weights)[at] > 0
    h, losses = (np.asarray(x)[seen] for x in (data.mixtures[at[0]], data.losses[at]))
    log_n, log_d = (
        np.broadcast_to(x, data.losses.shape)[at][seen] for x in (data.log_n, data.log_d)
    )
    law = problem.coordinates
    coefficients = law.coefficients
    assert coefficients is not None

    def residuals(z: jax.Array) -> jax.Array:
        params = named(law, z, problem.k)

        def loss(h: jax.Array, log_n: jax.Array, log_d: jax.Array) -> jax.Array:
            c = coefficients(params, h)
            return c.E + c.A * jnp.exp(-c.alpha * log_n) + c.B * jnp.exp(-c.beta * log_d)

        return jnp.asarray(losses) - jax.vmap(loss)(
            jnp.asarray(h), jnp.asarray(log_n), jnp.asarray(log_d)
        )

    return residuals


def _objective_of_rows(task: Task) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
    """Mean Huber loss over rows and its gradient by jax.value_and_grad."""
    jax.config.update("jax_enable_x64", True)
    residuals, delta, weight = _rows(task), float(task.data.delta), float(np.max(task.data.weights))

    @jax.jit
    @jax.value_and_grad
    def both(z: jax.Array) -> jax.Array:
        r = jnp.abs(residuals(z))
        return weight * jnp.sum(jnp.where(r <= delta, 0.5 * r * r, delta * (r - 0.5 * delta)))

    def function(z: np.ndarray) -> tuple[float, np.ndarray]:
        f, grad = both(z)
        return float(f), np.asarray(grad)

    return function


def _least_squares(
    squares: tuple[Any, Any], task: Task, z: np.ndarray, counted: Callable[[np.ndarray], Any]
) -> None:
    """One search of scipy.optimize.least_squares with its own Huber loss and the Jacobian of the
    cells that hold a row."""
    from scipy.optimize import least_squares

    residuals, slopes = squares

    def jacobian(z: np.ndarray) -> Any:
        return np.nan_to_num(np.asarray(slopes(z)))

    def function(z: np.ndarray) -> np.ndarray:
        counted(z)
        return np.nan_to_num(np.asarray(residuals(z)), nan=1e3, posinf=1e3, neginf=-1e3)

    least_squares(
        function,
        z,
        jacobian,  # pyright: ignore[reportArgumentType]
        loss="huber",
        f_scale=float(task.data.delta),
        ftol=1e-8,
        max_nfev=2000,
    )


def _cells(task: Task) -> tuple[Any, Any]:
    """Compiled residuals (rows,) and their Jacobian (rows, q), deduplicated."""
    jax.config.update("jax_enable_x64", True)
    seen = np.flatnonzero(np.asarray(task.data.weights).ravel() > 0)
    data = jax.tree.map(jnp.asarray, task.data)

    def residuals(z: jax.Array) -> jax.Array:
        return (data.losses - task.problem.objective.cells(z, data)).reshape(-1)[seen]

    return jax.jit(residuals), jax.jit(jax.jacfwd(residuals))


def _numpy_objective(task: Task) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
    """Joint law in corner coordinates on the grid of cells, with its gradient by hand."""
    mixtures, log_n, log_d, losses, weights, delta = (np.asarray(leaf) for leaf in task.data)
    k = mixtures.shape[1]
    log_kh = np.log(k * mixtures)

    def bracket(x: np.ndarray, s: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Value (mixtures,), and its derivatives by corner values (mixtures, k) and s (mixtures,),
        relative to the value."""
        shift = x.mean()
        s = s if abs(s) > 1e-5 else 1e-5
        e = mixtures * np.exp(s * (x - shift))
        M = e.sum(axis=1)
        return (
            np.exp(shift + np.log(M) / s),
            e / M[:, None],
            (e @ (x - shift) / M - np.log(M) / s) / s,
        )

    @np.errstate(all="ignore")
    def function(z: np.ndarray) -> tuple[float, np.ndarray]:
        E, c, gamma = np.exp(z[0]), np.exp(z[1 : k + 1]), z[k + 1 : 2 * k + 1]
        alpha, beta = np.exp(z[3 * k + 2]), np.exp(z[4 * k + 4])
        part = c * np.exp(gamma * log_kh)
        total = part.sum(axis=1)
        A, A_x, A_s = bracket(z[2 * k + 1 : 3 * k + 1], z[3 * k + 1])
        B, B_x, B_s = bracket(z[3 * k + 3 : 4 * k + 3], z[4 * k + 3])
        u, v = np.exp(-alpha * log_n[0]), np.exp(-beta * log_d[0])
        r = losses - ((E + 1 / total)[:, None] + A[:, None] * u + B[:, None] * v)
        clipped = np.clip(r, -delta, delta)
        pull = -weights * clipped
        by_E, by_A, by_B = pull.sum(axis=1), pull @ u * A, pull @ v * B
        by_c = -(by_E / total**2)[:, None] * part
        by_alpha, by_beta = (
            -alpha * (A @ pull) @ (u * log_n[0]),
            -beta * (B @ pull) @ (v * log_d[0]),
        )
        parts = (
            E * by_E.sum(),
            by_c.sum(axis=0),
            (by_c * log_kh).sum(axis=0),
            by_A @ A_x,
            by_A @ A_s,
            by_alpha,
            by_B @ B_x,
            by_B @ B_s,
            by_beta,
        )
        return float(np.sum(weights * clipped * (r - 0.5 * clipped))), np.concatenate(
            [np.atleast_1d(part) for part in parts]
        )

    return function


# --- Vmapped libraries ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Stepper:
    """A library's minimiser for one lane: init z -> state; step state -> state; (z, f) of a
    state."""

    init: Callable[[jax.Array], Any]
    step: Callable[[Any], Any]
    read: Callable[[Any], tuple[jax.Array, jax.Array]]


def vmapped(task: Task, seed: int, limit: float, make: Callable[[Task], Stepper]) -> Curve:
    """All lanes step together until the last has converged; then all hop, or take the next
    starts."""
    with jax.enable_x64(True):
        curve = Curve()
        stepper = make(task)

        @jax.jit
        def begin(z: jax.Array) -> Any:
            return jax.vmap(stepper.init)(z)

        @jax.jit
        def block(state: Any) -> tuple[Any, jax.Array, jax.Array]:
            state = jax.lax.fori_loop(0, WINDOW, lambda _, s: jax.vmap(stepper.step)(s), state)
            return state, *jax.vmap(stepper.read)(state)

        began = time.perf_counter()
        jax.block_until_ready(block(begin(jnp.asarray(task.objective.starts(seed=seed)[:LANES]))))
        curve.compile_seconds = time.perf_counter() - began
        began = time.perf_counter()
        rng = np.random.default_rng(seed)
        for z in _batches(task, seed):
            kept_z, kept_f = z, np.full(len(z), np.inf)
            for hop in range(HOPS + 1):
                trial = (
                    kept_z
                    if hop == 0
                    else kept_z + HOP_SIZE * np.sqrt(12.0) * (rng.random(z.shape) - 0.5)
                )
                state, mark, settled = (
                    begin(jnp.asarray(trial)),
                    np.full(len(z), np.inf),
                    np.zeros(len(z), bool),
                )
                at, f = trial, mark
                for _ in range(5000 // WINDOW):
                    state, at, f = block(state)
                    f = np.where(np.isfinite(f), f, np.inf)
                    curve.evaluations += WINDOW * len(z)
                    now = time.perf_counter() - began
                    curve.add(now, float(f.min()))
                    if (curve.best and curve.best[-1] <= task.enough) or now > limit:
                        return curve
                    with np.errstate(invalid="ignore"):
                        settled |= ~(mark - f > DECREASE * np.abs(f))
                    mark = f
                    if settled.all():
                        break
                with np.errstate(over="ignore", invalid="ignore"):
                    accepted = (f <= kept_f) | (
                        rng.random(len(f)) < np.exp(-(f - kept_f) / (TEMPERATURE * np.abs(kept_f)))
                    )
                kept_z, kept_f = (
                    np.where(accepted[:, None], np.asarray(at), kept_z),
                    np.where(accepted, f, kept_f),
                )
        return curve


def _batches(task: Task, seed: int) -> Iterator[np.ndarray]:
    for again in range(1000):
        z = task.objective.starts(seed=seed + 1000 * again)
        yield from (z[i : i + LANES] for i in range(0, len(z), LANES))


def _jaxopt(task: Task, linesearch: str) -> Stepper:
    import warnings

    warnings.filterwarnings("ignore", category=DeprecationWarning, message="JAXopt")
    import jaxopt

    solver = jaxopt.LBFGS(
        task.objective.value_and_grad,
        value_and_grad=True,
        history_size=MEMORY,
        linesearch=linesearch,
        tol=0.0,
        maxiter=10**9,
    )

    def step(state: Any) -> Any:
        new = solver.update(*state)
        return (new.params, new.state)

    return Stepper(
        lambda z: (z, solver.init_state(z)), step, lambda state: (state[0], state[1].value)
    )


def _optax(task: Task) -> Stepper:
    import optax

    value = task.objective.value
    solver = optax.lbfgs(memory_size=MEMORY)
    both = optax.value_and_grad_from_state(value)

    def step(carry: Any) -> Any:
        z, state, _ = carry
        f, grad = both(z, state=state)
        updates, state = solver.update(grad, state, z, value=f, grad=grad, value_fn=value)
        return optax.apply_updates(z, updates), state, optax.tree.get(state, "value")

    return Stepper(
        lambda z: (z, solver.init(z), jnp.full((), jnp.inf)),
        step,
        lambda carry: (carry[0], carry[2]),
    )


def _optimistix(task: Task) -> Stepper:
    import equinox as eqx  # pyright: ignore[reportMissingImports]  (the bench extra)
    import optimistix as optx  # pyright: ignore[reportMissingImports]

    solver = optx.LBFGS(rtol=0.0, atol=0.0, history_length=MEMORY)

    def function(z: jax.Array, _: Any) -> tuple[jax.Array, None]:
        return task.objective.value(z), None

    fixed: list[Any] = []

    def init(z: jax.Array) -> Any:
        state = solver.init(
            function, z, None, {}, jax.ShapeDtypeStruct((), z.dtype), None, frozenset()
        )
        arrays, rest = eqx.partition(state, eqx.is_array)
        fixed[:] = [rest]
        return z, arrays

    def step(carry: Any) -> Any:
        z, arrays = carry
        z, state, _ = solver.step(function, z, None, {}, eqx.combine(arrays, fixed[0]), frozenset())
        return z, eqx.partition(state, eqx.is_array)[0]

    def read(carry: Any) -> tuple[jax.Array, jax.Array]:
        return carry[0], carry[1].f_info.f

    return Stepper(init, step, read)


# What each needs, and the coordinates it is tried in: "printed" is the law as the paper writes it,
# in logarithms, as its users would fit it with that library; "corner" gives the library mixjax's
# own coordinates beside mixjax's objective and derivative.
CONTESTANTS: dict[str, tuple[Contestant, str, str]] = {
    "mixjax": (mixjax, "jax", "corner"),
    "SciPy, JAX gradient": (scipy, "scipy", "corner"),
    "SciPy, NumPy gradient by hand": (partial(scipy, gradient="numpy"), "scipy", "corner"),
    "SciPy least_squares": (partial(scipy, gradient="squares"), "scipy", "corner"),
    "optimistix, vmapped": (partial(vmapped, make=_optimistix), "optimistix", "corner"),
    "optax, vmapped": (partial(vmapped, make=_optax), "optax", "corner"),
    "jaxopt backtracking, vmapped": (
        partial(vmapped, make=partial(_jaxopt, linesearch="backtracking")),
        "jaxopt",
        "corner",
    ),
    "jaxopt zoom, vmapped": (
        partial(vmapped, make=partial(_jaxopt, linesearch="zoom")),
        "jaxopt",
        "corner",
    ),
    "SciPy as published": (partial(scipy, gradient="rows", ftol=LOOSE), "scipy", "printed"),
    "printed law: mixjax": (mixjax, "jax", "printed"),
    "printed law: SciPy, JAX gradient": (scipy, "scipy", "printed"),
    "printed law: SciPy, JAX gradient, ftol 1e-9": (partial(scipy, ftol=LOOSE), "scipy", "printed"),
    "printed law: optimistix, vmapped": (
        partial(vmapped, make=_optimistix),
        "optimistix",
        "printed",
    ),
}


def available(needs: str) -> bool:
    """Whether a contestant's package is installed here."""
    return importlib.util.find_spec(needs) is not None
