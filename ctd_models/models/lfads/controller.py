"""The controller: infers the inputs that drive the generator."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ctd_models.models.lfads.distributions import DiagonalGaussian, PosteriorHead
from ctd_models.models.lfads.encoder import learned_state
from ctd_models.models.lfads.generator import check_cell, own_cell
from ctd_models.models.lfads.priors import Prior


class Controller(nn.Module):
    """A GRU that reads the encoder and the generator's factors and puts out the posterior of the inferred input.

    c_t = GRU(c_{t−1}, [e_t, f_{t−1}]),   q(u_t) = N(W_μ c_t + b_μ, exp(W_s c_t + b_s))
    """

    hidden_size: int
    """Units."""
    num_inputs: int
    """Inferred inputs U."""
    prior: Prior | None
    """Prior of the inferred inputs over time; None: none, their divergence counts as 0."""
    lag: int = 0
    """Bins by which the encoder's states are delayed: at t, the forward ones of t − lag and the backward ones of t + lag
    are read, so that with 1 the inputs cannot simply copy the spikes of their own bin."""
    cell: nn.RNNCellBase | None = None
    """Cell with `hidden_size` features, such as an LSTM's; None: `GRUCell` with an update bias of 1."""
    dropout: float = 0.0
    """Probability that something read is dropped, from the rng stream `dropout`."""
    deterministic: bool = False
    """Whether dropout is off."""

    def __post_init__(self):
        super().__post_init__()
        check_cell(self)
        if self.num_inputs < 1:
            raise ValueError(f"num_inputs must be at least 1, got {self.num_inputs}; without inputs: controller=None")
        if self.lag < 0:
            raise ValueError(f"lag cannot be negative, got {self.lag}")

    def setup(self):
        self.rnn = own_cell(self)
        self.head = PosteriorHead(self.num_inputs)
        self.drop = nn.Dropout(self.dropout, deterministic=self.deterministic)
        self.start = learned_state(self, "initial_state", self.rnn)

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> Any:
        """The learned state before the first step [*batch, H]; a pytree where the cell's state is one."""
        return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (*batch_shape, *leaf.shape)), self.start)

    def step(self, state: Any, inputs: Float[Any, "*batch R"]) -> tuple[Any, DiagonalGaussian]:
        """One step, (state, what is read: [encoder's states, factors]) → (next state, posterior of the input)."""
        state, output = self.rnn(state, self.drop(inputs))
        return state, self.head(output)

    def delayed(self, features: Float[Any, "trials time C"]) -> Float[Array, "trials time C"]:
        """The encoder's states as they are read, delayed by `lag`; there are zeros where nothing is to be read yet."""
        if not self.lag:
            return features
        forward, backward = jnp.split(features, 2, axis=-1)
        nothing = jnp.zeros_like(forward[:, : self.lag])
        forward = jnp.concatenate([nothing, forward], axis=1)[:, : features.shape[1]]
        backward = jnp.concatenate([backward, nothing], axis=1)[:, -features.shape[1] :]
        return jnp.concatenate([forward, backward], axis=-1)
