"""Spike times to counts in bins."""

from collections.abc import Sequence
from typing import Any, no_type_check

import numpy as np
from jaxtyping import Bool, Float, Int, Real

_EDGE_ROUNDING = 16 * np.finfo(np.float64).eps  # errors of decimal times and their sums stay below this, relative
_CELLS_AT_ONCE = 2**24


@no_type_check  # it checks its arguments itself
def bin_spike_times(
    spike_times_s: Sequence[Float[Any, "spikes"]],
    window_s: tuple[float, float],
    bin_width_s: float,
    events_s: Float[Any, "trials"] | None = None,
) -> Int[np.ndarray, "trials time neurons"]:
    """Counts the spikes of each neuron in bins around events.

    Bin i of a trial is the half-open interval [e + start + i w, e + start + (i + 1) w), where e is the time of its
    event and w the bin width. Times that differ by no more than the rounding of float64 (16 ε of the larger) count as equal,
    so that a spike at 0.3 s opens the fourth bin of 0.1 s, although 3 · 0.1 > 0.3 in floating point. Windows may
    overlap: a spike counts in each of them.

    Args:
        spike_times_s: for each neuron the times of its spikes [s], in ascending order; it may have none.
        window_s: start and stop relative to the event [s]; their difference is a whole number of bins.
        bin_width_s: width of a bin [s].
        events_s: time of the event of each trial [s], in any order; None: one trial whose window is in absolute time.

    Returns:
        The counts, int32.

    Raises:
        ValueError: times are not finite or not in order; the window is empty or no whole number of bins; bins are not
            wider than the rounding of the times.
    """
    start, stop = (float(edge) for edge in window_s)
    num_bins = count_bins(start, stop, bin_width_s)
    times, neurons = _merge(check_spike_times(spike_times_s))
    events = np.zeros(1) if events_s is None else np.asarray(events_s, np.float64)
    if events.ndim != 1 or not np.isfinite(events).all():
        bad = "" if events.ndim != 1 else f", got {events[~np.isfinite(events)][0]} at index {_first(events)}"
        raise ValueError(f"expected events_s [trials] of finite times [s], shape {events.shape}{bad}")
    latest = max(np.abs(events).max(initial=0), np.abs(times).max(initial=0)) + max(abs(start), abs(stop))
    tolerance = _EDGE_ROUNDING * latest
    if tolerance > 0.01 * bin_width_s:
        raise ValueError(
            f"bins of {bin_width_s} s are not wider than the rounding of times as large as {latest} s: "
            "subtract an offset"
        )
    counts = np.empty((len(events), num_bins, len(spike_times_s)), np.int32)
    block = max(1, _CELLS_AT_ONCE // max(1, counts[:1].size))
    for first in range(0, len(events), block):
        starts = events[first : first + block] + start
        counts[first : first + block] = _count(times, neurons, starts, bin_width_s, tolerance, counts.shape[1:])
    return counts


@no_type_check  # it checks its arguments itself
def rebin(
    counts: Real[Any, "trials time neurons"], factor: int, *, drop_remainder: bool = False
) -> Real[np.ndarray, "trials bins neurons"]:
    """Sums `factor` adjacent bins into one.

    Args:
        counts: counts of the narrow bins.
        factor: how many of them make a wide one.
        drop_remainder: whether bins at the end that fill no wide one are left out.

    Returns:
        The sums: int32 for integers of up to 32 bits, else in the type of the counts.

    Raises:
        ValueError: not three axes; `factor` is not a positive integer or more than the bins; bins remain and
            `drop_remainder` is False.
    """
    counts = np.asarray(counts)
    if counts.ndim != 3:
        raise ValueError(f"expected counts [trials, time, neurons], got shape {counts.shape}")
    time = counts.shape[1]
    if not isinstance(factor, int | np.integer) or not 1 <= factor <= time:
        raise ValueError(f"factor must be an integer in 1 … {time}, the number of bins, got {factor}")
    num_bins, remainder = divmod(time, int(factor))
    if remainder and not drop_remainder:
        raise ValueError(
            f"{time} bins are {num_bins} times {factor} and {remainder} more: drop_remainder=True leaves these out"
        )
    dtype = np.int32 if counts.dtype.kind in "iub" and counts.dtype.itemsize <= 4 else counts.dtype
    grouped = counts[:, : num_bins * factor].reshape(len(counts), num_bins, factor, counts.shape[2])
    return grouped.sum(axis=2, dtype=dtype)


def count_bins(start_s: float, stop_s: float, bin_width_s: float) -> int:
    """The number of bins in a window.

    Raises:
        ValueError: the width is not positive, the duration not positive, or no whole number of bins.
    """
    if not 0 < bin_width_s < np.inf:
        raise ValueError(f"bin_width_s must be positive [s], got {bin_width_s}")
    if not (np.isfinite(start_s) and np.isfinite(stop_s) and start_s < stop_s):
        raise ValueError(f"a window stops after its start, got start {start_s} s and stop {stop_s} s")
    bins = (stop_s - start_s) / bin_width_s
    if round(bins) < 1 or abs(bins - round(bins)) > 1e-6:
        raise ValueError(
            f"the window from {start_s} s to {stop_s} s holds {bins:g} bins of {bin_width_s} s, expected a whole number"
        )
    return round(bins)


@no_type_check  # it checks its arguments itself
def check_spike_times(spike_times_s: Sequence[Float[Any, "spikes"]]) -> list[Float[np.ndarray, "spikes"]]:
    """The times as float64 arrays.

    Raises:
        ValueError: there is no neuron; times are not one-dimensional, not finite or not in ascending order. The message
            names the neuron, the value and its index.
    """
    arrays = [np.asarray(times, np.float64) for times in spike_times_s]
    if not arrays:
        raise ValueError("expected the spike times of one neuron or more, got none")
    for neuron, times in enumerate(arrays):
        if times.ndim != 1:
            raise ValueError(
                f"expected spike times [spikes] for each neuron, got shape {times.shape} for neuron {neuron}"
            )
    lengths = np.array([len(times) for times in arrays])
    merged = np.concatenate(arrays)
    _reject_time(~np.isfinite(merged), merged, lengths, "finite spike times [s]")
    falls = np.concatenate([[False], np.diff(merged) < 0])[: len(merged)]
    starts = np.cumsum(lengths) - lengths
    falls[starts[lengths > 0]] = False
    _reject_time(falls, merged, lengths, "spike times in ascending order")
    return arrays


def _reject_time(
    bad: Bool[np.ndarray, "n"], merged: Float[np.ndarray, "n"], lengths: Int[np.ndarray, "neurons"], expected: str
) -> None:
    if bad.any():
        at = int(np.argmax(bad))
        neuron = int(np.searchsorted(np.cumsum(lengths), at, side="right"))
        index = at - int(lengths[:neuron].sum())
        before = f" after {merged[at - 1]}" if index and np.isfinite(merged[at]) else ""
        raise ValueError(f"expected {expected}, got {merged[at]}{before} at index {index} of neuron {neuron}")


def _first(values: Float[np.ndarray, "n"]) -> int:
    return int(np.argmax(~np.isfinite(values)))


def _merge(arrays: list[Float[np.ndarray, "_"]]) -> tuple[Float[np.ndarray, "n"], Int[np.ndarray, "n"]]:
    """All spikes in order of time, and the neuron of each."""
    neurons = np.repeat(np.arange(len(arrays)), [len(times) for times in arrays])
    times = np.concatenate(arrays)
    order = np.argsort(times, kind="stable")
    return times[order], neurons[order]


def _count(
    times: Float[np.ndarray, "n"],
    neurons: Int[np.ndarray, "n"],
    starts: Float[np.ndarray, "trials"],
    width: float,
    tolerance: float,
    shape: tuple[int, int],
) -> Int[np.ndarray, "trials time neurons"]:
    num_bins, num_neurons = shape
    low = np.searchsorted(times, starts - tolerance)
    high = np.searchsorted(times, starts + num_bins * width + tolerance)
    lengths = high - low
    trial = np.repeat(np.arange(len(starts)), lengths)
    spike = np.arange(len(trial)) + np.repeat(low - (np.cumsum(lengths) - lengths), lengths)
    position = (times[spike] - starts[trial]) / width
    nearest = np.rint(position)
    bin_ = np.where(np.abs(position - nearest) * width <= tolerance, nearest, np.floor(position)).astype(np.int64)
    inside = (bin_ >= 0) & (bin_ < num_bins)
    flat = (trial[inside] * num_bins + bin_[inside]) * num_neurons + neurons[spike[inside]]
    counts = np.bincount(flat, minlength=len(starts) * num_bins * num_neurons)
    return counts.reshape(len(starts), num_bins, num_neurons)
