"""Bifurcations on branches of fixed points: noticed between two points, located by bisection, told apart by eigenvalues."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Complex, Float, Int

from ctd_models.analysis.geometry.predictor_corrector import Line, correct, derivative, residual, tangent
from ctd_models.analysis.systems import System

BISECTIONS = 44  # of a step, down to rounding
REAL = 1e-6  # imaginary part, relative to the magnitude, below which an eigenvalue counts as real
LEVEL = 1e-5  # component of a unit tangent along the parameter below which a branch stands upright there


class Signs(NamedTuple):
    """What changes from one point of a branch to the next where a bifurcation lies between them."""

    parameter: Float[Any, "m"]
    """Sign of the tangent's component along the parameter: changes at a fold."""
    bordered: Float[Any, "m"]
    """Sign of det [∂R/∂z; tangent]: changes at a branch point."""
    zero: Float[Any, "m"]
    """Sign of det ∂R/∂h: changes where an eigenvalue passes 0 (flow) or 1 (map)."""
    flip: Float[Any, "m"]
    """Sign of det (J + 1): changes where an eigenvalue of a map passes −1."""
    num_unstable: Int[Any, "m"]


@jax.jit
def measure(
    system: System, line: Line, z: Float[Array, "m e"], tangents: Float[Array, "m e"]
) -> tuple[Float[Array, "m d d"], Float[Array, "m"]]:
    """(Jacobian, sign of the bordered determinant) of each point of a branch."""

    def one(z, direction):
        rates = derivative(system, line, z)
        jacobian = rates[:, :-1] / jnp.sqrt(jnp.asarray(len(z) - 1, z.dtype))
        if not system.flow:
            jacobian = jacobian + jnp.eye(len(z) - 1, dtype=z.dtype)
        return jacobian, jnp.linalg.slogdet(jnp.concatenate([rates, direction[None]]))[0]

    return jax.vmap(one)(z, tangents)


def ordered_eigenvalues(jacobians: Float[np.ndarray, "m d d"], flow: bool) -> Complex[np.ndarray, "m d"]:
    """Eigenvalues by falling real part (flow) or magnitude (map); NaN of a Jacobian that is not finite."""
    finite = np.isfinite(jacobians).all(axis=(1, 2))
    values = np.full(jacobians.shape[:2], np.nan, complex)
    values[finite] = np.linalg.eigvals(jacobians[finite])
    order = np.argsort(-(values.real if flow else np.abs(values)), axis=1, kind="stable")
    return np.take_along_axis(values, order, axis=1)


def signs_of(
    eigenvalues: Complex[np.ndarray, "m d"],
    bordered: Float[np.ndarray, "m"],
    tangents: Float[np.ndarray, "m e"],
    flow: bool,
) -> Signs:
    """The test functions of each point. The sign of a determinant is the parity of the negative real eigenvalues."""
    real = eigenvalues.imag == 0
    growing = eigenvalues.real > 0 if flow else np.abs(eigenvalues) > 1

    def parity(values):
        return 1.0 - 2.0 * ((real & (values < 0)).sum(axis=1) % 2)

    zero = parity(eigenvalues.real - (0 if flow else 1))
    flip = np.ones(len(eigenvalues)) if flow else parity(eigenvalues.real + 1)
    return Signs(np.where(tangents[:, -1] < 0, -1.0, 1.0), bordered, zero, flip, growing.sum(axis=1))


NOTICED = ("fold", "branch point", "flip", "rotation")  # a flip: an eigenvalue at −1; a rotation: a pair of eigenvalues


def changes(left: Signs, right: Signs) -> Bool[np.ndarray, "4 k"]:
    """For each of `NOTICED`, whether it lies between two points of a branch."""
    change = Signs(*(a != b for a, b in zip(left[:-1], right[:-1], strict=True)), None)
    unstable = np.abs(right.num_unstable - left.num_unstable)
    pair = unstable - change.zero.astype(int) - change.flip >= 2
    return np.stack([change.parameter & ~change.bordered, change.bordered, change.flip, pair])


@jax.jit
def between(
    system: System,
    line: Line,
    ends: tuple[Array, Array, Array, Array],
    parts: Float[Array, "k"],
    tolerance: Any,
) -> tuple[Float[Array, "k e"], Float[Array, "k e"], Bool[Array, "k"]]:
    """(points, tangents, whether reached) of branches a part of the way between two points (z, tangent, z, tangent)."""

    def one(z0, t0, z1, t1, s):
        chord = z1 - z0
        length = jnp.linalg.norm(chord)
        cubic = z0 + (3 - 2 * s) * s**2 * chord + length * s * (1 - s) * ((1 - s) * t0 - s * t1)
        z, reached, _ = correct(system, line, cubic, chord / length, tolerance)
        z = jnp.where(reached, z, cubic)
        return z, tangent(system, line, z, chord / length), reached

    return jax.vmap(one)(*ends, parts)


class Crossing(NamedTuple):
    """Where two branches cross."""

    z: Any
    own: Any
    """Unit tangent of the branch that was followed."""
    other: Any
    """Unit tangent of the other branch."""
    is_simple: Any
    """Whether the crossing was found and is one of two branches with different tangents."""


@jax.jit
def cross(
    system: System, line: Line, z: Float[Array, "k e"], tangents: Float[Array, "k e"], tolerance: Any
) -> Crossing:
    """The exact points where branches cross near z, and both tangents there.

    Newton's method on R + β ψ = 0, ψᵀ ∂R/∂z = 0, ψᵀψ = 1 (regular at a simple branch point), then the roots of the
    algebraic branching equation a α² + 2 b α β + c β² = 0 (Seydel 2010, section 5.5).
    """

    def one(z0, t0):
        e = len(z0)
        null_left = jnp.linalg.svd(derivative(system, line, z0))[0][:, -1]

        def equations(y):
            z, beta, psi = y[:e], y[e], y[e + 1 :]
            value, pull = jax.vjp(partial(residual, system, line), z)
            return jnp.concatenate([value + beta * psi, pull(psi)[0], (psi @ psi - 1)[None]])

        def newton(_, y):
            return y - jnp.linalg.solve(jax.jacfwd(equations)(y), equations(y))

        y = jax.lax.fori_loop(0, 8, newton, jnp.concatenate([z0, jnp.zeros(1, z0.dtype), null_left]))
        found = (jnp.abs(equations(y)).max() <= 100 * tolerance) & (jnp.abs(y[e]) <= 100 * tolerance)
        z, psi = y[:e], y[e + 1 :]
        null = jnp.linalg.svd(derivative(system, line, z))[2][-2:]
        first = null.T @ (null @ t0)
        first = first / jnp.linalg.norm(first)
        coordinates = null @ first
        second = null.T @ jnp.stack([-coordinates[1], coordinates[0]])

        def curvature(u, v):
            def along_u(z):
                return jax.jvp(partial(residual, system, line), (z,), (u,))[1]

            return psi @ jax.jvp(along_u, (z,), (v,))[1]

        a, b, c = curvature(first, first), curvature(first, second), curvature(second, second)
        discriminant = b**2 - a * c
        q = -(b + jnp.where(b < 0, -1.0, 1.0) * jnp.sqrt(jnp.maximum(discriminant, 0)))
        own, other = q * first + a * second, c * first + q * second
        scale = jnp.maximum(jnp.abs(a), jnp.maximum(jnp.abs(b), jnp.abs(c)))
        simple = found & (discriminant > (1e-6 * scale) ** 2) & (scale > 0)
        # of (q, a) and (c, q) the one nearer to `first` is the branch that was followed
        own, other = own / jnp.linalg.norm(own), other / jnp.linalg.norm(other)
        swap = jnp.abs(other @ first) > jnp.abs(own @ first)
        own, other = jnp.where(swap, other, own), jnp.where(swap, own, other)
        return Crossing(z, jnp.where(own @ first < 0, -own, own), other, simple)

    return jax.vmap(one)(z, tangents)


def name_of(what: str, flow: bool, critical: Any, crossing: Crossing | None = None) -> str:
    """The kind of a bifurcation."""
    if what == "fold":
        return "fold"
    if what == "flip":
        return "period doubling"
    if what == "rotation":
        if abs(critical.imag) <= REAL * max(1e-3, abs(critical)):
            return "branch point"  # two real eigenvalues at once, as symmetric systems have
        return "Hopf" if flow else "Neimark-Sacker"
    if crossing is None or not crossing.is_simple:
        return "branch point"
    upright = min(abs(crossing.own[-1]), abs(crossing.other[-1])) < LEVEL
    return "pitchfork" if upright else "transcritical"


def critical_eigenvalue(what: str, eigenvalues: Complex[np.ndarray, "d"], flow: bool) -> complex:
    """The eigenvalue that crosses, of a pair the one with the positive imaginary part."""
    if what == "flip":
        distance = np.abs(eigenvalues + 1)
    elif what == "rotation":
        distance = np.abs(eigenvalues.real) if flow else np.abs(np.abs(eigenvalues) - 1)
    else:
        distance = np.abs(eigenvalues - (0 if flow else 1))
    value = eigenvalues[np.argmin(distance)]
    return complex(value.real, abs(value.imag))
