"""Limit cycles whose radius, period and multipliers are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ctd_models.analysis.orbits.limit_cycles import find_limit_cycles
from ctd_models.analysis.orbits.shooting import integrate
from ctd_models.analysis.systems import precision, prepare

RNG = np.random.default_rng(0)
MU, OMEGA = 0.25, 3.0


def hopf(z, mu=MU, omega=OMEGA):
    """A cycle of radius √μ and period 2π/ω, whose multiplier is exp(−2μT)."""
    return (mu - (z**2).sum()) * z + omega * jnp.array([-z[1], z[0]])


def _hopf_with(mu, omega, sign, z):
    return sign * hopf(z, mu, omega)


def hopf_with(mu=MU, omega=OMEGA, sign=1.0):
    """The normal form with its parameters as arrays, so that the tests share one compiled program."""
    return jax.tree_util.Partial(_hopf_with, np.float64(mu), np.float64(omega), np.float64(sign))


def van_der_pol(z):
    return jnp.array([z[1], (1 - z[0] ** 2) * z[1] - z[0]])


def lorenz(z, r=28.0):
    x, y, w = z
    return jnp.array([10 * (y - x), x * (r - w) - y, x * y - 8 / 3 * w])


def test_the_integrator_is_of_eighth_order():
    system, states, rows = prepare(van_der_pol, np.array([[2.0, 0.0]]), None, kind="flow", dtype=np.float64)
    with precision(np.float64):
        ends = [
            np.asarray(integrate(system, jnp.asarray(states[0]), jnp.asarray(rows[0]), 5.0, n)[0])
            for n in (30, 60, 600)
        ]
    assert np.log2(np.linalg.norm(ends[0] - ends[2]) / np.linalg.norm(ends[1] - ends[2])) > 6.8


def test_hopf_normal_form():
    cycles = find_limit_cycles(hopf_with(), RNG.normal(size=(8, 2)), dt=0.02, max_period=5.0)
    assert len(cycles) == 1
    assert cycles.hits[0] == 8
    T = 2 * np.pi / OMEGA
    assert cycles.periods[0] == pytest.approx(T, abs=1e-10)
    np.testing.assert_allclose(np.linalg.norm(cycles.orbits, axis=2), np.sqrt(MU), atol=1e-10)
    angles = np.unwrap(np.arctan2(cycles.orbits[0, :, 1], cycles.orbits[0, :, 0]))
    np.testing.assert_allclose(np.diff(angles), 2 * np.pi / 200, atol=1e-10)
    np.testing.assert_allclose(cycles.multipliers, [[np.exp(-2 * MU * T)]], atol=1e-9)
    np.testing.assert_allclose(cycles.exponents, [[-2 * MU]], atol=1e-9)
    np.testing.assert_allclose(cycles.trivial_multipliers, 1, atol=1e-9)
    assert cycles.is_stable.all()
    assert "1 stable, 0 unstable" in repr(cycles)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_relaxation_oscillation_is_one_cycle(seed):
    def f(z):
        return jnp.array([z[1], 2 * (1 - z[0] ** 2) * z[1] - z[0]])

    cycles = find_limit_cycles(f, np.random.default_rng(seed).normal(size=(8, 2)), dt=0.02, max_period=15.0)
    assert len(cycles) == 1
    assert cycles.hits.tolist() == [8]


def test_van_der_pol():
    cycles = find_limit_cycles(van_der_pol, RNG.normal(size=(8, 2)), dt=0.02, max_period=10.0)
    assert len(cycles) == 1
    # period and exponent as published to many digits (Andersen & Geer 1982, doi:10.1137/0142047)
    assert cycles.periods[0] == pytest.approx(6.6632868593231301896996820305, abs=1e-9)
    divergence = np.mean(1 - cycles.orbits[0, :, 0] ** 2)  # Liouville: the product of the multipliers
    assert cycles.exponents[0, 0].real == pytest.approx(divergence, abs=1e-9)
    assert cycles.errors[0] < 1e-8


def test_an_unstable_cycle_is_found_from_a_guess_and_from_its_neighbourhood():
    backwards = hopf_with(sign=-1.0)
    near = 0.52 * np.array([[np.cos(a), np.sin(a)] for a in np.arange(8.0)])
    T = 2 * np.pi / OMEGA
    for settings in ({"periods": 2.0}, {"transient": 0}):
        cycles = find_limit_cycles(backwards, near, dt=0.02, max_period=5.0, **settings)
        assert len(cycles) == 1
        assert cycles.periods[0] == pytest.approx(T, abs=1e-9)
        np.testing.assert_allclose(cycles.multipliers, [[np.exp(2 * MU * T)]], rtol=1e-8)
        assert cycles.num_unstable.tolist() == [1]
    outside = find_limit_cycles(backwards, 0.2 * near, dt=0.02, max_period=5.0)
    assert len(outside) == 0
    assert len(outside.dropped["fixed_point"]) == 8


def test_a_guess_of_three_periods_gives_the_minimal_one():
    T = 2 * np.pi / OMEGA
    cycles = find_limit_cycles(hopf_with(), np.full((8, 2), 0.35), dt=0.02, max_period=10.0, periods=3.02 * T)
    assert cycles.periods[0] == pytest.approx(T, abs=1e-10)
    np.testing.assert_allclose(cycles.multipliers, [[np.exp(-2 * MU * T)]], atol=1e-9)


def test_one_cycle_for_each_input_and_states_that_are_pytrees():
    def driven(state, x):
        return {"z": hopf(state["z"], x[0], x[1]), "rest": -2 * state["rest"]}

    candidates = {"z": RNG.normal(size=(6, 2)), "rest": RNG.normal(size=(6, 1))}
    inputs = np.repeat([[0.25, 3.0], [1.0, 2.0]], 3, axis=0)
    cycles = find_limit_cycles(driven, candidates, inputs, dt=0.02, max_period=5.0)
    assert len(cycles) == 2
    np.testing.assert_allclose(cycles.periods, 2 * np.pi / cycles.inputs[:, 1], atol=1e-9)
    orbits = cycles.unravel(cycles.orbits)
    radii = np.linalg.norm(orbits["z"], axis=2)
    np.testing.assert_allclose(radii, np.sqrt(cycles.inputs[:, :1]) * np.ones(200), atol=1e-9)
    expected = np.exp(np.stack([-2 * cycles.inputs[:, 0], np.full(2, -2.0)], axis=1) * cycles.periods[:, None])
    np.testing.assert_allclose(np.sort(np.abs(cycles.multipliers)), np.sort(expected), atol=1e-9)
    assert len(cycles[cycles.periods > 3]) == 1


def test_what_is_no_cycle_is_dropped_with_its_reason():
    def plane(z):  # a sink at 0; states with z₀ > 1 run away
        return jnp.array([-z[0] * (1 - z[0]), -z[1]])

    cycles = find_limit_cycles(plane, np.array([[0.5, 0.3], [3.0, 0.0]]), dt=0.05, max_period=30.0)
    assert len(cycles) == 0
    assert cycles.dropped["fixed_point"].tolist() == [0]
    assert cycles.dropped["not_finite"].tolist() == [1]
    away = find_limit_cycles(lambda z: jnp.ones(2) + 0 * z, np.zeros((1, 2)), dt=0.1, max_period=3.0)
    assert away.dropped["no_return"].tolist() == [0]
    assert cycles.orbits.shape == (0, 200, 2)
    assert cycles.multipliers.shape == (0, 1)


def test_steps_are_doubled_for_an_orbit_that_needs_it():
    cycles = find_limit_cycles(
        van_der_pol, np.array([[2.0, 0.0]]), dt=0.02, max_period=8.0, num_segments=4, steps_per_segment=4
    )
    assert cycles.errors[0] < 1e-8
    assert cycles.periods[0] == pytest.approx(6.6632868593231301896996820305, abs=1e-7)


def test_unstable_cycles_of_lorenz_from_close_returns():
    """At r = 24 two unstable cycles, mirror images, surround the stable fixed points."""
    fixed = np.array([np.sqrt(8 / 3 * 23), np.sqrt(8 / 3 * 23), 23])
    mirror = np.array([-1, -1, 1])
    starts = np.concatenate([fixed + a * np.array([1.0, 1.0, 0]) for a in np.linspace(0.2, 3, 8)]).reshape(-1, 3)
    cycles = find_limit_cycles(
        lambda z: lorenz(z, 24.0), np.concatenate([starts, starts * mirror]), dt=0.01, max_period=1.5, transient=0
    )
    short = cycles[cycles.periods < 0.8]
    assert len(short) == 2
    assert short.num_unstable.tolist() == [1, 1]
    np.testing.assert_allclose(short.periods[0], short.periods[1], atol=1e-9)
    np.testing.assert_allclose(np.log(np.abs(short.multipliers)).sum(axis=1), -(41 / 3) * short.periods, atol=1e-4)


@pytest.mark.slow
def test_an_unstable_orbit_of_the_lorenz_attractor():
    from ctd_models.analysis.orbits.simulation import simulate

    attractor = simulate(lorenz, np.array([[1.0, 1.0, 20.0]]), num_steps=12_000, kind="flow", dt=0.01)[0, 2000::20]
    cycles = find_limit_cycles(lorenz, attractor, dt=0.005, max_period=2.5, transient=0)
    # symbols AB, and AAB with its mirror image: Viswanath 2003, doi:10.1088/0951-7715/16/3/314
    assert np.abs(cycles.periods - 1.5586522107161747).min() < 1e-9
    assert (np.abs(cycles.periods - 2.3059072639398290) < 1e-8).sum() == 2
    assert (cycles.num_unstable == 1).all()
    np.testing.assert_allclose(cycles.trivial_multipliers, 1, atol=1e-6)


def test_float32_is_an_option():
    cycles = find_limit_cycles(hopf, RNG.normal(size=(8, 2)), dt=0.02, max_period=5.0, dtype=np.float32)
    assert len(cycles) == 1
    assert cycles.orbits.dtype == np.float32
    assert cycles.periods[0] == pytest.approx(2 * np.pi / OMEGA, rel=1e-4)
    assert cycles.multipliers[0, 0] == pytest.approx(np.exp(-2 * MU * 2 * np.pi / OMEGA), abs=1e-3)


def test_other_values_of_the_same_shapes_compile_nothing(compilations):
    starts = RNG.normal(size=(8, 2))
    find_limit_cycles(hopf_with(), starts, dt=0.02, max_period=5.0)
    with compilations:
        cycles = find_limit_cycles(hopf_with(mu=1.0), starts, dt=0.03, max_period=4.0)
    assert compilations.count == 0
    np.testing.assert_allclose(np.linalg.norm(cycles.states, axis=1), 1.0, atol=1e-9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dt": 0.0}, "expected 0 < dt < max_period, got dt = 0.0"),
        ({"dt": 6.0}, "expected 0 < dt < max_period"),
        ({"periods": 7.0}, r"expected periods in \(0, max_period = 5.0\], got 7.0 at index 0"),
        ({"periods": np.ones(4)}, r"one per candidate \[3\], got shape \(4,\)"),
        ({"transient": -1}, "transient must be a whole number of steps"),
        ({"num_segments": 0}, "num_segments must be a whole number of at least 1, got 0"),
        ({"tolerance": 0.0}, "tolerance must be positive"),
        ({"candidates": np.ones((3, 1)), "f": lambda z: -z}, "in one dimension has no limit cycles"),
        ({"candidates": np.full((3, 2), np.inf)}, r"candidates hold inf at index \(0, 0\)"),
    ],
)
def test_bad_arguments(arguments, message, compilations):
    arguments = {"f": hopf, "candidates": np.zeros((3, 2)), "dt": 0.1, "max_period": 5.0} | arguments
    with compilations, pytest.raises(ValueError, match=message):
        find_limit_cycles(**arguments)
    assert compilations.count == 0
