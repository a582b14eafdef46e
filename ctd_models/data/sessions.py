"""Trials of several recording sessions, in one set of padded arrays."""

from collections.abc import Mapping
from typing import Any, no_type_check

import numpy as np

from ctd_models.data.spike_trials import SpikeTrials


@no_type_check  # it checks its arguments itself
def stitch_trials(sessions: Mapping[str, SpikeTrials]) -> SpikeTrials:
    """All trials, session after session; `sessions` of the result numbers them in the order of the mapping.

    Neurons of smaller sessions are padded with zeros that have weight 0 in `mask`: those that are read first, then those
    that are only to be predicted.

    Args:
        sessions: name → trials. Numbers of neurons and of trials may differ; bins and external inputs may not.

    Raises:
        ValueError: there is no session, one has no trials, bins or external inputs differ, or labels or lengths are
            known in some of them only.
    """
    if not sessions:
        raise ValueError("there is no session")
    for name, trials in sessions.items():
        if not isinstance(trials, SpikeTrials):
            raise TypeError(f"session {name!r} must be SpikeTrials, got {type(trials).__name__}")
        if len(trials.targets) == 0:
            raise ValueError(f"session {name!r} has no trials")
    first_name, first = next(iter(sessions.items()))
    for name, trials in sessions.items():
        for what, of in (("bins that are read", _read), ("bins", _steps), ("external inputs", _external)):
            if of(trials) != of(first):
                raise ValueError(
                    f"session {name!r} has {of(trials)} {what}, session {first_name!r} has {of(first)}: sessions are "
                    "stitched bin by bin, so cut and bin them alike"
                )
        for field in ("labels", "lengths"):
            if (getattr(trials, field) is None) != (getattr(first, field) is None):
                raise ValueError(f"{field} must be given for all sessions or for none, see {first_name!r} and {name!r}")
    read = max(trials.inputs.shape[2] for trials in sessions.values())
    hidden = max(trials.targets.shape[2] - trials.inputs.shape[2] for trials in sessions.values())
    padded = [_padded(trials, read, hidden) for trials in sessions.values()]
    numbers = np.repeat(np.arange(len(padded)), [len(trials.targets) for trials in padded]).astype(np.int32)
    joined = {
        field: None if getattr(padded[0], field) is None else np.concatenate([getattr(t, field) for t in padded])
        for field in SpikeTrials._fields
        if field != "sessions"
    }
    return SpikeTrials(**joined, sessions=numbers)


def _read(trials: SpikeTrials) -> int:
    return trials.inputs.shape[1]


def _steps(trials: SpikeTrials) -> int:
    return trials.targets.shape[1]


def _external(trials: SpikeTrials) -> int:
    return 0 if trials.external_inputs is None else trials.external_inputs.shape[2]


def _padded(trials: SpikeTrials, read: int, hidden: int) -> SpikeTrials:
    """The trials with so many neurons that are read and so many that are not."""
    own = trials.inputs.shape[2]
    missing = (read - own, hidden - (trials.targets.shape[2] - own))

    def pad(values: Any, counts: tuple[int, int]) -> np.ndarray:
        values = np.asarray(values)
        zeros = [np.zeros((*values.shape[:2], count), values.dtype) for count in counts]
        return np.concatenate([values[..., :own], zeros[0], values[..., own:], zeros[1]], axis=2)

    weights = np.ones((len(trials.targets), 1, trials.targets.shape[2]), np.float32)
    if trials.mask is not None:
        weights = weights * np.asarray(trials.mask, np.float32)
    return trials._replace(
        inputs=pad(trials.inputs, (missing[0], 0)), targets=pad(trials.targets, missing), mask=pad(weights, missing)
    )
