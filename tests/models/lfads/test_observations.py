"""Likelihoods, means and draws of the observation models against scipy.stats."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from ctd_models.models.lfads import Gamma, Normal, Poisson, ZeroInflatedGamma

RNG = np.random.default_rng(0)
RAW = RNG.normal(size=(6, 4, 3))
A, B, C = np.exp(RAW[..., 0]), np.exp(RAW[..., 1]), 1 / (1 + np.exp(-RAW[..., 2]))
CASES = {
    "poisson": (Poisson(), scipy.stats.poisson(A)),
    "normal": (Normal(min_variance=0.01), scipy.stats.norm(RAW[..., 0], np.sqrt(B + 0.01))),
    "gamma": (Gamma(), scipy.stats.gamma(A, scale=1 / B)),
}


@pytest.mark.parametrize("name", CASES)
def test_against_scipy(name):
    observation, truth = CASES[name]
    raw = jnp.asarray(RAW[..., : observation.num_parameters])
    values = truth.rvs(random_state=0)
    density = truth.logpmf(values) if name == "poisson" else truth.logpdf(values)
    np.testing.assert_allclose(observation.log_prob(raw, values.astype(np.float32)), density, rtol=2e-4, atol=2e-5)
    np.testing.assert_allclose(observation.mean(raw), truth.mean(), rtol=1e-5)
    draws = np.asarray(observation.draw(jax.random.key(0), jnp.broadcast_to(raw, (4000, *raw.shape))))
    assert np.abs((draws.mean(axis=0) - truth.mean()) / (truth.std() / 4000**0.5)).max() < 4.5


def test_zero_inflated_gamma():
    observation, raw = ZeroInflatedGamma(location=0.5), jnp.asarray(RAW)
    gamma = scipy.stats.gamma(A, scale=1 / B)
    values = 0.5 + gamma.rvs(random_state=0)
    np.testing.assert_allclose(
        observation.log_prob(raw, values.astype(np.float32)),
        np.log(C) + gamma.logpdf(values - 0.5),
        rtol=1e-3,
        atol=1e-4,
    )
    np.testing.assert_allclose(observation.log_prob(raw, np.zeros(A.shape)), np.log(1 - C), rtol=1e-5)
    np.testing.assert_allclose(observation.mean(raw), C * (0.5 + A / B), rtol=1e-5)
    draws = np.asarray(observation.draw(jax.random.key(0), jnp.broadcast_to(raw, (4000, *raw.shape))))
    np.testing.assert_allclose((draws > 0).mean(axis=0), C, atol=0.035)
    assert draws[draws > 0].min() >= 0.5
    gradient = jax.grad(lambda p: observation.log_prob(p, jnp.zeros(A.shape)).sum())(raw)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
    "observation", [Poisson(), Normal(), Gamma(), ZeroInflatedGamma()], ids=lambda o: type(o).__name__
)
def test_training_starts_at_the_mean(observation):
    mean = jnp.asarray([0.2, 1.0, 4.0])
    raw = observation.start(mean, jnp.asarray([0.3, 0.5, 2.0]))
    assert raw.shape == (3, observation.num_parameters)
    np.testing.assert_allclose(observation.mean(raw), mean, rtol=1e-4)


def test_silent_neurons_start_at_a_finite_rate():
    assert np.isfinite(Poisson().start(jnp.zeros(2), jnp.zeros(2))).all()


@pytest.mark.parametrize(
    ("observation", "values", "bad"),
    [
        (Poisson(), [0.0, 3.0, -1.0, 0.5, np.nan], [False, False, True, True, True]),
        (Gamma(), [0.1, 0.0, np.inf], [False, True, True]),
        (ZeroInflatedGamma(), [0.0, 0.1, -0.1], [False, False, True]),
        (Normal(), [-3.0, np.nan], [False, True]),
    ],
)
def test_impossible_values(observation, values, bad):
    np.testing.assert_array_equal(observation.invalid(np.array(values))[0], bad)
