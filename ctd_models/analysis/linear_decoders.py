"""Linear decoders at a lag: what they are, and the choice of lag and regularisation on validation trials."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Real

from ctd_models.analysis.metrics import check_finite, r2_score

LAGS = (0, 1, 2, 3, 4)


@dataclasses.dataclass(frozen=True)
class LinearDecoder:
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


@dataclasses.dataclass(frozen=True)
class FittedDecoder:
    """A linear decoder whose lag and penalty were chosen on validation trials."""

    linear: LinearDecoder
    """Fitted on training and validation trials."""
    penalty: float
    """What was chosen: the penalty of the ridge regression, or the shrinkage of the optimal linear estimator."""
    first_bin: int
    """The first bin of behaviour that is predicted."""
    validation_r2: float
    """R² of the choice, on validation trials, before the final fit."""

    @property
    def lag(self) -> int:
        """Bins by which the features precede the behaviour."""
        return self.linear.lag

    def predict(self, features: Real[np.ndarray, "trials time features"]) -> Float[np.ndarray, "trials rest dims"]:
        """Behaviour of the bins from `first_bin` to the last."""
        return self.linear.predict(features, self.first_bin)


@dataclasses.dataclass(frozen=True)
class Samples:
    """Z-scored features of the bins that precede the fitted behaviour by `lag`, and the moments that every fit needs."""

    z: Float[np.ndarray, "samples features"]
    mean: Float[np.ndarray, "features"]
    std: Float[np.ndarray, "features"]
    values: Float[np.ndarray, "features"]
    """Eigenvalues of ZᵀZ."""
    vectors: Float[np.ndarray, "features features"]
    lag: int
    first_bin: int

    @classmethod
    def of(cls, features: Float[np.ndarray, "trials time features"], lag: int, first_bin: int | None) -> "Samples":
        x = _lagged(features, lag, first_bin).reshape(-1, features.shape[-1])
        mean, std = x.mean(axis=0), x.std(axis=0)
        std = np.where(std > 0, std, 1.0)
        z = (x - mean) / std
        return cls(z, mean, std, *np.linalg.eigh(z.T @ z), lag, lag if first_bin is None else first_bin)

    def against(self, targets: Float[np.ndarray, "trials time dims"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(their mean b, Y − b, Zᵀ(Y − b)) of the targets in the fitted bins."""
        y = targets[:, self.first_bin :].reshape(-1, targets.shape[-1])
        bias = y.mean(axis=0)
        return bias, y - bias, self.z.T @ (y - bias)

    def decoder(self, weights: Float[np.ndarray, "features dims"], bias: Float[np.ndarray, "dims"]) -> LinearDecoder:
        return LinearDecoder(weights, bias, self.mean, self.std, self.lag)


def fit_on_validation(
    features: Any,
    targets: Mapping[str, Any],
    train: Any,
    validation: Any,
    lags: Any,
    first_bin: int | None,
    settings: tuple[float, ...],
    path: Callable[[Samples, np.ndarray, tuple[float, ...]], Iterator[LinearDecoder]],
) -> dict[str, FittedDecoder]:
    """For each behaviour the lag and the setting of `path` that validation prefers, fitted on all trials given."""
    train, validation = np.asarray(train), np.asarray(validation)
    if shared := np.intersect1d(train, validation).tolist():
        raise ValueError(f"training and validation share the trials {shared}")
    features, arrays = check_trials(features, targets)
    targets = dict(zip(targets, arrays, strict=True))
    lags = (
        [lag for lag in LAGS if first_bin is None or lag <= first_bin] if lags is None else [int(lag) for lag in lags]
    )
    if not lags:
        raise ValueError("there is no lag to try")
    first_bin = max(lags) if first_bin is None else first_bin
    best = dict.fromkeys(targets, (-np.inf, lags[0], settings[0]))
    for lag in lags:
        samples = Samples.of(features[train], lag, first_bin)
        for name, values in targets.items():
            for setting, decoder in zip(settings, path(samples, values[train], settings), strict=True):
                predictions = decoder.predict(features[validation], first_bin)
                score = r2_score(values[validation, first_bin:], predictions)
                best[name] = max(best[name], (score, lag, setting), key=lambda scored: scored[0])
    chosen, fits = np.concatenate([train, validation]), {}
    for lag in {lag for _, lag, _ in best.values()}:
        samples = Samples.of(features[chosen], lag, first_bin)
        for name, (score, _, setting) in ((name, found) for name, found in best.items() if found[1] == lag):
            linear = next(path(samples, targets[name][chosen], (setting,)))
            fits[name] = FittedDecoder(linear, setting, first_bin, score)
    return {name: fits[name] for name in targets}


def check_trials(features: Any, targets: Mapping[str, Any]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Features and targets in float64, finite, of the same trials and time."""
    features = np.asarray(features, np.float64)
    arrays = [np.asarray(values, np.float64) for values in targets.values()]
    for name, values in zip(targets, arrays, strict=True):
        if values.ndim != 3 or features.ndim != 3 or values.shape[:2] != features.shape[:2]:
            raise ValueError(
                f"expected features [trials, time, features] and {name} [trials, time, dims] of the same trials and time, "
                f"got shapes {features.shape} and {values.shape}"
            )
        check_finite(name, values)
    check_finite("features", features)
    return features, arrays


def checked_settings(name: str, values: Any, most: float = np.inf) -> tuple[float, ...]:
    """The values to try, after a check that there are some and that they lie in 0 … `most`."""
    values = tuple(float(value) for value in values)
    if not values:
        raise ValueError(f"there is no {name} to try")
    for value in values:
        if not 0 <= value <= most:
            told = "be negative" if most == np.inf else f"lie outside 0 … {most:g}"
            raise ValueError(f"{name} cannot {told}, got {value}")
    return values


def _lagged(features: Real[np.ndarray, "trials time features"], lag: int, first_bin: int | None) -> np.ndarray:
    """Features of the bins first_bin − lag … time − 1 − lag."""
    time = features.shape[1]
    first_bin = lag if first_bin is None else first_bin
    if not 0 <= lag <= first_bin < time:
        raise ValueError(f"need 0 ≤ lag ≤ first_bin < time, got lag {lag}, first_bin {first_bin}, {time} time bins")
    return features[:, first_bin - lag : time - lag]
