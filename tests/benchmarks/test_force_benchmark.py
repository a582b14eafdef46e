"""What benchmarks/force.py compares does the same, and it and the benchmarks of stitching and of reviews run."""

import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from ctd_models import ContinuousESN
from ctd_models.training import Force

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def test_blas_in_place_learns_the_same():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import force as benchmark
    finally:
        sys.path.remove(str(BENCHMARKS))
    force = Force(ContinuousESN(20, 2))
    state = force.init(jax.random.key(0))
    targets = np.sin(np.linspace(0, 3, 25))[:, None] * np.ones((1, 2), np.float32)
    expected = benchmark.in_place(jax.tree.map(np.asarray, state.variables), targets)
    state, _ = force.fit(state, targets=targets)
    np.testing.assert_allclose(state.variables["params"]["readout"], expected, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["force.py", "stitching.py", "sentiment.py"])
def test_it_runs(name, tmp_path):
    command = [sys.executable, str(BENCHMARKS / name), "--quick"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    rows = {"force.py": "| 8 ", "stitching.py": "2 stitched, gathered", "sentiment.py": "reviews alone, share"}
    assert rows[name] in result.stdout
