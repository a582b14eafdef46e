"""Figures of lines hold every point, candidate and gap."""

import matplotlib as mpl

mpl.use("Agg")
import dataclasses

import matplotlib.pyplot as plt
import numpy as np
import pytest
from mpl_toolkits.mplot3d.art3d import Line3DCollection

from ctd_models.analysis.fixed_points.linearization import linearize
from ctd_models.analysis.geometry.lines import order_line
from ctd_models.analysis.latents.pca import PCA
from ctd_models.plots.line_attractor import plot_along_line, plot_line_attractor, plot_line_story


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def case():
    """Points on a line of length 6 with a gap of length 2.1 in the middle, each from a candidate beside it."""
    places = np.concatenate([np.linspace(-3, -1.05, 40), np.linspace(1.05, 3, 40)])
    states = np.zeros((80, 4))
    states[:, 0] = places
    points = linearize(lambda h: h * np.array([1.0, 0.5, 0.3, 0.2]), states)
    candidates = states + np.array([0.0, 1.0, 0.0, 0.0]) * np.linspace(0.5, 1, 80)[:, None]
    points = dataclasses.replace(points, candidate_indices=np.arange(80), hits=np.where(np.arange(80) < 70, 1, 0))
    line = order_line(points, closed=False, max_gap=np.inf, gap_factor=5.0)
    return line, points[line.order], candidates, places[line.order]


def test_candidates_and_points_lie_at_their_components(case):
    _, points, candidates, values = case
    pca = PCA.fit(np.concatenate([candidates, points.states]), 3)
    axes = plot_line_attractor(points, values, candidates, pca=pca, max_links=1000)
    drawn = [np.stack(c._offsets3d, axis=1) for c in axes.collections if hasattr(c, "_offsets3d")]
    np.testing.assert_allclose(drawn[0], pca.transform(points.states), atol=1e-12)
    np.testing.assert_allclose(drawn[1], pca.transform(candidates), atol=1e-12)
    assert axes.collections[0].get_clim() == (-3.0, 3.0)
    (links,) = (c for c in axes.collections if isinstance(c, Line3DCollection))
    assert len(links._segments3d) == 70  # not those that extension found
    first, index = np.asarray(links._segments3d)[0], points.candidate_indices[points.hits > 0][0]
    np.testing.assert_allclose(first[0], pca.transform(candidates[index]), atol=1e-12)


def test_links_are_limited_and_need_known_candidates(case):
    _, points, candidates, values = case

    def count(points, **options):
        axes = plot_line_attractor(points, values, candidates, **options)
        return sum(len(c._segments3d) for c in axes.collections if isinstance(c, Line3DCollection))

    assert count(points, max_links=7) == 7
    assert count(points, max_links=0) == 0
    assert count(dataclasses.replace(points, candidate_indices=None)) == 0


def test_trajectories_are_drawn(case):
    _, points, candidates, values = case
    trajectories = np.random.default_rng(0).normal(size=(3, 5, 4))
    axes = plot_line_attractor(points, values, candidates, trajectories=trajectories)
    assert len(axes.lines) == 3


def test_two_dimensional_states():
    points = linearize(lambda h: 0.9 * h, np.random.default_rng(0).normal(size=(5, 2)))
    axes = plot_line_attractor(points, np.zeros(5), points.states)
    assert np.ptp(axes.collections[0]._offsets3d[2]) == 0


def test_curves_break_at_gaps(case):
    line, _, _, values = case
    assert len(line.gap_sizes) == 1
    axes = plot_along_line(line, {"a": {"": values}, "b": {"x": values, "y": -values}}, guides={"a": (0.5,)})
    assert len(axes) == 2
    curve = axes[0].lines[1]
    assert list(axes[0].lines[0].get_ydata()) == [0.5, 0.5]
    assert np.flatnonzero(np.isnan(curve.get_xdata())).tolist() == [40]
    shown = ~np.isnan(curve.get_ydata())
    np.testing.assert_allclose(curve.get_ydata()[shown], values)
    np.testing.assert_allclose(np.ptp(curve.get_xdata()[shown]), 6.0, rtol=1e-6)
    assert axes[0].get_legend() is None
    assert [text.get_text() for text in axes[1].get_legend().get_texts()] == ["x", "y"]
    assert axes[1].get_xlabel() == "arc length along the line (state units)"


def test_pieces_follow_one_another():
    points = np.concatenate([np.linspace(0, 1, 30), np.linspace(50, 51, 20)])[:, None] * np.ones(2) / np.sqrt(2)
    line = order_line(points)
    assert line.num_pieces == 2
    place = plot_along_line(line, {"a": {"": np.arange(50.0)}})[0].lines[0].get_xdata()
    assert np.isnan(place[30])
    assert (np.diff(place[~np.isnan(place)]) >= -1e-9).all()
    assert np.nanmax(place) == pytest.approx(2.0, rel=1e-3)


def test_story(case):
    line, points, candidates, values = case
    figure = plot_line_story(
        points, values, candidates, line, cosines={"readout": np.full(80, 0.3)}, shifts=np.full(80, 2.0)
    )
    labels = [axes.get_ylabel() for axes in figure.get_axes()]
    for label in ("readout", "|λ|", "|cos| with tangent", "shift along line\nper unit of input"):
        assert label in labels
    panel = next(axes for axes in figure.get_axes() if axes.get_ylabel() == "|λ|")
    first, second = panel.lines[1:]
    np.testing.assert_allclose(first.get_ydata()[:40], 1.0)
    np.testing.assert_allclose(second.get_ydata()[:40], 0.5)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_story_runs_towards_the_higher_readout(case, sign):
    line, points, candidates, values = case
    figure = plot_line_story(points, sign * values, candidates, line, cosines={"x": values}, shifts=values)
    panel = next(axes for axes in figure.get_axes() if axes.get_ylabel() == "readout" and len(axes.lines) == 3)
    place, shown = (np.asarray(data)[~np.isnan(data)] for data in panel.lines[2].get_data())
    assert (np.diff(shown[np.argsort(place)]) > 0).all()
    assert place.min() == pytest.approx(0, abs=1e-9)


def test_bad_arguments(case):
    line, points, candidates, values = case
    with pytest.raises(ValueError, match=r"expected candidates \[m, 4\], got shape \(80, 3\)"):
        plot_line_attractor(points, values, candidates[:, :3])
    with pytest.raises(ValueError, match="came from candidate 79, but there are 10"):
        plot_line_attractor(points, values, candidates[:10])
    with pytest.raises(ValueError, match="no points"):
        plot_line_attractor(points[:0], values[:0], candidates)
    with pytest.raises(ValueError, match="three-dimensional axes"):
        plot_line_attractor(points, values, candidates, axes=plt.figure().subplots())
    with pytest.raises(ValueError, match="max_links cannot be negative, got -1"):
        plot_line_attractor(points, values, candidates, max_links=-1)
    with pytest.raises(ValueError, match="no panels"):
        plot_along_line(line, {})
    with pytest.raises(ValueError, match=r"expected values \[80\] of 'x', got shape \(3,\)"):
        plot_along_line(line, {"a": {"x": np.zeros(3)}})
    with pytest.raises(ValueError, match=r"guides name panels that are not there: \['b'\]"):
        plot_along_line(line, {"a": {"": values}}, guides={"b": (1.0,)})
    with pytest.raises(ValueError, match="expected 1 axes, one for each panel, got 2"):
        plot_along_line(line, {"a": {"": values}}, axes=plt.figure().subplots(2))
    bare = dataclasses.replace(points, eigenvalues=None)
    with pytest.raises(ValueError, match="call linearize"):
        plot_line_story(bare, values, candidates, line, cosines={}, shifts=values)
