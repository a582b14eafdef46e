"""Averages over the trials of each condition, of spikes and of rates; and what was predicted of held-out neurons."""

from collections.abc import Sequence
from typing import Any, no_type_check

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float, Int, Shaped
from matplotlib.lines import Line2D

from ctd_models.analysis.metrics import check_finite, r2_score
from ctd_models.analysis.spike_metrics import PSTH
from ctd_models.plots.factors import condition_name, condition_palette


@no_type_check  # it checks its arguments itself
def plot_psths(
    psth_true: PSTH | Float[Any, "conditions time neurons"],
    psth_inferred: PSTH | Float[Any, "conditions time neurons"],
    *,
    bin_width_s: float,
    neurons: Sequence[int] | None = None,
    conditions: Shaped[Any, "conditions"] | None = None,
    num_conditions: int = 8,
    circular: bool = False,
    label: str = "condition",
    start_s: float = 0.0,
    figure: Any = None,
) -> Any:
    """Averages over trials of spikes above and of inferred rates below, one column a neuron and one colour a condition.

    Titles give the R² of each neuron over all conditions and bins, as `psth_r2` has it.

    Args:
        psth_true: of spikes (smoothed, perhaps) or of true rates: what `psth` returns, or its mean [spikes/bin].
        psth_inferred: of inferred rates, of the same conditions [spikes/bin].
        bin_width_s: duration of a bin [s].
        neurons: which to show; None: the four whose inferred averages vary the most.
        conditions: label of each condition of the arrays; None: those of a `PSTH`, else 0, 1, …
        num_conditions: how many are drawn at most, evenly chosen.
        circular: colours that close in a circle, for directions.
        label: what the conditions are, with their unit.
        start_s: time of the beginning of the first bin [s].
        figure: figure to draw into, with the layout "constrained".

    Returns:
        The figure.

    Raises:
        ValueError: shapes, labels or neurons do not fit, a value is not finite, or the duration is not positive.
    """
    labels = [values.conditions for values in (psth_true, psth_inferred) if isinstance(values, PSTH)]
    if len(labels) == 2 and not np.array_equal(*labels):
        raise ValueError(f"the averages are of different conditions: {labels[0].tolist()} and {labels[1].tolist()}")
    true, inferred = (
        np.asarray(values.mean if isinstance(values, PSTH) else values, float) for values in (psth_true, psth_inferred)
    )
    if true.ndim != 3 or 0 in true.shape or true.shape != inferred.shape:
        raise ValueError(
            f"expected averages [conditions, time, neurons] of one shape, got shapes {true.shape} and {inferred.shape}"
        )
    check_finite("psth_true", true)
    check_finite("psth_inferred", inferred)
    if conditions is None:
        conditions = labels[0] if labels else np.arange(len(true))
    conditions = np.asarray(conditions)
    if conditions.shape != true.shape[:1]:
        raise ValueError(f"expected a label of each of {len(true)} conditions, got shape {conditions.shape}")
    if not 0 < bin_width_s < np.inf:
        raise ValueError(f"bin_width_s must be positive, got {bin_width_s}")
    if num_conditions < 1:
        raise ValueError(f"num_conditions must be at least 1, got {num_conditions}")
    if neurons is None:
        neurons = np.argsort(-np.ptp(inferred, axis=(0, 1)), kind="stable")[:4]
    neurons = neuron_indices("neurons", neurons, true.shape[2])

    figure = figure or plt.figure(figsize=(2.5 * len(neurons) + 1.8, 4.4), layout="constrained")
    axes = figure.subplots(2, len(neurons), sharex=True, sharey="col", squeeze=False)
    drawn = np.unique(np.linspace(0, len(true) - 1, min(num_conditions, len(true))).astype(int))
    colors = condition_palette(len(true), circular)
    time = start_s + bin_width_s * (np.arange(true.shape[1]) + 0.5)
    for row, (values, name) in enumerate(((true, "spikes"), (inferred, "inferred rates"))):
        for neuron, panel in zip(neurons, axes[row], strict=True):
            for condition in drawn:
                panel.plot(time, values[condition, :, neuron] / bin_width_s, color=colors[condition], lw=1.3)
            panel.set_ylim(bottom=0)
        axes[row, 0].set_ylabel(f"average of\n{name} (Hz)")
    for neuron, panel in zip(neurons, axes[0], strict=True):
        one = (..., slice(neuron, neuron + 1))
        varies = np.ptp(true[..., neuron]) > 1e-12
        score = f", R² = {r2_score(true[one], inferred[one]):.2f}" if varies else ""
        panel.set_title(f"neuron {neuron}{score}", fontsize="medium")
    for panel in axes[1]:
        panel.set_xlabel("time (s)")
    handles = [Line2D([], [], color=colors[c], lw=2, label=condition_name(conditions[c])) for c in drawn]
    figure.legend(handles=handles, title=label, frameon=False, fontsize="small", loc="outside right upper")
    return figure


@no_type_check  # it checks its arguments itself
def plot_cosmoothing(
    bits: Float[Any, "n"],
    mean_rates_hz: Float[Any, "n"],
    *,
    neurons: Int[Any, "n"] | None = None,
    total: float | None = None,
    axes: Any = None,
) -> Any:
    """Bits per spike of each held-out neuron against its mean rate.

    Args:
        bits: of each held-out neuron, `bits_per_spike` of it alone; NaN where it has no spike.
        mean_rates_hz: mean rate of each [Hz].
        neurons: number of each, written beside its dot.
        total: bits per spike of all of them together, drawn as a line.
        axes: axes to draw into.

    Returns:
        The figure.

    Raises:
        ValueError: shapes do not fit, or there is no neuron with a spike.
    """
    bits, rates = np.asarray(bits, float), np.asarray(mean_rates_hz, float)
    for name, values in {"mean_rates_hz": rates, "neurons": bits if neurons is None else np.asarray(neurons)}.items():
        if bits.ndim != 1 or values.shape != bits.shape:
            raise ValueError(
                f"expected bits and {name} [n], one for each neuron, got shapes {bits.shape} and {values.shape}"
            )
    known = np.isfinite(bits) & (rates > 0)
    if not known.any():
        raise ValueError("there is nothing to plot: no neuron with a spike")
    axes = axes or plt.figure(figsize=(5, 3.6), layout="constrained").subplots()
    axes.axhline(0, color="0.7", lw=0.8, zorder=0)
    axes.plot(rates[known], bits[known], "o", ms=5, color="#0072B2", mec="white", mew=0.5)
    if total is not None:
        axes.axhline(total, color="black", lw=1, ls="--", label=f"all held-out neurons: {total:.3f}")
        axes.legend(frameon=False, fontsize="small")
    for neuron, x, y in zip(
        [] if neurons is None else np.asarray(neurons)[known], rates[known], bits[known], strict=False
    ):
        axes.annotate(str(neuron), (x, y), (3, 3), textcoords="offset points", fontsize="x-small", color="0.4")
    if rates[known].max() > 20 * rates[known].min():
        axes.set_xscale("log")
    missing = int((~known).sum())
    axes.set(xlabel="mean rate (Hz)", ylabel="co-smoothing (bits/spike)")
    axes.set_title(
        f"{known.sum()} held-out neurons" + (f", {missing} without spikes not shown" if missing else ""),
        fontsize="medium",
    )
    return axes.figure


def neuron_indices(name: str, indices: Any, num_neurons: int, fewest: int = 1) -> Int[np.ndarray, "n"]:
    """Indices of neurons, checked.

    Raises:
        ValueError: they are not indices of so many neurons, or fewer than `fewest`.
    """
    indices = np.asarray(indices if len(indices) else np.zeros(0, int))
    whole = indices.ndim == 1 and indices.dtype.kind in "iu"
    if not whole or len(indices) < fewest or ((indices < 0) | (indices >= num_neurons)).any():
        least = ", at least one" if fewest else ""
        raise ValueError(f"{name} must be indices of {num_neurons} neurons{least}, got {indices.tolist()}")
    return indices
