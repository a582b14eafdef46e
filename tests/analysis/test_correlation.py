import numpy as np
import pytest

from ctd_models.analysis.correlation import cross_correlation


def test_it_is_the_sum_over_overlapping_bins():
    rng = np.random.default_rng(0)
    s, r = rng.normal(size=(4, 11, 2)) * [1, 5] + 3, rng.normal(size=(4, 11, 3)) * 0.1
    found = cross_correlation(s, r, 7)
    assert found.lags.tolist() == list(range(-7, 8))
    assert found.values.shape == (15, 2, 3)
    assert (found.num_trials == 4).all()
    z, y = ((v - v.mean(axis=1, keepdims=True)) / v.std(axis=1, keepdims=True) for v in (s, r))
    for i, lag in enumerate(found.lags):
        early, late = (z[:, : 11 - lag], y[:, lag:]) if lag >= 0 else (z[:, -lag:], y[:, : 11 + lag])
        expected = np.einsum("ntc,ntf->cf", early, late) / (4 * (11 - abs(lag)))
        np.testing.assert_allclose(found.values[i], expected, atol=1e-12)
    pearson = np.mean([np.corrcoef(s[n, :, 1], r[n, :, 2])[0, 1] for n in range(4)])
    assert found.values[7, 1, 2] == pytest.approx(pearson)
    assert found.null_low is None
    with pytest.raises(ValueError, match="no band"):
        _ = found.significant


def test_sinusoids_of_one_frequency_correlate_by_the_cosine_of_their_delay():
    """Random phase in each trial; over whole periods at lag 0, nearly so at the others."""
    rng = np.random.default_rng(1)
    t, period, delay = np.arange(200), 20, 3
    phase = rng.uniform(0, 2 * np.pi, (30, 1, 1))
    waves = [np.cos(2 * np.pi * (t[None, :, None] - shift) / period + phase) for shift in (0, delay)]
    found = cross_correlation(*waves, 12)
    expected = np.cos(2 * np.pi * (found.lags - delay) / period)
    assert found.values[12, 0, 0] == pytest.approx(expected[12], abs=1e-12)
    np.testing.assert_allclose(found.values[:, 0, 0], expected, atol=0.03)


def test_a_delay_in_noise_is_found_at_its_lag_with_its_correlation():
    rng = np.random.default_rng(0)
    source = rng.normal(size=(40, 110, 2))
    own = rng.normal(size=(40, 100, 2))
    s = source[:, 10:]
    r = np.stack([source[:, 6:106, 0], source[:, 10:, 1]], axis=-1)  # the first repeats the signal 4 bins later
    r = 0.6 * r + 0.8 * own
    found = cross_correlation(s, r, 8, num_shuffles=200, rng=rng, confidence=0.99)
    assert found.lags[np.argmax(found.values[:, 0, 0])] == 4
    assert found.lags[np.argmax(found.values[:, 1, 1])] == 0
    assert found.values[12, 0, 0] == pytest.approx(0.6, abs=0.04)
    assert found.significant[12, 0, 0]
    assert found.significant[8, 1, 1]
    assert found.significant.mean() < 0.06  # two true ones and one in a hundred of 68
    assert cross_correlation(r, s, 8).values[4, 0, 0] == pytest.approx(found.values[12, 0, 0])  # the other order


def test_the_band_of_white_noise_has_its_analytic_width():
    """The average of n trials has the standard deviation 1 / √(n (T − |k|))."""
    rng = np.random.default_rng(3)
    s, r = rng.normal(size=(50, 60, 12)), rng.normal(size=(50, 60, 6))
    found = cross_correlation(s, r, 30, num_shuffles=300, rng=rng, confidence=0.95)
    for lag in (-30, 0, 30):
        width = (found.null_high - found.null_low)[lag + 30].mean()
        assert width == pytest.approx(2 * 1.96 / np.sqrt(50 * (60 - abs(lag))), rel=0.06)
    assert found.significant.mean() == pytest.approx(0.05, abs=0.02)
    assert np.abs(found.null_mean).max() < 0.02


def test_what_is_locked_to_the_trial_is_in_the_null():
    rng = np.random.default_rng(4)
    evoked = np.sin(np.arange(80) / 5)[None, :, None]
    s, r = evoked + rng.normal(size=(60, 80, 1)), evoked + rng.normal(size=(60, 80, 1))
    found = cross_correlation(s, r, 5, num_shuffles=200, rng=rng, confidence=0.999)
    assert found.values[5, 0, 0] > 0.2
    assert found.null_mean[5, 0, 0] == pytest.approx(found.values[5, 0, 0], abs=0.03)
    assert not found.significant.any()


def test_groups_keep_what_is_locked_to_the_condition():
    rng = np.random.default_rng(5)
    condition = np.arange(60) % 2
    evoked = np.where(condition == 1, 1.0, -1.0)[:, None, None] * np.sin(np.arange(80) / 5)[None, :, None]
    s, r = evoked + rng.normal(size=(60, 80, 1)), evoked + rng.normal(size=(60, 80, 1))
    options = {"num_shuffles": 200, "rng": rng, "confidence": 0.999}
    assert cross_correlation(s, r, 0, **options).significant.all()
    within = cross_correlation(s, r, 0, groups=condition, **options)
    assert within.null_mean[0, 0, 0] == pytest.approx(within.values[0, 0, 0], abs=0.03)
    assert not within.significant.any()


def test_shuffles_are_of_the_generator():
    s = np.random.default_rng(6).normal(size=(8, 20, 1))
    bands = [cross_correlation(s, s, 3, num_shuffles=20, rng=np.random.default_rng(k)).null_high for k in (0, 0, 1)]
    np.testing.assert_array_equal(bands[0], bands[1])
    assert (bands[0] != bands[2]).any()


def test_trials_in_which_a_neuron_is_silent_are_left_out_and_counted():
    rng = np.random.default_rng(7)
    s, r = rng.normal(size=(5, 30, 3)), rng.normal(size=(5, 30, 2))
    s[1:3, :, 0], s[..., 2] = 0, 0.1
    r[0, :, 1] = 7
    found = cross_correlation(s, r, 4, num_shuffles=10, rng=rng)
    assert found.num_trials.tolist() == [[3, 2], [5, 4], [0, 0]]
    np.testing.assert_allclose(found.values[:, 0, 0], cross_correlation(s[[0, 3, 4]], r[[0, 3, 4]], 4).values[:, 0, 0])
    assert np.isnan(found.values[:, 2]).all()
    assert not found.significant[:, 2].any()
    assert np.isfinite(found.values[:, :2]).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reference": np.ones((3, 8, 1))}, r"got shapes \(3, 9, 2\) and \(3, 8, 1\)"),
        ({"signals": np.full((3, 9, 2), np.nan)}, r"signals hold nan at index \(0, 0, 0\)"),
        ({"reference": np.ones((3, 9, 0))}, "no axis may be empty"),
        ({"max_lag": 9}, r"max_lag must lie in 0 … 8, got 9"),
        ({"num_shuffles": 3}, "needs an rng"),
        ({"confidence": 1.0}, "confidence must lie between 0 and 1, got 1.0"),
        ({"groups": [0, 1]}, "one group for each of 3 trials"),
        ({"groups": [0, 1, 2], "num_shuffles": 2, "rng": np.random.default_rng(0)}, "two trials or more in a group"),
    ],
)
def test_cross_correlation_rejects(change, message):
    arguments = {"signals": np.ones((3, 9, 2)), "reference": np.ones((3, 9, 1)), "max_lag": 2} | change
    with pytest.raises(ValueError, match=message):
        cross_correlation(**arguments)
