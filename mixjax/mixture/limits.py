"""Limits that a user gives by name (caps, floors, groups, tokens -> LIMITS -> box): put in order,
checked, and told apart again at an answer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixjax.errors import UserError, check_names
from mixjax.mixture.box import ROUNDING, Box, Groups, check_box, extent

Floats = NDArray[np.float64]
# Domains of each group.
GroupNames = Mapping[str, Sequence[str]]
# A share this near to a limit is at it: sums of shares in decimals miss by rounding.
NEAR = 1e-9


def make_box(
    domains: Sequence[str],
    caps: Mapping[str, float] | None = None,
    floors: Mapping[str, float] | None = None,
    groups: GroupNames | None = None,
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


def split_box(floors: Floats, caps: Floats, groups: GroupNames, domains: Sequence[str]) -> Box:
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


def check_groups(groups: GroupNames | None, domains: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """{name: domains}, once the groups are known to be disjoint sets of domains."""
    checked: dict[str, tuple[str, ...]] = {}
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
        for other, taken in checked.items():
            common = next((d for d in inside if d in taken), None)
            if common is not None:
                raise UserError(
                    f"group {name!r}",
                    f"shares {common!r} with group {other!r}",
                    "give disjoint groups: a domain may be in one only",
                )
        checked[str(name)] = tuple(inside)
    return checked


# --- Where an answer lies within them ------------------------------------------------------------


def at_bounds(
    h: Floats, box: Box, domains: Sequence[str], groups: GroupNames | None
) -> dict[str, str]:
    """{domain or group: "cap" or "floor"} of those at a cap below 1 or a floor above 0."""
    names, shares, floors, caps = _with_groups(h, box, domains, groups)
    at_cap = (shares >= caps - NEAR) & (caps < 1)
    at_floor = (shares <= floors + NEAR) & (floors > 0)
    sides = {name: "cap" for name, at in zip(names, at_cap, strict=True) if at}
    return sides | {name: "floor" for name, at in zip(names, at_floor, strict=True) if at}


def check_within(
    h: Floats, box: Box, domains: Sequence[str], groups: GroupNames | None, where: str
) -> None:
    """Refuse a mixture h (k,) that breaks a limit, of a domain or of a group.

    Raises:
        UserError: at `where`, with the share and its limits.
    """
    for name, share, floor, cap in zip(*_with_groups(h, box, domains, groups), strict=True):
        if not floor - NEAR <= share <= cap + NEAR:
            raise UserError(
                where,
                f"{name!r} has {share:.4g}, outside its limits {floor:.4g} to {cap:.4g}",
                "move the limits, or begin from another mixture",
            )


def _with_groups(
    h: Floats, box: Box, domains: Sequence[str], groups: GroupNames | None
) -> tuple[list[str], Floats, Floats, Floats]:
    """Names, shares, floors and caps of the domains and then of the groups."""
    names, h = list(domains), np.asarray(h, dtype=np.float64)
    sides = [h, np.asarray(box.floors), np.asarray(box.caps)]
    if box.groups is not None:
        names += list(groups or {})
        sums = np.asarray(box.groups.member) @ h
        more = (sums, np.asarray(box.groups.floors), np.asarray(box.groups.caps))
        sides = [np.concatenate(pair) for pair in zip(sides, more, strict=True)]
    return names, sides[0], sides[1], sides[2]


def share_range(box: Box) -> tuple[Floats, Floats]:
    """The least and the most (k,) that each domain can have in a box that some mixture meets.

    A domain is bounded by its own limits, by what its group leaves it beside the floors (caps) of
    the other members, and by what the rest of the mixture must (can) have.
    """
    floors, caps = np.asarray(box.floors), np.asarray(box.caps)
    least, most = (float(side) for side in extent(box))
    low_block, high_block, low_others, high_others = floors, caps, 0 * floors, 0 * caps
    low, high = floors, caps
    if box.groups is not None:
        member, group_floors, group_caps = (np.asarray(x) for x in box.groups)
        for inside, floor, cap in zip(member, group_floors, group_caps, strict=True):
            total_low, total_high = floors[inside].sum(), caps[inside].sum()
            low_block = np.where(inside, max(total_low, floor), low_block)
            high_block = np.where(inside, min(total_high, cap), high_block)
            low_others = np.where(inside, total_low - floors, low_others)
            high_others = np.where(inside, total_high - caps, high_others)
            low = np.where(inside, np.maximum(low, floor - high_others), low)
            high = np.where(inside, np.minimum(high, cap - low_others), high)
    low = np.maximum(low, 1.0 - (most - high_block) - high_others)
    high = np.minimum(high, 1.0 - (least - low_block) - low_others)
    low = np.clip(low, floors, caps)
    return low, np.clip(high, low, caps)


# --- What there is to train on -------------------------------------------------------------------


def token_caps(
    tokens: Mapping[str, float],
    epochs: float | Mapping[str, float],
    D: ArrayLike,
    domains: Sequence[str],
) -> dict[str, Any]:
    """{domain: largest share (...,) that keeps it within its supply}, at D (...,) tokens of a run.

    cap_i = min(tokens_i * epochs_i / D, 1)
    """
    limit = {
        d: np.minimum(supply * _passes(epochs, d) / np.asarray(D, dtype=np.float64), 1.0)
        for d, supply in tokens.items()
    }
    return {d: limit[d] for d in domains if d in limit}


def check_tokens(
    tokens: Mapping[str, float] | None, epochs: float | Mapping[str, float], domains: Sequence[str]
) -> None:
    """Refuse a supply or numbers of epochs that are none.

    Raises:
        UserError: an unknown domain, tokens that are not a count, epochs that are not positive.
    """
    check_names(tokens or {}, domains, "tokens", "domain")
    if isinstance(epochs, Mapping):
        check_names(epochs, domains, "epochs", "domain")
    for domain, supply in (tokens or {}).items():
        count = number(supply, f"tokens of {domain!r}", "a count")
        if count < 0:
            raise UserError(
                f"tokens of {domain!r}",
                f"{count:g} is not a count",
                "give the tokens available, e.g. 4e9",
            )
    for passes in epochs.values() if isinstance(epochs, Mapping) else (epochs,):
        if not (math.isfinite(passes) and passes > 0):
            raise UserError(
                "epochs",
                f"{passes:g} is not a positive number",
                "give the largest number of passes, e.g. 4",
            )


def caps_from_tokens(
    tokens: Mapping[str, float] | None,
    D: float | None,
    domains: Sequence[str],
    epochs: float | Mapping[str, float] = 1.0,
    caps: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """Caps {domain: share} that keep every domain within its supply, and within `caps` where those
    are lower.

        cap_i = min(tokens_i * epochs_i / D, 1)

    Args:
        tokens: {domain: tokens available}, counts, not negative; domains that are not named are not
            limited.
        D: tokens of the run to come, a count.
        domains: of the fit.
        epochs: how often the tokens of a domain may be seen: one number, or {domain: number} with 1
            where not named.
        caps: other caps.

    Raises:
        UserError: an unknown domain, a supply or a number of epochs that is not one, D missing, or
            too few tokens for D.
    """
    merged = dict(caps or {})
    if not tokens:
        return merged
    if D is None:
        raise UserError("tokens", "D is missing", "say how many tokens the run has, e.g. -D 150e9")
    check_tokens(tokens, epochs, domains)
    for domain, share in token_caps(tokens, epochs, D, domains).items():
        merged[domain] = min(merged.get(domain, 1.0), float(share))
    total = math.fsum(merged.get(d, 1.0) for d in domains)
    if total < 1.0 - ROUNDING:
        what = f"all domains together allow {total * D:.4g} of the {D:.4g} tokens of the run"
        remedy = "train on fewer tokens, allow more epochs, raise caps, or find more data"
        raise UserError("tokens", what, remedy)
    return merged


def epochs_of(
    weights: Mapping[str, float], tokens: Mapping[str, float] | None, D: float | None
) -> dict[str, float]:
    """How often the tokens of each domain with a known supply are seen, {domain: passes}; infinite
    for a share of nothing."""
    if not tokens or D is None:
        return {}

    def passes(share: float, supply: float) -> float:
        if supply > 0:
            return share * D / supply
        return math.inf if share > 0 else 0.0

    return {d: passes(weights.get(d, 0.0), supply) for d, supply in tokens.items()}


def _passes(epochs: float | Mapping[str, float], domain: str) -> float:
    return epochs.get(domain, 1.0) if isinstance(epochs, Mapping) else epochs


# --- Numbers by name -----------------------------------------------------------------------------


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
        numeric = float(value)
    except (TypeError, ValueError):
        numeric = np.nan
    if not np.isfinite(numeric):
        raise UserError(where, f"{value!r} is not {what}", f"give {what}")
    return numeric
