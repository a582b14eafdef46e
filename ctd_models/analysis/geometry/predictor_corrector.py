"""Pseudo-arclength continuation, compiled: one curve of zeros of R(h, p) from each start, all at once (Keller 1977).

Curves live in scaled coordinates z = (h / √d, (p − low) / width), so that a step is a root-mean-square change of the units
and a fraction of the parameter's range, whatever the number of units and the unit of the parameter.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ctd_models.analysis.systems import System

ACTIVE, RANGE, CLOSED, NOT_CONVERGED = range(4)
NEWTON_STEPS = 8
SMALLEST_STEP = 2.0**-14  # of the largest; where even this fails the branch cannot be followed
STRAIGHT, TOO_BENT = 0.99, 0.9  # cosine of the turn in one step that lets steps grow, and that is refused


class Line(NamedTuple):
    """How the parameter enters: the input is base + p · along, p = low + q · width."""

    base: Float[Any, "U"]
    along: Float[Any, "U"]
    low: Float[Any, ""]
    width: Float[Any, ""]

    def scaled(self, states: Float[np.ndarray, "n d"], parameters: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n e"]:
        """z of (h, p)."""
        q = (parameters - self.low) / self.width
        return np.concatenate([states / np.sqrt(states.shape[1]), q[:, None]], axis=1).astype(states.dtype)

    def unscaled(self, z: Float[np.ndarray, "n e"]) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "n"]]:
        """(h, p) of z."""
        return z[:, :-1] * z.dtype.type(np.sqrt(z.shape[1] - 1)), self.low + self.width * z[:, -1]


def residual(system: System, line: Line, z: Float[Array, "e"]) -> Float[Array, "d"]:
    """R(z), zero on a branch."""
    inputs = line.base + (line.low + z[-1] * line.width) * line.along
    return system.residual(z[:-1] * jnp.sqrt(jnp.asarray(len(z) - 1, z.dtype)), inputs)


def derivative(system: System, line: Line, z: Float[Array, "e"]) -> Float[Array, "d e"]:
    """∂R/∂z, whose null vector is the tangent."""
    return jax.jacfwd(partial(residual, system, line))(z)


def correct(system: System, line: Line, guess: Array, normal: Array, tolerance: Any) -> tuple[Array, Array, Array]:
    """(zero of R in the plane through `guess` at right angles to `normal`, whether it was reached, Newton steps)."""

    def error(z):
        values = residual(system, line, z)
        return jnp.abs(values).max() / (1 + jnp.abs(z[:-1]).max() * jnp.sqrt(jnp.asarray(len(z) - 1, z.dtype)))

    def body(carry):
        z, count, _ = carry
        matrix = jnp.concatenate([derivative(system, line, z), normal[None]])
        rest = jnp.append(residual(system, line, z), normal @ (z - guess))
        z = z - jnp.linalg.solve(matrix, rest)
        return z, count + 1, error(z)

    def go_on(carry):
        return (carry[1] < NEWTON_STEPS) & (carry[2] > tolerance)  # NaN ends it

    z, count, final = jax.lax.while_loop(go_on, body, (guess, jnp.int32(0), error(guess)))
    return z, final <= tolerance, count


def tangent(system: System, line: Line, z: Array, reference: Array) -> Array:
    """The unit tangent at z that points the way of `reference`."""
    matrix = jnp.concatenate([derivative(system, line, z), reference[None]])
    direction = jnp.linalg.solve(matrix, jnp.zeros_like(z).at[-1].set(1.0))
    return direction / jnp.linalg.norm(direction)


@jax.jit
def land(
    system: System, line: Line, guesses: Float[Array, "n e"], normals: Float[Array, "n e"], tolerance: Any
) -> tuple[Float[Array, "n e"], Float[Array, "n e"], Bool[Array, "n"]]:
    """(points on branches, their tangents towards larger parameters, whether a branch was reached)."""

    def one(guess, normal):
        z, reached, _ = correct(system, line, guess, normal, tolerance)
        null = jnp.linalg.svd(derivative(system, line, z))[2][-1]
        null = jnp.where(null[-1] < 0, -null, null)
        return z, null, reached & jnp.isfinite(null).all()

    return jax.vmap(one)(guesses, normals)


class _Walk(NamedTuple):
    """One branch under way in one direction."""

    z: Any
    tangent: Any
    step: Any
    landing: Any
    """Whether the next point is to lie where the branch leaves the range."""
    exit: Any
    """Guess of that point."""
    count: Any
    status: Any


@partial(jax.jit, static_argnums=6)
def trace(
    system: System,
    line: Line,
    starts: Float[Array, "n e"],
    tangents: Float[Array, "n e"],
    largest_step: Any,
    tolerance: Any,
    max_steps: int,
) -> tuple[Float[Array, "steps n e"], Float[Array, "steps n e"], Bool[Array, "steps n"], Int[Array, "n"]]:
    """(points, tangents, whether each was accepted, why it ended) of the curves that leave `starts` along `tangents`."""
    to_parameter = jnp.zeros_like(starts[0]).at[-1].set(1.0)
    edge = 10 * jnp.finfo(starts.dtype).eps

    def attempt(walk, start, first):
        guess = jnp.where(walk.landing, walk.exit, walk.z + walk.step * walk.tangent)
        normal = jnp.where(walk.landing, to_parameter, walk.tangent)
        z, reached, count = correct(system, line, guess, normal, tolerance)
        direction = tangent(system, line, z, walk.tangent)
        turn = direction @ walk.tangent
        good = reached & (turn > TOO_BENT) & (jnp.linalg.norm(z - walk.z) < 2 * walk.step)
        outside = (z[-1] < 0) | (z[-1] > 1)
        leaves = good & outside & ~walk.landing
        bound = jnp.clip(z[-1], 0, 1)
        part = (bound - walk.z[-1]) / (z[-1] - walk.z[-1])
        exit_point = jnp.where(leaves, (walk.z + part * (z - walk.z)).at[-1].set(bound), walk.exit)
        accepted = good & ~leaves & (walk.status == ACTIVE)

        before, after = first @ (walk.z - start), first @ (z - start)
        near = jnp.linalg.norm(z - start) <= 2 * walk.step
        closed = accepted & (walk.count >= 3) & (before < 0) & (after >= 0) & near & (direction @ first > TOO_BENT)
        z, direction = jnp.where(closed, start, z), jnp.where(closed, first, direction)

        larger = jnp.minimum(1.5 * walk.step, largest_step)
        easy = accepted & (count <= 3) & (turn > STRAIGHT)
        step = jnp.where(good, jnp.where(easy, larger, walk.step), 0.5 * walk.step)
        status = jnp.where(step < SMALLEST_STEP * largest_step, NOT_CONVERGED, ACTIVE)
        status = jnp.where(accepted & walk.landing, RANGE, jnp.where(closed, CLOSED, status))
        following = _Walk(
            jnp.where(accepted, z, walk.z),
            jnp.where(accepted, direction, walk.tangent),
            step,
            leaves,
            exit_point,
            walk.count + accepted,
            jnp.where(walk.status == ACTIVE, status, walk.status).astype(jnp.int32),
        )
        return following, (z, direction, accepted)

    def body(carry):
        i, walks, buffers = carry
        walks, new = jax.vmap(attempt)(walks, starts, tangents)
        return i + 1, walks, jax.tree.map(lambda buffer, row: buffer.at[i].set(row), buffers, new)

    def go_on(carry):
        return (carry[0] < max_steps) & (carry[1].status == ACTIVE).any()

    count, q, q_rate = len(starts), starts[:, -1], tangents[:, -1]
    outward = ((q <= edge) & (q_rate < 0)) | ((q >= 1 - edge) & (q_rate > 0))
    walks = _Walk(
        starts,
        tangents,
        jnp.full(count, 0.25, starts.dtype) * largest_step,
        jnp.zeros(count, bool),
        starts,
        jnp.zeros(count, jnp.int32),
        jnp.where(outward, RANGE, ACTIVE).astype(jnp.int32),
    )
    buffers = (
        *(jnp.zeros((max_steps, *starts.shape), starts.dtype) for _ in range(2)),
        jnp.zeros((max_steps, count), bool),
    )
    _, walks, buffers = jax.lax.while_loop(go_on, body, (jnp.int32(0), walks, buffers))
    return *buffers, walks.status
