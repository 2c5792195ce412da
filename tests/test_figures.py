"""Figures of decisions: drawn without a display, every panel labelled, colours that stay apart."""

from __future__ import annotations

import itertools
import sys

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from mixjax.cli.explore import PARTS, Request
from mixjax.drawing.style import COLOURS, line_of
from mixjax.fitting.simulate import known_fit, random_truth
from mixjax.mixture.move import Start
from mixjax.mixture.question import Question
from mixjax.mixture.robust import robust_mixture
from mixjax.mixture.targets import target_map
from mixjax.report.figures import map_figure, robust_figure

NAMES = ("a", "b", "c", "d")


def fit(law):
    return known_fit(law, NAMES, random_truth(law, 4, NAMES, seed=3).params)


@pytest.fixture(scope="module")
def request_of_all():
    question = Question(fit("joint"), N=7e9, D=150e9)
    start = Start({"a": 0.7, "b": 0.1, "c": 0.1, "d": 0.1})
    return Request(question, fit("additive"), start)


def panels(figure):
    """Panels with axes; colour bars have a label of their own."""
    return [
        axes
        for axes in figure.axes
        if axes.axison and axes.get_visible() and axes.get_label() != "<colorbar>"
    ]


@pytest.mark.parametrize("part", PARTS)
def test_every_panel_is_labelled(request_of_all, part):
    _, figure = PARTS[part](request_of_all)
    figure.draw_without_rendering()
    for axes in panels(figure):
        assert axes.get_xlabel()
        shared = len(axes.get_shared_y_axes().get_siblings(axes)) > 1
        assert axes.get_ylabel() or shared, axes.get_title()
        for line in axes.lines:
            assert np.isfinite(np.asarray(line.get_ydata(), dtype=np.float64)).all()
    assert_whole(figure)
    assert "matplotlib.pyplot" not in sys.modules


def assert_whole(figure):
    """Nothing stands out over the edge of the figure."""
    figure.draw_without_rendering()
    drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert min(drawn.x0, drawn.y0) >= -0.01
    assert drawn.x1 <= width + 0.01
    assert drawn.y1 <= height + 0.01


def test_maps_of_two_and_robust_mixtures(request_of_all):
    goal = request_of_all.question
    (axes,) = panels(map_figure(target_map(goal, ["a", "b"], divisions=4)))
    assert "a" in axes.get_xlabel()
    (axes,) = panels(robust_figure(robust_mixture(goal, [goal.fit, goal.fit], 0.5)))
    assert "percent" in axes.get_xlabel()


def test_lines_differ():
    looks = [tuple(sorted(line_of(i).items())) for i in range(32)]
    assert len(set(looks)) == 32
    for a, b in itertools.combinations(COLOURS, 2):
        assert np.linalg.norm(np.subtract(to_rgb(a), to_rgb(b))) > 0.25
