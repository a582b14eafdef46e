"""The search against systems whose fixed points are known."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ctd_models.analysis import Adam, FirstOrder, FixedPoints, LevenbergMarquardt, find_fixed_points, linearize

RNG = np.random.default_rng(0)
W = RNG.normal(size=(20, 20)) * 1.2 / np.sqrt(20)


def pitchfork(h):
    """Fixed points 0 and ±√0.5 in each coordinate: nine in the plane."""
    return h + 0.5 * h - h**3


def lorenz(z):
    x, y, w = z
    return jnp.array([10 * (y - x), x * (28 - w) - y, x * y - 8 / 3 * w])


def sorted_rows(a):
    return a[np.lexsort(np.round(a, 9).T[::-1])]


@pytest.fixture(scope="module")
def plane():
    return np.random.default_rng(1).uniform(-1.2, 1.2, size=(300, 2))


def test_linear_map_has_the_fixed_point_of_linear_algebra():
    A, b = 0.3 * RNG.normal(size=(6, 6)), RNG.normal(size=6)
    points = find_fixed_points(lambda h: jnp.asarray(A) @ h + b, RNG.normal(size=(50, 6)))
    assert len(points) == 1
    np.testing.assert_allclose(points.states[0], np.linalg.solve(np.eye(6) - A, b), atol=1e-12)
    assert points.hits[0] == 50
    assert points.speeds[0] < 1e-24


def test_every_fixed_point_of_the_pitchfork_is_found_and_every_candidate_accounted_for(plane):
    points = find_fixed_points(pitchfork, plane)
    levels = [-np.sqrt(0.5), 0, np.sqrt(0.5)]
    expected = np.array([(a, b) for a in levels for b in levels])
    np.testing.assert_allclose(sorted_rows(points.states), expected, atol=1e-10)
    everyone = np.concatenate([points.candidate_indices, *points.dropped.values()])
    assert sorted(everyone) == list(range(300))
    assert points.hits.sum() == 300 - sum(len(points.dropped[r]) for r in points.dropped if r != "duplicate")
    assert points.states.dtype == np.float64
    assert not jax.config.jax_enable_x64


def test_flow_of_lorenz():
    points = find_fixed_points(lorenz, RNG.normal(size=(200, 3)) * 10, kind="flow")
    c = np.sqrt(8 / 3 * 27)
    np.testing.assert_allclose(
        sorted_rows(points.states), sorted_rows(np.array([[-c, -c, 27], [0, 0, 0], [c, c, 27]])), atol=1e-9
    )


@pytest.mark.parametrize(
    ("method", "tolerance"),
    [
        ("levenberg-marquardt", 1e-20),
        (LevenbergMarquardt(initial_damping=1.0), 1e-20),
        ("adam", 1e-12),
        (Adam(learning_rate=0.05), 1e-12),
        (FirstOrder(optax.adam(0.01)), 1e-12),
        (optax.sgd(0.1), 1e-12),
    ],
    ids=["lm", "damped lm", "adam", "tuned adam", "optax adam", "optax sgd"],
)
def test_every_solver_finds_the_stable_points(plane, method, tolerance):
    points = find_fixed_points(pitchfork, plane, method=method, tolerance=tolerance)
    for corner in [(a, b) for a in (-1, 1) for b in (-1, 1)]:
        assert np.linalg.norm(points.states - np.sqrt(0.5) * np.array(corner), axis=1).min() < 1e-5
    assert points.speeds.max() <= tolerance


@pytest.mark.parametrize("method", ["levenberg-marquardt", "adam"])
def test_speeds_belong_to_the_returned_states(plane, method):
    points = find_fixed_points(pitchfork, plane, method=method, tolerance=1e-8)
    step = points.states + 0.5 * points.states - points.states**3
    np.testing.assert_allclose(points.speeds, 0.5 * ((step - points.states) ** 2).sum(axis=1), rtol=1e-7, atol=1e-30)


def test_slow_points_of_a_line_attractor_stay_near_their_candidates():
    """A flat line of fixed points: candidates go straight to it, and not along it."""

    def line(h):
        return h.at[1:].multiply(0.5)

    starts = RNG.normal(size=(200, 5))
    points = find_fixed_points(line, starts, tolerance=1e-10, unique_distance=1e-9)
    assert len(points) == 200
    np.testing.assert_allclose(points.states[:, 0], starts[points.candidate_indices, 0], atol=1e-6)
    assert np.abs(points.states[:, 1:]).max() < 1e-4


def test_inputs_for_all_and_for_each():
    def driven(h, x):
        return 0.5 * h + x

    starts, x = RNG.normal(size=(30, 3)), np.array([1.0, 2.0, 3.0])
    points = find_fixed_points(driven, starts, x)
    np.testing.assert_allclose(points.states, [2 * x], atol=1e-12)
    np.testing.assert_array_equal(points.inputs, [x])
    each = np.repeat([x, -x], 15, axis=0)
    points = find_fixed_points(driven, starts, each)
    np.testing.assert_allclose(points.states, 2 * points.inputs, atol=1e-12)
    assert len(points) == 2


def test_pytree_states_are_flattened_and_come_back():
    def step(state):
        c, h = state
        return 0.5 * c + h.sum(), 0.2 * h + 1

    starts = (RNG.normal(size=(20, 1)), RNG.normal(size=(20, 2)))
    points = find_fixed_points(step, starts)
    c, h = points.unravel(points.states)
    np.testing.assert_allclose(h, [[1.25, 1.25]], atol=1e-12)
    np.testing.assert_allclose(c, [[5.0]], atol=1e-12)
    assert linearize(step, points).eigenvalues.real.tolist() == [pytest.approx([0.5, 0.2, 0.2])]


def test_lstm_of_flax():
    import flax.linen as nn

    from ctd_models import RecurrentNetwork, step_function

    network = RecurrentNetwork(nn.OptimizedLSTMCell(6), 1)
    inputs = jax.random.normal(jax.random.key(0), (8, 10, 2))
    variables = network.init(jax.random.key(1), inputs)
    states = jax.tree.map(lambda s: np.asarray(s).reshape(-1, 6), network.apply(variables, inputs).states)
    F = step_function(network, variables)
    points = linearize(F, find_fixed_points(F, states, jnp.zeros(2)))
    assert len(points) >= 1
    assert points.speeds.max() < 1e-20
    with jax.enable_x64(True):
        again = F(jax.tree.map(lambda s: jnp.asarray(s[0]), points.unravel(points.states)), jnp.zeros(2))
    np.testing.assert_allclose(np.concatenate([np.asarray(a) for a in again]), points.states[0], atol=1e-10)


def test_results_do_not_depend_on_order_batches_or_coordinates(plane, monkeypatch):
    import ctd_models.analysis.fixed_points.pool as pool

    starts = np.random.default_rng(5).normal(size=(150, 20))
    whole = find_fixed_points(lambda h: jnp.tanh(W @ h), starts)
    permuted = find_fixed_points(lambda h: jnp.tanh(W @ h), starts[::-1])
    np.testing.assert_allclose(sorted_rows(whole.states), sorted_rows(permuted.states), atol=1e-9)
    rotation = np.linalg.qr(RNG.normal(size=(20, 20)))[0]
    rotated = find_fixed_points(lambda h: rotation @ jnp.tanh(W @ (rotation.T @ h)), starts @ rotation.T)
    np.testing.assert_allclose(sorted_rows(rotated.states @ rotation), sorted_rows(whole.states), atol=1e-8)
    monkeypatch.setattr(pool, "POOL_ENTRIES", 20 * 20 * 16)
    chunked = find_fixed_points(lambda h: jnp.tanh(W @ h), starts)
    np.testing.assert_allclose(sorted_rows(chunked.states), sorted_rows(whole.states), atol=1e-9)


def test_other_values_of_the_same_shapes_compile_nothing(plane, compilations):
    F = jax.tree_util.Partial(lambda scale, h: h + 0.5 * h - scale * h**3, np.float64(1.0))
    find_fixed_points(F, plane)
    other = jax.tree_util.Partial(F.func, np.float64(2.0))
    with compilations:
        points = find_fixed_points(other, plane + 0.01)
    assert compilations.count == 0
    assert np.abs(points.states).max() == pytest.approx(0.5, abs=1e-9)


def test_dropped_candidates_are_reported():
    def shifted(h):  # no fixed point: q has its minimum, 0.5 · 0.1², at 0
        return h + 0.1 + h**2

    points = find_fixed_points(shifted, RNG.normal(size=(40, 1)))
    assert len(points) == 0
    assert len(points.dropped["ghost"]) == 40
    assert "0 of a map in 1 dimensions from 40 candidates" in repr(points)
    assert len(linearize(shifted, points).is_stable) == 0
    far = find_fixed_points(lambda h: h + jnp.sin(h), np.linspace(1.5, 1.6, 20)[:, None], outlier_factor=10.0)
    assert far.hits.sum() + sum(len(lost) for reason, lost in far.dropped.items() if reason != "duplicate") == 20


@pytest.mark.parametrize("method", ["levenberg-marquardt", "adam"])
def test_the_search_stays_within_bounds(method):
    """f vanishes at 0.3; outside (-1, 1) its residual decays and lures the search away to where nothing stands still."""

    def decaying(h):
        return h + (0.3 - h) / (1 + h**4)

    starts = np.linspace(-1, 1, 40)[:, None]
    free = find_fixed_points(decaying, starts, method=method, tolerance=1e-12, outlier_factor=None)
    bounded = find_fixed_points(decaying, starts, method=method, tolerance=1e-12, bounds=(-1, 1))
    assert bounded.hits.sum() >= free.hits[np.abs(free.states[:, 0] - 0.3) < 1e-3].sum()
    assert bounded.hits.sum() > 20
    np.testing.assert_allclose(bounded.states, 0.3, atol=1e-5)


def test_float32_is_an_option(plane):
    points = find_fixed_points(pitchfork, plane, dtype=np.float32)
    assert points.states.dtype == np.float32
    assert len(points) == 9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"candidates": np.zeros(3)}, r"expected candidates \[n, d\], got shape \(3,\)"),
        ({"candidates": np.zeros((0, 2))}, "there are no candidates"),
        ({"candidates": np.array([[0.0, np.nan]])}, r"candidates hold nan at index \(0, 1\)"),
        ({"inputs": np.zeros((3, 1))}, r"expected inputs \[U\] or, one per state, \[4, U\], got shape \(3, 1\)"),
        ({"kind": "ode"}, "kind must be one of"),
        ({"method": "newton"}, "method must be one of"),
        ({"tolerance": 0.0}, "tolerance must be positive"),
        ({"unique_distance": 0.0}, "unique_distance must be positive"),
        ({"max_iterations": 0}, "max_iterations must be at least 1"),
        ({"bounds": (1, -1)}, "bounds must be"),
        ({"dtype": np.float16}, "dtype must be float64 or float32"),
    ],
)
def test_bad_arguments(arguments, message, compilations):
    arguments = {"candidates": np.zeros((4, 2))} | arguments
    with compilations, pytest.raises(ValueError, match=message):
        find_fixed_points(pitchfork, **arguments)
    assert compilations.count == 0


def test_functions_that_are_no_step_functions():
    starts = np.zeros((4, 2))
    with pytest.raises(TypeError, match=r"takes a state of shape \(2,\) and returns \(1,\)"):
        find_fixed_points(lambda h: h[:1], starts)
    with pytest.raises(TypeError, match="takes a state of float64 and returns float32"):
        find_fixed_points(lambda h: h.astype(jnp.float32), starts)
    with pytest.raises(TypeError, match="it must return the next state"):
        find_fixed_points(lambda h: (h, h), starts)


def step_of_reference(file):
    if "tanh(Wh" in str(file["equations"]):
        return lambda h, u: jnp.tanh(file["w_Wh"] @ h + file["w_Wx"] @ u + file["w_b"])

    def gru(h, u):
        ir, iz, i_n = jnp.split(file["w_Wx"] @ u + file["w_bi"], 3)
        hr, hz, hn = jnp.split(file["w_Wh"] @ h + file["w_bh"], 3)
        z = jax.nn.sigmoid(iz + hz)
        return (1 - z) * jnp.tanh(i_n + jax.nn.sigmoid(ir + hr) * hn) + z * h

    return gru


@pytest.mark.parametrize("name", ["peer_gt2", "peer_gt3", "peer_gt4", "ff_tanh16_s1", "ff_gru16_s0", "vrnn_int100"])
def test_reference_networks(data_folder, name):
    """Networks trained by other code, with the fixed points and eigenvalues of an exhaustive search."""
    with np.load(data_folder / "reference_networks" / f"{name}.npz", allow_pickle=False) as npz:
        file = dict(npz)
    F = step_of_reference(file)
    points = linearize(F, find_fixed_points(F, file["x0"], file["input_u"]))
    distance = np.abs(points.states[None] - file["fixed_points"][:, None]).max(axis=-1)
    assert distance.min(axis=1).max() < 1e-6
    assert distance.min(axis=0).max() < 1e-6
    nearest = distance.argmin(axis=1)
    for i in range(len(nearest)):
        difference = np.abs(points.eigenvalues[nearest[i]][:, None] - file["eigvals"][i][None])
        assert difference.min(axis=1).max() < 1e-6
        assert points.num_unstable[nearest[i]] == file["n_unstable"][i]
    assert isinstance(points, FixedPoints)
    assert np.median(points.speeds) < 1e-24


def test_a_function_is_never_used_with_arrays_that_have_changed(compilations):
    """A notebook: the weights that a function captures are set anew between two calls."""
    weights = 0.5 * np.eye(3)

    def step(h):
        return jnp.tanh(weights @ h)

    class Network:
        scale = 0.5

        def __call__(self, h):
            return jnp.tanh(self.scale * h)

    network, starts = Network(), RNG.normal(size=(50, 3))

    @jax.jit
    def compiled(h):
        return jnp.tanh(weights @ h)

    for F in (step, network, compiled):
        assert linearize(F, find_fixed_points(F, starts)).eigenvalues.real.max() == pytest.approx(0.5)
    weights, network.scale = 1.5 * np.eye(3), 1.5
    again = jax.jit(lambda h: jnp.tanh(weights @ h))  # the cell of the notebook that defines it runs again
    for F in (step, network, again):
        points = linearize(F, find_fixed_points(F, starts))
        assert len(points) > 1
        assert points.eigenvalues.real.max() == pytest.approx(1.5)
    weights = 1.6 * np.eye(3)
    with compilations:  # other values of the same computation
        find_fixed_points(step, starts)
    assert compilations.count == 0


def test_states_of_the_wrong_width_are_named():
    with pytest.raises(ValueError, match=r"with a state of shape \(15,\) alone \(TypeError: "):
        find_fixed_points(lambda h: jnp.tanh(W @ h), np.zeros((3, 15)))
    with pytest.raises(ValueError, match=r"with a state of shape \(20,\) and an input of shape \(7,\) \(TypeError: "):
        find_fixed_points(lambda h, x: jnp.tanh(W @ (h + x)), np.zeros((3, 20)), np.zeros(7))


def test_a_pytree_of_one_array_is_a_step_function():
    F = jax.tree_util.Partial(lambda W, h: jnp.tanh(W @ h), 0.5 * np.eye(3))
    points = find_fixed_points(F, np.ones((4, 3)) * [[1], [2], [-1], [0.5]])
    np.testing.assert_allclose(points.states, np.zeros((1, 3)), atol=1e-10)


def test_constants_that_are_no_numbers_are_no_noise():
    points = find_fixed_points(lambda h: jnp.where(h > 10, jnp.nan, 0.5 * h), np.ones((4, 3)))
    np.testing.assert_allclose(points.states, np.zeros((1, 3)), atol=1e-10)


def test_forgotten_inputs_are_named():
    with pytest.raises(ValueError, match="if it takes an input, pass inputs="):
        find_fixed_points(lambda h, x: 0.5 * h + x, np.zeros((3, 2)))
