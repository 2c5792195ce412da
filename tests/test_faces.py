"""Laws that jump down where a share is exactly 0: tightening a limit never lowers an optimum."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest

import mixjax as mj
from mixjax.fitting.simulate import known_fit, random_truth

AT = {"N": 3e9, "D": 5e10}
# Where a descent stalls, leaving domains out may cost this, relatively: `mixture.RISE`.
SLACK = 1e-6


def fits_with_exponents_of_both_signs(law, k, count, lowest):
    """Fits, and the weights of their targets."""
    fits, weights = [], []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        fit = random_truth(law, k, ("a", "b", "c"), seed=seed)
        fits.append(
            known_fit(
                law,
                fit.domains,
                {t: {**fit.params[t], "gamma": rng.uniform(lowest, 1.0, k)} for t in fit.targets},
            )
        )
        weights.append(rng.uniform(0.1, 1.0, 3))
    return fits, dict(zip("abc", np.transpose(weights), strict=True))


def on_faces(fits, weights):
    """{which domains may have a share: the optima}, by caps of 0."""
    domains = fits[0].domains
    return {
        face: mj.optimal_mixtures(
            fits, **AT, weights=weights, caps=dict(zip(domains, map(float, face), strict=True))
        )
        for face in itertools.product((0, 1), repeat=len(domains))
        if any(face)
    }


@pytest.mark.parametrize(("law", "k", "lowest"), [("additive", 3, -0.5), ("additive", 4, -0.2)])
def test_no_face_is_lower(law, k, lowest):
    fits, weights = fits_with_exponents_of_both_signs(law, k, 40, lowest)
    found = on_faces(fits, weights)
    free = found[(1,) * k]
    for face, tight in found.items():
        assert np.all(free.objective <= tight.objective * (1 + SLACK)), face
        assert np.all(tight.h[:, np.array(face) == 0] == 0)
    assert free.held.any()
    assert np.all(free.h[free.held] == 0)
    for i in range(0, 40, 4):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", mj.MixjaxWarning)
            alone = mj.optimal_mixture(
                fits[i], **AT, weights={t: float(w[i]) for t, w in weights.items()}
            )
        np.testing.assert_allclose(free.objective[i], alone.objective, rtol=SLACK)


def a_law_that_jumps():
    """Exponents of d0 and d2 just below 0 in target a: its mixture term is nothing where one of
    them is, and only there."""
    params = {"E": 1.5, "A": 400.0, "alpha": 0.34, "B": 2000.0, "beta": 0.37}
    laws = {
        "a": ([2.4, 0.5, 1.3], [-0.0095, 0.98, -0.02]),
        "b": ([0.4, 0.4, 1.5], [0.68, 0.8, 0.09]),
        "c": ([0.5, 0.3, 0.5], [0.16, 0.06, -0.34]),
    }
    return known_fit(
        "additive",
        ("d0", "d1", "d2"),
        {
            t: params | {"C": np.array(C), "gamma": np.array(gamma)}
            for t, (C, gamma) in laws.items()
        },
    )


def test_a_domain_held_at_zero_is_told():
    fit = a_law_that_jumps()
    with pytest.warns(
        mj.MixjaxWarning,
        match="promises 2.4 percent less with d0 at exactly 0, where an exponent is negative",
    ):
        best = mj.optimal_mixture(fit, **AT)
    assert best.weights["d0"] == 0
    assert best.gap < 1e-8
    without = mj.optimal_mixture(fit, **AT, caps={"d0": 0.0})
    np.testing.assert_allclose(best.objective, without.objective, rtol=1e-12)
    many = mj.optimal_mixtures(fit, **AT, floors={"d0": [0.0, 0.01]})
    assert many.held.tolist() == [[True, False, False], [False, False, False]]
    np.testing.assert_allclose(
        many.objective,
        [best.objective, mj.optimal_mixture(fit, **AT, floors={"d0": 0.01}).objective],
        rtol=1e-9,
    )


def test_a_floor_does_not_lower_a_minimum_at_a_tiny_share():
    """The pull of both signs at d1 holds it at a share of 1e-13, and made all others crawl."""
    sizes = {"C_A": [0.11, 0.1, 0.09], "C_B": [210.0, 1500.0, 600.0]}
    one = {"E": 2.2, "gamma_A": -2.1, "gamma_B": 0.84, "alpha": 0.42, "beta": 0.17} | sizes
    one |= {"C": [0.02, 0.24, 3.5], "gamma": [-0.56, -0.3, 0.37]}
    sizes = {"C_A": [7.7e-4, 2.6e-3, 7.6e-8], "C_B": [37.0, 4300.0, 130.0]}
    two = {"E": 3.0, "gamma_A": -0.54, "gamma_B": 1.1, "alpha": 0.15, "beta": 0.12} | sizes
    two |= {"C": [1.9, 1.3, 8.1], "gamma": [-0.095, 0.016, 0.024]}
    params = {
        t: {name: np.array(x) if isinstance(x, list) else x for name, x in p.items()}
        for t, p in (("a", one), ("b", two))
    }
    fit = known_fit("joint", ("d0", "d1", "d2"), params)
    best = mj.optimal_mixture(fit, 1e9, 1e10)
    floored = mj.optimal_mixtures(fit, 1e9, 1e10, floors={"d1": [1e-13, 1e-12]})
    assert np.all(best.objective <= floored.objective)
    assert best.gap <= 1e-8 * best.objective
    assert best.held == ()


def test_a_limit_that_needs_the_domain_keeps_it():
    fit = a_law_that_jumps()
    limits = {"caps": {"d1": 0.5, "d2": 0.4}}
    assert mj.optimal_mixture(fit, **AT, **limits).weights["d0"] > 0.09
    grouped = {"groups": {"some": ["d0", "d1"]}, "floors": {"some": 0.6}, "caps": {"d1": 0.5}}
    assert mj.optimal_mixture(fit, **AT, **grouped).weights["d0"] > 0.09


def test_few_domains_cost_what_they_cost():
    fit = a_law_that_jumps()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mj.MixjaxWarning)
        fewer = mj.mixture.at_most_domains(mj.Question(fit, **AT), 2)
    assert fewer.cost == 0
    assert fewer.free.objective == fewer.mixture.objective
    assert "d0" not in fewer.domains
