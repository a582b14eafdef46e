"""What is drawn of attention, of lengths and of first states are the numbers that were given."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from ctd_models.plots import plot_accuracy_by_length, plot_attention, plot_initial_states

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_weights_are_an_image_whose_pixels_stand_at_their_places():
    weights = RNG.dirichlet(np.ones(4), size=3)
    axes = plot_attention(weights, inputs=list("12+3"), outputs=["1", "5", "end"])
    (image,) = axes.images
    np.testing.assert_array_equal(image.get_array(), weights)
    assert image.get_extent() == [0.5, 4.5, 3.5, 0.5]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == list("12+3")
    assert list(axes.get_yticks()) == [1, 2, 3]


def test_accuracy_over_lengths():
    axes = plot_accuracy_by_length([1, 2, 4], {"whole": [1.0, 0.9, 0.2], "tokens": [1.0, 0.95, 0.6]}, longest=2)
    whole, tokens, longest = axes.lines
    np.testing.assert_array_equal(whole.get_xydata(), [[1, 1.0], [2, 0.9], [4, 0.2]])
    np.testing.assert_array_equal(tokens.get_ydata(), [1.0, 0.95, 0.6])
    assert set(longest.get_xdata()) == {2}


def test_first_states_are_seen_along_their_principal_components():
    states = RNG.normal(size=(50, 3)) * [5.0, 2.0, 0.1]
    places, components = {"length 2": ([1, 2], [0.9, np.nan])}, {"sum": ([1, 3, 64], [0.1, 0.4, -0.3])}
    figure = plot_initial_states(states, {"length": np.arange(50)}, {"place": places, "components": components})
    shown, by_place, by_component = (axes for axes in figure.axes if axes.get_label() != "<colorbar>")
    along = shown.collections[0].get_offsets()
    assert abs(np.corrcoef(along[:, 0], states[:, 0])[0, 1]) > 0.99
    assert abs(np.corrcoef(along[:, 1], states[:, 1])[0, 1]) > 0.99
    np.testing.assert_array_equal(by_place.lines[0].get_ydata(), [0.9, np.nan])
    assert by_place.get_xscale() == "linear" and by_component.get_xscale() == "log"
    assert by_component.get_ylim()[0] < -0.3


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: plot_attention(np.ones(3)), "outputs, inputs"),
        (lambda: plot_attention(-np.ones((2, 2))), "at least 0"),
        (lambda: plot_attention(np.ones((2, 3)), inputs="ab"), "expected 3 names of inputs, got 2"),
        (lambda: plot_accuracy_by_length([1, 2], {"whole": [1.0]}), "expected 2 values of 'whole'"),
        (lambda: plot_initial_states(np.ones((3, 2)), {"sum": np.ones(2)}), "expected 3 values of 'sum'"),
    ],
)
def test_bad_input(act, message):
    with pytest.raises(ValueError, match=message):
        act()
