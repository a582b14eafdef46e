"""The slow points of a system as a covering of their manifold, also beyond where candidates lie."""

import dataclasses
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, no_type_check

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.spatial import cKDTree

from ctd_models.analysis.fixed_points.linearization import linearize
from ctd_models.analysis.fixed_points.points import FixedPoints
from ctd_models.analysis.fixed_points.search import find_fixed_points
from ctd_models.analysis.fixed_points.unique import merge_duplicates
from ctd_models.analysis.geometry.manifolds import tangent_spaces
from ctd_models.analysis.geometry.outcomes import check_numbers
from ctd_models.analysis.systems import System, padded_rows, precision, prepare

CLOSEST = 0.7  # least distance of a new point from the others, in units of the step that leads to it
FRACTIONS = (1.0, 0.5, 0.25)  # steps tried, in units of the spacing: shorter ones where the manifold ends
CORRECTIONS = 30  # iterations of the corrector


@no_type_check  # it checks its arguments itself
def find_slow_manifold(
    F: Callable[..., Any],
    candidates: Any,
    inputs: Float[Any, "*n U"] | None = None,
    *,
    speed: float,
    kind: str = "map",
    spacing: float | None = None,
    extend: bool = True,
    near: float = 0.05,
    reach: float | None = None,
    max_points: int = 1000,
    outlier_factor: float | None = 10.0,
    bounds: tuple[float, float] | None = None,
    dtype: Any = np.float64,
    progress: bool | None = None,
) -> FixedPoints:
    """Slow points, q ≤ speed, spread evenly along the manifold that they form.

    Every candidate is moved onto q ≤ speed, the shortest way as far as the default solver of `find_fixed_points` can. The
    points are thinned. From each the manifold is then followed in both directions of every near-unit mode: a step of one
    spacing (predictor), then back to q ≤ speed across the near-unit modes (corrector), until no new place is that slow.

    Args:
        F: `F(state)` or `F(state, input)` → next state of a map, time derivative of a flow.
        candidates: states to start from, [n, d] or a pytree of arrays [n, ...].
        inputs: None (F takes the state alone), [U] for all, or [n, U], one per candidate; each has its own manifold.
        speed: largest q = ½‖F(h, x) − h‖² (map) or ½‖f(h, x)‖² (flow).
        kind: "map" or "flow".
        spacing: distance between neighbouring points [state units]; None: a fiftieth of the largest extent of the slow
            points, or of the candidates where they are one point. Distances are between 0.7 and about 2 spacings, and
            down to 0.2 at an end, which is located to a quarter of the spacing.
        extend: whether to go on beyond the candidates.
        near: what counts as a near-unit mode, as in `manifold_dimension`. At most three are followed at a point.
        reach: farthest distance from the candidates' centroid up to which the manifold is followed [state units].
        max_points: number of points at which extension stops, with a RuntimeWarning.
        outlier_factor: which points of the search are dropped, as in `find_fixed_points`.
        bounds: (low, high) that no entry of a state can leave.
        dtype: precision.
        progress: show a progress bar of the search; None: only on a terminal.

    Returns:
        Linearised points. `hits` is the number of candidates that a point stands for, 0 of one found by extension, whose
        `candidate_indices` and `iterations` are those of the point it was followed from.

    Raises:
        ValueError, TypeError: arguments that do not fit, before anything is compiled.
    """
    check_numbers(speed=speed, spacing=spacing, near=near, reach=reach, max_points=max_points)
    options = {"kind": kind, "tolerance": speed, "bounds": bounds, "dtype": dtype, "progress": progress}
    found = find_fixed_points(F, candidates, inputs, unique_distance=1e-9, outlier_factor=outlier_factor, **options)
    if len(found) == 0:
        return linearize(F, found)
    system, flat, _ = prepare(F, candidates, inputs, kind=kind, dtype=dtype)
    if spacing is None:
        spacing = (_extent(found.states) or _extent(flat) or 1.0) / 50
    points = linearize(F, _thin(found, float(spacing)), dtype=dtype)
    if not extend:
        return points
    centre = flat.mean(axis=0)
    low, high = bounds or (-np.inf, np.inf)

    def inside(states):
        near_enough = np.linalg.norm(states - centre, axis=1) <= (reach or np.inf)
        return near_enough & ((states >= low) & (states <= high)).all(axis=1)

    frontier = points
    while len(frontier) and len(points) < max_points:
        frontier = _grow(F, system, points, frontier, float(speed), float(spacing), near, inside, dtype)
        points = _join(points, frontier[: max_points - len(points)])
    if len(frontier):
        warnings.warn(
            f"the slow manifold goes on beyond max_points = {max_points} points", RuntimeWarning, stacklevel=2
        )
    return points


def _extent(states: Float[np.ndarray, "n d"]) -> float:
    """Largest extent along the axes of a state [state units]; no extent where it is as small as rounding."""
    extent = float(np.ptp(states, axis=0).max())
    return extent if extent > 1e-9 * max(1.0, float(np.abs(states).max())) else 0.0


def _place(points: FixedPoints) -> Float[np.ndarray, "n c"]:
    """Where points are, their inputs included: those of different inputs are different points."""
    return points.states if points.inputs is None else np.concatenate([points.states, points.inputs], axis=1)


def _thin(points: FixedPoints, spacing: float) -> FixedPoints:
    """One point for all within a spacing; the candidates that led to the others become duplicates."""
    owner = merge_duplicates(_place(points), points.speeds, spacing)
    kept = np.unique(owner)
    hits = np.bincount(owner, weights=points.hits, minlength=len(points)).astype(int)
    lost = np.delete(points.candidate_indices, kept)
    lost = lost[lost >= 0]  # points that no candidate led to have −1
    dropped = dict(points.dropped)
    dropped["duplicate"] = np.sort(np.concatenate([dropped.get("duplicate", lost[:0]), lost]))
    return dataclasses.replace(points[kept], hits=hits[kept], dropped=dropped)


def _grow(F, system, points, frontier, speed, spacing, near, inside, dtype) -> FixedPoints:
    """The new points one step away from the frontier."""
    tangents = tangent_spaces(frontier, near)
    ways = np.concatenate([tangents, -tangents], axis=1)  # [n, 2m, d]
    parent, way = np.nonzero((ways != 0).any(axis=2))
    direction = ways[parent, way]
    grown = frontier[:0]
    for fraction in FRACTIONS:
        if not len(parent):
            break
        step = fraction * spacing
        proposed = _bare(frontier[parent], frontier.states[parent] + step * direction)
        free = _is_free(proposed, _join(points, grown), CLOSEST * step) & inside(proposed.states)
        open_ways = np.zeros(len(parent), bool)  # ways on which a shorter step may be slow enough
        chosen = np.flatnonzero(free)
        if len(chosen):
            chosen = chosen[_distinct(proposed[chosen], CLOSEST * step)]
            proposed = proposed[chosen]
            rows = np.zeros((len(chosen), 0), dtype) if proposed.inputs is None else proposed.inputs
            states, speeds = _correct(system, proposed.states, rows, tangents[parent[chosen]], speed, dtype)
            moved = np.linalg.norm(states - proposed.states, axis=1)
            new = dataclasses.replace(proposed, states=states, speeds=speeds)
            good = (speeds <= speed) & (moved <= 0.5 * step) & inside(states)
            good &= _is_free(new, _join(points, grown), 0.9 * CLOSEST * step)
            accepted = np.flatnonzero(good)
            if len(accepted):
                accepted = accepted[_distinct(new[accepted], CLOSEST * step)]
                grown = _join(grown, linearize(F, new[accepted], dtype=dtype))
            open_ways[chosen[~good]] = True
        parent, direction = parent[open_ways], direction[open_ways]
    return grown


def _bare(points: FixedPoints, states: Float[np.ndarray, "n d"]) -> FixedPoints:
    """Points at other states, without what was known of them where they were."""
    kept = ("inputs", "candidate_indices", "iterations", "kind", "dt", "tolerance", "structure")
    return FixedPoints(
        states=states, speeds=points.speeds, hits=0 * points.hits, **{k: getattr(points, k) for k in kept}
    )


def _is_free(points: FixedPoints, others: FixedPoints, distance: float) -> np.ndarray:
    return cKDTree(_place(others)).query(_place(points))[0] >= distance


def _distinct(points: FixedPoints, distance: float) -> np.ndarray:
    """Indices of points that stand for all within a distance, the first ones first."""
    return np.unique(merge_duplicates(_place(points), np.arange(len(points), dtype=float), distance))


def _join(points: FixedPoints, more: FixedPoints) -> FixedPoints:
    """Both sets in one, with the settings of the first, and of each point what is known in both."""
    both = {}
    for name in (field.name for field in dataclasses.fields(points)):
        values = [getattr(points, name), getattr(more, name)]
        known = [isinstance(value, np.ndarray) for value in values]
        if any(known):
            both[name] = np.concatenate(values) if all(known) else None
    return dataclasses.replace(points, **both)


def _correct(system: System, states: np.ndarray, rows: np.ndarray, tangents: np.ndarray, speed: float, dtype: Any):
    """(states, speeds) after moving across the tangents towards q ≤ speed, in batches of few sizes."""
    padded = padded_rows(len(states), max(32, 1 << (len(states) - 1).bit_length()))
    with precision(dtype):
        given = states[padded].astype(dtype), rows[padded].astype(dtype), tangents[padded].astype(dtype)
        moved, speeds = _corrected(system, *given, np.asarray(speed, dtype), CORRECTIONS)
    return np.asarray(moved)[: len(states)], np.asarray(speeds)[: len(states)]


@partial(jax.jit, static_argnums=5)
def _corrected(
    system: System,
    states: Float[Array, "n d"],
    inputs: Float[Array, "n U"],
    tangents: Float[Array, "n m d"],
    speed: Any,
    num_iterations: int,
) -> tuple[Float[Array, "n d"], Float[Array, "n"]]:
    """Damped Gauss-Newton steps on q with their parts along the tangents taken out."""

    def iterate(state, given, tangent, damping):
        residual = system.residual(state, given)
        across = jnp.eye(len(state), dtype=state.dtype) - tangent.T @ tangent
        jacobian = jax.jacfwd(system.residual)(state, given) @ across
        now = 0.5 * (residual**2).sum()
        shift = damping * jnp.sqrt(2 * now) + jnp.finfo(state.dtype).tiny
        curvature = jacobian.T @ jacobian + shift * across + tangent.T @ tangent
        step = -across @ jnp.linalg.solve(curvature, jacobian.T @ residual)
        new = system.speed(state + step, given)
        better = (new < now) & (now > speed)
        return (
            jnp.where(better, state + step, state),
            jnp.where(better, 0.1, 10.0) * damping,
            jnp.where(better, new, now),
        )

    def body(carry):
        count, states, damping, _ = carry
        return count + 1, *jax.vmap(iterate)(states, inputs, tangents, damping)

    speeds = jax.vmap(system.speed)(states, inputs)
    first = jnp.int32(0), states, jnp.full_like(speeds, 1e-3), speeds
    _, states, _, speeds = jax.lax.while_loop(lambda c: (c[0] < num_iterations) & (c[3] > speed).any(), body, first)
    return states, speeds
