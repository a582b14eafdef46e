"""Decoded behaviour against what was measured."""

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Bool, Float, Int

from ctd_models.analysis import FixedPoints
from ctd_models.plots.spectra import plot_eigenvalues


def plot_decoding(
    measured: Float[Any, "trials time 2"],
    decoded: Float[Any, "trials time 2"],
    time_s: Float[Any, "time"],
    conditions: Int[Any, "trials"],
    targets: Float[Any, "trials 2"] | None,
    label: str,
    columns: int = 4,
) -> Any:
    """Behaviour in the plane: traces of one trial of each of the first conditions, and below the paths of all trials.

    Measured traces are black, decoded ones coloured; paths have the colours of their conditions. Returns the figure.
    """
    measured, decoded = np.asarray(measured), np.asarray(decoded)
    figure = plt.figure(figsize=(9, 8.2), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(1, 1.35))
    _, shown = np.unique(conditions, return_index=True)
    shown = shown[:: max(1, len(shown) // columns)][:columns]
    axes = top.subplots(2, len(shown), sharex=True, sharey=True, squeeze=False)
    for row, panels in enumerate(axes):
        for trial, panel in zip(shown, panels, strict=True):
            panel.axhline(0, color="0.85", lw=0.6)
            panel.plot(time_s, measured[trial, :, row], color="black", lw=1.5, label="measured")
            panel.plot(time_s, decoded[trial, :, row], color="C1", lw=1.5, label="decoded")
        panels[0].set_ylabel(f"{'xy'[row]} {label}".replace(" (", "\n("))
    for trial, panel in zip(shown, axes[0], strict=True):
        title = f"target {conditions[trial]}" if len(shown) > 1 else f"trial {trial}"
        panel.set_title(title, color=condition_colors(conditions)[int(conditions[trial])])
    axes[0, -1].legend(frameon=False, fontsize="small")
    top.supxlabel("time from event (s)", fontsize="medium")

    panels = bottom.subplots(1, 2, sharex=True, sharey=True)
    for panel, paths, title in zip(panels, (measured, decoded), ("measured", "decoded"), strict=True):
        plot_paths(paths, conditions, targets, panel)
        panel.set(title=f"{title}, {len(paths)} trials", xlabel=f"x {label}", ylabel=f"y {label}")
    return figure


def plot_paths(
    paths: Float[Any, "trials time 2"],
    conditions: Int[Any, "trials"],
    targets: Float[Any, "trials 2"] | None = None,
    axes: Any = None,
) -> Any:
    """Paths in the plane, coloured by condition, with the centres of the targets as circles."""
    axes = axes or plt.figure(figsize=(4, 4), layout="constrained").subplots()
    colors = condition_colors(conditions)
    for path, condition in zip(np.asarray(paths), conditions, strict=True):
        axes.plot(*path.T, color=colors[int(condition)], lw=0.8, alpha=0.7)
    if targets is not None:
        plot_targets(conditions, targets, axes)
    axes.set_aspect("equal")
    return axes


def plot_targets(conditions: Int[Any, "n"], targets: Float[Any, "n 2"], axes: Any) -> Any:
    """Centres of targets as circles in the colours of their conditions."""
    colors = condition_colors(conditions)
    for condition, color in colors.items():
        centre = np.asarray(targets)[np.asarray(conditions) == condition].mean(axis=0)
        axes.plot(*centre, "o", ms=15, mfc="none", mec=color, mew=1.8, zorder=2)
    return axes


def plot_readouts(
    readouts: Float[Any, "n 2"],
    conditions: Int[Any, "n"],
    stable: Bool[Any, "n"],
    target_conditions: Int[Any, "trials"],
    targets: Float[Any, "trials 2"],
    label: str,
    axes: Any = None,
) -> Any:
    """What is read out at fixed points (stable: dots, unstable: crosses), with the target of each condition."""
    axes = axes or plt.figure(figsize=(4, 4), layout="constrained").subplots()
    plot_targets(target_conditions, targets, axes)
    colors = condition_colors(target_conditions)
    for readout, condition, is_stable in zip(np.asarray(readouts), conditions, stable, strict=True):
        axes.plot(*readout, "o" if is_stable else "x", ms=7, color=colors[int(condition)], mew=1.5)
    keys = {
        "stable fixed point": {"marker": "o"},
        "unstable fixed point": {"marker": "x"},
        "target": {"marker": "o", "ms": 12, "mfc": "none"},
    }
    for key, style in keys.items():
        axes.plot([], [], **{"color": "0.3", "ls": "none", "ms": 7, "label": key} | style)
    axes.legend(frameon=False, fontsize="small", loc="center")
    axes.set(xlabel=f"x {label}", ylabel=f"y {label}")
    axes.set_aspect("equal")
    return axes


def plot_readouts_and_modes(
    points: FixedPoints,
    readouts: Float[Any, "n 2"],
    conditions: Int[Any, "n"],
    target_conditions: Int[Any, "trials"],
    targets: Float[Any, "trials 2"],
    label: str,
) -> Any:
    """`plot_readouts` of linearised fixed points, and beside it all their eigenvalues. Returns the figure."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 4.4), layout="constrained")
    plot_readouts(readouts, conditions, points.is_stable, target_conditions, targets, label, axes[0])
    plot_eigenvalues(points.eigenvalues, points.kind, axes[1])
    axes[1].set_title(f"eigenvalues at {len(points)} fixed points", fontsize="medium")
    return figure


def plot_scores(
    scores: Mapping[str, Float[Any, "folds"]], label: str = "R²", lowest: float | None = None, axes: Any = None
) -> Any:
    """Scores of several methods by fold (dots, joined within a fold), with their means as lines."""
    axes = axes or plt.figure(figsize=(1.4 * len(scores) + 1.2, 3.6), layout="constrained").subplots()
    values = np.asarray(list(scores.values()), float)
    axes.plot(values, color="0.75", lw=0.8, zorder=1)
    for position, row in enumerate(values):
        axes.plot(np.full(len(row), position), row, "o", ms=5, color=f"C{position}", zorder=2)
        axes.hlines(row.mean(), position - 0.2, position + 0.2, color=f"C{position}", lw=2.5)
        at = (position + 0.22, row.mean())
        axes.annotate(f"{row.mean():.3f}", at, va="center", fontsize="small", color=f"C{position}")
    axes.set_xticks(range(len(scores)), scores)
    axes.set(xlim=(-0.5, len(scores) - 0.3), ylim=(lowest, None), ylabel=f"{label} (bar: mean)")
    return axes


def condition_colors(conditions: Int[Any, "n"]) -> dict[int, Any]:
    """Condition → colour, around a cyclic colour map."""
    labels = np.unique(conditions).tolist()
    return {label: plt.get_cmap("hsv")(0.92 * i / len(labels)) for i, label in enumerate(labels)}
