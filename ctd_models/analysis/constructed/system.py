"""What is known of a system, and how one is built in many dimensions."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Complex, Float


@dataclasses.dataclass(frozen=True, repr=False)
class KnownSystem:
    """A system with what is known of it. Call it as F."""

    name: str
    """What it is."""
    function: Callable[..., Any]
    """F(state) or F(state, input) → time derivative (flow) or next state (map)."""
    kind: str
    """"flow" or "map"."""
    basis: Float[np.ndarray, "d k"]
    """Q: orthonormal columns, along which the variables z = Qᵀ h lie."""
    fixed_points: Float[np.ndarray, "n d"]
    """Its fixed points: all of them, or some that stand for a line or a ring of them."""
    eigenvalues: Complex[np.ndarray, "n k"]
    """Of the Jacobian at these points within the span of Q, in falling order of real part (flow) or magnitude (map);
    all other eigenvalues are `decay`."""
    decay: float
    """Eigenvalue of everything orthogonal to Q."""
    num_inputs: int = 0
    """U; 0: F takes the state alone. Inputs may be left out, which are then 0."""
    rest: Float[np.ndarray, "d"] | None = None
    """Of a memory: the state before anything is written into it."""
    write: Callable[[Any], tuple[np.ndarray, np.ndarray]] | None = None
    """Of a memory: values in −1 … 1 [n] → (inputs [n, U] that write them from `rest`, what is then held [n, k])."""
    write_time: float = 1.0
    """Of a memory: how long these inputs last [steps of a map, the unit of time of a flow]."""

    def __call__(self, state: Any, inputs: Any = None) -> Any:
        return self.function(state) if inputs is None else self.function(state, inputs)

    @property
    def num_units(self) -> int:
        """d."""
        return len(self.basis)

    def embed(self, variables: Any) -> Float[np.ndarray, "... d"]:
        """States of given variables z [..., k]."""
        return np.asarray(variables) @ self.basis.T

    def variables(self, states: Any) -> Float[np.ndarray, "... k"]:
        """The variables of states [..., d]."""
        return np.asarray(states) @ self.basis

    def __repr__(self) -> str:
        n, k = self.eigenvalues.shape
        return (
            f"KnownSystem: {self.name}, a {self.kind} of {self.num_units} units, {k} variables, {n} known fixed points"
        )


def orthonormal(num_units: int, num_variables: int, seed: int) -> np.ndarray:
    if num_units < num_variables:
        raise ValueError(f"num_units must be at least {num_variables}, got {num_units}")
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(num_units, num_variables)))[0]


def flow(
    name: str,
    dynamics: Callable[..., Any],
    points: Any,
    eigenvalues: Any,
    num_units: int,
    seed: int,
    num_inputs: int = 0,
) -> KnownSystem:
    """ḣ = Q g(Qᵀ h, x) − (h − Q Qᵀ h)."""
    points = np.asarray(points, float)
    basis = orthonormal(num_units, points.shape[1], seed)

    def function(state, *inputs):
        Q = jnp.asarray(basis, state.dtype)
        variables = Q.T @ state
        if num_inputs and not inputs:
            inputs = (jnp.zeros(num_inputs, state.dtype),)
        return Q @ dynamics(variables, *inputs) - (state - Q @ variables)

    values = np.asarray(eigenvalues, complex)
    order = np.lexsort((-values.imag, -values.real), axis=1)
    return KnownSystem(
        name, function, "flow", basis, points @ basis.T, np.take_along_axis(values, order, axis=1), -1.0, num_inputs
    )


def linear_map(
    name: str, within: Any, write: Any, decay: float, num_units: int, seed: int, points: Any, eigenvalues: Any
) -> KnownSystem:
    """h' = Q (M z + B x) + decay (h − Q z), z = Qᵀ h."""
    within, write = np.asarray(within, float), np.asarray(write, float)
    if not 0 <= decay < 1:
        raise ValueError(f"decay must lie in [0, 1), got {decay}")
    basis = orthonormal(num_units, len(within), seed)
    keep = decay * (np.eye(num_units) - basis @ basis.T) + basis @ within @ basis.T
    enter = basis @ write

    def function(state, *inputs):
        after = jnp.asarray(keep, state.dtype) @ state
        return after + jnp.asarray(enter, state.dtype) @ inputs[0] if inputs else after

    points = np.asarray(points, float)
    values = np.broadcast_to(np.asarray(eigenvalues, complex), (len(points), len(within)))
    return KnownSystem(name, function, "map", basis, points @ basis.T, values, decay, write.shape[1])


def positive(**values: Any) -> None:
    for name, value in values.items():
        if not 0 < value < np.inf:
            raise ValueError(f"{name} must be positive, got {value}")
