"""Signals against their definitions."""

import jax
import numpy as np
import pytest

from ctd_models.tasks import ChaoticOutputs, FlipFlop, LorenzSignal, MackeyGlass, SumOfSines, TriangleWave

KEY = jax.random.key(0)


def signal(task, key=KEY):
    return jax.tree.map(np.asarray, jax.jit(task.signal)(key))


def test_sums_of_sines_and_triangles_are_periodic_with_their_peaks():
    for task in (SumOfSines(num_steps=900), TriangleWave(num_steps=900), SumOfSines(num_steps=900, random_phases=True)):
        inputs, targets = signal(task)
        assert inputs.shape == (900, 0) and targets.shape == (900, 1) and task.steps_per_period == 300
        np.testing.assert_allclose(targets[:300], targets[300:600], atol=1e-4)
        assert np.abs(targets).max() == pytest.approx(1.0, abs=0.01)
    wave = signal(TriangleWave(num_steps=300))[1][:, 0]
    np.testing.assert_allclose(np.abs(np.diff(wave)), 4 / 300, atol=1e-5)
    sines = signal(SumOfSines(num_steps=300, amplitudes=(1.0, 0.5)))[1][:, 0]
    t = 2 * np.pi * np.arange(1, 301) / 300
    expected = np.sin(t) + 0.5 * np.sin(2 * t)
    np.testing.assert_allclose(sines, expected / np.abs(expected).max(), atol=1e-3)


def test_outputs_of_a_chaotic_network_never_come_again():
    task = ChaoticOutputs(num_steps=400, num_outputs=5, hidden_size=200)
    targets = signal(task)[1]
    assert targets.shape == (400, 5) and np.abs(targets).max() <= 1
    late = targets[200:]
    distances = np.linalg.norm(late[:, None] - late[None], axis=2)
    apart = np.abs(np.subtract.outer(np.arange(200), np.arange(200))) > 40
    assert distances[apart].min() > 0.05 and late.std(axis=0).min() > 0.1


def test_lorenz_obeys_its_equations():
    task = LorenzSignal(num_steps=1500, time_per_step=0.01)
    inputs, targets = signal(task)
    assert inputs.shape == (1500, 0)
    np.testing.assert_allclose(targets.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(targets.std(axis=0), 1, atol=1e-3)
    velocity = (targets[2:] - targets[:-2]) / 0.02
    x, y, z = targets[1:-1].T
    features = np.c_[x, y, z, x * y, x * z, np.ones(len(x))]  # standardised coordinates: the same terms, other factors
    left = np.linalg.lstsq(features, velocity)[1] / ((velocity - velocity.mean(0)) ** 2).sum(axis=0)
    assert left.max() < 1e-3
    given, wanted = signal(LorenzSignal(num_steps=50, horizon=3))
    np.testing.assert_array_equal(given[3:], wanted[:-3])


def test_mackey_glass_obeys_its_delayed_equation():
    task = MackeyGlass(num_steps=2000, time_per_step=0.1, delay=17.0, burn_in=200.0)
    values = signal(task)[1][:, 0]
    delayed, now, velocity = values[:-171], values[170:-1], (values[171:] - values[169:-2]) / 0.2
    bins = np.digitize(delayed, np.quantile(delayed, np.linspace(0, 1, 40)[1:-1]))
    gain = [(velocity + 0.1 * now)[bins == b] for b in range(39)]
    within = np.mean([g.var() for g in gain])
    assert within < 0.05 * np.var(np.concatenate(gain))  # v + γ x is a function of the delayed value alone
    assert np.abs(np.subtract.outer(values[500::170], values[500::170])).max() > 1  # and it does not settle


def test_flip_flops_hold_the_last_pulse():
    task = FlipFlop(num_bits=2, num_steps=200, pulse_rate=0.1, pulse_steps=3)
    trials = jax.jit(task.sample, static_argnums=1)(KEY, 4)
    inputs, targets = np.asarray(trials.inputs), np.asarray(trials.targets)
    memory = np.zeros((4, 2))
    for t in range(200):
        memory = np.where(inputs[:, t] != 0, inputs[:, t], memory)
        np.testing.assert_array_equal(targets[:, t], memory)
    on = inputs[..., 0][0]
    runs = np.diff(np.flatnonzero(np.diff(np.r_[0, on != 0, 0])))[::2]
    assert set(np.unique(inputs)) == {-1.0, 0.0, 1.0} and runs.min() >= 3
    assert (np.asarray(FlipFlop(starts_with_pulse=True).signal(KEY).inputs[0]) != 0).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ChaoticOutputs(num_outputs=9, hidden_size=8), "num_outputs is 9, but the network has only 8 units"),
        (lambda: SumOfSines(period=0.0), "period must be positive"),
        (lambda: SumOfSines(amplitudes=(0.0,)), "amplitudes must not all be 0"),
        (lambda: TriangleWave(num_steps=0), "num_steps must be positive and whole"),
        (lambda: LorenzSignal(horizon=-1), "horizon cannot be negative"),
        (lambda: LorenzSignal(num_steps=1), "num_steps must be at least 2"),
        (lambda: MackeyGlass(burn_in=-1.0), "burn_in cannot be negative"),
        (lambda: ChaoticOutputs(dt=5.0), "must not exceed tau"),
        (lambda: MackeyGlass(delay=0.0), "delay must be positive"),
        (lambda: FlipFlop(pulse_rate=0.0), "pulse_rate is a probability above 0"),
    ],
)
def test_bad_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make()
