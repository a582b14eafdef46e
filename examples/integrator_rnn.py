"""A vanilla RNN learns to integrate white noise, and does it along a line attractor.

Trains the network, loads its checkpoint as one would on another day, finds the slow points of its dynamics at zero
input, and writes figures, results.json and a data set of its activity for LFADS.
"""

import dataclasses
from pathlib import Path
from typing import Literal

import tyro


@dataclasses.dataclass
class Settings:
    out: Path = Path("results/integrator_rnn")
    """Folder for results, figures, data and checkpoints; a run that was interrupted continues."""
    num_steps: int = 10_000
    """Training steps."""
    hidden_size: int = 100
    """Units."""
    schedule: Literal["cosine", "published"] = "cosine"
    """Adam with a warm-up and a cosine decay, or with the settings published with the tutorial (L2 2e-4)."""
    learning_rate: float = 1e-3
    """Peak of the cosine schedule."""
    l2: float = 1e-5
    """Weight of the sum of squared parameters in the loss, with the cosine schedule."""
    tolerance: float = 1e-6
    """Largest speed q of a slow point: small enough for the attractor, large enough to keep its length."""
    num_candidates: int = 2_000
    """States to search from."""
    num_trials: int = 20_480
    """Trials in the data set for LFADS; 0 writes none."""
    seed: int = 0
    """Seed of everything random."""
    quick: bool = False
    """A short run of the same code: fewer steps, candidates and trials."""


def main(settings: Settings) -> dict[str, float]:
    import _common as common
    import jax
    import jax.numpy as jnp
    import numpy as np

    from ctd_models import Trainer, VanillaRNN, load_checkpoint, step_function
    from ctd_models.analysis import find_fixed_points, linearize
    from ctd_models.tasks import Integration
    from ctd_models.training import mean_squared_error

    if settings.quick:
        settings = common.shortened(settings, num_steps=1_000, num_candidates=200, num_trials=512)
    init_key, train_key, eval_key, data_key = jax.random.split(jax.random.key(settings.seed), 4)
    common.remember(settings)

    # Train
    task = Integration()
    model = VanillaRNN(settings.hidden_size, output_size=1)
    optimizer = common.adam(settings.schedule, settings.num_steps, settings.learning_rate, published=(0.025, 0.99975))
    l2 = 2e-4 if settings.schedule == "published" else settings.l2
    trainer = Trainer(model, mean_squared_error(model, l2=l2), optimizer, batch_size=128)
    sample = jax.jit(task.sample, static_argnums=1)
    before = jax.jit(model.init)(init_key, sample(init_key, 1).inputs)
    folder, steps = settings.out / "checkpoints", settings.num_steps
    result = trainer.fit(task, steps, train_key, checkpoint_dir=folder, variables=before, validation=task)
    times = common.training_times(result, settings.out)

    # Load, and evaluate on fresh trials
    model, variables = load_checkpoint(folder, "best")
    trials = sample(eval_key, 20_000)
    trajectory = jax.jit(model.apply)(variables, trials.inputs)

    # The line attractor: slow points at zero input, and their modes
    F = step_function(model, variables)
    visited = np.asarray(trajectory.states).reshape(-1, settings.hidden_size)
    candidates = np.random.default_rng(settings.seed).choice(visited, settings.num_candidates, replace=False)
    points = find_fixed_points(F, candidates, jnp.zeros(1), tolerance=settings.tolerance)
    points.save(settings.out / "fixed_points.h5")
    points = linearize(F, points, dt=task.dt)
    print(points)

    if settings.num_trials:
        write_lfads_data(settings.out / "integrator.h5", model, variables, task, settings.num_trials, data_key)
    draw(settings.out, task, result.history, before, variables, trials, trajectory, points)
    results = {
        "eval_mse": float(jnp.mean((trajectory.outputs - trials.targets) ** 2)),
        "num_fixed_points": len(points),
        "max_speed": float(points.speeds.max()),
        "top_eigenvalue_median": float(np.median(np.abs(points.eigenvalues[:, 0]))),
        "second_eigenvalue_median": float(np.median(np.abs(points.eigenvalues[:, 1]))),
        **times,
    }
    common.write_results(settings.out, results)
    return results


def write_lfads_data(path, model, variables, task, num_trials, key) -> None:
    """Trials from states on the line attractor (7 noisy steps and one without input), with spikes of 80 Hz · (h + 1) / 2."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from ctd_models.data import write_datasets

    start_key, trial_key, spike_key = jax.random.split(key, 3)
    run, sample = jax.jit(model.apply), jax.jit(task.sample, static_argnums=1)
    noise = sample(start_key, num_trials).inputs[:, :7]
    start = run(variables, jnp.pad(noise, ((0, 0), (0, 1), (0, 0))))
    trials = sample(trial_key, num_trials)
    trajectory = run(variables, trials.inputs, start.states[:, -1])
    rng = np.random.default_rng(np.asarray(jax.random.key_data(spike_key)))
    spikes = rng.poisson(80 * task.dt * (np.asarray(trajectory.states) + 1) / 2)
    arrays = {
        "inputs": trials.inputs,
        "hiddens": trajectory.states,
        "outputs": trajectory.outputs,
        "targets": trials.targets + start.outputs[:, -1:],
        "h0s": start.states[:, -1],
        "spikes": spikes.astype(np.uint8),
        "split": (np.arange(num_trials) >= 0.9 * num_trials).astype(np.int8),
    }
    descriptions = {"split": "0 train (first 90 %), 1 held out", "h0s": "states before the first step"}
    attributes = {"bin_width_s": task.dt, "title": "Activity of a trained white-noise integrator"}
    write_datasets(path, arrays, units={"spikes": "spikes/bin"}, descriptions=descriptions, attributes=attributes)


def draw(out, task, history, before, variables, trials, trajectory, points) -> None:
    import _common as common
    import matplotlib.pyplot as plt
    import numpy as np

    from ctd_models.plots import plot_eigenvalues, plot_fixed_points, plot_history, plot_trials, plot_units

    common.save_figure(plot_trials(trials.inputs, trials.targets, trajectory.outputs, task.dt), out, "trials")
    common.save_figure(plot_units(trajectory.states[0], task.dt).figure, out, "hidden_units")
    common.save_figure(plot_history(history, "mse").figure, out, "loss")
    figure, axes = plt.subplots(1, 2, figsize=(8, 4.4), layout="constrained", sharex=True, sharey=True)
    for panel, title, v in ((axes[0], "before training", before), (axes[1], "after training", variables)):
        weights = np.asarray(v["params"]["cell"]["recurrent_kernel"])
        plot_eigenvalues(np.linalg.eigvals(weights), axes=panel, color="0.6", label="recurrent weights")
        panel.set_title(title)
    plot_eigenvalues(points.eigenvalues[len(points) // 2], axes=axes[1], color="C3", label="Jacobian at a slow point")
    common.save_figure(figure, out, "eigenvalues")
    values = common.readout(points.states, variables)
    axes = plot_fixed_points(points, values, trajectories=trajectory.states[:8], label="readout at the slow point")
    common.save_figure(axes.figure, out, "fixed_points")


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
