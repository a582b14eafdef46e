import dataclasses
import warnings

import h5py
import numpy as np
import pytest

from ctd_models.data.hdf5 import write_datasets
from ctd_models.data.layouts import LAYOUTS, load_spike_trials

SPLIT = np.array([0, 1, 0, 2, 0, 0, 1, 2, 0, 0], np.int8)


@pytest.fixture
def recording():
    rng = np.random.default_rng(0)
    return {
        "trials/spikes": rng.poisson(2.0, (10, 6, 5)).astype(np.uint8),
        "trials/split": SPLIT,
        "trials/condition": np.arange(10) % 3,
        "trials/time_s": 0.05 * np.arange(6) - 0.1,
        "trials/force": rng.normal(size=(10, 6, 2)).astype(np.float32),
        "meta/heldin_channels": np.array([4, 0], np.int16),
        "meta/heldout_channels": np.array([2], np.int16),
        "continuous/spikes": np.ones((99, 5), np.uint8),
    }


@pytest.fixture
def simulation():
    rng = np.random.default_rng(1)
    return {
        "spikes": rng.poisson(1.0, (12, 7, 4)).astype(np.uint8),
        "split": np.array([0] * 9 + [1] * 3, np.int8),
        "condition": np.arange(12) % 4,
        "rates": rng.uniform(1, 30, (4, 7, 4)).astype(np.float32),
        "latents": rng.normal(size=(4, 7, 3)).astype(np.float32),
        "inputs": rng.normal(size=(12, 7, 1)).astype(np.float32),
        "h0s": rng.normal(size=(12, 9)).astype(np.float32),
    }


@pytest.fixture
def write(tmp_path):
    def write(arrays, units=None, **attributes):
        write_datasets(tmp_path / "a.h5", arrays, units=units, attributes=attributes)
        return tmp_path / "a.h5"

    return write


def test_a_recording_is_parted_and_its_neurons_are_held_out(write, recording):
    data = load_spike_trials(write(recording, {"trials/force": "N"}, bin_width_s=0.05))
    assert data.layout == "recording"
    spikes, columns = recording["trials/spikes"], [4, 0, 2]
    assert (data.num_heldin, data.num_heldout, data.neurons.tolist()) == (2, 1, columns)
    for number, part in enumerate(("train", "validation", "test")):
        trials = np.flatnonzero(number == SPLIT)
        np.testing.assert_array_equal(data.trial_indices[part], trials)
        np.testing.assert_array_equal(data.parts[part].inputs, spikes[trials][:, :, [4, 0]])
        np.testing.assert_array_equal(data.parts[part].targets, spikes[trials][:, :, columns])
        np.testing.assert_array_equal(data.behavior[part]["force"], recording["trials/force"][trials])
        np.testing.assert_array_equal(data.conditions[part], trials % 3)
        assert data.parts[part].mask is None
    assert data.train.targets.dtype == np.uint8
    assert data.behavior_units == {"force": "N"}
    assert data.bin_width_s == 0.05
    np.testing.assert_array_equal(data.time_s, recording["trials/time_s"])
    assert (data.rates, data.rates_unit, data.latents) == ({}, None, {})
    with pytest.raises(dataclasses.FrozenInstanceError):
        data.test = None


def test_neurons_and_bins_can_be_chosen(write, recording):
    path, spikes = write(recording), recording["trials/spikes"][SPLIT == 0]
    every = load_spike_trials(path, heldout=(), behavior=())
    assert (every.num_heldin, every.num_heldout, every.behavior["train"]) == (5, 0, {})
    np.testing.assert_array_equal(every.train.inputs, spikes)
    assert every.bin_width_s == pytest.approx(0.05)  # from the times
    chosen = load_spike_trials(path, heldout=np.array([1, 3]), num_forward_bins=2, external_inputs="force", labels=True)
    assert chosen.neurons.tolist() == [0, 2, 4, 1, 3]
    np.testing.assert_array_equal(chosen.train.inputs, spikes[:, :4][:, :, [0, 2, 4]])
    np.testing.assert_array_equal(chosen.train.targets, spikes[:, :, [0, 2, 4, 1, 3]])
    np.testing.assert_array_equal(chosen.validation.external_inputs, recording["trials/force"][SPLIT == 1])
    np.testing.assert_array_equal(chosen.train.labels, np.flatnonzero(SPLIT == 0) % 3)


def test_true_rates_of_a_simulation_are_per_bin(write, simulation):
    path = write(simulation, bin_width_s=0.01)
    data = load_spike_trials(path)
    assert (data.layout, data.rates_unit, data.test) == ("simulation", "spikes/bin", None)
    assert list(data.parts) == ["train", "validation"]
    for part in data.parts:
        conditions = simulation["condition"][data.trial_indices[part]]
        np.testing.assert_allclose(data.rates[part], 0.01 * simulation["rates"][conditions], rtol=1e-6)
        np.testing.assert_array_equal(data.latents[part], simulation["latents"][conditions])
    assert data.rates["train"].dtype == np.float32
    assert list(data.behavior["train"]) == ["inputs"]
    np.testing.assert_array_equal(data.behavior["validation"]["inputs"], simulation["inputs"][9:])
    named = load_spike_trials(path, behavior=["h0s"], heldout=[1])
    np.testing.assert_array_equal(named.behavior["train"]["h0s"], simulation["h0s"][:9])
    np.testing.assert_array_equal(named.rates["train"], data.rates["train"][:, :, [0, 2, 3, 1]])


def test_the_unit_of_rates_is_said(write, simulation):
    unknown = load_spike_trials(write(simulation))
    assert (unknown.rates_unit, unknown.bin_width_s) == ("Hz", None)
    np.testing.assert_array_equal(unknown.rates["validation"], simulation["rates"][simulation["condition"][9:]])
    assert load_spike_trials(write(simulation), bin_width_s=0.02).rates_unit == "spikes/bin"
    per_bin = load_spike_trials(write(simulation, {"rates": "spikes/bin"}, bin_width_s=0.01))
    assert per_bin.rates_unit == "spikes/bin"
    np.testing.assert_array_equal(per_bin.rates["validation"], unknown.rates["validation"])


def test_rates_may_be_given_for_each_trial(write, simulation):
    rates = np.random.default_rng(2).uniform(1, 30, (12, 7, 4))
    conditioned = load_spike_trials(write(simulation | {"rates": rates}))
    del simulation["condition"], simulation["latents"]
    for data in (conditioned, load_spike_trials(write(simulation | {"rates": rates}))):
        np.testing.assert_array_equal(data.rates["validation"], rates[9:])
    with pytest.raises(ValueError, match="without conditions it must have a row for each of the 12 trials"):
        load_spike_trials(write(simulation | {"rates": rates[:4]}))


def test_values_keep_a_small_type(write, simulation):
    spikes = simulation["spikes"]
    for dtype, expected in ((np.float64, np.uint8), (np.float32, np.uint8), (np.int16, np.int16), (bool, np.uint8)):
        data = load_spike_trials(write(simulation | {"spikes": spikes.astype(dtype)}))
        assert data.train.targets.dtype == expected
        assert data.train.inputs.dtype == expected
    large = spikes.astype(float)
    large[0, 0, 0] = 300
    assert load_spike_trials(write(simulation | {"spikes": large})).train.targets.dtype == np.uint16


def test_values_that_are_no_counts_are_read_when_asked_for(write, simulation):
    values = np.random.default_rng(3).normal(size=(12, 7, 4)).astype(np.float32)
    path = write(simulation | {"spikes": values})
    with pytest.raises(ValueError, match=r"non-negative whole numbers \(counts=False.*got .* at index \(0, 0, 0\)"):
        load_spike_trials(path)
    np.testing.assert_array_equal(load_spike_trials(path, counts=False).train.targets, values[:9])
    values[1, 2, 3] = np.nan
    with pytest.raises(ValueError, match=r"finite values, got nan at index \(1, 2, 3\)"):
        load_spike_trials(write(simulation | {"spikes": values}), counts=False)


def test_silent_neurons_are_named(write, recording):
    recording["trials/spikes"][SPLIT == 0, :, 0] = 0
    with pytest.warns(
        UserWarning, match=r"1 of 3 neurons have no spike in the 6 training trials, .* index \[0\]"
    ) as got:
        load_spike_trials(write(recording))
    assert got[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_spike_trials(write(recording), heldin=[1, 2])


def change(name, do):
    def apply(arrays):
        arrays[name] = do(arrays[name])

    return apply


def put(index, value):
    def apply(array):
        array = array.astype(float)
        array[index] = value
        return array

    return apply


@pytest.mark.parametrize(
    ("damage", "options", "message"),
    [
        (change("trials/spikes", put((1, 2, 3), -1)), {}, r"got -1.0 at index \(1, 2, 3\)"),
        (change("trials/spikes", put((1, 2, 3), 0.5)), {}, r"got 0.5 at index \(1, 2, 3\)"),
        (change("trials/spikes", put((1, 2, 3), np.nan)), {}, r"got nan at index \(1, 2, 3\)"),
        (change("trials/spikes", lambda x: x.astype(np.int8) - 9), {}, r"whole numbers.*got -\d+ at index"),
        (change("trials/spikes", lambda x: x[0]), {}, r"has shape \(6, 5\), expected \[trials, time, neurons\]"),
        (change("trials/split", put(3, 5)), {}, r"0 \(train\), 1.*got 5.0 at index \(3,\)"),
        (change("trials/split", lambda x: x[:9]), {}, r"'trials/split' has shape \(9,\).* 10 trials"),
        (change("trials/split", lambda x: np.maximum(x, 1)), {}, "no training trial"),
        (change("trials/force", put((4, 0, 1), np.inf)), {}, r"'trials/force'.*got inf at index \(4, 0, 1\)"),
        (change("trials/time_s", lambda x: x[::-1]), {}, "increasing times"),
        (change("trials/condition", put(2, 0.5)), {}, r"whole numbers, got 0.5 at index \(2,\)"),
        (change("trials/condition", put(2, -1)), {"labels": True}, "trial 2 has -1"),
        (lambda a: a.pop("trials/condition"), {"labels": True}, "the file has none"),
        (change("meta/heldout_channels", lambda x: x * 0), {}, r"neurons \[0\] are both held in and held out"),
        (change("meta/heldout_channels", lambda x: x + 9), {}, r"heldout names the neurons \[11\]"),
        (lambda a: None, {"heldin": [1, 2], "heldout": [2]}, r"neurons \[2\] are both held in and held out"),
        (lambda a: None, {"num_forward_bins": 5}, "2 bins or more to read, got 1"),
        (lambda a: None, {"behavior": ["emg"]}, r"no dataset 'trials/emg' \(expected \[trials, time, dims_of_emg\]\)"),
        (lambda a: None, {"bin_width_s": -1}, "bin_width_s must be positive"),
        (lambda a: None, {"layout": "matlab"}, r"layout must be one of \['recording'.*got 'matlab'"),
        (
            lambda a: None,
            {"layout": "nlb"},
            r"the layout 'nlb' has \['\*/train_spikes_heldin'\], found are.*trials/spi",
        ),
        (lambda a: None, {"group": "nothing"}, r"no group 'nothing', at its top are .*'meta', 'trials'"),
        (
            lambda a: a.update({"trials/stimulus": np.ones((10, 4, 2))}),
            {"external_inputs": "stimulus"},
            r"'trials/stimulus' has shape \(10, 4, 2\).* with 6 time as in 'trials/spikes'",
        ),
    ],
)
def test_what_does_not_fit_is_named(write, recording, damage, options, message):
    damage(recording)
    with pytest.raises(ValueError, match=message):
        load_spike_trials(write(recording), **options)


def test_trials_of_one_bin_are_refused(write, simulation):
    one = {name: values[:, :1] for name, values in simulation.items() if values.ndim == 3}
    with pytest.raises(ValueError, match=r"'spikes' of shape \(12, 1, 4\): expected trials of 2 bins or more"):
        load_spike_trials(write(simulation | one))


def test_conditions_and_widths_must_fit(write, simulation):
    with pytest.raises(ValueError, match=r"'rates' of shape \(3, 7, 4\): trial 3 has condition 3, expected 0 … 2"):
        load_spike_trials(write(simulation | {"rates": simulation["rates"][:3]}))
    with pytest.raises(ValueError, match=r"'bin_width_s' is 0.01 s, bin_width_s=0.02"):
        load_spike_trials(write(simulation, bin_width_s=0.01), bin_width_s=0.02)
    with pytest.raises(ValueError, match="'bin_width_s' must be positive"):
        load_spike_trials(write(simulation, bin_width_s=0.0))
    with pytest.raises(ValueError, match="rates that are not negative, got -"):
        load_spike_trials(write(simulation | {"rates": -simulation["rates"]}))


def test_an_unknown_layout_lists_what_was_found(write, tmp_path):
    with pytest.raises(ValueError, match=r"'simulation' has spikes, split.*datasets are x/counts \[3, 2\]"):
        load_spike_trials(write({"x/counts": np.zeros((3, 2))}))
    h5py.File(tmp_path / "empty.h5", "w").close()
    with pytest.raises(ValueError, match="its datasets are none"):
        load_spike_trials(tmp_path / "empty.h5")
    with pytest.raises(FileNotFoundError, match=r"nothing\.h5"):
        load_spike_trials(tmp_path / "nothing.h5")
    with pytest.raises(ValueError, match="expected the path of a file"):
        load_spike_trials([])


def test_the_layout_can_be_forced(write, recording, simulation):
    both = recording | simulation
    assert load_spike_trials(write(both)).layout == "recording"
    forced = load_spike_trials(write(both), "simulation", heldout=())
    np.testing.assert_array_equal(forced.train.inputs, simulation["spikes"][:9])
    assert set(LAYOUTS) == {"recording", "simulation", "lfads-torch", "nlb"}


@pytest.mark.parametrize(
    ("name", "sizes", "steps", "neurons", "width"),
    [
        ("adan_day0.h5", None, 30, (70, 24), 0.05),
        ("lorenz.h5", None, 100, (30, 0), 0.01),
        ("chaotic_g1p5.h5", None, 100, (50, 0), 0.01),
        ("integrator.h5", (18432, 2048), 25, (100, 0), 0.04),
    ],
)
def test_the_data_at_hand(data_folder, name, sizes, steps, neurons, width):
    data = load_spike_trials(data_folder / name)
    assert (data.num_heldin, data.num_heldout) == neurons
    assert data.bin_width_s == width
    prefix = "trials/" if data.layout == "recording" else ""
    with h5py.File(data_folder / name) as file:
        split = file[f"{prefix}split"][()]
        last = int(np.flatnonzero(split == 1)[-1])
        np.testing.assert_array_equal(data.validation.targets[-1], file[f"{prefix}spikes"][last][:, data.neurons])
        assert sum(len(p.targets) for p in data.parts.values()) == len(split)
    assert sizes is None or tuple(len(p.targets) for p in data.parts.values()) == sizes
    assert data.train.targets.shape[1:] == (steps, sum(neurons))
    assert data.train.targets.dtype == np.uint8
    if data.rates:
        assert data.rates_unit == "spikes/bin"
        # spikes are Poisson with these rates: their difference, standardised, is a standard normal variable
        total, expected = data.validation.targets.sum(dtype=float), data.rates["validation"].sum(dtype=float)
        assert abs(total - expected) < 5 * np.sqrt(expected)
    if name == "adan_day0.h5":
        assert {k: v.shape[2] for k, v in data.behavior["test"].items()} == {"emg": 14, "force": 2, "force_rate": 2}
        assert load_spike_trials(data_folder / name, heldout=()).train.inputs.shape[2] == 96
