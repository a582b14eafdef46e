import builtins
import datetime

import numpy as np
import pytest

from ctd_models.data.binning import bin_spike_times
from ctd_models.data.nwb import load_nwb
from ctd_models.data.nwb_series import Series, observed

EVENTS = np.array([2.0, 4.0, np.nan, 6.0, 8.0, 9.9, 1.0, 7.0])
SPLIT = ["train", "val", "train", "test", "none", "train", "train", "val"]
TARGET = ["left", "right", "left", "left", "right", "right", "right", "left"]


@pytest.fixture
def spikes():
    rng = np.random.default_rng(0)
    return [np.sort(np.round(rng.uniform(0, 10, n), 3)) for n in (300, 200, 1, 250)]


@pytest.fixture
def write(tmp_path, spikes):
    """Writes a small file; without arguments one like those of the Neural Latents Benchmark."""
    pynwb = pytest.importorskip("pynwb")

    def write(spikes=spikes, split=SPLIT, heldout=(False, True, False, True), intervals=((0.0, 5.0), (5.0, 10.0))):
        start = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
        file = pynwb.NWBFile(session_description="made", identifier="a", session_start_time=start)
        if heldout is not None:
            file.add_unit_column("heldout", "only to be predicted")
        for unit, times in enumerate(spikes):
            more = {} if heldout is None else {"heldout": heldout[unit]}
            more |= {} if intervals is None else {"obs_intervals": np.array(intervals)}
            file.add_unit(spike_times=times, **more)
        for name in ("go_time", "target") + (() if split is None else ("split",)):
            file.add_trial_column(name, name)
        for i, event in enumerate(EVENTS):
            more = {} if split is None else {"split": split[i]}
            file.add_trial(start_time=float(i), stop_time=i + 1.0, go_time=event, target=TARGET[i], **more)
        times = np.arange(1001) / 100
        series = {"hand": np.stack([3 * times, 1 - times], 1), "speed": np.square(times)}
        module = file.create_processing_module("behavior", "made")
        module.add(pynwb.TimeSeries(name="hand", data=series["hand"], unit="m", rate=100.0, starting_time=0.0))
        slow = pynwb.TimeSeries(name="speed", data=series["speed"], unit="m/s", timestamps=times, conversion=2.0)
        file.add_acquisition(slow)
        file.add_acquisition(pynwb.TimeSeries(name="twice", data=times, unit="V", rate=100.0))
        module.add(pynwb.TimeSeries(name="twice", data=times, unit="V", rate=100.0))
        with pynwb.NWBHDF5IO(tmp_path / "a.nwb", "w") as io:
            io.write(file)
        return tmp_path / "a.nwb"

    return write


def test_trials_are_binned_around_the_event(write, spikes):
    data = load_nwb(write(), 0.05, (-0.2, 0.3), "go_time", condition="target")
    counts = bin_spike_times(spikes, (-0.2, 0.3), 0.05, np.nan_to_num(EVENTS))[:, :, [0, 2, 1, 3]]
    rows = {"train": [0, 6], "validation": [1, 7], "test": [3]}
    assert (data.num_heldin, data.num_heldout, data.neurons.tolist()) == (2, 2, [0, 2, 1, 3])
    assert list(data.parts) == list(rows)
    for part, expected in rows.items():
        assert data.trial_indices[part].tolist() == expected
        np.testing.assert_array_equal(data.parts[part].targets, counts[expected])
        np.testing.assert_array_equal(data.parts[part].inputs, counts[expected][:, :, :2])
        assert data.conditions[part].tolist() == [int(TARGET[i] == "right") for i in expected]
    # the third has no time, the fifth no part, the window of the sixth ends after what was observed
    assert data.dropped == {"no time": 1, "no part": 1, "not observed": 1}
    assert (data.layout, data.bin_width_s, data.train.targets.dtype) == ("nwb", 0.05, np.uint8)
    np.testing.assert_allclose(data.time_s, -0.2 + 0.05 * np.arange(10))


@pytest.mark.filterwarnings("ignore:.*have no spike")
def test_behavior_is_that_of_the_start_of_each_bin(write):
    data = load_nwb(write(), 0.025, (-0.1, 0.4), "go_time", behavior=("hand", "speed", "acquisition/twice"))
    times = EVENTS[data.trial_indices["train"]][:, None] + data.time_s
    hand = data.behavior["train"]["hand"]
    np.testing.assert_allclose(hand, np.stack([3 * times, 1 - times], 2), atol=1e-12)  # linear: no error
    np.testing.assert_allclose(data.behavior["train"]["speed"][..., 0], 2 * times**2, atol=2 * 0.01**2 / 4 + 1e-12)
    assert data.behavior_units == {"hand": "m", "speed": "m/s", "acquisition/twice": "V"}


@pytest.mark.filterwarnings("ignore:.*have no spike")
def test_a_plain_file_trains_on_all_trials(write):
    path = write(split=None, heldout=None, intervals=None)
    data = load_nwb(
        path, 0.1, (0.0, 0.5), num_forward_bins=2, where={"target": "left"}, condition="target", labels=True
    )
    assert list(data.parts) == ["train"]
    assert data.trial_indices["train"].tolist() == [0, 2, 3, 7]  # aligned to the start of the trial
    assert data.dropped == {"where": 4}
    assert (data.train.inputs.shape, data.train.targets.shape) == ((4, 3, 4), (4, 5, 4))
    assert data.train.labels.tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"align": "stop"}, r"table of trials has no column 'stop', its columns are \['start_time'"),
        ({"align": "target"}, "column 'target' has .* expected times"),
        ({"split": "fold"}, "no column 'fold'"),
        ({"heldout": "quality"}, "table of units has no column 'quality'"),
        ({"where": {"result": "R"}}, "no column 'result'"),
        ({"where": {"target": "up"}}, r"no training trial is left of 8, left out are {'where': 8"),
        ({"behavior": ["eye"]}, r"has 0 time series 'eye', expected one; it has \['acquisition/speed'"),
        ({"behavior": ["twice"]}, "has 2 time series 'twice'"),
        ({"window_s": (0.0, 0.52)}, "whole number"),
        ({"window_s": (0.0, 0.05)}, "2 bins or more to read, got 1 - 0"),
        ({"window_s": (0.3, 0.1)}, "stops after its start"),
        ({"num_forward_bins": 9}, "got 10 - 9 forward bins"),
        ({"labels": True}, "needs the column of the condition"),
    ],
)
def test_what_does_not_fit_is_named(write, options, message):
    arguments = {"bin_width_s": 0.05, "window_s": (-0.2, 0.3), "align": "go_time"} | options
    with pytest.raises(ValueError, match=message):
        load_nwb(write(), **arguments)


def test_files_that_are_none(write, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*b\.nwb"):
        load_nwb(tmp_path / "b.nwb", 0.05, (0.0, 0.5))
    with pytest.raises(ValueError, match=r"in ascending order, got 1\.0 after 2\.0 at index 1 of neuron 0"):
        load_nwb(write(spikes=[[2.0, 1.0]] * 4), 0.05, (0.0, 0.5))


def test_silent_units_are_named(write, spikes):
    path = write(spikes=[spikes[0], np.array([5.0]), spikes[1], spikes[3]])
    with pytest.warns(UserWarning, match=r"1 of 4 neurons .*index \[1\]") as got:
        load_nwb(path, 0.05, (-0.2, 0.3), "go_time")
    assert got[0].filename == __file__


def test_the_extra_is_named(monkeypatch):
    real = builtins.__import__

    def without_pynwb(name, *arguments, **options):
        if name == "pynwb":
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without_pynwb)
    with pytest.raises(ImportError, match=r"ctd_models\[nwb\]"):
        load_nwb("a.nwb", 0.05, (0.0, 0.5))


def test_nothing_is_made_up_outside_a_series_and_in_its_gaps():
    series = Series(np.array([0.0, 0.1, 0.2, 0.3, 0.9, 1.0]), np.array([[0.0], [1], [2], [np.nan], [9], [10]]), "m")
    times = np.array([[-0.01, 0.0, 0.05, 0.2, 0.25, 0.31, 0.9, 0.95, 1.0, 1.01]])
    expected = [np.nan, 0, 0.5, 2, np.nan, np.nan, 9, 9.5, 10, np.nan]
    np.testing.assert_allclose(series.at(times, 0.1)[0, :, 0], expected)
    filled = Series(series.times_s, 10 * series.times_s[:, None], "m")
    assert np.isnan(filled.at(times, 0.1)[0, 5, 0])
    assert filled.at(times, 0.7)[0, 5, 0] == pytest.approx(3.1)  # not a gap where bins are as wide


def test_a_window_is_observed_where_all_units_are():
    windows = np.array([[0.0, 1.0], [0.5, 1.5], [1.5, 2.5], [3.0, 4.0], [3.5, 4.1], [-0.5, 0.5]])
    first = np.array([[1.0, 2.0], [0.0, 1.0], [3.0, 4.0]])  # unordered, two that touch
    assert observed(windows, [first, first]).tolist() == [True, True, False, True, False, False]
    assert observed(windows, [first, np.array([[0.0, 3.5]])]).tolist() == [True, True, False, False, False, False]
    assert not observed(windows, [first, np.zeros((0, 2))]).any()
    nested = np.array([[0.0, 5.0], [1.0, 1.2]])
    assert observed(windows, [nested]).tolist() == [True, True, True, True, True, False]
