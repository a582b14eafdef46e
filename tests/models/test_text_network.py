"""A network that reads numbers of words: padding, dropout, its step, its checkpoint."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ctd_models import GRUCell, RecurrentNetwork, Trainer, load_checkpoint, step_function
from ctd_models.data import Vocabulary
from ctd_models.models import TextNetwork, readout_function
from ctd_models.training.losses import binary_cross_entropy

VOCABULARY = Vocabulary.of(["good bad not very the"])
TOKENS = VOCABULARY.encode(["not very good", "bad", "the unheard bad"], 5)


@pytest.fixture(scope="module")
def network():
    return TextNetwork(GRUCell(6), 1, words=VOCABULARY.words, embedding_size=4)


@pytest.fixture(scope="module")
def variables(network):
    return network.init(jax.random.key(0), TOKENS)


def test_reads_embedded_words_by_its_step(network, variables):
    trajectory = network.apply(variables, TOKENS)
    embedded = network.apply(variables, TOKENS, method="embed")
    table = variables["params"]["embedding"]["embedding"]
    np.testing.assert_array_equal(embedded[0, :3], table[TOKENS[0, :3]])
    assert not embedded[1, 1:].any()
    F, R = step_function(network, variables), readout_function(network, variables)
    state = network.apply(variables, method="initial_state")
    for t in range(5):
        state = F(state, embedded[0, t])
        np.testing.assert_allclose(trajectory.states[0, t], state, atol=1e-6)
        np.testing.assert_allclose(trajectory.outputs[0, t], R(state), atol=1e-6)


def test_padding_changes_nothing_before_it(network, variables):
    long, short = network.apply(variables, TOKENS), network.apply(variables, TOKENS[:, :3])
    np.testing.assert_array_equal(long.outputs[:, :3], short.outputs)


def test_dropout_is_there_only_in_training(network, variables):
    noisy = network.clone(word_dropout=0.9, input_dropout=0.5, output_dropout=0.5)
    first, second = (noisy.apply(variables, TOKENS, rngs={"dropout": jax.random.key(k)}).outputs for k in range(2))
    assert not np.allclose(first, second)
    quiet = noisy.clone(deterministic=True).apply(variables, TOKENS)
    np.testing.assert_array_equal(quiet.outputs, network.apply(variables, TOKENS).outputs)
    words = network.clone(word_dropout=0.999).apply(variables, TOKENS, rngs={"dropout": jax.random.key(0)})
    unknown = jnp.where(TOKENS == 0, 0, 1)
    np.testing.assert_allclose(words.outputs, network.apply(variables, unknown).outputs, atol=1e-6)


def test_a_checkpoint_brings_its_words_along(tmp_path, network):
    data = {
        "inputs": np.repeat(TOKENS, 4, axis=0),
        "targets": np.ones((12, 5, 1), np.float32),
        "mask": np.repeat((TOKENS != 0)[..., None], 4, axis=0).astype(np.float32),
    }
    trainer = Trainer(network, binary_cross_entropy(network), optax.adam(0.01), batch_size=4)
    result = trainer.fit(data, 30, jax.random.key(0), checkpoint_dir=tmp_path)
    assert result.history["loss"][-1] < 0.6
    model, loaded = load_checkpoint(tmp_path)
    assert model == network and Vocabulary(model.words) == VOCABULARY
    np.testing.assert_array_equal(model.apply(loaded, TOKENS).outputs, network.apply(result.variables, TOKENS).outputs)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda n, v: n.apply(v, TOKENS[0]), r"\[batch, time\]"),
        (lambda n, v: n.apply(v, jnp.zeros((1, 2))), "float32"),
        (lambda n, v: n.apply(v, jnp.full((1, 2), 7)), r"lie in 0 … 6, got 7"),
        (lambda n, v: n.clone(words=()), "words must hold"),
        (lambda n, v: n.clone(embedding_size=0), "embedding_size"),
        (lambda n, v: n.clone(embedding_std=-1.0), "embedding_std"),
        (lambda n, v: n.clone(word_dropout=1.0), "probability below 1"),
        (lambda n, v: RecurrentNetwork(GRUCell(3), 1, state_noise=-1.0), "state_noise cannot be negative"),
    ],
)
def test_bad_input_is_refused(network, variables, act, message):
    with pytest.raises(ValueError, match=message):
        act(network, variables)


@pytest.mark.parametrize("cell", [GRUCell(8), nn.OptimizedLSTMCell(8)], ids=["gru", "lstm"])
def test_state_noise_has_its_size_differs_by_step_and_is_off_when_deterministic(cell):
    inputs = jnp.zeros((200, 3, 2))
    network = RecurrentNetwork(cell, 1, state_noise=0.5, learn_initial_state=False)
    variables = network.init({"params": jax.random.key(0), "noise": jax.random.key(1)}, inputs)
    start = network.apply(variables, (200,), method="initial_state")
    perturbed = network.apply(variables, start, rngs={"noise": jax.random.key(2)}, method="perturb")
    for leaf in jax.tree.leaves(perturbed):
        assert np.std(leaf) == pytest.approx(0.5, rel=0.1)
    first = network.apply(variables, inputs, rngs={"noise": jax.random.key(2)}).outputs
    assert not np.allclose(first[:, 0] - first[:1, 0], first[:, 1] - first[:1, 1], atol=1e-3)
    quiet = network.clone(deterministic=True).apply(variables, inputs).outputs
    np.testing.assert_array_equal(quiet, network.clone(state_noise=0.0).apply(variables, inputs).outputs)
    with pytest.raises(Exception, match="noise"):
        network.apply(variables, inputs)
