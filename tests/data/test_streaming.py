import itertools
import tracemalloc

import h5py
import jax.numpy as jnp
import numpy as np
import pytest

from ctd_models.data.hdf5 import read_datasets, whole_file
from ctd_models.data.streaming import write_chunks


def chunks_of(arrays, sizes):
    """The arrays in pieces of these numbers of trials."""
    edges = np.cumsum([0, *sizes])
    return [{name: array[a:b] for name, array in arrays.items()} for a, b in itertools.pairwise(edges)]


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return {
        "rates": rng.normal(size=(10, 5, 3)).astype(np.float32),
        "posterior/factors": rng.normal(size=(10, 5, 2)),
        "labels": rng.integers(0, 3, 10),
    }


def names_in(path):
    names = []
    with h5py.File(path) as file:
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    return sorted(names)


@pytest.mark.parametrize("sizes", [(10,), (4, 4, 2), (1,) * 10, (3, 0, 7)])
def test_chunks_are_one_array_in_the_file(tmp_path, arrays, sizes):
    path = tmp_path / "new" / "a.h5"
    assert write_chunks(path, iter(chunks_of(arrays, sizes))) == 10
    axes = {
        "rates": "trials time 3",
        "posterior/factors": "trials time 2",
        "labels": "trials",
        "trial_indices": "trials",
    }
    found = read_datasets(path, axes)
    assert names_in(path) == sorted(axes)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
    np.testing.assert_array_equal(found["trial_indices"], np.arange(10))


def test_units_descriptions_attributes_indices_and_layout(tmp_path, arrays):
    write_chunks(
        tmp_path / "a.h5",
        chunks_of(arrays, (6, 4)),
        num_trials=10,
        units={"rates": "Hz"},
        descriptions={"rates": "of the read-out", "trial_indices": "in the recording"},
        attributes={"bin_width_s": 0.05},
        trial_indices=np.arange(10) * 3,
        progress=True,
    )
    with h5py.File(tmp_path / "a.h5") as file:
        assert dict(file["rates"].attrs) == {"units": "Hz", "description": "of the read-out"}
        assert file["trial_indices"].attrs["description"] == "in the recording"
        assert file.attrs["bin_width_s"] == 0.05
        assert file["rates"].compression == "gzip" and file["rates"].maxshape == (None, 5, 3)
        np.testing.assert_array_equal(file["trial_indices"], np.arange(10) * 3)


def test_arrays_of_jax_and_wide_trials_are_written(tmp_path):
    wide = jnp.arange(3 * 2**17, dtype=jnp.float32).reshape(3, -1)  # 512 KiB a trial
    write_chunks(tmp_path / "a.h5", ({"wide": wide[i : i + 1]} for i in range(3)))
    np.testing.assert_array_equal(read_datasets(tmp_path / "a.h5", {"wide": "trials n"})["wide"], wide)


def test_a_failure_in_the_middle_leaves_the_old_file_and_tells_the_chunk(tmp_path, arrays):
    path = tmp_path / "a.h5"
    write_chunks(path, [arrays])
    before = path.read_bytes()

    def failing():
        yield from chunks_of(arrays, (4, 6))
        raise FloatingPointError("NaN in the rates")

    with pytest.raises(FloatingPointError, match="NaN in the rates") as caught:
        write_chunks(path, failing())
    assert caught.value.__notes__ == [f"in chunk 2, after 10 trials written to {path}"]
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_an_interruption_leaves_nothing(tmp_path, arrays):
    def interrupted():
        yield arrays
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_chunks(tmp_path / "a.h5", interrupted())
    assert list(tmp_path.iterdir()) == []


def test_a_whole_file_has_its_name_only_at_the_end(tmp_path):
    with whole_file(tmp_path / "a.h5") as file:
        file["x"] = 1
        assert not (tmp_path / "a.h5").exists()
    assert names_in(tmp_path / "a.h5") == ["x"]
    assert list(tmp_path.iterdir()) == [tmp_path / "a.h5"]


ONE = {"rates": np.zeros((2, 5, 3), np.float32)}


@pytest.mark.parametrize(
    ("second", "error", "message"),
    [
        ({"rate": ONE["rates"]}, ValueError, r"chunk 1 has the datasets \['rate'\], the first chunk \['rates'\]"),
        (
            {"rates": np.zeros((2, 4, 3), np.float32)},
            ValueError,
            r"chunk 1: dataset 'rates' has trials of shape \(4, 3\)",
        ),
        ({"rates": np.zeros((2, 5, 3))}, ValueError, "dtype float64, in the first chunk .* float32"),
        ({"rates": np.array(["a"])}, TypeError, "chunk 1: expected numbers for dataset 'rates'"),
        ({"rates": np.float32(1)}, ValueError, r"chunk 1: dataset 'rates' has shape \(\)"),
        ({"rates": np.zeros((2, 0))}, ValueError, r"has shape \(2, 0\), expected \[trials, …\], not empty"),
        ({"rates": ONE["rates"], "x": np.zeros(3)}, ValueError, "chunk 1: dataset 'rates' has 2 trials, 'x' has 3"),
        ({"trial_indices": np.arange(2)}, ValueError, "give it as an argument"),
        ([1], TypeError, "chunk 1: expected a mapping .* got list"),
        (None, TypeError, "chunk 1: expected a mapping .* got NoneType"),
    ],
)
def test_a_chunk_that_does_not_fit_is_named(tmp_path, second, error, message):
    with pytest.raises(error, match=message):
        write_chunks(tmp_path / "a.h5", [ONE, second])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("chunks", "arguments", "message"),
    [
        ([], {}, "there is no chunk"),
        ([ONE], {"num_trials": 3}, "expected 3 trials, the chunks have 2"),
        ([ONE, ONE], {"num_trials": 3}, "expected 3 trials, chunk 1 makes them 4"),
        ([ONE], {"trial_indices": [0, 1, 2]}, "expected 3 trials, the chunks have 2"),
        ([ONE], {"trial_indices": [0, 1], "num_trials": 3}, "num_trials is 3, but there are 2"),
        ([ONE], {"trial_indices": [0.0, 1.0]}, "integers, got shape .* float64"),
        ([ONE], {"units": {"x": "s"}}, r"units are given for \['x'\]"),
        ([ONE], {"descriptions": {"x": "s"}}, r"description are given for \['x'\]"),
    ],
)
def test_writing_rejects(tmp_path, chunks, arguments, message):
    with pytest.raises(ValueError, match=message):
        write_chunks(tmp_path / "a.h5", chunks, **arguments)
    assert list(tmp_path.iterdir()) == []


def test_memory_is_that_of_one_chunk(tmp_path):
    """200 MB in chunks of 4 MB."""
    tracemalloc.start()
    try:
        write_chunks(tmp_path / "a.h5", ({"rates": np.full((50, 100, 200), float(i), np.float32)} for i in range(50)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["rates"].size * 4 == 200_000_000
        np.testing.assert_array_equal(file["rates"][::50, 0, 0], np.arange(50))
    assert peak < 15e6
