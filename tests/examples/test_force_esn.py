"""The FORCE example, quickly."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ctd_models import ContinuousESN, load_checkpoint

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "force_esn.py"


@pytest.mark.slow
def test_the_published_targets_and_a_periodic_one_are_followed(tmp_path):
    command = [sys.executable, str(EXAMPLE), "--quick", "--out", "out"]
    process = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "MPLBACKEND": "Agg"}, capture_output=True, text=True, timeout=600
    )
    assert process.returncode == 0, process.stderr
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["mean_abs_error"] < 0.01 and results["max_abs_error"] < 0.1
    assert results["steps_per_second"] > 0 and results["compile_seconds"] >= 0
    assert results["periodic_mean_abs_error"] < 0.2
    for name in ("outputs", "reservoir", "eigenvalues", "cycle"):
        assert (tmp_path / "out" / f"{name}.png").exists()
    model, variables = load_checkpoint(tmp_path / "out")
    assert model == ContinuousESN(500, 20) and np.isfinite(variables["params"]["readout"]).all()
