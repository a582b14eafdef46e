"""The search for cycles of maps: points that come back to themselves after k steps."""

import dataclasses
from collections.abc import Callable
from typing import Any, no_type_check

import jax
import numpy as np
from jaxtyping import Float, Int

from ctd_models.analysis.fixed_points.pool import solve
from ctd_models.analysis.fixed_points.solvers import (
    CONVERGED,
    EXHAUSTED,
    NON_FINITE,
    STALLED,
    LevenbergMarquardt,
    Limits,
)
from ctd_models.analysis.fixed_points.unique import merge_duplicates
from ctd_models.analysis.orbits.orbit_set import Cycles
from ctd_models.analysis.orbits.recurrence import record, run
from ctd_models.analysis.orbits.refinement import multipliers, refine
from ctd_models.analysis.systems import Structure, System, precision, prepare

REASONS = {EXHAUSTED: "not_converged", STALLED: "stalled", NON_FINITE: "not_finite"}


@no_type_check  # it checks its arguments itself
def find_cycles(
    F: Callable[..., Any],
    candidates: Any,
    inputs: Float[Any, "*n U"] | None = None,
    *,
    max_period: int = 4,
    tolerance: float | None = None,
    max_iterations: int | None = None,
    unique_distance: float = 1e-3,
    bounds: tuple[float, float] | None = None,
    settle_steps: int = 500,
    dtype: Any = np.float64,
    progress: bool | None = None,
) -> Cycles:
    """Cycles of a map of minimal period 2 … `max_period`, stable and unstable ones, found from many candidates.

    For each k, F^k(h) = h is solved by Levenberg-Marquardt from every candidate, and again from where the candidate is
    `settle_steps` later, so that attracting cycles are found surely. Solutions are sorted by their minimal period,
    cyclic shifts count as one orbit, and each orbit is refined by Newton's method on all of its points at once,
    F(h_j) = h_{j+1} with h_k = h_0, which stays exact where F^k magnifies rounding.

    Args:
        F: `F(state)` or `F(state, input)` → next state. Pure, unbatched, any JAX function. States may be pytrees.
        candidates: states to start from, [n, d] or a pytree of arrays [n, ...], such as states that a network visits.
        inputs: held while searching: None (F takes the state alone), [U] for all, or [n, U], one per candidate.
        max_period: the longest period. Work grows with its square, and F^k becomes rough where the map is chaotic.
        tolerance: largest ½‖F(h_j) − h_{j+1}‖² along an orbit (and of F^k in the search); None: 1e-20 in float64, 1e-12
            in float32. What rounding at states of this size allows counts too, as in `find_fixed_points`.
        max_iterations: of the solver, per search; None: 200.
        unique_distance: orbits whose [points, input] are closer than this (Euclidean) are one; an orbit all of whose
            points come within this of themselves after m < k steps counts as one of period m.
        bounds: (low, high) that no entry of a state can leave, in the search and on a cycle. None: no bounds.
        settle_steps: steps that the second copy of the candidates has run forward; 0 searches from the candidates only.
        dtype: precision of the search.
        progress: show a progress bar; None: only on a terminal.

    Returns:
        The unique cycles, sorted by period. What other searches ended at is counted in `dropped`: "fixed_point",
        "not_converged" (iterations used up), "stalled" (no step lowered ‖F^k(h) − h‖ any more), "not_finite", "outside"
        (other points of the cycle left the bounds), "not_refined" (the refinement left the tolerance or the period).

    Raises:
        ValueError, TypeError: arguments that do not fit, before anything is compiled.

    Sources: Levenberg-Marquardt on the iterate as for fixed points (Sussillo & Barak 2013, doi:10.1162/NECO_a_00409);
    refinement: multiple shooting (Keller 1968, Numerical Methods for Two-Point Boundary-Value Problems).
    """
    _check_whole("max_period", max_period, 2)
    _check_whole("settle_steps", settle_steps, 0)
    if not unique_distance > 0:
        raise ValueError(f"unique_distance must be positive, got {unique_distance}")
    if bounds is not None and not bounds[0] < bounds[1]:
        raise ValueError(f"bounds must be (low, high), got {bounds}")
    if tolerance is None:
        tolerance = 1e-20 if np.dtype(dtype) == np.float64 else 1e-12
    if not tolerance > 0:
        raise ValueError(f"tolerance must be positive, got {tolerance}")
    if max_iterations is not None:
        _check_whole("max_iterations", max_iterations, 1)
    solver = LevenbergMarquardt() if max_iterations is None else LevenbergMarquardt(max_iterations)
    with precision(dtype):
        system, flat, rows = prepare(F, candidates, inputs, kind="map", dtype=dtype)
        spread = np.linalg.norm(flat - flat.mean(axis=0), axis=1).mean()
        limits = Limits(tolerance, 0.5 * spread or 1.0, *(bounds or ()))
        starts, indices = flat, np.arange(len(flat))
        if settle_steps:
            largest = np.finfo(flat.dtype).max
            settled = np.asarray(run(system, flat, rows, flat.dtype.type(1), np.int32(settle_steps), largest))
            settled = np.where(np.isfinite(settled).all(axis=1)[:, None], settled, flat)
            starts, rows, indices = (np.concatenate(pair) for pair in ((flat, settled), (rows, rows), (indices,) * 2))
        starts = np.clip(starts, limits.low, limits.high)
        return _search(solver, system, starts, rows, indices, limits, max_period, unique_distance, progress)


def _check_whole(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or int(value) != value or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value}")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Iterate:
    """F^k on flat states. k is no static value: all periods share one compiled program."""

    system: System
    period: Any

    def __call__(self, state, inputs):
        return jax.lax.fori_loop(0, self.period, lambda _, h: self.system.step(h, inputs), state)


def _search(
    solver: LevenbergMarquardt,
    system: System,
    starts: Float[np.ndarray, "n d"],
    rows: Float[np.ndarray, "n U"],
    indices: Int[np.ndarray, "n"],
    limits: Limits,
    max_period: int,
    unique_distance: float,
    progress: bool | None,
) -> Cycles:
    structure = Structure.of(starts[0])
    dropped = dict.fromkeys([*REASONS.values(), "fixed_point", "outside", "not_refined"], 0)
    solutions: dict[int, list[tuple[np.ndarray, ...]]] = {}
    one = starts.dtype.type(1)
    for k in range(2, max_period + 1):
        iterate = System(_Iterate(system, np.int32(k)), structure, flow=False, has_inputs=True)
        solution = solve(solver, iterate, starts, rows, limits, progress)
        for status, reason in REASONS.items():
            dropped[reason] += int((solution.status == status).sum())
        kept = np.flatnonzero(solution.status == CONVERGED)
        states = np.where((solution.status == CONVERGED)[:, None], solution.states, starts)
        orbits = np.asarray(record(system, states, rows, one, np.int32(1), max_period))[kept, :k]
        periods = minimal_periods(orbits, unique_distance)
        outside = (periods > 1) & ((orbits < limits.low) | (orbits > limits.high)).any(axis=(1, 2))
        dropped["fixed_point"] += int((periods == 1).sum())
        dropped["outside"] += int(outside.sum())
        periods[outside] = 0
        for m in np.unique(periods[periods > 1]):
            of_m = periods == m
            solutions.setdefault(int(m), []).append((orbits[of_m, :m], rows[kept[of_m]], indices[kept[of_m]]))
    parts = []
    for m in sorted(solutions):
        orbits, inputs, origin = (np.concatenate(arrays) for arrays in zip(*solutions[m], strict=True))
        owner = merge_orbits(orbits, inputs, np.zeros(len(orbits)), unique_distance)
        unique, hits = np.unique(owner, return_counts=True)
        refined, products, residuals, exact = refine(system, orbits[unique], inputs[unique], limits.tolerance)
        exact &= minimal_periods(refined, unique_distance) == m
        dropped["not_refined"] += int(hits[~exact].sum())
        unique, hits = unique[exact], hits[exact]
        refined, products, residuals = (values[exact] for values in (refined, products, residuals))
        owner = merge_orbits(refined, inputs[unique], residuals, unique_distance)
        chosen, back = np.unique(owner, return_inverse=True)
        hits = np.bincount(back.reshape(-1), hits, len(chosen)).astype(int)
        order = np.argsort(-hits, kind="stable")
        chosen, hits = chosen[order], hits[order]
        first = starting_phases(refined[chosen], unique_distance)
        orbits = np.take_along_axis(refined[chosen], ((first[:, None] + np.arange(m)) % m)[:, :, None], axis=1)
        orbits, products, residuals, _ = refine(system, orbits, inputs[unique[chosen]], limits.tolerance)
        parts.append((orbits, residuals, products, hits, inputs[unique[chosen]], origin[unique[chosen]]))
    return _assemble(parts, dropped, system, len(np.unique(indices)), len(starts) * (max_period - 1), limits.tolerance)


def _assemble(parts, dropped, system, num_candidates, num_searches, tolerance) -> Cycles:
    d = system.structure.size
    stacked = [np.concatenate(arrays) for arrays in zip(*[part[1:] for part in parts], strict=True)]
    empty = [np.zeros(0), np.zeros((0, d, d)), np.zeros(0, int), np.zeros((0, 0)), np.zeros(0, int)]
    residuals, products, hits, inputs, candidate_indices = stacked or empty
    values = multipliers(products)
    orbits = tuple(orbit for part in parts for orbit in part[0])
    return Cycles(
        periods=np.array([len(orbit) for orbit in orbits], int),
        orbits=orbits,
        residuals=residuals,
        multipliers=values,
        monodromies=products,
        num_unstable=(np.abs(values) > 1).sum(axis=1),
        hits=hits,
        candidate_indices=candidate_indices,
        inputs=inputs if system.has_inputs else None,
        tolerance=float(tolerance),
        num_candidates=num_candidates,
        num_searches=num_searches,
        dropped=dropped,
        structure=system.structure,
    )


def minimal_periods(orbits: Float[np.ndarray, "n k d"], distance: float) -> Int[np.ndarray, "n"]:
    """The smallest divisor m of k after which every point of the orbit is back within `distance`."""
    k = orbits.shape[1]
    periods = np.full(len(orbits), k)
    for m in (m for m in range(k - 1, 0, -1) if k % m == 0):
        gaps = np.linalg.norm(np.roll(orbits, -m, axis=1) - orbits, axis=2)
        periods[gaps.max(axis=1) <= distance] = m
    return periods


def starting_phases(orbits: Float[np.ndarray, "n k d"], distance: float) -> Int[np.ndarray, "n"]:
    """Which point of each orbit comes first: the one of the smallest first entry.

    Entries that lie within `distance` of each other count as equal, and the next entry decides.
    """
    running = np.ones(orbits.shape[:2], bool)
    for entries in np.moveaxis(orbits, 2, 0):
        if (running.sum(axis=1) == 1).all():
            break
        entries = np.where(running, entries, np.inf)
        running &= entries <= entries.min(axis=1, keepdims=True) + distance
    return running.argmax(axis=1)


def merge_orbits(
    orbits: Float[np.ndarray, "n k d"],
    inputs: Float[np.ndarray, "n U"],
    priority: Float[np.ndarray, "n"],
    distance: float,
) -> Int[np.ndarray, "n"]:
    """For each orbit, the index of the one that stands for it: the same points, whichever comes first, and input."""
    n, k, _ = orbits.shape
    if n == 0:
        return np.arange(0)
    first = starting_phases(orbits, distance)
    orbits = np.take_along_axis(orbits, ((first[:, None] + np.arange(k)) % k)[:, :, None], axis=1)
    owner = merge_duplicates(np.concatenate([orbits.reshape(n, -1), inputs], axis=1), priority, distance)
    kept = np.unique(owner)
    kept = kept[np.argsort(priority[kept], kind="stable")]  # few: of these, every shift is compared with every other
    shifts = np.stack([np.roll(orbits[kept], -s, axis=1).reshape(len(kept), -1) for s in range(k)])
    shifts = np.concatenate([shifts, np.broadcast_to(inputs[kept], (k, *inputs[kept].shape))], axis=2)
    rank = np.tile(np.arange(len(kept)), k)
    same = merge_duplicates(shifts.reshape(len(rank), -1), rank.astype(float), distance)
    parent = np.arange(len(kept))
    np.minimum.at(parent, rank, rank[same])
    while (parent[parent] != parent).any():
        parent = parent[parent]
    target = np.arange(n)
    target[kept] = kept[parent]
    return target[owner]
