"""Spiking data in the HDF5 layouts in use, recognised from the datasets found."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import no_type_check

import numpy as np

from ctd_models.data.layout_files import Datasets, ReadOptions
from ctd_models.data.layout_lfads_torch import read_lfads_torch
from ctd_models.data.layout_nlb import read_nlb
from ctd_models.data.layout_split import read_recording, read_simulation
from ctd_models.data.spike_dataset import SpikeDataset, warn_of_silent_neurons


@dataclasses.dataclass(frozen=True)
class Layout:
    """How datasets are named in a kind of file."""

    marks: tuple[str, ...]
    """Datasets by which it is recognised; "*/NAME" may lie in any group."""
    read: Callable[[Datasets, ReadOptions], SpikeDataset]
    """Reads it."""


LAYOUTS = {
    "recording": Layout(("trials/spikes", "trials/split"), read_recording),
    "lfads-torch": Layout(("train_encod_data", "train_recon_data"), read_lfads_torch),
    "nlb": Layout(("*/train_spikes_heldin",), read_nlb),
    "simulation": Layout(("spikes", "split"), read_simulation),
}


@no_type_check  # it checks its arguments itself
def load_spike_trials(
    path: str | os.PathLike | Sequence[str | os.PathLike],
    layout: str | None = None,
    *,
    counts: bool = True,
    heldin: Sequence[int] | None = None,
    heldout: Sequence[int] | None = None,
    num_forward_bins: int = 0,
    external_inputs: str | None = None,
    behavior: Sequence[str] | None = None,
    labels: bool = False,
    bin_width_s: float | None = None,
    group: str | None = None,
) -> SpikeDataset:
    """Reads spiking data, cut into trials, from HDF5 in any of the layouts in use.

    Layouts:

    - "recording": `trials/spikes` [trials, time, neurons] and `trials/split` [trials] (0 train, 1 validation, 2 test);
      where present `trials/condition` [trials], `trials/time_s` [time], behaviours `trials/NAME` [trials, time, dims],
      and `meta/heldin_channels`, `meta/heldout_channels`: columns for co-smoothing, those in neither are left out.
    - "simulation": the same without the group, and where present `rates` [conditions, time, neurons] (attribute
      `units`, else Hz) and `latents` [conditions, time, dims] (without `condition`, or with as many rows as trials:
      per trial).
    - "lfads-torch": `train_encod_data` [trials, time, inputs], `train_recon_data` [trials, steps, neurons] (held-in
      neurons first, bins to be predicted last), the same of `valid_` and, without recon perhaps, `test_`; where present
      `train_ext_input` [trials, steps, features], `train_truth` [trials, steps, neurons] (true rates times
      `conversion_factor`), `train_inds`, `train_cond_idx`, and behaviours `train_NAME` [trials, time, dims].
      https://github.com/arsedler9/lfads-torch
    - "nlb": tensors of the Neural Latents Benchmark, `train_spikes_heldin` [trials, time, neurons] and where present
      `train_spikes_heldout`, `…_heldin_forward`, `…_heldout_forward`, the same of `eval_`, `train_behavior`,
      `train_decode_mask`, `train_cond_idx`, in one file or several, in groups or none. Trials of `eval_` are for
      validation where their held-out spikes are known, else for test. NaN among the spikes marks padding: such targets
      have weight 0; among what is read it may only end a trial, and gives `lengths`.
      https://github.com/neurallatents/nlb_tools, Pei et al. 2021, arXiv:2109.04463

    Targets that a file does not know, such as the held-out spikes of test trials, are 0 and have weight 0 in the `mask`
    of their trials. Integers keep their type, whole numbers in floating point get the smallest unsigned integer type.
    Neurons without a spike in the training trials raise a warning that names them.

    Args:
        path: the HDF5 file; several only in the layout "nlb" (a dataset that is in two is taken from the first).
        layout: one of those above; None: recognised from the datasets found.
        counts: whether spikes must be non-negative whole numbers; False: finite values of any kind.
        heldin: columns of the neurons that are read, in "recording" and "simulation"; None: those that the file names,
            or, with `heldout` given, all others.
        heldout: columns of the neurons that are only to be predicted, likewise; None: those that the file names; ():
            none.
        num_forward_bins: last bins that are only to be predicted, likewise.
        external_inputs: name of the dataset [trials, time, features] of known inputs, likewise.
        behavior: names of the behaviours to read; None: all that are found; (): none.
        labels: whether the conditions also become the `labels` of the trials, for models conditional on class.
        bin_width_s: width of a bin [s], where the file does not tell.
        group: the group of the file that holds the session, where there are several; in the layout "nlb" the group that
            holds the targets.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the layout is unknown; datasets are missing, misshapen or do not fit each other; values are not what
            they should be; trials have one bin; a neuron is both held in and held out. The message names file, dataset,
            what was expected and what was found.
    """
    paths = [path] if isinstance(path, str | os.PathLike) else list(path)
    if not paths:
        raise ValueError("expected the path of a file, got none")
    datasets = Datasets(paths)
    nlb = layout == "nlb" or (layout is None and datasets.find(LAYOUTS["nlb"].marks[0]))
    if group is not None and not nlb:
        datasets, group = Datasets(paths, group), None
    layout = recognise_layout(datasets) if layout is None else layout
    if layout not in LAYOUTS:
        raise ValueError(f"layout must be one of {list(LAYOUTS)} or None, got {layout!r}")
    if missing := [mark for mark in LAYOUTS[layout].marks if not datasets.find(mark)]:
        raise ValueError(f"{datasets.where}: the layout {layout!r} has {missing}, found are {datasets.summary()}")
    if layout != "nlb" and len(paths) > 1:
        raise ValueError(
            f"several files of one session are for the layout 'nlb', {datasets.where} has {layout!r}; `load_sessions` "
            "reads files of several sessions"
        )
    chosen = num_forward_bins or any(choice is not None for choice in (heldin, heldout, external_inputs))
    if chosen and layout not in ("recording", "simulation"):
        raise ValueError(
            f"the layout {layout!r} tells by itself what is held in, held out, predicted forward and known as input: "
            "heldin, heldout, num_forward_bins and external_inputs are for 'recording' and 'simulation'"
        )
    if bin_width_s is not None and not 0 < bin_width_s < np.inf:
        raise ValueError(f"bin_width_s must be positive [s], got {bin_width_s}")
    heldin, heldout = (None if columns is None else [int(n) for n in columns] for columns in (heldin, heldout))
    options = ReadOptions(
        counts, heldin, heldout, num_forward_bins, external_inputs, behavior, labels, bin_width_s, group
    )
    dataset = LAYOUTS[layout].read(datasets, options)
    warn_of_silent_neurons(dataset, datasets.where, stacklevel=2)
    return dataset


def recognise_layout(datasets: Datasets) -> str:
    """The name of the layout.

    Raises:
        ValueError: none fits. The message lists the datasets found and the layouts known.
    """
    for name, layout in LAYOUTS.items():
        if all(datasets.find(mark) for mark in layout.marks):
            return name
    known = "; ".join(f"{name!r} has {', '.join(layout.marks)}" for name, layout in LAYOUTS.items())
    raise ValueError(f"{datasets.where} has none of the layouts known ({known}); its datasets are {datasets.summary()}")
