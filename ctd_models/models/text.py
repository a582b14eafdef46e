"""A recurrent network that reads words."""

from typing import Any, no_type_check

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ctd_models.models.recurrent import RecurrentNetwork, Trajectory


class TextNetwork(RecurrentNetwork):
    """A `RecurrentNetwork` that reads numbers of words: h_t = cell(h_{t−1}, D E[w_t]), o_t = D' h_t W_out + b_out.

    E embeds words as vectors [words, embedding_size], of which padding (number 0) is zero; D and D' drop entries at random
    in training. The step function takes embedded words, so that the zero input is the absence of a word.
    """

    words: tuple[str, ...] = ()
    """The vocabulary, words by number: "" (padding) and "<unknown>" come first (`ctd_models.data.Vocabulary`)."""
    embedding_size: int = 32
    """Features of an embedded word."""
    embedding_std: float = 0.1
    """Standard deviation of E before training."""
    word_dropout: float = 0.0
    """Probability that a word is read as if it were unknown, from the rng stream `dropout`."""
    input_dropout: float = 0.0
    """Probability that a feature of an embedded word is dropped."""
    output_dropout: float = 0.0
    """Probability that a unit is hidden from the readout."""

    def __post_init__(self):
        super().__post_init__()
        if len(self.words) < 2:
            raise ValueError(f"words must hold padding, unknown and the words of a vocabulary, got {len(self.words)}")
        if self.embedding_size < 1:
            raise ValueError(f"embedding_size must be at least 1, got {self.embedding_size}")
        if self.embedding_std < 0:
            raise ValueError(f"embedding_std cannot be negative, got {self.embedding_std}")
        for name in ("word_dropout", "input_dropout", "output_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is a probability below 1, got {getattr(self, name)}")

    def setup(self):
        super().setup()
        self.embedding = nn.Embed(
            len(self.words), self.embedding_size, embedding_init=nn.initializers.normal(self.embedding_std)
        )
        self.drop_inputs = nn.Dropout(self.input_dropout, deterministic=self.deterministic)
        self.drop_outputs = nn.Dropout(self.output_dropout, deterministic=self.deterministic)

    def embed(self, tokens: Int[Any, "*batch"]) -> Float[Array, "*batch E"]:
        """Embedded words of their numbers; padding is zero."""
        return self.embedding(tokens) * (tokens != 0)[..., None]

    def step(self, state: Any, inputs: Float[Any, "*batch E"]) -> tuple[Any, Float[Array, "*batch O"]]:
        """One step, (state [*batch, N], embedded words [*batch, E]) → (next state, output [*batch, O])."""
        state, features = self.cell(state, self.drop_inputs(inputs))
        return state, self.readout(self.drop_outputs(features))

    @no_type_check  # it checks its arguments itself
    def __call__(self, tokens: Int[Array, "B T"], initial_state: Any = None) -> Trajectory:
        """Reads texts, given as numbers of words; what comes after the last word of a text is padding, 0.

        Raises:
            ValueError: tokens are not whole numbers [batch, time], or, where they are concrete, not numbers of words.
        """
        tokens = jnp.asarray(tokens)
        if tokens.ndim != 2 or 0 in tokens.shape or not jnp.issubdtype(tokens.dtype, jnp.integer):
            raise ValueError(f"expected numbers of words [batch, time], got {tokens.dtype} of shape {tokens.shape}")
        if not isinstance(tokens, jax.core.Tracer) and not 0 <= tokens.min() <= tokens.max() < len(self.words):
            raise ValueError(f"numbers of words lie in 0 … {len(self.words) - 1}, got {tokens.min()} … {tokens.max()}")
        if self.word_dropout and not self.deterministic:
            dropped = jax.random.bernoulli(self.make_rng("dropout"), self.word_dropout, tokens.shape)
            tokens = jnp.where(dropped & (tokens != 0), 1, tokens)
        return super().__call__(self.embed(tokens), initial_state)
