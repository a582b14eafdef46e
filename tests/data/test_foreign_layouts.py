"""The layouts of lfads-torch and of the Neural Latents Benchmark."""

import h5py
import numpy as np
import pytest

from ctd_models.data.hdf5 import write_datasets
from ctd_models.data.layouts import load_spike_trials


@pytest.fixture
def torch_arrays():
    rng = np.random.default_rng(0)
    arrays = {}
    for mark, trials in (("train", 6), ("valid", 3)):
        recon = rng.poisson(2.0, (trials, 8, 5))
        arrays |= {
            f"{mark}_recon_data": recon.astype(np.float32),
            f"{mark}_encod_data": recon[:, :6, :3].astype(np.float32),
            f"{mark}_ext_input": rng.normal(size=(trials, 8, 2)),
            f"{mark}_truth": 4.0 * rng.uniform(size=(trials, 8, 5)),
            f"{mark}_inds": np.arange(trials) + 10,
            f"{mark}_behavior": rng.normal(size=(trials, 6, 2)),
            f"{mark}_latents": rng.normal(size=(trials, 8, 3)),
        }
    arrays["train_behavior"][0, 0, 0] = np.nan
    return arrays | {"conversion_factor": np.array(4.0), "test_encod_data": rng.poisson(2.0, (2, 6, 3))}


@pytest.fixture
def nlb_arrays():
    """Train and eval input, and the targets of the evaluation, as three files."""
    rng = np.random.default_rng(1)

    def spikes(trials, time, neurons):
        return rng.poisson(2.0, (trials, time, neurons)).astype(np.float32)

    train = {
        "train_spikes_heldin": spikes(5, 6, 3),
        "train_spikes_heldout": spikes(5, 6, 2),
        "train_spikes_heldin_forward": spikes(5, 4, 3),
        "train_spikes_heldout_forward": spikes(5, 4, 2),
    }
    target = {
        "mc_maze_20/eval_spikes_heldout": spikes(3, 6, 2),
        "mc_maze_20/eval_spikes_heldin_forward": spikes(3, 4, 3),
        "mc_maze_20/eval_spikes_heldout_forward": spikes(3, 4, 2),
        "mc_maze_20/train_behavior": rng.normal(size=(5, 6, 2)),
        "mc_maze_20/eval_behavior": rng.normal(size=(3, 6, 2)),
        "mc_maze_20/eval_decode_mask": np.ones((3, 2), bool),
        "mc_maze_20/psth": rng.uniform(size=(18, 5)),
    }
    return train, {"eval_spikes_heldin": spikes(3, 6, 3)}, target


@pytest.fixture
def write(tmp_path):
    def write(*files):
        paths = [tmp_path / f"{number}.h5" for number in range(len(files))]
        for path, arrays in zip(paths, files, strict=True):
            write_datasets(path, arrays)
        return paths if len(paths) > 1 else paths[0]

    return write


def test_lfads_torch(write, torch_arrays):
    data = load_spike_trials(write(torch_arrays), bin_width_s=0.005)
    assert (data.layout, data.num_heldin, data.num_heldout, data.bin_width_s) == ("lfads-torch", 3, 2, 0.005)
    for part, mark in (("train", "train"), ("validation", "valid")):
        trials = data.parts[part]
        np.testing.assert_array_equal(trials.inputs, torch_arrays[f"{mark}_encod_data"])
        np.testing.assert_array_equal(trials.targets, torch_arrays[f"{mark}_recon_data"])
        np.testing.assert_array_equal(trials.external_inputs, torch_arrays[f"{mark}_ext_input"])
        np.testing.assert_allclose(data.rates[part], torch_arrays[f"{mark}_truth"] / 4)
        np.testing.assert_array_equal(data.latents[part], torch_arrays[f"{mark}_latents"])
        np.testing.assert_array_equal(data.trial_indices[part], torch_arrays[f"{mark}_inds"])
        np.testing.assert_array_equal(data.behavior[part]["behavior"], torch_arrays[f"{mark}_behavior"])
        assert list(data.behavior[part]) == ["behavior"]
        assert trials.mask is None
    assert (data.rates_unit, data.train.targets.dtype) == ("spikes/bin", np.uint8)


def test_what_a_file_keeps_back_has_no_weight(write, torch_arrays):
    test = load_spike_trials(write(torch_arrays)).test
    assert test.targets.shape == test.mask.shape == (2, 8, 5)
    np.testing.assert_array_equal(test.targets[:, :6, :3], torch_arrays["test_encod_data"])
    known = np.zeros((2, 8, 5))
    known[:, :6, :3] = 1
    np.testing.assert_array_equal(test.mask, known)
    assert not test.targets[known == 0].any()
    assert test.take(slice(1)).mask.shape == (1, 8, 5)


def test_the_least_of_lfads_torch(write, torch_arrays):
    least = {name: torch_arrays[name] for name in ("train_encod_data", "train_recon_data", "valid_truth")}
    data = load_spike_trials(write(least))
    assert (data.validation, data.test, data.rates_unit, data.rates) == (None, None, None, {})
    assert data.train.external_inputs is None
    assert data.trial_indices["train"].tolist() == list(range(6))
    no_factor = {name: v for name, v in torch_arrays.items() if name != "conversion_factor"}
    data = load_spike_trials(write(no_factor))
    assert data.rates_unit == "unknown"
    np.testing.assert_array_equal(data.rates["train"], torch_arrays["train_truth"])


def test_other_observations_are_read_when_asked_for(write, torch_arrays):
    real = torch_arrays | {
        f"{mark}_{name}_data": torch_arrays[f"{mark}_{name}_data"] - 0.5
        for mark, name in (("train", "encod"), ("train", "recon"), ("valid", "encod"), ("valid", "recon"))
    }
    data = load_spike_trials(write(real), counts=False)
    np.testing.assert_array_equal(data.train.targets, real["train_recon_data"])
    with pytest.raises(ValueError, match=r"'train_encod_data' of shape .* whole numbers"):
        load_spike_trials(write(real))


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"train_ext_input": np.ones((6, 6, 2))}, {}, r"'train_ext_input' has shape \(6, 6, 2\).* with 8 steps as in"),
        ({"valid_recon_data": np.ones((3, 8, 4))}, {}, r"'valid_recon_data' has shape \(3, 8, 4\).* 5 neurons as in"),
        ({"valid_encod_data": np.ones((3, 6, 4))}, {}, r"'valid_encod_data' has shape \(3, 6, 4\).* 3 inputs as in"),
        ({"train_encod_data": np.ones((5, 6, 3))}, {}, r"'train_encod_data' has shape \(5, 6, 3\).* 6 train_trials"),
        ({"valid_truth": np.ones((3, 8, 3))}, {}, r"'valid_truth' has shape"),
        ({"conversion_factor": np.zeros(1)}, {}, r"'conversion_factor' .*a positive number, got 0.0"),
        ({"train_ext_input": np.full((6, 8, 2), np.nan)}, {}, r"'train_ext_input' .*finite"),
        ({"train_recon_data": np.full((6, 8, 5), np.nan)}, {}, r"'train_recon_data' .*got nan"),
        ({}, {"heldout": np.array([1, 2])}, "tells by itself"),
        ({}, {"num_forward_bins": 2}, "tells by itself"),
        ({}, {"behavior": ["hand_vel"]}, "no dataset train_hand_vel of numbers"),
        ({}, {"behavior": ["inds"]}, r"'train_inds' has shape \(6,\), expected \[6 trials"),
        ({}, {"labels": True}, "labels=True needs conditions"),
    ],
)
def test_what_does_not_fit_in_lfads_torch_is_named(write, torch_arrays, change, options, message):
    with pytest.raises(ValueError, match=message):
        load_spike_trials(write(torch_arrays | change), **options)


def test_what_is_read_must_come_first_in_what_is_reconstructed(write, torch_arrays):
    shuffled = torch_arrays | {"train_recon_data": torch_arrays["train_recon_data"][:, :, ::-1]}
    with pytest.raises(ValueError, match=r"the same counts first in 'train_recon_data', got .* at index"):
        load_spike_trials(write(shuffled))
    more = {f"{m}_encod_data": np.ones((n, 6, 7)) for m, n in (("train", 6), ("valid", 3), ("test", 2))}
    with pytest.raises(ValueError, match="7 neurons are read but 5 are in 'train_recon_data'"):
        load_spike_trials(write(torch_arrays | more))
    longer = {f"{m}_encod_data": np.ones((n, 9, 3)) for m, n in (("train", 6), ("valid", 3), ("test", 2))}
    with pytest.raises(ValueError, match="9 bins are read but 8"):
        load_spike_trials(write(torch_arrays | longer))
    one = {f"{m}_encod_data": torch_arrays[f"{m}_encod_data"][:, :1] for m in ("train", "valid", "test")}
    with pytest.raises(ValueError, match="2 bins or more to read, got 1"):
        load_spike_trials(write(torch_arrays | one))


def test_the_benchmark_in_three_files(write, nlb_arrays):
    train, evaluation, target = nlb_arrays
    data = load_spike_trials(write(train, evaluation, target))
    assert (data.layout, data.num_heldin, data.num_heldout, data.test) == ("nlb", 3, 2, None)
    assert data.bin_width_s == 0.02  # from the name of the group
    np.testing.assert_array_equal(data.train.inputs, train["train_spikes_heldin"])
    for part, names, files in (("train", "train", train), ("validation", "mc_maze_20/eval", evaluation | target)):
        heldin = files["train_spikes_heldin" if part == "train" else "eval_spikes_heldin"]
        expected = np.concatenate(
            [
                np.concatenate([heldin, files[f"{names}_spikes_heldout"]], 2),
                np.concatenate([files[f"{names}_spikes_{h}_forward"] for h in ("heldin", "heldout")], 2),
            ],
            1,
        )
        np.testing.assert_array_equal(data.parts[part].targets, expected)
        assert data.parts[part].mask is None
        assert data.parts[part].targets.dtype == np.uint8
    np.testing.assert_array_equal(data.behavior["train"]["behavior"], target["mc_maze_20/train_behavior"])
    np.testing.assert_array_equal(data.behavior["validation"]["behavior"], target["mc_maze_20/eval_behavior"])
    assert set(data.behavior["validation"]) == {"behavior", "decode_mask"}


def test_test_trials_of_the_benchmark_hide_the_held_out(write, nlb_arrays):
    train, evaluation, _ = nlb_arrays
    data = load_spike_trials(write(train, evaluation), bin_width_s=0.02)
    assert data.validation is None
    np.testing.assert_array_equal(data.test.targets[:, :6, :3], evaluation["eval_spikes_heldin"])
    assert data.test.targets.shape == (3, 10, 5)
    assert data.test.mask.sum() == 3 * 6 * 3
    assert not data.test.targets[data.test.mask == 0].any()
    alone = load_spike_trials(write(train))
    assert list(alone.parts) == ["train"]
    assert alone.bin_width_s is None


def test_padding_of_what_is_predicted_has_no_weight(write, nlb_arrays):
    train, evaluation, target = nlb_arrays
    heldout = target["mc_maze_20/eval_spikes_heldout"]
    heldout[0, :2] = np.nan  # padded in front, as trials that begin late are
    heldout[2, :5] = np.nan
    trials = load_spike_trials(write(train, evaluation, target)).validation
    expected = np.ones((3, 10, 5))
    expected[:, :6, 3:] = np.isfinite(heldout)
    np.testing.assert_array_equal(trials.mask, expected)
    np.testing.assert_array_equal(trials.targets[:, :6, 3:], np.nan_to_num(heldout))
    assert (trials.targets.dtype, trials.lengths) == (np.uint8, None)


def test_padding_of_what_is_read_ends_a_trial(write, nlb_arrays):
    train, evaluation, _ = nlb_arrays
    train = {name: values for name, values in train.items() if "forward" not in name}
    heldin = evaluation["eval_spikes_heldin"]
    heldin[1, 4:] = np.nan
    trials = load_spike_trials(write(train, evaluation)).test
    assert trials.lengths.tolist() == [6, 4, 6]
    np.testing.assert_array_equal(trials.inputs, np.nan_to_num(heldin))
    np.testing.assert_array_equal(trials.mask[:, :, :3], np.isfinite(heldin))
    assert trials.inputs.dtype == np.uint8
    real = load_spike_trials(write(train, evaluation), counts=False).test
    assert real.inputs.dtype == np.float32
    np.testing.assert_array_equal(real.mask, trials.mask)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ((1, slice(0, 2)), r"trial 1 it begins at bin 0"),
        ((1, slice(2, 4)), r"trial 1 it begins at bin 2"),
        ((1, slice(4, 6), 0), r"in all neurons, in trial 1 it begins at bin 4"),
        ((2, slice(1, 6)), r"2 bins or more, trial 2 has 1"),
    ],
)
def test_other_gaps_in_what_is_read_are_refused(write, nlb_arrays, place, message):
    train, evaluation, _ = nlb_arrays
    evaluation["eval_spikes_heldin"][place] = np.nan
    with pytest.raises(ValueError, match=rf"'eval_spikes_heldin' of shape \(3, 6, 3\): NaN in 1 trials.*{message}"):
        load_spike_trials(write({name: v for name, v in train.items() if "forward" not in name}, evaluation))


def test_padding_before_bins_to_be_predicted_is_refused(write, nlb_arrays):
    train, evaluation, _ = nlb_arrays
    evaluation["eval_spikes_heldin"][0, 5:] = np.nan
    with pytest.raises(ValueError, match="the 4 bins to be predicted would not follow"):
        load_spike_trials(write(train, evaluation))


def test_tensors_that_do_not_fit_are_named(write, nlb_arrays):
    train, evaluation, target = nlb_arrays
    with pytest.raises(
        ValueError, match=r"'eval_spikes_heldin' has shape \(3, 6, 2\), expected 3 held-in neurons as in"
    ):
        load_spike_trials(write(train, {"eval_spikes_heldin": evaluation["eval_spikes_heldin"][:, :, :2]}))
    with pytest.raises(ValueError, match="there is no 'train_spikes_heldout'"):
        load_spike_trials(write({"train_spikes_heldin": train["train_spikes_heldin"]}, evaluation, target))
    with pytest.raises(ValueError, match="but not eval_spikes_heldin"):
        load_spike_trials(write(train, target))
    with pytest.raises(ValueError, match=r"has bins of 0.02 s, bin_width_s is 0.005"):
        load_spike_trials(write(train, evaluation, target), bin_width_s=0.005)
    fractional = train | {"train_spikes_heldout": train["train_spikes_heldout"] + 0.5}
    with pytest.raises(ValueError, match=r"0\.h5: dataset 'train_spikes_heldout' of shape .* whole numbers"):
        load_spike_trials(write(fractional, evaluation))
    with pytest.raises(ValueError, match=r"has shape \(5, 6\), expected \[trials, time, neurons\]"):
        load_spike_trials(write({"train_spikes_heldin": train["train_spikes_heldin"][:, :, 0]}, evaluation))


def test_groups_of_targets_are_chosen(write, nlb_arrays):
    train, evaluation, target = nlb_arrays
    finer = {name.replace("_20", ""): 2 * values for name, values in target.items() if not name.endswith("mask")}
    paths = write(train, evaluation, target | finer)
    with pytest.raises(ValueError, match=r"in the groups \['mc_maze', 'mc_maze_20'\]: choose one with group="):
        load_spike_trials(paths)
    for group, width, factor in (("mc_maze", 0.005, 2), ("mc_maze_20", 0.02, 1)):
        data = load_spike_trials(paths, group=group)
        assert data.bin_width_s == width
        heldout = factor * target["mc_maze_20/eval_spikes_heldout"]
        np.testing.assert_array_equal(data.validation.targets[:, :6, 3:], heldout)
        behavior = factor * target["mc_maze_20/eval_behavior"]
        np.testing.assert_array_equal(data.behavior["validation"]["behavior"], behavior)


def test_lists_of_trials_become_conditions(write, torch_arrays):
    path = write(torch_arrays)

    def list_trials(lists):
        with h5py.File(path, "a") as file:
            if "train_cond_idx" in file:
                del file["train_cond_idx"]
            values = np.empty(len(lists), object)
            values[:] = [np.array(trials) for trials in lists]
            file.create_dataset("train_cond_idx", data=values, dtype=h5py.vlen_dtype(np.int32))

    list_trials([[0, 3, 5], [1], [4]])
    assert load_spike_trials(path).conditions["train"].tolist() == [0, 1, -1, 0, 2, 0]
    with pytest.raises(ValueError, match="trial 2 has -1"):
        load_spike_trials(path, labels=True)
    list_trials([[0, 3], [6]])
    with pytest.raises(ValueError, match="'train_cond_idx' lists trial 6, there are 6"):
        load_spike_trials(path)
