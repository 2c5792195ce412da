"""Designed mixtures: constraints hold exactly, and they fill the simplex better than random
ones."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixjax.data.design import design_mixtures
from mixjax.errors import UserError

ABC = ["a", "b", "c"]


def names(k):
    return [f"d{i}" for i in range(k)]


def closest_pair(points):
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    return distances[~np.eye(len(points), dtype=bool)].min()


def covering_radius(points, probes):
    squared = np.full(len(probes), np.inf)
    for point in points:
        squared = np.minimum(squared, np.sum((probes - point) ** 2, axis=1))
    return np.sqrt(squared.max())


@settings(max_examples=40)
@given(
    k=st.integers(2, 64),
    n=st.integers(1, 30),
    share=st.floats(0, 0.99),
    seed=st.integers(0, 5),
    tilted=st.booleans(),
)
def test_rows_are_mixtures_above_the_minimum(k, n, share, seed, tilted):
    minimum = share / k
    # A prior between uniform and the minimum, so that it is above it whatever was drawn.
    prior = (
        {d: 1 / k + (1 / k - minimum) * 0.5 * (-1) ** i for i, d in enumerate(names(k))}
        if tilted
        else None
    )
    table = design_mixtures(names(k), n, minimum, prior, seed)
    h = table.to_numpy()
    assert list(table.columns) == [f"h_d{i}" for i in range(k)]
    assert h.shape == (n, k)
    np.testing.assert_allclose(h.sum(axis=1), 1, rtol=0, atol=1e-12)
    assert (h >= minimum).all()
    assert len(np.unique(h, axis=0)) == n


# Few domains and many, few points and many; the paper's own k = 7, n = 60.
@pytest.mark.parametrize(
    ("k", "n"), [(2, 10), (3, 10), (3, 17), (5, 40), (7, 60), (17, 64), (17, 400), (64, 200)]
)
@pytest.mark.parametrize("minimum", [0.0, 0.01])
def test_fills_the_simplex_better_than_random_mixtures(k, n, minimum):
    rng = np.random.default_rng(1)
    reach = 1 - k * minimum
    probes = minimum + reach * rng.dirichlet(np.ones(k), 4000)
    designed = design_mixtures(names(k), n, minimum).to_numpy()
    random = [minimum + reach * rng.dirichlet(np.ones(k), n) for _ in range(5)]
    assert closest_pair(designed) > 1.3 * max(closest_pair(points) for points in random)
    assert covering_radius(designed, probes) < min(
        covering_radius(points, probes) for points in random
    )


@pytest.mark.parametrize(("n", "m"), [(6, 2), (15, 4), (21, 5)])
def test_a_full_lattice_is_the_papers_grid(n, m):
    h = design_mixtures(ABC, n, minimum=0.1).to_numpy()
    steps = (h - 0.1) / 0.7 * m
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-12)
    np.testing.assert_allclose(closest_pair(h), 0.7 * np.sqrt(2) / m, rtol=1e-12)


def test_two_domains_are_evenly_spaced():
    np.testing.assert_allclose(
        design_mixtures(["a", "b"], 5)["h_a"], [0, 0.25, 0.5, 0.75, 1], atol=1e-15
    )


def test_one_point_is_the_centroid_or_the_prior():
    np.testing.assert_allclose(
        design_mixtures(ABC, 1, 0.1).to_numpy(), np.full((1, 3), 1 / 3), rtol=1e-14
    )
    np.testing.assert_allclose(
        design_mixtures(ABC, 1, 0.1, {"a": 60, "b": 25, "c": 15}).to_numpy(),
        [[0.6, 0.25, 0.15]],
        rtol=1e-14,
    )


def test_first_rows_are_a_smaller_design():
    sizes = (5, 11, 23)  # no lattices
    designs = [design_mixtures(names(6), n, 0.02).to_numpy() for n in sizes]
    for small, large in pairwise(designs):
        np.testing.assert_array_equal(large[: len(small)], small)


def test_seeded():
    assert design_mixtures(names(5), 12, seed=3).equals(design_mixtures(names(5), 12, seed=3))
    assert not design_mixtures(names(5), 12, seed=3).equals(design_mixtures(names(5), 12, seed=4))


def test_a_prior_tilts_the_design_and_its_scale_does_not_matter():
    shares, tokens = (
        {d: c * x for d, x in zip(names(4), (0.7, 0.15, 0.1, 0.05), strict=True)}
        for c in (1.0, 3e12)
    )
    h = design_mixtures(names(4), 30, prior=shares)
    np.testing.assert_allclose(h, design_mixtures(names(4), 30, prior=tokens), rtol=1e-12)
    means = h.mean().to_numpy()
    assert (np.diff(means) < 0).all()
    np.testing.assert_allclose(
        h, design_mixtures(names(4), 30, prior=dict(reversed(shares.items()))), rtol=1e-12
    )


def test_dirichlet_designs_have_their_moments():
    prior = {"a": 60, "b": 25, "c": 15}
    share, minimum, concentration = np.array([0.6, 0.25, 0.15]), 0.05, 2.0
    h = design_mixtures(ABC, 20_000, minimum, prior, seed=1, concentration=concentration).to_numpy()
    assert h.min() >= minimum
    np.testing.assert_allclose(h.sum(axis=1), 1.0, atol=1e-12)
    above = (share - minimum) / (1 - 3 * minimum)
    np.testing.assert_allclose(h.mean(axis=0), share, atol=0.005)
    variance = above * (1 - above) / (3 * concentration + 1)
    np.testing.assert_allclose(((h - minimum) / (1 - 3 * minimum)).var(axis=0), variance, rtol=0.03)


def test_dirichlet_designs_are_seeded_and_nested():
    small, large = (design_mixtures(ABC, n, seed=4, concentration=0.5) for n in (5, 9))
    assert large[:5].equals(small)
    assert not small.equals(design_mixtures(ABC, 5, seed=5, concentration=0.5))
    assert not small.equals(design_mixtures(ABC, 5, seed=4))


def test_all_the_minimum_there_is():
    np.testing.assert_allclose(design_mixtures(["a", "b"], 1, 0.5).to_numpy(), [[0.5, 0.5]])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"domains": ["a"]}, "domains: 1 given; name at least 2"),
        ({"domains": "web"}, "domains: 1 given; name at least 2"),
        ({"domains": []}, "domains: 0 given"),
        ({"domains": ["a", "b", "a"]}, "'a' is named twice"),
        ({"domains": ["a", " "]}, "a name is empty"),
        ({"n": 0}, "n: 0 is not a whole number"),
        ({"n": -3}, "n: -3 is not"),
        ({"n": 2.5}, "n: 2.5 is not"),
        ({"n": np.nan}, "n: nan is not"),
        ({"minimum": -0.1}, "minimum: -0.1 is not a share"),
        ({"minimum": np.nan}, "minimum: nan is not a share"),
        (
            {"minimum": 0.4},
            "minimum: 3 domains of at least 0.4 each leave nothing to vary; give less than 1/3",
        ),
        ({"domains": ["a", "b"], "minimum": 0.5}, "leave nothing to vary"),
        ({"concentration": 0.0}, "concentration: 0.0 is not a positive number"),
        ({"concentration": np.inf}, "concentration: inf is not"),
        ({"prior": {"a": 1, "b": 1}}, "prior: domain 'c' is not in both"),
        ({"prior": {"a": 1, "b": 1, "c": 1, "x": 1}}, "prior: domain 'x' is not in both"),
        ({"prior": {"a": 1, "b": 1, "c": 0}}, "prior: a share is not a positive number"),
        ({"prior": {"a": 1, "b": 1, "c": np.nan}}, "prior: a share is not a positive number"),
        (
            {"prior": {"a": 90, "b": 5, "c": 5}, "minimum": 0.05},
            "prior: share 0.05 of 'b' is not above the minimum 0.05",
        ),
    ],
)
def test_mistakes_are_told_in_one_line(arguments, message):
    with pytest.raises(UserError) as caught:
        design_mixtures(**({"domains": ABC, "n": 4} | arguments))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
