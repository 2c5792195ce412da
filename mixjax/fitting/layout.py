"""Runs -> DESIGN -> objective: distinct mixtures and scales, and how rows are cells of a small
dense table.

A table of runs has few distinct mixtures and many rows. The design lists each mixture once and
lays its rows along a second axis of `cells`, so that everything transcendental is computed per
mixture or per scale, and a row costs two multiply-adds and a clip. Two layouts, one code path:

- grid: cell (m, p) is mixture m at the p-th distinct scale (N, D); scales are shared by all
  mixtures, log_n and log_d are (1, cells);
- ragged: cell (m, p) is the p-th row of mixture m; log_n and log_d are (mixtures, cells). A mixture
  with very many rows is listed several times, so that padding never exceeds the rows.

Cells without a row have weight 0. The cheaper layout is chosen by predicted cost.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

# Cost of one cell: multiply-adds and the clip, against a scale's exponential and a mixture's
# powers, in the same unit (recorded in benchmarks/NOTES.md; only the ratios matter).
_CELL, _EXP, _POWER = 1.0, 4.0, 5.0


@dataclass(frozen=True)
class Design:
    """Distinct mixtures and scales of a table, and where each row sits.

    Attributes:
        mixtures: domain weights (mixtures, k).
        log_n, log_d: log of N and D over their units, (1, cells) or (mixtures, cells).
        mixture_of, cell_of: the cell of each row, (rows,).
        layout: "grid" or "ragged".
    """

    mixtures: Floats
    log_n: Floats
    log_d: Floats
    mixture_of: Ints
    cell_of: Ints
    layout: str

    @property
    def shape(self) -> tuple[int, int]:
        """(mixtures, cells)."""
        return len(self.mixtures), self.log_n.shape[1]

    def cells(self, rows: Floats) -> Floats:
        """Row values (..., rows) added up in their cells (..., mixtures, cells); empty cells are
        0."""
        mixtures, cells = self.shape
        out = np.zeros((mixtures * cells, *rows.shape[:-1]))
        np.add.at(out, self.mixture_of * cells + self.cell_of, np.moveaxis(rows, -1, 0))
        return np.moveaxis(out, 0, -1).reshape(*rows.shape[:-1], mixtures, cells)


def make_design(h: Floats, log_n: Floats, log_d: Floats, layout: str | None = None) -> Design:
    """Lay out rows with domain weights h (rows, k) and scales log_n, log_d (rows,).

    Args:
        layout: "grid" or "ragged"; None takes the one with the lower predicted cost. A grid needs
            every (mixture, scale) to occur once at most.
    """
    mixtures, mixture_of = np.unique(h, axis=0, return_inverse=True)
    scales, scale_of = np.unique(np.stack([log_n, log_d], axis=1), axis=0, return_inverse=True)
    mixture_of, scale_of = mixture_of.reshape(-1), scale_of.reshape(-1)
    grid = _grid(mixtures, scales, mixture_of, scale_of)
    ragged = _ragged(mixtures, mixture_of, log_n, log_d)
    once = len(np.unique(mixture_of * len(scales) + scale_of)) == len(h)
    if layout is None:
        layout = "grid" if once and predicted_cost(grid) <= predicted_cost(ragged) else "ragged"
    if layout == "grid" and not once:
        raise ValueError("a grid needs every (mixture, N, D) at most once: rows repeat")
    return grid if layout == "grid" else ragged


def predicted_cost(design: Design) -> float:
    """Predicted cost of one evaluation, in units of one cell's arithmetic."""
    mixtures, cells = design.shape
    return _CELL * mixtures * cells + _EXP * 2 * design.log_n.size + _POWER * design.mixtures.size


def _grid(mixtures: Floats, scales: Floats, mixture_of: Ints, scale_of: Ints) -> Design:
    return Design(mixtures, scales[None, :, 0], scales[None, :, 1], mixture_of, scale_of, "grid")


def _ragged(mixtures: Floats, mixture_of: Ints, log_n: Floats, log_d: Floats) -> Design:
    counts = np.bincount(mixture_of, minlength=len(mixtures))
    width = _best_width(counts, mixtures.shape[1])
    order = np.argsort(mixture_of, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    lists = -(-counts // width)
    first = np.cumsum(lists) - lists
    m, p = first[mixture_of] + rank // width, rank % width
    # Padded cells repeat a scale of the table: finite, and weighted 0.
    wide_n, wide_d = (
        np.full((lists.sum(), width), log_n[0]),
        np.full((lists.sum(), width), log_d[0]),
    )
    wide_n[m, p], wide_d[m, p] = log_n, log_d
    return Design(np.repeat(mixtures, lists, axis=0), wide_n, wide_d, m, p, "ragged")


def _best_width(counts: Ints, k: int) -> int:
    """Rows per listed mixture that costs least: wide pads short mixtures, narrow repeats long ones.

    Widths that would pad with more cells than there are rows are out; width 1 pads with none.
    """

    def lists(width: int) -> int:
        return int(np.sum(-(-counts // width)))

    def cost(width: int) -> float:
        return lists(width) * (width * (_CELL + 2 * _EXP) + _POWER * k)

    powers = 2 ** np.arange(int(counts.max()).bit_length())
    widths = [int(w) for w in np.union1d(counts, powers)]
    return min((w for w in widths if lists(w) * w <= 2 * counts.sum()), key=lambda w: (cost(w), -w))
