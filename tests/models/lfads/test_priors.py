"""Densities against scipy, divergences against closed forms, quadrature and Monte Carlo."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats

from ctd_models.models.lfads import (
    AutoregressivePrior,
    ClassConditional,
    DiagonalGaussian,
    Gaussian,
    Mixture,
    StudentT,
)

KEY = jax.random.key(0)
LABELS = np.array([0, 2, 1, 2])
PRIORS = {
    "gaussian": Gaussian(variance=0.3),
    "student": StudentT(scale=0.4, degrees_of_freedom=3.0),
    "mixture": Mixture(3, variance=0.2),
    "class": ClassConditional(3, variance=0.5),
    "ar": AutoregressivePrior(tau=2.0, noise_variance=0.1),
}


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def posterior(shape=(4, 5, 2)) -> DiagonalGaussian:
    rng = np.random.default_rng(1)
    return DiagonalGaussian(jnp.asarray(rng.normal(size=shape)), jnp.asarray(rng.uniform(0.1, 0.9, shape)))


def bound(prior, shape=(4, 5, 2)):
    """The prior with parameters that are not those of its initialisation."""
    q = posterior(shape)
    variables = prior.init(KEY, q, q.mean, LABELS, method="divergence")
    leaves, structure = jax.tree.flatten(variables)
    keys = jax.random.split(KEY, len(leaves))
    leaves = [leaf + 0.3 * jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves, strict=True)]
    return prior.bind(jax.tree.unflatten(structure, leaves))


@pytest.mark.parametrize("name", PRIORS)
def test_divergence_is_that_of_monte_carlo(name):
    """E_q[log q − log p] over whole paths, of a posterior without feedback."""
    prior, q = bound(PRIORS[name]), posterior()
    samples = q.mean + q.std * jax.random.normal(KEY, (20_000, *q.mean.shape))
    log_ratio = jax.jit(jax.vmap(lambda u: q.log_prob(u) - prior.log_prob(u, LABELS)))(samples).sum(axis=-1)
    divergences = jax.jit(jax.vmap(lambda u: prior.divergence(q, u, LABELS)))(samples).sum(axis=-1)
    difference = np.asarray(divergences - log_ratio)
    error = difference.std(axis=0) / len(difference) ** 0.5
    assert np.abs(difference.mean(axis=0) / error).max() < 4
    assert (error / np.abs(divergences).mean(axis=0)).max() < 0.01


def test_gaussian_against_closed_form_and_scipy():
    prior, q = bound(Gaussian(variance=0.3)), posterior()
    mean, variance = prior.moments(2)
    expected = (jnp.log(jnp.sqrt(variance) / q.std) + (q.std**2 + (q.mean - mean) ** 2) / (2 * variance) - 0.5).sum(
        axis=-1
    )
    np.testing.assert_allclose(prior.divergence(q, q.mean), expected, rtol=1e-5)
    density = scipy.stats.norm.logpdf(q.mean, mean, jnp.sqrt(variance)).sum(axis=-1)
    np.testing.assert_allclose(prior.log_prob(q.mean), density, rtol=1e-5)
    np.testing.assert_allclose(q.entropy(), scipy.stats.norm.entropy(scale=q.std).sum(axis=-1), rtol=1e-5)


def test_student_divergence_against_adaptive_quadrature():
    prior, q = bound(StudentT(scale=0.4, degrees_of_freedom=3.0), (1, 2)), posterior((1, 2))
    location, scale = (np.asarray(v, np.float64) for v in prior._parameters(2))
    np.testing.assert_allclose(
        prior.log_prob(q.mean), scipy.stats.t.logpdf(q.mean, 3.0, location, scale).sum(axis=-1), rtol=1e-5
    )
    expected = 0.0
    for i in range(2):
        m, s = float(q.mean[0, i]), float(q.std[0, i])
        expected += scipy.integrate.quad(
            lambda u, i=i, m=m, s=s: (
                scipy.stats.norm.pdf(u, m, s)
                * (scipy.stats.norm.logpdf(u, m, s) - scipy.stats.t.logpdf(u, 3.0, location[i], scale[i]))
            ),
            m - 10 * s,
            m + 10 * s,
        )[0]
    np.testing.assert_allclose(prior.divergence(q, q.mean), [expected], rtol=2e-4)


def test_student_location_does_not_start_at_the_scale():
    variables = StudentT(scale=0.4).init(KEY, posterior(), posterior().mean, method="divergence")
    np.testing.assert_array_equal(variables["params"]["location"], np.zeros(2))


def test_mixture_against_scipy_and_its_responsibilities():
    prior, values = bound(Mixture(3, variance=0.2), (4, 2)), posterior((4, 2)).mean
    mean, variance, log_weights = prior._parameters(2)
    densities = np.stack(
        [
            scipy.stats.norm.logpdf(values, mean[k], jnp.sqrt(variance[k])).sum(axis=-1) + log_weights[k]
            for k in range(3)
        ],
        axis=-1,
    )
    np.testing.assert_allclose(prior.log_prob(values), scipy.special.logsumexp(densities, axis=-1), rtol=1e-5)
    expected = scipy.special.softmax(densities, axis=-1)
    np.testing.assert_allclose(prior.responsibilities(values), expected, rtol=1e-4, atol=1e-7)


def test_autoregressive_density_is_that_of_the_joint_gaussian():
    """With the covariance s²/(1 − φ²) φ^|i − j| of the stationary process."""
    prior, values = bound(PRIORS["ar"]), posterior().mean
    phi, variance = (np.asarray(v, np.float64) for v in prior._parameters(2))
    lags = np.abs(np.subtract.outer(np.arange(5), np.arange(5)))
    for trial in range(4):
        expected = sum(
            scipy.stats.multivariate_normal.logpdf(
                values[trial, :, d], np.zeros(5), variance[d] / (1 - phi[d] ** 2) * phi[d] ** lags
            )
            for d in range(2)
        )
        np.testing.assert_allclose(prior.log_prob(values)[trial].sum(), expected, rtol=1e-4)


def test_autoregressive_divergence_without_feedback_has_its_closed_form():
    """Averaged over samples: the term of the decoded sample becomes φ²σ²_{t−1} / 2s²."""
    prior, q = bound(PRIORS["ar"]), posterior()
    phi, variance = prior._parameters(2)
    stationary = variance / (1 - phi**2)
    first = (
        jnp.log(jnp.sqrt(stationary) / q.std[:, 0]) + (q.std[:, 0] ** 2 + q.mean[:, 0] ** 2) / (2 * stationary) - 0.5
    )
    drift = (q.mean[:, 1:] - phi * q.mean[:, :-1]) ** 2 + phi**2 * q.std[:, :-1] ** 2
    later = jnp.log(jnp.sqrt(variance) / q.std[:, 1:]) + (q.std[:, 1:] ** 2 + drift) / (2 * variance) - 0.5
    samples = q.mean + q.std * jax.random.normal(KEY, (20_000, *q.mean.shape))
    divergences = np.asarray(jax.jit(jax.vmap(lambda u: prior.divergence(q, u)))(samples))
    error = divergences.std(axis=0) / len(divergences) ** 0.5 + 1e-5
    np.testing.assert_array_less(np.abs(divergences.mean(axis=0)[:, 0] - first.sum(-1)), 4 * error[:, 0])
    np.testing.assert_array_less(np.abs(divergences.mean(axis=0)[:, 1:] - later.sum(-1)), 4.5 * error[:, 1:])


@pytest.mark.parametrize("name", PRIORS)
def test_draws_follow_the_density(name):
    """E_p[log p] of draws equals the negative entropy, and a path's moments are the process's."""
    prior = bound(PRIORS[name])
    shape, labels = (30_000, 3, 2), np.zeros(30_000, int)
    draws = np.asarray(jax.jit(lambda: prior.draw(KEY, shape, labels))(), np.float64)
    if name == "ar":
        phi, variance = (np.asarray(v) for v in prior._parameters(2))
        np.testing.assert_allclose(draws.var(axis=0), np.tile(variance / (1 - phi**2), (3, 1)), rtol=0.05)
        lag = (draws[:, 1:] * draws[:, :-1]).mean(axis=0)
        np.testing.assert_allclose(lag, np.tile(phi * variance / (1 - phi**2), (2, 1)), atol=0.02)
        return
    flat = draws.reshape(-1, 2)
    thresholds = np.quantile(flat[:, 0], [0.1, 0.5, 0.9])
    if name == "student":
        location, scale = prior._parameters(2)
        cdf = scipy.stats.t.cdf(thresholds, 3.0, location[0], scale[0])
    elif name == "mixture":
        mean, variance, log_weights = prior._parameters(2)
        cdf = sum(
            np.exp(log_weights[k]) * scipy.stats.norm.cdf(thresholds, mean[k, 0], np.sqrt(variance[k, 0]))
            for k in range(3)
        )
    else:
        mean, variance = prior.moments(2) if name == "gaussian" else prior._of_trials((1, 1, 2), np.zeros(1, int))
        cdf = scipy.stats.norm.cdf(thresholds, np.ravel(mean)[0], np.sqrt(np.ravel(variance)[0]))
    np.testing.assert_allclose(cdf, [0.1, 0.5, 0.9], atol=0.01)


def test_constants_stay_constant():
    for prior in (Gaussian(learn_mean=False, learn_variance=False), StudentT(learn_location=False, learn_scale=False)):
        assert prior.init(KEY, posterior(), posterior().mean, method="divergence") == {}


def test_bad_priors():
    with pytest.raises(ValueError, match="variance must be positive, got 0"):
        Gaussian(variance=0.0)
    with pytest.raises(ValueError, match="tau must be positive, got -1"):
        AutoregressivePrior(tau=-1.0)
    with pytest.raises(ValueError, match="needs labels"):
        ClassConditional(2).init(KEY, posterior(), posterior().mean, method="divergence")
