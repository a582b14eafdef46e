"""Figures of merit of predictions."""

from typing import Any, no_type_check

import numpy as np
from jaxtyping import Float


@no_type_check  # it checks its arguments itself
def r2_score(targets: Float[Any, "... dims"], predictions: Float[Any, "... dims"]) -> float:
    """Coefficient of determination, R² = mean over dims of 1 − SS_res / SS_tot.

    SS_res = Σ (y − ŷ)² and SS_tot = Σ (y − ȳ)² run over all samples (every axis but the last); ȳ is the mean of the
    given targets. 1 is perfect, 0 is as good as ȳ, and it can be negative.

    Raises:
        ValueError: the shapes differ or are empty, a value is not finite, or a dimension of the targets is constant.
    """
    targets, predictions = np.asarray(targets, np.float64), np.asarray(predictions, np.float64)
    if targets.shape != predictions.shape:
        raise ValueError(f"targets have shape {targets.shape}, predictions {predictions.shape}")
    if targets.ndim < 2 or 0 in targets.shape:
        raise ValueError(f"expected targets [..., samples, dims] with no empty axis, got shape {targets.shape}")
    for name, values in (("targets", targets), ("predictions", predictions)):
        if not np.isfinite(values).all():
            index = tuple(int(i) for i in np.argwhere(~np.isfinite(values))[0])
            raise ValueError(f"{name} hold {values[index]} at index {index}")
    y, residuals = targets.reshape(-1, targets.shape[-1]), (targets - predictions).reshape(-1, targets.shape[-1])
    total = ((y - y.mean(axis=0)) ** 2).sum(axis=0)
    if not total.all():
        raise ValueError(f"R² needs targets that vary, but dimension {int(np.argmin(total))} is constant")
    return float(np.mean(1 - (residuals**2).sum(axis=0) / total))


def angle_between(a: Float[Any, "*#n 2"], b: Float[Any, "*#n 2"]) -> Any:
    """Unsigned angle between vectors in the plane [degrees], 0 … 180, of the broadcast shape [*n]."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    cross = a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
    return np.degrees(np.abs(np.arctan2(cross, (a * b).sum(axis=-1))))
