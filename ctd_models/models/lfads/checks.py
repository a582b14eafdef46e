"""Checks of trials against a model, before anything is computed."""

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ctd_models.data.spike_trials import SpikeTrials, silent_neurons


def check_trials(model: Any, trials: Any, what: str = "trials") -> None:
    """Checks values that shapes do not show, and warns of neurons without a spike.

    Raises:
        TypeError: they are not `SpikeTrials`.
        ValueError: a target is impossible under the observation model, an input is not finite, labels are not classes of
            the model, or lengths are not lengths.
    """
    if not isinstance(trials, SpikeTrials):
        raise TypeError(
            f"{what} must be SpikeTrials, as of SpikeTrials.from_spikes(spikes), got {type(trials).__name__}"
        )
    targets, inputs = np.asarray(trials.targets), np.asarray(trials.inputs)
    counts = np.ones(targets.shape, bool) if trials.mask is None else np.broadcast_to(trials.mask, targets.shape) > 0
    bad, expected = model.observation.invalid(targets)
    bad &= counts
    if bad.any():
        index = _first(bad)
        raise ValueError(f"expected {what}.targets of {expected}; got {targets[index]} at index {index}")
    _check_finite(f"{what}.inputs", inputs)
    _check_labels(model, trials.labels)
    check_sessions(model, trials.sessions, len(targets))
    if model.controller is not None and model.controller.lag >= inputs.shape[1]:
        raise ValueError(f"the controller's lag is {model.controller.lag}, but {what} have only {inputs.shape[1]} bins")
    if trials.lengths is not None:
        _check_range("lengths", trials.lengths, model.encoder.start + 2, inputs.shape[1])
    silent = np.intersect1d(silent_neurons(targets), np.flatnonzero(counts.any(axis=(0, 1))))
    if silent.size:
        warnings.warn(
            f"neurons {silent.tolist()} of {what}.targets are silent: they are trained and scored with the others, at "
            "rates near 0",
            stacklevel=4,
        )


def check_inputs(model: Any, spikes: Any, external_inputs: Any, labels: Any) -> None:
    """Raises ValueError unless the shapes of what a model reads fit it, and its values, where they are known, are finite."""
    shape = jnp.shape(spikes)
    if len(shape) != 3 or 0 in shape or shape[2] != model.inputs_size:
        fewer = len(shape) == 3 and shape[2] < model.num_neurons
        hint = f": if the others are held out, set LFADS(num_input_neurons={shape[2]})" if fewer else ""
        raise ValueError(
            f"expected spikes [trials, time, {model.inputs_size} neurons that are read], got shape {shape}{hint}"
        )
    if shape[1] < 2:
        raise ValueError(f"trials of one bin have no dynamics: expected 2 bins or more, got shape {shape}")
    if model.encoder.start >= shape[1]:
        raise ValueError(f"initial_bins is {model.encoder.start}, but the trials have only {shape[1]} bins")
    if not isinstance(spikes, jax.core.Tracer):
        _check_finite("spikes", np.asarray(spikes))
    check_known_inputs(model, external_inputs, labels, shape[0], shape[1] + model.num_forward_bins)


def check_known_inputs(model: Any, external_inputs: Any, labels: Any, num_trials: int, num_bins: int) -> None:
    """Raises ValueError unless external inputs and classes are given where the model has them, in its shapes."""
    expected = (num_trials, num_bins, model.num_external_inputs)
    if model.num_external_inputs and (external_inputs is None or jnp.shape(external_inputs) != expected):
        forward = f" ({model.num_forward_bins} forward bins included)" if model.num_forward_bins else ""
        found = "none" if external_inputs is None else f"shape {jnp.shape(external_inputs)}"
        raise ValueError(f"expected external_inputs {expected} [trials, time{forward}, features], got {found}")
    if not model.num_external_inputs and external_inputs is not None:
        raise ValueError(
            f"external_inputs of shape {jnp.shape(external_inputs)} are given, but the model has none: set "
            "LFADS(num_external_inputs=...)"
        )
    if not isinstance(labels, jax.core.Tracer):
        _check_labels(model, labels)
    if model.num_classes and (labels is None or jnp.shape(labels) != (num_trials,)):
        found = "none" if labels is None else f"shape {jnp.shape(labels)}"
        raise ValueError(f"expected labels ({num_trials},), the class of each trial, got {found}")


def check_session_parts(model: Any) -> None:
    """Raises ValueError unless a model has a read-in and a read-out for the same sessions and its neurons, or neither."""
    read_in, readout = model.read_in, model.readout
    if read_in is None and not hasattr(readout, "sessions"):
        return
    if read_in is None or not hasattr(readout, "sessions"):
        raise ValueError("a model of several sessions needs a SessionReadIn as read_in and a SessionReadOut as readout")
    if read_in.sessions != readout.sessions:
        raise ValueError(f"read_in has the sessions {read_in.sessions}, readout {readout.sessions}")
    for name, part, neurons in (("read_in", read_in, model.inputs_size), ("readout", readout, model.num_neurons)):
        if part.num_neurons != neurons:
            raise ValueError(f"{name}.num_neurons is {part.num_neurons}, but the model has {neurons} of these neurons")


def check_sessions(model: Any, sessions: Any, num_trials: int) -> None:
    """Raises ValueError unless every trial has a session that the model knows, if it knows sessions."""
    if model.read_in is None:
        if sessions is not None:
            raise ValueError(
                "these trials are of several sessions, the model has none: give it read_in=SessionReadIn(...) and "
                "readout=SessionReadOut(...), or leave the sessions out (trials._replace(sessions=None))"
            )
        return
    if sessions is None or jnp.shape(sessions) != (num_trials,):
        found = "none" if sessions is None else f"shape {jnp.shape(sessions)}"
        raise ValueError(f"expected sessions ({num_trials},), the number of each trial's session, got {found}")
    if not isinstance(sessions, jax.core.Tracer):
        if np.asarray(sessions).dtype.kind not in "iu":
            raise ValueError(
                f"sessions must be whole numbers, one for each trial, got type {np.asarray(sessions).dtype}"
            )
        _check_range("sessions", sessions, 0, len(model.read_in.sessions) - 1)


def _check_labels(model: Any, labels: Any) -> None:
    """Raises ValueError unless labels are whole numbers that model and priors know."""
    parts = (model, model.generator.prior, model.controller and model.controller.prior)
    counts = [count for part in parts if (count := getattr(part, "num_classes", 0))]
    if labels is None or not counts:
        return
    if np.asarray(labels).dtype.kind not in "iu":
        raise ValueError(f"labels must be whole numbers, the class of each trial, got type {np.asarray(labels).dtype}")
    _check_range("labels", labels, 0, min(counts) - 1)


def _check_range(name: str, values: Any, low: int, high: int) -> None:
    values = np.asarray(values)
    wrong = (values < low) | (values > high)
    if wrong.any():
        index = int(np.argmax(wrong))
        raise ValueError(f"{name} must lie in {low} … {high}, got {values[index]} at trial {index}")


def _check_finite(name: str, values: np.ndarray) -> None:
    if not np.isfinite(values).all():
        index = _first(~np.isfinite(values))
        raise ValueError(f"expected finite {name}, got {values[index]} at index {index}")


def _first(where: np.ndarray) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argwhere(where)[0])
