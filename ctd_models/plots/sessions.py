"""Several recording sessions: decoders within and across them, and their aligned factors."""

from collections.abc import Mapping, Sequence
from typing import Any, no_type_check

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float, Int, Shaped

from ctd_models.analysis.conditions import condition_means
from ctd_models.analysis.latents.pca import PCA
from ctd_models.analysis.session_decoding import SessionR2
from ctd_models.plots.factors import plot_factors
from ctd_models.plots.style import PALETTE


@no_type_check  # it checks its arguments itself
def plot_session_scores(scores: Mapping[str, Mapping[str, SessionR2]], label: str = "R² on test trials") -> Any:
    """R² by method, one panel for each behaviour: dots are sessions × dims, bars their medians with 95 % intervals.

    An arrow at the lower end is a value below it.

    Args:
        scores: behaviour → method → scores.
        label: of the axis.

    Returns:
        The figure.

    Raises:
        ValueError: there are no scores.
    """
    if not scores or not all(scores.values()):
        raise ValueError("there are no scores")
    methods = list(dict.fromkeys(method for of_method in scores.values() for method in of_method))
    size = (max(4.0, 0.55 * len(methods) + 1.2) * len(scores), 4.4)
    figure, axes = plt.subplots(1, len(scores), figsize=size, layout="constrained", squeeze=False)
    for axis, (behavior, of_method) in zip(axes[0], scores.items(), strict=True):
        lowest = min(0.0, min(found.median for found in of_method.values())) - 0.05
        for x, (method, found) in enumerate(of_method.items()):
            color = PALETTE[(methods.index(method) + 1) % len(PALETTE)]
            shift = np.linspace(-0.22, 0.22, len(found.r2))[:, None] + np.zeros(found.r2.shape)
            places, values = x + shift.ravel(), found.r2.ravel()
            axis.plot(places, values, "o", ms=3.5, color=color, alpha=0.5, mew=0)
            outside = places[values < lowest]  # an arrow at the lower end for each that lies below it
            axis.plot(outside, np.full(len(outside), lowest + 0.02), "v", ms=4, color=color, alpha=0.7, mew=0)
            axis.hlines(found.median, x - 0.33, x + 0.33, color=color, lw=2.5)
            if len(found.resampled):
                axis.vlines(x, *found.interval(), color=color, lw=1.2)
            axis.annotate(f"{found.median:.2f}", (x, 1.02), ha="center", fontsize="small", color=color)
        axis.set_xticks(range(len(of_method)), of_method, rotation=40, ha="right", rotation_mode="anchor")
        axis.set(ylim=(lowest, 1.09), ylabel=label if axis is axes[0, 0] else None)
        axis.set_title(behavior, fontsize="medium")
    return figure


@no_type_check  # it checks its arguments itself
def plot_transfer(
    across: Float[Any, "fitted used dims"], names: Sequence[str], title: str | None = None, axes: Any = None
) -> Any:
    """R² (mean over dims) of the decoder fitted on one session, the row, and used on another, the column. Returns the axes.

    Raises:
        ValueError: shapes do not fit.
    """
    values = np.asarray(across, float)
    if values.ndim != 3 or values.shape[0] != values.shape[1] or len(names) != len(values):
        raise ValueError(
            f"expected across [sessions, sessions, dims] and their names, got {values.shape}, {len(names)}"
        )
    values = values.mean(axis=2)
    longest = max(map(len, map(str, names)))
    size = 1.6 + 0.6 * len(values) + 0.06 * longest
    axes = axes or plt.figure(figsize=(size + 0.9, size), layout="constrained").subplots()
    image = axes.imshow(values, vmin=0, vmax=1, cmap="viridis")
    for (row, column), value in np.ndenumerate(values):
        color = "white" if value < 0.65 else "black"
        axes.annotate(f"{value:.2f}", (column, row), ha="center", va="center", color=color, fontsize="small")
    upright = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if longest > 6 else {}
    axes.set_xticks(range(len(names)), names, **upright)
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="used on session", ylabel="fitted on session")
    axes.set_title(title, fontsize="medium")
    axes.figure.colorbar(
        image, ax=axes, label="R² on test trials", shrink=0.8, extend="min" if values.min() < 0 else "neither"
    )
    return axes


@no_type_check  # it checks its arguments itself
def plot_aligned_factors(
    factors: Float[Any, "trials time F"],
    sessions: Int[Any, "trials"],
    conditions: Shaped[Any, "trials"] | None = None,
    names: Sequence[str] | None = None,
    *,
    circular: bool = False,
) -> Any:
    """Average factors of each session and condition in three principal components: coloured by session, and by condition.

    Args:
        factors: of all trials.
        sessions: number of the session of each trial.
        conditions: of each trial; None: unknown, one average a session.
        names: of the sessions.
        circular: colours of conditions close in a circle, for directions.

    Returns:
        The figure.

    Raises:
        ValueError: shapes do not fit.
    """
    factors, sessions = np.asarray(factors, float), np.asarray(sessions)
    labels = np.zeros(len(sessions), int) if conditions is None else np.asarray(conditions)
    if factors.ndim != 3 or not factors.shape[:1] == sessions.shape == labels.shape:
        raise ValueError(
            f"expected factors [trials, time, F], one session and one condition a trial, got {factors.shape}, "
            f"{sessions.shape} and {labels.shape}"
        )
    if names is not None and len(names) <= sessions.max():
        raise ValueError(f"expected a name for each of {sessions.max() + 1} sessions, got {len(names)}")
    means, of_session, of_condition = [], [], []
    for number in np.unique(sessions):
        mine = sessions == number
        found, average = condition_means(factors[mine], labels[mine])
        means.append(average)
        of_session += [number] * len(found)
        of_condition += list(found)
    means = np.concatenate(means)
    pca = PCA.fit(means.reshape(-1, means.shape[2]), min(3, means.shape[2]))
    shown = 1 if conditions is None else 2
    figure = plt.figure(figsize=(5.6 * shown + 0.6, 4.6), layout="constrained")
    common = {"averages": False, "pca": pca, "num_trials": len(means), "linewidth": 1.2}
    left = figure.add_subplot(1, shown, 1, projection="3d")
    shown_names = np.array(of_session) if names is None else np.array([names[number] for number in of_session])
    plot_factors(means, shown_names, label="session", axes=left, **common)
    if conditions is not None:
        right = figure.add_subplot(1, shown, 2, projection="3d")
        plot_factors(means, np.array(of_condition), label="condition", circular=circular, axes=right, **common)
    return figure
