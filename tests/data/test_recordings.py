import dataclasses

import numpy as np
import pytest

from ctd_models.data import TEST, TRAIN, VALIDATION, load_recording, write_datasets


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return {
        "trials/spikes": rng.poisson(2.0, (10, 6, 4)).astype(np.uint8),
        "trials/force": rng.normal(size=(10, 6, 2)).astype(np.float32),
        "trials/emg": rng.normal(size=(10, 6, 3)),
        "trials/split": np.array([0] * 6 + [1] * 2 + [2] * 2, np.int8),
        "trials/fold5": np.arange(10, dtype=np.int8) % 5,
        "trials/condition": np.arange(10) % 2,
        "trials/target_xy": np.tile([[1.0, 0.0], [0.0, 1.0]], (5, 1)),
        "trials/time_s": 0.05 * np.arange(6) - 0.1,
    }


@pytest.fixture
def write(tmp_path):
    def write(arrays, **attributes):
        units = {name: "N" for name in arrays if name == "trials/force"}
        write_datasets(tmp_path / "a.h5", arrays, units=units, attributes=attributes)
        return tmp_path / "a.h5"

    return write


def test_a_recording_is_what_the_file_holds(write, arrays):
    recording = load_recording(write(arrays, bin_width_s=0.05), ("force", "emg"))
    np.testing.assert_array_equal(recording.spikes, arrays["trials/spikes"])
    np.testing.assert_array_equal(recording.behavior["force"], arrays["trials/force"])
    assert recording.behavior["emg"].shape == (10, 6, 3)
    assert recording.units == {"force": "N", "emg": "a.u."}
    assert recording.bin_width_s == 0.05
    assert [recording.part(p).tolist() for p in (TRAIN, VALIDATION, TEST)] == [[0, 1, 2, 3, 4, 5], [6, 7], [8, 9]]
    np.testing.assert_array_equal(recording.fold, np.arange(10) % 5)
    with pytest.raises(dataclasses.FrozenInstanceError):
        recording.fold = None


def test_counts_can_be_subtracted(write, arrays):
    spikes = load_recording(write(arrays)).spikes
    assert (spikes[:, 1:] - spikes[:, :-1]).min() < 0


def test_what_is_optional_may_be_absent_unless_it_is_required(write, arrays):
    for name in ("fold5", "condition", "target_xy"):
        del arrays[f"trials/{name}"]
    path = write(arrays)
    recording = load_recording(path)
    assert recording.fold is None
    assert recording.condition is None
    assert recording.target_xy is None
    assert recording.bin_width_s == pytest.approx(0.05)  # from the times
    with pytest.raises(ValueError, match="no dataset 'trials/condition'"):
        load_recording(path, require=("condition",))
    with pytest.raises(ValueError, match=r"got \['day'\]"):
        load_recording(path, require=("day",))


def damaged(name, change):
    def damage(arrays):
        arrays[name] = change(arrays[name])

    return damage


def with_value(index, value):
    def change(array):
        array = array.astype(float)
        array[index] = value
        return array

    return change


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda a: a.pop("trials/spikes"), r"no dataset 'trials/spikes' \(expected \[trials, time, neurons\]\)"),
        (lambda a: a.pop("trials/force"), r"no dataset 'trials/force' \(expected \[trials, time, 2\]\)"),
        (lambda a: a.pop("trials/split"), "no dataset 'trials/split'"),
        (damaged("trials/spikes", lambda x: x[0]), r"'trials/spikes' has shape \(6, 4\)"),
        (damaged("trials/force", lambda x: x[:, :-1]), r"'trials/force' has shape \(10, 5, 2\).* 6 time"),
        (damaged("trials/force", lambda x: x[..., :1]), r"'trials/force' has shape \(10, 6, 1\)"),
        (damaged("trials/fold5", lambda x: x[1:]), r"'trials/fold5' has shape \(9,\)"),
        (damaged("trials/spikes", with_value((1, 2, 3), -1)), r"spike counts.* got -1.0 at index \(1, 2, 3\)"),
        (damaged("trials/spikes", with_value((1, 2, 3), 0.5)), r"spike counts.* got 0.5 at index \(1, 2, 3\)"),
        (damaged("trials/spikes", with_value((1, 2, 3), np.nan)), r"spike counts.* got nan at index \(1, 2, 3\)"),
        (
            damaged("trials/force", with_value((4, 0, 1), np.inf)),
            r"finite.*'trials/force'.* got inf at index \(4, 0, 1\)",
        ),
        (damaged("trials/split", with_value(3, 5)), r"0 \(train\).*'trials/split'.* got 5.0 at index \(3,\)"),
        (damaged("trials/split", lambda x: np.minimum(x, 1)), "'trials/split' has no test trial"),
        (damaged("trials/time_s", lambda x: x[::-1]), "increasing times"),
    ],
)
def test_what_does_not_fit_is_named(write, arrays, damage, message):
    damage(arrays)
    with pytest.raises(ValueError, match=rf"a\.h5.*{message}"):
        load_recording(write(arrays), {"force": 2})


def test_a_bin_has_a_width(write, arrays):
    with pytest.raises(ValueError, match="'bin_width_s' must be positive"):
        load_recording(write(arrays, bin_width_s=0.0))


def test_a_real_recording(data_folder):
    recording = load_recording(data_folder / "adan_day0.h5", {"force": 2, "emg": 14}, ("condition", "target_xy"))
    assert recording.spikes.shape == (296, 30, 96)
    assert recording.units["force"] == "target units"
    assert recording.bin_width_s == 0.05
    assert [len(recording.part(p)) for p in (TRAIN, VALIDATION, TEST)] == [204, 32, 60]
    np.testing.assert_allclose(np.hypot(*recording.target_xy.T), 10, rtol=1e-3)
