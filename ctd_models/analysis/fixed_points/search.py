"""The search for fixed and slow points (Sussillo & Barak 2013, doi:10.1162/NECO_a_00409)."""

from collections.abc import Callable
from typing import Any, no_type_check

import jax
import numpy as np
from jaxtyping import Array, Float

from ctd_models.analysis.fixed_points.points import FixedPoints
from ctd_models.analysis.fixed_points.solvers import CONVERGED, EXHAUSTED, NON_FINITE, STALLED, Limits, as_solver, solve
from ctd_models.analysis.fixed_points.unique import merge_duplicates
from ctd_models.analysis.systems import System, precision, prepare


@no_type_check  # it checks its arguments itself
def find_fixed_points(
    F: Callable[..., Any],
    candidates: Any,
    inputs: Float[Any, "*n U"] | None = None,
    *,
    kind: str = "map",
    method: Any = "levenberg-marquardt",
    tolerance: float | None = None,
    max_iterations: int | None = None,
    unique_distance: float = 1e-3,
    outlier_factor: float | None = 10.0,
    bounds: tuple[float, float] | None = None,
    dtype: Any = np.float64,
    progress: bool | None = None,
) -> FixedPoints:
    """The points where a system stands still, found from many candidates.

    Minimises q(h) = ½‖F(h, x) − h‖² of a map, ½‖f(h, x)‖² of a flow, from every candidate at once. With the default
    tolerance candidates go all the way to fixed points. On a line attractor that collapses them onto the few exact
    fixed points on it: pass a larger tolerance, such as 1e-6, to keep slow points, each near its candidate.

    Args:
        F: `F(state)` or `F(state, input)` → next state of a map, time derivative of a flow. Pure, unbatched, any JAX
            function: a `step_function`, a lambda. States may be pytrees.
        candidates: states to start from, [n, d] or a pytree of arrays [n, ...], such as states that a network visits.
        inputs: held while searching: None (F takes the state alone), [U] for all, or [n, U], one per candidate.
        kind: "map" (next state) or "flow" (time derivative).
        method: "levenberg-marquardt", "adam", a solver of this package, or any Optax optimizer.
        tolerance: largest speed q of a point; None: 1e-20 in float64, 1e-12 in float32. A point also counts where q is as
            small as rounding allows at states of its size (8 eps ‖h‖), which in float32 may be more than the tolerance.
        max_iterations: per candidate; None: the method's own.
        unique_distance: points whose [state, input] are closer than this (Euclidean) are one, kept at its slowest.
        outlier_factor: points farther from the candidates' centroid than this many times the candidates' mean distance
            are dropped; None keeps all.
        bounds: (low, high) that no entry of a state can leave, such as (-1, 1) of a GRU. The search stays inside: gates
            saturate outside, where q can be tiny though nothing stands still. None: no bounds.
        dtype: precision of the search. Weights in float32 are promoted; no global flag is needed.
        progress: show a progress bar; None: only on a terminal.

    Returns:
        The unique points. Candidates that did not make it are in `dropped`, by reason: "not_converged" (iterations used
        up), "stalled" (no step lowered q any more), "not_finite", "outlier", "duplicate".

    Raises:
        ValueError, TypeError: arguments that do not fit, before anything is compiled.
    """
    if not unique_distance > 0:
        raise ValueError(f"unique_distance must be positive, got {unique_distance}")
    if outlier_factor is not None and not outlier_factor > 0:
        raise ValueError(f"outlier_factor must be positive or None, got {outlier_factor}")
    if bounds is not None and not bounds[0] < bounds[1]:
        raise ValueError(f"bounds must be (low, high), got {bounds}")
    if tolerance is None:
        tolerance = 1e-20 if np.dtype(dtype) == np.float64 else 1e-12
    if not tolerance > 0:
        raise ValueError(f"tolerance must be positive, got {tolerance}")
    solver = as_solver(method, max_iterations)
    with precision(dtype):
        system, states, rows = prepare(F, candidates, inputs, kind=kind, dtype=dtype)
        centre = states.mean(axis=0)
        spread = np.linalg.norm(states - centre, axis=1).mean()
        limits = Limits(tolerance, 0.5 * spread or 1.0, *(bounds or ()))
        states = np.clip(states, limits.low, limits.high)
        solution = solve(solver, system, states, rows, limits, progress)
        speeds = np.asarray(_speeds(system, solution.states, rows))

    reasons = {"not_converged": EXHAUSTED, "stalled": STALLED, "not_finite": NON_FINITE}
    dropped = {reason: np.flatnonzero(solution.status == status) for reason, status in reasons.items()}
    kept = solution.status == CONVERGED
    outlier = kept & (outlier_factor is not None) & (spread > 0)
    outlier &= np.linalg.norm(solution.states - centre, axis=1) > (outlier_factor or 0) * spread
    dropped["outlier"] = np.flatnonzero(outlier)
    kept = np.flatnonzero(kept & ~outlier)
    stands_for = _merge(np.concatenate([solution.states, rows], axis=1)[kept], speeds[kept], unique_distance)
    unique, hits = np.unique(stands_for, return_counts=True)
    dropped["duplicate"] = np.delete(kept, unique)
    chosen = kept[unique]
    return FixedPoints(
        states=solution.states[chosen],
        speeds=speeds[chosen],
        inputs=rows[chosen] if system.has_inputs else None,
        candidate_indices=chosen,
        iterations=solution.iterations[chosen],
        hits=hits,
        kind=kind,
        tolerance=float(tolerance),
        num_candidates=len(states),
        dropped=dropped,
        structure=system.structure,
    )


@jax.jit
def _speeds(system: System, states: Float[Array, "n d"], inputs: Float[Array, "n U"]) -> Float[Array, "n"]:
    return jax.vmap(system.speed)(states, inputs)


def _merge(points: Float[np.ndarray, "n d"], speeds: Float[np.ndarray, "n"], distance: float) -> np.ndarray:
    return merge_duplicates(points, speeds, distance) if len(points) else np.arange(0)
