"""The laws by name: `laws()` lists them, `find_law` finds one by what a user types.

A law that the terms do not cover is written as a function, as a user would write it (`ge24`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from mixjax.errors import UserError, nearest
from mixjax.law.base import Coefficients, Law, Parameter, Params, Prior, Units, row_loss
from mixjax.law.terms import bracket, declare, exponential, middle, mixture_term, scalar
from mixjax.numerics import power

# Start ranges are in units in which N, D and the loss are about 1 (their medians), so that one
# range fits tables in nats, bits or perplexity and models of 1e6 or 1e11 parameters.
SIZE, EXPONENT = (0.02, 1.0), (0.1, 1.0)
EXPONENTS = 0.3  # standard deviation of the prior of the logarithm of an exponent of N or D
OF_CORNERS = middle(EXPONENT, EXPONENTS)._replace(apart=EXPONENTS)
OF_N, OF_D = "loss * parameters^alpha", "loss * tokens^beta"

E = scalar("E", (0.1, 1.0), "loss", "irreducible loss")
N_TERM = {
    "A": scalar("A", SIZE, OF_N, "size of the N term"),
    "alpha": scalar("alpha", EXPONENT, "1", "exponent of N", EXPONENTS),
}
D_TERM = {
    "B": scalar("B", SIZE, OF_D, "size of the D term"),
    "beta": scalar("beta", EXPONENT, "1", "exponent of D", EXPONENTS),
}
MIXTURE = mixture_term((0.3, 30.0), "1 / loss")


def ge24(params: Params, h: jax.Array) -> Coefficients:
    """Ge 24 (BiMix), for target i a law of D and its own share h_i; infinite at h_i = 0."""
    share = params["C"] / power(h[0], params["gamma"])
    return Coefficients(params["E"] * share, B=params["B"] * share, beta=params["beta"])


def _rescale_ge24(params: Params, units: Units) -> dict[str, Any]:
    C, B = params["C"] * units.loss, params["B"] * units.D ** params["beta"]
    return {**params, "C": C, "B": B}


def coupled(params: Params, h: jax.Array, N: jax.Array, D: jax.Array) -> jax.Array:
    """Chinchilla's law whose terms in N and D are added under a power."""
    of_n = jnp.log(params["A"]) - params["alpha"] * jnp.log(N)
    of_d = jnp.log(params["B"]) - params["beta"] * jnp.log(D)
    return params["E"] + jnp.exp(params["kappa"] * jnp.logaddexp(of_n, of_d))


def _rescale_coupled(params: Params, units: Units) -> dict[str, Any]:
    of_loss = units.loss ** (1.0 / params["kappa"])
    A, B = params["A"] * units.N ** params["alpha"], params["B"] * units.D ** params["beta"]
    return {**params, "E": params["E"] * units.loss, "A": A * of_loss, "B": B * of_loss}


def log_quadratic(params: Params, h: jax.Array, N: jax.Array, D: jax.Array) -> jax.Array:
    """A quadratic of log N and log D for log L."""
    n, d = jnp.log(N), jnp.log(D)
    bend = params["nn"] * n**2 + params["nd"] * n * d + params["dd"] * d**2
    return jnp.exp(params["level"] + params["n"] * n + params["d"] * d + bend)


def _rescale_log_quadratic(params: Params, units: Units) -> dict[str, Any]:
    p, u, v = params, np.log(units.N), np.log(units.D)
    bend = p["nn"] * u**2 + p["nd"] * u * v + p["dd"] * v**2
    level = p["level"] + np.log(units.loss) - p["n"] * u - p["d"] * v + bend
    n, d = p["n"] - 2 * p["nn"] * u - p["nd"] * v, p["d"] - 2 * p["dd"] * v - p["nd"] * u
    return {**params, "level": level, "n": n, "d": d}


def _real(name: str, start: tuple[float, float], meaning: str, sd: float) -> Parameter:
    return Parameter(name, (), "real", start, "1", meaning, prior=Prior(sum(start) / 2, sd))


_PAPER = "Shukor et al. 2025, "
_BUILT_IN = (
    declare(
        "chinchilla",
        "L = E + A / N^alpha + B / D^beta",
        f"Hoffmann et al. 2022; {_PAPER}eq. (2)",
        E=E,
        **N_TERM,
        **D_TERM,
    ),
    # One exponent for all domains. As printed, A and alpha go with D, B and beta with N.
    declare(
        "simple",
        "L = E + (sum_i C_i h_i)^gamma + A / D^alpha + B / N^beta",
        f"{_PAPER}eq. (9)",
        E=(E, bracket("C", SIZE, "loss", indexed=False)),
        B=scalar("A", SIZE, "loss * tokens^alpha", "size of the D term"),
        beta=scalar("alpha", EXPONENT, "1", "exponent of D", EXPONENTS),
        A=scalar("B", SIZE, "loss * parameters^beta", "size of the N term"),
        alpha=scalar("beta", EXPONENT, "1", "exponent of N", EXPONENTS),
    ),
    # Only E depends on the mixture, so the best mixture is the same at every scale.
    declare(
        "additive",
        "L = E + 1 / sum_i(C_i h_i^gamma_i) + A / N^alpha + B / D^beta",
        f"{_PAPER}eq. (4)",
        E=(E, MIXTURE),
        **N_TERM,
        **D_TERM,
    ),
    # E, A and B depend on the mixture, so the best mixture moves with (N, D).
    declare(
        "joint",
        "L = E + 1 / sum_i(C_i h_i^gamma_i) + (sum_i C_A_i h_i)^gamma_A / N^alpha + (sum_i C_B_i "
        "h_i)^gamma_B / D^beta",
        f"{_PAPER}eq. (5)",
        E=(E, MIXTURE),
        A=bracket("A", SIZE, OF_N),
        alpha=N_TERM["alpha"],
        B=bracket("B", SIZE, OF_D),
        beta=D_TERM["beta"],
    ),
    # All five coefficients depend on the mixture.
    declare(
        "full",
        "L = E + 1 / sum_i(C_i h_i^gamma_i) + A(h) / (N/1e9)^alpha(h) + B(h) / (D/1e10)^beta(h), "
        "X(h) = (sum_i C_X_i h_i)^gamma_X",
        f"{_PAPER}eq. (10, 11)",
        (1e9, 1e10),
        E=(E, MIXTURE),
        A=bracket("A", SIZE, "loss"),
        alpha=bracket("alpha", EXPONENT, "1", prior=OF_CORNERS),
        B=bracket("B", SIZE, "loss"),
        beta=bracket("beta", EXPONENT, "1", prior=OF_CORNERS),
    ),
    # Two power laws without a floor, for extrapolation. A floor E and the exponent alpha can be
    # told from each other only over a wide range of N: where it is narrow a fit takes some floor,
    # and predicts too high a loss at larger N. Without a floor the loss falls slowly in N.
    declare(
        "powers",
        "L = 1 / sum_i(C_i h_i^gamma_i) / N^alpha + (sum_i C_B_i h_i)^gamma_B / D^beta",
        "benchmarks/NOTES.md, extrapolation",
        A=mixture_term((0.1, 10.0), "parameters^-alpha / loss"),
        alpha=scalar("alpha", (0.03, 0.6), "1", "exponent of N", EXPONENTS),
        B=bracket("B", SIZE, OF_D),
        beta=D_TERM["beta"],
    ),
    # For tables without mixtures: isoFLOP tables bend more than a sum of two powers can.
    Law(
        "coupled",
        (
            *(p for t in (E, *N_TERM.values(), *D_TERM.values()) for p in t.parameters),
            Parameter(
                "kappa",
                start=(0.4, 2.0),
                unit="1",
                meaning="power of both terms together",
                prior=Prior(1.0, 0.5),
            ),
        ),
        predict=coupled,
        equation="L = E + (A / N^alpha + B / D^beta)^kappa",
        source="after Kaplan et al. 2020, eq. (1.5), with a floor",
        rescale=_rescale_coupled,
        units=(1.0, 1.0),
    ),
    Law(
        "log_quadratic",
        (
            _real("level", (-0.3, 0.3), "log of the loss where N and D are 1", 3.0),
            _real("n", (-0.2, 0.0), "slope of log N", 0.3),
            _real("d", (-0.2, 0.0), "slope of log D", 0.3),
            _real("nn", (-0.05, 0.05), "bend in log N", 0.1),
            _real("nd", (-0.05, 0.05), "bend in both", 0.1),
            _real("dd", (-0.05, 0.05), "bend in log D", 0.1),
        ),
        predict=log_quadratic,
        equation="log L = level + n log N + d log D + nn log^2 N + nd log N log D + dd log^2 D",
        source="regression",
        rescale=_rescale_log_quadratic,
        units=(1.0, 1.0),
    ),
    # The rest are laws at fixed N or fixed (N, D).
    declare(
        "additive_fixed_n",
        "L = E + 1 / sum_i(C_i h_i^gamma_i) + B / D^beta",
        f"{_PAPER}appendix B",
        E=(E, MIXTURE),
        **D_TERM,
    ),
    declare(
        "additive_fixed_nd",
        "L = E + 1 / sum_i(C_i h_i^gamma_i)",
        f"{_PAPER}appendix B",
        E=(E, MIXTURE),
    ),
    declare(
        "ye_m1",
        "L = E + sum_i(C_i exp(gamma_i h_i))",
        f"Ye et al. 2024, M1; {_PAPER}appendix B",
        E=(E, exponential(lambda C, gamma, h: jnp.sum(C * jnp.exp(gamma * h)), per_domain=True)),
    ),
    declare(
        "ye_m2",
        "L = E + C sum_i(exp(gamma_i h_i))",
        f"Ye et al. 2024, M2; {_PAPER}appendix B",
        E=(E, exponential(lambda C, gamma, h: C * jnp.sum(jnp.exp(gamma * h)))),
    ),
    # Only the product of the gamma_i is identifiable; constant wherever some h_i = 0.
    declare(
        "ye_m3",
        "L = E + C exp(prod_i(gamma_i h_i))",
        f"Ye et al. 2024, M3; {_PAPER}appendix B",
        E=(E, exponential(lambda C, gamma, h: C * jnp.exp(jnp.prod(gamma * h)), convex=False)),
    ),
    # Adding c to all gamma_i and dividing C by e^c changes nothing.
    declare(
        "ye_m4",
        "L = E + C exp(sum_i(gamma_i h_i))",
        f"Ye et al. 2024, M4; {_PAPER}appendix B",
        E=(E, exponential(lambda C, gamma, h: C * jnp.exp(jnp.dot(gamma, h)))),
    ),
    Law(
        "ge24",
        (
            Parameter("B", (), "positive", SIZE, "tokens^beta", "size of the D term"),
            *D_TERM["beta"].parameters,
            Parameter("E", (), "positive", (0.1, 1.0), "1", "irreducible part"),
            Parameter("C", (), "positive", (0.3, 3.0), "loss", "size, redundant with B and E"),
            Parameter("gamma", (), "real", (0.01, 0.5), "1", "exponent of the own domain's share"),
        ),
        ge24,
        equation="L_i = (B / D^beta + E) C / h_i^gamma",
        source=f"Ge et al. 2024 (BiMix); {_PAPER}appendix B",
        rescale=_rescale_ge24,
        units=(1.0, 1.0),
        own_domain=True,
        convex=lambda params: np.asarray(params["gamma"]) >= 0,
    ),
)
_REGISTRY: Mapping[str, Law] = MappingProxyType({law.name: law for law in _BUILT_IN})

# Other limits on a law's parameters, by what is added to its name: the parameter, its shape, and
# its domain then.
OPTIONS: Mapping[str, tuple[str, tuple[str, ...], Literal["positive", "real"]]] = {
    "free-E": ("E", (), "real"),
    "positive-gamma": ("gamma", ("k",), "positive"),
}


def laws() -> Mapping[str, Law]:
    """The built-in laws by name, read-only."""
    return _REGISTRY


def is_built_in(name: str) -> bool:
    """Whether a law of that name, or the law before its @, is in the registry; of an average,
    whether all its laws are."""
    laws = [part.rpartition("*")[2] for part in name.split(" + ")]
    return all(law.partition("@")[0] in _REGISTRY for law in laws)


def find_law(law: str | Law) -> Law:
    """The law of that name; "joint@2e9" is the joint law with a lag of 2e9 tokens, "joint@free-E"
    with an E of any sign, "0.6*joint + 0.4*powers@1e9" an `average`. A `Law` is returned as it is.

    Raises:
        UserError: no such name (the nearest ones are offered), or what follows an @ is no lag and
            no option that the law has.
    """
    if isinstance(law, Law):
        return law
    if "*" in str(law):
        return _find_average(str(law))
    name, *options = str(law).split("@")
    if name not in _REGISTRY:
        remedy = f"{nearest(str(law), _REGISTRY)}choose from {', '.join(_REGISTRY)}"
        raise UserError("law", f"no law {law!r}", remedy)
    changed = _REGISTRY[name]
    for option in options:
        try:
            known = option in OPTIONS
            changed = limited(changed, option) if known else lagged(changed, float(option))
        except ValueError:
            what = f"{option!r} is not a number of tokens, and not an option of law {name!r}"
            known = " or ".join(f"{name}@{option}" for option in OPTIONS)
            remedy = f"write for example {name}@2e9 for a lag in tokens, or {known}"
            raise UserError("law", f"{law!r}: {what}", remedy) from None
    return changed


def _find_average(name: str) -> Law:
    parts = [part.rpartition("*") for part in name.split(" + ")]
    try:
        return average({find_law(law): float(weight) for weight, _, law in parts})
    except ValueError as error:
        remedy = "write for example '0.6*joint + 0.4*additive', of weights that add up to 1"
        raise UserError("law", f"{name!r}: {error}", remedy) from None


def average(weights: Mapping[Law, float]) -> Law:
    """The mean of the losses that several laws predict, {law: weight}, as one law; its parameters
    are called LAW.NAME. It is not fitted as a whole: its laws are, each by itself.

    Raises:
        ValueError: weights that are not positive or do not add up to 1, or a law of a target's own
            domain.
    """
    if any(not w > 0 for w in weights.values()) or abs(sum(weights.values()) - 1) > 1e-6:
        raise ValueError("weights that do not add up to 1")
    if any(law.own_domain for law in weights):
        raise ValueError("laws of a target's own domain are not averaged")
    names = " + ".join(f"{w:g}*{law.name}" for law, w in weights.items())

    def own(law: Law, params: Params) -> dict[str, Any]:
        return {p.name: params[f"{law.name}.{p.name}"] for p in law.parameters}

    def predict(params: Params, h: jax.Array, N: jax.Array, D: jax.Array) -> jax.Array:
        mean: Any = sum(w * row_loss(law, own(law, params), h, N, D) for law, w in weights.items())
        return mean

    def convex(params: Params) -> Any:
        each = [law.is_convex(own(law, params)) for law in weights]
        return np.logical_and.reduce(np.broadcast_arrays(*each))

    return Law(
        names,
        tuple(replace(p, name=f"{x.name}.{p.name}") for x in weights for p in x.parameters),
        predict=predict,
        equation=" + ".join(f"{w:g} ({law.equation})" for law, w in weights.items()),
        source="mixjax.trust.extrapolate",
        units=(1.0, 1.0),
        convex=convex,
        averaged=tuple(weights.items()),
    )


def lagged(law: Law, lag: float) -> Law:
    """The same law of D - lag tokens, named NAME@LAG; a ValueError where the lag is no number of at
    least 0.

    A model at the end of a linear warm-up over W tokens has spent the learning rate of W / 2: its
    loss is that of a run without warm-up that has seen W / 2 fewer.
    """
    if not (np.isfinite(lag) and lag >= 0):
        raise ValueError(f"law {law.name!r}: a lag of {lag} tokens")
    name, *options = law.name.split("@")
    kept = [option for option in options if option in OPTIONS]
    size = [f"{lag:g}".replace("e+0", "e").replace("e+", "e")] if lag else []
    return replace(law, name="@".join([name, *size, *kept]), lag=float(lag))


def limited(law: Law, option: str) -> Law:
    """The same law with other limits on a parameter, named NAME@OPTION; a ValueError where it has
    no such parameter, or this limit already.

    "free-E": the floor E may be negative, as where the mixture term carries it. "positive-gamma":
    no exponent of a domain's share is, so that a domain is never worth most where there is none.
    """
    name, shape, domain = OPTIONS[option]

    def change(parameters: tuple[Parameter, ...]) -> tuple[Parameter, ...]:
        changed = tuple(
            replace(p, domain=domain) if (p.name, p.shape) == (name, shape) else p
            for p in parameters
        )
        if changed == parameters:
            raise ValueError(f"law {law.name!r} has nothing that {option} would change")
        return changed

    own, search, new = change(law.parameters), law.coordinates, f"{law.name}@{option}"
    search = search and replace(search, parameters=change(search.parameters))
    return replace(law, name=new, parameters=own, coordinates=search)
