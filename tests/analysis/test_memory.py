"""The mechanism by which values are held is named right, of systems that are built with it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ctd_models.analysis import memory_mechanism, simulate
from ctd_models.analysis.constructed import (
    delay_trajectories,
    discrete_attractors,
    line_attractor,
    mistuned,
    pitchfork,
    ring_attractor,
    rotating_memory,
)

VALUES = np.linspace(-1, 1, 60, endpoint=False)
MEMORIES = {
    "discrete attractors": discrete_attractors,
    "line attractor": line_attractor,
    "ring attractor": ring_attractor,
    "dynamic representation": rotating_memory,
}


def mechanism_of(system, F, values=VALUES, **options):
    states, held = delay_trajectories(system, values, 100 if system.kind == "map" else 200, function=F)
    dt = None if system.kind == "map" else 0.1
    return memory_mechanism(F, states, held, np.zeros(system.num_inputs), kind=system.kind, dt=dt, **options)


@pytest.mark.slow
@pytest.mark.parametrize("name", MEMORIES)
def test_twenty_random_tunings_of_every_mechanism(name, compilations):
    def named(tuning):
        system = MEMORIES[name](num_units=12, seed=tuning)
        return mechanism_of(system, mistuned(system, 0.01, tuning)).name

    first = named(0)
    with compilations:
        others = [named(tuning) for tuning in range(1, 20)]
    assert [first, *others] == 20 * [name]
    assert compilations.count <= 5  # other numbers only, but a search may end with batches of other sizes


def test_what_tells_them_apart():
    found = {name: mechanism_of(system := build(12), mistuned(system, 0.0, 0)) for name, build in MEMORIES.items()}
    bank, line, ring, moving = found.values()
    on = MEMORIES["discrete attractors"](12).variables(bank.points.states) > 0.5
    stairs = on.sum(axis=1)  # groups that are on
    assert bank.num_attractors == len(set(stairs)) >= 8 and bank.num_slow == 0
    best = (
        1
        - sum(((VALUES[stairs == k] - VALUES[stairs == k].mean()) ** 2).sum() for k in set(stairs))
        / ((VALUES - VALUES.mean()) ** 2).sum()
    )
    assert best - 0.02 < bank.decoding[-1] < best  # nobody reads more from stairs than the mean of each
    assert line.num_slow == ring.num_slow == 1 and line.manifold.verdict == "line"
    assert moving.motion > 1 and moving.num_attractors is None
    assert moving.decoding.min() > 0.99 > 0.5 > moving.cross_decoding.min()
    # A reader of noise σ = 0.05 · spread along a line: the least error is σ² / (1 + σ²) of the variance
    assert line.decoding[-1] == pytest.approx(1 - 0.05**2 / (1 + 0.05**2), abs=5e-4)
    assert "line attractor, of 60 states over 100 steps" in repr(line) and line.dimension == bank.dimension == 1
    np.testing.assert_allclose(np.diag(ring.cross_decoding), ring.decoding)


@pytest.mark.slow
def test_an_arc_of_a_ring_is_told_from_a_line():
    system = ring_attractor(12)
    found = mechanism_of(system, system, 0.3 * VALUES)
    assert found.name == "ring attractor" and found.manifold.verdict == "ring"


def test_a_value_that_fades_or_is_not_there_is_no_memory():
    system = line_attractor(8, leak=0.1)
    assert mechanism_of(system, system).name == "no memory"  # 0.9^100 of it is left
    system = line_attractor(8, leak=0.02)
    found = mechanism_of(system, system)
    assert found.name == "decaying memory" and found.num_attractors == 1  # 13 % is left, enough to be read
    line = line_attractor(8)
    states, held = delay_trajectories(line, VALUES, 50)
    shuffled = np.random.default_rng(0).permutation(held)
    assert memory_mechanism(line, states, shuffled, np.zeros(1)).name == "no memory"
    assert memory_mechanism(line, states, held, np.zeros(1)).name == "line attractor"


def test_two_memories_a_plane_and_a_chain():
    fork = pitchfork(6)
    starts = fork.embed(VALUES[:, None] + 0.01)
    states = simulate(fork, starts, num_steps=300, kind="flow", dt=0.1)
    found = memory_mechanism(fork, states, VALUES, kind="flow", dt=0.1)
    assert found.name == "discrete attractors" and found.num_attractors == 2

    keep = jnp.diag(jnp.array([1.0, 1.0, 0.5, 0.2]))
    pairs = np.random.default_rng(1).uniform(-1, 1, (60, 2))
    plane = simulate(lambda h: jnp.asarray(keep, h.dtype) @ h, np.pad(pairs, ((0, 0), (0, 2))), num_steps=40)
    assert memory_mechanism(lambda h: jnp.asarray(keep, h.dtype) @ h, plane, pairs).name == "plane attractor"

    def chain(h):  # every unit passes on what the one before it had: memory without an attractor (Goldman 2009)
        return jnp.concatenate([jnp.zeros(1, h.dtype), h[:-1]])

    first = np.zeros((60, 30))
    first[:, 0] = VALUES
    found = memory_mechanism(chain, simulate(chain, first, num_steps=25), VALUES)
    assert found.name == "dynamic representation"
    assert memory_mechanism(chain, simulate(chain, first, num_steps=40), VALUES).name == "no memory"  # past its end


def test_motion_that_all_trials_share_is_not_the_memory():
    def ramp(h):  # the value in h[0], and a clock
        return jnp.stack([h[0], h[1] + 0.02, 0.5 * h[2]])

    states = simulate(ramp, VALUES[:, None] * [1.0, 0.0, 0.0], num_steps=100)
    found = memory_mechanism(ramp, states, VALUES)
    assert found.name == "line attractor" and found.motion < 1e-9
    assert found.common_motion == pytest.approx(0.02 * 50 / VALUES.std())

    def drift(h):  # nothing stands still, but little happens in the delay
        return h + 0.004

    found = memory_mechanism(drift, simulate(drift, VALUES[:, None], num_steps=100), VALUES)
    assert found.name == "line attractor" and found.manifold is None


def test_one_value_of_two_is_held():
    def half(h):
        return jnp.stack([h[0], 0 * h[1]])

    pairs = np.random.default_rng(2).uniform(-1, 1, (60, 2))
    found = memory_mechanism(half, simulate(half, pairs, num_steps=40), pairs)
    assert found.name == "line attractor"
    assert found.decoding_of_each[0] > 0.98 and found.decoding_of_each[1] < 0.1
    assert "R² of 2 values, mean, at the end" in repr(found)


def test_trajectories_of_something_else_are_told():
    line = line_attractor(8)
    states, held = delay_trajectories(line, VALUES, 50)
    with pytest.warns(RuntimeWarning, match="one step of F misses the next state"):
        memory_mechanism(lambda h, x: 0.1 * h, states, held, np.zeros(1))


@pytest.mark.slow
def test_functions_in_float64_only():
    direction = np.random.default_rng(0).normal(size=64)  # of so many units, that a first search is made in float32
    direction /= np.linalg.norm(direction)
    weights = np.outer(direction, direction)

    def integrate(h):
        return h + 0.1 * (-h + weights @ h)

    found = memory_mechanism(integrate, simulate(integrate, VALUES[:, None] * direction, num_steps=50), VALUES)
    assert found.name == "line attractor"


def test_states_that_are_pytrees():
    def step(state, x):
        return {"held": state["held"] + x, "other": 0.5 * state["other"]}

    def flat(state, x):
        return jnp.concatenate([state[:1] + x, 0.5 * state[1:]])

    start = {"held": VALUES[:, None], "other": np.ones((60, 2))}
    states = jax.tree.map(lambda leaf: np.repeat(leaf[:, None], 31, axis=1), start)
    states["other"] = states["other"] * 0.5 ** np.arange(31)[:, None]
    found = memory_mechanism(step, states, VALUES, np.zeros(1))
    same = memory_mechanism(flat, np.concatenate(list(states.values()), axis=2), VALUES, np.zeros(1))
    assert found.name == same.name == "line attractor"
    assert found.points.unravel(found.points.states)["other"].shape == (60, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trajectories": np.zeros((60, 10))}, "expected trajectories"),
        ({"trajectories": np.zeros((60, 2, 4))}, "3 times or more"),
        ({"trajectories": np.zeros((60, 10, 4))}, "all begin at the same state"),
        ({"values": np.zeros(60)}, "do not vary"),
        ({"values": np.arange(59.0)}, "expected values .60. or .60, k."),
        ({"values": np.where(np.arange(60) == 3, np.nan, np.arange(60.0))}, "values hold nan at index .3, 0."),
        ({"inputs": np.zeros((60, 1))}, "expected inputs"),
        ({"resolution": 0.0}, "resolution must be positive"),
        ({"kind": "flow"}, "a flow needs dt"),
    ],
)
def test_bad_arguments(change, message):
    arguments = {
        "trajectories": np.random.default_rng(0).normal(size=(60, 10, 4)),
        "values": VALUES,
        "inputs": np.zeros(1),
        "kind": "map",
        "resolution": 0.05,
    } | change
    trajectories, values, inputs = (arguments.pop(name) for name in ("trajectories", "values", "inputs"))
    with pytest.raises(ValueError, match=message):
        memory_mechanism(lambda h, x: h + x.sum(), trajectories, values, inputs, **arguments)
