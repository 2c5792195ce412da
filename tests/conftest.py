"""Settings of all tests: float64, no silent rank promotion, the same examples on every run."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.cache import MADE  # isort: skip  (before JAX)

import jax
import pytest
from hypothesis import settings

from tests.cli import alone as alone
from tests.cli import folder as folder
from tests.cli import place as place
from tests.cli import read as read
from tests.cli import refused as refused
from tests.cli import run as run
from tests.cli import table as table

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")

settings.register_profile("fixed", derandomize=True, deadline=None)
settings.load_profile("fixed")

# A compiled search takes some 400 memory mappings, of which Linux gives a process 65530: beyond,
# XLA crashes.
_MAPPINGS = 20_000


def pytest_unconfigure():
    """Compiled programs of this run go with it."""
    if MADE is not None:
        shutil.rmtree(MADE, ignore_errors=True)


@pytest.fixture(autouse=True, scope="module")
def _few_compiled_programs():
    """Forget compiled programs between modules once there are many."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > _MAPPINGS:
        jax.clear_caches()
