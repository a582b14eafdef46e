"""Speed of find_fixed_points against tuned Adam in JAX and BrainPy's SlowPointFinder, and its cost at scale.

On trained networks all methods run in one process in turn, from the same starts to the same speed q; each ratio is the
median over rounds of the ratio within a round. Adam stops as soon as the asked share of the starts has arrived;
find_fixed_points goes on to the last one. The runs at scale are processes of their own, for their peak memory. BrainPy
is left out where it cannot be imported (`pip install brainpy`).
"""

import dataclasses
import json
import math
import statistics
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import tyro

Network = Literal["tanh16", "gru16", "gru16_bounded", "decision_gru", "vrnn100"]


@dataclasses.dataclass
class Settings:
    networks: tuple[Network, ...] = get_args(Network)
    """Trained networks to search: flip-flops of 16 units (the GRU without bounds, where fewer than 98 % of Adam's starts
    arrive, and within |h| ≤ 1), a decision GRU and an integrator of 100 units."""
    scale: tuple[tuple[int, int], ...] = ((10_000, 100), (1_000, 1_000))
    """Runs at scale: candidates and units of each."""
    growth: tuple[int, ...] = (1_000, 2_000, 4_000, 8_000)
    """Numbers of candidates whose cost is compared."""
    growth_size: int = 100
    """Units of the network on which they are compared."""
    rounds: int = 5
    """Rounds, in each of which every method runs once."""
    num_candidates: int = 1_000
    """Starts on each trained network, at most 1000."""
    share: float = 0.98
    """Share of the starts that must arrive before Adam may stop."""
    checkpoint: Path | None = None
    """Folder that examples/decision_gru.py wrote; none: one is trained and kept under results/."""
    train_steps: int = 20_000
    """Training steps of the decision GRU where there is none."""
    tune: int = 0
    """Only search for the best settings of Adam by this many random trials for each network and variant, and print them."""
    record: bool = False
    """Append the tables to RESULTS.md."""
    seed: int = 0
    """Seed of the decision GRU's trials, of networks at scale and of trials of tuning."""
    scale_run: tuple[int, int] | None = None
    """Only one run at scale (candidates, units), its numbers as JSON; for the processes that this script starts."""


FLIP_FLOPS = ("tanh16", "gru16", "gru16_bounded")
TARGETS = {  # quantity → where it holds, sign, target
    "CPU [s]": (FLIP_FLOPS, "<=", 0.05),
    "known points found": (FLIP_FLOPS, ">=", 27),
    "speed-up over tuned Adam [CPU]": (("gru16", "gru16_bounded"), ">=", 10),
    "speed-up over BrainPy, iterations given [CPU]": (FLIP_FLOPS, ">=", 50),
    "speed-up over BrainPy, own stop [CPU]": (FLIP_FLOPS, ">=", 50),
    "share of starts": (("decision_gru",), ">=", 0.98),
    "CPU in units of tuned Adam's": (("decision_gru",), "<=", 0.6),
    "first call [wall s]": (get_args(Network), "<=", 5),
    "programs compiled by other values": (get_args(Network), "<=", 0),
    "peak memory [GiB]": (("10,000 × 100", "1,000 × 1,000"), "<=", 4),
    "cold call [wall s]": (("1,000 × 1,000",), "<=", 600),
    "exponent of CPU in the candidates": (("growth",), "<=", 1.1),
}


METHODS = ["network", "method", "CPU [s]", "wall [s]", "share of starts", "known points", "iterations"]


def main(settings: Settings) -> None:
    import _fixed_point_peers as peers
    import _timing as timing

    if settings.scale_run:
        print(json.dumps(run_at_scale(*settings.scale_run, settings.seed)))
        return
    cases = {name: load(settings, name) for name in settings.networks}
    cases = {name: case for name, case in cases.items() if case}
    if settings.tune:
        peers.print_tuned(cases, settings.share, settings.tune, settings.seed)
        return
    facts = {
        "command": " ".join(["python benchmarks/fixed_points.py", *sys.argv[1:]]),
        "commit, seed": f"{timing.commit()}, {settings.seed}",
        "machine": f"{timing.machine()}; {timing.load()} at the start",
        "conditions": f"{settings.num_candidates:,} starts, Adam until {100 * settings.share:g} % of them are at q; "
        f"{settings.rounds} rounds in turn; median (minimum to maximum); after compile, except cold and first calls",
        "tolerances q": ", ".join(f"{name} {case.tolerance:g}" for name, case in cases.items()),
    }
    print("\n".join(f"{name}: {value}" for name, value in facts.items()), flush=True)
    methods, quantities, scale = [], [], []
    for name, case in cases.items():
        compared, measured = compare(settings, name, case)
        methods += compared
        quantities += [[name, row, timing.spread(values), verdict(name, row, values)] for row, values in measured]
    runs = [(f"{n:,} × {size:,}", n, size) for n, size in settings.scale]
    runs += [(f"growth, {n:,} × {settings.growth_size}", n, settings.growth_size) for n in settings.growth]
    cost = []
    for name, count, size in runs:
        numbers = child(count, size, settings.seed)
        scale.append([name, *numbers.values()])
        quantities += [
            [name, row, numbers[row], text]
            for row in ("peak memory [GiB]", "cold call [wall s]")
            if (text := verdict(name, row, numbers[row]))
        ]
        cost += [(count, numbers["CPU [s]"])] if name.startswith("growth") else []
    if len(cost) > 1:
        row = "exponent of CPU in the candidates", exponent(cost)
        quantities.append(["growth", *row, verdict("growth", *row)])
    facts["machine"] += f", {timing.load()} at the end"
    tables = [timing.table(METHODS, methods)] if methods else []
    if scale:
        tables.append(timing.table(["candidates × units", *numbers], scale))
    tables.append(timing.table(["network", "quantity", "value", "target"], quantities))
    body = "\n\n".join(tables)
    print(f"\n{body}")
    if settings.record:
        timing.append_section("fixed_points.py", facts, body)


def load(settings: Settings, name: str) -> Any:
    """The network to search; None where its data are absent."""
    import _fixed_point_cases as networks

    if name != "decision_gru":
        return networks.reference_case(name, settings.num_candidates)
    steps = None if settings.checkpoint else settings.train_steps
    folder = settings.checkpoint or networks.ROOT / "results" / "benchmarks" / f"decision_gru_{steps}"
    return networks.decision_case(folder, steps, settings.num_candidates, settings.seed)


def compare(settings: Settings, name: str, case: Any) -> tuple[list[list[Any]], list[list[Any]]]:
    """(a row for each method, pairs of quantity and value) of one network."""
    import _fixed_point_peers as peers
    import _timing as timing
    import jax

    from ctd_models.analysis import find_fixed_points

    def ours(F=case.F, candidates=case.candidates):
        return find_fixed_points(
            F, candidates, case.inputs, tolerance=case.tolerance, bounds=case.bounds, progress=False
        )

    points, first_wall, first_cpu = first_call(ours)
    reached = share_at_rest(points)
    other = jax.tree.map(lambda w: w * 1.001, case.F), 0.999 * case.candidates
    with counting_compilations() as compiled:
        ours(*other)
    functions = {"find_fixed_points": ours}
    outcomes = {"find_fixed_points": (reached, case.points_found(points.states), "")}
    known = "" if case.known is None else f" of {len(case.known)}"
    tuned = peers.TUNED.get(name, {})
    for variant in (variant for variant in tuned if variant != "BrainPy"):
        functions[variant] = partial(peers.adam, case, tuned[variant], settings.share, peers.VARIANTS[variant])
        states, iterations, _ = functions[variant]()
        outcomes[variant] = case.share(states), case.points_found(states), int(iterations)
    brainpy = peers.brainpy_runs(case, tuned["BrainPy"]) if "BrainPy" in tuned else {}
    for variant, function in brainpy.items():
        states, iterations = function()
        outcome = case.share(states), case.points_found(states), iterations
        outcomes[variant] = outcomes[f"{variant}, whole call"] = outcome
    times = timing.interleaved(functions | brainpy, settings.rounds)
    if brainpy:
        peers.after_compile(times, {variant: outcomes[variant][2] for variant in brainpy})
    rows = []
    for variant, t in times.items():
        share, found, iterations = outcomes[variant]
        found = "" if found is None else f"{found}{known}"
        rows.append([name, variant, timing.spread(t.cpu), timing.spread(t.wall), share, found, iterations])
    print(timing.table(METHODS, rows), flush=True)

    own = times["find_fixed_points"]
    quantities = [["CPU [s]", own.cpu], ["first call [wall s]", [first_wall]], ["first call [CPU s]", [first_cpu]]]
    quantities += [["share of starts", [reached]], ["programs compiled by other values", [compiled.count]]]
    if case.known is not None:
        quantities.append(["known points found", [outcomes["find_fixed_points"][1]]])
    adams = [variant for variant in times if variant.startswith("Adam")]
    if adams:
        # the fastest that reached the share, else the one that came closest: then the ratio is a lower bound
        best = max(adams, key=lambda v: (min(outcomes[v][0], settings.share), -statistics.median(times[v].cpu)))
        quantities.append(["speed-up over tuned Adam [CPU]", timing.ratios(times[best].cpu, own.cpu)])
        quantities.append(["CPU in units of tuned Adam's", timing.ratios(own.cpu, times[best].cpu)])
        if outcomes[best][0] < settings.share:
            quantities.append([f"share that tuned Adam reached (< {settings.share:g})", [outcomes[best][0]]])
    for variant in (variant for variant in times if variant.startswith("BrainPy")):
        quantities.append([f"speed-up over {variant} [CPU]", timing.ratios(times[variant].cpu, own.cpu)])
    return rows, quantities


def share_at_rest(points: Any) -> float:
    """Share of the candidates that got to the tolerance, those included that were dropped for where they did."""
    elsewhere = sum(len(points.dropped.get(reason, ())) for reason in ("outlier", "saturated"))
    return float((points.hits.sum() + elsewhere) / points.num_candidates)


def first_call(function: Callable[[], Any]) -> tuple[Any, float, float]:
    """`_timing.timed` of a call that finds nothing compiled before."""
    import _timing as timing
    import jax

    jax.clear_caches()
    return timing.timed(function)


class counting_compilations:
    """A context whose `count` is how many programs XLA compiled inside."""

    def __enter__(self):
        import jax

        self.count, self.inside = 0, True
        jax.monitoring.register_event_duration_secs_listener(self.listen)
        return self

    def __exit__(self, *_):
        self.inside = False

    def listen(self, event, duration, **_):
        self.count += self.inside and event == "/jax/core/compile/backend_compile_duration"


def run_at_scale(count: int, size: int, seed: int) -> dict[str, Any]:
    """Seconds, memory and points of a search of `_fixed_point_cases.block_network`, in this process."""
    import _fixed_point_cases as networks
    import _timing as timing

    from ctd_models.analysis import find_fixed_points

    F, candidates = networks.block_network(count, size, seed)
    search = partial(find_fixed_points, F, candidates, tolerance=1e-12, progress=False)
    points, cold_wall, cold_cpu = first_call(search)
    # what takes minutes is not repeated to leave out seconds of compilation
    _, wall, cpu = timing.timed(search) if cold_wall < 60 else (None, cold_wall, cold_cpu)
    found = f"{len(points)} of {3**networks.BLOCKS}"
    numbers = {"CPU [s]": cpu, "wall [s]": wall, "cold call [wall s]": cold_wall, "peak memory [GiB]": peak_memory()}
    return {**numbers, "share of starts": share_at_rest(points), "points": found}


def peak_memory() -> float:
    """Largest resident memory of this process [GiB].

    Linux hands `ru_maxrss` of a parent down to the child it starts, so that its own count is read where there is one.
    """
    import resource

    status = Path("/proc/self/status")
    if status.exists():
        line = next((line for line in status.read_text().splitlines() if line.startswith("VmHWM:")), None)
        if line:
            return int(line.split()[1]) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2 ** (30 if sys.platform == "darwin" else 20)


def child(count: int, size: int, seed: int) -> dict[str, Any]:
    """`run_at_scale` in a process of its own."""
    command = [sys.executable, __file__, "--scale-run", str(count), str(size), "--seed", str(seed)]
    process = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    numbers = json.loads(process.stdout.splitlines()[-1])
    print(f"{count:,} × {size:,}: {numbers}", flush=True)
    return numbers


def exponent(cost: list[tuple[int, float]]) -> float:
    """The power of the number of candidates with which the cost grows, by least squares: 1 is linear."""
    x, y = ([math.log(value) for value in column] for column in zip(*cost, strict=True))
    return statistics.linear_regression(x, y).slope


def verdict(network: str, quantity: str, value: float | list[float]) -> str:
    """The target of a quantity, and whether its median meets it."""
    networks, sign, target = TARGETS.get(quantity, ((), "", 0))
    if network not in networks:
        return ""
    median = statistics.median(value) if isinstance(value, list) else value
    met = median >= target if sign == ">=" else median <= target
    return f"{sign} {target:g}: {'met' if met else 'MISSED'}"


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
