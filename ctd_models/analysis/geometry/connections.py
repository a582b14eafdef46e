"""Connections between fixed points: where the unstable directions of each lead."""

import dataclasses
from collections import Counter
from collections.abc import Callable
from typing import Any, no_type_check

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from ctd_models.analysis.fixed_points.points import FixedPoints
from ctd_models.analysis.geometry.outcomes import check_numbers, check_points, follow, same_inputs, sample
from ctd_models.analysis.geometry.transitions import TransitionGraph
from ctd_models.analysis.orbits.simulation import step_duration
from ctd_models.analysis.systems import padded_rows, precision, prepare


@dataclasses.dataclass(frozen=True, repr=False)
class Connections:
    """Trajectories out of unstable points, one for each direction; slices and masks choose among them."""

    sources: Int[np.ndarray, "m"]
    """Index of the point each one leaves."""
    modes: Int[np.ndarray, "m"]
    """Mode along which it leaves, an index into the point's eigenvalues; −1 for a random combination of unstable modes."""
    angles: Float[np.ndarray, "m"]
    """Phase in the plane of a complex pair [rad]; of a real mode 0 forward and π backward."""
    directions: Float[np.ndarray, "m d"]
    """Unit vector in which it leaves. Forward along a real mode is where its largest entry is positive."""
    targets: Int[np.ndarray, "m"]
    """Index of the point where it ends; −1 where at none of the points."""
    outcomes: np.ndarray
    """[m] texts: "arrived" at the target, or still moving "near" it (a stable one); without a target a "cycle", an
    "other point" that is not among the points, "diverged" or "unsettled"."""
    times: Float[np.ndarray, "m"]
    """Time until then: steps of a map, the unit of `dt` of a flow."""
    periods: Float[np.ndarray, "m"]
    """Time of one turn where the outcome is "cycle" (or almost one, of a quasi-periodic orbit), NaN elsewhere."""
    trajectories: Float[np.ndarray, "m s d"]
    """States on the way, from beside the source to the end."""
    sample_times: Float[np.ndarray, "m s"]
    """Time of each of these states."""
    num_unstable: Int[np.ndarray, "p"]
    """Number of unstable modes of every point."""

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, index: Any) -> "Connections":
        index = np.atleast_1d(np.arange(len(self))[index])
        names = [field.name for field in dataclasses.fields(self) if field.name != "num_unstable"]
        return dataclasses.replace(self, **{name: getattr(self, name)[index] for name in names})

    def as_graph(self) -> Int[np.ndarray, "p p"]:
        """How many directions out of point i lead to point j."""
        graph = np.zeros((len(self.num_unstable), len(self.num_unstable)), int)
        found = self.targets >= 0
        np.add.at(graph, (self.sources[found], self.targets[found]), 1)
        return graph

    def transition_graph(self) -> TransitionGraph:
        """The memories that each saddle with one unstable mode connects, and all other connections."""
        stable = np.append(self.num_unstable == 0, False)  # target −1 is no memory
        simple = (self.modes == 0) & (self.num_unstable[self.sources] == 1)
        forward, backward = simple & (self.angles == 0), simple & (self.angles > 0)
        saddles = np.flatnonzero(self.num_unstable == 1)
        sides = np.full((2, len(self.num_unstable)), -1)
        times = np.full((2, len(self.num_unstable)), np.nan)
        for side, chosen in enumerate((forward, backward)):
            sides[side, self.sources[chosen]] = self.targets[chosen]
            times[side, self.sources[chosen]] = self.times[chosen]
        complete = stable[sides[:, saddles]].all(axis=0)
        return TransitionGraph(
            num_unstable=self.num_unstable,
            saddles=saddles[complete],
            memories=sides[:, saddles[complete]].T,
            times=times[:, saddles[complete]].T,
            incomplete=saddles[~complete],
            connections=self.as_graph(),
        )

    def __repr__(self) -> str:
        counts = ", ".join(f"{count:,} {outcome}" for outcome, count in Counter(self.outcomes.tolist()).most_common())
        unstable = len(np.unique(self.sources))
        return (
            f"Connections: {len(self):,} directions out of {unstable:,} unstable points\n  outcomes: {counts or 'none'}"
        )


@no_type_check  # it checks its arguments itself
def saddle_connections(
    F: Callable[..., Any],
    points: FixedPoints,
    inputs: Float[Any, "*n U"] | None = None,
    *,
    kind: str | None = None,
    dt: float | None = None,
    epsilon: float = 1e-3,
    num_steps: int = 2000,
    num_phases: int = 8,
    num_combinations: int = 0,
    key: Any = None,
    arrival: float = 1e-5,
    radius: float | None = None,
    num_samples: int = 100,
    dtype: Any = np.float64,
) -> Connections:
    """Where the unstable directions of each point lead: the unstable manifolds, followed by simulation.

    From h* a trajectory starts at h* + ε v: of every growing real mode both ways, v = ±r; of every growing complex pair
    in several phases in its plane; where more than one mode grows, on request also in random directions of the growing
    modes' space. All of them run at once. One has arrived where it comes within `arrival` of another point, or of its
    source after it had left. That a trajectory ends at a saddle is an exact connection, such as symmetry makes; beware
    that rounding grows by |λ| a step there, and that only distances well above it tell an arrival from a close passage.

    Args:
        F: the function whose points these are.
        points: linearised fixed points, stable ones too: they are the targets.
        inputs: None: the points' own; [U] for all, or [n, U], one per point. Only points of one input are connected.
        kind: "map" or "flow"; None: that of the points.
        dt: step of a flow, in its unit of time.
        epsilon: distance ε from the point at the start [state units].
        num_steps: most steps taken.
        num_phases: directions in the plane of a complex pair.
        num_combinations: random directions at each point with more than one unstable mode.
        key: typed JAX key of these random directions.
        arrival: distance from a point within which a trajectory has arrived there [state units].
        radius: distance from a stable point within which a trajectory that is still moving at the end counts as near it;
            None: a tenth of the point's distance from the nearest other one.
        num_samples: states kept of each trajectory.
        dtype: precision.

    Raises:
        ValueError, TypeError: arguments that do not fit, before anything is compiled.
    """
    check_points(points)
    numbers = {"epsilon": epsilon, "num_steps": num_steps, "num_phases": num_phases, "arrival": arrival}
    check_numbers(**numbers, radius=radius, num_samples=num_samples)
    if num_samples < 2:
        raise ValueError(f"num_samples must be at least 2, got {num_samples}")
    if num_combinations and key is None:
        raise ValueError("num_combinations needs key=, a typed JAX key such as jax.random.key(0)")
    if arrival >= epsilon:
        raise ValueError(f"arrival ({arrival}) must be smaller than epsilon ({epsilon})")
    kind = kind or points.kind
    dt = step_duration(kind, dt, dtype)
    if inputs is None:
        inputs = points.inputs
    system, flat, rows = prepare(F, points.unravel(points.states), inputs, kind=kind, dtype=dtype, what="points")
    with precision(dtype):
        sources, modes, angles, directions = _directions(points, kind, num_phases, num_combinations, key)
        if len(sources) == 0:
            return _empty(points, flat.shape[1], num_samples)
        starts = (flat[sources] + epsilon * directions).astype(flat.dtype)
        if points.inputs is None or points.inputs is inputs:
            allowed = same_inputs(rows[sources], dataclasses.replace(points, inputs=rows))
        else:
            allowed = same_inputs(rows[sources], points)
        given = system, starts, rows[sources], dt
        limits = allowed, sources, arrival, 10 * epsilon, radius
        ends = follow(*given, int(num_steps), points, *limits)
        padded = padded_rows(len(starts))
        samples = sample(system, starts[padded], rows[sources][padded], dt, ends.steps[padded], int(num_samples))
        trajectories, taken = (np.asarray(values)[: len(starts)] for values in samples)
    return Connections(
        sources=sources,
        modes=modes,
        angles=angles,
        directions=directions,
        targets=ends.targets,
        outcomes=ends.outcomes,
        times=ends.steps * float(dt),
        periods=ends.periods * float(dt),
        trajectories=trajectories,
        sample_times=taken * float(dt),
        num_unstable=points.num_unstable,
    )


def _directions(
    points: FixedPoints, kind: str, num_phases: int, num_combinations: int, key: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(sources, modes, angles, unit vectors) of all ways out, by source."""
    values, vectors = points.eigenvalues, np.swapaxes(points.right_eigenvectors, 1, 2)  # [n, mode, d]
    growing = values.real > 0 if kind == "flow" else np.abs(values) > 1
    real = growing & (values.imag == 0)
    found = []
    source, mode = np.nonzero(real)
    if len(source):
        along = vectors[source, mode].real
        largest = np.take_along_axis(along, np.abs(along).argmax(axis=1)[:, None], axis=1)
        along = along * np.sign(largest)
        for angle, sign in ((0.0, 1.0), (np.pi, -1.0)):
            found.append((source, mode, np.full(len(source), angle), sign * along))
    source, mode = np.nonzero(growing & (values.imag > 0))
    if len(source):
        first = vectors[source, mode].real
        first = first / np.linalg.norm(first, axis=1, keepdims=True)
        second = vectors[source, mode].imag
        second = second - (second * first).sum(axis=1, keepdims=True) * first
        second = second / np.linalg.norm(second, axis=1, keepdims=True)
        for angle in 2 * np.pi * np.arange(num_phases) / num_phases:
            out = np.cos(angle) * first + np.sin(angle) * second
            found.append((source, mode, np.full(len(source), angle), out))
    source = np.repeat(np.flatnonzero(points.num_unstable > 1), num_combinations)
    if len(source):
        basis = np.where((values.imag < 0)[:, :, None], vectors.imag, vectors.real) * growing[:, :, None]
        weights = np.asarray(jax.random.normal(key, (len(source), basis.shape[1]), jnp.result_type(float)))
        out = np.einsum("mk,mkd->md", weights, basis[source])
        found.append((source, np.full(len(source), -1), np.zeros(len(source)), out))
    if not found:
        return np.zeros(0, int), np.zeros(0, int), np.zeros(0), np.zeros((0, points.states.shape[1]))
    sources, modes, angles, out = (np.concatenate(part) for part in zip(*found, strict=True))
    order = np.lexsort((angles, np.where(modes < 0, values.shape[1], modes), sources))
    out = out[order] / np.linalg.norm(out[order], axis=1, keepdims=True)
    return sources[order], modes[order], angles[order], out


def _empty(points: FixedPoints, size: int, num_samples: int) -> Connections:
    none, numbers = np.zeros(0, int), np.zeros(0)
    return Connections(
        sources=none,
        modes=none,
        angles=numbers,
        directions=np.zeros((0, size)),
        targets=none,
        outcomes=np.zeros(0, "U11"),
        times=numbers,
        periods=numbers,
        trajectories=np.zeros((0, num_samples, size)),
        sample_times=np.zeros((0, num_samples)),
        num_unstable=points.num_unstable,
    )
