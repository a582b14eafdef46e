"""Alignment of recording sessions with different neurons by principal-component regression."""

from collections.abc import Sequence
from typing import Any, NamedTuple, no_type_check

import numpy as np
from jaxtyping import Float, Int, Real

from ctd_models.analysis.latents.pca import PCA
from ctd_models.analysis.spike_metrics import psth


class SessionWeights(NamedTuple):
    """The linear map between the neurons of one session and components that all sessions share."""

    read_in: Float[np.ndarray, "neurons K"]
    """W: components = (counts − mean) W."""
    read_out: Float[np.ndarray, "K neurons"]
    """The pseudoinverse of W: counts ≈ mean + components read_out."""
    mean: Float[np.ndarray, "neurons"]
    """Mean count of each neuron [spikes/bin]."""


@no_type_check  # it checks its arguments itself
def principal_component_weights(
    spikes: Sequence[Real[Any, "trials time neurons"]],
    conditions: Sequence[Int[Any, "trials"]],
    num_components: int,
    *,
    width: float = 1.0,
    ridge: float = 1e-3,
) -> list[SessionWeights]:
    """Weights of each session that map it to principal components of all sessions' condition averages.

    Smoothed averages over the trials of each condition (PSTHs) of all sessions are put side by side as if their neurons
    had been recorded together; their principal components are what the sessions share; each session's own PSTHs are
    regressed on them. Pandarinath et al. (2018, doi:10.1038/s41592-018-0109-9), online methods.

    Args:
        spikes: counts of each session; numbers of trials and of neurons may differ, bins may not.
        conditions: of each session's trials; conditions that not all sessions have are left out.
        num_components: K.
        width: standard deviation of the Gaussian by which PSTHs are smoothed [bins].
        ridge: penalty on W, relative to the mean variance of the PSTHs.

    Raises:
        ValueError: sessions do not fit each other, share fewer than two conditions, or have fewer dimensions than K.
    """
    spikes, conditions = [np.asarray(s, float) for s in spikes], [np.asarray(c) for c in conditions]
    if not spikes or len(spikes) != len(conditions):
        raise ValueError(f"expected conditions for each session, got {len(conditions)} for {len(spikes)} sessions")
    for i, (counts, labels) in enumerate(zip(spikes, conditions, strict=True)):
        if counts.ndim != 3 or labels.shape != counts.shape[:1] or counts.shape[1] != spikes[0].shape[1]:
            raise ValueError(
                f"session {i}: expected spikes [trials, {spikes[0].shape[1]} bins, neurons] and one condition a trial, got "
                f"{counts.shape} and {labels.shape}"
            )
    shared = sorted(set.intersection(*(set(labels.tolist()) for labels in conditions)) - {-1})
    if len(shared) < 2:
        raise ValueError(f"the sessions share the conditions {shared}: two or more are needed to align them")
    averages = [_averages(c, labels, shared, width) for c, labels in zip(spikes, conditions, strict=True)]
    together = np.concatenate(averages, axis=1)
    if not 1 <= num_components <= min(together.shape):
        raise ValueError(f"num_components must lie in 1 … {min(together.shape)}, got {num_components}")
    components = PCA.fit(together, num_components).transform(together)
    components /= components.std()  # a common scale, so that networks can read them
    return [_regressed(own, components, c.mean((0, 1)), ridge) for own, c in zip(averages, spikes, strict=True)]


def _averages(
    spikes: Any, conditions: Any, shared: Sequence[int], width: float
) -> Float[np.ndarray, "samples neurons"]:
    """PSTHs of the shared conditions, one after the other, without their mean."""
    known = np.isin(conditions, shared)
    means = psth(spikes[known], conditions[known], width=width)[1]
    flat = means.reshape(-1, spikes.shape[2])
    return flat - flat.mean(axis=0)


def _regressed(own: Any, components: Any, mean: Any, ridge: float) -> SessionWeights:
    neurons = own.shape[1]
    penalty = ridge * np.trace(own.T @ own) / neurons * np.eye(neurons)
    weights = np.linalg.solve(own.T @ own + penalty, own.T @ components)
    return SessionWeights(weights, np.linalg.pinv(weights), mean)
