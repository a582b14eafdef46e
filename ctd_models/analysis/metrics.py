"""Figures of merit of predictions."""

from collections.abc import Callable
from typing import Any, no_type_check

import numpy as np
import scipy.special
from jaxtyping import Bool, Float, Real


@no_type_check  # it checks its arguments itself
def r2_score(targets: Float[Any, "... dims"], predictions: Float[Any, "... dims"]) -> float:
    """Coefficient of determination, R² = mean over dims of 1 − SS_res / SS_tot.

    SS_res = Σ (y − ŷ)² and SS_tot = Σ (y − ȳ)² run over all samples (every axis but the last); ȳ is the mean of the
    given targets. 1 is perfect, 0 is as good as ȳ, and it can be negative.

    Raises:
        ValueError: the shapes differ or are empty, a value is not finite, or a dimension of the targets is constant.
    """
    targets, predictions = _alike(targets, predictions, "targets", "predictions")
    y, residuals = targets.reshape(-1, targets.shape[-1]), (targets - predictions).reshape(-1, targets.shape[-1])
    total = ((y - y.mean(axis=0)) ** 2).sum(axis=0)
    if not total.all():
        raise ValueError(f"R² needs targets that vary, but dimension {int(np.argmin(total))} is constant")
    return float(np.mean(1 - (residuals**2).sum(axis=0) / total))


@no_type_check  # it checks its arguments itself
def normalized_error(
    targets: Float[Any, "... dims"], predictions: Float[Any, "... dims"], mask: Float[Any, "..."] | None = None
) -> float:
    """Squared error as a share of the variance, Σ (y − ŷ)² / Σ (y − ȳ)²; 0 is perfect, 1 as good as the means.

    Both sums run over all samples and all dims together, so that each dim counts by its variance; ȳ is the mean of each
    dim. It is 1 − R² weighted by variance.

    Args:
        targets, predictions: y and ŷ.
        mask: [...], [..., 1] or [..., dims], weight of each sample, such as the mask of `Trials`; None: all are 1.

    Raises:
        ValueError: the shapes do not fit or are empty, a value is not finite, or nothing that counts varies.
    """
    y, predicted = _alike(targets, predictions, "targets", "predictions")
    weights = np.ones(y.shape) if mask is None else np.asarray(mask, np.float64)
    weights = weights[..., None] if weights.shape == y.shape[:-1] else weights
    if weights.shape not in (y.shape, (*y.shape[:-1], 1)):
        raise ValueError(f"expected a mask of weights {(*y.shape[:-1], 1)} or {y.shape}, got shape {weights.shape}")
    if not (weights >= 0).all() or not np.isfinite(weights).all():
        raise ValueError(f"weights of the mask are finite and not negative, got {weights.min()} … {weights.max()}")
    y, predicted, weights = (
        a.reshape(-1, y.shape[-1]) for a in (y, predicted, np.broadcast_to(weights, y.shape).astype(np.float64))
    )
    means = (weights * y).sum(axis=0) / np.maximum(weights.sum(axis=0), np.finfo(float).tiny)
    total = (weights * (y - means) ** 2).sum()
    if not total > 0:
        raise ValueError("the targets do not vary where the mask counts them")
    return float((weights * (y - predicted) ** 2).sum() / total)


@no_type_check  # it checks its arguments itself
def rate_r2(rates: Float[Any, "trials time neurons"], predictions: Float[Any, "trials time neurons"]) -> float:
    """How well inferred firing rates match the true ones: mean over neurons of 1 − SS_res / SS_tot, without any refit.

    Both sums run over all trials and bins. It is `r2_score` of rates, in any unit that both share.

    Raises:
        ValueError: the shapes differ or are not three axes, a value is negative or not finite, or a neuron's true rate is
            constant.
    """
    rates, predictions = _alike(rates, predictions, "rates", "predictions")
    if rates.ndim != 3:
        raise ValueError(f"expected rates [trials, time, neurons], got shape {rates.shape}")
    for name, values in (("rates", rates), ("predictions", predictions)):
        check_not_negative(name, values)
    return r2_score(rates, predictions)


@no_type_check  # it checks its arguments itself
def latent_r2(
    factors: Float[Any, "trials time factors"],
    latents: Float[Any, "trials time latents"],
    train: Bool[Any, "trials"],
) -> float:
    """How well inferred factors hold the true latents: R² of an affine map from factors to latents on unseen trials.

    The map is fitted by least squares on the bins of the trials where `train` is True, and R² (`r2_score`: mean over
    latents, about the mean of the evaluated ones) is of the other trials. A model's latents are known only up to such a map.

    Raises:
        ValueError: trials or times differ, a value is not finite, no trials to fit or to evaluate, fewer training bins
            than unknowns of the map, or a latent that is constant.
        TypeError: `train` is not of booleans.
    """
    factors, latents, train = _split("factors", factors, "latents", latents, train)
    return r2_score(latents[~train], _affine_map(factors[train], latents[train], "factors")(factors[~train]))


@no_type_check  # it checks its arguments itself
def state_r2(
    factors: Float[Any, "trials time factors"],
    latents: Float[Any, "trials time latents"],
    train: Bool[Any, "trials"],
) -> float:
    """How much of what was inferred is true: R² of an affine map from true latents to inferred factors on unseen trials.

    The other direction than `latent_r2`, which is blind to factors that mean nothing: superfluous dynamics leave the latent
    R² high and make the state R² low. R² = 1 − Σ SS_res / Σ SS_tot with sums over the factors, so that each counts by its
    variance, as in the Computation-through-Dynamics Benchmark (Versteeg et al. 2025, doi:10.1101/2025.02.07.637062). It
    depends on the coordinates of the factors, which latent R² does not.

    Raises:
        ValueError: as `latent_r2`, but only all factors being constant.
        TypeError: `train` is not of booleans.
    """
    factors, latents, train = _split("factors", factors, "latents", latents, train)
    predictions = _affine_map(latents[train], factors[train], "latents")(latents[~train])
    return _weighted_r2(factors[~train], predictions)


@no_type_check  # it checks its arguments itself
def cycle_consistency(
    rates: Float[Any, "trials time neurons"],
    factors: Float[Any, "trials time factors"],
    train: Bool[Any, "trials"] | None = None,
    *,
    variance_threshold: float = 0.01,
) -> float:
    """How well a model's factors are found again from its own log-rates, without knowing the truth.

    As in the Computation-through-Dynamics Benchmark (Versteeg et al. 2025, doi:10.1101/2025.02.07.637062): the read-out
    log r = W f + b is fitted by least squares; the log-rates that it gives on the evaluated trials are taken back to factors
    by the pseudo-inverse of W without its weakest directions, and the R² of this is that of `state_r2`. Kept are the fewest
    directions that hold 1 − `variance_threshold` of the sum of squared singular values of W. Factors that hardly reach the
    rates, and so may do as they like, make it small; so does the choice of their scale.

    Args:
        rates: inferred, positive, in any unit.
        factors: inferred, or the states of the generator.
        train: True on the trials to fit on, the others are evaluated; None: all for both.
        variance_threshold: share of W that is left out; 0: only what does not reach the rates at all.

    Raises:
        ValueError: trials or times differ, a value is not finite, a rate is not positive, no trials to fit or to evaluate,
            fewer bins than unknowns, a threshold out of range, or factors or rates that do not vary.
        TypeError: `train` is not of booleans.
    """
    if not 0 <= variance_threshold < 1:
        raise ValueError(f"variance_threshold must lie in 0 … 1 (without 1), got {variance_threshold}")
    rates, factors, train = _split("rates", rates, "factors", factors, train)
    if (rates <= 0).any():
        index = first_index(rates <= 0)
        raise ValueError(f"rates must be positive to have a logarithm, but hold {rates[index]} at index {index}")
    fit, evaluated = (train, ~train) if not train.all() else (train, train)
    centre = factors[fit].mean(axis=(0, 1))
    readout = _affine_map(factors[fit] - centre, np.log(rates[fit]), "factors")
    weights = readout(np.eye(len(centre))) - readout(np.zeros(len(centre)))
    directions, singular, _ = np.linalg.svd(weights, full_matrices=False)
    if not singular[0] > 1e-12:
        raise ValueError("the log-rates do not depend on the factors")
    kept = np.argmax(np.cumsum(singular**2) >= (1 - variance_threshold - 1e-12) * (singular**2).sum()) + 1
    span = directions[:, :kept]
    values = factors[evaluated] - centre
    return _weighted_r2(values, values @ span @ span.T)  # the pseudo-inverse of W after W is this projection


@no_type_check  # it checks its arguments itself
def squared_correlation(
    targets: Float[Any, "*trials time units"], predictions: Float[Any, "*trials time units"]
) -> Float[np.ndarray, "*trials units"]:
    """Squared Pearson correlation over time, of each trial and unit; average it for one number.

    This is the R² of the LFADS tutorial. It ignores offset, scale and sign of the prediction, so give `r2_score` beside
    it. A prediction that is constant has 0; where the target is constant it is undefined and NaN (see numpy.nanmean).

    Raises:
        ValueError: the shapes differ or are empty, a value is not finite, or there is a single time.
    """
    targets, predictions = _alike(targets, predictions, "targets", "predictions")
    if targets.shape[-2] < 2:
        raise ValueError(f"a correlation over time needs two times or more, got shape {targets.shape}")
    y, p = (values - values.mean(axis=-2, keepdims=True) for values in (targets, predictions))
    constant, flat = np.ptp(targets, axis=-2) == 0, np.ptp(predictions, axis=-2) == 0
    product = (y**2).sum(axis=-2) * (p**2).sum(axis=-2)
    squared = (y * p).sum(axis=-2) ** 2 / np.where(constant | flat, 1.0, product)
    return np.where(constant, np.nan, np.where(flat, 0.0, squared))


@no_type_check  # it checks its arguments itself
def bits_per_spike(
    spikes: Real[Any, "*trials neurons"],
    rates: Float[Any, "*trials neurons"],
    *,
    bin_width: float | None = None,
    mask: Bool[Any, "*trials"] | None = None,
    minimum_rate: float | None = None,
) -> float:
    """Poisson likelihood of spikes under predicted rates, over that of a constant rate [bits per spike].

        [LL(rates) − LL(mean)] / (number of spikes · ln 2),   LL(λ) = Σ (n log λ − λ − log n!)

    The sums run over all trials, bins and neurons, and `mean` is each neuron's mean count over the evaluated bins. For
    neurons that were held out from the model this is the co-smoothing of the Neural Latents Benchmark (Pei et al. 2021,
    arXiv:2109.04463). A silent neuron counts against the model by its predicted rates.

    Args:
        spikes: counts [..., neurons], such as [trials, time, neurons].
        rates: predicted, of the same shape: expected counts per bin, or Hz with `bin_width`.
        bin_width: duration of a bin [s], where the rates are in Hz.
        mask: [...], True where a bin counts, such as those of padded trials that were recorded; the rest may be NaN.
        minimum_rate: smaller rates are raised to it [counts per bin]; the benchmark's code takes 1e-9. None: a rate of 0
            where a spike was counted, which has likelihood 0, is an error.

    Raises:
        ValueError: shapes differ, counts are not whole and non-negative, rates are negative or not finite, a rate is 0
            where a spike was counted, or there is no spike.
    """
    spikes, rates = np.asarray(spikes), np.asarray(rates, np.float64)
    if spikes.shape != rates.shape or spikes.ndim < 2 or 0 in spikes.shape:
        raise ValueError(
            f"expected spikes and rates [..., neurons] of one shape, got shapes {spikes.shape} and {rates.shape}"
        )
    mask = np.ones(spikes.shape[:-1], bool) if mask is None else np.asarray(mask)
    if mask.dtype != bool or mask.shape != spikes.shape[:-1]:
        raise ValueError(f"expected a mask {spikes.shape[:-1]} of booleans, got {mask.dtype} of shape {mask.shape}")
    for name, number in (("bin_width", bin_width), ("minimum_rate", minimum_rate)):
        if number is not None and not 0 < number < np.inf:
            raise ValueError(f"{name} must be positive, got {number}")
    spikes, rates = (np.where(mask[..., None], a, 0.0) for a in (spikes, rates))
    for name, values in (("spikes", spikes), ("rates", rates)):
        check_finite(name, values)
        check_not_negative(name, values)
    if (spikes % 1).any():
        index = first_index(spikes % 1 != 0)
        raise ValueError(f"spikes must be counts, but hold {spikes[index]} at index {index}")
    if not spikes.any():
        raise ValueError("there is no spike to score")
    rates = rates if bin_width is None else rates * bin_width
    if minimum_rate is not None:
        rates = np.maximum(rates, minimum_rate)
    impossible = (rates == 0) & (spikes > 0)
    if impossible.any():
        index = first_index(impossible)
        raise ValueError(
            f"the rate is 0 at index {index}, where {spikes[index]:g} spikes were counted: their likelihood is 0; pass "
            "minimum_rate= to bound the rates from below"
        )
    spikes, rates = spikes[mask], rates[mask]
    mean = spikes.mean(axis=0)
    gain = scipy.special.xlogy(spikes, rates) - rates - scipy.special.xlogy(spikes, mean) + mean  # log n! cancels
    return float(gain.sum() / (spikes.sum() * np.log(2)))


@no_type_check  # it checks its arguments itself
def angle_between(a: Float[Any, "*#n 2"], b: Float[Any, "*#n 2"]) -> Any:
    """Unsigned angle between vectors in the plane [degrees], 0 … 180, of the broadcast shape [*n]."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    cross = a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
    return np.degrees(np.abs(np.arctan2(cross, (a * b).sum(axis=-1))))


def _alike(first: Any, second: Any, *names: str) -> tuple[Float[np.ndarray, "... dims"], Float[np.ndarray, "... dims"]]:
    """Both in float64, after a check that they have one shape, are not empty and are finite."""
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if first.shape != second.shape:
        raise ValueError(f"{names[0]} have shape {first.shape}, {names[1]} {second.shape}")
    if first.ndim < 2 or 0 in first.shape:
        raise ValueError(f"expected {names[0]} [..., samples, dims] with no empty axis, got shape {first.shape}")
    for name, values in zip(names, (first, second), strict=True):
        check_finite(name, values)
    return first, second


def _split(
    first: str, a: Any, second: str, b: Any, train: Any
) -> tuple[Float[np.ndarray, "trials time m"], Float[np.ndarray, "trials time n"], Bool[np.ndarray, "trials"]]:
    """Both in float64 and where to fit, checked; where `train` is None it is everywhere."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.ndim != 3 or b.ndim != 3 or a.shape[:2] != b.shape[:2]:
        raise ValueError(
            f"expected {first} [trials, time, {first}] and {second} [trials, time, {second}] of the same trials and times, "
            f"got shapes {a.shape} and {b.shape}"
        )
    for name, values in ((first, a), (second, b)):
        check_finite(name, values)
    if train is None:
        return a, b, np.ones(len(a), bool)
    train = np.asarray(train)
    if train.dtype != bool:
        raise TypeError(f"train must hold booleans, True on the trials to fit on, got {train.dtype}")
    if train.shape != (len(a),) or train.all() or not train.any():
        raise ValueError(
            f"expected train [{len(a)}] with some True and some False, got shape {train.shape} with {int(train.sum())} True"
        )
    return a, b, train


def _affine_map(x: Float[np.ndarray, "trials time m"], y: Float[np.ndarray, "trials time n"], name: str) -> Callable:
    """x ↦ x W + b, by least squares of y on x."""
    samples = x.reshape(-1, x.shape[-1])
    if len(samples) <= samples.shape[1]:
        raise ValueError(f"{len(samples)} training bins cannot fit a map from {samples.shape[1]} {name}")
    design = np.concatenate([samples, np.ones((len(samples), 1))], axis=1)
    weights = np.linalg.lstsq(design, y.reshape(len(samples), -1), rcond=None)[0]
    return lambda values: values @ weights[:-1] + weights[-1]


def _weighted_r2(
    targets: Float[np.ndarray, "trials time dims"], predictions: Float[np.ndarray, "trials time dims"]
) -> float:
    """R² of all dims together, each by its variance."""
    total = ((targets - targets.mean(axis=(0, 1))) ** 2).sum()
    if total == 0:
        raise ValueError("R² needs factors that vary, but they are constant")
    return float(1 - ((targets - predictions) ** 2).sum() / total)


def check_finite(name: str, values: Float[np.ndarray, "..."]) -> None:
    """Raises ValueError that names the first value that is not finite, and its index."""
    if not np.isfinite(values).all():
        index = first_index(~np.isfinite(values))
        raise ValueError(f"{name} hold {values[index]} at index {index}")


def check_not_negative(name: str, values: Float[np.ndarray, "..."]) -> None:
    """Raises ValueError that names the first negative value, and its index."""
    if (values < 0).any():
        index = first_index(values < 0)
        raise ValueError(f"{name} cannot be negative, but hold {values[index]} at index {index}")


def first_index(where: Bool[np.ndarray, "..."]) -> tuple[int, ...]:
    """Of the True ones."""
    return tuple(int(i) for i in np.argwhere(where)[0])
