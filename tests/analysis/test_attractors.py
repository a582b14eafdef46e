"""Where states end up, in systems whose attractors are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.optimize

from ctd_models.analysis.orbits.attractors import find_attractors
from ctd_models.analysis.orbits.circles import closed_curves, strongest_frequencies
from ctd_models.analysis.orbits.orbit_set import Attractors
from ctd_models.analysis.orbits.recurrence import (
    remaining_distance,
    return_distances,
    sample_period,
    section_returns,
)
from ctd_models.analysis.orbits.simulation import simulate
from ctd_models.analysis.systems import precision, prepare

UNIT = np.linspace(0.05, 0.95, 16)[:, None]
RNG = np.random.default_rng(0)
PLANE = RNG.uniform(-0.6, 0.6, (16, 2))
ANGLE, GAIN = 2.0, 0.2


def logistic_step(r, h):
    return r * h * (1 - h)


def logistic(r):
    return jax.tree_util.Partial(logistic_step, np.float64(r))


def pitchfork(h):
    """Stable at ±√0.4 in each coordinate."""
    return 1.4 * h - h**3


def rotation(z):
    """z → (1 + μ − |z|²) e^{iθ} z: the circle |z|² = μ, turned by θ/2π each step, with the multiplier 1 − 2μ across."""
    c, s = jnp.cos(ANGLE), jnp.sin(ANGLE)
    return (1 + GAIN - z @ z) * jnp.stack([c * z[0] - s * z[1], s * z[0] + c * z[1]])


def delayed_logistic(z):
    return jnp.stack([z[1], 2.1 * z[1] * (1 - z[0])])


def hopf(z, mu=0.25, omega=2.0):
    """r' = μ r − r³, φ' = ω: radius √μ, period 2π/ω, exponents 0 and −2μ."""
    return jnp.stack([mu * z[0] - omega * z[1] - z[0] * (z @ z), mu * z[1] + omega * z[0] - z[1] * (z @ z)])


def lorenz(z):
    return jnp.stack([10 * (z[1] - z[0]), z[0] * (28 - z[2]) - z[1], z[0] * z[1] - 8 / 3 * z[2]])


@pytest.fixture(scope="module")
def corners():
    starts = np.concatenate([RNG.uniform(-1, 1, (28, 2)), [[0.0, 0.0], [0.0, 0.3], [0.1, 0.1], [9.0, 9.0]]])
    return find_attractors(pitchfork, starts), starts


def test_corners_of_the_pitchfork(corners):
    attractors, starts = corners
    stable = attractors[attractors.is_attracting]
    assert stable.kinds == ("fixed point",) * 4
    np.testing.assert_allclose(np.abs(np.concatenate(stable.orbits)), np.sqrt(0.4), atol=1e-12)
    np.testing.assert_allclose(stable.exponents, np.log(1.4 - 3 * 0.4), atol=1e-10)
    settled = stable.labels >= 0
    ends = np.concatenate(stable.orbits)[stable.labels[settled]]
    inside = np.abs(starts[settled]) < np.sqrt(2.4)  # one step keeps the sign
    np.testing.assert_array_equal(np.sign(ends)[inside], np.sign(starts[settled])[inside])
    assert stable.counts.sum() == settled.sum() == 29


def test_states_on_a_saddle_end_there_and_that_is_said(corners):
    attractors, _ = corners
    odd = attractors[~attractors.is_attracting]
    ends = {tuple(np.round(np.abs(orbit[0]), 6).tolist()) for orbit in odd.orbits}
    assert ends == {(0.0, 0.0), (0.0, round(np.sqrt(0.4), 6))}
    assert odd.exponents[:, 0] == pytest.approx(np.log(1.4), abs=1e-9)
    assert "  2 fixed points that repel nearby states, reached by 6.25 % of the states" in repr(attractors).splitlines()


def test_states_that_diverge(corners):
    attractors, _ = corners
    assert attractors.diverged.tolist() == [False] * 31 + [True]
    assert attractors.labels[-1] == -1
    assert np.isnan(attractors.drifts[-1])
    assert attractors.basin_fractions.sum() == pytest.approx(31 / 32)
    assert not attractors.unsettled.any()
    assert "  diverged: 1 of the states" in repr(attractors).splitlines()


@pytest.mark.parametrize(
    ("r", "kind", "period"), [(2.8, "fixed point", 1), (3.2, "cycle", 2), (3.5, "cycle", 4), (3.83, "cycle", 3)]
)
def test_logistic_map(r, kind, period):
    attractors = find_attractors(logistic(r), UNIT)
    assert attractors.kinds == (kind,)
    assert attractors.periods.tolist() == [period]
    assert attractors.counts.tolist() == [16]
    orbit = attractors.orbits[0]
    np.testing.assert_allclose(r * orbit * (1 - orbit), np.roll(orbit, -1, axis=0), atol=1e-14)
    np.testing.assert_allclose(attractors.exponents[0, 0], np.log(np.abs(r * (1 - 2 * orbit))).mean(), atol=1e-10)


def test_chaos_of_the_logistic_map():
    attractors = find_attractors(logistic(3.9), UNIT)
    assert attractors.kinds == ("chaotic",)
    assert attractors.exponents[0, 0] == pytest.approx(0.4945, abs=0.03)
    assert np.isnan(attractors.periods).all()
    assert repr(attractors).splitlines()[1] == "  1 chaotic attractor, reached by 100 % of the states"


def test_slow_convergence_is_not_arrival():
    """At r = 3 the fixed point 2/3 attracts like 1/√t only."""
    attractors = find_attractors(logistic(3.0), UNIT)
    assert len(attractors) == 0
    assert attractors.unsettled.all()
    assert attractors.drifts.max() < 1e-5
    assert "unsettled: 16 of the states, moving by" in repr(attractors)


def test_invariant_circle_of_the_rotation():
    attractors = find_attractors(rotation, PLANE)
    assert attractors.kinds == ("invariant circle",)
    assert attractors.counts.tolist() == [16]
    curve = attractors.orbits[0]
    np.testing.assert_allclose(np.linalg.norm(curve, axis=1), np.sqrt(GAIN), atol=1e-10)
    assert attractors.rotation_numbers[0] == pytest.approx(ANGLE / (2 * np.pi), abs=1e-9)
    np.testing.assert_allclose(attractors.exponents, [[0, np.log(1 - 2 * GAIN)]], atol=1e-8)
    np.testing.assert_allclose(attractors.means, 0, atol=1e-2)
    assert attractors.closure_residuals[0] < 1e-5
    angles = np.unwrap(np.arctan2(curve[:, 1], curve[:, 0]))  # once round, in one sense
    assert np.abs(angles[-1] - angles[0]) == pytest.approx(2 * np.pi, abs=0.05)
    assert len(np.unique(np.sign(np.diff(angles)))) == 1


def test_circle_that_is_no_circle():
    """The delayed logistic map just beyond its Neimark-Sacker bifurcation at a = 2, where it turns by 1/6."""
    attractors = find_attractors(delayed_logistic, 0.5 + 0.1 * PLANE)
    assert attractors.kinds == ("invariant circle",)
    assert 0.15 < attractors.rotation_numbers[0] < 1 / 6
    assert abs(attractors.exponents[0, 0]) < 1e-3
    assert attractors.exponents[0, 1] < -0.1


@pytest.mark.slow
def test_two_circles_in_turn():
    def F(s):
        return jnp.concatenate([rotation(s[:2]), -1.9 * s[2:] + 0.9 * s[2:] ** 3])

    attractors = find_attractors(F, np.concatenate([PLANE, 0.5 + np.abs(PLANE[:, :1])], axis=1))
    assert attractors.kinds == ("invariant circle",)
    assert attractors.periods.tolist() == [2]
    assert attractors.rotation_numbers[0] == pytest.approx(1 - 2 * ANGLE / (2 * np.pi), abs=1e-8)
    assert "1 invariant circle in 2 parts" in repr(attractors)


def test_memories_that_are_two_cycles():
    starts = np.random.default_rng(1).normal(size=(64, 3))
    attractors = find_attractors(lambda h: jnp.tanh(-2.0 * h), starts)
    assert repr(attractors).splitlines()[1:] == ["  4 cycles of period 2, reached by 100 % of the states"]
    np.testing.assert_allclose(np.abs(np.concatenate(attractors.orbits)), 0.9575040240772687, atol=1e-12)
    signs = np.array([np.sign(attractors.orbits[label][0]) for label in attractors.labels])
    np.testing.assert_array_equal(np.abs((signs * np.sign(starts)).sum(axis=1)), 3)  # the start's signs, or all turned


def test_memories_of_a_trained_flip_flop(data_folder):
    """Three bits in a network trained by other code, with its eight stable fixed points."""
    with np.load(data_folder / "reference_networks" / "ff_tanh16_s1.npz", allow_pickle=False) as npz:
        file = dict(npz)

    def F(h, u):
        return jnp.tanh(file["w_Wh"] @ h + file["w_Wx"] @ u + file["w_b"])

    attractors = find_attractors(F, file["x0"][:200], file["input_u"])
    memories = file["fixed_points"][file["n_unstable"] == 0]
    distance = np.linalg.norm(np.concatenate(attractors.orbits)[:, None] - memories[None], axis=2)
    assert attractors.kinds == ("fixed point",) * 8
    assert sorted(distance.argmin(axis=1).tolist()) == list(range(8))
    assert distance.min(axis=1).max() < 1e-8
    assert attractors.counts.sum() == 200


def test_limit_cycle_of_the_hopf_normal_form():
    attractors = find_attractors(hopf, PLANE, kind="flow", dt=0.02)
    assert attractors.kinds == ("limit cycle",)
    assert attractors.periods[0] == pytest.approx(np.pi, abs=2e-7)
    np.testing.assert_allclose(np.linalg.norm(attractors.orbits[0], axis=1), 0.5, atol=1e-7)
    np.testing.assert_allclose(attractors.exponents, [[0, -0.5]], atol=1e-6)
    assert attractors.counts.tolist() == [16]
    assert attractors.is_attracting.all()


def test_fixed_points_of_a_flow():
    attractors = find_attractors(lambda h: h - h**3, np.array([[0.5], [-0.1], [2.0], [0.0]]), kind="flow", dt=0.05)
    assert sorted(orbit.item() for orbit in attractors.orbits) == pytest.approx([-1, 0, 1], abs=1e-12)
    exponents = {round(orbit.item()): rate for orbit, rate in zip(attractors.orbits, attractors.exponents, strict=True)}
    assert [exponents[place][0] for place in (-1, 0, 1)] == pytest.approx([-2, 1, -2], abs=1e-4)


def test_chaos_of_lorenz():
    starts = np.random.default_rng(0).normal(size=(4, 3)) * 5
    attractors = find_attractors(lorenz, starts, kind="flow", dt=0.01, num_steps=8000)
    assert attractors.kinds == ("chaotic",)
    assert attractors.counts.tolist() == [4]
    np.testing.assert_allclose(attractors.exponents[0], [0.906, 0, -14.57], atol=0.1)


@pytest.mark.slow
def test_torus_of_two_oscillators():
    def F(z):
        return jnp.concatenate([hopf(z[:2]), np.sqrt(2) * hopf(z[2:])])

    starts = np.random.default_rng(0).uniform(-0.6, 0.6, (6, 4))
    attractors = find_attractors(F, starts, kind="flow", dt=0.02, num_steps=4000)
    assert attractors.kinds == ("quasi-periodic",)
    np.testing.assert_allclose(attractors.exponents[0], [0, 0, -0.5], atol=1e-3)


def test_inputs_keep_attractors_apart_and_pytrees_come_back():
    def step(state, x):
        return {"a": 0.5 * state["a"] + x, "b": 0.1 * state["b"]}

    states = {"a": np.ones((6, 1)), "b": np.ones((6, 2))}
    attractors = find_attractors(step, states, np.array([[1.0], [1.0], [1.0], [2.0], [2.0], [9.0]]))
    assert attractors.counts.tolist() == [3, 2, 1]
    assert attractors.inputs[:, 0].tolist() == [1.0, 2.0, 9.0]
    state = attractors.unravel(np.concatenate(attractors.orbits))
    np.testing.assert_allclose(state["a"], 2 * attractors.inputs, atol=1e-12)


def test_saved_is_loaded_and_choosing_relabels(corners, tmp_path):
    attractors, _ = corners
    attractors.save(tmp_path / "attractors.h5")
    loaded = Attractors.load(tmp_path / "attractors.h5")
    assert repr(loaded) == repr(attractors)
    for name in ("periods", "exponents", "labels", "diverged", "drifts", "final_states", "rotation_numbers"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(attractors, name))
    assert loaded.kinds == attractors.kinds
    last = attractors[-1]
    assert (last.labels == 0).sum() == last.counts[0] == attractors.counts[-1]
    assert set(last.labels.tolist()) == {-1, 0}


def test_other_values_of_the_same_shapes_compile_nothing(compilations):
    find_attractors(logistic(3.2), UNIT)
    with compilations:
        attractors = find_attractors(logistic(3.3), UNIT + 0.001)
    assert compilations.count == 0
    assert attractors.periods.tolist() == [2]


def test_returns_of_a_linear_flow_are_half_turns_of_its_exponential():
    A = np.array([[-0.1, -2.0], [2.0, -0.1]])
    with precision(np.float64):
        system, flat, rows = prepare(lambda h: A @ h, np.array([[1.0, 0.0]]), None, kind="flow", dtype=np.float64)
        points, times, count = section_returns(system, flat, rows, np.float64(0.01), np.int32(1000), 8)
        _, product = sample_period(system, flat, rows, np.array([np.pi]), 50, 8)
    assert int(count[0]) == 3
    assert np.asarray(times[0, :3]) == pytest.approx(_return_times(A, flat[0], 3), abs=3e-8)
    np.testing.assert_allclose(points[0, 0], scipy.linalg.expm(A * float(times[0, 0])) @ flat[0], atol=2e-8)
    np.testing.assert_allclose(product[0], scipy.linalg.expm(A * np.pi), atol=1e-8)


def _return_times(A, start, count):
    """Zeros of n·(e^{At} h − h) with rising sign: by bisection between samples of the exact solution."""
    normal = A @ start

    def height(t):
        return normal @ (scipy.linalg.expm(A * t) @ start - start)

    grid = np.linspace(0.01, 10, 400)
    values = np.array([height(t) for t in grid])
    rising = np.flatnonzero((values[:-1] < 0) & (values[1:] >= 0))[:count]
    return [scipy.optimize.brentq(height, grid[i], grid[i + 1]) for i in rising]


def test_the_rest_of_the_way_is_a_geometric_series():
    decay, distance = 0.9, 1e-3
    positions = distance * decay ** np.arange(60)
    window = positions[None, :, None]
    early, late = (return_distances(window[:, t : t + 3], 1)[:, 0] for t in (0, 40))
    left = remaining_distance(early, late, 40, np.zeros(1))
    assert left[0] == pytest.approx(positions[40], rel=1e-9)
    assert remaining_distance(np.ones(1), np.ones(1), 40, np.zeros(1))[0] == np.inf
    assert remaining_distance(np.zeros(1), np.full(1, 1e-15), 40, np.zeros(1))[0] == 1e-15


def test_closed_curves_and_what_is_none():
    time = np.arange(1500)
    phase = 2 * np.pi * time * (np.sqrt(5) - 1) / 2
    egg = np.stack([np.cos(phase) + 0.3 * np.cos(2 * phase), np.sin(phase), 0.5 * np.sin(3 * phase)], axis=1)
    harmonic = np.stack([np.cos(2 * phase) + 0.3 * np.cos(phase), np.sin(2 * phase) + 0.2 * np.sin(phase)], axis=1)
    henon = simulate(lambda z: jnp.stack([1 - 1.4 * z[0] ** 2 + z[1], 0.3 * z[0]]), np.zeros((1, 2)), num_steps=1499)
    golden = 1 - (np.sqrt(5) - 1) / 2
    assert strongest_frequencies(np.cos(phase)[None])[0] == pytest.approx(golden, abs=1e-10)
    for orbit in (egg, harmonic):
        found = closed_curves(orbit[None])
        assert found.residuals[0] < 0.02
        assert found.rotation_numbers[0] == pytest.approx(golden, abs=1e-8)
    assert closed_curves(henon).residuals[0] > 1
    assert closed_curves(np.tile(np.eye(7)[:, :2], (200, 1))[None]).residuals[0] == np.inf
    with pytest.raises(ValueError, match=r"expected orbits \[n, time, d\] of at least 64 steps, got shape \(1, 9, 2\)"):
        closed_curves(egg[None, :9, :2])
    egg[3, 1] = np.nan
    with pytest.raises(ValueError, match=r"orbits hold nan at index \(0, 3, 1\)"):
        closed_curves(egg[None])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_steps": 10}, "num_steps must be a whole number of at least 64, got 10"),
        ({"max_period": 0}, "max_period must be a whole number of at least 1"),
        ({"tolerance": 0.0}, "tolerance must be positive"),
        ({"escape": -1.0}, "escape must be positive"),
        ({"kind": "flow"}, "a flow needs dt > 0"),
        ({"kind": "ode"}, "kind must be one of"),
        ({"states": np.zeros(3)}, r"expected states \[n, d\], got shape \(3,\)"),
    ],
)
def test_bad_arguments(arguments, message, compilations):
    arguments = {"states": np.zeros((4, 2))} | arguments
    with compilations, pytest.raises(ValueError, match=message):
        find_attractors(pitchfork, **arguments)
    assert compilations.count == 0
