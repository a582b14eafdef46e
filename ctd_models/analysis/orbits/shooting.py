"""Multiple shooting: Newton's method on the pieces of a periodic orbit of a flow, and on its period.

A piece is integrated by a Runge-Kutta method of eighth order in a fixed number of steps, whatever the period, so that
the same compiled program serves every orbit and the derivatives are exactly those of what is computed.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ctd_models.analysis.systems import System

ACTIVE, CONVERGED, STALLED, EXHAUSTED, NON_FINITE = range(5)
SMALLEST_DAMPING = 1e-4

# Eleven stages of eighth order: Cooper & Verner 1972, doi:10.1137/0709037
_S = float(np.sqrt(21))
# fmt: off
_STAGES: Any = (
    (),
    (1 / 2,),
    (1 / 4, 1 / 4),
    (1 / 7, (-7 - 3 * _S) / 98, (21 + 5 * _S) / 49),
    ((11 + _S) / 84, 0, (18 + 4 * _S) / 63, (21 - _S) / 252),
    ((5 + _S) / 48, 0, (9 + _S) / 36, (-231 + 14 * _S) / 360, (63 - 7 * _S) / 80),
    ((10 - _S) / 42, 0, (-432 + 92 * _S) / 315, (633 - 145 * _S) / 90, (-504 + 115 * _S) / 70, (63 - 13 * _S) / 35),
    (1 / 14, 0, 0, 0, (14 - 3 * _S) / 126, (13 - 3 * _S) / 63, 1 / 9),
    (1 / 32, 0, 0, 0, (91 - 21 * _S) / 576, 11 / 72, (-385 - 75 * _S) / 1152, (63 + 13 * _S) / 128),
    (1 / 14, 0, 0, 0, 1 / 9, (-733 - 147 * _S) / 2205, (515 + 111 * _S) / 504, (-51 - 11 * _S) / 56,
     (132 + 28 * _S) / 245),
    (0, 0, 0, 0, (-42 + 7 * _S) / 18, (-18 + 28 * _S) / 45, (-273 - 53 * _S) / 72, (301 + 53 * _S) / 72,
     (28 - 28 * _S) / 45, (49 - 7 * _S) / 18),
)
# fmt: on
_STAGES = np.array([row + (0,) * (11 - len(row)) for row in _STAGES])
_WEIGHTS = np.array([1 / 20, 0, 0, 0, 0, 0, 0, 49 / 180, 16 / 45, 49 / 180, 1 / 20])


def integrate(
    system: System, state: Float[Array, "d"], inputs: Float[Array, "U"], duration: Any, num_steps: int
) -> tuple[Float[Array, "d"], Float[Array, "steps d"]]:
    """(state of a flow after `duration`, states at the beginning of each step)."""
    h = duration / num_steps
    stages = jnp.asarray(_STAGES, state.dtype)

    def stage(slopes, row):  # a loop, so that the function is compiled once and not eleven times
        place, weights = row
        slope = system.step(slopes[0] + h * weights @ slopes[1], inputs)
        return (slopes[0], slopes[1].at[place].set(slope)), None

    def step(x, _):
        slopes = jnp.zeros((len(_STAGES), len(x)), x.dtype)
        (_, slopes), _ = jax.lax.scan(stage, (x, slopes), (jnp.arange(len(_STAGES)), stages))
        return x + h * jnp.asarray(_WEIGHTS, x.dtype) @ slopes, x

    return jax.lax.scan(step, state, None, length=num_steps)


class Pieces(NamedTuple):
    """A periodic orbit under way, of S pieces that each last a S-th of the period."""

    nodes: Float[Any, "S d"]
    """Where the pieces begin."""
    period: Float[Any, ""]


class Shot(NamedTuple):
    """Where Newton's method ended."""

    pieces: Pieces
    gap: Float[Any, ""]
    """Largest distance of a piece's end from the next one's beginning, relative to 1 + the largest entry."""
    iterations: Int[Any, ""]
    status: Int[Any, ""]


@partial(jax.jit, static_argnums=(4, 5))
def cut(
    system: System,
    states: Float[Array, "n d"],
    periods: Float[Array, "n"],
    inputs: Float[Array, "n U"],
    num_segments: int,
    num_steps: int,
) -> Pieces:
    """The trajectory of each state, cut into pieces."""

    def one(state, period, x):
        def piece(h, _):
            return integrate(system, h, x, period / num_segments, num_steps)[0], h

        return Pieces(jax.lax.scan(piece, state, None, length=num_segments)[1], period)

    return jax.vmap(one)(states, periods, inputs)


def _ends(system: System, pieces: Pieces, inputs: Array, num_steps: int):
    """((ends, states on the way), derivatives of the ends to their nodes and to the period)."""
    count = len(pieces.nodes)

    def end(node, period):
        final, visited = integrate(system, node, inputs, period / count, num_steps)
        return final, (final, visited)

    derivatives, values = jax.vmap(jax.jacfwd(end, argnums=(0, 1), has_aux=True), (0, None))(*pieces)
    return values, derivatives


def _largest_gap(nodes: Array, ends: Array) -> Array:
    return jnp.linalg.norm(ends - jnp.roll(nodes, -1, axis=0), axis=1).max() / (1 + jnp.abs(nodes).max())


@partial(jax.jit, static_argnums=6)
def shoot(
    system: System,
    pieces: Pieces,
    inputs: Float[Array, "n U"],
    tolerance: Any,
    limits: tuple[Any, Any],
    max_iterations: Any,
    num_steps: int,
) -> Shot:
    """Damped Newton's method from each guess until every gap is closed.

    Unknowns are the beginnings x_s of the pieces and the period T: φ(x_s, T/S) = x_{s+1}, cyclically; the phase is held
    by moving x_0 at right angles to the flow (Roose & Szalai 2007, doi:10.1007/978-1-4020-6356-5_1).
    """

    def newton(pieces, x):
        S, d = pieces.nodes.shape
        (ends, _), (by_node, by_period) = _ends(system, pieces, x, num_steps)
        gaps = ends - jnp.roll(pieces.nodes, -1, axis=0)
        here, behind = jnp.arange(S), (jnp.arange(S) + 1) % S
        matrix = jnp.zeros((S, d, S, d), ends.dtype).at[here, :, here, :].add(by_node)
        matrix = matrix.at[here, :, behind, :].add(-jnp.eye(d, dtype=ends.dtype)).reshape(S * d, S * d)
        flow = system.step(pieces.nodes[0], x)
        phase = jnp.zeros(S * d + 1, ends.dtype).at[:d].set(flow / jnp.linalg.norm(flow))
        matrix = jnp.concatenate([jnp.concatenate([matrix, by_period.reshape(-1, 1)], axis=1), phase[None]])
        move = jnp.linalg.solve(matrix, -jnp.append(gaps.reshape(-1), 0.0))
        return Pieces(move[:-1].reshape(S, d), move[-1]), (gaps**2).sum(), _largest_gap(pieces.nodes, ends)

    def longest(pieces, move):
        """The damping with which a move is no larger than the orbit, and changes the period by less than a third."""
        extent = jnp.linalg.norm(pieces.nodes - pieces.nodes.mean(axis=0), axis=1).max()
        distance = jnp.linalg.norm(move.nodes, axis=1).max()
        return jnp.minimum(1.0, jnp.minimum(extent / distance, 0.3 * pieces.period / jnp.abs(move.period)))

    def body(carry, x):
        pieces, move, error, damping, gap, iterations, _ = carry
        trial = jax.tree.map(lambda a, b: a + damping * b, pieces, move)
        new_move, new_error, new_gap = newton(trial, x)
        inside = (trial.period >= limits[0]) & (trial.period <= limits[1])
        better = inside & (new_error < (1 - 1e-4 * damping) * error)  # False where it is NaN
        pieces, move = jax.tree.map(lambda a, b: jnp.where(better, a, b), (trial, new_move), (pieces, move))
        error, gap = jnp.where(better, new_error, error), jnp.where(better, new_gap, gap)
        damping = jnp.where(better, longest(trial, new_move), 0.25 * damping)
        status = jnp.where(iterations + 1 >= max_iterations, EXHAUSTED, ACTIVE)
        status = jnp.where(damping < SMALLEST_DAMPING, STALLED, status)
        status = jnp.where(jnp.isfinite(error) & jnp.isfinite(move.nodes).all(), status, NON_FINITE)
        status = jnp.where(gap <= tolerance, CONVERGED, status).astype(jnp.int32)
        return pieces, move, error, damping, gap, iterations + 1, status

    def one(pieces, x):
        zero, inf = jnp.zeros_like(pieces.period), jnp.full_like(pieces.period, jnp.inf)
        start = (pieces, jax.tree.map(jnp.zeros_like, pieces), inf, zero + 1, inf, jnp.int32(0), jnp.int32(ACTIVE))
        final = jax.lax.while_loop(lambda carry: carry[-1] == ACTIVE, partial(body, x=x), start)
        return Shot(final[0], *final[4:])

    return jax.vmap(one)(pieces, inputs)


@partial(jax.jit, static_argnums=3)
def monodromy(
    system: System, pieces: Pieces, inputs: Float[Array, "n U"], num_steps: int
) -> tuple[Float[Array, "n d d"], Float[Array, "n"], Float[Array, "n grid d"]]:
    """(derivative of the state one period later, largest gap, states evenly spaced in time) of each orbit."""

    def one(pieces, x):
        (ends, visited), (by_node, _) = _ends(system, pieces, x, num_steps)
        eye = jnp.eye(ends.shape[1], dtype=ends.dtype)
        product, _ = jax.lax.scan(lambda product, matrix: (matrix @ product, None), eye, by_node)
        return product, _largest_gap(pieces.nodes, ends), visited.reshape(-1, ends.shape[1])

    return jax.vmap(one)(pieces, inputs)


@partial(jax.jit, static_argnums=4)
def sample(
    system: System,
    pieces: Pieces,
    inputs: Float[Array, "n U"],
    phases: Float[Array, "P"],
    num_steps: int,
) -> Float[Array, "n P d"]:
    """States at phases in [0, 1) of the period, each integrated from the beginning of its piece."""

    def one(pieces, x):
        count = len(pieces.nodes)
        index = jnp.minimum((phases * count).astype(int), count - 1)
        rest = (phases - index / count) * pieces.period
        return jax.vmap(lambda h, t: integrate(system, h, x, t, num_steps)[0])(pieces.nodes[index], rest)

    return jax.vmap(one)(pieces, inputs)


class Return(NamedTuple):
    """The return of a trajectory to where it began that serves as a guess of a periodic orbit."""

    time: Float[Any, ""]
    distance: Float[Any, ""]
    extent: Float[Any, ""]
    """Largest distance from the beginning on the way to the return, or on all the way where there is none."""
    is_finite: Bool[Any, ""]


@jax.jit
def find_returns(
    system: System, states: Float[Array, "n d"], inputs: Float[Array, "n U"], dt: Any, num_steps: Any
) -> Return:
    """The return of each trajectory through the plane at right angles to its first velocity.

    The first crossing in the first direction, unless a later one comes less than half as near. One nearer than 2 % of the
    extent is good enough, so that a cycle is not taken twice.
    """

    def one(start, x):
        normal = system.step(start, x)
        normal = normal / jnp.linalg.norm(normal)

        def body(i, carry):
            h, height, extent, best = carry
            new = system.advance(h, x, dt)
            new_height = normal @ (new - start)
            part = -height / (new_height - height)
            distance = jnp.linalg.norm(h + part * (new - h) - start)
            extent = jnp.maximum(extent, jnp.linalg.norm(new - start))
            nearer = (best.distance > 0.02 * extent) & (distance < 0.5 * best.distance)
            taken = (height < 0) & (new_height >= 0) & nearer
            best = Return(
                jnp.where(taken, (i + part) * dt, best.time),
                jnp.where(taken, distance, best.distance),
                jnp.where(taken | jnp.isinf(best.distance), extent, best.extent),
                jnp.isfinite(new).all(),
            )
            return new, new_height, extent, best

        zero = jnp.zeros((), start.dtype)
        none = Return(zero, zero + jnp.inf, zero, jnp.asarray(True))
        return jax.lax.fori_loop(0, num_steps, body, (start, zero, zero, none))[3]

    return jax.vmap(one)(states, inputs)
