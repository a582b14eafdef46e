"""The graph of memories and saddles, in the space of the states or laid out as a graph."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float
from matplotlib.lines import Line2D

from ctd_models.analysis.fixed_points.points import FixedPoints
from ctd_models.analysis.geometry.basins import Basins
from ctd_models.analysis.geometry.connections import Connections
from ctd_models.analysis.geometry.transitions import TransitionGraph
from ctd_models.analysis.latents.pca import PCA
from ctd_models.plots.style import PALETTE, legend_below

OBLIQUE = np.array([0.42, 0.3])  # where the third component points in the plane of the first two


def plot_transition_graph(
    connections: Connections | TransitionGraph,
    points: FixedPoints,
    axes: Any = None,
    pca: PCA | None = None,
    *,
    layout: str = "pca",
    max_unstable: int | None = None,
    labels: bool = True,
    basins: Basins | None = None,
) -> Any:
    """Memories as circles, saddles as squares coloured by their number of unstable modes, an arrow for each connection.

    Args:
        connections: `Connections`, drawn as the paths that were followed (in principal components), or their
            `transition_graph()`, drawn as straight arrows.
        points: the linearised points that were connected.
        axes: two-dimensional axes to draw into.
        pca: projection of the states; None: fitted to the points. With three components the third is drawn obliquely.
        layout: "pca", or "graph": points are placed so that their distances are numbers of connections between them.
        max_unstable: draw only points with at most so many unstable modes; None: all.
        labels: write the index of each memory, and the number of unstable modes of each saddle, into the markers.
        basins: what `basins` says of these points; the area of a memory is then the share of states that end there.

    Raises:
        ValueError: an unknown layout, points that are not those of the connections, or nothing to draw.
    """
    if layout not in ("pca", "graph"):
        raise ValueError(f'layout must be "pca" or "graph", got {layout!r}')
    if points.num_unstable is None or not np.array_equal(points.num_unstable, connections.num_unstable):
        raise ValueError("these are not the points of the connections: their numbers of unstable modes differ")
    if basins is not None and len(basins.fractions) != len(points):
        raise ValueError(f"these are not the basins of {len(points)} points, but of {len(basins.fractions)}")
    shown = points.num_unstable <= (np.inf if max_unstable is None else max_unstable)
    if not shown.any():
        raise ValueError("there is nothing to plot: no points of so few unstable modes")
    axes = axes or plt.figure(figsize=(6, 6), layout="constrained").subplots()
    project, names = _projection(points.states if pca is None else None, pca)
    where = project(points.states)
    paths = isinstance(connections, Connections)
    graph = connections.as_graph() if paths else connections.connections
    if layout == "graph":
        where[shown] = _graph_layout(graph[np.ix_(shown, shown)], where[shown])
        names = ("", "")
    if paths and layout == "pca":
        _draw_paths(axes, connections[shown[connections.sources]], project)
    else:
        for source, target in np.argwhere((graph > 0) & shown[:, None] & shown):
            _arrow(axes, where[source], where[target], _color(points.num_unstable[source]))
    handles = []
    for index in np.unique(points.num_unstable[shown]):
        mine = np.flatnonzero(shown & (points.num_unstable == index))
        style = {"marker": "s" if index else "o", "color": _color(index)}
        area = np.full(len(mine), 150.0 if labels else 50.0)
        if basins is not None and index == 0:
            area *= 0.5 + 2.5 * basins.fractions[mine] / max(basins.fractions[mine].max(), 1e-9)
        axes.scatter(*where[mine].T, s=area, zorder=3, edgecolors="white", linewidths=0.8, **style)
        name = "memory" if index == 0 else f"{index} unstable mode" + ("s" if index > 1 else "")
        if basins is not None and index == 0:
            name = f"memory, area by its basin, {100 * basins.fractions[mine].sum():.0f} % of the states"
        handles.append(Line2D([], [], ls="none", markersize=8, label=f"{name} ({len(mine)})", **style))
        for point in mine if labels else []:
            text = str(point if index == 0 else index)
            look = {"color": "white", "fontsize": 7, "ha": "center", "va": "center_baseline", "zorder": 4}
            axes.annotate(text, where[point], **look)
    axes.margins(0.08)
    axes.set_aspect("equal", adjustable="datalim")
    axes.set(xlabel=names[0], ylabel=names[1])
    if layout == "graph":
        axes.set_axis_off()
    legend_below(axes, handles, offset=0.0 if layout == "graph" else -0.12)
    return axes


def _color(index: int | np.integer) -> str:
    return PALETTE[min(int(index), len(PALETTE) - 1)]


def _projection(states: Float[np.ndarray, "n d"] | None, pca: PCA | None) -> tuple[Any, tuple[str, str]]:
    """(function from states to the plane, names of its axes): two components, the third obliquely where it matters."""
    if pca is None:
        pca = PCA.fit(states, min(3, *states.shape))
        if len(pca.components) == 3 and pca.explained_variance_ratio[2] < 0.05:
            pca = PCA(pca.mean, pca.components[:2], pca.explained_variance_ratio[:2])
    count = min(3, len(pca.components))
    directions = np.stack([[1.0, 0.0], [0.0, 1.0], OBLIQUE])[:count]
    names = [f"PC {i + 1} ({100 * share:.0f} %)" for i, share in enumerate(pca.explained_variance_ratio[:count])]
    if count == 3:
        names = [f"{name} + {part:g} × PC 3" for name, part in zip(names, OBLIQUE, strict=False)]

    def project(data: Float[np.ndarray, "*batch d"]) -> Float[np.ndarray, "*batch 2"]:
        return pca.transform(data)[..., :count] @ directions

    return project, (names[0], names[1] if count > 1 else "")


def _draw_paths(axes: Any, connections: Connections, project: Any) -> None:
    """The trajectories, with an arrow head half way along; dotted where they end at none of the points."""
    for path, source, target in zip(connections.trajectories, connections.sources, connections.targets, strict=True):
        path = project(path[np.isfinite(path).all(axis=1)])
        color = _color(connections.num_unstable[source])
        axes.plot(*path.T, color=color, lw=1, alpha=0.8, ls="-" if target >= 0 else ":", zorder=1)
        length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
        if length[-1] == 0:
            continue
        inner = np.linspace(0.45, 0.55, 2) * length[-1]
        tail, tip = np.stack([np.interp(inner, length, coordinate) for coordinate in path.T], axis=1)
        head = {"arrowstyle": "-|>", "color": color, "lw": 0, "mutation_scale": 12, "shrinkA": 0, "shrinkB": 0}
        axes.annotate("", tip, tail, arrowprops=head, zorder=2)


def _arrow(axes: Any, start: np.ndarray, end: np.ndarray, color: str) -> None:
    head = {"arrowstyle": "-|>", "color": color, "lw": 1.1, "shrinkA": 7, "shrinkB": 7, "mutation_scale": 11}
    axes.annotate("", end, start, arrowprops=head, zorder=1)


def _graph_layout(graph: np.ndarray, start: Float[np.ndarray, "n 2"], num_iterations: int = 300) -> np.ndarray:
    """Positions whose distances are close to the lengths of the shortest paths, by stress majorisation (Gansner, Koren &
    North 2004, doi:10.1007/978-3-540-31843-9_25) from given positions."""
    linked = (graph + graph.T) > 0
    distance = np.where(linked, 1.0, np.inf)
    np.fill_diagonal(distance, 0.0)
    for middle in range(len(graph)):
        distance = np.minimum(distance, distance[:, middle, None] + distance[None, middle])
    reached = distance[np.isfinite(distance)].max()
    distance = np.where(np.isfinite(distance), distance, reached + 1)
    weight = 1 / np.where(distance > 0, distance, np.inf) ** 2
    laplacian = np.diag(weight.sum(axis=1)) - weight
    inverse = np.linalg.pinv(laplacian)
    turn = 2.4 * np.arange(len(graph))  # points that fall together in the projection are pulled apart
    size = max(float(np.ptp(start, axis=0).max()), 1e-9)
    where = (start - start.mean(axis=0)) / size * reached + 0.1 * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    for _ in range(num_iterations):
        apart = np.linalg.norm(where[:, None] - where[None], axis=-1)
        pull = -weight * distance / np.where(apart > 1e-9, apart, np.inf)
        where = inverse @ ((pull - np.diag(pull.sum(axis=1))) @ where)
    return where
