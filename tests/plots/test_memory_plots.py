"""Memory in a figure shows the states that it is given."""

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest

from ctd_models.analysis import memory_mechanism
from ctd_models.plots import plot_memory

ANGLES = np.linspace(-np.pi, np.pi, 40, endpoint=False)
CIRCLE = np.column_stack([np.cos(ANGLES), np.sin(ANGLES), 0 * ANGLES])


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def test_a_ring_of_memories():
    states = np.repeat(CIRCLE[:, None], 9, axis=1)
    mechanism = memory_mechanism(lambda h: h, states, CIRCLE[:, :2])
    figure = plot_memory(mechanism, states, CIRCLE[:, :2])
    above, middle, below = figure.axes[:3]
    ends = above.collections[0].get_offsets()
    np.testing.assert_allclose(np.linalg.norm(ends, axis=1), 1, atol=1e-9)
    np.testing.assert_allclose(above.collections[0].get_array(), ANGLES, atol=1e-12)
    np.testing.assert_allclose(middle.lines[0].get_ydata(), 2 * np.sin(np.pi / 40))  # chords
    assert middle.get_xlabel() == "angle held (rad)"
    np.testing.assert_allclose(below.images[0].get_array(), mechanism.cross_decoding)
    with pytest.raises(ValueError, match=r"states \[n, time, d\]"):
        plot_memory(mechanism, states[0], CIRCLE[:, :2])
