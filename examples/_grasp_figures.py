"""Figures of examples/modular_grasp.py."""

from typing import Any


def draw(out: Any, history: Any, problem: Any, story: Any) -> None:
    """All figures, as PNG, and one that has them all."""
    import _common as common
    import matplotlib.pyplot as plt

    from ctd_models.plots import plot_history

    common.save_figure(plot_history(history, "mse").figure, out, "loss")
    sizes = {
        "trials": (9, 4.5),
        "trajectories": (10, 3.4),
        "variance": (5, 3.6),
        "lesions": (5, 3.6),
        "latents": (5, 3.9),
    }
    panels = dict(zip(sizes, (trials, trajectories, variance, lesions, latents), strict=True))
    for name, draw_panel in panels.items():
        draw_panel(figure := plt.figure(figsize=sizes[name], layout="constrained"), problem, story)
        common.save_figure(figure, out, name)
        plt.close(figure)
    figure = plt.figure(figsize=(11, 9.6), layout="constrained")
    rows = figure.subfigures(3, 1, height_ratios=(1.25, 1, 1.05))
    columns = rows[2].subfigures(1, 3, width_ratios=(1, 1.15, 1))
    for name, place in zip(panels, (*rows[:2], *columns), strict=True):
        panels[name](place, problem, story)
    common.save_figure(figure, out, "overview")


def trials(figure: Any, problem: Any, story: Any, count: int = 4, muscles: int = 4) -> None:
    """Inputs above, kinematics below, of trials with different objects."""
    import numpy as np

    time = problem.dt * (1 + np.arange(story.outputs.shape[1]))
    first = np.unique(problem.objects, return_index=True)[1]
    chosen = first[np.linspace(0, len(first) - 1, min(count, len(first))).astype(int)]
    targets, inputs = np.asarray(problem.aligned.targets), np.asarray(problem.aligned.inputs)
    shown = np.argsort(-targets.var(axis=(0, 1)))[:: max(1, targets.shape[-1] // muscles)][:muscles]
    panels = figure.subplots(2, len(chosen), sharex=True, sharey="row", squeeze=False, height_ratios=(1, 1.5))
    for trial, (top, bottom) in zip(chosen, panels.T, strict=True):
        top.plot(time, inputs[trial, :, :-1], lw=0.8, label=["other inputs"] + [None] * (inputs.shape[2] - 2))
        top.plot(time, inputs[trial, :, -1], color="black", lw=1.6, label=problem.labels[0])
        top.set_title(f"object {problem.objects[trial]}", fontsize="medium")
        for muscle, color in zip(shown, ("C0", "C1", "C2", "C3"), strict=False):
            bottom.plot(time, story.outputs[trial, :, muscle], color=color, lw=1.8, label=f"output {muscle + 1}")
            bottom.plot(time, targets[trial, :, muscle], "k--", lw=1, label="target" if muscle == shown[-1] else None)
        bottom.set_xlabel("time [s]")
        mark(top, problem)
        mark(bottom, problem)
    panels[0, 0].set_ylabel("inputs [a.u.]")
    panels[1, 0].set_ylabel(problem.labels[1])
    for panel, corner in ((panels[0, -1], "upper right"), (panels[1, 0], "upper left")):
        panel.legend(frameon=False, fontsize="x-small", loc=corner)


def trajectories(figure: Any, problem: Any, story: Any) -> None:
    """The averages of each object in the first two principal components of each module, with the epochs' ends."""
    import matplotlib.pyplot as plt
    import numpy as np

    from ctd_models.analysis import PCA

    panels = figure.subplots(1, len(story.averages), squeeze=False)[0]
    ends = {name: steps.stop - 1 for name, steps in problem.epochs.items()}
    for panel, (name, averages) in zip(panels, story.averages.items(), strict=True):
        ways = (pca := PCA.fit(averages, 2)).transform(averages)
        colors = plt.get_cmap("turbo")(np.linspace(0.05, 0.95, len(ways)))
        for way, color in zip(ways, colors, strict=True):
            panel.plot(*way.T, color=color, lw=0.7)
        for (epoch, end), marker in zip(ends.items(), "osv^D", strict=False):
            style = {"s": 11, "marker": marker, "edgecolors": "black", "linewidths": 0.5, "zorder": 3}
            panel.scatter(*ways[:, end].T, color=colors, label=f"end of {epoch}", **style)
        first, second = 100 * pca.explained_variance_ratio
        panel.set(title=name, xlabel=f"PC 1 of rates ({first:.0f} %)", ylabel=f"PC 2 of rates ({second:.0f} %)")
    handles, labels = panels[0].get_legend_handles_labels()
    place = {"loc": "outside lower center", "ncols": len(handles), "frameon": False, "fontsize": "small"}
    legend = figure.legend(handles, labels, **place)
    for handle in legend.legend_handles:
        handle.set_facecolor("white")


def variance(figure: Any, problem: Any, story: Any) -> None:
    """What the object brings, and what is common to all objects, over the trial."""
    import numpy as np

    panel = figure.subplots()
    time = problem.dt * np.arange(1, 1 + story.outputs.shape[1])
    for i, (name, found) in enumerate(story.variances.items()):
        total = found.total.sum()
        panel.plot(time, found.condition_course.sum(axis=1) / total, color=f"C{i}", label=f"{name}, object")
        panel.plot(time, found.time_course.sum(axis=1) / total, color=f"C{i}", ls=":", lw=1.2, label=f"{name}, time")
    mark(panel, problem, names=True)
    panel.set(
        xlabel="time [s]",
        ylabel="variance over objects (—), of the mean (···)\nrelative to all variance",
        ylim=(0, None),
    )
    panel.legend(frameon=False, fontsize="x-small", ncols=2, loc="upper left")
    panel.set_ylim(0, 1.3 * panel.get_ylim()[1])


def lesions(figure: Any, problem: Any, story: Any) -> None:
    """Errors without links."""
    panel = figure.subplots()
    names = ["nothing", *(name.replace("_to_", " → ") for name in story.lesions if name != "none")]
    names = [{"feedforward": "all feed-forward", "feedback": "all feedback"}.get(name, name) for name in names]
    colors = ["C0"] * (len(names) - 3) + ["C3"] * 2 + ["0.5"]
    bars = panel.barh(names[::-1], list(story.lesions.values())[::-1], color=colors)
    panel.bar_label(bars, fmt="%.3f", fontsize="small", padding=2)
    panel.axvline(1, color="0.7", lw=0.8, ls=":", zorder=0)
    panel.set(xlabel="normalised error (1: the mean)", ylabel="links cut")
    panel.margins(x=0.2)


def latents(figure: Any, problem: Any, story: Any) -> None:
    """Mean canonical correlations on objects that the directions were not fitted on."""
    import numpy as np

    rows = list(story.averages)
    columns = list(dict.fromkeys([*rows, *(b for _, b in story.comparisons)]))
    values, panel = np.full((len(rows), len(columns)), np.nan), figure.subplots()
    for (a, b), found in story.comparisons.items():
        for row, column in ((a, b), (b, a)) if b in rows else ((a, b),):
            place = rows.index(row), columns.index(column)
            values[place] = found.held_out.mean()
            text = f"{found.held_out.mean():.2f}"
            if len(columns) < 4:
                text += f"\n(fit {found.correlations.mean():.2f},\nchance {found.null.mean():.2f})"
            style = {"ha": "center", "va": "center", "color": "white" if values[place] < 0.6 else "black"}
            panel.text(*place[::-1], text, fontsize="x-small", **style)
    image = panel.imshow(values, vmin=0, vmax=1, cmap="viridis")
    figure.colorbar(image, ax=panel, label="canonical correlation, held-out objects", shrink=0.85)
    panel.set(xticks=range(len(columns)), yticks=range(len(rows)), yticklabels=rows)
    names = [name.replace("recorded_", "recorded ") for name in columns]
    panel.set_xticklabels(names, **({"rotation": 35, "ha": "right"} if len(columns) > 3 else {}))


def mark(panel: Any, problem: Any, names: bool = False) -> None:
    """Lines between epochs."""
    for name, steps in problem.epochs.items():
        if steps.start:
            panel.axvline(problem.dt * steps.start, color="0.7", lw=0.8, zorder=0)
        if names:
            where = {"ha": "center", "va": "bottom", "fontsize": "x-small", "color": "0.3"}
            middle = problem.dt * (steps.start + steps.stop) / 2
            panel.text(middle, 1.01, name, transform=panel.get_xaxis_transform(), **where)
