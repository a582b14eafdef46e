"""The encoder: two recurrent networks read a trial in both directions."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ctd_models.models.cells import GRUCell, output_of


class Encoding(NamedTuple):
    """What the encoder has read."""

    summary: Float[Array, "trials H"]
    """Final states of both directions, from which the latent code is inferred."""
    features: Float[Array, "trials time C"] | None
    """States of both directions in each bin, which the controller reads: forward ones first."""


class Encoder(nn.Module):
    """A bidirectional GRU over the spikes of a trial.

    Its final states summarise the trial; its states in each bin are read by the controller. Replace it by any module with
    the same call.
    """

    hidden_size: int
    """Units of each direction."""
    controller_size: int | None = None
    """Units of each direction of a second pair of networks, whose states the controller reads; None: it reads the states
    of the first pair."""
    initial_bins: int | None = None
    """The latent code is inferred from the first K bins only and the generator begins after them; the controller's pair
    of networks (of `controller_size`, else `hidden_size` units) reads the rest. None: both read the whole trial."""
    cell: nn.RNNCellBase | None = None
    """Cell to copy for each network, with `features`; None: `GRUCell` with an update bias of 1. What it puts out is read."""
    dropout: float = 0.0
    """Probability that an input, or a final state, is dropped, from the rng stream `dropout`."""
    deterministic: bool = False
    """Whether dropout is off."""

    def __post_init__(self):
        super().__post_init__()
        if self.initial_bins is not None and self.initial_bins < 1:
            raise ValueError(f"initial_bins must be at least 1 or None, got {self.initial_bins}")

    @property
    def start(self) -> int:
        """The bin in which the generator begins."""
        return self.initial_bins or 0

    @nn.compact
    def __call__(
        self, inputs: Float[Any, "trials time N"], lengths: Int[Any, "trials"] | None = None, controlled: bool = True
    ) -> Encoding:
        """Reads `inputs`, of which the first `lengths` bins of each trial are real; `controlled`: features are wanted."""
        drop = nn.Dropout(self.dropout, deterministic=self.deterministic)
        inputs = drop(inputs)
        valid = None if lengths is None else jnp.arange(inputs.shape[1]) < jnp.asarray(lengths)[:, None]
        separate = controlled and (self.controller_size is not None or self.initial_bins is not None)
        K = self.start
        first, rest = (inputs[:, :K], inputs[:, K:]) if K else (inputs, inputs)
        first_valid, rest_valid = (None, None) if valid is None else (valid[:, :K] if K else valid, valid[:, K:])
        states, summary = self._both_ways(first, first_valid, self.hidden_size, "initial_")
        if separate:
            states, _ = self._both_ways(rest, rest_valid, self.controller_size or self.hidden_size, "controller_")
        return Encoding(drop(summary), states if controlled else None)

    def _both_ways(self, inputs, valid, size: int, name: str) -> tuple[Any, Any]:
        """(states [trials, time, 2 size], final states [trials, 2 size])."""
        states, finals = [], []
        for direction in ("forward", "backward"):
            cell = self._cell(size, f"{name}{direction}")
            start = learned_state(self, f"{name}{direction}_state", cell)
            start = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (inputs.shape[0], *leaf.shape)), start)
            final, over_time = run_cell(cell, start, inputs, valid, reverse=direction == "backward")
            states.append(over_time)
            finals.append(final)
        return jnp.concatenate(states, axis=-1), jnp.concatenate(finals, axis=-1)

    def _cell(self, size: int, name: str) -> nn.RNNCellBase:
        if self.cell is None:
            return GRUCell(size, update_bias=1.0, clip=5.0, name=name)
        return self.cell.clone(features=size, name=name, parent=self)


def run_cell(
    cell: nn.RNNCellBase,
    carry: Any,
    inputs: Float[Array, "trials time N"],
    valid: Bool[Array, "trials time"] | None,
    reverse: bool,
) -> tuple[Any, Any]:
    """(final output, outputs in each bin) of a cell over time; bins that are not valid leave its state as it is."""

    def step(cell, carry, xs):
        inputs, valid = xs
        new, _ = cell(carry, inputs)
        if valid is not None:
            new = jax.tree.map(lambda new, old: jnp.where(valid[:, None], new, old), new, carry)
        return new, output_of(cell, new)

    rollout = nn.scan(
        step,
        variable_broadcast="params",
        split_rngs={"params": False, nn.DenyList("params"): True},
        in_axes=1,
        out_axes=1,
        reverse=reverse,
    )
    final, states = rollout(cell, carry, (inputs, valid))
    return output_of(cell, final), states


def learned_state(module: nn.Module, name: str, cell: nn.RNNCellBase) -> Any:
    """Parameters `name` of a module, zeros at first, in the form of one state of a cell; several are numbered."""
    leaves, structure = jax.tree.flatten(jax.eval_shape(lambda: cell.initialize_carry(jax.random.key(0), (1,))))
    names = [name] if len(leaves) == 1 else [f"{name}_{i}" for i in range(len(leaves))]
    parameters = [module.param(n, nn.initializers.zeros, leaf.shape) for n, leaf in zip(names, leaves, strict=True)]
    return jax.tree.unflatten(structure, parameters)
