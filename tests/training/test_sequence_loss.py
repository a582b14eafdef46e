"""The loss of answers by hand: what is behind their end does not count."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ctd_models import GRUCell, Trainer
from ctd_models.models.seq2seq import AdditiveAttention, RecurrentDecoder, RecurrentEncoder, Seq2Seq, Signals, Tokens
from ctd_models.tasks import CopySequence, SequencePairs
from ctd_models.training import sequence_loss

KEY = jax.random.key(0)


def model(code):
    parts = RecurrentEncoder((GRUCell(6),)), RecurrentDecoder((GRUCell(6),)), AdditiveAttention(6)
    return Seq2Seq(code(), code(), *parts)


def loss_and_outputs(model, variables, pairs, **options):
    loss = sequence_loss(model, **options)
    both = jax.jit(lambda v: (loss(v, pairs, {}, 0, False), model.apply(v, *pairs[:3]).outputs))
    (value, metrics), outputs = both(variables)
    return value, metrics, np.asarray(outputs)


def test_cross_entropy_and_accuracies_of_tokens(random_variables):
    answering = model(lambda: Tokens(6, 4))
    pairs = CopySequence(num_symbols=3, longest=4).sample(KEY, 7)
    variables = random_variables(answering, *pairs[:3])
    value, metrics, outputs = loss_and_outputs(answering, variables, pairs, l2=0.5)
    logs = outputs - np.log(np.exp(outputs).sum(axis=-1, keepdims=True))
    said, right, whole = [], [], []
    for log, target, length in zip(logs, np.asarray(pairs.targets), np.asarray(pairs.target_lengths), strict=True):
        said += [log[t, target[t]] for t in range(length)]
        hits = [log[t].argmax() == target[t] for t in range(length)]
        right, whole = right + hits, [*whole, all(hits)]
    np.testing.assert_allclose(metrics["cross_entropy"], -np.mean(said), rtol=1e-5)
    np.testing.assert_allclose(
        [metrics["token_accuracy"], metrics["sequence_accuracy"]], [np.mean(right), np.mean(whole)]
    )
    squares = sum((leaf**2).sum() for leaf in jax.tree.leaves(variables))
    np.testing.assert_allclose(value, metrics["cross_entropy"] + 0.5 * squares, rtol=1e-5)


def test_squared_error_of_signals(random_variables):
    answering = model(lambda: Signals(2))
    values = jax.random.normal(KEY, (3, 5, 2))
    lengths = jnp.array([5, 2, 3])
    pairs = SequencePairs(values, lengths, values, lengths)
    _, metrics, outputs = loss_and_outputs(answering, random_variables(answering, *pairs[:3]), pairs)
    errors = [((outputs[i, :n] - values[i, :n]) ** 2).ravel() for i, n in enumerate(lengths)]
    np.testing.assert_allclose(metrics["mse"], np.concatenate(errors).mean(), rtol=1e-5)


@pytest.mark.slow
def test_a_network_learns_to_copy_with_scheduled_sampling():
    answering = model(lambda: Tokens(5, 4))
    task = CopySequence(num_symbols=2, longest=2)
    loss = sequence_loss(answering, sampling_rate=optax.linear_schedule(0.0, 0.5, 100))
    trainer = Trainer(answering, loss, optax.adam(2e-2), batch_size=32)
    result = trainer.fit(task, 150, KEY, validation=task)
    assert result.history["validation/sequence_accuracy"][-1] > 0.9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": np.full((7, 4), 9)}, r"data: inputs must lie in 0 … 5 \(the vocabulary\), got 9"),
        ({"targets": np.full((7, 5), -1)}, "targets must lie in 0 … 5"),
        ({"target_lengths": np.full(7, 6)}, r"target_lengths must lie in 1 … 5 .*got 6 at index \(0,\)"),
        ({"target_lengths": np.ones((7, 5), int)}, r"expected target_lengths \[7\] of whole numbers"),
    ],
)
def test_bad_arrays_are_refused_before_training(change, message):
    answering = model(lambda: Tokens(6, 4))
    arrays = {name: np.asarray(part) for name, part in CopySequence(3, longest=4).sample(KEY, 7)._asdict().items()}
    trainer = Trainer(answering, sequence_loss(answering), optax.adam(1e-3), batch_size=7)
    with pytest.raises(ValueError, match=message):
        trainer.fit(arrays | change, 1, KEY)


def test_a_task_with_other_symbols_than_the_models_is_refused_before_training():
    answering = model(lambda: Tokens(6, 4))
    trainer = Trainer(answering, sequence_loss(answering), optax.adam(1e-3), batch_size=32)
    task = CopySequence(num_symbols=3, longest=4)
    with pytest.raises(ValueError, match="data: inputs must lie in 0 … 5"):
        trainer.fit(CopySequence(num_symbols=16, longest=4), 1, KEY)
    with pytest.raises(ValueError, match="validation: inputs must lie in 0 … 5"):
        trainer.fit(task, 1, KEY, validation=CopySequence(num_symbols=16, longest=4))


@pytest.mark.parametrize("arguments", [{"l2": -1.0}, {"sampling_rate": 1.5}])
def test_bad_arguments(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        sequence_loss(model(lambda: Tokens(6, 4)), **arguments)
