"""Posteriors: independent Gaussians whose means and standard deviations a network puts out."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ctd_models.models.initializers import ScaledNormal

LOG_2PI = float(np.log(2 * np.pi))


class DiagonalGaussian(NamedTuple):
    """N(mean, diag(std²)) over the last axis."""

    mean: Float[Array, "*batch D"]
    std: Float[Array, "*batch D"]

    def log_prob(self, values: Float[Any, "... D"]) -> Float[Array, "..."]:
        """Log density [nats]; values are broadcast with the mean."""
        z = (values - self.mean) / self.std
        return -jnp.sum(0.5 * z**2 + jnp.log(self.std) + 0.5 * LOG_2PI, axis=-1)

    def entropy(self) -> Float[Array, "*batch"]:
        """Differential entropy [nats]."""
        return jnp.sum(jnp.log(self.std) + 0.5 * (1 + LOG_2PI), axis=-1)


def gaussian_divergence(
    mean: Float[Any, "*#b D"], variance: Float[Any, "*#b D"], prior_mean: Float[Any, "*#b D"], prior_variance: Any
) -> Float[Array, "*b"]:
    """KL(N(mean, variance) ‖ N(prior_mean, prior_variance)) [nats], summed over the last axis."""
    ratio = variance / prior_variance
    return 0.5 * jnp.sum((mean - prior_mean) ** 2 / prior_variance + ratio - 1 - jnp.log(ratio), axis=-1)


class PosteriorHead(nn.Module):
    """Linear maps from features to the mean and the log variance of a `DiagonalGaussian`."""

    size: int
    """Dimensions D."""
    min_variance: float = 0.0
    """Added to the variance exp(log variance)."""
    initial_std: float = 0.1
    """Typical standard deviation before training. Where it is large, what reads the samples first learns to ignore them."""

    @nn.compact
    def __call__(self, features: Float[Any, "*batch H"]) -> DiagonalGaussian:
        bias = jnp.repeat(jnp.asarray([0.0, 2 * np.log(self.initial_std)]), self.size)
        both = nn.Dense(2 * self.size, kernel_init=ScaledNormal(1.0), bias_init=lambda *_: bias)(features)
        mean, log_variance = jnp.split(both, 2, axis=-1)
        if self.min_variance == 0:
            return DiagonalGaussian(mean, jnp.exp(0.5 * log_variance))
        return DiagonalGaussian(mean, jnp.sqrt(jnp.exp(log_variance) + self.min_variance))


def one_hot(labels: Any, num_classes: int) -> Float[Array, "*batch K"]:
    """Labels [*batch] from 0 as vectors."""
    return jax.nn.one_hot(labels, num_classes)
