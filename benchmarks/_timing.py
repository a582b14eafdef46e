"""What all benchmarks share: interleaved timing, the machine, tables, and the record in RESULTS.md."""

import dataclasses
import datetime
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "RESULTS.md"
HEAD = """# Results of the benchmarks

Measured by the scripts of this folder, which append here (newest last): `training.py` the speed of training,
`reproduce.py NAME` the results of an example over several seeds. Compare ratios between machines, not times.
`+changes` after a commit says that the working tree differed from it.
"""


@dataclasses.dataclass
class Times:
    """Seconds of each round of one callable."""

    wall: list[float] = dataclasses.field(default_factory=list)
    """Wall seconds."""
    cpu: list[float] = dataclasses.field(default_factory=list)
    """CPU seconds of all threads of this process."""


def timed(function: Callable[[], Any]) -> tuple[Any, float, float]:
    """(result, wall seconds, CPU seconds) of one call, until its arrays are ready."""
    import jax

    wall, cpu = time.perf_counter(), time.process_time()
    result = jax.block_until_ready(function())
    return result, time.perf_counter() - wall, time.process_time() - cpu


def interleaved(functions: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, Times]:
    """Times of several callables in turn (A B C A B C …), after one round that does not count."""
    times = {name: Times() for name in functions}
    for round_number in range(rounds + 1):
        for name, function in functions.items():
            _, wall, cpu = timed(function)
            if round_number:
                times[name].wall.append(wall)
                times[name].cpu.append(cpu)
    return times


def ratios(numerator: Sequence[float], denominator: Sequence[float]) -> list[float]:
    """The ratio of each round, in which both were measured one after the other."""
    return [a / b for a, b in zip(numerator, denominator, strict=True)]


def spread(values: Sequence[float], digits: int = 3) -> str:
    """Median (minimum to maximum) as text."""
    middle, low, high = (f"{f(values):.{digits}g}" for f in (statistics.median, min, max))
    return f"{middle} ({low} to {high})" if len(values) > 1 else middle


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table with aligned columns, numbers with four digits."""
    text = [list(header), *([_cell(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*text, strict=True)]
    lines = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in text]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def processor() -> str:
    """Name of the processor and the number of cores that this process may use."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    total = os.cpu_count()
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else total
    return f"{name}, {usable} of {total} cores"


def machine() -> str:
    """Processor, device, versions, and what limits threads, in one line."""
    import jax

    device = jax.devices()[0]
    parts = [processor(), f"device {device.platform} ({device.device_kind})", f"jax {jax.__version__}"]
    parts.append(f"Python {platform.python_version()}")
    parts += [f"{name}={os.environ[name]}" for name in ("OMP_NUM_THREADS", "XLA_FLAGS") if os.environ.get(name)]
    return ", ".join(parts)


def load() -> str:
    """How busy the machine is: the load averages of 1 and 5 minutes."""
    if not hasattr(os, "getloadavg"):
        return "load unknown"
    return "load {:.1f} {:.1f}".format(*os.getloadavg()[:2])


def commit(root: Path = ROOT) -> str:
    """The short commit, with "+changes" if anything but RESULTS.md differs from it."""

    def git(*arguments):
        command = ["git", "--no-optional-locks", *arguments]
        return subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout.strip()

    try:
        dirty = git("status", "--porcelain", "--", ".", ":!benchmarks/RESULTS.md")
        return git("rev-parse", "--short", "HEAD") + ("+changes" if dirty else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def append_section(title: str, facts: Mapping[str, Any], body: str, path: Path = RESULTS) -> None:
    """Appends a dated section: facts about the run, one a line, and then `body`."""
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    lines = "\n".join(f"- {name}: {value}" for name, value in facts.items())
    text = path.read_text() if path.exists() else HEAD
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text.rstrip()}\n\n## {now}: {title}\n\n{lines}\n\n{body.strip()}\n")
