"""Trials of which some targets are unknown: padding marked by NaN, held-out spikes that a file keeps back."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Real

from ctd_models.data.layout_files import Datasets, check_bins
from ctd_models.data.spike_dataset import finite, whole_numbers


class Block(NamedTuple):
    """Targets that a file knows."""

    values: Real[np.ndarray, "trials bins some"]
    """Spikes, NaN where they are unknown."""
    first_bin: int = 0
    """Bin of the targets at which they begin."""
    first_neuron: int = 0
    """Neuron of the targets at which they begin."""


def lay_out(
    blocks: list[Block], shape: tuple[int, int, int], *, counts: bool
) -> tuple[Real[np.ndarray, "trials steps neurons"], Float[np.ndarray, "trials steps neurons"] | None]:
    """The targets, 0 where unknown, and their weights, 1 where known and 0 elsewhere; None: all are known."""
    gaps = [np.isnan(block.values) if block.values.dtype.kind == "f" else None for block in blocks]
    filled = [
        block.values if gap is None or not gap.any() else np.where(gap, block.values.dtype.type(0), block.values)
        for block, gap in zip(blocks, gaps, strict=True)
    ]
    filled = [whole_numbers(values, "targets") if counts else values for values in filled]
    if len(blocks) == 1 and filled[0].shape == shape and filled[0] is blocks[0].values:
        return filled[0], None
    targets = np.zeros(shape, np.result_type(*filled))
    known = np.zeros(shape, bool)
    for block, values, gap in zip(blocks, filled, gaps, strict=True):
        _, bins, neurons = values.shape
        place = np.s_[:, block.first_bin : block.first_bin + bins, block.first_neuron : block.first_neuron + neurons]
        targets[place] = values
        known[place] = True if gap is None else ~gap
    if known.all():
        return targets, None
    if (known == known[:1]).all():
        return targets, np.broadcast_to(known[:1].astype(np.float32), shape)  # takes no memory for each trial
    return targets, known.astype(np.float32)


def close_gaps(
    inputs: Real[np.ndarray, "trials time inputs"], where: str, *, num_forward_bins: int
) -> tuple[Real[np.ndarray, "trials time inputs"], Int[np.ndarray, "trials"] | None]:
    """What is read, with 0 for NaN, and the real bins of each trial; None: all.

    Raises:
        ValueError: NaN lies elsewhere than in all neurons at the end of a trial, leaves fewer than two bins, or is
            followed by bins to be predicted.
    """
    check_bins(inputs.shape, where)
    if inputs.dtype.kind != "f" or not (gaps := np.isnan(inputs)).any():
        return inputs, None
    real = ~gaps.any(axis=2)
    time = inputs.shape[1]
    lengths = np.where(real.all(axis=1), time, real.argmin(axis=1))
    padding = np.arange(time) >= lengths[:, None]
    strange = gaps != padding[:, :, None]
    found = f"{where} of shape {inputs.shape}: NaN in {int((lengths < time).sum())} trials that are read;"
    if strange.any():
        trial = int(np.argmax(strange.any(axis=(1, 2))))
        raise ValueError(
            f"{found} it may only pad the end of a trial, in all neurons, in trial {trial} it begins at bin "
            f"{int(lengths[trial])} and is otherwise: leave this trial out, or cut trials where all "
            "neurons are recorded"
        )
    if num_forward_bins:
        raise ValueError(f"{found} the {num_forward_bins} bins to be predicted would not follow what is read")
    if (lengths < 2).any():
        trial = int(np.argmax(lengths < 2))
        raise ValueError(f"{found} expected trials of 2 bins or more, trial {trial} has {int(lengths[trial])}")
    return np.where(gaps, inputs.dtype.type(0), inputs), lengths.astype(np.int32)


def part_behavior(
    datasets: Datasets,
    marks: Mapping[str, str],
    num_trials: Mapping[str, int],
    asked: Sequence[str] | None,
    taken: tuple[str, ...],
    group: str | None = None,
) -> dict[str, dict[str, np.ndarray]]:
    """Behaviours of each part: the datasets MARK_NAME that were asked for, else all with two or three axes.

    Args:
        datasets: the files.
        marks: part → first word of the names of its datasets.
        num_trials: part → number of trials.
        asked: names; None: all but those taken.
        taken: names that are something else.
        group: the group in which they lie, if not in none; None: any.

    Raises:
        ValueError: a dataset asked for is not there for the training trials, not numeric or has another number of
            trials.
    """
    behavior: dict[str, dict[str, np.ndarray]] = {}
    for part, mark in marks.items():
        entries = {entry.name.rsplit("/", 1)[-1]: entry for entry in reversed(datasets.numeric(group))}
        names = {name[len(mark) + 1 :]: entry for name, entry in entries.items() if name.startswith(f"{mark}_")}
        if asked is not None and part == "train" and (absent := [name for name in asked if name not in names]):
            raise ValueError(
                f"{datasets.where} has no dataset {mark}_{absent[0]} of numbers, its datasets are {datasets.summary()}"
            )
        behavior[part] = {}
        for name, entry in names.items():
            fits = len(entry.shape) in (2, 3) and entry.shape[0] == num_trials[part]
            if name in asked if asked is not None else fits and name not in taken:
                if not fits:
                    raise ValueError(
                        f"{entry.path}: dataset {entry.name!r} has shape {entry.shape}, expected "
                        f"[{num_trials[part]} trials, time, dims]"
                    )
                behavior[part][name] = finite(datasets.read_entry(entry), datasets.label(entry), missing=True)
    return behavior
