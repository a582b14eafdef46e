"""Populations that share their latents, and such that do not."""

import numpy as np
import pytest

from ctd_models.analysis import cca, compare_latents

CONDITIONS, TIME = 20, 12


def rng(seed=0):
    return np.random.default_rng(seed)


def smooth(seed, latents=3):
    """Latents of each condition that change slowly."""
    waves = np.sin(np.linspace(0, 3, TIME)[:, None] * np.arange(1, latents + 1) + rng(seed).uniform(0, 6, latents))
    return rng(seed + 50).normal(size=(CONDITIONS, 1, latents)) * waves


def test_the_same_latents_seen_by_other_neurons_are_found_again():
    latents = smooth(0)
    X, Y = latents @ rng(1).normal(size=(3, 30)) + 2, latents @ rng(2).normal(size=(3, 12))
    found = compare_latents(X, Y, 3, rng=rng(), num_shuffles=39)
    np.testing.assert_allclose(found.correlations, 1, atol=1e-9)
    np.testing.assert_allclose(found.held_out, 1, atol=1e-9)
    assert found.null.shape == (39, 3) and found.null.mean() < 0.6
    assert found.p_value == 1 / 40
    np.testing.assert_allclose(found.explained, 1)


def test_a_rotated_population_is_the_same_to_procrustes():
    latents = smooth(0) * [3.0, 2.0, 1.0]
    Q, R = (np.linalg.qr(rng(s).normal(size=(n, 3)))[0].T for s, n in ((1, 30), (2, 12)))
    found = compare_latents(latents @ Q, 5 * latents @ R - 1, 3, rng=rng(), num_shuffles=20)
    assert found.disparity < 1e-12 < 0.5 < found.null_disparity.min()


def test_independent_populations_correlate_when_fitted_but_not_on_unseen_conditions():
    """The bias that held-out conditions and shuffles are there for."""
    fits, unseen, chances, ps = [], [], [], []
    for seed in range(10):
        found = compare_latents(smooth(seed), smooth(100 + seed), 3, rng=rng(), num_shuffles=39)
        fits.append(found.correlations.mean())
        unseen.append(found.held_out.mean())
        chances.append(found.null.mean())
        ps.append(found.p_value)
    assert np.mean(fits) > 0.1 > 0.05 > abs(np.mean(unseen))
    assert np.mean(fits) == pytest.approx(np.mean(chances), abs=0.06)
    assert 0.2 < np.mean(ps) < 0.8  # uniform


def test_a_common_time_course_is_not_a_shared_code():
    """Populations that differ in everything but a strong time course: its correlation is there with shuffled conditions
    too, and goes with the mean over conditions."""
    course = 10 * np.sin(np.linspace(0, 3, TIME))[:, None]
    X, Y = smooth(0) @ rng(1).normal(size=(3, 8)) + course, smooth(7) @ rng(2).normal(size=(3, 8)) + course
    both = compare_latents(X, Y, 1, rng=rng(), num_shuffles=39)
    assert both.correlations[0] > 0.8 and both.null.mean() > 0.8 and both.p_value > 0.05
    own = compare_latents(X, Y, 1, rng=rng(), num_shuffles=39, subtract_mean=True)
    assert abs(own.held_out[0]) < 0.6 and own.correlations[0] < 0.8
    shared = compare_latents(X, smooth(0) @ rng(3).normal(size=(3, 8)) - course, 3, rng=rng(), subtract_mean=True)
    np.testing.assert_allclose(shared.correlations, 1, atol=1e-9)
    np.testing.assert_allclose(shared.held_out, 1, atol=1e-6)


def test_correlations_are_those_of_cca_on_all_dimensions():
    X, Y = rng(0).normal(size=(2, CONDITIONS, TIME, 4))
    found = compare_latents(X, Y, 4, rng=rng(), num_shuffles=5)
    np.testing.assert_allclose(found.correlations, cca(X, Y).correlations, atol=1e-10)
    assert "4 latents, mean canonical correlation" in repr(found)


@pytest.mark.parametrize(
    ("X", "Y", "options", "message"),
    [
        (np.ones((4, 5, 3)), np.ones((4, 6, 3)), {}, r"got shapes \(4, 5, 3\) and \(4, 6, 3\)"),
        (np.ones((2, 5, 3)), np.ones((2, 5, 3)), {}, "3 or more conditions"),
        (rng().normal(size=(4, 5, 3)), rng().normal(size=(4, 5, 3)), {"num_folds": 1}, "at least 2, got 1"),
        (
            rng().normal(size=(4, 5, 3)),
            rng().normal(size=(4, 5, 3)),
            {"num_folds": 2, "num_shuffles": 0},
            "num_shuffles",
        ),
        (
            smooth(0) @ rng().normal(size=(3, 5)),
            smooth(0, 4),
            {"num_components": 4},
            "only 3 components of 5 units vary, 4 are asked for",
        ),
        (np.full((4, 5, 3), np.nan), np.ones((4, 5, 3)), {}, r"X hold nan at index \(0, 0, 0\)"),
    ],
)
def test_what_does_not_fit_is_named(X, Y, options, message):
    with pytest.raises(ValueError, match=message):
        compare_latents(X, Y, rng=rng(), **{"num_components": 2, "num_folds": 4} | options)
