"""Two power laws without a floor, for extrapolation: what few sizes cannot pin down is left out."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from mixjax.law.base import Coefficients, Coordinates, Law, Parameter, Params, Units
from mixjax.law.chinchilla import BETA, B
from mixjax.law.paper import (
    GAMMA,
    SEARCH_C,
    bracket,
    bracket_convex,
    bracket_parameters,
    corner_parameters,
    from_brackets,
    mixture_term,
    mixture_term_convex,
    searched_bracket,
    searched_mixture_term,
    to_brackets,
)

C = Parameter(
    "C",
    ("k",),
    start=(0.1, 10.0),
    unit="parameters^-alpha / loss",
    meaning="weight of a domain in the N term",
)
# Without a floor the loss falls slowly in N.
ALPHA = Parameter("alpha", start=(0.03, 0.6), unit="1", meaning="exponent of N")


def powers(params: Params, h: jax.Array) -> Coefficients:
    """The mixture term in the place of A, no E: the loss falls to 0, slowly.

    A floor E and the exponent alpha can be told from each other only over a wide range of N. Where
    the range is narrow a fit takes some floor, and predicts too high a loss at larger N.
    """
    return Coefficients(
        jnp.zeros(()),
        mixture_term(params, h),
        params["alpha"],
        bracket(params, h, "B"),
        params["beta"],
    )


def searched_powers(params: Params, h: jax.Array) -> Coefficients:
    """The mixture term centred and B given at the corners, as in the joint law."""
    return Coefficients(
        jnp.zeros(()),
        searched_mixture_term(params, h),
        params["alpha"],
        searched_bracket(params, h, "B"),
        params["beta"],
    )


def rescale(params: Params, units: Units) -> dict[str, Any]:
    """1 / C scales as loss * N^alpha, the bracket as loss * D^beta."""
    p = dict(params)
    p["C"] = p["C"] / (units.loss * units.N ** p["alpha"])
    p["C_B"] = p["C_B"] * (units.loss * units.D ** p["beta"]) ** (1.0 / p["gamma_B"])
    return p


def powers_convex(params: Params) -> Any:
    """The mixture term and the bracket are convex."""
    return mixture_term_convex(params) & bracket_convex(params, "gamma_B")


POWERS = Law(
    name="powers",
    parameters=(C, GAMMA, ALPHA, *bracket_parameters("B", (0.02, 1.0), "loss * tokens^beta"), BETA),
    coefficients=powers,
    equation="L = 1 / sum_i(C_i h_i^gamma_i) / N^alpha + (sum_i C_B_i h_i)^gamma_B / D^beta",
    source="benchmarks/extrapolation.py",
    rescale=rescale,
    convex=powers_convex,
    units=(1.0, 1.0),
    coordinates=Coordinates(
        (SEARCH_C, GAMMA, ALPHA, *corner_parameters("B", B.start, B.unit), BETA),
        searched_powers,
        to_brackets,
        "as the joint law's",
        from_brackets,
    ),
)
