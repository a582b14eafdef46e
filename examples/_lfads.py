"""What the LFADS examples share: how the model is trained, how it is scored, and how its posterior is written."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ctd_models.analysis import FixedPoints
    from ctd_models.training import FitResult, Trainer


def make_trainer(
    loss: Any,
    num_steps: int,
    *,
    learning_rate: float,
    batch_size: int,
    clip: float = 10.0,
    num_validations: int = 50,
) -> "Trainer":
    """A trainer of `loss.model` by Adam with clipped gradients; its learning rate rises for 100 steps and falls along a
    cosine. The best checkpoint is that of the smallest validation loss, smoothed over about three validations."""
    import optax

    from ctd_models import Trainer

    schedule = optax.warmup_cosine_decay_schedule(0.0, learning_rate, min(100, num_steps // 10), num_steps)
    optimizer = optax.chain(optax.clip_by_global_norm(clip), optax.adam(schedule))
    interval = max(1, num_steps // num_validations)
    every = {"validate_every": interval, "checkpoint_every": 5 * interval}
    return Trainer(loss.model, loss, optimizer, batch_size=batch_size, smoothing=0.7, **every)


def train(
    loss: Any, data: Any, validation: Any, num_steps: int, key: Any, folder: Path, *, batch_size: int, **options: Any
) -> "FitResult":
    """Trains with `make_trainer` and these options; a run that was interrupted continues."""
    trainer = make_trainer(loss, num_steps, batch_size=min(batch_size, len(data.inputs)), **options)
    return trainer.fit(data, num_steps, key, checkpoint_dir=folder, validation=validation)


def bounds(model: Any, variables: Any, trials: Any, key: Any, num_samples: int) -> dict[str, float]:
    """Means over trials [nats]: nll (with log x!), kl_code, kl_inputs, elbo, and the tighter importance-weighted bound.

    Each trial has `num_samples` samples of its posterior, over which the first four are averaged.
    """
    import jax

    from ctd_models.models.lfads import importance_weighted_bound
    from ctd_models.training import elbo

    loss = elbo(model)

    @jax.jit
    def averages(variables, trials, keys):
        _, metrics = jax.lax.map(lambda key: loss(variables, trials, {"sample": key}, 0, training=False), keys)
        return jax.tree.map(lambda values: values.mean(), metrics)

    elbo_key, iwae_key = jax.random.split(key)
    metrics = averages(variables, trials, jax.random.split(elbo_key, num_samples))
    options = {"num_samples": num_samples, "key": iwae_key, "progress": False}
    tighter = importance_weighted_bound(model, variables, trials, **options).mean()
    names = ("elbo", "nll", "kl_code", "kl_inputs")
    return {name: float(metrics[name]) for name in names} | {"iwae": float(tighter), "bound_samples": num_samples}


def write_posterior(
    path: str | os.PathLike, model: Any, variables: Any, trials: Any, indices: Any, fields: Sequence[str] | None = None
) -> int:
    """Writes what the posterior means of `trials` decode to, batch by batch, with units and the numbers that the trials
    have in their file: the `fields` of `Posterior`, None: all. Returns the number of trials."""
    from ctd_models.data import write_chunks
    from ctd_models.models.lfads import POSTERIOR_UNITS, infer_chunks

    units = {name: unit for name, unit in POSTERIOR_UNITS.items() if fields is None or name in fields}
    chunks = infer_chunks(model, variables, trials, fields=fields, progress=False)
    return write_chunks(path, chunks, units=units, trial_indices=indices, num_trials=len(indices), progress=False)


def generator_points(
    model: Any, variables: Any, states: Any, inputs: Any, dt: float, num_candidates: int, seed: int, slowness: float = 0
) -> "FixedPoints":
    """Fixed points of the generator under a constant input [U] (None: it takes none), with their linear dynamics.

    The search starts at states [trials, time, N] that trials visit. With `slowness` it stops at slow points, where a step
    moves the state by less than this share of the median step in these trials.
    """
    import numpy as np

    from ctd_models import step_function
    from ctd_models.analysis import find_fixed_points, linearize

    F, visited = step_function(model, variables, part="generator"), states.reshape(-1, states.shape[-1])
    candidates = np.random.default_rng(seed).choice(visited, min(num_candidates, len(visited)), replace=False)
    typical = np.median(np.linalg.norm(np.diff(states, axis=1), axis=-1))
    tolerance = 0.5 * (slowness * typical) ** 2 if slowness else None
    return linearize(F, find_fixed_points(F, candidates, inputs, tolerance=tolerance), dt=dt)
