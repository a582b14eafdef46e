"""Factor analysis by scikit-learn and GPFA by elephant, on arrays."""

import contextlib
import io
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

_EXTRA = 'pip install "ctd_models[baselines]"'
_NOISE_OF_FACTORS = 1e-3  # ε of the covariance of factors
_LEAST_NOISE = 0.01  # share of a neuron's variance (Martin & McDonald 1975, Psychometrika 40, 505)


class FactorModel(NamedTuple):
    """y = C x + d + noise, as it was fitted."""

    loadings: Float[np.ndarray, "neurons factors"]
    """C."""
    offset: Float[np.ndarray, "neurons"]
    """d."""
    noise: Float[np.ndarray, "neurons"]
    """Variances of the noise."""
    log_likelihoods: Float[np.ndarray, "iterations"]
    """Of all training data [nats]; NaN where it was not computed."""
    converged: bool
    """False where the iterations ran out first."""
    timescales: Float[np.ndarray, "factors"] | None = None
    """τ of each factor of GPFA [bins]."""


def fit_factor_analysis(
    y: Float[np.ndarray, "trials time neurons"], num_factors: int, max_iterations: int
) -> FactorModel:
    """Maximum-likelihood factor analysis of all bins, by scikit-learn with full singular value decompositions.

    Factor analysis knows the data by their mean and covariance alone, so 2 · neurons samples with the same covariance stand
    for all bins; there is no randomness in it.

    Raises:
        ImportError: scikit-learn is not installed.
    """
    try:
        from sklearn.decomposition import FactorAnalysis
    except ImportError as error:
        raise ImportError(f"factor analysis needs scikit-learn: {_EXTRA}") from error
    samples = y.reshape(-1, y.shape[2])
    offset = samples.mean(axis=0)
    centred = samples - offset
    values, vectors = np.linalg.eigh(centred.T @ centred / len(samples))
    root = np.sqrt(np.maximum(values, 0.0) * len(values))[:, None] * vectors.T
    stand_in = np.concatenate([root, -root])
    share = len(stand_in) / len(samples)  # the library's tolerance is of the log-likelihood of all samples
    model = FactorAnalysis(
        num_factors,
        tol=0.01 * share,
        max_iter=max_iterations,
        svd_method="lapack",
        noise_variance_init=samples.var(axis=0),
    ).fit(stand_in)
    log_likelihoods = np.array(model.loglike_, np.float64) / share
    converged = model.n_iter_ < max_iterations
    return FactorModel(model.components_.T, offset, model.noise_variance_, log_likelihoods, converged)


def infer_factor_analysis(
    y: Float[np.ndarray, "trials time neurons"], model: FactorModel
) -> tuple[Float[np.ndarray, "trials time factors"], float]:
    """Posterior means (I + Cᵀ R⁻¹ C)⁻¹ Cᵀ R⁻¹ (y − d) of the factors, and the log density of all bins together."""
    deviations = y - model.offset
    scaled = model.loadings / model.noise[:, None]
    precision = np.eye(model.loadings.shape[1]) + model.loadings.T @ scaled
    projected = deviations @ scaled
    means = np.linalg.solve(precision, projected.reshape(-1, len(precision)).T).T.reshape(projected.shape)
    # log determinant and inverse of C Cᵀ + R through the small matrix, which stays regular where noise is almost 0
    log_determinant = np.log(2 * np.pi * model.noise).sum() + np.linalg.slogdet(precision)[1]
    distances = (deviations**2 / model.noise).sum() - (projected * means).sum()
    return means, float(-0.5 * (y.shape[0] * y.shape[1] * log_determinant + distances))


def fit_gpfa(
    y: Float[np.ndarray, "trials time neurons"],
    num_factors: int,
    timescale: float,
    segment_bins: int,
    max_iterations: int,
    tolerance: float,
) -> FactorModel:
    """GPFA of segments of the trials, by elephant's expectation maximisation from factor analysis of the same segments.

    elephant's own `fit` would cut the trials at random places, and its `GPFA` would want spike times.

    Args:
        y: counts, or their square roots.
        num_factors: dimension of x.
        timescale: τ of every factor at the start [bins].
        segment_bins: length of a segment, or longer than the trials.
        max_iterations: of expectation maximisation.
        tolerance: share of the growth of the log-likelihood that ends it.

    Raises:
        ImportError: elephant or scikit-learn is not installed.
    """
    core = _gpfa_core()
    y = _segments(y, segment_bins)
    start = fit_factor_analysis(y, num_factors, 1000)
    noise = np.maximum(start.noise, _LEAST_NOISE * y.var(axis=(0, 1)))
    parameters = _parameters(start._replace(noise=noise, timescales=np.full(num_factors, timescale)))
    with contextlib.redirect_stdout(io.StringIO()):  # elephant prints when it has converged
        parameters, _, values, _ = core.em(
            parameters, _sequences(y), max_iters=max_iterations, tol=tolerance, min_var_frac=_LEAST_NOISE
        )
    return FactorModel(
        parameters["C"],
        parameters["d"],
        np.diag(parameters["R"]).copy(),
        np.array(values, np.float64),
        len(values) < max_iterations,
        1.0 / np.sqrt(parameters["gamma"]),
    )


def infer_gpfa(
    y: Float[np.ndarray, "trials time neurons"], model: FactorModel
) -> tuple[Float[np.ndarray, "trials time factors"], float]:
    """Posterior means of the factors of whole trials, and the log density of all trials together.

    Raises:
        ImportError: elephant is not installed.
    """
    inferred, log_likelihood = _gpfa_core().exact_inference_with_ll(_sequences(y), _parameters(model))
    return np.stack(inferred["latent_variable"]).swapaxes(1, 2), float(log_likelihood)


def _gpfa_core() -> Any:
    try:
        from elephant.gpfa import gpfa_core
    except ImportError as error:
        raise ImportError(f"GPFA needs elephant and scikit-learn: {_EXTRA}") from error
    return gpfa_core


def _segments(y: Float[np.ndarray, "trials time neurons"], length: int) -> Float[np.ndarray, "segments bins neurons"]:
    """Segments of one length at even distances that cover each trial; whole trials where these are shorter."""
    length = min(length, y.shape[1])
    starts = np.round(np.linspace(0, y.shape[1] - length, -(-y.shape[1] // length))).astype(int)
    return y[:, starts[:, None] + np.arange(length)].reshape(-1, length, y.shape[2])


def _sequences(y: Float[np.ndarray, "trials time neurons"]) -> np.ndarray:
    """Trials in elephant's form: fields T and y [neurons, time]."""
    sequences = np.empty(len(y), dtype=[("T", int), ("y", object)])
    sequences["T"] = y.shape[1]
    sequences["y"][:] = list(y.swapaxes(1, 2))
    return sequences


def _parameters(model: FactorModel) -> dict[str, Any]:
    """A model in elephant's form."""
    return {
        "covType": "rbf",
        "gamma": 1.0 / model.timescales**2,
        "eps": np.full(len(model.timescales), _NOISE_OF_FACTORS),
        "C": model.loadings,
        "d": model.offset,
        "R": np.diag(model.noise),
        "notes": {"learnKernelParams": True, "learnGPNoise": False, "RforceDiagonal": True},
    }
