"""Models of sequences: where attention looks, how far they carry, what the first state of a decoder knows."""

from collections.abc import Mapping, Sequence
from typing import Any, no_type_check

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float

from ctd_models.analysis import PCA
from ctd_models.plots.style import PALETTE

COLORS = (*PALETTE[2:], *PALETTE[:2])  # black and red, which say stable and unstable, last


@no_type_check  # it checks its arguments itself
def plot_attention(
    weights: Float[Any, "T S"],
    *,
    inputs: Sequence[str] | None = None,
    outputs: Sequence[str] | None = None,
    labels: tuple[str, str] = ("place in the input", "place in the answer"),
    axes: Any = None,
) -> Any:
    """Weights of the attention as an image: a row for each output, a column for each place of the input.

    Args:
        weights: of one sequence, each row adds up to 1.
        inputs: what stands at each place of the input [S]; None: places are counted.
        outputs: what is put out at each step [T].
        labels: of the horizontal and of the vertical axis.
        axes: axes to draw into.

    Raises:
        ValueError: weights that are no matrix of weights, or names that are too many or too few.
    """
    weights = np.asarray(weights)
    if weights.ndim != 2 or 0 in weights.shape or not np.isfinite(weights).all() or weights.min() < 0:
        raise ValueError(f"expected weights [outputs, inputs] of at least 0, got shape {weights.shape}")
    for names, size, what in ((inputs, weights.shape[1], "inputs"), (outputs, weights.shape[0], "outputs")):
        if names is not None and len(names) != size:
            raise ValueError(f"expected {size} names of {what}, got {len(names)}")
    axes = axes or plt.figure(figsize=(4.4, 3.8), layout="constrained").subplots()
    T, S = weights.shape
    extent = (0.5, S + 0.5, T + 0.5, 0.5)
    image = axes.imshow(weights, vmin=0, vmax=1, cmap="magma", aspect="auto", extent=extent, interpolation="nearest")
    axes.figure.colorbar(image, ax=axes, label="weight")
    axes.set(xlabel=labels[0], ylabel=labels[1])
    for names, axis in ((inputs, axes.xaxis), (outputs, axes.yaxis)):
        if names is None:
            axis.set_major_locator(plt.MaxNLocator(integer=True))
        else:
            axis.set_ticks(np.arange(1, len(names) + 1), names)
    return axes


@no_type_check  # it checks its arguments itself
def plot_accuracy_by_length(
    lengths: Sequence[int],
    accuracies: Mapping[str, Float[Any, "n"]],
    longest: int | None = None,
    *,
    label: str = "length of the sequence",
    axes: Any = None,
) -> Any:
    """Curves of accuracy (0 to 1) over lengths; those that were trained lie left of a line at `longest`.

    Raises:
        ValueError: a curve has not one value for each length.
    """
    axes = axes or plt.figure(figsize=(4.8, 3.4), layout="constrained").subplots()
    for i, (name, values) in enumerate(accuracies.items()):
        if np.shape(values) != np.shape(lengths):
            raise ValueError(f"expected {len(lengths)} values of {name!r}, one for each length, got {np.shape(values)}")
        axes.plot(lengths, values, ".-", color=COLORS[i % len(COLORS)], label=name, clip_on=False)
    if longest is not None:
        axes.axvline(longest, color="0.4", ls=":", lw=1.2, label="longest in training")
    axes.set(xlabel=label, ylabel="share that is right", ylim=(0, 1.02))
    axes.legend(fontsize="small", framealpha=0.9)
    return axes


@no_type_check  # it checks its arguments itself
def plot_initial_states(
    states: Float[Any, "n d"],
    values: Mapping[str, Float[Any, "n"]],
    curves: Mapping[str, Mapping[str, tuple[Sequence[Any], Float[Any, "k"]]]] | None = None,
    *,
    figure: Any = None,
) -> Any:
    """What the states from which decoding begins know: their principal components, coloured by contents of the sequences,
    and how well a linear reader gets contents from them. Returns the figure.

    Args:
        states: flat, of n sequences.
        values: name → what each sequence is coloured by, a panel each.
        curves: panels of readers: label of the abscissa → name of a curve → (abscissa, R² of the reader; NaN where there is
            nothing to read). An abscissa beyond 30 is logarithmic.
        figure: figure to draw into.

    Raises:
        ValueError: values that are not one for each state.
    """
    states = np.asarray(states)
    for name, each in values.items():
        if np.shape(each) != states.shape[:1]:
            raise ValueError(f"expected {len(states)} values of {name!r}, one for each state, got {np.shape(each)}")
    curves = curves or {}
    panels = len(values) + len(curves)
    figure = figure or plt.figure(figsize=(4.2 * panels, 3.6), layout="constrained")
    axes = figure.subplots(1, panels, squeeze=False)[0]
    pca = PCA.fit(states, 2)
    x, y = pca.transform(states).T
    for panel, (name, each) in zip(axes, values.items(), strict=False):
        dots = panel.scatter(x, y, c=np.asarray(each), s=5, cmap="viridis", linewidths=0)
        whole = np.array_equal(each, np.round(each))
        figure.colorbar(dots, ax=panel, label=name, ticks=plt.MaxNLocator(6, integer=whole))
        first, second = (
            f"PC {i + 1} ({share:.0%} of the variance)" for i, share in enumerate(pca.explained_variance_ratio)
        )
        panel.set(xlabel=first, ylabel=second)
    for panel, (label, group) in zip(axes[len(values) :], curves.items(), strict=True):
        for i, (name, (places, r2)) in enumerate(group.items()):
            panel.plot(places, r2, "o-", ms=4, color=COLORS[i % len(COLORS)], label=name)
        panel.axhline(0, color="0.6", lw=0.8)
        lowest = min(0.0, np.nanmin([np.nanmin(r2) for _, r2 in group.values()]))
        panel.set(xlabel=label, ylabel="R² of a linear reader", ylim=(max(-1.0, lowest) - 0.03, 1.03))
        if max(max(places) for places, _ in group.values()) > 30:
            panel.set_xscale("log")
        else:
            panel.xaxis.set_major_locator(plt.MaxNLocator(integer=True))
        panel.legend(fontsize="small", framealpha=0.9)
    return figure
