"""Stacks of recurrent layers: an encoder that reads a whole sequence, and a decoder that goes on step by step."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ctd_models.models.cells import output_of


class Encoded(NamedTuple):
    """What an encoder makes of a batch of sequences."""

    outputs: Float[Array, "B S H"]
    """One vector for each place; 0 behind the end of a sequence."""
    mask: Bool[Array, "B S"]
    """True within the sequences."""
    summary: Float[Array, "B F"]
    """One vector for each sequence, from which a decoder begins."""


class RecurrentEncoder(nn.Module):
    """Recurrent layers, one on the other; the lowest may read in both directions.

    A bidirectional layer runs its cell forward and another like it backward, and puts out both side by side. The summary is
    what the top layer holds at the end of the sequence; if it is bidirectional, at both ends. Padding changes nothing.
    """

    cells: tuple[nn.RNNCellBase, ...]
    """The cell of each layer, from the lowest on: ours or Flax's own."""
    num_bidirectional: int = 0
    """How many of the lowest layers read in both directions."""
    residual: bool = False
    """Whether layers add what they are given to what they put out, where both have one size."""
    dropout: float = 0.0
    """Probability that an input of a layer but the lowest is dropped, from the rng stream `dropout`."""
    deterministic: bool = False
    """Whether nothing is dropped."""

    def __post_init__(self):
        super().__post_init__()
        check_stack(self)
        if not 0 <= self.num_bidirectional <= len(self.cells):
            raise ValueError(f"num_bidirectional must lie in 0 … {len(self.cells)}, got {self.num_bidirectional}")

    def setup(self):
        self.forward_cells = [cell.clone() for cell in self.cells]  # one object for two layers is two cells
        self.layers = [nn.RNN(cell, return_carry=True) for cell in self.forward_cells]
        self.backward_cells = [cell.clone() for cell in self.cells[: self.num_bidirectional]]
        self.backward_layers = [
            nn.RNN(cell, return_carry=True, reverse=True, keep_order=True) for cell in self.backward_cells
        ]
        self.drop = nn.Dropout(self.dropout, deterministic=self.deterministic)

    def __call__(self, inputs: Float[Array, "B S E"], lengths: Int[Array, "B"]) -> Encoded:
        """Reads embedded sequences with these lengths."""
        mask = jnp.arange(inputs.shape[1]) < lengths[:, None]
        values, summary = inputs, []
        for i, layer in enumerate(self.layers):
            given = self.drop(values) if i else values
            end, values = layer(given, seq_lengths=lengths)
            summary = [output_of(self.cells[i], end)]
            if i < self.num_bidirectional:
                start, back = self.backward_layers[i](given, seq_lengths=lengths)
                values, summary = jnp.concatenate([values, back], axis=-1), [*summary, output_of(self.cells[i], start)]
            if self.residual and values.shape == given.shape:
                values = values + given
            values = jnp.where(mask[..., None], values, 0.0)
        return Encoded(values, mask, jnp.concatenate(summary, axis=-1))

    def step(self, state: Any, inputs: Float[Array, "*batch E"]) -> tuple[Any, Float[Array, "*batch N"]]:
        """One step of the lowest layer, forward: (state, embedded input) → (next state, output)."""
        return self.forward_cells[0](state, inputs)


class RecurrentDecoder(nn.Module):
    """Recurrent layers that advance together, (states of all layers, inputs) → (next states, output of the top one).

    The lowest is given the embedded last output and the context, each of the others the output of the one below and the
    context again, as in the deep stacks of Wu et al. (2016, arXiv:1609.08144).
    """

    cells: tuple[nn.RNNCellBase, ...]
    """The cell of each layer, from the lowest on."""
    residual: bool = False
    """Whether layers above the lowest add the output of the one below to theirs, where both have one size."""
    dropout: float = 0.0
    """Probability that an input of a layer but the lowest is dropped, from the rng stream `dropout`."""
    deterministic: bool = False
    """Whether nothing is dropped."""

    def __post_init__(self):
        super().__post_init__()
        check_stack(self)

    def setup(self):
        self.layers = [cell.clone() for cell in self.cells]
        self.drop = nn.Dropout(self.dropout, deterministic=self.deterministic)
        zeros = self.zeros(())
        leaves, self.structure = jax.tree.flatten(zeros)
        self.sizes = [leaf.size for leaf in leaves]
        self.bridges = [nn.Dense(size) for size in self.sizes]

    def zeros(self, batch_shape: tuple[int, ...]) -> tuple[Any, ...]:
        """States of zeros, one a layer."""
        return tuple(cell.initialize_carry(jax.random.key(0), (*batch_shape, 1)) for cell in self.cells)

    def initial_state(self, summary: Float[Array, "*batch F"]) -> tuple[Any, ...]:
        """The states from which decoding begins, h₀ = tanh(W summary + b) for each layer (and part of its state)."""
        return jax.tree.unflatten(self.structure, [jnp.tanh(bridge(summary)) for bridge in self.bridges])

    def query(self, state: tuple[Any, ...]) -> Float[Array, "*batch N"]:
        """What attention is asked with: the output that the top layer last had."""
        return output_of(self.cells[-1], state[-1])

    def step(
        self, state: tuple[Any, ...], inputs: Any, context: Float[Array, "*batch H"] | None = None
    ) -> tuple[tuple[Any, ...], Float[Array, "*batch N"]]:
        """One step of all layers.

        Args:
            state: of each layer.
            inputs: the embedded last output [*batch, E]; or that and the context side by side, without `context`, and so
                the form of a step function whose constant input holds the context (of one layer only).
            context: from the attention [*batch, H], or None where there is none.
        """
        with_context = (lambda x: x) if context is None else (lambda x: jnp.concatenate([x, context], axis=-1))
        states, values = [], inputs
        for i, (cell, carry) in enumerate(zip(self.layers, state, strict=True)):
            given = self.drop(values) if i else values
            carry, out = cell(carry, with_context(given))
            values = out + given if self.residual and i and out.shape == given.shape else out
            states.append(carry)
        return tuple(states), values


def check_stack(stack: Any) -> None:
    """Refuses stacks without layers, of things that are no cells, and a dropout that is no probability.

    Raises:
        TypeError, ValueError
    """
    cells = stack.cells
    if not isinstance(cells, (tuple, list)) or not cells:
        raise ValueError(f"cells must be a tuple of one recurrent cell a layer, got {cells!r}")
    if wrong := [type(cell).__name__ for cell in cells if not isinstance(cell, nn.RNNCellBase)]:
        raise TypeError(f"cells must be flax.linen.RNNCellBase, got {', '.join(wrong)}")
    if not 0 <= stack.dropout < 1:
        raise ValueError(f"dropout is a probability below 1, got {stack.dropout}")
