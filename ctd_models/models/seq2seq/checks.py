"""Checks of sequences, before anything is compiled: shapes always, values where they are concrete."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ctd_models.models.seq2seq.codes import END, PADDING


def check_sequences(code: Any, inputs: Any, lengths: Any) -> None:
    """Inputs fit their code, and lengths fit the inputs.

    Raises:
        ValueError: says what was expected, and the offending value with its index.
    """
    check_answers(code, inputs, None, "inputs")
    check_lengths("input_lengths", lengths, inputs)
    if code.discrete and not any(isinstance(part, jax.core.Tracer) for part in (inputs, lengths)):
        padding = (np.asarray(inputs) == PADDING) & (np.arange(inputs.shape[1]) < np.asarray(lengths)[:, None])
        if padding.any():
            row, column = np.argwhere(padding)[0].tolist()
            raise ValueError(f"input {row} has {int(lengths[row])} places, but padding ({PADDING}) at place {column}")


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
    if target_lengths is None:
        return
    check_lengths("target_lengths", target_lengths, targets)
    if model.target.discrete and not any(isinstance(part, jax.core.Tracer) for part in (targets, target_lengths)):
        _check_ends(np.asarray(targets), np.asarray(target_lengths))


def check_parts(model: Any) -> None:
    """A model has two codes, and an attention that is one or None.

    Raises:
        TypeError, ValueError
    """
    for name in ("source", "target"):
        if not hasattr(getattr(model, name), "embedded_size"):
            raise TypeError(f"{name} must be a code, such as Tokens(20) or Signals(2), got {getattr(model, name)!r}")
    if model.source is model.target:
        raise ValueError("source and target need a code each: one for both would not come back from a checkpoint")
    attention = getattr(model, "attention", None)
    if attention is not None and (isinstance(attention, type) or not callable(getattr(attention, "keys", None))):
        raise TypeError(
            f"attention must be a module with keys(values), such as AdditiveAttention(32), or None, got {attention!r}"
        )


def check_variables(variables: Any) -> None:
    """Variables are Flax's whole dictionary.

    Raises:
        TypeError
    """
    if not isinstance(variables, Mapping) or "params" not in variables:
        raise TypeError("variables must be Flax's whole dictionary of collections, {'params': {...}}")


def check_answers(code: Any, values: Any, batch_size: int | None, name: str = "targets") -> None:
    """Tokens or signals fit their code.

    Raises:
        ValueError: says what was expected, and the offending value with its index.
    """
    if not hasattr(values, "dtype"):
        raise ValueError(f"expected {name} to be an array, got {type(values).__name__}")
    shape, kind = values.shape, values.dtype
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


def _check_ends(targets: np.ndarray, lengths: np.ndarray) -> None:
    """Answers are symbols, and then the end marker at their last place."""
    place = np.arange(targets.shape[1])
    ends = place == lengths[:, None] - 1
    wrong = np.where(ends, targets != END, (targets <= END) & (place < lengths[:, None]))
    if wrong.any():
        row, column = np.argwhere(wrong)[0].tolist()
        raise ValueError(
            f"answers are symbols (from {END + 1} on), and the end marker {END} at their last place, target_lengths - 1; "
            f"answer {row} of length {lengths[row]} has {targets[row, column]} at place {column}"
        )


def _check_range(name: str, values: Any, low: int, high: int, what: str) -> None:
    if isinstance(values, jax.core.Tracer):
        return
    values = np.asarray(values)
    if (bad := (values < low) | (values > high)).any():
        index = tuple(int(i) for i in np.argwhere(bad)[0])
        raise ValueError(f"{name} must lie in {low} … {high} ({what}), got {values[index]} at index {index}")
