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
    l2: float = 5e-5
    """Weight of the sum of squared parameters, with the cosine schedule: more makes a cleaner line and a larger error."""
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
    from ctd_models.analysis import find_fixed_points, find_slow_manifold, squared_correlation
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
    speed, options = settings.line_tolerance, {"spacing": 0.1, "max_points": 300, "bounds": (-1, 1)}
    while len(slow := find_slow_manifold(F, candidates[:1_000], jnp.zeros(1), speed=speed, **options)) < 10:
        speed *= 10  # a network that is hardly trained may have no slower line
    print(points, slow, sep="\n")
    line, slow, along, measures = follow(dataclasses.replace(slow, dt=task.dt), variables, decide)
    final, integral = np.asarray(trajectory.states)[:, -1], np.asarray(trials.inputs).sum(axis=1)

    draw(settings.out, task, result.history, metric, variables, trials, trajectory, points, slow, along, candidates)
    results = {
        "eval_mse": float(jnp.mean((decisions - answers) ** 2)),
        f"eval_{metric}": float(eval_loss),
        "accuracy": float(jnp.mean(jnp.sign(decisions) == answers)),
        "num_fixed_points": len(points),
        "max_speed": float(points.speeds.max()) if len(points) else 0.0,
        **measures,
        "integral_from_line_r2": squared_correlation(line.coordinate(final)[0][:, None], integral)[0],
        "integral_from_readout_r2": squared_correlation(np.asarray(decisions), integral)[0],
        **times,
    }
    common.write_results(settings.out, results)
    return results


def follow(slow, variables, decide):
    """(line, its points in order, what changes along it, measures): towards the end where the readout is higher."""
    import _common as common
    import numpy as np

    from ctd_models.analysis import order_line

    line = order_line(slow, closed=False, max_gap=np.inf, gap_factor=5)
    slow = slow[line.order]
    value, weights = decide(common.readout(slow.states, variables)), variables["params"]["readout"]["kernel"][:, 0]
    forward = 1 if value[-1] >= value[0] else -1
    tangents, into = forward * line.tangents, slow.input_jacobians[:, :, 0]
    top, second = np.abs(slow.eigenvalues[:, :2]).T
    seen = np.abs(tangents @ weights) / np.linalg.norm(weights)
    mode = np.sum(tangents * slow.right_eigenvectors[:, :, 0], axis=1)
    shift = np.real(mode * np.sum(slow.left_eigenvectors[:, :, 0] * into, axis=1))  # along the tangent, of r lᵀB
    along = {
        "readout": {"": value},
        "|eigenvalue|": {"first": top, "second": second},
        "|cos| of tangent with": {"first right\neigenvector": np.abs(mode), "readout": seen},
        "shift along line\nper unit of input": {"l · B": shift, "tangent · B": np.sum(tangents * into, axis=1)},
        "arc_length": line.arc_length if forward > 0 else line.length - line.arc_length,
        "pieces": np.isin(np.arange(len(slow)) - 1, line.gap_indices).cumsum(),
    }
    everywhere = np.linspace(0, line.length, 10_001)
    size, angle = (np.interp(everywhere, line.arc_length, v) for v in (np.abs(value), seen))  # straight across gaps
    measures = {
        "num_line_points": len(slow),
        "num_line_pieces": 1 + len(line.gap_sizes),
        "line_max_speed": slow.speeds.max(),
        "line_length": line.length,
        "line_gap_fraction": line.gap_sizes.sum() / line.length,
        "flat_fraction": np.mean(np.abs(size - 1) < 0.1),
        "jump_length_fraction": np.mean(size < 0.9),
        "orthogonal_fraction": np.mean(angle < 0.1),
        "input_along_line_positive_fraction": np.mean(shift > 0),
        "top_time_constant_median_s": np.median(slow.time_constants[:, 0]),
        "second_time_constant_median_s": np.median(slow.time_constants[:, 1]),
    }
    spread = {
        "top_eigenvalue": top,
        "second_eigenvalue": second,
        "tangent_readout_cos": seen,
        "input_along_line": shift,
    }
    for name, values in (spread | {"tangent_right_eigenvector_cos": np.abs(mode)}).items():
        for quantile, share in (("p10", 0.1), ("median", 0.5), ("p90", 0.9)):
            measures[f"{name}_{quantile}"] = np.quantile(values, share)
    return line, slow, along, measures


def draw(out, task, history, metric, variables, trials, trajectory, points, slow, along, candidates) -> None:
    import _common as common

    from ctd_models import plots
    from ctd_models.plots.line_attractor import plot_line_story

    common.save_figure(plots.plot_trials(trials.inputs, trials.targets, trajectory.outputs, task.dt), out, "trials")
    common.save_figure(plots.plot_units(trajectory.states[0], task.dt).figure, out, "hidden_units")
    common.save_figure(plots.plot_history(history, metric).figure, out, "loss")
    values, label = along["readout"][""], "readout at the slow point"
    style = {"values": values, "value_label": label, "cmap": "coolwarm", "time_constants": (1.0, 0.1)}
    common.save_figure(plots.plot_eigenvalues(slow, **style).figure, out, "eigenvalues")
    strict, few = common.readout(points.states, variables), trajectory.states[:8]
    common.save_figure(
        plots.plot_fixed_points(points, strict, trajectories=few, label=label).figure, out, "fixed_points"
    )
    arc_length, pieces, guides = (
        along.pop("arc_length"),
        along.pop("pieces"),
        {"readout": (-1, 1), "|eigenvalue|": (1,)},
    )
    figure = plot_line_story(slow, values, candidates[:1_000], arc_length, along, pieces=pieces, guides=guides)
    common.save_figure(figure, out, "line_attractor")


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
