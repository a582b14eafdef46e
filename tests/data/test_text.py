"""Reading labelled sentences, and turning them into numbers of words."""

import numpy as np
import pytest

from ctd_models.data import Vocabulary, last_word, load_labelled_text, tokenize


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_files_of_a_folder_in_order(tmp_path):
    write(tmp_path / "b.tsv", "Fine.\t1\r\n\r\n  \nA tab\tinside \t0\n")
    write(tmp_path / "a.txt", "\ufeffNo good!\t0")
    write(tmp_path / "readme.md", "nothing to read")
    found = load_labelled_text(tmp_path)
    assert found.texts == ("No good!", "Fine.", "A tab\tinside")
    np.testing.assert_array_equal(found.labels, [0, 1, 0])
    assert found.sources == ("a.txt", "b.tsv", "b.tsv")
    assert "3 sentences of 2 files, 33.3 % of label 1" in repr(found)
    assert load_labelled_text(tmp_path / "b.tsv").texts == found.texts[1:]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("good\t1\nno label\n", "a.txt, line 2: expected text, a tab, and the label 0 or 1, got 'no label'"),
        ("good\t1\nbad\t2\n", "a.txt, line 2"),
        ("good\t1\n \t0\n", "a.txt, line 2"),
        ("good\t1\nfine\t1\n", "all 2 sentences of a.txt have the label 1"),
        ("\n\n", "there are no sentences"),
        (b"good\t1\ncaf\xe9 good\t1\n", r"a.txt, line 2: this is not utf-8 \(byte 0xe9\)"),
    ],
)
def test_bad_files_are_refused(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        load_labelled_text(write(tmp_path / "a.txt", content))


def test_another_encoding_and_a_missing_file(tmp_path):
    path = write(tmp_path / "a.txt", b"caf\xe9\t1\nno\t0\n")
    assert load_labelled_text(path, encoding="latin-1").texts[0] == "café"
    with pytest.raises(ValueError, match="no encoding 'klingon'"):
        load_labelled_text(path, encoding="klingon")
    carriage = write(tmp_path / "mac.txt", "good\t1\rbad\t0\r\nfine\t1\nno\t0")
    assert load_labelled_text(carriage).texts == ("good", "bad", "fine", "no")
    with pytest.raises(FileNotFoundError, match=r"no files \*.txt"):
        load_labelled_text(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Not GOOD, really!", ["not", "good", "really", "!"]),
        ("It isn't, I can’t; won't.", ["it", "is", "not", "i", "can", "not", "will", "not"]),
        ("5/10 -- the café's best_ever?", ["5", "10", "the", "café's", "best", "ever", "?"]),
        ("I did n't; n't", ["i", "did", "not", "not"]),
        (" ... ", []),
    ],
)
def test_words_of_a_text(text, words):
    assert tokenize(text) == words


def test_vocabulary_orders_by_frequency_and_knows_what_it_does_not_know():
    vocabulary = Vocabulary.of(["b a b", "c b a"], min_count=2)
    assert vocabulary.words == ("", "<unknown>", "b", "a") and len(vocabulary) == 4
    assert "b" in vocabulary and "c" not in vocabulary and "" not in vocabulary
    tokens = vocabulary.encode(["a c b", "?!.", "..."], 4)
    np.testing.assert_array_equal(tokens, [[3, 1, 2, 0], [1, 1, 0, 0], [1, 0, 0, 0]])
    assert tokens.dtype == np.int32
    assert vocabulary.decode(tokens) == ["a <unknown> b", "<unknown> <unknown>", "<unknown>"]
    np.testing.assert_array_equal(vocabulary.encode(["a b a b"], 2), [[3, 2]])
    np.testing.assert_array_equal(last_word(tokens).argmax(axis=1), [2, 1, 0])
    assert Vocabulary.of(["b a b", "c b a"], max_size=1).words == ("", "<unknown>", "b")
    with pytest.raises(KeyError, match="does not hold 'c'"):
        vocabulary.number("c")


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda v: v.encode([]), "no texts"),
        (lambda v: v.encode(["a"], 0), "at least 1"),
        (lambda v: Vocabulary(("a", "b")), "the first two"),
        (lambda v: last_word(np.array([[2, 0], [0, 0]])), "text 1 is nothing but padding"),
        (lambda v: last_word([2, 0]), r"\[texts, time\]"),
        (lambda v: v.decode([[3]]), r"0 … 2"),
        (lambda v: Vocabulary.of(["a"], max_size=-1), "max_size cannot be negative"),
    ],
)
def test_bad_input_is_refused(act, message):
    with pytest.raises(ValueError, match=message):
        act(Vocabulary.of(["a"]))
    with pytest.raises(TypeError, match="one string"):
        Vocabulary.of(["a"]).encode("a")
    with pytest.raises(TypeError, match="one string"):
        Vocabulary.of("a")
    np.testing.assert_array_equal(last_word([[2, 0, 2, 0]]), [[False, False, True, False]])


def test_real_sentences_are_read(data_folder):
    found = load_labelled_text(data_folder / "uci_sentiment")
    assert len(found) == 3_000 and found.labels.sum() == 1_500
    vocabulary = Vocabulary.of(found.texts)
    assert {"good", "not", "very", "terrible"} <= set(vocabulary.words)
    assert (vocabulary.encode(found.texts) != 1).all()
