"""What the examples on recordings share: scores of what was inferred, on trials on which nothing was chosen; figures."""

from pathlib import Path
from typing import Any

import _common as common
from _neural_data import Fit, behaviors

SUFFIXES = {"smoothed spikes": "_smoothed", "LFADS factors": "", "generator states": "_states"}


def decode(fit: Fit, first_bin: int) -> tuple[dict[str, float], dict[str, dict[str, float]], dict[str, Any]]:
    """Behaviour by one linear decoder each on smoothed spikes, on the factors, and on the states of the generator.

    Returns:
        R² by name; what is decoded from → behaviour → R² on test trials (validation trials where there are none); and
        behaviour → (these trials, first bin, what was measured from it on, what was decoded from the factors).
    """
    from ctd_models.analysis import fit_decoder, fit_smoothed_decoder, r2_score

    test, validation, scores, shown = {}, {}, {source: {} for source in SUFFIXES}, {}
    features = fit.trials.inputs, fit.posterior.factors, fit.posterior.generator_states
    for name, values, places in behaviors(fit.data, fit.places, first_bin):
        trials, bins = places.get("test", places["validation"]), slice(values.shape[1])
        for (source, suffix), read in zip(SUFFIXES.items(), features, strict=True):
            search = fit_smoothed_decoder if suffix == "_smoothed" else fit_decoder
            decoder = search(read[:, bins], values, places["train"], places["validation"], first_bin=first_bin)
            measured, decoded = values[trials, first_bin:], decoder.predict(read[trials, bins])
            scores[source][name] = validation[f"validation_r2_{name}{suffix}"] = decoder.validation_r2
            if "test" in places:
                key = f"smoothed_r2_{name}" if suffix == "_smoothed" else f"test_r2_{name}{suffix}"
                scores[source][name] = test[key] = r2_score(measured, decoded)
            if not suffix:
                shown[name] = trials, first_bin, measured, decoded
    return test | validation, scores, shown


def predict_heldout(fit: Fit) -> dict[str, float]:
    """Bits per spike of what the model did not read, on test and on validation trials, where it is known.

    Of neurons: from the rates of the model, from a Poisson GLM on its factors ("glm"), and from one on the smoothed counts
    that the model reads, with the best width of a few ("smoothed"). Of forward bins: from the rates of the model.
    """
    from ctd_models.analysis import bits_per_spike, forward_bits_per_spike, select_poisson_glm, smooth_spikes

    trials, rates = fit.trials, fit.posterior.rates
    (_, time, read), (_, steps, neurons) = trials.inputs.shape, trials.targets.shape
    known = {part: places for part, places in fit.places.items() if fit.data.parts[part].mask is None}
    test, validation = known.get("test"), known.get("validation")
    results, hidden = {}, trials.targets[:, :time, read:]
    for part in [part for part in ("test", "validation") if part in known]:
        chosen = known[part]
        if neurons > read:
            results[f"{part}_co_bps"] = bits_per_spike(hidden[chosen], rates[chosen, :time, read:], minimum_rate=1e-9)
        if steps > time:
            pair = rates[chosen], trials.targets[chosen]
            results[f"{part}_forward_bps"] = forward_bits_per_spike(*pair, steps - time, minimum_rate=1e-9)
    if neurons == read or validation is None or "train" not in known:
        return results
    widths = (0.5, 1.0, 2.0)
    features = {"co_bps_glm": [fit.posterior.factors[:, :time]]}
    features["co_bps_smoothed"] = [smooth_spikes(trials.inputs, width) for width in widths]
    for name, candidates in features.items():
        fits = [(select_poisson_glm(read, hidden, known["train"], validation), read) for read in candidates]
        glm, best = max(fits, key=lambda pair: pair[0].validation_bits)
        results[f"validation_{name}"] = glm.validation_bits
        if test is not None:
            key = "smoothed_co_bps" if name == "co_bps_smoothed" else f"test_{name}"
            results[key] = bits_per_spike(hidden[test], glm.predict(best[test]))
    return dict(sorted(results.items(), key=lambda item: item[0].startswith("validation")))  # test first


def match_psths(fit: Fit) -> tuple[float, Any, Any] | None:
    """Averages over the trials of each condition: (R², of smoothed spikes, of inferred rates), on the reported trials; None
    where no condition has two trials."""
    import numpy as np

    from ctd_models.analysis import psth, psth_r2

    labels = fit.conditions
    reported = fit.places[fit.part]
    conditions, counts = np.unique(labels[reported], return_counts=True)
    chosen = reported[np.isin(labels[reported], conditions[(counts > 1) & (conditions >= 0)])]
    if not len(chosen) or fit.data.parts[fit.part].mask is not None:
        return None
    rates, spikes, labels = fit.posterior.rates[chosen], fit.trials.targets[chosen], labels[chosen]
    return psth_r2(rates, spikes, labels).r2, psth(spikes, labels, width=1.0), psth(rates, labels)


def fixed_points(fit: Fit, num_candidates: int, seed: int, out: Path) -> dict[str, int]:
    """Fixed points of the generator without input, searched for from states that trials visit; saved, and drawn."""
    import numpy as np

    from ctd_models import step_function
    from ctd_models.analysis import find_fixed_points, linearize
    from ctd_models.models.lfads import factor_map
    from ctd_models.plots.factors import plot_generator_points

    states, model = fit.posterior.generator_states, fit.model
    visited = states.reshape(-1, states.shape[-1])
    candidates = np.random.default_rng(seed).choice(visited, min(num_candidates, len(visited)), replace=False)
    F = step_function(model, fit.variables, part="generator")
    silence = np.zeros(model.controller.num_inputs + model.num_external_inputs)
    points = linearize(F, find_fixed_points(F, candidates, silence, bounds=(-1, 1)), dt=fit.data.bin_width_s)
    points.save(out / "fixed_points.h5")
    print(points)
    if len(points):
        figure = plot_generator_points(points, factor_map(model, fit.variables), fit.posterior.factors)
        common.save_figure(figure, out, "fixed_points")
    return {"num_fixed_points": len(points), "num_stable_fixed_points": points.is_stable.sum()}


def draw(fit: Fit, scores: dict[str, dict[str, float]], shown: dict[str, Any], psths: Any, out: Path) -> None:
    """Factors, PSTHs, R² of the decoders, and every behaviour of two dimensions as it was decoded."""
    import numpy as np

    from ctd_models.plots.decoding import plot_decoding, plot_scores
    from ctd_models.plots.factors import plot_factors
    from ctd_models.plots.psths import plot_psths

    data, conditions, reported = fit.data, fit.conditions, fit.places[fit.part]
    colors = conditions[reported] if data.conditions else None
    common.save_figure(
        plot_factors(fit.posterior.factors[reported], colors, label="condition", circular=True), out, "factors"
    )
    if psths is not None:
        figure = plot_psths(*psths[1:], bin_width_s=data.bin_width_s, start_s=fit.start_s, circular=True)
        common.save_figure(figure, out, "psths")
    if shown:
        values = {source: list(of_source.values()) for source, of_source in scores.items()}
        axes = plot_scores(values, f"R² on {fit.part} trials")
        for name, r2 in scores["smoothed spikes"].items():
            axes.annotate(name, (-0.06, r2), ha="right", va="center", fontsize="x-small", color="0.4")
        common.save_figure(axes.figure, out, "decoding")
    for name, (trials, first_bin, measured, decoded) in shown.items():
        if measured.shape[2] == 2:
            time_s = fit.start_s + data.bin_width_s * (first_bin + np.arange(measured.shape[1]))
            traces = measured, decoded, time_s
            figure = plot_decoding(*traces, conditions[trials], None, f"{name} ({data.behavior_units[name]})")
            common.save_figure(figure, out, f"decoded_{name}")
