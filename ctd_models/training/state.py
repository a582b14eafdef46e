"""What training carries and what it returns."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from flax import struct


class TrainState(struct.PyTreeNode):
    """Everything that one training step turns into the next."""

    step: Any
    """Steps taken so far (int32)."""
    variables: dict[str, Any]
    """Flax's whole dictionary: "params" and any other collections."""
    optimizer_state: Any
    """State of the Optax optimizer, for the trainable parameters only."""
    key_data: Any
    """The key that `fit` was given, as integers; every step's randomness is folded from it and the step."""


class FitResult(struct.PyTreeNode):
    """What `Trainer.fit` returns; unpacks as `state, history = trainer.fit(...)`."""

    state: TrainState
    """The final state."""
    history: dict[str, np.ndarray] = struct.field(pytree_node=False)
    """Metric name → values. "loss" and the loss's metrics have one value a step, at the steps "step"; validation
    metrics are "validation/…", at the steps "validation/step"."""
    compile_seconds: float = struct.field(pytree_node=False, default=0.0)
    """Wall time spent compiling [s], 0 if everything was compiled before."""
    train_seconds: float = struct.field(pytree_node=False, default=0.0)
    """Wall time spent in training steps [s], without compilation, validation and checkpoints."""
    train_steps: int = struct.field(pytree_node=False, default=0)
    """Steps taken by this call: fewer than asked for if it resumed or stopped early."""
    stopped_early: bool = struct.field(pytree_node=False, default=False)
    """Whether validation stopped improving before the last step."""
    best_step: int | None = struct.field(pytree_node=False, default=None)
    """The step with the smallest (smoothed) monitored metric, that of the best checkpoint; None: nothing was validated."""

    @property
    def variables(self) -> dict[str, Any]:
        """The final variables."""
        return self.state.variables

    def __iter__(self) -> Iterator[Any]:
        return iter((self.state, self.history))


class NonFiniteLossError(FloatingPointError):
    """The loss or its gradient became NaN or infinite. `step` is the step, `state` the state before it."""

    def __init__(self, message: str, step: int, state: TrainState):
        super().__init__(message)
        self.step, self.state = step, state
