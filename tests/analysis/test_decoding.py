import numpy as np
import pytest

from ctd_models.analysis.decoding import (
    fit_decoder,
    fit_decoders,
    fit_optimal_linear_estimator,
    fit_ridge,
    fit_smoothed_decoder,
    smooth_spikes,
)
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


def test_lag_and_penalty_of_any_features_are_those_that_validation_prefers(rng):
    source = smooth_spikes(rng.normal(size=(40, 30, 3)), 2.0)
    features = np.concatenate([source, rng.normal(size=(40, 30, 25))], axis=-1)
    targets = np.zeros((40, 30, 2))
    targets[:, 2:] = source[:, :-2, :2] + 0.3 * rng.normal(size=(40, 28, 2))
    train, validation = np.arange(10), np.arange(10, 25)
    penalties = (0.1, 30.0, 1e4)
    chosen = fit_decoder(features, targets, train, validation, penalties=penalties, first_bin=5)
    scores = {}
    for lag in range(5):
        for penalty in penalties:
            ridge = fit_ridge(features[train], targets[train], lag=lag, penalty=penalty, first_bin=5)
            scores[lag, penalty] = r2_score(targets[validation, 5:], ridge.predict(features[validation], 5))
    assert (chosen.lag, chosen.penalty) == max(scores, key=scores.get) == (2, 30.0)
    assert chosen.validation_r2 == pytest.approx(scores[2, 30.0])
    final = fit_ridge(features[:25], targets[:25], lag=2, penalty=30.0, first_bin=5)
    np.testing.assert_allclose(chosen.predict(features), final.predict(features, 5))


def test_smoothed_spikes_are_decoded_like_any_features(recording):
    spikes, behavior = recording
    train, validation = np.arange(30), np.arange(30, 45)
    smoothed = fit_smoothed_decoder(spikes, behavior, train, validation, widths=(2.0,), first_bin=4)
    plain = fit_decoder(smooth_spikes(spikes, 2.0), behavior, train, validation, first_bin=4)
    np.testing.assert_array_equal(smoothed.predict(spikes), plain.predict(smooth_spikes(spikes, 2.0)))


def test_several_behaviours_share_the_eigendecomposition(recording, monkeypatch):
    spikes, behavior = recording
    train, validation = np.arange(30), np.arange(30, 45)
    targets = {"late": behavior, "now": np.roll(behavior, -3, axis=1), "one": behavior[..., :1]}
    alone = {name: fit_decoder(spikes, values, train, validation) for name, values in targets.items()}
    calls, eigh = [], np.linalg.eigh
    monkeypatch.setattr(np.linalg, "eigh", lambda matrix: calls.append(matrix.shape) or eigh(matrix))
    together = fit_decoders(spikes, targets, train, validation)
    assert list(together) == ["late", "now", "one"]
    assert len({decoder.lag for decoder in together.values()}) == 2
    assert len(calls) == 5 + 2  # lags to try, and those that were chosen
    for name, decoder in together.items():
        assert (decoder.lag, decoder.penalty) == (alone[name].lag, alone[name].penalty)
        np.testing.assert_allclose(decoder.linear.weights, alone[name].linear.weights)


class Encoding:
    """y ~ N(m, P), x_{t−lag} = c + A y_t + ε with Gaussian noise of covariance Σ, and the analytic estimators."""

    def __init__(self, rng, num_trials, noise, lag=1):
        self.A, self.c = rng.normal(size=(6, 2)), rng.normal(size=6) * 5
        self.m, self.P = np.array([1.0, -2.0]), np.array([[1.0, 0.4], [0.4, 0.5]])
        self.y = rng.multivariate_normal(self.m, self.P, (num_trials, 12))
        x = self.c + self.y @ self.A.T + rng.multivariate_normal(np.zeros(6), noise, (num_trials, 12))
        self.x = np.concatenate([x[:, lag:], rng.normal(size=(num_trials, lag, 6))], axis=1)
        precise = self.A.T @ np.linalg.inv(noise)
        self.posterior = np.linalg.inv(np.linalg.inv(self.P) + precise @ self.A)
        self.bayes = self.posterior @ precise
        self.unbiased = np.linalg.inv(precise @ self.A) @ precise
        self.flat_error = np.linalg.inv(precise @ self.A)


def maps(fitted):
    """(G, ŷ at x = 0) of the fitted decoder."""
    gain = (fitted.linear.weights / fitted.linear.std[:, None]).T
    return gain, fitted.linear.bias - gain @ fitted.linear.mean


@pytest.mark.parametrize("correlated", [False, True])
def test_the_estimator_is_optimal_on_data_of_its_own_model(rng, correlated):
    root = np.diag(rng.uniform(0.5, 2.0, 6)) + correlated * rng.normal(size=(6, 6))
    noise = root @ root.T
    model = Encoding(rng, 4000, noise)
    train, validation, test = np.arange(2000), np.arange(2000, 3000), np.arange(3000, 4000)
    shrinkages = (0.0,) if correlated else (1.0,)
    options = {"lags": (0, 1, 2), "shrinkages": shrinkages, "first_bin": 2}
    bayes = fit_optimal_linear_estimator(model.x, model.y, train, validation, **options)
    flat = fit_optimal_linear_estimator(model.x, model.y, train, validation, prior="flat", **options)
    assert bayes.lag == flat.lag == 1
    for fitted, gain, origin, error in (
        (bayes, model.bayes, model.m - model.bayes @ (model.c + model.A @ model.m), model.posterior),
        (flat, model.unbiased, -model.unbiased @ model.c, model.flat_error),
    ):
        found, found_origin = maps(fitted)
        np.testing.assert_allclose(found, gain, atol=0.02)
        np.testing.assert_allclose(found_origin, origin, atol=0.1)
        residuals = (fitted.predict(model.x[test]) - model.y[test, 2:]).reshape(-1, 2)
        np.testing.assert_allclose(residuals.T @ residuals / len(residuals), error, atol=0.02)
    np.testing.assert_allclose(maps(flat)[0] @ model.A, np.eye(2), atol=0.02)  # unbiased at each y
    ridge = fit_decoder(model.x, model.y, train, validation, lags=(1,), penalties=(3e4,), first_bin=2)
    assert r2_score(model.y[test, 2:], bayes.predict(model.x[test])) > r2_score(
        model.y[test, 2:], ridge.predict(model.x[test])
    )


def test_independent_noise_helps_where_trials_are_few(rng):
    """The assumption of Salinas & Abbott, where it holds, against least squares, over several draws."""
    gain = []
    for _ in range(10):
        A, y = rng.normal(size=(40, 2)), rng.normal(size=(60, 6, 2))
        x = y @ A.T + 5 * rng.normal(size=(60, 6, 40))
        train, validation, test = np.arange(8), np.arange(8, 12), np.arange(12, 60)
        options = {"lags": (0,), "first_bin": 0}
        fits = [fit_optimal_linear_estimator(x, y, train, validation, shrinkages=(s,), **options) for s in (1.0, 0.0)]
        independent, squares = (r2_score(y[test], fit.predict(x[test])) for fit in fits)
        gain.append(independent - squares)
    assert np.mean(gain) > 0.1


def test_without_an_assumption_on_the_noise_the_estimator_is_least_squares(recording):
    spikes, behavior = recording
    spikes[..., 4] = 0  # silent
    train, validation = np.arange(30), np.arange(30, 45)
    estimator = fit_optimal_linear_estimator(spikes, behavior, train, validation, lags=(3,), shrinkages=(0.0,))
    ridge = fit_decoder(spikes, behavior, train, validation, lags=(3,), penalties=(0.0,))
    np.testing.assert_allclose(estimator.linear.weights, ridge.linear.weights, atol=1e-9)
    np.testing.assert_allclose(estimator.linear.weights[4], 0, atol=1e-12)
    searched = fit_optimal_linear_estimator(spikes, behavior, train, validation)
    assert searched.lag == 3
    assert searched.validation_r2 >= estimator.validation_r2


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
        (lambda x, y: fit_ridge(x * np.nan, y), r"features hold nan at index \(0, 0, 0\)"),
        (lambda x, y: fit_decoder(x, y, [0, 1, 2], [3], penalties=()), "no penalty to try"),
        (lambda x, y: fit_decoder(x, y, [0, 1, 2], [3], lags=(5,), first_bin=4), "lag 5, first_bin 4"),
        (lambda x, y: fit_decoders(x, {"emg": y[:, 1:]}, [0, 1], [3]), r"emg \[trials, time, dims\] of the same"),
        (lambda x, y: fit_decoders(x, {"emg": y * np.inf}, [0, 1], [3]), "emg hold "),
        (
            lambda x, y: fit_optimal_linear_estimator(x, y, [0, 1], [3], shrinkages=(2,)),
            "cannot lie outside 0 … 1, got 2",
        ),
        (lambda x, y: fit_optimal_linear_estimator(x, y, [0, 1], [3], prior="uniform"), "prior must be"),
        (
            lambda x, y: fit_optimal_linear_estimator(x[..., :1], y, [0, 1], [3], prior="flat"),
            "the features tell 1 of the 2 dims of the behaviour",
        ),
    ],
)
def test_what_does_not_fit_is_rejected(rng, call, message):
    with pytest.raises(ValueError, match=message):
        call(rng.normal(size=(5, 6, 3)), rng.normal(size=(5, 6, 2)))


@pytest.fixture
def real(data_folder):
    from ctd_models.data import load_recording

    recording = load_recording(data_folder / "adan_day0.h5", ("force", "force_rate", "emg"))
    return recording, *(recording.part(part) for part in range(3))


def test_the_published_baselines_of_raw_counts_on_a_real_recording(real):
    recording, train, validation, test = real
    fits = fit_decoders(recording.spikes, recording.behavior, train, validation, first_bin=4)
    for name, listed in {"force": 0.662, "force_rate": 0.557, "emg": 0.534}.items():
        found = r2_score(recording.behavior[name][test, 4:], fits[name].predict(recording.spikes[test]))
        assert found == pytest.approx(listed, abs=0.001)


@pytest.mark.parametrize(
    ("name", "listed"),
    [
        ("force", 0.868),
        pytest.param("force_rate", 0.663, marks=pytest.mark.slow),
        pytest.param("emg", 0.713, marks=pytest.mark.slow),
    ],
)
def test_the_published_baselines_of_smoothed_spikes_on_a_real_recording(real, name, listed):
    recording, train, validation, test = real
    target = recording.behavior[name]
    decoder = fit_smoothed_decoder(recording.spikes, target, train, validation, first_bin=4)
    assert r2_score(target[test, 4:], decoder.predict(recording.spikes[test])) == pytest.approx(listed, abs=0.003)
