"""Figures of LFADS show what they are given, with units."""

import dataclasses

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.collections import FillBetweenPolyCollection

from ctd_models.analysis.decoding import smooth_spikes
from ctd_models.analysis.fixed_points.linearization import linearize
from ctd_models.analysis.fixed_points.points import FixedPoints
from ctd_models.analysis.latents.pca import PCA
from ctd_models.analysis.spike_metrics import psth, psth_r2
from ctd_models.plots.factors import condition_palette, plot_factors, plot_generator_points
from ctd_models.plots.lfads import plot_elbo, plot_inferred_inputs, plot_inferred_rates
from ctd_models.plots.psths import plot_cosmoothing, plot_psths

BIN = 0.02
SPACE = PCA(np.zeros(3), np.eye(3), np.array([0.5, 0.3, 0.2]))


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def panels(figure, title):
    return [axes for axes in figure.axes if axes.get_title().startswith(title)]


def legend(owner):
    found = owner.get_legend() if hasattr(owner, "get_legend") else owner.legends[0]
    return [text.get_text() for text in found.get_texts()]


def figure_legends(figure):
    return [text.get_text() for part in [figure, *figure.subfigs] for box in part.legends for text in box.get_texts()]


# Rates ----------------------------------------------------------------------------------------------------------------


def bumps(peaks, time=30):
    """Rates [spikes/bin] that rise once, each neuron at its own bin."""
    return 0.1 + np.exp(-0.5 * ((np.arange(time)[:, None] - np.asarray(peaks)) / 2) ** 2)


def test_rates_are_in_hz_and_sorted_by_their_peak(rng):
    peaks = [20, 5, 12, 27, 8]
    true = bumps(peaks)
    inferred, spikes = 1.1 * true, rng.poisson(true)
    figure = plot_inferred_rates(spikes, inferred, true, bin_width_s=BIN, neurons=[2, 3], start_s=-0.1)
    order = np.argsort(peaks)
    for title, values in (("spike counts", spikes), ("inferred rates", inferred / BIN), ("true rates", true / BIN)):
        (axes,) = panels(figure, title)
        image = axes.images[0]
        np.testing.assert_allclose(image.get_array(), values[:, order].T)
        assert image.get_extent() == pytest.approx([-0.1, 0.5, 4.5, -0.5])
        assert axes.get_xlabel() == "time (s)"
    assert len({axes.images[0].get_clim() for title in ("inf", "true") for axes in panels(figure, title)}) == 1
    labels = [axes.get_ylabel() for axes in figure.axes]
    assert "spikes/bin" in labels and "rate (Hz)" in labels
    traces = panels(figure, "neuron")
    assert [axes.get_title() for axes in traces] == ["neuron 2", "neuron 3"]
    for axes, neuron in zip(traces, (2, 3), strict=True):
        truth, line = axes.lines
        np.testing.assert_allclose(truth.get_ydata(), true[:, neuron] / BIN)
        np.testing.assert_allclose(line.get_ydata(), inferred[:, neuron] / BIN)
        np.testing.assert_allclose(line.get_xdata()[[0, -1]], [-0.1 + BIN / 2, 0.5 - BIN / 2])
    assert figure_legends(figure) == ["true rate", "inferred rate"]


def test_without_true_rates_traces_show_smoothed_counts(rng):
    rates = bumps([3, 9, 20])
    spikes = rng.poisson(rates)
    figure = plot_inferred_rates(spikes, rates, bin_width_s=BIN, neurons=[1], smoothing_s=0.04)
    assert not panels(figure, "true rates")
    counts = panels(figure, "neuron 1")[0].lines[0].get_ydata()
    np.testing.assert_allclose(counts, smooth_spikes(spikes[None], 2.0)[0, :, 1] / BIN)
    assert figure_legends(figure) == ["counts, smoothed (40 ms)", "inferred rate"]


def test_held_out_neurons_stand_below_and_are_named(rng):
    rates = bumps([20, 5, 12, 27, 8, 2]) * np.array([1, 2, 3, 4, 5, 6])
    figure = plot_inferred_rates(rng.poisson(rates), rates, bin_width_s=BIN, heldout=[0, 4])
    (axes,) = panels(figure, "inferred rates")
    np.testing.assert_allclose(axes.images[0].get_array(), rates[:, [5, 1, 2, 3, 4, 0]].T / BIN)
    assert axes.lines[0].get_ydata()[0] == 3.5
    shown = [axes.get_title() for axes in panels(figure, "neuron")]
    assert shown == ["neuron 5", "neuron 3", "neuron 4, held out", "neuron 0, held out"]


def test_rates_that_do_not_fit(rng):
    rates = bumps([3, 9])
    for arguments, message in (
        ((rates, rates[:-1]), r"expected inferred rates \[time, neurons\]"),
        ((rates[None], rates[None]), r"expected spike counts \[time, neurons\] of one trial"),
        ((rates, rates, rates[:, :1]), "expected true rates"),
        ((rates, np.where(rates > 1, np.nan, rates)), r"inferred rates hold nan at index \(3, 0\)"),
    ):
        with pytest.raises(ValueError, match=message):
            plot_inferred_rates(*arguments, bin_width_s=BIN)
    for options, message in (
        ({"bin_width_s": 0}, "bin_width_s must be positive, got 0"),
        ({"bin_width_s": BIN, "smoothing_s": -1}, "smoothing_s must be positive"),
        ({"bin_width_s": BIN, "neurons": [2]}, r"neurons must be indices of 2 neurons, at least one, got \[2\]"),
        ({"bin_width_s": BIN, "neurons": []}, "neurons must be indices of 2 neurons, at least one"),
        ({"bin_width_s": BIN, "heldout": [0.5]}, "heldout must be indices"),
    ):
        with pytest.raises(ValueError, match=message):
            plot_inferred_rates(rates, rates, **options)


# Inputs ---------------------------------------------------------------------------------------------------------------


def test_true_inputs_are_mapped_onto_the_inferred_ones(rng):
    true = rng.normal(size=(6, 20, 1))
    inferred = np.concatenate([3 - 2 * true, np.roll(true, 1, axis=1)], axis=2)
    figure = plot_inferred_inputs(inferred, true, bin_width_s=BIN, num_trials=3, stds=0.5 + 0 * inferred)
    axes = np.reshape(figure.axes, (2, 3))
    for trial, panel in enumerate(axes[0]):
        lines = {line.get_label(): line.get_ydata() for line in panel.lines}
        np.testing.assert_allclose(lines["inferred"], inferred[trial, :, 0])
        (mapped,) = (values for name, values in lines.items() if "least squares, all trials" in name)
        np.testing.assert_allclose(mapped, inferred[trial, :, 0], atol=1e-12)
        assert panel.get_title() == f"trial {trial + 1}, r² = 1.00"
        (band,) = (c for c in panel.collections if isinstance(c, FillBetweenPolyCollection))
        low, high = band.get_datalim(panel.transData).intervaly
        assert (low, high) == pytest.approx((lines["inferred"].min() - 0.5, lines["inferred"].max() + 0.5))
    others = [
        [np.corrcoef(true[trial, :, 0], inferred[trial, :, 1])[0, 1] ** 2 for trial in range(6)]
    ]  # of all trials, not only of those that are drawn
    text = figure.get_suptitle()
    assert text == f"squared correlation with the true input, r² = 1.00, {np.mean(others):.2f} (mean over 6 trials)"
    assert axes[1, 0].get_ylabel() == "input 2 (a.u.)"
    assert {panel.get_xlabel() for panel in axes[1]} == {"time (s)"}
    assert len(legend(figure)) == 3


def test_several_true_inputs_are_combined(rng):
    true = rng.normal(size=(5, 30, 2))
    inferred = true @ np.array([[1.0], [-2.0]]) + 1
    figure = plot_inferred_inputs(inferred, true, bin_width_s=BIN)
    assert figure.get_suptitle() == (
        "squared correlation with the best combination of 2 true inputs, r² = 1.00 (mean over 5 trials)"
    )
    assert len(figure.axes) == 4


def test_constant_inputs_are_said_to_be_undefined(rng):
    true = rng.normal(size=(3, 20, 1))
    true[1] = 0.0
    figure = plot_inferred_inputs(2 * true + 1, true, bin_width_s=BIN)
    assert [axes.get_title() for axes in figure.axes] == [
        "trial 1, r² = 1.00",
        "trial 2, r² undefined",
        "trial 3, r² = 1.00",
    ]
    assert "(mean over 2 trials, 1 where it is constant left out)" in figure.get_suptitle()
    figure = plot_inferred_inputs(true, np.zeros_like(true), bin_width_s=BIN)
    assert "undefined" in figure.get_suptitle()
    collapsed = plot_inferred_inputs(np.zeros_like(true), rng.normal(size=true.shape), bin_width_s=BIN)
    assert "r² = 0.00" in collapsed.get_suptitle()


def test_inputs_alone_and_inputs_that_do_not_fit(rng):
    inputs = rng.normal(size=(2, 10, 3))
    figure = plot_inferred_inputs(inputs, bin_width_s=BIN, start_s=1.0)
    assert len(figure.axes) == 6 and not figure.legends and figure.get_suptitle() == ""
    assert figure.axes[0].lines[1].get_xdata()[0] == pytest.approx(1.0 + BIN / 2)
    for arguments, options, message in (
        ((inputs[0],), {}, r"expected inputs \[trials, time, U\]"),
        ((inputs, inputs[:, 1:]), {}, r"expected true_inputs \[2 trials, 10 bins, V\], got shape \(2, 9, 3\)"),
        ((inputs,), {"stds": inputs[..., :1]}, "expected stds of the shape of the inputs"),
        ((inputs,), {"num_trials": 0}, "num_trials must be at least 1, got 0"),
        ((inputs * np.nan,), {}, "inputs hold nan"),
    ):
        with pytest.raises(ValueError, match=message):
            plot_inferred_inputs(*arguments, bin_width_s=BIN, **options)


# Training -------------------------------------------------------------------------------------------------------------


def history(**changes):
    steps = np.arange(1, 201)
    terms = {"nll": 100 + 50 / steps, "kl_code": 0.01 * steps, "kl_inputs": 5 + 0 * steps} | changes
    terms["elbo"] = -sum(terms.values())
    validation = {"loss": np.array([4.0, 1.0, 2.0, 3.0])} | {name: values[49::50] for name, values in terms.items()}
    rows = {f"validation/{name}": values for name, values in validation.items()}
    return {"step": steps, **terms, "validation/step": steps[49::50], **rows}


def test_elbo_and_its_terms_over_training():
    figure = plot_elbo(history())
    names = [axes.get_ylabel().replace("\n", " ") for axes in figure.axes]
    assert names == [
        "ELBO (nats/trial)",
        "negative log likelihood (nats/trial)",
        "KL of the code (nats/trial)",
        "KL of the inputs (nats/trial)",
    ]
    assert [axes.get_yscale() for axes in figure.axes] == ["linear", "linear", "log", "linear"]
    assert [axes.get_xlabel() for axes in figure.axes] == ["", "", "training step", "training step"]
    assert legend(figure) == ["batch", "mean of 10", "validation", "best validation, step 100"]
    for axes in figure.axes:
        assert axes.lines[-1].get_xdata()[0] == 100
    np.testing.assert_allclose(figure.axes[1].lines[0].get_ydata(), history()["nll"])
    first, last = 50 / 11, 50 / 200  # of the nll above 100, after the first twentieth of 200 steps
    margin = 0.1 * (first - last)
    assert figure.axes[1].get_ylim() == pytest.approx((100 + last - margin, 100 + first + margin))
    assert legend(plot_elbo(history(), best_step=150))[-1] == "best validation, step 150"
    assert legend(plot_elbo(history(), monitor="nll"))[-1] == "best validation, step 200"


def test_terms_that_are_absent_have_no_panel():
    autonomous = {name: values for name, values in history(kl_inputs=np.zeros(200)).items() if "valid" not in name}
    figure = plot_elbo(autonomous)
    drawn = [axes for axes in figure.axes if axes.lines]
    assert len(drawn) == 3
    assert [axes.get_xlabel() for axes in drawn] == ["", "training step", "training step"]
    assert legend(figure) == ["batch", "mean of 10"]
    with pytest.raises(ValueError, match=r"expected a history with one of \['elbo', .*got one of \['step', 'loss'\]"):
        plot_elbo({"step": np.arange(3), "loss": np.arange(3)})


# Factors --------------------------------------------------------------------------------------------------------------


def paths(axes):
    return [np.stack(line.get_data_3d(), axis=1) for line in axes.lines]


def scatters(axes):
    return [np.stack(c._offsets3d, axis=1) for c in axes.collections if hasattr(c, "_offsets3d")]


def test_factors_by_condition_with_averages(rng):
    factors, conditions = rng.normal(size=(12, 8, 3)), np.repeat([0, 90, 180], 4)
    figure = plot_factors(factors, conditions, num_trials=6, pca=SPACE, circular=True, label="direction (°)")
    (axes,) = figure.axes
    drawn = paths(axes)
    assert len(drawn) == 6 + 3
    np.testing.assert_allclose(drawn[0], factors[0])
    np.testing.assert_allclose(drawn[-1], factors[8:].mean(axis=0))
    colors = condition_palette(3, circular=True)
    used = mpl.colors.to_rgba_array([line.get_color() for line in axes.lines])
    assert len(np.unique(used, axis=0)) == 3  # every condition is among the trials that are drawn
    np.testing.assert_allclose(used[-3:], colors)
    assert legend(axes) == ["0", "90", "180"] and axes.get_legend().get_title().get_text() == "direction (°)"
    assert (axes.get_xlabel(), axes.get_zlabel()) == ("factor PC 1 (50 %)", "factor PC 3 (20 %)")
    assert len(paths(plot_factors(factors, conditions, num_trials=0).axes[0])) == 3
    assert len(paths(plot_factors(factors, conditions, averages=False).axes[0])) == 12


def test_many_conditions_have_a_colour_bar(rng):
    figure = plot_factors(rng.normal(size=(24, 4, 5)), np.arange(24) // 2 * 10, label="speed (cm/s)")
    axes, bar = figure.axes
    assert axes.get_legend() is None and bar.get_ylabel() == "speed (cm/s)"
    ticks = [text.get_text() for text in bar.get_yticklabels()]
    assert (ticks[0], ticks[-1]) == ("0", "110")


def test_points_among_the_factors_are_filled_where_stable(rng):
    factors, points = rng.normal(size=(3, 6, 3)), rng.normal(size=(4, 3))
    stable = np.array([True, False, True, True])
    (axes,) = plot_factors(factors, points=points, stable=stable, pca=SPACE).axes
    filled, hollow = axes.collections[-2:]
    np.testing.assert_allclose(np.stack(filled._offsets3d, axis=1), points[stable])
    np.testing.assert_allclose(np.stack(hollow._offsets3d, axis=1), points[~stable])
    assert filled.get_facecolor()[0, 3] == 1 and len(hollow.get_facecolor()) == 0
    assert legend(axes) == ["stable fixed point (3)", "unstable fixed point (1)"]
    assert legend(plot_factors(factors, points=points).axes[0]) == ["fixed point (4)"]


def test_fewer_factors_than_three_and_given_axes(rng):
    axes = plt.figure().add_subplot(projection="3d")
    assert plot_factors(rng.normal(size=(3, 6, 2)), axes=axes) is axes.figure
    assert all(np.ptp(path[:, 2]) == 0 for path in paths(axes)) and axes.get_zlabel() == ""


def test_factors_that_do_not_fit(rng):
    factors = rng.normal(size=(4, 6, 3))
    for arguments, options, message in (
        ((factors[0],), {}, r"expected factors \[trials, time, F\]"),
        ((factors, [0, 1]), {}, r"expected one condition for each of 4 trials, got shape \(2,\)"),
        ((factors, None, np.ones((2, 5))), {}, r"expected points \[n, 3\].*got shape \(2, 5\)"),
        ((factors, None, np.full((2, 3), np.inf)), {}, r"points hold inf at index \(0, 0\)"),
        ((factors, None, np.ones((2, 3))), {"stable": [True]}, r"got shape \(1,\) for 2 points"),
        ((factors,), {"stable": [True]}, "for no points"),
        ((factors,), {"num_trials": -1}, "num_trials cannot be negative"),
        ((np.full((2, 3, 4), np.nan),), {}, "factors hold nan"),
        ((factors,), {"axes": plt.figure().subplots()}, "expected three-dimensional axes"),
    ):
        with pytest.raises(ValueError, match=message):
            plot_factors(*arguments, **options)


# The generator --------------------------------------------------------------------------------------------------------


def pitchfork(h):
    return 1.5 * h - h**3


@pytest.fixture(scope="module")
def points():
    """(0, 0, 0) with three unstable modes of 1.5, two stable points with modes of 0 each, and a saddle."""
    b = np.sqrt(0.5)
    return linearize(pitchfork, np.array([[0, 0, 0], [b, b, b], [-b, b, b], [b, 0, b]]))


def test_generator_points_by_their_largest_eigenvalue(points, rng):
    weights, factors = rng.normal(size=(3, 4)), rng.normal(size=(5, 6, 4))
    figure = plot_generator_points(points, lambda states: states @ weights, factors, num_trials=3)
    space, plane, bar = figure.axes
    assert len(paths(space)) == 3
    pca = PCA.fit(factors, 3)
    np.testing.assert_allclose(scatters(space)[0], pca.transform(points.states @ weights), atol=1e-12)
    largest = np.abs(points.eigenvalues).max(axis=1)
    np.testing.assert_allclose(space.collections[0].get_array(), largest)
    np.testing.assert_allclose(plane.collections[0].get_array(), np.repeat(largest, 3))
    assert space.collections[0].norm is plane.collections[0].norm
    assert plane.collections[0].norm(1.0) == pytest.approx(0.5)  # the middle of the colours
    assert bar.get_ylabel() == "largest |λ| of the point, unstable above 1"
    assert (plane.get_xlabel(), plane.get_ylabel()) == ("Re λ", "Im λ")
    titles = [part.get_suptitle() for part in figure.subfigs]
    assert titles == ["4 fixed points in the space of the factors", "their eigenvalues, 3 each"]


def test_generator_points_by_stability_and_by_class(points):
    figure = plot_generator_points(points, points.states, color="stability")
    assert figure_legends(figure) == ["attractor (2)", "repeller (1)", "saddle (1)"]
    assert [len(where) for where in scatters(figure.axes[0])] == [2, 1, 1]
    classed = dataclasses.replace(points, classes=np.array(["fixed", "slow", "slow", "fixed"]))
    figure = plot_generator_points(classed, points.states, color="class")
    assert figure_legends(figure) == ["fixed (2)", "slow (2)"]
    assert figure.subfigs[0].get_suptitle() == "4 slow points in the space of the factors"


def test_generator_that_is_a_flow_and_points_in_a_plane():
    flow = linearize(lambda h: -h, np.zeros((1, 2)), kind="flow")
    figure = plot_generator_points(flow, np.array([[1.0, 2.0, 3.0]]))
    assert figure.axes[2].get_ylabel() == "largest Re λ of the point (per unit time), unstable above 0"
    assert figure.subfigs[0].get_suptitle() == "1 fixed point in the space of the factors"


def test_generator_points_that_do_not_fit(points):
    plain = FixedPoints(states=points.states, speeds=points.speeds)
    for given, factor_map, options, message in (
        (points[:0], points.states[:0], {}, "nothing to plot"),
        (plain, points.states, {}, "call linearize"),
        (points, points.states[:2], {}, r"expected points \[4, F\].*got shape \(2, 3\)"),
        (points, points.states, {"factors": np.ones((2, 3, 5))}, r"expected points \[4, 5\]"),
        (points, points.states, {"color": "hue"}, "color must be"),
        (dataclasses.replace(points, classes=None), points.states, {"color": "class"}, "points that are classified"),
    ):
        with pytest.raises(ValueError, match=message):
            plot_generator_points(given, factor_map, **options)


# Averages and co-smoothing --------------------------------------------------------------------------------------------


def test_averages_over_trials_with_their_r2(rng):
    conditions = np.repeat([10, 20, 30], 5)
    rates = 1 + rng.random(size=(15, 12, 4))
    spikes = rng.poisson(rates)
    spikes[..., 3] = 0
    true, inferred = psth(spikes, conditions, width=1.0), psth(rates, conditions)
    figure = plot_psths(true, inferred, bin_width_s=BIN, neurons=[1, 3], num_conditions=2)
    axes = np.reshape(figure.axes, (2, 2))
    np.testing.assert_allclose(axes[0, 0].lines[1].get_ydata(), true.mean[2, :, 1] / BIN)
    np.testing.assert_allclose(axes[1, 0].lines[0].get_ydata(), inferred.mean[0, :, 1] / BIN)
    score = psth_r2(rates, spikes, conditions, width=1.0).neuron_r2[1]
    assert [panel.get_title() for panel in axes[0]] == [f"neuron 1, R² = {score:.2f}", "neuron 3"]
    assert axes[1, 0].get_ylabel() == "average of\ninferred rates (Hz)" and axes[1, 1].get_xlabel() == "time (s)"
    assert legend(figure) == ["10", "30"]
    figure = plot_psths(true.mean, inferred.mean, bin_width_s=BIN, conditions=["a", "b", "c"])
    assert legend(figure) == ["a", "b", "c"] and len(figure.axes) == 8


def test_averages_that_do_not_fit(rng):
    means = rng.random(size=(3, 5, 2))
    labelled = psth(means, np.array([1, 2, 3]))
    for arguments, options, message in (
        ((means, means[:2]), {}, "of one shape, got shapes"),
        ((labelled, labelled._replace(conditions=np.array([1, 2, 4]))), {}, "different conditions"),
        ((means, means), {"conditions": [0, 1]}, "expected a label of each of 3 conditions"),
        ((means, means), {"neurons": [5]}, r"neurons must be indices of 2 neurons, at least one, got \[5\]"),
        ((means, means * np.nan), {}, "psth_inferred hold nan"),
        ((means, means), {"num_conditions": 0}, "num_conditions must be at least 1"),
        ((means, means), {"bin_width_s": -1.0}, "bin_width_s must be positive"),
    ):
        with pytest.raises(ValueError, match=message):
            plot_psths(*arguments, **{"bin_width_s": BIN} | options)


def test_cosmoothing_of_each_neuron():
    bits, rates = np.array([0.1, -0.2, np.nan, 0.3]), np.array([1.0, 5.0, 0.0, 40.0])
    (axes,) = plot_cosmoothing(bits, rates, neurons=[3, 4, 7, 9], total=0.15).axes
    np.testing.assert_allclose(axes.lines[1].get_xydata(), [[1, 0.1], [5, -0.2], [40, 0.3]])
    assert [text.get_text() for text in axes.texts] == ["3", "4", "9"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("mean rate (Hz)", "co-smoothing (bits/spike)")
    assert axes.get_xscale() == "log" and axes.get_title() == "3 held-out neurons, 1 without spikes not shown"
    assert legend(axes) == ["all held-out neurons: 0.150"]
    with pytest.raises(ValueError, match="no neuron with a spike"):
        plot_cosmoothing(bits[2:3], rates[2:3])
    with pytest.raises(ValueError, match=r"bits and mean_rates_hz \[n\]"):
        plot_cosmoothing(bits, rates[:2])
