"""Several recording sessions with different neurons in one set of arrays."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, no_type_check

import numpy as np

from ctd_models.data.spike_dataset import PARTS, SpikeDataset
from ctd_models.data.spike_trials import SpikeTrials


@no_type_check  # it checks its arguments itself
def stitch_sessions(sessions: Mapping[str, SpikeDataset]) -> SpikeDataset:
    """One dataset of all sessions, whose trials are those of `stitch_trials`.

    Rates, latents, conditions and behaviours are those that all sessions have, session after session; a behaviour whose
    unit or dimensions differ is left out, with a warning. A session may lack a part, but not the training trials.

    Raises:
        ValueError: there is no session, or one has no training trials; sessions differ in the width or number of bins, in
            the times of bins or in external inputs; conditions, labels or lengths are known in some of them only; or
            conditions are known and no condition is in all sessions.
    """
    _check_mapping(sessions, SpikeDataset)
    for name, data in sessions.items():
        if data.sessions or data.train.sessions is not None:
            raise ValueError(f"session {name!r} is stitched already: give the sessions that it is made of")
    _check_alike(sessions)
    all_of = list(sessions.values())
    form = _form({name: data.train for name, data in sessions.items()})
    parts = [part for part in PARTS if any(part in data.parts for data in all_of)]
    members = {part: {name: data for name, data in sessions.items() if part in data.parts} for part in parts}
    trials = {
        part: _joined({name: data.parts[part] for name, data in members[part].items()}, list(sessions), form)
        for part in parts
    }

    def join(field: str, pad: bool = False) -> dict[str, np.ndarray]:
        known = {part: [getattr(data, field).get(part) for data in members[part].values()] for part in parts}
        if any(values is None for of_part in known.values() for values in of_part):
            return {}
        if pad:
            heldin = {part: [data.num_heldin for data in members[part].values()] for part in parts}
            known = {p: [_pad(v, n, form) for v, n in zip(known[p], heldin[p], strict=True)] for p in parts}
        if any(values.shape[1:] != known["train"][0].shape[1:] for of_part in known.values() for values in of_part):
            return {}
        return {part: np.concatenate(of_part) for part, of_part in known.items()}

    units = {data.rates_unit for data in all_of}
    names = _shared_behaviors(sessions)
    times = [data.time_s for data in all_of]
    return SpikeDataset(
        **trials,
        layout=", ".join(sorted({data.layout for data in all_of})),
        num_heldin=form[0],
        num_heldout=form[1],
        trial_indices=join("trial_indices"),
        bin_width_s=all_of[0].bin_width_s,
        time_s=None if any(time is None for time in times) else times[0],
        rates=join("rates", pad=True) if len(units) == 1 else {},
        rates_unit=units.pop() if len(units) == 1 else None,
        latents=join("latents"),
        conditions=join("conditions"),
        behavior={
            part: {name: np.concatenate([d.behavior[part][name] for d in members[part].values()]) for name in names}
            for part in parts
            if all(name in d.behavior.get(part, {}) for d in members[part].values() for name in names)
        },
        behavior_units={name: all_of[0].behavior_units.get(name, "a.u.") for name in names},
        dropped={
            f"{name}: {reason}": count for name, data in sessions.items() for reason, count in data.dropped.items()
        },
        sessions=tuple(sessions),
    )


@no_type_check  # it checks its arguments itself
def stitch_trials(
    sessions: Mapping[str, SpikeTrials],
    names: Sequence[str] | None = None,
    num_neurons: tuple[int, int] | None = None,
) -> SpikeTrials:
    """All trials, session after session; `sessions` of the result are places in `names`.

    Neurons of smaller sessions are padded with zeros that have weight 0 in `mask`: those that are read first, then those
    that are only to be predicted.

    Args:
        sessions: name → trials. Numbers of neurons and of trials may differ; bins and external inputs may not.
        names: all sessions; None: those of the mapping, in its order.
        num_neurons: (how many neurons are read, how many are only to be predicted) after padding; None: as many as the
            largest session has.

    Raises:
        ValueError: there is no session, one has no trials, is not in `names` or has more neurons than `num_neurons`; bins
            or external inputs differ; or labels or lengths are known in some of them only.
    """
    _check_mapping(sessions, SpikeTrials)
    for name, trials in sessions.items():
        if trials.sessions is not None:
            raise ValueError(f"session {name!r} holds trials that are stitched already: give those of each session")
    names = list(sessions) if names is None else list(names)
    if len(set(names)) < len(names):
        raise ValueError(f"names must be different, got {names}")
    if unknown := [name for name in sessions if name not in names]:
        raise ValueError(f"sessions {unknown} are not among {names}")
    form = _form(sessions)
    if num_neurons is not None:
        for name, trials in sessions.items():
            own = _form({name: trials})
            if own[0] > num_neurons[0] or own[1] > num_neurons[1]:
                raise ValueError(
                    f"session {name!r} has {own[0]} neurons that are read and {own[1]} that are not, expected at most "
                    f"{num_neurons[0]} and {num_neurons[1]}"
                )
        form = num_neurons
    return _joined(sessions, names, form)


@no_type_check  # it checks its arguments itself
def session_neurons(trials: SpikeTrials) -> dict[int, np.ndarray]:
    """Number of each session → columns of its own neurons among the padded ones, in their order in the session.

    Figures of merit of neurons are taken session by session on these columns, since a column of padded trials belongs to
    different neurons: `rates[trials.sessions == number][..., columns]`.

    Raises:
        ValueError: the trials are not stitched.
    """
    if trials.sessions is None or trials.mask is None:
        raise ValueError("expected trials of several sessions, as of stitch_trials")
    real = np.asarray(trials.mask).any(axis=1)
    return {int(n): np.flatnonzero(real[trials.sessions == n].any(axis=0)) for n in np.unique(trials.sessions)}


def _check_mapping(sessions: Any, kind: type) -> None:
    """Raises TypeError or ValueError unless sessions are name → value of this kind, at least one."""
    if not isinstance(sessions, Mapping):
        raise TypeError(f"expected sessions as a mapping, name → {kind.__name__}, got {type(sessions).__name__}")
    if not sessions:
        raise ValueError("there is no session")
    for name, value in sessions.items():
        if not isinstance(value, kind):
            raise TypeError(f"session {name!r} must be {kind.__name__}, got {type(value).__name__}")


def _check_alike(sessions: Mapping[str, SpikeDataset]) -> None:
    """Raises ValueError where widths or times of bins differ, or conditions do not fit."""
    (first_name, first), *others = sessions.items()
    for name, data in others:
        widths = data.bin_width_s, first.bin_width_s
        if (None in widths and widths != (None, None)) or (None not in widths and not np.isclose(*widths, rtol=1e-6)):
            raise ValueError(
                f"session {name!r} has bins of {_seconds(widths[0])} s, session {first_name!r} of {_seconds(widths[1])} s: "
                "sessions are stitched bin by bin, so bin them alike (`rebin`), or say how wide bins are (bin_width_s=)"
            )
        starts = data.time_s, first.time_s
        both = all(time is not None for time in starts) and len(starts[0]) == len(starts[1])
        if both and not np.allclose(*starts, atol=0.01 * np.diff(first.time_s).min()):
            raise ValueError(
                f"bins of session {name!r} begin {data.time_s[0]:g} s after the event, those of session {first_name!r} "
                f"{first.time_s[0]:g} s: cut trials alike"
            )
        if bool(data.conditions) != bool(first.conditions):
            raise ValueError(
                f"conditions must be known for all sessions or for none, see {first_name!r} and {name!r}: "
                "dataclasses.replace(data, conditions={}) forgets them"
            )
    known = {
        name: set(np.concatenate(list(data.conditions.values())).tolist()) - {-1}
        for name, data in sessions.items()
        if data.conditions
    }
    if known and not set.intersection(*known.values()):
        listed = "; ".join(f"{name!r} has {sorted(found)[:12]}" for name, found in known.items())
        raise ValueError(
            f"no condition is in all sessions ({listed}): number them alike, or forget them by "
            "dataclasses.replace(data, conditions={})"
        )


def _seconds(width: float | None) -> str:
    return "unknown" if width is None else f"{width:.6g}"


def _shared_behaviors(sessions: Mapping[str, SpikeDataset]) -> list[str]:
    """Names of the behaviours that all sessions have in the same unit and dimensions."""
    first = next(iter(sessions.values()))
    names = []
    for name, values in first.behavior.get("train", {}).items():
        found = [data.behavior.get("train", {}).get(name) for data in sessions.values()]
        units = {data.behavior_units.get(name) for data in sessions.values()}
        if len(units) == 1 and all(v is not None and v.shape[1:] == values.shape[1:] for v in found):
            names.append(name)
        else:
            warnings.warn(f"behaviour {name!r} is left out: not all sessions have it in the same form", stacklevel=3)
    return names


def _form(sessions: Mapping[str, SpikeTrials]) -> tuple[int, int]:
    """(neurons that are read, neurons that are not) of the largest session, after a check that trials fit together."""
    for name, trials in sessions.items():
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
    return read, max(trials.targets.shape[2] - trials.inputs.shape[2] for trials in sessions.values())


def _read(trials: SpikeTrials) -> int:
    return trials.inputs.shape[1]


def _steps(trials: SpikeTrials) -> int:
    return trials.targets.shape[1]


def _external(trials: SpikeTrials) -> int:
    return 0 if trials.external_inputs is None else trials.external_inputs.shape[2]


def _joined(sessions: Mapping[str, SpikeTrials], names: Sequence[str], form: tuple[int, int]) -> SpikeTrials:
    """The trials of the sessions, padded to the form and numbered by the names."""
    bins = max(1 if trials.mask is None else trials.mask.shape[1] for trials in sessions.values())
    padded = [_padded(trials, bins, form) for trials in sessions.values()]
    numbers = np.repeat([list(names).index(name) for name in sessions], [len(trials.targets) for trials in padded])
    joined = {
        field: None if getattr(padded[0], field) is None else np.concatenate([getattr(t, field) for t in padded])
        for field in SpikeTrials._fields
        if field != "sessions"
    }
    return SpikeTrials(**joined, sessions=numbers.astype(np.int32))


def _padded(trials: SpikeTrials, mask_bins: int, form: tuple[int, int]) -> SpikeTrials:
    """The trials with so many neurons that are read and so many that are not, and a mask of so many bins."""
    own = trials.inputs.shape[2]
    weights = np.ones((len(trials.targets), mask_bins, trials.targets.shape[2]), np.float32)
    if trials.mask is not None:
        weights = weights * np.asarray(trials.mask, np.float32)
    return trials._replace(
        inputs=_pad(trials.inputs, own, (form[0], 0)),
        targets=_pad(trials.targets, own, form),
        mask=_pad(weights, own, form),
    )


def _pad(values: Any, heldin: int, form: tuple[int, int]) -> np.ndarray:
    """Neurons that are read, and the others, each padded with zeros."""
    values = np.asarray(values)
    counts = form[0] - heldin, form[1] - (values.shape[2] - heldin)
    zeros = [np.zeros((*values.shape[:2], count), values.dtype) for count in counts]
    return np.concatenate([values[..., :heldin], zeros[0], values[..., heldin:], zeros[1]], axis=2)
