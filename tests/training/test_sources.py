"""Where batches come from."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ctd_models import Trainer, VanillaRNN
from ctd_models.tasks import Integration, Trials
from ctd_models.training import mean_squared_error
from ctd_models.training.sources import ArraySource, GroupSource, HostSource, as_source, shuffled

TASK = Integration(num_steps=4)
MODEL = VanillaRNN(5, 1)
KEY = jax.random.key(0)


@pytest.mark.parametrize("size", [1, 2, 3, 17, 64, 1000])
def test_shuffled_is_a_permutation_and_depends_on_the_key(size):
    positions = jnp.arange(size)
    first, second = (np.asarray(shuffled(jax.random.key(seed), positions, size)) for seed in (0, 1))
    assert sorted(first) == list(range(size))
    assert size < 17 or (first != second).any()


def test_shuffled_is_uniform():
    """Where the first of five positions goes, over 5,000 keys, against the multinomial's deviation."""
    keys = jax.random.split(jax.random.key(2), 5000)
    ends = jax.vmap(lambda key: shuffled(key, jnp.arange(5), 5))(keys)
    counts = np.stack([np.bincount(np.asarray(ends)[:, i], minlength=5) for i in range(5)])
    assert (np.abs(counts - 1000) < 5 * np.sqrt(5000 * 0.2 * 0.8)).all()


def test_epochs_visit_every_trial_once_in_new_orders():
    source = ArraySource(np.arange(12), batch_size=4)
    steps = jnp.arange(6)
    batches = np.asarray(jax.vmap(lambda step: source.batch(source.arrays, KEY, step))(steps)).reshape(2, 12)
    assert sorted(batches[0]) == sorted(batches[1]) == list(range(12))
    assert (batches[0] != batches[1]).any()


def test_default_batch_is_all_of_few_trials():
    assert ArraySource(np.arange(12), None).batch_size == 12
    assert ArraySource(np.arange(1200), None).batch_size == 128
    assert as_source(np.arange(3), 8, at_most=True).batch_size == 3


def batch_of(step):
    return jax.tree.map(np.asarray, TASK.sample(jax.random.fold_in(KEY, step), 8))


class Resumable:
    """An iterator with a memory, as data loaders have."""

    def __init__(self):
        self.position = 0

    def __iter__(self):
        return self

    def __next__(self):
        self.position += 1
        return batch_of(self.position - 1)

    def get_state(self):
        return str(self.position).encode()

    def set_state(self, state):
        self.position = int(state)


@functools.cache
def trainer():
    """One trainer for all tests, so that programs are compiled once."""
    return Trainer(MODEL, mean_squared_error(MODEL), optax.adam(1e-2), progress=False, checkpoint_every=4)


def test_functions_and_iterators_train_the_same_and_resume_exactly(tmp_path):
    whole = trainer().fit(batch_of, 10, KEY)
    np.testing.assert_array_equal(trainer().fit(Resumable(), 10, KEY).history["loss"], whole.history["loss"])
    np.testing.assert_array_equal(
        trainer().fit(iter(map(batch_of, range(10))), 10, KEY).history["loss"], whole.history["loss"]
    )
    for name, make in (("function", lambda: batch_of), ("iterator", Resumable)):
        trainer().fit(make(), 6, KEY, checkpoint_dir=tmp_path / name)
        resumed = trainer().fit(make(), 10, KEY, checkpoint_dir=tmp_path / name)
        assert resumed.train_steps == 4
        jax.tree.map(np.testing.assert_array_equal, resumed.variables, whole.variables)
        np.testing.assert_array_equal(resumed.history["loss"], whole.history["loss"])


def test_a_plain_iterator_trains_but_cannot_resume(tmp_path):
    trainer().fit(iter(map(batch_of, range(5))), 5, KEY, checkpoint_dir=tmp_path)
    with pytest.raises(ValueError, match="cannot resume from a plain iterator"):
        trainer().fit(iter(map(batch_of, range(9))), 9, KEY, checkpoint_dir=tmp_path)


def test_bad_batches_are_named():
    with pytest.raises(ValueError, match="the batch source ended at step 3, before num_steps"):
        trainer().fit(iter(map(batch_of, range(3))), 5, KEY)
    sizes = [8, 8, 7]
    with pytest.raises(ValueError, match="the batch of step 2 has the shapes"):
        trainer().fit(lambda step: TASK.sample(KEY, sizes[step]), 3, KEY)

    def broken(step):
        trials = batch_of(step)
        return Trials(trials.inputs * (np.nan if step == 1 else 1), trials.targets, trials.mask)

    with pytest.raises(ValueError, match=r"the batch of step 1\.inputs holds nan at index \(0, 0, 0\)"):
        trainer().fit(broken, 3, KEY)
    with pytest.raises(TypeError, match="validation must be a task or arrays"):
        trainer().fit(batch_of, 3, KEY, validation=batch_of)


def test_mappings_and_tuples_are_batches_as_well():
    trials = TASK.sample(KEY, 16)
    expected = trainer().fit(jax.tree.map(np.asarray, trials), 3, KEY).history["loss"]
    for data in ({"inputs": trials.inputs, "targets": trials.targets}, (trials.inputs, trials.targets)):
        np.testing.assert_allclose(trainer().fit(data, 3, KEY).history["loss"], expected, rtol=1e-6)
    assert isinstance(as_source(batch_of, None), HostSource)


class Grouped(NamedTuple):
    values: Any
    groups: Any


@functools.partial(jax.jit, static_argnums=0)
def drawn_by(source, step):
    return source.batch(source.arrays, jax.random.key(0), step)


def test_groups_have_equal_shares_of_every_batch_and_are_gone_through_in_turn():
    groups = np.array([2, 0, 0, 2, 2, 1, 2, 0])
    source = as_source(Grouped(np.arange(8), groups), 6)
    assert isinstance(source, GroupSource)
    drawn = [np.asarray(drawn_by(source, jnp.int32(step)).values) for step in range(40)]
    for values in drawn:
        np.testing.assert_array_equal(np.bincount(groups[values], minlength=3), [2, 2, 2])
    visits = np.concatenate(drawn)
    for group in range(3):
        mine, size = visits[groups[visits] == group], (groups == group).sum()
        rounds = mine[: len(mine) // size * size].reshape(-1, size)
        np.testing.assert_array_equal(
            np.sort(rounds, axis=1), np.tile(np.flatnonzero(groups == group), (len(rounds), 1))
        )
        assert size == 1 or len(np.unique(rounds, axis=0)) > 1
    fewer = as_source(Grouped(np.arange(8), groups), 2)
    turns = np.concatenate([np.asarray(drawn_by(fewer, jnp.int32(step)).values) for step in range(30)])
    np.testing.assert_array_equal(np.bincount(groups[turns]), [20, 20, 20])
