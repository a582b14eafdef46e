"""Learning of readouts while a network runs: targets and outputs, reservoir activity, and the spectrum of what results."""

from collections.abc import Mapping
from typing import Any, no_type_check

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float

from ctd_models.plots.style import LEADING, STABLE, UNSTABLE


@no_type_check  # it checks its arguments itself
def plot_outputs(
    targets: Float[Any, "T O"],
    outputs: Mapping[str, Float[Any, "T O"]],
    *,
    dt: float,
    num_outputs: int = 4,
) -> Any:
    """Targets (black) and outputs (coloured) of a few outputs, one column for each phase, such as before and after learning.

    Args:
        targets: what the outputs should be; outputs may run on longer.
        outputs: name of the phase → outputs.
        dt: length of a step [s].
        num_outputs: how many are drawn, the first ones.

    Returns:
        The figure.

    Raises:
        ValueError: shapes do not fit.
    """
    targets = np.asarray(targets)
    if targets.ndim != 2 or not outputs or any(np.shape(o)[1:] != targets.shape[1:] for o in outputs.values()):
        shapes = [np.shape(o) for o in outputs.values()]
        raise ValueError(
            f"expected targets [time, O] and outputs [time, O] of each phase, got {targets.shape}, {shapes}"
        )
    rows = min(num_outputs, targets.shape[1])
    size = (3.4 * len(outputs), 0.9 + 1.1 * rows)
    figure, axes = plt.subplots(rows, len(outputs), figsize=size, sharex="col", layout="constrained", squeeze=False)
    for column, (name, values) in enumerate(outputs.items()):
        for row in range(rows):
            axis = axes[row, column]
            axis.plot(dt * np.arange(1, len(targets) + 1), targets[:, row], color=STABLE, lw=1.6, label="target")
            axis.plot(
                dt * np.arange(1, len(values) + 1), np.asarray(values)[:, row], color=UNSTABLE, lw=1.0, label="output"
            )
            low, high = targets[:, row].min(), targets[:, row].max()
            room = 0.3 * (high - low) + 1e-3
            axis.set_ylim(low - room, high + room)
            if column == 0:
                axis.set_ylabel(f"output {row + 1}")
        axes[0, column].set_title(name, fontsize="medium")
        axes[-1, column].set_xlabel("time (s)")
    axes[0, -1].legend(frameon=False, fontsize="x-small", loc="upper right", ncols=2)
    return figure


@no_type_check  # it checks its arguments itself
def plot_reservoir(
    rates: Float[Any, "T N"],
    errors: Float[Any, "T"],
    weight_changes: Float[Any, "passes T"],
    *,
    dt: float,
    units: int = 8,
) -> Any:
    """Rates of some units in a run, its error, and how the readout changed in each pass of learning.

    Args:
        rates: of a run.
        errors: mean absolute error of its outputs in each step; or more steps.
        weight_changes: ‖ΔW_out‖ in each step of each pass.
        dt: length of a step [s].
        units: how many units are drawn.

    Returns:
        The figure.

    Raises:
        ValueError: shapes do not fit.
    """
    states, errors, changes = np.asarray(rates), np.asarray(errors), np.asarray(weight_changes)
    if states.ndim != 2 or errors.ndim != 1 or changes.ndim != 2 or not changes.size:
        raise ValueError(
            f"expected rates [time, N], errors [time] and weight_changes [passes, time], got shapes {states.shape}, "
            f"{errors.shape} and {changes.shape}"
        )
    figure, axes = plt.subplots(3, 1, figsize=(7.4, 6.2), layout="constrained", height_ratios=(1.6, 1, 1))
    time = dt * np.arange(1, len(states) + 1)
    for row in range(min(units, states.shape[1])):
        axes[0].plot(time, 0.45 * states[:, row] + row + 1, color=LEADING, lw=0.9)
    axes[0].set_yticks(range(1, min(units, states.shape[1]) + 1))
    axes[0].set(ylabel="unit", xlabel="time (s)", title="rates of some units of the reservoir")
    axes[1].plot(dt * np.arange(1, len(errors) + 1), errors, color=UNSTABLE, lw=1)
    axes[1].set(ylabel="mean |error|", xlabel="time (s)", title="error while it runs by itself")
    steps = np.arange(1, changes.size + 1)
    axes[2].semilogy(steps, np.maximum(changes.ravel(), 1e-12), color=STABLE, lw=0.5)
    for start in np.arange(1, len(changes)) * changes.shape[1]:
        axes[2].axvline(start, color="0.85", lw=0.6, zorder=0)
    axes[2].set(ylabel="‖ΔW_out‖", xlabel="steps of learning (a line begins a pass)", xlim=(0, changes.size))
    for axis in axes[:2]:
        axis.set_xlim(0, dt * max(len(states), len(errors)))
        axis.title.set_fontsize("medium")
    return figure
