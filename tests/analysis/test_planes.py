"""Slices of vector fields and phase planes against systems that textbooks solve."""

import jax.numpy as jnp
import numpy as np
import pytest

from ctd_models.analysis.fixed_points.linearization import linearize
from ctd_models.analysis.fixed_points.points import FixedPoints
from ctd_models.analysis.geometry.planes import phase_plane, type_names, vector_field_slice


def pendulum(damping):
    c = jnp.asarray(damping)
    return lambda h: jnp.stack([h[1], -jnp.sin(h[0]) - c * h[1]])


def fitzhugh_nagumo(h, x):
    v, w = h
    return jnp.stack([v - v**3 / 3 - w + x[0], 0.08 * (v + 0.7 - 0.8 * w)])


@pytest.mark.parametrize("kind", ["map", "flow"])
def test_a_linear_system_on_a_plane_is_linear_algebra(kind):
    rng = np.random.default_rng(0)
    A, b, origin = rng.normal(size=(5, 5)), rng.normal(size=5), rng.normal(size=5)
    axes = rng.normal(size=(2, 5))
    field = vector_field_slice(
        lambda h, x: A @ h + x, origin, axes, b, extent=((-1, 2), (0, 3)), resolution=(7, 4), kind=kind
    )
    np.testing.assert_allclose(field.axes @ field.axes.T, np.eye(2), atol=1e-14)
    np.testing.assert_allclose(field.axes[0], axes[0] / np.linalg.norm(axes[0]), rtol=1e-13)
    assert np.linalg.matrix_rank(np.concatenate([axes, field.axes])) == 2
    assert (field.x[0], field.x[-1], field.y[0], field.y[-1]) == (-1, 2, 0, 3)
    states = field.lift(np.stack(np.meshgrid(field.x, field.y), axis=-1))
    assert states.shape == (4, 7, 5)
    moved = states @ A.T + b - (states if kind == "map" else 0)
    np.testing.assert_allclose(field.field, moved @ field.axes.T, atol=1e-12)
    np.testing.assert_allclose(field.speeds, 0.5 * (moved**2).sum(axis=-1), rtol=1e-12)
    np.testing.assert_allclose((field.field**2).sum(axis=-1) + field.out_of_plane**2, 2 * field.speeds, rtol=1e-12)
    share = 1 - field.out_of_plane**2 / (2 * field.speeds)
    np.testing.assert_allclose(field.in_plane_share, share, atol=1e-12)
    assert repr(field).startswith(f"VectorFieldSlice: 7 × 4 states of a {kind} in 5 dimensions")


def test_projection_and_distance_are_those_of_the_plane():
    field = vector_field_slice(lambda h: 0.5 * h, np.array([0.0, 0, 2]), [[1.0, 0, 0], [1.0, 1, 0]], extent=1.0)
    np.testing.assert_allclose(field.project(np.array([[3.0, -4, 7]])), [[3, -4]], atol=1e-15)
    np.testing.assert_allclose(field.distance(np.array([[3.0, -4, 7], [1, 1, 2]])), [5, 0], atol=1e-15)
    middle = field.speeds[len(field.y) // 2, len(field.x) // 2]
    assert middle == pytest.approx(0.5)  # at (0, 0, 2), which moves by (0, 0, -1)


def test_the_extent_covers_what_it_lies_around():
    around = np.array([[[0.0, 0, 9], [4, -1, 5]]])
    field = vector_field_slice(lambda h: 0.5 * h, np.zeros(3), np.eye(3)[:2], around=around)
    np.testing.assert_allclose([field.x[0], field.x[-1]], [-0.4, 4.4])
    np.testing.assert_allclose([field.y[0], field.y[-1]], [-1.1, 0.1])


def test_pytree_states():
    def step(state):
        c, h = state
        return 0.5 * c, h + c.sum()

    origin = (np.array([1.0]), np.array([0.0, 0.0]))
    field = vector_field_slice(step, origin, ((np.ones(1), np.zeros(2)), (np.zeros(1), np.array([1.0, 0]))), extent=1)
    x, y = np.meshgrid(field.x, field.y)
    np.testing.assert_allclose(field.field[..., 0], -0.5 * (1 + x), atol=1e-14)
    np.testing.assert_allclose(field.field[..., 1], 1 + x, atol=1e-14)
    np.testing.assert_allclose(field.out_of_plane, np.abs(1 + x), atol=1e-14)
    assert y.shape == field.speeds.shape


@pytest.mark.parametrize("current", [0.0, 0.5, 1.5])
def test_fitzhugh_nagumo(current):
    plane = phase_plane(fitzhugh_nagumo, ((-2.5, 2.5), (-2, 3)), [current], kind="flow")
    roots = np.roots([-1 / 3, 0, 1 - 1 / 0.8, current - 0.7 / 0.8])
    v = roots[np.abs(roots.imag) < 1e-12].real
    assert len(v) == len(plane.points) == 1
    np.testing.assert_allclose(plane.points.states, [[v[0], (v[0] + 0.7) / 0.8]], atol=1e-10)
    trace, determinant = 1 - v[0] ** 2 - 0.064, -0.064 * (1 - v[0] ** 2) + 0.08
    kind = "focus" if trace**2 < 4 * determinant else "node"
    assert plane.types.tolist() == [f"{'stable' if trace < 0 else 'unstable'} {kind}"]
    cubic, line = plane.nullcline(0), plane.nullcline(1)
    assert len(cubic) > 100
    assert len(line) > 50
    spacing = 0.05
    np.testing.assert_allclose(cubic[:, 1], cubic[:, 0] - cubic[:, 0] ** 3 / 3 + current, atol=spacing**2)
    np.testing.assert_allclose(line[:, 0] + 0.7, 0.8 * line[:, 1], atol=1e-12)


@pytest.mark.parametrize(("damping", "rest"), [(0.0, "centre"), (0.5, "stable focus"), (3.0, "stable node")])
def test_the_pendulum_hangs_at_rest_and_balances_on_a_saddle(damping, rest):
    plane = phase_plane(pendulum(damping), ((-4, 4), (-3, 3)), kind="flow", resolution=11)
    order = np.argsort(plane.points.states[:, 0])
    np.testing.assert_allclose(plane.points.states[order], [[-np.pi, 0], [0, 0], [np.pi, 0]], atol=1e-9)
    assert plane.types[order].tolist() == ["saddle", rest, "saddle"]
    assert repr(plane) == (
        "PhasePlane: a flow on [-4, 4] × [-3, 3], fixed points: "
        + {"centre": "1 centre, 2 saddle"}.get(rest, f"2 saddle, 1 {rest}")
    )


def test_lotka_and_volterra_turn_around_a_centre():
    plane = phase_plane(
        lambda h: jnp.stack([h[0] * (2 - h[1]), h[1] * (h[0] - 1)]), ((-0.5, 3), (-0.5, 4)), kind="flow", resolution=20
    )
    order = np.argsort(plane.points.states[:, 0])
    np.testing.assert_allclose(plane.points.states[order], [[0, 0], [1, 2]], atol=1e-9)
    assert plane.types[order].tolist() == ["saddle", "centre"]
    np.testing.assert_allclose(plane.points.eigenvalues[order[1]], [1j * np.sqrt(2), -1j * np.sqrt(2)], atol=1e-8)


def test_one_dimension_with_two_stable_states():
    plane = phase_plane(lambda h: h - h**3, (-2, 2), kind="flow", resolution=41)
    order = np.argsort(plane.points.states[:, 0])
    np.testing.assert_allclose(plane.points.states[order, 0], [-1, 0, 1], atol=1e-10)
    assert plane.types[order].tolist() == ["stable node", "unstable node", "stable node"]
    x = plane.coordinates[0]
    np.testing.assert_allclose(plane.field[:, 0], x - x**3, atol=1e-14)
    np.testing.assert_allclose(np.sort(plane.nullcline(0)[:, 0]), [-1, 0, 1], atol=1e-12)


def test_the_logistic_map_loses_its_stability_at_three():
    for growth, name in ((2.8, "stable node"), (3.2, "unstable node")):
        plane = phase_plane(lambda h, x: x * h * (1 - h), (-0.1, 1), [growth])
        order = np.argsort(plane.points.states[:, 0])
        np.testing.assert_allclose(plane.points.states[order, 0], [0, 1 - 1 / growth], atol=1e-10)
        assert plane.types[order].tolist() == ["unstable node", name]
        np.testing.assert_allclose(plane.points.eigenvalues[order, 0].real, [growth, 2 - growth], atol=1e-9)


def test_rotations_of_the_plane_are_named():
    for radius, name in ((0.9, "stable focus"), (1.0, "centre"), (1.1, "unstable focus")):
        R = radius * np.array([[0.6, -0.8], [0.8, 0.6]])
        assert phase_plane(lambda h, R=R: R @ h, ((-1, 1), (-1, 1)), resolution=5).types.tolist() == [name]


def test_a_double_root_is_degenerate_and_none_is_none():
    assert phase_plane(lambda h: h**2, (-1, 1.1), kind="flow").types.tolist() == ["degenerate"]
    assert phase_plane(lambda h: h + h**2, (-1, 1.1)).types.tolist() == ["degenerate"]
    nothing = phase_plane(lambda h: 1 + h**2, (-1, 1), kind="flow")
    assert len(nothing.points) == len(nothing.types) == 0
    assert repr(nothing).endswith("none found")


def test_a_stiff_saddle_node_pair_is_not_called_degenerate():
    points = linearize(lambda h: jnp.stack([-1e7 * h[0], -h[1]]), np.zeros((1, 2)), kind="flow")
    assert type_names(points).tolist() == ["stable node"]


def test_points_outside_of_the_bounds_are_counted():
    plane = phase_plane(lambda h: h - h**3, (-0.8, 2), kind="flow")
    assert np.sort(plane.points.states[:, 0]).tolist() == pytest.approx([0, 1], abs=1e-10)
    assert len(plane.points.dropped["outside_bounds"]) == 1


def test_other_numbers_of_the_same_shape_compile_nothing(compilations):
    def run(growth, shift):
        growth = np.array([growth])
        phase_plane(lambda h, x: x * h * (1 - h), (-0.1, 1), growth, resolution=31)
        vector_field_slice(lambda h, x: x * h, np.full(3, shift), np.eye(3)[:2], growth, extent=1 + shift)

    run(2.8, 0.0)
    with compilations:
        run(2.9, 0.5)
    assert compilations.count == 0


def test_what_does_not_fit_is_rejected():
    def F(h):
        return 0.5 * h

    square, axes = ((-1, 1), (-1, 1)), np.eye(3)[:2]
    with pytest.raises(ValueError, match="the two axes are parallel"):
        vector_field_slice(F, np.zeros(3), np.ones((2, 3)), extent=1)
    with pytest.raises(ValueError, match=r"expected axes \[2, 3\] like the state, got \[4, 4\] entries"):
        vector_field_slice(F, np.zeros(3), np.eye(4)[:2], extent=1)
    with pytest.raises(ValueError, match=r"finite and not zero, got lengths \[1. 0.\]"):
        vector_field_slice(F, np.zeros(3), [axes[0], 0 * axes[0]], extent=1)
    with pytest.raises(ValueError, match="expected two axes of a plane, got 3"):
        vector_field_slice(F, np.zeros(3), np.eye(3), extent=1)
    with pytest.raises(ValueError, match=r"low < high, got \(1, -1\) at index 1"):
        vector_field_slice(F, np.zeros(3), axes, extent=((-1, 1), (1, -1)))
    with pytest.raises(ValueError, match="needs an extent, or states around which"):
        vector_field_slice(F, np.zeros(3), axes)
    with pytest.raises(ValueError, match=r"\[n, 3\], got shape \(2, 2\)"):
        vector_field_slice(F, np.zeros(3), axes, around=np.ones((2, 2)))
    with pytest.raises(ValueError, match="resolution must be whole numbers of at least 2, got 1"):
        vector_field_slice(F, np.zeros(3), axes, extent=1, resolution=1)
    with pytest.raises(ValueError, match=r"states hold nan at index \(0, 1\)"):
        vector_field_slice(F, np.array([0, np.nan, 0]), axes, extent=1)
    with pytest.raises(ValueError, match=r"one input \[U\] for the whole plane, got shape \(2, 1\)"):
        phase_plane(lambda h, x: h, square, np.ones((2, 1)))
    with pytest.raises(ValueError, match=r"expected bounds .*, got shape \(3, 2\)"):
        phase_plane(F, ((-1, 1),) * 3)
    with pytest.raises(ValueError, match="kind must be one of"):
        phase_plane(F, square, kind="ode")
    with pytest.raises(ValueError, match="component must lie in 0 … 1, got 2"):
        phase_plane(F, square, resolution=3, num_starts=2).nullcline(2)
    with pytest.raises(ValueError, match="call linearize"):
        type_names(FixedPoints(states=np.zeros((1, 2)), speeds=np.zeros(1)))
