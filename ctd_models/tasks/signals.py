"""Signals that a network learns to make: `task.signal(key) -> Signal`, for learning that follows one long time course."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ctd_models.tasks.spiking import lorenz_velocity, runge_kutta_step


class Signal(NamedTuple):
    """What a network is given and what it should put out, step by step."""

    inputs: Float[Array, "T U"]
    """Without features ([T, 0]) where the network makes the signal by itself."""
    targets: Float[Array, "T O"]
    """What it should put out."""


@dataclasses.dataclass(frozen=True)
class ChaoticOutputs:
    """Rates of some units of a chaotic network, τ da/dt = −a + tanh(a) W, W ~ N(0, g²/N), from a ~ N(0, initial_std²).

    The targets of Sussillo et al.'s tutorial on FORCE; Sompolinsky, Crisanti & Sommers (1988) for the chaos.
    """

    num_steps: int = 300
    """Steps T."""
    num_outputs: int = 20
    """Units O that are the targets."""
    hidden_size: int = 500
    """Units N."""
    gain: float = 1.8
    """g, above 1 for chaos."""
    tau: float = 1.0
    """Time constant τ [s]."""
    dt: float = 0.1
    """Euler step [s]."""
    initial_std: float = 0.25
    """Standard deviation of the initial activations."""

    def __post_init__(self):
        _check(num_steps=self.num_steps, num_outputs=self.num_outputs, tau=self.tau, dt=self.dt)
        if self.dt > self.tau:
            raise ValueError(f"dt, the Euler step, must not exceed tau = {self.tau} s, got {self.dt}")
        if self.num_outputs > self.hidden_size:
            raise ValueError(f"num_outputs is {self.num_outputs}, but the network has only {self.hidden_size} units")

    def signal(self, key: PRNGKeyArray) -> Signal:
        """The rates of one network and one run."""
        weight_key, state_key = jax.random.split(key)
        N = self.hidden_size
        weights = self.gain / N**0.5 * jax.random.normal(weight_key, (N, N))
        start = self.initial_std * jax.random.normal(state_key, (N,))

        def step(a, _):
            a = a + self.dt / self.tau * (-a + jnp.tanh(a) @ weights)
            return a, jnp.tanh(a[: self.num_outputs])

        return _alone(jax.lax.scan(step, start, length=self.num_steps)[1])


@dataclasses.dataclass(frozen=True)
class SumOfSines:
    """Σ_k amplitude_k · sin(2π k t / period + phase_k), scaled to the largest value `peak`."""

    num_steps: int = 600
    """Steps T."""
    period: float = 30.0
    """Period [s]."""
    amplitudes: tuple[float, ...] = (1.0, 0.5, 1 / 6, 1 / 3)
    """Of the harmonics k = 1, 2, …; those of Sussillo & Abbott (2009)."""
    random_phases: bool = False
    """Whether phases are drawn from the key; otherwise they are 0."""
    peak: float = 1.0
    """Largest absolute value."""
    dt: float = 0.1
    """Length of a step [s]."""

    def __post_init__(self):
        _check(num_steps=self.num_steps, period=self.period, peak=self.peak, dt=self.dt)
        if not any(self.amplitudes):
            raise ValueError(f"amplitudes must not all be 0, got {self.amplitudes}")

    @property
    def steps_per_period(self) -> int:
        """Steps of one period, rounded."""
        return round(self.period / self.dt)

    def signal(self, key: PRNGKeyArray) -> Signal:
        """One output."""
        k = jnp.arange(1, len(self.amplitudes) + 1)
        phases = jax.random.uniform(key, k.shape, maxval=2 * jnp.pi) if self.random_phases else jnp.zeros(k.shape)
        times = self.dt * jnp.arange(1, self.num_steps + 1)
        whole = self.period * jnp.linspace(0, 1, 1000)

        def values(t):
            return jnp.sin(2 * jnp.pi * k * t[:, None] / self.period + phases) @ jnp.array(self.amplitudes)

        return _alone(self.peak * values(times)[:, None] / jnp.abs(values(whole)).max())


@dataclasses.dataclass(frozen=True)
class TriangleWave:
    """A wave that rises and falls in straight lines, from 0."""

    num_steps: int = 600
    """Steps T."""
    period: float = 30.0
    """Period [s]."""
    peak: float = 1.0
    """Largest absolute value."""
    dt: float = 0.1
    """Length of a step [s]."""

    def __post_init__(self):
        _check(num_steps=self.num_steps, period=self.period, peak=self.peak, dt=self.dt)

    @property
    def steps_per_period(self) -> int:
        """Steps of one period, rounded."""
        return round(self.period / self.dt)

    def signal(self, key: PRNGKeyArray) -> Signal:
        """One output; nothing is random."""
        phase = self.dt * jnp.arange(1, self.num_steps + 1) / self.period + 0.25
        return _alone(self.peak * (1 - 4 * jnp.abs(phase % 1.0 - 0.5))[:, None])


@dataclasses.dataclass(frozen=True)
class LorenzSignal:
    """The Lorenz system, ẋ = σ(y − x), ẏ = x(ρ − z) − y, ż = xy − βz, on its attractor, standardised.

    Without a horizon the network makes the signal by itself; with one it is given the signal and predicts it.
    """

    num_steps: int = 3_000
    """Steps T."""
    time_per_step: float = 0.02
    """Length of a step in the time of the Lorenz system."""
    horizon: int = 0
    """Steps ahead that are to be predicted; 0: the signal is not given."""
    burn_in: float = 10.0
    """Time before the first step, for the way to the attractor."""
    sigma: float = 10.0
    """σ"""
    rho: float = 28.0
    """ρ"""
    beta: float = 8 / 3
    """β"""

    def __post_init__(self):
        _check(num_steps=self.num_steps, time_per_step=self.time_per_step)
        _check_length(self)

    def derivative(self, state: Float[Array, "3"]) -> Float[Array, "3"]:
        """Velocity of a state (x, y, z)."""
        return lorenz_velocity(state, self.sigma, self.rho, self.beta)

    def signal(self, key: PRNGKeyArray) -> Signal:
        """Three outputs, from a random state."""
        substeps = max(1, round(self.time_per_step / 0.005))

        def step(state, _):
            dt = self.time_per_step / substeps
            after = jax.lax.fori_loop(0, substeps, lambda _, s: runge_kutta_step(self.derivative, s, dt), state)
            return after, after

        before = round(self.burn_in / self.time_per_step)
        start = jax.random.normal(key, (3,)) + jnp.array([0.0, 0.0, self.rho - 1])
        states = jax.lax.scan(step, start, length=before + self.num_steps + self.horizon)[1][before:]
        return _predicted((states - states.mean(axis=0)) / states.std(axis=0), self.horizon)


@dataclasses.dataclass(frozen=True)
class MackeyGlass:
    """The delayed feedback dx/dt = β x_δ / (1 + x_δⁿ) − γ x, standardised (Mackey & Glass 1977, doi:10.1126/science.267326).

    x_δ is x at the time t − delay; chaotic for delays above 16.8. Euler steps, ten in each step of the signal.
    """

    num_steps: int = 3_000
    """Steps T."""
    time_per_step: float = 1.0
    """Length of a step in the time of the equation."""
    horizon: int = 0
    """Steps ahead that are to be predicted; 0: the signal is not given."""
    delay: float = 17.0
    """δ"""
    beta: float = 0.2
    """β"""
    gamma: float = 0.1
    """γ"""
    exponent: float = 10.0
    """n"""
    burn_in: float = 500.0
    """Time before the first step, for the way to the attractor."""

    def __post_init__(self):
        _check(num_steps=self.num_steps, time_per_step=self.time_per_step, delay=self.delay)
        _check_length(self)

    def signal(self, key: PRNGKeyArray) -> Signal:
        """One output, from a random past."""
        dt = self.time_per_step / 10
        length = max(1, round(self.delay / dt))

        def substep(_, carry):
            past, place, x = carry
            delayed = past[place]
            x_next = x + dt * (self.beta * delayed / (1 + delayed**self.exponent) - self.gamma * x)
            return past.at[place].set(x), (place + 1) % length, x_next

        def step(carry, _):
            carry = jax.lax.fori_loop(0, 10, substep, carry)
            return carry, carry[2]

        before = round(self.burn_in / self.time_per_step)
        past = 1.2 + 0.1 * jax.random.normal(key, (length,))
        carry = past, jnp.int32(0), past[-1]
        values = jax.lax.scan(step, carry, length=before + self.num_steps + self.horizon)[1][before:, None]
        return _predicted((values - values.mean()) / values.std(), self.horizon)


def _alone(targets: Float[Array, "T O"]) -> Signal:
    return Signal(jnp.zeros((len(targets), 0)), targets)


def _predicted(values: Float[Array, "T O"], horizon: int) -> Signal:
    return Signal(values[:-horizon], values[horizon:]) if horizon else _alone(values)


def _check(**numbers: Any) -> None:
    for name, value in numbers.items():
        if not value > 0 or (name.startswith("num_") and value != int(value)):
            raise ValueError(f"{name} must be positive{' and whole' if name.startswith('num_') else ''}, got {value}")


def _check_length(task: Any) -> None:
    """Raises ValueError for signals that cannot be standardised, and for times that are negative."""
    if task.num_steps < 2:
        raise ValueError(f"num_steps must be at least 2, got {task.num_steps}")
    for name in ("horizon", "burn_in"):
        if getattr(task, name) < 0:
            raise ValueError(f"{name} cannot be negative, got {getattr(task, name)}")
