"""Losses of the trainer's form, `loss(variables, batch, rngs, step, training) -> (scalar, metrics)`."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from ctd_models.configuration import deterministic
from ctd_models.tasks import Trials

Loss = Callable[[Any, Any, dict[str, jax.Array], Any, bool], tuple[jax.Array, dict[str, jax.Array]]]
"""`loss(variables, batch, rngs, step, training)` → (scalar, metrics).

`variables` is Flax's whole dictionary, `rngs` has a key for each stream (`dropout`, `sample`, `noise`), `step` counts
from 0 and drives schedules, `training` is a Python bool: False in validation.
"""


def as_trials(batch: Any) -> Trials:
    """`Trials` of a batch given as such, as a mapping with the keys inputs, targets and perhaps mask, or as a tuple."""
    if isinstance(batch, Trials):
        return batch
    if hasattr(batch, "shape") or (isinstance(batch, Mapping) and not {"inputs", "targets"} <= batch.keys()):
        found = f"the keys {sorted(batch)}" if isinstance(batch, Mapping) else f"one array of shape {batch.shape}"
        raise ValueError(f"this loss needs batches with inputs and targets, got {found}")
    if isinstance(batch, Mapping):
        inputs, targets, mask = batch["inputs"], batch["targets"], batch.get("mask")
    else:
        inputs, targets, *rest = batch
        mask = rest[0] if rest else None
    return Trials(inputs, targets, jnp.ones((*targets.shape[:-1], 1)) if mask is None else mask)


def masked_mean(values: Float[Any, "B T O"], mask: Float[Any, "B T _"]) -> Float[Array, ""]:
    """Mean of `values`, weighted by `mask` [B, T, 1] or [B, T, O]."""
    mask = jnp.broadcast_to(mask, values.shape)
    return (values * mask).sum() / mask.sum()


def mean_squared_error(model: nn.Module, l2: float = 0.0) -> Loss:
    """Masked mean squared error of `model.apply(variables, inputs).outputs`, plus l2 · ‖params‖².

    ‖params‖² is the sum of squares of all parameters. Batches are `Trials`, or mappings or tuples of the same things
    (without a mask, every step counts). Noise and dropout are off in validation.

    Metrics:
        mse: the error without the penalty.

    Raises:
        ValueError: targets or mask do not have the shape of the network's outputs.
    """
    return _masked_loss(model, l2, "mse", lambda outputs, targets: (outputs - targets) ** 2)


def binary_cross_entropy(model: nn.Module, l2: float = 0.0) -> Loss:
    """Masked mean of log(1 + exp(−y o)), plus l2 · ‖params‖²: the logistic loss of outputs o for targets y = ±1.

    An output is the logit of y = 1, p(y = 1) = 1 / (1 + exp(−o)). Batches and penalty are as in `mean_squared_error`;
    that targets are ±1 where the mask counts is the caller's part, since they are known only inside the compiled step.

    Metrics:
        cross_entropy: the loss without the penalty [nats].

    Raises:
        ValueError: targets or mask do not have the shape of the network's outputs.
    """
    return _masked_loss(model, l2, "cross_entropy", lambda outputs, targets: jax.nn.softplus(-targets * outputs))


def rate_penalized_error(model: nn.Module, l2: float = 0.0, rate_penalty: float = 0.0) -> Loss:
    """Masked mean squared error, plus rate_penalty · ⟨r²⟩, plus l2 · ‖params‖²; of networks whose cell has rates.

    ⟨r²⟩ is the mean squared rate over trials, all steps (whatever the mask) and all units of all modules, of
    `model.cell.rates(states)`, or of `model.rates(states)` where the model itself has it. Batches and the last penalty are
    as in `mean_squared_error`. Michaels, Schaffelhofer, Agudelo-Toro & Scherberger (2020, doi:10.1073/pnas.2005087117).

    Metrics:
        mse: the error without the penalties.
        mean_squared_rate: ⟨r²⟩.

    Raises:
        TypeError: neither the model nor its cell has a method `rates`.
        ValueError: a negative penalty; targets or mask do not have the shape of the network's outputs.
    """
    owner = model if hasattr(model, "rates") else getattr(model, "cell", None)
    if not hasattr(owner, "rates"):
        raise TypeError(
            f"{type(model).__name__} has no method rates(states), nor has its cell "
            f"({type(owner).__name__}): use a ContinuousRNNCell, a ModularRNNCell, or mean_squared_error"
        )
    if not 0 <= rate_penalty < float("inf"):
        raise ValueError(f"rate_penalty cannot be negative, got {rate_penalty}")

    def penalty(result):
        rates = jax.tree.leaves(owner.rates(result.states))
        mean = sum((rate**2).sum() for rate in rates) / sum(rate.size for rate in rates)
        return rate_penalty * mean, {"mean_squared_rate": mean}

    return _masked_loss(model, l2, "mse", lambda outputs, targets: (outputs - targets) ** 2, penalty)


def _masked_loss(
    model: nn.Module,
    l2: float,
    name: str,
    error: Callable[[Any, Any], Any],
    penalize: Callable[[Any], tuple[Any, dict[str, Any]]] | None = None,
) -> Loss:
    """The masked mean of error(outputs, targets), reported as `name`, plus l2 · ‖params‖², plus a penalty on what the
    network did, `penalize(result) -> (penalty, metrics)`."""
    if l2 < 0:
        raise ValueError(f"l2 cannot be negative, got {l2}")
    quiet = deterministic(model)

    def loss(variables, batch, rngs, step, training):
        del step
        trials = as_trials(batch)
        result = (model if training else quiet).apply(variables, trials.inputs, rngs=rngs)
        if not hasattr(result, "outputs"):
            raise TypeError(
                f"this loss compares .outputs of a network with targets, but {type(model).__name__} puts out "
                f"{type(result).__name__} (an LFADS is trained by ctd_models.training.elbo)"
            )
        outputs = result.outputs
        if outputs.shape != trials.targets.shape:
            raise ValueError(f"targets have shape {trials.targets.shape}, the outputs of the network {outputs.shape}")
        if trials.mask.shape not in (outputs.shape, (*outputs.shape[:-1], 1)):
            raise ValueError(f"the mask has shape {trials.mask.shape}, expected {(*outputs.shape[:-1], 1)}")
        value = masked_mean(error(outputs, trials.targets), trials.mask)
        penalty = l2 * optax.tree.norm(variables["params"], squared=True) if l2 else 0.0
        extra, metrics = penalize(result) if penalize else (0.0, {})
        return value + penalty + extra, {name: value, **metrics}

    return loss
