"""Points along a curve, such as the slow points of a line or ring attractor, in order."""

import dataclasses
from typing import Any, NamedTuple, no_type_check

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components, dijkstra, minimum_spanning_tree
from scipy.spatial import cKDTree

from ctd_models.analysis.geometry.curves import Polyline, above_noise, smoothers


@dataclasses.dataclass(frozen=True, repr=False)
class LineAttractor:
    """Points in their order along a curve. Disconnected pieces follow one another, the piece of most points first."""

    order: Int[np.ndarray, "n"]
    """Indices of the given points, in order along the curve, piece after piece."""
    arc_length: Float[np.ndarray, "n"]
    """Distance along the curve from the start of the piece, of the points in order [state units]."""
    curve: Float[np.ndarray, "n d"]
    """The smooth curve at the points in order: they without their scatter across it."""
    tangents: Float[np.ndarray, "n d"]
    """Unit tangents of the curve at the points in order, pointing forward."""
    distances: Float[np.ndarray, "n"]
    """Distance of each point, in order, from the curve [state units]."""
    pieces: Int[np.ndarray, "n"]
    """Piece of each point, in order: 0, 1, …"""
    piece_lengths: Float[np.ndarray, "p"]
    """Length of each piece, of a closed one all the way round [state units]."""
    closed: Bool[np.ndarray, "p"]
    """Which pieces are closed, that is rings."""
    gap_indices: Int[np.ndarray, "g"]
    """Places in the order after which the curve goes on for unusually long without a point."""
    gap_sizes: Float[np.ndarray, "g"]
    """Length of the curve within each gap [state units]."""

    def __len__(self) -> int:
        return len(self.order)

    @property
    def num_pieces(self) -> int:
        """How many disconnected pieces there are."""
        return len(self.closed)

    @property
    def is_closed(self) -> bool:
        """Whether the points form one ring."""
        return self.num_pieces == 1 and bool(self.closed[0])

    @property
    def length(self) -> float:
        """Total length of all pieces [state units]."""
        return float(self.piece_lengths.sum())

    def coordinate(
        self, states: Float[Any, "*batch d"]
    ) -> tuple[Float[np.ndarray, "*batch"], Float[np.ndarray, "*batch"], Int[np.ndarray, "*batch"]]:
        """(arc length, distance from the curve, piece) of the nearest point of the curve, for any states.

        States beyond an open end belong to that end.
        """
        states = np.asarray(states, float)
        if states.shape[-1] != self.curve.shape[1]:
            raise ValueError(f"expected states [..., {self.curve.shape[1]}], got shape {states.shape}")
        flat = states.reshape(-1, states.shape[-1])
        found = []
        for piece in range(self.num_pieces):
            mine = self.pieces == piece
            found.append(Polyline.through(self.curve[mine], bool(self.closed[piece])).project(flat))
        arc, distance = np.swapaxes(np.array(found), 0, 1)
        nearest, every = distance.argmin(axis=0), np.arange(len(flat))
        shape = states.shape[:-1]
        return (
            arc[nearest, every].reshape(shape),
            distance[nearest, every].reshape(shape),
            nearest.reshape(shape),
        )

    def __repr__(self) -> str:
        n, d = self.curve.shape
        form = ", ".join(
            f"{'ring' if ring else 'line'} of length {length:.4g}"
            for ring, length in zip(self.closed, self.piece_lengths, strict=True)
        )
        lines = [f"LineAttractor: {n:,} points in {d} dimensions on a {form}"]
        if self.num_pieces > 1:
            lines[0] = f"LineAttractor: {n:,} points in {d} dimensions in {self.num_pieces} disconnected pieces: {form}"
        lines.append(f"  distance from the curve: median {np.median(self.distances):.2g}")
        if len(self.gap_sizes):
            lines.append(f"  {len(self.gap_sizes):,} gaps, the largest {self.gap_sizes.max():.4g}")
        return "\n".join(lines)


@no_type_check  # it checks its arguments itself
def order_line(
    points: Any,
    *,
    closed: bool | None = None,
    num_neighbors: int = 10,
    window: int | None = None,
    max_gap: float | None = None,
    gap_factor: float = 10.0,
) -> LineAttractor:
    """Points along a curve, open or closed, in order, with arc length and tangents.

    Points are first drawn towards the lines through their nearest neighbours, ordered along the minimum spanning tree of
    their neighbourhood graph, and then projected onto a principal curve (Hastie & Stuetzle 1989,
    doi:10.1080/01621459.1989.10478797) that is a local quadratic fit in arc length. In many dimensions all of this happens
    in the principal components that rise above the scatter, where there are such.

    Args:
        points: `FixedPoints` or states [n, d], in any order, scattered a little across the curve.
        closed: whether pieces are rings; None: a piece is one where its two ends are as close as neighbours are.
        num_neighbors: neighbours in the graph, and fewest in the first local lines.
        window: points in a local fit (odd); None: what leave-one-out cross-validation finds best. More smooth more.
        max_gap: distance beyond which points belong to different pieces; None: 20 times the median distance of
            neighbours, but at least a tenth of the whole length.
        gap_factor: a spacing larger than this many times the median is reported as a gap.

    Raises:
        ValueError: fewer than two points, or values that are not finite (with the index).
    """
    states = np.asarray(getattr(points, "states", points), float)
    if states.ndim != 2 or len(states) < 2:
        raise ValueError(f"expected at least two points [n, d], got shape {states.shape}")
    if not np.isfinite(states).all():
        row, column = (int(i) for i in np.argwhere(~np.isfinite(states))[0])
        raise ValueError(f"points hold {states[row, column]} at index ({row}, {column})")
    for name, value, least in (("num_neighbors", num_neighbors, 2), ("window", window, 3)):
        if value is not None and (int(value) != value or value < least):
            raise ValueError(f"{name} must be a whole number of at least {least}, got {value}")
    for name, value in (("max_gap", max_gap), ("gap_factor", gap_factor)):
        if value is not None and not value > 0:
            raise ValueError(f"{name} must be positive, got {value}")
    centre, directions = above_noise(states)
    reduced = (states - centre) @ directions.T
    tree, drawn = _spanning_tree(reduced, num_neighbors)
    edges = tree.tocoo()
    if max_gap is None:
        distance = dijkstra(tree, directed=False, indices=0)
        diameter = dijkstra(tree, directed=False, indices=int(distance.argmax())).max()
        max_gap = max(20 * np.median(edges.data), 0.1 * diameter)
    near = edges.data <= max_gap
    tree = csr_array((edges.data[near], (edges.row[near], edges.col[near])), shape=tree.shape)
    count, label = connected_components(tree, directed=False)
    sizes = np.bincount(label, minlength=count)
    parts = []
    for piece in np.argsort(-sizes, kind="stable"):
        mine = np.flatnonzero(label == piece)
        part = _fit_piece(reduced[mine], drawn[mine], tree[mine][:, mine], closed, window)
        curve = centre + part.curve @ directions
        parts.append(part._replace(order=mine[part.order], curve=curve, tangents=part.tangents @ directions))
    return _assemble(states, parts, float(gap_factor))


class _Piece(NamedTuple):
    order: Int[np.ndarray, "n"]
    curve: Float[np.ndarray, "n d"]
    tangents: Float[np.ndarray, "n d"]
    closed: bool


def _assemble(states: np.ndarray, pieces: list[_Piece], gap_factor: float) -> LineAttractor:
    lines = [Polyline.through(piece.curve, piece.closed) for piece in pieces]
    spacings = [np.diff(line.arc) for line in lines]
    typical = np.median(np.concatenate(spacings)) if any(map(len, spacings)) else 0.0
    gaps = [np.flatnonzero(spacing > gap_factor * typical) for spacing in spacings]
    starts = np.cumsum([0, *(len(piece.order) for piece in pieces)])
    order = np.concatenate([piece.order for piece in pieces])
    distances = [line.project(states[piece.order])[1] for line, piece in zip(lines, pieces, strict=True)]
    return LineAttractor(
        order=order,
        arc_length=np.concatenate([line.arc[: len(piece.order)] for line, piece in zip(lines, pieces, strict=True)]),
        curve=np.concatenate([piece.curve for piece in pieces]),
        tangents=np.concatenate([piece.tangents for piece in pieces]),
        distances=np.concatenate(distances),
        pieces=np.repeat(np.arange(len(pieces)), np.diff(starts)),
        piece_lengths=np.array([line.arc[-1] for line in lines]),
        closed=np.array([piece.closed for piece in pieces]),
        gap_indices=np.concatenate([start + gap for start, gap in zip(starts, gaps, strict=False)]).astype(int),
        gap_sizes=np.concatenate([spacing[gap] for spacing, gap in zip(spacings, gaps, strict=True)]),
    )


def local_variances(
    points: Float[np.ndarray, "n d"], num_neighbors: int
) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "n d"], Float[np.ndarray, "n k"]]:
    """(mean, first principal axis, variances by falling size) of every point with its nearest neighbours."""
    count = min(num_neighbors + 1, len(points))
    _, neighbors = cKDTree(points).query(points, count)
    local = points[neighbors.reshape(len(points), count)]
    mean = local.mean(axis=1)
    local = local - mean[:, None]
    if count > points.shape[1]:
        variances, vectors = np.linalg.eigh(np.swapaxes(local, 1, 2) @ local / count)  # [n, d, d]
        axis = vectors[:, :, -1]
    else:
        variances, vectors = np.linalg.eigh(local @ np.swapaxes(local, 1, 2) / count)  # [n, k, k]
        axis = np.einsum("nk,nkd->nd", vectors[:, :, -1], local)
        axis /= np.maximum(np.linalg.norm(axis, axis=1, keepdims=True), np.finfo(float).tiny)
    return mean, axis, np.maximum(variances[:, ::-1], 0.0)


def _spanning_tree(states: np.ndarray, num_neighbors: int) -> tuple[csr_array, np.ndarray]:
    """(minimum spanning tree of the neighbourhood graph, states drawn towards the lines through their neighbours).

    As many neighbours are taken as make the surroundings of most points longer than wide.
    """
    drawn, count = states, num_neighbors
    while True:
        mean, axis, variances = local_variances(states, count)
        wide = variances[:, 1:2].sum(axis=1) > 0.1 * variances[:, 0]
        if wide.mean() < 0.5 or 2 * count > min(len(states) // 3, 200):
            break
        count *= 2
    if len(states) > 2 * num_neighbors:
        for _ in range(2):
            drawn = mean + axis * ((drawn - mean) * axis).sum(axis=1, keepdims=True)
            mean, axis, _ = local_variances(drawn, count)
    distance, neighbors = cKDTree(drawn).query(drawn, min(num_neighbors + 1, len(drawn)))
    tiny = 1e-12 * (distance.max() or 1.0)  # a stored zero would be no edge
    rows = np.repeat(np.arange(len(drawn)), distance.shape[1] - 1)
    graph = coo_array((distance[:, 1:].ravel() + tiny, (rows, neighbors[:, 1:].ravel())), shape=2 * (len(drawn),))
    graph = graph.tocsr().maximum(graph.T.tocsr())  # duplicates may list themselves as their neighbours; harmless
    while True:
        components, label = connected_components(graph, directed=False)
        if components == 1:
            return minimum_spanning_tree(graph), drawn
        smallest = label == np.bincount(label).argmin()
        inside, outside = np.flatnonzero(smallest), np.flatnonzero(~smallest)
        distance, nearest = cKDTree(drawn[outside]).query(drawn[inside])
        a, b = inside[distance.argmin()], outside[nearest[distance.argmin()]]
        graph = graph + coo_array(([distance.min() + tiny], ([a], [b])), shape=graph.shape).tocsr()


def _fit_piece(
    states: np.ndarray, drawn: np.ndarray, tree: csr_array, closed: bool | None, window: int | None
) -> _Piece:
    """The principal curve of one piece, from its spanning tree."""
    n = len(states)
    if n < 3:
        tangents = np.zeros_like(states) if n == 1 else np.repeat(np.diff(states, axis=0), 2, axis=0)
        tangents /= np.maximum(np.linalg.norm(tangents, axis=1, keepdims=True), np.finfo(float).tiny)
        return _Piece(np.arange(n), states, tangents, False)
    start = int(dijkstra(tree, directed=False, indices=0).argmax())
    arc = dijkstra(tree, directed=False, indices=start)
    end = int(arc.argmax())
    closing = float(np.linalg.norm(drawn[start] - drawn[end]))
    if closed is None:
        closed = n >= 6 and bool(closing <= min(3 * np.quantile(tree.data, 0.95), 0.25 * arc[end]))
    length = arc[end] + closing
    order = np.argsort(arc, kind="stable")
    for _ in range(3):
        ordered = states[order]
        smooth, _ = smoothers(arc[order], ordered, length if closed else None, window)
        line = Polyline.through(smooth @ ordered, closed)
        arc, _ = line.project(states, clip=closed)
        arc, length = arc - (0 if closed else arc.min()), line.arc[-1]
        order = np.argsort(arc, kind="stable")
    if order[0] > order[-1]:
        arc, order = arc.max() - arc, order[::-1]
    ordered = states[order]
    smooth, slope = smoothers(arc[order], ordered, length if closed else None, window)
    curve, tangents = smooth @ ordered, slope @ ordered
    tangents = tangents / np.maximum(np.linalg.norm(tangents, axis=1, keepdims=True), np.finfo(float).tiny)
    return _Piece(order, curve, tangents, closed)
