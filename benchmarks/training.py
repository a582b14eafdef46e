"""Speed of training: the Trainer's compiled step against the matrix products it needs, and against a Python loop.

For the integrator's vanilla RNN and a GRU of the same sizes. All variants run in one process in turn; each ratio is the
median over rounds of the ratio within a round. A fraction of the floor of 1 would be a step that only multiplies.
"""

import dataclasses
import statistics
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import tyro


@dataclasses.dataclass
class Settings:
    rounds: int = 7
    """Rounds, in each of which every variant runs once."""
    steps: int = 200
    """Training steps of one run of a variant, at most 1000."""
    compile_rounds: int = 3
    """Fresh trainers whose compilation is timed."""
    networks: tuple[Literal["rnn", "gru"], ...] = ("rnn", "gru")
    """Networks to measure."""
    hidden_size: int = 100
    """Units N."""
    batch_size: int = 128
    """Trials in a batch B."""
    num_time_steps: int = 25
    """Time steps in a trial T."""
    seed: int = 0
    """Seed of weights and trials."""
    record: bool = False
    """Append the tables to RESULTS.md."""


TARGETS = {  # of the vanilla RNN
    "fraction of floor": (">=", 0.55),
    "speed-up over Python loop": (">=", 1.2),
    "compile [CPU s]": ("<=", 4.0),
}


def main(settings: Settings) -> None:
    import _timing as timing
    import jax
    from _variants import Variants

    facts = {
        "command": " ".join(["python benchmarks/training.py", *sys.argv[1:]]),
        "commit, seed": f"{timing.commit()}, {settings.seed}",
        "machine": f"{timing.machine()}; {timing.load()} at the start",
        "conditions": f"N = {settings.hidden_size}, T = {settings.num_time_steps}, B = {settings.batch_size}, float32; "
        f"{settings.rounds} rounds of {settings.steps} steps in turn; median (minimum to maximum)",
    }
    print("\n".join(f"{name}: {value}" for name, value in facts.items()))
    speed, against = [], []
    for name in settings.networks:
        case = Variants(settings, name)
        inputs = case.task.sample(case.key, settings.batch_size).inputs
        inits = [first_call(partial(f, case.key, inputs)) for f in (jax.jit(case.model.init), case.model.init)]
        compiled = []
        for _ in range(settings.compile_rounds):
            train = case.trainer("scan")
            compiled.append(first_call(partial(train, 1)))
        variants = {
            "Trainer, scan": train,
            "Trainer, step": case.trainer("step"),
            "matrix products": case.floor(),
            "Python loop": case.python_loop(),
        }
        times = timing.interleaved(variants, settings.rounds)
        for variant, t in times.items():
            ms = ([1e3 * value / settings.steps for value in values] for values in (t.wall, t.cpu))
            speed.append([name, variant, *map(timing.spread, ms)])
        a, step, floor, loop = times.values()
        rows = {
            "fraction of floor": timing.ratios(floor.wall, a.wall),
            "fraction of floor [CPU]": timing.ratios(floor.cpu, a.cpu),
            "speed-up over Python loop": timing.ratios(loop.wall, a.wall),
            "speed-up over Python loop [CPU]": timing.ratios(loop.cpu, a.cpu),
            "speed-up of scan over step": timing.ratios(step.wall, a.wall),
            "compile [CPU s]": [cpu for _, _, cpu in compiled],
            "compile [wall s]": [wall for _, wall, _ in compiled],
            "jitted init, first call [wall s]": [inits[0][1]],
            "eager init, first call [wall s]": [inits[1][1]],
        }
        against += [[name, row, timing.spread(values), verdict(name, row, values)] for row, values in rows.items()]
    facts["machine"] += f", {timing.load()} at the end"
    body = timing.table(["network", "variant", "wall [ms/step]", "CPU [ms/step]"], speed)
    body += "\n\n" + timing.table(["network", "quantity", "value", "target"], against)
    print(f"\n{body}")
    if settings.record:
        timing.append_section("training.py", facts, body)


def first_call(function: Callable[[], Any]) -> tuple[Any, float, float]:
    """`_timing.timed` of a call that finds nothing compiled before."""
    import _timing as timing
    import jax

    jax.clear_caches()
    return timing.timed(function)


def verdict(network: str, row: str, values: list[float]) -> str:
    """The target of a row, and whether its median meets it."""
    if network != "rnn" or row not in TARGETS:
        return ""
    sign, target = TARGETS[row]
    median = statistics.median(values)
    met = median >= target if sign == ">=" else median <= target
    return f"{sign} {target:g}: {'met' if met else 'MISSED'}"


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
