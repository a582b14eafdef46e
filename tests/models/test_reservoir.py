"""The echo state network against its equations, and its weights against what they should be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ctd_models import ContinuousESN, step_function

KEYS = {"params": jax.random.key(0), "noise": jax.random.key(1)}


def drawn(model, steps=1):
    return jax.jit(model.init)(KEYS, jnp.zeros((1, steps, model.input_size)))


MODEL = ContinuousESN(30, 2, input_size=3, tau=0.5, dt=0.1, leak=0.8)
VARIABLES = drawn(MODEL)
INPUTS = np.random.default_rng(0).normal(size=(2, 7, 3))


def by_hand(inputs, feedback=None):
    """The equations in float64, one run."""
    fixed = {name: np.asarray(values, float) for name, values in VARIABLES["reservoir"].items()}
    readout = np.asarray(VARIABLES["params"]["readout"], float)
    a = fixed["initial_state"]
    z, states, outputs = np.tanh(a) @ readout, [], []
    for t, x in enumerate(inputs):
        drive = np.tanh(a) @ fixed["recurrent_kernel"] + x @ fixed["input_kernel"] + z @ fixed["feedback_kernel"]
        a = a + 0.2 * (-0.8 * a + drive)
        z = np.tanh(a) @ readout
        states.append(a)
        outputs.append(z)
        z = z if feedback is None else feedback[t]
    return np.array(states), np.array(outputs)


def test_closed_and_open_loop_follow_the_equations():
    run = jax.jit(MODEL.apply)(VARIABLES, INPUTS)
    feedback = np.random.default_rng(1).normal(size=(2, 7, 2))
    forced = jax.jit(lambda v, x, f: MODEL.apply(v, x, feedback=f))(VARIABLES, INPUTS, feedback)
    for i in range(2):
        for found, given in ((run, None), (forced, feedback[i])):
            states, outputs = by_hand(INPUTS[i], given)
            np.testing.assert_allclose(found.states[i], states, atol=1e-5)
            np.testing.assert_allclose(found.outputs[i], outputs, atol=1e-5)


def test_the_step_function_is_the_closed_loop():
    F = step_function(MODEL, VARIABLES)
    states, _ = by_hand(INPUTS[0])
    state = VARIABLES["reservoir"]["initial_state"]
    for t in range(3):
        state = F(state, INPUTS[0, t])
        np.testing.assert_allclose(state, states[t], atol=1e-5)


def test_only_the_readout_is_a_parameter():
    assert set(VARIABLES["params"]) == {"readout"}
    names = {"recurrent_kernel", "feedback_kernel", "input_kernel", "initial_state"}
    assert set(VARIABLES["reservoir"]) == names
    assert "input_kernel" not in drawn(ContinuousESN(5, 1))["reservoir"]


def test_weights_have_the_variances_that_their_fields_say():
    model = ContinuousESN(
        400, 50, input_size=20, gain=1.2, feedback_scale=0.5, input_scale=2.0, readout_scale=3.0, initial_state_std=0.1
    )
    variables = drawn(model)
    fixed = variables["reservoir"]
    expected = {"recurrent_kernel": 1.2 / 20, "feedback_kernel": 0.5, "input_kernel": 2 / 20**0.5, "initial_state": 0.1}
    for name, std in expected.items():
        assert np.std(fixed[name]) == pytest.approx(std, rel=0.1), name
    assert np.std(variables["params"]["readout"]) == pytest.approx(3 / 20, rel=0.05)
    radius = np.abs(np.linalg.eigvals(np.asarray(fixed["recurrent_kernel"], float))).max()
    assert radius == pytest.approx(1.2, rel=0.1)


def test_sparse_reservoirs_and_spectral_radius():
    weights = np.asarray(drawn(ContinuousESN(200, 1, sparsity=0.9))["reservoir"]["recurrent_kernel"])
    np.testing.assert_array_equal((weights != 0).sum(axis=0), 20)  # every unit has as many inputs
    assert np.abs(np.linalg.eigvals(weights)).max() == pytest.approx(1.5, rel=0.2)
    scaled = drawn(ContinuousESN(200, 1, sparsity=0.9, spectral_radius=0.95))["reservoir"]["recurrent_kernel"]
    assert np.abs(np.linalg.eigvals(np.asarray(scaled, float))).max() == pytest.approx(0.95, rel=1e-4)


def test_noise_differs_by_step_and_has_its_size():
    """Without weights the noise alone gives the stationary variance σ² / (1 − α/2)."""
    model = ContinuousESN(500, 1, gain=0.0, feedback_scale=0.0, noise=0.3, initial_state_std=0.0)
    run = jax.jit(lambda v, k: model.apply(v, jnp.zeros((1, 200, 0)), rngs={"noise": k}))(drawn(model), KEYS["noise"])
    late = np.asarray(run.states[0, 60:])
    assert late.std() == pytest.approx(0.3 / (1 - 0.05) ** 0.5, rel=0.05)
    moved = np.diff(late, axis=0)
    assert np.abs(np.corrcoef(moved[:-1].ravel(), moved[1:].ravel())[0, 1]) < 0.1
    quiet = model.clone(deterministic=True).apply(drawn(model), jnp.zeros((1, 3, 0)))
    np.testing.assert_array_equal(quiet.states, 0)


def test_a_subclass_changes_one_thing():
    class Ring(ContinuousESN):
        def recurrent_weights(self, key):
            return jnp.roll(jnp.eye(self.hidden_size), 1, axis=1)

    kernel = drawn(Ring(4, 1))["reservoir"]["recurrent_kernel"]
    np.testing.assert_array_equal(kernel, np.roll(np.eye(4), 1, axis=1))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ContinuousESN(0, 1), "hidden_size must be at least 1, got 0"),
        (lambda: ContinuousESN(3, 1, tau=0.0), "tau must be positive"),
        (lambda: ContinuousESN(3, 1, sparsity=1.0), r"must lie in \[0, 1\), got 1.0"),
        (lambda: ContinuousESN(3, 1, spectral_radius=-1.0), "spectral_radius must be positive or None"),
        (lambda: ContinuousESN(3, 1, noise=-0.1), "noise is a standard deviation"),
        (lambda: ContinuousESN(3, 1, activation="no"), "activation must name a function"),
        (lambda: MODEL.apply(VARIABLES, INPUTS[..., :2]), r"expected inputs \[batch, time, 3\], got shape \(2, 7, 2\)"),
        (
            lambda: MODEL.apply(VARIABLES, INPUTS, feedback=np.zeros((2, 6, 2))),
            r"expected feedback \(2, 7, 2\) \[batch, time, outputs\], got shape \(2, 6, 2\)",
        ),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_steps_longer_than_the_time_constant_are_warned_of():
    with pytest.warns(UserWarning, match=r"dt = 2.0 s exceeds tau = 1.0 s"):
        ContinuousESN(3, 1, dt=2.0)
