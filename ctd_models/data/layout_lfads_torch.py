"""HDF5 files as lfads-torch reads them."""

import numpy as np

from ctd_models.data.layout_assembly import Block, lay_out, part_behavior
from ctd_models.data.layout_files import Datasets, ReadOptions, check_bins, check_labels
from ctd_models.data.spike_dataset import SpikeDataset, finite, reject
from ctd_models.data.spike_trials import SpikeTrials

_MARKS = {"train": "train", "validation": "valid", "test": "test"}
_TAKEN = ("encod_data", "recon_data", "ext_input", "truth", "inds", "cond_idx", "latents")


def read_lfads_torch(datasets: Datasets, options: ReadOptions) -> SpikeDataset:
    """Reads `train_`, `valid_` and `test_` arrays."""
    marks = {part: mark for part, mark in _MARKS.items() if f"{mark}_encod_data" in datasets}
    arrays = datasets.read(_axes(datasets, marks))
    where = {name: f"{datasets.where}: dataset {name!r}" for name in arrays}
    steps, neurons = arrays["train_recon_data"].shape[1:]
    scale, unit = _conversion(datasets, arrays)
    parts: dict[str, SpikeTrials] = {}
    known: dict[str, dict[str, np.ndarray]] = {"rates": {}, "latents": {}, "conditions": {}, "indices": {}}
    for part, mark in marks.items():
        inputs = options.spikes(arrays[f"{mark}_encod_data"], where[f"{mark}_encod_data"])
        _check_order(inputs.shape[1:], (steps, neurons), where[f"{mark}_encod_data"])
        check_bins(inputs.shape, where[f"{mark}_encod_data"])
        blocks = [Block(inputs)]
        if (name := f"{mark}_recon_data") in arrays:
            recon = options.spikes(arrays[name], where[name])
            if options.counts:
                different = recon[:, : inputs.shape[1], : inputs.shape[2]] != inputs
                reject(different, inputs, where[f"{mark}_encod_data"], f"the same counts first in {name!r}")
            blocks = [Block(recon)]
        shape = (len(inputs), steps, neurons)
        targets, mask = lay_out(blocks, shape, counts=options.counts)
        external = arrays.get(f"{mark}_ext_input")
        if external is not None:
            finite(external, where[f"{mark}_ext_input"])
        if conditions := datasets.find(f"{mark}_cond_idx"):
            known["conditions"][part] = datasets.labels_from_lists(conditions[0], len(inputs))
        labels = check_labels(known["conditions"].get(part), f"{datasets.where}: {part}") if options.labels else None
        parts[part] = SpikeTrials(inputs, targets, external, labels, mask)
        known["indices"][part] = arrays.get(f"{mark}_inds", np.arange(len(inputs))).astype(np.int64)
        if (name := f"{mark}_truth") in arrays:
            known["rates"][part] = finite(arrays[name], where[name]) / scale
        if (name := f"{mark}_latents") in arrays:
            known["latents"][part] = finite(arrays[name], where[name])
    num_heldin = parts["train"].inputs.shape[2]
    num_trials = {part: len(trials.inputs) for part, trials in parts.items()}
    behavior = part_behavior(datasets, marks, num_trials, options.behavior, _TAKEN)
    return SpikeDataset(
        **parts,
        layout="lfads-torch",
        num_heldin=num_heldin,
        num_heldout=neurons - num_heldin,
        neurons=np.arange(neurons),
        trial_indices=known["indices"],
        bin_width_s=datasets.bin_width_s(options.bin_width_s),
        rates=known["rates"],
        rates_unit=unit,
        latents=known["latents"],
        conditions=known["conditions"],
        behavior=behavior,
        behavior_units={name: datasets.units(f"train_{name}") or "a.u." for name in behavior["train"]},
    )


def _axes(datasets: Datasets, marks: dict[str, str]) -> dict[str, str]:
    axes = {"train_recon_data": "train_trials steps neurons", "train_encod_data": "train_trials time inputs"}
    for mark in marks.values():
        trials = f"{mark}_trials"
        optional = {
            f"{mark}_encod_data": f"{trials} time inputs",
            f"{mark}_recon_data": f"{trials} steps neurons",
            f"{mark}_ext_input": f"{trials} steps features",
            f"{mark}_truth": f"{trials} steps neurons",
            f"{mark}_latents": f"{trials} steps latents",
            f"{mark}_inds": trials,
        }
        axes |= {name: expected for name, expected in optional.items() if name in datasets}
    if "conversion_factor" in datasets:
        axes["conversion_factor"] = " ".join("1" * len(datasets.shape("conversion_factor")))
    return axes


def _check_order(inputs: tuple[int, int], targets: tuple[int, int], where: str) -> None:
    for axis, read, predicted in zip(("bins", "neurons"), inputs, targets, strict=True):
        if read > predicted:
            raise ValueError(
                f"{where}: {read} {axis} are read but {predicted} are in 'train_recon_data', expected as many or more, "
                "those that are read first"
            )


def _conversion(datasets: Datasets, arrays: dict[str, np.ndarray]) -> tuple[float, str | None]:
    """What divides the truth, and the unit of the quotient."""
    truths = [name for name in arrays if name.endswith("_truth")]
    if not truths:
        return 1.0, None
    if "conversion_factor" not in arrays:
        return 1.0, datasets.units(truths[0]) or "unknown"
    factor = arrays["conversion_factor"].reshape(-1)
    where = f"{datasets.where}: dataset 'conversion_factor'"
    reject(~(factor > 0) | np.isinf(factor), factor, where, "a positive number")
    return float(factor[0]), "spikes/bin"
