"""The terms of the evidence lower bound of a batch of trials."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ctd_models.data.spike_trials import SpikeTrials
from ctd_models.models.lfads.distributions import DiagonalGaussian
from ctd_models.models.lfads.posterior import Posterior


class BoundTerms(NamedTuple):
    """ELBO = log_likelihood − kl_code − kl_inputs, from one sample of the posterior [nats]."""

    log_likelihood: Float[Array, "trials"]
    """log p(x | code, inputs), summed over bins and neurons."""
    kl_code: Float[Array, "trials"]
    """Divergence of the latent code."""
    kl_inputs: Float[Array, "trials"]
    """Divergence of the inferred inputs, summed over bins."""


def bound_terms(model: Any, trials: SpikeTrials) -> BoundTerms:
    """The terms for a sample from the rng stream `sample`; a method for `model.apply(..., method=bound_terms)`."""
    posterior = model(*trials.read)
    kl_code, kl_inputs = model.divergences(posterior, trials.labels)
    kl_inputs = jnp.sum(kl_inputs * _valid(trials, model.encoder.start)[..., 0], axis=1)
    return BoundTerms(log_likelihood(model, trials, posterior), kl_code, kl_inputs)


def log_likelihood(model: Any, trials: SpikeTrials, posterior: Posterior) -> Float[Array, "trials"]:
    """log p(targets | posterior), weighted by the mask and without padding, summed over bins and neurons [nats].

    Raises:
        ValueError: the targets have other bins or neurons than the posterior.
    """
    start = model.encoder.start
    targets = from_bin(start, trials.targets)
    if targets.shape != posterior.rates.shape:
        raise ValueError(
            f"expected targets [trials, {posterior.rates.shape[1] + start} time bins (forward ones included), "
            f"{posterior.rates.shape[2]} neurons], got shape {trials.targets.shape}: bins after those that are read are "
            "LFADS(num_forward_bins=...)"
        )
    weights = _valid(trials, start)
    if trials.mask is not None:
        weights = weights * from_bin(start, trials.mask)
    counts = weights > 0  # what does not count may hold anything, such as a 0 that a Gamma cannot have
    likely = jax.lax.stop_gradient(posterior.rates)
    log_prob = model.observation.log_prob(posterior.parameters, jnp.where(counts, targets.astype(likely.dtype), likely))
    return jnp.sum(jnp.where(counts, log_prob * weights, 0.0), axis=(1, 2))


def log_weight(model: Any, trials: SpikeTrials, evidence: Any, key: Any) -> Float[Array, "trials"]:
    """log p(x, z, u) − log q(z, u | x) at a sample of the posterior [nats]. Its mean is the ELBO.

    q of the inferred inputs is the product over time of the posteriors given the inputs before, and so the density of the
    whole path. Where there is no prior, its variable does not count.
    """
    posterior = model.decode(evidence, *model.noise(evidence, key))
    total = log_likelihood(model, trials, posterior)
    if model.generator.prior is not None:
        q = DiagonalGaussian(posterior.code_means, posterior.code_stds)
        total += model.generator.prior.log_prob(posterior.code, trials.labels) - q.log_prob(posterior.code)
    if model.controller is not None and model.controller.prior is not None:
        q, inputs = (
            DiagonalGaussian(posterior.inferred_input_means, posterior.inferred_input_stds),
            posterior.inferred_inputs,
        )
        steps = model.controller.prior.log_prob(inputs, trials.labels) - q.log_prob(inputs)
        total += jnp.sum(steps * _valid(trials, model.encoder.start)[..., 0], axis=1)
    return total


def from_bin(start: int, values: Any) -> Any:
    """The bins from `start` of values [trials, time, …]; an axis of length 1 stays as it is."""
    return values[:, start:] if values.shape[1] > 1 else values


def _valid(trials: SpikeTrials, start: int) -> Float[Array, "trials steps 1"]:
    """1 in the real bins of padded trials, else 0; all 1 where nothing is padded."""
    if trials.lengths is None:
        return jnp.ones((1, 1, 1))
    bins = jnp.arange(start, trials.targets.shape[1])
    return (bins < jnp.asarray(trials.lengths)[:, None])[..., None].astype(jnp.float32)


def importance_bound(model: Any, trials: SpikeTrials, key: jax.Array, num_samples: int) -> Float[Array, "trials"]:
    """log (1/S) Σ_s exp(log_weight_s) of S samples, one after the other; a method for `model.apply`."""
    evidence = model.encode(*trials.read)
    unbound, variables = model.unbind()

    def add(total, key):
        weight = unbound.apply(variables, trials, evidence, key, method=log_weight)
        return jnp.logaddexp(total, weight), None

    start = jnp.full(trials.inputs.shape[:1], -jnp.inf)
    total, _ = jax.lax.scan(add, start, jax.random.split(key, num_samples))
    return total - jnp.log(num_samples)
