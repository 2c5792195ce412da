"""Which mixtures to train (domains -> PLAN -> runs): points that fill the simplex evenly or at
random, every weight above a minimum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from math import comb
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mixjax.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]

# Random points that a design is chosen from, and that its covering radius is measured on.
_CANDIDATES, _PER_POINT = 4096, 16
# A lattice keeps its points farther apart, so it may cover this much worse.
_TOLERATED = 1.1


def design_mixtures(
    domains: Sequence[str],
    n: int,
    minimum: float = 0.0,
    prior: Mapping[str, float] | None = None,
    seed: int = 0,
    concentration: float | None = None,
) -> pd.DataFrame:
    """Mixtures to train: n points that fill {h : h_i >= minimum, sum_i h_i = 1} evenly, or at
    random.

    Farthest-point selection: the first point is the centroid, each further one the candidate
    farthest from all before it, so the first rows of a design are a good smaller design (for fewer
    mixtures at larger sizes). Where n points make a lattice, the paper's grid, that covers the
    simplex about as well, the lattice is taken. With a concentration they are drawn from a
    Dirichlet distribution instead, independent of each other.

    Args:
        domains: names, at least 2.
        n: number of mixtures.
        minimum: smallest weight of any domain, a share.
        prior: {domain: share or token count}, any scale. The even design is then tilted to it,
            h_i proportional to prior_i u_i for the part above the minimum: the centroid becomes the
            prior.
        seed: of the candidates; same seed, same design.
        concentration: the part above the minimum is Dirichlet of parameters concentration * k *
            prior_i, of mean prior (equal shares without one): 1 is flat over the simplex, less
            favours few large shares, more mixtures near the prior.

    Returns:
        Table (n, k) of columns h_<domain>; rows sum to 1 within 1e-12.

    Raises:
        UserError: an argument out of range.

    Notes: farthest-point selection covers within a factor 2 of the best n points among the
    candidates
        (Gonzalez 1985). Grid of the simplex with a minimal weight: Shukor et al. 2025, section 3.1.
    """
    import pandas as pd

    k = _check(domains, n, minimum)
    share = _prior_above_minimum(domains, minimum, prior)
    if concentration is not None:
        u = _dirichlet(k, int(n), share, concentration, seed)
    else:
        u = _even(k, int(n), seed)
        u = u if share is None else _scaled(u * share)
    return pd.DataFrame(minimum + (1.0 - k * minimum) * u, columns=[f"h_{d}" for d in domains])


def _check(domains: Sequence[str], n: int, minimum: float) -> int:
    """The number of domains, once everything is in range."""
    names = [domains] if isinstance(domains, str) else list(domains)
    k = len(names)
    if k < 2:
        raise UserError("domains", f"{k} given", "name at least 2")
    repeated = next((d for d in names if names.count(d) > 1), None)
    if repeated is not None:
        raise UserError("domains", f"{repeated!r} is named twice", "name every domain once")
    if any(not isinstance(d, str) or not d.strip() for d in names):
        raise UserError("domains", "a name is empty", "give every domain a name")
    if not np.isfinite(n) or int(n) != n or n < 1:
        what = f"{n} is not a whole number of at least 1"
        raise UserError("n", what, "give the number of mixtures")
    if not (np.isfinite(minimum) and minimum >= 0):
        what = f"{minimum} is not a share of at least 0"
        raise UserError("minimum", what, "give a number from 0 to 1 / number of domains")
    if k * minimum > 1 or (k * minimum == 1 and n > 1):
        what = f"{k} domains of at least {minimum} each leave nothing to vary"
        raise UserError("minimum", what, f"give less than 1/{k} = {1 / k:.4g}")
    return k


def _prior_above_minimum(
    domains: Sequence[str], minimum: float, prior: Mapping[str, float] | None
) -> Floats | None:
    """The prior's shares above the minimum (k,), summing to 1."""
    if prior is None:
        return None
    odd = [d for d in (*prior, *domains) if (d in prior) != (d in domains)]
    if odd:
        what = f"domain {odd[0]!r} is not in both the prior and the design"
        raise UserError("prior", what, f"give a share of each of {', '.join(domains)}")
    values = np.array([prior[d] for d in domains], dtype=np.float64)
    if not (np.isfinite(values).all() and (values > 0).all()):
        remedy = "give shares or token counts, all above 0"
        raise UserError("prior", "a share is not a positive number", remedy)
    above = values / values.sum() - minimum
    if (above <= 0).any():
        low = int(np.argmin(above))
        share = f"share {above[low] + minimum:.4g} of {domains[low]!r}"
        what = f"{share} is not above the minimum {minimum:.4g}"
        raise UserError("prior", what, "lower the minimum")
    return above / above.sum()


def _dirichlet(k: int, n: int, share: Floats | None, concentration: float, seed: int) -> Floats:
    """n random points (n, k) of mean `share`; the first ones are those of a smaller design."""
    if not (np.isfinite(concentration) and concentration > 0):
        what = f"{concentration} is not a positive number"
        raise UserError("concentration", what, "give 1 for a flat distribution")
    alpha = concentration * k * (np.full(k, 1.0 / k) if share is None else share)
    return _scaled(np.random.default_rng(seed).dirichlet(alpha, n))


def _scaled(u: Floats) -> Floats:
    """Points (n, k) whose weights sum to 1."""
    return u / u.sum(axis=1, keepdims=True)


def _even(k: int, n: int, seed: int) -> Floats:
    """n points (n, k) that fill the whole simplex."""
    shape = (max(_CANDIDATES, _PER_POINT * n), k)
    candidates = _scaled(np.random.default_rng(seed).standard_exponential(shape))
    chosen, radius = _farthest(candidates, n)
    lattice = _lattice(k, n)
    if lattice is not None and _radius(candidates, lattice) <= _TOLERATED * radius:
        return lattice
    return chosen


def _farthest(candidates: Floats, n: int) -> tuple[Floats, float]:
    """The centroid and n - 1 candidates, each farthest from those before it; and the covering
    radius."""
    chosen = np.full((n, candidates.shape[1]), 1.0 / candidates.shape[1])
    squared = np.full(len(candidates), np.inf)
    for i in range(n):
        if i:
            chosen[i] = candidates[np.argmax(squared)]
        squared = np.minimum(squared, np.sum((candidates - chosen[i]) ** 2, axis=1))
    return chosen, float(np.sqrt(squared.max()))


def _radius(candidates: Floats, points: Floats) -> float:
    """Covering radius: the largest distance from a candidate to its nearest point."""
    squared = np.full(len(candidates), np.inf)
    for point in points:
        squared = np.minimum(squared, np.sum((candidates - point) ** 2, axis=1))
    return float(np.sqrt(squared.max()))


def _lattice(k: int, n: int) -> Floats | None:
    """The points (n, k) of the simplex whose weights are multiples of 1/m, for the m >= 2 that
    makes n of them."""
    m = 2
    while comb(m + k - 1, k - 1) < n:
        m += 1
    if comb(m + k - 1, k - 1) != n:
        return None
    bars = np.array(list(combinations(range(m + k - 1), k - 1)))  # stars and bars
    edges = np.pad(bars, ((0, 0), (1, 1)), constant_values=((0, 0), (-1, m + k - 1)))
    return (np.diff(edges, axis=1) - 1) / m
