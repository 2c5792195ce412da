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
    """The set of mixtures within these limits, which are those of a `Question`.

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
            what = f"{share:g} is {side} {limit:g}"
            remedy = "fix it at another share, or give it no limit"
            raise UserError(f"fixed share of {name!r}", what, remedy)
    _check_fixed(held, len(domains))
    low, high = (np.where(np.isfinite(held), held, side) for side in (low, high))
    return check_box(split_box(low, high, groups, domains), domains, groups)


def _check_fixed(held: Floats, k: int) -> None:
    """Refuse fixed shares (domains and then groups,), infinite where there is none, that cannot be
    those of a mixture."""
    for part in (held[:k], held[k:]):
        total = float(part[np.isfinite(part)].sum())
        if total > 1.0 + ROUNDING:
            what = f"they sum to {total:g}, above 1: no mixture has them"
            raise UserError("fixed shares", what, "fix less")
    if np.isfinite(held[:k]).all() and held[:k].sum() < 1.0 - ROUNDING:
        what = f"those of all domains sum to {held[:k].sum():g}, below 1: no mixture has them"
        raise UserError("fixed shares", what, "leave one domain free")


def split_box(floors: Floats, caps: Floats, groups: GroupNames, domains: Sequence[str]) -> Box:
    """Bounds (..., domains and then groups) as a box."""
    k = len(domains)
    if not groups:
        return Box(floors, caps)
    member = np.array([[d in inside for d in domains] for inside in groups.values()])
    shape = (*np.shape(floors)[:-1], *member.shape)
    inside = Groups(np.broadcast_to(member, shape), floors[..., k:], caps[..., k:])
    return Box(floors[..., :k], caps[..., :k], inside)


def check_groups(groups: GroupNames | None, domains: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """{name: domains}, once the groups are known to be disjoint sets of domains."""
    checked: dict[str, tuple[str, ...]] = {}
    for name, inside in (groups or {}).items():
        where = f"group {name!r}"
        if isinstance(inside, str) or not inside:
            raise UserError(where, f"{inside!r} are not names of domains", "give a list of them")
        if name in domains:
            raise UserError(where, "has the name of a domain", "call it something else")
        check_names(inside, domains, where)
        if len(set(inside)) < len(inside):
            raise UserError(where, "names a domain twice", "name each once")
        for other, taken in checked.items():
            common = next((d for d in inside if d in taken), None)
            if common is not None:
                what = f"shares {common!r} with group {other!r}"
                raise UserError(where, what, "give disjoint groups: a domain may be in one only")
        checked[str(name)] = tuple(inside)
    return checked


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
    passes = epochs if isinstance(epochs, Mapping) else dict.fromkeys(domains, epochs)
    run = np.asarray(D, dtype=np.float64)
    return {
        d: np.minimum(tokens[d] * passes.get(d, 1.0) / run, 1.0) for d in domains if d in tokens
    }


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
            remedy = "give the tokens available, e.g. 4e9"
            raise UserError(f"tokens of {domain!r}", f"{count:g} is not a count", remedy)
    for passes in epochs.values() if isinstance(epochs, Mapping) else (epochs,):
        if not (math.isfinite(passes) and passes > 0):
            what = f"{passes:g} is not a positive number"
            raise UserError("epochs", what, "give the largest number of passes, e.g. 4")


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
        tokens, epochs, caps: as in `Question`; domains without tokens are not limited.
        D: tokens of the run to come, a count.
        domains: of the fit.

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


# --- Numbers by name -----------------------------------------------------------------------------


def by_name(
    given: Mapping[str, float] | None, names: Sequence[str], where: str, default: float
) -> Floats:
    """The given numbers in the order of the names, the default where there is none."""
    given = given or {}
    check_names(given, names, where)
    named = [name for name in names if name in given]
    numbers = {name: number(given[name], f"{where}, {name!r}", "a number") for name in named}
    return np.array([numbers.get(name, default) for name in names])


def number(value: Any, where: str, what: str) -> float:
    """A finite float."""
    try:
        numeric = float(value)
    except (TypeError, ValueError):
        numeric = np.nan
    if not np.isfinite(numeric):
        raise UserError(where, f"{value!r} is not {what}", f"give {what}")
    return numeric
