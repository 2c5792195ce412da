"""Laws with a lag, and the rule that averages laws and lags by held-out scales and mixtures."""

from __future__ import annotations

import json
from dataclasses import replace

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mixjax as mj
from mixjax.cli import main
from mixjax.data.design import design_mixtures
from mixjax.data.runs import Runs
from mixjax.data.splits import EXTREME, make_backtests
from mixjax.errors import MixjaxWarning, UserError
from mixjax.fitting.loss import Huber
from mixjax.fitting.simulate import known_fit, random_truth, simulate_runs
from mixjax.law import find_law, lagged
from mixjax.law.base import row_loss
from mixjax.trust.candidates import Candidate, averaged
from mixjax.trust.choose import laws_for
from tests import reference

LAG = 2e9
DOMAINS = ("a", "b")


def truth(lag: float) -> mj.Fit:
    plain = random_truth("additive", 2, ("a", "t"), seed=2)
    return known_fit(lagged(find_law("additive"), lag), plain.domains, plain.params)


def table(lag: float = LAG, noise: float = 5e-4):
    fit = truth(lag)
    h = design_mixtures(fit.domains, 8, minimum=0.05).to_numpy()
    grid = np.meshgrid(
        np.arange(8), [2e8, 4e8, 8e8, 1.6e9, 6e9], [4e9, 8e9, 1.6e10, 3.2e10, 1e11], indexing="ij"
    )
    m, N, D = (x.ravel() for x in grid)
    small = (N < 6e9) & (D < 1e11)
    out = simulate_runs(fit, h[m], N, D, noise=noise, seed=1)
    out.insert(0, "split", np.where(small, "train", "eval"))
    return out


def without_mixtures(whole):
    return whole.drop(columns=[name for name in whole.columns if name.startswith("h_")])


@pytest.fixture(scope="module")
def runs() -> Runs:
    return mj.read_runs(table(), where="split == 'train'")


@pytest.fixture(scope="module")
def found(runs: Runs):
    return mj.extrapolate(runs, laws=("additive",), lags=(0, LAG, 3e9), starts=12, hops=0)


def test_a_lagged_law_is_the_law_of_fewer_tokens():
    law, p = find_law("additive@2e9"), {k: np.asarray(v) for k, v in truth(0.0).params["t"].items()}
    h, N, D = np.array([0.3, 0.7]), 1e9, 5e9
    with jax.enable_x64(True):
        ours = float(row_loss(law, p, h, N, D))
        slope = float(jax.grad(lambda d: row_loss(law, p, h, N, d))(D))
    assert law.name == "additive@2e9"
    assert ours == pytest.approx(reference.additive(p, h, N, D - 2e9), rel=1e-12)
    step = 1e5
    twins = [reference.additive(p, h, N, D + s * step - 2e9) for s in (-1, 1)]
    assert slope == pytest.approx((twins[1] - twins[0]) / (2 * step), rel=1e-5)


def test_powers_falls_to_nothing_and_is_found():
    fit = random_truth("powers", 3, ("t",), seed=0)
    assert (
        fit.predict(1e9, 1e10, [1 / 3] * 3)["t"]
        > fit.predict(1e12, 1e13, [1 / 3] * 3)["t"]
        > fit.predict(1e40, 1e60, [1 / 3] * 3)["t"]
    )


def test_the_rule_finds_the_law_and_the_lag(found, runs):
    best, *others = found.candidates
    assert best.law.name == "additive@2e9"
    assert best.weight > 0.9
    assert found.fit.law == found.law
    assert f"chosen: {found.law}" in str(found)
    assert {c.law.name for c in others} == {"additive", "additive@3e9"}
    assert set(best.errors) == {fold.name for fold in make_backtests(runs, 9)}
    plain = next(c for c in others if c.law.name == "additive")
    assert best.error < 0.5 * plain.error
    assert sum(c.weight for c in found.candidates) == pytest.approx(1.0, abs=1e-12)
    weights = [c.weight for c in found.candidates]
    assert weights == sorted(weights, reverse=True)
    content = found.to_dict()
    assert content["law"] == found.law
    assert [c["weight"] for c in content["candidates"]] == weights


def test_near_tied_laws_are_averaged(runs):
    """Twice the true law under two names: half each."""
    twin = replace(find_law("additive"), name="twin")
    found = mj.extrapolate(
        runs, laws=("additive", twin), lags=(LAG,), targets=("t",), starts=8, hops=0
    )
    assert [c.weight for c in found.candidates] == [0.5, 0.5]
    assert found.law == "0.5*additive@2e9 + 0.5*twin@2e9"
    at = (7e9, 1e11, [0.5, 0.5])
    one, other = (part.predict(*at)["t"] for _, part in found.fit.parts)
    assert one == pytest.approx(other, rel=1e-9)
    assert found.fit.predict(*at)["t"] == pytest.approx(one, rel=1e-9)


def test_a_law_of_ones_own_and_one_with_a_lag_are_taken_as_they_are(runs):
    """The lag of the fit is that of its name, whoever's law it is."""
    h, at = [0.5, 0.5], (7e9, 1e11)
    twin = replace(find_law("additive"), name="twin")
    expected = mj.fit(runs, "additive@2e9", targets=["t"], starts=8, hops=0).predict(*at, h)["t"]
    for laws, lags in (((twin,), (LAG,)), (("additive@2e9",), (0, 1e9)), (("additive",), (LAG,))):
        found = mj.extrapolate(runs, laws=laws, lags=lags, targets=("t",), starts=8, hops=0)
        assert [c.law.lag for c in found.candidates] == [LAG]
        assert found.fit.scaling_law.lag == LAG
        assert found.law == found.fit.scaling_law.name
        assert found.fit.predict(*at, h)["t"] == pytest.approx(expected, rel=1e-6)


def test_an_average_is_the_mean_of_its_fits(runs):
    found = mj.extrapolate(
        runs, laws=("additive", "joint"), lags=(LAG,), targets=("t",), starts=8, hops=0
    )
    chosen = [c for c in found.candidates if c.weight]
    assert len(chosen) == 2
    assert found.law == " + ".join(f"{c.weight:g}*{c.law.name}" for c in chosen)
    at = (7e9, 1e11, [0.5, 0.5])
    parts = [(weight, part.law, part.predict(*at)["t"]) for weight, part in found.fit.parts]
    assert [(weight, law) for weight, law, _ in parts] == [
        (pytest.approx(c.weight), c.law.name) for c in chosen
    ]
    assert found.fit.predict(*at)["t"] == pytest.approx(sum(w * loss for w, _, loss in parts))
    assert found.fit.ranges == {"N": (2e8, 1.6e9), "D": (4e9, 3.2e10)}
    assert found.fit.made["fingerprint"] == runs.fingerprint()
    score = found.fit.score(runs)["t"]
    assert found.fit.objective["t"] == pytest.approx(score.huber)


def test_what_is_chosen_predicts_larger_scales_better(found, runs):
    later = mj.read_runs(table(), where="split == 'eval'")
    plain = mj.fit(runs, "additive", starts=32, hops=0)
    for t in runs.targets:
        ours, theirs = (f.score(later)[t].mre for f in (found.fit, plain))
        assert ours < 0.5 * theirs


def test_a_lagged_fit_is_saved_and_refuses_too_few_tokens(found, tmp_path):
    found.fit.save(tmp_path / "fit.json")
    again = mj.load_fit(tmp_path / "fit.json")
    assert again.predict(1e9, 1e10, [0.5, 0.5]) == found.fit.predict(1e9, 1e10, [0.5, 0.5])
    with pytest.raises(UserError, match="not beyond the 2e\\+09 tokens"):
        again.predict(1e9, 1e9, [0.5, 0.5])
    best = mj.optimal_mixture(again, N=1e9, D=1e11)
    assert best.convex
    assert best.gap < 1e-9


def test_losses_that_are_held_out_change_no_fit(runs):
    def errors(losses):
        found = mj.extrapolate(
            replace(runs, losses=losses),
            laws=("additive",),
            lags=(LAG,),
            targets=("t",),
            starts=4,
            hops=0,
        )
        return found.candidates[0].errors

    (test,) = (t for t in make_backtests(runs, 9) if t.name == "N >= 1.6e+09")
    losses = runs.losses.copy()
    # Twice as bad where half as low; the middle of all losses, which is the search's unit, does not
    # move.
    worse = test.held_out & (losses[:, 1] < np.median(losses[:, 1]))
    losses[worse, 1] *= 0.5
    before, after = errors(runs.losses), errors(losses)
    share = worse.sum() / test.held_out.sum()
    # The prediction is still the old loss: 100 percent off.
    assert after[test.name]["t"] == pytest.approx(100 * share, abs=1.0)
    assert before[test.name]["t"] < 1.0


def test_rows_without_a_loss_of_any_target_tell_nothing(runs):
    losses = runs.losses.copy()
    losses[runs.N == 1.6e9, 1] = np.nan
    found = mj.extrapolate(
        replace(runs, losses=losses),
        laws=("additive", "chinchilla"),
        lags=(LAG,),
        targets=("t",),
        starts=8,
        hops=0,
    )
    best = found.candidates[0]
    assert found.law == best.law.name == "additive@2e9"
    folds = make_backtests(runs, 9)
    told = [fold.name for fold in folds if (fold.held_out & (runs.N < 1.6e9)).any()]
    assert list(best.errors) == told
    assert "N >= 1.6e+09" in {fold.name for fold in folds} - set(told)


# ---------------------------------------------------------------- what is left out


def test_backtests_hold_out_the_largest_scales(runs):
    tests = {t.name: t.held_out for t in make_backtests(runs, 9)}
    assert list(tests) == [
        "N >= 1.6e+09",
        "N >= 8e+08",
        "D > 1/2 of largest",
        "D > 1/4 of largest",
        "compute > 1/2 of largest",
        "compute > 1/4 of largest",
    ]
    np.testing.assert_array_equal(tests["N >= 1.6e+09"], runs.N == 1.6e9)
    np.testing.assert_array_equal(tests["N >= 8e+08"], runs.N >= 8e8)
    np.testing.assert_array_equal(tests["D > 1/2 of largest"], runs.D > 1.6e10)
    np.testing.assert_array_equal(tests["D > 1/4 of largest"], runs.D > 8e9)
    compute = runs.N * runs.D
    np.testing.assert_array_equal(tests["compute > 1/2 of largest"], compute > compute.max() / 2)


def scattered(rows: int, sizes: int, mixtures: int, seed: int) -> Runs:
    """Runs of random N (of so many sizes) and D, of random mixtures."""
    rng = np.random.default_rng(seed)
    h = rng.dirichlet(np.ones(3), mixtures)[rng.integers(mixtures, size=rows)]
    N = np.geomspace(1e8, 1e10, sizes)[rng.integers(sizes, size=rows)]
    D = np.exp(rng.uniform(*np.log([1e9, 1e11]), rows))
    return mj.read_runs(simulate_runs(random_truth("additive", 3, ("t",), seed=1), h, N, D))


@given(st.integers(5, 80), st.integers(1, 12), st.integers(1, 30), st.integers(0, 5))
def test_backtests_leave_enough_to_fit(rows, sizes, mixtures, parameters):
    runs = scattered(rows, sizes, mixtures, seed=parameters)
    tests = make_backtests(runs, parameters)
    assert len({t.name for t in tests}) == len(tests)
    assert len({t.held_out.tobytes() for t in tests if t.name != EXTREME}) == len(
        [t for t in tests if t.name != EXTREME]
    )
    for test in tests:
        assert test.held_out.any()
        np.testing.assert_array_equal(test.weights, ~test.held_out)
        if test.name == EXTREME:
            continue
        rest = ~test.held_out
        assert rest.sum() >= parameters
        assert 0.05 <= test.held_out.mean() <= 0.6
        for x in (runs.N, runs.D):
            assert len(np.unique(x[rest])) >= 2 or len(np.unique(x)) == 1
        along = next(
            x
            for name, x in (("N", runs.N), ("D", runs.D), ("compute", runs.N * runs.D))
            if test.name.startswith(name)
        )
        assert along[test.held_out].min() > along[rest].max()


@given(st.integers(10, 30), st.integers(0, 4))
def test_extreme_mixtures_are_the_farthest_from_the_mean(mixtures, seed):
    runs = scattered(200, 3, mixtures, seed)
    (test,) = (t for t in make_backtests(runs, 5) if t.name == EXTREME)
    distinct, of_row = np.unique(runs.h, axis=0, return_inverse=True)
    far = np.array([test.held_out[of_row == m].all() for m in range(len(distinct))])
    near = np.array([not test.held_out[of_row == m].any() for m in range(len(distinct))])
    assert (far ^ near).all()  # whole mixtures
    assert far.sum() == len(distinct) // 5
    distance = np.linalg.norm(np.sqrt(distinct) - np.sqrt(distinct).mean(axis=0), axis=1)
    assert distance[far].min() >= distance[near].max()


def test_few_mixtures_or_none_are_not_left_out(runs):
    assert EXTREME not in {t.name for t in make_backtests(runs, 9)}  # it has 8
    bare = mj.read_runs(without_mixtures(table()))
    assert EXTREME not in {t.name for t in make_backtests(bare, 5)}


def test_a_table_of_many_sizes_leaves_out_those_near_the_largest():
    runs = scattered(300, 12, 20, seed=0)
    tests = {t.name: t.held_out for t in make_backtests(runs, 5)}
    for factor in (2, 4):
        np.testing.assert_array_equal(
            tests[f"N > 1/{factor} of largest"], runs.N.max() / factor < runs.N
        )


def test_one_scale_leaves_nothing_out():
    small = table()
    few = mj.read_runs(small[(small.N == 2e8) & (small.D == 4e9)])
    assert make_backtests(few, 5) == ()


# ---------------------------------------------------------------- weights


def candidate(scale: float, mixture: float | None = None, name: str = "additive") -> Candidate:
    """With an error at larger scales and one on extreme mixtures, percent."""
    errors = {"N": {"t": scale}} | ({} if mixture is None else {EXTREME: {"t": mixture}})
    return Candidate(find_law(name), Huber(), 9, errors)


def weights_of(*candidates: Candidate) -> list[float]:
    """In the order given."""
    found = averaged(candidates)
    places = [place for _, place in found]
    assert sorted(places) == list(range(len(candidates)))
    weights = [c.weight for c, _ in found]
    assert weights == sorted(weights, reverse=True)
    return [weights[places.index(i)] for i in range(len(candidates))]


ERRORS = st.floats(1e-3, 1e3)


@given(st.lists(st.tuples(ERRORS, ERRORS), min_size=1, max_size=12))
def test_weights_add_up_to_1_and_the_best_weighs_most(errors):
    weights = weights_of(*(candidate(*e) for e in errors))
    assert sum(weights) == pytest.approx(1.0, abs=1e-9)
    assert min(weights) >= 0
    assert 1 <= np.count_nonzero(weights) <= 4
    least = min(mixture for _, mixture in errors)
    allowed = [w for w, (_, m) in zip(weights, errors, strict=True) if m <= 2 * least * (1 - 1e-9)]
    assert sum(allowed) == pytest.approx(1.0, abs=1e-9) or any(
        m == pytest.approx(2 * least) for _, m in errors
    )
    best = min(s for s, m in errors if m <= 2 * least * (1 - 1e-9))
    top = max(range(len(errors)), key=weights.__getitem__)
    assert errors[top][0] <= best or errors[top][1] == pytest.approx(2 * least)


def test_weights_fall_with_the_ratio_of_errors():
    one, other = weights_of(candidate(1.0), candidate(1.1))
    assert other / one == pytest.approx(np.exp(-np.log(1.1) / 0.1), abs=2e-3)
    assert weights_of(candidate(100.0), candidate(110.0)) == [one, other]
    assert weights_of(candidate(1.0), candidate(2.0)) == [1.0, 0.0]


def test_a_law_that_fails_on_mixtures_is_out_however_good_in_scale():
    assert weights_of(candidate(0.1, 2.1), candidate(1.0, 1.0)) == [0.0, 1.0]
    assert weights_of(candidate(0.1, 1.9), candidate(1.0, 1.0)) == [1.0, 0.0]


def test_predictions_that_are_no_numbers_are_out():
    assert weights_of(candidate(np.inf), candidate(50.0)) == [0.0, 1.0]
    assert weights_of(candidate(1.0, np.inf), candidate(50.0, 1.0)) == [0.0, 1.0]
    assert weights_of(candidate(np.inf), candidate(np.inf)) == [0.5, 0.5]


def test_untested_candidates_weigh_the_same():
    untested = Candidate(find_law("additive"), Huber(), 9)
    assert weights_of(untested, untested) == [0.5, 0.5]
    assert sorted(weights_of(untested, untested, untested)) == [0.333, 0.333, 0.334]
    assert weights_of(untested) == [1.0]


def test_exact_predictions_are_all_exact():
    assert weights_of(candidate(1e-9), candidate(1e-12)) == [0.5, 0.5]


def test_laws_by_what_a_table_has():
    whole = table()
    without = without_mixtures(whole)
    assert laws_for(mj.read_runs(whole)) == ("additive", "joint", "powers")
    assert laws_for(mj.read_runs(without)) == ("chinchilla", "coupled", "log_quadratic")
    one_size = whole[whole.N == 2e8]
    assert laws_for(mj.read_runs(one_size)) == ("additive_fixed_n",)
    assert laws_for(mj.read_runs(one_size.drop(columns="N"))) == ("additive_fixed_n",)
    one_scale = one_size[one_size.D == 4e9]
    assert laws_for(mj.read_runs(one_scale)) == ("additive_fixed_nd", "ye_m4")
    for names in ("chinchilla", "coupled", "log_quadratic"):
        assert find_law(names).count(0) == find_law(names).count(3)  # reads no mixture


def test_lags_are_tried_where_runs_have_several_d(runs):
    def lags(runs: Runs) -> set[float]:
        found = mj.extrapolate(runs, laws=("additive",), targets=("t",), starts=2, hops=0)
        return {c.law.lag for c in found.candidates}

    assert lags(runs) == {0.0, 1e9, 2e9, 3e9}
    assert lags(replace(runs, run=np.arange(len(runs)).astype(str))) == {0.0}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"laws": ()}, "none given"),
        ({"laws": ("joint@x",)}, "not a number of tokens"),
        ({"laws": ("joint@-1e9",)}, "not a number of tokens"),
        ({"laws": ("joint@nan",)}, "not a number of tokens"),
        ({"laws": ("nonsense@2e9",)}, "no law"),
        ({"precision": "float16"}, "no precision"),
        ({"lags": (4e9,)}, "below the smallest D"),
        ({"lags": (-1.0,)}, "below the smallest D"),
        ({"laws": ("joint@4e9",)}, "below the smallest D"),
        ({"laws": ("nonsense",)}, "no law"),
    ],
)
def test_mistakes(runs, given, message):
    with pytest.raises(UserError, match=message):
        mj.extrapolate(runs, **given)


def test_a_lag_of_all_tokens_cannot_be_fitted(runs):
    with pytest.raises(UserError, match="not beyond the 4e\\+09 tokens"):
        mj.fit(runs, "additive@4e9", starts=4, hops=0)


def test_a_lag_of_nothing_is_the_law_itself():
    assert find_law("joint@0") == find_law("joint")
    assert lagged(find_law("joint@2e9"), 3e9).name == "joint@3e9"


def test_a_table_of_one_scale_is_told_and_its_laws_weigh_the_same():
    small = table()
    few = mj.read_runs(small[(small.N == 2e8) & (small.D == 4e9)])
    with pytest.warns(MixjaxWarning, match="too few sizes or D to leave the largest out"):
        found = mj.extrapolate(few, targets=("t",), starts=4, hops=0)
    assert [(c.law.name, c.weight) for c in found.candidates] == [
        ("additive_fixed_nd", 0.5),
        ("ye_m4", 0.5),
    ]
    assert all(c.errors == {} for c in found.candidates)
    assert " - " in str(found)


def test_a_table_without_mixtures_is_extrapolated():
    truth = random_truth("coupled", 0, ("t",), seed=4)
    N, D = (x.ravel() for x in np.meshgrid(np.geomspace(1e8, 3e9, 6), np.geomspace(2e9, 1e11, 6)))
    runs = mj.read_runs(simulate_runs(truth, N=N, D=D, noise=1e-4, seed=0))
    found = mj.extrapolate(runs, starts=8, hops=0)
    assert found.candidates[0].law.name == "coupled"
    off = found.fit.predict(1e10, 1e12)["t"] / truth.predict(1e10, 1e12)["t"] - 1
    assert abs(off) < 0.02


def test_command(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MIXJAX_CACHE", "off")
    table().to_csv(tmp_path / "runs.csv", index=False)
    words = [
        "extrapolate",
        str(tmp_path / "runs.csv"),
        "--where",
        "split == 'train'",
        "--laws",
        "additive",
        "--starts",
        "8",
        "--hops",
        "0",
    ]
    assert main([*words, "--lags", "0,2e9", "-o", str(tmp_path / "fit.json"), "--json"]) == 0
    out = json.loads(capsys.readouterr().out)
    assert out["law"] == "additive@2e9"
    assert [c["law"] for c in out["candidates"]] == ["additive@2e9", "additive"]
    assert main(["mix", str(tmp_path / "fit.json"), "-N", "7e9", "-D", "1e11", "--json"]) == 0
    assert main([*words, "--lags", "0", "--progress", "--precision", "float32"]) == 0
    assert "objective" not in capsys.readouterr().err
    assert main([*words, "--lags", "0,x"]) == 2
    assert main([*words, "--lags", "9e9"]) == 2
    err = capsys.readouterr().err
    assert "is not a list of numbers" in err
    assert "below the smallest D" in err
