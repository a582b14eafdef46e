"""The shared trainer: compiled intervals of many steps, validation, early stopping, checkpoints and resuming."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import PRNGKeyArray
from tqdm.auto import tqdm

from ctd_models.configuration import to_config
from ctd_models.training import programs
from ctd_models.training.history import History
from ctd_models.training.interruption import Interruption
from ctd_models.training.losses import Loss
from ctd_models.training.sources import ArraySource, HostSource, Source, as_source, check_finite
from ctd_models.training.state import FitResult, NonFiniteLossError, TrainState
from ctd_models.training.trainable import Trainable, trainable_names

Callback = Callable[[int, dict[str, Any], dict[str, float]], None]
"""`callback(step, variables, metrics)`, called after each validation with NumPy copies of the variables."""

MAX_STEPS_PER_CALL = 1000
SECONDS_PER_CALL = 1.0


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
    """`init(rngs, batch) -> variables`; None: `model.init(rngs, inputs of the batch)`."""
    loop: str = "scan"
    """"scan": many steps in one compiled loop. "step": one compiled step a call, same results, faster where a backend is
    slow in nested loops."""
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
        self.optimizer = optax.with_extra_args_support(self.optimizer)
        self._programs: dict[Any, programs.Program] = {}

    def fit(
        self,
        data: Any,
        num_steps: int,
        key: PRNGKeyArray,
        *,
        checkpoint_dir: str | None = None,
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
        source = as_source(data, self.batch_size)
        checks = None if validation is None else as_source(validation, self.batch_size, "validation")
        if isinstance(checks, HostSource):
            raise TypeError("validation must be a task or arrays")
        variables = None if variables is None else jax.tree.map(np.array, dict(variables))
        run = _Run(self, source, checks, num_steps, key, variables, trainable, callbacks)
        if checkpoint_dir is None:
            return run.finish(None)
        to_config(self.model)  # what cannot be written is said before training
        from ctd_models.training.checkpoints import CheckpointWriter

        with CheckpointWriter(checkpoint_dir, self.model) as writer:
            return run.finish(writer)

    def program(self, name: str, static: Any, function: Callable[..., Any], donate: bool = False) -> programs.Program:
        """The compiled program `name`, made once for each `static` description of what it closes over."""
        cache_key = (name, static)
        if cache_key not in self._programs:
            self._programs[cache_key] = programs.Program(function, (0,) if donate else ())
        return self._programs[cache_key]


class _Run:
    """One call of `fit`."""

    def __init__(self, trainer, source, checks, num_steps, key, variables, trainable, callbacks):
        self.trainer, self.source, self.checks, self.num_steps = trainer, source, checks, num_steps
        self.callbacks, self.key, self.given = callbacks, key, variables
        self.impl = jax.random.key_impl(key)
        self.names = self._trainable_names(trainable)
        self.compiled_before = self._compile_seconds()
        self.train_seconds = 0.0
        self.seconds_per_step: float | None = None

    # Programs ---------------------------------------------------------------------------------------------------------

    def _first_batch(self) -> Any:
        return () if self.source.compiled else self.source.first()

    def _initialize(self, key: PRNGKeyArray, arrays: Any) -> dict[str, Any]:
        keys = programs.Keys.of(jax.random.key_data(key), self.impl)
        batch = self.source.batch(arrays, keys.data, jnp.int32(0)) if self.source.compiled else arrays
        rngs = {"params": keys.params, **programs.streams(keys.loss, programs.STREAMS)}
        if self.trainer.init is not None:
            return self.trainer.init(rngs, batch)
        return self.trainer.model.init(rngs, _inputs(batch))

    def _arrays(self) -> Any:
        return self.source.arrays if self.source.compiled else self._first_batch()

    def _trainable_names(self, trainable: Trainable):
        shapes = self.given
        if shapes is None:
            shapes = jax.eval_shape(self._initialize, self.key, self._arrays())
        if "params" not in shapes:
            raise ValueError(f"the variables have no collection 'params' to train, only {sorted(shapes)}")
        return trainable_names(shapes["params"], trainable)

    def _begin(self) -> TrainState:
        """The state before the first step, by one compiled program."""
        fresh = partial(programs.fresh_state, self.trainer.optimizer, names=self.names)
        if self.given is not None:
            begin = self.trainer.program("begin", ("given", self.names), lambda v, k: fresh(v, key=k))
            return begin(self.given, self.key)
        static = (self.source.static, self.names, self.impl)
        begin = self.trainer.program("begin", static, lambda arrays, k: fresh(self._initialize(k, arrays), key=k))
        return begin(self._arrays(), self.key)

    def _step(self, make_batch):
        return partial(
            programs.one_step,
            make_batch=make_batch,
            loss=self.trainer.loss,
            optimizer=self.trainer.optimizer,
            names=self.names,
            key_impl=self.impl,
        )

    def _train(self, state: TrainState, steps: int) -> tuple[TrainState, dict[str, np.ndarray], bool]:
        """Takes up to `steps` steps: (state, metrics [steps taken], whether all were finite)."""
        static = (self.source.static, self.names, self.impl)
        if self.source.compiled and self.trainer.loop == "scan":
            step = self._step(self.source.batch)
            train = self.trainer.program("train", static, programs.many_steps(step, MAX_STEPS_PER_CALL), donate=True)
            state, records, taken, finite = train(state, self.source.arrays, np.int32(steps))
            return state, {name: np.asarray(values)[: int(taken)] for name, values in records.items()}, bool(finite)
        make_batch = self.source.batch if self.source.compiled else lambda batch, key, step: batch
        train = self.trainer.program("train step", static, self._step(make_batch), donate=True)
        rows, first = [], int(state.step)
        for i in range(steps):
            arrays = self.source.arrays if self.source.compiled else self.source.next(first + i)
            state, metrics, finite = train(state, arrays)
            rows.append((metrics, finite))
        rows = jax.device_get(rows)
        taken = next((i + 1 for i, (_, finite) in enumerate(rows) if not finite), steps)
        metrics = {name: np.asarray([row[0][name] for row in rows[:taken]]) for name in rows[0][0]}
        return state, metrics, all(finite for _, finite in rows)

    def _validate(self, state: TrainState) -> dict[str, float]:
        static = (self.checks.static, self.impl)
        function = programs.validate(self.trainer.loss, self.checks, self.impl)
        run = self.trainer.program("validate", static, function)
        metrics = run(state.variables, self.checks.arrays, state.key_data, state.step)
        return {name: float(value) for name, value in metrics.items()}

    def _compile_seconds(self) -> float:
        return sum(program.compile_seconds for program in self.trainer._programs.values())

    # The run on the host ----------------------------------------------------------------------------------------------

    def finish(self, writer) -> FitResult:
        """Begins or resumes, and goes on to the last step."""
        resuming = writer is not None and writer.latest_step is not None
        if resuming and not self.source.compiled and not self.source.resumable:
            self.source.restore(None)
        state = self._begin()
        if resuming:
            state, source_state = writer.resume(state)
            if not self.source.compiled:
                self.source.restore(source_state)
        first_step = step = int(state.step)
        if step > self.num_steps:
            raise ValueError(f"{writer.directory} holds {step} steps already, more than num_steps = {self.num_steps}")
        history = History(writer.directory if writer else None, up_to_step=step)
        progress = tqdm(
            total=self.num_steps,
            initial=step,
            unit="step",
            disable=None if self.trainer.progress is None else not self.trainer.progress,
        )
        stopped = self._should_stop(history)
        with contextlib.closing(progress), Interruption(enabled=writer is not None) as interruption:
            while step < self.num_steps and not stopped:
                state, step = self._advance(state, step, history, writer, progress)
                metric = self._check_in(state, step, history, progress)
                stopped = self._should_stop(history)
                ends = step == self.num_steps or stopped or interruption.requested
                if writer and (ends or step % self.trainer.checkpoint_every == 0 or self._improved(history, step)):
                    writer.save(state, None if self.source.compiled else self.source.state(), metric)
                if interruption.requested:
                    writer.wait()
                    interruption.deliver()
        return FitResult(
            state,
            history.arrays(),
            compile_seconds=self._compile_seconds() - self.compiled_before,
            train_seconds=self.train_seconds,
            train_steps=step - first_step,
            stopped_early=stopped and step < self.num_steps,
        )

    def _advance(self, state, step, history, writer, progress) -> tuple[TrainState, int]:
        """Some steps, up to the next event and about a second of work."""
        trainer, compiled = self.trainer, self._compile_seconds()
        until = min(self.num_steps, *(step - step % n + n for n in (trainer.validate_every, trainer.checkpoint_every)))
        limit = 1 if self.seconds_per_step is None else int(SECONDS_PER_CALL / self.seconds_per_step)
        steps = min(until - step, max(1, min(limit, MAX_STEPS_PER_CALL)))
        start = time.perf_counter()
        state, metrics, finite = self._train(state, steps)
        seconds = time.perf_counter() - start - (self._compile_seconds() - compiled)
        taken = len(metrics["loss"])
        self.train_seconds += seconds
        self.seconds_per_step = seconds / taken
        if not finite:
            self._stop_at_non_finite(state, step + taken, history, metrics, step, writer)
        history.append_steps(step + 1, metrics)
        progress.update(taken)
        progress.set_postfix(loss=f"{metrics['loss'][-1]:.3g}")
        return state, step + taken

    def _stop_at_non_finite(self, state, failed, history, metrics, step, writer) -> None:
        value, norm = metrics["loss"][-1], metrics["gradient_norm"][-1]
        if len(metrics["loss"]) > 1:
            history.append_steps(step + 1, {name: values[:-1] for name, values in metrics.items()})
        saved = ""
        if writer is not None:
            if failed > 1:
                writer.save(state, None if self.source.compiled else self.source.state())
                writer.wait()
            saved = f"; the last good checkpoint is step {writer.latest_step} in {writer.directory}"
        raise NonFiniteLossError(
            f"training stopped at step {failed}: the loss is {value} and the norm of its gradient {norm}{saved}. "
            "The exception's .state is the state before that step",
            failed,
            state,
        )

    def _check_in(self, state, step, history, progress) -> float | None:
        """Validates where it is due: the monitored metric, smoothed, or None."""
        if self.checks is None or (step % self.trainer.validate_every and step != self.num_steps):
            return None
        metrics = self._validate(state)
        if self.trainer.monitor not in metrics:
            raise ValueError(f"monitor is {self.trainer.monitor!r}, the validation metrics are {sorted(metrics)}")
        history.append_validation(step, metrics)
        progress.set_postfix(loss=f"{history.column('loss')[-1]:.3g}", validation=f"{metrics['loss']:.3g}")
        for callback in self.callbacks:
            callback(step, jax.tree.map(np.array, state.variables), metrics)
        return self._smoothed(history)[-1]

    def _smoothed(self, history: History) -> list[float]:
        """The monitored metric at each validation so far, exponentially smoothed."""
        smoothed: list[float] = []
        for value in history.column(f"validation/{self.trainer.monitor}"):
            past = smoothed[-1] if smoothed else value
            smoothed.append(self.trainer.smoothing * past + (1 - self.trainer.smoothing) * value)
        return smoothed

    def _improved(self, history: History, step: int) -> bool:
        values = self._smoothed(history)
        fresh = bool(values) and history.column("validation/step")[-1] == step
        return fresh and values[-1] == min(values)

    def _should_stop(self, history: History) -> bool:
        values = self._smoothed(history)
        if self.trainer.patience is None or not values:
            return False
        return len(values) - 1 - int(np.argmin(values)) >= self.trainer.patience


def _inputs(batch: Any) -> Any:
    """What the model is initialised with: the batch's field or key `inputs`, else its first element, else itself."""
    if hasattr(batch, "inputs"):
        return batch.inputs
    if isinstance(batch, Mapping):
        if "inputs" not in batch:
            raise ValueError(f"the batch has the keys {sorted(batch)}, not 'inputs': pass Trainer(init=...)")
        return batch["inputs"]
    return batch[0] if isinstance(batch, (tuple, list)) else batch


def _check_arguments(num_steps: int, key: PRNGKeyArray, variables: Any) -> None:
    if isinstance(num_steps, bool) or not isinstance(num_steps, (int, np.integer)) or num_steps < 1:
        raise ValueError(f"num_steps must be an integer of at least 1, got {num_steps!r}")
    if not (hasattr(key, "dtype") and jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.shape == ()):
        raise TypeError(f"key must be one typed key, such as jax.random.key(0), got {key!r}")
    if variables is not None:
        if not isinstance(variables, Mapping) or "params" not in variables:
            raise TypeError("variables must be Flax's whole dictionary, {'params': {...}, ...}")
        check_finite(jax.tree.map(np.asarray, dict(variables)), "variables")


__all__ = ["ArraySource", "Callback", "Source", "Trainer"]
