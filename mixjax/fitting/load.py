"""A file -> FIT: fit.json read and checked against its published JSON schema, without JAX.

`check` knows the part of draft 2020-12 that the schema uses; its messages name the place.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mixjax.errors import UserError
from mixjax.fitting.loss import Huber
from mixjax.fitting.record import FORMAT, SCHEMA, Fit, Search, Status

if TYPE_CHECKING:
    from mixjax.law import Law


def load_fit(path: str | os.PathLike[str], law: Law | None = None) -> Fit:
    """Read a fit written by `Fit.save`.

    Args:
        law: the `Law` of a fit made with a user's own law.

    Raises:
        UserError: no such file, not a fit, damaged, or written by a newer mixjax. Whether the
            parameters are those of the law is seen when the law is first needed, so that a fit
            loads without JAX.
    """
    place, another = str(path), "name a file written by mixjax fit"
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(place, f"cannot be read ({error.strerror})", another) from None
    except json.JSONDecodeError as error:
        line = f"is not JSON (line {error.lineno}: {error.msg})"
        remedy = "name a whole file written by mixjax fit, or fit again"
        raise UserError(place, line if error.doc.strip() else "is empty", remedy) from None
    except (UnicodeDecodeError, RecursionError):
        raise UserError(place, "is not JSON", another) from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(place, "is not a mixjax fit", another)
    if content.get("schema") != SCHEMA:
        what = f"has schema {content.get('schema')}, this mixjax reads {SCHEMA}"
        raise UserError(place, what, "use the mixjax that wrote it, or fit again")
    try:
        check(content, schema())
        return _from_dict(content, law, place)
    except DamagedError as error:
        raise UserError(place, f"is damaged: {error}", "fit again") from None


def schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of the files that `Fit.save` writes."""
    path = Path(__file__).with_name(f"fit-{SCHEMA}.schema.json")
    return json.loads(path.read_text(encoding="utf-8"))


def _from_dict(content: dict[str, Any], law: Law | None, place: str) -> Fit:
    """The fit of content that is as the schema says."""
    targets, k = tuple(content["targets"]), len(content["domains"])
    missing = next((t for t in targets if t not in content["fits"]), None)
    if missing is not None:
        raise DamagedError(f"there is no {missing!r} of 'fits'")
    fits = {t: content["fits"][t] for t in targets}
    return Fit(
        law=content["law"],
        domains=tuple(content["domains"]),
        targets=targets,
        params={t: _params(own["params"], t, k) for t, own in fits.items()},
        objective={t: float(own["objective"]) for t, own in fits.items()},
        search={t: _search(own["search"]) for t, own in fits.items()},
        huber=Huber(content["delta"], content["residual"], content.get("prior", "none")),
        units=(float(content["units"]["N"]), float(content["units"]["D"])),
        ranges=_ranges(content["ranges"]),
        made=content["made"],
        own_law=law,
        share_ranges=_ranges(content.get("share_ranges", {})),
        others={
            t: tuple(_params(params, t, k) for params in own["others"])
            for t, own in fits.items()
            if own.get("others")
        },
        place=place,
    )


def _params(content: Mapping[str, Any], target: str, k: int) -> dict[str, Any]:
    return {name: _param(x, f"{name!r} of target {target!r}", k) for name, x in content.items()}


def _param(value: float | list[float], what: str, k: int) -> Any:
    """A parameter: a number, or one for each of k domains (k,)."""
    if not isinstance(value, list):
        return float(value)
    if len(value) != k:
        raise DamagedError(f"{what} has {len(value)} values for {k} domains")
    return np.array(value, dtype=np.float64)


def _search(content: Mapping[str, Any]) -> Search:
    ended = {"status": Status(content["status"]), "at_limit": tuple(content["at_limit"])}
    return Search(**{**content, **ended})


def _ranges(content: Mapping[str, Sequence[float]]) -> dict[str, tuple[float, float]]:
    return {name: (float(low), float(high)) for name, (low, high) in content.items()}


_TYPES = {"object": dict, "array": list, "string": str, "integer": int, "number": int | float}


class DamagedError(Exception):
    """Where content departs from its schema, in one line."""


def check(content: Any, schema: Mapping[str, Any]) -> None:
    """Refuse content that is not as a schema says; numbers must be finite, too.

    Raises:
        DamagedError: the first departure.
    """
    _check(content, schema, schema.get("$defs", {}), "the file", "")


def _check(
    value: Any, schema: Mapping[str, Any], defs: Mapping[str, Any], what: str, where: str
) -> None:
    """what: the value's name; where: the end of the names of what it holds, " of 'fits'"."""
    if "$ref" in schema:
        schema = {**defs[schema["$ref"].rpartition("/")[2]], **schema}
    if not (_is_type(value, schema.get("type")) and _is_within(value, schema)):
        raise DamagedError(f"{what} is {shown(value)}")
    if isinstance(value, list):
        for item in value:
            _check(item, schema.get("items", {}), defs, f"a value of {what}", where)
    if isinstance(value, dict):
        missing = next((key for key in schema.get("required", ()) if key not in value), None)
        if missing is not None:
            raise DamagedError(f"there is no {missing!r}{where}")
        known, others = schema.get("properties", {}), schema.get("additionalProperties", {})
        for key, part in value.items():
            if key not in known and others is False:
                raise DamagedError(f"there is {key!r}{where}, which is not known")
            _check(part, known.get(key, others), defs, f"{key!r}{where}", f" of {key!r}{where}")


def _is_type(value: Any, types: str | list[str] | None) -> bool:
    if types is None:
        return True
    names = [types] if isinstance(types, str) else types
    return not isinstance(value, bool) and any(isinstance(value, _TYPES[name]) for name in names)


def _is_within(value: Any, schema: Mapping[str, Any]) -> bool:
    """Whether a value of the right type keeps the other limits."""
    if "const" in schema or "enum" in schema:
        return value in schema.get("enum", [schema.get("const")])
    if isinstance(value, list):
        few, many = schema.get("minItems", 0), schema.get("maxItems", math.inf)
        distinct = not schema.get("uniqueItems") or len(set(map(repr, value))) == len(value)
        return few <= len(value) <= many and distinct
    if isinstance(value, int | float):
        least, above = schema.get("minimum", -math.inf), schema.get("exclusiveMinimum", -math.inf)
        return math.isfinite(value) and value >= least and value > above
    return True


def shown(value: Any) -> str:
    """A value as JSON, cut to a part of a line."""
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
