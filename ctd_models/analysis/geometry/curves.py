"""Curves through scattered points: polylines and local fits along a coordinate."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.sparse import csr_array
from scipy.spatial import cKDTree

WINDOWS = (5, 9, 17, 33, 65, 129, 257)  # numbers of points in a local fit, of which cross-validation picks one


class Polyline(NamedTuple):
    """Straight segments from node to node; a closed one ends where it starts."""

    nodes: Float[np.ndarray, "m d"]
    """Corners, the first one again at the end of a closed polyline."""
    arc: Float[np.ndarray, "m"]
    """Length up to each node."""

    @classmethod
    def through(cls, points: Float[np.ndarray, "n d"], closed: bool) -> "Polyline":
        """The polyline that visits the points in their order."""
        nodes = np.concatenate([points, points[:1]]) if closed else points
        return cls(nodes, np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(nodes, axis=0), axis=1))]))

    def project(
        self, states: Float[np.ndarray, "n d"], clip: bool = True
    ) -> tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n"]]:
        """(length along the polyline, distance) of its point nearest to each state.

        Without `clip` the first and the last segment go on for ever, so that lengths may be negative or too large.
        """
        nodes, arc = self._refined()
        if len(nodes) < 2:
            return np.zeros(len(states)), np.linalg.norm(states - nodes[0], axis=1)
        last = len(nodes) - 2
        _, near = cKDTree(nodes).query(states, min(3, len(nodes)))
        segments = np.clip(np.concatenate([near - 1, near], axis=1), 0, last)  # [n, s]
        step = np.diff(nodes, axis=0)
        square = np.maximum((step**2).sum(axis=1), np.finfo(float).tiny)
        best = np.full(len(states), np.inf)
        length = np.zeros(len(states))
        for segment in segments.T:
            offset = states - nodes[segment]
            share = (offset * step[segment]).sum(axis=1) / square[segment]
            low = np.where((segment == 0) & (not clip), -np.inf, 0.0)
            high = np.where((segment == last) & (not clip), np.inf, 1.0)
            share = np.clip(share, low, high)
            distance = np.linalg.norm(offset - share[:, None] * step[segment], axis=1)
            closer = distance < best
            best = np.where(closer, distance, best)
            length = np.where(closer, arc[segment] + share * (arc[segment + 1] - arc[segment]), length)
        return length, best

    def _refined(self) -> tuple[Float[np.ndarray, "r d"], Float[np.ndarray, "r"]]:
        """The same polyline with long segments cut, so that the nearest segments lie beside the nearest nodes."""
        spacing = np.diff(self.arc)
        if not len(spacing) or self.arc[-1] == 0:
            return self.nodes, self.arc
        parts = np.ceil(spacing / (self.arc[-1] / len(spacing))).astype(int).clip(1)
        first = np.repeat(np.arange(len(parts)), parts)
        share = (np.arange(len(first)) - np.repeat(np.cumsum(parts) - parts, parts)) / parts[first]
        nodes = self.nodes[first] + share[:, None] * (self.nodes[first + 1] - self.nodes[first])
        arc = self.arc[first] + share * spacing[first]
        return np.concatenate([nodes, self.nodes[-1:]]), np.append(arc, self.arc[-1])


def smoothers(
    arc: Float[np.ndarray, "n"],
    values: Float[np.ndarray, "n d"],
    period: float | None = None,
    window: int | None = None,
) -> tuple[csr_array, csr_array]:
    """Matrices (S, D) of local quadratic fits along a rising coordinate: S @ values is smooth, D @ values its slope.

    Of several windows the widest is taken that predicts left-out points as well as the best, within one standard error,
    and that is longer than the scatter across it, which a narrower one would follow.

    Args:
        arc: coordinate of each value.
        values: what will be fitted.
        period: period of the coordinate on a closed curve; None: an open one.
        window: number of points in a fit; None: chosen by leave-one-out cross-validation.
    """
    n = len(arc)
    largest = max(3, 2 * n // 3)
    widths = [min(window, n)] if window else [width for width in WINDOWS if width <= largest] or [min(n, largest)]
    fits = [_local_fit(arc, width, period) for width in widths]
    errors = np.array([_left_out_errors(values, smoother) for smoother, _ in fits])
    excess = errors - errors[errors.mean(axis=1).argmin()]
    uncertain = excess.std(axis=1) / np.sqrt(n)
    chosen = np.flatnonzero(excess.mean(axis=1) <= uncertain)[-1]
    scatter = np.sqrt(errors.mean(axis=1).min())
    long_enough = np.array(widths) * (np.ptp(arc) if period is None else period) / n >= 8 * scatter
    return fits[max(chosen, int(long_enough.argmax()) if long_enough.any() else len(fits) - 1)]


def above_noise(points: Float[np.ndarray, "n d"]) -> tuple[Float[np.ndarray, "d"], Float[np.ndarray, "r d"]]:
    """(centre, orthonormal directions) of the part of the points that rises above scatter equal in all directions.

    Directions are kept whose singular values exceed 2.858 times the median one (the threshold of Gavish & Donoho 2014,
    doi:10.1109/TIT.2014.2323359). Where the small singular values are not alike, or there are fewer than ten, there is no
    such scatter to see, and every direction is kept that the points span.
    """
    centre = points.mean(axis=0)
    _, size, directions = np.linalg.svd(points - centre, full_matrices=False)
    median = np.median(size)
    noisy = len(size) >= 10 and np.quantile(size, 0.2) > 0.2 * median and size[0] > 2.858 * median
    kept = int((size > (2.858 * median if noisy else 1e-14 * size[0])).sum())
    return centre, directions[: max(1, kept)]


def _left_out_errors(values: np.ndarray, smoother: csr_array) -> np.ndarray:
    """Square error of each value's prediction from the others."""
    own = np.minimum(smoother.diagonal(), 1 - 1e-6)
    return (((values - smoother @ values) / (1 - own)[:, None]) ** 2).sum(axis=1)


def _local_fit(arc: np.ndarray, width: int, period: float | None) -> tuple[csr_array, csr_array]:
    n = len(arc)
    start = np.arange(n) - width // 2
    if period is None:
        start = np.clip(start, 0, n - width)
    columns = start[:, None] + np.arange(width)
    turns, columns = np.divmod(columns, n)
    offset = arc[columns] + turns * (period or 0.0) - arc[:, None]
    reach = 1.001 * np.abs(offset).max(axis=1, keepdims=True) + np.finfo(float).tiny
    offset = offset / reach
    weight = (1 - np.abs(offset) ** 3) ** 3
    basis = np.stack([np.ones_like(offset), offset, offset**2], axis=-1)
    gram = np.einsum("nwi,nw,nwj->nij", basis, weight, basis) + 1e-9 * np.diag([0.0, 1.0, 1.0])
    weights = np.linalg.solve(gram, np.swapaxes(basis * weight[:, :, None], 1, 2))  # [n, 3, w]
    rows = np.repeat(np.arange(n), width)

    def matrix(entries: np.ndarray) -> csr_array:
        return csr_array((entries.ravel(), (rows, columns.ravel())), shape=(n, n))

    return matrix(weights[:, 0]), matrix(weights[:, 1] / reach)
