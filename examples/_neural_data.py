"""What the examples on recordings share: trials as the models read them, and the behaviour that can be decoded."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np

    from ctd_models.data import SpikeDataset, SpikeTrials


class Fit(NamedTuple):
    """A trained model and what it infers of all trials of a recording."""

    model: Any
    """The model."""
    variables: Any
    """Flax's whole dictionary."""
    data: "SpikeDataset"
    """The recording."""
    trials: "SpikeTrials"
    """All its trials, part after part."""
    places: Mapping[str, "np.ndarray"]
    """Part → places of its trials among all."""
    posterior: Any
    """`Posterior` of all trials."""

    @property
    def part(self) -> str:
        """The part to report on: "test", or "validation" where there is none."""
        return "test" if "test" in self.places else "validation"

    @property
    def conditions(self) -> "np.ndarray":
        """Condition of each trial, -1 where it is unknown."""
        import numpy as np

        known, places = self.data.conditions, self.places.items()
        return np.concatenate([known.get(part, np.full(len(indices), -1)) for part, indices in places])

    @property
    def start_s(self) -> float:
        """When the trials begin, relative to the event that they are aligned to [s]; 0: unknown."""
        return 0.0 if self.data.time_s is None else float(self.data.time_s[0])


def load(path: Path, bin_width_s: float | None, seed: int) -> tuple["SpikeDataset", "SpikeDataset | None"]:
    """(the recording for decoding, the same for co-smoothing; None where all that is to be predicted is also read).

    For decoding all neurons are read, unless the file has a layout that tells by itself what is read.
    """
    from ctd_models.data import load_spike_trials

    data = heldout = load_spike_trials(path, bin_width_s=bin_width_s)
    if data.bin_width_s is None:
        raise SystemExit(f"{path} does not tell how wide its bins are: give --bin-width-s")
    if data.num_heldout and data.layout == "recording":
        data = load_spike_trials(path, bin_width_s=bin_width_s, heldout=())
    hidden = heldout.train.targets.shape != heldout.train.inputs.shape
    return with_validation(data, seed), with_validation(heldout, seed) if hidden else None


def with_validation(data: "SpikeDataset", seed: int) -> "SpikeDataset":
    """The recording; where it has no validation trials, a fifth of the training trials become these, drawn at random."""
    import numpy as np

    if data.validation is not None:
        return data
    order = np.random.default_rng(seed).permutation(len(data.train.inputs))
    size = len(order) // 5
    print(f"no validation trials in the file: {size} of the {len(order)} training trials are taken for this")
    rest = {part: (part, slice(None)) for part in data.parts if part != "train"}
    chosen = {"train": ("train", np.sort(order[size:])), "validation": ("train", np.sort(order[:size]))}
    return data.with_parts(chosen | rest)


def in_one(data: "SpikeDataset") -> tuple["SpikeTrials", dict[str, "np.ndarray"], "np.ndarray"]:
    """(all trials, part after part; part → places of its trials among these; the number of each trial in the file)."""
    import jax
    import numpy as np

    parts = {part: trials._replace(mask=None) for part, trials in data.parts.items()}
    if any(trials.lengths is not None for trials in parts.values()):
        full = {part: np.full(len(trials.inputs), trials.inputs.shape[1]) for part, trials in parts.items()}
        parts = {p: t if t.lengths is not None else t._replace(lengths=full[p]) for p, t in parts.items()}
    ends = np.cumsum([len(trials.inputs) for trials in parts.values()])
    places = dict(zip(parts, np.split(np.arange(ends[-1]), ends[:-1]), strict=True))
    trials = jax.tree.map(lambda *values: np.concatenate(values), *parts.values())
    return trials, places, np.concatenate([data.trial_indices[part] for part in parts])


def behaviors(
    data: "SpikeDataset", places: Mapping[str, "np.ndarray"], first_bin: int
) -> Iterator[tuple[str, "np.ndarray", dict[str, "np.ndarray"]]]:
    """(name, values of all trials, part → places of the trials with values) of each behaviour that can be decoded.

    Trials with NaN are left out, and so is behaviour that does not vary or has not three axes: this is printed.
    """
    import numpy as np

    for name, trained in data.behavior.get("train", {}).items():
        if trained.ndim != 3 or trained.shape[1] > data.train.targets.shape[1]:
            print(f"{name} is not decoded: expected [trials, time, dims], got shape {trained.shape}")
            continue
        having = {part: indices for part, indices in places.items() if name in data.behavior.get(part, {})}
        bins = slice(data.train.inputs.shape[1])  # behaviour in forward bins, which are not read, is not decoded
        values = np.full((sum(map(len, places.values())), *trained[0, bins].shape), np.nan)
        for part, indices in having.items():
            values[indices] = data.behavior[part][name][:, bins]
        recorded = np.isfinite(values).all(axis=(1, 2))
        chosen = {part: indices[recorded[indices]] for part, indices in having.items()}
        if lost := sum(map(len, having.values())) - sum(map(len, chosen.values())):
            print(f"{name}: {lost} of {len(values)} trials are left out, they hold NaN")
        scored = [values[indices, first_bin:] for indices in chosen.values()]
        if "validation" not in chosen or any(v.size == 0 or (np.ptp(v, axis=(0, 1)) == 0).any() for v in scored):
            print(f"{name} is not decoded: a part without trials of it, or with a dimension that does not vary")
            continue
        yield name, np.where(recorded[:, None, None], values, 0.0), chosen
