"""Curves whose order, length and tangents are known."""

import numpy as np
import pytest

from ctd_models.analysis.fixed_points.points import FixedPoints
from ctd_models.analysis.geometry.curves import above_noise
from ctd_models.analysis.geometry.lines import order_line


def embed(plane, size, rng):
    """(points of the plane in `size` dimensions, the two directions [2, size])."""
    directions = np.linalg.qr(rng.normal(size=(size, 2)))[0].T
    return plane @ directions, directions


def arc(angle):
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def along(angle):
    return np.stack([-np.sin(angle), np.cos(angle)], axis=1)


def spiral(angle):
    return angle[:, None] * arc(angle) / 5


def angles_between(line, tangents):
    return np.degrees(np.arccos(np.clip(np.abs((line.tangents * tangents[line.order]).sum(axis=1)), 0, 1)))


def is_in_order(values, tolerance=0.0):
    steps = np.diff(values)
    return bool((steps * np.sign(values[-1] - values[0]) >= -tolerance).all())


def test_a_straight_line_is_exact():
    s = np.random.default_rng(0).uniform(0, 3, 50)
    direction = np.array([2.0, -1.0, 2.0]) / 3
    line = order_line(s[:, None] * direction + 7.0)
    order = np.argsort(s)
    assert line.order.tolist() in (order.tolist(), order[::-1].tolist())
    assert line.length == pytest.approx(np.ptp(s), rel=1e-7)
    rising = s[line.order] if s[line.order[0]] < s[line.order[-1]] else -s[line.order]
    np.testing.assert_allclose(line.arc_length, rising - rising[0], atol=1e-7)
    sign = np.sign(line.tangents @ direction)
    assert abs(sign.sum()) == 50
    np.testing.assert_allclose(np.abs(line.tangents @ direction), 1, atol=1e-9)
    assert not line.is_closed and line.num_pieces == 1 and line.distances.max() < 1e-7


@pytest.mark.parametrize("size", [2, 100])
def test_arcs_circles_and_spirals_without_scatter(size):
    rng = np.random.default_rng(1)
    angle = rng.permutation(np.append(rng.uniform(0, 2, 298), [0.0, 2.0]))
    points, directions = embed(arc(angle), size, rng)
    line = order_line(points)
    assert is_in_order(angle[line.order]) and not line.is_closed
    assert line.length == pytest.approx(2, rel=1e-3)
    assert angles_between(line, along(angle) @ directions).max() < 0.5

    angle = rng.uniform(0, 2 * np.pi, 300)
    points, directions = embed(arc(angle), size, rng)
    ring = order_line(points)
    assert ring.is_closed
    assert ring.length == pytest.approx(2 * np.pi, rel=1e-3)
    turned = np.unwrap(angle[ring.order])
    assert is_in_order(turned) and abs(turned[-1] - turned[0]) < 2 * np.pi
    assert angles_between(ring, along(angle) @ directions).max() < 0.5
    assert (np.einsum("nd,nd->n", ring.tangents, np.roll(ring.tangents, -1, axis=0)) > 0.9).all()

    angle = 2 + 4 * np.pi * np.sqrt(rng.uniform(0, 1, 300))
    points, _ = embed(spiral(angle), size, rng)
    line = order_line(points)
    t = np.linspace(angle.min(), angle.max(), 20_001)
    assert is_in_order(angle[line.order]) and not line.is_closed
    assert line.length == pytest.approx(np.trapezoid(np.sqrt(1 + t**2), t) / 5, rel=2e-3)


@pytest.mark.parametrize(("size", "scatter"), [(3, 0.05), (100, 0.01), (100, 0.03)])
def test_scatter_across_the_curve(size, scatter):
    rng = np.random.default_rng(2)
    angle = rng.uniform(0, 2 * np.pi, 300)
    points, directions = embed(arc(angle), size, rng)
    ring = order_line(points + scatter * rng.normal(size=points.shape))
    assert ring.is_closed
    assert ring.length == pytest.approx(2 * np.pi, rel=0.02)
    assert np.median(angles_between(ring, along(angle) @ directions)) < 5
    turned = np.unwrap(angle[ring.order])
    assert is_in_order(turned, tolerance=8 * scatter)
    assert np.median(np.linalg.norm(ring.curve - points[ring.order], axis=1)) < 2 * scatter
    assert np.median(ring.distances) == pytest.approx(scatter * np.sqrt(size - 1), rel=0.35)

    angle = 2 + 4 * np.pi * np.sqrt(rng.uniform(0, 1, 300))
    points, _ = embed(spiral(angle), size, rng)
    line = order_line(points + scatter * rng.normal(size=points.shape))
    t = np.linspace(angle.min(), angle.max(), 20_001)
    assert not line.is_closed
    assert line.length == pytest.approx(np.trapezoid(np.sqrt(1 + t**2), t) / 5, rel=0.02)


def test_a_curve_that_bends_through_many_dimensions():
    rng = np.random.default_rng(3)
    mix = rng.normal(size=(8, 100)) / 10

    def curve(s):
        waves = [f(np.pi * k * s) / k for k in range(1, 5) for f in (np.cos, np.sin)]
        return np.stack(waves, axis=1) @ mix

    s = rng.uniform(0, 1, 600)
    fine = curve(np.linspace(s.min(), s.max(), 20_001))
    length = np.linalg.norm(np.diff(fine, axis=0), axis=1).sum()
    assert order_line(curve(s)).length == pytest.approx(length, rel=1e-3)
    noisy = order_line(curve(s) + 0.02 * rng.normal(size=(600, 100)))
    assert noisy.length == pytest.approx(length, rel=0.02)
    assert is_in_order(s[noisy.order], tolerance=0.1)


def test_states_have_coordinates_on_the_curve():
    rng = np.random.default_rng(4)
    angle = rng.permutation(np.linspace(0, 2, 200))
    points, directions = embed(arc(angle), 20, rng)
    line = order_line(points)
    query = np.array([0.1, 0.7, 1.9])
    where = np.concatenate([s * arc(query) for s in (1.0, 0.8, 1.3)]) @ directions
    coordinate, distance, piece = line.coordinate(where)
    start = angle[line.order[0]]
    np.testing.assert_allclose(coordinate, np.tile(np.abs(query - start), 3), atol=1e-3)
    np.testing.assert_allclose(distance, np.repeat([0, 0.2, 0.3], 3), atol=1e-3)
    assert (piece == 0).all()
    np.testing.assert_allclose(line.coordinate(points[line.order])[0], line.arc_length, atol=1e-5)
    beyond = line.coordinate(arc(np.array([-0.5])) @ directions)[0][0]
    assert beyond == pytest.approx(0 if start == 0 else line.length, abs=1e-9)
    assert line.coordinate(where.reshape(3, 3, 20))[0].shape == (3, 3)
    with pytest.raises(ValueError, match=r"expected states \[\.\.\., 20\], got shape \(4,\)"):
        line.coordinate(np.zeros(4))


def test_coordinates_of_a_ring_go_all_the_way_round():
    angle = np.linspace(0, 2 * np.pi, 100, endpoint=False)
    ring = order_line(arc(angle))
    query = np.linspace(0, 2 * np.pi, 57)
    coordinate, distance, _ = ring.coordinate(arc(query))
    steps = np.diff(np.unwrap(coordinate, period=ring.length))
    np.testing.assert_allclose(np.abs(steps), 2 * np.pi / 56, rtol=0.01)
    assert np.abs(steps.sum()) == pytest.approx(ring.length, rel=1e-3)
    assert distance.max() < 1e-3


def test_pieces_and_gaps_are_told():
    one = np.stack([np.linspace(0, 1, 100), np.zeros(100)], axis=1)
    other = np.stack([np.linspace(0, 1, 50), np.ones(50)], axis=1)
    line = order_line(np.concatenate([other, one, [[5.0, 5.0]]]))
    assert line.num_pieces == 3 and "in 3 disconnected pieces" in repr(line)
    assert np.bincount(line.pieces).tolist() == [100, 50, 1]
    assert set(line.order[:100]) == set(range(50, 150))
    np.testing.assert_allclose(line.piece_lengths, [1, 1, 0], atol=1e-9)
    assert line.length == pytest.approx(2)
    assert line.coordinate(np.array([0.3, 0.9]))[2] == 1
    together = order_line(np.concatenate([other, one]), max_gap=2.0)
    assert together.num_pieces == 1 and together.length == pytest.approx(3, rel=0.05)

    s = np.concatenate([np.linspace(0, 1, 60), np.linspace(1.5, 2.5, 60)])
    line = order_line(s[:, None], max_gap=1.0)
    assert line.num_pieces == 1 and line.gap_indices.tolist() == [59]
    assert line.gap_sizes[0] == pytest.approx(0.5, rel=1e-6)
    assert "1 gaps, the largest 0.5" in repr(line)


def test_dense_ends_do_not_hide_the_line_between():
    rng = np.random.default_rng(5)
    angle = np.concatenate([rng.normal(0, 0.002, 200), rng.normal(2, 0.002, 200), rng.uniform(0, 2, 60)])
    line = order_line(arc(angle))
    assert line.num_pieces == 1
    assert line.length == pytest.approx(np.ptp(angle), rel=2e-3)


def test_few_points_and_repeated_ones():
    line = order_line(np.array([[0.0, 0.0], [3.0, 4.0]]))
    assert line.length == pytest.approx(5)
    np.testing.assert_allclose(line.tangents, [[0.6, 0.8], [0.6, 0.8]])
    three = order_line(np.array([[1.0], [0.0], [4.0]]))
    assert three.order.tolist() in ([1, 0, 2], [2, 0, 1]) and three.length == pytest.approx(4)
    repeated = order_line(np.repeat(np.linspace(0, 1, 30)[:, None], 20, axis=0))
    assert repeated.num_pieces == 1 and repeated.length == pytest.approx(1, rel=1e-6)
    assert order_line(np.ones((20, 3))).length == pytest.approx(0, abs=1e-9)
    states = np.linspace(0, 1, 9)[:, None]
    points = FixedPoints(states=states, speeds=np.zeros(9))
    assert order_line(points).length == pytest.approx(1)
    assert order_line(states, closed=True).is_closed


def test_only_scatter_alike_in_all_directions_is_taken_away():
    rng = np.random.default_rng(6)
    smooth = rng.normal(size=(200, 3)) @ rng.normal(size=(3, 40))
    assert len(above_noise(smooth)[1]) == 3
    noisy = smooth + 0.01 * rng.normal(size=(200, 40))
    assert len(above_noise(noisy)[1]) == 3
    assert len(above_noise(rng.normal(size=(200, 40)))[1]) == 40


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"points": np.zeros((1, 2))}, r"expected at least two points \[n, d\], got shape \(1, 2\)"),
        ({"points": np.zeros(5)}, r"got shape \(5,\)"),
        ({"points": np.array([[0.0], [np.nan]])}, r"points hold nan at index \(1, 0\)"),
        ({"window": 2}, "window must be a whole number of at least 3, got 2"),
        ({"num_neighbors": 1.5}, "num_neighbors must be a whole number of at least 2, got 1.5"),
        ({"gap_factor": 0.0}, "gap_factor must be positive"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        order_line(**{"points": np.zeros((4, 2))} | arguments)
