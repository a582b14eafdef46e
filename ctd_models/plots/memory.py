"""How a value is held over a delay."""

from typing import Any, no_type_check

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float

from ctd_models.analysis import PCA, MemoryMechanism


@no_type_check  # it checks its arguments itself
def plot_memory(
    mechanism: MemoryMechanism,
    states: Float[Any, "n time d"],
    values: Float[Any, "n *k"],
    *,
    axes: Any = None,
    first: bool = True,
    num_trajectories: int = 40,
) -> Any:
    """The evidence for a mechanism of memory, in three panels. Returns the figure.

    Above, the states of the delay along their principal components: ways as lines, their ends as dots, coloured by value (an
    angle where it has two components). In the middle, the distance of each end from that of the next lower value, so that
    the steps between discrete attractors stand out. Below, how well a reader of one time reads at another.

    Args:
        mechanism: of `memory_mechanism`.
        states: during the delay.
        values: that are held, [n] or [n, k].
        axes: three panels; None: a new figure.
        first: whether this is the first of several columns, which has the labels of the vertical axes.
        num_trajectories: most ways to draw.
    """
    states, values = np.asarray(states), np.asarray(values)
    values = values[:, None] if values.ndim == 1 else values
    if states.ndim != 3 or values.ndim != 2 or len(values) != len(states):
        raise ValueError(
            f"expected states [n, time, d] and values [n, k] of one n, got shapes {states.shape} and {values.shape}"
        )
    if axes is None:
        axes = plt.figure(figsize=(3.4, 8.2), layout="constrained").subplots(3)
    circular = values.shape[1] == 2
    shown = np.arctan2(values[:, 1], values[:, 0]) if circular else values[:, 0]
    label, cmap = ("angle held (rad)", "twilight") if circular else ("value held", "viridis")
    normed = plt.Normalize(shown.min(), shown.max())
    places = PCA.fit(states, 2).transform(states)
    for i in np.linspace(0, len(states) - 1, min(num_trajectories, len(states))).astype(int):
        axes[0].plot(*places[i].T, color=plt.get_cmap(cmap)(normed(shown[i])), lw=0.7, alpha=0.6)
    dots = axes[0].scatter(*places[:, -1].T, c=shown, cmap=cmap, norm=normed, s=14, zorder=3)
    axes[0].figure.colorbar(dots, ax=axes[0], label=label, location="bottom", shrink=0.9)
    axes[0].set(xlabel="PC 1")
    axes[0].axis("equal")
    order = np.argsort(shown)
    apart = np.linalg.norm(np.diff(states[order, -1], axis=0), axis=1)
    axes[1].plot((shown[order][1:] + shown[order][:-1]) / 2, apart, ".-", lw=0.8, ms=4)
    axes[1].set(xlabel=label, ylim=(0, 1.1 * max(apart.max(), 1e-2 * np.ptp(places))))
    edges = (mechanism.times[0], mechanism.times[-1])
    image = axes[2].imshow(
        np.clip(mechanism.cross_decoding, 0, 1), origin="lower", extent=(*edges, *edges), vmin=0, vmax=1, aspect="equal"
    )
    axes[2].figure.colorbar(image, ax=axes[2], label="R² (0 where negative)", location="bottom", shrink=0.9)
    axes[2].set(xlabel="read at (step of the delay)")
    if first:
        axes[0].set_ylabel("PC 2")
        axes[1].set_ylabel("distance between the end states\nof neighbouring values")
        axes[2].set_ylabel("reader of (step of the delay)")
    return axes[0].figure
