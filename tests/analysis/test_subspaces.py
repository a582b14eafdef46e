"""Subspaces, alignments and dimensions whose answers are known by construction."""

import numpy as np
import pytest
import scipy.linalg
import scipy.spatial
import scipy.stats

from ctd_models.analysis.latents.pca import PCA
from ctd_models.analysis.latents.subspaces import (
    alignment_index,
    cca,
    linear_cka,
    participation_ratio,
    procrustes,
    subspace_angles,
    variance_explained,
)


def rng(seed=0):
    return np.random.default_rng(seed)


def rotation(d, seed=0):
    return scipy.stats.special_ortho_group.rvs(d, random_state=seed)


def uncorrelated(samples, d):
    """Orthonormal columns of mean zero."""
    noise = rng().normal(size=(samples, d))
    return scipy.linalg.orth(noise - noise.mean(axis=0))


def test_angles_of_planes_that_are_built_with_them():
    Q, angles = rotation(6), np.array([1e-9, 0.3])
    A = Q[:, :2]
    B = A * np.cos(angles) + Q[:, 2:4] * np.sin(angles)
    mixed = B @ np.array([[2.0, 1.0], [0.5, -3.0]])  # another basis of the same plane
    np.testing.assert_allclose(subspace_angles(A, mixed), angles, rtol=1e-5)
    np.testing.assert_allclose(subspace_angles(A, mixed, degrees=True), np.degrees(angles), rtol=1e-5)
    np.testing.assert_allclose(subspace_angles(A, Q[:, 2:5]), [np.pi / 2, np.pi / 2])
    np.testing.assert_allclose(subspace_angles(Q[:, 0], A[:, 0] + A[:, 1], degrees=True), [45.0])
    np.testing.assert_allclose(subspace_angles(Q[:, :4], Q[:, 1]), [0], atol=1e-12)


@pytest.mark.parametrize(
    ("A", "B", "error", "message"),
    [
        (np.eye(3), np.eye(2), ValueError, r"one dimension d, got shapes \(3, 3\) and \(2, 2\)"),
        (np.eye(3), np.zeros((3, 1)), ValueError, "B holds only zeros"),
        (np.eye(3), np.full((3, 1), np.inf), ValueError, r"B hold inf at index \(0, 0\)"),
        (np.eye(3), np.ones((3, 1, 1)), ValueError, "columns"),
        (np.eye(3), 1j * np.eye(3), TypeError, "take real and imaginary parts apart"),
    ],
)
def test_angles_need_real_subspaces_of_one_space(A, B, error, message):
    with pytest.raises(error, match=message):
        subspace_angles(A, B)


def test_variance_explained_by_coordinate_planes_and_principal_components():
    stds = np.array([3.0, 2.0, 1.0, 0.5])
    data = uncorrelated(300, 4) * stds + 7
    for k in range(1, 5):
        share = (stds[:k] ** 2).sum() / (stds**2).sum()
        assert variance_explained(np.eye(4)[:, :k], data) == pytest.approx(share)
    skewed = np.eye(4)[:, :2] @ np.array([[1.0, 5.0], [0.0, 0.01]])
    assert variance_explained(skewed, data) == pytest.approx(13 / 14.25)
    pca = PCA.fit(data, 2)
    assert variance_explained(pca.components.T, data) == pytest.approx(pca.explained_variance_ratio.sum())
    assert variance_explained(np.array([1.0, 0, 0, 0]), data.reshape(3, 100, 4)) == pytest.approx(9 / 14.25)
    swapped = data[:, [2, 3, 0, 1]]
    assert alignment_index(data, data @ np.diag([-2, 2, 2, 2]), 2) == pytest.approx(1)
    assert alignment_index(swapped, data, 2) == pytest.approx(1.25 / 13)
    with pytest.raises(ValueError, match="do not vary"):
        variance_explained(np.eye(2), np.full((9, 2), 0.1))
    with pytest.raises(ValueError, match=r"dimension 3, data have dimension 4"):
        variance_explained(np.eye(3), data)
    with pytest.raises(ValueError, match=r"num_components in 1 … 4"):
        alignment_index(data, data, 5)


def test_participation_ratio_of_known_spectra():
    assert participation_ratio(covariance=3.0 * np.eye(7)) == pytest.approx(7)
    spectrum, Q = np.array([4.0, 2.0, 1.0]), rotation(3)
    assert participation_ratio(covariance=Q * spectrum @ Q.T) == pytest.approx(49 / 21)
    line = rng().normal(size=(5, 20, 1)) * rng(1).normal(size=30) + 4
    assert participation_ratio(line) == pytest.approx(1)  # fewer samples than dimensions and more
    assert participation_ratio(line[..., :4]) == pytest.approx(1)
    noise = rng().normal(size=(100, 400))
    expected = participation_ratio(covariance=np.cov(noise.T))
    assert participation_ratio(noise) == pytest.approx(expected)
    assert expected == pytest.approx(400 * 100 / 500, rel=0.05)  # what the docstring says of few samples
    assert participation_ratio(rng().normal(size=(200_000, 5))) == pytest.approx(5, rel=1e-3)
    padded = np.concatenate([line, np.full((5, 3, 30), np.nan)], axis=1)
    mask = np.isfinite(padded).all(axis=-1)
    assert participation_ratio(padded, mask=mask) == pytest.approx(1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either data or covariance"),
        ({"covariance": np.ones((2, 3))}, "symmetric covariance"),
        ({"covariance": np.array([[1.0, 2.0], [0.0, 1.0]])}, "symmetric covariance"),
        ({"data": np.full((50, 2), 0.1)}, "there is no variance"),
        ({"data": np.ones(3)}, r"expected data \[..., samples, d\], got shape \(3,\)"),
    ],
)
def test_participation_ratio_rejects(arguments, message):
    with pytest.raises(ValueError, match=message):
        participation_ratio(**arguments)


@pytest.mark.parametrize("reflect", [False, True])
def test_a_moved_copy_is_recovered(reflect):
    X, R, shift = rng().normal(size=(4, 25, 5)), rotation(5), rng(1).normal(size=5)
    R = R * np.where(np.arange(5) == 0, -1 if reflect else 1, 1)
    Y = 2.5 * X @ R + shift
    found = procrustes(X, Y)
    np.testing.assert_allclose(found.rotation, R, atol=1e-12)
    assert found.scale == pytest.approx(2.5)
    assert found.disparity < 1e-25
    np.testing.assert_allclose(found.transform(X), Y, atol=1e-12)
    np.testing.assert_allclose(found.inverse_transform(Y), X, atol=1e-12)
    assert ("reflection" in repr(found)) == reflect
    proper = procrustes(X, Y, reflection=False)
    assert np.linalg.det(proper.rotation) == pytest.approx(1)
    assert (proper.disparity < 1e-25) == (not reflect)
    assert procrustes(X, X @ R, scaling=False, translation=False).disparity < 1e-25
    assert procrustes(X, Y, translation=False).disparity > 1e-3
    assert procrustes(X, Y, scaling=False).disparity == pytest.approx((1.5 / 2.5) ** 2)


def test_disparity_is_scipys_and_the_best():
    X, Y = rng().normal(size=(2, 30, 3))
    found = procrustes(X, Y)
    assert found.disparity == pytest.approx(scipy.spatial.procrustes(X, Y)[2])
    centred = Y - Y.mean(axis=0)
    for generator in rng(1).normal(size=(20, 3, 3)):  # rotations around the one that was found
        other = found.rotation @ scipy.linalg.expm(0.05 * (generator - generator.T))
        moved = found.scale * (X - X.mean(axis=0)) @ other
        assert ((moved - centred) ** 2).sum() / (centred**2).sum() > found.disparity
    proper = procrustes(X, -X, reflection=False, scaling=False)
    assert np.linalg.det(proper.rotation) == pytest.approx(1)
    smallest = np.linalg.eigvalsh(np.cov(X.T, bias=True))[
        0
    ]  # −I in three dimensions: rotate all but the least variance
    assert proper.disparity == pytest.approx(4 * smallest / np.trace(np.cov(X.T, bias=True)))
    with pytest.raises(ValueError, match=r"one shape \[..., d\], got \(30, 3\) and \(30, 2\)"):
        procrustes(X, Y[:, :2])
    with pytest.raises(ValueError, match="Y does not vary"):
        procrustes(X, np.full_like(Y, 0.1))


def test_canonical_correlations_of_shared_signals():
    """Uncorrelated unit signals mixed in pairs with known correlations, then by invertible maps."""
    signals = uncorrelated(200, 7)
    rho = np.array([0.9, 0.5, 0.1])
    U, V = signals[:, :3], rho * signals[:, :3] + np.sqrt(1 - rho**2) * signals[:, 3:6]
    X = U @ rng(1).normal(size=(3, 3)) + 3
    Y = np.concatenate([V, signals[:, 6:]], axis=1) @ rng(2).normal(size=(4, 4)) - 1
    found = cca(X.reshape(10, 20, 3), Y.reshape(10, 20, 4))
    np.testing.assert_allclose(found.correlations, rho, atol=1e-12)
    x, y = found.transform_x(X), found.transform_y(Y)
    np.testing.assert_allclose(np.cov(x.T), np.eye(3), atol=1e-10)
    np.testing.assert_allclose(np.cov(y.T), np.eye(3), atol=1e-10)
    np.testing.assert_allclose(np.cov(x.T, y.T)[:3, 3:], np.diag(rho), atol=1e-10)
    moved = cca(X @ rng(3).normal(size=(3, 3)), Y @ rng(4).normal(size=(4, 4)) + 9, 2)
    np.testing.assert_allclose(moved.correlations, rho[:2], atol=1e-10)
    assert "CCA: 2 pairs between 3 and 4 dimensions, correlations 0.900, 0.500" in repr(moved)


def test_canonical_correlations_solve_the_generalised_eigenproblem():
    Z = rng().normal(size=(80, 7)) @ rng(1).normal(size=(7, 7))
    X, Y = Z[:, :3], Z[:, 3:]
    for regularization in (0.0, 0.1):
        C = np.cov(Z.T)
        C[:3, :3] += regularization * np.trace(C[:3, :3]) / 3 * np.eye(3)
        C[3:, 3:] += regularization * np.trace(C[3:, 3:]) / 4 * np.eye(4)
        across = C[:3, 3:] @ np.linalg.solve(C[3:, 3:], C[3:, :3])
        squared, a = scipy.linalg.eigh(across, C[:3, :3])
        found = cca(X, Y, regularization=regularization)
        parallel = (found.x_weights * a[:, ::-1]).sum(axis=0)
        parallel /= np.linalg.norm(found.x_weights, axis=0) * np.linalg.norm(a[:, ::-1], axis=0)
        np.testing.assert_allclose(np.abs(parallel), 1, atol=1e-9)
        if regularization == 0:
            np.testing.assert_allclose(found.correlations, np.sqrt(squared[::-1]), atol=1e-10)


def test_one_set_of_latents_in_two_recordings_is_aligned():
    latents = rng().normal(size=(100, 2))
    X, Y = latents @ rng(1).normal(size=(2, 2)) + 1, latents @ rng(2).normal(size=(2, 2)) - 1
    found = cca(X, Y)
    np.testing.assert_allclose(found.correlations, 1, atol=1e-12)
    np.testing.assert_allclose(found.align_y(Y), X, atol=1e-10)
    flat = X @ np.ones((2, 1)) @ np.ones((1, 5))  # rank 1 in five dimensions
    assert len(cca(flat, Y).correlations) == 1
    with pytest.raises(ValueError, match=r"num_components must lie in 1 … 1 \(the smaller rank\), got 2"):
        cca(flat, Y, 2)


def test_canonical_correlations_reject_what_means_nothing():
    X, Y = rng().normal(size=(2, 8, 4))
    with pytest.raises(ValueError, match="8 samples are too few for ranks 4 and 4"):
        cca(X, Y)
    assert cca(X, Y, regularization=1.0).correlations.max() < 1
    with pytest.raises(ValueError, match="regularization cannot be negative"):
        cca(X, Y, regularization=-1.0)
    with pytest.raises(ValueError, match="the same samples"):
        cca(X, Y[:7])
    with pytest.raises(ValueError, match="X does not vary"):
        cca(np.full((9, 2), 0.1), np.eye(9)[:, :2])


def test_linear_cka():
    X, Y = rng().normal(size=(60, 4)), rng(1).normal(size=(60, 6))
    assert linear_cka(X, 3 * X @ rotation(4) + 5) == pytest.approx(1)
    a, b = X[:, :1], Y[:, :1]
    assert linear_cka(a, b) == pytest.approx(np.corrcoef(a[:, 0], b[:, 0])[0, 1] ** 2)  # one unit: Pearson's r²
    centred = [Z - Z.mean(axis=0) for Z in (X, Y)]
    K, L = (Z @ Z.T for Z in centred)
    expected = (K * L).sum() / np.sqrt((K * K).sum() * (L * L).sum())
    assert linear_cka(X, Y) == pytest.approx(expected)
    wide = rng(2).normal(size=(2, 10, 40))
    K, L = ((Z - Z.mean(axis=0)) @ (Z - Z.mean(axis=0)).T for Z in wide)
    assert linear_cka(*wide) == pytest.approx((K * L).sum() / np.sqrt((K * K).sum() * (L * L).sum()))


def test_pca_of_few_samples_in_many_dimensions():
    data = rng().normal(size=(12, 2000)) + 5
    pca = PCA.fit(data, 11)
    assert pca.explained_variance_ratio.sum() == pytest.approx(1)
    gram = (data - data.mean(axis=0)) @ (data - data.mean(axis=0)).T / 11
    np.testing.assert_allclose(pca.explained_variance, np.linalg.eigvalsh(gram)[::-1][:11])
    np.testing.assert_allclose(pca.components @ pca.components.T, np.eye(11), atol=1e-12)
    np.testing.assert_allclose(pca.inverse_transform(pca.transform(data)), data, atol=1e-10)


def test_pca_by_share_of_variance_with_masks_and_whitened():
    stds = np.array([3.0, 2.0, 1.0, 0.0])
    data = rng().normal(size=(6, 50, 4)) * stds
    for share, count in ((0.3, 1), (0.7, 2), (0.99, 3), (1.0, 3)):
        pca = PCA.fit(data, share)
        assert len(pca.components) == count
        assert pca.explained_variance_ratio.sum() >= share - 1e-9
    padded = np.concatenate([data, np.full((6, 10, 4), np.nan)], axis=1)
    mask = np.isfinite(padded[..., 0])
    masked = PCA.fit(padded, 2, mask=mask)
    np.testing.assert_allclose(masked.components, PCA.fit(data, 2).components, atol=1e-12)
    assert "PCA: 2 of 4 components, " in repr(masked)
    white = PCA.fit(data, 3, whiten=True)
    np.testing.assert_allclose(np.cov(white.transform(data).reshape(-1, 3).T), np.eye(3), atol=1e-9)
    np.testing.assert_allclose(white.inverse_transform(white.transform(data)), data, atol=1e-10)
    assert "whitened" in repr(white)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"num_components": 1.5}, ValueError, r"share of the variance must lie in \(0, 1\], got 1.5"),
        ({"num_components": True}, ValueError, r"must lie in 1 … 3, got True"),
        ({"num_components": 0}, ValueError, r"must lie in 1 … 3, got 0"),
        ({"whiten": True}, ValueError, "component 2 has no variance and cannot be whitened: ask for 2 components"),
        ({"mask": np.ones(4, bool)}, ValueError, r"expected a mask of shape \(5,\)"),
        ({"mask": np.ones(5)}, TypeError, "the mask must hold booleans, got float64"),
        ({"mask": np.zeros(5, bool)}, ValueError, "no samples in data .* under the mask"),
        ({"mask": np.arange(5) > 2, "data": np.full((5, 3), np.nan)}, ValueError, r"data hold nan at index \(3, 0\)"),
    ],
)
def test_pca_rejects(options, error, message):
    flat = rng().normal(size=(5, 3)) * [1, 1, 0]
    with pytest.raises(error, match=message):
        PCA.fit(**({"data": flat} | options))
