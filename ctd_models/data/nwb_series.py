"""Time series and observed intervals of NWB files. Knows the objects of pynwb only by their attributes."""

import dataclasses
import os
from typing import Any

import numpy as np
from jaxtyping import Bool, Float


@dataclasses.dataclass(frozen=True)
class Series:
    """Samples of a signal."""

    times_s: Float[np.ndarray, "samples"]
    """Time of each sample [s], ascending."""
    values: Float[np.ndarray, "samples dims"]
    """Values, in `unit`."""
    unit: str
    """Their unit."""

    def at(
        self, times_s: Float[np.ndarray, "trials time"], bin_width_s: float
    ) -> Float[np.ndarray, "trials time dims"]:
        """Values interpolated linearly; NaN outside the series and in gaps of more than two samples and one bin."""
        tolerance = 1e-9 * max(1.0, float(np.abs(self.times_s).max()))
        last = len(self.times_s) - 1
        left = np.clip(np.searchsorted(self.times_s, times_s, side="right") - 1, 0, last - 1)
        step = self.times_s[left + 1] - self.times_s[left]
        weight = np.clip((times_s - self.times_s[left]) / step, 0, 1)[..., None]
        # a sample that is met exactly does not depend on its neighbour, which may be NaN
        low = np.where(weight < 1, (1 - weight) * self.values[left], 0)
        values = low + np.where(weight > 0, weight * self.values[left + 1], 0)
        outside = (times_s < self.times_s[0] - tolerance) | (times_s > self.times_s[-1] + tolerance)
        longest = max(2 * float(np.median(np.diff(self.times_s))), bin_width_s)
        in_gap = (step > longest + tolerance) & (weight[..., 0] > 0) & (weight[..., 0] < 1)
        values[outside | in_gap] = np.nan
        return values


def find_series(file: Any, name: str, path: str | os.PathLike) -> Series:
    """The time series of that name, or "CONTAINER/NAME".

    Raises:
        ValueError: there is none or more than one; it has fewer than two samples, or times that do not ascend.
    """
    series = [item for item in file.objects.values() if hasattr(item, "rate") and hasattr(item, "timestamps")]
    found = [item for item in series if name in _names(item, file)]
    if len(found) != 1:
        known = sorted({_names(item, file)[-1] for item in series})
        raise ValueError(f"{os.fspath(path)} has {len(found)} time series {name!r}, expected one; it has {known}")
    (item,) = found
    values = np.asarray(item.data[:], np.float64)
    values = values * item.conversion + (getattr(item, "offset", 0.0) or 0.0)
    values = values.reshape(len(values), -1)
    if item.timestamps is None:
        times = (item.starting_time or 0.0) + np.arange(len(values)) / item.rate
    else:
        times = np.asarray(item.timestamps[:], np.float64)
    if len(times) < 2 or len(times) != len(values):
        raise ValueError(
            f"{os.fspath(path)}: time series {name!r} has {len(times)} times and {len(values)} values, expected as "
            "many, 2 or more"
        )
    if not (np.diff(times) > 0).all():
        index = int(np.argmin(np.diff(times) > 0)) + 1
        raise ValueError(
            f"{os.fspath(path)}: times of {name!r} do not ascend, {times[index]} follows {times[index - 1]} at {index}"
        )
    return Series(times, values, str(item.unit))


def observed(windows_s: Float[np.ndarray, "trials 2"], intervals: list[np.ndarray]) -> Bool[np.ndarray, "trials"]:
    """Whether the window of a trial lies in the intervals [n, 2] in which every unit was observed."""
    seen = np.ones(len(windows_s), bool)
    for own in {array.tobytes(): array for array in intervals}.values():  # most units share theirs
        starts, stops = _join(np.asarray(own, np.float64).reshape(-1, 2))
        if not len(starts):
            return np.zeros(len(windows_s), bool)
        tolerance = 1e-6  # of the times in the file
        at = np.searchsorted(starts, windows_s[:, 0] + tolerance, side="right") - 1
        seen &= (at >= 0) & (windows_s[:, 1] <= stops[np.maximum(at, 0)] + tolerance)
    return seen


def _join(intervals: Float[np.ndarray, "n 2"]) -> tuple[Float[np.ndarray, "m"], Float[np.ndarray, "m"]]:
    """Starts and stops of the intervals in order, those that touch made one."""
    intervals = intervals[np.argsort(intervals[:, 0])]
    reach = np.maximum.accumulate(intervals[:, 1])
    first = np.concatenate([[True], intervals[1:, 0] > reach[:-1] + 1e-6])[: len(intervals)]
    last = np.concatenate([first[1:], [True]])[: len(intervals)]
    return intervals[first, 0], reach[last]


def _names(item: Any, file: Any) -> tuple[str, str]:
    """Name, and name with what it lies in."""
    container = "acquisition" if file.acquisition.get(item.name) is item else getattr(item.parent, "name", "")
    return item.name, f"{container}/{item.name}"
