"""Figures of decisions: drawn without a display, every panel labelled, colours that stay apart."""

from __future__ import annotations

import itertools
import sys

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from mixjax import read_runs
from mixjax.cli.explore import PARTS, Request
from mixjax.drawing import charts
from mixjax.drawing.style import COLOURS, line_of
from mixjax.fitting import simulate_runs
from mixjax.fitting.simulate import known_fit, random_truth
from mixjax.mixture.move import Start
from mixjax.mixture.question import Question
from mixjax.mixture.robust import robust_mixture
from mixjax.mixture.targets import target_map

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
    figure = PARTS[part](request_of_all).figure()
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
    (axes,) = panels(target_map(goal, ["a", "b"], divisions=4).figure())
    assert "a" in axes.get_xlabel()
    (axes,) = panels(robust_mixture(goal, [goal.fit, goal.fit], 0.5).figure())
    assert "percent" in axes.get_xlabel()


def test_predicted_and_measured_losses():
    truth = fit("joint")
    table = simulate_runs(truth, np.full((3, 4), 0.25), [1e8, 1e9, 1e10], 1e10)
    table.loc[0, "loss_b"] = np.nan
    figure = truth.figure(train=read_runs(table), eval=read_runs(table[1:]))
    assert_whole(figure)
    assert [axes.get_title() for axes in panels(figure)] == list(truth.targets)
    drawn = [[len(line.get_xdata()) for line in axes.lines[:2]] for axes in panels(figure)[:2]]
    assert drawn == [[3, 2], [2, 2]]


LONG = [f"a rather long name of domain number {i}" for i in range(30)]


@pytest.mark.parametrize(
    "draw",
    [
        lambda h: charts.bars(LONG, dict.fromkeys(LONG[:3], h), "share", "domain", LONG[0]),
        lambda h: charts.share_table(LONG[:4], LONG, [h] * 4),
        lambda h: charts.shares_along({"": charts.Shares([1, 2], "x", np.stack([h, h]))}, LONG),
        lambda h: charts.share_ranges(LONG, h, h, h, "title"),
        lambda h: charts.laws_beside(LONG, {"a": h, "b": h}, [1, 2], {"c": [1, 2]}, "", "x"),
    ],
    ids=["bars", "share_table", "shares_along", "share_ranges", "laws_beside"],
)
def test_many_long_names_stay_within_the_figure(draw):
    assert_whole(draw(np.full(30, 1 / 30)))


def test_lines_differ():
    looks = [tuple(sorted(line_of(i).items())) for i in range(32)]
    assert len(set(looks)) == 32
    for a, b in itertools.combinations(COLOURS, 2):
        assert np.linalg.norm(np.subtract(to_rgb(a), to_rgb(b))) > 0.25
