"""First-order dynamics around points: Jacobians and their modes."""

import dataclasses
from collections.abc import Callable
from typing import Any, no_type_check

import jax
import numpy as np
from jaxtyping import Array, Complex, Float

from ctd_models.analysis.fixed_points.points import FixedPoints
from ctd_models.analysis.fixed_points.solvers import POOL_ENTRIES
from ctd_models.analysis.systems import System, precision, prepare


@no_type_check  # it checks its arguments itself
def linearize(
    F: Callable[..., Any],
    points: FixedPoints | Any,
    inputs: Float[Any, "*n U"] | None = None,
    *,
    kind: str | None = None,
    dt: float | None = None,
    dtype: Any = np.float64,
) -> FixedPoints:
    """The linear dynamics at each point: δh' = J δh + B δx, with the modes of J.

    Args:
        F: the function whose points these are, as in `find_fixed_points`.
        points: `FixedPoints`, whose inputs and kind are used unless others are given, or states [n, d] (or a pytree).
        inputs: None, [U] for all, or [n, U].
        kind: "map" (the default for plain states) or "flow".
        dt: duration of a step [s], kept with the result.
        dtype: precision of the derivatives and their decomposition.

    Returns:
        The points with `jacobians`, `input_jacobians`, `eigenvalues`, `right_eigenvectors`, `left_eigenvectors` and
        `num_unstable`.

    Raises:
        ValueError, TypeError: arguments that do not fit.
    """
    given = points if isinstance(points, FixedPoints) else None
    if dt is not None and not dt > 0:
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
        jacobians, input_jacobians, speeds = _in_chunks(system, flat, rows)
    eigenvalues, right, left = eigendecomposition(jacobians, kind)
    growing = eigenvalues.real > 0 if kind == "flow" else np.abs(eigenvalues) > 1
    if given is None:
        given = FixedPoints(states=flat, speeds=speeds, structure=system.structure)
    return dataclasses.replace(
        given,
        speeds=speeds,
        inputs=rows if system.has_inputs else None,
        jacobians=jacobians,
        input_jacobians=input_jacobians if system.has_inputs else None,
        eigenvalues=eigenvalues,
        right_eigenvectors=right,
        left_eigenvectors=left,
        num_unstable=growing.sum(axis=1),
        kind=kind,
        dt=given.dt if dt is None else dt,
    )


def eigendecomposition(
    matrices: Float[np.ndarray, "n d d"], kind: str = "map"
) -> tuple[Complex[np.ndarray, "n d"], Complex[np.ndarray, "n d d"], Complex[np.ndarray, "n d d"]]:
    """(eigenvalues, right, left eigenvectors as columns) of real matrices, the leading mode first.

    Modes of a map are ordered by falling |λ|, those of a flow by falling real part; conjugate pairs stay adjacent, the
    positive imaginary part first. Right eigenvectors have unit length, left ones are biorthogonal to them: LᵀR = I.
    """
    values, right = np.linalg.eig(matrices)
    values, right = values.astype(complex), right.astype(complex)
    leading = values.real if kind == "flow" else np.abs(values)
    order = np.argsort(-leading, axis=1, kind="stable")
    values = np.take_along_axis(values, order, axis=1)
    right = np.take_along_axis(right, order[:, None, :], axis=2)
    left = np.swapaxes(_inverses(right), 1, 2)
    return values, right, left


def _inverses(matrices: Complex[np.ndarray, "n d d"]) -> Complex[np.ndarray, "n d d"]:
    try:
        return np.linalg.inv(matrices)
    except np.linalg.LinAlgError:  # a defective Jacobian has no full set of eigenvectors
        return np.linalg.pinv(matrices)


@jax.jit
def _derivatives(system: System, states: Float[Array, "n d"], inputs: Float[Array, "n U"]):
    jacobians = jax.vmap(jax.jacfwd(system.step, argnums=(0, 1)))(states, inputs)
    return *jacobians, jax.vmap(system.speed)(states, inputs)


def _in_chunks(system: System, states: np.ndarray, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(Jacobians to state, to input, speeds), in batches of few sizes so that other numbers of points compile nothing."""
    count, size = states.shape
    room = max(1, POOL_ENTRIES // (size * (size + inputs.shape[1])))
    batch = min(room, 1 << (count - 1).bit_length())
    parts = []
    for start in range(0, count, batch):
        chosen = np.minimum(np.arange(start, start + batch), count - 1)
        parts.append(jax.device_get(_derivatives(system, states[chosen], inputs[chosen])))
    jacobians, input_jacobians, speeds = (np.concatenate(part)[:count] for part in zip(*parts, strict=True))
    return jacobians, input_jacobians, speeds


def _empty(points: FixedPoints, inputs: Any, dt: float | None) -> FixedPoints:
    d = points.states.shape[1]
    complex_matrix = np.zeros((0, d, d), complex)
    return dataclasses.replace(
        points,
        jacobians=np.zeros((0, d, d)),
        input_jacobians=None if inputs is None else np.zeros((0, d, np.shape(inputs)[-1])),
        eigenvalues=np.zeros((0, d), complex),
        right_eigenvectors=complex_matrix,
        left_eigenvectors=complex_matrix,
        num_unstable=np.zeros(0, int),
        dt=points.dt if dt is None else dt,
    )
