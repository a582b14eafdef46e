"""What the motion of settled states is: repeating, on a limit cycle, on a circle or torus, chaotic."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial.distance import cdist

from ctd_models.analysis.orbits.circles import repeated_curves
from ctd_models.analysis.orbits.cycles import merge_orbits
from ctd_models.analysis.orbits.lyapunov import lyapunov_spectrum
from ctd_models.analysis.orbits.recurrence import in_batches, record, remaining_distance, sample_period, section_returns
from ctd_models.analysis.orbits.refinement import multipliers, refine
from ctd_models.analysis.systems import System

CYCLE_POINTS = 200  # of a limit cycle
SAMPLES = 2048  # at most, of an orbit that does not repeat
ORBIT_ENTRIES = 32_000_000  # numbers in all these orbits together; with more states each is shorter
CIRCLE_TOLERANCE = 0.05  # closure residual of an invariant circle
GROWTH = 5.0  # logarithm: a tangent that grows or shrinks by less over the whole run is taken for neutral
NEIGHBOUR = 10  # of a point, as far as points of the same set usually are
QUERIES = 32  # points of an orbit that are looked for on another


class Found(NamedTuple):
    """Attractors of one kind, with the start states of each."""

    kind: str
    periods: Float[np.ndarray, "a"]
    orbits: list[np.ndarray]
    exponents: Float[np.ndarray, "a k"]
    first: Int[np.ndarray, "a"]
    """A start state of each."""
    members: list[np.ndarray]
    rotation_numbers: np.ndarray | None = None
    residuals: np.ndarray | None = None


@dataclasses.dataclass
class Setting:
    """What every step of the classification needs to know."""

    function: Callable[..., Any]
    system: System
    inputs: Float[np.ndarray, "n U"]
    dt: np.ndarray
    num_steps: int
    max_period: int
    tolerance: float
    unique_distance: float
    escape: float

    def lyapunov(self, states, inputs, num_exponents):
        """(leading exponents, standard errors) of states, in batches."""

        def spectrum(states, inputs):
            given = inputs if self.system.has_inputs else None
            result = lyapunov_spectrum(
                self.function,
                self.system.structure.unravel(states),
                given,
                kind="flow" if self.system.flow else "map",
                num_steps=self.num_steps,
                transient=self.num_steps // 4,
                dt=float(self.dt),
                num_exponents=num_exponents,
                dtype=states.dtype,
            )
            return result.exponents, result.standard_errors

        return in_batches(spectrum, (states, inputs), 64 * states.shape[1])


def repeating(setting: Setting, orbits: Float[np.ndarray, "n p d"], rows: Int[np.ndarray, "m"]) -> Found:
    """Fixed points, or cycles of one period of a map, where the states `rows` are."""
    system, p, d = setting.system, orbits.shape[1], orbits.shape[2]
    orbits, inputs = orbits[rows], setting.inputs[rows]
    owner = merge_orbits(orbits, inputs, np.zeros(len(rows)), setting.unique_distance)
    kept = np.unique(owner)
    exact, products, _, _ = refine(system, orbits[kept], inputs[kept], 0.0, setting.dt)
    near = np.linalg.norm(exact - orbits[kept], axis=2).max(axis=1) <= 10 * setting.tolerance * (
        1 + np.linalg.norm(exact, axis=2).max(axis=1)
    )
    _, as_they_were, _, _ = refine(system, orbits[kept], inputs[kept], 0.0, setting.dt, 0)
    exact = np.where(near[:, None, None], exact, orbits[kept])
    products = np.where(near[:, None, None], products, as_they_were)
    again = merge_orbits(exact, inputs[kept], np.zeros(len(kept)), setting.unique_distance)
    chosen = np.unique(again)
    owner = kept[again][np.searchsorted(kept, owner)]
    with np.errstate(divide="ignore"):
        exponents = np.log(np.abs(multipliers(products[chosen]))) / (p * float(setting.dt))
    return Found(
        "fixed point" if p == 1 else "cycle",
        np.full(len(chosen), 0.0 if system.flow else p),
        list(exact[chosen]),
        exponents[:, : min(d, 3)],
        rows[kept[chosen]],
        [rows[owner == kept[c]] for c in chosen],
    )


def limit_cycles(
    setting: Setting, final: Float[np.ndarray, "n d"], rows: Int[np.ndarray, "m"]
) -> tuple[list[Found], Int[np.ndarray, "_"]]:
    """(limit cycles of a flow, the states among `rows` that are on none)."""
    system, inputs, capacity = setting.system, setting.inputs, 4 * setting.max_period
    dt, d = setting.dt, final.shape[1]
    points, times, count = in_batches(
        lambda h, x: section_returns(system, h, x, dt, np.int32(setting.num_steps), capacity),
        (final[rows], inputs[rows]),
        capacity * d,
    )
    points = np.concatenate([final[rows][:, None], points], axis=1)  # the state itself is on its plane
    times = np.concatenate([np.zeros((len(rows), 1), times.dtype), times], axis=1)
    each = np.arange(len(rows))
    durations = np.full(len(rows), np.nan)
    size = np.linalg.norm(final[rows], axis=1)
    for p in range(setting.max_period, 0, -1):  # so that the smallest wins
        late = np.linalg.norm(points[each, count] - points[each, count - p], axis=1)
        left = remaining_distance(
            np.linalg.norm(points[:, p] - points[:, 0], axis=1),
            late,
            np.maximum(count - p, 1) / p,
            size,
            floor=1e-3 * setting.tolerance * (1 + size),  # returns are as exact as the integration, no more
        )
        hit = (count >= p) & (left <= setting.tolerance * (1 + size))
        durations[hit] = (times[each, count] - times[each, count - p])[hit]
    on = np.flatnonzero(np.isfinite(durations))
    if not len(on):
        return [], rows
    longest = durations[on].max() / (CYCLE_POINTS * float(dt))
    substeps = 1 << max(0, int(np.ceil(np.log2(longest))))
    orbits, products = in_batches(
        lambda h, x, t: sample_period(system, h, x, t, CYCLE_POINTS, substeps),
        (points[each, count][on], inputs[rows[on]], durations[on].astype(final.dtype)),
        (CYCLE_POINTS + d) * d,
    )
    spacing = np.linalg.norm(np.diff(orbits, axis=1), axis=2).max(axis=1)
    owner = _same_sets(orbits, inputs[rows[on]], spacing, durations[on], setting.unique_distance)
    chosen = np.unique(owner)
    with np.errstate(divide="ignore"):
        exponents = np.log(np.abs(multipliers(products[chosen]))) / durations[on][chosen, None]
    found = Found(
        "limit cycle",
        durations[on][chosen],
        list(orbits[chosen]),
        exponents[:, : min(d, 3)],
        rows[on[chosen]],
        [rows[on[owner == c]] for c in chosen],
    )
    return [found], np.delete(rows, on)


def wandering(setting: Setting, final: Float[np.ndarray, "n d"], rows: Int[np.ndarray, "m"]) -> list[Found]:
    """Invariant circles, quasi-periodic and chaotic motion; states of `rows` in none of these are unsettled."""
    system, d = setting.system, final.shape[1]
    exponents, errors = setting.lyapunov(final[rows], setting.inputs[rows], min(d, 3))
    time = setting.num_steps * float(setting.dt)
    growth = exponents * time
    room = max(256, 1 << ((ORBIT_ENTRIES // (len(rows) * d)).bit_length() - 1))
    samples = min(setting.num_steps, SAMPLES, room)
    stride = np.int32(max(1, setting.num_steps // samples) if system.flow else 1)
    (orbits,) = in_batches(
        lambda h, x: (record(system, h, x, setting.dt, stride, samples),),
        (final[rows], setting.inputs[rows]),
        samples * d,
    )
    usable = np.isfinite(exponents).any(axis=1) & np.isfinite(orbits).all(axis=(1, 2))
    chaotic = usable & (growth[:, 0] > np.maximum(GROWTH, 3 * errors[:, 0] * time))
    neutral = usable & ~chaotic & (np.abs(growth[:, 0]) <= GROWTH)
    circle, periods = np.zeros(len(rows), bool), np.full(len(rows), np.nan)
    rotation, residuals = np.full((2, len(rows)), np.nan)
    stationary = _is_stationary(orbits)
    tried = np.flatnonzero(neutral & stationary & (not system.flow))
    if len(tried):
        number, curves, passed = repeated_curves(orbits[tried], setting.max_period, CIRCLE_TOLERANCE)
        circle[tried] = passed
        periods[tried], rotation[tried], residuals[tried] = number, curves.rotation_numbers, curves.residuals
    second = np.abs(growth[:, 1]) <= GROWTH if d > 1 else np.zeros(len(rows), bool)
    torus = neutral & stationary & ~circle & second
    found = []
    for kind, of_kind in (("invariant circle", circle), ("quasi-periodic", torus), ("chaotic", chaotic)):
        some = np.flatnonzero(of_kind)
        if not len(some):
            continue
        is_circle, shown, gaps = kind == "invariant circle", list(orbits[some]), None
        if is_circle:
            orders = curves.orders[np.searchsorted(tried, some)]
            shown = [cloud[order[order >= 0]] for cloud, order in zip(shown, orders, strict=True)]
            gaps = np.array([np.linalg.norm(curve - np.roll(curve, 1, axis=0), axis=1).max() for curve in shown])
        owner = _same_sets(orbits[some], setting.inputs[rows[some]], gaps, None, setting.unique_distance)
        chosen = np.unique(owner)
        picked = some[chosen]
        nothing = np.full(len(chosen), np.nan)
        found.append(
            Found(
                kind,
                periods[picked] if is_circle else nothing,
                [shown[c] for c in chosen],
                exponents[picked],
                rows[picked],
                [rows[some[owner == c]] for c in chosen],
                rotation[picked] if is_circle else nothing,
                residuals[picked] if is_circle else nothing,
            )
        )
    return found


def _same_sets(
    clouds: Float[np.ndarray, "n points d"],
    inputs: Float[np.ndarray, "n U"],
    reach: Float[np.ndarray, "n"] | None,
    durations: Float[np.ndarray, "n"] | None,
    distance: float,
) -> Int[np.ndarray, "n"]:
    """For each set of points, the index of the one that stands for it: the first among whose points its own lie.

    With a `reach` all points must lie that near; without, half of them as near as their tenth neighbours usually are, as
    in two samples of one chaotic set.
    """
    n, points, d = clouds.shape
    queries = clouds[:, np.linspace(0, points - 1, QUERIES).astype(int)]
    owner = np.full(n, -1)
    while (owner < 0).any():
        waiting = np.flatnonzero(owner < 0)
        i = waiting[0]
        close = np.linalg.norm(inputs[waiting] - inputs[i], axis=1) <= distance
        if durations is not None:
            close &= np.abs(durations[waiting] - durations[i]) <= 1e-3 * durations[i]
        waiting = waiting[close]
        batch = max(1, 4_000_000 // (QUERIES * points))
        parts = [queries[waiting[a : a + batch]].reshape(-1, d) for a in range(0, len(waiting), batch)]
        nearest = np.concatenate([cdist(part, clouds[i]).min(axis=1) for part in parts]).reshape(-1, QUERIES)
        if reach is None:
            usual = np.median(np.sort(cdist(queries[i], clouds[i]), axis=1)[:, NEIGHBOUR])
            same = np.median(nearest, axis=1) <= max(distance, usual)
        else:
            same = nearest.max(axis=1) <= max(distance, reach[i])
        owner[waiting[same]] = i
        owner[i] = i
    return owner


def _is_stationary(orbits: Float[np.ndarray, "n time d"]) -> Bool[np.ndarray, "n"]:
    """Whether the first and the second half of each orbit have about the same mean and size."""
    halves = np.array_split(orbits, 2, axis=1)
    (first, second), sizes = [h.mean(axis=1) for h in halves], [np.sqrt(h.var(axis=1).sum(axis=1)) for h in halves]
    shift = np.linalg.norm(first - second, axis=1)
    return (shift <= 0.1 * sizes[1]) & (np.abs(sizes[0] - sizes[1]) <= 0.1 * sizes[1])
