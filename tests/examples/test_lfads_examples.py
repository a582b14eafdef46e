"""The LFADS examples run with --quick on data of other sizes, and what they know of the truth is true."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ctd_models import load_checkpoint
from ctd_models.analysis.fixed_points.linearization import linearize
from ctd_models.analysis.fixed_points.points import FixedPoints
from ctd_models.data.hdf5 import write_datasets
from ctd_models.data.layouts import load_spike_trials
from ctd_models.models.lfads import infer
from ctd_models.tasks.spiking import ChaoticSpikes, LorenzSpikes

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(name, *arguments, **environment):
    command = [sys.executable, EXAMPLES / f"{name}.py", *map(str, arguments)]
    environment = {**os.environ, "MPLBACKEND": "Agg", **environment}
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def module(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def integrator(num_units=24, num_trials=150, num_bins=12, seed=0):
    """(datasets of a file with a network, its hidden states): an orthogonal network, driven along one direction."""
    rng = np.random.default_rng(seed)
    weights = {
        "W_in": 0.3 * rng.normal(size=(num_units, 1)),
        "W_rec": 0.98 * np.linalg.qr(rng.normal(size=(num_units, num_units)))[0],
        "b": 0.1 * rng.normal(size=num_units),
    }
    inputs, h = rng.normal(size=(num_trials, num_bins, 1)), 0.1 * rng.normal(size=(num_trials, num_units))
    states, arrays = [], {"inputs": inputs, "h0s": h} | {f"network/{name}": w for name, w in weights.items()}
    for t in range(num_bins):
        h = np.tanh(inputs[:, t] @ weights["W_in"].T + h @ weights["W_rec"].T + weights["b"])
        states.append(h)
    states = np.stack(states, axis=1)
    arrays["spikes"] = rng.poisson(80 * 0.04 * (states + 1) / 2).astype(np.uint8)
    arrays["split"] = (np.arange(num_trials) >= 0.8 * num_trials).astype(np.int8)
    return arrays, states


def finished(name, out, files, *arguments):
    """Results of a quick run that left what it promises, and of a second call, which has nothing left to train."""
    results = []
    for _ in range(2):
        process = run(name, "--quick", "--out", out, *arguments)
        assert process.returncode == 0, process.stderr
        results.append(json.loads((out / "results.json").read_text()))
    assert results[0] == results[1]
    assert all(isinstance(value, (int, float)) for value in results[0].values())
    assert results[0]["elbo"] == pytest.approx(-sum(results[0][term] for term in ("nll", "kl_code", "kl_inputs")))
    for file in [*files, "elbo.png", "rates.png", "checkpoints/metrics.jsonl"]:
        assert (out / file).stat().st_size > 0, file
    return results[0]


@pytest.mark.slow
def test_integrator(tmp_path):
    arrays, _ = integrator()
    write_datasets(tmp_path / "mine.h5", arrays, attributes={"bin_width_s": 0.04})
    out = tmp_path / "results"
    results = finished("lfads_integrator", out, ["inputs.png", "slow_points.h5"], "--data", tmp_path / "mine.h5")
    assert results["num_trials"] == 15
    assert 0 <= results["rate_r2"] <= 1 and 0 <= results["input_r2"] <= 1
    model, variables = load_checkpoint(out / "checkpoints", "best")
    spikes = load_spike_trials(tmp_path / "mine.h5").validation.take(slice(15))
    with h5py.File(out / "posterior.h5") as file:
        np.testing.assert_array_equal(file["trial_indices"], np.arange(120, 135))
        np.testing.assert_allclose(file["rates"], infer(model, variables, spikes).rates, rtol=1e-5)
        assert file["rates"].attrs["units"] == "spikes/bin"


@pytest.mark.slow
def test_lorenz_makes_its_own_data(tmp_path):
    files = ["lorenz.h5", "factors.png", "fixed_points.h5", "posterior_train.h5", "posterior_test.h5"]
    results = finished("lfads_lorenz", tmp_path, files)
    assert results["num_trials"] == 130  # a tenth
    assert results["kl_inputs"] == 0  # there are none
    assert 0 < results["bits_per_spike"] < results["bits_per_spike_true_rates"]
    assert max(results["rate_r2"], results["latent_r2"], results["state_r2"], results["cycle_consistency"]) <= 1
    points = FixedPoints.load(tmp_path / "fixed_points.h5")
    assert len(points) == results["num_fixed_points"]
    assert points.is_stable.sum() == results["num_stable_fixed_points"]


@pytest.mark.slow
def test_lorenz_reads_a_simulation_of_another_system(tmp_path):
    trials = ChaoticSpikes(num_units=12, num_conditions=10, num_bins=20).sample(jax.random.key(0), 4)
    arrays = {
        "spikes": np.asarray(trials.spikes, np.uint8),
        "rates": trials.rates[::4] / 0.01,
        "condition": trials.condition,
        "split": (np.arange(40) % 4 == 3).astype(np.int8),
    }
    write_datasets(tmp_path / "mine.h5", arrays, units={"rates": "Hz"}, attributes={"bin_width_s": 0.01})
    files, out = ["factors.png", "posterior_validation.h5"], tmp_path / "results"
    results = finished("lfads_lorenz", out, files, "--data", tmp_path / "mine.h5")
    assert results["num_trials"] == 10
    assert "latent_r2" not in results and "origin_point_distance" not in results


def test_missing_data_of_the_integrator_are_explained(tmp_path):
    process = run("lfads_integrator", "--out", tmp_path / "results", CTD_DATA=str(tmp_path))
    assert process.returncode != 0
    assert "integrator_rnn.py" in process.stderr and "Traceback" not in process.stderr
    assert not (tmp_path / "results").exists()


def test_true_rates_of_an_integrator(tmp_path):
    """From the network as from the hidden states, those of a loop over time."""
    true_rates, (arrays, states) = module("_integrator").true_rates, integrator(num_units=6, num_trials=8, num_bins=5)
    indices, expected = np.array([2, 3, 7]), 80 * 0.04 * (states[[2, 3, 7]] + 1) / 2
    write_datasets(tmp_path / "network.h5", arrays)
    write_datasets(tmp_path / "hiddens.h5", {"hiddens": states})
    for name in ("network", "hiddens"):
        rates = true_rates(tmp_path / f"{name}.h5", indices, arrays["inputs"][indices], 80.0, 0.04)
        np.testing.assert_allclose(rates, expected, atol=1e-5)
    write_datasets(tmp_path / "neither.h5", {"inputs": arrays["inputs"]})
    with pytest.raises(SystemExit, match="neither 'hiddens' nor 'h0s' and 'network'"):
        true_rates(tmp_path / "neither.h5", indices, arrays["inputs"][indices], 80.0, 0.04)


def test_numbers_of_a_line_that_is_known():
    """A map that leaks along the line that trials visit, of which slow points cover the middle half."""
    direction, leak = jnp.array([0.6, 0.8, 0.0]), 0.99
    matrix = leak * jnp.outer(direction, direction) + 0.5 * (jnp.eye(3) - jnp.outer(direction, direction))
    visited = np.linspace(-1, 1, 2_000)[:, None] * np.asarray(direction)
    visited += 1e-3 * np.random.default_rng(0).normal(size=visited.shape)
    states = np.random.default_rng(1).permutation(visited).reshape(100, 20, 3)
    slow = linearize(lambda h, x: matrix @ h, visited[500:1500:5], np.zeros(1))
    numbers = module("_integrator").line_numbers(lambda h, x: matrix @ h, slow, states, np.zeros(1), lambda h: 2 * h)
    assert numbers["held_after_a_trial"] == pytest.approx(leak**20, rel=1e-3)
    assert numbers["line_coverage"] == pytest.approx(13 / 25)  # parts that the middle half reaches into
    assert numbers["line_variance_share"] == pytest.approx(1, abs=1e-3)
    assert numbers["top_eigenvalue_median"] == pytest.approx(leak)
    assert numbers["second_eigenvalue_median"] == pytest.approx(0.5)


def test_fixed_points_of_the_lorenz_system_where_latents_are_standardised(tmp_path):
    """The places follow from mean and standard deviation of the states, which the file does not hold; the eigenvalues of a
    step of length Δ are exp(Δ λ) of those of the equations."""
    lorenz, system = module("_lorenz"), LorenzSpikes()
    lorenz.write_data(tmp_path / "lorenz.h5", key := jax.random.key(3), 10)
    with h5py.File(tmp_path / "lorenz.h5") as file:
        points = lorenz.true_points(file["latents"][()], dict(file.attrs))
        assert np.bincount(file["split"]).tolist() == [520, 65, 65]
    states = np.asarray(jax.jit(system.states)(jax.random.split(key, 3)[2]), np.float64)
    m, s = states.mean(axis=(0, 1)), states.std(axis=(0, 1))
    c, top = (system.beta * (system.rho - 1)) ** 0.5, system.rho - 1
    expected = (np.array([[-c, -c, top], [0, 0, 0], [c, c, top]]) - m) / s
    np.testing.assert_allclose(points.states, expected, atol=2e-3)
    assert points.num_unstable.tolist() == [2, 1, 2]
    flow = [[-system.sigma, system.sigma, 0], [system.rho, -1, 0], [0, 0, -system.beta]]
    steps = np.exp(system.time_per_bin * np.linalg.eigvals(flow))
    np.testing.assert_allclose(np.sort(points.eigenvalues[1].real), np.sort(steps), rtol=1e-4)
