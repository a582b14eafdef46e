"""The white-noise tasks against their definitions."""

import jax
import numpy as np
import pytest

from ctd_models.tasks import BinaryDecision, Integration

KEY = jax.random.key(0)


def test_targets_are_running_sums():
    trials = Integration().sample(KEY, 64)
    assert trials.inputs.shape == trials.targets.shape == trials.mask.shape == (64, 25, 1)
    np.testing.assert_allclose(trials.targets, np.cumsum(np.asarray(trials.inputs, np.float64), axis=1), atol=1e-6)
    assert (trials.mask == 1).all()


def test_inputs_have_the_published_moments():
    """Bias 2 · 0.01 (n − 0.5): mean −0.01, deviation 0.02 over trials; white noise of deviation 0.025 / √0.04 = 0.125."""
    inputs = np.asarray(Integration().sample(KEY, 40_000).inputs, np.float64)[..., 0]
    assert inputs.mean() == pytest.approx(-0.01, abs=5e-4)
    assert inputs.var() == pytest.approx(0.125**2 + 0.02**2, rel=0.01)
    covariance = np.cov(inputs[:, 3], inputs[:, 17])[0, 1]
    assert covariance == pytest.approx(0.02**2, abs=4 * 0.125**2 / 200)


def test_decisions_are_the_sign_of_the_integral_and_count_at_the_end():
    trials = BinaryDecision(num_steps=10).sample(KEY, 500)
    np.testing.assert_array_equal(trials.targets[:, -1], np.sign(np.asarray(trials.inputs).sum(axis=1)))
    assert set(np.unique(trials.targets)) == {-1.0, 1.0}
    assert (trials.mask.sum(axis=1) == 1).all()
    assert (trials.mask[:, -1] == 1).all()


@pytest.mark.parametrize("task", [Integration(), BinaryDecision()])
def test_sampling_is_pure_and_compiles(task):
    sample = jax.jit(task.sample, static_argnums=1)
    for eager, compiled in zip(task.sample(KEY, 4), sample(KEY, 4), strict=True):
        np.testing.assert_allclose(eager, compiled, atol=1e-6)
    assert (np.asarray(sample(jax.random.key(1), 4).inputs) != np.asarray(sample(KEY, 4).inputs)).all()


def test_bad_fields():
    for fields, message in [
        ({"num_steps": 0}, "num_steps"),
        ({"duration": 0.0}, "duration"),
        ({"noise_std": -1.0}, "noise_std"),
    ]:
        with pytest.raises(ValueError, match=message):
            Integration(**fields)
