"""Priors over the latent code and over the inferred inputs.

A prior is a Flax module with three methods over [*batch, D]: `divergence(posterior, sample, labels)`, the Kullback-Leibler
divergence of a posterior from it, `log_prob(values, labels)`, and `draw(key, shape, labels)`. Given inferred inputs
[trials, time, D], they return one value a trial and bin. Subclass `Prior` to add one.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ctd_models.models.lfads.distributions import DiagonalGaussian, gaussian_divergence

Labels = Int[Any, "trials"] | None


class Prior(nn.Module):
    """Base of priors. A subclass has `log_prob` and `draw`; `divergence` may be replaced where it has a closed form."""

    def divergence(
        self, posterior: DiagonalGaussian, sample: Float[Any, "*batch D"], labels: Labels = None
    ) -> Float[Array, "*batch"]:
        """KL(posterior ‖ prior) [nats]: exact where it has a closed form, else an unbiased estimate from the sample of
        the posterior that is decoded, −H(posterior) − log p(sample)."""
        return -posterior.entropy() - self.log_prob(sample, labels)

    def log_prob(self, values: Float[Any, "*batch D"], labels: Labels = None) -> Float[Array, "*batch"]:
        """Log density [nats]."""
        raise NotImplementedError

    def draw(self, key: PRNGKeyArray, shape: tuple[int, ...], labels: Labels = None) -> Float[Array, "*batch D"]:
        """Samples of the given shape [*batch, D]."""
        raise NotImplementedError

    def positive(self, name: str, initial: float, shape: tuple[int, ...], learn: bool) -> Float[Array, "..."]:
        """A positive parameter, learned as its logarithm `log_name`, or the constant `initial` if `learn` is False."""
        if not learn:
            return jnp.full(shape, initial)
        return jnp.exp(self.param(f"log_{name}", nn.initializers.constant(np.log(initial)), shape))


class Gaussian(Prior):
    """N(μ, σ²) in each dimension, independent of trial and time."""

    variance: float = 0.1
    """σ² before training."""
    learn_mean: bool = True
    """Whether μ is learned; otherwise it is 0."""
    learn_variance: bool = True
    """Whether σ² is learned."""

    def __post_init__(self):
        super().__post_init__()
        _check_positive("variance", self.variance)

    @nn.compact
    def moments(self, size: int) -> tuple[Float[Array, "D"], Float[Array, "D"]]:
        """(μ, σ²)."""
        mean = self.param("mean", nn.initializers.zeros, (size,)) if self.learn_mean else jnp.zeros(size)
        return mean, self.positive("variance", self.variance, (size,), self.learn_variance)

    def divergence(self, posterior, sample, labels=None):
        return gaussian_divergence(posterior.mean, posterior.std**2, *self.moments(posterior.mean.shape[-1]))

    def log_prob(self, values, labels=None):
        mean, variance = self.moments(values.shape[-1])
        return DiagonalGaussian(mean, jnp.sqrt(variance)).log_prob(values)

    def draw(self, key, shape, labels=None):
        mean, variance = self.moments(shape[-1])
        return mean + jnp.sqrt(variance) * jax.random.normal(key, shape)


class StudentT(Prior):
    """Student's t in each dimension, of location μ, scale s and ν degrees of freedom: heavier tails for rare, large inputs.

    E_q[log p] of its divergence is computed by Gauss-Hermite quadrature in each dimension, with no noise from sampling.
    """

    scale: float = 0.3
    """s before training."""
    degrees_of_freedom: float = 5.0
    """ν; towards infinity the prior becomes Gaussian."""
    learn_location: bool = True
    """Whether μ is learned; otherwise it is 0."""
    learn_scale: bool = True
    """Whether s is learned."""
    num_nodes: int = 64
    """Nodes of the quadrature."""

    def __post_init__(self):
        super().__post_init__()
        for name in ("scale", "degrees_of_freedom", "num_nodes"):
            _check_positive(name, getattr(self, name))

    @nn.compact
    def _parameters(self, size: int) -> tuple[Float[Array, "D"], Float[Array, "D"]]:
        location = self.param("location", nn.initializers.zeros, (size,)) if self.learn_location else jnp.zeros(size)
        return location, self.positive("scale", self.scale, (size,), self.learn_scale)

    def _log_density(self, values: Float[Any, "... D"]) -> Float[Array, "... D"]:
        location, scale = self._parameters(values.shape[-1])
        nu = self.degrees_of_freedom
        constant = jax.lax.lgamma((nu + 1) / 2) - jax.lax.lgamma(nu / 2) - 0.5 * jnp.log(nu * jnp.pi)
        z = (values - location) / scale
        return constant - jnp.log(scale) - (nu + 1) / 2 * jnp.log1p(z**2 / nu)

    def divergence(self, posterior, sample, labels=None):
        nodes, weights = np.polynomial.hermite_e.hermegauss(self.num_nodes)
        nodes = jnp.asarray(nodes, posterior.mean.dtype).reshape(-1, *[1] * posterior.mean.ndim)
        values = self._log_density(posterior.mean + posterior.std * nodes).sum(axis=-1)
        expected = jnp.tensordot(jnp.asarray(weights / weights.sum(), values.dtype), values, axes=1)
        return -posterior.entropy() - expected

    def log_prob(self, values, labels=None):
        return self._log_density(values).sum(axis=-1)

    def draw(self, key, shape, labels=None):
        location, scale = self._parameters(shape[-1])
        return location + scale * jax.random.t(key, self.degrees_of_freedom, shape)


class Mixture(Prior):
    """Σ_k π_k N(μ_k, σ_k²) with diagonal components: trials cluster without labels.

    Jiang et al. (2017, arXiv:1611.05148) train the same prior of a variational auto-encoder. Its divergence is estimated
    from the decoded sample.

    The components begin as overlapping ones, at distances of about one standard deviation whatever the number of
    dimensions, so that all of them have a share in each code: where they begin far apart, all codes fall to one of them,
    and the others, whose responsibility is then 0, are never reached by a gradient.
    """

    num_components: int
    """K."""
    variance: float = 0.1
    """σ_k² before training."""
    spread: float = 1.0
    """Root mean square distance of the means μ_k from 0 before training, in standard deviations σ_k."""

    def __post_init__(self):
        super().__post_init__()
        for name in ("num_components", "variance", "spread"):
            _check_positive(name, getattr(self, name))

    @nn.compact
    def _parameters(self, size: int) -> tuple[Any, Any, Any]:
        shape = (self.num_components, size)
        mean = self.param("mean", nn.initializers.normal(self.spread * (self.variance / size) ** 0.5), shape)
        logits = self.param("logits", nn.initializers.zeros, (self.num_components,))
        return mean, self.positive("variance", self.variance, shape, True), jax.nn.log_softmax(logits)

    def _joint(self, values: Float[Any, "*batch D"]) -> Float[Array, "*batch K"]:
        mean, variance, log_weights = self._parameters(values.shape[-1])
        return log_weights + DiagonalGaussian(mean, jnp.sqrt(variance)).log_prob(values[..., None, :])

    def log_prob(self, values, labels=None):
        return jax.nn.logsumexp(self._joint(values), axis=-1)

    def responsibilities(self, values: Float[Any, "*batch D"]) -> Float[Array, "*batch K"]:
        """p(component | values)."""
        return jax.nn.softmax(self._joint(values), axis=-1)

    def draw(self, key, shape, labels=None):
        mean, variance, log_weights = self._parameters(shape[-1])
        component_key, noise_key = jax.random.split(key)
        component = jax.random.categorical(component_key, log_weights, shape=shape[:-1])
        return mean[component] + jnp.sqrt(variance[component]) * jax.random.normal(noise_key, shape)


class ClassConditional(Prior):
    """A Gaussian prior for each class of trials, N(μ_c, σ_c²), where c is the label of the trial."""

    num_classes: int
    """Classes C; labels are 0 … C − 1."""
    variance: float = 0.1
    """σ_c² before training."""

    def __post_init__(self):
        super().__post_init__()
        for name in ("num_classes", "variance"):
            _check_positive(name, getattr(self, name))

    @nn.compact
    def _of_trials(self, shape: tuple[int, ...], labels: Labels) -> tuple[Any, Any]:
        if labels is None:
            raise ValueError("a ClassConditional prior needs labels [trials], the class of each trial")
        mean = self.param("mean", nn.initializers.zeros, (self.num_classes, shape[-1]))
        variance = self.positive("variance", self.variance, (self.num_classes, shape[-1]), True)
        between = [1] * (len(shape) - 2)
        return tuple(values[labels].reshape(-1, *between, shape[-1]) for values in (mean, variance))

    def divergence(self, posterior, sample, labels=None):
        return gaussian_divergence(posterior.mean, posterior.std**2, *self._of_trials(posterior.mean.shape, labels))

    def log_prob(self, values, labels=None):
        mean, variance = self._of_trials(values.shape, labels)
        return DiagonalGaussian(mean, jnp.sqrt(variance)).log_prob(values)

    def draw(self, key, shape, labels=None):
        mean, variance = self._of_trials(shape, labels)
        return mean + jnp.sqrt(variance) * jax.random.normal(key, shape)


class AutoregressivePrior(Prior):
    """A first-order autoregressive process in time in each dimension, for inferred inputs [trials, time, D].

        u_t = φ u_{t−1} + s ξ_t,   φ = exp(−1/τ),   u_1 ~ N(0, s² / (1 − φ²)),   ξ_t ~ N(0, 1)

    The divergence is stepwise, KL_t = KL(N(μ_t, σ_t²) ‖ N(φ u_{t−1}, s²)) at the *decoded* sample u_{t−1}. In expectation
    it is the divergence of the paths, also when the posterior at t depends on earlier samples, as it does through the
    generator's feedback to the controller. With the decoded sample at the posterior's mean it is no longer that.
    Sussillo, Jozefowicz, Abbott & Pandarinath (2016, arXiv:1608.06315).
    """

    tau: float = 10.0
    """τ before training [bins]."""
    noise_variance: float = 0.1
    """s² before training; the stationary variance is s² / (1 − φ²)."""
    learn_tau: bool = True
    """Whether τ is learned."""
    learn_noise_variance: bool = True
    """Whether s² is learned."""

    def __post_init__(self):
        super().__post_init__()
        for name in ("tau", "noise_variance"):
            _check_positive(name, getattr(self, name))

    @nn.compact
    def _parameters(self, size: int) -> tuple[Float[Array, "D"], Float[Array, "D"]]:
        tau = self.positive("tau", self.tau, (size,), self.learn_tau)
        return jnp.exp(-1 / tau), self.positive(
            "noise_variance", self.noise_variance, (size,), self.learn_noise_variance
        )

    def _conditionals(self, values: Float[Any, "*batch T D"]) -> tuple[Any, Any]:
        """Mean and variance [*batch, T, D] of each value given the one before."""
        if values.ndim < 2:
            raise ValueError(f"an AutoregressivePrior needs values [..., time, dims], got shape {values.shape}")
        phi, variance = self._parameters(values.shape[-1])
        before = phi * values[..., :-1, :]
        first = jnp.zeros_like(values[..., :1, :])
        stationary = jnp.broadcast_to(variance / (1 - phi**2), first.shape)
        later = jnp.broadcast_to(variance, before.shape)
        return jnp.concatenate([first, before], axis=-2), jnp.concatenate([stationary, later], axis=-2)

    def divergence(self, posterior, sample, labels=None):
        return gaussian_divergence(posterior.mean, posterior.std**2, *self._conditionals(sample))

    def log_prob(self, values, labels=None):
        """Log density of each step given the one before; its sum over time is that of the path [nats]."""
        mean, variance = self._conditionals(values)
        return DiagonalGaussian(mean, jnp.sqrt(variance)).log_prob(values)

    def draw(self, key, shape, labels=None):
        phi, variance = self._parameters(shape[-1])
        noise = jnp.sqrt(variance) * jnp.moveaxis(jax.random.normal(key, shape), -2, 0)
        first = noise[0] / jnp.sqrt(1 - phi**2)

        def step(value, noise):
            value = phi * value + noise
            return value, value

        _, rest = jax.lax.scan(step, first, noise[1:])
        return jnp.moveaxis(jnp.concatenate([first[None], rest]), 0, -2)


def _check_positive(name: str, value: float | int) -> None:
    if not 0 < value < np.inf:
        raise ValueError(f"{name} must be positive, got {value}")
