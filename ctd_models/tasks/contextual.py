"""Context-dependent integration of one of two streams of white noise."""

import dataclasses
from typing import Any, no_type_check

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ctd_models.tasks.integration import Integration
from ctd_models.tasks.trials import Trials


@dataclasses.dataclass(frozen=True)
class ContextualIntegration(Integration):
    """Integrate the one of two noisy inputs that the context names: target_t = Σ_{s ≤ t} x_s[c], c = 0 or 1.

    The inputs are the two streams x[0] and x[1], each with a bias and noise of its own as in `Integration`, and two
    context lines, of which line c is 1 and the other 0 throughout the trial. Both contexts are equally frequent.

    The contextual integrator of Sussillo et al.'s computation-through-dynamics tutorials; the idea is that of Mante,
    Sussillo, Shenoy & Newsome, Nature 2013, doi:10.1038/nature12742.
    """

    def sample_inputs(self, key: PRNGKeyArray, batch_size: int) -> Float[Array, "B T 4"]:
        """Two streams of biased white noise, then the two context lines."""
        stream_key, context_key = jax.random.split(key)
        streams = jnp.concatenate(jnp.split(super().sample_inputs(stream_key, 2 * batch_size), 2), axis=-1)
        context = jax.random.bernoulli(context_key, shape=(batch_size, 1)).astype(jnp.int32)
        lines = jnp.broadcast_to(jax.nn.one_hot(context, 2), streams.shape)
        return jnp.concatenate([streams, lines], axis=-1)

    def sample(self, key: PRNGKeyArray, batch_size: int) -> Trials:
        """Fresh trials: inputs [B, T, 4], targets [B, T, 1], every step counts. `context_of` gives their context."""
        inputs = self.sample_inputs(key, batch_size)
        relevant = (inputs[..., :2] * inputs[..., 2:]).sum(axis=-1, keepdims=True)
        return Trials(inputs, jnp.cumsum(relevant, axis=1), jnp.ones_like(relevant))


@no_type_check  # it checks its arguments itself
def context_of(trials: Trials) -> Int[Array, "B"]:
    """Context of each trial of `ContextualIntegration`: 0 where the first stream is to be integrated, 1 for the second.

    Pure, and compiles inside `jax.jit`.

    Raises:
        ValueError: the inputs are not two streams and two context lines.
    """
    inputs = jnp.asarray(trials.inputs)
    if inputs.ndim != 3 or inputs.shape[2] != 4:
        raise ValueError(f"expected inputs [B, T, 4], two streams and two context lines, got shape {inputs.shape}")
    return jnp.argmax(inputs[:, 0, 2:], axis=-1)


@dataclasses.dataclass(frozen=True)
class ContextDecision:
    """Decide about motion or about colour, as the context says: the sign of the one evidence, whatever the other.

    Inputs are motion and colour evidence, each a constant coherence ± c and white noise, and two context lines, of which one
    is 1. The target is ±1, the sign of the relevant coherence; only the last `num_response` steps count. Mante, Sussillo,
    Shenoy & Newsome (2013, doi:10.1038/nature12742).
    """

    duration: float = 0.75
    """Length of the evidence [s]."""
    dt: float = 0.01
    """Length of a step [s]."""
    coherences: tuple[float, ...] = (0.009, 0.036, 0.15)
    """Sizes c of both kinds of evidence, drawn independently, with random signs."""
    noise_std: float = 1.0
    """Standard deviation of the noise in a step of 1 ms; in a step of dt it is noise_std · √(1 ms / dt)."""
    num_response: int = 5
    """Last steps of a trial, which count."""

    def __post_init__(self):
        object.__setattr__(self, "coherences", tuple(float(c) for c in self.coherences))
        if not self.coherences or min(self.coherences) <= 0:
            raise ValueError(f"coherences must be positive, got {self.coherences}")
        if not 0 < self.dt <= self.duration:
            raise ValueError(f"expected 0 < dt ≤ duration [s], got {self.dt} and {self.duration}")
        if self.noise_std < 0:
            raise ValueError(f"noise_std cannot be negative, got {self.noise_std}")
        if not 1 <= self.num_response <= self.num_steps:
            raise ValueError(f"num_response must lie in 1 … {self.num_steps}, got {self.num_response}")

    @property
    def num_steps(self) -> int:
        """Steps T in a trial."""
        return round(self.duration / self.dt)

    @property
    def noise_per_step(self) -> float:
        """Standard deviation of the noise in a step."""
        return self.noise_std * (1e-3 / self.dt) ** 0.5

    def ideal_accuracy(self, coherence: Any) -> Float[Array, "..."]:
        """Share of trials with relevant coherence ± c that a perfect integrator decides correctly, Φ(c √T / σ)."""
        spread = self.noise_per_step / self.num_steps**0.5
        return jax.scipy.stats.norm.cdf(jnp.abs(jnp.asarray(coherence)) / jnp.maximum(spread, 1e-12))

    def trials(
        self, key: PRNGKeyArray, coherences: Float[Array, "B 2"], contexts: Int[Array, "B"], noise: float | None = None
    ) -> Trials:
        """Trials with signed coherences of (motion, colour), in these contexts (0: motion counts, 1: colour).

        `noise` is the noise's standard deviation in a step, instead of the task's.
        """
        noise = self.noise_per_step if noise is None else noise
        shape = (len(coherences), self.num_steps, 2)
        evidence = coherences[:, None] + noise * jax.random.normal(key, shape)
        lines = jnp.broadcast_to(jax.nn.one_hot(contexts, 2)[:, None], shape)
        relevant = jnp.take_along_axis(coherences, contexts[:, None], axis=1)
        targets = jnp.broadcast_to(jnp.sign(relevant)[:, None], (*shape[:2], 1))
        mask = jnp.zeros_like(targets).at[:, -self.num_response :].set(1.0)
        return Trials(jnp.concatenate([evidence, lines], axis=-1), targets, mask)

    def sample(self, key: PRNGKeyArray, batch_size: int) -> Trials:
        """Fresh trials: inputs [B, T, 4], targets [B, T, 1]. Pure, and compiles inside `jax.jit`."""
        size_key, sign_key, context_key, noise_key = jax.random.split(key, 4)
        sizes = jax.random.choice(size_key, jnp.array(self.coherences), (batch_size, 2))
        signs = jax.random.rademacher(sign_key, (batch_size, 2), sizes.dtype)
        contexts = jax.random.bernoulli(context_key, shape=(batch_size,)).astype(jnp.int32)
        return self.trials(noise_key, sizes * signs, contexts)
