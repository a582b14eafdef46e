"""Bifurcation diagrams show branches where they are, with their stability."""

from itertools import pairwise

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest

from ctd_models.analysis.geometry.continuation import continue_fixed_points
from ctd_models.analysis.geometry.parameter_plane import count_fixed_points
from ctd_models.plots.bifurcations import plot_bifurcation_diagram, plot_parameter_plane

FOLD = 2 / (3 * np.sqrt(3))


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def branches():
    return continue_fixed_points(lambda x, p: p + x - x**3, np.array([[-1.3]]), (-1, 1), kind="flow")


def test_stable_and_unstable_pieces_meet_at_the_folds(branches):
    axes = plot_bifurcation_diagram(branches, parameter="input (a.u.)")
    curves = [line for line in axes.lines if line.get_linestyle() != "None"]
    styles = [line.get_linestyle() for line in curves]
    assert styles == ["-", "--", "-"]
    for before, after in pairwise(curves):
        assert before.get_xydata()[-1].tolist() == after.get_xydata()[0].tolist()
        assert abs(after.get_xdata()[0]) == pytest.approx(FOLD, abs=1e-8)
    middle = curves[1].get_xydata()
    assert np.abs(middle[:, 1]).max() == pytest.approx(1 / np.sqrt(3), abs=1e-6)
    assert (
        sum(len(line.get_xdata()) for line in curves) == len(branches[0]) + 4
    )  # each fold ends one and begins another
    markers = [line for line in axes.lines if line.get_linestyle() == "None"]
    assert sorted(float(line.get_xdata()[0]) for line in markers) == pytest.approx([-FOLD, FOLD], abs=1e-8)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["stable", "unstable", "fold"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("input (a.u.)", "unit 0")


def test_weights_project_the_state(branches):
    axes = plot_bifurcation_diagram(branches, np.array([-2.0]), label="readout")
    ends = np.sort([line.get_ydata()[i] for line in axes.lines[:3] for i in (0, -1)])
    assert (ends.min(), ends.max()) == pytest.approx(tuple(np.sort(-2 * branches[0].states[[0, -1], 0])), abs=1e-8)
    assert axes.get_ylabel() == "readout"


def test_what_cannot_be_plotted(branches):
    with pytest.raises(ValueError, match="no branches"):
        plot_bifurcation_diagram(branches[:0])
    with pytest.raises(ValueError, match="coordinate must be a unit below 1"):
        plot_bifurcation_diagram(branches, 1)


def test_the_cusp_of_two_parameters():
    """p + q x − x³ has three zeros where 27 p² < 4 q³, two of them stable."""
    p, q = np.linspace(-1, 1, 16), np.linspace(-1, 1.5, 12)
    candidates = np.linspace(-2, 2, 15)[:, None]
    plane = count_fixed_points(lambda x, u: u[0] + u[1] * x - x**3, candidates, p, q, kind="flow")
    discriminant = 4 * q[None] ** 3 - 27 * p[:, None] ** 2
    clear = np.abs(discriminant) > 0.05
    assert clear.mean() > 0.8
    np.testing.assert_array_equal(plane.num_points[clear], np.where(discriminant > 0, 3, 1)[clear])
    np.testing.assert_array_equal(plane.num_stable[clear], np.where(discriminant > 0, 2, 1)[clear])
    x, u = plane.points.states[:, 0], plane.points.inputs
    np.testing.assert_allclose(u[:, 0] + u[:, 1] * x - x**3, 0, atol=1e-9)
    np.testing.assert_allclose(u, np.stack([p[plane.cells[:, 0]], q[plane.cells[:, 1]]], axis=1))
    axes = plot_parameter_plane(plane, labels=("drive", "gain"))
    np.testing.assert_array_equal(axes.collections[0].get_array().reshape(12, 16), plane.num_stable.T)
    assert axes.figure.axes[1].get_ylabel() == "stable fixed points"
    with pytest.raises(ValueError, match="pass a smaller unique_distance="):
        count_fixed_points(lambda x, u: u[0] - x, candidates, np.array([0, 1e-4]), q)
    with pytest.raises(ValueError, match="first must be a list of finite parameters"):
        count_fixed_points(lambda x, u: u[0] - x, candidates, np.array([np.nan]), q)
