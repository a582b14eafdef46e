"""A network makes sine waves of 51 frequencies, and one unstable fixed point at each input explains which.

Trains networks whose constant input chooses the frequency, and compares the frequency of the output with that of the
unstable oscillatory pair at the fixed point of each input.
"""

import dataclasses
from pathlib import Path

import tyro
from _zoo import Cell, ZooSettings


@dataclasses.dataclass
class Settings(ZooSettings):
    out: Path = Path("results/sine_wave")
    cell: Cell = "continuous"
    hidden_size: int = 100
    num_steps: int = 3_000
    learning_rate: float = 2e-3
    batch_size: int = 51
    num_candidates: int = 20
    """States to search from at each input."""


def main(settings: Settings) -> dict[str, float]:
    import _common as common
    import _zoo as zoo
    import jax
    import numpy as np

    from ctd_models.models import make_network
    from ctd_models.tasks import SineWave

    if settings.quick:
        settings = common.shortened(settings, num_steps=1_000, hidden_size=64)
    task = SineWave()
    model = make_network(settings.cell, settings.hidden_size, 1, cell_options=zoo.continuous(settings))
    loss, fits = zoo.train(settings, model, task)
    trials, found = task.trials(np.arange(task.num_frequencies)), []
    for number, fit in enumerate(fits):
        model, variables = zoo.load(settings, number)
        trajectory = jax.jit(model.apply)(variables, trials.inputs)
        error = loss(variables, trials, {}, 0, False)[1]["mse"]
        points, predicted, produced, numbers = analyse(settings, task, model, variables, trajectory)
        found.append({"loss": float(error)} | numbers)
        if number == 0:
            points.save(settings.out / "fixed_points.h5")
            draw(settings.out, task, fit.history, trials, trajectory, points, predicted, produced)
    results = zoo.spread(found)
    common.write_results(settings.out, results)
    return results


def analyse(settings, task, model, variables, trajectory):
    """(one fixed point for each input, frequency of its leading pair, produced frequency [rad / unit of time], numbers)."""
    import _zoo as zoo
    import jax
    import numpy as np

    from ctd_models import step_function
    from ctd_models.analysis import find_fixed_points, linearize

    F, late = step_function(model, variables), task.num_steps // 2
    states = jax.tree.map(np.asarray, trajectory.states)  # [inputs, time, units]
    # States between the orbit of each input and its centre, around which the fixed point is to be expected
    times = np.linspace(late, task.num_steps - 1, settings.num_candidates).astype(int)
    inward = np.linspace(1, 0, settings.num_candidates)[:, None]
    centres = jax.tree.map(lambda s: s[:, late:].mean(axis=1, keepdims=True), states)
    candidates = jax.tree.map(lambda s, c: (c + inward * (s[:, times] - c)).reshape(-1, s.shape[-1]), states, centres)
    inputs = np.repeat(task.levels, settings.num_candidates)[:, None]
    points = linearize(F, find_fixed_points(F, candidates, inputs, bounds=zoo.bounds(settings)))
    produced, chosen = produced_frequencies(F, zoo.readout_of(model, variables), task, states), []
    middles = np.concatenate(jax.tree.leaves(centres), axis=-1)[:, 0]
    turning = (points.num_unstable == 2) & (points.eigenvalues[:, 0].imag != 0)  # with one unstable oscillatory pair
    for level, middle in zip(task.levels, middles, strict=True):
        here = np.flatnonzero(np.abs(points.inputs[:, 0] - level) < 1e-6)
        here = here[turning[here]] if turning[here].any() else here
        apart = np.linalg.norm(points.states[here] - middle, axis=1)
        chosen.append(here[apart.argmin()] if len(here) else -1)
    chosen = np.array(chosen)
    there, points = chosen >= 0, points[chosen[chosen >= 0]]
    size = np.where(points.eigenvalues.imag > 0, np.abs(points.eigenvalues), 0.0)
    pair = np.take_along_axis(points.eigenvalues, size.argmax(axis=1)[:, None], axis=1)[:, 0]
    predicted = np.full(task.num_frequencies, np.nan)
    unstable = (points.num_unstable == 2) & (np.abs(pair) > 1)  # elsewhere no oscillation leaves the point
    predicted[np.flatnonzero(there)[unstable]] = np.angle(pair[unstable]) / task.dt
    both = np.isfinite(predicted + produced)
    numbers = {"num_inputs_with_fixed_point": there.sum(), "num_inputs_with_unstable_pair": unstable.sum()}
    if both.sum() > 2:  # of a network that did not learn there is no correlation to tell
        numbers["frequency_correlation"] = np.corrcoef(predicted[both], produced[both])[0, 1]
        numbers["frequency_error"] = np.abs(predicted[both] - produced[both]).mean()
        numbers["produced_frequency_error"] = np.abs(produced - task.frequencies)[both].mean()
    return points, predicted, produced, numbers


def produced_frequencies(F, readout, task, states, num_steps: int = 1_000):
    """Frequency of the output of each input's limit cycle, by its upward crossings of its mean [rad / unit of time]."""
    import jax
    import numpy as np

    from ctd_models.analysis import simulate

    starts = jax.tree.map(lambda s: s[:, -1], states)
    outputs = readout(simulate(F, starts, task.levels[:, None], num_steps=num_steps))[..., 0]
    outputs = outputs - outputs.mean(axis=1, keepdims=True)
    found = np.full(len(outputs), np.nan)
    for i, output in enumerate(outputs):
        up = np.flatnonzero((output[:-1] < 0) & (output[1:] >= 0))
        if len(up) > 2 and np.ptp(output) > 0.1:
            crossings = up - output[up] / (output[up + 1] - output[up])
            found[i] = 2 * np.pi * (len(up) - 1) / ((crossings[-1] - crossings[0]) * task.dt)
    return found


def draw(out, task, history, trials, trajectory, points, predicted, produced) -> None:
    import _common as common
    import jax
    import matplotlib.pyplot as plt
    import numpy as np

    from ctd_models.plots import plot_eigenvalues, plot_fixed_points, plot_history

    common.save_figure(plot_history(history, "mse").figure, out, "loss")
    figure, panels = plt.subplots(3, 1, figsize=(7, 5), layout="constrained", sharex=True)
    for panel, i in zip(panels, (0, len(trials.inputs) // 2, -1), strict=True):
        panel.plot(task.times, trials.targets[i, :, 0], color="0.7", lw=3, label="target")
        panel.plot(task.times, trajectory.outputs[i, :, 0], color="C0", lw=1, label="output")
        panel.set(ylabel=f"input {task.levels[i]:.2f}")
    panels[0].legend(frameon=False, ncol=2, fontsize="small", loc="upper right")
    panels[2].set_xlabel("time [units of τ]")
    common.save_figure(figure, out, "trials")
    figure, panels = plt.subplots(1, 3, figsize=(13, 4.2), layout="constrained")
    states = np.concatenate([np.asarray(s) for s in jax.tree.leaves(trajectory.states)], axis=-1)
    states = states[::10, task.num_steps // 3 :]
    levels = points.inputs[:, 0]
    plot_fixed_points(points, levels, trajectories=states, dims=2, modes=None, label="input", axes=panels[0])
    plot_eigenvalues(points, values=levels, value_label="input", axes=panels[1])
    panels[2].plot(task.frequencies, task.frequencies, color="0.7", label="target")
    panels[2].plot(task.frequencies, produced, "o", ms=4, label="output")
    panels[2].plot(task.frequencies, predicted, "x", ms=5, color="C3", label="unstable pair")
    panels[2].set(xlabel="target frequency [rad / τ]", ylabel="frequency [rad / τ]")
    panels[2].legend(frameon=False)
    common.save_figure(figure, out, "frequencies")


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
