"""What kind of set the slow points form: isolated points, a line, a ring, a plane."""

import dataclasses
from typing import Any, NamedTuple, no_type_check

import numpy as np
from jaxtyping import Bool, Complex, Float, Int

from ctd_models.analysis.fixed_points.points import FixedPoints
from ctd_models.analysis.geometry.lines import LineAttractor, local_variances, order_line
from ctd_models.analysis.geometry.outcomes import check_numbers, check_points

CONSENSUS = 0.8  # share of points that must agree on a dimension
FEWEST = 5  # points from which the shape of a cloud can be seen
THIN = 0.1  # variance, relative to the largest, below which a direction does not count


class Dimensions(NamedTuple):
    """Two views on the dimension of a manifold, at each point."""

    near_unit: Int[np.ndarray, "n"]
    """Modes in which the dynamics almost stand still: directions along the manifold."""
    local: Int[np.ndarray, "n"]
    """Directions in which the neighbouring points spread; 0 where there are too few points to tell."""


@dataclasses.dataclass(frozen=True, repr=False)
class Manifold:
    """The verdict on a set of slow points, with its evidence."""

    verdict: str
    """"isolated points", "line", "ring", "plane" (any surface), "3-dimensional" and so on; "mixed" where points disagree
    with each other, or the modes with the cloud; "undetermined" where there are too few points to see a shape."""
    dimension: int | None
    """Dimension of the manifold; None where mixed or undetermined."""
    near_unit: Int[np.ndarray, "n"]
    """Number of modes at each point in which the dynamics almost stand still."""
    local_dimension: Int[np.ndarray, "n"]
    """Number of directions in which the neighbours of each point spread; 0 where there are too few points to tell."""
    near_unit_agreement: float
    """Share of points that have the most common number of near-unit modes."""
    local_agreement: float
    """Share of points that have the most common local dimension."""
    line: LineAttractor | None
    """The points in order, where both dimensions are 1."""

    def __len__(self) -> int:
        return len(self.near_unit)

    def __repr__(self) -> str:
        spectral, cloud = _most_common(self.near_unit), _most_common(self.local_dimension)
        lines = [
            f"Manifold: {self.verdict}, from {len(self):,} points",
            f"  near-unit modes: {spectral} at {100 * self.near_unit_agreement:.0f} % of the points",
            f"  local dimension of the cloud: {cloud} at {100 * self.local_agreement:.0f} % of the points",
        ]
        if self.line is not None:
            lines.append(
                f"  length {self.line.length:.4g} in {self.line.num_pieces} pieces, closed: {self.line.closed}"
            )
        return "\n".join(lines)


@no_type_check  # it checks its arguments itself
def manifold_dimension(points: FixedPoints, *, near: float = 0.05, num_neighbors: int = 12) -> Dimensions:
    """The dimension at each point, as its modes see it and as the cloud of points does.

    Args:
        points: linearised points.
        near: a mode of a map counts where |λ − 1| < near, a mode of a flow where |λ| < near · max_k |λ_k| at that point.
        num_neighbors: nearest points whose principal components tell in how many directions the cloud spreads: those
            with at least a tenth of the variance of the first.

    Raises:
        ValueError, TypeError: points without modes, numbers that are not positive.
    """
    check_points(points)
    check_numbers(near=near, num_neighbors=num_neighbors)
    near_unit = near_unit_modes(points.eigenvalues, points.kind, near).sum(axis=1)
    local = np.zeros(len(points), int)
    if len(points) >= FEWEST:
        _, _, variances = local_variances(points.states, num_neighbors)
        local = (variances > THIN * variances[:, :1]).sum(axis=1)
    return Dimensions(near_unit, local)


@no_type_check  # it checks its arguments itself
def classify_manifold(points: FixedPoints, *, near: float = 0.05, num_neighbors: int = 12) -> Manifold:
    """What kind of set slow points form, from their modes and from how they lie.

    A manifold of slow points of dimension k has k modes near 1 (map) or 0 (flow) at almost every point, and points that
    spread in k directions. Without such modes the points are isolated, whatever shape they form together.

    Args:
        points: linearised points, evenly spread where there is a manifold, such as those of `find_slow_manifold`.
        near, num_neighbors: as in `manifold_dimension`.

    Raises:
        ValueError, TypeError: points without modes, numbers that are not positive.
    """
    near_unit, local = manifold_dimension(points, near=near, num_neighbors=num_neighbors)
    spectral, cloud = _most_common(near_unit), _most_common(local)
    agreement = float((near_unit == spectral).mean())
    local_agreement = float((local == cloud).mean())
    dimension, line = spectral, None
    if agreement < CONSENSUS:
        verdict, dimension = "mixed", None
    elif spectral == 0:
        verdict = "isolated points"
    elif len(points) < FEWEST:
        verdict, dimension = "undetermined", None
    elif local_agreement < CONSENSUS or cloud != spectral:
        verdict, dimension = "mixed", None
    elif spectral == 1:
        line = order_line(points)
        rings = line.closed[line.pieces].mean()
        verdict = "ring" if rings == 1 else "line" if rings == 0 else "mixed"
    else:
        verdict = "plane" if spectral == 2 else f"{spectral}-dimensional"
    return Manifold(verdict, dimension, near_unit, local, agreement, local_agreement, line)


def near_unit_modes(eigenvalues: Complex[np.ndarray, "n d"], kind: str, near: Any) -> Bool[np.ndarray, "n d"]:
    """Which modes almost stand still, as `manifold_dimension` explains."""
    if kind == "flow":
        size = np.abs(eigenvalues)
        return size < near * np.maximum(size.max(axis=1, keepdims=True), np.finfo(float).tiny)
    return np.abs(eigenvalues - 1) < near


def tangent_spaces(points: FixedPoints, near: float, most: int = 3) -> Float[np.ndarray, "n m d"]:
    """Orthonormal rows spanning the near-unit modes at each point, the stillest ones where there are more than `most`.

    m is the largest number at any point, at least 1; points that have fewer get rows of zeros.
    """
    still = np.abs(points.eigenvalues - (points.kind == "map"))
    chosen = near_unit_modes(points.eigenvalues, points.kind, near)
    count = int(np.clip(chosen.sum(axis=1).max(), 1, most))
    modes = np.argsort(np.where(chosen, still, np.inf), axis=1, kind="stable")[:, :count]
    vectors = np.take_along_axis(np.swapaxes(points.right_eigenvectors, 1, 2), modes[:, :, None], axis=1)
    below = np.take_along_axis(points.eigenvalues, modes, axis=1).imag < 0  # a pair spans its real and imaginary part
    real = np.where(below[:, :, None], vectors.imag, vectors.real)
    real = real * np.take_along_axis(chosen, modes, axis=1)[:, :, None]
    _, sizes, rows = np.linalg.svd(real, full_matrices=False)
    return np.where((sizes > 1e-6)[:, :, None], rows, 0.0)


def _most_common(counts: Int[np.ndarray, "n"]) -> int:
    return int(np.bincount(counts).argmax())
