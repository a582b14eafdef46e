import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from ctd_models import LFADS, load_checkpoint
from ctd_models.analysis import FixedPoints
from ctd_models.data import SpikeDataset, SpikeTrials, load_spike_trials, write_datasets

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SILENT, HELDOUT = 5, [3, 8, 13, 18, 23]
DT = 0.05


def run(*arguments, cwd):
    environment = {**os.environ, "MPLBACKEND": "Agg"}
    command = [sys.executable, str(EXAMPLES / "lfads_neural_data.py"), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=900)


def reaches(seed=0, num_trials=120, num_neurons=25):
    """Hand velocity with a bump towards one of six targets, and spikes whose log rates follow it; one neuron is silent."""
    rng = np.random.default_rng(seed)
    condition = np.arange(num_trials) % 6
    angle, time = 2 * np.pi * condition / 6, DT * np.arange(18) - 0.2
    onset = rng.uniform(0.1, 0.3, num_trials)[:, None]
    bump = np.exp(-(((time - onset) / 0.15) ** 2))
    velocity = 10 * bump[..., None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)[:, None]
    rates = np.exp(0.5 + 0.1 * velocity @ rng.normal(size=(2, num_neurons)))
    rates[..., SILENT] = 0
    grip = np.concatenate([bump[..., None], velocity / 10], axis=2)
    grip[7] = np.nan
    return {
        "trials/spikes": rng.poisson(rates).astype(np.uint8),
        "trials/hand_velocity": velocity,
        "trials/grip": grip,
        "trials/constant": np.ones((num_trials, 18, 1)),
        "trials/split": np.repeat([0, 1, 2], [num_trials - 48, 24, 24]),
        "trials/condition": condition,
        "trials/time_s": time,
        "meta/heldin_channels": np.setdiff1d(np.arange(num_neurons), HELDOUT),
        "meta/heldout_channels": np.array(HELDOUT),
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("example")
    write_datasets(folder / "mine.h5", reaches(), units={"trials/hand_velocity": "cm/s"})
    process = run("--data", "mine.h5", "--out", "results", "--quick", "--hidden-size", 32, "--dropout", 0, cwd=folder)
    assert process.returncode == 0, process.stderr
    return folder / "results", process


@pytest.mark.slow
def test_a_recording_of_the_same_layout_is_inferred(finished):
    out, process = finished
    results = json.loads((out / "results.json").read_text())
    assert all(isinstance(value, (int, float)) for value in results.values())
    for name in ("hand_velocity", "grip"):
        assert 0.6 < results[f"test_r2_{name}"] < 1
        assert 0.6 < results[f"test_r2_{name}_states"] < 1
        assert 0.5 < results[f"smoothed_r2_{name}"] < 1
        assert 0.5 < results[f"validation_r2_{name}"] < 1
    assert not any("constant" in name for name in results)
    assert "constant is not decoded" in process.stdout
    assert "grip: 1 of 120 trials are left out" in process.stdout
    assert f"{results['test_r2_grip']:.5g}" in process.stdout
    for name in ("test_co_bps", "test_co_bps_glm", "smoothed_co_bps", "validation_co_bps_glm"):
        assert results[name] > 0.1
    assert 0.3 < results["psth_r2"] < 1
    assert results["elbo"] < -results["nll"] < 0


@pytest.mark.slow
def test_silent_neurons_are_named(finished):
    _, process = finished
    assert f"1 of 25 neurons have no spike in the 72 training trials, those with index [{SILENT}]" in process.stderr


@pytest.mark.slow
def test_it_leaves_figures_posteriors_fixed_points_and_checkpoints(finished):
    out, _ = finished
    figures = ["decoding", "decoded_hand_velocity", "factors", "psths", "fixed_points"]
    for name in figures + [f"{model}_{kind}" for model in ("decoding", "cosmoothing") for kind in ("rates", "elbo")]:
        assert (out / f"{name}.png").stat().st_size > 10_000, name
    for name, read, neurons in (("decoding", 25, 25), ("cosmoothing", 20, 25)):
        model, _ = load_checkpoint(out / name / "checkpoints", "best")
        assert isinstance(model, LFADS)
        assert (model.inputs_size, model.num_neurons) == (read, neurons)
        with h5py.File(out / name / "posterior.h5") as file:
            assert file["trial_indices"][:].tolist() == list(range(120))
            assert file["rates"].shape == (120, 18, 25)
            assert file["rates"].attrs["units"] == "spikes/bin"
            assert file["factors"].shape == (120, 18, 64)
    points = FixedPoints.load(out / "fixed_points.h5")
    assert len(points) == json.loads((out / "results.json").read_text())["num_fixed_points"]
    assert points.states.shape[1:] == (32,)
    assert not points.inputs.any()


@pytest.mark.slow
def test_without_heldout_neurons_test_trials_and_conditions(tmp_path):
    arrays = reaches()
    for name in ("meta/heldin_channels", "meta/heldout_channels", "trials/condition", "trials/hand_velocity"):
        del arrays[name]
    arrays["trials/split"] = np.minimum(arrays["trials/split"], 1)
    write_datasets(tmp_path / "mine.h5", arrays)
    process = run("--data", "mine.h5", "--out", "results", "--quick", "--hidden-size", 16, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    results = json.loads((tmp_path / "results" / "results.json").read_text())
    assert "validation_r2_grip" in results
    assert not any(name.startswith(("test_", "cosmoothing_")) or "bps" in name or "psth" in name for name in results)


@pytest.mark.slow
def test_a_file_of_lfads_torch_with_forward_bins(tmp_path):
    arrays = reaches()
    spikes = np.concatenate([np.delete(arrays["trials/spikes"], HELDOUT, 2), arrays["trials/spikes"][..., HELDOUT]], 2)
    parts = {"train": spikes[:80], "valid": spikes[80:]}
    file = {f"{part}_encod_data": values[:, :15, :20] for part, values in parts.items()}
    file |= {f"{part}_recon_data": values for part, values in parts.items()}
    file |= {"train_hand": arrays["trials/hand_velocity"][:80], "valid_hand": arrays["trials/hand_velocity"][80:]}
    write_datasets(tmp_path / "mine.h5", file)
    process = run("--data", "mine.h5", "--quick", cwd=tmp_path)
    assert process.returncode != 0
    assert "mine.h5 does not tell how wide its bins are: give --bin-width-s" in process.stderr
    arguments = ("--bin-width-s", DT, "--hidden-size", 16, "--out", "results")
    process = run("--data", "mine.h5", "--quick", *arguments, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    results = json.loads((tmp_path / "results" / "results.json").read_text())
    assert {"validation_r2_hand", "validation_co_bps", "validation_forward_bps"} <= results.keys()


@pytest.mark.slow
def test_motor_cortex_is_decoded_better_than_by_smoothing(data_folder, tmp_path):
    process = run("--data", data_folder / "adan_day0.h5", "--out", "results", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    results = json.loads((tmp_path / "results" / "results.json").read_text())
    assert results["smoothed_r2_force"] == pytest.approx(0.869, abs=0.003)
    assert results["smoothed_co_bps"] == pytest.approx(0.124, abs=0.001)
    for name in ("force", "force_rate", "emg"):
        assert results[f"test_r2_{name}"] > results[f"smoothed_r2_{name}"] + 0.05
    assert results["test_co_bps"] > results["smoothed_co_bps"]


def test_help_explains(tmp_path):
    process = run("--help", cwd=tmp_path)
    assert process.returncode == 0
    assert "Dropout in all parts of the models" in process.stdout


# How trials of a recording are arranged ------------------------------------------------------------------------------


@pytest.fixture
def neural(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import _neural_data

    return _neural_data


def test_all_neurons_are_read_for_decoding(neural, tmp_path):
    arrays = reaches()
    arrays["meta/heldin_channels"] = arrays["meta/heldin_channels"][1:]  # neuron 0 is in neither list
    write_datasets(tmp_path / "mine.h5", arrays)
    with pytest.warns(UserWarning, match="have no spike"):
        data, heldout = neural.load(tmp_path / "mine.h5", None, seed=0)
    np.testing.assert_array_equal(data.train.inputs, arrays["trials/spikes"][:72])
    assert heldout.train.inputs.shape[2] == 19
    np.testing.assert_array_equal(heldout.train.targets[..., 19:], arrays["trials/spikes"][:72][..., HELDOUT])


def test_where_nothing_is_held_out_there_is_nothing_to_cosmooth(neural, tmp_path):
    arrays = reaches()
    del arrays["meta/heldout_channels"], arrays["meta/heldin_channels"]
    write_datasets(tmp_path / "mine.h5", arrays)
    with pytest.warns(UserWarning, match="have no spike"):
        assert neural.load(tmp_path / "mine.h5", None, seed=0)[1] is None


def test_parts_in_one_keep_their_trials(neural):
    spikes = np.arange(6 * 3 * 2).reshape(6, 3, 2)
    parts = {"train": [4, 0, 2], "validation": [1], "test": [5, 3]}
    trials = {part: SpikeTrials.from_spikes(spikes[i]) for part, i in parts.items()}
    trials["validation"] = trials["validation"]._replace(lengths=np.array([2]))
    trials["test"] = trials["test"]._replace(mask=np.ones((1, 3, 2)))
    data = SpikeDataset(**trials, trial_indices={part: np.array(i) for part, i in parts.items()})
    joined, places, numbers = neural.in_one(data)
    np.testing.assert_array_equal(joined.targets, spikes[numbers])
    assert numbers.tolist() == [4, 0, 2, 1, 5, 3]
    assert {part: numbers[where].tolist() for part, where in places.items()} == parts
    assert joined.lengths.tolist() == [3, 3, 3, 2, 3, 3]
    assert joined.mask is None


@pytest.mark.filterwarnings("ignore:.*have no spike")
def test_validation_trials_are_taken_from_training_where_there_are_none(neural, tmp_path):
    arrays = reaches()
    arrays["trials/split"] = np.where(arrays["trials/split"] == 1, 0, arrays["trials/split"])
    write_datasets(tmp_path / "mine.h5", arrays)
    before = load_spike_trials(tmp_path / "mine.h5", heldout=())
    data = neural.with_validation(before, seed=3)
    both = np.concatenate([data.trial_indices["train"], data.trial_indices["validation"]])
    assert np.sort(both).tolist() == list(range(96))
    assert len(data.validation.inputs) == 19
    for part in ("train", "validation", "test"):
        numbers = data.trial_indices[part]
        np.testing.assert_array_equal(data.parts[part].targets, arrays["trials/spikes"][numbers])
        np.testing.assert_array_equal(data.conditions[part], arrays["trials/condition"][numbers])
        np.testing.assert_array_equal(data.behavior[part]["grip"], arrays["trials/grip"][numbers])
    assert neural.with_validation(data, seed=3) is data


def test_behavior_that_cannot_be_decoded_is_told(neural, capsys):
    spikes, rng = np.ones((4, 6, 2), int), np.random.default_rng(0)
    hand, flat = rng.normal(size=(4, 6, 2)), np.ones((4, 6, 1))
    hand[1, 3, 0] = np.nan
    known = {"hand": hand, "flat": flat, "reaction_time": rng.normal(size=(4, 1)), "gaze": rng.normal(size=(4, 6, 2))}
    trials, behavior = SpikeTrials.from_spikes(spikes), {"train": known, "validation": {**known, "hand": hand + 1}}
    del behavior["validation"]["gaze"]
    data = SpikeDataset(train=trials, validation=trials, behavior=behavior)
    (found,) = neural.behaviors(data, {"train": np.arange(4), "validation": np.arange(4, 8)}, first_bin=2)
    name, values, places = found
    assert name == "hand"
    assert {part: i.tolist() for part, i in places.items()} == {"train": [0, 2, 3], "validation": [4, 6, 7]}
    np.testing.assert_array_equal(values[4:], np.where(np.isin(np.arange(4), 1)[:, None, None], 0, hand + 1))
    printed = capsys.readouterr().out
    assert "hand: 2 of 8 trials are left out" in printed
    for name in ("flat", "reaction_time", "gaze"):
        assert f"{name} is not decoded" in printed
