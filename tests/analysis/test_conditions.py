import numpy as np
import pytest

from ctd_models.analysis.conditions import condition_candidates, condition_means


def test_means_by_hand():
    labels, means = condition_means([[0.0], [1.0], [4.0], [3.0]], [7, 2, 7, 2])
    assert labels.tolist() == [2, 7]
    assert means.tolist() == [[2.0], [2.0]]


def test_candidates_are_states_of_their_condition_with_its_mean_input():
    conditions = np.array([0, 3, 0, 3, 3])
    states = np.random.default_rng(0).normal(size=(5, 4, 2)) + 100 * conditions[:, None, None]
    inputs = np.arange(5 * 4 * 3).reshape(5, 4, 3)
    found = condition_candidates(states, inputs, conditions, 6, np.random.default_rng(1))
    assert found.conditions.tolist() == [0] * 6 + [3] * 6
    for label in (0, 3):
        here = found.conditions == label
        expected = inputs[conditions == label].reshape(-1, 3).mean(axis=0)
        np.testing.assert_allclose(found.inputs[here], np.tile(expected, (6, 1)))
        visited = states[conditions == label].reshape(-1, 2)
        assert all((state == visited).all(axis=1).any() for state in found.states[here])


def test_what_does_not_fit_is_rejected():
    states, inputs = np.zeros((5, 4, 2)), np.zeros((5, 4, 3))
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"got shapes \(5, 4, 2\) and \(5, 3, 3\)"):
        condition_candidates(states, inputs[:, 1:], np.zeros(5, int), 3, rng)
    with pytest.raises(ValueError, match=r"none empty, got shapes \(5, 0, 2\)"):
        condition_candidates(states[:, :0], inputs[:, :0], np.zeros(5, int), 3, rng)
    with pytest.raises(ValueError, match=r"each of 5 trials, got shape \(4,\)"):
        condition_candidates(states, inputs, np.zeros(4, int), 3, rng)
