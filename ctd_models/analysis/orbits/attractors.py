"""Where states end up: fixed points, cycles, invariant circles, chaos, infinity."""

from collections.abc import Callable
from typing import Any, no_type_check

import numpy as np
from jaxtyping import Bool, Float

from ctd_models.analysis.orbits.cycles import minimal_periods
from ctd_models.analysis.orbits.motions import Found, Setting, limit_cycles, repeating, wandering
from ctd_models.analysis.orbits.orbit_set import Attractors
from ctd_models.analysis.orbits.recurrence import record, remaining_distance, return_distances, run
from ctd_models.analysis.orbits.simulation import step_duration
from ctd_models.analysis.systems import precision, prepare

KINDS = ("fixed point", "cycle", "limit cycle", "invariant circle", "quasi-periodic", "chaotic")


@no_type_check  # it checks its arguments itself
def find_attractors(
    F: Callable[..., Any],
    states: Any,
    inputs: Float[Any, "*n U"] | None = None,
    *,
    kind: str = "map",
    dt: float | None = None,
    num_steps: int = 2000,
    max_period: int = 16,
    tolerance: float = 1e-4,
    unique_distance: float = 1e-3,
    escape: float = 1e6,
    dtype: Any = np.float64,
) -> Attractors:
    """Runs every state forward and tells where it ends, what that is, and which states end at the same.

    After `num_steps` steps a state is

    - at a "fixed point" or on a "cycle" of a map, if it misses itself after p ≤ `max_period` steps (1 of a flow) by
      less and less, and what is left of the way, the sum of a geometric series, is within `tolerance`; these are then
      refined by Newton's method;
    - on a "limit cycle" of a flow, if the same holds for its returns to a plane across the flow;
    - "chaotic", if over another `num_steps`, a time t, its tangents grow beyond doubt: λ₁ t > 5, and λ₁ is more than three
      of its standard errors;
    - on an "invariant circle" of a map (`closed_curves`; several that follow each other count, too), if that is so and
      its leading tangent is neutral, |λ₁ t| ≤ 5; "quasi-periodic", if two tangents are neutral, the motion is stationary,
      and no circle is found: a torus of a flow, a torus of higher dimension of a map;
    - diverged, if an entry went beyond `escape`;
    - unsettled otherwise: raise `num_steps` or `max_period`, or look for slow points (`find_fixed_points`).

    Args:
        F: `F(state)` or `F(state, input)` → next state of a map, time derivative of a flow.
        states: [n, d], or a pytree of arrays [n, ...]: the states to start from.
        inputs: held all the time: None (F takes the state alone), [U] for all, or [n, U], one per state.
        kind: "map" or "flow"; a flow is integrated by the Runge-Kutta method of fourth order.
        dt: step of a flow, in its unit of time. num_steps · dt should hold several turns of a limit cycle.
        num_steps: how long states run before they are looked at; at least 64, and more than `max_period`.
        max_period: longest cycle of a map [steps]; most returns to the plane in one turn of a limit cycle.
        tolerance: how near a state must be to a fixed point or a cycle, relative to 1 + ‖h‖.
        unique_distance: fixed points and cycles whose [points, input] are closer than this are the same. Circles and
            chaotic sets are the same where the points of one lie among those of the other.
        escape: largest magnitude of an entry of a state.
        dtype: precision.

    Returns:
        The attractors, with the label of every state. A state that starts exactly on a saddle or its stable manifold
        ends there; see `Attractors.is_attracting`.

    Raises:
        ValueError, TypeError: arguments that do not fit, before anything is compiled.
    """
    for name, value, least in (("max_period", max_period, 1), ("num_steps", num_steps, max(64, max_period + 1))):
        if isinstance(value, bool) or int(value) != value or value < least:
            raise ValueError(f"{name} must be a whole number of at least {least}, got {value}")
    for name, value in (("tolerance", tolerance), ("unique_distance", unique_distance), ("escape", escape)):
        if not value > 0:
            raise ValueError(f"{name} must be positive, got {value}")
    system, flat, rows = prepare(F, states, inputs, kind=kind, dtype=dtype, what="states")
    dt = step_duration(kind, dt, dtype)
    setting = Setting(F, system, rows, dt, num_steps, max_period, tolerance, unique_distance, escape)
    with precision(dtype), np.errstate(over="ignore", invalid="ignore"):
        return _classify(setting, flat)


def _classify(setting: Setting, flat: Float[np.ndarray, "n d"]) -> Attractors:
    system, rows, dt = setting.system, setting.inputs, setting.dt
    repeats = 1 if system.flow else setting.max_period
    escape, half = flat.dtype.type(setting.escape), setting.num_steps // 2
    later = np.asarray(run(system, flat, rows, dt, np.int32(half), escape))
    early = _misses(setting, later, repeats)
    final = np.asarray(run(system, later, rows, dt, np.int32(setting.num_steps - half), escape))
    windows = record(system, final, rows, dt, np.int32(1), 2 * repeats + 1)
    windows = np.asarray(windows)
    diverged = ~(np.abs(windows).max(axis=(1, 2)) <= escape)
    late = return_distances(windows, repeats)
    size = np.linalg.norm(final, axis=1)[:, None]
    steps = np.arange(1, repeats + 1)
    left = remaining_distance(early, late, (setting.num_steps - half) / steps, size)
    arrived = (left <= setting.tolerance * (1 + size)) & ~diverged[:, None]
    drifts = np.where(diverged, np.nan, (late / steps / float(dt)).min(axis=1))

    found: list[Found] = []
    period = np.where(arrived.any(axis=1), arrived.argmax(axis=1) + 1, 0)
    for p in np.unique(period[period > 0]):
        of_p = np.flatnonzero(period == p)
        period[of_p] = minimal_periods(windows[of_p, :p], setting.unique_distance)
    for p in np.unique(period[period > 0]):
        found.append(repeating(setting, windows[:, :p], np.flatnonzero(period == p)))
    rest = np.flatnonzero((period == 0) & ~diverged)
    if system.flow and len(rest):
        cycles, rest = limit_cycles(setting, final, rest)
        found += cycles
    if len(rest):
        found += wandering(setting, final, rest)
    return _assemble(setting, found, diverged, drifts, final)


def _misses(setting: Setting, states: Float[np.ndarray, "n d"], repeats: int) -> Float[np.ndarray, "n {repeats}"]:
    window = record(setting.system, states, setting.inputs, setting.dt, np.int32(1), 2 * repeats + 1)
    return return_distances(np.asarray(window), repeats)


def _assemble(
    setting: Setting,
    found: list[Found],
    diverged: Bool[np.ndarray, "n"],
    drifts: Float[np.ndarray, "n"],
    final: Float[np.ndarray, "n d"],
) -> Attractors:
    k = min(final.shape[1], 3)
    kinds = [group.kind for group in found for _ in group.orbits]
    orbits = [orbit for group in found for orbit in group.orbits]
    members = [rows for group in found for rows in group.members]
    counts = np.array([len(rows) for rows in members], int)
    periods = np.concatenate([np.zeros(0), *(group.periods for group in found)])
    ranks = np.array([KINDS.index(kind) for kind in kinds], int)
    order = np.lexsort((-counts, periods, ranks))
    labels = np.full(len(final), -1)
    for place, i in enumerate(order):
        labels[members[i]] = place
    first = np.concatenate([np.zeros(0, int), *(group.first for group in found)])[order]
    nothing = [np.full(len(group.orbits), np.nan) for group in found]
    rotation = [n if g.rotation_numbers is None else g.rotation_numbers for g, n in zip(found, nothing, strict=True)]
    residuals = [n if g.residuals is None else g.residuals for g, n in zip(found, nothing, strict=True)]
    return Attractors(
        kinds=tuple(kinds[i] for i in order),
        periods=periods[order],
        orbits=tuple(orbits[i] for i in order),
        means=np.array([orbits[i].mean(axis=0) for i in order], final.dtype).reshape(-1, final.shape[1]),
        exponents=np.concatenate([np.zeros((0, k)), *(group.exponents for group in found)])[order],
        rotation_numbers=np.concatenate([np.zeros(0), *rotation])[order],
        closure_residuals=np.concatenate([np.zeros(0), *residuals])[order],
        counts=counts[order],
        labels=labels,
        diverged=diverged,
        unsettled=(labels < 0) & ~diverged,
        drifts=drifts,
        final_states=final,
        inputs=setting.inputs[first] if setting.system.has_inputs else None,
        kind="flow" if setting.system.flow else "map",
        structure=setting.system.structure,
    )
