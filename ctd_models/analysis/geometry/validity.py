"""How far from a point its linearisation may be trusted."""

import dataclasses
from collections.abc import Callable
from typing import Any, no_type_check

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy.spatial import cKDTree

from ctd_models.analysis.fixed_points.points import FixedPoints
from ctd_models.analysis.geometry.outcomes import check_numbers, check_points
from ctd_models.analysis.systems import System, padded_rows, precision, prepare


@dataclasses.dataclass(frozen=True, repr=False)
class Validity:
    """Error of the linear prediction against the distance from each point; slices and masks choose among the points."""

    distances: Float[np.ndarray, "r"]
    """Distances ‖δ‖ from the points, rising [state units]."""
    median_errors: Float[np.ndarray, "n r"]
    """‖F(h + δ) − F(h) − Jδ‖ / ‖δ‖, median over random directions."""
    max_errors: Float[np.ndarray, "n r"]
    """The same, largest over random directions."""
    median_relative_errors: Float[np.ndarray, "n r"]
    """‖F(h + δ) − F(h) − Jδ‖ / ‖Jδ‖, median over random directions."""
    max_relative_errors: Float[np.ndarray, "n r"]
    """The same, largest over random directions."""
    mode_errors: Float[np.ndarray, "n r m"]
    """‖F(h + δ) − F(h) − Jδ‖ / ‖δ‖ along the leading modes, the larger of both ways."""
    mode_relative_errors: Float[np.ndarray, "n r m"]
    """The same relative to ‖Jδ‖."""
    radii: Float[np.ndarray, "n"]
    """Distance within which `max_relative_errors` stays below the threshold, interpolated; 0 where it is above it at the
    smallest distance already, infinite where it never is [state units]."""
    median_radii: Float[np.ndarray, "n"]
    """The same for `median_relative_errors`."""
    mode_radii: Float[np.ndarray, "n m"]
    """The same for each of the leading modes."""
    threshold: float
    """Largest relative error of a linearisation that is trusted."""

    def __len__(self) -> int:
        return len(self.radii)

    def __getitem__(self, index: Any) -> "Validity":
        index = np.atleast_1d(np.arange(len(self))[index])
        names = [f.name for f in dataclasses.fields(self) if f.name not in ("distances", "threshold")]
        return dataclasses.replace(self, **{name: getattr(self, name)[index] for name in names})

    def __repr__(self) -> str:
        within = f"{100 * self.threshold:.3g} %"
        lines = [f"Validity: {len(self):,} points, distances {self.distances[0]:.3g} to {self.distances[-1]:.3g}"]
        if len(self):
            below, beyond = (self.radii == 0).sum(), np.isinf(self.radii).sum()
            lines.append(f"  error stays below {within}: up to a median distance of {np.median(self.radii):.3g}")
            lines.append(f"  {below:,} points exceed it at the smallest distance, {beyond:,} at none")
        return "\n".join(lines)


@no_type_check  # it checks its arguments itself
def linear_validity(
    F: Callable[..., Any],
    points: FixedPoints,
    inputs: Float[Any, "*n U"] | None = None,
    *,
    distances: Float[Any, "r"],
    key: Any,
    num_directions: int = 64,
    num_modes: int = 2,
    threshold: float = 0.1,
    kind: str | None = None,
    dtype: Any = np.float64,
) -> Validity:
    """Error of the linear prediction at growing distances from each point, and the radius within which it is small.

    At h + δ the linearisation predicts F(h) + Jδ. For small δ its error is ½ ‖F''[δ, δ]‖, so that it grows in proportion
    to the distance; both forms of the error, per ‖δ‖ and per ‖Jδ‖, do.

    Args:
        F: the function whose points these are.
        points: linearised points.
        inputs: None: the points' own; [U] for all, or [n, U], one per point.
        distances: positive and rising [state units].
        key: typed JAX key of the random directions, which are the same at all points.
        num_directions: random directions, uniform on the sphere.
        num_modes: leading modes along which the error is measured as well; of a complex mode along its real part.
        threshold: largest relative error of a linearisation that is trusted.
        kind: "map" or "flow"; None: that of the points.
        dtype: precision.

    Raises:
        ValueError, TypeError: arguments that do not fit, before anything is compiled.
    """
    check_points(points)
    check_numbers(num_directions=num_directions, threshold=threshold)
    distances = np.asarray(distances, dtype)
    if distances.ndim != 1 or len(distances) == 0 or not (distances > 0).all() or not (np.diff(distances) > 0).all():
        raise ValueError(f"distances must be positive and rising, [r], got {distances}")
    size = points.states.shape[1]
    if not 0 <= num_modes <= size:
        raise ValueError(f"num_modes must lie in 0 … {size}, got {num_modes}")
    kind, inputs = kind or points.kind, points.inputs if inputs is None else inputs
    system, flat, rows = prepare(F, points.unravel(points.states), inputs, kind=kind, dtype=dtype, what="points")
    modes = np.swapaxes(points.right_eigenvectors[:, :, :num_modes], 1, 2).real.astype(dtype)
    modes = modes / np.maximum(np.linalg.norm(modes, axis=2, keepdims=True), np.finfo(dtype).tiny)
    padded = padded_rows(len(flat))
    with precision(dtype):
        directions = jax.random.normal(key, (int(num_directions), size), dtype)
        directions = directions / jnp.linalg.norm(directions, axis=1, keepdims=True)
        given = system, flat[padded], rows[padded], directions, modes[padded], distances
        errors, relative, along, relative_along = (np.asarray(part)[: len(flat)] for part in _errors(*given))
    median, largest = np.median(relative, axis=2), relative.max(axis=2)
    return Validity(
        distances=distances,
        median_errors=np.median(errors, axis=2),
        max_errors=errors.max(axis=2),
        median_relative_errors=median,
        max_relative_errors=largest,
        mode_errors=along,
        mode_relative_errors=relative_along,
        radii=_radii(distances, largest, threshold),
        median_radii=_radii(distances, median, threshold),
        mode_radii=_radii(distances, np.swapaxes(relative_along, 1, 2), threshold),
        threshold=float(threshold),
    )


@no_type_check  # it checks its arguments itself
def linear_prediction(
    points: FixedPoints,
    states: Any,
    inputs: Float[Any, "*m U"] | None = None,
    *,
    nearest: Int[Any, "m"] | None = None,
) -> tuple[Float[np.ndarray, "m d"], Int[np.ndarray, "m"]]:
    """What the linearisation at the nearest point says about states, one step ahead, and which point that is.

    Of a map the next state, h* + J (h − h*) + B (x − x*); of a flow the derivative, J (h − h*) + B (x − x*). The points
    are taken as standing still.

    Args:
        points: linearised points.
        states: [m, d], or a pytree of arrays [m, ...].
        inputs: [U] or [m, U], input of each state; None: that of the point.
        nearest: index of the point to use for each state; None: the nearest.

    Raises:
        ValueError, TypeError: arguments that do not fit.
    """
    check_points(points)
    leaves = [np.asarray(leaf, float) for leaf in jax.tree.leaves(states)]
    flat = np.concatenate([leaf.reshape(len(leaf), -1) for leaf in leaves], axis=1)
    size = points.states.shape[1]
    if flat.shape[1] != size:
        raise ValueError(f"expected states [m, {size}] as the points have, got {[leaf.shape for leaf in leaves]}")
    nearest = cKDTree(points.states).query(flat)[1] if nearest is None else np.asarray(nearest)
    if nearest.shape != flat.shape[:1] or ((nearest < 0) | (nearest >= len(points))).any():
        raise ValueError(f"nearest must hold {len(flat)} indices below {len(points)}, got {nearest}")
    offset = flat - points.states[nearest]
    predicted = np.einsum("mij,mj->mi", points.jacobians[nearest], offset)
    if inputs is not None:
        if points.input_jacobians is None:
            raise ValueError("the points have no inputs, but inputs are given")
        change = (
            np.broadcast_to(np.asarray(inputs, float), (len(flat), points.inputs.shape[1])) - points.inputs[nearest]
        )
        predicted = predicted + np.einsum("miu,mu->mi", points.input_jacobians[nearest], change)
    return predicted + (0 if points.kind == "flow" else points.states[nearest]), nearest


@jax.jit
def _errors(
    system: System,
    states: Float[Array, "n d"],
    inputs: Float[Array, "n U"],
    directions: Float[Array, "k d"],
    modes: Float[Array, "n m d"],
    distances: Float[Array, "r"],
):
    """(errors, relative errors [n, r, k], along modes [n, r, m], relative along modes [n, r, m]), point after point."""

    def at(point):
        state, given, modes = point

        def error(distance, direction):
            value, slope = jax.jvp(lambda h: system.step(h, given), (state,), (direction,))
            missed = jnp.linalg.norm(system.step(state + distance * direction, given) - value - distance * slope)
            tiny = jnp.finfo(state.dtype).tiny
            return missed / distance, missed / jnp.maximum(distance * jnp.linalg.norm(slope), tiny)

        every = jax.vmap(jax.vmap(error, (None, 0)), (0, None))
        ways = [every(distances, sign * modes) for sign in (1.0, -1.0)]
        return *every(distances, directions), *(jnp.maximum(*pair) for pair in zip(*ways, strict=True))

    return jax.lax.map(at, (states, inputs, modes))


def _radii(distances: Float[np.ndarray, "r"], errors: Float[np.ndarray, "*batch r"], threshold: float) -> np.ndarray:
    """Where the errors first cross the threshold, interpolated between distances."""
    above = errors > threshold
    first = above.argmax(axis=-1)
    before = np.maximum(first - 1, 0)
    low = np.take_along_axis(errors, before[..., None], -1)[..., 0]
    high = np.take_along_axis(errors, first[..., None], -1)[..., 0]
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(high > low, (threshold - low) / (high - low), 0.0)
    crossed = distances[before] + share * (distances[first] - distances[before])
    return np.where(~above.any(axis=-1), np.inf, np.where(first == 0, 0.0, crossed))
