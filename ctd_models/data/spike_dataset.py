"""Spiking data, parted for training, validation and test."""

import dataclasses
import warnings
from collections.abc import Callable, Mapping
from typing import Any, no_type_check

import numpy as np
from jaxtyping import Float, Int, Real, Shaped

from ctd_models.data.spike_trials import SpikeTrials
from ctd_models.data.summaries import summary

PARTS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True, repr=False)
class SpikeDataset:
    """Trials and what is known about them. What is kept by part has the keys of `parts`."""

    train: SpikeTrials
    """Trials to train on. Targets that the file does not know are 0 and have weight 0 in `mask`."""
    validation: SpikeTrials | None = None
    """Trials to choose a model on; None: the file has none."""
    test: SpikeTrials | None = None
    """Trials to report on; None: the file has none."""
    layout: str = ""
    """Name of the layout that was read."""
    num_heldin: int = 0
    """How many of the targets' neurons are read; they come first."""
    num_heldout: int = 0
    """How many of the targets' neurons are only to be predicted; they come last."""
    neurons: Int[np.ndarray, "neurons"] = dataclasses.field(default_factory=lambda: np.arange(0))
    """Column of each of the targets' neurons in the file (row in the table of units)."""
    trial_indices: Mapping[str, Int[np.ndarray, "_"]] = dataclasses.field(default_factory=dict)
    """Part → index of each trial among the trials of the file; where the file keeps its parts as separate arrays and
    does not tell, the index in these."""
    bin_width_s: float | None = None
    """Width of a bin [s]; None: unknown."""
    time_s: Float[np.ndarray, "steps"] | None = None
    """Start of each bin of the targets relative to the event that trials are aligned to [s]; None: unknown."""
    rates: Mapping[str, Float[np.ndarray, "_ steps neurons"]] = dataclasses.field(default_factory=dict)
    """Part → true rates of the targets' neurons, in `rates_unit`; empty: unknown."""
    rates_unit: str | None = None
    """"spikes/bin", or the unit of the file where it cannot be converted; None: no rates."""
    latents: Mapping[str, Float[np.ndarray, "_ steps dims"]] = dataclasses.field(default_factory=dict)
    """Part → true latent variables; empty: unknown."""
    conditions: Mapping[str, Int[np.ndarray, "_"]] = dataclasses.field(default_factory=dict)
    """Part → label of the condition of each trial, -1 for none; empty: unknown."""
    behavior: Mapping[str, Mapping[str, Real[np.ndarray, "_ ..."]]] = dataclasses.field(default_factory=dict)
    """Part → name → values [trials, time, dims], NaN where not recorded."""
    behavior_units: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Name of a behaviour → its unit, "a.u." where the file does not tell."""
    dropped: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """Reason → number of trials of the file that are in no part; empty: none."""
    sessions: tuple[str, ...] = ()
    """Names of the recording sessions, if several are stitched; `sessions` of the trials are places in this list, and
    `trial_indices` are those of each session's own file."""

    def __repr__(self) -> str:
        return summary(self, (field.name for field in dataclasses.fields(self)))

    @property
    def parts(self) -> dict[str, SpikeTrials]:
        """Name → trials of the parts that exist."""
        return {name: trials for name in PARTS if (trials := getattr(self, name)) is not None}

    def with_parts(self, parts: Mapping[str, tuple[str, Any]]) -> "SpikeDataset":
        """The same with other parts.

        Args:
            parts: part → (the part that its trials are taken from, their indices there, a slice or a mask). Parts
                without trials are left out.

        Raises:
            ValueError: there is no such part, or no training trial is left.
        """
        if unknown := sorted({*parts, *(source for source, _ in parts.values())} - set(PARTS)):
            raise ValueError(f"parts are {list(PARTS)}, got {unknown}")
        if absent := sorted({source for source, _ in parts.values()} - set(self.parts)):
            raise ValueError(f"there are no {absent[0]} trials, the dataset has {list(self.parts)}")
        taken = {part: (self.parts[source].take(indices), source, indices) for part, (source, indices) in parts.items()}
        taken = {part: chosen for part, chosen in taken.items() if len(chosen[0].targets)}
        if "train" not in taken:
            raise ValueError("no training trial is left")

        def split(known: Mapping[str, Any], take: Callable[[Any, Any], Any] = lambda values, i: values[i]) -> Any:
            return {part: take(known[source], i) for part, (_, source, i) in taken.items() if source in known}

        def each(values: Mapping[str, Any], indices: Any) -> dict[str, Any]:
            return {name: of_name[indices] for name, of_name in values.items()}

        by_part = {name: split(getattr(self, name)) for name in ("trial_indices", "rates", "latents", "conditions")}
        trials = {part: taken[part][0] if part in taken else None for part in PARTS}
        return dataclasses.replace(self, **trials, **by_part, behavior=split(self.behavior, each))

    def with_neurons(self, neurons: Any) -> "SpikeDataset":
        """The same with some of the targets' neurons.

        Args:
            neurons: places among the targets' neurons, or a mask; those that are read come first in the result as well.

        Raises:
            ValueError: none of them is read, or the dataset is of several sessions, whose neurons are padded.
        """
        if self.sessions:
            raise ValueError("choose neurons of each session before they are stitched")
        places = np.unique(np.arange(self.num_heldin + self.num_heldout)[neurons])
        read = places[places < self.num_heldin]
        if not len(read):
            raise ValueError(f"none of the neurons is among the {self.num_heldin} that are read")

        def cut(trials: SpikeTrials | None) -> SpikeTrials | None:
            if trials is None:
                return None
            mask = trials.mask if trials.mask is None or trials.mask.shape[2] == 1 else trials.mask[..., places]
            return trials._replace(inputs=trials.inputs[..., read], targets=trials.targets[..., places], mask=mask)

        return dataclasses.replace(
            self,
            **{part: cut(getattr(self, part)) for part in PARTS},
            num_heldin=len(read),
            num_heldout=len(places) - len(read),
            neurons=self.neurons[places],
            rates={part: rates[..., places] for part, rates in self.rates.items()},
        )


@no_type_check  # the level of the warning counts calls
def warn_of_silent_neurons(dataset: SpikeDataset, where: str, stacklevel: int) -> None:
    """Warns of neurons without a spike in the training trials; it names their columns in the file."""
    silent = dataset.neurons[~np.asarray(dataset.train.targets).any(axis=(0, 1))]
    if len(silent):
        warnings.warn(
            f"{where}: {len(silent)} of {len(dataset.neurons)} neurons have no spike in the "
            f"{len(dataset.train.targets)} training trials, those with index {silent.tolist()}",
            stacklevel=stacklevel + 1,
        )


def whole_numbers(values: Shaped[np.ndarray, "..."], where: str, *, missing: bool = False) -> Shaped[np.ndarray, "..."]:
    """Counts in a small integer type: integers keep theirs, others get the smallest unsigned one that holds them.

    Args:
        values: counts in any numeric type.
        where: file and dataset, for the message.
        missing: whether NaN is let pass; counts that have some keep their type.

    Raises:
        ValueError: a value is negative, not whole or not finite.
    """
    if values.dtype.kind in "ub":
        return values.view(np.uint8) if values.dtype == np.bool_ else values
    bad = values < 0
    if values.dtype.kind == "f":
        gaps = np.isnan(values)
        bad |= (np.isinf(values) | (values != np.floor(values))) & ~gaps
        bad |= gaps & (not missing)
    reject(bad, values, where, "spike counts, non-negative whole numbers (counts=False reads other values)")
    if values.dtype.kind == "i" or gaps.any():
        return values
    return values.astype(np.min_scalar_type(int(values.max(initial=0))))


def finite(values: Shaped[np.ndarray, "..."], where: str, *, missing: bool = False) -> Shaped[np.ndarray, "..."]:
    """The values.

    Raises:
        ValueError: a value is infinite or, unless `missing`, NaN.
    """
    if values.dtype.kind == "f":
        reject(np.isinf(values) if missing else ~np.isfinite(values), values, where, "finite values")
    return values


def reject(bad: np.ndarray, values: np.ndarray, where: str, expected: str) -> None:
    """Raises ValueError that names the first bad value and its index, if there is one."""
    if bad.any():
        index = tuple(int(i) for i in np.unravel_index(np.argmax(bad), bad.shape))
        raise ValueError(f"{where} of shape {values.shape}: expected {expected}, got {values[index]} at index {index}")
