"""The course of training."""

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np


def plot_history(history: Mapping[str, np.ndarray], metric: str = "loss", axes: Any = None, window: int = 50) -> Any:
    """A metric over training steps, its running mean over `window` steps, and its validation values where there are any."""
    axes = axes or plt.figure(figsize=(5, 3.5), layout="constrained").subplots()
    steps, values = history["step"], history[metric]
    axes.plot(steps, values, color="0.75", lw=0.6, label="batch")
    if len(values) > window:
        mean = np.convolve(values, np.ones(window) / window, mode="valid")
        axes.plot(steps[window - 1 :], mean, color="C0", lw=1.6, label=f"mean of {window}")
    if f"validation/{metric}" in history:
        validation = history[f"validation/{metric}"]
        axes.plot(history["validation/step"], validation, "o-", color="C1", ms=3, label="validation")
    axes.set(xlabel="training step", ylabel=metric, yscale="log" if np.min(values) > 0 else "linear")
    axes.legend(frameon=False)
    return axes
