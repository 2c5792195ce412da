"""Where a lane searches next: basin hopping (Wales and Doye 1997) with Metropolis acceptance, for
ONE lane.

Departures from SciPy's basinhopping: the temperature is relative to the objective, so that it means
the same for every target; the hop size adapts at every hop, to each lane by itself.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

# Chosen by experiment: benchmarks/NOTES.md, "hops".
TEMPERATURE = 0.01  # a local minimum this share higher is accepted with probability 1/e
FIRST_SIZE = 0.3  # standard deviation of the first perturbation, in z
SMALLEST, LARGEST = 0.02, 2.0
GROW, SHRINK = 1.15, 0.93  # at rest where one hop in three is accepted


def draw(key: jax.Array, q: int, dtype: jnp.dtype) -> tuple[jax.Array, jax.Array]:
    """The luck of one hop: a number () in [0, 1) to accept by, noise (q,) of variance 1 to perturb
    with.

    Uniform, of 32 random bits, all from one call: a lane draws at every pause, hop or not.
    """
    numbers = jax.random.uniform(key, (q + 1,), jnp.float32).astype(dtype)
    return numbers[0], jnp.sqrt(12.0).astype(dtype) * (numbers[1:] - 0.5)


def accept(luck: jax.Array, f: jax.Array, kept: jax.Array) -> jax.Array:
    """Metropolis (): take the new local minimum f () over the kept one, by luck () in [0, 1)."""
    rise = (f - kept) / (TEMPERATURE * jnp.abs(kept) + jnp.finfo(f.dtype).tiny)
    return (f <= kept) | (luck < jnp.exp(-rise))


def adapt(hop_size: jax.Array, accepted: jax.Array) -> jax.Array:
    """Larger hops after an acceptance, smaller after a refusal, between fixed ends."""
    return jnp.clip(hop_size * jnp.where(accepted, GROW, SHRINK), SMALLEST, LARGEST)


def perturb(noise: jax.Array, z: jax.Array, hop_size: jax.Array) -> jax.Array:
    """z (q,) moved by noise (q,) of standard deviation hop_size ()."""
    return z + hop_size * noise
