"""Factors over trials, and the fixed points of the generator among them."""

from collections.abc import Callable
from typing import Any, no_type_check

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, CenteredNorm, ListedColormap, Normalize
from matplotlib.lines import Line2D

from ctd_models.analysis.conditions import condition_means
from ctd_models.analysis.fixed_points.points import FixedPoints
from ctd_models.analysis.latents.pca import PCA
from ctd_models.analysis.metrics import check_finite
from ctd_models.plots.spectra import plot_eigenvalues
from ctd_models.plots.style import LEADING, PALETTE, STABLE

LEGEND_LIMIT = 10  # more conditions than this have a colour bar instead of a legend


@no_type_check  # it checks its arguments itself
def plot_factors(
    factors: Float[Any, "trials time F"],
    conditions: Shaped[Any, "trials"] | None = None,
    points: Float[Any, "n F"] | None = None,
    *,
    stable: Bool[Any, "n"] | None = None,
    num_trials: int = 60,
    label: str | None = None,
    averages: bool = True,
    circular: bool = False,
    linewidth: float = 0.5,
    pca: PCA | None = None,
    axes: Any = None,
) -> Any:
    """Trajectories of the factors in their first three principal components, coloured by condition; dots are their starts.

    Args:
        factors: of all trials; the projection and the averages are of all, whatever is drawn.
        conditions: number of the condition of each trial, or a value such as a direction; None: one colour.
        points: fixed points in the space of the factors, drawn as diamonds: filled where stable, hollow where not.
        stable: whether each point is stable; None: unknown, all are drawn filled in grey.
        num_trials: how many single trials are drawn at most, evenly chosen over the conditions; 0 draws averages alone.
        label: what the conditions are, with their unit.
        averages: draw the average over the trials of each condition in bold.
        circular: colours that close in a circle, for directions.
        linewidth: of single trials [points].
        pca: the projection; None: fitted to the factors.
        axes: three-dimensional axes to draw into.

    Returns:
        The figure.

    Raises:
        ValueError: shapes do not fit, a value is not finite, or axes that are not three-dimensional.
    """
    factors = _checked_factors(factors)
    conditions = None if conditions is None else np.asarray(conditions)
    if conditions is not None and conditions.shape != factors.shape[:1]:
        raise ValueError(f"expected one condition for each of {len(factors)} trials, got shape {conditions.shape}")
    points = None if points is None else _mapped(points, factors.shape[2])
    if stable is not None and (points is None or np.shape(stable) != (len(points),)):
        count = "no points" if points is None else f"{len(points)} points"
        raise ValueError(f"expected stable [n], one for each point, got shape {np.shape(stable)} for {count}")
    if num_trials < 0:
        raise ValueError(f"num_trials cannot be negative, got {num_trials}")
    axes = _three_dimensional(axes)
    pca = pca or _fitted(factors)

    labels, which = np.unique(np.zeros(len(factors)) if conditions is None else conditions, return_inverse=True)
    colors = np.array([LEADING]) if conditions is None else condition_palette(len(labels), circular)
    faint = averages and conditions is not None
    for trial in np.argsort(which, kind="stable")[_evenly(len(which), num_trials)]:
        _draw_path(
            axes, pca, factors[trial], colors[which[trial]], {"lw": linewidth, "alpha": 0.35 if faint else 0.7}, dot=5.0
        )
    if faint:
        for mean, color in zip(condition_means(factors, which)[1], colors, strict=True):
            _draw_path(axes, pca, mean, color, {"lw": 2.2 if len(labels) <= LEGEND_LIMIT else 1.0}, dot=26.0)
    handles = [] if conditions is None else _explain_conditions(axes, labels, colors, label)
    if points is not None:
        handles += _draw_points(axes, _place(pca, points), stable)
    _name_axes(axes, pca)
    if handles:
        title = label if conditions is not None and len(labels) <= LEGEND_LIMIT else None
        place = {"loc": "upper left", "bbox_to_anchor": (1.12, 0.95), "frameon": False, "fontsize": "small"}
        axes.legend(handles=handles, title=title, **place)
    return axes.figure


@no_type_check  # it checks its arguments itself
def plot_generator_points(
    points: FixedPoints,
    factor_map: Callable[[Any], Any] | Float[Any, "n F"],
    factors: Float[Any, "trials time F"] | None = None,
    *,
    color: str = "eigenvalue",
    pca: PCA | None = None,
    num_trials: int = 40,
    figure: Any = None,
) -> Any:
    """Fixed points of the generator in the space of the factors, and all their eigenvalues beside it in the same colours.

    Args:
        points: linearised points of the generator, `step_function(model, variables, part="generator")`.
        factor_map: function from states [n, N], in the network's own form, to factors [n, F], such as that of
            `ctd_models.models.lfads.factor_map(model, variables)`; or the factors of the points.
        factors: of trials, whose trajectories are drawn in grey.
        color: "eigenvalue": by the largest |λ| of a map (Re λ of a flow), about the boundary of stability; "stability": by
            `points.stability`; "class": by `points.classes`.
        pca: the projection; None: fitted to the factors of the trials, or to those of the points where there are none.
        num_trials: how many trajectories are drawn at most.
        figure: figure to draw into, with the layout "constrained".

    Returns:
        The figure.

    Raises:
        ValueError: points that are not linearised or not classified, none at all, or shapes that do not fit.
    """
    if len(points) == 0:
        raise ValueError("there is nothing to plot: no points")
    if points.eigenvalues is None:
        raise ValueError("the eigenvalues are not known yet: call linearize(F, points) first")
    if color not in ("eigenvalue", "stability", "class"):
        raise ValueError(f'color must be "eigenvalue", "stability" or "class", got {color!r}')
    if color == "class" and points.classes is None:
        raise ValueError('color="class" needs points that are classified')
    factors = None if factors is None else _checked_factors(factors)
    places = factor_map(points.unravel(points.states)) if callable(factor_map) else factor_map
    places = _mapped(places, None if factors is None else factors.shape[2], len(points))
    pca = pca or _fitted(places if factors is None else factors)
    figure = figure or plt.figure(figsize=(10, 4.8), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1.15, 1))
    space, plane = left.add_subplot(projection="3d"), right.subplots()
    for trial in [] if factors is None else _evenly(len(factors), num_trials):
        space.plot(*_place(pca, factors[trial]).T, color="0.75", lw=0.5, zorder=1)
    where = _place(pca, places)
    dots = {"s": 24, "edgecolors": "0.2", "linewidths": 0.4, "depthshade": False, "zorder": 3}
    if color == "eigenvalue":
        values, name, norm = _leading(points)
        space.scatter(*where.T, c=values, cmap="coolwarm", norm=norm, **dots)
        style = {"cmap": "coolwarm", "norm": norm, "edgecolors": "0.2", "linewidths": 0.3, "s": 14}
        plot_eigenvalues(points, axes=plane, values=values, value_label=name, **style)
    else:
        names = points.stability if color == "stability" else np.asarray(points.classes)
        for group, kind in enumerate(np.unique(names)):
            mine, shade = names == kind, PALETTE[group % len(PALETTE)]
            space.scatter(*where[mine].T, color=shade, label=f"{kind} ({mine.sum()})", **dots)
            plot_eigenvalues(points[mine], axes=plane, color=shade, ms=6)
        left.legend(loc="outside lower center", frameon=False, fontsize="small", ncols=4)
    _name_axes(space, pca)
    slow = points.classes is not None and (np.asarray(points.classes) != "fixed").any()
    count = f"{len(points)} {'slow' if slow else 'fixed'} point" + "s" * (len(points) > 1)
    left.suptitle(f"{count} in the space of the factors", fontsize="medium")
    right.suptitle(f"their eigenvalues, {points.eigenvalues.shape[1]} each", fontsize="medium")
    return figure


def condition_palette(count: int, circular: bool) -> Float[np.ndarray, "count 4"]:
    """One colour for each condition in order; with `circular` the last is next to the first."""
    if circular:
        return plt.get_cmap("hsv")(0.92 * np.arange(count) / count)
    return plt.get_cmap("viridis")(np.linspace(0, 0.92, count))


def condition_name(label: Any) -> str:
    """What a legend calls a condition: numbers without needless digits."""
    return str(label) if isinstance(label, str) else f"{label:g}"


def _leading(points: FixedPoints) -> tuple[Float[np.ndarray, "n"], str, Normalize]:
    """(size of the leading eigenvalue of each point, its name, colours about the boundary of stability)."""
    growth = points.growth.max(axis=1)
    boundary = 1.0 if points.kind == "map" else 0.0
    unit = "" if points.kind == "map" else " (1/s)" if points.dt is not None else " (per unit time)"
    name = f"largest {'|λ|' if boundary else 'Re λ'} of the point{unit}, unstable above {boundary:g}"
    return growth + boundary, name, CenteredNorm(boundary, max(0.01, float(np.abs(growth).max())))


def _checked_factors(factors: Any) -> Float[np.ndarray, "trials time F"]:
    factors = np.asarray(factors, float)
    if factors.ndim != 3 or 0 in factors.shape:
        raise ValueError(f"expected factors [trials, time, F] with no empty axis, got shape {factors.shape}")
    check_finite("factors", factors)
    return factors


def _mapped(places: Any, num_factors: int | None, count: int | None = None) -> Float[np.ndarray, "n F"]:
    """The places of points among the factors, checked."""
    places = np.asarray(places, float)
    fits = places.ndim == 2 and num_factors in (None, places.shape[1]) and count in (None, len(places))
    if not fits:
        expected = f"[{'n' if count is None else count}, {'F' if num_factors is None else num_factors}]"
        raise ValueError(f"expected points {expected} in the space of the factors, got shape {places.shape}")
    check_finite("points", places)
    return places


def _fitted(data: Float[np.ndarray, "... F"]) -> PCA:
    """The first three components that have variance."""
    pca = PCA.fit(data, min(3, data.shape[-1], data.size // data.shape[-1]))
    count = max(1, int((pca.explained_variance_ratio > 1e-12).sum()))
    return PCA(pca.mean, pca.components[:count], pca.explained_variance_ratio[:count])


def _place(pca: PCA, values: Float[np.ndarray, "... F"]) -> Float[np.ndarray, "... 3"]:
    """The first three components, zero where there are fewer."""
    where = pca.transform(values)[..., :3]
    return np.pad(where, [(0, 0)] * (where.ndim - 1) + [(0, 3 - where.shape[-1])])


def _evenly(count: int, most: int) -> Int[np.ndarray, "m"]:
    """At most so many of the indices below count, first and last among them."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).astype(int))


def _three_dimensional(axes: Any) -> Any:
    if axes is None:
        return plt.figure(figsize=(6.6, 5), layout="constrained").add_subplot(projection="3d")
    if not hasattr(axes, "get_zlim"):
        raise ValueError("expected three-dimensional axes")
    return axes


def _draw_path(axes: Any, pca: PCA, path: Float[np.ndarray, "time F"], color: Any, style: dict, dot: float) -> None:
    where = _place(pca, path)
    axes.plot(*where.T, color=color, **style)
    axes.scatter(*where[:1].T, color=[color], s=dot, depthshade=False, linewidths=0)


def _draw_points(axes: Any, where: Float[np.ndarray, "n 3"], stable: Any) -> list[Line2D]:
    """Diamonds, and what they mean in a legend."""
    groups = {"fixed point": (np.ones(len(where), bool), "0.4")}
    if stable is not None:
        stable = np.asarray(stable, bool)
        groups = {"stable fixed point": (stable, STABLE), "unstable fixed point": (~stable, "none")}
    handles = []
    for name, (mine, face) in groups.items():
        if mine.any():
            style = {"marker": "D", "depthshade": False, "linewidths": 1.2, "zorder": 5}
            axes.scatter(*where[mine].T, s=30, facecolors=face, edgecolors="black", **style)
            look = {"marker": "D", "ms": 5, "mfc": face, "mec": "black", "ls": "none"}
            handles.append(Line2D([], [], label=f"{name} ({mine.sum()})", **look))
    return handles


def _explain_conditions(axes: Any, labels: np.ndarray, colors: np.ndarray, label: str | None) -> list[Line2D]:
    """Entries of a legend; none where there are so many conditions that a colour bar explains them."""
    if len(labels) <= LEGEND_LIMIT:
        pairs = zip(labels.tolist(), colors, strict=True)
        return [Line2D([], [], color=color, lw=2, label=condition_name(value)) for value, color in pairs]
    shades = ScalarMappable(BoundaryNorm(np.arange(len(labels) + 1) - 0.5, len(labels)), ListedColormap(colors))
    ticks = _evenly(len(labels), 6)
    bar = axes.figure.colorbar(shades, ax=axes, label=label or "condition", shrink=0.65, pad=0.14, ticks=ticks)
    bar.ax.set_yticklabels([condition_name(labels[tick]) for tick in ticks])
    bar.ax.minorticks_off()
    return []


def _name_axes(axes: Any, pca: PCA) -> None:
    names = [f"factor PC {i + 1} ({100 * share:.0f} %)" for i, share in enumerate(pca.explained_variance_ratio[:3])]
    names += [""] * (3 - len(names))
    axes.set_xlabel(names[0], labelpad=6)
    axes.set_ylabel(names[1], labelpad=6)
    axes.set_zlabel(names[2], labelpad=7)
    axes.locator_params(nbins=4)
