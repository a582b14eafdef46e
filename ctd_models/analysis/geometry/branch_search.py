"""The way from starts to branches: curves in both directions, one of each, and what lies on them."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial.distance import cdist

from ctd_models.analysis.geometry import bifurcations as events
from ctd_models.analysis.geometry import predictor_corrector as compiled
from ctd_models.analysis.geometry.bifurcations import NOTICED, Crossing, Signs
from ctd_models.analysis.geometry.branches import Bifurcations, Branch
from ctd_models.analysis.geometry.predictor_corrector import Line
from ctd_models.analysis.systems import System

ENDS = {
    compiled.ACTIVE: "max_steps",
    compiled.RANGE: "range",
    compiled.CLOSED: "closed",
    compiled.NOT_CONVERGED: "not_converged",
}
BATCH_ENTRIES = 5_000_000  # numbers that one batch may hold: 40 MB in float64
ON_CURVE = 0.1  # a start this near a curve, in units of the local distance of its points, lies on it
ASLANT = 0.9  # where the cosine of the angle between their tangents is larger


class Curve(NamedTuple):
    """A branch in scaled coordinates."""

    z: Float[np.ndarray, "m e"]
    tangents: Float[np.ndarray, "m e"]
    ends: tuple[str, str]
    start: int
    """Which of its points it was started from."""
    index: int
    """Of the candidate; −1 where it was entered at a branch point."""
    hits: int = 1


def take(values: Any, index: Any) -> Any:
    """The chosen rows of every array."""
    return jax.tree.map(lambda array: array[index], values)


@dataclasses.dataclass
class BranchSearch:
    """What a search knows throughout."""

    system: System
    line: Line
    largest_step: Any
    tolerance: Any
    max_steps: int

    def land(self, guesses: np.ndarray, normals: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(points on branches in planes through the guesses, tangents there, whether they were reached)."""
        e = guesses.shape[1]
        function = self._in_batches(lambda *a: compiled.land(self.system, self.line, *a, self.tolerance), e * e)
        return function(guesses, normals)

    def curves(
        self, starts: Float[np.ndarray, "n e"], tangents: Float[np.ndarray, "n e"], indices: Int[np.ndarray, "n"]
    ) -> list[Curve]:
        """The branches through starts, in both directions."""
        n, e = starts.shape
        settings = (self.largest_step, self.tolerance)

        def walk(z, t):
            *paths, status = compiled.trace(self.system, self.line, z, t, *settings, self.max_steps)
            return *(path.swapaxes(0, 1) for path in paths), status

        walked = self._in_batches(walk, e * e + 2 * self.max_steps * e)
        ways = walked(np.concatenate([starts, starts]), np.concatenate([tangents, -tangents]))
        return [
            self._joined(take(ways, i), take(ways, n + i), starts[i], tangents[i], int(indices[i])) for i in range(n)
        ]

    @staticmethod
    def _joined(forward: tuple, backward: tuple, start: np.ndarray, tangent: np.ndarray, index: int) -> Curve:
        z, t, accepted, status = forward
        z, t = np.concatenate([start[None], z[accepted]]), np.concatenate([tangent[None], t[accepted]])
        if status == compiled.CLOSED:
            return Curve(z, t, ("closed", "closed"), 0, index)
        z_back, t_back, accepted, status_back = backward
        z_back, t_back = z_back[accepted][::-1], -t_back[accepted][::-1]
        ends = (ENDS[int(status_back)], ENDS[int(status)])
        return Curve(np.concatenate([z_back, z]), np.concatenate([t_back, t]), ends, len(z_back), index)

    def branches(self, curves: list[Curve]) -> tuple[list[Branch], Crossing]:
        """(the branches with their bifurcations, simple crossings with other branches)."""
        z, tangents = np.concatenate([c.z for c in curves]), np.concatenate([c.tangents for c in curves])
        bounds = np.cumsum([len(curve.z) for curve in curves])
        jacobians, bordered = self._measure(z, tangents)
        eigenvalues = events.ordered_eigenvalues(jacobians, self.system.flow)
        signs = events.signs_of(eigenvalues, bordered, tangents, self.system.flow)
        between = events.changes(take(signs, slice(None, -1)), take(signs, slice(1, None)))
        between[:, bounds[:-1] - 1] = False  # from one curve to the next
        what, left = np.nonzero(between)
        located, crossings = self._located(z, tangents, take(signs, left), what, left)
        simple = Crossing(*(np.concatenate([getattr(c, f) for c in crossings]) for f in Crossing._fields))
        result = []
        for curve, end in zip(curves, bounds, strict=True):
            rows = slice(end - len(curve.z), end)
            mine = (left >= rows.start) & (left < rows.stop)
            found = located[np.flatnonzero(mine)]
            found = dataclasses.replace(found, positions=found.positions - rows.start)
            states, parameters = self.line.unscaled(curve.z)
            d = states.shape[1]
            directions = curve.tangents * np.append(np.full(d, np.sqrt(d)), self.line.width).astype(states.dtype)
            result.append(
                Branch(
                    parameters=parameters,
                    states=states,
                    tangents=directions / np.linalg.norm(directions, axis=1, keepdims=True),
                    eigenvalues=eigenvalues[rows],
                    num_unstable=signs.num_unstable[rows],
                    bifurcations=found[np.argsort(found.positions, kind="stable")],
                    ends=curve.ends,
                    candidate_index=curve.index,
                    hits=curve.hits,
                )
            )
        return result, take(simple, simple.is_simple)

    def _measure(self, z: np.ndarray, tangents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        function = self._in_batches(lambda *a: events.measure(self.system, self.line, *a), z.shape[1] ** 2)
        return function(z, tangents)

    def _located(
        self, z: np.ndarray, tangents: np.ndarray, left_signs: Signs, what: np.ndarray, left: np.ndarray
    ) -> tuple[Bifurcations, list[Crossing]]:
        """The bifurcations after the points `left`, by bisection of the way to the next point."""
        e, count, flow = z.shape[1], len(left), self.system.flow
        none = np.zeros((0, e), z.dtype)
        crossings = [Crossing(none, none, none, np.zeros(0, bool))]
        if not count:
            return Bifurcations(
                np.zeros(0, "<U16"), np.zeros(0), np.zeros((0, e - 1)), np.zeros(0, complex), np.zeros(0)
            ), crossings
        ends = (z[left], tangents[left], z[left + 1], tangents[left + 1])
        function = self._in_batches(lambda *a: events.between(self.system, self.line, *a, self.tolerance), e * e)
        low, high = np.zeros(count, z.dtype), np.ones(count, z.dtype)
        for _ in range(events.BISECTIONS):
            part = 0.5 * (low + high)
            here, direction, _ = function(ends, part)
            jacobians, bordered = self._measure(here, direction)
            eigenvalues = events.ordered_eigenvalues(jacobians, flow)
            signs = events.signs_of(eigenvalues, bordered, direction, flow)
            beyond = events.changes(left_signs, signs)[what, np.arange(count)]
            low, high = np.where(beyond, low, part), np.where(beyond, part, high)
        at = np.flatnonzero(what == NOTICED.index("branch point"))
        crossing_of: dict[int, Crossing] = {}
        if len(at):
            # the tangent at the point itself is badly conditioned, as there are two
            direction = (1 - part[:, None]) * ends[1] + part[:, None] * ends[3]
            found = self._crossed(here[at], direction[at], np.linalg.norm(ends[2] - ends[0], axis=1)[at])
            here[at[found.is_simple]] = found.z[found.is_simple]
            crossings.append(found)
            crossing_of = {int(i): take(found, j) for j, i in enumerate(at)}
        names = [NOTICED[index] for index in what]
        critical = [events.critical_eigenvalue(name, eigenvalues[i], flow) for i, name in enumerate(names)]
        kinds = [events.name_of(name, flow, critical[i], crossing_of.get(i)) for i, name in enumerate(names)]
        states, parameters = self.line.unscaled(here)
        return Bifurcations(np.array(kinds, "<U16"), parameters, states, np.array(critical), left + part), crossings

    def _crossed(self, z: np.ndarray, tangents: np.ndarray, farthest: Float[np.ndarray, "k"]) -> Crossing:
        """Crossings near z; one farther away than the points between which it was noticed is another one."""
        entries = 4 * z.shape[1] ** 2
        function = self._in_batches(lambda *a: events.cross(self.system, self.line, *a, self.tolerance), entries)
        found = function(z, tangents)
        return found._replace(is_simple=found.is_simple & (np.linalg.norm(found.z - z, axis=1) <= farthest))

    def _in_batches(self, function: Callable[..., Any], entries: int) -> Callable[..., Any]:
        """`function` of arrays with one row each, called on batches of few sizes, so that little is compiled."""

        def batched(*arrays):
            count = len(jax.tree.leaves(arrays)[0])
            power_of_four = 4 ** max(1, -(-(count - 1).bit_length() // 2))
            batch = min(max(1, BATCH_ENTRIES // entries), power_of_four)
            parts = []
            for start in range(0, count, batch):
                chosen = np.minimum(np.arange(start, start + batch), count - 1)
                parts.append(jax.device_get(function(*take(arrays, chosen))))
            return jax.tree.map(lambda *a: np.concatenate(a)[:count], *parts)

        return batched


def unique(curves: list[Curve], known: list[Curve]) -> tuple[list[Curve], Bool[np.ndarray, "n"]]:
    """(known curves and new ones whose start lies on none of them, the longest first; which of `curves` are new)."""
    kept, is_new = list(known), np.zeros(len(curves), bool)
    for i in np.argsort([-len(curve.z) for curve in curves], kind="stable"):
        curve = curves[i]
        point, direction = curve.z[curve.start], curve.tangents[curve.start]
        owner = next((j for j, other in enumerate(kept) if _lies_on(point, direction, other)), None)
        if owner is None:
            is_new[i] = True
            kept.append(curve)
        else:
            kept[owner] = kept[owner]._replace(hits=kept[owner].hits + curve.hits)
    return kept, is_new


def _lies_on(point: Float[np.ndarray, "e"], direction: Float[np.ndarray, "e"], curve: Curve) -> bool:
    z = curve.z
    nearest = int(cdist(point[None], z)[0].argmin())
    if abs(curve.tangents[nearest] @ direction) < ASLANT:
        return False
    for neighbour in (nearest - 1, nearest + 1):
        if 0 <= neighbour < len(z):
            chord = z[neighbour] - z[nearest]
            length = np.linalg.norm(chord)
            part = np.clip((point - z[nearest]) @ chord / length**2, 0, 1) if length else 0.0
            if np.linalg.norm(point - z[nearest] - part * chord) <= ON_CURVE * length:
                return True
    return len(z) == 1 and bool(np.linalg.norm(point - z[0]) <= 1e-6)
