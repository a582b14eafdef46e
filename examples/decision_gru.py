"""A GRU decides about the sign of an integral, and a bent line of slow points shows how.

Trains the network, loads its checkpoint, finds the slow points of its dynamics at zero input and the line that they form,
and writes figures and results.json.
"""

import dataclasses
from pathlib import Path
from typing import Literal

import tyro


@dataclasses.dataclass
class Settings:
    out: Path = Path("results/decision_gru")
    """Folder for results, figures and checkpoints; a run that was interrupted continues."""
    num_steps: int = 20_000
    """Training steps."""
    hidden_size: int = 100
    """Units."""
    loss: Literal["squared_error", "cross_entropy"] = "squared_error"
    """Between the last output and ±1, or of the last output as a logit."""
    schedule: Literal["cosine", "published"] = "cosine"
    """Adam with a warm-up and a cosine decay, or with the settings published with the tutorial."""
    learning_rate: float = 3e-3
    """Peak of the cosine schedule."""
    l2: float = 7e-5
    """Weight of the sum of squared parameters, with the cosine schedule: more makes a cleaner line and a larger error."""
    tolerance: float = 5e-5
    """Largest speed q of a slow point; the tutorial's strictest."""
    line_tolerance: float = 1e-3
    """Largest speed q on the line, between the two looser ones of the tutorial, so that the line is whole or nearly so."""
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
    from ctd_models.analysis import find_fixed_points, find_slow_manifold, order_line, squared_correlation
    from ctd_models.tasks import BinaryDecision
    from ctd_models.training.losses import binary_cross_entropy, mean_squared_error

    if settings.quick:
        settings = common.shortened(settings, num_steps=500, num_candidates=200)
    train_key, eval_key = jax.random.split(jax.random.key(settings.seed))
    common.remember(settings)

    # Train
    task = BinaryDecision()
    model = GRU(settings.hidden_size, output_size=1)
    optimizer = common.adam(settings.schedule, settings.num_steps, settings.learning_rate, published=(0.04, 0.9999))
    make_loss = mean_squared_error if settings.loss == "squared_error" else binary_cross_entropy
    loss = make_loss(model, 2e-5 if settings.schedule == "published" else settings.l2)
    trainer, folder = Trainer(model, loss, optimizer, batch_size=128), settings.out / "checkpoints"
    result = trainer.fit(task, settings.num_steps, train_key, checkpoint_dir=folder, validation=task)
    times = common.training_times(result, settings.out)

    # Load, and evaluate the decisions of fresh trials; a logit o decides by its expected answer, tanh(o / 2)
    model, variables = load_checkpoint(folder, "best")
    decide = (lambda o: o) if settings.loss == "squared_error" else (lambda o: np.tanh(o / 2))
    trials = jax.jit(task.sample, static_argnums=1)(eval_key, 20_000)
    trajectory = jax.jit(model.apply)(variables, trials.inputs)
    answers, decisions = trials.targets[:, -1], decide(trajectory.outputs[:, -1])

    # Slow points at zero input, from the states that trials visit, and the line that they form
    F = step_function(model, variables)
    visited = np.asarray(trajectory.states).reshape(-1, settings.hidden_size)
    candidates = np.random.default_rng(settings.seed).choice(visited, settings.num_candidates, replace=False)
    points = find_fixed_points(F, candidates, jnp.zeros(1), tolerance=settings.tolerance, bounds=(-1, 1))
    points.save(settings.out / "fixed_points.h5")
    speed, options = settings.line_tolerance, {"spacing": 0.1, "max_points": 300, "bounds": (-1, 1)}
    while len(slow := find_slow_manifold(F, candidates[:1_000], jnp.zeros(1), speed=speed, **options)) < 10:
        speed *= 10  # a network that is hardly trained may have no slower line
    print(points, slow, sep="\n")
    line = order_line(slow, closed=False, max_gap=np.inf, gap_factor=5.0)
    slow = slow[line.order]
    readout = decide(common.readout(slow.states, variables))
    along = changes_along(line, slow, readout, variables["params"]["readout"]["kernel"][:, 0])

    integral, final = np.asarray(trials.inputs).sum(axis=1), np.asarray(trajectory.states)[:, -1]
    sizes = np.abs(np.interp(np.linspace(0, line.length, 10_001), line.arc_length, readout))  # straight across gaps
    results = {
        "eval_mse": jnp.mean((decisions - answers) ** 2),
        **{f"eval_{name}": value for name, value in loss(variables, trials, {}, 0, False)[1].items()},
        "accuracy": jnp.mean(jnp.sign(decisions) == answers),
        "num_fixed_points": len(points),
        "max_speed": points.speeds.max(initial=0.0),
        "line_max_speed": slow.speeds.max(),
        "num_line_points": len(slow),
        "num_line_pieces": 1 + len(line.gap_sizes),
        "line_length": line.length,
        "line_gap_fraction": line.gap_sizes.sum() / line.length,
        "flat_fraction": np.mean(np.abs(sizes - 1) < 0.1),
        "jump_length_fraction": np.mean(sizes < 0.9),
        "input_along_line_positive_fraction": np.mean(along["input_along_line"] > 0),
        "integral_from_line_r2": squared_correlation(line.coordinate(final)[0][:, None], integral)[0],
        "integral_from_readout_r2": squared_correlation(np.asarray(decisions), integral)[0],
    }
    for what, share in {"p10": 0.1, "median": 0.5, "p90": 0.9}.items():
        results |= {f"{name}_{what}": np.quantile(values, share) for name, values in along.items()}
    draw(settings.out, task, result.history, trials, trajectory, slow, readout, candidates[:1_000], line, along)
    common.write_results(settings.out, results | times)
    return results


def changes_along(line, slow, readout, weights):
    """What changes along the line, whose direction is that towards the end where the readout is higher: name → [n]."""
    import numpy as np

    tangents, inputs = line.tangents * (1 if readout[-1] >= readout[0] else -1), slow.input_jacobians[:, :, 0]
    mode, members = np.sum(tangents * slow.right_eigenvectors[:, :, 0], axis=1), 1 + (slow.eigenvalues[:, 0].imag != 0)
    return {
        "top_eigenvalue": np.abs(slow.eigenvalues[:, 0]),
        "second_eigenvalue": np.abs(slow.eigenvalues[:, 1]),
        "tangent_right_eigenvector_cos": np.abs(mode),
        "tangent_readout_cos": np.abs(tangents @ weights) / np.linalg.norm(weights),
        # what one unit of input leaves in the top mode, r lᵀB, along the tangent; of a conjugate pair, in both
        "input_along_line": np.real(mode * np.sum(slow.left_eigenvectors[:, :, 0] * inputs, axis=1) * members),
    }


def draw(out, task, history, trials, trajectory, slow, readout, candidates, line, along) -> None:
    import _common as common

    from ctd_models.plots import plot_eigenvalues, plot_history, plot_trials, plot_units
    from ctd_models.plots.line_attractor import plot_line_story

    common.save_figure(plot_trials(trials.inputs, trials.targets, trajectory.outputs, task.dt), out, "trials")
    common.save_figure(plot_units(trajectory.states[0], task.dt).figure, out, "hidden_units")
    common.save_figure(plot_history(history, "mse" if "mse" in history else "cross_entropy").figure, out, "loss")
    label, guides = "readout at the slow point", {"time_constants": (1.0, 0.1), "dt": task.dt}
    axes = plot_eigenvalues(slow, values=readout, value_label=label, cmap="coolwarm", **guides)
    common.save_figure(axes.figure, out, "eigenvalues")
    cosines = {"first mode": along["tangent_right_eigenvector_cos"], "readout": along["tangent_readout_cos"]}
    story = plot_line_story(slow, readout, candidates, line, cosines=cosines, shifts=along["input_along_line"])
    common.save_figure(story, out, "fixed_points")


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
