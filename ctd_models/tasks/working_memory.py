"""Comparison of two stimuli across a delay."""

import dataclasses
from typing import Any, no_type_check

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, PRNGKeyArray

from ctd_models.tasks.checks import check_range
from ctd_models.tasks.trials import Trials


@dataclasses.dataclass(frozen=True)
class ParametricWorkingMemory:
    """Which of two stimuli was stronger? Both come as pulses, a delay apart: the first must be remembered as a number.

    The inputs are the strength f, a frequency scaled to −1 … 1, and 1 while there is a stimulus, both 0 otherwise. The
    target is +1 where f₁ > f₂ and −1 otherwise, and counts in the steps after the second stimulus. Romo, Brody, Hernández &
    Lemus (1999, doi:10.1038/20939); Brody, Romo & Kepecs (2003, doi:10.1016/S0959-4388(03)00050-3).
    """

    num_stimulus: int = 5
    """Steps of a stimulus."""
    shortest_delay: int = 10
    """Fewest steps between the stimuli. Each trial has its own delay."""
    longest_delay: int = 50
    """Most steps between the stimuli."""
    num_response: int = 5
    """Steps after the second stimulus, which count."""
    differences: tuple[float, float] = (0.05, 0.7)
    """Smallest and largest |f₁ − f₂|."""
    noise_std: float = 0.05
    """Standard deviation of the noise on f in each step of a stimulus."""

    def __post_init__(self):
        object.__setattr__(self, "differences", tuple(float(d) for d in self.differences))
        for name in ("num_stimulus", "shortest_delay", "num_response"):
            if getattr(self, name) < 1 or getattr(self, name) != int(getattr(self, name)):
                raise ValueError(f"{name} must be a whole number of at least 1, got {getattr(self, name)}")
        if self.longest_delay < self.shortest_delay:
            raise ValueError(f"expected delays in rising order, got {self.shortest_delay} and {self.longest_delay}")
        if len(self.differences) != 2 or not 0 < self.differences[0] <= self.differences[1] <= 2:
            raise ValueError(f"differences must be two numbers in rising order, in (0, 2], got {self.differences}")
        if self.noise_std < 0:
            raise ValueError(f"noise_std cannot be negative, got {self.noise_std}")

    @property
    def num_steps(self) -> int:
        """Steps T in a trial, in which the longest delay fits."""
        return 2 * self.num_stimulus + self.longest_delay + self.num_response

    @no_type_check  # it checks its arguments itself
    def trials(
        self,
        first: Float[Any, "B"],
        second: Float[Any, "B"],
        delays: Int[Any, "B"],
        key: PRNGKeyArray | None = None,
    ) -> Trials:
        """Trials with given stimuli and delays [steps]: inputs [B, T, 2], targets [B, T, 1]; without a key without noise.

        Raises:
            ValueError: shapes that do not fit, or delays for which there is no room (in `jax.jit` only shapes are seen).
        """
        first, second, delays = jnp.asarray(first), jnp.asarray(second), jnp.asarray(delays)
        if first.ndim != 1 or not first.shape == second.shape == delays.shape:
            raise ValueError(
                f"expected first, second and delays [B], got shapes {first.shape}, {second.shape} and {delays.shape}"
            )
        check_range("delays", delays, 1, self.longest_delay)
        step = jnp.arange(self.num_steps)
        again = (self.num_stimulus + delays)[:, None]  # where the second stimulus begins
        is_first = jnp.broadcast_to(step < self.num_stimulus, (len(first), self.num_steps))
        is_second = (step >= again) & (step < again + self.num_stimulus)
        counts = (step >= again + self.num_stimulus) & (step < again + self.num_stimulus + self.num_response)
        strength = first[:, None] * is_first + second[:, None] * is_second
        present = (is_first | is_second).astype(strength.dtype)
        if key is not None:
            strength = strength + self.noise_std * present * jax.random.normal(key, strength.shape)
        targets = jnp.broadcast_to(jnp.where(first > second, 1.0, -1.0)[:, None, None], (*strength.shape, 1))
        return Trials(jnp.stack([strength, present], axis=-1), targets, counts[..., None].astype(strength.dtype))

    def sample(self, key: PRNGKeyArray, batch_size: int) -> Trials:
        """Fresh trials: f₁ and f₂ lie in −1 … 1, differences and delays are uniform. Pure, compiles in `jax.jit`."""
        middle_key, apart_key, sign_key, delay_key, noise_key = jax.random.split(key, 5)
        low, high = self.differences
        apart = jax.random.uniform(apart_key, (batch_size,), minval=low, maxval=high)
        middle = (1 - apart / 2) * jax.random.uniform(middle_key, (batch_size,), minval=-1.0, maxval=1.0)
        half = jax.random.rademacher(sign_key, (batch_size,), apart.dtype) * apart / 2
        delays = jax.random.randint(delay_key, (batch_size,), self.shortest_delay, self.longest_delay + 1)
        return self.trials(middle + half, middle - half, delays, noise_key)

    def delay_states(self, states: Any) -> Any:
        """The part of states [B, T, ...] of trials with the longest delay that lies in it: longest_delay + 1 times, from the
        state that the first stimulus leaves."""
        if wrong := {np.shape(leaf) for leaf in jax.tree.leaves(states) if np.shape(leaf)[1:2] != (self.num_steps,)}:
            raise ValueError(f"expected states [B, {self.num_steps}, ...], got shapes {sorted(wrong)}")
        first = self.num_stimulus - 1
        return jax.tree.map(lambda leaf: leaf[:, first : first + self.longest_delay + 1], states)
