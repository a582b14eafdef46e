"""A network averages the last two pulses: a surface of slow points holds two numbers at once.

Trains networks on the two-point moving average, finds the slow points between pulses, and shows that they form a surface
whose two directions are the two numbers that are remembered.
"""

import dataclasses
from pathlib import Path

import tyro
from _zoo import ZooSettings


@dataclasses.dataclass
class Settings(ZooSettings):
    out: Path = Path("results/moving_average")
    hidden_size: int = 32
    num_steps: int = 4_000
    tolerance: float = 1e-5
    """Largest speed q of a slow point."""
    num_candidates: int = 500
    """States to search from."""


def main(settings: Settings) -> dict[str, float]:
    import _common as common
    import _zoo as zoo
    import jax

    from ctd_models.models import make_network
    from ctd_models.tasks import MovingAverage

    if settings.quick:
        settings = common.shortened(settings, num_steps=1_000, num_candidates=200)
    task = MovingAverage()
    model = make_network(settings.cell, settings.hidden_size, 1, cell_options=zoo.continuous(settings))
    loss, fits = zoo.train(settings, model, task)
    trials = jax.jit(task.sample, static_argnums=1)(jax.random.key(settings.seed + 1), 1_000)
    found = []
    for number, fit in enumerate(fits):
        model, variables = zoo.load(settings, number)
        trajectory = jax.jit(model.apply)(variables, trials.inputs)
        error = loss(variables, trials, {}, 0, False)[1]["mse"]
        points, values, numbers = analyse(settings, task, model, variables, trials, trajectory)
        found.append({"loss": float(error)} | numbers)
        if number == 0:
            points.save(settings.out / "fixed_points.h5")
            draw(settings.out, fit.history, trials, trajectory, points, values)
    results = zoo.spread(found)
    common.write_results(settings.out, results)
    return results


def analyse(settings, task, model, variables, trials, trajectory):
    """(slow points without input, the two numbers held at each, numbers) of one network."""
    import _zoo as zoo
    import jax
    import numpy as np

    from ctd_models import step_function
    from ctd_models.analysis import find_fixed_points, linearize, manifold_dimension
    from ctd_models.tasks import last_two

    F, rest = step_function(model, variables), np.zeros(2)
    candidates = zoo.candidates(settings, trajectory.states, settings.num_candidates)
    options = {"tolerance": settings.tolerance, "bounds": zoo.bounds(settings), "unique_distance": 1e-2}
    points = linearize(F, find_fixed_points(F, candidates, rest, **options))
    # What is remembered, read linearly out of the states that trials visit, and so at the slow points
    held, counts = np.asarray(last_two(trials.inputs)), np.asarray(trials.mask[..., 0]) > 0
    flat = np.concatenate([np.asarray(s) for s in jax.tree.leaves(trajectory.states)], axis=-1)[counts]
    design = np.column_stack([flat, np.ones(len(flat))])
    weights, *_ = np.linalg.lstsq(design, held[counts], rcond=None)
    left = held[counts] - design @ weights
    r2 = 1 - (left**2).sum(axis=0) / ((held[counts] - held[counts].mean(axis=0)) ** 2).sum(axis=0)
    values = np.column_stack([points.states, np.ones(len(points))]) @ weights
    sizes = np.median(np.sort(np.abs(points.eigenvalues), axis=1)[:, ::-1], axis=0)
    dimension = manifold_dimension(points, near=1 / task.num_steps)
    numbers = {
        "num_slow_points": len(points),
        "max_speed": float(points.speeds.max()),
        "manifold_dimension": int(np.median(dimension.near_unit)),
        "cloud_dimension": int(np.median(dimension.local)),
        "first_mode_size": float(sizes[0]),
        "second_mode_size": float(sizes[1]),
        "third_mode_size": float(sizes[2]),
        "last_pulse_r2": float(r2[0]),
        "pulse_before_r2": float(r2[1]),
        "readout_error_at_slow_points": float(
            np.sqrt(np.mean((zoo.readout_of(model, variables)(points.states)[:, 0] - values.mean(axis=1)) ** 2))
        ),
    }
    print(points)
    return points, values, numbers


def draw(out, history, trials, trajectory, points, values) -> None:
    import _common as common
    import matplotlib.pyplot as plt

    from ctd_models.plots import plot_fixed_points, plot_history, plot_trials

    common.save_figure(plot_history(history, "mse").figure, out, "loss")
    targets = [t * m for t, m in zip(trials.targets[:3], trials.mask[:3], strict=True)]
    common.save_figure(plot_trials(trials.inputs[:3], targets, trajectory.outputs[:3]), out, "trials")
    figure = plt.figure(figsize=(13, 4.4), layout="constrained")
    for i, (name, shown) in enumerate((("last pulse", values[:, 0]), ("pulse before it", values[:, 1]))):
        axes = figure.add_subplot(1, 3, i + 1, projection="3d")
        plot_fixed_points(points, shown, modes=None, label=f"{name}, read at the slow point", axes=axes)
    axes = figure.add_subplot(1, 3, 3)
    for i, label in enumerate(("first", "second", "third", "fourth")):
        axes.plot(values.mean(axis=1), abs(points.eigenvalues[:, i]), ".", ms=3, label=f"{label} mode")
    axes.set(xlabel="mean of the two numbers held", ylabel="|λ| at the slow point")
    axes.legend(frameon=False, fontsize="small")
    common.save_figure(figure, out, "slow_points")


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
