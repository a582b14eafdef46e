"""Figures of fixed points, spectra and speeds show what they are given."""

import dataclasses

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest

from ctd_models.analysis.fixed_points.linearization import linearize
from ctd_models.analysis.fixed_points.points import FixedPoints
from ctd_models.analysis.fixed_points.search import find_fixed_points
from ctd_models.analysis.latents.pca import PCA
from ctd_models.plots.fixed_points import plot_fixed_points
from ctd_models.plots.spectra import plot_eigenvalues, plot_speeds
from ctd_models.plots.style import STABLE, UNSTABLE

PLANE = PCA(np.zeros(2), np.eye(2), np.array([0.6, 0.4]))


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def pitchfork(h):
    return 1.5 * h - h**3


@pytest.fixture(scope="module")
def points():
    """Nine in the plane: 4 stable, 4 saddles, 1 with two unstable modes."""
    candidates = np.random.default_rng(0).uniform(-1, 1, size=(100, 2))
    return linearize(pitchfork, find_fixed_points(pitchfork, candidates))


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def rgba(colors):
    return mpl.colors.to_rgba_array(colors)


def test_stable_points_are_black_and_unstable_ones_red(points):
    axes = plot_fixed_points(points, dims=2, pca=PLANE)
    scatter = axes.collections[0]
    np.testing.assert_allclose(scatter.get_offsets(), points.states)
    np.testing.assert_allclose(scatter.get_facecolors(), rgba(np.where(points.is_stable, STABLE, UNSTABLE)))
    assert legend(axes) == ["stable (4)", "unstable (5)", "unstable mode"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("PC 1 (60 %)", "PC 2 (40 %)")


def test_unstable_modes_are_lines_along_their_eigenvectors(points):
    axes = plot_fixed_points(points, dims=2, pca=PLANE, mode_length=0.2)
    segments = axes.collections[1].get_segments()
    assert len(segments) == points.num_unstable.sum() == 6
    spread = np.sqrt(((points.states - points.states.mean(axis=0)) ** 2).sum(axis=1).mean())
    owners = np.repeat(np.arange(9), points.num_unstable)
    for segment, owner in zip(segments, owners, strict=True):
        np.testing.assert_allclose(segment.mean(axis=0), points.states[owner], atol=1e-12)
        direction = segment[1] - segment[0]
        assert np.linalg.norm(direction) == pytest.approx(2 * 0.2 * spread)
        np.testing.assert_allclose(np.sort(np.abs(direction)), [0, 0.4 * spread], atol=1e-12)
        along = np.abs(direction).argmax()
        assert np.abs(points.states[owner, along]) < 1e-9  # a coordinate is unstable where it is zero
    assert len(plot_fixed_points(points, dims=2, modes=None).collections) == 1


def test_leading_modes_of_stable_points_and_ellipses_of_pairs():
    growth, turn = 0.9, np.array([[0.6, -0.8], [0.8, 0.6]])
    A = np.zeros((3, 3))
    A[:2, :2], A[2, 2] = growth * turn, 0.2
    origin = linearize(lambda h: A @ h, np.zeros((1, 3)))
    pca = PCA(np.zeros(3), np.eye(3), np.ones(3) / 3)
    for modes, count in ((1, 1), (2, 1), (3, 2)):
        axes = plot_fixed_points(origin, pca=pca, dims=2, modes=modes, mode_length=0.5)
        assert len(axes.collections[1].get_segments()) == count
    circle = axes.collections[1].get_segments()[0]
    np.testing.assert_allclose(np.linalg.norm(circle, axis=1), 0.5)  # the spread of one point counts as one
    assert legend(axes) == ["stable (1)", "stable mode"]


def test_index_classes_and_values_colour_points(points):
    axes = plot_fixed_points(points, dims=2, color="index")
    assert legend(axes) == ["stable (4)", "1 unstable mode (4)", "2 unstable modes (1)"]
    colors = axes.collections[0].get_facecolors()
    assert len(np.unique(colors[points.num_unstable == 1], axis=0)) == len(np.unique(colors, axis=0)) - 2 == 1
    assert len(axes.collections[1].get_colors()) == 6
    classes = np.where(points.states[:, 0] > 0.1, "slow", "fixed")
    axes = plot_fixed_points(dataclasses.replace(points, classes=classes), dims=2, color="class")
    assert legend(axes) == ["fixed (6)", "slow (3)"]
    axes = plot_fixed_points(points, points.states[:, 1], label="h₂", dims=2)
    assert axes.get_legend() is None
    np.testing.assert_allclose(axes.collections[0].get_array(), points.states[:, 1])
    assert axes.figure.axes[1].get_ylabel() == "h₂"


def test_many_indices_have_as_many_colours(points):
    many = dataclasses.replace(points, num_unstable=np.arange(9))
    colors = plot_fixed_points(many, dims=2, color="index", modes=None).collections[0].get_facecolors()
    assert len(np.unique(colors, axis=0)) == 9


def test_dimensions_follow_the_axes(points):
    assert plot_fixed_points(points).name == "3d"
    axes = plt.figure().subplots()
    assert plot_fixed_points(points, axes=axes, trajectories=np.ones((5, 2))) is axes
    assert len(axes.lines) == 1
    with pytest.raises(ValueError, match="expected axes of 3 dimensions, got axes of 2"):
        plot_fixed_points(points, axes=axes, dims=3)


def test_points_without_modes_and_bad_arguments(points):
    plain = FixedPoints(states=points.states, speeds=points.speeds)
    assert plot_fixed_points(plain).get_legend() is None
    for arguments, message in (
        ({"modes": 1}, "call linearize"),
        ({"color": "index"}, "needs points that are linearised"),
        ({"color": "class"}, "needs points that are classified"),
        ({"color": "hue"}, "color must be"),
        ({"modes": 3}, "a number of modes in 1 … 2, got 3"),
        ({"modes": "all"}, "modes must be"),
        ({"dims": 4}, "dims must be 2 or 3, got 4"),
        ({"trajectories": np.ones((2, 3, 5))}, r"expected trajectories \[B, T, 2\]"),
        ({"values": np.ones(3)}, r"expected values \[9\]"),
    ):
        with pytest.raises(ValueError, match=message):
            plot_fixed_points(plain, **arguments)


def test_eigenvalues_of_points_and_their_units(points):
    axes = plot_eigenvalues(points)
    np.testing.assert_allclose(np.sort(axes.lines[0].get_xdata()), np.sort(points.eigenvalues.real.ravel()))
    assert axes.get_xlabel() == "Re λ"
    flow = linearize(lambda h: -h, np.zeros((1, 2)), kind="flow")
    assert plot_eigenvalues(flow).get_xlabel() == "Re λ (per unit time)"
    assert plot_eigenvalues(dataclasses.replace(flow, dt=0.1)).get_ylabel() == "Im λ (rad/s)"
    with pytest.raises(ValueError, match="call linearize"):
        plot_eigenvalues(FixedPoints(states=np.zeros((1, 2)), speeds=np.zeros(1)))


def test_eigenvalues_coloured_by_point_or_by_value(points):
    np.testing.assert_array_equal(
        plot_eigenvalues(points, values="point").collections[0].get_array(), np.repeat(np.arange(9), 2)
    )
    axes = plot_eigenvalues(points, values=points.num_unstable, value_label="unstable modes")
    np.testing.assert_array_equal(axes.collections[0].get_array(), np.repeat(points.num_unstable, 2))
    assert axes.figure.axes[1].get_ylabel() == "unstable modes"
    each = np.arange(18.0).reshape(9, 2)
    np.testing.assert_array_equal(plot_eigenvalues(points, values=each).collections[0].get_array(), each.ravel())
    with pytest.raises(ValueError, match=r"expected values \(9, 2\) or \(9,\), got shape \(4,\)"):
        plot_eigenvalues(points, values=np.ones(4))
    with pytest.raises(ValueError, match='values must be "point"'):
        plot_eigenvalues(points, values="speed")


def test_time_constants_are_circles_of_a_map_and_lines_of_a_flow(points):
    axes = plot_eigenvalues(points, time_constants=[2.0], dt=0.5)
    guide = axes.lines[2]
    np.testing.assert_allclose(np.hypot(guide.get_xdata(), guide.get_ydata()), np.exp(-0.5 / 2))
    assert axes.texts[0].get_text() == "τ = 2 s"
    axes = plot_eigenvalues(np.array([-1.0 + 1j]), "flow", time_constants=[0.25])
    assert axes.lines[2].get_xdata() == [-4, -4]
    with pytest.raises(ValueError, match="time constants must be positive"):
        plot_eigenvalues(points, time_constants=[-1.0])


def heights(axes):
    return [sum(bar.get_height() for bar in container) for container in axes.containers]


def test_speeds_are_counted_with_zeros_apart():
    speeds = np.array([0.0, 0.0, 1e-30, 1e-25, 2e-25, 1e-3])
    axes = plot_speeds(speeds, tolerance=1e-20)
    assert sorted(heights(axes)) == [2, 4]
    assert axes.get_xticklabels()[0].get_text() == "q = 0"
    assert legend(axes) == ["tolerance 1e-20"]
    assert axes.lines[0].get_xdata() == pytest.approx([-20, -20])
    bars = {round(b.get_x() + b.get_width() / 2): b.get_height() for c in axes.containers for b in c if b.get_height()}
    assert max(bars) == -3


def test_speeds_are_split_by_class(points):
    classes = np.where(points.is_stable, "fixed point", "ghost")
    axes = plot_speeds(points, classes=classes)
    counted = dict.fromkeys(("fixed point", "ghost"), 0)
    handles, labels = axes.get_legend_handles_labels()
    for handle, label in zip(handles, labels, strict=True):
        if label in counted:
            counted[label] = sum(bar.get_height() for bar in handle)
    zeros = sum(heights(axes)) - sum(counted.values())
    assert sum(heights(axes)) == 9
    assert zeros == (points.speeds == 0).sum()
    assert heights(plot_speeds(np.zeros(3))) == [0, 3]


def test_speeds_that_cannot_be():
    with pytest.raises(ValueError, match="got nan at index 1"):
        plot_speeds(np.array([1.0, np.nan]))
    with pytest.raises(ValueError, match=r"got -1.0 at index 0"):
        plot_speeds(np.array([-1.0]))
    with pytest.raises(ValueError, match="at least one point"):
        plot_speeds(np.zeros(0))
    with pytest.raises(ValueError, match=r"expected classes \[2\]"):
        plot_speeds(np.ones(2), classes=["a"])
