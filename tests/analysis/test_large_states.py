"""States too large for Jacobians, and many candidates."""

import jax.numpy as jnp
import numpy as np
import pytest

from ctd_models.analysis import KrylovLevenbergMarquardt, LevenbergMarquardt, find_fixed_points, linearize
from ctd_models.analysis.fixed_points.methods import as_solvers


def pattern_network(size, num_patterns, gain, seed=0):
    """(W, patterns): h → tanh(W h) that holds each ± pattern, W = gain · Ξᵀ Ξ / N with orthogonal patterns of ±1.

    At ± s ξ, W h = gain s ξ, so that s = tanh(gain s); the Jacobian there is (1 − s²) W, with the leading eigenvalue
    gain (1 − s²), `num_patterns` times, and 0 otherwise.
    """
    assert size & (size - 1) == 0
    hadamard = np.ones((1, 1))
    while len(hadamard) < size:
        hadamard = np.block([[hadamard, hadamard], [hadamard, -hadamard]])
    patterns = hadamard[np.random.default_rng(seed).choice(np.arange(1, size), num_patterns, replace=False)]
    return gain * patterns.T @ patterns / size, patterns


def level(gain):
    """The positive s with s = tanh(gain s)."""
    s = 0.9
    for _ in range(200):
        s = np.tanh(gain * s)
    return s


@pytest.fixture(scope="module")
def memory():
    W, patterns = pattern_network(128, 3, 1.5)
    rng = np.random.default_rng(1)
    signs = rng.choice([-1, 1], (60, 1)) * np.eye(3)[rng.integers(0, 3, 60)]
    return W, patterns, 0.8 * signs @ patterns + 0.2 * rng.normal(size=(60, 128))


def test_without_jacobians_as_with_them(memory):
    W, patterns, starts = memory

    def F(h):
        return jnp.tanh(W @ h)

    dense = find_fixed_points(F, starts, method="levenberg-marquardt", explore=False)
    krylov = find_fixed_points(F, starts, method="krylov", explore=False)
    s = level(1.5)
    for points in (dense, krylov):
        overlaps = points.states @ patterns.T / 128
        memories = points.states[(np.abs(np.abs(overlaps) - s) < 1e-6).sum(axis=1) == 1]
        assert len(memories) == 6
        assert np.median(points.speeds) < 1e-24


def test_which_solver_is_chosen():
    def names(*arguments):
        return [type(solver).__name__ for solver in as_solvers(*arguments)]

    assert names("auto", None, 16, 1e-20) == names("auto", None, 500, 1e-20) == ["LevenbergMarquardt"]
    assert names("auto", None, 100, 1e-5) == ["KrylovLevenbergMarquardt", "LevenbergMarquardt"]
    assert names("auto", None, 501, 1e-20) == names("auto", None, 501, 1e-5) == ["KrylovLevenbergMarquardt"]
    assert names("krylov", None, 16, 1e-20) == ["KrylovLevenbergMarquardt"]
    assert as_solvers(LevenbergMarquardt(), 7, 16, 1e-20) == (LevenbergMarquardt(max_iterations=7),)
    assert as_solvers(KrylovLevenbergMarquardt(), None, 16, 1e-20) == (KrylovLevenbergMarquardt(),)


def test_leading_modes_are_those_of_the_whole_jacobian():
    rng = np.random.default_rng(0)
    W = rng.normal(size=(60, 60)) * 1.3 / np.sqrt(60)

    def F(h, x):
        return jnp.tanh(W @ h + x[0])

    states = 0.3 * rng.normal(size=(4, 60))
    whole, few = linearize(F, states, np.ones(1)), linearize(F, states, np.ones(1), num_modes=6)
    k = few.eigenvalues.shape[1]
    assert k in (6, 7)
    assert few.jacobians is None
    np.testing.assert_allclose(few.eigenvalues, whole.eigenvalues[:, :k], atol=1e-8)
    np.testing.assert_allclose(few.input_jacobians, whole.input_jacobians, atol=1e-12)
    for i in range(4):
        J, values = whole.jacobians[i], few.eigenvalues[i]
        right, left = few.right_eigenvectors[i], few.left_eigenvectors[i]
        np.testing.assert_allclose(J @ right, right * values, atol=1e-8)
        np.testing.assert_allclose(left.T @ J, values[:, None] * left.T, atol=1e-7)
        np.testing.assert_allclose(left.T @ right, np.eye(k), atol=1e-7)
    with pytest.raises(ValueError, match=r"num_modes must lie in 1 … 60, got 61"):
        linearize(F, states, np.ones(1), num_modes=61)


def test_leading_modes_of_a_flow_and_their_pairs():
    A = np.zeros((40, 40))
    A[:2, :2], A[2:4, 2:4] = [[0.1, 2.0], [-2.0, 0.1]], [[-0.2, 5.0], [-5.0, -0.2]]
    A[4:, 4:] = -np.diag(np.linspace(1.0, 3.0, 36))
    Q = np.linalg.qr(np.random.default_rng(0).normal(size=(40, 40)))[0]
    A = Q @ A @ Q.T
    points = linearize(lambda h: A @ h, np.zeros((1, 40)), kind="flow", num_modes=3)
    np.testing.assert_allclose(points.eigenvalues[0], [0.1 + 2j, 0.1 - 2j, -0.2 + 5j, -0.2 - 5j], atol=1e-8)
    assert points.num_unstable[0] == 2


@pytest.mark.slow
def test_a_thousand_units_without_a_jacobian():
    W, patterns = pattern_network(1024, 4, 1.5)
    rng = np.random.default_rng(1)
    signs = rng.choice([-1, 1], (200, 1)) * np.eye(4)[rng.integers(0, 4, 200)]
    starts = 0.8 * signs @ patterns + 0.2 * rng.normal(size=(200, 1024))

    def F(h):
        return jnp.tanh(W @ h)

    points = linearize(F, find_fixed_points(F, starts, explore=False))
    s = level(1.5)
    memories = points[(np.abs(np.abs(points.states @ patterns.T / 1024) - s) < 1e-6).sum(axis=1) == 1]
    assert len(memories) == 8
    assert memories.eigenvalues.shape[1] in (10, 11)
    assert memories.jacobians is None
    np.testing.assert_allclose(memories.eigenvalues[:, :4], 1.5 * (1 - s**2), atol=1e-8)
    assert memories.stability.tolist() == ["attractor"] * 8


@pytest.mark.slow
def test_ten_thousand_candidates_of_a_hundred_units():
    rng = np.random.default_rng(0)
    W, patterns = pattern_network(128, 2, 1.5)
    starts = rng.uniform(-1, 1, size=(10_000, 2)) @ patterns + 0.1 * rng.normal(size=(10_000, 128))
    points = find_fixed_points(lambda h: jnp.tanh(W @ h), starts, explore=False)
    overlaps = points.states @ patterns.T / 128
    assert len(points) == 9  # 0, four patterns, four mixtures of two
    assert (np.abs(overlaps) < 1e-6).all(axis=1).sum() == 1
    assert points.hits.sum() + sum(len(v) for k, v in points.dropped.items() if k != "duplicate") == 10_000
