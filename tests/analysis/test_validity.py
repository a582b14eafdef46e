"""Errors of linear predictions where second derivatives are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ctd_models.analysis.fixed_points.linearization import linearize
from ctd_models.analysis.fixed_points.search import find_fixed_points
from ctd_models.analysis.geometry.validity import linear_prediction, linear_validity

DISTANCES = np.array([0.001, 0.01, 0.1, 0.5, 1.0])
KEY = jax.random.key(0)
SLOPES, CURVATURES = np.array([0.5, 2.0, -0.8]), np.array([1.0, 3.0, -2.0])


def quadratic(h):
    """Fixed point 0, F'' = CURVATURES in each coordinate by itself."""
    return SLOPES * h + 0.5 * CURVATURES * h**2


@pytest.fixture(scope="module")
def points():
    return linearize(quadratic, np.zeros((1, 3)))


def test_error_of_a_quadratic_is_half_its_second_derivative_times_the_distance(points):
    validity = linear_validity(quadratic, points, distances=DISTANCES, key=KEY, num_modes=3)
    by_mode = np.array([1, 2, 0])  # modes by falling |slope|: 2, −0.8, 0.5
    expected = 0.5 * np.abs(CURVATURES[by_mode]) * DISTANCES[:, None]
    np.testing.assert_allclose(validity.mode_errors[0], expected, rtol=1e-9)
    np.testing.assert_allclose(validity.mode_relative_errors[0], expected / np.abs(SLOPES[by_mode]), rtol=1e-9)
    radii = 0.1 * 2 * np.abs(SLOPES[by_mode] / CURVATURES[by_mode])
    np.testing.assert_allclose(validity.mode_radii[0], radii, rtol=1e-9)  # errors are straight lines
    ratio = validity.max_errors[0] / DISTANCES
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-9)
    assert 0.5 < ratio[0] <= 1.5
    assert (validity.median_errors <= validity.max_errors).all()
    assert validity.radii[0] <= validity.median_radii[0]
    assert validity.radii[0] >= radii.min() * 0.99


def test_error_in_random_directions_is_that_of_each_direction(points):
    validity = linear_validity(quadratic, points, distances=DISTANCES, key=KEY, num_directions=1, num_modes=0)
    with jax.enable_x64(True):
        v = np.asarray(jax.random.normal(KEY, (1, 3), np.float64))[0]
    v = v / np.linalg.norm(v)
    error = np.linalg.norm(0.5 * CURVATURES * v**2)
    np.testing.assert_allclose(validity.max_errors[0], error * DISTANCES, rtol=1e-9)
    np.testing.assert_allclose(
        validity.median_relative_errors[0], error / np.linalg.norm(SLOPES * v) * DISTANCES, rtol=1e-9
    )


def test_linear_systems_are_trusted_everywhere_and_strongly_curved_ones_nowhere():
    A = np.random.default_rng(0).normal(size=(4, 4))
    flow = linearize(lambda h: A @ h, np.zeros((2, 4)), kind="flow")
    validity = linear_validity(lambda h: A @ h, flow, distances=DISTANCES, key=KEY)
    assert np.isinf(validity.radii).all() and np.isinf(validity.mode_radii).all()
    assert validity.max_errors.max() < 1e-12

    def curved(h):
        return 0.1 * h + 1e4 * h**2

    points = linearize(curved, np.zeros((1, 1)))
    assert linear_validity(curved, points, distances=DISTANCES, key=KEY, num_modes=1).radii[0] == 0


def test_slow_points_are_predicted_from_where_they_go():
    """Away from fixed points the prediction starts at F(h), so that a drift is no error."""

    def drift(h):
        return 0.5 * h + 3.0

    points = linearize(drift, np.zeros((1, 2)))
    assert linear_validity(drift, points, distances=DISTANCES, key=KEY).max_errors.max() < 1e-12


def test_a_network_becomes_nonlinear_where_tanh_saturates():
    W = 0.9 * np.linalg.qr(np.random.default_rng(1).normal(size=(20, 20)))[0]

    def F(h, x):
        return jnp.tanh(W @ h + x)

    points = linearize(F, find_fixed_points(F, np.zeros((1, 20)), np.zeros(20)))
    distances = np.logspace(-2, 1.5, 15)
    validity = linear_validity(F, points, distances=distances, key=KEY)
    assert (np.diff(validity.median_relative_errors[0]) > 0).all()
    assert 0.5 < validity.radii[0] < 5
    assert len(validity[:0]) == 0 and "error stays below 10 %" in repr(validity)


def test_linear_prediction_is_exact_for_affine_maps_and_takes_the_nearest_point():
    rng = np.random.default_rng(2)
    A, B, b = 0.3 * rng.normal(size=(3, 3)), rng.normal(size=(3, 2)), rng.normal(size=3)

    def F(h, x):
        return A @ h + B @ x + b

    points = linearize(F, find_fixed_points(F, rng.normal(size=(5, 3)), np.array([0.5, -1.0])))
    h, x = rng.normal(size=(7, 3)), rng.normal(size=(7, 2))
    predicted, nearest = linear_prediction(points, h, x)
    np.testing.assert_allclose(predicted, h @ A.T + x @ B.T + b, atol=1e-12)
    np.testing.assert_array_equal(nearest, 0)
    np.testing.assert_allclose(linear_prediction(points, h)[0], h @ A.T + B @ [0.5, -1.0] + b, atol=1e-12)

    def pitchfork(h):
        return 1.5 * h - h**3

    points = linearize(pitchfork, np.sqrt(0.5) * np.array([[-1.0], [0.0], [1.0]]))
    h = np.array([[-0.69], [0.02], [0.72]])
    predicted, nearest = linear_prediction(points, h)
    np.testing.assert_allclose(points.states[nearest, 0], [-np.sqrt(0.5), 0, np.sqrt(0.5)], atol=1e-9)
    np.testing.assert_allclose(predicted, 1.5 * h - h**3, atol=1e-3)
    forced, _ = linear_prediction(points, h, nearest=np.full(3, np.abs(points.states[:, 0]).argmin()))
    np.testing.assert_allclose(forced, 1.5 * h, atol=1e-9)
    flow = linearize(lambda h: -h, np.ones((1, 2)) * 0, kind="flow")
    np.testing.assert_allclose(linear_prediction(flow, h[:, [0, 0]])[0], -h[:, [0, 0]])


def test_other_values_of_the_same_shapes_compile_nothing(compilations):
    F = jax.tree_util.Partial(lambda a, h: a * h + h**2, np.float64(0.5))
    points = linearize(F, np.zeros((3, 2)))
    linear_validity(F, points, distances=DISTANCES, key=KEY)
    key = jax.random.key(1)
    with compilations:
        other = jax.tree_util.Partial(F.func, np.float64(0.4))
        linear_validity(other, points, distances=2 * DISTANCES, key=key)
    assert compilations.count == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"distances": [0.1, 0.1]}, "distances must be positive and rising"),
        ({"distances": [-1.0]}, "distances must be positive and rising"),
        ({"num_directions": 0}, "num_directions must be positive, got 0"),
        ({"num_modes": 4}, "num_modes must lie in 0 … 3, got 4"),
        ({"threshold": 0.0}, "threshold must be positive"),
    ],
)
def test_bad_arguments(points, arguments, message):
    with pytest.raises(ValueError, match=message):
        linear_validity(quadratic, points, **{"distances": DISTANCES, "key": KEY} | arguments)


def test_bad_states_for_predictions(points):
    with pytest.raises(ValueError, match=r"expected states \[m, 3\]"):
        linear_prediction(points, np.zeros((2, 2)))
    with pytest.raises(ValueError, match="the points have no inputs"):
        linear_prediction(points, np.zeros((2, 3)), np.zeros(1))
    with pytest.raises(ValueError, match="nearest must hold 2 indices below 1"):
        linear_prediction(points, np.zeros((2, 3)), nearest=[0, 1])
