"""The loss of models that answer one sequence with another."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from ctd_models.configuration import deterministic
from ctd_models.tasks import SequencePairs, length_mask
from ctd_models.training.losses import Loss


def sequence_loss(model: nn.Module, l2: float = 0.0, sampling_rate: float | Callable[[Any], Any] = 0.0) -> Loss:
    """How badly a `Seq2Seq` answers: cross-entropy [nats a token] or, of signals, squared error; plus l2 · ‖params‖².

    Batches are `SequencePairs`; what is behind the end of an answer does not count. In validation each output follows the
    right last one (teacher forcing), and so it does in training, but for scheduled sampling.

    Args:
        model: of the form of `Seq2Seq`.
        l2: weight of the sum of squares of all parameters.
        sampling_rate: probability that, in training, an output follows the network's own last one: a number, or a schedule
            of Optax's form, step → probability (Bengio, Vinyals, Jaitly & Shazeer 2015, arXiv:1506.03099).

    Metrics:
        cross_entropy, token_accuracy, sequence_accuracy (all tokens right) of tokens; mse of signals.

    Raises:
        ValueError: l2 is negative, or a sampling rate is no probability. Arrays that are trained on are checked before
            anything is compiled.
    """
    if not 0 <= l2 < float("inf"):
        raise ValueError(f"l2 cannot be negative, got {l2}")
    if not callable(sampling_rate) and (isinstance(sampling_rate, bool) or not 0 <= sampling_rate <= 1):
        raise ValueError(f"sampling_rate must lie in [0, 1], got {sampling_rate}")
    quiet = deterministic(model)

    def loss(variables, batch, rngs, step, training):
        batch = _pairs(batch)
        sampled = training and (callable(sampling_rate) or sampling_rate > 0)
        rngs = rngs if sampled else {name: key for name, key in rngs.items() if name != "sample"}
        rate = (sampling_rate(step) if callable(sampling_rate) else sampling_rate) if sampled else 0.0
        given = batch.inputs, batch.input_lengths, batch.targets, rate
        outputs = (model if training else quiet).apply(variables, *given, rngs=rngs).outputs
        counts = length_mask(batch.target_lengths, outputs.shape[1])
        measure = _of_tokens if model.target.discrete else _of_signals
        value, metrics = measure(outputs, batch.targets, counts)
        penalty = l2 * optax.tree.norm(variables["params"], squared=True) if l2 else 0.0
        return value + penalty, metrics

    loss.init = lambda rngs, batch: quiet.init(rngs, *_pairs(batch)[:3])
    loss.check = loss.check_batch = partial(_check, model)
    return loss


def _check(model: Any, arrays: Any, what: str) -> None:
    try:
        model.check(*_pairs(arrays))
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from None


def _pairs(batch: Any) -> SequencePairs:
    return SequencePairs(**batch) if isinstance(batch, Mapping) else SequencePairs(*batch)


def _of_tokens(logits: Any, targets: Any, counts: Any) -> tuple[Any, dict[str, Any]]:
    targets = jnp.where(counts, targets, targets[:, :1])  # padding is never said: its logit would be lost in the sum
    errors = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
    value = (errors * counts).sum() / counts.sum()
    right = jax.lax.stop_gradient(logits).argmax(axis=-1) == targets
    return value, {
        "cross_entropy": value,
        "token_accuracy": (right * counts).sum() / counts.sum(),
        "sequence_accuracy": (right | ~counts).all(axis=1).mean(),
    }


def _of_signals(outputs: Any, targets: Any, counts: Any) -> tuple[Any, dict[str, Any]]:
    weights = counts[..., None] / targets.shape[-1]
    value = (weights * (outputs - targets) ** 2).sum() / counts.sum()
    return value, {"mse": value}
