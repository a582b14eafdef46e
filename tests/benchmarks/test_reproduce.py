"""Tables and records of the benchmarks. Nothing here depends on how fast the machine is."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
EXAMPLE = """
import argparse, json, pathlib
parser = argparse.ArgumentParser()
parser.add_argument("--seed", type=int)
parser.add_argument("--out", type=pathlib.Path)
parser.add_argument("--gain", type=float, default=1.0)
settings = parser.parse_args()
if settings.gain < 0:
    raise SystemExit(3)
settings.out.mkdir(parents=True, exist_ok=True)
started_before = (settings.out / "state").exists()
(settings.out / "state").touch()
results = {"score": settings.gain * settings.seed, "count": 7, "continued": int(started_before)}
if settings.seed == 1:
    results["rare"] = 0.5
(settings.out / "results.json").write_text(json.dumps(results))
"""


@pytest.fixture(scope="module")
def scripts():
    """The modules (_timing, reproduce), imported as the scripts import them."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import _timing
        import reproduce
    finally:
        sys.path.remove(str(BENCHMARKS))
    return _timing, reproduce


@pytest.fixture
def root(tmp_path):
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "fake.py").write_text(EXAMPLE)
    (tmp_path / "examples" / "_common.py").touch()
    return tmp_path


def cells(text, metric):
    """The cells of one row of a table."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return next(row[1:] for row in rows if row[0] == metric)


def test_an_example_is_run_with_each_seed_and_recorded(scripts, root):
    _, reproduce = scripts
    reproduce.reproduce(reproduce.Settings("fake", seeds=3), ["--gain", "2.5"], root)
    text = (root / "benchmarks" / "RESULTS.md").read_text()
    assert cells(text, "metric") == ["mean ± sd", "seed 0", "seed 1", "seed 2"]
    assert cells(text, "score") == ["2.5 ± 2.5", "0", "2.5", "5"]
    assert cells(text, "count") == ["7 ± 0", "7", "7", "7"]
    assert cells(text, "rare") == ["0.5 (1 of 3)", "–", "0.5", "–"]
    command = "python examples/fake.py --seed S --out results/reproduce/fake/seed_S --gain 2.5"
    assert f"- command: `{command}`" in text
    for fact in ("- commit: unknown", "- machine: ", "- wall seconds: "):
        assert fact in text
    assert str(root) not in text


def test_sections_are_appended_and_runs_start_afresh_unless_resumed(scripts, root):
    timing, reproduce = scripts
    continued = []
    for resume in (False, False, True):
        reproduce.reproduce(reproduce.Settings("fake", seeds=1, resume=resume, note="a note"), (), root)
        section = (root / "benchmarks" / "RESULTS.md").read_text().split("\n## ")[-1]
        continued.append(cells(section, "continued"))
    text = (root / "benchmarks" / "RESULTS.md").read_text()
    assert text.startswith(timing.HEAD)
    assert text.count("\n## ") == 3
    assert text.count("- note: a note") == 3
    assert continued == [["0", "0"], ["0", "0"], ["1", "1"]]


@pytest.mark.parametrize(
    ("name", "extra", "message"),
    [("unknown", (), "no example 'unknown'; examples are: fake$"), ("fake", ("--gain", "-1"), "exit status 3")],
)
def test_a_failure_is_an_error_and_records_nothing(scripts, root, name, extra, message):
    _, reproduce = scripts
    with pytest.raises(SystemExit, match=message):
        reproduce.reproduce(reproduce.Settings(name), extra, root)
    assert not (root / "benchmarks").exists()


def test_all_examples_of_the_project_are_found(scripts):
    timing, reproduce = scripts
    names = reproduce.examples(timing.ROOT)
    assert "integrator_rnn" in names
    assert "_common" not in names


def test_callables_run_in_turn_and_the_first_round_does_not_count(scripts):
    timing, _ = scripts
    calls = []
    times = timing.interleaved({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=2)
    assert calls == ["a", "b"] * 3
    assert [len(t.wall) for t in times.values()] == [len(t.cpu) for t in times.values()] == [2, 2]


def test_numbers_become_text(scripts):
    timing, _ = scripts
    assert timing.ratios([1.0, 6.0], [2.0, 3.0]) == [0.5, 2.0]
    assert timing.spread([3.0, 1.0, 2.0]) == "2 (1 to 3)"
    assert timing.spread([1.23456]) == "1.23"
    assert timing.table(["name", "x"], [["a", 0.123456], ["long name", 12]]).splitlines() == [
        "| name      | x      |",
        "|-----------|--------|",
        "| a         | 0.1235 |",
        "| long name | 12     |",
    ]


def test_the_commit_tells_of_changes(scripts, tmp_path):
    timing, _ = scripts

    def git(*arguments):
        identity = ["-c", "user.name=A", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True)

    git("init")
    git("commit", "--allow-empty", "-m", "first")
    clean = timing.commit(tmp_path)
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "RESULTS.md").touch()
    assert timing.commit(tmp_path) == clean != "unknown"
    (tmp_path / "new.py").touch()
    assert timing.commit(tmp_path) == f"{clean}+changes"
