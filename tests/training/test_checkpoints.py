"""Checkpoints: what is kept, what is refused, and that a run survives being killed."""

import functools
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ctd_models import GRU, RecurrentNetwork, Trainer, VanillaRNN, load_checkpoint
from ctd_models.tasks import Integration
from ctd_models.training import CheckpointError, mean_squared_error, read_checkpoint

TASK = Integration(num_steps=4)
MODEL = VanillaRNN(5, 1)
KEY = jax.random.key(0)
OLD = Path(__file__).parent / "checkpoint_format_1"


ADAM = optax.adam(1e-2)


@functools.cache
def trainer(model, optimizer):
    """One trainer for all runs of a model, so that programs are compiled once."""
    return Trainer(model, mean_squared_error(model), optimizer, batch_size=8, progress=False, checkpoint_every=4)


def fit(directory, num_steps=6, model=MODEL, key=KEY, optimizer=ADAM, task=TASK, **arguments):
    return trainer(model, optimizer).fit(task, num_steps, key, checkpoint_dir=directory, **arguments)


def assert_equal(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(np.asarray(x), np.asarray(y)), a, b)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    directory = tmp_path_factory.mktemp("run")
    return directory, fit(directory, validation=TASK)


@pytest.fixture
def copy(run, tmp_path):
    return Path(shutil.copytree(run[0], tmp_path / "copy"))


def test_model_and_variables_come_back(run):
    directory, result = run
    model, variables = load_checkpoint(directory)
    assert model == MODEL
    assert_equal(variables, result.variables)
    checkpoint = read_checkpoint(os.fspath(directory), "best")
    assert checkpoint.step == 6
    assert checkpoint.config["format_version"] == 1
    assert checkpoint.config["versions"]["jax"] == jax.__version__


def test_relative_directories_work(run, monkeypatch):
    monkeypatch.chdir(run[0].parent)
    assert load_checkpoint(run[0].name)[0] == MODEL


def test_a_folder_of_results_opens_too(run, tmp_path):
    shutil.copytree(run[0], tmp_path / "results" / "checkpoints")
    assert_equal(load_checkpoint(tmp_path / "results")[1], load_checkpoint(run[0])[1])


@pytest.mark.parametrize("cell", [nn.OptimizedLSTMCell(4), nn.GRUCell(4)], ids=["lstm", "gru"])
def test_flax_cells_come_back(tmp_path, cell):
    network = RecurrentNetwork(cell, 1)
    result = fit(tmp_path, 2, network)
    model, variables = load_checkpoint(tmp_path)
    assert model == network
    assert_equal(model.apply(variables, jnp.ones((1, 4, 1))), network.apply(result.variables, jnp.ones((1, 4, 1))))


def test_an_old_checkpoint_opens():
    """Written by version 0.1.0; what it puts out was written down then."""
    model, variables = load_checkpoint(OLD)
    expected = json.loads((OLD / "expected.json").read_text())
    assert model == VanillaRNN(4, 2, recurrent_init=0.7)
    outputs = model.apply(variables, jnp.asarray(expected["inputs"])).outputs
    np.testing.assert_allclose(outputs, expected["outputs"], atol=1e-6)
    assert read_checkpoint(OLD).step == expected["step"]


def test_resumed_is_uninterrupted_bit_for_bit(tmp_path):
    whole = fit(tmp_path / "whole", 11)
    fit(tmp_path / "parts", 3)
    fit(tmp_path / "parts", 7)
    rest = fit(tmp_path / "parts", 11)
    assert rest.train_steps == 4
    assert_equal(rest.state, whole.state)
    assert_equal(rest.history, whole.history)
    metrics = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("whole", "parts")]
    assert metrics[0] == metrics[1]


def test_a_complete_run_is_not_repeated(run):
    again = fit(run[0], validation=TASK)
    assert again.train_steps == 0
    assert_equal(again.variables, run[1].variables)
    assert list(again.history["loss"]) == list(run[1].history["loss"])


KILLED = """
import sys, jax, optax
from ctd_models import GRU, Trainer
from ctd_models.tasks import Integration
from ctd_models.training import mean_squared_error
model = GRU(32, 1)
trainer = Trainer(model, mean_squared_error(model), optax.adam(1e-2), batch_size=64, checkpoint_every=10, validate_every=20)
task = Integration()
print("started", flush=True)
result = trainer.fit(task, 1000, jax.random.key(0), checkpoint_dir=sys.argv[1], validation=task)
print("done", result.train_steps)
"""


@pytest.mark.slow
def test_a_run_killed_at_any_moment_continues_bit_for_bit(tmp_path):
    """SIGKILL again and again, each time at a random moment after the run has got further than before; then to the end."""
    script = tmp_path / "train.py"
    script.write_text(KILLED)
    metrics = tmp_path / "killed" / "metrics.jsonl"
    rng = np.random.default_rng(0)
    command = [sys.executable, str(script), str(metrics.parent)]

    def written() -> int:
        return metrics.stat().st_size if metrics.exists() else 0

    for _ in range(4):
        before = written()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while written() <= before and process.poll() is None:
            time.sleep(1e-3)
        time.sleep(rng.uniform(0.0, 0.02))
        process.kill()
        out, errors = process.communicate()
        assert process.returncode == -9, errors
        assert "done" not in out
    for name in ("killed", "whole"):
        subprocess.run([*command[:2], str(tmp_path / name)], check=True, capture_output=True)
    (_, killed), (_, whole) = (load_checkpoint(tmp_path / name) for name in ("killed", "whole"))
    assert_equal(killed, whole)
    assert metrics.read_text() == (tmp_path / "whole" / "metrics.jsonl").read_text()


LOADED = """
import sys
{definition}
from ctd_models import load_checkpoint
model, variables = load_checkpoint(sys.argv[1])
print(type(model).__name__)
"""

DEFINITION = """
import jax, optax
from ctd_models import RecurrentNetwork, Trainer, VanillaRNNCell
class MyCell(VanillaRNNCell):
    def activate(self, x):
        return 2 * super().activate(x)
"""

TRAINED = (
    DEFINITION
    + """
import sys
from ctd_models.tasks import Integration
from ctd_models.training import mean_squared_error
model = RecurrentNetwork(MyCell(4), 1)
trainer = Trainer(model, mean_squared_error(model), optax.adam(1e-2))
trainer.fit(Integration(4), 2, jax.random.key(0), checkpoint_dir=sys.argv[1])
"""
)


def test_a_class_of_a_script_is_rebuilt_where_it_is_defined_and_named_where_not(tmp_path):
    def python(code):
        command = [sys.executable, "-c", code, str(tmp_path / "run")]
        return subprocess.run(command, capture_output=True, text=True)

    assert python(TRAINED).returncode == 0
    assert python(LOADED.format(definition=DEFINITION)).stdout == "RecurrentNetwork\n"
    failed = python(LOADED.format(definition=""))
    assert "CheckpointError" in failed.stderr
    assert "class 'MyCell' of module '__main__' is not registered: import the module that defines it" in failed.stderr


def test_a_checkpoint_of_several_devices_opens_on_one(tmp_path):
    code = TRAINED.replace(
        "import sys\n",
        "import sys\nassert len(jax.devices()) == 4\njax.config.update('jax_default_device', jax.devices()[3])\n",
    )
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")], check=True, env=environment)
    opened = subprocess.run(
        [sys.executable, "-c", LOADED.format(definition=DEFINITION), str(tmp_path / "run")],
        capture_output=True,
        text=True,
    )
    assert opened.stdout == "RecurrentNetwork\n", opened.stderr


# Bad input ------------------------------------------------------------------------------------------------------------


def test_what_is_not_there_is_named(run, tmp_path):
    directory = run[0]
    for step, message in [
        (5, r"holds the steps \[6\], not 5"),
        ("bset", "step must be None, an integer or 'best', got 'bset'"),
    ]:
        with pytest.raises(CheckpointError, match=message):
            load_checkpoint(directory, step)
    with pytest.raises(CheckpointError, match="there is no checkpoint directory"):
        load_checkpoint(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="holds no finished checkpoint"):
        load_checkpoint(tmp_path / "empty")
    fit(tmp_path / "unvalidated", 2)
    with pytest.raises(CheckpointError, match="has no best checkpoint: it was trained without validation"):
        load_checkpoint(tmp_path / "unvalidated", "best")


def test_other_runs_are_refused(run):
    directory = run[0]
    for arguments, message in [
        ({"model": GRU(5, 1)}, r"another model: model\.class is '.*VanillaRNN' there and '.*GRU' here"),
        ({"model": VanillaRNN(6, 1)}, r"another model: model\.hidden_size is 5 there and 6 here"),
        ({"key": jax.random.key(1)}, "started with another key"),
        ({"optimizer": optax.sgd(0.1)}, "another optimizer"),
        ({"trainable": "readout"}, "another optimizer or another selection of parameters"),
        ({"task": Integration(num_steps=5)}, r"other data \(task Integration\(num_steps=4"),
        ({"num_steps": 4}, "holds 6 steps already, more than num_steps = 4"),
    ]:
        with pytest.raises(ValueError, match=message):
            fit(directory, **arguments)


def test_a_truncated_checkpoint_is_named(copy):
    """Whichever of its files is cut in half, loading either fails with the step's name or gives the true arrays."""
    expected = load_checkpoint(copy)[1]
    failures = 0
    files = [p for p in (copy / "6").rglob("*") if p.is_file() and p.stat().st_size > 1 and "training" not in p.parts]
    for file in files:
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2])
        try:
            assert_equal(load_checkpoint(copy)[1], expected)
        except CheckpointError as error:
            assert any(text in str(error) for text in ("checkpoint 6 in", "no finished checkpoint", "are damaged"))
            failures += 1
        file.write_bytes(content)
    assert failures >= 3
    shutil.rmtree(copy / "6" / "variables")
    with pytest.raises(CheckpointError, match=r"checkpoint 6 in .* is damaged or incomplete"):
        load_checkpoint(copy)


def test_a_newer_format_is_refused(copy):
    config = copy / "6" / "config" / "metadata"
    config.write_text(config.read_text().replace('"format_version": 1', '"format_version": 2'))
    with pytest.raises(CheckpointError, match="has format 2, this version of ctd_models reads up to 1"):
        load_checkpoint(copy)


def test_an_unregistered_class_is_named(copy):
    config = copy / "6" / "config" / "metadata"
    config.write_text(config.read_text().replace("ctd_models.models.recurrent:VanillaRNN", "os:system"))
    with pytest.raises(CheckpointError, match="'system' of module 'os' is not registered"):
        load_checkpoint(copy)


def test_a_directory_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    for directory in (tmp_path / "file", tmp_path / "file" / "below", "/proc/nowhere"):
        with pytest.raises(CheckpointError, match="cannot write checkpoints to"):
            fit(directory)


def test_a_model_that_json_cannot_hold_is_refused_before_training(tmp_path):
    network = RecurrentNetwork(nn.GRUCell(3, kernel_init=lambda key, shape, dtype: jnp.zeros(shape, dtype)), 1)
    with pytest.raises(TypeError, match=r"model\.cell\.kernel_init holds <function"):
        fit(tmp_path / "run", model=network)
    assert not (tmp_path / "run").exists()
