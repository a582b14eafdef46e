"""Cross-correlation of signals of the same trials, such as inferred rates and local field potentials."""

import dataclasses
from typing import Any, no_type_check

import numpy as np
import scipy.fft
from jaxtyping import Bool, Complex, Float, Int, Real

from ctd_models.analysis.metrics import check_finite


@dataclasses.dataclass(frozen=True)
class CrossCorrelation:
    """Trial-averaged cross-correlation at each lag, and where it would lie if the trials were unrelated."""

    lags: Int[np.ndarray, "lags"]
    """Bins by which the reference comes later than the signal: a reference that repeats it d bins later peaks at d."""
    values: Float[np.ndarray, "lags channels fields"]
    """Correlation, averaged over trials; NaN where no trial can be used."""
    num_trials: Int[np.ndarray, "channels fields"]
    """Trials in the average: those in which neither signal nor reference is constant."""
    null_mean: Float[np.ndarray, "lags channels fields"] | None = None
    """Mean over the shuffles: what is locked to the trial alone, such as an evoked response. None without shuffles."""
    null_low: Float[np.ndarray, "lags channels fields"] | None = None
    """Lower end of the band that holds the shuffled values with probability `confidence`, at each lag by itself."""
    null_high: Float[np.ndarray, "lags channels fields"] | None = None
    """Upper end of the band."""
    confidence: float | None = None
    """Probability of the band."""

    @property
    def significant(self) -> Bool[np.ndarray, "lags channels fields"]:
        """Where the correlation leaves the band. Of many lags and pairs, 1 − `confidence` do so by chance."""
        if self.null_low is None:
            raise ValueError("there is no band: it needs shuffles (num_shuffles and rng)")
        return (self.values < self.null_low) | (self.values > self.null_high)


@no_type_check  # it checks its arguments itself
def cross_correlation(
    signals: Real[Any, "trials time channels"],
    reference: Real[Any, "trials time fields"],
    max_lag: int,
    *,
    num_shuffles: int = 0,
    rng: np.random.Generator | None = None,
    confidence: float = 0.95,
    groups: Int[Any, "trials"] | None = None,
) -> CrossCorrelation:
    """Normalised cross-correlation of every signal with every reference, averaged over trials.

        c(k) = mean over trials of 1/(T − |k|) Σ_t s̃_t r̃_{t+k},   s̃ = (s − mean_t s) / sd_t s, the same for r

    with the sum over the T − |k| bins that overlap, so that noise of correlation ρ has c(0) = ρ and longer lags are not
    biased towards 0 (an estimate over few bins may exceed 1 in magnitude). The null distribution pairs the signals with the
    reference of other trials, drawn as permutations: it keeps spectra and what is locked to the trial, and destroys what is
    shared within a trial. So the inferred rates of LFADS were shown to keep the oscillations that they share with local
    field potentials (Pandarinath et al. 2018, doi:10.1038/s41592-018-0109-9).

    Args:
        signals: such as inferred rates, in any unit.
        reference: such as field potentials, in the same bins.
        max_lag: largest lag in either direction [bins], below the number of bins.
        num_shuffles: permutations of the trials for the band; 0: no band.
        rng: where the permutations come from.
        confidence: probability of the band, between 0 and 1.
        groups: label of each trial, such as its condition; trials are exchanged within groups only, which keeps what is
            locked to the condition. Groups of one trial are not exchanged.

    Raises:
        ValueError: shapes do not fit, a value is not finite, max_lag or confidence out of range, shuffles without rng, or
            fewer than two trials to shuffle.
    """
    signals, reference = np.asarray(signals, np.float64), np.asarray(reference, np.float64)
    _check(signals, reference, max_lag, num_shuffles, rng, confidence)
    num_trials, time = signals.shape[:2]
    groups = np.zeros(num_trials, int) if groups is None else np.asarray(groups)
    if groups.shape != (num_trials,):
        raise ValueError(f"expected one group for each of {num_trials} trials, got shape {groups.shape}")
    if num_shuffles and np.unique(groups, return_counts=True)[1].max() < 2:
        raise ValueError("a shuffle needs two trials or more in a group")
    lags = np.arange(-max_lag, max_lag + 1)
    length = scipy.fft.next_fast_len(time + max_lag, real=True)  # zeros keep both ends apart
    (s, s_varies), (r, r_varies) = (_spectra(values, length) for values in (signals, reference))
    s = s.conj().transpose(0, 2, 1)  # [frequencies, channels, trials]

    def average(order: Int[np.ndarray, "trials"]) -> tuple[np.ndarray, np.ndarray]:
        """(correlation [lags, channels, fields], trials in the average) with the trials of the reference in this order."""
        products = scipy.fft.irfft(s @ r[:, order], length, axis=0)[lags]
        counts = s_varies.T.astype(int) @ r_varies[order]
        overlap = (time - np.abs(lags))[:, None, None]
        return products / np.where(counts > 0, overlap * counts, np.nan), counts

    values, counts = average(np.arange(num_trials))
    if not num_shuffles:
        return CrossCorrelation(lags, values, counts)
    members = np.argsort(groups, kind="stable")
    null = np.empty((num_shuffles, *values.shape))
    for i in range(num_shuffles):
        order = np.empty(num_trials, int)
        order[members] = np.lexsort((rng.random(num_trials), groups))
        null[i] = average(order)[0]
    low, high = np.quantile(null, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return CrossCorrelation(lags, values, counts, null.mean(axis=0), low, high, confidence)


def _spectra(
    values: Float[np.ndarray, "trials time n"], length: int
) -> tuple[Complex[np.ndarray, "frequencies _ _"], Bool[np.ndarray, "trials n"]]:
    """Spectra [frequencies, trials, n] of the z-scored values, 0 where they are constant; and where they are not."""
    varies = np.ptp(values, axis=1) > 0
    z = values - values.mean(axis=1, keepdims=True)
    z /= np.where(varies, z.std(axis=1), np.inf)[:, None]
    return scipy.fft.rfft(z, length, axis=1).transpose(1, 0, 2), varies


def _check(
    signals: np.ndarray, reference: np.ndarray, max_lag: int, num_shuffles: int, rng: Any, confidence: float
) -> None:
    if signals.ndim != 3 or reference.ndim != 3 or signals.shape[:2] != reference.shape[:2]:
        raise ValueError(
            "expected signals [trials, time, channels] and reference [trials, time, fields] of the same trials and bins, "
            f"got shapes {signals.shape} and {reference.shape}"
        )
    if 0 in signals.shape + reference.shape:
        raise ValueError(f"no axis may be empty, got shapes {signals.shape} and {reference.shape}")
    check_finite("signals", signals)
    check_finite("reference", reference)
    if not 0 <= max_lag < signals.shape[1]:
        raise ValueError(f"max_lag must lie in 0 … {signals.shape[1] - 1}, got {max_lag}")
    if num_shuffles < 0 or (num_shuffles and rng is None):
        raise ValueError(f"num_shuffles must not be negative and needs an rng, got {num_shuffles} and rng {rng}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")
