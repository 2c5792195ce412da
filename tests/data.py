"""Where the reference data of the tests lie: real runs, kept outside the project."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def reference_data(name: str) -> Path:
    """A table of the reference data, from the folder MIXJAX_DATA or ../shared/data beside the
    checkout; skips the test where absent."""
    folder = os.environ.get("MIXJAX_DATA")
    path = (
        Path(folder) / name
        if folder
        else Path(__file__).resolve().parents[2] / "shared" / "data" / name
    )
    if not path.exists():
        pytest.skip(f"no {path} ({'MIXJAX_DATA' if folder else 'MIXJAX_DATA is not set'})")
    return path
