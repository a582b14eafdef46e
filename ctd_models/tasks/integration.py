"""Integration of white noise, and the binary decision about its integral."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ctd_models.tasks.trials import Trials


@dataclasses.dataclass(frozen=True)
class Integration:
    """Integrate a noisy input: x_t = bias_i + noise_t, target_t = Σ_{s ≤ t} x_s.

    The bias of trial i is 2 · bias · (n_i − 0.5), n_i ~ N(0, 1) (not centred, as published); the noise is white,
    with standard deviation noise_std / √dt a step. The sum has no factor dt, so that targets are of order 1.
    The integrator of Sussillo et al.'s computation-through-dynamics tutorials.
    """

    num_steps: int = 25
    """Steps T in a trial."""
    duration: float = 1.0
    """Length of a trial [s]; dt = duration / num_steps."""
    bias: float = 0.01
    """Scale of the constant part of the input."""
    noise_std: float = 0.025
    """Standard deviation of the noise, per √s."""

    def __post_init__(self):
        if self.num_steps < 1:
            raise ValueError(f"num_steps must be at least 1, got {self.num_steps}")
        if self.duration <= 0:
            raise ValueError(f"duration must be positive [s], got {self.duration}")
        if self.noise_std < 0:
            raise ValueError(f"noise_std cannot be negative, got {self.noise_std}")

    @property
    def dt(self) -> float:
        """Length of a step [s]."""
        return self.duration / self.num_steps

    def sample_inputs(self, key: PRNGKeyArray, batch_size: int) -> Float[Array, "B T 1"]:
        """Biased white noise, one value a step."""
        bias_key, noise_key = jax.random.split(key)
        bias = 2 * self.bias * (jax.random.normal(bias_key, (batch_size, 1, 1)) - 0.5)
        noise = jax.random.normal(noise_key, (batch_size, self.num_steps, 1))
        return bias + self.noise_std / self.dt**0.5 * noise

    def sample(self, key: PRNGKeyArray, batch_size: int) -> Trials:
        """Fresh trials: inputs [B, T, 1], targets [B, T, 1], every step counts. Pure, and compiles inside `jax.jit`."""
        inputs = self.sample_inputs(key, batch_size)
        return Trials(inputs, jnp.cumsum(inputs, axis=1), jnp.ones_like(inputs))


@dataclasses.dataclass(frozen=True)
class BinaryDecision(Integration):
    """Decide about the integral: the input of `Integration`; the target, ±1, is the sign of its sum over the trial.

    Only the last step counts. The decision task of Sussillo et al.'s computation-through-dynamics tutorials.
    """

    def sample(self, key: PRNGKeyArray, batch_size: int) -> Trials:
        """Fresh trials: inputs [B, T, 1]; targets [B, T, 1], constant over time; mask 1 at the last step only."""
        inputs = self.sample_inputs(key, batch_size)
        decision = jnp.where(inputs.sum(axis=1, keepdims=True) >= 0, 1.0, -1.0)
        mask = jnp.zeros_like(inputs).at[:, -1].set(1.0)
        return Trials(inputs, jnp.broadcast_to(decision, inputs.shape), mask)
