"""Simulated runs: the law itself without noise, noise of the stated size and shape, and the demo
experiment."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import scipy.optimize
import scipy.stats

from mixjax.errors import UserError
from mixjax.fitting.simulate import (
    DOMAINS,
    demo_runs,
    demo_truth,
    known_fit,
    random_truth,
    simulate_runs,
)
from mixjax.law import Coefficients, Law, Parameter, find_law, laws
from tests import reference

LAWS = tuple(laws())
DOMAIN_COLUMNS = [f"h_{d}" for d in DOMAINS]


@cache
def demo():
    return demo_runs()


def rows(n, k, seed=0):
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.ones(k), n), 10 ** rng.uniform(8, 10, n), 10 ** rng.uniform(9, 11, n)


@pytest.mark.parametrize("law", LAWS)
def test_without_noise_it_is_the_law(law):
    truth = random_truth(law, 3, ["d0", "d2"], seed=2)
    h, N, D = rows(20, 3)
    table = simulate_runs(truth, h, N, D, noise=0)
    assert list(table.columns) == ["run", "N", "D", "h_d0", "h_d1", "h_d2", "loss_d0", "loss_d2"]
    np.testing.assert_array_equal(table[["h_d0", "h_d1", "h_d2"]], h)
    for target, own in (("d0", 0), ("d2", 2)):
        seen = h[:, [own]] if law == "ge24" else h
        # Rounding, times exponents of up to log 1e11 = 25.
        np.testing.assert_allclose(
            table[f"loss_{target}"],
            reference.losses(law, truth.params[target], seen, N, D),
            rtol=1e-12,
        )


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("law", LAWS)
def test_random_parameters_are_plausible(law, seed):
    truth = random_truth(law, 5, ["d0", "d1"], seed)
    h = 0.02 + 0.9 * rows(50, 5)[0]  # laws of powers of a share have no bound near 0
    for losses in truth.predict(1e9, 1e10, h).values():
        assert ((losses > 0.3) & (losses < 30)).all()
    assert truth.targets == ("d0", "d1")
    first = find_law(law).parameters[0].name
    assert not np.allclose(truth.params["d0"][first], truth.params["d1"][first])
    assert repr(truth.params) == repr(random_truth(law, 5, ["d0", "d1"], seed).params)
    assert repr(truth.params) != repr(random_truth(law, 5, ["d0", "d1"], seed + 1).params)


def test_what_the_law_does_not_read_may_be_left_out():
    h, _, D = rows(6, 2)
    assert list(simulate_runs(random_truth("ye_m1", 2, ["x"]), h).columns) == [
        "run",
        "h_d0",
        "h_d1",
        "loss_x",
    ]
    assert list(simulate_runs(random_truth("additive_fixed_n", 2, ["x"]), h, D=D).columns) == [
        "run",
        "D",
        "h_d0",
        "h_d1",
        "loss_x",
    ]
    assert list(
        simulate_runs(random_truth("chinchilla", 0, ["x"]), N=[1e8, 1e9], D=1e10).columns
    ) == ["run", "N", "D", "loss_x"]


def test_a_law_of_ones_own():
    law = Law(
        "mine",
        (Parameter("a"), Parameter("b", ("k",))),
        lambda p, h: Coefficients(p["a"], p["b"][0], 0.5),
    )
    truth = known_fit(law, ["x", "y"], {"t": {"a": 2.0, "b": np.array([1.0, 5.0])}})
    table = simulate_runs(truth, [0.5, 0.5], [1e9, 4e9], 1e10, noise=0)
    np.testing.assert_allclose(
        table["loss_t"], [3.0, 2.5], rtol=1e-14
    )  # N over the law's unit of 1e9


# 4000 runs of 5 checkpoints: means of t(5) squares are good to a few percent.
def noise_of(noise=0.004, seed=0, runs=4000, checkpoints=5):
    truth = known_fit(
        "chinchilla",
        (),
        {t: {"E": 1.0, "A": 1.0, "alpha": 0.1, "B": 1.0, "beta": 0.1} for t in ("a", "b", "c")},
    )
    table = simulate_runs(
        truth,
        N=1e9,
        D=np.full(runs * checkpoints, 1e10),
        noise=noise,
        seed=seed,
        run=[f"r{i // checkpoints}" for i in range(runs * checkpoints)],
    )
    exact = truth.predict(1e9, 1e10)["a"]
    return (
        table[["loss_a", "loss_b", "loss_c"]].to_numpy().reshape(runs, checkpoints, 3) / exact - 1
    )


def test_noise_has_the_size_and_the_shape_it_says():
    relative = noise_of(0.004)
    np.testing.assert_allclose(relative.std(), 0.004, rtol=0.03)
    assert abs(relative.mean()) < 4 * 0.004 / np.sqrt(4000)
    assert scipy.stats.kurtosis(relative[:, 0, 0]) > 0.5  # heavier than normal
    same_target = np.corrcoef(relative[:, 0, 0], relative[:, 3, 0])[0, 1]
    same_run = np.corrcoef(relative[:, 0, 0], relative[:, 3, 1])[0, 1]
    np.testing.assert_allclose([same_target, same_run], [0.4, 0.2], atol=0.06)
    assert abs(np.corrcoef(relative[:-1, 0, 0], relative[1:, 0, 0])[0, 1]) < 0.06


def test_noise_is_seeded():
    np.testing.assert_array_equal(noise_of(seed=1, runs=9), noise_of(seed=1, runs=9))
    assert (noise_of(seed=1, runs=9) != noise_of(seed=2, runs=9)).all()


def test_rows_of_one_mixture_and_size_are_one_run_by_default():
    h = [[0.2, 0.8], [0.2, 0.8], [0.5, 0.5], [0.2, 0.8]]
    table = simulate_runs(
        random_truth("joint", 2, ["x"]), h, [1e8, 1e8, 1e8, 1e9], [1e9, 2e9, 1e9, 1e9]
    )
    run = table["run"].to_list()
    assert run[0] == run[1]
    assert len(set(run)) == 3


@pytest.mark.parametrize("noise", [-0.1, np.nan, np.inf])
def test_bad_noise_is_refused(noise):
    with pytest.raises(UserError, match=r"noise: .* is not a number of at least 0"):
        simulate_runs(random_truth("chinchilla", 0, ["x"]), N=1e8, D=1e9, noise=noise)


def test_the_demo_is_an_experiment_of_the_papers_kind():
    table = demo().table
    train, held_out = table[table["split"] == "train"], table[table["split"] == "eval"]
    assert (len(train), len(held_out)) == (880, 32)
    assert train.groupby("N")[DOMAIN_COLUMNS].apply(
        lambda part: len(part.drop_duplicates())
    ).to_list() == [40, 40, 20, 10]
    assert (table.groupby("run").size() == 8).all()
    assert table["run"].nunique() == 114
    assert held_out["N"].unique().tolist() == [3e9]
    assert held_out["D"].max() > train["D"].max()
    np.testing.assert_allclose(table[DOMAIN_COLUMNS].sum(axis=1), 1, rtol=0, atol=1e-12)
    assert (table[DOMAIN_COLUMNS] >= 0.02).all(axis=None)
    losses = table.filter(like="loss_")
    assert losses.shape[1] == 6
    assert ((losses > 1.5) & (losses < 4.5)).all(axis=None)
    assert not table.isna().any(axis=None)


def test_demo_mixtures_are_nested_and_one_eval_mixture_is_new():
    table = demo().table
    seen = [
        set(map(tuple, part[DOMAIN_COLUMNS].round(12).to_numpy()))
        for _, part in table[table["split"] == "train"].groupby("N")
    ]
    assert seen[0] == seen[1] > seen[2] > seen[3]
    held_out = set(map(tuple, table[table["split"] == "eval"][DOMAIN_COLUMNS].round(12).to_numpy()))
    assert len(held_out) == 4
    assert len(held_out - seen[0]) == 1


def test_demo_is_seeded():
    assert demo().table.equals(demo_runs().table)
    assert not demo().table.equals(demo_runs(seed=1).table)


def test_the_truth_of_the_demo_explains_it():
    """0.3 percent of noise is a mean absolute error of about 0.2 percent."""
    table, truth = demo().table, demo().truth
    for target, predicted in truth.predict(table["N"], table["D"], table[DOMAIN_COLUMNS]).items():
        error = np.mean(np.abs(predicted / table[f"loss_{target}"] - 1))
        assert 0.0015 < error < 0.003


def test_more_of_its_own_domain_helps_a_target_a_lot():
    truth = demo_truth()
    for i, target in enumerate(DOMAINS):
        poor, rich = np.full(5, 0.245), np.full(5, 0.125)
        poor[i], rich[i] = 0.02, 0.5
        losses = truth.predict(1e9, 1e10, np.stack([poor, rich]))[target]
        assert losses[1] < 0.94 * losses[0]


def test_the_best_mixture_of_the_demo_is_inside_uneven_and_moves_with_scale():
    truth = demo_truth()

    def best(N, D):
        def total(u):
            h = np.exp(u - u.max())
            return sum(float(loss) for loss in truth.predict(N, D, h / h.sum()).values())

        h = np.exp(
            scipy.optimize.minimize(
                total, np.zeros(5), method="Nelder-Mead", options={"xatol": 1e-3, "fatol": 1e-7}
            ).x
        )
        return h / h.sum()

    large = best(7e9, 150e9)
    assert large.min() > 0.03
    assert large.max() > 0.35
    assert np.abs(large - best(1.2e8, 1e10)).max() > 0.02
