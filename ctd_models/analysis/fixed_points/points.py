"""A set of fixed points, as NumPy arrays, with what was found about each and what was dropped on the way."""

import dataclasses
import os
from collections import Counter
from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np
from jaxtyping import Bool, Complex, Float, Int

from ctd_models.analysis.systems import Structure

FORMAT_VERSION = 1


@dataclasses.dataclass(frozen=True, repr=False)
class FixedPoints:
    """Fixed (or slow) points of a map or a flow, found from many candidates.

    Slicing, integer arrays and boolean masks give the set of the chosen points: `points[points.is_stable]`.
    Fields after `hits` are None until `linearize` fills them.
    """

    states: Float[np.ndarray, "n d"]
    """Flat states; `unravel` gives them the model's own form."""
    speeds: Float[np.ndarray, "n"]
    """q = ½‖F(h, x) − h‖² of a map, ½‖f(h, x)‖² of a flow."""
    inputs: Float[np.ndarray, "n U"] | None = None
    """Input held at each point; None where the function takes none."""
    candidate_indices: Int[np.ndarray, "n"] | None = None
    """Which candidate led to each point."""
    iterations: Int[np.ndarray, "n"] | None = None
    """Iterations the solver needed."""
    hits: Int[np.ndarray, "n"] | None = None
    """How many candidates ended at each point."""
    jacobians: Float[np.ndarray, "n d d"] | None = None
    """∂F/∂h."""
    input_jacobians: Float[np.ndarray, "n d U"] | None = None
    """∂F/∂x; None without inputs."""
    eigenvalues: Complex[np.ndarray, "n d"] | None = None
    """Of the Jacobian: by falling magnitude of a map, by falling real part of a flow. Conjugate pairs are adjacent."""
    right_eigenvectors: Complex[np.ndarray, "n d d"] | None = None
    """Columns r_k of unit length, J r_k = λ_k r_k."""
    left_eigenvectors: Complex[np.ndarray, "n d d"] | None = None
    """Columns l_k, l_kᵀ J = λ_k l_kᵀ, with l_jᵀ r_k = δ_jk (no conjugation)."""
    num_unstable: Int[np.ndarray, "n"] | None = None
    """Number of eigenvalues with |λ| > 1 (map) or Re λ > 0 (flow)."""
    kind: str = "map"
    """"map" or "flow"."""
    dt: float | None = None
    """Duration of a step [s], where it was given."""
    tolerance: float | None = None
    """The largest speed that counted as converged."""
    num_candidates: int | None = None
    """How many candidates were tried."""
    dropped: Mapping[str, Int[np.ndarray, "_"]] = dataclasses.field(default_factory=dict)
    """Why candidates are not among the points → their indices; with `candidate_indices` every candidate is accounted for."""
    structure: Structure | None = None
    """How the model's state lies in the flat one."""

    def __len__(self) -> int:
        return len(self.states)

    def __getitem__(self, index: Any) -> "FixedPoints":
        index = np.atleast_1d(np.arange(len(self))[index])
        chosen = {name: value[index] for name, value in self._per_point().items()}
        return dataclasses.replace(self, **chosen)

    @property
    def is_stable(self) -> Bool[np.ndarray, "n"]:
        """Whether no mode grows.

        Raises:
            ValueError: the points are not linearised yet.
        """
        if self.num_unstable is None:
            raise ValueError("the stability is not known yet: call linearize(F, points) first")
        return self.num_unstable == 0

    def unravel(self, states: Float[Any, "*n d"]) -> Any:
        """Flat states in the model's own form, such as an LSTM's (c, h), with the same leading axes."""
        return states if self.structure is None else self.structure.unravel(states)

    def save(self, path: str | os.PathLike) -> None:
        """Writes everything to an HDF5 file, atomically; parent folders are made."""
        path = os.fspath(path)
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        temporary = f"{path}.tmp"
        with h5py.File(temporary, "w") as file:
            file.attrs["format_version"] = FORMAT_VERSION
            for name, value in self._per_point().items():
                file.create_dataset(name, data=value)
            for name in ("kind", "dt", "tolerance", "num_candidates"):
                if getattr(self, name) is not None:
                    file.attrs[name] = getattr(self, name)
            if self.structure is not None:
                file.attrs["structure"] = self.structure.to_json()
            for reason, indices in self.dropped.items():
                file.create_dataset(f"dropped/{reason}", data=indices)
        os.replace(temporary, path)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "FixedPoints":
        """Reads what `save` wrote.

        Raises:
            ValueError: the file is not one of fixed points, or of a newer format.
        """
        with h5py.File(path, "r") as file:
            version = file.attrs.get("format_version")
            if version is None or version > FORMAT_VERSION or "states" not in file:
                raise ValueError(f"{path} is not a file of fixed points of format {FORMAT_VERSION} or older")
            arrays = {name: item[()] for name, item in file.items() if isinstance(item, h5py.Dataset)}
            settings = {
                name: value.item() if isinstance(value, np.generic) else value
                for name, value in file.attrs.items()
                if name not in ("format_version", "structure")
            }
            dropped = {reason: item[()] for reason, item in file.get("dropped", {}).items()}
            structure = Structure.from_json(file.attrs["structure"]) if "structure" in file.attrs else None
        return cls(**arrays, **settings, dropped=dropped, structure=structure)

    def _per_point(self) -> dict[str, np.ndarray]:
        """The fields that have one row for each point."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value for name, value in fields.items() if isinstance(value, np.ndarray)}

    def __repr__(self) -> str:
        n, d = self.states.shape
        found = "" if self.num_candidates is None else f" from {self.num_candidates:,} candidates"
        lines = [f"FixedPoints: {n:,} of a {self.kind} in {d} dimensions{found}"]
        if n:
            limit = "" if self.tolerance is None else f" (tolerance {self.tolerance:.1g})"
            lines.append(f"  speed q: median {np.median(self.speeds):.1e}, largest {self.speeds.max():.1e}{limit}")
        if self.num_unstable is None:
            lines.append("  stability: not known yet, see linearize")
        elif n:
            counts = sorted(Counter(self.num_unstable.tolist()).items())
            names = ("stable", "with 1 unstable mode")
            lines.append(
                "  stability: "
                + ", ".join(f"{c:,} {names[k] if k < 2 else f'with {k} unstable modes'}" for k, c in counts)
            )
        lost = [
            f"{len(indices):,} {reason.replace('_', ' ')}" for reason, indices in self.dropped.items() if len(indices)
        ]
        if lost:
            lines.append("  dropped candidates: " + ", ".join(lost))
        return "\n".join(lines)
