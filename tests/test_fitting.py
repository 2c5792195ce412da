"""Fits of simulated runs: every law recovers its truth, and what a fit depends on, and what not.

Tables of one shape share one compiled program, so nearly all tests reuse the two tables
`experiment` and `small`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from functools import cache

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from mixjax.data.design import design_mixtures
from mixjax.data.runs import read_runs
from mixjax.engine import batch
from mixjax.errors import MixjaxWarning, UserError
from mixjax.fitting.fit import fit, law_for
from mixjax.fitting.load import load_fit
from mixjax.fitting.loss import Settings
from mixjax.fitting.problem import make_problem
from mixjax.fitting.record import Fit
from mixjax.fitting.search import draw_starts
from mixjax.fitting.simulate import known_fit, random_truth, simulate_runs
from mixjax.law import Coefficients, Law, Parameter, find_law, laws
from tests import reference

LAWS = tuple(laws())
QUICK = {"starts": 8, "hops": 3}
TARGETS = ("d0", "d1")
WITHOUT_MIXTURES = ("chinchilla", "coupled", "log_quadratic")
K = 2  # enough for every law; own-domain laws see one domain of them

# Noise-free: residuals end at rounding, 1e-16 of losses around 3, and the objective is their
# square.
ZERO = 1e-26
# Parameters are as good as residuals of 1e-15 allow: the worst directions of these tables have a
# curvature of about 1e-7 relative to the best, so 1e-15 / 1e-7 = 1e-8, ten times below what is
# asked.
RECOVERED = 1e-7
# A noisy fit stops when 50 steps lower the objective by less than 1e-7: two ways to one minimum
# agree to some 1e-6.
SAME_MINIMUM = 1e-5


# ---------------------------------------------------------------- tables


@cache
def truth_of(law: str) -> Fit:
    return random_truth(law, 0 if law in WITHOUT_MIXTURES else K, TARGETS, seed=1)


@cache
def experiment(law: str, noise: float = 0.0) -> pd.DataFrame:
    """A table that identifies the law: 9 mixtures at 3 x 4 scales, or at as few as the law
    reads."""
    if law in WITHOUT_MIXTURES:
        return small(noise, law)
    mixtures = design_mixtures([f"d{i}" for i in range(K)], 9, minimum=0.03).to_numpy()
    reads = reference.READS[law]
    N = [2e8, 6e8, 2e9] if reads[0] else [5e8]
    D = [2e9, 5e9, 1.2e10, 3e10] if reads[1] else [1e10]
    row, N, D = (x.ravel() for x in np.meshgrid(np.arange(9), N, D))
    return simulate_runs(truth_of(law), mixtures[row], N, D, noise=noise, seed=3)


@cache
def small(noise: float = 0.003, law: str = "chinchilla") -> pd.DataFrame:
    """Chinchilla's kind of table, 24 rows and no mixtures."""
    N, D = (
        x.ravel() for x in np.meshgrid([1e8, 3e8, 1e9, 3e9], [1e9, 3e9, 1e10, 3e10, 6e10, 1e11])
    )
    return simulate_runs(truth_of(law), N=N, D=D, noise=noise, seed=3)


@cache
def recovered(law: str) -> Fit:
    return fit(read_runs(experiment(law)), law, **QUICK)


@cache
def noisy(law: str) -> Fit:
    return fit(read_runs(experiment(law, 0.003)), law, **QUICK)


@cache
def baseline() -> Fit:
    return noisy("chinchilla")


def quick(table: pd.DataFrame, law="chinchilla", **options) -> Fit:
    return fit(read_runs(table), law, **(QUICK | options))


def own_objective(fitted: Fit, table: pd.DataFrame, target: str, params=None) -> float:
    """Equation (6) by the slow twin, from the parameters as reported."""
    own = [f"h_{target}"] if fitted.law == "ge24" else [f"h_{d}" for d in fitted.domains]
    h, N, D, losses = (table[c].to_numpy() for c in (own, "N", "D", f"loss_{target}"))
    return reference.objective(
        fitted.law,
        params or fitted.params[target],
        h,
        N,
        D,
        losses,
        fitted.huber.delta,
        fitted.huber.residual,
    )


def assert_same_minimum(
    got: Fit, expected: Fit, factor: float = 1.0, tolerance: float = SAME_MINIMUM
):
    for target in got.targets:
        np.testing.assert_allclose(
            got.objective[target], factor * expected.objective[target], rtol=tolerance
        )


def numbers(fitted: Fit) -> str:
    """Everything in the file but how long it took."""
    content = fitted.to_dict()
    del content["made"]["seconds"]
    return json.dumps(content, allow_nan=False)


# ---------------------------------------------------------------- recovery


def identified(law: str, params: dict) -> dict:
    """The combinations of parameters that the law's values determine."""
    p = dict(params)
    if (
        law == "ye_m1"
    ):  # with two domains h_2 = 1 - h_1: the terms are exponentials of h_1 and may change places
        size, rate = (
            np.array([p["C"][0], p["C"][1] * np.exp(p["gamma"][1])]),
            np.array([p["gamma"][0], -p["gamma"][1]]),
        )
        p |= {"C": size[np.argsort(rate)], "gamma": np.sort(rate)}
    if law == "ye_m3":  # only the product of the rates
        p["gamma"] = np.prod(p["gamma"])
    if (
        law == "ye_m4"
    ):  # (C, gamma_i) and (C e^-c, gamma_i + c) are one law, because shares sum to 1
        middle = np.mean(p["gamma"])
        p |= {"gamma": p["gamma"] - middle, "C": p["C"] * np.exp(middle)}
    if law == "ge24":  # C goes into B and E
        p |= {"B": p["B"] * p["C"], "E": p["E"] * p.pop("C")}
    return p


@pytest.mark.parametrize("law", LAWS)
def test_a_law_recovers_its_truth(law):
    got, truth = recovered(law), truth_of(law)
    for target in TARGETS:
        assert got.objective[target] < ZERO
        found, true = identified(law, got.params[target]), identified(law, truth.params[target])
        for name in true:
            np.testing.assert_allclose(
                found[name], true[name], rtol=RECOVERED, err_msg=f"{target} {name}"
            )


@pytest.mark.parametrize("law", LAWS)
def test_it_predicts_a_larger_scale(law):
    got, truth = recovered(law), truth_of(law)
    h = [[0.3, 0.7], [0.85, 0.15]] if got.domains else None
    predicted, true = got.predict(7e9, 150e9, h), truth.predict(7e9, 150e9, h)
    for target in TARGETS:
        np.testing.assert_allclose(predicted[target], true[target], rtol=1e-9)


@pytest.mark.parametrize("law", LAWS)
def test_the_objective_is_the_plain_one_and_no_higher_than_the_truths(law):
    got, table = noisy(law), experiment(law, 0.003)
    for target in TARGETS:
        np.testing.assert_allclose(
            got.objective[target], own_objective(got, table, target), rtol=1e-9
        )
        assert got.objective[target] < own_objective(
            got, table, target, truth_of(law).params[target]
        )


@pytest.mark.parametrize("law", LAWS)
def test_a_fit_says_how_it_was_made(law):
    got, table = noisy(law), read_runs(experiment(law, 0.003))
    assert (got.law, got.domains, got.targets) == (law, table.domains, TARGETS)
    assert got.made["fingerprint"] == table.fingerprint()
    assert (got.made["starts"], got.made["hops"], got.made["seed"]) == (8, 3, 0)
    reads = dict(zip("ND", reference.READS[law], strict=True))
    assert set(got.ranges) == {name for name, needed in reads.items() if needed}
    for search in got.search.values():
        assert search.status == "converged"
        assert search.rows == len(table)
        assert search.dropped == 0
        assert 0 <= search.agreeing <= search.starts
        assert search.evaluations >= 8
    for name, (low, high) in got.ranges.items():
        assert (low, high) == (experiment(law)[name].min(), experiment(law)[name].max())


@pytest.mark.parametrize("law", LAWS)
def test_losses_that_no_law_explains_still_give_numbers(law):
    """Constant, unrelated or spread over twenty orders: whatever runs off is named, and nothing is
    infinite."""
    table, rng = experiment(law).copy(), np.random.default_rng(0)
    table["loss_d0"] = 3.0
    table["loss_d1"] = np.exp(5 * rng.normal(size=len(table)))
    got = quick(table, law, starts=4, hops=1)
    content = numbers(got)  # refuses NaN and infinity
    assert json.loads(content)["fits"]["d0"]["objective"] < 1e-9
    for losses in got.predict(
        table["N"], table["D"], table[[f"h_{d}" for d in got.domains]] if got.domains else None
    ).values():
        assert np.isfinite(losses).all()


def test_saved_loaded_and_scored(tmp_path):
    got, table = noisy("joint"), read_runs(experiment("joint", 0.003))
    got.save(tmp_path / "fit.json")
    again = load_fit(tmp_path / "fit.json")
    assert again == got
    for target, losses in got.predict(table.N, table.D, table.h).items():
        np.testing.assert_array_equal(again.predict(table.N, table.D, table.h)[target], losses)
    for target, score in again.score(table).items():
        np.testing.assert_allclose(score.huber, got.objective[target], rtol=1e-12)
        assert score.mre < 0.4  # noise of 0.3 percent


# ---------------------------------------------------------------- what a fit depends on


def test_same_seed_same_answer():
    assert numbers(quick(small(0.003))) == numbers(baseline())


def test_single_precision_finds_the_same_minimum():
    assert_same_minimum(quick(small(0.003), precision="float32"), baseline())


def test_another_seed_finds_the_same_minimum():
    other = quick(small(0.003), seed=5)
    assert repr(other.params) != repr(baseline().params)
    assert_same_minimum(other, baseline())


def test_a_start_is_the_same_whatever_their_number_and_a_key_whatever_the_other_targets():
    law = find_law("joint")
    problem = make_problem(read_runs(experiment("joint")), law)
    alone = make_problem(read_runs(experiment("joint")), law, ["d1"])
    few, few_keys = draw_starts(problem, Settings(3))
    many, many_keys = draw_starts(problem, Settings(9))
    np.testing.assert_array_equal(few, many[:, :3])
    np.testing.assert_array_equal(few_keys, many_keys[:, :3])
    np.testing.assert_array_equal(draw_starts(alone, Settings(3)).keys[0], few_keys[1])
    assert (few_keys[0] != few_keys[1]).any()
    assert (draw_starts(problem, Settings(3, seed=1)).z != few).all()


def test_the_order_of_targets_does_not_matter():
    swapped = quick(small(0.003), targets=["d1", "d0"])
    assert swapped.targets == ("d1", "d0")
    for target in TARGETS:
        assert swapped.objective[target] == baseline().objective[target]
        assert swapped.params[target] == baseline().params[target]


def test_a_target_alone_is_fitted_as_among_others():
    assert_same_minimum(quick(small(0.003), targets=["d1"]), baseline())


def test_the_order_of_rows_does_not_matter():
    """Sums in another order differ by rounding, which a search may blow up on its way, but not at
    its end."""
    shuffled = quick(small(0.003).sample(frac=1, random_state=0))
    assert_same_minimum(shuffled, baseline())
    for target in TARGETS:
        for name in ("E", "alpha", "beta"):  # A and B trade against alpha and beta in a flat valley
            np.testing.assert_allclose(
                shuffled.params[target][name], baseline().params[target][name], rtol=1e-3
            )


GONE = [1, 7, 20, 21]


@cache
def without_gone(prior: str = "weak") -> Fit:
    return quick(small(0.003).drop(GONE), prior=prior)


def test_missing_losses_are_left_out_for_their_target_alone():
    table = small(0.003).copy()
    table.loc[GONE, "loss_d1"] = np.nan
    got, plain = quick(table), quick(table, prior="none")
    assert {t: s.rows for t, s in got.search.items()} == {"d0": 24, "d1": 20}
    assert got.params["d0"] == baseline().params["d0"]
    # The prior counts for as many rows as the target with the most has.
    np.testing.assert_allclose(
        plain.objective["d1"], without_gone("none").objective["d1"], rtol=SAME_MINIMUM
    )


def test_weight_zero_is_no_row():
    table = small(0.003).copy()
    weights = np.ones(24)
    weights[GONE] = 0
    table.loc[20, "loss_d0"] = 1e6
    got = quick(table, weights=weights)
    assert got.search["d0"].rows == 20
    assert_same_minimum(got, without_gone())


@pytest.mark.filterwarnings("ignore:.*rows repeat another row exactly")
def test_whole_weights_are_repeated_rows_and_only_their_ratio_counts():
    table, often = small(0.003).drop(GONE), np.ones(20, int)
    often[[0, 3, 11, 16]] = 2  # 24 rows in all, a shape that is compiled already
    repeated = table.loc[np.repeat(table.index, often)]
    for prior in ("weak", "none"):
        got = quick(table, weights=often, prior=prior)
        assert_same_minimum(quick(table, weights=often * 0.01, prior=prior), got)
    # A repeated row is one more row for the prior.
    assert_same_minimum(got, quick(repeated, prior="none"))


def test_weights_may_be_as_large_as_numbers_are():
    table = small()
    got = quick(table, weights=np.full(len(table), 1e308))
    assert got.objective == quick(table).objective
    assert all(value > 0 for value in got.objective.values())


def test_losses_whose_squares_overflow_are_refused():
    table = small().copy()
    for value in (1e155, 1e300):
        table.loc[3, "loss_d0"] = value
        with pytest.raises(
            UserError, match=r"target 'd0' has a loss of 1e.*give this column in a larger unit"
        ):
            quick(table)


@pytest.mark.parametrize("unit", [1e-9, 1e9])
def test_the_unit_of_losses_and_delta_is_no_fault(unit):
    table, changed = small(), small().copy()
    losses = [c for c in table.columns if c.startswith("loss_")]
    changed[losses] *= unit
    one, other = quick(table), quick(changed, delta=1e-3 * unit)
    np.testing.assert_allclose(
        [other.objective[t] / unit**2 for t in one.targets], list(one.objective.values()), rtol=1e-5
    )


def test_a_weighted_objective_is_the_weighted_mean():
    table, often = small(0.003), np.random.default_rng(0).integers(0, 4, 24)
    got = quick(table, weights=often)
    repeated = table.loc[np.repeat(table.index, often)]
    for target in TARGETS:
        np.testing.assert_allclose(
            got.objective[target], own_objective(got, repeated, target), rtol=1e-9
        )


@pytest.mark.filterwarnings("ignore:.*fewer than any run has")
@pytest.mark.parametrize("law", ["chinchilla", "simple", "additive", "joint"])
def test_units_of_n_and_d_do_not_matter(law):
    """Laws with `rescale`: the search sees N and D over their middle, so only rounding differs."""
    table = experiment(law, 0.003).copy()
    table["N"], table["D"] = table["N"] / 1e6, table["D"] / 1e9
    got = quick(table, law)
    assert_same_minimum(got, noisy(law), tolerance=1e-3)
    h = [[0.4, 0.6]] if got.domains else None
    for target in TARGETS:
        np.testing.assert_allclose(
            got.predict(7e3, 150, h)[target], noisy(law).predict(7e9, 150e9, h)[target], rtol=2e-3
        )


@pytest.mark.parametrize("law", ["chinchilla", "joint", "full", "ye_m1"])
def test_a_hundredfold_loss_and_delta_is_the_same_fit(law):
    table = experiment(law, 0.003).copy()
    table[["loss_d0", "loss_d1"]] *= 100
    assert_same_minimum(quick(table, law, delta=0.1), noisy(law), factor=1e4, tolerance=1e-3)


def test_a_large_delta_is_least_squares():
    got = quick(small(0.003), delta=10.0)
    predicted = got.predict(small()["N"], small()["D"])
    for target in TARGETS:
        residual = small()[f"loss_{target}"] - predicted[target]
        np.testing.assert_allclose(got.objective[target], np.mean(residual**2) / 2, rtol=1e-9)
        np.testing.assert_allclose(
            residual.mean(), 0, atol=1e-6
        )  # E is free, so residuals of least squares sum to 0


# ---------------------------------------------------------------- residuals of the logarithm


@cache
def logarithmic() -> Fit:
    return quick(small(0.003), residual="log")


def test_log_residuals_recover_the_truth():
    got = quick(small(0.0), residual="log")
    for target in TARGETS:
        assert got.objective[target] < ZERO
        for name, value in truth_of("chinchilla").params[target].items():
            np.testing.assert_allclose(got.params[target][name], value, rtol=RECOVERED)


def test_the_log_objective_is_the_plain_one():
    for target in TARGETS:
        np.testing.assert_allclose(
            logarithmic().objective[target],
            own_objective(logarithmic(), small(), target),
            rtol=1e-9,
        )


def test_log_residuals_do_not_see_the_unit_of_the_loss():
    table = small(0.003).copy()
    table[["loss_d0", "loss_d1"]] *= 100
    assert_same_minimum(quick(table, residual="log"), logarithmic())


# ---------------------------------------------------------------- priors


def test_the_prior_is_of_the_objective_and_not_in_what_is_reported():
    plain = quick(small(0.003), prior="none")
    assert (plain.huber.prior, baseline().huber.prior) == ("none", "weak")
    for target in TARGETS:
        np.testing.assert_allclose(
            baseline().objective[target], own_objective(baseline(), small(), target), rtol=1e-9
        )
        np.testing.assert_allclose(
            plain.objective[target], own_objective(plain, small(), target), rtol=1e-9
        )
        # Without it the objective is least; it costs little where rows say more.
        ratio = baseline().objective[target] / plain.objective[target]
        assert 1 < ratio < 1.05


def few_with_zeros(seed: int) -> tuple[Fit, pd.DataFrame, np.ndarray]:
    """Some 18 mixtures of six domains, six in ten shares of them 0, and 200 more."""
    rng, domains = np.random.default_rng(seed), tuple("abcdef")
    params = {
        "E": 1.5,
        "C": np.array([0.4, 0.3, 0.5, 0.2, 0.05, 0.3]),
        "gamma": np.array([0.3, 0.5, 0.2, 0.6, 0.5, 0.4]),
    }

    def mixtures(count: int) -> np.ndarray:
        h = rng.dirichlet(np.ones(6), count)
        h[rng.random((count, 6)) < 0.6] = 0
        h = h[h.sum(axis=1) > 0]
        return h / h.sum(axis=1, keepdims=True)

    truth = known_fit("additive_fixed_nd", domains, {"t": params})
    table = simulate_runs(truth, mixtures(18), noise=0.03, seed=seed)
    return truth, table, mixtures(200)


@pytest.mark.parametrize("seed", [4, 6])
def test_a_prior_holds_exponents_that_would_run_away(seed):
    """Few rows with zeros let the exponent of a share grow without end, which says that any part
    of a domain is worth nothing and all of it everything."""
    truth, table, later = few_with_zeros(seed)
    held, free = (
        quick(table, "additive_fixed_nd", starts=24, hops=0, prior=prior)
        for prior in ("weak", "none")
    )
    assert held.params["t"]["gamma"].max() < 5 < free.params["t"]["gamma"].max()
    true = truth.predict(h=later)["t"]
    errors = [np.mean(np.abs(fit.predict(h=later)["t"] / true - 1)) for fit in (held, free)]
    assert errors[0] < 0.5 * errors[1]


# ---------------------------------------------------------------- own-domain laws


def test_an_own_domain_law_leaves_other_targets_out():
    table = experiment("ge24").assign(loss_instruct=2.0)
    with pytest.warns(
        MixjaxWarning, match="targets instruct are not training domains; law 'ge24' leaves them out"
    ):
        got = quick(table, "ge24")
    assert got.targets == TARGETS
    for target in TARGETS:
        assert got.objective[target] < ZERO
    with pytest.raises(
        UserError, match=r"target 'instruct' is not a training domain; .*name targets among d0, d1"
    ):
        quick(table, "ge24", targets=["d0", "instruct"])


def test_rows_without_the_own_domain_are_left_out_for_that_target():
    table = experiment("ge24").copy()
    gone = table.index[:6]
    table.loc[gone, ["h_d0", "h_d1"]] = [0.0, 1.0]
    table.loc[gone, "loss_d0"] = 9.0
    table["loss_d1"] = truth_of("ge24").predict(table["N"], table["D"], table[["h_d0", "h_d1"]])[
        "d1"
    ]
    with pytest.warns(
        MixjaxWarning,
        match="6 rows have no weight on 'd0', where law 'ge24' is infinite; they are left out",
    ):
        got = quick(table, "ge24")
    assert {t: s.rows for t, s in got.search.items()} == {"d0": len(table) - 6, "d1": len(table)}
    for target in TARGETS:
        assert got.objective[target] < ZERO
        assert got.params[target]["gamma"] > 0


# ---------------------------------------------------------------- laws of one's own


OWN_PARAMETERS = (Parameter("E"), Parameter("a", ("k",)), Parameter("alpha", start=(0.2, 0.8)))
traces = []


def own_coefficients(params, h):
    traces.append(1)
    return Coefficients(params["E"], jnp.dot(params["a"], h), params["alpha"])


def own_predict(params, h, N, D):
    return params["E"] + jnp.dot(params["a"], h) * N ** -params["alpha"]


BY_COEFFICIENTS = Law("mine", OWN_PARAMETERS, own_coefficients)
BY_PREDICTION = Law("mine", OWN_PARAMETERS, predict=own_predict)
OWN_TRUTH = {"d0": {"E": 1.7, "a": np.array([0.4, 0.9]), "alpha": 0.35}}


def own_table(noise=0.0, seed=0) -> pd.DataFrame:
    share, N = (x.ravel() for x in np.meshgrid(np.linspace(0.1, 0.9, 5), [2e8, 6e8, 2e9, 4e9]))
    return simulate_runs(
        known_fit(BY_COEFFICIENTS, ("d0", "d1"), OWN_TRUTH),
        np.stack([share, 1 - share], axis=1),
        N,
        1e10,
        noise=noise,
        seed=seed,
    )


@pytest.mark.parametrize("law", [BY_COEFFICIENTS, BY_PREDICTION], ids=["coefficients", "predict"])
def test_a_law_of_ones_own_recovers_its_truth(law, tmp_path):
    """Without `rescale` a law stays in its own units: N in 1e9 here."""
    got = quick(own_table(), law)
    assert got.objective["d0"] < ZERO
    for name, value in OWN_TRUTH["d0"].items():
        np.testing.assert_allclose(got.params["d0"][name], value, rtol=RECOVERED)
    assert got.units == (1e9, 1e10)
    got.save(tmp_path / "fit.json")
    again = load_fit(tmp_path / "fit.json", law=law)
    point = (7e9, 1e10, [0.5, 0.5])
    np.testing.assert_array_equal(again.predict(*point)["d0"], got.predict(*point)["d0"])
    np.testing.assert_allclose(got.predict(*point)["d0"], 1.7 + 0.65 * 7**-0.35, rtol=1e-9)
    with pytest.raises(UserError, match="made with 'mine', which is not a built-in law"):
        load_fit(tmp_path / "fit.json").predict(*point)


def test_nothing_is_traced_again_for_other_losses_seeds_budgets_and_weights():
    quick(own_table(), BY_COEFFICIENTS)
    before = len(traces)
    table = own_table(noise=0.01, seed=2)
    quick(table, BY_COEFFICIENTS, seed=9, delta=0.02, weights=np.arange(20), starts=13, hops=1)
    # What is left: the shapes of the law's terms, asked once per fit without compiling anything.
    assert len(traces) - before <= 4


@pytest.mark.filterwarnings("ignore:.*the law takes it as one")
def test_a_law_without_a_finite_value_is_refused():
    law = Law("broken", (Parameter("E"),), lambda p, h: Coefficients(p["E"] * jnp.nan))
    with pytest.raises(UserError, match="no start of target 'd0' gave a finite objective"):
        quick(own_table(), law)


# ---------------------------------------------------------------- mistakes


MISTAKES = [
    ({"law": "jiont"}, "no law 'jiont'; did you mean 'joint'"),
    ({"targets": ["d9"]}, "no target 'd9'; choose from d0, d1"),
    ({"targets": []}, "targets: none is named"),
    ({"targets": ["d0", "d0"]}, "targets: one is named twice"),
    ({"starts": 0}, "starts: 0 is not a whole number of at least 1"),
    ({"starts": 2.5}, "starts: 2.5 is not a whole number"),
    ({"starts": "x"}, "starts: x is not a whole number"),
    ({"hops": -1}, "hops: -1 is not a whole number of at least 0"),
    ({"delta": 0.0}, "delta: 0.0 is not a positive number"),
    ({"delta": np.nan}, "delta: nan is not a positive number"),
    ({"delta": np.inf}, "delta: inf is not a positive number"),
    ({"residual": "square"}, "residual: no residual 'square'; choose loss or log"),
    ({"prior": "strong"}, "prior: no prior 'strong'; choose weak or none"),
    ({"weights": np.ones(3)}, "weights: not 24 numbers of at least 0, one per row"),
    ({"weights": -np.ones(24)}, "weights: not 24 numbers"),
    ({"weights": np.zeros(24)}, "weights: not 24 numbers"),
    ({"weights": np.full(24, np.nan)}, "weights: not 24 numbers"),
    ({"weights": ["x"] * 24}, "weights: not 24 numbers"),
    ({"law": "joint"}, "no h_<domain> columns, which law 'joint' reads"),
    ({"law": "ge24"}, "no h_<domain> columns, which law 'ge24' reads"),
]


@pytest.mark.parametrize(("options", "message"), MISTAKES)
def test_mistakes_are_told_in_one_line(options, message):
    with pytest.raises(UserError) as caught:
        quick(small(), **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("law", "column"),
    [("chinchilla", "N"), ("joint", "D"), ("additive_fixed_n", "D"), ("ge24", "D")],
)
def test_a_column_that_the_law_reads_must_be_there(law, column):
    with pytest.raises(UserError, match=f"no column {column}, which law '{law}' reads"):
        quick(experiment("joint").drop(columns=column), law)


def test_a_target_without_any_measured_loss_is_refused():
    """Its three measured losses are in rows of weight 0."""
    first = np.arange(24) < 3
    table = small().assign(loss_d1=small()["loss_d1"].where(first))
    with pytest.raises(
        UserError, match="no row with a measured loss of target 'd1'; leave this target out"
    ):
        quick(table, weights=(~first).astype(float))


def test_fewer_rows_than_parameters_is_a_warning():
    with pytest.warns(
        MixjaxWarning, match="target 'd0' has 4 rows for the 5 parameters of law 'chinchilla'"
    ):
        got = quick(small().iloc[[0, 5, 13, 22]], targets=["d0"])
    numbers(got)


def test_enough_rows_are_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_problem(
            read_runs(small().iloc[[0, 5, 13, 20, 22]]),
            find_law("chinchilla"),
            ["d0"],
        )


# ---------------------------------------------------------------- minima told


FORKED = Law(
    "forked",
    (Parameter("E"), Parameter("y", domain="real", start=(-2.0, 2.0))),
    predict=lambda p, h, n, d: p["E"] + d ** p["y"] + 30.0 * n * (p["y"] ** 2 - 1.0) ** 2,
    units=(1e9, 1e10),
)


def test_minima_that_predict_differently_are_kept_and_told(tmp_path):
    """Rows of one D do not tell y = 1 from y = -1, and a larger D is another thing with each."""
    losses = 3.0 + 1e-4 * np.random.default_rng(0).standard_normal(20)
    table = pd.DataFrame({"N": [1e9, 4e9] * 10, "D": 1e10, "loss_web": losses})
    got = quick(table, FORKED, starts=32)
    assert got.search["web"].minima == 2
    y, (other,) = got.params["web"]["y"], got.others["web"]
    assert {round(y), round(other["y"])} == {-1, 1}
    assert got.spread(1e9, 1e10)["web"] < 1e-3
    E = got.params["web"]["E"]
    assert got.spread(1e9, 1e11)["web"] == pytest.approx(9.9 / (E + 10 ** round(y)), rel=0.02)
    got.save(tmp_path / "fit.json")
    assert load_fit(tmp_path / "fit.json", FORKED).to_dict() == got.to_dict()


def test_a_law_that_the_rows_determine_has_one_minimum():
    got = quick(small(0.003), targets=["d0"])
    assert got.search["d0"].minima == 1
    assert got.others == {}
    assert got.spread(1e10, 1e12)["d0"] == 0


# ---------------------------------------------------------------- the law of a table


@pytest.mark.parametrize("law", ["chinchilla", "additive", "additive_fixed_n", "additive_fixed_nd"])
def test_the_shape_of_a_table_names_a_law(law):
    """The table of `additive` has fewer runs than three a parameter of `joint`."""
    assert law_for(read_runs(experiment(law, 0.003))) == law


def test_joint_is_for_tables_with_runs_enough():
    """With 2 domains it has 13 parameters: 39 runs of their own are enough."""
    table = pd.concat([experiment("joint", 0.003)] * 2, ignore_index=True)
    named = table.assign(run=[f"run {i // 2}" for i in range(len(table))])
    assert law_for(read_runs(named.iloc[:78])) == "joint"
    assert law_for(read_runs(named.iloc[:76])) == "additive"


def test_it_is_the_default():
    table = experiment("additive_fixed_nd", 0.003)
    assert fit(read_runs(table), starts=2, hops=0).law == "additive_fixed_nd"


# ---------------------------------------------------------------- while it runs


def test_progress_grows_and_objectives_fall():
    seen = []
    quick(small(0.003), hops=60, watch=lambda share, best: seen.append((share, dict(best))))
    shares = [share for share, _ in seen]
    assert shares[0] == 0
    assert shares == sorted(shares)
    assert shares[-1] <= 1
    assert all(set(best) == set(TARGETS) for _, best in seen)
    lowest = [best["d0"] for _, best in seen if np.isfinite(best["d0"])]
    assert lowest == sorted(lowest, reverse=True)


def test_interrupted_before_anything_is_found_is_an_interruption(monkeypatch):
    """As if the first call of the engine had been stopped before any search ended."""

    def stopped(objective, data, starts, keys, budget, watch=None, width=None, descent=None):
        nothing = np.full(starts.shape[:2], np.inf)
        none = np.zeros_like(nothing, int)
        return batch.Found(starts, nothing, none, none, none.astype(bool))

    monkeypatch.setattr(batch, "run", stopped)
    with pytest.raises(KeyboardInterrupt):
        quick(small(0.003))


def test_interrupted_at_once_is_never_an_answer_like_any_other():
    def stop(share, best):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quick(small(0.003), watch=stop)


def test_interrupted_once_something_is_found_is_never_an_answer_like_any_other():
    def stop(share, best):
        if np.isfinite(list(best.values())).all():
            raise KeyboardInterrupt

    got = quick(small(0.003), watch=stop)
    assert {search.status for search in got.search.values()} == {"interrupted"}


def test_interrupted_later_hands_back_the_best_so_far():
    def stop(share, best):
        if np.isfinite(list(best.values())).all():
            raise KeyboardInterrupt

    got = quick(small(0.003), starts=100, hops=2000, watch=stop)
    assert {search.status for search in got.search.values()} == {"interrupted"}
    numbers(got)
    for target in TARGETS:
        np.testing.assert_allclose(
            got.objective[target], own_objective(got, small(), target), rtol=1e-9
        )
        assert got.objective[target] >= baseline().objective[target] * (1 - SAME_MINIMUM)


def test_interrupted_while_a_later_stage_compiles_hands_back_the_best_so_far(monkeypatch):
    run_chunk, compiled = batch._run_chunk, []

    def interrupted(job, groups, who):
        compiled.extend([True] * (not len(who)))
        if len(compiled) == 3 and not len(who):
            raise KeyboardInterrupt
        run_chunk(job, groups, who)

    monkeypatch.setattr(batch, "_run_chunk", interrupted)
    got = quick(small(0.003), starts=32)
    assert {search.status for search in got.search.values()} == {"interrupted"}
    numbers(got)


def test_another_exception_is_passed_on():
    def fail(share, best):
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        quick(small(0.003), watch=fail)


FRESH_PROCESS = """
import jax, numpy as np, pandas as pd, mixjax as mj
N, D = (x.ravel() for x in np.meshgrid([1e8, 3e8, 1e9], [1e9, 4e9, 1e10, 3e10]))
table = pd.DataFrame({"N": N, "D": D, "loss_x": 1.5 + 400 / N**0.34 + 900 / D**0.36})
fit = mj.fit(table, law="chinchilla", starts=4, hops=2)
assert fit.objective["x"] < 1e-26, fit.objective
assert fit.predict(7e9, 1e11)["x"].dtype == np.float64
assert not jax.config.jax_enable_x64
assert jax.numpy.ones(1).dtype == np.float32
"""


def test_float64_without_asking_and_the_users_settings_are_left_alone():
    """In a process of its own: the tests themselves switch float64 on."""
    done = subprocess.run(
        [sys.executable, "-c", FRESH_PROCESS], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
