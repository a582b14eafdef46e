"""The loss of LFADS: the negative evidence lower bound, with schedules, penalties and augmentations."""

import dataclasses
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jaxtyping import Array, Float

from ctd_models.configuration import deterministic
from ctd_models.data.spike_trials import SpikeTrials, silent_neurons

Schedule = float | Callable[[Any], Any]
"""A weight, or a schedule of Optax: step → weight."""

FOREVER = 2**30  # the step whose weights are used in validation, after every ramp


class Augmentation(Protocol):
    """`augmentation(key, trials) -> trials`: pure and jittable, see `ctd_models.data.augmentations`."""

    def __call__(self, key: jax.Array, trials: SpikeTrials) -> SpikeTrials: ...


@dataclasses.dataclass(frozen=True)
class Elbo:
    """The negative ELBO of `LFADS` as a loss of the trainer's form, in nats a trial; see `elbo`."""

    model: Any
    """The LFADS."""
    kl_weight: Schedule = 1.0
    """Weight of both divergences."""
    input_kl_weight: Schedule | None = None
    """Weight of the inferred inputs' divergence; None: kl_weight."""
    l2: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Part of the model → weight of ½‖W‖² of its recurrent matrices [nats]."""
    l2_weight: Schedule = 1.0
    """Weight of the whole penalty."""
    augmentations: tuple[Augmentation, ...] = ()
    """What is done to each batch in training, in this order."""

    def __post_init__(self):
        if unknown := sorted(set(self.l2) - {"generator", "controller", "encoder"}):
            raise ValueError(f"l2 may name generator, controller and encoder, got {unknown}")
        if negative := {name: value for name, value in self.l2.items() if not value >= 0}:
            raise ValueError(f"l2 cannot be negative, got {negative}")
        object.__setattr__(self, "augmentations", tuple(self.augmentations))

    def __call__(self, variables, batch: SpikeTrials, rngs, step, training: bool):
        """(loss, metrics) of a batch. Metrics, in nats a trial: nll, kl_code, kl_inputs, elbo (with both divergences at
        weight 1), l2. Validation takes the weights of the end of their schedules and no augmentation."""
        for i, augmentation in enumerate(self.augmentations if training else ()):
            batch = augmentation(jax.random.fold_in(rngs["noise"], i), batch)

        def evaluate(model):
            posterior = model(batch.inputs, batch.external_inputs, batch.labels, batch.lengths)
            return posterior, model.divergences(posterior, batch.labels)

        model = self.model if training else deterministic(self.model)
        posterior, (kl_code, kl_inputs) = model.apply(variables, rngs=rngs, method=evaluate)
        start = self.model.encoder.start
        targets, weights = _from(start, batch.targets), _weights(batch, start)
        if targets.shape != posterior.rates.shape:
            raise ValueError(
                f"expected targets [trials, {posterior.rates.shape[1] + start} time bins (forward ones included), "
                f"{posterior.rates.shape[2]} neurons], got shape {batch.targets.shape}"
            )
        log_prob = self.model.observation.log_prob(posterior.parameters, targets.astype(jnp.float32))
        nll = -_per_trial(log_prob, weights)
        kl_inputs = _per_trial(kl_inputs[..., None], _valid(batch, start))
        kl_code = kl_code.mean()
        when = step if training else FOREVER
        kl_weight = _at(self.kl_weight, when)
        input_weight = kl_weight if self.input_kl_weight is None else _at(self.input_kl_weight, when)
        penalty = self._penalty(variables["params"])
        loss = nll + kl_weight * kl_code + input_weight * kl_inputs + _at(self.l2_weight, when) * penalty
        metrics = {"nll": nll, "kl_code": kl_code, "kl_inputs": kl_inputs, "elbo": -(nll + kl_code + kl_inputs)}
        return loss, metrics | {"l2": penalty} if self.l2 else metrics

    def _penalty(self, params: Mapping[str, Any]) -> Any:
        flat = traverse_util.flatten_dict(params)
        recurrent = [(path[0], kernel) for path, kernel in flat.items() if path[-1].endswith("recurrent_kernel")]
        return sum((0.5 * self.l2[part] * jnp.sum(w**2) for part, w in recurrent if part in self.l2), jnp.float32(0))

    def init(self, rngs: dict[str, jax.Array], batch: SpikeTrials) -> dict[str, Any]:
        """Variables of the model whose read-out begins at the mean (and variance) of the batch's targets."""
        variables = self.model.init(rngs, batch.inputs, batch.external_inputs, batch.labels, batch.lengths)
        bias = variables["params"].get("read_out", {}).get("bias")
        if bias is None:
            return variables
        targets = _from(self.model.encoder.start, batch.targets).astype(jnp.float32)
        start = self.model.observation.start(targets.mean((0, 1)), targets.var((0, 1)))
        read_out = {**variables["params"]["read_out"], "bias": bias + start.reshape(-1)}
        return {**variables, "params": {**variables["params"], "read_out": read_out}}

    def check(self, data: Any, what: str) -> None:
        """Raises ValueError where data are impossible under the model, and warns of neurons without a spike."""
        check_trials(self.model, data, what)


def elbo(
    model: Any,
    *,
    kl_weight: Schedule = 1.0,
    input_kl_weight: Schedule | None = None,
    l2: Mapping[str, float] | None = None,
    l2_weight: Schedule = 1.0,
    augmentations: tuple[Augmentation, ...] = (),
) -> Elbo:
    """The loss that trains an `LFADS` on `SpikeTrials`: mean over trials of −log p(x | z, u) + w (KL_code + KL_inputs).

    Likelihood and divergences are sums over bins and neurons, so that with weight 1 the loss is the negative evidence
    lower bound; `optax.linear_schedule(0, 1, 500)` as weight lets the divergences in slowly.

    Args:
        model: the LFADS.
        kl_weight: weight of both divergences, a number or a schedule.
        input_kl_weight: weight of the inferred inputs' divergence; None: kl_weight.
        l2: "generator", "controller" or "encoder" → weight of ½‖W‖² of its recurrent matrices.
        l2_weight: weight of the whole penalty, a number or a schedule.
        augmentations: such as `CoordinatedDropout(0.3)`.

    Raises:
        ValueError: l2 names an unknown part or is negative.
    """
    return Elbo(model, kl_weight, input_kl_weight, dict(l2 or {}), l2_weight, tuple(augmentations))


def check_trials(model: Any, trials: Any, what: str = "trials") -> None:
    """Checks trials against the model before anything is computed.

    Raises:
        TypeError: they are not `SpikeTrials`.
        ValueError: values are impossible under the observation model, labels are not classes, lengths are not lengths.
    """
    if not isinstance(trials, SpikeTrials):
        raise TypeError(
            f"{what} must be SpikeTrials, as of SpikeTrials.from_spikes(spikes), got {type(trials).__name__}"
        )
    targets = np.asarray(trials.targets)
    bad, expected = model.observation.invalid(targets)
    if bad.any():
        index = tuple(int(i) for i in np.argwhere(bad)[0])
        raise ValueError(f"expected {what}.targets of {expected}; got {targets[index]} at index {index}")
    if trials.labels is not None and model.num_classes:
        labels = np.asarray(trials.labels)
        wrong = (labels < 0) | (labels >= model.num_classes)
        if wrong.any():
            index = int(np.argmax(wrong))
            raise ValueError(f"labels must lie in 0 … {model.num_classes - 1}, got {labels[index]} at trial {index}")
    if trials.lengths is not None:
        lengths = np.asarray(trials.lengths)
        wrong = (lengths < 2) | (lengths > trials.inputs.shape[1])
        if wrong.any():
            index = int(np.argmax(wrong))
            raise ValueError(f"lengths must lie in 2 … {trials.inputs.shape[1]}, got {lengths[index]} at trial {index}")
    if (silent := silent_neurons(targets)).size:
        warnings.warn(
            f"neurons {silent.tolist()} of {what} are silent (counted as in targets); they are trained and scored with "
            "the others, at rates near 0",
            stacklevel=3,
        )


def _at(weight: Schedule, step: Any) -> Any:
    return weight(step) if callable(weight) else weight


def _from(start: int, values: Any) -> Any:
    """The bins from `start`; an axis of length 1 stays."""
    return values[:, start:] if values.shape[1] > 1 else values


def _valid(batch: SpikeTrials, start: int) -> Float[Array, "trials steps 1"]:
    """1 in the real bins of padded trials, else 0; all 1 where nothing is padded."""
    if batch.lengths is None:
        return jnp.ones((1, 1, 1))
    return (jnp.arange(start, batch.targets.shape[1]) < batch.lengths[:, None])[..., None].astype(jnp.float32)


def _weights(batch: SpikeTrials, start: int) -> Float[Array, "trials steps neurons"]:
    valid = _valid(batch, start)
    return valid if batch.mask is None else valid * _from(start, batch.mask)


def _per_trial(values: Float[Array, "trials steps n"], weights: Any) -> Float[Array, ""]:
    return jnp.sum(values * weights) / values.shape[0]
