"""The engine: it must minimise any objective, and its lanes must not know of each other."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from mixjax.engine import batch, lane, quasi_newton
from mixjax.engine.lane import Stop
from mixjax.engine.quasi_newton import (
    QUASI_NEWTON,
    Dense,
    LineTrial,
    Pairs,
    Update,
    line_search,
)
from tests.problems import PROBLEMS, Smooth, egg_box, rosenbrock


def stop(hops=0, steps=3000, decrease=1e-10, window=20):
    return Stop(steps, decrease, window, hops)


def keys(groups, n, seed=0):
    return np.asarray(jax.random.split(jax.random.PRNGKey(seed), (groups, n)))


def zeros(groups=1):
    return np.zeros(groups)


# ------------------------------------------------------------------ whole searches


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda p: p.name)
def test_minimises(problem):
    found = batch.run(Smooth(problem.function), zeros(), problem.starts(12), keys(1, 12), stop())
    assert found.finished.all()
    # Rosenbrock in 8 dimensions has one more local minimum (about 3.99), Beale's far slopes are
    # flat: not all starts must arrive.
    assert np.sum(found.f[0] - problem.minimum <= problem.tolerance) >= 6
    assert np.all(found.f[0] >= problem.minimum - 1e-14)


@pytest.mark.parametrize(
    "problem", [p for p in PROBLEMS if p.name != "huber_valley"], ids=lambda p: p.name
)
def test_as_low_as_scipy_from_the_same_starts(problem):
    starts = problem.starts(8, seed=3)
    ours = batch.run(Smooth(problem.function), zeros(), starts, keys(1, 8), stop()).f[0]
    function = jax.jit(jax.value_and_grad(problem.function))
    options = {"maxiter": 3000, "ftol": 1e-14, "gtol": 1e-10, "maxcor": 30}
    theirs = [
        scipy.optimize.minimize(
            lambda z: [np.asarray(x) for x in function(z, 0.0)],
            z,
            jac=True,
            method="L-BFGS-B",
            options=options,
        ).fun
        for z in starts[0]
    ]
    assert np.median(ours - np.array(theirs)) <= problem.tolerance
    assert ours.min() <= min(theirs) + problem.tolerance


@pytest.mark.parametrize("library", ["jaxopt", "optax"])
def test_as_low_as_the_libraries_from_the_same_starts(library):
    starts = PROBLEMS[0].starts(6, seed=5)
    ours = batch.run(Smooth(rosenbrock), zeros(), starts, keys(1, 6), stop()).f[0]
    function = lambda z: rosenbrock(z, 0.0)  # noqa: E731
    if library == "jaxopt":
        jaxopt = pytest.importorskip("jaxopt")
        solver = jaxopt.LBFGS(fun=function, maxiter=1000, tol=1e-10, history_size=20)
        theirs = np.array([solver.run(jnp.asarray(z)).state.value for z in starts[0]])
    else:
        optax = pytest.importorskip("optax")
        solver = optax.lbfgs(memory_size=20)

        @jax.jit
        def solve(z):
            def step(_, carry):
                z, state = carry
                value, grad = optax.value_and_grad_from_state(function)(z, state=state)
                update, state = solver.update(
                    grad, state, z, value=value, grad=grad, value_fn=function
                )
                return optax.apply_updates(z, update), state

            return function(jax.lax.fori_loop(0, 300, step, (z, solver.init(z)))[0])

        theirs = np.array([solve(jnp.asarray(z)) for z in starts[0]])
    # Basins may differ from start to start; each side must find the lowest, and neither the other
    # by more.
    assert ours.min() <= theirs.min() + 1e-8
    assert np.median(ours) <= np.median(theirs) + 1e-8


def test_hops_find_what_one_local_minimisation_misses():
    starts = np.random.default_rng(1).uniform(2.0, 4.0, (1, 4, 3))
    once = batch.run(Smooth(egg_box), zeros(), starts, keys(1, 4), stop())
    hopped = batch.run(Smooth(egg_box), zeros(), starts, keys(1, 4), stop(hops=150))
    assert once.f.min() > 5.0
    assert hopped.f.min() < 0.2 * once.f.min()
    assert np.all(hopped.f <= once.f)
    assert np.all(hopped.hops == 151)


# ------------------------------------------------------------------ independence


def test_a_search_does_not_depend_on_its_neighbours():
    """Alone, among others, in another place of the queue: the same search to the last bit."""
    starts, k = PROBLEMS[0].starts(21, seed=7), keys(1, 21)
    together = batch.run(Smooth(rosenbrock), zeros(), starts, k, stop(hops=2))
    backwards = batch.run(Smooth(rosenbrock), zeros(), starts[:, ::-1], k[:, ::-1], stop(hops=2))
    np.testing.assert_array_equal(together.z, backwards.z[:, ::-1])
    alone = batch.run(Smooth(rosenbrock), zeros(), starts[:, 4:5], k[:, 4:5], stop(hops=2))
    np.testing.assert_array_equal(together.z[:, 4:5], alone.z)
    np.testing.assert_array_equal(together.evaluations[:, 4:5], alone.evaluations)


def test_groups_have_data_of_their_own():
    starts, k = np.repeat(PROBLEMS[0].starts(5), 3, axis=0), np.repeat(keys(1, 5), 3, axis=0)
    found = batch.run(Smooth(rosenbrock), np.array([0.0, 1.0, 10.0]), starts, k, stop())
    np.testing.assert_allclose(found.f.min(axis=1), [0.0, 1.0, 10.0], atol=1e-6)


@pytest.mark.parametrize("width", [(1, 3), (2, 4), (3, 16), (5, 1)])
def test_the_width_of_a_chunk_does_not_matter(width):
    starts = np.random.default_rng(1).uniform(-3, 3, (3, 11, 4))
    shifts = np.arange(3.0)
    plain = batch.run(
        Smooth(egg_box), shifts, starts, keys(3, 11), stop(hops=3), width=batch.Width(1, 8)
    )
    wide = batch.run(
        Smooth(egg_box), shifts, starts, keys(3, 11), stop(hops=3), width=batch.Width(*width)
    )
    np.testing.assert_array_equal(wide.hops, plain.hops)
    np.testing.assert_allclose(wide.f, plain.f, rtol=1e-9, atol=1e-9)


def test_single_precision_stays_single_and_comes_near():
    found = batch.run(
        Smooth(PROBLEMS[2].function),
        zeros(),
        PROBLEMS[2].starts(8).astype(np.float32),
        keys(1, 8),
        stop(decrease=1e-6),
    )
    assert found.z.dtype == found.f.dtype == np.float32
    np.testing.assert_allclose(found.z[0, np.argmin(found.f[0])][6:], 1.0, atol=1e-2)
    assert found.f.min() < 1e-4


def test_an_accelerator_takes_all_groups_at_once_and_no_more_than_its_memory(monkeypatch):
    class Accelerator:
        platform = "gpu"

        def memory_stats(self):
            return {"bytes_limit": 2e9}

    monkeypatch.setattr(jax, "local_devices", lambda: [Accelerator()])
    assert batch._width(np.zeros((8, 100, 5)), np.zeros((8, 10)), QUASI_NEWTON) == (8, 128)
    few = batch._width(np.zeros((64, 4096, 33)), np.zeros((64, 2000)), QUASI_NEWTON)
    assert few.groups == 1
    assert few.lanes < 16384


def test_same_seed_same_answer_and_other_seed_another_way():
    starts = PROBLEMS[0].starts(4)
    first, again, other = (
        batch.run(Smooth(rosenbrock), zeros(), starts, keys(1, 4, s), stop(hops=3))
        for s in (0, 0, 1)
    )
    np.testing.assert_array_equal(first.z, again.z)
    assert not np.array_equal(first.evaluations, other.evaluations)


def test_one_compilation_for_all_numbers_of_starts_groups_and_stops():
    objective = Smooth(lambda z, data: rosenbrock(z, data))
    before = batch._block._cache_size()
    for n, groups, b in (
        (3, 1, stop()),
        (40, 2, stop(hops=1)),
        (100, 3, stop(decrease=1e-2)),
    ):
        batch.run(
            objective,
            zeros(groups),
            np.repeat(PROBLEMS[0].starts(n), groups, axis=0),
            keys(groups, n),
            b,
        )
    assert batch._block._cache_size() == before + 1


# ------------------------------------------------------------------ failure


def test_non_finite_starts_are_dropped_not_returned():
    def half_plane(z, data):
        return jnp.sum((z - 1.0) ** 2) + jnp.where(z[0] < 0, jnp.nan, 0.0) + data

    starts = np.array([[[-1.0, 0.0], [2.0, 3.0], [jnp.nan, 1.0]]])
    found = batch.run(Smooth(half_plane), zeros(), starts, keys(1, 3), stop())
    assert np.isinf(found.f[0, 0])
    assert np.isinf(found.f[0, 2])
    assert found.f[0, 1] < 1e-10
    assert found.finished.all()


def test_a_step_into_nonsense_is_shortened():
    def walled(z, data):
        return jnp.where(z[0] < 1e-3, jnp.inf, z[0] - jnp.log(z[0]) + 1e3 * z[1] ** 2) + data

    found = batch.run(
        Smooth(walled), zeros(), np.array([[[5.0, 1.0], [0.01, -1.0]]]), keys(1, 2), stop()
    )
    np.testing.assert_allclose(found.f[0], 1.0, atol=1e-8)


def test_interruption_keeps_what_was_found():
    def watch(search):
        if np.isfinite(search.f).any():
            raise KeyboardInterrupt

    found = batch.run(
        Smooth(egg_box),
        zeros(),
        np.ones((1, 64, 3)) * 3.3,
        keys(1, 64),
        stop(hops=100_000),
        watch,
    )
    assert not found.finished.all()
    assert np.isfinite(found.f).any()


def test_an_error_in_watch_is_raised():
    def watch(search):
        raise RuntimeError("told")

    with pytest.raises(RuntimeError, match="told"):
        batch.run(Smooth(rosenbrock), zeros(), PROBLEMS[0].starts(4), keys(1, 4), stop(), watch)


# ------------------------------------------------------------------ direction


def moves(q, n, seed=0):
    """n moves along a random quadratic, as a lane would make them, and the matrix of the
    quadratic."""
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(q, q))
    A = root @ root.T + np.eye(q)
    return A, [rng.normal(size=q) for _ in range(n)]


def bfgs_reference(steps, A, start, first_length):
    """The inverse Hessian after these steps, by the formula as printed (Nocedal and Wright, eq.
    6.17, 6.20)."""
    q, z = len(start), start
    H = first_length / np.linalg.norm(A @ start) * np.eye(q)
    for i, s in enumerate(steps):
        y = A @ s
        rho = 1.0 / (y @ s)
        if i == 0:
            H = (s @ y) / (y @ y) * np.eye(q)
        V = np.eye(q) - rho * np.outer(s, y)
        H = V @ H @ V.T + rho * np.outer(s, s)
        z = z + s
    return -H @ (A @ z)


def drive(memory, steps, A, start):
    """The direction that a memory gives after a fresh begin and these steps."""
    z, grad = start, A @ start
    common = {"first_length": jnp.asarray(0.1)}
    move = Update(
        jnp.asarray(0),
        grad,
        0 * grad,
        0 * grad,
        0 * grad,
        jnp.array(True),
        jnp.array(True),
        jnp.array(True),
        **common,
    )
    memory, d = quasi_newton.next_direction(memory, move)
    for i, s in enumerate(steps):
        last, z = grad, z + s
        grad = A @ z
        move = Update(
            jnp.asarray(i + 1),
            grad,
            last,
            d,
            s,
            jnp.array(True),
            jnp.array(False),
            jnp.array(i == 0),
            **common,
        )
        memory, d = quasi_newton.next_direction(memory, move)
    return d


@pytest.mark.parametrize("n", [0, 1, 2, 7, 30])
@pytest.mark.parametrize("kind", ["dense", "pairs"])
def test_direction_is_the_textbook_one(kind, n):
    q = 6
    A, steps = moves(q, n)
    start = np.linspace(-1, 2, q)
    empty = jnp.zeros((quasi_newton.HISTORY, q))
    memory = (
        Dense(jnp.eye(q))
        if kind == "dense"
        else Pairs(empty, empty, jnp.zeros(quasi_newton.HISTORY), jnp.ones(()))
    )
    # The pairs scale the identity by the newest pair, the dense matrix by the first: the same for n
    # <= 1, and for the pairs the reference starts from the newest scale.
    ours = drive(memory, steps, A, start)
    if kind == "dense" or n <= 1:
        np.testing.assert_allclose(
            ours, bfgs_reference(steps, A, start, 0.1), rtol=1e-8, atol=1e-12
        )
    else:
        np.testing.assert_allclose(ours, two_loops(steps, A, start), rtol=1e-8, atol=1e-12)


def two_loops(steps, A, start):
    """L-BFGS with all pairs, by the algorithm as printed (Nocedal and Wright, algorithm 7.4)."""
    pairs = [(s, A @ s) for s in steps]
    grad = A @ (start + np.sum(steps, axis=0))
    q, alphas = grad, []
    for s, y in reversed(pairs):
        alphas.append(s @ q / (y @ s))
        q = q - alphas[-1] * y
    s, y = pairs[-1]
    r = (s @ y) / (y @ y) * q
    for (s, y), alpha in zip(pairs, reversed(alphas), strict=True):
        r = r + s * (alpha - y @ r / (y @ s))
    return -r


@pytest.mark.parametrize("n", [1, 3, 60])
def test_pairs_are_optaxs_lbfgs(n):
    """Also where more steps were made than pairs are kept."""
    optax = pytest.importorskip("optax")
    q = 9
    A, steps = moves(q, n)
    start = np.linspace(-1, 2, q)
    empty = jnp.zeros((quasi_newton.HISTORY, q))
    memory = Pairs(empty, empty, jnp.zeros(quasi_newton.HISTORY), jnp.ones(()))
    ours = drive(memory, steps, A, start)
    theirs = optax.scale_by_lbfgs(memory_size=quasi_newton.HISTORY)
    step, state = jax.jit(theirs.update), theirs.init(jnp.asarray(start))
    towards = start
    for z in [start, *(start + np.cumsum(steps, axis=0))]:
        towards, state = step(jnp.asarray(A @ z), state, jnp.asarray(z))
    np.testing.assert_allclose(ours, -towards, rtol=1e-7, atol=1e-10)


def test_pairs_without_positive_curvature_are_left_out():
    q = 4
    grad = jnp.arange(1.0, q + 1)
    memory, d = quasi_newton.next_direction(
        Dense(jnp.eye(q)),
        Update(
            jnp.asarray(0),
            grad,
            0 * grad,
            0 * grad,
            0 * grad,
            *map(jnp.array, (True, True, True)),
            jnp.asarray(0.1),
        ),
    )
    after, _ = quasi_newton.next_direction(
        memory,
        Update(
            jnp.asarray(1),
            grad - d,
            grad,
            d,
            d,
            *map(jnp.array, (True, False, True)),
            jnp.asarray(0.1),
        ),
    )
    curvature = float(jnp.sum(d * -d))
    assert curvature < 0
    np.testing.assert_allclose(after.inverse_hessian, memory.inverse_hessian)


def test_large_problems_take_pairs_and_minimise():
    q = quasi_newton.DENSE_LIMIT + 20
    assert isinstance(quasi_newton.make_memory(q, jnp.float64), Pairs)
    assert isinstance(quasi_newton.make_memory(q - 20, jnp.float64), Dense)
    found = batch.run(
        Smooth(rosenbrock), zeros(), np.full((1, 2, q), 0.8), keys(1, 2), stop(steps=4000)
    )
    assert found.f.min() < 1e-6


# ------------------------------------------------------------------ line search and hops


def trial(f, slope, t=1.0, low=0.0, high=np.inf, trials=0):
    return LineTrial(*map(jnp.asarray, (f, slope, 1.0, -1.0, t, low, high, trials)))


@pytest.mark.parametrize(
    ("at", "accepted", "failed"),
    [
        (trial(0.5, -0.1), True, False),
        (trial(0.5, -0.95), False, False),  # low enough, still steep: go further
        (trial(1.5, 3.0), False, False),  # higher: come back
        (trial(np.inf, np.nan), False, False),  # nonsense: come back
        (trial(0.5, -0.95, trials=19), True, False),  # low enough and the trials are used up
        (trial(1.5, 3.0, trials=19), False, True),
    ],
)
def test_line_search_verdicts(at, accepted, failed):
    verdict = line_search(at)
    assert bool(verdict.accepted) is accepted
    assert bool(verdict.failed) is failed
    assert bool(jnp.isfinite(verdict.step_length))


def test_line_search_brackets():
    further = line_search(trial(0.5, -0.95))
    assert float(further.low) == 1.0
    assert float(further.step_length) == 2.0
    back = line_search(trial(1.5, 3.0))
    assert float(back.high) == 1.0
    assert 0.1 <= float(back.step_length) <= 0.6
    inside = line_search(trial(0.5, -0.95, t=1.0, low=0.5, high=4.0))
    assert float(inside.step_length) == 2.5


def test_metropolis():
    luck, noise = jax.vmap(lambda key: lane.draw(key, 3, jnp.float64))(
        jax.random.split(jax.random.PRNGKey(0), 4000)
    )
    many = jax.vmap(lane.accept, in_axes=(0, None, None))(
        luck, jnp.asarray(1.0 + lane.TEMPERATURE), jnp.asarray(1.0)
    )
    # Accepted with probability 1/e; 4000 draws have a standard error of 0.008.
    assert abs(float(many.mean()) - np.exp(-1)) < 0.03
    np.testing.assert_allclose(noise.mean(axis=0), 0.0, atol=0.06)
    np.testing.assert_allclose(noise.std(axis=0), 1.0, atol=0.04)
    assert bool(lane.accept(jnp.asarray(0.99), jnp.asarray(0.9), jnp.asarray(1.0)))
    assert not bool(lane.accept(jnp.asarray(0.0), jnp.asarray(jnp.inf), jnp.asarray(1.0)))


def test_hop_size_adapts_between_its_ends():
    size = jnp.asarray(0.3)
    assert lane.adapt(size, jnp.array(True)) > size > lane.adapt(size, jnp.array(False))
    assert lane.adapt(jnp.asarray(lane.LARGEST), jnp.array(True)) == lane.LARGEST
    assert lane.adapt(jnp.asarray(lane.SMALLEST), jnp.array(False)) == lane.SMALLEST


def test_a_tick_spends_one_evaluation():
    state = lane.init(jnp.array([0.5, 0.5]), jax.random.PRNGKey(0), QUASI_NEWTON)
    for n in range(1, 80):
        working = not bool(state.done | state.failed)
        spent = int(state.evaluations)
        state = lane.tick(state, Smooth(rosenbrock), 0.0, jnp.asarray(n), QUASI_NEWTON)
        assert int(state.evaluations) == spent + working
        if n % 8 == 0:
            state = lane.pause(state, stop(), QUASI_NEWTON)
    assert bool(state.done)


def test_a_pause_hops_only_where_the_local_minimisation_has_ended():
    state = lane.init(jnp.array([-0.5, 1.2]), jax.random.PRNGKey(0), QUASI_NEWTON)
    for n in range(5):
        state = lane.tick(state, Smooth(rosenbrock), 0.0, jnp.asarray(n), QUASI_NEWTON)
    assert int(lane.pause(state, stop(hops=1), QUASI_NEWTON).hop) == 0
    hopped = lane.pause(state, stop(hops=1, steps=int(state.steps)), QUASI_NEWTON)
    assert int(hopped.hop) == 1
    assert not hopped.done
    assert float(hopped.best_f) == float(state.f)
    assert np.isinf(hopped.f)
    assert not np.array_equal(hopped.z, state.z)


def test_a_lane_that_cannot_go_on_waits_for_its_pause():
    nowhere = Smooth(lambda z, data: jnp.sum(z) * jnp.nan)
    state = lane.tick(
        lane.init(jnp.zeros(2), jax.random.PRNGKey(0), QUASI_NEWTON),
        nowhere,
        0.0,
        jnp.asarray(0),
        QUASI_NEWTON,
    )
    assert state.failed
    assert int(lane.tick(state, nowhere, 0.0, jnp.asarray(1), QUASI_NEWTON).evaluations) == 1
    assert int(lane.pause(state, stop(hops=1), QUASI_NEWTON).hop) == 1


def test_objective_falls_along_accepted_steps():
    state, last = lane.init(jnp.array([-0.5, 1.2]), jax.random.PRNGKey(0), QUASI_NEWTON), np.inf
    for n in range(60):
        state = lane.tick(state, Smooth(rosenbrock), 0.0, jnp.asarray(n), QUASI_NEWTON)
        if np.isfinite(state.f):
            assert float(state.f) <= last
            last = float(state.f)
