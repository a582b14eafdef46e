"""What FORCE learning carries from step to step, and what it tells."""

from typing import Any, NamedTuple

from flax import struct
from jaxtyping import Array, Float

from ctd_models.training.least_squares import SymmetricMatrix
from ctd_models.training.state import TrainState

COLLECTION = "reservoir"
"""Flax's collection of the weights that stay as they are."""


class ForceState(struct.PyTreeNode):
    """Everything that a step of learning turns into the next. `variables` are the model's, at any time."""

    variables: dict[str, Any]
    """Flax's whole dictionary: the readout as learned so far, and the reservoir."""
    inverse: SymmetricMatrix | None
    """P, the inverse correlation matrix of the rates; None for a rule without it."""
    activation: Any
    """The network's state a [N]."""
    output: Any
    """The output z [O] that is fed back in the next step."""
    driver: Any
    """The target-generating network of full-FORCE: activation, recurrent and feedback weights; None otherwise."""
    step: Any
    """Steps of learning so far."""
    key_data: Any
    """The key that `init` was given, as integers; noise of a step is folded from it and the step."""


class Learning(NamedTuple):
    """What happened in each step of learning."""

    outputs: Float[Array, "T O"]
    """z, before the update of that step."""
    weight_change: Float[Array, "T"]
    """‖ΔW_out‖, which falls to small values as the network takes over."""


def as_train_state(state: ForceState) -> TrainState:
    """In the form in which checkpoints are written."""
    parts = state.inverse, state.activation, state.output, state.driver
    return TrainState(state.step, state.variables, parts, state.key_data)
