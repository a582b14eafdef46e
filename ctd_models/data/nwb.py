"""Trials from files in the format Neurodata Without Borders (NWB), through pynwb."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, no_type_check

import numpy as np
from jaxtyping import Bool, Float, Int, Integer

from ctd_models.data.binning import bin_spike_times, count_bins
from ctd_models.data.nwb_series import find_series, observed
from ctd_models.data.spike_dataset import PARTS, SpikeDataset, warn_of_silent_neurons
from ctd_models.data.spike_trials import SpikeTrials

_SPLITS = {"train": "train", "val": "validation", "valid": "validation", "validation": "validation", "test": "test"}


@no_type_check  # it checks its arguments itself
def load_nwb(
    path: str | os.PathLike,
    bin_width_s: float,
    window_s: tuple[float, float],
    align: str = "start_time",
    *,
    behavior: Sequence[str] = (),
    condition: str | Sequence[str] | None = None,
    where: Mapping[str, Any] | None = None,
    split: str | None = "split",
    heldout: str | None = "heldout",
    num_forward_bins: int = 0,
    labels: bool = False,
) -> SpikeDataset:
    """Bins the spikes of all units around an event of each trial.

    Bin i of a trial is [e + start + i w, e + start + (i + 1) w), where e is the time in the column `align`
    (`bin_spike_times`). Behaviour is interpolated linearly at the start of each bin; it is NaN outside the series and
    in gaps of more than two samples and one bin. A trial is left out, and counted in `dropped`, where `where` or the split
    excludes it, its event has no time, or its window is not within the intervals in which every unit was observed
    (column `obs_intervals`, where present). Files of the Neural Latents Benchmark are read as they are.

    Needs pynwb: `pip install "ctd_models[nwb]"`.

    Args:
        path: the NWB file.
        bin_width_s: width of a bin [s].
        window_s: start and stop of a trial relative to the event [s], a whole number of bins.
        align: column of the trial table with the time of the event [s].
        behavior: names of time series, or "CONTAINER/NAME" where several have the same name.
        condition: column or columns of the trial table whose distinct values are the conditions, numbered in order.
        where: column of the trial table → value that the trials must have, such as {"result": "R"}.
        split: column of the trial table with "train", "val" or "test"; other values leave the trial out. Without the
            column, or None, all trials are for training.
        heldout: column of the table of units that is true for those only to be predicted; without the column, or None,
            none is.
        num_forward_bins: last bins of the window that are only to be predicted.
        labels: whether the conditions also become the `labels` of the trials.

    Returns:
        The trials; `neurons` are rows of the table of units, `trial_indices` rows of the table of trials.

    Raises:
        ImportError: pynwb is not installed.
        FileNotFoundError: there is no such file.
        ValueError: tables, columns or series are missing; times are not what they should be; no training trial is left.
    """
    try:
        from pynwb import NWBHDF5IO
    except ImportError as error:
        raise ImportError('load_nwb needs pynwb: pip install "ctd_models[nwb]"') from error
    if not os.path.isfile(path):
        raise FileNotFoundError(f"there is no file {os.fspath(path)}")
    num_bins = count_bins(*window_s, bin_width_s)
    if num_bins - num_forward_bins < 2 or num_forward_bins < 0:
        raise ValueError(f"expected trials of 2 bins or more to read, got {num_bins} - {num_forward_bins} forward bins")
    if labels and condition is None:
        raise ValueError("labels=True needs the column of the condition")
    with NWBHDF5IO(os.fspath(path), "r") as io:
        file = io.read()
        trials, units = _Table(path, "trials", file.trials), _Table(path, "units", file.units)
        times = trials.numbers(align)
        keep, dropped = _kept_trials(trials, where or {}, times)
        parts = _parts_of(trials, split)
        windows = np.where(np.isfinite(times), times, 0)[:, None] + np.asarray(window_s, float)
        if "obs_intervals" in units:
            seen = observed(windows, units.lists("obs_intervals"))
            dropped["not observed"] = int((keep & ~seen).sum())
            keep &= seen
        dropped["no part"] = int((keep & (parts < 0)).sum())
        kept = np.flatnonzero(keep & (parts >= 0))
        spike_times = units.lists("spike_times")
        held = _heldout(units, heldout)
        conditions = None if condition is None else _conditions(trials, condition)
        series = {name: find_series(file, name, path) for name in behavior}
    if not (parts[kept] == 0).any():
        raise ValueError(f"{os.fspath(path)}: no training trial is left of {len(times)}, left out are {dropped}")
    counts = bin_spike_times(spike_times, window_s, bin_width_s, times[kept])
    counts = counts.astype(np.min_scalar_type(int(counts.max(initial=0))))
    time_s = window_s[0] + bin_width_s * np.arange(num_bins)
    samples = {name: one.at(times[kept][:, None] + time_s, bin_width_s) for name, one in series.items()}
    dataset = _dataset(counts, kept, parts[kept], held, conditions, samples, num_forward_bins, labels)
    dataset |= {"dropped": {reason: number for reason, number in dropped.items() if number}, "bin_width_s": bin_width_s}
    units_of = {name: one.unit for name, one in series.items()}
    dataset = SpikeDataset(**dataset, layout="nwb", time_s=time_s, behavior_units=units_of)
    warn_of_silent_neurons(dataset, os.fspath(path), stacklevel=2)
    return dataset


def _dataset(
    counts: Integer[np.ndarray, "kept time neurons"],
    kept: Int[np.ndarray, "kept"],
    parts: Int[np.ndarray, "kept"],
    held: Bool[np.ndarray, "neurons"],
    conditions: Int[np.ndarray, "trials"] | None,
    behavior: dict[str, Float[np.ndarray, "kept time _"]],
    num_forward_bins: int,
    labels: bool,
) -> dict[str, Any]:
    rows = {name: np.flatnonzero(parts == number) for number, name in enumerate(PARTS) if (parts == number).any()}
    heldout = np.flatnonzero(held).tolist()
    trials = {
        name: SpikeTrials.from_spikes(
            counts[index],
            heldout=heldout,
            num_forward_bins=num_forward_bins,
            labels=conditions[kept[index]] if labels else None,
        )
        for name, index in rows.items()
    }
    return trials | {
        "num_heldin": int((~held).sum()),
        "num_heldout": len(heldout),
        "neurons": np.concatenate([np.flatnonzero(~held), np.flatnonzero(held)]),
        "trial_indices": {name: kept[index] for name, index in rows.items()},
        "conditions": {} if conditions is None else {name: conditions[kept[index]] for name, index in rows.items()},
        "behavior": {name: {b: values[index] for b, values in behavior.items()} for name, index in rows.items()},
    }


class _Table:
    """Columns of a table of the file."""

    def __init__(self, path: str | os.PathLike, name: str, table: Any):
        if table is None or not len(table):
            raise ValueError(f"{os.fspath(path)} has no table of {name}")
        self.label, self.table = f"{os.fspath(path)}: the table of {name}", table

    def __contains__(self, name: str) -> bool:
        return name in self.table.colnames

    def column(self, name: str) -> np.ndarray:
        """One value for each row."""
        if name not in self:
            raise ValueError(f"{self.label} has no column {name!r}, its columns are {list(self.table.colnames)}")
        return np.asarray(self.table[name].data[:])

    def numbers(self, name: str) -> Float[np.ndarray, "rows"]:
        values = self.column(name)
        if values.ndim != 1 or values.dtype.kind not in "iuf" or len(values) != len(self.table):
            raise ValueError(
                f"{self.label}: column {name!r} has {values.dtype} of shape {values.shape}, expected times"
            )
        return values.astype(np.float64)

    def lists(self, name: str) -> list[np.ndarray]:
        """An array for each row."""
        if name not in self:
            raise ValueError(f"{self.label} has no column {name!r}, its columns are {list(self.table.colnames)}")
        index = self.table[name]  # of a column of lists this is where each of them ends
        return np.split(np.asarray(index.target.data[:]), np.asarray(index.data[:-1], np.int64))


def _kept_trials(
    trials: _Table, where: Mapping[str, Any], times: Float[np.ndarray, "trials"]
) -> tuple[Bool[np.ndarray, "trials"], dict[str, int]]:
    chosen = np.ones(len(times), bool)
    for name, value in where.items():
        chosen &= trials.column(name) == value
    timed = np.isfinite(times)
    return chosen & timed, {"where": int((~chosen).sum()), "no time": int((chosen & ~timed).sum())}


def _parts_of(trials: _Table, split: str | None) -> Int[np.ndarray, "trials"]:
    """Number of the part of each trial, -1 for none."""
    if split is None or (split == "split" and split not in trials):
        return np.zeros(len(trials.table), int)
    names = [_SPLITS.get(str(name).lower()) for name in trials.column(split)]
    return np.array([-1 if name is None else PARTS.index(name) for name in names])


def _heldout(units: _Table, heldout: str | None) -> Bool[np.ndarray, "units"]:
    if heldout is None or (heldout == "heldout" and heldout not in units):
        return np.zeros(len(units.table), bool)
    values = units.column(heldout)
    if values.dtype != np.bool_ and not np.isin(values, (0, 1)).all():
        raise ValueError(f"{units.label}: column {heldout!r} is not true or false, got {values[:5].tolist()} …")
    return values.astype(bool)


def _conditions(trials: _Table, condition: str | Sequence[str]) -> Int[np.ndarray, "trials"]:
    columns = [condition] if isinstance(condition, str) else list(condition)
    codes = [np.unique(trials.column(name), return_inverse=True)[1] for name in columns]
    return np.unique(np.stack(codes, axis=1), axis=0, return_inverse=True)[1].reshape(-1).astype(np.int32)
