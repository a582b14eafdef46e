"""The set of fixed points: choosing, saving, merging."""

import h5py
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from ctd_models.analysis import PCA, FixedPoints, find_fixed_points, linearize
from ctd_models.analysis.fixed_points.unique import merge_duplicates
from ctd_models.analysis.systems import Structure


@pytest.fixture(scope="module")
def points():
    starts = np.random.default_rng(1).uniform(-1.2, 1.2, size=(200, 2))

    def F(state, x):
        return {
            "a": state["a"] + 0.5 * state["a"] - state["a"] ** 3 + 0 * x[0],
            "b": 1.5 * state["b"] - state["b"] ** 3,
        }

    found = find_fixed_points(F, {"a": starts[:, :1], "b": starts[:, 1:]}, np.zeros(1))
    return linearize(F, found, dt=0.1)


def test_choosing(points):
    assert len(points) == 9
    stable, saddles = points[points.is_stable], points[points.num_unstable == 1]
    assert (len(stable), len(saddles), (points.num_unstable == 2).sum()) == (4, 4, 1)
    assert stable.jacobians.shape == (4, 2, 2)
    assert len(points[3]) == 1
    assert len(points[-2:]) == 2
    np.testing.assert_array_equal(points[[4, 2]].states, points.states[[4, 2]])
    with pytest.raises(IndexError):
        points[9]
    assert repr(points).splitlines()[3] == "  stability: 4 stable, 4 with 1 unstable mode, 1 with 2 unstable modes"


def test_saved_is_loaded(points, tmp_path):
    path = tmp_path / "folder" / "points.h5"
    points.save(path)
    loaded = FixedPoints.load(path)
    for name in ("states", "speeds", "inputs", "hits", "eigenvalues", "left_eigenvectors", "num_unstable"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(points, name))
        assert getattr(loaded, name).dtype == getattr(points, name).dtype
    assert (loaded.kind, loaded.dt, loaded.tolerance, loaded.num_candidates) == ("map", 0.1, 1e-20, 200)
    assert {k: v.tolist() for k, v in loaded.dropped.items()} == {k: v.tolist() for k, v in points.dropped.items()}
    np.testing.assert_array_equal(loaded.unravel(loaded.states)["b"], points.unravel(points.states)["b"])
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(ValueError, match="is not a file of fixed points"):
        FixedPoints.load(tmp_path / "other.h5")


def test_everything_is_saved(tmp_path):
    def F(h):  # a ghost at 0 for x, a two-cycle for y
        return jnp.array([h[0] + 0.1 + h[0] ** 2, -jnp.tanh(3 * h[1])])

    empty = find_fixed_points(F, np.random.default_rng(0).uniform(-1, 1, size=(30, 2)), explore=True)
    assert len(empty) == 0
    assert len(empty.ghosts) == 1
    empty.save(tmp_path / "empty.h5")
    loaded = FixedPoints.load(tmp_path / "empty.h5")
    np.testing.assert_array_equal(loaded.ghosts.states, empty.ghosts.states)
    assert loaded.ghosts.classes.tolist() == ["ghost"]
    assert loaded.forward == empty.forward
    assert loaded.smallest_speed == empty.smallest_speed
    np.testing.assert_array_equal(loaded.candidate_iterations, empty.candidate_iterations)
    assert len(loaded.candidate_iterations) == 30
    assert repr(loaded) == repr(empty)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        FixedPoints.load(tmp_path / "none.h5")
    (tmp_path / "text.h5").write_text("no HDF5")
    with pytest.raises(ValueError, match="is not a file of fixed points, or damaged"):
        FixedPoints.load(tmp_path / "text.h5")


def test_sets_are_concatenated_and_merged(points):
    both = FixedPoints.concatenate([points[points.is_stable], points[~points.is_stable]])
    assert sorted(both.states.tolist()) == sorted(points.states.tolist())
    assert both.num_candidates == 400
    twice = FixedPoints.concatenate([points, points])
    assert (len(twice), twice.num_candidates) == (18, 400)
    np.testing.assert_array_equal(twice.candidate_indices[9:], points.candidate_indices + 200)
    for reason, lost in points.dropped.items():
        np.testing.assert_array_equal(twice.dropped[reason], np.concatenate([lost, lost + 200]))
    once = twice.unique()
    assert len(once) == 9
    np.testing.assert_array_equal(np.sort(once.hits), np.sort(2 * points.hits))
    bare = FixedPoints.concatenate([points, FixedPoints.from_arrays(points.states, dt=0.1)])
    assert bare.eigenvalues is None
    assert bare.num_candidates is None
    with pytest.raises(ValueError, match="different kind"):
        FixedPoints.concatenate([points, FixedPoints.from_arrays(np.zeros((1, 2)), kind="flow", dt=0.1)])
    with pytest.raises(ValueError, match="different dimensions"):
        FixedPoints.concatenate([points, FixedPoints.from_arrays(np.zeros((1, 3)), dt=0.1)])
    with pytest.raises(ValueError, match="no sets"):
        FixedPoints.concatenate([])


def test_points_are_found_by_their_state(points):
    assert points.states[3] in points
    assert points.states[3] + 0.1 not in points
    assert points.find(points.states[3] + 1e-3, distance=0.01).tolist() == [3]
    with pytest.raises(ValueError, match=r"expected a state \[2\], got shape \(3,\)"):
        points.find(np.zeros(3))


def test_arrays_of_other_tools():
    states = np.random.default_rng(0).normal(size=(3, 4))
    points = FixedPoints.from_arrays(states, [0.1, 0.2, 0.3], mean_square=True, inputs=np.ones((3, 1)))
    np.testing.assert_allclose(points.speeds, [0.2, 0.4, 0.6])  # ½ of 4 units' mean square
    assert points.to_dict().keys() == {"states", "speeds", "inputs"}
    linear = linearize(lambda h, x: 0.5 * h + x, points)
    assert linear.stability.tolist() == ["attractor"] * 3
    assert {"eigenvalues", "stability", "time_constants", "frequencies"} <= linear.to_dict().keys()
    assert len(FixedPoints.from_arrays(states)) == 3
    with pytest.raises(ValueError, match=r"expected inputs with one row for each of 3 points, got shape \(2, 1\)"):
        FixedPoints.from_arrays(states, inputs=np.ones((2, 1)))
    with pytest.raises(ValueError, match=r"unknown fields \['x'\]"):
        FixedPoints.from_arrays(states, x=np.ones(3))
    with pytest.raises(ValueError, match=r"expected states \[n, d\], got shape \(4,\)"):
        FixedPoints.from_arrays(states[0])


def test_stability_needs_linearization():
    found = find_fixed_points(lambda h: 0.5 * h, np.ones((2, 2)))
    with pytest.raises(ValueError, match="call linearize"):
        found.is_stable  # noqa: B018


def test_structure_survives_json():
    state = {"x": np.zeros((2, 3)), "y": (np.zeros(4), [np.zeros(()), np.zeros(1)])}
    structure = Structure.of(state)
    again = Structure.from_json(structure.to_json())
    assert again == structure
    flat = np.arange(structure.size, dtype=float)
    assert again.unravel(flat)["y"][1][0] == 10
    np.testing.assert_array_equal(structure.ravel(structure.unravel(jnp.asarray(flat))), flat)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 60), dims=st.integers(1, 4), spread=st.floats(0.05, 3.0))
def test_merging_is_the_greedy_cover(seed, count, dims, spread):
    rng = np.random.default_rng(seed)
    points, priority = spread * rng.normal(size=(count, dims)), rng.permutation(count).astype(float)
    owner = merge_duplicates(points, priority, 0.5)
    kept = np.unique(owner)
    assert (owner[kept] == kept).all()
    distance = cdist(points, points)
    assert (distance[np.arange(count), owner] <= 0.5 * 1.1 + 1e-12).all()
    between = distance[np.ix_(kept, kept)] + 10 * np.eye(len(kept))
    assert (between > 0.5 * 0.9).all()
    assert (priority[owner] <= priority).all()


def test_merging_many_duplicates_is_cheap():
    points = np.repeat(np.eye(3), 20_000, axis=0) + 1e-9 * np.random.default_rng(0).normal(size=(60_000, 3))
    owner = merge_duplicates(points, np.arange(60_000.0), 1e-3)
    assert np.unique(owner).tolist() == [0, 20_000, 40_000]


def test_pca_agrees_with_the_singular_value_decomposition():
    data = np.random.default_rng(0).normal(size=(5, 40, 6)) @ np.diag([3, 2, 1, 0.5, 0.2, 0.1])
    pca = PCA.fit(data, 3)
    flat = data.reshape(-1, 6)
    _, s, vt = np.linalg.svd(flat - flat.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(pca.explained_variance_ratio, (s**2 / (s**2).sum())[:3], rtol=1e-10)
    np.testing.assert_allclose(np.abs(pca.components @ vt[:3].T), np.eye(3), atol=1e-9)
    full = PCA.fit(data, 6)
    np.testing.assert_allclose(full.inverse_transform(full.transform(data)), data, atol=1e-10)
    with pytest.raises(ValueError, match=r"num_components must lie in 1 … 6, got 7"):
        PCA.fit(data, 7)
