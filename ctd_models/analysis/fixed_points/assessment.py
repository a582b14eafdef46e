"""What a point is where a search ended: fixed, slow, a ghost, or a unit that went flat outside of where states live."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ctd_models.analysis.fixed_points.pool import POOL_ENTRIES
from ctd_models.analysis.systems import System

FEW = 64  # states in a batch of what is rarely needed
FLAT = 1e-9  # derivative below which a unit's equation says nothing about its state


def in_batches(
    function: Any, system: System, states: np.ndarray, rows: np.ndarray, entries: int, batch: int | None = None
) -> tuple[np.ndarray, ...]:
    """The arrays that a jitted `function(system, states, rows)` returns, computed in batches of one size, the last filled
    up, so that other numbers of states compile nothing.

    `entries` is what one state needs in memory, in numbers; `batch` the size, where that has room (None: a power of two
    that suits the number of states, at least eight).
    """
    count = len(states)
    room = 1 << max(0, (POOL_ENTRIES // max(1, entries)).bit_length() - 1)
    batch = min(batch or 1 << max(count - 1, 7).bit_length(), room)
    parts = []
    for start in range(0, max(count, 1), batch):
        chosen = np.minimum(np.arange(start, start + batch), count - 1)
        parts.append(jax.device_get(function(system, states[chosen], rows[chosen])))
    return tuple(np.concatenate(part)[:count] for part in zip(*parts, strict=True))


def speeds_of(
    system: System, states: Float[np.ndarray, "n d"], rows: Float[np.ndarray, "n U"], batch: int | None = None
) -> np.ndarray:
    """q of each state; `batch` is the size of a batch of many."""
    if not len(states):
        return np.zeros(0, states.dtype)
    batch = FEW if len(states) <= FEW else batch
    return in_batches(_speeds, system, states, rows, 16 * states.shape[1], batch)[0]


@jax.jit
def _speeds(system: System, states: Float[Array, "n d"], inputs: Float[Array, "n U"]) -> tuple[Array]:
    return (jax.vmap(system.speed)(states, inputs),)


def compile_assessment(system: System, state: Float[np.ndarray, "d"], row: Float[np.ndarray, "U"]) -> None:
    """Compiles what is needed only where searches stall or run away, once for each system."""
    signature = (jax.tree.structure(system), state.shape, row.shape, state.dtype)
    if signature not in _COMPILED:
        _COMPILED.add(signature)
        is_ghost(system, state[None], row[None])
        unit_gains(system, state[None], row[None])


_COMPILED: set[Any] = set()


def rounding_speed(states: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n"]:
    """The speed q up to which a state stands still as far as its precision can tell: ½ (32 eps)² (1 + ‖h‖²), about what
    rounding leaves of a residual, or 1e-20 where that is more."""
    floor = 0.5 * (32 * np.finfo(states.dtype).eps) ** 2 * (1 + (states**2).sum(axis=1))
    return np.maximum(floor, 1e-20)


def is_ghost(system: System, states: Float[np.ndarray, "n d"], rows: Float[np.ndarray, "n U"]) -> Bool[np.ndarray, "n"]:
    """Whether q has a minimum at each state, where it does not vanish: ∇q = Jᵀr ≈ 0, and its Hessian is not negative.

    Zero means that the best step along ∇q would lower q by less than a thousandth. The Hessian is examined along the
    direction in which it is smallest, found by iteration on its products, so that no matrix is formed.
    """
    if not len(states):
        return np.zeros(0, bool)
    decrease, curvature = in_batches(_minimum, system, states, rows, 64 * states.shape[1], FEW)
    return (decrease < 1e-3) & (curvature > -1e-3)


@jax.jit
def _minimum(system: System, states: Float[Array, "n d"], inputs: Float[Array, "n U"]) -> tuple[Array, Array]:
    def one(state, inputs):
        tiny = jnp.finfo(state.dtype).tiny
        start = jnp.cos(jnp.arange(1.0, len(state) + 1, dtype=state.dtype))
        start = start / jnp.linalg.norm(start)

        def unit(v):
            return v / jnp.maximum(jnp.linalg.norm(v), tiny)

        speed, slope = jax.value_and_grad(system.speed)(state, inputs)

        def hessian(v):
            return jax.jvp(lambda h: jax.grad(system.speed)(h, inputs), (state,), (v,))[1]

        def away_from_the_largest(_, carry):  # power iteration on H − c I, with c above the largest eigenvalue so far
            v, shift = carry
            pushed = hessian(v)
            shift = jnp.maximum(shift, 1.2 * jnp.linalg.norm(pushed))
            return unit(pushed - shift * v), shift

        least, shift = jax.lax.fori_loop(0, 80, away_from_the_largest, (start, jnp.zeros((), state.dtype)))
        of_slope, of_least = jax.vmap(hessian)(jnp.stack([slope, least]))
        square, bend = slope @ slope, slope @ of_slope
        decrease = jnp.where(bend > 0, 0.5 * square**2 / jnp.where(bend > 0, bend, 1.0), jnp.inf) / (speed + tiny)
        decrease = jnp.where(square > tiny, decrease, 0.0)
        return decrease, least @ of_least / jnp.maximum(shift, tiny)

    return jax.vmap(one)(states, inputs)


def is_saturated(
    system: System,
    states: Float[np.ndarray, "n d"],
    rows: Float[np.ndarray, "n U"],
    low: Float[np.ndarray, "d"],
    high: Float[np.ndarray, "d"],
) -> Bool[np.ndarray, "n"]:
    """Whether a state stands still only because a unit's equation went flat, far from where states live.

    Such a unit lies outside [low, high] by more than half that range, and the derivatives of its residual are either
    nil or too small for a zero nearby: |r_i| / ‖∂r_i/∂h‖ is more than a hundredth of the range. A gate that is shut to
    within rounding does this.
    """
    width = high - low
    width = np.maximum(width, width.mean())
    if not width.any():
        return np.zeros(len(states), bool)
    outside = (states < low - 0.5 * width) | (states > high + 0.5 * width)
    suspects = np.flatnonzero(outside.any(axis=1))
    result = np.zeros(len(states), bool)
    if not len(suspects):
        return result
    residuals, gains = unit_gains(system, states[suspects], rows[suspects])
    rounding = 8 * np.finfo(states.dtype).eps * np.abs(states[suspects])
    flat = (gains < FLAT) | (np.abs(residuals) > np.maximum(0.01 * width * gains, rounding))
    result[suspects] = (outside[suspects] & flat).any(axis=1)
    return result


def unit_gains(
    system: System, states: Float[np.ndarray, "n d"], rows: Float[np.ndarray, "n U"]
) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "n d"]]:
    """(r_i, ‖∂r_i/∂h‖) of every unit at each state."""
    return in_batches(_unit_gains, system, states, rows, states.shape[1] ** 2, FEW)


@jax.jit
def _unit_gains(system: System, states: Float[Array, "n d"], inputs: Float[Array, "n U"]) -> tuple[Array, Array]:
    """(r_i, ‖∂r_i/∂h‖) of every unit."""

    def one(state, inputs):
        return system.residual(state, inputs), jnp.linalg.norm(jax.jacfwd(system.residual)(state, inputs), axis=1)

    return jax.vmap(one)(states, inputs)
