"""What every task yields."""

from typing import NamedTuple

from jaxtyping import Array, Float


class Trials(NamedTuple):
    """A batch of trials."""

    inputs: Float[Array, "B T U"]
    """What the network receives at each step."""
    targets: Float[Array, "B T O"]
    """What it should put out."""
    mask: Float[Array, "B T 1"]
    """Weight of each step in the loss: 0 where the target does not count."""
