"""The examples of sentiment, quickly."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ctd_models import load_checkpoint
from ctd_models.analysis import FixedPoints

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PROBES = [f"{m}{w}" for m in ("", "not_", "very_") for w in ("good", "bad", "awesome", "awful")]


def run(name, *arguments):
    command = [sys.executable, str(EXAMPLES / name), "--quick", *map(str, arguments)]
    return subprocess.run(
        command, env={**os.environ, "MPLBACKEND": "Agg"}, capture_output=True, text=True, timeout=900, check=False
    )


@pytest.mark.slow
@pytest.mark.parametrize("cell", ["gru", "lstm", "vanilla"])
def test_the_toy_language(tmp_path, cell):
    process = run("sentiment_context.py", "--out", tmp_path, "--cell", cell)
    assert process.returncode == 0, process.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["eval_mse"] < 0.2 * results["bag_of_words_mse"] or cell == "vanilla"
    assert results["augmented_bag_of_words_mse"] < results["bag_of_words_mse"]
    assert set(PROBES) <= set(results)
    for name in ("num_fixed_points", "line_attractor_dimension", "mode_near_one", "not_mode_frequency"):
        assert np.isfinite(results[name])
    for word in ("not", "very"):
        assert results[f"{word}_effect_removed_fraction"] <= 1 and 0 <= results[f"angle_{word}_deg"] <= 90
    if cell == "gru":
        assert results["not_good"] < 0 < results["good"] < results["very_good"]
    names = ("context", "fixed_points", "loss", "mode_angles", "removal", "reviews", "strength")
    assert all((tmp_path / f"{name}.png").stat().st_size > 0 for name in names)
    load_checkpoint(tmp_path / "checkpoints", "best")
    assert len(FixedPoints.load(tmp_path / "fixed_points.h5")) == results["num_fixed_points"]


@pytest.mark.slow
def test_real_sentences(tmp_path, data_folder):
    process = run("sentiment_text.py", "--data", data_folder / "uci_sentiment", "--out", tmp_path)
    assert process.returncode == 0, process.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["gru_accuracy"] > 0.75 and results["bag_of_words_accuracy"] > 0.75
    assert results["word_effect_correlation_with_bag"] > 0.7
    assert {"not_factor_1", "very_factor_1", "paired_standard_error"} <= set(results)
    assert all((tmp_path / f"{name}.png").stat().st_size > 0 for name in ("text", "barcodes", "fixed_points"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("fine\t1\nno\n", "line 2: expected text, a tab"),
        ("fine\t1\n" * 30, "nothing can be learned from one class"),
        ("fine\t1\n" * 30 + "bad\t0\n", "with ten sentences of either label each"),
        ("fine\t1\nbad\t0\n" * 30, "do not hold not, very"),
    ],
)
def test_bad_text_is_refused_before_anything_is_trained(tmp_path, content, message):
    (tmp_path / "a.txt").write_text(content)
    process = run("sentiment_text.py", "--data", tmp_path, "--out", tmp_path / "out")
    assert process.returncode != 0 and message in process.stderr and "Traceback" not in process.stderr
    assert not (tmp_path / "out").exists()
