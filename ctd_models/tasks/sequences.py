"""Sequences that are to be turned into others: copied, reversed, sorted, added up."""

import dataclasses
from typing import Any, NamedTuple, no_type_check

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from ctd_models.tasks.checks import check_range

PADDING, START, END = 0, 1, 2
FIRST_SYMBOL = 3


class SequencePairs(NamedTuple):
    """A batch of sequences and of what they are to be turned into, each padded to one size.

    Tokens are whole numbers: 0 is padding, 1 starts an answer (a decoder puts it in front by itself), 2 ends it, and symbols
    come from 3 on. Signals are real.
    """

    inputs: Int[Any, "B S"] | Float[Any, "B S U"]
    """Tokens, padded with 0; or a signal."""
    input_lengths: Int[Any, "B"]
    """Length of each, at least 1."""
    targets: Int[Any, "B T"] | Float[Any, "B T O"]
    """Tokens, of which the last is the end marker, then 0; or a signal."""
    target_lengths: Int[Any, "B"]
    """Length of each, the end marker included."""


def length_mask(lengths: Int[Any, "B"], size: int) -> Bool[Array, "B size"]:
    """True in the first `lengths` of `size` places."""
    return jnp.arange(size) < jnp.asarray(lengths)[:, None]


@dataclasses.dataclass(frozen=True)
class _SymbolTask:
    """What copying, reversing and sorting share: symbols 0 … num_symbols − 1 at random, of random length."""

    num_symbols: int = 256
    """Different symbols; 256: vectors of 8 bits. Symbol i is the token 3 + i."""
    shortest: int = 1
    """Fewest symbols of a sequence."""
    longest: int = 20
    """Most symbols of a sequence; lengths are uniform between."""
    size: int | None = None
    """Places S of the padded sequences; None: as many as the longest needs. Tasks of one size share what was compiled."""

    def __post_init__(self):
        if self.num_symbols < 2:
            raise ValueError(f"num_symbols must be at least 2, got {self.num_symbols}")
        if not 1 <= self.shortest <= self.longest:
            raise ValueError(f"expected 1 ≤ shortest ≤ longest, got {self.shortest} and {self.longest}")
        if self.size is not None and self.size < self.longest:
            raise ValueError(f"size must hold the longest sequence, {self.longest} symbols, got {self.size}")

    @property
    def vocabulary_size(self) -> int:
        """Tokens: padding, start, end, and the symbols."""
        return FIRST_SYMBOL + self.num_symbols

    @property
    def padded_size(self) -> int:
        """S; answers are one longer, for the end marker."""
        return self.longest if self.size is None else self.size

    def answer(self, symbols: Int[Array, "B S"], lengths: Int[Array, "B"]) -> Int[Array, "B S"]:
        """The symbols of the answers in the first `lengths` places; the others do not count."""
        raise NotImplementedError

    @no_type_check  # it checks its arguments itself
    def pairs(self, symbols: Int[Array, "B S"], lengths: Int[Array, "B"]) -> SequencePairs:
        """Sequences of given symbols, 0 … num_symbols − 1, and their answers; symbols behind a length do not count.

        Raises:
            ValueError: shapes that do not fit, and, where the values are concrete, lengths or symbols out of range.
        """
        symbols, lengths = jnp.asarray(symbols), jnp.asarray(lengths)
        if symbols.ndim != 2 or symbols.shape[1] != self.padded_size or lengths.shape != symbols.shape[:1]:
            raise ValueError(
                f"expected symbols [B, {self.padded_size}] and lengths [B], got shapes {symbols.shape} and {lengths.shape}"
            )
        counts = length_mask(lengths, self.padded_size)
        check_range("lengths", lengths, 1, self.padded_size)
        check_range("symbols", jnp.where(counts, symbols, 0), 0, self.num_symbols - 1)
        inputs = jnp.where(counts, symbols + FIRST_SYMBOL, PADDING)
        answers = jnp.where(counts, self.answer(symbols, lengths) + FIRST_SYMBOL, PADDING)
        targets = jnp.pad(answers, ((0, 0), (0, 1))).at[jnp.arange(len(lengths)), lengths].set(END)
        return SequencePairs(inputs, lengths, targets, lengths + 1)

    def sample(self, key: PRNGKeyArray, batch_size: int) -> SequencePairs:
        """Fresh pairs: inputs [B, S], targets [B, S + 1]. Pure, and compiles inside `jax.jit`."""
        length_key, symbol_key = jax.random.split(key)
        lengths = jax.random.randint(length_key, (batch_size,), self.shortest, self.longest + 1)
        symbols = jax.random.randint(symbol_key, (batch_size, self.padded_size), 0, self.num_symbols)
        return self.pairs(symbols, lengths)


class CopySequence(_SymbolTask):
    """Say a sequence again (the copy task of Graves, Wayne & Danihelka 2014, arXiv:1410.5401)."""

    def answer(self, symbols, lengths):
        return symbols


class ReverseSequence(_SymbolTask):
    """Say a sequence backwards."""

    def answer(self, symbols, lengths):
        places = (lengths[:, None] - 1 - jnp.arange(symbols.shape[1])) % symbols.shape[1]
        return jnp.take_along_axis(symbols, places, axis=1)


class SortSequence(_SymbolTask):
    """Say the symbols of a sequence in rising order."""

    def answer(self, symbols, lengths):
        return jnp.sort(jnp.where(length_mask(lengths, symbols.shape[1]), symbols, self.num_symbols), axis=1)


@dataclasses.dataclass(frozen=True)
class Addition:
    """Add two whole numbers, both written in digits: "12+345" → "357".

    Symbols 0 to 9 are the digits and 10 is the plus sign. Each number has 1 to `num_digits` digits, equally often, without
    zeros in front. (Addition in characters: Zaremba & Sutskever 2014, arXiv:1410.4615.)
    """

    num_digits: int = 3
    """Most digits of a number."""
    fewest_digits: int = 1
    """Fewest digits of a number."""
    size: int | None = None
    """Most digits for which there is room; None: num_digits. Tasks of one size share what was compiled."""

    def __post_init__(self):
        if not 1 <= self.fewest_digits <= self.num_digits <= 8:
            raise ValueError(
                f"expected 1 ≤ fewest_digits ≤ num_digits ≤ 8, got {self.fewest_digits} and {self.num_digits}"
            )
        if self.size is not None and not self.num_digits <= self.size <= 8:
            raise ValueError(f"size must lie in {self.num_digits} … 8 digits, got {self.size}")

    @property
    def vocabulary_size(self) -> int:
        """Tokens: padding, start, end, ten digits and the plus sign."""
        return FIRST_SYMBOL + 11

    @property
    def padded_size(self) -> int:
        """S: places of two numbers and the sign."""
        return 2 * (self.size or self.num_digits) + 1

    @no_type_check  # it checks its arguments itself
    def pairs(self, first: Int[Any, "B"], second: Int[Any, "B"]) -> SequencePairs:
        """Sums of given numbers, not negative.

        Raises:
            ValueError: shapes that do not fit, and, where the values are concrete, numbers with more digits than fit.
        """
        first, second = jnp.asarray(first), jnp.asarray(second)
        if first.ndim != 1 or first.shape != second.shape or not jnp.issubdtype(first.dtype, jnp.integer):
            raise ValueError(f"expected two arrays [B] of whole numbers, got shapes {first.shape} and {second.shape}")
        room = self.size or self.num_digits
        for name, values in (("first", first), ("second", second)):
            check_range(name, values, 0, 10**room - 1)
        (a, num_a), (b, num_b), (c, num_c) = (
            _digits(first, room),
            _digits(second, room),
            _digits(first + second, room + 1),
        )
        place = jnp.arange(self.padded_size)
        lengths = num_a + 1 + num_b
        of_b = jnp.take_along_axis(b, jnp.clip(place - num_a[:, None] - 1, 0, room - 1), axis=1)
        of_a = a[:, jnp.minimum(place, room - 1)]
        symbols = jnp.where(place < num_a[:, None], of_a, jnp.where(place == num_a[:, None], 10, of_b))
        inputs = jnp.where(length_mask(lengths, self.padded_size), symbols + FIRST_SYMBOL, PADDING)
        answers = jnp.where(length_mask(num_c, room + 1), c + FIRST_SYMBOL, PADDING)
        targets = jnp.pad(answers, ((0, 0), (0, 1))).at[jnp.arange(len(first)), num_c].set(END)
        return SequencePairs(inputs, lengths, targets, num_c + 1)

    def sample(self, key: PRNGKeyArray, batch_size: int) -> SequencePairs:
        """Fresh sums. Pure, and compiles inside `jax.jit`."""
        count_key, value_key = jax.random.split(key)
        counts = jax.random.randint(count_key, (2, batch_size), self.fewest_digits, self.num_digits + 1)
        low = jnp.where(counts == 1, 0, 10 ** (counts - 1))
        first, second = jax.random.randint(value_key, counts.shape, low, 10**counts)
        return self.pairs(first, second)


def _digits(values: Int[Array, "B"], room: int) -> tuple[Int[Array, "B room"], Int[Array, "B"]]:
    """(digits from the first on, how many there are) of numbers."""
    powers = jnp.asarray(10 ** np.arange(room - 1, -1, -1))
    written = values[:, None] // powers % 10
    count = jnp.maximum((values[:, None] >= powers).sum(axis=1), 1)
    places = (jnp.arange(room) + room - count[:, None]) % room
    return jnp.take_along_axis(written, places, axis=1), count


@dataclasses.dataclass(frozen=True)
class TwoBoxes:
    """A signal with two boxes; the answer has the lower one first. Both are real-valued.

    Inputs [B, S, 1] are 0 but for two boxes of random heights and widths, which begin at random places p₁ < p₂ and do not
    overlap. Targets [B, S, 1] hold the same boxes, each with its width, the lower one at p₁ and the higher one at p₂.
    """

    num_steps: int = 100
    """Steps S of a signal."""
    widths: tuple[int, int] = (5, 20)
    """Smallest and largest width of a box [steps]."""
    heights: tuple[float, float] = (0.2, 1.0)
    """Smallest and largest height."""

    def __post_init__(self):
        object.__setattr__(self, "widths", tuple(int(width) for width in self.widths))
        object.__setattr__(self, "heights", tuple(float(height) for height in self.heights))
        if len(self.widths) != 2 or not 0 < self.widths[0] <= self.widths[1]:
            raise ValueError(f"widths must be two positive numbers in rising order, got {self.widths}")
        if 2 * self.widths[1] + 1 > self.num_steps:
            raise ValueError(f"two boxes of {self.widths[1]} steps do not fit into {self.num_steps}")
        if len(self.heights) != 2 or not 0 < self.heights[0] < self.heights[1]:
            raise ValueError(f"heights must be two positive numbers in rising order, got {self.heights}")

    def sample(self, key: PRNGKeyArray, batch_size: int) -> SequencePairs:
        """Fresh pairs; all have S steps. Pure, and compiles inside `jax.jit`."""
        width_key, height_key, place_key = jax.random.split(key, 3)
        low, high = self.widths
        widths = jax.random.randint(width_key, (batch_size, 2), low, high + 1)
        heights = jax.random.uniform(height_key, (batch_size, 2), minval=self.heights[0], maxval=self.heights[1])
        room = self.num_steps - 2 * high  # steps that are free, with both places kept for the widest box
        free = jnp.sort(jax.random.randint(place_key, (batch_size, 2), 0, room + 1), axis=1)
        places = free + jnp.array([0, high])
        lengths = jnp.full(batch_size, self.num_steps)
        order = jnp.argsort(heights, axis=1)
        lower_first = (jnp.take_along_axis(values, order, axis=1) for values in (widths, heights))
        inputs, targets = self._signal(places, widths, heights), self._signal(places, *lower_first)
        return SequencePairs(inputs, lengths, targets, lengths)

    def _signal(
        self, places: Int[Array, "B 2"], widths: Int[Array, "B 2"], heights: Float[Array, "B 2"]
    ) -> Float[Array, "B S 1"]:
        step = jnp.arange(self.num_steps)[:, None]
        inside = (step >= places[:, None]) & (step < (places + widths)[:, None])
        return (inside * heights[:, None]).sum(axis=-1, keepdims=True)
