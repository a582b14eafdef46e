"""Checkpoints: arrays by Orbax, and beside them, as JSON, what is needed to build the model again. No pickle."""

import contextlib
import dataclasses
import datetime
import logging
import os
import uuid
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from ctd_models._version import __version__
from ctd_models.configuration import from_config, to_config
from ctd_models.training.state import TrainState

FORMAT_VERSION = 1
METRIC = "monitored"


class CheckpointError(ValueError):
    """A checkpoint cannot be written or read; the message says which and why."""


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """All that a checkpoint holds."""

    model: nn.Module
    """The model, built again from its configuration."""
    variables: dict[str, Any]
    """Flax's whole dictionary of arrays, on the default device."""
    step: int
    """Training steps behind it."""
    config: dict[str, Any]
    """Model card: format version, the model's configuration, library versions, date, the monitored metric."""


def load_checkpoint(directory: str | os.PathLike, step: int | str | None = None) -> tuple[nn.Module, dict[str, Any]]:
    """(model, variables) of a checkpoint, wherever and however it was made.

    Args:
        directory: the `checkpoint_dir` of a training run, or the folder that holds it as `checkpoints`, as the results of
            an example do.
        step: None for the latest, "best" for the one with the best validation metric, or a step.

    Raises:
        CheckpointError: there is no such checkpoint, it is damaged, its model's class is not imported, or it was written
            by a newer version.
    """
    checkpoint = read_checkpoint(directory, step)
    return checkpoint.model, checkpoint.variables


def read_checkpoint(directory: str | os.PathLike, step: int | str | None = None) -> Checkpoint:
    """Like `load_checkpoint`, with everything that the checkpoint holds."""
    inside = Path(directory) / "checkpoints"
    directory = inside if inside.is_dir() else directory
    with _open(directory) as manager:
        step = _resolve(manager, directory, step)
        config = _restore(manager, directory, step, config=ocp.args.JsonRestore())["config"]
        try:
            model = from_config(config["model"])
        except ValueError as error:
            raise CheckpointError(f"checkpoint {step} in {directory}: {error}") from error
        variables = _restore(manager, directory, step, variables=_as_numpy(manager, directory, step, "variables"))
    return Checkpoint(model, jax.device_put(variables["variables"]), step, config)


class CheckpointWriter:
    """Saves the latest and the best state of one run, and finds where to resume it. Use it as a context.

    Saving is asynchronous: leaving the context waits until everything is on disk.
    """

    def __init__(self, directory: str | os.PathLike, model: nn.Module, data: str = ""):
        self.directory, self.data = Path(directory).absolute(), data
        self.model, self.model_config = model, to_config(model)
        _make_writable(self.directory)
        best = BestN(get_metric_fn=_metric, n=1, reverse=True, keep_checkpoints_without_metrics=False)
        with _quiet():
            options = ocp.CheckpointManagerOptions(
                best_fn=_metric,  # without it Orbax does not keep metrics
                best_mode="min",
                preservation_policy=AnyPreservationPolicy([LatestN(1), best]),
                cleanup_tmp_directories=True,
            )
            self._manager = _manager_of(self.directory, options)

    def __enter__(self) -> "CheckpointWriter":
        return self

    def __exit__(self, *_):
        with _quiet():
            self._manager.close()

    @property
    def latest_step(self) -> int | None:
        """The latest step saved, None in a fresh directory."""
        return self._manager.latest_step()

    def save(self, state: TrainState, source_state: Any = None, metric: float | None = None) -> None:
        """Saves the state; with a metric it takes part in the choice of the best. Nothing is saved twice."""
        state = jax.tree.map(np.array, state)  # a copy: the device buffers are donated to the next step
        step = int(state.step)
        if step == self.latest_step:
            return
        config = {
            "format_version": FORMAT_VERSION,
            "model": self.model_config,
            "step": step,
            METRIC: metric,
            "data": self.data,
            "source": source_state,
            "versions": {"ctd_models": __version__}
            | {name: metadata.version(name) for name in ("jax", "flax", "optax", "orbax-checkpoint")},
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }
        leaves = jax.tree.leaves((state.optimizer_state, state.key_data))
        with _quiet():
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    variables=ocp.args.PyTreeSave(state.variables),
                    training=ocp.args.PyTreeSave({f"{i:04d}": leaf for i, leaf in enumerate(leaves)}),
                    config=ocp.args.JsonSave(config),
                ),
                metrics=None if metric is None else {METRIC: metric},
            )

    def _rebuilds_as_model(self, config: Any) -> bool:
        """Whether a configuration means our model, such as one whose class has moved out of a script since."""
        try:
            return from_config(config) == self.model
        except ValueError:
            return False

    def wait(self) -> None:
        """Returns when everything is on disk."""
        self._manager.wait_until_finished()

    def resume(self, template: TrainState, any_key: bool = False) -> tuple[TrainState, Any]:
        """(state, state of the batch source) of the latest checkpoint, in the form of `template`.

        With `any_key` the run may have been started with another key than that of the template, and goes on with its own.

        Raises:
            CheckpointError: the checkpoint is of another model, data, optimizer, selection of parameters or key, or is
                damaged.
        """
        step, where = self.latest_step, self.directory
        config = _restore(self._manager, where, step, config=ocp.args.JsonRestore())["config"]
        if config["model"] != self.model_config and not self._rebuilds_as_model(config["model"]):
            raise CheckpointError(
                f"{where} holds a checkpoint of another model: {_difference(config['model'], self.model_config)}; "
                "choose another checkpoint_dir, or delete this one"
            )
        if config["data"] != self.data:
            raise CheckpointError(
                f"{where} holds a run on other data ({config['data']}, here {self.data}): choose another checkpoint_dir, "
                "or delete this one"
            )
        items = {name: _as_numpy(self._manager, where, step, name) for name in ("variables", "training")}
        restored = _restore(self._manager, where, step, **items)
        leaves, structure = jax.tree.flatten((template.optimizer_state, template.key_data))
        saved = [restored["training"][name] for name in sorted(restored["training"])]
        if [np.shape(leaf) for leaf in saved] != [leaf.shape for leaf in leaves]:
            raise CheckpointError(f"{where} was trained with another optimizer or another selection of parameters")
        optimizer_state, key_data = jax.tree.unflatten(structure, saved)
        if not any_key and not np.array_equal(key_data, template.key_data):
            raise CheckpointError(
                f"{where} holds a run that was started with another key: pass the same key to resume it, or choose "
                "another checkpoint_dir"
            )
        return TrainState(np.int32(step), restored["variables"], optimizer_state, key_data), config["source"]


@contextlib.contextmanager
def _open(directory: str | os.PathLike) -> Iterator[ocp.CheckpointManager]:
    directory = Path(directory).absolute()
    if not directory.is_dir():
        raise CheckpointError(f"there is no checkpoint directory {directory}")
    with _quiet(), _manager_of(directory, ocp.CheckpointManagerOptions(read_only=True)) as manager:
        yield manager


def _manager_of(directory: Path, options: ocp.CheckpointManagerOptions) -> ocp.CheckpointManager:
    """Orbax's manager of a directory, which reads what is there."""
    handlers = {
        "variables": ocp.PyTreeCheckpointHandler(),
        "training": ocp.PyTreeCheckpointHandler(),
        "config": ocp.JsonCheckpointHandler(),
    }
    try:
        return ocp.CheckpointManager(directory, options=options, item_handlers=handlers)
    except Exception as error:
        raise CheckpointError(f"the checkpoints in {directory} are damaged and cannot be read ({error})") from error


def _metric(metrics: dict[str, float]) -> float:
    return metrics[METRIC]


def _resolve(manager: ocp.CheckpointManager, directory: str | os.PathLike, step: int | str | None) -> int:
    steps = sorted(manager.all_steps())
    if not steps:
        raise CheckpointError(f"{directory} holds no finished checkpoint")
    if step is None:
        return steps[-1]
    if step == "best":
        return _best(manager, directory, steps)
    if isinstance(step, bool) or not isinstance(step, (int, np.integer)):
        raise CheckpointError(f"step must be None, an integer or 'best', got {step!r}")
    if step not in steps:
        raise CheckpointError(f"{directory} holds the steps {steps}, not {step}")
    return int(step)


def _best(manager: ocp.CheckpointManager, directory: str | os.PathLike, steps: list[int]) -> int:
    configs = {step: _restore(manager, directory, step, config=ocp.args.JsonRestore())["config"] for step in steps}
    scored = {step: config[METRIC] for step, config in configs.items() if config[METRIC] is not None}
    if not scored:
        raise CheckpointError(f"{directory} has no best checkpoint: it was trained without validation")
    return min(scored, key=scored.get)


def _as_numpy(manager: ocp.CheckpointManager, directory: str | os.PathLike, step: int, item: str):
    """Restore arguments that read arrays into NumPy, whatever devices they were saved from."""
    with _readable(directory, step):
        tree = manager.item_metadata(step)[item].tree
        restore_args = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        return ocp.args.PyTreeRestore(restore_args=restore_args)


def _restore(manager: ocp.CheckpointManager, directory: str | os.PathLike, step: int, **items) -> dict[str, Any]:
    with _readable(directory, step):
        restored = manager.restore(step, args=ocp.args.Composite(**items))
    if "config" in restored:
        version = restored["config"].get("format_version")
        if not isinstance(version, int) or version > FORMAT_VERSION:
            raise CheckpointError(
                f"checkpoint {step} in {directory} has format {version}, this version of ctd_models reads up to "
                f"{FORMAT_VERSION}: update ctd_models"
            )
    return {name: restored[name] for name in items}


@contextlib.contextmanager
def _readable(directory: str | os.PathLike, step: int) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise CheckpointError(
            f"checkpoint {step} in {directory} is damaged or incomplete and cannot be read "
            f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})"
        ) from error


def _make_writable(directory: Path) -> None:
    probe = directory / f".writable-{uuid.uuid4().hex}"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise CheckpointError(f"cannot write checkpoints to {directory}: {error.strerror or error}") from error


def _difference(saved: Any, given: Any, path: str = "model") -> str:
    """Where two configurations differ first."""
    if isinstance(saved, dict) and isinstance(given, dict) and saved.keys() == given.keys():
        for key in saved:
            if saved[key] != given[key]:
                return _difference(saved[key], given[key], path if key == "fields" else f"{path}.{key}")
    return f"{path} is {saved!r} there and {given!r} here"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Orbax tells each save on absl's logger; only its errors are of interest here."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
