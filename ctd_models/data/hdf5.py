"""Arrays in HDF5 files: named axes are checked when reading, files appear whole when writing."""

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np


def read_datasets(path: str | os.PathLike, axes: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Reads datasets after a check of their shapes.

    Args:
        path: the HDF5 file.
        axes: dataset → names of its axes, such as `{"trials/spikes": "trials time neurons", "trials/force":
            "trials time 2"}`. Axes of the same name have the same length in all datasets; a number is a length.

    Returns:
        The arrays, by the same names.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not HDF5 or damaged; a dataset is missing, not numeric, empty, or has other axes. The
            message names the file, the dataset, the axes expected and the shape found.
    """
    with open_file(path) as file:
        shapes = {name: _shape(file, path, name, expected.split()) for name, expected in axes.items()}
        _check_lengths(path, axes, shapes)
        return {name: _values(file, path, name) for name in axes}


def write_datasets(
    path: str | os.PathLike,
    arrays: Mapping[str, Any],
    *,
    units: Mapping[str, str] | None = None,
    descriptions: Mapping[str, str] | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> None:
    """Writes arrays, compressed; the file appears under its name only when it is whole.

    Args:
        path: the HDF5 file; parent folders are made, an old file is replaced.
        arrays: dataset → array; slashes in the name are groups.
        units: dataset → its attribute `units`.
        descriptions: dataset → its attribute `description`.
        attributes: attributes of the file, such as a bin width or a seed.

    Raises:
        ValueError: units or descriptions name a dataset that is not among the arrays.
        TypeError: an array is not numeric.
    """
    labels = {"units": dict(units or {}), "description": dict(descriptions or {})}
    for label, values in labels.items():
        if unknown := sorted(set(values) - set(arrays)):
            raise ValueError(f"{label} are given for {unknown}, which are not among the arrays {sorted(arrays)}")
    arrays = {name: np.asarray(value) for name, value in arrays.items()}
    for name, array in arrays.items():
        if not is_numeric(array.dtype):
            raise TypeError(f"expected numbers for dataset {name!r}, got dtype {array.dtype}")
    with whole_file(path) as file:
        file.attrs.update(attributes or {})
        for name, array in arrays.items():
            compression = {"compression": "gzip", "shuffle": True} if array.ndim and array.size else {}
            dataset = file.create_dataset(name, data=array, **compression)
            dataset.attrs.update({label: values[name] for label, values in labels.items() if name in values})


@contextlib.contextmanager
def whole_file(path: str | os.PathLike) -> Iterator[h5py.File]:
    """A new HDF5 file, open for writing, that appears under its name when the context ends without an error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        temporary = Path(folder) / path.name
        with h5py.File(temporary, "w") as file:
            yield file
        os.replace(temporary, path)


def open_file(path: str | os.PathLike) -> h5py.File:
    """The file, open for reading. Use it as a context.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not an HDF5 file.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"there is no file {os.fspath(path)}")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise ValueError(f"{os.fspath(path)} is not an HDF5 file, or damaged ({error})") from error


def _shape(file: h5py.File, path: str | os.PathLike, name: str, axes: list[str]) -> tuple[int, ...]:
    """The shape of a dataset, after a check that it exists, is numeric and has as many axes as named."""
    expected = f"expected {_brackets(axes)}"
    found = file.get(name)
    if not isinstance(found, h5py.Dataset):
        what = "has no dataset" if found is None else "has a group, not a dataset,"
        raise ValueError(f"{os.fspath(path)} {what} {name!r} ({expected}); its datasets are {_datasets(file)}")
    if not is_numeric(found.dtype):
        raise ValueError(f"{os.fspath(path)}: dataset {name!r} has dtype {found.dtype}, expected numbers")
    if found.shape is None or len(found.shape) != len(axes):
        raise ValueError(f"{os.fspath(path)}: dataset {name!r} has shape {found.shape}, {expected}")
    if 0 in found.shape:
        raise ValueError(f"{os.fspath(path)}: dataset {name!r} has an empty axis, shape {found.shape}, {expected}")
    return found.shape


def _check_lengths(path: str | os.PathLike, axes: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]]) -> None:
    first: dict[str, tuple[str, int]] = {}
    for name, shape in shapes.items():
        for axis, length in zip(axes[name].split(), shape, strict=True):
            other, expected = (None, int(axis)) if axis.isdigit() else first.setdefault(axis, (name, length))
            if length != expected:
                why = f"expected {_brackets(axes[name].split())}"
                if other is not None:
                    why += f" with {expected} {axis} as in {other!r}, which has shape {shapes[other]}"
                raise ValueError(f"{os.fspath(path)}: dataset {name!r} has shape {shape}, {why}")


def _values(file: h5py.File, path: str | os.PathLike, name: str) -> np.ndarray:
    try:
        return file[name][()] if file[name].ndim else np.asarray(file[name][()])
    except OSError as error:
        raise ValueError(f"{os.fspath(path)}: dataset {name!r} is damaged and cannot be read ({error})") from error


def _datasets(file: h5py.File) -> list[str]:
    names: list[str] = []
    file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    return names


def is_numeric(dtype: np.dtype) -> bool:
    """Whether arrays of this type hold numbers or booleans."""
    return np.issubdtype(dtype, np.number) or dtype == np.bool_


def _brackets(axes: list[str]) -> str:
    return f"[{', '.join(axes)}]"
