"""Reading several recording sessions: files, groups of a file, or pseudo-sessions of one recording."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, no_type_check

import h5py

from ctd_models.data.hdf5 import open_file, read_datasets
from ctd_models.data.layouts import load_spike_trials
from ctd_models.data.spike_dataset import SpikeDataset

_OF_TRIAL, _OF_CHANNEL = "trials/pseudo_session_of_trial", "meta/pseudo_session_of_channel"
_MARKS = (("trials/spikes", "trials/split"), ("spikes", "split"), ("train_encod_data", "train_recon_data"))


@no_type_check  # it checks its arguments itself
def load_sessions(
    path: str | os.PathLike | Sequence[str | os.PathLike] | Mapping[str, str | os.PathLike], **options: Any
) -> dict[str, SpikeDataset]:
    """Reads recording sessions: name → trials.

    - Several files are a session each, named after the files, or as the mapping name → file says.
    - One file with a layout of `load_spike_trials` in two groups or more at its top has a session in each, named after
      the groups.
    - One recording with `trials/pseudo_session_of_trial` [trials] and `meta/pseudo_session_of_channel` [channels] is
      parted into pseudo-sessions, trials and channels of the same number each, "0", "1", …; what has a negative number is
      left out. This is a test of stitching inside one recording.

    Any other file is one session, named after the file.

    Args:
        path: file, files, or name → file.
        options: arguments of `load_spike_trials` but `group`, the same for all sessions. Unless `heldin` or `heldout` are
            given, all neurons are read, whatever the file says; `heldout=None` reads those that it names.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: there is no file, two have the same name, a pseudo-session has no training trial or no neuron that is
            read, or a file is not what `load_spike_trials` reads.
    """
    if not isinstance(path, Mapping):
        paths = [path] if isinstance(path, str | os.PathLike) else list(path)
        names = [Path(p).stem for p in paths]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"several files are named {twice}: give a mapping name → file, such as {{'monday': …}}")
        path = dict(zip(names, paths, strict=True))
    if not path:
        raise ValueError("expected the paths of files, got none")
    if "group" in options:
        raise ValueError("groups of a file are sessions each: read one of them by load_spike_trials(path, group=...)")
    if len(path) > 1:
        return {name: _load(file, options) for name, file in path.items()}
    ((name, file),) = path.items()
    if groups := _groups(file):
        return {group: _load(file, options | {"group": group}) for group in groups}
    with open_file(file) as opened:
        parted = [field in opened for field in (_OF_TRIAL, _OF_CHANNEL)]
    if any(parted) and not all(parted):
        raise ValueError(f"{os.fspath(file)} has one of {_OF_TRIAL!r} and {_OF_CHANNEL!r}, pseudo-sessions need both")
    data = _load(file, options)
    return _pseudo_sessions(data, file) if all(parted) else {name: data}


def _load(path: str | os.PathLike, options: Mapping[str, Any]) -> SpikeDataset:
    """One session, all of whose neurons are read unless the options say otherwise."""
    with open_file(path) as file:
        folder = file[options["group"]] if "group" in options else file
        chooses = any(all(mark in folder for mark in marks) for marks in _MARKS[:2])  # layouts that let one choose
    if chooses and not {"heldin", "heldout"} & options.keys():
        options = {**options, "heldout": ()}
    return load_spike_trials(path, **options)


def _groups(path: str | os.PathLike) -> list[str]:
    """Groups at the top of a file that hold a session each."""
    with open_file(path) as file:
        groups = [name for name, item in file.items() if isinstance(item, h5py.Group)]
        groups = [name for name in groups if any(all(f"{name}/{mark}" in file for mark in marks) for marks in _MARKS)]
        itself = any(all(mark in file for mark in marks) for marks in _MARKS)
    return [] if itself else groups


def _pseudo_sessions(data: SpikeDataset, path: str | os.PathLike) -> dict[str, SpikeDataset]:
    arrays = read_datasets(path, {_OF_TRIAL: "trials", _OF_CHANNEL: "channels"})
    of_trial, of_channel = arrays[_OF_TRIAL], arrays[_OF_CHANNEL]
    numbers = sorted({*of_trial.tolist(), *of_channel.tolist()})
    sessions = {}
    for number in [number for number in numbers if number >= 0]:
        if not (of_trial == number).any() or not (of_channel == number).any():
            raise ValueError(f"{os.fspath(path)}: pseudo-session {number:g} has no trials or no channels")
        mine = {part: (part, of_trial[indices] == number) for part, indices in data.trial_indices.items()}
        try:
            session = data.with_neurons(of_channel[data.neurons] == number).with_parts(mine)
        except ValueError as error:
            raise ValueError(f"{os.fspath(path)}: pseudo-session {number:g}: {error}") from None
        sessions[f"{number:g}"] = session
    return sessions
