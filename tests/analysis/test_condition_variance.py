"""Variance by condition: parts that add up, and shares that are built in."""

import numpy as np
import pytest

from ctd_models.analysis import condition_means, condition_variance


def uneven(units=3):
    """Any activity, with different numbers of trials of the conditions."""
    rng = np.random.default_rng(0)
    conditions = np.array([4, 1, 1, 7, 4, 1, 1, 1, 7, 4, 4])
    return rng.normal(size=(11, 6, units)) + rng.normal(size=(8, 6, units))[conditions] + 5, conditions


def test_parts_add_up_to_the_variance_exactly_whatever_the_numbers_of_trials():
    activity, conditions = uneven()
    found = condition_variance(activity, conditions)
    np.testing.assert_allclose(found.total, activity.var(axis=(0, 1)), rtol=1e-12)
    assert sum(found.shares.values()) == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(found.condition_course.mean(axis=0), found.condition + found.interaction, rtol=1e-12)
    at_each_time = activity.var(axis=0)  # between trials
    np.testing.assert_allclose(found.condition_course + found.residual_course, at_each_time, rtol=1e-12)
    np.testing.assert_allclose(found.time_course.mean(axis=0), found.time, rtol=1e-12)
    np.testing.assert_allclose(found.residual_course.mean(axis=0), found.residual, rtol=1e-12)
    np.testing.assert_allclose(found.time, activity.mean(axis=0).var(axis=0), rtol=1e-12)


def test_shares_that_are_built_in():
    """One unit a part; a last unit has all four, of variances 9, 4, 1 and 0.25, in orthogonal signals of ±1."""
    conditions = np.repeat([0, 1], 4)
    time, of_condition, single = np.tile([1.0, -1.0], 3), np.where(conditions, 1.0, -1.0), np.tile([1.0, -1.0], 4)
    signals = np.stack(
        [
            np.tile(time, (8, 1)),
            np.tile(of_condition[:, None], 6),
            np.outer(of_condition, time),
            np.tile(single[:, None], 6),
        ],
        axis=-1,
    )
    mixed = signals @ np.array([3.0, 2.0, 1.0, 0.5])
    found = condition_variance(np.concatenate([signals, mixed[..., None]], axis=-1), conditions)
    parts = np.stack([found.time, found.condition, found.interaction, found.residual])
    np.testing.assert_allclose(parts, np.c_[np.eye(4), [9, 4, 1, 0.25]], atol=1e-12)
    assert found.shares["time"] == pytest.approx((1 + 9) / (4 + 14.25))
    assert "time 54.8 %" in repr(found)


def test_an_epoch_and_a_scale():
    activity, conditions = uneven()
    whole, late = (condition_variance(a, conditions) for a in (activity, activity[:, 3:]))
    np.testing.assert_allclose(late.condition_course, whole.condition_course[3:])
    np.testing.assert_allclose(condition_variance(3 * activity + 1, conditions).residual, 9 * whole.residual)
    labels, averages = condition_means(activity, conditions)
    only = condition_variance(averages, labels)  # averages have no single trials
    np.testing.assert_array_equal(only.residual, 0)


def test_noise_alone_leaks_one_part_in_the_number_of_trials():
    """What the docstring says: of n trials in each condition, 1/n of the noise is left in the averages."""
    noise = np.random.default_rng(0).normal(size=(40, 50, 200))
    found = condition_variance(noise, np.repeat(np.arange(10), 4))
    in_averages = found.time + found.condition + found.interaction
    assert (in_averages / found.total).mean() == pytest.approx(1 / 4, rel=0.02)


def test_what_does_not_fit_is_named():
    activity, conditions = uneven()
    with pytest.raises(ValueError, match=r"\[trials, time, units\] with no empty axis, got shape \(11, 6\)"):
        condition_variance(activity[..., 0], conditions)
    with pytest.raises(ValueError, match=r"one condition for each of 11 trials, got shape \(10,\)"):
        condition_variance(activity, conditions[1:])
    activity[3, 2, 1] = np.nan
    with pytest.raises(ValueError, match=r"activity hold nan at index \(3, 2, 1\)"):
        condition_variance(activity, conditions)
    with pytest.raises(ValueError, match="does not vary"):
        print(condition_variance(np.ones((4, 3, 2)), [0, 0, 1, 1]))


def test_lone_trials_are_told():
    activity = np.random.default_rng(0).normal(size=(6, 4, 3))
    with pytest.warns(RuntimeWarning, match="2 of 4 conditions have one trial only"):
        condition_variance(activity, np.array([0, 0, 1, 2, 2, 3]))
