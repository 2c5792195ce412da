"""JSON content against a JSON schema: the part of draft 2020-12 that `fit-1.schema.json` uses, with
messages that name the place."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

_TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": int | float,
}


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
