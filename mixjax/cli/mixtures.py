"""A user's own mixtures from files: YAML or JSON of one or many, CSV of one."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixjax.errors import UserError

if TYPE_CHECKING:
    from mixjax.fitting.record import Fit

_REMEDY = "write DOMAIN: SHARE lines, or NAME: {DOMAIN: SHARE, ...} for several mixtures"


def read_mixtures(path: str) -> dict[str, dict[str, float]]:
    """Mixtures by name, {name: {domain: share}}; one mixture alone is called after its file.

    YAML or JSON: {domain: share}, {name: {domain: share}}, or what `mixjax mix --json` and --export
    json write. CSV: columns domain, share.

    Raises:
        UserError: no such file, or nothing in it that is a mixture.
    """
    stem = Path(path).stem
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(
            path, f"cannot be read ({error.strerror})", "name a file of mixtures"
        ) from None
    except UnicodeDecodeError:
        raise UserError(path, "is not text", _REMEDY) from None
    content: Any = _csv(path, text) if Path(path).suffix == ".csv" else _yaml(path, text)
    if not isinstance(content, dict) or not content:
        raise UserError(path, "holds no mixture", _REMEDY)
    if isinstance(content.get("weights"), dict):
        return {stem: _shares(path, content["weights"])}
    if all(isinstance(value, dict) for value in content.values()):
        return {str(name): _shares(f"{path}, {name}", value) for name, value in content.items()}
    return {stem: _shares(path, content)}


def read_mixture(path: str) -> dict[str, float]:
    """The one mixture of a file.

    Raises:
        UserError: none, or several.
    """
    found = read_mixtures(path)
    if len(found) != 1:
        raise UserError(
            path, f"holds {len(found)} mixtures ({', '.join(found)})", "name a file of one"
        )
    return next(iter(found.values()))


def mixture_for(fitted: Fit, path: str) -> dict[str, float]:
    """The one mixture of a file, of domains of a fit."""
    found = read_mixture(path)
    check_mixtures(fitted, path, {path: found})
    return found


def check_mixtures(
    fitted: Fit, path: str | None, mixtures: Mapping[str, Mapping[str, float]]
) -> None:
    """Refuse a domain of a file's mixtures that the fit does not have, by the name of the file."""
    from mixjax.errors import check_names

    for mixture in mixtures.values():
        check_names(mixture, fitted.domains, str(path), "domain")


def _yaml(path: str, text: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}, line {mark.line + 1}" if mark else path
        raise UserError(where, "is not YAML", _REMEDY) from None


def _csv(path: str, text: str) -> Any:
    rows = list(csv.DictReader(text.splitlines()))
    if not rows or not {"domain", "share"} <= set(rows[0]):
        raise UserError(path, "has no columns domain and share", "write a table with both")
    return {row["domain"]: row["share"] for row in rows}


def _shares(where: str, content: Mapping[Any, Any]) -> dict[str, float]:
    shares = {}
    for domain, value in content.items():
        try:
            share = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            share = math.nan
        if not (math.isfinite(share) and share >= 0):
            raise UserError(
                where,
                f"{domain!s} has {value!r}, which is not a share",
                "give numbers of at least 0; they are scaled to sum to 1",
            )
        shares[str(domain)] = share
    return shares
