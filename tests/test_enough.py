"""How many runs are enough: nothing scored is seen, more mixtures help until they do not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import mixjax as mj
from mixjax.data.runs import Runs
from mixjax.errors import UserError
from mixjax.fitting.loss import Settings
from mixjax.fitting.problem import losses_at, make_problem, to_paper
from mixjax.fitting.search import draw_starts
from mixjax.fitting.simulate import random_truth, simulate_runs
from mixjax.law import find_law
from mixjax.law.base import predict
from mixjax.trust.enough import Enough, enough_runs

FEW: dict[str, Any] = {"starts": 6}
TARGETS = ("d0", "d1")


def experiment(mixtures: int = 30, noise: float = 0.001, sizes=(2e8, 5e8, 1e9)) -> Runs:
    h = np.random.default_rng(1).dirichlet(np.full(3, 2.0), mixtures)
    m, N, D = (
        x.ravel() for x in np.meshgrid(np.arange(mixtures), sizes, [5e9, 1e10, 2e10], indexing="ij")
    )
    return mj.read_runs(
        simulate_runs(random_truth("additive", 3, TARGETS, seed=3), h[m], N, D, noise=noise, seed=5)
    )


@pytest.fixture(scope="module")
def runs() -> Runs:
    return experiment()


@pytest.fixture(scope="module")
def found(runs: Runs) -> Enough:
    return enough_runs(runs, ["additive", "joint"], [3, 8, 24], 4, **FEW, prior="none")


def test_true_laws_predict_from_enough_mixtures_and_not_from_few(found):
    additive, joint = (found.quartiles(law)[:, 1] for law in ("additive", "joint"))
    assert additive[0] > 10 * additive[-1]
    assert joint[0] > 10 * joint[-1]
    assert max(additive[-1], joint[-1]) < 0.15


def test_a_prior_helps_where_mixtures_are_few_and_costs_nothing_where_they_are_many(runs, found):
    held = enough_runs(runs, ["additive", "joint"], [3, 8, 24], 4, **FEW)
    for law in ("additive", "joint"):
        with_prior, without = (of.quartiles(law)[:, 1] for of in (held, found))
        assert with_prior[0] < 0.8 * without[0]
        assert with_prior[-1] < 1.1 * without[-1]


def test_errors_are_those_of_fits_to_the_choice_alone(runs):
    """One choice by hand: the first 20 mixtures of the first order, scored on the last 10."""
    found = enough_runs(runs, "additive", [20], 2, seed=3, starts=12, targets=["d0"])
    order = np.random.default_rng((3, 0)).permutation(30)
    of = np.repeat(np.arange(30), 9)
    fit = mj.fit(
        runs.select(np.isin(of, order[:20])), "additive", starts=12, hops=0, targets=["d0"]
    )
    held = runs.select(np.isin(of, order[20:]))
    np.testing.assert_allclose(
        found.errors["additive"]["d0"][0, 0], fit.score(held)["d0"].mre, rtol=0.02
    )


def test_scored_losses_change_no_fit(runs, found):
    order = np.random.default_rng((0, 0)).permutation(30)
    scored = np.isin(np.repeat(np.arange(30), 9), order[24:])
    losses = runs.losses.copy()
    losses[scored, 0] *= 1.5
    # So that the middle of all losses, the unit of the search, stays where it is.
    losses[scored & (runs.losses[:, 0] < np.median(runs.losses[:, 0])), 0] /= 1.5**2
    moved = enough_runs(
        replace(runs, losses=losses), ["additive"], [3, 8, 24], 4, **FEW, prior="none"
    )
    before, after = found.errors["additive"], moved.errors["additive"]
    assert (after["d0"][:, 0] > 20).all()
    np.testing.assert_array_equal(after["d1"][:, 0], before["d1"][:, 0])


def test_other_rows_may_be_scored(runs):
    larger = experiment(4, sizes=(4e9,))
    found = enough_runs(runs, "additive", [8, 30], 2, eval_runs=larger, targets=["d0"], **FEW)
    whole = mj.fit(runs, "additive", starts=12, hops=0, targets=["d0"]).score(larger)["d0"].mre
    np.testing.assert_allclose(found.errors["additive"]["d0"][1], whole, rtol=0.02)
    assert "12 rows that no fit sees" in str(found)


def test_same_seed_same_errors(runs):
    one, two = (
        enough_runs(runs, "additive", [5, 10], 2, seed=7, targets=["d1"], **FEW) for _ in range(2)
    )
    np.testing.assert_array_equal(one.errors["additive"]["d1"], two.errors["additive"]["d1"])


def test_default_counts_leave_a_fifth_for_scoring(runs):
    assert enough_runs(runs, "additive", repeats=2, targets=["d0"], starts=2).counts == (
        3,
        5,
        7,
        10,
        16,
        24,
    )


def made(*medians: float) -> Enough:
    errors = np.array(medians)[:, None] * np.array([0.9, 1.0, 1.1])
    return Enough(tuple(range(1, len(medians) + 1)), 9, "rows", {"additive": {"t": errors}})


@pytest.mark.parametrize("law", ["joint", "full", "simple", "additive_fixed_n", "ge24"])
def test_losses_in_the_coordinates_of_the_search_are_the_laws(runs, law):
    problem = make_problem(runs, find_law(law), ["d1"])
    z, _ = draw_starts(problem, Settings(3))
    got = losses_at(problem, 0, z[0], runs)
    for one, losses in zip(z[0], got, strict=True):
        assert runs.N is not None
        expected = predict(
            problem.law, runs.domains, {"d1": to_paper(problem, 0, one)}, runs.N, runs.D, runs.h
        )["d1"]
        np.testing.assert_allclose(losses, expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("medians", "expected"),
    [
        ((3.0, 1.04, 1.0), 2),
        ((1.0, 1.2, 1.0), None),
        ((3.0, 2.0, 1.0), None),
        ((0.5, 0.9, 1.0), 1),
        ((np.inf, 1.0, 1.0), 2),
        ((np.inf, np.inf), None),
    ],
)
def test_enough_is_where_the_error_stays(medians, expected):
    found = made(*medians)
    assert found.enough("additive") == expected
    assert ("more may help" in str(found)) == (expected is None)


def test_content_and_figure(found):
    content = found.to_dict()
    assert set(content) == {"counts", "mixtures", "scored", "within", "laws"}
    law = content["laws"]["joint"]
    assert all(
        low <= middle <= high
        for low, middle, high in zip(law["low"], law["median"], law["high"], strict=True)
    )
    assert set(law["targets"]) == set(TARGETS)
    assert made(np.inf, 1.0).to_dict()["laws"]["additive"]["median"][0] is None
    (axes,) = found.figure().axes
    assert [line.get_label() for line in axes.lines] == ["additive", "joint"]


def test_unusable_options_are_refused(runs):
    for options, words in (
        ({"counts": [30]}, "give 1 to 29"),
        ({"counts": [0, 5]}, "0 of 30 mixtures"),
        ({"counts": []}, "none given"),
        ({"repeats": 1}, "at least 2"),
        ({"laws": []}, "name at least one"),
        ({"targets": ["x"]}, "no target 'x'"),
        ({"starts": 0}, "starts"),
    ):
        with pytest.raises(UserError, match=words):
            enough_runs(runs, **options)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="has 2 mixtures only"):
        enough_runs(experiment(2))
    with pytest.raises(UserError, match="no losses of target 'd1'"):
        enough_runs(runs, eval_runs=replace(runs, targets=("d0",), losses=runs.losses[:, :1]))
    gone = replace(runs, losses=np.where(np.arange(len(runs))[:, None] < 20, runs.losses, np.nan))
    with pytest.raises(UserError, match="no loss in some choice"):
        enough_runs(gone, "additive", [3])
