"""Figures of learning show what they are given."""

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest

from ctd_models.plots.force import plot_outputs, plot_reservoir


def test_targets_and_outputs_by_phase():
    rng = np.random.default_rng(0)
    targets, outputs = rng.normal(size=(20, 3)), rng.normal(size=(30, 3))
    figure = plot_outputs(targets, {"before": targets, "after": outputs}, dt=0.1, num_outputs=2)
    assert len(figure.axes) == 4 and figure.axes[1].get_title() == "after"
    target, output = figure.axes[3].lines
    np.testing.assert_array_equal(target.get_ydata(), targets[:, 1])
    np.testing.assert_array_equal(output.get_ydata(), outputs[:, 1])
    np.testing.assert_allclose(output.get_xdata()[-1], 3.0)
    assert figure.axes[3].get_xlabel() == "time (s)"
    with pytest.raises(ValueError, match=r"expected targets \[time, O\]"):
        plot_outputs(targets, {"after": outputs[:, :2]}, dt=0.1)
    plt.close("all")


def test_the_reservoir_its_error_and_its_changes():
    rng = np.random.default_rng(1)
    states, errors, changes = rng.normal(size=(20, 5)), rng.uniform(size=20), rng.uniform(0.1, 1, size=(3, 20))
    figure = plot_reservoir(states, errors, changes, dt=0.1)
    units, error, change = figure.axes
    assert len(units.lines) == 5
    np.testing.assert_array_equal(error.lines[0].get_ydata(), errors)
    np.testing.assert_array_equal(change.lines[0].get_ydata(), changes.ravel())
    assert change.get_ylabel() == "‖ΔW_out‖"
    with pytest.raises(ValueError, match=r"weight_changes \[passes, time\]"):
        plot_reservoir(states, errors, changes[0], dt=0.1)
    plt.close("all")
