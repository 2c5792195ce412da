"""The registry of laws: `laws()` by name, `find_law` for names, files and records."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from mixjax.errors import UserError, nearest
from mixjax.law.base import OPTIONS
from mixjax.law.base import Coefficients as Coefficients
from mixjax.law.base import Law as Law
from mixjax.law.base import Parameter as Parameter
from mixjax.law.base import Units as Units
from mixjax.law.base import lagged as lagged
from mixjax.law.base import limited as limited
from mixjax.law.chinchilla import CHINCHILLA
from mixjax.law.paper import ADDITIVE, FULL, JOINT, SIMPLE
from mixjax.law.powers import POWERS
from mixjax.law.rivals import ADDITIVE_FIXED_N, ADDITIVE_FIXED_ND, GE24, YE_M1, YE_M2, YE_M3, YE_M4

_ALL = (
    CHINCHILLA,
    SIMPLE,
    ADDITIVE,
    JOINT,
    FULL,
    POWERS,
    ADDITIVE_FIXED_N,
    ADDITIVE_FIXED_ND,
    YE_M1,
    YE_M2,
    YE_M3,
    YE_M4,
    GE24,
)
_REGISTRY = MappingProxyType({law.name: law for law in _ALL})


def laws() -> Mapping[str, Law]:
    """The built-in laws by name, read-only."""
    return _REGISTRY


def is_built_in(name: str) -> bool:
    """Whether a law of that name, or the law before its @, is in the registry."""
    return name.partition("@")[0] in _REGISTRY


def find_law(law: str | Law) -> Law:
    """The law of that name; "joint@2e9" is the joint law with a lag of 2e9 tokens, "joint@free-E"
    with an E of any sign. A `Law` is returned as it is.

    Raises:
        UserError: no such name (the nearest ones are offered), or what follows an @ is no lag and
            no option that the law has.
    """
    if isinstance(law, Law):
        return law
    name, *options = str(law).split("@")
    if name in _REGISTRY:
        found = _REGISTRY[name]
        for option in options:
            try:
                found = (
                    limited(found, option) if option in OPTIONS else lagged(found, float(option))
                )
            except ValueError:
                known = (
                    f"{name}@2e9 for a lag in tokens, or "
                    f"{' or '.join(f'{name}@{o}' for o in OPTIONS)}"
                )
                what = (
                    f"{law!r}: {option!r} is not a number of tokens, and not an option of law "
                    f"{name!r}"
                )
                raise UserError("law", what, f"write for example {known}") from None
        return found
    remedy = f"{nearest(str(law), _REGISTRY)}choose from {', '.join(_REGISTRY)}"
    raise UserError("law", f"no law {law!r}", remedy)
