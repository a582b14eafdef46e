"""Fixed points, slow points and ghosts, told apart by where the search goes on to from each."""

import dataclasses
from collections.abc import Callable
from typing import Any, no_type_check

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ctd_models.analysis.fixed_points.assessment import in_batches, is_ghost, rounding_speed, speeds_of
from ctd_models.analysis.fixed_points.methods import as_solvers
from ctd_models.analysis.fixed_points.points import FixedPoints
from ctd_models.analysis.fixed_points.pursuit import Pursuit, largest_gain
from ctd_models.analysis.fixed_points.solvers import Limits
from ctd_models.analysis.systems import System, precision, prepare

EXACT_TOLERANCE, NEAR = 1e-20, 10.0


@no_type_check  # it checks its arguments itself
def classify_points(
    F: Callable[..., Any],
    points: FixedPoints | Any,
    inputs: Float[Any, "*n U"] | None = None,
    *,
    kind: str | None = None,
    progress: bool | None = None,
) -> FixedPoints:
    """Says of each point, such as a slow point found with a large tolerance, what it is.

    The search goes on from every point, to full tolerance. A point is

    - "fixed" if that ends at a fixed point next to it, within 10 ‖r‖ / ‖J‖: the same point, but for polishing;
    - "ghost" if it ends in a minimum of q that does not vanish, and q falls to no less than a quarter on the way: what a
      pair of fixed points leaves behind where they have annihilated;
    - "slow" otherwise: q falls on along a slow manifold, to a fixed point or a ghost elsewhere.

    Args:
        F: the function whose points these are, as in `find_fixed_points`.
        points: `FixedPoints`, whose inputs and kind are used unless others are given, or states [n, d] (or a pytree).
        inputs: None, [U] for all, or [n, U].
        kind: "map" (the default for plain states) or "flow".
        progress: show a progress bar; None: only on a terminal.

    Returns:
        The points, in place, with `classes`.

    Raises:
        ValueError, TypeError: arguments that do not fit.
    """
    given = points if isinstance(points, FixedPoints) else None
    if given is not None and len(given) == 0:
        return dataclasses.replace(given, classes=np.zeros(0, "U5"))
    if given is not None:
        kind = kind or given.kind
        inputs = given.inputs if inputs is None else inputs
        points = given.unravel(given.states)
    with precision(np.float64):
        system, states, rows = prepare(F, points, inputs, kind=kind or "map", dtype=np.float64, what="points")
        spread = float(np.linalg.norm(states - states.mean(axis=0), axis=1).mean())
        solvers = as_solvers("auto", None, states.shape[1], EXACT_TOLERANCE)
        limits = Limits(EXACT_TOLERANCE, 0.5 * spread or 1.0)
        outcome = Pursuit(solvers, system, limits, len(states), progress, retries=0)(states, rows, "classes")
        speeds = speeds_of(system, states, rows, len(states))
        (gains,) = in_batches(_gains, system, states, rows, 16 * states.shape[1])
        moved = np.linalg.norm(outcome.states - states, axis=1)
        at_rest = speeds <= rounding_speed(states)
        fixed = at_rest | (outcome.converged & (moved <= NEAR * np.sqrt(2 * speeds) / gains))
        ghost = ~outcome.converged & is_ghost(system, outcome.states, rows)
        ghost &= speeds_of(system, outcome.states, rows, len(states)) >= 0.25 * speeds
    if given is None:
        given = FixedPoints(
            states, speeds, inputs=rows if system.has_inputs else None, kind=kind or "map", structure=system.structure
        )
    return dataclasses.replace(given, classes=np.select([fixed, ghost], ["fixed", "ghost"], "slow"))


@jax.jit
def _gains(system: System, states: Float[Array, "n d"], inputs: Float[Array, "n U"]) -> tuple[Array]:
    def one(state, inputs):
        gain = largest_gain(lambda h: system.residual(h, inputs), state)
        return jnp.maximum(gain, jnp.finfo(state.dtype).tiny)

    return (jax.vmap(one)(states, inputs),)
