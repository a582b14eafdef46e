"""A line of slow points: in the space of the states, and what changes along it."""

from collections.abc import Mapping
from typing import Any, no_type_check

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float
from mpl_toolkits.mplot3d.art3d import Line3DCollection

from ctd_models.analysis.fixed_points.points import FixedPoints
from ctd_models.analysis.geometry.lines import LineAttractor
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
    max_links: int = 60,
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
        axes.add_collection(Line3DCollection(links, colors="0.65", linewidths=0.3, zorder=2))
    return axes


@no_type_check  # it checks its arguments itself
def plot_along_line(
    line: LineAttractor,
    panels: Mapping[str, Mapping[str, Float[Any, "n"]]],
    *,
    guides: Mapping[str, tuple[float, ...]] | None = None,
    reverse: bool = False,
    xlabel: str = "arc length along the line (state units)",
    axes: Any = None,
) -> Any:
    """Quantities against the place along a line of points, one panel above the other; curves break at the line's gaps.

    Args:
        line: the points in their order, from `order_line`.
        panels: label of a vertical axis → name of a curve → its values at the points in order. A panel whose curves have
            empty names has no legend.
        guides: label of a vertical axis → heights of dashed horizontal lines.
        reverse: whether arc length counts from the line's end.
        xlabel: what the horizontal axis is.
        axes: one for each panel; None: a new figure.

    Returns:
        The axes, an array with one for each panel.

    Raises:
        ValueError: no panels, or shapes that differ.
    """
    guides = guides or {}
    if not panels:
        raise ValueError("there is nothing to plot: no panels")
    if unknown := sorted(set(guides) - set(panels)):
        raise ValueError(f"guides name panels that are not there: {unknown}; panels are {list(panels)}")
    for label, curves in panels.items():
        for name, values in curves.items():
            if np.shape(values) != (len(line),):
                raise ValueError(f"expected values [{len(line)}] of {name or label!r}, got shape {np.shape(values)}")
    if axes is None:
        figure = plt.figure(figsize=(6, 0.6 + 1.6 * len(panels)), layout="constrained")
        axes = figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0]
    axes = np.atleast_1d(axes)
    if len(axes) != len(panels):
        raise ValueError(f"expected {len(panels)} axes, one for each panel, got {len(axes)}")
    breaks = np.union1d(line.gap_indices, np.flatnonzero(np.diff(line.pieces))) + 1
    starts = np.cumsum([0, *line.piece_lengths[:-1]])  # pieces follow one another
    place = line.arc_length + starts[line.pieces]
    place = np.insert(line.length - place if reverse else place, breaks, np.nan)  # curves end at a NaN
    for panel, (label, curves) in zip(axes, panels.items(), strict=True):
        for height in guides.get(label, ()):
            panel.axhline(height, color="0.6", lw=0.8, ls="--", zorder=0)
        for k, (name, values) in enumerate(curves.items()):
            style = {"color": PALETTE[k % len(PALETTE)], "lw": 1, "ms": 3, "label": name}
            panel.plot(place, np.insert(np.asarray(values, float), breaks, np.nan), ".-", **style)
        panel.set_ylabel(label)
        if any(curves):
            panel.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))
    axes[-1].set_xlabel(xlabel)
    axes[0].figure.align_ylabels(axes)
    return axes


@no_type_check  # the functions that it calls check the arguments
def plot_line_story(
    points: FixedPoints,
    readout: Float[Any, "n"],
    candidates: Float[Any, "m d"],
    line: LineAttractor,
    *,
    cosines: Mapping[str, Float[Any, "n"]],
    shifts: Float[Any, "n"],
    figure: Any = None,
) -> Any:
    """A line of slow points and what it does: the points in three principal components at the left; at the right, along
    the line, what is read out, the magnitude of the two leading eigenvalues, directions, and the effect of the input.
    The line is shown from the end where the readout is lower.

    Args:
        points: linearised points in the order of the line.
        readout: what is read out at each of them.
        candidates: the states that the search started from.
        line: their order, from `order_line`.
        cosines: name of a direction → |cos| of its angle with the line's tangent at each point.
        shifts: how far one unit of input moves the state along the line [state units].
        figure: figure to draw into, with the layout "constrained".

    Returns:
        The figure.

    Raises:
        ValueError: points that are not linearised, or arguments that do not fit.
    """
    if points.eigenvalues is None:
        raise ValueError("the eigenvalues are not known yet: call linearize(F, points) first")
    modes = zip(("first", "second"), np.abs(points.eigenvalues[:, :2]).T, strict=False)
    panels = {
        "readout": {"": readout},
        "|λ|": dict(modes),
        "|cos| with tangent": cosines,
        "shift along line\nper unit of input": {"": shifts},
    }
    figure = figure or plt.figure(figsize=(12, 6.4), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.1))
    plot_line_attractor(points, readout, candidates, axes=left.add_subplot(projection="3d"))
    axes = right.subplots(len(panels), sharex=True)
    reverse = bool(np.asarray(readout)[-1] < np.asarray(readout)[0])
    plot_along_line(line, panels, guides={"readout": (-1, 1), "|λ|": (1,)}, reverse=reverse, axes=axes)
    return figure
