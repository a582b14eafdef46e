"""What the search says of candidates that did not lead to a fixed point, and of points that no candidate led to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ctd_models.analysis import FixedPoints, classify_points, find_fixed_points, linearize
from ctd_models.analysis.fixed_points.completeness import Completeness
from ctd_models.analysis.fixed_points.exploration import midpoints

RNG = np.random.default_rng(0)


def everyone(points):
    """Every candidate that the result accounts for, sorted."""
    indices = np.concatenate([points.candidate_indices[points.hits > 0], *points.dropped.values()])
    return sorted(indices.tolist())


def test_a_ghost_is_a_minimum_of_q_and_not_a_fixed_point():
    def shifted(h):  # q = ½ (0.1 + h²)² has its only minimum, 0.005, at 0
        return h + 0.1 + h**2

    points = find_fixed_points(shifted, RNG.uniform(-1, 1, size=(40, 1)))
    assert len(points) == 0
    assert points.dropped["ghost"].tolist() == list(range(40))
    assert len(points.ghosts) == 1
    assert points.ghosts.hits.tolist() == [40]
    np.testing.assert_allclose(points.ghosts.states, 0, atol=1e-2)
    np.testing.assert_allclose(points.ghosts.speeds, 0.005, rtol=1e-3)
    assert points.smallest_speed == pytest.approx(0.005, rel=1e-3)
    assert "no candidate converged: the smallest speed q reached is 5.0e-03" in repr(points)
    assert "1 minima of q that are not fixed points" in repr(points)


def test_a_saddle_of_q_is_no_ghost():
    from ctd_models.analysis.fixed_points.assessment import is_ghost
    from ctd_models.analysis.systems import precision, prepare

    def F(h):  # r = (0.1 + x², 1 + y − y³/3 …): at y = −1 q falls to one side
        x, y = h
        return h + jnp.array([0.1 + x**2, 0.5 - y**2])

    with precision(np.float64):
        system, states, rows = prepare(
            F, np.array([[0.0, 0.0], [0.0, np.sqrt(0.5)], [0.3, 0.0]]), None, kind="map", dtype=np.float64
        )
        # (0, 0): q has a maximum in y; (0, √½): its minimum; (0.3, 0): no stationary point
        assert is_ghost(system, states, rows).tolist() == [False, True, False]


def test_slow_fixed_and_ghost_points_are_told_apart():
    """x has a ghost near 0, where q = 1.25e-7, and a fixed point at 1."""

    def F(h):
        return h - 0.05 * (h - 1) * (h**2 + 0.01)

    starts = np.linspace(-0.5, 1.2, 60)[:, None]
    exact = find_fixed_points(F, starts)
    assert exact.classes.tolist() == ["fixed"]
    np.testing.assert_allclose(exact.states, 1, atol=1e-9)
    slow = find_fixed_points(F, starts, tolerance=1e-6)
    assert set(slow.classes) == {"slow"}
    told = classify_points(F, slow)
    np.testing.assert_array_equal(told.states, slow.states)
    assert (told.classes == "fixed").tolist() == (told.states[:, 0] > 0.9).tolist()
    (minimum,) = (
        h for h in np.roots([3, -2, 0.01]).real if h < 0.5
    )  # where r = 0.05 (h − 1) (h² + 0.01) has its extremum
    q = 0.5 * (0.05 * (minimum - 1) * (minimum**2 + 0.01)) ** 2
    near = told.speeds <= 4 * q
    left = told.states[:, 0] < 0.9
    assert (told.classes[left] == np.where(near[left], "ghost", "slow")).all()
    assert (told.classes == "ghost").any()
    assert (told.classes == "slow").any()
    of_states = classify_points(F, np.array([[1.0], [1.01], [minimum], [0.4]]))
    assert of_states.classes.tolist() == ["fixed", "fixed", "ghost", "slow"]
    assert len(classify_points(F, slow[:0])) == 0


def test_a_stalled_candidate_is_run_forward_and_tried_again():
    """From the left, a ghost at 0 holds every search; running F carries the state past it, to the fixed point at 1."""

    def F(h):
        return h - 0.3 * (h - 1) * (h**2 + 0.05)

    starts = np.linspace(-1.0, -0.5, 20)[:, None]
    once = find_fixed_points(F, starts, retries=0, explore=False, outlier_factor=None)
    again = find_fixed_points(F, starts, outlier_factor=None)
    assert len(once.dropped["ghost"]) == 20
    assert again.hits.sum() == 20
    np.testing.assert_allclose(again.states, 1, atol=1e-9)
    assert again.ghosts.hits.sum() == 20
    assert everyone(again) == list(range(20))


def test_flows_are_run_forward_too():
    def f(h):
        return -0.3 * (h - 1) * (h**2 + 0.05) * 40

    points = find_fixed_points(f, np.linspace(-1.0, -0.5, 20)[:, None], kind="flow", outlier_factor=None)
    np.testing.assert_allclose(points.states, 1, atol=1e-9)
    assert points.hits.sum() == 20


def gated(h):
    """Each unit: h' = z h + (1 − z) tanh(2 h), z = σ(8 |h| − 4): at |h| = 10 the gate is shut to within rounding."""
    z = jax.nn.sigmoid(8 * jnp.abs(h) - 4)
    return z * h + (1 - z) * jnp.tanh(2 * h)


def test_saturated_gates_are_not_fixed_points():
    inside = RNG.uniform(-1, 1, size=(200, 2))
    real = find_fixed_points(gated, inside)
    level = 0.9575040240772688  # tanh(2 h) = h
    np.testing.assert_allclose(np.abs(real.states[np.abs(real.states) > 0.1]), level, atol=1e-9)
    assert len(real) == 9
    from ctd_models.analysis.fixed_points.pursuit import Outcome
    from ctd_models.analysis.fixed_points.search import _Sieve
    from ctd_models.analysis.systems import precision, prepare

    with precision(np.float64):  # as if the solver had run away to there
        system, states, rows = prepare(gated, inside, None, kind="map", dtype=np.float64)
        ends = np.concatenate([real.states, [[10.0, level], [-6.0, -9.0], [0.0, 8.0]]])
        outcome = Outcome(ends, np.full(12, 1), np.zeros(12, int), np.full_like(ends, np.nan))
        sieve = _Sieve(system, states, rows, states.mean(axis=0), 1.0, 1e-3, None)
        found = sieve(outcome, rows[:12], np.arange(12))
    assert sieve.dropped["saturated"].tolist() == [9, 10, 11]
    assert len(found["states"]) == 9


def two_cycle_memory(h):
    """Three units that flip their signs at every step: eight two-cycles, and no stable fixed point."""
    return -jnp.tanh(3 * h)


def test_a_network_of_cycles_is_not_reported_as_empty():
    starts = RNG.normal(size=(100, 3))
    points = linearize(two_cycle_memory, find_fixed_points(two_cycle_memory, starts))
    assert points.forward == {"cycle of period 2": 32}
    assert "32 end on a cycle of period 2; see find_cycles" in repr(points)
    assert len(points) == 1
    assert points.stability.tolist() == ["repeller"]


def test_exploration_finds_the_saddles_between():
    """Candidates at the corners alone: the 27 − 8 points between them are found from the corners."""

    def pitchfork(h):
        return 1.5 * h - h**3

    corners = np.array(np.meshgrid(*[[-0.7, 0.7]] * 3)).reshape(3, -1).T
    points = linearize(pitchfork, find_fixed_points(pitchfork, np.repeat(corners, 20, axis=0)))
    assert len(points) == 27
    assert (points.hits > 0).sum() == 8
    starts = np.repeat(corners, 20, axis=0)
    apart = np.linalg.norm(points.states[:, None] - starts, axis=-1)
    np.testing.assert_allclose(apart[np.arange(27), points.candidate_indices], apart.min(axis=1), atol=1e-9)
    assert points.completeness.num_found_by_exploration == 19
    assert len(find_fixed_points(pitchfork, np.repeat(corners, 20, axis=0), explore=False)) == 8
    each = np.tile([[0.0, 0.0, 0.0], [0.01, 0.01, 0.01]], (80, 1))
    both = find_fixed_points(lambda h, x: pitchfork(h) + x, np.repeat(corners, 20, axis=0), each)
    assert [(both.inputs[:, 0] == x).sum() for x in (0.0, 0.01)] == [27, 27]
    np.testing.assert_array_equal(each[both.candidate_indices], both.inputs)


def test_midpoints_are_few_and_new():
    corners = np.array(np.meshgrid(*[[-1.0, 1.0]] * 3)).reshape(3, -1).T
    middles = midpoints(corners, 8, 1000, 0.1)
    assert sorted(np.abs(middles).sum(axis=1).round(6)) == [0.0] + [1.0] * 6 + [2.0] * 12
    assert len(midpoints(corners, 8, 5, 0.1)) == 5
    assert len(midpoints(corners[:1], 1, 5, 0.1)) == 0
    assert len(midpoints(np.concatenate([corners, [[0.0, 0, 0]]]), 1, 1000, 0.1)) == 8


def test_completeness_by_hand():
    seen = Completeness.of(np.array([5, 1, 1, 1, 2, 0]))
    assert (seen.num_points, seen.num_arrived, seen.num_reached_once, seen.num_reached_twice) == (6, 10, 3, 1)
    assert seen.coverage == pytest.approx(0.7)
    assert seen.estimated_unseen == pytest.approx(3 * 2 / (2 * 2) - 1)
    assert "estimated number not yet seen 0.5" in str(seen)
    assert np.isnan(Completeness.of(np.zeros(2, int)).coverage)
    assert "a continuum? See find_slow_manifold" in str(Completeness.of(np.ones(30, int)))


def test_the_estimate_of_the_unseen_is_right_on_average():
    """Species drawn with unequal probabilities: Chao's estimate is a lower bound, and far better than nothing."""
    rng = np.random.default_rng(3)
    chances = np.array([0.2] * 4 + [0.01] * 20)
    errors, missing = [], []
    for _ in range(300):
        counts = np.bincount(rng.choice(24, 60, p=chances / chances.sum()), minlength=24)
        seen = Completeness.of(counts[counts > 0])
        missing.append((counts == 0).sum())
        errors.append(missing[-1] - seen.estimated_unseen)
    assert np.mean(errors) + 2 * np.std(errors) / np.sqrt(300) >= 0
    assert abs(np.mean(errors)) < 0.4 * np.mean(missing)


def test_noise_on_candidates():
    starts = np.zeros((50, 2))

    def pitchfork(h):
        return 1.5 * h - h**3

    still = find_fixed_points(pitchfork, starts, explore=False)
    shaken = find_fixed_points(pitchfork, starts, noise=0.5, key=jax.random.key(0))
    assert len(still) == 1
    assert len(shaken) == 9
    again = find_fixed_points(pitchfork, starts, noise=0.5, key=jax.random.key(0))
    np.testing.assert_array_equal(shaken.states, again.states)
    with pytest.raises(ValueError, match="needs a key"):
        find_fixed_points(pitchfork, starts, noise=0.5)


def test_isolated_points_can_be_dropped():
    def line(h):  # fixed points on y = 0 for x < 1, and (5, 0)
        x, y = h
        return jnp.array([jnp.where(x < 1, x, x + 0.5 * (5 - x)), 0.5 * y])

    starts = np.concatenate([RNG.uniform(-1, 0.9, size=(99, 2)), [[4.5, 0.2]]])
    points = find_fixed_points(line, starts, isolation_distance=0.5)
    assert points.dropped["isolated"].tolist() == [99]
    assert points.states[:, 0].max() < 1
    assert everyone(points) == list(range(100))


def test_stochastic_functions_are_detected():
    starts = np.zeros((4, 2))
    generator = np.random.default_rng(0)
    with pytest.raises(ValueError, match="the step function is stochastic, or changes between calls"):
        find_fixed_points(lambda h: 0.5 * h + generator.normal(size=2), starts)
    with pytest.raises(ValueError, match="the step function is stochastic, or changes between calls"):
        find_fixed_points(lambda h: 0.5 * h + float(generator.normal()), starts)

    def called_back(h):
        shape = jax.ShapeDtypeStruct((2,), h.dtype)
        return 0.5 * h + jax.pure_callback(lambda: generator.normal(size=2).astype(h.dtype), shape)

    with pytest.raises(ValueError, match="stochastic: called twice with the same state"):
        find_fixed_points(called_back, starts)

    class Noisy:
        key = jax.random.key(0)

        def __call__(self, h):
            self.key, now = jax.random.split(self.key)
            return 0.5 * h + jax.random.normal(now, (2,), h.dtype)

    with pytest.raises(ValueError, match="keeps something from one call to the next"):
        find_fixed_points(Noisy(), starts)
    key = jax.random.key(1)  # a bound key makes a function that is pure
    fixed = find_fixed_points(lambda h: 0.5 * h + jax.random.normal(key, (2,), h.dtype), starts)
    with jax.enable_x64(True):
        np.testing.assert_allclose(fixed.states[0], 2 * jax.random.normal(key, (2,), np.float64), atol=1e-12)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e6])
def test_units_do_not_matter(scale):
    points = find_fixed_points(lambda h: scale * jnp.tanh(2 * h / scale), scale * RNG.normal(size=(60, 1)))
    level = 0.9575040240772688
    np.testing.assert_allclose(np.sort(points.states[:, 0]) / scale, [-level, 0, level], atol=1e-9)


def test_outliers_are_named_where_nothing_else_is_left():
    A, b = np.diag([0.5, 0.9]), np.array([0, 10.0])
    points = find_fixed_points(lambda h: A @ h + b, RNG.normal(size=(50, 2)))
    assert len(points) == 0
    assert points.smallest_speed is None
    assert "50 candidates converged far from all candidates: see outlier_factor" in repr(points)
    kept = find_fixed_points(lambda h: A @ h + b, RNG.normal(size=(50, 2)), outlier_factor=None)
    np.testing.assert_allclose(kept.states, [[0, 100]], atol=1e-9)


def test_points_of_another_function_are_noticed():
    points = find_fixed_points(two_cycle_memory, RNG.normal(size=(40, 3)))
    with pytest.warns(UserWarning, match="these do not seem to be points of this function"):
        other = linearize(lambda h: jnp.tanh(2 * h + 1), points)
    assert other.classes is None
    assert "completeness" not in repr(other)


def test_candidates_that_leave_are_counted():
    points = find_fixed_points(lambda h: jnp.exp(h) * 1e200 + h, RNG.normal(size=(10, 2)))
    assert len(points) == 0
    assert everyone(points) == list(range(10))
    assert isinstance(points, FixedPoints)
