"""A mixture -> EXPORT: files that training stacks read, and whole tokens per domain; everything by
name, nothing by position.

Forms, and the public documentation they follow:

- json, yaml, csv: shares of 8 decimals, and tokens where D is known.
- megatron: `weight prefix` pairs for Megatron-LM's --data-args-path (its words also serve as
  --data-path). Weights must be above 0, so domains of share 0 are left out.
- olmo-core: the `sources` of a SourceMixtureList (source_name, target_ratio, paths,
  max_repetition_ratio). Ratios must be above 0 and sum to 1: domains of share 0 are left out.
- levanter: `train_weights` of a data config. A weight of 0 is allowed there: such a set is only
  evaluated on.
- mosaic: `streams` with `proportion`, as streaming.Stream takes it and LLM Foundry's configs write
  it.
- huggingface: `datasets` and `probabilities` in one order, for datasets.interleave_datasets.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mixjax.errors import UserError

# Shares are written with so many decimals, rounded so that they still sum to 1.
DECIMALS = 8
# A float64 holds whole numbers exactly up to here.
_EXACT = 2**53


def allocate(weights: Mapping[str, float], total: float) -> dict[str, int]:
    """Whole numbers {name: n}, near weight * total and summing to the total exactly.

    Largest remainder: every name gets the floor of its part, the units that are left go to the
    largest fractions, ties in order. No part is more than 1 away from weight * total.

    Args:
        weights: shares that sum to 1 (to 1e-6), none negative.
        total: e.g. tokens of the run, a count; rounded to a whole number.

    Raises:
        UserError: weights that are negative or do not sum to 1, or a total that is not a positive
            count.

    Source: Hamilton's method; Balinski and Young 1982, Fair Representation.
    """
    _check(weights)
    if not (math.isfinite(total) and 0.5 < total <= _EXACT):
        what = f"{total:g} cannot be split into whole tokens"
        raise UserError("D", what, "give a count, e.g. 150e9")
    units = round(total)
    scale = math.fsum(weights.values())
    parts = np.array([w / scale * units for w in weights.values()])
    whole = np.floor(parts)
    left = units - int(whole.sum())
    order = np.argsort(-(parts - whole), kind="stable")
    if left >= 0:
        whole[order[:left]] += 1
    else:  # the products were rounded up: the smallest fractions give
        whole[[i for i in order[::-1] if whole[i] > 0][:-left]] -= 1
    return {name: int(n) for name, n in zip(weights, whole, strict=True)}


def rounded(weights: Mapping[str, float], decimals: int = DECIMALS) -> dict[str, float]:
    """Shares of so many decimals that sum to 1 in decimal: the nearest ones by `allocate`."""
    return {name: n / 10**decimals for name, n in allocate(weights, 10**decimals).items()}


def _check(weights: Mapping[str, float]) -> None:
    for name, w in weights.items():
        if not (math.isfinite(w) and w >= 0):
            raise UserError("mixture", f"{name!r} has the share {w:g}", "give shares of at least 0")
    if not (weights and abs(math.fsum(weights.values()) - 1.0) <= 1e-6):
        what = f"its shares sum to {math.fsum(weights.values()):g}"
        raise UserError("mixture", what, "give shares that sum to 1")


@dataclass(frozen=True)
class Order:
    """What an export says.

    Attributes:
        weights: {domain: share}, sums to 1.
        D: tokens of the run, a count; None where not known.
        paths: {domain: where its data lie}; a domain that is not named stands for itself.
        epochs: how often a domain may be repeated, where the form has a place for it.
    """

    weights: Mapping[str, float]
    D: float | None = None
    paths: Mapping[str, str] = field(default_factory=dict)
    epochs: float = 1.0

    def used(self) -> dict[str, float]:
        """Shares of the domains that keep one when rounded; not rounded themselves: a share at a
        cap must not pass it."""
        kept = [d for d, share in rounded(self.weights).items() if share > 0]
        total = math.fsum(self.weights[d] for d in kept)
        return {d: float(self.weights[d] / total) for d in kept}

    def path(self, domain: str) -> str:
        """Where a domain's data lie."""
        return self.paths.get(domain, domain)


def export_mixture(
    weights: Mapping[str, float],
    form: str,
    D: float | None = None,
    paths: Mapping[str, str] | None = None,
    epochs: float = 1.0,
) -> str:
    """The text of a mixture in one of the forms `FORMS`.

    Args:
        weights: {domain: share}, e.g. `Mixture.weights`.
        form: json, yaml, csv, megatron, olmo-core, levanter, mosaic or huggingface.
        D: tokens of the run to come, a count: adds whole tokens per domain that sum to it (json,
            yaml, csv).
        paths: {domain: path, prefix or URL} for the forms that name data.
        epochs: largest number of passes over a domain (olmo-core's max_repetition_ratio); at least
            1.

    Raises:
        UserError: an unknown form, shares that do not sum to 1, an unknown domain in `paths`, a
            path that the form cannot hold.
    """
    if form not in FORMS:
        raise UserError("export", f"no form {form!r}", f"choose from {', '.join(FORMS)}")
    unknown = next((d for d in paths or {} if d not in weights), None)
    if unknown is not None:
        raise UserError("paths", f"no domain {unknown!r}", f"choose from {', '.join(weights)}")
    if not (math.isfinite(epochs) and epochs >= 1):
        what = f"{epochs:g} is below 1 or not a number"
        raise UserError("epochs", what, "give the largest number of passes, at least 1")
    _check(weights)
    return FORMS[form](Order(weights, D, paths or {}, epochs))


# --- The forms -----------------------------------------------------------------------------------


def _content(order: Order) -> dict[str, Any]:
    content: dict[str, Any] = {"weights": rounded(order.weights)}
    if order.D is None:
        return content
    tokens = allocate(order.weights, order.D)
    return content | {"D": sum(tokens.values()), "tokens": tokens}


def _json(order: Order) -> str:
    return json.dumps(_content(order), indent=1, allow_nan=False) + "\n"


def _dump(content: Any) -> str:
    import yaml

    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, default_flow_style=False)


def _csv(order: Order) -> str:
    tokens = {} if order.D is None else allocate(order.weights, order.D)
    out = io.StringIO()
    lines = csv.writer(out, lineterminator="\n")
    lines.writerow(["domain", "share", "tokens"] if tokens else ["domain", "share"])
    for domain, share in rounded(order.weights).items():
        lines.writerow([domain, f"{share:.{DECIMALS}f}", *([tokens[domain]] if tokens else [])])
    return out.getvalue()


def _megatron(order: Order) -> str:
    for domain in order.used():
        if len(order.path(domain).split()) != 1:
            what = f"the path {order.path(domain)!r} of {domain!r} has a space in it"
            raise UserError("export", what, "name a prefix without spaces")
    shares = rounded(order.used()).items()
    return "".join(f"{share:.{DECIMALS}f} {order.path(d)}\n" for d, share in shares)


def _olmo_core(order: Order) -> str:
    more = {"max_repetition_ratio": float(order.epochs)} if order.epochs > 1 else {}
    sources = [
        {"source_name": d, "target_ratio": share, "paths": [order.path(d)], **more}
        for d, share in order.used().items()
    ]
    return _dump({"sources": sources})


def _mosaic(order: Order) -> str:
    def stream(domain: str, share: float) -> dict[str, Any]:
        path = order.path(domain)
        return {"remote" if "://" in path else "local": path, "proportion": share}

    return _dump({"streams": {d: stream(d, share) for d, share in order.used().items()}})


def _huggingface(order: Order) -> str:
    used = order.used()
    content = {"datasets": [order.path(d) for d in used], "probabilities": list(used.values())}
    return json.dumps(content, indent=1) + "\n"


FORMS: Mapping[str, Callable[[Order], str]] = {
    "json": _json,
    "yaml": lambda order: _dump(_content(order)),
    "csv": _csv,
    "megatron": _megatron,
    "olmo-core": _olmo_core,
    "levanter": lambda order: _dump({"train_weights": rounded(order.weights)}),
    "mosaic": _mosaic,
    "huggingface": _huggingface,
}
# Forms that say where data lie.
NEED_PATHS = ("megatron", "olmo-core", "mosaic", "huggingface")
