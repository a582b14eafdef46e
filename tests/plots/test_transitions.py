"""The drawn graph of memories holds every point and every connection."""

import itertools

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.text import Annotation

from ctd_models.analysis.fixed_points.linearization import linearize
from ctd_models.analysis.geometry.basins import basins
from ctd_models.analysis.geometry.connections import saddle_connections
from ctd_models.analysis.latents.pca import PCA
from ctd_models.plots.transitions import plot_transition_graph


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


@pytest.fixture(scope="module", params=[1, 2, 3])
def cube(request):
    def pitchfork(h):
        return 1.5 * h - h**3

    levels = np.array(list(itertools.product([-(0.5**0.5), 0.0, 0.5**0.5], repeat=request.param)))
    points = linearize(pitchfork, levels)
    return request.param, points, saddle_connections(pitchfork, points, num_samples=20)


def arrows(axes):
    return [child for child in axes.get_children() if isinstance(child, Annotation) and child.arrow_patch is not None]


def test_points_are_drawn_by_their_index_and_paths_as_they_were(cube):
    dims, points, connections = cube
    axes = plot_transition_graph(connections, points)
    assert [len(group.get_offsets()) for group in axes.collections] == np.bincount(points.num_unstable).tolist()
    assert len(axes.lines) == len(arrows(axes)) == len(connections)
    assert axes.get_xlabel().startswith("PC 1 (") and ("PC 3" in axes.get_xlabel()) == (dims == 3)
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert texts[:2] == [f"memory ({2**dims})", f"1 unstable mode ({dims * 2 ** (dims - 1)})"]
    memories = {t.get_text() for t in axes.texts if t.arrow_patch is None} - {"1", "2", "3"}
    assert memories <= {str(i) for i in np.flatnonzero(points.is_stable)}


def test_arrows_of_the_graph_lead_from_saddles_to_memories(cube):
    dims, points, connections = cube
    axes = plot_transition_graph(connections.transition_graph(), points, max_unstable=1, layout="graph")
    found = arrows(axes)
    assert len(found) == 2 * dims * 2 ** (dims - 1)
    memories, saddles = (np.asarray(group.get_offsets()) for group in axes.collections)
    for arrow in found:
        assert np.linalg.norm(memories - arrow.xy, axis=1).min() < 1e-9
        assert np.linalg.norm(saddles - arrow.xyann, axis=1).min() < 1e-9
    lengths = [np.linalg.norm(np.subtract(arrow.xy, arrow.xyann)) for arrow in found]
    np.testing.assert_allclose(lengths, 1, atol=0.5)  # one connection is about one unit of distance
    everything = np.concatenate([memories, saddles])
    apart = np.linalg.norm(everything[:, None] - everything[None], axis=-1)[np.triu_indices(len(everything), 1)]
    assert apart.min() > 0.1  # nothing covers anything else


def test_a_given_projection_is_used(cube):
    dims, points, connections = cube
    pca = PCA.fit(points.states + 1.0, 1 if dims == 1 else 2)
    axes = plot_transition_graph(connections, points, plt.figure().subplots(), pca)
    expected = pca.transform(points.states[points.is_stable])
    np.testing.assert_allclose(axes.collections[0].get_offsets()[:, : expected.shape[1]], expected)


def test_what_does_not_fit_is_rejected(cube):
    _, points, connections = cube
    with pytest.raises(ValueError, match="layout must be"):
        plot_transition_graph(connections, points, layout="ring")
    with pytest.raises(ValueError, match="not the points of the connections"):
        plot_transition_graph(connections, points[:-1])
    with pytest.raises(ValueError, match="nothing to plot"):
        plot_transition_graph(connections, points, max_unstable=-1)


def test_the_area_of_a_memory_is_the_share_of_its_basin():
    def pitchfork(h):
        return 1.5 * h - h**3

    points = linearize(pitchfork, np.array([[-(0.5**0.5)], [0.0], [0.5**0.5]]))
    connections = saddle_connections(pitchfork, points, num_samples=20)
    where = basins(pitchfork, np.concatenate([np.full((30, 1), -0.3), np.full((10, 1), 0.2)]), points)
    axes = plot_transition_graph(connections.transition_graph(), points, basins=where)
    left, right = axes.collections[0].get_sizes()
    assert (left - right) / left == pytest.approx(2.5 * (1 - 1 / 3) / 3)
    assert "area by its basin, 100 % of the states" in axes.get_legend().get_texts()[0].get_text()
    with pytest.raises(ValueError, match="not the basins of 3 points, but of 2"):
        plot_transition_graph(connections, points, basins=basins(pitchfork, np.ones((1, 1)), points[:2]))
