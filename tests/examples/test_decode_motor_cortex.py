import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ctd_models import load_checkpoint
from ctd_models.analysis import FixedPoints
from ctd_models.data import write_datasets
from ctd_models.models.decoder import Decoder

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "decode_motor_cortex.py"
TIME = 0.05 * np.arange(16) - 0.2


def run(*arguments, cwd):
    environment = {**os.environ, "MPLBACKEND": "Agg"}
    command = [sys.executable, str(EXAMPLE), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=600)


def reaches(seed=0, num_trials=80, num_neurons=24):
    """A file of this layout: force that rises to one of eight targets, and spikes whose rates lead it by two bins."""
    rng = np.random.default_rng(seed)
    condition = np.arange(num_trials) % 8
    angle = 2 * np.pi * condition / 8
    target = 10 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    onset = rng.uniform(0.1, 0.3, num_trials)[:, None]

    def rise(t):
        return 1 / (1 + np.exp(-(t - onset) / 0.04))

    drive = rise(TIME + 0.1)[..., None] * target[:, None] / 10
    rates = np.exp(0.5 + drive @ rng.normal(size=(2, num_neurons)))
    return {
        "trials/spikes": rng.poisson(rates).astype(np.uint8),
        "trials/force": rise(TIME)[..., None] * target[:, None],
        "trials/split": np.repeat([0, 1, 2], [num_trials - 32, 16, 16]),
        "trials/fold5": np.arange(num_trials) // 8 % 5,
        "trials/condition": condition,
        "trials/target_xy": target,
        "trials/time_s": TIME,
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("example")
    write_datasets(folder / "mine.h5", reaches(), units={"trials/force": "N"})
    process = run("--data", "mine.h5", "--out", "results", "--quick", "--hidden-size", 24, cwd=folder)
    assert process.returncode == 0, process.stderr
    return folder / "results", process.stdout


@pytest.mark.slow
def test_a_recording_of_the_same_layout_is_decoded(finished):
    out, printed = finished
    results = json.loads((out / "results.json").read_text())
    assert all(isinstance(value, (int, float)) for value in results.values())
    assert results["test_r2_force"] > 0.8
    assert results["test_r2_force"] > results["control_r2_spikes_of_other_trials"] + 0.8
    assert 0.5 < results["baseline_r2_smoothed"] < 1
    assert results["cv_r2_mean"] == results["cv_r2_fold_0"]
    assert f"{results['test_r2_force']:.5g}" in printed


@pytest.mark.slow
def test_it_leaves_figures_fixed_points_and_a_checkpoint(finished):
    out, _ = finished
    for name in ("decoded_force", "cross_validation", "fixed_points"):
        assert (out / f"{name}.png").stat().st_size > 10_000
    model, variables = load_checkpoint(out / "checkpoints", "best")
    assert isinstance(model, Decoder)
    assert variables["statistics"]["standardize"]["mean"].shape == (24,)
    points = FixedPoints.load(out / "fixed_points.h5")
    results = json.loads((out / "results.json").read_text())
    assert len(points) == results["num_fixed_points"] == sum(results[f"direction_{k}_fixed_points"] for k in range(8))
    assert points.inputs.shape == (len(points), 24)


def test_a_missing_dataset_is_named(tmp_path):
    arrays = reaches()
    del arrays["trials/force"]
    write_datasets(tmp_path / "mine.h5", arrays)
    process = run("--data", "mine.h5", cwd=tmp_path)
    assert process.returncode != 0
    assert "mine.h5 has no dataset 'trials/force' (expected [trials, time, 2])" in process.stderr


def test_help_explains_and_is_quick(tmp_path):
    start = time.perf_counter()
    process = run("--help", cwd=tmp_path)
    assert time.perf_counter() - start < 3
    assert "HDF5 file of the recording" in process.stdout


@pytest.mark.slow
def test_it_is_causal(tmp_path):
    """Force that only the spikes of its own bin tell: unknown to a causal decoder, known where lag = 0 lets it look."""
    arrays = reaches(num_trials=160)
    rng = np.random.default_rng(1)
    arrays["trials/spikes"] = rng.poisson(4.0, arrays["trials/spikes"].shape).astype(np.uint8)
    arrays["trials/force"] = (arrays["trials/spikes"] - 4.0) @ rng.normal(size=(24, 2))
    write_datasets(tmp_path / "mine.h5", arrays)
    scores = {}
    for lag in (0, 1):
        process = run("--data", "mine.h5", "--quick", "--lag", lag, "--out", f"lag{lag}", cwd=tmp_path)
        assert process.returncode == 0, process.stderr
        scores[lag] = json.loads((tmp_path / f"lag{lag}" / "results.json").read_text())["test_r2_force"]
    assert scores[1] < 0.05
    assert scores[0] > 0.5


@pytest.mark.slow
def test_motor_cortex_is_decoded_better_than_by_smoothing(data_folder, tmp_path):
    process = run("--data", data_folder / "adan_day0.h5", "--out", "results", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    results = json.loads((tmp_path / "results" / "results.json").read_text())
    assert results["cv_r2_mean"] > 0.95 > results["cv_baseline_r2_mean"]
    assert results["baseline_r2_smoothed"] == pytest.approx(0.868, abs=0.003)
    assert results["cv_baseline_r2_mean"] == pytest.approx(0.875, abs=0.003)
    assert results["num_stable_fixed_points"] >= 8
    assert results["angle_error_deg_mean"] < 10
