"""Settings of all tests: float64, no silent rank promotion, the same examples on every run."""

from __future__ import annotations

import jax
from hypothesis import settings

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")

settings.register_profile("fixed", derandomize=True, deadline=None)
settings.load_profile("fixed")
