"""The way from candidates to limit cycles: guesses, Newton's method, minimal periods, accuracy, and one of each cycle."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial.distance import cdist

from ctd_models.analysis.orbits import shooting
from ctd_models.analysis.orbits.shooting import Pieces
from ctd_models.analysis.systems import System

FIXED_POINT_EXTENT = 1e-6  # an orbit smaller than this, relative to 1 + its largest entry, is a fixed point
SAME_STATE = (
    1e-4  # a state that comes back this near a fraction of the period later, relative to the extent, divides it
)
DIVISORS = (2, 3, 5, 7)
MAX_DOUBLINGS = 4
BATCH_ENTRIES = 5_000_000  # numbers that one batch may hold: 40 MB in float64
ACCURACY = {8: 1e-8, 4: 1e-4}  # of the integration, relative to the monodromy matrix, by bytes of a number
REASONS = {shooting.EXHAUSTED: "not_converged", shooting.STALLED: "stalled", shooting.NON_FINITE: "not_finite"}


class Found(NamedTuple):
    """Orbits that are closed, with one row each in every field."""

    index: Int[np.ndarray, "n"]
    """Of the candidate."""
    pieces: Pieces
    gap: Float[np.ndarray, "n"]
    iterations: Int[np.ndarray, "n"]
    monodromy: Float[np.ndarray, "n d d"]
    error: Float[np.ndarray, "n"]
    steps: Int[np.ndarray, "n"]
    """Runge-Kutta steps of a piece."""


def take(values: Any, index: Any) -> Any:
    """The chosen rows of every array."""
    return jax.tree.map(lambda array: array[index], values)


@dataclasses.dataclass
class CycleSearch:
    """What a search knows throughout, and the candidates that it has dropped."""

    system: System
    rows: Float[np.ndarray, "n U"]
    num_segments: int
    steps: int
    tolerance: Any
    shortest: Any
    longest: Any
    max_iterations: int
    dropped: dict[str, list[int]]

    def keep(self, reason: str, found: Any, lost: Bool[np.ndarray, "n"]) -> Any:
        """The rows of `found` that are not lost; the candidates (its first field) of the others are noted."""
        index = found if isinstance(found, np.ndarray) else found[0]
        self.dropped.setdefault(reason, []).extend(index[lost].tolist())
        return take(found, ~lost)

    def guess(
        self,
        states: Float[np.ndarray, "n d"],
        alive: Int[np.ndarray, "m"],
        dt: Any,
        steps: int,
        return_tolerance: float,
    ) -> tuple[Int[np.ndarray, "k"], Float[np.ndarray, "k"]]:
        """(candidates that return to where they start, after how long)."""
        batched = self._in_batches(lambda h, x: shooting.find_returns(self.system, h, x, dt, np.int32(steps)), 1)
        found = batched(states[alive], self.rows[alive])
        found = (alive, found.time, found.distance, found.extent, found.is_finite)
        size = 1 + np.abs(states[alive]).max(axis=1)
        found = self.keep("fixed_point", found, found[4] & (found[3] <= FIXED_POINT_EXTENT * size))
        away = ~(found[2] <= return_tolerance * found[3])
        found = self.keep("not_finite", found, away & ~found[4])
        index, time, *_ = self.keep("no_return", found, ~(found[2] <= return_tolerance * found[3]))
        return index, time

    def refine(
        self, states: Float[np.ndarray, "m d"], periods: Float[np.ndarray, "m"], index: Int[np.ndarray, "m"]
    ) -> Found:
        """Closed orbits from guesses, each integrated as finely as it needs."""
        parts, steps = [], self.steps
        under_way = (index, self._cut(states, periods, index, steps), np.zeros(len(index), int))
        for doubling in range(MAX_DOUBLINGS + 1):
            under_way = self._minimal(self._shoot(under_way, steps), steps)
            if not len(under_way[0]):
                break
            found = self._measured(*under_way, steps)
            done = (found.error <= ACCURACY[found.error.itemsize]) | (doubling == MAX_DOUBLINGS)
            parts.append(take(found, done))
            under_way, steps = take((found.index, found.pieces, found.iterations), ~done), 2 * steps
        if not parts:
            d, none = states.shape[1], np.zeros(0, states.dtype)
            pieces = Pieces(np.zeros((0, self.num_segments, d), states.dtype), none)
            empty = np.zeros(0, int)
            return Found(empty, pieces, none, empty, np.zeros((0, d, d), states.dtype), none, empty)
        return jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)

    def owners(self, found: Found, distance: float) -> Int[np.ndarray, "n"]:
        """For each orbit, the first one that is the same: through one state there runs one orbit."""
        nodes, periods = found.pieces
        owner = np.full(len(periods), -1)
        if not len(periods):
            return owner
        phases = np.arange(1024) / 1024  # a relaxation oscillation is bent sharply
        for i in range(len(periods)):
            if owner[i] >= 0:
                continue
            owner[i] = i
            same = (owner < 0) & (np.abs(periods - periods[i]) <= distance * periods[i])
            same &= (self.rows[found.index] == self.rows[found.index[i]]).all(axis=1)
            if same.any():
                orbit = self.samples(take(found, [i]), phases)[0]
                near = _distance_to_curve(nodes[same, 0], orbit)
                owner[np.flatnonzero(same)[near <= distance * _extents(orbit[None])[0]]] = i
        return owner

    def samples(self, found: Found, phases: Float[np.ndarray, "P"]) -> Float[np.ndarray, "n P d"]:
        """States at phases in [0, 1) of each orbit."""
        if not len(found.index):
            return np.zeros((0, len(phases), found.pieces.nodes.shape[2]), found.gap.dtype)
        steps = int(found.steps.max())
        phases = phases.astype(found.gap.dtype)
        batched = self._in_batches(lambda p, x: shooting.sample(self.system, p, x, phases, steps), len(phases))
        return batched(found.pieces, self.rows[found.index])

    def _cut(self, states, periods, index, steps):
        if not len(index):
            return Pieces(np.zeros((0, self.num_segments, states.shape[1]), states.dtype), periods)
        batched = self._in_batches(lambda h, t, x: shooting.cut(self.system, h, t, x, self.num_segments, steps), 1)
        return batched(states, periods, self.rows[index])

    def _shoot(self, under_way, steps):
        index, pieces, iterations = under_way
        if not len(index):
            return under_way
        settings = (self.tolerance, (self.shortest, self.longest), np.int32(self.max_iterations))
        entries = (self.num_segments * pieces.nodes.shape[2] + 1) ** 2
        batched = self._in_batches(lambda p, x: shooting.shoot(self.system, p, x, *settings, steps), entries)
        shot = batched(pieces, self.rows[index])
        under_way = (index, shot.pieces, iterations + shot.iterations)
        status = shot.status
        for code, reason in REASONS.items():
            under_way = self.keep(reason, under_way, status == code)
            status = status[status != code]
        size = 1 + np.abs(under_way[1].nodes).max(axis=(1, 2), initial=0)
        return self.keep("fixed_point", under_way, _extents(under_way[1].nodes) <= FIXED_POINT_EXTENT * size)

    def _minimal(self, under_way, steps):
        """The same orbits, once around each."""
        for _ in range(3):
            index, pieces, iterations = under_way
            if not len(index):
                break
            phases = (1 / np.array(DIVISORS)).astype(pieces.period.dtype)
            batched = self._in_batches(lambda p, x: shooting.sample(self.system, p, x, phases, steps), len(DIVISORS))  # noqa: B023
            back = batched(pieces, self.rows[index]) - pieces.nodes[:, :1]
            same = np.linalg.norm(back, axis=2) <= SAME_STATE * _extents(pieces.nodes)[:, None]
            divisor = np.where(same, DIVISORS, 1).max(axis=1)
            several = divisor > 1
            if not several.any():
                break
            again, parts = index[several], (pieces.nodes[several, 0], (pieces.period / divisor)[several])
            redone = self._shoot((again, self._cut(*parts, again, steps), iterations[several]), steps)
            under_way = jax.tree.map(lambda *a: np.concatenate(a), take(under_way, ~several), redone)
        return under_way

    def _measured(self, index, pieces, iterations, steps):
        entries = self.num_segments * pieces.nodes.shape[2] ** 2
        coarse, fine = (
            self._in_batches(lambda p, x, n=n: shooting.monodromy(self.system, p, x, n), entries)(
                pieces, self.rows[index]
            )
            for n in (steps, 2 * steps)
        )
        change = np.linalg.norm(fine[0] - coarse[0], axis=(1, 2)) / np.linalg.norm(fine[0], axis=(1, 2))
        return Found(
            index, pieces, coarse[1], iterations, fine[0], np.maximum(change, fine[1]), np.full(len(index), steps)
        )

    def _in_batches(self, function: Callable[..., Any], entries: int) -> Callable[..., Any]:
        """`function` of arrays with one row each, called on batches of few sizes, so that little is compiled."""

        def batched(*arrays):
            count = len(jax.tree.leaves(arrays)[0])
            largest = min(max(1, BATCH_ENTRIES // entries), 1 << (len(self.rows) - 1).bit_length())
            batch = next(s for s in (max(1, largest // 64), max(1, largest // 8), largest) if s >= min(count, largest))
            parts = []
            for start in range(0, count, batch):
                chosen = np.minimum(np.arange(start, start + batch), count - 1)
                parts.append(jax.device_get(function(*take(arrays, chosen))))
            return jax.tree.map(lambda *a: np.concatenate(a)[:count], *parts)

        return batched


def _extents(orbits: Float[np.ndarray, "n P d"]) -> Float[np.ndarray, "n"]:
    """Largest distance between a state and the mean one."""
    return np.linalg.norm(orbits - orbits.mean(axis=1, keepdims=True), axis=2).max(axis=1)


def _distance_to_curve(points: Float[np.ndarray, "m d"], curve: Float[np.ndarray, "P d"]) -> Float[np.ndarray, "m"]:
    """Distance of points from a closed curve through `curve`, taken to be straight between its points."""
    nearest = cdist(points, curve).argmin(axis=1)
    distances = []
    for neighbour in (-1, 1):
        start, end = curve[nearest], curve[(nearest + neighbour) % len(curve)]
        along = end - start
        length = np.maximum((along**2).sum(axis=1), np.finfo(along.dtype).tiny)
        part = np.clip(((points - start) * along).sum(axis=1) / length, 0, 1)
        distances.append(np.linalg.norm(points - start - part[:, None] * along, axis=1))
    return np.minimum(*distances)
