"""Linear decoders across recording sessions whose features a model aligned."""

from collections.abc import Callable
from typing import Any, NamedTuple, no_type_check

import numpy as np
from jaxtyping import Float, Int, Real

from ctd_models.analysis.decoding import PENALTIES, fit_decoder
from ctd_models.analysis.linear_decoders import FittedDecoder


class SessionR2(NamedTuple):
    """R² of each session, and how much it depends on which trials were tested."""

    r2: Float[np.ndarray, "sessions dims"]
    """1 − SS_res / SS_tot over the trials and bins of each session, about their own mean."""
    resampled: Float[np.ndarray, "resamples sessions dims"]
    """The same for trials drawn with replacement from each session."""

    @property
    def median(self) -> float:
        """Over sessions and dims."""
        return float(np.median(self.r2))

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Percentile interval of the median over sessions and dims.

        Raises:
            ValueError: nothing was resampled, or a level outside 0 … 1.
        """
        if not len(self.resampled) or not 0 < level < 1:
            raise ValueError(f"expected resampled trials and a level in 0 … 1, got {len(self.resampled)} and {level}")
        medians = np.median(self.resampled, axis=(1, 2))
        low, high = np.quantile(medians, [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)

    def __repr__(self) -> str:
        sessions, dims = self.r2.shape
        between = f", 95 % in {self.interval()[0]:.3f} … {self.interval()[1]:.3f}" if len(self.resampled) else ""
        return f"SessionR2: median {self.median:.3f}{between} ({sessions} sessions × {dims} dims)"


class SessionDecoding(NamedTuple):
    """How well behaviour is decoded in each session, by decoders that were fitted on different sessions."""

    shared: SessionR2
    """By one decoder, fitted on all sessions."""
    own: SessionR2
    """By the session's own decoder."""
    unseen: SessionR2
    """By a decoder of all other sessions, which has never seen this one."""
    across: Float[np.ndarray, "fitted used dims"]
    """R² of the decoder fitted on one session (first axis) and used on another (second axis)."""
    decoder: FittedDecoder
    """The one that all sessions share."""

    @property
    def across_median(self) -> float:
        """Over all pairs of different sessions, and dims."""
        return float(np.median(self.across[~np.eye(len(self.across), dtype=bool)]))


@no_type_check  # it checks its arguments itself
def session_r2(
    measured: Float[Any, "trials time dims"],
    predicted: Float[Any, "trials time dims"],
    sessions: Int[Any, "trials"],
    *,
    num_resamples: int = 0,
    rng: np.random.Generator | None = None,
) -> SessionR2:
    """R² of each session, in the order of their numbers.

    Args:
        measured: behaviour of test trials.
        predicted: what was decoded.
        sessions: number of the session of each trial.
        num_resamples: times that trials are drawn with replacement within each session.
        rng: makes the draws.

    Raises:
        ValueError: shapes differ, a value is not finite, behaviour does not vary in a session, or there are resamples
            without an rng.
    """
    y, p, sessions = np.asarray(measured, float), np.asarray(predicted, float), np.asarray(sessions)
    if y.ndim != 3 or y.shape != p.shape or sessions.shape != y.shape[:1] or not y.size:
        raise ValueError(
            f"expected measured and predicted [trials, time, dims] and one session a trial, got {y.shape}, {p.shape} and "
            f"{sessions.shape}"
        )
    if not (np.isfinite(y).all() and np.isfinite(p).all()):
        raise ValueError("measured and predicted behaviour must be finite")
    if num_resamples and rng is None:
        raise ValueError("resampling trials needs rng=np.random.default_rng(seed)")
    scores, resampled = [], []
    for number in np.unique(sessions):
        mine = sessions == number
        centred = y[mine] - y[mine].mean(axis=(0, 1))  # for the precision of the sums
        total = (centred**2).sum(axis=(0, 1))
        if not (total > 1e-20 * (1 + y[mine] ** 2).sum(axis=(0, 1))).all():
            raise ValueError(f"dimension {int(np.argmin(total))} of the behaviour does not vary in session {number}")
        residual = ((y[mine] - p[mine]) ** 2).sum(axis=1)
        scores.append(1 - residual.sum(axis=0) / total)
        count = len(centred)
        drawn = (
            rng.multinomial(count, np.full(count, 1 / count), num_resamples) if num_resamples else np.zeros((0, count))
        )
        sums, squares = drawn @ centred.sum(axis=1), drawn @ (centred**2).sum(axis=1)
        spread = squares - sums**2 / (count * y.shape[1])
        resampled.append(1 - drawn @ residual / np.where(spread > 0, spread, np.inf))
    return SessionR2(np.stack(scores), np.stack(resampled, axis=1))


@no_type_check  # it checks its arguments itself
def decode_sessions(
    features: Real[Any, "trials time features"],
    targets: Real[Any, "trials time dims"],
    sessions: Int[Any, "trials"],
    train: Int[Any, "n"],
    validation: Int[Any, "m"],
    test: Int[Any, "l"],
    *,
    lags: Any = None,
    penalties: Any = PENALTIES,
    first_bin: int | None = None,
    num_resamples: int = 1000,
    rng: np.random.Generator | None = None,
) -> SessionDecoding:
    """Decodes behaviour in each session by one decoder for all, its own, that of each other one, and that of all others.

    Lag and penalty of each decoder are chosen on validation trials of the sessions that it is fitted on, see
    `fit_decoder`.

    Args:
        features: of all trials, such as the factors of a stitched model.
        targets: behaviour in the same bins.
        sessions: number of the session of each trial.
        train, validation, test: indices of trials; every session needs some in each.
        lags, penalties, first_bin: as for `fit_decoder`.
        num_resamples: times that test trials are drawn with replacement.
        rng: makes the draws.

    Raises:
        ValueError: there are fewer than two sessions, a session lacks trials of a part, or as `fit_decoder` and
            `session_r2`.
    """
    features, targets, sessions, parts = _checked(features, targets, sessions, (train, validation, test))
    numbers = np.unique(sessions)
    if len(numbers) < 2:
        raise ValueError(f"expected the trials of two sessions or more, got {len(numbers)}")
    options = {"lags": lags, "penalties": penalties, "first_bin": first_bin}

    def fitted(chosen: Any) -> FittedDecoder:
        mine = [trials[np.isin(sessions[trials], chosen)] for trials in parts[:2]]
        return fit_decoder(features, targets, *mine, **options)

    test = parts[2]
    shared, own = fitted(numbers), [fitted([number]) for number in numbers]
    others = own[::-1] if len(numbers) == 2 else [fitted(numbers[numbers != number]) for number in numbers]
    measured = targets[test, shared.first_bin :]
    predicted = {
        "shared": shared.predict(features[test]),
        "own": _by_session(own, features[test], sessions[test]),
        "unseen": _by_session(others, features[test], sessions[test]),
    }
    scores = {
        name: session_r2(measured, values, sessions[test], num_resamples=num_resamples, rng=rng)
        for name, values in predicted.items()
    }
    across = [session_r2(measured, decoder.predict(features[test]), sessions[test]).r2 for decoder in own]
    return SessionDecoding(**scores, across=np.stack(across), decoder=shared)


@no_type_check  # it checks its arguments itself
def decode_each_session(
    features: Real[Any, "trials time features"],
    targets: Real[Any, "trials time dims"],
    sessions: Int[Any, "trials"],
    train: Int[Any, "n"],
    validation: Int[Any, "m"],
    test: Int[Any, "l"],
    *,
    fit: Callable[..., Any] = fit_decoder,
    num_resamples: int = 1000,
    rng: np.random.Generator | None = None,
    **options: Any,
) -> SessionR2:
    """Decodes behaviour in each session by a decoder of its own: all that can be done where features are not aligned.

    Args:
        fit: `fit_decoder`, `fit_smoothed_decoder` for features that are spikes, or `fit_optimal_linear_estimator`.
        options: further arguments of this function.

    The other arguments, and the errors, are those of `decode_sessions`; one session is enough.
    """
    features, targets, sessions, parts = _checked(features, targets, sessions, (train, validation, test))
    numbers, test = np.unique(sessions), parts[2]
    fits = []
    for number in numbers:
        mine = [trials[sessions[trials] == number] for trials in parts[:2]]
        fits.append(fit(features, targets, *mine, **options))
    measured = targets[test, fits[0].first_bin :]
    predicted = _by_session(fits, features[test], sessions[test])
    return session_r2(measured, predicted, sessions[test], num_resamples=num_resamples, rng=rng)


def _by_session(decoders: list[Any], features: Any, sessions: Any) -> Float[np.ndarray, "trials rest dims"]:
    """What the decoder of each trial's session predicts."""
    predicted = [decoder.predict(features) for decoder in decoders]
    return np.stack(predicted)[np.unique(sessions, return_inverse=True)[1], np.arange(len(features))]


def _checked(
    features: Any, targets: Any, sessions: Any, parts: tuple[Any, Any, Any]
) -> tuple[Any, Any, Any, list[Any]]:
    features, targets, sessions = np.asarray(features), np.asarray(targets), np.asarray(sessions)
    if not len(features) == len(targets) == len(sessions):
        raise ValueError(
            f"expected features, behaviour and session of the same trials, got {len(features)}, {len(targets)} and "
            f"{len(sessions)}"
        )
    if any(np.asarray(trials).dtype == bool for trials in parts):
        raise TypeError("train, validation and test are indices of trials: np.flatnonzero(mask)")
    parts = [np.asarray(trials, int) for trials in parts]
    if shared := sorted(set(parts[2].tolist()) & {*parts[0].tolist(), *parts[1].tolist()}):
        raise ValueError(f"test trials {shared[:8]} are also to train or to validate on")
    for name, trials in zip(("train", "validation", "test"), parts, strict=True):
        if lacking := [number for number in np.unique(sessions).tolist() if number not in sessions[trials]]:
            raise ValueError(f"sessions {lacking} have no {name} trials")
    return features, targets, sessions, parts
