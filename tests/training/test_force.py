"""FORCE learning against plain float64 loops, ridge regression, and the targets that it should follow."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ctd_models import ContinuousESN, load_checkpoint, step_function
from ctd_models.analysis import find_fixed_points
from ctd_models.tasks import ChaoticOutputs, FlipFlop, SumOfSines
from ctd_models.training import CheckpointError, Force, ridge_readout

KEY = jax.random.key(0)
ESN = ContinuousESN(hidden_size=40, output_size=3)
STEPS = 47
TARGETS = np.sin(np.linspace(0, 9, STEPS))[:, None] * [1.0, 0.5, 0.2]
DRIVEN = ContinuousESN(hidden_size=40, output_size=3, input_size=2)
INPUTS = np.random.default_rng(0).normal(size=(STEPS, 2))

STATE = Force(ESN).init(KEY)


def published(variables, targets, passes, inputs=None, alpha=1.0, forgetting=1.0, every=1):
    """The published equations in a plain float64 loop, with true feedback: (W_out, P, outputs of the last pass)."""
    fixed = {name: np.asarray(values, float) for name, values in variables["reservoir"].items()}
    readout = np.asarray(variables["params"]["readout"], float)
    P, step = alpha * np.eye(len(readout)), 0
    for _ in range(passes):
        a = fixed["initial_state"].copy()
        z, outputs = np.tanh(a) @ readout, []
        for t, target in enumerate(targets):
            drive = np.tanh(a) @ fixed["recurrent_kernel"] + z @ fixed["feedback_kernel"]
            drive = drive if inputs is None else drive + inputs[t] @ fixed["input_kernel"]
            a = a + 0.1 * (-a + drive)
            h = np.tanh(a)
            z = h @ readout
            outputs.append(z)
            if step % every == 0:
                k = P @ h
                c = 1 / (forgetting + h @ k)
                P = (P - c * np.outer(k, k)) / forgetting
                readout = readout - c * np.outer(k, z - target)
            step += 1
    return readout, P, np.array(outputs)


def wide(tree):
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)


@pytest.mark.parametrize(
    "settings", [{}, {"every": 3}, {"forgetting": 0.98}, {"block_size": 1, "alpha": 0.3}, {"block_size": 7}], ids=str
)
def test_learning_is_that_of_the_published_equations(settings):
    """In float64, to rounding."""
    force = Force(ESN, **settings)
    own = {name: settings[name] for name in ("alpha", "forgetting", "every") if name in settings}
    readout, P, outputs = published(STATE.variables, TARGETS, 3, **own)
    with jax.enable_x64(True):
        state = wide(force.init(KEY, wide(STATE.variables)))
        for _ in range(3):
            state, learned = force.fit(state, targets=TARGETS)
        np.testing.assert_allclose(state.variables["params"]["readout"], readout, rtol=0, atol=1e-12)
        np.testing.assert_allclose(state.inverse.dense(), P, rtol=0, atol=1e-12)
        np.testing.assert_allclose(learned.outputs, outputs, rtol=0, atol=1e-12)
        assert int(state.step) == 3 * STEPS


def test_float32_goes_as_far_as_it_can():
    force = Force(ESN)
    state = force.init(KEY)
    readout, _, outputs = published(state.variables, TARGETS, 3)
    for _ in range(3):
        state, learned = force.fit(state, targets=TARGETS)
    np.testing.assert_allclose(state.variables["params"]["readout"], readout, atol=2e-5 * np.abs(readout).max())
    np.testing.assert_allclose(learned.outputs, outputs, atol=2e-5)


def test_inputs_drive_the_network():
    force = Force(DRIVEN)
    state = force.init(KEY)
    readout, _, outputs = published(state.variables, TARGETS, 1, INPUTS)
    state, learned = force.fit(state, INPUTS, TARGETS)
    np.testing.assert_allclose(learned.outputs, outputs, atol=1e-5)
    np.testing.assert_allclose(state.variables["params"]["readout"], readout, atol=1e-5)


def test_one_pass_in_pieces_is_one_pass():
    """fit = partial_fit from the initial state, cut anywhere, one step at a time included."""
    force = Force(DRIVEN, every=2)
    whole, learned = force.fit(force.init(KEY), INPUTS, TARGETS)
    state, found = force.init(KEY), []
    for piece in (slice(0, 1), slice(1, 2), slice(2, 20), slice(20, STEPS)):
        state, part = force.partial_fit(state, INPUTS[piece], TARGETS[piece])
        found.append(part.outputs)
    np.testing.assert_allclose(np.concatenate(found), learned.outputs, atol=1e-5)
    for piece, expected in zip(jax.tree.leaves(state), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(piece, expected, atol=1e-4)


def test_recursive_least_squares_ends_at_ridge_regression():
    """Without feedback the rates do not depend on the readout, and one pass solves ‖F − H W‖² + ‖W − W_0‖²/α."""
    model = ContinuousESN(hidden_size=30, output_size=2, input_size=2, feedback_scale=0.0, readout_scale=0.0)
    force = Force(model, alpha=0.5)
    state, _ = force.fit(force.init(KEY), INPUTS, TARGETS[:, :2])
    expected = ridge_readout(model, state.variables, INPUTS, TARGETS[:, :2], penalty=1 / 0.5)
    np.testing.assert_allclose(state.variables["params"]["readout"], expected["params"]["readout"], atol=1e-5)
    states = force.run(state, INPUTS).states
    H = np.tanh(np.asarray(states, float))
    direct = np.linalg.solve(H.T @ H + 2 * np.eye(30), H.T @ TARGETS[:, :2])
    np.testing.assert_allclose(expected["params"]["readout"], direct, atol=1e-6)


def test_nlms_reaches_a_step_s_target_at_rate_1():
    """After an update with μ = 1 the rates of that step are read out as the target."""
    force = Force(ESN, rule="nlms", learning_rate=1.0)
    state, _ = force.partial_fit(force.init(KEY), targets=TARGETS[:1])
    read = np.tanh(np.asarray(state.activation)) @ state.variables["params"]["readout"]
    np.testing.assert_allclose(read, TARGETS[0], atol=1e-6)
    assert state.inverse is None


def test_full_force_learns_what_the_second_network_shows():
    """Against a float64 loop: the driven network, the error of what units receive, and recurrent weights by the same P."""
    force = Force(ESN, recurrent=True, block_size=8)
    drawn = jax.tree.map(np.asarray, ESN.init({"params": KEY}, jnp.zeros((1, 1, 0))))
    fixed = {name: np.asarray(values, float) for name, values in drawn["reservoir"].items()}
    readout, J = np.asarray(drawn["params"]["readout"], float), np.zeros((40, 40))
    P, a, shown, f = (
        np.eye(40),
        fixed["initial_state"],
        fixed["initial_state"],
        np.tanh(fixed["initial_state"]) @ readout,
    )
    for target in TARGETS:
        a = a + 0.1 * (-a + np.tanh(a) @ J)
        received = np.tanh(shown) @ fixed["recurrent_kernel"] + f @ fixed["feedback_kernel"]
        shown, f, h = shown + 0.1 * (-shown + received), target, np.tanh(a)
        wanted = np.tanh(shown) @ fixed["recurrent_kernel"] + f @ fixed["feedback_kernel"]
        k = P @ h
        c = 1 / (1 + h @ k)
        P -= c * np.outer(k, k)
        readout, J = readout - c * np.outer(k, h @ readout - target), J - c * np.outer(k, h @ J - wanted)
    state, _ = force.fit(force.init(KEY, drawn), targets=TARGETS)
    np.testing.assert_allclose(state.variables["reservoir"]["recurrent_kernel"], J, atol=1e-4)
    np.testing.assert_allclose(state.variables["params"]["readout"], readout, atol=1e-4)
    assert not np.any(state.variables["reservoir"]["feedback_kernel"])


def test_a_periodic_target_is_followed_on_after_training_has_ended():
    task = SumOfSines(num_steps=600, period=20.0)
    targets = task.signal(KEY).targets
    for settings in ({}, {"recurrent": True}):
        force = Force(ContinuousESN(hidden_size=150, output_size=1), **settings)
        state = force.init(KEY)
        for _ in range(8):
            state, learned = force.fit(state, targets=targets)
        run = force.run(state, num_steps=1000)
        error = np.abs(np.asarray(run.outputs) - np.tile(targets[:200], (5, 1)))
        assert error.mean() < 0.05, settings
        assert learned.weight_change[-100:].mean() < 0.01
        end = force.run(state, num_steps=100, initial_state=run.states[899]).outputs
        np.testing.assert_allclose(end, run.outputs[900:], atol=1e-4)


def test_networks_are_trained_at_once():
    force, keys = Force(ESN), jax.random.split(KEY, 2)
    states, _ = jax.vmap(lambda state: force.fit(state, targets=TARGETS))(jax.vmap(force.init)(keys))
    outputs = jax.vmap(lambda state: force.run(state, num_steps=5))(states).outputs
    for i, key in enumerate(keys):
        alone, _ = force.fit(force.init(key), targets=TARGETS)
        np.testing.assert_allclose(force.run(alone, num_steps=5).outputs, outputs[i], atol=1e-4)


def test_noise_is_there_in_learning_and_not_in_runs():
    noisy = Force(ContinuousESN(hidden_size=40, output_size=3, noise=0.1))
    state, learned = noisy.fit(noisy.init(KEY), targets=TARGETS)
    quiet = Force(ESN)
    _, silent = quiet.fit(quiet.init(KEY, state.variables), targets=TARGETS)
    assert np.abs(learned.outputs[0] - silent.outputs[0]).max() > 0
    np.testing.assert_array_equal(noisy.run(state, num_steps=9).outputs, noisy.run(state, num_steps=9).outputs)


def test_learning_goes_on_from_a_checkpoint(tmp_path):
    force = Force(DRIVEN)
    state, _ = force.fit(force.init(jax.random.key(5)), INPUTS, TARGETS)
    force.save(tmp_path, state)
    restored = force.restore(tmp_path)
    jax.tree.map(np.testing.assert_array_equal, restored, state)
    model, variables = load_checkpoint(tmp_path)
    assert model == DRIVEN
    F = step_function(model, variables, inputs=jnp.zeros(2))
    assert len(find_fixed_points(F, np.asarray(state.activation)[None], max_iterations=5)) <= 1
    on, _ = force.partial_fit(state, INPUTS, TARGETS)
    again, _ = force.partial_fit(restored, INPUTS, TARGETS)
    jax.tree.map(np.testing.assert_array_equal, again, on)
    with pytest.raises(CheckpointError, match=r"alpha 0\.5"):
        Force(DRIVEN, alpha=0.5).restore(tmp_path)
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        force.restore(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()
    with pytest.raises(CheckpointError, match="holds a checkpoint of step 47 already"):
        force.save(tmp_path, on.replace(step=jnp.int32(47)))
    with pytest.raises(CheckpointError, match=r"alpha 0\.5"):
        Force(DRIVEN, alpha=0.5).save(tmp_path, on)
    force.save(tmp_path, on)
    assert int(force.restore(tmp_path).step) == 94


def test_compiling_does_not_depend_on_the_number_of_steps(compilations):
    force, state = Force(ESN), None
    for passes in range(3):
        state = force.init(KEY) if state is None else state
        state, _ = force.fit(state, targets=TARGETS + passes)
        if passes == 0:
            before = compilations.count
    assert compilations.count == before
    lengths = [len(jax.jit(force.fit).lower(state, None, jnp.zeros((steps, 3))).as_text()) for steps in (320, 32_000)]
    assert abs(lengths[1] - lengths[0]) < 0.01 * lengths[0]


@pytest.mark.slow
def test_published_targets_are_followed_over_seeds():
    """Free run of 300 steps after 15 passes, 500 units, 20 outputs of a chaotic network."""
    force, task = Force(ContinuousESN(hidden_size=500, output_size=20)), ChaoticOutputs()
    good = 0
    for seed in range(10):
        network_key, task_key = jax.random.split(jax.random.key(seed))
        targets, state = task.signal(task_key).targets, force.init(network_key)
        for _ in range(15):
            state, _ = force.fit(state, targets=targets)
        error = np.abs(force.run(state, num_steps=300).outputs - targets)
        good += error.mean() <= 0.01 and error.max() <= 0.1
    assert good >= 9


@pytest.mark.slow
def test_float32_stays_with_float64_over_many_steps():
    """1e5 updates of P on the rates of a driven network: readout within 1e-3, P symmetric and positive definite."""
    model = ContinuousESN(hidden_size=100, output_size=2, input_size=2, feedback_scale=0.0)
    force, rng = Force(model), np.random.default_rng(0)
    inputs, targets = rng.normal(size=(10_000, 2)), rng.normal(size=(10_000, 2))
    state = force.init(KEY)
    with jax.enable_x64(True):
        exact = wide(force.init(KEY, wide(state.variables)))
    for _ in range(10):
        state, _ = force.partial_fit(state, inputs, targets)
        P = np.asarray(state.inverse.dense(), float)
        assert np.linalg.eigvalsh(P).min() > 0
        np.testing.assert_array_equal(P, P.T)
        with jax.enable_x64(True):
            exact, _ = force.partial_fit(exact, inputs, targets)
    found, expected = state.variables["params"]["readout"], np.asarray(exact.variables["params"]["readout"])
    assert np.linalg.norm(found - expected) < 1e-3 * np.linalg.norm(expected)


def test_flip_flops_by_force_follow_their_pulses():
    task = FlipFlop(num_bits=1, num_steps=1500, pulse_rate=0.02, pulse_steps=10, starts_with_pulse=True)
    signal = task.signal(KEY)
    force = Force(ContinuousESN(hidden_size=150, output_size=1, input_size=1, input_scale=3.0))
    state = force.init(KEY)
    for _ in range(3):
        state, _ = force.fit(state, *signal)
    fresh = task.signal(jax.random.key(9))
    outputs = np.asarray(force.run(state, fresh.inputs).outputs)
    settled = np.abs(fresh.inputs[:, 0]) == 0
    assert (np.sign(outputs[settled]) == fresh.targets[settled]).mean() > 0.9


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Force(ESN, every=0), ValueError, "every must be an integer of at least 1, got 0"),
        (lambda: Force(ESN, alpha=0.0), ValueError, "alpha must be positive"),
        (lambda: Force(ESN, forgetting=1.1), ValueError, r"forgetting must lie in \(0, 1\]"),
        (lambda: Force(ESN, rule="lms"), ValueError, 'rule must be "rls" or "nlms"'),
        (lambda: Force(ESN, rule="nlms", recurrent=True), ValueError, "recurrent weights are learned by"),
        (
            lambda: Force(ESN).fit(STATE, targets=TARGETS[:, :2]),
            ValueError,
            r"targets \[time, 3\], got shape \(47, 2\)",
        ),
        (lambda: Force(ESN).fit(STATE), ValueError, "targets are missing"),
        (
            lambda: Force(ESN).fit(STATE, INPUTS, TARGETS),
            ValueError,
            r"expected inputs \[time, 0\], got shape \(47, 2\)",
        ),
        (lambda: Force(DRIVEN).fit(STATE, None, TARGETS), ValueError, "the network has 2 inputs"),
        (lambda: Force(DRIVEN).fit(STATE, INPUTS[:9], TARGETS), ValueError, "inputs have 9 steps, expected 47"),
        (
            lambda: Force(ESN).fit(STATE, targets=np.where(TARGETS[5] == TARGETS, np.nan, TARGETS)),
            ValueError,
            r"expected finite targets, got nan at index \(5, 0\)",
        ),
        (lambda: Force(ESN).run(STATE), ValueError, "num_steps, the length of the run, must be at least 1"),
        (lambda: Force(ESN).fit((STATE, None), targets=TARGETS), TypeError, r"got tuple: fit returns \(state,"),
        (
            lambda: Force(ESN, rule="nlms").fit(STATE, targets=TARGETS),
            ValueError,
            "of another network or other settings",
        ),
        (
            lambda: Force(ESN, recurrent=True).fit(STATE, targets=TARGETS),
            ValueError,
            "of another network or other settings",
        ),
        (
            lambda: Force(ESN).fit(STATE, targets=1e39 * TARGETS),
            ValueError,
            r"expected finite targets, got .* at index",
        ),
        (lambda: Force(ESN).fit(STATE, TARGETS), ValueError, "targets are missing"),
        (lambda: Force(ESN).init(0), TypeError, "key must be a typed key"),
        (lambda: Force(ESN).init(KEY, {"params": {}}), TypeError, "variables must be Flax's whole dictionary"),
        (
            lambda: Force(ESN, recurrent=True).init(KEY, Force(ESN, recurrent=True).init(KEY).variables),
            ValueError,
            "full-FORCE has trained them already",
        ),
        (
            lambda: ridge_readout(ESN, STATE.variables, None, TARGETS[:5], penalty=0.0),
            ValueError,
            "rates do not determine the readout",
        ),
        (
            lambda: Force(ContinuousESN(10_000_000, 1)).init(KEY),
            MemoryError,
            r"10000000 units needs 8e\+05 GB \(W_rec 4e\+05 GB, P 4e\+05 GB\)",
        ),
        (
            lambda: ridge_readout(ESN, {}, None, TARGETS, washout=47),
            ValueError,
            r"longer than the washout of 47, got shape \(47, 3\)",
        ),
    ],
)
def test_bad_input(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_forgetting_does_not_blow_up():
    """Where rates do not vary P would grow without bounds; the error stays small over thousands of steps."""
    targets = np.sin(np.arange(4000) / 5)[:, None]
    force = Force(ContinuousESN(30, 1), forgetting=0.98)
    state, learned = force.fit(force.init(KEY), targets=targets)
    assert np.abs(learned.outputs[-500:] - targets[-500:]).mean() < 0.1
    assert np.isfinite(state.inverse.dense()).all()


def test_learning_that_fails_says_where():
    force = Force(
        ContinuousESN(10, 1, activation="relu", gain=3.0, feedback_scale=10.0), rule="nlms", learning_rate=1.9
    )
    with pytest.raises(FloatingPointError, match=r"became infinite or NaN at step \d+ of this pass"):
        force.fit(force.init(KEY), targets=1e30 * np.ones((3000, 1)))


def test_networks_with_a_spectral_radius_are_drawn_at_once():
    force = Force(ContinuousESN(20, 1, spectral_radius=0.9))
    kernels = jax.vmap(force.init)(jax.random.split(KEY, 2)).variables["reservoir"]["recurrent_kernel"]
    radii = np.abs(np.linalg.eigvals(np.asarray(kernels, float))).max(axis=1)
    np.testing.assert_allclose(radii, 0.9, rtol=1e-4)


def test_a_state_that_was_used_up():
    force, state = Force(ESN), Force(ESN).init(KEY)
    force.fit(state, targets=TARGETS)
    with pytest.raises(ValueError, match="used up by an earlier fit"):
        force.fit(state, targets=TARGETS)
