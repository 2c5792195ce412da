"""Which runs to train next: slopes against finite differences, choices against all choices, designs
against each other in simulation."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mixjax as mj
from mixjax.data.runs import Runs
from mixjax.fitting.problem import to_paper
from mixjax.fitting.simulate import known_fit, random_truth, simulate_runs
from mixjax.mixture.optimum import best_of
from mixjax.plan.information import (
    LogDet,
    Noise,
    Trace,
    added,
    best_slopes,
    information_of_runs,
    inverse,
    most_informative,
    noise_of_runs,
    outer,
    tangent,
    trades,
    values_after,
)

HELPS = {"t": (1.0, 0.5, 0.2), "u": (0.2, 0.4, 1.0)}


def truth(targets: tuple[str, ...] = ("t", "u"), law: str = "additive") -> mj.Fit:
    """A law whose best mixture lies inside the simplex."""
    params = {}
    for t in targets:
        common = {
            "E": 1.5,
            "C": np.array(HELPS[t[0]]) / 0.4,
            "gamma": np.array([0.4, 0.5, 0.6]),
            "alpha": 0.34,
            "beta": 0.36,
        }
        if law == "additive":
            params[t] = common | {"A": 300.0, "B": 1500.0}
        else:
            helps = np.array(HELPS[t[0]])
            params[t] = common | {
                "C_A": 300.0 * (1 - 0.3 * helps),
                "gamma_A": 1.0,
                "C_B": 1500.0 * (1 - 0.3 * helps),
                "gamma_B": 1.0,
            }
    return known_fit(law, ["a", "b", "c"], params)


def experiment(fit: mj.Fit, mixtures: int = 8, seed: int = 0) -> Runs:
    h = np.random.default_rng(seed).dirichlet(np.full(3, 2.0), mixtures)
    m, N, D = (
        x.ravel() for x in np.meshgrid(np.arange(mixtures), [2e8, 5e8], [5e9, 1e10], indexing="ij")
    )
    return mj.read_runs(simulate_runs(fit, h[m], N, D, noise=0.003, seed=seed + 1))


def points(h: np.ndarray, **counts: float) -> Runs:
    return mj.read_runs(
        pd.DataFrame(counts | {f"h_{d}": h[:, i] for i, d in enumerate("abc")}),
        require_losses=False,
    )


# --- Slopes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "law", ["additive", "joint", "full", "simple", "additive_fixed_nd", "ye_m1", "ge24"]
)
def test_slopes_of_losses_against_finite_differences(law):
    fit = random_truth(law, 3, ["d0", "d1"], seed=3)
    h = np.random.default_rng(1).dirichlet(np.full(3, 2.0), 12)
    N, D = np.tile([2e8, 1e9], 6), np.tile([5e9, 1e10, 2e10], 4)
    runs = mj.read_runs(simulate_runs(fit, h, N, D, noise=0.001))
    about = tangent(fit, runs, ["d0", "d1"])
    slopes = about.rows(h[:4], N[:4], D[:4])
    assert slopes.shape == (2, 4, about.z.shape[1])
    step = 1e-5
    for g, t in enumerate(fit.targets):

        def log_losses(z, g=g, t=t):
            moved = replace(fit, params={**fit.params, t: to_paper(about.problem, g, z)})
            return np.log(moved.predict(N[:4], D[:4], h[:4])[t])

        numeric = np.stack(
            [
                (log_losses(about.z[g] + step * e) - log_losses(about.z[g] - step * e)) / (2 * step)
                for e in np.eye(len(about.z[g]))
            ],
            axis=1,
        )
        np.testing.assert_allclose(slopes[g], numeric, rtol=1e-5, atol=1e-7)


LIMITS = {
    "free": ({}, 2),
    "a cap": ({"caps": {"c": 0.3}}, 1),
    "a group's cap": ({"caps": {"ab": 0.3}, "groups": {"ab": ("a", "b")}}, 1),
    "a group's floor": ({"floors": {"bc": 0.9}, "groups": {"bc": ("b", "c")}}, 1),
    "a pull": ({"pull": mj.mixture.Pull({"a": 0.6, "b": 0.3, "c": 0.1}, 0.05)}, 2),
    "all in groups": ({"caps": {"ab": 0.3}, "groups": {"ab": ("a", "b"), "rest": ("c",)}}, 1),
}


@pytest.mark.parametrize("limits", LIMITS)
@pytest.mark.parametrize("law", ["additive", "joint"])
def test_slopes_of_the_best_mixture_against_optima_of_moved_parameters(law, limits):
    """With every limit that binds kept: a capped group's sum moves no more than a capped share."""
    fit, (limited, directions) = truth(law=law), LIMITS[limits]
    goal = mj.Question(fit, 1e9, 2e10, weights={"t": 1.0, "u": 2.0}, **limited)
    about = tangent(fit, experiment(fit), list(goal.weighed))
    h = goal.array(best_of(goal).weights)
    basis = trades(h, goal.box)
    assert basis.shape == (3, directions)
    np.testing.assert_allclose(basis.T @ basis, np.eye(directions), atol=1e-12)
    found = best_slopes(about, h, basis, goal)
    np.testing.assert_allclose(found.shares.sum(axis=1), 0.0, atol=1e-9)
    if "groups" in limited:
        inside = [d in next(iter(limited["groups"].values())) for d in "abc"]
        np.testing.assert_allclose(found.shares[:, inside].sum(axis=1), 0.0, atol=1e-12)
        assert np.abs(found.shares).max() > 0.01
    step, rng = 1e-4, np.random.default_rng(0)
    for g, t in enumerate(about.problem.targets):
        for direction in rng.standard_normal((3, about.z.shape[1])):

            def best(sign, g=g, t=t, direction=direction):
                moved = replace(
                    fit,
                    params={
                        **fit.params,
                        t: to_paper(about.problem, g, about.z[g] + sign * step * direction),
                    },
                )
                return goal.but(fit=moved), goal.array(best_of(goal.but(fit=moved)).weights)

            (_, low), (there, high) = best(-1), best(1)
            np.testing.assert_allclose(
                found.shares[g] @ direction, (high - low) / (2 * step), atol=2e-5
            )
            # What the old best mixture loses under the moved parameters is the squared length of
            # the other slope.
            lost = float(there.value(h) - there.value(high))
            if goal.prior is not None:
                prior, strength = goal.prior
                lost += strength * np.sum(h * np.log(h / prior) - high * np.log(high / prior))
            np.testing.assert_allclose(
                0.5 * np.sum((found.regret[g] @ direction) ** 2) * step**2,
                lost,
                rtol=0.02,
                atol=1e-13,
            )


# --- Information ---------------------------------------------------------------------------------


def test_information_of_correlated_rows_against_the_inverse_of_their_covariance():
    rng = np.random.default_rng(0)
    rows, of, seen = (
        rng.standard_normal((9, 4)),
        np.array([0, 0, 0, 1, 1, 2, 3, 3, 3]),
        np.arange(9) != 4,
    )
    noise = Noise(0.02, 0.6)
    alike = np.where(of[:, None] == of, noise.alike, 0.0)
    np.fill_diagonal(alike, 1.0)
    covariance = noise.sd**2 * alike[np.ix_(seen, seen)]
    expected = rows[seen].T @ np.linalg.solve(covariance, rows[seen])
    np.testing.assert_allclose(information_of_runs(rows, seen, of, noise), expected, rtol=1e-10)


def test_noise_is_that_of_the_residuals():
    fit = truth(("t",))
    h = np.repeat(np.random.default_rng(0).dirichlet(np.ones(3), 400), 4, axis=0)
    D = np.tile([5e9, 1e10, 2e10, 4e10], 400)
    runs = mj.read_runs(simulate_runs(fit, h, 5e8, D, noise=0.004, seed=3))
    found = noise_of_runs(fit, runs)["t"]
    assert found.sd == pytest.approx(0.004, rel=0.1)
    assert found.alike == pytest.approx(0.4, abs=0.1)


@given(st.integers(0, 10_000), st.integers(1, 3), st.integers(1, 5))
@settings(max_examples=30)
def test_rank_one_updates_are_those_of_the_inverse(seed, targets, q):
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((targets, 6, q))
    information = outer(rng.standard_normal((targets, q + 2, q))) + np.eye(q)
    lead = rng.standard_normal((targets, 2, q))
    covariance = inverse(information)
    np.testing.assert_allclose(covariance, np.linalg.inv(information), rtol=1e-7, atol=1e-10)
    after = [inverse(information + outer(rows[:, [j]])) for j in range(6)]
    np.testing.assert_allclose(added(covariance, rows[:, 2]), after[2], rtol=1e-6, atol=1e-10)
    for aim in (LogDet(), Trace(lead)):
        falls = [aim.value(covariance) - aim.value(one) for one in after]
        np.testing.assert_allclose(aim.falls(covariance, rows), falls, rtol=1e-6, atol=1e-9)


def brute_force(aim, information, rows, n):
    values = {
        c: aim.value(inverse(information + outer(rows[:, list(c)])))
        for c in combinations(range(rows.shape[1]), n)
    }
    return min(values.values())


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_choice_against_all_choices(seed, n):
    rng = np.random.default_rng(seed)
    rows, information = rng.standard_normal((2, 11, 4)), np.stack([np.eye(4)] * 2)
    for aim in (LogDet(), Trace(rng.standard_normal((2, 2, 4)))):
        chosen = most_informative(aim, information, rows, n)
        assert len(set(chosen)) == n
        value = aim.value(inverse(information + outer(rows[:, chosen])))
        assert value <= brute_force(aim, information, rows, n) + 1e-9 * abs(value)


@given(st.integers(0, 10_000), st.integers(1, 4))
@settings(max_examples=30)
def test_log_determinants_are_within_the_bound_of_the_best(seed, n):
    rng = np.random.default_rng(seed)
    rows, information = (
        rng.standard_normal((1, 9, 5)) * rng.uniform(0.1, 10, (1, 9, 1)),
        np.eye(5)[None],
    )
    start = LogDet().value(inverse(information))
    gained = start - LogDet().value(
        inverse(information + outer(rows[:, most_informative(LogDet(), information, rows, n)]))
    )
    assert gained >= (1 - 1 / np.e) * (start - brute_force(LogDet(), information, rows, n)) - 1e-9


def test_a_run_that_costs_more_than_it_gives_is_left():
    rows = np.array([[[2.0, 0.0], [1.0, 0.0], [0.0, 1.0]]])
    information = np.eye(2)[None]
    assert most_informative(LogDet(), information, rows, 1) == [0]
    assert most_informative(LogDet(), information, rows, 1, np.array([10.0, 1.0, 2.0])) == [1]
    assert most_informative(LogDet(), information, rows, 2, np.array([10.0, 1.0, 2.0])) == [1, 2]


def test_values_after_each_run_fall():
    rng = np.random.default_rng(0)
    rows, information = rng.standard_normal((2, 5, 3)), np.stack([np.eye(3)] * 2)
    aims = (LogDet(), Trace(rng.standard_normal((2, 2, 3))))
    values = values_after(aims, information, rows)
    assert (np.diff(values, axis=0) <= 0).all()
    np.testing.assert_allclose(
        values[-1], [aim.value(inverse(information + outer(rows))) for aim in aims], rtol=1e-9
    )


# --- The verb ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def case():
    fit = truth()
    return mj.Question(fit, 1e9, 2e10), experiment(fit)


@pytest.mark.parametrize("aim", ["best mixture", "regret", "d-optimal"])
def test_runs_are_of_the_simplex_and_their_gains_add_up(case, aim):
    goal, runs = case
    found = mj.next_runs(goal, runs, 4, aim=aim)
    h = found.frame()[["h_a", "h_b", "h_c"]].to_numpy()
    np.testing.assert_allclose(h.sum(axis=1), 1.0, atol=1e-12)
    assert (h >= runs.h.min() - 1e-12).all()
    assert all(r.flops == 6 * r.N * r.D for r in found.runs)
    assert found.flops == pytest.approx(sum(6 * r.N * r.D for r in found.runs))
    assert {(r.N, r.D) for r in found.runs} <= {(2e8, 1e10), (5e8, 1e10)}
    assert all(0 < r.gain < 1 for r in found.runs)
    assert found.share_sd > found.runs[-1].share_sd > 0
    assert found.regret > found.runs[-1].regret > 0
    last = {"best mixture": lambda r: r.share_sd**2, "regret": lambda r: r.regret}.get(aim)
    if last:
        assert np.prod([1 - r.gain for r in found.runs]) == pytest.approx(
            last(found.runs[-1]) / last(found), rel=1e-9
        )
    assert found == mj.next_runs(goal, runs, 4, aim=aim)
    assert found.to_dict()["runs"][0]["N"] == found.runs[0].N
    assert "FLOP in all" in str(found)


def test_a_capped_group_is_planned_for_as_the_fixed_rest(case):
    """With a + b at its cap, c cannot move: the same plan as with c held there."""
    goal, runs = case
    group = goal.but(caps={"ab": 0.3}, groups={"ab": ("a", "b")})
    held = goal.but(caps={"c": 0.7}, floors={"c": 0.7})
    for aim in ("best mixture", "regret"):
        ours, theirs = (mj.next_runs(g, runs, 2, aim=aim) for g in (group, held))
        assert ours.share_sd == pytest.approx(theirs.share_sd, rel=1e-5)
        assert ours.regret == pytest.approx(theirs.regret, rel=1e-5)
        assert ours.share_sd < mj.next_runs(goal, runs, 2, aim=aim).share_sd


def test_each_aim_is_best_at_its_own(case):
    goal, runs = case
    found = {
        aim: mj.next_runs(goal, runs, 5, aim=aim) for aim in ("best mixture", "regret", "d-optimal")
    }
    spread = {aim: f.runs[-1].share_sd for aim, f in found.items()}
    regret = {aim: f.runs[-1].regret for aim, f in found.items()}
    nats = {aim: sum(r.information for r in f.runs) for aim, f in found.items()}
    # Exchanges end at a choice that no single exchange improves, not always the best of all.
    assert spread["best mixture"] <= 1.01 * min(spread.values())
    assert regret["regret"] <= 1.01 * min(regret.values())
    assert nats["d-optimal"] >= 0.99 * max(nats.values())
    assert spread["d-optimal"] > 1.05 * spread["best mixture"]
    assert nats["best mixture"] < 0.95 * nats["d-optimal"]


def test_runs_of_a_list_are_put_in_order(case):
    goal, runs = case
    h = np.array([[0.6, 0.3, 0.1], [0.1, 0.1, 0.8], [0.3, 0.4, 0.3]])
    found = mj.next_runs(goal, runs, 3, among=points(h, N=3e8, D=6e9))
    assert sorted(map(tuple, found.frame()[["h_a", "h_b", "h_c"]].to_numpy().tolist())) == sorted(
        map(tuple, h.tolist())
    )
    assert {(r.N, r.D, r.flops) for r in found.runs} == {(3e8, 6e9, 6 * 3e8 * 6e9)}
    first = mj.next_runs(goal, runs, 1, among=points(h, N=3e8, D=6e9)).runs[0]
    assert first == found.runs[0]
    sizes = mj.next_runs(goal, runs, 6, among=points(h), scales=[(1e8, 2e9), (4e8, 8e9)])
    assert sorted(r.N for r in sizes.runs) == [1e8] * 3 + [4e8] * 3


def test_per_flop_takes_cheaper_runs(case):
    goal, runs = case
    dear, cheap = (mj.next_runs(goal, runs, 3, per_flop=p) for p in (False, True))
    assert cheap.flops < dear.flops
    assert dear.runs[-1].share_sd < cheap.runs[-1].share_sd


def test_a_best_mixture_that_is_hardly_known_is_warned_of(case):
    goal, runs = case
    noisy = replace(
        runs,
        losses=runs.losses
        * (1 + 0.05 * np.random.default_rng(0).standard_normal(runs.losses.shape)),
    )
    with pytest.warns(mj.MixjaxWarning, match="aim d-optimal"):
        mj.next_runs(goal, noisy, 1)
    mj.next_runs(goal, noisy, 1, aim="d-optimal")


def test_laws_of_h_alone_need_no_scale():
    fit = random_truth("additive_fixed_nd", 3, ["d0"], seed=1)
    h = np.random.default_rng(0).dirichlet(np.ones(3), 20)
    table = simulate_runs(fit, h, noise=0.003)
    found = mj.next_runs(mj.Question(fit), mj.read_runs(table), 2)
    assert [(r.N, r.D, r.flops) for r in found.runs] == [(None, None, None)] * 2
    assert found.flops is None
    assert list(found.frame()) == ["h_d0", "h_d1", "h_d2"]
    with pytest.raises(mj.UserError, match="per_flop: N or D"):
        mj.next_runs(mj.Question(fit), mj.read_runs(table), 2, per_flop=True)


def test_mistakes_are_told_in_one_line(case):
    goal, runs = case
    other = random_truth("additive", 3, ["t"])
    no_counts = replace(runs, N=None, D=None)
    for options, message in [
        ({"aim": "a-optimal"}, "no aim 'a-optimal'"),
        ({"n": 0}, "0 runs of"),
        ({"n": 2.5}, "2.5 runs of"),
        ({"n": 4, "among": points(np.full((3, 3), 1 / 3))}, "4 runs of 2 candidates"),
        ({"scales": []}, "are not counts"),
        ({"scales": [(1e9, -1.0)]}, "are not counts"),
        ({"question": mj.Question(other, 1e9, 2e10)}, "no weights of domain 'd0'"),
        ({"question": goal.but(N=None)}, "N is missing"),
        (
            {"question": goal.but(caps={"a": 0.0, "b": 0.0})},
            "no two domains of the best one can trade",
        ),
        ({"runs": no_counts}, "N of the candidates is not known"),
    ]:
        if "among" in options:
            options |= {
                "scales": [(2e8, 5e9)],
                "among": points(np.array([[0.2, 0.3, 0.5], [0.5, 0.3, 0.2]])),
            }
        with pytest.raises(mj.UserError) as caught:
            mj.next_runs(**({"question": goal, "runs": runs} | options))
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_best_mixture_of_one_domain_is_told_what_to_do():
    params = {
        "E": 1.5,
        "C": np.array([2.5, 1.0, 0.5]),
        "gamma": np.ones(3),
        "A": 300.0,
        "alpha": 0.34,
        "B": 1500.0,
        "beta": 0.36,
    }
    fit = known_fit("additive", ["a", "b", "c"], {"t": params})
    goal, runs = mj.Question(fit, 1e9, 2e10), experiment(fit)
    assert best_of(goal).weights["a"] > 0.999
    with pytest.raises(
        mj.UserError,
        match=(
            r"give domains that it leaves out a floor \(--floor b=0.02\), or aim at the "
            r"parameters \(--aim d-optimal\)"
        ),
    ):
        mj.next_runs(goal, runs)
    with pytest.raises(mj.UserError, match=r"widen caps and floors, or aim"):
        mj.next_runs(goal.but(caps={"b": 0.0, "c": 0.0}), runs)
    found = mj.next_runs(goal, runs, 2, aim="d-optimal")
    assert all(r.gain > 0 and r.information > 0 and r.share_sd == r.regret == 0 for r in found.runs)
    assert mj.next_runs(goal.but(floors={"b": 0.02}), runs, aim="d-optimal").runs[0].gain > 0


# --- In simulation -------------------------------------------------------------------------------


def test_chosen_runs_pin_down_the_best_mixture_better_than_space_filling_and_random_ones():
    """Three experiments, many noisy tables of each: every table is a target of one fit, the spread
    of their best mixtures is measured."""
    names, noise, draws, more, scale = ["a", "b", "c", "d"], 0.001, 24, 6, (5e8, 1e10)
    columns = [f"h_{d}" for d in names]
    params = {
        "E": 1.5,
        "C": np.array([1.0, 0.6, 0.4, 0.5]) / 0.4,
        "gamma": np.array([0.35, 0.5, 0.6, 0.45]),
        "A": 300.0,
        "alpha": 0.34,
        "B": 1500.0,
    }
    known = known_fit("additive", names, {"t": params | {"beta": 0.36}})
    goal = mj.Question(known, 1e9, 2e10, floors=dict.fromkeys(names, 0.02))
    best = goal.array(best_of(goal).weights)

    def spread(first: Runs, h: np.ndarray) -> float:
        """Median squared error of the best mixture once runs of h are trained too."""
        shares = np.concatenate([first.h, h])
        N, D = (
            np.concatenate([x, np.full(len(h), y)])
            for x, y in zip((first.N, first.D), scale, strict=True)
        )
        off = 1 + noise * np.random.default_rng(11).standard_normal((draws, len(shares)))
        losses = {f"loss_t{r}": known.predict(N, D, shares)["t"] * off[r] for r in range(draws)}
        table = pd.DataFrame({"N": N, "D": D} | dict(zip(columns, shares.T, strict=True)) | losses)
        fit = mj.fit(mj.read_runs(table), "additive", starts=8, hops=0, delta=0.05)
        one = [
            goal.but(fit=replace(fit, targets=(t,), params={t: fit.params[t]})) for t in fit.targets
        ]
        return float(np.median([np.sum((goal.array(best_of(g).weights) - best) ** 2) for g in one]))

    found: dict[str, list[float]] = {}
    for seed in range(3):
        h = 0.05 + 0.8 * np.random.default_rng(seed).dirichlet(np.full(4, 3.0), 10)
        m, N, D = (
            x.ravel() for x in np.meshgrid(np.arange(10), [2e8, 5e8], [5e9, 1e10], indexing="ij")
        )
        first = mj.read_runs(simulate_runs(known, h[m], N, D, noise=noise, seed=seed))
        designs = {
            aim: mj.next_runs(goal, first, more, aim=aim, scales=[scale])
            .frame()[columns]
            .to_numpy()
            for aim in ("best mixture", "d-optimal")
        }
        least = float(first.h.min())
        designs["even"] = mj.design_mixtures(names, more, least, seed=seed).to_numpy()
        designs["random"] = mj.design_mixtures(
            names, more, least, seed=seed, concentration=1.0
        ).to_numpy()
        for name, design in designs.items():
            found.setdefault(name, []).append(spread(first, design))
    error = {name: float(np.mean(values)) for name, values in found.items()}
    for name in ("best mixture", "d-optimal"):
        assert error[name] < 0.85 * error["even"]
        assert error[name] < 0.6 * error["random"]
