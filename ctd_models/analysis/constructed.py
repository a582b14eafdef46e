"""Systems whose dynamics are known, for teaching and for tests: lines, rings, oscillations, bifurcations, connections.

Each is a function F(state) or F(state, input) in `num_units` dimensions, with what is true of it beside it. The few
variables z that matter lie along the columns of an orthonormal matrix Q, z = Qᵀ h; everything orthogonal to them decays.
"""

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
    """U; 0: F takes the state alone."""

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


def _basis(num_units: int, num_variables: int, seed: int) -> np.ndarray:
    if num_units < num_variables:
        raise ValueError(f"num_units must be at least {num_variables}, got {num_units}")
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(num_units, num_variables)))[0]


def _flow(
    name: str, dynamics: Callable[[Any], Any], points: Any, eigenvalues: Any, num_units: int, seed: int
) -> KnownSystem:
    """ḣ = Q g(Qᵀ h) − (h − Q Qᵀ h)."""
    points = np.asarray(points, float)
    basis = _basis(num_units, points.shape[1], seed)

    def function(state):
        Q = jnp.asarray(basis, state.dtype)
        variables = Q.T @ state
        return Q @ dynamics(variables) - (state - Q @ variables)

    values = np.asarray(eigenvalues, complex)
    order = np.lexsort((-values.imag, -values.real), axis=1)
    return KnownSystem(
        name, function, "flow", basis, points @ basis.T, np.take_along_axis(values, order, axis=1), decay=-1.0
    )


def _positive(**values: Any) -> None:
    for name, value in values.items():
        if not 0 < value < np.inf:
            raise ValueError(f"{name} must be positive, got {value}")


def line_attractor(num_units: int = 20, *, leak: float = 0.0, decay: float = 0.5, seed: int = 0) -> KnownSystem:
    """A linear integrator, z' = (1 − leak) z + x, everything else decays by the factor `decay` a step: a map with one input.

    Without leak every z is a fixed point at zero input.
    """
    if not 0 <= leak < 1 or not 0 <= decay < 1:
        raise ValueError(f"leak and decay must lie in [0, 1), got {leak} and {decay}")
    basis = _basis(num_units, 1, seed)
    keep = decay * (np.eye(num_units) - basis @ basis.T) + (1 - leak) * basis @ basis.T

    def function(state, inputs):
        return jnp.asarray(keep, state.dtype) @ state + jnp.asarray(basis, state.dtype) @ inputs

    places = np.linspace(-1, 1, 9)[:, None] if leak == 0 else np.zeros((1, 1))
    values = np.full((len(places), 1), 1 - leak, complex)
    return KnownSystem("line attractor", function, "map", basis, places @ basis.T, values, decay, num_inputs=1)


def ring_attractor(num_units: int = 20, *, rate: float = 1.0, seed: int = 0) -> KnownSystem:
    """ż = rate (1 − |z|²) z in the plane: every point of the unit circle is a fixed point, and the unstable origin."""
    _positive(rate=rate)
    angles = 2 * np.pi * np.arange(12) / 12
    points = np.vstack([np.zeros((1, 2)), np.column_stack([np.cos(angles), np.sin(angles)])])
    values = [[rate, rate]] + [[0.0, -2 * rate]] * 12
    return _flow("ring attractor", lambda z: rate * (1 - z @ z) * z, points, values, num_units, seed)


def hopf(num_units: int = 20, *, mu: float = 0.5, omega: float = 2.0, seed: int = 0) -> KnownSystem:
    """ż = (μ + iω) z − |z|² z: for μ > 0 the origin is unstable, around it a limit cycle of radius √μ and period 2π/ω."""
    if not np.isfinite(mu) or omega == 0:
        raise ValueError(f"expected a finite mu and omega other than 0, got {mu} and {omega}")

    def dynamics(z):
        return mu * z + omega * jnp.stack([-z[1], z[0]]) - (z @ z) * z

    values = [[mu + 1j * omega, mu - 1j * omega]]
    return _flow("Hopf oscillator", dynamics, np.zeros((1, 2)), values, num_units, seed)


def pitchfork(num_units: int = 20, *, mu: float = 0.5, seed: int = 0) -> KnownSystem:
    """ż = μ z − z³: one stable point at 0 for μ < 0; for μ > 0 that is a saddle between the stable points ±√μ."""
    if mu == 0 or not np.isfinite(mu):
        raise ValueError(f"mu must be finite and not 0, where the branches meet, got {mu}")
    roots = [0.0] if mu < 0 else [-(mu**0.5), 0.0, mu**0.5]
    values = [[mu - 3 * z**2] for z in roots]
    return _flow("pitchfork", lambda z: mu * z - z**3, np.array(roots)[:, None], values, num_units, seed)


def heteroclinic(num_units: int = 20, *, alpha: float = 0.8, beta: float = 1.3, seed: int = 0) -> KnownSystem:
    """Three populations in competition, ẋ_i = x_i (1 − x_i − α x_{i+1} − β x_{i+2}), that win in turn.

    For α < 1 < β and α + β > 2 the three saddles e_i are joined by a heteroclinic cycle that attracts; the point in which
    all survive, 1 / (1 + α + β), is unstable (May & Leonard 1975, doi:10.1137/0129022). The origin is a repeller.
    """
    if not alpha < 1 < beta or alpha + beta <= 2 or alpha <= 0:
        raise ValueError(f"expected 0 < alpha < 1 < beta and alpha + beta > 2, got {alpha} and {beta}")

    def dynamics(x):
        return x * (1 - x - alpha * jnp.roll(x, -1) - beta * jnp.roll(x, -2))

    total = 1 + alpha + beta
    turning = np.exp(2j * np.pi / 3)
    among = [-(1 + alpha * turning**k + beta * turning ** (2 * k)) / total for k in range(3)]
    points = np.vstack([np.zeros(3), np.eye(3), np.full(3, 1 / total)])
    values = [[1.0, 1.0, 1.0], *[[-1.0, 1 - alpha, 1 - beta]] * 3, among]
    return _flow("heteroclinic cycle", dynamics, points, values, num_units, seed)
