import sys

import h5py
import numpy as np
import pytest
import scipy.stats

from ctd_models.analysis.baseline_libraries import FactorModel
from ctd_models.analysis.baselines import GPFA, FactorAnalysis, FittedFactors, SmoothingBaseline
from ctd_models.analysis.decoding import fit_decoder, smooth_spikes
from ctd_models.analysis.latents.pca import PCA
from ctd_models.analysis.latents.subspaces import subspace_angles
from ctd_models.analysis.metrics import bits_per_spike, latent_r2, r2_score, rate_r2

BIN_S = 0.02


@pytest.fixture
def rng():
    return np.random.default_rng(3)


@pytest.fixture
def sklearn():
    return pytest.importorskip("sklearn.decomposition")


@pytest.fixture
def elephant(sklearn):
    return pytest.importorskip("elephant.gpfa.gpfa_core")


def linear_data(rng, latents, neurons, noise_std):
    """y = C x + d + noise, far above 0, and C."""
    loadings = rng.normal(size=(neurons, latents.shape[2]))
    noise = rng.normal(size=(*latents.shape[:2], neurons)) * noise_std
    return latents @ loadings.T + 60.0 + noise, loadings


def gp_latents(rng, trials, time, timescales_bins):
    """Gaussian processes with a squared exponential covariance, ε = 0.001."""
    lag = np.subtract.outer(np.arange(time), np.arange(time))
    covariances = [0.999 * np.exp(-(lag**2) / (2 * tau**2)) + 0.001 * np.eye(time) for tau in timescales_bins]
    return np.stack([rng.multivariate_normal(np.zeros(time), k, trials) for k in covariances], axis=2), covariances


def largest_angle(basis, loadings):
    return subspace_angles(basis, loadings, degrees=True)[-1]


def poisson_trials(rng, trials=30, time=25, neurons=12):
    latents, _ = gp_latents(rng, trials, time, (3.0, 8.0))
    rates = 0.6 * np.exp(0.7 * latents @ rng.normal(size=(2, neurons)))
    return rng.poisson(rates), rates, latents


def test_smoothing_is_a_gaussian_in_seconds(rng):
    spikes = rng.poisson(1.0, (4, 20, 3))
    fitted = SmoothingBaseline(width_s=0.03).fit(spikes, BIN_S)
    np.testing.assert_allclose(fitted.factors(spikes), smooth_spikes(spikes, 1.5))
    np.testing.assert_array_equal(
        fitted.rates(spikes), np.maximum(smooth_spikes(spikes, 1.5), fitted.floor * fitted.mean_counts)
    )


def test_smoothing_likelihood_predicts_each_count_from_the_others(rng):
    spikes = rng.poisson(1.0, (3, 9, 2))
    fitted = SmoothingBaseline(width_s=0.03, floor=0.1).fit(spikes, BIN_S)
    total = 0.0
    for trial, bin_, neuron in np.ndindex(*spikes.shape):
        weights = np.array([smooth_spikes(np.eye(9)[None, :, [s]], 1.5)[0, bin_, 0] for s in range(9)])
        weights[bin_] = 0.0
        rate = max(weights @ spikes[trial, :, neuron] / weights.sum(), 0.1 * spikes[..., neuron].mean())
        total += scipy.stats.poisson.logpmf(spikes[trial, bin_, neuron], rate)
    assert fitted.log_likelihood(spikes) == pytest.approx(total / 27)


def test_factor_analysis_finds_the_subspace_where_noise_misleads_principal_components(rng, sklearn):
    noise = np.array([0.3] * 12 + [6.0] * 4)
    y, loadings = linear_data(rng, rng.normal(size=(60, 50, 3)), 16, noise)
    fitted = FactorAnalysis(3).fit(y, BIN_S)
    assert fitted.model.converged
    assert largest_angle(fitted.model.loadings, loadings) < 5
    assert largest_angle(PCA.fit(y, 3).components.T, loadings) > 45
    np.testing.assert_allclose(np.sqrt(fitted.model.noise), noise, rtol=0.1)
    assert fitted.timescales_s is None


def test_factor_analysis_infers_as_scikit_learn(rng, sklearn):
    y, _ = linear_data(rng, rng.normal(size=(20, 10, 2)), 8, 1.0)
    fitted = FactorAnalysis(2).fit(y, BIN_S)
    reference = sklearn.FactorAnalysis(2, svd_method="lapack", noise_variance_init=y.var(axis=(0, 1)))
    reference.fit(y.reshape(-1, 8))
    new, _ = linear_data(rng, rng.normal(size=(5, 7, 2)), 8, 1.0)
    np.testing.assert_allclose(fitted.model.noise, reference.noise_variance_)
    np.testing.assert_allclose(fitted.model.log_likelihoods, reference.loglike_)
    factors, expected = fitted.factors(new).reshape(-1, 2), reference.transform(new.reshape(-1, 8))
    signs = np.sign((factors * expected).sum(axis=0))
    np.testing.assert_allclose(factors, signs * expected, atol=1e-9)
    assert fitted.log_likelihood(new) == pytest.approx(reference.score(new.reshape(-1, 8)))


def gp_problem(rng):
    """Smooth factors in strong noise: one bin tells little."""
    latents, _ = gp_latents(rng, 60, 40, (3.0, 10.0))
    y, loadings = linear_data(rng, latents, 12, np.array([2.0] * 8 + [8.0] * 4))
    return y, loadings, latents


def test_gpfa_finds_subspace_and_timescales_and_better_factors(rng, elephant):
    y, loadings, latents = gp_problem(rng)
    fitted = GPFA(2, sqrt=False, max_iterations=120).fit(y, BIN_S)
    assert largest_angle(fitted.model.loadings, loadings) < 8
    assert largest_angle(PCA.fit(y, 2).components.T, loadings) > 30
    assert all(largest_angle(PCA.fit(smooth_spikes(y, w), 2).components.T, loadings) > 15 for w in (1.0, 3.0, 6.0))
    np.testing.assert_allclose(np.sort(fitted.timescales_s), [3 * BIN_S, 10 * BIN_S], rtol=0.25)
    train = np.arange(60) < 40
    gpfa = latent_r2(fitted.factors(y), latents, train)
    smoothed = max(latent_r2(smooth_spikes(y, w), latents, train) for w in (1.0, 2.0, 3.0, 5.0))
    assert gpfa > smoothed + 0.02
    assert gpfa > latent_r2(FactorAnalysis(2).fit(y, BIN_S).factors(y), latents, train) + 0.05


def test_gpfa_infers_the_mean_of_the_joint_gaussian(rng, elephant):
    taus, time, neurons = (2.0, 5.0), 7, 4
    latents, covariances = gp_latents(rng, 3, time, taus)
    y, loadings = linear_data(rng, latents, neurons, 1.0)
    noise = np.array([0.5, 1.0, 1.5, 2.0])
    model = FactorModel(loadings, np.full(neurons, 60.0), noise, np.zeros(1), True, np.array(taus))
    fitted = FittedFactors(y.mean(axis=(0, 1)), np.ones(neurons, bool), 0.0, BIN_S, False, None, model)
    prior = np.zeros((time, 2, time, 2))
    for i, covariance in enumerate(covariances):
        prior[:, i, :, i] = covariance
    prior = prior.reshape(2 * time, 2 * time)
    emission = np.kron(np.eye(time), loadings)
    marginal = emission @ prior @ emission.T + np.kron(np.eye(time), np.diag(noise))
    flat = (y - 60.0).reshape(3, -1)
    expected = flat @ np.linalg.solve(marginal, emission @ prior)
    np.testing.assert_allclose(fitted.factors(y), expected.reshape(3, time, 2), atol=1e-8)
    density = scipy.stats.multivariate_normal(np.zeros(len(marginal)), marginal).logpdf(flat).sum()
    assert fitted.log_likelihood(y) == pytest.approx(density / (3 * time))
    one = fitted.factors(y[:1, :5])  # trials of any number and length
    assert one.shape == (1, 5, 2)
    np.testing.assert_allclose(fitted.rates(y), fitted.factors(y) @ loadings.T + 60.0)


def test_gpfa_climbs_and_is_reproducible_and_quiet(rng, elephant, capsys, monkeypatch):
    spikes, _, _ = poisson_trials(rng)
    settings = GPFA(2, max_iterations=12)
    monkeypatch.setattr(np.random, "multinomial", None)  # elephant's own fit would cut trials at random by it
    fitted = settings.fit(spikes, BIN_S)
    again = settings.fit(spikes, BIN_S)
    np.testing.assert_array_equal(fitted.model.loadings, again.model.loadings)
    values = fitted.model.log_likelihoods
    values = values[np.isfinite(values)]
    assert len(values) >= 3
    assert (np.diff(values) > 0).all()
    assert not fitted.model.converged
    assert GPFA(2, tolerance=0.5).fit(spikes, BIN_S).model.converged
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("baseline", [FactorAnalysis(2), FactorAnalysis(2, sqrt=True), GPFA(2, max_iterations=5)])
def test_neurons_that_do_not_vary_in_training_are_left_out(rng, elephant, baseline):
    spikes, _, _ = poisson_trials(rng)
    wider = np.insert(spikes, [0, 5], 0, axis=2)
    wider[:, :, 6] = 2
    fitted, alone = baseline.fit(wider, BIN_S), baseline.fit(spikes, BIN_S)
    assert np.flatnonzero(~fitted.varies).tolist() == [0, 6]
    wider[3, 4, 0] = 5  # a spike of a neuron that was silent in training
    np.testing.assert_allclose(fitted.factors(wider), alone.factors(spikes))
    rates = fitted.rates(wider)
    np.testing.assert_allclose(np.delete(rates, [0, 6], axis=2), alone.rates(spikes))
    assert (rates[:, :, 0] == 0).all()
    assert (rates[:, :, 6] == 2).all()


@pytest.mark.parametrize("baseline", [FactorAnalysis(2), GPFA(2, max_iterations=5)])
def test_a_neuron_recorded_twice_breaks_nothing(rng, elephant, baseline):
    spikes, _, _ = poisson_trials(rng)
    twice = np.concatenate([spikes, spikes[:, :, :1]], axis=2)
    fitted = baseline.fit(twice, BIN_S)
    assert np.isfinite(fitted.rates(twice)).all()
    assert np.isfinite(fitted.log_likelihood(twice))


def test_square_roots_become_the_rates_that_have_them():
    rates = np.array([0.0, 1e-3, 0.1, 1.0, 7.0, 35.0, 37.0, 400.0])
    counts = np.arange(1000)
    means = scipy.stats.poisson.pmf(counts, rates[:, None]) @ np.sqrt(counts)
    model = FactorModel(np.zeros((8, 1)), means, np.ones(8), np.zeros(1), True)
    fitted = FittedFactors(rates, np.ones(8, bool), 0.0, BIN_S, True, None, model)
    np.testing.assert_allclose(fitted.rates(np.ones((1, 1, 8)))[0, 0], rates, rtol=1e-3)


@pytest.mark.parametrize("sqrt", [False, True])
def test_predictions_below_the_floor_are_set_to_it(sqrt):
    model = FactorModel(np.zeros((2, 1)), np.array([-3.0, 0.5]), np.ones(2), np.zeros(1), True)
    fitted = FittedFactors(np.array([2.0, 0.1]), np.ones(2, bool), 0.05, BIN_S, sqrt, None, model)
    rates = fitted.rates(np.ones((1, 1, 2)))[0, 0]
    assert rates[0] == 0.1
    assert rates[1] >= 0.5


def test_rates_of_poisson_spikes_are_nearer_the_truth_than_smoothed_ones(rng, elephant):
    spikes, rates, _ = poisson_trials(rng, trials=80, neurons=20)
    train, test = slice(0, 60), slice(60, 80)
    smoothed = max(
        rate_r2(rates[test], SmoothingBaseline(w).fit(spikes[train], BIN_S).rates(spikes[test]))
        for w in (0.02, 0.04, 0.06, 0.1)
    )
    fitted = GPFA(2, max_iterations=15).fit(spikes[train], BIN_S)
    assert rate_r2(rates[test], fitted.rates(spikes[test])) > smoothed + 0.05


@pytest.mark.parametrize(
    "blocked, baseline", [("sklearn.decomposition", FactorAnalysis(1)), ("elephant.gpfa", GPFA(1))]
)
def test_a_missing_library_is_named_with_the_extra(monkeypatch, rng, blocked, baseline):
    monkeypatch.setitem(sys.modules, blocked, None)
    with pytest.raises(ImportError, match=r'pip install "ctd_models\[baselines\]"'):
        baseline.fit(rng.poisson(1.0, (3, 9, 4)), BIN_S)


@pytest.mark.parametrize(
    "baseline, message",
    [
        (SmoothingBaseline(0.0), "width_s must be positive, got 0.0"),
        (SmoothingBaseline(0.1, floor=1.0), r"floor must lie in \[0, 1\), got 1.0"),
        (FactorAnalysis(4), "integer in 1 … 3, fewer than the 4 neurons that vary, got 4"),
        (FactorAnalysis(0), "integer in 1 … 3, .* got 0"),
        (FactorAnalysis(2, width_s=-1.0), "width_s must be positive, got -1.0"),
        (FactorAnalysis(2, max_iterations=0), "max_iterations must be positive, got 0"),
        (GPFA(2, timescale_s=np.nan), "timescale_s must be positive, got nan"),
        (GPFA(2, segment_bins=1), "two bins or more, got trials of 9 and segments of 1"),
    ],
)
def test_bad_settings(rng, baseline, message):
    with pytest.raises(ValueError, match=message):
        baseline.fit(rng.poisson(1.0, (3, 9, 4)), BIN_S)


def test_bad_spikes(rng):
    baseline, spikes = SmoothingBaseline(0.1), rng.poisson(1.0, (3, 9, 4)).astype(float)
    with pytest.raises(ValueError, match=r"expected spikes \[trials, time, neurons\].*\(9, 4\)"):
        baseline.fit(spikes[0], BIN_S)
    with pytest.raises(ValueError, match="bin_width_s must be positive, got 0"):
        baseline.fit(spikes, 0.0)
    with pytest.raises(ValueError, match="none of the 4 neurons varies"):
        baseline.fit(np.ones((3, 9, 4)), BIN_S)
    with pytest.raises(ValueError, match="fitted to 4 neurons, got spikes of 3"):
        baseline.fit(spikes, BIN_S).rates(spikes[:, :, :3])
    with pytest.raises(ValueError, match="does not reach from one bin to another"):
        SmoothingBaseline(0.001).fit(spikes, BIN_S).log_likelihood(spikes)
    spikes[1, 2, 3] = -1
    with pytest.raises(ValueError, match=r"got -1.0 at index \(1, 2, 3\)"):
        baseline.fit(spikes, BIN_S)


@pytest.fixture(scope="module")
def lorenz(data_folder):
    with h5py.File(data_folder / "lorenz.h5") as file:
        condition = file["condition"][:]
        rates = file["rates"][:].astype(float)[condition] * file.attrs["bin_width_s"]
        return file["spikes"][:], rates, file["latents"][:].astype(float)[condition], file["split"][:] == 0


def test_smoothing_of_lorenz_spikes_has_its_known_scores(lorenz):
    spikes, rates, latents, train = lorenz
    wide, narrow = (SmoothingBaseline(w).fit(spikes[train], 0.01) for w in (0.055, 0.03))
    assert rate_r2(rates[~train], wide.rates(spikes[~train])) == pytest.approx(0.13, abs=0.01)
    assert latent_r2(narrow.factors(spikes), latents, train) == pytest.approx(0.853, abs=0.005)


@pytest.mark.slow
def test_factor_models_of_lorenz_spikes_reach_their_known_scores(lorenz, elephant):
    spikes, rates, latents, train = lorenz
    scores = {}
    for name, baseline, trials in (
        ("rates", FactorAnalysis(5), 1040),
        ("latents", FactorAnalysis(10, width_s=0.03), 1040),
        ("gpfa", GPFA(3, max_iterations=50), 300),
    ):
        fitted = baseline.fit(spikes[train][:trials], 0.01)
        scores[name] = (
            rate_r2(rates[~train], fitted.rates(spikes[~train])),
            latent_r2(fitted.factors(spikes), latents, train),
        )
    assert scores["rates"][0] > 0.541
    assert scores["latents"][1] > 0.85
    assert scores["gpfa"][0] > 0.587
    assert scores["gpfa"][1] > 0.80


@pytest.mark.slow
def test_factor_analysis_of_motor_cortex_reaches_its_known_scores(data_folder, sklearn):
    from ctd_models.analysis.cosmoothing import select_poisson_glm

    with h5py.File(data_folder / "adan_day0.h5") as file:
        spikes, force = file["trials/spikes"][:], file["trials/force"][:].astype(float)
        split, heldin, heldout = (
            file["trials/split"][:],
            file["meta/heldin_channels"][:],
            file["meta/heldout_channels"][:],
        )
    train, validation, test = (np.flatnonzero(split == part) for part in range(3))
    fitted_on = np.concatenate([train, validation])
    factors = FactorAnalysis(30, sqrt=True, width_s=0.15).fit(spikes[fitted_on], 0.05).factors(spikes)
    decoder = fit_decoder(factors, force, train, validation, first_bin=4)
    assert r2_score(force[test, 4:], decoder.predict(factors[test])) == pytest.approx(0.872, abs=0.015)
    read = spikes[:, :, heldin]
    factors = FactorAnalysis(20, width_s=0.05).fit(read[fitted_on], 0.05).factors(read)
    glm = select_poisson_glm(factors, spikes[:, :, heldout], train, validation)
    assert bits_per_spike(spikes[test][:, :, heldout], glm.predict(factors[test])) == pytest.approx(0.1244, abs=0.002)
