"""Figures of examples/sentiment_context.py."""

from typing import Any


def draw(out: Any, task: Any, history: Any, reviews: Any, outputs: Any, story: Any) -> None:
    """All figures, as PNG in `out`."""
    import _common as common
    import matplotlib.pyplot as plt
    import numpy as np

    from ctd_models.plots import plot_fixed_points, plot_history, plot_mode_angles, plot_review

    common.save_figure(plot_history(history, "mse").figure, out, "loss")
    figure, panels = plt.subplots(3, 1, figsize=(9, 7.5), layout="constrained")
    for i, panel in enumerate(panels):
        words = task.decode(np.asarray(reviews.inputs[i : i + 1]))[0].split()
        plot_review(words, outputs[i, :, 0], reviews.targets[i, :, 0], axes=panel)
    common.save_figure(figure, out, "reviews")
    values = story.readout(story.points.states)
    axes = plot_fixed_points(story.points, values, modes=None, label="readout at the slow point")
    common.save_figure(axes.figure, out, "fixed_points")
    common.save_figure(story_figure(task, story), out, "context")
    common.save_figure(integration_figure(story), out, "removal")
    common.save_figure(strength_figure(story.effects), out, "strength")
    common.save_figure(plot_mode_angles(story.line, story.removals).figure, out, "mode_angles")


def story_figure(task: Any, story: Any) -> Any:
    """The whole story in six panels."""
    import matplotlib.pyplot as plt
    import numpy as np

    from ctd_models.plots import (
        plot_barcodes,
        plot_deflections,
        plot_effect_by_distance,
        plot_mode_angles,
        plot_removal,
    )

    figure, panels = plt.subplots(2, 3, figsize=(13, 7.4), layout="constrained")
    plot_deflections(story.line, story.effects, story.readout, axes=panels[0, 0])
    panels[0, 0].set_title("modifiers leave the line of slow points", fontsize="medium")
    spectrum(story, panels[0, 1])
    plot_mode_angles(story.line, story.removals, axes=panels[0, 2])
    panels[0, 2].set_title("the modes that they excite", fontsize="medium")
    plot_barcodes(story.effects, axes=panels[1, 0])
    panels[1, 0].set_title("barcodes", fontsize="medium")
    lags = np.arange(story.effects.changes.shape[2])
    truth = {word.text: np.where(lags < word.scope, word.factor, 1.0) for word in task.words if word.scope}
    plot_effect_by_distance(story.effects, truth, axes=panels[1, 1])
    panels[1, 1].set_title("how far they reach (dotted: the rules)", fontsize="medium")
    plot_removal(story.removals, story.effects.probes, axes=panels[1, 2])
    panels[1, 2].set_title("the next word, without these modes", fontsize="medium")
    return figure


def spectrum(story: Any, axes: Any) -> None:
    """Eigenvalues at the middle of the line, with the modes near 1 and of each modifier."""
    import numpy as np

    from ctd_models.plots import plot_eigenvalues
    from ctd_models.plots.style import legend_below

    middle = len(story.line) // 2
    values = story.line.eigenvalues[middle]
    plot_eigenvalues(values, axes=axes, color="0.6", label="all modes")
    marks = {"nearest to 1": values[[np.abs(values - 1).argmin()]]}
    marks |= {f"of “{name}”": values[removal.modes[middle]] for name, removal in story.removals.items()}
    for (label, chosen), color in zip(marks.items(), ("black", "#E8380D", "#0072B2"), strict=False):
        axes.plot(chosen.real, chosen.imag, "o", ms=6, color=color, label=label)
    legend_below(axes, columns=2, offset=-0.18)
    axes.set_title("eigenvalues in the middle of the line", fontsize="medium")


def integration_figure(story: Any) -> Any:
    """What "bad" adds to the readout right after a modifier, with and without the modes of the modifier."""
    import matplotlib.pyplot as plt
    import numpy as np

    figure, panels = plt.subplots(1, len(story.integrated), figsize=(9, 3.4), layout="constrained", squeeze=False)
    for axes, (name, ways) in zip(panels[0], story.integrated.items(), strict=True):
        labels = ("bad", f"{name} bad", f"{name} bad, modes of “{name}” removed")
        styles = ({"color": "k"}, {"color": "#E8380D", "marker": "o"}, {"color": "#009E73", "marker": "s", "ls": "--"})
        for way, label, style in zip(ways, labels, styles, strict=True):
            axes.plot(np.arange(len(way)), way, ms=4, label=label, **style)
        axes.set_xticks(np.arange(ways.shape[1]), [name, "bad", *["…"] * (ways.shape[1] - 2)])
        axes.set(ylabel="what “bad” adds to the readout [sentiment]", ylim=(None, ways.max() + 0.5 * np.ptp(ways)))
        axes.legend(frameon=False, fontsize="small", loc="upper right")
    return figure


def strength_figure(effects: Any) -> Any:
    """How large the deflections by modifiers are, and how much they change the input Jacobian, over the following words."""
    import matplotlib.pyplot as plt
    import numpy as np

    figure, panels = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    sizes = np.linalg.norm(effects.deflections, axis=-1)
    labels = (
        "deflection from where rest would lead\n[state units]",
        "change of the input Jacobian,\nshare of its norm",
    )
    for axes, values, label in zip(panels, (sizes, effects.jacobian_changes), labels, strict=True):
        for name, rows, color in zip(effects.modifiers, values, ("#E8380D", "#0072B2", "#E69F00"), strict=False):
            words = 1 + np.arange(rows.shape[1])
            axes.errorbar(
                words, rows.mean(axis=0), rows.std(axis=0), color=color, marker="o", ms=4, label=f"after “{name}”"
            )
        axes.set(xlabel="words from the modifier on", ylabel=label, ylim=(0, None))
        axes.legend(frameon=False, fontsize="small")
    return figure
