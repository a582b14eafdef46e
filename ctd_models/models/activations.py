"""Nonlinearities by name: those of flax.linen, and ours."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float


def rectified_tanh(x: Float[Any, "..."]) -> Float[Array, "..."]:
    """max(tanh x, 0): a firing rate between 0 and 1. Its slope at 0 is 0, as that of relu."""
    return nn.relu(jnp.tanh(x))


ACTIVATIONS = {"rectified_tanh": rectified_tanh}
"""Those that flax.linen lacks, by name."""


def activation_named(name: Any) -> Callable[[Any], Any]:
    """The function that a field `activation` names.

    Raises:
        ValueError: there is no such function.
    """
    function = ACTIVATIONS.get(name, getattr(nn, name, None)) if isinstance(name, str) else None
    if not callable(function):
        raise ValueError(
            "activation must name a function of flax.linen, such as 'tanh' or 'relu', or one of "
            f"{sorted(ACTIVATIONS)}, got {name!r}"
        )
    return function
