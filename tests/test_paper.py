"""The paper's released runs and two other public tables: what mixjax must reach on them, with
default settings, and the plain objective (6) where the paper's own fits are to be met."""

from __future__ import annotations

import json

import numpy as np
import pytest

import mixjax as mj
from tests.data import reference_data

DOMAINS = ("arxiv", "book", "c4", "github", "commoncrawl", "stackexchange", "wikipedia")


@pytest.fixture(scope="module")
def slimpajama():
    return mj.read_runs(reference_data("slimpajama.csv"), where="split == 'train'")


@pytest.fixture(scope="module")
def additive(slimpajama):
    return mj.fit(slimpajama, law="additive", prior="none")


@pytest.fixture(scope="module")
def joint(slimpajama):
    return mj.fit(slimpajama, law="joint", prior="none")


@pytest.fixture(scope="module")
def likeliest(slimpajama):
    """With the weak prior, the default."""
    return {law: mj.fit(slimpajama, law=law) for law in ("additive", "joint")}


def excess(fit):
    """Training objectives over the lowest ones known, minus 1."""
    path = reference_data("slimpajama.csv").parent.parent / "best_objectives.json"
    if not path.exists():
        pytest.skip(f"no best_objectives.json in {path.parent.name}/")
    known = json.loads(path.read_text())[fit.law]
    return np.array([fit.objective[t] / known[t] - 1 for t in fit.targets])


def mean_mre(fit, runs):
    return np.mean([fit.score(runs)[d].mre for d in DOMAINS])


def test_additive_objectives(additive):
    assert excess(additive).max() <= 0.001


def test_joint_objectives(joint):
    assert excess(joint).max() <= 0.01
    assert (excess(joint) <= 0).sum() >= 6  # lower than what was known when the file was made


def test_training_errors_are_below_the_printed_ones(additive, joint, slimpajama):
    """The paper's Table 8: 0.493 and 0.371 percent."""
    assert mean_mre(additive, slimpajama) <= 0.472
    assert mean_mre(joint, slimpajama) <= 0.352


def test_a_weak_prior_costs_next_to_nothing_here(additive, joint, likeliest, slimpajama):
    """360 rows of five sizes say far more than it."""
    for plain in (additive, joint):
        fit = likeliest[plain.law]
        assert mean_mre(fit, slimpajama) <= 1.01 * mean_mre(plain, slimpajama)
        assert 0 < (excess(fit) - excess(plain)).mean() <= 0.005


def test_held_out_scale(joint, likeliest):
    """The paper's Table 8 has 1.30 percent at 3B."""
    later = mj.read_runs(reference_data("slimpajama.csv"), where="split == 'eval'")
    for fit in (joint, likeliest["joint"]):
        assert mean_mre(fit, later) <= 1.45


# OpenHermes wants less wikipedia than any run had, and is told so.
@pytest.mark.filterwarnings(
    "ignore:mixture. share of 'wikipedia' is 0, trained between 0.02 and "
    "0.285:mixjax.errors.MixjaxWarning"
)
@pytest.mark.parametrize(
    ("targets", "printed", "tolerance"),
    [
        (
            DOMAINS,
            {
                "arxiv": 9.6,
                "book": 9.5,
                "c4": 25.1,
                "github": 8.8,
                "commoncrawl": 12.1,
                "stackexchange": 17.9,
                "wikipedia": 17.0,
            },
            2.0,
        ),
        (
            ("openhermes",),
            {"arxiv": 9.4, "book": 4.8, "github": 6.6, "stackexchange": 13.5, "wikipedia": 1.0},
            2.0,
        ),
        (("openhermes",), {"c4+commoncrawl": 64.7}, 4.0),
    ],
)
def test_optimal_weights_of_table_16(additive, likeliest, targets, printed, tolerance):
    weights = dict.fromkeys(targets, 1.0)
    for fit in (additive, likeliest["additive"]):
        best = mj.optimal_mixture(fit, N=6.5e9, D=1.5e11, weights=weights)
        assert 0 <= best.gap < 1e-8
        for names, percent in printed.items():
            share = 100 * sum(best.weights[name] for name in names.split("+"))
            assert abs(share - percent) <= tolerance


def test_chinchilla_replication():
    """Besiroglu et al. 2024; the sum over 240 points of the lowest minimum is 1.0182741e-3."""
    runs = mj.read_runs(reference_data("chinchilla.csv"), where="split == 'train'")
    fit = mj.fit(runs, law="chinchilla", residual="log", prior="none")
    (target,) = fit.targets
    found = fit.params[target]
    np.testing.assert_allclose(
        [found["E"], found["alpha"], found["beta"]], [1.8172, 0.347, 0.367], atol=0.002
    )
    assert fit.objective[target] <= 1.0182741e-3 / 240 * (1 + 5e-6)
    assert fit.search[target].agreeing == fit.search[target].starts


@pytest.mark.parametrize(
    ("law", "rank", "priors"),
    [
        ("additive_fixed_nd", 0.985, ("none", "weak")),
        ("ye_m4", 0.965, ("none",)),
        ("ye_m1", 0.93, ("none", "weak")),
    ],
)
def test_regmix_ranks_mixtures_with_zeros(law, rank, priors):
    train, test = (
        mj.read_runs(reference_data("regmix_1m_train.csv")),
        mj.read_runs(reference_data("regmix_1m_test.csv")),
    )
    assert (train.h == 0).mean() > 0.4
    targets = ["arxiv", "github", "pile_cc", "hackernews"]
    for prior in priors:
        fit = mj.fit(train, law=law, targets=targets, starts=16, hops=0, prior=prior)
        scores = fit.score(test)
        assert np.mean([s.rank for s in scores.values()]) >= rank
        assert all(np.isfinite([s.mre, s.huber, fit.objective[t]]).all() for t, s in scores.items())
