"""Branches and bifurcations of normal forms, whose places are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ctd_models.analysis.fixed_points.search import find_fixed_points
from ctd_models.analysis.geometry.continuation import continue_fixed_points

FOLD = 2 / (3 * np.sqrt(3))  # of p + x − x³


def s_curve(x, p):
    return p + x - x**3


def _cubic(a, b, c, d, e, x, p):
    return a * p + b * p * x + c * x - d * x**2 - e * x**3


def cubic(a=0.0, b=0.0, c=0.0, d=0.0, e=0.0):
    """a p + b p x + c x − d x² − e x³, its coefficients as arrays: several tests share one compiled program."""
    return jax.tree_util.Partial(_cubic, *(np.float64(k) for k in (a, b, c, d, e)))


S_CURVE = cubic(a=1, c=1, e=1)


def found_in(branch):
    return list(zip(branch.bifurcations.kinds.tolist(), branch.bifurcations.parameters.tolist(), strict=True))


def near(*expected):
    return [(kind, pytest.approx(p, abs=1e-8)) for kind, p in expected]


def test_a_fold_is_passed_and_located():
    branches = continue_fixed_points(cubic(a=1, d=1), np.array([[1.0], [-1.0]]), (-1, 1), start=1.0, kind="flow")
    assert len(branches) == 1
    branch = branches[0]
    assert branch.hits == 2
    assert branches.dropped["duplicate"].tolist() in ([0], [1])
    np.testing.assert_allclose(branch.states[:, 0] ** 2, branch.parameters, atol=1e-10)
    assert sorted(branch.states[[0, -1], 0]) == pytest.approx([-1, 1], abs=1e-9)
    assert branch.ends == ("range", "range")
    assert found_in(branch) == near(("fold", 0))
    np.testing.assert_allclose(branch.eigenvalues[:, 0], -2 * branch.states[:, 0], atol=1e-10)
    np.testing.assert_array_equal(branch.is_stable, branch.states[:, 0] > 0)
    # the tangent of p = x² is (1, 2x)
    expected = np.stack([np.ones(len(branch)), 2 * branch.states[:, 0]], axis=1)
    cosines = (branch.tangents * expected).sum(axis=1) / np.linalg.norm(expected, axis=1)
    np.testing.assert_allclose(np.abs(cosines), 1, atol=1e-10)


def test_hysteresis_is_followed_through_both_folds_from_one_start():
    branches = continue_fixed_points(S_CURVE, np.array([[-1.3]]), (-1, 1), kind="flow")
    assert len(branches) == 1
    branch = branches[0]
    assert found_in(branch) == near(("fold", FOLD), ("fold", -FOLD))
    np.testing.assert_allclose(np.sort(np.abs(branch.bifurcations.states[:, 0])), 1 / np.sqrt(3), atol=1e-8)
    np.testing.assert_allclose(branch.parameters, branch.states[:, 0] ** 3 - branch.states[:, 0], atol=1e-10)
    np.testing.assert_allclose(branch.parameters[[0, -1]], [-1, 1], atol=1e-14)
    np.testing.assert_array_equal(branch.num_unstable, np.abs(branch.states[:, 0]) < 1 / np.sqrt(3))


@pytest.mark.parametrize("curved", [False, True])
def test_pitchfork_and_the_branches_that_leave_there(curved):
    def in_other_coordinates(x, p):  # none of whose branches is straight
        y = x - jnp.sin(p)
        return p * y - y**3

    F = in_other_coordinates if curved else cubic(b=1, e=1)

    start = np.array([[np.sin(-1.0) if curved else 0.0]])
    alone = continue_fixed_points(F, start, (-1, 1), kind="flow")
    assert len(alone) == 1
    assert found_in(alone[0]) == near(("pitchfork", 0))
    branches = continue_fixed_points(F, start, (-1, 1), kind="flow", follow_branch_points=True)
    assert len(branches) == 2
    assert sorted(branch.candidate_index for branch in branches) == [-1, 0]
    new = next(branch for branch in branches if branch.candidate_index == -1)
    assert found_in(new) == near(("pitchfork", 0))
    y = new.states[:, 0] - (np.sin(new.parameters) if curved else 0)
    np.testing.assert_allclose(y**2, new.parameters, atol=1e-9)
    assert (y.min(), y.max()) == pytest.approx((-1, 1), abs=1e-9)
    assert new.is_stable[np.abs(y) > 1e-3].all()


def test_logistic_map():
    branches = continue_fixed_points(
        lambda h, r: r * h * (1 - h), np.array([[0.0], [0.4]]), (0.5, 4), start=np.array([0.5, 2.0])
    )
    assert len(branches) == 2
    zero, other = sorted(branches, key=lambda branch: np.abs(branch.states).max())
    assert found_in(zero) == near(("transcritical", 1))
    assert sorted(found_in(other)) == near(("period doubling", 3), ("transcritical", 1))
    doubling = other.bifurcations.of("period doubling")
    assert doubling.eigenvalues[0] == pytest.approx(-1, abs=1e-8)
    np.testing.assert_allclose(doubling.states, [[2 / 3]], atol=1e-8)
    np.testing.assert_allclose(other.states[:, 0], 1 - 1 / other.parameters, atol=1e-9)
    followed = continue_fixed_points(
        lambda h, r: r * h * (1 - h), np.array([[0.0]]), (0.5, 4), follow_branch_points=True
    )
    assert sorted(followed.bifurcations.kinds) == ["period doubling", "transcritical"]  # where both branches meet, once


def test_hopf():
    def normal_form(z, p):
        return (p - (z**2).sum()) * z + 3 * jnp.array([-z[1], z[0]])

    branches = continue_fixed_points(normal_form, np.zeros((1, 2)), (-1, 1), kind="flow")
    assert found_in(branches[0]) == near(("Hopf", 0))
    np.testing.assert_allclose(branches[0].bifurcations.eigenvalues, [3j], atol=1e-8)


def test_neimark_sacker_of_the_delayed_logistic_map():
    def delayed(z, a):
        return jnp.stack([z[1], a[0] * z[1] * (1 - z[0])])

    branches = continue_fixed_points(delayed, np.array([[0.3, 0.3]]), (1.2, 2.4), start=1.5)
    assert found_in(branches[0]) == near(("Neimark-Sacker", 2))
    np.testing.assert_allclose(branches[0].bifurcations.eigenvalues, np.exp(1j * np.pi / 3), atol=1e-8)


def test_a_closed_branch_is_closed():
    branches = continue_fixed_points(lambda x, p: x**2 + p**2 - 1, np.array([[1.0]]), (-2, 2), start=0.0, kind="flow")
    branch = branches[0]
    assert branch.ends == ("closed", "closed")
    np.testing.assert_array_equal(branch.states[0], branch.states[-1])
    assert sorted(found_in(branch)) == near(("fold", -1), ("fold", 1))
    angles = np.unwrap(np.arctan2(branch.states[:, 0], branch.parameters))
    assert abs(angles[-1] - angles[0]) == pytest.approx(2 * np.pi)


def test_two_eigenvalues_at_once_are_a_branch_point_and_no_hopf():
    branches = continue_fixed_points(lambda x, p: p * x - x**3, np.zeros((1, 2)), (-1, 1), kind="flow")
    assert found_in(branches[0]) == near(("branch point", 0))


def test_a_line_in_the_space_of_inputs_and_points_of_the_search():
    """A network of 20 units whose first direction is the S-curve, driven along a line of inputs."""
    Q = np.linalg.qr(np.random.default_rng(0).normal(size=(20, 20)))[0]

    def network(h, x):
        y = Q.T @ h
        return h + 0.1 * Q @ jnp.concatenate([s_curve(y[:1], x[1:2] - x[0]), -y[1:]])

    base, along = np.array([0.5, 0.5]), np.array([-0.5, 0.5])
    points = find_fixed_points(network, np.random.default_rng(1).normal(size=(100, 20)), base + 0.1 * along)
    assert len(points) == 3
    branches = continue_fixed_points(network, points, (-1, 1), inputs=base, along=along)
    assert len(branches) == 1
    assert branches[0].hits == 3
    assert sorted(found_in(branches[0])) == near(("fold", -FOLD), ("fold", FOLD))
    y = branches[0].states @ Q
    np.testing.assert_allclose(y[:, 0] ** 3 - y[:, 0], branches[0].parameters, atol=1e-8)
    np.testing.assert_allclose(branches.inputs_at(0.1), points.inputs[0])
    assert continue_fixed_points(network, points, (-1, 1), along=along).inputs.tolist() == points.inputs[0].tolist()
    with pytest.raises(ValueError, match="is not on the line"):
        continue_fixed_points(network, points, (-1, 1), inputs=base, along=np.array([1.0, 1.0]))
    with pytest.raises(ValueError, match="inputs have 2 entries: along="):
        continue_fixed_points(network, points, (-1, 1))


def test_why_a_branch_ends_and_what_is_dropped():
    few = continue_fixed_points(S_CURVE, np.array([[-1.3]]), (-1, 1), kind="flow", max_steps=5)
    assert few[0].ends == ("range", "max_steps")
    assert "1 range, 1 max steps" in repr(few)
    edge = continue_fixed_points(lambda x, p: jnp.sqrt(0.5 - p) - x, np.array([[1.2]]), (-1, 1), kind="flow")
    assert edge[0].ends[1] == "not_converged"
    assert edge[0].parameters.max() == pytest.approx(0.5, abs=1e-3)
    none = continue_fixed_points(lambda x, p: 1 + x**2 + 0 * p, np.array([[0.3]]), (0, 1), kind="flow")
    assert len(none) == 0
    assert none.dropped["not_converged"].tolist() == [0]
    assert len(none.bifurcations) == 0


def test_float32_is_an_option():
    branches = continue_fixed_points(s_curve, np.array([[-1.3]]), (-1, 1), kind="flow", dtype=np.float32)
    assert branches[0].states.dtype == np.float32
    np.testing.assert_allclose(np.abs(branches[0].bifurcations.parameters), [FOLD, FOLD], atol=1e-4)


def test_other_values_of_the_same_shapes_compile_nothing(compilations):
    continue_fixed_points(S_CURVE, np.array([[-1.3]]), (-1, 1), kind="flow")
    with compilations:
        branches = continue_fixed_points(cubic(a=1, c=1.05, e=1), np.array([[-1.35]]), (-1.01, 1.02), kind="flow")
    assert compilations.count == 0
    assert np.abs(branches[0].bifurcations.parameters) == pytest.approx(FOLD * 1.05**1.5, abs=1e-8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"parameter_range": (1, -1)}, r"parameter_range must be \(low, high\)"),
        ({"start": 2.0}, r"the parameter 2.0 of point 0 is outside parameter_range \(-1.0, 1.0\)"),
        ({"start": np.zeros(3)}, r"one per point \[1\], got shape \(3,\)"),
        ({"step": 0.0}, "step must be positive, got 0"),
        ({"max_steps": 0}, "max_steps must be a whole number of at least 1"),
        ({"along": np.zeros(1)}, "along not zero"),
        ({"along": np.ones(2), "inputs": np.zeros(3)}, r"expected inputs and along \[U\]"),
        ({"kind": "ode"}, "kind must be one of"),
    ],
)
def test_bad_arguments(arguments, message, compilations):
    arguments = {"F": s_curve, "points": np.zeros((1, 1)), "parameter_range": (-1, 1), "kind": "flow"} | arguments
    with compilations, pytest.raises(ValueError, match=message):
        continue_fixed_points(**arguments)
    assert compilations.count == 0
