"""A recurrent network tells the sentiment of reviews in a toy language, and its modes show how it handles context.

Trains the network, loads its checkpoint, finds the line of slow points between words, and shows how "not" and "very" push
the state off this line, how that changes what later words do, and what is left of it without the modes that carry it.
"""

import dataclasses
from pathlib import Path
from typing import Literal

import tyro

VALENCED = ("good", "bad", "awesome", "awful")
PROBES = (*VALENCED, *(f"{modifier} {word}" for modifier in ("not", "very") for word in VALENCED))


@dataclasses.dataclass
class Settings:
    out: Path = Path("results/sentiment_context")
    """Folder for results, figures and checkpoints; a run that was interrupted continues."""
    cell: Literal["gru", "lstm", "vanilla"] = "gru"
    """The recurrent network."""
    num_steps: int = 10_000
    """Training steps; the published network took 40,000."""
    hidden_size: int = 100
    """Units."""
    schedule: Literal["cosine", "published"] = "cosine"
    """Adam with a warm-up and a cosine decay, or with the settings published with the paper."""
    learning_rate: float | None = None
    """Peak of the cosine schedule; None: 0.06, with eps 0.1, or 2e-3, with eps 1e-8, of the vanilla RNN."""
    l2: float | None = None
    """Weight of the sum of squared parameters; None: 1e-4, or 1e-5 of the vanilla RNN."""
    state_noise: float = 0.003
    """Standard deviation of the noise on every unit at every step of training."""
    tolerance: float = 1e-6
    """Largest speed q of a slow point."""
    num_candidates: int = 1_000
    """States to search from."""
    num_modes: int = 2
    """Modes that are removed from the deflection by a modifier, a conjugate pair as one."""
    seed: int = 0
    """Seed of everything random."""
    quick: bool = False
    """A short run of the same code: fewer units, steps and candidates; too few for a vanilla RNN to learn much."""


def make_trainer(settings: Settings):
    """The network and its trainer."""
    import optax

    from ctd_models import Trainer
    from ctd_models.models import make_network
    from ctd_models.training import mean_squared_error

    model = make_network(settings.cell, settings.hidden_size, 1, state_noise=settings.state_noise)
    vanilla, steps = settings.cell == "vanilla", settings.num_steps
    if settings.schedule == "published":
        optimizer = optax.adam(optax.exponential_decay(0.04, 1, 0.99995), eps=0.1)
    else:
        peak = settings.learning_rate if settings.learning_rate is not None else (2e-3 if vanilla else 0.06)
        warm_up = min(200, steps // 10)
        schedule = optax.warmup_cosine_decay_schedule(0.0, peak, warm_up, steps)
        optimizer = optax.adam(schedule, eps=1e-8 if vanilla else 0.1)
    l2 = settings.l2 if settings.l2 is not None else (1e-5 if vanilla else 1e-4)
    optimizer = optax.chain(optax.clip_by_global_norm(10.0), optimizer)
    return Trainer(model, mean_squared_error(model, l2), optimizer, batch_size=128)


def main(settings: Settings) -> dict[str, float]:
    import _common as common
    import _sentiment as sentiment
    import _sentiment_scores as compare
    import jax
    import numpy as np
    from _sentiment_figures import draw

    from ctd_models import load_checkpoint
    from ctd_models.tasks import ToySentiment

    if settings.quick:
        settings = common.shortened(settings, num_steps=800, hidden_size=32, num_candidates=150)
    train_key, eval_key = jax.random.split(jax.random.key(settings.seed))
    common.remember(settings)

    # Train
    task, folder = ToySentiment(), settings.out / "checkpoints"
    result = make_trainer(settings).fit(task, settings.num_steps, train_key, checkpoint_dir=folder, validation=task)
    times = common.training_times(result, settings.out)

    # Load, and read fresh reviews and probes
    model, variables = load_checkpoint(folder, "best")
    run = jax.jit(model.clone(deterministic=True).apply)
    reviews = jax.jit(task.sample, static_argnums=1)(eval_key, 10_000)
    trajectory = run(variables, reviews.inputs)
    probes = task.probe(*PROBES, num_words=8)
    answers = sentiment.at_last_word(probes.mask, run(variables, probes.inputs).outputs)
    truth = sentiment.at_last_word(probes.mask, probes.targets)
    results = {
        "eval_mse": float(np.mean((trajectory.outputs - reviews.targets) ** 2)),
        **{probe.replace(" ", "_"): float(value) for probe, value in zip(PROBES, answers, strict=True)},
        "largest_probe_error": float(np.abs(answers - truth).max()),
    }

    # The line of slow points between words, and what the modifiers do there
    story = sentiment.analyse(model, variables, task, trajectory.states, settings)
    results |= sentiment.numbers(story) | compare.toy_baselines(task, reviews, results["eval_mse"], story.effects)
    story.points.save(settings.out / "fixed_points.h5")
    print(story.points, story.effects, story.removals, sep="\n")
    draw(settings.out, task, result.history, reviews, trajectory.outputs, story)
    common.write_results(settings.out, results | times)
    return results


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
