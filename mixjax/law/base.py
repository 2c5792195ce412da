"""What a law is (runs -> design -> LAW -> objective): a frozen record plus one pure function.

Every law of the paper is Chinchilla's with coefficients that depend on the mixture (eq. 3):

    L(N, D, h) = E(h) + A(h) / N^alpha(h) + B(h) / D^beta(h)

A law is written for ONE mixture h (k,) and ONE parameter set; batching is the caller's business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

Params = Mapping[str, Any]


class Coefficients(NamedTuple):
    """E, A, alpha, B, beta of one mixture, each (). None: the law has no such term."""

    E: Any
    A: Any = None
    alpha: Any = None
    B: Any = None
    beta: Any = None


class Units(NamedTuple):
    """What a law's N, D (counts) and loss are divided by."""

    N: float = 1.0
    D: float = 1.0
    loss: float = 1.0


class Prior(NamedTuple):
    """What is expected of a parameter before any run, where N, D and the loss are about 1: its
    coordinate in the search (the logarithm of a positive one) is normal.

    value: the likeliest; sd: of the coordinate; apart: standard deviation between domains, about
    their mean, where that is smaller.
    """

    value: float
    sd: float
    apart: float = np.inf


@dataclass(frozen=True)
class Parameter:
    """One named parameter of a law, or one coordinate of its search.

    Attributes:
        name: as in the paper, e.g. "gamma".
        shape: () for a scalar, ("k",) for one number per domain.
        domain: "positive" (searched in its logarithm) or "real"; of a coordinate of the search also
            "log" or "inverse", real numbers that stand for exp(x) and for 1 / x.
        start: range that initial values are drawn from, log-uniformly when positive; in units in
            which N, D and the loss are about 1 for a law with `rescale`, else in the law's.
        unit: of the reported number.
        meaning: one phrase for reports.
        positive_at_zero: an exponent of h that is searched as a positive one where a table has
            shares of exactly 0: h^gamma jumps there at gamma = 0, where a search would stop.
        of: the law's own parameter that a coordinate of the search stands for, where the name
            differs.
        prior: what is expected of it; None: nothing.
    """

    name: str
    shape: tuple[str, ...] = ()
    domain: Literal["positive", "real", "log", "inverse"] = "positive"
    start: tuple[float, float] = (0.1, 1.0)
    unit: str = ""
    meaning: str = ""
    positive_at_zero: bool = False
    of: str = ""
    prior: Prior | None = None

    def size(self, k: int) -> int:
        """How many numbers it holds with k domains."""
        return k ** len(self.shape)


@dataclass(frozen=True)
class Coordinates:
    """Another way to write the same law, better to search in and never shown.

    Attributes:
        parameters: of the search, in the order of the flat vector z.
        coefficients: as the law's, of these parameters; None for laws given as `predict`.
        to_law, from_law: these parameters -> the law's own, and back.
    """

    parameters: tuple[Parameter, ...]
    coefficients: Callable[[Params, jax.Array], Coefficients] | None
    to_law: Callable[[Params], dict[str, Any]] = dict
    from_law: Callable[[Params], dict[str, Any]] = dict

    def own_names(self, domains: Sequence[str]) -> list[str]:
        """The law's own name for each entry of z: C_A[x] for the logarithm of A at corner x."""
        own = tuple(replace(p, name=p.of or p.name) for p in self.parameters)
        return parameter_names(replace(self, parameters=own), domains)


class Reads(NamedTuple):
    """Which of N and D a law reads."""

    N: bool
    D: bool


_MOST_DOMAINS = 64  # that a law is traced with to see what it reads


@dataclass(frozen=True)
class Law:
    """A scaling law: what its parameters are, and the function that computes its coefficients.

    Attributes:
        name: key in the registry, in files and on the command line.
        parameters: in the order of the flat vector z.
        coefficients: (params, h (k,)) -> Coefficients; the fast path.
        predict: (params, h (k,), N, D) -> loss (), for laws of another shape; the slower path.
            Exactly one of `coefficients` and `predict` is given.
        equation: the law in plain notation.
        source: where it comes from.
        rescale: (params, Units) -> params of the same law when N, D and the loss are multiplied by
            those units. Without it the law is fitted in `units` as it stands.
        units: N and D enter the law divided by these two counts. (1, 1) for laws with `rescale`.
        own_domain: the law of target i sees the weight of training domain i only, h is (1,).
        coordinates: how the law is searched, where its own parameters are a bad way to.
        lag: D enters as D - lag, tokens (see `lagged`).
        convex: (params (...) or (..., k)) -> whether the loss is convex in h (...), by the signs of
            these parameters; None: not known.
        averaged: (law, weight) of each law that this one is the mean of, see `average`.
    """

    name: str
    parameters: tuple[Parameter, ...]
    coefficients: Callable[[Params, jax.Array], Coefficients] | None = None
    predict: Callable[[Params, jax.Array, jax.Array, jax.Array], jax.Array] | None = None
    equation: str = ""
    source: str = ""
    rescale: Callable[[Params, Units], dict[str, Any]] | None = None
    units: tuple[float, float] = (1e9, 1e10)
    own_domain: bool = False
    coordinates: Coordinates | None = None
    lag: float = 0.0
    convex: Callable[[Params], Any] | None = None
    averaged: tuple[tuple[Law, float], ...] = ()

    def __post_init__(self) -> None:
        if (self.coefficients is None) == (self.predict is None):
            raise ValueError(f"law {self.name!r}: give exactly one of coefficients and predict")
        names = [p.name for p in self.parameters]
        if len(set(names)) != len(names):
            raise ValueError(f"law {self.name!r}: parameter names repeat: {names}")
        for p in self.parameters:
            low, high = p.start
            ordered = np.isfinite(p.start).all() and low <= high
            if not ordered or (p.domain == "positive" and low <= 0):
                raise ValueError(f"law {self.name!r}: bad start range {p.start} of {p.name!r}")

    @property
    def least_tokens(self) -> float:
        """What D must be beyond: its lag, or the largest of those that it is the mean of."""
        return max((self.lag, *(law.lag for law, _ in self.averaged)))

    def k(self, domains: Sequence[str]) -> int:
        """How many shares of a mixture of these domains the law of one target sees."""
        return 1 if self.own_domain else len(domains)

    def count(self, k: int) -> int:
        """Number of parameters with k domains."""
        return sum(p.size(k) for p in self.parameters)

    @cached_property
    def reads(self) -> Reads:
        """Whether the law has a term in N and one in D; assumed for laws given as `predict`.

        A law may be written for some numbers of domains only: the first that it can be traced with
        tells.
        """
        if self.averaged:
            of_n, of_d = zip(*(law.reads for law, _ in self.averaged), strict=True)
            return Reads(any(of_n), any(of_d))
        if self.coefficients is None:
            return Reads(True, True)
        for k in range(1, _MOST_DOMAINS):
            with suppress(Exception):
                terms = dependence(self, k)
                break
        else:
            terms = dependence(self, _MOST_DOMAINS)  # raises what is wrong with the law
        return Reads("A" in terms, "B" in terms)

    def is_convex(self, params: Params) -> NDArray[np.bool_]:
        """Whether the loss is convex in h (...) by the signs of params (...) or (..., k); False
        where that is not known."""
        lead = [np.shape(params[p.name])[: -1 if p.shape else None] for p in self.parameters]
        known = False if self.convex is None else self.convex(params)
        return np.broadcast_to(known, np.broadcast_shapes(*lead))


def searched(law: Law, zeros: bool = False) -> Coordinates:
    """The coordinates that the engine searches in: the law's own where it names no better ones.

    Args:
        zeros: whether the table has shares of exactly 0, see `Parameter.positive_at_zero`.
    """
    coordinates = law.coordinates or Coordinates(law.parameters, law.coefficients)
    if not zeros:
        return coordinates
    parameters = tuple(
        replace(p, domain="positive") if p.positive_at_zero else p for p in coordinates.parameters
    )
    return replace(coordinates, parameters=parameters)


def named(law: Law | Coordinates, z: Any, k: int) -> dict[str, Any]:
    """Parameters by name from flat vectors z (..., q): exp where positive; NumPy's where z is."""
    q = sum(p.size(k) for p in law.parameters)
    if z.shape[-1:] != (q,):
        raise ValueError(f"{q} parameters with k = {k}, but z has shape {z.shape}")
    exp = np.exp if isinstance(z, np.ndarray) else jnp.exp
    params, begin = {}, 0
    with np.errstate(over="ignore"):
        for p in law.parameters:
            end = begin + p.size(k)
            part = z[..., begin:end] if p.shape else z[..., begin]
            params[p.name] = exp(part) if p.domain == "positive" else part
            begin = end
    return params


def flat(law: Law | Coordinates, params: Params) -> np.ndarray:
    """The vector z (q,) of named parameters: the inverse of `named`, on the host."""
    parts = [np.atleast_1d(np.asarray(params[p.name], dtype=np.float64)) for p in law.parameters]
    signs = [p.domain == "positive" for p in law.parameters]
    return np.concatenate([np.log(x) if s else x for x, s in zip(parts, signs, strict=True)])


def start_ranges(law: Law | Coordinates, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper end (q,) of the box of starts, in z."""
    low, high = (
        flat(law, {p.name: np.full(p.size(k), p.start[end]) for p in law.parameters})
        for end in (0, 1)
    )
    return low, high


@lru_cache(maxsize=256)
def prior_of(law: Law | Coordinates, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean (q,) and precision (q, q) of the normal prior of z; 0 where nothing is expected."""
    means, blocks = [], []
    for p in law.parameters:
        size, prior = p.size(k), p.prior or Prior(1.0, np.inf)
        means.append(np.full(size, np.log(prior.value) if p.domain == "positive" else prior.value))
        about_mean = np.eye(size) - 1.0 / max(size, 1)
        blocks.append(np.eye(size) / prior.sd**2 + about_mean / prior.apart**2)
    precision = np.zeros((sum(map(len, blocks)),) * 2)
    end = 0
    for block in blocks:
        begin, end = end, end + len(block)
        precision[begin:end, begin:end] = block
    return np.concatenate(means), precision


def parameter_names(law: Law | Coordinates, domains: Sequence[str]) -> list[str]:
    """Names of the entries of z, e.g. ["E", "C[arxiv]", ...]."""
    return [
        name
        for p in law.parameters
        for name in ([p.name] if not p.shape else [f"{p.name}[{d}]" for d in domains])
    ]


def row_loss(law: Law, params: Params, h: jax.Array, N: jax.Array, D: jax.Array) -> jax.Array:
    """Predicted loss () at one row: one mixture h (k,), N parameters and D tokens (counts).

    Terms that the law lacks read neither N nor D. Source: paper eq. (3).
    """
    if law.lag:  # finite everywhere; who asks for a loss checks D first
        D = jnp.maximum(D - law.lag, 1e-6 * law.lag)
    n, d = N / law.units[0], D / law.units[1]
    if law.predict is not None:
        return law.predict(params, h, n, d)
    assert law.coefficients is not None
    c = law.coefficients(params, h)
    loss = c.E
    if c.A is not None:
        loss = loss + c.A * jnp.exp(-c.alpha * jnp.log(n))
    if c.B is not None:
        loss = loss + c.B * jnp.exp(-c.beta * jnp.log(d))
    return loss


class Dependence(NamedTuple):
    """What a coefficient depends on: names of parameters, and whether the mixture."""

    parameters: tuple[str, ...]
    mixture: bool


_H = ""  # the mixture among the names of parameters


@lru_cache(maxsize=256)
def dependence(law: Law | Coordinates, k: int) -> Mapping[str, Dependence]:
    """What each coefficient that the law has depends on, read off the traced program.

    Only the outermost equations are followed: at worst too much is said, where one holds a program
    of its own (a jitted function, a loop).
    """
    assert law.coefficients is not None
    params = {p.name: jnp.ones((k,) * len(p.shape)) for p in law.parameters}
    closed, shapes = jax.make_jaxpr(law.coefficients, return_shape=True)(params, jnp.ones(k))
    names = [*sorted(params), _H]  # a dict's leaves are in the order of its sorted keys
    reach: dict[int, frozenset[str]] = {
        id(v): frozenset([name]) for v, name in zip(closed.jaxpr.invars, names, strict=True)
    }
    for equation in closed.jaxpr.eqns:
        reached = frozenset().union(*(reach.get(id(v), frozenset()) for v in equation.invars))
        reach.update((id(v), reached) for v in equation.outvars)
    given = [name for name, c in shapes._asdict().items() if c is not None]
    read = {}
    for name, output in zip(given, closed.jaxpr.outvars, strict=True):
        of = reach.get(id(output), frozenset())
        read[name] = Dependence(tuple(p.name for p in law.parameters if p.name in of), _H in of)
    return MappingProxyType(read)


# --- Predictions of many rows ---------------------------------------------------------------------


def domain_index(law: Law, domains: tuple[str, ...], target: str) -> slice:
    """The columns of h that the law of this target sees: all, or its own domain's.

    Raises:
        ValueError: an own-domain law of a target that is not a training domain.
    """
    if not law.own_domain:
        return slice(None)
    i = domains.index(target)
    return slice(i, i + 1)


def predict(
    law: Law, domains: tuple[str, ...], params: Mapping[str, Params], N: Any, D: Any, h: np.ndarray
) -> dict[str, np.ndarray]:
    """Predicted losses (rows,) of each target.

    Args:
        params: the law's parameters by target, in the law's own units.
        N, D: counts (rows,), or None for a law that does not read them.
        h: domain weights (rows, k), columns in the order of `domains`.
    """
    return _of_targets(_rows, law, domains, params, N, D, h)


def predict_members(
    law: Law, domains: tuple[str, ...], params: Mapping[str, Params], N: Any, D: Any, h: np.ndarray
) -> dict[str, np.ndarray]:
    """Predicted losses (members, rows) of each target; params: arrays (members, ...)."""
    return _of_targets(_members, law, domains, params, N, D, h)


def _of_targets(
    losses: Callable[..., jax.Array],
    law: Law,
    domains: tuple[str, ...],
    params: Mapping[str, Params],
    N: Any,
    D: Any,
    h: np.ndarray,
) -> dict[str, np.ndarray]:
    N, D = (np.ones(len(h)) if x is None else x for x in (N, D))
    with jax.enable_x64(True):
        return {
            t: np.asarray(losses(law, dict(p), h[:, domain_index(law, domains, t)], N, D))
            for t, p in params.items()
        }


@partial(jax.jit, static_argnums=0)
def _rows(law: Law, params: Params, h: jax.Array, N: jax.Array, D: jax.Array) -> jax.Array:
    return jax.vmap(partial(row_loss, law, params))(h, N, D)


@partial(jax.jit, static_argnums=0)
def _members(law: Law, params: Params, h: jax.Array, N: jax.Array, D: jax.Array) -> jax.Array:
    return jax.vmap(lambda p: _rows(law, p, h, N, D))(params)


class Slopes(NamedTuple):
    """How a loss changes: d/d log N (), d/d log D (), d/dh (k,) as if each h_i were free."""

    log_n: float
    log_d: float
    h: np.ndarray


def slopes(
    law: Law,
    domains: tuple[str, ...],
    params: Mapping[str, Params],
    N: float,
    D: float,
    h: np.ndarray,
) -> dict[str, Slopes]:
    """Slopes of each target's loss at one mixture h (k,) and scale; as `predict`. In a share of
    exactly 0 they are taken as 0 where the law has h^gamma (see `numerics.power`)."""
    of_targets = {}
    with jax.enable_x64(True):
        for target, p in params.items():
            seen, dh = domain_index(law, domains, target), np.zeros(len(h))
            scale = np.log(float(N)), np.log(float(D))
            log_n, log_d, dh[seen] = _slopes(law, dict(p), h[seen], *scale)
            of_targets[target] = Slopes(float(log_n), float(log_d), dh)
    return of_targets


@partial(jax.jit, static_argnums=0)
def _slopes(
    law: Law, params: Params, h: jax.Array, log_n: jax.Array, log_d: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    def loss(log_n: jax.Array, log_d: jax.Array, h: jax.Array) -> jax.Array:
        return row_loss(law, params, h, jnp.exp(log_n), jnp.exp(log_d))

    return jax.grad(loss, argnums=(0, 1, 2))(log_n, log_d, h)
