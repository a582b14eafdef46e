"""The mixture separates the contexts of the contextual integrator without labels, and its scores are those of definition."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import jax
import numpy as np
import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture(scope="module")
def contextual():
    spec = importlib.util.spec_from_file_location("_contextual", EXAMPLES / "_contextual.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(*arguments):
    command = [sys.executable, EXAMPLES / "lfads_contextual.py", *map(str, arguments)]
    return subprocess.run(command, env={**os.environ, "MPLBACKEND": "Agg"}, capture_output=True, text=True)


@pytest.mark.slow
def test_mixture_separates_contexts_without_labels(tmp_path):
    """Nor does a label reach it: with the contexts of the file shuffled, it groups the same trials together."""
    arguments = ("--quick", "--out", tmp_path, "--priors", "mixture")
    process = run(*arguments)
    assert process.returncode == 0, process.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["num_trials"] == 150
    assert results["integrator_error"] < 0.05
    assert results["mixture_accuracy"] >= 0.95
    assert results["mixture_information_bits"] >= 0.7
    assert results["mixture_components_used"] == 2
    assert results["elbo_mixture"] == pytest.approx(
        -sum(results[f"{term}_mixture"] for term in ("nll", "kl_code", "kl_inputs"))
    )
    for file in ("code.png", "responsibilities.png", "mixture/inputs.png", "mixture/factors.png", "mixture/elbo.png"):
        assert (tmp_path / file).stat().st_size > 0, file

    with h5py.File(tmp_path / "contextual.h5", "r+") as file:
        file["condition"][...] = np.random.default_rng(0).permutation(file["condition"][()])
    again = run(*arguments)  # nothing is left to train
    assert again.returncode == 0, again.stderr
    shuffled = json.loads((tmp_path / "results.json").read_text())
    assert shuffled["elbo_mixture"] == results["elbo_mixture"]
    assert shuffled["mixture_accuracy"] < 0.7


@pytest.mark.slow
def test_quick_run_of_three_priors(tmp_path):
    process = run("--quick", "--out", tmp_path)
    assert process.returncode == 0, process.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    for name in ("gaussian", "mixture", "class"):
        assert 0.5 < results[f"rate_r2_{name}"] < 1, name
        assert results[f"iwae_{name}"] >= results[f"elbo_{name}"] - 1, name
        assert results[f"relevant_input_r2_{name}"] > results[f"irrelevant_input_r2_{name}"], name
        assert (tmp_path / name / "posterior.h5").stat().st_size > 0
    assert results["elbo_class"] > results["elbo_gaussian"]  # the context costs it nothing
    assert results["kmeans_accuracy"] >= 0.5


@pytest.mark.slow
def test_data_are_those_of_the_integrator(contextual, tmp_path, monkeypatch):
    """Spikes have their rates, and both contexts are among the trials."""
    monkeypatch.syspath_prepend(EXAMPLES)
    contextual.write_data(tmp_path / "c.h5", jax.random.key(0), 60, num_steps=60, num_units=12)
    with h5py.File(tmp_path / "c.h5") as file:
        data, error = {name: file[name][()] for name in file}, file.attrs["network_error"]
    assert data["spikes"].shape == data["rates"].shape == (60, 25, 12)
    assert data["inputs"].shape == (60, 25, 2)
    assert np.bincount(data["split"]).tolist() == [48, 6, 6]
    assert set(np.unique(data["condition"])) == {0, 1}
    assert data["rates"].min() >= 0
    assert data["rates"].max() <= 80 * 0.04
    expected = data["rates"].sum(axis=(0, 1))
    assert np.abs((data["spikes"].sum(axis=(0, 1)) - expected) / np.sqrt(expected)).max() < 5
    assert 0 < error < 1.5  # a network that has hardly learned


def test_agreement_is_that_of_the_best_assignment(contextual):
    labels = np.array([0, 0, 0, 1, 1, 1])
    assert contextual.agreement(1 - labels, labels) == 1  # names of groups do not matter
    assert contextual.agreement(np.zeros(6, int), labels) == 0.5  # a collapsed mixture
    assert contextual.agreement(np.array([0, 0, 1, 3, 3, 2]), labels) == pytest.approx(4 / 6)  # one group a label
    assert contextual.agreement(np.array([2, 2, 0, 0, 0, 0]), labels) == pytest.approx(5 / 6)


def test_information_of_components(contextual):
    labels = np.array([0, 1, 0, 1])
    certain = np.eye(2)[labels]
    assert contextual.information_bits(certain, labels) == pytest.approx(1)
    assert contextual.information_bits(np.full((4, 3), 1 / 3), labels) == pytest.approx(0, abs=1e-12)
    noisy = 0.9 * certain + 0.1 * certain[:, ::-1]  # a binary symmetric channel
    capacity = 1 + 0.9 * np.log2(0.9) + 0.1 * np.log2(0.1)
    assert contextual.information_bits(noisy, labels) == pytest.approx(capacity)


def test_scores_of_a_mixture_and_of_clusters(contextual):
    rng, labels = np.random.default_rng(0), np.repeat([0, 1], 50)
    codes = 10 * np.eye(2)[labels] + 0.1 * rng.normal(size=(100, 2))
    assert contextual.kmeans_scores(codes, labels, seed=0)["kmeans_accuracy"] == 1
    assert contextual.kmeans_scores(codes, labels, seed=0)["kmeans4_accuracy"] < 1
    scores = contextual.mixture_scores("m", np.eye(4)[np.where(labels == 0, 3, 1)], labels)
    assert scores == {"m_accuracy": 1, "m_information_bits": pytest.approx(1), "m_components_used": 2}


def test_relevant_and_irrelevant_inputs(contextual):
    """Inferred inputs of another scale and sign in each context, that know the relevant stream up to noise."""
    rng = np.random.default_rng(0)
    inputs, context = rng.normal(size=(400, 25, 2)), np.repeat([0, 1], 200)
    relevant = np.take_along_axis(inputs, context[:, None, None], axis=2)
    noise = rng.normal(size=relevant.shape)
    inferred = np.concatenate([noise - relevant, noise], axis=2) * np.where(context == 0, 1, -3)[:, None, None] + 5
    assert contextual.input_scores(inferred, inputs, context)["relevant_input_r2"] == pytest.approx(1)
    scores = contextual.input_scores(inferred[..., :1], inputs, context)
    assert scores["relevant_input_r2"] == pytest.approx(0.5, abs=0.03)
    assert scores["irrelevant_input_r2"] == pytest.approx(0, abs=0.01)
