"""Results larger than memory, written to HDF5 chunk after chunk."""

import contextlib
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, no_type_check

import h5py
import numpy as np
from tqdm.auto import tqdm

from ctd_models.data.hdf5 import is_numeric, whole_file

INDICES = "trial_indices"
_CHUNK_BYTES = 2**18  # of HDF5's own chunks; its cache of 1 MiB holds some of each dataset


@no_type_check  # it checks its arguments itself
def write_chunks(
    path: str | os.PathLike,
    chunks: Iterable[Mapping[str, Any]],
    *,
    num_trials: int | None = None,
    units: Mapping[str, str] | None = None,
    descriptions: Mapping[str, str] | None = None,
    attributes: Mapping[str, Any] | None = None,
    trial_indices: Any = None,
    progress: bool | None = None,
) -> int:
    """Writes trials chunk by chunk, compressed, in the memory of one chunk.

    The file appears under its name only when it is whole: whatever fails before, an old file of this name stays and
    nothing else is left. Beside the arrays it holds `trial_indices` [trials].

    Args:
        path: the HDF5 file; parent folders are made, an old file is replaced.
        chunks: each a mapping of dataset → array [trials, …]; slashes in the name are groups. All have the same names,
            dtypes and shapes, apart from the number of trials, which may differ from chunk to chunk. An iterator is
            asked for the next chunk when the one before is written.
        num_trials: trials of all chunks together, where that is known: anything else is an error, and the progress bar
            has an end.
        units: dataset → its attribute `units`.
        descriptions: dataset → its attribute `description`.
        attributes: attributes of the file.
        trial_indices: numbers of the trials [trials]; None: 0, 1, 2, …
        progress: whether to show a progress bar; None: on terminals.

    Returns:
        The number of trials written.

    Raises:
        ValueError: there is no chunk; a chunk does not fit the first; the number of trials is not the one expected;
            units or descriptions name a dataset that is not there.
        TypeError: a chunk is no mapping, or an array not numeric.
        Exception: whatever else fails, such as the making of a chunk or a full disk, with a note that tells which chunk
            it was and how much was written.
    """
    if trial_indices is not None:
        trial_indices = _check_indices(trial_indices, num_trials)
        num_trials = len(trial_indices)
    bar = tqdm(total=num_trials, unit="trial", desc=Path(path).name, disable=None if progress is None else not progress)
    with whole_file(path) as file, bar:
        file.attrs.update(attributes or {})
        growing = _GrowingFile(file, {"units": dict(units or {}), "description": dict(descriptions or {})}, num_trials)
        iterator = iter(chunks)
        for number in itertools.count():
            with _noted(f"chunk {number}, after {growing.num_trials} trials written to {os.fspath(path)}"):
                try:
                    chunk = next(iterator)
                except StopIteration:
                    break
                bar.update(growing.append(chunk, number))
                del chunk  # before the next one is made
        growing.finish(trial_indices)
    return growing.num_trials


class _GrowingFile:
    """Datasets of a file that grow together along their first axis."""

    def __init__(self, file: h5py.File, labels: Mapping[str, Mapping[str, str]], expected: int | None):
        self.file, self.labels, self.expected = file, labels, expected
        self.num_trials = 0
        self.form: dict[str, tuple[tuple[int, ...], np.dtype]] = {}

    def append(self, chunk: Any, number: int) -> int:
        """Writes a chunk after the others; its number of trials."""
        arrays = _arrays(chunk, number)
        form = {name: (array.shape[1:], array.dtype) for name, array in arrays.items()}
        if not self.form:
            self._create(form)
        self._check(form, number)
        count = len(next(iter(arrays.values())))
        total = self.num_trials + count
        if self.expected is not None and total > self.expected:
            raise ValueError(f"expected {self.expected} trials, chunk {number} makes them {total}")
        for name, array in arrays.items():
            self.file[name].resize(total, axis=0)
            self.file[name][self.num_trials :] = array
        self.num_trials = total
        return count

    def finish(self, trial_indices: np.ndarray | None) -> None:
        """Writes the numbers of the trials, after a check of how many there are."""
        if not self.form:
            raise ValueError("there is no chunk to write")
        if self.expected is not None and self.num_trials != self.expected:
            raise ValueError(f"expected {self.expected} trials, the chunks have {self.num_trials}")
        self.file[INDICES] = np.arange(self.num_trials) if trial_indices is None else trial_indices
        self._label(INDICES)

    def _create(self, form: Mapping[str, tuple[tuple[int, ...], np.dtype]]) -> None:
        for label, values in self.labels.items():
            if unknown := sorted(set(values) - {*form, INDICES}):
                raise ValueError(f"{label} are given for {unknown}, which are not among the datasets {sorted(form)}")
        for name, (shape, dtype) in form.items():
            trial_bytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
            chunk = (max(1, _CHUNK_BYTES // trial_bytes), *shape) if trial_bytes <= _CHUNK_BYTES else True
            layout = {"maxshape": (None, *shape), "chunks": chunk, "compression": "gzip", "shuffle": True}
            self.file.create_dataset(name, (0, *shape), dtype, **layout)
            self._label(name)
        self.form = dict(form)

    def _label(self, name: str) -> None:
        self.file[name].attrs.update({label: values[name] for label, values in self.labels.items() if name in values})

    def _check(self, form: Mapping[str, tuple[tuple[int, ...], np.dtype]], number: int) -> None:
        if form.keys() != self.form.keys():
            raise ValueError(f"chunk {number} has the datasets {sorted(form)}, the first chunk {sorted(self.form)}")
        for name, (shape, dtype) in form.items():
            if (shape, dtype) != self.form[name]:
                raise ValueError(
                    f"chunk {number}: dataset {name!r} has trials of shape {shape} and dtype {dtype}, in the first chunk "
                    f"{self.form[name][0]} and {self.form[name][1]}"
                )


@contextlib.contextmanager
def _noted(place: str) -> Iterator[None]:
    """Tells an error that passes where it came from."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"in {place}")
        raise


def _arrays(chunk: Any, number: int) -> dict[str, np.ndarray]:
    """The arrays of a chunk, after a check of what can be told without the first chunk."""
    if not isinstance(chunk, Mapping) or not chunk:
        raise TypeError(
            f"chunk {number}: expected a mapping of dataset → array [trials, …], got {type(chunk).__name__}"
        )
    arrays = {name: np.asarray(array) for name, array in chunk.items()}
    counts = {}
    for name, array in arrays.items():
        if name == INDICES:
            raise ValueError(
                f"chunk {number} has a dataset {INDICES!r}: give it as an argument, for all chunks together"
            )
        if not is_numeric(array.dtype):
            raise TypeError(f"chunk {number}: expected numbers for dataset {name!r}, got dtype {array.dtype}")
        if array.ndim < 1 or 0 in array.shape[1:]:
            raise ValueError(
                f"chunk {number}: dataset {name!r} has shape {array.shape}, expected [trials, …], not empty"
            )
        counts.setdefault(len(array), name)
    if len(counts) > 1:
        (one, name), (other, other_name), *_ = counts.items()
        raise ValueError(f"chunk {number}: dataset {name!r} has {one} trials, {other_name!r} has {other}")
    return arrays


def _check_indices(trial_indices: Any, num_trials: int | None) -> np.ndarray:
    indices = np.asarray(trial_indices)
    if indices.ndim != 1 or not np.issubdtype(indices.dtype, np.integer):
        raise ValueError(f"expected trial_indices [trials], integers, got shape {indices.shape} of {indices.dtype}")
    if num_trials is not None and num_trials != len(indices):
        raise ValueError(f"num_trials is {num_trials}, but there are {len(indices)} trial_indices")
    return indices
