"""Layouts: every row sits in its cell, whatever the layout; the cheaper layout is taken; padding is
bounded."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mixjax.fitting.problem import make_design, predicted_cost


def table(mixture, scale, k=3, seed=0):
    """h (rows, k), log_n, log_d (rows,) of rows that take the given mixtures and scales by
    number."""
    rng = np.random.default_rng(seed)
    h = rng.dirichlet(np.ones(k), 1 + max(mixture))[mixture]
    log_n, log_d = rng.normal(size=(2, 1 + max(scale)))
    return h, log_n[scale], log_d[scale]


def slimpajama_like(k=7):
    """60, 40, 40 and 20 mixtures at four sizes, nine token counts at each (1374 rows there, a few
    are missing)."""
    cells = [
        (m, 9 * size + step)
        for size, count in enumerate((60, 40, 40, 20))
        for m in range(count)
        for step in range(9)
    ]
    return table(*(list(column) for column in zip(*cells, strict=True)), k=k)


def where(design):
    """What the design says that each row is: h (rows, k), log_n, log_d (rows,)."""
    m, p = design.mixture_of, design.cell_of
    return design.mixtures[m], *(
        np.broadcast_to(x, design.shape)[m, p] for x in (design.log_n, design.log_d)
    )


cells = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 9)), min_size=1, max_size=60)


@given(cells=cells, k=st.sampled_from([0, 2, 5]))
def test_every_row_is_in_its_cell(cells, k):
    mixture, scale = (list(column) for column in zip(*cells, strict=True))
    rows = (
        table(mixture, scale, k) if k else (np.empty((len(cells), 0)), *table(mixture, scale)[1:])
    )
    once = k > 0 and len(set(cells)) == len(cells)
    for layout in (None, "ragged", *(["grid"] if once else [])):
        design = make_design(*rows, layout=layout)
        for got, expected in zip(where(design), rows, strict=True):
            np.testing.assert_array_equal(got, expected)
        assert len({(m, p) for m, p in zip(design.mixture_of, design.cell_of, strict=True)}) == len(
            cells
        )
        assert np.isfinite(design.log_n).all()
        assert np.isfinite(design.log_d).all()


@given(cells=cells, leading=st.sampled_from([(), (2,), (2, 3)]))
def test_cells_hold_the_rows_and_nothing_else(cells, leading):
    design = make_design(*table(*(list(column) for column in zip(*cells, strict=True))))
    values = np.random.default_rng(0).uniform(1, 2, (*leading, len(cells)))
    got = design.cells(values)
    assert got.shape == (*leading, *design.shape)
    np.testing.assert_array_equal(got[..., design.mixture_of, design.cell_of], values)
    assert np.count_nonzero(got) == values.size


@given(cells=cells)
def test_a_ragged_mixture_is_listed_whole(cells):
    """The distinct mixtures of the design are those of the table, however often they are listed."""
    h, log_n, log_d = table(*(list(column) for column in zip(*cells, strict=True)))
    design = make_design(h, log_n, log_d, "ragged")
    np.testing.assert_array_equal(np.unique(design.mixtures, axis=0), np.unique(h, axis=0))


@settings(max_examples=60)
@given(
    counts=st.lists(st.integers(1, 80), min_size=1, max_size=30), k=st.sampled_from([1, 3, 17, 64])
)
@example(counts=[30, *[1] * 10], k=64)
@example(counts=[1, *[5] * 10], k=64)
def test_padding_never_exceeds_the_rows(counts, k):
    mixture = np.repeat(np.arange(len(counts)), counts)
    design = make_design(*table(mixture, np.arange(len(mixture)), k), "ragged")
    assert len(mixture) <= np.prod(design.shape) <= 2 * len(mixture)


@pytest.mark.parametrize("k", [2, 7, 40])
def test_the_papers_table_is_a_grid(k):
    design = make_design(*slimpajama_like(k))
    assert design.layout == "grid"
    assert design.shape == (60, 36)
    assert design.log_n.shape == (1, 36)


def test_scattered_scales_are_ragged():
    rng = np.random.default_rng(0)
    design = make_design(
        rng.dirichlet(np.ones(4), 30)[np.arange(240) % 30], *rng.normal(size=(2, 240))
    )
    assert design.layout == "ragged"
    assert design.shape == (30, 8)


def test_chinchillas_table_is_one_mixture():
    rng = np.random.default_rng(0)
    for h in (np.empty((240, 0)), np.ones((240, 1)), np.tile([0.2, 0.8], (240, 1))):
        log_n, log_d = rng.normal(size=(2, 240))
        assert make_design(h, log_n, log_d).shape == (1, 240)
        again = np.r_[:240, 3]  # a repeated row makes it ragged
        assert make_design(h[again], log_n[again], log_d[again]).shape == (1, 241)


def test_one_row_per_mixture_at_one_scale_is_one_column():
    design = make_design(
        np.random.default_rng(0).dirichlet(np.ones(17), 512), np.zeros(512), np.zeros(512)
    )
    assert design.shape == (512, 1)


def test_repeated_rows_need_the_ragged_layout():
    rows = table([0, 0, 1, 1, 1], [0, 0, 0, 1, 1])
    assert make_design(*rows).layout == "ragged"
    with pytest.raises(ValueError, match="rows repeat"):
        make_design(*rows, layout="grid")


@given(cells=cells.map(lambda cells: sorted(set(cells))), k=st.sampled_from([2, 40]))
def test_the_cheaper_layout_is_taken(cells, k):
    rows = table(*(list(column) for column in zip(*cells, strict=True)), k=k)
    assert predicted_cost(make_design(*rows)) == min(
        predicted_cost(make_design(*rows, layout=layout)) for layout in ("grid", "ragged")
    )


def test_predicted_cost_grows_with_everything():
    small = predicted_cost(make_design(*table([0, 1], [0, 1])))
    assert small < predicted_cost(make_design(*table([0, 1], [0, 1], k=5)))
    assert small < predicted_cost(make_design(*table([0, 1, 2], [0, 1, 1])))
