"""Runs an example at its default settings over several seeds and appends a table of its results to RESULTS.md.

    python benchmarks/reproduce.py NAME [--seeds 3] [-- arguments for the example]

Each run is a process of its own, `python examples/NAME.py --seed S --out results/reproduce/NAME/seed_S`, and the table
is made of the results.json that it writes there. Hours are fine: nothing runs this automatically.
"""

import dataclasses
import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import _timing as timing
import tyro


@dataclasses.dataclass
class Settings:
    name: tyro.conf.Positional[str]
    """Name of an example: a script in examples/ without .py."""
    seeds: int = 3
    """Number of seeds."""
    first_seed: int = 0
    """The first of them."""
    resume: bool = False
    """Keep what earlier runs left in results/reproduce, so that an example can continue from it; otherwise it is deleted."""
    note: str = ""
    """What else a reader of the table should know."""


def examples(root: Path) -> list[str]:
    """Names of the examples: scripts in examples/ that do not start with an underscore."""
    return sorted(path.stem for path in (root / "examples").glob("*.py") if not path.stem.startswith("_"))


def run_example(root: Path, name: str, seed: int, extra: Sequence[str], resume: bool) -> tuple[dict[str, Any], float]:
    """(results, wall seconds) of one run of an example.

    Raises:
        SystemExit: the example failed or wrote no results.
    """
    out = Path("results", "reproduce", name, f"seed_{seed}")
    if not resume:
        shutil.rmtree(root / out, ignore_errors=True)
    (root / out / "results.json").unlink(missing_ok=True)
    command = [sys.executable, f"examples/{name}.py", "--seed", str(seed), "--out", str(out), *extra]
    start = time.perf_counter()
    process = subprocess.run(command, cwd=root, env={"MPLBACKEND": "Agg", **os.environ})
    seconds = time.perf_counter() - start
    if process.returncode:
        raise SystemExit(f"{name} failed with seed {seed} (exit status {process.returncode}); nothing is recorded")
    try:
        return json.loads((root / out / "results.json").read_text()), seconds
    except FileNotFoundError:
        raise SystemExit(f"{name} with seed {seed} wrote no {out / 'results.json'}; nothing is recorded") from None


def summary(results: dict[int, dict[str, Any]]) -> str:
    """A table with a row for each metric: mean ± standard deviation over seeds (n − 1), and the value of each seed.

    A metric that some seeds lack is averaged over the others, and says over how many.
    """
    metrics = list(dict.fromkeys(metric for values in results.values() for metric in values))
    rows = []
    for metric in metrics:
        values = [seed[metric] for seed in results.values() if metric in seed]
        text = f"{statistics.fmean(values):.4g}"
        if len(values) > 1:
            text += f" ± {statistics.stdev(values):.2g}"
        if len(values) < len(results):
            text += f" ({len(values)} of {len(results)})"
        rows.append([metric, text, *(seed.get(metric, "–") for seed in results.values())])
    return timing.table(["metric", "mean ± sd", *(f"seed {seed}" for seed in results)], rows)


def reproduce(settings: Settings, extra: Sequence[str] = (), root: Path = timing.ROOT) -> None:
    """Runs the example with each seed and appends the table.

    Raises:
        SystemExit: there is no such example, or a run failed.
    """
    if settings.name not in examples(root):
        raise SystemExit(f"there is no example {settings.name!r}; examples are: {', '.join(examples(root))}")
    if settings.seeds < 1:
        raise SystemExit(f"--seeds must be at least 1, got {settings.seeds}")
    before, load, results, seconds = timing.commit(root), timing.load(), {}, {}
    for seed in range(settings.first_seed, settings.first_seed + settings.seeds):
        print(f"{settings.name}, seed {seed}", flush=True)
        results[seed], seconds[seed] = run_example(root, settings.name, seed, extra, settings.resume)
    after = timing.commit(root)
    out = f"results/reproduce/{settings.name}/seed_S"
    command = ["python", f"examples/{settings.name}.py", "--seed", "S", "--out", out, *extra]
    facts = {
        "command": f"`{shlex.join(command)}` for each seed S, by benchmarks/reproduce.py",
        "commit": before if before == after else f"{before} at the start, {after} at the end",
        "machine": f"{timing.machine()}; {load} at the start",
        "wall seconds": ", ".join(f"{value:.0f} (seed {seed})" for seed, value in seconds.items()),
    }
    if settings.resume:
        facts["resumed"] = "runs could continue from earlier ones; their times say little"
    if settings.note:
        facts["note"] = settings.note
    body = summary(results)
    print(body)
    timing.append_section(settings.name, facts, body, root / "benchmarks" / "RESULTS.md")


def main(arguments: Sequence[str]) -> None:
    """The command line: what follows `--` belongs to the example."""
    arguments = list(arguments)
    split = arguments.index("--") if "--" in arguments else len(arguments)
    settings = tyro.cli(Settings, args=arguments[:split], description=__doc__)
    reproduce(settings, arguments[split + 1 :])


if __name__ == "__main__":
    main(sys.argv[1:])
