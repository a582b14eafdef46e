"""A first pursuit in float32, where slow points are enough: half the work, and float64 has the last word."""

import dataclasses
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from ctd_models.analysis.fixed_points.assessment import speeds_of
from ctd_models.analysis.fixed_points.pursuit import Outcome, Pursuit
from ctd_models.analysis.fixed_points.solvers import CONVERGED, STALLED
from ctd_models.analysis.systems import prepare

SINGLE_PRECISION = 1e-9  # tolerances from here on can be met in float32


@dataclasses.dataclass(frozen=True)
class Draft:
    """A pursuit in float32, and one in float64 of what it leaves; called like a `Pursuit`."""

    single: Pursuit
    double: Pursuit

    def __call__(self, states: Float[np.ndarray, "n d"], rows: Float[np.ndarray, "n U"]) -> Outcome:
        with jax.enable_x64(False):
            quick = self.single(states.astype(np.float32), rows.astype(np.float32))
        outcome = Outcome(
            quick.states.astype(states.dtype), quick.status, quick.iterations, quick.stalls.astype(states.dtype)
        )
        tolerance = self.double.limits.tolerance
        slow = speeds_of(self.double.system, outcome.states, rows, len(rows)) <= tolerance
        outcome.status[slow] = CONVERGED
        outcome.status[~slow & quick.converged] = STALLED
        rest = np.flatnonzero(~slow & np.isfinite(outcome.states).all(axis=1))
        if len(rest):
            again = self.double(outcome.states[rest], rows[rest])
            outcome.states[rest], outcome.status[rest] = again.states, again.status
            outcome.iterations[rest] += again.iterations
        return outcome


def draft_of(pursuit: Pursuit, F: Any, candidates: Any, inputs: Any) -> Draft | None:
    """The first solver of a float64 pursuit in float32, and its others in float64; None where F insists on float64."""
    if jax.numpy.zeros(()).dtype != np.float64:
        return None
    kind = "flow" if pursuit.system.flow else "map"
    with jax.enable_x64(False):
        try:
            system, *_ = prepare(F, candidates, inputs, kind=kind, dtype=np.float32)
        except (TypeError, ValueError):  # a function that computes in float64 only
            return None
        leaves, structure = jax.tree.flatten(system)
        narrow = [np.asarray(leaf, np.float32) if leaf.dtype == np.float64 else leaf for leaf in leaves]
        system = jax.tree.unflatten(structure, narrow)
    single = dataclasses.replace(pursuit, system=system, solvers=pursuit.solvers[:1])
    double = dataclasses.replace(pursuit, solvers=pursuit.solvers[1:], retries=0, largest_batch=16)
    return Draft(single, double)
