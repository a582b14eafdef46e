"""Observation models: the distribution of what is measured, given what the read-out puts out.

An observation model maps raw parameters [..., neurons, P] to a distribution. It is a small frozen dataclass; subclass
`Observation` to add one.
"""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln, xlogy
from jaxtyping import Array, Float, PRNGKeyArray

from ctd_models.configuration import Configurable
from ctd_models.models.lfads.distributions import LOG_2PI

Parameters = Float[Any, "*batch neurons P"]
Values = Float[Array, "*batch neurons"]


@dataclasses.dataclass(frozen=True)
class Observation(Configurable):
    """Base of observation models."""

    num_parameters: ClassVar[int] = 1
    """Raw parameters P of each neuron."""

    def log_prob(self, parameters: Parameters, values: Any) -> Values:
        """Log likelihood of each value [nats], with every term of its normalisation."""
        raise NotImplementedError

    def mean(self, parameters: Parameters) -> Values:
        """Expected value: for spikes, the rate in spikes/bin."""
        raise NotImplementedError

    def draw(self, key: PRNGKeyArray, parameters: Parameters) -> Values:
        """A sample of each value."""
        raise NotImplementedError

    def start(self, mean: Float[Any, "neurons"], variance: Float[Any, "neurons"]) -> Float[Array, "neurons P"]:
        """Raw parameters to begin training with, from mean and variance of the data."""
        raise NotImplementedError

    def invalid(self, values: np.ndarray) -> tuple[np.ndarray, str]:
        """(where values are impossible under this model, what they should be and what to change)."""
        return ~np.isfinite(values), "finite values"


@dataclasses.dataclass(frozen=True)
class Poisson(Observation):
    """Counts x ~ Poisson(λ), λ = exp(parameter): log p = x log λ − λ − log x!."""

    def log_prob(self, parameters, values):
        log_rate = parameters[..., 0]
        return values * log_rate - jnp.exp(log_rate) - gammaln(values + 1.0)

    def mean(self, parameters):
        return jnp.exp(parameters[..., 0])

    def draw(self, key, parameters):
        return jax.random.poisson(key, self.mean(parameters)).astype(jnp.float32)

    def start(self, mean, variance):
        return jnp.log(jnp.maximum(mean, 1e-4))[..., None]

    def invalid(self, values):
        bad = ~np.isfinite(values) | (values < 0) | (values % 1 != 0)
        return bad, (
            "counts, non-negative integers, under Poisson; for real values use the observation models Normal, Gamma or "
            "ZeroInflatedGamma"
        )


@dataclasses.dataclass(frozen=True)
class Normal(Observation):
    """x ~ N(μ, σ²), parameters (μ, log σ²): for continuous signals."""

    num_parameters: ClassVar[int] = 2
    min_variance: float = 1e-6
    """Added to σ²."""

    def _moments(self, parameters: Parameters) -> tuple[Values, Values]:
        return parameters[..., 0], jnp.exp(parameters[..., 1]) + self.min_variance

    def log_prob(self, parameters, values):
        mean, variance = self._moments(parameters)
        return -0.5 * ((values - mean) ** 2 / variance + jnp.log(variance) + LOG_2PI)

    def mean(self, parameters):
        return parameters[..., 0]

    def draw(self, key, parameters):
        mean, variance = self._moments(parameters)
        return mean + jnp.sqrt(variance) * jax.random.normal(key, mean.shape)

    def start(self, mean, variance):
        return jnp.stack([mean, jnp.log(jnp.maximum(variance, 1e-4))], axis=-1)


@dataclasses.dataclass(frozen=True)
class Gamma(Observation):
    """x ~ Gamma(α, β), parameters (log α, log β), mean α/β: for positive signals."""

    num_parameters: ClassVar[int] = 2

    def log_prob(self, parameters, values):
        return _gamma_log_prob(parameters[..., 0], parameters[..., 1], values)

    def mean(self, parameters):
        return jnp.exp(parameters[..., 0] - parameters[..., 1])

    def draw(self, key, parameters):
        return jax.random.gamma(key, jnp.exp(parameters[..., 0])) * jnp.exp(-parameters[..., 1])

    def start(self, mean, variance):
        mean, variance = jnp.maximum(mean, 1e-4), jnp.maximum(variance, 1e-8)
        return jnp.log(jnp.stack([mean**2 / variance, mean / variance], axis=-1))

    def invalid(self, values):
        bad = ~np.isfinite(values) | (values <= 0)
        return bad, "positive values under Gamma; for values that may be 0 use ZeroInflatedGamma"


@dataclasses.dataclass(frozen=True)
class ZeroInflatedGamma(Observation):
    """x = 0 with probability 1 − q, else x = location + Gamma(α, β): for deconvolved calcium events.

    Parameters (log α, log β, logit q). Values up to `location` count as zeros.
    Wei, Lin, et al. (2020, NBDT); Zhu et al. (2022, doi:10.1038/s41593-022-01189-0).
    """

    num_parameters: ClassVar[int] = 3
    location: float = 0.0
    """Smallest event."""

    def log_prob(self, parameters, values):
        log_q, log_not_q = jax.nn.log_sigmoid(parameters[..., 2]), jax.nn.log_sigmoid(-parameters[..., 2])
        event = values > self.location
        size = jnp.where(event, values - self.location, 1.0)  # keeps the gradient of the branch not taken finite
        return jnp.where(event, log_q + _gamma_log_prob(parameters[..., 0], parameters[..., 1], size), log_not_q)

    def mean(self, parameters):
        return jax.nn.sigmoid(parameters[..., 2]) * (self.location + jnp.exp(parameters[..., 0] - parameters[..., 1]))

    def draw(self, key, parameters):
        event_key, size_key = jax.random.split(key)
        size = jax.random.gamma(size_key, jnp.exp(parameters[..., 0])) * jnp.exp(-parameters[..., 1])
        event = jax.random.bernoulli(event_key, jax.nn.sigmoid(parameters[..., 2]))
        return jnp.where(event, self.location + size, 0.0)

    def start(self, mean, variance):
        # with q = 1/2 and events above the location of mean m and variance m²: 2 · mean − location = m
        size = jnp.maximum(2 * mean - self.location, 1e-4)
        return jnp.stack([jnp.zeros_like(size), -jnp.log(size), jnp.zeros_like(size)], axis=-1)

    def invalid(self, values):
        return ~np.isfinite(values) | (values < 0), "values that are not negative under ZeroInflatedGamma"


def _gamma_log_prob(log_shape: Values, log_rate: Values, values: Any) -> Values:
    shape = jnp.exp(log_shape)
    return shape * log_rate - gammaln(shape) + xlogy(shape - 1, values) - jnp.exp(log_rate) * values
