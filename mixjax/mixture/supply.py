"""Caps from what there is to train on (available tokens, allowed epochs -> CAPS): the largest share
of a domain at D tokens."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from mixjax.errors import UserError, check_names


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
    _check_names("tokens", tokens, domains)
    if isinstance(epochs, Mapping):
        _check_names("epochs", epochs, domains)
    for domain, supply in tokens.items():
        passes = epochs.get(domain, 1.0) if isinstance(epochs, Mapping) else epochs
        if not (math.isfinite(supply) and supply >= 0):
            raise UserError(
                f"tokens of {domain!r}",
                f"{supply:g} is not a count",
                "give the tokens available, e.g. 4e9",
            )
        if not (math.isfinite(passes) and passes > 0):
            raise UserError(
                "epochs",
                f"{passes:g} is not a positive number",
                "give the largest number of passes, e.g. 4",
            )
        merged[domain] = min(merged.get(domain, 1.0), supply * passes / D, 1.0)
    total = math.fsum(merged.get(d, 1.0) for d in domains)
    if total < 1.0 - 1e-12:
        what = f"all domains together allow {total * D:.4g} of the {D:.4g} tokens of the run"
        raise UserError(
            "tokens",
            what,
            "train on fewer tokens, allow more epochs, raise caps, or find more data",
        )
    return merged


def epochs_of(
    weights: Mapping[str, float], tokens: Mapping[str, float] | None, D: float | None
) -> dict[str, float]:
    """How often the tokens of each domain with a known supply are seen, {domain: passes}; infinite
    for a share of nothing."""
    if not tokens or D is None:
        return {}
    return {
        d: weights.get(d, 0.0) * D / supply
        if supply > 0
        else (math.inf if weights.get(d, 0.0) > 0 else 0.0)
        for d, supply in tokens.items()
    }


def _check_names(where: str, given: Mapping[str, float], domains: Sequence[str]) -> None:
    check_names(given, domains, where, "domain")
