"""Laws at fixed N or fixed (N, D) (paper, appendix B): the additive ones, Ye M1 to M4, Ge."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mixjax.law.base import Coefficients, Coordinates, Law, Parameter, Params, Units
from mixjax.law.chinchilla import BETA, B, E
from mixjax.law.paper import (
    GAMMA,
    SEARCH_C,
    C,
    from_brackets,
    mixture_term,
    mixture_term_convex,
    searched_mixture_term,
    to_brackets,
)
from mixjax.numerics import power

YE_GAMMA = Parameter(
    "gamma", ("k",), "real", start=(-3.0, 1.0), unit="1", meaning="rate of a domain's share"
)
YE_C = Parameter("C", (), start=(0.02, 1.0), unit="loss", meaning="size of the mixture term")


def additive_fixed_nd(params: Params, h: jax.Array) -> Coefficients:
    """Additive law at one (N, D): the mixture term alone."""
    return Coefficients(params["E"] + mixture_term(params, h))


def additive_fixed_n(params: Params, h: jax.Array) -> Coefficients:
    """Additive law at one N: mixture term and D term."""
    return Coefficients(params["E"] + mixture_term(params, h), B=params["B"], beta=params["beta"])


def searched_fixed_nd(params: Params, h: jax.Array) -> Coefficients:
    """`additive_fixed_nd` with the mixture term centred."""
    return Coefficients(params["E"] + searched_mixture_term(params, h))


def searched_fixed_n(params: Params, h: jax.Array) -> Coefficients:
    """`additive_fixed_n` with the mixture term centred."""
    return Coefficients(
        params["E"] + searched_mixture_term(params, h), B=params["B"], beta=params["beta"]
    )


def ye_m1(params: Params, h: jax.Array) -> Coefficients:
    """Ye M1: a sum of exponentials, one size and one rate per domain."""
    return Coefficients(params["E"] + jnp.sum(params["C"] * jnp.exp(params["gamma"] * h)))


def ye_m2(params: Params, h: jax.Array) -> Coefficients:
    """Ye M2: a sum of exponentials of one size."""
    return Coefficients(params["E"] + params["C"] * jnp.sum(jnp.exp(params["gamma"] * h)))


def ye_m3(params: Params, h: jax.Array) -> Coefficients:
    """Ye M3: only the product of the gamma_i is identifiable; constant wherever some h_i = 0."""
    return Coefficients(params["E"] + params["C"] * jnp.exp(jnp.prod(params["gamma"] * h)))


def ye_m4(params: Params, h: jax.Array) -> Coefficients:
    """Ye M4: one exponential; adding c to all gamma_i and dividing C by e^c changes nothing."""
    return Coefficients(params["E"] + params["C"] * jnp.exp(jnp.dot(params["gamma"], h)))


def ge24(params: Params, h: jax.Array) -> Coefficients:
    """Ge 24 (BiMix), for target i a law of D and its own share h_i; infinite at h_i = 0."""
    share = params["C"] / power(h[0], params["gamma"])
    return Coefficients(params["E"] * share, B=params["B"] * share, beta=params["beta"])


def rescale_reciprocal(params: Params, units: Units) -> dict[str, Any]:
    """E scales with the loss, C_i is one over a loss, B belongs to D^-beta."""
    p = dict(params)
    p["E"], p["C"] = p["E"] * units.loss, p["C"] / units.loss
    if "B" in p:
        p["B"] = p["B"] * units.loss * units.D ** p["beta"]
    return p


def rescale_exponential(params: Params, units: Units) -> dict[str, Any]:
    """E and C scale with the loss."""
    return dict(params) | {"E": params["E"] * units.loss, "C": params["C"] * units.loss}


def rescale_ge24(params: Params, units: Units) -> dict[str, Any]:
    """C carries the loss, B belongs to D^-beta."""
    return dict(params) | {
        "C": params["C"] * units.loss,
        "B": params["B"] * units.D ** params["beta"],
    }


ADDITIVE_FIXED_ND = Law(
    name="additive_fixed_nd",
    parameters=(E, C, GAMMA),
    coefficients=additive_fixed_nd,
    equation="L = E + 1 / sum_i(C_i h_i^gamma_i)",
    source="Shukor et al. 2025, appendix B",
    rescale=rescale_reciprocal,
    convex=mixture_term_convex,
    units=(1.0, 1.0),
    coordinates=Coordinates(
        (E, SEARCH_C, GAMMA), searched_fixed_nd, to_brackets, "as the additive law", from_brackets
    ),
)

ADDITIVE_FIXED_N = Law(
    name="additive_fixed_n",
    parameters=(E, C, GAMMA, B, BETA),
    coefficients=additive_fixed_n,
    equation="L = E + 1 / sum_i(C_i h_i^gamma_i) + B / D^beta",
    source="Shukor et al. 2025, appendix B",
    rescale=rescale_reciprocal,
    convex=mixture_term_convex,
    units=(1.0, 1.0),
    coordinates=Coordinates(
        (E, SEARCH_C, GAMMA, B, BETA),
        searched_fixed_n,
        to_brackets,
        "as the additive law",
        from_brackets,
    ),
)


def _ye(name: str, function: Any, equation: str, per_domain_C: bool = False) -> Law:
    """A law of Ye et al.: E, C (one, or one per domain), gamma_i."""
    size = (
        Parameter("C", ("k",), start=(0.02, 1.0), unit="loss", meaning="size of a domain's term")
        if per_domain_C
        else YE_C
    )
    source = f"Ye et al. 2024, {name[3:].upper()}; Shukor et al. 2025, appendix B"
    return Law(
        name,
        (E, size, YE_GAMMA),
        function,
        None,
        equation,
        source,
        rescale_exponential,
        (1.0, 1.0),
        convex=None if name == "ye_m3" else lambda params: True,
    )


YE_M1 = _ye("ye_m1", ye_m1, "L = E + sum_i(C_i exp(gamma_i h_i))", per_domain_C=True)
YE_M2 = _ye("ye_m2", ye_m2, "L = E + C sum_i(exp(gamma_i h_i))")
YE_M3 = _ye("ye_m3", ye_m3, "L = E + C exp(prod_i(gamma_i h_i))")
YE_M4 = _ye("ye_m4", ye_m4, "L = E + C exp(sum_i(gamma_i h_i))")

GE24 = Law(
    name="ge24",
    parameters=(
        Parameter("B", start=(0.02, 1.0), unit="tokens^beta", meaning="size of the D term"),
        BETA,
        Parameter("E", start=(0.1, 1.0), unit="1", meaning="irreducible part"),
        Parameter(
            "C", start=(0.3, 3.0), unit="loss", meaning="overall size, redundant with B and E"
        ),
        Parameter(
            "gamma",
            (),
            "real",
            start=(0.01, 0.5),
            unit="1",
            meaning="exponent of the own domain's share",
        ),
    ),
    coefficients=ge24,
    equation="L_i = (B / D^beta + E) C / h_i^gamma",
    source="Ge et al. 2024 (BiMix); Shukor et al. 2025, appendix B",
    rescale=rescale_ge24,
    convex=lambda params: np.asarray(params["gamma"]) >= 0,
    units=(1.0, 1.0),
    own_domain=True,
)
