"""What the benchmarks share: where the reference data lie, how a result is written, what machine it
was."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent / "results"
_PACKAGES = ("jax", "jaxlib", "numpy", "scipy", "optax", "jaxopt", "optimistix", "lightgbm")


def shared(*parts: str) -> Path | None:
    """A file of the reference material beside the checkout, or None where there is none."""
    path = ROOT.parent / "shared" / Path(*parts)
    return path if path.exists() else None


def data(name: str) -> Path:
    """A table of the reference data, from MIXJAX_DATA or beside the checkout; ends the script where
    absent."""
    folder = os.environ.get("MIXJAX_DATA")
    path = Path(folder) / name if folder else shared("data", name)
    if path is None or not path.exists():
        sys.exit(
            f"{name}: not found; put the reference data into ../shared/data or name their "
            f"folder in MIXJAX_DATA"
        )
    return path


def machine() -> dict[str, Any]:
    """Device, cores, versions and date: what a number depends on beside the code."""
    import jax

    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    return {
        "device": str(jax.devices()[0].device_kind),
        "platform": jax.devices()[0].platform,
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "python": platform.python_version(),
        "versions": versions,
        "commit": commit,
        "date": datetime.date.today().isoformat(),
    }


def write_result(name: str, result: dict[str, Any]) -> Path:
    """Write results/NAME.json with the machine it was measured on."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(
        json.dumps({"machine": machine(), **result}, indent=1, allow_nan=False) + "\n",
        encoding="utf-8",
    )
    return path


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    return "\n".join(
        "| " + " | ".join(row) + " |" for row in [header, ["---"] * len(header), *rows]
    )
