"""`step_function`: pure, unbatched, deterministic, and a pytree."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ctd_models import GRU, ContinuousRNNCell, GRUCell, RecurrentNetwork, VanillaRNN, step_function
from ctd_models.models import Decoder, readout_function, with_statistics


def initialized(network, num_inputs=2):
    inputs = jnp.zeros((1, 3, num_inputs))
    return network.init({"params": jax.random.key(0), "noise": jax.random.key(1)}, inputs)


@pytest.mark.parametrize(
    "network",
    [VanillaRNN(6, 1), GRU(6, 1), RecurrentNetwork(nn.OptimizedLSTMCell(6), 1)],
    ids=["vanilla", "gru", "lstm"],
)
def test_is_the_step_of_one_trial(network):
    variables = initialized(network)
    inputs = jax.random.normal(jax.random.key(2), (1, 5, 2))
    states = network.apply(variables, inputs).states
    F = step_function(network, variables)
    first, second = (jax.tree.map(lambda s, t=t: s[0, t], states) for t in (2, 3))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), F(first, inputs[0, 3]), second)
    bound = step_function(network, variables, inputs=inputs[0, 3])
    jax.tree.map(np.testing.assert_array_equal, bound(first), F(first, inputs[0, 3]))


def test_noise_is_off():
    network = RecurrentNetwork(ContinuousRNNCell(6, noise=1.0), 1)
    F = step_function(network, initialized(network))
    np.testing.assert_array_equal(F(jnp.ones(6), jnp.ones(2)), F(jnp.ones(6), jnp.ones(2)))


def test_parts_and_bare_cells_step():
    network = GRU(6, 1)
    variables = initialized(network)
    state, inputs = jnp.linspace(-1, 1, 6), jnp.ones(2)
    whole = step_function(network, variables)(state, inputs)
    np.testing.assert_array_equal(step_function(network, variables, part="cell")(state, inputs), whole)
    cell = ContinuousRNNCell(6)
    assert step_function(cell, cell.init(jax.random.key(0), state, inputs))(state, inputs).shape == (6,)


def test_other_variables_reuse_the_compiled_function(compilations):
    network = VanillaRNN(6, 1)
    variables = initialized(network)
    others = jax.tree.map(lambda p: p + 1, variables)
    run = jax.jit(lambda F, state, inputs: F(state, inputs))
    state, inputs = jnp.zeros(6), jnp.zeros(2)
    first = run(step_function(network, variables), state, inputs)
    with compilations:
        second = run(step_function(VanillaRNN(6, 1), others), state, inputs)
    assert compilations.count == 0
    assert jnp.abs(first - second).max() > 0


def test_errors_say_what_is_missing():
    class Static(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(2)(x)

    with pytest.raises(AttributeError, match="Static has no method step"):
        step_function(Static(), {"params": {}})
    network = VanillaRNN(6, 1)
    with pytest.raises(TypeError, match="whole dictionary"):
        step_function(network, jnp.zeros(3))
    with pytest.raises(AttributeError, match="generator"):
        step_function(network, initialized(network), part="generator")(jnp.zeros(6), jnp.zeros(2))


def test_what_is_read_out_of_a_state_is_the_output_of_the_step_that_led_there():
    inputs = jax.random.normal(jax.random.key(0), (3, 4, 2))
    decoder = Decoder(nn.OptimizedLSTMCell(5), 2, input_dropout=0.5, output_dropout=0.5)
    for model in (GRU(5, 2), RecurrentNetwork(nn.OptimizedLSTMCell(5), 2), decoder):
        streams = {name: jax.random.key(i) for i, name in enumerate(("params", "dropout"))}
        variables = model.init(streams, inputs)
        if isinstance(model, Decoder):
            variables = with_statistics(variables, 3 * np.asarray(inputs) + 1, np.asarray(inputs) - 2)
        trajectory = model.clone(deterministic=True).apply(variables, inputs)
        np.testing.assert_allclose(readout_function(model, variables)(trajectory.states), trajectory.outputs, atol=1e-5)
    with pytest.raises(AttributeError, match="read_out"):
        readout_function(GRUCell(3), {"params": {}})
