"""What LFADS infers of single trials, against the truth or the spikes, and the course of its training."""

from collections.abc import Mapping, Sequence
from typing import Any, no_type_check

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float, Real

from ctd_models.analysis.decoding import fit_ridge, smooth_spikes
from ctd_models.analysis.metrics import check_finite, squared_correlation
from ctd_models.plots.psths import neuron_indices
from ctd_models.plots.style import STABLE, UNSTABLE
from ctd_models.plots.training import plot_history

INFERRED, TRUE, SMOOTHED = UNSTABLE, STABLE, "0.5"
ELBO_PANELS = {
    "elbo": "ELBO (nats/trial)",
    "nll": "negative log likelihood\n(nats/trial)",
    "kl_code": "KL of the code\n(nats/trial)",
    "kl_inputs": "KL of the inputs\n(nats/trial)",
}


@no_type_check  # it checks its arguments itself
def plot_inferred_rates(
    spikes: Real[Any, "time neurons"],
    rates: Float[Any, "time neurons"],
    true_rates: Float[Any, "time neurons"] | None = None,
    *,
    bin_width_s: float,
    neurons: Sequence[int] | None = None,
    heldout: Sequence[int] = (),
    smoothing_s: float = 0.05,
    start_s: float = 0.0,
    figure: Any = None,
) -> Any:
    """One trial: images of spike counts, inferred rates and, where known, true rates; below, traces of a few neurons.

    Neurons are sorted by the time of the peak of their true (else inferred) rate, and held-out ones stand below the others.

    Args:
        spikes: counts of the trial.
        rates: inferred [spikes/bin].
        true_rates: [spikes/bin]; None: traces show smoothed counts instead.
        bin_width_s: duration of a bin [s].
        neurons: those whose traces are shown; None: the four whose rates vary the most, two of them held out, if any are.
        heldout: neurons that the model did not read.
        smoothing_s: standard deviation of the Gaussian that smooths the counts [s].
        start_s: time of the beginning of the first bin [s].
        figure: figure to draw into, with the layout "constrained".

    Returns:
        The figure.

    Raises:
        ValueError: shapes or numbers of neurons do not fit, a value is not finite, or a duration is not positive.
    """
    spikes, rates = np.asarray(spikes, float), np.asarray(rates, float)
    shown = {"spike counts": spikes, "inferred rates": rates}
    if true_rates is not None:
        shown["true rates"] = np.asarray(true_rates, float)
    for name, values in shown.items():
        if values.ndim != 2 or 0 in values.shape or values.shape != spikes.shape:
            raise ValueError(
                f"expected {name} [time, neurons] of one trial, of one shape with the spikes; got shape {values.shape} and "
                f"spikes {spikes.shape}"
            )
        check_finite(name, values)
    _check_durations(bin_width_s=bin_width_s, smoothing_s=smoothing_s)
    heldout = neuron_indices("heldout", heldout, spikes.shape[1], fewest=0)
    reference = shown.get("true rates", rates)
    if neurons is None:
        neurons = _most_varying(reference, heldout)
    neurons = neuron_indices("neurons", neurons, spikes.shape[1])
    read = np.setdiff1d(np.arange(spikes.shape[1]), heldout)
    order = np.concatenate(
        [group[np.argsort(reference[:, group].argmax(axis=0), kind="stable")] for group in (read, heldout)]
    )

    columns = 2 if len(neurons) > 1 else 1
    rows = -(-len(neurons) // columns)
    height = 0.7 + 1.4 * rows
    figure = figure or plt.figure(figsize=(3.4 * len(shown) + 0.6, 3 + height), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(3, height))
    _draw_images(top, shown, order, len(read), bin_width_s, start_s)
    panels = bottom.subplots(rows, columns, sharex=True, squeeze=False).ravel()
    time = start_s + bin_width_s * (np.arange(len(spikes)) + 0.5)
    if true_rates is None:
        label, compared = (
            f"counts, smoothed ({1e3 * smoothing_s:g} ms)",
            smooth_spikes(spikes[None], smoothing_s / bin_width_s)[0],
        )
    else:
        label, compared = "true rate", reference
    for panel, neuron in zip(panels, neurons, strict=False):
        panel.plot(
            time, compared[:, neuron] / bin_width_s, color=SMOOTHED if true_rates is None else TRUE, lw=1.2, label=label
        )
        panel.plot(time, rates[:, neuron] / bin_width_s, color=INFERRED, lw=1.5, label="inferred rate")
        panel.set_title(f"neuron {neuron}" + (", held out" if neuron in heldout else ""), fontsize="medium")
        panel.set_ylim(bottom=0)
    for unused in panels[len(neurons) :]:
        unused.set_axis_off()
    bottom.supxlabel("time (s)", fontsize="medium")
    bottom.supylabel("rate (Hz)", fontsize="medium")
    bottom.legend(
        *panels[0].get_legend_handles_labels(), frameon=False, fontsize="small", ncols=2, loc="outside upper center"
    )
    return figure


def _draw_images(
    figure: Any, shown: Mapping[str, np.ndarray], order: np.ndarray, num_read: int, bin_width_s: float, start_s: float
) -> None:
    """An image for each of what is shown, rates with one scale of colours."""
    axes = figure.subplots(1, len(shown), sharex=True, sharey=True)
    num_bins, num_neurons = shown["spike counts"].shape
    extent = (start_s, start_s + bin_width_s * num_bins, num_neurons - 0.5, -0.5)
    largest = max(values.max() for name, values in shown.items() if name != "spike counts") / bin_width_s
    for panel, (name, values) in zip(axes, shown.items(), strict=True):
        style = {"aspect": "auto", "extent": extent, "interpolation": "nearest", "vmin": 0}
        if name == "spike counts":
            image = panel.imshow(values[:, order].T, cmap="Greys", vmax=max(1, values.max()), **style)
            figure.colorbar(image, ax=panel, label="spikes/bin")
        else:
            image = panel.imshow(values[:, order].T / bin_width_s, cmap="viridis", vmax=largest, **style)
        if num_read < num_neurons:
            panel.axhline(num_read - 0.5, color=INFERRED, lw=1)
        panel.set(title=name, xlabel="time (s)")
    figure.colorbar(image, ax=axes[-1], label="rate (Hz)")
    axes[0].set_ylabel("neuron, by time of peak" + ("\n(held out: below the line)" if num_read < num_neurons else ""))


@no_type_check  # it checks its arguments itself
def plot_inferred_inputs(
    inputs: Float[Any, "trials time U"],
    true_inputs: Float[Any, "trials time V"] | None = None,
    *,
    bin_width_s: float,
    num_trials: int = 4,
    stds: Float[Any, "trials time U"] | None = None,
    start_s: float = 0.0,
    figure: Any = None,
) -> Any:
    """Inferred inputs of the first trials, one column a trial and one row an input; with `stds`, mean ± std as a band.

    Inputs are inferred up to a linear map. So what is drawn of the true ones is their affine map onto each inferred input,
    by least squares over all trials given. Titles give the squared correlation over time of the two
    (`squared_correlation`): in a panel that of its trial, above all the mean over the trials given, without those in which
    the true input is constant.

    Args:
        inputs: inferred, such as their posterior means; any unit.
        true_inputs: of the same trials and bins, in any unit.
        bin_width_s: duration of a bin [s].
        num_trials: how many trials are drawn at most; the fit and the mean are of all.
        stds: standard deviations of the posteriors of the inputs.
        start_s: time of the beginning of the first bin [s].
        figure: figure to draw into, with the layout "constrained".

    Returns:
        The figure.

    Raises:
        ValueError: shapes do not fit, a value is not finite, the duration is not positive, or no trial is to be drawn.
    """
    inputs = np.asarray(inputs, float)
    if inputs.ndim != 3 or 0 in inputs.shape:
        raise ValueError(f"expected inputs [trials, time, U] with no empty axis, got shape {inputs.shape}")
    check_finite("inputs", inputs)
    stds = None if stds is None else np.asarray(stds, float)
    if stds is not None and stds.shape != inputs.shape:
        raise ValueError(f"expected stds of the shape of the inputs, {inputs.shape}, got shape {stds.shape}")
    _check_durations(bin_width_s=bin_width_s)
    if num_trials < 1:
        raise ValueError(f"num_trials must be at least 1, got {num_trials}")
    fitted, scores = (None, None) if true_inputs is None else _matched(inputs, true_inputs)

    num_trials, num_inputs = min(num_trials, len(inputs)), inputs.shape[2]
    size = (2.6 * num_trials + 0.8, 1.5 * num_inputs + 1.3)
    figure = figure or plt.figure(figsize=size, layout="constrained")
    axes = figure.subplots(num_inputs, num_trials, sharex=True, sharey="row", squeeze=False)
    time = start_s + bin_width_s * (np.arange(inputs.shape[1]) + 0.5)
    for (row, trial), panel in np.ndenumerate(axes):
        mean, titles = inputs[trial, :, row], [f"trial {trial + 1}"] if row == 0 else []
        panel.axhline(0, color="0.85", lw=0.6, zorder=0)
        panel.plot(time, mean, color=INFERRED, lw=1.5, label="inferred", zorder=3)
        if stds is not None:
            band = mean - stds[trial, :, row], mean + stds[trial, :, row]
            panel.fill_between(time, *band, color=INFERRED, alpha=0.25, lw=0, label="± std of the posterior")
        if fitted is not None:
            name = "true, affinely rescaled to the inferred one (least squares, all trials)"
            panel.plot(time, fitted[trial, :, row], color=TRUE, lw=1.2, label=name)
            titles.append(f"r² = {scores[trial, row]:.2f}" if scores[trial, row] >= 0 else "r² undefined")
        panel.set_title(", ".join(titles), fontsize="medium")
        panel.locator_params(axis="x", nbins=4)
        if trial == 0:
            panel.set_ylabel("input (a.u.)" if num_inputs == 1 else f"input {row + 1} (a.u.)")
        if row == num_inputs - 1:
            panel.set_xlabel("time (s)")
    if scores is not None:
        figure.suptitle(_scores_title(scores, np.shape(true_inputs)[2]), fontsize="medium")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    if len(handles) > 1:
        figure.legend(handles, labels, frameon=False, fontsize="small", ncols=3, loc="outside lower center")
    return figure


def _matched(inputs: Float[np.ndarray, "trials time U"], true_inputs: Any) -> tuple[np.ndarray, np.ndarray]:
    """(the true inputs mapped onto each inferred one [trials, time, U], squared correlations with it [trials, U])."""
    true_inputs = np.asarray(true_inputs, float)
    if true_inputs.ndim != 3 or true_inputs.shape[:2] != inputs.shape[:2]:
        raise ValueError(
            f"expected true_inputs [{inputs.shape[0]} trials, {inputs.shape[1]} bins, V], got shape {true_inputs.shape}"
        )
    fitted = fit_ridge(true_inputs, inputs, penalty=0.0).predict(true_inputs)
    single = true_inputs.shape[2] == 1  # the map does not change a correlation, but it would hide one with slope 0
    return fitted, squared_correlation(np.broadcast_to(true_inputs, inputs.shape) if single else fitted, inputs)


def _scores_title(scores: Float[np.ndarray, "trials U"], num_true: int) -> str:
    """Mean squared correlation of each input over the trials in which it is defined, and how many these are."""
    defined = ~np.isnan(scores).any(axis=1)
    truth = "the true input" if num_true == 1 else f"the best combination of {num_true} true inputs"
    if not defined.any():
        return f"squared correlation with {truth}: undefined, it is constant in each trial"
    means = ", ".join(f"{mean:.2f}" for mean in scores[defined].mean(axis=0))
    left_out = f", {(~defined).sum():,} where it is constant left out" if not defined.all() else ""
    return f"squared correlation with {truth}, r² = {means} (mean over {defined.sum():,} trials{left_out})"


@no_type_check  # it checks its arguments itself
def plot_elbo(
    history: Mapping[str, np.ndarray],
    *,
    monitor: str = "loss",
    best_step: int | None = None,
    window: int | None = None,
    figure: Any = None,
) -> Any:
    """ELBO, negative log likelihood and divergences over training steps, in nats a trial, as far as the history has them.

    In training, dropout and augmentations are on, so that its likelihood need not match that of validation. Divergences that
    are positive and span more than a factor of 20 have a logarithmic axis; the other axes leave out the first twentieth of
    training where it alone would fill two thirds of them. Divergences that are 0 throughout, as those of the inputs of an
    autonomous model, have no panel.

    Args:
        history: of `Trainer.fit` with the loss `elbo`.
        monitor: the validation metric whose smallest value marks the best step.
        best_step: marked instead, such as that of the best checkpoint under a smoothed metric.
        window: steps of the running mean; None: a twentieth of all, at most 50.
        figure: figure to draw into, with the layout "constrained".

    Returns:
        The figure.

    Raises:
        ValueError: the history has no term of the bound.
    """
    shown = [name for name in ELBO_PANELS if name in history and (name in ("elbo", "nll") or np.any(history[name]))]
    if not shown:
        raise ValueError(f"expected a history with one of {list(ELBO_PANELS)}, got one of {list(history)}")
    if best_step is None and f"validation/{monitor}" in history:
        best_step = int(history["validation/step"][np.argmin(history[f"validation/{monitor}"])])
    window = max(1, min(50, len(history["step"]) // 20)) if window is None else window
    columns = min(2, len(shown))
    rows = -(-len(shown) // columns)
    figure = figure or plt.figure(figsize=(4.4 * columns, 2.5 * rows + 0.4), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=True, squeeze=False).ravel()
    for i, (name, panel) in enumerate(zip(shown, axes, strict=False)):
        plot_history(history, name, panel, window).get_legend().remove()
        panel.set_ylabel(ELBO_PANELS[name])
        _scale(panel, history, name)
        if i + columns < len(shown):
            panel.set_xlabel("")
        else:
            panel.xaxis.set_tick_params(labelbottom=True)
        if best_step is not None:
            name = f"best validation, step {best_step:,}"
            panel.axvline(best_step, color="black", lw=1, ls="--", label=name, zorder=0)
    for unused in axes[len(shown) :]:
        unused.set_axis_off()
    labels = axes[0].get_legend_handles_labels()
    figure.legend(*labels, frameon=False, fontsize="small", ncols=4, loc="outside lower center")
    return figure


def _scale(panel: Any, history: Mapping[str, np.ndarray], name: str) -> None:
    """A vertical axis on which more than the beginning of training can be read."""
    kinds = [kind for kind in ("", "validation/") if kind + name in history]
    steps = np.concatenate([history[f"{kind}step"] for kind in kinds])
    values = np.concatenate([history[kind + name] for kind in kinds])
    late = values[steps > 0.05 * steps.max()]
    if name.startswith("kl") and values.min() > 0 and values.max() > 20 * values.min():
        panel.set_yscale("log")
        return
    panel.set_yscale("linear")
    if np.ptp(values) > 3 * np.ptp(late) > 0:
        panel.set_ylim(late.min() - 0.1 * np.ptp(late), late.max() + 0.1 * np.ptp(late))


def _most_varying(rates: Float[np.ndarray, "time neurons"], heldout: np.ndarray, count: int = 4) -> np.ndarray:
    """The neurons whose rates have the largest range, half of them held out where there are such."""
    ranking = np.argsort(-np.ptp(rates, axis=0), kind="stable")
    out = ranking[np.isin(ranking, heldout)][: count // 2]
    return np.concatenate([ranking[~np.isin(ranking, heldout)][: count - len(out)], out])


def _check_durations(**durations: float | int) -> None:
    for name, value in durations.items():
        if not 0 < value < np.inf:
            raise ValueError(f"{name} must be positive, got {value}")
