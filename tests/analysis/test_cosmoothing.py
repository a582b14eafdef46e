import warnings

import h5py
import numpy as np
import pytest
import scipy.optimize

from ctd_models.analysis.cosmoothing import (
    cosmoothing_bits_per_spike,
    fit_poisson_glm,
    forward_bits_per_spike,
    select_poisson_glm,
)
from ctd_models.analysis.decoding import smooth_spikes
from ctd_models.analysis.metrics import bits_per_spike


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_cosmoothing_scores_the_held_out_neurons_alone(rng):
    rates = rng.gamma(1.0, size=(4, 6, 5)) + 0.1
    spikes = rng.poisson(rates)
    expected = bits_per_spike(spikes[..., [4, 1]], rates[..., [4, 1]])
    assert cosmoothing_bits_per_spike(rates, spikes, [4, 1]) == pytest.approx(expected)
    assert cosmoothing_bits_per_spike(rates[..., [4, 1]], spikes, [4, 1]) == pytest.approx(expected)
    assert cosmoothing_bits_per_spike(rates / 0.02, spikes, [4, 1], bin_width=0.02) == pytest.approx(expected)
    spikes[..., 1] = 0  # silent: it costs its rates, and nothing else
    spikes_of_4 = spikes[..., 4].sum()
    expected = bits_per_spike(spikes[..., [4]], rates[..., [4]]) - rates[..., 1].sum() / (spikes_of_4 * np.log(2))
    assert cosmoothing_bits_per_spike(rates, spikes, [4, 1]) == pytest.approx(expected)


def test_forward_prediction_scores_the_last_bins_against_their_own_mean(rng):
    rates = rng.gamma(1.0, size=(4, 9, 3)) + 0.1
    spikes = rng.poisson(rates)
    found = forward_bits_per_spike(rates, spikes, 2)
    assert found == pytest.approx(bits_per_spike(spikes[:, 7:], rates[:, 7:]))
    assert forward_bits_per_spike(rates[:, 7:], spikes, 2) == pytest.approx(found)
    mean = np.broadcast_to(spikes[:, 7:].mean(axis=(0, 1)), (4, 2, 3))
    assert forward_bits_per_spike(mean, spikes, 2) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r, s: cosmoothing_bits_per_spike(r, s, [3]), r"names the neurons \[3\], but there are 3"),
        (lambda r, s: cosmoothing_bits_per_spike(r, s, [-1]), r"names the neurons \[-1\]"),
        (lambda r, s: cosmoothing_bits_per_spike(r, s, [1, 1]), "names a neuron twice"),
        (lambda r, s: cosmoothing_bits_per_spike(r, s, []), "expected heldout"),
        (lambda r, s: cosmoothing_bits_per_spike(r[..., :2], s, [0]), r"all 3 neurons or of the 1 held-out"),
        (lambda r, s: cosmoothing_bits_per_spike(r, s[0], [0]), r"expected spikes \[trials, time, neurons\]"),
        (lambda r, s: forward_bits_per_spike(r, s, 0), "of 0 bins or more"),
        (lambda r, s: forward_bits_per_spike(r, s[:, :2], 3), "of 3 bins or more"),
    ],
)
def test_bits_reject(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.ones((2, 4, 3)), np.ones((2, 4, 3)))


def simulated(rng, num_trials=20):
    features = rng.normal(size=(num_trials, 15, 4)) * [1, 10, 0.1, 1] + 2
    z = (features - features.mean(axis=(0, 1))) / features.std(axis=(0, 1))
    return features, rng.poisson(np.exp(z @ rng.normal(size=(4, 3)) * 0.5 - 0.5))


@pytest.mark.parametrize("penalty", [0.0, 3.0, 300.0])
def test_glm_is_the_minimum_that_scipy_finds(rng, penalty):
    features, spikes = simulated(rng)
    glm = fit_poisson_glm(features, spikes, penalty=penalty)
    x, y = features.reshape(-1, 4), spikes.reshape(-1, 3)
    z = (x - x.mean(axis=0)) / x.std(axis=0)

    def objective(parameters, n):
        log_rates = z @ parameters[:4] + parameters[4]
        gradient = np.exp(log_rates) - y[:, n]
        value = (np.exp(log_rates) - y[:, n] * log_rates).sum() + penalty / 2 * (parameters[:4] ** 2).sum()
        return value, np.append(z.T @ gradient + penalty * parameters[:4], gradient.sum())

    for n in range(3):
        found = scipy.optimize.minimize(
            objective, np.zeros(5), (n,), method="BFGS", jac=True, options={"gtol": 1e-8, "xrtol": 1e-14}
        )
        own = np.append(glm.weights[:, n], glm.bias[n])
        np.testing.assert_allclose(own, found.x, atol=1e-7)
        assert np.abs(objective(own, n)[1]).max() < 1e-8
    np.testing.assert_allclose(glm.predict(features).sum(axis=(0, 1)), spikes.sum(axis=(0, 1)))  # the bias is free
    assert len(glm.silent) == 0


def test_glm_by_closed_form(rng):
    """One feature that is −1 or 1: the rates are the mean counts of both."""
    x = np.repeat([-1.0, 1.0], 20)[:, None]
    spikes = rng.poisson(np.exp(0.3 + np.array([0.8, -0.5]) * x))
    rates = fit_poisson_glm(x, spikes, penalty=0.0).predict(np.array([[-1.0], [1.0]]))
    np.testing.assert_allclose(rates, spikes.reshape(2, 20, 2).mean(axis=1))


def test_neurons_do_not_disturb_each_other(rng):
    features, spikes = simulated(rng)
    first = fit_poisson_glm(features, spikes, penalty=2.0)
    spikes[..., :2] = 50 * spikes[..., 1::-1]
    np.testing.assert_allclose(fit_poisson_glm(features, spikes, penalty=2.0).weights[:, 2], first.weights[:, 2])


def test_silent_neurons_and_constant_features_do_no_harm(rng):
    features, spikes = simulated(rng, num_trials=25)
    features[..., 2], spikes[..., 1] = 5.0, 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        glm = fit_poisson_glm(features[:20], spikes[:20], penalty=1.0)
    assert glm.silent.tolist() == [1]
    assert (glm.weights[2] == 0).all()
    assert (glm.weights[:, 1] == 0).all()
    rates = glm.predict(features[20:])
    np.testing.assert_allclose(rates[..., 1], 0.5 / (20 * 15))
    others = cosmoothing_bits_per_spike(rates, spikes[20:], [0, 2])
    cost = 0.5 * 5 / 20 / (spikes[20:].sum() * np.log(2))
    assert cosmoothing_bits_per_spike(rates, spikes[20:], [0, 1, 2]) == pytest.approx(others - cost)
    spikes[22, 3, 1] = 1  # and where it does fire, its likelihood is not 0
    assert np.isfinite(cosmoothing_bits_per_spike(rates, spikes[20:], [0, 1, 2]))
    nothing = fit_poisson_glm(features[:20], np.zeros((20, 15, 3)))
    assert nothing.silent.tolist() == [0, 1, 2]


def test_the_penalty_is_the_one_that_validation_prefers(rng):
    features = rng.normal(size=(30, 10, 20))
    spikes = rng.poisson(np.exp(0.4 * features[..., :3]))
    train, validation, penalties = np.arange(15), np.arange(15, 25), (0.1, 30.0, 1e4)
    chosen = select_poisson_glm(features, spikes, train, validation, penalties=penalties)
    bits = {}
    for penalty in penalties:
        glm = fit_poisson_glm(features[train], spikes[train], penalty=penalty)
        bits[penalty] = bits_per_spike(spikes[validation], glm.predict(features[validation]))
    assert chosen.penalty == max(bits, key=bits.get) == 30.0
    assert chosen.validation_bits == pytest.approx(bits[30.0])
    final = fit_poisson_glm(features[:25], spikes[:25], penalty=30.0)
    np.testing.assert_allclose(chosen.weights, final.weights, atol=1e-9)
    assert cosmoothing_bits_per_spike(chosen.predict(features[25:]), spikes[25:], [0, 1, 2]) > 0


def test_a_problem_without_solution_is_an_error_that_names_the_neuron():
    x = np.repeat([-1.0, 1.0], 20)[:, None]
    spikes = np.repeat([[0, 1], [1, 1]], 20, axis=0)  # the first fires at x = 1 only
    with pytest.raises(RuntimeError, match=r"neurons \[0\] did not converge in 20 steps with penalty 0"):
        fit_poisson_glm(x, spikes, penalty=0.0, max_steps=20)
    rates = fit_poisson_glm(x, spikes, penalty=0.01).predict(x)
    np.testing.assert_allclose(rates[:, 0].reshape(2, 20).mean(axis=1), [0, 1], atol=0.05)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, y: fit_poisson_glm(x[:2], y), r"got shapes \(2, 4, 2\) and \(3, 4, 5\)"),
        (lambda x, y: fit_poisson_glm(x, y - 2), r"spikes cannot be negative, but hold -1.0 at index \(0, 0, 0\)"),
        (lambda x, y: fit_poisson_glm(x * np.nan, y), "features hold nan"),
        (lambda x, y: fit_poisson_glm(x, y, penalty=-1.0), "penalty cannot be negative, got -1.0"),
        (lambda x, y: select_poisson_glm(x, y, [0, 1], [1]), r"share the trials \[1\]"),
        (lambda x, y: select_poisson_glm(x, y, [0], [1], penalties=()), "no penalty to try"),
    ],
)
def test_glm_rejects(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.ones((3, 4, 2)), np.ones((3, 4, 5)))


@pytest.mark.slow
@pytest.mark.parametrize(("width", "expected", "tolerance"), [(None, 0.1175, 1e-4), (1.0, 0.1242, 4e-4)])
def test_the_baselines_of_a_real_recording(data_folder, width, expected, tolerance):
    """Figures listed with this recording: held-out neurons from the counts of the others, as they are and smoothed."""
    with h5py.File(data_folder / "adan_day0.h5") as file:
        spikes, split = file["trials/spikes"][()], file["trials/split"][()]
        heldin, heldout = file["meta/heldin_channels"][()], file["meta/heldout_channels"][()]
    train, validation, test = (np.flatnonzero(split == part) for part in range(3))
    features = spikes[..., heldin] if width is None else smooth_spikes(spikes[..., heldin], width)
    glm = select_poisson_glm(features, spikes[..., heldout], train, validation)
    found = cosmoothing_bits_per_spike(glm.predict(features[test]), spikes[test], heldout)
    assert found == pytest.approx(expected, abs=tolerance)
