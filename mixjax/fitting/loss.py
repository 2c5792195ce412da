"""What a fit minimises and how long it searches: two small records, loaded without JAX."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from mixjax.errors import UserError, check_names

Floats = NDArray[np.float64]

# Predictions below this are taken as this in the logarithm: laws may cross zero on the way to a
# fit.
SMALLEST_LOSS = 1e-12
RESIDUALS = ("loss", "log")
PRECISIONS = ("float64", "float32")
PRIORS = ("weak", "none")


@dataclass(frozen=True)
class Huber:
    """The loss of one row: x^2 / 2 for a residual |x| < delta, delta (|x| - delta / 2) beyond
    (paper eq. 6).

    Attributes:
        delta: in the unit of the residual.
        residual: of the "loss", measured - predicted, or "log", of their logarithms.
        prior: "weak", what is expected of a law's parameters before any run takes part (see
            `Parameter.prior`), or "none", the paper's plain fit.

    Raises:
        UserError: a delta that is not positive, another residual or prior.
    """

    delta: float = 1e-3
    residual: str = "loss"
    prior: str = "weak"

    def __post_init__(self) -> None:
        if not (np.isfinite(self.delta) and self.delta > 0):
            what = f"{self.delta} is not a positive number"
            raise UserError("delta", what, "give a positive number, e.g. 1e-3")
        if self.residual not in RESIDUALS:
            raise UserError("residual", f"no residual {self.residual!r}", "choose loss or log")
        if self.prior not in PRIORS:
            raise UserError("prior", f"no prior {self.prior!r}", "choose weak or none")

    def residuals(self, predicted: Floats, measured: Floats) -> Floats:
        """Measured - predicted, of losses or of their logarithms (rows,)."""
        if self.residual == "log":
            return np.log(measured) - np.log(np.maximum(predicted, SMALLEST_LOSS))
        return measured - predicted

    def clip(self, residuals: Floats) -> Floats:
        """The derivative of the loss by the residual: the residual within +-delta."""
        return np.clip(residuals, -self.delta, self.delta)

    def value(self, residuals: Floats) -> Floats:
        """The loss of every row."""
        clipped = self.clip(residuals)
        return clipped * (residuals - clipped / 2)


@dataclass(frozen=True)
class Settings:
    """How long a fit searches; the defaults are chosen by experiment (benchmarks/NOTES.md,
    "budget").

    Attributes:
        starts: random starts per target; all are minimised loosely.
        hops: basin hops of each of the best quarter of them.
        seed: same seed, same answer on one machine.
        precision: of the search; "float32" is searched in single and polished in double precision.

    Raises:
        UserError: a number or name that is out of range.
    """

    starts: int = 128
    hops: int = 2
    seed: int = 0
    precision: str = "float64"

    def __post_init__(self) -> None:
        for name, value, least in (("starts", self.starts, 1), ("hops", self.hops, 0)):
            if not isinstance(value, int | np.integer) or value < least:
                what = f"{value} is not a whole number of at least {least}"
                raise UserError(name, what, "give such a number")
        if self.precision not in PRECISIONS:
            what = f"no precision {self.precision!r}"
            raise UserError("precision", what, "choose float64 or float32")


class SearchOptions(TypedDict, total=False):
    """The fields of `Settings`, and the prior of `Huber`, as keyword arguments."""

    starts: int
    hops: int
    seed: int
    precision: str
    prior: str


class HuberOptions(TypedDict, total=False):
    """The fields of `Huber` as keyword arguments."""

    delta: float
    residual: str
    prior: str


class FitOptions(SearchOptions, HuberOptions, total=False):
    """The fields of `Settings` and of `Huber` as keyword arguments."""


def read_options(
    options: Mapping[str, Any], settings: Settings | None = None
) -> tuple[Huber, Settings]:
    """The two records of keyword arguments; settings: what holds where an option is not given.

    Raises:
        UserError: an option that there is not, or out of range.
    """
    of_search, of_loss = ([field.name for field in fields(x)] for x in (Settings, Huber))
    check_names(options, [*of_search, *of_loss], "options", "option")
    huber = Huber(**{name: options[name] for name in of_loss if name in options})
    changes = {name: options[name] for name in of_search if name in options}
    return huber, replace(settings or Settings(), **changes)
