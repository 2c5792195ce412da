"""The terms that the coefficients of a law are sums of: a law is declared by them (`declare`).

A term knows its value, the coordinates that it is better searched in, how its parameters carry a
change of units, and where it is convex in h. What holds for a law is read off its terms.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from operator import add, or_
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mixjax.law.base import Coefficients, Coordinates, Law, Parameter, Params, Prior, Units
from mixjax.numerics import log_power_mean, positive_power, power

# Priors, their strength chosen by a recorded experiment (benchmarks/NOTES.md, "Priors"). Standard
# deviations of logarithms: of sizes, of a domain's part at equal shares, between corners of a
# bracket; of 1/gamma of a bracket; of the rates of Ye et al.
SIZES, PARTS, CORNERS, INVERSE, RATES = 3.0, 1.5, 2.0, 6.0, 5.0
SHARES = Prior(0.5, 0.5)  # exponents of shares

# 1/gamma nearest to 0 that is reported: a bracket with |gamma| = 1e5 is exponential to 1e-6.
_SMALLEST_S = 1e-5

Value = Callable[[Params, jax.Array], jax.Array]
Change = Callable[[Params], dict[str, Any]]
Range = tuple[float, float]


class TermCoordinates(NamedTuple):
    """How a term is searched, as `Coordinates` says it of a law."""

    parameters: tuple[Parameter, ...]
    value: Value
    to_law: Change
    from_law: Change


@dataclass(frozen=True)
class Term:
    """A part of a coefficient.

    Attributes:
        parameters: in the paper's form.
        value: (params, h (k,)) -> the term ().
        times: (params, factor) -> those parameters that differ in a term `factor` times this one.
        convex: (params (...) or (..., k)) -> whether it is convex in h, (...) or ().
        constant: whether it is its one parameter, the same for every mixture.
        search: the coordinates that it is searched in; None: as it is written.
    """

    parameters: tuple[Parameter, ...]
    value: Value
    times: Callable[[Params, Any], dict[str, Any]]
    convex: Callable[[Params], Any] = lambda params: True
    constant: bool = False
    search: TermCoordinates | None = None

    @property
    def searched(self) -> TermCoordinates:
        """How it is searched."""

        def same(params: Params) -> dict[str, Any]:
            return {p.name: params[p.name] for p in self.parameters}

        return self.search or TermCoordinates(self.parameters, self.value, same, same)


def middle(start: Range, sd: float = SIZES) -> Prior:
    """The prior of a positive parameter about the middle of the range that searches begin in."""
    return Prior(float(np.sqrt(start[0] * start[1])), sd)


def scalar(name: str, start: Range, unit: str, meaning: str, sd: float = SIZES) -> Term:
    """One positive number for every mixture; sd: of the prior of its logarithm."""
    return Term(
        (Parameter(name, (), "positive", start, unit, meaning, prior=middle(start, sd)),),
        lambda params, h: params[name],
        lambda params, factor: {name: params[name] * factor},
        constant=True,
    )


def mixture_term(start: Range, unit: str) -> Term:
    """1 / sum_i C_i h_i^gamma_i, the part of the irreducible loss that the mixture moves.

    Convex for 0 <= gamma_i <= 1, where the sum is concave. Searched as 1 / sum_i c_i (k
    h_i)^gamma_i: c_i = C_i k^-gamma_i is a domain's part at equal shares, so that gamma_i tilts the
    term about the middle of the table and does not move it as a whole.
    """
    weight, part = "weight of a domain in the mixture term", "a domain's part at equal shares"
    C = Parameter("C", ("k",), "positive", start, unit, weight)
    c = Parameter("c", ("k",), "positive", (0.1, 10.0), unit, part, of="C", prior=Prior(1.0, PARTS))
    exponent = "exponent of a domain's share"
    gamma = Parameter(
        "gamma", ("k",), "real", (0.05, 1.5), "1", exponent, positive_at_zero=True, prior=SHARES
    )

    def value(params: Params, h: jax.Array) -> jax.Array:
        return 1.0 / jnp.sum(params["C"] * power(h, params["gamma"]))

    def searched(params: Params, h: jax.Array) -> jax.Array:
        return 1.0 / jnp.sum(params["c"] * power(h.shape[0] * h, params["gamma"]))

    def to_law(params: Params) -> dict[str, Any]:
        c, gamma = params["c"], params["gamma"]
        return {"C": c * float(len(c)) ** gamma, "gamma": gamma}

    def from_law(params: Params) -> dict[str, Any]:
        C, gamma = np.asarray(params["C"]), np.asarray(params["gamma"])
        return {"c": C * float(len(C)) ** -gamma, "gamma": gamma}

    def convex(params: Params) -> Any:
        gamma = np.asarray(params["gamma"])
        return np.all((gamma >= 0) & (gamma <= 1), axis=-1)

    return Term(
        (C, gamma),
        value,
        lambda params, factor: {"C": params["C"] / factor},
        convex,
        search=TermCoordinates((c, gamma), searched, to_law, from_law),
    )


def bracket(
    name: str, start: Range, unit: str, indexed: bool = True, prior: Prior | None = None
) -> Term:
    """(sum_i C_i h_i)^gamma, the paper's form of A(h), B(h), alpha(h) and beta(h) (eq. 5, 11).

    Convex but for 0 < gamma < 1. It is the power mean (sum_i h_i X_i^s)^(1/s) of its values X_i =
    C_i^gamma at the corners, with s = 1/gamma, and searched in log X_i and s: X_i has the size of
    the bracket whatever gamma is, and s passes smoothly through 0, where gamma runs from +infinity
    to -infinity and the bracket is the exponential exp(sum_i h_i log X_i). What is a wall in (C,
    gamma) is crossed in (X, s). On the joint law this decides between minima 1 and 20 percent above
    the best: benchmarks/NOTES.md, "coordinates".

    Args:
        name: of what depends on the mixture, X.
        start: range that X_i is drawn from.
        unit: of X.
        indexed: whether the parameters are called C_X and gamma_X, or C and gamma.
        prior: of X at the corners.
    """
    C, gamma = (f"C_{name}", f"gamma_{name}") if indexed else ("C", "gamma")
    log_X, s = f"log_{name}", f"s_{name}"
    low, high = np.log(start).tolist()
    of_value = prior or middle(start)._replace(apart=CORNERS)
    corners = of_value._replace(value=float(np.log(of_value.value)))
    own = (
        Parameter(C, ("k",), "positive", start, f"({unit})^(1/{gamma})", f"weight in {name}(h)"),
        Parameter(gamma, (), "real", (-1.5, 1.5), "1", f"exponent of {name}(h)"),
    )
    coordinates = (
        Parameter(log_X, ("k",), "log", (low, high), f"log {unit}", of=C, prior=corners),
        Parameter(s, (), "inverse", (-2.0, 2.0), "1", of=gamma, prior=Prior(0.0, INVERSE)),
    )

    def value(params: Params, h: jax.Array) -> jax.Array:
        return positive_power(jnp.dot(params[C], h), params[gamma])

    def searched(params: Params, h: jax.Array) -> jax.Array:
        return jnp.exp(log_power_mean(h, params[log_X], params[s]))

    def to_law(params: Params) -> dict[str, Any]:
        inverse = np.copysign(np.maximum(np.abs(params[s]), _SMALLEST_S), params[s])
        return {C: np.exp(inverse * params[log_X]), gamma: 1.0 / inverse}

    def from_law(params: Params) -> dict[str, Any]:
        return {log_X: params[gamma] * np.log(params[C]), s: np.divide(1.0, params[gamma])}

    def times(params: Params, factor: Any) -> dict[str, Any]:
        # factor (sum_i C_i h_i)^gamma = (sum_i factor^(1/gamma) C_i h_i)^gamma
        return {C: params[C] * factor ** np.divide(1.0, params[gamma])}

    def convex(params: Params) -> Any:
        return (np.asarray(params[gamma]) <= 0) | (np.asarray(params[gamma]) >= 1)

    search = TermCoordinates(coordinates, searched, to_law, from_law)
    return Term(own, value, times, convex, search=search)


def exponential(
    formula: Callable[[jax.Array, jax.Array, jax.Array], jax.Array],
    per_domain: bool = False,
    convex: bool = True,
) -> Term:
    """A mixture term of Ye et al.

    Args:
        formula: (C, gamma (k,), h (k,)) -> the term (), linear in C.
        per_domain: whether there is a C for each domain.
        convex: whether the formula is convex in h.
    """
    shape = ("k",) if per_domain else ()
    size, size_of, rate = (0.02, 1.0), "size of the mixture term", "rate of a domain's share"
    C = Parameter("C", shape, "positive", size, "loss", size_of, prior=middle(size))
    gamma = Parameter("gamma", ("k",), "real", (-3.0, 1.0), "1", rate, prior=Prior(0.0, RATES))
    return Term(
        (C, gamma),
        lambda params, h: formula(params["C"], params["gamma"], h),
        lambda params, factor: {"C": params["C"] * factor},
        lambda params: convex,
    )


def declare(
    name: str,
    equation: str,
    source: str,
    units: tuple[float, float] = (1.0, 1.0),
    /,
    **coefficients: Term | tuple[Term, ...],
) -> Law:
    """The law whose coefficients are these sums of terms, searched in their coordinates.

    Args:
        name, equation, source, units: as of `Law`.
        coefficients: a term, or the terms of a sum, for each of E, A, alpha, B, beta that the law
            has, in the order of the flat vector z. Without E the loss falls to 0.

    Raises:
        ValueError: exponents that depend on the mixture, and no units: in other units of N and D
            that is another law.
    """
    sums = {c: t if isinstance(t, tuple) else (t,) for c, t in coefficients.items()}
    terms = [term for of_sum in sums.values() for term in of_sum]
    fixed = all(t.constant for exponent in ("alpha", "beta") for t in sums.get(exponent, ()))
    if not fixed and units == (1.0, 1.0):
        raise ValueError(f"law {name!r}: alpha or beta depends on the mixture: give units of N, D")

    def added(value: Callable[[Term], jax.Array]) -> Coefficients:
        values = {c: reduce(add, map(value, of_sum)) for c, of_sum in sums.items()}
        return Coefficients(**({"E": jnp.zeros(())} | values))

    def own(params: Params, h: jax.Array) -> Coefficients:
        return added(lambda term: term.value(params, h))

    def searched(params: Params, h: jax.Array) -> Coefficients:
        return added(lambda term: term.searched.value(params, h))

    def to_law(params: Params) -> dict[str, Any]:
        return reduce(or_, (term.searched.to_law(params) for term in terms), {})

    def from_law(params: Params) -> dict[str, Any]:
        return reduce(or_, (term.searched.from_law(params) for term in terms), {})

    def rescale(params: Params, units: Units) -> dict[str, Any]:
        # A (N / n0)^-alpha = (A n0^alpha) N^-alpha, the same for D; E, A and B scale with the loss.
        rescaled = dict(params)
        for c, exponent, unit in (("E", "", 1.0), ("A", "alpha", units.N), ("B", "beta", units.D)):
            exponents = sums.get(exponent, ()) if fixed else ()
            total = sum(params[p.name] for t in exponents for p in t.parameters)
            for term in sums.get(c, ()):
                rescaled |= term.times(params, units.loss * unit**total)
        return rescaled

    def convex(params: Params) -> Any:
        parts = [t.convex(params) for c in "EAB" for t in sums.get(c, ())]
        return fixed and np.logical_and.reduce(np.broadcast_arrays(*parts))

    parameters = tuple(p for term in terms for p in term.parameters)
    of_search = tuple(p for term in terms for p in term.searched.parameters)
    coordinates = Coordinates(of_search, searched, to_law, from_law)
    return Law(
        name,
        parameters,
        own,
        equation=equation,
        source=source,
        rescale=rescale,
        units=units,
        coordinates=None if of_search == parameters else coordinates,
        convex=convex,
    )
