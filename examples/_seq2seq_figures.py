"""Figures of the example of sequence to sequence."""

from typing import Any

LENGTHS = {"addition": "digits of each number", "boxes": "steps of the signal"}


def draw(
    settings: Any, history: Any, pairs: Any, given: Any, by_length: dict[str, Any], reading: Any, dynamics: Any
) -> None:
    """Learning curves, accuracy by length, answers and attention, first states, fixed points: a PNG each."""
    import _common as common
    import matplotlib.pyplot as plt

    from ctd_models.plots import plot_accuracy_by_length, plot_history, plot_initial_states

    tokens = "sequence_accuracy" in history
    names = ("cross_entropy", "sequence_accuracy") if tokens else ("mse",)
    figure, axes = plt.subplots(1, len(names), figsize=(4.6 * len(names), 3.3), layout="constrained", squeeze=False)
    for panel, name in zip(axes[0], names, strict=True):
        plot_history(history, name, panel)
    axes[0, 0].set_ylabel("cross-entropy (nats per token)" if tokens else "mean squared error")
    if tokens:
        axes[0, 1].set(ylabel="sequences that are right, taught", yscale="linear", ylim=(0, 1.02))
    common.save_figure(figure, settings.out, "learning_curves")

    curves = {
        "whole sequences": by_length["sequence_accuracy"],
        "tokens" if tokens else "steps": by_length["token_accuracy"],
    }
    label = LENGTHS.get(settings.task, "symbols in the sequence")
    axes = plot_accuracy_by_length(by_length["length"], curves, settings.longest, label=label)
    common.save_figure(axes.figure, settings.out, "accuracy_by_length")
    (answers if tokens else signals)(settings, pairs, given)
    if reading is not None:
        common.save_figure(
            plot_initial_states(reading.states, reading.values, reading.curves), settings.out, "initial_states"
        )
    if dynamics is not None:
        fixed_points(settings, dynamics)
    plt.close("all")


def answers(settings: Any, pairs: Any, given: Any) -> None:
    """Where attention looked in a short, a middling and a long sequence."""
    import _common as common
    import matplotlib.pyplot as plt
    import numpy as np

    from ctd_models.plots import plot_attention

    if given.attention is None:
        return
    lengths = np.asarray(pairs.input_lengths)
    chosen = [int(np.abs(lengths - np.quantile(lengths, q)).argmin()) for q in (0.3, 0.65, 1.0)]
    figure, axes = plt.subplots(1, 3, figsize=(13, 3.9), layout="constrained")
    for panel, i in zip(axes, chosen, strict=True):
        size, said = lengths[i], int(given.lengths[i])
        names = {}
        if settings.task == "addition":
            names = {
                "inputs": ["0123456789+"[token - 3] for token in np.asarray(pairs.inputs)[i, :size]],
                "labels": ("input", "answer"),
                "outputs": [
                    {2: "end"}.get(t, "0123456789+"[t - 3]) for t in np.asarray(given.outputs)[i, :said].tolist()
                ],
            }
        plot_attention(given.attention[i, :said, :size], **names, axes=panel)
    common.save_figure(figure, settings.out, "attention")


def signals(settings: Any, pairs: Any, given: Any) -> None:
    """Signals, what was wanted, what was answered, and where attention looked."""
    import _common as common
    import matplotlib.pyplot as plt
    import numpy as np

    from ctd_models.plots import plot_attention, plot_trials

    figure = plot_trials(pairs.inputs, pairs.targets, np.asarray(given.outputs))
    for panel in figure.axes[:3]:
        panel.set_title("")
    common.save_figure(figure, settings.out, "answers")
    if given.attention is None:
        return
    figure, axes = plt.subplots(1, 3, figsize=(13, 3.9), layout="constrained")
    for panel, weights in zip(axes, given.attention[:3], strict=True):
        image = plot_attention(weights, labels=("step of the input", "step of the answer"), axes=panel).images[0]
        image.set_clim(0, float(weights.max()))
    common.save_figure(figure, settings.out, "attention")


def fixed_points(settings: Any, dynamics: Any) -> None:
    """Fixed points of encoder and decoder among the states they visit, and their eigenvalues."""
    import _common as common
    import matplotlib.pyplot as plt

    from ctd_models.plots import plot_eigenvalues, plot_fixed_points

    figure, axes = plt.subplots(2, 2, figsize=(9, 7.6), layout="constrained")
    pairs = (
        ("encoder, one input held", dynamics.encoder, dynamics.encoder_states),
        ("decoder, last output and context held", dynamics.decoder, dynamics.decoder_states),
    )
    for (place, spectrum), (title, points, states) in zip(axes.T, pairs, strict=True):
        place.set_title(title)
        steps = dynamics.decoder_steps if points is dynamics.decoder and len(points) else None
        plot_fixed_points(
            points, steps, trajectories=states, dims=2, modes=None, label="step of the answer", axes=place
        )
        if len(points):
            plot_eigenvalues(points, axes=spectrum, ms=2, time_constants=(1, 10))
    common.save_figure(figure, settings.out, "fixed_points")
    dynamics.encoder.save(settings.out / "encoder_fixed_points.h5")
    dynamics.decoder.save(settings.out / "decoder_fixed_points.h5")
