"""The analysis of examples/sentiment_context.py: a line of slow points, modifiers that leave it, and their modes."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np

    from ctd_models.analysis import ContextualEffects, FixedPoints, ModeRemoval
    from ctd_models.tasks import ToySentiment

LAGS = 7  # words after a modifier that are looked at
PLACES = 25  # states along the line from which effects are measured
REACH = 10.0  # largest size of what is read out there: few reviews go beyond


class Story(NamedTuple):
    """What was found."""

    points: "FixedPoints"
    """All slow points, linearised."""
    line: "FixedPoints"
    """Some of them, evenly along what is read out."""
    readout: Callable[[Any], "np.ndarray"]
    """Flat states [..., d] → what is read out [...]."""
    effects: "ContextualEffects"
    """Of the modifiers at the points of the line."""
    removals: Mapping[str, "ModeRemoval"]
    """Modifier → removal of its modes, at the lags of its scope."""
    shares: Mapping[Any, float]
    """(modifier, how) → share of its effect on two words that goes with some modes: "chosen" by its effect on two other
    words, the best "one" of these, or, as many, those closest to the deflection by "angle"."""
    integrated: Mapping[str, "np.ndarray"]
    """Modifier → what "bad" right after it adds to the readout, "bad" and rest minus rest alone: [3, time] without the
    modifier, with it, and with it but without its modes; the mean over the line."""
    shifts: Mapping[str, float]
    """Modifier → by how much the removal of its modes moves the readout, after five words of rest; the mean of its size."""


def at_last_word(mask: Any, values: Any) -> "np.ndarray":
    """The value [B, T, 1] of each review at its last word: [B]."""
    import numpy as np

    last = np.asarray(mask)[..., 0].sum(axis=1).astype(int) - 1
    return np.asarray(values)[np.arange(len(last)), last, 0]


def analyse(model: Any, variables: Any, task: "ToySentiment", states: Any, settings: Any) -> Story:
    """Finds the slow points between words, and measures the effects of the modifiers along them."""
    import _zoo as zoo
    import numpy as np

    from ctd_models import step_function
    from ctd_models.analysis import contextual_effects, drive, remove_modes, strongest_modes
    from ctd_models.models import readout_function

    F, R, read = step_function(model, variables), readout_function(model, variables), zoo.readout_of(model, variables)
    candidates = zoo.candidates(settings, states, settings.num_candidates)
    points = zoo.slow_points(F, candidates, task.rest, settings.tolerance, fewest=10, bounds=zoo.bounds(settings))

    def readout(states):
        return read(states)[..., 0]

    values = readout(points.states)
    low, high = np.clip(np.quantile(values, (0.05, 0.95)), -REACH, REACH)
    nearest = np.abs(values[:, None] - np.linspace(low, high, PLACES)).argmin(axis=0)
    line = points[np.unique(nearest)]
    line = line[np.argsort(readout(line.states))]

    words = dict(zip(task.texts, np.eye(len(task.texts)), strict=True))
    modifiers = {word.text: words[word.text] for word in task.words if word.scope}
    probes = {word.text: words[word.text] for word in task.words if word.value}
    effects = contextual_effects(F, line, modifiers, probes, R, rest=task.rest, num_lags=LAGS)
    scopes = {word.text: word.scope for word in task.words if word.scope}
    removals, shares, integrated, shifts = {}, {}, {}, {}
    alone = np.stack([task.rest] * 6)
    bad = np.stack([words["bad"], *alone[1:]])
    half = {word: probes[word] for word in list(probes)[:2]}  # modes are chosen by their effect on these words
    others = {word: vector for word, vector in probes.items() if word not in half}  # and removed before the others
    for name, word in modifiers.items():
        options = {"num_lags": scopes[name]}
        for what, count in (("one", 1), ("chosen", settings.num_modes)):
            modes = strongest_modes(F, line, word, half, R, num_modes=count, **options)
            shares[name, what] = remove_modes(F, line, word, others, R, modes=modes, **options).fraction
        shares[name, "angle"] = remove_modes(F, line, word, others, R, num_modes=settings.num_modes, **options).fraction
        removals[name] = removal = remove_modes(F, line, word, probes, R, modes=modes, **options)
        still = drive(F, line.unravel(line.states), task.rest[None])[:, -1]
        starts = [line.unravel(still + change) for change in (0, removal.deflections, removal.remaining)]
        rests = [readout(drive(F, start, alone)) for start in starts]
        added = [readout(drive(F, start, bad)) - rest for start, rest in zip(starts, rests, strict=True)]
        integrated[name] = np.stack(added).mean(axis=1)
        shifts[name] = float(np.abs(rests[2] - rests[1])[:, -1].mean())
    return Story(points, line, readout, effects, removals, shares, integrated, shifts)


def numbers(story: Story) -> dict[str, float]:
    """Results: the line, its modes, the modifiers' modes and what removing them does."""
    import numpy as np

    from ctd_models.analysis import manifold_dimension

    points, values = story.points, story.points.eigenvalues
    nearest = np.take_along_axis(values, np.abs(values - 1).argmin(axis=1)[:, None], axis=1)[:, 0]
    sizes = np.sort(np.abs(values), axis=1)[:, ::-1]
    results = {
        "num_fixed_points": len(points),
        "max_speed": float(points.speeds.max()),
        "line_attractor_dimension": int(np.median(manifold_dimension(points, near=0.02).near_unit)),
        "mode_near_one": float(np.median(nearest.real)),
        "second_mode_size": float(np.median(sizes[:, 1])),
    }
    for name, removal in story.removals.items():
        best = np.argmin(removal.angles, axis=1)[:, None]
        mode = np.take_along_axis(story.line.eigenvalues, best, axis=1)[:, 0]
        results |= {
            f"angle_{name}_deg": float(np.median(removal.angles.min(axis=1))),
            f"{name}_mode_size": float(np.median(np.abs(mode))),
            f"{name}_mode_frequency": float(np.median(np.abs(np.angle(mode)))) / (2 * np.pi),
            f"{name}_effect_removed_fraction": story.shares[name, "chosen"],
            f"{name}_effect_removed_by_one_mode": story.shares[name, "one"],
            f"{name}_effect_removed_by_angle": story.shares[name, "angle"],
            f"{name}_removal_shift": story.shifts[name],
            f"{name}_deflection": float(np.linalg.norm(removal.deflections, axis=1).mean()),
        }
    for name, factors in zip(story.effects.modifiers, story.effects.factors, strict=True):
        results |= {f"{name}_factor_{lag + 1}": float(value) for lag, value in enumerate(factors[:5])}
    return results
