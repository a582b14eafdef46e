"""The shared trainer: compiled intervals of many steps, validation, early stopping, checkpoints and resuming."""

import contextlib
import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, no_type_check

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import PRNGKeyArray

from ctd_models.configuration import to_config
from ctd_models.training import programs
from ctd_models.training.losses import Loss
from ctd_models.training.run import Run
from ctd_models.training.sources import HostSource, Task, as_source, check_finite, is_arrays
from ctd_models.training.state import FitResult
from ctd_models.training.trainable import Trainable

Callback = Callable[[int, dict[str, Any], dict[str, float]], None]
"""`callback(step, variables, metrics)`, called after each validation with NumPy copies of the variables."""


@dataclasses.dataclass
class Trainer:
    """Trains a Flax module with a loss and an Optax optimizer.

    Many steps run as one compiled loop with donated state; batches are made inside it. Every step's randomness follows
    from the key of `fit` and the step's number, so that a run does not depend on where it was interrupted.
    """

    model: nn.Module
    """The module."""
    loss: Loss
    """`loss(variables, batch, rngs, step, training) -> (scalar, metrics)`."""
    optimizer: optax.GradientTransformation
    """Any Optax optimizer. Its update is given `value=loss`, which plateau schedules need."""
    batch_size: int | None = None
    """Trials in a batch; None: 128, or all trials of smaller arrays. Batch sources on the host choose their own."""
    validate_every: int = 500
    """Steps between validations."""
    checkpoint_every: int = 500
    """Steps between checkpoints. One is also saved when validation improves, at the end, and on SIGTERM or Ctrl-C."""
    monitor: str = "loss"
    """Validation metric that decides about the best checkpoint and early stopping; smaller is better."""
    smoothing: float = 0.0
    """Weight of the past in the exponentially smoothed monitored metric, in [0, 1)."""
    patience: int | None = None
    """Stop after this many validations without improvement; None: never."""
    init: Callable[[dict[str, PRNGKeyArray], Any], dict[str, Any]] | None = None
    """`init(rngs, batch) -> variables`; None: the loss's own method `init`, else `model.init(rngs, inputs of the batch)`."""
    loop: str = "scan"
    """"scan": many steps in one compiled loop. "step": one compiled step a call, same results, faster where a backend is
    slow in nested loops."""
    tensorboard: bool = False
    """Also write metrics for TensorBoard, into `checkpoint_dir/tensorboard` (needs the extra `tensorboard`)."""
    progress: bool | None = None
    """Show a progress bar; None: only on a terminal."""

    def __post_init__(self):
        for name in ("validate_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.patience is not None and self.patience < 1:
            raise ValueError(f"patience must be at least 1 or None, got {self.patience}")
        if not 0 <= self.smoothing < 1:
            raise ValueError(f"smoothing must lie in [0, 1), got {self.smoothing}")
        if self.loop not in ("scan", "step"):
            raise ValueError(f"loop must be 'scan' or 'step', got {self.loop!r}")
        if not isinstance(self.model, nn.Module):
            raise TypeError(f"model must be a flax.linen.Module, got {type(self.model).__name__}")
        if not (hasattr(self.optimizer, "init") and hasattr(self.optimizer, "update")):
            raise TypeError(f"optimizer must be one of Optax's form, such as optax.adam(1e-3), got {self.optimizer!r}")
        self.optimizer = optax.with_extra_args_support(self.optimizer)
        self._programs: dict[Any, programs.Program] = {}

    @no_type_check  # it checks its arguments itself
    def fit(
        self,
        data: Any,
        num_steps: int,
        key: PRNGKeyArray,
        *,
        checkpoint_dir: str | os.PathLike | None = None,
        variables: Mapping[str, Any] | None = None,
        trainable: Trainable = None,
        validation: Any = None,
        callbacks: Sequence[Callback] = (),
    ) -> FitResult:
        """Trains until `num_steps` steps have been taken in total.

        Args:
            data: a task (`sample(key, batch_size)`; fresh trials each step), a pytree of arrays with trials along the
                first axis, a function step → batch, or an iterator of batches. Only a plain iterator cannot be resumed.
            num_steps: total number of steps; a directory with a checkpoint continues from it.
            key: `jax.random.key(seed)`, from which all randomness follows.
            checkpoint_dir: where checkpoints and `metrics.jsonl` go; None: nowhere.
            variables: starting values, Flax's whole dictionary; None: initialised from the key.
            trainable: the parameters that are updated: names, patterns, a function or a pytree of bools; None: all.
            validation: a task (8 batches, always the same trials) or arrays (every trial, without weighting by masks).
            callbacks: called after each validation.

        Returns:
            The final state and the history of metrics, with timings.

        Raises:
            ValueError, TypeError: bad arguments or data, before anything is compiled.
            NonFiniteLossError: the loss or its gradient became NaN or infinite.
            CheckpointError: the directory cannot be used, or holds another run.
        """
        _check_arguments(num_steps, key, variables)
        if validation is None and (self.patience is not None or callbacks):
            raise ValueError("patience and callbacks need validation=, which they follow")
        if checkpoint_dir is None and self.tensorboard:
            raise ValueError("tensorboard=True needs a checkpoint_dir to write to")
        if checkpoint_dir is not None:
            to_config(self.model)  # what cannot be written is said before training
        for what, given in (("data", data), ("validation", validation)):
            self._check_data(given, what)
        source = as_source(data, self.batch_size)
        checks = None if validation is None else as_source(validation, self.batch_size, "validation", at_most=True)
        if isinstance(checks, HostSource):
            raise TypeError("validation must be a task or arrays")
        variables = None if variables is None else jax.tree.map(np.array, dict(variables))
        run = Run(self, source, checks, num_steps, key, variables, trainable, callbacks)
        if checkpoint_dir is None:
            return run.finish(None)
        from ctd_models.training.checkpoints import CheckpointWriter

        with CheckpointWriter(checkpoint_dir, self.model, source.fingerprint) as writer:
            return run.finish(writer)

    @no_type_check  # it checks its arguments itself
    def fit_many(
        self,
        data: Any,
        num_steps: int,
        keys: PRNGKeyArray,
        *,
        checkpoint_dir: str | os.PathLike | None = None,
        trainable: Trainable = None,
        validation: Any = None,
    ) -> list[FitResult]:
        """Trains one network for each key, in one compiled program; each ends as `fit` with its key would.

        A network whose loss is not finite stops at its last good state, with a RuntimeWarning, and the others go on.

        Args:
            data: a task or arrays, as in `fit`.
            num_steps: total number of steps of each network.
            keys: one key for each network, such as `jax.random.split(key, 10)`.
            checkpoint_dir: network i is saved in its folder `network_i`, as by `fit`, and continues from there.
            trainable, validation: as in `fit`.

        Returns:
            The results of the networks, in the order of the keys. Time in training is shared out equally.

        Raises:
            ValueError, TypeError: bad arguments or data, before anything is compiled.
            CheckpointError: a directory cannot be used, or holds another run.
        """
        if not (
            hasattr(keys, "dtype") and jnp.issubdtype(keys.dtype, jax.dtypes.prng_key) and keys.ndim == 1 and len(keys)
        ):
            raise TypeError(f"keys must be typed keys [networks], such as jax.random.split(key, 10), got {keys!r}")
        _check_arguments(num_steps, keys[0], None)
        if self.patience is not None:
            raise ValueError("fit_many trains all networks to the last step: patience must be None")
        for what, given in (("data", data), ("validation", validation)):
            self._check_data(given, what)
        source = as_source(data, self.batch_size)
        checks = None if validation is None else as_source(validation, self.batch_size, "validation", at_most=True)
        if isinstance(source, HostSource) or isinstance(checks, HostSource):
            raise TypeError("fit_many takes a task or arrays, whose batches are made inside the compiled program")
        from ctd_models.training.ensemble import Ensemble

        ensemble = Ensemble(self, source, checks, num_steps, keys, trainable)
        if checkpoint_dir is None:
            return ensemble.finish_all([None] * len(keys))
        from ctd_models.training.checkpoints import CheckpointWriter

        with contextlib.ExitStack() as stack:
            folders = (os.path.join(checkpoint_dir, f"network_{i}") for i in range(len(keys)))
            writers = [stack.enter_context(CheckpointWriter(f, self.model, source.fingerprint)) for f in folders]
            return ensemble.finish_all(writers)

    def _check_data(self, data: Any, what: str) -> None:
        """Lets a loss that knows what data should look like check arrays (its method `check(arrays, what)`), or a batch that
        a task makes (`check_batch(batch, what)`)."""
        if hasattr(self.loss, "check") and is_arrays(data):
            self.loss.check(data, what)
        if hasattr(self.loss, "check_batch") and isinstance(data, Task):
            self.loss.check_batch(jax.jit(data.sample, static_argnums=1)(jax.random.key(0), self.batch_size), what)

    def program(self, name: str, static: Any, function: Callable[..., Any], **options: Any) -> programs.Program:
        """The compiled program `name`, made once for each `static` description of what it closes over.

        `options` are those of `Program`.
        """
        parts = (self.model, self.loss, self.optimizer, self.init)  # a field may have been set to something else since
        cache_key = (name, static, *map(id, parts))
        if cache_key not in self._programs:
            self._programs[cache_key] = programs.Program(function, **options)
        return self._programs[cache_key]


def _check_arguments(num_steps: Any, key: Any, variables: Any) -> None:
    if isinstance(num_steps, bool) or not isinstance(num_steps, (int, np.integer)) or num_steps < 1:
        raise ValueError(f"num_steps must be an integer of at least 1, got {num_steps!r}")
    if not (hasattr(key, "dtype") and jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.shape == ()):
        raise TypeError(f"key must be one typed key, such as jax.random.key(0), got {key!r}")
    if variables is not None:
        if not isinstance(variables, Mapping) or "params" not in variables:
            raise TypeError("variables must be Flax's whole dictionary, {'params': {...}, ...}")
        check_finite(jax.tree.map(np.asarray, dict(variables)), "variables")
