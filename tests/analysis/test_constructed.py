"""Constructed systems are what they say, and the analysis finds it."""

import jax
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from ctd_models.analysis import classify_manifold, find_fixed_points, find_limit_cycles, linearize, simulate
from ctd_models.analysis.constructed import heteroclinic, hopf, line_attractor, pitchfork, ring_attractor

SYSTEMS = {
    "line": line_attractor(6),
    "leaky line": line_attractor(6, leak=0.1),
    "ring": ring_attractor(6, rate=0.7),
    "hopf": hopf(6),
    "decaying hopf": hopf(6, mu=-0.3),
    "pitchfork": pitchfork(6),
    "before the pitchfork": pitchfork(6, mu=-0.5),
    "heteroclinic": heteroclinic(6),
}


@pytest.mark.parametrize("name", SYSTEMS)
def test_points_stand_still_with_the_eigenvalues_that_are_said(name):
    system = SYSTEMS[name]
    inputs = np.zeros(system.num_inputs) if system.num_inputs else None
    points = linearize(system, system.fixed_points, inputs, kind=system.kind)
    assert points.speeds.max() < 1e-25
    missing = np.full((len(points), system.num_units - system.eigenvalues.shape[1]), system.decay)
    expected = np.concatenate([system.eigenvalues, missing], axis=1)
    for found, known in zip(points.eigenvalues, expected, strict=True):
        distance = np.abs(found[:, None] - known[None])
        rows, columns = linear_sum_assignment(distance)
        assert distance[rows, columns].max() < 1e-6
    assert name.split()[-1] in ("line", "ring", "hopf", "pitchfork", "heteroclinic") and system.name in repr(system)
    z = np.random.default_rng(0).normal(size=(3, system.eigenvalues.shape[1]))
    np.testing.assert_allclose(system.variables(system.embed(z)), z, atol=1e-12)


@pytest.mark.parametrize("name", ["pitchfork", "before the pitchfork", "heteroclinic"])
def test_all_fixed_points_are_found(name):
    system = SYSTEMS[name]
    low, high = (0.0, 1.2) if name == "heteroclinic" else (-1.5, 1.5)
    size = (400, system.eigenvalues.shape[1])
    candidates = system.embed(np.random.default_rng(1).uniform(low, high, size))
    points = find_fixed_points(system, candidates, kind="flow")
    inside = (system.variables(points.states) > -1e-6).all(axis=1) if name == "heteroclinic" else slice(None)
    found = points.states[inside]
    distance = np.linalg.norm(found[:, None] - system.fixed_points[None], axis=2)
    assert distance.min(axis=0).max() < 1e-8  # each known point is found
    if name != "heteroclinic":
        assert len(found) == len(system.fixed_points)


def test_the_line_and_the_ring_are_classified_as_such():
    line = SYSTEMS["line"]
    candidates = line.embed(np.random.default_rng(2).uniform(-1, 1, (100, 1)))
    points = linearize(line, find_fixed_points(line, candidates, np.zeros(1), tolerance=1e-12))
    assert classify_manifold(points).verdict == "line"
    ring = SYSTEMS["ring"]
    angles = np.random.default_rng(3).uniform(0, 2 * np.pi, 120)
    states = ring.embed(np.column_stack([np.cos(angles), np.sin(angles)]))
    assert classify_manifold(linearize(ring, states, kind="flow")).verdict == "ring"


def test_the_limit_cycle_of_the_hopf_oscillator():
    system = hopf(4, mu=0.36, omega=3.0)
    start = system.embed(np.array([[0.7, 0.1]]))
    cycles = find_limit_cycles(system, start, dt=0.02, max_period=5.0)
    assert len(cycles) == 1
    assert cycles.periods[0] == pytest.approx(2 * np.pi / 3.0, rel=1e-4)


def test_populations_take_turns():
    system = heteroclinic(3)
    way = system.variables(simulate(system, system.embed([[0.6, 0.3, 0.1]]), num_steps=6_000, kind="flow", dt=0.05))[0]
    winners = way[::20].argmax(axis=1)
    changes = winners[1:][np.diff(winners) != 0]
    assert len(changes) >= 4
    assert len(set(np.diff(changes) % 3)) == 1  # always in the same order


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: ring_attractor(1), "num_units must be at least 2"),
        (lambda: ring_attractor(rate=0.0), "rate must be positive"),
        (lambda: line_attractor(leak=1.0), "leak and decay"),
        (lambda: pitchfork(mu=0.0), "not 0"),
        (lambda: hopf(omega=0.0), "omega"),
        (lambda: heteroclinic(alpha=1.2), "alpha < 1 < beta"),
    ],
)
def test_bad_parameters_are_refused(act, message):
    with pytest.raises(ValueError, match=message):
        act()


def test_systems_are_functions_that_jax_can_transform():
    system = SYSTEMS["hopf"]
    states = np.random.default_rng(4).normal(size=(3, 6)).astype(np.float32)
    assert jax.vmap(jax.jacfwd(system))(states).shape == (3, 6, 6)
