"""A toy language of sentiment: words of different value, and modifiers that change the value of the words after them."""

import dataclasses
from collections.abc import Sequence
from typing import Any, no_type_check

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ctd_models.tasks.trials import Trials

GAPS = ("…", "...")  # in a pattern, any word without an effect


@dataclasses.dataclass(frozen=True)
class Word:
    """A word of the language, and what it does."""

    text: str
    """How it is written, without spaces."""
    value: float = 0.0
    """What it adds to the sentiment of a review."""
    factor: float = 1.0
    """By which it multiplies the value of each word in its scope."""
    scope: int = 0
    """How many of the words that follow it are in its scope; 0: it is no modifier."""
    nests: bool = True
    """Whether it occurs, in random reviews, within the scope of another of its kind."""

    def __post_init__(self):
        if not self.text or self.text.split() != [self.text] or self.text in GAPS:
            raise ValueError(f"a word is written without spaces and is not a gap ({GAPS[0]}), got {self.text!r}")
        if isinstance(self.scope, bool) or int(self.scope) != self.scope or self.scope < 0:
            raise ValueError(f"scope is a whole number and cannot be negative, got {self.scope} of {self.text!r}")
        if self.factor != 1 and not self.scope:
            raise ValueError(f"{self.text!r} has a factor of {self.factor}, but no word in its scope: give it a scope")
        if not np.isfinite([self.value, self.factor]).all():
            raise ValueError(f"value and factor of {self.text!r} must be finite, got {self.value} and {self.factor}")


LANGUAGE = (
    Word("good", 1.0),
    Word("bad", -1.0),
    Word("awesome", 2.0),
    Word("awful", -2.0),
    Word("not", factor=-1.0, scope=4, nests=False),
    Word("very", factor=2.0, scope=1),
    *(Word(text) for text in ("the", "a", "and", "for", "it", "while")),
)
"""The words of the paper, six of them without an effect."""


@dataclasses.dataclass(frozen=True)
class ToySentiment:
    """Reviews of random words, whose sentiment is told after each word: the running sum of the words' effects.

    The effect of a word is its value times the factor of every modifier in whose scope it stands,

        target_t = Σ_{s ≤ t} value(x_s) · Π_{r < s, s − r ≤ scope(x_r)} factor(x_r),

    so that "not good" is −1, "very awesome" 4, "not very good" −2 and "very very good" 2. Words are drawn uniformly; one
    that does not nest and would stand in the scope of another of its kind is replaced by a random word that is no
    modifier. The toy language of Maheswaranathan & Sussillo (2020, arXiv:2004.08013).
    """

    words: tuple[Word, ...] = LANGUAGE
    """The language: its rules are these words, in the order of the inputs."""
    num_words: int = 50
    """Words T in a review."""

    def __post_init__(self):
        object.__setattr__(self, "words", tuple(self.words))
        if self.num_words < 1:
            raise ValueError(f"num_words must be at least 1, got {self.num_words}")
        if not all(isinstance(word, Word) for word in self.words):
            raise TypeError(f"words are of type Word, such as Word('good', 1.0), got {self.words}")
        texts = [word.text for word in self.words]
        if not texts or len(set(texts)) < len(texts):
            raise ValueError(f"expected different words, at least one, got {texts}")
        if not any(word.scope == 0 for word in self.words):
            raise ValueError("the language needs a word that is no modifier")

    @property
    def texts(self) -> tuple[str, ...]:
        """The words as they are written, in the order of the inputs."""
        return tuple(word.text for word in self.words)

    @property
    def rest(self) -> Float[np.ndarray, "U"]:
        """The input of a word without an effect, on average: the mean of their one-hot inputs, zeros where there are none.

        A one-hot input always sums to one, so that what the input zero does is a matter of convention: weights that are
        the same for all words may as well be part of the biases. Where a network is to be seen while nothing comes, hold
        this input.
        """
        neutral = np.array([word.value == 0 and not word.scope for word in self.words])
        return neutral / max(1, neutral.sum())

    def sample_words(self, key: PRNGKeyArray, batch_size: int) -> Int[Array, "B T"]:
        """Random reviews, as the number of each word in `words`."""
        word_key, other_key = jax.random.split(key)
        shape = (self.num_words, batch_size)
        drawn = jax.random.randint(word_key, shape, 0, len(self.words))
        lone = [i for i, word in enumerate(self.words) if word.scope and not word.nests]
        if lone:
            plain = jnp.array([i for i, word in enumerate(self.words) if not word.scope])
            others = plain[jax.random.randint(other_key, shape, 0, len(plain))]
            kinds, scopes = jnp.array(lone), jnp.array([self.words[i].scope for i in lone])

            def keep(left, xs):  # left [B, kinds]: how many of the next words are in the scope of the last of each kind
                word, other = xs
                is_kind = word[:, None] == kinds
                kept = is_kind & (left == 0)
                word = jnp.where((is_kind & ~kept).any(axis=1), other, word)
                return jnp.where(kept, scopes, jnp.maximum(left - 1, 0)), word

            _, drawn = jax.lax.scan(keep, jnp.zeros((batch_size, len(lone)), jnp.int32), (drawn, others))
        return drawn.swapaxes(0, 1)

    def effects(self, words: Int[Any, "*batch T"]) -> Float[Array, "*batch T"]:
        """What each word of a review adds to its sentiment; `words` are numbers, −1 is none.

        Raises:
            ValueError: where they are concrete, numbers that are no words.
        """
        words = jnp.asarray(words)
        concrete = words.size and not isinstance(words, jax.core.Tracer)
        if concrete and not -1 <= words.min() <= words.max() < len(self.words):
            raise ValueError(f"numbers of words lie in 0 … {len(self.words) - 1}, got {words.min()} … {words.max()}")
        effects = jnp.append(jnp.array([word.value for word in self.words], float), 0.0)[words]
        for number, modifier in enumerate(self.words):
            if modifier.scope and modifier.factor != 1:
                before = jnp.cumsum(words == number, axis=-1)
                earlier = jnp.pad(before, [(0, 0)] * (words.ndim - 1) + [(modifier.scope + 1, 0)])
                inside = earlier[..., modifier.scope : -1] - earlier[..., : -modifier.scope - 1]
                effects = effects * jnp.array(modifier.factor, float) ** inside
        return effects

    def trials(self, words: Int[Any, "B T"]) -> Trials:
        """Reviews as trials: one-hot inputs [B, T, words], targets [B, T, 1]. −1 is no word: zero input, mask 0."""
        words = jnp.asarray(words)
        inputs = jax.nn.one_hot(words, len(self.words))
        mask = (words >= 0)[..., None].astype(inputs.dtype)
        return Trials(inputs, jnp.cumsum(self.effects(words), axis=-1)[..., None], mask)

    def sample(self, key: PRNGKeyArray, batch_size: int) -> Trials:
        """Fresh reviews as trials; every step counts. Pure, and compiles inside `jax.jit`."""
        return self.trials(self.sample_words(key, batch_size))

    @no_type_check  # it checks its arguments itself
    def probe(self, *patterns: str, num_words: int | None = None, key: PRNGKeyArray | None = None) -> Trials:
        """Reviews that are given by patterns, such as "not good" or "not … … bad": one trial for each.

        Args:
            patterns: words with spaces between; "…" (or "...") stands for a word without an effect.
            num_words: length T to which shorter reviews are filled up with zero inputs of mask 0, so that probes of
                different lengths share one compiled program; None: the longest.
            key: words that gaps are filled with are drawn at random; None: all are the first without an effect.

        Raises:
            ValueError: no patterns, an empty or too long one, an unknown word, or a gap in a language without such words.
        """
        if not patterns:
            raise ValueError('expected patterns such as "not good", got none')
        reviews = [self.encode(pattern, key=k) for pattern, k in zip(patterns, self._keys(key, patterns), strict=True)]
        longest = max(map(len, reviews))
        num_words = longest if num_words is None else num_words
        if longest > num_words:
            raise ValueError(f"a pattern has {longest} words, more than num_words = {num_words}")
        return self.trials(np.stack([np.pad(r, (0, num_words - len(r)), constant_values=-1) for r in reviews]))

    @staticmethod
    def _keys(key: PRNGKeyArray | None, patterns: Sequence[Any]) -> Sequence[PRNGKeyArray | None]:
        return [None] * len(patterns) if key is None else list(jax.random.split(key, len(patterns)))

    @no_type_check  # it checks its arguments itself
    def encode(self, pattern: str, *, key: PRNGKeyArray | None = None) -> Int[np.ndarray, "T"]:
        """The numbers of the words of a pattern, as in `probe`.

        Raises:
            ValueError: as in `probe`.
        """
        if not isinstance(pattern, str):
            raise TypeError(f'a pattern is text, such as "not good", got {pattern!r}')
        written = pattern.split()
        if not written:
            raise ValueError("a pattern has no words")
        neutral = [i for i, word in enumerate(self.words) if word.value == 0 and not word.scope]
        gaps = np.array([text in GAPS for text in written])
        if gaps.any() and not neutral:
            raise ValueError(f"the pattern {pattern!r} has a gap, but every word of the language has an effect")
        unknown = [text for text in written if text not in (*self.texts, *GAPS)]
        if unknown:
            raise ValueError(f"unknown word {unknown[0]!r} in {pattern!r}; the words are {', '.join(self.texts)}")
        numbers = np.array([0 if gap else self.texts.index(text) for text, gap in zip(written, gaps, strict=True)])
        filling = neutral[:1] * len(written)
        if key is not None and gaps.any():
            filling = np.array(neutral)[jax.random.randint(key, (len(written),), 0, len(neutral))]
        return np.where(gaps, filling, numbers) if gaps.any() else numbers

    @no_type_check  # it checks its arguments itself
    def decode(self, reviews: Any) -> list[str]:
        """Reviews in words, of one-hot inputs [B, T, words] or numbers [B, T]; zero inputs and −1 are left out.

        Raises:
            ValueError: inputs that are neither.
        """
        reviews = np.asarray(reviews)
        if reviews.ndim == 3 and reviews.shape[-1] == len(self.words):
            if not (np.isin(reviews, (0, 1)).all() and (reviews.sum(axis=-1) <= 1).all()):
                raise ValueError("expected one-hot inputs [reviews, time, words], got other values than 0 and one 1")
            reviews = np.where(reviews.any(axis=-1), reviews.argmax(axis=-1), -1)
        if reviews.ndim != 2 or not np.issubdtype(reviews.dtype, np.integer):
            raise ValueError(
                f"expected one-hot inputs [reviews, time, {len(self.words)}] or numbers of words [reviews, time], got "
                f"shape {reviews.shape} of {reviews.dtype}"
            )
        if reviews.size and not -1 <= reviews.min() <= reviews.max() < len(self.words):
            raise ValueError(
                f"numbers of words lie in 0 … {len(self.words) - 1}, got {reviews.min()} … {reviews.max()}"
            )
        return [" ".join(self.texts[number] for number in review if number >= 0) for review in reviews]
