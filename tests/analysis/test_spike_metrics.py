import h5py
import numpy as np
import pytest

from ctd_models.analysis.decoding import smooth_spikes
from ctd_models.analysis.metrics import r2_score
from ctd_models.analysis.spike_metrics import psth, psth_r2


def test_psth_averages_the_trials_of_each_condition():
    spikes = np.random.default_rng(0).poisson(1.0, (7, 10, 3))
    condition = np.array([4, 1, 4, 4, 1, 9, 4])
    found = psth(spikes, condition)
    assert found.conditions.tolist() == [1, 4, 9]
    assert found.num_trials.tolist() == [2, 4, 1]
    np.testing.assert_allclose(found.mean[1], spikes[[0, 2, 3, 6]].mean(axis=0))
    smoothed = smooth_spikes(spikes, 2.0)
    np.testing.assert_allclose(psth(spikes, condition, width=2.0).mean[0], smoothed[[1, 4]].mean(axis=0))
    with pytest.raises(ValueError, match="one condition for each of 7 trials"):
        psth(spikes, condition[1:])
    with pytest.raises(ValueError, match=r"expected values \[trials, time, neurons\]"):
        psth(spikes[0], condition)


def test_psth_r2_by_hand():
    """Of the average over trials, whatever single trials do, and over conditions and bins together."""
    rng = np.random.default_rng(1)
    spikes, condition = rng.poisson(2.0, (12, 8, 3)).astype(float), np.arange(12) % 3
    average = psth(spikes, condition)
    rates = average.mean[condition] + np.where(np.arange(12) < 6, 1.0, -1.0)[:, None, None]
    perfect = psth_r2(rates, spikes, condition, width=None)
    assert perfect.r2 == pytest.approx(1)
    assert psth_r2(rates / 0.05, spikes, condition, width=None, bin_width=0.05).r2 == pytest.approx(1)
    truth = psth(spikes, condition, width=1.5).mean.reshape(-1, 3)
    guess = rng.uniform(1, 3, (12, 8, 3))
    found = psth_r2(guess, spikes, condition, width=1.5)
    assert found.r2 == pytest.approx(r2_score(truth, psth(guess, condition).mean.reshape(-1, 3)))
    assert found.r2 == pytest.approx(found.neuron_r2.mean())
    mean = np.broadcast_to(spikes.mean(axis=(0, 1)), spikes.shape)
    assert psth_r2(mean, spikes, condition).r2 == pytest.approx(0, abs=1e-12)


def test_psth_r2_leaves_out_what_cannot_be_compared_and_says_so():
    rng = np.random.default_rng(2)
    spikes, condition = rng.poisson(2.0, (9, 8, 3)), np.array([0, 0, 0, 1, 1, 1, 2, 3, 3])
    spikes[..., 1] = 0
    rates = rng.uniform(1, 3, (6, 8, 3))
    found = psth_r2(rates, spikes, np.array([0, 0, 1, 1, 2, 5]), spike_conditions=condition)
    assert found.conditions.tolist() == [0, 1]
    assert found.left_out.tolist() == [2, 3, 5]  # one trial of spikes, none of rates, none of spikes
    assert np.isnan(found.neuron_r2).tolist() == [False, True, False]
    assert found.r2 == pytest.approx(np.nanmean(found.neuron_r2))
    assert psth_r2(rates, spikes, [0, 0, 1, 1, 2, 5], spike_conditions=condition, min_trials=1).left_out.tolist() == [
        3,
        5,
    ]
    for change, message in (
        ({"min_trials": 4}, "no condition has 4 trials of spikes"),
        ({"spikes": 0 * spikes}, "the spikes of no neuron vary"),
        ({"spikes": spikes[:, 1:]}, "of the same bins and neurons"),
        ({"bin_width": 0.0}, "bin_width must be positive"),
        ({"rates": np.nan * rates}, "values hold nan"),
    ):
        arguments = {"rates": rates, "spikes": spikes, "conditions": [0, 0, 1, 1, 2, 5], "spike_conditions": condition}
        with pytest.raises(ValueError, match=message):
            psth_r2(**(arguments | change))


def test_true_rates_match_the_noisy_average_as_far_as_its_noise_allows():
    """R² of the true rates is 1 − noise / total, with the Poisson noise rate / trials in each bin of the average."""
    rng = np.random.default_rng(3)
    rates = rng.gamma(2.0, size=(5, 60, 40))
    condition = np.repeat(np.arange(5), 12)
    found = psth_r2(rates[condition], rng.poisson(rates[condition]), condition, width=None)
    noise = rates.mean() / 12
    assert found.r2 == pytest.approx(1 - noise / (rates.var(axis=(0, 1)).mean() + noise), abs=0.01)


def test_true_rates_of_the_lorenz_simulation(data_folder):
    with h5py.File(data_folder / "lorenz.h5") as file:
        spikes, condition, rates = (file[name][()] for name in ("spikes", "condition", "rates"))
    found = psth_r2(rates[condition], spikes, condition, width=1.0, bin_width=0.01)
    rough = psth_r2(rates[condition], spikes, condition, width=None, bin_width=0.01)
    assert rough.r2 < found.r2 < 1  # a little smoothing takes more noise than signal
    assert len(found.left_out) == 0
