"""Fixed points followed along a parameter, through folds, with the bifurcations on the way."""

import dataclasses
from collections.abc import Callable
from typing import Any, no_type_check

import numpy as np
from jaxtyping import Float

from ctd_models.analysis.fixed_points.points import FixedPoints
from ctd_models.analysis.fixed_points.unique import merge_duplicates
from ctd_models.analysis.geometry.branch_search import BranchSearch, Curve, unique
from ctd_models.analysis.geometry.branches import Branches
from ctd_models.analysis.geometry.predictor_corrector import Line
from ctd_models.analysis.systems import precision, prepare

MAX_GENERATIONS = 4  # of branches entered from branches
SAME_START = 1e-6  # scaled distance


@no_type_check  # it checks its arguments itself
def continue_fixed_points(
    F: Callable[..., Any],
    points: FixedPoints | Any,
    parameter_range: tuple[float, float],
    *,
    start: Float[Any, "*n"] | float | None = None,
    inputs: Float[Any, "U"] | None = None,
    along: Float[Any, "U"] | None = None,
    kind: str | None = None,
    step: float = 0.05,
    max_steps: int = 500,
    follow_branch_points: bool = False,
    tolerance: float | None = None,
    dtype: Any = np.float64,
) -> Branches:
    """Branches of fixed points as the input moves along a line, inputs + p · along, by pseudo-arclength continuation.

    Both directions of every branch are followed at once, through folds, with steps that adapt to the bends. A parameter
    that is no input becomes one: `continue_fixed_points(lambda h, p: jnp.tanh(p * (W @ h)), states, (0, 3))` follows the
    gain p, an input of one entry.

    Args:
        F: `F(state, input)` → next state of a map, time derivative of a flow.
        points: `FixedPoints`, or states near fixed points [n, d] (or a pytree), which Newton's method takes there.
        parameter_range: (a, b), where p is followed.
        start: p of the points, one or [n]. None: where the inputs of `FixedPoints` lie on the line, or a of plain states.
        inputs: [U], the input at p = 0; None: zeros, or the input of the `FixedPoints` where U > 1.
        along: [U], the change of the input per unit of p; None: [1], of an input with one entry.
        kind: "map" (the default for plain states) or "flow".
        step: largest step, in units of √(mean square change of the state + (change of p / (b − a))²).
        max_steps: steps that are tried in each direction.
        follow_branch_points: also follow the branches that cross those found, at pitchforks and transcriticals.
        tolerance: largest entry of F(h) − h or f(h) at a point, relative to 1 + the largest of the state; None: 1e-11 in
            float64, 1e-5 in float32.
        dtype: precision.

    Returns:
        The branches, each with its eigenvalues and its bifurcations: folds, pitchforks, transcriticals, Hopf (flow),
        Neimark-Sacker and period-doubling points (map), located to about 1e-10 of the step. Two of one kind within a
        step cancel and are missed: lower `step` where eigenvalues move fast. Starts without a branch of their own are in
        `dropped`: "not_converged", "duplicate" (on a branch of another start).

    Raises:
        ValueError, TypeError: arguments that do not fit, before anything is compiled.

    Sources: Keller 1977, Numerical solution of bifurcation and nonlinear eigenvalue problems; Seydel 2010, Practical
    bifurcation and stability analysis, doi:10.1007/978-1-4419-1740-9; Kuznetsov 2023, Elements of applied bifurcation
    theory, doi:10.1007/978-3-031-22007-4.
    """
    low, high = _range(parameter_range)
    for name, value in (("step", step), ("tolerance", 1 if tolerance is None else tolerance)):
        if not 0 < value < np.inf:
            raise ValueError(f"{name} must be positive, got {value}")
    if isinstance(max_steps, bool) or int(max_steps) != max_steps or max_steps < 1:
        raise ValueError(f"max_steps must be a whole number of at least 1, got {max_steps}")
    given = points if isinstance(points, FixedPoints) else None
    if given is not None and len(given) == 0:
        raise ValueError("there are no points to start from")
    states = points if given is None else given.unravel(given.states)
    base, along, start = _line(given, inputs, along, start, low, dtype)
    kind = kind or ("map" if given is None else given.kind)
    system, flat, _ = prepare(F, states, base, kind=kind, dtype=dtype, what="points")
    start = _starts(start, len(flat), low, high)
    if tolerance is None:
        tolerance = 1e-11 if np.dtype(dtype) == np.float64 else 1e-5
    line = Line(base, along, *np.asarray([low, high - low], dtype))
    search = BranchSearch(system, line, *np.asarray([step, tolerance], dtype), int(max_steps))
    with precision(dtype):
        guesses = line.scaled(flat, start)
        normals = np.zeros_like(guesses)
        normals[:, -1] = 1
        z, tangents, reached = search.land(guesses, normals)
        dropped = {"not_converged": np.flatnonzero(~reached)}
        curves, first = _first_curves(search, z, tangents, np.flatnonzero(reached))
        dropped["duplicate"] = np.setdiff1d(np.flatnonzero(reached), first)
        branches, crossings = search.branches(curves) if curves else ([], None)
        for _ in range(MAX_GENERATIONS if follow_branch_points and curves else 0):
            offsets = 0.2 * search.largest_step * np.concatenate([crossings.other, -crossings.other])
            count = len(curves)
            if len(offsets):
                curves = _entered(search, np.tile(crossings.z, (2, 1)) + offsets, offsets, curves)
            if len(curves) == count:
                break
            new, crossings = search.branches(curves[count:])
            branches = branches + new
    hits = [curve.hits for curve in curves]
    branches = [dataclasses.replace(branch, hits=count) for branch, count in zip(branches, hits, strict=True)]
    return Branches(
        branches=tuple(sorted(branches, key=len, reverse=True)),
        kind=kind,
        inputs=base,
        along=along,
        parameter_range=(low, high),
        num_candidates=len(flat),
        dropped=dropped,
        structure=system.structure,
    )


def _first_curves(search: BranchSearch, z: np.ndarray, tangents: np.ndarray, index: np.ndarray):
    """(one curve for each branch that starts lie on, the starts that they come from)."""
    if not len(index):
        return [], np.zeros(0, int)
    owner = merge_duplicates(z[index], np.arange(len(index), dtype=float), SAME_START)
    kept, hits = np.unique(owner, return_counts=True)
    chosen = index[kept]
    curves = search.curves(z[chosen], tangents[chosen], chosen)
    curves = [curve._replace(hits=int(count)) for curve, count in zip(curves, hits, strict=True)]
    curves, _ = unique(curves, [])
    return curves, np.array([curve.index for curve in curves])


def _entered(search: BranchSearch, guesses: np.ndarray, normals: np.ndarray, known: list[Curve]) -> list[Curve]:
    """The known curves, and behind them those that branch off."""
    unit = normals / np.linalg.norm(normals, axis=1, keepdims=True)
    z, tangents, reached = search.land(guesses, unit)
    reached &= (z[:, -1] >= 0) & (z[:, -1] <= 1)
    if not reached.any():
        return known
    curves = search.curves(z[reached], tangents[reached], np.full(int(reached.sum()), -1))
    return unique([curve._replace(hits=0) for curve in curves], known)[0]


def _range(parameter_range: Any) -> tuple[float, float]:
    values = np.asarray(parameter_range, float)
    if values.shape != (2,) or not np.isfinite(values).all() or not values[0] < values[1]:
        raise ValueError(f"parameter_range must be (low, high) with low < high, got {parameter_range}")
    return float(values[0]), float(values[1])


def _line(given: FixedPoints | None, inputs: Any, along: Any, start: Any, low: float, dtype: Any):
    """(input at p = 0, its change per unit of p, p of the starts)."""
    held = None if given is None else given.inputs
    size = held.shape[1] if held is not None else 1
    if along is None:
        expected = size if inputs is None else np.size(inputs)
        if expected != 1:
            raise ValueError(f"the inputs have {expected} entries: along=, [{expected}], says which way they change")
        along = np.ones(1)
    along = np.asarray(along, dtype)
    if inputs is None:
        inputs = held[0] if held is not None and size > 1 else np.zeros(along.shape)
    inputs = np.asarray(inputs, dtype)
    if along.ndim != 1 or inputs.shape != along.shape:
        raise ValueError(f"expected inputs and along [U], got shapes {inputs.shape} and {along.shape}")
    if not (np.isfinite(inputs).all() and np.isfinite(along).all() and along.any()):
        raise ValueError(f"inputs and along must be finite, and along not zero, got {inputs} and {along}")
    if start is None and held is not None:
        if size != len(along):
            raise ValueError(f"the points have inputs of {size} entries, along has {len(along)}: pass start=")
        start = (held - inputs) @ along / (along @ along)
        off = np.abs(held - inputs - start[:, None] * along).max(axis=1)
        if (off > 1e-6 * (1 + np.abs(held).max())).any():
            i = int(np.argmax(off))
            raise ValueError(f"the input {held[i]} of point {i} is not on the line inputs + p · along")
    return inputs, along, low if start is None else start


def _starts(start: Any, count: int, low: float, high: float) -> Float[np.ndarray, "n"]:
    start = np.asarray(start, float)
    if start.ndim > 1 or (start.ndim == 1 and len(start) != count):
        raise ValueError(f"expected start, one for all or one per point [{count}], got shape {start.shape}")
    start = np.broadcast_to(start, (count,))
    outside = ~((start >= low) & (start <= high))
    if outside.any():
        i = int(np.argmax(outside))
        raise ValueError(f"the parameter {start[i]} of point {i} is outside parameter_range ({low}, {high})")
    return start
