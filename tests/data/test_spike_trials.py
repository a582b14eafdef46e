"""Trials made of spikes."""

import numpy as np
import pytest

from ctd_models.data import SpikeTrials


def test_padding_is_replaced_by_zeros_whatever_it_held():
    spikes = np.random.default_rng(0).poisson(1.0, (3, 5, 2)).astype(float)
    padded = np.where(np.arange(5)[:, None] >= np.array([5, 3, 4])[:, None, None], np.nan, spikes)
    trials = SpikeTrials.from_spikes(padded, lengths=[5, 3, 4])
    expected = np.nan_to_num(padded, nan=0.0)
    np.testing.assert_array_equal(trials.inputs, expected)
    np.testing.assert_array_equal(trials.targets, expected)
    assert padded.dtype == trials.inputs.dtype and np.isnan(padded[1, 4, 0])


def test_heldout_neurons_come_last_and_forward_bins_are_not_read():
    spikes = np.arange(2 * 4 * 3).reshape(2, 4, 3)
    trials = SpikeTrials.from_spikes(spikes, heldout=[0], num_forward_bins=1)
    np.testing.assert_array_equal(trials.inputs, spikes[:, :3, 1:])
    np.testing.assert_array_equal(trials.targets, spikes[:, :, [1, 2, 0]])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heldin": [0, 1], "heldout": [1]}, r"neurons \[1\] are both held in and held out"),
        ({"heldout": [3]}, r"heldout names the neurons \[3\], but there are 3"),
        ({"num_forward_bins": 4}, "num_forward_bins must lie in 0 … 3, got 4"),
        ({"labels": [0, 1, 2]}, r"labels the shape \(3,\)"),
        ({"external_inputs": np.zeros((2, 5, 1))}, r"external_inputs the shape \(2, 5, 1\)"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(ValueError, match=message):
        SpikeTrials.from_spikes(np.zeros((2, 4, 3)), **options)
