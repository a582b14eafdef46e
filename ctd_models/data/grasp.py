"""Movements to objects, with what was seen and perhaps what was recorded: what a network of grasping is trained on."""

import dataclasses
import os
import warnings
from collections.abc import Mapping

import h5py
import numpy as np
from jaxtyping import Float, Int

from ctd_models.data.hdf5 import open_file, read_datasets
from ctd_models.data.recordings import Checks


@dataclasses.dataclass(frozen=True)
class GraspData:
    """Inputs, kinematics and recordings of the same trials, aligned to an event."""

    inputs: Float[np.ndarray, "trials time U"]
    """What a network receives, such as visual features and a hold cue."""
    kinematics: Float[np.ndarray, "trials time K"]
    """What it should put out, such as lengths of muscles."""
    object: Int[np.ndarray, "trials"]
    """Label of the object (or of another condition) of each trial."""
    mask: Float[np.ndarray, "trials time"]
    """Weight of each step: 0 where the kinematics do not count, such as behind the end of a trial."""
    recordings: Mapping[str, Float[np.ndarray, "trials time _"]]
    """Name, such as that of an area → activity of its neurons [trials, time, neurons]."""
    split: Int[np.ndarray, "trials"] | None = None
    """0 train, 1 validation, 2 test; None where the file does not tell."""
    bin_width_s: float | None = None
    """Length of a step [s]; None where the file does not tell."""

    def part(self, number: int) -> Int[np.ndarray, "n"]:
        """Indices of the trials of `TRAIN`, `VALIDATION` or `TEST`.

        Raises:
            ValueError: the file does not split the trials.
        """
        if self.split is None:
            raise ValueError("these data have no dataset 'trials/split': split the trials yourself")
        return np.flatnonzero(self.split == number)


def load_grasp(path: str | os.PathLike) -> GraspData:
    """Reads movements to objects from an HDF5 file.

    Datasets: `trials/inputs` [trials, time, U], `trials/kinematics` [trials, time, K], `trials/object` [trials] (labels, 0
    or larger); and where present `trials/mask` [trials, time] (weights, 0 where nothing counts; without it every step
    counts), `trials/split` [trials] (0 train, 1 validation, 2 test) and `recordings/NAME` [trials, time, neurons] for any
    names. All values must be finite, also where nothing counts. The attribute `bin_width_s` of the file, where present, is
    the length of a step [s].

    A file is written by

        write_datasets(path, {"trials/inputs": …, "trials/kinematics": …, "trials/object": …, "recordings/M1": …},
                       attributes={"bin_width_s": 0.02})

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a dataset is missing or misshapen, or holds values that are not what they should be. The message names
            file, dataset, expected axes and the shape, or the offending value and its index.
        TypeError: a dataset does not hold numbers.

    Warns:
        UserWarning: the group `trials` holds other datasets, which are not read.
    """
    axes = {"trials/inputs": "trials time U", "trials/kinematics": "trials time K", "trials/object": "trials"}
    optional = {"trials/mask": "trials time", "trials/split": "trials"}
    with open_file(path) as file:
        axes |= {name: expected for name, expected in optional.items() if name in file}
        group = file.get("recordings")
        if group is not None and not isinstance(group, h5py.Group):
            raise ValueError(f"{os.fspath(path)}: 'recordings' must be a group of datasets, found a dataset")
        names = sorted(group or ())
        bin_width_s = file.attrs.get("bin_width_s")
        unknown = sorted({f"trials/{name}" for name in file.get("trials", ())} - set(axes))
    if unknown:
        warnings.warn(f"{os.fspath(path)}: not read: {', '.join(unknown)}", UserWarning, stacklevel=2)
    axes |= {f"recordings/{name}": f"trials time neurons_of_{name}" for name in names}
    arrays = read_datasets(path, axes)
    check = Checks(path, arrays)
    number = isinstance(bin_width_s, (int, float, np.number))
    if bin_width_s is not None and not (number and 0 < bin_width_s < np.inf):
        raise ValueError(
            f"{os.fspath(path)}: attribute 'bin_width_s' must be a positive number [s], got {bin_width_s!r}"
        )
    kinematics = check.finite("trials/kinematics")
    mask = np.ones(kinematics.shape[:2])
    if "trials/mask" in arrays:
        mask = check.finite("trials/mask")
        check.reject("trials/mask", mask < 0, "weights, not negative,")
        if not mask.any():
            raise ValueError(f"{os.fspath(path)}: dataset 'trials/mask' is 0 everywhere: nothing counts")
    return GraspData(
        inputs=check.finite("trials/inputs"),
        kinematics=kinematics,
        object=check.integers("trials/object", "labels"),
        mask=mask,
        recordings={name: check.finite(f"recordings/{name}") for name in names},
        split=check.split("trials/split") if "trials/split" in arrays else None,
        bin_width_s=None if bin_width_s is None else float(bin_width_s),
    )
