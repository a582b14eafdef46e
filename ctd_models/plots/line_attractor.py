"""A line of slow points: in the space of the states, and what changes along it."""

from collections.abc import Mapping
from typing import Any, no_type_check

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float, Int
from mpl_toolkits.mplot3d.art3d import Line3DCollection

from ctd_models.analysis.fixed_points.points import FixedPoints
from ctd_models.analysis.latents.pca import PCA
from ctd_models.plots.fixed_points import plot_fixed_points
from ctd_models.plots.style import PALETTE


@no_type_check  # it checks its arguments itself
def plot_line_attractor(
    points: FixedPoints,
    values: Float[Any, "n"],
    candidates: Float[Any, "m d"],
    *,
    pca: PCA | None = None,
    trajectories: Float[Any, "B T d"] | None = None,
    max_links: int = 100,
    label: str = "readout",
    axes: Any = None,
) -> Any:
    """Candidates (grey) and the slow points (coloured by `values`) that they led to, in three principal components.

    Thin lines join candidates with their slow points: those whose `candidate_indices` say where they came from.

    Args:
        points: slow points, such as those of `find_slow_manifold`.
        values: colour of each point; the scale is symmetric around 0.
        candidates: the states that the search started from.
        pca: the projection; None: fitted to the candidates and the points.
        trajectories: flat states drawn as thin grey lines, [B, T, d] or [T, d].
        max_links: how many lines from candidates to points are drawn at most, evenly chosen.
        label: what the values are.
        axes: three-dimensional axes to draw into.

    Raises:
        ValueError: arguments that do not fit, or no points.
    """
    candidates = np.asarray(candidates, float)
    if len(points) == 0:
        raise ValueError("there is nothing to plot: no points")
    if candidates.ndim != 2 or candidates.shape[1] != points.states.shape[1]:
        raise ValueError(f"expected candidates [m, {points.states.shape[1]}], got shape {candidates.shape}")
    if axes is not None and not hasattr(axes, "get_zlim"):
        raise ValueError("expected three-dimensional axes")
    if max_links < 0:
        raise ValueError(f"max_links cannot be negative, got {max_links}")
    starts = points.candidate_indices
    if starts is not None and len(starts) and starts.max() >= len(candidates):
        raise ValueError(f"a point came from candidate {starts.max()}, but there are {len(candidates)} candidates")
    everything = np.concatenate([candidates, points.states])
    pca = pca or PCA.fit(everything, min(3, *everything.shape))
    axes = plot_fixed_points(points, values, pca=pca, dims=3, modes=None, label=label, axes=axes)
    limit = max(1e-9, float(np.abs(values).max()))
    axes.collections[-1].set_clim(-limit, limit)

    def place(states):
        coordinates = pca.transform(states)[..., :3]
        return np.pad(coordinates, [(0, 0)] * (coordinates.ndim - 1) + [(0, 3 - coordinates.shape[-1])])

    for trajectory in [] if trajectories is None else np.reshape(trajectories, (-1, *np.shape(trajectories)[-2:])):
        axes.plot(*place(trajectory).T, color="0.75", lw=0.5, zorder=1)
    axes.scatter(*place(candidates).T, s=2, color="0.7", linewidths=0, depthshade=False, zorder=1)
    linked = np.arange(0) if starts is None else np.flatnonzero(starts >= 0)
    if points.hits is not None:
        linked = linked[points.hits[linked] > 0]  # a point found by extension has its parent's candidate
    linked = linked[np.unique(np.linspace(0, len(linked) - 1, min(max_links, len(linked))).astype(int))]
    if len(linked):
        links = np.stack([place(candidates[starts[linked]]), place(points.states[linked])], axis=1)
        axes.add_collection(Line3DCollection(links, colors="0.55", linewidths=0.4, zorder=2))
    return axes


@no_type_check  # it checks its arguments itself
def plot_along_line(
    arc_length: Float[Any, "n"],
    panels: Mapping[str, Mapping[str, Float[Any, "n"]]],
    *,
    pieces: Int[Any, "n"] | None = None,
    guides: Mapping[str, tuple[float, ...]] | None = None,
    log: tuple[str, ...] = (),
    xlabel: str = "arc length along the line (state units)",
    axes: Any = None,
) -> Any:
    """Quantities against the place along a line of points, one panel above the other.

    Args:
        arc_length: place of each point; the order of the points does not matter.
        panels: label of a vertical axis → name of a curve → its values at the points. One curve of a panel may have the
            empty name; it then has no legend.
        pieces: piece of each point; curves are not joined across pieces. None: one piece.
        guides: label of a vertical axis → heights of dashed horizontal lines.
        log: labels of the panels with a logarithmic axis.
        xlabel: what the horizontal axis is.
        axes: one for each panel; None: a new figure.

    Returns:
        The axes, an array with one for each panel.

    Raises:
        ValueError: no panels, or shapes that differ.
    """
    arc_length, guides = np.asarray(arc_length, float), guides or {}
    pieces = np.zeros(arc_length.shape, int) if pieces is None else np.asarray(pieces)
    if arc_length.ndim != 1 or pieces.shape != arc_length.shape:
        raise ValueError(f"expected arc_length and pieces [n], got shapes {arc_length.shape} and {pieces.shape}")
    if not panels:
        raise ValueError("there is nothing to plot: no panels")
    if unknown := sorted({*guides, *log} - set(panels)):
        raise ValueError(f"guides or log name panels that are not there: {unknown}; panels are {list(panels)}")
    for label, curves in panels.items():
        for name, values in curves.items():
            if np.shape(values) != arc_length.shape:
                raise ValueError(
                    f"expected values [{len(arc_length)}] of {name or label!r}, got shape {np.shape(values)}"
                )
    if axes is None:
        figure = plt.figure(figsize=(6, 0.6 + 1.6 * len(panels)), layout="constrained")
        axes = figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0]
    axes = np.atleast_1d(axes)
    if len(axes) != len(panels):
        raise ValueError(f"expected {len(panels)} axes, one for each panel, got {len(axes)}")
    order = np.lexsort((arc_length, pieces))
    breaks = np.flatnonzero(np.diff(pieces[order])) + 1
    for panel, (label, curves) in zip(axes, panels.items(), strict=True):
        for height in guides.get(label, ()):
            panel.axhline(height, color="0.6", lw=0.8, ls="--", zorder=0)
        for (name, values), color in zip(curves.items(), _colors(len(curves)), strict=True):
            values = np.insert(np.asarray(values, float)[order], breaks, np.nan)  # lines end at a NaN
            panel.plot(np.insert(arc_length[order], breaks, np.nan), values, ".-", ms=3, lw=1, color=color, label=name)
        if label in log:
            panel.set_yscale("log")
        panel.set_ylabel(label)
        if any(curves):
            panel.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))
    axes[-1].set_xlabel(xlabel)
    axes[0].figure.align_ylabels(axes)
    return axes


@no_type_check  # the functions that it calls check the arguments
def plot_line_story(
    points: FixedPoints,
    values: Float[Any, "n"],
    candidates: Float[Any, "m d"],
    arc_length: Float[Any, "n"],
    panels: Mapping[str, Mapping[str, Float[Any, "n"]]],
    *,
    label: str = "readout",
    figure: Any = None,
    **options: Any,
) -> Any:
    """`plot_line_attractor` at the left, `plot_along_line` at the right. Returns the figure.

    Args:
        points, values, candidates, label: as in `plot_line_attractor`.
        arc_length, panels, options: as in `plot_along_line`.
        figure: figure to draw into; it needs the layout "constrained".

    Raises:
        ValueError: arguments that do not fit.
    """
    figure = figure or plt.figure(figsize=(12, 1.4 * max(4, len(panels))), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.1))
    plot_line_attractor(points, values, candidates, label=label, axes=left.add_subplot(projection="3d"))
    axes = right.subplots(len(panels), sharex=True, squeeze=False)[:, 0] if panels else None
    plot_along_line(arc_length, panels, axes=axes, **options)
    return figure


def _colors(count: int) -> list[str]:
    return [PALETTE[k % len(PALETTE)] for k in range(count)]
