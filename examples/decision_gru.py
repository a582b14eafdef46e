"""A GRU decides about the sign of an integral, and its slow points show how.

Trains the network, loads its checkpoint, finds the slow points of its dynamics at zero input, and writes figures and
results.json.
"""

import dataclasses
from pathlib import Path
from typing import Literal

import tyro


@dataclasses.dataclass
class Settings:
    out: Path = Path("results/decision_gru")
    """Folder for results, figures and checkpoints; a run that was interrupted continues."""
    num_steps: int = 10_000
    """Training steps."""
    hidden_size: int = 100
    """Units."""
    schedule: Literal["cosine", "published"] = "cosine"
    """Adam with a warm-up and a cosine decay, or with the settings published with the tutorial."""
    learning_rate: float = 3e-3
    """Peak of the cosine schedule."""
    l2: float = 2e-5
    """Weight of the sum of squared parameters in the loss."""
    tolerance: float = 5e-5
    """Largest speed q of a slow point; the tutorial's strictest."""
    num_candidates: int = 2_000
    """States to search from."""
    seed: int = 0
    """Seed of everything random."""
    quick: bool = False
    """A short run of the same code: fewer steps and candidates."""


def main(settings: Settings) -> dict[str, float]:
    import _common as common
    import jax
    import jax.numpy as jnp
    import numpy as np

    from ctd_models import GRU, Trainer, load_checkpoint, step_function
    from ctd_models.analysis import find_fixed_points, linearize
    from ctd_models.tasks import BinaryDecision
    from ctd_models.training import mean_squared_error

    if settings.quick:
        settings = dataclasses.replace(settings, num_steps=500, num_candidates=200)
    train_key, eval_key = jax.random.split(jax.random.key(settings.seed))
    common.remember(settings)

    # Train
    task = BinaryDecision()
    model = GRU(settings.hidden_size, output_size=1)
    optimizer = common.adam(settings.schedule, settings.num_steps, settings.learning_rate, published=(0.04, 0.9999))
    trainer = Trainer(model, mean_squared_error(model, l2=settings.l2), optimizer, batch_size=128)
    folder = settings.out / "checkpoints"
    result = trainer.fit(task, settings.num_steps, train_key, checkpoint_dir=folder, validation=task)
    times = common.training_times(result, settings.out)

    # Load, and evaluate the decisions of fresh trials
    model, variables = load_checkpoint(folder, "best")
    trials = jax.jit(task.sample, static_argnums=1)(eval_key, 20_000)
    trajectory = jax.jit(model.apply)(variables, trials.inputs)
    decisions, answers = trajectory.outputs[:, -1], trials.targets[:, -1]

    # Slow points at zero input, from the states that trials visit
    F = step_function(model, variables)
    visited = np.asarray(trajectory.states).reshape(-1, settings.hidden_size)
    candidates = np.random.default_rng(settings.seed).choice(visited, settings.num_candidates, replace=False)
    points = find_fixed_points(F, candidates, jnp.zeros(1), tolerance=settings.tolerance, bounds=(-1, 1))
    points.save(settings.out / "fixed_points.h5")
    points = linearize(F, points, dt=task.dt)
    print(points)

    draw(settings.out, task, result.history, variables, trials, trajectory, points)
    results = {
        "eval_mse": float(jnp.mean((decisions - answers) ** 2)),
        "accuracy": float(jnp.mean(jnp.sign(decisions) == answers)),
        "num_fixed_points": len(points),
        "max_speed": float(points.speeds.max()),
        "top_eigenvalue_median": float(np.median(np.abs(points.eigenvalues[:, 0]))),
        **times,
    }
    common.write_results(settings.out, results)
    return results


def draw(out, task, history, variables, trials, trajectory, points) -> None:
    import _common as common

    from ctd_models.plots import plot_eigenvalues, plot_fixed_points, plot_history, plot_trials, plot_units

    common.save_figure(plot_trials(trials.inputs, trials.targets, trajectory.outputs, task.dt), out, "trials")
    common.save_figure(plot_units(trajectory.states[0], task.dt).figure, out, "hidden_units")
    common.save_figure(plot_history(history, "mse").figure, out, "loss")
    common.save_figure(plot_eigenvalues(points.eigenvalues[:: max(1, len(points) // 20)]).figure, out, "eigenvalues")

    values = common.readout(points.states, variables)
    axes = plot_fixed_points(points, values, trajectories=trajectory.states[:8], label="readout at the slow point")
    common.save_figure(axes.figure, out, "fixed_points")


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
