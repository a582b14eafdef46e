"""Linear readers of words, with and without the words' context: what a recurrent network is compared with."""

import dataclasses
import warnings
from collections.abc import Mapping
from typing import Any, no_type_check

import numpy as np
import scipy.optimize
import scipy.sparse
from jaxtyping import Float, Int, Real


@no_type_check  # it checks its arguments itself
def word_features(
    tokens: Int[Any, "n T"],
    num_words: int,
    modifiers: Mapping[int, Float[Any, "lags"]] | None = None,
    *,
    running: bool = False,
    padding: int | None = None,
) -> scipy.sparse.csr_array:
    """Counts of words in texts, and for each modifier the counts of the words that it modifies: a sparse matrix.

    A column counts a word w: Σ_t [w_t = w]. For each modifier m, more columns do with the weight of the modifiers before
    it: Σ_t [w_t = w] Σ_l profile_m[l − 1] [w_{t − l} = m], l = 1 … lags. A linear model of these is the bag of words with
    words under a modifier as words of their own, after Maheswaranathan & Sussillo (2020, arXiv:2004.08013); `profile` is
    how a modifier's effect falls with distance, such as `ContextualEffects.factors` − 1 of a trained network.

    Args:
        tokens: numbers of words [n, T].
        num_words: W, the size of the vocabulary.
        modifiers: number of a word → its profile over the lags 1, 2, …; None: plain counts.
        running: count up to each word instead of over the whole text.
        padding: number that is not counted; negative numbers never are.

    Returns:
        [n, W (1 + modifiers)], or [n T, W (1 + modifiers)] of running counts, text after text.

    Raises:
        ValueError: tokens are not [n, T] of whole numbers below num_words, or a modifier is no word, or its profile is empty
            or not finite.
    """
    tokens = np.asarray(tokens)
    if tokens.ndim != 2 or not np.issubdtype(tokens.dtype, np.integer):
        raise ValueError(f"expected numbers of words [texts, time], got {tokens.dtype} of shape {tokens.shape}")
    if tokens.size and tokens.max() >= num_words:
        raise ValueError(f"a word has the number {tokens.max()}, but there are {num_words} words")
    count, length = tokens.shape
    counted = (tokens >= 0) & (tokens != padding) if padding is not None else tokens >= 0
    weights = [np.ones(tokens.shape)]
    for number, profile in (modifiers or {}).items():
        profile = np.asarray(profile, float)
        if not 0 <= number < num_words:
            raise ValueError(f"modifier {number} is no number of a word, 0 … {num_words - 1}")
        if profile.ndim != 1 or not len(profile) or not np.isfinite(profile).all():
            raise ValueError(f"expected a profile [lags] of finite numbers for word {number}, got {profile}")
        weight = np.zeros(tokens.shape)
        for lag, value in enumerate(profile[: length - 1], 1):
            weight[:, lag:] += value * (tokens[:, :-lag] == number)
        weights.append(weight)
    blocks = []
    for weight in weights:
        text, time = np.nonzero(counted & (weight != 0))
        row = text * length + time if running else text
        shape = (count * length if running else count, num_words)
        blocks.append(scipy.sparse.coo_array((weight[text, time], (row, tokens[text, time])), shape=shape))
    features = scipy.sparse.csr_array(scipy.sparse.hstack(blocks))
    if not running:
        return features
    sums = scipy.sparse.kron(scipy.sparse.eye_array(count), np.tril(np.ones((length, length))), format="csr")
    return scipy.sparse.csr_array(sums @ features)


@dataclasses.dataclass(frozen=True)
class LogisticRegression:
    """p(y = 1) = σ(x · weights + bias); made by `fit_logistic`."""

    weights: Float[np.ndarray, "features"]
    """One for each feature."""
    bias: float
    """Log odds where all features are zero."""

    def log_odds(self, features: Any) -> Float[np.ndarray, "n"]:
        """x · weights + bias of features [n, features], an array or sparse."""
        return np.asarray(features @ self.weights) + self.bias


@no_type_check  # it checks its arguments itself
def fit_logistic(features: Any, labels: Real[Any, "n"], *, penalty: float = 1.0) -> LogisticRegression:
    """Logistic regression: minimises Σ log(1 + exp(−(2y − 1)(x · w + b))) + ½ penalty ‖w‖², by L-BFGS.

    Args:
        features: [n, features], an array or sparse.
        labels: 0 or 1.
        penalty: weight of ‖w‖², positive, so that there is a minimum.

    Raises:
        ValueError: shapes that do not fit, labels that are not 0 and 1, one class only, features that are not finite, or a
            penalty that is not positive.
    """
    labels = np.asarray(labels)
    if len(getattr(features, "shape", ())) != 2 or labels.shape != features.shape[:1]:
        raise ValueError(f"expected features [n, features] and labels [n], got {np.shape(features)} and {labels.shape}")
    if not np.array_equal(np.unique(labels), [0, 1]):
        raise ValueError(f"expected labels 0 and 1, both of them, got {np.unique(labels)[:5]}")
    if not 0 < penalty < np.inf:
        raise ValueError(f"penalty must be positive, got {penalty}")
    values = features.data if scipy.sparse.issparse(features) else np.asarray(features)
    if not np.isfinite(values).all():
        raise ValueError("features hold values that are not finite")
    # Columns of one size, and their weights with them: the same minimum, found as easily whatever the units
    largest = np.asarray(
        abs(features).max(axis=0).todense() if scipy.sparse.issparse(features) else abs(values).max(axis=0)
    )
    scale = np.where(largest.ravel() > 0, largest.ravel(), 1.0)
    scaled, penalties, signs = features @ scipy.sparse.diags_array(1 / scale), penalty / scale**2, 2.0 * labels - 1

    def loss(parameters):
        margins = signs * (scaled @ parameters[:-1] + parameters[-1])
        slopes = -signs * 0.5 * (1 - np.tanh(margins / 2))
        value = np.logaddexp(0, -margins).sum() + 0.5 * (penalties * parameters[:-1] ** 2).sum()
        return value, np.append(scaled.T @ slopes + penalties * parameters[:-1], slopes.sum())

    options = {"maxiter": 10_000, "maxfun": 20_000, "ftol": 1e-14, "gtol": 1e-6}
    found = scipy.optimize.minimize(loss, np.zeros(features.shape[1] + 1), jac=True, method="L-BFGS-B", options=options)
    if np.abs(found.jac).max() > 1e-3 * len(labels):
        warnings.warn(f"logistic regression did not reach its minimum: {found.message}", RuntimeWarning, stacklevel=2)
    return LogisticRegression(found.x[:-1] / scale, float(found.x[-1]))
