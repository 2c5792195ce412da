"""Numbers that a user gives by name (weights, caps, floors -> LIMITS): put in order and checked."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixjax.errors import UserError

Floats = NDArray[np.float64]


def by_name(given: Mapping[str, float] | None, names: Sequence[str], where: str, default: float) -> Floats:
    """The given numbers in the order of the names, the default where there is none."""
    given = given or {}
    check_names(given, names, where)
    return np.array([number(given.get(name, default), f"{where}, {name!r}", "a number") for name in names])


def check_names(given: Iterable[str], names: Sequence[str], where: str) -> None:
    """Refuse a name that is not one of the names, and offer the nearest."""
    for name in given:
        if name not in names:
            near = difflib.get_close_matches(str(name), names, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise UserError(where, f"no {'target' if where == 'weights' else 'domain'} {name!r}", f"{hint}choose from {', '.join(names)}")


def number(value: Any, where: str, what: str) -> float:
    """A finite float."""
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = np.nan
    if not np.isfinite(found):
        raise UserError(where, f"{value!r} is not {what}", f"give {what}")
    return found
