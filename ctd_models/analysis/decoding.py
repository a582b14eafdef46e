"""Linear decoding of behaviour, from smoothed spikes or from what a model inferred."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, no_type_check

import numpy as np
import scipy.ndimage
from jaxtyping import Float, Int, Real

from ctd_models.analysis.linear_decoders import (
    FittedDecoder,
    LinearDecoder,
    Samples,
    check_trials,
    checked_settings,
    fit_on_validation,
)

WIDTHS = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0)
PENALTIES = (1.0, 10.0, 100.0, 1e3, 1e4)
SHRINKAGES = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0)


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


@no_type_check  # it checks its arguments itself
def fit_ridge(
    features: Real[np.ndarray, "trials time features"],
    targets: Real[np.ndarray, "trials time dims"],
    *,
    lag: int = 0,
    penalty: float = 1.0,
    first_bin: int | None = None,
) -> LinearDecoder:
    """Ridge regression on z-scored features: W minimises ‖Y − b − Z W‖² + penalty · ‖W‖².

    Args:
        features: such as smoothed spikes.
        targets: behaviour in the same bins.
        lag: bins by which features precede the behaviour that they predict.
        penalty: weight of ‖W‖², not negative.
        first_bin: the first bin of behaviour to fit; None: `lag`.

    Raises:
        ValueError: shapes, lag or first_bin do not fit each other, a value is not finite, or the penalty is negative.
    """
    features, (targets,) = check_trials(features, {"targets": targets})
    penalties = checked_settings("penalty", [penalty])
    return next(_ridge_path(Samples.of(features, lag, first_bin), targets, penalties))


@no_type_check  # it checks its arguments itself
def fit_decoder(
    features: Real[np.ndarray, "trials time features"],
    targets: Real[np.ndarray, "trials time dims"],
    train: Int[np.ndarray, "n"],
    validation: Int[np.ndarray, "m"],
    *,
    lags: Sequence[int] | None = None,
    penalties: Sequence[float] = PENALTIES,
    first_bin: int | None = None,
) -> FittedDecoder:
    """The best ridge regression from any features: factors, rates, states of the generator, smoothed spikes.

    Lag and penalty are those with the best R² (`r2_score`) on the validation trials; the final fit is on training and
    validation trials. All lags are compared on the same bins of behaviour. See `fit_ridge`.

    Args:
        features: of all trials.
        targets: behaviour in the same bins.
        train: indices of training trials.
        validation: indices of validation trials.
        lags: lags to try [bins]; None: 0 … 4, as far as first_bin allows.
        penalties: penalties to try.
        first_bin: the first bin of behaviour to fit and score; None: the largest lag.

    Raises:
        ValueError: shapes, lags or first_bin do not fit each other, a value is not finite, a penalty is negative, or
            training and validation share trials.
    """
    options = {"lags": lags, "penalties": penalties, "first_bin": first_bin}
    return fit_decoders(features, {"targets": targets}, train, validation, **options)["targets"]


@no_type_check  # it checks its arguments itself
def fit_decoders(
    features: Real[np.ndarray, "trials time features"],
    targets: Mapping[str, Real[np.ndarray, "trials time _"]],
    train: Int[np.ndarray, "n"],
    validation: Int[np.ndarray, "m"],
    *,
    lags: Sequence[int] | None = None,
    penalties: Sequence[float] = PENALTIES,
    first_bin: int | None = None,
) -> dict[str, FittedDecoder]:
    """`fit_decoder` for several kinds of behaviour, each with its own lag and penalty.

    They share the eigendecomposition of the features, which takes most of the time.

    Args:
        targets: name → behaviour.
    """
    penalties = checked_settings("penalty", penalties)
    return fit_on_validation(features, targets, train, validation, lags, first_bin, penalties, _ridge_path)


@no_type_check  # it checks its arguments itself
def fit_optimal_linear_estimator(
    features: Real[np.ndarray, "trials time features"],
    targets: Real[np.ndarray, "trials time dims"],
    train: Int[np.ndarray, "n"],
    validation: Int[np.ndarray, "m"],
    *,
    lags: Sequence[int] | None = None,
    shrinkages: Sequence[float] = SHRINKAGES,
    prior: Literal["gaussian", "flat"] = "gaussian",
    first_bin: int | None = None,
) -> FittedDecoder:
    """Optimal linear estimator: the linear decoder that follows from a model of how behaviour is encoded.

        x_{t−lag} = c + A y_t + ε,  ε ~ (0, Σ),  y ~ (m, P)
        gaussian:  ŷ = m + P Aᵀ (A P Aᵀ + Σ)⁻¹ (x − c − A m)
        flat:      ŷ = (Aᵀ Σ⁻¹ A)⁻¹ Aᵀ Σ⁻¹ (x − c)

    A and c come from least squares of the features on the behaviour, m and P are mean and covariance of the behaviour that
    was fitted, and Σ = (1 − s) S + s diag(S) with S the covariance of the residuals. The first has the least mean squared
    error of all linear estimators under the model (Salinas & Abbott 1994, doi:10.1007/BF00962720, with a noise that is
    independent between neurons: s = 1). The second knows nothing of the behaviour (P → ∞) and so is unbiased at each y
    (Chase, Schwartz & Kass 2009, doi:10.1016/j.neunet.2009.05.005); its errors are larger. Decoding of hand velocity by
    an optimal linear estimator at the best lag was used for LFADS (Pandarinath et al. 2018, doi:10.1038/s41592-018-0109-9).

    Ridge regression fits the behaviour given the features, and guards against noise by a penalty that is the same for all
    features. Here the features are fitted given the behaviour, and what guards is the assumption on their noise: with
    s = 0 and the Gaussian prior nothing is assumed, and the estimator is ridge regression without penalty. What the features
    tell of the behaviour in a curved way counts as noise.

    Args:
        features: of all trials.
        targets: behaviour in the same bins.
        train: indices of training trials.
        validation: indices of validation trials.
        lags: lags to try [bins]; None: 0 … 4, as far as first_bin allows.
        shrinkages: s to try, 0 … 1; the best on validation trials is the `penalty` of the result.
        prior: "gaussian" or "flat".
        first_bin: the first bin of behaviour to fit and score; None: the largest lag.

    Raises:
        ValueError: shapes, lags or first_bin do not fit each other, a value is not finite, a shrinkage is not in 0 … 1,
            training and validation share trials, or a flat prior with features that do not tell all dims of the behaviour.
    """
    if prior not in ("gaussian", "flat"):
        raise ValueError(f'prior must be "gaussian" or "flat", got {prior!r}')
    shrinkages = checked_settings("shrinkage", shrinkages, 1.0)

    def path(samples: Samples, targets: Float[np.ndarray, "trials time dims"], shrinkages: tuple[float, ...]):
        return _estimator_path(samples, targets, shrinkages, prior == "flat")

    return fit_on_validation(features, {"targets": targets}, train, validation, lags, first_bin, shrinkages, path)[
        "targets"
    ]


@dataclasses.dataclass(frozen=True)
class SmoothedDecoder:
    """`LinearDecoder` on smoothed spikes, with what was chosen on validation trials."""

    ridge: LinearDecoder
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
    """The best decoder of behaviour from Gaussian-smoothed spikes: `fit_decoder` at the best of `widths` [bins].

    Width, lag and penalty are those with the best R² on the validation trials; the final fit is on training and
    validation trials. The other arguments, and the errors, are those of `fit_decoder`.
    """
    options = {"lags": lags, "penalties": penalties, "first_bin": first_bin}
    fits = [fit_decoder(smooth_spikes(spikes, width), targets, train, validation, **options) for width in widths]
    width, best = max(zip(widths, fits, strict=True), key=lambda pair: pair[1].validation_r2)
    return SmoothedDecoder(best.linear, width, best.penalty, best.first_bin, best.validation_r2)


def _ridge_path(
    samples: Samples, targets: Float[np.ndarray, "trials time dims"], penalties: tuple[float, ...]
) -> Iterator[LinearDecoder]:
    """One decoder for each penalty, from a single eigendecomposition of ZᵀZ."""
    bias, _, product = samples.against(targets)
    projected = samples.vectors.T @ product
    smallest = np.finfo(np.float64).eps * samples.z.size  # constant features have no weight, whatever the penalty
    for penalty in penalties:
        scale = np.where(samples.values + penalty > smallest, samples.values + penalty, np.inf)
        yield samples.decoder(samples.vectors @ (projected / scale[:, None]), bias)


def _estimator_path(
    samples: Samples, targets: Float[np.ndarray, "trials time dims"], shrinkages: tuple[float, ...], flat: bool
) -> Iterator[LinearDecoder]:
    """One optimal linear estimator for each shrinkage of the noise."""
    bias, y, product = samples.against(targets)
    cross = product / len(y)  # A P
    encoding = np.linalg.lstsq(y, samples.z, rcond=None)[0].T  # A
    signal = encoding @ cross.T  # A P Aᵀ
    noise = samples.z.T @ samples.z / len(y) - signal  # S
    for shrinkage in shrinkages:
        shrunk = (1 - shrinkage) * noise + shrinkage * np.diag(np.diag(noise))
        if not flat:
            yield samples.decoder(_pseudo_inverse(signal + shrunk) @ cross, bias)
            continue
        precise = _pseudo_inverse(shrunk) @ encoding  # Σ⁻¹ A
        if (told := np.linalg.matrix_rank(information := encoding.T @ precise, hermitian=True)) < y.shape[1]:
            raise ValueError(
                f"the features tell {told} of the {y.shape[1]} dims of the behaviour, a flat prior needs all: use "
                'prior="gaussian"'
            )
        yield samples.decoder(np.linalg.solve(information, precise.T).T, bias)


def _pseudo_inverse(symmetric: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "n n"]:
    """Of a covariance: 0 in the directions without variance, such as those of silent neurons."""
    return np.linalg.pinv(symmetric, rcond=1e-12, hermitian=True)
