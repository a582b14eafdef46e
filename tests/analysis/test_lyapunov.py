"""Lyapunov exponents that are known in closed form, or to many digits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ctd_models.analysis.orbits.lyapunov import lyapunov_spectrum

RNG = np.random.default_rng(0)


def henon(z):
    x, y = z
    return jnp.array([1 - 1.4 * x**2 + y, 0.3 * x])


def lorenz(z):
    x, y, w = z
    return jnp.array([10 * (y - x), x * (28 - w) - y, x * y - 8 / 3 * w])


def test_a_linear_map_grows_by_its_eigenvalues():
    A = np.linalg.qr(RNG.normal(size=(4, 4)))[0]
    A = A @ np.diag([2.0, 0.9, 0.5, 0.01]) @ np.linalg.inv(A + 0.1 * RNG.normal(size=(4, 4)))
    expected = np.sort(np.log(np.abs(np.linalg.eigvals(A))))[::-1]
    spectrum = lyapunov_spectrum(lambda h: A @ h, np.zeros((3, 4)), num_steps=400, transient=400)
    np.testing.assert_allclose(spectrum.exponents, np.tile(expected, (3, 1)), atol=1e-10)
    assert spectrum.standard_errors.max() < 1e-10
    leading = lyapunov_spectrum(lambda h: A @ h, np.zeros((1, 4)), num_steps=400, transient=400, num_exponents=2)
    np.testing.assert_allclose(leading.exponents, [expected[:2]], atol=1e-10)


def test_a_linear_flow_grows_by_the_real_parts_whatever_the_unit_of_time():
    A = np.array([[-0.2, 3.0, 0.0], [-3.0, -0.2, 0.0], [0.0, 1.0, -2.0]])
    for rate in (1.0, 10.0):
        spectrum = lyapunov_spectrum(
            lambda h, rate=rate: rate * A @ h,
            np.ones((1, 3)),
            kind="flow",
            dt=0.01 / rate,
            num_steps=2000,
            transient=500,
        )
        np.testing.assert_allclose(spectrum.exponents / rate, [[-0.2, -0.2, -2.0]], atol=2e-3)
        assert spectrum.exponents.sum() == pytest.approx(-2.4 * rate, abs=1e-6)


def test_a_diagonal_map_does_not_hide_its_largest_exponent_from_the_first_vectors():
    spectrum = lyapunov_spectrum(
        lambda h: h * jnp.array([0.1, 0.2, 3.0]), np.zeros((1, 3)), num_steps=100, transient=100, num_exponents=1
    )
    assert spectrum.exponents[0, 0] == pytest.approx(np.log(3.0), abs=1e-10)


def test_henon():
    spectrum = lyapunov_spectrum(henon, RNG.uniform(-0.1, 0.1, (10, 2)), num_steps=10_000, transient=500)
    assert spectrum.exponents[:, 0].mean() == pytest.approx(0.4192, abs=0.002)  # Sprott 2003, Chaos and Time-Series
    np.testing.assert_allclose(spectrum.exponents.sum(axis=1), np.log(0.3), atol=1e-12)
    assert spectrum.kaplan_yorke_dimension.mean() == pytest.approx(1.2583, abs=0.002)
    # a tenth of the length, ten trajectories: their scatter is what the standard error says
    short = lyapunov_spectrum(henon, RNG.uniform(-0.1, 0.1, (40, 2)), num_steps=2000, transient=500)
    scatter = short.exponents[:, 0].std(ddof=1)
    assert 0.4 < np.median(short.standard_errors[:, 0]) / scatter < 2.5
    np.testing.assert_array_equal(short.running[:, -1], short.exponents)
    assert short.times[-1] == 2000


def test_logistic_map():
    spectrum = lyapunov_spectrum(
        lambda h: 4 * h * (1 - h), RNG.uniform(0.1, 0.9, (20, 1)), num_steps=5000, transient=100
    )
    assert spectrum.exponents.mean() == pytest.approx(np.log(2), abs=2e-3)
    assert spectrum.entropy.mean() == pytest.approx(np.log(2), abs=2e-3)
    assert (spectrum.kaplan_yorke_dimension == 1).all()


def test_lorenz():
    spectrum = lyapunov_spectrum(
        lorenz, RNG.normal(size=(10, 3)) + np.array([0, 0, 25]), kind="flow", dt=0.005, num_steps=40_000, transient=4000
    )
    mean = spectrum.exponents.mean(axis=0)
    np.testing.assert_allclose(mean, [0.9056, 0, -14.5723], atol=0.01)
    np.testing.assert_allclose(spectrum.exponents.sum(axis=1), -(10 + 1 + 8 / 3), atol=1e-5)
    assert spectrum.kaplan_yorke_dimension.mean() == pytest.approx(2.062, abs=0.002)


def test_fewer_orthonormalisations_give_the_same_exponents():
    states = RNG.uniform(-0.1, 0.1, (5, 2))
    often = lyapunov_spectrum(henon, states, num_steps=2000, transient=200)
    seldom = lyapunov_spectrum(henon, states, num_steps=2000, transient=200, qr_every=8)
    np.testing.assert_allclose(often.exponents, seldom.exponents, atol=1e-9)


def test_a_limit_cycle_has_one_zero_exponent():
    def hopf(z):  # radius 1, attracting at rate 2
        r2 = (z**2).sum()
        return z * (1 - r2) + jnp.array([-z[1], z[0]])

    spectrum = lyapunov_spectrum(hopf, np.array([[1.0, 0.0]]), kind="flow", dt=0.02, num_steps=5000, transient=500)
    np.testing.assert_allclose(spectrum.exponents, [[0, -2]], atol=1e-6)


def test_inputs_pytrees_and_what_was_lost():
    def step(state, x):
        a, b = state
        return x * a, 0 * b

    spectrum = lyapunov_spectrum(
        step, (np.zeros((2, 1)), np.zeros((2, 2))), np.array([[0.5], [3.0]]), num_steps=10, transient=1, num_exponents=2
    )
    np.testing.assert_allclose(spectrum.exponents[:, 0], np.log([0.5, 3.0]), atol=1e-10)
    assert (spectrum.exponents[:, 1] == -np.inf).all()
    np.testing.assert_allclose(spectrum.kaplan_yorke_dimension, [0, 1])
    away = lyapunov_spectrum(lambda h: h**2, np.array([[0.5], [2.0]]), num_steps=60)
    assert away.is_finite.tolist() == [True, False]
    assert np.isnan(away.kaplan_yorke_dimension).tolist() == [False, True]
    assert "1 trajectories left the finite numbers" in repr(away)
    assert len(away[away.is_finite]) == 1
    assert away.exponents[0, 0] < -10  # superstable


def test_other_values_and_lengths_compile_nothing(compilations):
    F = jax.tree_util.Partial(lambda a, h: a * jnp.tanh(h), np.float64(1.5))
    lyapunov_spectrum(F, np.ones((3, 2)), num_steps=200)
    with compilations:
        lyapunov_spectrum(jax.tree_util.Partial(F.func, np.float64(2.5)), np.zeros((3, 2)), num_steps=500, transient=7)
    assert compilations.count == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_steps": 0}, "num_steps must be a whole number of at least 1, got 0"),
        ({"num_steps": 2.5}, "num_steps must be a whole number"),
        ({"transient": -1}, "transient must be a whole number of at least 0"),
        ({"qr_every": 3}, "num_steps must be a multiple of qr_every = 3, got 10"),
        ({"num_exponents": 3}, "num_exponents must be between 1 and the dimension 2, got 3"),
        ({"kind": "flow"}, "a flow needs dt > 0"),
        ({"states": np.array([[np.nan, 0]])}, r"states hold nan at index \(0, 0\)"),
    ],
)
def test_bad_arguments(arguments, message, compilations):
    arguments = {"F": henon, "states": np.zeros((1, 2)), "num_steps": 10} | arguments
    with compilations, pytest.raises(ValueError, match=message):
        lyapunov_spectrum(**arguments)
    assert compilations.count == 0
