"""Sets of fixed points in HDF5 files."""

import os
from typing import Any

import h5py
import numpy as np

from ctd_models.analysis.systems import Structure

FORMAT_VERSION = 1
SETTINGS = ("kind", "dt", "tolerance", "num_candidates", "smallest_speed")


def save(points: Any, path: str | os.PathLike) -> None:
    """Writes a set to a file that appears only when it is whole."""
    path = os.fspath(path)
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    temporary = f"{path}.tmp"
    with h5py.File(temporary, "w") as file:
        file.attrs["format_version"] = FORMAT_VERSION
        _write(points, file)
    os.replace(temporary, path)


def load(cls: type, path: str | os.PathLike) -> Any:
    """The set that `save` wrote."""
    if not os.path.isfile(path):
        raise FileNotFoundError(f"there is no file {os.fspath(path)}")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise ValueError(f"{path} is not a file of fixed points, or damaged ({error})") from error
    with file:
        version = file.attrs.get("format_version")
        if version is None or version > FORMAT_VERSION or "states" not in file:
            raise ValueError(f"{path} is not a file of fixed points of format {FORMAT_VERSION} or older")
        return _read(cls, file)


def _write(points: Any, group: h5py.Group) -> None:
    for name, value in points.per_point().items():
        group.create_dataset(name, data=value.astype("S") if value.dtype.kind == "U" else value)
    for name in SETTINGS:
        if getattr(points, name) is not None:
            group.attrs[name] = getattr(points, name)
    if points.candidate_iterations is not None:
        group.create_dataset("candidate_iterations", data=points.candidate_iterations)
    if points.structure is not None:
        group.attrs["structure"] = points.structure.to_json()
    for reason, indices in points.dropped.items():
        group.create_dataset(f"dropped/{reason}", data=indices)
    if points.forward is not None:
        group.create_group("forward").attrs.update(points.forward)
    if points.ghosts is not None:
        _write(points.ghosts, group.create_group("ghosts"))


def _read(cls: type, group: h5py.Group) -> Any:
    arrays = {name: item[()] for name, item in group.items() if isinstance(item, h5py.Dataset)}
    arrays = {name: value.astype("U") if value.dtype.kind == "S" else value for name, value in arrays.items()}
    settings = {name: _plain(group.attrs[name]) for name in SETTINGS if name in group.attrs}
    return cls(
        **arrays,
        **settings,
        dropped={reason: item[()] for reason, item in group.get("dropped", {}).items()},
        structure=Structure.from_json(group.attrs["structure"]) if "structure" in group.attrs else None,
        forward={k: int(v) for k, v in group["forward"].attrs.items()} if "forward" in group else None,
        ghosts=_read(cls, group["ghosts"]) if "ghosts" in group else None,
    )


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
