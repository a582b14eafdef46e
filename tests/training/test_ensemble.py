"""Several networks in one program are those that would be trained alone."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ctd_models import Trainer, VanillaRNN, load_checkpoint
from ctd_models.tasks import Integration
from ctd_models.training import mean_squared_error

TASK, KEYS = Integration(num_steps=5), jax.random.split(jax.random.key(0), 3)


def make_trainer(**options):
    model = VanillaRNN(8, 1)
    return Trainer(model, mean_squared_error(model), optax.adam(1e-2), batch_size=16, validate_every=10, **options)


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    folder = tmp_path_factory.mktemp("many")
    results = make_trainer().fit_many(TASK, 30, KEYS, checkpoint_dir=folder, validation=TASK)
    return folder, results


def test_each_network_is_the_one_trained_alone(together):
    folder, results = together
    trainer = make_trainer()
    for i, (key, result) in enumerate(zip(KEYS, results, strict=True)):
        alone = trainer.fit(TASK, 30, key, validation=TASK)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), alone.variables, result.variables)
        assert alone.history.keys() == result.history.keys()
        for name, values in alone.history.items():
            np.testing.assert_allclose(result.history[name], values, rtol=1e-4)
        assert (result.best_step, result.train_steps) == (alone.best_step, 30)
        model, variables = load_checkpoint(folder / f"network_{i}", "best")
        assert model == VanillaRNN(8, 1)
        if result.best_step == 30:
            jax.tree.map(np.testing.assert_array_equal, dict(variables), dict(result.variables))


def test_it_continues_where_it_was(tmp_path, together):
    _, results = together
    trainer = make_trainer()
    trainer.fit_many(TASK, 20, KEYS, checkpoint_dir=tmp_path, validation=TASK)
    continued = make_trainer().fit_many(TASK, 30, KEYS, checkpoint_dir=tmp_path, validation=TASK)
    for before, after in zip(results, continued, strict=True):
        jax.tree.map(np.testing.assert_array_equal, before.variables, after.variables)
        np.testing.assert_array_equal(before.history["loss"], after.history["loss"])
        assert after.train_steps == 10
    done = make_trainer().fit_many(TASK, 30, KEYS, checkpoint_dir=tmp_path, validation=TASK)
    assert [result.train_steps for result in done] == [0, 0, 0]


def test_a_network_that_diverges_does_not_stop_the_others():
    model = VanillaRNN(8, 1)
    squared_error = mean_squared_error(model)

    def loss(variables, batch, rngs, step, training):
        value, metrics = squared_error(variables, batch, rngs, step, training)
        spoiled = (step == 4) & (variables["params"]["initial_state"][0] > threshold)
        return jnp.where(spoiled, jnp.nan, value), metrics

    def start(key):
        return Trainer(model, squared_error, optax.sgd(0.0), batch_size=4).fit(TASK, 1, key).variables

    values = sorted(float(start(key)["params"]["initial_state"][0]) for key in KEYS)
    threshold = (values[1] + values[2]) / 2
    trainer = Trainer(model, loss, optax.sgd(0.0), batch_size=4)
    with pytest.warns(RuntimeWarning, match=r"not finite: network \d after step 4"):
        results = trainer.fit_many(TASK, 10, KEYS)
    assert sorted(len(result.history["loss"]) for result in results) == [4, 10, 10]
    assert sum(result.stopped_early for result in results) == 1


def test_a_validation_that_is_not_finite_is_told():
    model = VanillaRNN(8, 1)
    squared_error = mean_squared_error(model)

    def loss(variables, batch, rngs, step, training):
        value, metrics = squared_error(variables, batch, rngs, step, training)
        return value if training else value + jnp.nan, metrics

    trainer = Trainer(model, loss, optax.sgd(0.0), batch_size=4, validate_every=2)
    with pytest.warns(RuntimeWarning, match="network 0 after step 2, 1 after step 2, 2 after step 2"):
        trainer.fit_many(TASK, 6, KEYS, validation=TASK)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((TASK, 5, KEYS[0]), TypeError, r"typed keys \[networks\]"),
        ((TASK, 0, KEYS), ValueError, "num_steps"),
        ((iter([]), 5, KEYS), TypeError, "inside the compiled program"),
    ],
)
def test_bad_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        make_trainer().fit_many(*arguments)


def test_patience_is_refused():
    with pytest.raises(ValueError, match="patience must be None"):
        make_trainer(patience=3).fit_many(TASK, 5, KEYS)
