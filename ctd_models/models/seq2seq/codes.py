"""How tokens and signals enter a network and leave it: `embed(x) -> features` and `read_out(features) -> output`."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ctd_models.models.initializers import as_initializer

PADDING, START, END = 0, 1, 2  # the markers among tokens; symbols follow, as in `ctd_models.tasks.SequencePairs`
NEVER = -1e9  # logit of what is never said


class _Code(nn.Module):
    """What codes share."""

    @property
    def discrete(self) -> bool:
        """Whether this is a code of tokens."""
        return True


class Tokens(_Code):
    """Each token is a learned vector; outputs are logits of all tokens by a linear map."""

    vocabulary_size: int
    """Tokens V: padding 0, start 1, end 2, and symbols."""
    embedding_size: int = 32
    """Features of an embedded token."""

    def __post_init__(self):
        super().__post_init__()
        if self.vocabulary_size < 4 or self.embedding_size < 1:
            raise ValueError(
                f"expected vocabulary_size ≥ 4 and embedding_size ≥ 1, got {self.vocabulary_size}, {self.embedding_size}"
            )

    @property
    def embedded_size(self) -> int:
        """Features of an embedded token."""
        return self.embedding_size

    def setup(self):
        self.table = nn.Embed(
            self.vocabulary_size, self.embedding_size, embedding_init=nn.initializers.normal(self.embedding_size**-0.5)
        )
        self.readout = nn.Dense(self.vocabulary_size, kernel_init=as_initializer(1.0))

    def embed(self, tokens: Int[Array, "*batch"]) -> Float[Array, "*batch E"]:
        """Features of tokens."""
        return self.table(tokens)

    def read_out(self, features: Float[Array, "*batch N"]) -> Float[Array, "*batch V"]:
        """Logits; those of padding and start, which no answer holds, are −1e9."""
        logits = self.readout(features)
        return logits.at[..., :2].set(NEVER)


class BitTokens(_Code):
    """Symbols are vectors of bits, as on the tape of a Turing machine: 2^bits of them, and the markers.

    A symbol enters as its bits, 0 or 1, with two more features that mark start and end. Bits are put out independently: the
    logit of symbol i is Σ_b bit_b(i) · l_b, so that the probability of the symbol, given that it is no marker, is the
    product of those of its bits.
    """

    num_bits: int = 8
    """Bits of a symbol."""

    def __post_init__(self):
        super().__post_init__()
        if not 1 <= self.num_bits <= 12:
            raise ValueError(f"num_bits must lie in 1 … 12, got {self.num_bits}")

    @property
    def embedded_size(self) -> int:
        """Features of an embedded token."""
        return self.num_bits + 2

    @property
    def vocabulary_size(self) -> int:
        """Tokens: padding 0, start 1, end 2, and the symbols."""
        return 3 + 2**self.num_bits

    def setup(self):
        self.readout = nn.Dense(self.num_bits + 1, kernel_init=as_initializer(1.0))

    def _bits(self, symbols: Int[Array, "*batch"]) -> Float[Array, "*batch bits"]:
        return (symbols[..., None] >> jnp.arange(self.num_bits) & 1).astype(float)

    def embed(self, tokens: Int[Array, "*batch"]) -> Float[Array, "*batch E"]:
        """Bits, and marks of start and end."""
        bits = self._bits(jnp.maximum(tokens - 3, 0)) * (tokens >= 3)[..., None]
        marks = (tokens[..., None] == jnp.array([1, 2])).astype(bits.dtype)
        return jnp.concatenate([bits, marks], axis=-1)

    def read_out(self, features: Float[Array, "*batch N"]) -> Float[Array, "*batch V"]:
        """Logits of all tokens; those of padding and start are −1e9.

        Σ_b log(1 + e^{l_b}) is taken off the symbols, so that the last output is the logit of the end against all of them.
        """
        out = self.readout(features)
        bits, end = out[..., :-1], out[..., -1:]
        symbols = bits @ self._bits(jnp.arange(2**self.num_bits)).T - nn.softplus(bits).sum(axis=-1, keepdims=True)
        never = jnp.full((*end.shape[:-1], 2), NEVER, end.dtype)
        return jnp.concatenate([never, end, symbols], axis=-1)


class Signals(_Code):
    """Real values enter as they are, and are put out by a linear map."""

    num_channels: int = 1
    """Channels of the signal."""
    fed_back: bool = True
    """Of answers: whether each output is given the last one. If not, zeros are given: a decoder without attention then is an
    autonomous system, which runs from the state it begins in, and training cannot lean on right last outputs."""

    def __post_init__(self):
        super().__post_init__()
        if self.num_channels < 1:
            raise ValueError(f"num_channels must be at least 1, got {self.num_channels}")

    @property
    def discrete(self) -> bool:
        return False

    @property
    def embedded_size(self) -> int:
        """Channels."""
        return self.num_channels

    def setup(self):
        self.readout = nn.Dense(self.num_channels, kernel_init=as_initializer(1.0))

    def embed(self, values: Float[Array, "*batch O"]) -> Float[Array, "*batch O"]:
        """The values, or zeros where they are not fed back."""
        return values if self.fed_back else jnp.zeros_like(values)

    def read_out(self, features: Float[Array, "*batch N"]) -> Float[Array, "*batch O"]:
        """Values."""
        return self.readout(features)
