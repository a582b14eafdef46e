"""Limit cycles of flows, stable and unstable, with their Floquet multipliers."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, no_type_check

import numpy as np
from jaxtyping import Bool, Complex, Float, Int

from ctd_models.analysis.orbits.cycle_search import CycleSearch, take
from ctd_models.analysis.orbits.simulation import settle
from ctd_models.analysis.systems import Structure, precision, prepare


@dataclasses.dataclass(frozen=True, repr=False)
class LimitCycles:
    """Limit cycles of a flow, found from many candidates. Slicing, integer arrays and boolean masks choose cycles."""

    states: Float[np.ndarray, "n d"]
    """A flat state on each cycle; `unravel` gives it the model's own form."""
    periods: Float[np.ndarray, "n"]
    """T, in the flow's unit of time; the minimal period."""
    orbits: Float[np.ndarray, "n P d"]
    """P states of each cycle, evenly spaced in time from `states`; one period later the first would come again."""
    multipliers: Complex[np.ndarray, "n m"]
    """Floquet multipliers by falling magnitude, m = d − 1: the factors by which small deviations have grown after one
    period. The one along the flow, which is 1, is not among them. Accurate to `errors` times the largest."""
    trivial_multipliers: Float[np.ndarray, "n"]
    """The multiplier along the flow as it was computed: how far it is from 1 tells the accuracy of the others."""
    monodromies: Float[np.ndarray, "n d d"]
    """Derivative of the state one period later to the state."""
    residuals: Float[np.ndarray, "n"]
    """Largest gap that is left in the orbit, relative to 1 + its largest entry."""
    errors: Float[np.ndarray, "n"]
    """Relative change of the monodromy matrix, or gap that opens, when the integration takes half its steps."""
    hits: Int[np.ndarray, "n"]
    """How many candidates ended at each cycle."""
    candidate_indices: Int[np.ndarray, "n"]
    """Which candidate led to each."""
    iterations: Int[np.ndarray, "n"]
    """Newton steps it took."""
    inputs: Float[np.ndarray, "n U"] | None = None
    """Input held at each; None where the function takes none."""
    dropped: Mapping[str, Int[np.ndarray, "_"]] = dataclasses.field(default_factory=dict)
    """Why candidates are not among the cycles → their indices."""
    num_candidates: int = 0
    """How many candidates were tried."""
    tolerance: float = 0.0
    """The largest gap that counted as closed."""
    structure: Structure | None = None
    """How the model's state lies in the flat one."""

    def __len__(self) -> int:
        return len(self.states)

    def __getitem__(self, index: Any) -> "LimitCycles":
        index = np.atleast_1d(np.arange(len(self))[index])
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return dataclasses.replace(self, **{k: v[index] for k, v in fields.items() if isinstance(v, np.ndarray)})

    @property
    def exponents(self) -> Complex[np.ndarray, "n m"]:
        """Floquet exponents log(μ)/T [1/unit of time]; −∞ where a multiplier is zero within rounding."""
        floor = np.finfo(self.monodromies.dtype).eps * np.linalg.norm(self.monodromies, axis=(1, 2))
        vanishing = np.abs(self.multipliers) <= floor[:, None]
        logarithms = np.log(np.where(vanishing, 1, self.multipliers))
        return np.where(vanishing, -np.inf, logarithms / self.periods[:, None])

    @property
    def num_unstable(self) -> Int[np.ndarray, "n"]:
        """Number of multipliers outside the unit circle."""
        return (np.abs(self.multipliers) > 1).sum(axis=1)

    @property
    def is_stable(self) -> Bool[np.ndarray, "n"]:
        """Whether no deviation grows."""
        return self.num_unstable == 0

    def unravel(self, states: Float[Any, "*n d"]) -> Any:
        """Flat states in the model's own form, with the same leading axes."""
        return states if self.structure is None else self.structure.unravel(states)

    def __repr__(self) -> str:
        n, d = self.states.shape
        lines = [f"LimitCycles: {n:,} in {d} dimensions from {self.num_candidates:,} candidates"]
        if n:
            lines.append(f"  periods: {self.periods.min():.6g} to {self.periods.max():.6g}")
            lines.append(f"  stability: {self.is_stable.sum():,} stable, {(~self.is_stable).sum():,} unstable")
            lines.append(f"  largest gap {self.residuals.max():.1e}, error of integration {self.errors.max():.1e}")
        lost = [f"{len(rows):,} {reason.replace('_', ' ')}" for reason, rows in self.dropped.items() if len(rows)]
        return "\n".join(lines + (["  dropped candidates: " + ", ".join(lost)] if lost else []))


@no_type_check  # it checks its arguments itself
def find_limit_cycles(
    f: Callable[..., Any],
    candidates: Any,
    inputs: Float[Any, "*n U"] | None = None,
    *,
    dt: float,
    max_period: float,
    periods: Float[Any, "*n"] | float | None = None,
    transient: int | None = None,
    return_tolerance: float = 0.3,
    num_points: int = 200,
    num_segments: int = 8,
    steps_per_segment: int = 32,
    tolerance: float | None = None,
    max_iterations: int = 50,
    unique_distance: float = 1e-3,
    dtype: Any = np.float64,
) -> LimitCycles:
    """The periodic orbits of a flow, x(t + T) = x(t), by multiple shooting from many candidates.

    Each candidate runs forward and is watched for a return to where it started; from there Newton's method closes the
    orbit and finds its period, whether the orbit attracts or repels. To find unstable cycles, give many states of a
    chaotic or transient trajectory with `transient=0`, or states near the cycle and a guess of `periods`.

    Args:
        f: `f(state)` or `f(state, input)` → time derivative.
        candidates: states to start from, [n, d] or a pytree of arrays [n, ...].
        inputs: held: None (f takes the state alone), [U] for all, or [n, U].
        dt: step of the runs forward, in the flow's unit of time.
        max_period: longest period of interest, in the same unit.
        periods: guesses of the period, one or [n]; None: from the return of each candidate.
        transient: steps that candidates run before their return is looked for; None: as many as `max_period` takes, or 0
            where `periods` are given.
        return_tolerance: a trajectory returns where it comes this near its beginning, relative to its extent.
        num_points: P, the number of states by which a cycle is described.
        num_segments: S, the pieces of an orbit. More pieces find more unstable orbits; each Newton step costs (S d)³.
        steps_per_segment: Runge-Kutta steps of eighth order in each piece. They are doubled, up to four times, for orbits
            whose monodromy matrix changes by more than 10⁻⁸ when they are (10⁻⁴ in float32).
        tolerance: largest gap, relative to 1 + the largest entry of the orbit; None: 1e-11 in float64, 1e-5 in float32.
        max_iterations: Newton steps per candidate.
        unique_distance: cycles are one when their periods are the same within this fraction, and one's first state lies
            this near the other orbit, relative to its extent.
        dtype: precision.

    Returns:
        The unique cycles. Candidates that did not make it are in `dropped`, by reason: "no_return" (within `max_period`),
        "not_converged", "stalled", "not_finite", "fixed_point" (it ended at one), "too_long" (the period found),
        "duplicate".

    Raises:
        ValueError, TypeError: arguments that do not fit, before anything is compiled.

    Source: Seydel 2010, Practical bifurcation and stability analysis, chapter 7, doi:10.1007/978-1-4419-1740-9.
    """
    sizes = {"num_points": num_points, "num_segments": num_segments, "steps_per_segment": steps_per_segment}
    for name, value in (sizes | {"max_iterations": max_iterations}).items():
        if isinstance(value, bool) or int(value) != value or value < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, got {value}")
    if not 0 < dt < max_period < np.inf:
        raise ValueError(f"expected 0 < dt < max_period, got dt = {dt} and max_period = {max_period}")
    if tolerance is None:
        tolerance = 1e-11 if np.dtype(dtype) == np.float64 else 1e-5
    for name, value in {
        "tolerance": tolerance, "unique_distance": unique_distance, "return_tolerance": return_tolerance
    }.items():  # fmt: skip
        if not value > 0:
            raise ValueError(f"{name} must be positive, got {value}")
    system, states, rows = prepare(f, candidates, inputs, kind="flow", dtype=dtype)
    if states.shape[1] < 2:
        raise ValueError("a flow in one dimension has no limit cycles")
    dt = np.asarray(dt, dtype)
    steps = int(np.ceil(1.05 * max_period / dt))
    if transient is None:
        transient = steps if periods is None else 0
    if isinstance(transient, bool) or int(transient) != transient or transient < 0:
        raise ValueError(f"transient must be a whole number of steps and cannot be negative, got {transient}")
    guesses = None if periods is None else _period_guesses(periods, len(states), max_period, dtype)
    limits = np.asarray([tolerance, 2 * dt, 1.5 * max_period], dtype)
    search = CycleSearch(system, rows, num_segments, steps_per_segment, *limits, max_iterations, dropped={})
    with precision(dtype):
        alive = np.arange(len(states))
        if transient:
            states = settle(f, candidates, inputs, int(transient), kind="flow", dt=float(dt), dtype=dtype)
            alive = search.keep("not_finite", alive, ~np.isfinite(states).all(axis=1))
        if guesses is None:
            alive, guesses = search.guess(states, alive, dt, steps, return_tolerance)
        else:
            guesses = guesses[alive]
        found = search.refine(states[alive], guesses, alive)
        found = take(found, np.argsort(found.gap, kind="stable"))
        found = search.keep("too_long", found, found.pieces.period > max_period)
        owner = search.owners(found, unique_distance)
        first, hits = np.unique(owner, return_counts=True)
        search.keep("duplicate", found.index, ~np.isin(np.arange(len(owner)), first))
        kept = take(found, first)
        orbits = search.samples(kept, np.arange(num_points) / num_points)
    multipliers, trivial = _multipliers(kept.monodromy)
    return LimitCycles(
        states=kept.pieces.nodes[:, 0],
        periods=kept.pieces.period,
        orbits=orbits,
        multipliers=multipliers,
        trivial_multipliers=trivial,
        monodromies=kept.monodromy,
        residuals=kept.gap,
        errors=kept.error,
        hits=hits,
        candidate_indices=kept.index,
        iterations=kept.iterations,
        inputs=rows[kept.index] if system.has_inputs else None,
        dropped={reason: np.array(sorted(indices), int) for reason, indices in search.dropped.items()},
        num_candidates=len(states),
        tolerance=float(tolerance),
        structure=system.structure,
    )


def _period_guesses(periods: Any, count: int, max_period: float, dtype: Any) -> Float[np.ndarray, "n"]:
    periods = np.asarray(periods, dtype)
    if periods.ndim > 1 or (periods.ndim == 1 and len(periods) != count):
        raise ValueError(f"expected periods, one for all or one per candidate [{count}], got shape {periods.shape}")
    periods = np.broadcast_to(periods, (count,))
    bad = ~((periods > 0) & (periods <= max_period))
    if bad.any():
        i = int(np.argmax(bad))
        raise ValueError(f"expected periods in (0, max_period = {max_period}], got {periods[i]} at index {i}")
    return periods


def _multipliers(
    monodromies: Float[np.ndarray, "n d d"],
) -> tuple[Complex[np.ndarray, "n m"], Float[np.ndarray, "n"]]:
    """(multipliers by falling magnitude without the one along the flow, that one)."""
    values = np.linalg.eigvals(monodromies).astype(complex)
    values = np.take_along_axis(values, np.argsort(-np.abs(values), axis=1, kind="stable"), axis=1)
    trivial = np.abs(values - 1).argmin(axis=1)
    others = np.arange(values.shape[1]) != trivial[:, None]
    m = values.shape[1] - 1
    return values[others].reshape(-1, m), values[~others].real
