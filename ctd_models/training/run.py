"""One run of training on the host: compiled programs in turn with validation, checkpoints and progress."""

import contextlib
import sys
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray
from tqdm.auto import tqdm

from ctd_models.training import programs
from ctd_models.training.history import History
from ctd_models.training.interruption import Interruption
from ctd_models.training.sources import Source
from ctd_models.training.state import FitResult, NonFiniteLossError, TrainState
from ctd_models.training.trainable import Names, Trainable, trainable_names

MAX_STEPS_PER_CALL = 1000
SECONDS_PER_CALL = 1.0


class Run:
    """One call of `Trainer.fit`: begins or resumes, then goes from event to event until the last step."""

    def __init__(self, trainer, source, checks, num_steps, key, variables, trainable, callbacks):
        self.trainer, self.source, self.checks, self.num_steps = trainer, source, checks, num_steps
        self.callbacks, self.key, self.given = callbacks, key, variables
        self.impl = jax.random.key_impl(key)
        self.names = self._checked_names(trainable)
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
        init = self.trainer.init or getattr(self.trainer.loss, "init", None)
        if init is not None:
            return init(rngs, batch)
        return self.trainer.model.init(rngs, _inputs(batch))

    def _arrays(self) -> Any:
        return self.source.arrays if self.source.compiled else self._first_batch()

    def _checked_names(self, trainable: Trainable) -> Names:
        """Names of the trainable parameters, after a dry run of the loss that shows what does not fit."""
        variables = self.given
        if variables is None:
            variables = jax.eval_shape(self._initialize, self.key, self._arrays())
        if "params" not in variables:
            raise ValueError(f"the variables have no collection 'params' to train, only {sorted(variables)}")
        for source, training in ((self.source, True), (self.checks, False)):
            if source is not None:
                shapes = self._batch_shapes(source)
                metrics = programs.check_loss(self.trainer.loss, variables, shapes, self.key, training)
                if not training and self.trainer.monitor not in metrics:
                    raise ValueError(f"monitor is {self.trainer.monitor!r}, the validation metrics are {metrics}")
        return trainable_names(variables["params"], trainable)

    def _batch_shapes(self, source: Source) -> Any:
        if not source.compiled:
            return source.first()
        return jax.eval_shape(source.batch, source.arrays, self.key, np.int32(0))

    def _begin(self) -> TrainState:
        """The state before the first step, by one compiled program."""
        fresh = partial(programs.fresh_state, self.trainer.optimizer, names=self.names)
        if self.given is not None:
            begin = self.trainer.program("begin", ("given", self.names), lambda v, k: fresh(v, key=k), runs_once=True)
            return begin(self.given, self.key)
        static = (self.source.static, self.names, self.impl)

        def initialize(arrays, key):
            return fresh(self._initialize(key, arrays), key=key)

        begin = self.trainer.program("begin", static, initialize, runs_once=True)
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
            train = self.trainer.program(
                "train", static, programs.many_steps(step, MAX_STEPS_PER_CALL), donate_argnums=0
            )
            state, records, taken, finite = train(state, self.source.arrays, np.int32(steps))
            return state, {name: np.asarray(values)[: int(taken)] for name, values in records.items()}, bool(finite)
        make_batch = self.source.batch if self.source.compiled else lambda batch, key, step: batch
        train = self.trainer.program("train step", static, self._step(make_batch), donate_argnums=0)
        rows, first, alive = [], int(state.step), np.bool_(True)
        for i in range(steps):
            arrays = self.source.arrays if self.source.compiled else self.source.next(first + i)
            state, metrics, alive = train(state, arrays, alive)
            rows.append((metrics, alive))
        rows = jax.device_get(rows)
        taken = next((i + 1 for i, (_, alive) in enumerate(rows) if not alive), steps)
        metrics = {name: np.asarray([row[0][name] for row in rows[:taken]]) for name in rows[0][0]}
        return state, metrics, bool(rows[-1][1])

    def _validate(self, state: TrainState) -> dict[str, float]:
        static = (self.checks.static, self.impl)
        function = programs.validate(self.trainer.loss, self.checks, self.impl)
        run = self.trainer.program("validate", static, function)
        metrics = run(state.variables, self.checks.arrays, state.key_data, state.step)
        return {name: float(value) for name, value in metrics.items()}

    def _compile_seconds(self) -> float:
        return sum((program.compile_seconds for program in self.trainer._programs.values()), 0.0)

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
            print(f"continuing from step {int(state.step)} in {writer.directory}", file=sys.stderr)
        first_step = step = int(state.step)
        if step > self.num_steps:
            raise ValueError(f"{writer.directory} holds {step} steps already, more than num_steps = {self.num_steps}")
        history = History(writer.directory if writer else None, step, self.trainer.tensorboard)
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
                    print(f"saved step {step} in {writer.directory}; the same call continues there", file=sys.stderr)
                    interruption.deliver()
        return FitResult(
            state,
            history.arrays(),
            compile_seconds=self._compile_seconds() - self.compiled_before,
            train_seconds=self.train_seconds,
            train_steps=step - first_step,
            stopped_early=stopped and step < self.num_steps,
            best_step=self._best_step(history),
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
        if not np.isfinite(metrics[self.trainer.monitor]):
            raise NonFiniteLossError(
                f"the validation metric {self.trainer.monitor!r} is {metrics[self.trainer.monitor]} at step {step}",
                step,
                state,
            )
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

    def _best_step(self, history: History) -> int | None:
        values = self._smoothed(history)
        return int(history.column("validation/step")[int(np.argmin(values))]) if values else None

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
