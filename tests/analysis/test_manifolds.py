"""Manifolds of slow points whose kind and extent are known."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ctd_models.analysis.fixed_points.linearization import linearize
from ctd_models.analysis.fixed_points.search import find_fixed_points
from ctd_models.analysis.geometry.manifolds import classify_manifold, manifold_dimension
from ctd_models.analysis.geometry.slow_manifolds import find_slow_manifold

RNG = np.random.default_rng(0)
SIZE = 12
ROTATION = np.linalg.qr(RNG.normal(size=(SIZE, SIZE)))[0]


def embedded(inner, dims):
    """A map of few dimensions in rotated coordinates of SIZE dimensions, with contraction by a half in all others."""

    def F(h):
        z = ROTATION.T @ h
        return ROTATION @ jnp.concatenate([inner(z[:dims]), 0.5 * z[dims:]])

    return F


def embed(z):
    return np.pad(z, [(0, 0), (0, SIZE - z.shape[1])]) @ ROTATION.T


line = embedded(lambda z: z, 1)
ring = embedded(lambda z: z + 0.5 * z * (1 - (z**2).sum()), 2)
plane = embedded(lambda z: z, 2)
space = embedded(lambda z: z, 3)
pitchfork = embedded(lambda z: 1.5 * z - z**3, 2)


def circle(n):
    angle = RNG.uniform(0, 2 * np.pi, n)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


@pytest.mark.parametrize(
    ("F", "z", "verdict", "dimension"),
    [
        (line, RNG.uniform(-1, 1, size=(60, 1)), "line", 1),
        (ring, circle(120), "ring", 1),
        (plane, RNG.uniform(-1, 1, size=(150, 2)), "plane", 2),
        (space, RNG.uniform(-1, 1, size=(300, 3)), "3-dimensional", 3),
        (
            pitchfork,
            np.sqrt(0.5) * np.stack(np.meshgrid([-1, 0, 1], [-1, 0, 1]), -1).reshape(9, 2),
            "isolated points",
            0,
        ),
        (line, RNG.uniform(-1, 1, size=(3, 1)), "undetermined", None),
    ],
    ids=["line", "ring", "plane", "space", "pitchfork", "few"],
)
def test_the_kind_of_a_manifold(F, z, verdict, dimension):
    points = linearize(F, embed(z))
    manifold = classify_manifold(points)
    assert (manifold.verdict, manifold.dimension) == (verdict, dimension)
    assert f"Manifold: {verdict}, from {len(points)} points" in repr(manifold)
    if dimension is not None:
        assert (manifold.near_unit == dimension).all()
    if verdict == "ring":
        assert manifold.line.length == pytest.approx(2 * np.pi, rel=2e-3)
    if verdict == "line":
        assert manifold.line.length == pytest.approx(np.ptp(z), rel=1e-6)


def test_a_flow_is_measured_against_its_fastest_mode():
    def flow(h):
        return (ring(h) - h) / 0.02

    points = linearize(flow, embed(circle(80)), kind="flow")
    assert classify_manifold(points).verdict == "ring"
    fast = linearize(lambda h: -h * jnp.array([1.0, 50.0]), np.zeros((1, 2)), kind="flow")
    assert manifold_dimension(fast).near_unit.tolist() == [1]
    assert manifold_dimension(fast, near=0.01).near_unit.tolist() == [0]


def test_what_does_not_fit_together_is_mixed():
    ringed = linearize(ring, embed(circle(40)))
    corners = linearize(pitchfork, embed(RNG.choice([-1, 1], size=(40, 2)) * np.sqrt(0.5)))
    names = [f.name for f in dataclasses.fields(ringed) if isinstance(getattr(ringed, f.name), np.ndarray)]
    both = {name: np.concatenate([getattr(ringed, name), getattr(corners, name)]) for name in names}
    assert classify_manifold(dataclasses.replace(ringed, **both)).verdict == "mixed"
    on_a_line = linearize(plane, embed(np.pad(RNG.uniform(-1, 1, size=(50, 1)), [(0, 0), (0, 1)])))
    manifold = classify_manifold(on_a_line)  # two near-unit modes, and yet the points were only sampled along a line
    assert (manifold.verdict, manifold.dimension) == ("mixed", None)
    assert set(manifold.near_unit) == {2} and set(manifold.local_dimension) == {1}


SPEED = 1e-6
END = (np.sqrt(2 * SPEED) / 0.01) ** (1 / 5)  # where q = ½ (0.01 s⁵)² is SPEED
finite_line = embedded(lambda z: z - 0.01 * z**5, 1)


def test_a_finite_line_is_covered_from_end_to_end_from_one_place():
    candidates = embed(0.02 * RNG.normal(size=(20, 1))) + 0.1 * RNG.normal(size=(20, SIZE))
    points = find_slow_manifold(finite_line, candidates, speed=SPEED, spacing=0.05)
    z = points.states @ ROTATION
    along = np.sort(z[:, 0])
    tube = np.sqrt(2 * SPEED) / 0.5  # farthest a point of this speed is from the line
    assert points.speeds.max() <= SPEED
    assert np.abs(z[:, 1:]).max() <= tube * 1.01
    assert -END - 1e-3 <= along[0] <= -END + 0.05 / 4 + 1e-3
    assert END - 0.05 / 4 - 1e-3 <= along[-1] <= END + 1e-3
    inner = np.diff(along)[2:-2]
    assert inner.min() > 0.6 * 0.05 and inner.max() < 2 * 0.05
    accounted = np.concatenate([points.candidate_indices[points.hits > 0], *points.dropped.values()])
    assert sorted(accounted) == list(range(20))
    assert points.hits.sum() == 20 - sum(len(v) for k, v in points.dropped.items() if k != "duplicate")
    manifold = classify_manifold(points)
    assert manifold.verdict == "line"
    assert manifold.line.length == pytest.approx(2 * END, abs=0.05)


def test_without_extension_only_candidates_count():
    candidates = embed(np.linspace(-0.2, 0.3, 200)[:, None])
    points = find_slow_manifold(finite_line, candidates, speed=SPEED, spacing=0.05, extend=False)
    along = np.sort((points.states @ ROTATION)[:, 0])
    assert along[0] >= -0.2 - 1e-9 and along[-1] <= 0.3 + 1e-9
    assert np.diff(along).min() >= 0.9 * 0.05
    assert points.hits.sum() == 200


def test_a_ring_closes_and_a_plane_fills_up():
    points = find_slow_manifold(ring, embed(np.array([[1.1, 0.0], [0.9, 0.1]])), speed=1e-8, spacing=0.1)
    manifold = classify_manifold(points)
    assert manifold.verdict == "ring"
    assert manifold.line.length == pytest.approx(2 * np.pi, rel=0.01)
    assert len(manifold.line.gap_sizes) == 0
    bounded = find_slow_manifold(
        lambda h: jnp.concatenate([h[:2], 0.5 * h[2:]]),
        0.1 * RNG.normal(size=(5, 3)),
        speed=1e-8,
        spacing=0.2,
        bounds=(-1, 1),
    )
    assert classify_manifold(bounded).verdict == "plane"
    grid = np.stack(np.meshgrid(*2 * [np.linspace(-0.95, 0.95, 20)]), axis=-1).reshape(-1, 2)
    nearest = np.linalg.norm(bounded.states[:, None, :2] - grid, axis=-1).min(axis=0)
    assert nearest.max() < 0.25
    assert 60 < len(bounded) < 250


def test_inputs_have_manifolds_of_their_own_and_flows_have_them_too():
    def shifted(h, x):
        return jnp.stack([-0.02 * h[0] ** 5, -(h[1] - x[0])])

    points = find_slow_manifold(
        shifted,
        RNG.uniform(-0.2, 1.2, size=(8, 2)),
        np.array([[0.0], [1.0]] * 4),
        speed=1e-6,
        spacing=0.1,
        kind="flow",
        dtype=np.float64,
    )
    np.testing.assert_allclose(points.states[:, 1], points.inputs[:, 0], atol=2e-3)
    end = (np.sqrt(2e-6) / 0.02) ** (1 / 5)
    for value in (0.0, 1.0):
        mine = points.states[points.inputs[:, 0] == value, 0]
        assert np.ptp(mine) == pytest.approx(2 * end, abs=0.06)


def test_endless_manifolds_stop_with_a_warning():
    with pytest.warns(RuntimeWarning, match="goes on beyond max_points = 10 points"):
        points = find_slow_manifold(line, embed(np.array([[0.0], [0.1]])), speed=1e-8, spacing=0.05, max_points=10)
    assert len(points) == 10
    limited = find_slow_manifold(line, embed(np.array([[0.0], [0.1]])), speed=1e-8, spacing=0.05, reach=0.2)
    along = (limited.states @ ROTATION)[:, 0]
    assert np.abs(along - 0.05).max() <= 0.2 + 1e-9 and len(limited) >= 7


def test_nothing_slow_is_nothing_found():
    points = find_slow_manifold(lambda h: h + 1 + h**2, RNG.normal(size=(10, 2)), speed=1e-4)
    assert len(points) == 0


def test_other_values_of_the_same_shapes_compile_nothing(compilations):
    F = jax.tree_util.Partial(lambda c, h: jnp.concatenate([h[:1] - c * h[:1] ** 5, 0.5 * h[1:]]), np.float64(0.01))
    starts = 0.1 * RNG.normal(size=(4, 3))
    find_slow_manifold(F, starts, speed=SPEED, spacing=0.1)
    with compilations:
        other = jax.tree_util.Partial(F.func, np.float64(0.0101))
        find_slow_manifold(other, starts, speed=SPEED, spacing=0.1)
    assert compilations.count == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"speed": 0.0}, "speed must be positive"),
        ({"spacing": -1.0}, "spacing must be positive"),
        ({"near": 0.0}, "near must be positive"),
        ({"max_points": 0}, "max_points must be positive"),
        ({"kind": "ode"}, "kind must be one of"),
        ({"candidates": np.zeros((0, 2))}, "there are no candidates"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        find_slow_manifold(lambda h: 0.5 * h, **{"candidates": np.zeros((2, 2)), "speed": 1e-6} | arguments)


def test_points_without_modes_are_rejected():
    with pytest.raises(ValueError, match="call linearize"):
        classify_manifold(find_fixed_points(lambda h: 0.5 * h, np.zeros((1, 2))))
