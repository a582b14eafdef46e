"""A sine wave whose frequency a constant input chooses."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ctd_models.tasks.trials import Trials


@dataclasses.dataclass(frozen=True)
class SineWave:
    """Put out sin(ω_j t), where the constant input (j + 1) / J + offset says which of J frequencies.

    The sine wave generator of Sussillo & Barak (2013, doi:10.1162/NECO_a_00409): ω_j rises linearly over j = 0 … J − 1.
    """

    num_frequencies: int = 51
    """Frequencies J."""
    lowest: float = 0.1
    """ω_0 [rad per unit of time]."""
    highest: float = 0.6
    """ω_{J − 1} [rad per unit of time]."""
    dt: float = 0.5
    """Length of a step [units of time]; of a continuous network, units of its τ."""
    num_steps: int = 150
    """Steps T in a trial."""
    offset: float = 0.25
    """Added to the inputs."""

    def __post_init__(self):
        for name in ("num_frequencies", "num_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 < self.lowest <= self.highest:
            raise ValueError(f"expected 0 < lowest ≤ highest, got {self.lowest} and {self.highest}")
        if not 0 < self.dt < np.pi / self.highest:
            raise ValueError(f"dt must lie between 0 and half a period of the fastest wave, got {self.dt}")

    @property
    def frequencies(self) -> Float[np.ndarray, "J"]:
        """ω_j [rad per unit of time]."""
        return np.linspace(self.lowest, self.highest, self.num_frequencies)

    @property
    def levels(self) -> Float[np.ndarray, "J"]:
        """The input that chooses each frequency."""
        return np.arange(1, self.num_frequencies + 1) / self.num_frequencies + self.offset

    @property
    def times(self) -> Float[np.ndarray, "T"]:
        """Time of each step [units of time]."""
        return self.dt * np.arange(1, self.num_steps + 1)

    def trials(self, numbers: Int[Array, "B"]) -> Trials:
        """Trials with the frequencies of these numbers: inputs [B, T, 1], targets [B, T, 1]; every step counts."""
        levels, frequencies = (jnp.asarray(values, float)[numbers] for values in (self.levels, self.frequencies))
        targets = jnp.sin(frequencies[:, None] * jnp.asarray(self.times, float))[..., None]
        return Trials(jnp.broadcast_to(levels[:, None, None], targets.shape), targets, jnp.ones_like(targets))

    def sample(self, key: PRNGKeyArray, batch_size: int) -> Trials:
        """Trials of random frequencies; where the batch is as large as there are frequencies, each of them once.

        Pure, and compiles inside `jax.jit`.
        """
        if batch_size == self.num_frequencies:
            return self.trials(jax.random.permutation(key, batch_size))
        return self.trials(jax.random.randint(key, (batch_size,), 0, self.num_frequencies))
