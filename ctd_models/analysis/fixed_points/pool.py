"""Runs a solver on many states at once, compiled and batched.

Finished states leave the pool and waiting ones take their place, so that nobody waits for the slowest.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from tqdm.auto import tqdm

from ctd_models.analysis.fixed_points.solvers import ACTIVE, CONVERGED, EXHAUSTED, Limits, Solver
from ctd_models.analysis.systems import System

POOL_ENTRIES = 5_000_000  # Jacobian entries in one batch: 500 states of 100 units, 40 MB in float64


def batch_sizes(count: int, size: int, uses_jacobian: bool) -> tuple[int, ...]:
    """The sizes, rising, of the batches in which `count` states of `size` units are worked on: at most three programs."""
    room = max(1, POOL_ENTRIES // (size * size if uses_jacobian else 16 * size))
    largest = min(room, count)
    return tuple(sorted({largest, *(max(largest // part, min(16, largest)) for part in (8, 64))}))


class _Pool(NamedTuple):
    """States under way, with one row each in every field."""

    state: Float[Any, "b d"]
    inputs: Float[Any, "b U"]
    memory: Any
    iterations: Int[Any, "b"]
    status: Int[Any, "b"]


@partial(jax.jit, static_argnums=0)
def _fill(solver: Solver, states: Float[Array, "b d"]) -> Any:
    return jax.vmap(solver.init)(states)


@partial(jax.jit, static_argnums=0)
def _advance(
    solver: Solver, system: System, pool: _Pool, limits: Limits, leave_at: Array, max_iterations: Array
) -> _Pool:
    """Iterates the pool until no more than `leave_at` of its states are active."""

    def one(state, inputs, memory, iterations, status):
        new_state, new_memory, new_status = solver.iterate(system, state, inputs, memory, limits)
        iterations = iterations + (status == ACTIVE)
        ended = (new_status == ACTIVE) & (iterations >= max_iterations)
        moved = _Pool(new_state, inputs, new_memory, iterations, jnp.where(ended, EXHAUSTED, new_status))
        return jax.tree.map(
            lambda new, old: jnp.where(status == ACTIVE, new, old),
            moved,
            _Pool(state, inputs, memory, iterations, status),
        )

    return jax.lax.while_loop(
        lambda pool: (pool.status == ACTIVE).sum() > leave_at, lambda pool: jax.vmap(one)(*pool), pool
    )


class Solution(NamedTuple):
    """Where each state ended, in the order of the candidates."""

    states: Float[np.ndarray, "n d"]
    status: Int[np.ndarray, "n"]
    iterations: Int[np.ndarray, "n"]


def solve(
    solver: Solver,
    system: System,
    states: Float[np.ndarray, "n d"],
    inputs: Float[np.ndarray, "n U"],
    limits: Limits,
    progress: bool | None = None,
    sizes: tuple[int, ...] | None = None,
    description: str = "fixed points",
) -> Solution:
    """Runs a solver on every state, in batches of few `sizes` (None: `batch_sizes` of these states)."""
    count, size = states.shape
    sizes = sizes or batch_sizes(count, size, solver.uses_jacobian)
    largest = sizes[-1]
    limits = Limits(*(np.asarray(limit, states.dtype) for limit in limits))
    result = Solution(states.copy(), np.full(count, ACTIVE), np.zeros(count, int))
    waiting, rows, pool = np.arange(count), np.arange(0), None
    hidden = None if progress is None else not progress
    with tqdm(total=count, unit="state", desc=description, disable=hidden, leave=False) as bar:
        while len(waiting) or len(rows):
            batch = next((s for s in sizes if s >= len(rows) + len(waiting)), largest)
            fresh, waiting = np.split(waiting, [batch - len(rows)])
            pool = _refill(solver, pool, states[fresh], inputs[fresh], batch)
            rows = np.concatenate([rows, fresh])
            smaller = max((s for s in sizes if s < batch), default=0)
            leave_at = batch // 2 if len(waiting) else smaller
            counts = np.int32(leave_at), np.int32(solver.max_iterations)
            pool = jax.device_get(_advance(solver, system, pool, limits, *counts))
            done = pool.status[: len(rows)] != ACTIVE
            for target, values in zip(result, (pool.state, pool.status, pool.iterations), strict=True):
                target[rows[done]] = values[: len(rows)][done]
            bar.update(int(done.sum()))
            pool = jax.tree.map(lambda values, keep=~done: values[: len(keep)][keep], pool)
            rows = rows[~done]
    return result


def compile_batch(
    solver: Solver, system: System, state: np.ndarray, row: np.ndarray, limits: Limits, batch: int
) -> None:
    """Compiles what `solve` needs for a batch of this size, by running it on a batch that has arrived already."""
    limits = Limits(*(np.asarray(limit, state.dtype) for limit in limits))
    pool = _refill(solver, None, np.repeat(state, batch, axis=0), np.repeat(row, batch, axis=0), batch)
    pool.status[:] = CONVERGED
    _advance(solver, system, pool, limits, np.int32(0), np.int32(solver.max_iterations))


def _refill(solver: Solver, pool: _Pool | None, states: np.ndarray, inputs: np.ndarray, batch: int) -> _Pool:
    """The pool with fresh states behind those under way, and idle rows up to the batch size."""
    under_way = 0 if pool is None else len(pool.state)
    idle = batch - under_way - len(states)
    if len(states) or pool is None:
        padded = np.concatenate([states, np.zeros((batch - len(states), states.shape[1]), states.dtype)])
        memory = jax.tree.map(lambda m: np.asarray(m)[: len(states)], _fill(solver, padded))
        zeros = np.zeros(len(states), np.int32)
        fresh = _Pool(states, inputs, memory, zeros, zeros + ACTIVE)
        pool = fresh if pool is None else jax.tree.map(lambda a, b: np.concatenate([a, b]), pool, fresh)
    if not idle:
        return pool
    padded = jax.tree.map(lambda a: np.concatenate([a, np.repeat(a[:1], idle, axis=0)]), pool)
    padded.status[len(pool.status) :] = CONVERGED
    return padded
