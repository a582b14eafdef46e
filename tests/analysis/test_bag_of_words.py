"""Linear readers of words against loops and closed forms."""

import numpy as np
import pytest
import scipy.sparse

from ctd_models.analysis import fit_logistic, word_features

TOKENS = np.array([[2, 4, 3, 3, 0, 0], [4, 4, 2, 5, 3, 2]])
PROFILE = np.array([-2.0, -1.0])  # of word 4, over two words


def by_loops(running):
    rows = []
    for text in TOKENS:
        total = np.zeros((2, 6))
        for t, word in enumerate(text):
            if word != 0:
                total[0, word] += 1
                for lag, value in enumerate(PROFILE, 1):
                    if t - lag >= 0 and text[t - lag] == 4:
                        total[1, word] += value
            if running or t == len(text) - 1:
                rows.append(total.ravel().copy())
    return np.array(rows)


@pytest.mark.parametrize("running", [False, True])
def test_features_count_words_and_words_under_a_modifier(running):
    features = word_features(TOKENS, 6, {4: PROFILE}, running=running, padding=0)
    np.testing.assert_array_equal(features.toarray(), by_loops(running))


def test_plain_counts():
    counts = word_features(TOKENS, 6).toarray()
    np.testing.assert_array_equal(counts, [np.bincount(text, minlength=6) for text in TOKENS])
    np.testing.assert_array_equal(word_features(np.array([[-1, 1]]), 2).toarray(), [[0, 1]])


def test_a_profile_may_be_longer_than_the_texts():
    assert word_features(TOKENS[:, :2], 6, {4: np.ones(9)}).shape == (2, 12)


def test_logistic_regression_is_at_its_minimum():
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(60, 5)), rng.integers(0, 2, 60)
    for given in (features, scipy.sparse.csr_array(features)):
        model = fit_logistic(given, labels, penalty=0.5)
        errors = labels - 1 / (1 + np.exp(-model.log_odds(given)))
        np.testing.assert_allclose(features.T @ errors, 0.5 * model.weights, atol=1e-5)
        assert errors.sum() == pytest.approx(0, abs=1e-5)
    other = fit_logistic(1e6 * features, labels, penalty=0.5e12)  # the same in other units
    np.testing.assert_allclose(1e6 * other.weights, model.weights, rtol=1e-4)


def test_logistic_regression_of_one_binary_feature_gives_log_odds():
    labels = np.repeat([0, 1, 0, 1], [30, 10, 5, 15])
    feature = np.repeat([0.0, 0.0, 1.0, 1.0], [30, 10, 5, 15])[:, None]
    model = fit_logistic(feature, labels, penalty=1e-6)
    assert model.bias == pytest.approx(np.log(10 / 30), abs=1e-3)
    assert model.bias + model.weights[0] == pytest.approx(np.log(15 / 5), abs=1e-3)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: word_features(TOKENS[0], 6), r"\[texts, time\]"),
        (lambda: word_features(TOKENS, 5), "number 5, but there are 5"),
        (lambda: word_features(TOKENS, 6, {4: []}), "expected a profile"),
        (lambda: word_features(TOKENS, 6, {9: [1.0]}), "modifier 9 is no number of a word"),
        (lambda: fit_logistic(np.full((2, 2), np.nan), [0, 1]), "not finite"),
        (lambda: fit_logistic(np.ones((3, 2)), [0, 1]), "expected features"),
        (lambda: fit_logistic(np.ones((2, 2)), [1, 1]), "both of them"),
        (lambda: fit_logistic(np.ones((2, 2)), [-1, 1]), "labels 0 and 1"),
        (lambda: fit_logistic(np.ones((2, 2)), [0, 1], penalty=0.0), "penalty must be positive"),
    ],
)
def test_bad_input_is_refused(act, message):
    with pytest.raises(ValueError, match=message):
        act()
