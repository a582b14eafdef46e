"""What the stitching example reports: behaviour decoded within and across sessions, and figures."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import _common as common
import _neural_data as neural

if TYPE_CHECKING:
    import numpy as np
    from _stitching import Sessions

OWN_DECODERS = {"smoothed spikes": "smoothed", "GPFA": "gpfa", "LFADS, one session": "single_session"}
ONE_DECODER = {"random read-ins": "random_read_in", "stitched LFADS": "stitched"}


def infer_all(model: Any, variables: Any, data: "Sessions") -> "np.ndarray":
    """Factors of all trials."""
    from ctd_models.models.lfads import infer

    numbers = model.read_in.indices(list(data.sessions))[data.trials.sessions]
    return infer(model, variables, data.trials._replace(sessions=numbers), progress=False).factors


def decode(
    data: "Sessions", factors: Mapping[str, Any], settings: Any
) -> tuple[dict[str, float], dict[str, dict[str, Any]], dict[str, Any]]:
    """Behaviour from the factors of each method.

    Returns:
        Medians of R² over sessions × dims by name, behaviour → method → scores, and behaviour → R² of each session's
        decoder on each other session.
    """
    import numpy as np

    from ctd_models.analysis import decode_each_session, decode_sessions, fit_decoder, fit_smoothed_decoder

    results, scores, transfer = {}, {}, {}
    days = len(settings.data) > 1 and not settings.simulate
    for name, values, places in neural.behaviors(data.data, data.places, settings.first_bin):
        trials = data.trials.sessions, *(places.get(part, []) for part in ("train", "validation", data.part))
        if any(set(trials[0][list(part)]) != set(trials[0]) for part in trials[1:]):
            print(f"{name} is not decoded: a session has no trials of it in some part")
            continue
        options = {"first_bin": settings.first_bin, "num_resamples": settings.num_resamples}
        scores[name] = of = {}
        for method in [method for method in OWN_DECODERS if method in factors]:
            fit = fit_smoothed_decoder if method == "smoothed spikes" else fit_decoder
            rng, read = np.random.default_rng(settings.seed), factors[method][:, : values.shape[1]]
            of[method] = decode_each_session(read, values, *trials, fit=fit, rng=rng, **options)
            results[f"{OWN_DECODERS[method]}_r2_{name}"] = of[method].median
        for method, key in ONE_DECODER.items():
            rng, read = np.random.default_rng(settings.seed), factors[method][:, : values.shape[1]]
            found = decode_sessions(read, values, *trials, rng=rng, **options)
            of[method], results[f"{key}_r2_{name}"] = found.shared, found.shared.median
        low, high = found.shared.interval()
        of["unseen session"] = found.unseen
        results |= {
            f"stitched_r2_{name}_low": low,
            f"stitched_r2_{name}_high": high,
            f"stitched_own_decoders_r2_{name}": found.own.median,
            f"unseen_session_r2_{name}": found.unseen.median,
            f"cross_{'day' if days else 'session'}_r2_{name}": found.across_median,
        }
        if "session added" in factors:
            read = factors["session added"][:, : values.shape[1]]
            added = decode_sessions(read, values, *trials, first_bin=settings.first_bin, num_resamples=0)
            results[f"added_session_r2_{name}"] = np.median(added.unseen.r2[-1])
            results[f"added_session_r2_{name}_single"] = np.median(of["LFADS, one session"].r2[-1])
        transfer[name] = found.across
    return results, scores, transfer


def decode_latents(data: "Sessions", factors: Mapping[str, Any], settings: Any) -> dict[str, float]:
    """R² (mean over latents) of affine maps from factors to the true latents, where these are known.

    For models of one session the map is its own; for the stitched model it is one for all sessions, or that of the others.
    """
    import numpy as np

    from ctd_models.analysis import decode_each_session, decode_sessions

    if (latents := data.known("latents")) is None:
        return {}
    parts = [data.places[part] for part in ("train", "validation", data.part)]
    options = {"lags": [0], "first_bin": 0, "num_resamples": 0, "penalties": (1e-3, 1.0)}
    trials = latents, data.trials.sessions, *parts
    alone = decode_each_session(factors["LFADS, one session"], *trials, **options).r2.mean(axis=1)
    stitched = decode_sessions(factors["stitched LFADS"], *trials, **options)
    random = decode_sessions(factors["random read-ins"], *trials, **options).shared.r2.mean()
    added = {}
    if "session added" in factors:
        unseen = decode_sessions(factors["session added"], *trials, **options).unseen
        added = {"added_session_latent_r2": unseen.r2[-1].mean()}
    together = stitched.shared.r2.mean(axis=1)
    return {
        "single_session_latent_r2": alone.mean(),
        "single_session_latent_r2_best": alone.max(),
        "random_read_in_latent_r2": random,
        "stitched_latent_r2": together.mean(),
        "stitched_latent_r2_worst": together.min(),
        "smallest_gain_latent_r2": (together - alone).min(),
        "unseen_session_latent_r2": stitched.unseen.r2.mean(),
        "cross_session_latent_r2": stitched.across[~np.eye(len(alone), dtype=bool)].mean(),
        **added,
    }


def draw(data: "Sessions", factors: Any, scores: Mapping[str, Any], transfer: Mapping[str, Any], out: Path) -> None:
    """R² by method, decoders on other sessions, and the stitched model's factors by session and by condition."""
    import numpy as np

    from ctd_models.plots.sessions import plot_aligned_factors, plot_session_scores, plot_transfer

    names = list(data.sessions)
    conditions = data.known("conditions")
    shown = np.ones(len(factors), bool) if conditions is None else conditions >= 0
    if conditions is not None:
        labels = np.unique(conditions[shown])
        shown &= np.isin(conditions, labels[:: max(1, len(labels) // 8)][:8])
    labels = None if conditions is None else conditions[shown]
    figure = plot_aligned_factors(factors[shown], data.trials.sessions[shown], labels, names, circular=True)
    common.save_figure(figure, out, "aligned_factors")
    if scores:
        label = "R² on test trials" if data.part == "test" else "R² on validation trials"
        common.save_figure(plot_session_scores(scores, label), out, "scores")
    for name, across in transfer.items():
        common.save_figure(plot_transfer(across, names, name).figure, out, f"transfer_{name}")
