"""How subspaces and sets of latents compare: angles, alignment, canonical correlations, dimension."""

import dataclasses
from typing import Any, no_type_check

import numpy as np
import scipy.linalg
from jaxtyping import Bool, Float

from ctd_models.analysis.latents.pca import centre, flat_samples


@no_type_check  # it checks its arguments itself
def subspace_angles(A: Float[Any, "d p"], B: Float[Any, "d q"], *, degrees: bool = False) -> Float[np.ndarray, "m"]:
    """Principal angles between the spans of the columns of A and of B, smallest first [rad, or degrees].

    The first is the smallest angle between a vector of one span and a vector of the other, the next the same among the
    vectors orthogonal to these, and so on; there are as many as the smaller span has dimensions. One direction may be
    given as a vector [d]. Components of a `PCA` are rows: pass `pca.components.T`. Of complex eigenvectors pass the real
    and imaginary parts as columns. Computed by scipy.linalg.subspace_angles (Knyazev & Argentati 2002,
    doi:10.1137/S1064827500377332), which is accurate for small angles too.

    Raises:
        ValueError: the columns live in different dimensions, span nothing, or are not finite.
        TypeError: they are complex.
    """
    A, B = _columns(A, "A"), _columns(B, "B")
    if len(A) != len(B):
        raise ValueError(f"A and B must have columns of one dimension d, got shapes {A.shape} and {B.shape}")
    angles = scipy.linalg.subspace_angles(A, B)[::-1]
    return np.degrees(angles) if degrees else angles


def _columns(basis: Any, what: str) -> Float[np.ndarray, "d p"]:
    basis = np.asarray(basis)
    if not 1 <= basis.ndim <= 2:
        raise ValueError(f"expected {what} [d, columns] or a vector [d], got shape {basis.shape}")
    basis = flat_samples(basis[:, None] if basis.ndim == 1 else basis, None, what)
    if not basis.any():
        raise ValueError(f"{what} holds only zeros: it spans nothing")
    return basis


@no_type_check  # it checks its arguments itself
def variance_explained(basis: Float[Any, "d k"], data: Float[Any, "... d"]) -> float:
    """Share of the variance of data [..., d] that lies in the span of the columns of `basis`, 0 … 1.

    tr(Qᵀ C Q) / tr(C), with Q an orthonormal basis of the span and C the covariance of the data. The columns need not be
    orthogonal or of unit length.

    Raises:
        ValueError: shapes that do not fit, values that are not finite, or data without variance.
    """
    basis, data = _columns(basis, "basis"), flat_samples(data)
    if len(basis) != data.shape[1]:
        raise ValueError(f"basis has columns of dimension {len(basis)}, data have dimension {data.shape[1]}")
    data = centre(data)
    total = (data**2).sum()
    if total == 0:
        raise ValueError("the data do not vary")
    return float(((data @ scipy.linalg.orth(basis)) ** 2).sum() / total)


@no_type_check  # it checks its arguments itself
def alignment_index(X: Float[Any, "... d"], Y: Float[Any, "... d"], num_components: int) -> float:
    """Variance of Y along the leading components of X, relative to that along Y's own, 0 (orthogonal) … 1 (aligned).

    tr(Qᵀ C_Y Q) / Σ_{k ≤ K} λ_k(C_Y), with Q the K leading components of X (Elsayed, Lara, Kaufman, Churchland &
    Cunningham 2016, doi:10.1038/ncomms13239). Not symmetric.

    Raises:
        ValueError: shapes that do not fit, values that are not finite, more components than X or Y has, no variance.
    """
    X, Y = flat_samples(X, None, "X"), flat_samples(Y, None, "Y")
    most = min(*X.shape, *Y.shape)
    if X.shape[1] != Y.shape[1] or not 1 <= num_components <= most:
        raise ValueError(
            f"expected X and Y of one dimension and num_components in 1 … {most}, got shapes {X.shape} and {Y.shape} "
            f"and {num_components}"
        )
    X, Y = centre(X), centre(Y)
    if not X.any() or not Y.any():
        raise ValueError(f"{'Y' if X.any() else 'X'} does not vary")
    leading = scipy.linalg.svd(X, full_matrices=False)[2][:num_components]
    own = scipy.linalg.svdvals(Y)[:num_components]
    return float(((Y @ leading.T) ** 2).sum() / (own**2).sum())


@no_type_check  # it checks its arguments itself
def participation_ratio(
    data: Float[Any, "... d"] | None = None,
    *,
    covariance: Float[Any, "d d"] | None = None,
    mask: Bool[Any, "..."] | None = None,
) -> float:
    """Effective dimension (Σ λ_k)² / Σ λ_k² = tr(C)² / tr(C²) of a covariance with eigenvalues λ, 1 … d.

    d where the variance is equal in all directions, 1 on a line (Gao et al. 2017, doi:10.1101/214262). From few samples
    it is too small: n samples of isotropic noise in d dimensions give about d n / (d + n).

    Args:
        data: [..., d], leading axes are samples; its covariance is taken.
        covariance: instead of data.
        mask: [...], True where a sample counts.

    Raises:
        ValueError: both or none are given, a covariance that is not square and symmetric, values that are not finite, or
            no variance.
    """
    if (data is None) == (covariance is None):
        raise ValueError("pass either data or covariance=")
    if covariance is None:
        samples = centre(flat_samples(data, mask))
        gram = samples @ samples.T if len(samples) < samples.shape[1] else samples.T @ samples  # the same eigenvalues
    else:
        gram = flat_samples(covariance, None, "covariance")
        if gram.shape[0] != gram.shape[1] or not np.allclose(gram, gram.T, rtol=1e-5, atol=1e-8 * np.abs(gram).max()):
            raise ValueError(f"expected a symmetric covariance [d, d], got shape {gram.shape}")
    if not np.trace(gram) > 0:
        raise ValueError("there is no variance")
    return float(np.trace(gram) ** 2 / (gram**2).sum())


@no_type_check  # it checks its arguments itself
def linear_cka(X: Float[Any, "... p"], Y: Float[Any, "... q"]) -> float:
    """Similarity of two sets of responses to the same samples, 0 … 1: centred kernel alignment with a linear kernel.

    ‖Yᵀ X‖² / (‖Xᵀ X‖ ‖Yᵀ Y‖) in Frobenius norms of centred data (Kornblith, Norouzi, Lee & Hinton 2019,
    arXiv:1905.00414). It does not change under rotations and a common scale of either, but does under other linear maps.

    Raises:
        ValueError: different numbers of samples, values that are not finite, or no variance.
    """
    X, Y = _paired(X, Y)
    norms = [np.linalg.norm(a @ a.T if len(a) < a.shape[1] else a.T @ a) for a in (X, Y)]
    if len(X) < min(X.shape[1], Y.shape[1]):
        return float(((X @ X.T) * (Y @ Y.T)).sum() / np.prod(norms))
    return float(np.linalg.norm(Y.T @ X) ** 2 / np.prod(norms))


@dataclasses.dataclass(frozen=True, repr=False)
class Procrustes:
    """The rigid (or similar) motion of X that lies closest to Y, y ≈ scale (x − x_mean) rotation + y_mean."""

    rotation: Float[np.ndarray, "d d"]
    """Orthogonal."""
    scale: float
    """1 where it was not fitted."""
    x_mean: Float[np.ndarray, "d"]
    """Centre of X, which goes to `y_mean`."""
    y_mean: Float[np.ndarray, "d"]
    """Centre of Y."""
    disparity: float
    """Squared distance that is left, Σ‖y − ŷ‖² / Σ‖y − y_mean‖²; with a fitted scale 0 … 1."""

    def transform(self, X: Float[Any, "... d"]) -> Float[np.ndarray, "... d"]:
        """X moved onto Y."""
        return self.scale * (np.asarray(X) - self.x_mean) @ self.rotation + self.y_mean

    def inverse_transform(self, Y: Float[Any, "... d"]) -> Float[np.ndarray, "... d"]:
        """Y moved onto X."""
        return (np.asarray(Y) - self.y_mean) @ self.rotation.T / self.scale + self.x_mean

    def __repr__(self) -> str:
        kind = "rotation" if np.linalg.det(self.rotation) > 0 else "rotation and reflection"
        return (
            f"Procrustes: {kind} in {len(self.rotation)} dimensions, scale {self.scale:.3g}, {self.disparity:.2e} left"
        )


@no_type_check  # it checks its arguments itself
def procrustes(
    X: Float[Any, "... d"],
    Y: Float[Any, "... d"],
    *,
    scaling: bool = True,
    reflection: bool = True,
    translation: bool = True,
) -> Procrustes:
    """The orthogonal map, with a scale and a shift, that brings X closest to Y (Schönemann 1966, doi:10.1007/BF02289451).

    Minimises Σ‖s (x − x̄) R + ȳ − y‖² over orthogonal R (and s > 0). Samples of X and Y correspond.

    Args:
        X, Y: [..., d], the same shape. Of different d, reduce both to the same number of components first.
        scaling: fit s; False: s = 1.
        reflection: R may reflect; False: det R = 1.
        translation: fit the shift; False: both stay about the origin.

    Raises:
        ValueError: shapes that do not fit, values that are not finite, or data that do not vary.
    """
    if np.shape(X) != np.shape(Y):
        raise ValueError(f"expected X and Y of one shape [..., d], got {np.shape(X)} and {np.shape(Y)}")
    means = [flat_samples(a, None, name).mean(axis=0) * translation for name, a in (("X", X), ("Y", Y))]
    X, Y = _paired(X, Y, about_means=translation)
    U, values, Vt = scipy.linalg.svd(X.T @ Y)
    signs = np.ones(len(values))
    if not reflection:
        signs[-1] = np.sign(np.linalg.det(U @ Vt))
    scale = float((signs * values).sum() / (X**2).sum()) if scaling else 1.0
    if not scale > 0:
        raise ValueError("X and Y are unrelated: the best scale is 0")
    rotation = (U * signs) @ Vt
    left = float(((scale * X @ rotation - Y) ** 2).sum() / (Y**2).sum())
    return Procrustes(rotation, scale, *means, left)


@dataclasses.dataclass(frozen=True, repr=False)
class CCA:
    """Pairs of directions in X and Y along which samples correlate most; made by `cca`."""

    correlations: Float[np.ndarray, "k"]
    """Of each pair over the samples, largest first (without regularization)."""
    x_weights: Float[np.ndarray, "p k"]
    """Columns a_k; x's coordinates are (x − x_mean) · a_k, with variance 1 where nothing is regularised."""
    y_weights: Float[np.ndarray, "q k"]
    """Columns b_k."""
    x_mean: Float[np.ndarray, "p"]
    """Centre of X."""
    y_mean: Float[np.ndarray, "q"]
    """Centre of Y."""

    def transform_x(self, X: Float[Any, "... p"]) -> Float[np.ndarray, "... k"]:
        """Canonical coordinates of X."""
        return (np.asarray(X) - self.x_mean) @ self.x_weights

    def transform_y(self, Y: Float[Any, "... q"]) -> Float[np.ndarray, "... k"]:
        """Canonical coordinates of Y."""
        return (np.asarray(Y) - self.y_mean) @ self.y_weights

    def align_y(self, Y: Float[Any, "... q"]) -> Float[np.ndarray, "... p"]:
        """Y in the space of X, through the canonical coordinates, (y − y_mean) B A⁺ + x_mean.

        So a decoder fitted on one day's latents X reads another day's Y (Gallego, Perich, Chowdhury, Solla & Miller 2020,
        doi:10.1038/s41593-019-0555-4).
        """
        return self.transform_y(Y) @ np.linalg.pinv(self.x_weights) + self.x_mean

    def __repr__(self) -> str:
        shown = ", ".join(f"{c:.3f}" for c in self.correlations[:6])
        p, q, k = len(self.x_mean), len(self.y_mean), len(self.correlations)
        return f"CCA: {k} pairs between {p} and {q} dimensions, correlations {shown}{', …' if k > 6 else ''}"


@no_type_check  # it checks its arguments itself
def cca(
    X: Float[Any, "... p"],
    Y: Float[Any, "... q"],
    num_components: int | None = None,
    *,
    regularization: float = 0.0,
) -> CCA:
    """Canonical correlation analysis (Hotelling 1936, doi:10.1093/biomet/28.3-4.321).

    Maximises corr(X a, Y b), then again among coordinates uncorrelated with the former. Solved by singular value
    decompositions of the centred data (Björck & Golub 1973, doi:10.2307/2005662), without forming or inverting
    covariances; directions without variance are left out.

    Args:
        X, Y: [..., p] and [..., q]; leading axes are samples, and samples correspond.
        num_components: pairs to keep; None: all, min(rank X, rank Y).
        regularization: κ ≥ 0; covariances C become C + κ tr(C)/d I, which damps directions of little variance.

    Raises:
        ValueError: different numbers of samples, values that are not finite, no variance, more components than there are,
            or too few samples: with rank X + rank Y ≥ samples some correlation is 1 whatever the data.
    """
    if not 0 <= regularization < np.inf:
        raise ValueError(f"regularization cannot be negative, got {regularization}")
    means = [flat_samples(a, None, name).mean(axis=0) for name, a in (("X", X), ("Y", Y))]
    X, Y = _paired(X, Y)
    (Ux, Ax), (Uy, Ay) = _whitened(X, regularization), _whitened(Y, regularization)
    rank_x, rank_y, samples = Ux.shape[1], Uy.shape[1], len(X)
    if regularization == 0 and rank_x + rank_y > samples - 1:
        raise ValueError(
            f"{samples} samples are too few for ranks {rank_x} and {rank_y}: some correlation is 1 whatever the data; "
            "reduce them to fewer components, or pass regularization="
        )
    count = min(rank_x, rank_y) if num_components is None else num_components
    if isinstance(count, bool) or not 1 <= count <= min(rank_x, rank_y):
        raise ValueError(f"num_components must lie in 1 … {min(rank_x, rank_y)} (the smaller rank), got {count}")
    left, _, right = scipy.linalg.svd(Ux.T @ Uy, full_matrices=False)
    a, b = Ax @ left[:, :count], Ay @ right[:count].T
    largest = np.take_along_axis(a, np.abs(a).argmax(axis=0, keepdims=True), axis=0)
    a, b = (weights * np.where(largest < 0, -1.0, 1.0) for weights in (a, b))
    u, v = X @ a, Y @ b
    correlations = (u * v).sum(axis=0) / np.sqrt((u**2).sum(axis=0) * (v**2).sum(axis=0))
    return CCA(correlations, a, b, *means)


def _paired(X: Any, Y: Any, about_means: bool = True) -> tuple[Float[np.ndarray, "n p"], Float[np.ndarray, "n q"]]:
    """Samples of two sets, about their means or as they are, after a check that they correspond and vary."""
    if np.shape(X)[:-1] != np.shape(Y)[:-1]:
        raise ValueError(f"expected the same samples [..., p] and [..., q], got shapes {np.shape(X)} and {np.shape(Y)}")
    X, Y = flat_samples(X, None, "X"), flat_samples(Y, None, "Y")
    X, Y = (centre(X), centre(Y)) if about_means else (X, Y)
    if not X.any() or not Y.any():
        raise ValueError(f"{'Y' if X.any() else 'X'} does not vary")
    return X, Y


def _whitened(centred: Float[np.ndarray, "n p"], regularization: float) -> tuple[np.ndarray, np.ndarray]:
    """(coordinates [n, rank], weights [p, rank]); X · weights / √(n − 1) are the coordinates, orthonormal if κ = 0."""
    U, values, Vt = scipy.linalg.svd(centred, full_matrices=False)
    rank = int((values > values[0] * max(centred.shape) * np.finfo(float).eps).sum())
    U, values, Vt = U[:, :rank], values[:rank], Vt[:rank]
    size = np.sqrt(values**2 + regularization * (values**2).sum() / centred.shape[1])
    return U * (values / size), Vt.T / size * np.sqrt(max(1, len(centred) - 1))
