"""Running a system forward, under constant inputs or along sequences of them."""

from collections.abc import Callable
from functools import partial
from typing import Any, no_type_check

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ctd_models.analysis.systems import System, precision, prepare


@no_type_check  # it checks its arguments itself
def simulate(
    F: Callable[..., Any],
    states: Any,
    inputs: Float[Any, "*n U"] | None = None,
    *,
    num_steps: int,
    kind: str = "map",
    dt: float | None = None,
    dtype: Any = np.float64,
) -> Float[np.ndarray, "n time d"]:
    """Trajectories from `states`, each under its constant input, with the states they start from in front.

    Args:
        F: `F(state)` or `F(state, input)` → next state of a map, time derivative of a flow.
        states: [n, d], or a pytree of arrays [n, ...], which is flattened.
        inputs: None (F takes the state alone), [U] for all, or [n, U], one per state.
        num_steps: T, the number of steps.
        kind: "map" or "flow"; a flow is integrated by the classical Runge-Kutta method of fourth order.
        dt: step of a flow, in its unit of time.
        dtype: precision.

    Raises:
        ValueError, TypeError: arguments that do not fit, before anything is compiled.
    """
    system, flat, rows, dt = _prepare(F, states, inputs, num_steps, kind, dt, dtype)
    with precision(dtype):
        return np.asarray(_trajectories(system, flat, rows, dt, int(num_steps)))


@no_type_check  # it checks its arguments itself
def drive(
    F: Callable[..., Any],
    states: Any,
    inputs: Float[Any, "*n T U"],
    *,
    kind: str = "map",
    dt: float | None = None,
    dtype: Any = np.float64,
) -> Float[np.ndarray, "n time d"]:
    """Trajectories from `states` along sequences of inputs, with the states they start from in front.

    Args:
        F: `F(state, input)` → next state of a map, time derivative of a flow.
        states: [n, d], or a pytree of arrays [n, ...], which is flattened.
        inputs: [T, U], one sequence for all, or [n, T, U], one for each state.
        kind: "map" or "flow"; an input of a flow is held for one step, of the classical Runge-Kutta method.
        dt: step of a flow, in its unit of time.
        dtype: precision.

    Raises:
        ValueError, TypeError: arguments that do not fit, before anything is compiled.
    """
    inputs = np.asarray(inputs, dtype)
    if inputs.ndim not in (2, 3) or not inputs.shape[-2]:
        raise ValueError(f"expected inputs [T, U] or [n, T, U] of at least one step, got shape {inputs.shape}")
    first = inputs[..., 0, :]
    system, flat, _ = prepare(F, states, first, kind=kind, dtype=dtype, what="states")
    rows = np.broadcast_to(inputs, (len(flat), *inputs.shape[-2:]))
    if not np.isfinite(rows).all():
        raise ValueError(f"inputs hold a value that is not finite at {tuple(np.argwhere(~np.isfinite(inputs))[0])}")
    with precision(dtype):
        return np.asarray(_driven(system, flat, rows, step_duration(kind, dt, dtype)))


@jax.jit
def _driven(
    system: System, states: Float[Array, "n d"], inputs: Float[Array, "n T U"], dt: Any
) -> Float[Array, "n time d"]:
    def step(states, inputs):
        states = jax.vmap(system.advance, (0, 0, None))(states, inputs, dt)
        return states, states

    _, visited = jax.lax.scan(step, states, jnp.swapaxes(inputs, 0, 1))
    return jnp.concatenate([states[:, None], jnp.swapaxes(visited, 0, 1)], axis=1)


@no_type_check  # it checks its arguments itself
def settle(
    F: Callable[..., Any],
    states: Any,
    inputs: Float[Any, "*n U"] | None = None,
    num_steps: int = 1000,
    *,
    kind: str = "map",
    dt: float | None = None,
    dtype: Any = np.float64,
) -> Float[np.ndarray, "n d"]:
    """Where `simulate` ends, without the way there.

    These states lie near attractors, also where these attract so slowly that a search from afar stalls on the way. To
    find unstable points as well, search from the original states too.

    Raises:
        ValueError, TypeError: arguments that do not fit, before anything is compiled.
    """
    system, flat, rows, dt = _prepare(F, states, inputs, num_steps, kind, dt, dtype)
    with precision(dtype):
        return np.asarray(_settle(system, flat, rows, dt, np.int32(num_steps)))


def _prepare(F, states, inputs, num_steps, kind, dt, dtype):
    if isinstance(num_steps, bool) or int(num_steps) != num_steps or num_steps < 0:
        raise ValueError(f"num_steps must be a whole number and cannot be negative, got {num_steps}")
    system, flat, rows = prepare(F, states, inputs, kind=kind, dtype=dtype, what="states")
    return system, flat, rows, step_duration(kind, dt, dtype)


def step_duration(kind: str, dt: float | None, dtype: Any = np.float64) -> np.ndarray:
    """dt as an array, after a check that a flow has one; 1 of a map, whose steps have no duration here.

    Raises:
        ValueError: a flow has no dt, or it is not positive.
    """
    if kind == "flow" and (dt is None or not 0 < dt < np.inf):
        raise ValueError(f"a flow needs dt > 0, the step of its integration, got {dt}")
    return np.asarray(1.0 if kind == "map" else dt, dtype)


@jax.jit
def _settle(
    system: System, states: Float[Array, "n d"], inputs: Float[Array, "n U"], dt: Any, num_steps: Any
) -> Float[Array, "n d"]:
    return jax.lax.fori_loop(0, num_steps, lambda _, h: jax.vmap(system.advance, (0, 0, None))(h, inputs, dt), states)


@partial(jax.jit, static_argnums=4)
def _trajectories(
    system: System, states: Float[Array, "n d"], inputs: Float[Array, "n U"], dt: Any, num_steps: int
) -> Float[Array, "n time d"]:
    def step(states, _):
        states = jax.vmap(system.advance, (0, 0, None))(states, inputs, dt)
        return states, states

    _, visited = jax.lax.scan(step, states, None, length=num_steps)
    return jnp.concatenate([states[:, None], jnp.swapaxes(visited, 0, 1)], axis=1)
