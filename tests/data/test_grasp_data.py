import numpy as np
import pytest

from ctd_models.data import TEST, TRAIN, load_grasp, write_datasets


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return {
        "trials/inputs": rng.normal(size=(9, 5, 3)).astype(np.float32),
        "trials/kinematics": rng.normal(size=(9, 5, 4)),
        "trials/object": np.arange(9) % 3,
        "trials/mask": np.tile([1.0, 1.0, 1.0, 0.5, 0.0], (9, 1)),
        "trials/split": np.repeat([0, 1, 2], 3).astype(np.int8),
        "recordings/AIP": rng.poisson(2.0, (9, 5, 6)),
        "recordings/M1": rng.normal(size=(9, 5, 2)),
    }


@pytest.fixture
def write(tmp_path):
    def write(arrays, **attributes):
        write_datasets(tmp_path / "a.h5", arrays, attributes=attributes)
        return tmp_path / "a.h5"

    return write


def test_data_are_what_was_written(write, arrays):
    data = load_grasp(write(arrays, bin_width_s=0.02))
    for name in ("inputs", "kinematics", "object", "mask", "split"):
        np.testing.assert_array_equal(getattr(data, name), arrays[f"trials/{name}"])
    assert list(data.recordings) == ["AIP", "M1"]
    for name, activity in data.recordings.items():
        np.testing.assert_array_equal(activity, arrays[f"recordings/{name}"])
    assert data.bin_width_s == 0.02
    assert data.part(TRAIN).tolist() == [0, 1, 2] and data.part(TEST).tolist() == [6, 7, 8]


def test_what_is_optional_may_be_absent(write, arrays):
    required = ("trials/inputs", "trials/kinematics", "trials/object")
    data = load_grasp(write({name: arrays[name] for name in required}))
    assert (data.mask == 1).all() and data.mask.shape == (9, 5)
    assert data.split is None and data.bin_width_s is None and dict(data.recordings) == {}
    with pytest.raises(ValueError, match="no dataset 'trials/split'"):
        data.part(TRAIN)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("trials/inputs", None, r"no dataset 'trials/inputs' \(expected \[trials, time, U\]\)"),
        ("trials/kinematics", lambda x: x[:, :4], r"'trials/kinematics' has shape \(9, 4, 4\).* 5 time"),
        ("trials/object", lambda x: x[:, None], r"'trials/object' has shape \(9, 1\), expected \[trials\]"),
        ("trials/object", lambda x: x - 1, r"labels, .*'trials/object'.* got -1 at index \(0,\)"),
        ("trials/mask", lambda x: x - 0.5, r"weights, not negative, .*'trials/mask'.* got -0.5 at index \(0, 4\)"),
        ("trials/mask", lambda x: 0 * x, "'trials/mask' is 0 everywhere"),
        ("trials/split", lambda x: np.minimum(x, 1), "'trials/split' has no test trial"),
        ("recordings/AIP", lambda x: x[1:], r"'recordings/AIP' has shape \(8, 5, 6\).* 9 trials"),
        ("recordings/M1", lambda x: np.where(x > 0, x, np.nan), r"finite values .*'recordings/M1'.* got nan"),
    ],
)
def test_what_does_not_fit_is_named(write, arrays, name, change, message):
    array = arrays.pop(name)
    if change:
        arrays[name] = change(array)
    with pytest.raises(ValueError, match=rf"a\.h5.*{message}"):
        load_grasp(write(arrays))


def test_steps_have_a_length_and_recordings_a_group(write, arrays):
    with pytest.raises(ValueError, match="'bin_width_s' must be a positive number"):
        load_grasp(write(arrays, bin_width_s=-1.0))
    with pytest.raises(ValueError, match=r"positive number \[s\], got '20ms'"):
        load_grasp(write(arrays, bin_width_s="20ms"))
    with pytest.warns(UserWarning, match="not read: trials/masks"):
        load_grasp(write(arrays | {"trials/masks": np.ones(3)}))
    arrays = {name: array for name, array in arrays.items() if not name.startswith("recordings")}
    with pytest.raises(ValueError, match="'recordings' must be a group of datasets, found a dataset"):
        load_grasp(write(arrays | {"recordings": np.ones(3)}))
