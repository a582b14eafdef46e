"""A GRU decides about the sign of an integral, and a bent line of slow points shows how.

Trains the network, loads its checkpoint, finds the slow points of its dynamics at zero input and the line that they form,
and writes figures and results.json: along the line the dynamics almost stand still, most of its length is invisible to
the readout, and the input moves the state along it.
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
    """Adam with a warm-up and a cosine decay, or with the settings published with the tutorial (an l2 of 2e-5 among them)."""
    learning_rate: float = 3e-3
    """Peak of the cosine schedule."""
    l2: float = 5e-5
    """Weight of the sum of squared parameters in the loss, with the cosine schedule. More makes a cleaner line, less a
    smaller error."""
    tolerance: float = 5e-5
    """Largest speed q of a slow point; the tutorial's strictest."""
    line_tolerance: float = 5e-4
    """Largest speed q on the line of slow points; the tutorial's middle one."""
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
    from ctd_models.analysis import find_fixed_points, find_slow_manifold, linearize, squared_correlation
    from ctd_models.tasks import BinaryDecision
    from ctd_models.training.losses import binary_cross_entropy, mean_squared_error

    if settings.quick:
        settings = dataclasses.replace(settings, num_steps=500, num_candidates=200)
    train_key, eval_key = jax.random.split(jax.random.key(settings.seed))
    common.remember(settings)

    # Train
    task = BinaryDecision()
    model = GRU(settings.hidden_size, output_size=1)
    optimizer = common.adam(settings.schedule, settings.num_steps, settings.learning_rate, published=(0.04, 0.9999))
    l2 = 2e-5 if settings.schedule == "published" else settings.l2
    loss = {"squared_error": mean_squared_error, "cross_entropy": binary_cross_entropy}[settings.loss](model, l2)
    trainer = Trainer(model, loss, optimizer, batch_size=128)
    folder = settings.out / "checkpoints"
    result = trainer.fit(task, settings.num_steps, train_key, checkpoint_dir=folder, validation=task)
    times = common.training_times(result, settings.out)

    # Load, and evaluate the decisions of fresh trials; a logit o decides by its expected answer, tanh(o / 2)
    model, variables = load_checkpoint(folder, "best")
    decide = (lambda o: o) if settings.loss == "squared_error" else (lambda o: np.tanh(o / 2))
    trials = jax.jit(task.sample, static_argnums=1)(eval_key, 20_000)
    trajectory = jax.jit(model.apply)(variables, trials.inputs)
    answers, decisions = trials.targets[:, -1], decide(trajectory.outputs[:, -1])
    (metric, eval_loss), *_ = loss(variables, trials, {}, settings.num_steps, False)[1].items()

    # Slow points at zero input, from the states that trials visit, and the line that they form
    F = step_function(model, variables)
    visited = np.asarray(trajectory.states).reshape(-1, settings.hidden_size)
    candidates = np.random.default_rng(settings.seed).choice(visited, settings.num_candidates, replace=False)
    points = find_fixed_points(F, candidates, jnp.zeros(1), tolerance=settings.tolerance, bounds=(-1, 1))
    points.save(settings.out / "fixed_points.h5")
    points = linearize(F, points, dt=task.dt)
    speed, few = settings.line_tolerance, {"spacing": 0.1, "max_points": 300, "bounds": (-1, 1)}
    while len(slow := find_slow_manifold(F, candidates[:1_000], jnp.zeros(1), speed=speed, **few)) < 10:
        speed *= 10  # a network that is hardly trained may have no slower line
    slow = linearize(F, slow, dt=task.dt)
    print(points, slow, sep="\n")

    line, slow, along, measures = follow(slow, variables, decide)
    final, integral = np.asarray(trajectory.states)[:, -1], np.asarray(trials.inputs).sum(axis=(1, 2))
    results = {
        "eval_mse": float(jnp.mean((decisions - answers) ** 2)),
        f"eval_{metric}": float(eval_loss),
        "accuracy": float(jnp.mean(jnp.sign(decisions) == answers)),
        "num_fixed_points": len(points),
        "max_speed": float(points.speeds.max()) if len(points) else 0.0,
        "line_max_speed": float(slow.speeds.max()),
        **measures,
        "line_integral_r2": squared_correlation(line.coordinate(final)[0], integral),
        "readout_integral_r2": squared_correlation(np.asarray(decisions)[:, 0], integral),
        **times,
    }
    draw(settings.out, task, result.history, metric, variables, trials, trajectory, points, slow, along, candidates)
    common.write_results(settings.out, results)
    return results


def follow(slow, variables, decide):
    """(line, its points in order, what changes along it, measures): from the end where the readout is lower to the other."""
    import _common as common
    import numpy as np

    from ctd_models.analysis import order_line

    line = order_line(slow, closed=False, max_gap=np.inf, gap_factor=5)
    slow = slow[line.order]
    value = decide(common.readout(slow.states, variables))
    forward = 1 if value[-1] >= value[0] else -1
    tangents, weights = forward * line.tangents, np.asarray(variables["params"]["readout"]["kernel"])[:, 0]
    right, left, into = slow.right_eigenvectors[:, :, 0], slow.left_eigenvectors[:, :, 0], slow.input_jacobians[:, :, 0]
    top, second = np.abs(slow.eigenvalues[:, :2]).T
    seen, mode = np.abs(tangents @ weights) / np.linalg.norm(weights), np.sum(tangents * right, axis=1)
    select = np.real(
        mode * np.sum(left * into, axis=1)
    )  # B δx keeps r (lᵀB δx), of which this much is along the tangent
    along = {
        "arc_length": line.arc_length if forward > 0 else line.length - line.arc_length,
        "pieces": np.isin(np.arange(len(slow)) - 1, line.gap_indices).cumsum(),
        "readout": {"": value},
        "|eigenvalue|": {"first": top, "second": second},
        "|cos| of tangent with": {"first right\neigenvector": np.abs(mode), "readout": seen},
        "shift along line\nper unit of input": {"l · B": select, "tangent · B": np.sum(tangents * into, axis=1)},
    }
    everywhere = np.linspace(0, line.length, 10_001)
    size, angle = (np.interp(everywhere, line.arc_length, v) for v in (np.abs(value), seen))  # straight across gaps
    return (
        line,
        slow,
        along,
        {
            "num_line_points": len(slow),
            "num_line_pieces": 1 + len(line.gap_sizes),
            "line_length": line.length,
            "line_gap_fraction": line.gap_sizes.sum() / line.length,
            "top_eigenvalue_median": np.median(top),
            "top_eigenvalue_p10": np.quantile(top, 0.1),
            "top_eigenvalue_p90": np.quantile(top, 0.9),
            "second_eigenvalue_median": np.median(second),
            "second_time_constant_median_s": np.median(slow.time_constants[:, 1]),
            "flat_fraction": np.mean(np.abs(size - 1) < 0.1),
            "jump_length_fraction": np.mean(size < 0.9),
            "orthogonal_fraction": np.mean(angle < 0.1),
            "tangent_readout_cos_median": np.median(seen),
            "tangent_right_eigenvector_cos_median": np.median(np.abs(mode)),
            "tangent_right_eigenvector_cos_p10": np.quantile(np.abs(mode), 0.1),
            "input_along_line_median": np.median(select),
            "input_along_line_positive_fraction": np.mean(select > 0),
        },
    )


def draw(out, task, history, metric, variables, trials, trajectory, points, slow, along, candidates) -> None:
    import _common as common
    import matplotlib.pyplot as plt

    from ctd_models.plots import plot_eigenvalues, plot_fixed_points, plot_history, plot_trials, plot_units
    from ctd_models.plots.line_attractor import plot_along_line, plot_line_attractor

    common.save_figure(plot_trials(trials.inputs, trials.targets, trajectory.outputs, task.dt), out, "trials")
    common.save_figure(plot_units(trajectory.states[0], task.dt).figure, out, "hidden_units")
    common.save_figure(plot_history(history, metric).figure, out, "loss")
    value = along["readout"][""]
    style = {
        "values": value,
        "value_label": "readout at the slow point",
        "cmap": "coolwarm",
        "time_constants": (1, 0.1),
    }
    common.save_figure(plot_eigenvalues(slow, **style).figure, out, "eigenvalues")
    strict = common.readout(points.states, variables)
    axes = plot_fixed_points(points, strict, trajectories=trajectory.states[:8], label="readout at the slow point")
    common.save_figure(axes.figure, out, "fixed_points")
    figure = plt.figure(figsize=(12, 6), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.1))
    plot_line_attractor(slow, value, candidates[:1_000], axes=left.subplots(subplot_kw={"projection": "3d"}))
    arc_length, pieces = along.pop("arc_length"), along.pop("pieces")
    panels = right.subplots(len(along), sharex=True)
    plot_along_line(arc_length, along, pieces=pieces, guides={"readout": (-1, 1), "|eigenvalue|": (1,)}, axes=panels)
    common.save_figure(figure, out, "line_attractor")


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
