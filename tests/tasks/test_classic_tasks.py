"""Sine waves, moving averages, context-dependent decisions and comparisons against their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from ctd_models.tasks import ContextDecision, MovingAverage, ParametricWorkingMemory, SineWave, last_two

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


def test_two_stimuli_are_compared_across_a_delay():
    task = ParametricWorkingMemory(num_stimulus=3, shortest_delay=4, longest_delay=9, num_response=2, noise_std=0.0)
    trials = jax.jit(task.sample, static_argnums=1)(KEY, 400)
    strength, present = np.moveaxis(np.asarray(trials.inputs), 2, 0)
    assert strength.shape == (400, task.num_steps) == (400, 17)
    assert (present[:, :3] == 1).all() and (present.sum(axis=1) == 6).all() and (strength[present == 0] == 0).all()
    again = 4 + present[:, 4:].argmax(axis=1)  # the step in which the second stimulus begins
    assert set(again - 3) == {4, 5, 6, 7, 8, 9}
    first, second = strength[:, 0], strength[np.arange(400), again]
    np.testing.assert_array_equal(trials.targets[:, 0, 0], np.where(first > second, 1, -1))
    apart = np.abs(first - second)
    assert 0.05 <= apart.min() < 0.1 and 0.6 < apart.max() <= 0.7001 and np.abs(strength).max() <= 1
    assert np.mean(first > second) == pytest.approx(0.5, abs=0.1)
    counted = np.asarray(trials.mask[..., 0])
    np.testing.assert_array_equal(counted.argmax(axis=1), again + 3)
    assert (counted.sum(axis=1) == 2).all()
    same = task.trials(first[:5], second[:5], again[:5] - 3)
    np.testing.assert_allclose(same.inputs, trials.inputs[:5])
    noisy = ParametricWorkingMemory(noise_std=0.2)
    given = noisy.trials(np.zeros(900), np.ones(900), np.full(900, 50), KEY).inputs
    assert np.std(given[:, :5, 0]) == pytest.approx(0.2, rel=0.05) and (given[:, 5:55] == 0).all()
    held = noisy.delay_states({"a": given})["a"]  # from the last step of the stimulus to the end of the delay
    assert held.shape == (900, 51, 2) and (held[:, 0, 1] == 1).all() and (held[:, 1:] == 0).all()


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
        (lambda: ParametricWorkingMemory(num_response=0), "num_response must be a whole number of at least 1"),
        (lambda: ParametricWorkingMemory(longest_delay=5), "delays in rising order, got 10 and 5"),
        (lambda: ParametricWorkingMemory(differences=(0.0, 1.0)), "two numbers in rising order"),
        (lambda: ParametricWorkingMemory(noise_std=-1.0), "noise_std cannot be negative"),
    ],
)
def test_bad_parameters_are_refused(act, message):
    with pytest.raises(ValueError, match=message):
        act()
