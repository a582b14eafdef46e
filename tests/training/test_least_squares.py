"""A symmetric matrix in panels, and recursive least squares against the definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ctd_models.training.least_squares import SymmetricMatrix, Updates, flushed, gain, ridge


@pytest.mark.parametrize("panels", [1, 2, 3, 7])
def test_panels_are_the_whole_matrix(panels):
    rng = np.random.default_rng(0)
    matrix, dense = SymmetricMatrix.identity(7, 2.0, panels), 2 * np.eye(7)
    for rows in (rng.normal(size=(3, 7)), rng.normal(size=(1, 7))):
        matrix, dense = matrix.minus_gram(rows), dense - rows.T @ rows
        np.testing.assert_allclose(matrix.dense(), dense, rtol=1e-5, atol=1e-6)
        vector = rng.normal(size=7)
        np.testing.assert_allclose(matrix.times(jnp.asarray(vector, jnp.float32)), dense @ vector, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(matrix.dense(), matrix.dense().T)


@pytest.mark.parametrize("forgetting", [1.0, 0.9])
def test_the_inverse_is_that_of_the_weighted_correlations(forgetting):
    """P_t = (λᵗ I/α + Σ λ^(t − s) h_s h_sᵀ)⁻¹, whatever the length of the block."""
    rng = np.random.default_rng(1)
    with jax.enable_x64(True):
        rates = jnp.asarray(rng.normal(size=(5, 4)))
        inverse = SymmetricMatrix.identity(4, 0.5, 2)
        inverse = jax.tree.map(lambda x: x.astype(jnp.float64), inverse)
        updates = Updates.none(5, rates[0])
        expected = np.eye(4) / 0.5
        for h in rates:
            expected = forgetting * expected + np.outer(h, h)
            found, updates = gain(inverse, updates, h, forgetting)
            np.testing.assert_allclose(found, np.linalg.solve(expected, h), rtol=1e-10)
        np.testing.assert_allclose(flushed(inverse, updates, forgetting).dense(), np.linalg.inv(expected), rtol=1e-9)


def test_ridge_is_least_squares_on_augmented_data():
    rng = np.random.default_rng(2)
    H, Y = rng.normal(size=(20, 4)), rng.normal(size=(20, 3))
    expected = np.linalg.lstsq(np.r_[H, 1.5**0.5 * np.eye(4)], np.r_[Y, np.zeros((4, 3))])[0]
    found = ridge(jnp.asarray(H, jnp.float32), jnp.asarray(Y, jnp.float32), 1.5)
    np.testing.assert_allclose(found, expected, atol=1e-5)
