"""Merging of points that are the same."""

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import cKDTree


def merge_duplicates(
    points: Float[np.ndarray, "n d"], priority: Float[np.ndarray, "n"], distance: float
) -> Int[np.ndarray, "n"]:
    """For each point, the index of the point that stands for it (its own where it is kept).

    Points are kept in the order of rising `priority`, and each stands for all those within `distance` that were not
    taken before. Points in one small cell count as one, so that both statements hold up to a tenth of the distance: kept
    points are at least 0.9 `distance` apart, dropped ones within 1.1 `distance` of theirs.
    """
    order = np.argsort(priority, kind="stable")
    _, first, cell = np.unique(
        np.round(points[order] / (0.1 * distance / np.sqrt(points.shape[1]))),
        axis=0,
        return_index=True,
        return_inverse=True,
    )  # points in one small cell are the same; what is left for the exact search is one point a cell
    cells = np.sort(first)
    rank_of_cell = np.empty(len(first), int)
    rank_of_cell[np.argsort(first)] = np.arange(len(first))
    representative = order[cells]
    owner = _greedy_cover(points[representative], distance)
    result = np.empty(len(points), int)
    result[order] = representative[owner[rank_of_cell[cell.reshape(-1)]]]
    return result


def _greedy_cover(points: Float[np.ndarray, "m d"], distance: float) -> Int[np.ndarray, "m"]:
    """Greedy cover in the order of the points, in rounds: a point is kept once all earlier neighbours are taken."""
    count = len(points)
    pairs = cKDTree(points).query_pairs(distance, output_type="ndarray")
    earlier, later = pairs.min(axis=1), pairs.max(axis=1)
    owner = np.full(count, -1)
    while (owner < 0).any():
        free = owner < 0
        open_pair = free[earlier] & free[later]
        blocked = np.zeros(count, bool)
        blocked[later[open_pair]] = True
        kept = free & ~blocked
        owner[kept] = np.flatnonzero(kept)
        claims = kept[earlier] & free[later]
        best = np.full(count, count)
        np.minimum.at(best, later[claims], earlier[claims])
        owner[best < count] = best[best < count]
    return owner
