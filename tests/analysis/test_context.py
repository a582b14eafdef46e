"""Contextual effects of a system whose modifiers are known in closed form.

In coordinates z = (s, m), s' = s + v · x (1 + g · m) adds up valences and m' = A m + B x keeps modifiers: a modifier b
multiplies the valence of a word k steps later by 1 + g · Aᵏ b. States are h = T z, with a T that is not orthogonal.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ctd_models.analysis import (
    FixedPoints,
    contextual_effects,
    drive,
    leading_modes_of,
    linearize,
    mode_angles,
    mode_components,
    remove_modes,
    simulate,
    strongest_modes,
    without_modes,
)

ANGLE = 0.7
A = np.diag([0.6, 0.0, 0.0])
A[1:, 1:] = 0.8 * np.array([[np.cos(ANGLE), -np.sin(ANGLE)], [np.sin(ANGLE), np.cos(ANGLE)]])
B = np.array([[0, 0, 1.0, 0], [0, 0, 0, 1.0], [0, 0, 0, 0.5]])  # inputs: good, bad, very, not
V = np.array([1.0, -1.0, 0, 0])
G = np.array([0.9, -2.0, 0.3])
T = np.random.default_rng(0).normal(size=(4, 4)) + 2 * np.eye(4)
READOUT = np.linalg.inv(T)[0]
EYE = np.eye(4)
PROBES = {"good": EYE[0], "bad": EYE[1]}
MODIFIERS = {"very": EYE[2], "not": EYE[3]}


def step(h, x):
    s, m = (z := jnp.linalg.inv(T) @ h)[0], z[1:]
    return T @ jnp.concatenate([(s + (V @ x) * (1 + G @ m))[None], A @ m + B @ x])


@pytest.fixture(scope="module")
def points():
    states = np.outer(np.linspace(-2, 2, 5), T[:, 0])  # the line m = 0
    return linearize(step, FixedPoints(states=states, speeds=np.zeros(5), inputs=np.zeros((5, 4))))


@pytest.fixture(scope="module")
def effects(points):
    return contextual_effects(step, points, MODIFIERS, PROBES, READOUT, num_lags=4)


def test_effects_are_those_of_the_closed_form(effects):
    memories = np.array([[np.linalg.matrix_power(A, k) @ b for k in range(4)] for b in (B[:, 2], B[:, 3])])
    change = memories @ G  # [modifier, lag]
    np.testing.assert_allclose(effects.factors, 1 + change, atol=1e-12)
    expected = np.broadcast_to((change[:, :, None] * V[:2])[:, None], effects.changes.shape)
    np.testing.assert_allclose(effects.changes, expected, atol=1e-12)
    np.testing.assert_allclose(effects.barcodes, expected, atol=1e-12)  # the system is linear in the word
    np.testing.assert_allclose(effects.plain, np.broadcast_to(V[:2], effects.plain.shape), atol=1e-12)
    deflections = np.pad(memories, ((0, 0), (0, 0), (1, 0))) @ T.T
    np.testing.assert_allclose(effects.deflections, np.broadcast_to(deflections[:, None], (2, 5, 4, 4)), atol=1e-12)
    assert effects.modifiers == ("very", "not") and "very: multiplies the probes by 1.90" in repr(effects)


def test_jacobian_changes_are_relative_frobenius_norms(effects, points):
    base = np.linalg.norm(T @ np.vstack([V, B]))
    for i, memory in enumerate((B[:, 2], B[:, 3])):
        change = np.linalg.norm(np.outer(T[:, 0], V) * (G @ memory))
        np.testing.assert_allclose(effects.jacobian_changes[i, :, 0], change / base, rtol=1e-10)


def test_settling_reads_out_after_rest(points):
    """A readout of the memory itself forgets the probe at the rate of its mode."""
    memory = np.linalg.inv(T)[1]
    kwargs = {"readout": memory, "num_lags": 1}
    now, later = (
        contextual_effects(step, points, {"not": EYE[3]}, {"very": EYE[2]}, settle_steps=s, **kwargs) for s in (0, 3)
    )
    np.testing.assert_allclose(later.plain, 0.6**3 * now.plain, rtol=1e-10)


def test_states_may_be_pytrees_and_readouts_functions(effects, points):
    def split(h, x):
        h = step(jnp.concatenate([h["a"], h["b"]]), x)
        return {"a": h[:1], "b": h[1:]}

    def readout(state):
        return (READOUT[0] * state["a"] + READOUT[1:] @ state["b"])[None]

    states = {"a": points.states[:, :1], "b": points.states[:, 1:]}
    other = contextual_effects(split, states, MODIFIERS, PROBES, readout, num_lags=4)
    np.testing.assert_allclose(other.changes, effects.changes, atol=1e-12)
    with pytest.raises(ValueError, match="one number"):
        contextual_effects(split, states, MODIFIERS, PROBES, lambda state: state["b"])


def test_components_add_up_and_angles_are_those_with_left_eigenvectors(points):
    deflections = np.random.default_rng(1).normal(size=points.states.shape)
    parts, angles = mode_components(points, deflections), mode_angles(points, deflections)
    upper = points.eigenvalues.imag >= 0
    np.testing.assert_allclose((parts * upper[..., None]).sum(axis=1), deflections, atol=1e-10)
    for i in range(len(points)):
        for k in range(4):
            left = points.left_eigenvectors[i, :, k]
            basis = np.column_stack([left.real, left.imag]) if abs(left.imag).max() > 1e-9 else left.real[:, None]
            fitted = basis @ np.linalg.lstsq(basis, deflections[i], rcond=None)[0]
            cosine = np.linalg.norm(fitted) / np.linalg.norm(deflections[i])
            assert np.cos(np.radians(angles[i, k])) == pytest.approx(cosine, abs=1e-9)
            conjugates = np.abs(points.eigenvalues[i] - points.eigenvalues[i, k].conj()).argmin()
            assert angles[i, k] == pytest.approx(angles[i, conjugates], abs=1e-6)


@pytest.mark.parametrize("orthogonal", [True, False])
def test_without_modes_nothing_drives_them(points, orthogonal):
    deflections = np.random.default_rng(2).normal(size=points.states.shape)
    chosen = leading_modes_of(points, deflections, 2)
    rest = without_modes(points, deflections, chosen, orthogonal=orthogonal)
    driven = np.einsum("ndk,nd->nk", points.left_eigenvectors, rest)
    np.testing.assert_allclose(driven[chosen], 0, atol=1e-10)
    before = np.einsum("ndk,nd->nk", points.left_eigenvectors, deflections)
    assert np.allclose(driven[~chosen], before[~chosen]) != orthogonal
    pairs = points.eigenvalues.imag != 0
    assert (np.ptp(chosen[pairs].reshape(-1, 2).astype(int), axis=1) == 0).all()


def test_removing_the_mode_of_a_modifier_removes_its_effect_alone(points):
    carrier = {"very": np.isclose(points.eigenvalues, 0.6), "not": points.eigenvalues.imag != 0}
    for name, other in (("very", "not"), ("not", "very")):
        options = {"num_lags": 3}
        gone = remove_modes(step, points, MODIFIERS[name], PROBES, READOUT, modes=carrier[name], **options)
        np.testing.assert_allclose(gone.removed, gone.plain, atol=1e-10)
        assert gone.fraction == pytest.approx(1) and np.allclose(gone.fractions, 1)
        np.testing.assert_allclose(gone.remaining, 0, atol=1e-10)
        kept = remove_modes(step, points, MODIFIERS[name], PROBES, READOUT, modes=carrier[other], **options)
        np.testing.assert_allclose(kept.removed, kept.modified, atol=1e-10)
        assert kept.fraction == pytest.approx(0, abs=1e-9)


def test_an_effect_that_is_turned_over_does_not_count_as_removed(points):
    gone = remove_modes(step, points, MODIFIERS["very"], PROBES, READOUT, num_modes=1)
    flipped = dataclasses.replace(gone, removed=2 * gone.plain - gone.modified)
    assert flipped.fraction == pytest.approx(0)


def test_other_values_compile_nothing(points, compilations):
    arguments = (MODIFIERS["very"], PROBES, READOUT)
    contextual_effects(step, points.states, MODIFIERS, PROBES, READOUT, num_lags=4)
    remove_modes(step, points, *arguments)
    swapped = {"a": 2 * EYE[1], "b": -EYE[0]}
    with compilations:
        contextual_effects(step, 2 * points.states, {"x": EYE[3], "y": EYE[2]}, swapped, 3 * READOUT, num_lags=4)
        remove_modes(step, points, EYE[3], swapped, -READOUT)
    assert compilations.count == 0


def test_drive_follows_a_loop_and_equals_simulate_where_inputs_are_constant(points):
    inputs = np.random.default_rng(3).normal(size=(5, 6, 4))
    ways = drive(step, points.states, inputs)
    state = points.states[2]
    for t in range(6):
        np.testing.assert_allclose(ways[2, t], state, atol=1e-10)
        with jax.enable_x64(True):
            state = np.asarray(step(state, inputs[2, t]))
    constant = np.broadcast_to(EYE[3], (7, 4))
    np.testing.assert_allclose(
        drive(step, points.states, constant), simulate(step, points.states, EYE[3], num_steps=7), atol=1e-10
    )
    decay = drive(lambda h, x: x - h, np.ones((1, 2)), np.zeros((10, 2)), kind="flow", dt=0.1)
    np.testing.assert_allclose(decay[0, -1], np.exp(-1), rtol=1e-6)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda p: contextual_effects(step, p, {}, PROBES, READOUT), "modifiers"),
        (lambda p: contextual_effects(step, p, MODIFIERS, {"x": np.ones(3)}, READOUT), "4 input features, probes have"),
        (lambda p: contextual_effects(step, p, {"x": np.full(4, np.nan)}, PROBES, READOUT), "must be finite"),
        (lambda p: contextual_effects(step, p, MODIFIERS, PROBES, np.ones(3)), "readout of weights"),
        (lambda p: contextual_effects(step, p, MODIFIERS, PROBES, READOUT, num_lags=0), "num_lags must be positive"),
        (lambda p: contextual_effects(step, p, MODIFIERS, PROBES, READOUT, settle_steps=-1), "settle_steps"),
        (lambda p: mode_angles(p, np.zeros((5, 4))), "no length"),
        (lambda p: mode_angles(p, np.ones((4, 4))), "one for each point"),
        (lambda p: leading_modes_of(p, np.ones((5, 4)), 0), "num_modes must be a whole number in 1 … 3"),
        (lambda p: leading_modes_of(p, np.ones((5, 4)), 4), "pairs count as one"),
        (lambda p: leading_modes_of(p, np.ones((5, 4)), 1.5), "whole number"),
        (lambda p: without_modes(p, np.ones((5, 4)), p.eigenvalues.imag > 0), "conjugate pair"),
        (lambda p: without_modes(p, np.ones((5, 4)), np.ones(4, bool)), "expected modes of bool"),
        (lambda p: remove_modes(step, p, np.ones(3), PROBES, READOUT), "features"),
        (lambda p: drive(step, p.states, np.ones(4)), "at least one step"),
        (lambda p: drive(step, p.states, np.full((2, 4), np.inf)), "inputs"),
    ],
)
def test_bad_input_is_refused(points, act, message):
    with pytest.raises(ValueError, match=message):
        act(points)


def test_modifiers_are_named(points):
    with pytest.raises(TypeError, match="must map names to inputs"):
        contextual_effects(step, points, EYE, PROBES, READOUT)
    with pytest.raises(ValueError, match="linearize"):
        remove_modes(step, FixedPoints(states=points.states, speeds=points.speeds), EYE[3], PROBES, READOUT)


def test_a_trained_networks_step_function_and_readout_go_in():
    from ctd_models import GRU, step_function
    from ctd_models.models import readout_function

    model = GRU(6, 1)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 2, 4)))
    F, R = step_function(model, variables), readout_function(model, variables)
    states = np.random.default_rng(4).normal(size=(3, 6)).astype(np.float32)
    found = contextual_effects(F, states, MODIFIERS, PROBES, R)
    weights = variables["params"]["readout"]["kernel"][:, 0]
    np.testing.assert_allclose(
        found.changes, contextual_effects(F, states, MODIFIERS, PROBES, weights).changes, atol=1e-6
    )


def test_points_bring_their_input_and_flows_are_refused(points):
    shifted = dataclasses.replace(points, inputs=np.full((5, 4), 0.3))
    given = contextual_effects(step, points.states, MODIFIERS, PROBES, READOUT, rest=np.full(4, 0.3))
    np.testing.assert_allclose(contextual_effects(step, shifted, MODIFIERS, PROBES, READOUT).changes, given.changes)
    flow = dataclasses.replace(points, kind="flow")
    for act in (
        lambda: contextual_effects(step, flow, MODIFIERS, PROBES, READOUT),
        lambda: remove_modes(step, flow, EYE[3], PROBES, READOUT),
    ):
        with pytest.raises(ValueError, match="points of a flow"):
            act()


def test_what_has_no_effect_has_no_share(points):
    """Of a linear system, where nothing modifies anything, rounding is no effect."""
    matrix = np.array([[0.9, 0.3], [-0.3, 0.7]])
    linear = linearize(lambda h, x: matrix @ h + x, np.zeros((1, 2)), np.zeros(2))
    gone = remove_modes(lambda h, x: matrix @ h + x, linear, [1.0, 0.5], {"p": [0.0, 1.0]}, np.ones(2), num_lags=4)
    assert np.isnan(gone.fractions).all() and np.isnan(gone.fraction) and "no effect" in repr(gone)
    memory = contextual_effects(lambda h, x: h + 0 * x, np.ones((1, 2)), {"m": [1.0]}, {"p": [2.0]}, np.ones(2))
    assert np.isnan(memory.factors).all()
    with pytest.raises(ValueError, match="does nothing at point 0"):
        remove_modes(step, points, np.zeros(4), PROBES, READOUT)


def test_modes_that_coincide_are_refused():
    defective = linearize(lambda h: jnp.array([[0.5, 1.0], [0.0, 0.5]]) @ h, np.zeros((1, 2)))
    first = np.array([[True, False]])
    with pytest.raises(ValueError, match="nearly coincide"):
        without_modes(defective, np.ones((1, 2)), first)
    assert np.isfinite(without_modes(defective, np.ones((1, 2)), first, orthogonal=True)).all()


@pytest.mark.parametrize("name", ["very", "not"])
def test_the_strongest_mode_is_the_one_that_carries_the_effect(points, name):
    """Also where the deflection lies closer to others: T is not orthogonal."""
    carrier = np.isclose(points.eigenvalues, 0.6) if name == "very" else points.eigenvalues.imag != 0
    found = strongest_modes(step, points, MODIFIERS[name], {"good": EYE[0]}, READOUT, num_lags=3)
    np.testing.assert_array_equal(found, carrier)
    gone = remove_modes(step, points, MODIFIERS[name], {"bad": EYE[1]}, READOUT, modes=found, num_lags=3)
    assert gone.fraction == pytest.approx(1)
    both = strongest_modes(step, points, MODIFIERS[name], {"good": EYE[0]}, READOUT, num_modes=2, among=1)
    assert (both.sum(axis=1) > found.sum(axis=1)).all() and (both & found).sum() == found.sum()
    with pytest.raises(ValueError, match="1 … 3"):
        strongest_modes(step, points, MODIFIERS[name], PROBES, READOUT, num_modes=4)
