"""Random changes of a batch of trials while a model trains on it, alike in what is read and what is reconstructed.

Each is a frozen dataclass with `augmentation(key, trials) -> trials`, pure, and compiles inside the training step. Inputs
are taken as the first neurons and bins of the targets, the layout of `SpikeTrials`; bins beyond `lengths` never count.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal, no_type_check

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, Real

from ctd_models.data.spike_trials import SpikeTrials

Augmentation = Callable[[PRNGKeyArray, SpikeTrials], SpikeTrials]


def augment(augmentations: Sequence[Augmentation], key: PRNGKeyArray, trials: SpikeTrials) -> SpikeTrials:
    """Applies augmentations one after the other, each with a key of its own."""
    for i, augmentation in enumerate(augmentations):
        trials = augmentation(jax.random.fold_in(key, i), trials)
    return trials


@dataclasses.dataclass(frozen=True)
class CoordinatedDropout:
    """A random share of the inputs is hidden, and only what is hidden is to be reconstructed.

    A network that can copy a spike from input to rate learns nothing else. So inputs are set to 0 with probability r, the
    others are divided by 1 − r, and the likelihood counts only the hidden ones and a random share p of the others,
    weighted by 1 / (r + (1 − r) p): its expectation is that of the full likelihood. Held-out neurons and forward bins
    count as before. With r = 0 nothing is done.

    Bin t of the mask belongs to bin t of the inputs, whichever bins the initial condition is read from.

    References:
        Keshtkaran & Pandarinath 2019, arXiv:1908.07896; Keshtkaran et al. 2022, doi:10.1038/s41592-022-01675-0.
    """

    rate: float
    """Probability r that an input is hidden, 0 ≤ r < 1."""
    pass_rate: float = 0.0
    """Probability p that an input that is not hidden counts in the likelihood all the same."""
    first_bin: int = 0
    """Inputs before this bin stay as they are and do not count, for models that read the initial condition from them."""

    def __post_init__(self):
        if not 0 <= self.rate < 1:
            raise ValueError(f"rate must lie in 0 ≤ rate < 1, got {self.rate}")
        if not 0 <= self.pass_rate <= 1:
            raise ValueError(f"pass_rate must lie in 0 ≤ pass_rate ≤ 1, got {self.pass_rate}")
        _check_whole("first_bin", self.first_bin, 0)

    def __call__(self, key: PRNGKeyArray, trials: SpikeTrials) -> SpikeTrials:
        """Trials with a part of the inputs hidden and the mask multiplied by the weights."""
        check_layout(trials)
        if self.rate == 0:
            return trials
        share = self.rate + (1 - self.rate) * self.pass_rate
        draw = jax.random.uniform(key, trials.inputs.shape).at[:, : self.first_bin].set(1.0)
        inputs = _hide(trials.inputs, draw < self.rate, self.rate)
        return trials._replace(
            inputs=inputs.at[:, : self.first_bin].set(trials.inputs[:, : self.first_bin]),
            mask=_weighted(trials, _pad_to_targets(jnp.where(draw < share, 1 / share, 0.0), trials, 1.0)),
        )


@dataclasses.dataclass(frozen=True)
class SelectiveBackprop:
    """Only a random share of the targets counts, weighted by its inverse: the expected likelihood is the full one.

    The method was made for data that are not sampled everywhere, where what is missing is known and not drawn: for these,
    see `mask_missing`.

    References:
        Zhu, Sedler, Grier, Ahmed, Davidson & Pandarinath 2021, arXiv:2111.00070.
    """

    keep_rate: float
    """Probability that a target counts, 0 < keep_rate ≤ 1."""
    per: Literal["sample", "bin", "neuron"] = "sample"
    """What is drawn in each trial: single samples, bins with all their neurons, or neurons with all their bins."""

    def __post_init__(self):
        if not 0 < self.keep_rate <= 1:
            raise ValueError(f"keep_rate must lie in 0 < keep_rate ≤ 1, got {self.keep_rate}")
        if self.per not in ("sample", "bin", "neuron"):
            raise ValueError(f"per must be 'sample', 'bin' or 'neuron', got {self.per!r}")

    def __call__(self, key: PRNGKeyArray, trials: SpikeTrials) -> SpikeTrials:
        """Trials with the mask multiplied by 0 or 1 / keep_rate."""
        check_layout(trials)
        batch, steps, neurons = trials.targets.shape
        shape = {"sample": (batch, steps, neurons), "bin": (batch, steps, 1), "neuron": (batch, 1, neurons)}[self.per]
        return trials._replace(
            mask=_weighted(trials, jax.random.bernoulli(key, self.keep_rate, shape) / self.keep_rate)
        )


@dataclasses.dataclass(frozen=True)
class TemporalShift:
    """Each trial is moved by a random whole number of bins, uniform in −max_shift … max_shift.

    Inputs, targets, mask and external inputs move together. At the edges, inputs and targets are 0 and the mask is 0: a
    reflected edge would show the encoder copies of samples that coordinated dropout hides from it. External inputs, which
    are known, repeat their first or last bin. What leaves a trial, or would enter its padding, is lost to this batch.
    Bins that are only to be predicted are never read: where they move into the inputs' bins, the inputs are 0.
    """

    max_shift: int
    """Largest shift [bins], below the number of bins."""
    per_neuron: bool = False
    """Whether each neuron of a trial has its own shift, which forgets the neurons' relative timing, as in AutoLFADS.
    External inputs then stay where they are."""

    def __post_init__(self):
        _check_whole("max_shift", self.max_shift, 0)

    def __call__(self, key: PRNGKeyArray, trials: SpikeTrials) -> SpikeTrials:
        """Trials moved in time."""
        check_layout(trials)
        batch, steps, neurons = trials.targets.shape
        if self.max_shift >= steps:
            raise ValueError(f"trials have {steps} bins: max_shift must be smaller, got {self.max_shift}")
        shape = (batch, 1, neurons if self.per_neuron else 1)
        shifts = jax.random.randint(key, shape, -self.max_shift, self.max_shift + 1)
        mask = _weighted(trials, jnp.ones((batch, steps, shape[2])))
        external = trials.external_inputs
        if external is not None and not self.per_neuron:
            external = _shift(external, shifts, trials.lengths, edge=None)
        return trials._replace(
            inputs=_shift(trials.inputs, shifts[..., : trials.inputs.shape[2]], trials.lengths),
            targets=_shift(trials.targets, shifts, trials.lengths),
            mask=_shift(mask, shifts, trials.lengths),
            external_inputs=external,
        )


@dataclasses.dataclass(frozen=True)
class SpikeJitter:
    """Every single spike is moved by a random whole number of bins, uniform in −width … width.

    Moves that leave the trial are reflected at its ends (bin −1 is bin 0), which keeps a constant rate constant. Counts
    are conserved in each trial and neuron. Spikes of bins that are read stay among these, spikes of bins that are only to
    be predicted among those; no spike enters or leaves padding or a sample whose mask is 0. So jitter comes before
    coordinated dropout. Each spike takes its share of the inputs' value in its bin along (all of 1, half of 2, …), so
    that inputs which equal the targets, or a multiple of them, still do.
    """

    width: int
    """Largest move [bins]."""
    max_count: int = 4
    """Spikes of a bin that are moved, a bound for the compiled program; those above it stay (`share_at_rest`)."""

    def __post_init__(self):
        _check_whole("width", self.width, 0)
        _check_whole("max_count", self.max_count, 1)
        if self.width > 1000:
            raise ValueError(f"width must be at most 1000 bins, got {self.width}")

    def share_at_rest(self, targets: Real[Any, "trials steps neurons"]) -> Float[Array, ""]:
        """Share of the spikes that stay since their bin holds more than `max_count`: raise that if this is not small."""
        return jnp.maximum(jnp.asarray(targets) - self.max_count, 0).sum() / jnp.asarray(targets).sum()

    def __call__(self, key: PRNGKeyArray, trials: SpikeTrials) -> SpikeTrials:
        """Trials with moved spikes. The inputs become floats."""
        check_layout(trials)
        targets, inputs = jnp.asarray(trials.targets), jnp.asarray(trials.inputs)
        offsets = self._offsets(key, trials)
        counts = targets.astype(jnp.result_type(targets, jnp.float32))
        _, time, read = inputs.shape
        read_counts = counts[:, :time, :read]
        per_count = inputs / jnp.where(read_counts > 0, read_counts, 1)
        counted = jnp.broadcast_to(True if trials.mask is None else jnp.asarray(trials.mask) > 0, targets.shape)

        def move(carry, offset):
            left, arrived, read_arrived = carry
            # one term for each spike of a bin: a sum over an axis is several times slower on CPUs
            moved = sum(jnp.where(of == offset, jnp.clip(counts - j, 0, 1), 0) for j, of in enumerate(offsets))
            moved = moved * (counted & jnp.roll(counted, -offset, axis=1))
            read_moved = moved[:, :time, :read] * per_count
            arrived, read_arrived = arrived + jnp.roll(moved, offset, 1), read_arrived + jnp.roll(read_moved, offset, 1)
            return (left - moved, arrived, read_arrived), None

        start = (counts, jnp.zeros_like(counts), jnp.zeros_like(per_count))
        steps = jnp.asarray([d for d in range(-self.width, self.width + 1) if d], jnp.int32)
        (left, arrived, read_arrived), _ = jax.lax.scan(move, start, steps)
        read_left = jnp.where(read_counts > 0, left[:, :time, :read] * per_count, inputs)
        return trials._replace(inputs=read_left + read_arrived, targets=(left + arrived).astype(targets.dtype))

    def _offsets(self, key: PRNGKeyArray, trials: SpikeTrials) -> list[Int[Array, "trials steps neurons"]]:
        """How far the first, second, … spike of each bin goes in the end, after reflection."""
        shape, span = trials.targets.shape, 2 * self.width + 1
        bits = jax.random.bits(key, ((self.max_count + 1) // 2, *shape), jnp.uint32)
        # two draws of 16 bits from each word; multiplied, not divided: probabilities are right to 2⁻¹⁶
        halves = [half for word in bits for half in (word & 0xFFFF, word >> 16)][: self.max_count]
        bins, time = jnp.arange(shape[1])[:, None], trials.inputs.shape[1]
        ends = bins_of_trials(shape[1], trials.lengths).sum(axis=1, keepdims=True)
        first = jnp.where(bins < time, 0, time)
        room = jnp.maximum(jnp.where(bins < time, jnp.minimum(ends, time), ends) - first, 1).astype(jnp.float32)

        def reflected(half):
            place = (bins - first + ((half * span) >> 16).astype(jnp.int32) - self.width).astype(jnp.float32)
            place -= 2 * room * jnp.floor(place / (2 * room))  # exact, and faster than the remainder of integers
            place = first + jnp.where(place < room, place, 2 * room - 1 - place).astype(jnp.int32)
            return jnp.where(bins < ends, place - bins, 0)

        return [reflected(half) for half in halves]


def hold_out_samples(trials: SpikeTrials, rate: float, key: PRNGKeyArray) -> SpikeTrials:
    """Trials in which a random share of the inputs is neither read nor reconstructed, for validation on these samples.

    Once for a dataset, before training. The removed inputs are 0, the others are divided by 1 − rate; where they are
    removed, the mask is 0, so that no augmentation makes them targets or moves spikes from or to them. Neurons held out
    and forward bins stay. The validation likelihood is the one of the same inputs with another mask:

        training = hold_out_samples(trials, 0.2, key)
        validation = training._replace(mask=held_out_mask(trials, 0.2, key))

    Args:
        trials: the dataset.
        rate: probability that a sample is removed, 0 < rate < 1.
        key: a key; the same one gives the same samples.

    References:
        Keshtkaran & Pandarinath 2019, arXiv:1908.07896 (sample validation).
    """
    removed = _draw_removed(trials, rate, key)
    mask = _weighted(trials, 1.0 - _pad_to_targets(removed, trials, False))
    return trials._replace(inputs=_hide(trials.inputs, removed, rate), mask=mask)


def held_out_mask(trials: SpikeTrials, rate: float, key: PRNGKeyArray) -> Float[Array, "trials steps neurons"]:
    """The mask of the samples that `hold_out_samples` removes from the same trials with the same rate and key.

    Its weights are those of the mask of `trials` (None: 1) on the removed samples, and 0 elsewhere.
    """
    return _weighted(trials, 1.0 * _pad_to_targets(_draw_removed(trials, rate, key), trials, False))


@no_type_check  # it checks its arguments itself
def mask_missing(trials: SpikeTrials) -> SpikeTrials:
    """Trials whose missing values, NaN, are 0 in the inputs and external inputs, and 0 with mask 0 in the targets.

    For data that are not sampled everywhere at all times, such as calcium imaging at the resolution of its lines: the
    gradient then comes from what was sampled, through all of time. Once for a dataset.

    References:
        Zhu et al. 2021, arXiv:2111.00070 (selective backpropagation through time).
    """
    check_layout(trials)
    missing = jnp.isnan(trials.targets)
    external = trials.external_inputs
    return trials._replace(
        inputs=jnp.where(jnp.isnan(trials.inputs), 0, trials.inputs),
        targets=jnp.where(missing, 0, trials.targets),
        mask=_weighted(trials, 1.0 - missing),
        external_inputs=None if external is None else jnp.where(jnp.isnan(external), 0, external),
    )


def check_layout(trials: SpikeTrials) -> None:
    """Raises ValueError unless the inputs can be the first neurons and bins of the targets, and the mask fits."""
    inputs, targets = jnp.shape(trials.inputs), jnp.shape(trials.targets)
    fits = len(inputs) == len(targets) == 3 and inputs[0] == targets[0]
    if not fits or inputs[1] > targets[1] or inputs[2] > targets[2]:
        raise ValueError(
            "expected inputs [trials, time, neurons] that are the first neurons and bins of the targets, got inputs of "
            f"shape {inputs} and targets of shape {targets}"
        )
    mask = targets if trials.mask is None else jnp.shape(trials.mask)
    if len(mask) != 3 or any(found not in (1, expected) for found, expected in zip(mask, targets, strict=True)):
        raise ValueError(f"expected a mask of shape {targets}, where an axis may have length 1, got {mask}")


def bins_of_trials(num_bins: int, lengths: Int[Any, "trials"] | None) -> Bool[Array, "#trials bins 1"]:
    """Whether each bin is real, and not padding."""
    bins = jnp.arange(num_bins)[None, :, None]
    return bins < (num_bins if lengths is None else jnp.asarray(lengths)[:, None, None])


def _weighted(trials: SpikeTrials, weights: Real[Array, "..."]) -> Float[Array, "..."]:
    """The mask times `weights`, and 0 in padded bins."""
    mask = 1.0 if trials.mask is None else jnp.asarray(trials.mask)
    if trials.lengths is not None:
        weights = weights * bins_of_trials(trials.targets.shape[1], trials.lengths)
    return mask * weights


def _pad_to_targets(values: Array, trials: SpikeTrials, fill: Any) -> Array:
    """Values of the inputs, and `fill` for the neurons and bins that are only among the targets."""
    extra = [(0, target - found) for target, found in zip(trials.targets.shape, values.shape, strict=True)]
    return jnp.pad(values, extra, constant_values=fill)


def _hide(inputs: Real[Any, "..."], hidden: Bool[Array, "..."], rate: float) -> Float[Array, "..."]:
    return jnp.where(hidden, 0.0, jnp.asarray(inputs) / (1 - rate))


def _draw_removed(trials: SpikeTrials, rate: float, key: PRNGKeyArray) -> Bool[Array, "trials time inputs"]:
    check_layout(trials)
    if not 0 < rate < 1:
        raise ValueError(f"rate must lie in 0 < rate < 1, got {rate}")
    return jax.random.bernoulli(key, rate, trials.inputs.shape)


def _shift(values: Any, shifts: Array, lengths: Any, edge: float | None = 0.0) -> Array:
    """Values [trials, time, features] later by `shifts` bins; `edge` is what comes in, None: the nearest bin's value."""
    values = jnp.asarray(values)
    bins = jnp.arange(values.shape[1])[None, :, None]
    real = bins_of_trials(values.shape[1], lengths)
    last = real.sum(axis=1, keepdims=True) - 1
    source = bins - shifts
    moved = jnp.take_along_axis(values, jnp.clip(source, 0, last), axis=1)
    if edge is not None:
        moved = jnp.where((source >= 0) & (source <= last), moved, jnp.asarray(edge, values.dtype))
    return jnp.where(real, moved, values)


def _check_whole(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    if value < least:
        raise ValueError(f"{name} must be {least} or more, got {value}")
