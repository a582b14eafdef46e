"""HDF5 files with the tensors of the Neural Latents Benchmark, as nlb_tools makes them."""

import re

import numpy as np
from jaxtyping import Real

from ctd_models.data.layout_assembly import Block, close_gaps, lay_out, part_behavior
from ctd_models.data.layout_files import Datasets, ReadOptions, check_labels
from ctd_models.data.spike_dataset import SpikeDataset
from ctd_models.data.spike_trials import SpikeTrials

_SPIKES = ("spikes_heldin", "spikes_heldout", "spikes_heldin_forward", "spikes_heldout_forward")
_GROUP = re.compile(r"(?:mc_maze(?:_(?:small|medium|large))?|mc_rtt|area2_bump|dmfc_rsg)(?:_(\d+))?")


def read_nlb(datasets: Datasets, options: ReadOptions) -> SpikeDataset:
    """Reads `train_` and `eval_` tensors from one file or several."""
    found = {
        mark: {name: values for name in _SPIKES if (values := _spikes(datasets, options, f"{mark}_{name}")) is not None}
        for mark in ("train", "eval")
    }
    time, num_heldin, num_heldout, forward = _check_shapes(found, datasets.where)
    evaluation = "validation" if "spikes_heldout" in found["eval"] else "test"
    marks = {"train": "train"} | ({evaluation: "eval"} if found["eval"] else {})
    parts: dict[str, SpikeTrials] = {}
    conditions: dict[str, np.ndarray] = {}
    for part, mark in marks.items():
        blocks = [
            Block(values, time if name.endswith("forward") else 0, num_heldin if "heldout" in name else 0)
            for name, values in found[mark].items()
        ]
        heldin = found[mark]["spikes_heldin"]
        shape = (len(heldin), time + forward, num_heldin + num_heldout)
        where = f"{datasets.where}: dataset '{mark}_spikes_heldin'"
        inputs, lengths = close_gaps(heldin, where, num_forward_bins=forward)
        inputs = options.spikes(inputs, where)
        targets, mask = lay_out(blocks, shape, counts=options.counts)
        if lists := datasets.find(f"*/{mark}_cond_idx", options.group):
            conditions[part] = datasets.labels_from_lists(lists[0], len(heldin))
        labels = check_labels(conditions.get(part), f"{datasets.where}: {part}") if options.labels else None
        parts[part] = SpikeTrials(inputs, targets, None, labels, mask, lengths)
    num_trials = {part: len(trials.inputs) for part, trials in parts.items()}
    behavior = part_behavior(datasets, marks, num_trials, options.behavior, (*_SPIKES, "cond_idx"), options.group)
    return SpikeDataset(
        **parts,
        layout="nlb",
        num_heldin=num_heldin,
        num_heldout=num_heldout,
        neurons=np.arange(num_heldin + num_heldout),
        trial_indices={part: np.arange(trials) for part, trials in num_trials.items()},
        bin_width_s=_bin_width_s(datasets, options),
        conditions=conditions,
        behavior=behavior,
        behavior_units=dict.fromkeys(behavior["train"], "a.u."),
    )


def _spikes(datasets: Datasets, options: ReadOptions, name: str) -> Real[np.ndarray, "trials time neurons"] | None:
    """The tensor of that name, from the first file that has it; None: there is none."""
    entries = datasets.find(f"*/{name}", options.group)
    if not entries:
        return None
    first = [entry for entry in entries if entry.path == entries[0].path]
    if len(first) > 1:
        groups = [entry.name.rpartition("/")[0] for entry in first]
        raise ValueError(f"{first[0].path} has {name} in the groups {groups}: choose one with group=")
    if len(first[0].shape) != 3:
        raise ValueError(f"{datasets.label(first[0])} has shape {first[0].shape}, expected [trials, time, neurons]")
    return options.spikes(datasets.read_entry(first[0]), datasets.label(first[0]), missing=True)


def _check_shapes(found: dict[str, dict[str, np.ndarray]], where: str) -> tuple[int, int, int, int]:
    """Bins read, held-in neurons, held-out neurons and forward bins, after a check that all tensors agree."""
    if "spikes_heldin" not in found["train"]:
        raise ValueError(f"{where} has no dataset train_spikes_heldin in the group asked for")
    if found["eval"] and "spikes_heldin" not in found["eval"]:
        names = [f"eval_{name}" for name in found["eval"]]
        raise ValueError(f"{where} has {names} but not eval_spikes_heldin, which is to be read: give its file too")
    lengths: dict[str, tuple[int, str]] = {}
    for mark, tensors in found.items():
        for name, values in tensors.items():
            axes = (
                f"{mark} trials",
                "forward bins" if name.endswith("forward") else "bins",
                "held-out neurons" if "heldout" in name else "held-in neurons",
            )
            for axis, length in zip(axes, values.shape, strict=True):
                expected, first = lengths.setdefault(axis, (length, f"{mark}_{name}"))
                if length != expected:
                    raise ValueError(
                        f"{where}: dataset '{mark}_{name}' has shape {values.shape}, expected {expected} {axis} as in "
                        f"{first!r}"
                    )
    if "held-out neurons" in lengths and "spikes_heldout" not in found["train"]:
        raise ValueError(
            f"{where}: {lengths['held-out neurons'][1]!r} has held-out neurons, but there is no 'train_spikes_heldout' "
            "to learn them from"
        )
    return tuple(
        lengths.get(axis, (0, ""))[0] for axis in ("bins", "held-in neurons", "held-out neurons", "forward bins")
    )


def _bin_width_s(datasets: Datasets, options: ReadOptions) -> float | None:
    """As given, or from the name of the group of targets: NAME in bins of 5 ms, NAME_20 in bins of 20 ms."""
    groups = {entry.name.rpartition("/")[0] for entry in datasets.find("*/eval_spikes_heldout", options.group)}
    widths = {int(match[1] or 5) / 1000 for group in groups if (match := _GROUP.fullmatch(group))}
    width = datasets.bin_width_s(options.bin_width_s)
    if len(widths) != 1:
        return width
    (told,) = widths
    if width is not None and not np.isclose(width, told, rtol=1e-6):
        raise ValueError(f"{datasets.where}: the group {sorted(groups)} has bins of {told} s, bin_width_s is {width}")
    return told
