"""Systems that hold a graded value: by a line, a ring, or points that attract, or on the move."""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from jaxtyping import Float

from ctd_models.analysis.constructed.system import KnownSystem, flow, linear_map, positive
from ctd_models.analysis.orbits.simulation import drive


def line_attractor(num_units: int = 20, *, leak: float = 0.0, decay: float = 0.5, seed: int = 0) -> KnownSystem:
    """A linear integrator, z' = (1 − leak) z + x, everything else decays by the factor `decay` a step: a map with one input.

    Without leak every z is a fixed point at zero input.
    """
    if not 0 <= leak < 1:
        raise ValueError(f"leak must lie in [0, 1), got {leak}")
    places = np.linspace(-1, 1, 9)[:, None] if leak == 0 else np.zeros((1, 1))
    line = linear_map("line attractor", [[1 - leak]], [[1.0]], decay, num_units, seed, places, [1 - leak])
    return _memory(line, [0.0], _one_number, 1.0)


def ring_attractor(num_units: int = 20, *, rate: float = 1.0, seed: int = 0) -> KnownSystem:
    """ż = rate (1 − |z|²) z + x in the plane, with two inputs.

    Without input every point of the unit circle is a fixed point, and the unstable origin.
    """
    positive(rate=rate)
    angles = 2 * np.pi * np.arange(12) / 12
    points = np.vstack([np.zeros((1, 2)), np.column_stack([np.cos(angles), np.sin(angles)])])
    values = [[rate, rate]] + [[0.0, -2 * rate]] * 12
    ring = flow("ring attractor", lambda z, x: rate * (1 - z @ z) * z + x, points, values, num_units, seed, 2)

    def write(values):
        place = np.column_stack([np.cos(np.pi * values), np.sin(np.pi * values)])
        return place, place

    return _memory(ring, [0.0, 0.0], write, 5.0)


def discrete_attractors(
    num_units: int = 20, *, num_groups: int = 8, gain: float = 8.0, spread: float = 0.6, seed: int = 0
) -> KnownSystem:
    """A bank of bistable groups with staggered thresholds, ż_k = −z_k + σ(gain (z_k − ½) + x − θ_k), with one input.

    Without input every group is on or off, for gain > 4 and thresholds, evenly spread over −spread … spread, within its
    hysteresis. A pulse turns on the groups whose threshold it passes: graded inputs are kept as a staircase (Koulakov,
    Raghavachari, Kepecs & Lisman 2002, doi:10.1038/nn893). The known points are the states with the first groups on, and
    the saddles between these.
    """
    if not 4 < gain < np.inf or num_groups < 1:
        raise ValueError(f"expected gain > 4, where groups are bistable, and num_groups ≥ 1, got {gain}, {num_groups}")
    turn = (1 - np.sqrt(1 - 4 / gain)) / 2  # of a group that is about to switch on: gain σ' = 1
    hysteresis = np.log(turn / (1 - turn)) - gain * (turn - 0.5)
    if not 0 <= spread < hysteresis:
        raise ValueError(f"spread must lie in [0, {hysteresis:.3f}), the hysteresis of a group, got {spread}")
    thresholds = np.linspace(-spread, spread, num_groups) if num_groups > 1 else np.zeros(1)
    edges = (0.0, turn, 1 - turn, 1.0)

    def misses(z, threshold):
        return 1 / (1 + np.exp(-(gain * (z - 0.5) - threshold))) - z

    roots = np.array(
        [
            [scipy.optimize.brentq(misses, a, b, (threshold,), xtol=1e-15) for a, b in itertools.pairwise(edges)]
            for threshold in thresholds
        ]
    )  # [groups, 3]: off, between, on
    group, stair = np.arange(num_groups), np.arange(num_groups + 1)[:, None]
    off, between, on = roots.T
    stairs = np.where(group < stair, on, off)
    points = np.vstack([stairs, np.where(group == stair[:-1], between, stairs[:-1])])
    values = gain * points * (1 - points) - 1

    def dynamics(z, x):
        return jax.nn.sigmoid(gain * (z - 0.5) + x - jnp.asarray(thresholds, z.dtype)) - z

    bank = flow("discrete attractors", dynamics, points, values, num_units, seed, 1)
    reach = spread * (1 + 1 / num_groups)  # half a stair beyond the thresholds

    def write(values):
        return hysteresis + reach * values[:, None], values[:, None]

    return _memory(bank, off, write, 20.0)


def rotating_memory(
    num_units: int = 20, *, periods: tuple[float, ...] = (16.0, 23.0, 37.0), decay: float = 0.5, seed: int = 0
) -> KnownSystem:
    """What an input writes turns in several planes, z_k' = e^{2πi / period_k} z_k + x: a map with one input.

    A dynamic representation: the value can be read at any time, but everywhere else; no state but the origin stands still.
    The periods are in steps.
    """
    if not periods or not all(2 < period < np.inf for period in periods):
        raise ValueError(f"periods must be longer than 2 steps, got {periods}")
    angles = 2 * np.pi / np.asarray(periods)
    within = np.zeros((2 * len(angles), 2 * len(angles)))
    first = 2 * np.arange(len(angles))
    within[first, first] = within[first + 1, first + 1] = np.cos(angles)
    within[first + 1, first], within[first, first + 1] = np.sin(angles), -np.sin(angles)
    write = np.tile([[1.0], [0.0]], (len(angles), 1)) / len(angles) ** 0.5
    values = np.exp(1j * np.concatenate([angles, -angles]))
    name = "dynamic representation"
    zero = np.zeros((1, len(within)))
    return _memory(linear_map(name, within, write, decay, num_units, seed, zero, values), zero[0], _one_number, 1.0)


def mistuned(system: KnownSystem, noise: float, seed: int) -> Callable[..., Any]:
    """The function of a system whose connections carry noise, F(h, x) + noise · E h, with E_ij ~ N(0, 1 / num_units).

    Lines and rings of fixed points break up under the smallest noise, and their memories drift; attractors that are points
    stay.

    Raises:
        ValueError: noise is negative.
    """
    if not 0 <= noise < np.inf:
        raise ValueError(f"noise cannot be negative, got {noise}")
    d = system.num_units
    extra = noise * np.random.default_rng(seed).normal(size=(d, d)) / d**0.5

    def function(state, *inputs):
        return system.function(state, *inputs) + jnp.asarray(extra, state.dtype) @ state

    return function


def delay_trajectories(
    system: KnownSystem, values: Any, num_steps: int, *, function: Callable[..., Any] | None = None, dt: float = 0.1
) -> tuple[Float[np.ndarray, "n time d"], Float[np.ndarray, "n k"]]:
    """(states during a delay of `num_steps` steps after values were written into a memory, what it then holds).

    Args:
        system: a line, a ring, discrete attractors, a rotating memory.
        values: [n], in −1 … 1; of a ring, angles in units of π.
        num_steps: T; the state that the writing leaves comes first, so that there are T + 1.
        function: run this instead, such as the `mistuned` system.
        dt: step of a flow, in its unit of time.

    Raises:
        ValueError: the system is no memory, or values are out of range.
    """
    if system.write is None:
        raise ValueError(f"nothing can be written into a {system.name}")
    values = np.asarray(values, float)
    if values.ndim != 1 or not (np.abs(values) <= 1).all():
        raise ValueError(f"expected values [n] in −1 … 1, got shape {values.shape} and {values.min()} … {values.max()}")
    stimuli, held = system.write(values)
    options = {} if system.kind == "map" else {"dt": dt}
    steps = max(1, round(system.write_time / options.get("dt", 1)))
    inputs = stimuli[:, None] * (np.arange(steps + num_steps) < steps)[:, None]
    start = np.tile(system.rest, (len(values), 1))
    return drive(function or system, start, inputs, kind=system.kind, **options)[:, steps:], held


def _memory(system: KnownSystem, rest: Any, write: Callable[[Any], Any], write_time: float) -> KnownSystem:
    """The system with what is written where, and for how long."""

    def stimuli(values):
        return write(np.asarray(values, float))

    return dataclasses.replace(system, rest=system.embed(rest), write=stimuli, write_time=write_time)


def _one_number(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return values[:, None], values[:, None]
