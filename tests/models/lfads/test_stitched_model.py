"""Several recording sessions around one generator."""

import jax
import numpy as np
import optax
import pytest

from ctd_models import LFADS, Trainer, load_checkpoint
from ctd_models.analysis import principal_component_weights, regression_weights
from ctd_models.data import CoordinatedDropout, SpikeTrials, stitch_trials
from ctd_models.models.lfads import (
    AutoregressivePrior,
    Controller,
    Encoder,
    Gaussian,
    Generator,
    SessionReadIn,
    SessionReadOut,
    add_sessions,
    infer,
    with_session_weights,
)
from ctd_models.training import elbo

KEY = jax.random.key(0)
RNGS = {"params": KEY, **{name: jax.random.key(i) for i, name in enumerate(("sample", "dropout", "noise"))}}
SIZES, NEURONS = (10, 6), (4, 3)
SPIKES = [
    np.random.default_rng(i).poisson(1.0 + i, (n, 5, m)) for i, (n, m) in enumerate(zip(SIZES, NEURONS, strict=True))
]
TRIALS = stitch_trials({name: SpikeTrials.from_spikes(s) for name, s in zip("ab", SPIKES, strict=True)})


def stitched(frozen=False, sessions=("a", "b")):
    return LFADS(
        4,
        Encoder(4),
        Generator(5, 3, Gaussian()),
        Controller(4, 1, AutoregressivePrior()),
        read_in=SessionReadIn(sessions, 4, 2, frozen=frozen),
        readout=SessionReadOut(sessions, 4),
    )


MODEL = stitched()
LOSS = elbo(MODEL)


@pytest.fixture(scope="module")
def variables():
    return jax.jit(LOSS.init)(RNGS, TRIALS)


@pytest.fixture(scope="module")
def posterior(variables):
    return jax.jit(lambda v: MODEL.apply(v, *TRIALS.read, method="posterior_mean"))(variables)


def test_every_trial_takes_the_weights_of_its_session(variables, posterior):
    """Against a model without sessions that reads what the session's own map makes of the spikes."""
    params = {name: value for name, value in variables["params"].items() if name not in ("read_in", "readout")}
    for s, spikes in enumerate(SPIKES):
        maps = jax.tree.map(
            lambda leaf, s=s: np.asarray(leaf[s]), {k: variables["params"][k] for k in ("read_in", "readout")}
        )
        read = (
            np.pad(spikes, [(0, 0), (0, 0), (0, 4 - spikes.shape[2])]) @ maps["read_in"]["kernel"]
            + maps["read_in"]["bias"]
        )
        plain = LFADS(4, MODEL.encoder, MODEL.generator, MODEL.controller, num_input_neurons=2)
        single = {"params": {**params, "read_out": maps["readout"]}}
        expected = jax.jit(lambda v, x, plain=plain: plain.apply(v, x, method="posterior_mean"))(single, read)
        mine = np.flatnonzero(TRIALS.sessions == s)
        np.testing.assert_allclose(posterior.rates[mine], expected.rates, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(posterior.factors[mine], expected.factors, rtol=1e-4, atol=1e-5)


def test_rates_begin_at_the_means_of_each_session(variables):
    bias = variables["params"]["readout"]["bias"]
    np.testing.assert_allclose(np.exp(bias[0]), SPIKES[0].mean((0, 1)), rtol=1e-3)
    np.testing.assert_allclose(np.exp(bias[1, :3]), SPIKES[1].mean((0, 1)), rtol=1e-3)


@pytest.mark.slow
def test_padded_neurons_count_for_nothing(variables):
    gradient = jax.jit(jax.grad(lambda v, t: LOSS(v, t, RNGS, 0, True)[0]))
    found = gradient(variables, TRIALS)["params"]
    assert np.abs(found["read_in"]["kernel"][1, :3]).min() > 0
    np.testing.assert_array_equal(found["read_in"]["kernel"][1, 3], 0)
    np.testing.assert_array_equal(found["readout"]["kernel"][1, :, 3], 0)
    other = TRIALS._replace(targets=np.where(TRIALS.mask > 0, TRIALS.targets, 7))
    jax.tree.map(np.testing.assert_array_equal, gradient(variables, other)["params"], found)
    frozen = jax.jit(jax.grad(lambda v: elbo(stitched(frozen=True))(v, TRIALS, RNGS, 0, True)[0]))(variables)["params"]
    assert not any(leaf.any() for leaf in jax.tree.leaves(frozen["read_in"])) and frozen["readout"]["kernel"].any()


@pytest.mark.slow
def test_it_trains_is_loaded_and_refuses_sessions_that_it_does_not_know(variables, tmp_path):
    loss = elbo(MODEL, augmentations=(CoordinatedDropout(0.2),))
    trainer = Trainer(MODEL, loss, optax.adam(1e-2), batch_size=6)
    result = trainer.fit(TRIALS, 20, KEY, checkpoint_dir=tmp_path, validation=TRIALS, trainable=["read_in", "readout"])
    assert result.history["loss"][-5:].mean() < result.history["loss"][:5].mean()
    model, variables = load_checkpoint(tmp_path)
    assert model == MODEL
    assert infer(model, variables, TRIALS).rates.shape == (16, 5, 4)
    with pytest.raises(ValueError, match="sessions must lie in 0 … 1, got 2 at trial 10"):
        infer(model, variables, TRIALS._replace(sessions=TRIALS.sessions + 1))
    with pytest.raises(ValueError, match=r"expected sessions \(16,\).*got none"):
        infer(model, variables, TRIALS._replace(sessions=None))
    assert model.read_in.indices(["b", "a"]).tolist() == [1, 0]
    alone = model.stitch({"b": SpikeTrials.from_spikes(SPIKES[1])})  # padded and numbered as the model knows it
    jax.tree.map(np.testing.assert_array_equal, alone, TRIALS.take(TRIALS.sessions == 1))
    with pytest.raises(ValueError, match=r"sessions \['c'\] are not among those of the model"):
        model.stitch({"c": SpikeTrials.from_spikes(SPIKES[1])})
    with pytest.raises(
        ValueError, match="session 'a' has 7 neurons that are read and 0 that are not, expected at most 4"
    ):
        model.stitch({"a": SpikeTrials.from_spikes(np.ones((2, 5, 7), int))})
    with pytest.raises(TypeError, match="this model has no sessions"):
        LFADS(4, Encoder(4), Generator(5, 3, Gaussian())).stitch({"a": SpikeTrials.from_spikes(SPIKES[0])})
    with pytest.raises(ValueError, match=r"sessions \['c'\] are not among those of the model, \['a', 'b'\]"):
        model.read_in.indices(["a", "c"])


def test_weights_of_principal_components_are_taken_over(variables):
    conditions = [np.arange(n) % 3 for n in SIZES]
    weights = principal_component_weights(SPIKES, conditions, 2)
    begun = with_session_weights(variables, weights)
    read = jax.jit(
        lambda v: MODEL.apply(v, TRIALS.inputs.astype(float), TRIALS.sessions, method=lambda m, x, s: m.read_in(x, s))
    )(begun)
    for s, (spikes, own) in enumerate(zip(SPIKES, weights, strict=True)):
        expected = (spikes - own.mean) @ own.read_in
        np.testing.assert_allclose(read[TRIALS.sessions == s], expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(
            begun["params"]["readout"]["kernel"][s, :2, : spikes.shape[2]], own.read_out / own.mean, rtol=1e-5
        )
    np.testing.assert_array_equal(
        begun["params"]["readout"]["kernel"][:, 2], variables["params"]["readout"]["kernel"][:, 2]
    )
    with pytest.raises(ValueError, match="the model has 2 sessions, got weights of 1"):
        with_session_weights(variables, weights[:1])


@pytest.mark.slow
def test_a_session_is_added_and_nothing_else_changes(posterior, variables):
    """More neurons than any before, two of them only to be predicted; old sessions are inferred as before."""
    later = np.random.default_rng(5).poisson(2.0, (8, 5, 7))
    new = {"c": SpikeTrials.from_spikes(later, heldout=[0, 3])}
    weights = regression_weights(new["c"].inputs, np.arange(8) % 2, posterior.factors[..., :2], np.arange(16) % 2)
    larger, begun = add_sessions(MODEL, variables, new, KEY, {"c": weights})
    assert (larger.num_neurons, larger.inputs_size, larger.read_in.sessions) == (7, 5, ("a", "b", "c"))
    np.testing.assert_allclose(begun["params"]["read_in"]["kernel"][2], weights.read_in, rtol=1e-6)
    _, blind = add_sessions(MODEL, variables, new, KEY)  # without weights rates begin at their means
    mean = new["c"].targets.mean((0, 1))
    np.testing.assert_allclose(np.exp(blind["params"]["readout"]["bias"][2]), mean, rtol=1e-3)
    old = larger.stitch({name: SpikeTrials.from_spikes(s) for name, s in zip("ab", SPIKES, strict=True)})
    posterior_mean = jax.jit(lambda v, t: larger.apply(v, *t.read, method="posterior_mean"))
    again = posterior_mean(begun, old)
    np.testing.assert_allclose(again.factors, posterior.factors, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(again.rates[..., :4], posterior.rates, rtol=1e-5, atol=1e-6)

    flat = np.asarray(posterior_mean(begun, larger.stitch(new)).factors).reshape(-1, 3)  # with them, at a regression
    spread = (flat - flat.mean(0)).T @ (flat - flat.mean(0))
    penalty = np.sqrt(0.1 * np.trace(spread) / 3) * np.eye(3)
    relative = new["c"].targets.reshape(-1, 7) / mean
    expected = np.linalg.lstsq(
        np.r_[flat - flat.mean(0), penalty], np.r_[relative - relative.mean(0), np.zeros((3, 7))]
    )[0]
    np.testing.assert_allclose(begun["params"]["readout"]["kernel"][2], expected, atol=2e-3)

    trained = Trainer(larger, elbo(larger), optax.adam(1e-2), batch_size=8).fit(
        larger.stitch(new), 20, KEY, variables=begun, trainable=["read_in", "readout"]
    )
    assert trained.history["loss"][-5:].mean() < trained.history["loss"][:5].mean()
    after = posterior_mean(trained.variables, old)
    np.testing.assert_array_equal(after.rates, again.rates)  # frozen, to the last bit
    assert (
        np.abs(trained.variables["params"]["readout"]["kernel"][2] - begun["params"]["readout"]["kernel"][2]).min() > 0
    )


def test_old_neurons_that_are_predicted_keep_their_place():
    """Read-outs of a model with held-out neurons, when a session with more neurons that are read comes."""
    both = {name: SpikeTrials.from_spikes(s, heldout=[0]) for name, s in zip("ab", SPIKES, strict=True)}
    trials = stitch_trials(both)
    model = MODEL.clone(num_input_neurons=3, read_in=SessionReadIn(("a", "b"), 3, 2))
    shapes = jax.eval_shape(model.init, RNGS, *trials.read)
    numbers = iter(range(1000))
    variables = jax.tree.map(lambda leaf: np.full(leaf.shape, next(numbers), np.float32), shapes)
    variables["params"]["readout"]["bias"] = np.arange(8.0).reshape(2, 4)
    wide = {"c": SpikeTrials.from_spikes(np.ones((2, 5, 7), int), heldout=[0, 1])}
    larger, begun = add_sessions(model, variables, wide, KEY)
    assert (larger.num_neurons, larger.inputs_size) == (7, 5)
    np.testing.assert_array_equal(begun["params"]["readout"]["bias"][0], [0, 1, 2, 0, 0, 3, 0])


def test_sessions_that_cannot_be_added(variables):
    trials = SpikeTrials.from_spikes(SPIKES[0])
    with pytest.raises(ValueError, match=r"sessions \['b'\] are in the model already"):
        add_sessions(MODEL, variables, {"b": trials}, KEY)
    with pytest.raises(ValueError, match="there is no session"):
        add_sessions(MODEL, variables, {}, KEY)
    wrong = principal_component_weights(SPIKES, None, 3)[0]
    with pytest.raises(
        ValueError, match=r"session 'c' has 4 neurons and the model 2 shared dimensions, got .*\(4, 3\)"
    ):
        add_sessions(MODEL, variables, {"c": trials}, KEY, {"c": wrong})
    with pytest.raises(ValueError, match=r"weights are given for \['d'\], sessions are \['c'\]"):
        add_sessions(MODEL, variables, {"c": trials}, KEY, {"d": wrong})
    with pytest.raises(TypeError, match="expected weights as a mapping"):
        add_sessions(MODEL, variables, {"c": trials}, KEY, [wrong])
    with pytest.raises(TypeError, match="SessionReadIn and a SessionReadOut"):
        add_sessions(LFADS(4, Encoder(4), Generator(5, 3, Gaussian())), variables, {"c": trials}, KEY)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SessionReadIn((), 4, 2), "at least one session"),
        (lambda: SessionReadIn(("a", "b", "a"), 4, 2), r"sessions name \['a'\] twice"),
        (lambda: stitch_trials({}), "there is no session"),
        (
            lambda: stitch_trials({"a": TRIALS._replace(sessions=None).take(slice(0, 0))}),
            "session 'a' has no trials",
        ),
        (lambda: stitch_trials({"a": TRIALS}), "session 'a' holds trials that are stitched already"),
        (
            lambda: stitch_trials(
                {"a": SpikeTrials.from_spikes(SPIKES[0]), "b": SpikeTrials.from_spikes(SPIKES[1][:, :4])}
            ),
            "session 'b' has 4 bins that are read, session 'a' has 5",
        ),
        (
            lambda: stitch_trials(
                {"a": SpikeTrials.from_spikes(SPIKES[0], labels=[0] * 10), "b": SpikeTrials.from_spikes(SPIKES[1])}
            ),
            "labels must be given for all sessions or for none, see 'a' and 'b'",
        ),
        (lambda: MODEL.clone(readout=SessionReadOut(("a",), 4)), r"read_in has the sessions"),
        (lambda: MODEL.clone(readout=None), "needs a SessionReadIn as read_in and a SessionReadOut as readout"),
        (lambda: MODEL.clone(read_in=None), "needs a SessionReadIn as read_in and a SessionReadOut as readout"),
        (
            lambda: MODEL.clone(read_in=SessionReadIn(("a", "b"), 5, 2)),
            r"read_in\.num_neurons is 5, but the model has 4",
        ),
        (lambda: SessionReadIn(("a",), 4, 0), "size must be at least 1, got 0"),
        (
            lambda: elbo(LFADS(4, Encoder(4), Generator(5, 3, Gaussian()))).check(TRIALS, "trials"),
            "these trials are of several sessions, the model has none",
        ),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_heldout_neurons_come_after_padding_of_those_that_are_read():
    parts = {
        "a": SpikeTrials.from_spikes(SPIKES[0], heldout=[0]),
        "b": SpikeTrials.from_spikes(SPIKES[1], heldout=[0, 1]),
    }
    trials = stitch_trials(parts)
    assert trials.inputs.shape == (16, 5, 3) and trials.targets.shape == (16, 5, 5)
    np.testing.assert_array_equal(
        trials.targets[10:], np.pad(SPIKES[1][..., [2, 0, 1]], [(0, 0)] * 2 + [(0, 2)])[..., [0, 3, 4, 1, 2]]
    )
    np.testing.assert_array_equal(trials.mask[:, 0], [[1, 1, 1, 1, 0]] * 10 + [[1, 0, 0, 1, 1]] * 6)
