"""Fixed points in the space of the states, and the spectra of their linearisation."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Complex, Float

from ctd_models.analysis import PCA, FixedPoints


def plot_fixed_points(
    points: FixedPoints,
    values: Float[Any, "n"] | None = None,
    *,
    pca: PCA | None = None,
    trajectories: Float[Any, "B T d"] | None = None,
    label: str = "",
    axes: Any = None,
) -> Any:
    """Fixed points in three principal components.

    Args:
        points: the points.
        values: colour of each, named by `label`; None: black where stable, red where not.
        pca: the projection; None: fitted to the trajectories, or to the points where there are none.
        trajectories: flat states drawn as thin lines.
        label: what the colours show.
        axes: three-dimensional axes to draw into.
    """
    axes = axes or plt.figure(figsize=(6, 5), layout="constrained").add_subplot(projection="3d")
    if len(points) == 0 and trajectories is None:
        raise ValueError("there is nothing to plot: no points and no trajectories")
    data = np.asarray(points.states if trajectories is None else trajectories)
    pca = pca or PCA.fit(data, min(3, data.shape[-1], data.size // data.shape[-1]))
    for trajectory in [] if trajectories is None else _in_space(pca, trajectories):
        axes.plot(*trajectory.T, color="0.8", lw=0.4, zorder=1)
    where = _in_space(pca, points.states).T
    if values is not None:
        shown = axes.scatter(*where, c=np.asarray(values), cmap="coolwarm", s=14, depthshade=False, zorder=3)
        axes.figure.colorbar(shown, ax=axes, label=label, shrink=0.65, pad=0.14)
    elif points.num_unstable is not None:
        axes.scatter(*where, c=np.where(points.is_stable, "black", "red"), s=14, depthshade=False, zorder=3)
    else:
        axes.scatter(*where, c="black", s=14, depthshade=False, zorder=3)
    names = [f"PC {i + 1} ({100 * share:.0f} %)" for i, share in enumerate(pca.explained_variance_ratio)] + ["", ""]
    axes.set_xlabel(names[0], labelpad=6)
    axes.set_ylabel(names[1], labelpad=6)
    axes.set_zlabel(names[2], labelpad=2)
    axes.locator_params(nbins=4)
    return axes


def _in_space(pca: PCA, states: Float[Any, "*batch d"]) -> np.ndarray:
    """Coordinates [*batch, 3], zero where the projection has fewer components."""
    coordinates = pca.transform(states)
    missing = 3 - coordinates.shape[-1]
    return np.pad(coordinates, [(0, 0)] * (coordinates.ndim - 1) + [(0, missing)])


def plot_eigenvalues(
    eigenvalues: Complex[Any, "n d"], kind: str = "map", axes: Any = None, label: str | None = None, **style: Any
) -> Any:
    """Eigenvalues in the complex plane, with the boundary of stability: the unit circle (map), the imaginary axis (flow)."""
    axes = axes or plt.figure(figsize=(4, 4), layout="constrained").subplots()
    values = np.asarray(eigenvalues).ravel()
    axes.plot(values.real, values.imag, **{"marker": ".", "ls": "none", "ms": 4, "alpha": 0.6, "label": label} | style)
    if kind == "map":
        angle = np.linspace(0, 2 * np.pi, 200)
        axes.plot(np.cos(angle), np.sin(angle), color="black", lw=0.8)
        axes.set_aspect("equal")
        axes.set(xlabel="Re λ", ylabel="Im λ")
    else:
        axes.axvline(0, color="black", lw=0.8)
        axes.set(xlabel="Re λ (1/s)", ylabel="Im λ (rad/s)")
    if label is not None:
        axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.15))
    return axes
