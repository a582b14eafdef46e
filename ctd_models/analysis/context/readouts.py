"""What is read out of a state: one number, by weights or by a function."""

from collections.abc import Callable
from typing import Any, no_type_check

import jax
import numpy as np
from jaxtyping import Array, Float

from ctd_models.analysis.systems import Structure, System, precision, traced

Readout = Float[Any, "d"] | Callable[[Any], Any]
"""Weights [d] on a flat state, or a function state → number (or one in an array), of the state in the model's own form."""


@no_type_check  # it checks its arguments itself
def as_readout(readout: Readout, system: System, state: Float[np.ndarray, "d"], dtype: Any) -> Any:
    """`readout` as a function of a flat state → number, a pytree that compiled analyses may keep.

    Raises:
        ValueError: weights of another size or that are not finite, or a function that returns more than one number.
    """
    if not callable(readout):
        weights = np.asarray(readout, dtype)
        if weights.shape != state.shape:
            raise ValueError(f"expected a readout of weights {state.shape} or a function, got shape {weights.shape}")
        if not np.isfinite(weights).all():
            raise ValueError("the weights of the readout are not finite")
        return jax.tree_util.Partial(_weigh, weights)
    with precision(dtype):
        function, result = traced(readout, system.structure.unravel(state))
        leaves = jax.tree.leaves(result)
        if len(leaves) != 1 or leaves[0].size != 1:
            raise ValueError(
                f"the readout must be one number, got {[leaf.shape for leaf in leaves]}: choose one of them"
            )
    return jax.tree_util.Partial(_Call(system.structure), function)


def _weigh(weights: Float[Array, "d"], state: Float[Array, "d"]) -> Float[Array, ""]:
    return weights @ state


class _Call:
    """A function of states in the model's own form, called with flat ones; equal for equal structures."""

    def __init__(self, structure: Structure):
        self.structure = structure

    def __call__(self, function: Any, state: Float[Array, "d"]) -> Float[Array, ""]:
        (value,) = jax.tree.leaves(function(self.structure.unravel(state)))
        return value.reshape(())

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, _Call) and self.structure == other.structure

    def __hash__(self) -> int:
        return hash(self.structure)


def check_settle_steps(settle_steps: Any) -> None:
    """Raises ValueError unless the steps between a probe and the readout are a whole number, not negative."""
    if isinstance(settle_steps, bool) or int(settle_steps) != settle_steps or settle_steps < 0:
        raise ValueError(f"settle_steps must be a whole number and cannot be negative, got {settle_steps}")
