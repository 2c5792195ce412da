"""Splits and resamples: whole clusters, nothing twice, the same whatever the order of asking."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixjax.data.runs import Runs, read_runs
from mixjax.data.splits import clusters, make_folds, resample
from mixjax.errors import UserError


def table(mixtures: int, sizes: int, checkpoints: int, run: bool = True) -> Runs:
    rng = np.random.default_rng(0)
    h = rng.dirichlet(np.ones(3), mixtures)
    rows = [
        (1e8 * 2**s, 1e9 * (s + 1) * c, f"m{m}s{s}", *h[m], 3.0 + 0.1 * rng.random())
        for m in range(mixtures)
        for s in range(sizes)
        for c in range(1, checkpoints + 1)
    ]
    frame = pd.DataFrame(rows, columns=["N", "D", "run", "h_a", "h_b", "h_c", "loss_x"])
    return read_runs(frame if run else frame.drop(columns="run"))


SIZES = st.tuples(st.integers(2, 8), st.integers(2, 4), st.integers(1, 4))


@given(SIZES, st.sampled_from(["mixture", "run"]), st.integers(0, 5), st.data())
def test_folds_hold_out_every_cluster_once_and_whole(size, by, seed, data):
    runs = table(*size)
    of = clusters(runs, by)
    number = data.draw(st.sampled_from([None, 0, *range(2, of.max() + 2)]))
    folds = make_folds(runs, by, number, seed)
    held = np.array([f.held_out for f in folds])
    assert (held.sum(axis=0) == 1).all()
    assert len(folds) == (min(5, of.max() + 1) if number is None else number or of.max() + 1)
    for c in range(of.max() + 1):
        assert len(np.unique(held[:, of == c], axis=1).T) == 1
    per_fold = [len(np.unique(of[h])) for h in held]
    assert max(per_fold) - min(per_fold) <= 1
    assert all((f.weights == ~f.held_out).all() for f in folds)


@given(SIZES, st.sampled_from(["N", "D"]), st.floats(0.01, 0.99))
def test_the_largest_values_are_held_out_and_no_more_than_the_share(size, by, share):
    runs = table(*size)
    (fold,) = make_folds(runs, by, share=share)
    counts = getattr(runs, by)
    held = fold.held_out
    assert 0 < held.sum() < len(runs)
    assert counts[held].min() > counts[~held].max()
    one_value = len(np.unique(counts[held])) == 1
    assert one_value or held.mean() <= share
    below = counts[~held].max()
    assert len(np.unique(counts[~held])) == 1 or (counts >= below).mean() > share


@given(
    SIZES,
    st.sampled_from(["mixture", "run"]),
    st.sampled_from(["exponential", "counts"]),
    st.integers(0, 3),
)
def test_rows_of_a_cluster_share_their_weight_and_resamples_do_not_depend_on_their_number(
    size, by, draw, seed
):
    runs = table(*size)
    weights = resample(runs, 5, by, seed, draw)
    of = clusters(runs, by)
    for c in range(of.max() + 1):
        assert (np.ptp(weights[:, of == c], axis=1) == 0).all()
    assert (weights >= 0).all()
    np.testing.assert_array_equal(weights[:3], resample(runs, 3, by, seed, draw))
    assert not np.array_equal(weights, resample(runs, 5, by, seed + 1, draw))
    if draw == "counts":
        first = [int(np.argmax(of == c)) for c in range(of.max() + 1)]
        assert (weights[:, first].sum(axis=1) == of.max() + 1).all()


def test_weights_have_mean_and_variance_one():
    weights = resample(table(8, 4, 1), 2000)
    assert abs(weights.mean() - 1) < 0.02
    assert abs(weights.var() - 1) < 0.05


def test_clusters_by_run_need_no_ids():
    with_ids, without = table(5, 3, 4), table(5, 3, 4, run=False)
    np.testing.assert_array_equal(clusters(with_ids, "run"), clusters(without, "run"))
    assert clusters(with_ids, "mixture").max() == 4


def test_a_row_without_an_id_is_a_run_of_its_own():
    frame = pd.DataFrame(
        {
            "N": [1e8, 1e8, 1e8, 1e8],
            "D": [1e9, 2e9, 3e9, 4e9],
            "run": ["a", None, "a", None],
            "loss_x": [3.0, 2.9, 2.8, 2.7],
        }
    )
    np.testing.assert_array_equal(clusters(read_runs(frame), "run"), [0, 1, 0, 2])


@pytest.mark.parametrize(
    ("by", "folds", "message"),
    [
        ("N", 3, "folds go with mixture or run"),
        ("mixture", 1, "give 2 to 4"),
        ("run", 99, "give 2 to 8"),
        ("size", None, "no split by 'size'"),
    ],
)
def test_what_cannot_be_split_is_refused(by, folds, message):
    with pytest.raises(UserError, match=message):
        make_folds(table(4, 2, 2), by, folds)


def test_tables_without_the_column_or_with_one_value_are_refused():
    frame = pd.DataFrame({"D": [1e9, 2e9], "loss_x": [3.0, 2.9]})
    runs = read_runs(frame)
    with pytest.raises(UserError, match="no column N"):
        make_folds(runs, "N")
    with pytest.raises(UserError, match="has no mixtures"):
        make_folds(runs, "mixture")
    with pytest.raises(UserError, match="has one D only"):
        make_folds(read_runs(frame.assign(D=1e9, loss_x=[3.0, 2.9])), "D")
    with pytest.raises(UserError, match="has one run only"):
        resample(read_runs(frame.assign(run="a")), 10)
