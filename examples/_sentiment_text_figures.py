"""Figures of examples/sentiment_text.py."""

from typing import Any


def draw(out: Any, scores: dict[str, list[float]], story: Any) -> None:
    """All figures, as PNG in `out`."""
    import _common as common
    import matplotlib.pyplot as plt

    from ctd_models.plots import plot_barcodes, plot_effect_by_distance, plot_eigenvalues, plot_fixed_points

    figure, panels = plt.subplots(1, 3, figsize=(13, 4.2), layout="constrained", width_ratios=(1, 1.4, 1.1))
    plot_scores(scores, panels[0])
    plot_words(story.words, story.weights, panels[1])
    plot_effect_by_distance(story.effects, axes=panels[2])
    panels[2].set_title(f"effect of a modifier on {len(story.effects.probes)} words", fontsize="medium")
    common.save_figure(figure, out, "text")
    common.save_figure(plot_barcodes(story.effects).figure, out, "barcodes")
    label = "readout at the slow point [log odds]"
    axes = plot_fixed_points(story.points, story.values, modes=None, label=label)
    common.save_figure(axes.figure, out, "fixed_points")
    middle = abs(story.values).argmin()
    common.save_figure(plot_eigenvalues(story.points.eigenvalues[middle]).figure, out, "eigenvalues")


def plot_scores(scores: dict[str, list[float]], axes: Any) -> None:
    """Accuracy in each fold, and the mean."""
    import numpy as np

    named = {"gru": "GRU", "bag_of_words": "bag of words", "modified_bag_of_words": "bag of words,\nwith modifiers"}
    names = [named[name] for name in scores]
    values = np.array(list(scores.values()))
    axes.plot(values, color="0.75", lw=0.8, marker=".", label=["a fold", *[None] * (values.shape[1] - 1)])
    axes.plot(values.mean(axis=1), "o", color="black", ms=7, ls="none", label="mean of folds")
    axes.set_xticks(range(len(names)), names, fontsize="small")
    axes.set(ylabel="accuracy on held-out sentences", xlim=(-0.5, len(names) - 0.5))
    axes.legend(frameon=False, fontsize="small")


def plot_words(words: dict[str, float], weights: dict[str, float], axes: Any, most: int = 8) -> None:
    """What each word adds to the network's readout, against its weight in the bag of words."""
    import numpy as np

    across, up, names = np.array([*weights.values()]), np.array([*words.values()]), list(words)
    axes.axhline(0, color="0.8", lw=0.8)
    axes.axvline(0, color="0.8", lw=0.8)
    axes.plot(across, up, ".", color="#0072B2", ms=4)
    order, gap, most = np.argsort(up), 0.045 * np.ptp(up), min(most, len(up) // 2)
    for chosen, side, column in ((order[:most], 1, 0.3 * across.max()), (order[-most:][::-1], -1, 0.3 * across.min())):
        heights = up[chosen[0]] + side * gap * np.arange(most)  # names apart from one another, the strongest outermost
        heights = np.maximum(heights, up[chosen]) if side > 0 else np.minimum(heights, up[chosen])
        heights = side * np.maximum.accumulate(side * heights)
        for k in range(1, most):
            heights[k] = side * max(side * heights[k], side * heights[k - 1] + gap)
        for i, height in zip(chosen, heights, strict=True):
            arrow = {"arrowstyle": "-", "lw": 0.3, "color": "0.7"}
            options = {"fontsize": "x-small", "va": "center", "ha": "left" if side > 0 else "right"}
            axes.annotate(names[i], (across[i], up[i]), xytext=(column, height), arrowprops=arrow, **options)
    axes.set(
        xlabel="weight in the bag of words [log odds]", ylabel="what it adds to the\nreadout of the GRU [log odds]"
    )
