"""Classical models of population activity, as baselines: smoothing, factor analysis and GPFA, all used in the same way.

    fitted = FactorAnalysis(num_factors=10).fit(spikes, bin_width_s)
    fitted.factors(spikes), fitted.rates(spikes)

Factor analysis and GPFA come from scikit-learn and elephant: pip install "ctd_models[baselines]".
"""

import dataclasses
import functools
from typing import Any, no_type_check

import numpy as np
import scipy.stats
from jaxtyping import Bool, Float, Real

from ctd_models.analysis.baseline_libraries import (
    FactorModel,
    fit_factor_analysis,
    fit_gpfa,
    infer_factor_analysis,
    infer_gpfa,
)
from ctd_models.analysis.decoding import smooth_spikes


@dataclasses.dataclass(frozen=True)
class _Fitted:
    """What fitted baselines share: neurons that varied in training, and rates that are bounded from below."""

    mean_counts: Float[np.ndarray, "neurons"]
    """Mean count of each neuron in training [spikes/bin]; the rate of neurons that did not vary there."""
    varies: Bool[np.ndarray, "neurons"]
    """False where the count was constant in training, as it is for silent neurons: the model leaves these out."""
    floor: float
    """Rates are at least this share of `mean_counts`."""
    bin_width_s: float
    """Width of the bins of the training trials [s]."""

    def _read(self, spikes: Any) -> Float[np.ndarray, "trials time varying"]:
        spikes = check_counts(spikes)
        if spikes.shape[2] != len(self.varies):
            raise ValueError(f"fitted to {len(self.varies)} neurons, got spikes of {spikes.shape[2]}: {spikes.shape}")
        return spikes[:, :, self.varies]

    def _bounded(self, rates: Float[np.ndarray, "trials time varying"]) -> Float[np.ndarray, "trials time neurons"]:
        bounded = np.broadcast_to(self.mean_counts, (*rates.shape[:2], len(self.varies))).copy()
        bounded[:, :, self.varies] = np.maximum(rates, self.floor * self.mean_counts[self.varies])
        return bounded


@dataclasses.dataclass(frozen=True)
class SmoothingBaseline:
    """Counts convolved with a Gaussian, of each trial and neuron by themselves."""

    width_s: float
    """Standard deviation of the Gaussian [s]."""
    floor: float = 0.05
    """Rates are at least this share of the neuron's mean rate in training."""

    @no_type_check  # it checks its arguments itself
    def fit(self, spikes: Real[Any, "trials time neurons"], bin_width_s: float) -> "FittedSmoothing":
        """Takes the mean rates from training trials.

        Raises:
            ValueError: spikes are not counts [trials, time, neurons] of which one varies, or a setting is out of range.
        """
        common = _common(check_counts(spikes), bin_width_s, self)
        return FittedSmoothing(**common, width=self.width_s / bin_width_s)


@dataclasses.dataclass(frozen=True)
class FittedSmoothing(_Fitted):
    """Made by `SmoothingBaseline`. Its factors are the smoothed counts of the neurons that varied in training."""

    width: float
    """Standard deviation of the Gaussian [bins]."""

    @no_type_check  # it checks its arguments itself
    def factors(self, spikes: Real[Any, "trials time neurons"]) -> Float[np.ndarray, "trials time factors"]:
        """Smoothed counts [spikes/bin]; trials are reflected at their ends."""
        return smooth_spikes(self._read(spikes), self.width)

    @no_type_check  # it checks its arguments itself
    def rates(self, spikes: Real[Any, "trials time neurons"]) -> Float[np.ndarray, "trials time neurons"]:
        """Smoothed counts, at least `floor` times the mean rate [spikes/bin]."""
        return self._bounded(self.factors(spikes))

    @no_type_check  # it checks its arguments itself
    def log_likelihood(self, spikes: Real[Any, "trials time neurons"]) -> float:
        """Poisson log-likelihood of counts, each under the rate smoothed from the other bins of its trial [nats/bin].

        Raises:
            ValueError: the Gaussian is so narrow that nothing of other bins is left.
        """
        counts = self._read(spikes)
        weights = smooth_spikes(np.eye(counts.shape[1])[None], self.width)[0]
        np.fill_diagonal(weights, 0.0)
        total = weights.sum(axis=1, keepdims=True)
        if not total.all():
            raise ValueError(f"a Gaussian of {self.width:.3g} bins does not reach from one bin to another")
        rates = self._bounded(weights / total @ counts)[:, :, self.varies]
        return float(scipy.stats.poisson.logpmf(counts, rates).sum(axis=-1).mean())


@dataclasses.dataclass(frozen=True)
class FactorAnalysis:
    """Factors that are independent in every bin, x ~ N(0, I), and y = C x + d + noise of independent variances.

    Fitted by maximum likelihood with scikit-learn (Barber 2012, *Bayesian Reasoning and Machine Learning*, algorithm 21.1).
    """

    num_factors: int
    """Dimension of x."""
    sqrt: bool = False
    """y are square roots of counts, whose variance depends less on the rate."""
    width_s: float | None = None
    """Standard deviation of a Gaussian by which y are smoothed first [s]; None: not smoothed."""
    floor: float = 0.05
    """Rates are at least this share of the neuron's mean rate in training."""
    max_iterations: int = 1000
    """Where to stop if it has not converged."""

    @no_type_check  # it checks its arguments itself
    def fit(self, spikes: Real[Any, "trials time neurons"], bin_width_s: float) -> "FittedFactors":
        """Fits to all bins of training trials.

        Raises:
            ValueError: spikes are not counts [trials, time, neurons], too few neurons vary for so many factors, or a
                setting is out of range.
            ImportError: scikit-learn is not installed.
        """
        spikes = check_counts(spikes)
        common = _common(spikes, bin_width_s, self)
        width = None if self.width_s is None else self.width_s / bin_width_s
        y = _observed(spikes[:, :, common["varies"]], self.sqrt, width)
        model = fit_factor_analysis(y, self.num_factors, self.max_iterations)
        return FittedFactors(**common, sqrt=self.sqrt, width=width, model=model)


@dataclasses.dataclass(frozen=True)
class GPFA:
    """Gaussian-process factor analysis (Yu et al. 2009, doi:10.1152/jn.90941.2008): factors that are smooth in time.

    y = C x + d + noise of independent variances, where each factor is a Gaussian process with the covariance
    (1 − ε) exp(−(s − t)² / 2τ²) + ε δ_st, ε = 0.001, and its own τ. Fitted by elephant's expectation maximisation, from
    factor analysis, on segments of the trials; factors are inferred from whole trials, of any length.
    """

    num_factors: int
    """Dimension of x."""
    sqrt: bool = True
    """y are square roots of counts, whose variance depends less on the rate."""
    timescale_s: float = 0.1
    """τ of every factor at the start of the fit [s]."""
    floor: float = 0.05
    """Rates are at least this share of the neuron's mean rate in training."""
    segment_bins: int = 20
    """Training trials are cut into segments of this length [bins]; they overlap where it does not divide the trial."""
    max_iterations: int = 200
    """Where to stop if it has not converged."""
    tolerance: float = 1e-5
    """Converged where the log-likelihood grows by less than this share of its growth since the start."""

    @no_type_check  # it checks its arguments itself
    def fit(self, spikes: Real[Any, "trials time neurons"], bin_width_s: float) -> "FittedFactors":
        """Fits to training trials.

        Raises:
            ValueError: spikes are not counts [trials, time, neurons] of two bins or more, too few neurons vary for so
                many factors, or a setting is out of range.
            ImportError: elephant or scikit-learn is not installed.
        """
        spikes = check_counts(spikes)
        common = _common(spikes, bin_width_s, self)
        if min(spikes.shape[1], self.segment_bins) < 2:
            raise ValueError(
                f"GPFA needs two bins or more, got trials of {spikes.shape[1]} and segments of {self.segment_bins}"
            )
        model = fit_gpfa(
            _observed(spikes[:, :, common["varies"]], self.sqrt),
            self.num_factors,
            self.timescale_s / bin_width_s,
            self.segment_bins,
            self.max_iterations,
            self.tolerance,
        )
        return FittedFactors(**common, sqrt=self.sqrt, width=None, model=model)


@dataclasses.dataclass(frozen=True)
class FittedFactors(_Fitted):
    """Made by `FactorAnalysis` and `GPFA`: y = C x + d + noise, where y are counts or their square roots."""

    sqrt: bool
    """y are square roots of counts."""
    width: float | None
    """Standard deviation of the Gaussian by which y are smoothed [bins]; None: not smoothed."""
    model: FactorModel
    """C, d, noise and timescales for the neurons that varied in training, and how the fit went."""

    @property
    def timescales_s(self) -> Float[np.ndarray, "factors"] | None:
        """τ of each factor of GPFA [s]; None for factor analysis."""
        return None if self.model.timescales is None else self.model.timescales * self.bin_width_s

    @no_type_check  # it checks its arguments itself
    def factors(self, spikes: Real[Any, "trials time neurons"]) -> Float[np.ndarray, "trials time factors"]:
        """Posterior means of x."""
        return self._infer(_observed(self._read(spikes), self.sqrt, self.width))[0]

    @no_type_check  # it checks its arguments itself
    def rates(self, spikes: Real[Any, "trials time neurons"]) -> Float[np.ndarray, "trials time neurons"]:
        """ŷ = C x̂ + d; with square roots, the Poisson rate whose counts have the mean square root ŷ [spikes/bin].

        Where this is less than `floor` times the neuron's mean rate in training, negative values among them, it is set
        to that. Neurons that did not vary in training have their mean rate, which is 0 for silent ones.
        """
        predicted = self.factors(spikes) @ self.model.loadings.T + self.model.offset
        return self._bounded(_rate_of_mean_sqrt(predicted) if self.sqrt else predicted)

    @no_type_check  # it checks its arguments itself
    def log_likelihood(self, spikes: Real[Any, "trials time neurons"]) -> float:
        """Log density of y [nats/bin]. It does not compare among counts, square roots and smoothed ones."""
        y = _observed(self._read(spikes), self.sqrt, self.width)
        return self._infer(y)[1] / (y.shape[0] * y.shape[1])

    def _infer(self, y: Float[np.ndarray, "trials time varying"]) -> tuple[Float[np.ndarray, "trials time k"], float]:
        """Posterior means, and the log density of all y together."""
        return infer_factor_analysis(y, self.model) if self.model.timescales is None else infer_gpfa(y, self.model)


def check_counts(spikes: Any) -> Float[np.ndarray, "trials time neurons"]:
    """Spikes in float64, after a check that they are [trials, time, neurons], finite and not negative."""
    spikes = np.asarray(spikes, np.float64)
    if spikes.ndim != 3 or 0 in spikes.shape:
        raise ValueError(f"expected spikes [trials, time, neurons] with no empty axis, got shape {spikes.shape}")
    wrong = ~(np.isfinite(spikes) & (spikes >= 0))
    if wrong.any():
        index = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(f"expected spikes of non-negative counts, got {spikes[index]} at index {index}")
    return spikes


def _common(spikes: Float[np.ndarray, "trials time neurons"], bin_width_s: float, settings: Any) -> dict[str, Any]:
    """The fields of `_Fitted`, after a check of the settings."""
    given = {"bin_width_s": bin_width_s} | dataclasses.asdict(settings)
    for name in ("bin_width_s", "width_s", "timescale_s", "tolerance", "max_iterations"):
        if given.get(name) is not None and not 0 < given[name] < np.inf:
            raise ValueError(f"{name} must be positive, got {given[name]}")
    if not 0 <= settings.floor < 1:
        raise ValueError(f"floor must lie in [0, 1), got {settings.floor}")
    varies = np.ptp(spikes, axis=(0, 1)) > 0
    if not varies.any():
        raise ValueError(f"none of the {len(varies)} neurons varies")
    if "num_factors" in given:
        count, most = given["num_factors"], int(varies.sum()) - 1
        if isinstance(count, bool) or not isinstance(count, int | np.integer) or not 1 <= count <= most:
            raise ValueError(
                f"num_factors must be an integer in 1 … {most}, fewer than the {most + 1} neurons that vary, got {count}"
            )
    means = spikes.mean(axis=(0, 1))
    return {"mean_counts": means, "varies": varies, "floor": float(settings.floor), "bin_width_s": float(bin_width_s)}


def _observed(counts: Float[np.ndarray, "trials time n"], sqrt: bool, width: float | None = None) -> np.ndarray:
    y = np.sqrt(counts) if sqrt else counts
    return y if width is None else smooth_spikes(y, width)


@functools.cache
def _mean_sqrt_table() -> tuple[np.ndarray, np.ndarray]:
    """(E √n, λ) of n ~ Poisson(λ), for λ up to 36."""
    rates = np.concatenate([[0.0], np.geomspace(1e-5, 36.0, 1000)])
    counts = np.arange(120)
    return scipy.stats.poisson.pmf(counts, rates[:, None]) @ np.sqrt(counts), rates


def _rate_of_mean_sqrt(y: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """λ of the Poisson counts n with E √n = y, 0 where y is negative. Where λ < 1, y² alone is far too small."""
    means, rates = _mean_sqrt_table()
    large = y**2 + 0.25 + 0.09 / np.maximum(y, 1.0) ** 2  # E √n = √λ (1 − 1/8λ − 7/128λ² …), inverted
    return np.where(y < means[-1], np.interp(y, means, rates), large)
