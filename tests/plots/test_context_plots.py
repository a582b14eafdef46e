"""Figures of contextual effects show what they are given."""

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest

from ctd_models.analysis import ContextualEffects, FixedPoints, ModeRemoval
from ctd_models.plots import (
    plot_barcodes,
    plot_deflections,
    plot_effect_by_distance,
    plot_mode_angles,
    plot_removal,
    plot_review,
)

M, N, K, P, D = 2, 6, 3, 4, 5
RNG = np.random.default_rng(0)


@pytest.fixture
def effects():
    plain = RNG.uniform(1, 2, size=(N, K, P))
    return ContextualEffects(
        modifiers=("not", "very"),
        probes=("a", "b", "c", "d"),
        states=RNG.normal(size=(M, N, K, D)),
        deflections=RNG.normal(size=(M, N, K, D)),
        barcodes=RNG.normal(size=(M, N, K, P)),
        changes=np.array([-2.0, 1.0])[:, None, None, None] * plain,
        plain=plain,
        jacobian_changes=RNG.uniform(size=(M, N, K)),
    )


@pytest.fixture
def points():
    values = np.sort(RNG.uniform(0, 1, (N, D)))[:, ::-1].astype(complex)
    return FixedPoints(states=RNG.normal(size=(N, D)), speeds=np.zeros(N), eigenvalues=values)


@pytest.fixture
def removal():
    modes = np.zeros((N, D), bool)
    modes[:, 2] = True
    shape = (N, K, P)
    effects = {name: np.full(shape, value) for name, value in (("plain", 1.0), ("modified", -1.0), ("removed", 0.5))}
    flat = RNG.normal(size=(N, D))
    return ModeRemoval(modes, RNG.uniform(10, 90, (N, D)), flat, flat, **effects)


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def test_a_review_word_by_word():
    outputs, targets = RNG.normal(size=3), RNG.normal(size=3)
    axes = plot_review(["not", "so", "good"], outputs, targets)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["not", "so", "good"]
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), targets)
    np.testing.assert_array_equal(axes.lines[1].get_ydata(), outputs)
    with pytest.raises(ValueError, match="each of 2 words"):
        plot_review(["a", "b"], outputs)


def test_barcodes_are_means_over_states(effects):
    axes = plot_barcodes(effects, lag=1)
    np.testing.assert_allclose(axes.images[0].get_array(), effects.barcodes[:, :, 1].mean(axis=1))
    assert [label.get_text() for label in axes.get_yticklabels()] == ["not", "very"]


def test_factors_by_distance(effects):
    axes = plot_effect_by_distance(effects, {"not": [-1, -1, 1]})
    curves = {line.get_label(): line.get_ydata() for line in axes.lines}
    np.testing.assert_allclose(curves["not"], -1)
    np.testing.assert_allclose(curves["very"], 2)
    assert any(np.array_equal(line.get_ydata(), [-1, -1, 1]) for line in axes.lines)
    assert "distance" in axes.get_xlabel()
    with pytest.raises(ValueError, match="truth names"):
        plot_effect_by_distance(effects, {"nor": [1, 1, 1]})
    with pytest.raises(ValueError, match="lag must lie in"):
        plot_barcodes(effects, lag=K)


def test_angles_of_removed_modes_stand_out(points, removal):
    axes = plot_mode_angles(points, {"not": removal})
    rest, chosen = axes.lines[:2]
    np.testing.assert_array_equal(np.sort(chosen.get_ydata()), np.sort(removal.angles[:, 2]))
    assert len(rest.get_ydata()) == N * (D - 1)


def test_effects_with_and_without_modes(removal):
    axes = plot_removal({"not": removal}, ("a", "b", "c", "d"))
    values = [[patch.get_height() for patch in axes.patches[i * P : (i + 1) * P]] for i in range(3)]
    np.testing.assert_allclose(values, [[1.0] * P, [-1.0] * P, [0.5] * P])
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    for probes, lag in ((("a", "b", "c", "d"), K), (("a",), 0)):
        with pytest.raises(ValueError, match="3 lags and 4 probes"):
            plot_removal({"not": removal}, probes, lag=lag)
    assert labels == ["alone", "after “not”", "“not”, modes removed"]


def test_ways_off_the_line_and_back(points, effects):
    axes = plot_deflections(points, effects, lambda states: states[..., 0], every=2)
    np.testing.assert_array_equal(axes.lines[0].get_xdata(), points.states[:, 0])
    ways = [line for line in axes.lines[1:] if len(line.get_xdata()) == K + 1]
    assert len(ways) == 2 * 3
    np.testing.assert_array_equal(ways[0].get_xdata(), [points.states[0, 0], *effects.states[0, 0, :, 0]])
