"""The registry of laws: `laws()` by name, `find_law` for names, files and records."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import MappingProxyType

from mixjax.errors import UserError
from mixjax.law.base import Coefficients as Coefficients
from mixjax.law.base import Law as Law
from mixjax.law.base import Parameter as Parameter
from mixjax.law.base import Units as Units
from mixjax.law.chinchilla import CHINCHILLA
from mixjax.law.paper import ADDITIVE, FULL, JOINT, SIMPLE
from mixjax.law.rivals import ADDITIVE_FIXED_N, ADDITIVE_FIXED_ND, GE24, YE_M1, YE_M2, YE_M3, YE_M4

_ALL = (CHINCHILLA, SIMPLE, ADDITIVE, JOINT, FULL, ADDITIVE_FIXED_N, ADDITIVE_FIXED_ND, YE_M1, YE_M2, YE_M3, YE_M4, GE24)
_REGISTRY = MappingProxyType({law.name: law for law in _ALL})


def laws() -> Mapping[str, Law]:
    """The built-in laws by name, read-only."""
    return _REGISTRY


def find_law(law: str | Law) -> Law:
    """The law of that name; a `Law` is returned as it is.

    Raises:
        UserError: no such name (the nearest ones are offered).
    """
    if isinstance(law, Law):
        return law
    if law in _REGISTRY:
        return _REGISTRY[law]
    near = difflib.get_close_matches(str(law), _REGISTRY, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise UserError("law", f"no law {law!r}", f"{hint}choose from {', '.join(_REGISTRY)}")
