"""Inference over data sets: chunks, averages, bounds, and the way to a file."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from ctd_models import LFADS
from ctd_models.data import SpikeTrials, read_datasets, write_chunks
from ctd_models.models.lfads import (
    POSTERIOR_UNITS,
    AutoregressivePrior,
    ClassConditional,
    Controller,
    Encoder,
    Gaussian,
    Generator,
    importance_weighted_bound,
    infer,
    infer_chunks,
)

KEY = jax.random.key(0)
TRIALS = SpikeTrials.from_spikes(np.random.default_rng(0).poisson(1.0, (10, 6, 4)))
MODEL = LFADS(4, Encoder(4), Generator(5, 3, Gaussian(), code_size=1), Controller(4, 2, AutoregressivePrior()))


def random_variables(model, trials=TRIALS):
    rng = np.random.default_rng(3)
    rngs = dict.fromkeys(("params", "sample", "dropout"), KEY)
    shapes = jax.eval_shape(model.init, rngs, trials.inputs)
    return jax.tree.map(lambda s: jnp.asarray(rng.normal(size=s.shape) / max(s.shape[0], 3) ** 0.5, s.dtype), shapes)


@pytest.fixture(scope="module")
def variables():
    return random_variables(MODEL)


def test_chunks_are_the_whole(variables):
    """Whatever the batch size, which need not divide the trials."""
    whole = infer(MODEL, variables, TRIALS)
    direct = MODEL.apply(variables, TRIALS.inputs, method="posterior_mean")
    parts = infer(MODEL, variables, TRIALS, batch_size=4)
    for name in ("rates", "factors", "generator_states", "inferred_inputs", "code_stds"):
        np.testing.assert_allclose(getattr(whole, name), getattr(direct, name), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), rtol=1e-5, atol=1e-6)
    assert whole.inferred_bias is None


def test_one_program_for_all_chunks(variables, compilations):
    infer(MODEL, variables, TRIALS, batch_size=3)
    other = jax.tree.map(lambda leaf: leaf + 0.1, variables)
    with compilations:
        infer(MODEL, other, TRIALS.take(slice(0, 8)), batch_size=3)
    assert compilations.count == 0


def test_the_average_of_samples_is_that_of_single_samples(variables):
    average = infer(MODEL, variables, TRIALS, num_samples=2000, key=KEY)
    sample = jax.jit(lambda key: MODEL.apply(variables, TRIALS.inputs, rngs={"sample": key}).rates)
    rates = np.stack([sample(key) for key in jax.random.split(jax.random.key(5), 400)])
    error = rates.std(axis=0) * (1 / 400 + 1 / 2000) ** 0.5
    assert np.abs((average.rates - rates.mean(axis=0)) / error).max() < 4.5
    np.testing.assert_allclose(average.code_means, infer(MODEL, variables, TRIALS).code_means, rtol=1e-4)


def test_states_that_are_pytrees_come_back_as_such():
    model = MODEL.clone(generator=Generator(5, 3, Gaussian(), cell=nn.OptimizedLSTMCell(5)))
    posterior = infer(model, random_variables(model), TRIALS)
    assert [leaf.shape for leaf in posterior.generator_states] == [(10, 6, 5)] * 2
    assert [leaf.shape for leaf in posterior.initial_condition] == [(10, 5)] * 2


def test_importance_weighted_bound_reaches_the_likelihood():
    """With a one-dimensional code and no inputs, log p(x) is an integral; the ELBO is the bound of one sample."""
    model = MODEL.clone(controller=None)
    variables = random_variables(model)
    head = variables["params"]["code_head"]["Dense_0"]  # a posterior wider than the true one keeps the weights bounded
    head["kernel"], head["bias"] = 0.1 * head["kernel"], jnp.asarray([0.0, 1.5])
    mean, variance = (float(v[0]) for v in model.bind(variables).generator.prior.moments(1))
    code = np.linspace(mean - 9 * variance**0.5, mean + 9 * variance**0.5, 2001)

    def log_likelihood(model, code):
        evidence = model.encode(TRIALS.inputs)
        noise = (code - evidence.code.mean) / evidence.code.std
        rates = model.decode(evidence, noise).rates
        return jax.scipy.stats.poisson.logpmf(TRIALS.targets, rates).sum(axis=(1, 2))

    run = jax.jit(jax.vmap(lambda c: model.apply(variables, jnp.full((10, 1), c), method=log_likelihood)))
    integrand = (
        np.asarray(run(jnp.asarray(code)), np.float64) + scipy.stats.norm.logpdf(code, mean, variance**0.5)[:, None]
    )
    expected = scipy.special.logsumexp(integrand, axis=0) + np.log(code[1] - code[0])
    bounds = [
        importance_weighted_bound(model, variables, TRIALS, num_samples=n, key=KEY, batch_size=5) for n in (1, 20, 5000)
    ]
    np.testing.assert_allclose(bounds[2], expected, atol=0.05)
    assert bounds[0].mean() < bounds[1].mean() < expected.mean() + 0.01
    repeated = [
        importance_weighted_bound(model, variables, TRIALS, num_samples=1, key=key).mean()
        for key in jax.random.split(KEY, 200)
    ]
    elbo = jax.jit(lambda key: model.apply(variables, TRIALS, rngs={"sample": key}, method="bound_terms"))
    terms = [elbo(key) for key in jax.random.split(jax.random.key(7), 200)]
    elbos = [np.mean(t.log_likelihood - t.kl_code - t.kl_inputs) for t in terms]
    error = (np.var(repeated) / 200 + np.var(elbos) / 200) ** 0.5
    assert abs(np.mean(repeated) - np.mean(elbos)) < 4 * error


def test_streaming_into_a_file(variables, tmp_path):
    chunks = infer_chunks(MODEL, variables, TRIALS, batch_size=4, fields=("rates", "factors"))
    write_chunks(
        tmp_path / "posterior.h5", chunks, units={"rates": POSTERIOR_UNITS["rates"]}, trial_indices=np.arange(5, 15)
    )
    read = read_datasets(tmp_path / "posterior.h5", {"rates": "n t 4", "factors": "n t 3", "trial_indices": "n"})
    np.testing.assert_allclose(read["rates"], infer(MODEL, variables, TRIALS).rates, rtol=1e-5)
    np.testing.assert_array_equal(read["trial_indices"], np.arange(5, 15))


def test_bad_input(variables):
    negative = TRIALS._replace(targets=TRIALS.targets - 1)
    with pytest.raises(ValueError, match=r"counts, non-negative integers, under Poisson.*got -1 at index"):
        infer(MODEL, variables, negative)
    with pytest.raises(ValueError, match=r"inputs, got nan at index \(0, 0, 0\)"):
        infer(MODEL, variables, TRIALS._replace(inputs=np.full((10, 6, 4), np.nan)))
    with pytest.raises(ValueError, match="need a key"):
        infer(MODEL, variables, TRIALS, num_samples=3)
    with pytest.raises(TypeError, match="must be SpikeTrials"):
        infer(MODEL, variables, TRIALS.inputs)
    with pytest.raises(ValueError, match=r"fields may name .*got \['rate'\]"):
        infer_chunks(MODEL, variables, TRIALS, fields=("rate",))
    with pytest.raises(ValueError, match="lengths must lie in 2 … 6, got 1 at trial 0"):
        infer(MODEL, variables, TRIALS._replace(lengths=np.ones(10, int)))
    with pytest.raises(TypeError, match="whole dictionary"):
        infer(MODEL, variables["params"], TRIALS)
    with pytest.raises(TypeError, match=r"one typed key, such as jax.random.key\(0\), got 0"):
        infer(MODEL, variables, TRIALS, num_samples=3, key=0)
    with pytest.raises(ValueError, match="lag is 6, but trials have only 6 bins"):
        infer(MODEL.clone(controller=Controller(4, 2, None, lag=6)), variables, TRIALS)


@pytest.mark.parametrize(("classes", "known"), [(0, 2), (3, 2), (2, 0)])
def test_labels_must_be_classes_of_model_and_prior(variables, classes, known):
    prior = ClassConditional(known) if known else Gaussian()
    model = MODEL.clone(num_classes=classes, generator=Generator(5, 3, prior, code_size=1))
    with pytest.raises(ValueError, match="labels must lie in 0 … 1, got 2 at trial 7"):
        infer(model, variables, TRIALS._replace(labels=np.array([0, 1, 1, 0, 0, 1, 1, 2, 0, 1])))
    with pytest.raises(ValueError, match=r"labels must be whole numbers.*float64"):
        infer(model, variables, TRIALS._replace(labels=np.ones(10)))
    with pytest.raises(ValueError, match="labels must lie in 0 … 1, got -1 at trial 0"):
        model.apply(variables, 2, 4, None, np.array([-1, 0]), method="sample_prior", rngs={"sample": KEY})


def test_posteriors_are_printed_in_a_line(variables):
    assert repr(infer(MODEL, variables, TRIALS)).startswith(
        "Posterior(rates=float32[10, 6, 4], factors=float32[10, 6, 3]"
    )
    assert repr(TRIALS) == "SpikeTrials(inputs=int64[10, 6, 4], targets=int64[10, 6, 4])"
