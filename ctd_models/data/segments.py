"""Continuous recordings, cut into overlapping segments and merged again."""

import dataclasses
from collections.abc import Sequence
from typing import Any, no_type_check

import numpy as np
from jaxtyping import Float, Int, Shaped


@dataclasses.dataclass(frozen=True)
class Segments:
    """Overlapping pieces of a recording, and where they come from."""

    values: Shaped[np.ndarray, "segments length ..."]
    """Values of each segment; read-only where it is a view of the recording."""
    starts: Int[np.ndarray, "segments"]
    """First bin of each segment in the recording."""
    stretches: Int[np.ndarray, "segments"]
    """Number of the continuous stretch that a segment is cut from."""
    num_bins: int
    """Bins of the recording."""
    num_shifted: int
    """Segments that begin earlier than the regular step asks for, to end exactly where their stretch ends."""
    num_dropped_bins: int
    """Bins of the stretches that are in no segment."""
    short_stretches: tuple[int, ...]
    """Numbers of the stretches that are shorter than a segment, and so give none."""


@no_type_check  # it checks its arguments itself
def cut_segments(
    values: Shaped[Any, "time ..."],
    length: int,
    overlap: int = 0,
    *,
    stretches: Sequence[tuple[int, int]] | None = None,
    keep_rest: bool = True,
) -> Segments:
    """Cuts a recording into segments of `length` bins, of which each begins length − overlap bins after the one before.

    Where the step does not end a stretch exactly, its last segment begins earlier, so that it ends there and overlaps
    more (`keep_rest`); or the rest is dropped. Either is counted. Without shifted segments and with one stretch, the
    values are a view of the recording, else one copy.

    Args:
        values: the recording, time first.
        length: bins of a segment.
        overlap: bins that neighbours share, below `length`.
        stretches: (first bin, bin after the last) of each continuous part, such as trials or the time between gaps; they
            do not overlap, and no segment crosses from one to another. None: all is one.
        keep_rest: whether the rest of a stretch is kept in a shifted segment.

    Raises:
        ValueError: length, overlap or stretches do not fit; no stretch is as long as a segment.
        TypeError: length or overlap are not whole numbers.
    """
    values = np.asarray(values)
    if values.ndim < 1:
        raise ValueError(f"expected values [time, …], got shape {values.shape}")
    _check_whole("length", length, 1)
    _check_whole("overlap", overlap, 0)
    if overlap >= length:
        raise ValueError(f"overlap must be below the length of {length} bins, got {overlap}")
    bounds = _check_stretches([(0, len(values))] if stretches is None else stretches, len(values))
    sizes = bounds[:, 1] - bounds[:, 0]
    if (sizes < length).all():
        raise ValueError(f"segments of {length} bins are longer than the longest stretch, {sizes.max()} bins")
    step = length - overlap
    regular = np.where(sizes >= length, (sizes - length) // step + 1, 0)
    rest = np.where(regular > 0, sizes - ((regular - 1) * step + length), sizes)
    shifted = (rest > 0) & (regular > 0) & keep_rest
    number = np.repeat(np.arange(len(bounds)), regular + shifted)
    position = np.arange(len(number)) - np.repeat(np.cumsum(regular + shifted) - (regular + shifted), regular + shifted)
    starts = np.minimum(bounds[number, 0] + position * step, bounds[number, 1] - length)
    windows = np.moveaxis(np.lib.stride_tricks.sliding_window_view(values, length, axis=0), -1, 1)
    is_regular = len(bounds) == 1 and not shifted.any()
    return Segments(
        values=windows[starts[0] : starts[-1] + 1 : step] if is_regular else windows[starts],
        starts=starts,
        stretches=number,
        num_bins=len(values),
        num_shifted=int(shifted.sum()),
        num_dropped_bins=int(rest[~shifted].sum()),
        short_stretches=tuple(np.flatnonzero(sizes < length).tolist()),
    )


@no_type_check  # it checks its arguments itself
def merge_segments(
    segment_values: Shaped[Any, "segments length ..."],
    starts: Int[Any, "segments"],
    num_bins: int,
    *,
    power: float = 2.0,
) -> Float[np.ndarray, "time ..."]:
    """Merges values of overlapping segments, such as inferred rates, into those of the recording.

    Over the bins k = 0 … o − 1 that two neighbours share, the earlier one has the weight 1 − x^power with
    x = (k + ½) / o, and the later one x^power. They sum to 1; where more than two segments meet, their products of ramps
    are divided by the sum. With power above 1 the ends of segments, which know their past, count more than beginnings.

    Args:
        segment_values: one array [segments, length, …], in any order.
        starts: first bin of each segment in the recording, each once (`Segments.starts`).
        num_bins: bins of the recording.
        power: of the ramp, positive; 1 is linear.

    Returns:
        values [time, …], NaN in bins that no segment covers. Integers become floats.

    Raises:
        ValueError: shapes do not fit; a segment is named twice or reaches outside the recording.

    References:
        The ramp is that of the AutoLFADS tools (Keshtkaran et al. 2022, doi:10.1038/s41592-022-01675-0).
    """
    segment_values, starts = np.asarray(segment_values), np.asarray(starts)
    _check_whole("num_bins", num_bins, 1)
    if segment_values.ndim < 2 or 0 in segment_values.shape[:2] or starts.shape != segment_values.shape[:1]:
        raise ValueError(
            "expected values [segments, length, …] and starts [segments], none empty, got shapes "
            f"{segment_values.shape} and {starts.shape}"
        )
    if not np.issubdtype(starts.dtype, np.integer):
        raise TypeError(f"expected starts to be whole numbers, got dtype {starts.dtype}")
    if not 0 < power < np.inf:
        raise ValueError(f"power must be positive and finite, got {power}")
    length = segment_values.shape[1]
    if (outside := (starts < 0) | (starts + length > num_bins)).any():
        i = int(np.argmax(outside))
        raise ValueError(f"segment {i} of {length} bins starts at {starts[i]} and reaches outside 0 … {num_bins - 1}")
    order = np.argsort(starts, kind="stable")
    ordered = starts[order]
    if (same := np.diff(ordered) == 0).any():
        where = order[np.flatnonzero(same)[0] + np.arange(2)]
        raise ValueError(f"segments {where[0]} and {where[1]} both start at bin {starts[where[0]]}")
    weights = _weights(ordered, length, power)
    dtype = np.result_type(segment_values.dtype, np.float32)
    merged = np.zeros((num_bins, *segment_values.shape[2:]), np.result_type(dtype, np.float64))
    total = np.zeros(num_bins)
    # segments i, i + depth, i + 2 depth, … do not overlap, so that each of these sums has no bin twice
    depth = int((np.arange(len(ordered)) - np.searchsorted(ordered, ordered - length, side="right")).max()) + 1
    for first in range(depth):
        bins = ordered[first::depth, None] + np.arange(length)
        weight = weights[first::depth]
        total[bins] += weight
        merged[bins] += segment_values[order[first::depth]] * weight.reshape(*weight.shape, *[1] * (merged.ndim - 1))
    with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN of bins without a segment
        merged /= total.reshape(-1, *[1] * (merged.ndim - 1))
    return merged.astype(dtype, copy=False)


def _weights(starts: Int[np.ndarray, "segments"], length: int, power: float) -> Float[np.ndarray, "segments length"]:
    """Product of the ramps up from the neighbour before and down to the one after; `starts` are in order."""
    shared = np.maximum(starts[:-1] + length - starts[1:], 0)  # bins of each segment and the next
    before, after = np.concatenate([[0], shared])[:, None], np.concatenate([shared, [0]])[:, None]
    bins = np.arange(length)
    ramp_up = np.clip((bins + 0.5) / np.maximum(before, 1), 0, 1) ** power
    ramp_down = 1 - np.clip((bins + 0.5 - (length - after)) / np.maximum(after, 1), 0, 1) ** power
    up = np.where(bins < before, ramp_up, 1.0)
    down = np.where(bins >= length - after, ramp_down, 1.0)
    return np.maximum(up * down, 1e-200)  # so that a steep ramp leaves no covered bin without weight


def _check_stretches(stretches: Any, num_bins: int) -> Int[np.ndarray, "stretches 2"]:
    bounds = np.asarray(stretches)
    if bounds.ndim != 2 or bounds.shape[1] != 2 or len(bounds) == 0 or not np.issubdtype(bounds.dtype, np.integer):
        raise ValueError(
            f"expected stretches as pairs (first bin, bin after the last), got shape {bounds.shape} of {bounds.dtype}"
        )
    first, end = bounds.T
    if (wrong := ~((first >= 0) & (first < end) & (end <= num_bins))).any():
        i = int(np.argmax(wrong))
        raise ValueError(f"stretch {i} is ({first[i]}, {end[i]}), expected 0 ≤ first < end ≤ {num_bins}")
    order = np.argsort(bounds[:, 0], kind="stable")
    if (both := bounds[order[1:], 0] < bounds[order[:-1], 1]).any():
        i = int(np.argmax(both))
        raise ValueError(f"stretches {order[i]} and {order[i + 1]} overlap at bin {bounds[order[i + 1], 0]}")
    return bounds


def _check_whole(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    if value < least:
        raise ValueError(f"{name} must be {least} or more, got {value}")
