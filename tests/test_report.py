"""The whole way in one call and its report: what can be known before the fit is refused before it,
and what was warned of stands in the report."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace

import pytest

import mixjax as mj
from mixjax.fitting.record import Status
from mixjax.fitting.simulate import demo_runs, demo_truth
from mixjax.report import pipeline
from mixjax.report.pipeline import Outcome, report_text, run_pipeline, write_report

AT = {"N": 7e9, "D": 1.5e11}


@pytest.fixture(scope="module")
def runs():
    return mj.read_runs(demo_runs().table, where="split == 'train'")


def outcome_of(fit, runs) -> tuple[Outcome, list[str]]:
    """An outcome of a known fit, and what was warned of on the way."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        optima = (mj.optimal_mixture(fit, **AT),)
    scores = {"train": fit.score(runs)}
    return Outcome(fit, {"train": runs}, scores, optima), [str(w.message) for w in caught]


def test_what_was_warned_of_stands_in_the_report(runs):
    truth = demo_truth()
    search = dict.fromkeys(truth.targets, replace(truth.search["web"], rows=500))
    fit = replace(
        truth,
        search=search | {"web": replace(search["web"], at_limit=("gamma_A",))},
        ranges={"N": (1e8, 1e9), "D": (1e9, 1e9)},
        share_ranges=dict.fromkeys(truth.domains, (0.0, 0.21)),
    )
    outcome, told = outcome_of(fit, runs)
    text = report_text(outcome, "A title")
    assert len(told) >= 3
    for line in told:
        assert line.removeprefix("mixture: ") in text
    assert "- N = 7e9, D = 1.5e11: share of 'web' is" in text
    assert "No warnings." not in text


def test_a_search_that_did_not_end_is_told_in_the_report(runs):
    truth = demo_truth()
    ended = replace(truth.search["web"], starts=60, agreeing=60, status=Status.CONVERGED)
    fit = replace(truth, search=dict.fromkeys(truth.targets, ended))
    assert "No warnings." in report_text(outcome_of(fit, runs)[0], "A title")
    lost = {"web": replace(ended, agreeing=1), "code": replace(ended, status=Status.OUT_OF_BUDGET)}
    text = report_text(outcome_of(replace(fit, search=fit.search | lost), runs)[0], "A title")
    assert "- web: only 1 of 60 starts reached the best objective; more starts may" in text
    assert f"- code: {Status.OUT_OF_BUDGET.sentence}; {Status.OUT_OF_BUDGET.remedy}" in text


def test_the_files_of_a_report(runs, tmp_path):
    outcome, _ = outcome_of(demo_truth(), runs)
    names = write_report(outcome, tmp_path / "out", "A title", "A note.")
    assert sorted(names) == sorted(path.name for path in (tmp_path / "out").iterdir())
    mixture = json.loads((tmp_path / "out" / "mixture.json").read_text())
    assert mixture["weights"] == outcome.optima[0].weights
    text = (tmp_path / "out" / "report.md").read_text()
    assert "A note." in text
    assert str(tmp_path) not in text
    pictures = [(tmp_path / "out" / name).read_bytes() for name in names if name.endswith(".png")]
    assert [picture[1:4] for picture in pictures] == [b"PNG", b"PNG"]


@pytest.mark.parametrize(
    ("law", "question", "line"),
    [
        ("joint", {"caps": {"webb": 0.5}, **AT}, "no domain 'webb'"),
        ("joint", {"weights": {"web": -1.0}, **AT}, "weights"),
        ("joint", {"N": 7e9}, "D is missing"),
        ("joint", {"caps": {"web": 0.1}, "floors": {"web": 0.2}, **AT}, "web"),
        ("joint", {"tokens": {"web": 1e9}, "epochs": -1, **AT}, "epochs"),
        ("chinchilla", AT, "does not depend on the mixture"),
    ],
)
def test_a_question_that_cannot_be_answered_is_refused_before_the_fit(
    runs, monkeypatch, law, question, line
):
    monkeypatch.setattr(pipeline, "fit", lambda *_, **__: pytest.fail("it was fitted"))
    with pytest.raises(mj.UserError, match=line):
        run_pipeline(runs, law, questions=[question])
