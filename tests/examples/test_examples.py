"""Every example runs with --quick, leaves what it promises, and answers --help at once."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(name, *arguments):
    return subprocess.run([sys.executable, EXAMPLES / f"{name}.py", *arguments], capture_output=True, text=True)


@pytest.mark.parametrize("name", [path.stem for path in sorted(EXAMPLES.glob("[!_]*.py"))])
def test_help_explains_without_loading_jax(name):
    code = f"import sys; sys.argv = ['x', '--help']; sys.path.insert(0, {str(EXAMPLES)!r})\n"
    code += f"import runpy\ntry:\n    runpy.run_path({str(EXAMPLES / f'{name}.py')!r}, run_name='__main__')\n"
    code += "except SystemExit:\n    print('jax' in sys.modules, 'matplotlib' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--quick" in result.stdout
    assert result.stdout.splitlines()[-1] == "False False"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "metrics", "files"),
    [
        (
            "integrator_rnn",
            {"eval_mse": 1e-3, "max_speed": 1e-6},
            ["eigenvalues.png", "fixed_points.png", "hidden_units.png", "loss.png", "trials.png", "integrator.h5"],
        ),
        (
            "decision_gru",
            {"eval_mse": 0.2, "max_speed": 5e-5},
            ["eigenvalues.png", "fixed_points.png", "hidden_units.png", "loss.png", "trials.png"],
        ),
    ],
)
def test_quick_run(tmp_path, name, metrics, files):
    result = run(name, "--quick", "--out", tmp_path)
    assert result.returncode == 0, result.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    for metric, largest in metrics.items():
        assert results[metric] <= largest, metric
    assert results["num_fixed_points"] > 0
    assert all(isinstance(value, (int, float)) for value in results.values())
    for file in [*files, "fixed_points.h5", "checkpoints/metrics.jsonl"]:
        assert (tmp_path / file).stat().st_size > 0, file
    again = run(name, "--quick", "--out", tmp_path)  # nothing is left to train
    assert again.returncode == 0, again.stderr
    assert json.loads((tmp_path / "results.json").read_text())["eval_mse"] == results["eval_mse"]


@pytest.mark.slow
def test_data_set_for_lfads_follows_from_its_initial_states(tmp_path):
    """The hidden states are the network's run from h0s over the inputs, spikes have their rates."""
    import h5py
    import numpy as np

    from ctd_models import load_checkpoint

    result = run("integrator_rnn", "--quick", "--out", tmp_path, "--num-candidates", "50")
    assert result.returncode == 0, result.stderr
    model, variables = load_checkpoint(tmp_path / "checkpoints", "best")
    with h5py.File(tmp_path / "integrator.h5") as file:
        data = {name: file[name][()] for name in file}
    trajectory = model.apply(variables, data["inputs"], data["h0s"])
    np.testing.assert_allclose(trajectory.states, data["hiddens"], atol=1e-5)
    start = data["targets"][:, :1] - data["inputs"][:, :1]
    np.testing.assert_allclose(data["targets"] - start, np.cumsum(data["inputs"], axis=1), atol=1e-4)
    expected = 80 * 0.04 * (data["hiddens"] + 1) / 2
    error = (data["spikes"] - expected).sum(axis=(0, 1)) / np.sqrt(expected.sum(axis=(0, 1)))
    assert np.abs(error).max() < 5


def test_a_quick_run_keeps_what_was_asked_for(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    common = importlib.import_module("_common")
    lorenz = importlib.import_module("lfads_lorenz")
    settings = common.shortened(lorenz.Settings(num_samples=7), num_steps=200, num_samples=5)
    assert (settings.num_steps, settings.num_samples) == (200, 7)
