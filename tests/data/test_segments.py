import itertools

import numpy as np
import pytest

from ctd_models.data.segments import cut_segments, merge_segments


@pytest.fixture
def recording():
    return np.random.default_rng(0).normal(size=(103, 4))


@pytest.mark.parametrize(("length", "overlap"), [(20, 0), (20, 5), (20, 19), (7, 6), (103, 0), (1, 0), (50, 30)])
@pytest.mark.parametrize("power", [0.5, 1.0, 2.0, 1e4])
def test_merging_what_was_cut_gives_it_back(recording, length, overlap, power):
    segments = cut_segments(recording, length, overlap)
    for segment, start in zip(segments.values, segments.starts, strict=True):
        np.testing.assert_array_equal(segment, recording[start : start + length])
    assert segments.num_dropped_bins == 0
    merged = merge_segments(segments.values, segments.starts, 103, power=power)
    np.testing.assert_allclose(merged, recording, rtol=1e-13, atol=1e-14)


def test_regular_segments_are_a_view(recording):
    segments = cut_segments(recording[:95], 20, 5)
    np.testing.assert_array_equal(segments.starts, [0, 15, 30, 45, 60, 75])
    assert np.shares_memory(segments.values, recording)
    assert segments.values.shape == (6, 20, 4)
    assert (segments.num_shifted, segments.num_dropped_bins) == (0, 0)


def test_the_rest_is_shifted_back_or_dropped_and_counted(recording):
    kept = cut_segments(recording, 20, 5)
    np.testing.assert_array_equal(kept.starts, [0, 15, 30, 45, 60, 75, 83])
    assert (kept.num_shifted, kept.num_dropped_bins) == (1, 0)
    dropped = cut_segments(recording, 20, 5, keep_rest=False)
    np.testing.assert_array_equal(dropped.starts, kept.starts[:-1])
    assert (dropped.num_shifted, dropped.num_dropped_bins) == (0, 8)
    merged = merge_segments(dropped.values, dropped.starts, dropped.num_bins)
    np.testing.assert_allclose(merged[:95], recording[:95], rtol=1e-13)
    assert np.isnan(merged[95:]).all()


@pytest.mark.parametrize("keep_rest", [True, False])
def test_no_segment_crosses_the_stretches(recording, keep_rest):
    stretches = [(60, 100), (0, 33), (33, 40), (40, 52)]
    segments = cut_segments(recording, 10, 4, stretches=stretches, keep_rest=keep_rest)
    assert segments.short_stretches == (2,)
    covered = np.zeros(103, bool)
    for start, stretch in zip(segments.starts, segments.stretches, strict=True):
        first, end = stretches[stretch]
        assert first <= start and start + 10 <= end
        covered[start : start + 10] = True
    in_stretches = np.zeros(103, bool)
    for first, end in stretches:
        in_stretches[first:end] = True
    assert segments.num_dropped_bins == (in_stretches & ~covered).sum() == (7 if keep_rest else 7 + 5 + 2)
    assert segments.num_shifted == (2 if keep_rest else 0)
    merged = merge_segments(segments.values, segments.starts, 103)
    np.testing.assert_array_equal(np.isnan(merged).any(axis=1), ~covered)
    np.testing.assert_allclose(merged[covered], recording[covered], rtol=1e-13)


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_two_segments_fade_into_each_other(power):
    """Zeros and ones: the merged values are the weights of the later segment."""
    values = np.stack([np.zeros(8), np.ones(8)])
    merged = merge_segments(values, [0, 5], 13, power=power)
    ramp = ((np.arange(3) + 0.5) / 3) ** power
    np.testing.assert_allclose(merged, [0] * 5 + ramp.tolist() + [1] * 5, atol=1e-15)


def test_weights_of_many_overlapping_segments_by_hand():
    """Bin 4 lies in three segments of six bins that begin at 0, 2 and 4, and share four bins with their neighbours."""
    values = np.random.default_rng(1).normal(size=(3, 6))
    x = (np.arange(4) + 0.5) / 4
    weights = np.array([1 - x[2], x[2] * (1 - x[0]), x[0]])
    expected = (weights * [values[0, 4], values[1, 2], values[2, 0]]).sum() / weights.sum()
    np.testing.assert_allclose(merge_segments(values, [0, 2, 4], 10, power=1.0)[4], expected, rtol=1e-14)


def test_the_order_of_segments_is_free(recording):
    segments = cut_segments(recording, 20, 13)
    order = np.random.default_rng(2).permutation(len(segments.starts))
    noisy = segments.values + np.random.default_rng(3).normal(size=segments.values.shape)
    expected = merge_segments(noisy, segments.starts, 103)
    np.testing.assert_array_equal(merge_segments(noisy[order], segments.starts[order], 103), expected)


def test_types_and_axes():
    counts = np.arange(24, dtype=np.int16)
    segments = cut_segments(counts, 8, 3)
    assert segments.values.dtype == np.int16 and segments.values.shape == (5, 8)
    assert segments.starts[-1] == 16
    assert merge_segments(segments.values, segments.starts, 24).dtype == np.float32
    movie = np.random.default_rng(4).normal(size=(30, 3, 2)).astype(np.float32)
    segments = cut_segments(movie, 8, 3)
    merged = merge_segments(segments.values, segments.starts, 30)
    assert segments.values.shape == (6, 8, 3, 2) and merged.dtype == np.float32
    np.testing.assert_allclose(merged, movie, rtol=1e-6)


def test_a_missing_segment_leaves_a_gap_of_nan(recording):
    segments = cut_segments(recording[:95], 20, 5)
    keep = np.arange(6) != 2
    merged = merge_segments(segments.values[keep], segments.starts[keep], 103)
    gap = [*range(35, 45), *range(95, 103)]
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(merged[:, 0])), gap)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"length": 0}, ValueError, "length must be 1 or more, got 0"),
        ({"length": 2.5}, TypeError, "length must be a whole number, got 2.5"),
        ({"length": 5, "overlap": 5}, ValueError, "overlap must be below the length of 5 bins, got 5"),
        ({"length": 5, "overlap": -1}, ValueError, "overlap must be 0 or more"),
        ({"length": 21}, ValueError, "segments of 21 bins are longer than the longest stretch, 20 bins"),
        ({"length": 5, "stretches": [(0, 4), (6, 10)]}, ValueError, "longer than the longest stretch, 4 bins"),
        ({"length": 5, "stretches": [(0, 9), (8, 20)]}, ValueError, "stretches 0 and 1 overlap at bin 8"),
        ({"length": 5, "stretches": [(0, 9), (10, 21)]}, ValueError, r"stretch 1 is \(10, 21\)"),
        ({"length": 5, "stretches": [0, 9]}, ValueError, "expected stretches as pairs"),
        ({"length": 5, "stretches": []}, ValueError, "expected stretches as pairs"),
    ],
)
def test_cutting_rejects(arguments, error, message):
    with pytest.raises(error, match=message):
        cut_segments(np.zeros((20, 2)), **arguments)


@pytest.mark.parametrize(
    ("values", "starts", "arguments", "error", "message"),
    [
        (np.zeros((2, 5)), [0], {}, ValueError, r"got shapes \(2, 5\) and \(1,\)"),
        (np.zeros(5), [0], {}, ValueError, "expected values"),
        (np.zeros((2, 5)), [0, 16], {}, ValueError, "segment 1 of 5 bins starts at 16 and reaches outside 0 … 19"),
        (np.zeros((2, 5)), [3, -1], {}, ValueError, "segment 1 of 5 bins starts at -1"),
        (np.zeros((3, 5)), [3, 1, 3], {}, ValueError, "segments 0 and 2 both start at bin 3"),
        (np.zeros((2, 5)), [0.0, 1.0], {}, TypeError, "whole numbers, got dtype float64"),
        (np.zeros((2, 5)), [0, 3], {"power": 0.0}, ValueError, "power must be positive"),
    ],
)
def test_merging_rejects(values, starts, arguments, error, message):
    with pytest.raises(error, match=message):
        merge_segments(values, starts, 20, **arguments)


@pytest.mark.parametrize(("length", "overlap", "size"), [*itertools.product((3, 5), (0, 1, 2), (5, 6, 7, 11))])
def test_starts_are_those_of_a_loop(length, overlap, size):
    expected = list(range(0, size - length + 1, length - overlap))
    if expected[-1] + length < size:
        expected.append(size - length)
    np.testing.assert_array_equal(cut_segments(np.zeros(size), length, overlap).starts, expected)
