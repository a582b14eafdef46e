"""Vector fields on planes through the state space, and phase planes of systems of one or two dimensions."""

import dataclasses
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, no_type_check

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ctd_models.analysis.fixed_points.linearization import linearize
from ctd_models.analysis.fixed_points.points import FixedPoints
from ctd_models.analysis.fixed_points.search import find_fixed_points
from ctd_models.analysis.systems import System, precision, prepare

BATCH_ENTRIES = 5_000_000  # entries of the states evaluated at once: 40 MB in float64


@dataclasses.dataclass(frozen=True, repr=False)
class VectorFieldSlice:
    """How a system moves at the states h = origin + x axes[0] + y axes[1] of a plane, on a grid of (x, y)."""

    origin: Float[np.ndarray, "d"]
    """The state at x = y = 0."""
    axes: Float[np.ndarray, "2 d"]
    """Orthonormal directions of x and y."""
    x: Float[np.ndarray, "columns"]
    """Coordinates along the first axis, rising, in the unit of the states."""
    y: Float[np.ndarray, "rows"]
    """Coordinates along the second axis, rising."""
    field: Float[np.ndarray, "rows columns 2"]
    """Components along the axes of the displacement F(h) − h of a map (per step), of f(h) of a flow (per unit of time)."""
    out_of_plane: Float[np.ndarray, "rows columns"]
    """Length of the rest of it, which points out of the plane."""
    speeds: Float[np.ndarray, "rows columns"]
    """q = ½ ‖F(h) − h‖² of a map, ½ ‖f(h)‖² of a flow, over all dimensions."""
    kind: str = "map"
    """"map" or "flow"."""

    def project(self, states: Float[Any, "*batch d"]) -> Float[np.ndarray, "*batch 2"]:
        """Coordinates (x, y) of flat states, projected at a right angle onto the plane."""
        return (np.asarray(states) - self.origin) @ self.axes.T

    def lift(self, coordinates: Float[Any, "*batch 2"]) -> Float[np.ndarray, "*batch d"]:
        """The states of the plane at (x, y)."""
        return self.origin + np.asarray(coordinates) @ self.axes

    def distance(self, states: Float[Any, "*batch d"]) -> Float[np.ndarray, "*batch"]:
        """Distance of flat states from the plane."""
        return np.linalg.norm(np.asarray(states) - self.lift(self.project(states)), axis=-1)

    @property
    def in_plane_share(self) -> Float[np.ndarray, "rows columns"]:
        """Share of the squared displacement that lies in the plane; NaN where nothing moves."""
        with np.errstate(invalid="ignore", divide="ignore"):
            inside = (self.field**2).sum(axis=-1)
            return inside / (inside + self.out_of_plane**2)

    def __repr__(self) -> str:
        rows, columns = self.speeds.shape
        low, high = np.nanmin(self.speeds), np.nanmax(self.speeds)
        return (
            f"VectorFieldSlice: {columns} × {rows} states of a {self.kind} in {len(self.origin)} dimensions, "
            f"speed q {low:.1e} … {high:.1e}"
        )


@no_type_check  # it checks its arguments itself
def vector_field_slice(
    F: Callable[..., Any],
    origin: Any,
    axes: Any,
    inputs: Float[Any, "U"] | None = None,
    *,
    extent: Any = None,
    around: Float[Any, "*batch d"] | None = None,
    resolution: int | tuple[int, int] = 41,
    kind: str = "map",
    dtype: Any = np.float64,
) -> VectorFieldSlice:
    """The vector field on the plane through `origin` along two directions.

    Args:
        F: `F(state)` or `F(state, input)` → next state of a map, time derivative of a flow.
        origin: one state of the plane, [d] or a pytree.
        axes: two directions, [2, d] or two states. The first is kept; the second is made orthogonal to it; both get
            length 1.
        inputs: None (F takes the state alone) or the one input [U] that is held.
        extent: ((x low, x high), (y low, y high)) along the axes, or one number r for (−r, r) twice; None: 10 % beyond the
            projections of `around`.
        around: flat states that the extent shall cover.
        resolution: grid points along both axes, or (along x, along y).
        kind: "map" or "flow".
        dtype: precision.

    Raises:
        ValueError, TypeError: arguments that do not fit, before anything is compiled.
    """
    if np.ndim(inputs) > 1:
        raise ValueError(f"expected one input [U] for the whole plane, got shape {np.shape(inputs)}")
    states = jax.tree.map(lambda leaf: np.asarray(leaf)[None], origin)
    system, flat, rows = prepare(F, states, inputs, kind=kind, dtype=dtype, what="states")
    directions = _orthonormal(axes, flat.shape[1]).astype(dtype)
    if extent is None:
        extent = _extent_around(flat[0], directions, around)
    x, y = _grid(extent, resolution, 2, "extent", dtype)
    coordinates = np.stack(np.meshgrid(x, y), axis=-1)
    batch = min(x.size * y.size, max(1, BATCH_ENTRIES // flat.shape[1]))
    with precision(dtype):
        results = _on_plane(system, flat[0], directions, rows[0], coordinates.reshape(-1, 2), batch)
        field, rest, speeds = (np.asarray(a).reshape(*coordinates.shape[:2], *a.shape[1:]) for a in results)
    return VectorFieldSlice(flat[0], directions, x, y, field, rest, speeds, kind)


@partial(jax.jit, static_argnums=5)
def _on_plane(
    system: System,
    origin: Float[Array, "d"],
    axes: Float[Array, "2 d"],
    inputs: Float[Array, "U"],
    coordinates: Float[Array, "n 2"],
    batch: int,
) -> tuple[Float[Array, "n 2"], Float[Array, "n"], Float[Array, "n"]]:
    def at(coordinates):
        moved = system.residual(origin + coordinates @ axes, inputs)
        inside = axes @ moved
        return inside, jnp.linalg.norm(moved - inside @ axes), 0.5 * (moved**2).sum()

    return jax.lax.map(at, coordinates, batch_size=batch)


def _extent_around(origin: Float[np.ndarray, "d"], axes: Float[np.ndarray, "2 d"], states: Any) -> np.ndarray:
    if states is None or np.size(states) == 0:
        raise ValueError("the slice needs an extent, or states around which it lies")
    if np.shape(states)[-1] != len(origin):
        raise ValueError(
            f"expected states around which the slice lies [n, {len(origin)}], got shape {np.shape(states)}"
        )
    coordinates = (np.asarray(states).reshape(-1, len(origin)) - origin) @ axes.T
    low, high = coordinates.min(axis=0), coordinates.max(axis=0)
    margin = np.where(high > low, 0.1 * (high - low), 0.1 * ((high - low).max() or 1.0))
    return np.stack([low - margin, high + margin], axis=1)


def _orthonormal(axes: Any, size: int) -> Float[np.ndarray, "2 d"]:
    """The two directions as orthonormal rows, the first along the first direction."""
    if len(axes) != 2:
        raise ValueError(f"expected two axes of a plane, got {len(axes)}")
    rows = [np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(axis)]).astype(float) for axis in axes]
    if {len(row) for row in rows} != {size}:
        raise ValueError(f"expected axes [2, {size}] like the state, got {[len(row) for row in rows]} entries")
    lengths = np.array([np.linalg.norm(row) for row in rows])
    if not (np.isfinite(lengths).all() and (lengths > 0).all()):
        raise ValueError(f"axes must be finite and not zero, got lengths {lengths}")
    first, second = (row / length for row, length in zip(rows, lengths, strict=True))
    second = second - (first @ second) * first
    if np.linalg.norm(second) < 1e-8:
        raise ValueError("the two axes are parallel: they span no plane")
    second = second / np.linalg.norm(second)
    second = second - (first @ second) * first
    return np.stack([first, second / np.linalg.norm(second)])


def _grid(ranges: Any, resolution: Any, dims: int, name: str, dtype: Any) -> tuple[np.ndarray, ...]:
    """One axis of grid points for each (low, high)."""
    if np.ndim(ranges) == 0:
        ranges = [(-ranges, ranges)] * dims
    ranges = np.asarray(ranges, float)
    if ranges.shape != (dims, 2):
        raise ValueError(f"expected {name} (low, high) of {dims} axes, got shape {ranges.shape}")
    for index, (low, high) in enumerate(ranges):
        if not -np.inf < low < high < np.inf:
            raise ValueError(f"{name} must be finite with low < high, got ({low:g}, {high:g}) at index {index}")
    counts = np.broadcast_to(np.asarray(resolution), (dims,))
    if (counts < 2).any() or (counts != counts.astype(int)).any():
        raise ValueError(f"resolution must be whole numbers of at least 2, got {resolution}")
    return tuple(np.linspace(*pair, int(count)).astype(dtype) for pair, count in zip(ranges, counts, strict=True))


@dataclasses.dataclass(frozen=True, repr=False)
class PhasePlane:
    """A system of one or two dimensions as a whole: its vector field on a grid, and its fixed points with their types."""

    coordinates: tuple[np.ndarray, ...]
    """Grid points along each dimension, in the unit of the states."""
    field: Float[np.ndarray, "*grid d"]
    """F(h) − h of a map, f(h) of a flow, at [x, 1] in one dimension, at [y, x, 2] in two."""
    speeds: Float[np.ndarray, "*grid"]
    """q = ½ ‖field‖²."""
    points: FixedPoints
    """The fixed points within the bounds, linearised."""
    types: np.ndarray
    """Their names [n], see `type_names`."""
    kind: str = "map"
    """"map" or "flow"."""

    @property
    def dims(self) -> int:
        """Dimensions of the system, 1 or 2."""
        return len(self.coordinates)

    def nullcline(self, component: int) -> Float[np.ndarray, "m d"]:
        """States where a component of the field is zero: its crossings of the grid's edges, by linear interpolation.

        They are in no order; their distance from the nullcline falls with the square of the grid's spacing.
        """
        if not 0 <= component < self.dims:
            raise ValueError(f"component must lie in 0 … {self.dims - 1}, got {component}")
        values = self.field[..., component]
        grid = np.stack(np.meshgrid(*self.coordinates), axis=-1) if self.dims == 2 else self.coordinates[0][:, None]
        found = [grid[values == 0]]
        for axis in range(self.dims):
            edge = [np.take(a, np.arange(values.shape[axis] - 1), axis) for a in (values, grid)]
            after = [np.take(a, np.arange(1, values.shape[axis]), axis) for a in (values, grid)]
            crosses = edge[0] * after[0] < 0
            share = (edge[0][crosses] / (edge[0][crosses] - after[0][crosses]))[:, None]
            found.append((1 - share) * edge[1][crosses] + share * after[1][crosses])
        return np.concatenate(found)

    def __repr__(self) -> str:
        ranges = " × ".join(f"[{axis[0]:g}, {axis[-1]:g}]" for axis in self.coordinates)
        counts = ", ".join(f"{count} {name}" for name, count in sorted(Counter(self.types.tolist()).items()))
        return f"PhasePlane: a {self.kind} on {ranges}, fixed points: {counts or 'none found'}"


@no_type_check  # it checks its arguments itself
def phase_plane(
    F: Callable[..., Any],
    bounds: Any,
    inputs: Float[Any, "U"] | None = None,
    *,
    kind: str = "map",
    resolution: int | tuple[int, int] = 101,
    num_starts: int = 16,
    dtype: Any = np.float64,
) -> PhasePlane:
    """The vector field, nullclines and fixed points of a system of one or two dimensions.

    Fixed points are searched from a grid of starts (`find_fixed_points`); those that lie outside the bounds are in
    `points.dropped["outside_bounds"]`, by their candidates. A search from a grid does not prove that there are no others:
    `points.hits` tells how many starts led to each.

    Args:
        F: `F(state)` or `F(state, input)` of states [1] or [2] → next state of a map, time derivative of a flow.
        bounds: ((x low, x high), (y low, y high)) in two dimensions, (low, high) in one.
        inputs: None (F takes the state alone) or the one input [U] that is held.
        kind: "map" or "flow".
        resolution: grid points along both axes, or (along x, along y).
        num_starts: starts of the search along each axis.
        dtype: precision.

    Raises:
        ValueError, TypeError: arguments that do not fit, before anything is compiled.
    """
    if np.ndim(inputs) > 1:
        raise ValueError(f"expected one input [U] for the whole plane, got shape {np.shape(inputs)}")
    bounds = np.asarray(bounds, float)
    bounds = bounds[None] if bounds.shape == (2,) else bounds
    dims = len(bounds) if bounds.ndim == 2 else 0
    if dims not in (1, 2):
        raise ValueError(f"expected bounds (low, high) or ((low, high), (low, high)), got shape {bounds.shape}")
    coordinates = _grid(bounds, resolution, dims, "bounds", dtype)
    states = np.stack(np.meshgrid(*coordinates), axis=-1)
    starts = np.stack(np.meshgrid(*_grid(bounds, num_starts, dims, "bounds", dtype)), axis=-1).reshape(-1, dims)
    system, flat, rows = prepare(F, states.reshape(-1, dims), inputs, kind=kind, dtype=dtype, what="states")
    with precision(dtype):
        field, speeds = (np.asarray(a) for a in _at_states(system, flat, rows[0]))
    span = bounds[:, 1] - bounds[:, 0]
    settings = {"kind": kind, "outlier_factor": None, "unique_distance": 1e-4 * span.min(), "dtype": dtype}
    found = find_fixed_points(F, starts, inputs, **settings)
    within = ((found.states > bounds[:, 0] - 1e-6 * span) & (found.states < bounds[:, 1] + 1e-6 * span)).all(axis=1)
    outside = found.candidate_indices[~within & (found.hits > 0)]
    dropped = {**found.dropped, "outside_bounds": outside}
    points = linearize(F, dataclasses.replace(found[within], dropped=dropped), inputs, dtype=dtype)
    shape = states.shape[:-1]
    return PhasePlane(coordinates, field.reshape(*shape, dims), speeds.reshape(shape), points, type_names(points), kind)


@jax.jit
def _at_states(
    system: System, states: Float[Array, "n d"], inputs: Float[Array, "U"]
) -> tuple[Float[Array, "n d"], Float[Array, "n"]]:
    return jax.vmap(system.residual, (0, None))(states, inputs), jax.vmap(system.speed, (0, None))(states, inputs)


@no_type_check  # the array of names has no shape to check
def type_names(points: FixedPoints, tolerance: float = 1e-6) -> np.ndarray:
    """What each linearised point is called in the phase plane, as an array of text [n].

    "stable node", "unstable node" (real modes), "stable focus", "unstable focus" (a conjugate pair), "saddle" (modes that
    grow and modes that decay), "centre" (a conjugate pair that does neither), "degenerate" (a real mode that does
    neither: the linearisation does not decide). A centre of the linearisation may be a weak focus of the system.

    Args:
        points: linearised points of one or two dimensions (in more, a focus is a point with any conjugate pair).
        tolerance: a mode neither grows nor decays where |Re λ| ≤ tolerance · |λ| of a flow (a real mode: ≤ 1e-12 of the
            largest |λ| at the point), or | |λ| − 1 | ≤ tolerance of a map. A real mode is also undecided where the square
            of its growth is not above ten times the residual √(2q): at a double root the search stops that close.

    Raises:
        ValueError: the points are not linearised.
    """
    if points.eigenvalues is None:
        raise ValueError("the types are not known yet: call linearize(F, points) first")
    values = points.eigenvalues
    size = np.abs(values)
    growth = values.real if points.kind == "flow" else size - 1
    rotates = np.abs(values.imag) > tolerance * size
    limit = np.full(size.shape, tolerance)
    if points.kind == "flow":
        limit = np.where(rotates, tolerance * size, 1e-12 * size.max(axis=1, keepdims=True, initial=0))
    residual = np.sqrt(2 * points.speeds)[:, None]
    neutral = (np.abs(growth) <= limit) | (~rotates & (growth**2 <= 10 * residual))
    grows, decays = (growth > 0) & ~neutral, (growth < 0) & ~neutral
    stability = np.where(grows.all(axis=1), "unstable ", "stable ")
    names = np.char.add(stability, np.where(rotates.any(axis=1), "focus", "node")).astype("U16")
    names[grows.any(axis=1) & decays.any(axis=1)] = "saddle"
    names[neutral.any(axis=1)] = "degenerate"
    names[(neutral & rotates).all(axis=1)] = "centre"
    return names
