"""The model against its equations written out, and that padding, order and dropout change nothing they should not."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ctd_models import LFADS, step_function
from ctd_models.analysis import find_fixed_points
from ctd_models.configuration import from_config, to_config
from ctd_models.data import SpikeTrials
from ctd_models.models.lfads import (
    AutoregressivePrior,
    ClassConditional,
    Controller,
    DiagonalGaussian,
    Encoder,
    Gaussian,
    Generator,
    Mixture,
    Normal,
    Poisson,
    StudentT,
)

KEY = jax.random.key(0)
RNGS = {"params": KEY, "sample": jax.random.key(1), "dropout": jax.random.key(2)}
B, T, N = 6, 7, 5
SPIKES = np.random.default_rng(0).poisson(1.0, (B, T, N)).astype(np.float32)
MODEL = LFADS(
    N,
    Encoder(4),
    Generator(6, 3, Gaussian(), code_size=2, bias_size=1),
    Controller(5, 2, AutoregressivePrior(tau=2.0)),
)


@pytest.fixture(scope="module")
def variables():
    return initialized(MODEL, SPIKES)


@functools.partial(jax.jit, static_argnames=("model", "method"))
def run(model, variables, *args, method=None, **kwargs):
    """`model.apply` as one compiled program."""
    return model.apply(variables, *args, method=method, **kwargs)


def changed(**parts):
    return MODEL.clone(**parts)


def initialized(model, *args):
    """Random parameters of the right shapes, without compiling."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(model.init, RNGS, *args)
    return jax.tree.map(lambda s: jnp.asarray(rng.normal(size=s.shape) / max(s.shape[0], 4) ** 0.5, s.dtype), shapes)


# The equations --------------------------------------------------------------------------------------------------------


def gru(p, h, x):
    gates = h @ p["gates_recurrent_kernel"] + x @ p["gates_input_kernel"] + p["gates_bias"]
    r, u = np.split(gates, 2, axis=-1)
    r, u = 1 / (1 + np.exp(-r)), 1 / (1 + np.exp(-u - 1.0))
    c = np.tanh((r * h) @ p["candidate_recurrent_kernel"] + x @ p["candidate_input_kernel"] + p["candidate_bias"])
    return np.clip(u * h + (1 - u) * c, -5, 5)


def affine(layer, v):
    return v @ layer["kernel"] + layer["bias"]


def written_out(p, x, code_noise, input_noise):
    """One trial by loops over time in NumPy."""
    p = jax.tree.map(np.asarray, p)
    T = len(x)
    encoder = p["encoder"]
    forward, h = [], encoder["initial_forward_state"]
    for t in range(T):
        forward.append(h := gru(encoder["initial_forward"], h, x[t]))
    backward, h = [None] * T, encoder["initial_backward_state"]
    for t in reversed(range(T)):
        backward[t] = h = gru(encoder["initial_backward"], h, x[t])
    mean, log_variance = np.split(affine(p["code_head"]["Dense_0"], np.concatenate([forward[-1], backward[0]])), 2)
    code = mean + np.sqrt(np.exp(log_variance) + 1e-4) * code_noise
    kernel = p["generator"]["factor_kernel"]
    kernel = kernel / np.sqrt((kernel**2).sum(axis=0))
    g, c = affine(p["generator"]["initial_map"], code[:2]), p["controller"]["initial_state"]
    f, result = g @ kernel, []
    for t in range(T):
        c = gru(p["controller"]["rnn"], c, np.concatenate([forward[t], backward[t], f]))
        mean, log_variance = np.split(affine(p["controller"]["head"]["Dense_0"], c), 2)
        u = mean + np.exp(log_variance / 2) * input_noise[t]
        g = gru(p["generator"]["rnn"], g, np.concatenate([u, code[2:]]))
        f = g @ kernel
        result.append((np.exp(affine(p["read_out"], f)), f, g, u))
    return [np.stack(values) for values in zip(*result, strict=True)]


def test_against_a_loop_over_time(variables):
    code_noise, input_noise = (
        np.random.default_rng(1).normal(size=(B, 3)),
        np.random.default_rng(2).normal(size=(B, T, 2)),
    )

    def decode(model):
        return model.decode(model.encode(SPIKES), code_noise, input_noise)

    posterior = run(MODEL, variables, method=decode)
    for trial in range(B):
        rates, factors, states, inputs = written_out(
            variables["params"], SPIKES[trial], code_noise[trial], input_noise[trial]
        )
        np.testing.assert_allclose(posterior.rates[trial], rates, rtol=1e-4)
        np.testing.assert_allclose(posterior.factors[trial], factors, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(posterior.generator_states[trial], states, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(posterior.inferred_inputs[trial], inputs, rtol=1e-4, atol=1e-5)


def test_divergence_of_inputs_with_the_controllers_feedback(variables):
    """Stepwise divergences at the decoded sample against log q − log p of whole paths, both averaged over samples."""

    def terms(model, key):
        evidence = model.encode(SPIKES[:2])
        posterior = model.decode(evidence, *model.noise(evidence, key))
        q = DiagonalGaussian(posterior.inferred_input_means, posterior.inferred_input_stds)
        prior, u = model.controller.prior, posterior.inferred_inputs
        path = (q.log_prob(u) - prior.log_prob(u)).sum(axis=1)
        return model.divergences(posterior)[1].sum(axis=1), path, posterior.inferred_input_means[:, -1, 0]

    sample = jax.jit(jax.vmap(lambda key: MODEL.apply(variables, key, method=terms)))
    divergences, paths, last_means = (np.asarray(v) for v in sample(jax.random.split(KEY, 10_000)))
    difference = divergences - paths
    error = difference.std(axis=0) / len(difference) ** 0.5
    assert np.abs(difference.mean(axis=0) / error).max() < 4
    assert (error / divergences.mean(axis=0)).max() < 0.01
    assert last_means.std(axis=0).min() > 1e-3  # there is feedback: the means depend on earlier samples


def test_gradient_by_finite_differences(variables):
    with jax.enable_x64(True):
        double = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), jnp.float64), variables)
        trials = SpikeTrials.from_spikes(SPIKES)

        @jax.jit
        def objective(params):
            terms = MODEL.apply({"params": params}, trials, rngs=RNGS, method="bound_terms")
            return (terms.log_likelihood - terms.kl_code - terms.kl_inputs).sum()

        gradient = jax.jit(jax.grad(objective))(double["params"])
        rng, params = np.random.default_rng(0), jax.tree.map(np.asarray, double["params"])
        direction = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), params)
        slope = sum(jax.tree.leaves(jax.tree.map(lambda g, d: (np.asarray(g) * d).sum(), gradient, direction)))
        eps = 1e-6
        ahead, behind = (objective(jax.tree.map(lambda p, d, s=s: p + s * eps * d, params, direction)) for s in (1, -1))
        np.testing.assert_allclose((ahead - behind) / (2 * eps), slope, rtol=2e-4)


def test_rows_of_the_factor_map_have_unit_length():
    generator = Generator(6, 3, None)
    variables = generator.init(RNGS, jnp.zeros(6), jnp.zeros(1), method="step")
    kernel = np.asarray(generator.apply(variables, jnp.eye(6), method="factors"))
    np.testing.assert_allclose((kernel**2).sum(axis=0), 1, rtol=1e-5)


# What must not matter -------------------------------------------------------------------------------------------------


def test_padding_changes_nothing(variables):
    lengths = np.array([7, 4, 2, 5, 7, 3])
    rubbish = np.where(np.arange(T)[:, None] < lengths[:, None, None], SPIKES, 77.0)
    padded = run(MODEL, variables, rubbish, lengths=lengths, method="posterior_mean")
    for trial, length in ((0, 7), (1, 4), (2, 2)):
        alone = run(MODEL, variables, SPIKES[trial : trial + 1, :length], method="posterior_mean")
        np.testing.assert_allclose(padded.rates[trial, :length], alone.rates[0], rtol=2e-5)
        np.testing.assert_allclose(padded.code[trial], alone.code[0], rtol=2e-5, atol=1e-6)


def test_order_of_trials_changes_nothing(variables):
    order = np.random.default_rng(0).permutation(B)
    rates = run(MODEL, variables, SPIKES, method="posterior_mean").rates
    np.testing.assert_allclose(
        run(MODEL, variables, SPIKES[order], method="posterior_mean").rates, rates[order], rtol=1e-5
    )


def with_dropout(rate):
    return changed(
        encoder=Encoder(4, dropout=rate),
        generator=dataclasses.replace(MODEL.generator, dropout=rate),
        controller=dataclasses.replace(MODEL.controller, dropout=rate),
    )


def test_dropout(variables):
    """At rate 0 nothing is random but the sample; above, training is, and the posterior mean is not."""
    keys = [{**RNGS, "dropout": jax.random.key(seed)} for seed in (5, 6)]
    same = [run(MODEL, variables, SPIKES, rngs=rngs).rates for rngs in keys]
    np.testing.assert_array_equal(*same)
    np.testing.assert_array_equal(run(with_dropout(0.0), variables, SPIKES, rngs=RNGS).rates, same[0])
    dropped = [run(with_dropout(0.5), variables, SPIKES, rngs=rngs) for rngs in keys]
    changes = np.abs(dropped[0].factors - dropped[1].factors).max(axis=(0, 2))
    assert (changes > 1e-3).all()  # in every bin
    mean = run(MODEL, variables, SPIKES, method="posterior_mean").rates
    np.testing.assert_array_equal(run(with_dropout(0.5), variables, SPIKES, method="posterior_mean").rates, mean)
    with pytest.raises(Exception, match="dropout"):
        jax.eval_shape(with_dropout(0.5).apply, variables, SPIKES, rngs={"sample": KEY})
    with pytest.raises(Exception, match="sample"):
        jax.eval_shape(MODEL.apply, variables, SPIKES)


def test_noise_differs_by_trial_bin_and_sample(variables):
    posterior = run(MODEL, variables, np.tile(SPIKES[:1], (B, 1, 1)), rngs=RNGS)
    noise = (posterior.inferred_inputs - posterior.inferred_input_means) / posterior.inferred_input_stds
    assert len(np.unique(np.asarray(noise).round(4))) == noise.size
    codes = [run(MODEL, variables, SPIKES, rngs={**RNGS, "sample": jax.random.key(seed)}).code for seed in (8, 9)]
    assert not np.isclose(*codes).any()


# Parts ----------------------------------------------------------------------------------------------------------------

VARIANTS = {
    "autonomous": changed(controller=None),
    "no inputs at all": changed(controller=None, generator=Generator(6, 3, Gaussian())),
    "separate encoders, lag": changed(encoder=Encoder(4, controller_size=3), controller=Controller(5, 2, None, lag=1)),
    "first bins": changed(encoder=Encoder(4, initial_bins=2)),
    "lstm": changed(generator=Generator(6, 3, Gaussian(), cell=nn.OptimizedLSTMCell(6))),
    "student": changed(controller=Controller(5, 2, StudentT())),
    "gaussian inputs": changed(controller=Controller(5, 2, Gaussian())),
    "mixture": changed(generator=Generator(6, 3, Mixture(2), bias_size=2)),
    "classes": changed(
        num_classes=3, generator=Generator(6, 3, ClassConditional(3)), controller=Controller(5, 2, ClassConditional(3))
    ),
    "external": changed(num_external_inputs=2, external_to_encoder=True),
    "forward": changed(num_forward_bins=3, num_external_inputs=2),
    "forward, classes": changed(num_forward_bins=3, num_classes=3),
    "forward, autonomous": changed(num_forward_bins=3, controller=None),
    "held out": changed(num_input_neurons=3),
    "own readout": changed(observation=Normal(), readout=nn.Dense(2 * N)),
    "own cell": changed(encoder=Encoder(4, cell=nn.GRUCell(4))),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_variants(name):
    """Each has the right shapes, a finite gradient everywhere, comes back from JSON, and its generator steps."""
    model = VARIANTS[name]
    trials = SpikeTrials(
        SPIKES[..., : model.inputs_size],
        np.ones((B, T + model.num_forward_bins, N)),
        np.ones((B, T + model.num_forward_bins, 2), np.float32) if model.num_external_inputs else None,
        np.arange(B) % 3 if model.num_classes else None,
    )

    def objective(params):
        terms = model.apply({"params": params}, trials, rngs=RNGS, method="bound_terms")
        return (terms.log_likelihood - terms.kl_code - terms.kl_inputs).sum()

    variables = initialized(model, trials.inputs, *trials[2:4])
    value, gradient = jax.jit(jax.value_and_grad(objective))(variables["params"])
    assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    posterior = jax.eval_shape(
        lambda v: model.apply(v, trials.inputs, *trials[2:4], method="posterior_mean"), variables
    )
    steps = T - model.encoder.start + model.num_forward_bins
    assert posterior.rates.shape == (B, steps, N)
    assert from_config(to_config(model)) == model
    state = jax.tree.map(lambda leaf: jnp.ones(leaf.shape[1:]), posterior.initial_condition)
    F = step_function(model, variables, part="generator")
    width = model.generator.bias_size + model.num_external_inputs + model.num_classes
    width += model.controller.num_inputs if model.controller else 0
    after = jax.eval_shape(F, state) if width == 0 else jax.eval_shape(F, state, jnp.zeros(width))
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)


def test_the_generator_rolls_out_as_a_step_function(variables):
    """Its states are those that F makes from the initial condition and the inferred inputs."""
    posterior = run(MODEL, variables, SPIKES, method="posterior_mean")
    F = step_function(MODEL, variables, part="generator")
    state, advance = posterior.initial_condition[0], jax.jit(F)
    for t in range(T):
        state = advance(state, jnp.concatenate([posterior.inferred_inputs[0, t], posterior.inferred_bias[0]]))
        np.testing.assert_allclose(state, posterior.generator_states[0, t], rtol=1e-4, atol=1e-6)
    points = find_fixed_points(F, np.asarray(posterior.generator_states).reshape(-1, 6), inputs=jnp.zeros(3))
    np.testing.assert_allclose(F(jnp.asarray(points.states[0]), jnp.zeros(3)), points.states[0], atol=1e-5)


def test_lag_keeps_a_bins_own_spikes_from_its_input():
    """With lag 1, bin 3 reaches the controller at 4 and 2, but not at 3."""
    model = changed(controller=Controller(5, 2, None, lag=1))
    features = jax.random.normal(KEY, (1, T, 8))
    variables = initialized(model, SPIKES)
    read = model.bind(variables).controller.delayed(features)
    np.testing.assert_array_equal(read[:, 1:, :4], features[:, :-1, :4])
    np.testing.assert_array_equal(read[:, :-1, 4:], features[:, 1:, 4:])
    assert not np.any(read[:, 0, :4]) and not np.any(read[:, -1, 4:])


def test_the_first_bins_alone_give_the_code():
    model = VARIANTS["first bins"]
    variables = initialized(model, SPIKES)
    other = SPIKES.copy()
    other[:, 2:] += 1
    codes = [run(model, variables, x, method="posterior_mean").code for x in (SPIKES, other)]
    np.testing.assert_array_equal(*codes)


def test_prior_samples(variables):
    """Paths of the prior drive the generator; with the priors' parameters they have the priors' moments."""
    samples = jax.jit(lambda v: MODEL.apply(v, 4000, 5, rngs=RNGS, method="sample_prior"))(variables)
    assert samples.rates.shape == (4000, 5, N) and samples.code_means is None
    prior = MODEL.bind(variables).generator.prior
    np.testing.assert_allclose(samples.code.mean(axis=0), prior.moments(3)[0], atol=0.08)
    spikes = Poisson().draw(KEY, samples.parameters)
    np.testing.assert_allclose(spikes.mean(axis=(0, 1)), samples.rates.mean(axis=(0, 1)), rtol=0.1)
    with pytest.raises(ValueError, match="nothing to draw from"):
        jax.eval_shape(lambda: VARIANTS["separate encoders, lag"].init(RNGS, 4, 5, method="sample_prior"))


# Bad input ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "args", "message"),
    [
        (
            MODEL,
            (SPIKES[:, :, :3],),
            r"expected spikes \[trials, time, 5 neurons that are read\], got shape \(6, 7, 3\): .*num_input_neurons=3",
        ),
        (MODEL, (np.tile(SPIKES, (1, 1, 2)),), r"5 neurons that are read\], got shape \(6, 7, 10\)\n"),
        (MODEL, (SPIKES[:, :1],), "one bin have no dynamics"),
        (MODEL, (np.where(SPIKES > 3, np.nan, SPIKES),), r"expected finite spikes, got nan at index \("),
        (MODEL, (SPIKES, np.zeros((B, T, 2))), "the model has none"),
        (VARIANTS["external"], (SPIKES,), r"expected external_inputs \(6, 7, 2\).*got none"),
        (VARIANTS["forward"], (SPIKES, np.zeros((B, T, 2))), r"\(6, 10, 2\).*3 forward bins included.*\(6, 7, 2\)"),
        (VARIANTS["classes"], (SPIKES,), r"expected labels \(6,\)"),
        (VARIANTS["first bins"], (SPIKES[:, :2],), "initial_bins is 2, but the trials have only 2 bins"),
        (changed(observation=Normal(), readout=nn.Dense(N)), (SPIKES,), r"Normal has 2 parameters.*must put out 10"),
    ],
)
def test_bad_input(model, args, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda: model.init(RNGS, *args))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: changed(num_input_neurons=9), "num_input_neurons must lie in 1 … 5"),
        (lambda: Controller(4, 0, None), "num_inputs must be at least 1"),
        (lambda: Generator(4, 0, None), "num_factors must be at least 1"),
        (lambda: Encoder(4, initial_bins=0), "initial_bins must be at least 1"),
        (lambda: Controller(4, 1, None, lag=-1), "lag cannot be negative"),
    ],
)
def test_bad_models(make, message):
    with pytest.raises(ValueError, match=message):
        make()
