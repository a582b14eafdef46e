"""Bifurcation diagrams: along one parameter, and over two."""

from itertools import pairwise
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float
from matplotlib.colors import BoundaryNorm
from matplotlib.lines import Line2D

from ctd_models.analysis.geometry.branches import BIFURCATIONS, Branch, Branches
from ctd_models.analysis.geometry.parameter_plane import ParameterPlane

MARKERS = dict(zip(BIFURCATIONS, "sD^voPX", strict=True))
COLOURS = ("#D55E00", "#0072B2", "#56B4E9", "0.5", "#009E73", "#009E73", "#CC79A7")


def plot_bifurcation_diagram(
    branches: Branches,
    coordinate: int | Float[Any, "d"] = 0,
    axes: Any = None,
    *,
    parameter: str = "parameter p",
    label: str | None = None,
) -> Any:
    """Fixed points against the parameter: stable solid, unstable dashed, bifurcations marked by kind.

    Args:
        branches: what `continue_fixed_points` found.
        coordinate: a unit, or weights [d] on all units, such as a readout or a principal component.
        axes: axes to draw into.
        parameter: label of the parameter, with its unit.
        label: label of the coordinate, with its unit; None: its number.

    Raises:
        ValueError: there are no branches, or the coordinate is none of their states'.
    """
    if len(branches) == 0:
        raise ValueError("there is nothing to plot: no branches")
    d = branches[0].states.shape[1]
    if np.ndim(coordinate) == 0 and not -d <= coordinate < d:
        raise ValueError(f"coordinate must be a unit below {d} or weights [{d}], got {coordinate}")
    weights = np.eye(d)[coordinate] if np.ndim(coordinate) == 0 else np.asarray(coordinate)
    axes = axes or plt.figure(figsize=(5.5, 4), layout="constrained").subplots()
    stabilities, kinds = set(), set()
    for branch in branches:
        for p, h, is_stable in _runs(branch, weights):
            axes.plot(
                p, h, color="black" if is_stable else "0.45", lw=1.6, ls="-" if is_stable else (0, (4, 2)), zorder=2
            )
            stabilities.add(is_stable)
        found = branch.bifurcations
        for kind, p, h in zip(found.kinds.tolist(), found.parameters, found.states @ weights, strict=True):
            axes.plot(p, h, **_marker(kind), zorder=3)
            kinds.add(kind)
    styles = {True: ("stable", "-", "black"), False: ("unstable", (0, (4, 2)), "0.45")}
    handles = [
        Line2D([], [], color=styles[s][2], lw=1.6, ls=styles[s][1], label=styles[s][0])
        for s in (True, False)
        if s in stabilities
    ]
    handles += [Line2D([], [], **_marker(kind), label=kind) for kind in BIFURCATIONS if kind in kinds]
    axes.legend(handles=handles, frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
    name = f"unit {coordinate}" if np.ndim(coordinate) == 0 else "projection of the state"
    axes.set(xlabel=parameter, ylabel=name if label is None else label, xlim=_wider(branches.parameter_range))
    return axes


def _runs(branch: Branch, weights: Float[np.ndarray, "d"]) -> list[tuple[np.ndarray, np.ndarray, bool]]:
    """Pieces (parameters, coordinate, stable) of one stability each, which meet at the bifurcations themselves."""
    found = branch.bifurcations
    place = np.concatenate([np.arange(len(branch)), found.positions])
    order = np.argsort(place, kind="stable")
    p = np.concatenate([branch.parameters, found.parameters])[order]
    h = np.concatenate([branch.states, found.states])[order] @ weights
    middle = 0.5 * (place[order][1:] + place[order][:-1])
    before = np.clip(np.floor(middle).astype(int), 0, len(branch) - 1)
    after = np.minimum(before + 1, len(branch) - 1)
    ahead = np.array(
        [((found.positions > m) & (found.positions <= b + 1)).any() for m, b in zip(middle, before, strict=True)]
    )
    stable = np.where(ahead, branch.is_stable[before], branch.is_stable[after])
    edges = np.concatenate([[0], np.flatnonzero(stable[1:] != stable[:-1]) + 1, [len(stable)]])
    return [(p[a : b + 1], h[a : b + 1], bool(stable[a])) for a, b in pairwise(edges) if b > a]


def _marker(kind: str) -> dict[str, Any]:
    colour = COLOURS[BIFURCATIONS.index(kind)]
    return {"marker": MARKERS[kind], "color": colour, "ms": 7, "mec": "white", "mew": 0.8, "ls": "none"}


def _wider(limits: tuple[float, float]) -> tuple[float, float]:
    margin = 0.03 * (limits[1] - limits[0])
    return limits[0] - margin, limits[1] + margin


def plot_parameter_plane(
    plane: ParameterPlane,
    axes: Any = None,
    *,
    stable: bool = True,
    labels: tuple[str, str] = ("parameter p", "parameter q"),
) -> Any:
    """The number of fixed points over two parameters, as regions; their borders are bifurcations.

    Args:
        plane: what `count_fixed_points` found.
        axes: axes to draw into.
        stable: count the stable ones, or all.
        labels: of the two parameters, with their units.
    """
    axes = axes or plt.figure(figsize=(5, 4), layout="constrained").subplots()
    counts = plane.num_stable if stable else plane.num_points
    levels = np.arange(counts.max() + 2)
    shades = plt.get_cmap("viridis", len(levels) - 1)
    shown = axes.pcolormesh(
        plane.first, plane.second, counts.T, cmap=shades, norm=BoundaryNorm(levels - 0.5, shades.N), shading="nearest"
    )
    axes.figure.colorbar(shown, ax=axes, ticks=levels[:-1], label=f"{'stable ' if stable else ''}fixed points")
    axes.set(xlabel=labels[0], ylabel=labels[1])
    return axes
