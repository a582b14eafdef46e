"""The average of the last two pulses."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

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

        def step(last_two, xs):
            pulse, height = xs
            last_two = jnp.where(pulse, jnp.stack([last_two[1], height]), last_two)
            return last_two, last_two.mean(axis=0)

        _, targets = jax.lax.scan(step, jnp.zeros((2, batch_size)), (pulses.T, heights.T))
        mask = (jnp.cumsum(pulses, axis=1) >= 2)[..., None].astype(heights.dtype)
        return Trials(jnp.stack([heights, pulses.astype(heights.dtype)], axis=-1), targets.T[..., None], mask)
