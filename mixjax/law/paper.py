"""The paper's laws of (N, D, h): simple (9), additive (4), joint (5), full (10, 11)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mixjax.law.base import Coefficients, Coordinates, Law, Parameter, Params, Units
from mixjax.law.chinchilla import ALPHA, BETA, A, B, E
from mixjax.law.chinchilla import rescale as rescale_scalars
from mixjax.numerics import log_power_mean, positive_power, power

C = Parameter(
    "C",
    ("k",),
    start=(0.3, 30.0),
    unit="1 / loss",
    meaning="weight of a domain in the mixture term",
)
GAMMA = Parameter(
    "gamma",
    ("k",),
    "real",
    start=(0.05, 1.5),
    unit="1",
    meaning="exponent of a domain's share",
    positive_at_zero=True,
)


def mixture_term(params: Params, h: jax.Array) -> jax.Array:
    """1 / sum_i C_i h_i^gamma_i, the part of the irreducible loss that the mixture moves."""
    return 1.0 / jnp.sum(params["C"] * power(h, params["gamma"]))


def bracket(params: Params, h: jax.Array, name: str) -> jax.Array:
    """(sum_i C_i h_i)^gamma, the paper's form of A^h, B^h, alpha^h and beta^h (eq. 5, 11)."""
    return positive_power(jnp.dot(params[f"C_{name}"], h), params[f"gamma_{name}"])


def mixture_term_convex(params: Params) -> Any:
    """1 / sum_i C_i h_i^gamma_i is convex for 0 <= gamma_i <= 1: the sum is concave."""
    gamma = np.asarray(params["gamma"])
    return np.all((gamma >= 0) & (gamma <= 1), axis=-1)


def bracket_convex(params: Params, *exponents: str) -> Any:
    """(sum_i C_i h_i)^gamma is convex but for 0 < gamma < 1."""
    values = [np.asarray(params[name]) for name in exponents]
    return np.all([(gamma <= 0) | (gamma >= 1) for gamma in values], axis=0)


def joint_convex(params: Params) -> Any:
    """The mixture term and both brackets are convex."""
    return mixture_term_convex(params) & bracket_convex(params, "gamma_A", "gamma_B")


def simple_convex(params: Params) -> Any:
    """The one bracket is convex."""
    return bracket_convex(params, "gamma")


def bracket_parameters(
    name: str, start: tuple[float, float], unit: str
) -> tuple[Parameter, Parameter]:
    """The k weights and the exponent of one bracket. Both signs of the exponent are searched."""
    return (
        Parameter(
            f"C_{name}",
            ("k",),
            start=start,
            unit=f"({unit})^(1/gamma_{name})",
            meaning=f"weight of a domain in {name}(h)",
        ),
        Parameter(
            f"gamma_{name}",
            (),
            "real",
            start=(-1.5, 1.5),
            unit="1",
            meaning=f"exponent of {name}(h)",
        ),
    )


def additive(params: Params, h: jax.Array) -> Coefficients:
    """Additive law (4): only E depends on the mixture, so the best mixture is the same at every
    scale."""
    E_h = params["E"] + mixture_term(params, h)
    return Coefficients(E_h, params["A"], params["alpha"], params["B"], params["beta"])


def joint(params: Params, h: jax.Array) -> Coefficients:
    """Joint law (5): E, A and B depend on the mixture, so the best mixture moves with (N, D)."""
    E_h = params["E"] + mixture_term(params, h)
    return Coefficients(
        E_h, bracket(params, h, "A"), params["alpha"], bracket(params, h, "B"), params["beta"]
    )


def full(params: Params, h: jax.Array) -> Coefficients:
    """Full law (10, 11): all five coefficients depend on the mixture."""
    E_h = params["E"] + mixture_term(params, h)
    return Coefficients(E_h, *(bracket(params, h, name) for name in ("A", "alpha", "B", "beta")))


def simple(params: Params, h: jax.Array) -> Coefficients:
    """Simple law (9): one exponent for all domains. As printed, A and alpha go with D, B and beta
    with N."""
    E_h = params["E"] + positive_power(jnp.dot(params["C"], h), params["gamma"])
    return Coefficients(E_h, params["B"], params["beta"], params["A"], params["alpha"])


def rescale_additive(params: Params, units: Units) -> dict[str, Any]:
    """E, A, B as in Chinchilla's law; C_i is one over a loss."""
    return rescale_scalars(params, units) | {"C": params["C"] / units.loss}


def rescale_joint(params: Params, units: Units) -> dict[str, Any]:
    """c (sum_i C_i h_i)^gamma = (sum_i c^(1/gamma) C_i h_i)^gamma with c = loss * N^alpha, or
    D^beta."""
    p = dict(params)
    p["E"], p["C"] = p["E"] * units.loss, p["C"] / units.loss
    p["C_A"] = p["C_A"] * (units.loss * units.N ** p["alpha"]) ** (1.0 / p["gamma_A"])
    p["C_B"] = p["C_B"] * (units.loss * units.D ** p["beta"]) ** (1.0 / p["gamma_B"])
    return p


def rescale_full(params: Params, units: Units) -> dict[str, Any]:
    """The loss only: with exponents that depend on h, other units of N and D are another law."""
    p = dict(params)
    p["E"], p["C"] = p["E"] * units.loss, p["C"] / units.loss
    for name in ("A", "B"):
        p[f"C_{name}"] = p[f"C_{name}"] * units.loss ** (1.0 / p[f"gamma_{name}"])
    return p


def rescale_simple(params: Params, units: Units) -> dict[str, Any]:
    """As the additive law, with A and B swapped and a power in place of the reciprocal."""
    p = dict(params)
    p["E"] = p["E"] * units.loss
    p["C"] = p["C"] * units.loss ** (1.0 / p["gamma"])
    p["A"] = p["A"] * units.loss * units.D ** p["alpha"]
    p["B"] = p["B"] * units.loss * units.N ** p["beta"]
    return p


# --- Coordinates of the search -------------------------------------------------------------------
#
# A bracket (sum_i C_i h_i)^gamma is the power mean (sum_i h_i X_i^s)^(1/s) of its values X_i =
# C_i^gamma at the corners, with s = 1/gamma. X_i has the size of the bracket whatever gamma is, and
# s passes smoothly through 0, where gamma runs from +infinity to -infinity and the bracket is the
# exponential exp(sum_i h_i log X_i): a search in (X, s) crosses what is a wall in (C, gamma).
# In the mixture term, c_i = C_i k^-gamma_i is a domain's part at equal shares: gamma_i then tilts
# the term about the middle of the table and no longer moves it as a whole.
# On the joint law this decides between minima 1 and 20 percent above the best: benchmarks/NOTES.md,
# "coordinates".

SEARCH_C = Parameter(
    "c",
    ("k",),
    start=(0.1, 10.0),
    unit="1 / loss",
    meaning="a domain's part of the mixture term at equal shares",
)
# 1/gamma nearest to 0 that is reported: a bracket with |gamma| = 1e5 is exponential to 1e-6.
_SMALLEST_S = 1e-5


def searched_mixture_term(params: Params, h: jax.Array) -> jax.Array:
    """1 / sum_i c_i (k h_i)^gamma_i."""
    return 1.0 / jnp.sum(params["c"] * power(h.shape[0] * h, params["gamma"]))


def searched_bracket(params: Params, h: jax.Array, name: str) -> jax.Array:
    """Power mean () of the corner values of A, B, alpha or beta."""
    return jnp.exp(log_power_mean(h, params[f"log_{name}"], params[f"s_{name}"]))


def corner_parameters(
    name: str, start: tuple[float, float], unit: str
) -> tuple[Parameter, Parameter]:
    """Logarithms of the k corner values of one bracket, and s = 1/gamma."""
    low, high = np.log(start)
    return (
        Parameter(
            f"log_{name}",
            ("k",),
            "real",
            start=(float(low), float(high)),
            unit=f"log {unit}",
            meaning=f"log of {name}(h) at the corners",
        ),
        Parameter(
            f"s_{name}", (), "real", start=(-2.0, 2.0), unit="1", meaning=f"1 / gamma_{name}"
        ),
    )


def from_corners(log_values: np.ndarray, s: float) -> tuple[np.ndarray, float]:
    """The paper's C (k,) and gamma () of a bracket with these corner values: C_i = X_i^s, gamma =
    1/s."""
    s = float(np.copysign(max(abs(s), _SMALLEST_S), s))
    return np.exp(s * np.asarray(log_values)), 1.0 / s


def to_brackets(params: Params) -> dict[str, Any]:
    """Every pair (log_X, s_X) as the paper's (C_X, gamma_X), every (c, gamma) as (C, gamma)."""
    p = dict(params)
    if "c" in p:
        p["C"] = p["c"] * len(p["c"]) ** p["gamma"]
        del p["c"]
    for name in ("A", "alpha", "B", "beta"):
        if f"log_{name}" in p:
            p[f"C_{name}"], p[f"gamma_{name}"] = from_corners(
                p.pop(f"log_{name}"), p.pop(f"s_{name}")
            )
    return p


def from_brackets(params: Params) -> dict[str, Any]:
    """The inverse of `to_brackets`: log X_i = gamma log C_i, s = 1 / gamma, c_i = C_i
    k^-gamma_i."""
    p = dict(params)
    if "C" in p:
        C_i, gamma = np.asarray(p.pop("C")), np.asarray(p["gamma"])
        p["c"] = C_i * float(len(C_i)) ** -gamma
    for name in ("A", "alpha", "B", "beta"):
        if f"C_{name}" in p:
            gamma = p.pop(f"gamma_{name}")
            p[f"log_{name}"], p[f"s_{name}"] = gamma * np.log(p.pop(f"C_{name}")), 1.0 / gamma
    return p


def searched_additive(params: Params, h: jax.Array) -> Coefficients:
    """The additive law with the mixture term centred."""
    return Coefficients(
        params["E"] + searched_mixture_term(params, h),
        params["A"],
        params["alpha"],
        params["B"],
        params["beta"],
    )


def searched_joint(params: Params, h: jax.Array) -> Coefficients:
    """The joint law with the mixture term centred and A, B given at the corners."""
    E_h = params["E"] + searched_mixture_term(params, h)
    return Coefficients(
        E_h,
        searched_bracket(params, h, "A"),
        params["alpha"],
        searched_bracket(params, h, "B"),
        params["beta"],
    )


def searched_full(params: Params, h: jax.Array) -> Coefficients:
    """The full law with the mixture term centred and A, alpha, B, beta given at the corners."""
    E_h = params["E"] + searched_mixture_term(params, h)
    return Coefficients(
        E_h, *(searched_bracket(params, h, name) for name in ("A", "alpha", "B", "beta"))
    )


def searched_simple(params: Params, h: jax.Array) -> Coefficients:
    """The simple law with its mixture term given at the corners."""
    E_h = params["E"] + searched_bracket(params, h, "C")
    return Coefficients(E_h, params["B"], params["beta"], params["A"], params["alpha"])


def simple_from_corners(params: Params) -> dict[str, Any]:
    """(log_C, s_C) as the paper's (C, gamma)."""
    p = dict(params)
    p["C"], p["gamma"] = from_corners(p.pop("log_C"), p.pop("s_C"))
    return p


def simple_to_corners(params: Params) -> dict[str, Any]:
    """The inverse of `simple_from_corners`."""
    p = dict(params)
    gamma = p.pop("gamma")
    p["log_C"], p["s_C"] = gamma * np.log(p.pop("C")), 1.0 / gamma
    return p


_CENTRED = "the mixture term does not move as a whole when gamma_i does"
_CORNERS = "brackets by their corner values pass smoothly from gamma > 0 to gamma < 0"

ADDITIVE = Law(
    name="additive",
    parameters=(E, C, GAMMA, A, ALPHA, B, BETA),
    coefficients=additive,
    equation="L = E + 1 / sum_i(C_i h_i^gamma_i) + A / N^alpha + B / D^beta",
    source="Shukor et al. 2025, eq. (4)",
    rescale=rescale_additive,
    convex=mixture_term_convex,
    units=(1.0, 1.0),
    coordinates=Coordinates(
        (E, SEARCH_C, GAMMA, A, ALPHA, B, BETA),
        searched_additive,
        to_brackets,
        _CENTRED,
        from_brackets,
    ),
)

JOINT = Law(
    name="joint",
    parameters=(
        E,
        C,
        GAMMA,
        *bracket_parameters("A", (0.02, 1.0), "loss * parameters^alpha"),
        ALPHA,
        *bracket_parameters("B", (0.02, 1.0), "loss * tokens^beta"),
        BETA,
    ),
    coefficients=joint,
    equation=(
        "L = E + 1 / sum_i(C_i h_i^gamma_i) + (sum_i C_A_i h_i)^gamma_A / N^alpha + (sum_i "
        "C_B_i h_i)^gamma_B / D^beta"
    ),
    source="Shukor et al. 2025, eq. (5)",
    rescale=rescale_joint,
    convex=joint_convex,
    units=(1.0, 1.0),
    coordinates=Coordinates(
        (
            E,
            SEARCH_C,
            GAMMA,
            *corner_parameters("A", A.start, A.unit),
            ALPHA,
            *corner_parameters("B", B.start, B.unit),
            BETA,
        ),
        searched_joint,
        to_brackets,
        _CORNERS,
        from_brackets,
    ),
)

FULL = Law(
    name="full",
    parameters=(
        E,
        C,
        GAMMA,
        *bracket_parameters("A", (0.02, 1.0), "loss"),
        *bracket_parameters("alpha", (0.1, 1.0), "1"),
        *bracket_parameters("B", (0.02, 1.0), "loss"),
        *bracket_parameters("beta", (0.1, 1.0), "1"),
    ),
    coefficients=full,
    equation=(
        "L = E + 1 / sum_i(C_i h_i^gamma_i) + A(h) / (N/1e9)^alpha(h) + B(h) / "
        "(D/1e10)^beta(h), X(h) = (sum_i C_X_i h_i)^gamma_X"
    ),
    source="Shukor et al. 2025, eq. (10, 11)",
    rescale=rescale_full,
    units=(1e9, 1e10),
    coordinates=Coordinates(
        (
            E,
            SEARCH_C,
            GAMMA,
            *corner_parameters("A", A.start, "loss"),
            *corner_parameters("alpha", ALPHA.start, "1"),
            *corner_parameters("B", B.start, "loss"),
            *corner_parameters("beta", BETA.start, "1"),
        ),
        searched_full,
        to_brackets,
        _CORNERS,
        from_brackets,
    ),
)

SIMPLE = Law(
    name="simple",
    parameters=(
        E,
        Parameter(
            "C",
            ("k",),
            start=(0.02, 1.0),
            unit="loss^(1/gamma)",
            meaning="weight of a domain in the mixture term",
        ),
        Parameter(
            "gamma", (), "real", start=(-1.5, 1.5), unit="1", meaning="exponent of the mixture term"
        ),
        Parameter("A", start=A.start, unit="loss * tokens^alpha", meaning="size of the D term"),
        Parameter("alpha", start=ALPHA.start, unit="1", meaning="exponent of D"),
        Parameter("B", start=B.start, unit="loss * parameters^beta", meaning="size of the N term"),
        Parameter("beta", start=BETA.start, unit="1", meaning="exponent of N"),
    ),
    coefficients=simple,
    equation="L = E + (sum_i C_i h_i)^gamma + A / D^alpha + B / N^beta",
    source="Shukor et al. 2025, eq. (9)",
    rescale=rescale_simple,
    convex=simple_convex,
    units=(1.0, 1.0),
    coordinates=Coordinates(
        (
            E,
            *corner_parameters("C", (0.02, 1.0), "loss"),
            Parameter("A", start=A.start),
            Parameter("alpha", start=ALPHA.start),
            Parameter("B", start=B.start),
            Parameter("beta", start=BETA.start),
        ),
        searched_simple,
        simple_from_corners,
        _CORNERS,
        simple_to_corners,
    ),
)
