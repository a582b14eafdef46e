"""The set of fixed points does not depend on how candidates are ordered, batched or written down."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ctd_models.analysis.fixed_points.pool as pool
from ctd_models.analysis import find_fixed_points, linearize

N, COUNT = 8, 60
SEEDS = st.integers(0, 10_000)


def network(seed):
    """(W, starts): a tanh network with a few fixed points, and its candidates."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(N, N)) * 1.6 / np.sqrt(N), rng.uniform(-1, 1, size=(COUNT, N))


def search(W, starts, **options):
    return find_fixed_points(lambda h: jnp.tanh(W @ h), starts, **options)


def assert_same_set(a, b, atol=1e-7):
    assert len(a) == len(b)
    distance = np.linalg.norm(a[:, None] - b[None], axis=-1)
    assert distance.min(axis=0).max() < atol
    assert distance.min(axis=1).max() < atol


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS)
def test_permuting_candidates(seed):
    W, starts = network(seed)
    order = np.random.default_rng(seed + 1).permutation(COUNT)
    found, permuted = search(W, starts), search(W, starts[order])
    assert_same_set(found.states, permuted.states)
    assert found.hits.sum() == permuted.hits.sum()
    assert {k: len(v) for k, v in found.dropped.items()} == {k: len(v) for k, v in permuted.dropped.items()}


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS)
def test_orthogonal_change_of_coordinates(seed):
    W, starts = network(seed)
    Q = np.linalg.qr(np.random.default_rng(seed + 1).normal(size=(N, N)))[0]
    found = linearize(lambda h: jnp.tanh(W @ h), search(W, starts))

    def rotated(h):
        return Q @ jnp.tanh(W @ (Q.T @ h))

    points = linearize(rotated, find_fixed_points(rotated, starts @ Q.T))
    assert_same_set(found.states, points.states @ Q)
    nearest = np.linalg.norm(found.states[:, None] - (points.states @ Q)[None], axis=-1).argmin(axis=1)
    np.testing.assert_allclose(np.abs(found.eigenvalues), np.abs(points.eigenvalues[nearest]), atol=1e-6)
    assert found.num_unstable.tolist() == points.num_unstable[nearest].tolist()


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS)
def test_pytree_and_flat_states(seed):
    W, starts = network(seed)

    def tree(state):
        h = jnp.tanh(W @ jnp.concatenate([state["a"], *state["b"]]))
        return {"a": h[:3], "b": (h[3:4], h[4:])}

    points = find_fixed_points(tree, {"a": starts[:, :3], "b": (starts[:, 3:4], starts[:, 4:])})
    assert_same_set(search(W, starts).states, points.states)
    unraveled = points.unravel(points.states)
    np.testing.assert_array_equal(np.concatenate([unraveled["a"], *unraveled["b"]], axis=1), points.states)


@settings(max_examples=5, deadline=None)
@given(seed=SEEDS)
@pytest.mark.parametrize("entries", [N * N, 7 * N * N])
def test_chunks(entries, seed):
    W, starts = network(seed)
    before = pool.POOL_ENTRIES
    try:
        pool.POOL_ENTRIES = entries
        chunked = search(W, starts)
    finally:
        pool.POOL_ENTRIES = before
    assert_same_set(search(W, starts).states, chunked.states)


@settings(max_examples=10, deadline=None)
@given(seed=SEEDS)
def test_one_input_for_all_and_the_same_for_each(seed):
    W, starts = network(seed)
    x = np.random.default_rng(seed + 2).normal(size=N) * 0.1

    def driven(h, x):
        return jnp.tanh(W @ h + x)

    one = find_fixed_points(driven, starts, x)
    each = find_fixed_points(driven, starts, np.tile(x, (COUNT, 1)))
    bound = find_fixed_points(lambda h: jnp.tanh(W @ h + x), starts)
    assert_same_set(one.states, each.states)
    assert_same_set(one.states, bound.states)


def test_methods_agree():
    W, starts = network(2)
    expected = search(W, starts).states
    assert len(expected) > 1
    assert_same_set(expected, search(W, starts, method="krylov").states)
    adam = search(W, starts, method="adam", tolerance=1e-12, explore=True).states
    assert all(np.linalg.norm(expected - h, axis=1).min() < 1e-4 for h in adam)


def test_a_second_search_compiles_nothing_whatever_it_meets(compilations):
    """Networks of one shape, of which some have stalled candidates and others none."""
    search(*network(0))
    met = []
    with compilations:
        for seed in range(1, 12):
            points = search(*network(seed))
            met.append((len(points), points.ghosts is None))
    assert compilations.count == 0
    assert len(set(met)) >= 3
    assert {True, False} == {without_ghosts for _, without_ghosts in met}


def test_flows_and_maps_have_the_same_fixed_points():
    W, starts = network(3)
    points = find_fixed_points(lambda h: jnp.tanh(W @ h) - h, starts, kind="flow")
    assert_same_set(search(W, starts).states, points.states)
    with jax.enable_x64(True):
        assert np.abs(np.tanh(points.states @ W.T) - points.states).max() < 1e-12
