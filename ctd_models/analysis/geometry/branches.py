"""Branches of fixed points along a parameter, with the bifurcations on them."""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Complex, Float, Int, Shaped

from ctd_models.analysis.systems import Structure

BIFURCATIONS = (
    "fold",
    "pitchfork",
    "transcritical",
    "branch point",
    "Hopf",
    "Neimark-Sacker",
    "period doubling",
)


SAME = 1e-6  # share of the parameter's range and of the states' size, within which bifurcations are one


@dataclasses.dataclass(frozen=True, repr=False)
class Bifurcations:
    """Bifurcations, located on a branch."""

    kinds: Shaped[np.ndarray, "m"]
    """Names: "fold", "pitchfork", "transcritical", "branch point" (one of these two or a degenerate one, not told apart),
    "Hopf" (flow), "Neimark-Sacker" or "period doubling" (map)."""
    parameters: Float[np.ndarray, "m"]
    """Where the parameter is."""
    states: Float[np.ndarray, "m d"]
    """Where the fixed point is."""
    eigenvalues: Complex[np.ndarray, "m"]
    """The critical eigenvalue: the one nearest to the boundary of stability where it crosses."""
    positions: Float[np.ndarray, "m"]
    """Where it lies between the points of the branch: 3.25 is a quarter of the way from the fourth to the fifth."""

    def __len__(self) -> int:
        return len(self.kinds)

    def __getitem__(self, index: Any) -> "Bifurcations":
        index = np.atleast_1d(np.arange(len(self))[index])
        return Bifurcations(*(getattr(self, field.name)[index] for field in dataclasses.fields(self)))

    def of(self, kind: str) -> "Bifurcations":
        """Those of one kind.

        Raises:
            ValueError: there is no such kind.
        """
        if kind not in BIFURCATIONS:
            raise ValueError(f"kind must be one of {BIFURCATIONS}, got {kind!r}")
        return self[self.kinds == kind]

    def __repr__(self) -> str:
        found = ", ".join(f"{kind} at {p:.6g}" for kind, p in zip(self.kinds, self.parameters, strict=True))
        return f"Bifurcations: {found or 'none'}"


@dataclasses.dataclass(frozen=True, repr=False)
class Branch:
    """A curve of fixed points (h, p), as points in order along it."""

    parameters: Float[np.ndarray, "m"]
    """p of each point; not monotonic where the branch folds."""
    states: Float[np.ndarray, "m d"]
    """h of each point, flat."""
    tangents: Float[np.ndarray, "m e"]
    """Direction of the branch, (dh, dp) of unit length, e = d + 1."""
    eigenvalues: Complex[np.ndarray, "m d"]
    """Of the Jacobian: by falling magnitude of a map, by falling real part of a flow."""
    num_unstable: Int[np.ndarray, "m"]
    """Number of eigenvalues with |λ| > 1 (map) or Re λ > 0 (flow)."""
    bifurcations: Bifurcations
    """In order along the branch."""
    ends: tuple[str, str]
    """Why it ends at its first and last point: "range" (of the parameter), "max_steps", "not_converged", "closed"."""
    candidate_index: int
    """The start that led to it; −1 of a branch that was entered at a branch point."""
    hits: int
    """How many starts lie on it."""

    def __len__(self) -> int:
        return len(self.parameters)

    @property
    def is_stable(self) -> Bool[np.ndarray, "m"]:
        """Whether no mode grows, at each point."""
        return self.num_unstable == 0

    def __repr__(self) -> str:
        low, high = self.parameters.min(), self.parameters.max()
        ends = "closed" if self.ends[1] == "closed" else f"ends: {self.ends[0]}, {self.ends[1]}"
        return f"Branch: {len(self):,} points, parameter from {low:.6g} to {high:.6g}, {ends}; {self.bifurcations!r}"


@dataclasses.dataclass(frozen=True, repr=False)
class Branches:
    """A set of branches. An integer gives one `Branch`; slices, integer arrays and boolean masks give a smaller set."""

    branches: tuple[Branch, ...]
    """The branches, the longest first."""
    kind: str
    """"map" or "flow"."""
    inputs: Float[np.ndarray, "U"]
    """Input where the parameter is 0."""
    along: Float[np.ndarray, "U"]
    """Change of the input per unit of the parameter."""
    parameter_range: tuple[float, float]
    """Where the branches were followed."""
    num_candidates: int = 0
    """How many starts were given."""
    dropped: Mapping[str, Int[np.ndarray, "_"]] = dataclasses.field(default_factory=dict)
    """Why starts have no branch of their own → their indices."""
    structure: Structure | None = None
    """How the model's state lies in the flat one."""

    def __len__(self) -> int:
        return len(self.branches)

    def __iter__(self) -> Iterator[Branch]:
        return iter(self.branches)

    def __getitem__(self, index: Any) -> Any:
        chosen = np.arange(len(self))[index]
        if np.ndim(chosen) == 0:
            return self.branches[int(chosen)]
        return dataclasses.replace(self, branches=tuple(self.branches[i] for i in chosen))

    @property
    def bifurcations(self) -> Bifurcations:
        """Those of all branches; a point where branches meet is listed once."""
        parts = [branch.bifurcations for branch in self.branches]
        d = parts[0].states.shape[1] if parts else 0
        parts.append(
            Bifurcations(np.zeros(0, "<U16"), np.zeros(0), np.zeros((0, d)), np.zeros(0, complex), np.zeros(0))
        )
        names = [field.name for field in dataclasses.fields(Bifurcations)]
        every = Bifurcations(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))
        if not len(every):
            return every
        low, high = self.parameter_range
        scale = np.concatenate([[(high - low) or 1.0], np.full(d, 1 + np.abs(every.states).max(initial=0.0))])
        places = np.concatenate([every.parameters[:, None], every.states], axis=1) / scale
        kept = [
            i
            for i, kind in enumerate(every.kinds)
            if not ((every.kinds[:i] == kind) & (np.abs(places[:i] - places[i]).max(axis=1) < SAME)).any()
        ]
        return every[np.asarray(kept)]

    def inputs_at(self, parameters: Any) -> Float[np.ndarray, "*n U"]:
        """The inputs that a parameter, or an array of them, stands for."""
        return self.inputs + np.asarray(parameters)[..., None] * self.along

    def unravel(self, states: Float[Any, "*n d"]) -> Any:
        """Flat states in the model's own form, with the same leading axes."""
        return states if self.structure is None else self.structure.unravel(states)

    def __repr__(self) -> str:
        low, high = self.parameter_range
        points = sum(len(branch) for branch in self.branches)
        lines = [
            f"Branches: {len(self):,} of a {self.kind}, {points:,} points, parameter from {low:g} to {high:g}, from "
            f"{self.num_candidates:,} starts"
        ]
        counts = Counter(self.bifurcations.kinds.tolist())
        lines.append("  bifurcations: " + (", ".join(f"{n} {kind}" for kind, n in counts.items()) or "none"))
        ends = Counter(end for branch in self.branches for end in branch.ends)
        lines.append("  ends: " + ", ".join(f"{n} {end.replace('_', ' ')}" for end, n in ends.items()))
        lost = [f"{len(rows):,} {reason.replace('_', ' ')}" for reason, rows in self.dropped.items() if len(rows)]
        return "\n".join(lines + (["  dropped starts: " + ", ".join(lost)] if lost else []))
