"""The choice of a law: the criterion is the likelihood it says it is, and the law behind a table is
found without the eval rows."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import mixjax as mj
from mixjax.data.runs import Runs
from mixjax.errors import MixjaxWarning, UserError
from mixjax.fitting.loss import Huber
from mixjax.fitting.simulate import random_truth, simulate_runs
from mixjax.law import find_law
from mixjax.trust.candidates import (
    Candidate,
    Choice,
    effective_rows,
    log_likelihood,
    ranked,
    schwarz,
    standard_errors_behind,
)
from mixjax.trust.choose import choose_law

FEW: dict[str, Any] = {"starts": 6}
TARGETS = ("d0", "d1")


def experiment(law: str = "additive", noise: float = 0.002) -> Runs:
    h = np.random.default_rng(1).dirichlet(np.full(3, 2.0), 12)
    m, N, D = (
        x.ravel()
        for x in np.meshgrid(np.arange(12), [2e8, 5e8, 1e9, 2e9], [5e9, 1e10, 2e10], indexing="ij")
    )
    return mj.read_runs(
        simulate_runs(random_truth(law, 3, TARGETS, seed=3), h[m], N, D, noise=noise, seed=5)
    )


@pytest.fixture(scope="module")
def runs() -> Runs:
    return experiment()


@pytest.fixture(scope="module")
def known(runs: Runs) -> mj.Fit:
    return mj.fit(runs, "additive", starts=8, hops=0)


@pytest.fixture(scope="module")
def found(runs: Runs, known: mj.Fit) -> Choice:
    return choose_law(runs, ["chinchilla", "additive"], fits=[known], **FEW)


# --- The criterion --------------------------------------------------------------------------------


@pytest.mark.parametrize("delta", [1e-4, 1e-2, 1.0])
def test_the_density_integrates_to_one_and_the_scale_is_the_likeliest(delta):
    r = 0.01 * np.random.default_rng(0).standard_t(4, 200)
    x = np.linspace(-2, 2, 100_001)
    mean = Huber(delta).value(r).mean()
    best = -np.inf
    for s in mean * np.geomspace(0.8, 3, 120):
        z = np.trapezoid(np.exp(-Huber(delta).value(x) / s), x)
        best = max(best, -len(r) * (math.log(z) + mean / s))
    assert log_likelihood(r, Huber(delta)) == pytest.approx(best, rel=1e-4)


def test_its_ends_are_the_normal_and_laplaces():
    r = np.random.default_rng(0).standard_normal(500)
    normal = -500 / 2 * (math.log(2 * math.pi * np.mean(r**2)) + 1)
    laplace = -500 * (math.log(2 * np.mean(np.abs(r))) + 1)
    assert log_likelihood(r, Huber(1e3)) == pytest.approx(normal, rel=1e-9)
    assert log_likelihood(r, Huber(1e-6)) == pytest.approx(laplace, rel=1e-5)


def test_the_unit_of_the_loss_decides_nothing():
    r = np.random.default_rng(0).standard_normal(100)
    one, other = (
        log_likelihood(100.0 * r, Huber(100.0 * d)) - log_likelihood(r, Huber(d))
        for d in (1e-2, 1.0)
    )
    assert one == pytest.approx(other, rel=1e-6)
    assert one == pytest.approx(-100 * math.log(100.0), rel=1e-6)


def test_rows_of_one_run_count_as_much_as_they_are_independent():
    rng = np.random.default_rng(0)
    run = np.repeat(np.arange(400), 5)
    alone, common = rng.standard_normal(2000), rng.standard_normal(400)[run]
    assert effective_rows(common, Huber(10.0), run) == pytest.approx(400)
    assert effective_rows(alone, Huber(10.0), run) == pytest.approx(2000, rel=0.15)
    assert effective_rows(alone + common, Huber(10.0), run) == pytest.approx(
        2000 / (1 + 4 * 0.5), rel=0.1
    )
    assert effective_rows(alone, Huber(10.0), np.arange(2000)) == 2000
    assert schwarz(-100.0, 50, 50.0, 4) == pytest.approx(200 + 5 * math.log(50))


# --- The choice -----------------------------------------------------------------------------------


def test_the_law_behind_the_table_is_chosen(found, runs):
    assert found.law == found.fit.law == "additive"
    first, second = found.candidates
    assert list(first.errors) == ["N", "D", "mixture", "extreme"]
    assert first.error is not None
    assert first.error < 0.5 * second.error  # type: ignore[operator]
    assert second.behind > 2
    assert first.total < second.total
    assert found.reason.startswith(
        "chosen: additive (delta 0.001, residual of the loss); it predicts rows left out best"
    )
    assert all(20 < n <= len(runs) for n in found.effective.values())


def test_errors_are_those_of_a_validation(runs, found):
    validation = mj.cross_validate(runs, "additive", "N", starts=8, hops=0)
    for t, score in validation.scores.items():
        assert found.candidates[0].errors["N"][t] == pytest.approx(score.mre, rel=0.1)


def test_options_of_the_fit_are_chosen_too(runs):
    found = choose_law(
        runs,
        "additive",
        deltas=(1e-3, 1e-2),
        residuals=("loss", "log"),
        by=("mixture",),
        targets=["d0"],
        **FEW,
    )
    assert len(found.candidates) == 4
    first = found.candidates[0]
    assert found.fit.huber == first.huber
    assert found.fit.targets == ("d0",)
    bic = [c.total for c in found.candidates]
    assert max(bic) - min(bic) < 0.2 * abs(min(bic))  # likelihoods of losses, whatever the residual


def test_a_fit_at_hand_is_taken(found, known):
    assert found.fit is known


def test_a_table_that_cannot_be_split_is_chosen_for_by_the_criterion():
    rng = np.random.default_rng(0)
    table = simulate_runs(
        random_truth("chinchilla", 0, ["t"], seed=1),
        None,
        np.full(40, 1e9),
        rng.choice([1e10, 4e10], 40),
        noise=0.001,
    )
    found = choose_law(mj.read_runs(table), ["chinchilla"], starts=4)
    assert found.candidates[0].error is None
    assert "decides alone" in found.reason
    assert found.to_dict()["options"][0]["error"] is None
    assert "chinchilla" in str(found)


def candidate(law: str, error: float, bic: float, behind: float) -> Candidate:
    record = replace(find_law("joint"), name=law)
    return Candidate(record, Huber(), 5, {"N": {"t": error}}, {"t": bic}, behind)


@pytest.mark.parametrize(
    ("candidates", "chosen", "words"),
    [
        (
            [candidate("a", 1.0, 50, 0), candidate("b", 2.0, 10, 3)],
            "a",
            "predicts rows left out best, 1.000 percent, before b",
        ),
        (
            [candidate("a", 1.0, 50, 0), candidate("b", 1.1, 10, 0.5)],
            "b",
            "within one standard error of the lowest, 1.000 of a",
        ),
        (
            [candidate("a", 1.1, 50, 0.5), candidate("b", 1.0, 10, 0)],
            "b",
            "its information criterion is the lowest",
        ),
        ([candidate("a", 1.0, 50, 0)], "a", "best, 1.000 percent."),
        # A large standard error excuses no error that is a third larger.
        (
            [candidate("a", 1.0, 50, 0), candidate("b", 1.4, 10, 0.1)],
            "a",
            "best, 1.000 percent, before b",
        ),
    ],
)
def test_the_rule(candidates, chosen, words):
    order, reason = ranked(candidates)
    assert order[0].law.name == chosen
    assert {id(c) for c in order} == {id(c) for c in candidates}
    assert words in reason


def test_a_law_that_fails_on_one_split_is_not_excused_by_the_others():
    splits = ({"N": {"t": 1.0}, "extreme": {"t": 0.4}}, {"N": {"t": 0.7}, "extreme": {"t": 0.9}})
    best, other = (
        replace(candidate(name, 0.0, bic, behind), errors=errors)
        for name, bic, behind, errors in zip("ab", (50, 10), (0.0, 0.2), splits, strict=True)
    )
    assert ranked([best, other])[0][0] is best


def test_two_sizes_are_too_few_to_leave_one_out_and_it_says_so(runs):
    table = runs.select(runs.N >= 1e9)
    with pytest.warns(MixjaxWarning, match="has two sizes: what laws predict at a larger one"):
        found = choose_law(table, ["chinchilla"], targets=["d0"], starts=2)
    assert list(found.candidates[0].errors) == ["D", "mixture", "extreme"]


def test_standard_errors_are_paired_over_mixtures():
    rng = np.random.default_rng(0)
    common = rng.uniform(0.01, 0.02, (1, 120))
    cluster = np.repeat(np.arange(40), 3)
    extra = rng.normal(0.001, 0.004, 40)[cluster][None]
    behind = standard_errors_behind(
        {"N": common + extra}, {"N": common}, cluster, 100 * float(extra.mean())
    )
    each = extra[0, ::3]
    assert behind == pytest.approx(each.mean() / (each.std(ddof=1) / math.sqrt(40)), rel=1e-6)


def test_content(found):
    content = found.to_dict()
    assert set(content) == {
        "law",
        "delta",
        "residual",
        "prior",
        "reason",
        "options",
        "effective_rows",
    }
    assert {
        "law",
        "delta",
        "residual",
        "prior",
        "parameters",
        "errors",
        "criterion",
        "behind",
        "error",
        "bic",
    } == set(content["options"][0])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"laws": []}, "none given"),
        ({"laws": ["joint", "joint"]}, "'joint' is given twice"),
        ({"deltas": ()}, "no candidate"),
        ({"laws": ["jiont"]}, "did you mean 'joint'"),
        ({"deltas": (0.0,)}, "delta"),
        ({"residuals": ("square",)}, "no residual 'square'"),
        ({"by": ("size",)}, "no split by"),
        ({"laws": ["additive"], "targets": ["x"]}, "no target 'x'"),
    ],
)
def test_unusable_options_are_refused(runs, options, words):
    with pytest.raises(UserError, match=words):
        choose_law(runs, **options)
