"""Jacobians and modes against analysis by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from ctd_models.analysis import find_fixed_points, linearize

RNG = np.random.default_rng(0)


def test_linear_map():
    A, B = RNG.normal(size=(7, 7)), RNG.normal(size=(7, 2))
    points = linearize(lambda h, x: jnp.asarray(A) @ h + jnp.asarray(B) @ x, RNG.normal(size=(3, 7)), np.ones(2))
    for i in range(3):
        np.testing.assert_allclose(points.jacobians[i], A, atol=1e-14)
        np.testing.assert_allclose(points.input_jacobians[i], B, atol=1e-14)
        values, right, left = points.eigenvalues[i], points.right_eigenvectors[i], points.left_eigenvectors[i]
        np.testing.assert_allclose(A @ right, right * values, atol=1e-12)
        np.testing.assert_allclose(left.T @ A, values[:, None] * left.T, atol=1e-12)
        np.testing.assert_allclose(left.T @ right, np.eye(7), atol=1e-12)
        np.testing.assert_allclose(np.linalg.norm(right, axis=0), 1, atol=1e-12)
        assert (np.diff(np.abs(values)) <= 1e-12).all()
        complex_ones = np.flatnonzero(values.imag > 0)
        np.testing.assert_allclose(values[complex_ones + 1], values[complex_ones].conj(), atol=1e-12)
    assert (points.num_unstable == (np.abs(np.linalg.eigvals(A)) > 1).sum()).all()


def test_flow_of_lorenz_has_the_known_eigenvalues():
    def lorenz(z):
        x, y, w = z
        return jnp.array([10 * (y - x), x * (28 - w) - y, x * y - 8 / 3 * w])

    points = find_fixed_points(lorenz, RNG.normal(size=(200, 3)) * 10, kind="flow")
    points = linearize(lorenz, points, dt=1.0)
    origin = points[np.linalg.norm(points.states, axis=1) < 1e-6]
    root = np.sqrt((10 + 1) ** 2 + 4 * 10 * 27)
    np.testing.assert_allclose(origin.eigenvalues[0].real, [(-11 + root) / 2, -8 / 3, (-11 - root) / 2], atol=1e-9)
    assert origin.num_unstable[0] == 1
    wings = points[np.linalg.norm(points.states, axis=1) > 1]
    # of λ³ + (41/3) λ² + (8/3) 38 λ + 160 · 9 = 0, with β(r + σ) = 101.333 and 2σβ(r − 1) = 1440
    roots = np.roots([1, 41 / 3, 8 / 3 * 38, 2 * 10 * 8 / 3 * 27])
    for values in wings.eigenvalues:
        np.testing.assert_allclose(np.sort_complex(values), np.sort_complex(roots), atol=1e-8)
    assert wings.num_unstable.tolist() == [2, 2]
    assert points.dt == 1.0
    assert points.kind == "flow"


def test_jacobian_of_a_nonlinear_map_by_finite_differences():
    W = RNG.normal(size=(5, 5))

    def F(h, x):
        return jnp.tanh(jnp.asarray(W) @ h + x)

    h, x, e = RNG.normal(size=5), RNG.normal(size=5), 1e-6
    J = linearize(F, h[None], x).jacobians[0]
    for k in range(5):
        d = e * np.eye(5)[k]
        np.testing.assert_allclose(J[:, k], (np.tanh(W @ (h + d) + x) - np.tanh(W @ (h - d) + x)) / (2 * e), atol=1e-8)


def test_defective_jacobians_do_not_fail():
    points = linearize(lambda h: jnp.array([[0.5, 1.0], [0.0, 0.5]]) @ h, np.zeros((1, 2)))
    np.testing.assert_allclose(points.eigenvalues, [[0.5, 0.5]], atol=1e-7)
    assert np.isfinite(points.left_eigenvectors).all()


def test_time_constants_and_frequencies():
    """A spiral that loses a factor 0.9 and turns by 0.3 rad a step, a growing mode, an alternating one."""
    c, s = 0.9 * np.cos(0.3), 0.9 * np.sin(0.3)
    A = np.zeros((4, 4))
    A[:2, :2], A[2, 2], A[3, 3] = [[c, -s], [s, c]], 1.1, -0.5
    steps = linearize(lambda h: A @ h, np.zeros((1, 4)))
    np.testing.assert_allclose(np.abs(steps.eigenvalues[0]), [1.1, 0.9, 0.9, 0.5])
    assert steps.eigenvalues[0, 1].imag > 0
    expected = [1 / np.log(1.1), -1 / np.log(0.9), -1 / np.log(0.9), 1 / np.log(2)]
    np.testing.assert_allclose(steps.time_constants[0], expected)
    np.testing.assert_allclose(steps.frequencies[0], np.array([0, 0.3, 0.3, np.pi]) / (2 * np.pi), atol=1e-12)
    seconds = linearize(lambda h: A @ h, np.zeros((1, 4)), dt=0.01)
    np.testing.assert_allclose(seconds.time_constants, 0.01 * steps.time_constants)
    np.testing.assert_allclose(seconds.frequencies, steps.frequencies / 0.01)
    flow = linearize(lambda h: np.array([[-2.0, 6.0], [-6.0, -2.0]]) @ h, np.zeros((1, 2)), kind="flow")
    np.testing.assert_allclose(flow.time_constants, 0.5)
    in_its_own_unit = linearize(lambda h: -2.0 * h, np.zeros((1, 2)), kind="flow", dt=0.1)
    np.testing.assert_allclose(in_its_own_unit.time_constants, 0.5)
    np.testing.assert_allclose(flow.frequencies, 6 / (2 * np.pi))
    np.testing.assert_allclose(steps.condition_numbers, np.linalg.cond(A - np.eye(4)))


def test_rounding_makes_no_mode_unstable():
    points = linearize(lambda h: jnp.array([1 + 1e-13, 0.5]) * h, np.zeros((1, 2)))
    assert points.num_unstable.tolist() == [0]
    flow = linearize(lambda h: jnp.array([1e-13, -1.0]) * h, np.zeros((1, 2)), kind="flow")
    assert flow.num_unstable.tolist() == [0]


def test_stability_classes():
    def diagonal(*values):
        return linearize(lambda h: jnp.asarray(values) * h, np.zeros((1, len(values)))).stability[0]

    assert diagonal(0.5, -0.9) == "attractor"
    assert diagonal(1.2, -1.5) == "repeller"
    assert diagonal(1.2, 0.5) == "saddle"
    assert diagonal(1.0, 0.5) == "marginal"
    assert diagonal(1.0, 1.2) == "saddle"
    near = linearize(lambda h: jnp.array([1.004, 0.5]) * h, np.zeros((1, 2)))
    assert (near.stability[0], near.stability_within(0.01)[0]) == ("saddle", "marginal")
    flow = linearize(lambda h: jnp.array([[0.0, 1.0], [-1.0, 0.0]]) @ h, np.zeros((1, 2)), kind="flow")
    assert flow.stability.tolist() == ["marginal"]
    assert "1 of them marginal" in repr(flow)


def test_conjugate_pairs_stay_adjacent_among_modes_of_equal_magnitude():
    """Three rotations by different angles, all of magnitude 0.9, and two real modes ± 0.9."""
    A = np.zeros((8, 8))
    for i, angle in enumerate((0.3, 1.1, 2.0)):
        c, s = 0.9 * np.cos(angle), 0.9 * np.sin(angle)
        A[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = [[c, -s], [s, c]]
    A[6, 6], A[7, 7] = 0.9, -0.9
    Q = np.random.default_rng(1).normal(size=(8, 8))
    A = Q @ A @ np.linalg.inv(Q)
    values = linearize(lambda h: jnp.asarray(A) @ h, np.zeros((1, 8))).eigenvalues[0]
    upper = np.flatnonzero(values.imag > 1e-6)
    assert len(upper) == 3
    np.testing.assert_allclose(values[upper + 1], values[upper].conj(), atol=1e-9)


def test_other_numbers_of_points_reuse_the_program(compilations):
    def F(h):
        return jnp.tanh(h)

    linearize(F, RNG.normal(size=(60, 3)))
    with compilations:
        linearize(F, RNG.normal(size=(50, 3)))
    assert compilations.count == 0


def test_bad_arguments():
    with pytest.raises(ValueError, match="dt must be positive"):
        linearize(lambda h: h, np.zeros((1, 2)), dt=0.0)
    with pytest.raises(ValueError, match="expected points"):
        linearize(lambda h: h, np.zeros(2))
