"""The contextual integrator against its definition."""

import jax
import numpy as np
import pytest

from ctd_models.tasks.contextual import ContextualIntegration, context_of
from ctd_models.tasks.integration import Integration

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def trials():
    return jax.jit(ContextualIntegration().sample, static_argnums=1)(KEY, 40_000)


def test_targets_integrate_the_stream_in_context(trials):
    assert trials.inputs.shape == (40_000, 25, 4)
    assert trials.targets.shape == trials.mask.shape == (40_000, 25, 1)
    inputs, targets = np.asarray(trials.inputs, np.float64), np.asarray(trials.targets)
    for trial, context in enumerate(np.asarray(context_of(trials))[:64]):
        np.testing.assert_allclose(targets[trial, :, 0], np.cumsum(inputs[trial, :, context]), atol=1e-6)
    assert (trials.mask == 1).all()


def test_context_lines_are_one_hot_and_name_the_context(trials):
    context = np.asarray(context_of(trials))
    lines = np.repeat(np.eye(2)[context][:, None], 25, axis=1)
    np.testing.assert_array_equal(np.asarray(trials.inputs)[..., 2:], lines)


def test_contexts_are_equally_frequent_and_independent_of_the_streams(trials):
    context = np.asarray(context_of(trials), np.float64)
    assert context.mean() == pytest.approx(0.5, abs=4 * 0.5 / 200)
    means = np.asarray(trials.inputs, np.float64)[..., :2].mean(axis=1)
    assert np.abs(np.corrcoef(np.column_stack([means, context]).T) - np.eye(3)).max() < 4 / 200


def test_each_stream_is_that_of_the_integrator(trials):
    """Mean −0.01; variance 0.125² of the noise and 0.02² of the bias, which two steps of a stream share."""
    inputs = np.asarray(trials.inputs, np.float64)
    for stream in (inputs[..., 0], inputs[..., 1]):
        assert stream.mean() == pytest.approx(-0.01, abs=5e-4)
        assert stream.var() == pytest.approx(0.125**2 + 0.02**2, rel=0.01)
        assert np.cov(stream[:, 3], stream[:, 17])[0, 1] == pytest.approx(0.02**2, abs=4 * 0.125**2 / 200)


def test_sampling_is_pure_and_compiles():
    task = ContextualIntegration()
    sample = jax.jit(task.sample, static_argnums=1)
    for eager, compiled in zip(task.sample(KEY, 4), sample(KEY, 4), strict=True):
        np.testing.assert_allclose(eager, compiled, atol=1e-6)
    other = sample(jax.random.key(1), 4)
    assert (np.asarray(other.inputs)[..., :2] != np.asarray(sample(KEY, 4).inputs)[..., :2]).all()
    np.testing.assert_array_equal(jax.jit(context_of)(other), context_of(other))


def test_bad_input():
    with pytest.raises(ValueError, match="num_steps"):
        ContextualIntegration(num_steps=0)
    with pytest.raises(ValueError, match=r"inputs \[B, T, 4\].*\(3, 25, 1\)"):
        context_of(Integration().sample(KEY, 3))
