"""Roots of many functions of one number at once (numbers only): each round asks for one value of
every function still open."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

_ROUNDS = 200


class Bracket(NamedTuple):
    """Ends low, high (n,) of each search, and the function there (n,): of opposite signs, or 0 at
    an end."""

    low: Floats
    high: Floats
    at_low: Floats
    at_high: Floats


def find_roots(
    f: Callable[[Floats, Indices], Floats], bracket: Bracket, tolerance: float
) -> Floats:
    """Points (n,) within `tolerance` of a root of each function.

    False position that halves the value of an end which stays (Illinois), and bisects where two
    rounds together did not halve the bracket: quick on smooth functions, never slower than half the
    speed of bisection.

    Args:
        f: (x (m,), which (m,)) -> (m,): the functions number `which` at x.
        bracket: a change of sign in each.
        tolerance: absolute, on x.

    Source: Dowell and Jarratt 1971.
    """
    low, high, at_low, at_high = (np.array(side, dtype=np.float64) for side in bracket)
    kept = np.zeros(len(low))  # -1, 1: the low, high end has moved last
    before = np.full(len(low), np.inf)  # width two rounds ago
    width = high - low
    for _ in range(_ROUNDS):
        which = np.flatnonzero(((high - low) > 2 * tolerance) & (at_low != 0) & (at_high != 0))
        if not len(which):
            break
        a, b, fa, fb = low[which], high[which], at_low[which], at_high[which]
        with np.errstate(invalid="ignore", over="ignore"):  # a value may be infinite: then bisect
            x = b - fb * (b - a) / (fb - fa)
        slow = (b - a) > 0.5 * before[which]
        x = np.where(slow | ~np.isfinite(x), 0.5 * (a + b), x)
        # A root may sit on an end: step inside by the tolerance, so that the bracket can close on
        # it.
        x = np.clip(x, a + tolerance, b - tolerance)
        before[which], width[which] = width[which], b - a
        y = f(x, which)
        moves_low = np.sign(y) == np.sign(fa)
        at_low[which] = np.where(moves_low, y, np.where(kept[which] == 1, 0.5 * fa, fa))
        at_high[which] = np.where(moves_low, np.where(kept[which] == -1, 0.5 * fb, fb), y)
        low[which], high[which] = np.where(moves_low, x, a), np.where(moves_low, b, x)
        kept[which] = np.where(moves_low, -1.0, 1.0)
        zero = which[y == 0]
        low[zero] = high[zero] = x[y == 0]
    return np.where(at_low == 0, low, np.where(at_high == 0, high, 0.5 * (low + high)))
