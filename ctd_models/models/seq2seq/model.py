"""Sequence to sequence by recurrent networks: an encoder reads, a decoder answers, attention looks back."""

from typing import Any, NamedTuple, no_type_check

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ctd_models.models.seq2seq.checks import check_pairs, check_parts
from ctd_models.models.seq2seq.codes import NEVER, START
from ctd_models.models.seq2seq.layers import RecurrentDecoder, RecurrentEncoder


class Memory(NamedTuple):
    """What is kept of the inputs while an answer is given."""

    keys: Float[Array, "B S K"] | None
    """What queries of the attention are compared with; None without attention."""
    values: Float[Array, "B S H"] | None
    """What attention calls up."""
    mask: Bool[Array, "B S"]
    """True within the inputs."""


class Answers(NamedTuple):
    """Outputs of a decoder over time, and how it got there."""

    outputs: Float[Array, "B T V"]
    """Logits of tokens, or values of a signal."""
    attention: Float[Array, "B T S"] | None
    """Weights on the places of the inputs at each step; None without attention."""
    states: Any
    """States of the decoder after each step, a pytree of [B, T, …]."""


class Answering(nn.Module):
    """What models that answer sequences share; they have the codes `source` and `target`."""

    @nn.nowrap
    @no_type_check  # it checks its arguments itself
    def check(self, inputs: Any, input_lengths: Any, targets: Any, target_lengths: Any = None) -> None:
        """Refuses sequences that this model cannot read or answer; `sequence_loss` asks before anything is compiled.

        Raises:
            ValueError: shapes that do not fit, and, where they are concrete, tokens or lengths out of range.
        """
        check_pairs(self, inputs, input_lengths, targets, target_lengths)

    def start(self, batch_size: int) -> Any:
        """What stands for the last output before there is one: the start marker [B], or a signal of zeros [B, O]."""
        code = self.target
        return jnp.full(batch_size, START) if code.discrete else jnp.zeros((batch_size, code.num_channels))


class Seq2Seq(Answering):
    """Recurrent encoder and decoder with an attention of your choice.

    At each step the decoder's state asks the attention for a context c_t, and goes on with it and the last output y_{t−1}:

        c_t = attention(s_{t−1}),   s_t = cell(s_{t−1}, [E y_{t−1}, c_t]),   output_t = read_out([s_t, c_t])

    This is the order of Bahdanau, Cho & Bengio (2015, arXiv:1409.0473), for every kind of attention. Without one it is the
    encoder and decoder of Sutskever, Vinyals & Le (2014, arXiv:1409.3215): all that is known of the inputs is in s_0.
    """

    source: nn.Module
    """Code of the inputs: `Tokens`, `BitTokens`, `Signals`, or your own."""
    target: nn.Module
    """Code of the answers."""
    encoder: RecurrentEncoder
    """Reads the embedded inputs."""
    decoder: RecurrentDecoder
    """Gives the answer."""
    attention: nn.Module | None = None
    """`AdditiveAttention`, `DotAttention`, `GeneralAttention`, your own, or None."""
    deterministic: bool = False
    """Whether dropout of encoder and decoder is off."""

    def __post_init__(self):
        check_parts(self)
        for name in ("encoder", "decoder") if self.deterministic else ():
            if getattr(getattr(self, name), "deterministic", None) is False:
                object.__setattr__(self, name, getattr(self, name).clone(deterministic=True))
        super().__post_init__()

    def encode(self, inputs: Any, input_lengths: Int[Array, "B"], max_length: int | None = None) -> tuple[Memory, Any]:
        """(memory of the inputs, state before the first output); answers may be of any length."""
        encoded = self.encoder(self.source.embed(inputs), input_lengths)
        state = self.decoder.initial_state(encoded.summary)
        if self.attention is None:
            return Memory(None, None, encoded.mask), state
        return Memory(self.attention.keys(encoded.outputs), encoded.outputs, encoded.mask), state

    def advance(self, memory: Memory, state: Any, last: Any) -> tuple[Any, Float[Array, "B V"], Any]:
        """(next state, output, weights of the attention or None) after the last output [B] (tokens) or [B, O] (a signal)."""
        state, features, weights = self._advance(memory, state, self.target.embed(last))
        return state, self.target.read_out(features), weights

    def _advance(self, memory: Memory, state: Any, embedded: Float[Array, "B E"]) -> tuple[Any, Array, Any]:
        """(next state, [state's output, context], weights) after the embedded last output."""
        if self.attention is None:
            return *self.decoder.step(state, embedded), None
        context, weights = self.attention(self.decoder.query(state), memory.keys, memory.values, memory.mask)
        state, features = self.decoder.step(state, embedded, context)
        return state, jnp.concatenate([features, context], axis=-1), weights

    def step(self, state: Any, inputs: Float[Any, "*batch E"]) -> tuple[Any, Float[Array, "*batch N"]]:
        """The decoder as a dynamical system: (state, [embedded last output, context]) → (next state, features)."""
        if self.attention is None:
            return self.decoder.step(state, inputs)
        size = self.target.embedded_size
        return self.decoder.step(state, inputs[..., :size], inputs[..., size:])

    @no_type_check  # it checks its arguments itself
    def __call__(
        self, inputs: Any, input_lengths: Int[Array, "B"], targets: Any, sampling_rate: Float[Any, ""] | float = 0.0
    ) -> Answers:
        """The outputs for given answers: each follows the right last output (teacher forcing).

        Args:
            inputs: tokens [B, S] or signals [B, S, U], padded.
            input_lengths: [B].
            targets: tokens [B, T] or signals [B, T, O], padded; outputs behind the end of an answer mean nothing.
            sampling_rate: probability that the last output is the network's own (drawn from its distribution), from the rng
                stream `sample`, and not the right one: scheduled sampling (Bengio et al. 2015, arXiv:1506.03099). Without
                that stream, or at 0, it never is.

        Raises:
            ValueError: shapes that do not fit, and, where they are concrete, tokens or lengths out of range.
        """
        self.check(inputs, input_lengths, targets)
        memory, state = self.encode(inputs, input_lengths)
        start = self.start(len(inputs))
        right = jnp.concatenate([start[:, None], targets[:, :-1]], axis=1)

        def taught(model, state, embedded):
            state, features, weights = model._advance(memory, state, embedded)
            return state, (features, weights, state)

        def sampled(model, carry, right):
            state, own = carry
            take, draw = jax.random.split(model.make_rng("sample"))
            chosen = jax.random.bernoulli(take, sampling_rate, right.shape[:1])
            own = jax.random.categorical(draw, own) if model.target.discrete else own
            last = jnp.where(chosen.reshape(-1, *[1] * (right.ndim - 1)), own, right)
            state, output, weights = model.advance(memory, state, last)
            return (state, output), (output, weights, state)

        over_time = {
            "variable_broadcast": True,
            "split_rngs": {"params": False, nn.DenyList("params"): True},
            "in_axes": 1,
            "out_axes": 1,
        }
        if self.has_rng("sample") and not self.deterministic:
            first = self._own_start(len(inputs))
            _, (outputs, weights, states) = nn.scan(sampled, **over_time)(self, (state, first), right)
            return Answers(outputs, weights, states)
        # nothing but the states depends on the step before: the rest is done for all steps at once
        _, (features, weights, states) = nn.scan(taught, **over_time)(self, state, self.target.embed(right))
        return Answers(self.target.read_out(features), weights, states)

    def _own_start(self, batch_size: int) -> Float[Array, "B V"]:
        """An output from which the start would be drawn."""
        if not self.target.discrete:
            return self.start(batch_size)
        return jnp.full((batch_size, self.target.vocabulary_size), NEVER).at[:, START].set(0.0)
