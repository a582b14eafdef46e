"""Recurrent networks: one scan equals a loop over `step`, for any cell."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ctd_models import GRU, ContinuousRNNCell, RecurrentNetwork, VanillaRNN, VanillaRNNCell
from ctd_models.models import CELLS, make_network

B, T, U, O = 4, 6, 3, 2  # noqa: E741
NETWORKS = {
    "vanilla": VanillaRNN(8, O),
    "gru": GRU(8, O),
    "continuous": RecurrentNetwork(ContinuousRNNCell(8), O),
    "flax lstm": RecurrentNetwork(nn.OptimizedLSTMCell(8), O),
    "flax plain lstm": RecurrentNetwork(nn.LSTMCell(8), O),
    "flax gru": RecurrentNetwork(nn.GRUCell(8), O),
    "zero start": VanillaRNN(8, O, learn_initial_state=False),
}


@pytest.fixture(scope="module")
def inputs():
    return jax.random.normal(jax.random.key(0), (B, T, U))


@pytest.mark.parametrize("name", NETWORKS)
def test_rollout_equals_a_loop_over_step(name, inputs):
    network = NETWORKS[name]
    variables = jax.jit(network.init)(jax.random.key(1), inputs)
    trajectory = jax.jit(network.apply)(variables, inputs)
    state = network.apply(variables, (B,), method="initial_state")
    for t in range(T):
        state, output = network.apply(variables, state, inputs[:, t], method="step")
        np.testing.assert_allclose(trajectory.outputs[:, t], output, atol=1e-5)
        jax.tree.map(
            lambda now, all_: np.testing.assert_allclose(all_[:, t], now, atol=1e-5),  # noqa: B023
            state,
            trajectory.states,
        )
    assert trajectory.outputs.shape == (B, T, O)


def test_named_networks_are_recurrent_networks_with_their_cell(inputs):
    named, general = VanillaRNN(8, O), RecurrentNetwork(VanillaRNNCell(8), O)
    variables = named.init(jax.random.key(1), inputs)
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, general.init(jax.random.key(1), inputs))
    expected = named.apply(variables, inputs)
    jax.tree.map(np.testing.assert_array_equal, expected, general.apply(variables, inputs))


def test_initial_state_is_learned_or_given(inputs):
    network = VanillaRNN(8, O)
    variables = network.init(jax.random.key(1), inputs)
    learned = variables["params"]["initial_state"]
    gradient = jax.grad(lambda v: network.apply(v, inputs).outputs.sum())(variables)["params"]["initial_state"]
    assert jnp.abs(gradient).min() > 0
    default = network.apply(variables, inputs)
    for given in (learned, jnp.broadcast_to(learned, (B, 8))):
        np.testing.assert_array_equal(network.apply(variables, inputs, given).outputs, default.outputs)
    other = network.apply(variables, inputs, jnp.ones(8))
    assert jnp.abs(other.outputs - default.outputs).max() > 0.1
    # continuing from the middle is the same as not stopping
    rest = network.apply(variables, inputs[:, 3:], default.states[:, 2])
    np.testing.assert_allclose(rest.outputs, default.outputs[:, 3:], atol=1e-6)


def test_overriding_one_method_changes_one_thing(inputs):
    class Rectified(VanillaRNNCell):
        def activate(self, x):
            return nn.relu(x)

    class Doubled(VanillaRNN):
        def step(self, state, inputs):
            state, output = super().step(state, inputs)
            return state, 2 * output

    rectified = RecurrentNetwork(cell=Rectified(features=8), output_size=1)
    states = rectified.apply(rectified.init(jax.random.key(0), inputs), inputs).states
    assert states.min() == 0
    assert states.max() > 0

    plain, doubled = VanillaRNN(8, O), Doubled(8, O)
    variables = plain.init(jax.random.key(0), inputs)
    np.testing.assert_allclose(
        doubled.apply(variables, inputs).outputs, 2 * plain.apply(variables, inputs).outputs, rtol=1e-6
    )


def test_noise_is_there_and_differs_by_step_and_trial():
    network = RecurrentNetwork(ContinuousRNNCell(8, noise=0.5, recurrent_init=0.0), O, learn_initial_state=False)
    inputs = jnp.zeros((B, T, U))
    variables = network.init({"params": jax.random.key(0), "noise": jax.random.key(1)}, inputs)
    states = network.apply(variables, inputs, rngs={"noise": jax.random.key(2)}).states
    increments = states[:, 1:] - (1 - 0.1) * states[:, :-1]
    assert len(np.unique(np.asarray(increments))) == increments.size
    again = network.apply(variables, inputs, rngs={"noise": jax.random.key(2)}).states
    np.testing.assert_array_equal(states, again)
    with pytest.raises(Exception, match="noise"):
        network.apply(variables, inputs)


def test_gradient_agrees_with_finite_differences(inputs):
    network = GRU(5, 1)
    with jax.enable_x64(True):
        x = jnp.asarray(np.asarray(inputs), jnp.float64)
        variables = jax.tree.map(lambda p: jnp.asarray(p, jnp.float64), network.init(jax.random.key(1), inputs))
        flat, unravel = jax.flatten_util.ravel_pytree(variables)
        loss = jax.jit(lambda p: (network.apply(unravel(p), x).outputs ** 2).mean())
        direction = jax.random.normal(jax.random.key(2), flat.shape, jnp.float64)
        numeric = (loss(flat + 1e-5 * direction) - loss(flat - 1e-5 * direction)) / 2e-5
        np.testing.assert_allclose(jax.grad(loss)(flat) @ direction, numeric, rtol=1e-7)


def test_works_in_nnx(inputs):
    network = VanillaRNN(8, O)
    bridged = nnx.bridge.ToNNX(network, rngs=nnx.Rngs(0)).lazy_init(inputs)
    variables = {"params": nnx.to_pure_dict(nnx.state(bridged, nnx.Param))}
    np.testing.assert_allclose(bridged(inputs).outputs, network.apply(variables, inputs).outputs, atol=1e-6)


@pytest.mark.parametrize("shape", [(T, U), (B, T, U, 1), (B, 0, U), (0, T, U)])
def test_wrong_rank_is_named(shape):
    network = VanillaRNN(8, O)
    variables = network.init(jax.random.key(1), jnp.zeros((B, T, U)))
    with pytest.raises(ValueError, match=r"expected inputs \[batch, time, features\] with no empty axis, got shape"):
        network.apply(variables, jnp.zeros(shape))


def test_wrong_sizes_are_named(inputs):
    network = VanillaRNN(8, O)
    variables = network.init(jax.random.key(1), inputs)
    with pytest.raises(ValueError, match="expected inputs with 3 features, got 2"):
        network.apply(variables, inputs[..., :2])
    with pytest.raises(ValueError, match=r"expected an initial state of shape \(4, 8\) or \(8,\), got \(7,\)"):
        network.apply(variables, inputs, jnp.zeros(7))
    with pytest.raises(ValueError, match="output_size must be at least 1, got 0"):
        VanillaRNN(8, 0)


@pytest.mark.parametrize("cell", CELLS)
def test_networks_by_the_name_of_their_cell(cell, inputs):
    options = {"tau": 0.2, "dt": 0.1} if cell == "continuous" else None
    network = make_network(cell, 5, 2, cell_options=options, state_noise=0.0)
    assert network.apply(network.init(jax.random.key(0), inputs), inputs).outputs.shape == (B, T, 2)
    with pytest.raises(ValueError, match="cell must be one of"):
        make_network("transformer", 5, 2)
