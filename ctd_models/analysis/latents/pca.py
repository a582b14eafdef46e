"""Principal components of trajectories and of points."""

import dataclasses

import numpy as np
from jaxtyping import Float


@dataclasses.dataclass(frozen=True)
class PCA:
    """Principal components, x ≈ mean + Σ_k z_k c_k."""

    mean: Float[np.ndarray, "d"]
    """Centre of the data."""
    components: Float[np.ndarray, "k d"]
    """Orthonormal rows, by falling variance; the entry of largest magnitude is positive."""
    explained_variance_ratio: Float[np.ndarray, "k"]
    """Share of the data's variance along each component."""

    @classmethod
    def fit(cls, data: Float[np.ndarray, "... d"], num_components: int = 3) -> "PCA":
        """The leading components of data [..., d]; leading axes are samples.

        Raises:
            ValueError: more components than dimensions or samples.
        """
        samples = np.asarray(data, float).reshape(-1, np.shape(data)[-1])
        if not 1 <= num_components <= min(samples.shape):
            raise ValueError(f"num_components must lie in 1 … {min(samples.shape)}, got {num_components}")
        mean = samples.mean(axis=0)
        covariance = (samples - mean).T @ (samples - mean) / max(1, len(samples) - 1)
        variances, vectors = np.linalg.eigh(covariance)
        variances, components = variances[::-1], vectors.T[::-1][:num_components]
        largest = np.take_along_axis(components, np.abs(components).argmax(axis=1, keepdims=True), axis=1)
        total = variances.sum()
        ratio = variances[:num_components] / total if total > 0 else np.zeros(num_components)
        return cls(mean, components * np.where(largest < 0, -1.0, 1.0), np.maximum(ratio, 0.0))

    def transform(self, data: Float[np.ndarray, "... d"]) -> Float[np.ndarray, "... k"]:
        """Coordinates z of data along the components."""
        return (np.asarray(data) - self.mean) @ self.components.T

    def inverse_transform(self, coordinates: Float[np.ndarray, "... k"]) -> Float[np.ndarray, "... d"]:
        """The points mean + Σ_k z_k c_k."""
        return np.asarray(coordinates) @ self.components + self.mean
