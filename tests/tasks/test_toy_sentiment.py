"""The toy language against its rules, written out word by word."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ctd_models.tasks import ToySentiment, Word

TASK = ToySentiment()


def sentiment_by_hand(review):
    """The running sentiment of a list of words, by a loop over words and modifiers."""
    values = {"good": 1, "bad": -1, "awesome": 2, "awful": -2}
    total, running = 0, []
    for t, word in enumerate(review):
        effect = values.get(word, 0)
        effect *= (-1) ** review[max(0, t - 4) : t].count("not")
        effect *= 2 ** review[max(0, t - 1) : t].count("very")
        total += effect
        running.append(total)
    return running


@pytest.fixture(scope="module")
def trials():
    return jax.jit(TASK.sample, static_argnums=1)(jax.random.key(0), 2_000)


def test_reviews_follow_the_rules(trials):
    assert trials.inputs.shape == (2_000, 50, 12)
    assert trials.targets.shape == trials.mask.shape == (2_000, 50, 1)
    assert (trials.mask == 1).all()
    reviews = [review.split() for review in TASK.decode(trials.inputs)]
    assert all(len(review) == 50 for review in reviews)
    expected = np.array([sentiment_by_hand(review) for review in reviews])
    np.testing.assert_array_equal(trials.targets[..., 0], expected)
    for review in reviews:
        places = np.flatnonzero(np.array(review) == "not")
        assert (np.diff(places) > 4).all()
    assert any("very very" in " ".join(review) for review in reviews)


def test_words_are_uniform_but_for_replaced_modifiers(trials):
    """ "not" is kept where none is in force: with p = 1/12 a renewal process of mean spacing 4 + 12 words."""
    counts = np.asarray(trials.inputs).sum(axis=(0, 1))
    first = np.asarray(trials.inputs[:, 0]).mean(axis=0)
    assert np.abs(first - 1 / 12).max() < 5 * np.sqrt(1 / 12 / 2_000)
    late = np.asarray(trials.inputs[:, 25:, TASK.texts.index("not")]).mean()
    assert abs(late - 1 / 16) < 0.003
    plain = [i for i, word in enumerate(TASK.words) if not word.scope]
    assert np.ptp(counts[plain]) / counts[plain].mean() < 0.07


@pytest.mark.parametrize(
    ("pattern", "sentiment"),
    [
        ("not good", -1),
        ("very awesome", 4),
        ("very awful", -4),
        ("very very good", 2),
        ("not very good", -2),
        ("very not good", -1),
        ("not … … … bad", 1),
        ("not ... ... ... ... bad", -1),
        ("not not bad", -1),
    ],
)
def test_probes_have_the_sentiment_of_the_paper(pattern, sentiment):
    trials = TASK.probe(pattern, num_words=9)
    assert trials.inputs.shape == (1, 9, 12)
    length = int(trials.mask.sum())
    assert trials.targets[0, length - 1, 0] == sentiment
    assert TASK.decode(trials.inputs) == [pattern.replace("…", "the").replace("...", "the")]
    assert not trials.inputs[0, length:].any()


def test_gaps_are_filled_at_random_with_words_without_effect():
    trials = TASK.probe(*["not … … bad"] * 50, key=jax.random.key(1))
    words = {word for review in TASK.decode(trials.inputs) for word in review.split()[1:3]}
    assert words == {"the", "a", "and", "for", "it", "while"}
    assert (trials.targets[:, -1] == 1).all()


def test_probes_of_different_length_share_a_program(compilations):
    run = jax.jit(lambda inputs: inputs.sum())
    run(TASK.probe("good", num_words=8).inputs)
    probes = [TASK.probe(pattern, num_words=8) for pattern in ("not good", "very … awful", "awesome bad not")]
    with compilations:
        for probe in probes:
            run(probe.inputs)
    assert compilations.count == 0


def test_a_language_of_ones_own():
    words = (Word("up", 1.0), Word("down", -1.0), Word("thrice", factor=3.0, scope=2), Word("hm"))
    task = dataclasses.replace(TASK, words=words, num_words=6)
    np.testing.assert_array_equal(task.probe("thrice up down down").targets[0, :, 0], [0, 3, 0, -1])
    assert task.sample(jax.random.key(0), 3).inputs.shape == (3, 6, 4)
    np.testing.assert_array_equal(task.effects(jnp.array([[2, 2, 0, -1]])), [[0, 0, 9, 0]])


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: Word("not good"), "without spaces"),
        (lambda: Word("…"), "gap"),
        (lambda: Word("x", scope=-1), "cannot be negative"),
        (lambda: Word("un", factor=-1.0), "no word in its scope"),
        (lambda: TASK.effects(np.array([[12, 0]])), "lie in 0 … 11, got 0 … 12"),
        (lambda: TASK.trials(np.array([[-2, 0]])), "lie in 0 … 11"),
        (lambda: Word("x", value=float("nan")), "must be finite"),
        (lambda: ToySentiment(num_words=0), "num_words must be at least 1"),
        (lambda: ToySentiment(words=(Word("a"), Word("a"))), "different words"),
        (lambda: ToySentiment(words=(Word("a", scope=1),)), "no modifier"),
        (lambda: TASK.probe(), "got none"),
        (lambda: TASK.probe(" "), "has no words"),
        (lambda: TASK.probe("not decent"), "unknown word 'decent'"),
        (lambda: TASK.probe("good bad", num_words=1), "2 words, more than num_words = 1"),
        (lambda: ToySentiment(words=(Word("a", 1.0),)).probe("… a"), "every word of the language has an effect"),
        (lambda: TASK.decode(np.ones((1, 2, 12))), "one-hot"),
        (lambda: TASK.decode(np.full((1, 2), 12)), "lie in 0 … 11"),
        (lambda: TASK.decode(np.zeros((1, 2))), "expected one-hot inputs"),
    ],
)
def test_bad_input_is_refused(act, message):
    with pytest.raises(ValueError, match=message):
        act()


def test_patterns_are_text():
    with pytest.raises(TypeError, match="a pattern is text"):
        TASK.probe(["not good"])
