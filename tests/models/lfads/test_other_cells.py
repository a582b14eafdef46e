"""Parts of LFADS with cells of Flax's and of ours, with and without inputs."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ctd_models import LFADS, ContinuousRNNCell, Trainer, VanillaRNNCell, load_checkpoint, step_function
from ctd_models.analysis import find_fixed_points, linearize
from ctd_models.data import SpikeTrials
from ctd_models.models.lfads import AutoregressivePrior, Controller, Encoder, Gaussian, Generator, factor_map, infer
from ctd_models.plots import plot_generator_points
from ctd_models.training import elbo

KEY = jax.random.key(0)
RNGS = {"params": KEY, "sample": jax.random.key(1)}
SPIKES = np.random.default_rng(0).poisson(1.0, (6, 7, 5)).astype(np.float32)
LSTM = nn.OptimizedLSTMCell(features=4)


def autonomous(cell):
    return LFADS(5, Encoder(3), Generator(4, 2, Gaussian(), cell=cell))


def variables_of(model):
    rng, shapes = np.random.default_rng(0), jax.eval_shape(model.init, RNGS, SPIKES)
    return jax.tree.map(lambda s: jnp.asarray(rng.normal(size=s.shape) / max(s.shape[0], 4) ** 0.5, s.dtype), shapes)


@pytest.mark.parametrize(
    "cell",
    [LSTM, nn.GRUCell(features=4), nn.SimpleCell(features=4), VanillaRNNCell(4), ContinuousRNNCell(4)],
    ids=lambda cell: type(cell).__name__,
)
def test_autonomous_generators_of_any_cell_step_as_they_roll_out(cell):
    model = autonomous(cell)
    variables = variables_of(model)
    assert all(leaf.size for leaf in jax.tree.leaves(variables))
    posterior = jax.jit(lambda v: model.apply(v, SPIKES, method="posterior_mean"))(variables)
    F = jax.jit(jax.vmap(step_function(model, variables, part="generator")))
    state = posterior.initial_condition
    for t in range(3):
        state = F(state)
        expected = jax.tree.map(lambda values, t=t: values[:, t], posterior.generator_states)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), state, expected)
    np.testing.assert_allclose(factor_map(model, variables)(state), posterior.factors[:, 2], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("cell", [VanillaRNNCell(4), ContinuousRNNCell(4, dt=0.02)], ids=["vanilla", "continuous"])
def test_our_cells_without_inputs_are_those_with_inputs_of_zero(cell):
    state = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4)))
    variables = cell.init(KEY, state, jnp.zeros((3, 2)))
    without = {"params": {name: value for name, value in variables["params"].items() if name != "input_kernel"}}
    expected, _ = cell.apply(variables, state, jnp.zeros((3, 2)))
    np.testing.assert_array_equal(cell.apply(without, state, jnp.zeros((3, 0)))[0], expected)
    assert "input_kernel" not in cell.init(KEY, state, jnp.zeros((3, 0)))["params"]


def test_an_lstm_in_every_part():
    """The encoder's and the controller's hidden states by loops over time; padding changes nothing."""
    parts = {"cell": LSTM}
    model = LFADS(
        5, Encoder(4, **parts), Generator(4, 2, Gaussian(), **parts), Controller(4, 1, AutoregressivePrior(), **parts)
    )
    variables = variables_of(model)
    params = variables["params"]["encoder"]
    found = jax.jit(lambda v, x, n: model.apply(v, x, lengths=n, method="encode"))
    read = found(variables, SPIKES, np.full(6, 7)).read
    for direction, order in (("forward", range(7)), ("backward", reversed(range(7)))):
        state = tuple(jnp.broadcast_to(params[f"initial_{direction}_state_{i}"], (6, 4)) for i in range(2))
        columns = slice(0, 4) if direction == "forward" else slice(4, 8)
        for t in order:
            state, h = LSTM.apply({"params": params[f"initial_{direction}"]}, state, SPIKES[:, t])
            np.testing.assert_allclose(read[:, t, columns], h, rtol=1e-4, atol=1e-6)
    lengths = np.array([7, 5, 4, 7, 3, 6])
    other = np.where(np.arange(7)[:, None] >= lengths[:, None, None], 9.0, SPIKES)
    for a, b in zip(found(variables, SPIKES, lengths), found(variables, other, lengths), strict=True):
        jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b), a, b)
    posterior = jax.jit(lambda v: model.apply(v, SPIKES, method="posterior_mean"))(variables)
    assert posterior.rates.shape == SPIKES.shape and np.isfinite(posterior.rates).all()


@pytest.mark.slow
def test_an_autonomous_lstm_trains_is_saved_and_its_fixed_points_are_drawn(tmp_path):
    model, trials = autonomous(LSTM), SpikeTrials.from_spikes(SPIKES)
    loss = elbo(model, l2={"generator": 2.0})
    Trainer(model, loss, optax.adam(1e-2), batch_size=6).fit(trials, 3, KEY, checkpoint_dir=tmp_path)
    model, variables = load_checkpoint(tmp_path)
    cell = variables["params"]["generator"]["rnn"]
    penalty = sum(float((cell[f"h{gate}"]["kernel"] ** 2).sum()) for gate in "ifgo")
    _, metrics = loss(variables, trials, RNGS, 0, False)
    assert metrics["l2"] == pytest.approx(penalty, rel=1e-5)
    F = step_function(model, variables, part="generator")
    candidates = jax.tree.map(lambda values: values[:, -1], infer(model, variables, trials).generator_states)
    points = linearize(F, find_fixed_points(F, candidates, outlier_factor=np.inf))
    figure = plot_generator_points(points, factor_map(model, variables))
    assert len(points) and len(figure.subfigs) == 2


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="the cell has 4 features, but hidden_size is 6"):
        Generator(6, 2, Gaussian(), cell=LSTM)
    with pytest.raises(ValueError, match="the cell has 4 features, but hidden_size is 6"):
        Controller(6, 2, None, cell=LSTM)
    model = autonomous(None)
    with pytest.raises(AttributeError, match="LFADS has no part 'decoder'"):
        step_function(model, variables_of(model), part="decoder")
