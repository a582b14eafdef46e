"""Trials and the activity of a network in them."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float


def plot_trials(
    inputs: Float[Any, "B T U"],
    targets: Float[Any, "B T O"],
    outputs: Float[Any, "B T O"],
    dt: float | None = None,
    num_trials: int = 3,
    figure: Any = None,
) -> Any:
    """Inputs above, targets (dashed) and outputs (solid) below, one column a trial. Time is in steps of
    `dt` [s], or counted in steps where it is None. Returns the figure."""
    inputs, targets, outputs = (np.asarray(a)[:num_trials] for a in (inputs, targets, outputs))
    num_trials = len(inputs)
    figure = figure or plt.figure(figsize=(3 * num_trials, 4), layout="constrained")
    axes = figure.subplots(2, num_trials, sharex=True, sharey="row", squeeze=False)
    time = (1 if dt is None else dt) * np.arange(1, inputs.shape[1] + 1)
    for trial in range(num_trials):
        top, bottom = axes[:, trial]
        top.plot(time, inputs[trial], lw=1.2)
        top.set_title(f"trial {trial + 1}")
        for output, color in enumerate(plt.rcParams["axes.prop_cycle"].by_key()["color"][: outputs.shape[-1]]):
            bottom.plot(time, outputs[trial, :, output], color=color, lw=2, label="output" if not output else None)
            bottom.plot(
                time, targets[trial, :, output], color="black", ls="--", lw=1.2, label=None if output else "target"
            )
        bottom.set_xlabel("time (steps)" if dt is None else "time (s)")
    axes[0, 0].set_ylabel("input (a.u.)")
    axes[1, 0].set_ylabel("output (a.u.)")
    axes[1, 0].legend(frameon=False, loc="best")
    return figure


def plot_units(states: Float[Any, "T N"], dt: float, axes: Any = None, label: str = "activity") -> Any:
    """Activity of all units in one trial as an image, units sorted by the time of their largest magnitude."""
    states = np.asarray(states)
    axes = axes or plt.figure(figsize=(5, 4), layout="constrained").subplots()
    order = np.argsort(np.abs(states).argmax(axis=0), kind="stable")
    limit = np.abs(states).max()
    extent = (dt / 2, dt * (len(states) + 0.5), len(order) + 0.5, 0.5)
    image = axes.imshow(states[:, order].T, aspect="auto", cmap="RdBu_r", vmin=-limit, vmax=limit, extent=extent)
    axes.figure.colorbar(image, ax=axes, label=label)
    axes.set(xlabel="time (s)", ylabel="unit (by time of peak)")
    return axes
