"""Figures have labelled axes and show what they are given."""

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest

from ctd_models.analysis import find_fixed_points, linearize
from ctd_models.plots import plot_eigenvalues, plot_fixed_points, plot_history, plot_trials, plot_units

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def points():
    def pitchfork(h):
        return 1.5 * h - h**3

    return linearize(pitchfork, find_fixed_points(pitchfork, RNG.uniform(-1, 1, size=(200, 3))))


def test_fixed_points_are_where_they_are(points):
    axes = plot_fixed_points(points, trajectories=RNG.normal(size=(4, 6, 3)))
    scatter = axes.collections[0]
    assert len(scatter.get_offsets()) == len(points) == 27
    assert len(axes.lines) == 4
    assert axes.get_xlabel().startswith("PC 1 (")
    colored = plot_fixed_points(points, points.states[:, 0], label="readout")
    assert colored.figure.axes[1].get_ylabel() == "readout"


@pytest.mark.parametrize("dims", [1, 2])
def test_small_systems_are_drawn_as_well(dims):
    found = find_fixed_points(lambda h: 1.5 * h - h**3, RNG.uniform(-1, 1, size=(50, dims)))
    assert len(plot_fixed_points(found).collections[0].get_offsets()) == 3**dims
    assert len(plot_fixed_points(found[0]).collections[0].get_offsets()) == 1
    with pytest.raises(ValueError, match="nothing to plot"):
        plot_fixed_points(found[:0])


def test_eigenvalues_and_the_boundary_of_stability(points):
    axes = plot_eigenvalues(points.eigenvalues, label="modes")
    np.testing.assert_allclose(sorted(axes.lines[0].get_xdata()), sorted(points.eigenvalues.real.ravel()))
    circle = axes.lines[1]
    np.testing.assert_allclose(np.hypot(circle.get_xdata(), circle.get_ydata()), 1)
    assert plot_eigenvalues(points.eigenvalues, "flow").get_xlabel() == "Re λ (1/s)"


def test_history():
    steps = np.arange(1, 201)
    history = {
        "step": steps,
        "loss": 1 / steps,
        "validation/step": steps[99::100],
        "validation/loss": 1 / steps[99::100],
    }
    axes = plot_history(history)
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_yscale()) == ("training step", "loss", "log")
    assert [line.get_label() for line in axes.lines] == ["batch", "mean of 50", "validation"]
    np.testing.assert_allclose(axes.lines[1].get_ydata()[0], (1 / steps[:50]).mean())


def test_trials_and_units():
    inputs, targets = RNG.normal(size=(2, 5, 10, 1))
    figure = plot_trials(inputs, targets, targets + 0.1, dt=0.1, num_trials=3)
    assert len(figure.axes) == 6
    np.testing.assert_allclose(figure.axes[0].lines[0].get_xdata(), 0.1 * np.arange(1, 11))
    assert figure.axes[3].get_xlabel() == "time (s)"
    assert len(plot_trials(inputs[:2], targets[:2], targets[:2], dt=0.1, num_trials=3).axes) == 4
    assert plot_trials(inputs, targets, targets).axes[-1].get_xlabel() == "time (steps)"
    assert plot_units(RNG.normal(size=(10, 7)), dt=0.1).get_ylabel() == "unit (by time of peak)"
