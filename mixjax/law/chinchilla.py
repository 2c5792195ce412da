"""Chinchilla's law of (N, D), eq. (2): the form that every other law fills with coefficients."""

from __future__ import annotations

from typing import Any

import jax

from mixjax.law.base import Coefficients, Law, Parameter, Params, Units

# Start ranges are in units in which N, D and the loss are about 1 (their medians), so that one
# range fits tables in nats, bits or perplexity and models of 1e6 or 1e11 parameters.
E = Parameter("E", start=(0.1, 1.0), unit="loss", meaning="irreducible loss")
A = Parameter("A", start=(0.02, 1.0), unit="loss * parameters^alpha", meaning="size of the N term")
ALPHA = Parameter("alpha", start=(0.1, 1.0), unit="1", meaning="exponent of N")
B = Parameter("B", start=(0.02, 1.0), unit="loss * tokens^beta", meaning="size of the D term")
BETA = Parameter("beta", start=(0.1, 1.0), unit="1", meaning="exponent of D")


def coefficients(params: Params, h: jax.Array) -> Coefficients:
    """The same five numbers for every mixture."""
    return Coefficients(params["E"], params["A"], params["alpha"], params["B"], params["beta"])


def rescale(params: Params, units: Units) -> dict[str, Any]:
    """A (N/n0)^-alpha = (A n0^alpha) N^-alpha, the same for D; E, A, B scale with the loss."""
    p = dict(params)
    p["E"] = p["E"] * units.loss
    p["A"] = p["A"] * units.loss * units.N ** p["alpha"]
    p["B"] = p["B"] * units.loss * units.D ** p["beta"]
    return p


CHINCHILLA = Law(
    name="chinchilla",
    parameters=(E, A, ALPHA, B, BETA),
    coefficients=coefficients,
    equation="L = E + A / N^alpha + B / D^beta",
    source="Hoffmann et al. 2022; Shukor et al. 2025, eq. (2)",
    rescale=rescale,
    units=(1.0, 1.0),
)
