"""Figures of results by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mixjax.mixture.optimum import Optimum
from mixjax.mixture.paths import Path, Paths
from mixjax.mixture.targets import Corners


def _figure(result: Any) -> Any:
    return result.figure()


def path_figure(paths: Mapping[str, Path]) -> Any:
    """See `Paths.figure`."""
    return Paths(paths).figure()


def corners_figure(optima: Mapping[str, Optimum]) -> Any:
    """See `Corners.figure`."""
    return Corners(optima).figure()


growth_figure = path_figure
enough_figure = beside_figure = region_figure = budget_figure = moves_figure = _figure
robust_figure = compare_figure = map_figure = front_figure = _figure
