"""Constructed systems are what they say, and the analysis finds it."""

import jax
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from ctd_models.analysis import classify_manifold, find_fixed_points, find_limit_cycles, linearize, simulate
from ctd_models.analysis.constructed import (
    delay_trajectories,
    discrete_attractors,
    heteroclinic,
    hopf,
    line_attractor,
    mistuned,
    pitchfork,
    ring_attractor,
    rotating_memory,
)

SYSTEMS = {
    "line": line_attractor(6),
    "leaky line": line_attractor(6, leak=0.1),
    "ring": ring_attractor(6, rate=0.7),
    "hopf": hopf(6),
    "decaying hopf": hopf(6, mu=-0.3),
    "pitchfork": pitchfork(6),
    "before the pitchfork": pitchfork(6, mu=-0.5),
    "heteroclinic": heteroclinic(6),
    "bank": discrete_attractors(6, num_groups=4),
    "rotation": rotating_memory(7),
}
NAMES = ("line", "ring", "hopf", "pitchfork", "heteroclinic")


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
    assert (name.split()[-1] in NAMES or system.write) and system.name in repr(system)
    z = np.random.default_rng(0).normal(size=(3, system.eigenvalues.shape[1]))
    np.testing.assert_allclose(system.variables(system.embed(z)), z, atol=1e-12)


def test_a_bank_keeps_graded_values_as_a_staircase():
    system = SYSTEMS["bank"]
    values = np.linspace(-1, 1, 101)
    states, held = delay_trajectories(system, values, 300)
    stairs = np.rint(system.variables(states[:, -1])).sum(axis=1)  # groups that are on
    assert (np.diff(stairs) >= 0).all() and set(stairs) == {0, 1, 2, 3, 4}
    np.testing.assert_array_equal(held[:, 0], values)
    # A group is on where the pulse passed its threshold, beyond the saddle-node of z = σ(8 (z − ½) + x − θ)
    turn = 0.5 - 0.125**0.5
    pulses = system.write(values)[0][:, 0]
    excess = pulses[:, None] - (np.linspace(-0.6, 0.6, 4) + np.log(turn / (1 - turn)) - 8 * (turn - 0.5))
    clear = np.abs(excess).min(axis=1) > 0.08  # near the saddle-node the pulse is too short to pass the bottleneck
    np.testing.assert_array_equal(stairs[clear], (excess > 0).sum(axis=1)[clear])
    assert clear.mean() > 0.5
    finer, _ = delay_trajectories(system, values, 600, dt=0.05)  # the pulse lasts as long, whatever the step
    np.testing.assert_allclose(finer[:, 0], states[:, 0], atol=1e-4)
    at_rest = linearize(system, system.fixed_points, np.zeros(1), kind="flow")
    assert at_rest.is_stable.sum() == 5 and (at_rest.num_unstable == 1).sum() == 4


def test_a_rotating_memory_returns_after_its_period():
    system = rotating_memory(4, periods=(10.0,))
    states, _ = delay_trajectories(system, [0.3, -0.7], 20)
    np.testing.assert_allclose(states[:, 10], states[:, 0], atol=1e-12)
    np.testing.assert_allclose(system.variables(states[:, 5]), -system.variables(states[:, 0]), atol=1e-12)
    assert np.linalg.norm(states[1, 3]) == pytest.approx(0.7)


def test_mistuning_is_noise_in_the_connections():
    system = SYSTEMS["ring"]
    state = system.embed([0.3, -0.2]).astype(np.float32)
    values = [
        np.asarray(mistuned(system, noise, seed)(state)) for noise, seed in ((0.0, 1), (0.1, 1), (0.2, 1), (0.1, 2))
    ]
    np.testing.assert_allclose(values[0], np.asarray(system(state)), atol=1e-6)
    np.testing.assert_allclose(values[2] - values[0], 2 * (values[1] - values[0]), atol=1e-6)
    assert not np.allclose(values[1], values[3])
    line = line_attractor(400)
    unit = np.eye(400, dtype=np.float32)[7]
    column = np.asarray(mistuned(line, 0.3, 0)(unit)) - np.asarray(line(unit))  # of E
    assert column.std() == pytest.approx(0.3 / 20, rel=0.1) and abs(column.mean()) < 0.003


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
        (lambda: line_attractor(leak=1.0), "leak must lie in"),
        (lambda: line_attractor(decay=1.0), "decay must lie in"),
        (lambda: discrete_attractors(gain=4.0), "gain > 4"),
        (lambda: discrete_attractors(spread=1.1), "hysteresis"),
        (lambda: rotating_memory(periods=(2.0,)), "longer than 2"),
        (lambda: mistuned(hopf(), -1.0, 0), "noise cannot"),
        (lambda: delay_trajectories(hopf(), np.zeros(3), 5), "nothing can be written"),
        (lambda: delay_trajectories(line_attractor(), np.full(3, 2.0), 5), "values .n. in"),
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
