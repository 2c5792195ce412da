"""What lies far from the fitted rows is told: once, in one line, with what to do; what lies near
them is not."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import mixjax as mj
from mixjax.cli import main
from mixjax.fitting.simulate import demo_truth, random_truth
from mixjax.mixture.optimum import best_of

TRUTH = demo_truth()
AT = {"N": 7e9, "D": 1.5e11}
# As a fit of runs of up to 1e9 parameters would say; every share from 0 to 1 but where a test says
# other.
ROWS = {t: replace(s, rows=500) for t, s in TRUTH.search.items()}
FIT = replace(
    TRUTH,
    search=ROWS,
    ranges={"N": (1e8, 1e9), "D": (1e9, 5e10)},
    share_ranges=dict.fromkeys(TRUTH.domains, (0.0, 1.0)),
)


def told(fit, **asked) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        mj.optimal_mixture(fit, **(AT | asked))
    assert all(w.category is mj.MixjaxWarning for w in caught)
    return [str(w.message) for w in caught]


def test_ordinary_extrapolation_in_scale_is_silent():
    assert told(FIT) == []
    assert told(FIT, N=3e10) == []
    assert told(replace(FIT, share_ranges={})) == []


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        (
            {"N": 7e10},
            (
                "mixture: N = 7e+10 is 70 times above the 1e+08 to 1e+09 of the fitted rows; "
                "check that both count parameters, not millions of them"
            ),
        ),
        (
            {"D": 1e7},
            (
                "mixture: D = 1e+07 is 1e+02 times below the 1e+09 to 5e+10 of the fitted "
                "rows; check that both count tokens"
            ),
        ),
    ],
)
def test_a_scale_far_from_the_runs_is_told(asked, line):
    (found,) = told(FIT, **asked)
    assert found.startswith(line)


def test_wrong_units_are_told():
    assert len(told(replace(FIT, ranges={"N": (100.0, 1000.0), "D": (1.0, 50.0)}))) == 2


def test_a_share_outside_the_trained_ones_is_told_with_its_cap():
    share = mj.optimal_mixture(FIT, **AT).weights["web"]
    found = told(
        replace(
            FIT, share_ranges=FIT.share_ranges | {"web": (0.02, share - 0.1), "code": (0.9, 0.95)}
        )
    )
    assert found[0] == (
        f"mixture: share of 'web' is {share:.3g}, trained between 0.02 and "
        f"{share - 0.1:.3g}: the law is extrapolated there; "
        f"--cap web={share - 0.1:.3g}, or mixjax intervals says how far to trust it"
    )
    assert found[1].startswith("mixture: share of 'code' is ")
    assert "; --floor code=0.9, or" in found[1]


def test_a_domain_that_no_run_used_is_told():
    (found,) = told(replace(FIT, share_ranges=FIT.share_ranges | {"code": (0.0, 0.0)}))
    assert "no fitted row has any of it: the law is extrapolated there; --cap code=0" in found


def test_a_fit_of_one_row_is_told():
    found = told(
        replace(
            FIT,
            search={t: replace(s, rows=1) for t, s in ROWS.items()},
            share_ranges=dict.fromkeys(FIT.domains, (0.2, 0.2)),
        )
    )
    assert found[0] == (
        "mixture: all fitted rows have one mixture, the fit knows nothing of others; fit "
        "runs of several mixtures (mixjax design)"
    )
    assert found[1].endswith(
        "fitted to 1 rows, the joint law has 25 parameters; add runs or take a smaller law"
    )
    assert len(found) == 2


def test_parameters_at_a_limit_are_told_of_targets_that_count():
    fit = replace(FIT, search=ROWS | {"code": replace(ROWS["code"], at_limit=("gamma_A",))})
    assert "ran off to a limit: code (gamma_A); mixjax intervals" in told(fit)[0]
    assert told(fit, weights={"web": 1.0}) == []


def test_many_mixtures_at_once_are_silent():
    narrow = replace(
        FIT, share_ranges=dict.fromkeys(FIT.domains, (0.0, 0.01)), ranges={"N": (1.0, 2.0)}
    )
    mj.optimal_mixtures(narrow, N=np.array([1e9, 7e9]), D=1.5e11)
    best_of(mj.Question(narrow, **AT))


def test_fit_keeps_the_ranges_of_shares_and_tells_of_a_domain_that_none_uses():
    h = np.array([[0.5, 0.5, 0.0], [0.2, 0.8, 0.0], [0.7, 0.3, 0.0]])
    truth = mj.fitting.simulate_runs
    table = truth(
        replace(TRUTH),
        np.pad(h, ((0, 0), (0, 2))).repeat(4, axis=0),
        1e9,
        np.tile([1e9, 2e9, 4e9, 8e9], 3),
    )
    table = table.drop(columns=["h_wiki", "h_papers"])
    with pytest.warns(mj.MixjaxWarning) as caught:
        fit = mj.fit(table, "additive", targets=["web"], starts=4, hops=0)
    assert any(
        str(w.message).startswith(
            "DataFrame: column of 'books' (h_books): the weight is 0 in every fitted row"
        )
        for w in caught
    )
    assert fit.share_ranges == {"web": (0.2, 0.7), "code": (0.3, 0.8), "books": (0.0, 0.0)}


@pytest.mark.parametrize(
    "words",
    [
        ["mix", "-N", "7e9", "-D", "150e9"],
        ["mix", "-N", "7e9", "-D", "150e9", "--most-domains", "3"],
        ["flat", "-N", "7e9", "-D", "150e9"],
        ["value", "-N", "7e9", "-D", "150e9"],
        ["budget", "--flops", "1e22"],
    ],
    ids=lambda words: " ".join(words[:1] + words[5:6]),
)
def test_commands_tell_it_on_stderr(tmp_path, capsys, words):
    path = tmp_path / "fit.json"
    replace(FIT, share_ranges=FIT.share_ranges | {"web": (0.0, 0.1)}).save(path)
    command = [words[0], str(path), *words[1:], "--json"]
    assert main(command) == 0
    assert capsys.readouterr().err == ""  # no share goes beyond them
    assert main([*command, "--extrapolate"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("mixjax: warning: mixture: share of 'web' is 0.")


def test_points_beyond_the_fitted_rows_are_told_once_a_kind():
    from mixjax.fitting.doubts import of_points

    truth = random_truth("additive", 3, ("a",), 0)
    h = np.array([[1.0, 0.0, 0.0], [0.2, 0.3, 0.5]])
    near = dict.fromkeys(truth.domains, (0.1, 0.6))
    fit = replace(truth, ranges={"N": (1e8, 1e9), "D": (1e9, 1e10)}, share_ranges=near)
    what = [doubt.what for doubt in of_points(fit, np.array([1e8, 1e12]), np.array([2e9, 2e9]), h)]
    assert sum("N = 1e+12" in text for text in what) == 1
    assert not any("D =" in text for text in what)
    assert sum("share of" in text for text in what) == 3
    assert not list(of_points(fit, np.array([1e8]), np.array([1e9]), h[1:]))


def test_sizes_and_tokens_that_move_together_are_told():
    from mixjax.data.runs import as_runs
    from mixjax.fitting.doubts import of_design

    N = np.array([1e8, 2e8, 4e8])
    table = pd.DataFrame({"N": N, "D": 20 * N, "loss_a": [3.0, 2.9, 2.8]})
    assert "move together" in next(of_design(as_runs(table), (True, True))).what
    fixed = [doubt.what for doubt in of_design(as_runs(table), (True, False))]
    assert fixed == ["D is 2e+09 to 8e+09, and the law takes it as one"]
    table["D"] = [2e9, 1e9, 3e9]
    assert not list(of_design(as_runs(table), (True, True)))


@pytest.mark.parametrize(
    ("N", "D", "where", "what"),
    [
        (1e-6, 1.0, "column N", "100 to 400 parameters"),
        (1e-9, 1.0, "column N", "0.1 to 0.4 parameters"),
        (1.0, 1e-6, "column D", "2000 to 8000 tokens"),
        (1.0, 1e-2, "columns N and D", "fewer tokens than parameters"),
    ],
)
def test_counts_in_other_units_are_told(N, D, where, what):
    from mixjax.data.runs import as_runs
    from mixjax.fitting.doubts import of_units

    sizes = np.array([1e8, 2e8, 4e8])
    table = pd.DataFrame({"N": N * sizes, "D": D * 20 * sizes, "loss_a": [3.0, 2.9, 2.8]})
    (doubt,) = of_units(as_runs(table))
    assert doubt.where.endswith(where)
    assert what in doubt.what
    assert f"--columns '{where[-1] if where.startswith('column ') else 'N'}=" in doubt.remedy


def test_counts_of_very_small_models_are_taken_as_they_are():
    from mixjax.data.runs import as_runs
    from mixjax.fitting.doubts import of_units

    table = pd.DataFrame({"N": [2e3, 3e4], "D": [1e5, 5e6], "loss_a": [3.0, 2.9]})
    assert not list(of_units(as_runs(table)))
    assert not list(of_units(as_runs(table.drop(columns=["N", "D"]))))


def test_a_table_without_sizes_says_what_it_is_taken_for():
    from mixjax.data.runs import as_runs
    from mixjax.fitting.doubts import of_one_scale

    table = pd.DataFrame({"D": [1e9, 2e9], "loss_a": [3.0, 2.9]})
    (doubt,) = of_one_scale(as_runs(table), (False, True), 7e9, 1e11)
    assert "no column N: its runs are taken for runs of N = 7e+09" in doubt.what
    assert "--columns N=COLUMN" in doubt.remedy
