"""The search for fixed and slow points (Sussillo & Barak 2013, doi:10.1162/NECO_a_00409)."""

from collections.abc import Callable
from typing import Any, no_type_check

import jax
import numpy as np
from jaxtyping import Float
from scipy.spatial import cKDTree

from ctd_models.analysis.fixed_points.assessment import (
    compile_assessment,
    is_ghost,
    is_saturated,
    rounding_speed,
    speeds_of,
)
from ctd_models.analysis.fixed_points.draft import SINGLE_PRECISION, draft_of
from ctd_models.analysis.fixed_points.exploration import forward_fates, midpoints
from ctd_models.analysis.fixed_points.methods import EXACT, as_solvers
from ctd_models.analysis.fixed_points.points import FixedPoints
from ctd_models.analysis.fixed_points.pursuit import Outcome, Pursuit
from ctd_models.analysis.fixed_points.solvers import CONVERGED, EXHAUSTED, NON_FINITE, STALLED, Limits
from ctd_models.analysis.fixed_points.unique import merge_duplicates
from ctd_models.analysis.systems import check_repeatable, precision, prepare

REASONS = {"not_converged": EXHAUSTED, "stalled": STALLED, "not_finite": NON_FINITE}
ROUNDS, MOST_GROUPS = 3, 64  # of exploration; different inputs up to which there is any


@no_type_check  # it checks its arguments itself
def find_fixed_points(
    F: Callable[..., Any],
    candidates: Any,
    inputs: Float[Any, "*n U"] | None = None,
    *,
    kind: str = "map",
    method: Any = "auto",
    tolerance: float | None = None,
    max_iterations: int | None = None,
    retries: int = 2,
    explore: bool | None = None,
    noise: float = 0.0,
    key: Any = None,
    unique_distance: float | None = None,
    outlier_factor: float | None = 10.0,
    isolation_distance: float | None = None,
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
        method: "auto", "levenberg-marquardt" (exact Jacobians), "krylov" (products with Jacobians alone, for large
            states), "adam", a solver of this package, or any Optax optimizer. "auto" is the second up to 500 units, after
            the third where slow points are enough, and the third above.
        tolerance: largest speed q of a point; None: 1e-20 in float64, 1e-12 in float32. A point also counts where q is as
            small as rounding allows at states of its size (8 eps ‖h‖), which in float32 may be more than the tolerance.
        max_iterations: per candidate and attempt; None: the method's own.
        retries: new attempts of a candidate whose search stalled in a minimum of q, after running it forward 20 and
            then 200 steps; 0 to 2.
        explore: look between the points found for points that no candidate led to (their `hits` are 0, their
            `candidate_indices` those of the nearest candidate), and run some candidates of a map forward to see where
            they end. None: where `tolerance` asks for fixed points (up to 1e-12), not for slow ones.
        noise: standard deviation of Gaussian noise added to every entry of the candidates.
        key: typed JAX key that this noise is drawn from.
        unique_distance: points whose [state, input] are closer than this (Euclidean) are one, kept at its slowest. None:
            1e-3, or a thousandth of the candidates' mean distance from their centroid where that is less than 1.
        outlier_factor: points farther from the candidates' centroid than this many times the candidates' mean distance
            are dropped; None keeps all.
        isolation_distance: points with no other within this distance are dropped; None keeps all.
        bounds: (low, high) that no entry of a state can leave, such as (-1, 1) of a GRU. The search stays inside: gates
            saturate outside, where q can be tiny though nothing stands still. None: no bounds; what saturated far from
            all candidates is then dropped.
        dtype: precision of the search. Weights in float32 are promoted; no global flag is needed.
        progress: show a progress bar; None: only on a terminal.

    Returns:
        The unique points. Candidates that did not make it are in `dropped`, by reason: "not_converged" (iterations used
        up), "stalled" (no step lowered q any more), "ghost" (q has a minimum there, but does not vanish; the minima are in
        `ghosts`), "not_finite", "outlier", "isolated", "saturated", "duplicate".

    Raises:
        ValueError, TypeError: arguments that do not fit, or a step function that changes shapes or dtypes or gives different
            results for one state, before anything else is compiled.
    """
    for name, value in (
        ("unique_distance", unique_distance),
        ("outlier_factor", outlier_factor),
        ("isolation_distance", isolation_distance),
    ):
        if value is not None and not value > 0:
            raise ValueError(f"{name} must be positive or None, got {value}")
    if bounds is not None and not bounds[0] < bounds[1]:
        raise ValueError(f"bounds must be (low, high), got {bounds}")
    if tolerance is None:
        tolerance = 1e-20 if np.dtype(dtype) == np.float64 else 1e-12
    if not tolerance > 0:
        raise ValueError(f"tolerance must be positive, got {tolerance}")
    if retries not in (0, 1, 2):
        raise ValueError(f"retries must be 0, 1 or 2, got {retries}")
    if not noise >= 0 or (noise > 0 and key is None):
        raise ValueError(f"noise must not be negative, and needs a key, got noise={noise}, key={key}")
    as_solvers(method, max_iterations, 1, tolerance)
    with precision(dtype):
        system, states, rows = prepare(F, candidates, inputs, kind=kind, dtype=dtype)
        solvers = as_solvers(method, max_iterations, states.shape[1], tolerance)
        check_repeatable(system, states[0], rows[0])
        compile_assessment(system, states[0], rows[0])
        if noise > 0:
            states = states + noise * np.asarray(jax.random.normal(key, states.shape, dtype))
        centre = states.mean(axis=0)
        spread = float(np.linalg.norm(states - centre, axis=1).mean())
        if unique_distance is None:
            unique_distance = 1e-3 * min(1.0, spread or 1.0)
        limits = Limits(tolerance, 0.5 * spread or 1.0, *(bounds or ()))
        pursuit = Pursuit(solvers, system, limits, len(states), progress, retries)
        draft = draft_of(pursuit, F, candidates, inputs) if len(solvers) > 1 and tolerance >= SINGLE_PRECISION else None
        outcome = (pursuit if draft is None else draft)(states, rows)
        sieve = _Sieve(system, states, rows, centre, spread, unique_distance, outlier_factor)
        found = sieve(outcome, rows, np.arange(len(states)))
        fates = None
        if explore or (explore is None and tolerance <= EXACT):
            found, fates = _explore(pursuit, sieve, found, states, rows)
        smallest = None
        if not outcome.converged.any():
            smallest = float(np.nanmin(speeds_of(system, outcome.states, rows, len(rows)), initial=np.inf))
        ghosts, in_ghost = _ghosts(pursuit, sieve, outcome, rows)

    dropped = {reason: np.flatnonzero(outcome.status == status) for reason, status in REASONS.items()}
    dropped["ghost"] = np.flatnonzero(in_ghost)
    for reason in REASONS:
        dropped[reason] = np.setdiff1d(dropped[reason], dropped["ghost"])
    dropped |= sieve.dropped
    if isolation_distance is not None and len(found["states"]) > 1:
        apart = cKDTree(found["states"]).query(found["states"], 2)[0][:, 1] > isolation_distance
        dropped["isolated"] = found["candidate_indices"][apart & (found["hits"] > 0)]
        found = {name: values[~apart] for name, values in found.items()}
    found["classes"] = np.where(found["speeds"] <= rounding_speed(found["states"]), "fixed", "slow")
    return FixedPoints(
        **(found if system.has_inputs else found | {"inputs": None}),
        kind=kind,
        tolerance=float(tolerance),
        num_candidates=len(states),
        dropped=dropped,
        structure=system.structure,
        ghosts=ghosts,
        forward=fates,
        smallest_speed=smallest,
        candidate_iterations=outcome.iterations,
    )


class _Sieve:
    """Keeps what converged and is neither an outlier nor saturated, each point once; notes what it drops."""

    def __init__(self, system, states, rows, centre, spread, unique_distance, outlier_factor):
        self.system, self.states, self.rows = system, states, rows
        self.low, self.high = states.min(axis=0), states.max(axis=0)
        self.centre, self.spread, self.distance, self.factor = centre, spread, unique_distance, outlier_factor
        self.dropped = {"outlier": np.arange(0), "saturated": np.arange(0), "duplicate": np.arange(0)}

    def __call__(self, outcome: Outcome, rows: np.ndarray, indices: np.ndarray) -> dict[str, np.ndarray]:
        """The points of an outcome; `indices` are those of the candidates."""
        kept = np.flatnonzero(outcome.converged)
        kept = self._drop("outlier", kept, self.is_far(outcome.states[kept]), indices)
        kept = self._drop("saturated", kept, self._is_flat(outcome.states[kept], rows[kept]), indices)
        speeds = speeds_of(self.system, outcome.states[kept], rows[kept], len(self.states))
        places = np.concatenate([outcome.states, rows], axis=1)[kept]
        stands_for = merge_duplicates(places, speeds, self.distance) if len(kept) else np.arange(0)
        unique, hits = np.unique(stands_for, return_counts=True)
        self._drop("duplicate", kept, ~np.isin(np.arange(len(kept)), unique), indices)
        chosen = kept[unique]
        return {
            "states": outcome.states[chosen],
            "speeds": speeds[unique],
            "inputs": rows[chosen],
            "candidate_indices": indices[chosen],
            "iterations": outcome.iterations[chosen],
            "hits": hits,
        }

    def _is_flat(self, states: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return is_saturated(self.system, states, rows, self.low, self.high)

    def is_far(self, states: np.ndarray) -> np.ndarray:
        """Whether states are outliers."""
        if self.factor is None or self.spread == 0:
            return np.zeros(len(states), bool)
        return np.linalg.norm(states - self.centre, axis=1) > self.factor * self.spread

    def _drop(self, reason: str, kept: np.ndarray, where: np.ndarray, indices: np.ndarray) -> np.ndarray:
        lost = indices[kept[where]]
        self.dropped[reason] = np.concatenate([self.dropped[reason], lost[lost >= 0]])
        return kept[~where]

    def add(self, found: dict[str, np.ndarray], outcome: Outcome, rows: np.ndarray) -> dict[str, np.ndarray]:
        """`found` and those points of an exploration that are new."""
        new = self(outcome, rows, np.full(len(rows), -1))
        known = cKDTree(np.concatenate([found["states"], found["inputs"]], axis=1)) if len(found["states"]) else None
        if known is not None and len(new["states"]):
            far = known.query(np.concatenate([new["states"], new["inputs"]], axis=1))[0] > self.distance
            new = {name: values[far] for name, values in new.items()}
        new["hits"] = np.zeros(len(new["states"]), int)
        for row in np.unique(new["inputs"], axis=0):
            mine, candidates = (new["inputs"] == row).all(axis=1), np.flatnonzero((self.rows == row).all(axis=1))
            _, nearest = cKDTree(self.states[candidates]).query(new["states"][mine])
            new["candidate_indices"][mine] = candidates[nearest]
        return {name: np.concatenate([values, new[name]]) for name, values in found.items()}


def _explore(pursuit: Pursuit, sieve: _Sieve, found: dict, states: np.ndarray, rows: np.ndarray):
    """(found and what was found between, where candidates of a map end when they are run forward)."""
    fates, starts, inputs = None, np.zeros((0, states.shape[1])), rows[:0]
    if not pursuit.system.flow:
        fates, starts, inputs = forward_fates(pursuit, states, rows)
    groups = np.unique(rows, axis=0)
    most = max(64, len(states) // 2) // max(1, len(groups))
    fresh = np.ones(len(found["states"]), bool)
    for _ in range(ROUNDS):
        for row in groups if len(groups) <= MOST_GROUPS else []:
            here = (found["inputs"] == row).all(axis=1)
            points = np.concatenate([found["states"][here & ~fresh], found["states"][here & fresh]])
            if len(points) <= most:
                middles = midpoints(points, int((here & fresh).sum()), most, 0.1 * sieve.spread)
                starts = np.concatenate([starts, middles])
                inputs = np.concatenate([inputs, np.broadcast_to(row, (len(middles), len(row)))])
        if not len(starts):
            break
        before = len(found["states"])
        found = sieve.add(found, pursuit(starts, inputs, "exploration"), inputs)
        fresh = np.arange(len(found["states"])) >= before
        starts, inputs = starts[:0], inputs[:0]
        if not fresh.any():
            break
    return found, fates


def _ghosts(pursuit: Pursuit, sieve: "_Sieve", outcome: Outcome, rows: np.ndarray):
    """(minima of q at which searches stalled, whether each candidate ended in one for good).

    One stall of each neighbourhood is driven on to the minimum of q, and stands for the others.
    """
    in_ghost = np.zeros(len(rows), bool)
    stalled = np.flatnonzero(np.isfinite(outcome.stalls).all(axis=1))
    if not len(stalled):
        return None, in_ghost
    places = outcome.stalls[stalled]
    speeds = speeds_of(pursuit.system, places, rows[stalled], len(rows))
    near = max(sieve.distance, 0.2 * sieve.spread)
    stands_for = merge_duplicates(np.concatenate([places, rows[stalled]], axis=1), speeds, near)
    leaders = np.unique(stands_for)
    minima, inputs = places[leaders], rows[stalled[leaders]]
    solution = pursuit.solve(pursuit.solvers[-1], minima, inputs, "ghosts")
    minima = solution.states
    real = is_ghost(pursuit.system, minima, inputs) & (solution.status != CONVERGED) & ~sieve.is_far(minima)
    in_ghost[stalled] = real[np.searchsorted(leaders, stands_for)] & (outcome.status[stalled] == STALLED)
    if not real.any():
        return None, in_ghost
    hits = np.bincount(np.searchsorted(leaders, stands_for), minlength=len(leaders))
    speeds = speeds_of(pursuit.system, minima, inputs, len(rows))
    same = merge_duplicates(np.concatenate([minima, inputs], axis=1)[real], speeds[real], 0.25 * near)
    unique = np.unique(same)
    chosen = np.flatnonzero(real)[unique]
    return FixedPoints(
        states=minima[chosen],
        speeds=speeds[chosen],
        inputs=inputs[chosen] if pursuit.system.has_inputs else None,
        candidate_indices=stalled[leaders[chosen]],
        hits=np.bincount(np.searchsorted(unique, same), weights=hits[real], minlength=len(unique)).astype(int),
        kind="flow" if pursuit.system.flow else "map",
        num_candidates=len(rows),
        structure=pursuit.system.structure,
        classes=np.full(len(chosen), "ghost"),
    ), in_ghost
