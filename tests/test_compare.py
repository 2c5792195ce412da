"""Comparing laws: what is reported, in what shape, and what is refused before any time is spent."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest

from mixjax.data.runs import read_runs
from mixjax.errors import MixjaxWarning, UserError
from mixjax.fitting.loss import Huber
from mixjax.fitting.record import Status
from mixjax.fitting.simulate import random_truth, simulate_runs
from mixjax.law import Coefficients, Law, Parameter, laws
from mixjax.trust import choose
from mixjax.trust.choose import LawComparison, compare

QUICK = {"starts": 4, "hops": 1}


def table(sizes=(1e8, 4e8, 1e9), noise=0.002):
    """Runs of a simple law: 6 mixtures of 2 domains, one target that is no domain."""
    share, N, D = (
        x.ravel() for x in np.meshgrid(np.linspace(0.1, 0.9, 6), sizes, [2e9, 8e9, 3e10])
    )
    return simulate_runs(
        random_truth("simple", 2, ["d0", "other"], seed=4),
        np.stack([share, 1 - share], axis=1),
        N,
        D,
        noise=noise,
    )


@cache
def compared() -> LawComparison:
    return compare(table(), ["chinchilla", "simple"], table(sizes=(3e9,)), **QUICK)


def test_errors_are_those_of_the_scores():
    got = compared()
    for law in ("chinchilla", "simple"):
        for errors, rows in ((got.train, table()), (got.eval, table(sizes=(3e9,)))):
            assert errors[law] == {
                target: score.mre for target, score in got.fits[law].score(read_runs(rows)).items()
            }
    assert got.parameters == {
        "chinchilla": laws()["chinchilla"].count(2),
        "simple": laws()["simple"].count(2),
    }
    assert got.objective["simple"] == got.fits["simple"].objective


def test_the_law_behind_the_table_wins_where_no_fit_has_looked():
    got = compared()
    assert got.eval["simple"]["d0"] < 0.5 < got.eval["chinchilla"]["d0"]


def test_content_is_exactly_the_contracts():
    content = compared().to_dict()
    assert list(content) == ["laws"]
    assert list(content["laws"]) == ["chinchilla", "simple"]
    for parts in content["laws"].values():
        assert list(parts) == ["train", "eval"]
        for errors in parts.values():
            assert list(errors) == ["d0", "other", "mean"]
            np.testing.assert_allclose(
                errors["mean"], (errors["d0"] + errors["other"]) / 2, rtol=1e-15
            )
    assert json.loads(json.dumps(content, allow_nan=False)) == content


def test_printed_as_one_line_per_law():
    lines = str(compared()).splitlines()
    assert lines[0] == "mean relative error, percent"
    assert lines[1].split("  ") != []
    assert [
        word
        for word in ("law", "parameters", "train mean", "eval mean", "eval d0", "eval other")
        if word not in lines[1]
    ] == []
    assert [line.split()[0] for line in lines[3:]] == ["chinchilla", "simple"]
    assert lines[4].split()[1] == "8"
    assert lines[4].split()[2] == f"{compared().to_dict()['laws']['simple']['train']['mean']:.3f}"
    assert len({len(line) for line in lines[2:]}) == 1


def test_the_eval_rows_change_no_fit():
    spoiled = table(sizes=(3e9,))
    spoiled["loss_d0"] *= 5
    got = compare(table(), ["chinchilla"], spoiled, **QUICK)
    assert repr(got.fits["chinchilla"].params) == repr(compared().fits["chinchilla"].params)
    assert got.train["chinchilla"] == compared().train["chinchilla"]
    assert got.eval["chinchilla"]["d0"] > 50


def test_without_eval_rows_there_is_no_eval():
    got = compare(table(), "chinchilla", **QUICK)
    assert got.eval is None
    assert list(got.to_dict()["laws"]["chinchilla"]) == ["train"]
    assert "eval" not in str(got)
    assert "train d0" in str(got)


def test_options_reach_the_fit():
    got = compare(
        table(),
        ["chinchilla"],
        targets=["other"],
        starts=3,
        hops=0,
        seed=7,
        delta=0.1,
        residual="log",
    ).fits["chinchilla"]
    assert (got.targets, got.huber) == (("other",), Huber(0.1, "log"))
    assert (got.made["starts"], got.made["hops"], got.made["seed"]) == (3, 0, 7)


def test_eval_rows_may_have_fewer_targets():
    got = compare(table(), ["chinchilla"], table(sizes=(3e9,)).drop(columns="loss_d0"), **QUICK)
    assert list(got.eval["chinchilla"]) == ["other"]
    assert list(got.train["chinchilla"]) == ["d0", "other"]


@pytest.mark.filterwarnings("ignore:.*the law takes it as one")
def test_an_own_domain_law_is_scored_on_its_targets_only():
    with pytest.warns(MixjaxWarning, match="targets other are not training domains"):
        got = compare(table(), ["ge24", "chinchilla"], table(sizes=(3e9,)), **QUICK)
    assert list(got.to_dict()["laws"]["ge24"]["eval"]) == ["d0", "mean"]
    assert str(got).splitlines()[3].split()[-1] == "-"
    assert got.parameters["ge24"] == 5


@pytest.mark.filterwarnings("ignore:.*the law takes it as one")
def test_a_law_of_ones_own():
    law = Law(
        "mine", (Parameter("E"), Parameter("a")), lambda p, h: Coefficients(p["E"] + p["a"] * h[0])
    )
    got = compare(table(), [law, "chinchilla"], **QUICK)
    assert got.laws == ("mine", "chinchilla")
    assert got.parameters["mine"] == 2


def test_infinite_errors_are_null_in_json():
    errors = {"ge24": {"a": np.inf, "b": 1.0}}
    content = LawComparison(
        errors, None, {"ge24": compared().fits["simple"]}, {"ge24": 5}
    ).to_dict()
    assert content == {"laws": {"ge24": {"train": {"a": None, "b": 1.0, "mean": None}}}}


@pytest.mark.parametrize(
    ("names", "eval_rows", "options", "message"),
    [
        ([], None, {}, "laws: none given"),
        (["joint", "joint"], None, {}, "laws: 'joint' is given twice"),
        (["additive", laws()["additive"]], None, {}, "laws: 'additive' is given twice"),
        (["joint", "jiont"], None, {}, "no law 'jiont'; did you mean 'joint'"),
        (
            ["chinchilla", "ge24"],
            None,
            {"targets": ["other"]},
            "law 'ge24' on .*target 'other' is not a training domain",
        ),
        (["simple", "joint"], None, {"targets": ["nothing"]}, "no target 'nothing'"),
        (
            ["chinchilla"],
            lambda t: t.drop(columns="loss_other").rename(columns={"loss_d0": "loss_x"}),
            {},
            "none of the targets d0, other has a loss column",
        ),
        (
            ["chinchilla"],
            lambda t: t.rename(columns={"h_d1": "h_d9"}),
            {},
            "no weights of domain 'd1'",
        ),
    ],
)
def test_mistakes_are_told_before_any_fit(monkeypatch, names, eval_rows, options, message):
    monkeypatch.setattr(choose, "fit", lambda *args, **kwargs: pytest.fail("a law was fitted"))
    with pytest.raises(UserError, match=message) as caught:
        compare(table(), names, eval_rows and eval_rows(table()), **options)
    assert "\n" not in str(caught.value)


def test_a_law_that_cannot_be_fitted_is_named(monkeypatch):
    monkeypatch.setattr(choose, "fit", lambda *args, **kwargs: pytest.fail("a law was fitted"))
    with pytest.raises(UserError, match=r"law 'chinchilla' on .*no column N"):
        compare(table().drop(columns="N"), ["additive_fixed_nd", "chinchilla"])


def test_a_target_called_mean_is_refused():
    with pytest.raises(UserError, match="a target is called 'mean'"):
        compare(table().rename(columns={"loss_d0": "loss_mean"}), ["chinchilla"])


def test_warnings_are_given_once():
    few = table().iloc[:4]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        compare(few, ["chinchilla"], targets=["d0"], **QUICK)
    assert sum("4 rows for the 5 parameters" in str(w.message) for w in caught) == 1


def test_an_interrupted_fit_is_not_compared():
    def stop(share, best):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(table(), ["chinchilla"], watch=stop, **QUICK)


def test_an_interruption_after_the_first_minima_stops_the_comparison(monkeypatch):
    """`fit` then hands back what it has; the next law must not begin."""
    begun, fitted = [], compared().fits["simple"]

    def interrupted(runs, law, **options):
        begun.append(law.name)
        search = {t: replace(s, status=Status.INTERRUPTED) for t, s in fitted.search.items()}
        return replace(fitted, search=search)

    monkeypatch.setattr(choose, "fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compare(table(), ["chinchilla", "simple"])
    assert begun == ["chinchilla"]


def test_tables_may_be_read_already():
    assert compare(
        read_runs(table()), ["chinchilla"], read_runs(table(sizes=(3e9,))), **QUICK
    ).eval == {"chinchilla": compared().eval["chinchilla"]}
    assert isinstance(table(), pd.DataFrame)
