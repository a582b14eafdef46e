from fractions import Fraction

import numpy as np
import pytest

from ctd_models.data.binning import bin_spike_times, check_spike_times, count_bins, rebin


def brute_force(spike_times, window, width, events):
    """Exact rational arithmetic on the decimals that were meant."""
    exact = [[Fraction(str(t)) for t in times] for times in spike_times]
    start, stop, width = (Fraction(str(x)) for x in (*window, width))
    counts = np.zeros((len(events), int((stop - start) / width), len(spike_times)), int)
    for trial, event in enumerate(events):
        for neuron, times in enumerate(exact):
            for time in times:
                bin_ = (time - Fraction(str(event)) - start) // width
                if 0 <= bin_ < counts.shape[1]:
                    counts[trial, bin_, neuron] += 1
    return counts


@pytest.mark.parametrize("decimals", [3, 6])
@pytest.mark.parametrize(("window", "width"), [((-0.1, 0.3), 0.01), ((0.0, 0.7), 0.1), ((-0.25, 0.35), 0.005)])
def test_counts_are_those_of_exact_arithmetic(window, width, decimals):
    # with 3 decimals a spike in ten or five lies on an edge, where floating point alone would miscount
    rng = np.random.default_rng(0)
    spikes = [np.sort(np.round(1000 + rng.uniform(0, 20, n), decimals)) for n in (400, 1, 0, 250)]
    events = np.round(1000 + rng.uniform(-1, 21, 60), 2)  # overlapping, unordered, some past the record
    expected = brute_force(spikes, window, width, events)
    assert expected.sum() > 500
    counts = bin_spike_times(spikes, window, width, events)
    np.testing.assert_array_equal(counts, expected)
    assert counts.dtype == np.int32


def test_blocks_of_trials_give_the_same(monkeypatch):
    rng = np.random.default_rng(1)
    spikes, events = [np.sort(rng.uniform(0, 9, 300)) for _ in range(3)], rng.uniform(0, 8, 21)
    whole = bin_spike_times(spikes, (0, 1), 0.05, events)
    monkeypatch.setattr("ctd_models.data.binning._CELLS_AT_ONCE", 4 * whole[0].size)
    np.testing.assert_array_equal(bin_spike_times(spikes, (0, 1), 0.05, events), whole)


def test_bins_are_half_open_also_where_the_edges_are_rounded():
    assert 3 * 0.1 > 0.3
    counts = bin_spike_times([[0.0, 0.3, 0.6, 0.7]], (0.0, 0.7), 0.1)
    assert counts.shape == (1, 7, 1)
    assert counts[0, :, 0].tolist() == [1, 0, 0, 1, 0, 0, 1]
    # what lies beside an edge by more than rounding stays on its side
    assert bin_spike_times([[0.3 - 1e-12, 0.3 + 1e-12]], (0.0, 0.7), 0.1)[0, 2:4, 0].tolist() == [1, 1]


def test_a_spike_counts_in_every_window_that_holds_it():
    counts = bin_spike_times([[1.0, 1.0, 2.5]], (-1, 1), 1.0, [1.0, 1.5, 0.0, 9.0])
    assert counts[:, :, 0].tolist() == [[0, 2], [2, 0], [0, 0], [0, 0]]
    assert bin_spike_times([[1.0]], (0, 1), 1.0, []).shape == (0, 1, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spike_times_s": []}, "one neuron or more"),
        ({"spike_times_s": [[0.1], [[0.2]]]}, r"shape \(1, 1\) for neuron 1"),
        ({"spike_times_s": [[], [0.1, 0.2], [0.5, 0.3, 0.4]]}, "got 0.3 after 0.5 at index 1 of neuron 2"),
        ({"spike_times_s": [[0.1], [], [0.2, np.nan]]}, "got nan at index 1 of neuron 2"),
        ({"spike_times_s": [[np.inf]]}, "got inf at index 0 of neuron 0"),
        ({"window_s": (0.5, 0.5)}, "start 0.5 s and stop 0.5 s"),
        ({"window_s": (0.5, 0.2)}, "stops after its start"),
        ({"window_s": (0.0, np.nan)}, "stops after its start"),
        ({"window_s": (0.0, 1.05)}, "holds 10.5 bins"),
        ({"window_s": (0.0, 1e-9)}, "whole number"),
        ({"bin_width_s": 0.0}, "bin_width_s must be positive"),
        ({"bin_width_s": -0.1}, "bin_width_s must be positive"),
        ({"events_s": [1.0, np.nan]}, "got nan at index 1"),
        ({"events_s": [[1.0]]}, r"shape \(1, 1\)"),
        ({"events_s": [1e16]}, "subtract an offset"),
    ],
)
def test_what_does_not_fit_is_named(change, message):
    arguments = {"spike_times_s": [[0.1, 0.2]], "window_s": (0.0, 1.0), "bin_width_s": 0.1, "events_s": [0.0]}
    with pytest.raises(ValueError, match=message):
        bin_spike_times(**(arguments | change))


def test_spike_times_in_order_pass():
    times = check_spike_times([[0.5, 0.5, 0.7], [], [0.1]])  # the next neuron may begin earlier
    assert [t.tolist() for t in times] == [[0.5, 0.5, 0.7], [], [0.1]]
    assert check_spike_times([[], []])[1].shape == (0,)


def test_the_number_of_bins():
    assert count_bins(-0.4, 1.1, 0.05) == 30
    assert count_bins(0.0, 0.7, 0.005) == 140


def test_rebinning_is_binning_wider():
    rng = np.random.default_rng(2)
    spikes = [np.sort(np.round(rng.uniform(0, 6, 500), 3)) for _ in range(3)]
    events = [0.0, 1.0, 3.0]
    fine, wide = (bin_spike_times(spikes, (0.0, 1.2), width, events) for width in (0.01, 0.03))
    np.testing.assert_array_equal(rebin(fine, 3), wide)
    np.testing.assert_array_equal(rebin(fine, 7, drop_remainder=True)[:, 16], fine[:, 112:119].sum(1))
    assert rebin(fine, 7, drop_remainder=True).shape == (3, 17, 3)
    with pytest.raises(ValueError, match="17 times 7 and 1 more"):
        rebin(fine, 7)


def test_sums_do_not_overflow_the_type_of_the_counts():
    counts = np.full((1, 4, 1), 200, np.uint8)
    assert rebin(counts, 4).item() == 800
    assert rebin(counts, 4).dtype == np.int32
    assert rebin(counts.astype(np.float32), 2).dtype == np.float32


@pytest.mark.parametrize("factor", [0, -1, 5, 1.5])
def test_the_factor_is_a_number_of_bins(factor):
    with pytest.raises(ValueError, match=r"integer in 1 … 4.*got"):
        rebin(np.zeros((1, 4, 1)), factor)
    with pytest.raises(ValueError, match=r"got shape \(4, 1\)"):
        rebin(np.zeros((4, 1)), 2)
