"""The trainer: what it computes, what it compiles, what it refuses."""

import json
import os
import signal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ctd_models import ContinuousRNNCell, RecurrentNetwork, Trainer, VanillaRNN, load_checkpoint
from ctd_models.tasks import Integration, Trials
from ctd_models.training import NonFiniteLossError, mean_squared_error, read_checkpoint

TASK = Integration(num_steps=5)
MODEL = VanillaRNN(6, 1)
KEY = jax.random.key(3)


DEFAULTS = {
    "loss": mean_squared_error(MODEL, l2=1e-4),
    "optimizer": optax.adam(1e-2),
    "batch_size": 8,
    "validate_every": 10,
    "checkpoint_every": 10,
    "progress": False,
}


def trainer(**fields):
    """A trainer with programs of its own."""
    return Trainer(MODEL, **(DEFAULTS | fields))


@pytest.fixture(scope="module")
def shared():
    """One trainer whose programs are compiled once for all tests that only need it to run."""
    return trainer()


@pytest.fixture(scope="module")
def arrays():
    return jax.tree.map(np.asarray, TASK.sample(jax.random.key(0), 24))


def leaves_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, jax.tree.map(np.asarray, a), jax.tree.map(np.asarray, b))


def test_one_step_is_the_optimizers_step_on_the_gradient():
    """Full-batch gradient descent, against the same step by hand."""
    data = TASK.sample(jax.random.key(0), 8)
    start = MODEL.init(jax.random.key(1), data.inputs)
    loss = mean_squared_error(MODEL, l2=0.1)
    result = trainer(loss=loss, optimizer=optax.sgd(0.5)).fit(data, 1, KEY, variables=start)

    def by_hand(params):
        outputs = MODEL.apply({"params": params}, data.inputs).outputs
        penalty = sum((p**2).sum() for p in jax.tree.leaves(params))
        return ((outputs - data.targets) ** 2).mean() + 0.1 * penalty

    value, gradient = jax.value_and_grad(by_hand)(start["params"])
    assert result.history["loss"][0] == pytest.approx(float(value), rel=1e-5)
    assert result.history["gradient_norm"][0] == pytest.approx(float(optax.tree.norm(gradient)), rel=1e-5)
    expected = jax.tree.map(lambda p, g: p - 0.5 * g, start["params"], gradient)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), result.variables["params"], expected
    )


def test_it_learns_and_returns_state_and_history(shared):
    state, history = shared.fit(TASK, 40, KEY, validation=TASK)
    assert int(state.step) == 40
    assert list(history["step"]) == list(range(1, 41))
    assert list(history["validation/step"]) == [10, 20, 30, 40]
    assert history["loss"][-5:].mean() < 0.5 * history["loss"][:5].mean()
    assert history["loss"][0] > history["mse"][0]


def test_compilations_are_counted(tmp_path, compilations):
    """A whole fit, with validation, checkpoints and a last shorter interval: three programs."""
    fresh = trainer()
    with compilations:
        result = fresh.fit(TASK, 33, KEY, checkpoint_dir=tmp_path / "run", validation=TASK)
    assert compilations.count == 3
    assert result.compile_seconds > 0
    with compilations:  # a second fit of the same shapes compiles nothing
        again = fresh.fit(TASK, 21, jax.random.key(4), checkpoint_dir=tmp_path / "other", validation=TASK)
    assert again.compile_seconds == 0
    assert compilations.count <= 1  # the key itself


def test_arrays_compile_three_programs_as_well(arrays, compilations):
    fresh = trainer()
    with compilations:
        fresh.fit(arrays, 13, KEY, validation=arrays)
    assert compilations.count == 3


def test_scan_and_step_loops_agree(arrays, shared):
    one_by_one = trainer(loop="step")
    for data in (TASK, arrays):
        scanned = shared.fit(data, 12, KEY)
        stepped = one_by_one.fit(data, 12, KEY)
        np.testing.assert_allclose(scanned.history["loss"], stepped.history["loss"], rtol=1e-5)
        assert len(stepped.history["loss"]) == 12


def test_the_same_key_gives_the_same_run_and_another_does_not(shared):
    first, second = shared.fit(TASK, 7, KEY), shared.fit(TASK, 7, KEY)
    leaves_equal(first.variables, second.variables)
    assert not np.allclose(shared.fit(TASK, 7, jax.random.key(4)).history["loss"], first.history["loss"])


def test_batches_and_noise_are_fresh_every_step():
    """With a zero learning rate, losses differ only by batch and by noise."""
    noisy = RecurrentNetwork(ContinuousRNNCell(6, noise=0.3), 1)
    frozen = trainer(optimizer=optax.sgd(0.0))
    assert len(np.unique(frozen.fit(TASK, 20, KEY).history["loss"])) == 20
    one_trial = jax.tree.map(lambda a: np.asarray(a)[:1], TASK.sample(jax.random.key(0), 2))
    loss = mean_squared_error(noisy)
    still = Trainer(noisy, loss, optax.sgd(0.0), batch_size=1, progress=False, validate_every=5)
    result = still.fit(one_trial, 20, KEY, validation=one_trial)
    assert len(np.unique(result.history["loss"])) == 20
    assert len(np.unique(result.history["validation/loss"])) == 1  # noise is off in validation


def test_validation_trials_are_not_training_trials():
    """Every trial that training and validation draw is another one."""
    seen = []

    class Spy:
        def sample(self, key, batch_size):
            trials = TASK.sample(key, batch_size)
            jax.debug.callback(lambda inputs: seen.append(np.asarray(inputs)), trials.inputs)
            return trials

    trainer().fit(Spy(), 10, KEY, validation=Spy())
    jax.effects_barrier()
    first_inputs = np.concatenate([batch.reshape(-1, 5)[:, 0] for batch in seen])
    assert len(first_inputs) >= 10 * 8 + 8 * 8
    assert len(np.unique(first_inputs)) >= 10 * 8 + 8 * 8


def test_validation_counts_every_trial_once(arrays):
    data = Trials(*(array[:19] for array in arrays))  # two full batches and a rest
    start = MODEL.init(jax.random.key(1), data.inputs)
    result = trainer(optimizer=optax.sgd(0.0)).fit(data, 10, KEY, variables=start, validation=data)
    expected = ((MODEL.apply(start, data.inputs).outputs - data.targets) ** 2).mean()
    assert result.history["validation/mse"][0] == pytest.approx(float(expected), rel=1e-5)


def test_given_variables_are_not_touched(shared, arrays):
    start = MODEL.init(jax.random.key(1), arrays.inputs)
    copy = jax.tree.map(np.array, start)
    shared.fit(arrays, 5, KEY, variables=start)
    leaves_equal(start, copy)


def test_collections_other_than_params_are_kept():
    class Scaled(nn.Module):
        @nn.compact
        def __call__(self, x):
            scale = self.variable("constants", "scale", lambda: jnp.full((), 3.0)).value
            return nn.Dense(1)(x) * scale

    model = Scaled()

    def loss(variables, batch, rngs, step, training):
        return ((model.apply(variables, batch["inputs"]) - 1.0) ** 2).mean(), {}

    data = {"inputs": np.ones((8, 2), np.float32)}
    result = Trainer(model, loss, optax.sgd(0.01), progress=False).fit(data, 20, KEY)
    assert result.variables["constants"]["scale"] == 3.0
    assert result.history["loss"][-1] < result.history["loss"][0]


def test_plateau_schedules_get_the_loss():
    optimizer = optax.chain(optax.adam(1e-2), optax.contrib.reduce_on_plateau(patience=2, factor=0.5))
    result = trainer(optimizer=optimizer).fit(TASK, 30, KEY)
    scale = optax.tree.get(result.state.optimizer_state, "scale")
    assert float(scale) < 1


def test_early_stopping_and_the_best_checkpoint(tmp_path, arrays):
    """Training on one half of the data and validating on inverted targets can only get worse."""
    worse = arrays._replace(targets=-arrays.targets)
    fast = trainer(patience=2, optimizer=optax.adam(0.05))
    result = fast.fit(arrays, 500, KEY, checkpoint_dir=tmp_path / "run", validation=worse)
    values = result.history["validation/loss"]
    best = int(np.argmin(values))
    assert result.stopped_early
    assert len(values) == best + 1 + 2
    assert int(result.state.step) == 10 * len(values)
    kept = {int(path.name) for path in (tmp_path / "run").iterdir() if path.name.isdigit()}
    assert kept == {10 * (best + 1), int(result.state.step)}
    assert result.best_step == 10 * (best + 1)
    _, variables = load_checkpoint(tmp_path / "run", "best")
    loss, _ = mean_squared_error(MODEL, l2=1e-4)(variables, worse, {}, 0, False)
    assert float(loss) == pytest.approx(values[best], rel=1e-5)
    again = fast.fit(arrays, 500, KEY, checkpoint_dir=tmp_path / "run", validation=worse)
    assert again.train_steps == 0
    assert again.stopped_early


def test_smoothing_of_the_monitored_metric(tmp_path):
    from ctd_models.training.history import History
    from ctd_models.training.run import Run

    history = History(None)
    for step, value in enumerate([4.0, 2.0, 6.0]):
        history.append_validation(step, {"loss": value})
    run = Run.__new__(Run)
    run.trainer = trainer(smoothing=0.5)
    assert run._smoothed(history) == [4.0, 3.0, 4.5]


def test_a_changed_field_counts():
    changed = trainer(optimizer=optax.sgd(0.0))
    first = changed.fit(TASK, 3, KEY)
    changed.loss = mean_squared_error(MODEL, l2=1.0)
    assert changed.fit(TASK, 3, KEY).history["loss"][0] > first.history["loss"][0] + 1


def test_a_changed_task_counts(shared, tmp_path):
    class Curriculum:
        def __init__(self):
            self.level = 1

        def sample(self, key, batch_size):
            trials = TASK.sample(key, batch_size)
            return trials._replace(targets=self.level * trials.targets)

    task = Curriculum()
    first = shared.fit(task, 3, KEY, checkpoint_dir=tmp_path)
    task.level = 100
    assert shared.fit(task, 3, KEY).history["loss"][0] > 100 * first.history["loss"][0]
    with pytest.raises(ValueError, match="on other data"):
        shared.fit(task, 5, KEY, checkpoint_dir=tmp_path)


def test_callbacks_see_validation_and_variables_that_stay_valid(shared):
    seen = []
    shared.fit(TASK, 20, KEY, validation=TASK, callbacks=[lambda *arguments: seen.append(arguments)])
    assert [step for step, _, _ in seen] == [10, 20]
    assert all(np.isfinite(v["params"]["readout"]["kernel"]).all() for _, v, _ in seen)
    assert set(seen[0][2]) == {"loss", "mse"}


def test_metrics_file_holds_every_row(tmp_path, shared):
    result = shared.fit(TASK, 20, KEY, checkpoint_dir=tmp_path, validation=TASK)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    steps = [row for row in rows if "loss" in row]
    assert [row["loss"] for row in steps] == list(result.history["loss"])
    assert np.float32(steps[3]["loss"]) == np.float32(result.history["loss"][3])
    assert [row["validation/step"] for row in rows if "validation/step" in row] == [10, 20]


def exploding(at_step):
    base = mean_squared_error(MODEL)

    def loss(variables, batch, rngs, step, training):
        value, metrics = base(variables, batch, rngs, step, training)
        return jnp.where(step == at_step, jnp.nan, value), metrics

    return loss


@pytest.mark.parametrize("loop", ["scan", "step"])
def test_a_non_finite_loss_stops_with_the_step_and_the_last_good_checkpoint(tmp_path, loop):
    good = trainer(loss=mean_squared_error(MODEL)).fit(TASK, 16, KEY)
    with pytest.raises(NonFiniteLossError, match=r"step 17: the loss is nan.*checkpoint is step 16 in") as caught:
        trainer(loss=exploding(16), loop=loop).fit(TASK, 40, KEY, checkpoint_dir=tmp_path)
    assert caught.value.step == 17
    np.testing.assert_allclose(
        caught.value.state.variables["params"]["readout"]["kernel"],
        good.variables["params"]["readout"]["kernel"],
        rtol=1e-5,
    )
    _, variables = load_checkpoint(tmp_path)
    leaves_equal(variables, caught.value.state.variables)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == 16


def test_an_infinite_gradient_stops_as_well():
    def loss(variables, batch, rngs, step, training):
        distance = jnp.sqrt(sum((p**2).sum() for p in jax.tree.leaves(variables["params"])))
        return distance, {}  # its gradient at 0 is NaN, its value is not

    zeros = jax.tree.map(jnp.zeros_like, MODEL.init(jax.random.key(1), jnp.zeros((1, 5, 1))))
    with pytest.raises(NonFiniteLossError, match=r"step 1: the loss is 0.0 and the norm of its gradient nan"):
        trainer(loss=loss).fit(TASK, 5, KEY, variables=zeros)


def test_sigterm_saves_before_leaving(tmp_path):
    """The signal comes in the middle of a run; what was there before handles it once the state is saved."""

    def terminate(step, variables, metrics):
        if step == 10:
            os.kill(os.getpid(), signal.SIGTERM)

    def leave(*_):
        raise SystemExit(3)

    rarely = trainer(checkpoint_every=1000)
    previous = signal.signal(signal.SIGTERM, leave)
    try:
        with pytest.raises(SystemExit):
            rarely.fit(TASK, 20, KEY, checkpoint_dir=tmp_path, validation=TASK, callbacks=[terminate])
        assert signal.getsignal(signal.SIGTERM) is leave
    finally:
        signal.signal(signal.SIGTERM, previous)
    assert read_checkpoint(tmp_path).step == 10
    rest = rarely.fit(TASK, 20, KEY, checkpoint_dir=tmp_path, validation=TASK)
    assert rest.train_steps == 10
    leaves_equal(rest.variables, rarely.fit(TASK, 20, KEY).variables)


def test_training_goes_on_when_the_handler_of_a_signal_returns(tmp_path, shared):
    caught = []
    previous = signal.signal(signal.SIGTERM, lambda *_: caught.append(True))
    try:
        for _ in range(2):
            result = shared.fit(
                TASK,
                20,
                KEY,
                checkpoint_dir=tmp_path / str(len(caught)),
                validation=TASK,
                callbacks=[lambda *_: os.kill(os.getpid(), signal.SIGTERM)],
            )
    finally:
        signal.signal(signal.SIGTERM, previous)
    assert len(caught) == 4
    assert result.train_steps == 20


def test_a_non_finite_validation_is_reported(arrays):
    def loss(variables, batch, rngs, step, training):
        value, metrics = mean_squared_error(MODEL)(variables, batch, rngs, step, training)
        return (value if training else value * jnp.inf), metrics

    with pytest.raises(NonFiniteLossError, match="the validation metric 'loss' is inf at step 10"):
        trainer(loss=loss).fit(TASK, 20, KEY, validation=TASK)


def test_tensorboard_gets_the_metrics(tmp_path):
    trainer(tensorboard=True).fit(TASK, 5, KEY, checkpoint_dir=tmp_path)
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert b"gradient_norm" in events.read_bytes()
    with pytest.raises(ValueError, match="needs a checkpoint_dir"):
        trainer(tensorboard=True).fit(TASK, 5, KEY)


# Bad input, each before anything is compiled --------------------------------------------------------------------------


@pytest.mark.parametrize("num_steps", [0, -3, 2.5, True])
def test_bad_num_steps(shared, num_steps):
    with pytest.raises(ValueError, match="num_steps must be an integer of at least 1"):
        shared.fit(TASK, num_steps, KEY)


def test_bad_key(shared):
    for key in (0, jax.random.PRNGKey(0), jax.random.split(KEY, 2)):
        with pytest.raises(TypeError, match="typed key"):
            shared.fit(TASK, 5, key)


def test_bad_arrays(shared, arrays, compilations):
    broken = arrays._replace(targets=arrays.targets.copy())
    broken.targets[3, 2, 0] = np.nan
    cases = [
        (broken, r"data\.targets holds nan at index \(3, 2, 0\)"),
        (jax.tree.map(lambda a: a[:0], arrays), "holds no trials"),
        (arrays._replace(mask=arrays.mask[:3]), "same number of trials"),
        (jax.tree.map(lambda a: a[:5], arrays), "batch_size is 8, but data holds only 5 trials"),
        (
            Trials(np.zeros((8, 5), np.float32), arrays.targets[:8], arrays.mask[:8]),
            r"expected inputs \[batch, time, features\]",
        ),
        (arrays._replace(targets=arrays.targets[:, :4]), r"targets have shape \(8, 4, 1\), the outputs"),
        ({"outputs": arrays.targets}, "not 'inputs'"),
    ]
    for data, message in cases:
        with compilations, pytest.raises(ValueError, match=message):
            shared.fit(data, 5, KEY)
        assert compilations.count == 0, message


def test_bad_data(shared):
    for data in (None, {}, 3, "data.h5", Integration):
        with pytest.raises(TypeError, match="must be a task, arrays, a function step -> batch or an iterator"):
            shared.fit(data, 5, KEY)


def test_wrong_feature_size_for_given_variables(shared):
    other = VanillaRNN(6, 1).init(jax.random.key(0), jnp.zeros((1, 5, 3)))
    with pytest.raises(ValueError, match="expected inputs with 3 features, got 1"):
        shared.fit(TASK, 5, KEY, variables=other)


def test_bad_fields():
    for fields, message in [
        ({"validate_every": 0}, "validate_every must be at least 1"),
        ({"patience": 0}, "patience"),
        ({"smoothing": 1.0}, "smoothing"),
        ({"loop": "while"}, "loop must be"),
    ]:
        with pytest.raises(ValueError, match=message):
            trainer(**fields)
    with pytest.raises(ValueError, match="batch_size must be an integer and at least 1"):
        trainer(batch_size=0).fit(TASK, 5, KEY)
    with pytest.raises(ValueError, match="patience and callbacks need validation"):
        trainer(patience=2).fit(TASK, 5, KEY)
    with pytest.raises(TypeError, match="optimizer"):
        trainer(optimizer=1e-3)
    with pytest.raises(ValueError, match="monitor is 'accuracy'"):
        trainer(monitor="accuracy").fit(TASK, 10, KEY, validation=TASK)


def test_a_loss_of_the_wrong_form(shared):
    for loss, message in [
        (lambda v, b, r, s, t: jnp.zeros(()), "must return"),
        (lambda v, b, r, s, t: (jnp.zeros(3), {}), "must return"),
        (lambda v, b, r, s, t: (jnp.zeros(()), {"all": jnp.zeros(3)}), "metric 'all'"),
    ]:
        with pytest.raises(TypeError, match=message):
            trainer(loss=loss).fit(TASK, 5, KEY)
