"""Several networks of one kind, trained by one compiled program: the same as one after the other."""

import contextlib
import sys
import time
import warnings
from functools import partial
from typing import Any

import jax
import numpy as np
from tqdm.auto import tqdm

from ctd_models.training import programs
from ctd_models.training.history import History
from ctd_models.training.interruption import Interruption
from ctd_models.training.run import MAX_STEPS_PER_CALL, SECONDS_PER_CALL, Run
from ctd_models.training.state import FitResult, TrainState


class Ensemble(Run):
    """One call of `Trainer.fit_many`: the states of all networks are stacked along a first axis.

    Accelerators take the networks' steps at once; a CPU, on which products of many small matrices are slow, takes them in
    turn within the program.
    """

    def __init__(self, trainer, source, checks, num_steps, keys, trainable):
        super().__init__(trainer, source, checks, num_steps, keys[0], None, trainable, ())
        self.keys, self.count = keys, len(keys)
        self.at_once = jax.default_backend() != "cpu"

    def _for_each(self, function: Any, *stacked: Any) -> Any:
        return jax.vmap(function)(*stacked) if self.at_once else jax.lax.map(lambda each: function(*each), stacked)

    def _program(self, name: str, function: Any, **options: Any) -> programs.Program:
        static = (self.source.static, self.names, self.impl, self.count)
        return self.trainer.program(f"{name} many", static, function, **options)

    def _begin_all(self) -> TrainState:
        fresh = partial(programs.fresh_state, self.trainer.optimizer, names=self.names)

        def begin(arrays, keys):
            return self._for_each(lambda key: fresh(self._initialize(key, arrays), key=key), keys)

        return self._program("begin", begin, runs_once=True)(self._arrays(), self.keys)

    def _train_all(self, states: TrainState, steps: np.ndarray) -> tuple[TrainState, dict[str, Any], Any, Any]:
        """Takes up to `steps` [networks] steps: (states, metrics [networks, steps], steps taken, all finite)."""
        step = self._step(self.source.batch)

        def train(states, arrays, steps):
            run = programs.many_steps(step, MAX_STEPS_PER_CALL)
            return self._for_each(lambda state, n: run(state, arrays, n), states, steps)

        program = self._program("train", train, donate_argnums=0)
        states, records, taken, finite = program(states, self.source.arrays, steps.astype(np.int32))
        return states, jax.device_get(records), np.asarray(taken), np.asarray(finite)

    def _validate_all(self, states: TrainState) -> dict[str, np.ndarray]:
        run = programs.validate(self.trainer.loss, self.checks, self.impl)

        def validate(states, arrays):
            return self._for_each(lambda s: run(s.variables, arrays, s.key_data, s.step), states)

        return jax.device_get(
            self.trainer.program("validate many", (self.checks.static, self.impl), validate)(states, self.checks.arrays)
        )

    def finish_all(self, writers: list[Any]) -> list[FitResult]:
        """Begins or resumes every network, and goes on to the last step."""
        trainer, states = self.trainer, self._begin_all()
        members = [jax.tree.map(lambda leaf, i=i: leaf[i], states) for i in range(self.count)]
        for i, writer in enumerate(writers):
            if writer is not None and writer.latest_step is not None:
                members[i], _ = writer.resume(members[i])
                print(f"continuing from step {int(members[i].step)} in {writer.directory}", file=sys.stderr)
        states = jax.tree.map(lambda *leaves: np.stack(leaves), *map(jax.device_get, members))
        first, done = np.array(states.step), np.array(states.step)
        if (done > self.num_steps).any():
            raise ValueError(
                f"network {int(done.argmax())} has taken {done.max()} steps already, more than {self.num_steps}"
            )
        histories = [
            History(writer.directory if writer else None, int(step)) for writer, step in zip(writers, done, strict=True)
        ]
        failed = np.zeros(self.count, bool)
        hidden = None if trainer.progress is None else not trainer.progress
        progress = tqdm(total=self.count * self.num_steps, initial=int(done.sum()), unit="step", disable=hidden)
        saving = any(writer is not None for writer in writers)
        with contextlib.closing(progress), Interruption(enabled=saving) as interruption:
            while (active := (done < self.num_steps) & ~failed).any():
                states, done, failed = self._advance_all(states, done, failed, active, histories, progress)
                values = self._check_in_all(states, done, active & ~failed, histories)
                failed |= np.array([not np.isfinite(values.get(i, 0.0)) for i in range(self.count)])
                for i in np.flatnonzero(active):
                    ends = done[i] == self.num_steps or failed[i] or interruption.requested
                    due = ends or done[i] % trainer.checkpoint_every == 0 or self._improved(histories[i], int(done[i]))
                    if writers[i] is not None and due and done[i]:
                        metric = values.get(i) if not failed[i] else None
                        writers[i].save(jax.tree.map(lambda leaf, i=i: leaf[i], states), None, metric)
                if interruption.requested:
                    for writer in writers:
                        writer.wait()
                    interruption.deliver()
        if failed.any():
            which = ", ".join(f"{i} after step {done[i]}" for i in np.flatnonzero(failed))
            warnings.warn(
                f"training stopped where loss, gradient or validation were not finite: network {which}",
                RuntimeWarning,
                stacklevel=3,
            )
        compiled, seconds = self._compile_seconds() - self.compiled_before, self.train_seconds
        return [
            FitResult(
                jax.tree.map(lambda leaf, i=i: leaf[i], states),
                histories[i].arrays(),
                compile_seconds=compiled,
                train_seconds=seconds / self.count,
                train_steps=int(done[i] - first[i]),
                stopped_early=bool(failed[i]),
                best_step=self._best_step(histories[i]),
            )
            for i in range(self.count)
        ]

    def _advance_all(self, states, done, failed, active, histories, progress):
        trainer, compiled = self.trainer, self._compile_seconds()
        events = [done - done % n + n for n in (trainer.validate_every, trainer.checkpoint_every)]
        until = np.minimum(self.num_steps, np.minimum(*events))
        limit = 1 if self.seconds_per_step is None else int(SECONDS_PER_CALL / self.seconds_per_step)
        steps = np.where(active, np.minimum(until - done, np.clip(limit, 1, MAX_STEPS_PER_CALL)), 0)
        start = time.perf_counter()
        states, records, taken, finite = self._train_all(states, steps)
        seconds = time.perf_counter() - start - (self._compile_seconds() - compiled)
        self.train_seconds += seconds
        self.seconds_per_step = seconds / taken.max()
        for i in np.flatnonzero(active):
            good = int(taken[i]) - (not finite[i])
            if good:
                histories[i].append_steps(int(done[i]) + 1, {name: v[i, :good] for name, v in records.items()})
            done[i] += good
            failed[i] = not finite[i]
        progress.update(int(taken.sum()))
        return states, done, failed

    def _check_in_all(self, states, done, active, histories) -> dict[int, float]:
        """Validates the networks for which it is due: number → monitored metric, smoothed."""
        due = active & ((done % self.trainer.validate_every == 0) | (done == self.num_steps))
        if self.checks is None or not due.any():
            return {}
        metrics = self._validate_all(states)
        monitored = {int(i): float(metrics[self.trainer.monitor][i]) for i in np.flatnonzero(due)}
        for i, value in monitored.items():
            if np.isfinite(value):
                histories[i].append_validation(int(done[i]), {name: values[i] for name, values in metrics.items()})
                monitored[i] = self._smoothed(histories[i])[-1]
        return monitored
