"""Spectra of linearised points, and speeds of points."""

from collections.abc import Sequence
from typing import Any, no_type_check

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Complex, Float, Shaped
from matplotlib.ticker import MaxNLocator

from ctd_models.analysis.fixed_points.points import FixedPoints
from ctd_models.plots.style import PALETTE, legend_below


@no_type_check  # it checks its arguments itself
def plot_eigenvalues(
    eigenvalues: FixedPoints | Complex[Any, "n d"],
    kind: str | None = None,
    axes: Any = None,
    label: str | None = None,
    *,
    values: Any = None,
    value_label: str = "",
    time_constants: Sequence[float] = (),
    dt: float | None = None,
    **style: Any,
) -> Any:
    """Eigenvalues in the complex plane, with the boundary of stability: the unit circle (map), the imaginary axis (flow).

    Args:
        eigenvalues: linearised points, or eigenvalues of any shape.
        kind: "map" or "flow"; None: that of the points, "map" of an array.
        axes: axes to draw into.
        label: name of these eigenvalues in the legend.
        values: colours: None (one colour), "point" (by the index of the point), one number per point, or one per eigenvalue.
        value_label: what the values are.
        time_constants: guides for these time constants τ: circles of radius exp(−dt/τ) for a map, lines Re λ = −1/τ for a
            flow. In seconds where dt is known, in steps (map) or units of time (flow) where not.
        dt: duration of a step [s]; None: that of the points.
        style: passed on to matplotlib.

    Raises:
        ValueError: points that are not linearised, or arguments that do not fit.
    """
    per_second = True  # of a flow given as an array
    if isinstance(eigenvalues, FixedPoints):
        kind, dt = kind or eigenvalues.kind, eigenvalues.dt if dt is None else dt
        per_second, eigenvalues = dt is not None, eigenvalues.eigenvalues
        if eigenvalues is None:
            raise ValueError("the eigenvalues are not known yet: call linearize(F, points) first")
    kind = kind or "map"
    if kind not in ("map", "flow"):
        raise ValueError(f'kind must be "map" or "flow", got {kind!r}')
    if any(not tau > 0 for tau in time_constants):
        raise ValueError(f"time constants must be positive, got {list(time_constants)}")
    eigenvalues = np.asarray(eigenvalues)
    colors = _value_of_each(eigenvalues, values)
    axes = axes or plt.figure(figsize=(5 if values is not None else 4, 4), layout="constrained").subplots()
    flat = eigenvalues.ravel()
    if colors is None:
        style = {"marker": ".", "ls": "none", "ms": 4, "alpha": 0.6, "label": label} | style
        axes.plot(flat.real, flat.imag, **style)
    else:
        shown = axes.scatter(flat.real, flat.imag, c=colors, **{"s": 10, "cmap": "viridis", "label": label} | style)
        value_label = value_label or ("point" if isinstance(values, str) else "")
        ticks = MaxNLocator(6, integer=True) if colors.dtype.kind in "iu" else None
        axes.figure.colorbar(shown, ax=axes, label=value_label, shrink=0.8, ticks=ticks)
    per_second = per_second or dt is not None
    if kind == "map":
        circle = np.exp(1j * np.linspace(0, 2 * np.pi, 200))
        axes.plot(circle.real, circle.imag, color="black", lw=0.8)
        for tau in time_constants:
            inner = np.exp(-(dt or 1.0) / tau)
            axes.plot(inner * circle.real, inner * circle.imag, color="0.6", lw=0.6, ls="--", zorder=0)
            text = f"τ = {tau:g} {'steps' if dt is None else 's'}"
            axes.annotate(text, (0, -inner), color="0.4", fontsize="x-small", ha="center", va="bottom")
        axes.set_aspect("equal")
        axes.set(xlabel="Re λ", ylabel="Im λ")
    else:
        axes.axvline(0, color="black", lw=0.8)
        for tau in time_constants:
            axes.axvline(-1 / tau, color="0.6", lw=0.6, ls="--", zorder=0)
            at, text = (-1 / tau, 0.02), f"τ = {tau:g}{' s' if per_second else ''}"
            place = {"rotation": 90, "ha": "right", "va": "bottom", "xycoords": ("data", "axes fraction")}
            axes.annotate(text, at, color="0.4", fontsize="x-small", **place)
        units = ("1/s", "rad/s") if per_second else ("per unit time", "rad per unit time")
        axes.set(xlabel=f"Re λ ({units[0]})", ylabel=f"Im λ ({units[1]})")
    if label is not None:
        axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.15))
    return axes


def _value_of_each(eigenvalues: np.ndarray, values: Any) -> np.ndarray | None:
    """One number for each eigenvalue, flat."""
    if values is None:
        return None
    if isinstance(values, str):
        if values != "point":
            raise ValueError(f'values must be "point", one number per point or one per eigenvalue, got {values!r}')
        values = np.arange(len(eigenvalues))
    values = np.asarray(values)
    if values.shape not in (eigenvalues.shape, eigenvalues.shape[:1]):
        raise ValueError(f"expected values {eigenvalues.shape} or {eigenvalues.shape[:1]}, got shape {values.shape}")
    return np.broadcast_to(
        values.reshape(values.shape + (1,) * (eigenvalues.ndim - values.ndim)), eigenvalues.shape
    ).ravel()


@no_type_check  # it checks its arguments itself
def plot_speeds(
    points: FixedPoints | Float[Any, "n"],
    axes: Any = None,
    *,
    tolerance: float | None = None,
    classes: Shaped[Any, "n"] | None = None,
    bins: int = 40,
) -> Any:
    """Histogram of the speeds q on a logarithmic axis. Speeds of exactly zero have a bar of their own at the left.

    Args:
        points: the points, or their speeds.
        axes: axes to draw into.
        tolerance: marked by a line; None: that of the points.
        classes: name of each point, by which the bars are split; None: `points.classes`, where there are any.
        bins: number of bars.

    Raises:
        ValueError: no speeds, or speeds that are negative or not finite.
    """
    if isinstance(points, FixedPoints):
        tolerance = points.tolerance if tolerance is None else tolerance
        classes = getattr(points, "classes", None) if classes is None else classes
    speeds = np.asarray(getattr(points, "speeds", points), float)
    if speeds.ndim != 1 or len(speeds) == 0:
        raise ValueError(f"expected speeds [n] of at least one point, got shape {speeds.shape}")
    wrong = np.flatnonzero(~(np.isfinite(speeds) & (speeds >= 0)))
    if len(wrong):
        raise ValueError(f"speeds must be finite and not negative, got {speeds[wrong[0]]} at index {wrong[0]}")
    if classes is not None and np.shape(classes) != speeds.shape:
        raise ValueError(f"expected classes [{len(speeds)}], one per point, got shape {np.shape(classes)}")
    axes = axes or plt.figure(figsize=(5, 3.6), layout="constrained").subplots()
    names = ["points"] * len(speeds) if classes is None else np.asarray(classes).astype(str)
    labels, groups = np.unique(names, return_inverse=True)
    positive = speeds > 0
    logs = np.log10(speeds[positive])
    shown = logs if tolerance is None else np.append(logs, np.log10(tolerance))
    low, high = (np.floor(shown.min()), np.floor(shown.max()) + 1) if len(shown) else (-1.0, 0.0)
    edges = np.linspace(low, high, bins + 1)
    zero_at = low - (high - low) / 7
    base, zero_base = np.zeros(bins), 0
    for group, name in enumerate(labels):
        tone = {"color": "0.45" if classes is None else PALETTE[group % len(PALETTE)], "label": str(name)}
        counts, _ = np.histogram(logs[groups[positive] == group], edges)
        axes.bar(edges[:-1], counts, np.diff(edges), bottom=base, align="edge", **tone)
        base = base + counts
        zeros = int(((groups == group) & ~positive).sum())
        if zeros:
            style = {"bottom": zero_base, "color": tone["color"], "hatch": "///", "edgecolor": "white"}
            axes.bar(zero_at, zeros, (high - low) / 20, **style)
            zero_base += zeros
    ticks = MaxNLocator(7, integer=True).tick_values(low, high)
    ticks = [tick for tick in ticks.tolist() if low <= tick <= high and tick.is_integer()]
    names = [f"{tick:.0f}".replace("-", "−") for tick in ticks]
    axes.set_xticks([zero_at] * bool(zero_base) + ticks, ["q = 0"] * bool(zero_base) + names)
    if tolerance is not None:
        axes.axvline(np.log10(tolerance), color="black", lw=1, ls="--", label=f"tolerance {tolerance:.0e}")
    axes.set(xlabel="log₁₀ of speed q", ylabel="number of points")
    axes.yaxis.get_major_locator().set_params(integer=True)
    if classes is not None or tolerance is not None:
        handles = [h for h, name in zip(*axes.get_legend_handles_labels(), strict=True) if name != "points"]
        legend_below(axes, handles, offset=-0.18)
    return axes
