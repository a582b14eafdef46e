"""The stitching example on recordings of several days, on groups of a file and on a simulation."""

import json
import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from ctd_models.data import load_sessions, write_datasets

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture(scope="module")
def scripts():
    sys.path.insert(0, str(EXAMPLES))
    try:
        import _stitching
        import _stitching_scores
    finally:
        sys.path.remove(str(EXAMPLES))
    return _stitching, _stitching_scores


def run(*arguments, cwd):
    environment = {**os.environ, "MPLBACKEND": "Agg"}
    command = [sys.executable, str(EXAMPLES / "lfads_stitching.py"), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=900)


def day(seed, num_neurons, num_trials=96, **changed):
    """Reaches to four targets that neurons of their own see in each session."""
    rng = np.random.default_rng(seed)
    condition = np.arange(num_trials) % 4
    angle, time = np.pi * condition / 2, 0.05 * np.arange(12)
    bump = np.exp(-(((time - 0.3) / 0.1) ** 2))[:, None] * (1 + 0.1 * rng.normal(size=(num_trials, 1, 1)))
    velocity = bump * np.stack([np.cos(angle), np.sin(angle)], axis=1)[:, None]
    rates = np.exp(0.5 + velocity @ rng.normal(size=(2, num_neurons)))
    return {
        "trials/spikes": rng.poisson(rates).astype(np.uint8),
        "trials/velocity": velocity,
        "trials/split": np.repeat([0, 1, 2], [num_trials - 48, 24, 24]),
        "trials/condition": condition,
        "trials/time_s": time,
        **changed,
    }


def write(path, arrays):
    write_datasets(path, {name: values for name, values in arrays.items() if values is not None})
    return path


def settings(**changed):
    plain = {"simulate": False, "bin_width_s": None, "seed": 0, "quick": False, "data": ()}
    return types.SimpleNamespace(**plain | changed)


def test_features_of_each_session_lie_at_its_trials(scripts, tmp_path):
    stitching, _ = scripts
    paths = [str(write(tmp_path / f"day_{i}.h5", day(i, 6 + i, 60 + 20 * i))) for i in range(2)]
    data = stitching.Sessions(stitching.load(settings(data=paths)))
    assert list(data.sessions) == ["day_0", "day_1"] and data.part == "test"
    features = data.each(lambda name: data.own_trials(name).inputs[..., :6])
    mine = data.trials.sessions == 0
    np.testing.assert_array_equal(features[mine], data.trials.inputs[mine][..., :6])
    np.testing.assert_array_equal(features[~mine], data.trials.inputs[~mine][..., :6])
    assert len(data.known("conditions")) == len(mine) == 140 and data.known("latents") is None
    assert [w.read_in.shape for w in data.weights(["day_0", "day_1"], 4, 1.0)] == [(6, 4), (7, 4)]


def test_read_ins_of_sessions_without_conditions(scripts, tmp_path):
    stitching, _ = scripts
    paths = [str(write(tmp_path / f"{i}.h5", day(i, 6, **{"trials/condition": None}))) for i in range(2)]
    data = stitching.Sessions(stitching.load(settings(data=paths)))
    assert [w.read_in.shape for w in data.weights(["0", "1"], 24, 1.0)] == [(6, 11), (6, 11)]


def test_simulated_sessions_see_the_same_trajectories(scripts, tmp_path):
    stitching, _ = scripts
    stitching.write_lorenz(tmp_path / "lorenz.h5", seed=0, num_sessions=2, num_neurons=4)
    sessions = load_sessions(tmp_path / "lorenz.h5")
    assert list(sessions) == ["session_0", "session_1"]
    first, second = sessions.values()
    np.testing.assert_array_equal(first.latents["test"], second.latents["test"])
    assert (np.asarray(first.train.targets) != second.train.targets).any()
    assert [len(part.targets) for part in first.parts.values()] == [65, 65, 65]


def test_one_session_is_not_enough(scripts, tmp_path):
    stitching, _ = scripts
    path = str(write(tmp_path / "one.h5", day(0, 6)))
    with pytest.raises(SystemExit, match="is one session: give several files"):
        stitching.load(settings(data=[path]))


@pytest.mark.slow
def test_two_days(tmp_path):
    for i in range(2):
        write(tmp_path / f"day_{i}.h5", day(i, 10 + i))
    sizes = ("--hidden-size", 16, "--num-factors", 8, "--num-components", 4, "--num-steps", 400, "--batch-size", 48)
    files = ("--data", "day_0.h5", "day_1.h5")
    process = run(*files, "--out", "out", "--quick", "--added-steps", 60, *sizes, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert all(np.isfinite(value) for value in results.values())
    assert {f"{key}_r2_velocity" for key in ("smoothed", "single_session", "random_read_in")} <= set(results)
    for key, least in {"stitched": 0.6, "unseen_session": 0.55, "cross_day": 0.55, "added_session": 0.2}.items():
        assert least < results[f"{key}_r2_velocity"] < 1, key  # the last is added to a model of a single session
    assert results["stitched_r2_velocity_low"] < results["stitched_r2_velocity"] < results["stitched_r2_velocity_high"]
    for name in ("scores", "aligned_factors", "transfer_velocity"):
        assert (tmp_path / "out" / f"{name}.png").exists()


def test_latents_are_scored_by_one_map_for_all_sessions(scripts, tmp_path):
    """Factors that are the latents in the coordinates of each session, or in the same ones."""
    stitching, scoring = scripts
    stitching.write_lorenz(tmp_path / "lorenz_sessions.h5", seed=0, num_sessions=2, num_neurons=4)
    data = stitching.Sessions(stitching.load(settings(simulate=True, out=tmp_path)))
    latents, rng = data.known("latents"), np.random.default_rng(0)
    turned = np.where((data.trials.sessions == 0)[:, None, None], latents, -latents)
    noise = rng.normal(size=latents.shape)
    factors = {
        "LFADS, one session": turned + 0.5 * noise,
        "random read-ins": turned,
        "stitched LFADS": latents + 0.1 * noise,
    }
    results = scoring.decode_latents(data, factors, settings())
    assert results["stitched_latent_r2"] == pytest.approx(0.99, abs=0.005)
    assert results["unseen_session_latent_r2"] == pytest.approx(0.99, abs=0.005)
    assert 0.8 < results["single_session_latent_r2_best"] < 0.9  # 1 / (1 + 0.25), more as x and y correlate
    assert results["random_read_in_latent_r2"] < 0.5
    assert 0.1 < results["smallest_gain_latent_r2"] < 0.2
    assert "added_session_latent_r2" not in results
