"""Sets of cycles and of attractors, as NumPy arrays."""

import dataclasses
import json
import os
from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np
from jaxtyping import Bool, Complex, Float, Int

from ctd_models.analysis.systems import Structure

FORMAT_VERSION = 1


@dataclasses.dataclass(frozen=True, repr=False)
class Cycles:
    """Cycles of a map: orbits of k points that F takes from one to the next, and from the last to the first.

    Slicing, integer arrays and boolean masks give the set of the chosen cycles: `cycles[cycles.is_stable]`.
    """

    periods: Int[np.ndarray, "n"]
    """Number of points k of each cycle [steps]."""
    orbits: tuple[Float[np.ndarray, "_ d"], ...]
    """The points of each, [k, d], in time order; the one with the smallest first entry comes first. Flat states;
    `unravel` gives them the model's own form."""
    residuals: Float[np.ndarray, "n"]
    """Largest ½‖F(h_j, x) − h_{j+1}‖² along the orbit."""
    multipliers: Complex[np.ndarray, "n d"]
    """Eigenvalues of the monodromy, by falling magnitude: growth per turn, the same at each point of the cycle. Those
    more than sixteen orders of magnitude below the entries of the monodromy are rounding."""
    monodromies: Float[np.ndarray, "n d d"]
    """Product of the Jacobians along the orbit, ∂F^k/∂h at its first point."""
    num_unstable: Int[np.ndarray, "n"]
    """Number of multipliers with |μ| > 1."""
    hits: Int[np.ndarray, "n"]
    """How many searches ended at each cycle, those for a multiple of its period included."""
    candidate_indices: Int[np.ndarray, "n"]
    """A candidate that led to each cycle."""
    inputs: Float[np.ndarray, "n U"] | None = None
    """Input held at each cycle; None where the function takes none."""
    tolerance: float | None = None
    """The largest residual that counted as converged."""
    num_candidates: int | None = None
    """How many candidates were given."""
    num_searches: int | None = None
    """How many searches were made from them; all are counted in `hits` or `dropped`."""
    dropped: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """How many searches ended at no cycle, by reason."""
    structure: Structure | None = None
    """How the model's state lies in the flat one."""

    def __len__(self) -> int:
        return len(self.periods)

    def __getitem__(self, index: Any) -> "Cycles":
        index = np.atleast_1d(np.arange(len(self))[index])
        return dataclasses.replace(self, orbits=tuple(self.orbits[i] for i in index), **_rows(self, index))

    @property
    def is_stable(self) -> Bool[np.ndarray, "n"]:
        """Whether no multiplier lies outside the unit circle."""
        return self.num_unstable == 0

    def unravel(self, states: Float[Any, "*n d"]) -> Any:
        """Flat states in the model's own form, such as an LSTM's (c, h), with the same leading axes."""
        return states if self.structure is None else self.structure.unravel(states)

    def save(self, path: str | os.PathLike) -> None:
        """Writes everything to an HDF5 file, atomically; parent folders are made."""
        _save(self, path, "cycles")

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Cycles":
        """Reads what `save` wrote.

        Raises:
            ValueError: the file is not one of cycles, or of a newer format.
        """
        return cls(**_load(path, "cycles"))

    def __repr__(self) -> str:
        found = "" if self.num_candidates is None else f" from {self.num_candidates:,} candidates"
        lines = [f"Cycles: {len(self):,} of a map in {self.multipliers.shape[1]} dimensions{found}"]
        for period in np.unique(self.periods):
            unstable = self.num_unstable[self.periods == period]
            many = unstable[unstable > 1]
            parts = [(int((unstable == 0).sum()), "stable"), (int((unstable == 1).sum()), "with 1 unstable mode")]
            if len(many):
                span = f"{many.min()}" if many.min() == many.max() else f"{many.min()} to {many.max()}"
                parts.append((len(many), f"with {span} unstable modes"))
            kinds = ", ".join(f"{count:,} {name}" for count, name in parts if count)
            lines.append(f"  period {period}: {kinds}")
        if len(self):
            limit = "" if self.tolerance is None else f" (tolerance {self.tolerance:.1g})"
            lines.append(
                f"  residual: median {np.median(self.residuals):.1e}, largest {self.residuals.max():.1e}{limit}"
            )
        lost = [f"{count:,} {reason.replace('_', ' ')}" for reason, count in self.dropped.items() if count]
        if lost:
            lines.append("  dropped searches: " + ", ".join(lost))
        return "\n".join(lines)


@dataclasses.dataclass(frozen=True, repr=False)
class Attractors:
    """Where given states end up. Slicing, integer arrays and boolean masks choose attractors.

    Labels of states that belong to none of the chosen become −1.
    """

    kinds: tuple[str, ...]
    """"fixed point", "cycle", "limit cycle", "invariant circle", "quasi-periodic" or "chaotic"."""
    periods: Float[np.ndarray, "a"]
    """Of a cycle [steps] and a limit cycle [unit of time of the flow]; of an invariant circle the number of circles that
    follow each other; of a fixed point 1 (map) or 0 (flow); NaN of others."""
    orbits: tuple[Float[np.ndarray, "_ d"], ...]
    """Flat states of each, [points, d]: the fixed point; the points of a cycle in time order; a limit cycle at equal
    distances in time; an invariant circle ordered by phase; others in time order."""
    means: Float[np.ndarray, "a d"]
    """Mean state over `orbits`."""
    exponents: Float[np.ndarray, "a k"]
    """Leading Lyapunov exponents, largest first, three at most: per step of a map, per unit of time of a flow."""
    rotation_numbers: Float[np.ndarray, "a"]
    """Turns per step around an invariant circle, in (0, ½], as the sense of rotation is a choice; NaN of others. Of
    several circles that follow each other: turns each time one is visited."""
    closure_residuals: Float[np.ndarray, "a"]
    """Largest distance of a point of an invariant circle from the line between its neighbours in phase, relative to the
    circle's size (its standard deviation); NaN of others."""
    counts: Int[np.ndarray, "a"]
    """How many states end at each."""
    labels: Int[np.ndarray, "n"]
    """Which attractor each state ends at; −1: none."""
    diverged: Bool[np.ndarray, "n"]
    """States that went beyond `escape` or to NaN."""
    unsettled: Bool[np.ndarray, "n"]
    """States still on their way, or whose motion could not be told."""
    drifts: Float[np.ndarray, "n"]
    """How fast the last states move past those up to `max_period` steps before, ‖h_{t+p} − h_t‖ / p per step (the least
    over p); of a flow ‖h(t + dt) − h(t)‖ / dt. Small where a state is unsettled and slow; NaN where it diverged."""
    final_states: Float[np.ndarray, "n d"]
    """Where each state was at the end."""
    inputs: Float[np.ndarray, "a U"] | None = None
    """Input held at each attractor; None where the function takes none."""
    kind: str = "map"
    """"map" or "flow"."""
    structure: Structure | None = None
    """How the model's state lies in the flat one."""

    def __len__(self) -> int:
        return len(self.kinds)

    def __getitem__(self, index: Any) -> "Attractors":
        index = np.atleast_1d(np.arange(len(self))[index])
        place = np.full(len(self) + 1, -1)
        place[index] = np.arange(len(index))
        return dataclasses.replace(
            self,
            **_rows(self, index, but=("labels", "diverged", "unsettled", "drifts", "final_states")),
            kinds=tuple(self.kinds[i] for i in index),
            orbits=tuple(self.orbits[i] for i in index),
            labels=place[self.labels],
        )

    @property
    def basin_fractions(self) -> Float[np.ndarray, "a"]:
        """Fraction of the states that end at each attractor."""
        return self.counts / len(self.labels)

    @property
    def is_attracting(self) -> Bool[np.ndarray, "a"]:
        """Whether neighbours are drawn in. A state that lies exactly on a saddle, or on its stable manifold, ends there
        without that: such a fixed point or cycle has a positive exponent."""
        regular = np.array([kind in ("fixed point", "cycle", "limit cycle") for kind in self.kinds], bool)
        return ~(regular & (self.exponents[:, 0] > 1e-4))

    def unravel(self, states: Float[Any, "*n d"]) -> Any:
        """Flat states in the model's own form, such as an LSTM's (c, h), with the same leading axes."""
        return states if self.structure is None else self.structure.unravel(states)

    def save(self, path: str | os.PathLike) -> None:
        """Writes everything to an HDF5 file, atomically; parent folders are made."""
        _save(self, path, "attractors")

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Attractors":
        """Reads what `save` wrote.

        Raises:
            ValueError: the file is not one of attractors, or of a newer format.
        """
        return cls(**_load(path, "attractors"))

    def __repr__(self) -> str:
        n = len(self.labels)
        dimension = self.final_states.shape[1]
        lines = [f"Attractors: {len(self):,} of a {self.kind} in {dimension} dimensions, from {n:,} states"]
        groups: dict[tuple[str, float, bool], list[int]] = {}
        for i, (kind, attracting) in enumerate(zip(self.kinds, self.is_attracting.tolist(), strict=True)):
            period = float(self.periods[i]) if kind in ("cycle", "invariant circle") else 1.0
            groups.setdefault((kind, period, attracting), []).append(i)
        for (kind, period, attracting), members in groups.items():
            several = len(members) > 1
            name = f"{kind} attractor" if kind in ("quasi-periodic", "chaotic") else kind
            name += "s" * several
            if period > 1:
                name += f" of period {period:.0f}" if kind == "cycle" else f" in {period:.0f} parts"
            if not attracting:
                name += f" that repel{'s' * (not several)} nearby states"
            share = self.counts[members].sum() / n
            lines.append(f"  {len(members):,} {name}, reached by {100 * share:.3g} % of the states")
        if self.unsettled.any():
            slow, fast = np.quantile(self.drifts[self.unsettled], [0, 1])
            unit = "step" if self.kind == "map" else "unit of time"
            lines.append(
                f"  unsettled: {self.unsettled.sum():,} of the states, moving by {slow:.1e} to {fast:.1e} per {unit}"
            )
        if self.diverged.any():
            lines.append(f"  diverged: {self.diverged.sum():,} of the states")
        return "\n".join(lines)


def _rows(results: Any, index: Int[np.ndarray, "m"], but: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    """The arrays of a result, at the chosen rows."""
    fields = {field.name: getattr(results, field.name) for field in dataclasses.fields(results)}
    return {name: v[index] for name, v in fields.items() if isinstance(v, np.ndarray) and name not in but}


def _save(results: Any, path: str | os.PathLike, what: str) -> None:
    path = os.fspath(path)
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with h5py.File(f"{path}.tmp", "w") as file:
        file.attrs["holds"], file.attrs["format_version"] = what, FORMAT_VERSION
        settings = {}
        for name in (field.name for field in dataclasses.fields(results)):
            value = getattr(results, name)
            if name == "orbits":  # all points one after another, and how many belong to each
                file.create_dataset("orbits", data=np.concatenate(value) if value else np.zeros((0, 0)))
                file.create_dataset("orbit_lengths", data=np.array([len(orbit) for orbit in value], int))
            elif isinstance(value, np.ndarray):
                file.create_dataset(name, data=value)
            elif name == "structure" and value is not None:
                file.attrs["structure"] = value.to_json()
            elif value is not None:
                settings[name] = value
        file.attrs["settings"] = json.dumps(settings)
    os.replace(f"{path}.tmp", path)


def _load(path: str | os.PathLike, what: str) -> dict[str, Any]:
    with h5py.File(path, "r") as file:
        version = file.attrs.get("format_version")
        if file.attrs.get("holds") != what or version is None or version > FORMAT_VERSION:
            raise ValueError(f"{path} is not a file of {what} of format {FORMAT_VERSION} or older")
        fields = {name: item[()] for name, item in file.items()}
        fields.update(json.loads(file.attrs["settings"]))
        if "structure" in file.attrs:
            fields["structure"] = Structure.from_json(file.attrs["structure"])
    lengths = fields.pop("orbit_lengths")
    fields["orbits"] = tuple(np.split(fields["orbits"], np.cumsum(lengths)[:-1])) if len(lengths) else ()
    return fields | ({"kinds": tuple(fields["kinds"])} if "kinds" in fields else {})
