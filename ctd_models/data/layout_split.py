"""HDF5 files that hold all trials in one array and name the part of each."""

import numpy as np
from jaxtyping import Float, Int

from ctd_models.data.layout_files import Datasets, ReadOptions, check_bins, check_labels
from ctd_models.data.spike_dataset import PARTS, SpikeDataset, finite, reject
from ctd_models.data.spike_trials import SpikeTrials, check_neurons

_PER_SECOND = ("hz", "spikes/s", "spikes/sec", "spikes/second", "1/s")
_NO_BEHAVIOR = ("spikes", "rates", "latents")
_AXES = {1: "trials", 2: "trials {}", 3: "trials time {}"}


def read_recording(datasets: Datasets, options: ReadOptions) -> SpikeDataset:
    """Reads the group `trials` of a recording."""
    return _read(datasets, options, "recording", "trials/")


def read_simulation(datasets: Datasets, options: ReadOptions) -> SpikeDataset:
    """Reads the top level of a simulation."""
    return _read(datasets, options, "simulation", "")


def _read(datasets: Datasets, options: ReadOptions, layout: str, prefix: str) -> SpikeDataset:
    where = datasets.where
    names = {name: prefix + name for name in ("spikes", "split", "condition", "time_s", "rates", "latents")}
    behavior = _behaviors(datasets, options, prefix)
    arrays = datasets.read(_axes(datasets, options, prefix, names, behavior))
    check_bins(arrays[names["spikes"]].shape, f"{where}: dataset {names['spikes']!r}")
    spikes = options.spikes(arrays[names["spikes"]], f"{where}: dataset {names['spikes']!r}")
    indices = _parts(arrays[names["split"]], f"{where}: dataset {names['split']!r}")
    conditions = arrays.get(names["condition"])
    if conditions is not None:
        conditions = _integers(conditions, f"{where}: dataset {names['condition']!r}")
    heldin, heldout = _neurons(arrays, options, spikes.shape[2], where)
    bin_width_s, time_s = _times(
        datasets, options, arrays.get(names["time_s"]), f"{where}: dataset {names['time_s']!r}"
    )
    external = None
    if options.external_inputs is not None:
        name = prefix + options.external_inputs
        external = finite(arrays[name], f"{where}: dataset {name!r}")
    labels = check_labels(conditions, where) if options.labels else None
    parts, known = {}, {"rates": {}, "latents": {}}
    rates, unit = _rates(arrays.get(names["rates"]), datasets, names["rates"], bin_width_s)
    for part, trials in indices.items():
        parts[part] = SpikeTrials.from_spikes(
            spikes[trials],
            heldin=heldin,
            heldout=heldout,
            num_forward_bins=options.num_forward_bins,
            external_inputs=None if external is None else external[trials],
            labels=None if labels is None else labels[trials],
        )
        check_bins(parts[part].inputs.shape, f"{where}: inputs without the {options.num_forward_bins} forward bins")
        for name, table in (("rates", rates), ("latents", arrays.get(names["latents"]))):
            if table is not None:
                rows = _rows(table, conditions, len(spikes), f"{where}: dataset {names[name]!r}")[trials]
                known[name][part] = table[rows][..., heldin + heldout] if name == "rates" else table[rows]
    return SpikeDataset(
        **parts,
        layout=layout,
        num_heldin=len(heldin),
        num_heldout=len(heldout),
        neurons=np.array(heldin + heldout),
        trial_indices=indices,
        bin_width_s=bin_width_s,
        time_s=time_s,
        rates=known["rates"],
        rates_unit=unit,
        latents=known["latents"],
        conditions={} if conditions is None else {part: conditions[trials] for part, trials in indices.items()},
        behavior={
            part: {
                name: finite(arrays[dataset], f"{where}: dataset {dataset!r}", missing=True)[trials]
                for name, dataset in behavior.items()
            }
            for part, trials in indices.items()
        },
        behavior_units={name: datasets.units(dataset) or "a.u." for name, dataset in behavior.items()},
    )


def _behaviors(datasets: Datasets, options: ReadOptions, prefix: str) -> dict[str, str]:
    """Name → dataset: those asked for, else all [trials, time, dims] that fit the spikes."""
    if options.behavior is not None:
        return {name: prefix + name for name in options.behavior}
    expected = datasets.shape(prefix + "spikes")[:2]
    found = [e for e in datasets.inside(prefix) if len(e.shape) == 3 and e.shape[:2] == expected]
    names = {entry.name[len(prefix) :]: entry.name for entry in found}
    return {name: dataset for name, dataset in names.items() if name not in _NO_BEHAVIOR}


def _axes(
    datasets: Datasets, options: ReadOptions, prefix: str, names: dict[str, str], behavior: dict[str, str]
) -> dict[str, str]:
    axes = {names["spikes"]: "trials time neurons", names["split"]: "trials"}
    optional = {
        names["condition"]: "trials",
        names["time_s"]: "time",
        names["rates"]: "rows_of_rates time neurons",
        names["latents"]: "rows_of_latents time latents",
    }
    axes |= {name: expected for name, expected in optional.items() if name in datasets}
    if options.heldin is None and options.heldout is None:
        axes |= {
            f"meta/{n}_channels": f"{n}_channels" for n in ("heldin", "heldout") if f"meta/{n}_channels" in datasets
        }
    for name, dataset in behavior.items():
        num_axes = len(datasets.shape(dataset)) if dataset in datasets else 3
        axes[dataset] = _AXES.get(num_axes, _AXES[3]).format(f"dims_of_{name}")
    if options.external_inputs is not None:
        axes[prefix + options.external_inputs] = "trials time features"
    return axes


def _parts(split: np.ndarray, where: str) -> dict[str, Int[np.ndarray, "_"]]:
    reject(~np.isin(split, range(len(PARTS))), split, where, "0 (train), 1 (validation) or 2 (test)")
    parts = {part: np.flatnonzero(split == number) for number, part in enumerate(PARTS)}
    if not len(parts["train"]):
        raise ValueError(f"{where} has no training trial (value 0)")
    return {part: trials for part, trials in parts.items() if len(trials)}


def _integers(values: np.ndarray, where: str) -> Int[np.ndarray, "..."]:
    if values.dtype.kind == "f":
        reject(~np.isfinite(values) | (values != np.floor(values)), values, where, "whole numbers")
    return values.astype(np.int32)


def _neurons(
    arrays: dict[str, np.ndarray], options: ReadOptions, num_neurons: int, where: str
) -> tuple[list[int], list[int]]:
    chosen: dict[str, list[int] | None] = {}
    for name in ("heldin", "heldout"):
        listed, dataset = getattr(options, name), f"meta/{name}_channels"
        if dataset in arrays:
            listed = _integers(arrays[dataset], f"{where}: dataset {dataset!r}")
        chosen[name] = None if listed is None else [int(neuron) for neuron in listed]
    heldout = chosen["heldout"] or []
    heldin = chosen["heldin"]
    heldin = np.setdiff1d(np.arange(num_neurons), heldout).tolist() if heldin is None else heldin
    try:
        check_neurons(heldin, heldout, num_neurons)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    return heldin, heldout


def _times(
    datasets: Datasets, options: ReadOptions, time_s: np.ndarray | None, where: str
) -> tuple[float | None, Float[np.ndarray, "time"] | None]:
    width = datasets.bin_width_s(options.bin_width_s)
    if time_s is None:
        return width, None
    time_s = finite(time_s, where).astype(np.float64)
    reject(np.concatenate([[False], np.diff(time_s) <= 0]), time_s, where, "increasing times [s]")
    return (float(np.median(np.diff(time_s))) if width is None else width), time_s


def _rates(
    rates: np.ndarray | None, datasets: Datasets, name: str, bin_width_s: float | None
) -> tuple[np.ndarray | None, str | None]:
    """The table of true rates, in spikes/bin where that can be known, and its unit."""
    if rates is None:
        return None, None
    finite(rates, f"{datasets.where}: dataset {name!r}")
    reject(rates < 0, rates, f"{datasets.where}: dataset {name!r}", "rates that are not negative")
    unit = datasets.units(name) or "Hz"
    if unit.lower().replace(" ", "") not in _PER_SECOND or bin_width_s is None:
        return rates, unit
    return rates * np.asarray(bin_width_s, np.result_type(rates, np.float32)), "spikes/bin"


def _rows(
    table: np.ndarray, conditions: Int[np.ndarray, "trials"] | None, num_trials: int, where: str
) -> Int[np.ndarray, "trials"]:
    """The row of each trial in a table per condition, or per trial."""
    if conditions is None or (len(table) == num_trials and conditions.max() + 1 != num_trials):
        if len(table) != num_trials:
            raise ValueError(
                f"{where} of shape {table.shape}: without conditions it must have a row for each of the "
                f"{num_trials} trials"
            )
        return np.arange(num_trials)
    if conditions.min() < 0 or conditions.max() >= len(table):
        trial = int(np.argmax((conditions < 0) | (conditions >= len(table))))
        raise ValueError(
            f"{where} of shape {table.shape}: trial {trial} has condition {conditions[trial]}, expected "
            f"0 … {len(table) - 1}"
        )
    return conditions
