"""Labelled sentences: reading them, and turning them into numbers of words."""

import codecs
import dataclasses
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, no_type_check

import numpy as np
from jaxtyping import Bool, Int

PADDING, UNKNOWN = 0, 1
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*|[!?]")
_NEGATED = {"can't": ("can", "not"), "cannot": ("can", "not"), "won't": ("will", "not"), "shan't": ("shall", "not")}


@dataclasses.dataclass(frozen=True)
class LabelledText:
    """Sentences with a label each."""

    texts: tuple[str, ...]
    """The sentences."""
    labels: Int[np.ndarray, "n"]
    """0 or 1."""
    sources: tuple[str, ...]
    """Name of the file that each is from."""

    def __len__(self) -> int:
        return len(self.texts)

    def __repr__(self) -> str:
        share = 100 * self.labels.mean() if len(self) else 0
        return f"LabelledText: {len(self):,} sentences of {len(set(self.sources))} files, {share:.1f} % of label 1"


@no_type_check  # it checks its arguments itself
def load_labelled_text(path: str | os.PathLike, *, encoding: str = "utf-8") -> LabelledText:
    """Sentences and labels of a file, or of all files *.txt and *.tsv of a folder in the order of their names.

    Every line is a sentence, a tab and its label, 0 or 1. Empty lines are left out; the last tab of a line is the one that
    counts; lines may end in any of the usual ways.

    Raises:
        FileNotFoundError: there is no such file, or no file in the folder.
        ValueError: bytes that are not of this encoding, a line without tab, text or known label (with file and line), no
            sentences, or only one of the labels.
    """
    path = Path(path)
    files = [path] if path.is_file() else sorted(p for p in path.glob("*") if p.suffix in (".txt", ".tsv"))
    if not files:
        raise FileNotFoundError(f"no file of text {path}, and no files *.txt or *.tsv in a folder of that name")
    texts, labels, sources = [], [], []
    for file in files:
        lines = _lines(file, encoding)
        for number, line in enumerate(lines, 1):
            text, tab, label = line.rpartition("\t")
            if not line.strip():
                continue
            if not tab or not text.strip() or label.strip() not in ("0", "1"):
                raise ValueError(
                    f"{file}, line {number}: expected text, a tab, and the label 0 or 1, got {line[:80]!r}"
                )
            texts.append(text.strip())
            labels.append(int(label))
            sources.append(file.name)
    if not texts:
        raise ValueError(f"there are no sentences in {', '.join(map(str, files))}")
    if len(set(labels)) < 2:
        raise ValueError(
            f"all {len(labels)} sentences of {', '.join(f.name for f in files)} have the label {labels[0]}: nothing can be "
            "learned from one class"
        )
    return LabelledText(tuple(texts), np.array(labels), tuple(sources))


def _lines(file: Path, encoding: str) -> list[str]:
    content = file.read_bytes().removeprefix(codecs.BOM_UTF8)
    try:
        text = content.decode(encoding)
    except LookupError as error:
        raise ValueError(f"there is no encoding {encoding!r}") from error
    except UnicodeDecodeError as error:
        line = 1 + content[: error.start].count(b"\n")
        raise ValueError(
            f"{file}, line {line}: this is not {encoding} (byte {content[error.start]:#04x}); pass its encoding=, such as "
            '"latin-1"'
        ) from error
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def tokenize(text: str) -> list[str]:
    """The words of a text in lower case, "!" and "?" among them; other punctuation is left out.

    Negations are words of their own: "isn't" and "is n't" are "is", "not".
    """
    words = []
    for word in _WORD.findall(text.lower().replace("’", "'")):
        if word in _NEGATED:
            words.extend(_NEGATED[word])
        elif word.endswith("n't"):
            words.extend((*filter(None, [word[:-3]]), "not"))
        else:
            words.append(word)
    return words


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """The words that a model knows, with their numbers: 0 is padding, 1 any unknown word."""

    words: tuple[str, ...]
    """Words by number; the first two are "" and "<unknown>"."""

    def __post_init__(self):
        object.__setattr__(self, "words", tuple(self.words))
        if self.words[:2] != ("", "<unknown>") or len(set(self.words)) < len(self.words):
            raise ValueError('a vocabulary is different words, "" and "<unknown>" the first two')
        object.__setattr__(self, "_numbers", {word: number for number, word in enumerate(self.words)})

    @classmethod
    @no_type_check  # it checks its arguments itself
    def of(cls, texts: Iterable[str], *, min_count: int = 1, max_size: int | None = None) -> "Vocabulary":
        """The words that occur at least `min_count` times, the most frequent first, at most `max_size` of them.

        Raises:
            TypeError: one string instead of several.
            ValueError: a negative max_size.
        """
        if isinstance(texts, str):
            raise TypeError("expected several texts, got one string: pass [text]")
        if max_size is not None and max_size < 0:
            raise ValueError(f"max_size cannot be negative, got {max_size}")
        counts = Counter(word for text in texts for word in tokenize(text))
        frequent = sorted(
            (word for word, n in counts.items() if n >= min_count), key=lambda word: (-counts[word], word)
        )
        return cls(("", "<unknown>", *frequent[:max_size]))

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: str) -> bool:
        return self._numbers.get(word, PADDING) > UNKNOWN

    def number(self, word: str) -> int:
        """The number of a word.

        Raises:
            KeyError: it is not among the words.
        """
        if word not in self:
            raise KeyError(f"the vocabulary of {len(self)} words does not hold {word!r}")
        return self._numbers[word]

    @no_type_check  # it checks its arguments itself
    def encode(self, texts: Sequence[str], num_words: int | None = None) -> Int[np.ndarray, "n T"]:
        """Numbers of the words of each text, filled up with padding.

        A text without any word is one unknown word, so that there is something to read.

        Args:
            texts: the texts.
            num_words: T; longer texts lose their ends. None: the longest.

        Raises:
            TypeError: one string instead of several.
            ValueError: no texts, or num_words below 1.
        """
        if isinstance(texts, str):
            raise TypeError("expected several texts, got one string: pass [text]")
        numbers = [[self._numbers.get(word, UNKNOWN) for word in tokenize(text)] or [UNKNOWN] for text in texts]
        if not numbers:
            raise ValueError("there are no texts")
        if num_words is not None and num_words < 1:
            raise ValueError(f"num_words must be at least 1, got {num_words}")
        num_words = num_words or max(map(len, numbers))
        tokens = np.full((len(numbers), num_words), PADDING, np.int32)
        for row, words in zip(tokens, numbers, strict=True):
            row[: len(words)] = words[:num_words]
        return tokens

    @no_type_check  # it checks its arguments itself
    def decode(self, tokens: Int[Any, "n T"]) -> list[str]:
        """Texts of numbers, words with spaces between and without padding.

        Raises:
            ValueError: tokens are not [n, T], or not numbers of words.
        """
        tokens = np.asarray(tokens)
        if tokens.ndim != 2 or (tokens.size and not 0 <= tokens.min() <= tokens.max() < len(self)):
            raise ValueError(f"expected numbers of words [texts, time], 0 … {len(self) - 1}, got shape {tokens.shape}")
        return [" ".join(self.words[number] for number in row if number != PADDING) for row in np.asarray(tokens)]


@no_type_check  # it checks its arguments itself
def last_word(tokens: Int[Any, "n T"]) -> Bool[np.ndarray, "n T"]:
    """True at the last word of each text that is no padding.

    Raises:
        ValueError: tokens are not [n, T], or a text is nothing but padding.
    """
    tokens = np.asarray(tokens)
    if tokens.ndim != 2:
        raise ValueError(f"expected numbers of words [texts, time], got shape {tokens.shape}")
    there = tokens != PADDING
    if not (found := there.any(axis=1)).all():
        raise ValueError(f"text {int(np.argmin(found))} is nothing but padding")
    last = tokens.shape[1] - 1 - there[:, ::-1].argmax(axis=1)
    return np.arange(tokens.shape[1]) == last[:, None]
