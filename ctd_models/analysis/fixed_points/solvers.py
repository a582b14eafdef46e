"""Solvers that drive many states at once to where a system stands still.

A solver moves one state by one iteration; `solve` runs it on a pool of states, compiled and batched. Finished states
leave the pool and waiting ones take their place, so that nobody waits for the slowest.
"""

import dataclasses
from functools import partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from tqdm.auto import tqdm

from ctd_models.analysis.systems import System

ACTIVE, CONVERGED, STALLED, EXHAUSTED, NON_FINITE = range(5)
POOL_ENTRIES = 5_000_000  # Jacobian entries in one batch: 500 states of 100 units, 40 MB in float64


class Limits(NamedTuple):
    """When a state has arrived, how far it may go at once, and where it may be."""

    tolerance: Float[Any, ""]
    """Speed q at which a state stands still."""
    max_step: Float[Any, ""]
    """Largest distance moved in one iteration."""
    low: Float[Any, ""] = -np.inf
    """Least value of an entry of the state."""
    high: Float[Any, ""] = np.inf
    """Largest value of an entry of the state."""


@runtime_checkable
class Solver(Protocol):
    """One iteration on one state. Solvers are hashable: what they are is static, what they remember is `memory`."""

    max_iterations: int
    uses_jacobian: bool

    def init(self, state: Float[Array, "d"]) -> Any:
        """The memory before the first iteration."""

    def iterate(
        self, system: System, state: Float[Array, "d"], inputs: Float[Array, "U"], memory: Any, limits: Limits
    ) -> tuple[Float[Array, "d"], Any, Int[Array, ""]]:
        """(next state, memory, status); a state whose speed is within tolerance does not move and is CONVERGED."""


def _within(system: System, residual: Array, state: Array, tolerance: Array) -> Array:
    """Whether q is within tolerance, or as small as rounding allows at a state of this size."""
    rounding = 8 * jnp.finfo(state.dtype).eps
    size = (state**2).sum() + (0 if system.flow else ((state + residual) ** 2).sum())
    return 0.5 * (residual**2).sum() <= jnp.maximum(tolerance, 0.5 * rounding**2 * size)


@dataclasses.dataclass(frozen=True)
class LevenbergMarquardt:
    """Damped Gauss-Newton on q = ½‖r(h)‖² with exact Jacobians J of r: (JᵀJ + λI) p = −Jᵀr, λ = μ‖r‖.

    λ vanishes with the residual, which keeps convergence quadratic even where J is singular along a manifold of fixed
    points (Fan & Yuan 2005, doi:10.1007/s00607-004-0083-1); there, a step moves a state to the manifold and not along
    it. μ falls after a step that lowers q as predicted and rises after one that does not. Steps are cut to a length set
    by the spread of the candidates, so that nearly singular Jacobians do not throw states far away.
    """

    max_iterations: int = 200
    """Iterations a state, accepted or not."""
    initial_damping: float = 1e-3
    """μ before the first iteration."""
    uses_jacobian: bool = dataclasses.field(default=True, init=False, repr=False)

    def init(self, state):
        return jnp.asarray(self.initial_damping, state.dtype)

    def iterate(self, system, state, inputs, memory, limits):
        residual = system.residual(state, inputs)
        jacobian = jax.jacfwd(system.residual)(state, inputs)
        gradient = residual @ jacobian
        speed = 0.5 * (residual**2).sum()
        tiny = jnp.finfo(state.dtype).tiny
        damping = memory * jnp.sqrt(2 * speed)
        curvature = jacobian.T @ jacobian
        factor = jax.scipy.linalg.cho_factor(curvature + (damping + tiny) * jnp.eye(len(state), dtype=state.dtype))
        step = -jax.scipy.linalg.cho_solve(factor, gradient)
        step = step * jnp.minimum(1.0, limits.max_step / jnp.maximum(jnp.linalg.norm(step), tiny))
        proposal = jnp.clip(state + step, limits.low, limits.high)
        new_residual = system.residual(proposal, inputs)
        new_speed = 0.5 * (new_residual**2).sum()
        predicted = -(gradient @ step) - 0.5 * (step @ (curvature @ step))
        gain = (speed - new_speed) / jnp.maximum(predicted, tiny)
        accepted = (new_speed < speed) & jnp.isfinite(new_speed)
        eased = jnp.where(gain > 0.75, memory * 0.1, jnp.where(gain < 0.25, memory * 2.0, memory))
        memory = jnp.clip(jnp.where(accepted, eased, jnp.maximum(memory, 1e-6) * 10.0), 1e-12, 1e20)
        already = _within(system, residual, state, limits.tolerance)
        arrived = already | (accepted & _within(system, new_residual, proposal, limits.tolerance))
        status = jnp.where(arrived, CONVERGED, jnp.where(memory >= 1e16, STALLED, ACTIVE))
        return (
            jnp.where(accepted & ~already, proposal, state),
            memory,
            jnp.where(jnp.isfinite(speed), status, NON_FINITE),
        )


class FirstOrder:
    """Gradient descent on q by an optimizer of Optax's form: an object with `init(params)` and `update(grads, state)`."""

    uses_jacobian = False

    def __init__(self, optimizer: Any, max_iterations: int = 10_000):
        self.optimizer, self.max_iterations = optimizer, max_iterations

    def init(self, state):
        return self.optimizer.init(state)

    def iterate(self, system, state, inputs, memory, limits):
        residual, pull = jax.vjp(lambda h: system.residual(h, inputs), state)
        arrived = _within(system, residual, state, limits.tolerance)
        updates, memory = self.optimizer.update(pull(residual)[0], memory, state)
        status = jnp.where(arrived, CONVERGED, jnp.where(jnp.isfinite(residual).all(), ACTIVE, NON_FINITE))
        return jnp.where(arrived, state, jnp.clip(state + updates, limits.low, limits.high)), memory, status


@dataclasses.dataclass(frozen=True)
class Adam:
    """Adam on q (Kingma & Ba 2015) with the step size learning_rate · decay^iteration; fields as first published for
    the search of fixed points in the computation-through-dynamics tutorials."""

    learning_rate: float = 0.2
    """Step size at the start."""
    decay: float = 0.9999
    """Factor on the step size, per iteration."""
    beta1: float = 0.9
    """Decay of the mean of gradients."""
    beta2: float = 0.999
    """Decay of the mean of squared gradients."""
    epsilon: float = 1e-5
    """Added to the root of the mean square."""
    max_iterations: int = 10_000
    """Iterations a state."""
    uses_jacobian: bool = dataclasses.field(default=False, init=False, repr=False)

    class _Memory(NamedTuple):
        iteration: Array
        mean: Array
        square: Array

    def init(self, state):
        return self._Memory(jnp.zeros((), state.dtype), jnp.zeros_like(state), jnp.zeros_like(state))

    def update(self, gradient, memory, state=None):
        """(step, memory), as an optimizer of Optax's form."""
        del state
        iteration = memory.iteration + 1
        mean = self.beta1 * memory.mean + (1 - self.beta1) * gradient
        square = self.beta2 * memory.square + (1 - self.beta2) * gradient**2
        corrected = mean / (1 - self.beta1**iteration)
        scale = jnp.sqrt(square / (1 - self.beta2**iteration)) + self.epsilon
        rate = self.learning_rate * self.decay**memory.iteration
        return -rate * corrected / scale, self._Memory(iteration, mean, square)

    def iterate(self, system, state, inputs, memory, limits):
        return FirstOrder(self, self.max_iterations).iterate(system, state, inputs, memory, limits)


def as_solver(method: Any, max_iterations: int | None) -> Solver:
    """A solver from what `find_fixed_points(method=…)` takes: a name, a solver, or an Optax optimizer."""
    if isinstance(method, str):
        named = {"levenberg-marquardt": LevenbergMarquardt, "adam": Adam}
        if method not in named:
            raise ValueError(f"method must be one of {sorted(named)}, a solver or an optimizer, got {method!r}")
        method = named[method]()
    elif not hasattr(method, "iterate"):
        if not (hasattr(method, "init") and hasattr(method, "update")):
            raise TypeError(f"method must be a name, a solver or an Optax optimizer, got {method!r}")
        method = FirstOrder(method)
    if max_iterations is None:
        return method
    if max_iterations < 1:
        raise ValueError(f"max_iterations must be at least 1, got {max_iterations}")
    if dataclasses.is_dataclass(method):
        return dataclasses.replace(method, max_iterations=max_iterations)
    return FirstOrder(method.optimizer, max_iterations)


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
) -> Solution:
    """Runs a solver on every state. Batches have one of three sizes, so that at most three programs are compiled."""
    count, size = states.shape
    room = max(1, POOL_ENTRIES // (size * size if solver.uses_jacobian else 16 * size))
    largest = min(room, count)
    sizes = sorted({largest, max(1, largest // 8), max(1, largest // 64)})
    limits = Limits(*(np.asarray(limit, states.dtype) for limit in limits))
    result = Solution(states.copy(), np.full(count, ACTIVE), np.zeros(count, int))
    waiting, rows, pool = np.arange(count), np.arange(0), None
    hidden = None if progress is None else not progress
    with tqdm(total=count, unit="state", desc="fixed points", disable=hidden) as bar:
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
