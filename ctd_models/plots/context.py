"""Contextual effects of words: reviews, barcodes, distance, the modes that carry them, and what removing these does."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, no_type_check

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float

from ctd_models.analysis.context.effects import ContextualEffects
from ctd_models.analysis.context.removal import ModeRemoval
from ctd_models.analysis.fixed_points.points import FixedPoints
from ctd_models.plots.style import PALETTE, legend_below

_MODIFIERS = PALETTE[1:]


def _colored(things: Any) -> list[tuple[Any, str]]:
    """Each thing with a colour; colours come again after six."""
    return list(zip(things, itertools.cycle(_MODIFIERS), strict=False))


def _axes(axes: Any, size: Any) -> Any:
    return plt.subplots(figsize=size, layout="constrained")[1] if axes is None else axes


@no_type_check  # it checks its arguments itself
def plot_review(
    words: Sequence[str], outputs: Float[Any, "T"], targets: Float[Any, "T"] | None = None, *, axes: Any = None
) -> Any:
    """What a network reads out after each word of a review, and what it should.

    Raises:
        ValueError: not one output for each word.
    """
    if np.shape(outputs) != (len(words),) or (targets is not None and np.shape(targets) != (len(words),)):
        raise ValueError(f"expected one output and target for each of {len(words)} words, got {np.shape(outputs)}")
    axes, places = _axes(axes, (9, 2.6)), np.arange(len(words))
    if targets is not None:
        axes.step(places, targets, where="mid", color="0.6", lw=2.5, label="true sentiment")
    axes.plot(places, outputs, color=PALETTE[2], marker="o", ms=2.5, lw=1, label="network")
    axes.set_xticks(places, words, rotation=90, fontsize="x-small")
    axes.set(ylabel="sentiment", xlim=(-0.6, len(words) - 0.4))
    axes.legend(frameon=False, fontsize="small", loc="best")
    return axes


@no_type_check  # it checks its arguments itself
def plot_barcodes(effects: ContextualEffects, *, lag: int = 0, axes: Any = None) -> Any:
    """Modifier barcodes: what each modifier does to the effect of each probe `lag` steps later, averaged over states."""
    if not 0 <= lag < effects.barcodes.shape[2]:
        raise ValueError(f"lag must lie in 0 … {effects.barcodes.shape[2] - 1}, got {lag}")
    bars = effects.barcodes[:, :, lag].mean(axis=1)
    axes = _axes(axes, (2 + 0.7 * bars.shape[1], 1.4 + 0.4 * len(bars)))
    limit = np.abs(bars).max() or 1.0
    image = axes.imshow(bars, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
    axes.set_xticks(range(bars.shape[1]), effects.probes, rotation=90 if bars.shape[1] > 6 else 0)
    axes.set_yticks(range(len(bars)), effects.modifiers)
    axes.set(xlabel="word that follows", ylabel="modifier")
    axes.figure.colorbar(image, ax=axes, label="change of readout\n(linear in the word)")
    return axes


@no_type_check  # it checks its arguments itself
def plot_effect_by_distance(
    effects: ContextualEffects, truth: Mapping[str, Float[Any, "lags"]] | None = None, *, axes: Any = None
) -> Any:
    """By which factor each modifier multiplies the effect of a word that follows it at each distance, 1 for the next.

    Args:
        effects: at several lags.
        truth: name of a modifier → the factor it should have at each lag, drawn as steps.
        axes: axes to draw into.
    """
    axes, distances = _axes(axes, (4.4, 3.2)), 1 + np.arange(effects.changes.shape[2])
    spread = effects.changes / np.where(np.abs(effects.plain) > 1e-12, effects.plain, np.nan) + 1
    axes.axhline(1, color="0.8", lw=0.8)
    if truth is not None and (unknown := sorted(set(truth) - set(effects.modifiers))):
        raise ValueError(f"truth names {unknown}, which are none of the modifiers {effects.modifiers}")
    for (name, factors, values), color in _colored(zip(effects.modifiers, effects.factors, spread, strict=True)):
        low, high = np.nanquantile(values.transpose(1, 0, 2).reshape(len(distances), -1), (0.1, 0.9), axis=1)
        axes.fill_between(distances, low, high, color=color, alpha=0.2, lw=0)
        axes.plot(distances, factors, color=color, marker="o", ms=4, label=name)
        if truth is not None and name in truth:
            axes.step(distances, truth[name], where="mid", color=color, lw=1, ls=":")
    axes.set(xlabel="distance from the modifier [words]", ylabel="effect of a word,\ntimes that without modifier")
    axes.set_xticks(distances)
    axes.legend(frameon=False, fontsize="small")
    return axes


@no_type_check  # it checks its arguments itself
def plot_mode_angles(points: FixedPoints, removals: Mapping[str, ModeRemoval], *, axes: Any = None) -> Any:
    """Angle between the deflection by each modifier and the left eigenvector of each mode, against |λ|.

    Modes that were removed are filled; all points are shown.
    """
    axes, sizes = _axes(axes, (4.4, 3.2)), np.abs(points.eigenvalues)
    for (name, removal), color in _colored(removals.items()):
        rest, chosen = ~removal.modes, removal.modes
        axes.plot(sizes[rest], removal.angles[rest], ".", ms=1.5, color=color, alpha=0.25)
        axes.plot(sizes[chosen], removal.angles[chosen], "o", ms=4, color=color, mec="0.2", mew=0.3, label=name)
    axes.axhline(90, color="0.8", lw=0.8)
    axes.set(
        xlabel="|λ| of the mode", ylabel="angle of the deflection with\nthe left eigenvector [degrees]", ylim=(0, 95)
    )
    legend_below(axes, offset=-0.2)
    return axes


@no_type_check  # it checks its arguments itself
def plot_removal(removals: Mapping[str, ModeRemoval], probes: Sequence[str], *, lag: int = 0, axes: Any = None) -> Any:
    """Effects of probes alone, after each modifier, and after it but without the modes that were removed, at one lag.

    Raises:
        ValueError: a lag that some modifier was not measured at, or not one name for each probe.
    """
    for name, removal in removals.items():
        _, lags, count = removal.plain.shape
        if not 0 <= lag < lags or count != len(probes):
            raise ValueError(
                f"{name} has {lags} lags and {count} probes, got lag {lag} and {len(probes)} names of probes"
            )
    axes, names = _axes(axes, (6, 3.2)), list(removals)
    bars = [("alone", "0.7", next(iter(removals.values())).plain)]
    for name, color in _colored(names):
        bars.append((f"after “{name}”", color, removals[name].modified))
        bars.append((f"“{name}”, modes removed", color, removals[name].removed))
    width = 0.85 / len(bars)
    for i, (label, color, values) in enumerate(bars):
        values = values[:, lag]
        places = np.arange(len(probes)) + width * (i - (len(bars) - 1) / 2)
        hatched = (
            {"hatch": "////", "facecolor": "white", "edgecolor": color} if "removed" in label else {"color": color}
        )
        axes.bar(places, values.mean(axis=0), width, yerr=values.std(axis=0), label=label, ecolor="0.3", **hatched)
    axes.axhline(0, color="0.3", lw=0.8)
    axes.set_xticks(range(len(probes)), probes)
    axes.set(ylabel="change of the readout\n(mean, sd over the line)")
    legend_below(axes, columns=2, offset=-0.1)
    return axes


@no_type_check  # it checks its arguments itself
def plot_deflections(
    points: FixedPoints, effects: ContextualEffects, readout: Any, *, every: int = 4, axes: Any = None
) -> Any:
    """How modifiers push the state off a line of slow points, and how it comes back.

    Across: what is read out. Up: the first principal component of the deflections, with the direction of the line taken out.

    Args:
        points: slow points, the states that `effects` start from.
        effects: at several lags.
        readout: values read out of flat states [..., d] → [...].
        every: the way is shown from one in so many points.
        axes: axes to draw into.
    """
    axes, states = _axes(axes, (5, 3.6)), points.states
    line = np.linalg.svd(states - states.mean(axis=0), full_matrices=False)[2][0]
    moves = effects.deflections[:, :, 0].reshape(-1, states.shape[1])
    moves = moves - np.outer(moves @ line, line)
    up = np.linalg.svd(moves, full_matrices=False)[2][0]
    up = up * (1 if (moves @ up).sum() >= 0 else -1)
    axes.plot(readout(states), (states - states.mean(axis=0)) @ up, "k.", ms=4, label="slow points")
    for (name, ways), color in _colored(zip(effects.modifiers, effects.states, strict=True)):
        for i in range(0, len(states), every):
            way = np.concatenate([states[i : i + 1], ways[i]])
            across, height = readout(way), (way - states.mean(axis=0)) @ up
            label = f"after “{name}”" if i == 0 else None
            axes.plot(across, height, color=color, lw=1, marker="o", ms=2.5, label=label)
    axes.set(xlabel="readout", ylabel="off the line [state units]")
    legend_below(axes, offset=-0.18)
    return axes
