"""Choice among baselines and their settings on validation trials."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol, no_type_check, runtime_checkable

import numpy as np
from jaxtyping import Float, Int, Real

from ctd_models.analysis.baselines import SmoothingBaseline, check_counts
from ctd_models.analysis.cosmoothing import select_poisson_glm


@runtime_checkable
class FittedBaseline(Protocol):
    """What every baseline is once it is fitted."""

    def factors(self, spikes: Real[Any, "trials time neurons"]) -> Float[np.ndarray, "trials time factors"]:
        """Latent factors inferred from counts of the neurons that it was fitted to."""

    def rates(self, spikes: Real[Any, "trials time neurons"]) -> Float[np.ndarray, "trials time neurons"]:
        """Rates of the same neurons [spikes/bin], not negative."""

    def log_likelihood(self, spikes: Real[Any, "trials time neurons"]) -> float:
        """How likely new trials are [nats/bin], over the neurons that varied in training."""


@runtime_checkable
class Baseline(Protocol):
    """Settings of a baseline, which `fit` turns into a `FittedBaseline`."""

    def fit(self, spikes: Real[Any, "trials time neurons"], bin_width_s: float) -> FittedBaseline:
        """Fits to counts in bins of `bin_width_s` [s]."""


@dataclasses.dataclass(frozen=True)
class Choice:
    """Made by `choose`."""

    best: Baseline
    """The candidate with the best score."""
    scores: tuple[float, ...]
    """Of each candidate on the validation trials, larger is better."""
    criterion: str
    """ "co-smoothing [bits/spike]" or "log-likelihood [nats/bin]"."""


@no_type_check  # it checks its arguments itself
def choose(
    candidates: Sequence[Baseline],
    spikes: Real[Any, "trials time neurons"],
    bin_width_s: float,
    train: Int[Any, "n"],
    validation: Int[Any, "m"],
    *,
    heldout: Sequence[int] | None = None,
) -> Choice:
    """The baseline that does best on validation trials, among some of different settings or kinds.

    With `heldout`, the score is co-smoothing: candidates are fitted to the other neurons of the training trials, and the
    held-out ones are predicted from the factors by `select_poisson_glm`. Without, it is the `log_likelihood` of validation
    trials. Fit the choice again, on training and validation trials: `choice.best.fit(spikes[...], bin_width_s)`.

    Args:
        candidates: such as `[FactorAnalysis(k) for k in (5, 10, 15)]`.
        spikes: counts.
        bin_width_s: width of a bin [s].
        train: indices of training trials.
        validation: indices of validation trials.
        heldout: neurons that are only predicted.

    Raises:
        ValueError: no candidates; training and validation share trials; held-out neurons that do not exist or leave none;
            likelihoods that do not compare (smoothing, models of counts, of square roots, of smoothed ones).
        RuntimeError: a score is not a number.
    """
    spikes, train, validation = check_counts(spikes), np.asarray(train), np.asarray(validation)
    if not candidates:
        raise ValueError("no candidates to choose from")
    if shared := np.intersect1d(train, validation).tolist():
        raise ValueError(f"training and validation share the trials {shared}")
    if heldout is None:
        kinds = {
            "smoothing" if isinstance(c, SmoothingBaseline) else (getattr(c, "sqrt", None), getattr(c, "width_s", None))
            for c in candidates
        }
        if len(kinds) > 1:
            raise ValueError(
                "log-likelihoods of smoothing, of models of counts, of square roots and of smoothed ones do not compare; "
                "pass heldout= to compare by co-smoothing"
            )
        scores = [c.fit(spikes[train], bin_width_s).log_likelihood(spikes[validation]) for c in candidates]
    else:
        heldout = sorted({int(neuron) for neuron in heldout})
        heldin = np.setdiff1d(np.arange(spikes.shape[2]), heldout)
        if not heldout or not len(heldin) or not 0 <= heldout[0] <= heldout[-1] < spikes.shape[2]:
            raise ValueError(f"heldout must name some of the {spikes.shape[2]} neurons, not all, got {heldout}")
        read, predicted = spikes[:, :, heldin], spikes[:, :, heldout]
        factors = (c.fit(read[train], bin_width_s).factors(read) for c in candidates)
        scores = [select_poisson_glm(x, predicted, train, validation).validation_bits for x in factors]
    if np.isnan(scores).any():
        raise RuntimeError(f"the score of {candidates[int(np.isnan(scores).argmax())]} is not a number")
    criterion = "log-likelihood [nats/bin]" if heldout is None else "co-smoothing [bits/spike]"
    return Choice(candidates[int(np.argmax(scores))], tuple(scores), criterion)
