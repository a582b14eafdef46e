"""Figures of several sessions show what they are given."""

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest

from ctd_models.analysis import session_r2
from ctd_models.plots import plot_aligned_factors, plot_session_scores, plot_transfer


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def scores(rng, noise):
    y = rng.normal(size=(12, 5, 2))
    p = y + noise * rng.normal(size=y.shape)
    return session_r2(y, p, np.arange(12) % 3, num_resamples=50, rng=rng)


def test_scores_of_methods_by_behaviour(rng):
    found = {name: {"a": scores(rng, 0.5), "b": scores(rng, 0.1)} for name in ("force", "speed")}
    figure = plot_session_scores(found)
    assert [axes.get_title() for axes in figure.axes] == ["force", "speed"]
    left = figure.axes[0]
    assert left.get_ylabel() == "R² on test trials"
    assert [text.get_text() for text in left.texts] == [f"{s.median:.2f}" for s in found["force"].values()]
    drawn = sorted(np.concatenate([line.get_ydata() for line in left.lines if line.get_marker() == "o"]))
    np.testing.assert_allclose(drawn, sorted(np.concatenate([s.r2.ravel() for s in found["force"].values()])))
    low = found["force"]["a"]._replace(r2=np.array([[-3.0, 0.5], [0.5, 0.5], [0.5, 0.5]]))
    figure = plot_session_scores({"force": {"low": low, "a": scores(rng, 0.1)}})
    arrows = [line for line in figure.axes[0].lines if line.get_marker() == "v"]
    assert [len(line.get_ydata()) for line in arrows] == [1, 0]  # the one below the axis is marked
    with pytest.raises(ValueError, match="there are no scores"):
        plot_session_scores({"force": {}})


def test_transfer_names_rows_and_columns(rng):
    across = rng.uniform(size=(2, 2, 3))
    axes = plot_transfer(across, ["mon", "tue"], "force")
    assert axes.get_xlabel() == "used on session" and axes.get_ylabel() == "fitted on session"
    shown = {text.xyann: text.get_text() for text in axes.texts}
    assert shown[1, 0] == f"{across[0, 1].mean():.2f}" and shown[0, 1] == f"{across[1, 0].mean():.2f}"
    with pytest.raises(ValueError, match=r"expected across \[sessions, sessions, dims\]"):
        plot_transfer(across[0], ["mon", "tue"])


def test_factors_by_session_and_by_condition(rng):
    factors, sessions, conditions = rng.normal(size=(24, 6, 5)), np.arange(24) % 2, np.arange(24) // 2 % 3
    figure = plot_aligned_factors(factors, sessions, conditions, ["mon", "tue"])
    assert len(figure.axes) == 2
    labels = [[text.get_text() for text in axes.get_legend().get_texts()] for axes in figure.axes]
    assert labels == [["mon", "tue"], ["0", "1", "2"]]
    paths = [line for line in figure.axes[0].lines if len(line.get_data_3d()[0]) == 6]
    assert len(paths) == 6  # an average for each session and condition
    assert len(plot_aligned_factors(factors, sessions).axes) == 1
    with pytest.raises(ValueError, match="expected a name for each of 2 sessions, got 1"):
        plot_aligned_factors(factors, sessions, conditions, ["mon"])
    with pytest.raises(ValueError, match="one session and one condition a trial"):
        plot_aligned_factors(factors, sessions[:5], conditions)
