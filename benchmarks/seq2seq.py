"""Speed of a training step of a sequence-to-sequence model with attention, against the same architecture in PyTorch.

The task of copying up to 20 vectors of 8 bits, by a bidirectional encoder and a decoder with additive attention. All
variants run in one process in turn; each ratio is the median over rounds of the ratio within a round. PyTorch is left out
where it cannot be imported (`pip install torch`). A step is forward, backward and Adam, of Trainer's kind with checks that
all is finite.
"""

import dataclasses
import json
import os
import subprocess
import sys
from typing import Any

import tyro


@dataclasses.dataclass
class Settings:
    hidden_size: int = 128
    """Units of the decoder; half of them in each direction of the encoder."""
    batch_size: int = 64
    """Sequences in a batch."""
    longest: int = 20
    """Most symbols of a sequence; lengths are uniform from 1 on."""
    threads: tuple[int, ...] = (1, 2)
    """Numbers of threads, each in a process of its own that sees so many cores."""
    rounds: int = 9
    """Rounds, in each of which every variant runs once."""
    steps: int = 10
    """Training steps of one run of a variant."""
    seed: int = 0
    """Seed of weights and sequences."""
    record: bool = False
    """Append the tables to RESULTS.md."""
    child: int = 0
    """Threads of one measurement, whose numbers are printed as JSON; for the processes that this script starts."""


TARGET = 1.0  # at least as fast


def main(settings: Settings) -> None:
    if settings.child:
        from lfads import pin

        pin(settings.child)
        print(json.dumps(speed(settings, settings.child)))
        return
    import statistics

    import _timing as timing

    facts = {
        "command": " ".join(["python benchmarks/seq2seq.py", *sys.argv[1:]]),
        "commit, seed": f"{timing.commit()}, {settings.seed}",
        "machine": f"{timing.machine()}; {timing.load()} at the start",
        "conditions": f"float32; {settings.rounds} rounds of {settings.steps} steps in turn; median (minimum to maximum)",
    }
    times, against = [], []
    for threads in settings.threads:
        measured = child(settings, threads)
        facts["PyTorch"] = measured["torch"]
        for variant, clocks in measured["times"].items():
            ms = ([1e3 * value / settings.steps for value in clocks[clock]] for clock in ("wall", "cpu"))
            times.append([threads, variant, *map(timing.spread, ms)])
        for variant, clocks in measured["times"].items():
            if "PyTorch" in measured["times"] and variant != "PyTorch":
                for clock in ("wall", "cpu"):
                    ratio = timing.ratios(measured["times"]["PyTorch"][clock], clocks[clock])
                    met = "met" if statistics.median(ratio) >= TARGET else "MISSED"
                    against.append([threads, variant, clock, timing.spread(ratio), f">= {TARGET:g}: {met}"])
    body = "\n\n".join(
        [
            timing.table(["threads", "variant", "wall [ms/step]", "CPU [ms/step]"], times),
            timing.table(["threads", "variant", "clock", "speed-up over PyTorch", "target"], against),
        ]
    )
    print(body)
    if settings.record:
        timing.append_section("seq2seq.py", facts, body)


def child(settings: Settings, threads: int) -> Any:
    """What a process of its own with this number of threads measures."""
    flags = {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false"} if threads == 1 else {"XLA_FLAGS": ""}
    given = dataclasses.asdict(settings) | {"child": threads}
    options = [
        f"--{name.replace('_', '-')}={value}" for name, value in given.items() if name not in ("threads", "record")
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), **flags}
    command = [sys.executable, __file__, *options]
    return json.loads(subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True).stdout)


def make_model(hidden_size: int, num_bits: int = 8, cell: Any = None) -> Any:
    """Encoder and decoder of these cells (None: `GRUCell`) with additive attention."""
    from ctd_models import GRUCell
    from ctd_models.models import seq2seq

    cell, half = cell or GRUCell, hidden_size // 2
    return seq2seq.Seq2Seq(
        seq2seq.BitTokens(num_bits),
        seq2seq.BitTokens(num_bits),
        seq2seq.RecurrentEncoder((cell(half),), num_bidirectional=1),
        seq2seq.RecurrentDecoder((cell(hidden_size),)),
        seq2seq.AdditiveAttention(half),
    )


def speed(settings: Settings, threads: int) -> dict[str, Any]:
    """Seconds of every variant in each round."""
    import _timing as timing
    import flax.linen as nn
    import jax
    import numpy as np
    from lfads import make_train

    from ctd_models.tasks import CopySequence

    batch = CopySequence(longest=settings.longest).sample(jax.random.key(settings.seed), settings.batch_size)
    batch = type(batch)(*(np.asarray(part) for part in batch))
    variants = {}
    for name, cell in (("GRUCell", None), ("flax.linen.GRUCell", nn.GRUCell)):
        run = make_run(settings, make_model(settings.hidden_size, cell=cell), batch)
        variants[f"Trainer, {name}"] = make_train(run, run._begin(), settings.steps)
    try:
        import _seq2seq_torch
        import torch
    except ImportError:
        version = "not installed"
    else:
        version = torch.__version__
        variants["PyTorch"] = _seq2seq_torch.trainer(8, settings.hidden_size, batch, settings.steps, threads)
    times = timing.interleaved(variants, settings.rounds)
    return {"times": {name: dataclasses.asdict(t) for name, t in times.items()}, "torch": version}


def make_run(settings: Settings, model: Any, batch: Any) -> Any:
    """A run of the trainer on one batch."""
    import jax
    import optax

    from ctd_models import Trainer
    from ctd_models.training import sequence_loss
    from ctd_models.training.run import Run
    from ctd_models.training.sources import as_source

    trainer = Trainer(model, sequence_loss(model), optax.adam(1e-3), batch_size=settings.batch_size, loop="step")
    source = as_source(batch, settings.batch_size)
    return Run(trainer, source, None, 1, jax.random.key(settings.seed), None, None, ())


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
