"""The slow twin: every formula of the paper in plain NumPy, one row at a time, never imported by
mixjax.

Written from shared/paper/equations.md, not from the package. A law is (params, h (k,), N, D) ->
loss, with N and D as counts. Complex parameters and weights are welcome: see `gradient`.
"""

from __future__ import annotations

import numpy as np

# The full law has no form that is free of units (alpha depends on h): mixjax states it for N in
# billions of parameters and D in tens of billions of tokens.
FULL_UNITS = (1e9, 1e10)


def chinchilla(p, h, N, D):
    """Equation (2)."""
    return p["E"] + p["A"] / N ** p["alpha"] + p["B"] / D ** p["beta"]


def coupled(p, h, N, D):
    """Chinchilla's terms added under a power."""
    return p["E"] + (p["A"] / N ** p["alpha"] + p["B"] / D ** p["beta"]) ** p["kappa"]


def log_quadratic(p, h, N, D):
    """A quadratic in log N and log D."""
    n, d = np.log(N), np.log(D)
    bend = p["nn"] * n * n + p["nd"] * n * d + p["dd"] * d * d
    return np.exp(p["level"] + p["n"] * n + p["d"] * d + bend)


def simple(p, h, N, D):
    """Equation (9): A and alpha go with D, B and beta with N, as printed."""
    return (
        p["E"]
        + np.sum(p["C"] * h) ** p["gamma"]
        + p["A"] / D ** p["alpha"]
        + p["B"] / N ** p["beta"]
    )


def additive(p, h, N, D):
    """Equation (4)."""
    return (
        p["E"]
        + 1 / np.sum(p["C"] * h ** p["gamma"])
        + p["A"] / N ** p["alpha"]
        + p["B"] / D ** p["beta"]
    )


def joint(p, h, N, D):
    """Equation (5)."""
    A = np.sum(p["C_A"] * h) ** p["gamma_A"]
    B = np.sum(p["C_B"] * h) ** p["gamma_B"]
    return p["E"] + 1 / np.sum(p["C"] * h ** p["gamma"]) + A / N ** p["alpha"] + B / D ** p["beta"]


def powers(p, h, N, D):
    """The joint law with its mixture term in the place of A, and no floor."""
    return (
        1 / np.sum(p["C"] * h ** p["gamma"]) / N ** p["alpha"]
        + np.sum(p["C_B"] * h) ** p["gamma_B"] / D ** p["beta"]
    )


def full(p, h, N, D):
    """Equations (10) and (11), N and D in `FULL_UNITS`."""
    A = np.sum(p["C_A"] * h) ** p["gamma_A"]
    B = np.sum(p["C_B"] * h) ** p["gamma_B"]
    alpha = np.sum(p["C_alpha"] * h) ** p["gamma_alpha"]
    beta = np.sum(p["C_beta"] * h) ** p["gamma_beta"]
    return (
        p["E"]
        + 1 / np.sum(p["C"] * h ** p["gamma"])
        + A / (N / FULL_UNITS[0]) ** alpha
        + B / (D / FULL_UNITS[1]) ** beta
    )


def additive_fixed_nd(p, h, N, D):
    """Appendix B, one N and one D."""
    return p["E"] + 1 / np.sum(p["C"] * h ** p["gamma"])


def additive_fixed_n(p, h, N, D):
    """Appendix B, one N."""
    return p["E"] + 1 / np.sum(p["C"] * h ** p["gamma"]) + p["B"] / D ** p["beta"]


def ye_m1(p, h, N, D):
    """Appendix B, Ye M1."""
    return p["E"] + np.sum(p["C"] * np.exp(p["gamma"] * h))


def ye_m2(p, h, N, D):
    """Appendix B, Ye M2."""
    return p["E"] + p["C"] * np.sum(np.exp(p["gamma"] * h))


def ye_m3(p, h, N, D):
    """Appendix B, Ye M3."""
    return p["E"] + p["C"] * np.exp(np.prod(p["gamma"] * h))


def ye_m4(p, h, N, D):
    """Appendix B, Ye M4."""
    return p["E"] + p["C"] * np.exp(np.sum(p["gamma"] * h))


def ge24(p, h, N, D):
    """Appendix B, BiMix: h is the weight of the target's own domain alone."""
    return (p["B"] / D ** p["beta"] + p["E"]) * p["C"] / h[0] ** p["gamma"]


LAWS = {
    law.__name__: law
    for law in (
        chinchilla,
        coupled,
        log_quadratic,
        simple,
        additive,
        joint,
        full,
        powers,
        additive_fixed_nd,
        additive_fixed_n,
        ye_m1,
        ye_m2,
        ye_m3,
        ye_m4,
        ge24,
    )
}

# Number of parameters with k domains, for k = 3, 4, 7, 8, written out from the paper's counts.
COUNTS = {
    "chinchilla": (5, 5, 5, 5),
    "coupled": (6, 6, 6, 6),
    "log_quadratic": (6, 6, 6, 6),
    "simple": (9, 10, 13, 14),
    "additive": (11, 13, 19, 21),
    "joint": (17, 21, 33, 37),
    "full": (23, 29, 47, 53),
    "powers": (12, 15, 24, 27),
    "additive_fixed_nd": (7, 9, 15, 17),
    "additive_fixed_n": (9, 11, 17, 19),
    "ye_m1": (7, 9, 15, 17),
    "ye_m2": (5, 6, 9, 10),
    "ye_m3": (5, 6, 9, 10),
    "ye_m4": (5, 6, 9, 10),
    "ge24": (5, 5, 5, 5),
}

# Which of N and D each law reads.
READS = {
    "chinchilla": (True, True),
    "coupled": (True, True),
    "log_quadratic": (True, True),
    "simple": (True, True),
    "additive": (True, True),
    "joint": (True, True),
    "full": (True, True),
    "powers": (True, True),
    "additive_fixed_nd": (False, False),
    "additive_fixed_n": (False, True),
    "ye_m1": (False, False),
    "ye_m2": (False, False),
    "ye_m3": (False, False),
    "ye_m4": (False, False),
    "ge24": (False, True),
}


def loss(law, params, h, N, D):
    """Loss of one row, IEEE rules at h = 0: 0^gamma is 0, 1, inf for gamma >, =, < 0, and 1 / inf =
    0."""
    with np.errstate(divide="ignore"):
        return LAWS[law](params, np.asarray(h), np.float64(N), np.float64(D))


def losses(law, params, h, N, D):
    """Losses (rows,) of h (rows, k), N (rows,), D (rows,), one row after the other."""
    return np.array([loss(law, params, h[j], N[j], D[j]) for j in range(len(h))])


# The weak prior of each coordinate of the search: the likeliest value, the standard deviation, and
# that between domains. Positive parameters by their logarithms, brackets by those of their values
# at corners and by s = 1 / gamma; N, D and the loss are about 1.
_SIZE = (np.log(0.02) / 2, 3.0, np.inf)
_EXPONENT = (np.log(0.1) / 2, 0.3, np.inf)
_FLOOR = (np.log(0.1) / 2, 3.0, np.inf)
_MIXTURE = {"E": _FLOOR, "c": (0.0, 1.5, np.inf), "gamma": (0.5, 0.5, np.inf)}
_CORNERS, _INVERSE = (np.log(0.02) / 2, 3.0, 2.0), (0.0, 6.0, np.inf)
_EXPONENTS = (np.log(0.1) / 2, 0.3, 0.3)
_SCALES = {"A": _SIZE, "alpha": _EXPONENT, "B": _SIZE, "beta": _EXPONENT}
PRIORS = {
    "chinchilla": {"E": _FLOOR} | _SCALES,
    "coupled": {"E": _FLOOR} | _SCALES | {"kappa": (0.0, 0.5, np.inf)},
    "additive": _MIXTURE | _SCALES,
    "full": _MIXTURE
    | {f"log_{x}": _CORNERS for x in ("A", "B")}
    | {f"log_{x}": _EXPONENTS for x in ("alpha", "beta")}
    | {f"s_{x}": _INVERSE for x in ("A", "B", "alpha", "beta")},
    "ye_m4": {"E": _FLOOR, "C": _SIZE, "gamma": (0.0, 5.0, np.inf)},
    "log_quadratic": {
        "level": (0.0, 3.0, np.inf),
        **dict.fromkeys(("n", "d"), (-0.1, 0.3, np.inf)),
        **dict.fromkeys(("nn", "nd", "dd"), (0.0, 0.1, np.inf)),
    },
}


def minus_log_prior(law, values):
    """P, minus the logarithm of the prior's density but for a constant, of {coordinate: value ()
    or (k,)}."""
    total = 0.0
    for name, (mean, sd, apart) in PRIORS[law].items():
        x = np.atleast_1d(values[name]) - mean
        total = total + np.sum(x**2) / sd**2 / 2 + np.sum((x - np.mean(x)) ** 2) / apart**2 / 2
    return total


def gradient(f, x):
    """Gradient (n,) of f at x (n,) by complex steps, Im f(x + i s e_j) / s.

    A difference quotient without cancellation: s may be 1e-100, so its error is rounding alone.
    """
    step = 1e-100
    slopes = []
    for j in range(len(x)):
        shifted = np.array(x, dtype=complex)
        shifted[j] += 1j * step
        slopes.append(np.imag(f(shifted)) / step)
    return np.array(slopes)


def log_power_mean(h, log_values, s):
    """log (sum_i h_i v_i^s)^(1/s), accurate for small s because the h_i sum to 1; s = 0: the
    geometric mean."""
    return (
        np.dot(h, log_values)
        if s == 0
        else np.log1p(np.dot(h, np.expm1(s * np.asarray(log_values)))) / s
    )


def central_differences(f, x, step):
    """Gradient (n,) of f at x (n,) to fourth order, for functions that complex numbers do not pass
    through."""
    slopes = []
    for e in step * np.eye(len(x)):
        slopes.append((8 * (f(x + e) - f(x - e)) - (f(x + 2 * e) - f(x - 2 * e))) / (12 * step))
    return np.array(slopes)


def huber(x, delta):
    """Equation (6), one number."""
    return x**2 / 2 if abs(x) < delta else delta * (abs(x) - delta / 2)


def objective(law, params, h, N, D, observed, delta=1e-3, residual="loss"):
    """Mean Huber loss (6) over the rows with a measured loss; residual "log" as in Hoffmann et
    al."""
    terms = []
    for j in range(len(observed)):
        if np.isnan(observed[j]):
            continue
        predicted = loss(law, params, h[j], N[j], D[j])
        x = (
            np.log(observed[j]) - np.log(predicted)
            if residual == "log"
            else observed[j] - predicted
        )
        terms.append(huber(x, delta))
    return sum(terms) / len(terms)


def mre(predicted, observed):
    """Mean relative error in percent, over the rows with a measured loss."""
    errors = [abs(p - o) / o for p, o in zip(predicted, observed, strict=True) if not np.isnan(o)]
    return 100 * sum(errors) / len(errors)
