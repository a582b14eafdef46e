"""Solvers that drive a state to where a system stands still; `pool` runs them on many states at once."""

import dataclasses
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ctd_models.analysis.systems import System

ACTIVE, CONVERGED, STALLED, EXHAUSTED, NON_FINITE = range(5)


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


def stands_still(system: System, residual: Array, state: Array, tolerance: Array) -> Array:
    """Whether q is within tolerance, or as small as rounding allows at a state of this size."""
    rounding = 8 * jnp.finfo(state.dtype).eps
    size = (state**2).sum() + (0 if system.flow else ((state + residual) ** 2).sum())
    return 0.5 * (residual**2).sum() <= jnp.maximum(tolerance, 0.5 * rounding**2 * size)


class Progress(NamedTuple):
    """What a damped solver remembers of a state."""

    damping: Float[Any, ""]
    """μ, the damping in units of ‖r‖."""
    record: Float[Any, ""]
    """q when it last fell noticeably."""
    idle: Int[Any, ""]
    """Iterations since then."""


@dataclasses.dataclass(frozen=True)
class _Damped:
    """What the Levenberg-Marquardt solvers share: the fields, and what is done with a proposed step."""

    max_iterations: int = 200
    """Iterations a state, accepted or not."""
    initial_damping: float = 1e-3
    """μ before the first iteration."""
    patience: int = 30
    """Iterations in which q must at least halve; a state in which it does not counts as stalled."""

    def init(self, state):
        return Progress(
            jnp.asarray(self.initial_damping, state.dtype), jnp.asarray(jnp.inf, state.dtype), jnp.zeros((), jnp.int32)
        )

    def proceed(self, system, state, inputs, residual, gradient, step, residual_change, memory, limits):
        """(next state, memory, status) after trying `step`, along which the linear model of r changes by
        `residual_change`; too long a step is cut."""
        speed = 0.5 * (residual**2).sum()
        tiny = jnp.finfo(state.dtype).tiny
        cut = jnp.minimum(1.0, limits.max_step / jnp.maximum(jnp.linalg.norm(step), tiny))
        step, residual_change = cut * step, cut * residual_change
        proposal = jnp.clip(state + step, limits.low, limits.high)
        new_residual = system.residual(proposal, inputs)
        new_speed = 0.5 * (new_residual**2).sum()
        predicted = -(residual @ residual_change) - 0.5 * (residual_change**2).sum()
        gain = (speed - new_speed) / jnp.maximum(predicted, tiny)
        accepted = (new_speed < speed) & jnp.isfinite(new_speed)
        mu = memory.damping
        eased = jnp.where(gain > 0.75, mu * 0.1, jnp.where(gain < 0.25, mu * 2.0, mu))
        mu = jnp.clip(jnp.where(accepted, eased, jnp.maximum(mu, 1e-6) * 10.0), 1e-12, 1e20)
        already = stands_still(system, residual, state, limits.tolerance)
        arrived = already | (accepted & stands_still(system, new_residual, proposal, limits.tolerance))
        best = jnp.where(accepted, new_speed, speed)
        fell = best < 0.5 * memory.record
        idle = jnp.where(fell, 0, memory.idle + 1)
        stuck = (mu >= 1e16) | (idle >= self.patience)
        status = jnp.where(arrived, CONVERGED, jnp.where(stuck, STALLED, ACTIVE))
        return (
            jnp.where(accepted & ~already, proposal, state),
            Progress(mu, jnp.where(fell, best, memory.record), idle),
            jnp.where(jnp.isfinite(speed), status, NON_FINITE),
        )


@dataclasses.dataclass(frozen=True)
class LevenbergMarquardt(_Damped):
    """Damped Gauss-Newton on q = ½‖r(h)‖² with exact Jacobians J of r: (JᵀJ + λI) p = −Jᵀr, λ = μ‖r‖.

    λ vanishes with the residual, which keeps convergence quadratic even where J is singular along a manifold of fixed
    points (Fan & Yuan 2005, doi:10.1007/s00607-004-0083-1); there, a step moves a state to the manifold and not along
    it. μ falls after a step that lowers q as predicted and rises after one that does not. Steps are cut to a length set
    by the spread of the candidates, so that nearly singular Jacobians do not throw states far away.
    """

    uses_jacobian: bool = dataclasses.field(default=True, init=False, repr=False)

    def iterate(self, system, state, inputs, memory, limits):
        residual = system.residual(state, inputs)
        jacobian = jax.jacfwd(system.residual)(state, inputs)
        gradient = residual @ jacobian
        damping = memory.damping * jnp.linalg.norm(residual) + jnp.finfo(state.dtype).tiny
        matrix = jacobian.T @ jacobian + damping * jnp.eye(len(state), dtype=state.dtype)
        step = -jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(matrix), gradient)
        return self.proceed(system, state, inputs, residual, gradient, step, jacobian @ step, memory, limits)


@dataclasses.dataclass(frozen=True)
class KrylovLevenbergMarquardt(_Damped):
    """`LevenbergMarquardt` without Jacobians: the step by conjugate gradients on products with J and Jᵀ.

    (JᵀJ + λI) p = −Jᵀr is solved to a part of its gradient that shrinks with ‖r‖ (an inexact Newton method; Dembo,
    Eisenstat & Steihaug 1982, doi:10.1137/0719025), from p = 0, so that directions in which J is singular are not moved
    along. One product costs about as much as one step of the system: the choice for large states.
    """

    inner_iterations: int = 30
    """Most conjugate-gradient iterations for one step."""
    inner_tolerance: float = 0.1
    """Largest part of the gradient that is left, far from a solution."""
    uses_jacobian: bool = dataclasses.field(default=False, init=False, repr=False)

    def iterate(self, system, state, inputs, memory, limits):
        residual, push = jax.linearize(lambda h: system.residual(h, inputs), state)
        transpose = jax.linear_transpose(push, state)

        def pull(v):
            return transpose(v)[0]

        tiny = jnp.finfo(state.dtype).tiny
        gradient = pull(residual)
        size = jnp.linalg.norm(residual)
        damping = memory.damping * size
        enough = jnp.minimum(self.inner_tolerance, jnp.sqrt(size)) ** 2 * (gradient @ gradient)

        def more(carry):
            return (carry[0] < self.inner_iterations) & (carry[-1] > enough)

        def conjugate_gradient(carry):
            count, step, left, direction, square = carry
            pushed = push(direction)
            length = square / jnp.maximum(pushed @ pushed + damping * (direction @ direction), tiny)
            step, left = step + length * direction, left - length * pushed
            steepest = pull(left) - damping * step
            new_square = steepest @ steepest
            return count + 1, step, left, steepest + new_square / jnp.maximum(square, tiny) * direction, new_square

        start = (0, jnp.zeros_like(state), -residual, -gradient, gradient @ gradient)
        _, step, left, _, _ = jax.lax.while_loop(more, conjugate_gradient, start)
        return self.proceed(system, state, inputs, residual, gradient, step, -left - residual, memory, limits)
