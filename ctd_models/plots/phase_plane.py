"""Phase planes and phase lines, and vector fields on planes through larger state spaces."""

from collections.abc import Callable, Sequence
from typing import Any, no_type_check

import jax
import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float
from matplotlib.colors import LogNorm

from ctd_models.analysis.fixed_points.points import FixedPoints
from ctd_models.analysis.geometry.planes import PhasePlane, VectorFieldSlice, vector_field_slice
from ctd_models.analysis.latents.pca import PCA
from ctd_models.plots.style import UNSTABLE, legend_below

NULLCLINES = ("#0072B2", "#E69F00")
TRAJECTORY = "#009E73"
FAR = 0.05  # of the plane's diagonal: points farther than this from the plane are drawn small


@no_type_check  # it checks its arguments itself
def plot_vector_field(
    F: Callable[..., Any] | VectorFieldSlice,
    plane: PCA | FixedPoints | tuple[Any, Any, Any] | None = None,
    inputs: Float[Any, "U"] | None = None,
    *,
    kind: str | None = None,
    extent: Any = None,
    resolution: int | tuple[int, int] = 61,
    points: FixedPoints | None = None,
    trajectories: Float[Any, "B T d"] | None = None,
    style: str = "stream",
    names: Sequence[str] | None = None,
    axes: Any = None,
) -> Any:
    """The vector field on a plane through the state space: its in-plane part as lines, the speed q of all of it as colour.

    Points and trajectories are projected onto the plane; points far from it (more than 5 % of its diagonal) are small.
    Streamlines follow the in-plane part alone and, of a map, the direction of its displacement: they are no trajectories.

    Args:
        F: the step function, as in `vector_field_slice`, or a `VectorFieldSlice` that was computed before.
        plane: the first two principal components (PCA); linearised or plain points, whose own principal components are
            taken (three points: the plane through them); or (origin, axis 1, axis 2).
        inputs: None (F takes the state alone) or the one input [U] that is held.
        kind: "map" or "flow"; None: that of the points, or "map".
        extent: ((low, high), (low, high)) along the axes, or one number r for (−r, r) twice; None: around the projected
            points and trajectories.
        resolution: grid points along both axes, or (along x, along y).
        points: fixed points to draw: filled where stable, half where a saddle, open where every mode grows.
        trajectories: flat states, [B, T, d] or [T, d], drawn as lines.
        style: "stream" or "quiver" (arrows of one length).
        names: of the two axes.
        axes: axes to draw into.

    Raises:
        ValueError, TypeError: arguments that do not fit.
    """
    if style not in ("stream", "quiver"):
        raise ValueError(f'style must be "stream" or "quiver", got {style!r}')
    field = F
    if not isinstance(F, VectorFieldSlice):
        if plane is None:
            raise ValueError("a step function needs a plane: a PCA, points, or (origin, axis 1, axis 2)")
        points = plane if points is None and isinstance(plane, FixedPoints) else points
        kind = kind or ("map" if points is None else points.kind)
        origin, directions = _origin_and_axes(plane, points)
        near = [] if points is None else [points.states]
        near += [] if trajectories is None else list(_batch(trajectories, np.shape(trajectories)[-1]))
        around = np.concatenate(near) if near else None
        settings = {"extent": extent, "around": around, "resolution": resolution, "kind": kind}
        field = vector_field_slice(F, origin, directions, inputs, **settings)
        names = names or (_component_names(plane) if isinstance(plane, PCA) else None)
    axes = axes or plt.figure(figsize=(6, 4.8), layout="constrained").subplots()
    _draw_speeds(axes, field)
    _draw_arrows(axes, field.x, field.y, field.field, style, "white")
    if trajectories is not None:
        for index, trajectory in enumerate(_batch(trajectories, len(field.origin))):
            label = "" if index else "trajectory"
            axes.plot(*field.project(trajectory).T, color=UNSTABLE, lw=0.7, zorder=2, label=label)
    if points is not None:
        near = field.distance(points.states) <= FAR * np.hypot(np.ptp(field.x), np.ptp(field.y))
        _draw_points(axes, field.project(points.states), _stability_names(points), near)
    if points is not None or trajectories is not None:
        legend_below(axes)
    names = names or ("along axis 1", "along axis 2")
    axes.set(xlabel=names[0], ylabel=names[1], xlim=field.x[[0, -1]], ylim=field.y[[0, -1]])
    return axes


@no_type_check  # it checks its arguments itself
def plot_phase_plane(
    plane: PhasePlane,
    trajectories: Float[Any, "B T d"] | None = None,
    *,
    style: str | None = None,
    names: Sequence[str] | None = None,
    axes: Any = None,
) -> Any:
    """The phase plane of a system of two dimensions, the phase line of a flow or the cobweb diagram of a map of one.

    Two dimensions: the vector field, the nullcline of each component (where it does not change), trajectories with a dot
    at their start, and the fixed points: filled where stable, half where saddles, open where unstable, a ring with a dot
    where centres, crosses where degenerate. A nullcline that a component touches without a change of sign is not drawn.
    One dimension: f(h) or F(h) over h.

    Args:
        plane: what `phase_plane` found.
        trajectories: what `simulate` gave, [B, T, d] or [T, d].
        style: "stream", "quiver" (arrows of one length) or "none"; None: stream of a flow, quiver of a map.
        names: of the state's components, such as ("V (mV)", "w"); None: "h" or ("h₁", "h₂").
        axes: axes to draw into.

    Raises:
        ValueError: arguments that do not fit.
    """
    if style not in (None, "stream", "quiver", "none"):
        raise ValueError(f'style must be "stream", "quiver" or "none", got {style!r}')
    names = [names] if isinstance(names, str) else names or (["h"] if plane.dims == 1 else ["h₁", "h₂"])
    if len(names) != plane.dims:
        raise ValueError(f"expected {plane.dims} names, got {list(names)}")
    trajectories = [] if trajectories is None else _batch(trajectories, plane.dims)
    axes = axes or plt.figure(figsize=(6, 4.8), layout="constrained").subplots()
    (_phase_line if plane.dims == 1 else _phase_plane)(axes, plane, trajectories, names, style)
    if len(plane.points):
        values = plane.points.states
        if plane.dims == 1:
            values = np.stack([values[:, 0], values[:, 0] * (plane.kind == "map")], axis=1)
        _draw_points(axes, values, plane.types)
    legend_below(axes)
    return axes


def _phase_plane(axes: Any, plane: PhasePlane, trajectories: Any, names: Sequence[str], style: str | None) -> None:
    x, y = plane.coordinates
    style = style or ("stream" if plane.kind == "flow" else "quiver")
    if style != "none":
        _draw_arrows(axes, x, y, plane.field, style, "0.7")
    for component, (color, name) in enumerate(zip(NULLCLINES, names, strict=True)):
        values = np.ma.masked_invalid(plane.field[..., component])
        change = f"d{_symbol(name)}/dt = 0" if plane.kind == "flow" else f"Δ{_symbol(name)} = 0"
        if values.min() < 0 < values.max():
            axes.contour(x, y, values, levels=[0], colors=color, linewidths=1.8, zorder=3)
            axes.plot([], [], color=color, lw=1.8, label=change)
    for index, path in enumerate(trajectories):
        dots = {"marker": ".", "ms": 3} if plane.kind == "map" else {}
        axes.plot(*path.T, color=TRAJECTORY, lw=1.2, zorder=4, label="" if index else "trajectory", **dots)
        axes.plot(*path[0], "o", color=TRAJECTORY, ms=4, zorder=4)
    axes.set(xlabel=names[0], ylabel=names[1], xlim=x[[0, -1]], ylim=y[[0, -1]])


def _phase_line(axes: Any, plane: PhasePlane, trajectories: Any, names: Sequence[str], style: str | None) -> None:
    x, values, symbol = plane.coordinates[0], plane.field[:, 0], _symbol(names[0])
    if plane.kind == "map":
        axes.plot(x, x, color="0.6", lw=1, label=f"{symbol} (no change)")
        axes.plot(x, values + x, color=NULLCLINES[0], lw=1.8, label=f"F({symbol})")
        for index, path in enumerate(trajectories):
            steps = np.repeat(path[:, 0], 2)
            label = "" if index else "trajectory"
            axes.plot(steps[:-1], np.append(steps[0], steps[2:]), color=TRAJECTORY, lw=1, label=label)
        axes.set(xlabel=names[0], ylabel=f"{symbol} one step later", xlim=x[[0, -1]])
        return
    axes.axhline(0, color="0.6", lw=1)
    axes.plot(x, values, color=NULLCLINES[0], lw=1.8, label=f"d{symbol}/dt")
    if style != "none":
        _draw_direction(axes, x, values)
    for index, path in enumerate(trajectories):
        at = np.interp(path[:, 0], x, values)
        axes.plot(path[:, 0], at, color=TRAJECTORY, lw=4, alpha=0.5, label="" if index else "trajectory")
        axes.plot(path[0, 0], at[0], "o", color=TRAJECTORY, ms=5)
    axes.set(xlabel=names[0], ylabel=f"d{symbol}/dt (per unit time)", xlim=x[[0, -1]])


def _draw_speeds(axes: Any, field: VectorFieldSlice) -> None:
    """The speed as an image on a logarithmic scale; zeros have the colour of the smallest other speed."""
    speeds = np.ma.masked_invalid(field.speeds)
    positive = speeds.compressed()[speeds.compressed() > 0]
    norm = LogNorm(positive.min(), positive.max()) if len(positive) and np.ptp(positive) > 0 else None
    shading = "nearest" if np.ma.is_masked(speeds) else "gouraud"
    shown = np.maximum(speeds, positive.min()) if len(positive) else speeds
    image = axes.pcolormesh(field.x, field.y, shown, cmap="cividis", norm=norm, shading=shading, rasterized=True)
    formula = "½‖F(h) − h‖² (per step²)" if field.kind == "map" else "½‖f(h)‖² (per unit time²)"
    axes.figure.colorbar(image, ax=axes, label=f"speed q = {formula}")


def _draw_direction(axes: Any, x: np.ndarray, values: np.ndarray, count: int = 17) -> None:
    """Arrow heads on the axis that point to where the state moves."""
    places = np.linspace(0, len(x) - 1, min(count, len(x)) + 2)[1:-1].round().astype(int)
    for direction, marker in ((1, ">"), (-1, "<")):
        chosen = x[places[np.sign(values[places]) == direction]]
        axes.plot(chosen, np.zeros(len(chosen)), marker, color="0.6", ms=5, zorder=2)


def _draw_arrows(axes: Any, x: np.ndarray, y: np.ndarray, field: np.ndarray, style: str, color: str) -> None:
    """Streamlines, or arrows of one length, fewer than there are grid points."""
    if style == "stream":
        u, v = np.moveaxis(np.ma.masked_invalid(field), -1, 0)
        axes.streamplot(x, y, u, v, color=color, linewidth=0.6, density=1.1, arrowsize=0.7, zorder=1)
        return
    rows, columns = (np.unique(np.linspace(0, len(a) - 1, 21).round().astype(int)) for a in (y, x))
    chosen = field[np.ix_(rows, columns)]
    spans = np.array([np.ptp(x), np.ptp(y)])  # in units of the drawing, so that all have one length on the page
    drawn = chosen / spans
    length = np.linalg.norm(drawn, axis=-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        u, v = np.moveaxis(np.where(length > 0, chosen / length, 0), -1, 0)
    settings = {"scale_units": "xy", "scale": 28, "width": 0.0025, "zorder": 1}
    axes.quiver(x[columns], y[rows], u, v, color=color, angles="xy", pivot="mid", **settings)


def _draw_points(axes: Any, where: np.ndarray, names: np.ndarray, near: np.ndarray | None = None) -> None:
    """Fixed points with markers by the names of their types, and a legend that counts them."""
    near = np.ones(len(where), bool) if near is None else near
    for large, size in ((True, 11), (False, 7)):  # a rim, for dark grounds
        axes.plot(*where[near == large].T, "o", ls="none", color="white", ms=size, zorder=4.5, clip_on=False)
    for name in np.unique(names).tolist():
        chosen = names == name
        for large in (True, False):
            size = 8.0 if large else 4.5
            axes.plot(*where[chosen & (near == large)].T, **_marker(name, size), zorder=5, clip_on=False)
            if name == "centre":
                axes.plot(*where[chosen & (near == large)].T, ".", color="black", ms=size / 2, zorder=6)
        axes.plot([], [], **_marker(name, 7.0), label=f"{name} ({chosen.sum()})")
    if not near.all():
        axes.plot([], [], **_marker("stable", 4.0), label=f"small: far from the plane ({(~near).sum()})")


def _marker(name: str, size: float) -> dict[str, Any]:
    """Filled where stable, half where a saddle, open where unstable."""
    style = {"marker": "o", "ls": "none", "color": "black", "ms": size, "mew": 1.2, "markerfacecoloralt": "white"}
    if name.startswith("saddle"):
        return style | {"fillstyle": "left"}
    if name == "degenerate":
        return style | {"marker": "x", "mew": 2}
    if name.startswith("unstable") or name == "centre":
        return style | {"markerfacecolor": "white"}
    return style | {"color": "0.5"} if name == "fixed point" else style


def _stability_names(points: FixedPoints) -> np.ndarray:
    if points.num_unstable is None:
        return np.full(len(points), "fixed point")
    size = points.states.shape[1]
    return np.select([points.num_unstable == 0, points.num_unstable == size], ["stable", "unstable"], "saddle")


def _symbol(name: str) -> str:
    """The name without its unit: "V (mV)" → "V"."""
    return name.split(" (")[0]


def _batch(trajectories: Any, size: int) -> np.ndarray:
    data = np.asarray(trajectories)
    if data.ndim not in (2, 3) or data.shape[-1] != size:
        raise ValueError(f"expected trajectories [B, T, {size}], got shape {data.shape}")
    return data.reshape(-1, *data.shape[-2:])


def _origin_and_axes(plane: Any, points: FixedPoints | None) -> tuple[Any, Any]:
    """(one state of the plane in the model's own form, two directions)."""
    if isinstance(plane, FixedPoints):
        if len(plane) < 3:
            raise ValueError(f"a plane through points needs at least three, got {len(plane)}")
        plane = PCA.fit(plane.states, 2)
    if isinstance(plane, PCA):
        if len(plane.components) < 2:
            raise ValueError(f"a plane needs two principal components, got {len(plane.components)}")
        origin, axes = plane.mean, plane.components[:2]
    elif isinstance(plane, tuple | list) and len(plane) == 3:
        origin, *axes = plane
    else:
        raise TypeError(f"a plane is a PCA, points, or (origin, axis 1, axis 2), got {type(plane).__name__}")
    is_flat = points is not None and isinstance(origin, np.ndarray | jax.Array) and np.ndim(origin) == 1
    return (points.unravel(np.asarray(origin)) if is_flat else origin), axes


def _component_names(pca: PCA) -> list[str]:
    return [f"PC {i + 1} ({100 * share:.0f} %)" for i, share in enumerate(pca.explained_variance_ratio[:2])]
