"""Trials of spike counts in the form in which models of neural population activity are trained."""

from collections.abc import Sequence
from typing import Any, NamedTuple, no_type_check

import jax
import numpy as np
from jaxtyping import Array, Float, Int, Real

from ctd_models.data.summaries import summary


class SpikeTrials(NamedTuple):
    """A batch of trials. What is read and what is to be reconstructed may differ in neurons, in bins and in values."""

    inputs: Real[Any, "trials time inputs"]
    """What the encoder reads, such as the counts of the held-in neurons."""
    targets: Real[Any, "trials steps neurons"]
    """What is to be reconstructed. Where neurons are held out, the held-in ones come first; where bins are to be
    predicted, they come last."""
    external_inputs: Float[Any, "trials steps features"] | None = None
    """What is known to drive the network, such as stimuli."""
    labels: Int[Any, "trials"] | None = None
    """Class of each trial, from 0."""
    mask: Float[Any, "trials steps neurons"] | None = None
    """Weight of each target in the likelihood; None: 1. An axis may have length 1."""
    lengths: Int[Any, "trials"] | None = None
    """Bins of each trial that are real where trials are padded; None: all."""
    sessions: Int[Any, "trials"] | None = None
    """Number of the session of each trial, from 0, where several are stitched; see `stitch_trials`."""

    @classmethod
    @no_type_check  # it checks its arguments itself
    def from_spikes(
        cls,
        spikes: Real[Any, "trials time neurons"],
        *,
        heldin: Sequence[int] | None = None,
        heldout: Sequence[int] = (),
        num_forward_bins: int = 0,
        external_inputs: Real[Any, "trials time features"] | None = None,
        labels: Int[Any, "trials"] | None = None,
        lengths: Int[Any, "trials"] | None = None,
    ) -> "SpikeTrials":
        """Trials whose inputs are the counts of the neurons `heldin`, without the last bins, and whose targets are all.

        Args:
            spikes: counts.
            heldin: neurons that the encoder reads; None: all that are not held out.
            heldout: neurons that are only to be predicted (co-smoothing).
            num_forward_bins: last bins of the trial that are only to be predicted (forward prediction).
            external_inputs: known inputs in the same bins.
            labels: class of each trial.
            lengths: real bins of padded trials; what the others hold, NaN included, is replaced by 0.

        Raises:
            ValueError: shapes do not fit each other; a neuron is named twice, or both held in and held out, or does not
                exist.
        """
        spikes = np.asarray(spikes)
        if spikes.ndim != 3 or 0 in spikes.shape:
            raise ValueError(f"expected spikes [trials, time, neurons] with no empty axis, got shape {spikes.shape}")
        heldout = [int(neuron) for neuron in heldout]
        heldin = np.setdiff1d(np.arange(spikes.shape[2]), heldout) if heldin is None else heldin
        heldin = [int(neuron) for neuron in heldin]
        check_neurons(heldin, heldout, spikes.shape[2])
        if not 0 <= num_forward_bins < spikes.shape[1]:
            raise ValueError(f"num_forward_bins must lie in 0 … {spikes.shape[1] - 1}, got {num_forward_bins}")
        given = {"external_inputs": external_inputs, "labels": labels, "lengths": lengths}
        given = {name: None if value is None else np.asarray(value) for name, value in given.items()}
        for name, value in given.items():
            expected = spikes.shape[:2] if name == "external_inputs" else spikes.shape[:1]
            if value is not None and (value.shape[: len(expected)] != expected or value.ndim != 2 * len(expected) - 1):
                raise ValueError(
                    f"spikes have {spikes.shape[0]} trials of {spikes.shape[1]} bins, {name} the shape {value.shape}"
                )
        if lengths is not None:
            padding = np.arange(spikes.shape[1]) >= np.asarray(lengths)[:, None]
            spikes = np.where(padding[..., None], np.zeros((), spikes.dtype), spikes)
        inputs = spikes[:, : spikes.shape[1] - num_forward_bins, heldin]
        return cls(inputs, spikes[:, :, heldin + heldout], **given)

    @property
    def groups(self) -> Any:
        """What batches of training are balanced over: the sessions, if there are several."""
        return self.sessions

    @property
    def read(self) -> tuple[Any, ...]:
        """What a model is given: inputs, external inputs, labels, lengths and sessions."""
        return self.inputs, self.external_inputs, self.labels, self.lengths, self.sessions

    def __repr__(self) -> str:
        return summary(self, self._fields)

    def take(self, indices: Any) -> "SpikeTrials":
        """The trials at `indices`, a slice or a mask. A mask of the likelihood that all trials share stays as it is."""
        count = len(self.targets)
        return jax.tree.map(lambda values: values[indices] if len(values) == count else values, self)


def check_neurons(heldin: Sequence[int], heldout: Sequence[int], num_neurons: int) -> None:
    """Raises ValueError unless held-in and held-out neurons exist, are different and are named once."""
    if both := sorted(set(heldin) & set(heldout)):
        raise ValueError(f"neurons {both} are both held in and held out: what is to be predicted must not be read")
    for name, neurons in (("heldin", heldin), ("heldout", heldout)):
        if outside := sorted(n for n in neurons if not 0 <= n < num_neurons):
            raise ValueError(f"{name} names the neurons {outside}, but there are {num_neurons}, counted from 0")
        if twice := sorted({n for n in neurons if neurons.count(n) > 1}):
            raise ValueError(f"{name} names the neurons {twice} twice")
    if not heldin:
        raise ValueError("no neuron is held in: there is nothing to read")


def silent_neurons(spikes: Real[Array | np.ndarray, "trials time neurons"]) -> Int[np.ndarray, "n"]:
    """Indices of the neurons without a spike."""
    return np.flatnonzero(~np.asarray(spikes).any(axis=(0, 1)))
