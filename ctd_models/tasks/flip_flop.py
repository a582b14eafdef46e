"""The flip-flop: remember the sign of the last pulse on each of several channels."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from ctd_models.tasks.signals import Signal
from ctd_models.tasks.trials import Trials


@dataclasses.dataclass(frozen=True)
class FlipFlop:
    """Pulses of ±1 come at random on each channel; each output holds the sign of the last pulse on its channel.

    Before the first pulse a target is 0, unless every channel is to begin with one. Sussillo & Barak (2013,
    doi:10.1162/NECO_a_00409).
    """

    num_bits: int = 3
    """Channels."""
    num_steps: int = 100
    """Steps T in a trial."""
    pulse_rate: float = 0.05
    """Probability that a pulse begins on a channel in a step, where none is on."""
    pulse_steps: int = 1
    """Steps that a pulse lasts."""
    starts_with_pulse: bool = False
    """Whether there is a pulse on every channel in the first step."""

    def __post_init__(self):
        for name in ("num_bits", "num_steps", "pulse_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 < self.pulse_rate <= 1:
            raise ValueError(f"pulse_rate is a probability above 0, got {self.pulse_rate}")

    def sample(self, key: PRNGKeyArray, batch_size: int) -> Trials:
        """Fresh trials: inputs and targets [B, T, bits], every step counts. Pure, and compiles inside `jax.jit`."""
        begin_key, sign_key = jax.random.split(key)
        shape = (self.num_steps, batch_size, self.num_bits)
        begins = jax.random.bernoulli(begin_key, self.pulse_rate, shape)
        begins = begins.at[0].set(True) if self.starts_with_pulse else begins
        signs = jax.random.rademacher(sign_key, shape, float)

        def step(carry, xs):
            left, memory = carry
            begin, sign = xs
            begin = begin & (left == 0)
            left = jnp.where(begin, self.pulse_steps, left)
            memory = jnp.where(begin, sign, memory)
            pulse = jnp.where(left > 0, memory, 0.0)
            return (jnp.maximum(left - 1, 0), memory), (pulse, memory)

        carry = jnp.zeros(shape[1:], jnp.int32), jnp.zeros(shape[1:])
        _, (inputs, targets) = jax.lax.scan(step, carry, (begins, signs))
        inputs, targets = inputs.swapaxes(0, 1), targets.swapaxes(0, 1)
        return Trials(inputs, targets, jnp.ones_like(targets))

    def signal(self, key: PRNGKeyArray) -> Signal:
        """One trial as a signal."""
        trials = self.sample(key, 1)
        return Signal(trials.inputs[0], trials.targets[0])
