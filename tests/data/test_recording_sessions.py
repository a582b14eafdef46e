"""Recording sessions from files, groups of a file and pseudo-sessions, and one dataset of them all."""

import dataclasses

import h5py
import numpy as np
import pytest

from ctd_models.data import (
    SpikeTrials,
    load_sessions,
    load_spike_trials,
    session_neurons,
    stitch_sessions,
    stitch_trials,
)

SPLIT = np.array([0, 0, 0, 1, 2])


def write(folder, seed, neurons, trials=5, bin_width_s=0.02, **more):
    """A recording in a group of a file; neurons have their numbers as counts in the first bin."""
    rng = np.random.default_rng(seed)
    folder.attrs["bin_width_s"] = bin_width_s
    spikes = rng.poisson(2.0, (trials, 4, neurons)) + 1
    spikes[:, 0] = np.arange(neurons)
    more = {
        "spikes": spikes,
        "split": np.resize(SPLIT, trials),
        "condition": np.arange(trials) % 2,
        "time_s": 0.02 * np.arange(4),
        "hand": rng.normal(size=(trials, 4, 2)),
        **more,
    }
    for name, values in more.items():
        if values is not None:
            folder[f"trials/{name}"] = values
    return more


@pytest.fixture
def files(tmp_path):
    """Three recordings: two that fit together and one in other bins."""
    for name, neurons, trials in (("monday", 3, 5), ("tuesday", 2, 10)):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            write(file, len(name), neurons, trials)
    with h5py.File(tmp_path / "slow.h5", "w") as file:
        write(file, 3, 2, bin_width_s=0.05)
    return tmp_path


def test_several_files_become_one_dataset(files):
    sessions = load_sessions([files / "monday.h5", files / "tuesday.h5"])
    assert list(sessions) == ["monday", "tuesday"]
    data = stitch_sessions(sessions)
    assert data.sessions == ("monday", "tuesday") and data.bin_width_s == 0.02 and data.num_heldin == 3
    assert data.train.targets.shape == (9, 4, 3)
    np.testing.assert_array_equal(data.train.sessions, [0] * 3 + [1] * 6)
    np.testing.assert_array_equal(data.train.targets[:, 0], [[0, 1, 2]] * 3 + [[0, 1, 0]] * 6)
    np.testing.assert_array_equal(data.train.mask[:, 0], [[1, 1, 1]] * 3 + [[1, 1, 0]] * 6)
    for part, trials in data.parts.items():
        for name in ("conditions", "trial_indices"):
            expected = np.concatenate([getattr(session, name)[part] for session in sessions.values()])
            np.testing.assert_array_equal(getattr(data, name)[part], expected)
        hand = np.concatenate([session.behavior[part]["hand"] for session in sessions.values()])
        np.testing.assert_array_equal(data.behavior[part]["hand"], hand)
        assert len(trials.sessions) == len(hand)
    again = load_sessions({"b": files / "tuesday.h5", "a": files / "monday.h5"})
    assert list(again) == ["b", "a"]


def test_groups_of_a_file_are_sessions(files):
    with h5py.File(files / "both.h5", "w") as file:
        written = {name: write(file.create_group(name), i, 2 + i) for i, name in enumerate(("left", "right"))}
        file.create_group("notes")
    sessions = load_sessions(files / "both.h5")
    assert list(sessions) == ["left", "right"]
    for name, data in sessions.items():
        np.testing.assert_array_equal(data.train.targets, written[name]["spikes"][SPLIT == 0])
        np.testing.assert_array_equal(data.behavior["test"]["hand"], written[name]["hand"][SPLIT == 2])
        assert data.bin_width_s == 0.02
    single = load_spike_trials(files / "both.h5", group="left")
    np.testing.assert_array_equal(single.train.targets, sessions["left"].train.targets)
    with pytest.raises(ValueError, match=r"has no group 'middle', at its top are \['left', 'notes', 'right'\]"):
        load_spike_trials(files / "both.h5", group="middle")
    with h5py.File(files / "both.h5", "a") as file:
        del file["left/trials/spikes"]
        file["left/trials/spikes"] = np.full((5, 4, 2), -1)
    with pytest.raises(ValueError, match=r"group 'left': dataset 'trials/spikes'.* expected spike counts"):
        load_sessions(files / "both.h5")


def test_pseudo_sessions_part_trials_and_channels(files):
    of_trial, of_channel = np.array([0, 0, 1, 1, 0, 1, 0, 1, 0, -1]), np.array([1, 0, 1, -1])
    with h5py.File(files / "one.h5", "w") as file:
        write(file, 0, 4, 10, pseudo_session_of_trial=of_trial)
        file["meta/pseudo_session_of_channel"] = of_channel
        file["meta/heldin_channels"], file["meta/heldout_channels"] = [0, 1, 3], [2]
        spikes, split = file["trials/spikes"][()], file["trials/split"][()]
    sessions = load_sessions(files / "one.h5")
    assert list(sessions) == ["0", "1"]
    for number, channels in ((0, [1]), (1, [0, 2])):
        data = sessions[str(number)]
        np.testing.assert_array_equal(data.neurons, channels)
        for part, part_number in (("train", 0), ("validation", 1), ("test", 2)):
            trials = np.flatnonzero((of_trial == number) & (split == part_number))
            if not len(trials):
                assert part not in data.parts
                continue
            np.testing.assert_array_equal(data.parts[part].targets, spikes[trials][..., channels])
            np.testing.assert_array_equal(data.trial_indices[part], trials)
    assert len(load_sessions([files / "one.h5", files / "monday.h5"])) == 2  # each file is a session
    both = load_sessions(files / "one.h5", heldin=[0, 1], heldout=[2])
    assert (both["1"].num_heldin, both["1"].num_heldout, both["0"].num_heldout) == (1, 1, 0)
    stitched = stitch_sessions(both)
    np.testing.assert_array_equal(np.unique(stitched.train.mask[:, 0], axis=0), [[1, 0], [1, 1]])


def test_a_session_may_lack_a_part(files):
    sessions = load_sessions([files / "monday.h5", files / "tuesday.h5"])
    sessions["monday"] = sessions["monday"].with_parts({"train": ("train", slice(None))})
    data = stitch_sessions(sessions)
    np.testing.assert_array_equal(data.validation.sessions, [1, 1])
    assert data.validation.targets.shape == (2, 4, 3) and data.behavior["validation"]["hand"].shape == (2, 4, 2)


def test_behaviour_in_other_dimensions_is_left_out_with_a_warning(files):
    with h5py.File(files / "other.h5", "w") as file:
        write(file, 0, 2, hand=np.zeros((5, 4, 3)))
    sessions = load_sessions([files / "monday.h5", files / "other.h5"])
    with pytest.warns(UserWarning, match="behaviour 'hand' is left out"):
        assert stitch_sessions(sessions).behavior["train"] == {}


def test_masks_of_different_form_are_joined():
    whole = SpikeTrials.from_spikes(np.ones((2, 3, 2), int))
    masked = SpikeTrials.from_spikes(np.ones((1, 3, 1), int))._replace(mask=np.array([[[1.0], [0.0], [1.0]]]))
    mask = stitch_trials({"a": whole, "b": masked}).mask
    np.testing.assert_array_equal(mask[:2], 1)
    np.testing.assert_array_equal(mask[2], [[1, 0], [0, 0], [1, 0]])


def test_parts_and_neurons_are_chosen(files):
    data = load_sessions(files / "tuesday.h5")["tuesday"]
    chosen = data.with_parts({"train": ("train", [0, 2]), "validation": ("train", [1]), "test": ("test", [])})
    assert list(chosen.parts) == ["train", "validation"]
    np.testing.assert_array_equal(chosen.validation.targets, data.train.targets[[1]])
    np.testing.assert_array_equal(chosen.conditions["train"], data.conditions["train"][[0, 2]])
    np.testing.assert_array_equal(chosen.behavior["validation"]["hand"], data.behavior["train"]["hand"][[1]])
    with pytest.raises(ValueError, match="no training trial is left"):
        data.with_parts({"train": ("train", [])})
    with pytest.raises(ValueError, match=r"parts are .*got \['dev'\]"):
        data.with_parts({"dev": ("train", [0])})
    with pytest.raises(ValueError, match="there are no test trials"):
        chosen.with_parts({"train": ("test", [0])})
    with pytest.raises(ValueError, match="none of the neurons is among the 2 that are read"):
        data.with_neurons([])


def both_of(files):
    return load_sessions([files / "monday.h5", files / "tuesday.h5"])


def without_conditions(files):
    sessions = both_of(files)
    return sessions | {"tuesday": dataclasses.replace(sessions["tuesday"], conditions={})}


def other_conditions(files):
    sessions = both_of(files)
    moved = {part: labels + 5 for part, labels in sessions["tuesday"].conditions.items()}
    return sessions | {"tuesday": dataclasses.replace(sessions["tuesday"], conditions=moved)}


def shifted(files):
    sessions = both_of(files)
    return sessions | {"tuesday": dataclasses.replace(sessions["tuesday"], time_s=0.5 + sessions["tuesday"].time_s)}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda files: {}, "there is no session"),
        (
            lambda files: load_sessions([files / "monday.h5", files / "slow.h5"]),
            r"session 'slow' has bins of 0.05 s, session 'monday' of 0.02 s",
        ),
        (without_conditions, "conditions must be known for all sessions or for none, see 'monday' and 'tuesday'"),
        (other_conditions, r"no condition is in all sessions \('monday' has \[0, 1\]; 'tuesday' has \[5, 6\]\)"),
        (shifted, "bins of session 'tuesday' begin 0.5 s after the event, those of session 'monday' 0 s"),
    ],
)
def test_sessions_that_do_not_fit(files, make, message):
    with pytest.raises(ValueError, match=message):
        stitch_sessions(make(files))


def test_files_that_are_no_sessions(files):
    with pytest.raises(ValueError, match="expected the paths of files, got none"):
        load_sessions([])
    (files / "more").mkdir()
    with h5py.File(files / "more" / "monday.h5", "w") as file:
        write(file, 0, 2)
    with pytest.raises(ValueError, match=r"several files are named \['monday'\]"):
        load_sessions([files / "monday.h5", files / "more" / "monday.h5"])
    with h5py.File(files / "half.h5", "w") as file:
        write(file, 0, 2, pseudo_session_of_trial=np.zeros(5, int))
    with pytest.raises(ValueError, match=r"has one of .*pseudo-sessions need both"):
        load_sessions(files / "half.h5")
    with h5py.File(files / "half.h5", "a") as file:
        file["meta/pseudo_session_of_channel"] = [0, 1]
    with pytest.raises(ValueError, match="pseudo-session 1 has no trials or no channels"):
        load_sessions(files / "half.h5")
    with h5py.File(files / "half.h5", "a") as file:
        file["trials/pseudo_session_of_trial"][3:] = 1
    with pytest.raises(ValueError, match=r"half\.h5: pseudo-session 1: no training trial is left"):
        load_sessions(files / "half.h5")


def test_own_neurons_of_each_session(files):
    data = stitch_sessions(load_sessions([files / "monday.h5", files / "tuesday.h5"], heldin=[0], heldout=[1]))
    alone = load_sessions([files / "monday.h5", files / "tuesday.h5"], heldin=[0], heldout=[1])
    for number, columns in session_neurons(data.train).items():
        own = alone[data.sessions[number]].train.targets
        np.testing.assert_array_equal(data.train.targets[data.train.sessions == number][..., columns], own)
    with pytest.raises(ValueError, match="expected trials of several sessions"):
        session_neurons(alone["monday"].train)
    with pytest.raises(ValueError, match="session 'a' is stitched already"):
        stitch_sessions({"a": data})
    with pytest.raises(ValueError, match="choose neurons of each session before"):
        data.with_neurons([0])
    with pytest.raises(ValueError, match="groups of a file are sessions each"):
        load_sessions(files / "monday.h5", group="trials")
    with pytest.raises(TypeError, match="expected sessions as a mapping, name → SpikeDataset, got list"):
        stitch_sessions([data])
    with pytest.raises(ValueError, match="names must be different"):
        stitch_trials({"a": alone["monday"].train}, names=["a", "a"])


def test_trials_of_a_session_that_is_not_listed():
    trials = SpikeTrials.from_spikes(np.ones((2, 3, 2), int))
    with pytest.raises(ValueError, match=r"sessions \['c'\] are not among \['a', 'b'\]"):
        stitch_trials({"c": trials}, names=["a", "b"])
    with pytest.raises(
        ValueError, match="session 'a' has 2 neurons that are read and 0 that are not, expected at most 1"
    ):
        stitch_trials({"a": trials}, num_neurons=(1, 0))
    found = stitch_trials({"b": trials}, names=["a", "b"], num_neurons=(3, 1))
    assert found.targets.shape == (2, 3, 4) and found.sessions.tolist() == [1, 1]
