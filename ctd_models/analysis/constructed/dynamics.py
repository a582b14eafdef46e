"""Oscillations, bifurcations and connections whose course is known."""

import jax.numpy as jnp
import numpy as np

from ctd_models.analysis.constructed.system import KnownSystem, flow


def hopf(num_units: int = 20, *, mu: float = 0.5, omega: float = 2.0, seed: int = 0) -> KnownSystem:
    """ż = (μ + iω) z − |z|² z: for μ > 0 the origin is unstable, around it a limit cycle of radius √μ and period 2π/ω."""
    if not np.isfinite(mu) or omega == 0:
        raise ValueError(f"expected a finite mu and omega other than 0, got {mu} and {omega}")

    def dynamics(z):
        return mu * z + omega * jnp.stack([-z[1], z[0]]) - (z @ z) * z

    values = [[mu + 1j * omega, mu - 1j * omega]]
    return flow("Hopf oscillator", dynamics, np.zeros((1, 2)), values, num_units, seed)


def pitchfork(num_units: int = 20, *, mu: float = 0.5, seed: int = 0) -> KnownSystem:
    """ż = μ z − z³: one stable point at 0 for μ < 0; for μ > 0 that is a saddle between the stable points ±√μ."""
    if mu == 0 or not np.isfinite(mu):
        raise ValueError(f"mu must be finite and not 0, where the branches meet, got {mu}")
    roots = [0.0] if mu < 0 else [-(mu**0.5), 0.0, mu**0.5]
    values = [[mu - 3 * z**2] for z in roots]
    return flow("pitchfork", lambda z: mu * z - z**3, np.array(roots)[:, None], values, num_units, seed)


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
    return flow("heteroclinic cycle", dynamics, points, values, num_units, seed)
