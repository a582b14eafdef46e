import flax.linen as nn
import jax
import numpy as np
import optax
import pytest

from ctd_models import GRUCell, RecurrentNetwork, Trainer, load_checkpoint, step_function
from ctd_models.configuration import deterministic
from ctd_models.models.decoder import Decoder, with_statistics
from ctd_models.training import mean_squared_error

KEY = jax.random.key(0)
CELLS = [GRUCell(6), nn.OptimizedLSTMCell(6)]


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    spikes = rng.poisson([1.0, 2.0, 5.0, 9.0], (12, 7, 4)).astype(np.float32)
    force = (rng.normal(size=(12, 7, 2)) * 3 + [10, -20]).astype(np.float32)
    return spikes, force


def prepared(model, data):
    return with_statistics(model.init(KEY, data[0]), *data)


@pytest.mark.parametrize("cell", CELLS)
def test_it_is_a_recurrent_network_between_standardized_data(cell, data):
    spikes, force = data
    model = Decoder(cell, 2)
    variables = prepared(model, data)
    x = (spikes - spikes.mean(axis=(0, 1))) / spikes.std(axis=(0, 1))
    plain = RecurrentNetwork(cell, 2).apply({"params": variables["params"]}, x).outputs
    scale = np.sqrt(force.var(axis=(0, 1)).mean())
    outputs = model.apply(variables, spikes).outputs
    np.testing.assert_allclose(outputs, plain * scale + force.mean(axis=(0, 1)), rtol=1e-4, atol=1e-4)


def test_outputs_do_not_depend_on_later_inputs(data):
    spikes, _ = data
    model = Decoder(GRUCell(6), 2)
    variables = prepared(model, data)
    later = spikes.copy()
    later[:, 4:] += 5
    before, after = (model.apply(variables, x).outputs for x in (spikes, later))
    np.testing.assert_array_equal(before[:, :4], after[:, :4])
    assert not np.allclose(before[:, 4:], after[:, 4:])


@pytest.mark.parametrize("rates", [{"input_dropout": 0.5}, {"output_dropout": 0.5}])
def test_dropout_differs_by_step_and_is_off_when_deterministic(rates, data):
    model = Decoder(GRUCell(6), 2, **rates)
    variables = prepared(model, data)
    still = np.ones_like(data[0])
    runs = [model.apply(variables, still, rngs={"dropout": jax.random.key(i)}).outputs for i in (0, 0, 1)]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert not np.allclose(runs[0], runs[2])
    noise = runs[0] - runs[2]
    assert not np.allclose(noise[:, 1:], noise[:, :-1])
    with pytest.raises(Exception, match="dropout"):
        model.apply(variables, still)
    quiet = deterministic(model).apply(variables, still).outputs
    np.testing.assert_allclose(quiet, Decoder(GRUCell(6), 2).apply(variables, still).outputs, rtol=1e-6)


def test_its_step_function_takes_spike_counts(data):
    spikes, _ = data
    model = Decoder(GRUCell(6), 2, input_dropout=0.5)
    variables = prepared(model, data)
    states = deterministic(model).apply(variables, spikes).states
    F = step_function(model, variables)
    np.testing.assert_allclose(F(states[3, 2], spikes[3, 3]), states[3, 3], rtol=1e-5, atol=1e-6)


def test_silent_and_rare_channels_are_not_blown_up(data):
    spikes, force = data
    spikes[..., 0] = 0
    spikes[0, 0, 0] = 1
    spikes[..., 1] = 0
    model = Decoder(GRUCell(6), 2)
    statistics = with_statistics(model.init(KEY, spikes), spikes, force)["statistics"]
    largest = spikes.std(axis=(0, 1)).max()
    np.testing.assert_allclose(statistics["standardize"]["std"][:2], 0.1 * largest, rtol=1e-5)
    silent = with_statistics(model.init(KEY, spikes), np.zeros_like(spikes), np.zeros_like(force))
    assert np.isfinite(model.apply(silent, np.zeros_like(spikes)).outputs).all()


def test_training_keeps_the_statistics_and_a_checkpoint_holds_them(data, tmp_path):
    model = Decoder(GRUCell(6), 2, input_dropout=0.3, output_dropout=0.2)
    variables = prepared(model, data)
    trainer = Trainer(model, mean_squared_error(model), optax.adam(1e-2), progress=False)
    trainer.fit(data, 5, KEY, variables=variables, checkpoint_dir=str(tmp_path / "run"))
    loaded, trained = load_checkpoint(tmp_path / "run")
    assert loaded == model
    jax.tree.map(np.testing.assert_array_equal, trained["statistics"], variables["statistics"])
    assert not np.allclose(trained["params"]["readout"]["kernel"], variables["params"]["readout"]["kernel"])
