import h5py
import numpy as np
import pytest

from ctd_models.data import read_datasets, write_datasets

AXES = {"trials/spikes": "trials time neurons", "trials/force": "trials time 2"}


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return {
        "trials/spikes": rng.poisson(1.0, (6, 5, 4)).astype(np.uint8),
        "trials/force": rng.normal(size=(6, 5, 2)),
    }


@pytest.fixture
def path(tmp_path, arrays):
    path = tmp_path / "new" / "folder" / "data.h5"
    write_datasets(path, arrays, units={"trials/force": "N"}, attributes={"bin_width_s": 0.05})
    return path


def test_what_is_written_is_read(path, arrays):
    found = read_datasets(path, AXES)
    assert list(found) == list(AXES)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


def test_units_descriptions_attributes_and_compression(tmp_path):
    write_datasets(
        tmp_path / "a.h5",
        {"x": np.zeros((100, 100)), "count": 3},
        units={"x": "s"},
        descriptions={"x": "times"},
        attributes={"seed": 7},
    )
    with h5py.File(tmp_path / "a.h5") as file:
        assert dict(file["x"].attrs) == {"units": "s", "description": "times"}
        assert file.attrs["seed"] == 7
        assert file["x"].compression == "gzip"
        assert file["count"][()] == 3


def test_a_failed_write_leaves_the_old_file_and_nothing_else(path, arrays):
    before = path.read_bytes()
    with pytest.raises(TypeError):
        write_datasets(path, arrays, attributes={"not": object()})
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"arrays": {"x": ["a"]}}, TypeError, "expected numbers for dataset 'x'"),
        ({"arrays": {"x": [1]}, "units": {"y": "s"}}, ValueError, r"units are given for \['y'\]"),
        ({"arrays": {"x": [1]}, "descriptions": {"y": "s"}}, ValueError, r"description are given for \['y'\]"),
    ],
)
def test_writing_rejects(tmp_path, arguments, error, message):
    with pytest.raises(error, match=message):
        write_datasets(tmp_path / "a.h5", **arguments)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.h5"):
        read_datasets(tmp_path / "nowhere.h5", AXES)


def test_a_file_of_another_kind_is_named(tmp_path):
    (tmp_path / "text.h5").write_text("no HDF5")
    with pytest.raises(ValueError, match=r"text\.h5 is not an HDF5 file"):
        read_datasets(tmp_path / "text.h5", AXES)


def test_a_missing_dataset_is_named_with_what_there_is(path):
    with pytest.raises(
        ValueError, match=r"data\.h5 has no dataset 'trials/emg' \(expected \[trials, time, 14\]\).*force"
    ):
        read_datasets(path, {"trials/emg": "trials time 14"})


def test_a_group_is_not_a_dataset(path):
    with pytest.raises(ValueError, match="has a group, not a dataset, 'trials'"):
        read_datasets(path, {"trials": "trials"})


def test_a_wrong_number_of_axes_shows_the_shape(path):
    with pytest.raises(ValueError, match=r"'trials/force' has shape \(6, 5, 2\), expected \[trials, time\]"):
        read_datasets(path, {"trials/force": "trials time"})


def test_a_wrong_length_shows_the_shape(path):
    with pytest.raises(ValueError, match=r"'trials/force' has shape \(6, 5, 2\), expected \[trials, time, 3\]"):
        read_datasets(path, {"trials/force": "trials time 3"})


def test_equally_named_axes_must_agree(tmp_path, arrays):
    arrays["trials/force"] = arrays["trials/force"][:-1]
    write_datasets(tmp_path / "a.h5", arrays)
    message = r"'trials/force' has shape \(5, 5, 2\), .* with 6 trials as in 'trials/spikes', .* \(6, 5, 4\)"
    with pytest.raises(ValueError, match=message):
        read_datasets(tmp_path / "a.h5", AXES)


def test_empty_axes_and_strings_are_rejected(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["empty"] = np.zeros((0, 3))
        file["names"] = np.array([b"a", b"b"])
    with pytest.raises(ValueError, match=r"'empty' has an empty axis, shape \(0, 3\)"):
        read_datasets(tmp_path / "a.h5", {"empty": "trials 3"})
    with pytest.raises(ValueError, match=r"'names' has dtype \|S1, expected numbers"):
        read_datasets(tmp_path / "a.h5", {"names": "names"})


def test_damaged_data_is_said_to_be_so(tmp_path):
    path = tmp_path / "a.h5"
    write_datasets(path, {"x": np.random.default_rng(0).normal(size=(1000, 10))})
    with h5py.File(path) as file:
        offset = file["x"].id.get_chunk_info(0).byte_offset
    content = bytearray(path.read_bytes())
    content[offset : offset + 200] = bytes(200)
    path.write_bytes(content)
    with pytest.raises(ValueError, match="'x' is damaged"):
        read_datasets(path, {"x": "a b"})
