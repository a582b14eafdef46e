"""Simulated spikes against the equations of their systems, other solvers, and stored data of the same kinds."""

import dataclasses

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.optimize import least_squares

from ctd_models.tasks.contextual import ContextualIntegration, context_of
from ctd_models.tasks.spiking import ChaoticSpikes, LorenzSpikes, network_spikes, rates_from_states, spikes_from_rates

KEY, OTHER_KEY = jax.random.key(0), jax.random.key(1)
SMALL_LORENZ = LorenzSpikes(num_neurons=8, num_conditions=5, num_bins=40)
SMALL_CHAOS = ChaoticSpikes(num_units=12, num_conditions=5, num_bins=30)
LORENZ_KEYS = {"condition_key": jax.random.key(7), "loading_key": jax.random.key(8)}
sample_lorenz = jax.jit(SMALL_LORENZ.sample, static_argnums=1)
sample_chaos = jax.jit(SMALL_CHAOS.sample, static_argnums=1)


def test_counts_are_poisson():
    """Mean = variance = rate, and the third central moment too, also where some rates are 0."""
    rates = np.array([0.0, 0.05, 0.8, 3.0, 20.0])
    spikes = spikes_from_rates(KEY, jnp.tile(rates, (200_000, 1)))
    assert jnp.issubdtype(spikes.dtype, jnp.integer)
    spikes = np.asarray(spikes, np.float64)
    assert (spikes[:, 0] == 0).all()
    error = 5 * np.sqrt((rates + 2 * rates**2) / 200_000)  # of mean and variance, at most
    assert (np.abs(spikes.mean(axis=0) - rates) <= error).all()
    assert (np.abs(spikes.var(axis=0) - rates) <= error).all()
    np.testing.assert_allclose(((spikes - rates) ** 3).mean(axis=0), rates, rtol=0.2)


def test_rates_of_states():
    np.testing.assert_allclose(rates_from_states(jnp.array([-1.0, 0, 0.5, 1]), 80, 0.04), [0, 1.6, 2.4, 3.2], 1e-6)


def test_bad_rates_and_states_are_named():
    with pytest.raises(ValueError, match=r"at least 0 spikes.*rates\[\(1, 0\)\] = -0\.5 \(1 such"):
        spikes_from_rates(KEY, jnp.array([[1.0, 2.0], [-0.5, 1.0]]))
    with pytest.raises(ValueError, match=r"finite.*rates\[\(1,\)\] = nan"):
        spikes_from_rates(KEY, jnp.array([1.0, jnp.nan]))
    with pytest.raises(ValueError, match=r"in \[−1, 1\].*states\[\(1,\)\] = 1\.5 \(2 such"):
        rates_from_states(jnp.array([0.0, 1.5, -2.0]), 80, 0.04)
    with pytest.raises(ValueError, match="bin_width_s must be positive"):
        rates_from_states(jnp.zeros(3), 80, 0.0)


def test_lorenz_step_agrees_with_another_solver():
    def velocity(_, s):
        return 10 * (s[1] - s[0]), s[0] * (28 - s[2]) - s[1], s[0] * s[1] - 8 / 3 * s[2]

    start = np.array([-8.0, -3.0, 30.0])
    with jax.enable_x64(True):
        after = LorenzSpikes(substeps=100).step(jnp.asarray(start))
    solution = solve_ivp(velocity, (0, 0.03), start, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(after, solution.y[:, -1], rtol=1e-8)


def test_runge_kutta_is_of_fourth_order():
    """Halving the step divides the error over a fixed time by 2⁴."""
    with jax.enable_x64(True):
        start = jnp.array([1.0, 2.0, 20.0])
        ends = [LorenzSpikes(time_per_bin=0.2, substeps=n).step(start) for n in (20, 40, 80, 4000)]
        errors = [float(jnp.linalg.norm(end - ends[-1])) for end in ends[:-1]]
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    np.testing.assert_allclose(orders, 4, atol=0.2)


def test_fixed_points_of_lorenz_stay_put():
    lorenz = LorenzSpikes()
    with jax.enable_x64(True):
        corner = (lorenz.beta * (lorenz.rho - 1)) ** 0.5
        points = jnp.array([[0.0, 0, 0], [corner, corner, lorenz.rho - 1], [-corner, -corner, lorenz.rho - 1]])
        assert jnp.abs(jax.vmap(lorenz.derivative)(points)).max() < 1e-13
        after = jax.lax.fori_loop(0, 20, lambda _, s: jax.vmap(lorenz.step)(s), points)
        np.testing.assert_allclose(after, points, atol=1e-11)


def test_lorenz_bins_are_steps_apart_and_latents_standardised():
    states = SMALL_LORENZ.states(KEY)
    assert states.shape == (5, 40, 3)
    with jax.enable_x64(True):
        expected = jax.vmap(jax.vmap(SMALL_LORENZ.step))(jnp.asarray(np.asarray(states), jnp.float64)[:, :-1])
    np.testing.assert_allclose(
        states[:, 1:], expected, atol=1e-3
    )  # rounding of single precision, which chaos amplifies
    latents = np.asarray(SMALL_LORENZ.latents(KEY), np.float64)
    np.testing.assert_allclose(latents.mean(axis=(0, 1)), 0, atol=1e-5)
    np.testing.assert_allclose(latents.std(axis=(0, 1)), 1, atol=1e-5)


def test_burn_in_leads_to_the_attractor():
    """The first bins have the moments of long runs (the start has deviations of 10, and 27 as the mean of z), and the
    averages obey ⟨xy⟩ = β⟨z⟩ and ⟨x²⟩ = ⟨xy⟩, since ⟨ż⟩ and ⟨d(x²)/dt⟩ vanish."""
    x, y, z = np.moveaxis(np.asarray(LorenzSpikes(num_conditions=2000).states(KEY), np.float64), -1, 0)
    assert z[:, 0].mean() == pytest.approx(23.56, abs=1)
    np.testing.assert_allclose([x[:, 0].std(), y[:, 0].std(), z[:, 0].std()], [7.93, 9.01, 8.61], rtol=0.08)
    assert (x * y).mean() == pytest.approx(8 / 3 * z.mean(), rel=0.01)
    assert (x * x).mean() == pytest.approx((x * y).mean(), rel=0.01)


def test_neurons_have_the_loadings_and_mean_rates_asked_for():
    lorenz = LorenzSpikes(num_neurons=50, num_conditions=20, num_bins=80, max_rate_hz=60.0)
    latents = jax.jit(lorenz.latents)(KEY)
    loadings = jax.jit(lorenz.loadings)(OTHER_KEY, latents)
    norms = np.linalg.norm(loadings[0], axis=0)
    assert norms.min() >= 0.7 and norms.max() <= 1.3 and np.ptp(norms) > 0.4
    rates = np.asarray(lorenz.rates(latents, loadings), np.float64) / lorenz.bin_width_s
    assert rates.max() == pytest.approx(60)  # capped, and the means are those asked for all the same
    means = rates.mean(axis=(0, 1))
    assert means.min() >= 5 - 1e-3 and means.max() <= 20 + 1e-3 and np.ptp(means) > 10
    exactly = dataclasses.replace(lorenz, mean_rate_hz=(12.0, 12.0))
    rates = exactly.rates(latents, jax.jit(exactly.loadings)(OTHER_KEY, latents)) / lorenz.bin_width_s
    np.testing.assert_allclose(rates.mean(axis=(0, 1)), 12, rtol=1e-4)


def test_sessions_of_one_lorenz_system():
    """Another loading_key: other neurons, same trajectories. Same keys but for the spikes: more trials of a session."""
    first, more = sample_lorenz(KEY, 4, **LORENZ_KEYS), sample_lorenz(OTHER_KEY, 4, **LORENZ_KEYS)
    other = sample_lorenz(KEY, 4, **LORENZ_KEYS | {"loading_key": jax.random.key(9)})
    np.testing.assert_array_equal(first.rates, more.rates)
    assert (np.asarray(first.spikes) != np.asarray(more.spikes)).any()
    np.testing.assert_array_equal(first.latents, other.latents)
    assert (np.asarray(first.rates) != np.asarray(other.rates)).mean() > 0.99


def test_chaotic_states_follow_the_recursion():
    assert ChaoticSpikes(num_units=400).weights(KEY).std() == pytest.approx(1 / 20, rel=0.01)
    states = np.asarray(sample_chaos(KEY, 4, network_key=KEY).latents, np.float64)
    expected = 0.6 * states[:, :-1] + 0.4 * 1.5 * np.tanh(states[:, :-1]) @ np.asarray(SMALL_CHAOS.weights(KEY)).T
    np.testing.assert_allclose(states[:, 1:], expected, atol=1e-5)


def test_chaotic_rates_run_from_zero_to_the_maximum():
    simulated = sample_chaos(KEY, 4, network_key=KEY)
    activity, rates = np.tanh(np.asarray(simulated.latents, np.float64)), np.asarray(simulated.rates, np.float64)
    np.testing.assert_allclose(rates.min(axis=1), 0, atol=1e-7)
    np.testing.assert_allclose(rates.max(axis=1), 0.3, rtol=1e-5)
    correlations = [np.corrcoef(a, r)[0, 1] for a, r in zip(activity[..., 3], rates[..., 3], strict=True)]
    np.testing.assert_allclose(correlations, 1, atol=1e-6)


def test_a_saturated_unit_is_silent():
    assert (SMALL_CHAOS.rates(jnp.full((30, 12), 50.0)) == 0).all()


@pytest.mark.parametrize(("sample", "keys"), [(sample_lorenz, LORENZ_KEYS), (sample_chaos, {"network_key": KEY})])
def test_conditions_are_repeated_with_other_spikes(sample, keys):
    simulated = sample(KEY, 4, **keys)
    np.testing.assert_array_equal(simulated.condition, np.repeat(np.arange(5), 4))
    assert simulated.spikes.shape == simulated.rates.shape and len(simulated.latents) == 20
    rates, spikes = (np.asarray(a).reshape(5, 4, -1) for a in (simulated.rates, simulated.spikes))
    np.testing.assert_array_equal(rates, np.broadcast_to(rates[:, :1], rates.shape))
    assert (spikes[:, 0] != spikes[:, 1]).any(axis=1).all()
    for again, first in zip(sample(KEY, 4, **keys), simulated, strict=True):
        np.testing.assert_array_equal(again, first)
    assert (np.asarray(sample(OTHER_KEY, 4, **keys).spikes) != np.asarray(simulated.spikes)).any(axis=(1, 2)).all()
    with pytest.raises(ValueError, match="trials_per_condition must be positive and finite, got 0"):
        sample(KEY, 0, **keys)


def test_network_spikes_are_those_of_a_loop_over_time():
    trials = ContextualIntegration(num_steps=6).sample(KEY, 4)
    weights, input_weights = jax.random.normal(KEY, (5, 5)) / 2, jax.random.normal(OTHER_KEY, (5, 4))
    initial = jnp.tanh(jax.random.normal(KEY, (4, 5)))
    arguments = {"max_rate_hz": 80.0, "bin_width_s": 0.04, "labels": context_of(trials)}

    def step(h, x):
        return jnp.tanh(weights @ h + input_weights @ x)

    simulated = network_spikes(KEY, step, trials.inputs, initial, 3, **arguments)
    states, expected = np.asarray(initial), []
    for inputs in np.moveaxis(np.asarray(trials.inputs), 1, 0):
        states = np.tanh(states @ np.asarray(weights).T + inputs @ np.asarray(input_weights).T)
        expected.append(states)
    expected = np.repeat(np.stack(expected, axis=1), 3, axis=0)
    np.testing.assert_allclose(simulated.latents, expected, atol=1e-5)
    np.testing.assert_allclose(simulated.rates, 3.2 * (expected + 1) / 2, atol=1e-5)
    np.testing.assert_array_equal(simulated.condition, np.repeat(context_of(trials), 3))


def test_network_whose_state_is_not_one_array():
    """The state of an LSTM is a pair: activity says what fires, and there is no one array of latents."""
    inputs, initial = jnp.ones((4, 6, 1)), (jnp.zeros((4, 5)), jnp.zeros((4, 5)))
    arguments = {"max_rate_hz": 50.0, "bin_width_s": 0.02, "trials_per_condition": 3}

    def step(state, x):
        cell = state[0] + 0.1 * x
        return cell, jnp.tanh(cell)

    simulated = network_spikes(KEY, step, inputs, initial, activity=lambda state: state[1], **arguments)
    assert simulated.latents is None
    np.testing.assert_allclose(simulated.rates[2, :, 1], (1 + np.tanh(0.1 * np.arange(1, 7))) / 2, rtol=1e-5)
    with pytest.raises(ValueError, match=r"one vector \[N\] of activities, got shapes \[\(5,\), \(5,\)\].*activity="):
        network_spikes(KEY, step, inputs, initial, **arguments)


def test_bad_network_arguments():
    arguments = {"max_rate_hz": 50.0, "bin_width_s": 0.02}
    inputs, initial = jnp.ones((4, 3, 1)), jnp.zeros((4, 2))
    with pytest.raises(ValueError, match=r"\[conditions, time, U\].*\(4, 3\)"):
        network_spikes(KEY, lambda h, x: h, inputs[..., 0], initial, **arguments)
    with pytest.raises(ValueError, match=r"4 conditions, initial_states the shape \(3, 2\)"):
        network_spikes(KEY, lambda h, x: h, inputs, initial[:3], **arguments)
    with pytest.raises(ValueError, match=r"4 conditions, labels the shape \(3,\)"):
        network_spikes(KEY, lambda h, x: h, inputs, initial, labels=jnp.arange(3), **arguments)
    with pytest.raises(ValueError, match=r"in \[−1, 1\].*states\[\(0, 1, 0\)\] = 2"):
        network_spikes(KEY, lambda h, x: h + x, inputs, initial, **arguments)
    with pytest.raises(ValueError, match="trials_per_condition must be positive"):
        network_spikes(KEY, lambda h, x: h, inputs, initial, 0, **arguments)


@pytest.mark.parametrize(
    ("simulator", "fields", "message"),
    [
        (LorenzSpikes, {"num_bins": 0}, "num_bins must be positive"),
        (LorenzSpikes, {"mean_rate_hz": (20.0, 5.0)}, r"mean_rate_hz.*rising range"),
        (LorenzSpikes, {"mean_rate_hz": (5.0, 300.0)}, "cannot reach the cap, 200"),
        (LorenzSpikes, {"rho": 0.5}, "rho must exceed 1"),
        (LorenzSpikes, {"beta": float("nan")}, "beta must be positive"),
        (ChaoticSpikes, {"gain": -1.0}, "gain must be positive"),
        (ChaoticSpikes, {"num_bins": 1}, "num_bins must be at least 2"),
        (ChaoticSpikes, {"bin_width_s": 0.1}, "must not exceed tau_s = 0.025"),
    ],
)
def test_bad_fields(simulator, fields, message):
    with pytest.raises(ValueError, match=message):
        simulator(**fields)


@pytest.fixture(scope="module")
def stored_lorenz(data_folder):
    with h5py.File(data_folder / "lorenz.h5") as file:
        return {name: file[name][:] for name in file} | dict(file.attrs)


def test_stored_lorenz_rates_are_those_of_its_loadings(stored_lorenz):
    latents, *loadings = (jnp.asarray(stored_lorenz[name]) for name in ("latents", "W", "b"))
    rates = LorenzSpikes().rates(latents, tuple(loadings))
    np.testing.assert_allclose(rates / 0.01, stored_lorenz["rates"], rtol=1e-5)


def test_stored_lorenz_latents_are_steps_of_the_same_system(stored_lorenz):
    """The raw states are mean + std · latents: with the six numbers fitted, each bin is `step` of the one before.

    The tolerance is single precision of the file; without −y in ẏ the steps would miss by up to 0.04.
    """
    latents = np.asarray(stored_lorenz["latents"], np.float64)
    lorenz = LorenzSpikes(time_per_bin=float(stored_lorenz["lorenz_time_per_bin"]))
    raw = np.asarray(LorenzSpikes(num_conditions=20).states(KEY), np.float64)
    guess = np.concatenate([raw.mean(axis=(0, 1)), raw.std(axis=(0, 1))])
    with jax.enable_x64(True):

        @jax.jit
        def misses(moments):
            mean, std = moments[:3], moments[3:]
            after = jax.vmap(jax.vmap(lorenz.step))(mean + std * latents[:, :-1])
            return ((after - mean) / std - latents[:, 1:]).reshape(-1)

        slopes = jax.jit(jax.jacfwd(misses))
        fit = least_squares(lambda m: np.asarray(misses(m)), guess, lambda m: np.asarray(slopes(m)), xtol=1e-15)
    np.testing.assert_allclose(fit.x, guess, atol=1.0)
    assert np.abs(fit.fun).max() < 1e-6


@pytest.mark.slow
def test_simulated_lorenz_spikes_have_the_statistics_of_stored_ones(stored_lorenz):
    np.testing.assert_array_equal(stored_lorenz["condition"], np.repeat(np.arange(65), 20))
    simulated = jax.jit(LorenzSpikes().sample, static_argnums=1)(KEY, 5)
    ours = [np.asarray(simulated.rates, np.float64), np.asarray(simulated.spikes, np.float64)]
    theirs = [np.repeat(stored_lorenz["rates"], 20, axis=0) * 0.01, stored_lorenz["spikes"].astype(np.float64)]
    for rates, spikes in (ours, theirs):  # mean rates are U(5, 20) Hz; counts vary around the rates as Poisson's do
        assert rates.mean() / 0.01 == pytest.approx(12.5, abs=4 * 15 / 12**0.5 / 30**0.5)
        assert ((spikes - rates) ** 2).sum() / rates.sum() == pytest.approx(1, abs=0.01)
    ours, theirs = (np.corrcoef(z.reshape(-1, 3).T) for z in (np.asarray(simulated.latents), stored_lorenz["latents"]))
    np.testing.assert_allclose(ours, theirs, atol=0.1)


def test_recursion_of_stored_chaotic_network_reproduces_its_rates(data_folder):
    """From one initial state, found by shooting, 100 steps of the stored weights give all 5,000 stored rates of a condition
    to the 1/16 Hz to which they are rounded: error uniform, of deviation 1/16/√12 Hz."""
    with h5py.File(data_folder / "chaotic_g1p5.h5") as file:
        stored_weights, stored = file["J"][:], file["rates"][0].astype(np.float64)
        chaos = ChaoticSpikes(gain=float(file.attrs["gain"]), tau_s=float(file.attrs["tau_s"]))

    def solve(misses, guess):
        misses, slopes = jax.jit(misses), jax.jit(jax.jacfwd(misses))
        return least_squares(lambda p: np.asarray(misses(p)), guess, lambda p: np.asarray(slopes(p)))

    with jax.enable_x64(True):
        weights = jnp.asarray(stored_weights, jnp.float64)

        def states(ends):  # given where each unit's activity has its ends
            low, high = jnp.tanh(ends[:50]), jnp.tanh(ends[50:])
            return jnp.arctanh(jnp.clip(low + (high - low) * stored / chaos.max_rate_hz, -1 + 1e-6, 1 - 1e-6))

        def step_misses(ends):
            x = states(ends)
            return (x[1:] - jax.vmap(chaos.step, in_axes=(None, 0))(weights, x[:-1])).reshape(-1)

        def rate_misses(first):
            x = jnp.concatenate([first[None], chaos.states(weights, first)[:-1]])
            return (chaos.rates(x) / chaos.bin_width_s - stored).reshape(-1)

        ends = solve(step_misses, np.repeat([-1.0, 1.0], 50)).x
        errors = solve(rate_misses, np.asarray(states(ends))[0]).fun
    assert np.sqrt((errors**2).mean()) < 1.02 / 16 / 12**0.5
    assert np.abs(errors).max() < 1.5 / 32


@pytest.mark.slow
def test_spikes_of_the_stored_integrator_have_its_rates(data_folder):
    """The stored counts are Poisson with the rates of the network that runs on the stored inputs: z-scores of totals."""
    with h5py.File(data_folder / "integrator.h5") as file:
        network = {name: file[f"network/{name}"][:] for name in ("W_in", "W_rec", "b")}
        inputs, h0s, spikes = file["inputs"][:300], file["h0s"][:300], file["spikes"][:300].astype(np.float64)

    def step(h, x):
        return jnp.tanh(network["W_in"] @ x + network["W_rec"] @ h + network["b"])

    simulated = network_spikes(KEY, step, inputs, h0s, max_rate_hz=80.0, bin_width_s=0.04)
    rates = np.asarray(simulated.rates, np.float64)
    for counts in (spikes, np.asarray(simulated.spikes, np.float64)):
        z_scores = ((counts - rates).sum(axis=(0, 1))) / np.sqrt(rates.sum(axis=(0, 1)))
        assert np.abs(z_scores).max() < 4.5
        assert ((counts - rates) ** 2).sum() / rates.sum() == pytest.approx(1, abs=0.01)
