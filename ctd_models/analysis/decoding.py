"""Linear decoding of behaviour from smoothed spike trains: the baseline for every other decoder."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, no_type_check

import numpy as np
import scipy.ndimage
from jaxtyping import Float, Int, Real

from ctd_models.analysis.metrics import r2_score

WIDTHS = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0)
LAGS = (0, 1, 2, 3, 4)
PENALTIES = (1.0, 10.0, 100.0, 1e3, 1e4)


@no_type_check  # it checks its arguments itself
def smooth_spikes(
    spikes: Real[np.ndarray, "trials time neurons"], width: float
) -> Float[np.ndarray, "trials time neurons"]:
    """Spike trains convolved with a Gaussian of standard deviation `width` [bins], each trial by itself.

    Trials are reflected at their ends. Bin t of the result depends on later bins: it is not causal.

    Raises:
        ValueError: spikes have other axes, or width is not positive.
    """
    spikes = np.asarray(spikes, np.float64)
    if spikes.ndim != 3:
        raise ValueError(f"expected spikes [trials, time, neurons], got shape {spikes.shape}")
    if not width > 0:
        raise ValueError(f"width must be positive [bins], got {width}")
    return scipy.ndimage.gaussian_filter1d(spikes, width, axis=1, mode="reflect")


@dataclasses.dataclass(frozen=True)
class RidgeDecoder:
    """Linear prediction of behaviour at bin t from features at bin t − lag, ŷ_t = ((x_{t−lag} − μ) / σ) W + b."""

    weights: Float[np.ndarray, "features dims"]
    """W."""
    bias: Float[np.ndarray, "dims"]
    """b, the mean of the training targets."""
    mean: Float[np.ndarray, "features"]
    """μ of the training features."""
    std: Float[np.ndarray, "features"]
    """σ of the training features, 1 where they are constant."""
    lag: int
    """Bins by which the features precede the behaviour."""

    def predict(
        self, features: Real[np.ndarray, "trials time features"], first_bin: int | None = None
    ) -> Float[np.ndarray, "trials rest dims"]:
        """Behaviour of the bins from `first_bin` (None: from `lag`, the first that can be predicted) to the last."""
        return (_lagged(features, self.lag, first_bin) - self.mean) / self.std @ self.weights + self.bias


@no_type_check  # it checks its arguments itself
def fit_ridge(
    features: Real[np.ndarray, "trials time features"],
    targets: Real[np.ndarray, "trials time dims"],
    *,
    lag: int = 0,
    penalty: float = 1.0,
    first_bin: int | None = None,
) -> RidgeDecoder:
    """Ridge regression on z-scored features: W minimises ‖Y − b − Z W‖² + penalty · ‖W‖².

    Args:
        features: such as smoothed spikes.
        targets: behaviour in the same bins.
        lag: bins by which features precede the behaviour that they predict.
        penalty: weight of ‖W‖², not negative.
        first_bin: the first bin of behaviour to fit; None: `lag`.

    Raises:
        ValueError: shapes, lag or first_bin do not fit each other, or the penalty is negative.
    """
    return next(_ridge_path(features, targets, lag, (penalty,), first_bin))


@dataclasses.dataclass(frozen=True)
class SmoothedDecoder:
    """`RidgeDecoder` on smoothed spikes, with what was chosen on validation trials."""

    ridge: RidgeDecoder
    """Fitted on training and validation trials."""
    width: float
    """Standard deviation of the smoothing [bins]."""
    penalty: float
    """Penalty of the ridge regression."""
    first_bin: int
    """The first bin of behaviour that is predicted."""
    validation_r2: float
    """R² of the choice, on validation trials, before the final fit."""

    def predict(self, spikes: Real[np.ndarray, "trials time neurons"]) -> Float[np.ndarray, "trials rest dims"]:
        """Behaviour of the bins from `first_bin` to the last."""
        return self.ridge.predict(smooth_spikes(spikes, self.width), self.first_bin)


@no_type_check  # it checks its arguments itself
def fit_smoothed_decoder(
    spikes: Real[np.ndarray, "trials time neurons"],
    targets: Real[np.ndarray, "trials time dims"],
    train: Int[np.ndarray, "n"],
    validation: Int[np.ndarray, "m"],
    *,
    widths: Sequence[float] = WIDTHS,
    lags: Sequence[int] | None = None,
    penalties: Sequence[float] = PENALTIES,
    first_bin: int | None = None,
) -> SmoothedDecoder:
    """The best decoder of behaviour from Gaussian-smoothed spikes.

    Width, lag and penalty are those with the best R² on the validation trials; the final fit is on training and
    validation trials. All lags are compared on the same bins of behaviour.

    Args:
        spikes: counts.
        targets: behaviour in the same bins.
        train: indices of training trials.
        validation: indices of validation trials.
        widths: standard deviations of the Gaussian to try [bins].
        lags: lags to try [bins]; None: 0 … 4, as far as first_bin allows.
        penalties: penalties to try.
        first_bin: the first bin of behaviour to fit and score; None: the largest lag.

    Raises:
        ValueError: shapes, lags or first_bin do not fit each other, or training and validation share trials.
    """
    train, validation = np.asarray(train), np.asarray(validation)
    if shared := np.intersect1d(train, validation).tolist():
        raise ValueError(f"training and validation share the trials {shared}")
    targets = np.asarray(targets, np.float64)
    lags = [lag for lag in LAGS if first_bin is None or lag <= first_bin] if lags is None else lags
    first_bin = max(lags) if first_bin is None else first_bin
    best: tuple[float, Any] = (-np.inf, None)
    for width in widths:
        smoothed = smooth_spikes(spikes, width)
        for lag in lags:
            path = _ridge_path(smoothed[train], targets[train], lag, penalties, first_bin)
            for penalty, ridge in zip(penalties, path, strict=True):
                predictions = ridge.predict(smoothed[validation], first_bin)
                score = r2_score(targets[validation, first_bin:], predictions)
                best = max(best, (score, (width, lag, penalty)), key=lambda scored: scored[0])
    score, (width, lag, penalty) = best
    chosen = np.concatenate([train, validation])
    features = smooth_spikes(np.asarray(spikes)[chosen], width)
    ridge = fit_ridge(features, targets[chosen], lag=lag, penalty=penalty, first_bin=first_bin)
    return SmoothedDecoder(ridge, width, penalty, first_bin, score)


def _ridge_path(
    features, targets, lag: int, penalties: Sequence[float], first_bin: int | None
) -> Iterator[RidgeDecoder]:
    """One decoder for each penalty, from a single eigendecomposition of ZᵀZ."""
    features, targets = np.asarray(features, np.float64), np.asarray(targets, np.float64)
    if targets.ndim != 3 or features.ndim != 3 or targets.shape[:2] != features.shape[:2]:
        raise ValueError(
            "expected features [trials, time, features] and targets [trials, time, dims] of the same trials and time, "
            f"got shapes {features.shape} and {targets.shape}"
        )
    if min(penalties) < 0:
        raise ValueError(f"penalty cannot be negative, got {min(penalties)}")
    x = _lagged(features, lag, first_bin).reshape(-1, features.shape[-1])
    y = targets[:, lag if first_bin is None else first_bin :].reshape(-1, targets.shape[-1])
    mean, std, bias = x.mean(axis=0), x.std(axis=0), y.mean(axis=0)
    std = np.where(std > 0, std, 1.0)
    z = (x - mean) / std
    values, vectors = np.linalg.eigh(z.T @ z)
    projected = vectors.T @ (z.T @ (y - bias))
    smallest = np.finfo(np.float64).eps * len(z) * z.shape[1]  # constant features have no weight, whatever the penalty
    for penalty in penalties:
        scale = np.where(values + penalty > smallest, values + penalty, np.inf)
        yield RidgeDecoder(vectors @ (projected / scale[:, None]), bias, mean, std, lag)


def _lagged(features: Real[np.ndarray, "trials time features"], lag: int, first_bin: int | None) -> np.ndarray:
    """Features of the bins first_bin − lag … time − 1 − lag."""
    time = features.shape[1]
    first_bin = lag if first_bin is None else first_bin
    if not 0 <= lag <= first_bin < time:
        raise ValueError(f"need 0 ≤ lag ≤ first_bin < time, got lag {lag}, first_bin {first_bin}, {time} time bins")
    return features[:, first_bin - lag : time - lag]
