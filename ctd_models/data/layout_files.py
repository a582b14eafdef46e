"""What the readers of all layouts share: datasets of one or several files, and the choices of the caller."""

import dataclasses
import os
from collections.abc import Sequence

import h5py
import numpy as np
from jaxtyping import Int, Shaped

from ctd_models.data.hdf5 import open_file, read_datasets
from ctd_models.data.spike_dataset import finite, whole_numbers


@dataclasses.dataclass(frozen=True)
class ReadOptions:
    """Choices of the caller, as `load_spike_trials` describes them."""

    counts: bool = True
    """Whether spikes must be counts."""
    heldin: Sequence[int] | None = None
    """Columns of the neurons that are read."""
    heldout: Sequence[int] | None = None
    """Columns of the neurons that are only to be predicted."""
    num_forward_bins: int = 0
    """Last bins that are only to be predicted."""
    external_inputs: str | None = None
    """Name of the dataset of known inputs."""
    behavior: Sequence[str] | None = None
    """Names of the behaviours; None: all."""
    labels: bool = False
    """Whether conditions become labels."""
    bin_width_s: float | None = None
    """Width of a bin [s]."""
    group: str | None = None
    """Group of the targets."""

    def spikes(
        self, values: Shaped[np.ndarray, "..."], where: str, *, missing: bool = False
    ) -> Shaped[np.ndarray, "..."]:
        """The values after a check that they are counts or, without `counts`, finite; NaN passes where `missing`."""
        return (whole_numbers if self.counts else finite)(values, where, missing=missing)


@dataclasses.dataclass(frozen=True)
class _Entry:
    path: str
    name: str
    shape: tuple[int, ...]
    is_numeric: bool
    units: str | None


class Datasets:
    """The datasets of one or several HDF5 files, or those in the group `root`; values are read when asked for.

    Raises:
        ValueError: a file has no such group.
    """

    def __init__(self, paths: Sequence[str | os.PathLike], root: str | None = None):
        self.paths = [os.fspath(path) for path in paths]
        self.root = "" if root is None else root.strip("/") + "/"
        self.where = ", ".join(self.paths) + (f", group {self.root[:-1]!r}" if self.root else "")
        """The files, for messages."""
        self.attributes: dict[str, object] = {}
        """Attributes of the files, and of the group."""
        self._entries: list[_Entry] = []
        for path in self.paths:
            with open_file(path) as file:
                self.attributes = dict(file.attrs) | self.attributes
                folder = file.get(self.root or "/")
                if not isinstance(folder, h5py.Group):
                    raise ValueError(f"{path} has no group {root!r}, at its top are {sorted(file)}")
                if self.root:
                    self.attributes |= dict(folder.attrs)
                folder.visititems(lambda name, item, path=path: self._add(path, name, item))

    def _add(self, path: str, name: str, item: h5py.Dataset | h5py.Group) -> None:
        if isinstance(item, h5py.Dataset):
            units = item.attrs.get("units")
            units = units.decode() if isinstance(units, bytes) else units
            self._entries.append(
                _Entry(path, name, item.shape or (), item.dtype.kind in "iufb", None if units is None else str(units))
            )

    def find(self, name: str, group: str | None = None) -> list[_Entry]:
        """Datasets of that name; "*/NAME" in any group or none, with `group` only in this group or none."""
        if not name.startswith("*/"):
            return [entry for entry in self._entries if entry.name == name]
        return [entry for entry in self._in_group(group) if entry.name.rsplit("/", 1)[-1] == name[2:]]

    def __contains__(self, name: str) -> bool:
        return bool(self.find(name))

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of the dataset."""
        return self.find(name)[0].shape

    def units(self, name: str) -> str | None:
        """Its attribute `units`."""
        return self.find(name)[0].units

    def inside(self, prefix: str) -> list[_Entry]:
        """Numeric datasets whose name is the prefix and something without a slash."""
        return [
            e for e in self._entries if e.is_numeric and e.name.startswith(prefix) and "/" not in e.name[len(prefix) :]
        ]

    def numeric(self, group: str | None = None) -> list[_Entry]:
        """Those that hold numbers; with `group` only in this group or none."""
        return [entry for entry in self._in_group(group) if entry.is_numeric]

    def _in_group(self, group: str | None) -> list[_Entry]:
        return [e for e in self._entries if group is None or e.name.rpartition("/")[0] in ("", group.strip("/"))]

    def label(self, entry: _Entry) -> str:
        """File and name, for messages."""
        return f"{entry.path}: dataset {self.root + entry.name!r}"

    def read_entry(self, entry: _Entry) -> np.ndarray:
        """One dataset of any file."""
        name = self.root + entry.name
        return read_datasets(entry.path, {name: " ".join(f"axis_{i}" for i in range(len(entry.shape)))})[name]

    def read(self, axes: dict[str, str]) -> dict[str, np.ndarray]:
        """Datasets of the first file, as `read_datasets` does."""
        found = read_datasets(self.paths[0], {self.root + name: expected for name, expected in axes.items()})
        return {name[len(self.root) :]: values for name, values in found.items()}

    def labels_from_lists(self, entry: _Entry, num_trials: int) -> Int[np.ndarray, "trials"]:
        """The label of each trial from a dataset that lists the trials of each condition; -1: in no list."""
        with open_file(entry.path) as file:
            lists = [np.atleast_1d(trials) for trials in file[self.root + entry.name][()]]
        labels = np.full(num_trials, -1, np.int32)
        trials = np.concatenate([np.zeros(0), *lists])
        if (outside := (trials < 0) | (trials >= num_trials) | (trials != np.floor(trials))).any():
            raise ValueError(
                f"{entry.path}: dataset {entry.name!r} lists trial {trials[outside][0]:g}, there are {num_trials}"
            )
        labels[trials.astype(int)] = np.repeat(np.arange(len(lists)), [len(trials) for trials in lists])
        return labels

    def bin_width_s(self, given: float | None) -> float | None:
        """The width of a bin [s], from the attribute `bin_width_s` or as given.

        Raises:
            ValueError: it is not positive, or the file tells another width than the one given.
        """
        found = self.attributes.get("bin_width_s")
        if found is None:
            return given
        found = float(np.asarray(found).item())
        if not 0 < found < np.inf:
            raise ValueError(f"{self.where}: attribute 'bin_width_s' must be positive [s], got {found}")
        if given is not None and not np.isclose(given, found, rtol=1e-6):
            raise ValueError(f"{self.where}: attribute 'bin_width_s' is {found} s, bin_width_s={given} was asked for")
        return found

    def summary(self) -> str:
        """Names and shapes of the datasets."""
        listed = [f"{entry.name} {list(entry.shape)}" for entry in self._entries[:60]]
        return ", ".join(listed + [f"and {len(self._entries) - 60} more"] * (len(self._entries) > 60)) or "none"


def check_bins(shape: tuple[int, ...], where: str) -> None:
    """Raises ValueError where trials have fewer than two bins to read."""
    if shape[1] < 2:
        raise ValueError(f"{where} of shape {shape}: expected trials of 2 bins or more to read, got {shape[1]}")


def check_labels(labels: Int[np.ndarray, "trials"] | None, where: str) -> Int[np.ndarray, "trials"]:
    """The labels, or ValueError unless every trial has one from 0."""
    if labels is None:
        raise ValueError(f"{where}: labels=True needs conditions, the file has none")
    if (labels < 0).any():
        trial = int(np.argmax(labels < 0))
        raise ValueError(
            f"{where}: labels=True needs a condition from 0 for each trial, trial {trial} has {labels[trial]}"
        )
    return labels
