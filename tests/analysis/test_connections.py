"""Ways out of saddles, basins and the graph of memories, of systems where they are known."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ctd_models.analysis.fixed_points.linearization import linearize
from ctd_models.analysis.fixed_points.search import find_fixed_points
from ctd_models.analysis.geometry.basins import basins
from ctd_models.analysis.geometry.connections import saddle_connections

CORNER = np.sqrt(0.5)


def pitchfork(h):
    """Fixed points −√½, 0, √½ in each coordinate: in d dimensions a memory of d bits on the corners of a cube."""
    return 1.5 * h - h**3


def grid_points(dims, F=pitchfork, corner=CORNER):
    return linearize(F, np.array(list(itertools.product([-corner, 0.0, corner], repeat=dims))))


def signs(points, index):
    return np.round(points.states[index] / CORNER).astype(int)


@pytest.mark.parametrize("dims", [2, 3])
def test_the_graph_of_a_memory_of_bits_is_a_cube(dims):
    points = grid_points(dims)
    connections = saddle_connections(pitchfork, points)
    assert set(connections.outcomes) == {"arrived"}
    # along each unstable mode one coordinate that is zero becomes ±1, and all others stay
    moved = signs(points, connections.targets) - signs(points, connections.sources)
    np.testing.assert_array_equal(moved, np.round(connections.directions).astype(int))
    graph = connections.transition_graph()
    assert len(graph.attractors) == 2**dims
    assert len(graph) == dims * 2 ** (dims - 1)
    assert len(graph.incomplete) == 0
    corner = signs(points, graph.attractors)
    apart = (corner[:, None] != corner[None]).sum(axis=-1)
    np.testing.assert_array_equal(graph.adjacency(), apart == 1)
    for memory in graph.attractors:
        assert len(graph.neighbors(memory)) == dims
    np.testing.assert_array_equal(connections.as_graph().sum(axis=1), 2 * points.num_unstable)
    assert f"{2**dims} memories joined by {dims * 2 ** (dims - 1)} saddles" in repr(graph)
    with pytest.raises(ValueError, match="is not one of the memories"):
        graph.neighbors(int(graph.saddles[0]))


def test_the_graph_does_not_depend_on_the_coordinates():
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(7, 7)))[0]

    def rotated(h):
        z = rotation.T @ h
        return rotation @ jnp.concatenate([pitchfork(z[:3]), 0.5 * z[3:]])

    levels = np.array(list(itertools.product([-CORNER, 0.0, CORNER], repeat=3)))
    starts = np.pad(levels, [(0, 0), (0, 4)]) @ rotation.T
    points = linearize(rotated, starts)
    graph = saddle_connections(rotated, points).transition_graph()
    ends = np.round((points.states @ rotation)[graph.memories][..., :3] / CORNER)
    assert len(graph) == 12
    assert ((ends[:, 0] != ends[:, 1]).sum(axis=1) == 1).all()


def test_times_and_trajectories_are_those_of_the_map():
    points = grid_points(1)
    connections = saddle_connections(pitchfork, points, epsilon=1e-3, arrival=1e-6, num_samples=7)
    h, steps = 1e-3, 0
    while abs(h - CORNER) > 1e-6:
        h, steps = 1.5 * h - h**3, steps + 1
    np.testing.assert_array_equal(connections.times, [steps, steps])
    assert connections.trajectories.shape == (2, 7, 1)
    path = [1e-3]
    for _ in range(steps):
        path.append(1.5 * path[-1] - path[-1] ** 3)
    for sign, row, times in zip((1, -1), connections.trajectories, connections.sample_times, strict=True):
        np.testing.assert_allclose(row[:, 0], sign * np.array(path)[times.astype(int)], rtol=1e-12)
        assert times[-1] == steps


def test_random_combinations_reach_the_corner_of_their_quadrant():
    points = grid_points(2)
    repeller = points[points.num_unstable == 2]
    with pytest.raises(ValueError, match="num_combinations needs key="):
        saddle_connections(pitchfork, points, num_combinations=3)
    connections = saddle_connections(pitchfork, points, num_combinations=20, key=jax.random.key(0))
    random = connections[connections.modes == -1]
    assert len(random) == 20 and len(repeller) == 1
    np.testing.assert_array_equal(signs(points, random.targets), np.sign(random.directions))


def test_a_flow_spirals_out_to_its_limit_cycle():
    """Hopf normal form with ω = 2: the origin is an unstable focus inside a cycle of period π."""

    def hopf(z):
        x, y = z
        r = x**2 + y**2
        return jnp.array([x * (1 - r) - 2 * y, y * (1 - r) + 2 * x])

    points = linearize(hopf, np.zeros((1, 2)), kind="flow")
    connections = saddle_connections(hopf, points, dt=0.01, num_steps=2000, num_phases=6)
    np.testing.assert_allclose(connections.angles, 2 * np.pi * np.arange(6) / 6)
    assert set(connections.outcomes) == {"cycle"}
    assert (connections.targets == -1).all()
    np.testing.assert_allclose(connections.periods, np.pi, atol=0.011)
    np.testing.assert_allclose(np.linalg.norm(connections.trajectories[:, -1], axis=1), 1, atol=1e-6)
    shape = np.linalg.norm(connections.trajectories, axis=-1)
    exact = 1 / np.sqrt(1 + (1 / 1e-6 - 1) * np.exp(-2 * connections.sample_times))
    np.testing.assert_allclose(shape, exact, rtol=1e-5)


def test_every_outcome_has_its_name():
    """One unstable point at 0 whose two sides differ: a fixed point, a two-cycle, infinity, a point left out."""

    def step(h):
        return jnp.where(h > 0, 1.5 * h - 0.5 * h**2, h * 1.5)

    points = linearize(step, np.array([[0.0], [1.0]]))
    connections = saddle_connections(step, points)
    assert connections.outcomes.tolist() == ["arrived", "diverged"]
    assert connections.targets.tolist() == [1, -1]
    graph = connections.transition_graph()
    assert len(graph) == 0 and graph.incomplete.tolist() == [0]
    assert saddle_connections(step, points[:1]).outcomes.tolist() == ["other point", "diverged"]
    short = saddle_connections(step, points, num_steps=3)
    assert short.outcomes.tolist() == ["unsettled", "unsettled"]

    def flip(h):  # −1.2 at 0: all ways lead to the two-cycle ±√0.2
        return -1.2 * h + h**3

    points = linearize(flip, np.array([[0.0]]))
    connections = saddle_connections(flip, points)
    assert connections.outcomes.tolist() == ["cycle", "cycle"]
    assert connections.periods.tolist() == [2, 2]
    np.testing.assert_allclose(np.abs(connections.trajectories[:, -1]), np.sqrt(0.2), atol=1e-9)
    assert "2 cycle" in repr(connections)


def test_slow_arrivals_are_near():
    def step(h):
        return h + 0.01 * (h - h**3)

    points = linearize(step, np.array([[-1.0], [0.0], [1.0]]))
    connections = saddle_connections(step, points, num_steps=900)
    assert connections.outcomes.tolist() == ["near", "near"]
    np.testing.assert_array_equal(np.sign(points.states[connections.targets]), np.sign(connections.directions))


def test_points_of_other_inputs_are_no_targets():
    def driven(h, x):
        return pitchfork(h) + x * (h**2 - 0.5) * 0

    starts = np.array([[-CORNER], [0.0], [CORNER]] * 2)
    inputs = np.repeat([[0.0], [1.0]], 3, axis=0)
    points = linearize(driven, starts, inputs)
    connections = saddle_connections(driven, points)
    assert len(connections) == 4
    np.testing.assert_array_equal(points.inputs[connections.targets], points.inputs[connections.sources])
    with pytest.raises(ValueError, match="the points have different inputs"):
        basins(driven, starts, points)
    reached = basins(driven, np.full((4, 1), 0.3), points, np.array([1.0]))
    assert (points.inputs[reached.targets] == 1).all()


def test_basins_of_the_pitchfork_are_its_quadrants():
    points = grid_points(2)
    states = np.random.default_rng(1).uniform(-1.2, 1.2, size=(500, 2))
    found = basins(pitchfork, states, points)
    assert set(found.outcomes) == {"arrived"}
    np.testing.assert_array_equal(signs(points, found.targets), np.sign(states))
    np.testing.assert_allclose(found.fractions.sum(), 1)
    share = (np.sign(states) == 1).all(axis=1).mean()
    corner = np.flatnonzero((signs(points, slice(None)) == 1).all(axis=1))[0]
    assert found.fractions[corner] == share
    assert found.standard_errors[corner] == pytest.approx(np.sqrt(share * (1 - share) / 500))
    assert len(found[found.targets == corner]) == round(500 * share)
    assert "500 arrived" in repr(found)
    lost = basins(pitchfork, np.array([[5.0, 0.1], [0.0, 0.0]]), points, num_steps=50)
    assert lost.outcomes.tolist() == ["diverged", "other point"]  # an unstable point is none of the attractors
    assert lost.targets.tolist() == [-1, -1]


def test_basins_of_a_flow_with_pytree_states():
    def double_well(state):
        x, v = state
        return v, x - x**3 - 0.5 * v

    states = (np.array([[-1.0], [0.0], [1.0]]), np.zeros((3, 1)))
    points = linearize(double_well, states, kind="flow")
    assert points.num_unstable.tolist() == [0, 1, 0]
    found = basins(double_well, (np.array([[0.5], [-0.5]]), np.zeros((2, 1))), points, dt=0.05)
    assert points.states[found.targets, 0] == pytest.approx([1, -1])
    assert (found.times > 1).all() and (found.times < 100).all()
    graph = saddle_connections(double_well, points, dt=0.05).transition_graph()
    assert sorted(graph.memories[0].tolist()) == [0, 2]


def test_other_values_of_the_same_shapes_compile_nothing(compilations):
    def everything(scale, count, num_steps):
        F = jax.tree_util.Partial(cubic, np.float64(scale))
        points = grid_points(2, F, np.sqrt(0.5 / scale))
        connections = saddle_connections(F, points, num_steps=num_steps)
        states = np.random.default_rng(count).uniform(-1, 1, size=(count, 2))
        return connections, basins(F, states, points, num_steps=num_steps)

    def cubic(scale, h):
        return 1.5 * h - scale * h**3

    everything(1.0, 30, 2000)
    with compilations:
        connections, reached = everything(0.9, 20, 1500)
    assert compilations.count == 0
    assert set(connections.outcomes) == set(reached.outcomes) == {"arrived"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epsilon": 0.0}, "epsilon must be positive, got 0.0"),
        ({"num_steps": 1.5}, "num_steps must be a whole number, got 1.5"),
        ({"arrival": 0.1}, "must be smaller than epsilon"),
        ({"kind": "flow"}, "a flow needs dt > 0"),
        ({"num_samples": 1}, "num_samples must be at least 2"),
        ({"inputs": np.zeros((3, 1))}, r"expected inputs \[U\] or, one per state, \[9, U\], got shape \(3, 1\)"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        saddle_connections(pitchfork, grid_points(2), **arguments)


def test_points_without_modes_are_rejected():
    points = find_fixed_points(pitchfork, np.zeros((1, 2)))
    with pytest.raises(ValueError, match="call linearize"):
        saddle_connections(pitchfork, points)
    with pytest.raises(TypeError, match="expected points of type FixedPoints, got ndarray"):
        basins(pitchfork, np.zeros((1, 2)), points.states)
    stable = grid_points(2)
    stable = stable[stable.is_stable]
    assert len(saddle_connections(pitchfork, stable)) == 0
    with pytest.raises(ValueError, match="expected states of 2 entries"):
        basins(pitchfork, np.zeros((1, 3)), stable)
