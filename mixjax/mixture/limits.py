"""Numbers that a user gives by name (weights, caps, floors, groups -> LIMITS): put in order and
checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixjax.errors import UserError, check_names
from mixjax.mixture.box import ROUNDING, Box, Groups, check_box

Floats = NDArray[np.float64]
# Domains of each group.
Named = Mapping[str, Sequence[str]]


def make_box(
    domains: Sequence[str],
    caps: Mapping[str, float] | None = None,
    floors: Mapping[str, float] | None = None,
    groups: Named | None = None,
    fixed: Mapping[str, float] | None = None,
) -> Box:
    """The set of mixtures within these limits, once it is known not to be empty.

    Args:
        caps, floors: {domain or group: share}, from 0 to 1; 1 and 0 where not named.
        groups: {name: domains}; disjoint. A cap or floor of a group is one of the sum of its
            shares.
        fixed: {domain or group: share}: its cap and its floor.

    Raises:
        UserError: a name that is unknown, or of a group and a domain; groups that overlap or are
            empty; limits that contradict each other.
    """
    groups = check_groups(groups, domains)
    names = [*domains, *groups]
    low, high = by_name(floors, names, "floors", 0.0), by_name(caps, names, "caps", 1.0)
    held = by_name(fixed, names, "fixed", np.inf) if fixed else np.full(len(names), np.inf)
    for name, share, floor, cap in zip(names, held, low, high, strict=True):
        if np.isfinite(share) and not floor - ROUNDING <= share <= cap + ROUNDING:
            side, limit = ("above its cap", cap) if share > cap else ("below its floor", floor)
            raise UserError(
                f"fixed share of {name!r}",
                f"{share:g} is {side} {limit:g}",
                "fix it at another share, or give it no limit",
            )
    _check_fixed(held, len(domains))
    low, high = (np.where(np.isfinite(held), held, side) for side in (low, high))
    return check_box(split_box(low, high, groups, domains), domains, groups)


def _check_fixed(held: Floats, k: int) -> None:
    """Refuse fixed shares (domains and then groups,), infinite where there is none, that cannot be
    those of a mixture."""
    for part in (held[:k], held[k:]):
        total = float(part[np.isfinite(part)].sum())
        if total > 1.0 + ROUNDING:
            raise UserError(
                "fixed shares", f"they sum to {total:g}, above 1: no mixture has them", "fix less"
            )
    if np.isfinite(held[:k]).all() and held[:k].sum() < 1.0 - ROUNDING:
        raise UserError(
            "fixed shares",
            f"those of all domains sum to {held[:k].sum():g}, below 1: no mixture has them",
            "leave one domain free",
        )


def split_box(floors: Floats, caps: Floats, groups: Named, domains: Sequence[str]) -> Box:
    """Bounds (..., domains and then groups) as a box."""
    k = len(domains)
    if not groups:
        return Box(floors, caps)
    member = np.array([[d in inside for d in domains] for inside in groups.values()])
    shape = (*np.shape(floors)[:-1], *member.shape)
    return Box(
        floors[..., :k],
        caps[..., :k],
        Groups(np.broadcast_to(member, shape), floors[..., k:], caps[..., k:]),
    )


def check_groups(groups: Named | None, domains: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """{name: domains}, once the groups are known to be disjoint sets of domains."""
    found: dict[str, tuple[str, ...]] = {}
    for name, inside in (groups or {}).items():
        if isinstance(inside, str) or not inside:
            raise UserError(
                f"group {name!r}", f"{inside!r} are not names of domains", "give a list of them"
            )
        if name in domains:
            raise UserError(f"group {name!r}", "has the name of a domain", "call it something else")
        check_names(inside, domains, f"group {name!r}")
        if len(set(inside)) < len(inside):
            raise UserError(f"group {name!r}", "names a domain twice", "name each once")
        for other, taken in found.items():
            common = next((d for d in inside if d in taken), None)
            if common is not None:
                raise UserError(
                    f"group {name!r}",
                    f"shares {common!r} with group {other!r}",
                    "give disjoint groups: a domain may be in one only",
                )
        found[str(name)] = tuple(inside)
    return found


def at_bounds(h: Floats, box: Box, domains: Sequence[str], groups: Named | None) -> dict[str, str]:
    """{domain or group: "cap" or "floor"} of those at a cap below 1 or a floor above 0."""
    names, shares, floors, caps = list(domains), list(h), list(box.floors), list(box.caps)
    if box.groups is not None:
        names += list(groups or {})
        sums = [float(h[np.asarray(m)].sum()) for m in box.groups.member]
        for share, floor, cap in zip(sums, box.groups.floors, box.groups.caps, strict=True):
            near = next((limit for limit in (cap, floor) if abs(share - limit) <= ROUNDING), share)
            shares, floors, caps = [*shares, near], [*floors, floor], [*caps, cap]
    at = {
        d: "cap"
        for d, share, cap in zip(names, shares, caps, strict=True)
        if share >= cap and cap < 1
    }
    return at | {
        d: "floor"
        for d, share, floor in zip(names, shares, floors, strict=True)
        if share <= floor and floor > 0
    }


def by_name(
    given: Mapping[str, float] | None, names: Sequence[str], where: str, default: float
) -> Floats:
    """The given numbers in the order of the names, the default where there is none."""
    given = given or {}
    check_names(given, names, where)
    return np.array(
        [
            number(given[name], f"{where}, {name!r}", "a number") if name in given else default
            for name in names
        ]
    )


def number(value: Any, where: str, what: str) -> float:
    """A finite float."""
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = np.nan
    if not np.isfinite(found):
        raise UserError(where, f"{value!r} is not {what}", f"give {what}")
    return found
