"""First-order dynamics around points: Jacobians and their modes."""

import dataclasses
import warnings
from collections.abc import Callable
from typing import Any, no_type_check

import jax
import numpy as np
from jaxtyping import Array, Float

from ctd_models.analysis.fixed_points.assessment import in_batches, rounding_speed
from ctd_models.analysis.fixed_points.methods import DENSE_LIMIT
from ctd_models.analysis.fixed_points.modes import eigendecomposition, leading_modes
from ctd_models.analysis.fixed_points.points import FixedPoints
from ctd_models.analysis.systems import System, precision, prepare

ROUNDING = 1e-10  # growth up to which a mode counts as not growing
FEW_MODES = 10  # leading modes of states too large for all of them


@no_type_check  # it checks its arguments itself
def linearize(
    F: Callable[..., Any],
    points: FixedPoints | Any,
    inputs: Float[Any, "*n U"] | None = None,
    *,
    kind: str | None = None,
    dt: float | None = None,
    num_modes: int | None = None,
    dtype: Any = np.float64,
) -> FixedPoints:
    """The linear dynamics at each point: δh' = J δh + B δx, with the modes of J.

    Args:
        F: the function whose points these are, as in `find_fixed_points`.
        points: `FixedPoints`, whose inputs and kind are used unless others are given, or states [n, d] (or a pytree).
        inputs: None, [U] for all, or [n, U].
        kind: "map" (the default for plain states) or "flow".
        dt: duration of a step of a map [s], kept with the result; a flow has its own unit of time.
        num_modes: k, how many of the leading modes are wanted; no Jacobian to the state is then formed or kept. None: all,
            or 10 of states of more than 500 units. One more where k would split a conjugate pair.
        dtype: precision of the derivatives and their decomposition.

    Returns:
        The points with `jacobians`, `input_jacobians`, `condition_numbers`, `eigenvalues`, `right_eigenvectors`,
        `left_eigenvectors` and `num_unstable`; from these follow `time_constants`, `frequencies` and `stability`.

    Raises:
        ValueError, TypeError: arguments that do not fit.
    """
    given = points if isinstance(points, FixedPoints) else None
    if dt is not None and not 0 < dt < np.inf:
        raise ValueError(f"dt must be positive [s], got {dt}")
    if given is not None:
        kind = kind or given.kind
        inputs = given.inputs if inputs is None else inputs
        if len(given) == 0:
            return _empty(given, inputs, dt)
        states = given.unravel(given.states)
    else:
        kind, states = kind or "map", points
    with precision(dtype):
        system, flat, rows = prepare(F, states, inputs, kind=kind, dtype=dtype, what="points")
        size = flat.shape[1]
        if num_modes is None and size > DENSE_LIMIT:
            num_modes = FEW_MODES
        if num_modes is not None and not 1 <= num_modes <= size:
            raise ValueError(f"num_modes must lie in 1 … {size}, got {num_modes}")
        if num_modes is not None and num_modes < size - 4:
            parts = in_batches(_input_derivatives, system, flat, rows, size * max(16, rows.shape[1]))
            jacobians, conditions, (input_jacobians, speeds) = None, None, parts
            eigenvalues, right, left = leading_modes(system, flat, rows, num_modes)
        else:
            parts = in_batches(_derivatives, system, flat, rows, size * (size + rows.shape[1]))
            jacobians, input_jacobians, speeds = parts
            conditions = np.linalg.cond(jacobians - (np.eye(size) if kind == "map" else 0))
            eigenvalues, right, left = eigendecomposition(jacobians, kind)
    scale = np.abs(eigenvalues).max(axis=1, keepdims=True, initial=0.0)
    growing = eigenvalues.real > ROUNDING * scale if kind == "flow" else np.abs(eigenvalues) > 1 + ROUNDING
    if given is None:
        given = FixedPoints(states=flat, speeds=speeds, structure=system.structure)
    elif given.tolerance is not None and (speeds > np.maximum(10 * given.tolerance, rounding_speed(flat))).any():
        warnings.warn(
            f"these do not seem to be points of this function: their speed q is up to {speeds.max():.1e}, and they were "
            f"found with a tolerance of {given.tolerance:.1e}",
            stacklevel=2,
        )
        given = dataclasses.replace(given, classes=None, hits=None, forward=None)
    return dataclasses.replace(
        given,
        speeds=speeds,
        inputs=rows if system.has_inputs else None,
        jacobians=jacobians,
        input_jacobians=input_jacobians if system.has_inputs else None,
        condition_numbers=conditions,
        eigenvalues=eigenvalues,
        right_eigenvectors=right,
        left_eigenvectors=left,
        num_unstable=growing.sum(axis=1),
        kind=kind,
        dt=given.dt if dt is None else dt,
    )


@jax.jit
def _derivatives(system: System, states: Float[Array, "n d"], inputs: Float[Array, "n U"]):
    jacobians = jax.vmap(jax.jacfwd(system.step, argnums=(0, 1)))(states, inputs)
    return *jacobians, jax.vmap(system.speed)(states, inputs)


@jax.jit
def _input_derivatives(system: System, states: Float[Array, "n d"], inputs: Float[Array, "n U"]):
    return jax.vmap(jax.jacfwd(system.step, argnums=1))(states, inputs), jax.vmap(system.speed)(states, inputs)


def _empty(points: FixedPoints, inputs: Any, dt: float | None) -> FixedPoints:
    d = points.states.shape[1]
    complex_matrix = np.zeros((0, d, d), complex)
    return dataclasses.replace(
        points,
        jacobians=np.zeros((0, d, d)),
        input_jacobians=None if inputs is None else np.zeros((0, d, np.shape(inputs)[-1])),
        condition_numbers=np.zeros(0),
        eigenvalues=np.zeros((0, d), complex),
        right_eigenvectors=complex_matrix,
        left_eigenvectors=complex_matrix,
        num_unstable=np.zeros(0, int),
        dt=points.dt if dt is None else dt,
    )
