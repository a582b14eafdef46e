"""The example of sequence to sequence: its scores by hand, and short runs."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from ctd_models import load_checkpoint
from ctd_models.tasks import Addition, SequencePairs, TwoBoxes

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture(scope="module", autouse=True)
def importable():
    sys.path.insert(0, str(EXAMPLES))
    yield
    sys.path.remove(str(EXAMPLES))


def test_weights_on_the_symbol_that_is_said():
    from _seq2seq_scores import Given, attention_on_answer

    inputs = np.array([[5, 3, 4, 0], [6, 6, 0, 0]])
    lengths = np.array([3, 2])
    weights = np.zeros((2, 5, 4))
    weights[0, :3, :3] = [[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.0, 0.4, 0.6]]
    weights[1, :2, :2] = [[0.9, 0.1], [0.2, 0.8]]
    given = Given(None, None, None, attention=weights)
    expected = {
        "copy": np.mean([0.7, 0.8, 0.6, 0.9, 0.8]),
        "reverse": np.mean([0.1, 0.8, 0.0, 0.1, 0.2]),
        "sort": np.mean(
            [0.2, 0.1, 0.0, 1.0, 1.0]
        ),  # 3, 4, 5, of which the places are 2, 3, 1; two 6s, of which both count
    }
    targets = {"sort": np.array([[3, 4, 5, 2, 0], [6, 6, 2, 0, 0]])}
    for task, value in expected.items():
        pairs = SequencePairs(inputs, lengths, targets.get(task), lengths + 1)
        assert attention_on_answer(SimpleNamespace(task=task), pairs, given) == pytest.approx(value)
    assert attention_on_answer(SimpleNamespace(task="addition"), pairs, given) is None


def test_shares_of_sequences_and_of_tokens_that_are_right():
    from _seq2seq_scores import Given, accuracies

    right = np.array([[True, True, True], [True, False, True], [False, True, True]])  # behind the end: True
    pairs = SequencePairs(None, None, None, np.array([3, 3, 2]))
    assert accuracies(pairs, Given(None, None, right)) == (pytest.approx(1 / 3), pytest.approx(6 / 8))


def test_contents_are_read_from_the_sequences():
    import jax
    from _seq2seq_states import boxes, numbers_of, read

    pairs = Addition(2).pairs(np.array([7, 40]), np.array([12, 5]))
    first, second = numbers_of(np.asarray(pairs.inputs))
    assert first.tolist() == [7, 40] and second.tolist() == [12, 5]
    signal = np.zeros(12)
    signal[2:5], signal[5:9] = 0.3, 0.8
    found = {name: value[0] for name, value in boxes(signal[None]).items()}
    expected = {"place": (2, 5), "width": (3, 4), "height": (0.3, 0.8)}
    assert found == {f"{name} of box {i + 1}": values[i] for name, values in expected.items() for i in (0, 1)}
    many = boxes(np.asarray(TwoBoxes().sample(jax.random.key(0), 50).inputs)[..., 0])
    assert (many["width of box 1"] >= 5).all()
    assert (many["place of box 2"] >= many["place of box 1"] + many["width of box 1"]).all()
    states = np.random.default_rng(0).normal(size=(600, 4))
    assert read(states, states[:, :2] @ [[1.0], [2.0]]) > 0.999
    assert abs(read(states[:, 2:], states[:, :1])) < 0.1
    assert np.isnan(read(states, np.ones((600, 1))))


def run(out, *arguments):
    command = [sys.executable, str(EXAMPLES / "seq2seq_attention.py"), "--quick", "--out", str(out), *arguments]
    process = subprocess.run(
        command, env={**os.environ, "MPLBACKEND": "Agg"}, capture_output=True, text=True, timeout=900, check=False
    )
    assert process.returncode == 0, process.stderr[-3000:]
    results = json.loads((out / "results.json").read_text())
    assert {"sequence_accuracy", "token_accuracy", "accuracy_length_extrapolation"} <= set(results)
    return results


@pytest.mark.slow
def test_copying_with_attention(tmp_path):
    results = run(tmp_path, "--task", "copy", "--attention", "additive")
    assert results["sequence_accuracy"] > 0.97 and results["token_accuracy"] > 0.99
    assert results["attention_on_answer"] > 0.9
    assert results["encoder_fixed_points"] and results["decoder_fixed_points"]
    names = ("learning_curves", "accuracy_by_length", "attention", "initial_states", "fixed_points")
    assert all((tmp_path / f"{name}.png").exists() for name in names)
    model, variables = load_checkpoint(tmp_path, "best")
    inputs, targets = jnp.array([[203, 20, 0, 0, 0]]), jnp.array([[203, 20, 2, 0, 0, 0]])
    answers = model.apply(variables, inputs, jnp.array([2]), targets)
    assert answers.outputs[0].argmax(axis=-1)[:3].tolist() == [203, 20, 2]


@pytest.mark.slow
def test_boxes_by_an_autonomous_decoder(tmp_path):
    results = run(tmp_path, "--task", "boxes", "--attention", "none", "--num-steps", "60")
    assert results["normalized_error"] < 1.1
    load_checkpoint(tmp_path, "best")
    assert (tmp_path / "answers.png").exists()
