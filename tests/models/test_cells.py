"""Cells against their published equations, written out in NumPy."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ctd_models import ContinuousRNNCell, GRUCell, VanillaRNNCell

N, U, B = 7, 3, 5


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def initialized(cell):
    rng = np.random.default_rng(0)
    carry, inputs = rng.normal(size=(B, N)), rng.normal(size=(B, U))
    variables = cell.init(jax.random.key(0), jnp.asarray(carry), jnp.asarray(inputs))
    noisy = jax.tree.map(lambda p: p + 0.1 * jnp.asarray(rng.normal(size=p.shape), p.dtype), variables)
    return noisy, carry, inputs, jax.tree.map(np.asarray, noisy["params"])


def test_vanilla_cell_equation():
    cell = VanillaRNNCell(N)
    variables, h, x, p = initialized(cell)
    carry, output = cell.apply(variables, h, x)
    expected = np.tanh(h @ p["recurrent_kernel"] + x @ p["input_kernel"] + p["bias"])
    np.testing.assert_allclose(carry, expected, atol=1e-6)
    np.testing.assert_array_equal(carry, output)


def test_gru_cell_equations():
    cell = GRUCell(N, update_bias=0.5)
    variables, h, x, p = initialized(cell)
    gates = h @ p["gates_recurrent_kernel"] + x @ p["gates_input_kernel"] + p["gates_bias"]
    r, u = sigmoid(gates[:, :N]), sigmoid(gates[:, N:] + 0.5)
    c = np.tanh((r * h) @ p["candidate_recurrent_kernel"] + x @ p["candidate_input_kernel"] + p["candidate_bias"])
    carry, _ = cell.apply(variables, h, x)
    np.testing.assert_allclose(carry, u * h + (1 - u) * c, atol=1e-6)


def test_continuous_cell_equation():
    cell = ContinuousRNNCell(N, tau=0.05, dt=0.01)
    variables, x, u, p = initialized(cell)
    carry, output = cell.apply(variables, x, u)
    drive = np.tanh(x) @ p["recurrent_kernel"] + u @ p["input_kernel"] + p["bias"]
    np.testing.assert_allclose(carry, x + 0.2 * (drive - x), atol=1e-6)
    np.testing.assert_allclose(output, np.tanh(carry), atol=1e-6)


def test_continuous_cell_noise_has_the_stationary_variance_it_promises():
    alpha, sigma = 0.2, 0.3
    cell = ContinuousRNNCell(20, tau=0.05, dt=0.01, noise=sigma, recurrent_init=0.0)
    states, inputs = jnp.zeros((2000, 20)), jnp.zeros((2000, 1))
    variables = cell.init({"params": jax.random.key(0), "noise": jax.random.key(1)}, states, inputs)

    def step(states, key):
        states, _ = cell.apply(variables, states, inputs, rngs={"noise": key})
        return states, states.var()

    _, variances = jax.lax.scan(step, states, jax.random.split(jax.random.key(2), 100))
    expected = sigma**2 / (1 - alpha / 2)
    assert abs(variances[-50:].mean() - expected) < 0.01 * expected


def test_noise_needs_its_stream_and_can_be_switched_off():
    cell = ContinuousRNNCell(N, noise=0.1)
    variables = cell.init({"params": jax.random.key(0), "noise": jax.random.key(1)}, jnp.zeros(N), jnp.zeros(U))
    with pytest.raises(Exception, match="noise"):
        cell.apply(variables, jnp.zeros(N), jnp.zeros(U))
    quiet = cell.clone(deterministic=True)
    np.testing.assert_array_equal(quiet.apply(variables, jnp.zeros(N), jnp.zeros(U))[0], 0)


@pytest.mark.parametrize("cell", [VanillaRNNCell(N), GRUCell(N), ContinuousRNNCell(N)], ids=lambda c: type(c).__name__)
def test_flax_rnn_runs_our_cells_like_a_loop(cell):
    inputs = jax.random.normal(jax.random.key(1), (B, 6, U))
    rnn = nn.RNN(cell)
    variables = rnn.init(jax.random.key(0), inputs)
    outputs = rnn.apply(variables, inputs)
    carry = jnp.zeros((B, N))
    for t in range(6):
        carry, output = cell.apply({"params": variables["params"]["cell"]}, carry, inputs[:, t])
        np.testing.assert_allclose(outputs[:, t], output, atol=1e-6)


def test_initial_weights_have_the_published_spread():
    variables = VanillaRNNCell(400).init(jax.random.key(0), jnp.zeros(400), jnp.zeros(4))["params"]
    assert abs(variables["recurrent_kernel"].std() * 20 - 0.85) < 0.01
    assert abs(variables["input_kernel"].std() * 2 - 1.0) < 0.05
    assert not variables["bias"].any()
    gru = GRUCell(400).init(jax.random.key(0), jnp.zeros(400), jnp.zeros(4))["params"]
    assert abs(gru["gates_recurrent_kernel"].std() * 20 - 1.0) < 0.01


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VanillaRNNCell(0), "features must be at least 1, got 0"),
        (lambda: VanillaRNNCell(3, activation="tahn"), "'tahn'"),
        (lambda: ContinuousRNNCell(3, tau=0.01, dt=0.02), "dt must lie in"),
        (lambda: ContinuousRNNCell(3, noise=-1.0), "cannot be negative, got -1.0"),
    ],
)
def test_bad_fields(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_wrong_input_size_is_named():
    cell = GRUCell(N)
    variables = cell.init(jax.random.key(0), jnp.zeros(N), jnp.zeros(U))
    with pytest.raises(ValueError, match="GRUCell expected inputs with 3 features, got 4"):
        cell.apply(variables, jnp.zeros(N), jnp.zeros(4))
