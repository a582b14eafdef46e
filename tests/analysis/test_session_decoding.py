"""Decoders across sessions."""

import numpy as np
import pytest

from ctd_models.analysis import decode_each_session, decode_sessions, fit_smoothed_decoder, r2_score, session_r2

TRIALS, BINS = 30, 8


def sessions(rng, rotate=()):
    """Features that hold the behaviour in every session; those in `rotate` have it in other coordinates."""
    numbers = np.repeat(np.arange(3), TRIALS)
    targets = rng.normal(size=(3 * TRIALS, BINS, 2))
    features = np.concatenate([targets, rng.normal(size=(3 * TRIALS, BINS, 1))], axis=2)
    features += 0.1 * rng.normal(size=features.shape)
    for number in rotate:
        features[numbers == number] = features[numbers == number][..., [2, 0, 1]]
    parts = [np.flatnonzero(np.arange(3 * TRIALS) % 3 == part) for part in range(3)]
    return features, targets, numbers, *parts


def test_aligned_sessions_share_a_decoder_and_others_do_not():
    found = decode_sessions(*sessions(np.random.default_rng(0)), lags=[0], num_resamples=0)
    assert found.shared.median > 0.97 and found.unseen.median > 0.97 and found.across.min() > 0.95
    features, targets, numbers, *parts = sessions(np.random.default_rng(0), rotate=[2])
    found = decode_sessions(features, targets, numbers, *parts, lags=[0], num_resamples=0)
    assert found.own.median > 0.97 and found.shared.r2[2].max() < 0.7
    assert found.unseen.r2[2].max() < 0.1 and found.across[0, 2].max() < 0.1 and found.across[0, 1].min() > 0.95
    np.testing.assert_allclose(found.across[[0, 1, 2], [0, 1, 2]], found.own.r2)
    test = parts[2][numbers[parts[2]] == 1]
    expected = r2_score(targets[test], found.decoder.predict(features[test]))
    assert found.shared.r2[1].mean() == pytest.approx(expected)
    own = decode_each_session(features, targets, numbers, *parts, lags=[0], num_resamples=0)
    np.testing.assert_allclose(own.r2, found.own.r2)
    smoothed = decode_each_session(
        features, targets, numbers, *parts, fit=fit_smoothed_decoder, widths=[0.1], lags=[0], num_resamples=0
    )
    np.testing.assert_allclose(smoothed.r2, own.r2)  # so narrow that nothing is smoothed
    off = found.across[~np.eye(3, dtype=bool)]
    assert found.across_median == np.median(off)


def test_intervals_by_resampling_have_the_width_that_repeated_experiments_have():
    """The standard deviation over fresh test sets of the same size, against that over resamples of one."""

    def experiment(seed):
        rng = np.random.default_rng(seed)
        y = rng.normal(size=(40, 5, 1)) + rng.normal(size=(40, 1, 1))
        return y, y + rng.normal(size=(40, 1, 1)), np.zeros(40, int)

    fresh = np.std([session_r2(*experiment(seed)).median for seed in range(300)])
    one = session_r2(*experiment(0), num_resamples=4000, rng=np.random.default_rng(1))
    assert one.resampled[:, 0, 0].std() == pytest.approx(fresh, rel=0.35)
    low, high = one.interval()
    assert low < one.median < high and "95 % in" in repr(one)
    y, p, s = experiment(0)
    drawn = np.random.default_rng(1).multinomial(40, np.full(40, 1 / 40), 1)[0]
    again = np.repeat(np.arange(40), drawn)
    assert one.resampled[0, 0, 0] == pytest.approx(session_r2(y[again], p[again], s).median)


def flat(targets, trials):
    targets[trials] = 0.1
    return targets


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f, y, s, *p: (f, y, np.zeros(len(s), int), *p), "two sessions or more, got 1"),
        (lambda f, y, s, a, b, c: (f, y, s, a, b, c[s[c] != 1]), r"sessions \[1\] have no test trials"),
        (lambda f, y, s, a, b, c: (f, y, s, a, b, np.r_[c, a[:2]]), "test trials .* are also to train"),
        (lambda f, y, s, a, b, c: (f, flat(y, c[s[c] == 2]), s, a, b, c), "dimension 0 .* does not vary in session 2"),
    ],
)
def test_bad_input(change, message):
    with pytest.raises(ValueError, match=message):
        decode_sessions(*change(*sessions(np.random.default_rng(0))), lags=[0], num_resamples=0)


def test_masks_are_not_indices():
    features, targets, numbers, _, validation, test = sessions(np.random.default_rng(0))
    with pytest.raises(TypeError, match="are indices of trials"):
        decode_sessions(features, targets, numbers, numbers == 0, validation, test)


def test_bad_predictions():
    y = np.random.default_rng(0).normal(size=(4, 3, 2))
    with pytest.raises(ValueError, match="one session a trial"):
        session_r2(y, y[:3], np.zeros(4, int))
    with pytest.raises(ValueError, match="must be finite"):
        session_r2(y, np.where(y == y[0, 0, 0], np.nan, y), np.zeros(4, int))
    with pytest.raises(ValueError, match="needs rng"):
        session_r2(y, y, np.zeros(4, int), num_resamples=3)
    with pytest.raises(ValueError, match="expected resampled trials"):
        session_r2(y, y, np.zeros(4, int)).interval()
