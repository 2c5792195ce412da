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
from mixjax.law.base import lagged as lagged
from mixjax.law.chinchilla import CHINCHILLA
from mixjax.law.paper import ADDITIVE, FULL, JOINT, SIMPLE
from mixjax.law.powers import POWERS
from mixjax.law.rivals import ADDITIVE_FIXED_N, ADDITIVE_FIXED_ND, GE24, YE_M1, YE_M2, YE_M3, YE_M4

_ALL = (CHINCHILLA, SIMPLE, ADDITIVE, JOINT, FULL, POWERS, ADDITIVE_FIXED_N, ADDITIVE_FIXED_ND, YE_M1, YE_M2, YE_M3, YE_M4, GE24)
_REGISTRY = MappingProxyType({law.name: law for law in _ALL})


def laws() -> Mapping[str, Law]:
    """The built-in laws by name, read-only."""
    return _REGISTRY


def is_built_in(name: str) -> bool:
    """Whether a law of that name, or the law before its @, is in the registry."""
    return name.partition("@")[0] in _REGISTRY


def find_law(law: str | Law) -> Law:
    """The law of that name; "joint@2e9" is the joint law with a lag of 2e9 tokens. A `Law` is returned as it is.

    Raises:
        UserError: no such name (the nearest ones are offered), or a lag that is no number.
    """
    if isinstance(law, Law):
        return law
    if law in _REGISTRY:
        return _REGISTRY[law]
    name, at, lag = str(law).partition("@")
    if at and name in _REGISTRY:
        try:
            return lagged(_REGISTRY[name], float(lag))
        except ValueError:
            raise UserError("law", f"{law!r} has a lag that is not a number of tokens", f"write for example {name}@2e9") from None
    near = difflib.get_close_matches(str(law), _REGISTRY, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise UserError("law", f"no law {law!r}", f"{hint}choose from {', '.join(_REGISTRY)}")
