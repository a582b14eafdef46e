"""The losses against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ctd_models import ContinuousRNNCell, RecurrentNetwork, VanillaRNN
from ctd_models.models import ModularRNNCell, chain
from ctd_models.tasks import BinaryDecision
from ctd_models.training.losses import binary_cross_entropy, mean_squared_error, rate_penalized_error

MODEL = VanillaRNN(5, 1)
TRIALS = BinaryDecision(num_steps=4).sample(jax.random.key(0), 6)
VARIABLES = MODEL.init(jax.random.key(1), TRIALS.inputs)


def test_masked_error_and_penalty():
    outputs = np.asarray(MODEL.apply(VARIABLES, TRIALS.inputs).outputs)
    error = ((outputs[:, -1] - np.asarray(TRIALS.targets)[:, -1]) ** 2).mean()
    norm = sum((np.asarray(p) ** 2).sum() for p in jax.tree.leaves(VARIABLES))
    loss, metrics = mean_squared_error(MODEL, l2=0.01)(VARIABLES, TRIALS, {}, 0, True)
    assert float(metrics["mse"]) == pytest.approx(error, rel=1e-5)
    assert float(loss) == pytest.approx(error + 0.01 * norm, rel=1e-5)


def test_a_mask_of_each_output_weighs_each_output():
    model = VanillaRNN(5, 2)
    variables = model.init(jax.random.key(1), TRIALS.inputs)
    targets = jnp.zeros((6, 4, 2))
    mask = jnp.zeros((6, 4, 2)).at[2, 1, 0].set(3.0).at[0, 0, 1].set(1.0)
    outputs = np.asarray(model.apply(variables, TRIALS.inputs).outputs)
    expected = (3 * outputs[2, 1, 0] ** 2 + outputs[0, 0, 1] ** 2) / 4
    loss, _ = mean_squared_error(model)(variables, (TRIALS.inputs, targets, mask), {}, 0, True)
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_cross_entropy_is_that_of_bernoulli_probabilities():
    outputs = np.asarray(MODEL.apply(VARIABLES, TRIALS.inputs).outputs, np.float64)[:, -1]
    answers = np.asarray(TRIALS.targets)[:, -1]
    assert {-1.0, 1.0} == set(answers.ravel())  # both answers occur
    probability = 1 / (1 + np.exp(-outputs))
    expected = -np.log(np.where(answers > 0, probability, 1 - probability)).mean()
    norm = sum((np.asarray(p) ** 2).sum() for p in jax.tree.leaves(VARIABLES))
    loss, metrics = binary_cross_entropy(MODEL, l2=0.01)(VARIABLES, TRIALS, {}, 0, True)
    assert float(metrics["cross_entropy"]) == pytest.approx(expected, rel=1e-5)
    assert float(loss) == pytest.approx(expected + 0.01 * norm, rel=1e-5)


def test_cross_entropy_of_sure_answers():
    """|logit| where right is log(1 + exp(−|logit|)) → 0, where wrong → |logit|, without overflow."""
    model, trials = VanillaRNN(2, 1), TRIALS._replace(targets=jnp.ones_like(TRIALS.targets))
    zeros = jax.tree.map(jnp.zeros_like, model.init(jax.random.key(0), TRIALS.inputs))
    value_and_grad = jax.jit(jax.value_and_grad(lambda v: binary_cross_entropy(model)(v, trials, {}, 0, True)[0]))
    for logit, expected in ((0.0, np.log(2)), (200.0, 0.0), (-200.0, 200.0)):
        zeros["params"]["readout"]["bias"] = jnp.full(1, logit)
        value, slope = value_and_grad(zeros)
        assert float(value) == pytest.approx(expected, abs=1e-6)
        assert float(slope["params"]["readout"]["bias"][0]) == pytest.approx(-1 / (1 + np.exp(logit)), abs=1e-6)


def test_rate_penalty_is_the_mean_over_all_units_of_all_modules():
    cell = ModularRNNCell(("A", "B"), (6, 2), chain("A", "B"), ("A",), ("B",), dt=0.05)
    model = RecurrentNetwork(cell, 1)
    variables = model.init(jax.random.key(1), TRIALS.inputs)
    run = model.apply(variables, TRIALS.inputs)
    rates = np.concatenate([np.maximum(np.tanh(run.states[name]), 0) for name in ("A", "B")], axis=-1)
    norm = sum((np.asarray(p) ** 2).sum() for p in jax.tree.leaves(variables["params"]))
    loss, metrics = rate_penalized_error(model, l2=0.01, rate_penalty=0.3)(variables, TRIALS, {}, 0, True)
    plain = mean_squared_error(model)(variables, TRIALS, {}, 0, True)[0]
    assert rates.shape == (6, 4, 8) and (rates > 0).any()
    assert float(metrics["mean_squared_rate"]) == pytest.approx((rates**2).mean(), rel=1e-5)
    assert float(metrics["mse"]) == pytest.approx(float(plain), rel=1e-6)
    assert float(loss) == pytest.approx(float(plain) + 0.01 * norm + 0.3 * (rates**2).mean(), rel=1e-5)


def test_rate_penalty_needs_rates():
    rate_penalized_error(RecurrentNetwork(ContinuousRNNCell(3), 1))
    with pytest.raises(TypeError, match="VanillaRNN has no method rates"):
        rate_penalized_error(MODEL)
    with pytest.raises(ValueError, match="rate_penalty cannot be negative, got -1"):
        rate_penalized_error(RecurrentNetwork(ContinuousRNNCell(3), 1), rate_penalty=-1.0)


@pytest.mark.parametrize("make", [mean_squared_error, binary_cross_entropy])
def test_bad_shapes(make):
    loss = make(MODEL)
    with pytest.raises(ValueError, match=r"targets have shape \(6, 3, 1\), the outputs of the network \(6, 4, 1\)"):
        loss(VARIABLES, TRIALS._replace(targets=TRIALS.targets[:, :3]), {}, 0, True)
    with pytest.raises(ValueError, match=r"the mask has shape \(6, 4\), expected \(6, 4, 1\)"):
        loss(VARIABLES, TRIALS._replace(mask=TRIALS.mask[..., 0]), {}, 0, True)
    with pytest.raises(ValueError, match="l2 cannot be negative"):
        make(MODEL, l2=-1.0)
