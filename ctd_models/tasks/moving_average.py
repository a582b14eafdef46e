"""The average of the last two pulses."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ctd_models.tasks.trials import Trials


@dataclasses.dataclass(frozen=True)
class MovingAverage:
    """Pulses of random height come now and then; the output is the mean of the last two, and is held until the next.

    The inputs are the height, uniform in −1 … 1, and 1 where there is a pulse, both 0 between pulses. Before the second
    pulse nothing counts. The two-point moving average of Sussillo & Barak (2013, doi:10.1162/NECO_a_00409): a network must
    hold two numbers at once.
    """

    num_steps: int = 60
    """Steps T in a trial."""
    pulse_rate: float = 0.15
    """Probability of a pulse in a step."""

    def __post_init__(self):
        if self.num_steps < 2:
            raise ValueError(f"num_steps must be at least 2, got {self.num_steps}")
        if not 0 < self.pulse_rate <= 1:
            raise ValueError(f"pulse_rate is a probability above 0, got {self.pulse_rate}")

    def sample(self, key: PRNGKeyArray, batch_size: int) -> Trials:
        """Fresh trials: inputs [B, T, 2], targets [B, T, 1], mask 0 before the second pulse. Pure, compiles in `jax.jit`."""
        when_key, height_key = jax.random.split(key)
        shape = (batch_size, self.num_steps)
        pulses = jax.random.bernoulli(when_key, self.pulse_rate, shape)
        heights = jnp.where(pulses, jax.random.uniform(height_key, shape, minval=-1.0, maxval=1.0), 0.0)

        inputs = jnp.stack([heights, pulses.astype(heights.dtype)], axis=-1)
        mask = (jnp.cumsum(pulses, axis=1) >= 2)[..., None].astype(heights.dtype)
        return Trials(inputs, last_two(inputs).mean(axis=-1, keepdims=True), mask)


def last_two(inputs: Float[Any, "B T 2"]) -> Float[Array, "B T 2"]:
    """Heights of the last pulse and of the one before it, as they stand after each step; 0 before there were any."""

    def step(held, xs):  # held [B, 2]
        height, pulse = xs[:, :1], xs[:, 1:] > 0
        held = jnp.where(pulse, jnp.concatenate([height, held[:, :1]], axis=1), held)
        return held, held

    inputs = jnp.asarray(inputs)
    _, held = jax.lax.scan(step, jnp.zeros_like(inputs[:, 0]), inputs.swapaxes(0, 1))
    return held.swapaxes(0, 1)
