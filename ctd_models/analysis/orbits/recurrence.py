"""Long runs in compiled form, and when a state returns to where it was."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ctd_models.analysis.systems import System

BATCH_ENTRIES = 4_000_000  # numbers that one batch of a run may hold


def in_batches(function: Callable[..., Any], arrays: tuple[np.ndarray, ...], entries: int) -> tuple[np.ndarray, ...]:
    """The arrays that `function` returns for all rows, computed in batches whose sizes are powers of two.

    Other numbers of rows then compile little or nothing. A batch holds at most BATCH_ENTRIES numbers, `entries` a row.
    """
    count = len(arrays[0])
    room = 1 << (max(1, BATCH_ENTRIES // entries).bit_length() - 1)
    batch = min(room, 1 << (count - 1).bit_length())
    parts = []
    for start in range(0, count, batch):
        chosen = np.minimum(np.arange(start, start + batch), count - 1)
        parts.append(jax.device_get(function(*(array[chosen] for array in arrays))))
    return tuple(np.concatenate(part)[:count] for part in zip(*parts, strict=True))


@jax.jit
def run(
    system: System, states: Float[Array, "n d"], inputs: Float[Array, "n U"], dt: Any, num_steps: Any, escape: Any
) -> Float[Array, "n d"]:
    """The states `num_steps` later; one with an entry beyond `escape` (or NaN) stays where that happened."""

    def step(_, states):
        following = jax.vmap(system.advance, (0, 0, None))(states, inputs, dt)
        inside = jnp.abs(states).max(axis=1) <= escape
        return jnp.where(inside[:, None], following, states)

    return jax.lax.fori_loop(0, num_steps, step, states)


@partial(jax.jit, static_argnums=5)
def record(
    system: System, states: Float[Array, "n d"], inputs: Float[Array, "n U"], dt: Any, stride: Any, num_samples: int
) -> Float[Array, "n {num_samples} d"]:
    """The states and those after every `stride` steps: `num_samples` in all."""

    def move(states, _):
        advance = jax.vmap(system.advance, (0, 0, None))
        following = jax.lax.fori_loop(0, stride, lambda _, h: advance(h, inputs, dt), states)
        return following, states

    return jnp.swapaxes(jax.lax.scan(move, states, None, length=num_samples)[1], 0, 1)


def return_distances(window: Float[np.ndarray, "n time d"], max_period: int) -> Float[np.ndarray, "n {max_period}"]:
    """max_j ‖h_{j+p} − h_j‖ over the window, for p = 1 … max_period."""
    gaps = [np.linalg.norm(window[:, p:] - window[:, :-p], axis=2).max(axis=1) for p in range(1, max_period + 1)]
    return np.stack(gaps, axis=1)


def remaining_distance(
    early: Float[np.ndarray, "*n"], late: Float[np.ndarray, "*n"], returns: Any, size: Any, floor: Any = 0.0
) -> Float[np.ndarray, "*n"]:
    """How far a state still is from an orbit that it approaches: the sum of a geometric series.

    Its return missed the orbit's start by `early`, and `returns` returns later by `late`: the rest of the way is
    late / (1 − r) with r = (late / early)^(1 / returns), and without end where the misses do not shrink. Where a miss is
    below `floor`, or as small as rounding at states of this `size`, the state has arrived.
    """
    rounding = np.finfo(late.dtype).eps ** 0.7 * (1 + size)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        decay = -np.expm1(np.log(late / early) / returns)
        rest = np.where(decay > 0, late / decay, np.inf)
    return np.where(late <= np.maximum(rounding, floor), late, rest)


@partial(jax.jit, static_argnums=5)
def section_returns(
    system: System, states: Float[Array, "n d"], inputs: Float[Array, "n U"], dt: Any, num_steps: Any, capacity: int
) -> tuple[Float[Array, "n c d"], Float[Array, "n c"], Int[Array, "n"]]:
    """(points, times, how many) of the first `capacity` returns of a flow to the plane through each state.

    The plane is normal to the flow at the state, and crossings count in the direction of the flow there. They are
    located by Newton's method on the length of the last integration step (Hénon 1982,
    doi:10.1016/0167-2789(82)90034-3), so that they are as accurate as the integration.
    """

    def one(start, x):
        normal = system.step(start, x)
        normal = normal / jnp.linalg.norm(normal)

        def step(i, carry):
            state, height, before, times, count = carry
            following = system.advance(state, x, dt)
            new_height = normal @ (following - start)
            crosses = (height < 0) & (new_height >= 0) & (count < capacity)
            slot = jnp.where(crosses, count, capacity)  # the row behind the last takes what is not wanted
            before, times = before.at[slot].set(state), times.at[slot].set(i * dt)
            return following, new_height, before, times, count + crosses

        zeros = jnp.zeros(capacity + 1, start.dtype)
        begin = start, zeros[0], zeros[:, None] + start, zeros, jnp.int32(0)
        _, _, before, times, count = jax.lax.fori_loop(0, num_steps, step, begin)

        def locate(state):
            def newton(_, duration):
                point = system.advance(state, x, duration)
                duration = duration - normal @ (point - start) / (normal @ system.step(point, x))
                return jnp.clip(duration, 0, dt)

            duration = jax.lax.fori_loop(0, 8, newton, 0.5 * jnp.asarray(dt, state.dtype))
            return system.advance(state, x, duration), duration

        points, durations = jax.vmap(locate)(before[:capacity])
        return points, times[:capacity] + durations, count

    return jax.vmap(one)(states, inputs)


@partial(jax.jit, static_argnums=(4, 5))
def sample_period(
    system: System,
    states: Float[Array, "n d"],
    inputs: Float[Array, "n U"],
    periods: Float[Array, "n"],
    num_points: int,
    substeps: int,
) -> tuple[Float[Array, "n {num_points} d"], Float[Array, "n d d"]]:
    """(`num_points` states at equal distances in time over one period of a flow, the Jacobian of the whole way)."""

    def one(state, x, period):
        duration = period / (num_points * substeps)

        def way(state):
            def move(h, _):
                return jax.lax.fori_loop(0, substeps, lambda _, g: system.advance(g, x, duration), h), h

            return jax.lax.scan(move, state, None, length=num_points)

        return way(state)[1], jax.jacfwd(lambda h: way(h)[0])(state)

    return jax.vmap(one)(states, inputs, periods)
