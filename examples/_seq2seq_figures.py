"""Figures of the example of sequence to sequence."""

import dataclasses
from typing import Any

LENGTHS = {"addition": "digits of each number", "boxes": "steps of the signal"}


def draw(
    settings: Any, history: Any, pairs: Any, given: Any, by_length: dict[str, Any], reading: Any, dynamics: Any
) -> None:
    """Learning curves, accuracy by length, attention, first states, fixed points: a PNG each, and an overview."""
    import _common as common
    import matplotlib.pyplot as plt

    from ctd_models.plots import plot_initial_states

    tokens = settings.task != "boxes"
    figure, axes = plt.subplots(1, 1 + tokens, figsize=(4.6 * (1 + tokens), 3.3), layout="constrained", squeeze=False)
    for panel, name in zip(axes[0], ("cross_entropy", "sequence_accuracy") if tokens else ("mse",), strict=True):
        learning_curve(history, name, panel)
    common.save_figure(figure, settings.out, "learning_curves")
    common.save_figure(lengths(settings, by_length).figure, settings.out, "accuracy_by_length")
    answers(settings, pairs, given)
    if reading is not None:
        figure = plot_initial_states(reading.states, reading.values, reading.curves)
        common.save_figure(figure, settings.out, "initial_states")
    if dynamics is not None:
        fixed_points(settings, dynamics)

    panels = [
        lambda axes: learning_curve(history, "sequence_accuracy" if tokens else "mse", axes),
        lambda axes: lengths(settings, by_length, axes),
    ]
    if given.attention is not None:
        panels.append(lambda axes: attention(settings, pairs, given, int(pairs.input_lengths.argmax()), axes))
    if dynamics is not None:
        panels.append(lambda axes: decoder_points(dynamics, axes))
    figure, axes = plt.subplots(1, len(panels), figsize=(4.1 * len(panels), 3.8), layout="constrained")
    for draw_into, panel in zip(panels, axes, strict=True):
        draw_into(panel)
    common.save_figure(figure, settings.out, "overview")
    plt.close("all")


def decoder_points(dynamics: Any, axes: Any) -> None:
    """Fixed points of the decoder among its states along answers, by the step whose last output and context are held."""
    from ctd_models.plots import plot_fixed_points

    steps = (
        dynamics.decoder_steps if dynamics.decoder_steps is not None and len(set(dynamics.decoder_steps)) > 1 else None
    )
    options = {"trajectories": dynamics.decoder_states, "dims": 2, "modes": None, "label": "step of the answer"}
    plot_fixed_points(dynamics.decoder, steps, axes=axes, **options)
    axes.set_title("fixed points of the decoder", fontsize="medium")


def learning_curve(history: Any, name: str, axes: Any) -> None:
    """A metric over training; outputs follow the right last ones there."""
    from ctd_models.plots import plot_history

    plot_history(history, name, axes)
    if name == "sequence_accuracy":
        axes.set(ylabel="share of sequences right (teacher forcing)", yscale="linear", ylim=(0, 1.02))
    else:
        axes.set_ylabel({"cross_entropy": "cross-entropy (nats per token)", "mse": "mean squared error"}[name])


def lengths(settings: Any, by_length: dict[str, Any], axes: Any = None) -> Any:
    """Accuracy by length, those beyond training included."""
    from ctd_models.plots import plot_accuracy_by_length

    parts = "steps" if settings.task == "boxes" else "tokens"
    curves = {"whole sequences": by_length["sequence_accuracy"], parts: by_length["token_accuracy"]}
    label = LENGTHS.get(settings.task, "symbols in the sequence")
    longest = None if settings.task == "boxes" else settings.longest
    axes = plot_accuracy_by_length(by_length["length"], curves, longest, label=label, axes=axes)
    if longest is None:
        axes.axvline(settings.longest, color="0.4", ls=":", lw=1.2, label="in training")
        axes.legend(fontsize="small", framealpha=0.9)
    return axes


def attention(settings: Any, pairs: Any, given: Any, i: int, axes: Any) -> None:
    """Where the attention of answer i looked."""
    import numpy as np

    from ctd_models.plots import plot_attention

    if settings.task == "boxes":
        image = plot_attention(
            given.attention[i], labels=("step of the input", "step of the answer"), axes=axes
        ).images[0]
        image.set_clim(0, float(given.attention[i].max()))
        return
    size, said, names = int(pairs.input_lengths[i]), int(given.lengths[i]), {}
    if settings.task == "addition":
        inputs, outputs = np.asarray(pairs.inputs)[i, :size].tolist(), np.asarray(given.outputs)[i, :said].tolist()
        names = {
            "inputs": ["0123456789+"[token - 3] for token in inputs],
            "outputs": ["end" if token == 2 else "0123456789+"[token - 3] for token in outputs],
            "labels": ("input", "answer"),
        }
    plot_attention(given.attention[i, :said, :size], **names, axes=axes)


def answers(settings: Any, pairs: Any, given: Any) -> None:
    """Where attention looked in a short, a middling and a long sequence; of signals also what was answered."""
    import _common as common
    import matplotlib.pyplot as plt
    import numpy as np

    from ctd_models.plots import plot_trials

    if settings.task == "boxes":
        common.save_figure(plot_trials(pairs.inputs, pairs.targets, np.asarray(given.outputs)), settings.out, "answers")
    if given.attention is None:
        return
    figure, axes = plt.subplots(1, 3, figsize=(13, 3.9), layout="constrained")
    length = np.asarray(pairs.input_lengths)
    for panel, quantile in zip(axes, (0.3, 0.65, 1.0), strict=True):
        attention(settings, pairs, given, int(np.abs(length - np.quantile(length, quantile)).argmin()), panel)
    common.save_figure(figure, settings.out, "attention")


def fixed_points(settings: Any, dynamics: Any) -> None:
    """Fixed points of encoder and decoder among the states they visit, and their eigenvalues."""
    import _common as common
    import matplotlib.pyplot as plt

    from ctd_models.plots import plot_eigenvalues, plot_fixed_points

    figure, axes = plt.subplots(2, 2, figsize=(9, 7.6), layout="constrained")
    plot_fixed_points(dynamics.encoder, trajectories=dynamics.encoder_states, dims=2, modes=None, axes=axes[0, 0])
    axes[0, 0].set_title("fixed points of the encoder", fontsize="medium")
    decoder_points(dynamics, axes[0, 1])
    given = ["last output"] * (settings.task != "boxes") + ["context"] * (settings.attention != "none")
    held = ("one input", " and ".join(given) or "nothing")
    for panel, points, what in zip(axes[1], (dynamics.encoder, dynamics.decoder), held, strict=True):
        if len(points):
            plot_eigenvalues(points, axes=panel, ms=2, time_constants=(1, 10))
            panel.set_title(f"eigenvalues, {what} held", fontsize="medium")
    common.save_figure(figure, settings.out, "fixed_points")
    large = dict.fromkeys(("jacobians", "input_jacobians", "left_eigenvectors", "right_eigenvectors"))
    for name, points in (("encoder", dynamics.encoder), ("decoder", dynamics.decoder)):
        dataclasses.replace(points, **large).save(settings.out / f"{name}_fixed_points.h5")
