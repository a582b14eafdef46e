import numpy as np
import pytest

from ctd_models.analysis.decoding import fit_ridge, fit_smoothed_decoder, smooth_spikes
from ctd_models.analysis.metrics import r2_score


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_smoothing_spreads_a_spike_as_a_gaussian():
    spikes = np.zeros((1, 41, 1))
    spikes[0, 20] = 1
    t = np.arange(41) - 20
    expected = np.exp(-0.5 * (t / 2.0) ** 2)
    np.testing.assert_allclose(smooth_spikes(spikes, 2.0)[0, :, 0], expected / expected.sum(), atol=1e-4)


def test_smoothing_keeps_counts_and_does_not_mix_trials_or_neurons(rng):
    spikes = rng.poisson(1.0, (3, 12, 4))
    smoothed = smooth_spikes(spikes, 1.5)
    np.testing.assert_allclose(smoothed.sum(axis=1), spikes.sum(axis=1))
    other = spikes.copy()
    other[1, :, 2] = 0
    changed = ~np.isclose(smooth_spikes(other, 1.5), smoothed).all(axis=1)
    assert np.argwhere(changed).tolist() == [[1, 2]]


def test_ridge_solves_its_normal_equations(rng):
    x, y = rng.normal(size=(5, 8, 3)) * [1, 10, 100] + 4, rng.normal(size=(5, 8, 2))
    decoder = fit_ridge(x, y, penalty=3.0)
    flat, targets = x.reshape(-1, 3), y.reshape(-1, 2)
    z = (flat - flat.mean(axis=0)) / flat.std(axis=0)
    expected = np.linalg.solve(z.T @ z + 3 * np.eye(3), z.T @ (targets - targets.mean(axis=0)))
    np.testing.assert_allclose(decoder.weights, expected)
    np.testing.assert_allclose(decoder.predict(x).reshape(-1, 2), z @ expected + targets.mean(axis=0))


def test_ridge_finds_a_lagged_linear_map(rng):
    x = rng.normal(size=(20, 15, 3))
    weights = rng.normal(size=(3, 2))
    y = np.zeros((20, 15, 2))
    y[:, 2:] = x[:, :-2] @ weights + 5
    decoder = fit_ridge(x, y, lag=2, penalty=0.0)
    np.testing.assert_allclose(decoder.predict(x), y[:, 2:], atol=1e-10)
    np.testing.assert_allclose(decoder.predict(x, first_bin=6), y[:, 6:], atol=1e-10)
    assert r2_score(y[:, 2:], fit_ridge(x, y, lag=1, first_bin=2).predict(x, 2)) < 0.3


def test_silent_neurons_have_no_weight(rng):
    x = rng.poisson(1.0, (10, 10, 4))
    x[..., 1] = 0
    y = rng.normal(size=(10, 10, 2))
    for penalty in (0.0, 1.0):
        decoder = fit_ridge(x, y, penalty=penalty)
        np.testing.assert_allclose(decoder.weights[1], 0, atol=1e-12)
        assert np.isfinite(decoder.predict(x)).all()


@pytest.fixture
def recording(rng):
    """Spikes [60, 25, 30] whose rates lead a smooth behaviour [60, 25, 2] by three bins."""
    behavior = smooth_spikes(rng.normal(size=(60, 40, 2)), 3.0)
    behavior /= behavior.std()
    drive = behavior[:, 8:33] @ rng.normal(size=(2, 30))
    return rng.poisson(np.exp(0.5 + 0.4 * drive)), behavior[:, 5:30]


def test_width_lag_and_penalty_are_those_that_validation_prefers(recording):
    spikes, behavior = recording
    train, validation, test = np.arange(30), np.arange(30, 45), np.arange(45, 60)
    chosen = fit_smoothed_decoder(spikes, behavior, train, validation)
    assert chosen.first_bin == 4
    assert chosen.ridge.lag == 3
    scores = {
        width: fit_smoothed_decoder(spikes, behavior, train, validation, widths=(width,)).validation_r2
        for width in (0.5, chosen.width, 5.0)
    }
    assert max(scores, key=scores.get) == chosen.width
    assert chosen.validation_r2 == scores[chosen.width]
    assert r2_score(behavior[test, 4:], chosen.predict(spikes[test])) > 0.8


def test_the_final_fit_uses_training_and_validation_trials(recording):
    spikes, behavior = recording
    options = {"widths": (2.0,), "lags": (3,), "penalties": (10.0,)}
    chosen = fit_smoothed_decoder(spikes, behavior, np.arange(30), np.arange(30, 45), **options)
    expected = fit_ridge(smooth_spikes(spikes, 2.0)[:45], behavior[:45], lag=3, penalty=10.0)
    np.testing.assert_allclose(chosen.ridge.weights, expected.weights)


def test_test_trials_change_nothing(recording):
    spikes, behavior = recording
    first = fit_smoothed_decoder(spikes, behavior, np.arange(30), np.arange(30, 45))
    spikes, behavior = spikes.copy(), behavior.copy()
    spikes[45:], behavior[45:] = 0, 0
    second = fit_smoothed_decoder(spikes, behavior, np.arange(30), np.arange(30, 45))
    np.testing.assert_array_equal(first.ridge.weights, second.ridge.weights)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, y: smooth_spikes(x[0], 1.0), r"expected spikes \[trials, time, neurons\], got shape \(6, 3\)"),
        (lambda x, y: smooth_spikes(x, 0.0), "width must be positive"),
        (lambda x, y: fit_ridge(x, y[:-1]), r"got shapes \(5, 6, 3\) and \(4, 6, 2\)"),
        (lambda x, y: fit_ridge(x, y, lag=6), "lag 6, first_bin 6, 6 time bins"),
        (lambda x, y: fit_ridge(x, y, lag=2, first_bin=1), "lag 2, first_bin 1"),
        (lambda x, y: fit_ridge(x, y, penalty=-1.0), "penalty cannot be negative, got -1.0"),
        (lambda x, y: fit_smoothed_decoder(x, y, [0, 1, 2], [2, 3]), r"share the trials \[2\]"),
    ],
)
def test_what_does_not_fit_is_rejected(rng, call, message):
    with pytest.raises(ValueError, match=message):
        call(rng.normal(size=(5, 6, 3)), rng.normal(size=(5, 6, 2)))


def test_the_published_baseline_on_a_real_recording(data_folder):
    from ctd_models.data import load_recording

    recording = load_recording(data_folder / "adan_day0.h5")
    force = recording.behavior["force"]
    train, validation, test = (recording.part(part) for part in range(3))
    decoder = fit_smoothed_decoder(recording.spikes, force, train, validation, first_bin=4)
    assert r2_score(force[test, 4:], decoder.predict(recording.spikes[test])) == pytest.approx(0.868, abs=0.003)
