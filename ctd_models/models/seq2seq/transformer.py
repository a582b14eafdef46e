"""Sequence to sequence by self-attention."""

from typing import Any, no_type_check

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ctd_models.models.seq2seq.checks import check_parts
from ctd_models.models.seq2seq.model import Answering, Answers, Memory


class _Block(nn.Module):
    """Attention to the sequence itself, perhaps to a memory, and a feed-forward network; each normalises, and is added."""

    num_heads: int
    features: int
    dropout: float
    deterministic: bool
    decoding: bool = False

    @nn.compact
    def __call__(self, x: Any, mask: Any, memory: Any = None, memory_mask: Any = None) -> tuple[Any, Any]:
        """(outputs, weights on the memory [B, T, S], mean over heads, or None)."""
        weights = []

        def attention(query, key, value, mask=None, dropout_rng=None, dropout_rate=0.0, deterministic=True):
            dropout = {"dropout_rng": dropout_rng, "dropout_rate": dropout_rate, "deterministic": deterministic}
            shares = nn.dot_product_attention_weights(query, key, mask=mask, **dropout)
            weights.append(shares.mean(axis=-3))  # what Flax's own attention does not hand out
            return jnp.einsum("...hqk,...khd->...qhd", shares, value)

        def attend(name, **options):
            return nn.MultiHeadDotProductAttention(
                self.num_heads,
                qkv_features=self.features,
                dropout_rate=self.dropout,
                deterministic=self.deterministic,
                name=name,
                **options,
            )

        drop = nn.Dropout(self.dropout, deterministic=self.deterministic)
        x = x + drop(attend("to_itself", decode=self.decoding)(nn.LayerNorm(name="norm_itself")(x), mask=mask))
        if memory is not None:
            query = nn.LayerNorm(name="norm_memory")(x)
            x = x + drop(attend("to_memory", attention_fn=attention)(query, memory, mask=memory_mask))
        hidden = nn.relu(nn.Dense(4 * self.features, name="rise")(nn.LayerNorm(name="norm_rise")(x)))
        return x + drop(nn.Dense(self.features, name="fall")(hidden)), weights[0] if weights else None


class TransformerSeq2Seq(Answering):
    """Encoder and decoder of self-attention, in the form of `Seq2Seq` (Vaswani et al. 2017, arXiv:1706.03762).

    Blocks normalise their inputs (pre-norm); places are told by sines and cosines. The attention in `Answers` is that of the
    last block of the decoder on the inputs, averaged over heads.
    """

    source: nn.Module
    """Code of the inputs: `Tokens`, `BitTokens`, `Signals`, or your own."""
    target: nn.Module
    """Code of the answers."""
    features: int = 64
    """Size of the vectors of a place; a multiple of num_heads, and even."""
    num_layers: int = 2
    """Blocks of the encoder, and of the decoder."""
    num_heads: int = 4
    """Heads of each attention."""
    dropout: float = 0.0
    """Probability that an entry is dropped, from the rng stream `dropout`."""
    decoding: bool = False
    """Whether `decode` goes on token by token with the collection "cache"; set by `advance`."""
    deterministic: bool = False
    """Whether nothing is dropped."""

    def __post_init__(self):
        check_parts(self)
        super().__post_init__()
        if self.num_layers < 1 or self.num_heads < 1:
            raise ValueError(f"expected one layer and one head or more, got {self.num_layers} and {self.num_heads}")
        if self.features < 2 or self.features % 2 or self.features % self.num_heads:
            raise ValueError(f"features must be even and a multiple of {self.num_heads} heads, got {self.features}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is a probability below 1, got {self.dropout}")

    def setup(self):
        options = {"dropout": self.dropout, "deterministic": self.deterministic}
        self.encoder_blocks = [_Block(self.num_heads, self.features, **options) for _ in range(self.num_layers)]
        options["decoding"] = self.decoding
        self.decoder_blocks = [_Block(self.num_heads, self.features, **options) for _ in range(self.num_layers)]
        self.source_in, self.target_in = nn.Dense(self.features), nn.Dense(self.features)
        self.encoder_norm, self.decoder_norm = nn.LayerNorm(), nn.LayerNorm()

    def remember(self, inputs: Any, input_lengths: Int[Array, "B"]) -> Memory:
        """What the encoder makes of the inputs."""
        mask = jnp.arange(inputs.shape[1]) < input_lengths[:, None]
        x = self.source_in(self.source.embed(inputs)) + places(jnp.arange(inputs.shape[1]), self.features)
        for block in self.encoder_blocks:
            x, _ = block(x, nn.make_attention_mask(mask, mask))
        return Memory(None, jnp.where(mask[..., None], self.encoder_norm(x), 0.0), mask)

    def answer(self, memory: Memory, last: Any, first_place: Any) -> Answers:
        """Outputs after each of the last outputs, of which the first is at this place of the answer."""
        batch, size = last.shape[:2]
        x = self.target_in(self.target.embed(last)) + places(first_place + jnp.arange(size), self.features)
        causal = None if self.decoding else nn.make_causal_mask(jnp.zeros((batch, size)))
        seen = nn.make_attention_mask(jnp.ones((batch, size), bool), memory.mask)
        weights = None
        for block in self.decoder_blocks:
            x, weights = block(x, causal, memory.values, seen)
        x = self.decoder_norm(x)
        return Answers(self.target.read_out(x), weights, x)

    def encode(self, inputs: Any, input_lengths: Int[Array, "B"], max_length: int) -> tuple[Memory, Any]:
        """(memory of the inputs, an empty cache with room for `max_length` outputs)."""
        memory, (module, variables) = self.remember(inputs, input_lengths), self._incremental()
        last = self.start(len(inputs))
        last = jnp.broadcast_to(last[:, None], (len(last), max_length, *last.shape[1:]))

        def fill(memory):
            return module.apply(variables, memory, last, 0, method="answer", mutable=["cache"])[1]["cache"]

        shapes = jax.eval_shape(fill, memory)
        return memory, {
            "cache": jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes),
            "place": jnp.int32(0),
        }

    def advance(self, memory: Memory, state: Any, last: Any) -> tuple[Any, Float[Array, "B V"], Float[Array, "B S"]]:
        """(next state, output, weights on the inputs) after the last output; the state caches what the answer was so far."""
        module, variables = self._incremental()
        given = {**variables, "cache": state["cache"]}
        answers, changed = module.apply(
            given, memory, last[:, None], state["place"], method="answer", mutable=["cache"]
        )
        state = {"cache": changed["cache"], "place": state["place"] + 1}
        return state, answers.outputs[:, 0], answers.attention[:, 0]

    def _incremental(self) -> tuple[nn.Module, Any]:
        """This model as it goes on token by token, and its parameters."""
        return self.clone(decoding=True, deterministic=True, parent=None), {"params": self.variables["params"]}

    @no_type_check  # it checks its arguments itself
    def __call__(
        self, inputs: Any, input_lengths: Int[Array, "B"], targets: Any, sampling_rate: float = 0.0
    ) -> Answers:
        """The outputs for given answers, all at once: each follows the right last output (teacher forcing).

        Arguments and errors are those of `Seq2Seq`. There is no scheduled sampling: `sampling_rate` must be 0, as all
        outputs are made at once.
        """
        if isinstance(sampling_rate, jax.core.Tracer) or sampling_rate:
            raise ValueError(
                "a TransformerSeq2Seq gives all outputs at once and cannot sample its own: sampling_rate is 0"
            )
        self.check(inputs, input_lengths, targets)
        right = jnp.concatenate([self.start(len(inputs))[:, None], targets[:, :-1]], axis=1)
        return self.answer(self.remember(inputs, input_lengths), right, 0)


def places(numbers: Int[Array, "T"], features: int) -> Float[Array, "T F"]:
    """sin and cos of places at wavelengths of 2π to 10,000 · 2π."""
    rates = 10_000.0 ** (-2 * jnp.arange(features // 2) / features)
    angles = numbers[:, None] * rates
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)
