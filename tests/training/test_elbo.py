"""Training of LFADS: the loss, its schedules and penalties, and that every step has its own trials and noise."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats

from ctd_models import LFADS, Trainer, VanillaRNN, load_checkpoint
from ctd_models.data import CoordinatedDropout, SpikeTrials
from ctd_models.models.lfads import AutoregressivePrior, Controller, Encoder, Gamma, Gaussian, Generator
from ctd_models.training import elbo, mean_squared_error

KEY = jax.random.key(0)
RNGS = {name: jax.random.fold_in(KEY, i) for i, name in enumerate(("sample", "dropout", "noise"))}
SPIKES = np.random.default_rng(0).poisson(np.linspace(0.2, 2.0, 4), (64, 6, 4))
TRIALS = SpikeTrials.from_spikes(SPIKES)
MODEL = LFADS(4, Encoder(4), Generator(5, 3, Gaussian()), Controller(4, 1, AutoregressivePrior()))


@pytest.fixture(scope="module")
def variables():
    return jax.jit(elbo(MODEL).init)({"params": KEY, **RNGS}, TRIALS)


def test_the_loss_is_the_negative_bound(variables):
    """From the model's own posterior, with scipy's Poisson likelihood (log x! included)."""
    value, metrics = elbo(MODEL)(variables, TRIALS, RNGS, 0, True)

    def terms(model):
        posterior = model(TRIALS.inputs)
        return posterior.rates, model.divergences(posterior)

    rates, (kl_code, kl_inputs) = MODEL.apply(variables, rngs=RNGS, method=terms)
    nll = -scipy.stats.poisson.logpmf(SPIKES, rates).sum(axis=(1, 2)).mean()
    np.testing.assert_allclose(metrics["nll"], nll, rtol=1e-5)
    np.testing.assert_allclose(value, nll + kl_code.mean() + kl_inputs.sum(axis=1).mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics["elbo"], -value, rtol=1e-6)


def test_schedules_and_penalty(variables):
    loss = elbo(
        MODEL,
        kl_weight=optax.linear_schedule(0.0, 0.5, 100),
        input_kl_weight=2.0,
        l2={"generator": 3.0},
        l2_weight=optax.linear_schedule(0.0, 1.0, 10),
    )
    kernels = variables["params"]["generator"]["rnn"]
    penalty = 1.5 * sum(float((kernels[f"{name}_recurrent_kernel"] ** 2).sum()) for name in ("gates", "candidate"))
    for step, training, weight, ramp in ((0, True, 0, 0), (50, True, 0.25, 1), (0, False, 0.5, 1)):
        value, metrics = loss(variables, TRIALS, RNGS, step, training)
        np.testing.assert_allclose(metrics["l2"], penalty, rtol=1e-5)
        expected = metrics["nll"] + weight * metrics["kl_code"] + 2 * metrics["kl_inputs"] + ramp * penalty
        np.testing.assert_allclose(value, expected, rtol=1e-5)
        bound = -(metrics["nll"] + metrics["kl_code"] + metrics["kl_inputs"])
        np.testing.assert_allclose(metrics["elbo"], bound, rtol=1e-6)


@pytest.mark.slow
def test_masked_targets_do_not_count(variables):
    """Whatever stands there, even what the likelihood cannot have."""
    model = MODEL.clone(observation=Gamma())
    targets = np.random.default_rng(0).gamma(2.0, size=SPIKES.shape)
    mask = np.ones_like(targets)
    mask[:, 3:] = 0
    trials = SpikeTrials(TRIALS.inputs, np.where(mask > 0, targets, 0.0), mask=mask)
    variables = jax.jit(model.init)({"params": KEY, **RNGS}, TRIALS.inputs)
    losses, gradients = zip(
        *(
            jax.jit(jax.value_and_grad(lambda v, t=t: elbo(model)(v, t, RNGS, 0, True)[0]))(variables)
            for t in (trials, trials._replace(targets=targets))
        ),
        strict=True,
    )
    assert np.isfinite(losses[0]) and losses[0] == losses[1]
    elbo(model).check(trials, "trials")
    with pytest.raises(ValueError, match="positive values under Gamma"):
        elbo(model).check(trials._replace(mask=None), "trials")
    jax.tree.map(np.testing.assert_array_equal, *gradients)


def test_training_begins_at_the_mean_rates(variables):
    bias = variables["params"]["read_out"]["bias"]
    np.testing.assert_allclose(np.exp(bias), SPIKES.mean(axis=(0, 1)), rtol=1e-5)


@pytest.mark.slow
def test_every_step_has_other_trials_and_other_noise():
    """The metrics of a step that does not move the weights differ only by its trials and its noise."""
    marked = TRIALS._replace(labels=np.arange(64))

    def loss(variables, batch, rngs, step, training):
        noise = {name: jax.random.normal(rngs[name]) for name in ("sample", "dropout", "noise")}
        value, _ = elbo(MODEL)(variables, batch, rngs, step, training)
        return value, {"trials": jnp.sum(2.0 ** (batch.labels % 24) + batch.labels), **noise}

    for loop in ("scan", "step"):
        trainer = Trainer(MODEL, loss, optax.sgd(0.0), batch_size=8, loop=loop, init=elbo(MODEL).init)
        history = trainer.fit(marked, 16, KEY).history
        for name in ("trials", "sample", "dropout", "noise"):
            assert len(np.unique(history[name])) == 16, (loop, name)


@pytest.mark.slow
def test_plateau_schedule():
    """The learning rate falls by its factor when the loss has not improved for `patience` steps."""
    optimizer = optax.chain(optax.adam(0.0), optax.contrib.reduce_on_plateau(factor=0.95, patience=6))
    trainer = Trainer(MODEL, elbo(MODEL), optimizer, batch_size=64)
    state = trainer.fit(TRIALS, 40, KEY).state.optimizer_state[1]
    assert 0.95**6 <= state.scale <= 0.95


@pytest.mark.slow
def test_training_with_everything(tmp_path):
    """Schedules, augmentation, smoothed validation and its best checkpoint; a silent neuron is warned of and harmless."""
    spikes = SPIKES.copy()
    spikes[:, :, 0] = 0
    trials = SpikeTrials.from_spikes(spikes)
    loss = elbo(MODEL, kl_weight=optax.linear_schedule(0, 1, 20), augmentations=(CoordinatedDropout(0.3),))
    trainer = Trainer(MODEL, loss, optax.adam(1e-2), batch_size=16, validate_every=10, smoothing=0.7)
    with pytest.warns(UserWarning, match=r"neurons \[0\] of data.targets are silent"):
        result = trainer.fit(trials, 60, KEY, validation=trials.take(slice(0, 20)), checkpoint_dir=tmp_path)
    assert result.history["loss"][-10:].mean() < result.history["loss"][:10].mean()
    model, best = load_checkpoint(tmp_path, "best")
    assert model == MODEL
    rates = model.apply(best, trials.inputs, method="posterior_mean").rates
    assert np.isfinite(rates).all() and rates[..., 0].max() < 0.01


@pytest.mark.parametrize(
    ("trials", "message"),
    [
        (
            TRIALS._replace(targets=TRIALS.targets - 1.0),
            "counts, non-negative integers, under Poisson.*got -1.0 at index",
        ),
        (TRIALS._replace(targets=TRIALS.targets + 0.5), "use the observation models Normal, Gamma"),
        (TRIALS._replace(targets=np.where(SPIKES > 0, np.nan, SPIKES)), "got nan at index"),
        (TRIALS._replace(targets=TRIALS.targets[:, :5]), "time bins .forward ones included., 4 neurons., got shape"),
        (SpikeTrials.from_spikes(SPIKES[:, :1]), "one bin have no dynamics"),
    ],
)
def test_bad_data(trials, message):
    with pytest.raises(ValueError, match=message):
        Trainer(MODEL, elbo(MODEL), optax.adam(1e-3)).fit(trials, 1, KEY)


def test_bad_losses():
    with pytest.raises(TypeError, match="must be SpikeTrials"):
        Trainer(MODEL, elbo(MODEL), optax.adam(1e-3)).fit({"inputs": SPIKES}, 1, KEY)
    with pytest.raises(ValueError, match=r"l2 may name generator, controller and encoder, got \['cell'\]"):
        elbo(MODEL, l2={"cell": 1.0})
    with pytest.raises(ValueError, match="both held in and held out"):
        SpikeTrials.from_spikes(SPIKES, heldin=[0, 1], heldout=[1])


def test_models_and_parts_without_what_the_loss_needs_are_refused(variables):
    with pytest.raises(TypeError, match=r"elbo trains an LFADS, or a model with .*bound_terms.*, got VanillaRNN"):
        elbo(VanillaRNN(hidden_size=3, output_size=1))
    with pytest.raises(TypeError, match=r"LFADS puts out Posterior \(an LFADS is trained by"):
        mean_squared_error(MODEL)(variables, (TRIALS.inputs, TRIALS.targets), RNGS, 0, True)
    renamed = {**variables["params"], "generator": {"own": variables["params"]["generator"]["rnn"]["gates_bias"]}}
    with pytest.raises(ValueError, match=r"l2 names \['generator'\], but no recurrent matrices"):
        elbo(MODEL, l2={"generator": 1.0})._penalty(renamed)
