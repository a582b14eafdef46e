"""Fixed points in the space of the states, with their modes."""

from typing import Any, no_type_check

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float
from matplotlib.collections import LineCollection
from matplotlib.lines import Line2D
from mpl_toolkits.mplot3d.art3d import Line3DCollection

from ctd_models.analysis.fixed_points.points import FixedPoints
from ctd_models.analysis.latents.pca import PCA
from ctd_models.plots.style import LEADING, PALETTE, STABLE, UNSTABLE, legend_below


@no_type_check  # it checks its arguments itself
def plot_fixed_points(
    points: FixedPoints,
    values: Float[Any, "n"] | None = None,
    *,
    pca: PCA | None = None,
    trajectories: Float[Any, "B T d"] | None = None,
    dims: int | None = None,
    color: str = "stability",
    modes: str | int | None = "unstable",
    mode_length: float = 0.2,
    label: str = "",
    axes: Any = None,
) -> Any:
    """Fixed points in two or three principal components, with the directions in which they are unstable.

    A real mode is drawn as the line h ± L r along its right eigenvector r of unit length, a conjugate pair as the ellipse
    h + Re(e^{iθ} r) in their plane, with half-axis L. Where a line is short, its direction lies outside of the components.

    Args:
        points: the points.
        values: colour of each, named by `label`; None: coloured by `color`.
        pca: the projection; None: fitted to the trajectories, or to the points where there are none.
        trajectories: flat states drawn as thin grey lines, [B, T, d] or [T, d].
        dims: 2 or 3 components; None: as many as `axes` has, 3 without.
        color: "stability" (black where stable, red where not), "index" (by the number of unstable modes), or "class" (by
            `points.classes`).
        modes: "unstable" (every unstable mode), a number k (the leading k modes of each point, such as 1 for the slow mode
            of a line attractor), or None.
        mode_length: L, as a share of the root-mean-square distance of the data from their mean.
        label: what the values are.
        axes: axes to draw into; three-dimensional for 3 components.

    Raises:
        ValueError: arguments that do not fit, or nothing to plot.
    """
    if len(points) == 0 and trajectories is None:
        raise ValueError("there is nothing to plot: no points and no trajectories")
    if values is not None and np.shape(values) != (len(points),):
        raise ValueError(f"expected values [{len(points)}], one per point, got shape {np.shape(values)}")
    data = np.asarray(points.states if trajectories is None else trajectories)
    if data.ndim not in (2, 3) or data.shape[-1] != points.states.shape[1]:
        raise ValueError(f"expected trajectories [B, T, {points.states.shape[1]}], got shape {data.shape}")
    dims, axes = _axes_of(dims, axes)
    names, groups, palette = _groups(points, color)
    curves, which, growing = _mode_curves(points, modes, mode_length * _spread(data))
    pca = pca or PCA.fit(data, min(dims, data.shape[-1], data.size // data.shape[-1]))

    for trajectory in [] if trajectories is None else data.reshape(-1, *data.shape[-2:]):
        axes.plot(*_in_space(pca, trajectory, dims).T, color="0.75", lw=0.5, zorder=1)
    style = {"s": 16, "zorder": 3} | ({"depthshade": False} if dims == 3 else {})
    where = _in_space(pca, points.states, dims).T
    if values is not None:
        shown = axes.scatter(*where, c=np.asarray(values), cmap="coolwarm", edgecolors="0.2", linewidths=0.4, **style)
        layout = {"shrink": 0.65, "pad": 0.14} if dims == 3 else {}
        axes.figure.colorbar(shown, ax=axes, label=label, **layout)
    else:
        axes.scatter(*where, c=palette[groups], **style)
    mode_colors = np.where(growing, UNSTABLE, LEADING)
    if values is not None or color != "stability":
        mode_colors = np.full(len(curves), "0.35") if values is not None else palette[groups[which]]
    if curves:
        collection = Line3DCollection if dims == 3 else LineCollection
        lines = [_in_space(pca, curve, dims) for curve in curves]
        axes.add_collection(collection(lines, colors=mode_colors.tolist(), linewidths=1.0, zorder=2))
    _name_components(axes, pca, dims)
    if values is None and names:
        marks = {"marker": "o", "ls": "none", "ms": 4}
        handles = [Line2D([], [], color=c, label=name, **marks) for c, name in zip(palette, names, strict=True)]
        if color == "stability":
            drawn = {"unstable mode": (UNSTABLE, growing.any()), "stable mode": (LEADING, (~growing).any())}
            handles += [Line2D([], [], color=c, lw=1.2, label=name) for name, (c, there) in drawn.items() if there]
        legend_below(axes, handles, offset=-0.03 if dims == 3 else -0.14)
    return axes


def _axes_of(dims: int | None, axes: Any) -> tuple[int, Any]:
    """(number of components, axes that have as many)."""
    if dims not in (None, 2, 3):
        raise ValueError(f"dims must be 2 or 3, got {dims}")
    if axes is None:
        dims = dims or 3
        figure = plt.figure(figsize=(6, 5), layout="constrained")
        return dims, figure.add_subplot(projection="3d" if dims == 3 else None)
    has = 3 if hasattr(axes, "get_zlim") else 2
    if dims not in (None, has):
        raise ValueError(f"expected axes of {dims} dimensions, got axes of {has}")
    return has, axes


def _name_components(axes: Any, pca: PCA, dims: int) -> None:
    shares = pca.explained_variance_ratio[:dims]
    names = [f"PC {i + 1} ({100 * share:.0f} %)" for i, share in enumerate(shares)] + [""] * dims
    if dims == 3:
        axes.set_xlabel(names[0], labelpad=6)
        axes.set_ylabel(names[1], labelpad=6)
        axes.set_zlabel(names[2], labelpad=2)
        axes.locator_params(nbins=4)
    else:
        axes.set(xlabel=names[0], ylabel=names[1])


def _in_space(pca: PCA, states: Float[Any, "*batch d"], dims: int) -> np.ndarray:
    """Coordinates [*batch, dims], zero where the projection has fewer components."""
    coordinates = pca.transform(states)[..., :dims]
    missing = dims - coordinates.shape[-1]
    return np.pad(coordinates, [(0, 0)] * (coordinates.ndim - 1) + [(0, missing)])


def _spread(data: Float[np.ndarray, "*batch d"]) -> float:
    """Root-mean-square distance from the mean; 1 where there is only one place."""
    samples = data.reshape(-1, data.shape[-1])
    return float(np.sqrt(((samples - samples.mean(axis=0)) ** 2).sum(axis=1).mean())) or 1.0


def _groups(points: FixedPoints, color: str) -> tuple[list[str], np.ndarray, np.ndarray]:
    """(names with counts, group of each point, colour of each group); no names where nothing is known of the points."""
    if color not in ("stability", "index", "class"):
        raise ValueError(f'color must be "stability", "index" or "class", got {color!r}')
    known = getattr(points, "classes", None) if color == "class" else points.num_unstable
    if known is None and color != "stability":
        raise ValueError(f'color="{color}" needs points that are {"classified" if color == "class" else "linearised"}')
    if known is None:
        return [], np.zeros(len(points), int), np.array([STABLE])
    if color == "stability":
        known = np.minimum(known, 1)
    labels, groups, counts = np.unique(np.asarray(known), return_inverse=True, return_counts=True)
    if color == "class":
        names = [str(name) for name in labels]
    elif color == "stability":
        names = [("stable", "unstable")[k] for k in labels]
    else:
        names = [{0: "stable", 1: "1 unstable mode"}.get(k, f"{k} unstable modes") for k in labels.tolist()]
    places = np.arange(len(labels)) if color == "class" else labels
    if len(labels) and places.max() < len(PALETTE):
        colors = np.array(PALETTE)[places]
    else:
        colors = plt.get_cmap("viridis")(np.linspace(0, 0.95, len(labels)))
    return [f"{name} ({count})" for name, count in zip(names, counts, strict=True)], groups, colors


def _mode_curves(points: FixedPoints, modes: Any, length: float) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """(curves [m, d] that show the chosen modes, the point of each, whether the mode grows)."""
    known = points.states.shape[1] if points.eigenvalues is None else points.eigenvalues.shape[1]
    if modes not in (None, "unstable") and not (isinstance(modes, int) and 1 <= modes <= known):
        raise ValueError(f'modes must be "unstable", None or a number of modes in 1 … {known}, got {modes!r}')
    if points.eigenvalues is None and isinstance(modes, int):
        raise ValueError("the modes are not known yet: call linearize(F, points) first")
    if points.eigenvalues is None or modes is None:
        return [], np.zeros(0, int), np.zeros(0, bool)
    values = points.eigenvalues
    growing = values.real > 0 if points.kind == "flow" else np.abs(values) > 1
    chosen = growing if modes == "unstable" else np.arange(known) < np.full((len(points), 1), modes)
    which, mode = np.nonzero(chosen & (values.imag >= 0))  # the first of a pair stands for both
    angles = np.linspace(0, 2 * np.pi, 61)
    curves = []
    for vector, value, state in zip(
        points.right_eigenvectors[which, :, mode], values[which, mode], points.states[which], strict=True
    ):
        phases = angles if value.imag > 0 else np.array([0.0, np.pi])
        curve = np.real(np.exp(1j * phases)[:, None] * vector)
        curves.append(state + length * curve / np.linalg.norm(curve, axis=1).max())
    return curves, which, growing[which, mode]
