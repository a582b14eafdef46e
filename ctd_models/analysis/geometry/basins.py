"""Basins of attraction: at which stable point a state ends."""

import dataclasses
from collections import Counter
from collections.abc import Callable
from typing import Any, no_type_check

import numpy as np
from jaxtyping import Float, Int

from ctd_models.analysis.fixed_points.points import FixedPoints
from ctd_models.analysis.geometry.outcomes import check_numbers, check_points, follow, same_inputs
from ctd_models.analysis.orbits.simulation import step_duration
from ctd_models.analysis.systems import precision, prepare


@dataclasses.dataclass(frozen=True, repr=False)
class Basins:
    """Where states end. Slices and masks choose among the states; fractions stay those of all."""

    targets: Int[np.ndarray, "n"]
    """Index of the stable point at which each state ended; −1 where at none."""
    outcomes: np.ndarray
    """[n] texts: "arrived" or "near" a point; "cycle", "other point", "diverged" or "unsettled" where there is none."""
    times: Float[np.ndarray, "n"]
    """Time until then: steps of a map, the unit of `dt` of a flow."""
    fractions: Float[np.ndarray, "p"]
    """Share of the states that ended at each of the points; zero of unstable ones."""
    standard_errors: Float[np.ndarray, "p"]
    """√(f (1 − f) / n), the uncertainty of the fractions where states are independent draws."""

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: Any) -> "Basins":
        index = np.atleast_1d(np.arange(len(self))[index])
        return dataclasses.replace(
            self, targets=self.targets[index], outcomes=self.outcomes[index], times=self.times[index]
        )

    def __repr__(self) -> str:
        counts = ", ".join(f"{count:,} {outcome}" for outcome, count in Counter(self.outcomes.tolist()).most_common())
        lines = [f"Basins: {len(self):,} states, {counts}"]
        for point in np.flatnonzero(self.fractions)[:20]:
            share, error = 100 * self.fractions[point], 100 * self.standard_errors[point]
            lines.append(f"  point {point}: {share:.1f} ± {error:.1f} %")
        return "\n".join(lines)


@no_type_check  # it checks its arguments itself
def basins(
    F: Callable[..., Any],
    states: Any,
    points: FixedPoints,
    inputs: Float[Any, "*n U"] | None = None,
    *,
    kind: str | None = None,
    dt: float | None = None,
    num_steps: int = 2000,
    arrival: float = 1e-3,
    radius: float | None = None,
    dtype: Any = np.float64,
) -> Basins:
    """Which stable point each state ends at, by simulation of all of them at once.

    Args:
        F: the function whose points these are.
        states: [n, d], or a pytree of arrays [n, ...].
        points: linearised fixed points; only stable ones, and of those the ones with a state's input, attract.
        inputs: held while simulating: [U] for all states or [n, U]; None: the points' own where they are all the same.
        kind: "map" or "flow"; None: that of the points.
        dt: step of a flow, in its unit of time.
        num_steps: most steps taken.
        arrival: distance from a stable point within which a state has arrived there [state units].
        radius: distance within which a state that is still moving at the end counts as near a point; None: a tenth of
            that point's distance from the nearest other one.
        dtype: precision.

    Raises:
        ValueError, TypeError: arguments that do not fit, before anything is compiled.
    """
    check_points(points)
    check_numbers(num_steps=num_steps, arrival=arrival, radius=radius)
    kind = kind or points.kind
    dt = step_duration(kind, dt, dtype)
    if inputs is None and points.inputs is not None:
        if np.ptp(points.inputs, axis=0).any():
            raise ValueError("the points have different inputs: pass inputs=, [U] for all states or one per state")
        inputs = points.inputs[0]
    system, flat, rows = prepare(F, states, inputs, kind=kind, dtype=dtype, what="states")
    if flat.shape[1] != points.states.shape[1]:
        raise ValueError(f"expected states of {points.states.shape[1]} entries as the points have, got {flat.shape[1]}")
    allowed = same_inputs(rows, points) & points.is_stable
    with precision(dtype):
        nowhere = np.full(len(flat), -1)
        ends = follow(system, flat, rows, dt, int(num_steps), points, allowed, nowhere, arrival, 0.0, radius)
    fractions = np.bincount(ends.targets[ends.targets >= 0], minlength=len(points)) / len(flat)
    return Basins(
        targets=ends.targets,
        outcomes=ends.outcomes,
        times=ends.steps * float(dt),
        fractions=fractions,
        standard_errors=np.sqrt(fractions * (1 - fractions) / len(flat)),
    )
