"""Principal components of trajectories and of points."""

import dataclasses
from typing import Any, no_type_check

import numpy as np
import scipy.linalg
from jaxtyping import Bool, Float


@dataclasses.dataclass(frozen=True, repr=False)
class PCA:
    """Principal components, x ≈ mean + Σ_k z_k c_k."""

    mean: Float[np.ndarray, "d"]
    """Centre of the data."""
    components: Float[np.ndarray, "k d"]
    """Orthonormal rows, by falling variance; the entry of largest magnitude is positive."""
    explained_variance_ratio: Float[np.ndarray, "k"]
    """Share of the data's variance along each component."""
    explained_variance: Float[np.ndarray, "k"] | None = None
    """Variance of the data along each component, in the data's unit squared."""
    whiten: bool = False
    """Whether coordinates are divided by their standard deviation, so that each has variance 1."""

    @classmethod
    @no_type_check  # it checks its arguments itself
    def fit(
        cls,
        data: Float[Any, "... d"],
        num_components: int | float = 3,
        *,
        mask: Bool[Any, "..."] | None = None,
        whiten: bool = False,
    ) -> "PCA":
        """The leading components of data [..., d]; leading axes, such as trials and time, are samples.

        Args:
            data: states, rates, trajectories. Fewer samples than dimensions cost no d × d matrix.
            num_components: how many; or, as a float in (0, 1], the share of the variance that they explain at least.
            mask: [...], True where a sample counts, such as the bins of padded trials that were recorded.
            whiten: divide the coordinates by their standard deviation.

        Raises:
            ValueError: more components than dimensions or samples, values that are not finite, a mask that does not fit,
                or a component without variance that is to be whitened.
        """
        samples = flat_samples(data, mask, "data")
        most = min(samples.shape)
        share = isinstance(num_components, (float, np.floating))
        if share and not 0 < num_components <= 1:
            raise ValueError(f"num_components as a share of the variance must lie in (0, 1], got {num_components}")
        if not share and (isinstance(num_components, bool) or not 1 <= num_components <= most):
            raise ValueError(f"num_components must lie in 1 … {most}, got {num_components}")
        mean = samples.mean(axis=0)
        variances, components = _modes(centre(samples))
        total = variances.sum()
        ratio = variances / total if total > 0 else np.zeros(most)
        count = num_components
        if share:  # up to rounding, so that a share of 1.0 does not ask for directions without variance
            count = min(most, int(np.searchsorted(np.cumsum(ratio), num_components - 1e-12)) + 1)
        variances, components = variances[:count], components[:count]
        if whiten and not (variances > 1e-14 * total).all():
            empty = int(np.argmin(variances > 1e-14 * total))
            raise ValueError(f"component {empty} has no variance and cannot be whitened: ask for {empty} components")
        largest = np.take_along_axis(components, np.abs(components).argmax(axis=1, keepdims=True), axis=1)
        return cls(mean, components * np.where(largest < 0, -1.0, 1.0), ratio[:count], variances, whiten)

    def transform(self, data: Float[np.ndarray, "... d"]) -> Float[np.ndarray, "... k"]:
        """Coordinates z of data along the components."""
        coordinates = (np.asarray(data) - self.mean) @ self.components.T
        return coordinates / np.sqrt(self.explained_variance) if self.whiten else coordinates

    def inverse_transform(self, coordinates: Float[np.ndarray, "... k"]) -> Float[np.ndarray, "... d"]:
        """The points mean + Σ_k z_k c_k."""
        coordinates = np.asarray(coordinates)
        coordinates = coordinates * np.sqrt(self.explained_variance) if self.whiten else coordinates
        return coordinates @ self.components + self.mean

    def __repr__(self) -> str:
        k, d = self.components.shape
        shares = ", ".join(f"{100 * share:.1f}" for share in self.explained_variance_ratio[:6])
        return (
            f"PCA: {k:,} of {d:,} components{', whitened' if self.whiten else ''}, "
            f"{100 * self.explained_variance_ratio.sum():.1f} % of the variance ({shares}{', …' if k > 6 else ''})"
        )


def _modes(centred: Float[np.ndarray, "n d"]) -> tuple[Float[np.ndarray, "m"], Float[np.ndarray, "m d"]]:
    """(variances by falling size, their directions as rows), m = min(n, d)."""
    n, d = centred.shape
    if n < d:
        _, values, rows = scipy.linalg.svd(centred, full_matrices=False)
        return values**2 / max(1, n - 1), rows
    variances, vectors = np.linalg.eigh(centred.T @ centred / max(1, n - 1))
    return np.maximum(variances[::-1], 0.0), vectors.T[::-1]


def centre(samples: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """Samples about their mean; columns that are constant become zero, where rounding would leave noise."""
    return np.where(np.ptp(samples, axis=0) == 0, 0.0, samples - samples.mean(axis=0))


@no_type_check  # it checks its arguments itself
def flat_samples(
    data: Float[Any, "... d"], mask: Bool[Any, "..."] | None = None, what: str = "data"
) -> Float[np.ndarray, "n d"]:
    """Samples [n, d] in float64 of data [..., d], those where `mask` [...] is True, after a check that they are finite.

    Raises:
        ValueError: no samples or dimensions, a mask that does not fit, or values that are not finite.
        TypeError: the data are complex, or the mask is not of booleans.
    """
    data = np.asarray(data)
    if np.iscomplexobj(data):
        raise TypeError(f"{what} must be real, got {data.dtype}: take real and imaginary parts apart")
    if data.ndim < 2:
        raise ValueError(f"expected {what} [..., samples, d], got shape {data.shape}")
    if mask is None:
        mask = np.ones(data.shape[:-1], bool)
    mask = np.asarray(mask)
    if mask.dtype != bool:
        raise TypeError(f"the mask must hold booleans, got {mask.dtype}")
    if mask.shape != data.shape[:-1]:
        raise ValueError(f"expected a mask of shape {data.shape[:-1]} for {what} {data.shape}, got shape {mask.shape}")
    samples = data[mask].astype(np.float64)
    if 0 in samples.shape:
        raise ValueError(
            f"there are no samples in {what} of shape {data.shape}{'' if mask.all() else ' under the mask'}"
        )
    if not np.isfinite(samples).all():
        row, column = np.argwhere(~np.isfinite(samples))[0]
        index = (*(int(i) for i in np.argwhere(mask)[row]), int(column))
        raise ValueError(f"{what} hold {samples[row, column]} at index {index}")
    return samples
