"""A set of fixed points, as NumPy arrays, with what was found about each and what was dropped on the way."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any, no_type_check

import numpy as np
from jaxtyping import Bool, Complex, Float, Int

from ctd_models.analysis.fixed_points import points_file, points_text
from ctd_models.analysis.fixed_points.completeness import Completeness
from ctd_models.analysis.fixed_points.unique import merge_duplicates
from ctd_models.analysis.systems import Structure

MARGINAL = 1e-6  # distance of an eigenvalue from the boundary of stability, up to which it counts as on it


@dataclasses.dataclass(frozen=True, repr=False)
class FixedPoints:
    """Fixed (or slow) points of a map or a flow, found from many candidates.

    Slicing, integer arrays and boolean masks give the set of the chosen points: `points[points.is_stable]`. d is the
    size of a flat state, k the number of modes: d, or less where only the leading ones were asked for. Fields from
    `jacobians` to `condition_numbers` are None until `linearize` fills them.
    """

    states: Float[np.ndarray, "n d"]
    """Flat states; `unravel` gives them the model's own form."""
    speeds: Float[np.ndarray, "n"]
    """q = ½‖F(h, x) − h‖² of a map, ½‖f(h, x)‖² of a flow."""
    inputs: Float[np.ndarray, "n U"] | None = None
    """Input held at each point; None where the function takes none."""
    candidate_indices: Int[np.ndarray, "n"] | None = None
    """Which candidate led to each point; the nearest one of its input where exploration alone found it (`hits` 0)."""
    iterations: Int[np.ndarray, "n"] | None = None
    """Iterations the solver needed."""
    hits: Int[np.ndarray, "n"] | None = None
    """How many candidates ended at each point."""
    jacobians: Float[np.ndarray, "n d d"] | None = None
    """∂F/∂h; None where only leading modes were asked for."""
    input_jacobians: Float[np.ndarray, "n d U"] | None = None
    """∂F/∂x; None without inputs."""
    eigenvalues: Complex[np.ndarray, "n k"] | None = None
    """Of the Jacobian: by falling magnitude of a map, by falling real part of a flow. Conjugate pairs are adjacent."""
    right_eigenvectors: Complex[np.ndarray, "n d k"] | None = None
    """Columns r_k of unit length, J r_k = λ_k r_k."""
    left_eigenvectors: Complex[np.ndarray, "n d k"] | None = None
    """Columns l_k, l_kᵀ J = λ_k l_kᵀ, with l_jᵀ r_k = δ_jk (no conjugation)."""
    num_unstable: Int[np.ndarray, "n"] | None = None
    """Number of eigenvalues with |λ| > 1 (map) or Re λ > 0 (flow), beyond rounding (1e-10): the index of a saddle."""
    condition_numbers: Float[np.ndarray, "n"] | None = None
    """Of ∂F/∂h − I of a map, ∂f/∂h of a flow: large where a point is nearly one of a manifold, or badly determined."""
    classes: Any = None
    """What each point is, [n] of str: "fixed" (stands still to within rounding), "slow" (within the tolerance only) or
    "ghost" (q has a minimum that is not zero)."""
    kind: str = "map"
    """"map" or "flow"."""
    dt: float | None = None
    """Duration of a step of a map [s], where it was given. A flow has its own unit of time."""
    tolerance: float | None = None
    """The largest speed that counted as converged."""
    num_candidates: int | None = None
    """How many candidates were tried."""
    dropped: Mapping[str, Int[np.ndarray, "_"]] = dataclasses.field(default_factory=dict)
    """Why candidates are not among the points → their indices; with `candidate_indices` every candidate is accounted for."""
    ghosts: "FixedPoints | None" = None
    """Minima of q that are not fixed points, at which searches stalled; None where there are none."""
    forward: Mapping[str, int] | None = None
    """Where some candidates of a map end when they are run forward → how many of them; None where that was not looked at."""
    smallest_speed: float | None = None
    """The smallest q that was reached, where no candidate converged."""
    candidate_iterations: Int[np.ndarray, "m"] | None = None
    """Iterations that each of all the candidates took, whether it arrived or not."""
    structure: Structure | None = None
    """How the model's state lies in the flat one."""

    @classmethod
    @no_type_check  # it checks its arguments itself
    def from_arrays(
        cls,
        states: Float[Any, "n d"],
        speeds: Float[Any, "n"] | None = None,
        *,
        mean_square: bool = False,
        **fields: Any,
    ) -> "FixedPoints":
        """Points that another tool wrote as arrays; `linearize` fills in what is missing.

        Args:
            states: [n, d].
            speeds: q of each; None: NaN, until `linearize` computes them.
            mean_square: whether `speeds` are mean squares of F(h) − h over the units instead of half the sum, as in the
                computation-through-dynamics tutorials; they are converted.
            fields: any other field of this class, with one row a point, such as `inputs` or `jacobians`, or a setting.

        Raises:
            ValueError: numbers of rows that differ, or an unknown field.
        """
        states = np.asarray(states, np.float64)
        if states.ndim != 2:
            raise ValueError(f"expected states [n, d], got shape {states.shape}")
        known = {field.name for field in dataclasses.fields(cls)} - {"states", "speeds"}
        if unknown := sorted(set(fields) - known):
            raise ValueError(f"unknown fields {unknown}; fields are {sorted(known)}")
        speeds = np.full(len(states), np.nan) if speeds is None else np.asarray(speeds, np.float64)
        if mean_square:
            speeds = 0.5 * states.shape[1] * speeds
        settings = {"kind", "dt", "tolerance", "num_candidates", "dropped", "ghosts", "forward", "structure"}
        settings |= {"smallest_speed", "candidate_iterations"}
        rows = {name: np.asarray(value) for name, value in fields.items() if name not in settings}
        for name, value in (rows | {"speeds": speeds}).items():
            if value.shape[:1] != states.shape[:1]:
                raise ValueError(
                    f"expected {name} with one row for each of {len(states)} points, got shape {value.shape}"
                )
        return cls(states=states, speeds=speeds, **(fields | rows))

    def __len__(self) -> int:
        return len(self.states)

    def __getitem__(self, index: Any) -> "FixedPoints":
        index = np.atleast_1d(np.arange(len(self))[index])
        chosen = {name: value[index] for name, value in self.per_point().items()}
        return dataclasses.replace(self, **chosen)

    @no_type_check  # it checks its arguments itself
    def find(self, state: Float[Any, "d"], distance: float = 1e-6) -> Int[np.ndarray, "m"]:
        """Indices of the points within `distance` of a flat state, the nearest first."""
        state = np.asarray(state, np.float64)
        if state.shape != self.states.shape[1:]:
            raise ValueError(f"expected a state [{self.states.shape[1]}], got shape {state.shape}")
        apart = np.linalg.norm(self.states - state, axis=1)
        nearest = np.argsort(apart, kind="stable")
        return nearest[apart[nearest] <= distance]

    def __contains__(self, state: Float[Any, "d"]) -> bool:
        return len(self.find(state)) > 0

    def unique(self, distance: float = 1e-3) -> "FixedPoints":
        """The points with those that are closer than `distance` in [state, input] merged, each kept at its slowest, with
        the hits of all: for sets that were concatenated."""
        if not len(self):
            return self
        places = self.states if self.inputs is None else np.concatenate([self.states, self.inputs], axis=1)
        kept, group = np.unique(merge_duplicates(places, self.speeds, distance), return_inverse=True)
        merged = self[kept]
        if self.hits is None:
            return merged
        hits = np.bincount(group, weights=self.hits, minlength=len(kept)).astype(int)
        return dataclasses.replace(merged, hits=hits)

    @classmethod
    def concatenate(cls, sets: Sequence["FixedPoints"]) -> "FixedPoints":
        """All points of several sets of one system, such as those at different inputs.

        Fields that some set lacks are None. `candidate_indices` and the indices in `dropped` count on through the
        candidates of the sets, in their order.

        Raises:
            ValueError: there is no set, or the sets differ in kind, size of the states, or dt.
        """
        sets = list(sets)
        if not sets:
            raise ValueError("there are no sets of points to concatenate")
        for name, values in (("kind", {s.kind for s in sets}), ("dt", {s.dt for s in sets})):
            if len(values) > 1:
                raise ValueError(f"sets of points with different {name} cannot be one set: {sorted(map(str, values))}")
        if len(sizes := {s.states.shape[1] for s in sets}) > 1:
            raise ValueError(f"sets of points in different dimensions cannot be one set: {sorted(sizes)}")
        known = all(s.num_candidates is not None for s in sets)
        offsets = np.cumsum([0] + [s.num_candidates or 0 for s in sets])
        shared = set.intersection(*(set(s.per_point()) for s in sets))
        rows = {name: np.concatenate([s.per_point()[name] for s in sets]) for name in shared}
        if known and "candidate_indices" in rows:
            shifted = [s.candidate_indices + o for s, o in zip(sets, offsets[:-1], strict=True)]
            rows["candidate_indices"] = np.concatenate(shifted)
        reasons = dict.fromkeys(reason for s in sets for reason in s.dropped)
        nobody = np.arange(0)
        dropped = {
            reason: np.concatenate([s.dropped.get(reason, nobody) + o for s, o in zip(sets, offsets[:-1], strict=True)])
            for reason in reasons
        }
        tolerances = [s.tolerance for s in sets if s.tolerance is not None]
        counted = all(s.candidate_iterations is not None for s in sets)
        ghosts = [s.ghosts for s in sets if s.ghosts is not None]
        return cls(
            **rows,
            kind=sets[0].kind,
            dt=sets[0].dt,
            tolerance=max(tolerances, default=None),
            num_candidates=int(offsets[-1]) if known else None,
            dropped=dropped if known else {},
            ghosts=cls.concatenate(ghosts) if ghosts else None,
            candidate_iterations=np.concatenate([s.candidate_iterations for s in sets]) if counted else None,
            structure=sets[0].structure,
        )

    @property
    def is_stable(self) -> Bool[np.ndarray, "n"]:
        """Whether no mode grows. That includes points with neutral modes, such as those of a line or ring, which
        `stability` calls marginal.

        Raises:
            ValueError: the points are not linearised yet.
        """
        return self._linearized(self.num_unstable) == 0

    @property
    def stability(self) -> Any:
        """Stability class of each point, [n] of str, judged by the known modes: "attractor" (all decay), "repeller" (all
        grow), "saddle" (some do; `num_unstable` is its index), or "marginal" (none grows, and some lie on the boundary of
        stability to within 1e-6; see `stability_within`)."""
        return self.stability_within(MARGINAL)

    def stability_within(self, margin: float) -> Any:
        """`stability` where eigenvalues closer than `margin` to the boundary (|λ| = 1 of a map, Re λ = 0 of a flow) count as
        on it: a larger margin, such as 0.01, finds the points of a line attractor that is not perfect.

        Raises:
            ValueError: the points are not linearised yet.
        """
        growth = self.growth
        grows, neutral = growth > margin, np.abs(growth) <= margin
        conditions = [grows.all(axis=1), grows.any(axis=1), neutral.any(axis=1)]
        return np.select(conditions, ["repeller", "saddle", "marginal"], "attractor")

    @property
    def growth(self) -> Float[np.ndarray, "n k"]:
        """|λ| − 1 of a map, Re λ of a flow: positive where a mode grows."""
        values = self._linearized(self.eigenvalues)
        return values.real if self.kind == "flow" else np.abs(values) - 1

    @property
    def time_constants(self) -> Float[np.ndarray, "n k"]:
        """Time in which each mode falls (or, of a growing one, rises) by e: of a map 1 / |log |λ||, in steps or, where dt is
        given, in seconds; of a flow 1 / |Re λ|, in its unit of time. Infinite on the boundary of stability."""
        values = self._linearized(self.eigenvalues)
        with np.errstate(divide="ignore"):
            rate = values.real if self.kind == "flow" else np.log(np.abs(values))
            return self._unit_of_time / np.abs(rate)

    @property
    def frequencies(self) -> Float[np.ndarray, "n k"]:
        """Oscillation frequency of each mode: of a map |arg λ| / 2π, in cycles a step or, where dt is given, in Hz; of a
        flow |Im λ| / 2π, in cycles a unit of time. 0 of a mode that does not turn, ½ cycle a step of one with λ < 0."""
        values = self._linearized(self.eigenvalues)
        angle = values.imag if self.kind == "flow" else np.angle(values)
        return np.abs(angle) / (2 * np.pi * self._unit_of_time)

    @property
    def completeness(self) -> Completeness:
        """What the hits say about points not yet seen.

        Raises:
            ValueError: it is not known how many candidates led to each point.
        """
        if self.hits is None:
            raise ValueError("it is not known how many candidates led to each point")
        return Completeness.of(self.hits)

    @property
    def _unit_of_time(self) -> float:
        return 1.0 if self.dt is None or self.kind == "flow" else self.dt

    def _linearized(self, values: Any) -> Any:
        if values is None:
            raise ValueError("the stability is not known yet: call linearize(F, points) first")
        return values

    def unravel(self, states: Float[Any, "*n d"]) -> Any:
        """Flat states in the model's own form, such as an LSTM's (c, h), with the same leading axes."""
        return states if self.structure is None else self.structure.unravel(states)

    def per_point(self) -> dict[str, np.ndarray]:
        """The fields that have one row for each point."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        of_points = {name: value for name, value in fields.items() if isinstance(value, np.ndarray)}
        of_points.pop("candidate_iterations", None)
        return of_points

    def to_dict(self) -> dict[str, np.ndarray]:
        """The arrays with one row for each point, and what follows from the modes where these are known."""
        derived = ("stability", "time_constants", "frequencies") if self.eigenvalues is not None else ()
        return self.per_point() | {name: getattr(self, name) for name in derived}

    def save(self, path: str | os.PathLike) -> None:
        """Writes everything to an HDF5 file, atomically; parent folders are made."""
        points_file.save(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "FixedPoints":
        """Reads what `save` wrote.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is not one of fixed points, or of a newer format.
        """
        return points_file.load(cls, path)

    def __repr__(self) -> str:
        return points_text.describe(self)
