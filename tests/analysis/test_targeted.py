"""Directions of task variables that were put into the states."""

import numpy as np
import pytest

from ctd_models.analysis import targeted_axes

RNG = np.random.default_rng(0)
B, T, D = 300, 12, 10
CHOICE, MOTION = np.sign(RNG.normal(size=B)), RNG.normal(size=B)
U, V = np.linalg.qr(RNG.normal(size=(D, 2)))[0].T
RAMP = np.linspace(0, 1, T)
STATES = (
    CHOICE[:, None, None] * RAMP[None, :, None] * U
    + MOTION[:, None, None] * RAMP[::-1][None, :, None] * V
    + 0.05 * RNG.normal(size=(B, T, D))
    + 3.0
)


@pytest.mark.parametrize("num_components", [None, 2])
def test_directions_are_found_where_they_are_strongest(num_components):
    found = targeted_axes(STATES, {"choice": CHOICE, "motion": MOTION}, num_components=num_components)
    assert found.peak == (T - 1, 0) and found.names == ("choice", "motion")
    assert found.axes[:, 0] @ U > 0.99 and found.axes[:, 1] @ V > 0.99
    np.testing.assert_allclose(found.axes.T @ found.axes, np.eye(2), atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(found.coefficients[0], axis=1), CHOICE.std() * RAMP, atol=0.03)
    assert np.corrcoef(found.transform(STATES)[:, -1, 0], CHOICE)[0, 1] > 0.99
    assert "choice (step 11)" in repr(found)


@pytest.mark.parametrize(
    ("states", "variables", "message"),
    [
        (STATES[0], {"a": MOTION}, r"\[B, T, d\]"),
        (STATES, {}, "no variables"),
        (STATES, {"a": MOTION[:5]}, "one for each trial"),
        (STATES, {"a": np.ones(B)}, "does not vary"),
        (STATES, {"a": MOTION, "b": 2 * MOTION}, "follow from one another"),
        (np.full_like(STATES, np.nan), {"a": MOTION}, "not finite"),
    ],
)
def test_bad_input_is_refused(states, variables, message):
    with pytest.raises(ValueError, match=message):
        targeted_axes(states, variables)
