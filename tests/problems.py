"""One table of minimisation problems, for every test and benchmark of the engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


@dataclass(frozen=True)
class Smooth:
    """An objective for the engine from a plain function of (z, data); hashable, differentiated
    automatically."""

    function: Callable[[jax.Array, Any], jax.Array]

    def __call__(self, z: jax.Array, data: Any) -> tuple[jax.Array, jax.Array]:
        return jax.value_and_grad(self.function)(z, data)


@dataclass(frozen=True)
class Problem:
    """A function of z (q,), its lowest value, the box of its starts, and how near a search must
    come (absolute)."""

    name: str
    function: Callable[[jax.Array, Any], jax.Array]
    q: int
    minimum: float
    box: tuple[float, float]
    tolerance: float
    source: str

    def starts(self, n: int, seed: int = 0) -> np.ndarray:
        """Random starts (1, n, q)."""
        return np.random.default_rng(seed).uniform(*self.box, (1, n, self.q))


def rosenbrock(z, data):
    return jnp.sum(100.0 * (z[1:] - z[:-1] ** 2) ** 2 + (1.0 - z[:-1]) ** 2) + data


def beale(z, data):
    x, y = z
    return (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2 + data


def badly_scaled(z, data):
    return jnp.sum(10.0 ** jnp.linspace(-3, 3, z.shape[0]) * (z - 1.0) ** 2) + data


def huber_valley(z, data):
    """Nearly |A z - b|_1: kinks everywhere, minimum 0 where A z = b."""
    rows = jnp.cos(jnp.outer(jnp.arange(30.0), 1.0 + jnp.arange(z.shape[0]) / 3.0))
    r = rows @ (z - 0.5)
    c = jnp.clip(r, -1e-3, 1e-3)
    return jnp.mean(c * (r - c / 2)) + data


def egg_box(z, data):
    """Many local minima, the lowest 0 at z = 0 (Rastrigin)."""
    return jnp.sum(z**2 - 3.0 * jnp.cos(2 * jnp.pi * z) + 3.0) + data


# Tolerances: f is resolved to about 1e-16 of its scale; the stopping rule (1e-10 over 20 steps)
# leaves the rest.
PROBLEMS = (
    Problem("rosenbrock", rosenbrock, 8, 0.0, (-0.5, 1.5), 1e-8, "Rosenbrock 1960"),
    Problem("beale", beale, 2, 0.0, (0.0, 3.0), 1e-8, "Beale 1958"),
    Problem("badly_scaled", badly_scaled, 12, 0.0, (-2.0, 2.0), 1e-8, "quadratic of condition 1e6"),
    Problem(
        "huber_valley",
        huber_valley,
        6,
        0.0,
        (-2.0, 2.0),
        1e-9,
        "Huber loss of a linear model, delta 1e-3",
    ),
)
