"""Models of the stitching example: of one session, around several sessions, and with a session added."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import _common as common

if TYPE_CHECKING:
    import numpy as np
    from _stitching import Sessions

    from ctd_models import LFADS

Fitted = tuple["LFADS", dict[str, Any]]
"""A model and its variables."""


def make_model(
    num_neurons: int, settings: Any, names: Sequence[str] = (), num_components: int | None = None
) -> "LFADS":
    """LFADS of one session, or around the sessions of these names."""
    from ctd_models import LFADS
    from ctd_models.models.lfads import (
        AutoregressivePrior,
        Controller,
        Encoder,
        Gaussian,
        Generator,
        SessionReadIn,
        SessionReadOut,
    )

    size, dropout, controller, maps = settings.hidden_size, settings.dropout, None, {}
    if settings.num_inputs:
        prior = AutoregressivePrior(tau=10.0, noise_variance=0.1)
        controller = Controller(size, settings.num_inputs, prior, dropout=dropout)
    if names:
        maps["read_in"] = SessionReadIn(tuple(names), num_neurons, num_components, frozen=settings.frozen_read_in)
        maps["readout"] = SessionReadOut(tuple(names), num_neurons)
    generator = Generator(size, settings.num_factors, Gaussian(variance=0.1), dropout=dropout)
    return LFADS(num_neurons, Encoder(size, dropout=dropout), generator, controller, **maps)


def fit(
    model: "LFADS",
    train: Any,
    validation: Any,
    settings: Any,
    starts: Mapping[str, Any],
    num_steps: int | None = None,
    **options: Any,
) -> tuple[dict[str, Fitted], dict[str, float]]:
    """Trains a model once from each of the starting variables (None: initialised), with the same compiled step.

    Returns:
        Name of the start, which is also that of a folder, → the best model on validation trials; times of the first.
    """
    import _lfads as lfads
    import jax
    import optax

    from ctd_models import load_checkpoint
    from ctd_models.data import CoordinatedDropout
    from ctd_models.training import elbo

    num_steps = num_steps or settings.num_steps
    ramp = optax.linear_schedule(0.0, settings.kl_weight, min(settings.kl_ramp, num_steps // 2))
    loss = elbo(model, kl_weight=ramp, augmentations=(CoordinatedDropout(settings.coordinated_dropout),))
    options_of_trainer = {"learning_rate": settings.learning_rate, "num_validations": max(1, min(50, num_steps // 20))}
    batch_size = min(settings.batch_size, len(train.inputs))
    trainer = lfads.make_trainer(loss, num_steps, batch_size=batch_size, **options_of_trainer)
    key, found, times = jax.random.key(settings.seed), {}, {}
    for name, variables in starts.items():
        folder = settings.out / name
        given = {"checkpoint_dir": folder / "checkpoints", "validation": validation, "variables": variables}
        result = trainer.fit(train, num_steps, key, **given, **options)
        found[name] = load_checkpoint(folder / "checkpoints", "best")
        times = times or common.training_times(result, folder)
    return found, times


def single(data: "Sessions", name: str, settings: Any) -> "np.ndarray":
    """Factors of all trials of a session, by a model of this session alone."""
    from ctd_models.models.lfads import infer

    own, folder = data.sessions[name], f"single_{name}"
    model = make_model(own.train.targets.shape[2], settings)
    found, _ = fit(model, own.train, own.validation, settings, {folder: None})
    return infer(*found[folder], data.own_trials(name), progress=False).factors


def stitched(
    data: "Sessions", names: Sequence[str], settings: Any, prefix: str = "", compare: bool = True
) -> tuple[dict[str, Fitted], dict[str, float]]:
    """Models around these sessions whose read-ins begin aligned ("stitched") and, to compare, at random ("random")."""
    import jax

    from ctd_models.models.lfads import with_session_weights
    from ctd_models.training import elbo

    weights = data.weights(names, settings.num_components, settings.width)
    train, validation = (data.stitched(names, part) for part in ("train", "validation"))
    model = make_model(train.targets.shape[2], settings, names, weights[0].read_in.shape[1])
    keys = jax.random.split(jax.random.key(settings.seed))
    random = jax.jit(elbo(model).init)({"params": keys[0], "sample": keys[1]}, train)
    starts = {f"{prefix}stitched": with_session_weights(random, weights)}
    starts |= {f"{prefix}random": random} if compare else {}
    return fit(model, train, validation, settings, starts)


def add_last(data: "Sessions", settings: Any) -> Fitted:
    """A model of all sessions but the last, to which this one is added: only its own maps are trained."""
    import jax

    from ctd_models.models.lfads import add_sessions

    *before, last = data.sessions
    found, _ = stitched(data, before, settings, prefix="others_", compare=False)
    model, variables = found["others_stitched"]
    train, validation = ({last: data.sessions[last].parts[part]} for part in ("train", "validation"))
    weights = {last: data.later_weights(model, variables, before, last, settings.width)}
    key = jax.random.key(settings.seed + 1)
    model, variables = add_sessions(model, variables, train, key, weights)
    options = {"trainable": ["read_in", "readout"], "num_steps": settings.added_steps}
    train, validation = model.stitch(train), model.stitch(validation)
    return fit(model, train, validation, settings, {"added": variables}, **options)[0]["added"]
