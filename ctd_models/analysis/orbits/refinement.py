"""Newton's method on all points of a cycle at once, and the product of the Jacobians along it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from ctd_models.analysis.fixed_points.solvers import stands_still
from ctd_models.analysis.orbits.recurrence import in_batches
from ctd_models.analysis.systems import System

NEWTON_ITERATIONS = 10


def refine(
    system: System,
    orbits: Float[np.ndarray, "n k d"],
    inputs: Float[np.ndarray, "n U"],
    tolerance: Any,
    dt: Any = 1.0,
    iterations: int = NEWTON_ITERATIONS,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(orbits after Newton's method, products of their Jacobians from the first point on, residuals, whether exact).

    Orbits are those of a map, or of the integration steps `dt` of a flow.
    """
    n, k, d = orbits.shape
    if n == 0:
        return orbits, np.zeros((0, d, d)), np.zeros(0), np.zeros(0, bool)
    numbers = orbits.dtype.type(tolerance), orbits.dtype.type(dt), np.int32(iterations)
    return in_batches(lambda orbits, inputs: _refined(system, orbits, inputs, *numbers), (orbits, inputs), k * d * d)


@jax.jit
def _refined(
    system: System,
    orbits: Float[Array, "n k d"],
    inputs: Float[Array, "n U"],
    tolerance: Any,
    dt: Any,
    iterations: Any,
):
    def one(orbit, x):
        def advance(state):
            return system.advance(state, x, dt)

        def defects(orbit):
            return jax.vmap(advance)(orbit) - jnp.roll(orbit, -1, axis=0)

        def along(orbit):
            """(Jacobian of the whole way round, what the defects add up to, Jacobian of each step)."""
            jacobians = jax.vmap(jax.jacfwd(advance))(orbit)

            def push(carry, step):
                product, shift = carry
                jacobian, defect = step
                return (jacobian @ product, jacobian @ shift + defect), None

            begin = jnp.eye(orbit.shape[1], dtype=orbit.dtype), jnp.zeros_like(orbit[0])
            (product, shift), _ = jax.lax.scan(push, begin, (jacobians, defects(orbit)))
            return product, shift, jacobians

        def newton(_, orbit):
            product, shift, jacobians = along(orbit)
            correction = jnp.linalg.solve(jnp.eye(len(shift), dtype=shift.dtype) - product, shift)

            def push(correction, step):
                jacobian, defect = step
                return jacobian @ correction + defect, correction

            _, corrections = jax.lax.scan(push, correction, (jacobians, defects(orbit)))
            proposal = orbit + corrections
            better = largest(proposal) < largest(orbit)
            return jnp.where(better, proposal, orbit)

        def largest(orbit):
            return 0.5 * (defects(orbit) ** 2).sum(axis=1).max()

        orbit = jax.lax.fori_loop(0, iterations, newton, orbit)
        exact = jax.vmap(lambda defect, state: stands_still(system, defect, state, tolerance))(defects(orbit), orbit)
        return orbit, along(orbit)[0], largest(orbit), exact.all()

    return jax.vmap(one)(orbits, inputs)


def multipliers(products: Float[np.ndarray, "n d d"]) -> Complex[np.ndarray, "n d"]:
    """Eigenvalues by falling magnitude."""
    values = np.linalg.eigvals(products).astype(complex)
    return np.take_along_axis(values, np.argsort(-np.abs(values), axis=1, kind="stable"), axis=1)
