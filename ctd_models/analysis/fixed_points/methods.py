"""The solvers that `find_fixed_points(method=…)` names."""

import dataclasses
from typing import Any

from ctd_models.analysis.fixed_points.first_order import Adam, FirstOrder
from ctd_models.analysis.fixed_points.solvers import KrylovLevenbergMarquardt, LevenbergMarquardt, Solver

NAMED = {"levenberg-marquardt": LevenbergMarquardt, "krylov": KrylovLevenbergMarquardt, "adam": Adam}
DENSE_LIMIT = 500  # units, above which no Jacobian is formed unless it is asked for
EXACT = 1e-12  # tolerances up to this ask for fixed points, larger ones for slow points


def as_solvers(method: Any, max_iterations: int | None, size: int, tolerance: float) -> tuple[Solver, ...]:
    """What `method` stands for: a first solver and those that take over where it stalls.

    "auto" is Levenberg-Marquardt, up to `DENSE_LIMIT` units. Products with the Jacobian alone serve above, and, as they
    are cheaper, as a first attempt where slow points of more than a few dozen units are enough.
    """
    if isinstance(method, str) and method == "auto":
        if size > DENSE_LIMIT:
            solvers = (KrylovLevenbergMarquardt(inner_iterations=50, patience=20),)
        elif size >= 64 and tolerance > EXACT:
            solvers = (KrylovLevenbergMarquardt(inner_iterations=15, patience=10), LevenbergMarquardt())
        else:
            solvers = (LevenbergMarquardt(),)
    else:
        solvers = (_single(method),)
    if max_iterations is None:
        return solvers
    if max_iterations < 1:
        raise ValueError(f"max_iterations must be at least 1, got {max_iterations}")
    return tuple(_limited(solver, max_iterations) for solver in solvers)


def _single(method: Any) -> Solver:
    if isinstance(method, str):
        if method not in NAMED:
            raise ValueError(
                f"method must be one of {['auto', *sorted(NAMED)]}, a solver or an optimizer, got {method!r}"
            )
        return NAMED[method]()
    if hasattr(method, "iterate"):
        return method
    if not (hasattr(method, "init") and hasattr(method, "update")):
        raise TypeError(f"method must be a name, a solver or an Optax optimizer, got {method!r}")
    return FirstOrder(method)


def _limited(solver: Solver, max_iterations: int) -> Solver:
    if dataclasses.is_dataclass(solver):
        return dataclasses.replace(solver, max_iterations=max_iterations)
    return FirstOrder(solver.optimizer, max_iterations)
