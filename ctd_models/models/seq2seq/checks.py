"""Checks of sequences, before anything is compiled: shapes always, values where they are concrete."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def check_sequences(code: Any, inputs: Any, lengths: Any) -> None:
    """Inputs fit their code, and lengths fit the inputs.

    Raises:
        ValueError: says what was expected, and the offending value with its index.
    """
    check_answers(code, inputs, None, "inputs")
    check_lengths("input_lengths", lengths, inputs)


def check_lengths(name: str, lengths: Any, padded: Any) -> None:
    """There is one length for each padded sequence, of at least 1 and within its places.

    Raises:
        ValueError: says what was expected, and the offending value with its index.
    """
    if jnp.shape(lengths) != (len(padded),) or not jnp.issubdtype(jnp.result_type(lengths), jnp.integer):
        raise ValueError(
            f"expected {name} [{len(padded)}] of whole numbers, got {jnp.result_type(lengths)} of shape {jnp.shape(lengths)}"
        )
    _check_range(name, lengths, 1, padded.shape[1], "the places of the padded sequences")


def check_pairs(model: Any, inputs: Any, input_lengths: Any, targets: Any, target_lengths: Any = None) -> None:
    """Sequences and answers fit the codes of a model, and their lengths fit them.

    Raises:
        ValueError: says what was expected, and the offending value with its index.
    """
    check_sequences(model.source, inputs, input_lengths)
    check_answers(model.target, targets, len(inputs))
    if target_lengths is not None:
        check_lengths("target_lengths", target_lengths, targets)


def check_answers(code: Any, values: Any, batch_size: int | None, name: str = "targets") -> None:
    """Tokens or signals fit their code.

    Raises:
        ValueError: says what was expected, and the offending value with its index.
    """
    shape, kind = jnp.shape(values), jnp.result_type(values)
    if code.discrete:
        if len(shape) != 2 or 0 in shape or not jnp.issubdtype(kind, jnp.integer):
            raise ValueError(f"expected {name} [batch, places] of tokens, none empty, got {kind} of shape {shape}")
        _check_range(name, values, 0, code.vocabulary_size - 1, "the vocabulary")
    elif len(shape) != 3 or 0 in shape or shape[2] != code.num_channels or not jnp.issubdtype(kind, jnp.floating):
        raise ValueError(
            f"expected {name} [batch, places, {code.num_channels}] of real values, none empty, got {kind} of shape {shape}"
        )
    if batch_size is not None and shape[0] != batch_size:
        raise ValueError(f"there are {batch_size} inputs, but {shape[0]} {name}")


def _check_range(name: str, values: Any, low: int, high: int, what: str) -> None:
    if isinstance(values, jax.core.Tracer):
        return
    values = np.asarray(values)
    if (bad := (values < low) | (values > high)).any():
        index = tuple(int(i) for i in np.argwhere(bad)[0])
        raise ValueError(f"{name} must lie in {low} … {high} ({what}), got {values[index]} at index {index}")
