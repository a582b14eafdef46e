"""Sine waves, moving averages and context-dependent decisions against their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from ctd_models.tasks import ContextDecision, MovingAverage, SineWave, last_two

KEY = jax.random.key(0)


def test_sine_waves_of_all_frequencies():
    task = SineWave(num_frequencies=5, num_steps=40, dt=0.3)
    trials = jax.jit(task.trials)(jnp.arange(5))
    np.testing.assert_allclose(task.frequencies, [0.1, 0.225, 0.35, 0.475, 0.6])
    np.testing.assert_allclose(task.levels, [0.45, 0.65, 0.85, 1.05, 1.25])
    times = 0.3 * np.arange(1, 41)
    np.testing.assert_allclose(trials.targets[..., 0], np.sin(task.frequencies[:, None] * times), atol=1e-5)
    assert (trials.inputs == np.float32(task.levels)[:, None, None]).all() and (trials.mask == 1).all()
    each = jax.jit(task.sample, static_argnums=1)(KEY, 5)
    np.testing.assert_allclose(np.sort(each.inputs[:, 0, 0]), task.levels, rtol=1e-6)
    some = task.sample(KEY, 300)
    np.testing.assert_allclose(np.unique(some.inputs), task.levels, rtol=1e-6)


def test_moving_average_holds_the_mean_of_the_last_two_pulses():
    trials = jax.jit(MovingAverage(num_steps=50).sample, static_argnums=1)(KEY, 500)
    heights, pulses = np.asarray(trials.inputs[..., 0]), np.asarray(trials.inputs[..., 1])
    assert set(np.unique(pulses)) == {0.0, 1.0} and (heights[pulses == 0] == 0).all() and np.abs(heights).max() <= 1
    assert pulses.mean() == pytest.approx(0.15, abs=0.01)
    held = np.asarray(last_two(trials.inputs))
    for trial in range(20):
        seen = []
        for t in range(50):
            seen += [heights[trial, t]] if pulses[trial, t] else []
            assert trials.mask[trial, t, 0] == (len(seen) >= 2)
            if len(seen) >= 2:
                assert trials.targets[trial, t, 0] == pytest.approx(np.mean(seen[-2:]), abs=1e-6)
                np.testing.assert_array_equal(held[trial, t], seen[:-3:-1])


def test_context_decisions_have_the_sign_of_the_relevant_evidence():
    task = ContextDecision()
    assert task.num_steps == 75 and task.noise_per_step == pytest.approx(1 / np.sqrt(10))
    trials = jax.jit(task.sample, static_argnums=1)(KEY, 4_000)
    evidence, context = np.asarray(trials.inputs[..., :2]), np.asarray(trials.inputs[:, 0, 2:]).argmax(axis=1)
    assert (trials.inputs[..., 2:].sum(axis=-1) == 1).all() and abs(context.mean() - 0.5) < 0.04
    np.testing.assert_array_equal(np.asarray(trials.mask[:, :, 0]).sum(axis=1), 5)
    relevant = np.take_along_axis(evidence.mean(axis=1), context[:, None], axis=1)[:, 0]
    assert np.mean(np.sign(relevant) == trials.targets[:, -1, 0]) == pytest.approx(0.81, abs=0.03)
    assert evidence.std(axis=1).mean() == pytest.approx(task.noise_per_step, rel=0.02)


@pytest.mark.parametrize("dt", [0.001, 0.01])
def test_the_ideal_integrator_does_not_depend_on_the_step(dt):
    task, count = ContextDecision(dt=dt), 3_000
    expected = scipy.stats.norm.cdf(np.array([0.009, 0.036, 0.15]) * np.sqrt(750))
    np.testing.assert_allclose(task.ideal_accuracy(np.array([0.009, 0.036, 0.15])), expected, atol=1e-5)
    trials = task.trials(KEY, jnp.full((count, 2), 0.036), jnp.zeros(count, int))
    correct = float((trials.inputs[..., 0].sum(axis=1) > 0).mean())
    assert correct == pytest.approx(expected[1], abs=4 * np.sqrt(0.14 / count))
    quiet = task.trials(KEY, jnp.full((2, 2), 0.036), jnp.zeros(2, int), noise=0.0)
    np.testing.assert_allclose(quiet.inputs[..., :2], 0.036, rtol=1e-6)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: SineWave(num_frequencies=0), "num_frequencies must be at least 1"),
        (lambda: SineWave(lowest=0.7), "0 < lowest ≤ highest"),
        (lambda: SineWave(dt=10.0), "half a period"),
        (lambda: MovingAverage(num_steps=1), "num_steps must be at least 2"),
        (lambda: MovingAverage(pulse_rate=0.0), "probability above 0"),
        (lambda: ContextDecision(coherences=()), "coherences must be positive"),
        (lambda: ContextDecision(dt=1.0), "0 < dt ≤ duration"),
        (lambda: ContextDecision(noise_std=-1.0), "noise_std cannot be negative"),
        (lambda: ContextDecision(num_response=100), "num_response must lie in 1 … 75"),
    ],
)
def test_bad_parameters_are_refused(act, message):
    with pytest.raises(ValueError, match=message):
        act()
