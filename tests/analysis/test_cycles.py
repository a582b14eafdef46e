"""The search for cycles against maps whose cycles are known."""

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ctd_models.analysis.orbits.cycles import find_cycles, merge_orbits, minimal_periods, starting_phases
from ctd_models.analysis.orbits.orbit_set import Cycles
from ctd_models.analysis.orbits.simulation import settle, simulate

UNIT = np.linspace(0.02, 0.98, 40)[:, None]


def logistic_step(r, h):
    return r * h * (1 - h)


def logistic(r):
    return jax.tree_util.Partial(logistic_step, np.float64(r))


def henon(z):
    return jnp.stack([1 - 1.4 * z[0] ** 2 + z[1], 0.3 * z[0]])


def flip_flop(h):
    """Three bits, each a two-cycle ±h* with h* = tanh(2 h*)."""
    return jnp.tanh(-2.0 * h)


@pytest.fixture(scope="module")
def henon_cycles():
    starts = np.random.default_rng(0).uniform([-1.5, -0.45], [1.5, 0.45], (300, 2))
    return find_cycles(henon, starts, max_period=7)


@pytest.mark.parametrize("r", [3.2, 3.6])
def test_two_cycle_of_the_logistic_map(r):
    cycles = find_cycles(logistic(r), UNIT, max_period=2)
    assert cycles.periods.tolist() == [2]
    expected = (r + 1 + np.array([-1, 1]) * np.sqrt((r - 3) * (r + 1))) / (2 * r)
    np.testing.assert_allclose(cycles.orbits[0][:, 0], expected, atol=1e-14)
    np.testing.assert_allclose(cycles.multipliers, [[4 + 2 * r - r**2]], atol=1e-12)
    assert cycles.is_stable.tolist() == [r == 3.2]
    assert cycles.residuals[0] < 1e-30
    assert cycles.dropped["fixed_point"] > 0


def test_no_cycle_below_the_period_doubling():
    cycles = find_cycles(logistic(2.9), UNIT)
    assert len(cycles) == 0
    assert cycles.multipliers.shape == (0, 1)
    assert "Cycles: 0 of a map in 1 dimensions from 40 candidates" in repr(cycles)
    assert sum(cycles.dropped.values()) == cycles.num_searches == 2 * 40 * 3
    assert len(cycles[[]]) == 0


def test_period_three_window_has_a_stable_and_an_unstable_three_cycle():
    """Both are born where r = 1 + √8; points found as the roots of F³(h) = h."""
    r = 3.83
    cycles = find_cycles(logistic(r), UNIT, max_period=3)
    three = cycles[cycles.periods == 3]
    assert sorted(three.num_unstable.tolist()) == [0, 1]
    f = np.polynomial.Polynomial([0, r, -r])
    roots = (f(f(f)) - np.polynomial.Polynomial([0, 1])).roots()
    roots = np.sort(roots[np.abs(roots.imag) < 1e-9].real)
    roots = roots[(np.abs(roots) > 1e-6) & (np.abs(roots - (1 - 1 / r)) > 1e-6)]
    np.testing.assert_allclose(np.sort(np.concatenate(three.orbits)[:, 0]), roots, atol=1e-8)
    slopes = [np.prod(r * (1 - 2 * orbit)) for orbit in three.orbits]
    np.testing.assert_allclose(three.multipliers[:, 0].real, slopes, rtol=1e-10)


def test_every_short_cycle_of_henon(henon_cycles):
    """Numbers of cycles from Biham & Wenzel 1989, doi:10.1103/PhysRevLett.63.819; the Jacobian's determinant is −b."""
    cycles = henon_cycles
    assert np.bincount(cycles.periods, minlength=8).tolist() == [0, 0, 1, 0, 1, 0, 2, 4]
    assert (cycles.num_unstable == 1).all()
    np.testing.assert_allclose(cycles.multipliers.prod(axis=1), (-0.3) ** cycles.periods, rtol=1e-9)
    for orbit, product in zip(cycles.orbits, cycles.monodromies, strict=True):
        np.testing.assert_allclose(np.stack([henon(h) for h in orbit]), np.roll(orbit, -1, axis=0), atol=1e-6)
        step = 1e-6 * np.array([[1, 0], [-1, 0], [0, 1], [0, -1]])
        moved = settle(henon, orbit[0] + step, num_steps=len(orbit))
        np.testing.assert_allclose(product, ((moved[::2] - moved[1::2]) / 2e-6).T, rtol=1e-5, atol=1e-5)
    assert cycles.residuals.max() < 1e-28


def test_every_search_is_accounted_for(henon_cycles):
    assert henon_cycles.num_candidates == 300
    assert henon_cycles.num_searches == 2 * 300 * 6
    assert henon_cycles.hits.sum() + sum(henon_cycles.dropped.values()) == henon_cycles.num_searches
    assert (henon_cycles.candidate_indices < 300).all()


def test_memories_that_are_two_cycles():
    """A flip-flop network without a stable fixed point: its memories are the eight states ±h*, in four cycles."""
    starts = np.random.default_rng(0).normal(size=(300, 3))
    cycles = find_cycles(flip_flop, starts)
    stable = cycles[cycles.is_stable]
    assert stable.periods.tolist() == [2, 2, 2, 2]
    level = 0.9575040240772687  # h = tanh(2 h)
    np.testing.assert_allclose(np.abs(np.concatenate(stable.orbits)), level, atol=1e-12)
    assert len(np.unique(np.sign(np.concatenate(stable.orbits)), axis=0)) == 8
    np.testing.assert_allclose(stable.multipliers, (2 * (1 - level**2)) ** 2, atol=1e-10)
    # of the points with entries in {0, ±h*}, 26 are not the fixed point 0: 13 two-cycles
    assert len(cycles) == np.sum(cycles.periods == 2) == 13
    assert sorted(cycles.num_unstable.tolist()) == [0] * 4 + [1] * 6 + [2] * 3


@pytest.mark.slow
def test_cycles_of_a_network_are_cycles():
    rng = np.random.default_rng(3)
    W = rng.normal(size=(12, 12))
    W = -2.0 * (W @ W.T) / 12

    def F(h):
        return jnp.tanh(W @ h)

    cycles = find_cycles(F, rng.normal(size=(50, 12)), max_period=3)
    assert cycles.is_stable.any()
    for orbit in cycles.orbits:
        path = simulate(F, orbit, num_steps=len(orbit))
        np.testing.assert_allclose(path[:, 1], np.roll(orbit, -1, axis=0), atol=1e-12)
        assert orbit[0, 0] <= orbit[:, 0].min() + 1e-3
    points = np.concatenate(cycles.orbits)
    apart = np.linalg.norm(points[:, None] - points[None], axis=2) + np.eye(len(points))
    assert apart.min() > 1e-3  # neither a cycle nor a shift of it came twice


def test_inputs_and_pytrees():
    def step(state, x):
        return {"a": -jnp.tanh(3 * state["a"]) + 0 * x, "b": 0.5 * state["b"] + x}

    rng = np.random.default_rng(0)
    starts = {"a": rng.normal(size=(30, 1)), "b": rng.normal(size=(30, 1))}
    inputs = np.repeat([[0.5], [1.0]], 15, axis=0)
    cycles = find_cycles(step, starts, inputs, max_period=2)
    assert sorted(cycles.inputs[:, 0].tolist()) == [0.5, 1.0]
    for orbit, x in zip(cycles.orbits, cycles.inputs, strict=True):
        state = cycles.unravel(orbit)
        np.testing.assert_allclose(state["b"], 2 * x[0], atol=1e-12)
        np.testing.assert_allclose(state["a"][0], -state["a"][1], atol=1e-12)


def test_bounds_hold_for_all_points_of_a_cycle():
    """At r = 3.83 the two-cycle stays below 0.9, and both three-cycles go beyond."""
    cycles = find_cycles(logistic(3.83), UNIT, max_period=3, bounds=(0, 0.9))
    assert cycles.periods.tolist() == [2]
    assert cycles.dropped["outside"] > 0
    assert cycles.hits.sum() + sum(cycles.dropped.values()) == cycles.num_searches


def test_saved_is_loaded(henon_cycles, tmp_path):
    path = tmp_path / "folder" / "cycles.h5"
    henon_cycles.save(path)
    loaded = Cycles.load(path)
    for name in ("periods", "residuals", "multipliers", "monodromies", "num_unstable", "hits", "candidate_indices"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(henon_cycles, name))
        assert getattr(loaded, name).dtype == getattr(henon_cycles, name).dtype
    for a, b in zip(loaded.orbits, henon_cycles.orbits, strict=True):
        np.testing.assert_array_equal(a, b)
    assert loaded.dropped == henon_cycles.dropped
    assert (loaded.tolerance, loaded.num_searches, loaded.inputs) == (1e-20, 3600, None)
    assert loaded.structure == henon_cycles.structure
    assert repr(loaded) == repr(henon_cycles)
    none = henon_cycles[[]]
    none.save(path)
    assert len(Cycles.load(path)) == 0
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(ValueError, match="is not a file of cycles"):
        Cycles.load(tmp_path / "other.h5")


def test_choosing(henon_cycles):
    seven = henon_cycles[henon_cycles.periods == 7]
    assert [orbit.shape for orbit in seven.orbits] == [(7, 2)] * 4
    assert len(henon_cycles[0]) == 1
    np.testing.assert_array_equal(henon_cycles[-1].orbits[0], henon_cycles.orbits[-1])
    with pytest.raises(IndexError):
        henon_cycles[8]
    assert "  period 7: 4 with 1 unstable mode" in repr(henon_cycles).splitlines()


def test_other_values_of_the_same_shapes_compile_nothing(compilations):
    find_cycles(logistic(3.2), UNIT)
    with compilations:
        cycles = find_cycles(logistic(3.3), UNIT + 0.001)
    assert compilations.count == 0
    np.testing.assert_allclose(cycles.multipliers[0, 0], 4 + 2 * 3.3 - 3.3**2, atol=1e-12)


def test_shifts_are_one_orbit_and_neighbours_are_two():
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(2, 5, 3))
    orbits = np.stack([np.roll(one, s, axis=0) for s in range(5)] + [other, one + np.array([0, 0, 0.01])])
    orbits = orbits + 1e-9 * rng.normal(size=orbits.shape)
    owner = merge_orbits(orbits, np.zeros((7, 0)), np.arange(7.0), 1e-3)
    assert owner.tolist() == [0] * 5 + [5, 6]
    apart = merge_orbits(orbits[:2], np.array([[0.0], [1.0]]), np.arange(2.0), 1e-3)
    assert apart.tolist() == [0, 1]
    assert starting_phases(orbits, 1e-3)[0] == one[:, 0].argmin()


def test_orbits_whose_first_entries_tie_are_one():
    orbit = np.array([[0.0, 1.0], [0.0, -1.0]])
    noisy = np.stack([orbit, orbit[::-1]]) + 1e-9 * np.random.default_rng(0).normal(size=(2, 2, 2))
    assert merge_orbits(noisy, np.zeros((2, 0)), np.arange(2.0), 1e-3).tolist() == [0, 0]


def test_minimal_periods():
    a, b, c = np.eye(3)
    orbits = np.stack([np.stack(rows) for rows in ([a, a, a, a], [a, b, a, b], [a, b, c, b])])
    assert minimal_periods(orbits, 1e-3).tolist() == [1, 2, 4]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_period": 1}, "max_period must be a whole number of at least 2, got 1"),
        ({"max_period": 2.5}, "max_period must be a whole number"),
        ({"settle_steps": -1}, "settle_steps must be a whole number of at least 0"),
        ({"tolerance": 0.0}, "tolerance must be positive"),
        ({"unique_distance": 0.0}, "unique_distance must be positive"),
        ({"max_iterations": 0}, "max_iterations must be a whole number of at least 1"),
        ({"bounds": (1, -1)}, "bounds must be"),
        ({"candidates": np.zeros(3)}, r"expected candidates \[n, d\], got shape \(3,\)"),
        ({"candidates": np.array([[0.0, np.nan]])}, r"candidates hold nan at index \(0, 1\)"),
    ],
)
def test_bad_arguments(arguments, message, compilations):
    arguments = {"candidates": np.zeros((4, 2))} | arguments
    with compilations, pytest.raises(ValueError, match=message):
        find_cycles(henon, **arguments)
    assert compilations.count == 0
