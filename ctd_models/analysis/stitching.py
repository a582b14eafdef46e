"""Alignment of recording sessions with different neurons by principal-component regression."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, no_type_check

import numpy as np
from jaxtyping import Float, Int, Real

from ctd_models.analysis.latents.pca import PCA
from ctd_models.analysis.spike_metrics import psth


class SessionWeights(NamedTuple):
    """The linear map between the neurons of one session and components that all sessions share."""

    read_in: Float[np.ndarray, "neurons K"]
    """W: components = offset + (counts − mean) W."""
    read_out: Float[np.ndarray, "K neurons"]
    """The way back, counts ≈ mean + components read_out: the regression of the session's averages on what W makes of
    them. It is the pseudoinverse of W where these vary in all K directions, and stays small where they do not."""
    mean: Float[np.ndarray, "neurons"]
    """Mean count of each neuron [spikes/bin]."""
    offset: Float[np.ndarray, "K"] | float = 0.0
    """What the mean counts are mapped to."""


@no_type_check  # it checks its arguments itself
def principal_component_weights(
    spikes: Sequence[Real[Any, "trials time neurons"]],
    conditions: Sequence[Int[Any, "trials"]] | None,
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
        conditions: of each session's trials; conditions that not all sessions have are left out. None: unknown; then the
            averages are those over all trials, and only what is locked to the event that trials are aligned to is shared:
            at most as many components as there are bins.
        num_components: K.
        width: standard deviation of the Gaussian by which PSTHs are smoothed [bins].
        ridge: penalty on W and on the way back, relative to the mean variance of what is regressed on.

    Raises:
        ValueError: sessions do not fit each other, share fewer than two conditions, or have fewer dimensions than K.
    """
    if isinstance(spikes, Mapping) or isinstance(conditions, Mapping):
        raise TypeError("expected spikes and conditions as lists, one entry for each session: list(sessions.values())")
    spikes = [np.asarray(s, float) for s in spikes]
    if conditions is None:
        conditions = [np.zeros(len(s), int) for s in spikes]
        fewest = 1
    else:
        conditions, fewest = [np.asarray(c) for c in conditions], 2
    if not spikes or len(spikes) != len(conditions):
        raise ValueError(f"expected conditions for each session, got {len(conditions)} for {len(spikes)} sessions")
    for i, (counts, labels) in enumerate(zip(spikes, conditions, strict=True)):
        _check(counts, labels, None if i == 0 else spikes[0].shape[1], f"session {i}")
    if ridge < 0:
        raise ValueError(f"ridge cannot be negative, got {ridge}")
    if isinstance(num_components, bool) or not isinstance(num_components, int | np.integer):
        raise TypeError(f"num_components must be a whole number, got {num_components!r}")
    shared = sorted(set.intersection(*(set(labels.tolist()) for labels in conditions)) - {-1})
    if len(shared) < fewest:
        listed = "; ".join(f"session {i} has {np.unique(labels)[:12]}" for i, labels in enumerate(conditions))
        raise ValueError(
            f"the sessions share the conditions {shared}: two or more are needed to align them ({listed}); conditions=None "
            "aligns by the average over all trials"
        )
    averages = [_averages(c, labels, shared, width) for c, labels in zip(spikes, conditions, strict=True)]
    together = np.concatenate(averages, axis=1)
    if not 1 <= num_components <= min(together.shape):
        raise ValueError(f"num_components must lie in 1 … {min(together.shape)}, got {num_components}")
    components = PCA.fit(together, num_components).transform(together)
    components /= components.std()  # a common scale, so that networks can read them
    return [_regressed(own, components, c.mean((0, 1)), ridge) for own, c in zip(averages, spikes, strict=True)]


@no_type_check  # it checks its arguments itself
def regression_weights(
    spikes: Real[Any, "trials time neurons"],
    conditions: Int[Any, "trials"] | None,
    components: Real[Any, "others time K"],
    component_conditions: Int[Any, "others"] | None,
    *,
    width: float = 1.0,
    ridge: float = 1e-3,
) -> SessionWeights:
    """Weights of one more session that map it to the components of sessions that were aligned before.

    Its smoothed averages over the trials of each condition are regressed on those of the components.

    Args:
        spikes: counts of the session.
        conditions: of its trials; None, like `component_conditions`: unknown, averages are over all trials.
        components: of trials of the other sessions, such as what their trained read-ins make of them.
        component_conditions: of these trials.
        width: standard deviation of the Gaussian by which averages are smoothed [bins].
        ridge: as for `principal_component_weights`.

    Raises:
        ValueError: shapes do not fit each other, or fewer than two conditions are shared.
    """
    spikes, components = np.asarray(spikes, float), np.asarray(components, float)
    fewest = 1 if conditions is None and component_conditions is None else 2
    if fewest == 1:
        conditions, component_conditions = np.zeros(len(spikes), int), np.zeros(len(components), int)
    conditions, component_conditions = np.asarray(conditions), np.asarray(component_conditions)
    _check(spikes, conditions, None, "spikes")
    _check(components, component_conditions, spikes.shape[1], "components")
    shared = sorted(set(conditions.tolist()) & set(component_conditions.tolist()) - {-1})
    if len(shared) < fewest:
        raise ValueError(f"the session shares the conditions {shared} with the others: two or more are needed")
    own, target = (
        _psths(values, labels, shared, width)
        for values, labels in ((spikes, conditions), (components, component_conditions))
    )
    mean, offset = own.mean(axis=0), target.mean(axis=0)
    return _regressed(own - mean, target - offset, mean, ridge)._replace(offset=offset)


def _check(values: Any, labels: Any, num_bins: int | None, what: str) -> None:
    if values.ndim != 3 or labels.shape != values.shape[:1] or num_bins not in (None, values.shape[1]):
        bins = "time" if num_bins is None else f"{num_bins} bins"
        raise ValueError(
            f"{what}: expected [trials, {bins}, dims] and one condition a trial, got {values.shape} and {labels.shape}"
        )


def _averages(
    spikes: Any, conditions: Any, shared: Sequence[int], width: float
) -> Float[np.ndarray, "samples neurons"]:
    """PSTHs of the shared conditions, one after the other, without their mean."""
    flat = _psths(spikes, conditions, shared, width)
    return flat - flat.mean(axis=0)


def _psths(spikes: Any, conditions: Any, shared: Sequence[int], width: float) -> Float[np.ndarray, "samples neurons"]:
    """PSTHs of the shared conditions, one after the other."""
    known = np.isin(conditions, shared)
    return psth(spikes[known], conditions[known], width=width)[1].reshape(-1, spikes.shape[2])


def _regressed(own: Any, components: Any, mean: Any, ridge: float) -> SessionWeights:
    read_in = _ridge(own, components, ridge)
    return SessionWeights(read_in, _ridge(own @ read_in, own, ridge), mean)


def _ridge(x: Any, y: Any, ridge: float) -> Float[np.ndarray, "p q"]:
    """Ridge regression of y on x; the penalty is relative to the mean variance of x."""
    moments = x.T @ x
    if not moments.any():
        raise ValueError("a session's averages do not vary: has it no spikes?")
    penalty = ridge * np.trace(moments) / len(moments) * np.eye(len(moments))
    return np.linalg.solve(moments + penalty, x.T @ y)
