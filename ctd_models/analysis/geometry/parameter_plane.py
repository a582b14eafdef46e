"""How many fixed points there are, and of which stability, over a grid of two parameters."""

import dataclasses
from collections.abc import Callable
from typing import Any, no_type_check

import jax
import numpy as np
from jaxtyping import Float, Int

from ctd_models.analysis.fixed_points.linearization import linearize
from ctd_models.analysis.fixed_points.points import FixedPoints
from ctd_models.analysis.fixed_points.search import find_fixed_points


@dataclasses.dataclass(frozen=True, repr=False)
class ParameterPlane:
    """Fixed points over a grid of two parameters. A border between two numbers is a bifurcation of codimension one."""

    first: Float[np.ndarray, "a"]
    """Values of the first parameter."""
    second: Float[np.ndarray, "b"]
    """Values of the second parameter."""
    num_points: Int[np.ndarray, "a b"]
    """Fixed points found."""
    num_stable: Int[np.ndarray, "a b"]
    """Stable ones among them."""
    points: FixedPoints
    """All of them, linearised, each with its input."""
    cells: Int[np.ndarray, "n 2"]
    """Indices (first, second) of each point's parameters."""

    def __repr__(self) -> str:
        shape = " x ".join(str(n) for n in self.num_points.shape)
        return (
            f"ParameterPlane: {len(self.points):,} fixed points on a grid of {shape}; {self.num_points.min()} to "
            f"{self.num_points.max()} at once, {self.num_stable.min()} to {self.num_stable.max()} of them stable"
        )


@no_type_check  # find_fixed_points checks the arguments
def count_fixed_points(
    F: Callable[..., Any],
    candidates: Any,
    first: Float[Any, "a"],
    second: Float[Any, "b"],
    *,
    inputs: Float[Any, "U"] | None = None,
    along: tuple[Float[Any, "U"], Float[Any, "U"]] | None = None,
    kind: str = "map",
    **settings: Any,
) -> ParameterPlane:
    """Fixed points of F(state, inputs + p · along[0] + q · along[1]) for every p of `first` and q of `second`.

    Args:
        F: `F(state, input)` → next state of a map, time derivative of a flow.
        candidates: states that the search starts from at every pair of parameters, [n, d] or a pytree.
        first, second: values of p and of q.
        inputs: [U], the input at p = q = 0; None: zeros.
        along: changes of the input per unit of p and of q; None: F takes [p, q] itself.
        kind: "map" or "flow".
        settings: more arguments of `find_fixed_points`, such as `tolerance`, `bounds` or `unique_distance`.

    Returns:
        The counts, which are those of what was found: too few candidates count too few points.

    Raises:
        ValueError, TypeError: arguments that do not fit, before anything is compiled.
    """
    axes = [np.asarray(values, float) for values in (first, second)]
    for name, values in zip(("first", "second"), axes, strict=True):
        if values.ndim != 1 or len(values) == 0 or not np.isfinite(values).all():
            raise ValueError(f"{name} must be a list of finite parameters, got {values}")
    directions = np.eye(2) if along is None else np.asarray(along, float)
    base = np.zeros(directions.shape[-1]) if inputs is None else np.asarray(inputs, float)
    if directions.ndim != 2 or len(directions) != 2 or base.shape != directions.shape[1:]:
        raise ValueError(f"expected inputs [U] and along [2, U], got shapes {base.shape} and {directions.shape}")
    _check_spacing(axes, directions, settings.get("unique_distance", 1e-3))
    cells = np.stack(np.meshgrid(*(np.arange(len(values)) for values in axes), indexing="ij"), axis=-1).reshape(-1, 2)
    pairs = np.stack([values[cells[:, i]] for i, values in enumerate(axes)], axis=1)
    count = len(jax.tree.leaves(candidates)[0])
    rows = np.repeat(base + pairs @ directions, count, axis=0)
    states = jax.tree.map(lambda leaf: np.tile(leaf, (len(cells),) + (1,) * (np.ndim(leaf) - 1)), candidates)
    found = find_fixed_points(F, states, rows, kind=kind, **{"outlier_factor": None, "progress": False} | settings)
    points = linearize(F, found, **{k: v for k, v in settings.items() if k == "dtype"})
    place = cells[points.candidate_indices // count]
    shape = tuple(len(values) for values in axes)
    num_points, num_stable = np.zeros(shape, int), np.zeros(shape, int)
    np.add.at(num_points, tuple(place.T), 1)
    np.add.at(num_stable, tuple(place[points.is_stable].T), 1)
    return ParameterPlane(*axes, num_points, num_stable, points, place)


def _check_spacing(axes: list[np.ndarray], directions: Float[np.ndarray, "2 U"], distance: float) -> None:
    """The search takes points for one whose states and inputs together are nearer than `unique_distance`."""
    for name, values, direction in zip(("first", "second"), axes, directions, strict=True):
        spacing = np.diff(np.sort(values)).min(initial=np.inf) * np.linalg.norm(direction)
        if spacing <= 1.2 * distance:
            raise ValueError(
                f"the values of {name} are {spacing:.2g} apart in the space of inputs, where unique_distance = {distance:g} "
                "makes them one: pass a smaller unique_distance="
            )
