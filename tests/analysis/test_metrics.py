import h5py
import numpy as np
import pytest
import scipy.stats

from ctd_models.analysis.decoding import smooth_spikes
from ctd_models.analysis.metrics import (
    angle_between,
    bits_per_spike,
    cycle_consistency,
    latent_r2,
    normalized_error,
    r2_score,
    rate_r2,
    squared_correlation,
    state_r2,
)


def test_r2_by_hand():
    targets = np.array([[0.0, 1.0], [1.0, 3.0], [2.0, 8.0]])
    predictions = np.array([[0.0, 1.0], [1.0, 3.0], [1.0, 8.0]])
    # first dimension: SS_res = 1, SS_tot = 2; second: perfect
    assert r2_score(targets, predictions) == pytest.approx((0.5 + 1.0) / 2)


def test_normalized_error_by_hand():
    targets = np.array([[0.0, 1.0], [1.0, 3.0], [2.0, 8.0]])
    predictions = np.array([[0.0, 1.0], [1.0, 3.0], [1.0, 8.0]])
    # squares about the means 1 and 4: 2 and 26
    assert normalized_error(targets, predictions) == pytest.approx(1 / 28)
    assert normalized_error(targets, predictions, [[1], [1], [0]]) == 0
    assert normalized_error(targets, predictions, [[1], [1], [2]]) == pytest.approx(2 / (2.75 + 38))  # means 1.25 and 5
    assert normalized_error(targets, predictions, [[1, 0], [1, 0], [1, 0]]) == pytest.approx(1 / 2)
    assert normalized_error(targets, np.tile([1.0, 4.0], (3, 1))) == pytest.approx(1)
    assert normalized_error(7 * targets, 7 * predictions) == pytest.approx(1 / 28)
    with pytest.raises(ValueError, match="do not vary where the mask counts"):
        normalized_error(targets, predictions, [[0], [0], [2]])
    assert normalized_error(targets, predictions, [1, 1, 2]) == normalized_error(targets, predictions, [[1], [1], [2]])
    with pytest.raises(ValueError, match=r"weights \(3, 1\) or \(3, 2\), got shape \(2,\)"):
        normalized_error(targets, predictions, [1, 1])
    with pytest.raises(ValueError, match="finite and not negative, got -1"):
        normalized_error(targets, predictions, [1, 1, -1])


def test_r2_of_the_mean_is_zero_and_of_the_truth_is_one():
    y = np.random.default_rng(0).normal(size=(4, 5, 3)) * [1, 10, 100]
    assert r2_score(y, y) == 1
    assert r2_score(y, np.broadcast_to(y.mean(axis=(0, 1)), y.shape)) == pytest.approx(0, abs=1e-12)
    assert r2_score(y, -y) < -2


def test_r2_pools_samples_over_all_leading_axes():
    rng = np.random.default_rng(1)
    y, p = rng.normal(size=(2, 4, 5, 3))
    assert r2_score(y, p) == pytest.approx(r2_score(y.reshape(20, 3), p.reshape(20, 3)))


def test_r2_in_float64_of_float32_values_far_from_zero():
    y = (1e4 + np.arange(100)[:, None]).astype(np.float32)
    assert r2_score(y, y + 1) == pytest.approx(1 - 100 / (100 * (100**2 - 1) / 12))


@pytest.mark.parametrize(
    ("targets", "predictions", "message"),
    [
        (np.ones((3, 2)), np.ones((3, 1)), r"\(3, 2\), predictions \(3, 1\)"),
        (np.ones(3), np.ones(3), r"got shape \(3,\)"),
        (np.ones((0, 2)), np.ones((0, 2)), "empty"),
        (np.arange(6.0).reshape(3, 2) * [1, 0], np.ones((3, 2)), "dimension 1 is constant"),
        (np.eye(2), np.array([[1, np.nan], [0, 0]]), r"predictions hold nan at index \(0, 1\)"),
    ],
)
def test_r2_rejects(targets, predictions, message):
    with pytest.raises(ValueError, match=message):
        r2_score(targets, predictions)


def test_angles():
    a = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    b = np.array([[5.0, 0.0], [1.0, 1.0], [-1.0, 0.0], [1.0, 0.0]])
    np.testing.assert_allclose(angle_between(a, b), [0, 45, 180, 90], atol=1e-12)
    np.testing.assert_allclose(angle_between(a, a[0]), [0, 0, 0, 90])


def log_likelihood(spikes, rates):
    return scipy.stats.poisson.logpmf(spikes, rates).sum()


def test_bits_per_spike_is_the_gain_of_poisson_likelihood():
    rng = np.random.default_rng(0)
    rates = rng.gamma(1.0, size=(5, 20, 4)) + 0.01
    spikes = rng.poisson(rates)
    mean = np.broadcast_to(spikes.mean(axis=(0, 1)), spikes.shape)
    expected = (log_likelihood(spikes, rates) - log_likelihood(spikes, mean)) / (spikes.sum() * np.log(2))
    assert bits_per_spike(spikes, rates) == pytest.approx(expected)
    assert bits_per_spike(spikes, rates / 0.02, bin_width=0.02) == pytest.approx(expected)
    assert bits_per_spike(spikes, mean) == pytest.approx(0, abs=1e-12)
    assert bits_per_spike(spikes, 1.5 * mean) == pytest.approx(np.log2(1.5) - 0.5 / np.log(2))
    assert bits_per_spike(spikes.reshape(100, 4), rates.reshape(100, 4)) == pytest.approx(expected)


def test_bits_per_spike_by_hand():
    """One spike in two bins, foretold: log 1 − 1 against log ½ − 1, one bit."""
    assert bits_per_spike([[1], [0]], [[1.0], [0.0]]) == pytest.approx(1)
    silent = bits_per_spike([[1, 0], [0, 0]], [[1.0, 0.1], [0.0, 0.2]])  # a silent neuron costs its rates
    assert silent == pytest.approx(1 - 0.3 / np.log(2))
    mask = np.array([True, True, False])
    assert bits_per_spike([[1.0], [0], [np.nan]], [[1.0], [0.0], [np.nan]], mask=mask) == pytest.approx(1)
    assert bits_per_spike([[1], [1]], [[1.0], [0.0]], minimum_rate=0.25) == pytest.approx(-1 + 0.75 / 2 / np.log(2))


@pytest.mark.parametrize(
    ("spikes", "rates", "options", "message"),
    [
        ([[1], [1]], [[1.0], [0.0]], {}, r"the rate is 0 at index \(1, 0\), where 1 spikes .* minimum_rate="),
        ([[0], [0]], [[1.0], [1.0]], {}, "there is no spike"),
        ([[1], [0]], [[1.0], [-0.5]], {}, r"rates cannot be negative, but hold -0\.5 at index \(1, 0\)"),
        ([[1], [-1]], [[1.0], [1.0]], {}, r"spikes cannot be negative, but hold -1\.0 at index \(1, 0\)"),
        ([[1], [0.5]], [[1.0], [1.0]], {}, r"spikes must be counts, but hold 0\.5 at index \(1, 0\)"),
        ([[1], [0]], [[1.0], [np.inf]], {}, r"rates hold inf at index \(1, 0\)"),
        ([[1], [0]], [[1.0]], {}, r"got shapes \(2, 1\) and \(1, 1\)"),
        ([[1], [0]], [[1.0], [1.0]], {"mask": np.ones(3, bool)}, r"expected a mask \(2,\) of booleans"),
        ([[1], [0]], [[1.0], [1.0]], {"bin_width": 0.0}, "bin_width must be positive"),
    ],
)
def test_bits_per_spike_rejects(spikes, rates, options, message):
    with pytest.raises(ValueError, match=message):
        bits_per_spike(spikes, rates, **options)


def test_co_smoothing_of_the_condition_average(data_folder):
    """The figure listed with this recording: held-out neurons foretold by the smoothed mean over trials of the target."""
    with h5py.File(data_folder / "adan_day0.h5") as file:
        spikes, split, target = (file["trials"][name][()] for name in ("spikes", "split", "condition"))
        spikes = spikes[..., file["meta/heldout_channels"][()]]
    test, fit = split == 2, split != 2
    rates = np.stack([spikes[fit & (target == t)].mean(axis=0) for t in target[test]])
    assert bits_per_spike(spikes[test], smooth_spikes(rates, 1.0)) == pytest.approx(0.1123, abs=1e-4)


def test_squared_correlation_of_each_trial_and_unit():
    rng = np.random.default_rng(0)
    y, p = rng.normal(size=(2, 3, 25, 4))
    found = squared_correlation(y, p)
    for trial in range(3):
        for unit in range(4):
            expected = np.corrcoef(y[trial, :, unit], p[trial, :, unit])[0, 1] ** 2
            assert found[trial, unit] == pytest.approx(expected)
    np.testing.assert_allclose(squared_correlation(y, 3 - 2 * y), 1)
    y[0, :, 0], p[1, :, 1] = 0.1, 0.1  # rounding makes the mean of these differ from 0.1
    found = squared_correlation(y, p)
    assert np.isnan(found[0, 0])
    assert found[1, 1] == 0
    assert np.isfinite(found).sum() == 11
    assert squared_correlation(y[2], p[2]).shape == (4,)
    with pytest.raises(ValueError, match="two times or more"):
        squared_correlation(y[:, :1], p[:, :1])


def test_rate_r2_refits_nothing():
    rates = np.random.default_rng(0).gamma(2.0, size=(4, 10, 3))
    assert rate_r2(rates, rates) == 1
    mean = rates.mean(axis=(0, 1))
    assert rate_r2(rates, 0.5 * (rates + mean)) == pytest.approx(0.75)
    per_neuron = [r2_score(rates[..., [k]], rates[::-1][..., [k]]) for k in range(3)]
    assert rate_r2(rates, rates[::-1]) == pytest.approx(np.mean(per_neuron))
    with pytest.raises(ValueError, match=r"expected rates \[trials, time, neurons\], got shape \(4, 10\)"):
        rate_r2(rates[..., 0], rates[..., 0])
    with pytest.raises(ValueError, match=r"predictions cannot be negative, but hold -"):
        rate_r2(rates, -rates)


def test_latent_r2_is_of_an_affine_map_fitted_on_other_trials():
    rng = np.random.default_rng(0)
    latents, train = rng.normal(size=(8, 15, 3)), np.arange(8) < 5
    factors = latents @ rng.normal(size=(3, 6)) + rng.normal(size=6)
    assert latent_r2(factors, latents, train) == pytest.approx(1)
    drifting = np.where(train[:, None, None], factors, factors + 1)  # the map that was fitted no longer holds
    assert latent_r2(drifting, latents, train) < 0.9
    design = np.concatenate([factors[..., :2], np.ones((8, 15, 1))], axis=-1)
    weights = np.linalg.lstsq(design[train].reshape(-1, 3), latents[train].reshape(-1, 3))[0]
    expected = r2_score(latents[~train], design[~train] @ weights)
    assert latent_r2(factors[..., :2], latents, train) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"train": np.ones(4, bool)}, ValueError, r"some True and some False, got shape \(4,\) with 4 True"),
        ({"train": np.zeros(3, bool)}, ValueError, r"expected train \[4\]"),
        ({"train": np.arange(4)}, TypeError, "train must hold booleans"),
        ({"latents": np.ones((4, 6, 2))}, ValueError, r"got shapes \(4, 5, 9\) and \(4, 6, 2\)"),
        ({"factors": np.full((4, 5, 9), np.nan)}, ValueError, r"factors hold nan at index \(0, 0, 0\)"),
        ({"factors": np.ones((4, 5, 20))}, ValueError, "5 training bins cannot fit a map from 20 factors"),
    ],
)
def test_latent_r2_rejects(change, error, message):
    latents = np.random.default_rng(0).normal(size=(4, 5, 2))
    arguments = {"factors": np.ones((4, 5, 9)), "latents": latents, "train": np.arange(4) < 1} | change
    with pytest.raises(error, match=message):
        latent_r2(**arguments)


def test_smoothing_and_averaging_the_lorenz_simulation(data_folder):
    """The figures listed with these data, of the best widths [bins] of a Gaussian."""
    with h5py.File(data_folder / "lorenz.h5") as file:
        names = ("spikes", "split", "condition", "latents", "rates")
        spikes, split, condition, latents, rates = (file[name][()] for name in names)
    train, latents, rates = split == 0, latents[condition], rates[condition]
    assert latent_r2(smooth_spikes(spikes, 3.0), latents, train) == pytest.approx(0.853, abs=1e-3)
    smooth = smooth_spikes(spikes[~train], 6.0) / 0.01
    assert rate_r2(rates[~train], smooth) == pytest.approx(0.13, abs=5e-3)
    average = np.stack([spikes[train & (condition == c)].mean(axis=0) for c in range(65)])
    average = smooth_spikes(average, 2.0)[condition]
    assert rate_r2(rates[~train], average[~train] / 0.01) == pytest.approx(0.853, abs=1e-3)
    assert latent_r2(average, latents, train) == pytest.approx(0.970, abs=1e-3)


def test_superfluous_factors_lower_the_state_r2_alone():
    rng = np.random.default_rng(0)
    latents, train = rng.normal(size=(30, 40, 2)), np.arange(30) < 20
    factors = latents @ rng.normal(size=(2, 3)) + 5
    assert state_r2(factors, latents, train) == pytest.approx(1)
    noise = rng.normal(size=(30, 40, 1)) * np.sqrt(factors.var(axis=(0, 1)).sum() / 3)  # a quarter of all variance
    superfluous = np.concatenate([factors, noise], axis=-1)
    assert latent_r2(superfluous, latents, train) == pytest.approx(1)
    assert state_r2(superfluous, latents, train) == pytest.approx(0.75, abs=0.02)
    assert state_r2(factors, latents[..., :1], train) < 0.99


def test_state_r2_weighs_factors_by_their_variance():
    rng = np.random.default_rng(1)
    latents, train = rng.normal(size=(8, 15, 2)), np.arange(8) < 5
    factors = np.concatenate(
        [latents[..., :1] * 10 + rng.normal(size=(8, 15, 1)), rng.normal(size=(8, 15, 2))], axis=-1
    )
    design = np.concatenate([latents, np.ones((8, 15, 1))], axis=-1)
    weights = np.linalg.lstsq(design[train].reshape(-1, 3), factors[train].reshape(-1, 3))[0]
    unseen = factors[~train]
    residual, total = ((unseen - x) ** 2 for x in (design[~train] @ weights, unseen.mean(axis=(0, 1))))
    assert state_r2(factors, latents, train) == pytest.approx(1 - residual.sum() / total.sum())


def model(rng, gains, num_neurons=12):
    """Uncorrelated factors of variance 1, and log-rates that they reach with these gains along orthogonal directions."""
    factors = rng.normal(size=(20, 50, len(gains)))
    flat = factors.reshape(-1, len(gains)) - factors.mean(axis=(0, 1))
    factors = (flat @ np.linalg.inv(np.linalg.cholesky(flat.T @ flat / len(flat))).T).reshape(factors.shape)
    directions = np.linalg.qr(rng.normal(size=(num_neurons, num_neurons)))[0][: len(gains)]
    return np.exp(factors * gains @ directions - 1), factors


def test_cycle_consistency_is_the_share_of_factors_that_reach_the_rates():
    rng = np.random.default_rng(2)
    assert cycle_consistency(*model(rng, [1.0, 0.5, 0.2])) == pytest.approx(1)
    rates, factors = model(rng, [1.0, 0.5, 0.2, 0.01])
    assert cycle_consistency(rates, factors) == pytest.approx(0.75)
    assert cycle_consistency(100 * rates, factors) == pytest.approx(0.75)  # whatever the unit
    assert cycle_consistency(rates, factors, variance_threshold=1e-5) == pytest.approx(1)
    assert cycle_consistency(rates, factors, variance_threshold=0.1) == pytest.approx(0.5)  # 1.25 of 1.2901
    turn = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    assert cycle_consistency(rates, factors @ turn + 3) == pytest.approx(0.75)
    assert cycle_consistency(*model(rng, [1.0, 0.5, 0.0]), variance_threshold=0) == pytest.approx(2 / 3)


def test_cycle_consistency_as_the_benchmark_computes_it():
    """Read-out by regression, log-rates of unseen trials, and the truncated pseudo-inverse, step by step."""
    rng = np.random.default_rng(3)
    factors = rng.normal(size=(12, 30, 5)) @ rng.normal(size=(5, 5)) + 2
    rates = np.exp(factors @ rng.normal(size=(5, 9)) * [1.0] + 0.3 * rng.normal(size=(12, 30, 9)))
    train = np.arange(12) < 8
    centre = factors[train].mean(axis=(0, 1))
    design = np.concatenate([(factors - centre), np.ones((12, 30, 1))], axis=-1)
    solution = np.linalg.lstsq(design[train].reshape(-1, 6), np.log(rates[train]).reshape(-1, 9))[0]
    u, singular, v = np.linalg.svd(solution[:5].T, full_matrices=False)
    for threshold in (0.01, 0.2, 0.5):
        k = np.searchsorted(np.cumsum(singular**2) / (singular**2).sum(), 1 - threshold) + 1
        inverse = v[:k].T @ np.diag(1 / singular[:k]) @ u[:, :k].T
        found = (design[~train] @ solution - solution[5]) @ inverse.T + centre
        unseen = factors[~train]
        expected = 1 - ((unseen - found) ** 2).sum() / ((unseen - unseen.mean(axis=(0, 1))) ** 2).sum()
        assert cycle_consistency(rates, factors, train, variance_threshold=threshold) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"rates": np.zeros((4, 6, 3))}, ValueError, r"must be positive .* hold 0.0 at index \(0, 0, 0\)"),
        ({"rates": np.ones((4, 6, 3))}, ValueError, "log-rates do not depend on the factors"),
        ({"factors": np.ones((4, 6, 2))}, ValueError, "log-rates do not depend on the factors"),
        ({"variance_threshold": 1.0}, ValueError, "variance_threshold must lie in 0 … 1"),
        ({"factors": np.ones((4, 5, 2))}, ValueError, r"got shapes \(4, 6, 3\) and \(4, 5, 2\)"),
        ({"train": np.ones(4, bool)}, ValueError, "some True and some False"),
        ({"train": np.arange(4)}, TypeError, "train must hold booleans"),
    ],
)
def test_cycle_consistency_rejects(change, error, message):
    factors = np.random.default_rng(0).normal(size=(4, 6, 2))
    rates = np.exp(factors[..., [0, 0, 1]])
    with pytest.raises(error, match=message):
        cycle_consistency(**({"rates": rates, "factors": factors} | change))


def test_measures_of_the_truth_in_the_lorenz_simulation(data_folder):
    """True rates and latents of a simulation: what a perfect model would score, and a read-out that is exactly affine."""
    with h5py.File(data_folder / "lorenz.h5") as file:
        split, condition, latents, rates = (file[name][()] for name in ("split", "condition", "latents", "rates"))
    train, latents, rates = split == 0, latents[condition], rates[condition]
    assert latent_r2(latents, latents, train) == pytest.approx(1)
    assert cycle_consistency(rates, latents, train, variance_threshold=1e-6) == pytest.approx(1, abs=1e-3)
