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
