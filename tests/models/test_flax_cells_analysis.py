"""Flax's own cells as dynamical systems: fixed points and Jacobians of each."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ctd_models import RecurrentNetwork, step_function
from ctd_models.analysis import find_fixed_points, linearize

N, U = 4, 2
CELLS = {
    "simple": nn.SimpleCell(N),
    "residual": nn.SimpleCell(N, residual=True),
    "gru": nn.GRUCell(N),
    "mgu": nn.MGUCell(N),
    "lstm": nn.LSTMCell(N),
    "optimized lstm": nn.OptimizedLSTMCell(N),
}
X = np.array([0.5, -1.0])


def system(model):
    carry = jax.tree.map(jnp.zeros_like, model.initialize_carry(jax.random.key(0), (U,)))
    variables = model.init(jax.random.key(1), carry, jnp.zeros(U))
    return step_function(model, variables), carry


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name == "residual" else []) for name in CELLS]
)
def test_fixed_points_and_jacobians(name):
    F, carry = system(CELLS[name])
    rng = np.random.default_rng(0)
    starts = jax.tree.map(lambda leaf: rng.normal(size=(16, *leaf.shape)), carry)
    points = linearize(F, find_fixed_points(F, starts, X))
    assert len(points) >= 1
    assert points.speeds.max() <= 1e-20
    flat, size = points.states[0], points.states.shape[1]

    @jax.jit
    @jax.vmap
    def step(shift):
        state = points.unravel(flat + shift[:size])
        return jnp.concatenate(jax.tree.leaves(F(state, X + shift[size:])))

    shifts = 1e-5 * np.eye(size + U)
    with jax.enable_x64(True):
        still, plus, minus = np.split(np.asarray(step(np.concatenate([0 * shifts, shifts, -shifts]))), 3)
    np.testing.assert_allclose(still[0], flat, atol=1e-9)
    jacobian = np.concatenate([points.jacobians[0], points.input_jacobians[0]], axis=1)
    np.testing.assert_allclose(jacobian, (plus - minus).T / 2e-5, atol=1e-8)
    np.testing.assert_allclose(
        np.sort_complex(points.eigenvalues[0]), np.sort_complex(np.linalg.eigvals(points.jacobians[0])), atol=1e-8
    )


@pytest.mark.parametrize("name", CELLS)
def test_inside_a_network_a_cell_is_the_same_system(name):
    network = RecurrentNetwork(CELLS[name], 1)
    variables = network.init(jax.random.key(1), jnp.zeros((1, 2, U)))
    state = jax.tree.map(lambda leaf: leaf[0], network.apply(variables, jnp.ones((1, 3, U))).states)
    state = jax.tree.map(lambda leaf: leaf[-1], state)
    whole = step_function(network, variables)(state, jnp.asarray(X))
    part = step_function(network, variables, part="cell")(state, jnp.asarray(X))
    alone = step_function(CELLS[name], {"params": variables["params"]["cell"]})(state, jnp.asarray(X))
    for other in (part, alone):
        jax.tree.map(np.testing.assert_array_equal, other, whole)
