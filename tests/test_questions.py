"""Every aid obeys every question: a battery of questions x aids, as there is one of laws."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import mixjax as mj
from mixjax.errors import UserError
from mixjax.fitting.simulate import known_fit, random_truth
from mixjax.mixture.balance import limited_mixture, worst_target
from mixjax.mixture.box import contains
from mixjax.mixture.front import pareto_front
from mixjax.mixture.judge import compare_mixtures, marginal_values, price_limits
from mixjax.mixture.limits import share_range
from mixjax.mixture.many import Vary, held_at, optima
from mixjax.mixture.move import Start, smallest_move, trust_path
from mixjax.mixture.near import at_most_domains, flat_region
from mixjax.mixture.optimum import best_of
from mixjax.mixture.question import Pull, Question
from mixjax.mixture.robust import robust_mixture
from mixjax.mixture.scales import budget_path, compute_optimal
from mixjax.mixture.targets import corners, target_map

AT = {"N": 7e9, "D": 150e9}
DOMAINS = ("a", "b", "c", "d")
TARGETS = ("a", "b", "t")
# Within the limits of all questions below.
BASE = {"a": 0.1, "b": 0.25, "c": 0.25, "d": 0.4}


def fit_of(law, seed=3):
    drawn = random_truth(law, len(DOMAINS), TARGETS, seed)
    return known_fit(law, DOMAINS, drawn.params)


FITS = {law: fit_of(law) for law in ("additive", "joint")}
QUESTIONS = {
    "plain": {},
    "caps": {"caps": {"a": 0.2}, "floors": {"d": 0.1}},
    "group": {"groups": {"text": ("a", "b")}, "caps": {"text": 0.4}},
    "group floor": {"groups": {"text": ("b", "c")}, "floors": {"text": 0.3}, "caps": {"c": 0.3}},
    "fixed": {"fixed": {"b": 0.25}, "groups": {"rest": ("a", "c")}, "caps": {"rest": 0.5}},
    "tokens": {"tokens": {"a": 20e9, "c": 25e9}, "epochs": {"c": 2.0}},
    "pull": {"pull": Pull(BASE, 0.05), "caps": {"d": 0.45}},
}


def mixtures_of(answer, question):
    """The mixtures (n, k) of answers of all kinds."""
    if isinstance(answer, dict):
        return np.concatenate([mixtures_of(part, question) for part in answer.values()])
    return np.atleast_2d([question.array(weights) for weights in answer])


def region(question):
    intervals = flat_region(question, 0.002).intervals.values()
    return [end for i in intervals for end in (i.at_low, i.at_high)]


def least_moved(question):
    own = optima(question.but(pull=None, weights={"t": 1.0})).losses[0][TARGETS.index("t")]
    now = float(question.losses(question.array(BASE))["t"])
    return [smallest_move(question, Start(BASE), {"t": 0.5 * (1 - own / now)}).weights]


def robust(question):
    fits = [fit_of(question.fit.law, seed) for seed in (3, 4, 5)]
    return [robust_mixture(question, fits, 0.5).mixtures["robust"].weights]


def limited(question):
    return [limited_mixture(question, above={"t": 0.02}).mixture.weights]


AIDS = {
    "optimum": lambda q: [mj.optimal_mixture(q).weights],
    "worst": lambda q: [worst_target(q).mixture.weights],
    "limited": limited,
    "few": lambda q: [at_most_domains(q, 3).mixture.weights],
    "flat": region,
    "front": lambda q: [
        q.named(h) for h in pareto_front(q, {"x": ["a"], "y": ["b", "t"]}, divisions=4).h
    ],
    "path, KL": lambda q: [m.weights for m in trust_path(q, Start(BASE), 4).steps],
    "path, L1": lambda q: [m.weights for m in trust_path(q, Start(BASE), 4, "l1").steps],
    "move": least_moved,
    "robust": robust,
    "judge": lambda q: [compare_mixtures(q, {}).mixtures["optimum"].weights],
    "value": lambda q: [marginal_values(q).weights],
    "prices": lambda q: [price_limits(q).feasible.weights],
    "scales": lambda q: [m.weights for m in budget_path(q, [1e9, 7e9], 150e9).mixtures],
    "corners": lambda q: [m.weights for m in corners(q).values()],
}


@pytest.mark.filterwarnings("ignore::mixjax.MixjaxWarning")
@pytest.mark.parametrize("aid", AIDS)
@pytest.mark.parametrize("asked", QUESTIONS)
@pytest.mark.parametrize("law", FITS)
def test_every_aid_keeps_every_limit(law, asked, aid):
    question = Question(FITS[law], **AT, **QUESTIONS[asked])
    answers = mixtures_of(AIDS[aid](question), question)
    np.testing.assert_allclose(answers.sum(axis=1), 1.0, atol=1e-9)
    for h in answers:
        question.check_within(h, "answer")


@pytest.mark.filterwarnings("ignore::mixjax.MixjaxWarning")
@pytest.mark.parametrize("asked", ["plain", "group", "tokens"])
def test_a_budget_keeps_the_limits_of_its_own_scale(asked):
    question = Question(FITS["additive"], **AT, **QUESTIONS[asked])
    best = compute_optimal(question, 6 * 7e9 * 150e9).mixture
    there = question.but(N=best.N, D=best.D)
    there.check_within(there.array(best.weights), "answer")


@pytest.mark.filterwarnings("ignore::mixjax.MixjaxWarning")
def test_a_map_of_targets_keeps_a_cap():
    question = Question(FITS["additive"], **AT, caps={"a": 0.3})
    points = target_map(question, ("a", "b"), 6)
    assert points.h[:, 0].max() <= 0.3 + 1e-9


# --- Seven questions that were answered wrongly ---------------------------------------------------


def test_a_flat_region_under_a_cap_of_a_group():
    """A group's cap of 0.5 does not ask for a share of 1 of one of its domains."""
    question = Question(FITS["additive"], **AT, groups={"text": ("a", "b")}, caps={"text": 0.5})
    intervals = flat_region(question, 0.01).intervals
    assert intervals["a"].high <= 0.5 + 1e-9


def test_a_base_that_breaks_the_cap_of_a_group_is_refused():
    question = Question(FITS["additive"], **AT, groups={"text": ("a", "b")}, caps={"text": 0.5})
    with pytest.raises(UserError, match=r"'text' has 0\.75, outside its limits 0 to 0\.5"):
        trust_path(question, Start({"a": 0.5, "b": 0.25, "c": 0.15, "d": 0.1}))


@pytest.mark.parametrize("cap", [1e-50, 1e-30, 1e-12])
def test_a_tiny_cap_is_as_good_as_one_of_nothing(cap):
    """Its slope may be 1e21 there, and must not take the digits of the others."""
    truth = mj.demo_runs().truth
    none, tiny = (mj.optimal_mixture(truth, **AT, caps={"web": c}) for c in (0.0, cap))
    assert tiny.objective == pytest.approx(none.objective, rel=1e-7)
    assert tiny.objective - tiny.gap <= none.objective


@pytest.mark.filterwarnings("ignore::mixjax.MixjaxWarning")
@pytest.mark.parametrize("eps", [1e-4, 1e-3, 1e-2])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("law", ["additive", "full"])
def test_the_ends_of_a_flat_region_are_within_it(law, seed, eps):
    question = Question(fit_of(law, seed), **AT)
    region = flat_region(question, eps)
    level = region.objective + eps * abs(region.objective) * (1 + 1e-9)
    for interval in region.intervals.values():
        for end in (interval.at_low, interval.at_high):
            assert float(question.value(question.array(end))) <= level


@pytest.mark.parametrize("share", [0.99, 0.9999])
def test_a_minimum_near_a_corner_is_reached(share):
    """Starts reach 0.999 of a corner: a valley there is found though a barrier hides it."""
    import jax.numpy as jnp

    def coefficients(params, h):
        rest = jnp.log(1.0 - h[0] + 1e-12)
        valley = -0.3 * jnp.exp(-(((rest - jnp.log(params["at"])) / 2.0) ** 2))
        return mj.Coefficients(E=params["E"] + valley + 0.2 * jnp.exp(-((rest + 2.0) ** 2)))

    law = mj.Law("valley", (mj.Parameter("E"), mj.Parameter("at")), coefficients, units=(1.0, 1.0))
    fit = known_fit(law, ("a", "b"), {"t": {"E": 3.0, "at": 1.0 - share}})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        best = mj.optimal_mixture(fit)
    assert best.objective == pytest.approx(2.7, abs=1e-3)


@pytest.mark.filterwarnings("ignore::mixjax.MixjaxWarning")
@pytest.mark.parametrize("seed", range(6))
def test_limits_that_cost_nothing_are_no_obstacle_to_laws_that_jump(seed):
    """What is reached without limits on losses, and keeps them, is reached with them too."""
    rng = np.random.default_rng(seed)
    params = {
        t: {
            "E": 1.5,
            "C": rng.uniform(0.5, 2.0, 4),
            "gamma": rng.uniform(-0.3, 0.8, 4),
            "A": 400.0,
            "alpha": 0.34,
            "B": 2000.0,
            "beta": 0.3,
        }
        for t in TARGETS
    }
    question = Question(known_fit("additive", DOMAINS, params), **AT)
    free = best_of(question)
    loose = {t: 1.01 * loss for t, loss in free.losses.items()}
    assert limited_mixture(question, at_most=loose).mixture.objective <= free.objective * (1 + 1e-9)
    own = optima(question, Vary(weights=np.eye(3))).losses.diagonal()
    worst = worst_target(question)
    excess = max(free.losses[t] / own[i] - 1 for i, t in enumerate(TARGETS))
    assert worst.largest <= excess + 1e-7


def test_a_cap_met_by_rounding_is_told_and_has_a_price():
    fit = FITS["additive"]
    free = mj.optimal_mixture(fit, **AT)
    most = max(free.weights, key=free.weights.__getitem__)
    cap = 0.5 * free.weights[most]
    question = Question(fit, **AT, caps={most: cap})
    h = question.array(mj.optimal_mixture(question).weights)
    h[question.domains.index(most)] = np.nextafter(cap, 0.0) - 1e-17
    assert question.bound(h) == {most: "cap"}
    assert price_limits(question).prices[most] > 0


# --- The record itself ---------------------------------------------------------------------------


@pytest.mark.parametrize("asked", QUESTIONS)
def test_the_range_of_a_share_is_met_and_no_wider(asked):
    question = Question(FITS["additive"], **AT, **QUESTIONS[asked])
    low, high = share_range(question.box)
    k = len(DOMAINS)
    ends = optima(
        question.but(pull=None),
        Vary(boxes=held_at(question, np.tile(np.arange(k), 2), np.concatenate([low, high]))),
    )
    assert np.isfinite(ends.objective).all()
    for h in ends.h:
        question.check_within(h, "end")
    rng = np.random.default_rng(0)
    drawn = [h for h in rng.dirichlet(np.ones(k), 4000) if contains(question.box, h)]
    assert not drawn or np.all((np.array(drawn) >= low) & (np.array(drawn) <= high))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"N": -1.0}, "N: -1.0 is not a positive number"),
        ({"weights": {"x": 1.0}}, "no target 'x'"),
        ({"weights": {"a": 0.0}}, "all are 0"),
        ({"caps": {"x": 0.1}}, "no domain 'x'"),
        ({"fixed": {"a": 0.5}, "caps": {"a": 0.2}}, "above its cap"),
        ({"tokens": {"a": -1.0}}, "-1 is not a count"),
        ({"tokens": {"a": 1e9}, "epochs": 0.0}, "epochs: 0 is not a positive number"),
        ({"tokens": dict.fromkeys(DOMAINS, 1e9)}, "all domains together allow"),
        ({"groups": {"a": ("b",)}}, "has the name of a domain"),
        ({"pull": Pull({"x": 1.0}, 0.1)}, "no domain 'x'"),
        ({"pull": Pull(BASE, -0.1)}, "is not a strength"),
    ],
)
def test_a_question_is_checked_once_when_it_is_asked(changes, said):
    with pytest.raises(UserError, match=said):
        Question(FITS["additive"], **(AT | changes))


def test_a_scale_is_asked_for_where_the_law_reads_it():
    with pytest.raises(UserError, match="D is missing"):
        mj.optimal_mixture(Question(FITS["additive"], N=7e9))


def test_a_fit_without_domains_has_no_question():
    with pytest.raises(UserError, match="it has no domains"):
        Question(random_truth("chinchilla", 0, ["t"]), **AT)
