"""LFADS of a recording: rates of single trials, behaviour decoded from factors, and neurons that were never read.

Two models are trained alike. One reads all neurons; behaviour is decoded from its factors, and its generator's fixed points
are found. The other reads the held-in neurons and predicts the held-out ones, where the file names some. Whatever is
chosen is chosen on validation trials; test trials are scored once.
"""

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import _common as common
import _lfads as lfads
import tyro

FIRST_BIN = 4  # behaviour is decoded from here on, so that lags up to 4 bins compare on the same bins


@dataclasses.dataclass
class Settings:
    data: str = "adan_day0.h5"
    """HDF5 file in a layout of `load_spike_trials`: a path, or a name in the folder of data ($CTD_DATA)."""
    out: Path = Path("results/lfads_neural_data")
    """Folder for results, figures, posteriors and checkpoints; a run that was interrupted continues."""
    hidden_size: int = 64
    """Units of the generator, the controller and each direction of the encoder."""
    num_factors: int = 40
    """Factors."""
    num_inputs: int = 4
    """Inferred inputs."""
    dropout: float = 0.3
    """Dropout in all parts of the model for decoding."""
    cosmoothing_dropout: float = 0.05
    """The same of the model for co-smoothing."""
    coordinated_dropout: float = 0.3
    """Share of the counts that is hidden and to be reconstructed, in the model for decoding."""
    cosmoothing_coordinated_dropout: float = 0.2
    """The same of the model for co-smoothing."""
    kl_weight: float = 0.3
    """Weight of both divergences, in the model for decoding; it rises from 0 in the first half. 1: the true ELBO."""
    cosmoothing_kl_weight: float = 1.0
    """The same of the model for co-smoothing."""
    learning_rate: float = 4e-3
    """Of Adam in the beginning; it falls to 0 along a cosine."""
    num_steps: int = 1_000
    """Training steps of each model."""
    seed: int = 0
    """Seed of everything random."""
    quick: bool = False
    """A short run of the same code: fewer steps."""


def main(settings: Settings) -> dict[str, float]:
    from ctd_models.data import load_spike_trials

    common.remember(settings)
    settings = dataclasses.replace(settings, num_steps=60) if settings.quick else settings
    path = common.find_data(settings.data)
    data = cosmoothing = load_spike_trials(path)
    if data.num_heldout and data.layout == "recording":
        data = load_spike_trials(path, heldout=())  # for decoding, all neurons are read
    rates = settings.dropout, settings.coordinated_dropout, settings.kl_weight
    results = decode(train(data, "decoding", *rates, settings), settings.out)
    if cosmoothing.num_heldout:
        rates = settings.cosmoothing_dropout, settings.cosmoothing_coordinated_dropout, settings.cosmoothing_kl_weight
        results |= predict_heldout(train(cosmoothing, "cosmoothing", *rates, settings), settings.out)
    common.write_results(settings.out, results)
    return results


def train(data, name, dropout, coordinated_dropout, kl_weight, settings):
    """Trains a model and infers all trials by the best one on validation trials."""
    import jax
    import numpy as np
    import optax

    from ctd_models import LFADS, load_checkpoint
    from ctd_models.data import CoordinatedDropout
    from ctd_models.models.lfads import AutoregressivePrior, Controller, Encoder, Gaussian, Generator, infer
    from ctd_models.training import elbo

    if data.validation is None:
        raise SystemExit(f"{settings.data} has no validation trials, on which models and decoders are chosen")
    (_, time, read), (_, steps, neurons) = np.shape(data.train.inputs), np.shape(data.train.targets)
    size, known = settings.hidden_size, data.train.external_inputs
    model = LFADS(
        neurons,
        Encoder(size, dropout=dropout),
        Generator(size, settings.num_factors, Gaussian(), dropout=dropout),
        Controller(size, settings.num_inputs, AutoregressivePrior(tau=10.0, noise_variance=0.1), dropout=dropout),
        num_input_neurons=read,
        num_forward_bins=steps - time,
        num_external_inputs=0 if known is None else known.shape[2],
    )
    ramp = optax.linear_schedule(0.0, kl_weight, settings.num_steps // 2)
    loss = elbo(model, kl_weight=ramp, augmentations=(CoordinatedDropout(coordinated_dropout),))
    key, folder = jax.random.key(settings.seed), settings.out / name
    sizes = {"learning_rate": settings.learning_rate, "batch_size": min(64, len(data.train.inputs))}
    result = lfads.train(loss, data.train, data.validation, settings.num_steps, key, folder, **sizes)
    model, variables = load_checkpoint(folder, "best")

    parts, at = data.parts, dict(zip(parts, ...))
    trials = jax.tree.map(lambda *v: np.concatenate(v), *(trials._replace(mask=None) for trials in parts.values()))
    ...
