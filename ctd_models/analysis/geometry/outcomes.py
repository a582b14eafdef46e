"""Where trajectories end: at which of the known points, on a cycle, elsewhere, or nowhere yet."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ctd_models.analysis.fixed_points.points import FixedPoints
from ctd_models.analysis.systems import System, padded_rows

OUTCOMES = ("arrived", "near", "cycle", "other point", "diverged", "unsettled")
ROOM = 20_000_000  # differences between states and points in one batch, 160 MB in float64
_ACTIVE, _ARRIVED, _DIVERGED = range(3)


class Ends(NamedTuple):
    """The end of each trajectory."""

    targets: Int[np.ndarray, "m"]
    """Index of the point where it ended; −1 where at none."""
    outcomes: np.ndarray
    """[m] texts, each of OUTCOMES."""
    steps: Int[np.ndarray, "m"]
    """Steps taken until the end."""
    states: Float[np.ndarray, "m d"]
    """Last states."""
    periods: Float[np.ndarray, "m"]
    """Steps of one turn where the outcome is "cycle", NaN elsewhere."""


class Rules(NamedTuple):
    """When a trajectory has ended."""

    arrival: Any
    """Distance from a point within which a trajectory counts as having arrived there."""
    departure: Any
    """Distance from its source beyond which a trajectory has left it, and may come back."""
    escape: Any
    """Distance from the centre of the points beyond which it has diverged."""


def check_points(points: Any) -> None:
    """Raises TypeError or ValueError unless the points are `FixedPoints` whose modes are known, at least one of them."""
    if not isinstance(points, FixedPoints):
        raise TypeError(f"expected points of type FixedPoints, got {type(points).__name__}")
    if points.eigenvalues is None:
        raise ValueError("the modes of the points are not known yet: call linearize(F, points) first")
    if len(points) == 0:
        raise ValueError("there are no points")


def same_inputs(rows: Float[np.ndarray, "m U"], points: FixedPoints) -> np.ndarray:
    """[m, p]: whether a trajectory runs under the input at which a point stands still."""
    if points.inputs is None:
        return np.ones((len(rows), len(points)), bool)
    return (np.abs(rows[:, None] - points.inputs[None]) <= 1e-6 * (1 + np.abs(points.inputs[None]))).all(axis=-1)


def check_numbers(**numbers: Any) -> None:
    """Raises ValueError for numbers that are not positive; None is let through, and num_… must be whole."""
    for name, value in numbers.items():
        if value is None:
            continue
        if not 0 < value < np.inf:
            raise ValueError(f"{name} must be positive, got {value}")
        if name.startswith("num_") and (isinstance(value, bool) or int(value) != value):
            raise ValueError(f"{name} must be a whole number, got {value}")


def follow(
    system: System,
    starts: Float[np.ndarray, "m d"],
    inputs: Float[np.ndarray, "m U"],
    dt: Any,
    num_steps: int,
    points: FixedPoints,
    allowed: Bool[np.ndarray, "m p"],
    sources: Int[np.ndarray, "m"],
    arrival: Any,
    departure: Any,
    radius: Any,
) -> Ends:
    """Runs all trajectories forward, each until it arrives at one of its allowed points or diverges.

    When most of a batch have ended, the others go on in a smaller one, so that nobody works for those that are done.
    """
    dtype = starts.dtype
    targets = points.states.astype(dtype)
    size = float(np.linalg.norm(targets - targets.mean(axis=0), axis=1).max())
    rules = Rules(*(np.asarray(v, dtype) for v in (arrival, departure, 1e3 * max(size, 1.0))))
    flight = _Flight.start(starts)
    batch = max(1, ROOM // targets.size)
    for first in range(0, len(starts), batch):
        rows = np.arange(first, min(first + batch, len(starts)))
        size = len(_padded(rows))
        while len(rows):
            padded = _padded(rows, size)
            given = inputs[padded], allowed[padded], sources[padded]
            now = jax.tree.map(lambda values, padded=padded: values[padded], flight)
            now.status[len(rows) :] = _ARRIVED  # what fills up the batch need not move
            size = size // 8 if size > 16 else 0  # of the next batch
            now = jax.device_get(_follow(system, now, *given, dt, targets, rules, np.int32(num_steps), np.int32(size)))
            for values, new in zip(flight, now, strict=True):
                values[rows] = new[: len(rows)]
            rows = rows[(flight.status[rows] == _ACTIVE) & (flight.steps[rows] < num_steps)]
    states, status, hit, steps, _ = flight
    turn, rest = np.zeros(len(starts), int), np.full(len(starts), np.inf)
    rows = np.flatnonzero(status == _ACTIVE)
    if len(rows):
        padded = _padded(rows)
        found = jax.device_get(_turn(system, states[padded], inputs[padded], dt, np.int32(num_steps)))
        turn[rows], rest[rows] = (values[: len(rows)] for values in found)
    distances = _reach(states, points, allowed & points.is_stable, radius)
    near = np.where(np.isfinite(distances).any(axis=1), distances.argmin(axis=1), -1)
    outcomes = np.select(
        [status == _ARRIVED, status == _DIVERGED, turn > 0, near >= 0, rest <= 1e-3 * arrival],
        ["arrived", "diverged", "cycle", "near", "other point"],
        "unsettled",
    )
    chosen = np.where(outcomes == "arrived", hit, np.where(outcomes == "near", near, -1))
    return Ends(chosen, outcomes, steps, states, np.where(turn > 0, turn, np.nan))


def _padded(rows: np.ndarray, size: int | None = None) -> np.ndarray:
    return rows[padded_rows(len(rows), size)]


def _reach(states: np.ndarray, points: FixedPoints, allowed: np.ndarray, radius: Any) -> np.ndarray:
    """Distances [m, p] of states from the allowed points within whose radius they lie, infinite elsewhere."""
    between = np.linalg.norm(points.states[:, None] - points.states[None], axis=-1)
    np.fill_diagonal(between, np.inf)
    nearest = between.min(axis=1)
    limit = np.where(np.isfinite(nearest), 0.1 * nearest, 0.0) if radius is None else np.full(len(points), radius)
    finite = np.where(np.isfinite(states), states, np.inf)
    distances = np.stack([np.linalg.norm(finite - point, axis=1) for point in points.states], axis=1)
    return np.where(allowed & (distances <= limit), distances, np.inf)


class _Flight(NamedTuple):
    """Trajectories under way, one row each."""

    state: Float[Any, "m d"]
    status: Int[Any, "m"]
    target: Int[Any, "m"]
    steps: Int[Any, "m"]
    left: Bool[Any, "m"]

    @classmethod
    def start(cls, states: np.ndarray) -> "_Flight":
        zeros = np.zeros(len(states), int)
        return cls(states.copy(), zeros + _ACTIVE, zeros - 1, zeros.copy(), zeros > 0)


@jax.jit
def _follow(
    system: System,
    flight: _Flight,
    inputs: Float[Array, "m U"],
    allowed: Bool[Array, "m p"],
    sources: Int[Array, "m"],
    dt: Any,
    points: Float[Array, "p d"],
    rules: Rules,
    num_steps: Any,
    leave_at: Any,
) -> _Flight:
    """Goes on until no more than `leave_at` trajectories are under way, or all have taken `num_steps`."""
    centre = points.mean(axis=0)
    index = jnp.arange(len(points))

    def one(now, given, may, source):
        state = system.advance(now.state, given, dt)
        square = ((points - state) ** 2).sum(axis=1)
        left = now.left | (source < 0) | (square[source] > rules.departure**2)
        square = jnp.where(may & (left | (index != source)), square, jnp.inf)
        arrived = square.min() <= rules.arrival**2
        diverged = ~(((state - centre) ** 2).sum() <= rules.escape**2)
        status = jnp.where(diverged, _DIVERGED, jnp.where(arrived, _ARRIVED, _ACTIVE))
        target = jnp.where(arrived, square.argmin(), -1)
        new = _Flight(state, status, target, now.steps + 1, left)
        return jax.tree.map(lambda n, o: jnp.where(now.status == _ACTIVE, n.astype(o.dtype), o), new, now)

    def under_way(now):
        return ((now.status == _ACTIVE) & (now.steps < num_steps)).sum()

    return jax.lax.while_loop(
        lambda now: under_way(now) > leave_at, lambda now: jax.vmap(one)(now, inputs, allowed, sources), flight
    )


@jax.jit
def _turn(system: System, states: Array, inputs: Array, dt: Any, num_steps: Any):
    """(steps of one turn, 0 where there is none; length of the residual) of trajectories from `states`.

    A turn leads out to at least half of the farthest distance reached within `num_steps` and back to within a thousandth
    of it (of a flow: or to within the length of a step).
    """

    def advance(h):
        return jax.vmap(system.advance, (0, 0, None))(h, inputs, dt)

    def away(h):
        return jnp.linalg.norm(h - states, axis=1)

    def farther(carry):
        t, h, far = carry
        h = advance(h)
        return t + 1, h, jnp.maximum(far, away(h))

    zeros = jnp.zeros_like(states[:, 0])
    _, _, far = jax.lax.while_loop(lambda c: c[0] < num_steps, farther, (jnp.int32(0), states, zeros))
    far = jnp.where(jnp.isfinite(far), far, jnp.inf)

    def nearer(carry):
        t, h, out, turn = carry
        moved = advance(h)
        distance = away(moved)
        step = jnp.linalg.norm(moved - h, axis=1) if system.flow else 0.0
        back = out & (distance <= jnp.maximum(1e-3 * far, 0.6 * step))
        turn = jnp.where(back & (turn == 0), t + 1, turn)
        return t + 1, moved, out | (distance >= 0.5 * far), turn

    never = jnp.zeros(len(states), int)
    carry = jnp.int32(0), states, ~jnp.isfinite(zeros), never
    going = (far > 0) & jnp.isfinite(far)
    _, _, _, turn = jax.lax.while_loop(lambda c: (c[0] < num_steps) & (going & (c[3] == 0)).any(), nearer, carry)
    rest = jnp.linalg.norm(jax.vmap(system.residual)(states, inputs), axis=1)
    return jnp.where(going, turn, 0), rest


@partial(jax.jit, static_argnums=5)
def sample(
    system: System,
    starts: Float[Array, "m d"],
    inputs: Float[Array, "m U"],
    dt: Any,
    steps: Int[Array, "m"],
    num_samples: int,
) -> tuple[Float[Array, "m s d"], Int[Array, "m s"]]:
    """(states, numbers of steps taken) of trajectories, evenly spaced from their starts until `steps`."""
    stride = jnp.maximum(-(-steps // (num_samples - 1)), 1)

    def step(k, carry):
        h, t = carry
        go = (k < stride) & (t < steps)
        return jnp.where(go[:, None], jax.vmap(system.advance, (0, 0, None))(h, inputs, dt), h), t + go

    def next_sample(carry, _):
        carry = jax.lax.fori_loop(0, stride.max(), step, carry)
        return carry, carry

    zero = jnp.zeros_like(steps)
    _, (states, times) = jax.lax.scan(next_sample, (starts, zero), None, length=num_samples - 1)
    states = jnp.concatenate([starts[None], states])
    return jnp.swapaxes(states, 0, 1), jnp.concatenate([zero[None], times]).T
