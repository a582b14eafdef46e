"""First-order solvers: gradient descent on q, by Adam or any optimizer of Optax's form."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ctd_models.analysis.fixed_points.solvers import ACTIVE, CONVERGED, NON_FINITE, stands_still


class FirstOrder:
    """Gradient descent on q by an optimizer of Optax's form: an object with `init(params)` and `update(grads, state)`."""

    uses_jacobian = False

    def __init__(self, optimizer: Any, max_iterations: int = 10_000):
        self.optimizer, self.max_iterations = optimizer, max_iterations

    def init(self, state):
        return self.optimizer.init(state)

    def iterate(self, system, state, inputs, memory, limits):
        residual, pull = jax.vjp(lambda h: system.residual(h, inputs), state)
        arrived = stands_still(system, residual, state, limits.tolerance)
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
