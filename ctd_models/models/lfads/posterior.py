"""What LFADS puts out."""

from typing import Any, NamedTuple

from jaxtyping import Array, Float

from ctd_models.data.summaries import summary


class Posterior(NamedTuple):
    """Everything that is inferred about a batch of trials. `None` where the model has no such thing."""

    rates: Float[Array, "trials time neurons"]
    """Expected value of each observation; for spikes, in spikes/bin."""
    factors: Float[Array, "trials time F"]
    """Factors f_t of the generator's states."""
    generator_states: Any
    """States g_t [trials, time, N] of the generator after each step; a pytree where its cell's state is one."""
    initial_condition: Any
    """g_0 [trials, N], the generator's state before the first step."""
    code: Float[Array, "trials C"]
    """The latent code that was decoded: of the initial condition, then of the bias."""
    code_means: Float[Array, "trials C"]
    """Mean of its posterior."""
    code_stds: Float[Array, "trials C"]
    """Standard deviation of its posterior."""
    inferred_inputs: Float[Array, "trials time U"] | None
    """The inferred inputs u_t that were decoded."""
    inferred_input_means: Float[Array, "trials time U"] | None
    """Means of their posterior, given the inputs before."""
    inferred_input_stds: Float[Array, "trials time U"] | None
    """Standard deviations of their posterior, given the inputs before."""
    inferred_bias: Float[Array, "trials b"] | None
    """The part of the code that is fed to the generator in each step."""
    parameters: Float[Array, "trials time neurons P"]
    """Raw parameters of the observation model."""

    def __repr__(self) -> str:
        return summary(self, self._fields)


UNITS = {"rates": "spikes/bin", "parameters": "raw parameters of the observation model"}
"""Units of the fields of `Posterior`; the others have none."""
