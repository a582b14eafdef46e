"""Recursive least squares with a deferred inverse, and ridge regression: what readouts of reservoirs are learned by.

The inverse correlation matrix P changes by one outer product in every step. Here it stays as it is for a block of steps
while the rows of these products are collected, P_t = P_0 − UᵀU, and changes once a block by one matrix product. That is
exact, rounds less often, and in a step P is only read. Being symmetric, P is stored in panels on and below its diagonal.
"""

import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class Panel(NamedTuple):
    """Some rows of a symmetric matrix, up to the diagonal."""

    diagonal: Float[Any, "rows rows"]
    below: Float[Any, "rows columns"] | None
    """The columns to the left of it; None for the first panel."""


class SymmetricMatrix(NamedTuple):
    """A symmetric matrix in panels."""

    panels: tuple[Panel, ...]

    @classmethod
    def identity(cls, size: int, scale: float = 1.0, num_panels: int | None = None) -> "SymmetricMatrix":
        """scale · I; None: as many panels as were fastest for a matrix of this size."""
        edges = _edges(size, num_panels or (2 if size < 800 else 4))
        return cls(
            tuple(
                Panel(scale * jnp.eye(stop - start), jnp.zeros((stop - start, start)) if start else None)
                for start, stop in itertools.pairwise(edges)
            )
        )

    def times(self, vector: Float[Any, "n"]) -> Float[Array, "n"]:
        """The product with a vector."""
        starts = _starts(self)
        parts = [vector[s : s + len(p.diagonal)] for s, p in zip(starts, self.panels, strict=True)]
        own = [part @ panel.diagonal for part, panel in zip(parts, self.panels, strict=True)]
        for i in range(1, len(parts)):
            own[i] = own[i] + self.panels[i].below @ vector[: starts[i]]
        left = jnp.zeros(0, vector.dtype)
        for i in range(1, len(parts)):
            padding = jnp.zeros(starts[i] - len(left), vector.dtype)
            left = jnp.concatenate([left, padding]) + parts[i] @ self.panels[i].below
        left = jnp.concatenate([left, jnp.zeros(len(vector) - len(left), vector.dtype)])
        return jnp.concatenate(own) + left

    def minus_gram(self, rows: Float[Any, "m n"]) -> "SymmetricMatrix":
        """This − rowsᵀ rows."""
        panels = []
        for start, panel in zip(_starts(self), self.panels, strict=True):
            mine, before = rows[:, start : start + len(panel.diagonal)], rows[:, :start]
            if len(rows) == 1:  # symmetric to the last bit, and one pass over the panel
                diagonal = panel.diagonal - jnp.outer(mine[0], mine[0])
                below = None if panel.below is None else panel.below - jnp.outer(mine[0], before[0])
            else:
                diagonal = panel.diagonal - mine.T @ mine
                diagonal = (diagonal + diagonal.T) / 2
                below = None if panel.below is None else panel.below - mine.T @ before
            panels.append(Panel(diagonal, below))
        return SymmetricMatrix(tuple(panels))

    def dense(self) -> Float[Array, "n n"]:
        """The whole matrix."""
        size = sum(len(panel.diagonal) for panel in self.panels)
        lower = jnp.zeros((size, size), self.panels[0].diagonal.dtype)
        for start, panel in zip(_starts(self), self.panels, strict=True):
            rows = slice(start, start + len(panel.diagonal))
            lower = lower.at[rows, rows].set(jnp.tril(panel.diagonal))
            if panel.below is not None:
                lower = lower.at[rows, :start].set(panel.below)
        return lower + jnp.tril(lower, -1).T


class Updates(NamedTuple):
    """Rows of the outer products of a block, which are still to be subtracted."""

    rows: Float[Any, "m n"]
    """U; rows of steps that are yet to come are 0."""
    count: Int[Any, ""]
    """Updates so far in this block."""

    @classmethod
    def none(cls, block: int, like: Float[Any, "n"]) -> "Updates":
        """No updates in a block of so many steps."""
        return cls(jnp.zeros((block, len(like)), like.dtype), jnp.int32(0))


def gain(
    inverse: SymmetricMatrix, updates: Updates, rates: Float[Any, "n"], forgetting: float = 1.0
) -> tuple[Float[Array, "n"], Updates]:
    """One step of recursive least squares: (P h / (λ + hᵀ P h), which readouts move along; the updates with this one).

    With Q_t = λᵗ P_t, where t counts the updates of the block, Q_t = Q_{t−1} − q qᵀ / (λᵗ + hᵀq) with q = Q_{t−1} h, and the
    gain is q / (λᵗ + hᵀq).
    """
    block = len(updates.rows)
    q = inverse.times(rates)
    if block > 1:
        q = q - (updates.rows @ rates) @ updates.rows
    count = updates.count + 1
    scale = 1.0 / (
        jnp.asarray(forgetting, rates.dtype) ** count + jnp.maximum(rates @ q, 0.0)
    )  # hᵀ P h is not negative
    place = jnp.minimum(updates.count, block - 1)
    return scale * q, Updates(updates.rows.at[place].set(jnp.sqrt(scale) * q), count)


def flushed(inverse: SymmetricMatrix, updates: Updates, forgetting: float = 1.0) -> SymmetricMatrix:
    """P after the updates of a block.

    Forgetting makes P grow without bounds where rates do not vary. It stops growing where rounding would make it indefinite:
    where its trace would exceed 0.1 / (n ε), with ε the precision of its type.
    """
    if forgetting == 1:
        return inverse.minus_gram(updates.rows)
    changed = inverse.minus_gram(updates.rows)
    scale = jnp.asarray(forgetting, updates.rows.dtype) ** -updates.count
    trace = sum(jnp.trace(panel.diagonal) for panel in changed.panels)
    most = 0.1 / (updates.rows.shape[1] * jnp.finfo(updates.rows.dtype).eps)
    scale = jnp.where(trace * scale <= most, scale, 1.0)
    return jax.tree.map(lambda values: scale * values, changed)


def ridge(features: Float[Any, "samples n"], targets: Float[Any, "samples O"], penalty: Any) -> Float[Array, "n O"]:
    """W that minimises ‖Y − H W‖² + penalty · ‖W‖², by the Cholesky decomposition of HᵀH + penalty · I."""
    moments = features.T @ features + penalty * jnp.eye(features.shape[1], dtype=features.dtype)
    return jax.scipy.linalg.solve(moments, features.T @ targets, assume_a="pos")


def _edges(size: int, num_panels: int) -> list[int]:
    count = min(num_panels, size)
    return [round(i * size / count) for i in range(count + 1)]


def _starts(matrix: SymmetricMatrix) -> list[int]:
    starts = [0]
    for panel in matrix.panels[:-1]:
        starts.append(starts[-1] + len(panel.diagonal))
    return starts
