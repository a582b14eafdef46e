"""Figures of examples/context_integration.py."""

from typing import Any


def draw(settings: Any, task: Any, history: Any, story: Any, curves: Any) -> None:
    """All figures, as PNG."""
    import _common as common
    import matplotlib.pyplot as plt

    from ctd_models.plots import plot_eigenvalues, plot_history

    out = settings.out
    common.save_figure(plot_history(history, "mse").figure, out, "loss")
    common.save_figure(trajectories(story), out, "trajectories")
    figure, panels = plt.subplots(1, 2, figsize=(9, 4.2), layout="constrained")
    for panel, (name, points) in zip(panels, story.points.items(), strict=True):
        plot_eigenvalues(points, values=story.readouts[name], value_label="readout", axes=panel)
        panel.set_title(f"context: {name}")
    common.save_figure(figure, out, "eigenvalues")
    common.save_figure(selection(story), out, "selection")
    if curves is not None:
        common.save_figure(psychometric_curves(task, curves), out, "psychometric")


def psychometric_curves(task: Any, curves: Any) -> Any:
    """Choices against both coherences in both contexts, with the ideal integrator."""
    import _context as context
    import matplotlib.pyplot as plt
    import numpy as np

    figure, panels = plt.subplots(1, 2, figsize=(8.4, 3.6), layout="constrained", sharey=True)
    levels, fine = 100 * context.signed(task), np.linspace(-0.16, 0.16, 200)
    ideal = np.asarray(task.ideal_accuracy(fine))
    for i, (panel, (name, rows)) in enumerate(zip(panels, curves.items(), strict=True)):
        panel.plot(100 * fine, np.where(fine > 0, ideal, 1 - ideal), color="0.7", label="ideal, relevant")
        for kind, (row, color) in enumerate(zip(rows, ("black", "#0072B2"), strict=True)):
            what = "relevant" if kind == i else "irrelevant"
            panel.plot(levels, row, "o-", ms=4, lw=1, color=color, label=f"{context.CONTEXTS[kind]} ({what})")
        panel.set(title=f"context: {name}", xlabel="coherence [%]")
        panel.legend(frameon=False, fontsize="small")
    panels[0].set_ylabel("share of choices +1")
    return figure


def trajectories(story: Any) -> Any:
    """Mean trajectories by relevant evidence, and the slow points, along choice and evidence."""
    import matplotlib.pyplot as plt
    import numpy as np

    figure, panels = plt.subplots(2, 2, figsize=(9, 7.6), layout="constrained")
    for row, (name, points) in zip(panels, story.points.items(), strict=True):
        line = story.axes.transform(points.states)
        for panel, kind in zip(row, (1, 2), strict=True):
            colors = plt.get_cmap("coolwarm")(np.linspace(0, 1, len(story.levels[name])))
            for way, level, color in zip(story.averages[name], story.levels[name], colors, strict=True):
                panel.plot(
                    way[:, 0], way[:, kind], color=color, lw=1.2, marker=".", ms=2.5, label=f"{100 * level:.1f} %"
                )
            panel.plot(line[:, 0], line[:, kind], "x", color="black", ms=3.5, label="slow points")
            panel.set(xlabel="choice [state units]", ylabel=f"{story.axes.names[kind]} [state units]")
            panel.set_title(f"context: {name}")
    panels[0, 1].legend(frameon=False, fontsize="x-small", title="relevant evidence", title_fontsize="x-small")
    return figure


def selection(story: Any) -> Any:
    """What the selection vector lets through of motion and colour along the line of each context."""
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(8.4, 3.4), layout="constrained", sharey=True)
    for panel, (name, through) in zip(panels, story.weights.items(), strict=True):
        for kind, color in enumerate(("black", "#0072B2")):
            panel.plot(story.readouts[name], through[:, kind], ".", color=color, label=("motion", "color")[kind])
        panel.set(title=f"context: {name}", xlabel="readout at the slow point")
        panel.legend(frameon=False)
    panels[0].set_ylabel("|selection vector · input|")
    return figure
