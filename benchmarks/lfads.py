"""Speed of a training step of LFADS: against lfads-torch's architecture in PyTorch and against the matrix products alone.

At the sizes of the 2019 tutorial and of the Neural Latents Benchmark's MC_Maze (small), on one core and on two. All
variants of one size run in one process in turn; each ratio is the median over rounds of the ratio within a round. A
fraction of the floor of 1 would be a step that only multiplies. PyTorch is left out where it cannot be imported
(`pip install torch`). A step is forward, backward and Adam, of Trainer's kind with checks that all is finite.
"""

import dataclasses
import json
import os
import statistics
import subprocess
import sys
from functools import partial
from typing import Any, Literal, get_args

import tyro

Size = Literal["tutorial", "benchmark"]


@dataclasses.dataclass(frozen=True)
class Shape:
    """Sizes of a batch and of a model with a pair of encoders of its own for the controller."""

    batch_size: int
    num_time: int
    """Bins that are read."""
    num_steps: int
    """Bins that are reconstructed."""
    num_read: int
    """Neurons that are read."""
    num_neurons: int
    """Neurons that are reconstructed."""
    encoder_size: int
    generator_size: int
    """Also the size of the initial condition's code."""
    controller_encoder_size: int
    controller_size: int
    num_inputs: int
    num_factors: int
    lag: int = 0
    dropout: float = 0.0
    coordinated_dropout: float = 0.0


SHAPES = {
    "tutorial": Shape(128, 25, 25, 100, 100, 128, 128, 128, 128, num_inputs=1, num_factors=32),
    "benchmark": Shape(64, 140, 180, 107, 142, 100, 100, 80, 80, 4, 40, lag=1, dropout=0.3, coordinated_dropout=0.3),
}


@dataclasses.dataclass
class Settings:
    sizes: tuple[Size, ...] = get_args(Size)
    """Sizes to measure."""
    threads: tuple[int, ...] = (1, 2)
    """Numbers of threads, each in a process of its own that sees so many cores."""
    rounds: int = 7
    """Rounds, in each of which every variant runs once."""
    steps: int = 5
    """Training steps of one run of a variant, at most 1000."""
    compile_times: tuple[int, ...] = (25, 200)
    """Bins of the trials with which the compilation of the step at the tutorial's size is timed."""
    compile_rounds: int = 3
    """Compilations of each."""
    seed: int = 0
    """Seed of weights and trials."""
    record: bool = False
    """Append the tables to RESULTS.md."""
    quick: bool = False
    """Sizes of a few units, to see that everything runs."""
    child: str | None = None
    """One measurement, its numbers as JSON; for the processes that this script starts."""


TARGETS = {  # (size, threads or None for all, quantity) → (sign, target)
    ("tutorial", 1, "speed-up over PyTorch [CPU]"): (">=", 1.5),
    ("benchmark", 1, "speed-up over PyTorch [CPU]"): (">=", 2.0),
    ("tutorial", 1, "fraction of floor [CPU]"): (">=", 0.5),
    ("benchmark", 1, "fraction of floor [CPU]"): (">=", 0.5),
    ("tutorial", None, "compile [CPU s]"): ("<=", 10.0),
    ("benchmark", None, "compile [CPU s]"): ("<=", 10.0),
}


def main(settings: Settings) -> None:
    if settings.child:
        pin(int(os.environ["OMP_NUM_THREADS"]))
        what, size, count = settings.child.split(",")
        measure = {"speed": speed, "compile": compilation, "memory": memory}[what]
        print(json.dumps(measure(settings, shape_of(settings, size), count)))
        return
    import _timing as timing

    facts = {
        "command": " ".join(["python benchmarks/lfads.py", *sys.argv[1:]]),
        "commit, seed": f"{timing.commit()}, {settings.seed}",
        "machine": f"{timing.machine()}; {timing.load()} at the start",
        "conditions": f"float32; {settings.rounds} rounds of {settings.steps} steps in turn; median (minimum to maximum)",
    }
    print("\n".join(f"{name}: {value}" for name, value in facts.items()), flush=True)
    times, against, cost = [], [], []
    for size in settings.sizes:
        for threads in settings.threads:
            measured = child(settings, "speed", size, threads, threads)
            facts.setdefault("PyTorch", measured["torch"])
            for variant, t in measured["times"].items():
                ms = ([1e3 * value / settings.steps for value in t[clock]] for clock in ("wall", "cpu"))
                times.append([size, threads, variant, *map(timing.spread, ms)])
            for row, values in {**compared(measured["times"]), **measured["compile"]}.items():
                against.append([size, threads, row, timing.spread(values), verdict(size, threads, row, values)])
        for variant in ("Trainer, step", "Trainer, scan", "PyTorch"):
            cost += memory_row(settings, size, variant)
    for bins in settings.compile_times:
        row, values = f"compile step, {bins} bins [CPU s]", child(settings, "compile", "tutorial", bins, 1)
        against.append(["tutorial", 1, row, timing.spread(values), ""])
    facts["machine"] += f", {timing.load()} at the end"
    body = "\n\n".join(
        [
            timing.table(["size", "threads", "variant", "wall [ms/step]", "CPU [ms/step]"], times),
            timing.table(["size", "threads", "quantity", "value", "target"], against),
            timing.table(["size", "variant", "peak memory of the process [MiB]", "of the step, by XLA [MiB]"], cost),
        ]
    )
    print(f"\n{body}")
    if settings.record:
        timing.append_section("lfads.py", facts, body)


def shape_of(settings: Settings, size: str) -> Shape:
    """The shape of a size."""
    return SHAPES[size] if not settings.quick else Shape(4, 5, 6, 3, 4, 5, 6, 7, 8, 2, 3, 1, 0.1, 0.2)


def child(settings: Settings, what: str, size: str, argument: Any, threads: int) -> Any:
    """What a process of its own with this number of threads measures."""
    flags = {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false"} if threads == 1 else {"XLA_FLAGS": ""}
    given = {"rounds": settings.rounds, "steps": settings.steps, "compile-rounds": settings.compile_rounds}
    given |= {"seed": settings.seed, "child": f"{what},{size},{argument}"}
    command = [sys.executable, __file__, *(f"--{name}={value}" for name, value in given.items())]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), **flags}
    command += ["--quick"] if settings.quick else []
    return json.loads(subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True).stdout)


def pin(cores: int) -> None:
    """Leaves this process only so many cores, where the system can: XLA runs independent operations on all it sees."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])


def compared(times: dict[str, dict[str, list[float]]]) -> dict[str, list[float]]:
    """Ratios within each round, quantity → values."""
    import _timing as timing

    rows = {}
    for clock, name in (("cpu", "[CPU]"), ("wall", "[wall]")):
        best = min(("Trainer, step", "Trainer, scan"), key=lambda v: statistics.median(times[v][clock]))
        values = {variant: t[clock] for variant, t in times.items()}
        rows[f"fraction of floor {name}"] = timing.ratios(values["matrix products"], values[best])
        if "PyTorch" in values:
            rows[f"speed-up over PyTorch {name}"] = timing.ratios(values["PyTorch"], values[best])
        rows[f"speed-up of step over scan {name}"] = timing.ratios(values["Trainer, scan"], values["Trainer, step"])
    return rows


def verdict(size: str, threads: int, row: str, values: list[float]) -> str:
    """The target of a quantity, and whether its median meets it."""
    target = TARGETS.get((size, threads, row)) or TARGETS.get((size, None, row))
    if target is None:
        return ""
    median = statistics.median(values)
    met = median >= target[1] if target[0] == ">=" else median <= target[1]
    return f"{target[0]} {target[1]:g}: {'met' if met else 'MISSED'}"


def memory_row(settings: Settings, size: str, variant: str) -> list[list[Any]]:
    """A row of the table of memory; none where PyTorch is absent."""
    numbers = child(settings, "memory", size, variant.replace("Trainer, ", ""), 1)
    return [[size, variant, *numbers]] if numbers else []


# In the processes that are started ------------------------------------------------------------------------------------


def make_model(shape: Shape) -> Any:
    """The LFADS of a shape, as lfads-torch's defaults have it: AR(1) prior of inputs, learned mean of the code's prior."""
    from ctd_models.models.lfads import LFADS, AutoregressivePrior, Controller, Encoder, Gaussian, Generator

    s, rate = shape, shape.dropout
    return LFADS(
        s.num_neurons,
        Encoder(s.encoder_size, controller_size=s.controller_encoder_size, dropout=rate),
        Generator(s.generator_size, s.num_factors, Gaussian(learn_variance=False), dropout=rate),
        Controller(s.controller_size, s.num_inputs, AutoregressivePrior(), lag=s.lag, dropout=rate),
        num_input_neurons=s.num_read,
        num_forward_bins=s.num_steps - s.num_time,
    )


def make_trials(shape: Shape, seed: int) -> Any:
    """Poisson counts with a mean of 0.2 a bin, for one batch."""
    import numpy as np

    from ctd_models.data import SpikeTrials

    size = (shape.batch_size, shape.num_steps, shape.num_neurons)
    spikes = np.random.default_rng(seed).poisson(0.2, size).astype(np.float32)
    heldout = range(shape.num_read, shape.num_neurons)
    return SpikeTrials.from_spikes(spikes, heldout=heldout, num_forward_bins=shape.num_steps - shape.num_time)


def make_run(shape: Shape, trials: Any, seed: int, loop: str) -> Any:
    """A run of the trainer with the ELBO and Adam."""
    import jax
    import optax

    from ctd_models import Trainer
    from ctd_models.data import CoordinatedDropout
    from ctd_models.training import elbo
    from ctd_models.training.run import Run
    from ctd_models.training.sources import as_source

    model = make_model(shape)
    augmentations = (CoordinatedDropout(shape.coordinated_dropout),) if shape.coordinated_dropout else ()
    loss = elbo(model, augmentations=augmentations)
    trainer = Trainer(model, loss, optax.adam(1e-3), batch_size=shape.batch_size, loop=loop)
    return Run(trainer, as_source(trials, shape.batch_size), None, 1, jax.random.key(seed), None, None, ())


def make_train(run: Any, state: Any, steps: int) -> Any:
    """A function that takes `steps` steps of a run and goes on from where it was."""

    def train(n=steps):
        nonlocal state
        state, metrics, finite = run._train(state, n)
        assert finite and len(metrics["loss"]) == n
        return state

    return train


def speed(settings: Settings, shape: Shape, threads: str) -> dict[str, Any]:
    """Seconds of every variant in each round, and of the first calls."""
    import _lfads_floor
    import _timing as timing
    import jax

    trials, variants, compiled = make_trials(shape, settings.seed), {}, {}
    for loop in ("step", "scan"):
        run = make_run(shape, trials, settings.seed, loop)
        state, wall, cpu = timing.timed(run._begin)
        compiled |= {"compile init [CPU s]": [cpu], "compile init [wall s]": [wall]} if loop == "step" else {}
        variants[f"Trainer, {loop}"] = train = make_train(run, state, settings.steps)
        first = timing.timed(partial(train, 1))
        second = timing.timed(partial(train, 1))
        compiled |= {
            f"compile {loop} [CPU s]": [first[2] - second[2]],
            f"compile {loop} [wall s]": [first[1] - second[1]],
        }
    compiled["compile [CPU s]"] = [compiled["compile init [CPU s]"][0] + compiled["compile step [CPU s]"][0]]
    params = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), state.variables["params"])
    variants["matrix products"] = _lfads_floor.floor(params, trials.inputs, shape.num_steps, settings.steps)
    try:
        import _lfads_torch
        import torch
    except ImportError:
        version = "not installed"
    else:
        version = torch.__version__
        variants["PyTorch"] = _lfads_torch.trainer(shape, trials.inputs, trials.targets, settings.steps, int(threads))
    times = timing.interleaved(variants, settings.rounds)
    return {"times": {name: dataclasses.asdict(t) for name, t in times.items()}, "compile": compiled, "torch": version}


def lowered(run: Any) -> Any:
    """The step of a run, traced and lowered."""
    import jax
    import numpy as np

    from ctd_models.training.programs import many_steps

    step = run._step(run.source.batch)
    state = jax.eval_shape(run._begin)
    if run.trainer.loop == "step":
        return jax.jit(step, donate_argnums=0).lower(state, run.source.arrays, np.bool_(True))
    return jax.jit(many_steps(step, 1000), donate_argnums=0).lower(state, run.source.arrays, np.int32(1))


def compilation(settings: Settings, shape: Shape, bins: str) -> list[float]:
    """CPU seconds to trace and compile the step for trials of so many bins."""
    import _timing as timing
    import jax

    shape = dataclasses.replace(shape, num_time=int(bins), num_steps=int(bins))
    run = make_run(shape, make_trials(shape, settings.seed), settings.seed, "step")
    seconds = []
    for _ in range(settings.compile_rounds):
        jax.clear_caches()
        seconds.append(timing.timed(lambda: lowered(run).compile())[2])
    return seconds


def memory(settings: Settings, shape: Shape, variant: str) -> list[Any] | None:
    """(peak memory of the process after some steps above the one after imports, that of the step by XLA's account)."""
    import resource

    def peak():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)

    trials = make_trials(shape, settings.seed)
    if variant == "PyTorch":
        try:
            import _lfads_torch
        except ImportError:
            return None
        before = peak()
        _lfads_torch.trainer(shape, trials.inputs, trials.targets, 3, 1)()
        return [peak() - before, ""]
    run = make_run(shape, trials, settings.seed, variant)
    state = run._begin()
    before = peak()
    analysis = lowered(run).compile().memory_analysis()
    make_train(run, state, 3)()
    by_xla = analysis.temp_size_in_bytes + analysis.argument_size_in_bytes + analysis.output_size_in_bytes
    return [peak() - before, (by_xla - analysis.alias_size_in_bytes) / 2**20]


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
