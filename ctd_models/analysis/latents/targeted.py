"""Targeted dimensionality reduction: the directions of state space in which task variables are encoded."""

import dataclasses
from collections.abc import Mapping
from typing import Any, no_type_check

import numpy as np
from jaxtyping import Float

from ctd_models.analysis.latents.pca import PCA


@dataclasses.dataclass(frozen=True, repr=False)
class TargetedAxes:
    """Orthonormal directions, one for each task variable; made by `targeted_axes`."""

    names: tuple[str, ...]
    """Names of the variables, in the order in which their directions were made orthogonal."""
    axes: Float[np.ndarray, "d k"]
    """Orthonormal columns."""
    coefficients: Float[np.ndarray, "k T d"]
    """Regression coefficients of the states on each variable (in units of its standard deviation) at each step."""
    peak: tuple[int, ...]
    """The step at which the coefficients of each variable are largest, whose direction is its axis."""
    mean: Float[np.ndarray, "d"]
    """Mean state."""

    def transform(self, states: Float[Any, "... d"]) -> Float[np.ndarray, "... k"]:
        """Coordinates of states along the axes, about the mean."""
        return (np.asarray(states) - self.mean) @ self.axes

    def __repr__(self) -> str:
        named = ", ".join(f"{name} (step {step})" for name, step in zip(self.names, self.peak, strict=True))
        return f"TargetedAxes: {named} in {len(self.axes)} dimensions"


@no_type_check  # it checks its arguments itself
def targeted_axes(
    states: Float[Any, "B T d"], variables: Mapping[str, Float[Any, "B"]], *, num_components: int | None = None
) -> TargetedAxes:
    """Directions that encode task variables, after Mante, Sussillo, Shenoy & Newsome (2013, doi:10.1038/nature12742).

    At each step the states of all trials are regressed on all variables together, h = Σ_v β_v(t) v + β_0(t). The direction
    of a variable is β_v at the step where its norm is largest; the directions are made orthogonal in their order (QR).

    Args:
        states: [B, T, d].
        variables: name → value in each trial [B], such as the choice and the evidence; each is standardised.
        num_components: principal components of the states that coefficients are projected onto first, which denoises them;
            None: no projection.

    Raises:
        ValueError: shapes that do not fit, values that are not finite, a variable that does not vary, or variables that
            follow from one another.
    """
    states = np.asarray(states, float)
    if states.ndim != 3 or 0 in states.shape:
        raise ValueError(f"expected states [B, T, d], got shape {states.shape}")
    columns = {name: np.asarray(values, float) for name, values in variables.items()}
    if not columns:
        raise ValueError("there are no variables")
    for name, values in columns.items():
        if values.shape != states.shape[:1] or not np.isfinite(values).all():
            raise ValueError(
                f"expected {name} [{len(states)}] of finite values, one for each trial, got {values.shape}"
            )
        if values.std() == 0:
            raise ValueError(f"{name} does not vary over trials")
    if not np.isfinite(states).all():
        raise ValueError("states hold values that are not finite")
    design = np.column_stack([(v - v.mean()) / v.std() for v in columns.values()] + [np.ones(len(states))])
    if np.linalg.matrix_rank(design) < design.shape[1]:
        raise ValueError(
            f"the variables {', '.join(columns)} follow from one another: their effects cannot be told apart"
        )
    weights, *_ = np.linalg.lstsq(design, states.reshape(len(states), -1), rcond=None)
    coefficients = weights[:-1].reshape(len(columns), *states.shape[1:])
    mean = states.mean(axis=(0, 1))
    if num_components is not None:
        components = PCA.fit(states, num_components).components
        coefficients = coefficients @ components.T @ components
    peak = np.linalg.norm(coefficients, axis=2).argmax(axis=1)
    directions = coefficients[np.arange(len(columns)), peak].T
    axes, triangle = np.linalg.qr(directions)
    axes = axes * np.where(np.diag(triangle) < 0, -1.0, 1.0)  # along the coefficients, not against them
    return TargetedAxes(tuple(columns), axes, coefficients, tuple(int(p) for p in peak), mean)
