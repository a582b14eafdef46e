"""Candidates drawn from trajectories."""

import jax.numpy as jnp
import numpy as np
import pytest

from ctd_models.analysis import find_fixed_points
from ctd_models.analysis.fixed_points.sampling import sample_states

B, T, D = 6, 9, 3


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture
def trajectories():
    """Each entry says where it is: 100 trial + time, in every dimension."""
    where = 100.0 * np.arange(B)[:, None] + np.arange(T)
    return np.repeat(where[..., None], D, axis=-1)


def test_states_are_drawn_once_each_and_say_where_they_were(trajectories):
    sample = sample_states(trajectories, B * T, rng=rng(), with_indices=True)
    np.testing.assert_array_equal(sample.states[:, 0], 100 * sample.trials + sample.times)
    np.testing.assert_array_equal(np.sort(sample.states[:, 0]), np.sort(trajectories[..., 0].ravel()))
    assert (np.diff(sample.trials) < 0).any()  # in random order
    again = sample_states(trajectories, B * T, rng=rng())
    np.testing.assert_array_equal(again, sample.states)
    assert (sample_states(trajectories, B * T, rng=rng(1)) != again).any()
    many = sample_states(trajectories, 500, rng=rng(), replace=True)
    assert many.shape == (500, D)


def test_padding_is_never_drawn(trajectories):
    lengths = np.array([9, 4, 1, 0, 9, 2])
    mask = np.arange(T) < lengths[:, None]
    trajectories[~mask] = np.nan
    sample = sample_states(trajectories, lengths.sum(), rng=rng(), mask=mask, with_indices=True)
    assert np.isfinite(sample.states).all()
    np.testing.assert_array_equal(np.bincount(sample.trials, minlength=B), lengths)
    counts = np.bincount(sample_states(trajectories, 25_000, rng=rng(), mask=mask, replace=True)[:, 0].astype(int))
    drawn = counts[counts > 0]
    assert len(drawn) == 25
    assert np.abs(drawn - 1000).max() < 5 * np.sqrt(1000)  # equally likely, whatever the length of the trial


def test_noise_has_the_given_standard_deviation(trajectories):
    sample = sample_states(trajectories, 20_000, rng=rng(), noise=0.3, replace=True, with_indices=True)
    noise = sample.states - trajectories[sample.trials, sample.times]
    assert noise.std() == pytest.approx(0.3, rel=0.02)
    assert abs(noise.mean()) < 0.01
    np.testing.assert_allclose(np.corrcoef(noise.T), np.eye(D), atol=0.03)


def test_pytrees_keep_their_form_and_precision(trajectories):
    states = {"c": jnp.asarray(trajectories, jnp.float32), "h": (trajectories[..., :2], trajectories[..., 0])}
    sample = sample_states(states, 10, rng=rng(), noise=0.01, with_indices=True)
    assert sample.states["c"].shape == (10, D)
    assert sample.states["c"].dtype == np.float32
    assert sample.states["h"][0].shape == (10, 2)
    assert sample.states["h"][1].shape == (10,)
    for leaf in (sample.states["c"][:, 0], sample.states["h"][0][:, 1], sample.states["h"][1]):
        np.testing.assert_allclose(leaf, 100 * sample.trials + sample.times, atol=0.1)


def test_inputs_are_carried_along():
    """F(h, x) = h / 2 + x has its fixed point at 2 x: with the input of each drawn state it is twice that input."""
    inputs, states = rng(1).normal(size=(B, T, D)), rng(2).normal(size=(B, T, D))
    sample = sample_states(states, 20, rng=rng(), with_indices=True)
    points = find_fixed_points(lambda h, x: 0.5 * h + x, sample.states, inputs[sample.trials, sample.times])
    drawn = sample.trials[points.candidate_indices], sample.times[points.candidate_indices]
    np.testing.assert_allclose(points.states, 2 * inputs[drawn], atol=1e-10)
    assert len(points) == 20


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"states": np.zeros((4, 3))}, ValueError, r"expected states \[trials, time, d\], .* got shapes \[\(4, 3\)\]"),
        ({"states": (np.zeros((4, 3, 2)), np.zeros((4, 2, 2)))}, ValueError, r"\[\(4, 3, 2\), \(4, 2, 2\)\]"),
        ({"states": np.zeros((4, 3, 2), int)}, TypeError, "must be floats, got"),
        ({"states": np.full((4, 3, 2), np.nan)}, ValueError, "not finite at trial ., time .: mark what is valid"),
        ({"count": 13}, ValueError, "there are 12 valid states, fewer than the 13 to draw; pass replace=True"),
        ({"count": 0}, ValueError, "count must be a whole number"),
        ({"count": 2.5}, ValueError, "count must be a whole number"),
        ({"mask": np.ones((4, 2), bool)}, ValueError, r"of shape \(4, 3\), got shape \(4, 2\)"),
        ({"mask": np.ones((4, 3))}, TypeError, "the mask must hold booleans, got float64"),
        ({"mask": np.zeros((4, 3), bool), "replace": True}, ValueError, "there are 0 valid states"),
        ({"noise": -0.1}, ValueError, r"noise is a standard deviation and cannot be negative, got -0\.1"),
        ({"rng": 0}, TypeError, r"must be a numpy\.random\.Generator, got int"),
    ],
)
def test_bad_arguments(change, error, message):
    with pytest.raises(error, match=message):
        sample_states(**({"states": np.zeros((4, 3, 2)), "count": 5, "rng": rng()} | change))
