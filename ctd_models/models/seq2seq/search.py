"""Answers of a trained network: the most probable token at each step, the best of several answers, or a signal.

Each is one compiled loop, which for tokens stops when every answer has ended. They work on anything that has `encode`,
`advance` and `start` as `Seq2Seq` has.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple, no_type_check

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ctd_models.configuration import deterministic
from ctd_models.models.seq2seq.checks import check_sequences, check_variables
from ctd_models.models.seq2seq.codes import END, PADDING
from ctd_models.models.seq2seq.model import Answers


class Decoded(NamedTuple):
    """Answers that a network gave."""

    tokens: Int[Array, "*shape T"]
    """Tokens up to the end marker, then padding."""
    lengths: Int[Array, "*shape"]
    """Length of each, the end marker included; T where the answer did not end."""
    log_probabilities: Float[Array, "*shape"]
    """Log-probability of each answer [nats]."""
    attention: Float[Array, "*shape T S"] | None
    """Weights on the inputs at each step, where asked for and where there is an attention."""
    num_steps: Int[Array, ""]
    """Steps that were taken until all had ended."""


@no_type_check  # it checks its arguments itself
def greedy(
    model: nn.Module,
    variables: Mapping[str, Any],
    inputs: Any,
    input_lengths: Int[Array, "B"],
    *,
    max_length: int,
    return_attention: bool = False,
) -> Decoded:
    """The most probable token at each step, [B, max_length]; the loop stops when all answers have ended.

    Raises:
        ValueError: inputs that do not fit, or a model that answers with signals.
    """
    model = _checked(model, variables, inputs, input_lengths, max_length)
    return _greedy(model, variables, inputs, input_lengths, max_length, return_attention)


@partial(jax.jit, static_argnums=(0, 4, 5))
def _greedy(model, variables, inputs, input_lengths, max_length, return_attention):
    batch = len(inputs)
    memory, state = model.apply(variables, inputs, input_lengths, max_length, method="encode")
    return_attention = return_attention and memory.values is not None  # without attention there is nothing to return
    weights = jnp.zeros((batch, max_length, inputs.shape[1] if return_attention else 0))
    begin = {
        "state": state,
        "last": model.apply(variables, batch, method="start"),
        "tokens": jnp.full((batch, max_length), PADDING),
        "log_probabilities": jnp.zeros(batch),
        "ended": jnp.zeros(batch, bool),
        "weights": weights,
    }

    def go_on(loop):
        step, carry = loop
        return (step < max_length) & ~carry["ended"].all()

    def advance(loop):
        step, carry = loop
        state, logits, weights = model.apply(variables, memory, carry["state"], carry["last"], method="advance")
        scores = jax.nn.log_softmax(logits)
        best = scores.argmax(axis=-1)
        ended = carry["ended"]
        token = jnp.where(ended, PADDING, best)
        gained = jnp.where(ended, 0.0, jnp.take_along_axis(scores, best[:, None], axis=1)[:, 0])
        kept = carry["weights"]
        if return_attention:
            kept = kept.at[:, step].set(jnp.where(ended[:, None], 0.0, weights))
        return step + 1, {
            "state": state,
            "last": token,
            "tokens": carry["tokens"].at[:, step].set(token),
            "log_probabilities": carry["log_probabilities"] + gained,
            "ended": ended | (token == END),
            "weights": kept,
        }

    steps, end = jax.lax.while_loop(go_on, advance, (jnp.zeros((), int), begin))
    lengths = (end["tokens"] != PADDING).sum(axis=1)
    return Decoded(
        end["tokens"], lengths, end["log_probabilities"], end["weights"] if return_attention else None, steps
    )


@no_type_check  # it checks its arguments itself
def beam_search(
    model: nn.Module,
    variables: Mapping[str, Any],
    inputs: Any,
    input_lengths: Int[Array, "B"],
    *,
    max_length: int,
    beam_size: int = 4,
    length_penalty: float = 0.0,
) -> Decoded:
    """The `beam_size` best answers that are found by keeping as many at each step, best first: [B, beam_size, max_length].

    Answers are compared by log-probability / ((5 + length) / 6)^length_penalty (Wu et al. 2016, arXiv:1609.08144). The loop
    stops when the kept answers of every input have ended.

    Args:
        model, variables, inputs, input_lengths: as in `greedy`.
        max_length: T, most tokens of an answer, the end marker included.
        beam_size: answers that are kept, at most as many as there are tokens.
        length_penalty: 0: none; more prefers longer answers.

    Raises:
        ValueError: inputs that do not fit, a model that answers with signals, a beam that is too small or too large.
    """
    model = _checked(model, variables, inputs, input_lengths, max_length)
    most = model.target.vocabulary_size - 2
    if isinstance(beam_size, bool) or int(beam_size) != beam_size or not 1 <= beam_size <= most:
        raise ValueError(f"beam_size must be a whole number in 1 … {most}, got {beam_size}")
    if not 0 <= length_penalty < float("inf"):
        raise ValueError(f"length_penalty cannot be negative, got {length_penalty}")
    return _beam_search(model, variables, inputs, input_lengths, length_penalty, max_length, int(beam_size))


@partial(jax.jit, static_argnums=(0, 5, 6))
def _beam_search(model, variables, inputs, input_lengths, length_penalty, max_length, K):
    batch, vocabulary = len(inputs), model.target.vocabulary_size
    memory, state = model.apply(variables, inputs, input_lengths, max_length, method="encode")
    memory, state = jax.tree.map(lambda leaf: jnp.repeat(leaf, K, axis=0) if leaf.ndim else leaf, (memory, state))
    only_end = jnp.full(vocabulary, -jnp.inf).at[PADDING].set(0.0)  # an answer that has ended goes on with padding
    begin = {
        "state": state,
        "last": model.apply(variables, batch * K, method="start"),
        "tokens": jnp.full((batch, K, max_length), PADDING),
        "scores": jnp.tile(jnp.where(jnp.arange(K) == 0, 0.0, -jnp.inf), (batch, 1)),  # all begin alike: one counts
        "lengths": jnp.zeros((batch, K), int),
        "ended": jnp.zeros((batch, K), bool),
    }

    def normalized(scores, lengths):
        return scores / ((5 + lengths) / 6) ** length_penalty

    def go_on(loop):
        step, carry = loop
        return (step < max_length) & ~carry["ended"].all()

    def advance(loop):
        step, carry = loop
        state, logits, _ = model.apply(variables, memory, carry["state"], carry["last"], method="advance")
        scores = jax.nn.log_softmax(logits).reshape(batch, K, vocabulary)
        scores = jnp.where(carry["ended"][..., None], only_end, scores)
        total = carry["scores"][..., None] + scores
        lengths = carry["lengths"] + ~carry["ended"]
        _, best = jax.lax.top_k(normalized(total, lengths[..., None]).reshape(batch, -1), K)
        parent, token = best // vocabulary, best % vocabulary

        def of_parent(values):  # [B, K, …]
            return jnp.take_along_axis(values, parent.reshape(batch, K, *[1] * (values.ndim - 2)), axis=1)

        def of_parents(leaf):  # [B · K, …], or one number for all, such as a place
            return of_parent(leaf.reshape(batch, K, *leaf.shape[1:])).reshape(leaf.shape) if leaf.ndim else leaf

        state = jax.tree.map(of_parents, state)
        tokens = of_parent(carry["tokens"]).at[:, :, step].set(token)
        return step + 1, {
            "state": state,
            "last": token.reshape(-1),
            "tokens": tokens,
            "scores": jnp.take_along_axis(total.reshape(batch, -1), best, axis=1),
            "lengths": of_parent(lengths),
            "ended": of_parent(carry["ended"]) | (token == END),
        }

    steps, end = jax.lax.while_loop(go_on, advance, (jnp.zeros((), int), begin))
    order = jnp.argsort(-normalized(end["scores"], end["lengths"]), axis=1)
    tokens = jnp.take_along_axis(end["tokens"], order[..., None], axis=1)
    lengths, scores = (jnp.take_along_axis(end[name], order, axis=1) for name in ("lengths", "scores"))
    return Decoded(tokens, lengths, scores, None, steps)


@no_type_check  # it checks its arguments itself
def free_run(
    model: nn.Module, variables: Mapping[str, Any], inputs: Any, input_lengths: Int[Array, "B"], *, num_steps: int
) -> Answers:
    """The signal with which a network answers when each output follows its own last one: outputs [B, num_steps, O].

    `states` is None: `model.apply(variables, inputs, input_lengths, outputs)` has those that belong to these outputs.

    Raises:
        ValueError: inputs that do not fit, or a model that answers with tokens.
    """
    model = _checked(model, variables, inputs, input_lengths, num_steps, discrete=False)
    return _free_run(model, variables, inputs, input_lengths, num_steps)


@partial(jax.jit, static_argnums=(0, 4))
def _free_run(model, variables, inputs, input_lengths, num_steps):
    memory, state = model.apply(variables, inputs, input_lengths, num_steps, method="encode")

    def advance(carry, _):
        state, output, weights = model.apply(variables, memory, *carry, method="advance")
        return (state, output), (output, weights)

    begin = state, model.apply(variables, len(inputs), method="start")
    _, along = jax.lax.scan(advance, begin, length=num_steps)
    outputs, weights = jax.tree.map(lambda leaf: leaf.swapaxes(0, 1), along)
    return Answers(outputs, weights, None)


def _checked(
    model: Any, variables: Any, inputs: Any, input_lengths: Any, max_length: int, discrete: bool = True
) -> nn.Module:
    if model.target.discrete != discrete:
        wanted, other = ("searched among tokens", "free_run") if discrete else ("run as signals", "greedy")
        raise ValueError(
            f"answers are {wanted}, but this model answers with {type(model.target).__name__}: use {other}"
        )
    if isinstance(max_length, bool) or int(max_length) != max_length or max_length < 1:
        name = "max_length" if discrete else "num_steps"
        raise ValueError(f"{name} must be a whole number of at least 1, got {max_length}")
    check_variables(variables)
    check_sequences(model.source, inputs, input_lengths)
    return deterministic(model)
