"""The loss of LFADS: the negative evidence lower bound, with schedules, penalties and augmentations."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import traverse_util

from ctd_models.configuration import deterministic
from ctd_models.data.augmentations import Augmentation, augment
from ctd_models.data.spike_trials import SpikeTrials

Schedule = float | Callable[[Any], Any]
"""A weight, or a schedule of Optax: step → weight."""

FOREVER = 2**30  # the step whose weights are used in validation, after every ramp


@dataclasses.dataclass(frozen=True)
class Elbo:
    """The negative ELBO of `LFADS` as a loss of the trainer's form, in nats a trial; see `elbo`."""

    model: Any
    """The LFADS, or a model that has `bound_terms`, `init_from` and `check` as it does."""
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
        if training:
            batch = augment(self.augmentations, rngs["noise"], batch)
        model = self.model if training else deterministic(self.model)
        terms = model.apply(variables, batch, rngs=rngs, method="bound_terms")
        log_likelihood, kl_code, kl_inputs = (values.mean() for values in terms)
        nll = -log_likelihood
        when = step if training else FOREVER
        kl_weight = _at(self.kl_weight, when)
        input_weight = kl_weight if self.input_kl_weight is None else _at(self.input_kl_weight, when)
        penalty = self._penalty(variables["params"])
        loss = nll + kl_weight * kl_code + input_weight * kl_inputs + _at(self.l2_weight, when) * penalty
        metrics = {"nll": nll, "kl_code": kl_code, "kl_inputs": kl_inputs, "elbo": -(nll + kl_code + kl_inputs)}
        return loss, metrics | {"l2": penalty} if self.l2 else metrics

    def _penalty(self, params: Mapping[str, Any]) -> Any:
        flat = traverse_util.flatten_dict(params)
        recurrent = [(path[0], kernel) for path, kernel in flat.items() if _is_recurrent(path)]
        if missing := sorted({part for part in self.l2 if params.get(part)} - {part for part, _ in recurrent}):
            raise ValueError(
                f"l2 names {missing}, but no recurrent matrices are found there: expected parameters that are called "
                "…recurrent_kernel, or those of Flax's cells"
            )
        return sum((0.5 * self.l2[part] * jnp.sum(w**2) for part, w in recurrent if part in self.l2), jnp.float32(0))

    def init(self, rngs: dict[str, jax.Array], batch: SpikeTrials) -> dict[str, Any]:
        """Variables of the model, whose read-out begins at the mean of the batch's targets."""
        return self.model.init_from(rngs, batch)

    def check(self, data: Any, what: str) -> None:
        """Raises ValueError where data are impossible under the model, and warns of neurons without a spike."""
        self.model.check(data, what)


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
        TypeError: the model has no evidence lower bound.
        ValueError: l2 names an unknown part or is negative.
    """
    if lacking := [name for name in ("bound_terms", "init_from", "check") if not hasattr(model, name)]:
        raise TypeError(f"elbo trains an LFADS, or a model with {lacking}, got {type(model).__name__}")
    return Elbo(model, kl_weight, input_kl_weight, dict(l2 or {}), l2_weight, tuple(augmentations))


def _is_recurrent(path: tuple[str, ...]) -> bool:
    """Whether a parameter is a recurrent matrix: of our cells, or of Flax's (h, hr, hz, hi …)."""
    flax = len(path) > 1 and path[-1] == "kernel" and re.fullmatch(r"h[a-z]?", path[-2])
    return path[-1].endswith("recurrent_kernel") or bool(flax)


def _at(weight: Schedule, step: Any) -> Any:
    return weight(step) if callable(weight) else weight
