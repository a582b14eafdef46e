"""Phase planes, phase lines, cobwebs and slices show what they are given."""

import jax.numpy as jnp
import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest

from ctd_models.analysis.fixed_points.linearization import linearize
from ctd_models.analysis.fixed_points.search import find_fixed_points
from ctd_models.analysis.geometry.planes import phase_plane, vector_field_slice
from ctd_models.analysis.latents.pca import PCA
from ctd_models.analysis.orbits.simulation import simulate
from ctd_models.plots.phase_plane import plot_phase_plane, plot_vector_field


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def fitzhugh_nagumo(h):
    v, w = h
    return jnp.stack([v - v**3 / 3 - w + 0.5, 0.08 * (v + 0.7 - 0.8 * w)])


def pitchfork(h):
    return 1.5 * h - h**3


def logistic(h):
    return 3.2 * h * (1 - h)


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def line(axes, label):
    (found,) = [one for one in axes.lines if one.get_label() == label]
    return found


@pytest.fixture(scope="module")
def excitable():
    return phase_plane(fitzhugh_nagumo, ((-2.5, 2.5), (-1, 2)), kind="flow")


@pytest.fixture(scope="module")
def cube():
    """27 points of a map of three dimensions: 8 stable, 18 saddles, 1 unstable in every direction."""
    candidates = np.random.default_rng(0).uniform(-1, 1, size=(300, 3))
    return linearize(pitchfork, find_fixed_points(pitchfork, candidates))


@pytest.mark.parametrize("style", ["stream", "quiver", "none"])
def test_nullclines_trajectories_and_points_of_a_flow(excitable, style):
    paths = simulate(fitzhugh_nagumo, np.array([[-1.0, -0.5], [0.5, 1]]), num_steps=50, kind="flow", dt=0.1)
    axes = plot_phase_plane(excitable, paths, style=style, names=("V (mV)", "w"))
    assert legend(axes) == ["dV/dt = 0", "dw/dt = 0", "trajectory", "unstable focus (1)"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("V (mV)", "w")
    contours = [c for c in axes.collections if isinstance(c, mpl.contour.ContourSet)]
    assert len(contours) == 2
    v, w = np.concatenate([path.vertices for path in contours[0].get_paths()]).T
    np.testing.assert_allclose(w, v - v**3 / 3 + 0.5, atol=0.05**2)
    v, w = np.concatenate([path.vertices for path in contours[1].get_paths()]).T
    np.testing.assert_allclose(v + 0.7, 0.8 * w, atol=1e-9)
    np.testing.assert_allclose(line(axes, "trajectory").get_xydata(), paths[0])
    np.testing.assert_allclose(axes.get_xlim(), (-2.5, 2.5))
    marked = [one.get_xydata() for one in axes.lines if one.get_marker() == "o" and one.get_zorder() == 5]
    np.testing.assert_allclose(np.concatenate(marked), excitable.points.states)


def test_markers_tell_stable_saddle_and_unstable_apart():
    plane = phase_plane(pitchfork, ((-1, 1), (-1, 1)))
    axes = plot_phase_plane(plane)
    assert legend(axes) == ["Δh₁ = 0", "Δh₂ = 0", "saddle (4)", "stable node (4)", "unstable node (1)"]
    saddle, stable, unstable = (line(axes, text) for text in legend(axes)[2:])
    assert saddle.get_fillstyle() == "left"
    assert (stable.get_fillstyle(), stable.get_markerfacecolor()) == ("full", "black")
    assert unstable.get_markerfacecolor() == "white"


def test_a_component_without_a_nullcline_has_none_in_the_legend():
    plane = phase_plane(lambda h: jnp.stack([1 + h[0] ** 2, -h[1]]), ((-1, 1), (-1, 1)), kind="flow", resolution=21)
    assert legend(plot_phase_plane(plane)) == ["dh₂/dt = 0"]


def test_cobweb_of_the_logistic_map():
    path = simulate(logistic, np.array([[0.1]]), num_steps=3)
    axes = plot_phase_plane(phase_plane(logistic, (0, 1)), path, names="x")
    x = path[0, :, 0]
    expected = [(x[0], x[0]), (x[0], x[1]), (x[1], x[1]), (x[1], x[2]), (x[2], x[2]), (x[2], x[3]), (x[3], x[3])]
    np.testing.assert_allclose(line(axes, "trajectory").get_xydata(), expected)
    grid, values = line(axes, "F(x)").get_data()
    np.testing.assert_allclose(values, 3.2 * grid * (1 - grid), atol=1e-14)
    points = [one.get_xydata() for one in axes.lines if one.get_zorder() == 5]
    np.testing.assert_allclose(np.sort(np.concatenate(points), axis=0), [[0, 0], [1 - 1 / 3.2] * 2], atol=1e-9)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("x", "x one step later")


def test_phase_line_of_a_bistable_flow():
    def F(h):
        return h - h**3

    plane = phase_plane(F, (-1.5, 1.5), kind="flow")
    axes = plot_phase_plane(plane, simulate(F, np.array([[0.1]]), num_steps=40, kind="flow", dt=0.1))
    grid, values = line(axes, "dh/dt").get_data()
    np.testing.assert_allclose(values, grid - grid**3, atol=1e-14)
    assert legend(axes) == ["dh/dt", "trajectory", "stable node (2)", "unstable node (1)"]
    right, left = (one for one in axes.lines if one.get_marker() in "<>" and one.get_marker())
    assert (right.get_marker(), left.get_marker()) == (">", "<")
    assert all(x < -1 or 0 < x < 1 for x in right.get_xdata())
    assert all(x > 1 or -1 < x < 0 for x in left.get_xdata())


def test_a_slice_shows_the_points_in_it_large_and_others_small(cube):
    axes = plot_vector_field(pitchfork, (np.zeros(3), np.eye(3)[0], np.eye(3)[1]), points=cube)
    assert legend(axes) == ["saddle (18)", "stable (8)", "unstable (1)", "small: far from the plane (18)"]
    large = [one for one in axes.lines if one.get_zorder() == 5 and one.get_markersize() == 8]
    shown = np.concatenate([one.get_xydata() for one in large if len(one.get_xydata())])
    inside = cube.states[np.abs(cube.states[:, 2]) < 1e-9]
    assert len(shown) == len(inside) == 9
    np.testing.assert_allclose(np.sort(shown, axis=0), np.sort(inside[:, :2], axis=0), atol=1e-9)
    assert axes.figure.axes[1].get_ylabel() == "speed q = ½‖F(h) − h‖² (per step²)"


def test_planes_of_components_of_points_and_of_a_slice_made_before(cube):
    pca = PCA.fit(cube.states, 3)
    trajectories = simulate(pitchfork, cube.states + 0.01, num_steps=5)
    axes = plot_vector_field(pitchfork, pca, trajectories=trajectories, resolution=11, style="quiver")
    assert axes.get_xlabel() == "PC 1 (33 %)"
    assert legend(axes) == ["trajectory"]
    np.testing.assert_allclose(line(axes, "trajectory").get_xydata(), pca.transform(trajectories[0])[:, :2], atol=1e-12)
    assert legend(plot_vector_field(pitchfork, cube, resolution=11))[0] == "saddle (18)"
    field = vector_field_slice(pitchfork, np.zeros(3), np.eye(3)[:2], extent=1, resolution=11)
    axes = plot_vector_field(field, names=("a", "b"))
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("a", "b")
    np.testing.assert_allclose(axes.collections[0].get_array().min(), field.speeds[field.speeds > 0].min())


def test_a_model_with_a_pytree_as_state():
    def step(state):
        c, h = state
        return 0.5 * c, 1.5 * h - h**3

    rng = np.random.default_rng(0)
    candidates = (rng.normal(size=(50, 1)), rng.uniform(-1, 1, size=(50, 2)))
    points = linearize(step, find_fixed_points(step, candidates))
    assert len(points) == 9
    axes = plot_vector_field(step, PCA.fit(points.states, 2), points=points, resolution=11)
    assert sum(int(text.split("(")[1][:-1]) for text in legend(axes)) == 9


def test_systems_that_stand_still_or_leave_the_numbers():
    plot_vector_field(lambda h: h, (np.zeros(2), [1.0, 0], [0.0, 1]), extent=1, resolution=5)
    axes = plot_vector_field(
        lambda h: jnp.log(h), (np.zeros(2), [1.0, 0], [0.0, 1]), extent=1, resolution=8, kind="flow"
    )
    axes.figure.canvas.draw()
    assert axes.collections[0].get_array().mask.any()


def test_what_does_not_fit_is_rejected(excitable, cube):
    with pytest.raises(ValueError, match="needs a plane"):
        plot_vector_field(pitchfork)
    with pytest.raises(TypeError, match="a plane is a PCA, points, or"):
        plot_vector_field(pitchfork, "pca")
    with pytest.raises(ValueError, match="at least three, got 2"):
        plot_vector_field(pitchfork, cube[:2])
    with pytest.raises(ValueError, match="two principal components, got 1"):
        plot_vector_field(pitchfork, PCA.fit(cube.states, 1))
    with pytest.raises(ValueError, match="needs an extent"):
        plot_vector_field(pitchfork, (np.zeros(3), np.eye(3)[0], np.eye(3)[1]))
    with pytest.raises(ValueError, match='style must be "stream" or "quiver"'):
        plot_vector_field(pitchfork, PCA.fit(cube.states, 2), style="lines")
    with pytest.raises(ValueError, match="expected 2 names"):
        plot_phase_plane(excitable, names="v")
    with pytest.raises(ValueError, match=r"expected trajectories \[B, T, 2\], got shape \(3, 3\)"):
        plot_phase_plane(excitable, np.ones((3, 3)))
    with pytest.raises(ValueError, match="style must be"):
        plot_phase_plane(excitable, style="lines")
