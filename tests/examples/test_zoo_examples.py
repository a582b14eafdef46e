"""The classic networks, quickly: one of each, and several in one program."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ctd_models import VanillaRNN, load_checkpoint
from ctd_models.data import write_datasets

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(name, out, *arguments):
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), "--quick", "--out", str(out), *map(str, arguments)]
    process = subprocess.run(
        command, env={**os.environ, "MPLBACKEND": "Agg"}, capture_output=True, text=True, timeout=900, check=False
    )
    assert process.returncode == 0, process.stderr[-3000:]
    results = json.loads((out / "results.json").read_text())
    assert all(np.isfinite(value) for value in results.values())
    return results, process.stdout


@pytest.mark.slow
def test_flip_flop(tmp_path):
    results, _ = run("flip_flop", tmp_path)
    assert results["loss"] < 0.03
    assert results["num_stable_memories"] == results["num_stable_points"] == 8
    assert results["num_saddles_1"] >= 12 and results["num_fixed_points"] >= 26
    assert all((tmp_path / f"{name}.png").exists() for name in ("transitions", "fixed_points", "trials", "loss"))
    load_checkpoint(tmp_path, "best")


@pytest.mark.slow
def test_several_networks_in_one_program(tmp_path):
    options = ("--num-networks", 3, "--num-bits", 2, "--hidden-size", 16, "--num-steps", 600)
    results, _ = run("flip_flop", tmp_path, *options)
    assert {"loss", "loss_sd", "num_stable_memories_sd"} <= set(results)
    assert results["num_stable_memories"] > 2
    for number in range(3):
        load_checkpoint(tmp_path / "checkpoints" / f"network_{number}", "best")


@pytest.mark.slow
def test_sine_wave(tmp_path):
    results, _ = run("sine_wave", tmp_path)
    assert results["frequency_correlation"] > 0.95
    assert results["num_inputs_with_unstable_pair"] > 40
    assert (tmp_path / "frequencies.png").exists()


@pytest.mark.slow
def test_moving_average(tmp_path):
    results, _ = run("moving_average", tmp_path)
    assert results["loss"] < 5e-3 and results["cloud_dimension"] == 2
    assert results["last_pulse_r2"] > 0.9 and results["pulse_before_r2"] > 0.9
    assert results["second_mode_size"] > 0.9 > results["third_mode_size"] - 0.05
    assert (tmp_path / "slow_points.png").exists()


@pytest.mark.slow
@pytest.mark.parametrize("task", ["decision", "white_noise"])
def test_context_integration(tmp_path, task):
    results, _ = run("context_integration", tmp_path, "--task", task)
    assert min(results["selection_ratio_motion"], results["selection_ratio_color"]) > 3
    assert results["line_eigenvalue"] == pytest.approx(1, abs=0.05)
    if task == "decision":
        assert results["accuracy_high_coherence"] > 0.95 and results["largest_gap_to_ideal"] < 0.1
        assert (tmp_path / "psychometric.png").exists()


@pytest.mark.slow
def test_persistent_activity(tmp_path):
    results, printed = run("persistent_activity", tmp_path)
    assert results["mechanism_accuracy"] == 1
    assert results["comparison_accuracy"] > 0.95
    assert sum(value for name, value in results.items() if name.startswith("trained_is_")) == 1
    assert "MemoryMechanism: " in printed
    assert all((tmp_path / f"{name}.png").exists() for name in ("mechanisms", "tuning", "trials", "loss"))


@pytest.mark.slow
def test_a_flip_flop_whose_memories_alternate_says_so(monkeypatch, capsys):
    """Each bit is tanh(−2 h): its memories are the two-cycle ± h*, h* = tanh(2 h*), and its only fixed point is 0."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import flip_flop

    model = VanillaRNN(3, 3)
    cell = {"recurrent_kernel": -2 * np.eye(3), "input_kernel": np.eye(3), "bias": np.zeros(3)}
    readout = {"kernel": np.eye(3), "bias": np.zeros(3)}
    params = {"cell": cell, "readout": readout, "initial_state": np.zeros(3)}
    variables = jax.tree.map(jnp.float32, {"params": params})
    settings = flip_flop.Settings(cell="vanilla", num_candidates=200)
    states = np.random.default_rng(0).uniform(-1, 1, (20, 30, 3)).astype(np.float32)
    points, _, numbers = flip_flop.analyse(settings, model, variables, states)
    assert numbers["num_two_cycles"] == 4 and numbers["num_stable_memories"] == 0 and len(points) == 1
    assert (
        "4 attractors are cycles of two states, not fixed points: these memories alternate" in capsys.readouterr().out
    )


@pytest.mark.slow
def test_modular_grasp(tmp_path):
    results, _ = run("modular_grasp", tmp_path)
    assert results["normalized_error"] < 0.1 and results["unseen_objects_error"] < 0.15
    assert min(results["lesion_feedforward_error"], results["lesion_feedback_error"]) > 2 * results["normalized_error"]
    assert results["link_density"] == pytest.approx(0.1)
    assert results["object_share_AIP_fixation"] < 1e-6 < 0.5 < results["object_share_AIP_cue"]
    assert results["cca_AIP_F5_held_out"] > results["cca_AIP_F5_chance"]
    for name in ("trials", "trajectories", "variance", "lesions", "latents", "overview", "loss"):
        assert (tmp_path / f"{name}.png").exists()
    model, variables = load_checkpoint(tmp_path, "best")
    assert set(model.cell.blocks(variables)) >= set(model.cell.links)


@pytest.mark.slow
def test_modular_grasp_of_a_file(tmp_path):
    """Two modules, trained on a file whose recording M is a rotation of the kinematics."""
    rng, (trials, time) = np.random.default_rng(0), (240, 40)
    seen, of_object = rng.normal(size=(12, 5)), np.arange(trials) % 12
    course = np.clip((np.arange(time) - 15) / 20, 0, 1)[:, None]
    kinematics = 3 * course * np.tanh(seen @ rng.normal(size=(5, 4)))[of_object][:, None] + 2
    arrays = {
        "trials/inputs": np.tile(seen[of_object][:, None], (1, time, 1)),
        "trials/kinematics": kinematics,
        "trials/object": of_object,
        "recordings/M": kinematics @ np.linalg.qr(rng.normal(size=(4, 4)))[0]
        + 0.01 * rng.normal(size=(trials, time, 4)),
    }
    write_datasets(tmp_path / "mine.h5", arrays, attributes={"bin_width_s": 0.02})
    options = ("--data", tmp_path / "mine.h5", "--modules", "A", "B", "--hidden-size", 30, "--batch-size", 16)
    results, _ = run("modular_grasp", tmp_path / "out", *options, "--num-networks", 2)
    assert results["normalized_error"] < 0.05 < results["lesion_A_to_B_error"]
    assert "unseen_objects_error" not in results and "lesion_A_to_B_error_sd" in results
    assert results["cca_B_recorded_M_held_out"] > max(0.5, results["cca_B_recorded_M_chance"])
