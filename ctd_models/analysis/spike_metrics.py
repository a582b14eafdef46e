"""How well inferred rates match spikes on average over trials."""

from typing import Any, NamedTuple, no_type_check

import numpy as np
from jaxtyping import Float, Int, Real

from ctd_models.analysis.conditions import condition_means
from ctd_models.analysis.decoding import smooth_spikes
from ctd_models.analysis.metrics import check_finite


class PSTH(NamedTuple):
    """Peri-stimulus time histograms: averages over the trials of each condition."""

    conditions: Int[np.ndarray, "conditions"]
    """Labels, in rising order."""
    mean: Float[np.ndarray, "conditions time neurons"]
    """In the unit of the values."""
    num_trials: Int[np.ndarray, "conditions"]
    """Trials of each condition."""


@no_type_check  # it checks its arguments itself
def psth(
    values: Real[Any, "trials time neurons"], conditions: Int[Any, "trials"], *, width: float | None = None
) -> PSTH:
    """Average over the trials of each condition, of spikes or of inferred rates.

    Args:
        values: counts, rates, factors.
        conditions: label of each trial.
        width: standard deviation [bins] of a Gaussian that smooths over time (`smooth_spikes`); None: no smoothing.

    Raises:
        ValueError: axes or shapes do not fit, a value is not finite, or the width is not positive.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 3 or 0 in values.shape:
        raise ValueError(f"expected values [trials, time, neurons] with no empty axis, got shape {values.shape}")
    check_finite("values", values)
    labels, means = condition_means(values, conditions)
    means = means if width is None else smooth_spikes(means, width)
    return PSTH(labels, means, np.unique(np.asarray(conditions), return_counts=True)[1])


class PSTHMatch(NamedTuple):
    """What `psth_r2` finds, and what it could not use."""

    r2: float
    """Mean over the neurons that are scored."""
    neuron_r2: Float[np.ndarray, "neurons"]
    """Of each neuron; NaN where the average of its spikes is constant, such as that of a silent neuron."""
    conditions: Int[np.ndarray, "conditions"]
    """Labels of the conditions that are compared."""
    left_out: Int[np.ndarray, "conditions"]
    """Labels of those that have too few trials of spikes, or none of rates."""


@no_type_check  # it checks its arguments itself
def psth_r2(
    rates: Real[Any, "trials time neurons"],
    spikes: Real[Any, "others time neurons"],
    conditions: Int[Any, "trials"],
    *,
    spike_conditions: Int[Any, "others"] | None = None,
    width: float | None = 1.0,
    min_trials: int = 2,
    bin_width: float | None = None,
) -> PSTHMatch:
    """How well trial-averaged inferred rates match the trial-averaged spikes: R² of their PSTHs.

        R²_n = 1 − Σ_{c,t} (PSTH_ctn − mean_{trials of c} rate_tn)² / Σ_{c,t} (PSTH_ctn − mean_{c,t} PSTH_n)²

    over conditions c and bins t. As in the Neural Latents Benchmark (Pei et al. 2021, arXiv:2109.04463), the spikes are
    smoothed and the rates are not: the benchmark takes a Gaussian of 30 ms before it bins the spikes, here the binned ones
    are smoothed by `width`. Noise of the average stays in the PSTH, so that R² of the true rates is below 1; more trials,
    such as those of training, raise it: pass them as `spikes` with `spike_conditions`.

    Args:
        rates: inferred, of the evaluated trials: expected counts per bin, or Hz with `bin_width`.
        spikes: counts.
        conditions: label of each trial of the rates.
        spike_conditions: label of each trial of the spikes; None: the trials are those of the rates.
        width: standard deviation of the Gaussian that smooths the spikes [bins]; None: no smoothing.
        min_trials: conditions with fewer trials of spikes are left out.
        bin_width: duration of a bin [s], where the rates are in Hz.

    Raises:
        ValueError: shapes do not fit, a value is not finite, no condition is left, or the spikes of no neuron vary.
    """
    inferred = psth(rates, conditions)
    measured = psth(spikes, conditions if spike_conditions is None else spike_conditions, width=width)
    if inferred.mean.shape[1:] != measured.mean.shape[1:]:
        raise ValueError(
            f"expected rates and spikes of the same bins and neurons, got shapes {np.shape(rates)} and {np.shape(spikes)}"
        )
    if bin_width is not None and not 0 < bin_width < np.inf:
        raise ValueError(f"bin_width must be positive, got {bin_width}")
    usable = measured.conditions[measured.num_trials >= min_trials]
    shared, i, m = np.intersect1d(inferred.conditions, usable, return_indices=True)
    left_out = np.setdiff1d(np.union1d(inferred.conditions, measured.conditions), shared)
    if not len(shared):
        raise ValueError(f"no condition has {min_trials} trials of spikes and one of rates")
    truth = measured.mean[measured.num_trials >= min_trials][m]
    predicted = inferred.mean[i] * (1.0 if bin_width is None else bin_width)
    total = ((truth - truth.mean(axis=(0, 1))) ** 2).sum(axis=(0, 1))
    constant = np.ptp(truth, axis=(0, 1)) <= 1e-12
    if constant.all():
        raise ValueError("the spikes of no neuron vary over conditions and bins")
    neuron_r2 = 1 - ((truth - predicted) ** 2).sum(axis=(0, 1)) / np.where(constant, np.nan, total)
    return PSTHMatch(float(np.nanmean(neuron_r2)), neuron_r2, shared, left_out)
