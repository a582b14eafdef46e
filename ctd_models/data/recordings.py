"""Recordings of spiking neurons and behaviour, cut into trials."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from ctd_models.data.hdf5 import open_file, read_datasets

TRAIN, VALIDATION, TEST = 0, 1, 2

_OPTIONAL = {"fold": "trials/fold5", "condition": "trials/condition", "target_xy": "trials/target_xy"}


@dataclasses.dataclass(frozen=True)
class Recording:
    """Spike counts and behaviour of the same trials, aligned to an event."""

    spikes: Int[np.ndarray, "trials time neurons"]
    """Counts; the one of bin i are those in [time_s[i], time_s[i] + bin_width_s)."""
    behavior: Mapping[str, Float[np.ndarray, "trials time _"]]
    """Name → values, in the unit of the file."""
    units: Mapping[str, str]
    """Name of a behaviour → its unit, "a.u." where the file does not tell."""
    split: Int[np.ndarray, "trials"]
    """0 train, 1 validation, 2 test."""
    time_s: Float[np.ndarray, "time"]
    """Start of each bin [s], relative to the event."""
    bin_width_s: float
    """Width of a bin [s]."""
    fold: Int[np.ndarray, "trials"] | None = None
    """Fold of cross-validation in which a trial is tested."""
    condition: Int[np.ndarray, "trials"] | None = None
    """Label of the condition, such as the number of the target."""
    target_xy: Float[np.ndarray, "trials 2"] | None = None
    """Centre of the target, in the unit of the file."""

    def part(self, number: int) -> Int[np.ndarray, "n"]:
        """Indices of the trials of `TRAIN`, `VALIDATION` or `TEST`."""
        return np.flatnonzero(self.split == number)


def load_recording(
    path: str | os.PathLike, behavior: Sequence[str] | Mapping[str, int] = ("force",), require: Sequence[str] = ()
) -> Recording:
    """Reads a recording from the group `trials` of an HDF5 file.

    Datasets: `trials/spikes` [trials, time, neurons], `trials/split` [trials] (0 train, 1 validation, 2 test),
    `trials/time_s` [time] (start of each bin [s]), `trials/NAME` [trials, time, dims] for each behaviour; and where
    present `trials/fold5` [trials], `trials/condition` [trials], `trials/target_xy` [trials, 2]. The attribute
    `bin_width_s` of the file is the width of a bin; without it, it is the step of `time_s`. The attribute `units` of a
    behaviour names its unit.

    Args:
        path: the HDF5 file.
        behavior: names of the behaviours to read, or name → number of dimensions that it must have.
        require: which of "fold", "condition", "target_xy" must be there; the others are None where they are absent.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a dataset is missing or misshapen; spikes are not counts, or other values not what they should be.
            The message names file, dataset, expected axes and the shape, or the offending value and its index.
    """
    if unknown := sorted(set(require) - set(_OPTIONAL)):
        raise ValueError(f"require may name {sorted(_OPTIONAL)}, got {unknown}")
    axes = {"trials/spikes": "trials time neurons", "trials/split": "trials", "trials/time_s": "time"}
    dims = behavior if isinstance(behavior, Mapping) else {name: f"dims_of_{name}" for name in behavior}
    axes |= {f"trials/{name}": f"trials time {dims[name]}" for name in behavior}
    with open_file(path) as file:
        present = {name: dataset for name, dataset in _OPTIONAL.items() if name in require or dataset in file}
        bin_width_s = file.attrs.get("bin_width_s")
        units = {
            name: str(file[f"trials/{name}"].attrs.get("units", "a.u.")) for name in dims if f"trials/{name}" in file
        }
    axes |= {dataset: "trials 2" if name == "target_xy" else "trials" for name, dataset in present.items()}
    arrays = read_datasets(path, axes)
    check = Checks(path, arrays)
    time_s = check.times("trials/time_s")
    width = float(np.median(np.diff(time_s))) if bin_width_s is None else float(bin_width_s)
    if not 0 < width < np.inf:
        raise ValueError(f"{os.fspath(path)}: attribute 'bin_width_s' must be positive [s], got {width}")
    return Recording(
        spikes=check.integers("trials/spikes", "spike counts"),
        behavior={name: check.finite(f"trials/{name}") for name in behavior},
        units=units,
        split=check.split("trials/split"),
        time_s=time_s,
        bin_width_s=width,
        **{
            name: check.target(d) if name == "target_xy" else check.integers(d, "labels") for name, d in present.items()
        },
    )


class Checks:
    """Values of datasets, each after a check that names what does not fit."""

    def __init__(self, path: str | os.PathLike, arrays: Mapping[str, np.ndarray]):
        self.path, self.arrays = path, arrays

    def reject(self, name: str, bad: Bool[np.ndarray, "..."], expected: str) -> None:
        if bad.any():
            index = tuple(int(i) for i in np.argwhere(bad)[0])
            value = self.arrays[name][index]
            raise ValueError(
                f"{os.fspath(self.path)}: expected {expected} in dataset {name!r} of shape {bad.shape}, got {value} at "
                f"index {index}"
            )

    def finite(self, name: str) -> Float[np.ndarray, "..."]:
        self.reject(name, ~np.isfinite(self.arrays[name]), "finite values")
        return self.arrays[name].astype(np.float64)

    target = finite

    def integers(self, name: str, what: str) -> Int[np.ndarray, "..."]:
        values: Any = self.arrays[name]
        with np.errstate(invalid="ignore"):
            bad = ~np.isfinite(values) | (values < 0) | (values != np.floor(values))
        self.reject(name, bad, f"{what}, non-negative integers,")
        return values.astype(np.int32)

    def split(self, name: str) -> Int[np.ndarray, "trials"]:
        values = self.arrays[name]
        self.reject(name, ~np.isin(values, (TRAIN, VALIDATION, TEST)), "0 (train), 1 (validation) or 2 (test)")
        for number, part in enumerate(("training", "validation", "test")):
            if not (values == number).any():
                raise ValueError(f"{os.fspath(self.path)}: dataset {name!r} has no {part} trial (value {number})")
        return values.astype(np.int32)

    def times(self, name: str) -> Float[np.ndarray, "time"]:
        times = self.finite(name)
        if len(times) < 2:
            raise ValueError(
                f"{os.fspath(self.path)}: dataset {name!r} has shape {times.shape}, expected 2 bins or more"
            )
        self.reject(name, np.concatenate([[False], np.diff(times) <= 0]), "increasing times [s]")
        return times
