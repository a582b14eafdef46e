"""What the decision example measures along its line, on a line attractor that is known, and its other loss and schedule."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from ctd_models.analysis.fixed_points.linearization import linearize
from ctd_models.analysis.geometry.lines import order_line

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "decision_gru.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("decision_gru", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def line_and_points():
    """h' = R Λ R⁻¹ h + B x, with the line of fixed points along r₁ = e₁, and l₁ = e₁ − 0.5 e₂ / 0.8."""
    right = np.array([[1.0, 0.6, 0.0], [0.0, 0.8, 0.0], [0.0, 0.0, 1.0]])
    matrix = right @ np.diag([1.0, 0.6, 0.2]) @ np.linalg.inv(right)
    into = np.array([[2.0], [0.4], [7.0]])
    states = np.linspace(-3, 3, 31)[:, None] * right[:, 0]
    points = linearize(lambda h, x: jnp.asarray(matrix) @ h + jnp.asarray(into) @ x, states, np.zeros(1))
    line = order_line(points, closed=False)
    return line, points[line.order], float(np.linalg.inv(right)[0] @ into[:, 0])


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_changes_along_a_known_line(example, line_and_points, sign):
    line, points, selected = line_and_points
    weights = sign * np.array([0.6, 0.0, 0.8])
    along = example.changes_along(line, points, points.states @ weights, weights)
    np.testing.assert_allclose(along["top_eigenvalue"], 1.0, atol=1e-9)
    np.testing.assert_allclose(along["second_eigenvalue"], 0.6, atol=1e-9)
    np.testing.assert_allclose(along["tangent_right_eigenvector_cos"], 1.0, atol=1e-6)
    np.testing.assert_allclose(along["tangent_readout_cos"], 0.6, atol=1e-6)
    assert selected == pytest.approx(1.7)  # 2 − 0.6 · 0.4 / 0.8, not the 2 of the input's direction along the line
    np.testing.assert_allclose(along["input_along_line"], sign * selected, atol=1e-6)  # positive where readout rises


def test_one_unit_of_input_ends_where_the_selection_says(line_and_points):
    """A pulse of input, run forward until the other modes are gone, has moved the state by l · B along the line."""
    _, points, selected = line_and_points
    state = points.states[4] + points.input_jacobians[4, :, 0]
    for _ in range(80):
        state = points.jacobians[4] @ state
    np.testing.assert_allclose(state - points.states[4], [selected, 0, 0], atol=1e-9)


def test_a_conjugate_pair_counts_whole(example):
    """Where a pair leads, the input's effect is that of its plane: all of B's part along the line, here 2."""
    turn = 0.95 * np.array([[np.cos(0.1), -np.sin(0.1), 0], [np.sin(0.1), np.cos(0.1), 0], [0, 0, 0.2]])
    into = np.array([[2.0], [0.4], [7.0]])
    states = np.linspace(-3, 3, 31)[:, None] * np.eye(3)[0]
    points = linearize(lambda h, x: jnp.asarray(turn) @ h + jnp.asarray(into) @ x, states, np.zeros(1))
    line = order_line(points, closed=False)
    points = points[line.order]
    assert (points.eigenvalues[:, 0].imag > 0).all()
    along = example.changes_along(line, points, points.states[:, 0], np.eye(3)[0])
    np.testing.assert_allclose(along["input_along_line"], 2.0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "extra"), [(["--loss", "cross_entropy"], {"eval_cross_entropy"}), (["--schedule", "published"], set())]
)
def test_other_losses_and_schedules_measure_the_same(tmp_path, options, extra):
    command = [sys.executable, SCRIPT, "--quick", "--out", tmp_path, *options]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    assert extra < set(results)
    assert 0.5 < results["accuracy"] <= 1  # better than chance after 500 steps
    assert 0 < results["eval_mse"] < 1
    for name in ("flat_fraction", "jump_length_fraction", "line_gap_fraction", "input_along_line_positive_fraction"):
        assert 0 <= results[name] <= 1, name
    assert results["flat_fraction"] + results["jump_length_fraction"] <= 1
    assert results["num_line_points"] >= 10
    assert results["line_length"] > 0
    for name in ("top_eigenvalue", "second_eigenvalue", "tangent_readout_cos", "tangent_right_eigenvector_cos"):
        low, middle, high = (results[f"{name}_{what}"] for what in ("p10", "median", "p90"))
        assert 0 <= low <= middle <= high
    assert results["second_eigenvalue_median"] <= results["top_eigenvalue_median"]
    for file in ("fixed_points.png", "eigenvalues.png", "loss.png"):
        assert (tmp_path / file).stat().st_size > 0, file
